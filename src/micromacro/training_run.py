"""A training under way: its epochs, its steps, and the checkpoint that it is taken up from.

A checkpoint is a folder with ``state.pt`` (epochs so far, number of the best, optimiser, random
states) and the weights of two epochs, the last and the best, in ``weights-<epoch>.safetensors``.
`micromacro.training` is the front of this module.
"""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from micromacro.errors import BadInput
from micromacro.files import replacing
from micromacro.recipe import Recipe, compute_loss, learning_rate, make_optimiser


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave.

    Attributes:
        epoch: Number, 0-based.
        loss: Mean over the elements of the training targets, while the weights moved.
        score: Of the validation after the epoch, higher is better; nan without validation.
        lr: Learning rate of the epoch's last step.
        seconds: Training and validation.
    """

    epoch: int
    loss: float
    score: float
    lr: float
    seconds: float


@dataclass
class TrainingRun:
    """Everything that changes from epoch to epoch; the arguments are those of `training.train`.

    Attributes:
        devices: CUDA devices whose random state is the training's own.
        epochs: So far.
        best: Number of the epoch with the highest score; without validation the last.
        best_weights: Of that epoch, on the CPU.
    """

    model: nn.Module
    batches: Callable
    recipe: Recipe
    seed: int
    device: torch.device
    devices: list[torch.device]
    epochs: list[Epoch] = field(default_factory=list)
    best: int = 0

    def __post_init__(self):
        self.optimiser = make_optimiser(self.recipe, self.model)
        on = self.recipe.amp and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler("cuda", enabled=on)
        self.shuffle = torch.Generator().manual_seed(self.seed)
        self.steps_per_epoch = math.ceil(len(self.batches) / self.recipe.accumulate)
        self.best_weights: dict[str, Tensor] = {}

    @property
    def stopped(self) -> bool:
        """Whether patience has run out."""
        patience = self.recipe.patience
        return patience is not None and len(self.epochs) - 1 - self.best >= patience

    def epoch(self, validate: Callable | None) -> None:
        """Train for one epoch, validate, and keep the weights if they are the best so far."""
        began, number = time.perf_counter(), len(self.epochs)
        self.model.train()
        numbered = enumerate(self.batches(self.shuffle))
        losses, step = [], number * self.steps_per_epoch
        while group := list(itertools.islice(numbered, self.recipe.accumulate)):
            losses += self._step(group, step)
            step += 1
        lr, score = self.optimiser.param_groups[0]["lr"], math.nan
        if validate is not None:
            self.model.eval()
            with torch.no_grad(), torch.random.fork_rng(self.devices):
                score = float(validate(self.model))
        loss = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
        self.epochs.append(Epoch(number, loss, score, lr, time.perf_counter() - began))
        top = self.epochs[self.best].score
        if number == 0 or validate is None or _worth(score) > _worth(top):
            self.best, self.best_weights = number, self._weights()

    def _step(self, group: list[tuple[int, tuple]], step: int) -> list[tuple[float, int]]:
        """One step of the optimiser; loss and number of elements of each batch in the group."""
        self.optimiser.param_groups[0]["lr"] = learning_rate(
            self.recipe, step, self.steps_per_epoch
        )
        self.optimiser.zero_grad()
        counts = [int(rest[1].sum()) if rest[1:] else rest[0].numel() for _, (_, *rest) in group]
        losses = []
        for (number, batch), count in zip(group, counts, strict=True):
            inputs, *rest = moved(batch, self.device)
            with torch.autocast("cuda", torch.float16, enabled=self.scaler.is_enabled()):
                loss = compute_loss(self.recipe, forward(self.model, inputs), *rest)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                where = f"epoch {len(self.epochs)}, batch {number}: the loss is {losses[-1]}"
                advice = "look at this batch, lower the learning rate or clip the gradients"
                raise FloatingPointError(f"{where}; {advice}")
            self.scaler.scale(loss * (count / sum(counts))).backward()
        if self.recipe.clip_norm is not None:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return list(zip(losses, counts, strict=True))

    def _weights(self) -> dict[str, Tensor]:
        copy = {"device": "cpu", "copy": True, "memory_format": torch.contiguous_format}
        return {name: t.detach().to(**copy) for name, t in self.model.state_dict().items()}

    def _identity(self) -> dict:
        """What must be equal for a checkpoint to be the beginning of this training."""
        settings = asdict(self.recipe)
        if callable(self.recipe.loss):
            loss = self.recipe.loss
            settings["loss"] = getattr(loss, "__qualname__", type(loss).__qualname__)
        shapes = {name: list(t.shape) for name, t in self.model.state_dict().items()}
        return {**settings, "seed": self.seed, "batches": len(self.batches), "weights": shapes}

    def save(self, folder: Path) -> None:
        """Write the weights, then the state that names them, then remove what it does not name.

        Killed before the state is in place, the folder still holds the previous checkpoint whole.
        """
        last = len(self.epochs) - 1
        with replacing(folder / f"weights-{last}.safetensors") as part:
            save_file(self._weights(), part)
        state = {
            "identity": self._identity(),
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "best": self.best,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "shuffle": self.shuffle.get_state(),
            "rng": torch.get_rng_state(),
            "rng_devices": [torch.cuda.get_rng_state(device) for device in self.devices],
        }
        with replacing(folder / "state.pt") as part:
            torch.save(state, part)
        self._sweep(folder)

    def _sweep(self, folder: Path) -> None:
        named = {f"weights-{epoch}.safetensors" for epoch in (len(self.epochs) - 1, self.best)}
        for file in (*folder.glob("weights-*.safetensors"), *folder.glob(".*.part")):
            if file.name not in named:
                file.unlink()

    def resume(self, folder: Path) -> None:
        """Take up a checkpoint, if the folder holds one; else make the folder.

        Raises:
            BadInput: It is of another training; or the folder cannot be made.
        """
        state = self._read_state(folder)
        if state is None:
            return
        self.epochs, self.best = [Epoch(**epoch) for epoch in state["epochs"]], state["best"]
        last = len(self.epochs) - 1
        self.model.load_state_dict(load_file(folder / f"weights-{last}.safetensors"))
        self.best_weights = load_file(folder / f"weights-{self.best}.safetensors")
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.shuffle.set_state(state["shuffle"])
        torch.set_rng_state(state["rng"])
        for device, rng in zip(self.devices, state["rng_devices"], strict=True):
            torch.cuda.set_rng_state(rng, device)
        self._sweep(folder)  # what a process killed in between has left

    def _read_state(self, folder: Path) -> dict | None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fault = f"cannot be made a folder ({error.strerror})"
            raise BadInput(folder, fault, "give another folder") from error
        if not (folder / "state.pt").exists():
            return None
        state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
        here = self._identity()
        other = [name for name, value in here.items() if state["identity"].get(name) != value]
        if other:
            fault = f"a checkpoint of another training (other {', '.join(other)})"
            raise BadInput(folder, fault, "give another folder, or remove this one")
        return state


def forward(model: nn.Module, inputs: Tensor | tuple | list | dict) -> Tensor:
    """Call the model with the inputs of a batch; see the top of `training`."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def each_tensor(value: object, change: Callable[[Tensor], Tensor]) -> object:
    """Apply `change` to the tensors of nested tuples, lists and dicts; the rest stays."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: each_tensor(entry, change) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return tuple(each_tensor(entry, change) for entry in value)
    return value


def moved(value: object, device: str | torch.device) -> object:
    """Tensors of nested tuples, lists and dicts on a device; the rest stays."""
    return each_tensor(value, lambda tensor: tensor.to(device))


def _worth(score: float) -> float:
    return -math.inf if math.isnan(score) else score
