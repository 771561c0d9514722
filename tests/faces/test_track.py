import cv2
import numpy as np
import pytest
from refusals import refused

from micromacro.faces.detect import Faces, MtcnnDetector, turn_back
from micromacro.faces.track import OnetReader, Reading, Tracker, choose, mark_cuts, parse_select
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


@pytest.mark.parametrize("shift", [(0.5, 0.25), (1.0, -0.5), (2.3, 1.7), (-3.1, 0.4)])
def test_reading_follows_a_sub_pixel_shift(move_portrait, shift):
    def shot(at):
        return move_portrait(1, drift=0, noise=0, at=at).frames[0]

    reader = OnetReader()
    (first,) = follow([shot((320, 180))])
    box = Reading(first.landmarks.mean(axis=0), 150.0, first.landmarks, 1.0)
    still = reader(shot((320, 180)), box)
    moved = reader(shot((320 + shift[0], 180 + shift[1])), box)
    error = (moved.landmarks - still.landmarks).mean(axis=0) - shift
    assert np.abs(error).max() < 0.5  # of a box of 150 px; O-Net sees a third of its pixels


def test_reading_is_where_the_detector_says(portrait):
    (first,) = follow(portrait.frames[:1])
    faces = MtcnnDetector()(portrait.frames[0])
    assert np.abs(first.landmarks - faces.landmarks[0]).max() < 3
    assert first.status == "detect"
    assert first.n_faces == 1
    assert first.score > 0.99


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_lying_face_is_read_upright(portrait, turn):
    upright = follow(portrait.frames[:6])
    lying = follow([np.ascontiguousarray(np.rot90(f, -turn)) for f in portrait.frames[:6]])
    assert {s.turn for s in lying} == {turn}
    undone = turn_back(np.array([s.landmarks for s in lying]), -turn % 4, (360, 640))
    assert np.abs(undone - np.array([s.landmarks for s in upright])).max() < 1.5


def test_a_head_may_move_fast(move_portrait):
    frames = [move_portrait(1, drift=0, at=(170 + 14 * t, 180)).frames[0] for t in range(22)]
    seen = follow(frames)
    assert statuses(seen) == ["detect"] + ["track"] * 21
    np.testing.assert_allclose(np.diff(middle(seen)[:, 0]), 14, atol=1.5)


def test_a_short_loss_is_interpolated(move_portrait, cover):
    film = move_portrait(20, scale=1).frames
    plain, seen = follow(film), follow(cover(film, 8, 11))
    assert statuses(seen)[7:12] == ["track", "interp", "interp", "interp", "track"]
    assert statuses(seen).count("interp") == 3
    np.testing.assert_allclose(middle(seen)[8:11], middle(plain)[8:11], atol=1.5)
    assert [s.n_faces >= 0 for s in seen[7:12]] == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("start", "stop", "expected"), [(8, 13, "interp"), (8, 14, "none"), (17, 20, "none")]
)
def test_a_loss_is_bridged_if_it_is_short_and_ends(move_portrait, cover, start, stop, expected):
    seen = follow(cover(move_portrait(20, scale=1).frames, start, stop))
    assert statuses(seen)[start:stop] == [expected] * (stop - start)


def test_a_loss_at_the_start_is_not_interpolated(move_portrait, cover):
    film = move_portrait(3, scale=1).frames
    assert statuses(follow(cover(film, 0, 2))) == ["none", "none", "detect"]


def test_a_long_loss_is_none_then_found_again(move_portrait, cover):
    film = move_portrait(50, scale=1).frames
    seen = follow(cover(film, 8, 38))
    assert {s.shot for s in seen} == {0}
    assert statuses(seen)[8:38] == ["none"] * 30
    assert "none" not in statuses(seen)[43:]
    assert all(np.isnan(s.landmarks).all() and np.isnan(s.score) for s in seen[8:38])
    ran = [s.n_faces >= 0 for s in seen[14:38]]
    assert 4 <= sum(ran) <= 6  # every fifth frame


def test_a_loss_is_not_bridged_across_a_cut(move_portrait, cover):
    one = cover(move_portrait(8, scale=1).frames, 6, 8)
    other = move_portrait(8, at=(430, 170), scale=1.2, gain=0.6).frames
    seen = follow([*one, *other])
    assert [s.shot for s in seen] == [0] * 8 + [1] * 8
    assert statuses(seen)[5:9] == ["track", "none", "none", "detect"]


def pair(move_portrait, n_frames):
    left = move_portrait(n_frames, scale=0.9, at=(160, 180), seed=1).frames
    right = move_portrait(n_frames, scale=1, at=(480, 180), seed=2).frames
    return np.concatenate([left[:, :, :320], right[:, :, 320:]], axis=2)


@pytest.mark.parametrize(
    ("select", "side"), [("auto", 1), ("largest", 1), ("index:0", 0), ("index:1", 1)]
)
def test_two_faces_do_not_switch(move_portrait, select, side):
    seen = follow(pair(move_portrait, 20), select=select)
    assert seen[0].n_faces == 2
    assert all((x > 320) == side for x in middle(seen)[:, 0])
    assert set(statuses(seen)[1:]) == {"track"}


def test_the_other_person_is_not_taken_when_ours_is_covered(move_portrait, cover):
    film = cover(pair(move_portrait, 36), 8, 26, at=(480, 180))
    seen = follow(film)
    assert statuses(seen)[8:26] == ["none"] * 18
    found = middle([s for s in seen if s.status != "none"])
    assert (found[:, 0] > 320).all()
    assert statuses(seen)[-1] == "track"


def test_index_beyond_the_faces_finds_nobody(portrait):
    assert set(statuses(follow(portrait.frames[:3], select="index:7"))) == {"none"}


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


@pytest.mark.parametrize("bad", ["", "biggest", "index", "index:-1", "index:x", "auto:1"])
def test_unknown_select(bad):
    refused(lambda: parse_select(bad), "select")


def test_every_frame_detects_every_frame(portrait):
    seen = follow(portrait.frames[:4], every_frame=True)
    assert statuses(seen) == ["detect"] * 4
    assert [s.n_faces for s in seen] == [1] * 4


def test_a_face_free_film_backs_off(scenery):
    calls = []

    class Counting(MtcnnDetector):
        def __call__(self, image):
            calls.append(1)
            return super().__call__(image)

    frames = (Frame(i, i / 30, scenery[i % 12]) for i in range(40))
    seen = list(Tracker(Counting()).follow(mark_cuts(frames)))
    assert {s.shot for s in seen} == {0}
    assert set(statuses(seen)) == {"none"}
    looks = 6 + 6  # six frames in a row, then every fifth of 40
    assert len(calls) <= 2 * (looks + 3)  # twice if the contrast is low; three turns, once


def test_grey_frames(portrait):
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in portrait.frames[:6]]
    np.testing.assert_allclose(middle(follow(grey)), middle(follow(portrait.frames[:6])), atol=1)


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
    assert shots_of(images) == [k for k, n in enumerate(lengths) for _ in range(n)]


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
