"""Intervals and verdicts: what a difference between two methods is worth, and what was claimed."""

import contextlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from micromacro.errors import BadInput
from micromacro.files import project_root, reading, write_atomically

VERDICTS = ("holds", "reversed", "equal within δ", "undecided", "untestable here")


class Interval(NamedTuple):
    """An effect and the interval that holds the true one with the confidence asked for."""

    effect: float
    low: float
    high: float
    n: int  # pairs, or clusters


LEVEL, FEWEST_SEEDS = 0.95, 8  # of every interval; of a verdict


def paired_interval(a: Sequence[float], b: Sequence[float], *, ratio: bool = False) -> Interval:
    """How much larger a is than b, with Student's 95 % interval over pairs.

    With d = a - b over n pairs, mean m and standard deviation s (n - 1 in the denominator):
    m -+ t(n - 1, 0.975) s / sqrt(n). It assumes that the pairs are independent and d
    about normal: pair by seed or subject, never by frame.

    Args:
        a: (n,) numbers, one for each seed or subject, n >= 2.
        b: (n,), the other method on the same ones.
        ratio: The same on logarithms: effect and ends are then a / b, geometric means. For times
            and other numbers above 0.

    Returns:
        The mean difference (or ratio), the ends of its interval, n. The interval is a point where
        every pair differs by the same.

    Raises:
        BadInput: Different shapes; fewer than two pairs; NaN or infinite values; values not above 0
            for a ratio.
    """
    from scipy.special import stdtrit  # workers, which read rows at most, start without SciPy

    a, b = (np.asarray(values, dtype=np.float64) for values in (a, b))
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        fault = f"shapes {a.shape} and {b.shape} are not two or more pairs"
        raise BadInput("a and b", fault, "give one number each for every seed")
    if not np.isfinite([a, b]).all():
        raise BadInput("a and b", "hold NaN or infinite values", "mend or drop the whole pair")
    if ratio and min(a.min(), b.min()) <= 0:
        raise BadInput("a and b", "hold values that are not above 0", "compare the difference")
    difference = np.log(a) - np.log(b) if ratio else a - b
    n = len(difference)
    mean, sd = difference.mean(), difference.std(ddof=1)
    half = stdtrit(n - 1, (1 + LEVEL) / 2) * sd / np.sqrt(n)
    ends = mean, mean - half, mean + half
    return Interval(*(float(np.exp(e) if ratio else e) for e in ends), n)


def cluster_bootstrap(
    values: np.ndarray, clusters: Sequence, *, statistic: Callable, n: int = 2000
) -> Interval:
    """95 % percentile interval of a statistic; whole clusters (subjects) are drawn, some twice.

    Clips of one person resemble each other, so persons are drawn and not clips. With few clusters
    the interval is too narrow: below about 20, say so beside it.

    Args:
        values: (N, ...), one row for each clip.
        clusters: (N,), whose it is.
        statistic: Of rows (M, ...), a number; also of rows that occur more than once.
        n: Draws.

    Returns:
        The statistic of all rows, the ends of its interval, the number of clusters.

    Raises:
        BadInput: Not one cluster for each row; fewer than two clusters.
    """
    values, clusters = np.asarray(values), np.asarray(clusters)
    names, member = np.unique(clusters, return_inverse=True)
    if clusters.shape != values.shape[:1] or len(names) < 2:
        fault = f"{clusters.shape} for values {values.shape}, {len(names)} different"
        raise BadInput("clusters", fault, "name one of two or more subjects for each row")
    rows = [np.flatnonzero(member == k) for k in range(len(names))]
    rng = np.random.default_rng(0)
    draws = (rng.integers(len(rows), size=len(rows)) for _ in range(n))
    drawn = [statistic(values[np.concatenate([rows[k] for k in draw])]) for draw in draws]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(statistic(values)), float(low), float(high), len(names))


