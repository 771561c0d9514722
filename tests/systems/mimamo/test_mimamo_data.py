"""OMG-Emotion and Aff-Wild in miniature: official layouts, right and broken, and the protocol."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import micromacro.faces
from micromacro.clip import FaceClip
from micromacro.datasets.table import CLIP_TABLE_COLUMNS, check_clip_table
from micromacro.errors import BadInput
from micromacro.synthetic import Face, Identity, perform
from micromacro.systems.mimamo import data
from micromacro.video import write_video

HEADER = "link,start,end,video,utterance,arousal,valence,EmotionMaxVote"
LINK = "https://www.youtube.com/watch?v=x"


def omg_row(video, number, arousal="0.25", valence="-0.5", vote="4"):
    return f"{LINK},0,3.5,{video},utterance_{number}.mp4,{arousal},{valence},{vote}"


def write_sheet(root, name, rows, header=HEADER, end="\n", bom=b""):
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(bom + end.join([header, *rows, ""]).encode())


def write_faces(folder, numbers, size=16, name="frame_det_00_{:06d}.bmp"):
    """Picture k is filled with the value k (and k + 1 in red), so a wrong number shows."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture = np.full((size, size, 3), number, np.uint8)
        picture[..., 0] += 1
        Image.fromarray(picture).save(folder / name.format(number))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Two films of 16 frames: the synthetic actor, and a wall."""
    folder = tmp_path_factory.mktemp("films")
    play = perform(16, 25.0, nuisance="easy", seed=3)
    actor = Face(Identity.draw(3), size=128).render(play)
    actor = (actor * 255).round().byte().permute(0, 2, 3, 1).numpy()
    wall = np.broadcast_to(np.arange(128, dtype=np.uint8)[:, None, None], (128, 128, 3))
    write_video(folder / "actor.mp4", actor, fps=25)
    write_video(folder / "wall.mp4", [wall] * 16, fps=25)
    return folder


def place(film: Path, target: Path):
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(film, target)


@pytest.fixture
def omg(tmp_path):
    """Train: a (utterances 1, 2, 7 by faces), b (dead link); Validation: c; Test: d."""
    root = tmp_path / "omg"
    rows = [omg_row("a", 1), omg_row("a", 7, valence="1"), omg_row("a", 2), omg_row("b", 1)]
    write_sheet(root, "omg_TrainVideos.csv", rows)
    write_sheet(root, "omg_ValidationVideos.csv", [omg_row("c", 3)])
    write_sheet(root, "omg_TestVideos_WithLabels.csv", [omg_row("d", 1)])
    for split, video, number in [("Train", "a", 1), ("Train", "a", 2), ("Train", "a", 7)]:
        stem = f"utterance_{number}"
        write_faces(root / split / video / stem / f"{stem}_aligned", range(1, 15))
    write_faces(root / "validation/c/utterance_3/utterance_3_aligned", range(1, 15))
    write_faces(root / "d/utterance_1/utterance_1_aligned", range(1, 15))
    return root


@pytest.fixture
def affwild(tmp_path):
    """Train: 105 (10 labels, 12 frames, none at 4), 2 (missing); test: a film that is never read."""
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
    folder = root / "annotations/VA_Estimation_Challenge/Train_Set"
    folder.mkdir(parents=True)
    (folder / "video1.txt").write_text("valence,arousal\n0.5,-0.25\n-5,-5\n0,1\n-1,-5.0\n")
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


# ---- OMG-Emotion ---------------------------------------------------------------------------------


def test_omg_as_published(omg):
    clips = data.read_omg(omg)
    table = check_clip_table(clips.table)
    assert list(table.columns) == [*CLIP_TABLE_COLUMNS, "select"]
    assert table["subject"].tolist() == ["a", "a", "a", "c", "d"]
    assert table["clip"].tolist() == [f"utterance_{n}" for n in (1, 7, 2, 3, 1)]  # sheet's order
    assert table["split"].tolist() == ["Train"] * 3 + ["Validation", "Test"]
    assert table["label"].tolist() == [4] * 5
    np.testing.assert_array_equal(clips.labels[0], np.float32([-0.5, 0.25]))  # valence first
    assert clips.labels[1][0] == 1
    assert clips.missing == ("Train/b/utterance_1.mp4",)
    assert clips.listed == {"Train": 4, "Validation": 1, "Test": 1}
    assert clips.unlisted == clips.faults == ()


def test_omg_films_of_the_organisers_script(omg, films):
    place(films / "actor.mp4", omg / "b/utterance_1.mp4")  # target-dir = root
    place(films / "actor.mp4", omg / "train/a/utterance_9.mp4")  # target-dir = train, not listed
    place(films / "actor.mp4", omg / "youtube_videos_temp/b.mp4")
    place(films / "actor.mp4", omg / "Train/a/utterance_1.mp4")  # faces come first
    clips = data.read_omg(omg)
    assert clips.missing == ()
    assert clips.unlisted == ("train/a/utterance_9.mp4",)
    paths = [Path(path).relative_to(omg).as_posix() for path in clips.table["path"]]
    assert paths[0] == "Train/a/utterance_1/utterance_1_aligned"
    assert paths[3] == "b/utterance_1.mp4"
    assert data.read_omg(omg, ("Validation",)).listed == {"Validation": 1}
    (omg / "omg_TrainVideos.csv").unlink()
    assert len(data.read_omg(omg, ("Validation", "Test"))) == 2


def test_omg_an_empty_folder_of_faces_is_no_face(omg):
    for file in (omg / "d/utterance_1/utterance_1_aligned").iterdir():
        file.unlink()
    assert data.read_omg(omg).missing == ("Train/b/utterance_1.mp4", "Test/d/utterance_1.mp4")


def test_omg_windows_files_read_the_same(omg):
    plain = data.read_omg(omg)
    rows = (omg / "omg_TrainVideos.csv").read_text().split("\n")[1:-1]
    write_sheet(omg, "omg_TrainVideos.csv", rows, end="\r\n", bom=b"\xef\xbb\xbf")
    again = data.read_omg(omg)
    assert again.table.equals(plain.table)
    np.testing.assert_array_equal(again.labels, plain.labels)


def test_omg_test_set_without_labels(omg):
    header, row = HEADER.rsplit(",", 3)[0], omg_row("d", 1).rsplit(",", 3)[0]
    write_sheet(omg, "omg_TestVideos_WithoutLabels.csv", [row], header)
    assert data.read_omg(omg).labels[-1][0] == -0.5
    (omg / "omg_TestVideos_WithLabels.csv").unlink()
    clips = data.read_omg(omg)
    assert np.isnan(clips.labels[-1]).all()
    assert clips.table["label"].isna().tolist() == [False] * 4 + [True]
    write_sheet(omg, "omg_TestVideos_WithLabels.csv", [omg_row("d", 1), omg_row("d", 2)])
    assert "1 utterances are not in both" in fault(data.read_omg, omg)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (omg_row("a", 1, valence="1.5"), "line 3: valence 1.5 is outside [-1, 1]"),
        (omg_row("a", 1, arousal="-1.01"), "line 3: arousal -1.01 is outside [-1, 1]"),
        (omg_row("a", 1, valence="nan"), "line 3: valence is 'nan', not a number"),
        (omg_row("a", 1, arousal=""), "line 3: arousal is '', not a number"),
        (omg_row("a", 1, arousal="inf"), "line 3: arousal inf is outside"),
        (omg_row("a", 1, vote="9"), "line 3: EmotionMaxVote '9' is not one of 0 to 6"),
        (omg_row("a", 1).replace(".mp4", ".avi"), "line 3: utterance 'utterance_1.avi'"),
        (omg_row("../a", 1), "line 3: video '../a' is not a plain name"),
        (omg_row("a", 1) + ",0.3", "line 3: 9 fields under a header of 8"),
        ("", "line 3: 0 fields under a header of 8"),
        (omg_row("a", 7), "line 3: a/utterance_7.mp4 stands in line 2 already"),
    ],
)
def test_omg_a_wrong_row_is_named(omg, row, told):
    rows = [omg_row("a", 7), row, omg_row("a", 2)]
    write_sheet(omg, "omg_TrainVideos.csv", rows)
    assert f"omg_TrainVideos.csv, {told}" in fault(data.read_omg, omg)
    lenient = data.read_omg(omg, strict=False)
    assert lenient.table["clip"].tolist()[:2] == ["utterance_7", "utterance_2"]


def test_omg_wrong_files_are_named(omg, tmp_path):
    sheet = omg / "omg_ValidationVideos.csv"
    sheet.unlink()
    assert f"{sheet}: is not there; get it" in fault(data.read_omg, omg)
    for content, told in [
        (b"", "an empty file"),
        (b" \n\n", "nothing but white space"),
        (b"\xff\xfe\x00\x01", "cannot be read as text"),
        (b"video,utterance\n", "line 1: the header lacks link, start, end, arousal"),
        (HEADER.replace(",", ";").encode(), "line 1: the header lacks link"),
    ]:
        sheet.write_bytes(content)
        assert told in fault(data.read_omg, omg)
    sheet.write_text(HEADER)  # no row: nothing listed, nothing wrong
    assert data.read_omg(omg).listed["Validation"] == 0
    with pytest.raises(BadInput, match="holds none of omg_TrainVideos"):
        data.read_omg(tmp_path)
    with pytest.raises(BadInput, match="cannot be opened"):
        data.read_omg(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="is not a folder"):
        data.read_omg(sheet)
    with pytest.raises(BadInput, match="split 'train'"):
        data.read_omg(omg, ("train",))


# ---- Aff-Wild, Aff-Wild2 -------------------------------------------------------------------------


def test_affwild_as_published(affwild, films, tmp_path):
    place(films / "actor.mp4", affwild / "videos/test/9.AVI")
    place(films / "actor.mp4", affwild / "videos/train/7.mp4")
    clips = data.read_affwild(affwild)
    assert clips.table["clip"].tolist() == ["105", "9"]
    assert clips.table["split"].tolist() == ["train", "test"]
    assert clips.missing == ("train/2",)
    assert clips.unlisted == ("videos/train/7.mp4",)
    assert clips.listed == {"train": 2, "test": 1}
    np.testing.assert_allclose(clips.labels[0][2], [0.03, -0.03], atol=1e-7)  # valence, arousal
    assert clips.labels[1].shape == (0, 2)

    faces, labels = data.labelled_faces(clips, 0, tmp_path)
    assert len(faces) == 12
    assert faces.frames[:, 1, 0, 0].tolist() == [1, 2, 3, 0, 5, 6, 7, 8, 9, 10, 11, 12]
    assert np.flatnonzero(faces.status == "none").tolist() == [3]  # picture 4 is frame 3
    assert faces.frames[0, :, 5, 5].tolist() == [2, 1, 1]  # RGB
    np.testing.assert_allclose(labels[:10, 0], np.arange(1, 11) / 100, atol=1e-7)
    assert np.isnan(labels[10:]).all()


def test_affwild_windows_files_read_the_same(affwild):
    plain = data.read_affwild(affwild).labels[0]
    file = affwild / "annotations/train/arousal/105.txt"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    np.testing.assert_array_equal(data.read_affwild(affwild).labels[0], plain)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["0.1", "1.2"], "105.txt, line 2: arousal 1.2 is outside [-1, 1]"),
        (["0.1", "-5"], "105.txt, line 2: arousal -5 is outside [-1, 1]"),  # Aff-Wild2 only
        (["0.1", "NaN"], "105.txt, line 2: arousal is 'NaN', not a number"),
        (["0.1", "", "0.2"], "105.txt, line 2: arousal is '', not a number"),
        (["0.1"] * 9, "105.txt: 9 lines, but"),
        ([""], "105.txt: holds nothing but white space"),
        ([], "105.txt: an empty file"),
        (None, "105.txt: cannot be opened"),
    ],
)
def test_affwild_a_wrong_label_file_is_named(affwild, lines, told):
    file = affwild / "annotations/train/arousal/105.txt"
    file.unlink()
    if lines is not None:
        file.write_text("".join(f"{line}\n" for line in lines))
    said = fault(data.read_affwild, affwild)
    assert str(affwild / "annotations/train/arousal") in said
    assert told in said


def test_affwild_other_faults(affwild, films, tmp_path):
    place(films / "actor.mp4", affwild / "videos/train/2.mp4")
    place(films / "actor.mp4", affwild / "videos/train/2.avi")
    assert "2.mp4: has the same name as" in fault(data.read_affwild, affwild)
    (affwild / "videos/train/2.avi").unlink()
    for name in ("valence", "arousal"):
        (affwild / f"annotations/train/{name}/2.txt").write_text("0.5\n" * 17)
    clips = data.read_affwild(affwild)
    with pytest.raises(BadInput, match=r"2\.mp4: 16 frames, but 17 labels; get the whole film"):
        data.labelled_faces(clips, 1, tmp_path / "cache", size=32)
    with pytest.raises(BadInput, match="holds none of annotations/train"):
        data.read_affwild(tmp_path)


def test_affwild2_as_published(affwild2, films, tmp_path):
    clips = data.read_affwild2(affwild2)
    nan = np.nan
    np.testing.assert_array_equal(
        clips.labels[0], np.float32([(0.5, -0.25), (nan, nan), (0, 1), (nan, nan)])
    )
    faces, labels = data.labelled_faces(clips, 0, tmp_path)
    assert (len(faces), len(labels)) == (4, 4)
    folder = affwild2 / "annotations/VA_Set/Validation_Set"
    folder.mkdir(parents=True)
    for name in ("pair", "pair_right", "left_left"):
        (folder / f"{name}.txt").write_bytes(b"\xef\xbb\xbfvalence,arousal\r\n0.1,0.2\r\n")
    for name in ("pair", "left_left"):
        place(films / "actor.mp4", affwild2 / f"videos/batch1/{name}.mp4")
    table = data.read_affwild2(affwild2).table.set_index("clip")
    assert table["subject"].to_dict() == {
        "video1": "video1",
        "left_left": "left_left",
        "pair": "pair",
        "pair_right": "pair",
    }
    assert table["select"].tolist() == ["auto", "auto", "auto", "index:1"]
    assert table["split"].tolist() == ["train"] + ["validation"] * 3


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("0.5,0.5\n0.1,0.1\n", "video1.txt, line 1: starts with '0.5,0.5'"),
        ("valence,arousal\n0.1,0.2\n0.1\n", "video1.txt, line 3: 1 fields in place of 2"),
        ("valence,arousal\n0.1,0.2\n-5,1.1\n", "video1.txt, line 3: arousal 1.1 is outside"),
        ("valence,arousal\n-4,0\n", "video1.txt, line 2: valence -4 is outside"),
        ("valence,arousal\nnan,0\n", "video1.txt, line 2: valence is 'nan'"),
        ("valence,arousal\n", "video1.txt: holds no label"),
    ],
)
def test_affwild2_a_wrong_label_file_is_named(affwild2, content, told):
    (affwild2 / "annotations/VA_Estimation_Challenge/Train_Set/video1.txt").write_text(content)
    assert told in fault(data.read_affwild2, affwild2)


# ---- faces ---------------------------------------------------------------------------------------


def test_aligned_faces_gaps_and_length(tmp_path):
    write_faces(tmp_path, [2, 4, 5])
    Image.new("RGB", (16, 16)).save(tmp_path / "frame_det_00_000003.bmp")  # black: no face either
    write_faces(tmp_path, [4], name="frame_det_01_{:06d}.bmp", size=9)  # somebody else
    clip = data.aligned_faces(tmp_path, at_least=7)
    seen = [False, True, False, True, True, False, False]
    assert (clip.status != "none").tolist() == seen
    assert clip.segments() == [(1, 2), (3, 5)]
    assert clip.fps == pytest.approx(30)
    assert len(data.aligned_faces(tmp_path)) == 5


def test_a_black_picture_is_a_gap_and_no_cut(tmp_path):
    write_faces(tmp_path, range(100, 113))
    Image.new("RGB", (16, 16)).save(tmp_path / "frame_det_00_000106.bmp")
    clip = data.aligned_faces(tmp_path)
    assert clip.segments() == [(99, 105), (106, 112)]
    assert clip.shot.max() == 0


def test_aligned_faces_know_cuts(tmp_path):
    write_faces(tmp_path, range(1, 31))
    write_faces(tmp_path, range(131, 151), name="frame_det_00_000{:03d}.bmp")
    for number in range(131, 151):
        (tmp_path / f"frame_det_00_000{number}.bmp").rename(
            tmp_path / f"frame_det_00_{number - 100:06d}.bmp"
        )
    assert data.aligned_faces(tmp_path).shot.tolist() == [0] * 30 + [1] * 20


def test_aligned_faces_faults(tmp_path):
    with pytest.raises(BadInput, match="without images"):
        data.aligned_faces(tmp_path)
    write_faces(tmp_path, [7], name="frame_det_01_{:06d}.bmp")
    with pytest.raises(BadInput, match="no picture named like frame_det_00"):
        data.aligned_faces(tmp_path)
    write_faces(tmp_path, [1])
    for name, size, told in [
        ("frame_det_00_000000.bmp", 16, "000000.bmp: is numbered 0"),
        ("00001.png", 16, "same frame number"),
        ("00002.png", 17, "00002.png: is 17x17"),
    ]:
        write_faces(tmp_path, [1], size=size, name=name)
        with pytest.raises(BadInput, match=told):
            data.aligned_faces(tmp_path)
        (tmp_path / name).unlink()
    (tmp_path / "00002.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"00002\.png: not an image"):
        data.aligned_faces(tmp_path)


def test_films_are_extracted_once(omg, films, tmp_path, monkeypatch):
    place(films / "actor.mp4", omg / "b/utterance_1.mp4")
    clips, cache = data.read_omg(omg), tmp_path / "cache"
    clip, labels = data.labelled_faces(clips, 3, cache, size=48)
    assert (len(clip), clip.size, clip.mode) == (16, 48, "stabilised")
    assert (clip.status != "none").all()
    assert labels.tolist() == [-0.5, 0.25]
    (stored,) = (cache / "omg").glob("*.npz")
    assert stored.name.startswith("b__utterance_1-")

    extracted = []
    real = micromacro.faces.extract_faces
    monkeypatch.setattr(
        micromacro.faces, "extract_faces", lambda *a, **k: extracted.append(k) or real(*a, **k)
    )
    row = clips.table.iloc[3]
    again = data.face_clip(row, cache, size=48)
    np.testing.assert_array_equal(again.frames, clip.frames)
    assert extracted == []
    data.face_clip(row, cache, size=32)
    data.face_clip(row, cache, size=48, mode="aligned")
    other = row.copy()
    other["select"] = "index:0"
    data.face_clip(other, cache, size=48)
    assert len(extracted) == 3
    assert len(list(cache.rglob("*.npz"))) == 4
    stored.write_bytes(stored.read_bytes()[:1000])  # torn
    np.testing.assert_array_equal(data.face_clip(row, cache, size=48).frames, clip.frames)
    os.utime(row["path"], (1, 1))  # another file, as far as anybody knows
    data.face_clip(row, cache, size=48)
    assert len(extracted) == 5
    assert not [f for f in cache.rglob("*") if f.name.startswith(".")]


def test_a_film_without_a_face_is_all_masked(omg, films, tmp_path):
    place(films / "wall.mp4", omg / "b/utterance_1.mp4")
    row = data.read_omg(omg).table.iloc[3]
    with pytest.warns(UserWarning, match="no face found in 16 frames"):
        clip = data.face_clip(row, tmp_path / "cache", size=32)
    assert not data.stepped_snippets(clip, step=1).valid.any()
    assert not data.stepped_snippets(data.face_clip(row, tmp_path / "cache", size=32)).valid.any()


def test_a_lost_film_or_cache_is_named(omg, films, tmp_path):
    place(films / "actor.mp4", omg / "b/utterance_1.mp4")
    row = data.read_omg(omg).table.iloc[3]
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="cannot be made a folder"):
        data.face_clip(row, tmp_path / "file", size=16)
    Path(row["path"]).unlink()
    with pytest.raises(BadInput, match=r"utterance_1\.mp4: cannot be opened"):
        data.face_clip(row, tmp_path / "cache")


# ---- grey faces ----------------------------------------------------------------------------------


def ramp(size, T=2):
    """Faces whose value is the column in every row: a crop shows by its extremes."""
    frames = np.zeros((T, 3, size, size), np.uint8)
    frames[:] = np.arange(size, dtype=np.uint8)
    return frames


def test_grey_faces_without_augmentation():
    colours = np.array([255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255], np.uint8).reshape(4, 3)
    frames = np.broadcast_to(colours[..., None, None], (4, 3, 48, 48)).copy()
    grey = data.grey_faces(frames)
    assert grey.shape == (4, 1, 48, 48)
    assert grey.dtype == torch.float32
    expected = torch.tensor([0.299, 0.587, 0.114, 1])
    torch.testing.assert_close(grey[:, 0, 20, 20], expected, atol=0.5 / 255 + 1e-6, rtol=0)
    torch.testing.assert_close(
        data.grey_faces(frames[:, :1])[:, 0, 0, 0], torch.tensor([1.0, 0, 0, 1])
    )
    whole = data.grey_faces(ramp(112)) * 255
    # pixel k of 48 stands for columns 112/48 k ... 112/48 (k + 1); the border keeps Lanczos inside
    wanted = (torch.arange(48) + 0.5) * 112 / 48 - 0.5
    torch.testing.assert_close(whole[0, 0, 7, 4:-4], wanted[4:-4], atol=1.0, rtol=0)


@pytest.mark.parametrize(("legacy", "side"), [(False, 95), (True, 40)])
def test_grey_faces_crop_and_flip_are_shared(legacy, side):
    lefts, flips = set(), 0
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        grey = data.grey_faces(ramp(112), generator=generator, legacy_crop=legacy) * 255
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
    one = data.grey_faces(ramp(48), generator=torch.Generator().manual_seed(1))
    two = data.grey_faces(ramp(48), generator=torch.Generator().manual_seed(1), legacy_crop=True)
    torch.testing.assert_close(one, two)
    with pytest.raises(BadInput, match="hold no 40 px"):
        data.grey_faces(ramp(39), generator=torch.Generator(), legacy_crop=True)
    assert data.grey_faces(ramp(39), legacy_crop=True).shape == (2, 1, 48, 48)


# ---- snippets ------------------------------------------------------------------------------------


def make_clip(T, none=(), cuts=(), fps=30.0):
    status = np.full(T, "track", "U6")
    status[list(none)] = "none"
    gone = status == "none"
    return FaceClip(
        frames=np.zeros((T, 1, 4, 4), np.uint8),
        t_s=np.arange(T) / fps,
        status=status,
        score=np.where(gone, np.nan, 1).astype(np.float32),
        landmarks=np.where(gone[:, None, None], np.nan, np.ones((T, 5, 2))).astype(np.float32),
        transform=np.where(gone[:, None, None], np.nan, np.ones((T, 2, 3))),
        shot=np.searchsorted(cuts, np.arange(T), side="right").astype(np.int32),
        n_faces=np.full(T, -1, np.int32),
        mode="aligned",
        source="made",
        settings={},
    )


def test_centred_snippets_repeat_the_ends():
    snippets = data.centred_snippets(make_clip(40))
    assert snippets.frames.shape == (40, 13)
    assert snippets.frames[0].tolist() == [0] * 7 + [1, 2, 3, 4, 5, 6]
    assert snippets.frames[20].tolist() == list(range(14, 27))
    assert snippets.frames[39].tolist() == [33, 34, 35, 36, 37, 38] + [39] * 7
    assert snippets.centre.tolist() == list(range(40))
    assert snippets.valid.all()
    short = data.centred_snippets(make_clip(5))  # shorter than 13: works all the same
    assert short.frames[2].tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 4, 4, 4, 4, 4]
    assert data.centred_snippets(make_clip(9), length=5).frames[4].tolist() == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("seed", range(5))
def test_validity_against_frame_by_frame_truth(seed):
    rng = np.random.default_rng(seed)
    T = 70
    none, cuts = rng.choice(T, 3, replace=False), np.sort(rng.choice(np.arange(1, T), 2, False))
    labels = np.zeros((T, 2))
    labels[rng.choice(T, 2), rng.integers(0, 2, 2)] = np.nan
    clip = make_clip(T, none, cuts)
    snippets = data.centred_snippets(clip, labels)
    for t in range(T):
        touched = {min(max(f, 0), T - 1) for f in range(t - 6, t + 7)}
        clean = not touched & set(none.tolist()) and not any(
            np.isnan(labels[f]).any() for f in touched
        )
        cut = any(c in touched and c - 1 in touched for c in cuts.tolist())
        assert snippets.valid[t] == (clean and not cut), t
    stepped = data.stepped_snippets(clip, step=7)
    segments = clip.segments()
    for frames, valid in zip(stepped.frames.tolist(), stepped.valid, strict=True):
        assert valid == any(a <= frames[0] and frames[-1] < b for a, b in segments)


def test_one_lost_frame_and_one_cut_cost_what_they_touch():
    lost = data.centred_snippets(make_clip(60, none=[30]))
    assert np.flatnonzero(~lost.valid).tolist() == list(range(24, 37))
    cut = data.centred_snippets(make_clip(60, cuts=[30]))  # between frames 29 and 30
    assert np.flatnonzero(~cut.valid).tolist() == list(range(24, 36))
    labels = np.zeros((60, 2))
    labels[50:, 1] = np.nan
    assert np.flatnonzero(~data.centred_snippets(make_clip(60), labels).valid).min() == 44


def test_stepped_snippets_start_every_second():
    snippets = data.stepped_snippets(make_clip(103))
    assert snippets.frames[:, 0].tolist() == [0, 30, 60, 90]
    assert snippets.frames[3].tolist() == list(range(90, 103))  # the last 13 just fit
    assert snippets.centre.tolist() == [6, 36, 66, 96]
    assert len(data.stepped_snippets(make_clip(102))) == 3
    assert data.stepped_snippets(make_clip(60, fps=25.0)).frames[:, 0].tolist() == [0, 25]
    assert data.stepped_snippets(make_clip(60, fps=25.0), step=30).frames[:, 0].tolist() == [0, 30]
    assert len(data.stepped_snippets(make_clip(700))) == 16
    assert len(data.stepped_snippets(make_clip(700), longest=None)) == 23
    for T in (1, 12):
        short = data.stepped_snippets(make_clip(T))
        assert short.frames.shape == (0, 13)
        assert short.valid.shape == short.centre.shape == (0,)


# ---- windows, rescaling --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "stride", "spans"),
    [
        (64, None, [(0, 64)]),
        (65, None, [(0, 64), (1, 65)]),
        (128, None, [(0, 64), (64, 128)]),
        (150, None, [(0, 64), (64, 128), (86, 150)]),
        (20, None, [(0, 20)]),
        (128, 32, [(0, 64), (32, 96), (64, 128)]),
        (130, 32, [(0, 64), (32, 96), (64, 128), (66, 130)]),
    ],
)
def test_windows(n, stride, spans):
    assert data.windows(n, stride=stride).tolist() == [list(span) for span in spans]


def test_merge_windows_averages_or_overwrites():
    spans = data.windows(7, 4)  # 0..4, 3..7
    parts = [np.full((4, 2), 1.0), np.full((4, 2), 2.0)]
    assert data.merge_windows(parts, spans)[:, 0].tolist() == [1, 1, 1, 1.5, 2, 2, 2]
    assert data.merge_windows(parts, spans, merge="overwrite")[:, 1].tolist() == [
        1,
        1,
        1,
        2,
        2,
        2,
        2,
    ]
    truth = np.random.default_rng(0).normal(size=(150, 2))
    spans = data.windows(150, stride=32)
    parts = [truth[a:b] for a, b in spans]
    np.testing.assert_allclose(data.merge_windows(parts, spans), truth, rtol=1e-12)
    np.testing.assert_array_equal(data.merge_windows(parts, spans, merge="overwrite"), truth)


def test_merge_windows_and_windows_refuse():
    with pytest.raises(BadInput, match="merge='mean'"):
        data.merge_windows([np.zeros((4, 1))], data.windows(4, 4), merge="mean")
    for parts in ([], [np.zeros((3, 1))]):
        with pytest.raises(BadInput, match="windows' lengths"):
            data.merge_windows(parts, data.windows(4, 4))
    with pytest.raises(BadInput, match="without a window"):
        data.merge_windows([np.zeros((2, 1))], np.array([(2, 4)]))
    with pytest.raises(BadInput, match="n_frames 0"):
        data.windows(0)


def test_hold_last():
    prediction = np.arange(1, 7, dtype=float)[:, None]
    valid = np.array([False, True, False, False, True, False])
    assert data.hold_last(prediction, valid)[:, 0].tolist() == [0, 2, 2, 2, 5, 5]


def test_rescale_is_the_formula():
    y = np.random.default_rng(1).normal(0.3, [0.05, 2.0], (500, 2))
    scaled = data.rescale(y, np.array([0.2, 0.4]))
    np.testing.assert_allclose(scaled.mean(axis=0), y.mean(axis=0), atol=1e-12)  # stays
    np.testing.assert_allclose(scaled.std(axis=0), [0.2, 0.4], rtol=1e-12)
    np.testing.assert_allclose(data.rescale(y[:, 0], 0.2), scaled[:, 0], rtol=1e-12)
    np.testing.assert_allclose(data.rescale(scaled, y.std(axis=0)), y, atol=1e-12)
    np.testing.assert_allclose(data.rescale(np.full(3, 0.1), 0.5), 0.1, rtol=1e-12)
    for wrong, sd in [([], 1), ([np.nan, 1], 1), ([1.0, 2.0], 0), ([1.0, 2.0], np.nan)]:
        with pytest.raises(BadInput):
            data.rescale(np.array(wrong), sd)
