"""From scores of frames to intervals: smooth, threshold, find peaks, lay an interval around each.

The paper's own choices are not known; the defaults are SOFTNet's (2021). Public programs lay intervals in
other ways too: runs of frames above the threshold (MDMD), falls on both sides of a peak (MTSN), two more
curves of onset and offset (AUW-GCN). No arm uses them, so that only the spotter differs. A frame without
a score (NaN: a lost face) is left out of means and is no peak.

An interval reaches k frames to both sides of its peak, k being half the mean length of its class. So all
are equally long but at a video's ends, and no limit of lengths is needed. Peaks lie k frames apart, so two
intervals of a class overlap by about a third at most (intersection over union), and none is thinned out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks

from micromacro.errors import BadInput, check_whole
from micromacro.systems.spotting.scoring import CLASSES, Rule, compared, most_pairs

COLUMNS = ["video", "label", "onset", "offset", "peak", "score"]


@dataclass(frozen=True)
class Recipe:
    """How the scores of one class become intervals; k is half its mean length in frames.

    Attributes:
        threshold: Score that a peak must reach.
        relative: It is a share of the way from a video's mean score to its largest.
        smooth: Width of the moving mean, in k; 0 for none.
    """

    threshold: float = 0.55
    relative: bool = True
    smooth: float = 2.0


Gaps, Recipes = Mapping[str, int], Mapping[str, Recipe]
RECIPES: Recipes = dict.fromkeys(CLASSES, Recipe())
"""Class -> recipe: SOFTNet's, the same for both."""


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


def spotted(
    scores: np.ndarray, gaps: Gaps, recipes: Recipes = RECIPES, video: str = ""
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
        BadInput: Scores of another shape.
    """
    scores = np.asarray(scores, float)
    if scores.ndim != 2 or scores.shape[1] != 2:
        raise BadInput(f"scores of shape {scores.shape}", "are not (T, 2)", "give micro and macro")
    tables = []
    for x, label in zip(scores.T, CLASSES, strict=True):
        k, recipe = gaps[label], recipes[label]
        curve = _curve(x, k, recipe)
        peak = peaks(curve, recipe.threshold, k)
        peak = peak[~np.isnan(x[peak])]  # none in what was bridged
        onset, offset = (peak - k).clip(0), (peak + k).clip(max=len(x) - 1)
        columns = (video, label, onset, offset, peak, curve[peak])
        tables.append(pd.DataFrame(dict(zip(COLUMNS, columns, strict=True))))
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
        recipes: Class -> recipe.
        steps: Thresholds to try for each class.

    Raises:
        BadInput: No video; as `spotted` and `scoring.counts`.
    """
    if not scores:
        raise BadInput("scores", "are of no video", "give training videos")
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


def tiling(n_frames: int, length: int, phase: int = 0, video: str = "") -> pd.DataFrame:
    """Macro windows back to back, whatever the video shows: what a spotter must beat.

    Args:
        n_frames: Of the video.
        length: Frames of a window; the last one ends with the video.
        phase: First frame of the first window. Drawn from 0 to length - 1, it makes n_frames / length
            windows on average.
        video: The video's name.

    Returns:
        Columns video, label, onset, offset.

    Raises:
        BadInput: A length or a phase that is none.
    """
    onset = np.arange(check_whole("phase", phase, 0), n_frames, check_whole("length", length))
    offset = np.minimum(onset + length, n_frames) - 1
    return pd.DataFrame({"video": video, "label": "macro", "onset": onset, "offset": offset})
