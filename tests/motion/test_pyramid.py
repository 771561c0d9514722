import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from micromacro.motion.pyramid import Pyramid, analyse, max_levels, synthesise

SIZES = [(64, 64), (32, 80), (50, 24), (46, 30), (8, 14)]


def pictures(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def wave(H, W, across, down, phase=0.0):
    """cos of ``across`` whole waves along x and ``down`` along y."""
    y, x = torch.arange(H).double()[:, None], torch.arange(W).double()
    return torch.cos(2 * math.pi * (across * x / W + down * y / H) + phase)


def peak_gain(K):
    return math.sqrt(4 ** (K - 1) * math.factorial(K - 1) ** 2 / (K * math.factorial(2 * (K - 1))))


# --- against pyrtools ---------------------------------------------------------------------------


@pytest.mark.parametrize("K", [2, 3, 4, 6])  # it has no complex pyramid of K = 1
@pytest.mark.parametrize(("H", "W"), SIZES)
def test_it_is_the_pyramid_of_pyrtools(H, W, K):
    """At even sizes: for odd ones its frequencies are half a step off, as it warns."""
    Theirs = pytest.importorskip("pyrtools.pyramids").SteerablePyramidFreq
    # One mapping, from the docstring: band -> (-i)^(K-1) HW/(hw) band, low -> HW/(hw) low. Its
    # masks are read linearly from tables. A chord under a curve of second derivative s is off by
    # s step^2 / 8: radial ones step by pi / 512 with s = 1, lobes by pi / 1024 with s = K - 1.
    tolerance = ((math.pi / 512) ** 2 + (K - 1) * (math.pi / 1024) ** 2) / 8  # of the largest value
    image = pictures(H, W)
    for levels in {1, max_levels(H, W)}:
        theirs = Theirs(image.numpy(), height=levels, order=K - 1, is_complex=True).pyr_coeffs
        ours = analyse(image, levels=levels, orientations=K)
        gain = H * W / ours.low.numel()
        expected = {"residual_highpass": ours.high, "residual_lowpass": ours.low * gain}
        for j, bands in enumerate(ours.bands):
            scale = H * W / bands[0].numel() * (-1j) ** (K - 1)
            expected |= {(j, b): bands[b] * scale for b in range(K)}
        assert expected.keys() == theirs.keys()
        for key, part in theirs.items():
            atol = tolerance * np.abs(part).max()
            assert part.shape == expected[key].shape
            np.testing.assert_allclose(expected[key].numpy(), part, rtol=0, atol=atol)


# --- closed forms -------------------------------------------------------------------------------


@pytest.mark.parametrize(("H", "W"), [(48, 64), (45, 77), (53, 41)])
@pytest.mark.parametrize(("across", "down"), [(9, 0), (7, 5), (7, -6), (1, 8), (-4, 5), (3, 1)])
@pytest.mark.parametrize("K", [1, 2, 4, 5])
def test_any_wave_is_itself_times_half_the_masks(H, W, across, down, K):
    pyramid = analyse(wave(H, W, across, down, 0.3), levels=2, orientations=K)
    fx, fy = 2 * across / W, 2 * down / H
    octaves = math.log2(math.hypot(fx, fy))

    def below(j):  # the radial step down, as the paper writes it
        return math.cos(math.pi / 2 * min(1, max(0, octaves + j + 1)))

    for j, bands in enumerate(pyramid.bands):
        h, w = bands.shape[-2:]
        assert (h, w) == (math.ceil(H / 2**j), math.ceil(W / 2**j))
        y, x = torch.arange(h).double()[:, None] / h, torch.arange(w).double() / w
        turn = 2 * math.pi * (across * x + down * y) + 0.3
        radial = below(j) * math.sqrt(1 - below(j + 1) ** 2)
        for b in range(K):
            cosine = math.cos(math.atan2(fy, fx) - math.pi * b / K)
            side = turn if cosine > 0 else -turn  # the lobe keeps the wave or its mirror image
            expected = radial * peak_gain(K) * abs(cosine) ** (K - 1) * torch.exp(1j * side)
            torch.testing.assert_close(bands[b], expected, rtol=0, atol=1e-12)


# --- there and back -----------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.data(), st.integers(8, 70), st.integers(8, 70), st.integers(1, 7))
def test_images_come_back(data, H, W, K):
    levels = data.draw(st.integers(1, max_levels(H, W)))
    for dtype, atol in ((torch.float64, 1e-13), (torch.float32, 1e-6)):
        image = pictures(H, W, seed=H, dtype=dtype)
        back = synthesise(analyse(image, levels=levels, orientations=K))
        assert back.dtype == dtype
        torch.testing.assert_close(back, image, rtol=0, atol=atol)


def parts(pyramid):
    return pyramid.high, *pyramid.bands, pyramid.low


def test_a_batch_is_its_images_one_by_one():
    images = pictures(2, 3, 29, 40)
    together = analyse(images, levels=2, orientations=3)
    sizes = [(29, 40), (3, 29, 40), (3, 15, 20), (8, 10)]
    assert [part.shape for part in parts(together)] == [(2, 3, *size) for size in sizes]
    for i in np.ndindex(2, 3):
        alone = analyse(images[i], levels=2, orientations=3)
        for a, b in zip(parts(together), parts(alone), strict=True):
            torch.testing.assert_close(a[i], b, rtol=0, atol=1e-15)
        torch.testing.assert_close(synthesise(together)[i], images[i], rtol=0, atol=1e-14)
    assert analyse(images[:0], levels=2, orientations=3).low.shape == (0, 3, 8, 10)


def test_nan_stays_in_its_image():
    images = pictures(3, 16, 20)
    images[1, 4, 5] = math.nan
    pyramid = analyse(images, levels=2, orientations=2)
    lost = [part.isnan().flatten(1) for part in (*parts(pyramid), synthesise(pyramid))]
    assert all(part[1].all() and not part[[0, 2]].any() for part in lost)


def test_gradients_flow_through_both():
    image = pictures(1, 8, 9).requires_grad_()

    def there(image):
        return parts(analyse(image, levels=1, orientations=2))

    assert torch.autograd.gradcheck(there, image, fast_mode=True)
    leaves = [part.detach().requires_grad_() for part in there(image)]

    def back(high, bands, low):
        return synthesise(Pyramid(high, [bands], low))

    assert torch.autograd.gradcheck(back, leaves, fast_mode=True)


@pytest.mark.gpu
def test_the_gpu_agrees():
    images = pictures(2, 45, 64, dtype=torch.float32)
    here = analyse(images, levels=3, orientations=4)
    there = analyse(images.cuda(), levels=3, orientations=4)
    for a, b in zip(parts(here), parts(there), strict=True):
        torch.testing.assert_close(b.cpu(), a, rtol=0, atol=1e-7)
    torch.testing.assert_close(synthesise(there).cpu(), images, rtol=0, atol=1e-6)


def test_max_levels_leaves_two_waves_at_the_last_peak():
    sides = range(8, 200)
    most = [max_levels(n, 300) for n in sides]
    assert most == [max_levels(300, n) for n in sides] == [n.bit_length() - 3 for n in sides]
    assert max_levels(7, 300) == max_levels(0, 0) == 0
