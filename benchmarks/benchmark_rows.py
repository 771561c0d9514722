"""How a benchmark's rows are kept; the benchmarks beside this file import it."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from micromacro.files import make_writable, project_root, write_atomically
from micromacro.results import hardware, provenance


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
