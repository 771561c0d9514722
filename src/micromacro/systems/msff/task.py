"""The benchmark's film task: seven emotions, seen and heard, in clips as short as AFEW's.

A clip shows one synthetic person at 16 frames a second; its length has the spread of AFEW's. What
tells the emotion is spread over what the paper's four networks can see:

==================  ====================================================  ==========================
emotions            face                                                  voice
==================  ====================================================  ==========================
Happy, Sad          a look of their own, in any single frame              each emotion but Neutral
Neutral             a face at rest                                        has its own pitch,
Fear, Surprise      one look: wide eyes and open mouth, in two phases;    loudness and rate, beside
                    Surprise is eyes then mouth, Fear the same reversed   the person's own
Angry, Disgust      one look with a moving brow: Angry four to five
                    times a second, Disgust once in two, equally far
==================  ====================================================  ==========================

Both emotions of a pair show the same frames in another order (a slow brow meets other moments of
the rise and fall; lips follow the voice), so whatever forgets their order cannot tell them apart.
In a share of the clips the face hides what is felt, in a share the voice does. A voice is
*redundant* where it hides and shows just what the face does.

Positive controls, which hold by construction: order and speed of frames tell the pairs apart to
those who can see them; sound adds to pictures, and less where it is redundant. Open is whether the
networks learn this from as few clips as AFEW has, whether recurrent networks see the fast motion
too, and what a fusion makes of it.

Classes come in AFEW's numbers for training and validation. The tested clips are as many of each
class: accuracy at any prior follows from their recalls. Every clip comes from explicit streams;
nothing is rendered before it is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import torch

from micromacro.errors import BadInput, Dialled, check_choice
from micromacro.synthetic import AUS, NUISANCES, Event, Identity, Performance, perform
from micromacro.synthetic.identity import stream
from micromacro.synthetic.performance import envelope
from micromacro.synthetic.scene import Scene, fidgets, grey_face, talking
from micromacro.synthetic.script import FULL
from micromacro.synthetic.voice import Speech, speak
from micromacro.systems.msff.model import EMOTIONS

PRIORS = {
    "train": (133, 74, 81, 150, 144, 117, 74),
    "val": (64, 40, 46, 63, 63, 61, 46),
    "test": (98, 40, 70, 144, 193, 80, 28),
}
"""Split -> AFEW's clips of each emotion, in the order of `EMOTIONS`; test as it was in 2017."""
ORDER, SPEED, STATIC = ("Fear", "Surprise"), ("Angry", "Disgust"), ("Happy", "Neutral", "Sad")

_EYES, _MOUTH = {"1": 0.4, "2": 0.4, "lid": -0.3}, {"jaw": 0.8, "10": 0.1, "part": 0.1}
_TENSE = {"9": 0.4, "10": 0.3, "7": 0.2}
EXPRESSIONS: dict[str, tuple[tuple[dict[str, float], ...], tuple[float, float, float]]] = {
    "Angry": ((_TENSE,), (0.15, 0.8, 0.3)),
    "Disgust": ((_TENSE,), (-0.25, 0.1, -0.5)),
    "Fear": ((_EYES, _MOUTH), (0.5, 0.1, 0.6)),
    "Happy": (({"12": 0.55, "6": 0.3, "part": 0.25},), (0.35, 0.5, 0.4)),
    "Neutral": ((), (0.0, 0.0, 0.0)),
    "Sad": (({"1": 0.35, "15": 0.4, "17": 0.25, "lid": 0.12},), (-0.3, -0.7, -0.5)),
    "Surprise": ((_EYES, _MOUTH), (0.6, 0.6, -0.1)),
}
"""Emotion -> phases of the face, channel -> share of a full expression; and octaves of pitch,
loudness and rate of a voice that shows all of it."""
OWN, OWN_SHARE = {"Angry": "23", "Disgust": "15", "Fear": "20", "Surprise": "17"}, 0.35
"""Emotion of a pair -> the channel that sets its look apart, as `appearance` is turned up."""
BROW, BROW_SWING = "4", 0.5  # moves between 0 and this share of a full expression
FAST_HZ, SLOW_HZ = (4.0, 5.3), (0.4, 0.6)
FIDGETS = ("1", "7", "10", "12L", "14R", "15", "17", "23")  # movements that mean nothing
SPREAD = 0.38  # of the natural logarithm of a clip's length; AFEW's
STRENGTH = (0.4, 1.0)  # of an expression and of a tone of voice


