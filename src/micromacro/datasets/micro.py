r"""Micro-expressions: CASME, CASME II, SMIC-HS, SAMM as released, and MEGC 2019's composite.

    casme   CASME-coded-20190721.xls, first sheet, titles in row 1; a backslash where no frame is
            Cropped or CASME_raw_selected, then sub01/EP01_12/reg_EP01_12-73.jpg
    casme2  CASME2-coding-20140508.xlsx, first sheet, titles in row 1; a slash where no frame is
            Cropped or CASME2_RAW_selected, then sub01/EP02_01f/reg_img46.jpg
    samm    SAMM_Micro_FACS_Codes_v2.xlsx, sheet MICRO_ONLY, titles in row 14
            SAMM_CROP or SAMM, then 006/006_1_2/006_05562.jpg
    smic    no sheet: all is in the names of folders; the classic 164 clips, not SMIC-HS-E
            SMIC_all_cropped/HS or HS, then s01/micro/negative/s1_ne_01/image000123.bmp

Clips in the paper: 189 (193 rows in the sheet of 2019), 255 of 26 subjects, 159 of 29, 164 of 16.
Known oddities, all read as they are: CASME II's 04/EP12_01f has no apex; its folders sub09/EP02_02f
and sub24/EP02_07 have no row, hence no label; the pictures of SAMM's 013_1_12, 013_1_8, 017_3_2,
026_1_1, 026_1_2 and 035_7_2 are named differently from the rest.

Not checked against the data themselves, which nobody here has: that of CASME's two apex columns the
first is the apex (the second is not read); that CASME II's sheet of 2019 has the columns of that of
2014; that ``SAMM_CROP``, which users make, is laid out like SAMM.

The sheets of CASME II differ in labels: with that of 2019 the composite of MEGC 2019 has 445 clips,
not 442. All label maps and protocols are of the sheet of 2014 (`read_classes` takes no other); that
of 2019 is read where it is asked for by name.

``labels.csv`` has every emotion of the sheets in lower case, its clips in the paper, and its class
in four label maps: ``akm4``, AKMNet's (SMIC has no "others", so its classes are the first three);
``megc3``, the challenge's; ``casme2_5`` and ``samm_5``, the customary emotions of more than ten
clips. An empty class drops the clip. **Repression is "others" in akm4 and "negative" in megc3.**
Sure is that class 3 of ``akm4`` is "others" (the released README's example); the order of 0 to 2 is
that of the paper's Figure 4. Which four clips of CASME's sheet the paper left out is not known.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from micromacro.datasets.frames import RESTORE, lacking_frames, numbered_pictures
from micromacro.datasets.table import Listing, check_name, find_sheet, read_sheet
from micromacro.errors import BadInput, check_choice

Patches = Mapping[tuple[str, str, str], Mapping[str, int | str | None]]

# Corrections of official sheets, by (data set, subject, clip): for instance
# {("casme2", "01", "EP02_01f"): {"offset": 90}} with official frame numbers; None takes an apex
# away. Empty: that sheets and folders disagree in places is known, the right numbers are not
# documented.
PATCHES: Patches = {}
PATCHED = ("onset", "apex", "offset", "label")

# Folders that the official sheet gives no row; they have no label, so no protocol has them.
UNLABELLED = {"casme2": ("sub09/EP02_02f", "sub24/EP02_07")}

COMPOSITE = ("casme2", "smic", "samm")
CASME_CLIPS = 193  # in the sheet; the paper has 189 of them, and which is not known
# Clips that `megc3` keeps and the published list of 442 does not have; the first has no apex.
OMITTED = frozenset({("casme2", "04", "EP12_01f"), ("casme2", "05", "EP09_05f")})

RESTORE_SHEET = "restore the official sheet, or patch the clip"
SMIC_CODES = {"negative": "ne", "positive": "po", "surprise": "sur"}
NUMBER = "[0-9]{1,9}"  # of a subject or a frame; one with more digits is none
FRAMES = ("onset", "apex", "offset")
CELLS = ("subject", "clip", *FRAMES, "au", "label")


@dataclass(frozen=True)
class Release:
    """How a data set was released.

    Attributes:
        fps: Frames per second.
        cropped: Folder of the cropped pictures, below the root.
        raw: Folder of the raw pictures; they show the whole scene.
        folder: Of a clip, below those.
        subject: Format of a subject's number, "01" or "006": however it is written, it is one
            person.
        sheets: Names of the official files, that of the protocols first. None where folders say
            all.
        titles: Of the columns of `CELLS`.
        missing: Mark for "no such frame"; an empty cell means the same.
        tab: Sheet in the file.
        header_row: Row of the titles, 1-based.
    """

    fps: float
    cropped: str
    raw: str
    folder: str = "sub{subject}/{clip}"
    subject: str = "{:0>2}"
    sheets: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    missing: str = ""
    tab: str | int = 0
    header_row: int = 1


_EMOTION = ("Action Units", "Estimated Emotion")
RELEASES = {
    "casme": Release(
        fps=60.0,
        cropped="Cropped",
        raw="CASME_raw_selected",
        sheets=("CASME-coded-20190721.xls",),
        titles=("Subject", "Filename", "OnsetF", "ApexF1", "OffsetF", "AU", "Emotion"),
        missing="\\",
    ),
    "casme2": Release(
        fps=200.0,
        cropped="Cropped",
        raw="CASME2_RAW_selected",
        sheets=("CASME2-coding-20140508.xlsx", "CASME2-coding-20190701.xlsx"),
        titles=("Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", *_EMOTION),
        missing="/",
    ),
    "samm": Release(
        fps=200.0,
        cropped="SAMM_CROP",
        raw="SAMM",
        folder="{subject}/{clip}",
        subject="{:0>3}",
        sheets=("SAMM_Micro_FACS_Codes_v2.xlsx",),
        titles=("Subject", "Filename", "Onset Frame", "Apex Frame", "Offset Frame", *_EMOTION),
        tab="MICRO_ONLY",
        header_row=14,
    ),
    "smic": Release(
        fps=100.0, cropped="SMIC_all_cropped/HS", raw="HS", folder="{subject}/micro/{label}/{clip}"
    ),
}
DATASETS = (*RELEASES, "megc2019")

# map -> its classes, in the order of their numbers
CLASSES = {
    "akm4": ("positive", "negative", "surprise", "others"),
    "megc3": ("negative", "positive", "surprise"),
    "casme2_5": ("happiness", "disgust", "repression", "surprise", "others"),
    "samm_5": ("anger", "contempt", "happiness", "surprise", "other"),
}
_LABELS = pd.read_csv(Path(__file__).with_name("labels.csv"), keep_default_na=False)
# map -> data set -> emotion as in the sheet, lower case -> class; None: the clip is dropped
LABEL_MAPS: dict[str, dict[str, dict[str, str | None]]] = {
    label_map: {
        dataset: {e: c or None for e, c in zip(rows["emotion"], rows[label_map], strict=True)}
        for dataset, rows in _LABELS.groupby("dataset", sort=False)
        if rows[label_map].any()
    }
    for label_map in CLASSES
}
# (map, data set) -> clips of each class, in the order of the classes, if all clips are there
OFFICIAL_COUNTS: dict[tuple[str, str], tuple[int, ...]] = {
    (label_map, dataset): tuple(
        int(rows.loc[rows[label_map] == name, "clips"].sum()) for name in CLASSES[label_map]
    )
    for label_map, covered in LABEL_MAPS.items()
    for dataset, rows in _LABELS.groupby("dataset", sort=False)
    if dataset in covered
}


# ---- sheets and folders --------------------------------------------------------------------------


def read(
    dataset: str,
    root: str | Path,
    *,
    pictures: str | None = None,
    sheet: str | None = None,
    patches: Patches = PATCHES,
    strict: bool = True,
) -> Listing:
    """Read a data set's sheet, or its folders, and find the clips.

    Args:
        dataset: A key of `RELEASES`.
        root: Folder with the sheet and the folder of pictures (top of this module).
        pictures: "cropped", "raw", or None for the first that is there. Raw pictures show the whole
            scene: cut the face out before they are given to a network.
        sheet: Name of the sheet; None for that of the protocols, or, as a fault, another official
            one.
        patches: Corrections of the sheet by (data set, subject, clip); see `PATCHES`.
        strict: Raise the first fault or missing clip; otherwise collect them all.

    Returns:
        The clips; a column ``first`` holds the lowest number in the clip's folder, which is frame
        0: official number = first + frame. ``label`` is the sheet's emotion in lower case
        (`relabel`). Of the clips with faults those whose apex alone is wrong are in the table,
        without apex.

    Raises:
        BadInput: No such data set, folder, sheet or pictures; another header; a patch that fits no
            clip; if strict also a sheet that is not the protocols' and was not asked for, a wrong
            or repeated row, an emotion that is not the data set's, frames of the sheet that are not
            on disk, an apex outside onset to offset.
    """
    check_choice("dataset", dataset, RELEASES)
    for key, patch in patches.items():
        if unknown := sorted({*patch} - {*PATCHED}):
            fault = f"changes {', '.join(unknown)}"
            raise BadInput(f"patch {key}", fault, f"use {', '.join(PATCHED)}")
    release = RELEASES[dataset]
    official = release.sheets or (release.cropped, release.raw)
    root, present, faults = find_sheet(root, official, sheet)
    kind, base = _picture_folder(root, release, pictures)
    pattern = release.folder.removeprefix("sub").format(subject="*", clip="*", label="*")
    folders = sorted(f for f in base.glob(pattern) if f.is_dir() and f.name[0] != ".")
    if release.sheets:
        lines = read_sheet(present, release.titles, tab=release.tab, header_row=release.header_row)
        lines = [(where, dict(zip(CELLS, row.values(), strict=True))) for where, row in lines]
    else:
        lines = [(str(f), _smic_cells(f.relative_to(base).parts)) for f in folders]
    rows, missing, seen = [], [], {}
    for where, cells in lines:
        try:
            clip = _named(release, where, cells)
            folder = cells.get("folder") or release.folder.format(**clip)
            key = (dataset, *clip.values())
            if key in seen:
                fault = f"subject {key[1]}, clip {key[2]} is also that of {seen[key][0]}"
                raise BadInput(where, fault, "keep one of the two")
            seen[key] = where, folder
            stated = _stated(dataset, where, cells, patches.get(key, {}))
            if not (base / folder).is_dir():
                missing.append(folder)
                continue
            row = {"dataset": dataset, "fps": release.fps, **clip} | _placed(base / folder, stated)
        except BadInput as error:
            faults.append(error)
            continue
        onset, apex, offset = (row[name] for name in FRAMES)
        if apex is not None and not onset <= apex <= offset:
            official = "apex {} is outside frames {} to {}".format(
                *(row["first"] + frame for frame in (apex, onset, offset))
            )
            faults.append(BadInput(where, official, RESTORE_SHEET))
            row["apex"] = None
        rows.append(row)
    for key in patches:
        if key[0] == dataset and key not in seen:
            remedy = "write subject and clip as in the clip table"
            faults.append(BadInput(f"patch {key}", "there is no such clip in the sheet", remedy))
    if strict and missing and not faults:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        remedy = "complete the folder, or read with strict=False, which leaves it out"
        raise BadInput(base / missing[0], f"listed but not there{more}", remedy)
    there = {f.relative_to(base).as_posix() for f in folders if release.sheets}
    unlisted = sorted(there - {folder for _, folder in seen.values()})
    lists = {"listed": {"": len(lines)}, "missing": missing, "unlisted": unlisted, "faults": faults}
    return Listing.build(rows, **lists, strict=strict, columns=["first"], pictures=kind)


def _picture_folder(root: Path, release: Release, pictures: str | None) -> tuple[str, Path]:
    """The kind of pictures to read, and their folder."""
    folders = {"cropped": root / release.cropped, "raw": root / release.raw}
    check_choice("pictures", pictures, (None, *folders))
    wanted = [pictures] if pictures else [*folders]
    for kind in wanted:
        if folders[kind].is_dir():
            return kind, folders[kind]
    names = " or ".join(folders[kind].relative_to(root).as_posix() for kind in wanted)
    remedy = "give the data set's root; data/README.md shows what is in it"
    raise BadInput(root, f"holds no folder {names}", remedy)


def _smic_cells(parts: tuple[str, ...]) -> dict[str, str]:
    """What the names s01, micro, negative, s1_ne_01 say, as the cells of a sheet would."""
    subject, _, label, clip = parts
    return {"subject": subject, "label": label, "clip": clip, "au": "", "folder": "/".join(parts)}


def _named(release: Release, where: str, cells: dict[str, str]) -> dict[str, str]:
    """Subject and clip as the clip table has them.

    Raises:
        BadInput: They are no names of this data set.
    """
    subject, clip, label = cells["subject"], cells["clip"], cells["label"]
    if release.sheets:
        if not re.fullmatch(NUMBER, subject):
            raise BadInput(where, f"subject {subject!r} is not a number", RESTORE_SHEET)
        check_name(where, "file name", clip, RESTORE_SHEET)
        return {"subject": release.subject.format(int(subject)), "clip": clip}
    remedy = "restore the official folders"
    if label not in SMIC_CODES:
        raise BadInput(Path(where).parent, f"is none of {', '.join(SMIC_CODES)}", remedy)
    number = re.fullmatch(f"s0*({NUMBER})", subject)
    if not number or not re.fullmatch(f"s0*{number[1]}_{SMIC_CODES[label]}_[0-9]+", clip):
        fault = f"is not a clip of {subject} named like s1_{SMIC_CODES[label]}_01"
        raise BadInput(where, fault, remedy)
    return {"subject": f"s{int(number[1]):02}", "clip": clip}


def _stated(
    dataset: str, where: str, cells: dict[str, str], patch: Mapping[str, int | str | None]
) -> dict[str, int | str | None]:
    """Official frame numbers, emotion and action units of a clip, patched.

    Raises:
        BadInput: A cell that is no frame number, none where there must be one, another emotion.
    """
    release = RELEASES[dataset]
    stated = {"label": cells["label"].lower(), "au": cells["au"] or None}
    for name, title in zip(FRAMES, release.titles[2:5], strict=bool(release.titles)):
        text = cells[name]
        number = re.fullmatch(NUMBER, text)
        if name not in patch and not number and text not in ("", release.missing):
            raise BadInput(where, f"{title} is {text!r}, not a frame number", RESTORE_SHEET)
        stated[name] = int(text) if number else None
        if (stated | patch)[name] is None and name != "apex":
            raise BadInput(where, f"{title} is missing", RESTORE_SHEET)
    stated |= patch
    known = LABEL_MAPS["akm4"][dataset]
    if stated["label"] not in known:
        fault = f"emotion {stated['label']!r} is none of {', '.join(known)}"
        raise BadInput(where, fault, RESTORE_SHEET)
    return stated


def _placed(folder: Path, stated: dict[str, int | str | None]) -> dict:
    """Where a clip lies in its folder: columns of the clip table; frame 0 is the lowest number.

    Raises:
        BadInput: As `numbered_pictures`; onset after offset, one frame only, or a frame from onset
            to offset that is not there.
    """
    numbers = numbered_pictures(folder)
    first, last = next(iter(numbers)), next(reversed(numbers))
    stated = {"onset": first, "apex": None, "offset": last} | stated  # SMIC states none
    onset, offset = stated["onset"], stated["offset"]
    if onset >= offset:
        fault = f"runs from frame {onset} to {offset}"
        raise BadInput(folder, fault, "a clip needs two frames; patch it if the sheet is wrong")
    if lacking := lacking_frames(range(onset, offset + 1), numbers):
        fault = f"should hold frames {onset} to {offset}, {lacking} not there"
        fault += f" (the folder holds {first} to {last})"
        raise BadInput(folder, fault, f"{RESTORE}, or patch the clip if the sheet is wrong")
    frames = {name: None if stated[name] is None else stated[name] - first for name in FRAMES}
    return stated | frames | {"path": str(folder), "first": first, "n_frames": last - first + 1}


# ---- classes and protocols -----------------------------------------------------------------------


def relabel(table: pd.DataFrame, label_map: str) -> pd.DataFrame:
    """Put class numbers in place of the sheets' emotions; drop the clips that the map drops.

    Args:
        table: Clip table of `read`: ``label`` is the sheet's emotion. One data set or several.
        label_map: A key of `CLASSES`.

    Returns:
        A new table without the dropped rows: ``label`` int64, 0-based number in
        `CLASSES`[label_map]; a column ``emotion`` keeps the sheet's word.

    Raises:
        BadInput: Unknown map; a data set or an emotion that it does not know.
    """
    check_choice("label map", label_map, LABEL_MAPS)
    known, classes = LABEL_MAPS[label_map], []
    for row in table.itertuples():
        if row.dataset not in known:
            fault = f"does not cover {row.dataset}"
            raise BadInput(f"label map {label_map}", fault, f"it is for {', '.join(known)}")
        if row.label not in known[row.dataset]:
            fault = f"{row.label!r} is no emotion of {row.dataset}'s sheet"
            remedy = "relabel the readers' table, not one relabelled before"
            raise BadInput(f"clip {row.subject}/{row.clip}", fault, remedy)
        classes.append(known[row.dataset][row.label])
    kept = table.assign(emotion=table["label"])[[name is not None for name in classes]]
    numbers = [CLASSES[label_map].index(name) for name in classes if name is not None]
    return kept.assign(label=pd.array(numbers, "int64")).reset_index(drop=True)


def megc2019(*tables: pd.DataFrame) -> pd.DataFrame:
    """The composite of MEGC 2019 (See et al. 2019): CASME II, SMIC-HS and SAMM in three classes.

    With all official clips there: 442 clips of 68 people, 250 negative, 109 positive, 83 surprise;
    CASME II 145 clips of 24 people (88, 32, 25), SMIC-HS 164 of 16 (70, 51, 43), SAMM 133 of 28
    (92, 26, 15). CASME II's subjects 10 and 18 and SAMM's 025 have none of these emotions and
    vanish. Of CASME II's sheet the map keeps two clips that the published list omits, 04/EP12_01f
    and 05/EP09_05f; they are omitted here too.

    The protocol leaves one person out at a time, pools the predictions of all folds, and takes UF1
    and UAR of the pool, or of one data set's part of it.

    Args:
        tables: Clip tables as read, each of one or more of the three data sets, none twice.

    Returns:
        One clip table: CASME II, SMIC-HS, SAMM; ``label`` as in `relabel` with "megc3".

    Raises:
        BadInput: One of the three lacks, is given twice, or another is among them.
    """
    names = [name for table in tables for name in table["dataset"].unique()]
    if sorted(names) != sorted(COMPOSITE):
        fault = f"is of {', '.join(COMPOSITE)}, not of {', '.join(names) or 'nothing'}"
        raise BadInput("MEGC 2019 composite", fault, "give each of the three once")
    together = relabel(pd.concat(tables, ignore_index=True), "megc3")
    keys = zip(together["dataset"], together["subject"], together["clip"], strict=True)
    kept = together[[key not in OMITTED for key in keys]]
    order = kept["dataset"].map(COMPOSITE.index)
    return kept.loc[order.sort_values(kind="stable").index].reset_index(drop=True)


def read_classes(
    dataset: str, root: str | Path | None, *, pictures: str | None = "cropped", strict: bool = True
) -> tuple[Listing, tuple[str, ...]]:
    """Read a data set, or the composite, with class numbers: what a protocol trains on.

    Args:
        dataset: One of `DATASETS`.
        root: Its folder; of "megc2019" one that holds the folders casme2, smic and samm.
        pictures: As `read`.
        strict: As `read`.

    Returns:
        The listing, whose table has ``label`` as in `relabel` ("akm4"; of the composite "megc3")
        and a column ``person``, whom a fold leaves out: the subject, in the composite "casme2/01";
        and the names of the classes that the data set has.

    Raises:
        BadInput: Unknown data set; no root; as `read`; fewer than two people.
    """
    check_choice("dataset", dataset, DATASETS)
    if root is None:
        raise BadInput("root", "is missing", f"give the folder of {dataset}; see data/README.md")
    composite = dataset == "megc2019"
    folders = {name: Path(root) / name for name in COMPOSITE} if composite else {dataset: root}
    how, parts = {"pictures": pictures, "strict": strict}, []
    for name, folder in folders.items():  # a protocol is of one sheet, strict or not
        parts.append(read(name, folder, sheet=next(iter(RELEASES[name].sheets), None), **how))
    tables = [part.table for part in parts]
    table = megc2019(*tables) if composite else relabel(tables[0], "akm4")
    table["person"] = people(table) if composite else table["subject"]
    if table["person"].nunique() < 2:
        fault = f"has clips of {table['person'].nunique()} subjects"
        raise BadInput(root, fault, "get more of the data: one is left out, the others train")
    label_map = "megc3" if composite else "akm4"
    mapped = {c for name in table["dataset"].unique() for c in LABEL_MAPS[label_map][name].values()}
    listing = Listing(
        table,
        {"": sum(part.listed[""] for part in parts)},
        *(sum((getattr(part, n) for part in parts), ()) for n in ("missing", "unlisted", "faults")),
        pictures=parts[0].pictures,
    )
    return listing, tuple(name for name in CLASSES[label_map] if name in mapped)


def people(table: pd.DataFrame) -> list[str]:
    """The person of each row, as "casme2/01": two data sets may call different people alike."""
    return (table["dataset"] + "/" + table["subject"]).tolist()
