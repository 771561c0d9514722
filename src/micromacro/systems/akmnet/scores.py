"""How predictions of folds become scores: which epoch counts, and where the mined frames lie."""

from collections.abc import Sequence

import numpy as np

from micromacro.metrics import accuracy, uar, uf1
from micromacro.systems.akmnet.task import Clips

SELECTIONS = ("last", "best_fold", "best_subject")


def selected(
    predictions: np.ndarray, target: np.ndarray, groups: Sequence[np.ndarray | None]
) -> dict[str, np.ndarray]:
    """Predictions of the last epoch, and those of the best *test* epoch of each group.

    The released program keeps, of every held-out subject, the epoch with the most correct test clips,
    the first quarter of the epochs left out, and ties going to the later. That is choosing on the
    test data.

    Args:
        predictions: int (E, C), class of each clip after each epoch.
        target: int (C,).
        groups: For "best_fold" and "best_subject": (C,) which clips share their epoch.

    Returns:
        int (C,) by name of `SELECTIONS`.
    """
    found = {"last": predictions[-1]}
    for name, group in zip(SELECTIONS[1:], groups, strict=True):
        best = predictions[-1].copy()
        for member in np.unique(group):
            rows = group == member
            best[rows] = predictions[best_epoch(predictions[:, rows] == target[rows]), rows]
        found[name] = best
    return found


def best_epoch(correct: np.ndarray) -> int:
    """The epoch with the most correct clips, of bool (E, C); the later of equals.

    As released, only from 10 of 40 epochs on, so from a quarter on.
    """
    hits = correct.sum(1)
    first = len(hits) // 4
    return len(hits) - 1 - int(hits[first:][::-1].argmax())


def class_scores(predictions: dict[str, np.ndarray], target: np.ndarray) -> dict[str, float]:
    """Accuracy, UAR and UF1 over the clips of all folds: `accuracy`, `accuracy_best_fold`, ..."""
    return {
        metric.__name__ + ("" if name == "last" else f"_{name}"): metric(prediction, target)
        for name, prediction in predictions.items()
        for metric in (accuracy, uar, uf1)
    }


def mining_scores(
    clips: Clips, kept: np.ndarray, max_key: np.ndarray, selects: bool, correct: np.ndarray
) -> dict[str, float]:
    """Where the mined frames lie, over all clips and, with `_correct`, over the correct ones.

    The paper's Table VI counts the correctly classified clips only, without saying so.

    Args:
        clips: C clips of N frames.
        kept: bool (N,).
        max_key: int (C,), frame with the largest score.
        selects: Whether frames are dropped at all.
        correct: bool (C,).

    Returns:
        `distance`: mean |max-key frame - apex| / T; `distance_frames`: without / T, at 60 frames a
        second; `is_apex`: share of clips whose max-key frame is the apex. With a selection
        `kept_share`: mean N / T; `apex_kept`: share of clips whose apex is kept; `apex_excess`:
        mean of the latter less N / T, 0 by chance.
    """
    lengths, apex = clips.lengths.numpy(), clips.apex.numpy()
    starts = np.cumsum(lengths) - lengths
    share = np.add.reduceat(kept.astype(float), starts) / lengths
    each = {
        "distance": np.abs(max_key - apex) / lengths,
        "distance_frames": np.abs(max_key - apex).astype(float),
        "is_apex": (max_key == apex).astype(float),
    }
    if selects:
        each["kept_share"] = share
        each["apex_kept"] = kept[starts + apex].astype(float)
        each["apex_excess"] = each["apex_kept"] - share
    return _means(each, correct)


def chance_scores(clips: Clips, correct: np.ndarray) -> dict[str, float]:
    """The same of guesses that need no network, over the same clips.

    Returns:
        `distance_<guess>` and `distance_frames_<guess>` of "midpoint", "random" (the exact
        expectation over all frames) and "difference" (the frame that differs most from the first);
        `is_apex_random`: mean 1 / T. With `_correct`, over the correct ones.
    """
    each: dict[str, list[float]] = {"is_apex_random": (1 / clips.lengths).tolist()}
    for frames, apex in zip(clips.split(clips.frames), clips.apex.tolist(), strict=True):
        T, moved = len(frames), (frames.float() - frames[0].float()).abs().mean((1, 2))
        off = {
            "midpoint": abs((T - 1) / 2 - apex),
            "random": float(np.abs(np.arange(T) - apex).mean()),
            "difference": abs(int(moved.argmax()) - apex),
        }
        for guess, frames_off in off.items():
            each.setdefault(f"distance_{guess}", []).append(frames_off / T)
            each.setdefault(f"distance_frames_{guess}", []).append(frames_off)
    return _means({name: np.array(values) for name, values in each.items()}, correct)


def _means(each: dict[str, np.ndarray], correct: np.ndarray) -> dict[str, float]:
    found = {name: float(values.mean()) for name, values in each.items()}
    if correct.any():
        return found | {f"{name}_correct": float(v[correct].mean()) for name, v in each.items()}
    return found | {f"{name}_correct": float("nan") for name in each}
