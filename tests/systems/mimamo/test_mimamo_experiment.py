"""One unit of the ablations: every arm runs, repeats, and differs in what its name says."""

from functools import cache, partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from refusals import refused

from micromacro.clip import merge_windows, windows
from micromacro.datasets.affect import hold_last, rescale
from micromacro.motion import flow
from micromacro.motion.tvl1 import TVL1, tvl1_flow
from micromacro.studies import signals
from micromacro.systems.mimamo import experiment, inputs, task
from micromacro.systems.mimamo.experiment import Arm
from micromacro.systems.mimamo.inputs import synthetic_clips
from micromacro.systems.mimamo.scores import of_split, scores
from micromacro.systems.mimamo.task import Dials

TINY = {"seed": 1990, "data": {"people": 4}, "epochs": 1}


def unit(**options):
    """A tiny unit of an arm; options that are not the arm's are the data's."""
    theirs = ("people", "test_illumination", "sizes", *vars(Dials()))
    data = {k: options.pop(k) for k in theirs if k in options}
    return experiment.unit(**TINY | {"data": {"people": 4, **data}, "arm": options})


def shown(predictions, name):
    """Rows of the test, (clips, snippets, labels)."""
    table = of_split(predictions, "test")
    return table[name].reshape(len(table["clips"]), 32, -1)


@pytest.fixture(scope="module")
def ours():
    return unit()


def test_a_unit_repeats_to_the_last_bit_and_tests_other_people(ours):
    metrics, predictions = unit()
    assert metrics == ours[0]
    for name, array in predictions.items():
        np.testing.assert_array_equal(array, ours[1][name], name)
    assert shown(predictions, "prediction").shape == shown(predictions, "truth").shape == (4, 32, 2)
    people = of_split(predictions, "test")["subjects"].tolist()
    assert people == ["test-000"] * 2 + ["test-001"] * 2
    assert {name[:5] for name in of_split(predictions, "train")["subjects"]} == {"train"}


def test_scores_pool_all_snippets(ours):
    metrics, predictions = ours
    for k, label in enumerate(("valence", "arousal")):
        p, t = (shown(predictions, name)[..., k].ravel() for name in ("prediction", "truth"))
        due = 2 * np.cov(p, t, ddof=0)[0, 1] / (p.var() + t.var() + (p.mean() - t.mean()) ** 2)
        assert metrics[f"ccc_{label}"] == pytest.approx(due, abs=1e-6)
        assert metrics[f"mse_{label}"] == pytest.approx(((p - t) ** 2).mean(), rel=1e-5)


# Those of new seeds are arms of the core once more.
OWN = {arm: own for arm, own in experiment.ARMS.items() if "seeds" not in own}


@pytest.fixture(scope="module")
def untrained():
    """Of each arm the scores of a network that nobody has trained, and its recipe.

    Three iterations do for TV-L1: it is to differ here, not to be good.
    """
    recipes, arms = [], {}
    few = {"warps": 1, "outer_iterations": 1, "inner_iterations": 3}

    def note(model, batches, recipe, **_):
        recipes.append(repr(recipe))
        return SimpleNamespace(epochs=[])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "train", note)
        patch.setattr(inputs, "record", cache(task.record.__wrapped__))  # arms come back to clips
        patch.setattr(flow, "tvl1_flow", lambda *pair: tvl1_flow(*pair[:2], TVL1(**few)))
        for arm, options in (OWN | {"arousal": {"label": "arousal"}}).items():
            arms[arm] = unit(people=2, **options)[0], recipes[-1]
    return arms


@pytest.mark.parametrize("arm", OWN)
def test_every_arm_differs_from_every_other_before_it_is_trained(arm, untrained):
    assert [name for name, result in untrained.items() if result == untrained[arm]] == [arm]


def sequences(**options):
    """All training sequences of two people as one batch of inputs."""
    arm = Arm.on("synthetic", options)
    clips = [c for c in synthetic_clips(arm, seed=1990, people=2)[0] if c.split == "train"]
    batches = experiment._training_batches(arm, clips, "cpu")
    inputs = [inputs for inputs, *_ in batches]
    return {name: torch.cat([each[name] for each in inputs]) for name in inputs[0]}


def test_one_level_is_blind_to_the_other():
    inputs = sequences(streams="temporal", levels=[2])
    assert not inputs["level_1"].any()
    assert inputs["level_2"].any()
    assert "features" not in inputs


