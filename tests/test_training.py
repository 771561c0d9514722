"""Training: closed forms, loops written by hand, torch's schedules, processes that are killed."""

import hashlib
import io
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from refusals import refused
from torch import nn
from torch.nn import functional
from torch.nn.functional import mse_loss
from torch.optim import lr_scheduler

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


def masked_mse(prediction, target, mask=...):
    return (prediction - target)[mask].square().mean()


def network(seed: int = 0) -> nn.Module:
    """What resumes badly if anything is forgotten: buffers and dropout."""
    with isolated_rng(seed):
        layers = [nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)]
        return nn.Sequential(*layers)


def plain(seed: int = 0) -> nn.Module:
    with isolated_rng(seed):
        return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))


def some_data(n: int = 23, size: int = 4, dtype: torch.dtype = torch.float32) -> Batches:
    x = torch.randn(n, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    return Batches(x, torch.stack([x.sum(1), x[:, 0] * x[:, 1]], dim=1), size)


def score(model: nn.Module) -> float:
    """Highest after epoch 1, by the count that batch norm keeps: the best lies before the last."""
    return -abs(model[1].num_batches_tracked.item() - 12.0)


def digest(model: nn.Module) -> str:
    parts = [t.contiguous().numpy().tobytes() for t in model.state_dict().values()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def facts(history) -> tuple:
    return history.best, [(e.epoch, e.loss, e.score, e.lr) for e in history.epochs]


# The step -------------------------------------------------------------------------------------


def test_gradient_descent_on_a_parabola():
    """Loss (w - 3)^2, rate r: w after n steps is 3 (1 - (1 - 2r)^n)."""
    data, model = Batches(torch.ones(1), torch.full((1,), 3.0), 1), Scale()
    history = train(model, data, Recipe(mse_loss, "sgd", lr=0.1, momentum=0.0, epochs=7), seed=0)
    assert model.weight.item() == pytest.approx(3 * (1 - 0.8**7), rel=1e-6)
    numbers, losses, scores, _, seconds = zip(*history.epochs, strict=True)
    assert losses == pytest.approx([9 * 0.8 ** (2 * n) for n in range(7)], rel=1e-5)
    assert (numbers, history.best) == (tuple(range(7)), 6)
    assert np.isnan(scores).all()
    assert min(seconds) > 0


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_equals_a_loop_written_by_hand(name, clip_norm):
    data, ours, theirs = some_data(dtype=torch.float64), network().double(), network().double()
    for model in (ours, theirs):
        model[0].bias.requires_grad_(False)  # frozen: weight decay does not move it either
    recipe = Recipe(mse_loss, name, 0.02, 0.3, 0.8, "steps", (1, 2), 3, clip_norm=clip_norm)
    train(ours, data, recipe, seed=5)

    shuffle = torch.Generator().manual_seed(5)
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    extra = {"momentum": 0.8} if name == "sgd" else {}
    weights = [p for p in theirs.parameters() if p.requires_grad]
    optimiser = make(weights, lr=0.02, weight_decay=0.3, **extra)
    schedule = lr_scheduler.MultiStepLR(optimiser, [1, 2])
    with isolated_rng(5):
        for _ in range(3):
            for rows in torch.randperm(23, generator=shuffle).split(4):
                optimiser.zero_grad()
                (theirs(data.inputs[rows]) - data.target[rows]).square().mean().backward()
                if clip_norm:
                    norm = sum(p.grad.square().sum() for p in weights).sqrt()
                    for p in weights:
                        p.grad *= min(1, clip_norm / (norm + 1e-6))
                optimiser.step()
            schedule.step()
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-7)  # Adam blows up rounding: bias, BN


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("kind", [Batches, Masked])
@pytest.mark.parametrize(("size", "accumulate"), [(3, 4), (1, 12), (5, 2)])
def test_accumulated_batches_equal_the_big_batch(name, kind, size, accumulate):
    """23 elements leave a short batch and, but for (5, 2), a short group; one or two count."""
    data, models, losses = some_data(dtype=torch.float64), [], []
    mask = torch.rand(23, 2, generator=torch.Generator().manual_seed(0)) < 0.6
    mask[:, 0] |= ~mask[:, 1]
    inputs = (data.inputs, mask) if kind is Masked else data.inputs
    for number, n in ((accumulate, size), (1, accumulate * size)):
        models.append(plain().double())
        recipe = Recipe(masked_mse, name, 0.05, epochs=4, clip_norm=1.0, accumulate=number)
        history = train(models[-1], kind(inputs, data.target, n), recipe, seed=3)
        losses.append([epoch.loss for epoch in history.epochs])
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)  # float64, other order of sums
    assert losses[0] == pytest.approx(losses[1])


