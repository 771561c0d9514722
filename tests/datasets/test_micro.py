"""CASME, CASME II, SAMM and SMIC-HS in miniature: official layouts with the known traps planted."""

import re
import shutil
from functools import partial
from pathlib import Path

import micro_miniatures as mini
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from refusals import refused

from micromacro import cli
from micromacro.datasets import micro
from micromacro.datasets.frames import check_sizes, load_frames
from micromacro.datasets.table import CLIP_TABLE_COLUMNS, check_clip_table
from micromacro.errors import BadInput

CASME_ROWS = (
    mini.casme_row("01", "EP01_12", 73, 81, 91, "tense"),
    mini.casme_row("01", "EP03_2", 100, "\\", 103, "disgust", au="4+9"),
    mini.casme_row(1, "EP04_5", 7, 9, 12, "happiness", au=None),
    mini.casme_row(10, "EP01_12", 5, 6, 8, "surprise", apex2=7),
    (None,) * 12,
    (None, '"amusement" is renamed happiness', *(None,) * 10),
)
CASME2_ROWS = (
    mini.casme2_row("01", "EP02_01f", 46, 59, 86, "happiness"),
    mini.casme2_row(4, "EP12_01f", 10, "/", 14, "disgust", au="4?"),
    mini.casme2_row("05", "EP09_05f", 10, 11, 14, "repression", au=17),
    mini.casme2_row("09", "EP02_03", 10, 11, 14, "fear"),
    mini.casme2_row("10", "EP01_01", 10, 11, 14, "others"),
    mini.casme2_row("17", "EP01_06", 1, 2, 3, "surprise"),
)
SAMM_ROWS = (
    mini.samm_row("006", "006_1_2", 5562, 5565, 5570, "Anger", au="4B + (R12 or R15)"),
    mini.samm_row(13, "013_1_12", 98, 100, 103, "Happiness"),
    mini.samm_row("025", "025_3_1", 98, 100, 103, "Other"),
)


@pytest.fixture
def casme(tmp_path):
    root = tmp_path / "casme"
    cropped = root / "Cropped"
    mini.write_pictures(cropped / "sub01/EP01_12", range(73, 92), "reg_EP01_12-{}.jpg")
    for clip, numbers in (
        ("sub01/EP03_2", range(95, 110)),
        ("sub01/EP04_5", range(7, 13)),
        ("sub10/EP01_12", range(5, 9)),
    ):
        mini.write_pictures(cropped / clip, numbers, f"reg_{clip[6:]}-{{:03d}}.jpg")
    mini.write_xls(root / "CASME-coded-20190721.xls", (mini.CASME_TITLES, *CASME_ROWS))
    strays = ["Thumbs.db", ".DS_Store", "._reg_EP01_12-75.jpg", "cover.jpg", "a75.txt"]
    for name in (*(f"sub01/EP01_12/{s}" for s in strays), "Thumbs.db", "sub01/Thumbs.db"):
        (cropped / name).write_bytes(b"stray")
    (cropped / "sub01/.thumbnails").mkdir()
    return root


@pytest.fixture
def casme2(tmp_path):
    raw = tmp_path / "casme2/CASME2_RAW_selected"
    mini.write_pictures(raw / "sub01/EP02_01f", range(40, 121), "img{}.jpg")
    for clip in ("sub04/EP12_01f", "sub05/EP09_05f", "sub09/EP02_03", "sub10/EP01_01"):
        mini.write_pictures(raw / clip, range(9, 15), "img{}.jpg")
    mini.write_pictures(raw / "sub17/EP01_06", range(4), "img{}.jpg")  # from 0 on
    for clip in micro.UNLABELLED["casme2"]:
        mini.write_pictures(raw / clip, range(1, 4), "img{}.jpg")
    rewrite(raw.parent, CASME2_ROWS)
    return raw.parent


