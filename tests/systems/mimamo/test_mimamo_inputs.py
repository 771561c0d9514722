"""What the network sees: windows against naive loops, crops, snippets, the released unwrapping."""

from functools import partial

import numpy as np
import pytest
import torch
from refusals import refused

from micromacro.datasets.frames import grey_faces
from micromacro.kernels.phase_difference import phase_difference
from micromacro.motion.flow import optical_flow, tuned_flow
from micromacro.motion.maps import motion_maps
from micromacro.motion.prepare import prepare
from micromacro.synthetic import Face, Identity, perform
from micromacro.systems.mimamo import MimamoNet, OmgNet, experiment, inputs, task
from micromacro.systems.mimamo.experiment import Arm
from micromacro.systems.mimamo.inputs import Clip, cut


def half(maps: torch.Tensor) -> torch.Tensor:
    """Mean of 2 x 2, by adding the four corners."""
    m = maps
    return (m[..., ::2, ::2] + m[..., 1::2, ::2] + m[..., ::2, 1::2] + m[..., 1::2, 1::2]) / 4


@pytest.fixture(scope="module")
def clips():
    return task.record(1900, "train", people=2, clips=1, steps=4, illumination=1)


@pytest.fixture(scope="module")
def faces(clips):
    return inputs.faces(clips.frames)


@pytest.mark.parametrize("legacy", [False, True])
def test_phase_of_a_snippet_is_that_of_its_thirteen_frames(clips, faces, legacy):
    level_1, level_2 = motion_maps(faces, clips.centres, legacy_unwrap=legacy)
    assert level_1.shape == (2, 4, 24, 24, 24)
    assert level_2.shape == (2, 4, 24, 12, 12)
    for s, centre in enumerate(clips.centres.tolist()):
        window = faces[1, centre - 6 : centre + 7]  # 48 px
        alone = phase_difference(window, legacy_unwrap=legacy)
        for found, due in zip((level_1, level_2), alone, strict=True):
            assert torch.allclose(found[1, s], half(due).flatten(0, 1), atol=1e-5)


def test_beyond_the_ends_nothing_moves(clips, faces):
    longer = motion_maps(faces, clips.centres, length=24)[0].unflatten(2, (2, 24))
    middle = motion_maps(faces, clips.centres, length=12)[0].unflatten(2, (2, 12))
    assert torch.equal(longer[:, :, :, 6:18], middle)
    assert not longer[:, 0, :, :6].any()  # centre 6 has 6 frames before it, not 12
    assert not longer[:, -1, :, 18:].any()
    assert longer[:, 1, :, 2].any()


def test_flow_difference_and_frames_by_hand(clips, faces):
    z = prepare(faces.float() / 255, "zscore", 48)
    first = int(clips.centres[1]) - 6
    flow = motion_maps(faces, clips.centres, kind="farneback")[0].unflatten(2, (2, 12))
    tuned = motion_maps(faces, clips.centres, kind="tuned_flow")[0].unflatten(2, (2, 12))
    difference = motion_maps(faces, clips.centres, kind="difference")
    raw = motion_maps(faces, clips.centres, kind="raw")[0]
    for i in range(12):
        a, b = z[0, first + i], z[0, first + i + 1]
        due = half(optical_flow(a, b, method="farneback"))
        assert torch.allclose(flow[0, 1, :, i], due, atol=1e-6)
        assert torch.allclose(tuned[0, 1, :, i], half(tuned_flow(a, b)), atol=1e-6)
        assert torch.allclose(difference[0][0, 1, i], half(6 * (b - a)), atol=1e-6)
        assert torch.allclose(difference[1][0, 1, i], half(half(6 * (b - a))), atol=1e-6)
        assert torch.allclose(raw[0, 1, i], half(6 * (b - 0.5)), atol=1e-6)


@pytest.mark.parametrize(("crop", "side"), [("none", 48), ("ours", 40), ("released", 17)])
def test_crops(clips, crop, side):
    draws = torch.Generator().manual_seed(4)
    many = clips.frames[:1, :1].expand(64, 1, -1, -1)
    cut = inputs.faces(many, crop, draws)
    assert cut.shape == (64, 1, side, side)
    whole = inputs.faces(many)[0, 0]
    windows = whole.unfold(0, side, 1).unfold(1, side, 1)
    plain = sum(bool((windows == c[0]).flatten(2).all(-1).any()) for c in cut)
    flipped = sum(bool((windows == c[0].flip(-1)).flatten(2).all(-1).any()) for c in cut)
    assert (plain, flipped) == (64, 0) if crop == "none" else plain + flipped == 64
    if crop != "none":
        assert 16 < plain < 48
        again = inputs.faces(many, crop, torch.Generator().manual_seed(4))
        assert torch.equal(cut, again)


def test_bad_requests(clips, faces):
    refused(lambda: motion_maps(faces, clips.centres, kind="flow"), "unknown")
    for length in (0, 5):
        refused(partial(motion_maps, faces, clips.centres, length=length), "even")
    refused(lambda: inputs.faces(clips.frames, "legacy"), "crop")


# ---- official faces, snippets --------------------------------------------------------------------


def ramp(size, T=2):
    """Faces whose value is the column in every row: a crop shows by its extremes."""
    frames = np.zeros((T, 3, size, size), np.uint8)
    frames[:] = np.arange(size, dtype=np.uint8)
    return frames


