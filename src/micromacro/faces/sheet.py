"""A contact sheet: a clip at a glance, with the frames where something happened."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from micromacro.clip import FaceClip

MOST_TILES = 40
COLUMNS = 8
TILE_PX = 144
CAPTION_PX = 40
GAP_PX = 10
TITLE_PX = 18  # height of a title line
TITLE_LINE = 175  # characters a title line holds at this width
PAPER, INK, QUIET = (255, 255, 255), (25, 25, 25), (110, 110, 110)


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
