"""Training: closed forms, and loops written by hand."""

import copy
import hashlib
import io
import math
import sys

import pytest
import torch
from torch import nn

from micromacro.errors import BadInput
from micromacro.training import (
    Batches,
    Recipe,
    isolated_rng,
    learning_rate,
    predict,
    train,
)


class Scale(nn.Module):
    """y = w x, one weight."""

    def __init__(self, weight: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        return self.weight * x


def network(seed: int = 0, p: float = 0.5) -> nn.Module:
    """What resumes badly if anything is forgotten: buffers, dropout, a recurrent layer."""
    with isolated_rng(seed):
        layers = [nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(p), nn.Linear(8, 2)]
        return nn.Sequential(*layers)


def plain(seed: int = 0) -> nn.Module:
    with isolated_rng(seed):
        return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))


def some_data(n: int = 23, size: int = 4, seed: int = 1) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, generator=generator)
    return Batches(x, torch.stack([x.sum(1), x[:, 0] * x[:, 1]], dim=1), size)


def digest(model: nn.Module) -> str:
    parts = [t.contiguous().numpy().tobytes() for t in model.state_dict().values()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def refused(action, *words: str) -> None:
    with pytest.raises(BadInput) as caught:
        action()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


# The step -------------------------------------------------------------------------------------


def test_gradient_descent_on_a_parabola():
    """Loss (w - 3)^2, rate r: w after n steps is 3 (1 - (1 - 2r)^n)."""
    data = Batches(torch.ones(1), torch.full((1,), 3.0), 1)
    recipe = Recipe("mse", "sgd", lr=0.1, momentum=0.0, epochs=7)
    model = Scale()
    history = train(model, data, recipe, seed=0)
    assert model.weight.item() == pytest.approx(3 * (1 - 0.8**7), rel=1e-6)
    assert [epoch.loss for epoch in history.epochs] == pytest.approx(
        [9 * 0.8 ** (2 * n) for n in range(7)], rel=1e-5
    )
    assert [epoch.epoch for epoch in history.epochs] == list(range(7))
    assert history.best == 6
    assert not history.stopped
    assert all(math.isnan(epoch.score) and epoch.seconds > 0 for epoch in history.epochs)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_equals_a_loop_written_by_hand(name, clip_norm):
    data, seed = some_data(), 5
    data = Batches(data.inputs.double(), data.target.double(), 4)
    recipe = Recipe("mse", name, 0.02, 0.3, 0.8, "steps", (1, 2), 0.5, 3, clip_norm=clip_norm)
    ours, theirs = network().double(), network().double()
    train(ours, data, recipe, seed=seed)

    shuffle = torch.Generator().manual_seed(seed)
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    extra = {"momentum": 0.8} if name == "sgd" else {}
    optimiser = make(theirs.parameters(), lr=0.02, weight_decay=0.3, **extra)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [1, 2], gamma=0.5)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        for _ in range(3):
            order = torch.randperm(23, generator=shuffle)
            for start in range(0, 23, 4):
                rows = order[start : start + 4]
                optimiser.zero_grad()
                loss = (theirs(data.inputs[rows]) - data.target[rows]).square().mean()
                loss.backward()
                if clip_norm:
                    norm = sum(p.grad.square().sum() for p in theirs.parameters()).sqrt()
                    for p in theirs.parameters():
                        p.grad *= min(1, clip_norm / (norm + 1e-6))
                optimiser.step()
            schedule.step()
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-7)  # Adam blows up rounding: bias, BN


def test_frozen_parameters_stay():
    model = plain()
    model[0].requires_grad_(False)
    before = copy.deepcopy(model)
    train(model, some_data(), Recipe(weight_decay=0.5, epochs=1), seed=0)
    assert torch.equal(model[0].weight, before[0].weight)
    assert not torch.equal(model[2].weight, before[2].weight)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize(("size", "accumulate"), [(3, 4), (1, 12), (5, 2)])
def test_accumulated_batches_equal_the_big_batch(name, size, accumulate):
    """23 elements leave a short batch and, but for (5, 2), a short group."""
    big = 10 if size == 5 else 12
    recipe = {"optimiser": name, "lr": 0.05, "epochs": 4, "clip_norm": 1.0}
    one, many = plain().double(), plain().double()
    data = Batches(some_data().inputs.double(), some_data().target.double(), big)
    first = train(one, data, Recipe(**recipe), seed=3)
    small = Batches(data.inputs, data.target, size)
    second = train(many, small, Recipe(**recipe, accumulate=accumulate), seed=3)
    for a, b in zip(one.parameters(), many.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)  # float64, other order of sums
    assert [e.loss for e in first.epochs] == pytest.approx([e.loss for e in second.epochs])


