"""Hume-Reaction in miniature: the layouts of ABAW5 and of MuSe 2022 with the known traps
planted."""

import hume_miniatures as mini
import numpy as np
import pytest
from refusals import refused

from micromacro import cli
from micromacro.audio import read_audio
from micromacro.datasets import hume
from micromacro.faces.action_units import openface_columns

VISUAL = ["features/res18_aff/train/00002.npy", "openface_align/train/aligned/00002/00002.csv"]


@pytest.fixture
def abaw5(tmp_path):
    return mini.write_abaw5(tmp_path / "abaw5")


@pytest.fixture
def muse(tmp_path):
    return mini.write_muse(tmp_path / "muse")


# ---- as laid out ---------------------------------------------------------------------------------


def test_abaw5_as_laid_out(abaw5):
    source = hume.read_hume(abaw5)
    table = source.table
    assert [*table["clip"]] == [*table["subject"]] == ["00001", "00002", "00003", "00004"]
    assert [*table["split"]] == ["train", "train", "val", "test"]
    assert source.listed == {"train": 2, "val": 1, "test": 1}
    expected = np.array(mini.LABELS.split(","), np.float64)
    assert np.array_equal(table.loc[0, [*hume.LABELS]].astype(float), expected)
    assert np.array_equal(source.labels[0], expected.astype(np.float32))
    assert np.isnan(source.labels[3]).all()  # the test split
    assert (source.missing, source.unlisted, source.faults) == (tuple(VISUAL), (), ())
    assert [*table["sound"].isna()] == [False, False, True, True]
    assert len(read_audio(table["sound"][0])) == 1600
    assert (
        table["path"][2] == table["holistic"][2] == str(abaw5 / "features/res18_aff/val/00003.npy")
    )


def test_a_film_is_the_path_of_a_clip_that_has_one(abaw5):
    film = abaw5 / "raw/train/mp4/00002.mp4"
    film.parent.mkdir(parents=True)
    film.write_bytes(b"film")
    assert hume.read_hume(abaw5).table["path"][1] == str(film)


def test_features_of_abaw5(abaw5):
    table = hume.read_hume(abaw5).table
    whole, heard, *_ = (hume.load(row) for _, row in table.iterrows())
    shapes = {name: array.shape for name, array in whole.items()}
    assert shapes == {"holistic": (6, 512), "local": (6, 35), "audio": (32, 1024)}
    assert {array.dtype for array in whole.values()} == {np.dtype("float32")}
    assert np.array_equal(whole["holistic"], np.load(table["holistic"][0]))
    assert (heard["holistic"], heard["local"], heard["audio"].shape) == (None, None, (32, 1024))


@pytest.mark.parametrize("separator", [", ", ",", " , "])
def test_columns_of_openface_are_those_that_the_released_code_takes_by_position(abaw5, separator):
    """Of a whole file; of another one, position would give head poses or landmarks."""
    assert openface_columns() == (*mini.INTENSITIES, *mini.PRESENCES)
    assert mini.openface_header().index("AU01_r") == 679
    values = mini.openface_values(6, failed=(2,))
    path = abaw5 / "openface_align/train/aligned/00001/00001.csv"
    mini.write_openface(path, values, separator=separator)
    row = hume.read_hume(abaw5).table.loc[0]
    local = hume.load(row)["local"]
    seen = [0, 1, 3, 4, 5]
    assert np.array_equal(local[seen], values[seen, 679:714].astype(np.float32))
    assert np.isnan(local[2]).all()  # zeros in the file
    shuffled = np.random.default_rng(1).permutation(714)
    header = [mini.openface_header()[k] for k in shuffled]
    mini.write_openface(path, values[:, shuffled], header, separator)
    assert np.array_equal(hume.load(row)["local"], local, equal_nan=True)


def test_muse_as_laid_out(muse):
    source = hume.read_hume(muse)
    assert [*source.table["split"]] == ["train", "val", "test"]
    assert np.array_equal(source.labels[1], np.array(mini.LABELS.split(","), np.float32))
    assert np.isnan(source.labels[2]).all()
    assert source.missing == source.unlisted == source.faults == ()
    clips = [hume.load(row) for _, row in source.table.iterrows()]
    shapes = {name: array.shape for name, array in clips[1].items()}
    assert shapes == {"holistic": (4, 8), "local": (4, 20), "audio": (2, 5)}
    assert [*np.isnan(clips[1]["local"]).all(axis=1)] == [False, True, False, False]
    assert not np.isnan(clips[0]["local"]).any()


def test_features_of_ones_own(abaw5):
    mini.write_array(abaw5 / "features/res18_eval/val/00003.npy", 4, 16)
    source = hume.read_hume(abaw5, holistic="res18_eval")
    assert hume.load(source.table.loc[2])["holistic"].shape == (4, 16)
    assert source.missing[0] == "features/res18_eval/train/00001.npy"
    refused(lambda: hume.read_hume(abaw5, holistic="res50"), "features/res50", "extract")
    refused(
        lambda: hume.read_hume(abaw5, video="res50"), "option 'video'", "holistic, local, audio"
    )


def test_a_modality_that_nobody_has_is_not_missing(abaw5):
    (abaw5 / "features/mfcc_2").rename(abaw5 / "features/mfcc_3")
    source = hume.read_hume(abaw5)
    assert source.missing == tuple(VISUAL)
    assert hume.load(source.table.loc[0])["audio"] is None
    assert len(source) == 4  # 00002 still has its wav
    (abaw5 / "wav/00002.wav").unlink()
    source = hume.read_hume(abaw5)
    assert (len(source), source.missing) == (3, (*VISUAL, "train/00002"))


