"""The full run of notebook 03: its units, its rows, its verdicts.

It stands beside `phase_versus_flow`, whose units depend on nothing that is written here.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from micromacro import statistics
from micromacro.files import project_root, reading
from micromacro.motion.prepare import INPUTS
from micromacro.results import Row, read_rows, write_rows
from micromacro.statistics import Interval, claims_table, contrast_interval
from micromacro.studies import phase_versus_flow as contest
from micromacro.units import run

NOTEBOOK = "03_phase_versus_flow"
METHODS = {"phase": "phase", "farneback": "Farneback", "dis_medium": "DIS", "tvl1": "TV-L1"}
METHODS["tuned_flow"] = "tuned flow"
_COSTED = {"farneback": "Farneback", "dis_medium": "DIS medium", "dual_tvl1": "DualTVL1"}
_KEYS = ["size", "method", "input", "condition", "amplitude_px", "score"]
_OF_ACTOR = ["seed", "size", "method", "input", "condition"]
_SMALL_PX = (0.1, 0.8)  # the amplitudes over which the claims take their mean
_AGAIN = "take it from git again"


class Outcome(NamedTuple):
    """What the full run measured.

    Attributes:
        table: Columns ``size, method, input, condition, amplitude_px, score, mean, std, count``:
            over actors, each the mean of eight action units.
        claims: Claims of notebook 03 with their verdicts, as `statistics.claims_table`.
        source: Where the numbers come from, in words.
    """

    table: pd.DataFrame
    claims: pd.DataFrame
    source: str


def outcome(
    profile: str = "smoke",
    seeds: Sequence[int] | None = None,
    methods: Sequence[str] | None = None,
    out: str | None = None,
) -> Outcome:
    """The full run: in the profile full it is made, which takes 25 min; else the committed one.

    Args:
        profile: "full" computes the units, writes the rows, and judges the claims if there are
            eight actors or more and every method.
        seeds: Numbers of the actors; None means 0 to 7.
        methods: Names out of `phase_versus_flow.METHODS`; None means those of `METHODS`.
        out: Folder of the run, as for `results.write_rows`.

    Raises:
        BadInput: The committed rows are missing or torn.
    """
    if profile != "full":
        return _committed()
    seeds, methods = list(seeds or range(8)), list(methods or METHODS)
    common = {"methods": methods, "conditions": list(contest.CONDITIONS), "device": "cpu"}
    common["aus"] = list(contest.AUS)
    equal = {"size": 48, "inputs": list(INPUTS), "amplitudes_px": list(contest.AMPLITUDES_PX)}
    customary = {"size": 112, "inputs": ["raw", "local_contrast"]}
    customary["amplitudes_px"] = [0.1, 0.2, 0.4, 0.8]
    grid = [{"seed": s, **common, **kind} for kind in (equal, customary) for s in seeds]
    results = run(contest.unit, grid)
    records = [
        (r.params["seed"], r.params["size"], *name.split("/"), value)
        for r in results
        for name, value in r.metrics.items()
    ]
    scores = pd.DataFrame(records, columns=["seed", *_KEYS, "value"])
    scores = scores.astype({"amplitude_px": float})
    scores = scores[scores["score"] != "endpoint_error"]  # a shrunken flow hides in it
    table = scores.groupby(_KEYS, sort=False)["value"].agg(["mean", "std", "count"]).reset_index()
    of_actor = scores[scores["amplitude_px"].between(*_SMALL_PX) & (scores["score"] == "cosine")]
    of_actor = of_actor.groupby(_OF_ACTOR, sort=False)["value"].mean()
    write_rows(_rows(table, of_actor.reset_index(), profile, results[0].provenance), out)
    claims, pairs = _claims(), {}
    if len(seeds) >= 8 and set(METHODS) <= set(methods):
        pairs = {name: _pairs(name, of_actor) for name in claims.index}
        intervals = {name: _interval(name, both) for name, both in pairs.items()}
        statistics.hand_over(NOTEBOOK, intervals, out)
        claims = statistics.judge_claims(intervals)
    return Outcome(table, claims_table(claims, pairs), f"this {profile} run")


def _rows(table: pd.DataFrame, of_actor: pd.DataFrame, profile: str, provenance) -> list[Row]:
    """Means and deviations over actors, then each actor's own cosine, which the claims pair."""

    def row(line, metric: str, value: float, n: int, seed: int | None = None, **more) -> Row:
        params = {"condition": line.condition, "input": line.input, "size": line.size, **more}
        about = {"seed": seed, "profile": profile, **provenance}
        return Row(NOTEBOOK, "motion", line.method, metric, value, n, params, **about)

    rows = [
        row(line, f"{line.score}, {what}", value, line.n, amplitude_px=line.amplitude_px)
        for line in table.rename(columns={"count": "n"}).itertuples()
        for what, value in (("mean", line.mean), ("sd", line.std))
    ]
    metric = "cosine, mean of 0.1 to 0.8 px"
    return rows + [row(line, metric, line.value, 1, line.seed) for line in of_actor.itertuples()]


