"""What the readers share: text of official files, labels, the root folder."""

import math
from pathlib import Path

from micromacro.errors import BadInput
from micromacro.files import existing

FILM_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm"})
RESTORE = "restore the official file"


def root_folder(root: str | Path, official: list[str]) -> Path:
    """The root of a data set: a folder with at least one of the official files or folders.

    Raises:
        BadInput: Not there, not a folder, or nothing official in it.
    """
    path = existing(root)
    if not path.is_dir():
        raise BadInput(path, "is not a folder", "give the data set's root")
    if not any((path / name).exists() for name in official):
        fault = f"holds none of {', '.join(official)}"
        raise BadInput(path, fault, "give the data set's root; data/README.md shows what is in it")
    return path


def read_lines(path: Path) -> list[str]:
    """The lines of a text file; byte order mark, Windows line ends, empty last lines are dropped.

    Raises:
        BadInput: Missing, empty, a folder, or not UTF-8.
    """
    try:
        lines = existing(path).read_text(encoding="utf-8-sig").rstrip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        fault = f"cannot be read as text ({type(error).__name__})"
        raise BadInput(path, fault, RESTORE) from error
    if lines == [""]:
        raise BadInput(path, "holds nothing but white space", RESTORE)
    return [line.rstrip() for line in lines]


def label(text: str, name: str, where: str, *, unlabelled: float | None = None) -> float:
    """A valence or arousal in [-1, 1]; nan if the number is `unlabelled`.

    Raises:
        BadInput: Not a number, nan, or out of range; `where` names file and line.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise BadInput(where, f"{name} is {text.strip()!r}, not a number", RESTORE)
    if value == unlabelled:
        return math.nan
    if not -1 <= value <= 1:
        raise BadInput(where, f"{name} {text.strip()} is outside [-1, 1]", RESTORE)
    return value


def films_below(folder: Path) -> list[Path]:
    """All films at any depth, sorted; hidden ones are passed over."""
    files = folder.rglob("*") if folder.is_dir() else ()
    return sorted(f for f in files if f.suffix.lower() in FILM_SUFFIXES and f.name[0] != ".")


def filled(folder: Path) -> bool:
    """Whether a folder is there with something in it: OpenFace leaves empty ones where no face was."""
    return folder.is_dir() and any(folder.iterdir())
