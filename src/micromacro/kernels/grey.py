"""RGB to grey, which phase differences, flow and most networks take."""

import torch

from micromacro.kernels.checks import FLOATS, check_tensor


def grey(images: torch.Tensor) -> torch.Tensor:
    """Luma of BT.601: 0.299 R + 0.587 G + 0.114 B; the axis of colours goes.

    So frames ``(T, 3, H, W)`` become ``(T, H, W)``, as
    :func:`~micromacro.kernels.phase_difference` takes them; ``grey(x).unsqueeze(-3)`` keeps the
    axis with one channel, for networks.

    Args:
        images: float in [0, 1] or uint8, (..., C, H, W), C = 3 RGB or 1, which is grey already.

    Returns:
        float (..., H, W), uint8 as float32 in [0, 1]; a grey picture in RGB comes back exactly.

    Raises:
        BadInput: Another shape or dtype.
    """
    check_tensor("images", images, "(..., 1|3, H, W)", (*FLOATS, torch.uint8))
    images = images.float() / 255 if images.dtype == torch.uint8 else images
    red, green, blue = (images[..., c, :, :] for c in (0, images.shape[-3] // 2, -1))
    return green + 0.299 * (red - green) + 0.114 * (blue - green)
