"""Scenes: frames do not depend on chunks, fidgets fit, the mouth goes with the voice."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from micromacro.synthetic import Identity, Performance, micro_event, perform
from micromacro.synthetic.scene import Scene, fidgets, grey_face, talking
from micromacro.synthetic.script import FULL
from micromacro.synthetic.voice import speak

WHO = Identity.draw(0, split="scene-test", run_seed=1990)
SOME = {"muscles": ("1", "12L", "17"), "strongest": 0.3}


def test_a_scene_is_rendered_in_chunks_of_any_size():
    play, speech = perform(11, 16.0, seed=3), speak(WHO, 11, 16.0)
    scene = Scene(grey_face(WHO, 32), play, speech)
    whole = torch.cat([*scene.frames()])
    assert (whole.shape, whole.dtype) == ((11, 1, 32, 32), torch.float32)
    parts = [*scene.frames(chunk=4)]
    assert [len(part) for part in parts] == [4, 4, 3]
    assert torch.equal(torch.cat(parts), whole)
    assert grey_face(WHO, 32) is scene.face, "painted once"
    assert grey_face(WHO, 24) is not scene.face


def test_fidgets_follow_one_another_and_end_with_the_clip():
    made = fidgets(np.random.default_rng(0), 20_000, 16.0, per_s=0.5, **SOME)
    ends = [(event.onset, event.offset) for event in made]
    assert all(offset < onset for (_, offset), (onset, _) in pairwise(ends))
    assert ends[-1][1] < 20_000
    lengths = [offset - onset + 1 for onset, offset in ends]
    assert {*lengths} == {*range(3, 16)}
    # One lasts 9 frames in the mean, and 16 / 0.5 + 2 pass before it.
    assert len(made) == pytest.approx(20_000 / (9 + 34), rel=0.1)
    ((muscles, shares),) = [zip(*(event.aus[0] for event in made), strict=True)]
    assert min(Counter(muscles).values()) > len(made) / 4
    assert 0.1 <= min(shares) < 0.12 < 0.28 < max(shares) <= 0.3
    assert {event.peak for event in made} == {FULL}


def test_nobody_fidgets_who_is_told_not_to_nor_in_a_clip_that_is_too_short():
    assert fidgets(np.random.default_rng(0), 100, 16.0, per_s=0.0, **SOME) == []
    assert fidgets(np.random.default_rng(0), 2, 16.0, per_s=5.0, **SOME) == []


def test_the_mouth_opens_with_the_voice_and_the_rest_stays():
    still, speech = Performance.still(40, 16.0), speak(WHO, 40, 16.0, seed=2)
    play = talking(still, speech)
    assert np.corrcoef(play.jaw.numpy(), speech.opening)[0, 1] == pytest.approx(1)
    assert (play.jaw - still.jaw).max() == pytest.approx(0.03 * speech.opening.max())
    torch.testing.assert_close(2 * (play.part - still.part), play.jaw - still.jaw)
    assert torch.equal(play.au, still.au)


def test_channels_of_a_still_performance_are_apart_and_an_empty_run_is_empty():
    play = Performance.still(9)
    play.jaw[2] = 0.1
    assert play.lid[2] == play.yaw[2] == 0
    event = micro_event(2, [("12", 1.0)], fps=30.0, duration_s=0.2, peak=0.1)
    assert len(perform(12, 30.0, [event], seed=0)[5:5]) == 0
