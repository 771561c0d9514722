"""Folds that keep groups whole: the clips of one person are never on both sides of a split."""

from collections.abc import Sequence

import numpy as np

from micromacro.errors import BadInput


def leave_one_out(groups: Sequence[str]) -> np.ndarray:
    """One fold for each group: leave one subject out (LOSO) where groups are subjects.

    A group without a row has no fold, so it cannot give an empty test set.

    Args:
        groups: (N,) name of each row's group; repeats expected, in any order.

    Returns:
        int64 (N,), fold of each row, 0 to the number of groups - 1 in the names' sorted order: the
        rows of fold k are tested by what all others trained.

    Raises:
        BadInput: Fewer than two groups.
    """
    names, fold = np.unique(groups, return_inverse=True)
    _check_enough(names, 2)
    return fold


def grouped_folds(groups: Sequence[str], n_folds: int, seed: int = 0) -> np.ndarray:
    """Folds of whole groups, the same whatever order the rows stand in.

    Args:
        groups: (N,) name of each row's group.
        n_folds: The folds hold equally many groups, give or take one; groups differ in rows, so
            folds do too.
        seed: Of the shuffle of the groups.

    Returns:
        int64 (N,), fold of each row, 0 to n_folds - 1.

    Raises:
        BadInput: Fewer than two folds, or fewer groups than folds.
    """
    if n_folds < 2:
        raise BadInput(f"n_folds={n_folds}", "leaves nothing to train on", "use 2 or more")
    names, group = np.unique(groups, return_inverse=True)
    _check_enough(names, n_folds)
    fold = np.empty(len(names), np.int64)
    fold[np.random.default_rng(seed).permutation(len(names))] = np.arange(len(names)) % n_folds
    return fold[group]


def held_out(
    groups: Sequence[str], fold: int, n_folds: int | None = None, seed: int = 0
) -> np.ndarray:
    """The rows that one fold tests, and all others train for.

    Args:
        groups: (N,) name of each row's group.
        fold: Number of the fold, from 0 on.
        n_folds: Number of folds, see `grouped_folds`; None leaves one group out, in sorted order.
        seed: Random seed of the shuffle of the groups.

    Returns:
        bool (N,), true for at least one row.

    Raises:
        BadInput: No such fold; as `grouped_folds` and `leave_one_out`.
    """
    folds = leave_one_out(groups) if n_folds is None else grouped_folds(groups, n_folds, seed)
    if not (tested := folds == fold).any():
        raise BadInput(f"fold {fold}", "there is no such fold", "count from 0, below their number")
    return tested


def _check_enough(names: np.ndarray, at_least: int) -> None:
    if len(names) < at_least:
        fault = f"{len(names)} groups cannot make {at_least} folds"
        raise BadInput("groups", fault, "use fewer folds, or data of more people")