def test_accumulation_weighs_batches_by_what_counts_in_them():
    """Three batches with 1, 3 and 2 valid elements, against one batch of the six."""
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 1], [0, 1, 1, 0]]).bool()
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    weights = []
    for data, accumulate in ((Batches(x, y, 1, mask), 3), (Batches(x[mask], y[mask], 6), 1)):
        model = Scale(0.7).double()
        recipe = Recipe("mse", "sgd", 0.1, epochs=2, accumulate=accumulate)
        history = train(model, data, recipe, seed=0)
        weights.append((model.weight.item(), history.epochs[1].loss))
    assert weights[0] == pytest.approx(weights[1], rel=1e-12)


# Schedules ------------------------------------------------------------------------------------


def test_the_loop_steps_the_schedule_once_per_step_of_the_optimiser():
    """SGD on the loss w sums the rates: with accumulation there are 3 steps in an epoch."""
    data = Batches(torch.ones(5), torch.zeros(5), 1)
    model = Scale()
    recipe = Recipe(
        lambda prediction, target: prediction.mean(),
        "sgd",
        momentum=0.0,
        lr=0.5,
        schedule="one_cycle",
        epochs=4,
        accumulate=2,
    )
    history = train(model, data, recipe, seed=0)
    rates = [learning_rate(recipe, step, 3) for step in range(12)]
    assert model.weight.item() == pytest.approx(-sum(rates), rel=1e-5)
    assert [epoch.lr for epoch in history.epochs] == rates[2::3]


# Losses and batches ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mse", "mae", "bce", "ccc", "cross_entropy"])
def test_a_masked_loss_is_the_loss_of_what_is_left(name):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 4, 3, generator=generator)
    mask = torch.rand(6, 4, generator=generator) < 0.6
    target = torch.rand(6, 4, 3, generator=generator)
    if name == "cross_entropy":
        target = target.argmax(-1)
    spoilt = target.clone()
    spoilt[~mask] = 2 if name == "cross_entropy" else math.nan
    seen = []
    for data in (Batches(x, spoilt, 6, mask), Batches(x[mask], target[mask], 99)):
        with isolated_rng(0):
            model = nn.Linear(3, 3)
        seen.append(train(model, data, Recipe(name, "sgd", epochs=2), seed=0).epochs[-1].loss)
    assert seen[0] == pytest.approx(seen[1], rel=1e-5)


def test_a_loss_of_ones_own_gets_the_mask():
    shapes = []

    def loss(prediction, target, mask):
        shapes.append((prediction.shape, target.shape, mask.dtype))
        return (prediction - target)[mask].square().mean()

    data = Batches(torch.ones(4, 3), torch.zeros(4, 3), 2, torch.ones(4, 3, dtype=torch.bool))
    train(Scale(), data, Recipe(loss, epochs=1), seed=0)
    assert shapes == [((2, 3), (2, 3), torch.bool)] * 2


def test_soft_and_hard_classes():
    x = torch.eye(3)
    hard = Batches(x, torch.tensor([0, 1, 2]), 3)
    soft = Batches(x, torch.eye(3), 3)
    recipe = Recipe("cross_entropy", epochs=1)
    expected = -math.log(math.e / (math.e + 2))
    for data in (hard, soft):
        assert train(Scale(1.0), data, recipe, seed=0).epochs[0].loss == pytest.approx(expected)


class TwoInputs(Scale):
    def forward(self, a, b, c=None):
        assert c is None
        return self.weight * a + b


@pytest.mark.parametrize(
    "inputs",
    [
        (torch.arange(5.0), torch.ones(5)),
        {"b": torch.ones(5), "a": torch.arange(5.0), "c": None},
    ],
)
def test_several_inputs(inputs):
    data = Batches(inputs, torch.zeros(5), 2)
    assert len(data) == len(list(data)) == 3
    out = predict(TwoInputs(2.0), data)
    assert torch.equal(out, 2 * torch.arange(5.0) + 1)
    train(TwoInputs(2.0), data, Recipe(epochs=1), seed=0)


def test_predict_keeps_order_mode_and_gradients():
    model = network().train()
    data = some_data(23, 4)
    before = digest(model)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    out = predict(model, data)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert digest(model) == before  # batch norm's statistics did not move
    assert not out.requires_grad
    model.eval()
    torch.testing.assert_close(out, model(data.inputs))
    predict(model, [(data.inputs,)])
    assert not model.training


def test_shuffling_is_a_permutation_and_differs_between_epochs():
    data = Batches(torch.arange(11), torch.arange(11), 4)
    generator = torch.Generator().manual_seed(0)
    orders = [torch.cat([batch[0] for batch in data(generator)]).tolist() for _ in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(11))
    assert orders[0] != orders[1]


