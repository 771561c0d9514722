"""OMG-Emotion, Aff-Wild and Aff-Wild2: valence and arousal of films, from the official files.

OMG-Emotion, one label an utterance (Barros et al. 2018; the organisers' repository):

    <root>/omg_TrainVideos.csv  omg_ValidationVideos.csv  omg_TestVideos_WithLabels.csv
    <root>/{Train,Validation,Test}/<video>/utterance_N.mp4      or <root>/<video>/utterance_N.mp4

The organisers' script writes ``<target>/<video>/utterance_N.mp4``; the target may be the root or
one of its three folders, in any case of letters.

Aff-Wild, one label a frame, line k for frame k (Zafeiriou et al. 2017; as released with its
labels):

    <root>/annotations/train/{valence,arousal}/VIDEO.txt        one number a line, no header
    <root>/videos/{train,test}/VIDEO.mp4                        or .avi, at any depth below videos

Aff-Wild2 (Kollias and Zafeiriou 2019; the challenges' layout), SET = VA_Estimation_Challenge or
VA_Set, TRAIN = Train_Set or Training_Set:

    <root>/annotations/SET/{TRAIN,Validation_Set}/VIDEO.txt     "valence,arousal", a pair a line
    <root>/videos/VIDEO.mp4                                     or .avi, at any depth below videos

Aligned faces are used in place of a film: ``<video>/utterance_N/utterance_N_aligned/``,
``faces/VIDEO/VIDEO_aligned/`` with ``frame_det_00_000001.bmp`` (as the released code of MIMAMO
wants them) or ``cropped_aligned/VIDEO/00001.jpg`` (as handed out with Aff-Wild2).

A reader gives a `Listing`: ``path`` of its table is the film or the folder of faces, ``subject``
the video (who is in it is not published), ``film`` what the video was cut from, ``select`` whom to
follow (`faces.extract_faces`). Videos of one film show the same people, so folds keep films whole.
Videos of OMG-Emotion are parts of what is at their links: its 291 for training and validation are
of 148 films. Aff-Wild2 has parts such as video86_1 and 122-60-1920x1080-3. Whether one person is in
several films is not published. Labels are float32, valence and arousal: (2,) of a clip, or (n, 2),
row t those of frame t; nan where there is none. `frames.film_on_disk` gives faces and labels of one
clip.
"""

import csv
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from micromacro.datasets.table import RESTORE_FILE, Listing, check_name, find_root, read_lines
from micromacro.errors import BadInput
from micromacro.files import files_below, make_writable, replacing

FILM_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm"})
LABELS = ("valence", "arousal")

OMG_SHEETS = {
    "Train": ("omg_TrainVideos.csv",),
    "Validation": ("omg_ValidationVideos.csv",),
    "Test": ("omg_TestVideos_WithLabels.csv", "omg_TestVideos_WithoutLabels.csv"),
}
MOST_LINE = 1000  # characters of a line; official ones have 150
OMG_COLUMNS = ("link", "start", "end", "video", "utterance")
OMG_LABELS = ("arousal", "valence", "EmotionMaxVote")
UTTERANCE = re.compile(r"utterance_[0-9]{1,9}\.mp4")
YOUTUBE = re.compile(r"(?:v=|youtu\.be/|embed/|shorts/)([\w-]{11})(?![\w-])")
VOTES = tuple("0123456")  # anger, disgust, fear, happy, neutral, sad, surprise

AFFWILD2_HEADER = ",".join(LABELS)
AFFWILD2_FOLDERS = ("annotations/VA_Estimation_Challenge", "annotations/VA_Set")
AFFWILD2_SPLITS = {"train": ("Train_Set", "Training_Set"), "validation": ("Validation_Set",)}
UNLABELLED = -5  # Aff-Wild2: this frame has no label
PART = re.compile(r"(video[0-9]+|.+x[0-9]+)[-_][0-9]+")  # Aff-Wild2: one of several from a film
SIDES = {"_left": "index:0", "_right": "index:1"}  # Aff-Wild2: two people in one film


# ---- OMG-Emotion ---------------------------------------------------------------------------------


