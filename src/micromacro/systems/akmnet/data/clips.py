"""What a reader gives: the clips of a data set that are there, and all that does not fit."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from micromacro.datasets.table import CLIP_TABLE_COLUMNS, check_clip_table
from micromacro.errors import BadInput
from micromacro.files import existing
from micromacro.systems.akmnet.data.disk import place
from micromacro.systems.akmnet.data.labels import LABEL_MAPS
from micromacro.systems.akmnet.data.sheet import RESTORE_SHEET

FPS = {"casme": 60.0, "casme2": 200.0, "smic": 100.0, "samm": 200.0}
PATCHED = ("onset", "apex", "offset", "label")

Patches = Mapping[tuple[str, str, str], Mapping[str, int | str | None]]

# Corrections of official sheets, by (data set, subject, clip): for instance
# {("casme2", "01", "EP02_01f"): {"offset": 90}} with official frame numbers; None takes an apex away.
# Empty: that sheets and folders disagree in places is known, the right numbers are not documented.
PATCHES: dict[tuple[str, str, str], dict[str, int | str | None]] = {}

# Folders that the official sheet gives no row; they have no label, so no protocol has them.
UNLABELLED = {"casme2": ("sub09/EP02_02f", "sub24/EP02_07")}


@dataclass(frozen=True)
class Stated:
    """What is said of a clip, patched; frame numbers are official.

    Attributes:
        onset: First frame that counts.
        apex: None if there is none.
        offset: Last frame that counts.
        label: Emotion in lower case.
        au: Action units as written; None if there are none.
    """

    onset: int
    apex: int | None
    offset: int
    label: str
    au: str | None = None


@dataclass(frozen=True)
class Entry:
    """One clip of a sheet, or one folder of a clip.

    Attributes:
        where: File and row, or folder: for messages.
        subject: As text.
        clip: As text.
        folder: Below the folder of all pictures.
        stated: Reads the rest; raises BadInput for what is wrong with it.
    """

    where: str
    subject: str
    clip: str
    folder: str
    stated: Callable[[], Stated]


@dataclass(frozen=True, eq=False)
class MicroClips:
    """Official clips, as far as sheet and disk agree.

    Attributes:
        table: Clip table (`micromacro.datasets.table.check_clip_table`), in the sheet's order. Frame 0 is the
            lowest number in the clip's folder, which the further column ``first`` holds: official
            number = first + frame. ``label`` is the sheet's emotion in lower case (`relabel`).
        pictures: "cropped" or "raw".
        listed: Number of clips that the sheet lists.
        missing: Clips that are listed but whose folder is not there, as "sub01/EP02_01f".
        unlisted: Folders of clips that are there but not listed.
        faults: What contradicts the official format, or the sheet; such clips are not in the table,
            those whose apex alone is wrong are, without apex. Empty if it was read strictly.
    """

    table: pd.DataFrame
    pictures: str
    listed: int
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]
    faults: tuple[BadInput, ...]

    def __len__(self) -> int:
        return len(self.table)


def gather(
    dataset: str,
    base: Path,
    pictures: str,
    entries: Iterable[Callable[[], Entry]],
    patches: Patches,
    strict: bool,
    there: Iterable[str] = (),
) -> MicroClips:
    """Find each entry's pictures and make the table.

    Args:
        dataset: Its name.
        base: Folder that the entries' folders lie in.
        pictures: "cropped" or "raw".
        entries: Each gives one clip, or raises BadInput if it cannot say which.
        patches: What the entries were patched with.
        strict: Raise the first fault, or name the first missing clip.
        there: Folders of clips that are there.

    Raises:
        BadInput: If strict; or a patch of something that cannot be patched.
    """
    _refuse_unknown(patches)
    rows, missing, faults = [], [], []
    seen: dict[tuple[str, str], Entry] = {}
    listed = 0
    for make in entries:
        listed += 1
        try:
            entry = make()
            _refuse_twice(entry, seen)
            seen[entry.subject, entry.clip] = entry
            stated = entry.stated()
            if (base / entry.folder).is_dir():
                rows.append(_row(dataset, entry, stated, base, faults))
            else:
                missing.append(entry.folder)
        except BadInput as error:
            faults.append(error)
    faults += _unused(dataset, patches, seen)
    if strict and faults:
        raise faults[0]
    if strict and missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        remedy = "complete the folder, or read with strict=False, which leaves it out"
        raise BadInput(base / missing[0], f"listed but not there{more}", remedy)
    table = pd.DataFrame(rows, columns=[*CLIP_TABLE_COLUMNS, "first"])
    unlisted = sorted(set(there) - {entry.folder for entry in seen.values()})
    parts = (tuple(missing), tuple(unlisted), tuple(faults))
    return MicroClips(check_clip_table(table), pictures, listed, *parts)


def _row(
    dataset: str, entry: Entry, stated: Stated, base: Path, faults: list[BadInput]
) -> dict[str, object]:
    known = LABEL_MAPS["akm4"][dataset]
    if stated.label not in known:
        fault = f"emotion {stated.label!r} is none of {', '.join(known)}"
        raise BadInput(entry.where, fault, RESTORE_SHEET)
    row = place(base / entry.folder, stated.onset, stated.apex, stated.offset)
    if stated.apex is not None and not stated.onset <= stated.apex <= stated.offset:
        fault = f"apex {stated.apex} is outside frames {stated.onset} to {stated.offset}"
        faults.append(BadInput(entry.where, fault, RESTORE_SHEET))
        row["apex"] = None
    row |= {"dataset": dataset, "subject": entry.subject, "clip": entry.clip}
    return row | {"label": stated.label, "au": stated.au, "fps": FPS[dataset]}


def _refuse_twice(entry: Entry, seen: dict[tuple[str, str], Entry]) -> None:
    first = seen.get((entry.subject, entry.clip))
    if first is not None:
        fault = f"subject {entry.subject}, clip {entry.clip} is also that of {first.where}"
        raise BadInput(entry.where, fault, "keep one of the two")


def _refuse_unknown(patches: Patches) -> None:
    for key, patch in patches.items():
        unknown = sorted(set(patch) - set(PATCHED))
        if unknown:
            fault = f"changes {', '.join(unknown)}"
            raise BadInput(f"patch {key}", fault, f"use {', '.join(PATCHED)}")


def _unused(
    dataset: str, patches: Patches, seen: Mapping[tuple[str, str], Entry]
) -> list[BadInput]:
    remedy = "write subject and clip as in the clip table"
    return [
        BadInput(f"patch {key}", "there is no such clip in the sheet", remedy)
        for key in patches
        if key[0] == dataset and key[1:] not in seen
    ]


def root_folder(root: str | Path, official: Iterable[str]) -> tuple[Path, Path]:
    """The root of a data set, and the first of the official files or folders that is in it.

    Raises:
        BadInput: Not there, not a folder, or none of them in it.
    """
    path, official = existing(root), list(official)
    if not path.is_dir():
        raise BadInput(path, "is not a folder", "give the data set's root")
    for name in official:
        if (path / name).exists():
            return path, path / name
    fault = f"holds none of {', '.join(official)}"
    raise BadInput(path, fault, "give the data set's root; data/README.md shows what is in it")


def picture_folder(
    root: Path, folders: Mapping[str, str], pictures: str | None
) -> tuple[str, Path]:
    """The kind of pictures to read and their folder.

    Args:
        root: Of the data set.
        folders: "cropped" and "raw" -> folder below the root.
        pictures: One of the two, or None for the first that is there.

    Raises:
        BadInput: Another kind; the folder is not there.
    """
    if pictures not in (None, *folders):
        known = ", ".join(map(repr, folders))
        raise BadInput(f"pictures={pictures!r}", "is unknown", f"use {known} or None")
    wanted = [pictures] if pictures else list(folders)
    for kind in wanted:
        if (root / folders[kind]).is_dir():
            return kind, root / folders[kind]
    fault = f"holds no folder {' or '.join(folders[kind] for kind in wanted)}"
    raise BadInput(root, fault, "give the data set's root; data/README.md shows what is in it")
