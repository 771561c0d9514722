"""AFEW in miniature: the official layout with the known traps planted."""

import shutil

import afew_miniatures as mini
import numpy as np
import pytest
import skimage
from PIL import Image
from refusals import refused
from scipy.io import loadmat

from micromacro import cli
from micromacro.datasets import afew
from micromacro.video import write_video

ALIGNED = "Train_AFEW/AlignedFaces_LBPTOP_Points"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return mini.write_afew(tmp_path_factory.mktemp("afew") / "afew")


@pytest.fixture
def root(written, tmp_path):
    return shutil.copytree(written, tmp_path / "afew")


def row_of(root, clip):
    table = afew.read_afew(root).table
    return table[table["clip"] == clip].iloc[0]


# ---- as laid out ---------------------------------------------------------------------------------


def test_clips_are_known_by_split_and_number(written):
    source = afew.read_afew(written)
    table = source.table
    assert source.listed == {"train": 7, "val": 7, "test": 3}
    assert source.missing == source.unlisted == source.faults == ()
    assert [*table["label"][:14]] == [*mini.CLASSES] * 2
    assert table["label"][14:].isna().all()
    same = table[table["id"] == mini.SHARED]
    assert [*same["clip"]] == ["train_000000001", "val_000000001"]
    assert same["film"].nunique() == 2
    assert (table["path"][:16] == table["film"][:16]).all()
    assert (
        table["path"][16]
        == table["faces"][16]
        == str(written / "Test/Test_2017_Faces_Distribute/000000013")
    )


def test_a_clip_without_a_face_stays_with_its_sound(written):
    for split, number in mini.FACELESS.items():
        clip = afew.load(row_of(written, f"{split}_{number}"))
        assert clip["faces"] is None
        assert clip["face_mask"].shape == (0,)
        assert len(clip["sound"]) == 16000 * (4 + int(number)) // mini.FPS
    shown = afew.load(row_of(written, "test_000000013"))  # no film
    assert (shown["faces"].shape, shown["sound"]) == ((5, 1, 128, 128), None)


def test_faces_have_a_row_a_frame_and_a_mask(written):
    clip = afew.load(row_of(written, "train_000000004"))
    faces, mask = clip["faces"], clip["face_mask"]
    assert (faces.shape, faces.dtype, mask.dtype) == ((8, 1, 128, 128), np.uint8, bool)
    assert [*np.flatnonzero(~mask)] == [0, 2]  # black; without a picture
    assert [*faces[:, 0, 64, 64]] == [0, 62, 0, 64, 65, 66, 67, 68]
    silent = afew.load(row_of(written, "val_000000007"))
    assert (silent["sound"], silent["face_mask"].sum()) == (None, 10)