# Schedules ------------------------------------------------------------------------------------


def cosine(epochs: int, period: float | None, lowest: float) -> tuple:
    recipe = Recipe(lr=0.3, schedule="cosine", epochs=epochs, period=period, lowest=lowest)
    return recipe, partial(lr_scheduler.CosineAnnealingLR, T_max=period or epochs, eta_min=lowest)


@pytest.mark.parametrize("per_epoch", [1, 3, 11])
@pytest.mark.parametrize(
    ("recipe", "schedule"),
    [
        (Recipe(lr=0.3, epochs=2), partial(lr_scheduler.ConstantLR, factor=1.0)),
        *((Recipe(lr=0.3, schedule="one_cycle", epochs=n), None) for n in (1, 2, 7)),
        (
            Recipe(lr=0.3, schedule="steps", milestones=(2, 3, 6), epochs=7),
            partial(lr_scheduler.MultiStepLR, milestones=[2, 3, 6]),
        ),
        *map(cosine, (1, 2, 7, 40, 9, 3), (None, None, None, 8, 2.5, 7), (0, 0, 0, 1e-8, 0.1, 0)),
    ],
)
def test_schedules_are_torchs(recipe, schedule, per_epoch):
    total, by_step = recipe.epochs * per_epoch, schedule is None
    if by_step:
        options = {"max_lr": 0.3, "total_steps": total, "cycle_momentum": False}
        schedule = partial(lr_scheduler.OneCycleLR, **options)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = schedule(optimiser)
    close = {"rel": 1e-6, "abs": 1e-12} if recipe.period else {"rel": 1e-9, "abs": 1e-15}
    for step in range(total):
        rate = optimiser.param_groups[0]["lr"]
        assert learning_rate(recipe, step, per_epoch) == pytest.approx(rate, **close)
        optimiser.step()
        if by_step or (step + 1) % per_epoch == 0:
            schedule.step()


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


def test_several_inputs():
    x, plus = torch.arange(5.0), torch.ones(5)
    for inputs in ({"plus": plus, "x": x, "nothing": None}, (x, plus, None)):
        data = Batches(inputs, torch.zeros(5), 2)
        assert len(data) == len(list(data)) == 3
        assert torch.equal(predict(Scale(2.0), data), 2 * x + 1)
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


