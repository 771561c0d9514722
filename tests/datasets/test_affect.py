"""OMG-Emotion, Aff-Wild and Aff-Wild2 in miniature: official layouts, right and broken; faces."""

import functools
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from affect_miniatures import OMG_HEADER, omg_row, write_sheet
from PIL import Image
from refusals import refused

import micromacro.faces
from micromacro.datasets.affect import read_affwild, read_affwild2, read_omg, write_predictions
from micromacro.datasets.frames import aligned_faces, face_clip, film_on_disk
from micromacro.datasets.table import CLIP_TABLE_COLUMNS, check_clip_table
from micromacro.errors import BadInput
from micromacro.faces import extract_faces
from micromacro.synthetic import Face, Identity, perform
from micromacro.video import read_frames, write_video

READERS = {"omg": read_omg, "affwild": read_affwild, "affwild2": read_affwild2}
SHEET, AROUSAL = "omg_TrainVideos.csv", "annotations/train/arousal/105.txt"
PAIRS = "annotations/VA_Estimation_Challenge/Train_Set/video1.txt"


def write_faces(folder, numbers, size=16, name="frame_det_00_{:06d}.bmp"):
    """Picture k is filled with the value k (and k + 1 in red), so a wrong number shows."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture = np.full((size, size, 3), number, np.uint8)
        picture[..., 0] += 1
        Image.fromarray(picture).save(folder / name.format(number))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Two films of four frames: the synthetic actor, and the same turned round in time."""
    folder, play = tmp_path_factory.mktemp("films"), perform(4, 25.0, nuisance="easy", seed=3)
    actor = Face(Identity.draw(3), size=128).render(play)
    actor = (actor * 255).round().byte().permute(0, 2, 3, 1).numpy()
    write_video(folder / "actor.mp4", actor, fps=25)
    write_video(folder / "other.mp4", actor[::-1], fps=25)
    return folder


class Features:
    """In place of `FrozenFeatures`: mean colours; and how many clips it was asked for."""

    def __init__(self, weights="mean colour", file="a.pth"):
        self.backbone = SimpleNamespace(settings={"weights": weights, "file": file})
        self.calls = 0

    def __call__(self, clip):
        self.calls += 1
        return clip.frames.mean((2, 3)).astype(np.float16)


def place(film: Path, target: Path):
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(film, target)


@pytest.fixture
def omg(tmp_path):
    """Train: a (utterances 1, 2, 7 by faces), b (dead link); Validation: c; Test: d."""
    root = tmp_path / "omg"
    rows = [omg_row("a", 1), omg_row("a", 7, valence="1"), omg_row("a", 2), omg_row("b", 1)]
    write_sheet(root, SHEET, rows)
    write_sheet(root, "omg_ValidationVideos.csv", [omg_row("c", 3)])
    write_sheet(root, "omg_TestVideos_WithLabels.csv", [omg_row("d", 1)])
    for clip in ("Train/a/utterance_1", "Train/a/utterance_2", "Train/a/utterance_7"):
        write_faces(root / clip / f"{Path(clip).name}_aligned", [1])
    write_faces(root / "validation/c/utterance_3/utterance_3_aligned", [1])
    write_faces(root / "d/utterance_1/utterance_1_aligned", [1])
    return root


@pytest.fixture
def affwild(tmp_path):
    """Train: 105 (10 labels, 12 frames, none at 4), 2 (missing); test: a film that is never
    read."""
    root = tmp_path / "affwild"
    for name, sign in (("valence", 1), ("arousal", -1)):
        folder = root / "annotations" / "train" / name
        folder.mkdir(parents=True)
        lines = [str(sign * k / 100) for k in range(1, 11)]
        (folder / "105.txt").write_text("\n".join(lines))
        (folder / "2.txt").write_text("0.5\n")
    write_faces(root / "faces/105/105_aligned", [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12])
    return root


@pytest.fixture
def affwild2(tmp_path):
    root = tmp_path / "affwild2"
    (root / PAIRS).parent.mkdir(parents=True)
    (root / PAIRS).write_text("valence,arousal\n0.5,-0.25\n-5,-5\n0,1\n-1,-5.0\n")
    write_faces(root / "cropped_aligned/video1", range(1, 5), name="{:05d}.jpg")
    return root


