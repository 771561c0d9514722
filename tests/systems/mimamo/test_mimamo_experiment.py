"""One unit of the ablations: every arm runs, repeats, and differs in what its name says."""

import numpy as np
import pytest
import torch

from micromacro.errors import BadInput
from micromacro.metrics import ccc
from micromacro.studies import signals
from micromacro.systems.mimamo import MimamoNet, experiment

TINY = {"seed": 1990, "people": 4, "epochs": 1}


@pytest.fixture(scope="module")
def ours():
    return experiment.unit(**TINY)


@pytest.mark.parametrize("arm", experiment.CORE)
def test_every_arm_trains_and_scores(arm, ours):
    metrics, predictions = experiment.unit(**TINY, **experiment.CORE[arm])
    assert set(metrics) == set(ours[0])
    assert np.isfinite(list(metrics.values())).all()
    assert predictions["prediction"].shape == predictions["truth"].shape == (4, 32, 2)
    assert np.array_equal(predictions["truth"], ours[1]["truth"])  # the same people and clips
    assert predictions["person"].tolist() == [0, 0, 1, 1]
    if arm != "ours":
        assert not np.array_equal(predictions["prediction"], ours[1]["prediction"])


def test_a_unit_repeats_to_the_last_bit(ours):
    metrics, predictions = experiment.unit(**TINY)
    assert metrics == ours[0]
    assert np.array_equal(predictions["prediction"], ours[1]["prediction"])


def test_scores_pool_all_snippets(ours):
    metrics, predictions = ours
    for k, label in enumerate(("valence", "arousal")):
        p, t = (predictions[name][..., k].ravel() for name in ("prediction", "truth"))
        due = 2 * np.cov(p, t, ddof=0)[0, 1] / (p.var() + t.var() + (p.mean() - t.mean()) ** 2)
        assert metrics[f"ccc_{label}"] == pytest.approx(due, abs=1e-6)
        assert metrics[f"mse_{label}"] == pytest.approx(((p - t) ** 2).mean(), rel=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"length": 4},
        {"levels": [1]},
        {"levels": [2]},
        {"steps": 4},
        {"steps": 32},
        {"kind": "raw"},
        {"kind": "raw_phase"},
        {"kind": "difference"},
        {"blocks": "figure"},
        {"crop": "none"},
        {"illumination": 0.0},
        {"test_illumination": 1.0},
        {"scale": True},
        {"legacy": ["loss"]},
        {"legacy": ["unwrap"]},
        {"legacy": ["crop"]},
    ],
    ids=str,
)
def test_every_dial_of_the_sweep_turns_something(change, ours):
    metrics, _ = experiment.unit(**TINY, **change)
    assert np.isfinite(list(metrics.values())).all()
    assert metrics != ours[0]


def test_one_level_is_blind_to_the_other():
    clips = experiment.record(1990, "test", people=2, clips=2, steps=32, illumination=0.5)
    given = experiment._inputs(clips, "temporal", "phase", 12, (2,), False, "none", 0)
    assert not given["level_1"].any()
    assert given["level_2"].any()
    assert "features" not in given


def test_levels_are_scaled_by_the_training_set_alone():
    draws = torch.Generator().manual_seed(0)
    maps = {s: {"level_1": 3 * torch.randn(50, 7, generator=draws), "features": torch.ones(2)} for s in ("train", "test")}  # fmt: skip
    scaled = experiment._scaled(maps)
    assert scaled["train"]["level_1"].std() == pytest.approx(1, abs=1e-5)
    factor = maps["train"]["level_1"].std()
    assert torch.allclose(scaled["test"]["level_1"] * factor, maps["test"]["level_1"], atol=1e-5)
    assert torch.equal(scaled["train"]["features"], torch.ones(2))


def test_sequences_are_cut_and_put_together_again():
    values = torch.arange(64.0).view(2, 32, 1)
    cut = experiment._cut(values, 16)
    assert cut.shape == (4, 16, 1)
    assert cut[1, :, 0].tolist() == list(range(16, 32))
    net = torch.nn.Identity()
    net.forward = lambda features: features.repeat(1, 1, 2)
    merged = experiment._predict(net, {"features": values}, values.repeat(1, 1, 2), 12, "cpu")
    assert np.array_equal(merged, values.repeat(1, 1, 2).numpy())


def test_bad_requests():
    with pytest.raises(BadInput, match="legacy 'axis'"):
        experiment.unit(**TINY, legacy=["axis"])
    with pytest.raises(BadInput, match="loss 'mae'"):
        experiment.unit(**TINY, loss="mae")
    with pytest.raises(BadInput, match="motion 'flow'"):
        experiment.unit(**TINY, kind="flow")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": []}, "none of 1 and 2"),
        ({"levels": [3]}, "none of 1 and 2"),
        ({"steps": 12}, "does not divide"),
        ({"steps": 0}, "does not divide"),
        ({"legacy": ["loss"], "loss": "mse"}, "does nothing"),
        ({"legacy": ["unwrap"], "kind": "raw"}, "does nothing"),
        ({"streams": "spatial", "kind": "farneback"}, "does nothing"),
        ({"test_illumination": 2.0}, "off the dial"),
    ],
)
def test_rows_with_untrue_names_are_refused(change, message):
    with pytest.raises(BadInput, match=message):
        experiment.unit(**TINY, **change)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_one_dropout_for_all_layers(rate):
    net = MimamoNet(2, n_features=5, phase_widths=(8, 8), hidden=8, gru_hidden=8, dropout=rate)
    kinds = torch.nn.Dropout | torch.nn.Dropout2d
    rates = [layer.p for layer in net.modules() if isinstance(layer, kinds)]
    assert len(rates) == 7
    assert {*rates, net.gru.gru.dropout} == {rate}


def test_a_constant_network_scores_nothing():
    truth = torch.rand(3, 32, 2)
    metrics = experiment._scores(np.zeros((3, 32, 2), np.float32), truth, truth)
    assert metrics["ccc_valence"] == metrics["rescaled_arousal"] == 0
    assert metrics["mse_valence"] == pytest.approx(float(truth[..., 0].square().mean()), rel=1e-5)
    assert ccc(truth[..., 0].flatten(), truth[..., 0].flatten()) == pytest.approx(1)


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
