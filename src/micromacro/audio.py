"""Sound in: one mono float array from any file that FFmpeg reads."""

from pathlib import Path

import av
import numpy as np

from micromacro.errors import BadInput
from micromacro.files import existing
from micromacro.video import decode, open_stream

# The last block of a codec is padded (AAC: up to 2048 samples, 0.26 s at 8 kHz). More sound than
# that beyond the declared duration means that the duration is an estimate: then all of it is kept.
PADDING_S = 0.3


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
    if not isinstance(sr_hz, int | np.integer) or sr_hz < 1:
        raise BadInput(f"sr_hz={sr_hz}", "not a sampling rate", "give a whole number of Hz")
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