@pytest.fixture
def samm(tmp_path):
    root = tmp_path / "samm"
    mini.write_pictures(root / "SAMM/006/006_1_2", range(5562, 5571), "006_{:05d}.jpg")
    mini.write_pictures(root / "SAMM/013/013_1_12", range(98, 104), "13-{}.jpg")  # malformed
    mini.write_pictures(root / "SAMM/025/025_3_1", range(98, 104), "025_{:05d}.jpg")
    sheet = (*mini.SAMM_HEAD, mini.SAMM_TITLES, *SAMM_ROWS)
    path = root / "SAMM_Micro_FACS_Codes_v2.xlsx"
    mini.write_xlsx(path, sheet, "MICRO_ONLY", before=("FULL",))
    return root


@pytest.fixture
def smic(tmp_path):
    root = tmp_path / "smic"
    hs = root / "SMIC_all_cropped/HS"
    mini.write_pictures(hs / "s01/micro/negative/s1_ne_01", range(101, 106), "reg_image{:06d}.bmp")
    mini.write_pictures(hs / "s01/micro/surprise/s1_sur_02", range(9, 12), "reg_image{:06d}.bmp")
    mini.write_pictures(hs / "s14/micro/positive/s14_po_01", range(3), "image{:06d}.bmp")
    mini.write_pictures(hs / "s14/non_micro/s14_non_01", range(3), "image{:06d}.bmp")
    (hs / "s14/micro/positive/Thumbs.db").write_bytes(b"stray")
    return root


def fault(dataset, root, told, **options):
    """The one fault of a strict reader, which the lenient one lists too, holds a text."""
    (listed,) = micro.read(dataset, root, strict=False, **options).faults
    assert told in str(listed)
    with pytest.raises(BadInput, match=f"^{re.escape(str(listed))}$"):
        micro.read(dataset, root, **options)


def columns(table, **expected):
    """Assert what columns hold, as texts; - is a missing value."""
    for name, texts in expected.items():
        values = ["-" if pd.isna(value) else str(value) for value in table[name]]
        assert values == texts.split(), name


def rewrite(root, rows):
    mini.write_xlsx(root / "CASME2-coding-20140508.xlsx", (mini.CASME2_TITLES, *rows))


# ---- as released ---------------------------------------------------------------------------------


RELEASED = {  # columns of the table
    "casme": {"subject": "01 01 01 10", "clip": "EP01_12 EP03_2 EP04_5 EP01_12"}
    | {"label": "tense disgust happiness surprise", "au": "4 4+9 - 4", "first": "73 95 7 5"}
    | {"onset": "0 5 0 0", "offset": "18 8 5 3", "apex": "8 - 2 1", "n_frames": "19 15 6 4"}
    | {"fps": "60.0 60.0 60.0 60.0", "dataset": "casme casme casme casme"},
    "casme2": {"subject": "01 04 05 09 10 17", "first": "40 9 9 9 9 0"}
    | {"onset": "6 1 1 1 1 1", "offset": "46 5 5 5 5 3", "apex": "19 - 2 2 2 2"}
    | {"n_frames": "81 6 6 6 6 4", "au": "4+L10 4? 17 4+L10 4+L10 4+L10"}
    | {"fps": " ".join(["200.0"] * 6)},
    "samm": {"subject": "006 013 025", "label": "anger happiness other", "first": "5562 98 98"}
    | {"onset": "0 0 0", "apex": "3 2 2", "offset": "8 5 5", "fps": "200.0 200.0 200.0"},
    "smic": {"subject": "s01 s01 s14", "clip": "s1_ne_01 s1_sur_02 s14_po_01"}
    | {"label": "negative surprise positive", "first": "101 9 0", "fps": "100.0 100.0 100.0"}
    | {"onset": "0 0 0", "apex": "- - -", "offset": "4 2 2"},
}