def test_levels_are_scaled_by_the_training_set_alone():
    one, other = Arm.on("synthetic", {}), Arm.on("synthetic", {"scale": True})
    plain, scaled = (synthetic_clips(arm, seed=1990, people=2)[0] for arm in (one, other))
    frames = np.arange(125)[:, None] + np.arange(13)  # 0 ... 12, 1 ... 13, and so on
    for clips, arm in ((plain, one), (scaled, other)):
        clips[:] = [clip.load(frames[::4], arm=arm) for clip in clips]
    training = torch.stack([c["level_2"] for c in plain[:4]]).std()
    assert torch.stack([c["level_2"] for c in scaled[:4]]).std() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(scaled[-1]["level_2"] * training, plain[-1]["level_2"], atol=1e-5)
    assert torch.equal(scaled[0]["features"], plain[0]["features"])


def test_sequences_are_cut_and_put_together_again():
    class Echo(torch.nn.Module):
        def forward(self, features, level_1, level_2, mask):
            return features[..., :2]

    for steps in (4, 16, 32):
        arm = Arm.on("synthetic", {"steps": steps})
        clips, _ = synthetic_clips(arm, seed=1990, people=2)
        table = experiment._predicted(arm, clips, Echo(), "cpu")
        frames = np.arange(0, 125, 4)[:, None] + np.arange(13)
        features = torch.cat([clip.load(frames, arm=arm)["features"][:, :2] for clip in clips])
        assert np.array_equal(table["prediction"], features.numpy())


STARTS = {(0, 64): [], (64, 64): [0], (65, 64): [0, 1], (128, 64): [0, 64], (150, 64): [0, 64, 86]}
STARTS |= {(128, 32): [0, 32, 64], (130, 32): [0, 32, 64, 66]}


@pytest.mark.parametrize("case", STARTS, ids=str)
def test_windows(case):
    n, stride = case
    assert windows(n, 64, stride) == [(start, start + 64) for start in STARTS[case]]
    assert windows(20, 64, stride) == [(0, 20)]


def test_merge_windows_averages_or_overwrites():
    parts = [(range(4), np.full((4, 2), 1.0)), (range(3, 7), np.full((6, 2), 2.0))]  # padded
    merged = merge_windows(parts, 8)
    assert merged[:7, 0].tolist() == [1, 1, 1, 1.5, 2, 2, 2]
    assert np.isnan(merged[7]).all()
    merged = merge_windows(parts, 7, overwrite=True)
    assert merged[:, 1].tolist() == [1, 1, 1, 2, 2, 2, 2]


def test_hold_last():
    prediction = np.arange(1, 7, dtype=float)[:, None]
    valid = np.array([False, True, False, False, True, False])
    assert hold_last(prediction, valid)[:, 0].tolist() == [0, 2, 2, 2, 5, 5]


def test_rescale_is_the_formula():
    y = np.random.default_rng(1).normal(0.3, [0.05, 2.0], (500, 2))
    scaled = rescale(y, np.array([0.2, 0.4]))
    np.testing.assert_allclose(scaled.mean(axis=0), y.mean(axis=0), atol=1e-12)  # stays
    np.testing.assert_allclose(scaled.std(axis=0), [0.2, 0.4], rtol=1e-12)
    np.testing.assert_allclose(rescale(y[:, 0], 0.2), scaled[:, 0], rtol=1e-12)
    np.testing.assert_allclose(rescale(scaled, y.std(axis=0)), y, atol=1e-12)
    np.testing.assert_allclose(rescale(np.full(3, 0.1), 0.5), 0.1, rtol=1e-12)
    for wrong, sd in [([], 1), ([np.nan, 1], 1), ([1.0, 2.0], 0), ([1.0, 2.0], np.nan)]:
        refused(partial(rescale, np.array(wrong), sd))


UNKNOWN = {
    "legacy 'axis'": {"legacy": ["axis"]},
    "loss 'mae'": {"loss": "mae"},
    "motion 'flow'": {"kind": "flow"},
    "streams 'flow'": {"streams": "flow"},
    "option of an arm 'blocks'": {"blocks": "figure"},
    "levels 3": {"levels": [3]},
    "steps 12": {"steps": 12},
    "steps 0": {"steps": 0},
}
IDLE = [{"kind": "farneback"}, {"length": 4}, {"levels": [1]}, {"scale": True}]
IDLE = [{"streams": "spatial"} | change for change in (*IDLE, {"legacy": ["crop"]})]
IDLE += [{"legacy": ["loss"], "loss": "mse"}, {"legacy": ["unwrap"], "kind": "raw"}]


