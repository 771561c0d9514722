"""Official clips on disk: faces and features in a form that a few frames can be read from.

`prepare` makes, once, ``<cache>/paper/<dataset>/<clip>-<hash>/`` for each clip:

    faces.npy              uint8 (T, 1, S, S), grey faces, full size: flip and crop come before 48 px
    features-<hash>.npy    float16 (T, 2048), ResNet-50 on the colour faces; zero without a face
    about.npz              which frames show a face, which snippets are whole, frames per second

Arrays that are read a few rows at a time, so memory is bounded by one batch in training and by one
clip in `prepare`. At 112 px a frame takes 17 kB, Aff-Wild's 1.2 million 20 GB; beside them lie the
caches that they are made from, of faces (films only) and of features. What is there is not made
again; a clip that has changed is.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from micromacro.backbones import FrozenFeatures, FrozenResNet50
from micromacro.clip import FaceClip
from micromacro.errors import BadInput
from micromacro.files import existing, replacing
from micromacro.systems.mimamo.data import (
    LabelledClips,
    centred_snippets,
    labelled_faces,
    stepped_snippets,
)
from micromacro.systems.mimamo.data.faces import FPS, check_label_count

SIZE = 112  # pixels of the faces cut from films, as OpenFace's for the released code


@dataclass(frozen=True, eq=False)
class StoredClip:
    """One official clip; its pixels and features stay on disk.

    Attributes:
        name: "split/video/clip".
        video: It belongs to; folds go by it.
        clip: Name within the video (OMG-Emotion), or the video's own.
        split: Of the official data.
        labels: float32 (2,) valence and arousal of the clip, or (T, 2) of each frame; nan for none.
        folder: With faces.npy.
        features: The file of features.
        seen: bool (T,), frames with a face.
        centred: bool (T,), whether the snippet around each frame is whole.
        stepped: bool (max(0, T - 12),), whether the snippet from each frame on is whole.
        fps: Frames per second.
    """

    name: str
    video: str
    clip: str
    split: str
    labels: np.ndarray
    folder: Path
    features: Path
    seen: np.ndarray
    centred: np.ndarray
    stepped: np.ndarray
    fps: float

    def read(self, file: Path, frames: np.ndarray) -> np.ndarray:
        """The rows of an array on disk for some frame numbers, nothing else."""
        try:
            return np.load(file, mmap_mode="r")[frames]
        except (OSError, ValueError, IndexError) as error:
            fault = f"cannot be read ({type(error).__name__})"
            raise BadInput(file, fault, "remove its folder and prepare again") from error


def prepare(
    clips: LabelledClips,
    *,
    cache: str,
    weights: str,
    weights_file: str | None = None,
    sha256: str | None = None,
    faces: str = "stabilised",
    device: str = "cpu",
) -> list[StoredClip]:
    """Faces and features of all clips, from the cache or made now; a bar on stderr if a terminal.

    Args:
        clips: What a reader gave.
        cache: Folder, made if missing.
        weights: "imagenet", "vggface2" or "ferplus", which is the paper's (`FrozenResNet50`).
        weights_file: Your own file of them; None fetches "imagenet".
        sha256: Its digest.
        faces: How faces are cut from films, a mode of `extract_faces`; aligned ones stay as they are.
        device: For the features.

    Raises:
        BadInput: No clips; a file that cannot be read or written; labels that do not fit a film.
    """
    if not len(clips):
        fault = f"none of the {sum(clips.listed.values())} listed clips is on this disk"
        raise BadInput("clips", fault, "get the films or aligned faces; data/README.md says where")
    backbone = FrozenResNet50(weights, weights_file, sha256=sha256)
    extract = FrozenFeatures(backbone, Path(cache) / "features", device=device)
    bar = tqdm(range(len(clips)), desc="faces and features", unit="clip", disable=None)
    return [_stored(clips, index, Path(cache), extract, faces) for index in bar]


def _stored(
    clips: LabelledClips, index: int, cache: Path, extract: FrozenFeatures, mode: str
) -> StoredClip:
    row, labels = clips.table.iloc[index], clips.labels[index]
    frame_labels = len(labels) if labels.ndim == 2 else 0
    key = _key([*row[["split", "select"]], frame_labels, mode, _stamp(existing(row["path"]))])
    plain = re.sub(r"[^\w-]", "_", f"{row['subject']}__{row['clip']}")
    folder = cache / "paper" / row["dataset"] / f"{plain}-{key}"
    of_weights = _key({k: v for k, v in extract.backbone.settings.items() if k != "file"})
    features = folder / f"features-{of_weights}.npy"
    if not (features.exists() and (folder / "about.npz").exists()):
        folder.mkdir(parents=True, exist_ok=True)
        clip, _ = labelled_faces(clips, index, cache / "faces", mode=mode, size=SIZE)
        _write(clip, folder, features, extract(clip))
    with np.load(folder / "about.npz") as about:
        about = dict(about)
    if labels.ndim == 2:
        n_frames = len(about["seen"])
        check_label_count(row["path"], len(labels), n_frames)
        labels = np.pad(labels, ((0, n_frames - len(labels)), (0, 0)), constant_values=np.nan)
    name = "/".join(dict.fromkeys(row[["split", "subject", "clip"]]))
    words = (name, row["subject"], row["clip"], row["split"])
    whole = (about["seen"], about["centred"], about["stepped"])
    return StoredClip(*words, labels, folder, features, *whole, float(about["fps"]))


def _write(clip: FaceClip, folder: Path, features: Path, values: np.ndarray) -> None:
    grey = clip.frames
    if grey.shape[1] == 3:
        pictures = (Image.fromarray(np.ascontiguousarray(f.transpose(1, 2, 0))) for f in grey)
        grey = np.stack([np.asarray(picture.convert("L")) for picture in pictures])[:, None]
    for path, array in ((folder / "faces.npy", grey), (features, values.astype(np.float16))):
        with replacing(path) as part, part.open("wb") as file:
            np.save(file, array)
    about = {
        "seen": clip.status != "none",
        "centred": centred_snippets(clip).valid,
        "stepped": stepped_snippets(clip, step=1, longest=None).valid,
        "fps": FPS if len(clip) == 1 else clip.fps,
    }
    with replacing(folder / "about.npz") as part, part.open("wb") as file:
        np.savez(file, **about)


def _key(what: object) -> str:
    text = json.dumps(what, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stamp(path: Path) -> list[tuple]:
    """What changes if a film, or a picture of a folder, does."""
    if not path.is_dir():
        return [(path.stat().st_size, path.stat().st_mtime_ns)]
    with os.scandir(path) as entries:
        about = [(entry.name, entry.stat()) for entry in entries]
    return sorted((name, file.st_size, file.st_mtime_ns) for name, file in about)
