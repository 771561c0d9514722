"""``micromacro data check NAME PATH``: what of an official data set is there, missing, or wrong."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from tqdm import tqdm

from micromacro.errors import BadInput
from micromacro.systems.akmnet.data import (
    CLASSES,
    LABEL_MAPS,
    OFFICIAL_COUNTS,
    UNLABELLED,
    MicroClips,
    check_sizes,
    read_casme,
    read_casme2,
    read_samm,
    read_smic,
    relabel,
)
from micromacro.systems.mimamo.data import LabelledClips, read_affwild, read_affwild2, read_omg
from micromacro.systems.mimamo.data.faces import check_label_count, frame_files
from micromacro.systems.mimamo.data.protocol import SNIPPET_FRAMES
from micromacro.video import probe

MOST_LINES = 20  # of particulars; the rest is counted


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        lines: Counts first, then particulars.
        fine: Whether nothing is missing, wrong or left over.
    """

    lines: tuple[str, ...]
    fine: bool


def check(name: str, path: str | Path, *, progress: bool = False) -> Report:
    """Compare an official data set on this disk with its own sheets.

    Every sheet is read whole. Of a film one frame is decoded and the header's number of frames is
    taken, which may be wrong; of a folder of faces only the names are read; of the pictures of a
    micro-expression clip all headers are read. Nothing is written.

    Args:
        name: A key of `CHECKS`.
        path: Root of the data set; data/README.md shows what belongs there.
        progress: Show a bar on stderr.

    Raises:
        BadInput: Unknown name, no such folder, or nothing official in it.
    """
    if name not in CHECKS:
        raise BadInput(f"data set {name!r}", "is unknown", f"use {', '.join(CHECKS)}")
    reader, compare = CHECKS[name]
    return compare(name, path, reader(path, strict=False), progress)


def _check_films(name: str, path: str | Path, clips: LabelledClips, progress: bool) -> Report:
    faults, short, rest = [str(fault) for fault in clips.faults], 0, 0
    rows = zip(clips.table["path"], clips.labels, strict=True)
    for source, labels in tqdm(rows, name, len(clips), unit="clip", disable=not progress):
        n_labels = len(labels) if labels.ndim == 2 else 0
        try:
            n_frames = _count_frames(Path(source), n_labels)
        except BadInput as error:
            faults.append(str(error))
            continue
        short += n_frames is not None and n_frames < SNIPPET_FRAMES
        rest += n_frames is not None and 0 < n_labels < n_frames
    counts = _count_films(name, path, clips, short, rest)
    return _report(counts, faults, clips.missing, clips.unlisted)


def _count_frames(source: Path, n_labels: int) -> int | None:
    """Frames of a film by its header (None: not said) or of aligned faces by their highest number."""
    if source.is_dir():
        return max(n_labels, max(frame_files(source)) + 1)
    n_frames = probe(source).n_frames
    if n_frames is not None:
        check_label_count(str(source), n_labels, n_frames)
    return n_frames


def _count_films(
    name: str, path: str | Path, clips: LabelledClips, short: int, rest: int
) -> list[str]:
    folders = sum(Path(source).is_dir() for source in clips.table["path"])
    absent = Counter(line.partition("/")[0] for line in clips.missing)
    lines = [f"{name} in {path}"]
    for split, listed in clips.listed.items():
        there = int((clips.table["split"] == split).sum())
        lines.append(f"  {split}: {listed} clips listed, {there} there, {absent[split]} missing")
    lines.append(f"  {len(clips) - folders} films, {folders} folders of aligned faces")
    if short:
        lines.append(f"  {short} clips below {SNIPPET_FRAMES} frames: too short for a snippet")
    if rest:
        lines.append(f"  {rest} films go on after their last label: the rest counts as unlabelled")
    return lines


def _check_pictures(name: str, path: str | Path, clips: MicroClips, progress: bool) -> Report:
    faults = [str(fault) for fault in clips.faults]
    rows = clips.table.iterrows()
    for _, row in tqdm(rows, name, len(clips), unit="clip", disable=not progress):
        try:
            check_sizes(row)
        except BadInput as error:
            faults.append(str(error))
    known = [folder for folder in clips.unlisted if folder in UNLABELLED.get(name, ())]
    counts = _count_pictures(name, path, clips, known)
    return _report(counts, faults, clips.missing, sorted(set(clips.unlisted) - set(known)))


def _count_pictures(name: str, path: str | Path, clips: MicroClips, known: list[str]) -> list[str]:
    table = clips.table
    there = f"{clips.listed} clips listed, {len(table)} read, {len(clips.missing)} missing"
    lines = [f"{name} in {path}", f"  {clips.pictures} pictures: {there}"]
    if len(table):
        length = table["offset"] - table["onset"] + 1
        people = table["subject"].nunique()
        lines.append(f"  {people} subjects, {length.min()} to {length.max()} frames a clip")
    for label_map in (key for key, covered in LABEL_MAPS.items() if name in covered):
        counts = Counter(relabel(table, label_map)["label"])
        classes = list(enumerate(CLASSES[label_map]))
        found = ", ".join(f"{counts[number]} {word}" for number, word in classes)
        expected = ", ".join(map(str, OFFICIAL_COUNTS[label_map, name]))
        lines.append(f"  {label_map}: {found} (all clips: {expected})")
    if known:
        lines.append(f"  without a label, as is known, and left out: {', '.join(known)}")
    return lines


def _report(
    counts: list[str], faults: list[str], missing: Iterable[str], unlisted: Iterable[str]
) -> Report:
    found = {"wrong": faults, "missing": list(missing), "unlisted": list(unlisted)}
    counts.append("  " + ", ".join(f"{len(items)} {what}" for what, items in found.items()))
    details = [f"wrong     {fault}" for fault in faults]
    details += [f"missing   {line}" for line in _by_folder(found["missing"])]
    details += [f"unlisted  {line}" for line in _by_folder(found["unlisted"])]
    more = len(details) - MOST_LINES
    lines = counts + details[:MOST_LINES] + ([f"and {more} more"] if more > 0 else [])
    return Report(tuple(lines), not details)


def _by_folder(paths: Iterable[str]) -> list[str]:
    """One line a folder, so that one dead link is one line."""
    groups: dict[str, list[str]] = {}
    for path in map(PurePath, paths):
        groups.setdefault(path.parent.as_posix(), []).append(path.name)
    return [
        f"{folder}/{names[0]}" + (f" and {len(names) - 1} more there" if len(names) > 1 else "")
        for folder, names in groups.items()
    ]


# name -> reader(path, strict=...), and what compares the clips that it gives with the disk
CHECKS: dict[str, tuple[Callable, Callable[..., Report]]] = {
    "omg": (read_omg, _check_films),
    "affwild": (read_affwild, _check_films),
    "affwild2": (read_affwild2, _check_films),
    "casme": (read_casme, _check_pictures),
    "casme2": (read_casme2, _check_pictures),
    "smic": (read_smic, _check_pictures),
    "samm": (read_samm, _check_pictures),
}


def show(name: str, path: str | Path) -> bool:
    """Print the report of a check; whether all is fine.

    Args:
        name: The data set: omg, affwild, affwild2, casme, casme2, smic or samm.
        path: Its root folder, see data/README.md.

    Examples:
      micromacro data check omg /data/omg
      micromacro data check affwild2 /data/affwild2 || echo "not complete"
    exit status: 0 all there and sound, 1 something missing, wrong or unlisted, 2 bad input
    """
    report = check(name, path, progress=sys.stderr.isatty())
    print("\n".join(report.lines))
    return report.fine
