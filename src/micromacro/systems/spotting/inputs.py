"""What the spotting system sees of a video: references, labels, batches, and the video as a stream.

A video is n grey faces (n, 1, H, W), frame numbers are 0-based, an event is the inclusive interval
[onset, offset]. Every frame has R references: one for each gap, or two if they are symmetric.

A video may be longer than memory. `stream` takes it in chunks of any size, keeps no more frames
than the references reach over, and gives the same whatever the chunks. How the methods look at it:

===========================  =======================================================================
`SpottingNet`                at the frames themselves
`SoftNet`, k-gap flow        at `gap_flow` of them: across each gap at once, as in the original
`SoftNet`, accumulated flow  at `between` of summed flow: the same, added up from frame to frame
MDMD                         `mdmd_scores`: at flow as well, without any training
===========================  =======================================================================
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from micromacro.errors import BadInput, check_choice
from micromacro.kernels.checks import FLOATS, check_tensor
from micromacro.motion.fields import main_direction
from micromacro.motion.flow import optical_flow
from micromacro.systems.spotting.model import SIDES
from micromacro.systems.spotting.scoring import CLASSES, overlap

Gaps = Mapping[str, int]
Chunks = Iterable[Tensor]
Look = Callable[[Tensor], Tensor]
LABELS = ("inside", "overlap", "soft")


# ---- references and labels -----------------------------------------------------------------------


def gaps(events: pd.DataFrame) -> dict[str, int]:
    """Half the mean length of each class, floor((mean(offset - onset) + 1) / 2) frames, at least 1.

    SOFTNet counts so; from the official sheets come 37 and 174 for SAMM-LV, 6 and 18 for CAS(ME)^2.
    Of the paper it is only known that the gaps come from the durations.

    Args:
        events: Table with label, onset, offset: of training videos, at one frame rate.

    Returns:
        Class to frames, in the order of `CLASSES`.

    Raises:
        BadInput: A class without events.
    """
    lengths = (events["offset"] - events["onset"]).groupby(events["label"]).mean()
    if len(lengths.reindex(CLASSES).dropna()) < len(CLASSES):
        raise BadInput("events", "lack a class", f"give training events of {', '.join(CLASSES)}")
    return {name: max(1, int(lengths[name] + 1) // 2) for name in CLASSES}


def references(n_frames: int, gaps: Gaps, reference: str = "past") -> Tensor:
    """The references of every frame; where they would lie outside the video, its end.

    Args:
        n_frames: Length of the video.
        gaps: Class to frames, 1 or more; their order is that of the references.
        reference: Where the references lie: "past", "future", or "symmetric", one on each side.

    Returns:
        int64 (n_frames, R): gap by gap, the past one before the future one.

    Raises:
        BadInput: An unknown side; no gap, or one below 1.
    """
    return (torch.arange(n_frames)[:, None] + _steps(gaps, reference)).clamp(0, n_frames - 1)


def _steps(gaps: Gaps, reference: str) -> Tensor:
    """From a frame to its references, int64 (R,)."""
    check_choice("reference", reference, SIDES)
    if not gaps or min(gaps.values()) < 1:
        raise BadInput("gaps", f"are {dict(gaps)}", "give 1 frame or more for each")
    return torch.tensor([side * gap for gap in gaps.values() for side in SIDES[reference]])


def labels(
    events: pd.DataFrame, n_frames: int, gaps: Gaps, reference: str = "past", rule: str = "inside"
) -> Tensor:
    """Label every frame of a video.

    =========  =====================================================================================
    rule       label of a frame
    =========  =====================================================================================
    inside     1 if the frame is in an event, else 0. Our choice: the paper's rule is unknown.
    overlap    1 if the window of the frame shares a frame with an event, else 0. With "future"
               references this is SOFTNet's rule.
    soft       The largest intersection over union of the window and an event.
    =========  =====================================================================================

    The window has k frames for a gap of k: from the frame to just before its future reference, or
    from just after its past reference to the frame; with symmetric references both, 2 k - 1 frames.
    By the last two rules a frame whose reference would lie outside the video has no label.

    Args:
        events: Those of the video: label, onset, offset. They may overlap, and reach beyond it.
        n_frames: Length of the video.
        gaps: Class to frames; without effect on "inside".
        reference: Where the references lie, as for `references`.
        rule: A rule of the table.

    Returns:
        float32 (n_frames, 2) in [0, 1], micro and macro; nan where there is no label.

    Raises:
        BadInput: An unknown rule or side; a gap below 1.
    """
    check_choice("rule", rule, LABELS)
    frame, columns = np.arange(n_frames), []
    for name in CLASSES:
        ends = [0] if rule == "inside" else [0, *_steps({name: gaps[name]}, reference).tolist()]
        first, last = frame + min(ends), frame + max(ends)
        known = (first >= 0) & (last < n_frames)
        window = np.stack([first + (min(ends) < 0), last - (max(ends) > 0)], 1)  # less references
        own = events.loc[events["label"] == name, ["onset", "offset"]].to_numpy(np.int64)
        worth = overlap(window[:, None], own).max(1, initial=0)  # (n, E) -> (n,)
        columns.append(np.where(known, worth if rule == "soft" else worth > 0, np.nan))
    return torch.from_numpy(np.stack(columns, 1)).float()


# ---- batches for training ------------------------------------------------------------------------


class Pairs:
    """Frames with their references as batches for `training.train`, all classes in equal parts.

    Called with a generator, it draws an epoch, with replacement: each frame shows micro, macro or
    no expression with equal probability, whatever their numbers, and is any of those that do. No
    reference lies in another video.

    Args:
        videos: Of each its frames, float32 in [0, 1] or uint8 (n, 1, H, W), or what else there is a
            row a frame, and their `labels`. Rows with a nan are never drawn: no label, or no face.
        gaps: Class to frames.
        reference: Where the references lie.
        size: Frames in a batch.
        steps: Batches in an epoch of training.
        mirror: Mirror every other frame of an epoch of training, drawn by chance, with its
            references. Not for flow, whose signs would change.

    Attributes:
        frames: (N, ...), the frames of all videos, one after the other.
        places: int64 (N, 1 + R) into frames: each frame, then its references.
        target: float32 (N, 2).

    Raises:
        BadInput: No frame has a label.
    """

    def __init__(
        self,
        videos: Iterable[tuple[Tensor, Tensor]],
        gaps: Gaps,
        reference: str = "past",
        *,
        size: int = 72,
        steps: int = 250,
        mirror: bool = False,
    ):
        frames, targets = zip(*videos, strict=True)
        rows = torch.arange(sum(map(len, frames))).split(list(map(len, frames)))
        others = [own[references(len(own), gaps, reference)] for own in rows]
        self.places = torch.cat([torch.cat(rows)[:, None], torch.cat(others)], 1)
        self.frames, self.target = torch.cat(frames), torch.cat(targets)
        self.size, self.steps, self.mirror = size, steps, mirror
        if self.target.isnan().any(1).all():
            raise BadInput("target", "no frame has a label", "give longer videos or smaller gaps")

    def __len__(self) -> int:
        return self.steps

    def __call__(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of training."""
        shows = torch.cat([self.target > 0, (self.target == 0).all(1, keepdim=True)], 1).double()
        shows[self.target.isnan().any(1)] = 0
        weights = (shows / shows.sum(0).clamp_min(1)).sum(1)
        n = self.size * self.steps
        rows = torch.multinomial(weights, n, replacement=True, generator=generator)
        for some in rows.split(self.size):
            frames = self.frames[self.places[some]]
            turned = torch.rand(len(frames), generator=generator) < 0.5 * self.mirror
            frames[turned] = frames[turned].flip(-1)
            yield frames, self.target[some]


