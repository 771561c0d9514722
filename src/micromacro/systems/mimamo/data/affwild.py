"""Aff-Wild and Aff-Wild2: one label a frame; line k is frame k, from 1 on.

Aff-Wild (Zafeiriou et al. 2017; layout as released with its labels):

    <root>/annotations/train/{valence,arousal}/VIDEO.txt        one number a line, no header
    <root>/videos/{train,test}/VIDEO.mp4                        or .avi, at any depth below videos

Aff-Wild2 (Kollias and Zafeiriou 2019; the challenges' layout), SET = VA_Estimation_Challenge or
VA_Set, TRAIN = Train_Set or Training_Set:

    <root>/annotations/SET/{TRAIN,Validation_Set}/VIDEO.txt     "valence,arousal", then a pair a line
    <root>/videos/VIDEO.mp4                                     or .avi, at any depth below videos

Aligned faces, used in place of a film: ``faces/VIDEO/VIDEO_aligned/frame_det_00_000001.bmp`` (as the
released code wants them) or ``cropped_aligned/VIDEO/00001.jpg`` (as handed out with Aff-Wild2).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from micromacro.errors import BadInput
from micromacro.systems.mimamo.data.faces import LabelledClips
from micromacro.systems.mimamo.data.sheets import (
    RESTORE,
    filled,
    films_below,
    label,
    read_lines,
    root_folder,
)

HEADER = "valence,arousal"
INVALID = -5  # Aff-Wild2: this frame has no label
SETS = {"train": ("Train_Set", "Training_Set"), "validation": ("Validation_Set",)}
SIDES = {"_left": "index:0", "_right": "index:1"}  # Aff-Wild2: two people in one film


def read_affwild(root: str | Path, *, strict: bool = True) -> LabelledClips:
    """Read Aff-Wild: splits "train", and "test", whose videos have no labels.

    A test video is a film below videos/test, or a folder of aligned faces without a label file.

    Args:
        root: Folder as above.
        strict: Raise the first fault; otherwise collect them all.

    Returns:
        Clips with labels (n, 2), valence and arousal; (0, 2) for the test set.

    Raises:
        BadInput: No such folder, no annotations in it; if strict also a label file that lacks its
            counterpart, has another length, is empty or holds anything but numbers in [-1, 1].
    """
    root = root_folder(root, ["annotations/train"])
    faults: list[BadInput] = []
    labels = {}
    folders = [root / "annotations" / "train" / name for name in ("valence", "arousal")]
    for name in _names(folders):
        try:
            labels[name] = _one_column([folder / f"{name}.txt" for folder in folders])
        except BadInput as error:
            faults.append(error)
            labels[name] = None
    tests = {film.stem for film in films_below(root / "videos" / "test")}
    tests |= {folder.name for folder in root.glob("faces/*/") if _aligned(root, folder.name)}
    tests |= {folder.name for folder in root.glob("cropped_aligned/*/") if filled(folder)}
    everything = [("train", name, values) for name, values in labels.items()]
    everything += [
        ("test", name, np.empty((0, 2), np.float32)) for name in sorted(tests - set(labels))
    ]
    return _find(root, "affwild", everything, faults, strict)


def read_affwild2(root: str | Path, *, strict: bool = True) -> LabelledClips:
    """Read Aff-Wild2's valence and arousal: splits "train" and "validation".

    -5 in either column marks a frame without a label. Labels of VIDEO_left and VIDEO_right belong to
    the first and second face from the left in VIDEO.

    Args:
        root: Folder as above.
        strict: Raise the first fault; otherwise collect them all.

    Returns:
        Clips with labels (n, 2), valence and arousal, nan where the file says -5.

    Raises:
        BadInput: No such folder, no annotations in it; if strict also a label file that is empty,
            lacks its header, or holds anything but pairs of -5 or numbers in [-1, 1].
    """
    folders = [f"annotations/{name}" for name in ("VA_Estimation_Challenge", "VA_Set")]
    root = root_folder(root, folders)
    faults: list[BadInput] = []
    everything = []
    for split, names in SETS.items():
        places = [root / folder / name for folder in folders for name in names]
        for name in _names(places):
            path = next(p for place in places if (p := place / f"{name}.txt").exists())
            try:
                values = _two_columns(path)
            except BadInput as error:
                faults.append(error)
                values = None
            everything.append((split, name, values))
    return _find(root, "affwild2", everything, faults, strict)


def _names(folders: Iterable[Path]) -> list[str]:
    """Names of the label files of some folders, sorted, each once."""
    return sorted({f.stem for folder in folders for f in folder.glob("*.txt") if f.name[0] != "."})


def _one_column(paths: Sequence[Path]) -> np.ndarray:
    """Valence and arousal from their two files, float32 (n, 2)."""
    columns = []
    for path in paths:
        name = path.parent.name
        lines = read_lines(path)
        values = [label(line, name, f"{path}, line {k}") for k, line in enumerate(lines, 1)]
        columns.append(values)
    if len(columns[0]) != len(columns[1]):
        fault = f"{len(columns[1])} lines, but {paths[0]} has {len(columns[0])}"
        raise BadInput(paths[1], fault, RESTORE)
    return np.array(columns, np.float32).T


def _two_columns(path: Path) -> np.ndarray:
    """Pairs of valence and arousal, float32 (n, 2), nan where there is no label."""
    lines = read_lines(path)
    if lines[0].replace(" ", "").lower() != HEADER:
        fault = f"starts with {lines[0][:30]!r}"
        raise BadInput(f"{path}, line 1", fault, f"Aff-Wild2's files start with {HEADER}")
    if len(lines) == 1:
        raise BadInput(path, "holds no label", RESTORE)
    return np.array([_pair(line, f"{path}, line {k}") for k, line in enumerate(lines[1:], 2)])


def _pair(line: str, where: str) -> np.ndarray:
    fields = line.split(",")
    if len(fields) != 2:
        raise BadInput(where, f"{len(fields)} fields in place of 2", RESTORE)
    values = [
        label(field, name, where, unlabelled=INVALID)
        for name, field in zip(HEADER.split(","), fields, strict=True)
    ]
    return np.array(values if np.isfinite(values).all() else [np.nan, np.nan], np.float32)


def _find(
    root: Path,
    dataset: str,
    everything: Sequence[tuple[str, str, np.ndarray | None]],
    faults: list[BadInput],
    strict: bool,
) -> LabelledClips:
    """Look for a film or aligned faces of each (split, name, labels; None if they are faulty)."""
    films: dict[str, Path] = {}
    for film in films_below(root / "videos"):
        if film.stem in films:
            fault = f"has the same name as {films[film.stem]}"
            faults.append(BadInput(film, fault, "keep one of them"))
        films.setdefault(film.stem, film)
    rows, labels, missing, used = [], [], [], set()
    listed = {split: 0 for split, _, _ in everything}
    for split, name, values in everything:
        listed[split] += 1
        video, select = _whom(name, films)
        used.add(video)
        path = _aligned(root, name) or films.get(video)
        if path is None:
            missing.append(f"{split}/{name}")
        elif values is not None:
            place = {"dataset": dataset, "subject": video, "clip": name, "path": str(path)}
            rows.append(place | {"split": split, "select": select})
            labels.append(values)
    unlisted = [str(path.relative_to(root)) for name, path in films.items() if name not in used]
    return LabelledClips.build(rows, labels, listed, missing, unlisted, faults, strict=strict)


def _whom(name: str, films: dict[str, Path]) -> tuple[str, str]:
    """The film that a label file belongs to, and the face in it."""
    for ending, select in SIDES.items():
        video = name.removesuffix(ending)
        if video != name and name not in films:
            return video, select
    return name, "auto"


def _aligned(root: Path, name: str) -> Path | None:
    folders = (root / "faces" / name / f"{name}_aligned", root / "cropped_aligned" / name)
    return next((folder for folder in folders if filled(folder)), None)
