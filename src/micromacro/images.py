"""Pictures as 8-bit RGB or luma: the images of a folder in natural order, and decoded frames."""

import math
import re
import warnings
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageOps

from micromacro.errors import BadInput

if TYPE_CHECKING:
    import av  # 35 MB that pictures do without

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".pgm", ".ppm"}
)
LONGEST_GAP = 30_000  # steps from a picture to the next: beyond a quarter of an hour, a stray name
LARGEST_ASPECT = 4  # of a pixel: no camera or disc has more, a damaged header may
SQUARE = 0.01  # pixels this near to square are a scaler's rounding (853:854): left as they are
HDR = {16: "PQ", 18: "HLG"}  # transfer curves, ITU-T H.273
BT709 = 1  # its number as transfer curve and as primaries there
Y_PLANE = re.compile(r"(yuv[aj]?4[0-9]{2}p|nv12|nv21|gray)([0-9]+le)?")  # pixel formats

Pixels = Literal["rgb", "luma"]


def image_files(folder: Path) -> list[Path]:
    """Return the images of a folder in natural order of the numbers in their names.

    Raises:
        BadInput: The folder holds no image of a known kind.
    """
    shown = (file for file in folder.iterdir() if file.name[0] != "." and file.is_file())
    files = [file for file in shown if file.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        kinds = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise BadInput(folder, "a folder without images", f"give a folder with {kinds} files")
    return sorted(files, key=lambda file: (_natural_key(file.name), file.name))


def _natural_key(name: str) -> list:
    parts = re.split(r"([0-9]+)", name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def pictures_of(source: Path) -> list[Path]:
    """Return the images of a folder (`image_files`), or the one that a file is; none of a film."""
    if source.is_dir():
        return image_files(source)
    return [source] if source.suffix.lower() in IMAGE_SUFFIXES else []


def picture_numbers(files: Sequence[Path], notes: list[str]) -> list[int]:
    """Return the place of each picture in time: the last number in its name, less the first one's.

    Names that differ in more than that number, or whose number is a clock's, are no series: those
    pictures are counted instead.

    Args:
        files: Pictures in natural order.
        notes: What a user should know about the numbers is added here.

    Raises:
        BadInput: Two pictures of one name or number; a number far beyond the one before.
    """
    for one, other in pairwise(files):
        if _natural_key(one.stem) == _natural_key(other.stem):
            fault = f"stands for the same picture as {one.name}"
            raise BadInput(other, fault, "keep one of them in the folder")
    matches = [re.fullmatch(r"(.*?)([0-9]+)([^0-9]*)", file.stem.lower()) for file in files]
    one_series = None not in matches and len({(match[1], match[3]) for match in matches}) == 1
    numbers = [int(match[2]) for match in matches] if one_series else []
    steps = [after - before for before, after in pairwise(numbers)] or [1]
    if not one_series or median_low(steps) > LONGEST_GAP:
        if len(files) > 1:
            notes.append("names are no series of frame numbers: taken as evenly spaced")
        return list(range(len(files)))
    for file, step in zip(files[1:], steps, strict=False):
        if step > LONGEST_GAP:
            fault = f"is numbered {step} after the picture before it"
            raise BadInput(file, fault, "rename it, or take it out of the folder")
    if max(steps) > 1:
        words = f"steps of {median_low(steps)} to {max(steps)}"
        notes.append(f"pictures are numbered in {words}: a gap in number is one in time")
    return [number - numbers[0] for number in numbers]


def load_image(file: Path, pixels: Pixels) -> np.ndarray:
    """Load one picture upright as uint8 (H, W, 3) RGB or (H, W) luma (BT.601), 0-255.

    EXIF orientation is applied; 16-bit grey is divided by 257, 16-bit colour keeps its high byte
    (the same to one level); transparency is laid on black.

    Raises:
        BadInput: Not an image, damaged, of several pages, or pixels of more than 16 bit.
    """
    try:
        with warnings.catch_warnings():  # Pillow warns of odd metadata, which is not used here
            warnings.simplefilter("ignore")
            with Image.open(file) as opened:
                _refuse_pages(file, opened)
                image = _eight_bit(file, ImageOps.exif_transpose(opened))
            return np.array(image.convert("RGB" if pixels == "rgb" else "L"))
    except BadInput:
        raise
    except (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError) as error:
        fault = f"not an image, or damaged ({type(error).__name__})"
        raise BadInput(file, fault, "replace or remove the file") from error


def _refuse_pages(file: Path, image: Image.Image) -> None:
    # MPO is a photograph, with its preview or depth map behind it.
    if image.format != "MPO" and (pages := getattr(image, "n_frames", 1)) > 1:
        fault = f"holds {pages} pages, a folder has one picture in a file"
        raise BadInput(file, fault, "save each page as a picture of its own, numbered")


def picture_header(file: Path) -> tuple[bool, float]:
    """Return whether a picture stores more than 8 bits a channel; its pixels' width by height."""
    with Image.open(file) as image:
        deep = image.mode == "I" or ";16" in f"{image.mode} {image.tile}"
        high, wide = image.info.get("dpi", (1, 1))
        if image.info.get("jfif_unit") == 0:
            wide, high = image.info["jfif_density"]
        wide, high = map(float, image.info.get("aspect", (wide, high)))
        return deep, wide / high if wide and high else 1.0


def _eight_bit(file: Path, image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise BadInput(file, "grey values outside 16 bit", "save it with 8 or 16 bit")
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise BadInput(file, "floating-point pixels", "save it with 8 or 16 bit")
    if image.has_transparency_data:
        top = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", top.size, (0, 0, 0, 255)), top)
    return image


def frame_image(frame: "av.VideoFrame", pixels: Pixels) -> np.ndarray:
    """Convert a decoded frame to uint8 (H, W, 3) RGB or (H, W) luma, full range and turned upright.

    What else a film may want, `FrameConverter` does.
    """
    # threads=1: PyAV's default converts with every core, 10 times slower where they are busy.
    rgb = pixels == "rgb"
    image = frame.to_ndarray(format="rgb24", threads=1) if rgb else _luma(frame)
    return np.ascontiguousarray(np.rot90(image, orientation(frame)[0]))


def orientation(frame: "av.VideoFrame") -> tuple[int, bool]:
    """Return how a stored frame is made upright: quarter turns, then a mirror.

    The display matrix takes a stored pixel to x' = a x + c y, y' = b x + d y (ISO 14496-12).

    Returns:
        Turns by 90 degrees counter-clockwise, 0 to 3; whether left and right change places then.
    """
    from av.sidedata.sidedata import Type

    if (data := frame.side_data.get(Type.DISPLAYMATRIX)) is None:
        return 0, False
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()
    mirrored = a * d < b * c
    return round(-math.atan2(b, -a if mirrored else a) / (math.pi / 2)) % 4, mirrored


class FrameConverter:
    """Makes pictures of the frames of a film: upright, unmirrored, of square pixels.

    HDR is mapped to BT.709 by FFmpeg's own curves, reference white to white.

    Args:
        stream: The stream of the frames.
        pixels: "rgb" or "luma".
    """

    def __init__(self, stream: "av.VideoStream", pixels: Pixels):
        from av.video.reformatter import VideoReformatter

        self.pixels = pixels
        self.said = said = float(stream.sample_aspect_ratio or 1)  # width of a pixel by its height
        believed = abs(said - 1) > SQUARE and 1 / LARGEST_ASPECT <= said <= LARGEST_ASPECT
        self.aspect = said if believed else 1.0
        self.reformatter = VideoReformatter()  # a film's own: tables for HDR take seconds to make

    def __call__(self, frame: "av.VideoFrame") -> np.ndarray:
        """Return the picture of one frame; C-contiguous."""
        (turns, mirrored), hdr = orientation(frame), frame.color_trc in HDR
        if self.aspect == 1 and not (mirrored or hdr):
            return frame_image(frame, self.pixels)
        if self.pixels == "luma" and not hdr:
            image = _luma(frame)
        else:
            to = {"dst_color_trc": BT709, "dst_color_primaries": BT709} if hdr else {}
            image = self.reformatter.reformat(frame, format="rgb24", threads=1, **to).to_ndarray()
        picture = Image.fromarray(image).resize(self.square_size(frame), Image.Resampling.BICUBIC)
        image = np.array(picture.convert("L") if self.pixels == "luma" else picture)  # owned
        image = np.rot90(image, turns)
        return np.ascontiguousarray(image[:, ::-1] if mirrored else image)

    def square_size(self, frame: "av.VideoFrame") -> tuple[int, int]:
        """Return width and height of a frame, not yet turned, once its pixels are square.

        No side shrinks. Pixels within 1 % of square, or beyond 4:1, stay as they are.
        """
        return round(frame.width * max(self.aspect, 1)), round(frame.height / min(self.aspect, 1))

    def notes(self, frame: "av.VideoFrame") -> list[str]:
        """Return in words what the file says of its pixels that changes what is read."""
        notes = []
        if abs(self.said - 1) > SQUARE:
            size = "x".join(map(str, self.square_size(frame)))
            notes.append(f"pixels {self.said:.3g} times as wide as high: {size} square ones")
        if frame.color_trc in HDR:
            notes.append(f"HDR ({HDR[frame.color_trc]}): mapped to the standard range, BT.709")
        return notes


def _luma(frame: "av.VideoFrame") -> np.ndarray:
    """Return the Y plane on the full range; without a plain one, what FFmpeg makes as grey."""
    from av.video.reformatter import ColorRange

    name = frame.format.name
    if not Y_PLANE.fullmatch(name):
        return frame.to_ndarray(format="gray", threads=1)
    bits, plane = frame.format.components[0].bits, frame.planes[0]
    rows = np.frombuffer(plane, np.uint8 if bits == 8 else np.dtype("<u2"))
    rows = rows.reshape(-1, plane.line_size // rows.itemsize)[: frame.height, : frame.width]
    full = name.startswith(("yuvj", "gray")) or frame.color_range == ColorRange.JPEG
    return np.take(_luma_table(bits, full), rows, mode="clip")


@cache
def _luma_table(bits: int, full: bool) -> np.ndarray:
    """Code value -> 0-255; limited range puts black at 16 and white at 235 of 8 bit (BT.601)."""
    code = np.arange(2**bits)
    grey = code * 255 / (2**bits - 1) if full else (code / 2 ** (bits - 8) - 16) * 255 / 219
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
