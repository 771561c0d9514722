"""Paths: sources that are there and whole, and targets that appear whole or not at all."""

import contextlib
import errno
import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from micromacro.errors import BadInput

WRITABLE = "choose a place that exists, is writable and has room"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Nobody can guess its middle, and nobody else names files so: what is left can be removed.
_PART = ".micromacro-{}.part"


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
def reading(path: Path, kind: str, remedy: str) -> Iterator[None]:
    """Name the file that the block reads, whatever its damage makes a library raise.

    Args:
        path: The file.
        kind: What it should be, such as "a checkpoint".
        remedy: What to do about one that is damaged.

    Raises:
        BadInput: For any exception of the block. So the block holds nothing but the reading.
    """
    try:
        yield
    except Exception as error:  # NumPy, zipfile, torch, json and pandas raise dozens of types
        cause = error if isinstance(error, BadInput) else getattr(error, "strerror", None)
        fault = f"torn, or not {kind} ({cause or type(error).__name__})"
        raise BadInput(path, fault, remedy) from error


def files_below(folder: Path) -> list[Path]:
    """Files at any depth in order, behind links to folders too, as clusters have data sets.

    Hidden files and folders, links that lead nowhere and those that lead back do not count.

    Raises:
        BadInput: A folder cannot be read.
    """

    def stop(error: OSError) -> None:
        raise BadInput(error.filename, f"cannot be read ({error.strerror})", "check its rights")

    files, seen = [], set()
    for top, folders, names in os.walk(folder, followlinks=True, onerror=stop):
        if os.path.realpath(top) in seen:
            names = folders[:] = []
        seen.add(os.path.realpath(top))
        folders[:] = [name for name in folders if name[0] != "."]
        files += [Path(top, name) for name in names if name[0] != "."]
    return sorted(file for file in files if file.exists())


def read_npz(path: Path, kind: str, remedy: str) -> dict[str, np.ndarray]:
    """All arrays of an npz file, none of them pickled; arguments and errors as `reading`."""
    with (
        reading(path, kind, remedy),
        path.open("rb") as file,  # which NumPy would leave open if it is damaged
        np.load(file, allow_pickle=False) as stored,
    ):
        return dict(stored)


@contextmanager
def writing(path: Path, *, full: bool = False) -> Iterator[None]:
    """Name the place where the block writes, if the system refuses.

    Args:
        path: The file or folder.
        full: Whether only a full disk counts, since the block does more than to write.

    Raises:
        BadInput: For such an OSError.
    """
    try:
        yield
    except OSError as error:
        of_numpy = str(error).endswith(" written")  # too few; it has no number
        if full and not (of_numpy or error.errno in _NO_ROOM):
            raise
        fault = f"cannot be written ({error.strerror or error})"
        raise BadInput(path, fault, WRITABLE) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new file beside `path`; on success it takes the place of `path`, else it goes.

    Its name cannot be guessed, and it is no link: another thread, process or machine has another.
    What a killed process has left in this folder goes.

    Raises:
        BadInput: The target is a folder, or its folder is missing, not writable or full.
    """
    part = None
    with writing(path), contextlib.ExitStack() as files:
        if path.is_dir():
            raise BadInput(path, "a folder stands in the way of the file", "choose another name")
        sweep_files(path.parent)
        while part is None or not part.exists():  # who sweeps may take it before it is locked
            part = path.with_name(_PART.format(secrets.token_hex(8)))
            held = files.enter_context(part.open("xb"))
            with contextlib.suppress(OSError):  # without locks nothing is swept either
                lock(held, wait=True)
        files.callback(part.unlink, missing_ok=True)
        yield part
        part.replace(path)


def sweep_files(folder: Path, below: str = "") -> None:
    """Remove half-written files of processes that are dead: nobody holds their locks.

    Args:
        folder: Where they lie.
        below: Pattern of folders below it to look into instead, such as "*/rows/".
    """
    for part in folder.glob(below + _PART.format("*")):
        # It may be gone by now, or be somebody else's, or have no locks.
        with contextlib.suppress(OSError), part.open("rb") as left:
            if lock(left):
                part.unlink()


def lock(file: IO | int, *, wait: bool = False) -> bool:
    """Lock an open file until it is closed or the process ends; False if another has done it.

    Raises:
        OSError: Its file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


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
