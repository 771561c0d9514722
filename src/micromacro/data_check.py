"""``micromacro data check NAME PATH``: what of an official data set is there, missing, or wrong."""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath

from tqdm import tqdm

from micromacro.errors import BadInput
from micromacro.systems.mimamo.data import LabelledClips, read_affwild, read_affwild2, read_omg
from micromacro.systems.mimamo.data.faces import check_label_count, frame_files
from micromacro.systems.mimamo.data.protocol import SNIPPET_FRAMES
from micromacro.video import probe

READERS: dict[str, Callable[..., LabelledClips]] = {
    "omg": read_omg,
    "affwild": read_affwild,
    "affwild2": read_affwild2,
}
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
    taken, which may be wrong; of a folder of faces only the names are read. Nothing is written.

    Args:
        name: "omg", "affwild" or "affwild2".
        path: Root of the data set; data/README.md shows what belongs there.
        progress: Show a bar on stderr.

    Raises:
        BadInput: Unknown name, no such folder, or nothing official in it.
    """
    if name not in READERS:
        raise BadInput(f"data set {name!r}", "is unknown", f"use {', '.join(READERS)}")
    clips = READERS[name](path, strict=False)
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
    details = [f"wrong     {fault}" for fault in faults]
    details += [f"missing   {line}" for line in _by_folder(clips.missing)]
    details += [f"unlisted  {line}" for line in _by_folder(clips.unlisted)]
    more = len(details) - MOST_LINES
    lines = _counts(name, path, clips, len(faults), short, rest) + details[:MOST_LINES]
    return Report((*lines, *([f"and {more} more"] if more > 0 else [])), not details)


def _count_frames(source: Path, n_labels: int) -> int | None:
    """Frames of a film by its header (None: not said) or of aligned faces by their highest number."""
    if source.is_dir():
        return max(n_labels, max(frame_files(source)) + 1)
    n_frames = probe(source).n_frames
    if n_frames is not None:
        check_label_count(str(source), n_labels, n_frames)
    return n_frames


def _counts(
    name: str, path: str | Path, clips: LabelledClips, wrong: int, short: int, rest: int
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
    found = {"wrong": wrong, "missing": len(clips.missing), "unlisted": len(clips.unlisted)}
    lines.append("  " + ", ".join(f"{count} {what}" for what, count in found.items()))
    return lines


def _by_folder(paths: tuple[str, ...]) -> list[str]:
    """One line a folder, so that one dead link is one line."""
    groups: dict[str, list[str]] = {}
    for path in map(PurePath, paths):
        groups.setdefault(path.parent.as_posix(), []).append(path.name)
    return [
        f"{folder}/{names[0]}" + (f" and {len(names) - 1} more there" if len(names) > 1 else "")
        for folder, names in groups.items()
    ]


def show(name: str, path: str | Path) -> bool:
    """Print the report of a check; whether all is fine."""
    report = check(name, path, progress=sys.stderr.isatty())
    print("\n".join(report.lines))
    return report.fine
