"""What `micromacro faces` writes: crops, table, film and contact sheet, all or nothing."""

import json
import os
import shutil
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from micromacro.clip import FORMAT, MODES, FaceClip, crops_of, save_clip
from micromacro.errors import BadInput
from micromacro.faces.extract import extract_faces, prepare
from micromacro.faces.mesh import face_mesh
from micromacro.files import existing, lock, named, writing
from micromacro.images import IMAGE_SUFFIXES
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
ENDINGS = ("_sheet.png", ".csv", ".npz")  # and _<mode>.mp4
MESH_ENDINGS = ("_mesh.csv", "_mesh.npy")  # beside a clip, if they are asked for
PRESET = "veryfast"  # of x264: 0.8 ms for a frame in place of 2.4, a fifth smaller, 0.4 dB less
_FILMS = "3gp asf avi dv flv h264 m2ts m2v m4v mkv mov mp4 mpeg mpg mts mxf ogv ts vob webm wmv y4m"
FILM_SUFFIXES = frozenset(f".{kind}" for kind in _FILMS.split())
PAPER, INK, QUIET = (255, 255, 255), (25, 25, 25), (110, 110, 110)


def export_faces(
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    mode: str = "stabilised",
    size: int = 224,
    backend: str = "mtcnn",
    weights: str | Path | None = None,
    sha256: str | None = None,
    select: str = "auto",
    fps: float | None = None,
    keep_damaged: bool = False,
    mesh: bool = False,
    mesh_weights: str | Path | None = None,
) -> str | bool:
    """Extract the faces of films, each into four files of its own name.

    `<stem>.npz` and `<stem>.csv` hold the FaceClip (format: `micromacro.clip`), `<stem>_<mode>.mp4`
    the crops with the film's own time stamps, `<stem>_sheet.png` a contact sheet. They are built in
    a temporary folder and moved at the end; those of an earlier run on the same film are replaced,
    those of another film never. Memory hardly grows with the film: crops wait on the disk of OUT.

    Of several films a line each is printed as they are done, and one that cannot be used does not
    stop the others. The stem is the film's name, or its path below the folder that was named; where
    two are alike, as much of the paths as tells them apart.

    Args:
        source: Video file, folder of images, or folder of films, searched with its subfolders;
            or several.
        out: Folder, made if missing, where the stem is that of the source; or a name in .npz.
        mode: How the face is held: stabilised (the default), aligned, first_frame or per_frame.
        size: Side of the crops in pixels (224).
        backend: Detector: mtcnn (the default) or yunet.
        weights: ONNX file of YuNet.
        sha256: Expected checksum of a weights file of your own.
        select: Which face, if there are several; see extract_faces (auto).
        fps: Frames per second of a folder of images, by the numbers in their names (30).
        keep_damaged: Go on after damage to the file; frames there are "none".
        mesh: Also write <stem>_mesh.csv, a row a frame: the head's pose, AU-like features, 52
            blendshapes; and <stem>_mesh.npy, 478 landmarks of each frame. 15 ms a frame more.
        mesh_weights: Your own copy of face_landmarker.task, which the mesh needs; implies mesh.

    Returns:
        Of one film a line: what was found, what to know about it, frames per second, where it lies.
        Of several whether all were done.

    Raises:
        BadInput: Unusable source or option, `out` cannot be written or would replace something
            else; of one film also no face anywhere. Nothing is written then.

    Examples:
      micromacro faces interview.mp4 faces/
      micromacro faces s1/clip.mp4 s2/clip.mp4 faces/
      micromacro faces films/ faces/
      micromacro faces frames/ smile.npz --fps 200 --mode aligned --size 112
      micromacro faces interview.mp4 faces/ --mesh
    """
    mesh = mesh or mesh_weights is not None
    options = {"mode": mode, "size": size, "backend": backend, "weights": weights}
    options |= {"sha256": sha256, "select": select}
    out = named(out)
    if out.is_file() and out.suffix != ".npz":
        raise BadInput(out, "is a file", "give a folder as OUT, behind the films")
    sources = [source] if isinstance(source, (str, Path)) else source
    films, others = find_films(sources, out)
    for film, stem in films.items():  # before hours of work
        _targets(film, out, stem, mode, mesh)
    bundle = fetch_weights("face_landmarker", path=mesh_weights) if mesh else None
    if len(films) > 1:
        prepare(**options)
    options |= {"fps": fps, "keep_damaged": keep_damaged}
    if len(films) == 1:
        ((film, stem),) = films.items()
        return _export(film, out, stem, options, bundle)
    failed = 0
    for film, stem in films.items():
        try:
            print(_export(film, out, stem, options, bundle), flush=True)
        except BadInput as error:
            failed += 1
            print(f"micromacro: {error}", file=sys.stderr, flush=True)
    kinds = ", ".join(sorted({file.suffix or file.name for file in others}))
    passed = f"; passed over {len(others)} other files ({kinds})" if others else ""
    print(f"{len(films) - failed} of {len(films)} films done{passed}")
    return not failed