def test_sound_comes_from_the_film_in_mono_at_any_rate(written):
    row = row_of(written, "val_000000005")
    for sr_hz in (16000, 8000):
        clip = afew.load(row, sr_hz=sr_hz)
        assert clip["sr_hz"] == sr_hz
        assert clip["sound"].shape == (9 * sr_hz // mini.FPS,)
        spectrum = np.abs(np.fft.rfft(clip["sound"]))
        assert spectrum.argmax() * sr_hz / len(clip["sound"]) == pytest.approx(440, abs=2)


def test_faces_of_our_own_detection(root, tmp_path):
    row = row_of(root, "train_000000001")
    with pytest.warns(UserWarning, match="no face found"):  # in noise
        clip = afew.load(row, faces="detected", cache=tmp_path)
    assert clip["faces"] is None
    assert [*clip["face_mask"]] == [False] * 5
    person = skimage.data.astronaut()[:256, 96:352]
    write_video(root / "person.mp4", [person] * 3)
    (root / "person.mp4").rename(row["film"])
    clip = afew.load(row, faces="detected", cache=tmp_path)
    assert (clip["faces"].shape, clip["sound"]) == ((3, 3, 112, 112), None)
    assert clip["face_mask"].all()
    refused(lambda: afew.load(row, faces="detected"), "cache")
    lacking = row_of(root, "test_000000013")
    refused(lambda: afew.load(lacking, faces="detected", cache=tmp_path), "test_000000013")
    refused(lambda: afew.load(lacking, faces="mtcnn"), "official, detected")


def test_baseline_features_are_those_of_the_file(written):
    row = row_of(written, "train_000000003")
    features = afew.load_lbp_top(row)
    assert (features.shape, features.dtype) == ((2832,), np.float32)
    expected = loadmat(row["lbp_top"])["LBPTOP_feature"][0]
    assert np.array_equal(features, expected.astype(np.float32))


@pytest.mark.parametrize("spelling", [str.lower, str.upper])
def test_letters_may_be_in_any_case(root, spelling):
    before = afew.read_afew(root).table
    for folder in sorted(root.rglob("*"), key=lambda path: -len(path.parts)):
        if folder.is_dir():
            folder.rename(folder.with_name(spelling(folder.name)))
    after = afew.read_afew(root).table
    assert after[["clip", "label"]].equals(before[["clip", "label"]])
    assert [*after[[*afew.FILES]].isna().to_numpy().ravel()] == [
        *before[[*afew.FILES]].isna().to_numpy().ravel()
    ]


def test_archives_unpacked_into_a_folder_of_their_own_name(written, tmp_path):
    nested = afew.read_afew(mini.write_afew(tmp_path / "Happy", twice=True)).table
    flat = afew.read_afew(written).table
    assert nested[["clip", "label"]].equals(flat[["clip", "label"]])
    assert nested[[*afew.FILES]].isna().equals(flat[[*afew.FILES]].isna())


def test_a_folder_may_be_linked_and_a_link_may_lead_back(root, tmp_path):
    (tmp_path / "linked").mkdir()
    (root / "Train_AFEW").rename(tmp_path / "elsewhere")
    (tmp_path / "linked/Val_AFEW").symlink_to(root / "Val_AFEW")
    (root / "Val_AFEW/Happy").rename(tmp_path / "happy")
    (root / "Val_AFEW/Happy").symlink_to(tmp_path / "happy")
    (root / "Val_AFEW/all").symlink_to(root / "Val_AFEW")
    source = afew.read_afew(tmp_path / "linked")
    assert source.listed == {"train": 0, "val": 7, "test": 0}
    assert source.missing == tuple(f"Train_AFEW/{name}" for name in mini.CLASSES)


# ---- what is not right ---------------------------------------------------------------------------


def test_a_missing_class_and_strays_are_listed(root):
    shutil.rmtree(root / "Train_AFEW/Surprise")
    (root / "Val_AFEW/Fear/000000003.avi").rename(root / "Val_AFEW/000000003.avi")
    mini.write_film(root / "Val_AFEW/Sad/copy of 6.avi")
    mini.write_film(root / "Val_AFEW/Sad/more/000000099.avi")
    source = afew.read_afew(root)
    assert source.missing == ("Train_AFEW/Surprise", "Val_AFEW/Fear")
    assert [*source.table["label"][source.table["id"] == "000000099"]] == ["Sad"]
    strays = (f"{ALIGNED}/Faces/000000007", f"{ALIGNED}/LBPTOP/000000007.mat")
    assert source.unlisted == (*strays, "Val_AFEW/000000003.avi", "Val_AFEW/Sad/copy of 6.avi")
    assert source.listed == {"train": 6, "val": 7, "test": 3}


def test_an_archive_that_nobody_has_unpacked_is_listed(root):
    shutil.rmtree(root / ALIGNED)
    (root / f"{ALIGNED}.zip").write_bytes(b"PK")
    (root / "Val_AFEW/AlignedFaces_LBPTOP_Points_Val.zip").write_bytes(b"PK")  # and it is unpacked
    source = afew.read_afew(root)
    assert source.unlisted == (f"{ALIGNED}.zip",)
    assert source.table["faces"][:7].isna().all()


def test_a_number_twice_in_one_split_is_a_fault(root):
    place = mini.write_film(root / "Train_AFEW/Sad/000000001.avi")
    refused(lambda: afew.read_afew(root), place, "Angry/000000001.avi", "keep one")
    source = afew.read_afew(root, strict=False)
    assert (len(source), len(source.faults)) == (16, 1)
    assert "train_000000001" not in {*source.table["clip"]}


def test_damaged_files_are_named(root):
    row = row_of(root, "train_000000001")
    file = root / ALIGNED / "LBPTOP/000000001.mat"
    whole = file.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:128]):
        file.write_bytes(content)
        refused(lambda: afew.load_lbp_top(row), file)
    two = {"a": np.zeros((1, mini.LBP_TOP)), "b": np.ones((1, mini.LBP_TOP))}
    for arrays in (
        two,
        {"a": np.zeros((1, 177))},
        {"a": np.full((1, mini.LBP_TOP), np.nan)},
        {"a": np.array(["x" * mini.LBP_TOP])},
    ):
        mini.write_lbp_top(file, **arrays)
        refused(lambda: afew.load_lbp_top(row), file, "restore")
    face = root / ALIGNED / "Faces/000000001/000000001_002.jpg"
    Image.new("L", (64, 64)).save(face)
    refused(lambda: afew.load(row), face.parent, "2 sizes")
    face.write_bytes(b"no picture")
    refused(lambda: afew.load(row), face)
    face.rename(face.with_name("000000001_900000.jpg"))
    refused(lambda: afew.load(row), "900000.jpg", "frames")
    shutil.rmtree(face.parent)
    refused(lambda: afew.load(row), face.parent)
    film = root / "Train_AFEW/Angry/000000001.avi"
    film.write_bytes(b"no film")
    refused(lambda: afew.load({**row, "faces": np.nan}), film)


