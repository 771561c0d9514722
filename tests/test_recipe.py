"""Recipes: torch's own schedules, a loss written a second time, settings that are refused."""

import math

import pytest
import torch
from test_training import refused
from torch import nn

from micromacro.recipe import Recipe, ccc_loss, learning_rate


@pytest.mark.parametrize("epochs", [1, 2, 7])
@pytest.mark.parametrize("per_epoch", [1, 3, 11])
@pytest.mark.parametrize("name", ["constant", "one_cycle", "steps", "cosine"])
def test_schedules_are_torchs(name, epochs, per_epoch):
    recipe = Recipe(lr=0.3, schedule=name, milestones=(2, 3, 6), gamma=0.2, epochs=epochs)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    module, total = torch.optim.lr_scheduler, epochs * per_epoch
    schedule = {
        "constant": lambda: module.ConstantLR(optimiser, factor=1.0),
        "one_cycle": lambda: module.OneCycleLR(optimiser, 0.3, total, cycle_momentum=False),
        "steps": lambda: module.MultiStepLR(optimiser, [2, 3, 6], gamma=0.2),
        "cosine": lambda: module.CosineAnnealingLR(optimiser, epochs),
    }[name]()
    for step in range(total):
        rate = learning_rate(recipe, step, per_epoch)
        assert rate == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9, abs=1e-15)
        optimiser.step()
        if name == "one_cycle" or (step + 1) % per_epoch == 0:
            schedule.step()


@pytest.mark.parametrize(("epochs", "period", "lowest"), [(40, 8, 1e-8), (9, 2.5, 0.1), (3, 7, 0)])
def test_cosine_with_a_period_is_torchs(epochs, period, lowest):
    recipe = Recipe(lr=0.3, schedule="cosine", epochs=epochs, period=period, lowest=lowest)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, period, eta_min=lowest)
    for epoch in range(epochs):
        rates = [learning_rate(recipe, 3 * epoch + step, 3) for step in range(3)]
        assert rates == pytest.approx([optimiser.param_groups[0]["lr"]] * 3, rel=1e-6, abs=1e-12)
        optimiser.step()
        schedule.step()


def test_ccc_loss():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 4, 6, 3, generator=generator, dtype=torch.float64)
    total = 0.0
    for i in range(3):
        a, b = x[..., i].flatten(), y[..., i].flatten()
        c = torch.cov(torch.stack([a, b]), correction=0)
        total += 1 - 2 * c[0, 1] / (c[0, 0] + c[1, 1] + (a.mean() - b.mean()) ** 2)
    torch.testing.assert_close(ccc_loss(x, y), total)
    torch.testing.assert_close(ccc_loss(x[..., 0].flatten(), x[..., 0].flatten()).item(), 0.0)
    assert ccc_loss(x[:, 0], x[:, 0] + 1) > 0.1  # a shift costs; correlation would not see it


def test_bad_input():
    refused(lambda: Recipe("msee"), "'msee'", "cross_entropy")
    refused(lambda: Recipe(optimiser="lion"), "'lion'", "adamw, adam, sgd")
    refused(lambda: Recipe(schedule="warm"), "'warm'", "one_cycle")
    refused(lambda: Recipe(epochs=0), "epochs 0", "at least 1")
    refused(lambda: Recipe(accumulate=0), "accumulate 0")
    refused(lambda: Recipe(patience=0), "patience 0")
    refused(lambda: Recipe(lr=0.0), "lr 0.0", "above 0")
    refused(lambda: Recipe(clip_norm=-1.0), "clip_norm -1.0")
    refused(lambda: Recipe(lr=math.nan), "lr nan")
    refused(lambda: Recipe(period=0), "period 0", "above 0")
    refused(lambda: Recipe(lr=0.1, lowest=0.2), "lowest 0.2", "0 to lr, 0.1")
    refused(lambda: Recipe(lowest=math.nan), "lowest nan")
    refused(lambda: Recipe(optimiser=torch.optim.SGD), "adamw")
