"""The benchmark's micro-expression task: four classes, clips of any length, known apex.

Each clip is one synthetic person at 60 frames a second who shows one micro-expression of 0.3 to
0.58 px of a 64-px face. Its class is one of the paper's four (`akm4`), each with three or four ways
to show it; some muscles serve two classes (AU 4 alone is "others", with AU 7 it is "negative"). The
motion is magnified exactly: where the paper magnifies what moves in the video, here the muscles'
displacements are multiplied, and neither noise nor head are.

*Distractors* are short movements of single muscles, drawn without regard to the clip's class,
before, during and after the expression. They, blinks, sway, light and sensor noise are all there is
to mislead; clips are cut out of longer plays, so that nothing special happens at their ends.

========  ==========================================================================================
task      clip
========  ==========================================================================================
headline  cut from onset to offset, as the official clips are; apex where theirs is: at
          0.51 +- 0.165 (CASME II) or 0.46 +- 0.164 (SAMM) of the clip
loose     the expression takes 0.3 to 0.6 of the clip, neutral frames before and after it; apex
          uniform over 0.1 to 0.9
========  ==========================================================================================

What holds by construction, and is a positive control in notebook 08b: frames away from the apex say
little of the class, and sometimes something wrong, so whoever knows the apex does best; on the
headline task the middle of the clip is near the apex. Length, place and strength of the expression
are drawn without regard to the class. People have classes in uneven shares, as in the data sets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from micromacro.errors import Dialled, check_choice, check_sizes
from micromacro.motion.magnify import magnify
from micromacro.synthetic import Event, Face, Identity, Performance, exaggerate, perform, units
from micromacro.synthetic.identity import stream
from micromacro.systems.akmnet.inputs import RESAMPLED, Protocol, Source
from micromacro.systems.akmnet.model import FrameNet, Parts, StillNet, Vgg11
from micromacro.training import Recipe
from micromacro.weights import load_own

CLASSES = ("positive", "negative", "surprise", "others")
PROTOTYPES: dict[str, tuple[dict[str, float], ...]] = {
    "positive": ({"12": 0.9, "6": 0.6}, {"12": 1.0}, {"12R": 0.9, "6": 0.7}),
    "negative": (
        {"4": 0.9, "7": 0.7},
        {"9": 0.8, "10": 0.6},
        {"1": 0.5, "4": 0.3, "15": 0.8},
        {"12L": 0.5, "14L": 0.5, "7": 0.4},
    ),
    "surprise": ({"1": 0.5, "2": 0.5}, {"2": 1.0}, {"1": 0.4, "2": 0.4, "lid": -0.3}),
    "others": ({"4": 1.0}, {"14": 1.0}, {"17": 0.6, "23": 0.4}, {"20": 0.9, "7": 0.4}),
}
"""Class -> ways to show it, muscle -> share of the peak; no zone adds up to more than 1."""

SHARES = (0.20, 0.30, 0.18, 0.32)  # of the classes, over all people
UNEVEN = 6.0  # of a person's own shares: the smaller, the more uneven (concentration)
FPS = 60.0
FACE_PX = 64  # side of the rendered faces; the unit of every px below
FACE = slice(8, FACE_PX - 8)  # rows and columns of the face, which are the frames
IMAGE_PX = 48
PEAK_PX = (0.3, 0.58)  # before magnification, as all of these
DISTRACTOR_PX = (0.18, 0.28)
DISTRACTOR_FRAMES = (5, 11)  # from, to below
PER_FRAMES = 24  # of a clip: the unit of the density of distractors
PAD = 60  # frames of the play before and after the clip
APEX_RANGE = (0.1, 0.9)
REAL_APEX = ((0.51, 0.165), (0.46, 0.164))  # mean and sd of its place, share of the clip

MAX_MAGNIFICATION = 4.0  # skin would fold over soon after
WIDTHS = (16, 24, 40)  # of the frame network's stages
SIZES = {"widths": WIDTHS, "blocks": 1, "image_px": IMAGE_PX, "gru_hidden": 16}
# Parts of a network that no clip trains: all stages but the last.
FROZEN = {"resnet": len(WIDTHS), "vgg": 16}
LAST = 2  # epochs at the end whose logits are averaged, in every arm alike
# Settled on development seeds: at 1e-3 hard ones are under-trained, 1e-2 is worse.
RECIPE = Recipe(lr=3e-3, weight_decay=1e-2, schedule="one_cycle", epochs=4)


@dataclass(frozen=True)
class Dials(Dialled):
    """What can be turned.

    Attributes:
        n_frames: Frames of a clip, shortest and longest, equally likely between.
        share: Of the clip that the expression takes, smallest and largest; 1 is onset to offset.
        centrality: Where the apex is: None as in the official clips; else uniform over 0.1 to 0.9
            of the clip at 0, at its middle at 1.
        distractors: Mean number for every 24 frames.
        magnification: Factor on all movements of the face; 1 to 4.
        gamma: Exponent of the grey levels, white is 1. At 1 the clips' camera is that of the stills
            on which the frame network was pre-trained; above, mid-tones are darker. Rounded to 8
            bits again, neighbouring levels become one: at 3, 158 of 256 are left.

    Raises:
        BadInput: A number out of range.
    """

    n_frames: Annotated[tuple[int, int], 8, 10_000] = (16, 32)
    share: Annotated[tuple[float, float], 0.2, 1] = (1.0, 1.0)
    centrality: Annotated[float | None, 0, 1] = None
    distractors: Annotated[float, 0, 3] = 1.0
    magnification: Annotated[float, 1, MAX_MAGNIFICATION] = 4.0
    gamma: Annotated[float, 0.2, 5] = 1.0


TASKS = {"headline": Dials(), "loose": Dials((20, 40), share=(0.3, 0.6), centrality=0.0)}


# ---- clips ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Clips:
    """C clips of N frames in all, frame behind frame and clip behind clip.

    Attributes:
        frames: uint8 (N, 48, 48), grey.
        lengths: int64 (C,), frames of each clip.
        label: int64 (C,), place in `CLASSES`.
        subject: int64 (C,), who it is.
        onset, apex, offset: int64 (C,), 0-based frames of the clip; the interval is inclusive.
        envelope: float32 (N,), 0 at rest to 1 at the apex.
        names: Of each clip, such as "s03_c07".
    """

    frames: Tensor
    lengths: Tensor
    label: Tensor
    subject: Tensor
    onset: Tensor
    apex: Tensor
    offset: Tensor
    envelope: Tensor
    names: list[str]

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        """Values (N, ...) of all frames, clip by clip."""
        return values.split(self.lengths.tolist())


@lru_cache(maxsize=3)  # 11 MB of 48 people; one fold's arms follow one another
def record(seed: int, dials: Dials, people: Sequence[int] = range(16), clips: int = 9) -> Clips:
    """Record people; the same arguments give the same clips.

    Args:
        seed: Of the run: other people, other scripts. Tuning uses seeds from 1000 on.
        dials: Of the task; see `TASKS`.
        people: Their numbers.
        clips: Clips of each.

    Raises:
        BadInput: No person or no clip.
    """
    check_sizes(people=len(people), clips=clips)
    frames, plays, names, rows = [], [], [], []
    for subject in people:
        face = Face(who(seed, subject), size=FACE_PX, colour=False)
        for clip in range(clips):
            play, label = script(seed, subject, clip, dials)
            shown = face.render(play)[:, 0, FACE, FACE] ** dials.gamma
            frames.append(shown.mul(255).round_().to(torch.uint8))
            event = play.events[0]
            rows.append((len(play), label, subject, event.onset, event.apex, event.offset))
            names.append(f"s{subject:02d}_c{clip:02d}")
            plays.append(play)
    envelope = torch.cat([play.envelope[:, 0] for play in plays])
    return Clips(torch.cat(frames), *torch.tensor(rows).T.contiguous(), envelope, names)


def who(seed: int, subject: int) -> Identity:
    """The person of that number."""
    return Identity.draw(subject, split="akmnet", run_seed=seed)


def script(seed: int, subject: int, clip: int, dials: Dials) -> tuple[Performance, int]:
    """What one clip shows, and its class.

    Returns:
        The performance, whose first event is the micro-expression and whose others are distractors;
        the place in `CLASSES`.
    """
    key = ("akmnet", seed, subject)
    own = stream(*key, 0, "shares").dirichlet(UNEVEN * np.array(SHARES))
    label = int(stream(*key, clip, "class").choice(len(CLASSES), p=own))
    rng = stream(*key, clip, "script")
    T, noise = int(rng.integers(dials.n_frames[0], dials.n_frames[1] + 1)), int(rng.integers(2**31))
    event = _expression(rng, T, dials, label)
    events = [event, *_distractors(stream(*key, clip, "distractors"), T + 2 * PAD, dials)]
    play = perform(T + 2 * PAD, FPS, events, nuisance="easy", seed=noise)
    return exaggerate(play, dials.magnification)[PAD : PAD + T], label


def muscles(rng: np.random.Generator, label: int) -> tuple[tuple[str, float], ...]:
    """One of the ways to show a class, each muscle a little weaker or stronger than usual."""
    ways = PROTOTYPES[CLASSES[label]]
    way = ways[rng.integers(len(ways))]
    return tuple((name, weight * rng.uniform(0.75, 1.0)) for name, weight in way.items())


def _expression(rng: np.random.Generator, T: int, dials: Dials, label: int) -> Event:
    """The micro-expression; in frames of the play, which begins `PAD` before the clip.

    The apex comes first, then the duration around it: rise and fall as they come, moved into the
    clip where they would leave it.
    """
    real, place, at, rise = rng.integers(2), rng.standard_normal(), rng.random(), rng.random()
    apex = round(_place(REAL_APEX[real], place, at, dials.centrality) * (T - 1))
    duration = round(rng.uniform(*dials.share) * T)
    onset = apex - round((0.25 + 0.5 * rise) * (duration - 1))
    onset = min(max(onset, 0), T - duration)
    peak = units(rng.uniform(*PEAK_PX), FACE_PX)
    frames = (PAD + f for f in (onset, apex, onset + duration - 1))
    return Event(*frames, muscles(rng, label), peak, "micro", CLASSES[label])


def _place(real: tuple[float, float], normal: float, at: float, centrality: float | None) -> float:
    """Place of the apex, as a share of the clip."""
    low, high = APEX_RANGE
    if centrality is None:
        return min(max(real[0] + real[1] * normal, low), high)
    return 0.5 + (1 - centrality) * (high - low) * (at - 0.5)


def _distractors(rng: np.random.Generator, T: int, dials: Dials) -> list[Event]:
    """Short movements of single muscles of any class, one after the other."""
    events, frame = [], 0.0
    while dials.distractors > 0:
        length = int(rng.integers(*DISTRACTOR_FRAMES))
        frame += rng.exponential(PER_FRAMES / dials.distractors)
        way = muscles(rng, int(rng.integers(len(CLASSES))))
        muscle, weight = way[rng.integers(len(way))]
        peak, top = units(rng.uniform(*DISTRACTOR_PX), FACE_PX), rng.uniform(0.3, 0.7)
        onset = int(frame)
        if onset + length > T:
            break
        apex = onset + round(top * (length - 1))
        strength = min(weight, 0.0) or 1.0  # lids widen as much as they do in an expression
        events.append(Event(onset, apex, onset + length - 1, ((muscle, strength),), peak, "micro"))
        frame += length
    return events


# ---- the benchmark as a source -------------------------------------------------------------------


@lru_cache(maxsize=2)
def benchmark(
    seed: int,
    fold: int = 0,
    task: str = "headline",
    subjects: int = 27,
    tested: int = 48,
    clips: int = 4,
    **dials,
) -> Source:
    """The clips of one fold of a seed, and how to train on them.

    A fold has people of its own to learn from. All folds of a seed are tested on the same people,
    who are in none of them; so a test costs no training. On development seeds the networks of a
    seed differed by far more (standard deviation 0.1 of the accuracy) than its 48 people weigh
    (0.015): hence many networks and few people. All arms share people, clips and the recipe, and
    all but the plain VGG-11 the pre-trained frame network and first weights. For every arm alike
    some things differ from the paper: all but the last stage of the frame network is frozen after
    pre-training; batches of eight clips are real ones, not eight steps; AdamW with one cycle
    replaces its SGD; no frame is cropped at random, since every epoch would pass the frozen parts
    anew.

    Args:
        seed: Random seed of people and clips. Tuning uses seeds from 1000 on.
        fold: Whose people learn.
        task: "headline" or "loose"; see `TASKS`.
        subjects: People that a fold learns from.
        tested: People that all folds are tested on.
        clips: Clips of each person.
        dials: Dials to turn, fields of `Dials`.

    Raises:
        BadInput: Unknown task, or a dial out of range.
    """
    check_choice("task", task, TASKS)
    dials, first = replace(TASKS[task], **dials), tested + fold * subjects
    parts = [record(seed, dials, range(first, first + subjects), clips)]
    parts.append(record(seed, dials, range(tested), clips))
    names = ("subject", "label", "onset", "apex", "offset")
    table = pd.DataFrame({n: np.concatenate([getattr(part, n) for part in parts]) for n in names})
    table["T"] = np.concatenate([part.lengths for part in parts])
    table = table.assign(dataset="synthetic", clip=[name for part in parts for name in part.names])
    table["person"] = table["subject"].map("{:03d}".format)
    pixels = [clip[:, None].numpy() for part in parts for clip in part.split(part.frames)]
    envelope = [clip for part in parts for clip in part.split(part.envelope)]

    def inputs(*, network: str, crop: float, method: str, length: int, alpha: float) -> Callable:
        maps = [own for part in parts for own in frozen_maps(part, method, length, alpha, network)]
        return lambda i, generator: maps[i]

    def start(frame_net: Parts) -> dict:
        frame_net.load_state_dict(pretrained(frame_net.kind).frame_net.state_dict())
        frame_net.freeze(FROZEN[frame_net.kind])
        return {}

    protocols = dict.fromkeys(("ours", "as_released"), Protocol(RECIPE, last=LAST))
    apart = (table["subject"] < tested).to_numpy()
    how = {"test_size": 32, "tested": apart, "envelope": envelope}
    return Source(table, CLASSES, pixels.__getitem__, inputs, SIZES, start, protocols, **how)


@lru_cache(maxsize=16)  # 16 MB of 48 people, four times as many of 96 frames a clip
def frozen_maps(
    clips: Clips, method: str = "", length: int = 0, alpha: float = 0.0, network: str = "resnet"
) -> tuple[Tensor, ...]:
    """What the frozen parts of a pre-trained network make of each clip.

    Args:
        clips: C clips.
        method: "tim" or "linear" brings every clip to `length` frames first; "" does not.
        length: See method.
        alpha: Of phase-based magnification, before anything else; see `pictures`.
        network: A key of `FROZEN`.

    Returns:
        float32 (T, channels, h, w) for each clip.
    """
    frame_net = pretrained(network).frame_net.freeze(FROZEN[network])
    frames = clips.split(pictures(clips, alpha))
    if method:
        frames = [RESAMPLED[method](clip, length) for clip in frames]
    maps = [frame_net.frozen_maps(part) for part in torch.cat(tuple(frames)).split(512)]
    return torch.cat(maps).split([len(clip) for clip in frames])


def pictures(clips: Clips, alpha: float = 0.0) -> Tensor:
    """All frames, float32 (N, 1, 48, 48) in [0, 1]; magnified from each clip's first frame.

    Args:
        clips: C clips of N frames.
        alpha: A motion becomes 1 + alpha times as large, as far as `motion.magnify` can; 0 is none.
    """
    frames = clips.frames[:, None].float() / 255
    if not alpha:
        return frames
    parts = [magnify(clip, alpha, orientations=8).clamp(0, 1) for clip in clips.split(frames)]
    return torch.cat(parts)


# ---- what the frame network learns before it sees a clip -----------------------------------------


def still_network(name: str = "resnet") -> StillNet:
    """A classifier of stills with its first weights.

    Args:
        name: "resnet", whose `frame_net` is what AKMNet starts from; or "vgg", of a VGG-11.

    Raises:
        BadInput: Unknown name.
    """
    check_choice("still network", name, FROZEN)
    net = FrameNet(WIDTHS, blocks=1) if name == "resnet" else Vgg11(WIDTHS[-1])
    return StillNet(net, len(CLASSES))


def weights_file(name: str) -> Path:
    """Where ``tools/akmnet_training.py`` puts the weights of a network."""
    return Path(__file__).with_name(f"still_{name}.safetensors")


@lru_cache(maxsize=2)
def pretrained(name: str = "resnet") -> StillNet:
    """The classifier of stills that ``tools/akmnet_training.py`` trained, in evaluation mode.

    Args:
        name: As for `still_network`.

    Raises:
        BadInput: Its file is missing, torn, or not of this network.
    """
    return load_own(partial(still_network, name), weights_file(name), "stills")
