"""Sound: one mono float array from any file that FFmpeg reads, and its features along the frames.

`log_mel` and `mfcc` have one row for each frame of the video, so that sound and face share one axis
of time. `legacy_mfcc_layout` is what the released code of the reaction paper (arXiv 2305.05534)
makes of a sound: its rows are no times.
"""

import math
from pathlib import Path

import av
import numpy as np

from micromacro.errors import BadInput, check_whole
from micromacro.files import existing
from micromacro.video import decode, open_stream

# The last block of a codec is padded (AAC: up to 2048 samples, 0.26 s at 8 kHz). More sound than
# that beyond the declared duration means that the duration is an estimate: then all of it is kept.
PADDING_S = 0.3
FLOOR_DB = -100.0  # what silence is; the noise of 16-bit samples is at -98
CHUNK = 1024  # rows whose windows are in memory at once


def read_audio(source: str | Path, *, sr_hz: int = 16000) -> np.ndarray:
    """Decode the first sound stream, mixed to mono as the mean of its channels.

    The mean is taken here: FFmpeg's own mix of equal channels is sqrt(2) too loud and clips.
    Sample 0 is the first sample of the stream (encoder delay removed); the codec's padding at the
    end is cut at the stream's declared duration. Pitch and timing are kept at any `sr_hz`.

    Args:
        source: A video or sound file, as FFmpeg reads it.
        sr_hz: Sampling rate of the result in Hz.

    Returns:
        float32 (samples,) in [-1, 1].

    Raises:
        BadInput: Missing, damaged or cut short, without sound, or `sr_hz` not a positive integer.
    """
    check_whole("sr_hz", sr_hz)
    path = existing(source)
    if path.is_dir():
        raise BadInput(path, "a folder, which has no sound", "give a video or sound file")
    with open_stream(path, "audio") as (container, stream):
        resampler = av.AudioResampler("fltp", None, int(sr_hz))  # None: the channels stay apart
        blocks = [
            block.to_ndarray().mean(axis=0, dtype=np.float32)
            for frame in (*decode(path, container, stream), None)  # None flushes the resampler
            for block in resampler.resample(frame)
        ]
        declared = stream.duration
        declared_s = None if declared is None else float(declared * stream.time_base)
    sound = np.concatenate(blocks)
    if declared_s is not None and len(sound) <= (declared_s + PADDING_S) * sr_hz:
        sound = sound[: round(declared_s * sr_hz)]
    return np.clip(sound, -1, 1)


def log_mel(
    sound: np.ndarray, sr_hz: int, n_frames: int, *, n_mels: int = 40, window_s: float = 0.064
) -> np.ndarray:
    """Measure how loud each band of pitch is at each frame of a video.

    The frames share the sound out equally: a frame lasts hop = samples / n_frames, which is seldom
    whole. Row i is a Hann window around (i + 1/2) hop to the nearest sample, so the rows never
    drift from the frames, as they would with a rounded hop. Outside of the sound is silence.

    Args:
        sound: float (samples,), as `read_audio` gives it, of just the video's duration; 0 samples
            are silence.
        sr_hz: Its sampling rate.
        n_frames: Frames of the video; may be 0.
        n_mels: Number of triangular bands, equally wide on HTK's mel scale from 0 to sr_hz / 2.
        window_s: Length of the window; at least a hop, so that no sound is passed over.

    Returns:
        float32 (n_frames, n_mels), dB: -100 for silence, about 0 for a sine of amplitude 1.

    Raises:
        BadInput: The sound is not one channel of finite numbers; a rate or a number of frames or
            bands that is none.
    """
    import librosa  # late: it loads a compiler, which takes seconds

    sound = checked_sound(sound, sr_hz)
    n_frames, n_mels = check_whole("n_frames", n_frames, 0), check_whole("n_mels", n_mels)
    if not n_frames:
        return np.zeros((0, n_mels), np.float32)
    hop = len(sound) / n_frames
    n_fft = max(2, round(window_s * sr_hz), math.ceil(hop))
    starts = np.floor((np.arange(n_frames) + 0.5) * hop).astype(int) + n_fft - n_fft // 2
    padded, window = np.pad(sound, n_fft), librosa.filters.get_window("hann", n_fft)
    window = (2 / window.sum() * window).astype(np.float32)  # a sine of amplitude 1 has a peak of 1
    bands = librosa.filters.mel(sr=sr_hz, n_fft=n_fft, n_mels=n_mels, htk=True, norm=None)
    power = np.zeros((n_frames, n_mels), np.float32)
    for k in range(0, n_frames, CHUNK):
        cut = padded[starts[k : k + CHUNK, None] + np.arange(n_fft)] * window  # (n, n_fft)
        power[k : k + CHUNK] = np.abs(np.fft.rfft(cut)) ** 2 @ bands.T  # (n, n_mels)
    tiny = np.finfo(np.float32).tiny
    return np.maximum(10 * np.log10(power + tiny), np.float32(FLOOR_DB))