@pytest.mark.parametrize("dataset", RELEASED)
def test_as_released(dataset, request):
    clips = micro.read(dataset, request.getfixturevalue(dataset))
    table = clips.table
    assert list(table.columns) == [*CLIP_TABLE_COLUMNS, "first"]
    pd.testing.assert_frame_equal(check_clip_table(table), table)
    columns(table, **RELEASED[dataset])
    assert clips.listed == {"": len(clips)}
    assert clips.missing == clips.faults == ()
    assert clips.unlisted == micro.UNLABELLED.get(dataset, ())
    assert clips.pictures == ("cropped" if dataset in ("casme", "smic") else "raw")
    if dataset == "casme":  # the released example: 73 to 91 are 19 frames, of class 3
        assert micro.relabel(table, "akm4")["label"].tolist() == [3, 1, 0, 2]
    if dataset == "samm":
        assert table["au"][0] == "4B + (R12 or R15)"
        assert load_frames(table.iloc[1])[:, 0, 0, 0].tolist() == list(range(98, 104))


def test_cropped_comes_first_and_either_can_be_asked_for(casme2):
    cropped = casme2 / "Cropped/sub01/EP02_01f"
    mini.write_pictures(cropped, range(46, 87), "reg_img{}.jpg", (4, 4))
    either = micro.read("casme2", casme2, strict=False)
    raw = micro.read("casme2", casme2, pictures="raw")
    assert (either.pictures, raw.pictures) == ("cropped", "raw")
    row = either.table.iloc[0]
    assert row[["first", "onset", "offset", "n_frames"]].tolist() == [46, 0, 40, 41]
    assert load_frames(row).shape == (41, 1, 4, 4)
    assert load_frames(raw.table.iloc[0]).shape == (41, 1, 6, 8)
    refused(lambda: micro.read("casme2", casme2, pictures="crop"), "'crop': is unknown")


# ---- what is wrong -------------------------------------------------------------------------------


WRONG_ROWS = r"""
01|EP02_01f|50|50|60|fear|row 3: subject 01, clip EP02_01f is al
sub01|EP1|1|2|3|fear|row 3: subject 'sub01' is not a number
04|../a|1|2|3|fear|row 3: file name '../a' is not a plain name
04||1|2|3|fear|row 3: file name '' is not a plain name
04|EP12_01f|/|2|3|fear|row 3: OnsetFrame is missing
04|EP12_01f|10|12||fear|row 3: OffsetFrame is missing
04|EP12_01f|10|\|14|fear|ApexFrame is '\\', not a frame n
04|EP12_01f|1_0|12|14|fear|OnsetFrame is '1_0', not a frame n
04|EP12_01f|10|12|14|anger|row 3: emotion 'anger' is none of happiness
04|EP12_01f|12|12|12|fear|EP12_01f: runs from frame 12 to 12;
04|EP12_01f|8|12|15|fear|8 to 15, frame 8 and 1 more are not there (the folder holds 9 to 14)
"""


@pytest.mark.parametrize("line", WRONG_ROWS.strip().splitlines())
def test_a_wrong_row_is_named_and_left_out(casme2, line):
    subject, clip, *frames, emotion, told = line.split("|")
    cells = (int(text) if text.isdigit() else text or None for text in frames)
    row = mini.casme2_row(subject, clip or None, *cells, emotion)
    rewrite(casme2, (CASME2_ROWS[0], row, *CASME2_ROWS[2:]))
    fault("casme2", casme2, told)
    lenient = micro.read("casme2", casme2, strict=False)
    assert lenient.table["clip"].tolist() == [row[1] for row in (CASME2_ROWS[0], *CASME2_ROWS[2:])]
    assert lenient.listed == {"": 6}
    named = clip == "EP12_01f"  # else nobody knows whose row it was
    assert ("sub04/EP12_01f" in lenient.unlisted) != named


@pytest.mark.parametrize(("apex", "known"), [(9, None), (15, None), (10, 1), (14, 5)])
def test_a_wrong_apex_costs_the_apex_only(casme2, apex, known):
    rewrite(casme2, (mini.casme2_row("05", "EP09_05f", 10, apex, 14, "fear"),))
    if known is None:
        fault("casme2", casme2, f"row 2: apex {apex} is outside frames 10 to 14;")
    table = micro.read("casme2", casme2, strict=known is not None).table
    columns(table, onset="1", offset="5", apex="-" if known is None else str(known))