def read_omg(
    root: str | Path, splits: Sequence[str] = tuple(OMG_SHEETS), *, strict: bool = True
) -> Listing:
    """Read sheets and find what they list; rows stay in the sheets' order.

    Utterance numbers may skip. Links die, so nobody has all films: what is not there is listed in
    ``missing`` and left out of the table. Of the test sheets the one with labels is read if it is
    there; without it the labels are nan. ``label`` in the table is EmotionMaxVote (0 anger, 1
    disgust, 2 fear, 3 happy, 4 neutral, 5 sad, 6 surprise).

    Args:
        root: Folder as above.
        splits: Any of "Train", "Validation", "Test".
        strict: Raise the first fault; otherwise collect them all.

    Returns:
        Clips with labels (2,), valence and arousal.

    Raises:
        BadInput: No such folder, no sheet in it, an unknown split; if strict also a missing sheet,
            a wrong header, a wrong or repeated row.
    """
    root, _ = find_root(root, [name for names in OMG_SHEETS.values() for name in names])
    for split in splits:
        if split not in OMG_SHEETS:
            raise BadInput(f"split {split!r}", "is unknown", f"use {', '.join(OMG_SHEETS)}")
    rows, labels, missing, faults = [], [], [], []
    listed, seen = dict.fromkeys(splits, 0), {}
    expected, films = set(), set()
    for split in splits:
        bases = [f for f in sorted(root.iterdir()) if f.name.lower() == split.lower()] + [root]
        films.update(film for base in bases for film in base.glob("*/utterance_*.mp4"))
        for entry in _omg_entries(root, split, seen, faults):
            listed[split] += 1
            video, utterance = entry["video"], entry["utterance"]
            stem, folders = Path(utterance).stem, [base / video for base in bases]
            expected.update(folder / utterance for folder in folders)
            aligned = [folder / stem / f"{stem}_aligned" for folder in folders]
            present = [path for path in aligned if _filled(path)]
            present += [film for folder in folders if (film := folder / utterance).is_file()]
            if not present:
                missing.append(f"{split}/{video}/{utterance}")
                continue
            place = {"dataset": "omg", "subject": video, "clip": stem, "path": str(present[0])}
            about = {"label": entry["EmotionMaxVote"], "split": split, "select": "auto"}
            rows.append(place | about | {"film": entry["film"]})
            labels.append(np.array([entry[name] for name in LABELS], np.float32))
    unlisted = [str(film.relative_to(root)) for film in sorted(films - expected)]
    if len(set(splits)) < len(OMG_SHEETS):
        unlisted = []  # they may stand in a sheet that was not asked for
    return _listing(rows, labels, listed, missing, unlisted, faults, strict)


def _omg_entries(root: Path, split: str, seen: dict, faults: list[BadInput]) -> Iterator[dict]:
    """The good rows of a split's sheet; what is wrong goes to `faults`.

    `seen` has for each utterance of all splits so far where it stands, and for each video its film.
    """
    sheets = [root / name for name in OMG_SHEETS[split] if (root / name).exists()]
    if not sheets:
        remedy = "get it from the organisers' repository, or leave the split out"
        faults.append(BadInput(root / OMG_SHEETS[split][0], "is not there", remedy))
        return
    own = set()
    for number, fields in _omg_records(sheets[0], faults):
        where = f"{sheets[0]}, line {number}"
        try:
            entry = _omg_entry(fields, where)
            key, film = (entry["video"], entry["utterance"]), entry["film"]
            if key in seen:
                fault = f"{'/'.join(key)} stands in {seen[key]} already"
                raise BadInput(where, fault, "keep one of the two")
            if seen.setdefault(entry["video"], film) != film:
                raise BadInput(where, f"video {key[0]} had another link before", RESTORE_FILE)
        except BadInput as error:
            faults.append(error)
            continue
        own.add(key)
        seen[key] = f"{sheets[0].name}, line {number}"
        yield entry
    if len(sheets) == 2:
        others = {(f["video"], f["utterance"]) for _, f in _omg_records(sheets[1], faults)}
        if others != own:
            fault = f"{len(others ^ own)} utterances are not in both this and {sheets[0].name}"
            faults.append(BadInput(sheets[1], fault, RESTORE_FILE))


def _omg_records(path: Path, faults: list[BadInput]) -> Iterator[tuple[int, dict]]:
    """Line number and fields of each row with as many fields as the header."""
    try:
        lines = read_lines(path)
        header = lines[0].split(",")
        wanted = OMG_COLUMNS + (() if path.name == OMG_SHEETS["Test"][1] else OMG_LABELS)
        lacking = [name for name in wanted if name not in header]
        if lacking:
            fault = f"the header lacks {', '.join(lacking)}"
            raise BadInput(f"{path}, line 1", fault, f"it should be {','.join(wanted)}")
    except BadInput as error:
        faults.append(error)
        return
    # Each line by itself: a stray quotation mark would swallow all that follow.
    for number, line in enumerate(lines[1:], 2):
        fields = next(csv.reader([line[:MOST_LINE]]), [])
        if len(fields) == len(header):
            yield number, dict(zip(header, fields, strict=True))
        else:
            fault = f"{len(fields)} fields under a header of {len(header)}"
            faults.append(BadInput(f"{path}, line {number}", fault, RESTORE_FILE))


