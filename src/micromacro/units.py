"""Units of work: each is one call of a system's ``unit(...)``, computed once and kept.

:func:`run` computes the units of a grid that are missing, in this process, in processes of this
machine, or on a cluster, and reads all of them from disk. A unit lies in ``runs/units/<key>/``:

* ``metrics.json``: ``function``, ``params``, ``metrics``, ``seconds``, ``provenance``; a number that
  JSON lacks is written ``{"float": "nan"}`` (or ``"inf"``, ``"-inf"``);
* ``predictions.npz``: the arrays that the unit returned, if any;
* ``DONE``: the sizes of both files. A folder that does not fit its sizes is torn: computed again.

The key names what decides the numbers: the function, its parameters, the code as it is loaded, the
libraries that compute (:mod:`micromacro.cache`), and the content of the unit's input files. These
are what the function ``input_files(params)`` of the unit's module lists; without one, the files and
folders that parameters called ``root``, ``file``, ``path`` or ``weights`` (``data_root``, ...) name.
"""

import contextlib
import functools
import itertools
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from micromacro.cache import claimed, code_key, content_key, digest, write_whole
from micromacro.errors import BadInput
from micromacro.files import make_writable, project_root
from micromacro.results import provenance
from micromacro.workers import cores, cut, submit

_FILES = ("root", "file", "path", "weights")  # last word of parameters that name input files
# From ten seconds on, a line each ten seconds: most runs of a notebook stay quiet.
_BAR = {"desc": "units", "delay": 10, "mininterval": 10, "miniters": 1, "leave": False}
_BUSY = "another program is computing it"


