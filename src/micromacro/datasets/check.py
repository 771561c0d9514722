"""``micromacro data check NAME PATH``: what of an official data set is there, missing, or wrong."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath

import numpy as np
import pandas as pd
from tqdm import tqdm

from micromacro.datasets import afew, hume, micro
from micromacro.datasets.affect import read_affwild, read_affwild2, read_omg
from micromacro.datasets.frames import check_label_count, check_sizes, face_files
from micromacro.datasets.long import LongVideos, casme_squared, megc2022, samm_lv
from micromacro.datasets.table import Listing
from micromacro.errors import BadInput, check_choice
from micromacro.video import probe

MOST_LINES = 20  # of particulars; the rest is counted
SNIPPET_FRAMES = 13  # of MIMAMO Net: a shorter film has no snippet


@dataclass(frozen=True)
class Report:
    """What a check gives.

    Attributes:
        lines: Counts first, then particulars.
        fine: Whether nothing is missing, wrong or left over.
    """

    lines: tuple[str, ...]
    fine: bool


def check(name: str, path: str | Path) -> Report:
    """Compare an official data set on this disk with its own sheets.

    Every sheet is read whole. Of a film one frame is decoded and the header's number of frames is
    taken, which may be wrong; of a folder of faces only the names are read; of the pictures of a
    micro-expression clip or a long video all headers are read; features are read whole. Nothing is
    written.

    Args:
        name: A key of `CHECKS`.
        path: Root of the data set; data/README.md shows what belongs there.

    Raises:
        BadInput: Unknown name, no such folder, or nothing official in it.
    """
    check_choice("data set", name, CHECKS)
    read, check_clip, summary = CHECKS[name]
    listing = read(path, strict=False)
    faults, frames = [str(fault) for fault in listing.faults], []
    table = listing.videos if isinstance(listing, LongVideos) else listing.table
    rows = [row for _, row in table.iterrows()]
    for index, row in enumerate(tqdm(rows, name, unit="clip", disable=None)):
        try:
            frames.append(check_clip(listing, index, row))
        except BadInput as error:
            faults.append(str(error))
    known = [f for f in listing.unlisted if f in micro.UNLABELLED.get(name, ())]
    unlisted = [folder for folder in listing.unlisted if folder not in known]
    lines, differs = summary(name, listing, frames)
    lines = [f"{name} in {path}", *lines]
    if differs and not (faults or listing.missing):
        fault = "counts are not those of the official data, though nothing is missing"
        faults.append(f"{path}: {fault}; get the official sheet, and all that belongs to it")
    if known:
        lines.append(f"  without a label, as is known, and left out: {', '.join(known)}")
    counts = {"wrong": faults, "missing": listing.missing, "unlisted": unlisted}
    lines.append("  " + ", ".join(f"{len(items)} {kind}" for kind, items in counts.items()))
    details = [f"wrong     {fault}" for fault in faults]
    details += [f"missing   {line}" for line in _by_folder(listing.missing)]
    details += [f"unlisted  {line}" for line in _by_folder(unlisted)]
    more = len(details) - MOST_LINES
    lines += details[:MOST_LINES] + ([f"and {more} more"] if more > 0 else [])
    return Report(tuple(lines), not details)


def show(name: str, path: str | Path) -> bool:
    """Print the report of a check; whether all is fine.

    Args:
        name: The data set: omg, affwild, affwild2, casme, casme2, smic, samm, samm-lv,
            casme-squared, megc2022-samm, megc2022-cas, hume or afew.
        path: Its root folder, see data/README.md.

    Examples:
      micromacro data check omg /data/omg
      micromacro data check affwild2 /data/affwild2 || echo "not complete"
    exit status: 0 all there and sound, 1 something missing, wrong or unlisted, 2 bad input
    """
    report = check(name, path)
    print("\n".join(report.lines))
    return report.fine


def _by_folder(paths: Iterable[str]) -> list[str]:
    """One line a folder, so that one dead link is one line."""
    groups: dict[str, list[str]] = {}
    for path in map(PurePath, paths):
        groups.setdefault(path.parent.as_posix(), []).append(path.name)
    return [
        f"{folder}/{names[0]}" + (f" and {len(names) - 1} more there" if len(names) > 1 else "")
        for folder, names in groups.items()
    ]


def _there(listing: Listing) -> dict[str, str]:
    """Split -> how many of its clips are listed and there."""
    there = listing.table["split"].value_counts()
    return {s: f"{n} clips listed, {there.get(s, 0)} there" for s, n in listing.listed.items()}


# ---- films and folders of aligned faces ----------------------------------------------------------


def _check_film(listing: Listing, index: int, row: pd.Series) -> tuple[int | None, int]:
    """Frames of a film by its header (None: not said) or of aligned faces by number; and labels."""
    labels, path = listing.labels[index], Path(row["path"])
    n_labels = len(labels) if labels.ndim == 2 else 0
    if path.is_dir():
        return max(n_labels, max(face_files(path, n_labels)) + 1), n_labels
    n_frames = probe(path).n_frames
    if n_frames is not None:
        check_label_count(path, n_labels, n_frames)
    return n_frames, n_labels


def _sum_up_films(name: str, listing: Listing, frames: list) -> tuple[list[str], bool]:
    absent, lines = Counter(line.partition("/")[0] for line in listing.missing), []
    for split, there in _there(listing).items():
        inside, films = listing.table["split"] == split, listing.table["film"]
        lines.append(f"  {split}: {there}, {absent[split]} missing")
        if shared := int(films[inside].isin(films[~inside]).sum()):
            lines.append(f"  {split}: {shared} clips are of films that another split has parts of")
    folders = sum(Path(path).is_dir() for path in listing.table["path"])
    lines.append(f"  {len(listing) - folders} films, {folders} folders of aligned faces")
    short = sum(n is not None and n < SNIPPET_FRAMES for n, _ in frames)
    rest = sum(n is not None and 0 < n_labels < n for n, n_labels in frames)
    if short:
        lines.append(f"  {short} clips below {SNIPPET_FRAMES} frames: too short for a snippet")
    if rest:
        lines.append(f"  {rest} films go on after their last label: the rest counts as unlabelled")
    return lines, False  # links die, and Aff-Wild2 has had several official splits


# ---- micro-expression clips: folders of pictures -------------------------------------------------


def _check_pictures(listing: Listing, index: int, row: pd.Series) -> None:
    check_sizes(row)


def _sum_up_pictures(name: str, listing: Listing, frames: list) -> tuple[list[str], bool]:
    table, listed = listing.table, listing.listed[""]
    there = f"{listed} clips listed, {len(table)} read, {len(listing.missing)} missing"
    lines = [f"  {listing.pictures} pictures: {there}"]
    differs = name == "casme" and len(table) != micro.CASME_CLIPS  # not all its classes are known
    if len(table):
        length = table["offset"] - table["onset"] + 1
        people = table["subject"].nunique()
        lines.append(f"  {people} subjects, {length.min()} to {length.max()} frames a clip")
    for (label_map, dataset), official in micro.OFFICIAL_COUNTS.items():
        if dataset == name:
            counts = Counter(micro.relabel(table, label_map)["label"])
            classes = [*enumerate(micro.CLASSES[label_map])]
            differs |= name != "casme" and [*official] != [counts[number] for number, _ in classes]
            here = ", ".join(f"{counts[number]} {word}" for number, word in classes)
            expected = ", ".join(map(str, official))
            lines.append(f"  {label_map}: {here} (all clips: {expected})")
    return lines, differs


# ---- long videos ---------------------------------------------------------------------------------


OFFICIAL_VIDEOS = {  # frames are said, but not compared: nobody here has the pictures
    "samm-lv": ("147 videos of 30 people, 159 micro, 343 macro", 482797),
    "casme-squared": ("98 videos of 22 people, 57 micro, 300 macro", 254094),
}


def _check_video(listing: LongVideos, index: int, row: pd.Series) -> None:
    if Path(row["path"]).is_dir():
        whole = {"first": 1, "onset": 0, "offset": row["n_frames"] - 1}
        check_sizes(pd.Series({"path": row["path"], **whole}))


def _sum_up_videos(name: str, listing: LongVideos, frames: list) -> tuple[list[str], bool]:
    videos, events = listing.videos, listing.events
    here = f"{len(videos)} videos of {videos['subject'].nunique()} people"
    n_frames = videos["n_frames"].sum()
    if not listing.sheet:
        return [f"  {listing.pictures}: {here}, {n_frames} frames"], False
    micro, macro = ((events["label"] == label).sum() for label in ("micro", "macro"))
    here += f", {micro} micro, {macro} macro"
    lines = [f"  {listing.pictures}, {listing.sheet}: {here}, {n_frames} frames"]
    official, total = OFFICIAL_VIDEOS[name]
    lines.append(f"  complete: {official}, {total} frames")
    silent = len(videos) - events["video"].nunique()
    unknown = (events["apex"] < 0).sum()
    lines.append(f"  {silent} videos without an event, {unknown} events without an apex")
    return lines, here != official


# ---- features of filmed reactions ----------------------------------------------------------------


def _check_features(listing: Listing, index: int, row: pd.Series) -> tuple[dict, int]:
    """Shape of each modality that is there; and the number of frames without action units."""
    arrays = {name: array for name, array in hume.load(row).items() if array is not None}
    failed = int(np.isnan(arrays["local"]).all(axis=1).sum()) if "local" in arrays else 0
    return {name: array.shape for name, array in arrays.items()}, failed


def _sum_up_features(name: str, listing: Listing, clips: list) -> tuple[list[str], bool]:
    lines = [f"  {split}: {there}" for split, there in _there(listing).items()]
    for modality in hume.MODALITIES:
        shapes = np.array([clip[modality] for clip, _ in clips if modality in clip]).reshape(-1, 2)
        widths = ", ".join(map(str, np.unique(shapes[:, 1]))) or "no"
        extent = f", {shapes[:, 0].min()} to {shapes[:, 0].max()} rows" if len(shapes) else ""
        lines.append(f"  {modality}: {len(shapes)} clips, {widths} columns{extent}")
    failed = sum(n for _, n in clips)
    total = sum(clip["local"][0] for clip, _ in clips if "local" in clip)
    sounds = listing.table["sound"].notna().sum()
    lines.append(f"  {failed} of {total} frames without action units; {sounds} clips with sound")
    return lines, False  # the official counts are not known for certain


# ---- film clips with sound, one emotion each -----------------------------------------------------

OFFICIAL_CLIPS = {"train": (133, 74, 81, 150, 144, 117, 74), "val": (64, 40, 46, 63, 63, 61, 46)}
OFFICIAL_TEST = (653, 593)  # of 2017, and most likely of 2018; of 2016


def _check_clip(listing: Listing, index: int, row: pd.Series) -> tuple[str, int, bool, bool]:
    """Split; frames from the first face to the last; whether there is sound; and LBP-TOP."""
    seen, described = afew.load(row), isinstance(row["lbp_top"], str)
    if described:
        afew.load_lbp_top(row)
    shown = 0 if seen["faces"] is None else len(seen["faces"])
    return row["split"], shown, seen["sound"] is not None, described


def _sum_up_clips(name: str, listing: Listing, clips: list) -> tuple[list[str], bool]:
    lines, differs = [], False
    for split, official in OFFICIAL_CLIPS.items():
        labels = Counter(listing.table["label"][listing.table["split"] == split])
        differs |= tuple(labels[word] for word in afew.CLASSES) != official
        here = ", ".join(f"{labels[word]} {word}" for word in afew.CLASSES)
        expected = ", ".join(map(str, official))
        lines.append(f"  {split}: {labels.total()} clips, {here} (all clips: {expected})")
    if n := listing.listed["test"]:
        differs |= n not in OFFICIAL_TEST
        lines.append(f"  test: {n} clips (all clips: {' or '.join(map(str, OFFICIAL_TEST))})")
    for split in listing.listed:
        counts = np.array([clip[1:] for clip in clips if clip[0] == split], int).reshape(-1, 3)
        faces, (_, heard, described) = counts[counts[:, 0] > 0, 0], counts.sum(0)
        extent = f", {faces.min()} to {faces.max()} frames" if len(faces) else ""
        told = f"{described} with LBP-TOP, {heard} with sound"
        lines.append(f"  {split}: {len(faces)} clips with a face{extent}; {told}")
    return lines, differs


_FILMS, _PICTURES = (_check_film, _sum_up_films), (_check_pictures, _sum_up_pictures)
_VIDEOS = (_check_video, _sum_up_videos)
# name -> reader(path, strict=...), what looks at one clip, what counts
CHECKS: dict[str, tuple[Callable, Callable, Callable]] = {
    "omg": (read_omg, *_FILMS),
    "affwild": (read_affwild, *_FILMS),
    "affwild2": (read_affwild2, *_FILMS),
    **{name: (partial(micro.read, name), *_PICTURES) for name in micro.RELEASES},
    "samm-lv": (samm_lv, *_VIDEOS),
    "casme-squared": (casme_squared, *_VIDEOS),
    **{f"megc2022-{part}": (partial(megc2022, part=part), *_VIDEOS) for part in ("samm", "cas")},
    "hume": (hume.read_hume, _check_features, _sum_up_features),
    "afew": (afew.read_afew, _check_clip, _sum_up_clips),
}
