"""Units for tests of units, and what those tests need of processes.

Worker processes import this module by name; whole programs run it.
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from micromacro import results

GRID = [{"a": a, "seed": a // 2} for a in range(12)]

if "torch" not in sys.modules:
    # A process of its own has nothing to compute: torch would take two seconds of each of dozens.
    # What it says of torch beside a unit is tested where real units run.
    results._process = lambda: {"torch": "not loaded"}
    time.sleep(float(os.environ.get("SLOW_IMPORT_S", 0)))  # stands for what real units import


def log(line: object) -> None:
    with Path("log").open("a") as file:
        file.write(f"{line} {os.getpid()}\n")


def calls() -> list[tuple[str, int]]:
    """(first parameter, process) of each call of a unit so far."""
    lines = Path("log").read_text().split("\n")[:-1] if Path("log").exists() else []
    return [(a, int(pid)) for a, pid in map(str.split, lines)]


def called() -> str:
    """First parameters of all calls, sorted."""
    return " ".join(sorted((a for a, _ in calls()), key=int))


def alive(pid: int) -> bool:
    """Whether a process runs; one that was not waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def slow(a, seed=None, device="cpu"):
    log(a)
    time.sleep(0.05)
    while a >= 4 and not Path("go").exists():
        time.sleep(0.02)
    return {"a": a}


def failing(a, seed=None):
    log(a)
    if a == 1:
        raise ValueError("one is bad")
    return {"a": a}


def killed(a, times, seed=None):
    """Dies at its first calls, so many times."""
    log(a)
    if called().split().count(str(a)) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"a": a}


def nap(seconds):
    log(seconds)
    time.sleep(seconds)
    return {}


def arrays(n):
    return {"n": n}, {"noise": np.random.default_rng(0).random(n)}


def threads():
    return {"threads": os.environ["OMP_NUM_THREADS"]}


if __name__ == "__main__":
    import processes

    from micromacro.units import run

    workers = int(sys.argv[1])
    for result in run(processes.slow, GRID[:8], workers=workers, root=Path.cwd(), progress=False):
        print(result.metrics["a"])
