"""One unit of the ablations: every arm runs, repeats, and differs in what its name says."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from micromacro.errors import BadInput
from micromacro.motion.lbp_top import lbp_top
from micromacro.statistics import read_claims
from micromacro.systems.akmnet import classic, experiment, folds, inputs, scores
from micromacro.systems.akmnet.task import TASKS, Clips, record

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


def all_folds(function=experiment.unit, **params):
    """The pooled table of a run's folds, and its scores."""
    params = TINY | params
    n = params["folds"] or params["subjects"]
    table = scores.pooled([function(**params, fold=k)[1] for k in range(n)])
    return scores.pooled_scores(table), table


@pytest.fixture(scope="module")
def ours():
    return all_folds()


@pytest.fixture(scope="module")
def arms(ours):
    return {arm: all_folds(**options) for arm, options in ARMS.items()}


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains_and_scores(arm, arms, ours):
    metrics, table = arms[arm]
    for name in ("accuracy", "uar", "uf1", "accuracy_best_fold", "accuracy_best_subject"):
        assert 0 <= metrics[name] <= 1
    fixed = ("clip", "subject", "fold", "truth", "T", "onset", "apex", "offset")
    for name in fixed:  # the same people, clips and folds
        assert np.array_equal(table[name], ours[1][name])
    assert table["epochs"].shape == (16, 2)
    assert np.array_equal(table["prediction"], table["epochs"][:, -1])
    assert metrics["accuracy"] == np.mean(table["prediction"] == table["truth"])
    mines = arm in (*SELECTING, "s12")
    assert ("distance" in metrics) == mines == (table["max_key"] >= 0).all()
    assert ("kept_share" in metrics) == (arm in SELECTING)
    assert np.array_equal(table["logits"].argmax(1), table["prediction"])
    if arm in ("all", "s12", "resampled", "linear", "apex", "apex window", "true apex"):
        assert table["apex_kept"].all()
    if arm in ("max-key", "random", "random window"):
        assert not table["apex_kept"].all()
    if arm == "midpoint window":
        start = (table["T"] - table["kept"]) // 2
        inside = (start <= table["apex"]) & (table["apex"] < start + table["kept"])
        assert np.array_equal(table["apex_kept"], inside)
    if arm == "max-key":
        mined = arms["s123"][1]
        assert np.array_equal(table["apex_kept"], mined["max_key"] == mined["apex"])
    if arm != "s123":
        assert not np.array_equal(table["logits"], ours[1]["logits"])


def test_a_unit_repeats_to_the_last_bit(ours):
    metrics, table = experiment.unit(**TINY, fold=0)
    folds.trained.cache_clear()
    again, same = experiment.unit(**TINY, fold=0)
    assert again == metrics
    for name, values in table.items():
        assert np.array_equal(values, same[name]), name


def test_a_fold_alone_is_the_fold_of_the_run(ours):
    folds.trained.cache_clear()
    metrics, table = experiment.unit(**TINY, fold=1)
    rows = ours[1]["fold"] == 1
    assert np.array_equal(table["logits"], ours[1]["logits"][rows])
    assert metrics["clips"] == rows.sum()
    assert metrics["correct"] == (ours[1]["prediction"] == ours[1]["truth"])[rows].sum()


def test_people_are_never_on_both_sides(ours):
    table = ours[1]
    for subject in set(table["subject"]):
        assert len(set(table["fold"][table["subject"] == subject])) == 1
    assert set(table["fold"]) == {0, 1}


def test_a_fold_is_trained_without_its_test_clips(monkeypatch):
    plan, seen = folds.Plan(1990, TASKS["headline"], **SIZES | {"epochs": 1}), []

    def note(net, batches, *_, **options):
        seen.append({int(row) for row in batches.rows})
        with torch.no_grad():
            options["validate"](net.eval())

    monkeypatch.setattr(folds, "train", note)
    for k in (0, 1):
        found = folds.trained.__wrapped__(plan, k)
        assert seen[k] == set(np.flatnonzero(~found.test))
    assert len(plan.record()) == 16


