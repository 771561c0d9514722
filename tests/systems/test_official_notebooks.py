"""Every profile of every notebook: one data set of each system through the command as its user
does it, of the others the cells that differ.

The profile "paper" on miniatures of each official data set, "full" with the tiniest sizes. What
"smoke" does is what nbval tests, and the committed outputs.
"""

import re
from pathlib import Path

import afew_miniatures
import affect_miniatures
import hume_miniatures
import long_miniatures
import matplotlib.pyplot as plt
import micro_miniatures
import numpy as np
import pandas as pd
import pytest
import skimage.data
from play import code_cells, defined

from micromacro import cli, course
from micromacro.results import read_rows
from micromacro.studies import phase_rules, steadiness
from micromacro.systems.akmnet import scores as akmnet_scores
from micromacro.systems.akmnet import task as akmnet_task
from micromacro.systems.akmnet.experiment import PROTOCOLS
from micromacro.systems.eri import task as eri_task
from micromacro.systems.mimamo import task as mimamo_task
from micromacro.systems.msff import task as msff_task
from micromacro.systems.msff.experiment import FUSIONS, STREAMS
from micromacro.systems.spotting import task as spotting_task
from micromacro.video import write_video
from micromacro.weights import CACHE_VARIABLE

ROOT = Path(__file__).parents[2]
NOTEBOOKS = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]


def of_faces(write) -> str:
    """A writer of a data set with aligned faces: its folder."""

    def make(folder: Path) -> str:
        for name in ("faces", "data"):
            (folder / name).mkdir()
        return str(write(folder / "data", affect_miniatures.write_face_folders(folder / "faces")))

    return make


def of_clips(dataset: str):
    """A writer of a data set of clips; the composite of MEGC 2019 lies in three folders."""

    def make(folder: Path) -> str:
        parts = ("casme2", "smic", "samm") if dataset == "megc2019" else (dataset,)
        for part in parts:
            root = folder / "data" / part if len(parts) > 1 else folder / "data"
            micro_miniatures.write_dataset(part, root)
        return str(folder / "data")

    return make


def samm_lv(folder: Path) -> str:
    names = ("006_1_9", "012_4_9", "020_6_9", "037_4_9")  # so that each person shows both classes
    root = long_miniatures.write_samm_lv(folder / "samm-lv")
    micro = [(name, 2, 3, 5, long_miniatures.MICRO) for name in names]
    long_miniatures.write_samm_sheet(root, (*long_miniatures.SAMM_ROWS, *micro))
    (root / "SAMM_longvideos").rename(root / "SAMM_longvideos_crop")
    return str(root)


def casme_squared(folder: Path) -> str:
    root = long_miniatures.write_casme_squared(folder / "casme", "longVideoFaceCropped")
    micro = [(1, "disgust2_1", 2, 4, 5, "micro"), (22, "happy5_1", 2, 4, 6, "macro")]
    long_miniatures.write_casme_sheet(root, (*long_miniatures.CAS_ROWS, *micro))
    return str(root)


def films(folder: Path) -> str:
    return str(afew_miniatures.write_afew(folder / "afew"))


def reactions(folder: Path) -> str:
    """Hume-Reaction with a third clip to train on and a second one to test, so that PCC is
    defined."""
    root, labels = hume_miniatures.write_abaw5(folder / "hume"), "0.3,1.0,0.1,0,0.2,0.1,0.6"
    more = (("00005", "Train", labels), ("00006", "Val", labels))
    hume_miniatures.write_sheet(root, (*hume_miniatures.ABAW5_ROWS, *more))
    for clip, split, _ in more:
        seed, split = int(clip), split.lower()
        hume_miniatures.write_array(
            root / f"features/mfcc_2/{split}/{clip}.npy", 32, 1024, seed=seed
        )
        hume_miniatures.write_array(
            root / f"features/res18_aff/{split}/{clip}.npy", 7, 512, seed=seed
        )
        values = hume_miniatures.openface_values(7, (), seed)
        hume_miniatures.write_openface(
            root / f"openface_align/{split}/aligned/{clip}/{clip}.csv", values
        )
    return str(root)


