"""The actor's voice: a buzz through three resonances, cut into syllables; no words.

Source and filter, the textbook model of speech: pulses of the vocal folds at the pitch f0, with
some breath, pass three formants. Syllables open and close the mouth; `Speech.opening` says how far,
so that a face can move with its voice. What an emotion does to a voice is given from outside, frame
by frame, as pitch, loudness and rate: a task decides what they say.

Pitch and formants follow the person, as they do in people: a lower voice comes with a longer vocal
tract. The same arguments give the same sound on one machine.
"""

from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter

from micromacro.errors import BadInput
from micromacro.synthetic.identity import Identity, stream

FORMANTS_HZ, BANDWIDTHS_HZ = ((450, 650), (1100, 1700), (2500, 2500)), (90, 120, 200)
RATE_HZ = (3.2, 5.0)  # syllables a second
NOISE = 0.003  # of the microphone; the voice itself is about 0.1


class Speech(NamedTuple):
    """Sound and the mouth that makes it.

    Attributes:
        sound: float32 (samples,) in [-1, 1], mono.
        opening: float32 (T,) in [0, 1]: how open the mouth is in the middle of each video frame.
    """

    sound: np.ndarray
    opening: np.ndarray


def speak(
    identity: Identity,
    n_frames: int,
    fps: float,
    *,
    speaking: np.ndarray | float = 1.0,
    pitch: np.ndarray | float = 0.0,
    loudness: np.ndarray | float = 0.0,
    rate: np.ndarray | float = 0.0,
    tract: float = 1.0,
    sr_hz: int = 16000,
    seed: int = 0,
) -> Speech:
    """Let a person speak for as long as a video lasts.

    Args:
        identity: Who speaks; pitch and formants follow its femininity.
        n_frames: Number of video frames T, 0 or more.
        fps: Video frames a second.
        speaking: (T,) or one number, 0 silent to 1 speaking.
        pitch: (T,) or one number, octaves above the person's own pitch.
        loudness: (T,) or one number, octaves above the usual amplitude of 0.1.
        rate: (T,) or one number, octaves above the person's own number of syllables a second.
        tract: Factor on the length of the vocal tract; formants are divided by it.
        sr_hz: Samples a second, 8000 or more.
        seed: Random seed of the clip, at least 0; another seed draws other syllables and breath.

    Returns:
        Sound of round(T / fps * sr_hz) samples, and how open the mouth is.

    Raises:
        BadInput: A negative number of frames, a sampling rate that is too low, curves of another
            length or with values that are not finite.
    """
    if n_frames < 0 or fps <= 0 or sr_hz < 8000:
        fault = f"n_frames={n_frames}, fps={fps}, sr_hz={sr_hz}"
        raise BadInput(fault, "cannot be spoken", "give 0 frames or more, fps > 0, 8000 Hz or more")
    n = round(n_frames / fps * sr_hz)
    t = (np.arange(n) + 0.5) / sr_hz * fps - 0.5  # in video frames; a frame's middle is whole

    def curve(name: str, values: np.ndarray | float) -> np.ndarray:
        values = np.asarray(values, float)
        if values.shape not in ((), (n_frames,)) or not np.isfinite(values).all():
            fault = f"has shape {values.shape}, or is not finite"
            raise BadInput(name, fault, f"give ({n_frames},)")
        return np.interp(t, np.arange(n_frames), np.broadcast_to(values, n_frames))

    if not n:
        return Speech(np.zeros(0, np.float32), np.zeros(n_frames, np.float32))
    own = stream("voice", *identity.seed)  # traits: the same in every clip
    syllable_hz, formants = own.uniform(*RATE_HZ), [own.uniform(*f) for f in FORMANTS_HZ]
    f0_hz = 115 * 2 ** (0.85 * identity.femininity + 0.15 * own.standard_normal())
    tract = tract / (1 + 0.12 * identity.femininity)
    rng = stream("voice clip", seed, *identity.seed)
    steps = rng.standard_normal(n_frames + 1)  # the melody wanders from frame to frame
    melody = lfilter([0.4], [1, -0.85], steps)[:n_frames]
    octaves = curve("pitch", pitch) + 0.08 * curve("melody", melody)
    cycles = np.cumsum(f0_hz * 2**octaves) / sr_hz + rng.random()
    pulses = np.diff(np.floor(cycles), prepend=np.floor(cycles[:1]))
    source = pulses * np.sqrt(sr_hz / f0_hz) * 0.3 + 0.03 * rng.standard_normal(n)
    for centre, width in zip(formants, BANDWIDTHS_HZ, strict=True):
        radius, angle = np.exp(-np.pi * width / sr_hz), 2 * np.pi * centre / tract / sr_hz
        poles = [1, -2 * radius * np.cos(angle), radius**2]
        source = lfilter([sum(poles)], poles, source)  # a gain of 1 at 0 Hz
    syllables = np.cumsum(syllable_hz * 2 ** curve("rate", rate)) / sr_hz + rng.random()
    opening = curve("speaking", speaking).clip(0, 1) * np.sin(np.pi * syllables) ** 2
    source *= opening * 0.1 * 2 ** curve("loudness", loudness) / max(source.std(), 1e-9)
    sound = np.clip(source + NOISE * rng.standard_normal(n), -1, 1).astype(np.float32)
    middles = np.interp(np.arange(n_frames), t, opening)
    return Speech(sound, middles.astype(np.float32))
