"""Sequences of snippets of official clips, as batches read from disk when they are asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from micromacro.backbones import N_FEATURES
from micromacro.kernels.phase_difference import phase_difference, snippets
from micromacro.systems.mimamo.data import grey_faces
from micromacro.systems.mimamo.data.faces import FACE_PX
from micromacro.systems.mimamo.data.protocol import SNIPPET_FRAMES
from micromacro.systems.mimamo.paper.store import StoredClip

LEAD = SNIPPET_FRAMES // 2  # frames of a snippet before its centre
CHANNELS = 2 * (SNIPPET_FRAMES - 1)  # orientations x differences


@dataclass(frozen=True, eq=False)
class Cut:
    """A clip and how snippets are cut from it.

    Attributes:
        clip: The clip.
        frames: int (K,), the frames that snippets are cut from: all; or, as released, those with a
            face, as if nothing lay between them.
        lead: Snippet k starts `lead` frames before frame k of those: 6 around it, 0 from it on.
        valid: bool (S,), snippets that count.
    """

    clip: StoredClip
    frames: np.ndarray
    lead: int
    valid: np.ndarray

    @classmethod
    def of(cls, clip: StoredClip, *, centred: bool, over_gaps: bool) -> "Cut":
        """The cut of a clip.

        Args:
            clip: The clip.
            centred: One snippet around each frame, the ends repeated; else one from each frame on.
            over_gaps: Released: frames without a face are dropped, and their neighbours joined.
        """
        lead = LEAD if centred else 0
        if not over_gaps:
            valid = clip.centred if centred else clip.stepped
            return cls(clip, np.arange(len(clip.seen)), lead, valid)
        frames = np.flatnonzero(clip.seen)
        n = len(frames) if centred else max(0, len(frames) - SNIPPET_FRAMES + 1)
        return cls(clip, frames, lead, np.ones(n, bool))

    def snippet_frames(self, numbers: range) -> np.ndarray:
        """Frame numbers of some snippets, int64 (S, 13)."""
        places = np.array(numbers)[:, None] - self.lead + np.arange(SNIPPET_FRAMES)
        return self.frames[places.clip(0, len(self.frames) - 1)]

    def counts(self, numbers: range) -> np.ndarray:
        """Which of some snippets count and have labels, bool (S,)."""
        labels, numbers = self.clip.labels, np.array(numbers, np.int64)
        if labels.ndim == 2:
            labels = labels[self.frames[numbers]]
        return self.valid[numbers] & np.isfinite(labels).all(-1)


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences of snippets as batches; what a batch needs is read when it is asked for.

    Iterated, it yields them in order and as they are (for `predict`); called with a generator, in a
    drawn order, each sequence with one flip and one crop (for `train`). A last batch of one
    sequence joins the one before: batch normalisation wants two.

    A batch is ``({"features", "level_1", "level_2", "mask"}, target, mask)``, as the networks and
    the losses take them, padded at the end to the longest of all sequences.

    Attributes:
        cuts: The clips.
        sequences: Which clip, and the numbers of its snippets.
        size: Sequences in a batch.
        columns: Of the labels: 0 valence, 1 arousal.
        fixed: Released: batches keep members and order, only the order inside a batch is drawn.
        legacy_unwrap: Released phase differences, of each snippet by itself: about 6 times the
            time of the others.
        legacy_crop: Released crop (`grey_faces`).
        device: For the phase differences.
    """

    cuts: Sequence[Cut]
    sequences: Sequence[tuple[int, range]]
    size: int
    columns: tuple[int, ...] = (0, 1)
    fixed: bool = False
    legacy_unwrap: bool = False
    legacy_crop: bool = False
    device: str = "cpu"
    longest: int = field(init=False)

    def __post_init__(self):
        longest = max((len(numbers) for _, numbers in self.sequences), default=0)
        object.__setattr__(self, "longest", longest)

    def __len__(self) -> int:
        return len(self._chunks(torch.arange(len(self.sequences))))

    def __iter__(self) -> Iterator[tuple]:
        for rows in self._chunks(torch.arange(len(self.sequences))):
            yield self._batch(rows.tolist(), None)

    def __call__(self, generator: torch.Generator) -> Iterator[tuple]:
        """One epoch of training."""
        if self.fixed:
            chunks = self._chunks(torch.arange(len(self.sequences)))
            chunks = [rows[torch.randperm(len(rows), generator=generator)] for rows in chunks]
        else:
            chunks = self._chunks(torch.randperm(len(self.sequences), generator=generator))
        for rows in chunks:
            yield self._batch(rows.tolist(), generator)

    def _chunks(self, order: torch.Tensor) -> list[torch.Tensor]:
        chunks = list(order.split(self.size)) if len(order) else []
        if len(chunks) > 1 and len(chunks[-1]) == 1:
            chunks[-2:] = [torch.cat(chunks[-2:])]
        return chunks

    def _batch(self, rows: list[int], generator: torch.Generator | None) -> tuple:
        chosen = [self.sequences[row] for row in rows]
        shape = (len(rows), self.longest)
        inputs = {
            "features": torch.zeros(*shape, N_FEATURES),
            "level_1": torch.zeros(*shape, CHANNELS, FACE_PX, FACE_PX, device=self.device),
            "level_2": torch.zeros(
                *shape, CHANNELS, FACE_PX // 2, FACE_PX // 2, device=self.device
            ),
            "mask": torch.zeros(shape, dtype=torch.bool),
        }
        for b, (index, numbers) in enumerate(chosen):
            cut, n = self.cuts[index], len(numbers)
            features, levels = self.sequence(cut, numbers, generator)
            inputs["features"][b, :n] = features
            inputs["level_1"][b, :n], inputs["level_2"][b, :n] = levels
            inputs["mask"][b, :n] = torch.from_numpy(cut.valid[numbers])
        return inputs, *self._target(chosen, inputs["mask"])

    def _target(
        self, chosen: list[tuple[int, range]], mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Labels (B, S, n), or (B, n) for one a clip, and which of them count."""
        clips, columns = [self.cuts[index].clip for index, _ in chosen], list(self.columns)
        if clips[0].labels.ndim == 1:
            target = torch.from_numpy(np.stack([clip.labels[columns] for clip in clips]))
            return target, mask.any(1) & target.isfinite().all(1)
        target = torch.full((*mask.shape, len(columns)), torch.nan)
        for b, (index, numbers) in enumerate(chosen):
            labels = self.cuts[index].clip.labels[self.cuts[index].frames[numbers]]
            target[b, : len(numbers)] = torch.from_numpy(labels[:, columns])
        return target, mask & target.isfinite().all(2)

    def sequence(
        self, cut: Cut, numbers: range, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Features (S, 2048) and phase differences (S, 24, 48, 48), (S, 24, 24, 24) of snippets."""
        frames, clip = cut.snippet_frames(numbers), cut.clip
        features = clip.read(clip.features, frames[:, LEAD]).astype(np.float32)
        needed, place = np.unique(frames, return_inverse=True)
        faces = clip.read(clip.folder / "faces.npy", needed)
        grey = grey_faces(faces, generator=generator, legacy_crop=self.legacy_crop)[:, 0]
        grey, place = grey.to(self.device), torch.from_numpy(place.reshape(frames.shape))
        if numbers.step == 1 and not self.legacy_unwrap:  # each frame once for up to 13 snippets
            maps = phase_difference(grey[torch.cat([place[0], place[1:, -1]])], check=False)
            levels = [snippets(level, SNIPPET_FRAMES - 1) for level in maps]
        else:
            levels = phase_difference(grey[place], legacy_unwrap=self.legacy_unwrap, check=False)
        return torch.from_numpy(features), [level.flatten(1, 2) for level in levels]
