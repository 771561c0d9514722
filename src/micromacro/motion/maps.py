"""Maps of motion around some frames: phase differences, or a rival in the same shape.

What a temporal stream takes: for each centre frame L maps of what moved between neighbours,
measured on a face of 48 px and averaged to 24 px and 12 px.
"""

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from micromacro.errors import BadInput, check_choice, whole
from micromacro.kernels.checks import check_tensor, refuse_rgb
from micromacro.kernels.phase_difference import phase_difference
from micromacro.motion.flow import METHODS, optical_flow, tuned_flow
from micromacro.motion.prepare import REACH, prepare

MOTION_PX = 48  # side of the face on which motion is measured
FLOWS = {method: partial(optical_flow, method=method) for method in METHODS}
FLOWS["tuned_flow"] = tuned_flow
MOTIONS = ("phase", "difference", "raw", *FLOWS)


def motion_maps(
    faces: Tensor,
    centres: Tensor,
    *,
    kind: str = "phase",
    length: int = 12,
    legacy_unwrap: bool = False,
) -> tuple[Tensor, ...]:
    """Maps of the temporal stream around each centre.

    ===========  ================================================================  ================
    kind         channels                                                          unit
    ===========  ================================================================  ================
    phase        2 orientations x L phase differences, levels 1 and 2              rad
    difference   L differences of neighbouring frames; both maps from one          sd of the frame
    raw          L frames, t - L/2 + 1 ... t + L/2; both maps from one             sd of the frame
    a flow       x and y of L optical flows; both maps from one                    px of 48
    ===========  ================================================================  ================

    All but phase start from frames with their own mean and standard deviation taken out: a change
    of exposure, which no phase sees, is not held against them. Frames beyond the ends repeat the
    last one, as in the released program.

    Args:
        faces: uint8 (N, T, side, side), grey.
        centres: int64 (S,), frame numbers.
        kind: One of `MOTIONS`.
        length: L, even: differences in a snippet; L / 2 before the centre and L / 2 after it.
        legacy_unwrap: Of "phase": the released, one-sided unwrapping, snippet by snippet.

    Returns:
        float32 (N, S, channels, 24, 24) and (N, S, channels, 12, 12).

    Raises:
        BadInput: Unknown kind, odd length, another shape or dtype.
    """
    check_choice("motion", kind, MOTIONS)
    check_tensor("faces", faces, "(N, T, H, W)", (torch.uint8,))
    refuse_rgb("faces", faces)
    check_tensor("centres", centres, "(S)", (torch.int64,))
    if (whole(length) or 1) < 2 or length % 2:
        raise BadInput(f"length={length}", "is no even number", "give 2, 4, 6 ...")
    length = int(length)
    T = faces.shape[1]
    steps = torch.arange(-(length // 2), length // 2 + 1, device=centres.device)
    around = centres[:, None] + steps  # (S, L + 1)
    if kind == "phase" and legacy_unwrap:
        # Each snippet by itself: what the one-sided rule gives depends on its first frame.
        alone = [
            phase_difference(
                clip[around.clamp(0, T - 1)], size=MOTION_PX, legacy_unwrap=True, check=False
            )
            for clip in faces
        ]  # N x 2 x (S, 2, L, h, w)
        both = zip(*alone, strict=True)
        return tuple(torch.stack([_halved(m) for m in maps]).flatten(2, 3) for maps in both)
    if kind == "phase":
        maps = [_halved(level) for level in phase_difference(faces, size=MOTION_PX)]
    else:
        frames = prepare(faces.float() / 255, "zscore", MOTION_PX)  # (N, T, 48, 48)
        if kind in FLOWS:
            fine = FLOWS[kind](frames[:, :-1], frames[:, 1:]).transpose(1, 2)
        else:
            fine = 2 * REACH * (frames[:, None] - 0.5)
            fine = fine.diff(dim=2) if kind == "difference" else fine
        fine = _halved(fine)  # (N, K, T - 1 or T, 24, 24)
        maps = [fine, _halved(fine)]
    return tuple(_windows(level, around, T) for level in maps)


def channels(kind: str, length: int) -> int:
    """Number of maps a level, as `motion_maps` makes them."""
    return length if kind in ("difference", "raw") else 2 * length


def _halved(maps: Tensor) -> Tensor:
    """Mean of 2 x 2, (..., h, w) to (..., h / 2, w / 2)."""
    h, w = maps.shape[-2:]
    return F.avg_pool2d(maps.reshape(-1, 1, h, w), 2).view(*maps.shape[:-2], h // 2, w // 2)


def _windows(maps: Tensor, around: Tensor, T: int) -> Tensor:
    """Gather (N, S, K L, h, w) from maps of pairs (T - 1 of them) or of frames (T)."""
    if maps.shape[2] == T:
        rows = around[:, 1:].clamp(0, T - 1)
    else:  # pair t is frame t + 1 against frame t; beyond the ends nothing moves
        maps = torch.cat([maps, torch.zeros_like(maps[:, :, :1])], 2)
        rows = around[:, :-1]
        rows = torch.where((rows >= 0) & (rows < T - 1), rows, T - 1)
    return maps[:, :, rows].transpose(1, 2).flatten(2, 3)