def test_the_last_epoch_is_kept_whatever_the_test_clips_say(monkeypatch):
    plan = folds.Plan(1990, TASKS["headline"], **SIZES | {"epochs": 3})
    train, best = folds.train, []
    monkeypatch.setattr(folds, "train", lambda *a, **o: best.append(train(*a, **o).best))
    folds.trained.__wrapped__(plan, 0)
    assert best == [2]


def test_arms_start_from_the_same_weights():
    plan = folds.Plan(1990, TASKS["headline"], **SIZES)
    ours = folds._net(plan).state_dict()
    trained_on_stills = folds.pretrained(1990, 4).frame_net.state_dict()
    for name, weights in trained_on_stills.items():
        assert torch.equal(ours[f"frame_net.{name}"], weights)
    for steps in ("none", "s23"):
        for name, weights in folds._net(replace(plan, steps=steps)).state_dict().items():
            assert torch.equal(weights, ours[name]), name


def test_first_weights_but_the_gru_are_shared_with_its_released_start():
    plan = folds.Plan(1990, TASKS["headline"], **SIZES)
    ours, theirs = folds._net(plan), folds._net(replace(plan, legacy=("gru_init",)))
    for name, weights in ours.state_dict().items():
        if not name.startswith("gru."):
            assert torch.equal(theirs.state_dict()[name], weights), name
    assert float(theirs.gru.gru.bias_ih_l0.detach().min()) >= 0


def test_the_frozen_parts_stay_and_the_pretrained_network_is_not_touched():
    plan = folds.Plan(1990, TASKS["headline"], **SIZES | {"epochs": 1})
    before = {k: v.clone() for k, v in folds.pretrained(1990, 4).state_dict().items()}
    folds.trained.__wrapped__(plan, 0)
    for name, weights in folds.pretrained(1990, 4).state_dict().items():
        assert torch.equal(weights, before[name]), name


def test_leaving_one_subject_out_gives_each_a_fold():
    _, table = all_folds(folds=None, subjects=3, epochs=1)
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
        {"alpha": 1.0},
    ],
    ids=str,
)
def test_every_dial_of_the_sweep_turns_something(change, ours):
    _, table = experiment.unit(**TINY, **change, fold=0)
    before = ours[1]["logits"][ours[1]["fold"] == 0]
    assert table["logits"].shape == before.shape
    assert np.isfinite(table["logits"]).all()
    assert not np.array_equal(table["logits"], before)


def test_windows_are_as_long_as_what_s123_kept(ours):
    plan = folds.Plan(1990, TASKS["headline"], **SIZES)
    clips = plan.record()
    lengths = clips.lengths.tolist()
    plain = [torch.arange(T) for T in lengths]
    for k in (0, 1):
        mined = folds.trained(plan, k)
        rows = ours[1]["fold"] == k
        assert np.array_equal(mined.takes[mined.test], ours[1]["kept"][rows])
        assert np.array_equal(mined.max_key[mined.test], ours[1]["max_key"][rows])
        whole, every = folds._seen(plan, clips, None)
        assert every.all()
        for frames in ("random", "random window", "middle window", "apex window", "max-key"):
            given = {"takes": mined.takes.tolist(), "max_key": mined.max_key.tolist()}
            rows = inputs.chosen(clips, frames, plan.seed, **given)
            due = [1] * len(clips) if frames == "max-key" else given["takes"]
            assert [len(row) for row in rows] == due
            control = replace(plan, steps="none", frames=frames)
            seen, kept = folds._seen(control, clips, mined)
            flags = torch.from_numpy(kept).split(lengths)
            for clip, row, maps, flag in zip(seen, rows, whole, flags, strict=True):
                assert torch.equal(clip, maps[row])
                assert torch.equal(flag.nonzero().flatten(), row)
        assert [int(row) for row in rows] == given["max_key"]
        assert all(int(r.max()) < len(p) for r, p in zip(rows, plain, strict=True))


def test_controls_follow_the_s123_of_the_same_settings_and_fold(monkeypatch):
    plan = folds.Plan(1990, TASKS["headline"], **SIZES, bn="released")
    asked, body = [], folds.trained.__wrapped__

    def note(*given):
        asked.append(given)
        raise LookupError

    monkeypatch.setattr(folds, "trained", note)
    with pytest.raises(LookupError):
        body(replace(plan, steps="none", frames="middle window"), 1)
    assert asked == [(plan, 1)]


