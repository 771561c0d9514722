"""Frames made ready for a comparison: one size, one normalisation, the same for every method."""

import torch
import torch.nn.functional as F  # noqa: N812

from micromacro.errors import check_choice, check_whole
from micromacro.kernels.checks import check_tensor, check_values
from micromacro.kernels.local_contrast import local_contrast

INPUTS = ("raw", "zscore", "local_contrast")
NORMALISATIONS = ("lcn", "zscore", "clahe", "raw")
REACH = 3.0  # of the normalised inputs: -3 becomes 0 and 3 becomes 1; clips about 1 pixel in 1000
FACE_PX = 48  # side of the face for which the window of local contrast is written: 9 px, sigma 2 px


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
        BadInput: The normalisation is unknown; another shape or dtype; values that are not finite
            or not in [-1, 2].
    """
    check_choice("input", inputs, INPUTS)
    check_tensor("frames", frames, "(..., H, W)", (torch.float32,))
    size = check_whole("size", size)
    check_values("frames", frames, -1, 2)
    if frames.shape[-2:] != (size, size):
        flat = frames.reshape(-1, 1, *frames.shape[-2:])
        flat = F.interpolate(flat, (size, size), mode="bicubic", antialias=True).clamp_(0, 1)
        frames = flat.view(*frames.shape[:-2], size, size)
    if inputs == "raw":
        return frames
    if inputs == "zscore":  # its last bits are not those of `normalise`; rows of both are stored
        mean = frames.mean((-2, -1), keepdim=True)
        frames = (frames - mean) / frames.std((-2, -1), keepdim=True).clamp_min(1 / 255)
    else:
        frames = normalise(frames, "lcn")
    return (0.5 + frames / (2 * REACH)).clamp_(0, 1)


def normalise(frames: torch.Tensor, inputs: str) -> torch.Tensor:
    """Normalise each frame by itself.

    ========  ======================================================================================
    inputs    what is done
    ========  ======================================================================================
    lcn       Local contrast of Jarrett et al. in a window of 9 px, sigma 2 px, at 48 px; at other
              sizes in proportion. A gain and an offset of the whole frame change nothing.
    zscore    The frame's mean is taken away, its deviation divided by: likewise.
    clahe     Histogram equalisation of OpenCV: 8 x 8 tiles, clip limit 2.
    raw       Nothing.
    ========  ======================================================================================

    The last two are then shifted and scaled by *fixed* numbers, (x - 0.5) / 0.25. So all inputs are
    of order 1, and arms differ in what they do to light, not in the size of what the network gets.

    Args:
        frames: float32 in [0, 1] or uint8 (..., H, W).
        inputs: A name of the table.

    Returns:
        float32 (..., H, W).

    Raises:
        BadInput: Another name, shape or dtype; values that are not finite or not in [-1, 2].
    """
    check_choice("inputs", inputs, NORMALISATIONS)
    check_tensor("frames", frames, "(..., H, W)", (torch.float32, torch.uint8))
    check_values("frames", frames, -1, 2)
    frames = frames / 255 if frames.dtype == torch.uint8 else frames
    if inputs == "lcn":
        scale = min(frames.shape[-2:]) / FACE_PX
        backend = "torch" if frames.requires_grad else "auto"
        window = 2 * max(1, round(4 * scale)) + 1
        return local_contrast(frames, sigma=2 * scale, window=window, backend=backend, check=False)
    if inputs == "zscore":
        deviation, mean = torch.std_mean(frames, (-2, -1), keepdim=True)
        return (frames - mean) / deviation.clamp_min(1 / 255)
    return ((_equalised(frames) if inputs == "clahe" else frames) - 0.5) / 0.25


def _equalised(frames: torch.Tensor) -> torch.Tensor:
    import cv2  # late: networks need torch alone

    equalise = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply
    grey = (255 * frames).clamp(0, 255).round().to("cpu", torch.uint8)
    equal = torch.stack(
        [torch.from_numpy(equalise(image.numpy())) for image in grey.view(-1, *grey.shape[-2:])]
    )
    return equal.view(frames.shape).to(frames.device) / 255