AFFECT = {"omg": affect_miniatures.write_omg, "affwild": affect_miniatures.write_affwild}
AFFECT |= {"affwild2": affect_miniatures.write_affwild2}
MINIATURES = {
    "04b_mimamo_ablation": {dataset: of_faces(write) for dataset, write in AFFECT.items()},
    "05b_msff_ablation": {"afew": films},
    "06b_spotting_ablation": {"samm-lv": samm_lv, "casme-squared": casme_squared},
    "07b_reaction_ablation": {"hume": reactions},
    "08b_akmnet_ablation": {
        name: of_clips(name) for name in ("casme", "casme2", "smic", "samm", "megc2019")
    },
}
TRIALS = [(notebook, dataset) for notebook in MINIATURES for dataset in MINIATURES[notebook]]
ARMS = {  # of the profile paper, and what is one of its scores
    "04b_mimamo_ablation": ({"ours", "as released"}, "ccc_valence"),
    "05b_msff_ablation": (
        {*STREAMS, "best single"}
        | {name for name, (own, _, blanks) in FUSIONS.items() if {*own} <= {*STREAMS} and blanks},
        "accuracy",
    ),
    "06b_spotting_ablation": ({"two references", "blind tiling"}, "f1_overall"),
    "07b_reaction_ablation": ({"as released", "all"}, "pcc"),
    "08b_akmnet_ablation": (
        {f"{p}: {arm}" for p in PROTOCOLS for arm in ("s123", "all")},
        "accuracy",
    ),
}
START = ["PROFILE =", "course.check("]
GRID, OFFICIAL = [*START, ".grid(PROFILE"], 'if PROFILE == "paper":\n'
SHOWN = {  # cells that compute, and what the one on official data needs
    "04b_mimamo_ablation": [*GRID, OFFICIAL],
    "06b_spotting_ablation": [*GRID, "metrics = {", OFFICIAL],
    "08b_akmnet_ablation": [
        *(*GRID, "comparison = results", "three = {", "published = pd.read_csv", OFFICIAL),
    ],
}
LEAST = {  # of 08b each person left out takes a minute
    "04b_mimamo_ablation": {"VARIANTS": ["ours"]},
    "08b_akmnet_ablation": {"VARIANTS": ["s123"], "FOLDS": 2},
}
N = {  # clips or videos behind each of the rows of that score, without validation
    "omg": [1, 1, 2, 2] + [3] * 4,
    "afew": [7] * len(ARMS["05b_msff_ablation"][0]),
    "samm-lv": [12, 12],
    "hume": [2, 2],
    "casme2": [12] * 4,
}


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A checkout of its own: the same notebooks and data, runs apart."""
    for name in ("notebooks", "data"):
        (tmp_path / "root").mkdir(exist_ok=True)
        (tmp_path / "root" / name).symlink_to(ROOT / name)
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


def reproduce(profile: str, notebook: str, params: dict, workers: int = 1) -> int:
    """With one worker the units are computed in the kernel, with two in processes of their own."""
    words = [word for name, value in params.items() for word in ("--param", f"{name}={value}")]
    words += ["--notebooks", notebook, "--workers", str(workers)]
    return cli.main(["reproduce", "--profile", profile, *words])


def executed(monkeypatch, notebook: str, cells: list[str] | None = None, **params) -> dict:
    """Cells of a notebook, None for all, in this process, which has loaded the libraries and draws
    nothing."""
    monkeypatch.setattr(plt, "show", lambda: None)
    return defined(notebook, code_cells(notebook) if cells is None else cells, **params)


def test_every_data_set_and_notebook_is_walked():
    walked = {notebook.partition("_")[0]: [*sets] for notebook, sets in MINIATURES.items()}
    planned = {number: plan.datasets for number, plan in course.PLAN.items() if plan.datasets}
    assert walked == planned
    apart = [START_HERE, AUDIT, BY_PAPERMILL]
    assert sorted([*FULL, *STUDIES, *ONE_SIZE, *apart]) == NOTEBOOKS


@pytest.mark.parametrize(("notebook", "dataset"), TRIALS)
@pytest.mark.parametrize("folder", [None, "nowhere", "", "a file"])
def test_official_data_that_is_not_there_is_refused_before_anything_runs(
    root, capsys, notebook, dataset, folder
):
    (root / "a file").write_text("x")
    params = {"DATASET": dataset} | (
        {} if folder is None else {"DATA_ROOT": folder and root / folder}
    )
    assert reproduce("paper", notebook, params) == 2
    message = capsys.readouterr().err
    assert "DATA_ROOT" in message
    assert message.count("\n") == 1
    assert not (root / "runs").exists()


class TestPaper:
    """A class, as the others: two processes then share what would be one long module."""

    @pytest.mark.slow
    @pytest.mark.parametrize(("notebook", "dataset"), TRIALS)
    def test_the_notebook_runs_on_official_data(self, root, monkeypatch, notebook, dataset):
        arms, metric = ARMS[notebook]
        data = MINIATURES[notebook][dataset](root.parent)
        params = {"DATASET": dataset, "DATA_ROOT": data, "TRIAL": 1}
        if dataset == "afew":  # of a network that none of these arms has: the file is not opened
            (root.parent / "r3d_18.pth").touch()
            params["R3D_18_WEIGHTS"] = root.parent / "r3d_18.pth"
        if dataset in N:  # the whole way, one data set of each system; one has workers for units
            workers = 2 if dataset == "casme2" else 1
            assert reproduce("paper", notebook, params, workers) == 0
            (run,) = root.glob("runs/2*Z")
        else:  # few arms, and the cells that tell official data from others
            run, least = root.parent / "run", LEAST.get(notebook, {})
            monkeypatch.setattr(akmnet_scores.intervals, "__defaults__", ((), 20))
            params |= {"PROFILE": "paper", "OUT": str(run), "display": list}
            executed(monkeypatch, notebook, SHOWN[notebook], **params, **least)
            arms = {arm for arm in arms if arm.split(": ")[-1] in least.get("VARIANTS", arms)}
        rows = read_rows(run / "rows" / f"{notebook}__trial__cpu.csv")
        assert set(rows["arm"]) == arms
        assert dataset in set(rows["dataset"])
        scores = rows[rows["metric"] == metric]
        assert scores["value"].between(-1, 1).all()
        assert len(scores) >= len(arms)
        if dataset in N:
            assert sorted(scores["n"][scores["split"] != "validation"].astype(int)) == N[dataset]
        written = run.glob("submissions/*/*/predictions.csv")  # where there is a server
        lengths = [len(file.read_text().splitlines()) for file in written]
        assert lengths == ([5] * 4 if dataset == "omg" else [])


TINY = {"TRIAL": 1, "SEEDS": [0]}
FULL = {  # the least that each notebook can be asked for
    "04b_mimamo_ablation": TINY | {"VARIANTS": ["ours", "as released"]},
    "05b_msff_ablation": TINY | {"VARIANTS": ["vgg", "audio"]},
    "06b_spotting_ablation": TINY | {"VARIANTS": ["two references", "blind tiling"]},
    "07b_reaction_ablation": TINY | {"VARIANTS": ["all", "all, mean"]},
    "08b_akmnet_ablation": TINY | {"VARIANTS": ["s123", "all"]},
}
START_HERE, AUDIT = "00_start_here", "11_audit"
BY_PAPERMILL = "03_phase_versus_flow"  # in tests/test_notebooks.py
ONE_SIZE = {  # lessons that do not look at the profile; the cells that their training needs
    "04_mimamo_net": [
        *(*START, "train_clips = task.record(", "encoder = load_", "def block("),
        *("class Mimamo(", "LAG = ", "def train(", "def drawn("),
    ],
    "05_msff": [
        *(*START, "NAMES = (", "class FilmNet(", "def trained(", "small = SpectrogramVgg("),
        *("def scored(", "def over_time(", "def own_film("),
    ],
    "06_expression_spotting": [
        *(*START, "EASY = ", "frames = seen[", "gaps = {}", "def local_mean(", "image = seen["),
        *("class Spotter(", "assert_close(contrast_by_hand(", "events = {v:", "share = torch.cat("),
    ],
    "07_reaction_intensity": [
        *(*START, "EASY = ", "one = raw[0]", "target, truth = (", "def attend(", "class Cascade("),
        *("class Reaction(", "seen, unseen = (", "def trained(", "constant = (("),
    ],
    "08_akmnet": [
        *(*START, "clips = task.record(", "class Block(", "def scores(", "def straight_through("),
        *("class Miner(", "class Reader(", "class KeyFrameNet(", "def losses("),
        *("stills = task.pretrained()", "def compare(", "COUNT_WEIGHT, MARGIN_", "def kept_of("),
    ],
}
FEW = {  # a task's function that makes clips, and how it makes few: what they teach, nbval shows
    "04_mimamo_net": (mimamo_task, "record", lambda f: lambda *run, people: f(*run, people=2)),
    "05_msff": (msff_task, "clips", lambda f: lambda counts, *run, **of: f([3] * 7, *run, **of)),
    "06_expression_spotting": (
        *(spotting_task, "videos"),
        lambda f: lambda kind, people, *run, **of: f(kind, 3, *run, **of),
    ),
    "07_reaction_intensity": (
        *(eri_task, "clips"),
        lambda f: lambda people, each, *run, **of: f(3, 2, *run, **of),
    ),
    "08_akmnet": (akmnet_task, "record", lambda f: lambda *run: f(*run[:2], range(22, 26), 2)),
}


STUDIES = {  # lessons with a cell that makes their full run anew: what it needs
    "01_face_preprocessing": (
        {"SEEDS": [1], "VARIANTS": ["first_frame"]},
        {"table": pd.DataFrame(columns=["correlation", "false_motion_px"], dtype=float)},
    ),
    "02_phase_differences": ({}, {}),
}


def cells_that_ask(lesson: str) -> list[str]:
    """Those that name a parameter by which the profiles differ; the others run in nbval alike."""
    names = r"\b(PROFILE|SEEDS|VARIANTS|OUT)\b"
    return [cell for cell in code_cells(lesson) if re.search(names, cell)]


@pytest.mark.slow
@pytest.mark.parametrize("lesson", STUDIES)
def test_a_lesson_makes_its_full_run_anew(root, monkeypatch, lesson):
    first, study = cells_that_ask(lesson)
    assert first.startswith("PROFILE =")
    monkeypatch.setattr(plt, "show", lambda: None)
    asked = []  # textures of 02; it gets two, in two of five amplitudes
    few = {"AMPLITUDES_PX": (0.05, 0.25), "range": lambda n: asked.append(n) or range(2)}
    for name, value in few.items():
        monkeypatch.setattr(phase_rules, name, value, raising=False)
    monkeypatch.setitem(steadiness.unit.__kwdefaults__, "n_frames", 48)  # 01
    monkeypatch.setitem(steadiness.stage.__kwdefaults__, "size", (180, 320))
    params, here = STUDIES[lesson]
    defined(lesson, [*START, study], PROFILE="full", OUT=str(root), **params, **here)
    (table,) = root.glob("rows/*.csv")
    rows = read_rows(table)
    assert set(rows["profile"]) == {"full"}
    assert {*rows["seed"]} == {*params.get("SEEDS", range(2))}
    assert asked == ([] if params else [40])
    assert {*rows["arm"]} >= {*params.get("VARIANTS", ["unwrapped"])}


@pytest.fixture
def film(tmp_path, monkeypatch) -> Path:
    """A portrait that shakes for a second; what others' networks need cannot be fetched
    meanwhile."""
    photo = skimage.data.astronaut()[:300, 80:380]
    write_video(tmp_path / "film.mp4", [np.roll(photo, k % 2, axis=1) for k in range(26)], fps=25)
    (tmp_path / "no folder").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "no folder"))
    return tmp_path / "film.mp4"


@pytest.mark.slow
@pytest.mark.parametrize("lesson", ONE_SIZE)
def test_a_lesson_of_one_size_takes_any_profile_and_few_steps(monkeypatch, lesson, film, capsys):
    """No cell asks for the profile, so "full" runs what nbval runs; the training takes few
    steps."""
    (first,) = cells_that_ask(lesson)
    assert first.startswith("PROFILE =")
    module, name, fewer = FEW[lesson]
    monkeypatch.setattr(module, name, fewer(getattr(module, name)))
    steps = 10 if lesson == "05_msff" else 2  # it shows tenths
    own = {"VIDEO": film} if lesson == "05_msff" else {}  # other films: tests/faces/test_films.py
    trained = executed(monkeypatch, lesson, ONE_SIZE[lesson], PROFILE="full", STEPS=steps, **own)
    taken = {
        "04": lambda: trained["curve"].index[-1],
        "05": lambda: len(trained["own"]),
        "06": lambda: len(trained["losses"]),
        "07": lambda: len(trained["nets"]["trained"][1]),
        "08": lambda: len(trained["history"]),
    }
    assert taken[lesson[:2]]() == steps
    if own:  # it tells in one line what it goes without
        told = capsys.readouterr().out
        assert len(re.findall(r"The network of actors alone: .+ by hand", told)) == 1
        assert re.search(r"your film: 1[5-7] frames with a face", told)


def test_the_first_notebook_has_one_size():
    assert len(cells_that_ask(START_HERE)) == 1


def test_the_audit_draws_more_people_in_the_profile_full(monkeypatch):
    first, sizes, tiles = cells_that_ask(AUDIT)
    assert first.startswith("PROFILE =")
    audit = executed(monkeypatch, AUDIT, [*START, sizes], PROFILE="full", SEEDS=[3])
    assert (audit["people"], audit["starts"]) == (200, 20)
    audit |= {"people": 4, "starts": 1}
    exec(tiles, audit)
    assert audit["curves"].to_numpy().max() > 0


class TestFull:
    """The profile full, as little of it as there can be."""

    @pytest.mark.slow
    @pytest.mark.parametrize("notebook", FULL)
    def test_the_notebook_runs_in_the_profile_full(self, root, monkeypatch, notebook):
        run = root / "run"
        out = {"OUT": str(run), "display": list}
        executed(monkeypatch, notebook, PROFILE="full", **out, **FULL[notebook])
        (table,) = run.glob("rows/*.csv")
        assert set(read_rows(table)["profile"]) <= {"full", "trial"}
