"""What a film says of itself, or lacks, and the faces cut from it."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from refusals import refused

from micromacro.faces import extract_faces
from micromacro.faces.export import export_faces
from micromacro.faces.stability import jitter_px

N = 6


def write_film(path, images, *, aspect=1, stamps=None, damage=()) -> None:
    """JPEG pictures in Matroska, each a packet with a time stamp of 1/25 s; some are torn."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=25, options={"q": "2"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuvj444p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        for i, image in enumerate(images):
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                if i in damage:
                    torn = av.Packet(bytes(packet.size))
                    torn.stream, torn.time_base, packet = stream, packet.time_base, torn
                packet.pts = packet.dts = i if stamps is None else stamps[i]
                out.mux(packet)


def proportion(clip) -> float:
    """Distance from eyes to mouth by that between the eyes, in the crops."""
    points = np.einsum("tij,tpj->tpi", clip.transform[..., :2], clip.landmarks)
    eyes = points[:, 1] - points[:, 0]
    down = points[:, 3:].mean(axis=1) - points[:, :2].mean(axis=1)
    return float(np.median(np.linalg.norm(down, axis=-1) / np.linalg.norm(eyes, axis=-1)))


@pytest.fixture(scope="module")
def true_clip(portrait):
    return extract_faces(portrait.frames[:N], size=64)


@pytest.mark.parametrize(("aspect", "size"), [("2", (320, 360)), ("1/2", (640, 180))])
def test_a_face_keeps_its_proportions_whatever_the_pixels(
    portrait, true_clip, tmp_path, aspect, size
):
    stored = [cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in portrait.frames[:N]]
    write_film(tmp_path / "film.mkv", stored, aspect=aspect)
    clip = extract_faces(tmp_path / "film.mkv", size=64)
    assert proportion(clip) == pytest.approx(proportion(true_clip), rel=0.02)
    assert (
        np.abs(clip.landmarks - true_clip.landmarks).max() < 2
    )  # in square pixels, not stored ones
    assert np.abs(clip.frames.astype(int) - true_clip.frames).mean() < 4
    assert any("square" in note for note in clip.settings["notes"])


def test_time_stamps_that_repeat_and_frames_that_were_dropped(portrait, tmp_path):
    stamps = [0, 1, 1, 2, 3, 8, 9, 10]  # a repeated one, and four dropped before the sixth frame
    write_film(tmp_path / "film.mkv", portrait.frames[:8], stamps=stamps)
    clip = extract_faces(tmp_path / "film.mkv", size=64)
    np.testing.assert_allclose(25 * clip.t_s, [0, 1, 1.5, 2, 3, 8, 9, 10], atol=0.03)
    assert clip.segments() == [(0, 5), (5, 8)]
    assert np.isnan(jitter_px(clip)[4])
    assert np.isfinite(np.delete(jitter_px(clip), 4)).all()
    assert any("repeated time stamps: 1" in note for note in clip.settings["notes"])


def test_missing_pictures_of_a_folder_are_a_gap(portrait, tmp_path):
    numbers = [5, 6, 7, 11, 12]
    for number, image in zip(numbers, portrait.frames, strict=False):
        Image.fromarray(image).save(tmp_path / f"img{number:03d}.png")
    clip = extract_faces(tmp_path, size=64, fps=50)
    np.testing.assert_allclose(clip.t_s, (np.array(numbers) - 5) / 50)
    assert clip.segments() == [(0, 3), (3, 5)]
    assert any("numbered in steps of 1 to 4" in note for note in clip.settings["notes"])


@pytest.mark.parametrize("mode", ["aligned", "stabilised", "per_frame"])
def test_frames_that_are_damaged_are_none_and_never_bridged(portrait, tmp_path, mode):
    film = tmp_path / "film.mkv"
    write_film(film, portrait.frames[:9], damage=[3, 6, 7])
    refused(lambda: extract_faces(film, mode=mode), "film.mkv", "damaged")
    clip = extract_faces(film, mode=mode, size=64, keep_damaged=True)
    assert np.flatnonzero(clip.status == "none").tolist() == [3, 6, 7]
    assert "interp" not in clip.status
    assert not clip.frames[[3, 6, 7]].any()
    assert clip.shot.tolist() == [0] * 9  # damage is no cut
    assert clip.segments() == [(0, 3), (4, 6), (8, 9)]
    assert any("damaged frames: 3" in note for note in clip.settings["notes"])


def test_the_command_goes_on_after_damage_if_told_to(portrait, tmp_path):
    film, out = tmp_path / "film.mkv", tmp_path / "out"
    write_film(film, portrait.frames[:4], damage=[2])
    refused(lambda: export_faces(film, out, size=64), "film.mkv", "damaged")
    assert not out.exists()
    assert "damaged frames: 1" in export_faces(film, out, size=64, keep_damaged=True)
    assert len(list(out.iterdir())) == 4
