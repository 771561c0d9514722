import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from clips import face_clip
from memory import traced
from PIL import Image
from refusals import refused

from micromacro.clip import FORMAT, load_clip, save_clip
from micromacro.faces import extract_faces
from micromacro.faces.export import contact_sheet, export_faces, find_films, sheet_frames
from micromacro.files import lock
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


# ---- several films ------------------------------------------------------------------------------


@pytest.fixture
def films(film, tmp_path, monkeypatch):
    """Two films of one name, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name, shift in (("s1", 0), ("s2", 40)):
        (tmp_path / name).mkdir()
        frames = [np.roll(frame.image, shift, axis=1) for frame in read_frames(film)]
        write_video(tmp_path / name / "clip.mp4", frames[:2])
    return tmp_path


def crops(path):
    return load_clip(path).frames


@pytest.mark.parametrize("out", ["out", "out/x.npz"])
def test_another_films_results_are_never_replaced(films, out, monkeypatch):
    name = "out/x.npz" if out.endswith("npz") else "out/clip.npz"
    export_faces("s1/clip.mp4", out, size=32)
    kept = {path: path.read_bytes() for path in films.rglob("*") if path.is_file()}
    refused(lambda: export_faces("s2/clip.mp4", out, size=32), name, "s1/clip.mp4", "OUT")
    monkeypatch.chdir(films / "s2")  # its bare name is now the one of s1 as seen from s1
    refused(lambda: export_faces("clip.mp4", f"../{out}", size=32), "OUT")
    monkeypatch.chdir(films / "s1")
    assert {path: path.read_bytes() for path in films.rglob("*") if path.is_file()} == kept
    assert "2 frames" in export_faces(
        "clip.mp4", f"../{out}", size=32
    )  # the same film, by any name
    monkeypatch.chdir(films)
    write_video("s1/clip.mp4", [frame.image for frame in read_frames("s2/clip.mp4")][:1])
    line = export_faces(films / "s1" / "clip.mp4", out, size=32)
    assert "1 frame," in line
    assert "nan" not in line


def test_a_result_of_before_is_known_by_its_source(films):
    save_clip(replace(extract_faces("s1/clip.mp4", size=32), settings={}), "out")
    refused(lambda: export_faces("s2/clip.mp4", "out", size=32), "out/clip.npz")
    assert export_faces("s1/clip.mp4", "out", size=32)


def test_a_result_that_another_process_wrote_meanwhile_is_kept(films, monkeypatch):
    def slow(film, **options):
        monkeypatch.undo()
        monkeypatch.chdir(films)
        export_faces("s1/clip.mp4", "out", size=32)
        return extract_faces(film, **options)

    monkeypatch.setattr("micromacro.faces.export.extract_faces", slow)
    refused(lambda: export_faces("s2/clip.mp4", "out", size=32), "out/clip.npz")
    np.testing.assert_array_equal(crops("out/clip.npz"), crops_alone("s1/clip.mp4"))
    assert not list(films.glob("**/.faces-*"))


def crops_alone(path):
    return extract_faces(path, mode="stabilised", size=32).frames


WAYS = [
    (["s1/clip.mp4", "s2/clip.mp4"], {"s1/clip": "s1/clip.mp4", "s2/clip": "s2/clip.mp4"}),
    (["s1", "s2"], {"s1/clip": "s1/clip.mp4", "s2/clip": "s2/clip.mp4"}),
    (["."], {"s1/clip": "s1/clip.mp4", "s2/clip": "s2/clip.mp4", "walk/one": "walk/one"}),
    (["s1/clip.mp4", "s1/../s1/clip.mp4", "walk/one"], {"clip": "s1/clip.mp4", "one": "walk/one"}),
]


@pytest.mark.parametrize(("sources", "stems"), WAYS)
def test_each_film_of_a_call_gets_a_name_of_its_own(films, sources, stems, capsys):
    (films / "walk" / "one").mkdir(parents=True)
    picture = next(read_frames("s1/clip.mp4")).image
    Image.fromarray(picture).save(films / "walk" / "one" / "img1.png")
    (films / "s2" / "labels.txt").write_text("0 1")
    for _ in range(2):  # a second run finds its own results and no film among them
        assert export_faces(sources, "out", size=32) is True
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1].startswith(f"{len(stems)} of {len(stems)} films done")
        assert (".txt" in lines[-1]) == (sources in (["s1", "s2"], ["."]))
    found = {str(path.relative_to(films / "out"))[:-4] for path in films.rglob("out/**/*.npz")}
    assert found == set(stems)
    for stem, film in stems.items():
        np.testing.assert_array_equal(crops(f"out/{stem}.npz"), crops_alone(film))


def test_names_of_films_that_differ_in_their_ending_alone(films):
    (films / "s1" / "clip.avi").write_bytes((films / "s1" / "clip.mp4").read_bytes())
    stems = find_films(["s1"], Path("out"))[0]
    assert {str(film): stem for film, stem in stems.items()} == {
        "s1/clip.avi": "clip.avi",
        "s1/clip.mp4": "clip.mp4",
    }


def test_one_bad_film_does_not_stop_the_others(films, capsys):
    (films / "s1" / "clip.mp4").write_bytes(b"no film")
    assert export_faces(["s1", "s2"], "out", size=32) is False
    said = capsys.readouterr()
    assert "s1/clip.mp4" in said.err
    assert said.out.splitlines()[-1].startswith("1 of 2")
    assert [path.name for path in (films / "out").rglob("*.npz")] == ["clip.npz"]


def test_damage_is_kept_in_several_films_too(films, capsys):
    frames = [frame.image for frame in read_frames("s1/clip.mp4")]
    write_video("s1/clip.mp4", frames * 12)
    with av.open("s1/clip.mp4") as source, av.open("s1/clip.mkv", "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for i, packet in enumerate(source.demux(source.streams.video[0])):
            if packet.size:
                torn = av.Packet(bytes(packet.size)) if i == 20 else packet
                torn.pts = torn.dts = packet.pts
                torn.time_base, torn.stream = packet.time_base, stream
                out.mux(torn)
    Path("s1/clip.mp4").unlink()
    assert export_faces(["s1", "s2"], "out", size=32) is False
    assert export_faces(["s1", "s2"], "out", size=32, keep_damaged=True) is True
    assert "damaged frames: 4" in capsys.readouterr().out
    assert (load_clip("out/s1/clip.npz").status == "none").sum() == 4


def test_a_search_for_films_ends_and_leaves_out_what_is_hidden(films):
    """Links may lead round in a circle; a hidden folder may be half a result."""
    for place in ("s1", "s2"):
        for name in ("up", "down"):
            (films / place / name).symlink_to(films, target_is_directory=True)
    (films / ".faces-x").mkdir()
    (films / ".faces-x" / "clip_stabilised.mp4").write_bytes(b"x")
    (films / "s3").symlink_to(films / "s2", target_is_directory=True)
    found, others = find_films(["."], Path("out"))
    assert sorted(found.values()) == ["s1/clip", "s2/clip"]
    assert not others


def test_what_a_killed_run_left_goes_and_what_another_is_at_stays(films):
    for name in (".faces-dead", ".faces-alive"):
        (films / name).mkdir()
        (films / name / "lock").touch()
        (films / name / "crops").write_bytes(b"x")
    with (films / ".faces-alive" / "lock").open("rb") as held:
        assert lock(held)
        export_faces("s1/clip.mp4", "out", size=32)
    assert [path.name for path in films.glob(".faces-*")] == [".faces-alive"]


@pytest.mark.parametrize(
    "about",
    [
        [],
        {"format": FORMAT},
        {"format": FORMAT, "source": 1, "settings": {}},
        {"format": FORMAT, "source": "a", "settings": []},
        {"format": FORMAT, "source": "a", "settings": {"film": 3}},
        {"format": FORMAT, "source": "a", "settings": {"film": "\0"}},
    ],
)
def test_a_file_that_says_nonsense_of_itself_is_kept(films, about):
    np.savez("clip.npz", about=np.array(json.dumps(about)))
    refused(lambda: export_faces("s1/clip.mp4", ".", size=32), "clip.npz", "OUT")


def test_refused_before_the_first_film(films):
    (films / "both").mkdir()
    for name in ("a.png", "b.mp4"):
        (films / "both" / name).write_bytes(b"x")
    (films / "none").mkdir()
    both, out = ["s1/clip.mp4", "s2/clip.mp4"], "out"
    for sources, target, options, words in (
        (both, "x.npz", {}, ("x.npz", "folder")),
        (both, out, {"mode": "steady"}, ("mode", "stabilised")),
        (both, out, {"select": "me"}, ("select",)),
        (both, out, {"size": 1}, ("size",)),
        ("both", out, {}, ("both", "a.png", "b.mp4")),
        ("none", out, {}, ("none", "mp4", "png")),
        ("s1/clip.mp4", "s2/clip.mp4", {}, ("s2/clip.mp4", "folder")),
        ("", out, {}, ('""',)),
        ("s1/clip.mp4", "", {}, ('""',)),
        ([*both, ""], out, {}, ('""',)),
    ):
        refused(lambda s=sources, t=target, o=options: export_faces(s, t, **o), *words)
    assert names(films) == sorted(
        ["a.png", "b.mp4", "both", "clip.mp4", "clip.mp4", "none", "s1", "s2"]
    )


def test_memory_does_not_grow_with_the_film(portrait, tmp_path):
    """Crops of 512 px are 0.8 MB each: twenty-four are 19 MB, six 5 MB."""
    peaks = []
    for n_frames in (6, 24):
        write_video(tmp_path / "f.mp4", portrait.frames[:n_frames], crf=20)
        with traced() as memory:
            export_faces(tmp_path / "f.mp4", tmp_path / "out", size=512, mode="aligned")
        peaks.append(memory.peak / 1e6)
    assert peaks[1] < peaks[0] + 4
    kept = load_clip(tmp_path / "out" / "f.npz")
    np.testing.assert_array_equal(
        kept.frames, extract_faces(tmp_path / "f.mp4", size=512).frames, strict=True
    )