# ---- the video as a stream -----------------------------------------------------------------------


def stream(
    look: Look, chunks: Chunks, gaps: Gaps, reference: str = "past", batch: int = 32
) -> Iterator[Tensor]:
    """Look at every frame of a video with its references, in memory that does not grow.

    A ring holds the frames that the references reach over and two batches. Frames wait in it until
    a batch of them has its future references, or the video ends. So batches do not hang on chunks,
    and results are the same to the last bit. For SAMM-LV's gap of 174 on both sides the ring holds
    476 frames: at 112 px 24 MB of float32 or 6 MB of uint8, however long the video.

    Args:
        look: Makes of frames with their references (B, 1 + R, C, H, W) something (B, ...).
        chunks: The video, (n, C, H, W) after (n, C, H, W); n may change from one to the next.
        gaps: Class to frames.
        reference: Where the references lie.
        batch: Frames that are looked at together.

    Yields:
        What `look` makes of the next frames. Nothing comes of a video without frames.

    Raises:
        BadInput: An unknown side; a gap below 1; a chunk that is no tensor (n, C, H, W).
    """
    steps = torch.cat([torch.tensor([0]), _steps(gaps, reference)])
    ahead, room = int(steps.max()), int(steps.max() - steps.min()) + 2 * batch
    ring, seen, done = None, 0, 0

    def looked(stop: int) -> Tensor:
        rows = (torch.arange(done, stop)[:, None] + steps).clamp(0, seen - 1)
        return look(ring[rows % room])

    for chunk in chunks:
        check_tensor("a chunk of the video", chunk, "(n, C, H, W)", (*FLOATS, torch.uint8))
        for frames in chunk.split(batch):
            ring = frames.new_empty(room, *frames.shape[1:]) if ring is None else ring
            ring[torch.arange(seen, seen + len(frames)) % room] = frames
            seen += len(frames)
            if done + batch <= seen - ahead:
                yield looked(done + batch)
                done += batch
    while done < seen:
        yield looked(min(done + batch, seen))
        done += batch


