"""Phase differences: against a Fourier transform, closed forms, Pillow, NumPy."""

import importlib
import math
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refused
from scipy.ndimage import gaussian_filter

from micromacro.kernels import phase_difference, snippets
from micromacro.kernels import phase_difference_reference as reference
from micromacro.kernels.phase_reference import bands_reference
from micromacro.kernels.phase_tables import blur_matrix, blur_taps, lanczos
from micromacro.motion.pyramid import analyse

module = importlib.import_module("micromacro.kernels.phase_difference")  # not the function

TIGHT = 1e-5  # rad, what is asked of the float32 path


def worst(maps, expected) -> float:
    return max((a - b).abs().max().item() for a, b in zip(maps, expected, strict=True))


# ---- the reference ------------------------------------------------------------------------------


@pytest.mark.parametrize(("H", "W", "K"), [(16, 16, 1), (16, 24, 2), (20, 12, 3), (24, 32, 4)])
def test_reference_bands_are_those_of_the_pyramid_on_the_mirrored_frame(drifting, H, W, K):
    frame = drifting(1, H, W)[0]
    mirrored = torch.cat([frame, frame.flip(-1)], -1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], -2)
    pyramid = analyse(mirrored, levels=2, orientations=K)
    for level in (1, 2):
        bands = bands_reference(frame, level, K)
        h, w = bands.shape[-2:]
        theirs = pyramid.bands[level - 1][..., :h, :w]
        gain = (bands.abs() ** 2).sum() / (bands.conj() * theirs).sum()  # one number, all bands
        assert (theirs * gain - bands).abs().max() < 1e-12 * bands.abs().max()


def test_reference_is_differentiable(drifting):
    frames = drifting(2, 8, 8).requires_grad_()
    call = partial(reference, levels=(1,), blur_sigma=1.0)
    assert torch.autograd.gradcheck(call, frames, atol=1e-4, rtol=1e-3, fast_mode=True)


# ---- matrix products against the reference ------------------------------------------------------

SHAPES = [
    ((6, 48, 48), {}),
    ((3, 30, 30), {}),
    ((2, 16, 44), {"levels": (2,), "orientations": 3}),
    ((5, 24, 16), {"levels": (2, 1, 3), "orientations": 4}),
    ((2, 3, 2, 20, 20), {"orientations": 1}),
    ((2, 4, 112, 64), {"orientations": 5, "blur_sigma": 1.0}),
    ((150, 16, 16), {"blur_sigma": 3.0}),
    ((2, 12, 12), {"levels": (1,), "orientations": 1}),
    ((2, 30, 20), {"levels": (1,), "orientations": 3}),
]


@pytest.mark.parametrize("variant", [{}, {"mode": "arg_of_blur"}, {"center": False}])
@pytest.mark.parametrize(("shape", "options"), SHAPES)
def test_products_equal_the_fourier_form(drifting, shape, options, variant):
    *lead, T, H, W = shape
    clips = [drifting(T, H, W, seed=seed) for seed in range(math.prod(lead))]
    frames = torch.stack(clips).reshape(shape).float()
    options = {**options, **variant}
    for x in (frames, (frames * 255).round().byte()):
        assert worst(phase_difference(x, **options), reference(x, **options)) < TIGHT


def test_a_dark_picture_of_low_contrast_keeps_its_precision(drifting):
    frames = (0.9 + 0.02 * (drifting(4, 48, 48) - 0.5)).float()
    assert worst(phase_difference(frames), reference(frames)) < TIGHT


def test_blocks_do_not_show(drifting, monkeypatch):
    frames = torch.stack([drifting(23, 16, 16, seed=s) for s in range(3)]).float()
    whole = phase_difference(frames)
    for i, clip in enumerate(frames):
        assert worst([m[i] for m in whole], phase_difference(clip)) < 1e-6
    for n in (4, 5, 7, 22, 23, 24, 50):
        monkeypatch.setitem(module.PIXELS_AT_ONCE, "cpu", n * 256)
        assert worst(phase_difference(frames), whole) < 1e-6