def _omg_entry(fields: dict[str, str], where: str) -> dict:
    """One row with its labels as numbers, nan and None where the sheet has none."""
    video, utterance = fields["video"], fields["utterance"]
    check_name(where, "video", video, RESTORE_FILE)
    if not UTTERANCE.fullmatch(utterance):
        raise BadInput(where, f"utterance {utterance!r} is not like utterance_7.mp4", RESTORE_FILE)
    link = fields["link"].strip()
    if not link:
        raise BadInput(where, "has no link, which says whose film it is", RESTORE_FILE)
    match = YOUTUBE.search(link)  # one film, however its link is written
    entry = {"video": video, "utterance": utterance, "film": match[1] if match else link}
    if "valence" not in fields:
        return entry | {"valence": np.nan, "arousal": np.nan, "EmotionMaxVote": None}
    vote = fields["EmotionMaxVote"].strip()
    if vote not in VOTES:
        raise BadInput(where, f"EmotionMaxVote {vote!r} is not one of 0 to 6", RESTORE_FILE)
    values = {name: _label(fields[name], name, where) for name in LABELS}
    return entry | values | {"EmotionMaxVote": int(vote)}


# ---- Aff-Wild, Aff-Wild2 -------------------------------------------------------------------------


def read_affwild(root: str | Path, *, strict: bool = True) -> Listing:
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
    root, annotations = find_root(root, ["annotations/train"])
    faults: list[BadInput] = []
    columns = [annotations / name for name in LABELS]
    trained = []
    for name in _stems(columns):
        files = [folder / f"{name}.txt" for folder in columns]
        trained.append(("train", name, _labels(_one_column, files, faults)))
    tests = {film.stem for film in _films_below(root / "videos" / "test")}
    tests |= {folder.name for folder in root.glob("faces/*/") if _aligned(root, folder.name)}
    tests |= {folder.name for folder in root.glob("cropped_aligned/*/") if _filled(folder)}
    tests -= {name for _, name, _ in trained}
    nothing = np.empty((0, 2), np.float32)
    everything = trained + [("test", name, nothing) for name in sorted(tests)]
    return _with_films(root, "affwild", everything, faults, strict)


def read_affwild2(root: str | Path, *, strict: bool = True) -> Listing:
    """Read Aff-Wild2's valence and arousal: splits "train" and "validation".

    -5 in either column marks a frame without a label. Labels of VIDEO_left and VIDEO_right belong
    to the first and second face from the left in VIDEO.

    Args:
        root: Folder as above.
        strict: Raise the first fault; otherwise collect them all.

    Returns:
        Clips with labels (n, 2), valence and arousal, nan where the file says -5.

    Raises:
        BadInput: No such folder, no annotations in it; if strict also a label file that is empty,
            lacks its header, or holds anything but pairs of -5 or numbers in [-1, 1].
    """
    root, _ = find_root(root, AFFWILD2_FOLDERS)
    faults: list[BadInput] = []
    everything, seen = [], {}
    for split, names in AFFWILD2_SPLITS.items():
        for place in (root / folder / name for folder in AFFWILD2_FOLDERS for name in names):
            for name in _stems([place]):
                path = place / f"{name}.txt"
                if seen.setdefault(name, path) == path:
                    everything.append((split, name, _labels(_two_columns, path, faults)))
                else:
                    fault = f"has labels of what {seen[name]} has labels of, too"
                    faults.append(BadInput(path, fault, "keep those of one official split"))
    return _with_films(root, "affwild2", everything, faults, strict)


def _stems(folders: Iterable[Path]) -> list[str]:
    """Names of the label files of some folders, sorted, each once."""
    return sorted({f.stem for folder in folders for f in folder.glob("*.txt") if f.name[0] != "."})


def _labels(read: Callable, source: object, faults: list[BadInput]) -> np.ndarray | None:
    """What `read` gives; None, and one more fault, where it refuses."""
    try:
        return read(source)
    except BadInput as error:
        faults.append(error)
        return None


