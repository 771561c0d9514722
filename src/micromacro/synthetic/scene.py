"""A scene: one person, seen and heard, in a short clip. Tasks with a voice are made of scenes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from micromacro.synthetic.face import Face
from micromacro.synthetic.identity import Identity
from micromacro.synthetic.performance import Event, Performance
from micromacro.synthetic.script import FULL
from micromacro.synthetic.voice import Speech


@dataclass(frozen=True, eq=False)
class Scene:
    """One clip before it is rendered.

    Attributes:
        face: Who.
        performance: What the face does, with its events.
        speech: What is heard, and how it opens the mouth.
    """

    face: Face
    performance: Performance
    speech: Speech

    def frames(self, chunk: int = 64) -> Iterator[torch.Tensor]:
        """Rendered while it is read: float32 (n, 1, size, size) in [0, 1], n <= chunk."""
        return rendered(self.face, self.performance, chunk)


def rendered(face: Face, play: Performance, chunk: int) -> Iterator[torch.Tensor]:
    """A performance, rendered as it is read, in chunks: float32 (n, 1, size, size) in [0, 1]."""
    return (face.render(play, k, k + chunk) for k in range(0, len(play), chunk))


@lru_cache(maxsize=2)  # a person's clips come one after another, and painting takes longest
def grey_face(identity: Identity, size: int) -> Face:
    """The painted face of a person, one channel of grey, frames of size x size px."""
    return Face(identity, size=size, colour=False)


def fidgets(
    rng: np.random.Generator,
    n_frames: int,
    fps: float,
    *,
    per_s: float,
    muscles: Sequence[str],
    strongest: float,
) -> list[Event]:
    """Short movements of single muscles that mean nothing, one after the other.

    Args:
        rng: Draws when, how long, which and how strong.
        n_frames: Frames of the clip.
        fps: Frames a second.
        per_s: Mean number per second, if they took no time.
        muscles: Action units to draw from.
        strongest: Share of a full expression; the faintest are 0.1.
    """
    made, frame = [], 0.0
    while per_s > 0:
        frame += rng.exponential(fps / per_s) + 2
        length = int(rng.integers(3, max(4, round(fps))))
        if (onset := int(frame)) + length > n_frames:
            break
        aus = ((str(rng.choice(muscles)), rng.uniform(0.1, strongest)),)
        middle, last = onset + length // 2, onset + length - 1
        made.append(Event(onset, middle, last, aus, FULL, "micro"))
        frame += length
    return made


def talking(play: Performance, speech: Speech) -> Performance:
    """A performance whose mouth moves with a voice."""
    opening = torch.from_numpy(speech.opening)  # (T,)
    return replace(play, jaw=play.jaw + 0.03 * opening, part=play.part + 0.015 * opening)
