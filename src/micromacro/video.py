"""Frames in and out: video files and folders of images, with true time stamps.

Decoding is PyAV (FFmpeg) in one thread; run several clips in several processes instead. What is
promised: every shown frame exactly once, in order, edit lists and variable frame rate honoured,
upright and unmirrored as the file says, with square pixels, RGB and luma on the full range 0-255 so
that an mp4 and the PNGs it was made from agree. Interlaced frames lose their combs (FFmpeg's bwdif,
one picture a frame), HDR is mapped to BT.709, and what was done to a film is said.

Coordinates of anything found in a film are pixels (x, y) of these pictures, not of the stored ones.
"""

import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
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
from micromacro.images import (
    SQUARE,
    FrameConverter,
    Pixels,
    load_image,
    orientation,
    picture_header,
    picture_numbers,
    pictures_of,
)

FOLDER_FPS = 30.0  # a folder of images says nothing about time
TICKS_PER_S = 90_000  # time base of written files: exact for 24, 25, 30, 50, 60, 200 and 30000/1001
MOST_TICKS = 2**31  # from a picture to the next in an mp4, six hours
TEXT_CODECS = frozenset({"ansi", "bintext", "idf", "xbin"})  # FFmpeg "plays" text files with these
MOST_REPEATS = 16  # frames of one time stamp that are held back until a later one
DIM = 64  # of 256 grey levels: a deep source that stays below holds fewer bits than its type
SHORTFALL_S = 0.5  # packets may end this much before the declared duration; less means a cut file