def fault(read, root):
    """The one fault of a strict reader, as one line, which the lenient one lists too."""
    with pytest.raises(BadInput) as caught:
        read(root)
    said = str(caught.value)
    assert "\n" not in said
    assert [str(f) for f in read(root, strict=False).faults] == [said]
    return said


# ---- as published --------------------------------------------------------------------------------


def test_omg_as_published(omg):
    clips = read_omg(omg)
    table = check_clip_table(clips.table)
    assert list(table.columns) == [*CLIP_TABLE_COLUMNS, "select", "film"]
    assert table["subject"].tolist() == ["a", "a", "a", "c", "d"]
    assert table["clip"].tolist() == [f"utterance_{n}" for n in (1, 7, 2, 3, 1)]  # sheet's order
    assert table["split"].tolist() == ["Train"] * 3 + ["Validation", "Test"]
    assert table["label"].tolist() == [4] * 5
    np.testing.assert_array_equal(clips.labels[0], np.float32([-0.5, 0.25]))  # valence first
    assert clips.labels[1][0] == 1
    assert clips.missing == ("Train/b/utterance_1.mp4",)
    assert clips.listed == {"Train": 4, "Validation": 1, "Test": 1}
    assert clips.unlisted == clips.faults == ()
    (omg / "d/utterance_1/utterance_1_aligned/frame_det_00_000001.bmp").unlink()  # no face
    assert read_omg(omg).missing == (*clips.missing, "Test/d/utterance_1.mp4")
    refused(lambda: read_omg(omg, ("train",)), "split 'train'")


def test_videos_know_the_film_that_they_were_cut_from(omg, affwild2):
    links = ["https://www.youtube.com/watch?v=NF0yeLqb-D4", "http://youtu.be/NF0yeLqb-D4?t=7"]
    links += ["https://m.youtube.com/watch?t=1&v=NF0yeLqb-D4&feature=x", "a film ", "a film"]
    links += ["https://www.youtube.com/watch?v=nf0yeLqb-D4"]
    lines = [omg_row(f"v{k}", 1, link=link) for k, link in enumerate(links)]
    write_sheet(omg, SHEET, lines)
    for k in range(len(links)):
        write_faces(omg / f"v{k}/utterance_1/utterance_1_aligned", [1])
    films = read_omg(omg, ("Train",)).table["film"]
    assert films.tolist() == ["NF0yeLqb-D4"] * 3 + ["a film"] * 2 + ["nf0yeLqb-D4"]
    for row, told in (
        (omg_row("v0", 2, link=" "), "has no link"),
        (omg_row("v0", 2, link="another"), "video v0 had another link before"),
    ):
        write_sheet(omg, SHEET, [*lines, row])
        assert f"{SHEET}, line 8: {told}" in fault(read_omg, omg)
    for name in ("video86_1", "video86_3", "video86", "122-60-1920x1080-2", "122-60-1920x1080-3"):
        (affwild2 / PAIRS).with_name(f"{name}.txt").write_text("valence,arousal\n0.5,0.5\n")
        write_faces(affwild2 / f"cropped_aligned/{name}", [1], name="{:05d}.jpg")
    films = read_affwild2(affwild2).table.set_index("clip")["film"]
    assert films.to_dict() == {
        **dict.fromkeys(["122-60-1920x1080-2", "122-60-1920x1080-3"], "122-60-1920x1080"),
        **dict.fromkeys(["video86", "video86_1", "video86_3"], "video86"),
        "video1": "video1",
    }


def test_omg_an_utterance_of_two_splits_is_a_fault(omg):
    write_sheet(omg, "omg_ValidationVideos.csv", [omg_row("a", 1), omg_row("c", 3)])
    told = f"omg_ValidationVideos.csv, line 2: a/utterance_1.mp4 stands in {SHEET}, line"
    assert told in fault(read_omg, omg)