def _one_column(paths: Sequence[Path]) -> np.ndarray:
    """Valence and arousal from their two files, float32 (n, 2)."""
    columns = []
    for path, name in zip(paths, LABELS, strict=True):
        lines = enumerate(read_lines(path), 1)
        columns.append([_label(line, name, f"{path}, line {k}") for k, line in lines])
    if len(columns[0]) != len(columns[1]):
        fault = f"{len(columns[1])} lines, but {paths[0]} has {len(columns[0])}"
        raise BadInput(paths[1], fault, RESTORE_FILE)
    return np.array(columns, np.float32).T


def _two_columns(path: Path) -> np.ndarray:
    """Pairs of valence and arousal, float32 (n, 2), nan where there is no label."""
    header, *lines = read_lines(path)
    if header.replace(" ", "").lower() != AFFWILD2_HEADER:
        fault = f"starts with {header[:30]!r}"
        raise BadInput(f"{path}, line 1", fault, f"Aff-Wild2's files start with {AFFWILD2_HEADER}")
    if not lines:
        raise BadInput(path, "holds no label", RESTORE_FILE)
    labels = np.full((len(lines), 2), np.nan, np.float32)
    for row, line in enumerate(lines):
        where, fields = f"{path}, line {row + 2}", line.split(",")
        if len(fields) != 2:
            raise BadInput(where, f"{len(fields)} fields in place of 2", RESTORE_FILE)
        named = zip(LABELS, fields, strict=True)
        pair = [_label(field, name, where, unlabelled=UNLABELLED) for name, field in named]
        if np.isfinite(pair).all():  # half a label is none
            labels[row] = pair
    return labels


def _with_films(
    root: Path,
    dataset: str,
    everything: Sequence[tuple[str, str, np.ndarray | None]],
    faults: list[BadInput],
    strict: bool,
) -> Listing:
    """Look for a film or aligned faces of each (split, name, labels; None if they are faulty)."""
    films: dict[str, Path] = {}
    for film in _films_below(root / "videos"):
        if film.stem in films:
            fault = f"has the same name as {films[film.stem]}"
            faults.append(BadInput(film, fault, "keep one of them"))
        films.setdefault(film.stem, film)
    rows, labels, missing, used = [], [], [], set()
    listed = {split: 0 for split, _, _ in everything}
    for split, name, values in everything:
        listed[split] += 1
        video, select = _video_and_face(name, films)
        used.add(video)
        path = _aligned(root, name) or films.get(video)
        if path is None:
            missing.append(f"{split}/{name}")
        elif values is not None:
            place = {"dataset": dataset, "subject": video, "clip": name, "path": str(path)}
            film = match[1] if (match := PART.fullmatch(video)) else video
            rows.append(place | {"split": split, "select": select, "film": film})
            labels.append(values)
    unlisted = [str(path.relative_to(root)) for name, path in films.items() if name not in used]
    return _listing(rows, labels, listed, missing, unlisted, faults, strict)


def _video_and_face(name: str, films: dict[str, Path]) -> tuple[str, str]:
    """The film that a label file belongs to, and the face in it."""
    for ending, select in SIDES.items():
        video = name.removesuffix(ending)
        if video != name and name not in films:
            return video, select
    return name, "auto"


def _aligned(root: Path, name: str) -> Path | None:
    folders = (root / "faces" / name / f"{name}_aligned", root / "cropped_aligned" / name)
    return next((folder for folder in folders if _filled(folder)), None)


# ---- predictions as the organisers score them ----------------------------------------------------


def rescale(prediction: np.ndarray, train_sd: float | np.ndarray) -> np.ndarray:
    """Give predictions the spread of the training labels: y' = m + (y - m) s_train / s.

    m and s are mean and population standard deviation of each column over the *whole* set, so the
    result for one frame depends on all others (transductive). Constant predictions stay.

    Args:
        prediction: float (N,) or (N, n_outputs).
        train_sd: Standard deviation of the training labels, one or (n_outputs,).

    Returns:
        float64, the shape of `prediction`.

    Raises:
        BadInput: A value that is not finite, or a spread that is not positive.
    """
    y, train_sd = np.asarray(prediction, np.float64), np.asarray(train_sd, np.float64)
    if not (len(y) and np.isfinite(y).all()):
        raise BadInput("prediction", "empty or not finite", "leave such frames out, or hold_last")
    if not (np.isfinite(train_sd).all() and (train_sd > 0).all()):
        raise BadInput(f"train_sd {train_sd}", "is not positive", "use np.nanstd of the labels")
    mean, varies = y.mean(axis=0), np.ptp(y, axis=0) > 0  # of equal numbers std is not exactly 0
    return mean + (y - mean) * np.where(varies, train_sd / np.where(varies, y.std(axis=0), 1), 1)


