"""Hume-Reaction: seven intensities of each filmed reaction, in ABAW5's and MuSe 2022's layout.

ABAW5 (2023), as the released code of the paper wants it; SPLIT is train, val or test:

    <root>/data_info.csv  File_ID "[00001]", Split "Train", seven emotions; the rest is not read
    <root>/features/res18_aff/SPLIT/00001.npy                 holistic: (T, 512), a row a frame
    <root>/features/mfcc_2/SPLIT/00001.npy                    audio: (32, 1024)
    <root>/openface_align/SPLIT/aligned/00001/00001.csv       local: OpenFace's output, 714 columns
    <root>/raw/SPLIT/wav/00001.wav  raw/SPLIT/mp4/00001.mp4   sound, film; or wav/, mp4/ in the root

MuSe (2022), as its baseline wants it; in a feature's file stand an id, a time stamp, then the
feature:

    <root>/labels.csv  partition.csv     File_ID "[00001]", emotions; id and train, devel, test
    <root>/feats/VGGFace2/00001.csv      holistic, of frames that were sampled from the film
    <root>/feats/FAUs/00001.csv          local: 20 action units of py-feat
    <root>/feats/DeepSpectrum/00001.csv  audio, (S, 1024); its time stamps are its own

An intensity is what the person said of it, over the clip's own greatest, which so is exactly 1.
Those of the test split are not public. Who is in a clip is not in these files either; so every
clip counts as a person of its own, and only the official split keeps people apart.

Of the files only public descriptions were at hand: that the validation split has 4,657 clips, and
that 13 clips of the training split have sound but no features of the face. Files of a clip that are
not there are listed in ``missing``, but for a kind of features that is not there at all; a clip
that has no file is left out, and listed as SPLIT/00001. Two things the released code does
otherwise. It takes the action units by position and OpenFace's failed frames as they are, zeros;
here columns are found by their names, and such frames are nan. And it stops if a clip has other
numbers of rows in two features; here the check names all of these.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from micromacro.datasets.table import RESTORE_FILE, Listing, find_root
from micromacro.errors import BadInput, check_choice
from micromacro.faces.action_units import as_numbers, read_cells, read_openface
from micromacro.files import existing, reading

LABELS = ("Adoration", "Amusement", "Anxiety", "Disgust", "Empathic-Pain", "Fear", "Surprise")
MODALITIES = ("holistic", "local", "audio")
COLUMNS = (*LABELS, *MODALITIES, "sound", "layout")  # beyond those of every clip table
SPLITS = {"train": "train", "val": "val", "devel": "val", "test": "test"}
SHEETS = {"data_info.csv": "abaw5", "labels.csv": "muse"}
# layout -> modality -> its official folder, and where the file of a clip lies: the first there is
PLACES = {
    "abaw5": {
        "holistic": ("res18_aff", "features/{folder}/{split}/{clip}.npy"),
        "local": (
            *("openface_align", "{folder}/{split}/aligned/{clip}/{clip}.csv"),
            "{folder}/{split}/{clip}/{clip}.csv",
        ),
        "audio": ("mfcc_2", "features/{folder}/{split}/{clip}.npy"),
    },
    "muse": {
        "holistic": ("VGGFace2", "feats/{folder}/{clip}.csv"),
        "local": ("FAUs", "feats/{folder}/{clip}.csv"),
        "audio": ("DeepSpectrum", "feats/{folder}/{clip}.csv"),
    },
}
SOUND = ("raw/{split}/wav/{clip}.wav", "wav/{clip}.wav")
FILM = ("raw/{split}/mp4/{clip}.mp4", "mp4/{clip}.mp4")


def read_hume(root: str | Path, *, strict: bool = True, **folders: str) -> Listing:
    """Read the sheet, and find the files of each clip; `load` opens them.

    Args:
        root: Folder as above, in either layout.
        strict: Raise the first fault; otherwise collect them all and leave out their rows.
        folders: ``holistic``, ``local``, ``audio``: names of folders in place of the official ones,
            such as ``holistic="res18_eval"`` for features/res18_eval.

    Returns:
        Clips in the order of the sheet. Their table has the columns `LABELS`, float64 from 0 to 1,
        nan where not public; `MODALITIES` and ``sound``, each the path of a file, nan for one that
        is not there; and ``layout``, "abaw5" or "muse". ``split`` is train, val or test; ``path``
        is the film or, without one, the first of the other files. Labels are the emotions, float32
        (7,).

    Raises:
        BadInput: No such folder or option, no sheet in it, a folder of features that was asked for
            is not there; if strict also a wrong or repeated row.
    """
    root, sheet = find_root(root, [*SHEETS])
    layout = SHEETS[sheet.name]
    places = {}
    for name in (*folders, *MODALITIES):
        check_choice("option", name, MODALITIES)
        official, *below = PLACES[layout][name]
        below = [place.replace("{folder}", folders.get(name, official)) for place in below]
        top = root / below[-1].partition("/{")[0]
        if top.is_dir():
            places[name] = below
        elif name in folders:
            raise BadInput(top, "is not there", f"extract these features, or leave {name} out")
    faults, rows, missing, labels = [], [], [], []
    entries = _entries(root, sheet, faults)
    for entry in entries.to_dict("records"):
        files = {name: _first(root, below, entry) for name, below in places.items()}
        lacking = [name for name, file in files.items() if file is None]
        missing += [places[name][0].format_map(entry) for name in lacking]
        files["sound"] = _first(root, SOUND, entry)
        there = [_first(root, FILM, entry), *files.values()]
        if not any(there):
            missing.append("{split}/{clip}".format_map(entry))
        else:
            place = {"dataset": "hume", "subject": entry["clip"], "path": next(filter(None, there))}
            rows.append(entry | place | files | {"layout": layout})
            labels.append(np.array([entry[name] for name in LABELS], np.float32))
    free = {"split": "*", "clip": "*"}
    present = {f for below in places.values() for p in below for f in root.glob(p.format_map(free))}
    known = {*entries["clip"]}
    unlisted = sorted(str(file.relative_to(root)) for file in present if file.stem not in known)
    listed = {s: int((entries["split"] == s).sum()) for s in dict.fromkeys(SPLITS.values())}
    lists = {"listed": listed, "missing": missing, "unlisted": unlisted, "faults": faults}
    return Listing.build(rows, **lists, strict=strict, columns=COLUMNS, labels=labels)


def load(clip: Mapping) -> dict[str, np.ndarray | None]:
    """Load the features of a clip.

    Args:
        clip: A row of the table that `read_hume` gave.

    Returns:
        ``holistic`` float32 (T, H); ``local`` float32 (T, A), the action units (in ABAW5
        `action_units.openface_columns`), a row nan where they failed; ``audio`` float32 (S, M), S
        having nothing to do with T. None for a modality whose file is not there. The two of the
        face have a row a frame, in MuSe one for each of the holistic time stamps.

    Raises:
        BadInput: A file is gone or damaged, is not (rows, columns) of numbers, has no row; a value
            is not finite, but for those of ``local``; holistic and local features have not as many
            rows or, in MuSe, a time stamp of local ones has no holistic one.
    """
    files = {name: clip[name] for name in MODALITIES if isinstance(clip[name], str)}
    tables = {name: _features(clip["layout"], name, Path(file)) for name, file in files.items()}
    if {"holistic", "local"} <= tables.keys():
        holistic, local = tables["holistic"], tables["local"]
        matched = local.reindex(holistic.index) if clip["layout"] == "muse" else local
        stray = len(local.index.difference(holistic.index))
        if stray or len(matched) != len(holistic):
            fault = f"has {len(local)} rows, {stray} of them of no row of {files['holistic']}"
            fault += f", which has {len(holistic)}"
            remedy = "extract both anew from one film, or leave the clip out"
            raise BadInput(files["local"], fault, remedy)
        tables["local"] = matched
    arrays = {name: table.to_numpy(np.float32, copy=True) for name, table in tables.items()}
    return dict.fromkeys(MODALITIES) | arrays


def _first(root: Path, places: list[str] | tuple[str, ...], entry: dict) -> str | None:
    """The first of the files of a clip that is there."""
    files = (root / place.format_map(entry) for place in places)
    return next((str(file) for file in files if file.is_file()), None)


def _entries(root: Path, sheet: Path, faults: list[BadInput]) -> pd.DataFrame:
    """The right rows of the sheet: clip, split, emotions; the wrong ones become faults."""
    if SHEETS[sheet.name] == "abaw5":
        text = read_cells(sheet, ("File_ID", "Split", *LABELS))
    else:
        labels, sheet = read_cells(sheet, ("File_ID", *LABELS)), root / "partition.csv"
        parts = read_cells(sheet).iloc[:, [0, -1]].set_axis(["File_ID", "Split"], axis=1)
        text = parts.merge(labels.drop_duplicates("File_ID"), on="File_ID", how="left").fillna("")
    clip = text["File_ID"].str.extract(r"^\[?([0-9]+)\]?$")[0]
    split = text["Split"].str.lower().map(SPLITS)
    values = text[[*LABELS]].apply(pd.to_numeric, errors="coerce").astype("float64")
    inside = (values >= 0) & (values <= 1)
    right = clip.notna() & ~clip.duplicated() & split.notna()
    right &= inside.all(axis=1) | (split == "test")
    for row, cells in text[~right].to_dict("index").items():
        stated = ", ".join(f"{name} {cells[name]!r}" for name in ("File_ID", "Split", *LABELS))
        fault = f"{stated} is no clip with intensities from 0 to 1, or is there already"
        faults.append(BadInput(f"{sheet}, line {row + 2}", fault, RESTORE_FILE))
    return values.where(inside).assign(clip=clip, split=split)[right]


def _features(layout: str, name: str, file: Path) -> pd.DataFrame:
    """A row a frame; in MuSe the index is the time stamp."""
    if layout == "abaw5" and name == "local":
        return read_openface(file)
    if layout == "muse":
        text = read_cells(file)
        table = as_numbers(file, text.iloc[:, 1:])  # the first is the clip's id
        table = table.set_index(table.columns[0])
        right = table.index.is_unique and table.shape[1] > 0
    else:
        what = existing(file), "an array of numbers", RESTORE_FILE
        with reading(*what), file.open("rb") as opened:  # NumPy leaves damaged ones open
            array = np.load(opened, allow_pickle=False)
        right = isinstance(array, np.ndarray) and array.ndim == 2 and array.dtype.kind == "f"
        table = pd.DataFrame(array if right else [])
    right = right and table.size > 0
    if not right or (name != "local" and not np.isfinite(table.to_numpy()).all()):
        fault = "is not a row of finite numbers for each frame, each frame once"
        raise BadInput(file, fault, "restore it, or extract these features anew")
    return table.where(table.notna().all(axis=1))
