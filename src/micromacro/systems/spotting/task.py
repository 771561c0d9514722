"""The spotting task on the embedded benchmark: long videos with micro- and macro-expressions.

Each video shows one synthetic person, who now and then moves a muscle. Both classes are shown by
the same muscles and with the same laws of place and apex. What tells them apart is what defines
them: a micro-expression lasts at most half a second and is faint, a macro-expression lasts 0.5 to 4
s and is plain to see. How long they last follows the official sheets.

====  ==============  ======================================================
kind  as in           videos
====  ==============  ======================================================
cas   CAS(ME)^2       30 fps, sparse: 4 % of the frames are macro
samm  SAMM-LV         200 fps, dense: 24 % are macro, and some events go on
====  ==============  ======================================================

The upper and the lower half of the face follow scripts of their own, so that events overlap by
chance: if the official SAMM-LV sheet were dealt out to two independent halves, about 68 pairs would
overlap, as many as do. Some people show one event where others show many; videos that lack a class,
or show no event at all, occur. Every event lies whole within its video, so that few are at its very
ends. Blinks, speech, a head that sways and drifts, light and sensor noise are no events: they are
there to mislead.

The dials were settled on development seeds (1000 to 1003) by a probe that no network is needed for:
the largest change of local contrast in brows and mouth since a frame k earlier, k being half the
mean duration of the class. It tells frames of an event from rest with an AUC of 0.80 (micro) and
0.87 (macro) in ``cas``, 0.82 and 0.83 in ``samm``.

Every frame comes from explicit streams; it depends neither on the frames it is rendered with nor on
how many people there are. Nothing is rendered before it is asked for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import torch

from micromacro.errors import check_choice, check_dials
from micromacro.synthetic import Event, Face, HeadDrift, Nuisance, Performance, perform
from micromacro.synthetic.identity import Identity, stream
from micromacro.synthetic.scene import rendered

PX = 2 / 64  # the px of all dials in face units: those of a face that is rendered at 64 px
KNOTS = (0, 0.25, 0.5, 0.75, 0.95, 1)  # quantiles at which durations are given
UPPER = ("1", "2", "4", "6", "7", "9")
LOWER = ("10", "12", "14", "15", "17", "20", "23", "12L", "12R", "14L", "14R")
"""Muscles of the two halves of the face. They share no zone of skin, so no overlap folds it."""
CHUNK = 32  # frames rendered at once

LIGHTS = {
    "none": lambda strength: {},
    "global": lambda s: {"gain": (0.12 * s, 0.12 * s), "offset": (0.03 * s, 0.03 * s)},
    "flicker": lambda s: {"flicker": 0.08 * s},
    "gradient": lambda s: {"shadow": (0.5 * s, 0.5 * s), "shadow_sharp": (1.5, 1.5)},
    "shadow": lambda s: {"shadow": (0.5 * s, 0.5 * s), "shadow_sharp": (8.0, 14.0)},
}
"""Conditions of light at a strength, in the units of `Nuisance`.

