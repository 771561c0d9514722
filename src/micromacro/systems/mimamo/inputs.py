"""What MIMAMO Net sees of a clip: snippets, appearance and motion, and sequences of them as batches.

A snippet is a centre frame and L / 2 frames on either side: the spatial stream sees features of the
centre, the temporal stream L phase differences. `Clip` is one clip of any data set with a way to load
snippets; `Snippets` says which frames make up each and whether it counts; `Sequences` makes batches.

On the benchmark both streams start from the face, the middle 48 px of the 64-px picture. Appearance is
the frozen expression encoder's; motion is measured on 48 px, the paper's size, and then averaged to
maps of 24 px and 12 px, so that a CPU can train on them. In training, crop and flip are drawn once a
clip. Officially appearance is ResNet-50's, the maps have 48 px and 24 px, and crop and flip are drawn
once a sequence, in each epoch anew.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from micromacro.backbones import N_FEATURES, FrozenFeatures, FrozenResNet50
from micromacro.datasets import frames as on_disk
from micromacro.datasets.table import Listing
from micromacro.errors import BadInput
from micromacro.expression_encoder import ExpressionEncoder, load_expression_encoder
from micromacro.kernels.phase_difference import phase_difference, snippets
from micromacro.motion.maps import MOTION_PX, motion_maps, refuse_odd
from micromacro.systems.mimamo.model import LEVELS
from micromacro.systems.mimamo.task import FACE_PX, FPS, SNIPPET_FRAMES, STRIDE, Clips, record

HALF = SNIPPET_FRAMES // 2  # frames of a snippet before its centre, and after it
FACE = slice(8, FACE_PX - 8)  # rows and columns of the benchmark's face
CLIP_STEPS = 32  # snippets in a clip of the benchmark
CROPS = {"none": 1.0, "ours": 0.85, "released": 0.85 * 48 / 112}  # side, as a part of the face


# ---- clips and their snippets --------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip of any data set; what it shows is loaded when it is asked for.

    Attributes:
        name: "split/subject/clip", or what of it is needed to be unique.
        subject: Who is in it; officially the video, for who is in it is not published. Folds go by
            subjects.
        split: Of the data set.
        labels: float (T, n), a row a frame, or (1, n) for one label of the clip; nan for none.
        seen: bool (T,), frames with a face.
        shot: int (T,), number of the shot, never decreasing.
        fps: Frames per second.
        load: Called with frame numbers int64 (S, L + 1), an `arms.Arm`, a generator that draws crop
            and flip (None for evaluation), a device, and whether the snippets lie a frame apart;
            returns "features" (S, F), "level_1" and "level_2" (S, channels, h, w), or what of them
            the arm sees.
        version: Changes with what is loaded, where that lies on disk.
    """

    name: str
    subject: str
    split: str
    labels: np.ndarray
    seen: np.ndarray
    shot: np.ndarray
    fps: float
    load: Callable[..., dict[str, Tensor]]
    version: str = ""


