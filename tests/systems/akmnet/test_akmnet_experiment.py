"""One unit of the ablations: every arm runs, repeats, and differs in what its name says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from micromacro.errors import BadInput
from micromacro.systems.akmnet import experiment, folds, inputs, scores
from micromacro.systems.akmnet.task import TASKS, Clips

SIZES = {"subjects": 4, "clips": 4, "folds": 2, "epochs": 2, "people": 4}
TINY = {"seed": 1990, **SIZES}
ARMS = {
    **experiment.CORE,
    **experiment.BESIDE,
    "random": {"steps": "none", "frames": "random"},
    "linear": {"steps": "none", "frames": "linear"},
    "apex": {"steps": "none", "frames": "apex"},
    "max-key": {"steps": "none", "frames": "max-key"},
    "apex window": {"steps": "none", "frames": "apex window"},
}
SELECTING = ("s123", "s13", "s23", "as released")


@pytest.fixture(scope="module")
def ours():
    return experiment.unit(**TINY)


@pytest.fixture(scope="module")
def arms(ours):
    return {arm: experiment.unit(**TINY, **options) for arm, options in ARMS.items()}


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains_and_scores(arm, arms, ours):
    metrics, table = arms[arm]
    for name in ("accuracy", "uar", "uf1", "accuracy_best_fold", "accuracy_best_subject"):
        assert 0 <= metrics[name] <= 1
    fixed = ("clip", "subject", "fold", "truth", "T", "onset", "apex", "offset")
    for name in fixed:  # the same people, clips and folds
        assert np.array_equal(table[name], ours[1][name])
    assert table["epochs"].shape == (2, 16)
    assert np.array_equal(table["prediction"], table["epochs"][-1])
    assert metrics["accuracy"] == np.mean(table["prediction"] == table["truth"])
    mines = arm in (*SELECTING, "s12")
    assert ("distance" in metrics) == mines == (table["max_key"] >= 0).all()
    assert ("kept_share" in metrics) == (arm in SELECTING)
    assert np.array_equal(table["logits"].argmax(1), table["prediction"])
    if arm != "s123":
        assert not np.array_equal(table["logits"], ours[1]["logits"])


def test_a_unit_repeats_to_the_last_bit(ours):
    folds.trained.cache_clear()
    metrics, table = experiment.unit(**TINY)
    np.testing.assert_equal(metrics, ours[0])
    for name, values in table.items():
        assert np.array_equal(values, ours[1][name]), name


def test_people_are_never_on_both_sides(ours):
    table = ours[1]
    for subject in set(table["subject"]):
        assert len(set(table["fold"][table["subject"] == subject])) == 1
    assert set(table["fold"]) == {0, 1}


def test_every_fold_is_trained_without_its_test_clips(monkeypatch):
    plan = folds.Plan(1990, TASKS["headline"], **SIZES | {"epochs": 1})
    clips, seen = plan.record(), []

    def note(net, batches, *_, **options):
        seen.append({int(row) for row in batches.rows})
        with torch.no_grad():
            options["validate"](net.eval())

    monkeypatch.setattr(folds, "train", note)
    found = folds.trained.__wrapped__(plan)
    for k, rows in enumerate(seen):
        assert rows == set(np.flatnonzero(found.fold != k))
    assert len(seen) == 2
    assert len(clips) == 16


def test_the_last_epoch_is_kept_whatever_the_test_clips_say(monkeypatch):
    plan, train, best = (
        folds.Plan(1990, TASKS["headline"], **SIZES | {"epochs": 3}),
        folds.train,
        [],
    )
    monkeypatch.setattr(folds, "train", lambda *a, **o: best.append(train(*a, **o).best))
    folds.trained.__wrapped__(plan)
    assert best == [2, 2]


def test_arms_start_from_the_same_weights():
    plan = folds.Plan(1990, TASKS["headline"], **SIZES)
    ours = folds._net(plan).state_dict()
    trained_on_stills = folds.pretrained(1990, 4).frame_net.state_dict()
    for name, weights in trained_on_stills.items():
        assert torch.equal(ours[f"frame_net.{name}"], weights)
    for steps in ("none", "s23"):
        for name, weights in folds._net(replace(plan, steps=steps)).state_dict().items():
            assert torch.equal(weights, ours[name]), name


def test_the_frozen_parts_stay_and_the_pretrained_network_is_not_touched():
    plan = folds.Plan(1990, TASKS["headline"], **SIZES | {"epochs": 1})
    before = {k: v.clone() for k, v in folds.pretrained(1990, 4).state_dict().items()}
    folds.trained.__wrapped__(plan)
    for name, weights in folds.pretrained(1990, 4).state_dict().items():
        assert torch.equal(weights, before[name]), name


def test_leaving_one_subject_out_gives_each_a_fold():
    _, table = experiment.unit(**TINY | {"folds": None, "subjects": 3, "epochs": 1})
    assert np.array_equal(table["fold"], table["subject"])


@pytest.mark.parametrize(
    "change",
    [
        {"count_weight": 5.0},
        {"margin_weight": 0.0},
        {"bn": "released"},
        {"bn": "frozen"},
        {"legacy": ["straight_through"]},
        {"legacy": ["gru_init"]},
        {"task": "loose"},
        {"share": [0.4, 0.5]},
        {"centrality": 1.0},
        {"distractors": 0.0},
        {"magnification": 1.0},
    ],
    ids=str,
)
def test_every_dial_of_the_sweep_turns_something(change, ours):
    metrics, table = experiment.unit(**TINY, **change)
    assert np.isfinite([v for name, v in metrics.items() if "correct" not in name]).all()
    assert table["logits"].shape == ours[1]["logits"].shape
    assert np.isfinite(table["logits"]).all()
    assert not np.array_equal(table["logits"], ours[1]["logits"])


def test_windows_are_as_long_as_what_s123_kept(ours, arms):
    plan = folds.Plan(1990, TASKS["headline"], **SIZES)
    mined, clips = folds.trained(plan), plan.record()
    for k in (0, 1):
        test = ours[1]["fold"] == k
        assert np.array_equal(mined.takes[k][test], ours[1]["kept"][test])
        assert np.array_equal(mined.max_key[k][test], ours[1]["max_key"][test])
        lengths = clips.lengths.tolist()
        takes = mined.takes[k].tolist()
        maps = [torch.arange(T) for T in lengths]
        for frames in ("random", "random window", "middle window", "apex window"):
            control = replace(plan, steps="none", frames=frames)
            seen = folds._seen(control, clips, maps, mined, k)
            assert [len(clip) for clip in seen] == takes
        single = replace(plan, steps="none", frames="max-key")
        seen = folds._seen(single, clips, maps, mined, k)
        assert [int(clip) for clip in seen] == mined.max_key[k].tolist()


def test_controls_follow_the_s123_of_the_same_settings(monkeypatch):
    plan = folds.Plan(1990, TASKS["headline"], **SIZES, bn="released")
    asked, body = [], folds.trained.__wrapped__

    def note(plan):
        asked.append(plan)
        raise LookupError

    monkeypatch.setattr(folds, "trained", note)
    with pytest.raises(LookupError):
        body(replace(plan, steps="none", frames="middle window"))
    assert asked == [plan]


def clips_of(lengths, apex, frames=None, envelope=None) -> Clips:
    N, C = sum(lengths), len(lengths)
    zero = torch.zeros(C, dtype=torch.int64)
    frames = torch.zeros(N, 2, 2, dtype=torch.uint8) if frames is None else frames
    envelope = torch.ones(N) if envelope is None else envelope
    return Clips(
        frames, torch.tensor(lengths), zero, zero, zero, zero, torch.tensor(apex), zero, envelope
    )


def test_windows_around_the_apex_stay_in_the_clip():
    clips = clips_of([10, 10, 10], [0, 5, 9])
    found = inputs.chosen(clips, "apex window", takes=[4, 4, 4])
    assert [f.tolist() for f in found] == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]


def test_frames_by_truth():
    envelope = torch.tensor([0.0, 0.5, 1.0, 0.4, 1.0, 0.2])
    clips = clips_of([4, 2], [2, 0], envelope=envelope)
    assert [f.tolist() for f in inputs.chosen(clips, "true frames")] == [[1, 2], [0]]
    assert [f.tolist() for f in inputs.chosen(clips, "apex")] == [[2], [0]]


def test_batches_hold_every_clip_of_an_epoch():
    maps = [torch.full((T, 1, 1, 1), float(T)) for T in (3, 5, 2, 4)]
    target = torch.tensor([30, 50, 20, 40])
    batches = inputs.ClipBatches(maps, target, torch.tensor([0, 1, 2, 3, 3]), 2, 1)
    assert len(batches) == len(list(batches)) == 3
    seen = []
    for given, classes in batches(torch.Generator().manual_seed(0)):
        assert given["after"] == 1
        parts = given["frames"].split(given["lengths"].tolist())
        assert [10 * len(part) for part in parts] == classes.tolist()
        assert all((part == len(part)).all() for part in parts)
        seen += classes.tolist()
    assert sorted(seen) == [20, 30, 40, 40, 50]


def test_classes_are_balanced_by_repeating():
    label = torch.tensor([0, 0, 0, 1, 2, 2, 3])
    rows = inputs.balanced(label, torch.tensor([0, 1, 2, 3, 4, 5]))
    assert torch.bincount(label[rows]).tolist() == [3, 3, 3]
    assert set(rows.tolist()) == {0, 1, 2, 3, 4, 5}
    assert torch.bincount(rows).tolist() == [1, 1, 1, 3, 2, 1]


def test_resampled_clips_have_one_length():
    plan = folds.Plan(1990, TASKS["headline"], **SIZES, steps="none", frames="tim", length=9)
    maps = folds._maps(plan, plan.record())
    assert {len(clip) for clip in maps} == {9}
    assert len(maps) == 16


def test_the_best_epoch_is_the_latest_of_the_best_after_a_quarter():
    hits = np.array([[1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 0, 1], [1, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 1]], bool)  # fmt: skip
    assert scores.best_epoch(hits[:4]) == 1
    assert scores.best_epoch(hits) == 4  # epochs 0 and 1 are before a quarter of 8
    assert scores.best_epoch(np.zeros((1, 3), bool)) == 0


def test_selection_on_the_test_data_is_by_group():
    target = np.zeros(4, int)
    predictions = np.array([[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 1], [1, 0, 1, 1]])
    fold, subject = np.array([0, 0, 0, 0]), np.array([0, 0, 1, 1])
    found = scores.selected(predictions, target, (fold, subject))
    assert found["last"].tolist() == [1, 0, 1, 1]
    assert found["best_fold"].tolist() == [0, 0, 1, 1]
    assert found["best_subject"].tolist() == [0, 0, 0, 1]
    named = scores.class_scores(found, target)
    assert named["accuracy"] == 0.25
    assert named["accuracy_best_subject"] == 0.75


def test_selected_scores_are_never_below_honest_ones(arms):
    for metrics, _ in arms.values():
        assert metrics["accuracy"] <= metrics["accuracy_best_fold"]
        assert metrics["accuracy_best_fold"] <= metrics["accuracy_best_subject"]


def test_mining_scores_by_hand():
    clips = clips_of([4, 5], [1, 4])
    kept = np.array([0, 1, 1, 0, 1, 0, 0, 0, 0], bool)
    found = scores.mining_scores(clips, kept, np.array([1, 0]), True, np.array([True, False]))
    assert found["kept_share"] == pytest.approx((2 / 4 + 1 / 5) / 2)
    assert found["apex_kept"] == 0.5
    assert found["apex_excess"] == pytest.approx(0.5 - 0.35)
    assert found["distance"] == pytest.approx((0 + 4 / 5) / 2)
    assert found["distance_frames"] == 2
    assert found["is_apex"] == 0.5
    assert (found["apex_kept_correct"], found["kept_share_correct"]) == (1, 0.5)
    nobody = scores.mining_scores(clips, kept, np.array([1, 0]), False, np.zeros(2, bool))
    assert np.isnan(nobody["distance_correct"])
    assert "kept_share" not in nobody


def test_chance_scores_by_hand():
    frames = torch.zeros(9, 2, 2, dtype=torch.uint8)
    frames[2], frames[7] = 9, 5  # frame 2 of the first clip, frame 3 of the second
    clips = clips_of([4, 5], [1, 4], frames)
    found = scores.chance_scores(clips, np.array([True, True]))
    assert found["distance_midpoint"] == pytest.approx((0.5 / 4 + 2 / 5) / 2)
    assert found["distance_random"] == pytest.approx(((1 + 0 + 1 + 2) / 16 + 10 / 25) / 2)
    assert found["distance_difference"] == pytest.approx((1 / 4 + 1 / 5) / 2)
    assert found["is_apex_random"] == pytest.approx((1 / 4 + 1 / 5) / 2)
    assert found["distance_random_correct"] == found["distance_random"]


def test_the_exact_expectation_is_what_random_frames_give():
    clips = clips_of([7, 12, 30], [1, 8, 15])
    draws = np.random.default_rng(0)
    rows = list(zip(clips.lengths.tolist(), clips.apex.tolist(), strict=True))
    due = np.mean([np.abs(draws.integers(T, size=20000) - apex).mean() / T for T, apex in rows])
    found = scores.chance_scores(clips, np.ones(3, bool))
    assert found["distance_random"] == pytest.approx(due, abs=0.003)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "hard"}, "task 'hard'"),
        ({"frames": "first"}, "frames 'first'"),
        ({"legacy": ["schedule"]}, "legacy 'schedule'"),
        ({"steps": "s1"}, "steps='s1'"),
        ({"frames": "tim"}, "does nothing"),
        ({"length": 16}, "does nothing"),
        ({"steps": "none", "count_weight": 1.0}, "does nothing"),
        ({"steps": "s12", "margin_weight": 0.0}, "does nothing"),
        ({"steps": "none", "legacy": ["selection"]}, "does nothing"),
        ({"magnification": 9.0}, "off the dial"),
        ({"folds": 5}, "groups"),
    ],
    ids=str,
)
def test_rows_with_untrue_names_are_refused(change, message):
    with pytest.raises(BadInput, match=message):
        experiment.unit(**TINY | change)


def test_controls_need_what_was_mined():
    with pytest.raises(BadInput, match="needs what AKMNet mined"):
        inputs.chosen(clips_of([4], [1]), "middle window")
    with pytest.raises(BadInput, match="unknown"):
        inputs.chosen(clips_of([4], [1]), "last")
