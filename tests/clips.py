"""A FaceClip of any crops, with losses and cuts where a test wants them."""

from collections.abc import Sequence

import numpy as np

from micromacro.clip import FaceClip


def face_clip(frames: np.ndarray, *, none: Sequence[int] = (), cuts=(), **changes) -> FaceClip:
    """Crops uint8 (T, C, S, S) as a clip: black without a face, a new shot from each cut on."""
    T, frames = len(frames), frames.copy()
    lost = np.isin(np.arange(T), none)
    frames[lost] = 0
    fields = {
        "frames": frames,
        "t_s": np.arange(T) / 30,
        "status": np.where(lost, "none", "track"),
        "score": np.where(lost, np.nan, 1).astype(np.float32),
        "landmarks": np.where(lost[:, None, None], np.nan, np.ones((T, 5, 2))).astype(np.float32),
        "transform": np.where(lost[:, None, None], np.nan, np.eye(2, 3)),
        "shot": np.searchsorted(cuts, np.arange(T), side="right").astype(np.int32),
        "n_faces": np.full(T, 2, np.int32),
        "mode": "aligned",
        "source": "a/video.mp4",
        "settings": {},
    }
    return FaceClip(**fields | changes)
