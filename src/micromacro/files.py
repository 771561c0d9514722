"""Paths: sources that must exist, and targets that appear whole or not at all."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from micromacro.errors import BadInput

WRITABLE = "choose a place that exists, is writable and has room"


def existing(source: str | Path) -> Path:
    """Return `source` as a path that exists and, if a file, is not empty; else raise BadInput."""
    path = Path(source)
    try:
        if not path.is_dir() and path.stat().st_size == 0:
            raise BadInput(path, "an empty file", "copy or download it again")
    except OSError as error:
        raise BadInput(path, f"cannot be opened ({error.strerror})", "check the path") from error
    return path


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
