"""One unit of the benchmark: every arm runs, repeats, and differs in what its name says."""

import re
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from refusals import refused
from sklearn.svm import SVC

from micromacro.motion.lbp_top import lbp_top
from micromacro.statistics import read_claims
from micromacro.systems.akmnet import experiment, inputs, scores, task
from micromacro.systems.akmnet.experiment import ARMS, Arm, Run
from micromacro.systems.akmnet.model import FrameNet, Vgg11

DATA = {"subjects": 4, "tested": 4, "clips": 4}
TINY = {"data": DATA, "arm": {}, "seed": 1990, "folds": 2, "epochs": 2}


def all_folds(**params):
    """The pooled table of a run's folds, and its scores."""
    params = TINY | params
    table = scores.pooled([experiment.unit(**params, fold=k)[1] for k in range(params["folds"])])
    return scores.pooled_scores(table), table


def run(fold=0, epochs=2):
    return Run(1_990_000 + fold, fold, 2, epochs, "cpu")


def source(fold=0, **data):
    return task.benchmark(1990, fold, **DATA | data)


@pytest.fixture(scope="module")
def arms():
    return {name: all_folds(arm=ARMS[name]) for name in ("s123", "max-key", "random window")}


def test_controls_see_as_many_frames_of_the_same_clips_and_folds(arms):
    (metrics, ours), (_, best), (_, window) = arms.values()
    for name in ("clip", "subject", "fold", "truth", "T", "onset", "apex", "most_changed"):
        assert np.array_equal(best[name], ours[name])
        assert np.array_equal(window[name], ours[name])
    assert np.array_equal(window["kept"], ours["kept"])
    assert np.array_equal(best["apex_kept"], ours["max_key"] == ours["apex"])
    assert (ours["max_key"] >= 0).all()
    assert (best["max_key"] == -1).all()
    for table in (ours, best, window):
        assert table["epochs"].shape == (32, 2)
        assert table["clip"].tolist() == np.repeat(np.unique(table["clip"]), 2).tolist()
        assert np.array_equal(table["logits"].argmax(1), table["epochs"][:, -1])
    assert metrics["accuracy"] == np.mean(ours["prediction"] == ours["truth"])
    # choosing the epoch on the test data never looks worse
    names = ("accuracy", "accuracy_best_fold", "accuracy_best_subject")
    assert sorted(metrics[name] for name in names) == [metrics[name] for name in names]


def test_frames_of_resampled_clips_are_mixtures_of_all():
    _, table = experiment.unit(**TINY | {"arm": ARMS["resampled 12"]}, fold=0)
    assert (table["apex_kept"] == -1).all()
    assert (table["kept"] == 12).all()


def test_a_fold_alone_repeats_the_fold_of_the_run_to_the_last_bit(arms):
    experiment.trained.cache_clear()
    (metrics, again), table = experiment.unit(**TINY, fold=1), arms["s123"][1]
    rows, order = table["fold"] == 1, np.argsort(again["clip"])
    for name, values in again.items():
        assert np.array_equal(values[order], table[name][rows]), name
    assert metrics["correct"] == (table["prediction"] == table["truth"])[rows].sum()
    assert metrics["clips"] == rows.sum() == metrics["trained_on"] == 16
    assert metrics["people"] == [f"{k:03d}" for k in (0, 1, 2, 3, 8, 9, 10, 11)]


def test_a_fold_is_trained_without_its_test_clips(monkeypatch):
    seen = []

    def note(model, batches, *_, validate, **options):
        seen.append({int(row) for row in batches.rows})
        with torch.no_grad():
            validate(model.eval())
        return SimpleNamespace(epochs=[SimpleNamespace(loss=0.0)])

    monkeypatch.setattr(experiment, "train", note)
    for fold in (0, 1):
        experiment.trained.__wrapped__(source(fold), Arm(), run(fold, 1), None)
        assert seen[fold] == set(np.flatnonzero(source(fold).table["subject"] >= 4))


