"""Official clips as AKMNet takes them, made once: grey, magnified, resized.

`prepare` makes ``<cache>/paper/<dataset>/<subject>__<clip>-<hash>/`` for each clip:

    144.npy    uint8 (T, 1, 144, 144), what training crops are cut from
    128.npy    uint8 (T, 1, 128, 128), the plain resize that the released test takes

The paper magnifies the pictures, and the program resizes what it finds. So it is done here: motions
are magnified at the pictures' own size and both files are made of the result. Only pictures with a
side above 288 px are reduced to that before: of the four data sets' cropped faces, SAMM's, by a
quarter. Magnified at 144 px instead, CASME II would take 10 minutes on one core and not 40, but the
128 px would be a resize of a resize, and the noise that is magnified another one.

Of the magnification the paper says phase-based and alpha 15, no more. Here the reference is the first
frame, all frequencies count (no band), and `magnify` has its defaults otherwise.

A frame takes 37 kB, CASME II's 17,000 together 0.6 GB. Memory is bounded by one clip: 3 GB for the
longest while it is magnified. What is there is not made again; a clip that has changed is.
"""

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm import tqdm

from micromacro.errors import BadInput
from micromacro.files import replacing
from micromacro.motion.magnify import magnify
from micromacro.systems.akmnet import data
from micromacro.systems.akmnet.data.disk import clip_files

WORKING_PX = 288  # longest side of the pictures that are magnified
LARGE_PX = 144
SMALL_PX = 128
READERS = {
    "casme": data.read_casme,
    "casme2": data.read_casme2,
    "smic": data.read_smic,
    "samm": data.read_samm,
}
COMPOSITE = {"megc2019": ("casme2", "smic", "samm")}
DATASETS = (*READERS, *COMPOSITE)


@dataclass(frozen=True)
class StoredClip:
    """One official clip; its pixels stay on disk.

    Attributes:
        dataset: It comes from; of the composite, one of the three.
        subject: As the reader has it.
        clip: Its name.
        person: Whom a fold leaves out: the subject, or "casme2/01" in the composite.
        label: Class number.
        T: Frames from onset to offset.
        apex: Counted from the onset, 0 to T - 1; -1 if there is none.
        folder: Of its files.
    """

    dataset: str
    subject: str
    clip: str
    person: str
    label: int
    T: int
    apex: int
    folder: Path

    def frames(self, px: int) -> np.ndarray:
        """Its frames at one of the two sizes, uint8 (T, 1, px, px)."""
        file = self.folder / f"{px}.npy"
        try:
            return np.load(file)
        except (OSError, ValueError) as error:
            fault = f"cannot be read ({type(error).__name__})"
            raise BadInput(file, fault, "remove its folder and prepare again") from error