def test_a_gap_a_number_twice_and_an_empty_folder_are_named(casme2):
    raw = casme2 / "CASME2_RAW_selected"
    (raw / "sub01/EP02_01f/img45.jpg").unlink()
    assert len(micro.read("casme2", casme2)) == 6  # not between onset and offset
    (raw / "sub01/EP02_01f/img60.jpg").unlink()
    fault("casme2", casme2, "EP02_01f: should hold frames 46 to 86, frame 60 is not")
    mini.write_pictures(raw / "sub01/EP02_01f", [60], "img{}.jpg")
    folder = raw / "sub05/EP09_05f"
    mini.write_pictures(folder, [12], "img{:03d}.png")
    fault("casme2", casme2, "has the same frame number as img")
    for file in folder.iterdir():
        file.unlink()
    fault("casme2", casme2, "EP09_05f: a folder without images")
    mini.write_pictures(folder, [0], "cover.png")
    fault("casme2", casme2, "no picture named by its frame number")


def test_a_strict_reader_counts_what_is_missing(casme2):
    for folder in ("sub05", "sub10/EP01_01"):
        (casme2 / "CASME2_RAW_selected" / folder).rename(casme2 / folder[:5])
    told = "sub05/EP09_05f: listed but not there (and 1 more)"
    refused(lambda: micro.read("casme2", casme2), told)


def test_wrong_files_are_named(casme2, samm, casme, smic):
    def named(told, dataset="casme2", root=casme2, **options):
        refused(lambda: micro.read(dataset, root, **options), told)

    sheet = casme2 / "CASME2-coding-20140508.xlsx"
    for content in (b"Subject,Filename\n", sheet.read_bytes()[:500]):
        sheet.write_bytes(content)
        named(f"{sheet}: cannot be read as a spreadsheet")
    titles = [title and title.replace("Frame", "F") for title in mini.CASME2_TITLES]
    mini.write_xlsx(sheet, (titles, *CASME2_ROWS))
    named(f"{sheet}: row 1 should be the header, but lacks OnsetFrame, ApexF")
    mini.write_xlsx(sheet, ())
    named("row 1 should be the header")
    sheet = samm / "SAMM_Micro_FACS_Codes_v2.xlsx"
    for tab, told in (("MICRO_ONLY", "row 14 should"), ("Micro", "has no sheet MICRO_ONLY, but")):
        mini.write_xlsx(sheet, (mini.SAMM_TITLES, *SAMM_ROWS), tab)
        named(told, "samm", samm)
    (casme / "Cropped").rename(casme / "cropped_faces")
    named("holds no folder Cropped or CASME_raw_selected", "casme", casme)
    named("holds no folder HS;", "smic", smic, pictures="raw")


NEGATIVE = "s01/micro/negative"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (NEGATIVE, "s01/micro/neutral", "neutral: is none of negative, positive, sur"),
        (f"{NEGATIVE}/s1_ne_01", f"{NEGATIVE}/s1_po_01", "like s1_ne_01"),
        (f"{NEGATIVE}/s1_ne_01", f"{NEGATIVE}/s2_ne_01", "not a clip of s01 named"),
        ("s14", "t14", "s14_po_01: is not a clip of t14"),
        (f"{NEGATIVE}/s1_ne_01/reg_image000103.bmp", "a.bmp", "frame 103 is not there"),
    ],
)
def test_smic_folders_that_contradict_each_other(smic, old, new, told):
    hs = smic / "SMIC_all_cropped/HS"
    (hs / old).rename(hs / new)
    fault("smic", smic, told)
    assert len(micro.read("smic", smic, strict=False)) == 2


# ---- one person has one name ---------------------------------------------------------------------