@dataclass(frozen=True)
class Dials(Dialled):
    """What can be turned.

    Attributes:
        fps: Frames a second.
        frames: Fewest and most frames of a clip.
        median: Of the frames of a clip.
        seen: Factor on what the face shows.
        appearance: How far the two emotions of a pair differ in single frames; 0, not at all.
        order: Share of the clips of Fear and Surprise whose order of phases tells; else it is a
            coin's.
        speed: Share of the clips of Angry and Disgust whose speed of the brow tells.
        heard: Factor on what the voice shows.
        voice_sd: Standard deviation of what a voice does in a clip for other reasons, octaves.
        hidden: Share of the clips whose face shows nothing; as large the share whose voice does.
        redundancy: Share of the clips whose voice is redundant.
        blank: Share of the clips in which no face is found.
        fidgets: Mean number of movements that mean nothing, per second.
        size: Side of the frames, px.

    Raises:
        BadInput: A dial out of its range.
    """

    fps: Annotated[float, 12, 60] = 16.0
    frames: Annotated[tuple[int, int], 12, 1000] = (12, 170)
    median: Annotated[float, 12, 1000] = 40.0
    seen: Annotated[float, 0, 1] = 0.85
    appearance: Annotated[float, 0, 1] = 0.0
    order: Annotated[float, 0, 1] = 1.0
    speed: Annotated[float, 0, 1] = 1.0
    heard: Annotated[float, 0, 2] = 1.0
    voice_sd: Annotated[float, 0, 1] = 0.1
    hidden: Annotated[float, 0, 1] = 0.15
    redundancy: Annotated[float, 0, 1] = 0.5
    blank: Annotated[float, 0, 1] = 0.05
    fidgets: Annotated[float, 0, 5] = 0.3
    size: Annotated[int, 32, 256] = 48


class Script(NamedTuple):
    """All that makes one clip.

    Attributes:
        key: Split, seed, subject and number of the clip, which name its streams.
        emotion: What is felt, a name of `EMOTIONS`.
        n_frames: T.
        face: Strength of what the face shows; 0 hides it.
        voice: The same of a voice that is not redundant.
        copied: Uniform number; the voice is redundant where it is below the redundancy.
        dials: Of the benchmark.
    """

    key: tuple[str, int, int, int]
    emotion: str
    n_frames: int
    face: float
    voice: float
    copied: float
    dials: Dials

    def stream(self, what: str) -> np.random.Generator:
        """A random stream of the clip."""
        return stream("film", *self.key, what)

    def strength(self, redundancy: float) -> float:
        """What the voice shows of the emotion, 0 to 1."""
        return self.face if self.copied < redundancy else self.voice


class Benchmark(NamedTuple):
    """The clips of one split and seed.

    Attributes:
        clips: A row a clip: dataset, clip, subject, split, n_frames, fps, emotion, label (its place
            in `EMOTIONS`), face and voice (what they show, 0 to 1), blank (whether no face is
            found).
        scripts: Clip -> all that makes it.
    """

    clips: pd.DataFrame
    scripts: Mapping[str, Script]

    def scene(self, clip: str) -> Scene:
        """The person in a clip, what happens, what is heard; the same each time.

        Raises:
            BadInput: No clip of that name.
        """
        check_choice("clip", clip, self.scripts)
        return _scene(self.scripts[clip])

    def dubbed(self, clip: str, redundancy: float | None) -> np.ndarray:
        """The sound of a clip, float32 (samples,) at 16 kHz, as another redundancy would make it.

        None is its own. The face stays, and its mouth moves with the first voice, as in a dubbed
        film.

        Raises:
            BadInput: No clip of that name.
        """
        check_choice("clip", clip, self.scripts)
        script = self.scripts[clip]
        own = script.dials.redundancy if redundancy is None else redundancy
        return _voice(script, _who(script.key), own).sound


def clips(
    counts: Sequence[int], seed: int, *, split: str = "train", per_subject: int = 6, **dials
) -> Benchmark:
    """The clips of one split and seed; the same arguments give the same ones.

    Args:
        counts: Clips of each emotion, in the order of `EMOTIONS`, such as ``PRIORS["train"]``.
        seed: Random seed; another seed draws other people and clips. Tuning uses seeds from 1000
            on.
        split: Name of the split, such as "train" or "test"; another name draws other people.
        per_subject: Clips of each person; the last may have fewer.
        dials: Dials to turn, fields of `Dials`.

    Raises:
        BadInput: Not seven numbers of clips; a dial out of range.
    """
    if len(counts) != len(EMOTIONS) or min(counts) < 0 or per_subject < 1:
        remedy = f"give {len(EMOTIONS)} numbers of clips, and 1 clip of each person or more"
        raise BadInput(f"counts={counts}, per_subject={per_subject}", "out of range", remedy)
    every, rows, scripts = Dials(**dials), [], {}
    labels = np.repeat(np.arange(len(EMOTIONS)), counts)
    labels = stream("film", split, seed, 0, 0, "classes").permutation(labels)
    for k, label in enumerate(labels.tolist()):
        key = (split, seed, *divmod(k, per_subject))
        rng, subject = stream("film", *key, "script"), f"{split}{key[2]:03d}"
        length = round(every.median * np.exp(SPREAD * rng.standard_normal()))
        T = int(np.clip(length, *every.frames))
        strengths = rng.uniform(*STRENGTH, 2) * (rng.random(2) >= every.hidden)
        copied, blank = rng.random(), rng.random() < every.blank
        script = Script(key, EMOTIONS[label], T, *strengths.tolist(), copied, every)
        scripts[name := f"{subject}_{key[3]}"] = script
        about = f"synthetic-{split}", name, subject, split, T, every.fps, EMOTIONS[label], label
        rows.append([*about, script.face, script.strength(every.redundancy), blank])
    columns = ["dataset", "clip", "subject", "split", "n_frames", "fps", "emotion", "label"]
    return Benchmark(pd.DataFrame(rows, columns=[*columns, "face", "voice", "blank"]), scripts)


