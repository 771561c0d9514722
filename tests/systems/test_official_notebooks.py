"""The profile "paper", notebook and all, through the command: on miniatures of official data."""

from pathlib import Path

import affect_miniatures
import long_miniatures
import micro_miniatures
import pytest

from micromacro import cli
from micromacro.results import read_rows
from micromacro.systems.akmnet.experiment import PROTOCOLS


def omg(folder: Path) -> Path:
    for name in ("faces", "omg"):
        (folder / name).mkdir()
    films = affect_miniatures.write_face_folders(folder / "faces")
    affect_miniatures.write_omg(folder / "omg", films)
    return folder / "omg"


def casme2(folder: Path) -> str:
    return micro_miniatures.write_dataset("casme2", folder / "casme2")


def samm_lv(folder: Path) -> Path:
    names = ("006_1_9", "012_4_9", "020_6_9", "037_4_9")  # so that each person shows both classes
    root = long_miniatures.write_samm_lv(folder / "samm-lv")
    micro = [(name, 2, 3, 5, long_miniatures.MICRO) for name in names]
    long_miniatures.write_samm_sheet(root, (*long_miniatures.SAMM_ROWS, *micro))
    (root / "SAMM_longvideos").rename(root / "SAMM_longvideos_crop")
    return root


CASES = {  # notebook: data set, its miniature, arms, metric, clips or videos behind each of its rows
    "04_mimamo_net": ("omg", omg, {"ours", "as released"}, "ccc_valence", [1, 1, 2, 2] + [3] * 4),
    "06b_spotting_ablation": (
        "samm-lv",
        samm_lv,
        {"two references", "blind tiling"},
        "f1_overall",
        [12, 12],
    ),
    "08_akmnet": (
        "casme2",
        casme2,
        {f"{protocol}: {arm}" for protocol in PROTOCOLS for arm in ("s123", "all")},
        "accuracy",
        [12] * 4,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("notebook", CASES)
def test_the_notebook_runs_on_official_data(tmp_path, monkeypatch, notebook):
    dataset, write, arms, metric, n = CASES[notebook]
    for name in ("notebooks", "data"):
        (tmp_path / name).symlink_to(Path(__file__).parents[2] / name)
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    params = {"DATASET": dataset, "DATA_ROOT": write(tmp_path), "TRIAL": 1}
    words = [word for name, value in params.items() for word in ("--param", f"{name}={value}")]
    assert cli.main(["reproduce", "--profile", "paper", "--notebooks", notebook, *words]) == 0
    (run,) = tmp_path.glob("runs/*/rows")
    rows = read_rows(run / f"{notebook}__trial__cpu.csv")
    assert set(rows["arm"]) == arms
    assert set(rows["dataset"]) == {dataset}
    scores = rows[(rows["metric"] == metric) & (rows["split"] != "validation")]
    assert sorted(scores["n"].astype(int)) == n
    assert scores["value"].between(-1, 1).all()
    written = run.parent.glob("submissions/*/*/predictions.csv")  # of the sets that have a server
    lengths = [len(file.read_text().splitlines()) for file in written]
    assert lengths == ([5] * 4 if dataset == "omg" else [])