def test_subjects_are_numbers_however_they_are_written(casme2, smic):
    rows = [
        mini.casme2_row(s, c, 10, 11, 14, "fear") for s, c in (("001", "a"), (1, "b"), ("1", "c"))
    ]
    for row in rows:
        mini.write_pictures(
            casme2 / f"CASME2_RAW_selected/sub01/{row[1]}", range(9, 15), "img{}.jpg"
        )
    rewrite(casme2, rows)
    columns(micro.read("casme2", casme2, strict=False).table, subject="01 01 01")
    hs = smic / "SMIC_all_cropped/HS"
    (hs / "s01/micro/surprise").rename(hs / "away")
    (hs / "s1/micro").mkdir(parents=True)
    (hs / "away").rename(hs / "s1/micro/surprise")
    columns(micro.read("smic", smic).table, subject="s01 s01 s14")
    (hs / "s1/micro/negative").mkdir()
    shutil.copytree(hs / "s01/micro/negative/s1_ne_01", hs / "s1/micro/negative/s1_ne_01")
    fault("smic", smic, "s1_ne_01: subject s01, clip s1_ne_01 is also that of")


# ---- patches -------------------------------------------------------------------------------------


def test_patches_go_by_subject_and_clip(casme2, smic):
    rows = [*CASME2_ROWS]
    rows[1] = mini.casme2_row(4, "EP12_01f", "/", 99, 99, "anger")
    rewrite(casme2, rows[::-1])  # another order changes nothing
    read = partial(micro.read, "casme2", casme2)
    key, nobody = ("casme2", "04", "EP12_01f"), ("casme2", "4", "EP12_01f")
    for apex, position in ((None, pd.NA), (12, 3)):
        patches = {key: {"onset": 10, "apex": apex, "offset": 13, "label": "disgust"}}
        patches |= {("samm", "006", "x"): {"onset": 1}}  # of another data set
        row = read(patches=patches).table.set_index("clip").loc["EP12_01f"]
        assert row[["onset", "apex", "offset", "label"]].tolist() == [1, position, 4, "disgust"]
    wrong = {"patches": patches | {nobody: {"onset": 1}}}
    refused(partial(read, **wrong), f"{nobody}: there is no such clip")
    wrong = {"patches": {key: {"onsett": 1}}}
    refused(partial(read, **wrong), "onsett; use onset, apex, offset, label")
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
    for number in (None, 41, 40):  # the numbers stay what they are
        if number:
            (Path(row["path"]) / f"img{number}.jpg").unlink()
        assert load_frames(row)[:, 0, 0, 0].tolist() == list(range(46, 87))


def test_load_frames_refuses(smic):
    row = micro.read("smic", smic).table.iloc[0]
    folder = Path(row["path"])
    picture = folder / "reg_image000103.bmp"
    good = picture.read_bytes()

    def named(told, row=row):
        for load in (load_frames, check_sizes):
            refused(partial(load, row), told)

    Image.new("L", (8, 7)).save(picture)
    named("000103.bmp: is 8x7, the clip's first frame 8x6")
    picture.write_bytes(b"no picture")
    named("not an image")
    side = (60_000).to_bytes(4, "little")  # a damaged header: 3.6 billion pixels
    picture.write_bytes(b"BM" + good[2:18] + 2 * side + good[26:])
    named("000103.bmp")
    picture.unlink()
    named("s1_ne_01: frame 103 is not there any more")
    picture.write_bytes(good)
    for offset, told in ((0, "is 1 frame(s) long; a clip needs"), (pd.NA, "no onset and offset")):
        named(told, pd.Series(row.to_dict() | {"offset": offset}))
    named("has no onset and offset", row.drop("first"))
    row["path"] = str(picture)
    named("000103.bmp: is not a folder")


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


def test_maps_by_hand():
    words = {  # emotion of the sheet, and its class
        ("akm4", "casme2"): ("repression", "others"),
        ("megc3", "casme2"): ("repression", "negative"),
        ("akm4", "casme"): ("tense", "others"),
    }
    for (label_map, dataset), (emotion, name) in words.items():
        table = micro.relabel(official_table(dataset), label_map)
        numbers = table.loc[table["emotion"] == emotion, "label"]
        assert {micro.CLASSES[label_map][number] for number in numbers} == {name}
    for covered in micro.LABEL_MAPS.values():
        for dataset, known in covered.items():
            assert set(known) == set(OFFICIAL[dataset])  # every emotion is mapped or dropped


