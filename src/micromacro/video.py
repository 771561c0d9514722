"""Frames in and out: video files and folders of images, with true time stamps.

Decoding is PyAV (FFmpeg) in one thread; run several clips in several processes instead. What is
promised: every shown frame exactly once, in order, edit lists and variable frame rate honoured,
the rotation tag applied, RGB and luma on the full range 0-255 so that an mp4 and the PNGs it was
made from agree. Not done: deinterlacing, mirrored display matrices, non-square pixels.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from typing import Literal

import numpy as np

try:
    import av
except ModuleNotFoundError:  # folders of images do without it
    av = None

from micromacro.errors import BadInput
from micromacro.files import WRITABLE, existing, replacing
from micromacro.images import Pixels, frame_image, image_files, load_image, quarter_turns

FOLDER_FPS = 30.0  # a folder of images says nothing about time
TICKS_PER_S = 90_000  # time base of written files: exact for 24, 25, 30, 50, 60, 200 and 30000/1001
TEXT_CODECS = frozenset({"ansi", "bintext", "idf", "xbin"})  # FFmpeg "plays" text files with these
SHORTFALL_S = 0.5  # packets may end this much before the declared duration; less means a cut file


@dataclass(frozen=True)
class VideoInfo:
    """What a video file (or image folder) declares about itself.

    Attributes:
        path: The source as the user named it.
        width: Width in pixels, after rotation.
        height: Height in pixels, after rotation.
        fps: Average frame rate; nan if unknown, and for a folder.
        n_frames: Number of frames as the container declares it, which may be wrong (edit lists);
            None if it does not say.
        duration_s: Duration in seconds as the container declares it; None if unknown, and for a
            folder.
        rotation: Degrees counter-clockwise that reading applies: 0, 90, 180 or 270.
        has_audio: Whether there is a sound stream.
    """

    path: str
    width: int
    height: int
    fps: float
    n_frames: int | None
    duration_s: float | None
    rotation: int
    has_audio: bool


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        index: 0-based position among the shown frames.
        t_s: Time in seconds since the first shown frame.
        image: uint8 (H, W, 3) RGB or (H, W) luma, 0-255 full range, C-contiguous, owned.
    """

    index: int
    t_s: float
    image: np.ndarray


def probe(source: str | Path) -> VideoInfo:
    """Describe a video file or a folder of images; decodes one frame.

    Raises:
        BadInput: The source is missing, empty, not a video, or has no picture.
    """
    path = existing(source)
    if path.is_dir():
        files = image_files(path)
        height, width = load_image(files[0], "luma").shape
        return VideoInfo(str(source), width, height, math.nan, len(files), None, 0, False)
    with open_stream(path, "video") as (container, stream):
        frame = next(decode(path, container, stream))
        turns = quarter_turns(frame)
        width, height = (frame.width, frame.height)[:: -1 if turns % 2 else 1]
        length, base = stream.duration, stream.time_base
        if length is None:
            length, base = container.duration, Fraction(1, av.time_base)
        fps = float(stream.average_rate) if stream.average_rate else math.nan
        duration_s = None if length is None else float(length * base)
        declared = fps, stream.frames or None, duration_s
        sound = bool(container.streams.audio)
        return VideoInfo(str(source), width, height, *declared, 90 * turns, sound)


def read_frames(
    source: str | Path,
    *,
    pixels: Pixels = "rgb",
    fps: float | None = None,
    convert: Callable = frame_image,
) -> Iterator[Frame]:
    """Decode a video file or a folder of images, lazily: one frame in memory at a time.

    Time starts at the first shown frame and follows the file's own time stamps, so a variable
    frame rate is kept. Streams without stamps (raw H.264) and AVI files with B-frames (their
    stamps are known to be wrong) get index / average rate.

    A folder is read in natural order of the numbers in its names (``img2`` before ``img10``);
    hidden files and other suffixes than png, jpg, jpeg, bmp, tif, tiff are passed over. EXIF
    orientation is applied, 16-bit grey is divided by 257, 16-bit colour keeps its high byte (the
    same to one level), transparency is laid on black.

    Args:
        source: A video file, or a folder of images of one size.
        pixels: "rgb" gives uint8 (H, W, 3); "luma" gives uint8 (H, W): the Y plane expanded to
            0-255 (so by the file's own matrix, BT.601 or BT.709), and 0.299 R + 0.587 G +
            0.114 B (BT.601, as `write_video` uses) where there is no Y plane, as in images.
        fps: Frames per second of a folder, default 30; ignored for a file.
        convert: Makes the image of a decoded frame and `pixels`; ignored for a folder.

    Returns:
        Iterator of `Frame`.

    Raises:
        BadInput: At the call: missing source, folder without images, bad argument. While
            iterating: not a video, no picture, damaged or cut short (raised at the break; a cut
            is not always visible in raw streams and MPEG-TS, which declare no length), sizes
            that differ, time stamps that do not increase.
    """
    if pixels not in ("rgb", "luma"):
        raise BadInput(f"pixels={pixels!r}", "unknown", 'use "rgb" or "luma"')
    path = existing(source)
    if path.is_dir():
        rate, files = FOLDER_FPS if fps is None else _positive("fps", fps), image_files(path)
        return _frames((f, "", i / rate, load_image(f, pixels)) for i, f in enumerate(files))
    return _frames(_file_pictures(path, pixels, convert))