@pytest.mark.parametrize(("legacy", "side"), [(False, 95), (True, 40)])
def test_grey_faces_crop_and_flip_are_shared(legacy, side):
    lefts, flips = set(), 0
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        grey = grey_faces(ramp(112), generator=generator, legacy_crop=legacy) * 255
        assert torch.equal(grey[0], grey[1])  # one draw for the sequence
        row = grey[0, 0, 10]
        flips += bool(row[0] > row[-1])
        width = float(row.max() - row.min())
        assert width == pytest.approx(side * 47 / 48, abs=2.5)  # Lanczos overshoots by a level
        lefts.add(round(float(row.min())))
    assert 5 < flips < 25
    assert max(lefts) - min(lefts) > 0.6 * (112 - side)
    assert max(lefts) <= 112 - side + 1


def test_legacy_crop_is_no_issue_at_48_px_and_impossible_below_40():
    draws = [torch.Generator().manual_seed(1) for _ in range(3)]
    one, two = (grey_faces(ramp(48), generator=draws[k], legacy_crop=bool(k)) for k in (0, 1))
    torch.testing.assert_close(one, two)
    call = partial(grey_faces, ramp(39), generator=draws[2], legacy_crop=True)
    refused(call, "hold no 40 px")
    assert grey_faces(ramp(39), legacy_crop=True).shape == (2, 1, 48, 48)


def snippets(T, none=(), cuts=(), labels=None, fps=30.0, dataset="affwild", **options):
    """A clip of T frames, of which some show no face and some begin a shot, cut by an arm."""
    arm, seen = Arm.on(dataset, options), np.ones(T, bool)
    seen[list(none)] = False
    shot = np.searchsorted(cuts, np.arange(T), side="right")
    labels = np.zeros((T, 2)) if labels is None else labels
    about = {"load": None, "half": arm.length // 2, "fps": fps, **cut(seen, shot, arm)}
    return Clip("a", "a", "train", labels, **about)


def test_snippets_repeat_the_ends():
    whole, short = snippets(40), snippets(5)
    assert whole.around(range(40)).shape == (40, 13)
    assert whole.around(range(1))[0].tolist() == [0] * 7 + [1, 2, 3, 4, 5, 6]
    assert whole.around(range(39, 40))[0].tolist() == [33, 34, 35, 36, 37, 38] + [39] * 7
    assert short.around(range(2, 3))[0].tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 4, 4, 4, 4, 4]
    assert snippets(9, length=4).around(range(4, 5)).tolist() == [[2, 3, 4, 5, 6]]


@pytest.mark.parametrize("seed", range(5))
def test_validity_against_frame_by_frame_truth(seed):
    rng = np.random.default_rng(seed)
    T = 70
    none, cuts = rng.choice(T, 3, replace=False), np.sort(rng.choice(np.arange(1, T), 2, False))
    labels = np.zeros((T, 2))
    labels[rng.choice(T, 2), rng.integers(0, 2, 2)] = np.nan
    part = snippets(T, none, cuts, labels)
    for t in range(T):
        touched = {min(max(f, 0), T - 1) for f in range(t - 6, t + 7)}
        is_cut = any(c in touched and c - 1 in touched for c in cuts.tolist())
        whole = not touched & set(none.tolist()) and not is_cut
        assert part.valid[t] == whole, t
        assert part.count(range(t, t + 1)) == (whole and np.isfinite(labels[t]).all()), t
    released = snippets(T, none, cuts, labels, legacy=["gaps"])  # as if nothing lay between
    kept = np.setdiff1d(np.arange(T), none)
    assert released.frames.tolist() == kept.tolist()
    assert released.valid.all()
    assert released.around(range(30, 31))[0].tolist() == kept[24:37].tolist()


def starts(T, train=False, **options):
    """Where the sequences' snippets start in an utterance of T frames."""
    clip = snippets(T, labels=np.zeros((1, 2)), dataset="omg", **options)
    arm = Arm.on("omg", {k: v for k, v in options.items() if k != "fps"})
    spans = experiment._spans(arm, clip, train=train)
    return [[centre - 6 for centre in span] for span in spans]


def test_omg_takes_a_snippet_every_second():
    assert starts(103) == [[0, 30, 60, 90]]  # the last 13 just fit
    assert starts(102) == [[0, 30, 60]]
    assert starts(60, fps=25.0) == [[0, 25]]
    assert starts(60, fps=25.0, legacy=["second"]) == [[0, 30]]
    assert len(starts(700)[0]) == 16
    assert starts(1) == starts(12) == []
    shifted = starts(70, train=True)
    assert [some[0] for some in shifted] == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]
    assert shifted[-1] == [27, 57]


def test_a_video_is_what_both_networks_take():
    play = perform(15, 30.0, nuisance="easy", seed=3)
    video = Face(Identity.draw(3), size=56).render(play)[None]  # (1, 15, 3, 56, 56)
    found = inputs.video_inputs(video, lambda images: images.mean((2, 3)))
    torch.testing.assert_close(found["features"], video.mean((3, 4)))
    grey = (video[0] * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    for t in (0, 7):  # before the first frame nothing moves
        window = grey[np.arange(t - 6, t + 7).clip(0)]
        for k, values in enumerate(phase_difference(window, size=48), 1):
            level = found[f"level_{k}"][0, t]
            torch.testing.assert_close(level, values.flatten(0, 1), atol=1e-4, rtol=0)
    options = {"n_features": 3, "phase_widths": (4, 4), "hidden": 4, "gru_hidden": 4}
    assert MimamoNet(**options).eval()(**found).shape == (1, 15, 2)
    assert OmgNet(**options).eval()(**found).shape == (1, 1)
    for wrong in (video[0], video[:, :, :2]):
        refused(partial(inputs.video_inputs, wrong, lambda images: images), "videos: has shape")
