"""One unit of the ablations: every arm runs, repeats, and differs in what its name says."""

from functools import partial

import numpy as np
import pytest
import torch
from refusals import refused

from micromacro.clip import merge_windows, windows
from micromacro.datasets.affect import hold_last, rescale
from micromacro.studies import signals
from micromacro.systems.mimamo import MimamoNet, experiment
from micromacro.systems.mimamo.experiment import LIGHT, Arm
from micromacro.systems.mimamo.inputs import synthetic_clips
from micromacro.systems.mimamo.scores import of_split, scores

TINY = {"seed": 1990, "data": {"people": 4}, "epochs": 1}


def unit(**options):
    """A tiny unit of an arm; options that are not the arm's are the data's."""
    light = {k: options.pop(k) for k in LIGHT if k in options}
    return experiment.unit(**TINY | {"data": {"people": 4, **light}, "arm": options})


def shown(predictions, name):
    """Rows of the test, (clips, snippets, labels)."""
    table = of_split(predictions, "test")
    return table[name].reshape(len(table["clips"]), 32, -1)


@pytest.fixture(scope="module")
def ours():
    return unit()


@pytest.mark.parametrize("arm", experiment.CORE)
def test_every_arm_trains_and_scores(arm, ours):
    metrics, predictions = unit(**experiment.CORE[arm])
    assert set(metrics) == set(ours[0])
    assert np.isfinite(list(metrics.values())).all()
    assert shown(predictions, "prediction").shape == shown(predictions, "truth").shape == (4, 32, 2)
    assert np.array_equal(predictions["truth"], ours[1]["truth"])  # the same people and clips
    people = of_split(predictions, "test")["subjects"].tolist()
    assert people == ["test-000"] * 2 + ["test-001"] * 2
    assert len(of_split(predictions, "train")["clips"]) == 8
    same = np.array_equal(predictions["prediction"], ours[1]["prediction"])
    assert same == (metrics == ours[0]) == (arm == "ours")  # a unit repeats to the last bit


def test_scores_pool_all_snippets(ours):
    metrics, predictions = ours
    for k, label in enumerate(("valence", "arousal")):
        p, t = (shown(predictions, name)[..., k].ravel() for name in ("prediction", "truth"))
        due = 2 * np.cov(p, t, ddof=0)[0, 1] / (p.var() + t.var() + (p.mean() - t.mean()) ** 2)
        assert metrics[f"ccc_{label}"] == pytest.approx(due, abs=1e-6)
        assert metrics[f"mse_{label}"] == pytest.approx(((p - t) ** 2).mean(), rel=1e-5)


DIALS = {"length": [4], "levels": [[1], [2]], "steps": [4, 32], "kind": ["raw", "difference"]}
DIALS |= {"label": ["arousal"], "illumination": [0.0], "test_illumination": [1.0], "scale": [True]}
TEMPORAL = {"kind": "farneback", "length": 4, "levels": [1], "scale": True}
DIALS |= {"legacy": [["loss"], ["unwrap"], ["crop"]]}


@pytest.mark.parametrize(
    "change", [{dial: value} for dial, values in DIALS.items() for value in values], ids=str
)
def test_every_dial_of_the_sweep_turns_something(change, ours):
    metrics, _ = unit(**change)
    assert np.isfinite(list(metrics.values())).all()
    assert metrics != ours[0]


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


@pytest.mark.parametrize(
    ("n", "stride", "spans"),
    [
        (0, 64, []),
        (64, 64, [(0, 64)]),
        (65, 64, [(0, 64), (1, 65)]),
        (128, 64, [(0, 64), (64, 128)]),
        (150, 64, [(0, 64), (64, 128), (86, 150)]),
        (20, 64, [(0, 20)]),
        (128, 32, [(0, 64), (32, 96), (64, 128)]),
        (130, 32, [(0, 64), (32, 96), (64, 128), (66, 130)]),
    ],
)
def test_windows(n, stride, spans):
    assert windows(n, 64, stride) == spans


