"""One unit of spotting: every method, both data sets in miniature, nothing learnt from those
searched."""

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import long_miniatures
import numpy as np
import pandas as pd
import pytest
import torch
from refusals import refused

from micromacro import units
from micromacro.cache import hashable
from micromacro.systems.spotting import experiment, inputs, intervals, scoring, task
from micromacro.systems.spotting.experiment import ARMS, Arm
from micromacro.systems.spotting.scoring import CLASSES

DATA = {"subjects": 4, "n_frames": 240, "size": 24, "shares": (0.15, 0.2), "uneven": 0.0}
TINY = {"data": DATA, "arm": {}, "seed": 1990, "folds": 2, "steps": 20}


def unit(fold=0, **changes):
    """A unit as `units.run` gives it."""
    params = TINY | {"fold": fold} | changes
    metrics, predictions = experiment.unit(**params)
    return SimpleNamespace(params=params, metrics=metrics, predictions=lambda: predictions)


@pytest.fixture(scope="module")
def folds():
    return [unit(fold) for fold in (0, 1)]


@pytest.fixture
def source():
    return experiment.benchmark(1990, **DATA)


@pytest.mark.parametrize("arm", ["two references", "k-gap flow", "accumulated flow", "MDMD"])
def test_a_unit_holds_what_it_searched_and_repeats(folds, source, arm):
    first = folds[0] if arm == "two references" else unit(arm=ARMS[arm])
    arrays = first.predictions()
    if arm in ("two references", "MDMD"):  # the others train as the first does
        for name, values in unit(arm=ARMS[arm]).predictions().items():
            assert np.array_equal(values, arrays[name], equal_nan=values.dtype.kind == "f"), name
    names = arrays["video"].tolist()
    assert len(names) == 2
    assert arrays["curve"].shape == (480, 2)
    assert ((arrays["curve"] >= 0) & (arrays["curve"] <= 1)).all() or arm == "MDMD"
    own = source.events[source.events["video"].isin(names)]
    assert arrays["event_onset"].tolist() == own["onset"].tolist()
    assert {*arrays["spotted_video"].tolist()} <= {*names}


def test_people_are_on_one_side_and_the_searched_teach_nothing(folds, source, monkeypatch):
    sides = [set(fold.predictions()["subject"].tolist()) for fold in folds]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == {*source.clips["subject"]}
    searched = source.events["video"].isin(folds[0].predictions()["video"].tolist())
    moved = source.events.assign(onset=source.events["onset"].where(~searched, 0))
    monkeypatch.setattr(experiment, "benchmark", lambda *_, **__: source._replace(events=moved))
    other, same = unit(), folds[0]
    assert other.metrics == same.metrics
    assert np.array_equal(other.predictions()["curve"], same.predictions()["curve"])
    assert not np.array_equal(other.predictions()["event_onset"], same.predictions()["event_onset"])
    seen = source.events["onset"].where(searched, 0)
    monkeypatch.setattr(
        experiment,
        "benchmark",
        lambda *_, **__: source._replace(events=source.events.assign(onset=seen)),
    )
    assert unit().metrics["gaps"] != same.metrics["gaps"]


def test_arms_of_a_seed_share_first_weights_and_order(monkeypatch):
    starts = {}

    def note(net, batches, *_, seed, **options):
        weights = [p.clone() for p in net.parameters()]
        starts[name] = (weights, next(iter(batches(torch.Generator().manual_seed(seed)))))
        return SimpleNamespace(epochs=[SimpleNamespace(loss=0.0)])

    monkeypatch.setattr(experiment, "train", note)
    for name in ("two references", "raw", "gaps x 2.0", "shuffled frames"):
        unit(arm=ARMS[name])
    weights, (frames, labels) = starts.pop("two references")
    for name, (other, (_, target)) in starts.items():
        assert all(map(torch.equal, weights, other)), name
        assert name == "shuffled frames" or torch.equal(target, labels)
    assert torch.equal(starts["raw"][1][0], frames)
    assert torch.equal(
        starts["gaps x 2.0"][1][0][:, 0], frames[:, 0]
    )  # the frame; not its references
    assert not torch.equal(starts["gaps x 2.0"][1][0][:, 1], frames[:, 1])


def test_shuffled_frames_are_scored_in_their_own_places(source, monkeypatch):
    """A look at the frame alone gives the same curve, whatever the order."""

    def brightness(look, chunks, k, reference):
        value = torch.cat(list(chunks)).float().mean((1, 2, 3)) / 255
        return value[:, None].expand(-1, 2).clone()

    monkeypatch.setattr(inputs, "scores", brightness)
    curves = [
        unit(arm=arm, steps=10).predictions()["curve"] for arm in ({}, ARMS["shuffled frames"])
    ]
    assert np.array_equal(*curves)
    assert len(np.unique(curves[0])) > 20


