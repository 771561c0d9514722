"""Sound: sines with known pitch, phase and length, written by wave and by PyAV's AAC encoder.

Its features: against librosa's, at known times, and the released layout step by step.
"""

import wave
from pathlib import Path

import av
import librosa
import numpy as np
import pytest
from refusals import refused
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from micromacro.audio import legacy_mfcc_layout, log_mel, mfcc, read_audio
from micromacro.video import write_video

REAL = Path(__file__).parents[2] / "shared" / "data" / "real"
SR_HZ, N, PITCH_HZ = 44_100, 2 * 44_100 + 123, 440.0


def sine(channels: int = 1, gain: float = 0.5, n: int = N) -> np.ndarray:
    """float32 (channels, n)."""
    one = gain * np.sin(2 * np.pi * PITCH_HZ * np.arange(n) / SR_HZ)
    return np.tile(one, (channels, 1)).astype(np.float32)


def write_wav(path: Path, sound: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(sound))
        file.setsampwidth(2)
        file.setframerate(SR_HZ)
        file.writeframes(np.rint(sound.T * 32767).astype("<i2").tobytes())


def encode(path: Path, sound: np.ndarray, codec="aac", picture=False, container=None, **options):
    """Sound (channels, n) by PyAV, beside ten black pictures if asked for."""
    with av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream(codec, rate=SR_HZ, options=options)
        stream.codec_context.qscale = "q" in options
        stream.layout = layout = "mono" if len(sound) == 1 else "stereo"
        if picture:
            video = out.add_stream("libx264", rate=25)
            video.height, video.width, video.pix_fmt = 32, 48, "yuv420p"
            black = np.zeros((32, 48, 3), np.uint8)
            for _ in range(10):
                out.mux(video.encode(av.VideoFrame.from_ndarray(black, format="rgb24")))
            out.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout=layout)
        frame.sample_rate, frame.pts = SR_HZ, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


@pytest.mark.parametrize("sr_hz", [44_100, 16_000, 48_000, 8_000, 22_050, 11_111])
@pytest.mark.parametrize("name", ["a.wav", "a.mp4", "film.mp4"])
def test_pitch_length_phase_and_level(tmp_path, name, sr_hz):
    if name == "a.wav":
        write_wav(tmp_path / name, sine())
    else:
        encode(tmp_path / name, sine(), picture=name == "film.mp4")
    sound = read_audio(tmp_path / name, sr_hz=sr_hz)
    assert (sound.dtype, sound.ndim) == (np.float32, 1)
    # wav: to the sample; mp4 rounds the length to 1 ms in its edit list, and AAC is lossy
    length, atol = (1, 1e-4) if name == "a.wav" else (1e-3 * sr_hz + 1, 0.025)
    assert abs(len(sound) - N * sr_hz / SR_HZ) <= length
    inside = slice(sr_hz // 5, -sr_hz // 5)
    expected = 0.5 * np.sin(2 * np.pi * PITCH_HZ * np.arange(len(sound)) / sr_hz)[inside]
    np.testing.assert_allclose(sound[inside], expected, atol=atol)
    assert np.sqrt(2 * np.mean(sound[inside] ** 2)) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("gains", [(1,), (1, 1), (1, -1), (1, 0)])
def test_mono_is_the_mean_of_the_channels_exactly(tmp_path, gains):
    sound = sine(len(gains), gain=0.9) * np.array(gains)[:, None]
    write_wav(tmp_path / "a.wav", sound)
    expected = (np.rint(sound * 32767) / 32768).mean(0)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", sr_hz=SR_HZ), expected, atol=1e-7)


def test_loud_sound_stays_within_one(tmp_path):
    encode(tmp_path / "loud.mp4", np.sign(sine(1, n=8_000)) * np.float32(0.999))
    assert np.abs(read_audio(tmp_path / "loud.mp4", sr_hz=SR_HZ)).max() == 1.0


def test_a_wrong_declared_duration_does_not_cost_sound(tmp_path):
    """MP3 without a length header: FFmpeg guesses the duration from the first bit rate."""
    file, sound = tmp_path / "a.mp3", np.zeros((1, 10 * SR_HZ), np.float32)
    sound[:, : 3 * SR_HZ] = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * SR_HZ)
    encode(file, sound, "libmp3lame", container={"write_xing": "0"}, q="0")
    with av.open(str(file)) as container:
        stream = container.streams.audio[0]
        assert stream.duration * stream.time_base < 9
    assert len(read_audio(file)) == pytest.approx(10 * 16_000, rel=0.02)