def test_folds_start_from_other_weights_and_arms_of_a_fold_from_the_same(monkeypatch):
    starts, train = [], experiment.train

    def note(model, *args, **options):
        starts.append((model.net.classifier.weight.detach().clone(), options["seed"]))
        return train(model, *args, **options)

    experiment.trained.cache_clear()
    monkeypatch.setattr(experiment, "train", note)
    for fold, arm in ((0, {}), (0, {"steps": "none"}), (1, {})):
        experiment.unit(**TINY | {"arm": arm, "epochs": 1}, fold=fold)
    (first, seed), (same, again), (other, elsewhere) = starts
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert seed == again != elsewhere


def test_the_class_after_an_epoch_is_that_of_the_last_two_logits_mean(monkeypatch):
    records, train = [], experiment.train

    def note(model, *args, **options):
        history = train(model, *args, **options)
        records.append(model.record.numpy().copy())
        return history

    experiment.trained.cache_clear()
    monkeypatch.setattr(experiment, "train", note)
    _, found = experiment.unit(**TINY | {"epochs": 3}, fold=0)
    (each,) = records
    np.testing.assert_array_equal(found["epochs"][:, 0], each[0].argmax(1))
    np.testing.assert_array_equal(found["epochs"][:, 1], (each[0] + each[1]).argmax(1))
    np.testing.assert_allclose(found["logits"], (each[1] + each[2]) / 2, rtol=1e-5, atol=1e-6)


def test_the_last_epoch_counts_and_pretrained_parts_stay(monkeypatch):
    train, best = experiment.train, []

    def note(*args, **options):
        history = train(*args, **options)
        best.append(history.best)
        return history

    before = {k: v.clone() for k, v in task.pretrained().state_dict().items()}
    monkeypatch.setattr(experiment, "train", note)
    experiment.trained.__wrapped__(source(), Arm(), run(epochs=3), None)
    assert best == [2]
    for name, weights in task.pretrained().state_dict().items():
        assert torch.equal(weights, before[name]), name


@pytest.mark.parametrize("arm", ["s123", "all", "ResNet, apex", "VGG, apex"])
def test_arms_start_from_the_same_pretrained_weights(arm):
    net = experiment.network(source(), Arm(**ARMS[arm]), 1990)
    source().start(net.frame_net)
    expected = task.pretrained("vgg" if "VGG" in arm else "resnet").frame_net.state_dict()
    torch.testing.assert_close(net.frame_net.state_dict(), expected, rtol=0, atol=0)


def test_controls_follow_the_s123_of_the_same_settings_and_fold(monkeypatch):
    asked, body = [], experiment.trained.__wrapped__

    def note(*args):
        asked.append(args)
        raise LookupError

    monkeypatch.setattr(experiment, "trained", note)
    arm = Arm(steps="none", frames="middle window", bn="released")
    with pytest.raises(LookupError):
        body(source(), arm, run(1), None)
    assert asked == [(source(), Arm(bn="released"), run(1), None)]
    with pytest.raises(LookupError):  # a plain network has no miner of its own
        body(source(), Arm(**ARMS["ResNet, max-key"]), run(1), None)
    assert asked[1] == (source(), Arm(), run(1), None)


def test_annotators_err_by_some_frames():
    _, table = experiment.unit(**TINY | {"arm": ARMS["ResNet, apex"]}, fold=0)
    _, off = experiment.unit(**TINY | {"arm": ARMS["ResNet, apex ± 4"]}, fold=0)
    assert 0 < off["apex_kept"].mean() < 0.5
    assert np.array_equal(off["apex"], table["apex"])  # scores go by the truth


@pytest.mark.parametrize("name", ["resnet", "vgg"])
def test_a_plain_network_sees_one_frame_of_each_clip(name):
    arm = {"resnet": ARMS["ResNet, apex"], "vgg": ARMS["VGG, apex"]}[name]
    _, table = experiment.unit(**TINY | {"arm": arm}, fold=0)
    assert (table["kept"] == 1).all()
    assert (table["apex_kept"] == 1).all()
    net = experiment.network(source(), Arm(**arm), 0).eval()
    assert isinstance(net.frame_net, FrameNet if name == "resnet" else Vgg11)
    frames = torch.rand(3, 1, 48, 48)
    with torch.no_grad():
        expected = net.classifier(net.frame_net(frames).mean((-2, -1)))
        maps = net.frame_net.freeze(task.FROZEN[name]).frozen_maps(frames)
        output = net(maps, torch.tensor([1, 1, 1]), after=task.FROZEN[name])
    torch.testing.assert_close(output.logits, expected)
    assert output.mining.takes == [1, 1, 1]