def write_video(
    path: str | Path,
    images: Iterable[np.ndarray],
    *,
    fps: float = 30.0,
    t_s: Iterable[float] | None = None,
    crf: int = 18,
    preset: str = "medium",
) -> None:
    """Write an H.264 mp4 (BT.601, limited range, tagged so); nothing is left behind on failure.

    Even sizes become yuv420p, which every player shows; odd sizes become yuv444p, which keeps the
    true size but not every browser plays. One encoder thread: equal input gives equal bytes.

    Args:
        path: Target, ending in .mp4; replaced only once the new file is complete.
        images: uint8 (H, W, 3) RGB or (H, W) grey, 0-255, all of one shape; a generator will do.
        fps: Frames per second where `t_s` is not given.
        t_s: Time of each image in seconds, strictly increasing; it is kept to 1/90000 s and counted
            from the first.
        crf: x264 quality, 0 (nearly lossless) to 51; 18 is visually transparent.
        preset: x264's trade of time for size, such as "veryfast".

    Raises:
        BadInput: No image, mixed or wrong shapes or types, unusable times, unwritable target.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise BadInput(path, "is not named .mp4", "end the name in .mp4")
    if isinstance(crf, bool) or crf not in range(52):
        raise BadInput(f"crf={crf}", "outside the scale of x264", "use a whole number 0 to 51")
    rate, ticks = _positive("fps", fps), None
    if t_s is not None:
        ticks = _ticks(t_s)
        if len(ticks) > 1:
            rate = TICKS_PER_S * (len(ticks) - 1) / int(ticks[-1])
    images = _checked_images(path, images)
    first = next(images)
    _need_av(path)
    with replacing(path) as part:
        try:
            with av.open(f"file:{part}", "w", format="mp4") as out:
                stream = _add_h264(out, first.shape[:2], rate, {"crf": str(crf), "preset": preset})
                _encode(path, out, stream, chain((first,), images), ticks, rate)
        except av.FFmpegError as error:
            raise BadInput(path, f"cannot be written ({error.strerror})", WRITABLE) from error


# ---- opening; audio.py uses it too --------------------------------------------------------------


@contextmanager
def open_stream(path: Path, kind: Literal["video", "audio"]) -> Iterator[tuple]:
    """Open a file and its first stream of one kind, single-threaded; yields (container, stream).

    Cover pictures in sound files do not count as video. Whatever FFmpeg raises inside the block
    becomes a BadInput; FFmpeg's own log stays silent (PyAV's default).
    """
    _need_av(path)
    try:
        # "file:" keeps names such as "a:b.mp4" or "img%03d.mp4" from meaning something else.
        with av.open(f"file:{path}") as container:
            stream = next((s for s in getattr(container.streams, kind) if _usable(s)), None)
            if stream is None:
                fault = f"has no {'picture' if kind == 'video' else 'sound'} that can be decoded"
                raise BadInput(path, fault, "give a file that has")
            stream.codec_context.thread_count = 1  # parallelism comes from processes
            yield container, stream
    except (av.FFmpegError, UnicodeError) as error:
        cause = getattr(error, "strerror", None) or error
        fault = f"not a video or sound file, or cut short ({cause})"
        raise BadInput(path, fault, "give an intact one; copy or download it again") from error


def _need_av(path: Path) -> None:
    if av is None:
        raise BadInput(path, "needs PyAV", "pip install 'micromacro[faces]', or give images")


def _usable(stream) -> bool:
    context = stream.codec_context
    cover = bool(stream.disposition & av.stream.Disposition.attached_pic)
    return context is not None and context.name not in TEXT_CODECS and not cover


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise BadInput(f"{name}={value}", "not a positive number", f"give {name} > 0")
    return float(value)


# ---- reading -----------------------------------------------------------------------------------


def _frames(pictures: Iterable[tuple]) -> Iterator[Frame]:
    """Frames of pictures (file, place in it, seconds, image), all of the first one's size."""
    shape = None
    for index, (file, place, t_s, image) in enumerate(pictures):
        shape = shape or image.shape
        if image.shape != shape:
            size, first = (f"{width}x{height}" for height, width in (image.shape[:2], shape[:2]))
            raise BadInput(file, f"{place}is {size}, before {first}", "give pictures of one size")
        yield Frame(index, t_s, image)


