"""From a video to a FaceClip, frame by frame: decode, find cuts, track, align, stabilise, crop."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from tqdm import tqdm

from micromacro.clip import MODES, FaceClip
from micromacro.errors import BadInput, check_choice
from micromacro.faces.align import compose, luma, rescale, rgb, similarity, template_points, warp
from micromacro.faces.detect import make_detector, single_thread
from micromacro.faces.stabilise import WORK_PX, Stabiliser
from micromacro.faces.track import Observation, Tracker, mark_cuts
from micromacro.video import FOLDER_FPS, Frame, positive, probe, read_frames

MOST_COVERS = 5  # that a note lists
HALVE_CROPS_BELOW = 0.3  # see `warp`; O-Net's input is halved later: landmarks move by 0.2 px
STEADY_EYES_PX = 20  # eye distance below which five points cannot carry micro-motion


def extract_faces(
    source: str | Path | np.ndarray,
    *,
    mode: str = "aligned",
    size: int = 112,
    backend: str = "mtcnn",
    weights: str | Path | None = None,
    sha256: str | None = None,
    select: str = "auto",
    pixels: str = "rgb",
    fps: float | None = None,
    strict: bool = False,
    keep_damaged: bool = False,
    progress: bool = False,
    store: str | Path | None = None,
) -> FaceClip:
    """Follow one face through a film and crop it, one row for every decoded frame.

    The film is read once and only crops are kept: 271 MB a minute at 224 px and 30 frames/s. torch
    and OpenCV use one thread meanwhile, and get their settings back; run several films in several
    processes. The result is deterministic.

    What is promised: no frame is dropped. A loss of up to five frames inside a shot is bridged
    ("interp", the crop shows what covered the face); a longer one is "none", with a black crop and
    nan in score, landmarks and transform, and nan nowhere else. Nothing is carried across a cut.
    Where another face comes in front, frames are "none" and never bridged; afterwards the person is
    known by looks. Of two that look alike, the one nearer to the old place is taken.
    A dark or flat film is looked at with stretched contrast, a sideways one at quarter turns; its
    crops come out upright. Expect "none" beyond about 60 degrees of yaw.

    Args:
        source: Video file, folder of images, or array uint8 (T, H, W, 3) RGB or (T, H, W) grey.
        mode: "aligned" takes five landmarks to the template in each frame; "stabilised" also
            registers the skin to sub-pixel accuracy, for phase, flow and micro-expressions;
            "first_frame" keeps each shot's first transform (CASME II); "per_frame" detects anew
            in each frame, as is common (it jitters by a pixel or two; for comparison).
        size: Side S of the crops, pixels.
        backend: Detector, "mtcnn" or "yunet".
        weights: ONNX file of YuNet; `None` takes it from the cache or downloads it.
        sha256: Hash of a weights file of your own.
        select: Whom to follow in each shot: "auto" (large, certain, central), "largest", "centre"
            or "index:N", counted from the left.
        pixels: "rgb" or "luma".
        fps: Frames per second of a folder (by the numbers in its names) or an array, default 30.
        strict: Raise if no frame shows a face, instead of one warning and a clip of "none".
        keep_damaged: Go on after damage to the file, where frames are "none", instead of raising.
        progress: Show a bar on a terminal.
        store: File that takes the crops instead of memory; it must stay as long as the clip is
            used.

    Returns:
        A FaceClip; `settings["notes"]` lists what a user should know (small face, turned film...).

    Raises:
        BadInput: Unusable source, option or weights; no face, if `strict`.
    """
    options = {"backend": backend, "weights": weights, "sha256": sha256, "select": select}
    cropper, tracker = prepare(mode, size, pixels, **options)
    memory = bytearray()  # grows in place: a list of crops would be copied once more
    notes: list[str] = []
    name, frames, total = _open(source, pixels, fps, keep_damaged, notes)
    with single_thread(), nullcontext() if store is None else Path(store).open("wb") as file:
        keep = memory.extend if file is None else file.write
        bar = tqdm(frames, name, total, unit="frame", disable=None if progress else True)
        for seen in tracker.follow(mark_cuts(bar)):
            keep(cropper.add(seen))
    settings = {
        "size": size,
        "template": "arcface",
        "backend": backend,
        "weights": None if weights is None else Path(weights).name,
        "select": select,
        "pixels": pixels,
        "keep_damaged": keep_damaged,
        "notes": notes,
    }
    if not cropper.seen:
        raise BadInput(name, "holds no frame", "give a film with at least one frame")
    crops = np.frombuffer(memory, np.uint8) if store is None else np.memmap(store, np.uint8, "r")
    clip = cropper.clip(name, settings, crops)
    if (clip.status == "none").all():
        fault = f"no face found in {len(clip)} frames"
        remedy = "give a film with a face of at least 20 pixels"
        if clip.n_faces.max() > 0:
            fault = f"none of the {clip.n_faces.max()} face(s) in sight is select={select}"
            remedy = "choose another one"
        if strict:
            raise BadInput(name, fault, remedy)
        warnings.warn(f"{name}: {fault}; every crop is black", stacklevel=2)
    return clip


def prepare(
    mode: str, size: int, pixels: str = "rgb", *, backend: str, weights, sha256, select: str
) -> "tuple[_Cropper, Tracker]":
    """What `extract_faces` works with; refuses its options before a film is opened."""
    check_choice("mode", mode, MODES)
    check_choice("pixels", pixels, ("rgb", "luma"))
    detector = make_detector(backend, weights, sha256)
    return _Cropper(mode, size, pixels), Tracker(detector, select, every_frame=mode == "per_frame")


class _Cropper:
    """Turns observations into crops and keeps one row for each."""

    def __init__(self, mode: str, size: int, pixels: str):
        self.mode, self.size, self.pixels = mode, size, pixels
        self.target = template_points(size)
        self.work = template_points(WORK_PX)
        self.to_size = rescale(WORK_PX, size)
        self.stabiliser = Stabiliser(self.work)
        self.fixed: np.ndarray | None = None  # "first_frame": the transform of this shot
        self.seen: list[Observation] = []
        self.transforms: list[np.ndarray] = []

    def add(self, seen: Observation) -> bytes:
        """Crop one frame: the bytes of uint8 (C, S, S)."""
        if self.seen and self.seen[-1].shot != seen.shot:  # nothing crosses a cut
            self.stabiliser.reset()
            self.fixed = None
        if seen.status == "none":
            self.stabiliser.reset()
            matrix = np.full((2, 3), np.nan)
            crop = np.zeros((self.size, self.size), np.uint8)
        else:
            matrix = self._transform(seen)
            crop = warp(seen.frame.image, matrix, self.size, halve_below=HALVE_CROPS_BELOW)
        crop = rgb(crop) if self.pixels == "rgb" else crop
        self.transforms.append(matrix)
        bare = replace(seen.frame, image=None)  # only crops stay in memory
        self.seen.append(replace(seen, frame=bare))
        return crop.transpose(2, 0, 1).tobytes() if crop.ndim == 3 else crop.tobytes()

    def _transform(self, seen: Observation) -> np.ndarray:
        """Source to crop pixels for one frame with a face."""
        aligned = similarity(seen.landmarks, self.target)
        if self.mode == "first_frame":
            self.fixed = aligned if self.fixed is None else self.fixed
            return self.fixed
        if self.mode != "stabilised":
            return aligned
        aligned = similarity(seen.landmarks, self.work)
        correction = self.stabiliser.correction  # an occluded frame is carried, never fitted
        if seen.status != "interp":
            image, how = seen.frame.image, {"grey": True, "halve_below": HALVE_CROPS_BELOW}
            correction = self.stabiliser.step(
                lambda matrix: warp(image, compose(matrix, aligned), WORK_PX, **how)
            )
        return compose(self.to_size, compose(correction, aligned))

    def clip(self, name: str, settings: dict, crops: np.ndarray) -> FaceClip:
        """Everything added so far, with the crops' bytes one after the other; our notes last."""
        channels = 3 if self.pixels == "rgb" else 1
        return FaceClip(
            frames=crops.reshape(len(self.seen), channels, self.size, self.size),
            t_s=np.array([s.frame.t_s for s in self.seen], np.float64),
            status=np.array([s.status for s in self.seen]),
            score=np.array([s.score for s in self.seen], np.float32),
            landmarks=np.array([s.landmarks for s in self.seen], np.float32),
            transform=np.array(self.transforms),
            shot=np.array([s.shot for s in self.seen], np.int32),
            n_faces=np.array([s.n_faces for s in self.seen], np.int32),
            mode=self.mode,
            source=name,
            settings=settings | {"notes": settings["notes"] + self._notes()},
        )

    def _notes(self) -> list[str]:
        """What a user should know about this film, in plain words."""
        notes, found = [], [s for s in self.seen if s.status != "none"]
        most = max(s.n_faces for s in self.seen)
        if most > 1:
            notes.append(f"up to {most} faces in sight, one followed")
        pairs = pairwise(self.seen)
        covers = [str(s.frame.index) for last, s in pairs if s.covered and not last.covered]
        if covers:
            frames = ", ".join([*covers[:MOST_COVERS], "..."][: len(covers)])
            notes.append(f"another face in front from frame {frames}: the segment ends there")
        turned = {90 * s.turn for s in found} - {0}
        if turned:
            degrees = ", ".join(map(str, sorted(turned)))
            notes.append(f"faces lie sideways: turned {degrees} degrees anticlockwise")
        if any(s.stretched for s in found):
            notes.append("dark or flat: contrast stretched to find the face")
        eyes = [np.linalg.norm(s.landmarks[1] - s.landmarks[0]) for s in found]
        if eyes and np.median(eyes) < STEADY_EYES_PX:
            distance = f"eyes {np.median(eyes):.0f} px apart"
            notes.append(f"small face, {distance}: too small to carry micro-motion")
        if self.stabiliser.refused:
            notes.append(f"{self.stabiliser.refused} frames could not be stabilised anew")
        return notes


def _open(
    source: str | Path | np.ndarray,
    pixels: str,
    fps: float | None,
    keep_damaged: bool,
    notes: list[str],
) -> tuple[str, Iterable[Frame], int | None]:
    """A name, the frames, and how many the source declares."""
    if isinstance(source, (str, Path)):
        how = {"pixels": pixels, "fps": fps, "keep_damaged": keep_damaged, "notes": notes}
        return str(source), read_frames(source, **how), probe(source).n_frames
    film = np.asarray(source)
    rate = FOLDER_FPS if fps is None else positive("fps", fps)
    colour = film.ndim == 4 and film.shape[3] == 3
    if film.dtype != np.uint8 or not (colour or (film.ndim == 3 and film.shape[2] > 4)):
        fault = f"is {film.dtype} of shape {film.shape}"
        raise BadInput("array", fault, "give uint8 (T, H, W, 3) RGB or (T, H, W) grey")
    return "array", _array_frames(film, pixels, rate), len(film)


def _array_frames(film: np.ndarray, pixels: str, fps: float) -> Iterator[Frame]:
    for index, image in enumerate(film):
        image = luma(image) if pixels == "luma" else np.ascontiguousarray(image)
        yield Frame(index, index / fps, image)