def _committed() -> Outcome:
    path = project_root() / "data" / "results" / f"{NOTEBOOK}__full__cpu.csv"
    with reading(path, "rows of a full run", _AGAIN):
        rows = read_rows(path)
        given = pd.DataFrame(rows["params"].map(json.loads).tolist(), index=rows.index)
        split = rows["metric"].str.split(", ", expand=True).set_axis(["score", "what"], axis=1)
        rows = rows.rename(columns={"arm": "method", "n": "count"})
        rows = rows[["method", "seed", "value", "count", "utc", "git_sha"]]
        flat = pd.concat([rows, given, split], axis=1)
    means, of_actor = flat[flat["seed"].isna()], flat[flat["seed"].notna()]
    table = means.pivot_table("value", [*_KEYS, "count"], "what", sort=False).reset_index()
    claims, of_actor = _claims(), of_actor.set_index(_OF_ACTOR)["value"]
    claims = claims_table(claims, {name: _pairs(name, of_actor) for name in claims.index})
    runs = {(utc[:10], sha[:8]) for utc, sha in zip(flat["utc"], flat["git_sha"], strict=True)}
    source = "the committed full run of " + ", and of ".join(
        f"{day}, commit {commit}" for day, commit in sorted(runs)
    )
    return Outcome(table.rename(columns={"sd": "std"}), claims, source)


def _claims() -> pd.DataFrame:
    claims = statistics.read_claims()
    return claims[claims.index.str.startswith("03-")]


def _pairs(claim: str, of_actor: pd.Series) -> pd.DataFrame | None:
    """Cosine of phase (a) and of the flow (b), a row for each actor; None for a claim on costs."""
    _, kind, flow, *rest = claim.split("-")
    if kind == "cheaper":
        return None
    inputs, condition, *size = rest
    # index: seed, size, method, input, condition
    mean = of_actor.xs((int(*size or [48]), inputs, condition), level=[1, 3, 4])
    return mean.unstack("method")[["phase", flow]].set_axis(["a", "b"], axis=1)


def _interval(claim: str, pairs: pd.DataFrame | None) -> Interval | None:
    """Student's interval over actors of a cosine; quartiles over rounds of a ratio of costs."""
    if pairs is not None:
        return contrast_interval("phase - flow", pairs)
    cost, (flow, size) = costs(), claim.split("-")[2:]
    if cost is None:
        return None
    *interval, rounds = cost.loc[flow, int(size)]
    return Interval(*interval, int(rounds))


def costs() -> pd.DataFrame | None:
    """Time of each flow over that of phase at 48 px, as the committed benchmark has it.

    Returns:
        Index: name of the flow; columns: (size of the flow's frames in px, "ratio", "q25", "q75" or
        "rounds"), float64; median and quartiles over rounds. None without a benchmark.
    """
    files = sorted((project_root() / "data" / "results").glob("phase_vs_peers__*.csv"))
    if not files:
        return None
    with reading(files[-1], "rows of a benchmark", _AGAIN):
        rows = pd.read_csv(files[-1])
        rows = rows[rows["metric"] == "cost_ratio_to_gemm"].set_index(["setting", "method"])
        rows = rows.rename(columns={"value": "ratio"})[["ratio", "q25", "q75", "rounds"]]
    settings = {48: "48 px", 112: "customary size: 112 px"}
    sizes = {px: rows.loc[name].loc[list(_COSTED.values())] for px, name in settings.items()}
    return pd.concat(sizes, axis=1).astype(float).rename(index={v: k for k, v in _COSTED.items()})


def verdicts(claims: pd.DataFrame) -> pd.DataFrame:
    """The verdicts of all claims at a glance: read off, not typed.

    Args:
        claims: As in `Outcome`.

    Returns:
        A column for each flow that phase at 48 px is compared with, a line for each comparison:
        what phase is, by which input, under which of `phase_versus_flow.CONDITIONS`, with flow at
        which size. Text, "—" where there is no claim; beside a verdict its kind, if it is no
        finding, and what Holm's rule makes of it, if that is another.
    """
    words: dict[str, dict[tuple[str, ...], str]] = {}
    for name, claim in claims.iterrows():
        _, kind, flow, *rest = name.split("-")
        inputs, condition, size = ("—", "—", *rest) if kind == "cheaper" else (*rest, "48")[:3]
        phase_is = "cheaper" if kind == "cheaper" else "more robust"
        line = phase_is, inputs.replace("_", " "), condition, f"{size} px"
        holm = claim["after Holm"]
        word = claim["verdict"]
        word += f"; {holm} after Holm" if holm not in ("—", word) else ""
        word += "" if claim["kind"] == "finding" else f" ({claim['kind']})"
        words.setdefault({"dual_tvl1": "TV-L1"}.get(flow) or METHODS[flow], {})[line] = word
    levels = ["phase is", "input", "condition", "flow at"]
    return pd.DataFrame(words).fillna("—").rename_axis(levels)