@dataclass(frozen=True, eq=False)
class Snippets:
    """How snippets are cut from a clip: one around each of K frames.

    Attributes:
        clip: The clip.
        half: Frames of a snippet on either side of its centre.
        frames: int64 (K,), the frames that snippets are cut from: all; or, as released, those with
            a face, as if nothing lay between them.
        valid: bool (K,), False where a snippet touches a frame without a face or spans a shot cut.
            This is the model's mask.
    """

    clip: Clip
    half: int
    frames: np.ndarray
    valid: np.ndarray

    @classmethod
    def of(cls, clip: Clip, arm) -> "Snippets":
        """The snippets of a clip as an arm (`arms.Arm`) cuts them.

        By released fault Q4 ("gaps") frames without a face are dropped and their neighbours joined,
        so that snippets reach across gaps and cuts.
        """
        if "gaps" in arm.legacy:
            frames = np.flatnonzero(clip.seen)
            return cls(clip, arm.length // 2, frames, np.ones(len(frames), bool))
        frames = np.arange(len(clip.seen))
        around = cls(clip, arm.length // 2, frames, clip.seen).around(frames)  # (T, L + 1)
        one_shot = clip.shot[around[:, 0]] == clip.shot[around[:, -1]]
        return cls(clip, arm.length // 2, frames, clip.seen[around].all(1) & one_shot)

    def around(self, centres: range) -> np.ndarray:
        """Frame numbers of the snippets around some of the K frames, int64 (S, L + 1).

        Beyond the ends the first and the last frame are repeated, as in the released program.
        """
        places = np.array(centres, np.int64)[:, None] + np.arange(-self.half, self.half + 1)
        return self.frames[places.clip(0, len(self.frames) - 1)]

    def labels(self, centres: range) -> np.ndarray:
        """Labels of the snippets around some of the K frames, float (S, n)."""
        rows = np.zeros(len(centres), int) if len(self.clip.labels) == 1 else self.frames[centres]
        return self.clip.labels[rows]

    def count(self, centres: range) -> int:
        """How many of the snippets around some of the K frames are valid and have labels."""
        return int((self.valid[centres] & np.isfinite(self.labels(centres)).all(1)).sum())


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences of snippets as batches; what a batch needs is loaded when it is asked for.

    Iterated, it yields them in order and as they are (for `predict`); called with a generator, in a
    drawn order, augmented (for `train`). A last batch of one sequence joins the one before: batch
    normalisation wants two.

    A batch is ``({"features", "level_1", "level_2", "mask"}, target, mask)``, as the networks and
    the losses take them, padded at the end to the longest of all sequences.

    Attributes:
        parts: The clips' snippets.
        spans: Of each sequence which clip it is of, and the centres of its snippets.
        size: Sequences in a batch.
        arm: What of a snippet is shown (`arms.Arm`), and whether labels are per frame.
        device: Where phase differences are computed.
    """

    parts: Sequence[Snippets]
    spans: Sequence[tuple[int, range]]
    size: int
    arm: object
    device: str = "cpu"

    def __len__(self) -> int:
        return len(self._chunks(torch.arange(len(self.spans))))

    def __iter__(self) -> Iterator[tuple]:
        return (self._batch(rows, None) for rows in self._chunks(torch.arange(len(self.spans))))

    def __call__(self, generator: torch.Generator) -> Iterator[tuple]:
        """One epoch of training."""
        if "batches" in self.arm.legacy:  # members and order stay, only the order inside is drawn
            chunks = self._chunks(torch.arange(len(self.spans)))
            chunks = [rows[torch.randperm(len(rows), generator=generator)] for rows in chunks]
        else:
            chunks = self._chunks(torch.randperm(len(self.spans), generator=generator))
        return (self._batch(rows, generator) for rows in chunks)

    def _chunks(self, order: Tensor) -> list[Tensor]:
        chunks = list(order.split(self.size)) if len(order) else []
        if len(chunks) > 1 and len(chunks[-1]) == 1:
            chunks[-2:] = [torch.cat(chunks[-2:])]
        return chunks

    def _batch(self, rows: Tensor, generator: torch.Generator | None) -> tuple:
        loaded, masks, labels = [], [], []
        for index, centres in (self.spans[row] for row in rows.tolist()):
            part, how = self.parts[index], {"generator": generator, "device": self.device}
            dense = centres.step == 1
            loaded.append(part.clip.load(part.around(centres), arm=self.arm, dense=dense, **how))
            masks.append(torch.from_numpy(part.valid[centres]))
            labels.append(torch.from_numpy(part.labels(centres)).float())
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
        padded = parts[0].new_zeros(len(parts), longest, *parts[0].shape[1:])
        for row, part in zip(padded, parts, strict=True):
            row[: len(part)] = part
        return padded


def video_inputs(
    videos: Tensor, backbone: Callable[[Tensor], Tensor], *, length: int = 2 * HALF
) -> dict[str, Tensor]:
    """What both networks take, of a plain batch of videos: ``net(**video_inputs(videos, backbone))``.

    One snippet around each frame; beyond the ends the first and the last frame are repeated.

    Args:
        videos: float32 (B, T, 3, H, W) in [0, 1], RGB, aligned faces at 30 frames per second.
        backbone: Takes images (N, 3, H, W) and returns features (N, F): `FrozenResNet50`, say.
        length: L, even: phase differences in a snippet.

    Returns:
        "features" float32 (B, T, F); "level_1" (B, T, 2 L, 48, 48) and "level_2" (B, T, 2 L, 24, 24)
        float32, rad.

    Raises:
        BadInput: Another shape, or an odd length.
    """
    if videos.ndim != 5 or videos.shape[2] != 3:
        fault = f"have shape {tuple(videos.shape)}"
        raise BadInput("videos", fault, "give (B, T, 3, H, W), RGB in [0, 1]")
    refuse_odd(length)
    B, T = videos.shape[:2]
    features = backbone(videos.flatten(0, 1)).unflatten(0, (B, T))  # (B T, F) -> (B, T, F)
    luma = videos.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    frames = (videos * luma).sum(2).clamp(max=1)  # (B, T, H, W)
    padded = frames[:, torch.arange(-(length // 2), T + length // 2).clamp(0, T - 1)]
    maps = phase_difference(padded, size=MOTION_PX)  # 2 x (B, 2, T + L - 1, h, w)
    levels = [snippets(level, length).flatten(2, 3) for level in maps]  # 2 x (B, T, 2 L, h, w)
    return {"features": features, **dict(zip(LEVELS, levels, strict=True))}


# ---- the benchmark -------------------------------------------------------------------------------


def synthetic_clips(
    arm,
    seed: int,
    people: int = 48,
    illumination: float = 0.5,
    test_illumination: float | None = None,
) -> list[Clip]:
    """The embedded benchmark: `task.record` as clips, splits "train" and "test".

    Args:
        arm: What of the clips is seen (`arms.Arm`).
        seed: Random seed; another seed draws other people and scripts.
        people: Number of persons in training; half as many in the test, other ones.
        illumination: Dial of the task, 0 to 1.
        test_illumination: The same for the test; None for that of the training.
    """
    test_light = illumination if test_illumination is None else test_illumination
    sizes = {"train": (people, illumination, arm.crop), "test": (people // 2, test_light, "none")}
    clips, sd = [], {}
    for split, (count, light, crop) in sizes.items():
        shown = record(seed, split, people=count, steps=CLIP_STEPS, illumination=light)
        inputs = _synthetic_inputs(arm, shown, crop, seed)
        if arm.scale:  # by the training set alone, which comes first
            sd = sd or {name: inputs[name].std().clamp_min(1e-12) for name in LEVELS}
            inputs |= {name: inputs[name] / sd[name] for name in LEVELS}
        T = shown.frames.shape[1]
        for index, (labels, person) in enumerate(zip(shown.labels, shown.person, strict=True)):
            load = partial(_rows, {name: values[index] for name, values in inputs.items()})
            about = (labels.numpy(), np.ones(T, bool), np.zeros(T, int), FPS)
            subject = f"{split}-{person:03d}"
            clips.append(Clip(f"{split}/{index:03d}", subject, split, *about, load))
    return clips


def _synthetic_inputs(arm, shown: Clips, crop: str, seed: int) -> dict[str, Tensor]:
    """What an arm sees of whole clips, (N, S, ...) each: crop and flip are drawn once a clip."""
    inputs = {}
    if arm.streams != "temporal":
        inputs["features"] = appearance(shown.frames, shown.centres, _encoder())
    if arm.streams != "spatial":
        seen = faces(shown.frames, crop, torch.Generator().manual_seed(seed))
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
    if crop not in CROPS:
        raise BadInput(f"crop={crop!r}", "is unknown", f"use one of {', '.join(CROPS)}")
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


class Thumbnail(nn.Module):
    """Stands in for ResNet-50 in a trial: 27 x 27 thumbnails, cut to as many features."""

    def __init__(self):
        super().__init__()
        self.settings = {"weights": "thumbnail"}

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, 2048)."""
        return F.adaptive_avg_pool2d(images, 27).flatten(1)[:, :N_FEATURES]


def load_clips(
    arm, seed: int = 0, *, device: str = "cpu", root: str = "", sizes: object = None, **options
) -> tuple[list[Clip], tuple[str, ...]]:
    """The clips of an arm's data set, and the names of those that are listed but not there.

    Faces and features of official clips are made once and kept. With many workers call it once
    before, for any arm.

    Args:
        arm: See `arms.Arm`.
        seed: Decides the benchmark's people and clips.
        device: Where features of official clips are computed.
        root: Folder of the official data, as data/README.md shows.
        sizes: Those of the network; not needed here.
        options: Those of `synthetic_clips` or `official_clips`.

    Raises:
        BadInput: Official files that contradict their format; no clips.
    """
    if arm.about.read is None:
        return synthetic_clips(arm, seed, **options), ()
    listing = arm.about.read(root)
    return official_clips(listing, device=device, **options), listing.missing


def official_clips(
    listing: Listing,
    cache: str | Path,
    weights: str,
    weights_file: str | None = None,
    sha256: str | None = None,
    faces: str = "stabilised",
    device: str = "cpu",
) -> list[Clip]:
    """Official clips; a bar on stderr if a terminal. Memory is bounded by one clip here.

    Args:
        listing: What a reader of `datasets.affect` gave.
        cache: Folder, made if missing.
        weights: "imagenet", "vggface2" or "ferplus", which is the paper's (`FrozenResNet50`);
            "thumbnail" needs no file and is for trials.
        weights_file: Your own file of them; None fetches "imagenet".
        sha256: Its digest.
        faces: How faces are cut from films, a mode of `extract_faces`; aligned ones stay as they are.
        device: Where features are computed.

    Raises:
        BadInput: No clips; a file that cannot be read or written; labels that do not fit a film.
    """
    if not len(listing):
        fault = f"none of the {sum(listing.listed.values())} listed clips is on this disk"
        raise BadInput("clips", fault, "get the films or aligned faces; data/README.md says where")
    trial, clips = weights == "thumbnail", []
    backbone = Thumbnail() if trial else FrozenResNet50(weights, weights_file, sha256=sha256)
    extract = FrozenFeatures(backbone, device=device)
    for i in tqdm(range(len(listing)), desc="faces and features", unit="clip", disable=None):
        film = on_disk.film_on_disk(listing, i, Path(cache), extract, faces)
        split, subject, clip = (film.row[name] for name in ("split", "subject", "clip"))
        # Spreads of labels are taken in float64 and, so that NumPy adds pairwise, column by column.
        labels = np.atleast_2d(film.labels).astype(np.float64, order="F")
        about = (labels, film.seen, film.shot, film.fps, partial(_official_inputs, film))
        name = "/".join(dict.fromkeys((split, subject, clip)))
        clips.append(Clip(name, subject, split, *about, version=str(film.files)))
    return clips


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
        grey = grey_faces(film.read("grey", needed), **crop)[:, 0].to(device)
        unwrap = "unwrap" in arm.legacy
        if dense and not unwrap:  # each frame once for all snippets that it is in
            maps = phase_difference(grey[torch.cat([place[0], place[1:, -1]])], check=False)
            levels = [snippets(level, arm.length) for level in maps]
        else:  # each snippet by itself; as released this takes six times as long
            levels = phase_difference(grey[place], legacy_unwrap=unwrap, check=False)
        inputs |= {k: v.flatten(1, 2) for k, v in zip(LEVELS, levels, strict=True)}
    return inputs


def grey_faces(
    frames: np.ndarray, *, generator: torch.Generator | None = None, legacy_crop: bool = False
) -> Tensor:
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
        crop = int(CROPS["ours"] * (MOTION_PX if legacy_crop else side))
        if crop > side:
            raise BadInput("legacy_crop", f"faces of {side} px hold no {crop} px", "use 112 px")
        left, top = torch.randint(side - crop + 1, (2,), generator=generator).tolist()
        flip = bool(torch.rand((), generator=generator) < 0.5)
    box, size = (left, top, left + crop, top + crop), (MOTION_PX, MOTION_PX)
    pictures = (Image.fromarray(face[0]).crop(box) for face in on_disk.grey(frames))
    small = [np.asarray(p.resize(size, Image.Resampling.LANCZOS), np.float32) for p in pictures]
    shown = np.stack(small)[:, None]
    return torch.from_numpy(shown[..., ::-1].copy() if flip else shown).div_(255)
