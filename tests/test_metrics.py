"""Closed forms worked out by hand, SciPy and, where it is installed, scikit-learn."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from refusals import refused

from micromacro.metrics import accuracy, ccc, mse, pcc, uar, uf1

T = np.array([3.0, -0.5, 2.0, 7.0])  # sums of squares about the mean: 29.1875 and 35.1875,
P = np.array([2.5, 0.0, 2.0, 8.0])  # of products 31.5625, means 0.25 apart
CCC, FAR = (2 * 31.5625 / (29.1875 + 35.1875 + 4 * off**2) for off in (0.25, 10.25))
NUMBERS = (ccc, pcc, mse)
CLASSES = (uf1, uar, accuracy)
close = partial(pytest.approx, abs=1e-12)  # rounding in float64: some hundred terms of order 1


def pair(n=57, seed=0, labels=()):
    target, noise = np.random.default_rng(seed).normal(size=(2, n, *labels))
    return 0.6 * target + 0.4 * noise + 0.3, target


def test_by_hand():
    correlation = 31.5625 / (29.1875 * 35.1875) ** 0.5
    assert [score(P, T) for score in NUMBERS] == close([CCC, correlation, 0.375])
    _, target = pair()
    assert [score(target, target) for score in NUMBERS] == close([1, 1, 0])
    assert ccc(-target, target) < 0
    assert -1 <= pcc(-3 * target + 5, target) == close(-1)
    prediction, target = pair()
    assert pcc(prediction, target) == close(scipy.stats.pearsonr(prediction, target).statistic)


def test_pooled_is_not_the_mean_over_videos():
    prediction, target, videos = np.r_[P, P + 10], np.r_[T, T], ["b"] * 4 + ["a"] * 4
    assert ccc(prediction, target, groups=videos) == close((CCC + FAR) / 2)
    assert abs(ccc(prediction, target) - (CCC + FAR) / 2) > 0.1
    # A video of one row has no correlation and counts as 0.
    assert ccc(np.r_[P, 1.0], np.r_[T, 1.0], groups=["a"] * 4 + ["b"]) == close(CCC / 2)


@pytest.mark.parametrize("score", NUMBERS)
def test_videos_and_labels_count_the_same_and_rows_may_be_mixed(score):
    prediction, target = pair(30, labels=(3,))
    videos = np.array(["v10"] * 20 + ["v2"] * 7 + ["x"] * 3)
    columns = list(zip(prediction.T, target.T, strict=True))
    parts = [[score(p[videos == v], t[videos == v]) for v in set(videos)] for p, t in columns]
    order = np.random.default_rng(1).permutation(30)
    mixed = score(prediction[order], target[order], groups=videos[order])
    assert mixed == close(np.mean(parts))
    assert score(prediction, target) == close(np.mean([score(p, t) for p, t in columns]))


@pytest.mark.parametrize("constant", [0.1, -3e7, 0.0])
def test_constants(constant):
    assert np.full(49, 0.1).mean() != 0.1  # the mean is rounded, so this test can fail
    flat, target = np.full(49, constant), pair(49)[1]
    for pairs in ((flat, target), (target, flat), (flat, flat), (flat, flat + 1)):  # 0 / 0
        assert ccc(*pairs) == pcc(*pairs) == 0
    assert mse(flat, flat) == 0


@pytest.mark.parametrize("score", NUMBERS)
def test_sources_and_dtypes(score):
    half = partial(torch.tensor, dtype=torch.bfloat16, requires_grad=True)
    for make in (list, pd.Series, torch.tensor, half, np.float16):
        value = score(make(P), make(T))  # half precision holds these exactly
        assert value == close(score(P, T))
        assert type(value) is float
    assert score(np.array([1, 2, 2]), np.array([True, False, True])) is not None


def test_float32_is_summed_in_float64():
    prediction, target = (x.astype(np.float32) for x in pair(100_000))
    far = mse(prediction + np.float32(1000), target + np.float32(1000))
    assert far == pytest.approx(mse(prediction, target), rel=1e-4)  # float32 keeps 6e-5 at 1000


BAD_NUMBERS = [
    *[(P, T[:3]), (P[:, None], T), ([], []), (1.0, 1.0)],
    *[(np.zeros(shape), np.zeros(shape)) for shape in ((0, 2), (2, 2, 2))],
    *[(np.r_[P[:3], np.nan], T), (P, np.r_[T[:3], np.inf])],
    *[(P, T, groups) for groups in (["a", "b"], "a")],
]
BAD_CLASSES = [
    *[([0, 1], [0, 1, 1]), ([], []), ([[0, 1]], [[0, 1]]), ([0.1, 0.9], [0, 1])],
    *[([0, 1], [0, np.nan]), (["a", "b"], [0, 1]), (["a", None], ["a", "b"])],
]


@pytest.mark.parametrize(
    ("score", "prediction", "target", "groups"),
    [(score, *case, *[None] * (3 - len(case))) for score in NUMBERS for case in BAD_NUMBERS]
    + [(score, *case, None) for score in CLASSES for case in BAD_CLASSES],
)
def test_what_is_refused(score, prediction, target, groups):
    options = {} if groups is None else {"groups": groups}
    refused(lambda: score(prediction, target, **options))


TARGET = [0, 0, 0, 0, 1, 1, 2, 2, 2]
FOUND = [0, 0, 7, 7, 1, 0, 2, 2, 2]  # a class that the target lacks is a miss and no class


def test_classes_by_hand():
    expected = [(4 / 7 + 2 / 3 + 1) / 3, (2 / 4 + 1 / 2 + 1) / 3, 6 / 9]
    assert [score(FOUND, TARGET) for score in CLASSES] == close(expected)
    assert [score([5, 5], [1, 2]) for score in CLASSES] == [0, 0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_sklearns(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    target, found = rng.integers(0, 5, 31), rng.integers(-1, 6, 31)
    options = {"labels": np.unique(target), "average": "macro", "zero_division": 0}
    assert uf1(found, target) == pytest.approx(metrics.f1_score(target, found, **options))
    assert uar(found, target) == pytest.approx(metrics.recall_score(target, found, **options))
    assert accuracy(found, target) == pytest.approx(metrics.accuracy_score(target, found))


@pytest.mark.parametrize("score", CLASSES)
def test_names_numbers_and_tensors_agree(score):
    names, expected = np.array(["anger", "fear", "joy", *"abcd", "sad"]), score(FOUND, TARGET)
    assert score(names[FOUND], names[TARGET]) == expected
    assert score(pd.Series(names[FOUND]), list(names[TARGET])) == expected
    assert score(torch.tensor(FOUND), torch.tensor(TARGET, dtype=torch.uint8)) == expected
    assert type(expected) is float
