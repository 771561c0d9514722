"""One training loop for all systems of the course: a recipe, a model, batches; weights and a history.

A *batch* is ``(inputs, target)`` or ``(inputs, target, mask)``. ``inputs`` is a tensor, a tuple
(``model(*inputs)``) or a dict (``model(**inputs)``); ``mask``, bool with the leading axes of
target, is True where target counts. What `train` takes as *batches* has ``len(batches)``, the
number of batches in an epoch, and ``batches(generator)``, which yields one epoch of them in an
order drawn from the generator; `Batches` does it for tensors in memory.

How to train is said in `micromacro.recipe`, and done epoch by epoch in `micromacro.training_run`.
There is no place for a test split here: whoever chooses an epoch chooses it on validation data.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from micromacro.errors import BadInput
from micromacro.recipe import (
    LOSSES,
    OPTIMISERS,
    SCHEDULES,
    Recipe,
    ccc_loss,
    cross_entropy,
    learning_rate,
)
from micromacro.training_run import Epoch, TrainingRun, each_tensor, forward, moved

__all__ = [
    "LOSSES",
    "OPTIMISERS",
    "SCHEDULES",
    "Batches",
    "Epoch",
    "History",
    "Recipe",
    "ccc_loss",
    "cross_entropy",
    "isolated_rng",
    "learning_rate",
    "predict",
    "train",
]


@dataclass(frozen=True)
class History:
    """What `train` did.

    Attributes:
        epochs: In order; ``pandas.DataFrame(history.epochs)`` is a table.
        best: Number of the epoch whose weights the model has now: the first with the highest
            validation score; without validation the last.
        stopped: Whether patience ended it.
    """

    epochs: list[Epoch]
    best: int
    stopped: bool


@dataclass(frozen=True)
class Batches:
    """Mini-batches of tensors in memory; the last of an epoch may be smaller.

    Iterated, it yields them in order (for `predict`); called with a generator, shuffled.

    Attributes:
        inputs: A tensor (N, ...), or a tuple or dict of tensors and Nones.
        target: (N, ...).
        size: Elements along N in a batch.
        mask: bool (N, ...), True where target counts; None if all of it does.

    Raises:
        BadInput: Tensors of unequal length, or a size below 1.
    """

    inputs: Tensor | tuple | dict
    target: Tensor
    size: int
    mask: Tensor | None = None

    def __post_init__(self):
        lengths: list[int] = []
        each_tensor(
            (self.inputs, self.target, self.mask), lambda tensor: lengths.append(len(tensor))
        )
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
        parts = (self.inputs, self.target) + (() if self.mask is None else (self.mask,))
        for rows in order.split(self.size):
            yield each_tensor(parts, lambda tensor, rows=rows: tensor[rows])


def train(
    model: nn.Module,
    batches: Callable[[torch.Generator], Iterable[tuple]],
    recipe: Recipe,
    *,
    seed: int,
    validate: Callable[[nn.Module], float] | None = None,
    device: str | torch.device = "cpu",
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> History:
    """Train a model in place, and leave the weights of its best epoch in it.

    Same model, batches, recipe and seed give the same weights, bit for bit on the CPU: the order of
    the batches and dropout depend on the seed alone. The caller's random state is left as it was.

    Args:
        model: Parameters with ``requires_grad`` are trained. It is moved to `device`.
        batches: See the top of this module.
        recipe: Loss, optimiser, schedule, length.
        seed: Of the order of the batches, and of what the model draws. Not of its first weights:
            build it under `isolated_rng`.
        validate: Called after each epoch as ``validate(model)``, in evaluation mode and without
            gradients; returns a score on VALIDATION data, higher is better. nan counts as worst.
        device: Of the arithmetic.
        checkpoint: Folder, written after each epoch. If it holds the beginning of this very
            training, that is continued; killed at any moment and called again, the result is the
            same, bit for bit on the CPU.
        progress: A bar on stderr, if that is a terminal.

    Raises:
        BadInput: Patience without validation; no batches; a checkpoint of another training.
        FloatingPointError: The loss is not finite; says where. The last checkpoint stays.
    """
    if recipe.patience is not None and validate is None:
        raise BadInput("patience", "needs a validation score", "give validate")
    if len(batches) == 0:
        raise BadInput("batches", "there are none", "give at least one")
    was_training = model.training
    with isolated_rng(seed, device) as devices:
        run = TrainingRun(model.to(device), batches, recipe, seed, torch.device(device), devices)
        if checkpoint is not None:
            run.resume(Path(checkpoint))
        bar = tqdm(total=recipe.epochs, unit="epoch", disable=None if progress else True)
        with bar:
            bar.update(len(run.epochs))
            while len(run.epochs) < recipe.epochs and not run.stopped:
                run.epoch(validate)
                if checkpoint is not None:
                    run.save(Path(checkpoint))
                bar.set_postfix(loss=run.epochs[-1].loss, score=run.epochs[-1].score)
                bar.update()
    model.load_state_dict(run.best_weights)
    model.train(was_training)
    return History(run.epochs, run.best, run.stopped)


def predict(model: nn.Module, batches: Iterable, device: str | torch.device = "cpu") -> Tensor:
    """Return the model's outputs for all batches, concatenated along the first axis, on the CPU.

    The model computes in evaluation mode, without gradients, and gets its mode back.

    Args:
        model: It is moved to `device`.
        batches: Of each, the first entry is the model's input; an order that is not shuffled.
        device: Of the arithmetic.
    """
    was_training = model.training
    model.to(device).eval()
    try:
        with torch.no_grad():
            outputs = [forward(model, moved(batch[0], device)).cpu() for batch in batches]
    finally:
        model.train(was_training)
    return torch.cat(outputs)


@contextlib.contextmanager
def isolated_rng(seed: int, device: str | torch.device = "cpu") -> Iterator[list[torch.device]]:
    """Torch's own random state, set to a seed in the block and put back after it.

    Wrap the making of a model in it, so that its first weights depend on the seed alone. Covers the
    CPU and, if given, one CUDA device; yields the latter in a list.
    """
    device = torch.device(device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed seeds all devices
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield devices
