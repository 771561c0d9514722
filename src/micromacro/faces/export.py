"""What `micromacro faces VIDEO OUT` writes: crops, table, film and contact sheet, all or nothing."""

import tempfile
import time
from pathlib import Path

import numpy as np

from micromacro.clip import FaceClip, save_clip
from micromacro.errors import BadInput
from micromacro.faces.extract import extract_faces
from micromacro.faces.sheet import contact_sheet
from micromacro.files import existing
from micromacro.video import write_video


def export_faces(
    source: str | Path,
    out: str | Path,
    *,
    mode: str = "stabilised",
    size: int = 224,
    backend: str = "mtcnn",
    weights: str | Path | None = None,
    sha256: str | None = None,
    select: str = "auto",
    fps: float | None = None,
    progress: bool = False,
) -> str:
    """Extract the faces of a film into four files.

    `<stem>.npz` and `<stem>.csv` hold the FaceClip (format: `micromacro.clip`), `<stem>_<mode>.mp4`
    the crops with the film's own time stamps, `<stem>_sheet.png` a contact sheet. They are built in
    a temporary folder and moved at the end; files of an earlier run are replaced.

    Args:
        source: Video file or folder of images.
        out: Folder, made if missing, where the stem is that of the source; or a name in .npz.
        mode: How the face is held: stabilised (the default), aligned, first_frame or per_frame.
        size: Side of the crops in pixels (224).
        backend: Detector: mtcnn (the default) or yunet.
        weights: ONNX file of YuNet.
        sha256: Expected checksum of a weights file of your own.
        select: Which face, if there are several; see extract_faces (auto).
        fps: Frames per second of a folder of images.
        progress: Show a bar on a terminal.

    Returns:
        One line: what was found, what to know about it, frames per second, where it lies.

    Raises:
        BadInput: Unusable source or option, no face anywhere, `out` cannot be written or would
            replace something else. Nothing is written then.

    Examples:
      micromacro faces interview.mp4 faces/
      micromacro faces frames/ smile.npz --fps 200 --mode aligned --size 112
    """
    source = existing(source)
    targets = _targets(source, Path(out), mode)
    with _workshop(targets[-1].parent) as name:
        began = time.perf_counter()
        clip = extract_faces(
            source,
            mode=mode,
            size=size,
            backend=backend,
            weights=weights,
            sha256=sha256,
            select=select,
            fps=fps,
            strict=True,
            progress=progress,
        )
        line = _summary(clip, len(clip) / (time.perf_counter() - began))
        parts = [Path(name) / target.name for target in targets]
        film, sheet, _, npz = parts
        try:
            write_video(film, (np.moveaxis(f, 0, -1) for f in clip.frames), t_s=clip.t_s)
            contact_sheet(clip, line).save(sheet)
            save_clip(clip, npz)
        except OSError as error:
            fault = f"cannot be written ({error.strerror})"
            raise BadInput(targets[-1].parent, fault, "make room, or choose another OUT") from error
        _move(parts, targets)
    return f"{line}; wrote {targets[-1]} and, beside it, .csv, _{mode}.mp4, _sheet.png"


def _targets(source: Path, out: Path, mode: str) -> list[Path]:
    """The four files, the npz last: film, sheet, table, crops."""
    if out.suffix == ".npz":
        folder, stem = out.parent, out.stem
    else:
        folder, stem = out, source.stem if source.is_file() else source.resolve().name
    endings = (f"_{mode}.mp4", "_sheet.png", ".csv", ".npz")
    targets = [folder / f"{stem}{ending}" for ending in endings]
    for target in targets:
        if target.is_dir():
            raise BadInput(target, "is a folder", "choose another OUT")
        if target.exists() and target.samefile(source):
            raise BadInput(target, "is the film itself", "choose another OUT")
    there = [target for target in targets if target.exists()]
    if there and not _is_clip(targets[-1]):
        raise BadInput(there[-1], "exists and is not ours", "choose another OUT or remove it")
    return targets


def _is_clip(path: Path) -> bool:
    """Whether `path` was written by `save_clip`."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return "micromacro.FaceClip" in str(stored["about"])
    except Exception:  # whatever a foreign file makes numpy raise
        return False


def _workshop(folder: Path) -> tempfile.TemporaryDirectory:
    """A temporary folder on the file system of `folder`, which need not exist yet."""
    place = folder
    while not place.exists():
        place = place.parent
    try:
        return tempfile.TemporaryDirectory(prefix=".faces-", dir=place)
    except OSError as error:
        fault = f"cannot be written ({error.strerror})"
        raise BadInput(place, fault, "choose an OUT in a folder that is writable") from error


def _move(parts: list[Path], targets: list[Path]) -> None:
    folder = targets[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part, target in zip(parts, targets, strict=True):
            part.replace(target)
    except OSError as error:
        fault = f"cannot be written ({error.strerror})"
        raise BadInput(folder, fault, "choose another OUT") from error


def _summary(clip: FaceClip, rate: float) -> str:
    notes = "".join(f"; {note}" for note in clip.settings["notes"])
    return f"{clip.summary()}{notes}; {rate:.0f} frames/s"
