"""Pictures and faces of official clips: from a row of the clip table to frames.

Official names differ: ``reg_img46.jpg``, ``EP01_12-073.jpg``, ``006_05562.jpg``,
``image000123.bmp``, ``frame_det_00_000001.bmp``. A picture is known by the number that ends its
name; what stands before it is free, and so is the kind of picture. A file that is no picture
(Thumbs.db), or whose name does not end in a number, is passed over.
"""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from PIL import Image

from micromacro.cache import kept
from micromacro.clip import FaceClip, load_clip, save_clip
from micromacro.datasets.table import Listing
from micromacro.errors import BadInput
from micromacro.files import existing, reading
from micromacro.images import image_files, load_image
from micromacro.motion.magnify import magnify

if TYPE_CHECKING:
    from micromacro.backbones import FrozenFeatures  # for its type alone
    from micromacro.datasets.long import LongVideos  # which imports this module

ANY_PICTURE = r"([0-9]+)$"
ALIGNED_FACE = r"^(?:frame_det_00_)?([0-9]+)$"  # OpenFace's first face; Aff-Wild2
FACES_PX = 112  # side of the faces cut from films, as OpenFace's for the released code of MIMAMO
GREY_PX, CROP = 48, 0.85  # side of small grey faces; of their random crop, as a part of the face
FACES_FPS = 30.0  # what the released code of MIMAMO takes every film for
RESTORE = "restore the official pictures"
MOST_NUMBER = 10**9 - 1  # of a picture
MOST_FRAMES = 108_000  # of a film of aligned faces, for which memory is needed: an hour


def numbered_pictures(folder: str | Path, name: str = ANY_PICTURE) -> dict[int, Path]:
    """The pictures of a folder by the number in their name, in order of the numbers.

    Args:
        folder: Of the pictures.
        name: Pattern of the name without its suffix; its group is the number.

    Raises:
        BadInput: No such folder, no picture with a number, a number twice or above `MOST_NUMBER`.
    """
    folder, pictures = existing(folder), {}
    if not folder.is_dir():
        raise BadInput(folder, "is not a folder", RESTORE)
    for file in image_files(folder):
        match = re.search(name, file.stem)
        if match is None:
            continue
        number = int(match[1])
        if number > MOST_NUMBER:
            raise BadInput(file, f"is numbered above {MOST_NUMBER:,}", "rename or remove it")
        if number in pictures:
            fault = f"has the same frame number as {pictures[number].name}"
            raise BadInput(file, fault, "keep one of them")
        pictures[number] = file
    if not pictures:
        raise BadInput(folder, "has no picture named by its frame number", RESTORE)
    return dict(sorted(pictures.items()))


# ---- clips that are folders of pictures ----------------------------------------------------------


def clip_files(row: pd.Series) -> list[Path]:
    """The pictures from onset to offset, both included, in order.

    Args:
        row: Of the clip table, with a column ``first``: the official number of frame 0.

    Raises:
        BadInput: A row without onset and offset, or of a single frame; a frame that is not there.
    """
    if row.reindex(["first", "onset", "offset"]).isna().any():
        raise BadInput(row["path"], "has no onset and offset", "use a row that a reader gave")
    numbers = range(int(row["first"] + row["onset"]), int(row["first"] + row["offset"]) + 1)
    if len(numbers) < 2:
        raise BadInput(row["path"], f"is {len(numbers)} frame(s) long", "a clip needs two frames")
    pictures = numbered_pictures(row["path"])
    if lacking := lacking_frames(numbers, pictures):
        raise BadInput(row["path"], f"{lacking} not there any more", RESTORE)
    return [pictures[number] for number in numbers]


def load_frames(row: pd.Series) -> np.ndarray:
    """Load the frames from onset to offset, both included, of a row of the clip table.

    Args:
        row: As for `clip_files`.

    Returns:
        uint8 (T, 1, H, W), 0-255, grey = 0.299 R + 0.587 G + 0.114 B; T = offset - onset + 1.

    Raises:
        BadInput: As `clip_files`; a picture that is damaged, or of another size than the first.
    """
    files = clip_files(row)
    frames = [load_image(file, "luma") for file in files]
    _refuse_other_sizes(files, [frame.shape for frame in frames])
    return np.stack(frames)[:, None]


