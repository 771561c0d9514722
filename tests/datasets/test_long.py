"""SAMM-LV, CAS(ME)^2 and MEGC 2022 in miniature: official layouts with the known traps planted."""

import long_miniatures as mini
import numpy as np
import pytest
import torch
from memory import traced
from micro_miniatures import write_pictures, write_xlsx
from refusals import refused

from micromacro import cli
from micromacro.datasets import long
from micromacro.video import write_video

NUMBERS = ["onset", "apex", "offset"]
READERS = {"samm-lv": long.samm_lv, "casme-squared": long.casme_squared}


@pytest.fixture
def samm(tmp_path):
    return mini.write_samm_lv(tmp_path / "samm-lv")


@pytest.fixture
def casme(tmp_path):
    return mini.write_casme_squared(tmp_path / "casme-squared")


def columns(table, **expected):
    for name, texts in expected.items():
        assert [str(value) for value in table[name]] == texts.split(), name


# ---- as released ---------------------------------------------------------------------------------


def test_samm_lv_as_released(samm):
    source = long.samm_lv(samm)
    assert " ".join(source.videos) == "dataset video subject n_frames fps path"
    columns(source.videos, video="006_1 006_2 012_4 020_6 037_4", n_frames="12 10 9 9 10")
    columns(source.videos, subject="006 006 012 020 037", fps="200.0 " * 5, dataset="samm-lv " * 5)
    assert " ".join(source.events) == "video subject label onset apex offset"
    columns(source.events, video="006_1 006_1 006_2 006_2 012_4 020_6 037_4 037_4")
    columns(source.events, label="macro micro macro micro macro macro macro macro")
    columns(source.events, onset="2 2 0 1 19 4 0 2", offset="8 5 5 4 29 39 9 5")
    columns(source.events, apex="4 3 2 -1 21 5 1 -1", subject="006 006 006 006 012 020 037 037")
    assert {*map(str, source.events.dtypes[NUMBERS])} == {"int64"}
    assert source.missing == source.unlisted == source.faults == ()
    assert (source.pictures, source.sheet) == ("SAMM_longvideos", "SAMM_LongVideos_V3_Release.xlsx")


def test_casme_squared_as_released(casme):
    source = long.casme_squared(casme)
    columns(source.videos, video="s15/0102 s15/0401 s40/0502 s40/0508", fps="30.0 " * 4)
    columns(source.videos, subject="s15 s15 s40 s40", n_frames="9 12 3 10")
    columns(source.events, video="s15/0401 s15/0401 s15/0102 s40/0508 s40/0508")
    columns(source.events, label="macro macro macro macro micro", onset="1 2 1 1 2")
    columns(source.events, apex="3 4 3 -1 3", offset="5 4 6 5 4")
    assert source.missing == source.unlisted == source.faults == ()


def test_tests_of_megc_2022_have_no_events(tmp_path):
    write_pictures(tmp_path / "SAMM_Test_cropped/002_4", range(1, 5), "002_4_{:05d}.jpg")
    write_pictures(tmp_path / "CAS_Test_cropped/sub01", range(1, 12), "img_{}.jpg")
    samm, cas = long.megc2022(tmp_path), long.megc2022(tmp_path, "cas")
    columns(samm.videos, video="002_4", subject="002", n_frames="4", fps="200.0")
    columns(cas.videos, video="sub01", subject="sub01", n_frames="11", dataset="megc2022-cas")
    assert (len(samm.events), {*map(str, samm.events.dtypes[NUMBERS])}) == (0, {"int64"})
    refused(lambda: long.megc2022(tmp_path, "casme"), "part 'casme'", "samm, cas")


# ---- what the sheets leave open ------------------------------------------------------------------


