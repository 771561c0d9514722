"""From scores of frames to intervals: smooth, threshold, find peaks, lay intervals, limit, thin out.

The paper's own choices are not known. Each step is an option; `RECIPES` has peers' choices, and the
default is SOFTNet's. A frame without a score (NaN: a lost face) is left out of means and is no peak.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks

from micromacro.errors import BadInput, check_choice
from micromacro.systems.spotting.scoring import CLASSES, Rule, compared, most_pairs, overlap

COLUMNS = ["video", "label", "onset", "offset", "peak", "score"]


@dataclass(frozen=True)
class Recipe:
    """How the scores of one class become intervals; k is half its mean length in frames.

    Attributes:
        threshold: Score that a peak must reach.
        relative: It is a share of the way from a video's mean score to its largest.
        smooth: Width of the moving mean, in k; 0 for none.
        shape: "window", from a peak's reach before it to that behind it; "fall", from the lowest frame
            in the reach before it to that behind it, of those above the threshold and lower than the
            peak, where there are any; "run", neighbouring frames above the threshold.
        distance: Frames between peaks at least; None for k.
        reach: Frames before and behind a peak; None for k and k.
        lengths: Fewest and most frames of an interval.
        margin: How far a peak must rise above the other class's score there.
        suppress: Overlap, intersection over union, above which the lower of two intervals goes; None
            for none.
        most: Intervals of a video at most: those with the highest peaks.
    """

    threshold: float = 0.55
    relative: bool = True
    smooth: float = 2.0
    shape: str = "window"
    distance: int | None = None
    reach: tuple[int, int] | None = None
    lengths: tuple[float, float] = (1, np.inf)
    margin: float = -np.inf
    suppress: float | None = None
    most: int | None = None


Gaps, Recipes = Mapping[str, int], Mapping[str, Recipe]


def _run(shortest: float, longest: float) -> Recipe:
    return Recipe(0.01, smooth=0, shape="run", lengths=(shortest, longest))


def _fall(threshold: float, distance: int, *frames: int, margin: float = -np.inf) -> Recipe:
    return Recipe(threshold, False, 2, "fall", distance, frames[:2], frames[2:], margin)


# Class -> recipe, of public programs: SOFTNet (2021), SL-Swin (2023), MDMD (2020), MTSN (2022, for the two
# test sets of that year). AUW-GCN lays intervals by two more curves, of onset and offset, which a spotter
# of two scores does not have; its thinning is suppress=0.5 with most=5, but 6 for macro on SAMM-LV.
_PAIRS = {  # micro, macro
    "softnet": (Recipe(), Recipe()),
    "sl_swin": (Recipe(0.6), Recipe(0.6)),
    "mdmd_casme_squared": (_run(7, 16), _run(17, np.inf)),
    "mdmd_samm_lv": (_run(47, 105), _run(106, np.inf)),
    "mtsn_casme_cubed": (_fall(0.7, 12, 15, 15, 7, 30, margin=0.4), _fall(0.7, 36, 45, 45, 17, 90)),
    "mtsn_samm_challenge": (
        _fall(0.5, 600, 50, 100, 62, 150, margin=0.37),
        _fall(0.5, 1200, 120, 200, 102, 600),
    ),
}
RECIPES = {name: dict(zip(CLASSES, pair, strict=True)) for name, pair in _PAIRS.items()}


def smoothed(scores: np.ndarray, window: int) -> np.ndarray:
    """Moving mean over `window` frames; of an even number one more lies before the frame than behind it.

    Args:
        scores: (T,), any real dtype; NaN where there is none.
        window: Number of frames; below 2 nothing changes.

    Returns:
        float64 (T,): the mean of the scores in the window; NaN where it holds none, and where fewer than
        window // 2 frames lie before or behind the frame, as in SOFTNet and MTSN.
    """
    scores = np.array(scores, float)
    if window < 2:
        return scores
    known, t = ~np.isnan(scores), np.arange(len(scores))
    parts = (np.where(known, scores, 0.0), known * 1.0)
    total, share = (uniform_filter1d(part, window, mode="constant") for part in parts)
    holds = (t >= window // 2) & (t < len(t) - window // 2) & (share * window > 0.5)
    return np.where(holds, total / np.maximum(share, 0.5 / window), np.nan)


def _curve(scores: np.ndarray, k: int, recipe: Recipe) -> np.ndarray:
    """Smoothed scores in the threshold's unit, float64 (T,), gaps bridged; -inf if none is known."""
    curve = smoothed(scores, round(recipe.smooth * k))
    known = np.flatnonzero(~np.isnan(curve))
    if not len(known):
        return np.full(len(curve), -np.inf)
    values = curve[known]
    if recipe.relative:
        values = values - values.mean()
        values /= max(values.max(), 1e-9)  # a constant, give or take its rounding, stays near 0
    return np.interp(np.arange(len(curve)), known, values)


