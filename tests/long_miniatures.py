"""Writers of SAMM-LV, CAS(ME)^2 and MEGC 2022's tests in their official layouts, with the known
traps planted."""

from functools import partial

import openpyxl
from micro_miniatures import write_pictures, write_xlsx

SAMM_NOTES = [("SAMM Long Videos Dataset - FACS Codes",), *[("Symbol Key:", "a note"), ()] * 4]
SAMM_TITLES = (
    *("Subject", "Filename", "Inducement Code", "Onset", "Apex", "Offset", "Duration", "Type"),
    *("Action Units", "Notes"),
)
MICRO, MACRO = "Micro - 1/2", "Macro"
SAMM_VIDEOS = {"006_1": 12, "006_2": 10, "012_4": 9, "020_6": 9, "037_4": 10}  # frames
SAMM_ROWS = (
    ("006_1_1", 2.5, 4.6, 8.5, MACRO),  # fractions; half up is not to the even number
    ("006_1_2", 3, 4, 6, MICRO),  # in the middle of the other
    ("006_2_1", 0, 3, 6, MACRO),  # runs when the video starts
    ("006_2_2", 2, -1, 5, MICRO),  # apex not annotated
    ("012_4_1", 20, 22, 30, MACRO),  # after the end of the video
    ("020_6_1", 5, 6, 40, MACRO),  # past its end
    ("037_4_1", 1, 2, 10, MACRO),  # from the first frame to the last
    ("037_4_1", 3, 9, 6, MACRO),  # the same name; apex outside, as in V1
)
FILMS = ("disgust1", "disgust2", "anger1", "anger2", *(f"happy{number}" for number in range(1, 6)))
CODES = ("0101", "0102", "0401", "0402", "0502", "0503", "0505", "0507", "0508")
CAS_VIDEOS = {"s15/15_0102eat": 9, "s15/15_0401girl": 12, "s40/40_0502err": 3, "s40/40_0508far": 10}
CAS_ROWS = (  # none in 0502
    (1, "anger1_1", 2, 4, 6, "macro"),
    (1, "anger1_2", 3, 5, 0, "macro"),  # no offset
    (1, "disgust2_1", 2, 0, 7, "macro"),  # no apex
    (22, "happy5_1", 2, 9, 6, "macro"),  # apex after the offset
    (22, "happy5_2", 3, 4, 5, "micro"),
)


def write_samm_sheet(root, rows=SAMM_ROWS, version=3):
    lines = [(n[:3], n, 1, *numbers, 71, kind, "4+7", None) for n, *numbers, kind in rows]
    path = root / f"SAMM_LongVideos_V{version}_Release.xlsx"
    write_xlsx(path, [*SAMM_NOTES, SAMM_TITLES, *lines], "FACS_Movement_Only")


def write_casme_sheet(root, rows=CAS_ROWS, folders=None, name="CAS(ME)^2code_final.xlsx"):
    """No titles; "naming rule1" has a row for each event. `folders` of people: 1 is s15."""
    book = openpyxl.Workbook()
    book.active.title = "CASFEcode_final"
    people, films = book.create_sheet("naming rule1"), book.create_sheet("naming rule2")
    for person, *cells, kind in rows:
        number = (folders or {1: 15, 22: 40})[person]
        people.append([number, f"s{number}", person])
        au = "4+7" if number == 15 else 12  # text or number
        book.active.append([person, *cells, au, "negative", f"{kind}-expression ", "anger"])
    for line in zip(CODES, FILMS, strict=True):
        films.append(line)
    book.save(root / name)


def write_samm_lv(root):
    """Tails of four digits, of five from frame 10 on: sorted as texts they are in another order."""
    for video, n_frames in SAMM_VIDEOS.items():
        folder = root / "SAMM_longvideos" / video
        write_pictures(folder, range(1, n_frames + 1), f"{video}_000{{}}.jpg")
        (folder / "Thumbs.db").write_bytes(b"stray")
    (root / "SAMM_longvideos/.DS_Store").write_bytes(b"stray")
    write_samm_sheet(root)
    return root


def write_casme_squared(root, folder="rawpic", name="img{:03d}.jpg"):
    for video, n_frames in CAS_VIDEOS.items():
        write_pictures(root / folder / video, range(1, n_frames + 1), name)
    (root / folder / "s15/Thumbs.db").write_bytes(b"stray")
    write_casme_sheet(root)
    return root


def write_all_videos(dataset, root, n_micro, n_macro, videos=None):
    """As many videos and people as the data set has, or so many, of two pictures; the events in
    them."""
    kinds = [kind for kind, n in (("micro", n_micro), ("macro", n_macro)) for _ in range(n)]
    if dataset == "samm-lv":
        names = [f"{6 + k % 30:03d}_{1 + k // 30}" for k in range(videos or 147)]
        types = {"micro": MICRO, "macro": MACRO}
        events = [names[k % len(names)] for k in range(len(kinds))]
        rows = [(f"{events[k]}_{k}", 1, 1, 2, types[kind]) for k, kind in enumerate(kinds)]
        folders, write = [f"SAMM_longvideos/{name}" for name in names], write_samm_sheet
    else:
        people = [
            (1 + k % 22, k // 22) for k in range(videos or 98)
        ]  # the last three have no event
        rows = [people[k % 95] for k in range(len(kinds))]
        rows = [
            (p, f"{FILMS[n]}_1", 1, 1, 2, kind) for (p, n), kind in zip(rows, kinds, strict=True)
        ]
        folders = [f"rawpic/s{14 + p}/{14 + p}_{CODES[n]}film" for p, n in people]
        write = partial(write_casme_sheet, folders={p: 14 + p for p in range(1, 23)})
    for folder in folders:
        write_pictures(root / folder, (1, 2), "img{}.jpg")
    write(root, rows)