def mfcc(
    sound: np.ndarray, sr_hz: int, n_frames: int, *, n_mfcc: int = 40, **options: float
) -> np.ndarray:
    """Mel-frequency cepstral coefficients at each frame: the orthonormal DCT-II of `log_mel`.

    Args:
        sound: As for `log_mel`.
        sr_hz: As for `log_mel`.
        n_frames: As for `log_mel`.
        n_mfcc: Coefficients kept, the slowest changes across the bands first.
        options: `n_mels` and `window_s` of `log_mel`.

    Returns:
        float32 (n_frames, n_mfcc), dB.

    Raises:
        BadInput: As `log_mel`; more coefficients than bands.
    """
    from scipy.fft import dct

    levels = log_mel(sound, sr_hz, n_frames, **options)
    if not 1 <= n_mfcc <= levels.shape[1]:
        fault = f"out of range for {levels.shape[1]} bands"
        raise BadInput(f"n_mfcc={n_mfcc}", fault, "ask for more bands (n_mels), or for fewer")
    return dct(levels, norm="ortho")[:, :n_mfcc]


def legacy_mfcc_layout(sound: np.ndarray, sr_hz: int) -> np.ndarray:
    """Lay MFCC out as the released code of arXiv 2305.05534 does: 32 rows that are no times.

    40 coefficients every 240 samples are written one coefficient after the other, over and over. Of
    this row of numbers those from 8192 to 40,959 are kept, and row i of the result is every 32nd of
    them from the i-th. So each row goes through the whole clip and, of ten seconds at 16 kHz,
    through all 40 coefficients, some of them twice; neighbours are near-copies; a GRU along the
    rows runs along nothing. How many coefficients there are, and where they begin again, tells how
    long the clip is.

    Args:
        sound: float (samples,); 0 samples, or less than 512, get silence behind them.
        sr_hz: Its sampling rate; the released code keeps that of the file.

    Returns:
        float32 (32, 1024), dB.

    Raises:
        BadInput: The sound is not one channel of finite numbers, or the rate is none.
    """
    import librosa

    sound = checked_sound(sound, sr_hz)
    sound = np.pad(sound, (0, max(0, 512 - len(sound))))
    # The released call asks for 128 coefficients and gets 40, as 40 bands have no more.
    options = {"n_mfcc": 40, "n_mels": 40, "n_fft": 512, "hop_length": 240, "htk": True}
    rows = librosa.feature.mfcc(y=sound, sr=sr_hz, pad_mode="reflect", **options)  # (40, T)
    return np.resize(rows, 40_960)[8_192:].reshape(1024, 32).T.astype(np.float32)


def checked_sound(sound: np.ndarray, sr_hz: int) -> np.ndarray:
    """A sound as float32 (samples,).

    Args:
        sound: Numbers (samples,).
        sr_hz: Its sampling rate.

    Raises:
        BadInput: It is not one channel of finite numbers, or the rate is none.
    """
    check_whole("sr_hz", sr_hz)
    sound = np.asarray(sound, np.float32)
    if sound.ndim != 1 or not np.isfinite(sound).all():
        fault = f"has shape {sound.shape}" if sound.ndim != 1 else "holds NaN or infinite values"
        raise BadInput("sound", fault, "give one channel of finite numbers, (samples,)")
    return sound
