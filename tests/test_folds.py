"""Folds that keep groups whole."""

import numpy as np
import pytest
from refusals import refused

from micromacro.folds import grouped_folds, held_out, leave_one_out


def test_leave_one_out_is_one_fold_a_group_in_sorted_order():
    assert leave_one_out(["b", "a", "c", "a", "b"]).tolist() == [1, 0, 2, 0, 1]
    assert leave_one_out(["01", "1"]).tolist() == [0, 1]  # texts, not numbers
    assert leave_one_out(np.array(["b", "a"])).dtype == np.int64


@pytest.mark.parametrize("n_folds", [2, 3, 5, 13])
def test_grouped_folds_are_whole_even_and_independent_of_the_order(n_folds):
    rng = np.random.default_rng(n_folds)
    groups = [f"s{k}" for k in rng.integers(0, 13, 200)] + [f"s{k}" for k in range(13)]
    fold = grouped_folds(groups, n_folds, seed=4)
    by_group = {}
    for name, number in zip(groups, fold.tolist(), strict=True):
        assert by_group.setdefault(name, number) == number
    sizes = np.bincount(list(by_group.values()), minlength=n_folds)
    assert len(sizes) == n_folds
    assert sizes.max() - sizes.min() <= 1
    shuffled = rng.permutation(len(groups))
    again = grouped_folds([groups[k] for k in shuffled], n_folds, seed=4)
    np.testing.assert_array_equal(again, fold[shuffled])


def test_grouped_folds_follow_the_seed_and_both_refuse():
    groups = list("abcdefgh") * 2
    assert len({tuple(grouped_folds(groups, 3, seed)) for seed in range(8)}) > 4
    refused(lambda: grouped_folds(groups, 9), "8 groups cannot make 9 folds")
    for n_folds in (1, 0, -1):
        refused(lambda n=n_folds: grouped_folds(groups, n), "leaves nothing to train on")
    for few in ([], ["a", "a"]):
        refused(lambda few=few: leave_one_out(few), "cannot make 2 folds")


def test_one_fold_is_held_out():
    groups = ["b", "a", "c", "a"]
    assert held_out(groups, 0).tolist() == [False, True, False, True]
    assert held_out(groups, 1, 2, seed=3).tolist() == (grouped_folds(groups, 2, 3) == 1).tolist()
    refused(lambda: held_out(groups, 3), "fold 3", "no such fold")
    refused(lambda: held_out(groups, -1, 2), "fold -1", "count from 0")
