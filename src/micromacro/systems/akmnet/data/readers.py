"""CASME, CASME II, SAMM and SMIC-HS: the official sheets and folders, exactly as released.

    casme   CASME-coded-20190721.xls, first sheet, titles in row 1; a backslash where no frame is
            Subject, Filename, OnsetF, ApexF1, OffsetF, AU, Emotion
            Cropped or CASME_raw_selected, then sub01/EP01_12/reg_EP01_12-73.jpg
    casme2  CASME2-coding-20140508.xlsx, first sheet, titles in row 1; a slash where no frame is
            Subject, Filename, OnsetFrame, ApexFrame, OffsetFrame, Action Units, Estimated Emotion
            Cropped or CASME2_RAW_selected, then sub01/EP02_01f/reg_img46.jpg
    samm    SAMM_Micro_FACS_Codes_v2.xlsx, sheet MICRO_ONLY, titles in row 14
            Subject, Filename, Onset Frame, Apex Frame, Offset Frame, Action Units, Estimated Emotion
            SAMM_CROP or SAMM, then 006/006_1_2/006_05562.jpg
    smic    no sheet: all is in the names of folders
            SMIC_all_cropped/HS or HS, then s01/micro/negative/s1_ne_01/image000123.bmp

Not checked against the data themselves, which nobody here has: that of CASME's two apex columns the
first is the apex (the second is not read); that CASME II's sheet of 2019, which is taken if that of
2014 is not there, has the same columns; that ``SAMM_CROP``, which users make, is laid out like SAMM.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from micromacro.errors import BadInput
from micromacro.systems.akmnet.data.clips import (
    PATCHES,
    Entry,
    MicroClips,
    Patches,
    Stated,
    gather,
    picture_folder,
    root_folder,
)
from micromacro.systems.akmnet.data.disk import numbered_pictures
from micromacro.systems.akmnet.data.sheet import RESTORE_SHEET, frame_number, read_sheet

SMIC_FOLDERS = {"cropped": "SMIC_all_cropped/HS", "raw": "HS"}
FRAMES = ("onset", "apex", "offset")
SMIC_CODES = {"negative": "ne", "positive": "po", "surprise": "sur"}


@dataclass(frozen=True)
class Release:
    """How a data set with a sheet was released.

    Attributes:
        dataset: Its name.
        sheets: File names; the first that is there is read.
        columns: Titles of subject, clip, onset, apex, offset, action units, emotion.
        missing: Mark for "no such frame"; an empty cell means the same.
        subject_digits: Of a subject's text, "01" or "006".
        subject_folder: Format of the subject's folder.
        folders: "cropped" and "raw" -> folder of the pictures.
        tab: Sheet in the file.
        header_row: Row of the titles, 1-based.
    """

    dataset: str
    sheets: tuple[str, ...]
    columns: tuple[str, ...]
    missing: str
    subject_digits: int
    subject_folder: str
    folders: dict[str, str]
    tab: str | int = 0
    header_row: int = 1


CASME = Release(
    dataset="casme",
    sheets=("CASME-coded-20190721.xls",),
    columns=("Subject", "Filename", "OnsetF", "ApexF1", "OffsetF", "AU", "Emotion"),
    missing="\\",
    subject_digits=2,
    subject_folder="sub{}",
    folders={"cropped": "Cropped", "raw": "CASME_raw_selected"},
)
CASME2 = Release(
    dataset="casme2",
    sheets=("CASME2-coding-20140508.xlsx", "CASME2-coding-20190701.xlsx"),
    columns=(
        *("Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame"),
        *("Action Units", "Estimated Emotion"),
    ),
    missing="/",
    subject_digits=2,
    subject_folder="sub{}",
    folders={"cropped": "Cropped", "raw": "CASME2_RAW_selected"},
)
SAMM = Release(
    dataset="samm",
    sheets=("SAMM_Micro_FACS_Codes_v2.xlsx",),
    columns=(
        *("Subject", "Filename", "Onset Frame", "Apex Frame", "Offset Frame"),
        *("Action Units", "Estimated Emotion"),
    ),
    missing="",
    subject_digits=3,
    subject_folder="{}",
    folders={"cropped": "SAMM_CROP", "raw": "SAMM"},
    tab="MICRO_ONLY",
    header_row=14,
)


def read_casme(
    root: str | Path,
    *,
    pictures: str | None = None,
    patches: Patches = PATCHES,
    strict: bool = True,
) -> MicroClips:
    """Read CASME: 189 clips in the paper (193 rows in the sheet of 2019), 60 frames/s.

    Args:
        root: Folder with the sheet and the folder of pictures (top of this module).
        pictures: "cropped", "raw", or None for the first that is there. Raw pictures show the whole
            scene: cut the face out before they are given to a network.
        patches: Corrections of the sheet by (data set, subject, clip); see `PATCHES`.
        strict: Raise the first fault or missing clip; otherwise collect them all.

    Returns:
        The clips, subjects as "01".

    Raises:
        BadInput: No such folder, no sheet, no pictures, another header, a patch that fits no clip;
            if strict also a wrong or repeated row, an emotion that is not the data set's, frames
            of the sheet that are not on disk, an apex outside onset to offset.
    """
    return _read(CASME, root, pictures, patches, strict)


def read_casme2(
    root: str | Path,
    *,
    pictures: str | None = None,
    patches: Patches = PATCHES,
    strict: bool = True,
) -> MicroClips:
    """Read CASME II: 255 clips of 26 subjects, 200 frames/s; arguments and errors as `read_casme`.

    04/EP12_01f has no apex. The folders sub09/EP02_02f and sub24/EP02_07 have no row in the sheet of
    2014, hence no label: they are listed as unlisted.
    """
    return _read(CASME2, root, pictures, patches, strict)


def read_samm(
    root: str | Path,
    *,
    pictures: str | None = None,
    patches: Patches = PATCHES,
    strict: bool = True,
) -> MicroClips:
    """Read SAMM: 159 clips of 29 subjects ("006"), 200 frames/s; otherwise as `read_casme`.

    The pictures of 013_1_12, 013_1_8, 017_3_2, 026_1_1, 026_1_2 and 035_7_2 are named differently
    from the rest; they are found if the frame number, and nothing else, ends the name.
    """
    return _read(SAMM, root, pictures, patches, strict)


def read_smic(
    root: str | Path,
    *,
    pictures: str | None = None,
    patches: Patches = PATCHES,
    strict: bool = True,
) -> MicroClips:
    """Read SMIC-HS, the classic 164 clips of 16 subjects, 100 frames/s; otherwise as `read_casme`.

    There is no sheet: subject ("s01") and emotion are the names of folders, onset and offset the
    first and the last picture; no apex. The longer SMIC-HS-E is another release and not read here.
    """
    known = dict.fromkeys(SMIC_FOLDERS.values())
    root, _ = root_folder(root, known)
    kind, base = picture_folder(root, SMIC_FOLDERS, pictures)
    folders = _folders(base.glob("*/micro/*/*"))
    entries = [partial(_smic_entry, base, folder, patches) for folder in folders]
    return gather("smic", base, kind, entries, patches, strict)


def _smic_entry(base: Path, folder: Path, patches: Patches) -> Entry:
    subject, _, emotion, clip = folder.relative_to(base).parts
    if emotion not in SMIC_CODES:
        known = ", ".join(SMIC_CODES)
        raise BadInput(folder.parent, f"is none of {known}", "restore the official folders")
    named = re.fullmatch(r"s([0-9]+)_([a-z]+)_[0-9]+", clip)
    owner = re.fullmatch(r"s([0-9]+)", subject)
    fits = named and owner and int(named[1]) == int(owner[1]) and named[2] == SMIC_CODES[emotion]
    if not fits:
        fault = f"is not a clip of {subject} named like s1_{SMIC_CODES[emotion]}_01"
        raise BadInput(folder, fault, "restore the official folders")
    path = folder.relative_to(base).as_posix()
    patch = patches.get(("smic", subject, clip), {})
    return Entry(str(folder), subject, clip, path, partial(_smic_stated, folder, emotion, patch))


def _smic_stated(folder: Path, emotion: str, patch: Mapping) -> Stated:
    numbers = list(numbered_pictures(folder))
    stated = {"onset": numbers[0], "apex": None, "offset": numbers[-1], "label": emotion}
    return Stated(**{**stated, **patch})


def _read(
    release: Release, root: str | Path, pictures: str | None, patches: Patches, strict: bool
) -> MicroClips:
    root, sheet = root_folder(root, release.sheets)
    kind, base = picture_folder(root, release.folders, pictures)
    there = [f.relative_to(base).as_posix() for f in _folders(base.glob("*/*"))]
    entries = _entries(release, sheet, patches)
    return gather(release.dataset, base, kind, entries, patches, strict, there)


def _entries(release: Release, sheet: Path, patches: Patches) -> Iterator[Callable[[], Entry]]:
    rows = read_sheet(sheet, release.columns, tab=release.tab, header_row=release.header_row)
    for number, cells in rows:
        yield partial(_entry, release, f"{sheet}, row {number}", cells, patches)


def _entry(release: Release, where: str, cells: dict[str, str], patches: Patches) -> Entry:
    subject, clip = (cells[title] for title in release.columns[:2])
    if not re.fullmatch("[0-9]+", subject):
        raise BadInput(where, f"subject {subject!r} is not a number", RESTORE_SHEET)
    subject = subject.zfill(release.subject_digits)
    if not clip or Path(clip).name != clip or clip.startswith("."):
        raise BadInput(where, f"file name {clip!r} is not a plain name", RESTORE_SHEET)
    folder = f"{release.subject_folder.format(subject)}/{clip}"
    patch = patches.get((release.dataset, subject, clip), {})
    return Entry(where, subject, clip, folder, partial(_stated, release, where, cells, patch))


def _stated(release: Release, where: str, cells: dict[str, str], patch: Mapping) -> Stated:
    au, emotion = (cells[title] for title in release.columns[5:])
    stated = {"label": emotion.lower(), **patch}
    for name, title in zip(FRAMES, release.columns[2:5], strict=True):
        if name not in stated:
            stated[name] = frame_number(cells[title], title, where, release.missing)
        if stated[name] is None and name != "apex":
            raise BadInput(where, f"{title} is missing", RESTORE_SHEET)
    return Stated(au=au or None, **stated)


def _folders(paths: Iterator[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_dir() and path.name[0] != ".")