@torch.no_grad()
def scores(
    model: Look, chunks: Chunks, gaps: Gaps, reference: str = "past", lost: Tensor | None = None
) -> Tensor:
    """Score every frame of a video of any length.

    Args:
        model: Makes logits (B, 2) of frames and references (B, 1 + R, 1, H, W): `SpottingNet` in
            evaluation mode; such as ``SoftNet(flow=gap_flow)``; or a function, which is the place
            to move frames to another device.
        chunks: The video: float32 in [0, 1] or uint8 (n, 1, H, W), as `stream` takes them.
        gaps: Class to frames.
        reference: Where the references lie: as for the model.
        lost: bool (n,), True for frames without a face, whatever they show. They score nan, and so
            do frames that refer to them.

    Returns:
        float32 (n, 2), probabilities of micro and macro, on the CPU; (0, 2) for an empty video.

    Raises:
        BadInput: As `stream` and the model.
    """
    parts = stream(lambda frames: model(frames).sigmoid().cpu(), chunks, gaps, reference)
    flat = array("f")  # thousands of small tensors would keep freed memory apart
    for part in parts:
        flat.frombytes(part.numpy().tobytes())
    scored = torch.tensor(flat).view(-1, 2)
    if lost is not None:
        scored[lost | lost[references(len(lost), gaps, reference)].any(1)] = torch.nan
    return scored


# ---- what the peers see --------------------------------------------------------------------------


def gap_flow(frames: Tensor, *, method: str = "farneback") -> Tensor:
    """Flow in px to references: (B, 1 + R, 1, H, W) in [0, 1] or uint8 to (B, R, 2, H, W).

    Raises:
        BadInput: Another shape, such as that of RGB; as `optical_flow`.
    """
    check_tensor("frames", frames, "(B, T, 1, H, W)", (*FLOATS, torch.uint8))
    now, others = frames[:, :1, 0], frames[:, 1:, 0]
    return optical_flow(now.expand_as(others), others, method=method)


def between(sums: Tensor) -> Tensor:
    """What was added up from frame to reference: (B, 1 + R, 2, H, W) to float32 (B, R, 2, H, W)."""
    return (sums[:, 1:] - sums[:, :1]).float()


def mdmd_scores(chunks: Chunks, gaps: Gaps) -> Tensor:
    """Scores of the organisers' baseline: `main_direction`, less its mean k - 1 frames around.

    The baseline measures flow by RLOF, has longer gaps than SOFTNet (80 and 260 on SAMM-LV, 12 and
    39 on CAS(ME)^2), and scores no frame nearer than 2 k - 1 to an end; here the end stands in.

    Args:
        chunks: The video, as `scores` takes it.
        gaps: Class to frames, k.

    Returns:
        float32 (n, 2), px, of any sign.
    """

    def look(frames: Tensor) -> Tensor:
        past = range(1, frames.shape[1], 2)  # each is followed by the future one
        flows = [gap_flow(frames[:, [p, 0, p + 1]]) for p in past]  # (B, 2, 2, H, W)
        return torch.stack([main_direction(*flow.unbind(1)) for flow in flows], 1)

    score = torch.cat([torch.zeros(0, 2), *stream(look, chunks, gaps, "symmetric")])
    around = {name: max(1, k - 1) for name, k in gaps.items()}
    sides = references(len(score), around, "symmetric").unflatten(1, (len(gaps), 2))  # (n, 2, 2)
    return score - score[sides, torch.arange(len(gaps))[:, None]].mean(-1)
