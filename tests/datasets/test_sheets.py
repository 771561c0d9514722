"""Official sheets as users have them: other versions, stray cells, numbers and names beyond all
measure."""

import contextlib
import io
import zipfile
from functools import partial
from time import perf_counter

import affect_miniatures
import long_miniatures
import micro_miniatures as mini
import numpy as np
import openpyxl
import pandas as pd
import pytest
from memory import traced
from PIL import Image
from refusals import refused

from micromacro import cli
from micromacro.datasets import affect, frames, long, micro
from micromacro.datasets.table import MOST_BYTES, MOST_COLUMNS, sheet_rows
from micromacro.errors import BadInput
from micromacro.systems.akmnet import inputs as akmnet
from micromacro.systems.spotting import experiment as spotting

V1, V2 = (f"SAMM_LongVideos_V{k}_Release.xlsx" for k in (1, 2))
READERS = {
    "casme": partial(micro.read, "casme"),
    "casme2": partial(micro.read, "casme2"),
    "samm": partial(micro.read, "samm"),
    "samm-lv": long.samm_lv,
    "casme-squared": long.casme_squared,
}
OTHER_SHEETS = [
    ("casme2", "CASME2-coding-20190701.xlsx"),
    ("samm-lv", V1),
    ("samm-lv", V2),
    ("casme-squared", "code_final.xlsx"),
    ("casme-squared", "CAS(ME)^2code_final(Updated).xlsx"),
]


@pytest.fixture
def root(tmp_path):
    """Writes a data set's miniature; gives its root."""

    def write(dataset):
        if dataset in ("samm-lv", "casme-squared"):
            name = f"write_{dataset.replace('-', '_')}"
            return getattr(long_miniatures, name)(tmp_path / dataset)
        mini.write_dataset(dataset, tmp_path / dataset)
        return tmp_path / dataset

    return write


def the_sheet(root):
    (sheet,) = (f for f in root.iterdir() if f.suffix.startswith(".xls"))
    return sheet


# ---- which sheet ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("dataset", "name"), OTHER_SHEETS)
def test_another_sheet_is_read_only_where_it_is_asked_for(root, capsys, dataset, name):
    folder, read = root(dataset), READERS[dataset]
    pinned = the_sheet(folder)
    (folder / name).write_bytes(pinned.read_bytes())
    assert read(folder).faults == read(folder, sheet=name).faults == ()
    pinned.unlink()
    refused(lambda: read(folder), folder / name, pinned.name, "sheet=")
    assert [str(fault) for fault in read(folder, strict=False).faults]
    assert read(folder, sheet=name).faults == ()
    refused(lambda: read(folder, sheet=pinned.name), folder, pinned.name)
    assert cli.main(["data", "check", dataset, str(folder)]) == 1
    assert f"wrong     {folder / name}" in capsys.readouterr().out


@pytest.mark.parametrize("strict", [True, False])
def test_protocols_take_no_other_sheet(root, tmp_path, strict):
    for dataset in ("smic", "samm"):
        root(dataset)
    folder = root("casme2")
    the_sheet(folder).rename(folder / "CASME2-coding-20190701.xlsx")
    for dataset, place in (("casme2", folder), ("megc2019", tmp_path)):
        how = {"cache": str(tmp_path / "cache"), "strict": strict}
        refused(partial(micro.read_classes, dataset, place, strict=strict), "20140508.xlsx")
        refused(partial(akmnet.official, dataset, place, **how), "20140508.xlsx")
    folder = root("samm-lv")
    the_sheet(folder).rename(folder / V2)
    how = {"cache": str(tmp_path / "cache"), "pictures": "SAMM_longvideos"}
    refused(lambda: spotting.official("samm-lv", folder, **how), V2, "V3_Release.xlsx", "sheet=")
    assert len(spotting.official("samm-lv", folder, sheet=V2, **how).events) == 8


