"""Training: closed forms, loops written by hand, torch's schedules, processes that are killed."""

import copy
import hashlib
import io
import math
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from micromacro.errors import BadInput
from micromacro.training import Batches, Recipe, isolated_rng, learning_rate, predict, train

CHECKPOINTED = Recipe(lr=0.01, schedule="one_cycle", epochs=3, accumulate=2)


class Scale(nn.Module):
    """y = w x, one weight."""

    def __init__(self, weight: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x, plus=0.0, nothing=None):
        assert nothing is None
        return self.weight * x + plus


class Masked(Batches):
    """Batches whose inputs are (x, mask): the mask goes to the loss."""

    def _take(self, order):
        for (x, mask), target in super()._take(order):
            yield x, target, mask


def masked_mse(prediction, target, mask):
    return (prediction - target)[mask].square().mean()


def network(seed: int = 0) -> nn.Module:
    """What resumes badly if anything is forgotten: buffers and dropout."""
    with isolated_rng(seed):
        layers = [nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)]
        return nn.Sequential(*layers)


def plain(seed: int = 0) -> nn.Module:
    with isolated_rng(seed):
        return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))


def some_data(n: int = 23, size: int = 4) -> Batches:
    x = torch.randn(n, 5, generator=torch.Generator().manual_seed(1))
    return Batches(x, torch.stack([x.sum(1), x[:, 0] * x[:, 1]], dim=1), size)


def score(model: nn.Module) -> float:
    """Highest after epoch 1, by the count that batch norm keeps: the best lies before the last."""
    return -abs(model[1].num_batches_tracked.item() - 12.0)


def digest(model: nn.Module) -> str:
    parts = [t.contiguous().numpy().tobytes() for t in model.state_dict().values()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def facts(history) -> tuple:
    return history.best, [(e.epoch, e.loss, e.score, e.lr) for e in history.epochs]


def refused(action, *words: object) -> None:
    with pytest.raises(BadInput) as caught:
        action()
    assert "\n" not in str(caught.value)
    for word in words:
        assert str(word) in str(caught.value)


# The step -------------------------------------------------------------------------------------


def test_gradient_descent_on_a_parabola():
    """Loss (w - 3)^2, rate r: w after n steps is 3 (1 - (1 - 2r)^n)."""
    data = Batches(torch.ones(1), torch.full((1,), 3.0), 1)
    model = Scale()
    history = train(model, data, Recipe(mse_loss, "sgd", lr=0.1, momentum=0.0, epochs=7), seed=0)
    assert model.weight.item() == pytest.approx(3 * (1 - 0.8**7), rel=1e-6)
    losses = [9 * 0.8 ** (2 * n) for n in range(7)]
    assert [epoch.loss for epoch in history.epochs] == pytest.approx(losses, rel=1e-5)
    assert [epoch.epoch for epoch in history.epochs] == list(range(7))
    assert history.best == 6
    assert all(math.isnan(epoch.score) and epoch.seconds > 0 for epoch in history.epochs)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_equals_a_loop_written_by_hand(name, clip_norm):
    data, seed = some_data(), 5
    data = Batches(data.inputs.double(), data.target.double(), 4)
    recipe = Recipe(mse_loss, name, 0.02, 0.3, 0.8, "steps", (1, 2), 3, clip_norm=clip_norm)
    ours, theirs = network().double(), network().double()
    train(ours, data, recipe, seed=seed)

    shuffle = torch.Generator().manual_seed(seed)
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    extra = {"momentum": 0.8} if name == "sgd" else {}
    optimiser = make(theirs.parameters(), lr=0.02, weight_decay=0.3, **extra)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [1, 2])
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        for _ in range(3):
            for rows in torch.randperm(23, generator=shuffle).split(4):
                optimiser.zero_grad()
                (theirs(data.inputs[rows]) - data.target[rows]).square().mean().backward()
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
    recipe = partial(Recipe, optimiser=name, lr=0.05, epochs=4, clip_norm=1.0)
    one, many = plain().double(), plain().double()
    data = some_data(size=10 if size == 5 else 12)
    data = Batches(data.inputs.double(), data.target.double(), data.size)
    first = train(one, data, recipe(), seed=3)
    small = Batches(data.inputs, data.target, size)
    second = train(many, small, recipe(accumulate=accumulate), seed=3)
    for a, b in zip(one.parameters(), many.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)  # float64, other order of sums
    assert [e.loss for e in first.epochs] == pytest.approx([e.loss for e in second.epochs])


