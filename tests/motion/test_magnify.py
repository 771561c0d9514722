import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from micromacro.motion.magnify import magnify
from micromacro.motion.pyramid import analyse, synthesise

H, W = 48, 64
Y, X = torch.meshgrid(torch.arange(H).double(), torch.arange(W).double(), indexing="ij")


def waves(shifts, across=8, down=0):
    """A grating moved by each shift in pixels along x (and along y)."""
    d = torch.as_tensor(shifts, dtype=torch.float64)[:, None, None]
    turn = across * (X - d) / W + down * (Y - d) / H
    return 0.5 + 0.3 * torch.cos(2 * math.pi * turn + 0.4)


def bump(d):
    """64 x 64 px, which carry 4 levels; deviation 2 px, moved by d px to the right."""
    x = torch.arange(64).double() - 32
    return torch.exp(-((x - d).square() + x[:, None].square()) / 8)


def pictures(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- known motions ------------------------------------------------------------------------------


@pytest.mark.parametrize("blur_px", [0, 2.0])
@pytest.mark.parametrize("alpha", [-1.0, 0.5, 4.0, 15.0])
@pytest.mark.parametrize(("across", "down"), [(8, 0), (5, 0), (13, 0), (0, 6), (6, 4), (7, -5)])
def test_a_wave_moves_exactly_one_plus_alpha_times_as_far(across, down, alpha, blur_px):
    shifts = torch.tensor([0.2, 0.3, 0, 0.25]).double()
    expected = waves(shifts + alpha * (shifts - shifts[0]), across, down)
    for dtype, atol in ((torch.float64, 1e-12), (torch.float32, 3e-6 * (1 + abs(alpha)))):
        found = magnify(waves(shifts, across, down).to(dtype), alpha, blur_px=blur_px)
        torch.testing.assert_close(found, expected.to(dtype), rtol=0, atol=atol)


@pytest.mark.parametrize(("K", "share"), [(2, 0.77), (4, 0.85), (8, 0.91)])  # the docstring's
def test_a_bump_moves_nearly_as_far_and_more_orientations_mix_less(K, share):
    found = magnify(torch.stack([bump(0), bump(0.1)]), 15, orientations=K, blur_px=0)
    torch.testing.assert_close(found[0], bump(0), rtol=0, atol=1e-13)
    shifts = np.linspace(0, 2, 401)
    errors = [(found[1] - bump(d)).norm().item() for d in shifts]
    assert shifts[np.argmin(errors)] / 1.6 == pytest.approx(share, abs=0.006)
    # Scaling the difference of the frames would be further off.
    linear = bump(0) + 16 * (bump(0.1) - bump(0))
    assert min(errors) < min((linear - bump(d)).norm().item() for d in shifts)


def test_long_motions_in_small_steps_are_followed():
    """8 px per wave: beyond 4 px in all, the phase has turned by more than half."""
    shifts = torch.arange(0, 7, 0.5, dtype=torch.float64)
    torch.testing.assert_close(magnify(waves(shifts), 1), waves(2 * shifts), rtol=0, atol=1e-12)


def share(n, sigma_px, alpha=4.0):
    """How much of the due change of a bump in n x n px comes out."""
    x = torch.arange(n).double() - n / 2
    first, second, due = (
        torch.exp(-((x - d).square() + x[:, None].square()) / (2 * sigma_px**2))
        for d in (0, 0.1, 0.1 * (1 + alpha))
    )
    change = magnify(torch.stack([first, second]), alpha).diff(dim=0)[0]
    return float((change * (due - first)).sum() / (due - first).square().sum())


@pytest.mark.parametrize("sigma_px", [lambda n: 0.1 * n, lambda n: 0.15 * n, lambda n: 8])
@pytest.mark.parametrize("sizes", [range(9, 34), range(46, 67), range(94, 100), range(125, 130)])
def test_no_size_of_the_picture_makes_a_jump(sigma_px, sizes):
    """A pyramid of whole levels jumps by up to 0.4 where a level joins, at 16, 32, 64, 128 px."""
    shares = np.array([share(n, sigma_px(n)) for n in sizes])
    step = 2 / np.array(sizes[1:])  # of a change that is even over half an octave, twice
    assert (np.abs(np.diff(shares)) < step).all()


@pytest.mark.parametrize(("n", "levels"), [(32, 3), (47, 3), (48, 3), (64, 4), (95, 4), (96, 4)])
def test_whole_levels_alone_up_to_one_and_a_half_times_a_power_of_two(n, levels):
    clip = pictures(3, n, n)
    pyramid = analyse(clip, levels=levels, orientations=4)
    steps = [torch.angle(band[1:] * band[:-1].conj()).cumsum(0) for band in pyramid.bands]
    turned = [
        band
        * torch.polar(torch.ones_like(band.real), 3 * functional.pad(step, [0, 0] * 3 + [1, 0]))
        for band, step in zip(pyramid.bands, steps, strict=True)
    ]
    expected = synthesise(dataclasses.replace(pyramid, bands=turned))
    torch.testing.assert_close(magnify(clip, 3, blur_px=0), expected, rtol=0, atol=1e-12)


# --- nothing to magnify -------------------------------------------------------------------------


GAIN = torch.tensor([1, 1.1, 0.9, 1.2], dtype=torch.float64)[:, None, None]
STILL = {
    **{f"static {s}": pictures(*s).expand(5, *s) for s in ((48, 64), (41, 29), (8, 9))},
    "grey": torch.full((4, 16, 16), 0.3).double(),
    "one frame": pictures(1, 16, 16),
    "black": torch.zeros(4, 16, 16).double(),
    "light": pictures(48, 64) * GAIN + 0.1 * GAIN,
}


@pytest.mark.parametrize("blur_px", [0, 2.0])
@pytest.mark.parametrize("clip", STILL.values(), ids=STILL)
def test_what_does_not_move_is_unchanged(clip, blur_px):
    torch.testing.assert_close(magnify(clip, blur_px=blur_px), clip, rtol=0, atol=1e-11)
    single = magnify(clip.float(), blur_px=blur_px)
    torch.testing.assert_close(single, clip.float(), rtol=0, atol=1e-5)
    moving = pictures(6, 40, 33)
    torch.testing.assert_close(magnify(moving, 0.0), moving, rtol=0, atol=1e-13)  # alpha 0


# --- noise --------------------------------------------------------------------------------------


def test_noise_grows_less_than_linearly_and_less_with_blur():
    """A linear magnification would make it sqrt(2) 16 = 23 times as strong."""
    noise = 0.01 * torch.randn(8, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    clips = (magnify(pictures(64, 64) + noise, blur_px=blur_px) for blur_px in (0, 2.0, 4.0))
    grown = [((clip[1:] - clip[0]).std() / 0.01).item() for clip in clips]
    assert 5 < grown[0] < 8
    assert grown[0] > 1.5 * grown[1] > 1.5**2 * grown[2] / 1.2
    assert grown[2] > 1.4  # its own noise is still there


# --- shapes and bad input -----------------------------------------------------------------------


def test_channels_are_magnified_each_by_itself():
    clip = pictures(4, 3, 24, 20)
    alone = torch.stack([magnify(channel) for channel in clip.unbind(1)], 1)
    torch.testing.assert_close(magnify(clip), alone, rtol=0, atol=1e-12)
