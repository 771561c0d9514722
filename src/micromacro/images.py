"""Pictures as 8-bit RGB or luma: the images of a folder in natural order, and decoded frames."""

import re
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageOps

from micromacro.errors import BadInput

if TYPE_CHECKING:
    import av  # 35 MB that pictures do without

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
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
    return sorted(files, key=_natural_key)


def _natural_key(file: Path) -> tuple:
    parts = re.split(r"([0-9]+)", file.name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], file.name


def load_image(file: Path, pixels: Pixels) -> np.ndarray:
    """Load one picture upright as uint8 (H, W, 3) RGB or (H, W) luma (BT.601), 0-255.

    EXIF orientation is applied; 16-bit grey is divided by 257, 16-bit colour keeps its high byte
    (the same to one level); transparency is laid on black; of several pages the first is taken.

    Raises:
        BadInput: Not an image, damaged, or pixels of more than 16 bit.
    """
    try:
        with warnings.catch_warnings():  # Pillow warns of odd metadata, which is not used here
            warnings.simplefilter("ignore")
            with Image.open(file) as opened:
                image = _eight_bit(file, ImageOps.exif_transpose(opened))
            return np.array(image.convert("RGB" if pixels == "rgb" else "L"))
    except BadInput:
        raise
    except (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError) as error:
        fault = f"not an image, or damaged ({type(error).__name__})"
        raise BadInput(file, fault, "replace or remove the file") from error


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
    """Convert a decoded frame to uint8 (H, W, 3) RGB or (H, W) luma, full range and upright."""
    # threads=1: PyAV's default converts with every core, 10 times slower where they are busy.
    rgb = pixels == "rgb"
    image = frame.to_ndarray(format="rgb24", threads=1) if rgb else _luma(frame)
    return np.ascontiguousarray(np.rot90(image, quarter_turns(frame)))


def quarter_turns(frame: "av.VideoFrame") -> int:
    """Return how often the frame is to be turned by 90 degrees, counter-clockwise: 0 to 3."""
    return round(frame.rotation / 90) % 4


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
