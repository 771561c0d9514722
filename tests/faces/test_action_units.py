"""Action units: one table of four sources, and the files of OpenFace and py-feat."""

import json
from pathlib import Path

import hume_miniatures as mini
import numpy as np
import pandas as pd
import pytest
from refusals import refused

from micromacro.faces import action_units as au
from micromacro.faces import mesh
from micromacro.synthetic import AUS, performance

PYFEAT = ["frame", "FaceScore", *reversed(mini.PYFEAT), "happiness", "input"]


def write(path, rows, header=PYFEAT):
    path.write_text("\n".join(",".join(map(str, row)) for row in (header, *rows)) + "\n")
    return path


def pyfeat_row(frame, value):
    return [frame, 0.99, *(value + 0.01 * k for k in reversed(range(20))), 0.5, "film.mp4"]


# ---- the table -----------------------------------------------------------------------------------


def test_each_name_of_the_table_is_one_that_its_source_has():
    units = {
        source: au.action_units_of(source) for source in ("openface", "pyfeat", "mesh", "actor")
    }
    names = {source: [*sum(of.values(), ())] for source, of in units.items()}
    assert [*au.openface_columns()] == [*mini.INTENSITIES, *mini.PRESENCES]
    assert sorted(names["openface"]) == sorted(au.openface_columns())
    assert names["pyfeat"] == mini.PYFEAT
    assert {*names["mesh"]} < {*mesh.POINTS["blendshapes"]}
    channels = {*AUS, *performance.Performance.__dataclass_fields__}
    assert {name.removeprefix("-") for name in names["actor"]} < channels
    assert {*AUS} < {*names["actor"]}
    for source, of in units.items():
        assert {*of} <= {*au.action_unit_names()}
        assert len({*names[source]}) == len(names[source]), "one channel in two units"
    for name in names["openface"] + names["pyfeat"]:
        assert int(name[2:4]) in au.action_unit_names()
    sides = [(name, units["mesh"][n]) for n in units["mesh"] for name in units["mesh"][n]]
    assert all(name.replace("Left", "Right") in shapes for name, shapes in sides)
    assert au.action_unit_names()[12] == "lip corner puller"
    refused(
        lambda: au.action_units_of("facereader"), "'facereader'", "openface, pyfeat, mesh, actor"
    )


# ---- files ---------------------------------------------------------------------------------------


def test_openface_rows_are_frames_and_failed_ones_are_nan(tmp_path):
    values = mini.openface_values(6, failed=(1,))[[0, 1, 2, 5]]  # frames 4 and 5 are left out
    table = au.read_openface(mini.write_openface(tmp_path / "a.csv", values))
    assert (table.shape, {*map(str, table.dtypes)}) == ((6, 35), {"float32"})
    assert [*table.isna().all(axis=1)] == [False, True, False, True, True, False]
    assert np.array_equal(table.loc[5, "AU45_r"], np.float32(values[3, 695]))
    text = (tmp_path / "a.csv").read_text().splitlines()
    last = text[-1].split(", ")
    last[685] = "-nan(ind)"  # as Windows writes it: a value that failed though the face did not
    last[686], last[687] = "-1.#IND", "1.#QNAN"  # as older ones do
    (tmp_path / "a.csv").write_text("\n".join([*text[:-1], ", ".join(last)]))
    assert np.flatnonzero(au.read_openface(tmp_path / "a.csv")["AU01_r"].notna()).tolist() == [0, 2]


def test_pyfeat_columns_are_found_in_any_order(tmp_path):
    lost = [1, *[""] * 22, "film.mp4"]
    path = write(tmp_path / "fex.csv", [pyfeat_row(0, 0.1), lost, pyfeat_row(4, 0.5)])
    table = au.read_pyfeat(path)
    assert [*table] == mini.PYFEAT
    assert [*table.isna().all(axis=1)] == [False, True, True, True, False]
    assert np.allclose(table.loc[4], 0.5 + 0.01 * np.arange(20))
    longer = write(tmp_path / "longer.csv", [[*pyfeat_row(0, 0.1), "", ""]])  # commas at the end
    assert au.read_pyfeat(longer).equals(table[:1])
    merged = {n: table[names[0]] for n, names in au.action_units_of("pyfeat").items()}
    assert [*pd.DataFrame(merged)][:4] == [1, 2, 4, 5]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([pyfeat_row(0, 0), pyfeat_row(0, 0)], ("line 3", "frame 0", "keep the rows of one")),
        ([pyfeat_row(0.5, 0)], ("line 2", "frame 0.5")),
        ([pyfeat_row(-1, 0)], ("line 2", "frame -1")),
        ([pyfeat_row("nan", 0)], ("line 2", "frame nan")),
        ([[0, 0.99, "high", *[0] * 21, "x"]], ("line 2", "AU43 'high'")),
        ([[0, 0.99, "banana", *[0] * 21, "x"]], ("line 2", "AU43 'banana'")),
        ([pyfeat_row(10**9, 0)], ("frame 1000000000 in a file of 1 rows",)),
        ([], ("no row",)),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path, rows, words):
    path = write(tmp_path / "fex.csv", rows)
    refused(lambda: au.read_pyfeat(path), path, *words)


def test_a_file_of_another_program_is_refused(tmp_path):
    path = write(tmp_path / "fex.csv", [pyfeat_row(0, 0)])
    refused(lambda: au.read_openface(path), path, "success, AU01_r, AU02_r", "restore")
    header = [name.replace("AU45_r", "AU46_r") for name in mini.openface_header()]
    of = mini.write_openface(tmp_path / "of.csv", mini.openface_values(2), header)
    refused(lambda: au.read_openface(of), of, "lacks the columns AU45_r")
    (tmp_path / "latin.csv").write_bytes(b"fr\xe4me,AU01\n1,2\n")
    for file in (tmp_path / "latin.csv", tmp_path, tmp_path / "nowhere.csv"):
        refused(lambda file=file: au.read_openface(file), file)
    of = mini.write_openface(tmp_path / "of.csv", np.zeros((1, 714)))
    refused(lambda: au.read_openface(of), "line 2", "frame 0")  # OpenFace counts from 1


def test_data_of_the_package_are_whole():
    points = json.loads(Path(mesh.__file__).with_name("mesh_points.json").read_text())
    assert len({*points["blendshapes"]}) == 52
    assert len({*points["blendshape_points"]}) == 146
    assert max(points["rigid"]) < 468
