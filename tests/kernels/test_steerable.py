"""The masks by themselves; `tests/motion/test_pyramid.py` sees them at work, against pyrtools too."""

import math

import pytest
import torch

from micromacro.kernels.steerable import band_pass, high_pass, lobe, low_pass

EACH_DTYPE = pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float64, 1e-14), (torch.float32, 1e-6)]
)


def all_lobes(fx, fy, K):
    return torch.stack([lobe(fx, fy, band, K) for band in range(K)])


@EACH_DTYPE
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


@EACH_DTYPE
@pytest.mark.parametrize("level", [0, 1, 2, 5])
def test_radial_masks_at_known_points(level, dtype, atol):
    # An octave from 2^-(level+1) to 2^-level; a third of the way up the angle is 30 degrees.
    octaves = torch.tensor([-math.inf, -2, -1, -2 / 3, -0.5, -1 / 3, 0, 3], dtype=torch.float64)
    r = (2 ** (octaves - level)).to(dtype)
    third, half = math.sqrt(3) / 2, math.sqrt(0.5)
    low = torch.tensor([1, 1, 1, third, half, 0.5, 0, 0], dtype=dtype)
    high = torch.tensor([0, 0, 0, 0.5, half, third, 1, 1], dtype=dtype)
    torch.testing.assert_close(low_pass(r, level), low, rtol=0, atol=atol)
    torch.testing.assert_close(high_pass(r, level), high, rtol=0, atol=atol)
    # A band rises over the octave below its radius and falls over the one above.
    peak = torch.tensor([0, half, 1, half, 0], dtype=dtype)
    r = 2.0 ** torch.tensor([-2, -1.5, -1, -0.5, 0], dtype=dtype) / 2**level
    torch.testing.assert_close(band_pass(r, level + 1), peak, rtol=0, atol=atol)
    # Exactly: subsampling relies on it.
    assert low_pass(r, level)[4] == high_pass(r, level)[0] == band_pass(r, level + 1)[4] == 0


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


HALF, K4 = math.sqrt(2), 2 * math.sqrt(0.8)  # on the border half of the power; the peak for K = 4
POINTS = [
    *[(1, 0, 3, 0, 2), (1, 0, 1, 9, 2), (1, 0, -1, 9, 0), (1, 0, 0, 1, HALF), (1, 0, 0, -1, HALF)],
    *[(2, 0, 1, 0, 2), (2, 1, 0, 1, 2), (2, 1, 0, -1, 0), (2, 0, 1, 1, HALF), (2, 0, 0, 1, 0)],
    *[(3, 0, 1, 0, 2 * math.sqrt(8 / 9)), (4, 0, 5, 0, K4)],
    *[(4, 1, 1, 1, K4), (4, 1, 1, -1, 0)],  # downwards to the right, y counting downwards
    *[(4, 3, -1, 1, K4), (4, 2, 1, 1, K4 / math.sqrt(8))],
]


@pytest.mark.parametrize(("K", "band", "fx", "fy", "expected"), POINTS)
def test_lobes_at_known_points(K, band, fx, fy, expected):
    point = torch.tensor([fx, fy], dtype=torch.float64)
    assert lobe(*point, band, K).item() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("K", [2, 3, 4, 6])
def test_lobes_steer(K):
    # A lobe turned by any angle, less its mirror image, is a sum of the K lobes: of order K - 1.
    def signed(turn, n):
        ahead, behind = (all_lobes(s * turn.cos(), s * turn.sin(), K)[:n] for s in (1, -1))
        return (ahead + (-1) ** (K - 1) * behind).T

    turn = torch.linspace(0, 2 * math.pi, 101, dtype=torch.float64)
    lobes, turned = signed(turn, K), signed(turn - 0.4, 1)
    weights = torch.linalg.lstsq(lobes, turned).solution
    torch.testing.assert_close(lobes @ weights, turned, rtol=0, atol=1e-12)