def _export(film: Path, out: Path, stem: str, options: dict, bundle: Path | None) -> str:
    """Extract one film, with a mesh if there is a bundle of its networks; the line about it."""
    mode, mesh = options["mode"], bundle is not None
    targets = _targets(film, out, stem, mode, mesh)
    folder = place = targets[0].parent
    while not place.exists():  # what is built must lie on the file system of its target
        place = place.parent
    with writing(folder), _workshop(place) as here:
        began = time.perf_counter()
        options = options | {"progress": True, "strict": True, "store": here / "crops"}
        clip = extract_faces(film, **options)
        there = os.path.relpath(film.resolve(), folder.resolve())
        clip = replace(clip, settings=clip.settings | {"film": there})
        rate = len(clip) / (time.perf_counter() - began)
        line = "; ".join([clip.summary(), *clip.settings["notes"], f"{rate:.0f} frames/s"])
        parts = [here / target.name for target in targets]
        mp4, sheet, _, crops = parts[-4:]
        images = (np.moveaxis(crop, 0, -1) for crop in crops_of(clip.frames))
        write_video(mp4, images, t_s=clip.t_s, preset=PRESET)
        contact_sheet(clip, line).save(sheet)
        save_clip(clip, crops)  # and the table
        if mesh:
            laid = face_mesh(film, clip, weights=bundle)
            laid.table().assign(t_s=clip.t_s).to_csv(parts[0], index_label="frame")
            np.save(parts[1], laid.landmarks)
        folder.mkdir(parents=True, exist_ok=True)
        _targets(film, out, stem, mode, mesh)  # another process may have been faster
        for part, target in zip(parts, targets, strict=True):
            part.replace(target)
    more = "".join(f", {ending}" for ending in MESH_ENDINGS if mesh)
    return f"{line}; wrote {targets[-1]} and, beside it, .csv, _{mode}.mp4, _sheet.png{more}"


@contextmanager
def _workshop(place: Path) -> Iterator[Path]:
    """A temporary folder; what killed processes left at the same place goes before."""
    for left in place.glob(".faces-*/lock"):
        with suppress(OSError), left.open("rb") as held:
            if lock(held):
                shutil.rmtree(left.parent)
    with (
        tempfile.TemporaryDirectory(prefix=".faces-", dir=place) as name,
        (Path(name) / "new").open("wb") as held,
    ):
        with suppress(OSError):  # without locks nothing is removed either
            lock(held)
            (Path(name) / "new").rename(Path(name) / "lock")  # seen only when it is locked
        yield Path(name)