def resized(frames: np.ndarray, H: int, W: int) -> np.ndarray:
    """Frames uint8 (T, 1, h, w) as uint8 (T, 1, H, W).

    Bilinear, averaging over the pixels that fall into one; the aspect ratio is not kept.
    """
    pictures = [Image.fromarray(f).resize((W, H), Image.Resampling.BILINEAR) for f in frames[:, 0]]
    return np.stack([np.asarray(picture) for picture in pictures])[:, None]


def write_magnified(
    row: pd.Series, folder: Path, *, alpha: float, working_px: int, sides: Sequence[int]
) -> None:
    """Write a clip's frames, magnified, as uint8 (T, 1, px, px) in ``<px>.npy`` for each side.

    Args:
        row: The clip's row.
        folder: Where to; it exists.
        alpha: How much phase-based magnification adds to the motion; 0 magnifies nothing.
        working_px: Longest side that is magnified; larger frames are resized to it first.
        sides: The sides px.

    Raises:
        BadInput: As `load_frames`.
    """
    frames = load_frames(row)
    H, W = frames.shape[-2:]
    scale = min(1, working_px / max(H, W))
    if scale < 1:
        frames = resized(frames, round(scale * H), round(scale * W))
    if alpha:
        moved = magnify(torch.from_numpy(frames).float(), alpha)
        frames = moved.round_().clamp_(0, 255).byte().numpy()  # as written to a picture
    for px in sides:
        np.save(folder / f"{px}.npy", resized(frames, px, px))


def check_sizes(row: pd.Series) -> None:
    """Open the pictures of a clip, headers only: all are readable, and of one size.

    Raises:
        BadInput: As `load_frames`, but for pictures that are damaged after their header.
    """
    files, sizes = clip_files(row), []
    for file in files:
        with reading(existing(file), "an image", RESTORE), Image.open(file) as image:
            sizes.append(image.size[::-1])
    _refuse_other_sizes(files, sizes)


def lacking_frames(numbers: range, pictures: Mapping[int, Path]) -> str:
    """The numbers without a picture, "frame 7 and 2 more are"; "" if there are none.

    However many numbers there are, time and memory are those of the pictures.
    """
    more = len(numbers) - 1 - sum(number in numbers for number in pictures)
    if more < 0:
        return ""
    first = next(number for number in numbers if number not in pictures)
    return f"frame {first}" + (f" and {more} more are" if more else " is")


def _refuse_other_sizes(files: Sequence[Path], sizes: Sequence[tuple[int, int]]) -> None:
    for file, (H, W) in zip(files, sizes, strict=True):
        if sizes[0] != (H, W):
            fault = f"is {W}x{H}, the clip's first frame {sizes[0][1]}x{sizes[0][0]}"
            raise BadInput(file, fault, RESTORE)


# ---- films, folders of aligned faces, long videos ------------------------------------------------


@dataclass(frozen=True, eq=False)
class Film:
    """Faces and features of a clip of T frames; they stay on disk, few rows are read at a time.

    Attributes:
        row: Of the clip table.
        labels: float32 (2,) of the clip, or (T, 2) of each frame; nan for none.
        seen: bool (T,), frames with a face.
        shot: int32 (T,), number of the run of frames without a cut or a gap in time.
        fps: Frames per second.
        files: "grey", uint8 (T, 1, S, S), and "features", float16 (T, 2048), zero without a face.
    """

    row: dict
    labels: np.ndarray
    seen: np.ndarray
    shot: np.ndarray
    fps: float
    files: dict[str, Path]

    def read(self, name: str, frames: np.ndarray) -> np.ndarray:
        """The rows of an array for some frame numbers, and nothing else of it.

        Raises:
            BadInput: The file is torn, or gone.
        """
        with reading(self.files[name], "frames", "remove its folder and run again"):
            return np.load(self.files[name], mmap_mode="r")[frames]