def test_swapped_gaps_are_exchanged_in_the_search_alone(monkeypatch):
    """Training is the same to the last bit; each search has the other class's gap."""
    plain, seen, score = unit(), [], inputs.scores

    def note(look, chunks, gaps, reference):
        seen.append([*gaps.items()])
        return score(look, chunks, gaps, reference)

    monkeypatch.setattr(inputs, "scores", note)
    swapped, half = unit(arm=ARMS["swapped gaps"]), plain.metrics["gaps"]
    assert swapped.metrics["loss"] == plain.metrics["loss"]
    assert all(own == [("micro", half["macro"]), ("macro", half["micro"])] for own in seen)
    assert not np.array_equal(swapped.predictions()["curve"], plain.predictions()["curve"])


def test_blind_tiling_takes_the_length_that_does_best_in_training(source):
    tiled = unit(arm=ARMS["blind tiling"])
    arrays, half = tiled.predictions(), tiled.metrics["gaps"]["macro"]
    seen = source.clips[~source.clips["video"].isin(arrays["video"].tolist())]
    truth = source.events[source.events["video"].isin(seen["video"])]
    best = {}
    for factor in (1.4, 1.7, 2.0, 2.4):
        length = round(factor * half)
        onsets = np.arange(0, 240, length)
        rows = [(v, "macro", a, min(a + length, 240) - 1) for v in seen["video"] for a in onsets]
        table = pd.DataFrame(rows, columns=experiment.INTERVAL)
        best[length] = scoring.megc_f1(truth, table)["overall"]
    assert best[tiled.metrics["tile"]] == max(best.values())
    assert np.isnan(arrays["curve"]).all()
    assert {*arrays["spotted_label"].tolist()} == {"macro"}


def test_rows_are_the_pooled_scores(folds):
    values = {row["metric"]: row for row in experiment.rows(folds)}
    videos, events, spotted = experiment.tables(folds)
    expected = scoring.megc_f1(events, spotted)
    for name in (*CLASSES, "overall"):
        assert values[f"f1_{name}"]["value"] == expected[name]
    assert values["f1_overall"]["n"] == len(events)
    assert values["f1_micro"]["n"] == (events["label"] == "micro").sum()
    curve = np.concatenate([f.predictions()["curve"] for f in folds]).astype(float)
    for k, name in enumerate(CLASSES):
        inside = np.zeros(960, bool)
        for event in events[events["label"] == name].itertuples():
            first = 240 * videos["video"].tolist().index(event.video)
            inside[first + event.onset : first + event.offset + 1] = True
        a, b = curve[inside, k], curve[~inside, k]
        above = (a[:, None] > b).mean() + 0.5 * (a[:, None] == b).mean()
        assert values[f"auc_{name}"]["value"] == pytest.approx(above, abs=1e-9)
    assert values["f1_overall_oracle"]["value"] <= 1
    shown = 0
    micro = spotted[spotted["label"] == "micro"]
    for row in micro.itertuples():
        middle = (row.onset + row.offset) // 2
        hits = events[(events["video"] == row.video) & (events["onset"] <= middle)]
        shown += {*hits[hits["offset"] >= middle]["label"]} == {"macro"}
    assert values["confusion_micro"]["value"] == pytest.approx(shown / max(len(micro), 1))
    gaps, thresholds = (folds[0].metrics[name] for name in ("gaps", "thresholds"))
    row = videos.iloc[0]
    laid = intervals.spotted(row["curve"], gaps, thresholds, row["video"])
    stored = spotted[spotted["video"] == row["video"]]
    assert abs(len(laid) - len(stored)) <= 1  # curves are stored with half precision


def test_a_fold_given_twice_is_refused(folds):
    refused(lambda: experiment.tables([folds[0], folds[0]]), "twice", "once")