# ---- submission ----------------------------------------------------------------------------------


def test_a_submission_is_a_text_file_an_id_with_its_class(written, tmp_path):
    table = afew.read_afew(written).table
    tests = [*table["clip"][table["split"] == "test"]]
    answers = dict(zip(tests, ("Happy", "Neutral", "Sad"), strict=True))
    afew.write_submission(table, answers, str(tmp_path / "out"))
    written_texts = {file.name: file.read_text() for file in (tmp_path / "out").iterdir()}
    assert written_texts == {
        "000000011.txt": "Happy\n",
        "000000012.txt": "Neutral\n",
        "000000013.txt": "Sad\n",
    }
    lacking = {clip: answers[clip] for clip in tests[:2]}
    for wrong, word in (
        (lacking, "test_000000013"),
        (answers | {"val_000000001": "Sad"}, "val_000000001"),
        (answers | {tests[0]: "happy"}, "Angry, Disgust"),
    ):
        refused(lambda wrong=wrong: afew.write_submission(table, wrong, tmp_path / "no"), word)
    assert not (tmp_path / "no").exists()


# ---- micromacro data check -----------------------------------------------------------------------


def checked(capsys, root):
    status = cli.main(["data", "check", "afew", str(root)])
    return status, capsys.readouterr().out.splitlines()


def test_the_check_counts_and_names(root, capsys):
    status, lines = checked(capsys, root)
    ones = ", ".join(f"1 {name}" for name in mini.CLASSES)
    whole = {split: ", ".join(map(str, n)) for split, n in mini.WHOLE.items()}
    assert lines[:-1] == [
        f"afew in {root}",
        *(f"  {split}: 7 clips, {ones} (all clips: {whole[split]})" for split in whole),
        "  test: 3 clips (all clips: 653 or 593)",
        "  train: 6 clips with a face, 5 to 11 frames; 6 with LBP-TOP, 6 with sound",
        "  val: 6 clips with a face, 5 to 11 frames; 6 with LBP-TOP, 6 with sound",
        "  test: 2 clips with a face, 5 to 5 frames; 1 with LBP-TOP, 2 with sound",
        "  1 wrong, 0 missing, 0 unlisted",
    ]
    assert status == 1
    assert lines[-1].startswith(f"wrong     {root}: counts are not those of the official")
    (root / ALIGNED / "LBPTOP/000000005.mat").write_bytes(b"torn")
    shutil.rmtree(root / "Val_AFEW")
    status, lines = checked(capsys, root)
    assert "  val: 0 clips with a face; 0 with LBP-TOP, 0 with sound" in lines
    assert lines[-2].startswith(f"wrong     {root / ALIGNED}/LBPTOP/000000005.mat: torn")
    assert lines[-1] == "missing   Val_AFEW/Angry and 6 more there"