def _who(key: tuple) -> Identity:
    split, seed, subject, _ = key
    return Identity.draw(subject, split=f"film-{split}", run_seed=seed)


def _scene(script: Script) -> Scene:
    dials, T, rng = script.dials, script.n_frames, script.stream("play")
    who = _who(script.key)
    events = _expression(rng, script)
    own = int(rng.integers(2**31))
    aside = {"per_s": dials.fidgets, "muscles": FIDGETS, "strongest": 0.3}
    every = [*events, *fidgets(script.stream("fidgets"), T, dials.fps, **aside)]
    speech = _voice(script, who, dials.redundancy)
    play = talking(perform(T, dials.fps, every, nuisance=NUISANCES["easy"], seed=own), speech)
    if script.emotion in SPEED:
        au = play.au.clone()
        au[:, AUS.index(BROW)] += _swing(script.stream("brow"), script, play, events)  # (T,)
        play = replace(play, au=au)
    return Scene(grey_face(who, dials.size), play, speech)


def _expression(rng: np.random.Generator, script: Script) -> list[Event]:
    """The emotion's phases, one after the other, overlapping; they take most of the clip."""
    dials, T, emotion = script.dials, script.n_frames, script.emotion
    length = max(8, round(T * rng.uniform(0.6, 0.95)))
    start, tells, coin = int(rng.integers(T - length + 1)), rng.random() < dials.order, rng.random()
    phases, events = EXPRESSIONS[emotion][0], []
    for k, look in enumerate(phases):
        n = length if len(phases) == 1 else round(0.6 * length)
        onset = start if k == 0 else start + length - n
        apex = onset + round(rng.uniform(0.25, 0.45) * (n - 1))
        hold = round(rng.uniform(0.1, 0.3) * (n - 1))
        if emotion in OWN:
            look = look | {OWN[emotion]: dials.appearance * OWN_SHARE}
        factor = rng.uniform(0.85, 1.15, len(look)) * script.face * dials.seen
        aus = tuple((c, w * f) for (c, w), f in zip(look.items(), factor, strict=True))
        events.append(Event(onset, apex, onset + n - 1, aus, FULL, "macro", emotion, hold))
    backwards = emotion == "Fear" if tells else coin < 0.5
    return [_reversed(event, T) for event in events] if backwards and emotion in ORDER else events


def _reversed(event: Event, T: int) -> Event:
    """The same event in a clip that is played backwards."""
    frames = event.offset, event.apex + event.hold, event.onset
    onset, apex, offset = (T - 1 - frame for frame in frames)
    return replace(event, onset=onset, apex=apex, offset=offset)


def _swing(rng, script: Script, play: Performance, events: Sequence[Event]) -> torch.Tensor:
    """Displacement of the moving brow, float32 (T,), face units."""
    dials, (event,) = script.dials, events
    tells, coin = rng.random() < dials.speed, rng.random()
    fast = script.emotion == "Angry" if tells else coin < 0.5
    place, phase = rng.random(2)
    shown = envelope(event, script.n_frames)
    quick, slow = (
        shown * (0.5 + 0.5 * torch.sin(2 * np.pi * ((a + place * (b - a)) * play.t_s + phase)))
        for a, b in (FAST_HZ, SLOW_HZ)
    )
    # The slow brow passes the very places of the fast one, so that no set of frames tells them
    # apart.
    wave = quick if fast else quick.sort().values[slow.argsort().argsort()]
    return BROW_SWING * FULL * script.face * dials.seen * wave.float()


def _voice(script: Script, who: Identity, redundancy: float) -> Speech:
    dials, T, rng = script.dials, script.n_frames, script.stream("voice")
    talks = np.repeat(rng.random(T // 8 + 1) < 0.85, 8)[:T].astype(float)
    tones = dials.heard * script.strength(redundancy) * np.array(EXPRESSIONS[script.emotion][1])
    tones = tones + dials.voice_sd * rng.standard_normal(3)
    voice = dict(zip(("pitch", "loudness", "rate"), tones.tolist(), strict=True))
    return speak(who, T, dials.fps, speaking=talks, seed=int(rng.integers(2**31)), **voice)
