"""Flow added up: against closed forms; and that the study's numbers say what they are called."""

import pytest
import torch

from micromacro.studies import drift


def test_steps_are_followed():
    """A shear that stretches: pixels move on through a field that differs from place to place."""
    x = torch.arange(9.0).expand(7, 9)
    step = torch.stack([0.01 * x, torch.full((7, 9), 0.5)])[None]  # (1, 2, 7, 9)
    flow = drift.followed(step.expand(5, -1, -1, -1))
    inside = flow[:, :, 1:8]  # away from the border
    torch.testing.assert_close(inside[0], (1.01**5 - 1) * x[:, 1:8], atol=1e-5, rtol=0)
    torch.testing.assert_close(flow[1], torch.full((7, 9), 2.5))
    assert drift.followed(step[:0]).abs().max() == 0


def test_errors_are_those_of_the_flow(monkeypatch):
    """With the exact flow both errors vanish; with a bias of 0.01 px a step the sum has n of
    them."""
    exact = drift.unit(seed=1000)
    lengths = [n for n in drift.LENGTHS if n < 100]
    monkeypatch.setattr(drift, "LENGTHS", lengths)
    biased = lambda a, b, **_: torch.zeros(*a.shape[:-2], 2, *a.shape[-2:]) + 0.01  # noqa: E731
    monkeypatch.setattr(drift, "optical_flow", biased)
    metrics = drift.unit(seed=1000)
    for n in lengths:
        assert metrics[f"summed_back_px_{n}"] == pytest.approx(2 * n * 0.01 * 2**0.5, rel=1e-3)
        assert metrics[f"direct_back_px_{n}"] == pytest.approx(0.01 * 2**0.5, rel=1e-3)
        assert metrics[f"direct_apex_px_{n}"] == pytest.approx(metrics["true_px"], abs=0.02)
    assert exact["true_px"] == pytest.approx(metrics["true_px"], rel=0.01)
    assert drift.PEAK_PX / 2 < exact["true_px"] < drift.PEAK_PX
