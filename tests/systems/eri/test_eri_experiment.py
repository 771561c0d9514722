"""One unit of reaction intensity: every arm, both layouts of the official data, nothing learnt from
the tested."""

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import hume_miniatures
import numpy as np
import pytest
import torch
from interrupted import interrupt
from refusals import refused

from micromacro.audio import legacy_mfcc_layout
from micromacro.cache import hashable
from micromacro.metrics import pcc
from micromacro.systems.eri import experiment, task
from micromacro.systems.eri.experiment import ARMS, Arm
from micromacro.systems.eri.model import EMOTIONS

DATA = {"subjects": 3, "test_subjects": 3, "per_subject": 2, "frames": (10, 24)}
TINY = {"data": DATA, "arm": {}, "seed": 1990, "fold": 0, "epochs": 3}


def unit(**changes):
    """A unit as `units.run` gives it."""
    params = TINY | changes
    metrics, predictions = experiment.unit(**params)
    return SimpleNamespace(params=params, metrics=metrics, predictions=lambda: predictions)


@pytest.fixture(scope="module")
def plain():
    return unit()


@pytest.fixture
def source():
    return experiment.benchmark(1990, **DATA)


def test_a_unit_holds_what_it_tested_and_repeats(plain, source):
    arrays, again = plain.predictions(), unit().predictions()
    for name, values in arrays.items():
        assert np.array_equal(values, again[name]), name
    table = source.clips[source.clips["split"] == "test"]
    assert arrays["clip"].tolist() == table["clip"].tolist()
    assert np.array_equal(arrays["truth"], table[[*EMOTIONS]].to_numpy(np.float32))
    assert arrays["n_frames"].tolist() == table["n_frames"].tolist()
    assert arrays["epochs"].shape == (3, 6, 7)
    assert np.array_equal(arrays["epochs"][-1], arrays["predicted"])
    assert not np.array_equal(arrays["epochs"][0], arrays["epochs"][1])
    ends = arrays["n_frames"].cumsum()
    assert arrays["attention"].shape == arrays["inside"].shape == (ends[-1],)
    for name, look, shown in zip(
        arrays["clip"],
        np.split(arrays["attention"], ends[:-1]),
        np.split(arrays["inside"], ends[:-1]),
        strict=True,
    ):
        assert look.astype(float).sum() == pytest.approx(1, abs=0.01)
        own = source.events[source.events["clip"] == name]
        assert shown.sum() == (own["offset"] - own["onset"] + 1).sum()
        assert shown[own["onset"]].all()


@pytest.mark.parametrize("arm", [name for name, own in ARMS.items() if "share" not in own])
def test_every_arm_runs_and_differs(plain, arm):
    data = DATA | ({"test_frames": (30, 40)} if "test_frames" in ARMS[arm] else {})
    options = {name: v for name, v in ARMS[arm].items() if hasattr(Arm, name)}
    one = unit(arm=options, data=data)
    predicted = one.predictions()["predicted"]
    assert np.isfinite(predicted).all()
    assert {row["metric"] for row in experiment.rows([one])} > {"pcc", "pcc_Fear", "pcc_longest"}
    same = np.array_equal(predicted, plain.predictions()["predicted"])
    assert same == (arm == "all")


@pytest.mark.parametrize(
    "options", [{"gru": False}, {}, {"gru": False, "positions": True}], ids=str
)
def test_what_knows_no_order_cannot_tell_a_clip_from_itself_backwards(options):
    data = DATA | experiment.TURNED | {"frames": DATA["frames"]}
    arrays = unit(arm=options, data=data).predictions()
    clips, truth, predicted = (np.split(arrays[k], 2) for k in ("clip", "truth", "predicted"))
    assert clips[1].tolist() == [name + experiment.BACKWARDS for name in clips[0]]
    np.testing.assert_allclose(truth[0] + truth[1], 1, atol=1e-6)
    apart = abs(predicted[0].astype(float) - predicted[1]).max()
    assert (apart < 1e-3) == (options == {"gru": False})


def test_a_clip_is_turned_with_all_that_is_heard_and_measured():
    source = experiment.benchmark(1990, **DATA | {"turned": True})
    assert len(source.clips) == 2 * 3 * 2  # half as many, twice
    name = source.clips["clip"].iloc[0]
    one, other = (source.load(name + end, "time", "eval") for end in ("", experiment.BACKWARDS))
    for part in ("holistic", "local", "audio"):
        assert torch.equal(getattr(one, part), getattr(other, part).flip(0))
    sound = task.clips(3, 1, 1990, split="train", frames=DATA["frames"]).scene(name).speech.sound
    for end, heard in (("", sound), (experiment.BACKWARDS, sound[::-1])):  # no rows to turn
        rows = source.load(name + end, "released", "eval").audio
        assert np.array_equal(rows, legacy_mfcc_layout(heard, experiment.SR_HZ))