def test_every_claim_names_arms_that_there_are():
    arms = {**experiment.CORE, **experiment.BESIDE, "LBP-TOP": {}}
    for group in experiment.SWEEP.values():
        assert not arms.keys() & group.keys()
        arms |= group
    claims = read_claims().loc[lambda t: t.index.str.startswith("08-"), "contrast"]
    named = {a for text in claims for a in re.findall(r"\w\(([^()]+)\)", text.partition(";")[0])}
    assert len(claims) > 50
    assert named <= arms.keys()


@pytest.mark.parametrize("group", experiment.SWEEP)
def test_every_arm_of_the_sweep_is_accepted(group, monkeypatch):
    """An option that does nothing, or is unknown, would stop the sweep after an hour."""
    monkeypatch.setattr(
        experiment, "trained", lambda plan, fold: (_ for _ in ()).throw(LookupError)
    )
    for options in experiment.SWEEP[group].values():
        with pytest.raises(LookupError):
            experiment.unit(**TINY | {"fold": 0} | options)


def test_a_grid_goes_seed_by_seed_and_fold_by_fold():
    arms = {"a": {}, "b": {"steps": "s12"}}
    found = experiment.grid(arms, [3, 4], folds=2, epochs=1)
    assert [(p["seed"], p["fold"], p.get("steps")) for p in found] == [
        (seed, fold, steps) for seed in (3, 4) for fold in (0, 1) for steps in (None, "s12")
    ]
    assert {p["epochs"] for p in found} == {1}
    assert {p["fold"] for p in experiment.grid(arms, [0], subjects=5, folds=None)} == set(range(5))
    assert len(experiment.grid(arms, [0])) == 8


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
    maps, _ = folds._seen(plan, plan.record(), None)
    assert {len(clip) for clip in maps} == {9}
    assert len(maps) == 16


def test_phase_based_magnification_moves_pictures_and_leaves_the_first():
    clips = record(1990, replace(TASKS["headline"], magnification=1.0), subjects=4, clips=4)
    plain, magnified = inputs.pictures(clips), inputs.pictures(clips, 3.0)
    starts = (clips.lengths.cumsum(0) - clips.lengths).tolist()
    torch.testing.assert_close(magnified[starts], plain[starts], atol=1e-5, rtol=0)
    assert magnified.min() >= 0
    assert magnified.max() <= 1
    moved = [float((p - p[0]).abs().mean()) for p in clips.split(plain)]
    further = [float((m - m[0]).abs().mean()) for m in clips.split(magnified)]
    assert min(np.divide(further, moved)) > 1.1  # noise and light are in both
    assert np.mean(np.divide(further, moved)) > 1.6


def test_the_best_epoch_is_the_latest_of_the_best_after_a_quarter():
    hits = np.array([[1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 0, 1], [1, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 1]], bool).T  # fmt: skip
    assert scores.best_epoch(hits[:, :4]) == 1
    assert scores.best_epoch(hits) == 4  # epochs 0 and 1 are before a quarter of 8
    assert scores.best_epoch(np.zeros((3, 1), bool)) == 0


def test_selection_on_the_test_data_is_by_group():
    target = np.zeros(4, int)
    predictions = np.array([[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 1], [1, 0, 1, 1]]).T
    fold, subject = np.array([0, 0, 0, 0]), np.array([0, 0, 1, 1])
    found = scores.selected(predictions, target, (fold, subject))
    assert found["last"].tolist() == [1, 0, 1, 1]
    assert found["best_fold"].tolist() == [0, 0, 1, 1]
    assert found["best_subject"].tolist() == [0, 0, 0, 1]


def test_selected_scores_are_never_below_honest_ones(arms):
    for metrics, _ in arms.values():
        assert metrics["accuracy"] <= metrics["accuracy_best_fold"]
        assert metrics["accuracy_best_fold"] <= metrics["accuracy_best_subject"]


