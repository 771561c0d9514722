"""The reason to stabilise at all: what a meter reads off the crops, beside the truth."""

import numpy as np
import pytest

from micromacro.faces.align import apply
from micromacro.studies import steadiness


@pytest.mark.slow
def test_a_micro_expression_survives_stabilisation_and_no_other_mode_does_better():
    scores, _ = steadiness.unit(seed=3, modes=("aligned", "stabilised"), n_frames=48)
    error_px = scores["stabilised/geometric_error_px"]
    assert scores["stabilised/correlation"] >= 0.93
    assert scores["stabilised/correlation"] > scores["aligned/correlation"]
    assert scores["stabilised/false_motion_px"] <= 0.1
    assert error_px < min(0.2, scores["aligned/geometric_error_px"] / 2)


def test_the_scene_is_what_its_page_says():
    scene = steadiness.stage(2, n_frames=72, size=(180, 240))
    (event,) = scene.play.events
    assert event.offset - event.onset + 1 == 24
    crop_per_px = steadiness.EYES_PX / np.linalg.norm(scene.rigid[0, 15] - scene.rigid[0, 14])
    path = scene.corner()
    assert np.allclose(path[: event.onset], path[0], atol=1e-3), "at rest before the onset"
    rise = np.linalg.norm(path[event.apex] - path[0]) * crop_per_px
    assert rise == pytest.approx(1.44, rel=0.15)
    drift = (scene.rigid - scene.rigid[0])[:, 16] * crop_per_px
    assert 3 < np.abs(drift).max() < 12, "4 px either way, and the middle of the head turns too"


def test_head_undoes_the_drift():
    scene = steadiness.stage(1, n_frames=48, size=(90, 120))
    still = np.stack([apply(m, p) for m, p in zip(scene.head, scene.rigid, strict=True)])
    assert np.allclose(still, scene.rigid[0], atol=2e-3)