def test_refusals(tmp_path, capfd):
    write_video(tmp_path / "silent film.mp4", [np.zeros((32, 32, 3), np.uint8)] * 3)
    cut = tmp_path / "cut.m4a"
    encode(cut, sine())
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (tmp_path / "words.txt").write_text("no sound here\n" * 20)
    for name, fault in (
        ("silent film.mp4", "no sound"),
        ("cut.m4a", "not a video or sound file, or cut short"),
        ("words.txt", "not a video or sound file"),
        ("", "folder"),
    ):
        refused(lambda name=name: read_audio(tmp_path / name), name, fault)
    for sr_hz in (0, -16_000, 16_000.5):
        refused(lambda rate=sr_hz: read_audio(cut, sr_hz=rate), "sr_hz")
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real videos in {REAL}")
def test_real_film():
    sound = read_audio(REAL / "no_face.mp4", sr_hz=16_000)
    assert len(sound) == pytest.approx(3.945 * 16_000, abs=16)
    assert 0.3 < np.abs(sound).max() <= 1


# ---- features along the frames -------------------------------------------------------------------


def tone(seconds=1.0, sr_hz=16_000, pitch_hz=PITCH_HZ) -> np.ndarray:
    return np.sin(2 * np.pi * pitch_hz * np.arange(round(seconds * sr_hz)) / sr_hz)


