"""Inputs of the benchmark: windows against naive loops, crops, the released unwrapping."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from micromacro.errors import BadInput
from micromacro.kernels.phase_difference import phase_difference
from micromacro.kernels.phase_reference import bands_reference
from micromacro.motion.flow import optical_flow
from micromacro.motion.prepare import prepare
from micromacro.systems.mimamo import inputs, task


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


def test_phase_of_a_snippet_is_that_of_its_thirteen_frames(clips, faces):
    level_1, level_2 = inputs.motion(faces, clips.centres)
    assert level_1.shape == (2, 4, 24, 24, 24)
    assert level_2.shape == (2, 4, 24, 12, 12)
    for s, centre in enumerate(clips.centres.tolist()):
        alone = phase_difference(faces[1, centre - 6 : centre + 7])  # 48 px
        for found, due in zip((level_1, level_2), alone, strict=True):
            assert torch.allclose(found[1, s], half(due).flatten(0, 1), atol=1e-5)


def test_released_unwrapping_sees_thirteen_frames(clips, faces):
    levels = inputs.motion(faces, clips.centres, legacy_unwrap=True)
    centre = int(clips.centres[2])
    alone = phase_difference(faces[0, centre - 6 : centre + 7], legacy_unwrap=True)
    for found, due in zip(levels, alone, strict=True):
        assert torch.allclose(found[0, 2], half(due).flatten(0, 1), atol=1e-5)


def test_beyond_the_ends_nothing_moves(clips, faces):
    longer = inputs.motion(faces, clips.centres, length=24)[0].unflatten(2, (2, 24))
    middle = inputs.motion(faces, clips.centres, length=12)[0].unflatten(2, (2, 12))
    assert torch.equal(longer[:, :, :, 6:18], middle)
    assert not longer[:, 0, :, :6].any()  # centre 6 has 6 frames before it, not 12
    assert not longer[:, -1, :, 18:].any()
    assert longer[:, 1, :, 2].any()


def test_flow_difference_and_frames_by_hand(clips, faces):
    z = prepare(faces.float() / 255, "zscore", 48)
    first = int(clips.centres[1]) - 6
    flow = inputs.motion(faces, clips.centres, kind="farneback")[0].unflatten(2, (2, 12))
    difference = inputs.motion(faces, clips.centres, kind="difference")
    raw = inputs.motion(faces, clips.centres, kind="raw")[0]
    for i in range(12):
        a, b = z[0, first + i], z[0, first + i + 1]
        due = half(optical_flow(a, b, method="farneback"))
        assert torch.allclose(flow[0, 1, :, i], due, atol=1e-6)
        assert torch.allclose(difference[0][0, 1, i], half(6 * (b - a)), atol=1e-6)
        assert torch.allclose(difference[1][0, 1, i], half(half(6 * (b - a))), atol=1e-6)
        assert torch.allclose(raw[0, 1, i], half(6 * (b - 0.5)), atol=1e-6)


def test_raw_phase_is_unwrapped_over_the_clip_and_blurred(clips, faces):
    found = inputs.motion(faces, clips.centres, kind="raw_phase")[0].unflatten(2, (2, 12))
    z = prepare(faces.float() / 255, "zscore", 48)[0].double()
    bands = bands_reference(z, 1, 2).numpy()  # (T, K, 48, 48)
    phase, weight = np.unwrap(np.angle(bands), axis=0), np.abs(bands)
    smooth = [gaussian_filter(v, (0, 0, 2, 2), mode="constant", truncate=2.5) for v in (weight * phase, weight)]  # fmt: skip
    due = half(torch.from_numpy(smooth[0] / smooth[1]))
    first = int(clips.centres[1]) - 5
    for k in range(2):
        assert torch.allclose(found[0, 1, k].double(), due[first : first + 12, k], atol=1e-4)


@pytest.mark.parametrize(
    "kind", ["phase", "raw_phase", "difference", "raw", "farneback", "dis_medium"]
)
@pytest.mark.parametrize("length", [4, 12])
def test_every_kind_has_the_shape_it_says(clips, faces, kind, length):
    level_1, level_2 = inputs.motion(faces, clips.centres, kind=kind, length=length)
    maps = inputs.channels(kind, length)
    assert level_1.shape == (2, 4, maps, 24, 24)
    assert level_2.shape == (2, 4, maps, 12, 12)
    assert torch.isfinite(level_1).all()
    assert torch.isfinite(level_2).all()


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
    with pytest.raises(BadInput, match="unknown"):
        inputs.motion(faces, clips.centres, kind="flow")
    for length in (0, 5):
        with pytest.raises(BadInput, match="even"):
            inputs.motion(faces, clips.centres, length=length)
    with pytest.raises(BadInput, match="crop"):
        inputs.faces(clips.frames, "legacy")
