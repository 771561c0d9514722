"""FaceClip; files are checked with numpy, json and csv alone."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import face_clip
from refusals import refused

from micromacro.clip import FaceClip, crops_of, load_clip, save_clip

ARRAYS = ("frames", "t_s", "status", "score", "landmarks", "transform", "shot", "n_faces")
STATUSES = {"d": "detect", "t": "track", "i": "interp", "-": "none"}


def make_clip(statuses="dtt-tti-tt", shots="0000011111", channels=3, size=7, **changes) -> FaceClip:
    """A clip of noise; a letter of `STATUSES` and a digit of the shot for each frame."""
    rng, n = np.random.default_rng(5), len(statuses)
    fields = {
        "t_s": np.cumsum(rng.uniform(0.04, 0.05, n)),
        "status": np.array([STATUSES[letter] for letter in statuses]),
        "score": rng.uniform(0.7, 1, n).astype(np.float32),
        "landmarks": rng.normal(200, 50, (n, 5, 2)).astype(np.float32),
        "transform": rng.normal(0, 1, (n, 2, 3)),
        "shot": np.array([int(shot) for shot in shots], np.int32),
        "n_faces": rng.integers(-1, 3, n, dtype=np.int32),
        "mode": "stabilised",
        "source": "films/Tränen und Lächeln.mp4",
        "settings": {"backend": "mtcnn", "key": 15, "offsets": [0.0, 0.06], "note": "ü"},
    }
    none = fields["status"] == "none"
    for name in ("score", "landmarks", "transform"):
        fields[name][none] = np.nan
    frames = rng.integers(1, 256, (n, channels, size, size), dtype=np.uint8)
    return replace(face_clip(frames, none=np.flatnonzero(none), **fields), **changes)


# ---- FaceClip ----------------------------------------------------------------------------------


def test_properties():
    clip = make_clip(t_s=np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 20]) / 25)
    assert (len(clip), clip.size, clip.fps) == (10, 7, pytest.approx(25))
    assert np.isnan(make_clip("t", "0").fps)
    assert "1 frame, stabilised" in make_clip("t", "0").summary()
    words = ("Tränen und Lächeln.mp4", "10 frames", "25.00", "stabilised at 7 px")
    words += ("6 track", "1 detect", "1 interp", "2 none", "2 shot")
    assert [word for word in (*words, "\n") if word not in clip.summary()] == ["\n"]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_exact_and_only_the_slice_is_converted(channels):
    clip = make_clip(channels=channels)
    images = clip.images(2, 5)
    assert (images.dtype, tuple(images.shape)) == (torch.float32, (3, channels, 7, 7))
    np.testing.assert_array_equal(images.numpy(), clip.frames[2:5] / np.float32(255))
    assert (len(clip.images()), len(clip.images(8))) == (10, 2)
    images.zero_()
    assert clip.frames[2].any()
    clip.frames.setflags(write=False)
    clip.images(0, 1)  # warnings are errors: none may come for a read-only array


SEGMENTS = [
    *[("ttt", "000", [(0, 3)]), ("---", "000", []), ("-t-", "000", [(1, 2)])],
    *[("tt-tt", "00000", [(0, 2), (3, 5)]), ("tttt", "0011", [(0, 2), (2, 4)])],
    *[("-t-t-", "00111", [(1, 2), (3, 4)]), ("ttt", "012", [(0, 1), (1, 2), (2, 3)])],
    ("dtt-tti-tt", "0000011111", [(0, 3), (4, 5), (5, 7), (8, 10)]),
]


@pytest.mark.parametrize(("statuses", "shots", "expected"), SEGMENTS)
def test_segments(statuses, shots, expected):
    clip = make_clip(statuses, shots)
    assert clip.segments() == expected
    assert clip.segments(2) == [(a, b) for a, b in expected if b - a >= 2]
    assert clip.segments(99) == []


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([1, 1, 1, 1], [(0, 5)]),
        ([1, 1, 1.5, 1], [(0, 5)]),  # a rounded time stamp
        ([1, 1, 1.51, 1], [(0, 3), (3, 5)]),
        ([1, 5, 1, 1], [(0, 2), (2, 5)]),  # the recorder dropped four
        ([9, 1, 1, 1], [(0, 1), (1, 5)]),
        ([1, 1, 1, 2], [(0, 4), (4, 5)]),
        ([0.3, 1, 1, 1], [(0, 5)]),
        ([1 / 1000, 1, 1, 1], [(0, 5)]),
        ([], [(0, 1)]),
    ],
)
def test_a_gap_in_time_ends_a_segment(steps, expected):
    times = np.cumsum([3.0, *steps]) / 30
    clip = make_clip("t" * len(times), "0" * len(times), t_s=times)
    assert clip.segments() == expected
    assert np.flatnonzero(clip.breaks()).tolist() == [start for start, _ in expected[1:]]


def test_a_gap_beside_a_loss_or_a_cut_breaks_once():
    times = np.array([0, 1, 2, 5, 6, 9, 10.0]) / 25
    clip = make_clip("tt-ttt-", "0001111", t_s=times)
    assert clip.segments() == [(0, 2), (3, 5), (5, 6)]
    assert clip.breaks().tolist() == [False, False, False, True, False, True, False]


def broken_fields():
    good = make_clip()
    inf = good.transform.copy()
    inf[0, 0, 0] = np.inf
    return [
        ("frames", good.frames.astype(np.float32), "uint8"),
        ("frames", good.frames[:, :2], "1 nor 3"),
        ("frames", good.frames[..., :5], "square"),
        ("frames", good.frames[:, 0], "shape"),
        ("frames", np.ones_like(good.frames), "zero"),
        ("t_s", good.t_s[:-1], "shape (9,)"),
        ("t_s", good.t_s[::-1].copy(), "increase"),
        ("t_s", good.t_s * np.nan, "increase"),
        ("status", np.array(["lost"] * 10), "track"),
        ("score", np.nan_to_num(good.score, nan=0.5), "nan"),
        ("landmarks", good.landmarks[:, :4], "shape"),
        ("landmarks", np.nan_to_num(good.landmarks), "nan"),
        ("transform", inf, "finite"),
        ("shot", good.shot[::-1].copy(), "decreases"),
        ("n_faces", np.full(10, -2, np.int32), "-1"),
        ("mode", "steady", "steady"),
        ("settings", {"size": np.float32(3)}, "JSON"),
        ("settings", {"size": float("nan")}, "JSON"),
    ]


@pytest.mark.parametrize(("name", "value", "word"), broken_fields())
def test_broken_fields_are_named(name, value, word):
    refused(lambda: make_clip(**{name: value}), f"FaceClip.{name}", word)
    refused(lambda: make_clip("", ""), "no frame")


# ---- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("statuses", "channels"), [("dtt-tti-tt", 3), ("----------", 1)])
def test_round_trip_is_exact(tmp_path, statuses, channels):
    clip = make_clip(statuses, channels=channels, settings={"pair": (1, 2), "x": 0.1})
    file, table = tmp_path / "a.npz", tmp_path / "a.csv"
    assert save_clip(clip, file) == file
    assert sorted(tmp_path.iterdir()) == [table, file]
    loaded = load_clip(file)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(clip, name), strict=True)
    for name in ("mode", "source", "settings"):
        assert getattr(loaded, name) == getattr(clip, name)
    assert clip.settings == {"pair": [1, 2], "x": 0.1}
    before = file.read_bytes(), table.read_bytes()
    save_clip(load_clip(file), file)
    assert (file.read_bytes(), table.read_bytes()) == before


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
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    assert len(columns) == 6 + 10 + 6
    expected = {name: getattr(clip, name) for name in ("t_s", "status", "shot", "n_faces")}
    expected |= {f"m{i}{j}": clip.transform[:, i, j] for i in (0, 1) for j in (0, 1, 2)}
    expected |= {"left_eye_x": clip.landmarks[:, 0, 0], "mouth_right_y": clip.landmarks[:, 4, 1]}
    for name, values in (expected | {"frame": np.arange(10)}).items():
        np.testing.assert_array_equal(np.array(columns[name]).astype(values.dtype), values)


def again(content: bytes, fields=None, **changes) -> bytes:
    """The npz with other arrays, or without those that are None; of ``about`` some fields
    change."""
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        arrays = {**stored, **changes}
    if fields:
        arrays["about"] = np.array(json.dumps(json.loads(str(arrays["about"])) | fields))
    np.savez(buffer := io.BytesIO(), **{n: a for n, a in arrays.items() if a is not None})
    return buffer.getvalue()


NOT = "not a saved FaceClip"
BROKEN = [
    (lambda good: good[: len(good) // 2], "torn"),
    (lambda good: good[:3000] + bytes([good[3000] ^ 255]) + good[3001:], "torn"),
    (lambda good: b"", "empty"),
    (lambda good: b"hello", f"torn, or {NOT}"),
    (lambda good: again(good, shot=None), NOT),
    (lambda good: again(good, about=np.array("hello")), NOT),
    (lambda good: again(good, {"format": "x"}), NOT),
    (lambda good: again(good, {"version": 2}), "version 2"),
    (lambda good: again(good, {"mode": "x"}), "FaceClip.mode"),
    (lambda good: again(good, shot=np.array([{"a": 1}], dtype=object)), "torn, or not"),
    (lambda good: again(good, shot=np.zeros(3, np.int32)), "FaceClip.shot"),
]


@pytest.mark.parametrize(("change", "fault"), BROKEN)
def test_torn_foreign_and_newer_files_are_refused(tmp_path, change, fault):
    path = save_clip(make_clip(size=40), tmp_path / "bad.npz")
    path.write_bytes(change(path.read_bytes()))
    refused(lambda: load_clip(path), "bad.npz", fault)


def test_crops_may_stay_in_a_file(tmp_path):
    """The same bytes come out, and what breaks the format is seen there too."""
    clip = make_clip(("dtt-tti-tt" * 14), "0" * 140)
    clip.frames.tofile(tmp_path / "crops")
    frames = np.memmap(tmp_path / "crops", np.uint8, "r").reshape(clip.frames.shape)
    for name, crops in (("a", clip.frames), ("b", frames)):
        save_clip(replace(clip, frames=crops), tmp_path / f"{name}.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    np.savez(tmp_path / "c.npz", **np.load(tmp_path / "a.npz"))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "c.npz").read_bytes()  # numpy's own
    status = clip.status.copy()
    status[-1] = "none"
    nowhere = {n: getattr(clip, n).copy() for n in ("score", "landmarks", "transform")}
    for values in nowhere.values():
        values[-1] = np.nan
    refused(lambda: replace(clip, frames=frames, status=status, **nowhere), "FaceClip.frames")


def resident_mb() -> float:
    """Pages of files that this process holds in memory."""
    status = Path("/proc/self/status").read_text()
    return sum(map(int, re.findall(r"Rss(?:File|Shmem):\s+(\d+)", status))) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says it")
def test_crops_in_a_file_are_let_go_of(tmp_path):
    """Of 50 MB the 13 MB of 64 crops are in memory at a time."""
    (tmp_path / "crops").write_bytes(bytes(256 * 3 * 256 * 256))
    frames = np.memmap(tmp_path / "crops", np.uint8, "r").reshape(256, 3, 256, 256)
    before = resident_mb()
    assert max(resident_mb() - before for crop in crops_of(frames) if not crop.any()) < 20


def test_an_empty_name_is_not_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(lambda: save_clip(make_clip(), ""), '""')
    refused(lambda: load_clip(""), '""')
    assert not list(tmp_path.iterdir())


def test_places_to_write(tmp_path):
    save_clip(make_clip("t", "0"), tmp_path / "new" / "out")
    file = save_clip(make_clip(), tmp_path / "new" / "out")  # a folder; the source gives the name
    assert file == tmp_path / "new" / "out" / "Tränen und Lächeln.npz"
    assert len(load_clip(str(file))) == 10
    refused(lambda: load_clip(tmp_path / "missing.npz"), "missing.npz", "No such file")
    refused(lambda: load_clip(tmp_path), "not a saved FaceClip")
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "a.npz").mkdir()
    (tmp_path / "b.csv").mkdir()
    for target in ("missing/a.npz", "file/a.npz", "file", "a.npz", "b.npz"):
        refused(lambda target=target: save_clip(make_clip(), tmp_path / target), target[:1])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.npz", "b.csv", "file", "new"]


def test_crops_of_a_file_in_memory_keep_what_was_written_to_them(tmp_path):
    np.save(tmp_path / "frames.npy", np.full((100, 1, 4, 4), 7, np.uint8))
    for mode in ("c", "r"):
        frames = np.load(tmp_path / "frames.npy", mmap_mode=mode)
        if mode == "c":
            frames[10:20] = 0
        seen = np.stack([*crops_of(frames)])
        assert np.array_equal(seen, frames)
        assert (frames[10:20] == (0 if mode == "c" else 7)).all()
        assert len([*crops_of(frames.copy())]) == 100  # a copy has no file