def film_on_disk(
    listing: Listing, index: int, cache: Path, extract: "FrozenFeatures", mode: str = "stabilised"
) -> Film:
    """Grey faces and features of a clip, made once and kept; what has changed is made anew.

    Grey faces keep their full size (at 112 px 13 kB a frame), features take 4 kB.

    Args:
        listing: What a reader gave.
        index: Row of its table.
        cache: Folder, made if missing.
        extract: Makes the features.
        mode: How faces are cut from a film, see `face_clip`; aligned ones stay as they are.

    Raises:
        BadInput: A film or picture that cannot be read; more labels than frames.
    """
    row, labels = listing.table.iloc[index], listing.labels[index]
    at_least = len(labels) if labels.ndim == 2 else 1  # the last frames may show no face

    @functools.cache
    def faces():
        return face_clip(row, cache / "faces", mode=mode, size=FACES_PX, at_least=at_least)

    def make_faces(folder: Path) -> None:
        np.save(folder / "grey.npy", grey(faces().frames))
        about = {"seen": faces().status != "none", "shot": faces().breaks().cumsum(dtype=np.int32)}
        fps = FACES_FPS if len(faces()) == 1 else faces().fps
        np.savez(folder / "about.npz", fps=fps, **about)

    def make_features(folder: Path) -> None:
        np.save(folder / "features.npy", extract(faces()))

    path = existing(row["path"])
    files = [path] if path.is_file() else list(face_files(path, at_least).values())
    place, stem = cache / row["dataset"], f"{row['subject']}__{row['clip']}"
    settings = {"select": row["select"], "mode": mode, "px": FACES_PX, "frames": at_least}
    folder = kept(place, f"{stem}-faces", settings, make_faces, files=files, code=face_clip)
    weights = {k: v for k, v in extract.backbone.settings.items() if k != "file"}  # not its name
    settings = {"faces": folder.name, "weights": weights}
    features = kept(place, f"{stem}-features", settings, make_features, code=type(extract))
    arrays = {"grey": folder / "grey.npy", "features": features / "features.npy"}
    with np.load(folder / "about.npz") as about:
        seen, shot, fps = about["seen"], about["shot"], float(about["fps"])
    if labels.ndim == 2:
        check_label_count(path, len(labels), len(seen))
        rest = ((0, len(seen) - len(labels)), (0, 0))
        labels = np.pad(labels, rest, constant_values=np.nan)
    return Film(row.to_dict(), labels, seen, shot, fps, arrays)


def video_on_disk(listing: "LongVideos", video: str, cache: Path, size: int) -> np.ndarray:
    """Grey frames of a long video, resized once and kept: 12.5 kB each of 112 px.

    They are written chunk by chunk, so that the video's length does not matter.

    Args:
        listing: What a reader gave.
        video: Name of the video in it.
        cache: Folder, made if missing.
        size: Side of the frames, px.

    Returns:
        uint8 (T, 1, size, size), on disk until it is read; what is written to it stays in memory.

    Raises:
        BadInput: As `LongVideos.frames`; a cache that cannot be written.
    """
    row = listing.videos.set_index("video").loc[video]

    def make(folder: Path) -> None:
        shape, done = (int(row["n_frames"]), 1, size, size), 0
        stored = np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint8, shape)
        for part in listing.frames(video, size=size):
            stored[done : done + len(part)] = (255 * part).round().byte().numpy()
            done += len(part)
        stored.flush()

    place = cache / row["dataset"]
    folder = kept(place, video, size, make, files=[row["path"]], code=type(listing))
    return np.load(folder / "frames.npy", mmap_mode="c")


def grey(frames: np.ndarray) -> np.ndarray:
    """Luma as Pillow takes it, uint8 (T, 1, S, S), of frames uint8 (T, C, S, S), C = 1 or 3."""
    if frames.shape[1] == 1:
        return frames
    pictures = (Image.fromarray(np.ascontiguousarray(f.transpose(1, 2, 0))) for f in frames)
    return np.stack([np.asarray(picture.convert("L")) for picture in pictures])[:, None]