def verdict(interval: Interval | None, margin: float, *, ratio: bool = False) -> str:
    """Judge the claim "the effect is above the margin δ" by where the whole interval lies.

    =======================  =================  ==========================================
    interval                 verdict            example, δ = 0.05
    =======================  =================  ==========================================
    above δ                  "holds"            0.12 [0.06, 0.18]
    below -δ                 "reversed"         -0.12 [-0.18, -0.06]
    within [-δ, δ]           "equal within δ"   0.02 [0.01, 0.03], though 0 is outside
    across δ or -δ           "undecided"        0.06 [0.02, 0.10], though 0 is outside
    none                     "untestable here"  needs a machine or data that are not here
    =======================  =================  ==========================================

    An end on the margin itself counts as within. Swapping the two methods swaps "holds" and
    "reversed" and leaves the rest.

    Args:
        interval: Of the effect; None where it could not be measured.
        margin: δ >= 0, the smallest effect that matters, fixed beforehand. 0 asks for the sign.
        ratio: The effect is a ratio above 0: the margin is a factor >= 1 and [1/δ, δ] the range of
            equality. 1 asks which is larger.

    Returns:
        One of `VERDICTS`.

    Raises:
        BadInput: A margin that is none, or an interval whose ends are NaN or out of order.
    """
    if interval is None:
        return "untestable here"
    if not margin >= ratio:  # at least 1 for a ratio, else 0
        raise BadInput(f"margin={margin}", "is none", f"give {int(ratio)} or more")
    if not interval.low <= interval.high:
        raise BadInput(f"{interval}", "is no interval", "low must not be above high")
    least = 1 / margin if ratio else -margin
    if interval.low > margin:
        return "holds"
    if interval.high < least:
        return "reversed"
    if least <= interval.low and interval.high <= margin:
        return "equal within δ"
    return "undecided"


# ---- data/claims.csv ----------------------------------------------------------------------------


def read_claims() -> pd.DataFrame:
    """The claims of `data/claims.csv`, indexed by claim, all cells text.

    Columns: `source`, where it is claimed; `contrast`, what is compared, as "a - b" or "ratio a /
    b"; `margin`; `half_width`, that of the interval as development seeds predict it (of "-again",
    the first eight seeds), empty where nothing was predicted; `family`, "primary" for the few
    claims that a notebook stands or falls by; `kind`, "finding", "positive control" (it comes out
    so because the benchmark is made so) or "identity" (it follows from algebra). These are
    committed before the full run; `verdict, effect, low, high, n` are empty until then. Families of
    03, 04 and 08 were named after their runs, by what the papers' abstracts and tables say of their
    own method, never by how it came out. What the primary claims of 04 and 08 left undecided over
    eight seeds was asked once more, of seeds that no one had seen: "-again", committed before these
    were run, and primary in place of the first claim.
    """
    with reading(_claims_csv(), "a table of claims", "take it from git again"):
        claims = pd.read_csv(_claims_csv(), dtype=str, keep_default_na=False).set_index("claim")
        claims.astype({"margin": float, "contrast": str})
        return claims


def judge_claims(intervals: Mapping[str, Interval | None]) -> pd.DataFrame:
    """The named claims' verdicts, by the margins in `data/claims.csv`; nothing is written.

    Args:
        intervals: By claim; None where it cannot be tested here.

    Raises:
        BadInput: A claim that was not committed beforehand.
    """
    claims = read_claims()
    for name, interval in intervals.items():
        if name not in claims.index:
            raise BadInput(f"claim {name!r}", "is not in data/claims.csv", "commit it first")
        contrast, margin = claims.loc[name, "contrast"], float(claims.loc[name, "margin"])
        word = verdict(interval, margin, ratio=contrast.startswith("ratio "))
        ends, n = ([""] * 3, "") if interval is None else (interval[:3], str(interval.n))
        numbers = [*(end and f"{end:.4g}" for end in ends), n]
        claims.loc[name, ["verdict", *Interval._fields]] = [word, *numbers]
    return claims.loc[list(intervals)]


def holm(claims: pd.DataFrame) -> pd.Series:
    """Verdicts of the primary claims that hold for all of them together (Holm, 1979).

    Of many intervals of 95 % one in twenty may miss. A verdict's p is that of the widest interval
    that still lies whole on its side of the margin, so a verdict at 95 % has p < 0.05. The smallest
    p is multiplied by the number of claims judged in the family, the next by one less, and so on.

    Args:
        claims: Judged, with the columns of `read_claims`.

    Returns:
        By claim: its verdict, or "undecided" where it does not stand; "—" for claims that are not
        primary, have no interval, or one of quartiles, which has no p.
    """
    from scipy.special import stdtr, stdtrit

    out = pd.Series("—", claims.index)
    known = (claims["n"] != "") & ~claims["contrast"].str.contains("quartiles")
    own = claims[(claims["family"] == "primary") & known]
    ratio = own["contrast"].str.startswith("ratio ").to_numpy()
    numbers = own[["effect", "low", "high", "margin"]].astype(float).to_numpy()
    effect, low, high, margin = np.log(numbers, where=ratio[:, None], out=numbers).T
    df = own["n"].astype(int).to_numpy() - 1
    se = (high - low) / 2 / stdtrit(df, 0.975)
    beyond = np.abs(np.abs(effect) - margin) / np.maximum(se, 1e-300)
    p, rank = 2 * stdtr(df, -beyond), np.arange(len(own))
    order = p.argsort()
    adjusted = np.maximum.accumulate((p[order] * (len(own) - rank)).clip(max=1))
    out[own.index[order]] = own["verdict"].iloc[order].where(adjusted < 0.05, "undecided")
    return out