# ---- what the numbers mean ----------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("band", [0, 1])
@pytest.mark.parametrize("shift_px", [-1.3, -0.05, 0.01, 0.4])
def test_a_grating_gives_the_closed_form(level, band, shift_px):
    """Content that moves right (down) by d gives -2 pi d / wavelength in band 0 (1)."""
    wavelength = 2 ** (level + 1)
    place = torch.arange(48, dtype=torch.float64)
    moved = torch.stack([place, place - shift_px])
    wave = 0.5 + 0.3 * torch.cos(2 * math.pi * moved / wavelength + 0.7)
    frames = wave[:, None, :].expand(2, 48, 48) if band == 0 else wave[:, :, None].expand(2, 48, 48)
    (maps,) = phase_difference(frames.float(), levels=(level,), center=False)
    n = maps.shape[-1]
    inside = maps[band, 0, n // 3 : -n // 3, n // 3 : -n // 3]
    expected = torch.tensor(-2 * math.pi * shift_px / wavelength)
    # The mirror folds the grating at the edge; what leaks from there is below one per cent.
    assert torch.allclose(inside, expected, rtol=0.01, atol=2e-4)
    other = maps[1 - band, 0]
    assert other.abs().max() < 0.05  # nothing varies there: amplitude noise alone


def test_gain_offset_and_the_mean_of_a_map_do_not_matter(drifting):
    frames = drifting(3, 32, 32).float()
    gain, offset = torch.tensor([[1.0, 0.7, 1.2], [0.0, 0.2, -0.1]])[..., None, None]
    plain, centred = phase_difference(frames, center=False), phase_difference(frames)
    assert worst(phase_difference(gain * frames + offset), centred) < 1e-5
    assert worst([m - m.mean((-2, -1), keepdim=True) for m in plain], centred) < 1e-6


def test_a_flat_picture_and_a_still_one_give_zero(drifting):
    assert all((m == 0).all() for m in phase_difference(torch.full((3, 16, 16), 0.4)))
    still = drifting(1, 16, 16).float().expand(4, 16, 16)
    assert all(m.abs().max() < 1e-6 for m in phase_difference(still))


@pytest.mark.parametrize(("motion", "apart"), [(0.02, 1e-5), (0.2, 1e-2)])
def test_both_modes_agree_to_third_order(drifting, motion, apart):
    frames = drifting(2, 48, 48, (motion, -motion)).float()
    assert worst(phase_difference(frames, mode="arg_of_blur"), phase_difference(frames)) < apart


# ---- input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_from", "n_to"), [(112, 48), (64, 48), (50, 64), (16, 16)])
def test_the_resize_is_pillows(n_from, n_to):
    image = torch.rand(n_from, n_from, generator=torch.Generator().manual_seed(0))
    theirs = Image.fromarray(image.numpy()).resize((n_to, n_to), Image.LANCZOS)
    matrix = lanczos(n_from, n_to).float()
    assert np.abs((matrix @ image @ matrix.T).numpy() - np.asarray(theirs)).max() < 2e-6


def test_the_resize_is_folded_in(drifting):
    frames = drifting(3, 56, 112).float()
    for size, shape in (((32, 48), (32, 48)), (32, (32, 32))):
        maps = phase_difference(frames, size=size)
        assert maps[0].shape == (2, 2, *shape)
        assert worst(maps, reference(frames, size=size)) < TIGHT


def test_the_blur_is_scipys():
    image = np.random.default_rng(0).random((20, 31))
    theirs = gaussian_filter(image, 2.0, mode="constant", truncate=2.5)
    ours = blur_matrix(20, 2.0).numpy() @ image @ blur_matrix(31, 2.0).numpy()
    assert np.abs(ours - theirs).max() < 1e-12
    assert len(blur_taps(2.0)) == 11
    assert blur_taps(0).tolist() == [1]


# ---- the released rule --------------------------------------------------------------------------


def one_sided_unwrap(phase: np.ndarray) -> np.ndarray:
    """NumPy's unwrapping over axis 0, but with C's remainder, which keeps the sign."""
    step = np.diff(phase, axis=0)
    wrapped = np.fmod(step + np.pi, 2 * np.pi) - np.pi
    wrapped[(wrapped == -np.pi) & (step > 0)] = np.pi
    correction = wrapped - step
    correction[np.abs(step) < np.pi] = 0
    return np.concatenate([phase[:1], phase[1:] + correction.cumsum(0)])


def test_the_released_rule_repairs_one_side_only(drifting):
    """The rule written with NumPy and SciPy, from the bands on."""
    frames = drifting(9, 24, 24, (1.1, -0.7))
    for level, ours in enumerate(phase_difference(frames.float(), legacy_unwrap=True), 1):
        z = bands_reference(frames, level, 2).numpy()  # (T, K, h, w)
        phase, weight = one_sided_unwrap(np.angle(z)), np.abs(z) + 1e-10
        pair = np.stack([weight * phase, weight])
        above, below = gaussian_filter(pair, (0, 0, 0, 2, 2), mode="constant", truncate=2.5)
        d = np.diff(above / below, axis=0)
        d = d - d.mean((-2, -1), keepdims=True)
        assert np.abs(d.swapaxes(0, 1) - ours.numpy()).max() < 2e-4  # a wrap is a step of 6.28
        assert np.abs(np.unwrap(np.angle(z), axis=0) - phase).max() > 6  # and it does leave some


def test_the_released_rule_clips_at_five_pi():
    """Over a long window of noise the turns add up beyond it; only then does the clip act."""
    frames = torch.rand(300, 16, 16, generator=torch.Generator().manual_seed(0))
    maps = phase_difference(frames, legacy_unwrap=True)
    assert max(m.abs().max() for m in maps) == pytest.approx(5 * math.pi)
    # float32 may take the other side of pi for a value that float64 finds there: a step of 2 pi.
    pairs = zip(maps, reference(frames, legacy_unwrap=True), strict=True)
    assert max(((a - b).abs() > 1e-3).float().mean() for a, b in pairs) < 0.01


# ---- snippets -----------------------------------------------------------------------------------


def test_snippets_are_views_of_the_maps(drifting):
    (maps,) = phase_difference(drifting(20, 16, 16).float(), levels=(1,))
    windows = snippets(maps, 12, stride=3)
    assert windows.shape == (3, 2, 12, 16, 16)
    assert windows.untyped_storage().data_ptr() == maps.untyped_storage().data_ptr()
    for i, window in enumerate(windows):
        assert torch.equal(window, maps[:, 3 * i : 3 * i + 12])
    batch = maps.expand(4, 5, *maps.shape)
    assert torch.equal(snippets(batch)[2, 3], snippets(maps))
    for options in ({"length": 20}, {"length": 0}, {"stride": 0}):
        refused(lambda options=options: snippets(maps, **options), "at least")


def test_whole_numbers_of_numpy_and_a_single_level_will_do():
    frames, one, side = torch.full((3, 16, 16), 128.0), np.int64(1), np.int64(8)
    options = {"levels": one, "size": side, "orientations": one, "check": False}  # 128 is no grey
    assert [m.shape for m in phase_difference(frames, **options)] == [(1, 2, 8, 8)]