def test_each_convention_can_be_chosen(samm, casme):
    def changed(root, **options):
        """The events that an option changes, before and after."""
        tables = (READERS[root.name](root, **how).events for how in ({}, options))
        old, new = (t[["video", *NUMBERS]].astype(str).agg(" ".join, axis=1) for t in tables)
        return [*old[~old.isin(new)], *new[~new.isin(old)]]

    assert changed(samm, rounding="down") == ["006_1 2 4 8", "006_1 1 3 7"]
    assert changed(samm, onset_zero="dropped") == ["006_2 0 2 5"]
    assert changed(casme, offset_zero="mirrored") == ["s15/0401 2 4 4", "s15/0401 2 4 6"]
    assert changed(casme, apex_zero="unknown") == ["s15/0102 1 3 6", "s15/0102 1 -1 6"]
    as_they_are = long.samm_lv(samm, first=0, strict=False)  # an event ends after the last frame
    columns(as_they_are.events[:5], onset="3 3 0 2 20", apex="5 4 3 -1 22", offset="9 6 6 5 30")
    refused(lambda: long.samm_lv(samm, rounding="even"), "rounding 'even'", "half up, down")
    refused(lambda: long.samm_lv(samm, round="down"), "option 'round'", "rounding, onset_zero")
    mini.write_casme_sheet(casme, [(1, "anger1_1", 3, 10, 0, "macro")])
    inside = long.casme_squared(casme, offset_zero="mirrored").events
    columns(inside, onset="2", apex="9", offset="11")


def lengths(n, least, most, total):
    """So many whole numbers of this range and sum."""
    each, more = divmod(total - least - most, n - 2)
    return [least, most, *(each + (k < more) for k in range(n - 2))]


def gaps(source):
    """Of micro and macro: how many, and SOFTNet's k, floor((mean(offset - onset) + 1) / 2)."""
    spans = source.events["offset"] - source.events["onset"]
    per_class = [spans[source.events["label"] == label] for label in ("micro", "macro")]
    return [(len(n), int((n.mean() + 1) / 2)) for n in per_class]


def test_half_lengths_of_samm_lv_are_37_and_174(tmp_path, monkeypatch):
    """Fact sheet, 1.1 and 5: 159 micro of mean 74.3; of 343 macro 333 have mean 349, 10 onset 0."""
    monkeypatch.setattr(long, "_length", lambda path: 20_000)  # the sheet alone matters
    videos = [f"{6 + k % 30:03d}_{1 + k // 30}" for k in range(147)]
    for video in videos:
        (tmp_path / "SAMM_longvideos" / video).mkdir(parents=True)
    spans = [(100, 100 + n, mini.MICRO) for n in lengths(159, 29, 100, 11_657)]
    for k, n in enumerate(lengths(333, 101, 3935, 116_014)):  # 178 have a fraction
        spans.append((100 + 0.2 * (k < 178), 100 + 0.2 * (k < 178) + n, mini.MACRO))
    spans += [(0, n, mini.MACRO) for n in lengths(10, 300, 8000, 32_769)]
    rows = [(f"{videos[k % 147]}_{k}", a, -1, b, kind) for k, (a, b, kind) in enumerate(spans)]
    mini.write_samm_sheet(tmp_path, rows)
    assert gaps(long.samm_lv(tmp_path, onset_zero="dropped")) == [(159, 37), (333, 174)]
    assert gaps(long.samm_lv(tmp_path)) == [(159, 37), (343, 217)]


def test_half_lengths_of_casme_squared_are_6_and_18(tmp_path, monkeypatch):
    """Fact sheet, 1.1 and 5: 57 micro of mean 13.6, 300 macro of mean 36.4, 44 without offset."""
    monkeypatch.setattr(long, "_length", lambda path: 20_000)
    people = {k: 14 + k for k in range(1, 23)}
    for name in (f"s{n}/{n}_{code}film" for n in people.values() for code in mini.CODES):
        (tmp_path / "rawpic" / name).mkdir(parents=True)
    spans = [(50 + n, 50 + n, "micro") for n in lengths(57, 8, 16, 717)]
    spans += [(50 + n, 50 + n, "macro") for n in lengths(256, 9, 117, 10_011)]
    spans += [(50 + n, 0, "macro") for n in lengths(44, 3, 29, 622)]
    rows = [(1 + k % 22, f"{mini.FILMS[k % 9]}_{k}", 50, *span) for k, span in enumerate(spans)]
    mini.write_casme_sheet(tmp_path, rows, people)
    assert gaps(long.casme_squared(tmp_path)) == [(57, 6), (300, 18)]
    assert gaps(long.casme_squared(tmp_path, offset_zero="mirrored")) == [(57, 6), (300, 19)]


