"""A recipe: how to train, but for data and seed; its loss, its optimiser, its learning rate."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from micromacro.errors import BadInput


@dataclass(frozen=True)
class Recipe:
    """How to train: every setting that decides the numbers, but data and seed.

    Attributes:
        loss: A key of `LOSSES`, or a function of (prediction, target) or of (prediction, target,
            mask) that returns a scalar.
        optimiser: "adamw", "adam" or "sgd", as in torch with torch's defaults.
        lr: Learning rate; of "one_cycle" the highest.
        weight_decay: Decoupled in "adamw", an L2 penalty in the other two.
        momentum: Of "sgd".
        schedule: "constant", "one_cycle", "steps" or "cosine"; see `learning_rate`.
        milestones: Epochs, 0-based, from which "steps" multiplies the rate by `gamma` once more.
        gamma: See milestones.
        epochs: At most so many.
        accumulate: Batches whose gradients make one step of the optimiser. Each weighs as many
            elements as count in its target, so that a mean loss gives the step of one big batch
            (also in the last, shorter group). "ccc" is no mean, and batch norm sees small batches.
        clip_norm: Longest gradient (L2 over all parameters); None does not clip.
        patience: Stop after so many epochs without a better validation score; None never stops.
        amp: float16 arithmetic with a scaled loss on CUDA; does nothing elsewhere.
        period: Epochs in which "cosine" falls from `lr` to `lowest`; then it rises again as long, and
            so on. None for all epochs.
        lowest: Learning rate at the bottom of "cosine".

    Raises:
        BadInput: An unknown name, or a number out of range.
    """

    loss: str | Callable = "mse"
    optimiser: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    schedule: str = "constant"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    epochs: int = 10
    accumulate: int = 1
    clip_norm: float | None = None
    patience: int | None = None
    amp: bool = False
    period: float | None = None
    lowest: float = 0.0

    def __post_init__(self):
        names = {"loss": LOSSES, "optimiser": OPTIMISERS, "schedule": SCHEDULES}
        for name, known in names.items():
            value = getattr(self, name)
            if value not in known and not (name == "loss" and callable(value)):
                raise BadInput(f"{name} {value!r}", "unknown", f"known are: {', '.join(known)}")
        counts = ("epochs", "accumulate", "patience")
        for name in (*counts, "lr", "clip_norm", "period"):
            value = getattr(self, name)
            if value is not None and not (value >= 1 if name in counts else value > 0):
                least = "at least 1" if name in counts else "above 0"
                raise BadInput(f"{name} {value}", "out of range", f"give {least}")
        if not 0 <= self.lowest <= self.lr:
            raise BadInput(f"lowest {self.lowest}", "out of range", f"give 0 to lr, {self.lr}")


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Learning rate of one step of the optimiser, 0-based.

    constant: lr. steps: lr gamma^(number of milestones at or before the epoch). cosine, by epoch e
    and period P: lowest + (lr - lowest) (1 + cos(pi e / P)) / 2, as torch's CosineAnnealingLR.
    one_cycle (Smith 2018, as torch's OneCycleLR without its momentum): half a cosine from lr/25 up
    to lr in the first 30 % of the steps, then one down to lr/250,000.
    """
    epoch, last = step // steps_per_epoch, recipe.epochs * steps_per_epoch - 1
    if recipe.schedule == "steps":
        return recipe.lr * recipe.gamma ** sum(epoch >= start for start in recipe.milestones)
    if recipe.schedule == "cosine":
        return _half_cosine(recipe.lr, recipe.lowest, epoch / (recipe.period or recipe.epochs))
    if recipe.schedule == "one_cycle":
        top = 0.3 * (last + 1) - 1
        if step <= top:
            return _half_cosine(recipe.lr / 25, recipe.lr, step / top)
        return _half_cosine(recipe.lr, recipe.lr / 250_000, (step - top) / (last - top))
    return recipe.lr


def ccc_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Sum over outputs of 1 - CCC (Lin 1989), each over all other axes of the batch.

    CCC = 2 cov(x, y) / (var x + var y + (mean x - mean y)^2), with population variances.

    Args:
        prediction: (..., outputs), any range; (B,) is one output.
        target: The same shape.
    """
    x, y = (t.reshape(-1, t.shape[-1] if t.ndim > 1 else 1) for t in (prediction, target))
    dx, dy = x - x.mean(0), y - y.mean(0)
    spread = dx.square().mean(0) + dy.square().mean(0) + (x.mean(0) - y.mean(0)).square()
    return (1 - 2 * (dx * dy).mean(0) / spread).sum()


def cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of logits (..., classes) and class numbers (...), or probabilities."""
    soft = target.is_floating_point()
    target = target.flatten(0, -2) if soft else target.flatten()
    return functional.cross_entropy(prediction.flatten(0, -2), target)


LOSSES = {
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
    "bce": functional.binary_cross_entropy_with_logits,
    "cross_entropy": cross_entropy,
    "ccc": ccc_loss,
}
OPTIMISERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
SCHEDULES = ("constant", "one_cycle", "steps", "cosine")


def compute_loss(
    recipe: Recipe, prediction: Tensor, target: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Loss of what the mask leaves; a function of one's own gets the mask itself.

    Args:
        recipe: Names the loss.
        prediction: (N, ..., outputs), any range; for class numbers (N, ..., classes), logits.
        target: As prediction, or class numbers (N, ...).
        mask: bool, the leading axes of target, True where target counts; None if all of it does.

    Raises:
        BadInput: Shapes of prediction and target that do not fit.
    """
    if callable(recipe.loss):
        return recipe.loss(prediction, target, *([] if mask is None else [mask]))
    if mask is not None:
        prediction, target = prediction[mask], target[mask]
    classes = recipe.loss == "cross_entropy" and not target.is_floating_point()
    shape = prediction.shape[:-1] if classes else prediction.shape
    if shape != target.shape:
        fault = f"predictions {tuple(prediction.shape)} do not fit targets {tuple(target.shape)}"
        raise BadInput(f"loss {recipe.loss}", fault, "reshape one of them")
    return LOSSES[recipe.loss](prediction, target)


def make_optimiser(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """Return the recipe's optimiser of the model's parameters with ``requires_grad``."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    extra = {"momentum": recipe.momentum} if recipe.optimiser == "sgd" else {}
    make = OPTIMISERS[recipe.optimiser]
    return make(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, **extra)


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
