"""Paths: sources that must exist, and targets that appear whole or not at all."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from micromacro.errors import BadInput

WRITABLE = "choose a place that exists, is writable and has room"


def existing(source: str | Path) -> Path:
    """Return `source` as a path that exists and, if a file, is not empty; else raise BadInput."""
    path = named(source)
    try:
        if not path.is_dir() and path.stat().st_size == 0:
            raise BadInput(path, "an empty file", "copy or download it again")
    except OSError as error:
        raise BadInput(path, f"cannot be opened ({error.strerror})", "check the path") from error
    return path


def named(path: str | Path) -> Path:
    """Return `path` as a path; an empty name, which would mean the current folder, is refused."""
    if not os.fspath(path):
        raise BadInput('""', "is an empty name", 'give a path; "." is the current folder')
    return Path(path)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it takes the place of `path`, else it goes.

    Raises:
        BadInput: The target is a folder, or its folder is missing or not writable.
    """
    if path.is_dir():
        raise BadInput(path, "a folder stands in the way of the file", "choose another name")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _or_bad_input(path, part.touch)
        yield part
        _or_bad_input(path, lambda: part.replace(path))
    finally:
        if part.is_file():
            part.unlink()


def _or_bad_input(path: Path, action: Callable[[], object]) -> None:
    try:
        action()
    except OSError as error:
        raise BadInput(path, f"cannot be written ({error.strerror})", WRITABLE) from error


def project_root() -> Path:
    """Folder that holds ``notebooks``, ``data`` and ``runs``, from any working directory.

    The environment variable ``MICROMACRO_ROOT``; else the checkout that holds this package; else
    the working directory.
    """
    if root := os.environ.get("MICROMACRO_ROOT"):
        return Path(root).resolve()
    return checkout() or Path.cwd()


def checkout() -> Path | None:
    """The folder with a ``pyproject.toml`` beside the ``src`` of this package, if there is one."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").exists() else None


def make_writable(folder: Path) -> None:
    """Create a folder, and make sure that files can be written there.

    Raises:
        BadInput: It cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        remedy = "make it writable, or set MICROMACRO_ROOT to a folder that is"
        raise BadInput(folder, f"cannot write there ({error.strerror})", remedy) from None


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that readers see the old one or the new one, never a part."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