def test_accumulation_weighs_batches_by_what_counts_in_them():
    """Three batches with 1, 3 and 2 valid elements, against one batch of the six."""
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 1], [0, 1, 1, 0]]).bool()
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    weights = []
    small, big = Masked((x, mask), y, 1), Batches(x[mask], y[mask], 6)
    for data, loss in ((small, masked_mse), (big, mse_loss)):
        model = Scale(0.7).double()
        recipe = Recipe(loss, "sgd", 0.1, epochs=2, accumulate=3)
        weights.append((train(model, data, recipe, seed=0).epochs[1].loss, model.weight.item()))
    assert weights[0] == pytest.approx(weights[1], rel=1e-12)


# Schedules ------------------------------------------------------------------------------------


def follow(recipe: Recipe, per_epoch: int, schedule, by_step: bool, **close: float) -> None:
    """Compare with one of torch's schedules, step by step."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    schedule = schedule(optimiser)
    for step in range(recipe.epochs * per_epoch):
        rate = optimiser.param_groups[0]["lr"]
        assert learning_rate(recipe, step, per_epoch) == pytest.approx(rate, **close)
        optimiser.step()
        if by_step or (step + 1) % per_epoch == 0:
            schedule.step()


@pytest.mark.parametrize("epochs", [1, 2, 7])
@pytest.mark.parametrize("per_epoch", [1, 3, 11])
@pytest.mark.parametrize("name", ["constant", "one_cycle", "steps", "cosine"])
def test_schedules_are_torchs(name, epochs, per_epoch):
    module, total = torch.optim.lr_scheduler, epochs * per_epoch
    schedule = {
        "constant": partial(module.ConstantLR, factor=1.0),
        "one_cycle": partial(
            module.OneCycleLR, max_lr=0.3, total_steps=total, cycle_momentum=False
        ),
        "steps": partial(module.MultiStepLR, milestones=[2, 3, 6]),
        "cosine": partial(module.CosineAnnealingLR, T_max=epochs),
    }[name]
    recipe = Recipe(lr=0.3, schedule=name, milestones=(2, 3, 6), epochs=epochs)
    follow(recipe, per_epoch, schedule, name == "one_cycle", rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("epochs", "period", "lowest"), [(40, 8, 1e-8), (9, 2.5, 0.1), (3, 7, 0)])
def test_cosine_with_a_period_is_torchs(epochs, period, lowest):
    recipe = Recipe(lr=0.3, schedule="cosine", epochs=epochs, period=period, lowest=lowest)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR
    follow(recipe, 3, partial(cosine, T_max=period, eta_min=lowest), False, rel=1e-6, abs=1e-12)


def test_the_loop_steps_the_schedule_once_per_step_of_the_optimiser():
    """SGD on the loss w sums the rates: with accumulation there are 3 steps in an epoch."""
    data, model = Batches(torch.ones(5), torch.zeros(5), 1), Scale()
    options = {"schedule": "one_cycle", "epochs": 4, "accumulate": 2, "momentum": 0.0}
    recipe = Recipe(lambda prediction, target: prediction.mean(), "sgd", 0.5, **options)
    history = train(model, data, recipe, seed=0)
    rates = [learning_rate(recipe, step, 3) for step in range(12)]
    assert model.weight.item() == pytest.approx(-sum(rates), rel=1e-5)
    assert [epoch.lr for epoch in history.epochs] == rates[2::3]


# Batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [tuple, dict])
def test_several_inputs(kind):
    inputs = {"plus": torch.ones(5), "x": torch.arange(5.0), "nothing": None}
    inputs = inputs if kind is dict else (inputs["x"], inputs["plus"], None)
    data = Batches(inputs, torch.zeros(5), 2)
    assert len(data) == len(list(data)) == 3
    assert torch.equal(predict(Scale(2.0), data), 2 * torch.arange(5.0) + 1)
    train(Scale(2.0), data, Recipe(epochs=1), seed=0)


def test_predict_keeps_order_mode_and_gradients():
    model, data = network().train(), some_data(23, 4)
    before, state = digest(model), torch.get_rng_state()
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
    data, generator = Batches(torch.arange(11), torch.arange(11), 4), torch.Generator()
    orders = [torch.cat([batch[0] for batch in data(generator)]).tolist() for _ in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(11))
    assert orders[0] != orders[1]


# Validation -----------------------------------------------------------------------------------


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
def test_early_stopping_restores_the_best(scores, patience, best, length, tmp_path):
    script, seen, model = iter(scores), [], Scale().eval()

    def validate(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        seen.append(model.weight.item())
        return next(script)

    data = Batches(torch.ones(4), torch.full((4,), 3.0), 2)
    recipe = Recipe(mse_loss, "sgd", 0.01, epochs=6, patience=patience)
    options = {"seed": 0, "validate": validate, "checkpoint": tmp_path / "x"}
    for _ in range(2):  # the second call finds the training finished, by patience or not
        history = train(model, data, recipe, **options)
        assert (history.best, len(history.epochs)) == (best, length)
        assert model.weight.item() == seen[best]
        assert len(set(seen)) == len(seen) == length
        assert not model.training  # its mode of before
        measured = [e.score for e in history.epochs]
        torch.testing.assert_close(measured, scores[:length], equal_nan=True)


def test_validation_does_not_change_training():
    draws = lambda model: float(torch.rand(3).sum()) * 0 + model[0].weight.sum()  # noqa: E731
    losses = []
    for validate in (None, draws):
        history = train(network(), some_data(), Recipe(epochs=4), seed=0, validate=validate)
        losses.append([epoch.loss for epoch in history.epochs])
    assert losses[0] == losses[1]


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
    data, calls = Batches(torch.arange(6.0), torch.zeros(6), 1), []

    def loss(prediction, target):
        calls.append(1)
        return (prediction - target).square().mean() / (len(calls) != 12 + 4)

    with pytest.raises(FloatingPointError) as caught:
        train(Scale(1.0), data, Recipe(loss, lr=1e-3, accumulate=4), seed=9)
    assert str(caught.value).startswith("epoch 2, batch 3: the loss is inf; ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("loss", "mse", "function"),
        ("optimiser", "lion", "adamw, adam, sgd"),
        ("schedule", "warm", "one_cycle"),
        ("lowest", 0.2, "0 to lr, 0.1"),
        ("lowest", math.nan, "0 to lr"),
        ("clip_norm", math.nan, "above 0"),
        *((name, 0, "above 0") for name in ("epochs", "accumulate", "patience", "lr", "period")),
        ("clip_norm", -1.0, "above 0"),
    ],
)
def test_recipes_that_are_refused(name, value, word):
    refused(lambda: Recipe(**{"lr": 0.1, name: value}), f"{name} {value!r}", word)


def test_bad_input():
    data = some_data()
    refused(lambda: train(plain(), data, Recipe(patience=2), seed=0), "patience", "validate")
    none = Batches(data.inputs[:0], data.target[:0], 3)
    refused(lambda: train(plain(), none, Recipe(), seed=0), "batches", "none")
    refused(lambda: Batches({"a": torch.ones(4)}, torch.ones(3), 2), "unequal length", "[4, 3]")
    refused(lambda: Batches(torch.ones(3), torch.ones(3), 0), "size 0")


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


# Checkpoints ----------------------------------------------------------------------------------


def test_a_checkpoint_changes_nothing_and_a_second_call_trains_nothing(tmp_path):
    file, seen = tmp_path / "a" / "b", []
    for seed, checkpoint in ((0, None), (0, file), (1, file)):  # the last from other weights
        model, options = network(seed), {"validate": score, "checkpoint": checkpoint}
        history = train(model, some_data(), CHECKPOINTED, seed=4, **options)
        seen.append((digest(model), facts(history)))
    assert seen[0] == seen[1] == seen[2]
    assert [path.name for path in file.parent.iterdir()] == ["b"]


@pytest.mark.parametrize("other", ["lr", "epochs", "loss", "seed", "batches", "weights"])
def test_a_checkpoint_of_another_training_is_refused(tmp_path, other):
    file, model, data, recipe = tmp_path / "x", network(), some_data(), CHECKPOINTED
    train(network(), data, recipe, seed=0, checkpoint=file)
    before = file.read_bytes()
    changes = {"lr": 0.02, "epochs": 9, "loss": partial(mse_loss, reduction="sum")}
    if other in changes:
        recipe = replace(recipe, **{other: changes[other]})
    model = plain() if other == "weights" else model
    data = some_data(size=5) if other == "batches" else data
    action = partial(train, model, data, recipe, seed=int(other == "seed"), checkpoint=file)
    refused(action, file, f"(other {other})", "remove")
    assert file.read_bytes() == before


class Trap:
    """Makes a file when it is unpickled without care."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("damage", ["empty", "half", "text", "folder", "incomplete", "foreign"])