def contrast_pairs(contrast: str, term: Callable[[str], pd.Series]) -> pd.DataFrame | None:
    """The two sides of a contrast that is written so that a program can read it.

    Args:
        contrast: Terms joined by " - " and " + ", or "ratio a / b"; what follows ";" is for people.
            "needs ..." says what is missing.
        term: Gives the values of a term, a constant too, by seed, or by device and seed.

    Returns:
        Columns a and b, a row for each seed that all terms have `on_one_device`; of a sum the sum,
        and 0. None for "needs ...".

    Raises:
        BadInput: A part of it is no term.
    """
    text = contrast.partition(";")[0].strip()
    if text.startswith("needs "):
        return None
    if text.startswith("ratio "):
        both = [term(name.strip()) for name in text[6:].split("/")]
        return on_one_device(pd.concat(both, axis=1, keys=["a", "b"]).dropna())
    # An arm's name, in its brackets, may hold such signs itself.
    signed = re.findall(r"([+-]) ([^ (]+(?:\(.+?\))?)(?= [+-] |$)", f"+ {text}")
    if " ".join(f"{sign} {name}" for sign, name in signed) != f"+ {text}":
        raise BadInput(f"contrast {text!r}", "cannot be read", "write a(x) - b(y), one blank each")
    signed = [term(name) if sign == "+" else -term(name) for sign, name in signed]
    total = on_one_device(pd.concat(signed, axis=1).dropna()).sum(axis=1)
    return total.to_frame("a").assign(b=0.0)


def on_one_device(table: pd.DataFrame | pd.Series) -> pd.DataFrame | pd.Series:
    """Of values by device and seed those of the first device, by seed; any other table as it is."""
    if "device" not in table.index.names:
        return table
    device = table.index.get_level_values("device")
    return table[device == next(iter(device), None)].droplevel("device")


def contrast_interval(contrast: str, pairs: pd.DataFrame | None) -> Interval | None:
    """The interval of a contrast over the seeds of its `contrast_pairs`; None of None.

    Raises:
        BadInput: As `paired_interval`.
    """
    ratio = contrast.startswith("ratio ")
    return None if pairs is None else paired_interval(pairs["a"], pairs["b"], ratio=ratio)


def without_one(claim: pd.Series, pairs: pd.DataFrame | None) -> str:
    """Whether a verdict hangs on a single seed: what it is without one of them.

    Args:
        claim: A line of `read_claims`, judged.
        pairs: Its sides by seed, as `contrast_pairs` gives them.

    Returns:
        Other verdicts and the seeds without which they come, "undecided (3, 5)"; "stays" if there
        is none; "—" for a claim that is not judged by so many seeds, and for fewer than three.
    """
    if pairs is None or len(pairs) < 3 or claim["n"] != str(len(pairs)):
        return "—"
    contrast, margin = claim["contrast"], float(claim["margin"])
    ratio, other = contrast.startswith("ratio "), {}
    for seed in pairs.index:
        word = verdict(contrast_interval(contrast, pairs.drop(seed)), margin, ratio=ratio)
        other.setdefault(word, []).append(f"{seed:g}")
    other.pop(claim["verdict"], None)
    return "; ".join(f"{word} ({', '.join(seeds)})" for word, seeds in other.items()) or "stays"


