"""The clip table, a row a clip, that all readers of official data give; sheets as text."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import IO
from zipfile import ZipFile

import numpy as np
import pandas as pd

from micromacro.errors import BadInput, check_choice
from micromacro.files import existing, reading

CLIP_TABLE_COLUMNS = (
    *("dataset", "subject", "clip", "path", "onset", "apex", "offset"),
    *("n_frames", "fps", "label", "au", "split"),
)
RESTORE_FILE = "restore the official file"
# What is read of a spreadsheet: all rows of the format, since a stray cell may stand in the last;
# more columns than an official sheet has (12), more characters of a cell and more bytes, unpacked,
# of a file.
MOST_ROWS, MOST_COLUMNS, MOST_CHARACTERS, MOST_BYTES = 2**20, 32, 250, 2**25
MOST_NAME = 200  # bytes of a name in a sheet, which becomes part of a path


@dataclass(frozen=True, eq=False)
class Listing:
    """Official clips, as far as sheets and disk agree; what a reader gives.

    Attributes:
        table: Clip table (`check_clip_table`), in the sheets' order, with a reader's own columns
            last.
        listed: Number of clips that the sheets list, by split; "" if there is no split.
        missing: Clips that are listed but not there, as paths below the root or the pictures'
            folder.
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


def find_sheet(
    root: str | Path, sheets: Sequence[str], sheet: str | None = None
) -> tuple[Path, Path, list[BadInput]]:
    """The root of a data set, the sheet to read, and what is wrong with that choice.

    Sheets of one data set differ in labels, so another than that of the protocols is a fault unless
    it is asked for.

    Args:
        root: The root.
        sheets: Names of the official sheets, that of the protocols first; or of folders that do
            without.
        sheet: Name of the one that is asked for; None for the first that is there.

    Raises:
        BadInput: As `find_root`.
    """
    root, path = find_root(root, [sheet] if sheet else sheets)
    if path.is_dir() or path.name == (sheet or sheets[0]):
        return root, path, []
    fault = f"is not the protocols' {sheets[0]}, and its labels may be others"
    remedy = f"get that one, or read this by sheet={path.name!r} and say so"
    return root, path, [BadInput(path, fault, remedy)]


def read_sheet(
    path: Path, titles: Sequence[str], *, tab: str | int = 0, header_row: int = 1
) -> list[tuple[str, dict[str, str]]]:
    """The rows of an .xls or .xlsx file that hold a clip.

    A row with at most one of the wanted columns filled is a note or empty, and passed over.

    Args:
        path: The file.
        titles: Of the columns to return, as released.
        tab: Name or 0-based number of the sheet in the file.
        header_row: Row of the titles, 1-based as spreadsheet programs count.

    Returns:
        For each row where it stands, for messages, and its cells by title, as `sheet_rows` has
        them.

    Raises:
        BadInput: As `sheet_rows`; another header in that row.
    """
    rows = sheet_rows(path, tab)
    header = rows.get(header_row, [])
    lacking = [title for title in titles if title not in header]
    if lacking:
        fault = f"row {header_row} should be the header, but lacks {', '.join(lacking)}"
        raise BadInput(path, fault, "give the official sheet, as released")
    columns, wanted = [header.index(title) for title in titles], []
    for number, row in rows.items():
        named = {title: row[column] for title, column in zip(titles, columns, strict=True)}
        if number > header_row and sum(map(bool, named.values())) > 1:
            wanted.append((f"{path}, row {number}", named))
    return wanted


