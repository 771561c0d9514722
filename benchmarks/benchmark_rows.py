"""How a benchmark is timed and its rows are kept; the benchmarks beside this file import it."""

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from micromacro.files import make_writable, project_root, write_atomically
from micromacro.results import hardware, provenance

AT_LEAST_S = 0.02  # that each arm runs in a round


@dataclass(frozen=True)
class Arm:
    """One method in one setting; a call of ``work`` makes ``n`` of what is counted."""

    method: str
    setting: str
    n: int
    work: Callable[[], object]


def cpu_s(work: Callable[[], object], repeats: int = 1) -> float:
    """CPU time of some calls."""
    start = time.process_time()
    for _ in range(repeats):
        work()
    return time.process_time() - start


def measure(arms: Sequence, rounds: int) -> tuple[np.ndarray, list[int]]:
    """Interleave the arms, after a call of each to warm up: each round runs all, in rotating order.

    Args:
        arms: Each with ``work`` and ``n``, as `Arm`.
        rounds: Number of rounds.

    Returns:
        CPU seconds for one of what is counted, (rounds, arms); of how many each is the mean.
    """
    for arm in tqdm(arms, "warm up"):
        arm.work()
    repeats = [math.ceil(AT_LEAST_S / cpu_s(arm.work)) for arm in arms]
    s = np.empty((rounds, len(arms)))
    for r in tqdm(range(rounds), "rounds"):
        for i in np.roll(np.arange(len(arms)), r * len(arms) // rounds):
            s[r, i] = cpu_s(arms[i].work, repeats[i]) / (repeats[i] * arms[i].n)
    return s, [n * arm.n for n, arm in zip(repeats, arms, strict=True)]


def spread(values: np.ndarray) -> dict[str, float]:
    """Median and quartiles over the rounds, as fields of a row."""
    return dict(zip(("q25", "value", "q75"), np.quantile(values, [0.25, 0.5, 0.75]), strict=True))


def write_benchmark(name: str, rows: Iterable[Mapping], on: str | None = None) -> Path:
    """Write a benchmark's rows to ``data/results/<name>__<hardware>.csv``, with their provenance.

    Args:
        name: The benchmark's name.
        rows: Each with ``method, setting, metric, value, unit``; where it applies also ``q25, q75,
            rounds, n``.
        on: Hardware that was measured; None for this processor. Two GPUs beside processors of one
            kind are two files.

    Returns:
        The file written; one of an earlier run is replaced.
    """
    stamp = {"hardware": on or hardware(), **provenance()}
    del stamp["device"]  # the hardware says more
    columns = ["method", "setting", "metric", "value", "unit", "q25", "q75", "rounds", "n", *stamp]
    table = pd.DataFrame([{**row, **stamp} for row in rows], columns=columns)
    slug = re.sub(r"[^a-z0-9]+", "-", stamp["hardware"].lower()).strip("-")
    path = project_root() / "data" / "results" / f"{name}__{slug}.csv"
    make_writable(path.parent)
    write_atomically(path, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return path
