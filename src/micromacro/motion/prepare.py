"""Frames made ready for a comparison: one size, one normalisation, the same for every method."""

import torch
import torch.nn.functional as F  # noqa: N812

from micromacro.errors import check_choice, check_whole
from micromacro.kernels.checks import check_tensor, check_values
from micromacro.kernels.local_contrast import local_contrast

INPUTS = ("raw", "zscore", "local_contrast")
REACH = 3.0  # of the normalised inputs: -3 becomes 0 and 3 becomes 1; clips about 1 pixel in 1000
FACE_PX = 48  # side of the face for which the window of local contrast is written


def prepare(frames: torch.Tensor, inputs: str, size: int) -> torch.Tensor:
    """Bring frames to a size, then normalise them, in the same way for every method.

    "zscore": each frame minus its mean over its standard deviation. "local_contrast": the form of
    Jarrett et al. with a window of 9 px and sigma 2 px at 48 px, and in proportion at other sizes,
    so that it spans the same part of a face. From both, [-3, 3] is mapped to [0, 1] and clipped.

    Args:
        frames: float32 (..., H, W) in [0, 1].
        inputs: Name of the normalisation: "raw", "zscore" or "local_contrast".
        size: Side of the resulting frames in pixels.

    Returns:
        float32 (..., size, size) in [0, 1].

    Raises:
        BadInput: The normalisation is unknown; another shape or dtype; values that are not finite or
            not in [-1, 2].
    """
    check_choice("input", inputs, INPUTS)
    check_tensor("frames", frames, "(..., H, W)", (torch.float32,))
    size = check_whole("size", size)
    check_values("frames", frames, -1, 2)
    if frames.shape[-1] != size:
        flat = frames.reshape(-1, 1, *frames.shape[-2:])
        flat = F.interpolate(flat, (size, size), mode="bicubic", antialias=True).clamp_(0, 1)
        frames = flat.view(*frames.shape[:-2], size, size)
    if inputs == "raw":
        return frames
    if inputs == "zscore":
        mean = frames.mean((-2, -1), keepdim=True)
        frames = (frames - mean) / frames.std((-2, -1), keepdim=True).clamp_min(1 / 255)
    else:
        window = 2 * round(4 * size / FACE_PX) + 1
        frames = local_contrast(frames, sigma=2 * size / FACE_PX, window=window, check=False)
    return (0.5 + frames / (2 * REACH)).clamp_(0, 1)
