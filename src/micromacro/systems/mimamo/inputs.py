"""What the two streams are given on the benchmark: appearance, and motion at two levels.

Both start from the face, the middle 48 px of the 64-px picture. The spatial stream gets the frozen
expression encoder's features of each snippet's centre frame. The temporal stream gets phase
differences, or one of their rivals in the same shape. All are measured on 48 px, the paper's size,
and then averaged to maps of 24 px and 12 px, so that a CPU can train on them.
"""

import torch
import torch.nn.functional as F  # noqa: N812

from micromacro.errors import BadInput
from micromacro.expression_encoder import ExpressionEncoder
from micromacro.kernels.phase_difference import phase_difference
from micromacro.kernels.phase_reference import EPS, bands_reference, blur
from micromacro.motion.flow import METHODS, optical_flow
from micromacro.motion.prepare import REACH, prepare
from micromacro.systems.mimamo.task import FACE_PX

FACE = slice(8, FACE_PX - 8)  # rows and columns of the face
MOTION_PX = 48  # side of the face on which motion is measured; maps have half and a quarter of it
MOTIONS = ("phase", "raw_phase", "difference", "raw", *METHODS)
CROPS = {"none": 1.0, "ours": 0.85, "released": 0.85 * 48 / 112}  # side, as a part of the face


def appearance(
    frames: torch.Tensor, centres: torch.Tensor, encoder: ExpressionEncoder
) -> torch.Tensor:
    """Features of each snippet's centre frame.

    Args:
        frames: uint8 (N, T, FACE_PX, FACE_PX), grey.
        centres: int64 (S,), frame numbers.
        encoder: Frozen; see `load_expression_encoder`.

    Returns:
        float32 (N, S, 96), not negative.
    """
    faces = frames[:, centres][:, :, FACE, FACE]
    rows = [encoder.features(clip[:, None].float() / 255) for clip in faces]
    return torch.stack(rows)


def faces(
    frames: torch.Tensor, crop: str = "none", generator: torch.Generator | None = None
) -> torch.Tensor:
    """The faces that motion is taken from; in training flipped and cropped once for each clip.

    "ours" keeps 0.85 of the side. "released" is fault Q5: 0.85 of the 48 px that the face will be
    shrunk to, cut out of a face of 112 px, so 0.36 of its side.

    Args:
        frames: uint8 (N, T, FACE_PX, FACE_PX).
        crop: A key of `CROPS`.
        generator: Draws place and flip; not needed for "none".

    Returns:
        uint8 (N, T, side, side).

    Raises:
        BadInput: Unknown crop.
    """
    if crop not in CROPS:
        raise BadInput(f"crop={crop!r}", "is unknown", f"use one of {', '.join(CROPS)}")
    whole = frames[:, :, FACE, FACE]
    if crop == "none":
        return whole
    side = whole.shape[-1]
    part = int(CROPS[crop] * side)
    corners = torch.randint(side - part + 1, (len(whole), 2), generator=generator).tolist()
    flips = torch.rand(len(whole), generator=generator) < 0.5
    cut = [
        clip[:, top : top + part, left : left + part]
        for clip, (left, top) in zip(whole, corners, strict=True)
    ]
    return torch.stack([c.flip(-1) if f else c for c, f in zip(cut, flips, strict=True)])