@dataclass(frozen=True)
class UnitResult:
    """One stored unit.

    Attributes:
        params: The unit's parameters.
        metrics: What it measured, by name.
        seconds: Its own computing time, when it was computed.
        provenance: Where and when that was: goes into the rows, ``Row(..., **result.provenance)``.
        folder: Where it lies.
        cached: Whether it was there already.
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


class UnitFailure(RuntimeError):
    """Some units of a grid failed; the message names each, with what happened.

    Attributes:
        failures: Pairs (parameters of the unit, text of what happened). All other units of the grid
            are stored: a second call computes the failed ones only.
    """

    def __init__(self, function: str, failures: list[tuple[dict, str]]):
        self.failures = failures
        lines = [f"{len(failures)} unit(s) of {function} failed"]
        lines += [f"{json.dumps(encode(params))}: {text.strip()}" for params, text in failures]
        super().__init__("\n".join(lines))


class Task(NamedTuple):
    """One unit to compute: its function, its parameters, the folder that is to appear."""

    unit: Callable
    params: dict
    folder: Path


def run(
    unit: Callable,
    grid: Iterable[Mapping],
    *,
    workers: int | None = None,
    root: str | os.PathLike | None = None,
    progress: bool = True,
    limit_s: float | None = None,
    scheduler: str | None = None,
) -> list[UnitResult]:
    """Compute the missing units of a grid and return all of them.

    Units with equal ``data`` and ``seed`` share work, so they go to one worker one after the other,
    fold by fold, unless that would leave another worker idle.

    Args:
        unit: A function of a module (not of a notebook: processes import it by name), called as
            ``unit(**params)``. Returns its metrics, a dict of numbers, strings and lists; or a pair
            (metrics, predictions), predictions a dict of arrays that npz can hold.
        grid: Parameters of each unit: JSON values. Whatever decides the numbers belongs in them,
            the device too.
        workers: Number of processes with one thread each. 0 computes in this process: no start-up
            time, right for tiny grids, but no shelter from a crash. None takes the environment's
            ``MICROMACRO_WORKERS`` (a number, or "auto": all cores that it may use), else 0.
        root: Folder that holds ``runs``; by default :func:`project_root`.
        progress: Show a bar with an estimate of the time left on stderr, from ten seconds on.
        limit_s: Wall-clock seconds of one unit, the start of its worker not counted. A unit that
            takes longer is killed and has failed. Only for processes of this machine.
        scheduler: Address of a Dask scheduler, ``tcp://HOST:PORT``; its workers compute, each with
            one thread, and share this file system. None takes the environment's
            ``MICROMACRO_SCHEDULER``; "" means none. A unit whose device is "cuda" takes one slot
            of a worker's resource GPU.

    Returns:
        Results in the order of the grid; a repeated unit is computed once.

    Raises:
        BadInput: `unit` cannot be imported by name, a parameter is not a JSON value, a source was
            edited after it was loaded, the scheduler does not answer, no place to write.
        UnitFailure: After all other units are done.
    """
    where = {"workers": _from_environment() if workers is None else workers, "limit_s": limit_s}
    where["scheduler"] = os.environ.get("MICROMACRO_SCHEDULER") if scheduler is None else scheduler
    name, grid = _name(unit), [_plain(params) for params in grid]
    store = (project_root() if root is None else Path(root)).resolve() / "runs" / "units"
    make_writable(store)
    for part in store.glob(".part-*"):  # left by killed programs: claiming the folder removes them
        with claimed(store / part.name.split("-")[1], wait=False):
            pass
    content = functools.cache(content_key)  # once for all units
    key = functools.partial(unit_key, unit, code=code_key(unit), content=content)
    folders = [store / key(params) for params in grid]
    results = {folder: load(folder) for folder in folders}
    missing = {f: Task(unit, p, f) for f, p in zip(folders, grid, strict=True) if not results[f]}
    there, failures = len(results) - len(missing), []
    with tqdm(total=len(results), initial=there, disable=not progress, **_BAR) as bar:
        for task, outcome in _outcomes(list(missing.values()), where):
            results[task.folder] = load(task.folder, cached=False)
            if not results[task.folder]:
                text = outcome or f"{task.folder} is not there: do workers share this file system?"
                failures.append((task.params, text.strip()))
                bar.write(f"units: {failures[-1][1].splitlines()[-1]}", file=sys.stderr)
            bar.update()
    if failures:
        raise UnitFailure(name, failures)
    return [results[folder] for folder in folders]


def shard(unit: Callable, grid: Iterable[Mapping], part: str, **options) -> list[UnitResult]:
    """Compute one part of a grid, for job arrays: ``"1/8"`` to ``"8/8"`` together fill the store.

    Units that share work stay in one part, unless there are fewer such bundles than parts.

    Args:
        unit: See :func:`run`, as for the grid and the options.
        grid: The whole grid, the same for each part.
        part: Number of the part, from 1 on, and the number of parts.
        options: Of :func:`run`.

    Raises:
        BadInput: No such part; and as :func:`run`.
        UnitFailure: As :func:`run`.
    """
    number, _, total = part.partition("/")
    if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
        raise BadInput(f"--shard {part}", "is no part", "give for instance 1/8, up to 8/8")
    grid = [_plain(entry) for entry in grid]
    mine = cut(bundles(grid), int(total))[int(number) - 1 :: int(total)]
    return run(unit, [grid[index] for index in itertools.chain(*mine)], **options)


def unit_key(
    unit: Callable, params: Mapping, code: str = "", content: Callable = content_key
) -> str:
    """Name of a unit's folder, 20 hexadecimal digits: a hash of all that decides its numbers.

    Args:
        unit: The unit's function.
        params: Its parameters.
        code: The function's :func:`code_key`; by default taken now.
        content: Function that gives the hash of an input file's or folder's content.
    """
    listed = getattr(sys.modules[unit.__module__], "input_files", _files_named)
    inputs = [content(Path(path)) for path in listed(params)]
    return digest([_name(unit), _plain(params), inputs, code or code_key(unit)])[:20]


def bundles(grid: Sequence[Mapping]) -> list[list[int]]:
    """Positions of units, those that share work (equal ``data`` and ``seed``) together."""
    groups = {}
    for index, params in enumerate(grid):
        shared = {name: params[name] for name in ("data", "seed") if name in params}
        groups.setdefault(digest(encode(shared or index)), []).append(index)
    # Arms of one fold share more than folds of one arm.
    return [sorted(group, key=lambda i: str(grid[i].get("fold"))) for group in groups.values()]


def attempt(task: Task) -> str:
    """Compute and store a unit, where it runs; what went wrong, or "" if it is stored now."""
    try:
        if unit_key(task.unit, task.params, code=_code_at_start(task.unit)) != task.folder.name:
            fault = f"a process on {os.uname().nodename} has other code, libraries or input files"
            raise BadInput(task.folder.name, fault, "restart the program, or the cluster's workers")
        with claimed(task.folder, wait=False) as ours:
            if not ours:
                return _BUSY
            if not load(task.folder):
                write_whole(task.folder, functools.partial(_compute, task))
    except BadInput as error:
        return str(error)
    except Exception:
        return traceback.format_exc()
    return ""


# Later edits do not change what a process has loaded, so a long run may go on through them.
_code_at_start = functools.cache(code_key)


def _compute(task: Task, folder: Path) -> None:
    modules, began = set(sys.modules), time.perf_counter()
    outcome = task.unit(**task.params)
    metrics, predictions = outcome if isinstance(outcome, tuple) else (outcome, {})
    record = {
        "function": _name(task.unit),
        "params": task.params,
        "metrics": dict(metrics),
        "seconds": round(time.perf_counter() - began, 3),
        "provenance": provenance(str(task.params.get("device", "cpu"))),
    }
    if any(name.startswith("micromacro.") for name in set(sys.modules) - modules):
        code_key(task.unit)  # was a module edited before the unit itself imported it?
    text = json.dumps(encode(record), indent=1, allow_nan=False)
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    arrays = {name: np.asarray(array) for name, array in predictions.items()}
    if any(array.dtype.hasobject for array in arrays.values()):
        raise TypeError("predictions must be arrays of numbers or of fixed-length strings")
    if arrays:
        np.savez_compressed(folder / "predictions.npz", **arrays)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    (folder / "DONE").write_text(json.dumps(sizes), encoding="utf-8")


def load(folder: Path, *, cached: bool = True) -> UnitResult | None:
    """The unit stored in a folder; None if there is none, or a torn one."""
    try:
        sizes = json.loads((folder / "DONE").read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in sizes.items())
        record = decode((folder / "metrics.json").read_text(encoding="utf-8")) if whole else {}
        del record["function"]
        return UnitResult(**record, folder=folder, cached=cached)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _outcomes(tasks: Sequence[Task], where: Mapping) -> Iterator[tuple[Task, str]]:
    """(task, what went wrong) as they end; what another program computes comes last."""
    while tasks:
        parts = [[tasks[i] for i in part] for part in bundles([task.params for task in tasks])]
        tasks = []
        with contextlib.closing(submit(attempt, parts, **where)) as ends:
            for task, outcome in ends:
                if outcome == _BUSY:
                    tasks.append(task)
                else:
                    yield task, outcome
        for task in tasks:
            with claimed(task.folder):  # the other one has ended, or was killed
                pass


def _from_environment() -> int:
    text = os.environ.get("MICROMACRO_WORKERS", "0")
    if not (text.isdecimal() or text == "auto"):
        raise BadInput(f"MICROMACRO_WORKERS={text}", "is no number", "give one, or auto, or 0")
    return cores() if text == "auto" else int(text)


def _files_named(params: Mapping) -> Iterator[str]:
    """Files and folders that parameters name, those inside of parameters too."""
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _files_named(value)
        elif name.rpartition("_")[2] in _FILES and isinstance(value, str) and Path(value).exists():
            yield value


def _plain(params: Mapping) -> dict:
    """The parameters as they come back from disk: a tuple is a list, a NumPy number is a number."""
    try:
        return decode(json.dumps(encode(params)))
    except TypeError as error:
        raise BadInput(f"parameters {dict(params)}", str(error), "give JSON values") from None


def _name(function: Callable) -> str:
    module, name = function.__module__, function.__qualname__
    if module == "__main__" or "<" in name:
        fault = "worker processes cannot import it by name"
        raise BadInput(f"unit {name}", fault, "define it at the top level of a module")
    return f"{module}:{name}"


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

    def special(entry: dict):
        is_float = list(entry) == ["float"] and entry["float"] in ("nan", "inf", "-inf")
        return float(entry["float"]) if is_float else entry

    return json.loads(text, object_hook=special)
