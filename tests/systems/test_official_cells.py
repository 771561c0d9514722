"""Notebooks 04 and 08 on official data, here on miniatures: the cells that smoke does not reach."""

import symtable
from pathlib import Path

import affect_miniatures
import matplotlib.pyplot as plt
import micro_miniatures
import nbformat
import pytest

from micromacro.results import read_rows
from micromacro.systems.akmnet.experiment import PROTOCOLS

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def names(source: str) -> tuple[set[str], set[str]]:
    """What a cell sets, and what it takes from other cells: in functions too."""
    top = symtable.symtable(source, "cell", "exec")
    symbols, scopes, taken = top.get_symbols(), top.get_children(), set()
    made = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}
    while scopes:
        scope = scopes.pop()
        scopes += scope.get_children()
        taken |= {s.get_name() for s in scope.get_symbols() if s.is_global()}
    return made, (taken | {s.get_name() for s in symbols if s.is_referenced()}) - made


def cells(notebook: Path) -> list[str]:
    """The cells that DATASET reaches, and those that make what they need."""
    every = nbformat.read(notebook, as_version=4).cells
    sources = [cell.source for cell in every if cell.cell_type == "code"]
    about, chosen, reached, needed = (
        [names(source) for source in sources],
        set(),
        {"DATASET"},
        set(),
    )
    for i, (made, taken) in enumerate(about[1:], 1):
        if taken & reached:
            chosen.add(i)
        reached = reached | made if i in chosen else reached - made
    for i, (made, taken) in reversed([*enumerate(about)]):
        if i in chosen or made & needed:
            chosen.add(i)
            needed = needed - made | taken
    return [sources[i] for i in sorted(chosen)]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    (tmp_path / "data").symlink_to(NOTEBOOKS.parent / "data")
    return tmp_path


def run(notebook: str, **params) -> Path:
    """Run the cells in this process, which has what a kernel would take ten seconds to import."""
    space, out = {"display": print}, Path(params["DATA_ROOT"]).parent / "out"
    parameters, *rest = cells(NOTEBOOKS / f"{notebook}.ipynb")
    with plt.rc_context():
        exec(parameters, space)
        space.update(params, PROFILE="paper", TRIAL=1, OUT=str(out))
        for source in rest:
            exec(source, space)
    plt.close("all")
    return out


@pytest.mark.filterwarnings("ignore")
def test_notebook_04(root):
    for name in ("faces", "omg"):
        (root / name).mkdir()
    affect_miniatures.write_omg(root / "omg", affect_miniatures.write_face_folders(root / "faces"))
    out = run("04_mimamo_net", DATASET="omg", DATA_ROOT=str(root / "omg"))
    rows = read_rows(out / "rows/04_mimamo_net__trial__cpu.csv")
    assert set(rows["arm"]) == {"ours", "as released"}
    assert set(rows["dataset"]) == {"omg"}
    ccc = rows[(rows["metric"] == "ccc_valence") & (rows["split"] == "test")]
    assert sorted(ccc["n"].astype(int)) == [1, 1, 2, 2, 3, 3, 3, 3]  # seen and all, plain, rescaled
    written = out.glob("submissions/*/*/predictions.csv")
    assert [len(file.read_text().splitlines()) for file in written] == [5] * 4


@pytest.mark.filterwarnings("ignore")
def test_notebook_08(root):
    data = micro_miniatures.write_dataset("casme2", root / "casme2")
    out = run("08_akmnet", DATASET="casme2", DATA_ROOT=data, FOLDS=2)
    rows = read_rows(out / "rows/08_akmnet__trial__cpu.csv")
    assert set(rows["arm"]) == {f"{p}: {arm}" for p in PROTOCOLS for arm in ("s123", "all")}
    assert set(rows["dataset"]) == {"casme2"}
    accuracy = rows[rows["metric"] == "accuracy"]
    assert accuracy["n"].tolist() == [12] * 4
    assert accuracy["value"].between(0, 1).all()
