"""Units, their cache, and the rows that notebooks hand over.

A *unit* is one call of a system's ``unit(...)``: arm x seed x fold x data set x profile.
:func:`run` computes the units of a grid that are missing, in worker processes, and reads all of
them from disk. A unit is stored in ``runs/units/<key>/``:

* ``metrics.json``: ``function``, ``params``, ``metrics``, ``seconds``, ``provenance``; a number that
  JSON lacks is written ``{"float": "nan"}`` (or ``"inf"``, ``"-inf"``);
* ``predictions.npz``: the arrays that the unit returned, if any;
* ``DONE``: empty, written last; a folder without it counts as missing and is removed.

It is written in an attempt folder and moved into place, so no moment of power loss or SIGKILL
leaves half a unit. A lock per key, which the system drops when its holder dies, keeps two processes
from computing the same unit twice.
"""

import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import inspect
import json
import math
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from micromacro.errors import BadInput
from micromacro.workers import run_tasks

# Sources that start, draw or watch a computation but cannot change its numbers.
NOT_HASHED = frozenset(
    "batch.py cli.py exercises.py ipc_kernel.py plots.py report.py widgets.py workers.py".split()
)

_PACKAGE = Path(__file__).resolve().parent


class UnitFailure(RuntimeError):
    """Some units of a grid failed; the message names each, with its traceback.

    Attributes:
        failures: Pairs (parameters of the unit, text of what happened). All other units of the grid
            are stored: a second call computes the failed ones only.
    """

    def __init__(self, function: str, failures: list[tuple[dict, str]]):
        self.failures = failures
        lines = [f"{len(failures)} unit(s) of {function} failed"]
        lines += [f"{json.dumps(params, default=str)}: {text.strip()}" for params, text in failures]
        super().__init__("\n".join(lines))


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


def run(
    unit: Callable,
    grid: Iterable[Mapping],
    *,
    workers: int = 0,
    root: str | os.PathLike | None = None,
    progress: bool = True,
) -> list[UnitResult]:
    """Compute the missing units of a grid and return all of them.

    Args:
        unit: A function of a module (not of a notebook: processes import it by name), called as
            ``unit(**params)``. Returns its metrics, a dict of numbers, strings and lists; or a pair
            (metrics, predictions), predictions a dict of arrays that npz can hold.
        grid: Parameters of each unit: JSON values. Whatever decides the numbers belongs in them,
            the device too.
        workers: Number of processes with one thread each. 0 computes in this process: no start-up
            time, right for tiny grids, but no shelter from a crash.
        root: Folder that holds ``runs``; by default :func:`project_root`.
        progress: Report on stderr, every ten seconds at most.

    Returns:
        Results in the order of the grid; a repeated unit is computed once.

    Raises:
        BadInput: ``unit`` cannot be imported by name, or a parameter is not a JSON value.
        UnitFailure: After all other units are done.
    """
    params = [_plain(dict(entry)) for entry in grid]
    keys = [unit_key(unit, entry) for entry in params]
    units = _units_folder(root)
    _sweep(units)
    wanted = dict(zip(keys, params, strict=True))
    missing = [(unit, entry, key, units) for key, entry in wanted.items() if not _done(units, key)]
    failures = _fill(missing, workers, _Progress(len(missing), len(wanted), progress))
    if failures:
        raise UnitFailure(_name(unit), failures)
    fresh = {key for _, _, key, _ in missing}
    return [_load(units / key, cached=key not in fresh) for key in keys]


def unit_key(function: Callable, params: Mapping) -> str:
    """Name of a unit's folder: 20 hexadecimal digits.

    Hashed are the function's name, its parameters, and every source file that can change a number:
    the whole package but :data:`NOT_HASHED`, and the function's own file if it lies elsewhere.
    """
    what = {"function": _name(function), "params": _plain(dict(params))}
    what["sources"] = _hash_files(package_sources(NOT_HASHED))
    file = Path(inspect.getfile(function)).resolve()
    if not file.is_relative_to(_PACKAGE):
        what["file"] = _hash_files([file])
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:20]


def package_sources(without: Iterable[str] = ()) -> list[Path]:
    """The package's files, sorted, but compiled ones and the top-level files named."""
    skipped = {_PACKAGE / name for name in without}
    files = (path for path in _PACKAGE.rglob("*") if path.is_file())
    return sorted(p for p in files if p not in skipped and "__pycache__" not in p.parts)


def project_root() -> Path:
    """Folder that holds ``notebooks``, ``data`` and ``runs``, from any working directory.

    The environment variable ``MICROMACRO_ROOT``; else the checkout that holds this package (a
    ``pyproject.toml`` beside ``src``); else the working directory.
    """
    if root := os.environ.get("MICROMACRO_ROOT"):
        return Path(root).resolve()
    return _checkout() or Path.cwd()


def provenance(device: str = "cpu") -> dict[str, str]:
    """Where and when: ``device``, ``python``, ``torch``, ``git_sha`` (with -dirty), ``utc``."""
    return {
        "device": device,
        "python": platform.python_version(),
        "torch": _version("torch"),
        "git_sha": _git_sha(),
        "utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


@dataclass(frozen=True)
class Row:
    """One number of one experiment, as ``data/results/*.csv`` holds it.

    The last five fields say where the number comes from; those left None are filled in by
    :func:`write_rows`. For a unit's number give them as ``**result.provenance``.
    """

    notebook: str
    system: str
    arm: str
    metric: str
    value: float
    n: int
    params: dict = field(default_factory=dict)
    dataset: str = "synthetic"
    split: str = ""
    profile: str = "smoke"
    seed: int | None = None
    fold: int | str | None = None
    seconds: float | None = None
    device: str = "cpu"
    python: str | None = None
    torch: str | None = None
    git_sha: str | None = None
    utc: str | None = None


COLUMNS = tuple(
    "notebook system arm params dataset split profile seed fold metric value n seconds device"
    " python torch git_sha utc".split()
)
_IDENTITY = [c for c in COLUMNS[:10]] + ["device"]  # noqa: C416


def write_rows(rows: Iterable[Row], out: str | os.PathLike | None) -> list[Path]:
    """Hand rows over to the run: ``<out>/rows/<notebook>__<profile>__<device>.csv``.

    ``out`` is the notebook's parameter ``OUT``, the run's folder under ``make reproduce``. None (a
    notebook run by hand) writes nothing. A second call adds to the file; a row that is there
    already (same columns up to ``metric``, same device) is replaced.

    Returns:
        The files written.
    """
    if out is None:
        return []
    here = provenance()
    records = [_record(row, here) for row in rows]
    frame = pd.DataFrame(records, columns=list(COLUMNS), dtype=str)
    written = []
    for (notebook, profile, device), part in frame.groupby(["notebook", "profile", "device"]):
        path = Path(out) / "rows" / f"{notebook}__{profile}__{device}.csv"
        if path.exists():
            part = pd.concat([read_rows(path, dtype=str), part])
        part = part.drop_duplicates(_IDENTITY, keep="last")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, part.to_csv(index=False, lineterminator="\n"))
        written.append(path)
    return written


def read_rows(path: str | os.PathLike, dtype: type | None = None) -> pd.DataFrame:
    """Rows as :func:`write_rows` wrote them; an empty cell stays ``""`` where ``dtype=str``."""
    return pd.read_csv(path, dtype=dtype, keep_default_na=dtype is None)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that readers see the old one or the new one, never a part."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


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
    return json.loads(text, object_hook=lambda d: float(d["float"]) if set(d) == {"float"} else d)