def sheet_rows(path: Path, tab: str | int = 0) -> dict[int, list[str]]:
    """The rows of a sheet of an .xls or .xlsx file, but those with at most one cell filled.

    Args:
        path: The file.
        tab: Name or 0-based number of the sheet in the file.

    Returns:
        Number of a row, 1-based as spreadsheet programs count, to its first `MOST_COLUMNS` cells,
        as text without white space at the ends, cut at `MOST_CHARACTERS`; a whole number has no
        point and no leading zeros.

    Raises:
        BadInput: The file is missing, damaged or too large, or has no such tab.
    """
    rows = {}
    try:
        with existing(path).open("rb") as file, warnings.catch_warnings(action="ignore"):
            for number, row in enumerate(islice(_rows(path, file, tab), MOST_ROWS), 1):
                if row.count(None) < len(row) - 1:
                    texts = [_text(value) for value in row] + [""] * (MOST_COLUMNS - len(row))
                    if sum(map(bool, texts)) > 1:
                        rows[number] = texts
    except BadInput:
        raise
    except Exception as error:  # both libraries raise whatever they met
        fault = f"cannot be read as a spreadsheet ({type(error).__name__})"
        raise BadInput(path, fault, "copy it again, as released") from error
    return rows


def _rows(path: Path, file: IO[bytes], tab: str | int) -> Iterator[Sequence]:
    """Cells as the libraries have them, row by row; warnings may come, of styles."""
    if is_xls := file.read(2) != b"PK":
        import xlrd  # a GPU machine that reads no sheet has neither of the two

        # Of unequal rows: else one stray cell fills a table. Warnings would go to stdout.
        book = xlrd.open_workbook(path, logfile=StringIO(), ragged_rows=True)
    else:
        size = sum(part.file_size for part in ZipFile(file).infolist())
        if size > MOST_BYTES:
            raise BadInput(path, f"unpacks to {size:,} bytes", RESTORE_FILE)
        import openpyxl

        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    tabs = book.sheet_names() if is_xls else book.sheetnames
    if isinstance(tab, str) and tab not in tabs:
        fault = f"has no sheet {tab}, but {', '.join(tabs)}"
        raise BadInput(path, fault, "give the official file, as released")
    sheet = book[tab if isinstance(tab, str) else tabs[tab]]
    if is_xls:
        return (sheet.row_values(k, 0, MOST_COLUMNS) for k in range(sheet.nrows))
    sheet.reset_dimensions()  # what the file says of its size may be wrong
    return sheet.iter_rows(max_col=MOST_COLUMNS, values_only=True)


def _text(value: object) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return "" if value is None else str(int(value) if whole else value).strip()[:MOST_CHARACTERS]


def check_name(where: str, what: str, name: str, remedy: str) -> None:
    """Refuse a name of a sheet that is no plain name of a file or folder.

    Args:
        where: File and line that the name stands in.
        what: What it should name.
        name: The name.
        remedy: What to do.

    Raises:
        BadInput: It is empty, hidden, too long, a path, or has characters that cannot be shown.
    """
    plain = name.isprintable() and Path(name).name == name and name[:1] not in ("", ".")
    if not plain or len(name.encode()) > MOST_NAME:
        raise BadInput(where, f"{what} {name[:40]!r} is not a plain name", remedy)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file; byte order mark, Windows line ends, empty last lines are dropped.

    Raises:
        BadInput: The file is missing, empty, a folder, or not UTF-8.
    """
    with reading(existing(path), "a text file", RESTORE_FILE):
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    if lines == [""]:
        raise BadInput(path, "holds nothing but white space", RESTORE_FILE)
    return [line.rstrip() for line in lines]


def check_profile(profile: str, dataset: str, datasets: Iterable[str], of: str = "") -> None:
    """Refuse a data set that a profile does not go with: "paper" is for official data alone.

    Args:
        profile: Name of the profile.
        dataset: Name of the data set.
        datasets: Names of those that there are beside "synthetic".
        of: Whose they are, such as " of 04_mimamo_net".

    Raises:
        BadInput: They do not go together, or there is no such profile or data set.
    """
    check_choice("profile", profile, ("smoke", "full", "paper"))
    check_choice(f"DATASET{of}", dataset, ["synthetic", *datasets])
    if (profile == "paper") == (dataset == "synthetic"):
        official = ", ".join(datasets) or "a data set, and there is none here"
        remedy = f'"paper" needs DATASET and DATA_ROOT of {official}, the others "synthetic"'
        fault = f"does not go with data set {dataset!r}"
        raise BadInput(f"profile {profile!r}{of}", fault, remedy)


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
