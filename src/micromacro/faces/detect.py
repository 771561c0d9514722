"""Where faces are in an image: two detectors behind one call, a second look after a miss."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch

from micromacro.errors import BadInput, check_choice
from micromacro.faces.align import rgb, warp
from micromacro.faces.mtcnn import STAGES, find_faces, load_net
from micromacro.weights import fetch_weights

BACKENDS = ("mtcnn", "yunet")
LONG_SIDE_PX = 1280  # larger frames are shrunk to look for faces: the time goes with the area
SMALLEST_FACE_PX = 20  # both detectors found 9 of 9 faces of this size, and none much smaller
FLAT_RANGE = 160  # grey levels between the 1 % and 99 % points; below it a stretch can help


@dataclass(frozen=True)
class Faces:
    """The faces of one image.

    Attributes:
        boxes: float32 (N, 4), x0 y0 x1 y1 in pixels; pixel centres are whole numbers.
        scores: float32 (N,), in [0, 1].
        landmarks: float32 (N, 5, 2), x y in pixels: left eye, right eye, nose, left and right mouth
            corner. Left is left in the image of an upright face.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def keep(self, mask: np.ndarray) -> "Faces":
        """The faces where `mask`, bool (N,), holds."""
        return Faces(self.boxes[mask], self.scores[mask], self.landmarks[mask])

    def scaled(self, factor: float) -> "Faces":
        """The same faces in an image `factor` times as large."""
        shift = np.float32((factor - 1) / 2)  # pixel centres are whole numbers, edges at -1/2
        boxes, points = (at * np.float32(factor) + shift for at in (self.boxes, self.landmarks))
        return Faces(boxes, self.scores, points)

    def turned_back(self, turn: int, shape: tuple[int, int]) -> "Faces":
        """Coordinates in `np.rot90(image, turn)`, brought back to the image of `shape` (H, W)."""
        points = turn_back(self.landmarks, turn, shape)
        corners = turn_back(self.boxes.reshape(-1, 2, 2), turn, shape)
        boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        return Faces(boxes, self.scores, points)


def no_faces() -> Faces:
    """A result without any face."""
    return Faces(*(np.zeros((0, *shape), np.float32) for shape in ((4,), (), (5, 2))))


def turn_back(points: np.ndarray, turn: int, shape: tuple[int, int]) -> np.ndarray:
    """Points of `np.rot90(image, turn)` in the coordinates of the image itself.

    Args:
        points: (..., 2), x y in pixels.
        turn: Quarter turns anticlockwise, 0 to 3.
        shape: Height and width of the image before the turn.
    """
    height, width = shape
    x, y = points[..., 0], points[..., 1]
    moved = [(x, y), (width - 1 - y, x), (width - 1 - x, height - 1 - y), (y, height - 1 - x)]
    return np.stack(moved[turn % 4], axis=-1)


class Detector(Protocol):
    """What tracking needs of a detector: the call, and the score that may start a track."""

    start_score: float

    def __call__(self, image: np.ndarray) -> Faces:
        """All faces in `image`, uint8 (H, W, 3) RGB."""
        ...


class MtcnnDetector:
    """MTCNN (Zhang et al. 2016), with the weights that facenet-pytorch 2.5.3 carries.

    It reports some shirts and logos at scores up to 0.87, hence the start score of 0.9. It crops at
    whole pixels, so its landmarks jump by about a pixel from frame to frame: use it to find a face,
    not to follow one.

    Args:
        min_face_px: Smallest face looked for. 20 finds all that O-Net can read, at 47 ms for a
            640x360 frame on one core; 48 takes 20 ms.
    """

    start_score = 0.9

    def __init__(self, min_face_px: int = SMALLEST_FACE_PX):
        self.min_face_px = min_face_px
        for name in STAGES:
            load_net(name)  # weights that are missing are missed here, before a film is opened

    def __call__(self, image: np.ndarray) -> Faces:
        """All faces in `image`, uint8 (H, W, 3) RGB, whatever their score."""
        image, factor = _shrunk(image)
        return Faces(*find_faces(image, self.min_face_px)).scaled(factor)


