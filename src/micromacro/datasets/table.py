"""The clip table, one row a clip, that all readers of official data give; and official sheets as text."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from micromacro.errors import BadInput, check_choice
from micromacro.files import existing

CLIP_TABLE_COLUMNS = (
    *("dataset", "subject", "clip", "path", "onset", "apex", "offset"),
    *("n_frames", "fps", "label", "au", "split"),
)
RESTORE_FILE = "restore the official file"


@dataclass(frozen=True, eq=False)
class Listing:
    """Official clips, as far as sheets and disk agree; what a reader gives.

    Attributes:
        table: Clip table (`check_clip_table`), in the sheets' order, with a reader's own columns last.
        listed: Number of clips that the sheets list, by split; "" if there is no split.
        missing: Clips that are listed but not there, as paths below the root or the pictures' folder.
        unlisted: Clips that are there but not listed, likewise.
        faults: What contradicts the official format; empty if it was read strictly.
        labels: One float32 array a row, where a clip's labels are numbers or one a frame; else ().
        pictures: "cropped" or "raw" where the clips are folders of pictures; else "".
    """

    table: pd.DataFrame
    listed: dict[str, int]
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]
    faults: tuple[BadInput, ...]
    labels: tuple[np.ndarray, ...] = ()
    pictures: str = ""

    @classmethod
    def build(
        cls,
        rows: Iterable[dict],
        *,
        listed: dict[str, int],
        missing: Iterable[str],
        unlisted: Iterable[str],
        faults: Sequence[BadInput],
        strict: bool,
        columns: Sequence[str] = (),
        labels: Iterable[np.ndarray] = (),
        pictures: str = "",
    ) -> "Listing":
        """Make one from rows of the clip table, each with the reader's own `columns` besides.

        Raises:
            BadInput: The first fault, if `strict`; rows that are no clip table.
        """
        if strict and faults:
            raise faults[0]
        table = pd.DataFrame(list(rows), columns=[*CLIP_TABLE_COLUMNS, *columns])
        lists = (tuple(part) for part in (missing, unlisted, faults, labels))
        return cls(check_clip_table(table), listed, *lists, pictures)

    def __len__(self) -> int:
        return len(self.table)


def find_root(root: str | Path, official: Sequence[str]) -> tuple[Path, Path]:
    """The root of a data set, and the first of the official files or folders that is in it.

    Raises:
        BadInput: The root is not there, is not a folder, or holds none of them.
    """
    path, remedy = existing(root), "give the data set's root; data/README.md shows what is in it"
    if not path.is_dir():
        raise BadInput(path, "is not a folder", remedy)
    present = [path / name for name in official if (path / name).exists()]
    if not present:
        raise BadInput(path, f"holds none of {', '.join(official)}", remedy)
    return path, present[0]


def read_sheet(
    path: Path, titles: Sequence[str], *, tab: str | int = 0, header_row: int = 1
) -> list[tuple[str, dict[str, str]]]:
    """The rows of an .xls or .xlsx file that hold a clip.

    Cells are text without white space at their ends; a whole number has no point and no leading
    zeros. A row with at most one of the wanted columns filled is a note or empty, and passed over.

    Args:
        path: The file.
        titles: Of the columns to return, as released.
        tab: Name or 0-based number of the sheet in the file.
        header_row: Row of the titles, 1-based as spreadsheet programs count.

    Returns:
        For each row where it stands, for messages, and its cells by title.

    Raises:
        BadInput: The file is missing or damaged, has no such tab, or another header in that row.
    """
    with existing(path).open("rb") as file:
        is_xls = file.read(2) != b"PK"
    quiet = {"logfile": StringIO()} if is_xls else {}  # xlrd would write its warnings to stdout
    as_text = {"header": None, "dtype": object, "na_filter": False}
    try:
        with warnings.catch_warnings(action="ignore"):  # of styles, which are not used here
            tabs = pd.read_excel(path, sheet_name=None, engine_kwargs=quiet, **as_text)
    except Exception as error:  # both libraries raise whatever they met
        fault = f"cannot be read as a spreadsheet ({type(error).__name__})"
        raise BadInput(path, fault, "copy it again, as released") from error
    if isinstance(tab, str) and tab not in tabs:
        fault = f"has no sheet {tab}, but {', '.join(tabs)}"
        raise BadInput(path, fault, "give the official file, as released")
    sheet = tabs[tab] if isinstance(tab, str) else list(tabs.values())[tab]
    cells = [[str(value).strip() for value in row] for row in sheet.to_numpy().tolist()]
    header = cells[header_row - 1] if len(cells) >= header_row else []
    lacking = [title for title in titles if title not in header]
    if lacking:
        fault = f"row {header_row} should be the header, but lacks {', '.join(lacking)}"
        raise BadInput(path, fault, "give the official sheet, as released")
    rows = []
    for number, row in enumerate(cells[header_row:], header_row + 1):
        named = {title: row[header.index(title)] for title in titles}
        if sum(text != "" for text in named.values()) > 1:
            rows.append((f"{path}, row {number}", named))
    return rows


def read_lines(path: Path) -> list[str]:
    """The lines of a text file; byte order mark, Windows line ends, empty last lines are dropped.

    Raises:
        BadInput: The file is missing, empty, a folder, or not UTF-8.
    """
    try:
        lines = existing(path).read_text(encoding="utf-8-sig").rstrip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        fault = f"cannot be read as text ({type(error).__name__})"
        raise BadInput(path, fault, RESTORE_FILE) from error
    if lines == [""]:
        raise BadInput(path, "holds nothing but white space", RESTORE_FILE)
    return [line.rstrip() for line in lines]


def check_profile(profile: str, dataset: str, datasets: Iterable[str]) -> None:
    """Refuse a data set that a profile does not go with: "paper" is for official data alone.

    Raises:
        BadInput: They do not go together, or there is no such profile or data set.
    """
    check_choice("profile", profile, ("smoke", "full", "paper"))
    check_choice("dataset", dataset, ["synthetic", *datasets])
    if (profile == "paper") == (dataset == "synthetic"):
        remedy = f'"paper" is for {", ".join(datasets)}, the others for "synthetic"'
        raise BadInput(f"profile {profile!r}, dataset {dataset!r}", "do not go together", remedy)


def check_clip_table(df: pd.DataFrame) -> pd.DataFrame:
    """Check a clip table and return it with plain types; columns are `CLIP_TABLE_COLUMNS`.

    Text columns are str (subject "01" keeps its zero); onset, apex, offset, n_frames become
    Int64, fps float64. dataset, subject, clip, path must be there in every row; the rest may be
    missing, but onset and offset only together, and no apex without them. Frame numbers are
    0-based and inclusive: 0 <= onset <= apex <= offset < n_frames. One row for each
    (dataset, subject, clip). Further columns pass untouched; label may be of any type.

    Raises:
        BadInput: The first row that breaks a rule, named by (subject, clip), or a column.
    """
    lacking = [name for name in CLIP_TABLE_COLUMNS if name not in df.columns]
    if lacking:
        raise BadInput("clip table", f"lacks the columns {lacking}", "add them; empty will do")
    df = df.copy()
    for name in ("dataset", "subject", "clip", "path", "au", "split"):
        optional = name in ("au", "split")
        text = df[name].map(lambda value: isinstance(value, str) and value != "")
        fault = f"{name} is not a text" + ("" if optional else ", or empty")
        _refuse_row(df, ~(text | (optional & df[name].isna())), f"{fault}; read with dtype=str")
    for name in ("onset", "apex", "offset", "n_frames", "fps"):
        _to_number(df, name, whole=name != "fps")
    first, apex, last = df["onset"], df["apex"], df["offset"]
    _refuse_row(df, first.isna() != last.isna(), "onset without offset, or the reverse")
    _refuse_row(df, apex.notna() & first.isna(), "an apex without onset and offset")
    _refuse_row(df, first < 0, "onset before frame 0")
    _refuse_row(df, first > last, "onset after offset")
    _refuse_row(df, (apex < first) | (apex > last), "apex outside onset..offset")
    _refuse_row(df, df["n_frames"] < 1, "n_frames below 1")
    _refuse_row(df, last >= df["n_frames"], "offset beyond the last frame (numbers are 0-based)")
    _refuse_row(df, df["fps"] <= 0, "fps not above 0")
    _refuse_row(df, df.duplicated(["dataset", "subject", "clip"]), "there twice in its dataset")
    return df


def _to_number(df: pd.DataFrame, name: str, *, whole: bool) -> None:
    numbers = pd.to_numeric(df[name], errors="coerce").astype("Float64")
    _refuse_row(df, numbers.isna() & df[name].notna(), f"{name} is not a number")
    if whole:
        _refuse_row(df, numbers % 1 != 0, f"{name} is not a whole number")
    df[name] = numbers.astype("Int64") if whole else numbers.astype("float64")


def _refuse_row(df: pd.DataFrame, bad: pd.Series, fault: str) -> None:
    bad = bad.fillna(False).to_numpy(dtype=bool)
    if bad.any():
        row = df.iloc[int(np.argmax(bad))]
        what = f"clip table, row (subject {row['subject']}, clip {row['clip']})"
        raise BadInput(what, fault, "correct the table or its reader")
