"""LBP-TOP: each plane against scikit-image; blocks, flat skin, moving texture."""

import itertools

import numpy as np
import pytest
import torch
from skimage.feature import local_binary_pattern

from micromacro.motion.lbp_top import N_BINS, PLANES, lbp_codes, lbp_top, uniform_bins


def clip(T=11, H=15, W=18, seed=0):
    """Whole numbers, as scikit-image wants them; too many for neighbours to tie."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2**40, (T, H, W), generator=generator).double()


def theirs(image, radius, method="default"):
    return local_binary_pattern(image.astype(np.int64), 8, radius, method).astype(int)


def slices(volume, plane):
    """The images of one plane, and where each one lies among the codes."""
    axis = {"xy": 0, "xt": 1, "yt": 2}[plane]  # the one left out of (t, y, x)
    for i in range(volume.shape[axis]):
        yield axis, i, np.take(volume.numpy(), i, axis)


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize("plane", PLANES)
def test_codes_are_those_of_scikit_image(plane, radius):
    volume = clip()
    codes = lbp_codes(volume, plane, radius).numpy()
    assert codes.shape == tuple(n - 2 * radius for n in volume.shape)
    seen = set()
    for axis, i, image in slices(volume, plane):
        if radius <= i < volume.shape[axis] - radius:
            expected = theirs(image, radius)
            expected = expected[radius:-radius, radius:-radius]
            np.testing.assert_array_equal(np.take(codes, i - radius, axis), expected)
            seen |= set(expected.flat)
    assert len(seen) > 150


def test_bins_are_the_uniform_patterns_of_scikit_image():
    image = clip(1, 120, 120)[0].numpy()
    codes = theirs(image, 3)
    named = theirs(image, 3, "nri_uniform")
    bins = uniform_bins().numpy()[codes]
    pairs = set(zip(bins.flat, named.flat, strict=True))
    assert len(pairs) == N_BINS == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert (58, 58) in pairs  # both put the rest last


def naive(volume, grid, radius):
    """Histograms voxel by voxel, from scikit-image's patterns."""
    bins, rows, columns = uniform_bins(), *grid
    T, H, W = (n - 2 * radius for n in volume.shape)
    found = np.zeros((rows, columns, 3, N_BINS))
    for plane, name in enumerate(PLANES):
        codes = np.stack([theirs(im, radius) for *_, im in slices(volume, name)])
        axis = next(a for a, *_ in slices(volume, name))
        codes = np.moveaxis(codes, 0, axis)
        for t, y, x in itertools.product(range(T), range(H), range(W)):
            code = int(codes[t + radius, y + radius, x + radius])
            found[y * rows // H, x * columns // W, plane, bins[code]] += 1
    return found / found.sum(-1, keepdims=True)


@pytest.mark.parametrize(("grid", "radius"), [((1, 1), 3), ((2, 3), 3), ((4, 5), 1)])
def test_histograms_are_the_naive_ones(grid, radius):
    volume = clip()
    found = lbp_top(volume, grid=grid, radius=radius)
    assert found.dtype == torch.float32
    expected = naive(volume, grid, radius)
    np.testing.assert_allclose(found.numpy(), expected.ravel(), atol=1e-6)


def test_length_and_channel():
    volume = clip(8, 20, 20)
    found = lbp_top(volume)
    assert found.shape == (11_328,)
    assert torch.equal(lbp_top(volume[:, None]), found)
    sums = found.view(64, 3, 59).sum(-1)
    torch.testing.assert_close(sums, torch.ones(64, 3))


def test_flat_skin_is_a_tie_whatever_its_grey():
    for grey in (0.1, 0.3, 0.7, 1 / 3):
        volume = torch.full((8, 9, 9), grey)
        assert all((lbp_codes(volume, plane) == 255).all() for plane in PLANES)


def test_brightness_and_contrast_do_not_matter():
    volume = clip()
    assert torch.equal(lbp_top(volume * 0.25 + 2**39, grid=(2, 2)), lbp_top(volume, grid=(2, 2)))


def test_a_still_clip_differs_from_a_moving_one_in_time_only():
    image = clip(1, 40, 40)[0]
    still = image.expand(12, 40, 40)
    moving = torch.stack([image.roll(t, 1) for t in range(12)])[:, :, 12:]
    a, b = (lbp_top(v, grid=(1, 1)).view(3, 59) for v in (still, moving))
    gaps = (a - b).abs().sum(1)
    assert gaps[0] < 0.25  # XY
    assert gaps[1] > 0.5  # XT


def test_a_linear_svm_reads_the_direction_of_motion():
    svm = pytest.importorskip("sklearn.svm")
    features, labels = [], []
    for seed in range(24):
        image = clip(1, 24, 48, seed)[0]
        image = (image + image.roll(1, 1) + image.roll(1, 0)) / 3
        steps = (1 if seed % 2 else -1) * torch.arange(10)
        volume = torch.stack([image.roll(int(s), 1) for s in steps])[:, :, 12:36]
        features.append(lbp_top(volume, grid=(1, 1)).numpy())
        labels.append(seed % 2)
    fitted = svm.LinearSVC(random_state=0).fit(features[:12], labels[:12])
    assert fitted.score(features[12:], labels[12:]) >= 11 / 12
