"""The reaction task on the embedded benchmark: people watch something, and say what they felt.

A clip shows one synthetic person, seen and heard. Its labels are seven intensities. What is shown
has the correlations that Hume-Reaction prints for its labels (to 0.04) and their mean, and the
largest of each clip is 1. What is reported, the label, has an error of its own (`Dials.report_sd`):
at the default its correlations are weaker than printed, by up to 0.3. A reaction shows in a few
*events*, which fill a share of the clip that can be set; the rest is a face at rest, talk, blinks
and movements that mean nothing.

What a reaction does is spread over what the paper's inputs can see, and nothing tells all. Voice
and small muscles have something of their own; the whole face has nothing that small muscles do not
show:

==============  ===========  ==============  ===========================
emotion         whole face   small muscles   voice
==============  ===========  ==============  ===========================
Adoration       yes          yes             -
Amusement       yes          yes             higher, louder, faster
Anxiety         -            -               higher, faster
Disgust         yes          yes             -
Empathic-Pain   -            yes             lower, softer, slower
Fear            -            yes             higher, louder, faster
Surprise        yes          yes             higher, louder
==============  ===========  ==============  ===========================

So by construction sound adds to picture, and local features add to holistic ones: positive
controls. Emotions come together, so that an input tells a little also of what it does not show.
What is not built in is which read-out finds a short event in a long clip.

*Local* features imitate a detector of action units: the truth on a scale of 0 to 5, with an error
of its own in each frame and one that a clip keeps, and presences that come from the noisy values.
Every clip comes from explicit streams; nothing is rendered before it is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import ndtr

from micromacro.errors import Dialled, check_choice
from micromacro.synthetic import AUS, Event, Identity, Nuisance, Performance, perform
from micromacro.synthetic.identity import stream
from micromacro.synthetic.performance import ZONES
from micromacro.synthetic.scene import Scene, fidgets, grey_face, talking
from micromacro.synthetic.script import FULL
from micromacro.synthetic.voice import speak
from micromacro.systems.eri.model import EMOTIONS

FACES: dict[str, dict[str, float]] = {
    "Adoration": {"12": 0.40, "6": 0.30},
    "Amusement": {"12": 0.50, "6": 0.35, "part": 0.35, "jaw": 0.20},
    "Anxiety": {},
    "Disgust": {"9": 0.45, "10": 0.40},
    "Empathic-Pain": {"4": 0.14, "15": 0.14, "7": 0.10},
    "Fear": {"1": 0.10, "2": 0.06, "20": 0.14, "lid": -0.10},
    "Surprise": {"1": 0.30, "2": 0.30, "jaw": 0.60, "lid": -0.25},
}
"""Emotion -> channel -> share of a full expression at an intensity of 1."""
VOICES = {
    "Amusement": (0.35, 0.5, 0.8),
    "Anxiety": (0.30, 0.0, 0.6),
    "Empathic-Pain": (-0.30, -0.5, -0.5),
    "Fear": (0.50, 0.4, 0.5),
    "Surprise": (0.60, 0.5, -0.1),
}
"""Emotion -> octaves of pitch, loudness and rate at an intensity of 1; the others are not heard."""
ROOM = 0.65  # of a full expression: what a zone of skin leaves to reactions, so that it never folds
FIDGETS = ("1", "4", "7", "10", "12L", "14R", "15", "17", "23")  # movements that mean nothing

# Of the normal numbers behind the ratings, chosen so that the ratings correlate as is printed;
# above the diagonal, row by row.
_LATENT = (
    *(0.52, -0.42, -0.30, -0.26, -0.55, -0.21, -0.60, -0.40, -0.49, -0.76, 0.00),
    *(0.44, 0.56, 0.91, 0.59, 0.60, 0.45, 0.43, 0.51, 0.37, 0.54),
)
_SKEW = 3.4  # makes their mean 0.37, as printed
_UNITS = ("1", "2", "4", "5", "6", "7", "9", "10", "12", "14", "15", "17", "20", "23", "25", "26")
INTENSITIES = (*_UNITS, "45")
PRESENCES = (*_UNITS, "28", "45")  # OpenFace tells whether 28 is there, and not how strong


@dataclass(frozen=True)
class Dials(Dialled):
    """What can be turned.

    Attributes:
        fps: Frames a second.
        frames: Fewest and most frames of a clip, uniform between.
        share: Share of a clip's frames in which the reaction shows.
        apex: Where an event is strongest, least and most, as a share of its frames: 1 is its end.
        au_sd: Standard deviation of the detector's error in each frame, on the scale of 0 to 5;
            half as much is kept for a whole clip.
        report_sd: Standard deviation of what people add to their own rating, on the normal numbers
            behind it: what is shown is not quite what is said.
        seen: Factor on what the face shows.
        heard: Factor on what the voice does.
        fidgets: Mean number of movements that mean nothing, per second.
        size: Side of the frames, px.
        noise_sd: Standard deviation of the camera's noise, where white is 1.

    Raises:
        BadInput: A dial out of its range.
    """

    fps: Annotated[float, 5, 60] = 10.0
    frames: Annotated[tuple[int, int], 8, 10_000] = (40, 160)
    share: Annotated[float, 0.01, 0.9] = 0.25
    apex: Annotated[tuple[float, float], 0, 1] = (0.2, 0.5)
    au_sd: Annotated[float, 0, 5] = 1.0
    report_sd: Annotated[float, 0, 2] = 0.6
    seen: Annotated[float, 0, 1] = 0.6
    heard: Annotated[float, 0, 3] = 1.8
    fidgets: Annotated[float, 0, 5] = 0.3
    size: Annotated[int, 32, 256] = 48
    noise_sd: Annotated[float, 0, 0.2] = 0.004


@dataclass(frozen=True, eq=False)
class Reaction(Scene):
    """One clip before it is rendered; its events of kind "macro" are the reaction's.

    Attributes:
        local: float32 (T, 35), what the detector of action units says: 17 intensities
            (`INTENSITIES`) from 0 to 5, then 18 presences (`PRESENCES`), 0 or 1.
    """

    local: torch.Tensor


class Benchmark(NamedTuple):
    """The clips of one seed.

    Attributes:
        clips: A row a clip: dataset, clip, subject, split, n_frames, fps, and the seven
            intensities.
        events: A row an event of a reaction: clip, onset, apex, offset; 0-based, inclusive.
        scripts: Clip -> all that makes it.
    """

    clips: pd.DataFrame
    events: pd.DataFrame
    scripts: Mapping[str, tuple]

    def scene(self, clip: str) -> Reaction:
        """The person in a clip, what happens, what is heard; the same each time.

        Raises:
            BadInput: No clip of that name.
        """
        check_choice("clip", clip, self.scripts)
        return _scene(*self.scripts[clip])


def clips(
    n_subjects: int, per_subject: int, seed: int, *, split: str = "train", **dials
) -> Benchmark:
    """The clips of one seed; the same arguments give the same ones.

    Args:
        n_subjects: Number of people.
        per_subject: Clips of each.
        seed: Random seed; another seed draws other people and reactions. Tuning uses seeds from
            1000 on.
        split: Name of the split, such as "train" or "test"; another name draws other people.
        dials: Dials to turn, fields of `Dials`.

    Raises:
        BadInput: A dial out of range.
    """
    every, rows, events, scripts = Dials(**dials), [], [], {}
    for number, k in product(range(n_subjects), range(per_subject)):
        key, subject = (split, seed, number, k), f"{split}{number:03d}"
        name, rng = f"{subject}_{k}", stream("reactions", *key, "script")
        said, shown = ratings(rng, every.report_sd)
        T = int(rng.integers(every.frames[0], every.frames[1] + 1))
        own = _events(rng, T, every, shown)
        scripts[name] = (every, key, T, own, shown)
        rows.append([f"synthetic-{split}", name, subject, split, T, every.fps, *said.tolist()])
        events += [(name, e.onset, e.apex, e.offset) for e in own]
    columns = ["dataset", "clip", "subject", "split", "n_frames", "fps", *EMOTIONS]
    table = pd.DataFrame(events, columns=["clip", "onset", "apex", "offset"])
    return Benchmark(pd.DataFrame(rows, columns=columns), table, scripts)


def ratings(rng: np.random.Generator, report_sd: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """What one person says, and what shows: float64 (7,) each, in [0, 1], the largest 1."""
    latent = np.eye(len(EMOTIONS))
    latent[np.triu_indices(len(EMOTIONS), 1)] = _LATENT
    latent += np.triu(latent, 1).T
    felt = np.linalg.cholesky(latent) @ rng.standard_normal(len(EMOTIONS))
    added = report_sd * rng.standard_normal(len(EMOTIONS))
    both = [ndtr(z) ** _SKEW for z in ((felt + added) / np.hypot(1, report_sd), felt)]
    return tuple(values / values.max() for values in both)


def _events(rng: np.random.Generator, T: int, dials: Dials, shown: np.ndarray) -> list[Event]:
    """One to three events that fill the share of the clip, apart from each other."""
    total = max(3, round(dials.share * T))
    n = int(rng.integers(1, 1 + max(1, min(3, total // 4))))
    lengths = np.maximum(3, np.diff(np.floor(np.linspace(0, total, n + 1)))).astype(int)
    rest = max(T - lengths.sum(), 0)
    gaps, frame, events = (rest * rng.dirichlet(np.ones(n + 1))).astype(int), 0, []
    person = np.exp(0.25 * rng.standard_normal())
    for gap, length in zip(gaps, lengths, strict=False):
        onset, frame = frame + gap, frame + gap + length
        apex = onset + round(rng.uniform(*dials.apex) * (length - 1))
        hold = round(0.3 * (length - 1 - (apex - onset)))
        weights = _display(shown * dials.seen * person * rng.uniform(0.75, 1.25))
        events.append(Event(onset, apex, frame - 1, weights, FULL, "macro", hold=hold))
    return events


def _display(intensity: np.ndarray) -> tuple[tuple[str, float], ...]:
    """Channel and weight of an event; a face that would fold over shows all of it less."""
    total: dict[str, float] = {}
    for emotion, value in zip(EMOTIONS, intensity, strict=True):
        for channel, share in FACES[emotion].items():
            total[channel] = total.get(channel, 0.0) + share * value
    zones = [sum(v for c, v in total.items() if c in zone) for zone in ZONES.values()]
    scale = min(1.0, ROOM / max(*zones, 1e-9))
    return tuple((channel, value * scale) for channel, value in total.items())


def _scene(dials: Dials, key: tuple, T: int, events: list[Event], shown: np.ndarray) -> Reaction:
    split, seed, subject, _ = key
    face = grey_face(Identity.draw(subject, split=f"reactions-{split}", run_seed=seed), dials.size)
    rng = stream("reactions", *key, "noise")
    aside = {"per_s": dials.fidgets, "muscles": FIDGETS, "strongest": 0.35}
    every = [*events, *fidgets(rng, T, dials.fps, **aside)]
    nuisance = Nuisance(sway=(0.003, 0.003), blink_rate=0.2, noise_sd=dials.noise_sd)
    own = int(rng.integers(2**31))
    play = perform(T, dials.fps, every, nuisance=nuisance, seed=own)
    active = play.envelope[:, : len(events)].sum(1).numpy()  # (T,), events do not overlap
    tones = np.zeros(3)
    for emotion, octaves in VOICES.items():
        tones += dials.heard * shown[EMOTIONS.index(emotion)] * np.array(octaves)
    talks = np.clip(np.repeat(rng.random(T // 15 + 1) < 0.5, 15)[:T] + active, 0, 1)
    voice = dict(zip(("pitch", "loudness", "rate"), tones[:, None] * active, strict=True))
    speech = speak(face.identity, T, dials.fps, speaking=talks, seed=own, **voice)
    # A detector sees the face before the mouth talks: its own error is enough.
    return Reaction(face, talking(play, speech), speech, _detected(play, dials.au_sd, rng))


def _detected(play: Performance, sd: float, rng: np.random.Generator) -> torch.Tensor:
    """What a detector of action units makes of a face, float32 (T, 35)."""
    values = {name: play.au[:, k] / FULL for k, name in enumerate(AUS)}
    for both in ("12", "14"):
        values[both] = values[both] + (values[f"{both}L"] + values[f"{both}R"]) / 2
    values |= {"5": -play.lid / 0.34, "25": play.part / 0.05, "26": play.jaw / 0.11}
    values["45"] = play.blink
    true = 5 * torch.stack([values[name] for name in INTENSITIES], 1).clamp(0, 1)  # (T, 17)
    error = rng.standard_normal(true.shape) + 0.5 * rng.standard_normal(true.shape[1])
    noisy = (true + torch.from_numpy(sd * error).float()).clamp(0, 5)
    there = (noisy > 1).float()  # (T, 17)
    bitten = there.new_zeros(len(there), 1)  # unit 28, which no actor shows
    return torch.cat([noisy, there[:, :-1], bitten, there[:, -1:]], 1)
