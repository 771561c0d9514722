"""Sums of squares of the masks; `tests/motion/test_pyramid.py` has their values."""

import math

import pytest
import torch

from micromacro.kernels.steerable import band_pass, high_pass, lobe, low_pass


def all_lobes(fx, fy, K):
    return torch.stack([lobe(fx, fy, band, K) for band in range(K)])


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
@pytest.mark.parametrize("levels", [1, 3, 6])
def test_squares_of_a_whole_pyramid_sum_to_one(levels, dtype, atol):
    r = torch.cat([torch.zeros(1), torch.logspace(-9, 1, 997, base=2)]).to(dtype)
    bands = sum(band_pass(r, level) ** 2 for level in range(1, levels + 1))
    ends = (high_pass(r, 0), low_pass(r, levels), high_pass(r, levels))
    total = ends[0] ** 2 + bands + ends[1] ** 2
    assert total.dtype == dtype
    torch.testing.assert_close(total, torch.ones_like(r), rtol=0, atol=atol)
    torch.testing.assert_close(ends[1] ** 2 + ends[2] ** 2, total, rtol=0, atol=2 * atol)
    assert all(0 == mask.min() <= mask.max() <= 1 for mask in (*ends, band_pass(r, levels)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("K", [1, 2, 3, 4, 5, 6])
def test_lobes_live_on_half_planes_and_their_squares_sum_to_four(K, dtype):
    f = torch.arange(-12, 13, dtype=dtype) / 12  # borders of every half plane among them
    fx, fy = f[None, :], f[:, None]
    masks = all_lobes(fx, fy, K)
    total = (masks**2 + all_lobes(-fx, -fy, K) ** 2).sum(0)
    expected = torch.full_like(total, 4)
    expected[12, 12] = total[12, 12]  # zero has no angle; band_pass is 0 there
    assert total.dtype == dtype
    # The power 2 (K - 1) multiplies the rounding of the cosine, two units at most.
    assert (total - expected).abs().max() <= 4 * 2 * K * 2 * torch.finfo(dtype).eps
    turn = math.pi * torch.arange(K, dtype=dtype)[:, None, None] / K
    along = fx * turn.cos() + fy * turn.sin()
    assert (masks >= 0).all()
    assert (masks[along < -1e-6] == 0).all()
    assert (masks[along > 1e-6] > 0).all()
    for scale in (1e-12, 0.5, 1e6):  # directions only
        atol = 1e-13 if dtype == torch.float64 else 1e-5
        torch.testing.assert_close(all_lobes(scale * fx, scale * fy, K), masks, rtol=0, atol=atol)
