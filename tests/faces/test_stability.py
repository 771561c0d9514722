import cv2
import numpy as np
import pytest
import skimage.data
from clips import face_clip

from micromacro.faces.stability import jitter_px, patch_motion_px, residual_px

PHOTO = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)
SHIFTS = np.array([(0, 0), (0.5, 0), (1.0, -1.0), (-0.3, 1.4), (0, 0)])


def crops(shifts=SHIFTS):
    views = []
    for x, y in shifts:
        matrix = np.array([[2.0, 0, x - 340], [0, 2.0, y - 130]])
        views.append(cv2.warpAffine(PHOTO, matrix, (224, 224), flags=cv2.INTER_CUBIC))
    return np.stack(views)[:, None]


@pytest.mark.parametrize(("channels", "reference"), [(1, 0), (3, 2)])
def test_patch_motion_is_the_true_shift_since_the_reference(channels, reference):
    frames = np.repeat(crops(), channels, axis=1)
    motion = patch_motion_px(frames, (112, 118), 30, reference=reference)
    expected = SHIFTS - SHIFTS[reference]
    np.testing.assert_allclose(motion, expected, atol=0.12 if reference == 0 else 0.15)


def test_patch_motion_is_local():
    frames = crops(np.zeros((2, 2)))
    frames[1, 0, 150:] = crops([(2.0, 0)])[0, 0, 150:]
    assert abs(patch_motion_px(frames, (112, 190), 10)[1, 0] - 2) < 0.3
    assert abs(patch_motion_px(frames, (112, 80), 20)[1, 0]) < 0.1


def test_jitter_measures_steps_and_never_crosses_cuts_or_gaps():
    frames = crops()
    steps = np.linalg.norm(np.diff(SHIFTS, axis=0), axis=1)
    np.testing.assert_allclose(jitter_px(face_clip(frames)), steps, atol=0.15)
    cut = jitter_px(face_clip(frames, cuts=[2]))
    np.testing.assert_array_equal(np.isnan(cut), [False, True, False, False])
    gap = jitter_px(face_clip(frames, none=[3]))
    np.testing.assert_array_equal(np.isnan(gap), [False, False, True, True])
    assert jitter_px(face_clip(frames), lag=9).shape == (0,)


def test_residual_is_zero_for_the_truth_and_the_shift_otherwise():
    rng = np.random.default_rng(0)
    truth = np.stack(
        [np.column_stack([np.eye(2) * (1 + 0.1 * i), rng.normal(size=2)]) for i in range(6)]
    )
    points = rng.uniform(0, 224, (7, 2))
    np.testing.assert_allclose(residual_px(truth, truth, points), 0, atol=1e-9)
    off = truth.copy()
    off[:3, 0, 2] += 1  # half of the frames one pixel to the right
    expected = np.where(np.arange(6) < 3, 0.5, -0.5)[:, None].repeat(7, 1)
    np.testing.assert_allclose(residual_px(off, truth, points)[..., 0], expected, atol=1e-9)