def test_merge_windows_averages_or_overwrites():
    parts = [(range(4), np.full((4, 2), 1.0)), (range(3, 7), np.full((6, 2), 2.0))]  # padded
    merged = merge_windows(parts, 8)
    assert merged[:7, 0].tolist() == [1, 1, 1, 1.5, 2, 2, 2]
    assert np.isnan(merged[7]).all()
    merged = merge_windows(parts, 7, overwrite=True)
    assert merged[:, 1].tolist() == [1, 1, 1, 2, 2, 2, 2]
    truth = np.random.default_rng(0).normal(size=(150, 2))
    parts = [(range(a, b), truth[a:b]) for a, b in windows(150, 64, 32)]
    np.testing.assert_allclose(merge_windows(parts, 150), truth, rtol=1e-12)
    np.testing.assert_array_equal(merge_windows(parts, 150, overwrite=True), truth)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"legacy": ["axis"]}, "legacy 'axis': is unknown"),
        ({"loss": "mae"}, "loss 'mae': is unknown"),
        ({"kind": "flow"}, "motion 'flow': is unknown"),
        ({"streams": "flow"}, "streams='flow': is unknown"),
        ({"blocks": "figure"}, "option of an arm 'blocks': is unknown"),
        ({"levels": []}, "levels (): is unknown"),
        ({"levels": [3]}, "levels (3,): is unknown"),
        ({"steps": 12}, "steps 12: is unknown"),
        ({"steps": 0}, "steps 0: is unknown"),
        ({"length": 5}, "no even number"),
        ({"legacy": ["loss"], "loss": "mse"}, "does nothing"),
        ({"legacy": ["unwrap"], "kind": "raw"}, "does nothing"),
        ({"legacy": ["crop"], "streams": "spatial"}, "does nothing"),
        ({"legacy": ["crop"], "protocol": "as_released"}, "does nothing"),
        ({"legacy": ["gru_axis"], "recurrent": False}, "asks for a GRU"),
        *(
            ({"streams": "spatial", name: value}, "does nothing")
            for name, value in TEMPORAL.items()
        ),
        ({"test_illumination": 2.0}, "off the dial"),
    ],
)
def test_rows_with_untrue_names_are_refused(change, message):
    refused(lambda: unit(**change), message)


def test_folds_of_the_benchmark_choose_the_epoch_on_people_left_out():
    data = {"people": 4}
    metrics, predictions = experiment.unit(seed=1990, data=data, fold=1, folds=2, epochs=2)
    assert set(predictions["splits"]) == {"validation", "test"}
    assert {f"{split}ccc_arousal" for split in ("validation_", "")} <= set(metrics)
    assert len(predictions["epoch_score"]) == len(predictions["epoch_loss"]) == 2
    assert np.isfinite(predictions["epoch_score"]).all()
    assert len(set(of_split(predictions, "validation")["subjects"])) == 2


def test_grids_are_what_the_profiles_say():
    smoke = experiment.grid()
    assert list(smoke) == ["ours", "spatial", "temporal, phase"]
    assert [u["seed"] for u in smoke["ours"]] == [1000]
    assert smoke["ours"][0]["data"] == {"dataset": "synthetic", "people": 8}
    full = experiment.grid("full", sweep=1)
    assert set(full) == set(experiment.ARMS)
    assert [u["seed"] for u in full["L 4"]] == list(range(8))
    assert full["phase, light 0 to 1"][0]["data"]["test_illumination"] == 1
    assert "illumination" not in full["phase, light 0 to 1"][0]["arm"]
    for name, units in full.items():
        assert Arm.on("synthetic", units[0]["arm"]) or name
    paper = experiment.grid("paper", dataset="omg", data_root="/x", seeds=[4])
    assert list(paper) == ["ours", "as released"]
    assert [(u["arm"]["label"], u["fold"]) for u in paper["ours"]] == [
        (label, fold) for label in ("valence", "arousal") for fold in range(5)
    ]
    assert paper["as released"][0]["arm"]["protocol"] == "as_released"
    for wrong in ({"variants": ["theirs"]}, {"dataset": "afew"}):
        refused(partial(experiment.grid, **wrong), "is unknown")
    for profile, dataset in (("paper", "synthetic"), ("smoke", "omg"), ("full", "affwild")):
        refused(partial(experiment.grid, profile, dataset=dataset), "do not go together")


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_one_dropout_for_all_layers(rate):
    net = MimamoNet(2, n_features=5, phase_widths=(8, 8), hidden=8, gru_hidden=8, dropout=rate)
    kinds = torch.nn.Dropout | torch.nn.Dropout2d
    rates = [layer.p for layer in net.modules() if isinstance(layer, kinds)]
    assert len(rates) == 7
    assert {*rates, net.gru.gru.dropout} == {rate}


def test_a_constant_network_scores_nothing():
    truth = np.random.default_rng(0).random((96, 2), np.float32)
    about = {"splits": np.array(["test"]), "lengths": np.array([96])}
    table = about | {"clips": about["splits"], "subjects": about["splits"], "truth": truth}
    found = scores(table | {"prediction": 0 * truth}, "test", truth.std(0), ("valence", "arousal"))
    assert found["ccc_valence"] == found["rescaled_arousal"] == 0
    assert found["mse_valence"] == pytest.approx(np.square(truth[:, 0]).mean(), rel=1e-5)
    assert scores(table | {"prediction": np.nan * truth}, "test", truth.std(0), ("a", "b")) == {}


@pytest.fixture(scope="module")
def measured():
    return signals.unit(seed=1999)


def test_signals_are_finite_and_repeat(measured):
    assert np.isfinite(list(measured.values())).all()
    assert measured == signals.unit(seed=1999)


def test_signals_that_must_hold_by_theory(measured):
    assert measured["exposure_phase_rad"] < 1e-5  # the phase of g z + o has no g and no o in it
    assert measured["exposure_flow_px"] > 5 * measured["exposure_flow_zscore_px"]
    assert measured["common_centred"] < measured["common_plain"]
    assert measured["linear_r2_1"] > 0.9
    assert measured["turned_1"] < 1.5  # a straight line gives 3
    assert measured["turned_2"] < 1.5
