"""FaceClip: what every source of faces yields and every consumer takes.

A saved clip is two files that need no part of this package to be read:

``<stem>.npz`` (``numpy.load(path, allow_pickle=False)``) holds one array for each array of
`FaceClip`, under its field's name with the type and shape given there, and ``about``: a string
with JSON ``{"format": "micromacro.FaceClip", "version": 1, "mode": ..., "source": ...,
"settings": {...}}``.

``<stem>.csv`` repeats everything but the pixels, one row for each frame: frame (0-based), t_s,
shot, status, score, n_faces, ten landmark coordinates in source pixels, and the 2x3 matrix
m00 m01 m02 m10 m11 m12 that takes source pixels (x, y, 1) to crop pixels. "nan" where no face is.
"""

import csv
import json
import mmap
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from micromacro.errors import BadInput
from micromacro.files import existing, named, read_npz, reading, replacing, writing

MODES = ("aligned", "stabilised", "first_frame", "per_frame")
STATUSES = ("track", "detect", "interp", "none")
LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
LONGEST_STEP = 1.5  # median steps of time; after a longer one pictures are missing
RELEASE_EVERY = 64  # crops
FORMAT, VERSION = "micromacro.FaceClip", 1
CSV_COLUMNS = (
    *("frame", "t_s", "shot", "status", "score", "n_faces"),
    *(f"{point}_{axis}" for point in LANDMARKS for axis in "xy"),
    *(f"m{row}{column}" for row in range(2) for column in range(3)),
)
# name -> (type, shape after T); None in a shape means any length
_ARRAYS = {
    "frames": (np.uint8, (None, None, None)),
    "t_s": (np.float64, ()),
    "status": (np.str_, ()),
    "score": (np.float32, ()),
    "landmarks": (np.float32, (5, 2)),
    "transform": (np.float64, (2, 3)),
    "shot": (np.int32, ()),
    "n_faces": (np.int32, ()),
}


