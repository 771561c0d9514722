"""The valence-arousal task on the embedded benchmark, with dials for what the paper claims.

Each clip is one synthetic person at 30 frames per second. Two things happen on the face:

* **Macro-motion**: smiles (AU 12 and 6) and frowns (AU 15 and 4) of 24 to 60 frames and 0.6 to 1.8
  px of a 64-px face, on top of a *resting face* that differs from clip to clip about as much as the
  expressions do and drifts slowly. **Valence** is the expression alone. A single picture shows both
  and does not say which is which: whoever does not remember the last seconds takes a sad resting
  face for sadness.
* **Micro-motion**: bursts of movements of 4 to 10 frames on other muscles, peaks of 0.24 to 0.8 px,
  each muscle in a direction drawn at random. **Arousal** is the mean peak of the movements within
  the 13 frames of a snippet. They leave no trace in the mean picture.

Clips are cut out of longer plays, so that nothing special happens at their ends. `Dials` set the
light, from constant to that of a hard recording, and the camera's curve, and turn the script's
labels into those of people who watch: later than the face, and with an error. By default raters are
perfect.

What holds by construction, and is a positive control in notebook 04b: that arousal is in motion and
not in a single picture, that a snippet of 13 frames is the right one for it, and that a longer
memory can only help valence. Whether a network finds any of it, through blinks, swaying heads,
talking jaws and sensor noise, is open.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated

import numpy as np
import torch

from micromacro.errors import Dialled, check_choice, check_sizes
from micromacro.synthetic.anatomy import AUS
from micromacro.synthetic.face import Face
from micromacro.synthetic.identity import Identity, stream
from micromacro.synthetic.nuisance import NUISANCES, Nuisance
from micromacro.synthetic.performance import Event, Performance, units
from micromacro.synthetic.script import macro_event, micro_event, perform

LABELS = ("valence", "arousal")
FPS = 30.0
FACE_PX = 64  # side of the rendered faces; the unit of every px below
SNIPPET_FRAMES = 13
HALF = SNIPPET_FRAMES // 2  # frames of a snippet before its centre, and after it
CLIP_STEPS = 32  # snippets in a clip of the experiments
STRIDE = 4  # frames from one snippet to the next: 16 of them replace the paper's 64, 2.1 s
PAD = 60  # frames of the play before and after what the clip shows
REST_SD, REST_MAX = units(0.64, FACE_PX), units(1.12, FACE_PX)
DRIFT_SD = units(0.10, FACE_PX)  # of the resting face, per second
MACRO_S, MACRO_PX = (0.8, 2.0), (0.6, 1.8)
MICRO_S, MICRO_PX = (4 / FPS, 10 / FPS), (0.3, 0.8)
SMILE, FROWN = (("12", 0.8), ("6", 0.3)), (("15", 0.8), ("4", 0.3))
MICRO_AUS = ("1", "2", "7", "9", "14", "17", "20", "23")
TALKING = 0.15  # share of clips in which the jaw moves as in speech


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips of one length with their labels, N of T frames.

    Attributes:
        frames: uint8 (N, T, FACE_PX, FACE_PX), grey.
        labels: float32 (N, T, 2), valence and arousal of every frame, in [-1, 1].
        person: int64 (N,), who it is; people of different splits and seeds never meet (below 1000
            people a seed).
    """

    frames: torch.Tensor
    labels: torch.Tensor
    person: torch.Tensor

    @property
    def centres(self) -> torch.Tensor:
        """int64 (S,), the centre frame of each snippet of the standard length."""
        return torch.arange(HALF, self.frames.shape[1] - HALF, STRIDE)