# ---- arms and grids ------------------------------------------------------------------------------


def test_every_claim_names_arms_that_there_are():
    claims = read_claims().loc[lambda t: t.index.str.startswith("08-"), "contrast"]
    named = {a for text in claims for a in re.findall(r"\w\(([^()]+)\)", text.partition(";")[0])}
    assert len(claims) > 50
    assert named <= ARMS.keys()
    assert len(ARMS) == 11 + sum(map(len, experiment.SWEEP.values()))  # no name stands twice


def test_every_unit_of_every_grid_is_accepted(monkeypatch):
    """An option that does nothing, or is unknown, would stop the sweep after an hour."""
    monkeypatch.setattr(experiment, "trained", lambda *a: (_ for _ in ()).throw(LookupError))
    grid = experiment.grid("full", seeds=[1990], sweep=1)
    assert list(grid) == [*experiment.CORE, *experiment.BESIDE, "LBP-TOP"] + [
        name for group in experiment.SWEEP.values() for name in group
    ]
    one = {"subjects": 1, "tested": 1, "clips": 1}
    for name, (params, *_) in grid.items():
        if name != "LBP-TOP":
            with pytest.raises(LookupError):
                experiment.unit(**params | {"data": params["data"] | one})


def test_a_grid_goes_seed_by_seed_and_fold_by_fold():
    smoke = experiment.grid()
    assert list(smoke) == ["s123", "all", "midpoint window", "LBP-TOP"]
    first = {"seed": 1000, "fold": 0, "folds": 2, "epochs": 2, "device": "cpu"}
    first |= {"data": {"subjects": 6, "tested": 6, "clips": 5}, "arm": {"steps": "none"}}
    assert smoke["all"] == [first, first | {"fold": 1}]
    full = experiment.grid("full", variants=["s12"], seeds=[3, 4], folds=3)
    order = [(p["seed"], p["fold"]) for p in full.pop("s12")]
    assert order == [(s, f) for s in (3, 4) for f in (0, 1, 2)]
    assert not full
    swept = experiment.grid("full", sweep=1)
    assert len(swept["random"]) == 8 * 8
    assert len(swept["s123, 12 epochs"]) == 8 * 4
    assert swept["s123, 12 epochs"][0]["epochs"] == 12
    assert swept["all, loose"][0]["data"] == {"task": "loose"}
    for arm in ("s123", "s12", "s23"):
        again = swept[f"{arm}, new seeds"]
        assert again[: 8 * 8] == [p | {"seed": p["seed"] + 8} for p in swept[arm]]
        assert [p["seed"] for p in again[::8]] == [*range(8, 24)]


WRONG = [
    "tiny synthetic",
    "paper synthetic",
    "smoke casme2",
    "paper casme3",
    "smoke synthetic s321",
]


@pytest.mark.parametrize("words", WRONG)
def test_a_grid_that_there_is_not(words):
    profile, dataset, *variants = words.split()
    refused(lambda: experiment.grid(profile, dataset=dataset, variants=variants))


REFUSED = {
    "frames 'first'": {"frames": "first"},
    "legacy 'schedule'": {"legacy": ["schedule"]},
    "protocol 'mine'": {"protocol": "mine"},
    "classifier 'svm'": {"classifier": "svm"},
    "steps 's1'": {"steps": "s1"},
}
IDLE = [{"frames": "tim"}, {"length": 16}, {"steps": "none", "count_weight": 1.0}]
IDLE += [{"steps": "s12", "margin_weight": 0.0}, {"steps": "none", "legacy": ["selection"]}]
IDLE += [{"protocol": "as_released", "bn": "frozen"}, {"apex_error": 2.0}]
IDLE += [{"steps": "none", "classifier": "resnet"}]
IDLE += [ARMS["VGG, apex"] | {"bn": "frozen"}, ARMS["ResNet, apex"] | {"legacy": ["gru_init"]}]