def hiss(seconds=1.0, sr_hz=16_000, seed=0) -> np.ndarray:
    """Noise whose loudness swells four times a second, as syllables do."""
    n = round(seconds * sr_hz)
    swell = 1.1 + np.sin(2 * np.pi * 4 * np.arange(n) / sr_hz)
    return (0.1 * swell * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


@pytest.mark.parametrize(("hop", "sr_hz"), [(480, 16_000), (640, 16_000), (320, 8_000)])
def test_log_mel_and_mfcc_are_librosas(hop, sr_hz):
    """Librosa's row i is around sample i hop, ours in the middle of frame i: half a hop later."""
    sound, n, n_fft = hiss(20 * hop / sr_hz, sr_hz), 20, round(0.064 * sr_hz)
    options = {
        "sr": sr_hz,
        "n_fft": n_fft,
        "hop_length": hop,
        "n_mels": 30,
        "htk": True,
        "norm": None,
    }
    shifted = {"pad_mode": "constant", "y": sound[hop // 2 :], **options}
    power = librosa.feature.melspectrogram(**shifted)
    power *= (2 / librosa.filters.get_window("hann", n_fft).sum()) ** 2
    expected = librosa.power_to_db(power, top_db=None)
    inside = slice(2, -2)  # librosa's first windows see silence where ours see sound
    made = log_mel(sound, sr_hz, n, n_mels=30)
    assert (made.shape, made.dtype) == ((n, 30), np.float32)
    np.testing.assert_allclose(made[inside], expected.T[inside], atol=1e-3)
    coefficients = librosa.feature.mfcc(S=expected, n_mfcc=12).T
    made = mfcc(sound, sr_hz, n, n_mfcc=12, n_mels=30)
    np.testing.assert_allclose(made[inside], coefficients[inside], atol=5e-3)


def test_level_does_not_hang_on_rate_or_length_of_the_window():
    for sr_hz, window_s in ((8_000, 0.064), (16_000, 0.064), (44_100, 0.064), (16_000, 0.128)):
        made = log_mel(tone(1, sr_hz), sr_hz, 25, window_s=window_s, n_mels=20)[2:-2]
        assert made.max(1) == pytest.approx(np.full(21, 0.5), abs=1.5)
        quiet = log_mel(0.01 * tone(1, sr_hz), sr_hz, 25, window_s=window_s, n_mels=20)[2:-2]
        np.testing.assert_allclose(quiet.max(1), made.max(1) - 40, atol=0.01)


@pytest.mark.parametrize("n_frames", [7, 30, 299, 5_000])
def test_a_click_is_heard_in_its_own_frame(n_frames):
    """However the frames divide the samples, to the very end; also where a hop exceeds the
    window."""
    samples = 160_001
    for frame in {0, n_frames // 3, n_frames - 1}:
        sound = np.zeros(samples)
        sound[int((frame + 0.5) * samples / n_frames)] = 1
        heard = log_mel(sound, 16_000, n_frames).max(1)
        loudest = np.flatnonzero(heard > heard.max() - 1e-3)
        assert frame in loudest
        early = np.roll(sound, -int(0.4 * samples / n_frames))  # a tenth into the frame
        assert log_mel(early, 16_000, n_frames)[frame].max() > -100
        assert np.abs(loudest - frame).max() <= 0.004 * 16_000 * n_frames / samples


@pytest.mark.parametrize("samples", [0, 1, 100, 16_000])
def test_silence_and_no_sound_are_defined(samples):
    silence = np.zeros(samples, np.float32)
    assert (log_mel(silence, 16_000, 9) == -100).all()
    coefficients = mfcc(silence, 16_000, 9)
    np.testing.assert_allclose(coefficients[:, 0], -100 * 40**0.5, rtol=1e-5)
    np.testing.assert_allclose(coefficients[:, 1:], 0, atol=1e-3)
    assert log_mel(silence, 16_000, 0).shape == mfcc(silence, 16_000, 0).shape == (0, 40)
    layout = legacy_mfcc_layout(silence, 16_000)
    assert (layout.shape, layout.dtype) == ((32, 1024), np.float32)
    assert {*np.round(np.unique(layout))} <= {-632.0, 0.0}


def test_features_refuse_what_is_no_sound():
    sound = tone()
    for features in (log_mel, mfcc, lambda sound, sr_hz, _: legacy_mfcc_layout(sound, sr_hz)):
        refused(lambda f=features: f(sound[None], 16_000, 9), "sound", "(1, 16000)", "(samples,)")
        refused(lambda f=features: f(sound * np.nan, 16_000, 9), "sound", "NaN")
        for rate in (0, True, 16_000.5):
            refused(lambda f=features, r=rate: f(sound, r, 9), "sr_hz")
    refused(lambda: log_mel(sound, 16_000, -1), "n_frames", "-1")
    refused(lambda: mfcc(sound, 16_000, 9, n_mfcc=41), "n_mfcc=41", "n_mels")


# ---- the released layout -------------------------------------------------------------------------


def released_layout(coefficients: np.ndarray) -> np.ndarray:
    """Step by step as the released script goes, from (40, T) to (32, 1024)."""
    flat = list(coefficients.ravel())
    while len(flat) <= 40_960:
        flat = flat + flat
    kept = flat[8_192:40_960]
    return np.array([[kept[32 * column + row] for column in range(1024)] for row in range(32)])


@pytest.mark.parametrize("seconds", [1.3, 10.0, 20.0])
def test_the_released_layout_by_hand(seconds):
    sound = hiss(seconds)
    options = {"n_mfcc": 40, "n_fft": 512, "hop_length": 240, "n_mels": 40, "htk": True}
    rows = librosa.feature.mfcc(y=sound, sr=16_000, pad_mode="reflect", **options)
    made = legacy_mfcc_layout(sound, 16_000)
    np.testing.assert_array_equal(made, released_layout(rows))


def test_rows_of_the_released_layout_are_no_times():
    """Each row spans the whole clip; neighbours are near-copies. One click tells both layouts
    apart."""
    sound = hiss(10)
    layout = legacy_mfcc_layout(sound, 16_000)
    alike = [np.corrcoef(layout[0], layout[k])[0, 1] for k in (1, 31)]
    assert alike[0] > alike[1] > 0.6
    sound[2_400 * 16 : 2_500 * 16] = 1  # 0.1 s of ten
    changed = np.abs(legacy_mfcc_layout(sound, 16_000) - layout).max(1) > 1
    assert changed.all()
    frames = np.abs(mfcc(sound, 16_000, 300) - mfcc(hiss(10), 16_000, 300)).max(1) > 1
    assert 70 <= np.flatnonzero(frames).min() <= np.flatnonzero(frames).max() <= 77


def test_the_released_layout_tells_how_long_a_clip_is():
    """To the row, by where it repeats itself; to a learner, by its mean row. True time does not.

    Clips that react to one film last equally long: so the layout tells which film it was.
    """
    films_s = np.repeat([5.0, 6.1, 7.3, 9.0, 11.2, 14.0], 8)
    sounds = [hiss(length_s, 4_000, seed) for seed, length_s in enumerate(films_s)]
    layouts = [legacy_mfcc_layout(sound, 4_000) for sound in sounds]
    for length_s, layout in zip(films_s[::8], layouts[::8], strict=True):
        flat = layout.T.ravel()
        period = next(n for n in range(50, 400) if (flat[40 * n :] == flat[: -40 * n]).all())
        assert (period - 1) * 240 / 4_000 == pytest.approx(length_s, abs=0.06)
    times = [mfcc(sound, 4_000, round(10 * s)) for s, sound in zip(films_s, sounds, strict=True)]
    nearest = KNeighborsRegressor(1, metric="correlation", algorithm="brute")
    told = [
        cross_val_predict(
            make_pipeline(StandardScaler(), nearest),
            np.stack([rows.mean(0) for rows in clips]),
            films_s,
            cv=KFold(8, shuffle=True, random_state=0),
        )
        for clips in (layouts, times)
    ]
    right = [(prediction == films_s).mean() for prediction in told]
    assert right[0] > 0.9
    assert right[1] < 0.5  # by chance 0.17


@pytest.mark.parametrize(
    "sizes", [{"n_frames": 2.5}, {"n_frames": -1}, {"n_frames": 2, "n_mels": 0}]
)
def test_numbers_of_frames_and_bands_that_are_none(sizes):
    refused(lambda: log_mel(sine(n=4096)[0], SR_HZ, **sizes), [*sizes][-1], "whole number")
