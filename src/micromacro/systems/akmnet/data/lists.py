"""The list file of the released code: a clip a line, ``folder count label``, by single spaces.

The label is a class number from 0 on; 3 is "others". The released program reads all pictures of the
folder, whatever the count says; here the count must be right, and both ends are checked.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from micromacro.datasets.table import CLIP_TABLE_COLUMNS, check_clip_table
from micromacro.errors import BadInput
from micromacro.files import existing, replacing
from micromacro.systems.akmnet.data.clips import FPS
from micromacro.systems.akmnet.data.disk import numbered_pictures, place

LINE = re.compile(r"(.+) ([0-9]+) ([0-9]+)")


def read_list(path: str | Path, dataset: str, base: str | Path | None = None) -> pd.DataFrame:
    """Read a list file as a clip table.

    The last two parts of a folder's path are subject and clip, as in ``.../sub01/EP01_12``, and as
    written: "sub01" where the sheets' readers say "01".

    Args:
        path: Of the list.
        dataset: Name to put into the table; "casme", "casme2", "smic" and "samm" know their fps.
        base: Folder that relative paths start from; None means the list's own.

    Returns:
        Clip table with ``first`` as in `MicroClips`: all pictures from the lowest number to the
        highest, ``label`` int64. Apex and action units are not in such files.

    Raises:
        BadInput: A line that is not of this form, a folder that is not there, has another count
            or gaps in its numbers; a clip twice; an empty file.
    """
    path = existing(path)
    base = path.parent if base is None else Path(base)
    rows = [_row(base, dataset, *entry) for entry in _lines(path)]
    table = pd.DataFrame(rows, columns=[*CLIP_TABLE_COLUMNS, "first"])
    return check_clip_table(table)


def _lines(path: Path) -> Iterator[tuple[str, str, int, int]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fault = f"cannot be read as text ({type(error).__name__})"
        raise BadInput(path, fault, "give a list of clips") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        match = LINE.fullmatch(line.rstrip())
        if match is None:
            raise BadInput(where, f"is {line[:60]!r}", "write folder, count, label")
        yield where, match[1], int(match[2]), int(match[3])


def _row(base: Path, dataset: str, where: str, name: str, count: int, label: int) -> dict:
    folder = base / name
    if len(Path(name).parts) < 2:
        raise BadInput(where, f"folder {name!r} has no subject", "write subject/clip at least")
    numbers = list(numbered_pictures(folder))
    if len(numbers) != count:
        fault = f"says {count} frames, {folder} holds {len(numbers)}"
        raise BadInput(where, fault, "correct the list or the folder")
    about = {"dataset": dataset, "subject": folder.parent.name, "clip": folder.name}
    about |= {"label": label, "fps": FPS.get(dataset)}
    return about | place(folder, numbers[0], None, numbers[-1])


def write_list(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a list file that the released code reads as it is meant.

    Args:
        table: Clip table whose labels are class numbers (`relabel`).
        path: Target; it appears whole or not at all.

    Returns:
        The path.

    Raises:
        BadInput: A label that is no class number, white space in a path, or a folder with more
            frames than onset to offset: the format cannot say which to take.
    """
    lines = [_line(row) for row in table.itertuples()]
    path = Path(path)
    with replacing(path) as part:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _line(row: tuple) -> str:
    what = f"clip {row.subject}/{row.clip}"
    if not re.fullmatch("[0-9]+", str(row.label)):
        raise BadInput(what, f"label {row.label!r} is no class number", "use relabel")
    if re.search(r"\s", row.path):
        raise BadInput(what, f"{row.path!r} has white space", "move the pictures elsewhere")
    count = len(numbered_pictures(row.path))
    if count != row.offset - row.onset + 1:
        fault = f"{row.path} holds {count} frames, the clip has {row.offset - row.onset + 1}"
        raise BadInput(what, fault, "list folders with no other frames, such as cropped ones")
    return f"{row.path} {count} {row.label}"