def _file_pictures(path: Path, pixels: Pixels, convert: Callable) -> Iterator[tuple]:
    with open_stream(path, "video") as (container, stream):
        nominal = container.format.name == "avi" and stream.codec_context.has_b_frames
        first, last_s = None, -1.0
        for index, frame in enumerate(decode(path, container, stream)):
            if nominal or frame.pts is None:
                nominal, t_s = True, index / float(stream.average_rate or FOLDER_FPS)
            else:
                first = frame.pts if first is None else first
                t_s = float((frame.pts - first) * frame.time_base)
            if t_s <= last_s:
                fault = f"time stamps do not increase at frame {index}"
                raise BadInput(path, fault, "write it anew, for example: ffmpeg -i FILE new.mp4")
            last_s = t_s
            yield path, f"frame {index} ", t_s, convert(frame, pixels)


def decode(path: Path, container, stream) -> Iterator["av.VideoFrame | av.AudioFrame"]:
    """Yield the frames of one stream, at least one.

    Raises:
        BadInput: Damage that FFmpeg would conceal, or a file that ends before it should.
    """
    n_frames, end_s = 0, 0.0
    try:
        for packet in container.demux():
            if packet.pts is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream is not stream:
                continue
            for frame in packet.decode():
                if packet.is_corrupt or frame.is_corrupt:
                    raise _damaged(path, n_frames, "error concealed")
                yield frame
                n_frames += 1
    except av.FFmpegError as error:
        raise _damaged(path, n_frames, error.strerror) from error
    # Cut between two packets these end silently, while their header still names the full length.
    if container.duration and container.format.name.startswith(("matroska", "mov,mp4")):
        declared_s = container.duration / av.time_base
        if end_s < declared_s - max(SHORTFALL_S, 0.05 * declared_s):
            raise _damaged(path, n_frames, f"{end_s:.2f} s of {declared_s:.2f} s")
    if n_frames == 0:
        raise _damaged(path, 0, "no frame in it")


def _damaged(path: Path, n_frames: int, why: str) -> BadInput:
    fault = f"damaged or cut short after {n_frames} frames ({why})"
    return BadInput(path, fault, "copy or download it again")


# ---- writing -----------------------------------------------------------------------------------


def _ticks(t_s: Iterable[float]) -> np.ndarray:
    times = np.asarray(t_s if isinstance(t_s, np.ndarray) else list(t_s), dtype=np.float64)
    if times.ndim != 1 or not len(times) or not np.isfinite(times).all():
        raise BadInput("t_s", "not a list of finite seconds", "give one time for each image")
    ticks = np.rint((times - times[0]) * TICKS_PER_S).astype(np.int64)
    if (np.diff(ticks) <= 0).any():
        at = int(np.argmax(np.diff(ticks) <= 0)) + 1
        fault = f"does not increase by 1/{TICKS_PER_S} s or more at image {at}"
        raise BadInput("t_s", fault, "give strictly increasing seconds")
    return ticks


def _checked_images(path: Path, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    shape = None
    for index, image in enumerate(images):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = getattr(image, "dtype", type(image).__name__)
            raise BadInput(path, f"image {index} is {kind}", "give uint8 numpy arrays, 0-255")
        if image.shape[2:] not in ((), (3,)) or image.ndim < 2 or 0 in image.shape:
            raise BadInput(path, f"image {index} has shape {image.shape}", "give (H, W[, 3])")
        shape = shape or image.shape
        if image.shape != shape:
            fault = f"image {index} has shape {image.shape}, the first {shape}"
            raise BadInput(path, fault, "give images of one shape")
        yield np.ascontiguousarray(image)
    if shape is None:
        raise BadInput(path, "no images to write", "give at least one")


def _add_h264(out, size: tuple[int, int], rate: float, options: dict[str, str]):
    stream = out.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
    stream.height, stream.width = size
    stream.pix_fmt = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
    # No B-frames: stored order is shown order, so that every player gets variable times right.
    stream.options = {**options, "bf": "0"}
    context = stream.codec_context
    context.thread_count = 1
    context.time_base = stream.time_base = Fraction(1, TICKS_PER_S)
    # ITU-T H.273: matrix, primaries and transfer 6 = SMPTE 170M (BT.601); range 1 = limited.
    context.colorspace = context.color_primaries = context.color_trc = 6
    context.color_range = 1
    return stream


def _encode(path: Path, out, stream, images: Iterable[np.ndarray], ticks, rate: float) -> None:
    """Encode and mux everything."""
    limited = {"dst_colorspace": "ITU601", "dst_color_range": "MPEG", "threads": 1}
    times = (round(i * TICKS_PER_S / rate) for i in count()) if ticks is None else iter(ticks)
    n_images, n_times = 0, None if ticks is None else len(ticks)
    for n_images, image in enumerate(images, 1):  # noqa: B007
        if (time := next(times, None)) is None:
            break
        frame = av.VideoFrame.from_ndarray(image, format="gray" if image.ndim == 2 else "rgb24")
        frame = frame.reformat(format=stream.pix_fmt, **limited)
        frame.time_base, frame.pts = Fraction(1, TICKS_PER_S), int(time)
        out.mux(stream.encode(frame))
    if n_times not in (None, n_images):
        more = " or more" if n_images > n_times else ""
        fault = f"{n_images} images{more} for {n_times} times"
        raise BadInput(path, fault, "give one time for each image")
    out.mux(stream.encode(None))
