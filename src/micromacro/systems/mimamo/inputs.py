"""What MIMAMO Net sees of a clip: snippets, appearance and motion, sequences as batches.

A snippet is a centre frame and L / 2 frames on either side: the spatial stream sees features of the
centre, the temporal stream L phase differences. `Clip` is one clip of any data set: which
frames make up each snippet, whether it is whole, and a way to load them; `Sequences` makes batches.

On the benchmark both streams start from the face, the middle 48 px of the 64-px picture. Appearance
is the frozen expression encoder's; motion is measured on 48 px, the paper's size, and then averaged
to maps of 24 px and 12 px, so that a CPU can train on them. In training, crop and flip are drawn
once a clip. Officially appearance is ResNet-50's, the maps have 48 px and 24 px, and crop and flip
are drawn once a sequence, in each epoch anew.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from micromacro.backbones import FrozenFeatures, FrozenResNet50, Thumbnail
from micromacro.datasets import frames as on_disk
from micromacro.errors import BadInput, check_choice
from micromacro.expression_encoder import ExpressionEncoder, load_expression_encoder
from micromacro.kernels import grey, phase_difference, snippets
from micromacro.kernels.checks import check_tensor, check_values
from micromacro.motion.maps import MOTION_PX, motion_maps
from micromacro.systems.mimamo.model import LEVELS
from micromacro.systems.mimamo.task import CLIP_STEPS, FACE_PX, FPS, HALF, STRIDE, Clips, record

FACE = slice(8, FACE_PX - 8)  # rows and columns of the benchmark's face
CROPS = {"none": 1.0, "ours": 0.85, "released": 0.85 * 48 / 112}  # side, as a part of the face


# ---- clips and their snippets --------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip of any data set as an arm cuts snippets from it: one around each of K frames.

    What a clip shows is loaded when it is asked for.

    Attributes:
        name: "split/subject/clip", or what of it is needed to be unique.
        subject: Who is in it; officially the video, for who is in it is not published.
        split: Of the data set.
        labels: float (T, n), a row a frame, or (1, n) for one label of the clip; nan for none.
        frames: int64 (K,), the frames that snippets are cut from, see `cut`.
        valid: bool (K,), whether the snippet around each of them is whole. This is the model's
            mask.
        load: Called with frame numbers int64 (S, L + 1), an `experiment.Arm`, a generator that
            draws crop and flip (None for evaluation), a device, and whether the snippets lie a
            frame apart; returns "features" (S, F), "level_1" and "level_2" (S, channels, h, w), or
            what of them the arm sees.
        half: Frames of a snippet on either side of its centre, L / 2.
        fps: Frames per second.
        film: What a video was cut from, perhaps with others; folds keep it whole. "" for the video.
    """

    name: str
    subject: str
    split: str
    labels: np.ndarray
    frames: np.ndarray
    valid: np.ndarray
    load: Callable[..., dict[str, Tensor]]
    half: int = HALF
    fps: float = FPS
    film: str = ""

    def around(self, centres: range) -> np.ndarray:
        """Frame numbers of the snippets around some of the K frames, int64 (S, L + 1)."""
        return self.frames[_places(np.array(centres, np.int64), self.half, len(self.frames))]

    def labels_at(self, centres: range) -> np.ndarray:
        """Labels of the snippets around some of the K frames, float (S, n)."""
        rows = np.zeros(len(centres), int) if len(self.labels) == 1 else self.frames[centres]
        return self.labels[rows]

    def count(self, centres: range) -> int:
        """How many of the snippets around some of the K frames are valid and have labels."""
        return int((self.valid[centres] & np.isfinite(self.labels_at(centres)).all(1)).sum())


