"""What `micromacro faces VIDEO OUT` writes: crops, table, film and contact sheet, all or nothing."""

import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from micromacro.clip import FaceClip, save_clip
from micromacro.errors import BadInput
from micromacro.faces.extract import extract_faces
from micromacro.files import existing
from micromacro.video import write_video

# The contact sheet: a clip at a glance, with the frames where something happened.
MOST_TILES = 40
COLUMNS = 8
TILE_PX = 144
CAPTION_PX = 40
GAP_PX = 10
TITLE_PX = 18  # height of a title line
TITLE_LINE = 175  # characters a title line holds at this width
PAPER, INK, QUIET = (255, 255, 255), (25, 25, 25), (110, 110, 110)


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
        out: Folder, made if missing, where the stem is that of the source; or a name in `.npz`.
        mode: As the following, see `extract_faces`.
        size: Side of the crops, pixels.
        backend: "mtcnn" or "yunet".
        weights: ONNX file of YuNet.
        sha256: Hash of a weights file of your own.
        select: Whom to follow.
        fps: Frames per second of a folder.
        progress: Show a bar on a terminal.

    Returns:
        One line: what was found, what to know about it, frames per second, where it lies.

    Raises:
        BadInput: Unusable source or option, no face anywhere, `out` cannot be written or would
            replace something else. Nothing is written then.
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


def sheet_frames(clip: FaceClip, most: int = MOST_TILES) -> list[int]:
    """Frame numbers worth a look: half for cuts, losses and returns, the rest evenly spread.

    Args:
        clip: T frames.
        most: Largest number of frames, at least 4.

    Returns:
        Rising frame numbers, at most `most`, the first and the last frame among them.
    """
    T = len(clip)
    if most >= T:
        return list(range(T))
    kind = np.where(np.isin(clip.status, ("interp", "none")), clip.status, "found")
    turns = np.flatnonzero((np.diff(clip.shot) != 0) | (kind[1:] != kind[:-1])) + 1
    events = np.unique(np.concatenate([turns - 1, turns]))
    if len(events) > most // 2:
        events = events[np.linspace(0, len(events) - 1, most // 2).round().astype(int)]
    spread = np.linspace(0, T - 1, most - len(events)).round().astype(int)
    return np.unique(np.concatenate([events, spread])).tolist()


def contact_sheet(clip: FaceClip, title: str = "") -> Image.Image:
    """Up to 40 crops, each with its frame number, time and status.

    The status is written and has a shape: disc track, square detect, ring interp, cross none. A
    black bar on the left of a tile marks the first frame after a cut.
    """
    chosen = sheet_frames(clip)
    columns = min(COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    lines = _wrap(title, columns * TITLE_LINE // COLUMNS)
    top = GAP_PX + TITLE_PX * len(lines)
    width = GAP_PX + columns * (TILE_PX + GAP_PX)
    height = top + GAP_PX + rows * (TILE_PX + CAPTION_PX + GAP_PX)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        draw.text((GAP_PX, GAP_PX + i * TITLE_PX), line, fill=INK, font=_font(14))
    for i, frame in enumerate(chosen):
        x = GAP_PX + i % columns * (TILE_PX + GAP_PX)
        y = top + GAP_PX + i // columns * (TILE_PX + CAPTION_PX + GAP_PX)
        _tile(sheet, draw, clip, frame, (x, y))
    return sheet


def _tile(sheet: Image.Image, draw, clip: FaceClip, frame: int, at: tuple[int, int]) -> None:
    x, y = at
    status = str(clip.status[frame])
    crop = clip.frames[frame].transpose(1, 2, 0)
    picture = Image.fromarray(crop if crop.shape[2] == 3 else crop[..., 0])
    sheet.paste(picture.resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS), (x, y))
    if status == "none":
        draw.rectangle((x, y, x + TILE_PX - 1, y + TILE_PX - 1), fill=(235, 235, 235))
        draw.text((x + TILE_PX / 2, y + TILE_PX / 2), "no face", QUIET, _font(15), anchor="mm")
    if frame and clip.shot[frame] != clip.shot[frame - 1]:
        draw.rectangle((x - 7, y, x - 3, y + TILE_PX - 1), fill=INK)
    draw.text((x, y + TILE_PX + 3), f"{frame}", INK, _font(15))
    seconds = f"{clip.t_s[frame]:.2f} s"
    draw.text((x + TILE_PX, y + TILE_PX + 5), seconds, QUIET, _font(13), anchor="ra")
    _mark(draw, status, (x + 6, y + TILE_PX + 30))
    draw.text((x + 18, y + TILE_PX + 22), status, INK, _font(13))
    if clip.n_faces[frame] > 1:
        faces = f"{clip.n_faces[frame]} faces"
        draw.text((x + TILE_PX, y + TILE_PX + 22), faces, QUIET, _font(13), anchor="ra")


def _mark(draw, status: str, middle: tuple[int, int]) -> None:
    """The status as a shape that reads without colour."""
    x, y = middle
    box = (x - 5, y - 5, x + 5, y + 5)
    if status == "track":
        draw.ellipse(box, fill=INK)
    elif status == "detect":
        draw.rectangle(box, fill=INK)
    elif status == "interp":
        draw.ellipse(box, outline=INK, width=2)
    else:
        draw.line(box, fill=INK, width=2)
        draw.line((x - 5, y + 5, x + 5, y - 5), fill=INK, width=2)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _wrap(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` characters, broken at blanks."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