def test_a_checkpoint_that_is_torn_or_foreign_is_one_line(tmp_path, damage):
    file = tmp_path / "x"
    action = partial(train, network(), some_data(), CHECKPOINTED, seed=0, checkpoint=file)
    action()
    whole, state = file.read_bytes(), torch.load(file, weights_only=True)
    file.unlink()
    if damage == "folder":
        file.mkdir()
    elif damage == "incomplete":
        torch.save({name: state[name] for name in ("identity", "epochs", "model")}, file)
    elif damage == "foreign":
        torch.save({"identity": Trap(tmp_path / "sprung")}, file)
    else:
        file.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "text": b"hello"}[damage])
    refused(action, file, "remove this file")
    assert not (tmp_path / "sprung").exists()


def test_a_checkpoint_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    action = partial(train, plain(), some_data(), Recipe(), seed=0)
    refused(lambda: action(checkpoint=tmp_path / "file" / "x"), "file", "cannot write")


KILLED = f"""
import os, pathlib, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
torch.set_num_threads(1)
from test_training import CHECKPOINTED, digest, facts, network, score, some_data
from micromacro.training import train

replace, save, folder = pathlib.Path.replace, torch.save, pathlib.Path(sys.argv[1])

def training(checkpoint, where=None, at=0):
    seen = dict.fromkeys(("batch", "validate", "write", "before", "after"), 0)
    def now(place, *last_words):
        seen[place] += 1
        if (place, seen[place]) == (where, at):
            os.kill(os.getpid(), signal.SIGKILL)
    def dying_replace(self, target):
        now("before"); replace(self, target); now("after")
    def dying_save(state, part):
        save(state, part); whole = part.read_bytes()
        part.write_bytes(whole[: len(whole) // 2]); now("write"); part.write_bytes(whole)
    def validate(model):
        now("validate")
        return score(model)
    pathlib.Path.replace, torch.save, model = dying_replace, dying_save, network()
    model.register_forward_hook(lambda module, *rest: now("batch") if module.training else None)
    history = train(model, some_data(), CHECKPOINTED, seed=4, validate=validate,
                    checkpoint=checkpoint)
    pathlib.Path.replace, torch.save = replace, save
    return [digest(model), facts(history)], seen

whole, seen = training(folder / "whole" / "x")
assert seen == dict(batch=18, validate=3, write=3, before=3, after=3), seen
moments = dict(batch=[1, 6, 9, 13, 18], validate=[1, 2], write=[1, 2, 3], before=[1, 2, 3], after=[1, 2, 3])
for where, at in [(where, at) for where in moments for at in moments[where]]:
    file = folder / f"{{where}}-{{at}}" / "x"
    pid = os.fork()
    if pid == 0:
        training(file, where, at)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    again, seen = training(file)
    assert again == whole, (where, at, again, whole)
    kept = (at - 1) // 6 if where == "batch" else at if where == "after" else at - 1
    assert seen["validate"] == 3 - kept, (where, at, seen)
    assert os.listdir(file.parent) == ["x"], (where, at)
print(repr(whole))
"""


