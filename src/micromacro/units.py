"""Units, their cache, and the rows that notebooks hand over.

A *unit* is one call of a system's ``unit(...)``: arm x seed x fold x data set x profile.
:func:`run` computes the units of a grid that are missing, in worker processes, and reads all of
them from disk. A unit is stored in ``runs/units/<key>/``:

* ``metrics.json``: ``function``, ``params``, ``metrics``, ``seconds``, ``provenance``; a number that
  JSON lacks is written ``{"float": "nan"}`` (or ``"inf"``, ``"-inf"``);
* ``predictions.npz``: the arrays that the unit returned, if any;
* ``DONE``: empty, written last; a folder without it counts as missing and is removed.

It is written in an attempt folder and moved into place, so SIGKILL at any moment leaves
no half unit. A lock per key, which the system drops when its holder dies, keeps two processes
from computing the same unit twice.
"""

import hashlib
import inspect
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from micromacro.errors import BadInput
from micromacro.results import Row, make_writable, project_root, provenance, write_rows
from micromacro.unit_store import UnitResult, compute, decode, done, encode, load, sweep
from micromacro.workers import run_tasks

# Sources that start, draw or watch a computation but cannot change its numbers.
NOT_HASHED = frozenset(
    [
        "batch.py",
        "cli.py",
        "course.py",
        "data_check.py",
        "exercises.py",
        "headless.py",
        "report.css",
        "pages.py",
        "plots.py",
        "report.py",
        "results.py",
        "run_folder.py",
        "statistics.py",
        "widgets.py",
        "workers.py",
    ]
)

__all__ = [
    "Row",
    "UnitFailure",
    "UnitResult",
    "project_root",
    "provenance",
    "run",
    "unit_key",
    "write_rows",
]

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
    sweep(units)
    wanted = dict(zip(keys, params, strict=True))
    missing = [
        (unit, _name(unit), entry, key, units)
        for key, entry in wanted.items()
        if not done(units, key)
    ]
    failures = _fill(missing, workers, _Progress(len(missing), len(wanted), progress))
    if failures:
        raise UnitFailure(_name(unit), failures)
    fresh = {key for *_, key, _ in missing}
    return [load(units / key, cached=key not in fresh) for key in keys]


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


def _fill(missing: list[tuple], workers: int, progress: "_Progress") -> list[tuple[dict, str]]:
    """Compute the missing units; (parameters, what went wrong) of those that failed."""
    if workers == 0:
        return [fault for task in missing for fault in _compute_here(task, progress)]
    failures: list[tuple[dict, str]] = []
    # Units that another process is computing come last: their results are read, not made again.
    for wait in (False, True):
        tasks, missing = [(*task, wait) for task in missing], []
        for event in run_tasks(compute, tasks, workers=workers):
            params, text = tasks[event.index][2], str(event.value)
            if event.kind == "retry":
                progress.say(f"{json.dumps(params)}: {text}; trying once more")
            elif event.kind in ("error", "died"):
                failures.append((params, text))
                progress.say(f"{json.dumps(params)}: failed: {text.strip().splitlines()[-1]}")
            elif event.value == "busy":
                missing.append(tasks[event.index][:-1])
            elif event.kind == "done":
                progress.count()
    return failures


def _compute_here(task: tuple, progress: "_Progress") -> Iterator[tuple[dict, str]]:
    try:
        compute((*task, True))
        progress.count()
    except Exception:
        yield task[2], traceback.format_exc()


def _units_folder(root: str | os.PathLike | None) -> Path:
    units = (Path(root) if root is not None else project_root()) / "runs" / "units"
    make_writable(units)
    return units.resolve()


def _plain(params: dict) -> dict:
    for name, value in params.items():
        try:
            encode(value)
        except TypeError as error:
            raise BadInput(f"parameter {name}", str(error), "give a JSON value") from None
    return decode(json.dumps(encode(params)))


def _name(function: Callable) -> str:
    module, name = function.__module__, function.__qualname__
    if module == "__main__" or "<" in name:
        fault = "worker processes cannot import it by name"
        raise BadInput(f"unit {name}", fault, "define it at the top level of a module")
    return f"{module}:{name}"


def _hash_files(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        name = path.relative_to(_PACKAGE) if path.is_relative_to(_PACKAGE) else path.name
        digest.update(str(name).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


class _Progress:
    """Says on stderr how far a grid is: a line per ten seconds, so that notebooks stay quiet."""

    def __init__(self, missing: int, total: int, on: bool):
        self._missing, self._total, self._on = missing, total, on
        self._counted, self._began = 0, time.monotonic()
        self._spoken = self._began

    def count(self) -> None:
        self._counted += 1
        now = time.monotonic()
        if now - self._spoken >= 10:  # seconds
            self._spoken = now
            there = self._total - self._missing
            text = f"{there + self._counted}/{self._total} ({there} from the cache)"
            self.say(f"{text}, {now - self._began:.0f} s")

    def say(self, text: str) -> None:
        if self._on:
            print(f"units: {text}", file=sys.stderr, flush=True)
