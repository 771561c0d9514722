"""Results: the rows that notebooks hand over, where they come from, and how arms compare.

A row is one number of one experiment, with everything that says where it comes from. Rows of units
are made by `unit_rows`, written by `write_rows`, and compared, arm with arm over the seeds that
both have, by a `Comparison`: its tables are what an ablation notebook shows.
"""

import contextlib
import functools
import importlib.metadata
import io
import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from micromacro import statistics
from micromacro.cache import forced_instructions
from micromacro.errors import BadInput
from micromacro.files import checkout, project_root, read_npz, reading, replacing, write_atomically
from micromacro.statistics import Interval, paired_interval

Out = str | os.PathLike | None  # a notebook's parameter OUT
_AGAIN = "take it from git again, or make it again"
# Name, as torch calls it -> environment that holds torch, oneDNN and MKL to it; oldest first.
INSTRUCTION_SETS = {
    name: {"ATEN_CPU_CAPABILITY": name, "ONEDNN_MAX_CPU_ISA": one_dnn, "MKL_CBWR": mkl}
    for name, one_dnn, mkl in (
        ("default", "SSE41", "COMPATIBLE"),
        ("avx2", "AVX2", "AVX2"),
        ("avx512", "AVX512_CORE", "AVX512"),
    )
}


# Where numbers come from --------------------------------------------------------------------------


def provenance(device: str = "cpu") -> dict[str, str]:
    """Where and when: ``device, python, torch, git_sha`` (with -dirty), ``utc, cpu, isa``.

    A GPU is named by its model. All but device and time are read once a process: they belong to the
    code that it has loaded.
    """
    if device.startswith("cuda"):
        import torch  # late: it costs a process seconds

        device = torch.cuda.get_device_name(device) if torch.cuda.is_available() else device
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"device": device, "utc": now, **_process()}


@functools.cache
def _process() -> dict[str, str]:
    import torch

    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "git_sha": _git_sha(),
        "cpu": _processor(),
        # The instructions that torch computes with; trained numbers differ between them.
        "isa": " ".join([torch.backends.cpu.get_cpu_capability(), *forced_instructions()]),
    }


def hardware() -> str:
    """The processor, as the system names it, and its number of cores."""
    return f"{_processor()}, {os.cpu_count()} cores"