# Validation -----------------------------------------------------------------------------------


def scripted(scores):
    """A validation that gives these scores and notes the weight it saw."""
    scores, seen = iter(scores), []

    def validate(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        seen.append(model.weight.item())
        torch.rand(7)  # must not move what training draws
        return next(scores)

    return validate, seen


@pytest.mark.parametrize(
    ("scores", "patience", "best", "length"),
    [
        ([0.1, 0.5, 0.4, 0.5, 0.3, 0.9], 3, 1, 5),  # equal is not better; 0.9 is never reached
        ([0.1, 0.5, 0.4, 0.5, 0.3, 0.9], None, 5, 6),
        ([0.9, 0.5, 0.4, 0.5, 0.3, 0.2], 1, 0, 2),
        ([math.nan, -4.0, math.nan, -5.0, -3.0, math.nan], 3, 4, 6),
        ([math.nan] * 6, 2, 0, 3),
    ],
)
def test_early_stopping_restores_the_best(scores, patience, best, length):
    data = Batches(torch.ones(4), torch.full((4,), 3.0), 2)
    validate, seen = scripted(scores)
    model = Scale().eval()
    recipe = Recipe("mse", "sgd", 0.01, epochs=6, patience=patience)
    history = train(model, data, recipe, seed=0, validate=validate)
    assert (history.best, len(history.epochs)) == (best, length)
    assert history.stopped == (length < 6)
    assert model.weight.item() == seen[best]
    assert len(set(seen)) == length
    assert not model.training  # its mode of before
    torch.testing.assert_close([e.score for e in history.epochs], scores[:length], equal_nan=True)


def test_validation_does_not_change_training():
    weights = []
    for validate in (None, lambda model: float(torch.rand(3).sum()) * 0 + model[0].weight.sum()):
        model = network()
        history = train(model, some_data(), Recipe(epochs=4), seed=0, validate=validate)
        weights.append([epoch.loss for epoch in history.epochs])
    assert weights[0] == weights[1]


# Seeds ----------------------------------------------------------------------------------------


def test_the_seed_decides_and_nothing_else():
    digests = []
    for seed, outside in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(outside)
        model = network()
        train(model, some_data(), Recipe(epochs=2), seed=seed)
        digests.append(digest(model))
    assert digests[0] == digests[1] != digests[2]


def test_the_callers_random_state_is_untouched():
    torch.manual_seed(77)
    state = torch.get_rng_state()
    model = network()
    train(model, some_data(), Recipe(epochs=1), seed=0)
    with pytest.raises(FloatingPointError):
        train(model, Batches(torch.full((2, 5), math.nan), torch.ones(2, 2), 2), Recipe(), seed=0)
    assert torch.equal(torch.get_rng_state(), state)


# Faults ---------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_says_where():
    data = Batches(torch.arange(6.0), torch.zeros(6), 1)
    calls = []

    def loss(prediction, target):
        calls.append(1)
        return (prediction - target).square().mean() / (len(calls) != 12 + 4)

    with pytest.raises(FloatingPointError) as caught:
        train(Scale(1.0), data, Recipe(loss, lr=1e-3, accumulate=4), seed=9)
    assert str(caught.value).startswith("epoch 2, batch 3: the loss is inf; ")
    assert "\n" not in str(caught.value)


def test_bad_input():
    data = some_data()
    refused(lambda: train(plain(), data, Recipe(patience=2), seed=0), "patience", "validate")
    none = Batches(data.inputs[:0], data.target[:0], 3)
    refused(lambda: train(plain(), none, Recipe(), seed=0), "batches", "none")
    refused(lambda: Batches({"a": torch.ones(4)}, torch.ones(3), 2), "unequal length", "[4, 3]")
    refused(lambda: Batches(torch.ones(3), torch.ones(3), 0), "size 0")
    flat = Batches(data.inputs, data.target[:, :1], 4)
    refused(lambda: train(plain(), flat, Recipe(), seed=0), "(4, 2)", "(4, 1)")


def test_progress_is_on_stderr_and_only_in_a_terminal(monkeypatch, capsys):
    train(plain(), some_data(), Recipe(epochs=1), seed=0)
    assert capsys.readouterr() == ("", "")
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    train(plain(), some_data(), Recipe(epochs=2), seed=0, progress=False)
    assert terminal.getvalue() == ""
    train(plain(), some_data(), Recipe(epochs=2), seed=0)
    assert "2/2" in terminal.getvalue()
    assert "loss=" in terminal.getvalue()