def test_predict_puts_rows_back_that_batches_give_in_an_order_of_their_own():
    class ByLength(list):
        order = torch.tensor([3, 0, 2, 1])

    model, x = network().eval(), some_data(4, 4).inputs
    rows = ByLength((x[own],) for own in ByLength.order.split(3))
    torch.testing.assert_close(predict(model, rows), model(x).detach())


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
    script, seen = iter(scores), []

    def validate(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        seen.append(model.weight.item())
        return next(script)

    data = Batches(torch.ones(4), torch.full((4,), 3.0), 2)
    recipe = Recipe(mse_loss, "sgd", 0.01, epochs=6, patience=patience)
    for _ in range(2):  # the second call finds the training finished, by patience or not
        model = Scale().eval()
        history = train(model, data, recipe, seed=0, validate=validate, checkpoint=tmp_path / "x")
        assert (history.best, len(history.epochs)) == (best, length)
        assert model.weight.item() == seen[best]
        assert len(set(seen)) == len(seen) == length
        assert not model.training  # its mode of before
        np.testing.assert_array_equal([e.score for e in history.epochs], scores[:length])


def test_validation_does_not_change_training():
    draws = lambda model: float(torch.rand(3).sum()) * 0 + model[0].weight.sum()  # noqa: E731
    losses = []
    for validate in (None, draws):
        history = train(network(), some_data(), Recipe(epochs=4), seed=0, validate=validate)
        losses.append([epoch.loss for epoch in history.epochs])
    assert losses[0] == losses[1]


# Seeds ----------------------------------------------------------------------------------------


def test_the_seed_decides_and_the_callers_random_state_does_not_and_stays():
    digests, nans = [], Batches(torch.full((2, 5), math.nan), torch.ones(2, 2), 2)
    for seed, outside in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(outside)
        state, model = torch.get_rng_state(), network()
        train(model, some_data(), Recipe(epochs=2), seed=seed)
        digests.append(digest(model))
        with pytest.raises(FloatingPointError):
            train(model, nans, Recipe(), seed=0)
        assert torch.equal(torch.get_rng_state(), state)
    assert digests[0] == digests[1] != digests[2]


# Faults ---------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_says_where():
    data, calls = Batches(torch.arange(6.0), torch.zeros(6), 1), []

    def loss(prediction, target):
        calls.append(1)
        return (prediction - target).square().mean() / (len(calls) != 12 + 4)

    with pytest.raises(FloatingPointError, match=r"^epoch 2, batch 3: the loss is inf; .*$"):
        train(Scale(1.0), data, Recipe(loss, lr=1e-3, accumulate=4), seed=9)


BAD = {
    "function": {"loss": ["mse", None, 1.0]},
    "adamw, adam, sgd": {"optimiser": ["lion", None, ["sgd"]]},
    "one_cycle": {"schedule": ["warm", None, {}]},
    "0 to lr, 0.1": {"lowest": [0.2, -0.1, math.nan, None, "0"]},
    "a number above 0": {
        name: [0, -1, math.inf, "1", 1j] for name in ("lr", "clip_norm", "period")
    },
    "a whole number above 0": {
        name: [0, -3, 1.5, 2.0, math.inf, "1", np.float32(2)]
        for name in ("epochs", "accumulate", "patience")
    },
    "0 to inf": {"weight_decay": [-1e-9, math.inf, None, "0"]},
    "0 to 1": {"momentum": [-0.1, 1.1, None, "0"]},
    "whole numbers": {"milestones": [None, 3, (-1,), (1.5,), ("a",), (math.nan,), "12"]},
}


@pytest.mark.parametrize("word", BAD)
def test_recipes_that_are_refused(word):
    for name, values in BAD[word].items():
        for value in [*values, math.nan]:
            build = partial(Recipe, **{"lr": 0.1, name: value})
            refused(build, f"{name} {value!r}", "give ", word)
    for name in ("lr", "epochs", "accumulate"):
        refused(partial(Recipe, **{name: None}), f"{name} None", "above 0")


def test_recipes_take_numbers_of_any_type():
    """As they come from a table or an array; a checkpoint of such a recipe is read as well."""
    options = {"lr": np.float32(0.01), "epochs": np.int64(2), "milestones": (np.int32(1),)}
    recipe = Recipe(optimiser="sgd", schedule="steps", momentum=np.float64(0), **options)
    assert len(train(Scale(1.0), Batches(torch.ones(2), torch.ones(2), 1), recipe, seed=0)[0]) == 2


def test_bad_input(tmp_path):
    data, fit = some_data(), partial(train, plain(), seed=0)
    none = Batches(data.inputs[:0], data.target[:0], 3)
    (tmp_path / "file").write_text("x")
    refused(lambda: fit(data, Recipe(patience=2)), "patience", "validate")
    refused(lambda: fit(none, Recipe()), "batches", "none")
    place = tmp_path / "file" / "x"
    refused(lambda: fit(data, Recipe(), checkpoint=place), "file", "cannot write")
    refused(lambda: Batches({"a": torch.ones(4)}, torch.ones(3), 2), "unequal length", "[4, 3]")
    refused(lambda: Batches(torch.ones(3), torch.ones(3), 0), "size 0")


def test_progress_is_on_stderr_and_only_in_a_terminal(monkeypatch, capsys):
    fit = partial(train, plain(), some_data(), Recipe(epochs=2), seed=0)
    fit()
    assert capsys.readouterr() == ("", "")
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    fit(progress=False)
    assert terminal.getvalue() == ""
    fit()
    assert "2/2" in terminal.getvalue()
    assert "loss=" in terminal.getvalue()


# Checkpoints ----------------------------------------------------------------------------------


class Weighted(nn.Module):
    """A loss that looks the same, whatever it weighs with."""

    def __init__(self, weight: float):
        super().__init__()
        self.register_buffer("weight", torch.tensor(weight))

    def forward(self, prediction, target):
        return self.weight * mse_loss(prediction, target)


class Net(nn.Module):
    """A network whose class and tensors do not say all: dropout and slope are plain numbers."""

    def __init__(self, seed: int = 0, dropout: float = 0.5, slope: float = 0.1, momentum=0.1):
        super().__init__()
        with isolated_rng(seed):
            self.layers = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8, momentum=momentum))
            self.head = nn.Linear(8, 2)
        self.dropout, self.slope = dropout, slope

    def forward(self, x):
        x = functional.leaky_relu(self.layers(x), self.slope)
        return self.head(functional.dropout(x, self.dropout, self.training))


