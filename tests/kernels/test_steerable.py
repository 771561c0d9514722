import math

import pytest
import torch

from micromacro.kernels.steerable import band_pass, high_pass, lobe, low_pass

EACH_DTYPE = pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float64, 1e-14), (torch.float32, 1e-6)]
)


def radii(dtype):
    return torch.cat([torch.zeros(1), torch.logspace(-9, 1, 997, base=2)]).to(dtype)


def plane(dtype, half=12):
    """Frequencies on a grid around zero, borders of every half plane among them."""
    f = torch.arange(-half, half + 1, dtype=dtype) / half
    return f[None, :], f[:, None]


def all_lobes(fx, fy, K):
    return torch.stack([lobe(fx, fy, band, K) for band in range(K)])


@EACH_DTYPE
@pytest.mark.parametrize("levels", [1, 3, 6])
def test_squares_of_a_whole_pyramid_sum_to_one(levels, dtype, atol):
    r = radii(dtype)
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
    third = math.sqrt(3) / 2
    low = torch.tensor([1, 1, 1, third, math.sqrt(0.5), 0.5, 0, 0], dtype=dtype)
    high = torch.tensor([0, 0, 0, 0.5, math.sqrt(0.5), third, 1, 1], dtype=dtype)
    torch.testing.assert_close(low_pass(r, level), low, rtol=0, atol=atol)
    torch.testing.assert_close(high_pass(r, level), high, rtol=0, atol=atol)
    assert (low_pass(r, level)[-2:] == 0).all()  # exactly: subsampling relies on it
    assert (high_pass(r, level)[:3] == 0).all()


@pytest.mark.parametrize("level", [1, 2, 5])
def test_the_band_peaks_at_its_radius_and_spans_two_octaves(level):
    r = torch.tensor([2, 2**0.5, 1, 2**-0.5, 0.5], dtype=torch.float64) * 2.0**-level
    expected = torch.tensor([0, math.sqrt(0.5), 1, math.sqrt(0.5), 0], dtype=torch.float64)
    torch.testing.assert_close(band_pass(r, level), expected, rtol=0, atol=1e-14)
    assert band_pass(r, level)[[0, 4]].abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("K", [1, 2, 3, 4, 5, 6])
def test_squares_of_lobes_over_both_signs_sum_to_four(K, dtype):
    fx, fy = plane(dtype)
    total = (all_lobes(fx, fy, K) ** 2 + all_lobes(-fx, -fy, K) ** 2).sum(0)
    expected = torch.full_like(total, 4)
    expected[12, 12] = total[12, 12]  # zero has no angle; band_pass is 0 there
    assert total.dtype == dtype
    # The power 2 (K - 1) multiplies the rounding of the cosine, two units at most.
    assert (total - expected).abs().max() <= 4 * 2 * K * 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("K", [1, 2, 3, 4, 5, 6])
def test_each_lobe_lives_on_one_half_plane(K):
    fx, fy = plane(torch.float64)
    for band in range(K):
        mask = lobe(fx, fy, band, K)
        along = fx * math.cos(math.pi * band / K) + fy * math.sin(math.pi * band / K)
        assert (mask >= 0).all()
        assert (mask[along < -1e-9] == 0).all()
        assert (mask[along > 1e-9] > 0).all()


@pytest.mark.parametrize(
    ("K", "band", "fx", "fy", "expected"),
    [
        (1, 0, 3, 0, 2),
        (1, 0, 1, 9, 2),
        (1, 0, -1, 9, 0),
        (1, 0, 0, 1, math.sqrt(2)),  # on the border half of the power
        (1, 0, 0, -1, math.sqrt(2)),
        (2, 0, 1, 0, 2),
        (2, 1, 0, 1, 2),
        (2, 1, 0, -1, 0),
        (2, 0, 1, 1, math.sqrt(2)),
        (2, 0, 0, 1, 0),
        (3, 0, 1, 0, 2 * math.sqrt(8 / 9)),
        (4, 0, 5, 0, 2 * math.sqrt(0.8)),
        (4, 1, 1, 1, 2 * math.sqrt(0.8)),  # downwards to the right, y counting downwards
        (4, 1, 1, -1, 0),
        (4, 3, -1, 1, 2 * math.sqrt(0.8)),
        (4, 2, 1, 1, 2 * math.sqrt(0.8) / math.sqrt(8)),
    ],
)
def test_lobes_at_known_points(K, band, fx, fy, expected):
    point = (torch.tensor(float(v), dtype=torch.float64) for v in (fx, fy))
    assert lobe(*point, band, K).item() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("K", [1, 3, 4])
def test_lobes_know_directions_only(K):
    fx, fy = plane(torch.float64)
    for scale in (1e-12, 0.5, 1e6):
        torch.testing.assert_close(
            all_lobes(scale * fx, scale * fy, K), all_lobes(fx, fy, K), rtol=0, atol=1e-13
        )


@pytest.mark.parametrize("K", [2, 3, 4, 6])
def test_lobes_steer(K):
    # A lobe turned by any angle, less its mirror image, is a sum of the K lobes: of order K - 1.
    turn = torch.linspace(0, 2 * math.pi, 101, dtype=torch.float64)
    signed = all_lobes(turn.cos(), turn.sin(), K)
    signed = signed + (-1) ** (K - 1) * all_lobes(-turn.cos(), -turn.sin(), K)
    odd = lobe((turn - 0.4).cos(), (turn - 0.4).sin(), 0, K)
    odd = odd + (-1) ** (K - 1) * lobe(-(turn - 0.4).cos(), -(turn - 0.4).sin(), 0, K)
    weights = torch.linalg.lstsq(signed.T, odd[:, None]).solution
    torch.testing.assert_close(signed.T @ weights, odd[:, None], rtol=0, atol=1e-12)
