"""Units of work: each is one call of a system's ``unit(...)``, computed once and kept.

:func:`run` computes the units of a grid that are missing, in this process, in processes of this
machine, or on a cluster, and reads all of them from disk. A unit lies in ``runs/units/<key>/``:

* ``metrics.json``: ``function``, ``params``, ``metrics``, ``seconds``, ``provenance``;
* ``predictions.npz``: the arrays that the unit returned, if any.

A folder whose files are not as they were written, in any bit, is torn: its unit is computed again.

The key names what decides the numbers: the function, its parameters, the code as it is loaded, the
libraries that compute (:mod:`micromacro.cache`), and the content of the unit's input files. These
are what the function ``input_files(params)`` of the unit's module lists; without one, the files and
folders that parameters called ``root``, ``file``, ``path`` or ``weights`` (``data_root``, ...)
name.
"""

import contextlib
import functools
import importlib
import itertools
import json
import logging
import math
import multiprocessing.connection
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from micromacro import cache
from micromacro.errors import BadInput
from micromacro.files import WRITABLE, make_writable, project_root, read_npz, reading
from micromacro.results import provenance

_FILES = ("root", "file", "path", "weights")  # last word of parameters that name input files
# From ten seconds on, a line each ten seconds: most runs of a notebook stay quiet.
_BAR = {"desc": "units", "delay": 10, "mininterval": 10, "miniters": 1, "leave": False}
_BUSY = "another program is computing it"
# Read by the libraries when they load, so they must be set before a process imports anything.
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
ONE_THREAD |= {"VECLIB_MAXIMUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}


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
        """The arrays that the unit returned beside its metrics; empty if none.

        Raises:
            BadInput: The file was damaged after this result was read.
        """
        path = self.folder / "predictions.npz"
        what = path, "the unit's predictions", f"remove the folder {self.folder}, and run again"
        with reading(*what):
            if not cache.is_whole(self.folder):
                raise ValueError("another content")
        return read_npz(*what) if path.exists() else {}


class UnitFailure(RuntimeError):
    """Some units of a grid failed; the message names each, with what happened.

    Attributes:
        failures: Pairs (parameters of the unit, text of what happened). All other units of the grid
            are stored: a second call computes the failed ones only.
    """

    def __init__(self, function: str, failures: list[tuple[dict, str]]):
        self.failures = failures
        lines = [f"{len(failures)} unit(s) of {function} failed"]
        lines += [f"{json.dumps(params)}: {text}" for params, text in failures]
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
            edited after it was loaded, the scheduler does not answer, workers cannot start, no
            place or no room to write. What was stored before stays.
        UnitFailure: After all other units are done.
    """
    workers = _from_environment() if workers is None else workers
    if workers < 0:
        raise BadInput(f"workers={workers}", "are fewer than none", "give a number, or 0")
    scheduler = os.environ.get("MICROMACRO_SCHEDULER") if scheduler is None else scheduler
    if limit_s is not None and (scheduler or not workers):
        raise BadInput("limit_s", "needs processes of this machine", "give workers, no scheduler")
    name, grid = _name(unit), [_plain(params) for params in grid]
    store = (project_root() if root is None else Path(root)).resolve() / "runs" / "units"
    make_writable(store)
    cache.sweep_folders(store)
    content = functools.cache(cache.content_key)  # once for all units
    key = functools.partial(unit_key, unit, code=cache.code_key(unit), content=content)
    folders = [store / key(params) for params in grid]
    results = {folder: load(folder) for folder in folders}
    missing = {f: Task(unit, p, f) for f, p in zip(folders, grid, strict=True) if not results[f]}
    if scheduler:
        submit = functools.partial(_on_cluster, address=scheduler)
    elif workers:
        submit = functools.partial(_in_processes, workers=workers, limit_s=limit_s)
    else:
        submit = _here
    n_stored, failures = len(results) - len(missing), []
    with tqdm(total=len(results), initial=n_stored, disable=not progress, **_BAR) as bar:
        while missing:
            tasks = list(missing.values())
            parts = [[tasks[i] for i in part] for part in bundles([task.params for task in tasks])]
            with contextlib.closing(submit(parts)) as ends:
                for task, fault in ends:
                    if fault == _BUSY:
                        continue
                    if isinstance(fault, BadInput):  # that the other tasks would meet as well
                        raise fault
                    del missing[task.folder]
                    results[task.folder] = load(task.folder, cached=False)
                    if not results[task.folder]:
                        fault = fault or f"no {task.folder}: do workers share this file system?"
                        failures.append((task.params, fault.strip()))
                        bar.write(f"units: {failures[-1][1].splitlines()[-1]}", file=sys.stderr)
                    bar.update()
            for folder in missing:
                with cache.claimed(folder):  # the other program has stored it, or was killed
                    pass
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
    unit: Callable, params: Mapping, code: str = "", content: Callable = cache.content_key
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
    return cache.digest([_name(unit), _plain(params), inputs, code or cache.code_key(unit)])[:20]


def bundles(grid: Sequence[Mapping]) -> list[list[int]]:
    """Positions of units, those that share work (equal ``data`` and ``seed``) together."""
    groups = {}
    for index, params in enumerate(grid):
        shared = {name: params[name] for name in ("data", "seed") if name in params}
        groups.setdefault(cache.digest(shared or index), []).append(index)
    # Arms of one fold share more than folds of one arm.
    return [sorted(group, key=lambda i: str(grid[i].get("fold"))) for group in groups.values()]


def cut(bundles: Sequence[Sequence], at_least: int) -> list[list]:
    """The same bundles, the longest ones halved until there are enough of them."""
    parts = [list(bundle) for bundle in bundles]
    while 0 < len(parts) < at_least and len(longest := max(parts, key=len)) > 1:
        index, half = parts.index(longest), (len(longest) + 1) // 2
        parts[index : index + 1] = [longest[:half], longest[half:]]
    return parts


def cores() -> int:
    """Number of processor cores that this process may use, by its affinity and by SLURM."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(allowed, int(os.environ.get("SLURM_CPUS_PER_TASK", allowed)))


def load(folder: Path, *, cached: bool = True) -> UnitResult | None:
    """The unit stored in a folder; None if there is none, or a torn one."""
    if not cache.is_whole(folder):
        return None
    record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    del record["function"]
    return UnitResult(**record, folder=folder, cached=cached)


def attempt(task: Task) -> str | BadInput:
    """Compute and store a unit, where it runs; what went wrong, or "" if it is stored now."""
    try:
        key = unit_key(task.unit, task.params, code=_code_at_start(task.unit.__module__))
        if key != task.folder.name:
            fault = f"a process on {os.uname().nodename} has other code, libraries or input files"
            raise BadInput(task.folder.name, fault, "restart the program, or the cluster's workers")
        if not cache.make_whole(task.folder, functools.partial(_compute, task), wait=False):
            return _BUSY
    except BadInput as error:
        return error if error.args[-1] == WRITABLE else str(error)  # nor is there room for others
    except Exception:
        return traceback.format_exc()
    return ""


# Later edits do not change what a process has loaded, so a long run may go on through them.
_code_at_start = functools.cache(lambda module: cache.code_key(sys.modules[module]))


def _compute(task: Task, folder: Path) -> None:
    modules, began = set(sys.modules), time.perf_counter()
    outcome = task.unit(**task.params)
    metrics, predictions = outcome if isinstance(outcome, tuple) else (outcome, {})
    seconds = round(time.perf_counter() - began, 3)
    if any(name.startswith("micromacro.") for name in set(sys.modules) - modules):
        cache.code_key(task.unit)  # was a module edited before the unit itself imported it?
    arrays, path = {k: np.asarray(v) for k, v in predictions.items()}, folder / "predictions.npz"
    if any(array.dtype.hasobject for array in arrays.values()):
        raise TypeError("predictions must be arrays of numbers or of fixed-length strings")
    if arrays:
        np.savez_compressed(path, **arrays)
    record = {
        "function": _name(task.unit),
        "params": task.params,
        "metrics": dict(metrics),
        "seconds": seconds,
        "provenance": provenance(str(task.params.get("device", "cpu"))),
    }
    text = json.dumps(record, indent=1, default=_of_numpy)
    (folder / "metrics.json").write_text(text, encoding="utf-8")


Ends = Iterator[tuple[Task, str | BadInput]]  # tasks, and what `attempt` said of each


def _here(bundles: Sequence) -> Ends:
    for task in itertools.chain(*bundles):
        yield task, attempt(task)


def _in_processes(bundles: Sequence, *, workers: int, limit_s: float | None) -> Ends:
    """Attempt tasks in processes of one thread each; none outlives this one, however that ends."""
    waiting, ends, stop = deque(cut(bundles, 2 * workers)), queue.SimpleQueue(), threading.Event()

    def attend() -> None:
        """Give bundles to a process of this thread's own, until none is left."""
        with contextlib.closing(_Worker(limit_s, stop)) as worker, contextlib.suppress(IndexError):
            while True:
                for task in waiting.popleft():
                    if stop.is_set():
                        return
                    try:
                        ends.put((task, worker.attempt(task)))
                    except Exception:  # such as a unit that cannot be pickled
                        ends.put((task, traceback.format_exc()))

    n_tasks = sum(map(len, waiting))
    with ThreadPoolExecutor(workers) as threads:
        for _ in range(workers):
            threads.submit(attend)
        try:
            for _ in range(n_tasks):
                yield ends.get()
        finally:  # by Ctrl-C too
            stop.set()


class _Worker:
    """A process that attempts tasks one at a time; another takes its place when it dies."""

    def __init__(self, limit_s: float | None, stop: threading.Event):
        self.limit_s, self.stop = math.inf if limit_s is None else limit_s, stop
        self.process = None

    def attempt(self, task: Task) -> str | BadInput:
        """What went wrong with a task, "" if nothing.

        A process that dies is no fault of its task at first: another tries it once more. A task
        that takes longer than its limit is killed without a second try.
        """
        module = task.unit.__module__
        for _ in range(2):
            if not self.process and (death := self._start(module)):
                fault = f"a worker process cannot start ({death})"  # nor could any other
                remedy = f"look whether python -c 'import {module}' runs, or give workers=0"
                return BadInput(f"units of {module}", fault, remedy)
            with contextlib.suppress(OSError):  # it dies at this moment: to be heard in the pipe
                self.pipe.send(task)
            began = time.monotonic()  # the module is imported
            while not self.pipe.poll(0.2):
                if self.stop.is_set() or time.monotonic() - began > self.limit_s:
                    self.close()
                    return f"time limit of {self.limit_s:g} s reached"
            with contextlib.suppress(EOFError, OSError):
                return self.pipe.recv()
            death = self.close()
        return f"its worker process died twice ({death})"

    def _start(self, module: str) -> str:
        """Start a process that has imported a unit's module; what killed it, "" if it is there."""
        program = f"import sys; sys.path[:] = {sys.path}; from micromacro.units import work"
        command = [sys.executable, "-c", f"{program}; work({module!r})"]
        self.pipe, theirs = multiprocessing.Pipe()
        try:
            with theirs:
                self.process = subprocess.Popen(command, stdin=theirs, env=os.environ | ONE_THREAD)
            return self.pipe.recv()
        except (EOFError, OSError) as error:
            return self.close() or str(error)

    def close(self) -> str:
        """Kill the process, if there is one; what had ended it."""
        if not self.process:
            return ""
        self.process.kill()
        code, self.process = self.process.wait(), None
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def work(module: str) -> None:
    """Be a worker process: import a unit's module, then attempt tasks while there is a parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    pipe, tasks = multiprocessing.connection.Connection(os.dup(0)), queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                tasks.put(pipe.recv())
        finally:  # whatever the unit does at this moment: the parent is gone
            os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    importlib.import_module(module)
    with contextlib.suppress(BadInput):  # an edited source: its attempt says so
        _code_at_start(module)  # takes a second, which is none of the first unit's time
    pipe.send("")
    while True:
        pipe.send(attempt(tasks.get()))


def _on_cluster(bundles: Sequence, *, address: str) -> Ends:
    """Let the workers of a Dask scheduler do it, each of which must have one thread.

    A lost worker's bundles are done again by another; what they had stored is there. A task with
    ``params["device"]`` "cuda" takes a slot of the resource GPU
    (``dask worker --resources GPU=1``).

    Raises:
        BadInput: The package distributed is missing; the scheduler does not answer, or has died;
            its workers cannot start a unit.
    """
    what = f"scheduler {address}"
    try:
        from distributed import CancelledError, Client, KilledWorker, as_completed

        client = Client(address)
    except ImportError:
        remedy = 'pip install "micromacro[cluster]"'
        raise BadInput(what, "the package distributed is missing", remedy) from None
    except (OSError, ValueError) as error:
        raise BadInput(what, f"does not answer ({error})", "start one: dask scheduler") from None
    for name in ("distributed", "distributed.client"):  # what they say of a death is said below
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with client:
        ends, parts = as_completed(), {}

        def submit(part: Sequence[Task]) -> None:
            gpu = str(part[0].params.get("device", "")).startswith("cuda")
            slots = {"GPU": 1} if gpu else {}
            future = client.submit(_attempt_all, part, resources=slots, pure=False)
            parts[future] = part
            ends.add(future)

        slots = sum(client.nthreads().values()) or sum(map(len, bundles))  # or none has come yet
        for part in cut(bundles, 2 * slots):
            submit(part)
        for future in ends:
            part = parts.pop(future)
            try:
                yield from zip(part, future.result(), strict=True)
            except (CancelledError, OSError):  # the latter by the connection
                remedy = "start it again and repeat the command: what was done is stored"
                raise BadInput(what, "has died", remedy) from None
            except KilledWorker as error:  # several died, and one of the tasks is to blame
                if len(part) == 1:
                    yield part[0], f"KilledWorker: {error}"
                for task in part if len(part) > 1 else ():
                    submit([task])
            except Exception as error:  # an attempt raises nothing: it has not even begun
                fault = f"its workers cannot start units of {part[0].unit.__module__} ({error})"
                remedy = "start scheduler and workers with this code and these libraries"
                raise BadInput(what, fault, remedy) from None


def _attempt_all(tasks: Sequence[Task]) -> list[str | BadInput]:
    from distributed import get_worker

    if get_worker().state.nthreads != 1:  # units draw from the process's random stream
        return ["this worker has several threads: start it with --nthreads 1"] * len(tasks)
    return [attempt(task) for task in tasks]


def _from_environment() -> int:
    text = os.environ.get("MICROMACRO_WORKERS") or "0"
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
        return json.loads(json.dumps(dict(params), default=_of_numpy))
    except TypeError as error:
        raise BadInput(f"parameters {dict(params)}", str(error), "give JSON values") from None


def _of_numpy(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _name(function: Callable) -> str:
    module, name = function.__module__, function.__qualname__
    if module == "__main__" or "<" in name:
        fault = "worker processes cannot import it by name"
        raise BadInput(f"unit {name}", fault, "define it at the top level of a module")
    return f"{module}:{name}"
