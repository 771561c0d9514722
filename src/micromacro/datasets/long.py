"""Expressions in long videos: SAMM-LV and CAS(ME)^2 as released, MEGC 2022's tests.

    samm-lv        SAMM_LongVideos_V3_Release.xlsx; sheet FACS_Movement_Only, titles in row 10
                   SAMM_longvideos_crop or SAMM_longvideos, then 006_1/006_1_0001.jpg
    casme-squared  CAS(ME)^2code_final.xlsx without titles: CASFEcode_final has a row an event,
                   "naming rule1" says that person 1 is s15, "naming rule2" that clips disgust1_N
                   are of film 0101
                   longVideoFaceCropped or rawpic, then s15/15_0101disgustingteeth/img_1.jpg or
                   img001.jpg; or rawvideo, then s15/15_0101disgustingteeth.avi
    megc2022       SAMM_Test_cropped, then 002_4; CAS_Test_cropped, then sub01; events not public

SAMM-LV: 343 macro- and 159 micro-expressions in 147 videos of 30 people, 482,797 frames. CAS(ME)^2:
300 and 57 in 98 videos of 22 people, 254,094 frames; three videos have none (s15/0508, s19/0502,
s23/0503).

What the sheets leave open is an option by name. The default is what the organisers do (code of the
MEGC 2020 baseline, He et al. 2020), the other choice is SOFTNet's (Liong et al. 2021), for
``offset_zero`` Concat-CNN's (Yang et al. 2021). These are no details: SOFTNet's half-length of
SAMM-LV's macro-expressions, 174 frames, needs its ``onset_zero="dropped"``; with the organisers'
choice its own rule gives 217.

===============  ==========================  =====================================================
option           choices, organisers' first  what it decides
===============  ==========================  =====================================================
``rounding``     half up, down               178 macro-expressions of SAMM-LV have frame numbers
                                             with a fraction, from fifths of a frame
``onset_zero``   first frame, dropped        10 macro-expressions of SAMM-LV have onset 0, they run
                                             when the video starts: they start with it, or are
                                             left out
``offset_zero``  apex, mirrored              44 macro-expressions of CAS(ME)^2 have offset 0: they
                                             end at the apex, or as far after it as the onset is
                                             before it
``apex_zero``    midpoint, unknown           one macro-expression of CAS(ME)^2 has apex 0
``first``        1, 0                        the sheets' number of the first frame; 0 is for
                                             trying what code does that takes the numbers as
                                             they are
===============  ==========================  =====================================================

Other oddities, read as they are. Apex -1 in SAMM-LV means not annotated, and is unknown (the
organisers' rounding makes it 0). So is an apex outside its event: three in CAS(ME)^2, six in V1 of
SAMM-LV, -1 in V2. Three macro-expressions of SAMM-LV end after their video by the organisers' list
of lengths, one of them starts there too (`PAST_END`); they are kept, as the organisers do. Two
events are called 037_4_1. Events overlap in both sets.

Sheets of one data set differ, so each has one that protocols are of, and another is read where it
is asked for by name. Of SAMM-LV that is V3, the newest. V1, which the organisers' code reads, and
V2 agree in all but the six apexes. V3 is known from what one public program printed of it: frame
numbers are rounded (half up), micro-expressions are the same, and of the macro-expressions those of
020_6 and 036_7 end 475 and 97 frames earlier. Of CAS(ME)^2 there are renamed and "updated" sheets;
they were not seen here.

Read so, public copies of V2 and of CAS(ME)^2's sheet give all 859 events of the organisers' own
lists. Not checked are the pictures and V3 itself, which nobody here has.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from micromacro.datasets.frames import RESTORE, resized
from micromacro.datasets.table import find_root, find_sheet, read_sheet, sheet_rows
from micromacro.errors import BadInput, check_choice
from micromacro.images import image_files
from micromacro.video import probe, read_frames

UNKNOWN = -1  # apex of an event that has none
PAST_END = ("012_4", "020_6", "036_7")  # videos of SAMM-LV with an event that ends after them
MOST_PAST = 4000  # frames; no event is longer than 3,936, so none can end later after its video
VIDEO_COLUMNS = ("dataset", "video", "subject", "n_frames", "fps", "path")
# data set -> frames per second; folders of the videos, of which the first that is there is read;
# pattern of a video below that: its groups, joined by "/", are the video's name
RELEASES = {
    "samm-lv": (200.0, ("SAMM_longvideos_crop", "SAMM_longvideos"), "([0-9]{3}_[0-9]+)"),
    "casme-squared": (
        30.0,
        ("longVideoFaceCropped", "rawpic", "rawvideo"),
        "(s[1-9][0-9]*)/[0-9]+_([0-9]{4}).*",
    ),
    "megc2022-samm": (200.0, ("SAMM_Test_cropped",), "([0-9]{3}_[0-9]+)"),
    "megc2022-cas": (30.0, ("CAS_Test_cropped",), "(sub[0-9]+)"),
}
SAMM_SHEETS = tuple(f"SAMM_LongVideos_V{version}_Release.xlsx" for version in (3, 2, 1))
CASME_SHEETS = tuple(f"{name}.xlsx" for name in ("CAS(ME)^2code_final", "code_final"))
CASME_SHEETS += ("CAS(ME)^2code_final(Updated).xlsx",)
CELLS = ("Onset", "Apex", "Offset", "Type")
TYPES = {"Micro - 1/2": "micro", "Macro": "macro"}
TYPES |= {f"{label}-expression": label for label in TYPES.values()}
OPTIONS = {
    "rounding": ("half up", "down"),
    "onset_zero": ("first frame", "dropped"),
    "offset_zero": ("apex", "mirrored"),
    "apex_zero": ("midpoint", "unknown"),
    "first": (1, 0),
}
Option = str | int | None


@dataclass(frozen=True, eq=False)
class LongVideos:
    """Long videos and the events in them. Pictures stay on disk; a video is read as a stream.

    Attributes:
        videos: A row a video: dataset, video (its name, "006_1" or "s15/0101"), subject, path str;
            n_frames int64; fps float64. Sorted by path.
        events: A row an event: video, subject, label ("micro" or "macro") str; onset, apex, offset
            int64, 0-based frames, both ends included; apex -1 is unknown. In the sheet's order.
            They may overlap, and three of SAMM-LV end after their video (`PAST_END`).
        missing: Videos that have events in the sheet, but are not there. Their events are left out.
        unlisted: Folders among the videos that are named like none.
        faults: What contradicts the official format; empty if it was read strictly.
        pictures: Name of the folder that the videos are in.
        sheet: Name of the file that the events are from; "" if they are not public.
    """

    videos: pd.DataFrame
    events: pd.DataFrame
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]
    faults: tuple[BadInput, ...]
    pictures: str
    sheet: str

    def frames(self, video: str, chunk: int = 64, size: int | None = None) -> Iterator[Tensor]:
        """Read a video from its first frame to its last, some frames at a time.

        However long it is, one picture as it is on disk and one chunk are in memory.

        Args:
            video: Its name, as in `videos`.
            chunk: Frames at a time; the last chunk may have fewer.
            size: Side of the frames in pixels; the aspect ratio is not kept. None: as on disk.

        Yields:
            float32 (n, 1, H, W) in [0, 1], grey = 0.299 R + 0.587 G + 0.114 B.

        Raises:
            BadInput: While iterating: no such video; a picture that is damaged, or of another size
                than the first; a film that is damaged; more or fewer frames than were counted.
        """
        check_choice("video", video, self.videos["video"])
        row = self.videos.set_index("video").loc[video]
        path, left = row["path"], row["n_frames"]
        images = (frame.image[None, None] for frame in read_frames(path, pixels="luma"))
        images = images if size is None else (resized(image, size, size) for image in images)
        while part := list(islice(images, chunk)):
            left -= len(part)
            if left < 0:
                break
            yield torch.from_numpy(np.concatenate(part)).float().div_(255)  # (n, 1, H, W)
        if left:
            fault = f"has {row['n_frames'] - left} frames, not {row['n_frames']} as counted before"
            raise BadInput(path, fault, "read the data set anew; of a film, copy it again")


# ---- readers -------------------------------------------------------------------------------------


def samm_lv(root: str | Path, sheet: str | None = None, **options: Option) -> LongVideos:
    """Read SAMM Long Videos.

    Args:
        root: Folder with the sheet and the folder of the videos (top of this module).
        sheet: Name of the sheet; None for V3, or, as a fault, another official one.
        options: ``pictures``, name of the folder of the videos (None for the first official one
            that is there; raw pictures show more than the face: cut it out before they are given to
            a network); ``strict`` (True raises the first fault or missing video, False collects all
            and leaves out what they are about); and the options at the top of this module.

    Raises:
        BadInput: No such option, folder, sheet or pictures; another header; if strict also a sheet
            that is not the protocols' and was not asked for, a wrong row, an event past the end of
            its video, a video with events that is not there, or one whose pictures are not numbered
            from 1 on without a gap.
    """
    root, path, faults = find_sheet(root, SAMM_SHEETS, sheet)
    rows = read_sheet(path, ("Filename", *CELLS), tab="FACS_Movement_Only", header_row=10)
    stated = [(at, r["Filename"].rpartition("_")[0], *(r[c] for c in CELLS)) for at, r in rows]
    return _source("samm-lv", root, stated, path.name, faults, **options)


def casme_squared(root: str | Path, sheet: str | None = None, **options: Option) -> LongVideos:
    """Read the long videos of CAS(ME)^2.

    Args:
        root: Folder with the workbook and the folder of the videos (top of this module).
        sheet: As for `samm_lv`.
        options: As for `samm_lv`; ``pictures="rawvideo"`` reads the films.

    Raises:
        BadInput: As `samm_lv`.
    """
    root, path, faults = find_sheet(root, CASME_SHEETS, sheet)
    people = {row[2]: row[1] for row in sheet_rows(path, "naming rule1").values()}  # "1" -> "s15"
    films = {row[1]: row[0] for row in sheet_rows(path, "naming rule2").values()}
    stated = []
    for number, (person, clip, *cells) in sheet_rows(path, "CASFEcode_final").items():
        film = clip.partition("_")[0]  # "disgust1_2" -> "disgust1" -> "0101"
        video = f"{people.get(person, person)}/{films.get(film, film)}"
        stated.append((f"{path}, row {number}", video, *cells[:3], cells[5]))
    return _source("casme-squared", root, stated, path.name, faults, **options)


def megc2022(root: str | Path, part: str = "samm", **options: Option) -> LongVideos:
    """Read a test set of MEGC 2022; its events are known to the organisers' server alone.

    Args:
        root: Folder with SAMM_Test_cropped or CAS_Test_cropped.
        part: "samm", SAMM Challenge, or "cas", CAS(ME)^3.
        options: As for `samm_lv`.

    Raises:
        BadInput: As `samm_lv`.
    """
    check_choice("part", part, ("samm", "cas"))
    return _source(f"megc2022-{part}", root, [], **options)


# ---- what the readers share ----------------------------------------------------------------------


def _source(
    dataset: str, root: Path, stated, sheet="", faults=(), pictures=None, strict=True, **options
) -> LongVideos:
    """Find the videos, and put the events that a sheet states into them.

    `stated` has of each row of the sheet where it stands, its video, and the texts of `CELLS`;
    `faults` what was wrong before.
    """
    how = {name: choices[0] for name, choices in OPTIONS.items()} | options
    for name, choice in how.items():
        check_choice("option", name, OPTIONS)
        check_choice(name, choice, OPTIONS[name])
    fps, folders, pattern = RELEASES[dataset]
    root, base = find_root(root, [pictures] if pictures else folders)
    found, unlisted, faults = {}, [], [*faults]
    for path in sorted(base.glob("*/*" if "/" in pattern else "*")):
        name, length = path.relative_to(base).as_posix(), None
        if match := re.fullmatch(pattern, name):
            video = "/".join(match.groups())
            try:
                length = _length(path)
                if video in found:
                    raise BadInput(path, f"is a second one of video {video}", "keep one")
            except BadInput as error:
                faults.append(error)
            row = (dataset, video, re.split("[_/]", video)[0], length, fps, str(path))
            found.setdefault(video, row)
        elif path.is_dir():
            unlisted.append(f"{base.name}/{name}")
    videos = pd.DataFrame(found.values(), columns=VIDEO_COLUMNS).dropna(ignore_index=True)
    videos = videos.astype({"n_frames": "int64", "fps": "float64"})
    events = _events(stated, videos, how, faults)
    missing = sorted({f"{base.name}/{video}" for _, video, *_ in stated if video not in found})
    if strict and missing:
        remedy = "complete the folder, or read with strict=False, which leaves it out"
        faults.append(BadInput(base.parent / missing[0], "has events, but is not there", remedy))
    if strict and faults:
        raise faults[0]
    return LongVideos(videos, events, *map(tuple, (missing, unlisted, faults)), base.name, sheet)


def _length(path: Path) -> int:
    """Number of frames of a film, or of a folder of pictures, which are numbered 1, 2, 3, ...

    Raises:
        BadInput: No film, no pictures, or other numbers.
    """
    if path.is_file():
        return probe(path).n_frames or sum(1 for _ in read_frames(path, pixels="luma"))
    files = image_files(path)  # in the order that frames are read in
    for number, file in enumerate(files, 1):
        if int(re.search("[0-9]*$", file.stem)[0] or 0) != number:
            raise BadInput(file, f"stands where frame {number} should be", RESTORE)
    return len(files)


def _events(stated: list, videos: pd.DataFrame, how: dict, faults: list) -> pd.DataFrame:
    """The events that are in the videos; the wrong ones become faults."""
    rows = pd.DataFrame(stated, columns=["where", "video", *CELLS]).merge(videos, on="video")
    shift, first = 0.5 * (how["rounding"] == "half up"), how["first"]
    numbers = (pd.to_numeric(rows[name], errors="coerce") for name in CELLS[:3])
    onset, apex, offset = (np.floor(number.astype(float) + shift) for number in numbers)
    last = rows["n_frames"] + first - 1
    end = apex if how["offset_zero"] == "apex" else np.minimum(2 * apex - onset, last)
    offset = offset.mask(offset == 0, end)
    if how["apex_zero"] == "midpoint":
        apex = apex.mask(apex == 0, (onset + offset) // 2)
    start = onset.clip(lower=first)
    right = rows["Type"].isin(TYPES) & (onset >= 0) & (start <= offset)
    right &= offset <= last + MOST_PAST * rows["video"].isin(PAST_END)
    for row in rows[~right].itertuples():
        cells = ", ".join(f"{name} {getattr(row, name)!r}" for name in CELLS)
        fault = f"{cells} is no event of {row.video}, which has {row.n_frames} frames"
        faults.append(BadInput(row.where, fault, "restore the official sheet, or the pictures"))
    if how["onset_zero"] == "dropped":
        right &= onset != 0
    apex = (apex - first).where((start <= apex) & (apex <= offset), UNKNOWN)
    numbers = {"onset": start - first, "apex": apex, "offset": offset - first}
    events = rows[["video", "subject"]].assign(label=rows["Type"].map(TYPES), **numbers)[right]
    return events.astype(dict.fromkeys(numbers, "int64")).reset_index(drop=True)
