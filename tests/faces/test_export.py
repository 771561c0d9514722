import numpy as np
import pandas as pd
import pytest
from clips import face_clip
from PIL import Image
from refusals import refused

from micromacro.clip import load_clip
from micromacro.faces.export import contact_sheet, export_faces, sheet_frames
from micromacro.video import read_frames, write_video


@pytest.fixture(scope="module")
def film(portrait, tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "actor one.mp4"
    write_video(path, portrait.frames[:5], t_s=np.arange(5) * 0.04, crf=20)
    return path


def names(folder):
    return sorted(p.name for p in folder.rglob("*"))


def test_four_files_and_a_line(film, tmp_path):
    out = tmp_path / "deep" / "faces"
    line = export_faces(film, out, size=96)
    assert all(words in line for words in ("5 frames", "frames/s"))
    assert "\n" not in line
    stem = "actor one"
    endings = (".csv", ".npz", "_sheet.png", "_stabilised.mp4")
    assert names(out) == [f"{stem}{ending}" for ending in endings]
    clip = load_clip(out / f"{stem}.npz")
    assert clip.size == 96
    table = pd.read_csv(out / f"{stem}.csv")
    np.testing.assert_allclose(table["t_s"], np.arange(5) * 0.04, atol=1e-4)
    frames = list(read_frames(out / f"{stem}_stabilised.mp4"))
    np.testing.assert_allclose([f.t_s for f in frames], clip.t_s, atol=1e-4)
    shown = np.stack([f.image.transpose(2, 0, 1) for f in frames]).astype(int)
    assert np.abs(shown - clip.frames).mean() < 4
    with Image.open(out / f"{stem}_sheet.png") as sheet:
        assert sheet.width == 780  # five tiles of 144 px and gaps of 10


def test_a_name_and_a_second_run(film, tmp_path):
    for mode in ("aligned", "first_frame"):
        export_faces(film, tmp_path / "x.npz", mode=mode, size=32)
        assert load_clip(tmp_path / "x.npz").mode == mode
    endings = (".csv", ".npz", "_aligned.mp4", "_first_frame.mp4", "_sheet.png")
    assert names(tmp_path) == [f"x{ending}" for ending in endings]


@pytest.mark.parametrize("step", ["contact_sheet", "save_clip"])
def test_nothing_is_half_written(film, tmp_path, monkeypatch, step):
    out = tmp_path / "out" / "deep"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"micromacro.faces.export.{step}", full)
    refused(lambda: export_faces(film, out, size=32), out, "No space left")
    assert names(tmp_path) == []


def test_other_peoples_files_are_kept(film, tmp_path):
    np.savez(tmp_path / "x.npz", a=1)
    (tmp_path / "y_aligned.mp4").write_bytes(film.read_bytes())
    (tmp_path / "w.csv").write_text("my own notes")
    (tmp_path / "z").write_text("a file, not a folder")
    own = tmp_path / "y_aligned.mp4"
    for source, out, options, words in (
        (film, "x.npz", {}, "not ours"),
        (own, "y.npz", {"mode": "aligned"}, "film itself"),
        (film, "w.npz", {}, "not ours"),
        (film, "z/deep", {"size": 32}, "cannot be written"),
    ):
        refused(lambda s=source, o=out, k=options: export_faces(s, tmp_path / o, **k), words)
    assert (tmp_path / "w.csv").read_text() == "my own notes"
    assert names(tmp_path) == ["w.csv", "x.npz", "y_aligned.mp4", "z"]


def grey_clip(T, channels=3, **options):
    return face_clip(np.full((T, channels, 32, 32), 120, np.uint8), **options)


def test_the_sheet_shows_what_happened():
    clip = grey_clip(500, none=range(201, 240), cuts=(97,))
    chosen = sheet_frames(clip)
    assert chosen == sorted(set(chosen))
    assert 30 <= len(chosen) <= 40
    assert {0, 96, 97, 200, 201, 239, 240, 499} <= set(chosen)
    assert sheet_frames(grey_clip(7)) == list(range(7))
    assert len(sheet_frames(grey_clip(300, none=range(0, 300, 2)))) <= 40


def test_the_sheet_marks_status_and_cut_without_colour():
    plain = np.asarray(contact_sheet(grey_clip(4)))
    cut = np.asarray(contact_sheet(grey_clip(4, cuts=(2,))))
    lost = np.asarray(contact_sheet(grey_clip(4, none=(2,))))
    for other in (cut, lost):
        assert other.shape == plain.shape
        changed = np.flatnonzero((other != plain).any(axis=(0, 2)))
        assert changed.min() > 300  # third tile only
        assert changed.max() < 480
        grey = other.mean(axis=2) - plain.mean(axis=2)
        assert np.abs(grey).max() > 100
    assert contact_sheet(grey_clip(1, channels=1), "one line of title").height > 100