@dataclass(frozen=True, eq=False)
class FaceClip:
    """Face crops of one video, one row for each of its frames; T frames, crops of S x S pixels.

    Attributes:
        frames: uint8 (T, C, S, S), 0-255, C = 3 RGB or 1 luma; all zero where status is "none". A
            `numpy.memmap` stays in its file.
        t_s: float64 (T,), seconds since the first frame, strictly increasing.
        status: str (T,): "track", "detect", "interp" (landmarks filled in time) or "none".
        score: float32 (T,), the detector's or tracker's; nan where "none" (and may be elsewhere).
        landmarks: float32 (T, 5, 2), source pixels (x, y), which are those of the pictures that
            `read_frames` gives, upright and square, not those stored: left eye, right eye (as seen
            in the image), nose, mouth left, mouth right; nan where "none", finite elsewhere.
        transform: float64 (T, 2, 3), source pixels (x, y, 1) to crop pixels; nan where "none",
            finite elsewhere.
        shot: int32 (T,), 0-based number of the shot, never decreasing.
        n_faces: int32 (T,), faces the detector saw; -1 where it did not run.
        mode: "aligned", "stabilised", "first_frame" or "per_frame".
        source: The video or folder, as the user named it.
        settings: Everything else that made the clip; JSON values (tuples become lists).

    Raises:
        BadInput: A field breaks what is written above; the message names the field.
    """

    frames: np.ndarray
    t_s: np.ndarray
    status: np.ndarray
    score: np.ndarray
    landmarks: np.ndarray
    transform: np.ndarray
    shot: np.ndarray
    n_faces: np.ndarray
    mode: str
    source: str
    settings: dict

    def __post_init__(self):
        for name in _ARRAYS:
            self._check_array(name)
        self._require("frames", self.frames.shape[1] in (1, 3), "has neither 1 nor 3 channels")
        square = self.frames.shape[2] == self.frames.shape[3] > 0
        self._require("frames", square, "holds no square crops")
        rising = np.isfinite(self.t_s).all() and (np.diff(self.t_s) > 0).all()
        self._require("t_s", rising, "does not increase strictly")
        self._require("status", np.isin(self.status, STATUSES).all(), f"is not all of {STATUSES}")
        steady = self.shot[0] >= 0 and (np.diff(self.shot) >= 0).all()
        self._require("shot", steady, "is negative or decreases")
        self._require("n_faces", (self.n_faces >= -1).all(), "is below -1")
        self._require("mode", self.mode in MODES, f"is {self.mode!r}, not one of {MODES}")
        none = self.status == "none"
        black = not any(crop.any() for crop in crops_of(self.frames, np.flatnonzero(none)))
        self._require("frames", black, 'is not zero where status is "none"')
        self._require("score", np.isnan(self.score[none]).all(), 'is not nan where "none"')
        for name in ("landmarks", "transform"):
            values = getattr(self, name)
            self._require(name, np.isnan(values[none]).all(), 'is not nan where status is "none"')
            self._require(name, np.isfinite(values[~none]).all(), "is not finite where a face is")
        try:
            plain = json.loads(json.dumps(self.settings, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise BadInput("FaceClip.settings", f"not JSON ({error})", "use JSON values") from error
        object.__setattr__(self, "settings", plain)

    def _check_array(self, name: str) -> None:
        array, (kind, tail) = getattr(self, name), _ARRAYS[name]
        typed = isinstance(array, np.ndarray) and np.issubdtype(array.dtype, kind)
        self._require(name, typed, f"is not a {kind.__name__} array")
        shape = (len(self.frames), *tail)
        fits = array.ndim == len(shape) and all(
            want in (None, have) for want, have in zip(shape, array.shape, strict=True)
        )
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        self._require(name, fits, f"has shape {array.shape}, not ({wanted})")
        self._require(name, len(array) > 0, "has no frame")

    @staticmethod
    def _require(name: str, good: object, fault: str) -> None:
        if not good:
            raise BadInput(f"FaceClip.{name}", fault, "see the attributes in FaceClip's docstring")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> int:
        """Side S of the square crops, pixels."""
        return self.frames.shape[-1]

    @property
    def fps(self) -> float:
        """Frames per second: one over the median time step; nan for a single frame."""
        return float(1 / np.median(np.diff(self.t_s))) if len(self) > 1 else float("nan")

    def images(self, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Return frames start..stop-1 as float32 (stop - start, C, S, S) in [0, 1], a copy."""
        return torch.from_numpy(self.frames[start:stop].astype(np.float32)).div_(255)

    def grey(self, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Return frames start..stop-1 as grey float32 (stop - start, S, S) in [0, 1].

        So the kernels take them, (T, H, W); networks take ``clip.grey()[:, None]``, with a channel.
        """
        from micromacro.kernels import grey  # loads OpenCV, which a clip does without

        return grey(self.images(start, stop))

    def breaks(self) -> np.ndarray:
        """Return bool (T,): whether a cut or a gap in time lies before a frame.

        A gap is a step above 1.5 median steps: frames that the recorder dropped, pictures that are
        not in the folder. Nothing may be measured across.
        """
        gap = np.diff(self.t_s) * self.fps > LONGEST_STEP + 1e-6  # of rounding
        return np.concatenate([[False], gap | (np.diff(self.shot) != 0)])

    def segments(self, min_frames: int = 1) -> list[tuple[int, int]]:
        """Return the half-open runs [start, stop) with a face in every frame and no break inside.

        Args:
            min_frames: Least number of frames; shorter runs are left out.
        """
        seen = np.concatenate([[False], self.status != "none", [False]])
        cut = np.concatenate([self.breaks(), [False]])
        starts = np.flatnonzero(seen[1:] & (~seen[:-1] | cut))
        stops = np.flatnonzero(seen[:-1] & (~seen[1:] | cut))
        runs = zip(starts.tolist(), stops.tolist(), strict=True)
        return [(start, stop) for start, stop in runs if stop - start >= min_frames]

    def summary(self) -> str:
        """Return one line: source, length, rate, mode, frames of each status, shots."""
        counts = ", ".join(f"{np.sum(self.status == name)} {name}" for name in STATUSES)
        length = f"{len(self)} frames at {self.fps:.2f} per second" if len(self) > 1 else "1 frame"
        return (
            f"{Path(self.source).name}: {length}, {self.mode} at {self.size} px; {counts}; "
            f"{len(np.unique(self.shot))} shot(s)"
        )


def crops_of(frames: np.ndarray, chosen: Iterable[int] | None = None) -> Iterator[np.ndarray]:
    """Crops in turn; of those in a file (a `numpy.memmap` to read) few are in memory at once.

    Args:
        frames: (T, C, S, S).
        chosen: Frame numbers; all by default.
    """
    for count, index in enumerate(range(len(frames)) if chosen is None else chosen, 1):
        yield frames[index]
        if count % RELEASE_EVERY == 0 and getattr(frames, "mode", None) == "r":
            frames._mmap.madvise(mmap.MADV_DONTNEED)


def save_clip(clip: FaceClip, path: str | Path) -> Path:
    """Write a clip as ``<stem>.npz`` and ``<stem>.csv`` (format: top of this module).

    Each file appears whole or not at all, the npz last. Equal clips give equal bytes.

    Args:
        clip: The clip that is written.
        path: The .npz to write, its folder must exist; or a folder (made if missing), where the
            stem becomes that of ``clip.source``.

    Returns:
        Path of the .npz.

    Raises:
        BadInput: The target cannot be written.
    """
    path = named(path)
    if path.suffix != ".npz":
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        path = path / f"{Path(clip.source).stem}.npz"
    about = {"format": FORMAT, "version": VERSION, "mode": clip.mode, "source": clip.source}
    arrays = {name: getattr(clip, name) for name in _ARRAYS}
    text = json.dumps({**about, "settings": clip.settings}, ensure_ascii=False)
    with replacing(path) as npz, replacing(path.with_suffix(".csv")) as table:
        _write_csv(table, clip)
        _write_npz(npz, {**arrays, "about": np.array(text)})
    return path


def load_clip(path: str | Path) -> FaceClip:
    """Read a clip that `save_clip` wrote; only the .npz is needed. Never unpickles.

    Raises:
        BadInput: Missing, torn, not a FaceClip, or of another version.
    """
    path = existing(path)
    what = path, "a saved FaceClip", "extract the faces again"
    stored = read_npz(*what)
    with reading(*what):
        about = json.loads(str(stored["about"]))
        if about["format"] != FORMAT:
            raise KeyError("format")
        if about["version"] != VERSION:
            fault = f"of format version {about['version']}"
            raise BadInput("format", fault, f"this package reads {VERSION}")
        arrays = {name: stored[name] for name in _ARRAYS}
        return FaceClip(**arrays, **{name: about[name] for name in ("mode", "source", "settings")})


def _write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """What `numpy.savez` writes, byte for byte, with the crops read one after the other."""
    # Uncompressed: zlib saves a third of the size, but costs 6 ms for each 224 px frame.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                if name == "frames" and array.flags.c_contiguous:
                    header = np.lib.format.header_data_from_array_1_0(array)
                    np.lib.format.write_array_header_1_0(member, header)
                    member.writelines(map(memoryview, crops_of(array)))
                else:
                    np.lib.format.write_array(member, array)


def _write_csv(path: Path, clip: FaceClip) -> None:
    points = clip.landmarks.reshape(len(clip), -1).tolist()
    matrices = clip.transform.reshape(len(clip), -1).tolist()
    columns = (clip.t_s, clip.shot, clip.status, clip.score, clip.n_faces)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for index, values in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            writer.writerow([index, *values, *points[index], *matrices[index]])


# ---- windows of long clips --------------------------------------------------------------------


def windows(n: int, length: int, stride: int) -> list[tuple[int, int]]:
    """Cut n steps of a long clip into windows; the last is aligned right, so each is in one.

    Args:
        n: Number of steps: frames, or snippets.
        length: Steps of a window; a shorter clip is one shorter window.
        stride: Steps from one window to the next.

    Returns:
        Starts and stops, half-open.
    """
    last = max(0, n - length)
    return [(start, min(start + length, n)) for start in (*range(0, last, stride), last) if n]


def merge_windows(
    windows: Sequence[tuple[range, np.ndarray]], n: int, *, overwrite: bool = False
) -> np.ndarray:
    """Put the predictions of windows together, float64 (n, n_outputs); nan in no window.

    Args:
        windows: For each the numbers of its steps, and its predictions, (steps or more,
            n_outputs): what lies behind the steps is padding.
        n: Number of steps in all.
        overwrite: Where windows overlap, the later one counts, as some released code does; else
            their mean.
    """
    total, count = np.zeros((n, windows[0][1].shape[1])), np.zeros((n, 1))
    for span, prediction in windows:
        rows = slice(span.start, span.stop, span.step)
        if overwrite:
            total[rows] = count[rows] = 0
        total[rows] += prediction[: len(span)]
        count[rows] += 1
    return total / np.where(count, count, np.nan)
