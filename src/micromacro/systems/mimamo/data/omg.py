"""OMG-Emotion: one label an utterance (Barros et al. 2018; the organisers' repository).

    <root>/omg_TrainVideos.csv  omg_ValidationVideos.csv  omg_TestVideos_WithLabels.csv
    <root>/{Train,Validation,Test}/<video>/utterance_N.mp4      or      <root>/<video>/utterance_N.mp4

The organisers' script writes ``<target>/<video>/utterance_N.mp4``; the target may be the root or one
of its three folders, in any case of letters. Beside or in place of a film there may be aligned faces
as the released code wants them: ``<video>/utterance_N/utterance_N_aligned/frame_det_00_000001.bmp``.
Where both are there, the faces are used.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from micromacro.errors import BadInput
from micromacro.systems.mimamo.data.faces import LabelledClips
from micromacro.systems.mimamo.data.sheets import RESTORE, filled, label, read_lines, root_folder

SHEETS = {
    "Train": ("omg_TrainVideos.csv",),
    "Validation": ("omg_ValidationVideos.csv",),
    "Test": ("omg_TestVideos_WithLabels.csv", "omg_TestVideos_WithoutLabels.csv"),
}
COLUMNS = ("link", "start", "end", "video", "utterance")
LABEL_COLUMNS = ("arousal", "valence", "EmotionMaxVote")
UTTERANCE = re.compile(r"utterance_[0-9]+\.mp4")
VOTES = range(7)  # anger, disgust, fear, happy, neutral, sad, surprise


def read_omg(
    root: str | Path, splits: Sequence[str] = tuple(SHEETS), *, strict: bool = True
) -> LabelledClips:
    """Read sheets and find what they list; rows stay in the sheets' order.

    Utterance numbers may skip. Links die, so nobody has all films: what is not there is listed in
    ``missing`` and left out of the table. Of the test sheets the one with labels is read if it is
    there; without it the labels are nan. ``label`` in the table is EmotionMaxVote (0 anger, 1
    disgust, 2 fear, 3 happy, 4 neutral, 5 sad, 6 surprise).

    Args:
        root: Folder as above.
        splits: "Train", "Validation", "Test".
        strict: Raise the first fault; otherwise collect them all.

    Returns:
        Clips with labels (2,), valence and arousal.

    Raises:
        BadInput: No such folder, no sheet in it, an unknown split; if strict also a missing sheet,
            a wrong header, a wrong or repeated row.
    """
    root = root_folder(root, [name for names in SHEETS.values() for name in names])
    for split in splits:
        if split not in SHEETS:
            raise BadInput(f"split {split!r}", "is unknown", f"use {', '.join(SHEETS)}")
    rows, labels, missing, faults = [], [], [], []
    listed = dict.fromkeys(splits, 0)
    films, there = set(), set()
    for split in splits:
        bases = [f for f in sorted(root.iterdir()) if f.name.lower() == split.lower()] + [root]
        there.update(film for base in bases for film in base.glob("*/utterance_*.mp4"))
        for entry in _sheet(root, split, faults):
            listed[split] += 1
            folders = [base / entry["video"] for base in bases]
            films.update(folder / entry["utterance"] for folder in folders)
            path = _source(folders, entry["utterance"])
            if path is None:
                missing.append(f"{split}/{entry['video']}/{entry['utterance']}")
                continue
            rows.append(_row(split, entry, path))
            labels.append(np.array([entry["valence"], entry["arousal"]], np.float32))
    unlisted = [str(film.relative_to(root)) for film in sorted(there - films)]
    if len(set(splits)) < len(SHEETS):
        unlisted = []  # they may stand in a sheet that was not asked for
    return LabelledClips.build(rows, labels, listed, missing, unlisted, faults, strict=strict)


def _row(split: str, entry: dict, path: Path) -> dict:
    clip = Path(entry["utterance"]).stem
    where = {"dataset": "omg", "subject": entry["video"], "clip": clip, "path": str(path)}
    return where | {"label": entry["EmotionMaxVote"], "split": split, "select": "auto"}


def _source(folders: list[Path], utterance: str) -> Path | None:
    stem = Path(utterance).stem
    aligned = [folder / stem / f"{stem}_aligned" for folder in folders]
    films = [folder / utterance for folder in folders]
    there = [path for path in aligned if filled(path)] + [path for path in films if path.is_file()]
    return there[0] if there else None


def _sheet(root: Path, split: str, faults: list[BadInput]) -> Iterator[dict]:
    """The good rows of a split's sheet; what is wrong goes to `faults`."""
    there = [root / name for name in SHEETS[split] if (root / name).exists()]
    if not there:
        remedy = "get it from the organisers' repository, or leave the split out"
        faults.append(BadInput(root / SHEETS[split][0], "is not there", remedy))
        return
    seen: dict[tuple, int] = {}
    for number, fields in _records(there[0], faults):
        where = f"{there[0]}, line {number}"
        try:
            entry = _entry(fields, where)
            key = entry["video"], entry["utterance"]
            if key in seen:
                fault = f"{'/'.join(key)} stands in line {seen[key]} already"
                raise BadInput(where, fault, "keep one of the two")
        except BadInput as error:
            faults.append(error)
            continue
        seen[key] = number
        yield entry
    if len(there) == 2:
        others = {(f["video"], f["utterance"]) for _, f in _records(there[1], faults)}
        if others != set(seen):
            fault = f"{len(others ^ set(seen))} utterances are not in both this and {there[0].name}"
            faults.append(BadInput(there[1], fault, RESTORE))


def _records(path: Path, faults: list[BadInput]) -> Iterator[tuple[int, dict]]:
    """Line number and fields of each row with as many fields as the header."""
    try:
        lines = read_lines(path)
        header = lines[0].split(",")
        unlabelled = path.name == SHEETS["Test"][1]
        wanted = COLUMNS if unlabelled else COLUMNS + LABEL_COLUMNS
        lacking = [name for name in wanted if name not in header]
        if lacking:
            fault = f"the header lacks {', '.join(lacking)}"
            raise BadInput(f"{path}, line 1", fault, f"it should be {','.join(wanted)}")
    except BadInput as error:
        faults.append(error)
        return
    for number, fields in enumerate(csv.reader(lines[1:]), 2):
        if len(fields) != len(header):
            fault = f"{len(fields)} fields under a header of {len(header)}"
            faults.append(BadInput(f"{path}, line {number}", fault, RESTORE))
        else:
            yield number, dict(zip(header, fields, strict=True))


def _entry(fields: dict[str, str], where: str) -> dict:
    """One row with its labels as numbers, nan and None where the sheet has none."""
    video, utterance = fields["video"], fields["utterance"]
    if not video or Path(video).name != video or video.startswith("."):
        raise BadInput(where, f"video {video!r} is not a plain name", RESTORE)
    if not UTTERANCE.fullmatch(utterance):
        raise BadInput(where, f"utterance {utterance!r} is not like utterance_7.mp4", RESTORE)
    entry = {"video": video, "utterance": utterance}
    if "valence" not in fields:
        return entry | {"valence": np.nan, "arousal": np.nan, "EmotionMaxVote": None}
    vote = fields["EmotionMaxVote"].strip()
    if not vote.isdecimal() or int(vote) not in VOTES:
        raise BadInput(where, f"EmotionMaxVote {vote!r} is not one of 0 to 6", RESTORE)
    values = {name: label(fields[name], name, where) for name in ("valence", "arousal")}
    return entry | values | {"EmotionMaxVote": int(vote)}
