import cv2
import numpy as np
import pytest

from micromacro.faces import align
from micromacro.faces.align import apply, compose, invert, rescale, similarity, warp

RNG = np.random.default_rng(0)
MATRIX = np.array([[0.8, -0.3, 12.0], [0.3, 0.8, -7.0]])


@pytest.mark.parametrize("n", [2, 5, 31])
def test_similarity_is_the_least_squares_solution(n):
    source, target = RNG.normal(size=(n, 2)) * 50, RNG.normal(size=(n, 2)) * 50
    x, y = source.T
    one, none = np.ones(n), np.zeros(n)
    rows = np.vstack([np.c_[x, -y, one, none], np.c_[y, x, none, one]])
    a, b, tx, ty = np.linalg.lstsq(rows, np.r_[target[:, 0], target[:, 1]], rcond=None)[0]
    found = similarity(source, target)
    np.testing.assert_allclose(found, [[a, -b, tx], [b, a, ty]], atol=1e-10)


def test_similarity_of_one_place_is_refused():
    with pytest.raises(ValueError, match="different source points"):
        similarity(np.ones((5, 2)), RNG.normal(size=(5, 2)))


def test_compose_and_invert():
    points = RNG.normal(size=(4, 7, 2))
    other = rescale(48, 224)
    np.testing.assert_allclose(
        apply(compose(other, MATRIX), points), apply(other, apply(MATRIX, points))
    )
    np.testing.assert_allclose(compose(invert(MATRIX), MATRIX), np.eye(2, 3), atol=1e-12)


@pytest.mark.parametrize("size", [48, 112, 113, 224])
def test_every_size_frames_the_skin_of_the_arcface_template(size):
    """The published points of 112 px: eyes, nose, corners of the mouth, left before right."""
    text = "38.2946 51.6963 73.5318 51.5014 56.0252 71.7366 41.5493 92.3655 70.7299 92.2041"
    published = np.array(text.split(), float).reshape(5, 2)
    np.testing.assert_allclose(align.template_points(size) + 0.5, (published + 0.5) * size / 112)


@pytest.mark.parametrize("factor", [2, 3, 4])  # 4: halved, then sampled densely
@pytest.mark.parametrize("channels", [(), (3,)])
def test_shrinking_is_the_area_mean(factor, channels):
    image = RNG.integers(0, 256, (factor * 33, factor * 33, *channels), dtype=np.uint8)
    oracle = cv2.resize(image, (33, 33), interpolation=cv2.INTER_AREA)
    found = warp(image, rescale(factor, 1), 33, halve_below=0.3)
    assert np.abs(found.astype(int) - oracle).max() <= 1


def test_strong_shrinking_keeps_the_mean_and_loses_the_noise():
    image = RNG.integers(0, 256, (1200, 1200), dtype=np.uint8)
    crop = warp(image, rescale(1200, 37), 37)
    assert crop.std() < 6  # plain bilinear sampling leaves about 49
    assert abs(crop.mean() - image.mean()) < 1


@pytest.mark.parametrize(("scale", "most"), [(0.9, 0), (0.4, 0), (0.12, 1)])  # 0.12 is halved first
@pytest.mark.parametrize("shift", [0, 500])  # 500: out of sight
def test_grey_is_the_luma_of_the_image(scale, most, shift):
    image = RNG.integers(0, 256, (170, 190, 3), dtype=np.uint8)
    matrix = cv2.getRotationMatrix2D((80, 70), 20, scale)
    matrix[:, 2] += shift - 60
    oracle = warp(align.luma(image), matrix, 31)
    found = warp(image, matrix, 31, grey=True)
    assert found.shape == (31, 31)
    assert found.any() == (shift == 0)
    assert np.abs(found.astype(int) - oracle).max() <= most


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("move", [(20, 10), (-60, 30), (150, -70), (-15, 160), (-500, 0), (500, 0)])
def test_any_place_and_roll_equals_opencv_on_the_whole_image(move, dtype):
    image = RNG.integers(0, 256, (120, 170, 3)).astype(dtype)
    matrix = cv2.getRotationMatrix2D((40, 40), 33, 0.9)
    matrix[:, 2] += move
    oracle = cv2.warpAffine(image, matrix, (81, 81), flags=cv2.INTER_LINEAR)
    found = warp(image, matrix, 81)
    assert found.dtype == dtype
    assert np.abs(found.astype(float) - oracle).max() <= 1