def frozen() -> nn.Module:
    net = Net()
    net.layers[0].weight.requires_grad_(False)
    return net


def changed(index: int | None = None, *, scale: float = 1, sign: int = 1, **options) -> Batches:
    """The same batches, or with another input or targets."""
    data = some_data(**options)
    x, y = data.inputs.clone() * scale, data.target * sign
    if index is not None:
        x[index, 0] += 1e-6
    return replace(data, inputs=x, target=y)


def scaled(weight: float):
    return lambda prediction, target: weight * mse_loss(prediction, target)


BEGUN = Recipe(scaled(1.0), "sgd", 0.01, epochs=2)
OTHERS = {  # what differs: how the message calls it, and what is given
    "rate": ("lr", {"recipe": replace(BEGUN, lr=0.02)}),
    "length": ("epochs", {"recipe": replace(BEGUN, epochs=3)}),
    "momentum": ("momentum", {"recipe": replace(BEGUN, momentum=0.8)}),
    "seed": ("seed", {"seed": 1}),
    "batch size": ("first batches", {"data": changed(size=5)}),
    "negated labels": ("first batches", {"data": changed(sign=-1)}),
    "data times 100": ("first batches", {"data": changed(scale=100)}),
    "one pixel of the last clip": ("first batches", {"data": changed(22)}),
    "other precision": (
        "first batches",
        {"data": changed(dtype=torch.float64), "model": Net().double()},
    ),
    "first weights": ("first weights", {"model": Net(seed=1)}),
    "shapes": ("first weights", {"model": network()}),
    "a frozen layer": ("first weights", {"model": frozen()}),
    "dropout": ("first loss", {"model": Net(dropout=0.4)}),
    "slope": ("first loss", {"model": Net(slope=0.2)}),
    "memory of batch norm": ("model", {"model": Net(momentum=0.2)}),
    "a lambda loss": ("first loss", {"recipe": replace(BEGUN, loss=scaled(2.0))}),
    "a loss that begins alike": ("(other loss)", {"recipe": replace(BEGUN, loss=mse_loss)}),
    "a partial loss": ("loss", {"recipe": replace(BEGUN, loss=partial(mse_loss, reduction="sum"))}),
}


def begun(file: Path, *, model=None, data=None, recipe=BEGUN, seed=0) -> nn.Module:
    model = Net() if model is None else model
    train(model, some_data() if data is None else data, recipe, seed=seed, checkpoint=file)
    return model


@pytest.mark.parametrize("what", OTHERS)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, what):
    """It names what differs, and file and model are as they were."""
    file, (named, options) = tmp_path / "x", OTHERS[what]
    trained = begun(file)
    before, options = file.read_bytes(), {"model": Net()} | options
    first = digest(options["model"])
    refused(partial(begun, file, **options), file, "other ", named, "remove this file")
    assert file.read_bytes() == before
    assert digest(options["model"]) == first
    assert digest(begun(file)) == digest(trained)