def test_labels_of_aff_wild2_are_of_one_split(tmp_path):
    """Challenges have had other splits: what one trains on is what another validates on."""
    first = tmp_path / "annotations/VA_Estimation_Challenge"
    for place in (first / "Train_Set", first / "Validation_Set", tmp_path / "annotations/VA_Set"):
        place.mkdir(parents=True)
    for name in ("Train_Set/a.txt", "Validation_Set/b.txt"):
        (first / name).write_text("valence,arousal\n0.5,0.25\n")
    assert affect.read_affwild2(tmp_path).listed == {"train": 1, "validation": 1}
    for other in ("VA_Set/Training_Set/a.txt", "VA_Set/Validation_Set/a.txt"):
        file = tmp_path / "annotations" / other
        file.parent.mkdir(exist_ok=True)
        file.write_text("valence,arousal\n-0.5,0.25\n")
        refused(lambda: affect.read_affwild2(tmp_path), file, "Train_Set/a.txt", "keep those")
        assert affect.read_affwild2(tmp_path, strict=False).listed == {"train": 1, "validation": 1}
        file.unlink()


# ---- what is in it -------------------------------------------------------------------------------


def put(sheet, cell, value):
    """Write one more cell into every table of a workbook."""
    book = openpyxl.load_workbook(sheet)
    for table in book:
        table[cell] = value
    book.save(sheet)


@pytest.mark.parametrize(
    ("dataset", "cell"),
    [(name, "A1048576") for name in READERS if name != "casme"]
    + [("casme2", cell) for cell in ("XFD1048576", "XFD3", "C40000")],
)
def test_a_stray_cell_costs_nothing(root, dataset, cell):
    folder, read = root(dataset), READERS[dataset]
    before, sheet = read(folder), the_sheet(folder)
    put(sheet, cell, "x")
    start = perf_counter()
    after = read(folder)
    assert perf_counter() - start < 10
    for name in ("table", "events"):
        if hasattr(before, name):
            assert getattr(after, name).equals(getattr(before, name))


def test_a_stray_cell_in_an_old_workbook_costs_nothing(root):
    folder = root("casme")
    before, rows = micro.read("casme", folder), [*sheet_rows(the_sheet(folder)).values()]
    rows = [row[:12] for row in rows] + [()] * (16_383 - len(rows)) + [(None,) * 255 + ("x",)]
    mini.write_xls(the_sheet(folder), rows)
    assert micro.read("casme", folder).table.equals(before.table)


def test_rows_are_numbered_as_they_stand_and_never_wider_than_official_ones(tmp_path):
    mini.write_xlsx(
        tmp_path / "a.xlsx", [(1, "b"), (), ("note",), (0, 2.0, None, " x ", *"y" * 50)]
    )
    rows = sheet_rows(tmp_path / "a.xlsx")
    assert {number: row[:4] for number, row in rows.items()} == {
        1: ["1", "b", "", ""],
        4: ["0", "2", "", "x"],
    }
    assert {len(row) for row in rows.values()} == {MOST_COLUMNS}


