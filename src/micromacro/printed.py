"""Printed shares: which whole numbers can be behind a score that a paper prints.

An accuracy is a number of clips over another, so few counts print as "0.6618". The audit of
published tables (notebook 11) asks which.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import pandas as pd

from micromacro.errors import BadInput, check_choice


def prints(printed: str, part: np.ndarray | int, whole: np.ndarray | int) -> np.ndarray:
    """Whether shares print so: all in whole numbers, so exactly.

    Args:
        printed: Such as "0.6618"; its digits matter. A tie may have been rounded either way.
        part: Whole numbers from 0 to `whole`, any shape.
        whole: Whole numbers of a shape that broadcasts; a share of nothing prints 0.

    Raises:
        BadInput: No number from 0 to 1.
    """
    if not re.fullmatch(r"0(\.\d+)?|1(\.0+)?", printed):
        raise BadInput(f"share {printed!r}", "is not from 0 to 1", 'give a text such as "0.6618"')
    value, unit = int(printed.replace(".", "")), 10 ** len(printed.partition(".")[2])
    return (abs(2 * unit * part - 2 * value * whole) <= whole) & ((whole > 0) | (value == 0))


def counts(printed: str, n: int) -> list[int]:
    """Whole numbers whose share of n prints so.

    Args:
        printed: As `prints`.
        n: Clips.

    Returns:
        None, one, or more if n is large for so few digits.

    Raises:
        BadInput: No number from 0 to 1, or no clips.
    """
    if n < 1:
        raise BadInput(f"n={n}", "is no number of clips", "give 1 or more")
    return np.flatnonzero(prints(printed, np.arange(n + 1), n)).tolist()


def denominators(printed: Collection[str], among: Iterable[int]) -> list[int]:
    """Those numbers of clips that could have given every one of the printed shares.

    Raises:
        BadInput: As `counts`.
    """
    return [n for n in among if all(counts(share, n) for share in printed)]


def counts_behind(n_truth: int, *, most: int = 10_000, **printed: str) -> pd.DataFrame:
    """All counts that a detector's printed scores can come from: things found, predictions.

    Args:
        n_truth: Number of true things.
        most: Predictions at most.
        **printed: f1, precision or recall, such as f1="0.1084"; as `prints`.

    Returns:
        int64 columns tp, n_predictions; tp is at most n_truth and n_predictions, as one to one.

    Raises:
        BadInput: As `prints`.
    """
    tp, n = np.ogrid[: n_truth + 1, : most + 1]
    pairs = np.argwhere(_fits(tp, n, n_truth, printed))
    return pd.DataFrame(pairs, columns=["tp", "n_predictions"])


def pooled_behind(a: pd.DataFrame, b: pd.DataFrame, n_truth: int, **printed: str) -> pd.DataFrame:
    """Pairs of counts, one of each of two parts, whose sums print so; fewest predictions first.

    Args:
        a: Of `counts_behind`: of one class, or of one data set.
        b: Of the other part.
        n_truth: True things of both parts together.
        **printed: Of both together, as `counts_behind`.

    Returns:
        int64 columns tp_a, n_predictions_a, tp_b, n_predictions_b.

    Raises:
        BadInput: As `prints`.
    """
    tp, n = (np.add.outer(*(part[name].to_numpy() for part in (a, b))) for name in a)
    i, j = np.nonzero(_fits(tp, n, n_truth, printed))
    order = n[i, j].argsort(kind="stable")
    parts = a.iloc[i[order]].add_suffix("_a"), b.iloc[j[order]].add_suffix("_b")
    return pd.concat([part.reset_index(drop=True) for part in parts], axis=1)


def _fits(tp: np.ndarray, n: np.ndarray, n_truth: int, printed: Mapping[str, str]) -> np.ndarray:
    """Whether so many found, of n predictions, can be, and print so in all that is printed."""
    shares = {"f1": (2 * tp, n + n_truth), "precision": (tp, n), "recall": (tp, n_truth)}
    for name in printed:
        check_choice("score", name, shares)
    return math.prod((prints(text, *shares[k]) for k, text in printed.items()), start=tp <= n)
