"""A small pool of processes for long tasks, made for things that die.

Used by :mod:`micromacro.experiments` (units) and :mod:`micromacro.batch` (notebooks). Each worker
is a spawned process with one thread. A worker that is killed takes down its own task only; the task
is tried once more in a new worker. A worker never outlives its parent, however the parent ends.
"""

import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

# Read by the libraries at load time, so they must be set before a worker imports anything.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)
_PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>


@dataclass(frozen=True)
class Event:
    """What happened to one task.

    Attributes:
        index: Position of the task in the sequence given to :func:`run_tasks`.
        kind: ``"start"``, ``"note"`` (sent by the task), ``"retry"`` (its worker died), or one of
            the three ends: ``"done"``, ``"error"``, ``"died"``.
        value: The note, the result (``"done"``), or a text that says what went wrong.
    """

    index: int
    kind: str
    value: object = None


def run_tasks(
    function: Callable,
    tasks: Sequence,
    *,
    workers: int,
    limit_s: float | None = None,
    retries: int = 1,
) -> Iterator[Event]:
    """Call ``function(task, note)`` for every task, ``workers`` at once, and yield what happens.

    Args:
        function: Importable by name; ``note(value)`` sends a progress note to the caller. Its
            result travels back by pickle, so keep it small.
        tasks: Picklable arguments.
        workers: Number of processes, at least 1.
        limit_s: Wall-clock limit of one task in seconds; beyond it the worker is killed and the
            task ends as ``"died"`` without a second try.
        retries: How often a task whose worker died is tried again.

    Yields:
        Events in the order they happen; each task ends exactly once. Leaving the loop early, by an
        exception too, kills the workers.
    """
    waiting = deque((index, 0) for index in range(len(tasks)))
    pool: list[_Worker] = []
    try:
        while waiting or any(worker.busy for worker in pool):
            pool = [worker for worker in pool if worker.alive]
            idle = [worker for worker in pool if not worker.busy]
            while waiting and (idle or len(pool) < workers):
                worker = idle.pop() if idle else _Worker(function)
                if worker not in pool:
                    pool.append(worker)
                index, tries = waiting.popleft()
                worker.give(index, tries, tasks[index], limit_s)
                yield Event(index, "start")
            for worker in _ready(pool):
                event = worker.read()
                if event.kind == "died" and worker.tries < retries and not worker.timed_out:
                    waiting.append((event.index, worker.tries + 1))
                    event = Event(event.index, "retry", event.value)
                yield event
    finally:
        for worker in pool:
            worker.kill()


def die_with_parent(parent_pid: int | None = None) -> None:
    """Make the calling process end when its parent does, even by SIGKILL.

    Linux does it at once; a watcher thread does it wherever :mod:`multiprocessing` spawned the
    process.

    Args:
        parent_pid: The parent's process id, to notice a parent that died before this call.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent_pid is not None and os.getppid() != parent_pid:
        os._exit(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


@contextlib.contextmanager
def _one_thread_for_children() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection, function: Callable, parent_pid: int) -> None:
    """Body of a worker process: one task after the other until the parent goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    die_with_parent(parent_pid)
    while True:
        task = connection.recv()
        try:
            reply = ("done", function(task, lambda value: connection.send(("note", value))))
        except Exception:
            reply = ("error", traceback.format_exc())
        connection.send(reply)


class _Worker:
    """The parent's side of one worker process."""

    def __init__(self, function: Callable):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, function, os.getpid()))
        with _one_thread_for_children():
            self._process.start()
        theirs.close()  # so that the end of the worker reads as the end of the file
        self.alive, self.busy, self.timed_out = True, False, False

    def give(self, index: int, tries: int, task, limit_s: float | None) -> None:
        self.index, self.tries, self.busy = index, tries, True
        self._limit_s = limit_s
        self.deadline = float("inf") if limit_s is None else time.monotonic() + limit_s
        with contextlib.suppress(BrokenPipeError):  # already dead: read() will say so
            self._connection.send(task)

    def read(self) -> Event:
        """The next event of the current task; also where a dead or late worker is found out."""
        if time.monotonic() >= self.deadline:
            self.timed_out = True
            self.kill()
            return Event(self.index, "died", f"time limit of {self._limit_s:g} s reached")
        try:
            kind, value = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            self.kill()
            return Event(self.index, "died", _cause_of_death(self._process.exitcode))
        self.busy = kind == "note"
        return Event(self.index, kind, value)

    def kill(self) -> None:
        self.alive = self.busy = False
        self._process.kill()
        self._process.join()
        self._connection.close()

    @property
    def connection(self):
        return self._connection


def _ready(pool: Sequence[_Worker]) -> list[_Worker]:
    """Wait until a busy worker has something to say or is late; those workers."""
    busy = [worker for worker in pool if worker.busy]
    left = min(worker.deadline for worker in busy) - time.monotonic()
    timeout = None if left == float("inf") else max(left, 0)
    spoke = multiprocessing.connection.wait([worker.connection for worker in busy], timeout)
    now = time.monotonic()
    return [worker for worker in busy if worker.connection in spoke or now >= worker.deadline]


def _cause_of_death(exitcode: int) -> str:
    if exitcode < 0:
        return f"its worker process was killed ({signal.Signals(-exitcode).name})"
    return f"its worker process ended with exit status {exitcode}"