def find_films(sources: Sequence[str | Path], out: Path) -> tuple[dict[Path, str], list[Path]]:
    """What there is to extract.

    Args:
        sources: Films, folders of images, folders of films.
        out: Where results go; a name in .npz takes those of one film.

    Returns:
        Films and folders of images, each with the stem of its results, a path below `out`; and the
        files in folders of films that are neither.

    Raises:
        BadInput: A source is missing, or a folder holds nothing to read, or films beside pictures;
            several films and a single name.
    """
    films, others = {}, []  # films by where they really lie: as the user named them, their names
    for source in map(existing, sources):
        below, passed = _films_below(source) if source.is_dir() else ([source], [])
        for film in below:
            real = film.resolve()
            name = film.relative_to(source) if film != source else Path(film.name or real.name)
            films[real] = film, name
        others += passed
    if len(films) > 1 and out.suffix == ".npz":
        raise BadInput(out, f"is one name for {len(films)} films", "give a folder as OUT")
    common = os.path.commonpath([real.parent for real in films])
    longer = [real.relative_to(common) for real in films]
    stems, *ways = (
        [str(n if r.is_dir() else n.with_suffix("")) for n, r in zip(way, films, strict=True)]
        for way in ([name for _, name in films.values()], longer)
    )
    for way in (*ways, [str(name) for name in longer]):  # at last a.mp4 beside a.avi
        times = Counter(stems)
        stems = [w if times[s] > 1 else s for s, w in zip(stems, way, strict=True)]
    return dict(zip((film for film, _ in films.values()), stems, strict=True)), others


def _films_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Films and folders of images in a folder and its subfolders; and other files."""
    films, others, walked = [], [], set()
    for name, folders, files in os.walk(folder, followlinks=True):
        top = Path(name)
        if (real := top.resolve()) in walked:  # by another way, or round in a circle
            folders.clear()
            continue
        walked.add(real)
        folders[:] = [folder for folder in folders if folder[0] != "."]
        names = {name for name in files if name[0] != "."} - _results(top, files)
        pictures, here = (
            sorted(name for name in names if Path(name).suffix.lower() in suffixes)
            for suffixes in (IMAGE_SUFFIXES, FILM_SUFFIXES)
        )
        if pictures and here:
            fault = f"holds pictures beside films, such as {pictures[0]} and {here[0]}"
            raise BadInput(top, fault, "give the films by name, or move the pictures")
        if pictures:
            folders.clear()
        else:
            others += [top / name for name in sorted(names.difference(here))]
        films += [top] if pictures else [top / name for name in here]
    if not films:
        kinds = ", ".join(sorted(suffix[1:] for suffix in FILM_SUFFIXES | IMAGE_SUFFIXES))
        raise BadInput(folder, "holds neither films nor pictures", f"give a folder with {kinds}")
    return sorted(films), others


def _results(folder: Path, names: list[str]) -> set[str]:
    """Those of the files that an earlier run wrote."""
    stems = [n[:-4] for n in names if n.endswith(".npz") and _origin(folder / n)]
    endings = (*(f"_{mode}.mp4" for mode in MODES), *ENDINGS, *MESH_ENDINGS)
    return {f"{stem}{ending}" for stem in stems for ending in endings}


def _targets(film: Path, out: Path, stem: str, mode: str, mesh: bool) -> list[Path]:
    """The four files, the npz last: film, sheet, table, crops; those of a mesh before them."""
    base = out.with_suffix("") if out.suffix == ".npz" else out / stem
    endings = (*(MESH_ENDINGS if mesh else ()), f"_{mode}.mp4", *ENDINGS)
    targets = [base.with_name(f"{base.name}{end}") for end in endings]
    standing = [target for target in targets if target.exists()]
    for target in standing:
        if target.is_dir():
            raise BadInput(target, "is a folder", "choose another OUT")
        if target.samefile(film):
            raise BadInput(target, "is the film itself", "choose another OUT")
    if standing:
        origin = _origin(targets[-1])
        if origin is None:
            raise BadInput(
                standing[-1], "exists and is not ours", "choose another OUT or remove it"
            )
        source, theirs = origin
        if theirs != film.resolve():
            fault = f"holds the faces of another film, {source}"
            raise BadInput(targets[-1], fault, "name both films in one call, or choose another OUT")
    return targets


def _origin(path: Path) -> tuple[str, Path] | None:
    """Of a file of `save_clip` the film's name and where it lies; `None` of other files."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
        source = about["source"] if about["format"] == FORMAT else None
        film = about["settings"].get("film", Path(source).resolve())
        return source, (path.parent / film).resolve()
    except Exception:  # whatever a foreign file makes numpy raise
        return None


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