def test_a_sheet_alone_is_no_data_set(abaw5, tmp_path, capsys):
    (tmp_path / "alone").mkdir()
    (abaw5 / "data_info.csv").rename(tmp_path / "alone/data_info.csv")
    status, lines = checked(capsys, tmp_path / "alone")
    assert status == 1
    assert "  holistic: 0 clips, no columns" in lines
    assert "  0 wrong, 4 missing, 0 unlisted" in lines
    assert "missing   train/00001 and 1 more there" in lines


# ---- bad input -----------------------------------------------------------------------------------

BAD_ROWS = (
    (("1", "Train", "0,0,0,0,0,0,1.5"), "Surprise '1.5'"),
    (("1", "Train", "0,0,0,x,0,0,1"), "Disgust 'x'"),
    (("1", "Train", ",,,,,,"), "Adoration ''"),
    (("1", "Dev", mini.LABELS), "Split 'Dev'"),
    (("00001", "Val", mini.LABELS), "00001"),
    (("00001.mp4", "Val", mini.LABELS), "00001.mp4"),
)


@pytest.mark.parametrize(("row", "words"), BAD_ROWS)
def test_a_bad_row_is_named_and_left_out(abaw5, row, words):
    mini.write_sheet(abaw5, (*mini.ABAW5_ROWS, row))
    refused(lambda: hume.read_hume(abaw5), "data_info.csv, line 6", words, "restore")
    source = hume.read_hume(abaw5, strict=False)
    assert (len(source), len(source.faults)) == (4, 1)


def test_a_sheet_that_is_another_is_refused(abaw5):
    sheet = abaw5 / "data_info.csv"
    for text in (sheet.read_text().replace("Empathic-Pain", "Pain"), "File_ID,Split\n", "\xff\n"):
        sheet.write_text(text, encoding="latin-1")
        refused(lambda: hume.read_hume(abaw5), sheet, "restore")
    sheet.unlink()
    refused(lambda: hume.read_hume(abaw5), abaw5, "data_info.csv, labels.csv", "data/README.md")


def test_faces_and_action_units_must_have_as_many_rows(abaw5, muse):
    path = abaw5 / "openface_align/train/aligned/00001/00001.csv"
    row = hume.read_hume(abaw5).table.loc[0]
    for n_frames in (5, 7):
        mini.write_openface(path, mini.openface_values(n_frames))
        words = (path, f"has {n_frames} rows", row["holistic"], "has 6", "leave the clip out")
        refused(lambda words=words: hume.load(row), *words)
    path = muse / "feats/FAUs/00001.csv"
    mini.write_feature(path, [0, 0.25, 0.3], mini.PYFEAT)
    refused(lambda: hume.load(hume.read_hume(muse).table.loc[0]), path, "1 of them of no row")


def test_damaged_features_are_refused(abaw5, muse):
    row = hume.read_hume(abaw5).table.loc[0]
    path = abaw5 / "features/res18_aff/train/00001.npy"
    whole = path.read_bytes()
    arrays = (np.zeros((6, 0)), np.zeros(6), np.full((6, 2), np.inf), np.array([["a"]]))
    for array in arrays:
        np.save(path, array)
        refused(lambda: hume.load(row), path, "restore")
    for content in (b"", whole[:-1], b"text"):
        path.write_bytes(content)
        refused(lambda: hume.load(row), path)
    path.unlink()
    refused(lambda: hume.load(row), path, "cannot be opened")
    path = muse / "feats/VGGFace2/00001.csv"
    for t_s, values in (([0, 0], [[1], [2]]), ([0, 1], [[1], ["nan"]]), ([0, 1], [[1], ["x"]])):
        mini.write_feature(path, t_s, ["v0"], values=values)
        refused(lambda: hume.load(hume.read_hume(muse).table.loc[0]), path, "restore")


# ---- micromacro data check -----------------------------------------------------------------------


def checked(capsys, root):
    status = cli.main(["data", "check", "hume", str(root)])
    return status, capsys.readouterr().out.splitlines()


def test_the_check_counts_and_names(abaw5, muse, capsys):
    assert checked(capsys, muse) == (
        0,
        [
            f"hume in {muse}",
            *(f"  {split}: 1 clips listed, 1 there" for split in ("train", "val", "test")),
            "  holistic: 3 clips, 8 columns, 4 to 4 rows",
            "  local: 3 clips, 20 columns, 4 to 4 rows",
            "  audio: 3 clips, 5 columns, 2 to 2 rows",
            "  1 of 12 frames without action units; 0 clips with sound",
            "  0 wrong, 0 missing, 0 unlisted",
        ],
    )
    mini.write_array(abaw5 / "features/res18_aff/val/00003.npy", 9, 512)
    mini.write_array(abaw5 / "features/mfcc_2/val/00009.npy", 32, 1024)
    status, lines = checked(capsys, abaw5)
    assert status == 1
    assert "  holistic: 2 clips, 512 columns, 5 to 6 rows" in lines
    assert "  3 of 11 frames without action units; 2 clips with sound" in lines
    assert "  1 wrong, 2 missing, 1 unlisted" in lines
    assert lines[-4].startswith(
        f"wrong     {abaw5}/openface_align/val/aligned/00003/00003.csv: has 4"
    )
    assert [line.split()[1] for line in lines[-3:]] == [*VISUAL, "features/mfcc_2/val/00009.npy"]


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 and no archive", b"\x93NUMPY\x01\x00\x06\x00torn"]
)
def test_a_file_that_only_begins_like_an_array_is_refused(abaw5, content):
    (abaw5 / VISUAL[0]).write_bytes(content)
    row = hume.read_hume(abaw5).table.set_index("clip", drop=False).loc["00002"].to_dict()
    refused(lambda: hume.load(row), VISUAL[0], "restore")
