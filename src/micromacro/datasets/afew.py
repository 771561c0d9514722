"""AFEW: film clips with sound, each of one of seven emotions, as in EmotiW 2016 to 2018.

    <root>/Train_AFEW/Angry/000046280.avi                                the folder is the class
    <root>/Train_AFEW/AlignedFaces_LBPTOP_Points/Faces/000046280/*.jpg   grey, 128 px, one a frame
    <root>/Train_AFEW/AlignedFaces_LBPTOP_Points/LBPTOP/000046280.mat    1 x 2832
    <root>/Val_AFEW/...                                        the same; its folder ends in _Val
    <root>/Test/.../NAME.avi                                   no classes
    <root>/Test/Test_2017_Faces_Distribute/NAME/*.jpg          and Test/LBPTOP/NAME.mat

Letters may be in any case, and archives may have been unpacked into a folder of their own name.
``Points`` and the XML files are not read. One number can stand in training and in validation for
two clips, so a clip's name here is split and number, "train_000046280". Who is in a clip is not in
these files; so every clip counts as a person of its own, and only the official split keeps films
apart.

The organisers found a face in 756 of 773 training clips and in 371 of 383 for validation; a clip
without one stays, with its sound. Papers differ in whether they score it. Faces are numbered by
frame; that a number left out is a frame without a face is our reading, as only public descriptions
were at hand.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from micromacro.audio import read_audio
from micromacro.datasets.frames import RESTORE, face_clip, numbered_pictures
from micromacro.datasets.table import RESTORE_FILE, Listing, find_root
from micromacro.errors import BadInput, check_choice
from micromacro.files import existing, files_below, make_writable, named, reading, replacing
from micromacro.images import IMAGE_SUFFIXES, load_image
from micromacro.video import probe

CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")  # names of folders
SPLITS = {"train": "Train_AFEW", "val": "Val_AFEW", "test": "Test"}  # and their folders
FILES = ("film", "faces", "lbp_top")
COLUMNS = ("id", *FILES)  # beyond those of every clip table
LBP_TOP = 2832  # 16 blocks x 3 planes x 59 uniform patterns
MOST_FRAMES = 3000  # from the first face to the last; the longest clip has 170
_SPLITS = {name.lower(): split for split, name in SPLITS.items()} | {"test_afew": "test"}
_CLASSES = {name.lower(): name for name in CLASSES}
_FACES = re.compile(r"faces|.*_faces_.*")  # but not AlignedFaces_LBPTOP_Points


def read_afew(root: str | Path, *, strict: bool = True) -> Listing:
    """Find the clips of each split, and the files of each; `load` and `load_lbp_top` open them.

    Args:
        root: Folder as above.
        strict: Raise the first fault; otherwise collect them all and leave out their clips.

    Returns:
        Clips by split and number. Their table has the columns `COLUMNS`: ``id``, the official
        number; ``film`` a file, ``faces`` a folder, ``lbp_top`` a file, nan for one that is not
        there. ``label`` is one of `CLASSES`, nan in the test split. Of training and validation only
        films tell the class, so a clip without its film is ``unlisted``; so is an archive that
        nobody has unpacked. A class without a clip is ``missing``.

    Raises:
        BadInput: No such folder, no split in it; if strict also two files of a kind for one clip.
    """
    names = sorted(f.name for f in Path(root).glob("*") if f.name.lower() in _SPLITS)
    root, _ = find_root(root, names or [*SPLITS.values()])
    rows, missing, unlisted, faults, listed = [], [], [], [], {}
    for split, folder in SPLITS.items():
        found, rest = _files([root / name for name in names if _SPLITS[name.lower()] == split])
        if split == "test":
            labels = dict.fromkeys(sorted({*found["film"], *found["faces"], *found["lbp_top"]}))
        else:
            films = {k: Path(paths[0]).relative_to(root) for k, paths in found["film"].items()}
            labels = {k: _label(film) for k, film in films.items() if k.isdecimal()}
        known = [number for number in sorted(labels) if labels[number] or split == "test"]
        for number in known:
            files = {kind: found[kind].pop(number, [np.nan]) for kind in FILES}
            if twice := next((paths for paths in files.values() if len(paths) > 1), None):
                fault = f"has the same number as {twice[0]}"
                faults.append(BadInput(twice[1], fault, "keep one of them"))
                continue
            files = {kind: paths[0] for kind, paths in files.items()}
            clip = f"{split}_{number}"
            place = {"dataset": "afew", "subject": clip, "clip": clip, "split": split}
            place["path"] = next(path for path in files.values() if isinstance(path, str))
            rows.append(place | {"label": labels[number], "id": number} | files)
        listed[split] = len(known)
        if split != "test":
            lacking = {*CLASSES} - {labels[number] for number in known}
            missing += [f"{folder}/{name}" for name in sorted(lacking)]
        rest += [path for kind in found.values() for paths in kind.values() for path in paths]
        unlisted += sorted(str(Path(path).relative_to(root)) for path in rest)
    lists = {"listed": listed, "missing": missing, "unlisted": unlisted, "faults": faults}
    return Listing.build(rows, **lists, strict=strict, columns=COLUMNS)


def load(
    clip: Mapping, *, faces: str = "official", cache: str | Path | None = None, sr_hz: int = 16000
) -> dict[str, np.ndarray | int | None]:
    """Load faces and sound of a clip.

    Args:
        clip: A row of the table that `read_afew` gave.
        faces: "official", aligned and grey, or "detected" in the film, in colour.
        cache: For "detected": folder where faces are kept (`frames.face_clip`).
        sr_hz: Sampling rate of the sound in Hz.

    Returns:
        ``faces`` uint8 (T, 1, H, W) official, (T, 3, 112, 112) detected; all 0 in a frame without a
        face; None if there is none in the whole clip. ``face_mask`` bool (T,), frames with a face;
        its length is 0 where no picture tells how many frames there are. ``sound`` float32
        (samples,), mono; None without a film, or in a film without sound. ``sr_hz``.

    Raises:
        BadInput: A file is gone or damaged, faces are of several sizes; "detected" without a film
            or a cache.
    """
    check_choice("faces", faces, ("official", "detected"))
    film, pictures, mask = clip["film"], None, np.zeros(0, bool)
    if faces == "official" and isinstance(clip["faces"], str):
        pictures, mask = _aligned(Path(clip["faces"]))
    elif faces == "detected":
        if not isinstance(film, str) or cache is None:
            raise BadInput(f"clip {clip['clip']}", "has no film, or no cache", "give both")
        seen = face_clip(pd.Series({**clip, "path": film}), cache)
        pictures, mask = seen.frames, seen.status != "none"
    heard = isinstance(film, str) and probe(film).has_audio
    return {
        "faces": pictures if mask.any() else None,
        "face_mask": mask,
        "sound": read_audio(film, sr_hz=sr_hz) if heard else None,
        "sr_hz": sr_hz,
    }


def load_lbp_top(clip: Mapping) -> np.ndarray:
    """Load the organisers' baseline features of a clip, float32 (2832,).

    Raises:
        BadInput: The file is gone, damaged, or holds anything but one array of so many finite
            numbers.
    """
    from scipy.io import loadmat  # late: few readers of clips need it

    file = existing(clip["lbp_top"])
    with reading(file, f"a MATLAB file of {LBP_TOP} numbers", RESTORE_FILE):
        arrays = [np.asarray(v) for k, v in loadmat(file).items() if not k.startswith("__")]
        (histogram,) = (array for array in arrays if array.size == LBP_TOP)
        numbers = histogram.astype(np.float32).ravel()
        if not np.isfinite(numbers).all():
            raise ValueError("not finite")
    return numbers


def write_submission(
    table: pd.DataFrame, predictions: Mapping[str, str], folder: str | Path
) -> None:
    """Write predictions of the test split in the official form: a text file an id, with its class.

    Args:
        table: Of `read_afew`.
        predictions: Name of a clip, as in the column ``clip``, to one of `CLASSES`.
        folder: Made if missing; a file in it appears whole or not at all.

    Raises:
        BadInput: Not one prediction for each clip of the test split, a class that is none, or a
            folder that cannot be written.
    """
    ids = table[table["split"] == "test"].set_index("clip")["id"]
    if wrong := sorted({*ids.index} ^ {*predictions.keys()}):
        fault = f"{len(wrong)} clips without a prediction or the reverse, such as {wrong[0]}"
        raise BadInput("predictions", fault, "give one for each clip of the test split")
    for clip in ids.index:
        check_choice(f"class of {clip}", predictions[clip], CLASSES)
    make_writable(folder := named(folder))
    for clip, number in ids.items():
        with replacing(folder / f"{number}.txt") as file:
            file.write_text(f"{predictions[clip]}\n", encoding="utf-8")


def _files(folders: list[Path]) -> tuple[dict[str, dict[str, list[str]]], list[str]]:
    """Kind of `FILES` -> number -> files of a split; archives without a folder of their name."""
    found, archives = {kind: defaultdict(list) for kind in FILES}, []
    for kind, number, path in sorted({entry for top in folders for entry in _entries(top)}):
        if kind == "archive":
            archives.append(path)
        else:
            found[kind][number].append(path)
    return found, [] if all(found.values()) else archives


def _entries(top: Path) -> Iterator[tuple[str, str, str]]:
    """Kind, number and path of all that is a clip's, at any depth; a folder of faces often."""
    for file in files_below(top):
        suffix = file.suffix.lower()
        above = [part.lower() for part in file.parent.relative_to(top).parts]
        if suffix == ".avi":
            yield "film", file.stem, str(file)
        elif suffix == ".mat" and "lbptop" in above:
            yield "lbp_top", file.stem, str(file)
        elif suffix in IMAGE_SUFFIXES and any(map(_FACES.fullmatch, above[:-1])):
            yield "faces", file.parent.name, str(file.parent)
        elif suffix in (".zip", ".rar") and not file.with_suffix("").is_dir():
            yield "archive", "", str(file)


def _label(film: Path) -> str | None:
    """The class of a film by the nearest folder that names one."""
    named = (_CLASSES.get(part.lower()) for part in reversed(film.parts[:-1]))
    return next(filter(None, named), None)


def _aligned(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Official faces uint8 (T, 1, H, W) from the first to the last, and bool (T,) where one is."""
    files = numbered_pictures(folder)
    first, T = min(files), max(files) - min(files) + 1
    if T > MOST_FRAMES:
        fault = f"makes a clip of {T:,} frames, and {MOST_FRAMES:,} is the most"
        raise BadInput(files[max(files)], fault, RESTORE)
    images = {number - first: load_image(file, "luma") for number, file in files.items()}
    if len(shapes := {image.shape for image in images.values()}) > 1:
        raise BadInput(folder, f"has pictures of {len(shapes)} sizes", RESTORE)
    frames = np.zeros((T, 1, *shapes.pop()), np.uint8)
    for frame, image in images.items():
        frames[frame, 0] = image
    return frames, frames.any(axis=(1, 2, 3))
