"""From a row of the clip table to a FaceClip and its labels: films, a cache, aligned faces."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from micromacro import __version__
from micromacro.clip import FaceClip, load_clip, save_clip
from micromacro.datasets.table import CLIP_TABLE_COLUMNS, check_clip_table
from micromacro.errors import BadInput
from micromacro.files import existing
from micromacro.images import image_files, load_image
from micromacro.video import Frame

FRAME_NAME = re.compile(r"(?:frame_det_00_)?([0-9]+)\.\w+")  # OpenFace's first face; Aff-Wild2
FPS = 30.0  # what the released code takes every film for
FACE_PX = 48  # side of the faces that the phase is taken from
CROP = 0.85  # side of the random crop, as a part of the face


@dataclass(frozen=True, eq=False)
class LabelledClips:
    """Official clips with their labels, as far as they are on this disk.

    Attributes:
        table: Clip table (`micromacro.datasets.table.check_clip_table`), one row for each clip that is there;
            ``path`` is its film or its folder of aligned faces, ``subject`` its video (who is in it
            is not published), n_frames and fps are not known yet. A further column ``select`` says
            whom to follow (`extract_faces`).
        labels: One float32 array a row: (2,) valence and arousal of the clip, or (n, 2), row t those
            of frame t, n at most the number of frames; nan where there is no label.
        listed: Number of clips that the sheets list, by split.
        missing: Clips that are listed but not there, as paths below the root.
        unlisted: Films that are there but not listed, likewise.
        faults: What contradicts the official format; empty if it was read strictly.
    """

    table: pd.DataFrame
    labels: tuple[np.ndarray, ...]
    listed: dict[str, int]
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]
    faults: tuple[BadInput, ...]

    @classmethod
    def build(
        cls,
        rows: Sequence[dict],
        labels: Sequence[np.ndarray],
        listed: dict[str, int],
        missing: Sequence[str],
        unlisted: Sequence[str],
        faults: Sequence[BadInput],
        *,
        strict: bool,
    ) -> "LabelledClips":
        """Make one from rows with the known columns.

        Raises:
            BadInput: The first fault, if `strict`.
        """
        if strict and faults:
            raise faults[0]
        table = pd.DataFrame(rows, columns=[*CLIP_TABLE_COLUMNS, "select"])
        parts = (missing, unlisted, faults)
        return cls(check_clip_table(table), tuple(labels), listed, *map(tuple, parts))

    def __len__(self) -> int:
        return len(self.table)


def labelled_faces(
    clips: LabelledClips,
    index: int,
    cache: str | Path,
    *,
    mode: str = "stabilised",
    size: int = 112,
) -> tuple[FaceClip, np.ndarray]:
    """The faces of one clip, and its labels.

    Args:
        clips: What a reader gave.
        index: Row of its table.
        cache: As the following, see `face_clip`.
        mode: Of the crops.
        size: Of the crops, pixels.

    Returns:
        The FaceClip of T frames, and float32 (2,) for a clip with one label or (T, 2) for one with
        a label a frame; valence, arousal. Frames beyond the last label have nan.

    Raises:
        BadInput: More labels than frames; a film that cannot be read.
    """
    row, labels = clips.table.iloc[index], clips.labels[index]
    at_least = len(labels) if labels.ndim == 2 else 1
    clip = face_clip(row, cache, mode=mode, size=size, at_least=at_least)
    if labels.ndim == 1:
        return clip, labels
    check_label_count(row["path"], len(labels), len(clip))
    padded = np.full((len(clip), 2), np.nan, np.float32)
    padded[: len(labels)] = labels
    return clip, padded


def check_label_count(path: str, n_labels: int, n_frames: int) -> None:
    """Refuse a film with fewer frames than labels; fewer labels are fine, the rest has none."""
    if n_labels > n_frames:
        fault = f"{n_frames} frames, but {n_labels} labels"
        remedy = "get the whole film, or cut its label file where you know that it is too long"
        raise BadInput(path, fault, remedy)


def face_clip(
    row: pd.Series,
    cache: str | Path,
    *,
    mode: str = "stabilised",
    size: int = 112,
    at_least: int = 1,
) -> FaceClip:
    """The faces of a row of the clip table.

    A folder is read by `aligned_faces`. A film goes through `extract_faces` once and is kept as
    ``<cache>/<dataset>/<subject>__<clip>-<hash>.npz`` (`save_clip`: whole or not at all). The hash
    is that of the film's size and time of change, of the crop settings and of this package's
    version, so what has changed is extracted anew, and so is a torn file.

    Args:
        row: With dataset, subject, clip, path, and select if not "auto".
        cache: Folder, made if missing.
        mode: "stabilised" or another mode of `extract_faces`; aligned faces stay as they are.
        size: Side of the crops of a film, pixels.
        at_least: For aligned faces: number of frames, where the last ones show no face.

    Raises:
        BadInput: The film or a picture cannot be read, the cache cannot be written.
    """
    path = existing(row["path"])
    if path.is_dir():
        return aligned_faces(path, at_least)
    settings = {"mode": mode, "size": size, "select": row.get("select", "auto")}
    stored = Path(cache) / row["dataset"] / f"{_key(row, path, settings)}.npz"
    if stored.exists():
        try:
            return load_clip(stored)
        except BadInput:
            pass  # torn: extracted anew below
    try:
        stored.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fault = f"cannot be made a folder ({error.strerror})"
        raise BadInput(stored.parent, fault, "choose another cache") from error
    from micromacro.faces import extract_faces  # loads the detector's libraries: seconds

    clip = extract_faces(path, **settings)
    save_clip(clip, stored)
    return clip


def _key(row: pd.Series, path: Path, settings: dict) -> str:
    about = path.stat()
    made_of = [*row[["subject", "clip", "split"]].astype(str), about.st_size, about.st_mtime_ns]
    made_of += [settings, __version__]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode())
    name = re.sub(r"[^\w-]", "_", f"{row['subject']}__{row['clip']}")
    return f"{name}-{digest.hexdigest()[:16]}"


def frame_files(folder: Path) -> dict[int, Path]:
    """The pictures of a folder of aligned faces by 0-based frame number, in order.

    Raises:
        BadInput: No picture with a number, number 0, or a number twice.
    """
    found = {}
    for file in image_files(existing(folder)):
        match = FRAME_NAME.fullmatch(file.name)
        if match is None:
            continue  # a second face (frame_det_01_...), or a picture of something else
        number = int(match[1]) - 1
        if number < 0:
            raise BadInput(file, "is numbered 0", "number the frames from 1 on")
        if number in found:
            fault = f"has the same frame number as {found[number].name}"
            raise BadInput(file, fault, "keep one of them")
        found[number] = file
    if not found:
        fault = "has no picture named like frame_det_00_000001.bmp or 00001.jpg"
        raise BadInput(folder, fault, "name them by frame number, from 1 on")
    return dict(sorted(found.items()))


def aligned_faces(folder: str | Path, at_least: int = 1) -> FaceClip:
    """Read a folder of aligned faces, one picture a frame: frame_det_00_000001.bmp or 00001.jpg.

    A number without a picture, or with a black one, is a frame without a face ("none"): a gap.
    The pictures are taken for 30 frames per second. Cuts are found where neighbours differ as
    `micromacro.faces.track` says, so only between visible faces. Landmarks are not in such folders:
    those of the "arcface" template stand in, the transform is the identity.

    Args:
        folder: With square pictures of one size.
        at_least: Frames of the film, if faces may be missing at its end.

    Raises:
        BadInput: No such picture, not square, sizes that differ, a damaged one.
    """
    from micromacro.faces.align import template_points
    from micromacro.faces.track import mark_cuts

    files = frame_files(Path(folder))
    T = max(at_least, max(files) + 1)
    first = load_image(next(iter(files.values())), "rgb")
    size = first.shape[0]
    frames = np.zeros((T, 3, size, size), np.uint8)
    shot = np.full(T, -1, np.int32)
    for frame, its_shot in mark_cuts(_pictures(files, first.shape)):
        frames[frame.index] = frame.image.transpose(2, 0, 1)
        shot[frame.index] = its_shot
    seen = frames.any(axis=(1, 2, 3))
    landmarks = np.full((T, 5, 2), np.nan, np.float32)
    landmarks[seen] = template_points("arcface", size)
    transform = np.full((T, 2, 3), np.nan)
    transform[seen] = np.eye(2, 3)
    return FaceClip(
        frames=frames,
        t_s=np.arange(T) / FPS,
        status=np.where(seen, "detect", "none"),
        score=np.full(T, np.nan, np.float32),
        landmarks=landmarks,
        transform=transform,
        shot=np.maximum(np.maximum.accumulate(shot), 0),
        n_faces=np.full(T, -1, np.int32),
        mode="aligned",
        source=str(folder),
        settings={"size": size, "notes": ["aligned beforehand: landmarks are the template's"]},
    )


def _pictures(files: dict[int, Path], shape: tuple):
    """The pictures that show something, as frames, all checked against the first one's shape."""
    for number, file in files.items():
        image = load_image(file, "rgb")
        if image.shape != shape or image.shape[0] != image.shape[1]:
            fault = f"is {image.shape[1]}x{image.shape[0]}"
            wanted = f"all square and of one size (the first is {shape[1]}x{shape[0]})"
            raise BadInput(file, fault, f"give aligned faces {wanted}")
        if image.any():
            yield Frame(number, number / FPS, image)


