import numpy as np
import pytest

from micromacro.faces.detect import Faces, MtcnnDetector, no_faces
from micromacro.faces.track import Tracker, choose, mark_cuts
from micromacro.video import Frame


def follow(images, **options):
    frames = (Frame(i, i / 30, image) for i, image in enumerate(images))
    seen = list(Tracker(MtcnnDetector(), **options).follow(mark_cuts(frames)))
    assert [s.frame.index for s in seen] == list(range(len(images)))
    return seen


def statuses(seen):
    return [s.status for s in seen]


def middle(seen):
    return np.array([s.landmarks.mean(axis=0) for s in seen])


@pytest.mark.parametrize("every_frame", [False, True])
def test_the_detector_begins_and_if_asked_stays(portrait, every_frame):
    seen = follow(portrait.frames[:3], every_frame=every_frame)
    assert statuses(seen) == ["detect"] + ["detect" if every_frame else "track"] * 2
    assert [s.n_faces for s in seen] == [1] + [1 if every_frame else -1] * 2
    assert min(s.score for s in seen) > 0.99
    theirs = np.array([MtcnnDetector()(image).landmarks[0] for image in portrait.frames[:3]])
    assert np.abs([s.landmarks for s in seen] - theirs).max() <= (0 if every_frame else 3)


def test_a_head_may_move_fast(move_portrait):
    frames = [move_portrait(1, drift=0, at=(170 + 14 * t, 180)).frames[0] for t in range(12)]
    seen = follow(frames)
    assert statuses(seen) == ["detect"] + ["track"] * 11
    np.testing.assert_allclose(np.diff(middle(seen)[:, 0]), 14, atol=1.5)


@pytest.fixture(scope="module")
def two_people(move_portrait):
    left = move_portrait(22, scale=0.9, at=(160, 180), seed=1).frames
    right = move_portrait(22, scale=1, at=(480, 180), seed=2).frames
    return np.concatenate([left[:, :, :320], right[:, :, 320:]], axis=2)


@pytest.mark.parametrize(("select", "side"), [("auto", 1), ("index:0", 0)])
def test_two_faces_do_not_switch(two_people, select, side):
    seen = follow(two_people[:12], select=select)
    assert seen[0].n_faces == 2
    assert all((x > 320) == side for x in middle(seen)[:, 0])
    assert set(statuses(seen)[1:]) == {"track"}


def test_the_other_person_is_not_taken_when_ours_is_covered(two_people, cover):
    seen = follow(cover(two_people, 4, 18, at=(480, 180)))
    assert "".join(s.status[0] for s in seen) == "dttt" + 14 * "n" + "tttt"
    assert (middle(seen[:4] + seen[18:])[:, 0] > 320).all()


def faces(*rows):
    rows = np.array(rows, np.float32)
    return Faces(rows[:, :4], rows[:, 4], np.zeros((len(rows), 5, 2), np.float32))


def test_choose_weighs_area_certainty_and_place():
    shape = (100, 200)
    big_unsure = (0, 30, 40, 70, 0.9)
    middle_sure = (80, 30, 118, 68, 1.0)
    small_sure = (95, 45, 105, 55, 1.0)
    assert choose(faces(big_unsure, middle_sure, small_sure), shape) == 1
    assert choose(faces(big_unsure, middle_sure, small_sure), shape, "largest") == 0
    assert choose(faces(big_unsure, middle_sure, small_sure), shape, "centre") in (1, 2)
    assert choose(faces(middle_sure, big_unsure), shape, "index:0") == 1
    assert choose(faces(middle_sure), shape, "index:1") is None
    same_size = faces((0, 0, 30, 30, 1.0), (85, 35, 115, 65, 1.0))
    assert choose(same_size, shape) == 1


def test_a_face_free_film_backs_off():
    looks = []

    class Blind(MtcnnDetector):
        def __call__(self, image):
            looks.append(image.shape)
            return no_faces()

    grey = np.full((90, 160, 3), 100, np.uint8)
    seen = list(Tracker(Blind()).follow((Frame(i, i / 30, grey), 0) for i in range(70)))
    assert set(statuses(seen)) == {"none"}
    # Six frames in a row, then every fifth; all four turns at the first and the 60th.
    assert [s.frame.index for s in seen if s.n_faces == 0] == [*range(6), *range(10, 70, 5)]
    upright, sideways = (90, 160, 3), (160, 90, 3)
    turns = [upright, sideways, sideways, upright]
    assert looks == [*turns, *[upright] * 15, *turns, upright]


# ---- cuts ---------------------------------------------------------------------------------------


def shots_of(images):
    marked = list(mark_cuts(Frame(i, i / 30, image) for i, image in enumerate(images)))
    assert [frame.index for frame, _ in marked] == list(range(len(images)))
    return [shot for _, shot in marked]


def scene(seed, n_frames, speed=2, channels=(3,)):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (9, 40, *channels), dtype=np.uint8)
    wide = blocks.repeat(20, 0).repeat(20, 1)
    return [wide[:, speed * t : speed * t + 320] for t in range(n_frames)]


@pytest.mark.parametrize("channels", [(), (3,)])
def test_cuts_are_found_where_they_are(channels):
    lengths = (9, 14, 3)
    images = [image for k, n in enumerate(lengths) for image in scene(k, n, channels=channels)]
    assert shots_of(images) == [0] * 9 + [1] * 14 + [2] * 3


def test_a_fast_pan_and_a_small_change_are_no_cuts():
    assert set(shots_of(scene(0, 20, speed=15))) == {0}
    still = np.full((90, 160, 3), 100, np.uint8)
    assert set(shots_of([still] * 6 + [still + 5] * 6)) == {0}
    assert shots_of([still] * 6 + [still + 8] * 6) == [0] * 6 + [1] * 6


@pytest.mark.parametrize("n_frames", [0, 1, 2, 6])
def test_short_films(n_frames):
    assert shots_of(scene(3, n_frames)) == [0] * n_frames


def test_frames_are_held_back_by_five_only():
    seen = []

    def film():
        for image in scene(0, 30):
            seen.append(image)
            yield Frame(len(seen) - 1, len(seen) / 30, image)

    next(mark_cuts(film()))
    assert len(seen) == 6


@pytest.mark.parametrize("every_frame", [False, True])
def test_a_sideways_face_that_is_covered_for_two_frames_comes_back(portrait, cover, every_frame):
    frames = np.rot90(cover(portrait.frames[:9], 4, 6, at=(320, 180)), axes=(1, 2))
    seen = follow(np.ascontiguousarray(frames), every_frame=every_frame)
    assert {s.turn for s in seen if s.status in ("detect", "track")} == {3}
    assert "none" not in statuses(seen)[6:]