def version(package: str) -> str:
    """Installed version of a package, without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _processor() -> str:
    model = None
    with contextlib.suppress(OSError):  # only Linux has this file
        model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return model.group(1).strip() if model else platform.processor() or platform.machine()


def _git_sha() -> str:
    if named := os.environ.get("MICROMACRO_GIT_SHA"):  # a copy of the tree without its .git
        return named
    git = ["git", "-C", str(checkout()), "status", "--branch", "--porcelain=v2"]
    # Results and verdicts of another run beside the code do not change what this one measures.
    git += ["--", ".", ":!data/results", ":!data/claims.csv"]
    ask = functools.partial(subprocess.run, capture_output=True, text=True, timeout=30)
    try:
        answer = ask(git, check=True)
        claims = ask([*git[:3], "show", "HEAD:./data/claims.csv"]).stdout
    except (OSError, subprocess.SubprocessError):  # no git, no checkout
        return "unknown"
    head, *lines = answer.stdout.splitlines()  # "# branch.oid <commit>", other headers, changes
    changed = any(not line.startswith("#") for line in lines)
    with contextlib.suppress(OSError, UnicodeDecodeError):  # a checkout without claims
        now = Path(checkout(), "data", "claims.csv").read_text(encoding="utf-8")
        changed |= _claimed(now) != _claimed(claims)
    return head.removeprefix("# branch.oid ") + ("-dirty" if changed else "")


def _claimed(table: str) -> str:
    """The text of `data/claims.csv` without what runs write into it."""
    with contextlib.suppress(ValueError):  # no table
        claims = pd.read_csv(io.StringIO(table), dtype=str)
        return claims.drop(columns=["verdict", *Interval._fields], errors="ignore").to_csv()
    return table


# Rows ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One number of one experiment, as ``data/results/*.csv`` holds it.

    The last six fields say where the number comes from; those left None are filled in by
    `write_rows`. For a unit's number give them as ``**result.provenance``.
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
    cpu: str | None = None
    isa: str | None = None


_FIELDS = [f.name for f in fields(Row)]
# The columns put first what a number is of, as far as "metric"; the number itself comes after.
_IDENTITY = [*_FIELDS[:3], *_FIELDS[6:12], "metric"]
COLUMNS = [*_IDENTITY, "value", "n", *_FIELDS[12:]]


def write_rows(rows: Iterable[Row], out: Out) -> list[Path]:
    """Hand rows over to the run: ``<out>/rows/<notebook>__<profile>__<device>.csv``.

    ``out`` is the notebook's parameter ``OUT``, the run's folder under ``make reproduce``. None (a
    notebook run by hand) writes nothing. A second call adds to the file; a row that is there
    already (same columns up to ``metric``, same device) is replaced.

    Returns:
        The files written.
    """
    if out is None:
        return []
    frame = pd.DataFrame(map(_record, rows), columns=COLUMNS, dtype=str)
    written = []
    for (notebook, profile, device), part in frame.groupby(["notebook", "profile", "device"]):
        path = Path(out) / "rows" / f"{notebook}__{profile}__{device}.csv"
        if path.exists():
            part = pd.concat([read_rows(path, dtype=str), part])
        part = part.drop_duplicates([*_IDENTITY, "device"], keep="last")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, part.to_csv(index=False, lineterminator="\n"))
        written.append(path)
    return written


def _record(row: Row) -> dict[str, str]:
    values = provenance() | {k: value for k, value in vars(row).items() if value is not None}
    values["params"] = json.dumps(row.params, sort_keys=True)
    values["device"] = _slug(row.device)
    values["value"] = repr(float(row.value))
    return {name: str(values.get(name, "")) for name in COLUMNS}


def _slug(device: str) -> str:
    """A device as files are named by it: "NVIDIA H200" is "nvidia-h200"."""
    return re.sub(r"[^a-z0-9.]+", "-", device.lower())


def read_rows(path: str | os.PathLike, dtype: type | None = None) -> pd.DataFrame:
    """Rows as `write_rows` wrote them; an empty cell stays ``""`` where ``dtype=str``.

    Files from before there was a column have it empty.

    Raises:
        BadInput: It cannot be read, is no such table, or a row has no number.
    """
    with reading(Path(path), "a table of rows", _AGAIN):
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        frame.loc[0, ["arm", "metric", "git_sha"]]
        frame[["value", "n"]].astype(float)
        frame["utc"].map(datetime.fromisoformat)  # of the last columns: no comma is lost before it
        if dtype is None:
            frame = pd.read_csv(path)
    frame[[name for name in COLUMNS if name not in frame]] = ""
    return frame


def write_predictions(
    notebook: str, arrays: Mapping, out: Out, *, profile: str, device: str = "cpu"
) -> Path | None:
    """Hand the core units' predictions over to the run, beside their rows.

    They are written to ``<out>/rows/<notebook>__<profile>__<device>__predictions.npz``, floats as
    float16; `make full` copies the file to ``data/results``.

    Args:
        notebook: Its name.
        arrays: As `unit_arrays` gives them: clip, person, truth, and the arrays of each arm.
        out: The notebook's parameter ``OUT``; None writes nothing.
        profile: "smoke", "full" or "paper".
        device: The device that computed them.

    Returns:
        The file written.
    """
    if out is None:
        return None
    device = _slug(provenance(device)["device"])
    path = Path(out) / "rows" / f"{notebook}__{profile}__{device}__predictions.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    small = {k: v.astype(np.float16) if v.dtype.kind == "f" else v for k, v in arrays.items()}
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **small)
    return path


def committed_predictions(notebook: str) -> dict[str, np.ndarray]:
    """Predictions of the committed full run, floats as float32; empty where there are none."""
    path = project_root() / "data" / "results" / f"{notebook}__full__cpu__predictions.npz"
    if not path.exists():
        return {}
    stored = read_npz(path, "predictions", _AGAIN)
    return {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in stored.items()}


# From units to rows and predictions ---------------------------------------------------------------

Groups = Mapping[tuple[str, int], list]  # what `units.run` gave of an arm and a seed, by fold


def by_arm_and_seed(grid: Mapping[str, Iterable[Mapping]], units: Iterable) -> Groups:
    """The units of each arm and seed: all their folds, in the order of the grid.

    Args:
        grid: Arm name -> parameters of its units, as a system's ``grid(...)`` gives it.
        units: What `units.run` made of them, in any order; arms may share units.
    """
    key = functools.partial(json.dumps, sort_keys=True)
    known, groups = {key(unit.params): unit for unit in units}, {}
    for arm, of_arm in grid.items():
        for params in of_arm:
            groups.setdefault((arm, params["seed"]), []).append(known[key(params)])
    return groups


def unit_rows(
    groups: Groups, scores: Callable, *, sweep: Mapping[str, dict] | None = None, **common
) -> list[Row]:
    """Rows of units: the scores of all folds of an arm and a seed together.

    Args:
        groups: As `by_arm_and_seed` gives them.
        scores: Makes of the list of one arm's and seed's folds the fields of its rows: ``metric,
            value, n``, and where rows differ in them ``split``, ``dataset``, ``params``.
        sweep: Arm -> options. The rows of these arms hold them, without "seeds", as ``params``, and
            those of profile "full" go to the file of profile "sweep".
        common: Fields that all rows have: ``notebook, system, profile``, and the like.
    """
    rows = []
    for (arm, seed), folds in groups.items():
        known = {"arm": arm, "seed": seed, "seconds": sum(fold.seconds for fold in folds)}
        # Folds may come from several machines or commits: a row names them all.
        each = pd.DataFrame([fold.provenance for fold in folds])
        made = {name: " + ".join(each[name].unique()) for name in each}
        known |= common | made | {"utc": each["utc"].max()}
        if sweep and arm in sweep:
            known["params"] = {k: v for k, v in sweep[arm].items() if k != "seeds"}
            known["profile"] = "sweep" if known["profile"] == "full" else known["profile"]
        rows += [Row(**known | score) for score in scores(folds)]
    return rows


def unit_arrays(
    groups: Groups, pooled: Callable, *, own: Sequence[str], shared: Sequence[str]
) -> dict[str, np.ndarray]:
    """Predictions of arms, each array (seeds, ...), for `write_predictions`.

    Args:
        groups: As `by_arm_and_seed` gives them; every arm has the same seeds.
        pooled: Makes of the list of one arm's and seed's folds one table, name -> array.
        own: Arrays that differ from arm to arm: called "<arm>: <array>", or "<arm>" if it is one
            array; whole numbers as int16.
        shared: Arrays that all arms have in common, taken from the first.
    """
    arrays: dict[str, list[np.ndarray]] = {}
    first = next(iter(groups), ("", 0))[0]
    for (arm, _), folds in groups.items():
        table = pooled(folds)
        for name in own:
            small = table[name].astype(np.int16) if table[name].dtype.kind in "iub" else table[name]
            arrays.setdefault(arm if len(own) == 1 else f"{arm}: {name}", []).append(small)
        for name in shared if arm == first else ():
            arrays.setdefault(name, []).append(table[name])
    return {name: np.stack(of_seeds) for name, of_seeds in arrays.items()}


def committed_rows(notebook: str, kinds: Iterable[str] = ("full", "sweep")) -> pd.DataFrame:
    """Rows of the committed full run and of its sweep, or of others of a notebook; empty for none.

    Those of the CPU come first, then those of other devices.
    """
    folder = project_root() / "data" / "results"
    files = [file for kind in kinds for file in folder.glob(f"{notebook}__{kind}__*.csv")]
    files.sort(key=lambda file: (not file.stem.endswith("__cpu"), file.name))
    frames = [read_rows(file) for file in files]
    return pd.concat(frames) if frames else pd.DataFrame(columns=COLUMNS)


# How arms compare ---------------------------------------------------------------------------------


class Comparison:
    """Arms over the seeds that they share: what tables, figures and contrasts ask of rows.

    Rows of several devices are never compared with one another: a difference is taken on the first
    device that has measured all of its arms.

    Attributes:
        table: One line for each arm, device and seed, a column for each metric.
        arms: In the order of the rows.
        source: Where the numbers come from, in words.
    """

    def __init__(self, rows: Iterable[Row] | pd.DataFrame, source: str = "these rows"):
        if not isinstance(rows, pd.DataFrame):
            rows = pd.DataFrame([vars(row) for row in rows], columns=COLUMNS)
        self.table = rows.astype({"value": float}).pivot_table(
            "value", ["arm", "device", "seed"], "metric", aggfunc="first", sort=False
        )  # "first": an arm that stands in core and sweep counts once
        self.arms, self.source = list(self.table.index.unique("arm")), source
        self._of = {arm: self.table.loc[arm] for arm in self.arms}  # looked up a thousand times

    @classmethod
    def shown(cls, notebook: str, rows: Iterable[Row], profile: str) -> "Comparison":
        """What a notebook draws: in "smoke" the committed full run, else what it has measured."""
        frame = committed_rows(notebook)
        if profile != "smoke" or frame.empty:
            return cls(rows, f"this {profile} run")
        days = dict.fromkeys(frame["utc"].agg(["min", "max"]).astype(str).str[:10])
        shas = [sha for shas in frame["git_sha"].unique() for sha in str(shas).split(" + ")]
        # Eight digits of the commit, and what follows all forty: "-dirty", or nothing.
        each = [sha[:8] + sha[40:] for sha in dict.fromkeys(shas)]
        commits = f"commit{'s' * (len(each) > 1)} {', '.join(each)}"
        where = f", on {' and '.join(frame['device'].unique())}".removesuffix(", on cpu")
        return cls(frame, f"the committed full run of {' to '.join(days)}, {commits}{where}")

    def values(self, arm: str, metric: str) -> pd.Series:
        """A metric of an arm, by seed; empty if it was not measured."""
        return statistics.on_one_device(self._everywhere(arm, metric))

    def _everywhere(self, arm: str, metric: str) -> pd.Series:
        """A metric of an arm, by device and seed."""
        own, none = self._of.get(arm, ()), self.table.index[:0].droplevel("arm")
        return own[metric].dropna() if metric in own else pd.Series(0.0, none)

    def spread(self, arm: str, metric: str) -> str:
        """Mean ± standard deviation over seeds, as text; "—" if it was not measured."""
        values = self.values(arm, metric)
        deviation = f" ± {values.std():.3f}" if len(values) > 1 else ""
        return f"{values.mean():.3f}{deviation}" if len(values) else "—"

    def interval(self, arm: str, reference: str, metric: str) -> Interval | None:
        """How much larger an arm's metric is than a reference's, over the seeds that both have."""
        both = self._everywhere(arm, metric) - self._everywhere(reference, metric)
        gains = statistics.on_one_device(both.dropna())
        return paired_interval(gains, 0 * gains) if len(gains) > 1 else None

    def difference(self, arm: str, reference: str, metric: str) -> str:
        """Mean difference and 95 % interval, as text; "—" to itself, or without shared seeds."""
        interval = None if arm == reference else self.interval(arm, reference, metric)
        return "—" if interval is None else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*interval)

    def differences(
        self, references: Mapping, metrics: Mapping, published: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """The core table: what is printed of arms, and their mean ± spread and paired differences.

        Args:
            references: Arm -> the arm that it is compared with.
            metrics: Label -> metric.
            published: Printed differences of some arms, as `published_differences` gives them.
        """
        lines = {}
        for arm, reference in references.items():
            lines[arm] = {"minus": reference}
            for label, metric in metrics.items():
                lines[arm][label] = self.spread(arm, metric)
                lines[arm][f"{label}, difference"] = self.difference(arm, reference, metric)
        ours = pd.DataFrame(lines).T
        if published is None:
            return ours
        printed = published.reindex(ours.index).map(lambda v: "—" if np.isnan(v) else f"{v:+.3f}")
        return pd.concat({"published": printed, "ours": ours}, axis=1)

    def three_columns(
        self, metrics: dict, published: dict | None = None, released="as released", ours="ours"
    ) -> pd.DataFrame:
        """Published | as released | ours, with the last two's difference: a line for each metric.

        Args:
            metrics: Label -> metric.
            published: Label -> printed value; only what was measured on the same data.
            released: The arm with every ``legacy_*`` switch on.
            ours: The arm with all of them off.
        """
        lines = {}
        for label, metric in metrics.items():
            printed = "—" if label not in (published or {}) else f"{published[label]:.3f}"
            spreads = (self.spread(arm, metric) for arm in (released, ours))
            gap, n = self.difference(released, ours, metric), len(self.values(ours, metric))
            lines[label] = [printed, *spreads, gap, n]
        columns = ["published", "as released", "ours", "as released − ours", "n"]
        return pd.DataFrame.from_dict(lines, orient="index", columns=columns, dtype=object)

    def term(self, text: str) -> pd.Series:
        """A term of a contrast by device and seed, for `statistics.contrast_pairs`.

        It is "metric(arm)"; or a metric that one arm alone has; or a number. Of a metric that is
        measured in parts, "ccc" of "ccc_valence" and "ccc_arousal", it is their mean.
        """
        metric, _, arm = text.removesuffix(")").partition("(")
        with contextlib.suppress(ValueError):
            return pd.Series(float(text), self.table.index.droplevel("arm").unique())
        parts = [name for name in self.table if name.startswith(f"{metric}_")]
        names = [metric] if metric in self.table else parts
        among = [arm] if arm else self.arms
        arms = [name for name in among if names and len(self._everywhere(name, names[0]))]
        if len(arms) != 1:
            remedy = "write metric(arm), with an arm and a metric that were measured"
            raise BadInput(f"term {text!r}", "names no single arm and metric", remedy)
        return sum(self._everywhere(*arms, name) for name in names) / len(names)


def moved_by_processor(notebook: str) -> pd.DataFrame:
    """How claims move where seeds of the full run are trained on a GPU or with other instructions.

    The committed rows of a GPU, or of a set of instructions, ``<notebook>__avx2__cpu.csv``
    (``tools/other_instructions.py``), take the place of the CPU's, for the seeds that all arms of a
    contrast have there.

    Returns:
        A line for each of these and claim whose contrast moves: *seeds*, how many of them move;
        *largest move* of one; *sd over seeds* of the CPU's contrast; *effect* with its 95 %
        interval and *verdict* of the CPU; both once more, *moved*.
    """
    others = {name: committed_rows(notebook, [name]) for name in INSTRUCTION_SETS}
    others |= dict(list(committed_rows(notebook).groupby("device")))
    own, lines = Comparison(others.pop("cpu", [])).term, {}
    claims = statistics.read_claims().filter(regex=f"^{notebook[:2]}-", axis="index")
    for name, rows in others.items():
        other = Comparison(rows).term
        for claim, (contrast, margin) in claims[["contrast", "margin"]].iterrows():
            with contextlib.suppress(BadInput):  # an arm that is in no row
                pairs, there = (statistics.contrast_pairs(contrast, t) for t in (own, other))
                there = there if there is None else there.filter(pairs.index, axis="index")
                if there is None or there.equals(pairs.loc[there.index]):
                    continue
                both, ratio = [pairs, there.combine_first(pairs)], contrast.startswith("ratio ")
                intervals = [statistics.contrast_interval(contrast, each) for each in both]
                words = [statistics.verdict(i, float(margin), ratio=ratio) for i in intervals]
                ends = ["{:+.3f} [{:+.3f}, {:+.3f}]".format(*interval) for interval in intervals]
                gains = [p["a"] / p["b"] if ratio else p["a"] - p["b"] for p in both]
                moves = (gains[1] - gains[0]).abs()
                line = [(moves > 0).sum(), moves.max(), gains[0].std()]
                lines[name, claim] = [*line, ends[0], words[0], ends[1], words[1]]
    columns = ["seeds", "largest move", "sd over seeds", "effect", "verdict"]
    columns += ["effect, moved", "verdict, moved"]
    index = pd.MultiIndex.from_tuples(lines, names=["processor", "claim"])
    return pd.DataFrame([*lines.values()], index, columns)


def published_differences(
    paper: str,
    methods: Mapping[str, tuple[str, str]],
    reference: tuple[str, str],
    metric: str = "accuracy",
) -> pd.DataFrame:
    """A printed score of some methods, less that of a reference, by data set.

    Args:
        paper: Name of a file in ``data/published``.
        methods: Arm -> table and method, regular expressions of their names in the file. Where
            several rows fit, the best counts.
        reference: Table and method of the paper's own system.
        metric: Name of the score in the file.

    Returns:
        Arms x data sets, float64; nan where nothing is printed.
    """
    path = project_root() / "data" / "published" / f"{paper}.csv"
    with reading(path, "a table of printed numbers", _AGAIN):
        printed = pd.read_csv(path)
        printed = printed[printed["metric"] == metric].astype({"value": float})

    def best(table: str, method: str) -> pd.Series:
        fits = printed["table"].str.fullmatch(table) & printed["method"].str.fullmatch(method)
        return printed[fits].groupby("dataset", sort=False)["value"].max()

    return pd.DataFrame({arm: best(*names) - best(*reference) for arm, names in methods.items()}).T
