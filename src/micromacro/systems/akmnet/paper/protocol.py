"""The protocols, ours and as released: the network, its recipe, and what it is shown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from micromacro.motion.tim import tim
from micromacro.systems.akmnet.inputs import balanced
from micromacro.systems.akmnet.losses import akm_loss
from micromacro.systems.akmnet.model import LEGACY, AkmNet
from micromacro.systems.akmnet.paper import store
from micromacro.systems.akmnet.paper.pretrained import Start
from micromacro.systems.akmnet.paper.store import StoredClip
from micromacro.training import Recipe, isolated_rng

PROTOCOLS = ("ours", "as_released")
LENGTHS = {f"norm{n}": n for n in (16, 32, 64, 128)}
STEPS = {name: name for name in ("s123", "s12", "s13", "s23")} | {"all": "none", "random": "none"}
ARMS = STEPS | dict.fromkeys(LENGTHS, "none")  # -> steps of the mining
EPOCHS = 40
STEP_CLIPS = 8  # whose gradients make one step
SGD = Recipe(
    loss=akm_loss,
    optimiser="sgd",
    lr=1e-3,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="cosine",
    lowest=1e-8,
    epochs=EPOCHS,
)
NET: dict = {}  # of `AkmNet`, whose defaults are the published sizes


@dataclass(frozen=True)
class Batches:
    """Batches of clips for `train`, read from disk when they are asked for.

    Iterated, they are in order and plainly resized; called with a generator, in a drawn order, cropped.

    Attributes:
        clips: All clips.
        rows: Of an epoch; a clip that stands here twice is seen twice.
        size: Clips in a batch.
        crop: Probability of a random crop, drawn for each clip; else it is plainly resized.
        length: Frames that TIM brings every clip to; 0 for none.
        frames: int64 (n,) for each clip, which of its frames are shown; None for all.
    """

    clips: Sequence[StoredClip]
    rows: torch.Tensor
    size: int = 1
    crop: float = 0.0
    length: int = 0
    frames: Sequence[torch.Tensor] | None = None

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __iter__(self) -> Iterator[tuple[dict, torch.Tensor]]:
        return self._batches(self.rows, None)

    def __call__(self, generator: torch.Generator) -> Iterator[tuple[dict, torch.Tensor]]:
        """One epoch of training."""
        order = torch.randperm(len(self.rows), generator=generator)
        return self._batches(self.rows[order], generator)

    def _batches(self, rows: torch.Tensor, generator: torch.Generator | None) -> Iterator[tuple]:
        for chosen in rows.split(self.size):
            clips = [self._shown(row, generator) for row in chosen.tolist()]
            lengths = torch.tensor([len(clip) for clip in clips])
            target = torch.tensor([self.clips[row].label for row in chosen.tolist()])
            yield {"frames": torch.cat(clips), "lengths": lengths}, target

    def _shown(self, row: int, generator: torch.Generator | None) -> torch.Tensor:
        """Frames of a clip, float32 (n, 1, 128, 128) in [0, 1]."""
        frames = torch.from_numpy(self._pixels(self.clips[row], generator)).float() / 255
        if self.frames is not None:
            frames = frames[self.frames[row]]
        return tim(frames, self.length) if self.length else frames

    def _pixels(self, clip: StoredClip, generator: torch.Generator | None) -> np.ndarray:
        px = store.SMALL_PX
        if generator is None:
            return clip.frames(px)
        coin, *places = torch.rand(3, generator=generator).tolist()
        if coin >= self.crop:
            return clip.frames(px)
        top, left = (int(place * (store.LARGE_PX - px + 1)) for place in places)
        return clip.frames(store.LARGE_PX)[..., top : top + px, left : left + px]


@dataclass(frozen=True)
class Protocol:
    """One arm by one protocol; `paper` tells what the protocols do.

    Attributes:
        legacy: As released.
        arm: Of `ARMS`.
        n_classes: Of the data set.
    """

    legacy: bool
    arm: str
    n_classes: int

    def network(self, seed: int, start: Start) -> AkmNet:
        """The network before training. But for the GRU's, a switch, protocols share first weights."""
        options = {f"legacy_{name}": self.legacy for name in LEGACY}
        bn = "released" if self.legacy else "packed"
        sizes = {"image_px": store.SMALL_PX, **NET}
        with isolated_rng(seed):
            net = AkmNet(self.n_classes, steps=ARMS[self.arm], bn=bn, **sizes, **options)
        net.frame_net.load_state_dict(start.fitting(net.frame_net)[0], strict=False)
        return net

    def recipe(self, epochs: int) -> Recipe:
        """The published recipe; as released the rate goes up and down, a fifth of the epochs each way."""
        if not self.legacy:
            return replace(SGD, epochs=epochs)
        return replace(SGD, epochs=epochs, period=epochs / 5, accumulate=STEP_CLIPS)

    def training(
        self, clips: Sequence[StoredClip], rows: torch.Tensor, frames: Sequence | None = None
    ) -> Batches:
        """Training batches of some rows: as released single clips, eight of which make a step."""
        if self.legacy:
            return replace(self.evaluation(clips, rows, frames), crop=0.5)
        rows = balanced(torch.tensor([clip.label for clip in clips]), rows)
        return replace(self.evaluation(clips, rows, frames), size=STEP_CLIPS, crop=1.0)

    def evaluation(
        self, clips: Sequence[StoredClip], rows: torch.Tensor, frames: Sequence | None = None
    ) -> Batches:
        """Single clips, in order."""
        return Batches(clips, rows, length=LENGTHS.get(self.arm, 0), frames=frames)