@pytest.mark.parametrize(
    ("message", "change"),
    [
        *((message, {"arm": arm}) for message, arm in REFUSED.items()),
        *(("does nothing", {"arm": arm}) for arm in IDLE),
        ("task 'hard'", {"data": {"task": "hard"}}),
        ("off the dial", {"data": DATA | {"magnification": 9.0}}),
        *(("fold 0", {"folds": None}), ("fold 2", {"fold": 2}), ("fold -1", {"fold": -1})),
        ("apex_error=-1.0", {"arm": {"steps": "none", "frames": "apex", "apex_error": -1.0}}),
    ],
)
def test_rows_with_untrue_names_are_refused(message, change):
    refused(lambda: experiment.unit(**TINY | {"fold": 0} | change), message)


# ---- which frames, and batches -------------------------------------------------------------------


def clips_of(T, apex=None, envelope=()):
    """As much of a source as the choice of frames looks at."""
    apex = [0] * len(T) if apex is None else apex
    return SimpleNamespace(table=pd.DataFrame({"T": T, "apex": apex}), envelope=envelope)


def test_random_frames():
    T, takes = [9, 4, 1, 30], [3, 4, 1, 15]
    draw, again = (inputs.choose("random", clips_of(T), 0, takes) for _ in range(2))
    for t, n, frames, same in zip(T, takes, draw, again, strict=True):
        assert torch.equal(frames, same)
        assert frames.tolist() == sorted({*range(t)} & {*frames.tolist()})
        assert len(frames) == n
    many = torch.cat(inputs.choose("random", clips_of([5] * 2000), 1, [2] * 2000))
    assert (many.bincount() / 2000 - 0.4).abs().max() < 0.05


def test_windows():
    def windows(choice, T, takes, apex=None):
        return [w.tolist() for w in inputs.choose(choice, clips_of(T, apex), 0, takes)]

    middle = windows("middle window", [9, 8, 4, 1, 5], [3, 3, 4, 1, 2])
    assert middle == [[3, 4, 5], [2, 3, 4], [0, 1, 2, 3], [0], [1, 2]]
    around = windows("apex window", [10, 10, 10], [4, 4, 4], [0, 5, 9])
    assert around == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    drawn = windows("random window", [6] * 2000, [3] * 2000)
    assert all(window == [window[0] + k for k in range(3)] for window in drawn)
    starts = np.bincount([window[0] for window in drawn], minlength=4)
    assert np.abs(starts / 2000 - 0.25).max() < 0.05


def test_frames_by_truth():
    envelope = torch.tensor([0.0, 0.5, 1.0, 0.4]), torch.tensor([1.0, 0.2])
    clips = clips_of([4, 2], [2, 0], envelope)
    assert [f.tolist() for f in inputs.choose("true frames", clips, 0)] == [[1, 2], [0]]
    assert [f.tolist() for f in inputs.choose("apex", clips, 0)] == [[2], [0]]
    assert [f.tolist() for f in inputs.choose("max-key", clips, 0, (), [3, 1])] == [[3], [1]]
    for choice in ("apex", "apex window", "true frames"):
        choose = partial(inputs.choose, choice, clips_of([4, 2], [2, -1]), 0, [1, 1])
        refused(choose, f"frames '{choice}': need a truth")


