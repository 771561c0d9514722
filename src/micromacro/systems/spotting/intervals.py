"""From scores of frames to intervals: smooth, threshold, find peaks, lay an interval around each.

The paper's own choices are not known; the steps are SOFTNet's (2021), the same for both classes.
With k for half the mean length of a class in frames:

1. The scores become their moving mean over 2 k frames, in which the first and the last k have none.
2. They are measured from the video's mean, which becomes 0, to its largest, which becomes 1.
3. Peaks k or more frames apart that reach a threshold are kept. SOFTNet's own is 0.55.
4. An interval reaches k frames to both sides of its peak.

So all intervals of a class are equally long and lie inside the video, and no limit of lengths is
needed. Two overlap by about a third at most (intersection over union), and none is thinned out.

Public programs lay intervals in other ways too: runs of frames above the threshold (MDMD), falls on
both sides of a peak (MTSN), two more curves of onset and offset (AUW-GCN). No arm uses them, so
that only the spotter differs. A frame without a score (NaN: a lost face) is left out of means and
is no peak.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks

from micromacro.errors import BadInput, check_whole
from micromacro.systems.spotting.scoring import CLASSES, Rule, compared, most_pairs

Gaps, Thresholds = Mapping[str, int], Mapping[str, float]


def smoothed(scores: np.ndarray, window: int) -> np.ndarray:
    """Moving mean over `window` frames; an even one has one more before the frame than behind.

    Args:
        scores: (T,), any real dtype; NaN where there is none.
        window: Number of frames, 1 or more.

    Returns:
        float64 (T,): the mean of the scores in the window; NaN where it holds none, and where fewer
        than window // 2 frames lie before or behind the frame, as in SOFTNet and MTSN.
    """
    scores = np.asarray(scores, float)
    known, t = ~np.isnan(scores), np.arange(len(scores))
    parts = (np.where(known, scores, 0.0), known * 1.0)
    total, share = (uniform_filter1d(part, window, mode="constant") for part in parts)
    holds = (t >= window // 2) & (t < len(t) - window // 2) & (share * window > 0.5)
    return np.where(holds, total / np.maximum(share, 0.5 / window), np.nan)


def _curve(scores: np.ndarray, k: int) -> np.ndarray:
    """Smoothed scores in the threshold's unit, float64 (T,), gaps bridged; -inf if all are nan."""
    curve = smoothed(scores, 2 * k)
    known = np.flatnonzero(~np.isnan(curve))
    if not len(known):
        return np.full(len(curve), -np.inf)
    values = curve[known] - curve[known].mean()
    values /= max(values.max(), 1e-9)  # a constant, give or take its rounding, stays near 0
    return np.interp(np.arange(len(curve)), known, values)


def peaks(curve: np.ndarray, threshold: float, distance: int) -> np.ndarray:
    """Frames above their neighbours and not below the threshold, int64 in order of time.

    Of peaks nearer than `distance` frames to each other the higher stays. The first and the last
    frame are none. It does not matter to those that stay whether lower ones are dropped before or
    after.

    Args:
        curve: float (T,), no NaN.
        threshold: In the curve's unit.
        distance: In frames, 1 or more.
    """
    return find_peaks(curve, height=threshold, distance=distance)[0]


def spotted(scores: np.ndarray, gaps: Gaps, thresholds: Thresholds, video: str) -> pd.DataFrame:
    """The intervals that thresholds find in one video.

    Args:
        scores: (T, 2), any real dtype: each frame's score for micro and for macro, the more the
            surer; NaN where there is none.
        gaps: Class -> k, half its mean length in frames, 1 or more.
        thresholds: Class -> how high a peak must be, as a share of the way from the video's mean
            score to its largest.
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
        k = gaps[label]
        curve = _curve(x, k)
        peak = peaks(curve, thresholds[label], k)
        peak = peak[~np.isnan(x[peak])]  # none in what was bridged
        spans = {"video": video, "label": label, "onset": peak - k, "offset": peak + k}
        tables.append(pd.DataFrame(spans | {"peak": peak, "score": curve[peak]}))
    return pd.concat(tables, ignore_index=True)


def fit_threshold(
    scores: Mapping[str, np.ndarray], truth: pd.DataFrame, gaps: Gaps, steps: int = 32
) -> Thresholds:
    """The thresholds that give each class its best F1, pooled over the videos given.

    A class goes by its own F1: by the overall one a rare class is often best left alone, which says
    nothing about it. Intervals are laid once, and a threshold chooses among them: the time is
    linear in the number of frames. Tried are heights of peaks, spread evenly by rank, and infinity,
    which spots nothing; of equals the highest.

    Args:
        scores: Of the training videos alone: video -> scores, as `spotted`.
        truth: True intervals (`scoring`); those of other videos are left out.
        gaps: Class -> k, as `spotted`.
        steps: Thresholds to try for each class.

    Returns:
        Class -> threshold, as `spotted` takes them.

    Raises:
        BadInput: No video; as `spotted` and `scoring.counts`.
    """
    if not scores:
        raise BadInput("scores", "are of no video", "give training videos")
    free = dict.fromkeys(CLASSES, -np.inf)
    candidates = pd.concat([spotted(x, gaps, free, video) for video, x in scores.items()])
    fitted = {}
    for label in CLASSES:
        own = candidates[candidates["label"] == label].sort_values("score", ascending=False)
        here = truth[truth["video"].isin(scores) & (truth["label"] == label)]
        hits, _, _ = compared(here, own, Rule())
        ranks = np.unique(np.linspace(0, len(own), steps).astype(int))
        tried = np.append(np.inf, own["score"])[ranks]
        n = np.array([(own["score"] >= limit).sum() for limit in tried])
        tp = np.array([len(most_pairs(hits[hits["prediction"] < first])) for first in n])
        fitted[label] = float(tried[(tp / np.maximum(n + len(here), 1)).argmax()])
    return fitted


def tiling(videos: Mapping[str, int], length: int, phase: int | Sequence[int] = 0) -> pd.DataFrame:
    """Macro windows back to back, whatever the videos show: what a spotter must beat.

    Args:
        videos: Video -> number of its frames.
        length: Frames of a window; a video's last one ends with the video.
        phase: First frame of the first window, of all videos or of each. Drawn from 0 to
            length - 1, it makes n_frames / length windows on average.

    Returns:
        Columns video, label, onset, offset (int64), by video and in the order of time.

    Raises:
        BadInput: A length or a phase that is none.
    """
    ends, length = np.array([*videos.values()], np.int64), check_whole("length", length)
    starts = np.broadcast_to([check_whole("phase", p, 0) for p in np.ravel(phase)], len(ends))
    table = pd.DataFrame({"video": [*videos], "label": "macro", "onset": starts})
    table = table.loc[table.index.repeat(np.maximum(-((starts - ends) // length), 0))]
    table["onset"] += length * table.groupby(level=0).cumcount()
    table["offset"] = np.minimum(table["onset"] + length, ends[table.index]) - 1
    return table.reset_index(drop=True)