def test_omg_films_of_the_organisers_script(omg, films):
    place(films / "actor.mp4", omg / "b/utterance_1.mp4")  # target-dir = root
    place(films / "actor.mp4", omg / "train/a/utterance_9.mp4")  # target-dir = train, not listed
    place(films / "actor.mp4", omg / "youtube_videos_temp/b.mp4")
    place(films / "actor.mp4", omg / "Train/a/utterance_1.mp4")  # faces come first
    clips = read_omg(omg)
    assert clips.missing == ()
    assert clips.unlisted == ("train/a/utterance_9.mp4",)
    paths = [Path(path).relative_to(omg).as_posix() for path in clips.table["path"]]
    assert paths[0] == "Train/a/utterance_1/utterance_1_aligned"
    assert paths[3] == "b/utterance_1.mp4"
    part = read_omg(omg, ("Validation",))
    assert (part.listed, part.unlisted) == ({"Validation": 1}, ())
    (omg / SHEET).unlink()
    assert len(read_omg(omg, ("Validation", "Test"))) == 2


def test_omg_test_set_without_labels(omg):
    header, row = OMG_HEADER.rsplit(",", 3)[0], omg_row("d", 1).rsplit(",", 3)[0]
    write_sheet(omg, "omg_TestVideos_WithoutLabels.csv", [row], header)
    assert read_omg(omg).labels[-1][0] == -0.5
    (omg / "omg_TestVideos_WithLabels.csv").unlink()
    clips = read_omg(omg)
    assert np.isnan(clips.labels[-1]).all()
    assert clips.table["label"].isna().tolist() == [False] * 4 + [True]
    write_sheet(omg, "omg_TestVideos_WithLabels.csv", [omg_row("d", 1), omg_row("d", 2)])
    assert "1 utterances are not in both" in fault(read_omg, omg)
    write_sheet(omg, "omg_TestVideos_WithLabels.csv", [])  # no row: nothing listed, nothing wrong
    (omg / "omg_TestVideos_WithoutLabels.csv").unlink()
    assert read_omg(omg).listed["Test"] == 0


def test_affwild_as_published(affwild, films, tmp_path):
    place(films / "actor.mp4", affwild / "videos/test/9.AVI")
    place(films / "actor.mp4", affwild / "videos/train/7.mp4")
    clips = read_affwild(affwild)
    assert clips.table["clip"].tolist() == ["105", "9"]
    assert clips.table["split"].tolist() == ["train", "test"]
    assert clips.missing == ("train/2",)
    assert clips.unlisted == ("videos/train/7.mp4",)
    assert clips.listed == {"train": 2, "test": 1}
    np.testing.assert_allclose(clips.labels[0][2], [0.03, -0.03], atol=1e-7)  # valence, arousal
    assert clips.labels[1].shape == (0, 2)

    film = film_on_disk(clips, 0, tmp_path, Features())
    assert np.flatnonzero(~film.seen).tolist() == [3]  # picture 4 is frame 3
    assert film.read("features", np.arange(12))[:, 1].tolist() == [1, 2, 3, 0, *range(5, 13)]
    assert film.read("features", np.array([0])).tolist() == [[2, 1, 1]]  # RGB
    assert film.read("grey", np.array([4, 0])).shape == (2, 1, 16, 16)
    assert film.read("grey", np.array([4, 0]))[:, 0, 5, 5].tolist() == [5, 1]  # luma
    assert (film.shot == 0).all()
    assert film.fps == pytest.approx(30)
    np.testing.assert_allclose(film.labels[:10, 0], np.arange(1, 11) / 100, atol=1e-7)
    assert len(film.labels) == 12
    assert np.isnan(film.labels[10:]).all()


def test_affwild2_as_published(affwild2, films):
    clips, nan = read_affwild2(affwild2), np.nan
    expected = np.float32([(0.5, -0.25), (nan, nan), (0, 1), (nan, nan)])
    np.testing.assert_array_equal(clips.labels[0], expected)
    folder = affwild2 / "annotations/VA_Set/Validation_Set"
    folder.mkdir(parents=True)
    for name in ("pair", "pair_right", "left_left"):  # written on Windows
        (folder / f"{name}.txt").write_bytes(b"\xef\xbb\xbfvalence,arousal\r\n0.1,0.2\r\n\r\n")
    for name in ("pair", "left_left"):
        place(films / "actor.mp4", affwild2 / f"videos/batch1/{name}.mp4")
    clips = read_affwild2(affwild2)
    table = clips.table.set_index("clip")
    people = {name: name for name in ("video1", "left_left", "pair")} | {"pair_right": "pair"}
    assert table["subject"].to_dict() == people
    assert table["select"].tolist() == ["auto", "auto", "auto", "index:1"]
    assert table["split"].tolist() == ["train"] + ["validation"] * 3
    assert [len(labels) for labels in clips.labels] == [4, 1, 1, 1]