def cut(seen: np.ndarray, shot: np.ndarray, arm) -> dict[str, np.ndarray]:
    """How an arm cuts snippets from a clip: `frames` and `valid` of `Clip`.

    A snippet is not valid where it touches a frame without a face or spans a shot cut. By released
    fault Q4 ("gaps") frames without a face are dropped and their neighbours joined instead, so that
    snippets reach across gaps and cuts.

    Args:
        seen: bool (T,), frames with a face.
        shot: int (T,), number of the shot, never decreasing.
        arm: An `experiment.Arm`.
    """
    if "gaps" in arm.legacy:
        return {"frames": np.flatnonzero(seen), "valid": np.ones(seen.sum(), bool)}
    around = _places(np.arange(len(seen)), arm.length // 2, len(seen))  # (T, L + 1)
    one_shot = shot[around[:, 0]] == shot[around[:, -1]]
    return {"frames": np.arange(len(seen)), "valid": seen[around].all(1) & one_shot}


def _places(centres: np.ndarray, half: int, n: int) -> np.ndarray:
    """Numbers around some of n; beyond the ends the first and the last repeat, as released."""
    return (centres[:, None] + np.arange(-half, half + 1)).clip(0, n - 1)


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences of snippets as batches; what a batch needs is loaded when it is asked for.

    Iterated, it yields them in order and as they are (for `predict`); called with a generator, in a
    drawn order, augmented (for `train`). A last batch of one sequence joins the one before: batch
    normalisation wants two.

    A batch is ``({"features", "level_1", "level_2", "mask"}, target, mask)``, as the networks and
    the losses take them, padded at the end to the longest of all sequences.

    Attributes:
        clips: The clips.
        spans: Of each sequence which clip it is of, and the centres of its snippets.
        size: Sequences in a batch.
        arm: What of a snippet is shown (`experiment.Arm`), and whether labels are per frame.
        device: Where phase differences are computed.
    """

    clips: Sequence[Clip]
    spans: Sequence[tuple[int, range]]
    size: int
    arm: object
    device: str = "cpu"

    def __len__(self) -> int:
        return len(self._chunks(None))

    def __iter__(self) -> Iterator[tuple]:
        return (self._batch(rows, None) for rows in self._chunks(None))

    def __call__(self, generator: torch.Generator) -> Iterator[tuple]:
        """One epoch of training."""
        return (self._batch(rows, generator) for rows in self._chunks(generator))

    def _chunks(self, generator: torch.Generator | None) -> list[Tensor]:
        n, fixed = len(self.spans), "batches" in self.arm.legacy
        in_order = generator is None or fixed
        order = torch.arange(n) if in_order else torch.randperm(n, generator=generator)
        chunks = list(order.split(self.size)) if n else []
        if len(chunks) > 1 and len(chunks[-1]) == 1:
            chunks[-2:] = [torch.cat(chunks[-2:])]
        if fixed and generator is not None:
            # Members and order stay, only the order inside is drawn.
            chunks = [rows[torch.randperm(len(rows), generator=generator)] for rows in chunks]
        return chunks

    def _batch(self, rows: Tensor, generator: torch.Generator | None) -> tuple:
        loaded, masks, labels = [], [], []
        for index, centres in (self.spans[row] for row in rows.tolist()):
            clip, how = self.clips[index], {"generator": generator, "device": self.device}
            dense = centres.step == 1
            loaded.append(clip.load(clip.around(centres), arm=self.arm, dense=dense, **how))
            masks.append(torch.from_numpy(clip.valid[centres]))
            labels.append(torch.from_numpy(clip.labels_at(centres)).float())
        inputs = {name: self._padded([each[name] for each in loaded]) for name in loaded[0]}
        for level in {1, 2} - set(self.arm.levels):
            if f"level_{level}" in inputs:  # the network stays the same, but does not see it
                inputs[f"level_{level}"].zero_()
        inputs["mask"] = mask = self._padded(masks)  # (B, S)
        if self.arm.about.per_frame:
            target = self._padded(labels)  # (B, S, n)
        else:
            target, mask = torch.stack([rows[0] for rows in labels]), mask.any(1)  # (B, n), (B,)
        return inputs, target, mask & target.isfinite().all(-1)

    def _padded(self, parts: Sequence[Tensor]) -> Tensor:
        longest = max(len(span) for _, span in self.spans)
        rest = parts[0].new_zeros(longest, *parts[0].shape[1:])
        return torch.stack([torch.cat([part, rest[len(part) :]]) for part in parts])


def video_inputs(videos: Tensor, backbone: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """What both networks take of plain videos: ``net(**video_inputs(videos, backbone))``.

    One snippet around each frame; beyond the ends the first and the last frame are repeated.

    Args:
        videos: float32 (B, T, 3, H, W) in [0, 1], RGB, aligned faces at 30 frames per second.
        backbone: Takes images (N, 3, H, W) and returns features (N, F): `FrozenResNet50`, say.

    Returns:
        "features" float32 (B, T, F); "level_1" (B, T, 24, 48, 48) and "level_2" (B, T, 24, 24, 24)
        float32, rad.

    Raises:
        BadInput: Another shape or dtype; values that are not finite or not in [0, 1].
    """
    check_tensor("videos", videos, "(B, T, 3, H, W)", (torch.float32,))
    check_values("videos", videos, 0, 1)
    B, T = videos.shape[:2]
    features = backbone(videos.flatten(0, 1)).unflatten(0, (B, T))  # (B T, F) -> (B, T, F)
    padded = grey(videos)[:, torch.arange(-HALF, T + HALF).clamp(0, T - 1)]  # (B, T + 12, H, W)
    maps = phase_difference(padded, size=MOTION_PX)  # 2 x (B, 2, T + 11, h, w)
    levels = [snippets(level, 2 * HALF).flatten(2, 3) for level in maps]  # 2 x (B, T, 24, h, w)
    return {"features": features, **dict(zip(LEVELS, levels, strict=True))}


# ---- the benchmark -------------------------------------------------------------------------------


def synthetic_clips(
    arm,
    *,
    seed: int,
    people: int = 48,
    illumination: float = 0.5,
    test_illumination: float | None = None,
    device: str = "cpu",
    **dials: float,
) -> tuple[list[Clip], tuple[str, ...]]:
    """The embedded benchmark: `task.record` as clips, splits "train" and "test"; none is missing.

    Args:
        arm: What of the clips is seen (`experiment.Arm`).
        seed: Random seed; another seed draws other people and scripts.
        people: Number of persons in training; half as many in the test, other ones.
        illumination: One of `task.Dials`.
        test_illumination: The same for the test; None for that of the training.
        device: Not needed: an arm's inputs are computed on the CPU.
        dials: The others of `task.Dials`.
    """
    test_light = illumination if test_illumination is None else test_illumination
    sizes = {"train": (people, illumination, arm.crop), "test": (people // 2, test_light, "none")}
    clips, sd = [], {}
    for split, (count, light, crop) in sizes.items():
        shown = record(seed, split, people=count, steps=CLIP_STEPS, illumination=light, **dials)
        inputs = _synthetic_inputs(arm, shown, crop, seed)
        if arm.scale:  # by the training set alone, which comes first
            sd = sd or {name: inputs[name].std().clamp_min(1e-12) for name in LEVELS}
            inputs |= {name: inputs[name] / sd[name] for name in LEVELS}
        T = shown.frames.shape[1]
        for index, (labels, person) in enumerate(zip(shown.labels, shown.person, strict=True)):
            load = partial(_rows, {name: values[index] for name, values in inputs.items()})
            names = (f"{split}/{index:03d}", f"{split}-{person:03d}", split)
            about = (labels.numpy(), np.arange(T), np.ones(T, bool), load, arm.length // 2)
            clips.append(Clip(*names, *about))
    return clips, ()


def _synthetic_inputs(arm, shown: Clips, crop: str, seed: int) -> dict[str, Tensor]:
    """What an arm sees of whole clips, (N, S, ...) each: crop and flip are drawn once a clip."""
    inputs = {}
    if arm.streams != "temporal":
        inputs["features"] = appearance(shown.frames, shown.centres, _encoder())
    if arm.streams != "spatial":
        seen = faces(shown.frames, crop, torch.Generator().manual_seed(int(seed)))
        how = {"kind": arm.kind, "length": arm.length, "legacy_unwrap": "unwrap" in arm.legacy}
        inputs |= dict(zip(LEVELS, motion_maps(seen, shown.centres, **how), strict=True))
    return inputs


_encoder = lru_cache(maxsize=1)(load_expression_encoder)


def _rows(inputs: dict[str, Tensor], frames: np.ndarray, **_) -> dict[str, Tensor]:
    rows = torch.from_numpy(frames[:, frames.shape[1] // 2] - HALF) // STRIDE  # (S,)
    return {name: values[rows] for name, values in inputs.items()}


def appearance(frames: Tensor, centres: Tensor, encoder: ExpressionEncoder) -> Tensor:
    """Features of each snippet's centre frame.

    Args:
        frames: uint8 (N, T, FACE_PX, FACE_PX), grey.
        centres: int64 (S,), frame numbers.
        encoder: Frozen; see `load_expression_encoder`.

    Returns:
        float32 (N, S, 96), not negative.
    """
    centre_faces = frames[:, centres][:, :, FACE, FACE]  # (N, S, 48, 48)
    return torch.stack([encoder.features(clip[:, None].float() / 255) for clip in centre_faces])


def faces(frames: Tensor, crop: str = "none", generator: torch.Generator | None = None) -> Tensor:
    """The faces that motion is taken from; in training flipped and cropped once for each clip.

    "ours" keeps 0.85 of the side. "released" is fault Q5: 0.85 of the 48 px that the face will be
    shrunk to, cut out of a face of 112 px, so 0.36 of its side.

    Args:
        frames: uint8 (N, T, FACE_PX, FACE_PX).
        crop: A key of `CROPS`.
        generator: Draws place and flip; not needed for "none".

    Returns:
        uint8 (N, T, side, side).

    Raises:
        BadInput: Unknown crop.
    """
    check_choice("crop", crop, CROPS)
    whole = frames[:, :, FACE, FACE]
    if crop == "none":
        return whole
    side, part = whole.shape[-1], int(CROPS[crop] * whole.shape[-1])
    corners = torch.randint(side - part + 1, (len(whole), 2), generator=generator).tolist()
    flips = torch.rand(len(whole), generator=generator) < 0.5
    cut = [
        clip[:, top : top + part, left : left + part]
        for clip, (left, top) in zip(whole, corners, strict=True)
    ]
    return torch.stack([c.flip(-1) if f else c for c, f in zip(cut, flips, strict=True)])


# ---- official clips ------------------------------------------------------------------------------


def official_clips(
    arm,
    *,
    root: str,
    cache: str,
    weights: str = "ferplus",
    weights_file: str | None = None,
    sha256: str | None = None,
    faces: str = "stabilised",
    device: str = "cpu",
    seed: int = 0,
) -> tuple[list[Clip], tuple[str, ...]]:
    """Official clips, and the names of those that are listed but not there.

    Faces and features are made once and kept, with a bar on stderr if that is a terminal; memory is
    bounded by one clip. With many workers call it once before, for any arm.

    Args:
        arm: Its data set is read (`experiment.Arm`).
        root: Folder of the official data, as data/README.md shows.
        cache: Folder, made if missing.
        weights: "imagenet", "vggface2" or "ferplus", which is the paper's (`FrozenResNet50`);
            "thumbnail" needs no file and is for trials.
        weights_file: Your own file of them; None fetches "imagenet".
        sha256: Its digest.
        faces: How faces are cut from films, a mode of `extract_faces`; aligned ones stay as they
            are.
        device: Where features are computed.
        seed: Not needed: nothing is drawn.

    Raises:
        BadInput: Files that contradict their format, or cannot be read or written; no clips; labels
            that do not fit a film.
    """
    listing, clips = arm.about.read(root), []
    if not len(listing):
        fault = f"none of the {sum(listing.listed.values())} listed clips is on this disk"
        raise BadInput("clips", fault, "get the films or aligned faces; data/README.md says where")
    trial = weights == "thumbnail"
    backbone = Thumbnail() if trial else FrozenResNet50(weights, weights_file, sha256=sha256)
    extract = FrozenFeatures(backbone, device=device)
    for i in tqdm(range(len(listing)), desc="faces and features", unit="clip", disable=None):
        film = on_disk.film_on_disk(listing, i, Path(cache), extract, faces)
        split, subject, clip = (film.row[name] for name in ("split", "subject", "clip"))
        names = ("/".join(dict.fromkeys((split, subject, clip))), subject, split)
        # Spreads of labels are taken in float64 and, so that NumPy adds pairwise, column by column.
        labels = np.atleast_2d(film.labels).astype(np.float64, order="F")
        about = {"load": partial(_official_inputs, film), "fps": film.fps, "half": arm.length // 2}
        about |= {"film": film.row["film"], **cut(film.seen, film.shot, arm)}
        clips.append(Clip(*names, labels, **about))
    return clips, listing.missing


def _official_inputs(
    film: on_disk.Film, frames: np.ndarray, *, arm, generator, device, dense
) -> dict[str, Tensor]:
    inputs = {}
    if arm.streams != "temporal":
        features = film.read("features", frames[:, frames.shape[1] // 2]).astype(np.float32)
        inputs["features"] = torch.from_numpy(features)  # (S, 2048)
    if arm.streams != "spatial":
        needed, place = np.unique(frames, return_inverse=True)
        place = torch.from_numpy(place.reshape(frames.shape))  # (S, L + 1)
        crop = {"generator": generator, "legacy_crop": arm.crop == "released"}
        grey = on_disk.grey_faces(film.read("grey", needed), **crop)[:, 0].to(device)
        unwrap = "unwrap" in arm.legacy
        if dense and not unwrap:  # each frame once for all snippets that it is in
            maps = phase_difference(grey[torch.cat([place[0], place[1:, -1]])], check=False)
            levels = [snippets(level, arm.length) for level in maps]
        else:  # each snippet by itself; as released this takes six times as long
            levels = phase_difference(grey[place], legacy_unwrap=unwrap, check=False)
        inputs |= {k: v.flatten(1, 2) for k, v in zip(LEVELS, levels, strict=True)}
    return inputs
