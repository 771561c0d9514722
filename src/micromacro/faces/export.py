"""What `micromacro faces VIDEO OUT` writes: crops, table, film and contact sheet, all or nothing."""

import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from micromacro.clip import FORMAT, FaceClip, save_clip
from micromacro.errors import BadInput
from micromacro.faces.extract import extract_faces
from micromacro.faces.mesh import face_mesh
from micromacro.files import WRITABLE, existing
from micromacro.video import write_video
from micromacro.weights import fetch_weights

# The contact sheet: a clip at a glance, with the frames where something happened.
MOST_TILES = 40
COLUMNS = 8
TILE_PX = 144
CAPTION_PX = 40
GAP_PX = 10
TITLE_PX = 18  # height of a title line
TITLE_LINE = 175  # characters a title line holds at this width
MESH_ENDINGS = ("_mesh.csv", "_mesh.npy")  # beside a clip, if they are asked for
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
    mesh: bool = False,
    mesh_weights: str | Path | None = None,
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
        mesh: Also write <stem>_mesh.csv, a row a frame: the head's pose, AU-like features, 52
            blendshapes; and <stem>_mesh.npy, 478 landmarks of each frame. 15 ms a frame more.
        mesh_weights: Your own copy of face_landmarker.task, which the mesh needs; implies mesh.

    Returns:
        One line: what was found, what to know about it, frames per second, where it lies.

    Raises:
        BadInput: Unusable source or option, no face anywhere, `out` cannot be written or would
            replace something else. Nothing is written then.

    Examples:
      micromacro faces interview.mp4 faces/
      micromacro faces frames/ smile.npz --fps 200 --mode aligned --size 112
      micromacro faces interview.mp4 faces/ --mesh
    """
    source, out = existing(source), Path(out)
    mesh = mesh or mesh_weights is not None
    targets = _targets(source, out, mode, mesh)
    if mesh:  # what is missing is missed here, before hours of work
        mesh_weights = fetch_weights("face_landmarker", path=mesh_weights)
    folder = place = targets[0].parent
    while not place.exists():  # what is built must lie on the file system of its target
        place = place.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".faces-", dir=place) as name:
            began = time.perf_counter()
            options = {"mode": mode, "size": size, "backend": backend, "weights": weights}
            options |= {"sha256": sha256, "select": select, "fps": fps, "progress": True}
            clip = extract_faces(source, **options, strict=True)
            rate = len(clip) / (time.perf_counter() - began)
            line = "; ".join([clip.summary(), *clip.settings["notes"], f"{rate:.0f} frames/s"])
            parts = [Path(name) / target.name for target in targets]
            film, sheet, _, crops = parts[-4:]
            write_video(film, (np.moveaxis(f, 0, -1) for f in clip.frames), t_s=clip.t_s)
            contact_sheet(clip, line).save(sheet)
            save_clip(clip, crops)  # and the table
            if mesh:
                laid = face_mesh(source, clip, weights=mesh_weights)
                laid.table().assign(t_s=clip.t_s).to_csv(parts[0], index_label="frame")
                np.save(parts[1], laid.landmarks)
            folder.mkdir(parents=True, exist_ok=True)
            for part, target in zip(parts, targets, strict=True):
                part.replace(target)
    except OSError as error:
        raise BadInput(folder, f"cannot be written ({error.strerror})", WRITABLE) from error
    more = "".join(f", {ending}" for ending in MESH_ENDINGS if mesh)
    return f"{line}; wrote {targets[-1]} and, beside it, .csv, _{mode}.mp4, _sheet.png{more}"


def _targets(source: Path, out: Path, mode: str, mesh: bool) -> list[Path]:
    """The four files, the npz last: film, sheet, table, crops; those of a mesh before them."""
    folder, stem = out, source.stem if source.is_file() else source.resolve().name
    if out.suffix == ".npz":
        folder, stem = out.parent, out.stem
    endings = (*(MESH_ENDINGS if mesh else ()), f"_{mode}.mp4", "_sheet.png", ".csv", ".npz")
    targets = [folder / f"{stem}{ending}" for ending in endings]
    standing = [target for target in targets if target.exists()]
    for target in standing:
        if target.is_dir():
            raise BadInput(target, "is a folder", "choose another OUT")
        if target.samefile(source):
            raise BadInput(target, "is the film itself", "choose another OUT")
    if standing and not _is_clip(targets[-1]):
        raise BadInput(standing[-1], "exists and is not ours", "choose another OUT or remove it")
    return targets


def _is_clip(path: Path) -> bool:
    """Whether `path` was written by `save_clip`."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return FORMAT in str(stored["about"])
    except Exception:  # whatever a foreign file makes numpy raise
        return False


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

    A black bar on the left of a tile marks the first frame after a cut; "no face" stands in the
    tile of a frame without one.
    """
    chosen = sheet_frames(clip)
    columns = min(COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    lines = textwrap.wrap(title, columns * TITLE_LINE // COLUMNS)
    top = GAP_PX + TITLE_PX * len(lines)
    width = GAP_PX + columns * (TILE_PX + GAP_PX)
    height = top + GAP_PX + rows * (TILE_PX + CAPTION_PX + GAP_PX)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        draw.text((GAP_PX, GAP_PX + i * TITLE_PX), line, INK, font_size=14)
    for i, frame in enumerate(chosen):
        x = GAP_PX + i % columns * (TILE_PX + GAP_PX)
        y = top + GAP_PX + i // columns * (TILE_PX + CAPTION_PX + GAP_PX)
        _tile(sheet, clip, frame, (x, y))
    return sheet


def _tile(sheet: Image.Image, clip: FaceClip, frame: int, corner: tuple[int, int]) -> None:
    (x, y), below, draw = corner, corner[1] + TILE_PX, ImageDraw.Draw(sheet)
    status = str(clip.status[frame])
    crop = clip.frames[frame].transpose(1, 2, 0)
    picture = Image.fromarray(crop if crop.shape[2] == 3 else crop[..., 0])
    sheet.paste(picture.resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS), corner)
    if status == "none":
        draw.rectangle((x, y, x + TILE_PX - 1, below - 1), fill=(235, 235, 235))
        middle = (x + TILE_PX / 2, y + TILE_PX / 2)
        draw.text(middle, "no face", QUIET, font_size=15, anchor="mm")
    if frame and clip.shot[frame] != clip.shot[frame - 1]:
        draw.rectangle((x - 7, y, x - 3, below - 1), fill=INK)
    draw.text((x, below + 3), f"{frame}", INK, font_size=15)
    draw.text((x, below + 22), status, INK, font_size=13)
    at_right = {"font_size": 13, "anchor": "ra"}
    draw.text((x + TILE_PX, below + 5), f"{clip.t_s[frame]:.2f} s", QUIET, **at_right)
    if clip.n_faces[frame] > 1:
        draw.text((x + TILE_PX, below + 22), f"{clip.n_faces[frame]} faces", QUIET, **at_right)
