"""One fold's trainings, each with a record of what it says of the left-out clips."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from micromacro.systems.akmnet.model import AkmNet, AkmOutput
from micromacro.systems.akmnet.paper.pretrained import Start
from micromacro.systems.akmnet.paper.protocol import Batches, Protocol
from micromacro.systems.akmnet.paper.store import StoredClip
from micromacro.systems.akmnet.variants import random_frames
from micromacro.training import moved, train


class Recorded(nn.Module):
    """A network, and what it said of the left-out clips after each epoch so far.

    The record is a buffer, so a checkpoint of the weights holds it, and a training that is taken up
    goes on with it.

    Args:
        net: Used as it is.
        epochs: To come.
        clips: Number of clips.
        n_classes: Of the network.
    """

    def __init__(self, net: AkmNet, epochs: int, clips: int, n_classes: int):
        super().__init__()
        self.net = net
        self.register_buffer("done", torch.tensor(0))
        self.register_buffer("logits", torch.full((epochs, clips, n_classes), torch.nan))

    def forward(self, **inputs) -> AkmOutput:
        """The network's."""
        return self.net(**inputs)

    def note(self, batches: Batches, device: str) -> float:
        """Record one more epoch; returns its number, a score by which the last epoch is the best."""
        self.logits[self.done] = torch.cat([said.logits for said in outputs(self, batches, device)])
        self.done += 1
        return float(self.done)


@dataclass(frozen=True, eq=False)
class Fold:
    """What the trainings of one unit share; fields as the arguments of `unit`."""

    clips: Sequence[StoredClip]
    subject: str
    seed: int
    start: Start
    epochs: int
    device: str
    checkpoint: Path

    @property
    def seen(self) -> torch.Tensor:
        """Clips that are trained on, int64."""
        return torch.tensor([i for i, c in enumerate(self.clips) if c.person != self.subject])

    @property
    def held(self) -> torch.Tensor:
        """Clips of the one left out, int64."""
        return torch.tensor([i for i, c in enumerate(self.clips) if c.person == self.subject])

    def train(self, plan: Protocol, frames: Sequence | None = None) -> tuple[Recorded, float]:
        """Train an arm; the network after the last epoch in evaluation mode, and that epoch's loss."""
        net = plan.network(self.seed, self.start)
        model = Recorded(net, self.epochs, len(self.held), plan.n_classes)
        test = plan.evaluation(self.clips, self.held, frames)
        history = train(
            model,
            plan.training(self.clips, self.seen, frames),
            plan.recipe(self.epochs),
            seed=self.seed,
            validate=lambda model: model.note(test, self.device),
            device=self.device,
            checkpoint=self.checkpoint / plan.arm,
        )
        return model.eval(), history.epochs[-1].loss

    def drawn(self, plan: Protocol) -> list[torch.Tensor]:
        """Train `plan`, and draw as many frames of each clip as it keeps."""
        trained, _ = self.train(plan)
        every = plan.evaluation(self.clips, torch.arange(len(self.clips)))
        takes = [int(said.mining.kept.sum()) for said in outputs(trained, every, self.device)]
        generator = torch.Generator().manual_seed(self.seed)
        return random_frames([clip.T for clip in self.clips], takes, generator)


def outputs(model: nn.Module, batches: Batches, device: str) -> Iterator[AkmOutput]:
    """What a model in evaluation mode says of each batch, without gradients."""
    for inputs, _ in batches:
        with torch.no_grad():
            yield model(**moved(inputs, device))