def rows_of(clips, **columns):
    """A table of clips, all of fold 0 and class 0, predicted as 0 but for what is given."""
    C = len(clips)
    table = {"clip": np.array(clips), "epochs": np.zeros((C, 1), int), "T": np.full(C, 5)}
    for name in ("subject", "fold", "truth", "onset", "apex", "most_changed", "max_key"):
        table[name] = np.zeros(C, int)
    table["offset"] = table["T"] - 1
    table |= {"kept": table["T"], "apex_kept": np.ones(C, bool)}
    return table | {name: np.asarray(values) for name, values in columns.items()}


def test_folds_are_pooled_by_clip():
    parts = [rows_of(["b", "d"], T=[2, 4]), rows_of(["c", "a"], T=[3, 1], fold=[1, 1])]
    table = scores.pooled(parts)
    assert table["clip"].tolist() == ["a", "b", "c", "d"]
    assert table["T"].tolist() == [1, 2, 3, 4]
    assert table["fold"].tolist() == [1, 0, 1, 0]
    with pytest.raises(BadInput, match="hold 3 clips, of which 2 differ"):
        scores.pooled([rows_of(["a", "b"]), rows_of(["b"])])
    with pytest.raises(BadInput, match="are none"):
        scores.pooled([])


def test_class_scores_are_of_all_clips_at_once():
    # Fold 0 all right, fold 1 all wrong; by hand: recalls 2/3 and 1/2, F1 2/3 and 1/2.
    right = rows_of(["a", "b", "c"], truth=[0, 0, 1], epochs=[[0], [0], [1]])
    wrong = rows_of(["d", "e"], truth=[0, 1], epochs=[[1], [0]], fold=[1, 1])
    found = scores.pooled_scores(scores.pooled([right, wrong]))
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["uar"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["uf1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["majority"] == pytest.approx(3 / 5)


def test_mining_scores_by_hand():
    given = {"T": [4, 5], "apex": [1, 4], "kept": [2, 1], "apex_kept": [True, False]}
    table = rows_of(["a", "b"], **given, max_key=[1, 0], truth=[0, 1])
    found = scores.pooled_scores(scores.pooled([table]))
    assert found["kept_share"] == pytest.approx((2 / 4 + 1 / 5) / 2)
    assert found["apex_kept"] == 0.5
    assert found["apex_excess"] == pytest.approx(0.5 - 0.35)
    each = scores.mining_columns(table)
    assert each["apex_kept_midpoint"].tolist() == [1, 0]  # frames 1 and 2 of four; frame 2 of five
    assert found["distance"] == pytest.approx((0 + 4 / 5) / 2)
    assert found["distance_frames"] == 2
    assert found["is_apex"] == 0.5
    assert (found["apex_kept_correct"], found["kept_share_correct"]) == (1, 0.5)
    nobody = rows_of(["a", "b"], T=[4, 5], max_key=[1, 0], truth=[1, 1])
    found = scores.pooled_scores(scores.pooled([nobody]))
    assert np.isnan(found["distance_correct"])
    assert "kept_share" not in found
    assert "distance" not in scores.mining_columns(rows_of(["a"], max_key=[-1]))


def test_whether_more_is_kept_of_longer_expressions():
    given = {
        "T": [10, 10, 20],
        "onset": [0, 2, 0],
        "offset": [4, 9, 3],
    }  # 0.5, 0.8, 0.2 of the clip
    table = rows_of(["a", "b", "c"], **given, kept=[5, 8, 4])
    assert scores.pooled_scores(scores.pooled([table]))["kept_with_duration"] == pytest.approx(1)
    table["kept"] = np.array([8, 5, 19])
    assert scores.pooled_scores(scores.pooled([table]))["kept_with_duration"] < 0
    table["kept"] = np.array([5, 5, 10])  # the same share of each
    assert np.isnan(scores.pooled_scores(scores.pooled([table]))["kept_with_duration"])


def test_guesses_by_hand():
    table = rows_of(["a", "b"], T=[4, 5], apex=[1, 4], most_changed=[2, 3])
    found = {name: values.mean() for name, values in scores.guess_columns(table).items()}
    assert found["distance_midpoint"] == pytest.approx((0.5 / 4 + 2 / 5) / 2)
    assert found["distance_random"] == pytest.approx(((1 + 0 + 1 + 2) / 16 + 10 / 25) / 2)
    assert found["distance_difference"] == pytest.approx((1 / 4 + 1 / 5) / 2)
    assert found["is_apex_random"] == pytest.approx((1 / 4 + 1 / 5) / 2)


def test_the_frame_that_differs_most_from_the_first():
    frames = torch.zeros(9, 2, 2, dtype=torch.uint8)
    frames[2], frames[7] = 9, 5  # frame 2 of the first clip, frame 3 of the second
    assert experiment.most_changed(clips_of([4, 5], [1, 4], frames)).tolist() == [2, 3]


@pytest.mark.parametrize("T", [1, 2, 7, 30])
def test_the_expectation_of_a_random_frame_is_exact(T):
    for apex in range(T):
        due = np.abs(np.arange(T) - apex).mean()
        assert scores.random_distance(np.array(T), np.array(apex)) == pytest.approx(due, abs=1e-12)


def test_the_classic_baseline_on_the_same_clips(ours):
    metrics, table = all_folds(lambda **p: classic.unit(**{k: v for k, v in p.items() if k not in ("epochs", "people")}))  # fmt: skip
    for name in ("clip", "subject", "fold", "truth", "apex", "most_changed"):
        assert np.array_equal(table[name], ours[1][name])
    assert table["logits"].shape == (16, 4)
    assert 0 <= metrics["accuracy"] <= 1
    assert metrics["accuracy"] == metrics["accuracy_best_subject"]  # there is one epoch
    assert "distance" not in metrics


def test_the_classic_baseline_is_a_balanced_machine_on_lbp_top():
    sizes = {"subjects": 4, "clips": 6, "folds": 2}
    _, table = classic.unit(seed=1990, fold=0, **sizes, grid=2, radius=2, penalty=30.0)
    clips = record(1990, TASKS["headline"], subjects=4, clips=6)
    each = [lbp_top(clip.float(), grid=(2, 2), radius=2) for clip in clips.split(clips.frames)]
    test = np.isin(clips.names, table["clip"])
    features, label = torch.stack(each).numpy(), clips.label.numpy()
    counts = np.bincount(label[~test])
    assert np.ptp(counts) > 1  # else balancing would not show
    times = np.zeros(len(label))  # how often each clip is seen
    for k, n in enumerate(counts):
        rows = np.flatnonzero(~test & (label == k))
        times[rows] = counts.max() // n
        times[rows[: counts.max() % n]] += 1
    machine = SVC(kernel="linear", C=30.0)
    machine.fit(features[~test], label[~test], sample_weight=times[~test])
    assert 0 < test.sum() < 24
    due = machine.decision_function(features[test])
    np.testing.assert_allclose(table["logits"], due, rtol=0, atol=1e-3)  # the solver's tolerance
    assert np.array_equal(table["epochs"][:, 0], machine.predict(features[test]))


def test_the_classic_baseline_with_classes_that_no_training_clip_shows(monkeypatch):
    body = classic.balanced
    monkeypatch.setattr(classic, "balanced", lambda label, rows: body(label, rows[label[rows] < 2]))
    _, table = classic.unit(seed=1990, fold=0, subjects=4, clips=6, folds=2)
    assert np.isfinite(table["logits"][:, :2]).all()
    assert np.isneginf(table["logits"][:, 2:]).all()
    assert np.array_equal(table["logits"].argmax(1), table["epochs"][:, 0])


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
        ({"fold": 2}, "fold 2"),
        ({"fold": -1}, "fold -1"),
    ],
    ids=str,
)
def test_rows_with_untrue_names_are_refused(change, message):
    with pytest.raises(BadInput, match=message):
        experiment.unit(**TINY | {"fold": 0} | change)


def test_controls_need_what_was_mined():
    with pytest.raises(BadInput, match="needs what AKMNet mined"):
        inputs.chosen(clips_of([4], [1]), "middle window")
    with pytest.raises(BadInput, match="unknown"):
        inputs.chosen(clips_of([4], [1]), "last")
