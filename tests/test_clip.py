"""FaceClip; files are checked with numpy, json, zipfile and csv alone."""

import csv
import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest
import torch
from refusals import refused

from micromacro.clip import (
    FaceClip,
    load_clip,
    save_clip,
)

ARRAYS = ("frames", "t_s", "status", "score", "landmarks", "transform", "shot", "n_faces")


def make_clip(statuses="dtt-tti-tt", shots="0000011111", channels=3, size=7, **changes) -> FaceClip:
    """d detect, t track, i interp, - none."""
    names = {"d": "detect", "t": "track", "i": "interp", "-": "none"}
    rng, n = np.random.default_rng(5), len(statuses)
    status = np.array([names[letter] for letter in statuses])
    none = status == "none"
    fields = {
        "frames": rng.integers(1, 256, (n, channels, size, size), dtype=np.uint8),
        "t_s": np.cumsum(rng.uniform(0.01, 0.1, n)),
        "status": status,
        "score": rng.uniform(0.7, 1, n).astype(np.float32),
        "landmarks": rng.normal(200, 50, (n, 5, 2)).astype(np.float32),
        "transform": rng.normal(0, 1, (n, 2, 3)),
        "shot": np.array([int(shot) for shot in shots], np.int32),
        "n_faces": rng.integers(-1, 3, n, dtype=np.int32),
        "mode": "stabilised",
        "source": "films/Tränen und Lächeln.mp4",
        "settings": {"backend": "mtcnn", "key": 15, "offsets": [0.0, 0.06], "note": "ü"},
    }
    fields["frames"][none] = 0
    for name in ("score", "landmarks", "transform"):
        fields[name][none] = np.nan
    return FaceClip(**{**fields, **changes})


def assert_same(a: FaceClip, b: FaceClip) -> None:
    for field in dataclasses.fields(FaceClip):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if field.name in ARRAYS:
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other


# ---- FaceClip ----------------------------------------------------------------------------------


def test_properties():
    clip = make_clip(t_s=np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 20]) / 25)
    assert (len(clip), clip.size) == (10, 7)
    assert clip.fps == pytest.approx(25)
    assert np.isnan(make_clip("t", "0").fps)
    line = clip.summary()
    assert "\n" not in line
    for part in ("Tränen und Lächeln.mp4", "10 frames", "25.00", "stabilised at 7 px"):
        assert part in line
    for part in ("6 track", "1 detect", "1 interp", "2 none", "2 shot"):
        assert part in line


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_exact_and_only_the_slice_is_converted(channels):
    clip = make_clip(channels=channels)
    images = clip.images(2, 5)
    assert (images.dtype, tuple(images.shape)) == (torch.float32, (3, channels, 7, 7))
    np.testing.assert_array_equal(images.numpy(), clip.frames[2:5] / np.float32(255))
    assert clip.images().shape[0] == 10
    assert clip.images(8).shape[0] == 2
    assert float(clip.images().max()) <= 1
    images.zero_()
    assert clip.frames[2].any()
    clip.frames.setflags(write=False)
    clip.images(0, 1)  # warnings are errors: none may come for a read-only array