# ---- what is wrong -------------------------------------------------------------------------------

WRONG_ROWS = {
    omg_row("a", 1, valence="1.5"): "valence 1.5 is outside [-1, 1]",
    omg_row("a", 1, arousal=""): "arousal is '', not a number",
    omg_row("a", 1, arousal="inf"): "arousal inf is outside",
    omg_row("a", 1, vote="7"): "EmotionMaxVote '7' is not one of 0 to 6",
    omg_row("a", 1).replace(".mp4", ".avi"): "utterance 'utterance_1.avi'",
    omg_row("../a", 1): "video '../a' is not a plain name",
    omg_row("a", 1) + ",0.3": "9 fields under a header of 8",
    "": "0 fields under a header of 8",
    omg_row("a", 7): f"a/utterance_7.mp4 stands in {SHEET}, line 2 already",
}
WRONG_FILES = [
    ("omg", SHEET, None, ": is not there; get it"),
    ("omg", SHEET, "video,utterance\n", ", line 1: the header lacks link, start, end, arousal"),
    ("omg", SHEET, OMG_HEADER.replace(",", ";"), ", line 1: the header lacks link"),
    ("affwild", AROUSAL, "0.1\n1.2\n", ", line 2: arousal 1.2 is outside [-1, 1]"),
    ("affwild", AROUSAL, "0.1\n-5\n", ", line 2: arousal -5 is outside"),  # Aff-Wild2's mark
    ("affwild", AROUSAL, "NaN\n", ", line 1: arousal is 'NaN', not a number"),
    ("affwild", AROUSAL, "0.1\n\n0.2\n", ", line 2: arousal is '', not a number"),
    ("affwild", AROUSAL, "0.1\n" * 9, ": 9 lines, but"),
    ("affwild", AROUSAL, " \n\n", ": holds nothing but white space"),
    ("affwild", AROUSAL, "", ": an empty file"),
    ("affwild", AROUSAL, "\xff\xfe\0\1", ": torn, or not a text file"),
    ("affwild", AROUSAL, None, ": cannot be opened"),
    ("affwild2", PAIRS, "0.5,0.5\n0.1,0.1\n", ", line 1: starts with '0.5,0.5'"),
    ("affwild2", PAIRS, "valence,arousal\n0.1,0.2\n0.1\n", ", line 3: 1 fields in place of 2"),
    ("affwild2", PAIRS, "valence,arousal\n-5,1.1\n", ", line 2: arousal 1.1 is outside"),
    ("affwild2", PAIRS, "valence,arousal\n-4,0\n", ", line 2: valence -4 is outside"),
    ("affwild2", PAIRS, "valence,arousal\n", ": holds no label"),
]


@pytest.mark.parametrize("row", WRONG_ROWS, ids=WRONG_ROWS.values())
def test_omg_a_wrong_row_is_named_and_left_out(omg, row):
    write_sheet(omg, SHEET, [omg_row("a", 7), row, omg_row("a", 2)])
    assert f"{SHEET}, line 3: {WRONG_ROWS[row]}" in fault(read_omg, omg)
    lenient = read_omg(omg, strict=False)
    assert lenient.table["clip"].tolist()[:-2] == ["utterance_7", "utterance_2"]


@pytest.mark.parametrize(("dataset", "file", "content", "told"), WRONG_FILES)
def test_a_wrong_file_is_named(dataset, file, content, told, request):
    root = request.getfixturevalue(dataset)
    (root / file).unlink()
    if content is not None:
        (root / file).write_bytes(content.encode("latin-1"))
    assert f"{root / file}{told}" in fault(READERS[dataset], root)


