"""A small pool of processes for long tasks, made for things that die.

Used by :mod:`micromacro.units` (units) and :mod:`micromacro.batch` (notebooks). Each worker
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
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded early: used after a fork


@dataclass(frozen=True)
class Event:
    """What happened to one task.

    Attributes:
        index: Position of the task in the sequence given to :func:`run_tasks`.
        kind: ``"start"``, ``"note"`` (sent by the task), ``"retry"`` (its worker died), or one of
            the three ends: ``"done"``, ``"error"``, ``"died"``; ``"tick"`` belongs to no task.
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
    tick_s: float | None = None,
) -> Iterator[Event]:
    """Call ``function(task, note)`` for every task, ``workers`` at once, and yield what happens.

    Args:
        function: Importable by name; ``note(value)`` sends a progress note to the caller. Its
            result travels back by pickle, so keep it small.
        tasks: Picklable arguments.
        workers: Number of processes, at least 1.
        limit_s: Wall-clock limit of one task in seconds, the start of its worker not counted;
            beyond it the worker is killed and the task ends as ``"died"`` without a second try.
        retries: How often a task whose worker died is tried again.
        tick_s: Yield an event ``"tick"`` (index -1) when nothing happened for so many seconds.

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
            ready = _ready(pool, tick_s)
            if not ready:
                yield Event(-1, "tick")
            for worker in ready:
                event = worker.read()
                if event.kind == "died" and worker.tries < retries and not worker.timed_out:
                    waiting.append((event.index, worker.tries + 1))
                    event = Event(event.index, "retry", event.value)
                yield event
    finally:
        for worker in pool:
            worker.kill()


def kill_with_parent(parent_pid: int) -> None:
    """Make the calling process end when its parent does, even by SIGKILL; at once, on Linux only.

    Args:
        parent_pid: The parent's process id, to notice a parent that died before this call.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def _watch_parent() -> None:
    """The same on every system, from a thread, in a process that multiprocessing spawned."""
    sentinel = multiprocessing.parent_process().sentinel
    threading.Thread(target=_exit_after, args=(sentinel,), daemon=True).start()


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
    kill_with_parent(parent_pid)
    _watch_parent()
    while True:
        task = connection.recv()
        connection.send(("start", None))
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
        self._limit_s, self.deadline = limit_s, float("inf")
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
        if kind == "start" and self._limit_s is not None:
            self.deadline = time.monotonic() + self._limit_s
        self.busy = kind in ("start", "note")
        return Event(self.index, kind, value)

    def kill(self) -> None:
        self.alive = self.busy = False
        self._process.kill()
        self._process.join()
        self._connection.close()

    @property
    def connection(self):
        return self._connection


def _ready(pool: Sequence[_Worker], tick_s: float | None) -> list[_Worker]:
    """Wait until a busy worker has something to say or is late; those workers; none at a tick."""
    busy = [worker for worker in pool if worker.busy]
    left = min(worker.deadline for worker in busy) - time.monotonic()
    left = min(left, float("inf") if tick_s is None else tick_s)
    timeout = None if left == float("inf") else max(left, 0)
    spoke = multiprocessing.connection.wait([worker.connection for worker in busy], timeout)
    now = time.monotonic()
    return [worker for worker in busy if worker.connection in spoke or now >= worker.deadline]


def _cause_of_death(exitcode: int) -> str:
    if exitcode < 0:
        return f"its worker process was killed ({signal.Signals(-exitcode).name})"
    return f"its worker process ended with exit status {exitcode}"
