"""One training loop for all systems: a recipe, a model, batches; weights and a history.

A *batch* is ``(inputs, target)`` or ``(inputs, target, mask)``. ``inputs`` is a tensor, a tuple
(``model(*inputs)``) or a dict (``model(**inputs)``); ``mask``, bool with the leading axes of
target, is True where target counts. What `train` takes as *batches* has ``len(batches)``, the
number of batches in an epoch, and ``batches(generator)``, which yields one epoch of them in an
order drawn from the generator; `Batches` does it for tensors in memory.

There is no place for a test split here: whoever chooses an epoch chooses it on validation data.
"""

import contextlib
import itertools
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves, tree_map_only  # stable since 1.12, though private
from tqdm import tqdm

from micromacro.errors import BadInput
from micromacro.files import make_writable, replacing

OPTIMISERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
SCHEDULES = ("constant", "one_cycle", "steps", "cosine")


@dataclass(frozen=True)
class Recipe:
    """How to train: every setting that decides the numbers, but data and seed.

    Attributes:
        loss: Function of (prediction, target), or of (prediction, target, mask) where the batches
            have masks; it returns a scalar.
        optimiser: "adamw", "adam" or "sgd", as in torch with torch's defaults.
        lr: Learning rate; of "one_cycle" the highest.
        weight_decay: Decoupled in "adamw", an L2 penalty in the other two.
        momentum: Of "sgd"; the other two have their own.
        schedule: "constant", "one_cycle", "steps" or "cosine"; see `learning_rate`.
        milestones: Epochs, 0-based, from which "steps" multiplies the rate by `factor` once more.
        factor: Of "steps".
        epochs: Largest number of epochs; patience may end the training before.
        accumulate: Batches whose gradients make one step of the optimiser. Each weighs as many
            elements as count in its target, so that a mean loss gives the step of one big batch
            (also in the last, shorter group). A CCC is no mean, and batch norm sees small batches.
        clip_norm: Longest gradient (L2 over all parameters); None does not clip.
        patience: Epochs without a better validation score that end the training; None: none do.
        period: Epochs in which "cosine" falls from `lr` to `lowest`; then it rises again as long,
            and so on. None means all epochs.
        lowest: Learning rate at the bottom of "cosine".

    Raises:
        BadInput: A loss that is no function, an unknown name, or a number out of range.
    """

    loss: Callable = functional.mse_loss
    optimiser: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    schedule: str = "constant"
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    epochs: int = 10
    accumulate: int = 1
    clip_norm: float | None = None
    patience: int | None = None
    period: float | None = None
    lowest: float = 0.0

    def __post_init__(self):
        # Written as what must hold, so that a nan is refused as well.
        rules = {
            "loss": (callable(self.loss), "a function, such as functional.mse_loss"),
            "optimiser": (self.optimiser in OPTIMISERS, ", ".join(OPTIMISERS)),
            "schedule": (self.schedule in SCHEDULES, ", ".join(SCHEDULES)),
            "lowest": (0 <= self.lowest <= self.lr, f"0 to lr, {self.lr}"),
        }
        for name in ("lr", "clip_norm", "period", "epochs", "accumulate", "patience"):
            rules[name] = ((value := getattr(self, name)) is None or value > 0, "above 0")
        for name, (holds, remedy) in rules.items():
            if not holds:
                raise BadInput(f"{name} {getattr(self, name)!r}", "out of range", f"give {remedy}")


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Learning rate of one step of the optimiser, 0-based.

    constant: lr. steps: lr factor^(number of milestones at or before the epoch). cosine, by epoch e
    and period P: lowest + (lr - lowest) (1 + cos(pi e / P)) / 2, as torch's CosineAnnealingLR.
    one_cycle (Smith 2018, as torch's OneCycleLR without its momentum): half a cosine from lr/25 up
    to lr in the first 30 % of the steps, then one down to lr/250,000.
    """
    epoch, n = step // steps_per_epoch, recipe.epochs * steps_per_epoch
    start, end, progress = recipe.lr, recipe.lr, 0.0
    if recipe.schedule == "steps":
        return start * recipe.factor ** sum(epoch >= milestone for milestone in recipe.milestones)
    if recipe.schedule == "cosine":
        end, progress = recipe.lowest, epoch / (recipe.period or recipe.epochs)
    if recipe.schedule == "one_cycle":
        top = 0.3 * n - 1
        if step <= top:
            start, progress = start / 25, step / top
        else:
            end, progress = end / 250_000, (step - top) / (n - 1 - top)
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Batches:
    """Mini-batches of tensors in memory; the last of an epoch may be smaller.

    Iterated, it yields them in order (for `predict`); called with a generator, shuffled.

    Attributes:
        inputs: A tensor (N, ...), or a tuple or dict of tensors and Nones.
        target: (N, ...).
        size: Elements along N in a batch.

    Raises:
        BadInput: Tensors of unequal length, or a size below 1.
    """

    inputs: Tensor | tuple | dict
    target: Tensor
    size: int

    def __post_init__(self):
        lengths = [len(t) for t in tree_leaves((self.inputs, self.target)) if t is not None]
        if len(set(lengths)) > 1:
            raise BadInput("batches", f"tensors of unequal length: {lengths}", "give one for each")
        if self.size < 1:
            raise BadInput(f"size {self.size}", "out of range", "give at least 1")

    def __len__(self) -> int:
        return math.ceil(len(self.target) / self.size)

    def __iter__(self) -> Iterator[tuple]:
        return self._take(torch.arange(len(self.target)))

    def __call__(self, generator: torch.Generator) -> Iterator[tuple]:
        """One epoch, in an order drawn from the generator."""
        return self._take(torch.randperm(len(self.target), generator=generator))

    def _take(self, order: Tensor) -> Iterator[tuple]:
        for rows in order.split(self.size):
            yield tree_map_only(Tensor, lambda t, rows=rows: t[rows], (self.inputs, self.target))


class Epoch(NamedTuple):
    """What one epoch gave.

    Attributes:
        epoch: Its number, 0-based.
        loss: Mean over the elements of the training targets, while the weights moved.
        score: Validation score after the epoch, higher is better; nan without validation.
        lr: Learning rate of the epoch's last step.
        seconds: Time of training and validation.
    """

    epoch: int
    loss: float
    score: float
    lr: float
    seconds: float


class History(NamedTuple):
    """What `train` did.

    Attributes:
        epochs: In order; ``pandas.DataFrame(history.epochs)`` is a table. Fewer than the recipe's
            where patience ended the training.
        best: Number of the epoch whose weights the model has now: the first with the highest
            validation score; without validation the last.
    """

    epochs: list[Epoch]
    best: int


def train(
    model: nn.Module,
    batches: Callable[[torch.Generator], Iterable[tuple]],
    recipe: Recipe,
    *,
    seed: int,
    validate: Callable[[nn.Module], float] | None = None,
    device: str | torch.device = "cpu",
    checkpoint: Path | None = None,
    progress: bool = True,
) -> History:
    """Train a model in place, and leave the weights of its best epoch in it.

    Same model, batches, recipe and seed give the same weights, bit for bit on the CPU: the order of
    the batches and dropout depend on the seed alone. The caller's random state is left as it was.

    Args:
        model: Parameters with ``requires_grad`` are trained. It is moved to `device`.
        batches: See the top of this module.
        recipe: Loss, optimiser, schedule, length.
        seed: Decides the order of the batches, and what the model draws. It does not decide the
            first weights: build the model under `isolated_rng`.
        validate: Called after each epoch as ``validate(model)``, in evaluation mode and without
            gradients; returns a score on VALIDATION data, higher is better. nan counts as worst.
        device: Where to compute.
        checkpoint: File, written after each epoch; its folder is made. If it holds the beginning of
            this very training, that is continued: killed at any moment and called again, the result
            is the same, bit for bit on the CPU. Who called removes it when nobody needs it.
        progress: Show a bar on stderr, if that is a terminal.

    Raises:
        BadInput: Patience without validation; no batches; a checkpoint that is torn or of another
            training, or that cannot be written.
        FloatingPointError: The loss is not finite; says where. The last checkpoint stays.
    """
    if recipe.patience is not None and validate is None:
        raise BadInput("patience", "needs a validation score", "give validate")
    if len(batches) == 0:
        raise BadInput("batches", "there are none", "give at least one")
    was_training, epochs, best = model.training, [], {"epoch": 0, "score": -math.inf}
    with isolated_rng(seed, device) as generators:
        model.to(device)
        options = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
        options |= {"momentum": recipe.momentum} if recipe.optimiser == "sgd" else {}
        optimiser = OPTIMISERS[recipe.optimiser](model.parameters(), **options)
        generators["shuffle"] = shuffle = torch.Generator().manual_seed(seed)
        parts = {"model": model, "optimiser": optimiser}
        parts = {name: (part.state_dict, part.load_state_dict) for name, part in parts.items()}
        parts |= {name: (rng.get_state, rng.set_state) for name, rng in generators.items()}
        if checkpoint is not None:
            loss = re.sub(" at 0x[0-9a-f]+", "", repr(recipe.loss))  # without where it lies today
            identity = vars(recipe) | {"loss": loss, "seed": seed, "batches": len(batches)}
            identity["weights"] = {name: list(t.shape) for name, t in model.state_dict().items()}
            epochs, best = _resume(checkpoint, identity, parts) or (epochs, best)
        options = {"initial": len(epochs), "total": recipe.epochs, "unit": "epoch"}
        options |= {"disable": None if progress else True}
        for number in (bar := tqdm(range(len(epochs), recipe.epochs), **options)):
            if recipe.patience is not None and number - best["epoch"] > recipe.patience:
                break
            began, score = time.perf_counter(), math.nan
            loss, lr = _one_epoch(model, batches, recipe, optimiser, shuffle, number, device)
            if validate is not None:
                model.eval()
                # What the validation draws must not move what the next epoch draws.
                with torch.no_grad(), isolated_rng(seed, device):
                    score = float(validate(model))
            epochs.append(Epoch(number, loss, score, lr, time.perf_counter() - began))
            worth = -math.inf if math.isnan(score) else score
            if number == 0 or validate is None or worth > best["score"]:
                weights = {k: t.to("cpu", copy=True) for k, t in model.state_dict().items()}
                best = {"epoch": number, "score": worth, "weights": weights}
            if checkpoint is not None:
                _save(checkpoint, identity, epochs, best, parts)
            bar.set_postfix(loss=loss, score=score)
    model.load_state_dict(best["weights"])
    model.train(was_training)
    return History(epochs, best["epoch"])


def _one_epoch(model, batches, recipe, optimiser, shuffle, number, device) -> tuple[float, float]:
    """Train for one epoch; its mean loss and last learning rate."""
    model.train()
    steps = math.ceil(len(batches) / recipe.accumulate)
    numbered, total, count = enumerate(batches(shuffle)), 0, 0
    for step in range(number * steps, (number + 1) * steps):
        optimiser.param_groups[0]["lr"] = lr = learning_rate(recipe, step, steps)
        optimiser.zero_grad()
        group = list(itertools.islice(numbered, recipe.accumulate))
        weights = [int(mask[0].sum()) if mask else t.numel() for _, (_, t, *mask) in group]
        for (place, batch), weight in zip(group, weights, strict=True):
            inputs, *rest = moved(batch, device)
            loss = recipe.loss(forward(model, inputs), *rest)
            if not math.isfinite(value := loss.item()):
                fault = f"epoch {number}, batch {place}: the loss is {value}; look at its data"
                raise FloatingPointError(f"{fault}, lower the learning rate or clip the gradients")
            (loss * (weight / sum(weights))).backward()
            total, count = total + value * weight, count + weight
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimiser.step()
    return total / count, lr


def _save(file: Path, identity: dict, epochs: list[Epoch], best: dict, parts: dict) -> None:
    """Replace the checkpoint; killed on the way, it still holds the epoch before."""
    state = {"identity": identity, "epochs": list(map(tuple, epochs)), "best": best}
    state |= {name: get() for name, (get, _) in parts.items()}
    with replacing(file) as part:
        torch.save(state, part)


def _resume(file: Path, identity: dict, parts: dict) -> tuple[list[Epoch], dict] | None:
    """Put all parts back as they were saved; None, and a folder for the file, if there is none."""
    make_writable(file.parent)
    for part in file.parent.glob(f".{file.name}.*.part"):
        part.unlink()  # what a process that was killed while it wrote has left
    if not file.exists():
        return None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        other = [k for k, value in identity.items() if state["identity"].get(k) != value]
        if not other:
            for name, (_, put) in parts.items():
                put(state[name])
            return [Epoch(*epoch) for epoch in state["epochs"]], state["best"]
    except Exception as error:  # torch raises a dozen types, by where the file is damaged
        fault = f"no checkpoint that can be continued ({type(error).__name__})"
        raise BadInput(file, fault, "remove this file to begin anew") from error
    fault = f"a checkpoint of another training (other {', '.join(other)})"
    raise BadInput(file, fault, "remove this file, or give another")


def predict(model: nn.Module, batches: Iterable, device: str | torch.device = "cpu") -> Tensor:
    """Return the model's outputs for all batches, concatenated along the first axis, on the CPU.

    The model computes in evaluation mode, without gradients, and gets its mode back.

    Args:
        model: It is moved to `device`.
        batches: Of each, the first entry is the model's input; an order that is not shuffled.
        device: Where to compute.
    """
    was_training = model.training
    model.to(device).eval()
    with torch.no_grad():
        outputs = [forward(model, moved(batch[0], device)).cpu() for batch in batches]
    model.train(was_training)
    return torch.cat(outputs)


def forward(model: nn.Module, inputs: Tensor | tuple | list | dict) -> Tensor:
    """Call the model with the inputs of a batch; see the top of this module."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def moved(value: object, device: str | torch.device) -> object:
    """Return nested tuples, lists and dicts with their tensors on a device; the rest stays."""
    return tree_map_only(Tensor, lambda tensor: tensor.to(device), value)


@contextlib.contextmanager
def isolated_rng(seed: int, device: str | torch.device = "cpu") -> Iterator[dict]:
    """Torch's own random state, set to a seed in the block and put back after it.

    Wrap the making of a model in it, so that its first weights depend on the seed alone. Covers the
    CPU and, if given, one CUDA device; yields their `torch.Generator`s, named "cpu" and "cuda".
    """
    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        generators = {"cpu": torch.default_generator}  # torch.manual_seed would seed all devices
        if device.type == "cuda":
            number = torch.cuda.current_device() if device.index is None else device.index
            generators["cuda"] = torch.cuda.default_generators[number]
        for generator in generators.values():
            generator.manual_seed(seed)
        yield generators