def filled(values: np.ndarray, lengths: np.ndarray, dataset: str) -> np.ndarray:
    """A number for every row, as the organisers want it: nobody may leave frames out.

    Args:
        values: float (rows, labels) of all clips, one after the other; nan for none.
        lengths: int (clips,), rows of each.
        dataset: "omg" fills with the mean of the others; else frames hold the last value before
            them, 0 before the first, as the released code does.
    """
    ok = np.isfinite(values).all(1)
    if dataset == "omg":
        return np.where(ok[:, None], values, values[ok].mean(0) if ok.any() else 0.0)
    parts = np.split(np.arange(len(values)), np.cumsum(lengths)[:-1])
    return np.concatenate([*(hold_last(values[rows], ok[rows]) for rows in parts), values[:0]])


def hold_last(prediction: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Replace predictions that are not valid by the last valid one, 0 before the first.

    What the released code hands in for frames without a face.

    Args:
        prediction: float (T, n_outputs).
        valid: bool (T,), where there is a prediction.

    Returns:
        float (T, n_outputs).
    """
    last = np.maximum.accumulate(np.where(valid, np.arange(len(valid)), -1))
    return np.where((last >= 0)[:, None], prediction[last], 0)


def write_predictions(
    dataset: str, root: str | Path, values: Mapping[tuple[str, str], np.ndarray], folder: Path
) -> None:
    """Write predictions of a test set in the official form; each file appears whole or not at all.

    For Aff-Wild VIDEO.txt, a line ``valence,arousal`` a frame; for Aff-Wild2 the same after a line
    with these words; for OMG-Emotion ``predictions.csv`` with columns video, utterance, arousal,
    valence and the rows of the test sheet, of which those without a prediction get the mean.

    Args:
        dataset: "omg", "affwild" or "affwild2".
        root: Folder of the official data.
        values: (subject, clip) -> valence and arousal, float (frames, 2), or (1, 2) of a clip.
        folder: Made if missing.

    Raises:
        BadInput: The folder cannot be written.
    """
    make_writable(folder)
    head = [AFFWILD2_HEADER] if dataset == "affwild2" else []
    texts = {
        f"{clip}.txt": [*head, *(f"{valence:.6f},{arousal:.6f}" for valence, arousal in rows)]
        for (_, clip), rows in values.items()
    }
    if dataset == "omg":
        sheet = next(p for name in OMG_SHEETS["Test"] if (p := Path(root) / name).exists())
        mean = np.mean(list(values.values()), 0) if values else np.zeros((1, 2))
        texts = {"predictions.csv": ["video,utterance,arousal,valence"]}
        for row in csv.DictReader(read_lines(sheet)):
            video, utterance = row["video"], row["utterance"]
            valence, arousal = values.get((video, Path(utterance).stem), mean)[0]
            texts["predictions.csv"].append(f"{video},{utterance},{arousal:.6f},{valence:.6f}")
    for name, lines in texts.items():
        with replacing(folder / name) as file:
            file.write_text("\n".join([*lines, ""]), encoding="utf-8")


# ---- what the three share ------------------------------------------------------------------------


def _listing(rows, labels, listed, missing, unlisted, faults, strict) -> Listing:
    parts = {"listed": listed, "missing": missing, "unlisted": unlisted, "faults": faults}
    return Listing.build(rows, labels=labels, columns=["select", "film"], strict=strict, **parts)


def _label(text: str, name: str, where: str, *, unlabelled: float | None = None) -> float:
    """A valence or arousal in [-1, 1]; nan if the number is `unlabelled`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise BadInput(where, f"{name} is {text.strip()[:40]!r}, not a number", RESTORE_FILE)
    if value == unlabelled:
        return math.nan
    if not -1 <= value <= 1:
        raise BadInput(where, f"{name} {text.strip()[:40]} is outside [-1, 1]", RESTORE_FILE)
    return value


def _films_below(folder: Path) -> list[Path]:
    """All films at any depth, sorted."""
    files = files_below(folder) if folder.is_dir() else []
    return [film for film in files if film.suffix.lower() in FILM_SUFFIXES]


def _filled(folder: Path) -> bool:
    """Whether a folder has something in it: OpenFace leaves empty ones where no face was."""
    return folder.is_dir() and any(folder.iterdir())