def test_a_sheet_that_unpacks_to_much_more_is_refused(root):
    folder = root("casme2")
    with zipfile.ZipFile(the_sheet(folder), "a", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/media/picture", bytes(MOST_BYTES))
    assert the_sheet(folder).stat().st_size < 100_000
    refused(lambda: micro.read("casme2", folder), the_sheet(folder), "bytes", "restore")
    the_sheet(folder).unlink()
    (folder / "CASME2-coding-20140508.xlsx").mkdir()
    refused(lambda: micro.read("casme2", folder), "20140508.xlsx", "copy it again")


# data set -> first row of clips or events; columns of onset, apex, offset
PLACES = {"casme": (2, "DEG"), "casme2": (2, "DEF"), "samm": (15, "DEF")}
PLACES |= {"samm-lv": (11, "DEF"), "casme-squared": (1, "CDE")}
NUMBERS = {"5e7": 5 * 10**7, "1e20": 1e20, "1e300": 1e300, "5,000 digits": "9" * 5000}


def bounded(call, most=30e6):
    """What a call gives, which takes less than `most` bytes; so does one that is refused."""
    try:
        with traced() as memory:
            return call()
    finally:
        assert memory.peak < most


@pytest.mark.parametrize(
    ("value", "column"), [*((value, 2) for value in NUMBERS), ("1e20", 0), ("1e20", 1)]
)
@pytest.mark.parametrize("dataset", [name for name in PLACES if name != "casme"])
def test_a_number_beyond_all_measure_is_one_fault(root, capsys, dataset, value, column):
    (row, columns), folder = PLACES[dataset], root(dataset)
    before, read = READERS[dataset](folder), READERS[dataset]
    book = openpyxl.load_workbook(the_sheet(folder))
    tab = {"samm": "MICRO_ONLY", "samm-lv": "FACS_Movement_Only"}.get(dataset, book.sheetnames[0])
    book[tab][f"{columns[column]}{row}"] = NUMBERS[value]
    book.save(the_sheet(folder))
    after = bounded(lambda: read(folder, strict=False))
    if column == 1 and dataset in ("samm-lv", "casme-squared"):
        assert after.faults == ()  # an apex outside its event is unknown there
        assert after.events["apex"][0] == long.UNKNOWN
        return
    (fault,) = after.faults
    assert str(fault).startswith(f"{folder}/")
    assert "\n" not in str(fault)
    assert len(str(fault)) < 800
    rows = (len(getattr(x, "events" if hasattr(x, "events") else "table")) for x in (before, after))
    assert next(rows) - next(rows) <= 1
    refused(lambda: read(folder), str(fault))
    assert cli.main(["data", "check", dataset, str(folder)]) == 1
    assert str(fault) in capsys.readouterr().out


@pytest.mark.parametrize("value", [5e7, 1e20, 1e300])
def test_a_number_beyond_all_measure_in_an_old_workbook(root, value):
    folder = root("casme")
    rows = [row[:12] for row in sheet_rows(the_sheet(folder)).values()]
    rows[1][6] = value
    mini.write_xls(the_sheet(folder), rows)
    assert len(bounded(lambda: micro.read("casme", folder, strict=False)).faults) == 1


@pytest.mark.parametrize(
    ("video", "value"), [*zip(long.PAST_END, NUMBERS.values(), strict=False), ("020_6", "inf")]
)
def test_events_past_the_end_of_their_video_have_a_bound_too(root, video, value):
    folder = root("samm-lv")
    mini.write_pictures(folder / "SAMM_longvideos/036_7", range(1, 10), "{}.jpg")
    allowed = (f"{video}_1", 5, 6, 9 + long.MOST_PAST, long_miniatures.MACRO)
    wrong = (f"{video}_2", 5, 6, value, long_miniatures.MACRO)
    long_miniatures.write_samm_sheet(folder, [allowed, wrong])
    source = bounded(lambda: long.samm_lv(folder, strict=False))
    assert (len(source.events), len(source.faults)) == (1, 1)
    assert "row 12" in str(source.faults[0])


@pytest.mark.parametrize("name", ["x" * 300, "é" * 120, "a\tb", "s/b", "..", ".hidden"])
def test_a_name_that_no_file_can_have(root, tmp_path, name):
    folder = root("casme2")
    rows = [mini.casme2_row("01", name, 1, 2, 3, "fear")]
    mini.write_sheet("casme2", folder, rows)
    told = ("row 2", "is not a plain name", "restore")
    refused(lambda: micro.read("casme2", folder), the_sheet(folder), *told)
    omg = tmp_path / "omg"
    affect_miniatures.write_sheet(omg, "omg_TrainVideos.csv", [affect_miniatures.omg_row(name, 1)])
    (fault,) = affect.read_omg(omg, ("Train",), strict=False).faults
    assert "omg_TrainVideos.csv, line 2: video" in str(fault)


# ---- names of pictures ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", [10**8, 10**12, 10**200])
def test_a_picture_of_smic_numbered_beyond_all_measure(root, capsys, number):
    folder = root("smic")
    clip = next(folder.glob("SMIC_all_cropped/HS/*/micro/*/*"))
    picture = clip / f"reg_image{number}.bmp"
    Image.new("L", (44, 40)).save(picture)
    (fault,) = bounded(lambda: micro.read("smic", folder, strict=False)).faults
    assert str(fault).startswith(str(clip))
    refused(lambda: micro.read("smic", folder), clip)
    assert cli.main(["data", "check", "smic", str(folder)]) == 1
    row = micro.read("smic", folder, strict=False).table.iloc[0].to_dict() | {"path": str(clip)}
    row |= {"onset": 0, "offset": 10**8}
    refused(lambda: bounded(lambda: frames.clip_files(pd.Series(row))), clip)


@pytest.mark.parametrize("last", ["99999999", "108001", "9" * 100])
def test_aligned_faces_numbered_beyond_all_measure(tmp_path, capsys, last):
    folder = tmp_path / "faces/one/one_aligned"
    folder.mkdir(parents=True)
    for name in ("00000001", last):
        Image.fromarray(np.full((16, 16, 3), 9, np.uint8)).save(folder / f"{name}.jpg")
    for axis in ("valence", "arousal"):
        (tmp_path / f"annotations/train/{axis}").mkdir(parents=True)
        (tmp_path / f"annotations/train/{axis}/one.txt").write_text("0.5\n")
    listing = affect.read_affwild(tmp_path)
    calls = [partial(frames.aligned_faces, folder), partial(frames.face_files, folder)]
    calls.append(partial(frames.film_on_disk, listing, 0, tmp_path / "cache", None))
    for call in calls:
        refused(lambda call=call: bounded(call), folder / f"{last}.jpg")
    assert cli.main(["data", "check", "affwild", str(tmp_path)]) == 1
    assert f"{last}.jpg" in capsys.readouterr().out


def test_more_labels_than_a_film_can_have(tmp_path):
    Image.fromarray(np.full((16, 16, 3), 9, np.uint8)).save(tmp_path / "1.jpg")
    refused(lambda: bounded(lambda: frames.aligned_faces(tmp_path, 10**9)), tmp_path, "labels")


# ---- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (affect_miniatures.omg_row('"a', 1), "fields under a header"),
        (affect_miniatures.omg_row("a", "9" * 500), "is not like utterance_7"),
        (affect_miniatures.omg_row("a", 1, vote="9" * 500), "is not one of 0 to 6"),
        (affect_miniatures.omg_row("a", 1, vote="٣"), "is not one of 0 to 6"),
        (affect_miniatures.omg_row("a", 1, arousal="9" * 500), "outside"),
        (affect_miniatures.omg_row("a" * 200_000, 1), "under a header"),
    ],
    ids=["quotation mark", "utterance", "vote", "other digits", "label", "long line"],
)
def test_a_hostile_line_is_one_fault(tmp_path, line, told):
    rows = [affect_miniatures.omg_row("b", k) for k in range(1500)]
    affect_miniatures.write_sheet(tmp_path, "omg_TrainVideos.csv", [line, *rows])
    listing = affect.read_omg(tmp_path, ("Train",), strict=False)
    (fault,) = listing.faults
    assert "omg_TrainVideos.csv, line 2" in str(fault)
    assert told in str(fault)
    assert len(str(fault)) < 1500
    assert listing.listed == {"Train": 1500}


