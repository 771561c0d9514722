"""Films with a known truth: a portrait photograph moved along a path."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
CANVAS = (360, 640)
FACE = np.array([224.0, 120.0])  # middle of the face in the photograph, x y


@dataclass(frozen=True)
class Portrait:
    """uint8 (T, 360, 640, 3), and (T, 2, 3): photograph to frame."""

    frames: np.ndarray
    paths: np.ndarray

    def truth(self) -> np.ndarray:
        """(T, 2, 3): frame to the photograph's pixels, which holds the head still."""
        return np.stack([cv2.invertAffineTransform(m) for m in self.paths])


def _move_portrait(
    n_frames=24, *, scale=1.5, drift=4.0, noise=2.0, gain=1.0, at=(320, 180), turn=0.0, seed=0
) -> Portrait:
    rng = np.random.default_rng(seed)
    photo = skimage.data.astronaut()
    swing = np.sin(np.arange(n_frames)[:, None] / (9, 13, 11, 8) + rng.uniform(0, 6, 4))
    frames, paths = [], []
    for x, y, roll, grow in swing * (drift, drift, 0.5 * drift, 0.004 * drift):
        matrix = cv2.getRotationMatrix2D((0, 0), roll + turn, scale * (1 + grow))
        matrix[:, 2] = np.add(at, (x, y)) - matrix[:, :2] @ FACE
        grid = np.stack(np.meshgrid(np.arange(CANVAS[1]), np.arange(CANVAS[0])), -1)
        back = cv2.invertAffineTransform(matrix)
        where = (grid @ back[:, :2].T + back[:, 2]).astype(np.float32)
        image = cv2.remap(photo, where, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        image = gain * (image + rng.normal(0, noise, image.shape))
        frames.append(np.clip(np.rint(image), 0, 255).astype(np.uint8))
        paths.append(matrix)
    return Portrait(np.stack(frames), np.stack(paths))


@pytest.fixture(scope="session")
def move_portrait():
    """The function that makes a film: frames, scale, drift, noise, gain, place, turn, seed."""
    return _move_portrait


def _cover(frames: np.ndarray, start: int, stop: int, at=(320, 180)) -> np.ndarray:
    covered = frames.copy()
    x, y = at
    for frame in covered[start:stop]:
        face = frame[y - 65 : y + 65, x - 60 : x + 60]
        face[...] = face.mean(axis=(0, 1))
    return covered


@pytest.fixture(scope="session")
def cover():
    """Smears a face of scale 1 in frames start..stop-1: an occluder too faint to look like a
    cut."""
    return _cover


@pytest.fixture(scope="session")
def portrait() -> Portrait:
    """24 frames, read by several tests; do not write into it."""
    return _move_portrait()


@pytest.fixture(scope="session")
def scenery() -> np.ndarray:
    """uint8 (12, 360, 640, 3): smooth noise that slowly pans; no face."""
    rng = np.random.default_rng(5)
    wide = cv2.GaussianBlur(rng.uniform(0, 255, (360, 700, 3)).astype(np.float32), (0, 0), 6)
    wide = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return np.stack([wide[:, 4 * t : 4 * t + 640] for t in range(12)])


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path


@pytest.fixture
def shared_file():
    """A file beside the checkout that a user's machine does not have, or a skip that says so."""
    return _shared