# ---- frames --------------------------------------------------------------------------------------


def test_a_video_comes_in_chunks_in_the_order_of_its_numbers(samm, casme):
    for source, video in ((long.samm_lv(samm), "006_1"), (long.casme_squared(casme), "s15/0401")):
        chunks = list(source.frames(video, chunk=5))
        assert [chunk.shape for chunk in chunks] == [(5, 1, 6, 8), (5, 1, 6, 8), (2, 1, 6, 8)]
        expected = (torch.arange(1.0, 13) / 255)[:, None, None, None].expand(12, 1, 6, 8)
        assert torch.equal(torch.cat(chunks), expected)
    (small,) = source.frames("s15/0401", size=3)
    assert small.shape == (12, 1, 3, 3)
    refused(lambda: next(source.frames("s15/0402")), "'s15/0402'", "s15/0401")


def test_cropped_faces_come_first_and_films_can_be_asked_for(casme):
    mini.write_casme_squared(casme, "longVideoFaceCropped", "img_{}.jpg")
    faces = long.casme_squared(casme)
    assert faces.pictures == "longVideoFaceCropped"
    assert torch.cat(list(faces.frames("s15/0401")))[1, 0, 0, 0] == 2 / 255  # img_2, not img_10
    film = casme / "rawvideo/s15/15_0401girl.mp4"
    film.parent.mkdir(parents=True)
    write_video(film, [np.full((16, 16), 10 * k, np.uint8) for k in range(12)])
    film.rename(film.with_suffix(".avi"))
    films = long.casme_squared(casme, pictures="rawvideo", strict=False)
    columns(films.videos, video="s15/0401", n_frames="12")
    columns(films.events, onset="1 2", offset="5 4")
    shown = torch.cat(list(films.frames("s15/0401", chunk=4)))[:, 0, 8, 8]
    assert (shown * 255 - 10 * torch.arange(12)).abs().max() < 2
    films.videos["n_frames"] = 11  # as a wrong header has it
    refused(lambda: [*films.frames("s15/0401")], "0401girl.avi", "12 frames, not 11", "copy")


def test_a_long_video_takes_no_more_memory_than_a_short_one(tmp_path):
    def peak(n_frames):
        folder = tmp_path / f"{n_frames}/SAMM_Test_cropped/002_4"
        write_pictures(folder, range(1, n_frames + 1), "{:05d}.png", (400, 300))
        source = long.megc2022(folder.parents[1])
        used = []
        for _ in range(3):  # the smallest, as other threads of this process allocate when they like
            with traced() as memory:
                frames = source.frames("002_4", chunk=8, size=32)
                assert sum(len(part) for part in frames) == n_frames
            used.append(memory.peak)
        return min(used)

    assert peak(160) < 1.5 * peak(16) < 2e6


# ---- bad input -----------------------------------------------------------------------------------

BAD_ROWS = (  # in place of the sheet's second, which is row 12 of the file; what is named
    ("x", 4, 6, mini.MICRO, "Onset 'x'"),
    (3, 4, None, mini.MICRO, "Offset ''"),
    (-3, 4, 6, mini.MICRO, "Onset '-3'"),
    (7, 7, 6, mini.MICRO, "Offset '6'"),
    (7, 7, 13, mini.MICRO, "006_1, which has 12 frames"),
    (3, 4, 6, "micro", "Type 'micro'"),
)


