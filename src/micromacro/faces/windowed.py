"""Large frames of a film, converted to pixels only where somebody looks.

A face takes a small part of a large frame, and converting all of it to RGB costs more than all that
is done with the face. Here windows are cut out of the decoder's planes and converted alone; their
pixels are those of the whole frame, bit for bit.
"""

from functools import cached_property

import cv2
import numpy as np

from micromacro.images import Pixels, frame_image, quarter_turns

LARGE_PX = 1280  # longest side of a frame that is converted as a whole: a small one costs little
FORMATS = ("yuv420p", "yuvj420p")  # of nearly all films; FFmpeg converts each 2x2 pixels alone
MARGIN_PX = 16  # beyond what is asked for: the next look at the same face is a little off
COLOUR = ("color_range", "colorspace", "color_primaries", "color_trc")  # decide the conversion


def picture(frame, pixels: Pixels) -> "np.ndarray | Windowed":
    """The picture of a decoded frame: an array as of `frame_image`, or windows of a large one."""
    sides = frame.width, frame.height
    plain = frame.format.name in FORMATS and not any(side % 2 for side in sides)
    return (
        Windowed(frame, pixels) if plain and max(sides) > LARGE_PX else frame_image(frame, pixels)
    )


class Windowed:
    """A decoded frame; `picture[top:bottom, left:right]` is an array of that window.

    Args:
        frame: As the decoder gives it, in one of `FORMATS`, of even sides.
        pixels: "rgb" or "luma".
        halvings: How often the sides are halved before conversion, by area means of the planes.

    Attributes:
        shape: (H, W, 3) for RGB or (H, W) for luma, upright, halved.
        ndim: Length of `shape`.
    """

    def __init__(self, frame, pixels: Pixels, halvings: int = 0):
        self.frame, self.pixels, self.halvings = frame, pixels, halvings
        # Views, upright: each 2x2 pixels and their colour stay together.
        self.planes = [np.rot90(_rows(plane), quarter_turns(frame)) for plane in frame.planes]
        height, width = (n >> halvings & ~1 for n in self.planes[0].shape)
        self.shape = (height, width, 3) if pixels == "rgb" else (height, width)
        self.ndim = len(self.shape)
        self.corners = np.array([height, width, 0, 0])  # top, left, -bottom, -right of `part`
        self.part = np.zeros((0, 0, *self.shape[2:]), np.uint8)

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        """The pixels of two slices without steps, uint8, a view; what was converted is kept."""
        sides = zip(window, self.shape, strict=False)
        (top, bottom), (left, right) = (side.indices(n)[:2] for side, n in sides)
        if top >= bottom or left >= right:
            return self.part[:0, :0]
        corners = np.minimum(self.corners, (top, left, -bottom, -right))
        if (corners < self.corners).any():
            limits = (0, 0, -self.shape[0], -self.shape[1])
            self.corners = np.maximum(corners // 2 * 2 - MARGIN_PX, limits)
            self.part = self._converted(*self.corners)
        y, x = self.corners[:2]
        return self.part[top - y : bottom - y, left - x : right - x]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """All pixels."""
        return self[:, :]

    @cached_property
    def half(self) -> "Windowed":
        """The same picture, with halved sides."""
        return Windowed(self.frame, self.pixels, self.halvings + 1)

    def thumb(self, size: tuple[int, int]) -> np.ndarray:
        """Luma at a small size (width, height) as the camera held it, uint8."""
        return self.frame.reformat(*size, "gray", interpolation="AREA", threads=1).to_ndarray()

    def _converted(self, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        """A window with even corners, the last two negated."""
        part = type(self.frame)(int(-right - left), int(-bottom - top), self.frame.format.name)
        for name in COLOUR:
            setattr(part, name, getattr(self.frame, name))
        for source, plane in zip(self.planes, part.planes, strict=True):
            step = len(self.planes[0]) // len(source)
            edges = (np.array([top, -bottom, left, -right]) << self.halvings) // step
            block = source[edges[0] : edges[1], edges[2] : edges[3]]
            for _ in range(self.halvings):
                size = block.shape[1] // 2, block.shape[0] // 2
                block = cv2.resize(np.ascontiguousarray(block), size, interpolation=cv2.INTER_AREA)
            _rows(plane)[...] = block
        return frame_image(part, self.pixels)


def _rows(plane) -> np.ndarray:
    """A plane of 8 bit as a view, (height, width)."""
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]
