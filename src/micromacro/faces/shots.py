"""Where a film is cut: a track, a stabiliser or a snippet must never cross a cut."""

from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from micromacro.video import Frame

THUMB = (64, 36)  # width, height: small enough to be cheap, large enough to see a new scene
LEAST_CHANGE = 6.0  # grey levels: below it no cut, however still the shot
RATIO = 5.0  # measured: largest change inside a shot 2.6 times the local median, cuts from 10
CONTEXT = 5  # frames on either side in the local median


def mark_cuts(frames: Iterable[Frame]) -> Iterator[tuple[Frame, int]]:
    """Give each frame the number of its shot, 0 onwards; five frames are held back.

    A cut is a frame whose mean absolute luma change at 64x36 exceeds 6 grey levels and five times
    (the median change of its ten neighbours + 0.5). Measured: every cut of three edited clips, no
    false cut in 853 frames. A flash of one frame counts as two cuts.
    """
    changes, waiting = deque(maxlen=2 * CONTEXT + 1), deque()
    previous, shot = None, 0
    for frame in frames:
        thumb = _thumb(frame.image)
        changes.append(np.nan if previous is None else np.abs(thumb - previous).mean())
        previous = thumb
        waiting.append(frame)
        if len(waiting) > CONTEXT:
            shot += _is_cut(changes, len(changes) - len(waiting))
            yield waiting.popleft(), shot
    while waiting:
        shot += _is_cut(changes, len(changes) - len(waiting))
        yield waiting.popleft(), shot


def _is_cut(changes: deque, position: int) -> bool:
    """Whether the change at `position` stands out among its neighbours; nan is never a cut."""
    others = [c for i, c in enumerate(changes) if i != position and np.isfinite(c)]
    usual = np.median(others) if others else 0.0
    return bool(changes[position] > max(LEAST_CHANGE, RATIO * (usual + 0.5)))


def _thumb(image: np.ndarray) -> np.ndarray:
    """Luma of `image`, uint8 (H, W[, 3]), at 64x36 as float32."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    return cv2.resize(grey, THUMB, interpolation=cv2.INTER_AREA).astype(np.float32)
