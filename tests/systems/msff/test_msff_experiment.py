"""MSFF's units and scores: every arm, blank faces, nothing learnt from the tested, the official
layout."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import afew_miniatures
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from interrupted import interrupt
from refusals import refused

from micromacro import training
from micromacro.datasets import afew
from micromacro.systems.msff import experiment, fusion, inputs, stills, task
from micromacro.systems.msff.experiment import ARMS, CORE, FUSIONS, Arm
from micromacro.systems.msff.model import EMOTIONS, STREAMS
from micromacro.systems.msff.stills import NETWORKS, load_still_network, still_network
from micromacro.units import UnitResult

DATA = {"train": [3] * 7, "val": [2] * 7, "test": [2] * 7, "blank": 0.2}
DATA |= {"median": 14.0, "frames": [12, 20]}
TINY = {"data": DATA, "arm": CORE["vgg"], "seed": 1990, "fold": 0, "epochs": 3}
HASHABLE = {name: tuple(v) if isinstance(v, list) else v for name, v in DATA.items()}


def unit(name="vgg", **changes):
    """A unit as `by_seed` gives it."""
    params = TINY | changes
    metrics, predictions = experiment.unit(**params)
    more = {"seconds": 1.5, "predictions": lambda: predictions}
    return SimpleNamespace(params=params | {"name": name}, metrics=metrics, **more)


@pytest.fixture(scope="module", autouse=True)
def untrained():
    """Still networks with first weights: nothing here depends on what they have learnt."""
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng([]):
        torch.manual_seed(0)
        nets = {name: still_network(name).eval().requires_grad_(False) for name in NETWORKS}
        patch.setattr(stills, "load_still_network", nets.__getitem__)
        yield


@pytest.fixture(scope="module")
def core():
    return {name: unit(name, arm=arm) for name, arm in CORE.items()}


@pytest.fixture(scope="module")
def scored(core):
    rows = experiment.rows([*core.values()])
    return {(row["arm"], row["metric"]): row["value"] for row in rows}


def test_a_unit_holds_what_it_scored_and_repeats(core):
    arrays, again = core["vgg"].predictions(), unit().predictions()
    for name, values in arrays.items():
        assert np.array_equal(values, again[name]), name
    table = experiment.benchmark(1990, **HASHABLE).clips
    table = table[table["split"] != "train"]
    assert arrays["clip"].tolist() == table["clip"].tolist()
    assert arrays["label"].tolist() == table["label"].tolist()
    assert arrays["logits"].shape == (28, 7)
    assert np.isfinite(arrays["logits"]).all()
    assert arrays["blank"].any()


def test_every_core_arm_differs(core):
    logits = {name: one.predictions()["logits"] for name, one in core.items()}
    for name, own in logits.items():
        assert sum(np.array_equal(own, other) for other in logits.values()) == 1, name
    # Clips without a face teach networks of faces nothing.
    assert core["vgg"].metrics["trained_on"] < core["audio"].metrics["trained_on"] == 21


def test_the_tested_teach_nothing(core, monkeypatch):
    source = experiment.benchmark(1990, **HASHABLE)
    other = source.clips.copy()
    other.loc[other["split"] != "train", "label"] = 0
    monkeypatch.setattr(experiment, "benchmark", lambda *_, **__: source._replace(clips=other))
    again = unit()
    assert np.array_equal(again.predictions()["logits"], core["vgg"].predictions()["logits"])
    people = source.clips.groupby("split")["subject"].unique()
    assert not {*people["train"]} & {*people["val"]} & {*people["test"]}


def test_accuracies_are_recalls_at_a_prior(core, scored):
    arrays = core["audio"].predictions()
    tested = arrays["split"] == "test"
    hit = arrays["logits"][tested].argmax(1) == arrays["label"][tested]
    for metric, split in (("accuracy", "val"), ("accuracy_test_prior", "test")):
        by_hand = sum(
            share * hit[arrays["label"][tested] == k].mean()
            for k, share in enumerate(np.array(task.PRIORS[split]) / sum(task.PRIORS[split]))
        )
        assert scored["audio", metric] == pytest.approx(by_hand)
    assert scored["audio", "uar"] == pytest.approx(hit.mean())
    pair = np.isin(arrays["label"][tested], [2, 6])
    right = arrays["logits"][tested][pair][:, [2, 6]].argmax(1) == (
        arrays["label"][tested][pair] == 6
    )
    assert scored["audio", "accuracy_order"] == pytest.approx(right.mean())


def test_a_blank_face_leaves_the_decision_to_the_voice(core):
    arrays = {name: one.predictions() for name, one in core.items()}
    seen, tested = experiment._sides(arrays, STREAMS)
    blank = arrays["vgg"]["blank"][arrays["vgg"]["split"] == "test"]
    assert np.array_equal(tested.present, [~blank] * 3 + [blank | True])
    fused = fusion.equal(seen)(tested)[blank]
    assert np.array_equal(fused.argmax(1), tested.logits[3][blank].argmax(1))
    assert all(side.present.all() for side in experiment._sides(arrays, STREAMS, blanks=False))


def test_rows_hold_every_arm_and_fusion(scored):
    assert {arm for arm, _ in scored} == {*CORE, *FUSIONS, "best single"}
    assert all(np.isfinite(value) for value in scored.values())
    weights = [scored["all four", f"weight_{stream}"] for stream in STREAMS]
    assert sum(weights) == pytest.approx(1)
    assert scored["all four, equal", "weight_audio"] == 0.25
    single = max(STREAMS, key=lambda name: scored[name, "accuracy_val"])
    assert scored["best single", "accuracy"] == scored[single, "accuracy"]
    assert scored["all four", "accuracy_val"] >= scored[single, "accuracy_val"] - 0.15
    for what in ("agreement_audio", "agreement_visual", "mcnemar_p"):
        assert 0 <= scored["all four", what] <= 1


def test_without_a_blank_face_there_is_no_row_of_what_blanks_cost(core):
    seen = {name: SimpleNamespace(**vars(core[name])) for name in STREAMS}
    for name, one in seen.items():
        arrays = core[name].predictions()
        one.predictions = lambda own=arrays: own | {"blank": np.zeros(len(own["blank"]), bool)}
    made = {row["arm"] for row in experiment.rows([*seen.values()])}
    whole = {row["arm"] for row in experiment.rows([core[name] for name in STREAMS])}
    assert whole - made == {"all four, no blanks"}


def test_core_arms_are_scored_together_and_others_alone():
    one = UnitResult({"seed": 3}, {}, 1.0, {}, Path(), False)
    groups = {(arm, 3): [one] for arm in ("vgg", "vgg, max", "audio")}
    made = experiment.by_seed(groups)
    names = {key: [u.params["name"] for u in units] for key, units in made.items()}
    assert names == {("all arms", 3): ["vgg", "audio"], ("vgg, max", 3): ["vgg, max"]}
    assert one.params == {"seed": 3}


def test_units_of_other_clips_are_refused(core):
    arrays = core["audio"].predictions()
    other = SimpleNamespace(**vars(core["audio"]))
    other.predictions = lambda: arrays | {"clip": arrays["clip"][::-1]}
    refused(lambda: experiment.rows([core["vgg"], other]), "different clips", "one seed")


def test_a_share_of_the_clips_and_its_fusion_without_the_others(core):
    few = unit("audio, 50% of the clips", arm=CORE["audio"] | {"share": 0.5})
    assert few.metrics["trained_on"] in (10, 11)
    alone = experiment.rows([core["audio"]])
    assert {row["arm"] for row in alone} == {"audio"}
    assert {row["n"] for row in alone} == {14}  # the tested ones
    assert {row["seconds"] for row in alone} == {1.5}


def test_official_clips_in_miniature(tmp_path, monkeypatch):
    root = afew_miniatures.write_afew(tmp_path / "data")
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    units = experiment.grid("paper", dataset="afew", data_root=root, trial=1)
    assert {*units} == {*STREAMS}
    made = [unit(stream, **units[stream][0]) for stream in ("vgg", "audio")]
    arrays = made[0].predictions()
    assert {*arrays["split"]} == {"val", "test"}
    assert not arrays["present"].all()  # a clip without a face
    assert experiment.rows(made)[0]["dataset"] == "afew"
    asked = {"dataset": "afew", "data_root": root, "trial": 1, "variants": ["r3d_18"]}
    (stand_in,) = experiment.grid("paper", **asked)["r3d_18"]
    made.append(unit("r3d_18", **stand_in | {"epochs": 1}))
    assert made[-1].metrics["parameters"] == 33_169_863
    with training.isolated_rng(7):
        state = torchvision.models.video.r3d_18(num_classes=400).state_dict()
    torch.save(state, file := tmp_path / "r3d_18-b3b3357e.pth")
    (again,) = experiment.grid("paper", **asked, r3d_18_weights=str(file))["r3d_18"]
    other = unit("r3d_18", **again | {"epochs": 1})
    logits = [one.predictions()["logits"] for one in (made[-1], other)]
    assert not np.allclose(*logits, atol=1e-3)  # it started elsewhere
    assert "r3d_18" in {row["arm"] for row in experiment.rows(made)}


def test_a_killed_training_on_official_data_goes_on(tmp_path, monkeypatch):
    root = afew_miniatures.write_afew(tmp_path / "data")
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    (params,) = experiment.grid("paper", dataset="afew", data_root=root, trial=1)["audio"]
    params = params | {"epochs": 4}
    whole = unit(**params)
    place = Path(params["data"]["cache"]) / "checkpoints"
    assert list(place.iterdir()) == []  # it goes when all is done
    reached = interrupt(monkeypatch, 4)  # after one of the epochs that count
    with pytest.raises(KeyboardInterrupt):
        unit(**params)
    (kept,) = place.iterdir()
    again = unit(**params)
    assert len(reached) == 5  # one more epoch, not four
    assert np.array_equal(again.predictions()["logits"], whole.predictions()["logits"])
    assert not kept.exists()


def test_features_of_official_clips_are_made_once_for_these_files(tmp_path, monkeypatch):
    table, looked = afew.read_afew(afew_miniatures.write_afew(tmp_path / "data")).table, []
    names = ["train_000000001", f"train_{afew_miniatures.FACELESS['train']}"]
    clips = table.set_index("clip", drop=False).loc[names].to_dict("records")

    def network(*name):
        looked.append(name)
        with training.isolated_rng(len(looked)):  # others each time
            return still_network("resnet").eval().requires_grad_(False)

    monkeypatch.setattr(inputs, "load_still_network", network)
    monkeypatch.setattr(inputs, "load_published", network)
    on_disk = partial(inputs.features_on_disk, clips, cache=tmp_path / "cache", device="cpu")
    official = partial(on_disk, faces="official", weights=None)
    first, none = official("resnet")
    assert none is None  # no face
    assert first.shape == (len(inputs.frames(inputs.Clip(**afew.load(clips[0])))), 192)
    assert torch.equal(official("resnet")[0], first)  # by other weights, if it were made anew
    assert looked == [("resnet",)]
    (folder, _) = sorted((tmp_path / "cache/features").glob("*-resnet-*"))
    (folder / "features.npy").write_bytes(b"torn")
    made = [first, official("resnet")[0]]
    picture = sorted(Path(clips[0]["faces"]).iterdir())[0]
    picture.write_bytes(picture.read_bytes() + b" ")  # another file, the same picture
    made += [official("resnet")[0], official("vgg")[0]]
    own = str(tmp_path / "own.pth")
    for content in (b"1", b"2"):
        Path(own).write_bytes(content)
        made += [official(name, weights=own)[0] for name in ("vgg", "resnet")]
    published = [("vgg_face", own), ("ferplus", own)]
    assert looked == [("resnet",)] * 3 + [("vgg",), *published, *published]
    assert len({tuple(rows.flatten().tolist()) for rows in made}) == len(looked)
    with pytest.warns(UserWarning, match="no face found"):  # in these films
        assert on_disk("resnet", faces="detected", weights=None) == [None, None]
    gone = str(tmp_path / "gone.pth")
    refused(lambda: official("vgg", weights=gone), gone, "check the path")


def test_all_clips_of_a_person_choose_the_fusion_or_none(monkeypatch):
    people = [f"person {k}" for k in np.random.default_rng(0).integers(11, size=60)]
    table = pd.DataFrame(
        {"subject": people, "label": "Sad", "split": ["train"] * 40 + ["val"] * 20}
    )
    table["clip"] = [f"clip {k}" for k in range(60)]
    listing = SimpleNamespace(table=table, missing=())
    monkeypatch.setitem(experiment.DATASETS, "afew", lambda root: listing)
    clips = experiment.official("afew", "of some people", cache="nowhere").clips
    assert (clips["split"] == "test").tolist() == (table["split"] == "val").tolist()
    sides = clips[clips["split"] != "test"].groupby("subject")["split"].nunique()
    assert (sides == 1).all()
    people = clips.groupby("split")["subject"].nunique()
    assert people["val"] == -(-len(sides) // experiment.HELD_OUT)


@pytest.mark.parametrize("name", ["vgg", "resnet", "vgg_second"])
def test_still_networks_are_small_frozen_and_know_faces(name):
    net = load_still_network(name)
    assert not any(p.requires_grad for p in net.parameters())
    assert sum(p.numel() for p in net.parameters()) < 125_000
    assert net.about["score"]["uar"] > 0.6  # eight classes, faint ones among them
    assert net(torch.rand(2, 1, 48, 48)).shape == (2, 8)
    # People of the benchmark come from splits of their own.
    assert not {"encoder", "encoder_test"} & {f"film-{split}" for split in task.PRIORS}


def test_the_grid_names_what_there_is():
    assert [*experiment.grid("full")] == [*CORE]
    swept = experiment.grid("full", sweep=1, seeds=[3])
    assert {*swept} == {*ARMS}
    for name, (params,) in swept.items():
        Arm(**params["arm"])
        assert {*params["data"]} <= {*task.Dials.__dataclass_fields__}, name
    assert [*experiment.grid()] == ["vgg", "audio"]
    (smoke,) = experiment.grid()["vgg"]
    assert len(smoke["data"]["train"]) == len(EMOTIONS)
    assert experiment.grid("full", trial=1, seeds=[1000], variants=["vgg"])["vgg"] == [smoke]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Arm(stream="smell"), ["smell", "audio"]),
        (lambda: Arm(readout="median"), ["readout", "mean"]),
        (lambda: Arm(stream="c3d", layers=2), ["layers=2", "leave it out"]),
        (lambda: Arm(stream="resnet", second=True), ["second"]),
        (lambda: Arm(second=True, stills=False), ["stills"]),
        (lambda: Arm(redundancy=1.0), ["redundancy"]),
        (lambda: Arm(share=0.0), ["share"]),
        (lambda: Arm(solid="r3d_18"), ["solid", "leave it out"]),
        (lambda: Arm(stream="c3d", solid="r2d"), ["solid", "r3d_18"]),
        (lambda: unit(arm={"heads": 2}), ["heads", "readout"]),
        (lambda: unit(fold=1), ["fold 1", "choose 0"]),
        (lambda: experiment.grid(folds=3), ["folds=3", "leave it out"]),
        (lambda: experiment.grid(variants=["everything"]), ["everything", "c3d"]),
        (lambda: experiment.grid("paper"), ["paper", "synthetic"]),
        (lambda: experiment.official("omg", "x", cache="x"), ["omg", "afew"]),
        (
            lambda: experiment.official("afew", "x", cache="x", c4d_weights="y"),
            ["c4d", "c3d_weights"],
        ),
        (lambda: load_still_network("face"), ["face", "vgg"]),
    ],
)
def test_what_cannot_be_is_refused(call, words):
    refused(call, *words)
