"""Features of clips from a frozen backbone, each computed once and kept in a folder."""

import hashlib
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from micromacro.backbones import N_FEATURES, FrozenResNet50
from micromacro.clip import FaceClip
from micromacro.errors import BadInput
from micromacro.files import replacing

VERSION = 1  # of the extraction; part of the key of every cached feature


class FrozenFeatures:
    """Features of clips, each computed once and kept in ``<folder>/<key>.npz``.

    The key is a hash of the weights' file, the preprocessing and the clip's pixels: other weights
    or another alignment of the same video never meet the wrong file, and equal clips share one. A
    file appears whole or not at all, so a run that was killed goes on with the first clip missing.

    ``numpy.load(path, allow_pickle=False)`` gives ``features`` and ``about``, a string with JSON:
    the backbone's settings, the clip's source, torch's version.

    Args:
        backbone: It is moved to `device`.
        folder: Of the cache; made if missing.
        dtype: On disk: "float16" (4 kB a frame; relative error 2^-11) or "float32".
        device: Of the arithmetic.
        batch: Frames computed at a time.

    Raises:
        BadInput: The folder cannot be made.
    """

    def __init__(
        self,
        backbone: FrozenResNet50,
        folder: str | Path,
        *,
        dtype: str = "float16",
        device: str | torch.device = "cpu",
        batch: int = 32,
    ):
        if dtype not in ("float16", "float32"):
            raise BadInput(f"dtype {dtype!r}", "unknown", "give float16 or float32")
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fault = f"cannot be made a folder ({error.strerror})"
            raise BadInput(self.folder, fault, "choose another folder") from error
        self.backbone, self.dtype, self.batch = backbone.to(device), dtype, batch
        self.device = torch.device(device)

    def __call__(self, clip: FaceClip) -> np.ndarray:
        """Features of a clip, from the cache or computed and stored.

        Returns:
            float32 (T, 2048), rounded as on disk; zero where ``clip.status`` is "none".

        Raises:
            BadInput: A feature is too large for float16; the file cannot be written.
        """
        path = self.path(clip)
        features = _stored(path, len(clip))
        if features is None:
            with np.errstate(over="ignore"):  # caught in the next line
                features = self._compute(clip).astype(self.dtype)
            if not np.isfinite(features).all():
                raise BadInput(clip.source, "features beyond float16", 'use dtype="float32"')
            about = {**self.backbone.settings, "source": clip.source, "torch": torch.__version__}
            with replacing(path) as part, part.open("wb") as file:
                np.savez_compressed(file, features=features, about=json.dumps(about))
        return features.astype(np.float32)

    def path(self, clip: FaceClip) -> Path:
        """Where the features of a clip are, or will be."""
        # The file's name is a matter of taste, its content is not.
        what = {k: v for k, v in self.backbone.settings.items() if k != "file"}
        what.update(version=VERSION, dtype=self.dtype, shape=clip.frames.shape)
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
        digest.update((clip.status == "none").tobytes())
        digest.update(np.ascontiguousarray(clip.frames).data)
        return self.folder / f"{digest.hexdigest()[:32]}.npz"

    def _compute(self, clip: FaceClip) -> np.ndarray:
        features = np.zeros((len(clip), N_FEATURES), np.float32)
        seen = np.flatnonzero(clip.status != "none")
        for start in range(0, len(seen), self.batch):
            rows = seen[start : start + self.batch]
            images = torch.from_numpy(clip.frames[rows]).to(self.device).float() / 255
            features[rows] = self.backbone(images).cpu().numpy()
        return features


def _stored(path: Path, n_frames: int) -> np.ndarray | None:
    """Features of a cache file; None if there is none, or none that can be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            features = arrays["features"]
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return features if features.shape == (n_frames, N_FEATURES) else None