def test_films_behind_linked_folders_are_found_once(affwild, films, tmp_path):
    place(films / "actor.mp4", affwild / "videos/train/2.mp4")
    place(films / "other.mp4", affwild / "videos/test/deep/9.mp4")
    own, store = read_affwild(affwild).table, tmp_path / "store"
    (affwild / "videos").rename(store)
    (affwild / "videos").mkdir()
    for split in ("train", "test"):
        (affwild / "videos" / split).symlink_to(store / split)
    (store / "test" / "deep" / "round").symlink_to("..")  # leads back
    (store / "test" / "gone").symlink_to("nowhere")
    linked = read_affwild(affwild).table
    assert own["clip"].tolist() == ["105", "2", "9"]
    pd.testing.assert_frame_equal(linked, own)


def test_affwild_two_films_of_a_name_and_too_many_labels(affwild, films, tmp_path):
    place(films / "actor.mp4", affwild / "videos/train/2.mp4")
    place(films / "actor.mp4", affwild / "videos/train/2.avi")
    assert "2.mp4: has the same name as" in fault(read_affwild, affwild)
    (affwild / "videos/train/2.avi").unlink()
    for name in ("valence", "arousal"):
        (affwild / f"annotations/train/{name}/2.txt").write_text("0.5\n" * 5)
    call = partial(film_on_disk, read_affwild(affwild), 1, tmp_path / "cache", Features())
    refused(call, "2.mp4: 4 frames, but 5 labels; get the whole film")


# ---- faces ---------------------------------------------------------------------------------------


def test_aligned_faces_gaps_and_cuts(tmp_path):
    write_faces(tmp_path, [2, 4, 5])
    Image.new("RGB", (16, 16)).save(tmp_path / "frame_det_00_000003.bmp")  # black: no face either
    write_faces(tmp_path, [4], name="frame_det_01_{:06d}.bmp", size=9)  # somebody else
    clip = aligned_faces(tmp_path, at_least=7)
    assert "".join("01"[status != "none"] for status in clip.status) == "0101100"
    assert clip.segments() == [(1, 2), (3, 5)]
    assert clip.fps == pytest.approx(30)
    assert clip.shot.max() == 0  # a black picture is a gap and no cut
    write_faces(tmp_path, [131])
    (tmp_path / "frame_det_00_000131.bmp").rename(tmp_path / "frame_det_00_000006.bmp")
    assert aligned_faces(tmp_path).shot.tolist() == [0] * 5 + [1]


def test_aligned_faces_faults(tmp_path):
    refused(lambda: aligned_faces(tmp_path), "without images")
    write_faces(tmp_path, [7], name="frame_det_01_{:06d}.bmp")
    refused(lambda: aligned_faces(tmp_path), "no picture named")
    write_faces(tmp_path, [1])
    for name, size, told in [
        ("frame_det_00_000000.bmp", 16, "000000.bmp: is numbered 0"),
        ("00001.png", 16, "same frame number"),
        ("00002.png", 17, "00002.png: is 17x17"),
    ]:
        write_faces(tmp_path, [1], size=size, name=name)
        refused(lambda: aligned_faces(tmp_path), told)
        (tmp_path / name).unlink()
    (tmp_path / "00002.png").write_bytes(b"no picture")
    refused(lambda: aligned_faces(tmp_path), "00002.png: not an image")


def test_frames_that_a_recorder_dropped_part_the_runs_of_a_film(affwild, films, tmp_path):
    frames = [frame.image for frame in read_frames(films / "actor.mp4")]
    times = [0, 0.04, 0.3, 0.34]
    write_video(tmp_path / "gap.mp4", frames, t_s=times)
    place(tmp_path / "gap.mp4", affwild / "videos/test/9.mp4")
    film = film_on_disk(read_affwild(affwild), 1, tmp_path, Features())
    assert film.shot.tolist() == [0, 0, 1, 1]


