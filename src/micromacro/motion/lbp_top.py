"""LBP-TOP, the classic descriptor of moving texture: local binary patterns on three planes.

Zhao and Pietikäinen, *Dynamic Texture Recognition Using Local Binary Patterns with an Application
to Facial Expressions*, PAMI 2007. A clip is a volume of x, y and t. At each voxel, 8 neighbours on
a circle in the plane XY, and in XT and in YT, are compared with it: 8 bits. How often each pattern
occurs in a block of the face, counted for each plane, is the feature; a linear SVM reads it.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import product

import torch

from micromacro.errors import BadInput, wholes
from micromacro.kernels.checks import FLOATS, check_tensor, check_values, wide

PLANES = {"xy": (1, 2), "xt": (0, 2), "yt": (0, 1)}  # axes of (T, H, W): down and across
N_NEIGHBOURS = 8
N_BINS = 59


def lbp_top(clip: torch.Tensor, *, grid: tuple[int, int] = (8, 8), radius: int = 3) -> torch.Tensor:
    """Describe a clip.

    Args:
        clip: float (T, H, W) grey, or (T, 1, H, W), any unit: patterns only ask what is brighter.
        grid: Blocks down and across; they part the voxels that have all neighbours, in time none.
        radius: Radius of the circles of neighbours in pixels and frames, at least 1.

    Returns:
        float32 (rows * columns * 3 * 59,), 11,328 by default: for each block, row by row, the
        shares of the 59 uniform patterns in XY, then XT, then YT; those of a plane sum to 1.

    Raises:
        BadInput: The clip has another shape or dtype, holds NaN, or has too few frames or pixels
            for the radius or the grid.
    """
    volume, radius, grid = _checked(clip, radius, grid)
    bins = uniform_bins().to(volume.device)
    rows, columns = grid
    T, H, W = (side - 2 * radius for side in volume.shape)  # the voxels that have all neighbours
    down = torch.arange(H, device=volume.device) * rows // H
    across = torch.arange(W, device=volume.device) * columns // W
    block = (down[:, None] * columns + across).expand(T, H, W)  # number of each voxel's block
    histograms = []
    for plane in PLANES:
        # A bin for each block and pattern.
        index = block * N_BINS + bins[lbp_codes(volume, plane, radius)]
        counts = torch.bincount(index.flatten(), minlength=rows * columns * N_BINS)
        counts = counts.view(rows * columns, N_BINS).to(wide(volume.device), torch.float64)
        histograms.append(counts / counts.sum(1, keepdim=True))  # (blocks, 59), shares
    return torch.stack(histograms, 1).flatten().to(volume.device, torch.float32)  # (blocks, 3, 59)


def lbp_codes(volume: torch.Tensor, plane: str, radius: int = 3) -> torch.Tensor:
    """The pattern at each voxel, in one plane.

    Bit p, of value 2^p, is 1 if the neighbour at angle 2 pi p / 8, from "across" against "down", is
    at least as bright. Neighbours between voxels are interpolated bilinearly: their *differences*
    from the centre are, so that flat skin is a tie everywhere, not a toss of the rounding.

    Args:
        volume: float (T, H, W), any range.
        plane: "xy", "xt" or "yt"; "down" is y, t, t and "across" x, x, y.
        radius: Radius of the circle of neighbours in voxels.

    Returns:
        int64 (T - 2 radius, H - 2 radius, W - 2 radius), 0 to 255.
    """
    centre = _shifted(volume, (0, 0, 0), radius)
    codes = torch.zeros_like(centre, dtype=torch.int64)
    for p in range(N_NEIGHBOURS):
        angle = 2 * math.pi * p / N_NEIGHBOURS
        # Rounded, so that a neighbour on the grid is not interpolated: sin(pi) is not 0.
        places = (round(-radius * math.sin(angle), 5), round(radius * math.cos(angle), 5))
        difference = torch.zeros_like(centre)
        for weight, offset in _corners(places, PLANES[plane]):
            difference += weight * (_shifted(volume, offset, radius) - centre)
        codes += (difference >= 0).long() << p  # a tie counts as brighter
    return codes


def uniform_bins() -> torch.Tensor:
    """Bin of each of the 256 patterns: int64 (256,).

    The 58 uniform ones, whose circle of bits changes at most twice, have bins 0 to 57 in rising
    order; all others share bin 58.
    """
    codes = torch.arange(256)
    bits = codes[:, None] >> torch.arange(N_NEIGHBOURS) & 1  # (256, 8)
    uniform = (bits != bits.roll(1, 1)).sum(1) <= 2  # changes around the circle
    bins = torch.full((256,), N_BINS - 1)
    bins[uniform] = torch.arange(int(uniform.sum()))
    return bins


def _corners(place: tuple[float, float], axes: tuple[int, int]) -> Iterator[tuple[float, list]]:
    """The voxels around a point of the plane: bilinear weights and offsets [t, y, x]."""
    base = [math.floor(p) for p in place]
    for i, j in product((0, 1), repeat=2):
        # Bilinear; a corner without weight may lie outside the volume.
        weight = (1 - abs(place[0] - base[0] - i)) * (1 - abs(place[1] - base[1] - j))
        if weight > 0:
            offset = [0, 0, 0]
            offset[axes[0]], offset[axes[1]] = base[0] + i, base[1] + j
            yield weight, offset


def _shifted(volume: torch.Tensor, offset: Sequence[int], radius: int) -> torch.Tensor:
    """The voxels at an offset from all those that have all neighbours."""
    for axis, step in enumerate(offset):
        volume = volume.narrow(axis, radius + step, volume.shape[axis] - 2 * radius)
    return volume


def _checked(clip: torch.Tensor, radius: int, grid: tuple[int, int]) -> tuple:
    """The clip as (T, H, W), once it is known to be large enough; radius and grid as int."""
    volume = clip.squeeze(1) if isinstance(clip, torch.Tensor) and clip.ndim == 4 else clip
    check_tensor("clip", volume, "(T, H, W)", FLOATS)
    numbers = [*wholes(radius), *wholes(grid)]
    if len(numbers) != 3 or None in numbers or min(numbers) < 1:
        raise BadInput(f"radius={radius}, grid={grid}", "is out of range", "give at least 1")
    radius, *grid = numbers
    least = (2 * radius + 1, 2 * radius + grid[0], 2 * radius + grid[1])
    if any(side < n for side, n in zip(volume.shape, least, strict=True)):
        fault = f"has {' x '.join(map(str, volume.shape))} frames, rows, columns"
        raise BadInput("clip", fault, f"give at least {' x '.join(map(str, least))}, by tim or so")
    check_values("clip", volume)
    return volume, radius, grid