@pytest.mark.parametrize(
    ("labels", "label_map", "told"),
    [
        ("casme", "akm5", "label map 'akm5': is unknown"),
        ("casme", "megc3", "label map megc3: does not cover casme; it is for casme2"),
        ("samm", "akm4", "clip 01/c0: "),
    ],
)
def test_relabel_refuses(labels, label_map, told):
    table = official_table(labels)
    if labels == "samm":  # classes already
        table = micro.relabel(table, label_map)
    refused(lambda: micro.relabel(table, label_map), told)


# ---- protocol ------------------------------------------------------------------------------------


def test_composite_in_miniature(casme2, samm, smic):
    roots = {"smic": smic, "samm": samm, "casme2": casme2}
    tables = [micro.read(name, root).table for name, root in roots.items()]
    table = micro.megc2019(*tables)
    columns(table, dataset="casme2 casme2 smic smic smic samm samm", label="1 2 0 2 1 0 1")
    assert table["clip"].tolist()[:2] == ["EP02_01f", "EP01_06"]  # others, fear, two omitted
    people = micro.people(table)
    assert people[0] == "casme2/01"
    assert "samm/025" not in people  # vanished: only Other
    assert len({*people}) == 6
    pd.testing.assert_frame_equal(table, micro.megc2019(pd.concat(tables[1:]), tables[0]))
    for wrong in (tables[:2], [*tables, tables[0]], []):
        refused(lambda wrong=wrong: micro.megc2019(*wrong), "is of casme2, smic, samm, not")


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


# ---- micromacro data check -----------------------------------------------------------------------


def checked(capsys, *words):
    status = cli.main(["data", "check", *map(str, words)])
    return status, capsys.readouterr().out.splitlines()


def test_data_check(casme, casme2, samm, smic, capsys):
    expected = f"""casme in {casme}
  cropped pictures: 4 clips listed, 4 read, 0 missing
  2 subjects, 4 to 19 frames a clip
  akm4: 1 positive, 1 negative, 1 surprise, 1 others (all clips: 9, 53, 20, 107)
  1 wrong, 0 missing, 0 unlisted"""
    status, lines = checked(capsys, "casme", casme)
    assert (status, lines[:-1]) == (1, expected.splitlines())
    assert lines[-1].startswith(f"wrong     {casme}: counts are not those of the official data")
    status, lines = checked(capsys, "casme2", casme2)
    assert (status, len(lines)) == (1, 9)
    assert lines[4] == "  megc3: 2 negative, 1 positive, 1 surprise (all clips: 90, 32, 25)"
    assert lines[6].endswith("is known, and left out: sub09/EP02_02f, sub24/EP02_07")
    assert lines[7] == "  1 wrong, 0 missing, 0 unlisted"
    for name, root in (("samm", samm), ("smic", smic)):
        assert checked(capsys, name, root)[1][-2] == "  1 wrong, 0 missing, 0 unlisted"


def test_data_check_names_what_is_not_right(casme2, capsys):
    raw = casme2 / "CASME2_RAW_selected"
    rewrite(casme2, (*CASME2_ROWS, mini.casme2_row("09", "EP02_02f", 1, 4, 3, "fear")))
    (raw / "sub10").rename(raw / "sub11")
    Image.new("L", (9, 6)).save(raw / "sub05/EP09_05f/img12.jpg")
    status, lines = checked(capsys, "casme2", casme2)
    assert (status, lines[1]) == (1, "  raw pictures: 7 clips listed, 6 read, 1 missing")
    assert lines[-5] == "  2 wrong, 1 missing, 1 unlisted"
    assert "row 8: apex 4 is outside frames 1 to 3" in lines[-4]
    assert f"wrong     {raw}/sub05/EP09_05f/img12.jpg: is 9x6, the clip's" in lines[-3]
    assert lines[-2:] == ["missing   sub10/EP01_01", "unlisted  sub11/EP01_01"]
    rewrite(casme2, ())
    assert checked(capsys, "casme2", casme2)[0] == 1