def motion(
    faces: torch.Tensor,
    centres: torch.Tensor,
    *,
    kind: str = "phase",
    length: int = 12,
    legacy_unwrap: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps of the temporal stream around each centre.

    ===========  ================================================================  ================
    kind         channels                                                          unit
    ===========  ================================================================  ================
    phase        2 orientations x L phase differences, levels 1 and 2              rad
    raw_phase    the same without the difference: phase unwrapped over the clip,   rad
                 blurred; frames t - L/2 + 1 ... t + L/2
    difference   L differences of neighbouring frames; both maps from one          sd of the frame
    raw          L frames, t - L/2 + 1 ... t + L/2; both maps from one             sd of the frame
    a flow       x and y of L optical flows; both maps from one                    px of 48
    ===========  ================================================================  ================

    All but phase start from frames with their own mean and standard deviation taken out: a change
    of exposure, which no phase sees, is not held against them. Frames beyond the ends repeat the
    last one, as in the released program.

    Args:
        faces: uint8 (N, T, side, side).
        centres: int64 (S,), frame numbers.
        kind: One of `MOTIONS`.
        length: L, even: differences in a snippet; L / 2 before the centre and L / 2 after it.
        legacy_unwrap: Of "phase": the released, one-sided unwrapping, snippet by snippet.

    Returns:
        float32 (N, S, channels, 24, 24) and (N, S, channels, 12, 12).

    Raises:
        BadInput: Unknown kind, odd length.
    """
    if kind not in MOTIONS:
        raise BadInput(f"motion {kind!r}", "is unknown", f"use one of {', '.join(MOTIONS)}")
    if length < 2 or length % 2:
        raise BadInput(f"length={length}", "is no even number", "give 2, 4, 6 ...")
    half, T = length // 2, faces.shape[1]
    around = centres[:, None] + torch.arange(-half, half + 1)
    if kind == "phase" and legacy_unwrap:
        return _released_phase(faces, around.clamp(0, T - 1))
    maps = map(_halved, _phase(faces)) if kind == "phase" else _others(faces, kind)
    return tuple(_windows(m, around, T) for m in maps)


def channels(kind: str, length: int) -> int:
    """Number of maps a level, as `motion` makes them."""
    return length if kind in ("difference", "raw") else 2 * length


def _phase(faces: torch.Tensor) -> list[torch.Tensor]:
    return phase_difference(faces, size=MOTION_PX)


def _released_phase(faces: torch.Tensor, around: torch.Tensor):
    """Each snippet by itself, since what the one-sided rule gives depends on its first frame."""
    levels = [
        [_halved(m) for m in phase_difference(clip[around], size=MOTION_PX, legacy_unwrap=True)]
        for clip in faces
    ]
    return tuple(torch.stack(level).flatten(2, 3) for level in zip(*levels, strict=True))


def _others(faces: torch.Tensor, kind: str) -> list[torch.Tensor]:
    """Maps (N, K, T - 1, h, w), or T of those that belong to a frame and not to a pair."""
    frames = prepare(faces.float() / 255, "zscore", MOTION_PX)
    if kind == "raw_phase":
        return [_halved(_absolute_phase(frames, level)) for level in (1, 2)]
    if kind in METHODS:
        maps = optical_flow(frames[:, :-1], frames[:, 1:], method=kind).transpose(1, 2)
    else:
        maps = 2 * REACH * (frames[:, None] - 0.5)
        maps = maps.diff(dim=2) if kind == "difference" else maps
    fine = _halved(maps)
    return [fine, _halved(fine)]


def _absolute_phase(frames: torch.Tensor, level: int) -> torch.Tensor:
    """Phase of each frame (N, K, T, h, w): unwrapped over time, blurred with its amplitude."""
    return torch.stack([_clip_phase(clip.double(), level) for clip in frames])


def _clip_phase(frames: torch.Tensor, level: int) -> torch.Tensor:
    bands = bands_reference(frames, level, 2).transpose(0, 1)  # (K, T, h, w)
    step = (bands[:, 1:] * bands[:, :-1].conj()).angle()
    phase = torch.cat([bands[:, :1].angle(), step], 1).cumsum(1)
    amplitude = bands.abs() + EPS
    return (blur(amplitude * phase, 2.0) / blur(amplitude, 2.0)).float()


def _halved(maps: torch.Tensor) -> torch.Tensor:
    """Mean of 2 x 2, (..., h, w) to (..., h / 2, w / 2)."""
    h, w = maps.shape[-2:]
    return F.avg_pool2d(maps.reshape(-1, 1, h, w), 2).view(*maps.shape[:-2], h // 2, w // 2)


def _windows(maps: torch.Tensor, around: torch.Tensor, T: int) -> torch.Tensor:
    """Gather (N, S, K L, h, w) from maps of pairs (T - 1 of them) or of frames (T)."""
    if maps.shape[2] == T:
        rows = around[:, 1:].clamp(0, T - 1)
    else:  # pair t is frame t + 1 against frame t; beyond the ends nothing moves
        still = maps.new_zeros(*maps.shape[:2], 1, *maps.shape[3:])
        maps = torch.cat([maps, still], 2)
        rows = around[:, :-1]
        rows = torch.where((rows >= 0) & (rows < T - 1), rows, T - 1)
    return maps[:, :, rows].transpose(1, 2).flatten(2, 3)
