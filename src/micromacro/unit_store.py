"""One unit on disk: computed under a lock, stored whole or not at all."""

import contextlib
import fcntl
import json
import math
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from micromacro.results import provenance


@dataclass(frozen=True)
class UnitResult:
    """One stored unit.

    Attributes:
        params: The unit's parameters.
        metrics: What it measured, by name.
        seconds: Its own computing time, when it was computed.
        provenance: ``device``, ``python``, ``torch``, ``git_sha``, ``utc`` of that moment: goes
            into the rows, ``Row(..., **result.provenance)``.
        folder: Where it lies.
        cached: True where it was there already.
    """

    params: dict
    metrics: dict
    seconds: float
    provenance: dict
    folder: Path
    cached: bool

    def predictions(self) -> dict[str, np.ndarray]:
        """The arrays that the unit returned beside its metrics; empty if none."""
        path = self.folder / "predictions.npz"
        if not path.exists():
            return {}
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)


def compute(task: tuple, note: Callable | None = None) -> str:
    """Compute and store one unit (function, its name, parameters, key, folder, wait); "busy" if another process is at it and ``wait`` is false."""
    unit, name, params, key, units, wait = task
    with _claim(units, key, wait) as claimed:
        if not claimed:
            return "busy"
        if done(units, key):
            return "stored"
        prefix = f".attempt-{socket.gethostname()}-{os.getpid()}-"
        attempt = Path(tempfile.mkdtemp(prefix=prefix, dir=units))
        try:
            _store(attempt, unit, name, params)
            shutil.rmtree(units / key, ignore_errors=True)  # torn: no DONE, and nobody is at it
            attempt.replace(units / key)
            (units / key / "DONE").touch()
        finally:
            shutil.rmtree(attempt, ignore_errors=True)
    return "stored"


def _store(folder: Path, unit: Callable, name: str, params: dict) -> None:
    began = time.perf_counter()
    outcome = unit(**params)
    metrics, predictions = outcome if isinstance(outcome, tuple) else (outcome, {})
    record = {
        "function": name,
        "params": params,
        "metrics": dict(metrics),
        "seconds": round(time.perf_counter() - began, 3),
        "provenance": provenance(str(params.get("device", "cpu"))),
    }
    text = json.dumps(encode(record), indent=1, allow_nan=False)
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    arrays = {name: np.asarray(array) for name, array in predictions.items()}
    if any(array.dtype.hasobject for array in arrays.values()):
        raise TypeError("predictions must be arrays of numbers or of fixed-length strings")
    if arrays:
        np.savez_compressed(folder / "predictions.npz", **arrays)


def load(folder: Path, *, cached: bool) -> UnitResult:
    """The unit stored in a folder that has its DONE."""
    record = decode((folder / "metrics.json").read_text(encoding="utf-8"))
    del record["function"]
    return UnitResult(**record, folder=folder, cached=cached)


@contextlib.contextmanager
def _claim(units: Path, key: str, wait: bool) -> Iterator[bool]:
    """Hold the lock of one key: one byte of a common file, freed when the process ends."""
    with (units / ".locks").open("a+b") as file:
        try:
            how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
            fcntl.lockf(file, how, 1, int(key[:8], 16))
        except (BlockingIOError, PermissionError):
            yield False
        else:
            yield True


def done(units: Path, key: str) -> bool:
    """Whether a whole unit is stored under this key."""
    return (units / key / "DONE").exists()


def sweep(units: Path) -> None:
    """Remove what killed processes of this machine left: attempts, and folders without DONE."""
    for attempt in units.glob(f".attempt-{socket.gethostname()}-*"):
        if not process_alive(int(attempt.name.rsplit("-", 2)[1])):
            shutil.rmtree(attempt, ignore_errors=True)
    for folder in units.glob("[0-9a-f]*"):
        if not (folder / "DONE").exists():
            with _claim(units, folder.name, wait=False) as claimed:
                if claimed and not (folder / "DONE").exists():
                    shutil.rmtree(folder, ignore_errors=True)


def process_alive(pid: int) -> bool:
    """Whether a process of this machine with this id runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    stat = Path(f"/proc/{pid}/stat")  # Linux; in a container the dead may never be reaped
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self/stat").exists()


def encode(value):
    """A JSON value for ``value``: numpy scalars and arrays, tuples, and non-finite floats included.

    Raises:
        TypeError: For anything else, which JSON could not give back.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"keys must be strings: {list(value)}")
        return {key: encode(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [encode(entry) for entry in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def decode(text: str):
    """The value whose :func:`encode` was written as ``text``."""
    return json.loads(text, object_hook=_special_float)


def _special_float(entry: dict):
    if set(entry) == {"float"} and entry["float"] in ("nan", "inf", "-inf"):
        return float(entry["float"])
    return entry