@dataclass(frozen=True, eq=False)
class Official:
    """What is there of a data set.

    Attributes:
        table: Clip table with class numbers and a column ``person``; see `StoredClip`.
        classes: Names of the classes that the data set has.
        missing: Listed clips whose folder is not there.
        faults: Clips that contradict their sheet, left out; one line each.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    missing: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def people(self) -> list[str]:
        """All persons, sorted."""
        return sorted(set(self.table["person"]))


def official(
    dataset: str, root: str | None, *, pictures: str | None = "cropped", strict: bool = True
) -> Official:
    """Read a data set's sheet and folders; no pictures yet.

    Args:
        dataset: One of `DATASETS`.
        root: Its folder; of "megc2019" one that holds the folders casme2, smic and samm.
        pictures: "cropped"; "raw", whose faces nobody has cut out; None for the first there is.
        strict: Raise the first fault or missing clip; else leave such clips out.

    Raises:
        BadInput: Unknown data set; no root; as the readers; fewer than two people.
    """
    known("dataset", dataset, DATASETS)
    if root is None:
        raise BadInput("root", "is missing", f"give the folder of {dataset}; see data/README.md")
    how = {"pictures": pictures, "strict": strict}
    if dataset in COMPOSITE:
        parts = [READERS[name](Path(root) / name, **how) for name in COMPOSITE[dataset]]
        table, label_map = data.megc2019(*(part.table for part in parts)), "megc3"
        table["person"] = data.people(table)
    else:
        parts, label_map = [READERS[dataset](root, **how)], "akm4"
        table = data.relabel(parts[0].table, label_map)
        table["person"] = table["subject"]
    if table["person"].nunique() < 2:
        fault = f"has clips of {table['person'].nunique()} subjects"
        raise BadInput(root, fault, "get more of the data: one is left out, the others train")
    found = {name for part in parts for name in part.table["dataset"]}
    due = {c for name in found for c in data.LABEL_MAPS[label_map][name].values()}
    classes = tuple(name for name in data.CLASSES[label_map] if name in due)
    missing = tuple(name for part in parts for name in part.missing)
    return Official(table, classes, missing, tuple(str(f) for part in parts for f in part.faults))


def stored_clips(found: Official, *, cache: str, magnification: float) -> list[StoredClip]:
    """The clips of a table, from the cache or made now; a bar on stderr if that is a terminal.

    Raises:
        BadInput: A magnification that is none; pictures that cannot be read, or files written.
    """
    if not (math.isfinite(magnification) and magnification >= 0):
        remedy = "give 15 as the paper, or 0 for none"
        raise BadInput(f"magnification={magnification}", "is out of range", remedy)
    rows = [row for _, row in found.table.iterrows()]
    bar = tqdm(rows, desc="clips", unit="clip", disable=None)
    return [_stored(row, Path(cache), magnification) for row in bar]


def known(what: str, value: object, among: Sequence[str]) -> None:
    """Refuse a name that is not among those.

    Raises:
        BadInput: That.
    """
    if value not in among:
        raise BadInput(f"{what} {value!r}", "is unknown", f"use one of {', '.join(among)}")


def _stored(row: pd.Series, cache: Path, magnification: float) -> StoredClip:
    stamps = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in clip_files(row)]
    what = [row["path"], magnification, WORKING_PX, LARGE_PX, SMALL_PX, stamps]
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    plain = re.sub(r"[^\w-]", "_", f"{row['subject']}__{row['clip']}")
    folder = cache / "paper" / row["dataset"] / f"{plain}-{key}"
    files = {px: folder / f"{px}.npy" for px in (LARGE_PX, SMALL_PX)}
    if not all(file.exists() for file in files.values()):
        frames = _magnified(_reduced(data.load_frames(row)), magnification)
        _make(folder)
        for px, file in files.items():
            with replacing(file) as part, part.open("wb") as opened:
                np.save(opened, _resized(frames, px, px))
    names = (row["dataset"], row["subject"], row["clip"], row["person"])
    apex = -1 if pd.isna(row["apex"]) else int(row["apex"] - row["onset"])
    return StoredClip(*names, int(row["label"]), len(stamps), apex, folder)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fault = f"cannot be made a folder ({error.strerror})"
        raise BadInput(folder, fault, "give another cache") from error


def _reduced(frames: np.ndarray) -> np.ndarray:
    """Frames uint8 (T, 1, H, W) with no side above `WORKING_PX`, their shape kept."""
    H, W = frames.shape[-2:]
    scale = min(1, WORKING_PX / max(H, W))
    return frames if scale == 1 else _resized(frames, round(scale * H), round(scale * W))


def _magnified(frames: np.ndarray, alpha: float) -> np.ndarray:
    """As written to a picture: rounded, and clipped to 0-255."""
    if alpha == 0:
        return frames
    moved = magnify(torch.from_numpy(frames).float(), alpha)
    return moved.round_().clamp_(0, 255).byte().numpy()


def _resized(frames: np.ndarray, H: int, W: int) -> np.ndarray:
    pictures = (
        Image.fromarray(frame).resize((W, H), Image.Resampling.BILINEAR) for frame in frames[:, 0]
    )
    return np.stack([np.asarray(picture) for picture in pictures])[:, None]