def peaks(curve: np.ndarray, threshold: float, distance: int) -> np.ndarray:
    """Frames that are higher than their neighbours, at or above the threshold, int64 in order of time.

    Of peaks nearer than `distance` frames to each other the higher stays. The first and the last frame
    are none. It does not matter to those that stay whether lower ones are dropped before or after.

    Args:
        curve: float (T,), no NaN.
        threshold: In the curve's unit.
        distance: In frames, 1 or more.
    """
    return find_peaks(curve, height=threshold, distance=max(distance, 1))[0]


def _laid(curve: np.ndarray, k: int, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Peaks, int64 (P,) in order of time, and the interval of each, int64 (P, 2), inside the video."""
    if recipe.shape == "run":
        edges = np.flatnonzero(np.diff(curve > recipe.threshold, prepend=False, append=False))
        spans = edges.reshape(-1, 2) - [0, 1]
        return np.array([a + curve[a : b + 1].argmax() for a, b in spans], int), spans
    peak, ends = peaks(curve, recipe.threshold, recipe.distance or k), []
    before, behind = recipe.reach or (k, k)
    for steps in (np.arange(-before, 1), np.arange(behind, -1, -1)):  # from the reach's end inwards
        steps = steps[:1] if recipe.shape == "window" else steps
        frames = (peak[:, None] + steps).clip(0, len(curve) - 1)
        is_fall = (curve[frames] > recipe.threshold) & (curve[frames] < curve[peak, None])
        lowest = np.where(is_fall, curve[frames], np.inf).argmin(1)
        ends.append(frames[np.arange(len(peak)), lowest])
    return peak, np.stack(ends, 1)


def _standing(table: pd.DataFrame, limit: float | None) -> pd.DataFrame:
    """Intervals, highest first, without those that overlap a standing one by more than the limit."""
    order, standing = np.argsort(-table["score"].to_numpy(), kind="stable"), []
    spans = table[["onset", "offset"]].to_numpy()
    while limit is not None and len(order):
        standing.append(order[0])
        order = order[1:][overlap(spans[order[1:]], spans[order[0]]) <= limit]
    return table.iloc[order if limit is None else standing]


def spotted(
    scores: np.ndarray, gaps: Gaps, recipes: Recipes = RECIPES["softnet"], video: str = ""
) -> pd.DataFrame:
    """The intervals that recipes find in one video.

    Args:
        scores: (T, 2), any real dtype: each frame's score for micro and for macro, the more the surer;
            NaN where there is none.
        gaps: Class -> k, half its mean length in frames.
        recipes: Class -> recipe.
        video: The video's name.

    Returns:
        A table of predictions, by class and in the order of time: video, label, onset, offset, peak
        (int64, inside the video), score (float64, the peak's height in the threshold's unit).

    Raises:
        BadInput: Scores of another shape; an unknown shape of intervals.
    """
    scores = np.asarray(scores, float)
    if scores.ndim != 2 or scores.shape[1] != 2:
        raise BadInput(f"scores of shape {scores.shape}", "are not (T, 2)", "give micro and macro")
    curves = [_curve(x, gaps[c], recipes[c]) for x, c in zip(scores.T, CLASSES, strict=True)]
    tables = []
    for label, curve, rival in zip(CLASSES, curves, curves[::-1], strict=True):
        recipe = recipes[label]
        check_choice("shape", recipe.shape, ("window", "fall", "run"))
        peak, spans = _laid(curve, gaps[label], recipe)
        known = ~np.isnan(scores[peak, CLASSES.index(label)])  # no peak in what was bridged
        peak, spans = peak[known], spans[known]
        columns = (video, label, *spans.T, peak, curve[peak])
        table = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
        good = (table["offset"] - table["onset"] + 1).between(*recipe.lengths)
        table = table[good & (curve[peak] - rival[peak] > recipe.margin)]
        tables.append(_standing(table, recipe.suppress)[: recipe.most].sort_index())
    return pd.concat(tables, ignore_index=True)


def fit_threshold(
    scores: Mapping[str, np.ndarray], truth: pd.DataFrame, gaps: Gaps, recipes: Recipes, steps=32
) -> Recipes:
    """Recipes with the thresholds that give each class its best F1, pooled over the videos given.

    A class goes by its own F1: by the overall one a rare class is often best left alone, which says
    nothing about it. Intervals are laid once, and a threshold chooses among them: the time is linear in
    the number of frames. Tried are heights of peaks, spread evenly by rank, and infinity, which spots
    nothing; of equals the highest.

    Args:
        scores: Of the training videos alone: video -> scores, as `spotted`.
        truth: True intervals (`scoring`); those of other videos are left out.
        gaps: Class -> k, as `spotted`.
        recipes: Class -> recipe, of shape "window": others lay other intervals for each threshold.
        steps: Thresholds to try for each class.

    Raises:
        BadInput: Another shape; no video; as `spotted` and `scoring.counts`.
    """
    if not scores or any(recipe.shape != "window" for recipe in recipes.values()):
        raise BadInput("recipes", "cannot be fitted", 'give training videos, and shape "window"')
    free = {label: replace(recipe, threshold=-np.inf) for label, recipe in recipes.items()}
    candidates = pd.concat([spotted(x, gaps, free, video) for video, x in scores.items()])
    fitted = {}
    for label, recipe in recipes.items():
        own = candidates[candidates["label"] == label].sort_values("score", ascending=False)
        here = truth[truth["video"].isin(scores) & (truth["label"] == label)]
        hits, _, _ = compared(here, own, Rule())
        ranks = np.unique(np.linspace(0, len(own), steps).astype(int))
        tried = np.append(np.inf, own["score"])[ranks]
        n = np.array([(own["score"] >= limit).sum() for limit in tried])
        tp = np.array([len(most_pairs(hits[hits["prediction"] < first])) for first in n])
        best = (tp / np.maximum(n + len(here), 1)).argmax()
        fitted[label] = replace(recipe, threshold=float(tried[best]))
    return fitted


def tiling(
    n_frames: int, length: int, label: str = "macro", phase: int = 0, video: str = ""
) -> pd.DataFrame:
    """Windows back to back, whatever the video shows: what a spotter must beat.

    Args:
        n_frames: Of the video.
        length: Frames of a window; the last one ends with the video.
        label: Class of all windows.
        phase: First frame of the first window. Drawn from 0 to length - 1, it makes n_frames / length
            windows on average.
        video: The video's name.

    Returns:
        Columns video, label, onset, offset.
    """
    if length < 1 or phase < 0:
        raise BadInput(
            f"length={length}, phase={phase}", "is no window", "give 1 or more, 0 or more"
        )
    onset = np.arange(phase, n_frames, length)
    offset = np.minimum(onset + length, n_frames) - 1
    return pd.DataFrame({"video": video, "label": label, "onset": onset, "offset": offset})