def notebook_claims(
    notebook: str, term: Callable[[str], pd.Series], out: str | os.PathLike | None, *, judge: bool
) -> pd.DataFrame:
    """The claims of a notebook with their verdicts, as its table shows them.

    Args:
        notebook: Its name; its claims begin with the same number, "04-".
        term: As in `contrast_pairs`.
        out: As in `hand_over`.
        judge: Judge those claims whose terms eight seeds or more have, and hand them over; the
            others, and all of them where it is False, keep the committed verdict.

    Returns:
        As `claims_table`.
    """
    claims = read_claims().filter(regex=f"^{notebook[:2]}-", axis="index")
    pairs, intervals = {}, {}
    for name, contrast in claims["contrast"].items():
        with contextlib.suppress(BadInput):  # an arm that this run does not have, a single seed
            pairs[name] = contrast_pairs(contrast, term)
            intervals[name] = contrast_interval(contrast, pairs[name])
    if judge:
        intervals = {name: i for name, i in intervals.items() if i is None or i.n >= FEWEST_SEEDS}
        hand_over(notebook, intervals, out)
        claims.update(judge_claims(intervals))
    return claims_table(claims, pairs)


def claims_table(claims: pd.DataFrame, pairs: Mapping[str, pd.DataFrame | None]) -> pd.DataFrame:
    """Judged claims as a notebook shows them.

    Args:
        claims: As `read_claims`.
        pairs: By claim, as in `without_one`; a claim without any is left out of that column.

    Returns:
        The columns of `read_claims` with effect and its interval in one, and three more, all text:
        *after Holm* is `holm` within the primary family, *Holm over all* the same as if every claim
        were primary, *without one seed* is `without_one`.
    """
    table = claims.assign(**{"after Holm": holm(claims)})
    table["Holm over all"] = holm(claims.assign(family="primary"))
    table["without one seed"] = [without_one(c, pairs.get(n)) for n, c in claims.iterrows()]
    table["verdict"] = claims["verdict"].replace("", "not judged yet")
    ends = " [" + claims["low"] + ", " + claims["high"] + "]"
    table["effect"] = (claims["effect"] + ends).replace(" [, ]", "—")
    return table.drop(columns=["low", "high"])


def tally(claims: pd.DataFrame) -> pd.DataFrame:
    """Of a `claims_table`: how many verdicts are decided, stand Holm's rule, hang on one seed.

    Returns:
        A line for the primary claims and one for all; claims without an interval are left out.
    """
    lines = {}
    for family, column in (("primary", "after Holm"), ("all", "Holm over all")):
        own = claims[claims[column] != "—"]
        decided = own[own["verdict"] != "undecided"]
        left = decided[column] != "undecided"
        moved = ~decided["without one seed"].isin(["stays", "—"])
        lines[family] = [len(own), len(decided), left.sum(), moved.sum()]
    columns = ["claims", "decided", "decided after Holm", "decided, but by one seed"]
    return pd.DataFrame.from_dict(lines, orient="index", columns=columns)


def in_words(claims: pd.DataFrame, statements: Mapping[str, str]) -> str:
    """What the verdicts of some claims say, made from the table, so that no word says more.

    Args:
        claims: A `claims_table`.
        statements: Claim -> what it states, in words.

    Returns:
        A line each: statement, verdict, effect, margin; the kind if it is no finding, and what a
        single seed or Holm's rule change.
    """
    lines, usual = [], {"kind": "finding", "without one seed": "stays"}
    for name, claim in claims.loc[[*statements]].iterrows():
        text = f"{statements[name]}: {claim['verdict']}, {claim['effect']}, δ = {claim['margin']}"
        for column, value in (usual | {"after Holm": claim["verdict"]}).items():
            text += "" if claim[column] in ("—", value) else f"; {column}: {claim[column]}"
        lines.append(text)
    return "\n".join(lines)


def hand_over(
    notebook: str, intervals: Mapping[str, Interval | None], out: str | os.PathLike | None
) -> None:
    """Hand a notebook's intervals over to the run, as `write_rows` does with its rows.

    They are written to ``<out>/claims/<notebook>.json``; `make full` writes their verdicts to
    `data/claims.csv`. With ``out`` None, a notebook run by hand, nothing is written.
    """
    if out is None:
        return
    path = Path(out) / "claims" / f"{notebook}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(intervals, indent=1))


def write_verdicts(handed_over: Path) -> Path:
    """Judge what a notebook handed over and write it to `data/claims.csv`; other claims stay."""
    with reading(handed_over, "intervals of claims", "run the notebook again"):
        found = json.loads(handed_over.read_text(encoding="utf-8"))
        intervals = {name: values and Interval(*values) for name, values in found.items()}
    claims = read_claims()
    claims.update(judge_claims(intervals))
    write_atomically(_claims_csv(), claims.reset_index().to_csv(index=False, lineterminator="\n"))
    return _claims_csv()