@pytest.mark.parametrize("dataset", experiment.DATASETS)
def test_official_videos_in_miniature(tmp_path, monkeypatch, dataset):
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    if dataset == "samm-lv":
        root = long_miniatures.write_samm_lv(tmp_path / "data")
        refused(lambda: experiment.official(dataset, root, cache="x"), "SAMM_longvideos", "crops")
        (root / "SAMM_longvideos").rename(root / "SAMM_longvideos_crop")
        names = (
            "006_1_9",
            "012_4_9",
            "020_6_9",
            "037_4_9",
        )  # so that each person shows both classes
        more = [(name, 2, 3, 5, long_miniatures.MICRO) for name in names]
        long_miniatures.write_samm_sheet(root, (*long_miniatures.SAMM_ROWS, *more))
    else:
        root = long_miniatures.write_casme_squared(tmp_path / "data", "longVideoFaceCropped")
        more = (1, "anger1_3", 4, 5, 7, "micro")
        long_miniatures.write_casme_sheet(root, (*long_miniatures.CAS_ROWS, more))
    grid = experiment.grid("paper", dataset=dataset, data_root=root, trial=1)
    assert [len(params) for params in grid.values()] == [2, 2]
    listing = experiment.DATASETS[dataset](root)
    made = [unit(**params) for params in grid["two references"]]
    searched = [v for one in made for v in one.predictions()["video"].tolist()]
    assert sorted(searched) == sorted(listing.videos["video"])
    assert (
        len(experiment.rows(made))
        == len(experiment.rows([unit(**p) for p in grid["blind tiling"]])) + 3
    )
    data = grid["two references"][0]["data"]
    kept = experiment.official(**data).load(searched[0])
    read = torch.cat(list(listing.frames(searched[0], size=24)))
    assert torch.equal(kept, (255 * read).round().byte())
    key = units.unit_key(experiment.unit, grid["two references"][0])
    (root / "another folder").mkdir()
    (root / "another folder/large.avi").write_bytes(b"not read")
    assert units.unit_key(experiment.unit, grid["two references"][0]) == key
    picture = next((root / listing.pictures).rglob("*.jpg"))
    picture.write_bytes(picture.read_bytes() + b" ")
    assert units.unit_key(experiment.unit, grid["two references"][0]) != key
    resumes(grid["two references"][0], monkeypatch)
    people = listing.videos["subject"].nunique()
    everyone = experiment.grid("paper", dataset=dataset, data_root=root, variants=["raw"])["raw"]
    assert [params["fold"] for params in everyone] == list(range(people))


def resumes(params: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit on official data that is killed in the middle goes on and ends as the whole one
    does."""
    real, calls = experiment.inputs.Pairs.__call__, []

    def draw(self, generator):
        calls.append(self)
        if len(calls) == last:
            raise KeyboardInterrupt
        return real(self, generator)

    last = None
    monkeypatch.setattr(experiment.inputs.Pairs, "__call__", draw)
    whole, n_whole = unit(**params), len(calls)
    folder = Path(params["data"]["cache"]) / "checkpoints"
    assert not any(folder.iterdir())
    last = n_whole + 7
    with pytest.raises(KeyboardInterrupt):
        unit(**params)
    assert any(folder.iterdir())
    calls.clear()
    again = unit(**params)
    assert len(calls) < n_whole - 3  # what was trained is not trained again
    assert not any(folder.iterdir())
    assert again.metrics == whole.metrics
    for name, array in whole.predictions().items():
        np.testing.assert_array_equal(again.predictions()[name], array)


def test_the_grid_names_what_there_is():
    core = experiment.grid("full")
    assert list(core) == list(experiment.CORE)
    assert len(core["raw"]) == 8 * 2
    swept = experiment.grid("full", sweep=1, seeds=[3])
    assert set(swept) == set(ARMS)
    dials = {"subjects", "n_frames", "kind"} | {dial.name for dial in fields(task.Dials)}
    for name, params in swept.items():
        Arm(**hashable(params[0]["arm"]))
        assert set(params[0]["data"]) <= dials, name
    assert list(experiment.grid()) == ["two references", "blind tiling"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Arm(method="cnn"), ["method", "3d-cnn"]),
        (lambda: Arm(references=("micro", "mega")), ["references", "macro"]),
        (lambda: Arm(factor=0), ["factor=0", "give 0.01 to 100"]),
        (lambda: Arm(references=()), ["references=()"]),
        (lambda: Arm(references=("micro",), shared=False), ["shared=False"]),
        (lambda: Arm(labels="bogus"), ["bogus", "inside"]),
        (lambda: Arm(references=("micro",), swapped=True), ["swapped=True"]),
        (lambda: unit(steps=25), ["steps=25", "multiple of 10"]),
        (lambda: Arm(method="mdmd", inputs="raw"), ["inputs", "does nothing", "leave it out"]),
        (lambda: unit(arm={"gap": 2}), ["gap", "factor"]),
        (lambda: unit(fold=2), ["fold 2", "no such fold", "count from 0"]),
        (lambda: experiment.grid(variants=["nothing"]), ["nothing", "two references"]),
        (lambda: experiment.grid("paper"), ["paper", "synthetic"]),
        (lambda: experiment.grid("full", dataset="samm-lv"), ["samm-lv"]),
        (lambda: experiment.official("smic", "x", cache="y"), ["smic", "casme-squared"]),
    ],
)
def test_what_cannot_be_is_refused(call, words):
    refused(call, *words)
