"""Windows of large frames against the whole frame; the whole one is `frame_image`'s, tested there."""

import av
import numpy as np
import pytest

from micromacro import images
from micromacro.faces import extract, extract_faces, windowed
from micromacro.faces.align import warp
from micromacro.faces.windowed import Windowed, picture
from micromacro.images import frame_image
from micromacro.video import write_video

SIZE = (720, 1440)


def coded(size=SIZE, kind="yuv420p", **colour) -> av.VideoFrame:
    """A frame of smooth noise as a decoder gives it."""
    rng = np.random.default_rng(3)
    frame = av.VideoFrame(size[1], size[0], kind)
    for plane in frame.planes:
        values = np.frombuffer(plane, np.uint8)
        values[:] = np.cumsum(rng.integers(-3, 4, len(values)), dtype=np.int64) % 180 + 30
    for name, value in colour.items():
        setattr(frame, name, value)
    return frame


COLOURS = [{}, {"colorspace": 1, "color_range": 1}, {"color_range": 2}]  # unnamed, BT.709, full


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("pixels", ["rgb", "luma"])
def test_a_window_is_that_of_the_whole(monkeypatch, pixels, colour, turns):
    whole = np.rot90(frame_image(frame := coded(**colour), pixels), turns)
    monkeypatch.setattr(windowed, "quarter_turns", lambda _: turns)
    view, rng = picture(frame, pixels), np.random.default_rng(0)
    assert isinstance(view, Windowed)
    assert (view.shape, view.ndim) == (whole.shape, whole.ndim)
    for _ in range(12):
        (y0, y1), (x0, x1) = (np.sort(rng.integers(0, n + 40, 2)) for n in whole.shape[:2])
        np.testing.assert_array_equal(view[y0:y1, x0:x1], whole[y0:y1, x0:x1])
    np.testing.assert_array_equal(np.asarray(view), whole)
    assert view[5:5, 3:9].size == 0


def test_only_what_is_looked_at_is_converted(monkeypatch):
    converted = []

    def counted(frame, pixels):
        converted.append((frame.height, frame.width))
        return images.frame_image(frame, pixels)

    monkeypatch.setattr(windowed, "frame_image", counted)
    view = picture(coded(), "rgb")
    for shift in (0, 3, -5):
        view[100 + shift : 300 + shift, 200:420]
    assert converted == [(232, 252)]  # once, with a margin


@pytest.mark.parametrize(
    "frame", [coded((720, 1280)), coded((721, 1440)), coded(kind="yuv444p"), coded(kind="nv12")]
)
def test_small_odd_and_other_frames_are_arrays(frame):
    np.testing.assert_array_equal(picture(frame, "rgb"), frame_image(frame, "rgb"))


def test_a_half_is_the_mean_of_four():
    whole = frame_image(frame := coded(), "luma").astype(float)
    mean = whole.reshape(360, 2, 720, 2).mean(axis=(1, 3))
    half = picture(frame, "luma").half
    assert half.shape == (360, 720)
    assert np.abs(half[40:300, 50:600] - mean[40:300, 50:600]).max() <= 2  # rounded twice
    assert half.half.shape == (180, 360)


@pytest.fixture(scope="module")
def large(portrait, tmp_path_factory):
    """A film with a face of 60 px between the eyes in 1440x720."""
    path = tmp_path_factory.mktemp("film") / "large.mp4"
    wide = np.pad(portrait.frames[:5], ((0, 0), (180, 180), (400, 400), (0, 0)), mode="reflect")
    write_video(path, wide, crf=20)
    return path


CROPS = [
    *[({"mode": "stabilised", "size": 224}, True), ({"size": 128, "pixels": "luma"}, True)],
    *[({"mode": "per_frame", "size": 128}, True), ({"mode": "stabilised", "size": 16}, False)],
]


@pytest.mark.parametrize(("options", "exact"), CROPS)
def test_a_large_film_gives_the_same_crops(large, monkeypatch, options, exact):
    """To the bit, unless the crop is so small that the frame is halved first."""
    ours = extract_faces(large, **options)
    monkeypatch.setattr(extract, "picture", frame_image)
    whole = extract_faces(large, **options)
    for name in ("landmarks", "status", "shot", "n_faces"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(whole, name))
    off = np.abs(ours.frames.astype(int) - whole.frames)
    assert (off.max() == 0) == exact
    assert off.mean() < 2
    assert np.abs(ours.transform - whole.transform).max() < (1e-9 if exact else 0.02)


def test_halving_keeps_places():
    """A blob lands where it does without halving, to a hundredth of a pixel."""
    y, x = np.mgrid[:720, :1440]
    blob = np.rint(16 + 219 * np.exp(-((x - 701.3) ** 2 + (y - 366.2) ** 2) / 2 / 30**2))
    frame = coded()
    for plane, values in zip(frame.planes, (blob, 128, 128), strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        rows[:, : plane.width] = values
    matrix = np.array([[0.2, 0.01, -90.0], [-0.01, 0.2, -17.0]])
    crops = [warp(picture(frame, "luma"), matrix, 100, halve=halve) for halve in (False, True)]
    v, u = np.mgrid[:100, :100]
    centres = [[(c * u).sum() / c.sum(), (c * v).sum() / c.sum()] for c in np.float64(crops)]
    np.testing.assert_allclose(*centres, atol=0.01)
