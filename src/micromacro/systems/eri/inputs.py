"""What the reaction networks see of a clip: its parts, their batches, what arms do to them.

A clip has up to three parts. ``holistic`` and ``local`` (action units) have a row for each frame
and are joined to what the video cascade sees; ``audio`` goes into a cascade of its own: log-mel or
MFCC with a row for each frame (`micromacro.audio`), or the released layout, 32 rows that are no
times.

A part may be missing. Then its columns are 0 for as long as the clip is known to be; a clip of
which nothing is known has length 0, and `EriNet` says what it makes of that. Frames in which the
action units failed are rows of nan in ``local``; they show the clip's mean.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from micromacro.backbones import features
from micromacro.errors import BadInput, check_choice
from micromacro.ragged import LikeLengths, padded

PARTS = ("holistic", "local", "audio")
MODALITIES = {"video": ("holistic", "local"), "audio": ("audio",)}
BATCH_NORMS = ("eval", "train")
COLUMNS = 64  # whose moments are taken together: all rows of them are copied for that


@dataclass(frozen=True, eq=False)
class Clip:
    """The features of one clip; NumPy arrays become tensors.

    Attributes:
        holistic: float32 (T, H), a row a frame, or None.
        local: float32 (T, A), action units, or None. A row with a nan is a frame that failed. It is
            given as it was measured; here all such rows are the mean of the others, or 0 if there
            are no others.
        audio: float32 (S, M), or None.

    Raises:
        BadInput: A part that is no (rows, columns); another number of frames than rows of action
            units.
    """

    holistic: Tensor | np.ndarray | None = None
    local: Tensor | np.ndarray | None = None
    audio: Tensor | np.ndarray | None = None

    def __post_init__(self):
        for part in PARTS:
            if (rows := getattr(self, part)) is not None:
                rows = torch.as_tensor(rows, dtype=torch.float32)
                if rows.ndim != 2:
                    raise BadInput(part, f"has shape {tuple(rows.shape)}", "give (rows, columns)")
                object.__setattr__(self, part, rows)
        if self.local is None:
            return
        if self.holistic is not None and len(self.holistic) != len(self.local):
            fault = f"has {len(self.local)} rows for {len(self.holistic)} frames"
            remedy = "measure action units on the very frames of the features"
            raise BadInput("local", fault, remedy)
        measured = ~self.local.isnan().any(1)
        if not measured.all():
            mean = self.local[measured].mean(0) if measured.any() else 0.0
            whole = torch.where(measured[:, None], self.local, mean)
            object.__setattr__(self, "local", whole)

    def rows(self, modality: str) -> int:
        """Length of "video" or "audio", 0 where it is missing."""
        parts = (getattr(self, part) for part in MODALITIES[modality])
        return max((len(part) for part in parts if part is not None), default=0)


@dataclass(frozen=True, eq=False)
class Batches(LikeLengths):
    """Clips as padded batches for `training.train`, clips of like length together.

    A batch is ``({"video", "video_lengths", "audio", "audio_lengths"}, target)``, as `EriNet` takes
    it. `LikeLengths` says how they are drawn.

    Attributes:
        clips: The clips; a sequence that makes them when they are indexed serves as well.
        target: float32 (N, 7), intensities.
        size: Clips in a batch.
        parts: What of the clips is shown.
        widths: Columns of each part shown; None takes them from the clips.

    Raises:
        BadInput: No clips; not a target for each; an unknown part; a part that no clip has.
    """

    clips: Sequence[Clip]
    target: Tensor
    size: int = 16
    parts: Sequence[str] = PARTS
    widths: Mapping[str, int] | None = None

    def __post_init__(self):
        for part in self.parts:
            check_choice("part", part, PARTS)
        if not len(self.clips) or len(self.clips) != len(self.target):
            fault = f"{len(self.target)} targets for {len(self.clips)} clips"
            raise BadInput("target", fault, "give one clip at least, and a target for each")
        if self.widths is None:
            object.__setattr__(self, "widths", widths(self.clips, self.parts))
        lengths = [sum(map(clip.rows, MODALITIES)) for clip in self.clips]
        object.__setattr__(self, "lengths", torch.tensor(lengths))

    def batch(self, rows: Tensor, _: torch.Generator | None = None) -> tuple:
        """What is shown of the clips of these numbers, and their targets."""
        clips, inputs = [self.clips[i] for i in rows.tolist()], {}
        for modality, parts in MODALITIES.items():
            if shown := [part for part in parts if part in self.parts]:
                joined = [self._joined(clip, shown) for clip in clips]  # (T, D) each
                inputs[modality], inputs[f"{modality}_lengths"] = padded(joined)  # (B, T, D)
        return inputs, self.target[rows]

    def _joined(self, clip: Clip, parts: Sequence[str]) -> Tensor:
        """The parts of a clip side by side; one that is missing is 0 while another lasts."""
        own = {part: getattr(clip, part) for part in parts}
        n = max((len(x) for x in own.values() if x is not None), default=0)
        zeros = {part: torch.zeros(n, self.widths[part]) for part in parts}
        return torch.cat([zeros[p] if x is None else x for p, x in own.items()], 1)


def widths(clips: Sequence[Clip], parts: Sequence[str] = PARTS) -> dict[str, int]:
    """Columns of each part.

    Args:
        clips: Some clips.
        parts: Names of the parts.

    Raises:
        BadInput: No clip has the part, or they differ.
    """
    columns = {}
    for part in parts:
        own = {x.shape[1] for clip in clips if (x := getattr(clip, part)) is not None}
        if len(own) != 1:
            fault = f"has {sorted(own)} columns" if own else "is in no clip"
            raise BadInput(part, fault, "give clips of one kind of features, or fewer parts")
        columns[part] = own.pop()
    return columns


# ---- features of frames --------------------------------------------------------------------------


def holistic(
    frames: Tensor, encoder: nn.Module, batch_norm: str = "eval", *, batch: int = 250
) -> Tensor:
    """Holistic features of the frames of a clip.

    The released program never switches its ResNet-18 to evaluation mode. So batch norm takes mean
    and variance of each 250 frames in a row, about a clip: a face's features depend on its
    neighbours, and what all of them share, such as who it is, is taken away.

    Args:
        frames: float32 (T, C, H, W), as the encoder takes them; one frame at least.
        encoder: Makes of (B, C, H, W) features (B, H), by its method `features`, if it has one. It
            is left as it is.
        batch_norm: "eval": each frame by itself, by the statistics of training. "train": the
            released program's.
        batch: Frames that are looked at together.

    Returns:
        float32 (T, H).

    Raises:
        BadInput: Unknown `batch_norm`, or what the encoder refuses.
    """
    check_choice("batch_norm", batch_norm, BATCH_NORMS)
    if batch_norm == "train":
        encoder = copy.deepcopy(encoder)
        for layer in encoder.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.running_mean = layer.running_var = None  # then it has none but the batch's
    return features(frames, encoder, batch)


class Standardised(Sequence):
    """Clips, each column of each part less the mean of some clips' rows, over their deviation.

    Our choice, for log-mel in dB would leave no gate of a GRU open; the released code scales
    nothing. A missing part, which is shown as 0, then is the mean of those that are there. A clip
    is scaled when it is asked for: all of an official data set fill the memory once, not twice.

    Args:
        clips: What is to be scaled.
        like: Clips for training, of the same kind of features. A column that is constant in them is
            only shifted.
    """

    def __init__(self, clips: Sequence[Clip], like: Sequence[Clip]):
        self.clips, self.moments = clips, {}
        for part in PARTS:
            if rows := [x for clip in like if (x := getattr(clip, part)) is not None]:
                blocks = zip(*(x.split(COLUMNS, 1) for x in rows), strict=True)
                moments = [torch.std_mean(torch.cat(b), 0, correction=0) for b in blocks]
                sd, mean = map(torch.cat, zip(*moments, strict=True))
                self.moments[part] = mean, torch.where(sd > 1e-6, sd, 1)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, i: int | slice) -> Clip | list[Clip]:
        if isinstance(i, slice):
            return [self[k] for k in range(len(self))[i]]
        clip = self.clips[i]
        own = {part: x for part in self.moments if (x := getattr(clip, part)) is not None}
        scaled = {p: (x - self.moments[p][0]) / self.moments[p][1] for p, x in own.items()}
        return replace(clip, **scaled)


# ---- what arms do to clips -----------------------------------------------------------------------


def shuffled(clip: Clip, generator: torch.Generator) -> Clip:
    """A clip with its frames in random order; parts of one length are shuffled alike."""
    orders, parts = {}, {}
    for name in PARTS:
        if (x := getattr(clip, name)) is not None:
            order = orders.setdefault(len(x), torch.randperm(len(x), generator=generator))
            parts[name] = x[order]
    return replace(clip, **parts)


def backwards(clip: Clip, audio: np.ndarray | None = None) -> Clip:
    """A clip whose last frame comes first.

    Args:
        clip: The clip.
        audio: Of the sound played backwards, where its rows are no times; None turns the rows.
    """
    parts = {part: x.flip(0) for part in PARTS if (x := getattr(clip, part)) is not None}
    return replace(clip, **parts | ({} if audio is None else {"audio": audio}))


def swapped(clips: Sequence[Clip], part: str, generator: torch.Generator) -> list[Clip]:
    """Give each clip a part of another one, so that it tells nothing of this clip's label.

    Rows are repeated or left out so that there are as many as before: a clip's length stays its
    own. Clips without rows of the part stay as they are.

    Args:
        clips: Two or more that have the part.
        part: A name of `PARTS`.
        generator: Draws who gives to whom; nobody to himself.

    Raises:
        BadInput: Unknown part; fewer than two clips that have it.
    """
    check_choice("part", part, PARTS)
    own = [i for i, c in enumerate(clips) if (x := getattr(c, part)) is not None and len(x)]
    if len(own) < 2:
        raise BadInput("clips", f"{len(own)} with {part}", "give two or more to swap")
    order, new = torch.tensor(own)[torch.randperm(len(own), generator=generator)], list(clips)
    ring = zip(order.tolist(), order.roll(1).tolist(), strict=True)  # one: nobody gives to himself
    for to, by in ring:
        other, n = getattr(clips[by], part), len(getattr(clips[to], part))
        new[to] = replace(clips[to], **{part: other[torch.arange(n) * len(other) // n]})
    return new
