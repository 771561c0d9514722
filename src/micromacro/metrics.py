"""Scores: agreement of numbers (CCC, PCC, MSE) and of classes (UF1, UAR, accuracy).

Every score takes ``(prediction, target)`` and returns a float, computed in float64. Scores of
numbers pool all rows; with ``groups``, the video of each row, they are taken for each video and
averaged, every video counting the same. The two are different protocols: OMG-Emotion's current
evaluation pools all utterances, its older one averaged CCC over videos. Say which one is meant.

Where a correlation has no value, 0 / 0, it counts as 0: so for a constant, whose PCC is 0 / 0
(SciPy gives NaN) and whose CCC is 0 unless the other is the same constant. A network that
collapsed to a constant then scores 0, and does not drop out of an average as NaN would.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from micromacro.errors import BadInput

Numbers = np.ndarray | torch.Tensor | Sequence


def ccc(prediction: Numbers, target: Numbers, *, groups: Sequence | None = None) -> float:
    """Lin's concordance correlation coefficient, -1 to 1.

    With means m, population variances s^2 and covariance c (all divided by n, not n - 1)

        CCC = 2 c / (s_p^2 + s_t^2 + (m_p - m_t)^2)

    as in the evaluation of OMG-Emotion and Aff-Wild. (torchmetrics divides by n - 1, so its value
    is larger in size, by up to 1 / n of it.)

    Args:
        prediction: (N,), or (N, L) for L labels, whose scores are averaged; any real dtype.
        target: The same shape.
        groups: (N,) names of the videos; None pools all rows.

    Returns:
        1 for equal numbers, 0 for a constant prediction or target, hence also for a single row.

    Raises:
        BadInput: Different shapes, no rows, NaN or infinite numbers, not one group for each row.
    """
    return _averaged(_ccc, prediction, target, groups)


def pcc(prediction: Numbers, target: Numbers, *, groups: Sequence | None = None) -> float:
    """Pearson's correlation coefficient, ``c / (s_p s_t)``, -1 to 1.

    Args:
        prediction: (N,), or (N, L) for L labels, whose scores are averaged; any real dtype.
        target: The same shape.
        groups: (N,) names of the videos; None pools all rows.

    Returns:
        The coefficient; 0 for a constant prediction or target, hence also for a single row.

    Raises:
        BadInput: As `ccc`.
    """
    return _averaged(_pcc, prediction, target, groups)


def mse(prediction: Numbers, target: Numbers, *, groups: Sequence | None = None) -> float:
    """Mean squared error, in squares of the target's unit.

    Args:
        prediction: (N,), or (N, L) for L labels; any real dtype.
        target: The same shape.
        groups: (N,) names of the videos; None pools all rows.

    Raises:
        BadInput: As `ccc`.
    """
    return _averaged(_mse, prediction, target, groups)


def uf1(prediction: Numbers, target: Numbers) -> float:
    """Unweighted (macro) F1 over the classes of the target, 0 to 1.

    For a class with TP hits, FN misses and FP false alarms, F1 = 2 TP / (2 TP + FN + FP). Classes
    that the target lacks are left out of the mean: predicting one is a miss for the true class and
    nothing else. Counts are pooled over all rows; for leave-one-subject-out (MEGC) give the
    predictions of all folds at once, not the mean of the folds.

    Args:
        prediction: (N,) class numbers or names.
        target: (N,), likewise.

    Raises:
        BadInput: Not two equally long, not empty rows of class numbers or of names.
    """
    hits, predicted, present = _counts(prediction, target)
    return float(np.mean(2 * hits / (predicted + present)))


def uar(prediction: Numbers, target: Numbers) -> float:
    """Unweighted average recall: the mean over classes of the share that was found, 0 to 1.

    Classes that the target lacks are left out of the mean, as in `uf1`.

    Args:
        prediction: (N,) class numbers or names.
        target: (N,), likewise.

    Raises:
        BadInput: As `uf1`.
    """
    hits, _, present = _counts(prediction, target)
    return float(np.mean(hits / present))


def accuracy(prediction: Numbers, target: Numbers) -> float:
    """Share of rows whose class is right, 0 to 1.

    Args:
        prediction: (N,) class numbers or names.
        target: (N,), likewise.

    Raises:
        BadInput: As `uf1`.
    """
    prediction, target = _classes(prediction, target)
    return float(np.mean(prediction == target))


def _ccc(p: np.ndarray, t: np.ndarray) -> float:
    below = _centred(p).var() + _centred(t).var() + (p.mean() - t.mean()) ** 2
    return float(2 * np.mean(_centred(p) * _centred(t)) / below) if below > 0 else 0.0


def _pcc(p: np.ndarray, t: np.ndarray) -> float:
    p, t = _centred(p), _centred(t)
    below = np.linalg.norm(p) * np.linalg.norm(t)
    return float(np.clip(p @ t / below, -1, 1)) if below > 0 else 0.0


def _mse(p: np.ndarray, t: np.ndarray) -> float:
    return float(np.mean((p - t) ** 2))


def _centred(x: np.ndarray) -> np.ndarray:
    """Minus the mean; exactly 0 for a constant, whose mean alone may be rounded."""
    x = x - x[0]
    return x - x.mean()


def _averaged(score: Callable, prediction: Numbers, target: Numbers, groups) -> float:
    """The mean of a score over columns (labels) and groups of rows."""
    wanted = "real numbers for both, (N,) or (N, L), N above 0"
    p, t = (x.astype(np.float64) for x in _pair(prediction, target, ["biuf"], (1, 2), wanted))
    if not (np.isfinite(p).all() and np.isfinite(t).all()):
        fault = "hold NaN or infinite numbers"
        raise BadInput("prediction and target", fault, "leave those rows out of both")
    rows = [slice(None)]
    if groups is not None:
        names, member = np.unique(_array(groups), return_inverse=True)
        if member.shape != p.shape[:1]:
            fault = f"have shape {member.shape} for {len(p)} rows"
            raise BadInput("groups", fault, "name the video of each row")
        rows = [member == k for k in range(len(names))]
    p, t = p.reshape(len(p), -1).T, t.reshape(len(t), -1).T
    return float(np.mean([score(a[r], b[r]) for a, b in zip(p, t, strict=True) for r in rows]))


def _counts(prediction: Numbers, target: Numbers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each class of the target: hits, times predicted, times present; int64 (classes,)."""
    prediction, target = _classes(prediction, target)
    classes = np.unique(target)[:, None]
    predicted, present = classes == prediction, classes == target
    return (predicted & present).sum(1), predicted.sum(1), present.sum(1)


def _classes(prediction: Numbers, target: Numbers) -> list[np.ndarray]:
    wanted = "class numbers (int) or names for both, one for each row, (N,)"
    return _pair(prediction, target, ["iub", "U"], (1,), wanted)


def _pair(prediction: Numbers, target: Numbers, kinds, axes, wanted: str) -> list[np.ndarray]:
    """Both as arrays: of one of the kinds of dtype, of one shape with so many axes, not empty."""
    p, t = pair = [_array(prediction), _array(target)]
    alike = any(p.dtype.kind in kind and t.dtype.kind in kind for kind in kinds)
    if not alike or p.shape != t.shape or p.ndim not in axes or p.size == 0:
        fault = f"are {p.dtype} {p.shape} and {t.dtype} {t.shape}"
        raise BadInput("prediction and target", fault, f"give {wanted}")
    return pair


def _array(values: Numbers) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.double() if values.is_floating_point() else values).numpy()
    try:
        values = np.asarray(values)
    except ValueError as error:
        fault = "have rows of unequal length"
        raise BadInput("prediction and target", fault, "give (N,) or (N, L)") from error
    return np.array(values.tolist()) if values.dtype.kind == "O" else values  # a column of pandas