@pytest.mark.parametrize("row", BAD_ROWS)
def test_a_bad_row_is_named_and_left_out(samm, row):
    rows = (mini.SAMM_ROWS[0], ("006_1_2", *row[:-1]), *mini.SAMM_ROWS[2:])
    mini.write_samm_sheet(samm, rows)
    refused(lambda: long.samm_lv(samm), samm, "Release.xlsx, row 12", row[-1], "restore")
    source = long.samm_lv(samm, strict=False)
    assert (len(source.events), len(source.faults)) == (7, 1)


def test_pictures_that_are_not_1_2_3_are_refused(samm):
    folder = samm / "SAMM_longvideos/006_2"
    for old, new, words in (
        ("006_2_0001.jpg", "006_2_0000.jpg", "006_2_0000.jpg: stands where frame 1 "),
        ("006_2_0004.jpg", "006_2_0004.txt", "006_2_0005.jpg: stands where frame 4 "),
        ("006_2_0004.jpg", "cover.jpg", "stands where frame "),
    ):
        (folder / old).rename(folder / new)
        refused(lambda: long.samm_lv(samm), folder, words, "restore the official pictures")
        source = long.samm_lv(samm, strict=False)
        assert "006_2" not in {*source.videos["video"], *source.events["video"]}
        assert (len(source.faults), source.missing) == (1, ())
        (folder / new).rename(folder / old)


def test_what_is_not_there_is_named(samm, casme):
    (samm / "SAMM_longvideos/006_1").rename(samm / "SAMM_longvideos/six")
    name = "SAMM_longvideos/006_1"
    refused(lambda: long.samm_lv(samm), f"{samm / name}: has events, but", "strict=False")
    source = long.samm_lv(samm, strict=False)
    assert (source.missing, source.unlisted) == ((name,), ("SAMM_longvideos/six",))
    assert (len(source.events), source.faults) == (6, ())
    refused(lambda: long.samm_lv(samm, pictures="faces"), samm, "holds none of faces")
    mini.write_casme_sheet(casme, [(1, "joy1_1", 1, 2, 3, "macro")])
    refused(lambda: long.casme_squared(casme), "rawpic/s15/joy1: has events")
    write_pictures(casme / "rawpic/s15/15_0401and", [1], "img_{}.jpg")
    refused(lambda: long.casme_squared(casme), "0401girl: is a second one of video s15/0401")
    columns(long.casme_squared(casme, strict=False).videos, n_frames="9 1 3 10")  # the first


def test_what_is_no_official_workbook_is_refused(samm, casme):
    sheet, book = samm / "SAMM_LongVideos_V3_Release.xlsx", casme / "CAS(ME)^2code_final.xlsx"
    write_xlsx(sheet, [mini.SAMM_TITLES], "FACS_Movement_Only")
    refused(lambda: long.samm_lv(samm), sheet, "row 10 should be the header")
    write_xlsx(book, [(1, "anger1_1")], "CASFEcode_final", ("naming rule1", "naming rule2"))
    refused(lambda: long.casme_squared(casme), "rawpic/1/anger1: has events")
    write_xlsx(book, [(1, "anger1_1")], "CASFEcode_final")
    refused(lambda: long.casme_squared(casme), book, "has no sheet naming rule1")
    book.write_bytes(b"PK")
    refused(lambda: long.casme_squared(casme), book, "spreadsheet")


def test_data_check_counts_and_names(samm, casme, capsys):
    def check(name, root, status, *told):
        assert cli.main(["data", "check", name, str(root)]) == status
        output = capsys.readouterr().out
        assert [words for words in told if words not in output] == []

    told = ("V3_Release.xlsx: 5 videos of 4 people, 2 micro, 6 macro, 50 frames", "343 macro")
    check("samm-lv", samm, 1, *told, "2 events without an apex", "1 wrong, 0 missing, 0 unlisted")
    write_pictures(casme / "rawpic/s40/40_0502err", [2], "img{:03d}.jpg", (4, 4))
    told = ("1 videos without an event", "1 wrong", "img002.jpg: is 4x4, the clip's first")
    check("casme-squared", casme, 1, *told)
    check("megc2022-cas", casme, 2)
