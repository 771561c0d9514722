"""One training loop for all systems: a recipe, a model, batches; weights and a history.

A *batch* is ``(inputs, target)`` or ``(inputs, target, mask)``. ``inputs`` is a tensor, a tuple
(``model(*inputs)``) or a dict (``model(**inputs)``); ``mask``, bool with the leading axes of
target, is True where target counts. What `train` takes as *batches* has ``len(batches)``, the
number of batches in an epoch, and ``batches(generator)``, which yields one epoch of them in an
order drawn from the generator and from nothing else; `Batches` does it for tensors in memory.

There is no place for a test split here: whoever chooses an epoch chooses it on validation data.
"""

import contextlib
import copy
import hashlib
import io
import itertools
import math
import re
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves, tree_map_only  # stable since 1.12, though private
from tqdm import tqdm

from micromacro.errors import BadInput, check_whole
from micromacro.files import make_writable, reading, replacing

OPTIMISERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
SCHEDULES = ("constant", "one_cycle", "steps", "cosine")
_SAME_LOSS = 1e-4  # relative: GPUs add in another order each time
_WHOLE = ("epochs", "accumulate", "patience")
_OPTIONAL = ("clip_norm", "period", "patience")


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
        milestones: Epochs, 0-based, from which "steps" takes the rate times `factor`.
        epochs: Largest number of epochs; patience may end the training before.
        accumulate: Batches whose gradients make one step of the optimiser. Each weighs as many
            elements as count in its target, so that a mean loss gives the step of one big batch
            (also in the last, shorter group). A CCC is no mean, and batch norm sees small batches.
        clip_norm: Longest gradient (L2 over all parameters); None does not clip.
        patience: Epochs without a better validation score that end the training; None: none do.
        period: Epochs in which "cosine" falls from `lr` to `lowest`; then it rises again as long,
            and so on. None means all epochs.
        lowest: Learning rate at the bottom of "cosine".
        factor: What "steps" multiplies the rate by.

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
    epochs: int = 10
    accumulate: int = 1
    clip_norm: float | None = None
    patience: int | None = None
    period: float | None = None
    lowest: float = 0.0
    factor: float = 0.1

    def __post_init__(self):
        def check(name: str, holds: bool, remedy: str) -> None:
            if not holds:
                raise BadInput(f"{name} {getattr(self, name)!r}", "out of range", f"give {remedy}")

        check("loss", callable(self.loss), "a function, such as functional.mse_loss")
        check("optimiser", self.optimiser in tuple(OPTIMISERS), ", ".join(OPTIMISERS))
        check("schedule", self.schedule in SCHEDULES, ", ".join(SCHEDULES))
        # Written as what must hold, so that a nan is refused as well.
        for name in ("lr", "clip_norm", "period", *_WHOLE):
            value, whole = getattr(self, name), name in _WHOLE
            holds = isinstance(value, Integral if whole else Real) and 0 < value < math.inf
            holds = holds or (value is None and name in _OPTIONAL)
            check(name, holds, f"a {'whole ' if whole else ''}number above 0")
        most = {"weight_decay": (math.inf, ""), "momentum": (1, ""), "lowest": (self.lr, "lr, ")}
        for name, (high, where) in most.items():
            holds = isinstance(value := getattr(self, name), Real) and 0 <= value <= high
            check(name, holds and value < math.inf, f"0 to {where}{high}")
        epochs = self.milestones if isinstance(self.milestones, tuple | list) else [-1]
        whole = all(isinstance(epoch, Integral) and epoch >= 0 for epoch in epochs)
        check("milestones", whole, "a tuple of whole numbers, 0 or more")


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


class Recorded(nn.Module):
    """A network, and what it gave of the clips left out after each epoch so far.

    The record is a buffer, so a checkpoint of the weights holds it, and a training that is taken up
    goes on with it.

    Args:
        net: Used as it is.
        epochs: Number of epochs to come.
        *shape: Shape of what is recorded after each, such as clips and classes.
    """

    def __init__(self, net: nn.Module, epochs: int, *shape: int):
        super().__init__()
        self.net = net
        self.register_buffer("done", torch.tensor(0))
        self.register_buffer("record", torch.full((epochs, *shape), torch.nan))

    def forward(self, *inputs: object, **named: object) -> object:
        """The network's."""
        return self.net(*inputs, **named)

    def note(self, predicted: Tensor) -> float:
        """Record one more epoch; its number as the score, so that the last epoch is the best."""
        self.record[self.done] = predicted.to(self.record)
        self.done += 1
        return float(self.done)


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

    Same model, batches, recipe and seed give the same weights, bit for bit on CPUs of one kind: the
    order of the batches and dropout depend on the seed alone. The caller's random state is left as
    it was.

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
            is the same, bit for bit on CPUs of one kind. Of this very training means: same recipe,
            seed, model and first weights, and, bit for bit, the same batches in the first epoch, of
            which the first gives the same loss; what `validate` does is not compared. Who called
            removes it when nobody needs it.
        progress: Show a bar on stderr, if that is a terminal.

    Raises:
        BadInput: Patience without validation; no batches; a checkpoint that is torn or of another
            training: the model then has its first weights; one that cannot be written.
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
        generators["shuffle"] = shuffle = torch.Generator().manual_seed(int(seed))
        parts = {"model": model, "optimiser": optimiser}
        parts = {name: (part.state_dict, part.load_state_dict) for name, part in parts.items()}
        parts |= {name: (rng.get_state, rng.set_state) for name, rng in generators.items()}
        if checkpoint is not None:
            first = copy.deepcopy(model.state_dict())
            identity = _identity(model, batches, recipe, seed, device)
            model.load_state_dict(first)  # batch norm has counted a batch
            try:
                epochs, best = _resume(checkpoint, identity, parts) or (epochs, best)
            except BadInput:
                model.load_state_dict(first)
                raise
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


