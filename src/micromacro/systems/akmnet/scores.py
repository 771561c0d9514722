"""How predictions of folds become scores: which epoch counts, and where the mined frames lie.

Folds are pooled first: a score is of all clips, each said by the network that did not see its person.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from micromacro.errors import BadInput
from micromacro.metrics import accuracy, pcc, uar, uf1

SELECTIONS = ("last", "best_fold", "best_subject")


def selected(
    predictions: np.ndarray, target: np.ndarray, groups: Sequence[np.ndarray | None]
) -> dict[str, np.ndarray]:
    """Predictions of the last epoch, and those of the best *test* epoch of each group.

    The released program keeps, of every held-out subject, the epoch with the most correct test clips,
    the first quarter of the epochs left out, and ties going to the later. That is choosing on the
    test data.

    Args:
        predictions: int (C, E), class of each clip after each epoch.
        target: int (C,).
        groups: For "best_fold" and "best_subject": (C,) which clips share their epoch.

    Returns:
        int (C,) by name of `SELECTIONS`.
    """
    found = {"last": predictions[:, -1]}
    for name, group in zip(SELECTIONS[1:], groups, strict=True):
        best = found["last"].copy()
        for member in np.unique(group):
            rows = group == member
            best[rows] = predictions[rows, best_epoch(predictions[rows] == target[rows, None])]
        found[name] = best
    return found


def best_epoch(correct: np.ndarray) -> int:
    """The epoch with the most correct clips, of bool (C, E); the later of equals.

    As released, only from 10 of 40 epochs on, so from a quarter on.
    """
    hits = correct.sum(0)
    first = len(hits) // 4
    return len(hits) - 1 - int(hits[first:][::-1].argmax())


def pooled(folds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The tables of all folds as one, its clips in order, with what each selection predicts.

    Args:
        folds: Of each fold the columns of `experiment.unit`, a row for each clip.

    Returns:
        The same columns, and `prediction`, `best_fold`, `best_subject`: see `selected`.

    Raises:
        BadInput: No fold, or a clip in two of them.
    """
    if not folds:
        raise BadInput("folds", "are none", "give the predictions of one or more")
    table = {name: np.concatenate([fold[name] for fold in folds]) for name in folds[0]}
    names, order = np.unique(table["clip"], return_index=True)
    if len(names) < len(table["clip"]):
        fault = f"hold {len(table['clip'])} clips, of which {len(names)} differ"
        raise BadInput("folds", fault, "give each fold once, all of one run")
    table = {name: values[order] for name, values in table.items()}
    said = selected(table["epochs"], table["truth"], (table["fold"], table["subject"]))
    return table | {"prediction": said.pop("last")} | said


def pooled_scores(table: Mapping[str, np.ndarray]) -> dict[str, float]:
    """All scores of a pooled table: those of the classes, of what was mined, and of guesses.

    Returns:
        `accuracy`, `uar`, `uf1` of the last epoch, the same with `_best_fold` and `_best_subject`,
        chosen on the test data; `majority`, share of the largest class; and the means over clips of
        `mining_columns` and `guess_columns`. With `_correct` over those classified correctly, as in
        the paper's Table VI, which does not say so; NaN if there is none. If frames were dropped also
        `kept_with_duration`: correlation of N / T with the expression's share of the clip, where
        clips differ in both.
    """
    truth = table["truth"]
    metrics = {"majority": float(np.bincount(truth).max() / len(truth))}
    for name in SELECTIONS:
        column, end = ("prediction", "") if name == "last" else (name, f"_{name}")
        for metric in (accuracy, uar, uf1):
            metrics[metric.__name__ + end] = metric(table[column], truth)
    correct = table["prediction"] == truth
    for name, values in (mining_columns(table) | guess_columns(table)).items():
        metrics[name] = float(values.mean())
        metrics[f"{name}_correct"] = float(values[correct].mean()) if correct.any() else np.nan
    if "kept_share" in metrics:
        metrics["kept_with_duration"] = _kept_with_duration(table)
    return metrics


def mining_columns(table: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Where the mined frames of each clip lie, (C,) each; nothing without mining.

    Args:
        table: With T, apex, max_key, kept and apex_kept; of all clips or of some.

    Returns:
        `distance`: |max-key frame - apex| / T; `distance_frames`: without / T; `is_apex`: whether the
        max-key frame is the apex. If frames were dropped also `kept_share`: N / T; `apex_kept`;
        `apex_excess`: the latter less N / T, 0 in the mean by chance; `apex_kept_midpoint`: whether
        as many frames around the middle would have had the apex.
    """
    T, off = table["T"], np.abs(table["max_key"] - table["apex"]).astype(float)
    if (table["max_key"] < 0).all():
        return {}
    found = {"distance": off / T, "distance_frames": off, "is_apex": (off == 0).astype(float)}
    if (table["kept"] < T).any():
        share, hit = table["kept"] / T, table["apex_kept"].astype(float)
        found |= {"kept_share": share, "apex_kept": hit, "apex_excess": hit - share}
        start = (T - table["kept"]) // 2
        middle = (start <= table["apex"]) & (table["apex"] < start + table["kept"])
        found["apex_kept_midpoint"] = middle.astype(float)
    return found


def guess_columns(table: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same of guesses that need no network, (C,) each.

    Args:
        table: With T, apex and most_changed.

    Returns:
        `distance_<guess>` and `distance_frames_<guess>` of "midpoint", "random" (the exact
        expectation over all frames) and "difference" (the frame that differs most from the first);
        `is_apex_random`: 1 / T.
    """
    T, apex = table["T"], table["apex"]
    off = {
        "midpoint": np.abs((T - 1) / 2 - apex),
        "random": random_distance(T, apex),
        "difference": np.abs(table["most_changed"] - apex).astype(float),
    }
    found = {"is_apex_random": 1 / T}
    for guess, frames in off.items():
        found |= {f"distance_{guess}": frames / T, f"distance_frames_{guess}": frames}
    return found


def random_distance(T: np.ndarray, apex: np.ndarray) -> np.ndarray:
    """Mean |frame - apex| over all frames of a clip, exactly: (a (a + 1) + b (b + 1)) / 2 T.

    Args:
        T: int (C,), frames of each clip.
        apex: int (C,), 0-based; a = apex frames lie before it, b = T - 1 - apex behind it.
    """
    before, behind = apex, T - 1 - apex
    return (before * (before + 1) + behind * (behind + 1)) / (2 * T)


def _kept_with_duration(table: Mapping[str, np.ndarray]) -> float:
    kept = table["kept"] / table["T"]
    duration = (table["offset"] - table["onset"] + 1) / table["T"]
    if min(np.ptp(kept), np.ptp(duration)) < 1e-9:
        return float("nan")
    return pcc(kept, duration)