def test_the_tested_teach_nothing(plain, source, monkeypatch):
    labels = source.clips[[*EMOTIONS]].to_numpy().copy()
    labels[(source.clips["split"] == "test").to_numpy()] = 0.5
    changed = source.clips.assign(**dict(zip(EMOTIONS, labels.T, strict=True)))
    monkeypatch.setattr(experiment, "benchmark", lambda *_, **__: source._replace(clips=changed))
    other = unit()
    assert np.array_equal(other.predictions()["epochs"], plain.predictions()["epochs"])
    assert other.metrics == plain.metrics
    people = source.clips.groupby("split")["subject"].unique()
    assert not {*people["train"]} & {*people["test"]}


def test_arms_of_a_seed_share_first_weights_and_order(monkeypatch):
    starts = {}

    def note(model, batches, recipe, *, seed, **_):
        draws = torch.Generator().manual_seed(seed)
        targets = torch.cat([target for _, target in batches(draws)])
        starts[name] = [p.clone() for p in model.net.parameters()], targets, recipe
        model.record[:] = 0
        return SimpleNamespace(epochs=[SimpleNamespace(loss=0.0)])

    monkeypatch.setattr(experiment, "train", note)
    for name in ("all", "shuffled frames", "other sound", "loss 1 - PCC", "shuffled labels"):
        unit(arm=ARMS[name])
    weights, targets, recipe = starts["all"]
    for name, (other, own, _) in starts.items():
        assert all(map(torch.equal, weights, other)), name
        assert torch.equal(own, targets) == (name != "shuffled labels"), name
        assert torch.equal(own.sort(0).values, targets.sort(0).values), name
    assert starts["loss 1 - PCC"][2].loss is not recipe.loss


def test_an_untrained_network_is_tested_once(plain):
    one = unit(arm=ARMS["untrained"])
    assert one.predictions()["epochs"].shape == (1, 6, 7)
    assert "loss" not in one.metrics
    assert one.metrics["parameters"] == plain.metrics["parameters"]


def test_rows_are_those_scores(plain):
    values = {row["metric"]: row["value"] for row in experiment.rows([plain])}
    arrays = plain.predictions()
    predicted, truth = arrays["predicted"].astype(float), arrays["truth"]
    each = [np.corrcoef(predicted[:, k], truth[:, k])[0, 1] for k in range(7)]
    assert values["pcc"] == pytest.approx(np.mean(each))
    assert values["pcc_Surprise"] == pytest.approx(each[6])
    assert values["pcc_best_epoch"] >= values["pcc"]
    assert values["best_epoch"] in (1, 2, 3)
    order = np.argsort(arrays["n_frames"], kind="stable")
    last = order[-1:]  # six clips in fifths: the longest has one
    assert values["pcc_longest"] == pytest.approx(pcc(predicted[last], truth[last]))
    assert 0 <= values["attention_auc"] <= 1
    shown = np.split(arrays["inside"], arrays["n_frames"].cumsum()[:-1])
    assert values["events_share"] == pytest.approx(np.mean([x.mean() for x in shown]))
    constant = dict(arrays, predicted=np.full((6, 7), 0.3, np.float16))
    flat = SimpleNamespace(params=plain.params, predictions=lambda: constant)
    assert {r["metric"]: r["value"] for r in experiment.rows([flat])}["pcc"] == 0


@pytest.mark.parametrize("layout", ["abaw5", "muse"])
def test_official_clips_in_miniature(tmp_path, layout):
    root = getattr(hume_miniatures, f"write_{layout}")(tmp_path)
    asked = {"dataset": "hume", "data_root": root, "trial": 1}
    if layout == "muse":  # refused before any arm has trained
        refused(lambda: experiment.grid("paper", **asked), "wav", "arm 'all'", "as released")
        asked["variants"] = ["as released", "holistic + AU"]
    grid = experiment.grid("paper", **asked)
    assert {*grid} == {"as released", "holistic + AU" if layout == "muse" else "all"}
    one = unit(**grid["as released"][0])
    listing = experiment.DATASETS["hume"](root).table
    tested = listing[listing["split"] == "val"]
    assert one.predictions()["clip"].tolist() == tested["clip"].tolist()
    assert "attention" not in one.predictions()
    assert one.predictions()["n_frames"].tolist() == [4]
    assert all(values.dtype.kind in "iufU" for values in one.predictions().values())  # npz holds it
    assert experiment.rows([one])[0]["dataset"] == "hume"


@pytest.mark.parametrize("layout", ["abaw5", "muse"])
def test_a_unit_names_the_files_that_it_reads(tmp_path, layout):
    root = getattr(hume_miniatures, f"write_{layout}")(tmp_path / "data")
    hume_miniatures.write_wav(root / "raw/train/mp4/00001.mp4")  # a film is not read
    arms = {"variants": ["as released"], "trial": 1}
    ((params, *_),) = experiment.grid("paper", dataset="hume", data_root=root, **arms).values()
    files = {str(f.relative_to(root)) for f in map(Path, experiment.input_files(params))}
    sheets = {"abaw5": {"data_info.csv"}, "muse": {"labels.csv", "partition.csv"}}[layout]
    assert {name for name in files if "/" not in name} == sheets
    kinds = {"abaw5": 3 + 2 + 2, "muse": 2 * 3}[layout]  # of train and val: features, and sound
    assert len(files) == kinds + len(sheets) + 2 * (layout == "abaw5")
    assert not any(name.endswith(".mp4") or "test" in name for name in files)
    assert experiment.input_files(TINY) == []


