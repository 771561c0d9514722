"""Pictures on disk, found by the number that ends their name, and clips made of them.

Official names differ: ``reg_img46.jpg``, ``EP01_12-073.jpg``, ``006_05562.jpg``,
``image000123.bmp``. The released code forces prefix and extension and stops at any stray file; here
whatever stands before the number is free, and so is the kind of picture. A file that is no picture
(Thumbs.db) or whose name does not end in a number is passed over.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from micromacro.errors import BadInput
from micromacro.files import existing
from micromacro.images import image_files, load_image

LAST_NUMBER = re.compile(r"[0-9]+$")
RESTORE = "restore the official pictures"


def numbered_pictures(folder: str | Path) -> dict[int, Path]:
    """The pictures of a folder by the number at the end of their name, in order of the numbers.

    Raises:
        BadInput: No such folder, no picture with a number, or a number twice.
    """
    folder = existing(folder)
    if not folder.is_dir():
        raise BadInput(folder, "is not a folder", RESTORE)
    found: dict[int, Path] = {}
    for file in image_files(folder):
        match = LAST_NUMBER.search(file.stem)
        if match is None:
            continue
        number = int(match[0])
        if number in found:
            fault = f"has the same frame number as {found[number].name}"
            raise BadInput(file, fault, "keep one of them")
        found[number] = file
    if not found:
        raise BadInput(folder, "has no picture whose name ends in a number", RESTORE)
    return dict(sorted(found.items()))


def place(folder: Path, onset: int, apex: int | None, offset: int) -> dict:
    """Where a clip lies in its folder: columns of the clip table.

    Args:
        folder: Of the clip's pictures.
        onset: Official number of the first frame that counts.
        apex: Official number; None if there is none.
        offset: Official number of the last frame that counts.

    Returns:
        path; first, the lowest number on disk: frame 0; onset, apex and offset counted from there;
        n_frames, the highest number - first + 1.

    Raises:
        BadInput: As `numbered_pictures`; onset after offset, one frame only, or a frame from onset
            to offset that is not there.
    """
    numbers = list(numbered_pictures(folder))
    first, last = numbers[0], numbers[-1]
    if onset >= offset:
        fault = f"runs from frame {onset} to {offset}"
        raise BadInput(folder, fault, "a clip needs two frames; patch it if the sheet is wrong")
    lost = sorted(set(range(onset, offset + 1)) - set(numbers))
    if lost:
        held = f"the folder holds {first} to {last}"
        fault = f"should hold frames {onset} to {offset}, {_named(lost)} not there ({held})"
        raise BadInput(folder, fault, f"{RESTORE}, or patch the clip if the sheet is wrong")
    return {
        "path": str(folder),
        "first": first,
        "onset": onset - first,
        "apex": None if apex is None else apex - first,
        "offset": offset - first,
        "n_frames": last - first + 1,
    }


def load_frames(row: pd.Series, size: int | tuple[int, int] | None = None) -> np.ndarray:
    """Load frames onset to offset, both included, of a row of the clip table.

    Grey is 0.299 R + 0.587 G + 0.114 B. Resizing is bilinear, averaging over the pixels that fall
    into one; like the released code it does not keep the aspect ratio.

    Args:
        row: With path, first, onset and offset as the readers give them.
        size: Side of the square frames, (H, W), or None for that of the pictures; pixels.

    Returns:
        uint8 (T, 1, H, W), 0-255, T = offset - onset + 1, at least 2.

    Raises:
        BadInput: Row without onset and offset or with one frame only; folder missing or empty; a
            frame that is not there, is damaged or of another size than the first.
    """
    files = clip_files(row)
    if isinstance(size, int):
        size = (size, size)
    frames, shape = [], None
    for file in files:
        grey = load_image(file, "luma")
        shape = _same_size(file, grey.shape, shape)
        frames.append(grey if size in (None, shape) else _resized(grey, size))
    return np.stack(frames)[:, None]


def check_sizes(row: pd.Series) -> None:
    """Open the frames of a clip, headers only: all readable, and of one size.

    Raises:
        BadInput: As `load_frames`, but for pictures that are damaged after their header.
    """
    shape = None
    for file in clip_files(row):
        try:
            with Image.open(existing(file)) as image:
                shape = _same_size(file, image.size[::-1], shape)
        except (OSError, ValueError) as error:
            if isinstance(error, BadInput):
                raise
            raise BadInput(file, "not an image, or damaged", RESTORE) from error


def clip_files(row: pd.Series) -> list[Path]:
    """The pictures from onset to offset, in order, at least two.

    Raises:
        BadInput: As `load_frames` for what concerns row, folder and frames that are not there.
    """
    if row.reindex(["first", "onset", "offset"]).isna().any():
        raise BadInput(row["path"], "has no onset and offset", "use a row that a reader gave")
    numbers = range(int(row["first"] + row["onset"]), int(row["first"] + row["offset"]) + 1)
    if len(numbers) < 2:
        raise BadInput(row["path"], f"is {len(numbers)} frame(s) long", "a clip needs two frames")
    there = numbered_pictures(row["path"])
    lost = [number for number in numbers if number not in there]
    if lost:
        raise BadInput(row["path"], f"{_named(lost)} not there any more", RESTORE)
    return [there[number] for number in numbers]


def _named(lost: Sequence[int]) -> str:
    more = f" and {len(lost) - 1} more are" if len(lost) > 1 else " is"
    return f"frame {lost[0]}{more}"


def _same_size(file: Path, shape: tuple[int, int], wanted: tuple[int, int] | None) -> tuple:
    if wanted is not None and shape != wanted:
        fault = f"is {shape[1]}x{shape[0]}, the clip's first frame {wanted[1]}x{wanted[0]}"
        raise BadInput(file, fault, RESTORE)
    return shape


def _resized(grey: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    H, W = size
    return np.asarray(Image.fromarray(grey).resize((W, H), Image.Resampling.BILINEAR))
