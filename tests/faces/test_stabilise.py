import cv2
import numpy as np
import pytest
import skimage.data

from micromacro.faces.align import apply, compose, invert, similarity, template_points, warp
from micromacro.faces.stabilise import Registration, Stabiliser, face_mask

POINTS = template_points(224)
PHOTO = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)
# The portrait's five points, by eye.
FIVE = np.array([(203.6, 101.4), (246.8, 103.2), (223.6, 127), (205.6, 141), (243, 141.6)])
TO_CROP = similarity(FIVE, POINTS)
GRID = np.stack(np.meshgrid(np.linspace(60, 164, 5), np.linspace(60, 200, 6)), -1).reshape(-1, 2)


def small_move(x, y, degrees, percent):
    matrix = cv2.getRotationMatrix2D((112, 118), degrees, 1 + percent / 100)
    matrix[:, 2] += x, y
    return matrix


def seen(matrix, image=PHOTO):
    """The photograph's crop after a small move of the head."""
    return warp(image, compose(matrix, TO_CROP), 224).astype(np.float32)


@pytest.mark.parametrize("move", [(0.3, -0.2, 0, 0), (3, 2, 1.5, 1), (-6, 4, -3, -2), (0, 0, 0, 3)])
def test_a_known_similarity_comes_back(move):
    smooth = cv2.GaussianBlur(PHOTO.astype(np.float32), (0, 0), 1.5)
    truth = small_move(*move)
    mask = face_mask(POINTS)
    found = Registration(seen(np.eye(2, 3), smooth), mask).fit(seen(truth, smooth))
    error = np.linalg.norm(apply(found, GRID) - apply(truth, GRID), axis=1)
    assert error.max() < 0.02


def test_gain_offset_and_a_smile_do_not_move_the_head():
    key = Registration(seen(np.eye(2, 3)), face_mask(POINTS))
    truth = small_move(1, -1, 0.5, 0.5)
    image = 0.5 * seen(truth) + 20
    image[170:205, 80:145] = 200  # the mouth, outside the mask
    image[120:150, 60:90] += 60  # a spot on the cheek: an outlier
    error = apply(key.fit(image), GRID) - apply(truth, GRID)
    assert np.linalg.norm(error, axis=1).max() < 0.25


def test_wild_fits_are_refused():
    key = Registration(seen(np.eye(2, 3)), face_mask(POINTS))
    assert key.fit(np.full((224, 224), 90, np.float32)) is None  # flat
    far = seen(small_move(40, 0, 0, 0))  # beyond 9 % of the crop
    found = key.fit(far)
    assert found is None or np.linalg.norm(apply(found, GRID) - GRID, axis=1).max() < 0.1 * 224


def test_mask_spares_eyes_brows_and_mouth():
    mask = face_mask(POINTS)
    for x, y in (*POINTS[:2], *POINTS[3:], POINTS[3:].mean(axis=0), POINTS[0] - (0, 22)):
        assert not mask[round(y), round(x)]
    for x, y in (POINTS[2], (112, 60), (60, 140), (164, 140)):  # nose, forehead, cheeks
        assert mask[round(y), round(x)]
    assert not mask[:20].any()
    np.testing.assert_array_equal(face_mask(np.add(POINTS, (5, 0)))[:, 30:200], mask[:, 25:195])


def crops_of(move):
    """What `step` asks for: the moved photograph under a correction."""
    return lambda correction: warp(PHOTO, compose(correction, compose(move, TO_CROP)), 224)


def test_a_refusal_keeps_the_correction_before():
    stabiliser = Stabiliser(POINTS)
    stabiliser.step(crops_of(np.eye(2, 3)))
    move = small_move(2, 1, 0, 0)
    before = stabiliser.step(crops_of(move)).copy()
    np.testing.assert_allclose(before, invert(move), atol=0.05)
    after = stabiliser.step(lambda correction: np.full((224, 224), 128, np.uint8))
    np.testing.assert_array_equal(after, before)
    assert stabiliser.refused == 1