def _claims_csv() -> Path:
    return project_root() / "data" / "claims.csv"


# ---- where the spread over seeds comes from ------------------------------------------------------


def components(values: np.ndarray, *groups: np.ndarray) -> np.ndarray:
    """Parts of the variance of a seed's mean, by where they come from: a nested model of its clips.

    A clip's value is the sum of an effect of its seed, of each of the groups that it lies in (such
    as the fold, then the person), and of its own; all are drawn independently. In a balanced design
    the mixed model's estimates are these, by analysis of variance, and its interval for the mean is
    `paired_interval` of the seeds' means (Searle, Casella, McCulloch 1992).

    Args:
        values: (seeds, clips) float: of a clip what one arm scores more than another.
        groups: (seeds, clips) each, the group that a clip lies in; outermost first, nested, with
            equally many groups and clips in each.

    Returns:
        (2 + groups,): part of the seed, of each group, of the clip. The sum is the variance of the
        seeds' means. A part that is none comes out near 0, below or above.

    Raises:
        BadInput: Groups that are not nested, not of equal size, or alone in the one above.
    """
    order, units, n = np.lexsort(groups[::-1]), [1], values.shape[1]
    values, *groups = (np.take_along_axis(column, order, 1) for column in (values, *groups))
    for group in groups:
        size, *more = {s for row in group for s in np.unique(row, return_counts=True)[1]}
        even = not more and 1 < size < n // units[-1] and n // units[-1] % size == 0
        if not even or (group != group[:, ::size].repeat(size, 1)).any():
            raise BadInput("groups", "are uneven or not nested", "give two or more equal in each")
        units.append(n // size)
    from_here_down = [values.mean(1).var(ddof=1)]  # variance of a seed's mean
    for outer, inner in zip(units, [*units[1:], n], strict=True):
        means = values.reshape(len(values), outer, inner // outer, -1).mean(-1)
        from_here_down.append(means.var(-1, ddof=1).mean() / inner)
    return -np.diff([*from_here_down, 0.0])


def pseudo_values(statistic: Callable[[np.ndarray], float], n: int) -> np.ndarray:
    """What each of n clips gives to a statistic that is no mean: jackknife, float64 (n,).

    n f(all) - (n - 1) f(all but this one). Of a mean they are the clips' own values.

    Args:
        statistic: Of row numbers, int64 (n or n - 1,).
        n: Number of clips.
    """
    rows = np.arange(n)
    whole = statistic(rows)
    return np.array([n * whole - (n - 1) * statistic(np.delete(rows, k)) for k in rows])


def sources_of_spread(
    values: Mapping[str, np.ndarray], groups: Mapping[str, np.ndarray], margin: float
) -> pd.DataFrame:
    """Where the spread of seeds' differences comes from, and how many seeds a margin asks for.

    Args:
        values: Contrast -> (seeds, clips), as in `components`.
        groups: Name -> (seeds, clips), as there; the last one is the people.
        margin: Half-width asked for, above 0.

    Returns:
        A line for each contrast: the effect; its `paired_interval` over seeds; *people alone*, that
        if only people and clips were drawn anew and the trained networks kept (normal, as there are
        many people); the seeds' standard deviation; the parts of its square; *n*, the seeds that a
        half-width of `margin` needs, and *n alone*, those if nothing but people and clips varied.
    """
    from scipy.special import stdtrit

    seeds, lines = np.arange(2, 10_001), {}
    half_widths = stdtrit(seeds - 1, 0.975) / np.sqrt(seeds)  # of a standard deviation of 1
    for name, clips in values.items():
        parts = components(clips, *groups.values())
        effect, low, high, n = paired_interval(clips.mean(1), np.zeros(len(clips)))
        sd = np.sqrt(np.maximum([parts.sum(), parts[-2:].sum()], 1e-300))
        half = 1.96 * sd[1] / np.sqrt(n)
        ends = f"[{low:+.3f}, {high:+.3f}]", f"[{effect - half:+.3f}, {effect + half:+.3f}]"
        shares = [f"{part:z.0%}" for part in parts / sd[0] ** 2]
        need = 2 + np.searchsorted(-half_widths, -margin / sd)
        lines[name] = [f"{effect:+.3f}", *ends, f"{sd[0]:.3f}", *shares, *need]
    columns = ["effect", "interval", "people alone", "sd", "seed", *groups, "clip", "n", "n alone"]
    return pd.DataFrame.from_dict(lines, orient="index", columns=columns)
