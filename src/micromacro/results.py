"""Rows: the numbers that notebooks hand over, and where they come from."""

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from micromacro.errors import BadInput
from micromacro.files import replacing

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd  # imported where they are used: workers start without them


def project_root() -> Path:
    """Folder that holds ``notebooks``, ``data`` and ``runs``, from any working directory.

    The environment variable ``MICROMACRO_ROOT``; else the checkout that holds this package (a
    ``pyproject.toml`` beside ``src``); else the working directory.
    """
    if root := os.environ.get("MICROMACRO_ROOT"):
        return Path(root).resolve()
    return _checkout() or Path.cwd()


def make_writable(folder: Path) -> None:
    """Create a folder, and make sure that files can be written there.

    Raises:
        BadInput: It cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        remedy = "make it writable, or set MICROMACRO_ROOT to a folder that is"
        raise BadInput(folder, f"cannot write there ({error.strerror})", remedy) from None


def provenance(device: str = "cpu") -> dict[str, str]:
    """Where and when: ``device``, ``python``, ``torch``, ``git_sha`` (with -dirty), ``utc``."""
    return {
        "device": device,
        "python": platform.python_version(),
        "torch": version("torch"),
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


COLUMNS = (
    "notebook",
    "system",
    "arm",
    "params",
    "dataset",
    "split",
    "profile",
    "seed",
    "fold",
    "metric",
    "value",
    "n",
    "seconds",
    "device",
    "python",
    "torch",
    "git_sha",
    "utc",
)
_IDENTITY = [*COLUMNS[:10], "device"]  # what the number is of; the rest is the number itself


def write_rows(rows: Iterable[Row], out: str | os.PathLike | None) -> list[Path]:
    """Hand rows over to the run: ``<out>/rows/<notebook>__<profile>__<device>.csv``.

    ``out`` is the notebook's parameter ``OUT``, the run's folder under ``make reproduce``. None (a
    notebook run by hand) writes nothing. A second call adds to the file; a row that is there
    already (same columns up to ``metric``, same device) is replaced.

    Returns:
        The files written.
    """
    import pandas as pd

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


def write_predictions(
    notebook: str,
    arrays: Mapping[str, "np.ndarray"],
    out: str | os.PathLike | None,
    *,
    profile: str,
    device: str = "cpu",
) -> Path | None:
    """Hand the core units' predictions over to the run, beside their rows.

    They are written to ``<out>/rows/<notebook>__<profile>__<device>__predictions.npz``, floats as
    float16; `make full` copies the file to ``data/results``.

    Args:
        notebook: Its name.
        arrays: By name: clip, person, truth, and one array for each arm.
        out: The notebook's parameter ``OUT``; None writes nothing.
        profile: "smoke", "full" or "paper".
        device: That computed them.

    Returns:
        The file written.
    """
    import numpy as np

    if out is None:
        return None
    path = Path(out) / "rows" / f"{notebook}__{profile}__{device}__predictions.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    small = {k: v.astype(np.float16) if v.dtype.kind == "f" else v for k, v in arrays.items()}
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **small)
    return path


def write_benchmark(name: str, rows: Iterable[Mapping], on: str | None = None) -> Path:
    """Write a benchmark's rows to ``data/results/<name>__<hardware>.csv``, with their provenance.

    Args:
        name: Of the benchmark.
        rows: Each with ``method, setting, metric, value, unit``; where it applies also ``q25, q75,
            rounds, n``.
        on: Hardware that was measured; None for this processor. Two GPUs beside processors of one
            kind are two files.

    Returns:
        The file written; one of an earlier run is replaced.
    """
    import pandas as pd

    stamp = {"hardware": on or hardware(), **provenance()}
    del stamp["device"]  # the hardware says more
    columns = ["method", "setting", "metric", "value", "unit", "q25", "q75", "rounds", "n", *stamp]
    table = pd.DataFrame([{**row, **stamp} for row in rows], columns=columns)
    slug = re.sub(r"[^a-z0-9]+", "-", stamp["hardware"].lower()).strip("-")
    path = project_root() / "data" / "results" / f"{name}__{slug}.csv"
    make_writable(path.parent)
    write_atomically(path, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return path


def hardware() -> str:
    """The processor, as the system names it, and its number of cores."""
    found = None
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    name = found.group(1).strip() if found else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def read_rows(path: str | os.PathLike, dtype: type | None = None) -> "pd.DataFrame":
    """Rows as :func:`write_rows` wrote them; an empty cell stays ``""`` where ``dtype=str``."""
    import pandas as pd

    return pd.read_csv(path, dtype=dtype, keep_default_na=dtype is None)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that readers see the old one or the new one, never a part."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _record(row: Row, here: dict[str, str]) -> dict[str, str]:
    values = {f.name: getattr(row, f.name) for f in fields(row)}
    if not isinstance(row.params, str):
        values["params"] = json.dumps(row.params, sort_keys=True)
    values["device"] = re.sub(r"[^A-Za-z0-9.]+", "-", row.device)
    for name in ("python", "torch", "git_sha", "utc"):
        values[name] = values[name] or here[name]
    values["value"] = repr(float(row.value))
    return {name: "" if values[name] is None else str(values[name]) for name in COLUMNS}


def _checkout() -> Path | None:
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").exists() else None


def _git(root: Path, *command: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(root), *command], capture_output=True, text=True, timeout=30, check=True
    )
    return answer.stdout.strip()


def _git_sha() -> str:
    if named := os.environ.get("MICROMACRO_GIT_SHA"):  # a copy of the tree without its .git
        return named
    root = _checkout()
    if root is None:
        return "unknown"
    try:
        # Results of another run beside the code do not change what this one measures.
        changed = _git(root, "status", "--porcelain", "--", ".", ":!data/results")
        dirty = "-dirty" if changed else ""
        return _git(root, "rev-parse", "--verify", "HEAD") + dirty
    except (OSError, subprocess.SubprocessError):  # no git, no checkout, no commit yet
        return "unknown"


def version(package: str) -> str:
    """Installed version of a package, without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
