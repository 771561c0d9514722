"""A face in a standard frame: five points to a template by a similarity, one warp from the source.

Coordinates are (x, y) in pixels whose centres are whole numbers. A transform is a float64 (2, 3)
matrix [[a, -b, tx], [b, a, ty]] that takes source pixels to crop pixels.
"""

import math

import cv2
import numpy as np

from micromacro.errors import BadInput

# ArcFace's five points on a 112-px crop (Deng et al. 2019): eyes, nose, mouth corners.
_EYES, _NOSE = ((38.2946, 51.6963), (73.5318, 51.5014)), (56.0252, 71.7366)
ARCFACE = np.array([*_EYES, _NOSE, (41.5493, 92.3655), (70.7299, 92.2041)])
TEMPLATE_PX = 112
LARGEST_PX = 2048  # side of a crop; beyond it a film of crops fills any memory
SHRINK_MARGIN = 0.75  # sample at least this often per source pixel before the area mean
HALVE_BELOW = 0.15  # crop pixels per source pixel: OpenCV halves fast, samples densely slowly


def template_points(size: int = TEMPLATE_PX) -> np.ndarray:
    """Where ArcFace's five points lie in a crop of `size` pixels.

    The outer edges of the crop scale, not its pixel centres, so every size frames the same skin.

    Args:
        size: Side of the crop, 8 to 2048; odd sizes work.

    Returns:
        float64 (5, 2), x y.

    Raises:
        BadInput: A size out of range.
    """
    if not isinstance(size, (int, np.integer)) or not 8 <= size <= LARGEST_PX:
        fault = f"is not a whole number from 8 to {LARGEST_PX}"
        raise BadInput(f"size {size}", fault, "use 112 or 224")
    return apply(rescale(TEMPLATE_PX, size), ARCFACE)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity that takes `source` to `target` with the least squared error, in closed form.

    With centred points p and q: a = Σ p·q / Σ|p|², b = Σ p×q / Σ|p|².

    Args:
        source: (N, 2) with N >= 2, x y in pixels.
        target: (N, 2), x y in pixels.

    Returns:
        float64 (2, 3).

    Raises:
        ValueError: All source points coincide.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    from_middle, to_middle = source.mean(axis=0), target.mean(axis=0)
    p, q = source - from_middle, target - to_middle
    energy = (p * p).sum()
    if not energy > 0:
        raise ValueError("similarity needs at least two different source points")
    a = (p * q).sum() / energy
    b = (p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum() / energy
    linear = np.array([[a, -b], [b, a]])
    return np.column_stack([linear, to_middle - linear @ from_middle])


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The transform that applies `inner` first, then `outer`; all (2, 3)."""
    linear = outer[:, :2] @ inner[:, :2]
    return np.column_stack([linear, outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def invert(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a (2, 3) transform."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`points`, (..., 2) x y, under a (2, 3) transform."""
    return np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]


def square_to_patch(
    centre: np.ndarray, side: float, turn: int, side_px: int, size: int
) -> np.ndarray:
    """Image to patch: a square of `side` gets `side_px` pixels in the middle of the patch, upright.

    Args:
        centre: (2,), x y: middle of the square.
        side: Side of the square in the image, pixels.
        turn: Quarter turns anticlockwise that bring it upright.
        side_px: Side of the square in the patch, pixels.
        size: Side of the patch, pixels.
    """
    cos, sin = ((1, 0), (0, -1), (-1, 0), (0, 1))[turn % 4]  # anticlockwise, y down
    linear = side_px / side * np.array([[cos, -sin], [sin, cos]], dtype=np.float64)
    return np.column_stack([linear, (size - 1) / 2 - linear @ centre])


def rescale(size: int, new_size: int) -> np.ndarray:
    """The transform from crops of one size to crops of another, edges on edges."""
    k = new_size / size
    return np.array([[k, 0, (k - 1) / 2], [0, k, (k - 1) / 2]], dtype=np.float64)


def warp(
    image: np.ndarray,
    matrix: np.ndarray,
    size: int,
    *,
    grey: bool = False,
    halve_below: float = HALVE_BELOW,
) -> np.ndarray:
    """Resample `image` once into a square crop, with a true area mean where it shrinks.

    `cv2.warpAffine(INTER_AREA)` is silently bilinear, which turns fine texture into noise: here the
    crop is sampled g times as densely, then averaged; a source that is much finer than the crop is
    halved first.

    Args:
        image: uint8 or float32 (H, W) or (H, W, 3).
        matrix: (2, 3), source to crop pixels.
        size: Side of the crop.
        grey: Whether only the luma of a uint8 image is wanted.
        halve_below: Crop pixels per source pixel below which the source is halved, once or more.

    Returns:
        (size, size) or (size, size, 3), same dtype; zero where the source has no pixels.
    """
    image, matrix = _window(image, matrix, size)
    if image.size == 0:
        return np.zeros((size, size, *image.shape[2:])[: 2 if grey else 3], image.dtype)
    scale = math.sqrt(abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]))
    while scale < halve_below:
        width, height = (max(1, n // 2) for n in image.shape[1::-1])
        whole = image[: height * 2, : width * 2]
        image = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
        matrix, scale = compose(matrix, rescale(1, 2)), 2 * scale
    if grey:
        image = luma(image)
    g = max(1, math.ceil(SHRINK_MARGIN / scale))
    dense = g * matrix
    dense[:, 2] += (g - 1) / 2
    colour = image.ndim == 3
    if colour:  # OpenCV 5 warps four channels twice as fast as three
        image = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    crop = cv2.warpAffine(image, dense, (size * g, size * g), flags=cv2.INTER_LINEAR)
    if g > 1:
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(crop, cv2.COLOR_RGBA2RGB) if colour else crop


def luma(image: np.ndarray) -> np.ndarray:
    """Luma of uint8 (H, W, 3) RGB; what is (H, W) stays."""
    if image.ndim == 2:
        return np.ascontiguousarray(image)
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)


def rgb(image: np.ndarray) -> np.ndarray:
    """`image`, uint8, with three channels: (H, W) three times, what is (H, W, 3) stays."""
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image


def _window(image: np.ndarray, matrix: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of `image` that a crop can see, and the transform from there."""
    edges = np.array([(-1, -1), (size, -1), (-1, size), (size, size)])
    seen = apply(invert(matrix), edges)
    low = np.maximum(np.floor(seen.min(axis=0)).astype(int) - 2, 0)
    high = np.maximum(np.ceil(seen.max(axis=0)).astype(int) + 3, 0)
    from_there = np.column_stack([matrix[:, :2], matrix[:, :2] @ low + matrix[:, 2]])
    return image[low[1] : high[1], low[0] : high[0]], from_there