@dataclass(frozen=True)
class Dials(Dialled):
    """What can be turned; training and test may differ in the light, and are alike in all else.

    Attributes:
        illumination: 0, constant light, to 1, that of a hard recording.
        gamma: Exponent of the grey levels, white is 1. At 1 the camera is that of the stills on
            which the expression encoder was trained; above, mid-tones are darker. Rounded to 8 bits
            again, neighbouring levels become one: at 3, 158 of 256 are left.
        lag_s: Seconds by which the raters' labels come later than what they see.
        error_sd: Standard deviation of the raters' error, where labels go from -1 to 1. It is drawn
            anew for each clip and label, and wanders: its mean over a second of white noise.

    Raises:
        BadInput: A number off its dial; the longest lag is what a play has before its clip.
    """

    illumination: Annotated[float, 0, 1] = 0.5
    gamma: Annotated[float, 0.2, 5] = 1.0
    lag_s: Annotated[float, 0, 2] = 0.0
    error_sd: Annotated[float, 0, 1] = 0.0

    @property
    def nuisance(self) -> Nuisance:
        """What disturbs the recordings: all of "easy" but light, and so much of "hard" light."""
        easy, hard = NUISANCES["easy"], NUISANCES["hard"]
        return replace(
            easy,
            light=tuple(self.illumination * sd for sd in hard.light),
            gain=tuple(self.illumination * sd for sd in hard.gain),
            flicker=self.illumination * hard.flicker,
            shadow=tuple(self.illumination * depth for depth in hard.shadow),
        )

    def rate(self, labels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """The raters' labels for the script's, float32 (T, 2) each; void in the first `lag_s`."""
        labels, second = labels.roll(round(self.lag_s * FPS), 0), round(FPS)
        if not self.error_sd:
            return labels
        white = torch.from_numpy(rng.normal(size=(len(labels) + second - 1, 2)))
        error = self.error_sd * white.unfold(0, second, 1).sum(-1) / second**0.5  # (T, 2)
        return (labels + error).clamp(-1, 1).float()


STANDARD = Dials()


def n_frames(steps: int) -> int:
    """Frames of a clip of so many snippets."""
    return STRIDE * (steps - 1) + SNIPPET_FRAMES


@lru_cache(maxsize=2)
def record(
    seed: int, split: str, *, people: int, clips: int = 2, steps: int = 32, **dials: float
) -> Clips:
    """Record people; the same arguments give the same clips.

    Args:
        seed: Of the run: other people, other scripts. Tuning uses seeds from 1000 on.
        split: "train" or "test": other people.
        people: Number of persons.
        clips: Clips of each.
        steps: Snippets of each clip.
        dials: Fields of `Dials`.

    Raises:
        BadInput: An unknown split, or a number out of range.
    """
    check_choice("split", split, ("train", "test"))
    check_sizes(people=people, clips=clips, steps=steps)
    dials, frames, labels = Dials(**dials), [], []
    for person in range(people):
        face = Face(who(seed, split, person), size=FACE_PX, colour=False)
        for clip in range(clips):
            play, truth = script(seed, split, person, clip, n_frames(steps), dials)
            shown = face.render(play)[:, 0] ** dials.gamma
            frames.append(shown.mul(255).round_().to(torch.uint8))
            labels.append(truth)
    person = torch.arange(people).repeat_interleave(clips)
    return Clips(torch.stack(frames), torch.stack(labels), person)


def who(seed: int, split: str, person: int) -> Identity:
    """The person of that number."""
    return Identity.draw(1000 * seed + person, split=f"mimamo-{split}")


def script(
    seed: int, split: str, person: int, clip: int, T: int, dials: Dials = STANDARD
) -> tuple[Performance, torch.Tensor]:
    """What one clip shows, and its labels.

    Returns:
        The performance of T frames; float32 (T, 2), valence and arousal, [-1, 1].
    """
    rng = stream("mimamo", split, seed, person, clip)
    whole = T + 2 * PAD
    macro, micro = _macro(rng, whole), _micro(rng, whole)
    play = perform(
        whole, FPS, (*macro, *micro), nuisance=dials.nuisance, seed=int(rng.integers(2**31))
    )
    peaks = [event.peak if event.aus == SMILE else -event.peak for event in macro]
    strength = torch.tensor(peaks)
    smile = play.envelope[:, : len(macro)] @ strength
    play = _talk(rng, _rest(rng, play))
    labels = torch.stack([smile / units(MACRO_PX[1], FACE_PX), _arousal(micro, whole)], 1)
    labels = dials.rate(labels, stream("mimamo raters", split, seed, person, clip))
    return play[PAD : PAD + T], labels[PAD : PAD + T]


def _macro(rng: np.random.Generator, T: int) -> list[Event]:
    """Smiles and frowns with rests of 0.3 to 1.2 s between them."""
    events, frame = [], round(rng.uniform(-1.5, 0.5) * FPS)
    while True:
        duration = rng.uniform(*MACRO_S)
        peak, muscles = units(rng.uniform(*MACRO_PX), FACE_PX), (SMILE, FROWN)[rng.integers(2)]
        onset, frame = frame, frame + round((duration + rng.uniform(0.3, 1.2)) * FPS)
        if onset + round(duration * FPS) > T:
            return events
        if onset >= 0:
            shape = {"duration_s": duration, "peak": peak, "apex": rng.uniform(0.25, 0.5)}
            events.append(macro_event(onset, muscles, fps=FPS, **shape))


def _micro(rng: np.random.Generator, T: int) -> list[Event]:
    """Bursts of brief movements, 0.4 to 1.5 s, between calm stretches of the same length."""
    events, frame, busy = [], 0, bool(rng.integers(2))
    while frame < T:
        until = frame + round(rng.uniform(0.4, 1.5) * FPS)
        top = rng.uniform(MICRO_PX[0], MICRO_PX[1])
        while busy and frame < until:
            duration = rng.uniform(*MICRO_S)
            if frame + round(duration * FPS) > T:
                return events
            which = rng.choice(MICRO_AUS, 2, replace=False)
            muscles = [(str(au), float(rng.choice((-1, 1)) * rng.uniform(0.6, 1))) for au in which]
            peak = units(top * rng.uniform(0.8, 1), FACE_PX)
            events.append(micro_event(frame, muscles, fps=FPS, duration_s=duration, peak=peak))
            frame = events[-1].offset + 1 + int(rng.integers(0, 3))
        frame, busy = max(frame, until), not busy
    return events


def _arousal(micro: list[Event], T: int) -> torch.Tensor:
    """Mean over the 13 frames around each frame of the peak of the movement there, to [-1, 1]."""
    strength = torch.zeros(T)
    for event in micro:
        strength[event.onset : event.offset + 1] = event.peak / units(MICRO_PX[1], FACE_PX)
    padded = torch.nn.functional.pad(strength[None], (HALF, HALF))
    return 2 * padded.unfold(-1, SNIPPET_FRAMES, 1).mean(-1)[0] - 1


def _rest(rng: np.random.Generator, play: Performance) -> Performance:
    """Put the slowly drifting resting face under the expressions."""
    level = rng.normal(0, REST_SD) + rng.normal(0, DRIFT_SD) * (play.t_s - play.t_s.mean())
    level, au = level.clamp(-REST_MAX, REST_MAX).float(), play.au.clone()
    for sign, muscles in ((1, SMILE), (-1, FROWN)):
        for name, weight in muscles:
            au[:, AUS.index(name)] += weight * (sign * level).clamp(min=0)
    return replace(play, au=au)


def _talk(rng: np.random.Generator, play: Performance) -> Performance:
    """Let the jaw go up and down at 3 to 5 Hz in some clips."""
    talking, rate, start = rng.random() < TALKING, rng.uniform(3, 5), rng.uniform(0, 2 * np.pi)
    if not talking:
        return play
    opening = (1 + torch.sin(2 * np.pi * rate * play.t_s + start)).float() / 2
    return replace(play, jaw=play.jaw + units(1.0, FACE_PX) * opening)
