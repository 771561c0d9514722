"""CASME, CASME II, SAMM and SMIC-HS in miniature: official layouts with the known traps planted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from micro_miniatures import (
    CASME2_TITLES,
    CASME_TITLES,
    SAMM_HEAD,
    SAMM_TITLES,
    casme2_row,
    casme_row,
    samm_row,
    write_pictures,
    write_xls,
    write_xlsx,
)
from PIL import Image

from micromacro import cli
from micromacro import folds as splits
from micromacro.datasets import micro
from micromacro.datasets.frames import check_sizes, load_frames
from micromacro.datasets.table import CLIP_TABLE_COLUMNS, check_clip_table
from micromacro.errors import BadInput

CASME_ROWS = (
    casme_row("01", "EP01_12", 73, 81, 91, "tense"),
    casme_row("01", "EP03_2", 100, "\\", 103, "disgust", au="4+9"),
    casme_row(1, "EP04_5", 7, 9, 12, "happiness", au=None),
    casme_row(10, "EP01_12", 5, 6, 8, "surprise", apex2=7),
    (None,) * 12,
    (None, '"amusement" is renamed happiness', *(None,) * 10),
)
CASME2_ROWS = (
    casme2_row("01", "EP02_01f", 46, 59, 86, "happiness"),
    casme2_row(4, "EP12_01f", 10, "/", 14, "disgust", au="4?"),
    casme2_row("05", "EP09_05f", 10, 11, 14, "repression", au=17),
    casme2_row("09", "EP02_03", 10, 11, 14, "fear"),
    casme2_row("10", "EP01_01", 10, 11, 14, "others"),
    casme2_row("17", "EP01_06", 1, 2, 3, "surprise"),
)
SAMM_ROWS = (
    samm_row("006", "006_1_2", 5562, 5565, 5570, "Anger", au="4B + (R12 or R15)"),
    samm_row(13, "013_1_12", 98, 100, 103, "Happiness"),
    samm_row("025", "025_3_1", 98, 100, 103, "Other"),
)


@pytest.fixture
def casme(tmp_path):
    root = tmp_path / "casme"
    root.mkdir()
    write_xls(root / "CASME-coded-20190721.xls", (CASME_TITLES, *CASME_ROWS))
    cropped = root / "Cropped"
    write_pictures(cropped / "sub01/EP01_12", range(73, 92), "reg_EP01_12-{}.jpg")
    write_pictures(cropped / "sub01/EP03_2", range(95, 110), "reg_EP03_2-{:03d}.jpg")
    write_pictures(cropped / "sub01/EP04_5", range(7, 13), "reg_EP04_5-{:03d}.jpg")
    write_pictures(cropped / "sub10/EP01_12", range(5, 9), "reg_EP01_12-{:03d}.jpg")
    for name in ("Thumbs.db", ".DS_Store", "._reg_EP01_12-75.jpg", "cover.jpg", "a75.txt"):
        (cropped / "sub01/EP01_12" / name).write_bytes(b"stray")
    (cropped / "Thumbs.db").write_bytes(b"stray")
    (cropped / "sub01/Thumbs.db").write_bytes(b"stray")
    (cropped / "sub01/.thumbnails").mkdir()
    return root


@pytest.fixture
def casme2(tmp_path):
    root = tmp_path / "casme2"
    root.mkdir()
    write_xlsx(root / "CASME2-coding-20140508.xlsx", (CASME2_TITLES, *CASME2_ROWS))
    raw = root / "CASME2_RAW_selected"
    write_pictures(raw / "sub01/EP02_01f", range(40, 121), "img{}.jpg")
    for clip in ("sub04/EP12_01f", "sub05/EP09_05f", "sub09/EP02_03", "sub10/EP01_01"):
        write_pictures(raw / clip, range(9, 15), "img{}.jpg")
    write_pictures(raw / "sub17/EP01_06", range(4), "img{}.jpg")  # from 0 on
    write_pictures(raw / "sub09/EP02_02f", range(1, 4), "img{}.jpg")
    write_pictures(raw / "sub24/EP02_07", range(1, 4), "img{}.jpg")
    return root


@pytest.fixture
def samm(tmp_path):
    root = tmp_path / "samm"
    root.mkdir()
    write_xlsx(
        root / "SAMM_Micro_FACS_Codes_v2.xlsx",
        (*SAMM_HEAD, SAMM_TITLES, *SAMM_ROWS),
        "MICRO_ONLY",
        before=("FULL",),
    )
    write_pictures(root / "SAMM/006/006_1_2", range(5562, 5571), "006_{:05d}.jpg")
    write_pictures(root / "SAMM/013/013_1_12", range(98, 104), "13-{}.jpg")  # malformed
    write_pictures(root / "SAMM/025/025_3_1", range(98, 104), "025_{:05d}.jpg")
    return root


@pytest.fixture
def smic(tmp_path):
    root = tmp_path / "smic"
    hs = root / "SMIC_all_cropped/HS"
    write_pictures(hs / "s01/micro/negative/s1_ne_01", range(101, 106), "reg_image{:06d}.bmp")
    write_pictures(hs / "s01/micro/surprise/s1_sur_02", range(9, 12), "reg_image{:06d}.bmp")
    write_pictures(hs / "s14/micro/positive/s14_po_01", range(3), "image{:06d}.bmp")
    write_pictures(hs / "s14/non_micro/s14_non_01", range(3), "image{:06d}.bmp")
    (hs / "s14/micro/positive/Thumbs.db").write_bytes(b"stray")
    return root


def fault(dataset, root, **options):
    """The one fault of a strict reader, as one line, which the lenient one lists too."""
    with pytest.raises(BadInput) as caught:
        micro.read(dataset, root, **options)
    said = str(caught.value)
    assert "\n" not in said
    assert [str(f) for f in micro.read(dataset, root, strict=False, **options).faults] == [said]
    return said


def rewrite(root, rows):
    write_xlsx(root / "CASME2-coding-20140508.xlsx", (CASME2_TITLES, *rows))


# ---- as released ---------------------------------------------------------------------------------


def test_casme_as_released(casme):
    clips = micro.read("casme", casme)
    table = clips.table
    assert list(table.columns) == [*CLIP_TABLE_COLUMNS, "first"]
    pd.testing.assert_frame_equal(check_clip_table(table), table)
    assert table["dataset"].unique().tolist() == ["casme"]
    assert table["subject"].tolist() == ["01", "01", "01", "10"]
    assert table["clip"].tolist() == ["EP01_12", "EP03_2", "EP04_5", "EP01_12"]
    assert table["label"].tolist() == ["tense", "disgust", "happiness", "surprise"]
    assert table["au"].tolist()[:2] == ["4", "4+9"]
    assert table["au"].isna().tolist() == [False, False, True, False]
    assert table["first"].tolist() == [73, 95, 7, 5]
    assert table["onset"].tolist() == [0, 5, 0, 0]
    assert table["offset"].tolist() == [18, 8, 5, 3]
    assert table["apex"].tolist() == [8, pd.NA, 2, 1]
    assert table["n_frames"].tolist() == [19, 15, 6, 4]
    assert table["fps"].unique().tolist() == [60]
    assert (clips.pictures, clips.listed, len(clips)) == ("cropped", {"": 4}, 4)
    assert clips.missing == clips.unlisted == clips.faults == ()
    # the released example: 73 to 91 are 19 frames, of class 3
    assert len(load_frames(table.iloc[0])) == 19
    assert micro.relabel(table, "akm4")["label"].tolist() == [3, 1, 0, 2]


def test_casme2_as_released(casme2):
    clips = micro.read("casme2", casme2)
    table = clips.table
    assert clips.pictures == "raw"
    assert table["subject"].tolist() == ["01", "04", "05", "09", "10", "17"]
    assert table.loc[0, ["first", "onset", "apex", "offset", "n_frames"]].tolist() == [
        *(40, 6, 19, 46, 81)
    ]
    assert table["apex"].isna().tolist() == [False, True] + [False] * 4
    assert table["au"].tolist() == ["4+L10", "4?", "17", "4+L10", "4+L10", "4+L10"]
    assert table.loc[5, ["first", "onset", "offset", "n_frames"]].tolist() == [0, 1, 3, 4]
    assert table["fps"].unique().tolist() == [200]
    assert clips.unlisted == ("sub09/EP02_02f", "sub24/EP02_07")
    assert set(clips.unlisted) == set(micro.UNLABELLED["casme2"])


def test_samm_as_released(samm):
    table = micro.read("samm", samm).table
    assert table["subject"].tolist() == ["006", "013", "025"]
    assert table["label"].tolist() == ["anger", "happiness", "other"]
    assert table["au"][0] == "4B + (R12 or R15)"
    assert table["first"].tolist() == [5562, 98, 98]
    assert table["apex"].tolist() == [3, 2, 2]
    assert table["offset"].tolist() == [8, 5, 5]
    assert Path(table["path"][1]) == samm / "SAMM/013/013_1_12"
    frames = load_frames(table.iloc[1])
    assert frames[:, 0, 0, 0].tolist() == list(range(98, 104))


def test_smic_as_released(smic):
    clips = micro.read("smic", smic)
    table = clips.table
    assert table["subject"].tolist() == ["s01", "s01", "s14"]
    assert table["clip"].tolist() == ["s1_ne_01", "s1_sur_02", "s14_po_01"]
    assert table["label"].tolist() == ["negative", "surprise", "positive"]
    assert table["apex"].isna().all()
    assert table["onset"].tolist() == [0, 0, 0]
    assert table["offset"].tolist() == [4, 2, 2]
    assert table["first"].tolist() == [101, 9, 0]
    assert clips.listed == {"": 3}
    assert clips.missing == clips.unlisted == ()


def test_cropped_comes_first_and_either_can_be_asked_for(casme2):
    cropped = casme2 / "Cropped"
    for folder in sorted((casme2 / "CASME2_RAW_selected").glob("*/*")):
        numbers = sorted(int(f.stem[3:]) for f in folder.iterdir())
        write_pictures(cropped / folder.parent.name / folder.name, numbers, "reg_img{}.jpg", (4, 4))
    write_pictures(cropped / "sub01/EP02_01f", range(46, 87), "reg_img{}.jpg", (4, 4))
    for number in (*range(40, 46), *range(87, 121)):
        (cropped / f"sub01/EP02_01f/reg_img{number}.jpg").unlink()
    either, raw = micro.read("casme2", casme2), micro.read("casme2", casme2, pictures="raw")
    assert (either.pictures, raw.pictures) == ("cropped", "raw")
    assert either.table.loc[0, ["first", "onset", "offset", "n_frames"]].tolist() == [46, 0, 40, 41]
    assert load_frames(either.table.iloc[0]).shape == (41, 1, 4, 4)
    assert load_frames(raw.table.iloc[0]).shape == (41, 1, 6, 8)
    with pytest.raises(BadInput, match="pictures 'crop': is unknown"):
        micro.read("casme2", casme2, pictures="crop")


def test_the_sheet_of_2014_goes_before_that_of_2019(casme2):
    rows = (CASME2_TITLES, CASME2_ROWS[0])
    write_xlsx(casme2 / "CASME2-coding-20190701.xlsx", rows)
    assert micro.read("casme2", casme2).listed == {"": 6}
    (casme2 / "CASME2-coding-20140508.xlsx").unlink()
    assert micro.read("casme2", casme2).listed == {"": 1}


# ---- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            casme2_row("01", "EP02_01f", 50, 50, 60, "fear"),
            "row 3: subject 01, clip EP02_01f is al",
        ),
        (casme2_row("sub01", "EP1", 1, 2, 3, "fear"), "row 3: subject 'sub01' is not a number"),
        (casme2_row("04", "../a", 1, 2, 3, "fear"), "row 3: file name '../a' is not a plain name"),
        (casme2_row("04", None, 1, 2, 3, "fear"), "row 3: file name '' is not a plain name"),
        (casme2_row("04", "EP12_01f", "/", 2, 3, "fear"), "row 3: OnsetFrame is missing"),
        (casme2_row("04", "EP12_01f", 10, 12, None, "fear"), "row 3: OffsetFrame is missing"),
        (casme2_row("04", "EP12_01f", 10, "\\", 14, "fear"), "ApexFrame is '\\\\', not a frame n"),
        (casme2_row("04", "EP12_01f", 10.5, 12, 14, "fear"), "OnsetFrame is '10.5', not a frame n"),
        (casme2_row("04", "EP12_01f", "1_0", 12, 14, "fear"), "OnsetFrame is '1_0', not a frame n"),
        (casme2_row("04", "EP12_01f", 10, 12, 14, "anger"), "row 3: emotion 'anger' is none of"),
        (casme2_row("04", "EP12_01f", 10, 12, 14, None), "row 3: emotion '' is none of happiness"),
        (casme2_row("04", "EP12_01f", 14, 12, 10, "fear"), "EP12_01f: runs from frame 14 to 10;"),
        (casme2_row("04", "EP12_01f", 12, 12, 12, "fear"), "EP12_01f: runs from frame 12 to 12;"),
        (
            casme2_row("04", "EP12_01f", 8, 12, 16, "fear"),
            "EP12_01f: should hold frames 8 to 16, frame 8 and 2 more are not there (the folder "
            "holds 9 to 14)",
        ),
        (
            casme2_row("04", "EP12_01f", 10, 12, 15, "fear"),
            "EP12_01f: should hold frames 10 to 15, frame 15 is not there (the folder holds 9",
        ),
    ],
)
def test_a_wrong_row_is_named_and_left_out(casme2, row, told):
    rewrite(casme2, (CASME2_ROWS[0], row, *CASME2_ROWS[2:]))
    assert told in fault("casme2", casme2)
    lenient = micro.read("casme2", casme2, strict=False)
    assert lenient.table["clip"].tolist() == [row[1] for row in (CASME2_ROWS[0], *CASME2_ROWS[2:])]
    assert lenient.listed == {"": 6}
    named = str(row[1]) == "EP12_01f"  # else nobody knows whose row it was
    assert ("sub04/EP12_01f" in lenient.unlisted) != named


@pytest.mark.parametrize("apex", [9, 15])
def test_a_wrong_apex_costs_the_apex_only(casme2, apex):
    rewrite(casme2, (casme2_row("05", "EP09_05f", 10, apex, 14, "fear"),))
    assert f"row 2: apex {apex} is outside frames 10 to 14;" in fault("casme2", casme2)
    table = micro.read("casme2", casme2, strict=False).table
    assert table.loc[0, ["onset", "offset"]].tolist() == [1, 5]
    assert pd.isna(table["apex"][0])
    for edge in (10, 14):
        rewrite(casme2, (casme2_row("05", "EP09_05f", 10, edge, 14, "fear"),))
        assert micro.read("casme2", casme2).table["apex"].tolist() == [edge - 9]


def test_a_gap_on_disk_is_named(casme2):
    picture = casme2 / "CASME2_RAW_selected/sub01/EP02_01f/img60.jpg"
    outside = picture.with_name("img45.jpg")
    outside.unlink()
    assert len(micro.read("casme2", casme2)) == 6  # not between onset and offset
    picture.unlink()
    assert "EP02_01f: should hold frames 46 to 86, frame 60 is not" in fault("casme2", casme2)


def test_a_number_twice_and_an_empty_folder_are_named(casme2):
    folder = casme2 / "CASME2_RAW_selected/sub05/EP09_05f"
    write_pictures(folder, [12], "img{:03d}.png")
    assert "has the same frame number as img" in fault("casme2", casme2)
    for file in folder.iterdir():
        file.unlink()
    assert "EP09_05f: a folder without images" in fault("casme2", casme2)
    write_pictures(folder, [0], "cover.png")
    assert "no picture named by its frame number" in fault("casme2", casme2)


def test_missing_and_unlisted_clips(casme2):
    raw = casme2 / "CASME2_RAW_selected"
    (raw / "sub05").rename(raw / "sub55")
    (raw / "sub10/EP01_01").rename(raw / "sub10/EP01_1")
    with pytest.raises(BadInput, match=r"sub05/EP09_05f: listed but not there \(and 1 more\)"):
        micro.read("casme2", casme2)
    clips = micro.read("casme2", casme2, strict=False)
    assert clips.missing == ("sub05/EP09_05f", "sub10/EP01_01")
    assert clips.unlisted[1:3] == ("sub10/EP01_1", "sub24/EP02_07")
    assert clips.unlisted[3] == "sub55/EP09_05f"
    assert clips.faults == ()
    assert len(clips) == 4


def test_wrong_files_are_named(casme2, samm, casme, smic, tmp_path):
    sheet = casme2 / "CASME2-coding-20140508.xlsx"
    good = sheet.read_bytes()
    for content, told in [
        (b"", "an empty file"),
        (b"Subject,Filename\n", "cannot be read as a spreadsheet"),
        (good[:500], "cannot be read as a spreadsheet"),
    ]:
        sheet.write_bytes(content)
        with pytest.raises(BadInput, match=told):
            micro.read("casme2", casme2)
    titles = [title and title.replace("Frame", "F") for title in CASME2_TITLES]
    write_xlsx(sheet, (titles, *CASME2_ROWS))
    with pytest.raises(BadInput, match="row 1 should be the header, but lacks OnsetFrame, ApexF"):
        micro.read("casme2", casme2)
    write_xlsx(sheet, ())
    with pytest.raises(BadInput, match="row 1 should be the header"):
        micro.read("casme2", casme2)
    rewrite(casme2, ())
    assert len(micro.read("casme2", casme2)) == 0
    sheet = samm / "SAMM_Micro_FACS_Codes_v2.xlsx"
    write_xlsx(sheet, (SAMM_TITLES, *SAMM_ROWS), "MICRO_ONLY")
    with pytest.raises(BadInput, match="row 14 should be the header"):
        micro.read("samm", samm)
    write_xlsx(sheet, (SAMM_TITLES, *SAMM_ROWS), "Micro")
    with pytest.raises(BadInput, match="has no sheet MICRO_ONLY, but Micro"):
        micro.read("samm", samm)
    (casme / "Cropped").rename(casme / "cropped_faces")
    with pytest.raises(BadInput, match="holds no folder Cropped or CASME_raw_selected"):
        micro.read("casme", casme)
    with pytest.raises(BadInput, match="holds no folder HS;"):
        micro.read("smic", smic, pictures="raw")
    for name in micro.RELEASES:
        with pytest.raises(BadInput, match="holds none of "):
            micro.read(name, tmp_path)
        with pytest.raises(BadInput, match="cannot be opened"):
            micro.read(name, tmp_path / "nowhere")
        with pytest.raises(BadInput, match="is not a folder"):
            micro.read(name, sheet)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("s01/micro/negative", "s01/micro/neutral", "neutral: is none of negative, positive, sur"),
        ("s01/micro/negative/s1_ne_01", "s01/micro/negative/s1_po_01", "like s1_ne_01"),
        ("s01/micro/negative/s1_ne_01", "s01/micro/negative/s2_ne_01", "not a clip of s01 named"),
        ("s14", "t14", "s14_po_01: is not a clip of t14"),
    ],
)
def test_smic_folders_that_contradict_each_other(smic, old, new, told):
    hs = smic / "SMIC_all_cropped/HS"
    (hs / old).rename(hs / new)
    assert told in fault("smic", smic)
    assert len(micro.read("smic", smic, strict=False)) == 2


def test_smic_gaps_and_single_frames(smic):
    folder = smic / "SMIC_all_cropped/HS/s01/micro/negative/s1_ne_01"
    (folder / "reg_image000103.bmp").unlink()
    assert "frame 103 is not there" in fault("smic", smic)
    for number in (102, 104, 105):
        (folder / f"reg_image{number:06d}.bmp").unlink()
    assert "s1_ne_01: runs from frame 101 to 101; a clip needs two" in fault("smic", smic)


# ---- patches -------------------------------------------------------------------------------------


def test_patches_go_by_subject_and_clip(casme2):
    rows = [*CASME2_ROWS]
    rows[1] = casme2_row(4, "EP12_01f", "/", 99, 99, "anger")
    rewrite(casme2, rows[::-1])  # another order changes nothing
    key = ("casme2", "04", "EP12_01f")
    patches = {
        key: {"onset": 10, "apex": None, "offset": 13, "label": "disgust"},
        ("samm", "006", "x"): {"onset": 1},  # of another data set
    }
    table = micro.read("casme2", casme2, patches=patches).table.set_index("clip")
    assert table.loc["EP12_01f", ["onset", "offset", "label"]].tolist() == [1, 4, "disgust"]
    assert pd.isna(table.loc["EP12_01f", "apex"])
    patches[key]["apex"] = 12
    assert micro.read("casme2", casme2, patches=patches).table["apex"][4] == 3
    with pytest.raises(BadInput, match=r"\('casme2', '4', 'EP12_01f'\): there is no such clip"):
        micro.read("casme2", casme2, patches=patches | {("casme2", "4", "EP12_01f"): {"onset": 1}})
    with pytest.raises(BadInput, match="changes onsett; use onset, apex, offset, label"):
        micro.read("casme2", casme2, patches={key: {"onsett": 1}})


def test_patches_of_smic(smic):
    patches = {("smic", "s01", "s1_ne_01"): {"onset": 102, "offset": 104, "apex": 103}}
    row = micro.read("smic", smic, patches=patches).table.iloc[0]
    assert row[["first", "onset", "apex", "offset"]].tolist() == [101, 1, 2, 3]


# ---- frames --------------------------------------------------------------------------------------


def test_load_frames_reads_by_number(casme, casme2):
    table = micro.read("casme", casme).table
    frames = load_frames(table.iloc[0])
    assert (frames.shape, frames.dtype) == ((19, 1, 6, 8), np.uint8)
    assert frames[:, 0, 2, 3].tolist() == list(range(73, 92))  # 100 sorts after 99
    assert load_frames(table.iloc[1])[:, 0, 0, 0].tolist() == [100, 101, 102, 103]
    row = micro.read("casme2", casme2).table.iloc[0]
    assert load_frames(row)[:, 0, 0, 0].tolist() == list(range(46, 87))
    (Path(row["path"]) / "img41.jpg").unlink()  # the numbers stay what they are
    (Path(row["path"]) / "img40.jpg").unlink()
    assert load_frames(row)[:, 0, 0, 0].tolist() == list(range(46, 87))


def test_load_frames_makes_grey(smic):
    row = micro.read("smic", smic).table.iloc[0]
    ramp = np.broadcast_to(np.arange(0, 256, 2, dtype=np.uint8), (64, 128))
    colours = np.full((64, 128, 3), (200, 0, 0), np.uint8)
    for number, picture in zip(range(101, 106), [ramp, colours, ramp, ramp, ramp], strict=True):
        Image.fromarray(picture).save(Path(row["path"]) / f"reg_image{number:06d}.bmp")
    frames = load_frames(row)
    np.testing.assert_array_equal(frames[0, 0], ramp)
    assert np.unique(frames[1]).tolist() == [60]  # 0.299 * 200


def test_load_frames_refuses(smic):
    row = micro.read("smic", smic).table.iloc[0]
    folder = Path(row["path"])
    picture = folder / "reg_image000103.bmp"
    good = picture.read_bytes()

    def refused(row, told):
        for load in (load_frames, check_sizes):
            with pytest.raises(BadInput, match=told):
                load(row)

    Image.new("L", (8, 7)).save(picture)
    refused(row, r"000103\.bmp: is 8x7, the clip's first frame 8x6")
    picture.write_bytes(b"no picture")
    refused(row, r"000103\.bmp: not an image, or damaged")
    picture.unlink()
    refused(row, "s1_ne_01: frame 103 is not there any more")
    picture.write_bytes(good)
    single = row.copy()
    single["offset"] = 0
    refused(single, r"is 1 frame\(s\) long; a clip needs two")
    single["offset"] = pd.NA
    refused(single, "has no onset and offset")
    refused(row.drop("first"), "has no onset and offset")
    for file in folder.iterdir():
        file.unlink()
    refused(row, "a folder without images")
    folder.rmdir()
    refused(row, "cannot be opened")
    folder.write_bytes(good)
    refused(row, "is not a folder")


# ---- labels --------------------------------------------------------------------------------------


OFFICIAL = {  # clips by the sheets' emotions
    "casme": {"disgust": 44, "sadness": 6, "fear": 2, "contempt": 1, "repression": 38}
    | {"tense": 69, "surprise": 20, "happiness": 9},
    "casme2": {"others": 99, "disgust": 63, "happiness": 32, "repression": 27, "surprise": 25}
    | {"sadness": 7, "fear": 2},
    "smic": {"negative": 70, "positive": 51, "surprise": 43},
    "samm": {"anger": 57, "other": 26, "happiness": 26, "surprise": 15, "contempt": 12}
    | {"disgust": 9, "fear": 8, "sadness": 6},
}


def official_table(dataset):
    labels = [emotion for emotion, n in OFFICIAL[dataset].items() for _ in range(n)]
    clips = [f"c{k}" for k in range(len(labels))]
    return pd.DataFrame({"dataset": dataset, "subject": "01", "clip": clips, "label": labels})


@pytest.mark.parametrize(("label_map", "dataset"), micro.OFFICIAL_COUNTS)
def test_maps_give_the_papers_counts(label_map, dataset):
    table = micro.relabel(official_table(dataset), label_map)
    counts = np.bincount(table["label"], minlength=len(micro.CLASSES[label_map]))
    assert tuple(counts) == micro.OFFICIAL_COUNTS[label_map, dataset]
    assert table["label"].dtype == np.int64
    totals = {"casme": 189, "casme2": 255, "smic": 164, "samm": 159}
    if label_map == "akm4":
        assert len(table) == totals[dataset]
    if label_map == "megc3":
        assert len(table) == {"casme2": 147, "smic": 164, "samm": 133}[dataset]


def test_maps_by_hand():
    def classes(label_map, dataset):
        table = micro.relabel(official_table(dataset), label_map)
        names = [micro.CLASSES[label_map][number] for number in table["label"]]
        return dict(zip(table["emotion"], names, strict=True))

    assert classes("akm4", "casme2")["repression"] == "others"
    assert classes("megc3", "casme2")["repression"] == "negative"
    assert classes("akm4", "casme")["tense"] == "others"
    assert "others" not in classes("megc3", "casme2")
    assert set(classes("casme2_5", "casme2")) == set(micro.CLASSES["casme2_5"])
    assert set(classes("samm_5", "samm")) == set(micro.CLASSES["samm_5"])
    for label_map, covered in micro.LABEL_MAPS.items():
        for dataset, known in covered.items():
            assert set(known) == set(OFFICIAL[dataset])  # every emotion is mapped or dropped
            assert set(known.values()) - {None} <= set(micro.CLASSES[label_map])


def test_relabel_refuses():
    with pytest.raises(BadInput, match="label map 'akm5': is unknown"):
        micro.relabel(official_table("casme"), "akm5")
    with pytest.raises(BadInput, match="label map megc3: does not cover casme; it is for casme2"):
        micro.relabel(official_table("casme"), "megc3")
    with pytest.raises(BadInput, match=r"clip 01/c0: np\.int64\(\d\)|clip 01/c0: \d"):
        micro.relabel(micro.relabel(official_table("samm"), "akm4"), "akm4")


# ---- protocol ------------------------------------------------------------------------------------


def test_composite_in_miniature(casme2, samm, smic):
    tables = [
        micro.read("smic", smic).table,
        micro.read("samm", samm).table,
        micro.read("casme2", casme2).table,
    ]
    table = micro.megc2019(*tables)
    assert table["dataset"].tolist() == ["casme2"] * 2 + ["smic"] * 3 + ["samm"] * 2
    assert table["clip"].tolist()[:2] == ["EP02_01f", "EP01_06"]  # others, fear, two omitted
    assert table["label"].tolist() == [1, 2, 0, 2, 1, 0, 1]
    people = micro.people(table)
    assert people[0] == "casme2/01"
    assert "samm/025" not in people  # vanished: only Other
    fold = splits.leave_one_out(people)
    assert sorted(set(fold)) == list(range(6))
    assert [people[k] for k in np.flatnonzero(fold == fold[2])] == ["smic/s01"] * 2
    check_clip_table(table)
    pd.testing.assert_frame_equal(table, micro.megc2019(pd.concat(tables[1:]), tables[0]))
    for wrong in (tables[:2], [*tables, tables[0]], []):
        with pytest.raises(BadInput, match="MEGC 2019 composite: is of casme2, smic, samm, not"):
            micro.megc2019(*wrong)


def test_composite_of_all_clips_has_442(casme2):
    tables = [official_table(name) for name in ("casme2", "smic", "samm")]
    table = micro.megc2019(*tables)
    assert len(table) == 444  # nobody here is called 04/EP12_01f
    negative = tables[0]["label"].isin(["disgust", "repression"])
    names = tables[0].index[negative][[3, 70]]
    tables[0].loc[names, "subject"] = ["04", "05"]
    tables[0].loc[names, "clip"] = ["EP12_01f", "EP09_05f"]
    table = micro.megc2019(*tables)
    assert len(table) == 442
    assert np.bincount(table["label"]).tolist() == [250, 109, 83]
    assert table["dataset"].value_counts().to_dict() == {"smic": 164, "casme2": 145, "samm": 133}


def test_people_of_two_data_sets_stay_apart():
    table = pd.concat([official_table("casme")[:1], official_table("casme2")[:1]])
    assert micro.people(table) == ["casme/01", "casme2/01"]


# ---- micromacro data check -----------------------------------------------------------------------


def checked(capsys, *words):
    status = cli.main(["data", "check", *map(str, words)])
    return status, capsys.readouterr().out.splitlines()


def test_data_check_of_sound_sets(casme, casme2, samm, smic, capsys):
    assert checked(capsys, "casme", casme) == (
        0,
        [
            f"casme in {casme}",
            "  cropped pictures: 4 clips listed, 4 read, 0 missing",
            "  2 subjects, 4 to 19 frames a clip",
            "  akm4: 1 positive, 1 negative, 1 surprise, 1 others (all clips: 9, 53, 20, 107)",
            "  0 wrong, 0 missing, 0 unlisted",
        ],
    )
    status, lines = checked(capsys, "casme2", casme2)
    assert status == 0
    assert lines[4] == "  megc3: 2 negative, 1 positive, 1 surprise (all clips: 90, 32, 25)"
    assert lines[6:] == [
        "  without a label, as is known, and left out: sub09/EP02_02f, sub24/EP02_07",
        "  0 wrong, 0 missing, 0 unlisted",
    ]
    assert checked(capsys, "samm", samm)[0] == 0
    assert checked(capsys, "smic", smic)[0] == 0


def test_data_check_names_what_is_not_right(casme2, capsys):
    rows = [*CASME2_ROWS]
    rows[0] = casme2_row("01", "EP02_01f", 46, 59, 121, "happiness")
    rows[3] = casme2_row("09", "EP02_03", 10, 15, 14, "fear")
    rewrite(casme2, rows)
    raw = casme2 / "CASME2_RAW_selected"
    (raw / "sub10").rename(raw / "sub11")
    Image.new("L", (9, 6)).save(raw / "sub05/EP09_05f/img12.jpg")
    status, lines = checked(capsys, "casme2", casme2)
    assert status == 1
    assert lines[1] == "  raw pictures: 6 clips listed, 4 read, 1 missing"
    assert lines[-6] == "  3 wrong, 1 missing, 1 unlisted"
    assert "EP02_01f: should hold frames 46 to 121, frame 121 is not there" in lines[-5]
    assert "row 5: apex 15 is outside frames 10 to 14" in lines[-4]
    assert lines[-3].startswith(f"wrong     {raw}/sub05/EP09_05f/img12.jpg: is 9x6, the clip's")
    assert lines[-2:] == ["missing   sub10/EP01_01", "unlisted  sub11/EP01_01"]
    rewrite(casme2, ())
    assert checked(capsys, "casme2", casme2)[0] == 1
    assert cli.main(["data", "check", "samm", str(casme2)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