def grey_faces(
    frames: np.ndarray, *, generator: torch.Generator | None = None, legacy_crop: bool = False
) -> torch.Tensor:
    """Small grey faces, as phase differences are taken from: 48 px, Lanczos.

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
        crop = int(CROP * (GREY_PX if legacy_crop else side))
        if crop > side:
            raise BadInput("legacy_crop", f"faces of {side} px hold no {crop} px", "use 112 px")
        left, top = torch.randint(side - crop + 1, (2,), generator=generator).tolist()
        flip = bool(torch.rand((), generator=generator) < 0.5)
    box, size = (left, top, left + crop, top + crop), (GREY_PX, GREY_PX)
    pictures = (Image.fromarray(face[0]).crop(box) for face in grey(frames))
    small = [np.asarray(p.resize(size, Image.Resampling.LANCZOS), np.float32) for p in pictures]
    shown = np.stack(small)[:, None]
    return torch.from_numpy(shown[..., ::-1].copy() if flip else shown).div_(255)


def check_label_count(path: str | Path, n_labels: int, n_frames: int) -> None:
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

    A folder is read by `aligned_faces`. A film goes through `extract_faces` once and is kept below
    ``<cache>/<dataset>``; what has changed, film, settings or code, is extracted anew, and so is a
    torn file.

    Args:
        row: With dataset, subject, clip, path, and a column ``select`` if not "auto".
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
    name = re.sub(r"[^\w-]", "_", f"{row['subject']}__{row['clip']}")
    from micromacro.faces import extract_faces  # loads the detector's libraries: seconds

    def make(folder: Path) -> None:
        save_clip(extract_faces(path, **settings), folder / "faces.npz")

    place = Path(cache) / row["dataset"], name, settings, make
    return load_clip(kept(*place, files=[path], code=extract_faces) / "faces.npz")


def face_files(folder: str | Path, at_least: int = 1) -> dict[int, Path]:
    """The pictures of a folder of aligned faces by 0-based frame number, in order.

    Args:
        folder: The folder.
        at_least: Frames of the film, as its labels have it.

    Raises:
        BadInput: As `numbered_pictures`, or a picture numbered 0; more than `MOST_FRAMES` frames.
    """
    files = numbered_pictures(folder, ALIGNED_FACE)
    if 0 in files:
        raise BadInput(files[0], "is numbered 0", "number the frames from 1 on")
    if (T := max(at_least, *files)) > MOST_FRAMES:
        fault = f"makes a film of {T:,} frames, and {MOST_FRAMES:,} is the most"
        raise BadInput(files.get(T, folder), fault, "check numbers and labels")
    return {number - 1: file for number, file in files.items()}


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
        BadInput: As `face_files`; a picture that is damaged, not square, or of another size.
    """
    from micromacro.faces.align import template_points
    from micromacro.faces.track import mark_cuts

    files = face_files(folder, at_least)
    T = max(at_least, max(files) + 1)
    first = load_image(next(iter(files.values())), "rgb")
    size = first.shape[0]
    frames = np.zeros((T, 3, size, size), np.uint8)
    shot = np.full(T, -1, np.int32)
    for frame, its_shot in mark_cuts(_faces(files, first.shape)):
        frames[frame.index] = frame.image.transpose(2, 0, 1)
        shot[frame.index] = its_shot
    seen = frames.any(axis=(1, 2, 3))
    face = seen[:, None, None]
    return FaceClip(
        frames=frames,
        t_s=np.arange(T) / FACES_FPS,
        status=np.where(seen, "detect", "none"),
        score=np.full(T, np.nan, np.float32),
        landmarks=np.where(face, template_points(size), np.nan).astype(np.float32),
        transform=np.where(face, np.eye(2, 3), np.nan),
        shot=np.maximum(np.maximum.accumulate(shot), 0),
        n_faces=np.full(T, -1, np.int32),
        mode="aligned",
        source=str(folder),
        settings={"size": size, "notes": ["aligned beforehand: landmarks are the template's"]},
    )


def _faces(files: Mapping[int, Path], shape: tuple[int, ...]) -> Iterator:
    """The pictures that show something, as frames, all checked against the first one's shape."""
    from micromacro.video import Frame  # loads PyAV, which pictures do not need

    for number, file in files.items():
        image = load_image(file, "rgb")
        if image.shape != shape or image.shape[0] != image.shape[1]:
            fault = f"is {image.shape[1]}x{image.shape[0]}"
            wanted = f"all square and of one size (the first is {shape[1]}x{shape[0]})"
            raise BadInput(file, fault, f"give aligned faces {wanted}")
        if image.any():
            yield Frame(number, number / FACES_FPS, image)