def test_annotators_err_about_the_apex_and_stay_within_the_expression():
    n = 4000
    clips = clips_of([41] * n, [20] * n)
    clips.table["onset"], clips.table["offset"] = [0, 15] * (n // 2), [40, 22] * (n // 2)

    def said(sd, seed=0):
        frames = inputs.choose("apex", clips, seed, apex_error=sd)
        return torch.cat(frames).numpy() - 20

    assert (said(0.0) == 0).all()
    assert said(3.0)[::2].std() == pytest.approx(3, rel=0.06)
    assert abs(said(3.0)[::2].mean()) < 0.2
    assert {*said(3.0)[1::2]} == {*range(-5, 3)}
    assert (said(3.0) == said(3.0)).all()
    assert (said(3.0) != said(3.0, 1)).any()


def test_batches_hold_every_clip_of_an_epoch():
    maps = [torch.full((T, 1, 1, 1), float(T)) for T in (3, 5, 2, 4)]
    target, drawn, seen = torch.tensor([30, 50, 20, 40]), [], []

    def clip(i, generator):
        drawn.append(generator is not None)
        return maps[i]

    batches = inputs.ClipBatches(clip, target, torch.tensor([0, 1, 2, 3, 3]), 2, 1)
    assert len(batches) == len(list(batches)) == 3
    for given, classes in batches(torch.Generator().manual_seed(0)):
        assert given["after"] == 1
        parts = given["frames"].split(given["lengths"].tolist())
        assert [10 * len(part) for part in parts] == classes.tolist()
        assert all((part == len(part)).all() for part in parts)
        seen += classes.tolist()
    assert sorted(seen) == [20, 30, 40, 40, 50]
    assert drawn == [False] * 5 + [True] * 5
    some = replace(batches, frames=[torch.tensor([0, 1])] * 4)
    assert [given["lengths"].tolist() for given, _ in some] == [[2, 2], [2, 2], [2]]


def test_clips_of_rare_classes_are_drawn_again():
    label = torch.tensor([0, 0, 0, 1, 2, 2, 3])
    rows = inputs.balanced(label, torch.tensor([0, 1, 2, 3, 4, 5]), 0)
    assert torch.bincount(label[rows]).tolist() == [3, 3, 3]
    assert set(rows.tolist()) == {0, 1, 2, 3, 4, 5}
    assert torch.bincount(rows)[:4].tolist() == [1, 1, 1, 3]
    assert torch.equal(rows, inputs.balanced(label, torch.tensor([0, 1, 2, 3, 4, 5]), 0))
    label = torch.tensor([0] * 6 + [1] * 4)  # two of the last four, as likely as any other
    often = sum(
        torch.bincount(inputs.balanced(label, torch.arange(10), k)) - 1 for k in range(2000)
    )
    assert often[:6].tolist() == [0] * 6
    assert ((often[6:] / 4000 - 0.25).abs() < 0.03).all()


def test_the_frame_that_differs_most_from_the_first():
    pixels = np.zeros((5, 1, 2, 2), np.uint8)
    pixels[3], pixels[2] = 5, 9
    assert experiment.most_changed(pixels) == 2
    assert experiment.most_changed(pixels[[0, 0, 1, 3]]) == 3


# ---- the classic baseline ------------------------------------------------------------------------


def test_the_classic_baseline_is_a_balanced_machine_on_lbp_top():
    data = source(clips=6)
    test, label = data.tested, data.table["label"].to_numpy()
    result = experiment.classic(data, test, grid=2, radius=2, penalty=30.0)
    clips = [torch.from_numpy(data.pixels(row)).float() for row in range(len(label))]
    features = torch.stack([lbp_top(clip, grid=(2, 2), radius=2) for clip in clips]).numpy()
    counts = np.bincount(label[~test])
    assert np.ptp(counts) > 1  # else balancing would not show
    own = label[~test]
    times = np.array([counts.max() / counts[k] for k in own])  # as often as clips would be repeated
    penalty = 30.0 * counts.sum() / (counts.max() * (counts > 0).sum())
    machine = SVC(kernel="linear", C=penalty).fit(features[~test], own, sample_weight=times)
    expected = machine.decision_function(features[test])
    np.testing.assert_allclose(result.logits, expected, rtol=0, atol=1e-3)  # the solver's tolerance
    # Votes of all pairs decide, not the largest margin: they differ on some clips of most seeds.
    assert np.array_equal(result.epochs[:, 0], machine.predict(features[test]))


def test_the_classic_baseline_with_classes_that_no_training_clip_shows():
    data = source()
    data = replace(data, table=data.table.assign(label=data.table["label"].where(data.tested, 1)))
    data.table.loc[~data.tested & (data.table["subject"] > 5), "label"] = 0
    result = experiment.classic(data, data.tested)
    assert np.isfinite(result.logits[:, :2]).all()
    assert np.isneginf(result.logits[:, 2:]).all()
    assert set(result.epochs[:, 0]) <= {0, 1}