def _identity(model, batches, recipe, seed, device) -> dict:
    """What tells one training from another, each by its name in words; moves batch norm."""

    def plain(value: object) -> str:
        return re.sub(" at 0x[0-9a-f]+", "", str(value))  # without where it lies today

    identity = {name: plain(value) for name, value in vars(recipe).items()}
    identity |= {"seed": plain(seed), "model": plain(model), "first batches": hashlib.sha256()}
    trained = {name: weight.requires_grad for name, weight in model.named_parameters()}
    identity["first weights"] = _fingerprint((model.state_dict(), trained))
    model.train()
    with isolated_rng(seed, device):
        for number, batch in enumerate(batches(torch.Generator().manual_seed(seed))):
            identity["first batches"].update(_fingerprint(batch).encode())
            if number == 0:  # a function does not say what it computes: let it show
                inputs, *rest = moved(batch, device)
                identity["first loss"] = recipe.loss(forward(model, inputs), *rest).item()
    return identity | {"first batches": identity["first batches"].hexdigest()}


def _fingerprint(value: object) -> str:
    """Nested tuples, lists and dicts as a text, which holds a hash of each tensor's bits."""

    def hashed(tensor: Tensor) -> str:
        content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        return f"{tensor.dtype} {list(tensor.shape)} {hashlib.sha256(content).hexdigest()}"

    return repr(tree_map_only(Tensor, hashed, value))


def _save(file: Path, identity: dict, epochs: list[Epoch], best: dict, parts: dict) -> None:
    """Replace the checkpoint; killed on the way, it still holds the epoch before."""
    state = {"identity": identity, "epochs": list(map(tuple, epochs)), "best": best}
    state |= {name: get() for name, (get, _) in parts.items()}
    torch.save(state, content := io.BytesIO())  # which raises no OSError where a disk is full
    with replacing(file) as part:
        part.write_bytes(content.getbuffer())


def _resume(file: Path, identity: dict, parts: dict) -> tuple[list[Epoch], dict] | None:
    """Put all parts back as they were saved; None, and a folder for the file, if there is none."""
    make_writable(file.parent)
    if not file.exists():
        return None
    remedy = "remove this file to begin anew"
    with reading(file, "a checkpoint that can be continued", remedy):
        with zipfile.ZipFile(file) as archive:
            if damaged := archive.testzip():  # torch writes check sums, but does not look at them
                raise ValueError(damaged)
        state = torch.load(file, map_location="cpu", weights_only=True)
        before = state["identity"]
        same = {name: before.get(name) == value for name, value in identity.items()}
        losses = before["first loss"], identity["first loss"]
        same["first loss"] = math.isclose(*losses, rel_tol=_SAME_LOSS)
        if all(same.values()):
            parts["model"][1](state["best"]["weights"])  # they fit too
            for name, (_, put) in parts.items():
                put(state[name])
            return [Epoch(*epoch) for epoch in state["epochs"]], state["best"]
    other = ", ".join(name for name, good in same.items() if not good)
    fault = f"a checkpoint of another training (other {other})"
    raise BadInput(file, fault, f"begin as that one did, {remedy}, or give another")


def predict(model: nn.Module, batches: Iterable, device: str | torch.device = "cpu") -> Tensor:
    """Return the model's outputs for all batches, concatenated along the first axis, on the CPU.

    Batches that have an attribute ``order``, the numbers of the rows that they give, are put back
    in order.

    The model computes in evaluation mode, without gradients, and gets its mode back.

    Args:
        model: It is moved to `device`.
        batches: Of each, the first entry is the model's input; an order that is not drawn.
        device: Where to compute.
    """
    was_training = model.training
    model.to(device).eval()
    with torch.no_grad():
        outputs = [forward(model, moved(batch[0], device)).cpu() for batch in batches]
    model.train(was_training)
    places = batches.order.argsort() if hasattr(batches, "order") else slice(None)
    return torch.cat(outputs)[places]


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
            generator.manual_seed(check_whole("seed", seed, least=0))
        yield generators