def grey_faces(
    frames: np.ndarray,
    *,
    generator: torch.Generator | None = None,
    legacy_crop: bool = False,
) -> torch.Tensor:
    """The faces that phase differences are taken from: grey, 48 px, Lanczos.

    In training all frames of a sequence share one random flip and one random square crop of 0.85 of
    the face's side. The released Aff-Wild code takes 0.85 of the *final* side instead: 40 pixels of
    the full-size face, 13 % of the area of a 112-px one, where testing sees all of it.

    Args:
        frames: uint8 (T, C, S, S), C = 3 RGB or 1 grey, as in `FaceClip.frames`.
        generator: Draws flip and crop: training. None takes the whole face: testing.
        legacy_crop: Crop 40 pixels as released; without effect on testing.

    Returns:
        float32 (T, 1, 48, 48) in [0, 1], 0.299 R + 0.587 G + 0.114 B.

    Raises:
        BadInput: `legacy_crop` of faces below 40 px.
    """
    side = frames.shape[-1]
    left, top, crop, flip = 0, 0, side, False
    if generator is not None:
        crop = int(CROP * (FACE_PX if legacy_crop else side))
        if crop > side:
            raise BadInput("legacy_crop", f"faces of {side} px hold no {crop} px", "use 112 px")
        draws = torch.randint(side - crop + 1, (2,), generator=generator)
        left, top = draws.tolist()
        flip = bool(torch.rand((), generator=generator) < 0.5)
    box = (left, top, left + crop, top + crop)
    faces = np.stack([_grey_face(frame, box, flip) for frame in frames])
    return torch.from_numpy(faces[:, None].astype(np.float32)).div_(255)


def _grey_face(frame: np.ndarray, box: tuple[int, int, int, int], flip: bool) -> np.ndarray:
    pixels = frame[0] if len(frame) == 1 else np.ascontiguousarray(frame.transpose(1, 2, 0))
    face = Image.fromarray(pixels).convert("L").crop(box)
    face = np.asarray(face.resize((FACE_PX, FACE_PX), Image.Resampling.LANCZOS))
    return face[:, ::-1] if flip else face
