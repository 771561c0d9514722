"""Closed forms worked out by hand, SciPy and, where it is installed, scikit-learn."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from micromacro.errors import BadInput
from micromacro.metrics import accuracy, ccc, mse, pcc, rmse, uar, uf1

T = np.array([3.0, -0.5, 2.0, 7.0])  # sums of squares about the mean: 29.1875 and 35.1875,
P = np.array([2.5, 0.0, 2.0, 8.0])  # of products 31.5625, means 0.25 apart
CCC = 2 * 31.5625 / (29.1875 + 35.1875 + 4 * 0.25**2)
NUMBERS = (ccc, pcc, mse, rmse)
CLASSES = (uf1, uar, accuracy)
close = partial(pytest.approx, abs=1e-12)  # rounding in float64: some hundred terms of order 1


def pair(n=57, seed=0, labels=()):
    target, noise = np.random.default_rng(seed).normal(size=(2, n, *labels))
    return 0.6 * target + 0.4 * noise + 0.3, target


def test_by_hand():
    assert ccc(P, T) == close(CCC)
    assert pcc(P, T) == close(31.5625 / (29.1875 * 35.1875) ** 0.5)
    assert mse(P, T) == close((0.25 + 0.25 + 0 + 1) / 4)
    assert rmse(P, T) == close(0.375**0.5)


def test_perfect_and_reversed():
    _, target = pair()
    assert ccc(target, target) == close(1)
    assert ccc(-target, target) < 0
    assert pcc(-3 * target + 5, target) == close(-1)
    assert pcc(-3 * target + 5, target) >= -1
    assert mse(target, target) == rmse(target, target) == 0


def test_pcc_is_scipys_and_ccc_its_product_with_lins_bias_factor():
    prediction, target = pair()
    pearson = scipy.stats.pearsonr(prediction, target).statistic
    assert pcc(prediction, target) == close(pearson)
    v = prediction.std() / target.std()
    u = (prediction.mean() - target.mean()) / np.sqrt(prediction.std() * target.std())
    assert ccc(prediction, target) == close(pearson * 2 / (v + 1 / v + u * u))


def test_pooled_is_not_the_mean_over_videos():
    prediction, target = np.r_[P, P + 10], np.r_[T, T]
    videos = ["b"] * 4 + ["a"] * 4
    far = 2 * 31.5625 / (29.1875 + 35.1875 + 4 * 10.25**2)
    assert ccc(prediction, target, groups=videos) == close((CCC + far) / 2)
    assert abs(ccc(prediction, target) - (CCC + far) / 2) > 0.1
    roots = (0.375**0.5 + np.mean((P + 10 - T) ** 2) ** 0.5) / 2
    assert rmse(prediction, target, groups=videos) == close(roots)


def test_every_video_counts_the_same_and_rows_may_be_mixed():
    prediction, target = pair(30)
    videos = np.array(["v10"] * 20 + ["v2"] * 7 + ["x"] * 3)
    order = np.random.default_rng(1).permutation(30)
    for score in NUMBERS:
        parts = [score(prediction[videos == v], target[videos == v]) for v in ("v10", "v2", "x")]
        mixed = score(prediction[order], target[order], groups=videos[order])
        assert mixed == close(np.mean(parts))


def test_a_video_of_one_row_has_no_correlation_and_counts_as_0():
    prediction, target, videos = np.r_[P, 1.0], np.r_[T, 1.0], ["a"] * 4 + ["b"]
    assert ccc(prediction, target, groups=videos) == close(CCC / 2)


def test_labels_are_averaged():
    prediction, target = pair(labels=(3,))
    for groups in (None, np.arange(57) % 4):
        for score in NUMBERS:
            columns = [
                score(p, t, groups=groups) for p, t in zip(prediction.T, target.T, strict=True)
            ]
            assert score(prediction, target, groups=groups) == close(np.mean(columns))


@pytest.mark.parametrize("constant", [0.1, -3e7, 0.0])
def test_constants(constant):
    assert np.full(49, 0.1).mean() != 0.1  # the mean is rounded, so this test can fail
    flat, target = np.full(49, constant), pair(49)[1]
    for score in (ccc, pcc):
        for pairs in ((flat, target), (target, flat), (flat, flat), (flat, flat + 1)):  # 0 / 0
            assert score(*pairs) == 0
    assert mse(flat, flat) == 0


@pytest.mark.parametrize("score", NUMBERS)
def test_sources_and_dtypes(score):
    expected = score(P, T)
    half = partial(torch.tensor, dtype=torch.bfloat16, requires_grad=True)
    for make in (list, pd.Series, torch.tensor, half, np.float16):
        value = score(make(P), make(T))  # half precision holds these exactly
        assert value == close(expected)
        assert type(value) is float
    assert score(np.array([1, 2, 2]), np.array([True, False, True])) is not None


def test_float32_is_summed_in_float64():
    prediction, target = (x.astype(np.float32) for x in pair(100_000))
    far = mse(prediction + np.float32(1000), target + np.float32(1000))
    assert far == pytest.approx(mse(prediction, target), rel=1e-4)  # float32 keeps 6e-5 at 1000


def refuses(score, *arguments, **options):
    with pytest.raises(BadInput) as caught:
        score(*arguments, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("score", NUMBERS)
def test_bad_numbers(score):
    for prediction, target in (
        (P, T[:3]),
        (P[:, None], T),
        ([], []),
        (np.empty((0, 2)), np.empty((0, 2))),
        (1.0, 1.0),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2))),
        (np.r_[P[:3], np.nan], T),
        (P, np.r_[T[:3], np.inf]),
    ):
        refuses(score, prediction, target)
    for groups in (["a", "b"], "a"):
        refuses(score, P, T, groups=groups)


TARGET = [0, 0, 0, 0, 1, 1, 2, 2, 2]
FOUND = [0, 0, 1, 2, 1, 0, 2, 2, 2]  # hits 2 1 3; predicted 3 2 4; present 4 2 3


def test_classes_by_hand():
    assert uf1(FOUND, TARGET) == close((4 / 7 + 2 / 4 + 6 / 7) / 3)
    assert uar(FOUND, TARGET) == close((2 / 4 + 1 / 2 + 3 / 3) / 3)
    assert accuracy(FOUND, TARGET) == close(6 / 9)


def test_a_class_that_the_target_lacks_is_a_miss_and_no_class():
    found = [0, 0, 7, 7, 1, 0, 2, 2, 2]
    assert uf1(found, TARGET) == close((4 / 7 + 2 / 3 + 1) / 3)
    assert uar(found, TARGET) == close((2 / 4 + 1 / 2 + 1) / 3)
    assert uf1([5, 5], [1, 2]) == uar([5, 5], [1, 2]) == accuracy([5, 5], [1, 2]) == 0


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_sklearns(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    target, found = rng.integers(0, 5, 31), rng.integers(-1, 6, 31)
    labels = np.unique(target)
    options = {"labels": labels, "average": "macro", "zero_division": 0}
    assert uf1(found, target) == pytest.approx(metrics.f1_score(target, found, **options))
    assert uar(found, target) == pytest.approx(metrics.recall_score(target, found, **options))
    assert accuracy(found, target) == pytest.approx(metrics.accuracy_score(target, found))


@pytest.mark.parametrize("score", CLASSES)
def test_names_numbers_and_tensors_agree(score):
    names = np.array(["anger", "fear", "joy"])
    expected = score(FOUND, TARGET)
    assert score(names[FOUND], names[TARGET]) == expected
    assert score(pd.Series(names[FOUND]), list(names[TARGET])) == expected
    assert score(torch.tensor(FOUND), torch.tensor(TARGET, dtype=torch.uint8)) == expected
    assert type(expected) is float


@pytest.mark.parametrize("score", CLASSES)
def test_bad_classes(score):
    for prediction, target in (
        ([0, 1], [0, 1, 1]),
        ([], []),
        ([[0, 1]], [[0, 1]]),
        ([0.1, 0.9], [0, 1]),
        ([0, 1], [0, np.nan]),
        (["a", "b"], [0, 1]),
        (["a", None], ["a", "b"]),
    ):
        refuses(score, prediction, target)
