"""Where tasks are done: one `submit`, and behind it this process, processes, or a Dask cluster.

Tasks come in bundles. Those of one bundle share work: they are done by one worker, one after the
other; bundles are cut only where workers would be idle.
"""

import contextlib
import ctypes
import itertools
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from queue import SimpleQueue

from micromacro.errors import BadInput

# Read by the libraries when they load, so they must be set before a process imports anything.
_LIBRARIES = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM", "OPENCV_FOR")
_ONE_THREAD = dict.fromkeys([f"{name}_NUM_THREADS" for name in _LIBRARIES], "1")
_PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>
_spawning = threading.Lock()  # the environment is changed while a process starts

Outcomes = Iterator[tuple[object, str]]


def cores() -> int:
    """Number of processor cores that this process may use, by its affinity and by SLURM."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(allowed, int(os.environ.get("SLURM_CPUS_PER_TASK", allowed)))


def cut(bundles: Sequence[Sequence], at_least: int) -> list[list]:
    """The same bundles, the longest ones halved until there are enough of them."""
    parts = [list(bundle) for bundle in bundles]
    while 0 < len(parts) < at_least and len(longest := max(parts, key=len)) > 1:
        index, half = parts.index(longest), (len(longest) + 1) // 2
        parts[index : index + 1] = [longest[:half], longest[half:]]
    return parts


def submit(
    attempt: Callable,
    bundles: Sequence[Sequence],
    *,
    workers: int = 0,
    limit_s: float | None = None,
    scheduler: str | None = None,
) -> Outcomes:
    """Do tasks, and give (task, outcome) as they end.

    Args:
        attempt: Function of a module that does one task and never raises; its outcome is a text, ""
            if all went well. Where a task's process dies, the outcome says so instead.
        bundles: The tasks. They and `attempt` travel by pickle.
        workers: Number of processes of this machine; 0 does all in this one.
        limit_s: Wall-clock seconds of one task, only for processes of this machine.
        scheduler: Address of a Dask scheduler, ``tcp://HOST:PORT``, whose workers do the tasks.

    Raises:
        BadInput: A limit elsewhere; and as `_on_cluster`.
    """
    if limit_s is not None and (scheduler or not workers):
        raise BadInput("limit_s", "needs processes of this machine", "give workers, no scheduler")
    if scheduler:
        return _on_cluster(attempt, bundles, scheduler)
    if workers:
        return _in_processes(attempt, bundles, workers, limit_s)
    return ((task, attempt(task)) for task in itertools.chain(*bundles))


def _in_processes(
    attempt: Callable, bundles: Sequence[Sequence], workers: int, limit_s: float | None
) -> Outcomes:
    """Spawn processes of one thread each; none outlives this one, however that ends.

    A process that dies takes its own task down, which is tried once more. A task that takes longer
    than its limit, the start of its process not counted, is killed without a second try.
    """
    waiting, ends = deque(cut(bundles, 2 * workers)), SimpleQueue()
    crew = [_Worker(attempt, limit_s) for _ in range(min(workers, len(waiting)))]

    def work(worker: _Worker) -> None:
        with contextlib.suppress(IndexError):  # none is waiting
            while True:
                for task in waiting.popleft():
                    ends.put((task, worker.outcome(task)))
        worker.stop()

    try:
        for worker in crew:
            threading.Thread(target=work, args=(worker,), daemon=True).start()
        for _ in itertools.chain(*bundles):
            yield ends.get()
    finally:
        waiting.clear()
        for worker in crew:
            worker.stop()


class _Worker:
    """This side of a process that attempts one task at a time; it is replaced when it dies."""

    def __init__(self, attempt: Callable, limit_s: float | None):
        self._attempt, self._limit_s = attempt, limit_s
        self._process, self._stopped = None, False

    def outcome(self, task: object) -> str:
        try:
            for _ in range(2):
                with contextlib.suppress(EOFError, ConnectionError):
                    if self._process is None:
                        self._start()
                    self._pipe.send(task)
                    self._pipe.recv()  # it has come, all is imported: the limit counts from here
                    if self._pipe.poll(self._limit_s):
                        return self._pipe.recv()
                    self._bury(patience_s=0)
                    return f"time limit of {self._limit_s:g} s reached"
                death = self._bury(patience_s=5)
        except Exception:  # such as a task that cannot be pickled
            return traceback.format_exc()
        return f"its worker process died twice ({death})"

    def stop(self) -> None:
        with _spawning:
            self._stopped = True
            if process := self._process:
                process.kill()

    def _start(self) -> None:
        from unittest import mock  # late: it is slow to import

        context = multiprocessing.get_context("spawn")
        with _spawning, mock.patch.dict(os.environ, _ONE_THREAD):
            if self._stopped:
                raise RuntimeError("stopped")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._attempt))
            self._process.start()
            theirs.close()  # so that the end of the process reads as the end of the file

    def _bury(self, *, patience_s: float) -> str:
        self._process.join(patience_s)
        self._process.kill()
        self._process.join()
        code, self._process = self._process.exitcode, None
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _serve(pipe, attempt: Callable) -> None:
    """Body of a worker process: one task after the other until the parent goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    if sys.platform == "linux":  # at once, even while a task holds the interpreter
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        task = pipe.recv()
        pipe.send("begun")
        pipe.send(attempt(task))


def _end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _on_cluster(attempt: Callable, bundles: Sequence[Sequence], address: str) -> Outcomes:
    """Let the workers of a Dask scheduler do it, each of which must have one thread.

    A lost worker's bundles are done again by another; what they had stored is there. A task with
    ``params["device"]`` "cuda" takes a slot of the resource GPU (``dask worker --resources GPU=1``).

    Raises:
        BadInput: The package distributed is missing; the scheduler does not answer, or has died.
    """
    what = f"scheduler {address}"
    try:
        from distributed import CancelledError, Client, as_completed
    except ImportError:
        remedy = 'pip install "micromacro[cluster]"'
        raise BadInput(what, "the package distributed is missing", remedy) from None
    try:
        client = Client(address)
    except (OSError, ValueError) as error:
        raise BadInput(what, f"does not answer ({error})", "start one: dask scheduler") from None
    for name in ("distributed", "distributed.client"):  # what they say of a death is said below
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with client:
        ends, parts = as_completed(), {}
        slots = sum(client.nthreads().values()) or sum(map(len, bundles))  # or none has come yet
        waiting = cut(bundles, 2 * slots)
        while waiting or parts:
            for part in waiting:
                gpu = str(part[0].params.get("device", "")).startswith("cuda")
                kind = {"resources": {"GPU": 1} if gpu else {}, "pure": False}
                future = client.submit(_attempt_all, attempt, part, **kind)
                parts[future] = part
                ends.add(future)
            future = next(ends)
            part, waiting = parts.pop(future), []
            try:
                yield from zip(part, future.result(), strict=True)
            except CancelledError:
                remedy = "start it again and repeat the command: what was done is stored"
                raise BadInput(what, "has died", remedy) from None
            except Exception as error:  # several workers died, and one of the tasks is to blame
                waiting = [[task] for task in part if len(part) > 1]
                yield from (
                    (part[0], f"{type(error).__name__}: {error}") for _ in part[len(waiting) :]
                )


def _attempt_all(attempt: Callable, tasks: Sequence) -> list[str]:
    from distributed import get_worker

    if get_worker().state.nthreads != 1:  # units draw from the process's random stream
        return ["this worker has several threads: start it with --nthreads 1"] * len(tasks)
    return [attempt(task) for task in tasks]