def test_killed_at_any_moment_and_continued_gives_the_same_bits(tmp_path):
    """SIGKILL in batches, in validation, in a half-written file, before and after it is in place."""
    command = [sys.executable, "-W", "error::UserWarning", "-c", KILLED, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    options = {"seed": 4, "validate": score}
    for checkpoint in (None, tmp_path / "whole" / "x"):  # one of another process is read as well
        model = network()
        history = train(model, some_data(), CHECKPOINTED, checkpoint=checkpoint, **options)
        assert result.stdout.strip() == repr([digest(model), facts(history)])
    assert history.best == 1


@pytest.mark.gpu
def test_cuda(tmp_path):
    data, recipe = some_data(64, 16), replace(CHECKPOINTED, clip_norm=1.0)
    torch.cuda.manual_seed(3)
    state, options = torch.cuda.get_rng_state(), {"device": "cuda", "checkpoint": tmp_path / "x"}
    history = train(model := network(), data, recipe, seed=4, **options)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert next(model.parameters()).is_cuda
    assert history.epochs[-1].loss < history.epochs[0].loss
    cpu = train(network(), data, recipe, seed=4)  # dropout draws other numbers there
    assert history.epochs[-1].loss == pytest.approx(cpu.epochs[-1].loss, rel=0.3)
    assert train(network(), data, recipe, seed=4, **options) == history
    assert predict(model, data, "cuda").shape == (64, 2)