def test_a_killed_training_on_official_data_goes_on(tmp_path, monkeypatch):
    root = hume_miniatures.write_abaw5(tmp_path / "data")
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path / "root"))
    params = experiment.grid("paper", dataset="hume", data_root=root, trial=1)["all"][0]
    params = params | {"epochs": 3}
    whole = unit(**params)
    place = Path(params["data"]["cache"]) / "checkpoints"
    assert list(place.iterdir()) == []  # it goes when all is done
    reached = interrupt(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        unit(**params)
    (kept,) = place.iterdir()
    again = unit(**params)
    assert len(reached) == 4  # one more epoch, not three
    assert np.array_equal(again.predictions()["epochs"], whole.predictions()["epochs"])
    assert not kept.exists()


def test_published_sizes_and_recipe():
    assert experiment.PAPER.epochs == 100
    from micromacro.training import learning_rate

    rates = [learning_rate(experiment.PAPER, epoch, 1) for epoch in (0, 9, 10, 25, 99)]
    assert rates == pytest.approx([1e-4, 1e-4, 5e-5, 2.5e-5, 1e-4 / 2**9])


def test_the_grid_names_what_there_is():
    assert list(experiment.grid("full")) == list(experiment.CORE)
    swept = experiment.grid("full", sweep=1, seeds=[3])
    assert set(swept) == set(ARMS)
    own = {"subjects", "test_subjects", "per_subject", "test_frames", "turned"}
    dials = own | {dial.name for dial in fields(task.Dials)}
    for name, (params,) in swept.items():
        Arm(**hashable(params["arm"]))
        assert set(params["data"]) <= dials, name
    assert list(experiment.grid()) == ["all", "audio"]
    (tried,) = experiment.grid(
        "full", variants=["all, events 3 frames"], seeds=[0], trial=1
    ).values()
    small = experiment.grid(variants=["all"])["all"][0]
    assert tried[0] | {"arm": {}} == small | {
        "seed": 0,
        "data": small["data"] | {"share": experiment.SHORTEST},
    }
    events = task.clips(8, 4, 1990, share=experiment.SHORTEST).events
    lengths = (events["offset"] - events["onset"] + 1).groupby(events["clip"]).sum()
    assert (lengths == 3).all()  # as the arm's name says


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Arm(readout="median"), ["readout", "token"]),
        (lambda: Arm(parts=()), ["parts=()", "leave it out"]),
        (lambda: Arm(parts=("holistic", "smell")), ["smell", "audio"]),
        (lambda: Arm(parts=("audio",), batch_norm="train"), ["batch_norm", "leave it out"]),
        (lambda: Arm(parts=("local",), layout="released"), ["layout"]),
        (lambda: Arm(parts=("local",), swapped="audio"), ["swapped"]),
        (lambda: Arm(weight_decay=float("nan")), ["weight_decay=nan"]),
        (lambda: unit(arm={"heads": 2}), ["heads", "readout"]),
        (lambda: unit(fold=1), ["fold 1", "choose 0"]),
        (lambda: experiment.grid(folds=3), ["folds=3", "leave it out"]),
        (lambda: experiment.grid(variants=["everything"]), ["everything", "holistic"]),
        (lambda: experiment.grid("paper"), ["paper", "synthetic"]),
        (lambda: experiment.official("omg", "x", cache="y"), ["omg", "hume"]),
        (lambda: experiment.grid(seeds=[0], variants=["events 3 frames"]), ["arm", "3 frames"]),
    ],
)
def test_what_cannot_be_is_refused(call, words):
    refused(call, *words)


def test_official_arms_do_what_their_names_say():
    assert not {"batch norm in training mode", "weight decay 0.5"} & {*experiment.OFFICIAL}
    assert {"as released", "all", "no weight decay"} <= {*experiment.OFFICIAL}


def test_a_sound_without_a_face_is_heard(tmp_path, monkeypatch):
    source = experiment.official("hume", hume_miniatures.write_abaw5(tmp_path), cache="unused")
    sound = source.clips[source.clips["sound"].map(lambda file: isinstance(file, str))].iloc[0]
    monkeypatch.setattr(experiment.hume, "load", lambda row: {})  # no features at all
    assert len(source.load(sound["clip"], "time", "eval").audio) > 0
    assert source.load(sound["clip"], "released", "eval").audio is None


def test_attention_to_shuffled_frames_is_not_scored():
    _, arrays = experiment.unit(**TINY | {"arm": {"shuffled": True}, "epochs": 1})
    assert "attention" not in arrays