class YunetDetector:
    """YuNet through OpenCV (Wu et al. 2023): the better finder, with the worse landmarks.

    Args:
        weights: ONNX file; `None` takes it from the cache or downloads it.
        sha256: Hash of a file of your own.
    """

    start_score = 0.8  # its scores run lower than MTCNN's: six upright faces scored 0.93 to 0.94

    def __init__(self, weights=None, sha256: str | None = None):
        path = fetch_weights("yunet", path=weights, sha256=sha256)
        log = cv2.utils.logging
        level = log.setLogLevel(log.LOG_LEVEL_ERROR)  # OpenCV 5 warns of a target nobody asked for
        self.net = cv2.FaceDetectorYN.create(str(path), "", (320, 320), 0.6, 0.3, 50)
        log.setLogLevel(level)

    def __call__(self, image: np.ndarray) -> Faces:
        """All faces in `image`, uint8 (H, W, 3) RGB, at scores of at least 0.6."""
        image, factor = _shrunk(image)
        if min(image.shape[:2]) < SMALLEST_FACE_PX:
            return no_faces()
        self.net.setInputSize(image.shape[1::-1])
        _, rows = self.net.detect(np.ascontiguousarray(image[..., ::-1]))
        if rows is None:
            return no_faces()
        corner, size = rows[:, :2], rows[:, 2:4]
        boxes = np.concatenate([corner, corner + size], axis=1)
        return Faces(boxes, rows[:, 14], rows[:, 4:14].reshape(-1, 5, 2)).scaled(factor)


def make_detector(backend: str = "mtcnn", weights=None, sha256: str | None = None) -> Detector:
    """The detector called `backend`, one of `BACKENDS`.

    Raises:
        BadInput: The name is unknown, or weights or a hash were given to MTCNN, which has its own.
    """
    check_choice("backend", backend, BACKENDS)
    if backend == "yunet":
        return YunetDetector(weights, sha256)
    if (own := weights or sha256) is not None:
        raise BadInput(own, "mtcnn carries its own weights", "leave weights out, or use yunet")
    return MtcnnDetector()


@dataclass(frozen=True)
class Sighting:
    """What a search found: the faces, in image coordinates, and what it took to see them."""

    faces: Faces
    turn: int = 0  # quarter turns anticlockwise that bring the faces upright
    stretched: bool = False  # found only after the contrast was stretched


def search(detector: Detector, image: np.ndarray, turn: int = 0) -> Sighting:
    """Look for faces; on a miss look again with stretched contrast.

    Measured: a stretch between the 1 % and 99 % points recovers 9 of 9 portraits at gain 0.05.

    Args:
        detector: Callable on uint8 (H, W, 3).
        image: uint8 (H, W, 3) RGB or (H, W) grey.
        turn: Quarter turns anticlockwise before looking; the answer is in the image as given.
    """
    shape, image = image.shape[:2], rgb(image)
    for stretched in (False, True):
        view = stretch(image) if stretched else image
        if view is None:
            continue
        faces = detector(np.ascontiguousarray(np.rot90(view, turn)))
        faces = faces.keep(faces.scores >= detector.start_score)
        if len(faces):
            return Sighting(faces.turned_back(turn, shape), turn, stretched)
    return Sighting(no_faces(), turn)


def stretch(image: np.ndarray) -> np.ndarray | None:
    """`image` with its 1 % and 99 % grey levels at 0 and 255; `None` where that changes little.

    Args:
        image: uint8 (H, W) or (H, W, 3).
    """
    low, high = np.percentile(image[::2, ::2], (1, 99))  # a quarter of the pixels says the same
    if not 1 < high - low < FLAT_RANGE:
        return None
    levels = (np.arange(256) - low) * (255 / (high - low))
    return cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8))


def rgb_patch(image: np.ndarray, matrix: np.ndarray, size: int, stretched: bool) -> np.ndarray:
    """A patch of `image`, uint8 (size, size, 3); its contrast stretched, if asked and of use."""
    patch = warp(image, matrix, size)
    flat = stretch(patch) if stretched else None
    return rgb(patch if flat is None else flat)


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """One torch and one OpenCV thread inside, the caller's settings afterwards.

    With two threads on two busy cores MTCNN ran at 0.6 frames/s against 15 with one: small
    convolutions wait for each other. Use processes, one per video.
    """
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _shrunk(image: np.ndarray) -> tuple[np.ndarray, float]:
    """`image` with its long side at most `LONG_SIDE_PX`, and the factor that undoes it."""
    factor = max(image.shape[:2]) / LONG_SIDE_PX
    if factor <= 1:
        return image, 1.0
    size = tuple(round(n / factor) for n in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), factor