@dataclass(frozen=True)
class VideoInfo:
    """What a video file (or image folder) declares about itself.

    Attributes:
        path: The source as the user named it.
        width: Width in pixels as frames are read: upright, with square pixels.
        height: Height in pixels, likewise.
        fps: Average frame rate; nan if unknown, and for a folder.
        n_frames: Number of frames as the container declares it, which may be wrong (edit lists);
            None if it does not say.
        duration_s: Duration in seconds as the container declares it; None if unknown, and for a
            folder.
        rotation: Degrees counter-clockwise that reading applies: 0, 90, 180 or 270; 0 of a folder,
            whose pictures are turned as each of them says.
        has_audio: Whether there is a sound stream.
        mirrored: Whether reading also changes left and right, after the rotation.
    """

    path: str
    width: int
    height: int
    fps: float
    n_frames: int | None
    duration_s: float | None
    rotation: int
    has_audio: bool
    mirrored: bool = False


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        index: 0-based position among the shown frames.
        t_s: Time in seconds since the first shown frame.
        image: uint8 (H, W, 3) RGB or (H, W) luma, 0-255 full range, C-contiguous, owned.
        damaged: Whether the file is damaged here, and `image` the one before or not to be trusted.
    """

    index: int
    t_s: float
    image: np.ndarray
    damaged: bool = False


def probe(source: str | Path) -> VideoInfo:
    """Describe a video file or a folder of images; decodes one frame.

    Raises:
        BadInput: The source is missing, empty, not a video, or has no picture.
    """
    path = existing(source)
    if files := pictures_of(path):
        height, width = load_image(files[0], "luma").shape
        return VideoInfo(str(source), width, height, math.nan, len(files), None, 0, False)
    with open_stream(path, "video") as (container, stream):
        frame = next(decode(path, container, stream))
        turns, mirrored = orientation(frame)
        square = FrameConverter(stream, "rgb").square_size(frame)
        width, height = square[:: -1 if turns % 2 else 1]
        length, base = stream.duration, stream.time_base
        if length is None:
            length, base = container.duration, Fraction(1, av.time_base)
        fps = float(stream.average_rate) if stream.average_rate else math.nan
        duration_s = None if length is None else float(length * base)
        declared = fps, stream.frames or None, duration_s
        sound = bool(container.streams.audio)
        return VideoInfo(str(source), width, height, *declared, 90 * turns, sound, mirrored)


def read_frames(
    source: str | Path,
    *,
    pixels: Pixels = "rgb",
    fps: float | None = None,
    keep_damaged: bool = False,
    notes: list[str] | None = None,
) -> Iterator[Frame]:
    """Decode a video file or pictures, lazily: a few frames in memory at a time.

    Time starts at the first shown frame and follows the file's own time stamps, so a variable
    frame rate is kept. Frames that share a stamp are spread evenly up to the next one. Streams
    without stamps (raw H.264) and AVI files with B-frames (their stamps are known to be wrong) get
    index / average rate.

    A folder is read in natural order of the numbers in its names (``img2`` before ``img10``), and
    those numbers are its times: a missing one is a gap. Hidden files and other suffixes than those
    of `micromacro.images.IMAGE_SUFFIXES` are passed over. EXIF orientation is applied, 16-bit grey
    is divided by 257, 16-bit colour keeps its high byte (the same to one level), transparency is
    laid on black.

    Args:
        source: A video file, a folder of images of one size, or one image.
        pixels: "rgb" gives uint8 (H, W, 3); "luma" gives uint8 (H, W): the Y plane expanded to
            0-255 (so by the file's own matrix, BT.601 or BT.709), and 0.299 R + 0.587 G +
            0.114 B (BT.601, as `write_video` uses) where there is no Y plane, as in images, or HDR.
        fps: Numbers per second of a folder's pictures, default 30; ignored for a file.
        keep_damaged: Go on after damage, with the frames that cannot be trusted marked `damaged`
            up to the next whole one, and end a film that is cut short where it is cut.
        notes: What a user should know of the film is added here in plain words, the last of it with
            the last frame; `None` warns of it instead.

    Returns:
        Iterator of `Frame`.

    Raises:
        BadInput: At the call: missing source, folder without images, pictures that stand for the
            same moment, bad argument. While iterating: not a video, no picture, damaged or cut
            short unless that is kept (raised at the break; a cut is not always visible in raw
            streams and MPEG-TS, which declare no length), sizes that differ, time stamps that run
            backwards.
    """
    if pixels not in ("rgb", "luma"):
        raise BadInput(f"pixels={pixels!r}", "unknown", 'use "rgb" or "luma"')
    path, collected = existing(source), [] if notes is None else notes
    if files := pictures_of(path):
        rate = FOLDER_FPS if fps is None else positive("fps", fps)
        timed = zip(files, picture_numbers(files, collected), strict=True)
        pictures = ((f, "", number / rate, load_image(f, pixels), False) for f, number in timed)
    else:
        pictures = _file_pictures(path, pixels, keep_damaged, collected)
    frames = _frames(pictures, collected)
    return frames if notes is not None else _warned(path, frames, collected)


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
    rate, ticks = positive("fps", fps), None
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


def positive(name: str, value: float) -> float:
    """A finite number above 0 as a float; anything else is refused."""
    if not (math.isfinite(value) and value > 0):
        raise BadInput(f"{name}={value}", "not a positive number", f"give {name} > 0")
    return float(value)


# ---- reading -----------------------------------------------------------------------------------


def _warned(path: Path, frames: Iterable[Frame], notes: list[str]) -> Iterator[Frame]:
    yield from frames
    for note in notes:
        warnings.warn(f"{path}: {note}", stacklevel=2)


def _frames(pictures: Iterable[tuple], notes: list[str]) -> Iterator[Frame]:
    """Frames of pictures (file, place in it, seconds, image, damaged), all of one size."""
    shape = None
    for index, (file, place, t_s, image, damaged) in enumerate(pictures):
        if shape is None:
            shape, (deep, aspect) = image.shape, _header(file)
            brightest = 0 if deep else 255
            if abs(aspect - 1) > SQUARE:
                said = f"pixels are said to be {aspect:.3g} times as wide as high"
                notes.append(f"{said}: taken as square; if they are not, resize the pictures")
        if image.shape != shape:
            size, first = (f"{width}x{height}" for height, width in (image.shape[:2], shape[:2]))
            raise BadInput(file, f"{place}is {size}, before {first}", "give pictures of one size")
        if brightest <= DIM:
            brightest = max(brightest, int(image.max()))
        yield Frame(index, t_s, image, damaged)
    if 0 < brightest <= DIM:
        levels = f"of 256 grey levels the lowest {brightest + 1} are used"
        notes.append(f"{levels}: if the camera has 10, 12 or 14 bits, scale its values to 16")


def _header(file: Path) -> tuple[bool, float]:
    """Whether there are more than 8 bits a channel; the aspect of pixels that is not applied."""
    if pictures_of(file):
        return picture_header(file)
    with open_stream(file, "video") as (_, stream):
        components = getattr(stream.format, "components", ())
        return any(component.bits > 8 for component in components), 1.0


def _file_pictures(
    path: Path, pixels: Pixels, keep_damaged: bool, notes: list[str]
) -> Iterator[tuple]:
    packets: dict[Fraction, bool] = {}
    with open_stream(path, "video") as (container, stream):
        frames = decode(path, container, stream, packets if keep_damaged else None)
        if keep_damaged:
            frames = _up_to_the_break(frames, notes)
        nominal = container.format.name == "avi" and stream.codec_context.has_b_frames
        stamped = _marked(_deinterlaced(frames, notes), packets, nominal)
        timed = _timed(path, stream, stamped, notes)
        converter, image, n_damaged = FrameConverter(stream, pixels), None, 0
        for index, (t_s, frame, damaged) in enumerate(timed):
            if image is None:
                notes += converter.notes(frame)
            if image is None or not damaged:
                image = converter(frame)
            n_damaged += damaged
            yield path, f"frame {index} ", t_s, image, damaged
    if n_damaged:
        notes.append(f"damaged frames: {n_damaged}")


def _up_to_the_break(frames: Iterable["av.VideoFrame"], notes: list[str]) -> Iterator:
    """The frames before damage that nothing can be decoded behind."""
    frame = None
    try:
        for frame in frames:
            yield frame
    except BadInput as error:
        if frame is None:
            raise
        notes.append(str(error))


def _deinterlaced(frames: Iterable["av.VideoFrame"], notes: list[str]) -> Iterator:
    """The frames without combs: those said to be interlaced go through FFmpeg's bwdif."""
    graph = None
    for frame in chain(frames, [None]):  # None flushes the graph
        if graph is None and frame is not None and frame.interlaced_frame:
            graph = av.filter.Graph()
            graph.threads = 1
            bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
            size = {"width": frame.width, "height": frame.height}
            source = graph.add_buffer(**size, format=frame.format, time_base=frame.time_base)
            graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
            notes.append("interlaced: one picture made of the two fields of a frame (bwdif)")
        if graph is None:
            yield from () if frame is None else (frame,)
            continue
        graph.vpush(frame)
        with suppress(av.BlockingIOError, av.EOFError):
            while True:
                yield graph.vpull()


def _marked(
    frames: Iterable["av.VideoFrame"], packets: dict[Fraction, bool], nominal: bool
) -> Iterator[tuple]:
    """Each frame between its time stamp, None if there is none to trust, and whether it is damaged.

    Damage lasts to the next key frame: what lies between is built on it, or left out by FFmpeg. The
    frame after those left out stands in for them.
    """
    broken, frame = False, None
    for frame in frames:
        nominal = nominal or frame.pts is None
        stamp = None if frame.pts is None else frame.pts * frame.time_base
        before = sorted(when for when in packets if stamp is not None and when < stamp)
        torn = [packets.pop(when) for when in before]
        broken = broken or any(torn)
        if broken:
            yield from ((None if nominal else when, frame, True) for when in before)
        broken = packets.pop(stamp, False) or (broken and not frame.key_frame)
        yield None if nominal else stamp, frame, broken
    if broken or any(packets.values()):
        yield from ((None if nominal else when, frame, True) for when in sorted(packets))


def _timed(path: Path, stream, stamped: Iterable[tuple], notes: list[str]) -> Iterator[tuple]:
    """Seconds since the first frame with each one; those of one stamp share the time to next."""
    rate = Fraction(stream.average_rate or FOLDER_FPS)
    first, now, held, n_repeated = None, Fraction(0), [], 0
    for index, (stamp, *picture) in enumerate(stamped):
        if stamp is None:
            time = index / rate
        else:
            first = stamp if first is None else first
            time = stamp - first
        if time > now:
            yield from _spread(held, now, time)
            n_repeated += max(0, len(held) - 1)
            now, held = time, []
        elif held and (time < now or len(held) == MOST_REPEATS):
            fault = f"time stamps do not increase at frame {index}"
            raise BadInput(path, fault, "write it anew, for example: ffmpeg -i FILE new.mp4")
        held.append(picture)
    yield from _spread(held, now, now + len(held) / rate)
    if n_repeated := n_repeated + len(held) - 1:
        notes.append(f"repeated time stamps: {n_repeated}, those frames spread up to the next one")


def _spread(held: list, start: Fraction, stop: Fraction) -> Iterator[tuple]:
    for place, picture in enumerate(held):
        yield float(start + place * (stop - start) / len(held)), *picture


def decode(
    path: Path, container, stream, packets: dict[Fraction, bool] | None = None
) -> Iterator["av.VideoFrame | av.AudioFrame"]:
    """Yield the frames of one stream, at least one.

    Args:
        path: The file, for messages.
        container: As `open_stream` gave it.
        stream: Likewise.
        packets: Makes it go on after damage: the time stamps, in seconds, of packets are added here
            before their frames come out, and whether they are damaged. `None` refuses damage.

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
            try:
                frames, torn = packet.decode(), packet.is_corrupt
            except av.FFmpegError:
                if packets is None or packet.pts is None:
                    raise
                frames, torn = [], True
            if packets is not None and packet.pts is not None:
                packets[packet.pts * packet.time_base] = torn
            for frame in frames:
                if torn or frame.is_corrupt:
                    if packets is None or frame.pts is None:
                        raise _damaged(path, n_frames, "error concealed")
                    packets[frame.pts * frame.time_base] = True
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
    ticks = np.rint((times - times[0]) * TICKS_PER_S)
    wrong = (np.diff(ticks) <= 0) | (np.diff(ticks) >= MOST_TICKS)
    if wrong.any():
        fault = f"does not increase by 1/{TICKS_PER_S} s to 6 hours at image {wrong.argmax() + 1}"
        raise BadInput("t_s", fault, "give strictly increasing seconds")
    return ticks.astype(np.int64)


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
