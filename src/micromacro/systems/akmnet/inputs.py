"""What AKMNet and its controls are given on the benchmark: maps of frames, and which frames.

The parts of the frame network that stay frozen are passed once. Nothing is augmented: the paper's
random crop would make every epoch pass them anew.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from micromacro.errors import BadInput
from micromacro.motion.magnify import magnify
from micromacro.motion.tim import linear_interpolation, tim
from micromacro.systems.akmnet.backbone import FrameNet
from micromacro.systems.akmnet.task import Clips
from micromacro.systems.akmnet.variants import random_frames, window_frames

RESAMPLED = {"tim": tim, "linear": linear_interpolation}
BY_TRUTH = ("true frames", "apex")
BY_MINING = ("random", "random window", "middle window", "apex window", "max-key")
CHOICES = ("all", *BY_MINING, *BY_TRUTH, *RESAMPLED)


def frozen_maps(
    clips: Clips, frame_net: FrameNet, method: str = "", n_frames: int = 0, *, alpha: float = 0.0
) -> Tensor:
    """Pass the frames through the frozen parts.

    Args:
        clips: C clips of N frames.
        frame_net: With frozen parts.
        method: "tim" or "linear" brings every clip to `n_frames` frames first; "" does not.
        n_frames: See method.
        alpha: Of phase-based magnification of the frames, before anything else; 0 for none.

    Returns:
        float32 (N, channels, h, w); (C n_frames, ...) of clips brought to one length.
    """
    frames = pictures(clips, alpha)
    if method:
        resample = RESAMPLED[method]
        frames = torch.cat([resample(clip, n_frames) for clip in clips.split(frames)])
    return torch.cat([frame_net.frozen_maps(part) for part in frames.split(512)])


def pictures(clips: Clips, alpha: float = 0.0) -> Tensor:
    """All frames, float32 (N, 1, 48, 48) in [0, 1]; magnified from each clip's first frame.

    Args:
        clips: C clips of N frames.
        alpha: A motion becomes 1 + alpha times as large, as far as `motion.magnify` can.
    """
    frames = clips.frames[:, None].float() / 255
    if not alpha:
        return frames
    parts = [magnify(clip, alpha, orientations=8).clamp(0, 1) for clip in clips.split(frames)]
    return torch.cat(parts)


def chosen(
    clips: Clips,
    choice: str,
    seed: int = 0,
    takes: Sequence[int] | None = None,
    max_key: Sequence[int] | None = None,
) -> list[Tensor]:
    """Frames of each clip that an arm may see.

    =============  ===============================================================================
    choice         frames
    =============  ===============================================================================
    all            all
    random         as many as AKMNet kept of this clip, drawn once (*va-random*)
    random window  as many in a row, from a start drawn once
    middle window  as many in a row around the middle of the clip
    apex window    as many in a row around the true apex, moved into the clip
    true frames    those where the expression has at least half of its strength
    apex           the true apex alone
    max-key        the frame with the largest score of AKMNet alone
    =============  ===============================================================================

    Args:
        clips: C clips.
        choice: One of the table.
        seed: Of the draws.
        takes: (C,) frames that AKMNet kept, for the windows and "random".
        max_key: (C,) frames, for "max-key".

    Returns:
        int64 (n,) for each clip, rising.

    Raises:
        BadInput: An unknown choice, or takes or max_key missing.
    """
    lengths = clips.lengths.tolist()
    given = max_key if choice == "max-key" else takes
    if choice in BY_MINING and given is None:
        raise BadInput(f"choice {choice!r}", "needs what AKMNet mined", "give takes and max_key")
    if choice == "all":
        return [torch.arange(T) for T in lengths]
    if choice == "random":
        return random_frames(lengths, takes, torch.Generator().manual_seed(seed))
    if choice == "random window":
        return window_frames(lengths, takes, torch.Generator().manual_seed(seed))
    if choice == "middle window":
        return window_frames(lengths, takes)
    if choice == "apex window":
        rows = zip(clips.apex.tolist(), lengths, takes, strict=True)
        starts = [(min(max(apex - N // 2, 0), T - N), N) for apex, T, N in rows]
        return [torch.arange(start, start + N) for start, N in starts]
    if choice == "true frames":
        return [torch.nonzero(e >= 0.5).flatten() for e in clips.split(clips.envelope)]
    if choice in ("apex", "max-key"):
        return [torch.tensor([k]) for k in (clips.apex.tolist() if choice == "apex" else max_key)]
    known = [name for name in CHOICES if name not in RESAMPLED]
    raise BadInput(f"choice {choice!r}", "is unknown", f"use one of {', '.join(known)}")


@dataclass(frozen=True)
class ClipBatches:
    """Batches of clips of any length, as `AkmNet` and `training.train` take them.

    Attributes:
        maps: One float32 (T, channels, h, w) for each clip, passed through `after` parts already.
        target: int64 (C,), classes.
        rows: Clips of an epoch, in order; a clip that stands here twice is seen twice.
        size: Clips in a batch.
        after: Parts of the frame network that the maps have passed.
    """

    maps: Sequence[Tensor]
    target: Tensor
    rows: Tensor
    size: int
    after: int

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __iter__(self) -> Iterator[tuple[dict, Tensor]]:
        for rows in self.rows.split(self.size):
            clips = [self.maps[row] for row in rows.tolist()]
            lengths = torch.tensor([len(clip) for clip in clips])
            inputs = {"frames": torch.cat(clips), "lengths": lengths, "after": self.after}
            yield inputs, self.target[rows]

    def __call__(self, generator: torch.Generator) -> Iterator[tuple[dict, Tensor]]:
        """One epoch, in an order drawn from the generator."""
        order = torch.randperm(len(self.rows), generator=generator)
        return iter(replace(self, rows=self.rows[order]))


def balanced(label: Tensor, rows: Tensor) -> Tensor:
    """Repeat rows of the rarer classes until all classes have as many; the paper's resampling.

    Args:
        label: int64 (C,), classes.
        rows: int64 (n,), places in label.

    Returns:
        int64, every row once or more: of a class of n rows, repeated whole and then its first.
    """
    groups = [rows[label[rows] == k] for k in label[rows].unique().tolist()]
    most = max(map(len, groups))
    return torch.cat([group.repeat(-(-most // len(group)))[:most] for group in groups])