def test_films_are_extracted_once(omg, films, tmp_path, monkeypatch):
    place(films / "actor.mp4", omg / "b/utterance_1.mp4")
    row, cache, real, extracted = read_omg(omg).table.iloc[3], tmp_path / "cache", extract_faces, []

    @functools.wraps(real)
    def counted(*args, **options):
        extracted.append(options)
        return real(*args, **options)

    monkeypatch.setattr(micromacro.faces, "extract_faces", counted)
    clip = face_clip(row, cache, size=48)
    assert (len(clip), clip.size, clip.mode) == (4, 48, "stabilised")
    assert (clip.status != "none").all()
    (stored,) = (cache / "omg").glob("b__utterance_1-*/*.npz")
    np.testing.assert_array_equal(face_clip(row, cache, size=48).frames, clip.frames)
    assert len(extracted) == 1
    face_clip(row, cache, size=32)
    face_clip(row, cache, size=48, mode="aligned")
    face_clip(pd.Series({**row, "select": "index:0"}), cache, size=48)
    assert len(extracted) == len(list(cache.rglob("*.npz"))) == 4
    stored.write_bytes(stored.read_bytes()[:1000])  # torn
    np.testing.assert_array_equal(face_clip(row, cache, size=48).frames, clip.frames)
    Path(row["path"]).unlink()
    refused(lambda: face_clip(row, cache), "utterance_1.mp4: cannot be opened")
    place(films / "other.mp4", Path(row["path"]))  # another film of that name
    assert (face_clip(row, cache, size=48).frames != clip.frames).any()
    assert len(extracted) == 6
    (tmp_path / "file").write_text("x")
    refused(lambda: face_clip(row, tmp_path / "file", size=16), "cannot write there")


def test_faces_and_features_are_kept_and_follow_what_they_are_made_of(affwild, tmp_path):
    def film(features, cache=tmp_path):
        return film_on_disk(read_affwild(affwild), 0, cache, features)

    one, two = Features(), Features("other")
    before = film(one)
    assert film(one).files == film(Features(file="renamed.pth")).files == before.files
    assert film(two).files["grey"] == before.files["grey"]
    assert film(two).files["features"] != before.files["features"]
    assert (one.calls, two.calls) == (1, 1)
    for axis in ("valence", "arousal"):  # as many frames as labels: the last ones show no face
        (affwild / f"annotations/train/{axis}/105.txt").write_text("0.5\n" * 13)
    assert film(one).seen.tolist() == [True] * 3 + [False] + [True] * 8 + [False]
    (affwild / "faces/105/105_aligned/frame_det_00_000001.bmp").unlink()
    assert not film(one).seen[0]
    assert one.calls == 3
    before.files["features"].unlink()
    call = partial(before.read, "features", np.arange(2))
    refused(call, "features.npy: torn, or not", "; remove its folder")


# ---- predictions ---------------------------------------------------------------------------------


def test_predictions_are_written_as_the_organisers_read_them(omg, affwild2, tmp_path):
    values = {("a", "utterance_1"): np.array([[0.5, -0.25]]), ("d", "utterance_1"): np.ones((1, 2))}
    rows = [omg_row("x", 3), omg_row("d", 1), omg_row("a", 1)]
    write_sheet(omg, "omg_TestVideos_WithLabels.csv", rows)
    write_predictions("omg", omg, values, tmp_path / "new/omg")
    assert (tmp_path / "new/omg/predictions.csv").read_text().splitlines() == [
        "video,utterance,arousal,valence",
        "x,utterance_3.mp4,0.375000,0.750000",  # the mean
        "d,utterance_1.mp4,1.000000,1.000000",
        "a,utterance_1.mp4,-0.250000,0.500000",
    ]
    values = {("v", "video1"): np.array([[0.5, -0.25], [1, 0]])}
    write_predictions("affwild", tmp_path, values, tmp_path)
    assert (tmp_path / "video1.txt").read_text() == "0.500000,-0.250000\n1.000000,0.000000\n"
    write_predictions("affwild2", tmp_path, values, (affwild2 / PAIRS).parent)
    np.testing.assert_array_equal(read_affwild2(affwild2).labels[0], [[0.5, -0.25], [1, 0]])
    refused(lambda: write_predictions("affwild", tmp_path, {}, tmp_path / "video1.txt"), "video1")
