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
    """The images of one plane: along the axis of (t, y, x) that it leaves out."""
    return np.moveaxis(volume.numpy(), ("xy", "xt", "yt").index(plane), 0)


def test_bins_are_the_uniform_patterns_of_scikit_image():
    image = clip(1, 120, 120)[0].numpy()
    bins, named = uniform_bins().numpy()[theirs(image, 3)], theirs(image, 3, "nri_uniform")
    pairs = set(zip(bins.flat, named.flat, strict=True))
    assert len(pairs) == N_BINS == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert (58, 58) in pairs  # both put the rest last


def naive(volume, grid, radius):
    """Histograms voxel by voxel, from scikit-image's patterns."""
    bins, rows, columns = uniform_bins(), *grid
    T, H, W = (n - 2 * radius for n in volume.shape)
    found = np.zeros((rows, columns, 3, N_BINS))
    for plane, name in enumerate(PLANES):
        codes = np.stack([theirs(image, radius) for image in slices(volume, name)], plane)
        for t, y, x in itertools.product(range(T), range(H), range(W)):
            code = int(codes[t + radius, y + radius, x + radius])
            found[y * rows // H, x * columns // W, plane, bins[code]] += 1
    return found / found.sum(-1, keepdims=True)


@pytest.mark.parametrize(("grid", "radius"), [((1, 1), 3), ((2, 3), 2), ((4, 5), 1)])
def test_histograms_are_the_naive_ones(grid, radius):
    volume = clip()
    found = lbp_top(volume, grid=grid, radius=radius)
    assert found.dtype == torch.float32
    expected = naive(volume, grid, radius)
    np.testing.assert_allclose(found.numpy(), expected.ravel(), atol=1e-6)


def test_length_and_channel():
    volume = clip(8, 20, 20)
    found = lbp_top(volume)
    assert torch.equal(lbp_top(volume[:, None]), found)
    torch.testing.assert_close(found.view(64, 3, 59).sum(-1), torch.ones(64, 3))


def test_flat_skin_is_a_tie_whatever_its_grey_and_gain_and_offset_do_not_matter():
    for grey in (0.1, 0.3, 0.7, 1 / 3):
        volume = torch.full((8, 9, 9), grey)
        assert all((lbp_codes(volume, plane) == 255).all() for plane in PLANES)
    volume = clip()
    assert torch.equal(lbp_top(volume * 0.25 + 2**39, grid=(2, 2)), lbp_top(volume, grid=(2, 2)))
