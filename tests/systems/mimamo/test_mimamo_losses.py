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


def batch(shape=(5, 6, 2), seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(shape, generator=generator, dtype=dtype)
    return 0.5 * target + torch.randn(shape, generator=generator, dtype=dtype), target


def mask(shape=(5, 6)):
    valid = torch.rand(shape, generator=torch.Generator().manual_seed(9)) > 0.3
    assert valid.any()
    assert not valid.all()
    return valid


def test_by_hand():
    assert ccc_loss(P[:, None], T[:, None]).item() == pytest.approx(1 - POPULATION, abs=1e-12)
    released = ccc_loss(P[:, None], T[:, None], legacy_loss=True)
    assert released.item() == pytest.approx(1 - UNBIASED, abs=1e-12)
    assert mse_loss(P[:, None], T[:, None]).item() == pytest.approx(0.375, abs=1e-12)


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


def test_legacy_loss_sees_the_first_steps_with_labels_mixed():
    prediction, target = batch()
    expected = 0
    for step in range(2):  # as many steps as labels; NumPy's unbiased estimators
        p, t = (x[:, step].flatten().numpy() for x in (prediction, target))
        below = p.var(ddof=1) + t.var(ddof=1) + (p.mean() - t.mean()) ** 2
        expected += 1 - 2 * np.cov(p, t)[0, 1] / below
    found = ccc_loss(prediction.requires_grad_(), target, legacy_loss=True)
    found.backward()
    assert found.item() == pytest.approx(expected, abs=1e-12)
    assert (prediction.grad[:, 2:] == 0).all()
    assert (prediction.grad[:, :2] != 0).all()


def test_legacy_loss_with_a_mask_and_with_one_label():
    prediction, target = batch((5, 6, 1))
    valid = mask()
    valid[:, 0] = torch.tensor([True, False, True, True, False])
    found = ccc_loss(prediction, target, valid, legacy_loss=True)
    rows = valid[:, 0]
    expected = ccc_loss(prediction[rows, 0], target[rows, 0], legacy_loss=True)
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)


def test_legacy_loss_on_one_label_per_sequence_differs_by_the_variances_only():
    prediction, target = batch((40, 2))
    found, ours = (ccc_loss(prediction, target, legacy_loss=legacy) for legacy in (True, False))
    assert 0 < abs(found - ours) < 0.01
    first = ccc_loss(prediction[:, :1], target[:, :1], legacy_loss=True)
    second = ccc_loss(prediction[:, 1:], target[:, 1:], legacy_loss=True)
    assert found.item() == pytest.approx((first + second).item(), abs=1e-12)


@pytest.mark.parametrize("legacy", [False, True])
def test_gradient_is_the_numerical_one(legacy):
    prediction, target = batch((3, 4, 2))
    valid = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 1], [1, 1, 1, 1]], dtype=torch.bool)
    assert torch.autograd.gradcheck(
        lambda p: ccc_loss(p, target, valid, legacy_loss=legacy), prediction.requires_grad_()
    )


def test_constants():
    flat = torch.full((7, 1), 0.5, requires_grad=True)
    target = batch((7, 1), dtype=torch.float32)[1]
    loss = ccc_loss(flat, target)
    loss.backward()
    assert loss.item() == 1
    assert (flat.grad != 0).all()
    flat.grad = None
    loss = ccc_loss(flat, flat.detach().clone())
    loss.backward()
    assert loss.item() == 1  # 0 / 0
    assert (flat.grad == 0).all()


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
    refused(
        lambda: ccc_loss(GOOD[:, :1], GOOD[:, :1], legacy_loss=True), "as many snippets as labels"
    )
