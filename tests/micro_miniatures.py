"""Writers of CASME, CASME II, SAMM and SMIC-HS in their official layouts, and whole small data
sets."""

import struct
import zlib

import numpy as np
import openpyxl
from PIL import Image

from micromacro.datasets import micro

CASME_TITLES = (
    *("Subject", "Filename", None, "OnsetF", "ApexF1", "ApexF2", "OffsetF", None),
    *("Onset", "Total", "AU", "Emotion"),
)
CASME2_TITLES = (
    *("Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame", None),
    *("Action Units", "Estimated Emotion"),
)
SAMM_TITLES = (
    *("Subject", "Filename", "Inducement Code", "Onset Frame", "Apex Frame", "Offset Frame"),
    *("Duration", "Micro", "Action Units", "Estimated Emotion", "Objective Classes", "Notes"),
)


def write_xls(path, rows):
    """A spreadsheet of Excel 2 (BIFF2), the simplest that is a true .xls: texts and numbers."""

    def record(kind, content):
        return struct.pack("<HH", kind, len(content)) + content

    parts = [record(9, struct.pack("<HH", 7, 0x10)), record(0x42, struct.pack("<H", 0x8001))]
    for r, row in enumerate(rows):
        for c, value in enumerate(row):
            cell = struct.pack("<HH3x", r, c)
            if isinstance(value, str):
                parts.append(record(4, cell + bytes([len(value)]) + value.encode("ascii")))
            elif value is not None:
                parts.append(record(3, cell + struct.pack("<d", value)))
    path.write_bytes(b"".join([*parts, record(10, b"")]))


def write_xlsx(path, rows, tab="Sheet1", before=()):
    book = openpyxl.Workbook()
    book.active.title = tab
    for name in before:
        book.create_sheet(name, 0)["A1"] = "not this one"
    for row in rows:
        book[tab].append(list(row))
    book.save(path)


def write_pictures(folder, numbers, name, size=(8, 6)):
    """Picture k, W x H, is filled with the grey value k mod 256."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.new("L", size, number % 256).save(folder / name.format(number))


def casme_row(subject, clip, onset, apex, offset, emotion, au=4, apex2="\\"):
    return (subject, clip, None, onset, apex, apex2, offset, None, 33, 316, au, emotion)


def casme2_row(subject, clip, onset, apex, offset, emotion, au="4+L10"):
    return (subject, clip, None, onset, apex, offset, None, au, emotion)


def samm_row(subject, clip, onset, apex, offset, emotion, au="4"):
    return (subject, clip, 1, onset, apex, offset, 31, "1/2", au, emotion, 3, None)


SAMM_HEAD = [("SAMM",)] + [(f"line {k}", None, "of notes") for k in range(2, 14)]

SHEETS = {  # name; what writes a row
    "casme": ("CASME-coded-20190721.xls", casme_row),
    "casme2": ("CASME2-coding-20140508.xlsx", casme2_row),
    "samm": ("SAMM_Micro_FACS_Codes_v2.xlsx", samm_row),
}


def write_sheet(dataset, root, rows, name=None):
    """The sheet of a data set, under its official name or another."""
    path = root / (name or SHEETS[dataset][0])
    if dataset == "casme":
        write_xls(path, (CASME_TITLES, *rows))
    elif dataset == "casme2":
        write_xlsx(path, (CASME2_TITLES, *rows))
    else:
        write_xlsx(path, (*SAMM_HEAD, SAMM_TITLES, *rows), "MICRO_ONLY")


def write_all_clips(dataset, root, emotions):
    """A clip of two pictures for each of the emotions, of two people."""
    cropped, rows = micro.RELEASES[dataset].cropped, []
    for k, emotion in enumerate(emotions):
        person = 1 + k % 2
        if dataset == "smic":
            clip = f"s{person}_{micro.SMIC_CODES[emotion]}_{k:03d}"
            folder = f"s{person:02d}/micro/{emotion}/{clip}"
        else:
            clip, subject = f"EP{k:03d}", "{:03d}" if dataset == "samm" else "sub{:02d}"
            folder = f"{subject.format(person)}/{clip}"
            rows.append(SHEETS[dataset][1](person, clip, 1, 2, 2, emotion))
        write_pictures(root / cropped / folder, (1, 2), "img{}.bmp")
    if rows:
        write_sheet(dataset, root, rows)


# ---- whole data sets: three people, each with every class ----------------------------------------

EMOTIONS = {
    "casme": ("happiness", "disgust", "surprise", "tense"),
    "casme2": ("happiness", "disgust", "surprise", "others"),
    "smic": ("positive", "negative", "surprise"),
    "samm": ("Happiness", "Anger", "Surprise", "Other"),
}
SUBJECTS = {
    "casme": ("01", "02", "10"),
    "casme2": ("01", "02", "11"),
    "smic": ("s01", "s02", "s14"),
    "samm": ("006", "013", "025"),
}
BEFORE = 2  # pictures before the onset


def clips_of(dataset):
    """Subject, clip, emotion, T and apex from the onset; the first clip of all has no apex."""
    numbered = enumerate((s, e) for s in SUBJECTS[dataset] for e in EMOTIONS[dataset])
    for k, (subject, emotion) in numbered:
        code = {"positive": "po", "negative": "ne", "surprise": "sur"}.get(emotion)
        clip = f"s{int(subject[1:])}_{code}_01" if dataset == "smic" else f"EP{k:02d}_01"
        yield subject, clip, emotion, 3 + k % 3, (None if k == 0 else 1 + k % 2)


def write_faces(folder, number, name, n, size=(44, 40)):
    """Pictures with a blob that moves a little, W x H; `number` is the first one's."""
    folder.mkdir(parents=True)
    y, x = np.mgrid[: size[1], : size[0]]
    generator = np.random.default_rng(zlib.crc32("/".join(folder.parts[-5:]).encode()))
    centre, noise = generator.uniform(12, 28, 2), generator.uniform(0, 20, (size[1], size[0]))
    for k in range(n):
        bump = np.exp(-((x - centre[0] - 0.2 * k) ** 2 + (y - centre[1]) ** 2) / 60)
        picture = Image.fromarray((200 * bump + noise).astype(np.uint8))
        picture.save(folder / name.format(number + k))


def write_dataset(dataset, root, more=0):
    """A data set of `clips_of`, cropped, each clip with two pictures before its onset.

    With `more`, so many frames are added to each clip of SMIC.
    """
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    for subject, clip, emotion, T, apex in clips_of(dataset):
        first, onset = 100, 100 + BEFORE
        if dataset == "smic":
            folder = f"SMIC_all_cropped/HS/{subject}/micro/{emotion}/{clip}"
            write_faces(root / folder, onset, "reg_image{:06d}.bmp", T + more)
            continue
        missing, row, folder, name = {
            "casme": ("\\", casme_row, f"Cropped/sub{subject}/{clip}", "reg_{:03d}.bmp"),
            "casme2": ("/", casme2_row, f"Cropped/sub{subject}/{clip}", "reg_img{}.bmp"),
            "samm": (None, samm_row, f"SAMM_CROP/{subject}/{clip}", subject + "_{:05d}.bmp"),
        }[dataset]
        write_faces(root / folder, first, name, BEFORE + T)
        mark = missing if apex is None else onset + apex
        rows.append(row(subject, clip, onset, mark, onset + T - 1, emotion))
    if rows:
        write_sheet(dataset, root, rows)
    return str(root)
