from functools import partial

import numpy as np
import pytest
import torch
from refusals import refused

from micromacro.metrics import ccc, mse
from micromacro.systems.mimamo import ccc_loss, mse_loss

# Sums of squares about the mean 35.1875 and 29.1875, of products 31.5625, means 0.25 apart.
P = torch.tensor([2.5, 0.0, 2.0, 8.0], dtype=torch.float64)
T = torch.tensor([3.0, -0.5, 2.0, 7.0], dtype=torch.float64)
POPULATION = 63.125 / (35.1875 + 29.1875 + 4 * 0.0625)
UNBIASED = 63.125 / (35.1875 + 29.1875 + 3 * 0.0625)
RELEASED = partial(ccc_loss, legacy_loss=True)


def batch(shape=(5, 6, 2), seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(shape, generator=generator, dtype=dtype)
    return 0.5 * target + torch.randn(shape, generator=generator, dtype=dtype), target


def mask(shape=(5, 6)):
    valid = torch.rand(shape, generator=torch.Generator().manual_seed(9)) > 0.3
    assert valid.any()
    assert not valid.all()
    return valid


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(ccc_loss, 1 - POPULATION), (RELEASED, 1 - UNBIASED), (mse_loss, 0.375)],
)
def test_by_hand(loss, expected):
    assert loss(P[:, None], T[:, None]).item() == pytest.approx(expected, abs=1e-12)


def test_sum_over_labels_of_one_minus_the_score():
    prediction, target = batch()
    expected = sum(1 - ccc(prediction[..., k].flatten(), target[..., k].flatten()) for k in (0, 1))
    assert ccc_loss(prediction, target).item() == pytest.approx(expected, abs=1e-12)
    expected = mse(prediction.reshape(-1, 2), target.reshape(-1, 2))
    assert mse_loss(prediction, target).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("loss", [ccc_loss, mse_loss])
def test_what_the_mask_leaves_out_has_no_influence_not_even_on_gradients(loss):
    prediction, target = batch()
    valid = mask()
    dense = loss(prediction[valid], target[valid])
    prediction[~valid], target[~valid] = torch.nan, torch.inf
    prediction.requires_grad_()
    masked = loss(prediction, target, valid)
    masked.backward()
    assert masked.item() == pytest.approx(dense.item(), abs=1e-12)
    assert (prediction.grad[~valid] == 0).all()
    assert (prediction.grad[valid] != 0).all()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(5, 6, 2), (5, 6, 1), (40, 2)])
def test_legacy_loss_sees_the_first_steps_with_labels_mixed(shape, masked):
    """As many steps as labels, NumPy's unbiased estimators; one label a sequence stays as it is."""
    prediction, target = batch(shape)
    valid, expected = mask(shape[:-1]) if masked else torch.ones(shape[:-1], dtype=torch.bool), 0
    for i in range(shape[-1]):
        rows = valid[:, i] if len(shape) == 3 else valid
        p, t = (x[rows, i].flatten().numpy() for x in (prediction, target))
        below = p.var(ddof=1) + t.var(ddof=1) + (p.mean() - t.mean()) ** 2
        expected += 1 - 2 * np.cov(p, t)[0, 1] / below
    found = ccc_loss(prediction, target, valid if masked else None, legacy_loss=True)
    assert found.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("legacy", [False, True])
def test_gradient_is_the_numerical_one(legacy):
    prediction, target = batch((3, 4, 2))
    valid = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 1], [1, 1, 1, 1]], dtype=torch.bool)
    assert torch.autograd.gradcheck(
        lambda p: ccc_loss(p, target, valid, legacy_loss=legacy), prediction.requires_grad_()
    )


def test_constants():
    flat, varied = torch.full((7, 1), 0.5), batch((7, 1), dtype=torch.float32)[1]
    for target, pulled in ((varied, True), (flat, False)):  # of two constants 0 / 0
        prediction = flat.clone().requires_grad_()
        loss = ccc_loss(prediction, target)
        loss.backward()
        assert loss.item() == 1
        assert prediction.grad.any() == pulled


def test_half_precision_is_summed_in_float32():
    prediction, target = batch((50, 40, 1), dtype=torch.float32)
    half = ccc_loss(prediction.bfloat16(), target)
    assert half.dtype == torch.float32
    rounded = ccc_loss(prediction.bfloat16().double(), target.double())
    assert half.item() == pytest.approx(rounded.item(), abs=1e-6)  # 2000 float32 terms of order 1


GOOD = torch.zeros(3, 4, 2)


@pytest.mark.parametrize(
    ("prediction", "target", "valid"),
    [
        (GOOD, GOOD[:, :3], None),
        (GOOD[0, 0], GOOD[0, 0], None),
        (GOOD, GOOD, torch.ones(3, 4)),
        (GOOD, GOOD, torch.ones(3, 4, 2, dtype=torch.bool)),
        (GOOD, GOOD, torch.zeros(3, 4, dtype=torch.bool)),
    ],
)
def test_bad_input(prediction, target, valid):
    for loss in (ccc_loss, mse_loss):
        refused(partial(loss, prediction, target, valid))


def test_too_few():
    refused(lambda: ccc_loss(GOOD[:1, :1], GOOD[:1, :1]), "leaves 1")
    refused(lambda: RELEASED(GOOD[:, :1], GOOD[:, :1]), "as many snippets as labels")