@pytest.mark.parametrize(
    ("message", "change"),
    [
        *((f"{what}: is unknown", change) for what, change in UNKNOWN.items()),
        *(("does nothing", change) for change in IDLE),
        ("twice", {"legacy": ["crop"], "protocol": "as_released"}),
        ("no even number", {"length": 5}),
        ("asks for a GRU", {"legacy": ["gru_axis"], "recurrent": False}),
        ("off the dial", {"test_illumination": 2.0}),
    ],
)
def test_rows_with_untrue_names_are_refused(message, change):
    refused(lambda: unit(**change), message)


def test_folds_of_the_benchmark_choose_the_epoch_on_people_left_out():
    data = {"people": 4}
    metrics, predictions = experiment.unit(seed=1990, data=data, fold=1, folds=2, epochs=2)
    assert set(predictions["splits"]) == {"validation", "test"}
    assert {"validation_ccc_arousal", "ccc_arousal"} <= set(metrics)
    assert np.isfinite(predictions["epoch_score"]).tolist() == [True, True]
    assert len(set(of_split(predictions, "validation")["subjects"])) == 2


def test_grids_are_what_the_profiles_say():
    smoke = experiment.grid()
    assert list(smoke) == ["ours", "spatial", "temporal, phase"]
    assert [u["seed"] for u in smoke["ours"]] == [1000]
    assert smoke["ours"][0]["data"] == {"dataset": "synthetic", "people": 8}
    full = experiment.grid("full", sweep=1)
    assert set(full) == set(experiment.ARMS)
    assert [u["seed"] for u in full["L 4"]] == list(range(8))
    for arm in ("ours", "spatial", "no GRU"):
        again = full[f"{arm}, new seeds".removeprefix("ours, ")]
        assert again == [full[arm][0] | {"seed": seed} for seed in range(8, 32)]
    light = full["phase, light 0 to 1"][0]
    assert (light["data"]["test_illumination"], "illumination" in light["arm"]) == (1, False)
    paper = experiment.grid("paper", dataset="omg", data_root="/x", seeds=[4])
    assert list(paper) == ["ours", "as released"]
    order = [(label, fold) for label in ("valence", "arousal") for fold in range(5)]
    assert [(u["arm"]["label"], u["fold"]) for u in paper["ours"]] == order
    assert paper["as released"][0]["arm"]["protocol"] == "as_released"


WRONG = {"smoke synthetic theirs": "is unknown", "smoke afew": "is unknown"}
WRONG |= dict.fromkeys(["paper synthetic", "smoke omg", "full affwild"], "does not go with")


@pytest.mark.parametrize("words", WRONG)
def test_a_grid_that_there_is_not(words):
    profile, dataset, *variants = words.split()
    refused(lambda: experiment.grid(profile, dataset=dataset, variants=variants), WRONG[words])


def test_a_constant_network_scores_nothing():
    truth = np.random.default_rng(0).random((96, 2), np.float32)
    about = {"splits": np.array(["test"]), "lengths": np.array([96])}
    table = about | {"clips": about["splits"], "subjects": about["splits"], "truth": truth}
    found = scores(table | {"prediction": 0 * truth}, "test", truth.std(0), ("valence", "arousal"))
    assert found["ccc_valence"] == found["rescaled_arousal"] == 0
    assert found["mse_valence"] == pytest.approx(np.square(truth[:, 0]).mean(), rel=1e-5)
    assert scores(table | {"prediction": np.nan * truth}, "test", truth.std(0), ("a", "b")) == {}


def test_signals_that_must_hold_by_theory():
    measured = signals.unit(seed=1999)
    assert np.isfinite(list(measured.values())).all()
    assert measured["exposure_phase_rad"] < 1e-5  # the phase of g z + o has no g and no o in it
    assert measured["exposure_flow_px"] > 5 * measured["exposure_flow_zscore_px"]
    assert measured["common_centred"] < measured["common_plain"]
    assert measured["linear_r2_1"] > 0.9
    assert measured["turned_1"] < 1.5  # a straight line gives 3
    assert measured["turned_2"] < 1.5


def test_rows_of_training_name_their_split_and_size():
    arrays = {"splits": np.array(["train", "train", "test"]), "lengths": np.array([3, 4, 5])}
    arrays |= dict.fromkeys(("clips", "subjects"), np.array(["a", "b", "c"]))
    arrays |= dict.fromkeys(("prediction", "truth"), np.zeros((12, 2)))
    metrics = {"ccc_valence": 0.5, "train_ccc_valence": 0.9}
    one = {"params": {"folds": None}, "metrics": metrics, "predictions": lambda: arrays}
    rows = experiment.rows([SimpleNamespace(**one)])
    expected = [("ccc_valence", "test", 5), ("train_ccc_valence", "train", 7)]
    assert [(row["metric"], row["split"], row["n"]) for row in rows] == expected
