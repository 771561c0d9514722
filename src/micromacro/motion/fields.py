"""What flow says of a face: strain of the skin, the head's own movement, the main direction.

A field is flow_px (..., 2, H, W), x (right) then y (down), as `motion.flow.optical_flow` gives it.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from micromacro.errors import BadInput, check_whole
from micromacro.kernels.checks import FLOATS, check_tensor


def optical_strain(flow_px: Tensor) -> Tensor:
    """How much the skin is stretched, of flow (..., 2, H, W): 0 where all moves alike.

    Returns:
        sqrt(u_x^2 + v_y^2 + (u_y + v_x)^2 / 2), float32 (..., 1, H, W), px a px.

    Raises:
        BadInput: Another shape or dtype.
    """
    check_tensor("flow_px", flow_px, "(..., 2, H, W)", FLOATS)
    (u_y, v_y), (u_x, v_x) = (d.unbind(-3) for d in torch.gradient(flow_px, dim=(-2, -1)))
    return (u_x**2 + v_y**2 + (u_y + v_x) ** 2 / 2).sqrt().unsqueeze(-3)


def steadied(flow_px: Tensor) -> Tensor:
    """Take the head's own movement, the median of all pixels, from flow (..., 2, H, W).

    SOFTNet takes the mean over the nose; the median of all, our choice, needs no landmarks.
    """
    return flow_px - flow_px.flatten(-2).median(-1).values[..., None, None]


def main_direction(near_px: Tensor, far_px: Tensor, *, blocks: int = 6) -> Tensor:
    """Main directional maximal difference (MDMD), the baseline of the MEGC of 2020; no training.

    An expression at its apex has moved away from its beginning, *near*, and by its end it is back,
    *far*. In each block the quadrant with most vectors of near is the main direction; of its
    vectors count the third that exceed those of far most, by their mean; of the blocks the largest
    third, by their mean. Four quadrants, as the baseline says; its code takes the arctangent of a
    quotient, so that opposite directions fall together.

    Args:
        near_px: float32 (..., 2, H, W), flow from the past reference to the frame, x then y.
        far_px: The same from the past reference to the future one.
        blocks: Blocks a side. Rows and columns that are left over are left out.

    Returns:
        float32 (...), px.

    Raises:
        BadInput: Another shape or dtype; more blocks than pixels.
    """
    check_tensor("near_px", near_px, "(..., 2, H, W)", FLOATS)
    check_tensor("far_px", far_px, str(tuple(near_px.shape)), FLOATS)
    if (blocks := check_whole("blocks", blocks)) > min(near_px.shape[-2:]):
        raise BadInput("blocks", f"{blocks} a side of {tuple(near_px.shape)}", "give fewer")
    h, w = (side // blocks for side in near_px.shape[-2:])
    tiles = torch.stack([near_px, far_px]).unfold(-2, h, h).unfold(-2, w, w)
    tiles = tiles[..., :blocks, :blocks, :, :].flatten(-2).flatten(-3, -2)
    near, far = tiles.movedim(-3, 1)  # of near and far x and y, (..., 36, pixels) each
    quadrant = 2 * (near[0] >= 0) + (near[1] >= 0)
    votes = one_hot(quadrant, 4).sum(-2)  # (..., 36, 4)
    most, main = votes.max(-1, keepdim=True)
    excess = (near.norm(dim=0) - far.norm(dim=0)).masked_fill(quadrant != main, -torch.inf)
    count = (most / 3).round().clamp_min(1)
    counts = torch.arange(h * w, device=count.device) < count
    means = excess.sort(-1, descending=True).values.where(counts, 0).sum(-1) / count.squeeze(-1)
    return means.topk(max(1, round(blocks**2 / 3))).values.mean(-1)
