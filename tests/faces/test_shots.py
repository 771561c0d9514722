import numpy as np
import pytest

from micromacro.faces.track import mark_cuts
from micromacro.video import Frame


def shots_of(images):
    marked = list(mark_cuts(Frame(i, i / 30, image) for i, image in enumerate(images)))
    assert [frame.index for frame, _ in marked] == list(range(len(images)))
    return [shot for _, shot in marked]


def scene(seed, n_frames, speed=2, channels=(3,)):
    rng = np.random.default_rng(seed)
    wide = np.kron(
        rng.integers(0, 256, (9, 40, *channels), dtype=np.uint8),
        np.ones((20, 20, 1)[: 2 + len(channels)], np.uint8),
    )
    return [wide[:, speed * t : speed * t + 320] for t in range(n_frames)]


@pytest.mark.parametrize("channels", [(), (3,)])
def test_cuts_are_found_where_they_are(channels):
    images = [
        *scene(0, 9, channels=channels),
        *scene(1, 14, channels=channels),
        *scene(2, 3, channels=channels),
    ]
    assert shots_of(images) == [0] * 9 + [1] * 14 + [2] * 3


def test_a_fast_pan_is_no_cut():
    assert set(shots_of(scene(0, 20, speed=15))) == {0}


def test_a_small_change_is_no_cut_however_still_the_shot():
    still = np.full((90, 160, 3), 100, np.uint8)
    assert set(shots_of([still] * 6 + [still + 5] * 6)) == {0}
    assert shots_of([still] * 6 + [still + 8] * 6) == [0] * 6 + [1] * 6


@pytest.mark.parametrize("n_frames", [0, 1, 2, 6])
def test_short_films(n_frames):
    assert shots_of(scene(3, n_frames)) == [0] * n_frames


def test_frames_are_held_back_by_five_only():
    seen = []

    def film():
        for i, image in enumerate(scene(0, 30)):
            seen.append(i)
            yield Frame(i, i / 30, image)

    first, _ = next(mark_cuts(film()))
    assert first.index == 0
    assert len(seen) == 6