@pytest.mark.parametrize(
    ("statuses", "shots", "expected"),
    [
        ("ttt", "000", [(0, 3)]),
        ("---", "000", []),
        ("-t-", "000", [(1, 2)]),
        ("tt-tt", "00000", [(0, 2), (3, 5)]),
        ("tttt", "0011", [(0, 2), (2, 4)]),
        ("dtt-tti-tt", "0000011111", [(0, 3), (4, 5), (5, 7), (8, 10)]),
        ("-t-t-", "00111", [(1, 2), (3, 4)]),
        ("ttt", "012", [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_segments(statuses, shots, expected):
    clip = make_clip(statuses, shots)
    assert clip.segments() == expected
    assert clip.segments(2) == [(a, b) for a, b in expected if b - a >= 2]
    assert clip.segments(99) == []


def broken_fields():
    good = make_clip()
    zero = np.zeros_like(good.frames)
    inf = good.transform.copy()
    inf[0, 0, 0] = np.inf
    full = np.nan_to_num(good.score, nan=0.5)
    return [
        ("frames", good.frames.astype(np.float32), "uint8"),
        ("frames", good.frames[:, :2], "1 nor 3"),
        ("frames", good.frames[..., :5], "square"),
        ("frames", good.frames[:, 0], "shape"),
        ("frames", zero + 1, "zero"),
        ("frames", good.frames.tolist(), "uint8"),
        ("t_s", good.t_s[:-1], "shape (9,)"),
        ("t_s", good.t_s.astype(np.float32), "float64"),
        ("t_s", good.t_s[::-1].copy(), "increase"),
        ("t_s", good.t_s * np.nan, "increase"),
        ("status", np.array(["lost"] * 10), "track"),
        ("status", good.status.astype(object), "str"),
        ("score", full, "nan"),
        ("landmarks", good.landmarks[:, :4], "shape"),
        ("landmarks", np.nan_to_num(good.landmarks), "nan"),
        ("landmarks", good.landmarks * np.float32(np.nan), "finite"),
        ("transform", inf, "finite"),
        ("shot", good.shot.astype(np.int64), "int32"),
        ("shot", good.shot[::-1].copy(), "decreases"),
        ("n_faces", np.full(10, -2, np.int32), "-1"),
        ("mode", "steady", "steady"),
        ("settings", {"size": np.float32(3)}, "JSON"),
        ("settings", {"size": float("nan")}, "JSON"),
    ]


@pytest.mark.parametrize(("name", "value", "word"), broken_fields())
def test_broken_fields_are_named(name, value, word):
    refused(lambda: make_clip(**{name: value}), f"FaceClip.{name}", word)


def test_an_empty_clip_is_refused():
    refused(lambda: make_clip("", ""), "no frame")


# ---- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("statuses", "channels"), [("dtt-tti-tt", 3), ("----------", 1)])
def test_round_trip_is_exact(tmp_path, statuses, channels):
    clip = make_clip(statuses, channels=channels, settings={"pair": (1, 2), "x": 0.1})
    file = save_clip(clip, tmp_path / "a.npz")
    assert file == tmp_path / "a.npz"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.csv", "a.npz"]
    assert_same(load_clip(file), clip)
    assert clip.settings == {"pair": [1, 2], "x": 0.1}
    before = file.read_bytes(), (tmp_path / "a.csv").read_bytes()
    save_clip(load_clip(file), file)
    assert (file.read_bytes(), (tmp_path / "a.csv").read_bytes()) == before


def test_a_folder_takes_the_name_of_the_source(tmp_path):
    file = save_clip(make_clip(), tmp_path / "new" / "out")
    assert file == tmp_path / "new" / "out" / "Tränen und Lächeln.npz"
    assert len(load_clip(str(file))) == 10


def test_files_are_readable_without_this_package(tmp_path):
    clip = make_clip()
    save_clip(clip, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        assert set(stored) == {*ARRAYS, "about"}
        for name in ARRAYS:
            np.testing.assert_array_equal(stored[name], getattr(clip, name))
        assert json.loads(str(stored["about"])) == {
            "format": "micromacro.FaceClip",
            "version": 1,
            "mode": "stabilised",
            "source": clip.source,
            "settings": clip.settings,
        }
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == list(range(10))
    assert [float(row["t_s"]) for row in rows] == clip.t_s.tolist()
    assert [row["status"] for row in rows] == clip.status.tolist()
    assert [int(row["shot"]) for row in rows] == clip.shot.tolist()
    assert [int(row["n_faces"]) for row in rows] == clip.n_faces.tolist()
    points = [[float(row[name]) for name in ("left_eye_x", "mouth_right_y")] for row in rows]
    np.testing.assert_array_equal(np.float32(points), clip.landmarks[:, [0, 4], [0, 1]])
    matrix = [[float(row[f"m{i}{j}"]) for i in (0, 1) for j in (0, 1, 2)] for row in rows]
    np.testing.assert_array_equal(matrix, clip.transform.reshape(10, 6))
    assert len(rows[0]) == 6 + 10 + 6


def stored_again(path, **changes) -> bytes:
    """Bytes of the npz with some arrays replaced; None removes one."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {**stored, **changes}
    buffer = io.BytesIO()
    np.savez(buffer, **{name: array for name, array in arrays.items() if array is not None})
    return buffer.getvalue()


def test_torn_foreign_and_newer_files_are_refused(tmp_path):
    good = save_clip(make_clip(size=40), tmp_path / "good.npz")
    content = good.read_bytes()
    with np.load(good) as stored:
        about = json.loads(str(stored["about"]))

    def about_with(**changes):
        return np.array(json.dumps({**about, **changes}))

    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 255
    other_zip = io.BytesIO()
    with zipfile.ZipFile(other_zip, "w") as archive:
        archive.writestr("words.txt", "hello")
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    pickled = np.array([{"a": 1}], dtype=object)
    cases = {
        "half": (content[: len(content) // 2], "torn"),
        "end": (content[:-1], "torn"),
        "flipped": (bytes(flipped), "torn"),
        "empty": (b"", "empty"),
        "words": (b"hello", "torn, or not a saved FaceClip"),
        "zip": (other_zip.getvalue(), "not a saved FaceClip"),
        "npy": (buffer.getvalue(), "not a saved FaceClip"),
        "no_shot": (stored_again(good, shot=None), "not a saved FaceClip"),
        "no_about": (stored_again(good, about=None), "not a saved FaceClip"),
        "about_words": (stored_again(good, about=np.array("hello")), "not a saved FaceClip"),
        "about_list": (stored_again(good, about=np.array("[1]")), "not a saved FaceClip"),
        "format": (stored_again(good, about=about_with(format="x")), "not a saved FaceClip"),
        "newer": (stored_again(good, about=about_with(version=2)), "version 2"),
        "pickle": (stored_again(good, shot=pickled), "torn, or not"),
        "short": (stored_again(good, shot=np.zeros(3, np.int32)), "FaceClip.shot"),
        "mode": (stored_again(good, about=about_with(mode="x")), "FaceClip.mode"),
    }
    for name, (data, fault) in cases.items():
        (tmp_path / f"{name}.npz").write_bytes(data)
        refused(lambda name=name: load_clip(tmp_path / f"{name}.npz"), f"{name}.npz", fault)
    refused(lambda: load_clip(tmp_path / "missing.npz"), "missing.npz", "No such file")
    refused(lambda: load_clip(tmp_path), "not a saved FaceClip")


def test_targets_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "a.npz").mkdir()
    (tmp_path / "b.csv").mkdir()
    for target in ("missing/a.npz", "file/a.npz", "file", "a.npz", "b.npz"):
        refused(lambda target=target: save_clip(make_clip(), tmp_path / target), target[:1])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.npz", "b.csv", "file"]