``none`` is constant. ``global``: exposure and black level wander within seconds. ``gradient``,
``shadow``: a slope across the whole face, or a shadow with an edge, wanders. ``flicker``: light of
100 Hz, sampled at the frame rate. It comes back every 3 frames at 30 fps and every 2 frames at 200
fps: a reference a multiple of that before its frame shows the same light.
"""


@dataclass(frozen=True)
class Dials:
    """What can be turned; px are those of a face of 64 px, whatever the size of the frames.

    Attributes:
        fps: Frames per second; as many seconds at another rate show the same events.
        n_frames: Number of frames of a video.
        shares: Summed durations of the micro- and the macro-expressions, expected over all people,
            as shares of the video. The 0.3 % of CAS(ME)^2 that is micro would leave three events in
            12,000 frames; here it is 3 %.
        micro_s: Durations of micro-expressions in seconds: quantiles at `KNOTS`, straight between.
        macro_s: Durations of macro-expressions in seconds, likewise.
        micro_px: Smallest and largest peak displacement of a micro-expression, uniform between.
        macro_px: Likewise of a macro-expression; beyond 3.5 px skin could fold over.
        uneven: Standard deviation of the logarithm of a person's own factor on the shares, whose
            mean is 1; 0 makes all people equal.
        size: Side of the frames, px.
        drift_px: Largest displacement of the head's drift, whose slowest swing takes 20 s.
        blink_rate: Mean number of blinks per second.
        talking: Share of the time, about, in which the jaw moves as in speech.
        noise_sd: Standard deviation of the sensor noise, where white is 1.
        strength: Factor on the light condition; 1 is as in `LIGHTS`, 0 constant light.
        light: Condition of light, a key of `LIGHTS`.

    Raises:
        BadInput: A dial out of its range, or an unknown light.
    """

    fps: Annotated[float, 5, 1000] = 30.0
    n_frames: Annotated[int, 1, 10**7] = 600
    shares: Annotated[tuple[float, float], 0, 0.4] = (0.03, 0.04)
    micro_s: Annotated[tuple[float, ...], 0.04, 0.5] = (0.30, 0.43, 0.467, 0.48, 0.5, 0.5)
    macro_s: Annotated[tuple[float, ...], 0.5, 4] = (0.5, 0.75, 1.03, 1.45, 2.4, 3.9)
    micro_px: Annotated[tuple[float, float], 0.2, 1.5] = (0.8, 1.5)
    macro_px: Annotated[tuple[float, float], 2, 3.5] = (2.0, 3.5)
    uneven: Annotated[float, 0, 2] = 0.8
    size: Annotated[int, 16, 1024] = 48
    drift_px: Annotated[float, 0, 10] = 0.5
    blink_rate: Annotated[float, 0, 2] = 0.15
    talking: Annotated[float, 0, 1] = 0.03
    noise_sd: Annotated[float, 0, 0.2] = 0.004
    strength: Annotated[float, 0, 2] = 1.0
    light: str = "none"

    def __post_init__(self):
        check_choice("light", self.light, LIGHTS)
        check_dials(self)


_SAMM_S = (0.15, 0.33, 0.39, 0.43, 0.48, 0.5), (0.51, 0.75, 1.08, 1.9, 3.3, 4.0)
# Of 28 % macro, overlaps and the busiest people leave 24 % of the frames.
KINDS = {"cas": Dials(), "samm": Dials(200.0, 2000, (0.025, 0.28), *_SAMM_S)}


class Benchmark(NamedTuple):
    """The videos of one seed: tables, and frames that are rendered when they are asked for.

    Attributes:
        videos: A row a video: dataset, video, subject, n_frames, fps, path (empty).
        events: A row an event, video by video, by onset: video, subject, label ("micro" or
            "macro"), onset, apex, offset; int64, 0-based, the interval inclusive.
        scenes: Video -> dials, split, seed, number of the person: all that makes it.
    """

    videos: pd.DataFrame
    events: pd.DataFrame
    scenes: Mapping[str, tuple]

    def scene(self, video: str) -> tuple[Face, Performance]:
        """The person in a video and what happens: the truth, of which exact flow can be had.

        Args:
            video: Its name in the tables.

        Returns:
            Painted face; performance, about 1 kB a frame.

        Raises:
            BadInput: No video of that name.
        """
        check_choice("video", video, self.scenes)
        dials, split, seed, subject = self.scenes[video]
        same = {name: getattr(dials, name) for name in ("blink_rate", "talking", "noise_sd")}
        light = LIGHTS[dials.light](dials.strength)
        noise = Nuisance(sway=(0.003, 0.003), turn=(0.002, 0.006), **same, **light)
        head = HeadDrift(PX * dials.drift_px, period_s=20.0)
        own = int(stream("spotting", split, seed, subject, "nuisance").integers(2**31))
        events = script(dials, split, seed, subject)
        play = perform(dials.n_frames, dials.fps, events, nuisance=noise, seed=own, head_drift=head)
        who = Identity.draw(subject, split=f"spotting-{split}", run_seed=seed)
        return Face(who, size=dials.size, colour=False), play

    def frames(self, video: str) -> Iterator[torch.Tensor]:
        """Render a video in order, chunk by chunk, while it is read.

        Args:
            video: Its name in the tables.

        Returns:
            Chunks float32 (n, 1, size, size) in [0, 1], n <= 32.

        Raises:
            BadInput: No video of that name.
        """
        return rendered(*self.scene(video), CHUNK)


def videos(kind: str, n_subjects: int, seed: int, *, split: str = "train", **dials) -> Benchmark:
    """The videos of one seed, one a person; the same arguments give the same ones.

    Args:
        kind: "cas" or "samm"; see `KINDS`.
        n_subjects: Number of persons; 0 gives empty tables.
        seed: Random seed; another seed draws other people and scripts. Tuning uses seeds from 1000
            on.
        split: Name of the split, such as "train" or "test"; another name draws other people.
        dials: Dials to turn, fields of `Dials`.

    Raises:
        BadInput: Unknown kind, or a dial out of range.
    """
    check_choice("kind", kind, KINDS)
    every = replace(KINDS[kind], **dials)
    scenes = {f"{split}{k:02d}": (every, split, seed, k) for k in range(n_subjects)}
    film = pd.DataFrame({"dataset": f"synthetic-{kind}", "video": list(scenes)})
    film = film.assign(subject=film.video, n_frames=every.n_frames, fps=float(every.fps), path="")
    times = dict.fromkeys(("onset", "apex", "offset"), "int64")
    rows = [(v, v, e.kind, e.onset, e.apex, e.offset) for v in scenes for e in script(*scenes[v])]
    events = pd.DataFrame(rows, columns=["video", "subject", "label", *times]).astype(times)
    return Benchmark(film, events, scenes)


def script(dials: Dials, split: str, seed: int, subject: int) -> list[Event]:
    """The events of one video, by onset."""
    rng, T, events = stream("spotting", split, seed, subject, "script"), dials.n_frames, []
    own = np.exp(dials.uneven * rng.standard_normal() - dials.uneven**2 / 2)  # mean 1
    for muscles in (UPPER, LOWER):
        drawn = []  # label and length of each event of this half
        for label, share in zip(("micro", "macro"), dials.shares, strict=True):
            knots = dials.fps * np.array(getattr(dials, f"{label}_s"))
            n = int(own * share / 2 * T / np.trapezoid(knots, KNOTS) + rng.random())
            drawn += [(label, max(1, round(x))) for x in np.interp(rng.random(n), KNOTS, knots)]
        rng.shuffle(drawn)
        while (rest := T - sum(length for _, length in drawn)) < 0.2 * T:  # the busiest people
            drawn.pop()
        # The frames at rest are dealt out before, between and after the events.
        gaps, frame = (rest * rng.dirichlet(np.ones(len(drawn) + 1))).astype(int).tolist(), 0
        for (label, length), gap in zip(drawn, gaps, strict=False):
            onset, frame = frame + gap, frame + gap + length
            apex = onset + round(rng.uniform(0.25, 0.6) * (length - 1))
            muscle, peak = str(rng.choice(muscles)), rng.uniform(*getattr(dials, f"{label}_px"))
            events.append(Event(onset, apex, frame - 1, ((muscle, 1.0),), PX * peak, label))
    return sorted(events, key=lambda event: event.onset)
