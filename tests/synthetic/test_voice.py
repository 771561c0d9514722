"""The voice against a pitch tracker, its own syllables and closed forms."""

import librosa
import numpy as np
import pytest
from refusals import refused

from micromacro.synthetic import Identity
from micromacro.synthetic.voice import speak

SR = 16000


def pitch_hz(sound: np.ndarray) -> float:
    """Median pitch of the loud half of a sound, by librosa's YIN."""
    loud = librosa.feature.rms(y=sound, frame_length=2048, hop_length=512)[0]
    f0 = librosa.yin(sound, fmin=60, fmax=500, sr=SR, frame_length=2048, hop_length=512)
    return float(np.median(f0[: len(loud)][loud > np.median(loud)]))


def voice(k: int = 3, n_frames: int = 90, **options):
    return speak(Identity.draw(k), n_frames, 30.0, seed=k, **options)


@pytest.mark.parametrize("octaves", [-0.3, 0.5])
def test_pitch_is_what_was_asked_for(octaves):
    for k in (0, 3):
        ratio = pitch_hz(voice(k, pitch=octaves).sound) / pitch_hz(voice(k).sound)
        assert ratio == pytest.approx(2**octaves, rel=0.06), k
    rising = voice(n_frames=180, pitch=np.linspace(0, 0.8, 180)).sound
    assert pitch_hz(rising[-SR:]) > 1.3 * pitch_hz(rising[:SR])


def test_higher_voices_belong_to_more_feminine_people():
    people = [Identity.draw(k) for k in range(16)]
    f0 = [pitch_hz(speak(who, 60, 30.0, seed=1).sound) for who in people]
    assert np.corrcoef([who.femininity for who in people], np.log(f0))[0, 1] > 0.7


def test_loudness_and_rate():
    plain, loud, fast = voice(), voice(loudness=1.0), voice(rate=0.7)
    quiet = plain.sound.std()
    assert loud.sound.std() == pytest.approx(2 * quiet, rel=0.05)

    def n_syllables(speech) -> int:
        inner = speech.opening[1:-1]
        return int(((inner > speech.opening[:-2]) & (inner > speech.opening[2:])).sum())

    assert n_syllables(fast) == pytest.approx(2**0.7 * n_syllables(plain), abs=1.5)


def test_a_longer_tract_lowers_the_formants():
    def centroid(speech) -> float:
        return float(librosa.feature.spectral_centroid(y=speech.sound, sr=SR).mean())

    assert centroid(voice(tract=1.25)) < 0.95 * centroid(voice()) < centroid(voice(tract=0.8))


def test_mouth_and_sound_go_together_and_silence_is_silent():
    speaking = np.repeat([0.0, 1.0, 0.0], 40)
    speech = voice(n_frames=120, speaking=speaking)
    per_frame = speech.sound[: 120 * 533].reshape(-1, 533)[:120].std(1)
    assert np.corrcoef(per_frame, speech.opening)[0, 1] > 0.7
    assert np.abs(speech.opening[:39]).max() == 0
    assert speech.sound[: 38 * 533].std() < 0.005 < speech.sound[50 * 533 : 70 * 533].std()


@pytest.mark.parametrize(("n_frames", "fps"), [(0, 30.0), (1, 30.0), (7, 29.97), (50, 10.0)])
def test_any_length(n_frames, fps):
    speech = speak(Identity.draw(0), n_frames, fps)
    assert speech.sound.shape == (round(n_frames / fps * SR),)
    assert speech.opening.shape == (n_frames,)
    assert speech.sound.dtype == speech.opening.dtype == np.float32
    assert np.isfinite(speech.sound).all()
    assert ((speech.opening >= 0) & (speech.opening <= 1)).all()


def test_seeds():
    one, same, other = voice(), voice(), speak(Identity.draw(3), 90, 30.0, seed=4)
    assert np.array_equal(one.sound, same.sound)
    assert not np.array_equal(one.sound, other.sound)
    assert pitch_hz(other.sound) == pytest.approx(pitch_hz(one.sound), rel=0.1)  # the same person
    assert not np.allclose(voice(3).opening, voice(5).opening)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_frames": -1}, ["n_frames=-1", "0 frames"]),
        ({"sr_hz": 100}, ["sr_hz=100", "8000"]),
        ({"pitch": np.zeros(4)}, ["pitch", "(4,)", "(90,)"]),
        ({"loudness": np.full(90, np.nan)}, ["loudness", "finite"]),
    ],
)
def test_what_cannot_be_spoken(options, words):
    refused(lambda: voice(**options), *words)