def test_a_loss_with_tensors_of_its_own_is_compared_by_what_it_gives(tmp_path):
    begun(tmp_path / "x", recipe=replace(BEGUN, loss=Weighted(1.0)))
    other = partial(begun, tmp_path / "x", recipe=replace(BEGUN, loss=Weighted(0.5)))
    refused(other, "x", "first loss")


def test_a_checkpoint_moves_no_number(tmp_path):
    """To look at the first batch counts nothing in batch norm and draws nothing."""
    models = network(), network()
    for model, checkpoint in zip(models, (None, tmp_path / "x"), strict=True):
        train(model, some_data(), CHECKPOINTED, seed=3, checkpoint=checkpoint)
    assert digest(models[0]) == digest(models[1])


class Trap:
    """Makes a file when it is unpickled without care."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_a_checkpoint_that_is_torn_or_foreign_is_one_line(tmp_path):
    file = tmp_path / "x"
    model, data = network(), some_data()
    action = partial(train, model, data, CHECKPOINTED, seed=0, checkpoint=file)
    action()
    model.load_state_dict(network().state_dict())
    whole, state = file.read_bytes(), torch.load(file, weights_only=True)
    del state["optimiser"]
    first, foreign = digest(network()), state | {"model": {"weight": torch.ones(1)}}
    for damage in (
        *(partial(file.write_bytes, torn) for torn in (b"", whole[: len(whole) // 2], b"hello")),
        *(partial(torch.save, it, file) for it in (state, foreign, [], {"identity": 3})),
        partial(torch.save, {"identity": Trap(tmp_path / "sprung")}, file),
        lambda: (file.unlink(), file.mkdir()),
    ):
        damage()
        refused(action, file, "remove this file")
        assert digest(model) == first
    assert not (tmp_path / "sprung").exists()


def doomed(checkpoint: Path, at: int = 0) -> tuple[list, list[str]]:
    """Train to the end or, at this moment, 1-based, to SIGKILL; the result and all moments."""
    moments, replace, model = [], Path.replace, network()

    def moment(name: str) -> None:
        moments.append(name)
        if len(moments) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying_replace(self, target):
        whole = self.read_bytes()
        self.write_bytes(whole[: len(whole) // 2])
        moment("half written")
        self.write_bytes(whole)
        moment("before")
        replace(self, target)
        moment("after")

    def validate(model):
        moment("validation")
        return score(model)

    model.register_forward_hook(lambda module, *rest: moment("batch") if module.training else None)
    options = {"seed": 4, "validate": validate, "checkpoint": checkpoint}
    with patch.object(Path, "replace", dying_replace):
        history = train(model, some_data(), CHECKPOINTED, **options)
    return [digest(model), facts(history)], moments


def killed_and_continued(folder: Path) -> None:
    """Kill a training at many moments, each in a fork; print the result, always the same."""
    torch.set_num_threads(1)
    whole, moments = doomed(folder / "whole" / "x")
    epoch = [*["batch"] * 6, "validation", "half written", "before", "after"]
    assert moments == ["batch", *epoch * 3]  # the first one tells trainings apart
    for at in (1, 2, 7, 8, 9, 10, 11, 14, 18, 19, 20, 21, 27, 29, 31):
        file = folder / str(at) / "x"
        if (pid := os.fork()) == 0:
            doomed(file, at)
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
        again, moments = doomed(file)
        assert again == whole, (at, again, whole)
        assert moments.count("validation") == 3 - (at - 1) // 10, (
            "an epoch that was kept is trained anew"
        )
        assert [path.name for path in file.parent.iterdir()] == ["x"], at
    print(repr(whole))


def test_killed_at_any_moment_and_continued_gives_the_same_bits(tmp_path):
    """SIGKILL in a batch, in validation, in a half-written file, before and after its renaming."""
    command = [sys.executable, "-W", "error::UserWarning", __file__, str(tmp_path)]
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
    again = train(network(), data, recipe, seed=4, **options)  # reads the finished checkpoint
    assert repr(again) == repr(history)  # a score that is NaN is not equal to itself
    assert predict(model, data, "cuda").shape == (64, 2)


if __name__ == "__main__":
    killed_and_continued(Path(sys.argv[1]))
