"""Snippets, windows and rescaling: how the data sets are cut and put together again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from micromacro.clip import FaceClip
from micromacro.errors import BadInput

SNIPPET_FRAMES = 13  # 12 phase differences: 0.4 s at 30 frames per second
LONGEST_OMG = 16  # snippets, one a second
WINDOW = 64  # snippets of a training sequence on Aff-Wild: 2.1 s


@dataclass(frozen=True, eq=False)
class Snippets:
    """Which frames make up each snippet, and whether it counts.

    Attributes:
        frames: int64 (S, length), 0-based frame numbers.
        valid: bool (S,), False where a snippet touches a frame without a face, spans a shot cut, or
            touches a frame without a label. This is the model's mask.
    """

    frames: np.ndarray
    valid: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def centre(self) -> np.ndarray:
        """int64 (S,), the frame that the spatial stream sees: index 6 of 13."""
        return self.frames[:, self.frames.shape[1] // 2]


def centred_snippets(
    clip: FaceClip, labels: np.ndarray | None = None, *, length: int = SNIPPET_FRAMES
) -> Snippets:
    """One snippet around each frame (Aff-Wild): t - 6 ... t + 6, the film's ends repeated.

    The released code strings together all frames with a face; here a gap stays a gap, and no frame
    is dropped: S = T, so predictions, labels and frames share their numbers.

    Args:
        clip: T frames.
        labels: float (T, n_outputs), nan where there is none; None where no labels are known.
        length: Frames of a snippet.
    """
    half, T = length // 2, len(clip)
    frames = np.arange(T)[:, None] + np.arange(-half, length - half)
    labelled = np.ones(T, bool) if labels is None else np.isfinite(labels).all(axis=1)
    return _snippets(clip, np.clip(frames, 0, T - 1), labelled)


def stepped_snippets(
    clip: FaceClip,
    *,
    step: int | None = None,
    longest: int | None = LONGEST_OMG,
    length: int = SNIPPET_FRAMES,
) -> Snippets:
    """One snippet a second (OMG): from frame 0, `step`, 2 `step`, ... on, as long as all are there.

    A clip below 13 frames has none (the released code skips it), S = 0.

    Args:
        clip: T frames.
        step: Frames between starts; None means a second at the clip's own rate, the released code
            takes 30 for every film.
        longest: Snippets at most, the rest of the clip is left out; None means all.
        length: Frames of a snippet.
    """
    if len(clip) < length:
        return _snippets(clip, np.empty((0, length), np.int64), np.ones(len(clip), bool))
    step = max(1, round(clip.fps)) if step is None else step
    starts = np.arange(0, len(clip) - length + 1, step)[:longest]
    return _snippets(clip, starts[:, None] + np.arange(length), np.ones(len(clip), bool))


def _snippets(clip: FaceClip, frames: np.ndarray, labelled: np.ndarray) -> Snippets:
    good = (clip.status != "none") & labelled
    one_shot = clip.shot[frames[:, 0]] == clip.shot[frames[:, -1]]  # shots never decrease
    return Snippets(frames, good[frames].all(axis=1) & one_shot)


def windows(n_frames: int, length: int = WINDOW, stride: int | None = None) -> np.ndarray:
    """Cut a film into windows; the last one is aligned right, so that every frame is in one.

    Args:
        n_frames: Snippets in all, at least 1.
        length: Snippets of a window; a shorter film is one shorter window.
        stride: None means `length`, no overlap but the last one's: testing. Training uses 32.

    Returns:
        int64 (W, 2), starts and stops, half-open.
    """
    stride = length if stride is None else stride
    if min(n_frames, length, stride) < 1:
        fault = f"n_frames {n_frames}, length {length}, stride {stride}"
        raise BadInput("windows", fault, "give whole numbers from 1 on")
    last = max(0, n_frames - length)
    starts = np.array([*range(0, last, stride), last])
    return np.stack([starts, np.minimum(starts + length, n_frames)], axis=1)


def merge_windows(
    predictions: Sequence[np.ndarray], spans: np.ndarray, *, merge: str = "average"
) -> np.ndarray:
    """Put the predictions of windows together.

    Args:
        predictions: For each window, float (stop - start, n_outputs).
        spans: int (W, 2), from `windows`.
        merge: Where windows overlap, "average" takes the mean; "overwrite" the later window, as the
            released code does.

    Returns:
        float64 (n_frames, n_outputs).

    Raises:
        BadInput: Unknown merge, lengths that do not fit, or a frame in no window.
    """
    if merge not in ("average", "overwrite"):
        raise BadInput(f"merge={merge!r}", "unknown", 'use "average" or "overwrite"')
    fits = len(predictions) == len(spans) > 0 and all(
        len(part) == stop - start for part, (start, stop) in zip(predictions, spans, strict=True)
    )
    if not fits:
        raise BadInput("predictions", "do not have the windows' lengths", "give one for each")
    n_frames = int(np.max(spans))
    total, count = np.zeros((n_frames, np.shape(predictions[0])[1])), np.zeros((n_frames, 1))
    for part, (start, stop) in zip(predictions, spans, strict=True):
        if merge == "overwrite":
            total[start:stop] = count[start:stop] = 0
        total[start:stop] += part
        count[start:stop] += 1
    if not count.all():
        raise BadInput("spans", "leave frames without a window", "use those of windows()")
    return total / count


def hold_last(prediction: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Replace predictions of invalid snippets by the last valid one, 0 before the first.

    What the released code hands in for frames without a face.

    Args:
        prediction: float (T, n_outputs).
        valid: bool (T,), `Snippets.valid`.

    Returns:
        float (T, n_outputs).
    """
    last = np.maximum.accumulate(np.where(valid, np.arange(len(valid)), -1))
    return np.where((last >= 0)[:, None], prediction[last], 0)


def rescale(prediction: np.ndarray, train_sd: float | np.ndarray) -> np.ndarray:
    """Give predictions the spread of the training labels: y' = m + (y - m) s_train / s.

    m and s are mean and population standard deviation of each column over the *whole* set, so the
    result for one frame depends on all others (transductive). Constant predictions stay.

    Args:
        prediction: float (N,) or (N, n_outputs).
        train_sd: Standard deviation of the training labels, one or (n_outputs,).

    Returns:
        float64, the shape of `prediction`.

    Raises:
        BadInput: A value that is not finite, or a spread that is not positive.
    """
    y, train_sd = np.asarray(prediction, np.float64), np.asarray(train_sd, np.float64)
    if not (len(y) and np.isfinite(y).all()):
        raise BadInput("prediction", "empty or not finite", "leave such frames out, or hold_last")
    if not (np.isfinite(train_sd).all() and (train_sd > 0).all()):
        raise BadInput(f"train_sd {train_sd}", "is not positive", "use np.nanstd of the labels")
    mean, varies = y.mean(axis=0), np.ptp(y, axis=0) > 0  # of equal numbers std is not exactly 0
    return mean + (y - mean) * np.where(varies, train_sd / np.where(varies, y.std(axis=0), 1), 1)