# ---- any damage ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dataset", READERS)
def test_damaged_sheets_are_read_or_refused_in_one_line(root, dataset):
    """40 mutations of each sheet: bytes changed, cut, put in, or of the unpacked parts."""
    folder, draw = root(dataset), np.random.default_rng(14)
    sheet, read = the_sheet(folder), READERS[dataset]
    whole = sheet.read_bytes()
    for trial in range(40):
        sheet.write_bytes(mutated(whole, draw, inside=trial % 2 and dataset != "casme"))
        start = perf_counter()
        with contextlib.suppress(BadInput):  # whose message is one line
            read(folder, strict=False)
        assert perf_counter() - start < 20


def mutated(whole, draw, inside):
    """Some bytes of a file, or of one part of a packed one, changed at random places."""
    if inside:
        source, target = (io.BytesIO(x) for x in (whole, b""))
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
            chosen = draw.choice([n for n in old.namelist() if "sheet" in n or "Strings" in n])
            for name in old.namelist():
                part = old.read(name)
                new.writestr(name, mutated(part, draw, False) if name == chosen else part)
        return target.getvalue()
    content = bytearray(whole)
    for _ in range(int(draw.integers(1, 8))):
        at, kind = int(draw.integers(len(content))), draw.integers(3)
        if kind == 0:
            content[at] = int(draw.integers(256))
        elif kind == 1:
            content[at:at] = bytes(draw.choice(list(b"0123456789<>"), 5).tolist())
        else:
            del content[at : at + int(draw.integers(1, 50))]
    return bytes(content)
