"""Sound: sines with known pitch, phase and length, written by wave and by PyAV's AAC encoder."""

import wave
from pathlib import Path

import av
import numpy as np
import pytest
from refusals import refused

from micromacro.audio import read_audio
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
