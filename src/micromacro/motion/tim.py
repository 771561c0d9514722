"""Clips brought to one length: the temporal interpolation model (TIM), and linear interpolation.

TIM: Zhou, Zhao and Pietikäinen, *Towards a Practical Lipreading System*, CVPR 2011; for
micro-expressions Pfister, Li, Zhao and Pietikäinen, ICCV 2011. The frames of a clip are the nodes
of a path graph. Eigenvector k of its Laplacian is, at frame i = 1 ... T,

    y_k(i) = sin(pi k i / T + pi (T - k) / (2 T)),    k = 1 ... T - 1,

the same sine on a curve through all times. A linear map from frames, less their mean, to these
curves is learnt; the curves are read at new times and mapped back.

Nothing is learnt, in fact. The T - 1 sines span all sequences of T numbers with mean 0, so if the
frames are linearly independent, as TIM asks, the map meets them exactly and each pixel's course is
written in them in the only way there is. As sin(x + pi / 2) = cos(x), they are the cosines of the
discrete cosine transform (type 2): TIM is cosine interpolation of each pixel by itself, with
weights that depend on T and the new times alone. That is how it is computed here; so equal frames,
which break the original, do no harm.

It passes through every frame, and overshoots between them where the course bends sharply. Neither
method smooths before it drops frames.
"""

import math

import torch

from micromacro.errors import BadInput, whole
from micromacro.kernels.checks import FLOATS, check_tensor, check_values, wide


def tim(clip: torch.Tensor, n_frames: int) -> torch.Tensor:
    """Bring a clip to a length by the temporal interpolation model.

    Args:
        clip: float (T, ...), frames in order, any range, finite.
        n_frames: New length; the first and the last frame stay where they are.

    Returns:
        float (n_frames, ...); a little outside the range of the clip where it overshoots.

    Raises:
        BadInput: There is no frame, the clip is not of finite numbers, or the length is below 1.
    """
    return _resample(clip, n_frames, tim_weights)


def linear_interpolation(clip: torch.Tensor, n_frames: int) -> torch.Tensor:
    """Bring a clip to a length by mixing the two frames that lie next to each new time. Not TIM.

    Args:
        clip: float (T, ...), frames in order, any range, finite.
        n_frames: New length; the first and the last frame stay where they are.

    Returns:
        float (n_frames, ...), in the range of the clip.

    Raises:
        BadInput: There is no frame, the clip is not of finite numbers, or the length is below 1.
    """
    return _resample(clip, n_frames, linear_weights)


def tim_weights(T: int, n_frames: int) -> torch.Tensor:
    """What each of T frames gives to each new frame: float64 (n_frames, T), rows of sum 1."""
    k = torch.arange(1, T, dtype=torch.float64)[:, None]
    times = torch.arange(T, dtype=torch.float64), _times(T, n_frames)
    at_frames, at_new = (torch.cos(math.pi * k * (t + 0.5) / T) for t in times)  # (T - 1, times)
    return 1 / T + 2 / T * at_new.T @ at_frames  # the first term is the mean, wave 0


def linear_weights(T: int, n_frames: int) -> torch.Tensor:
    """As `tim_weights`, for `linear_interpolation`."""
    gaps = _times(T, n_frames)[:, None] - torch.arange(T, dtype=torch.float64)
    return (1 - gaps.abs()).clamp(min=0)  # a hat around each old frame


def _times(T: int, n_frames: int) -> torch.Tensor:
    """New times in old frames, 0 to T - 1; a single one is in the middle."""
    if n_frames == 1:
        return torch.tensor([(T - 1) / 2], dtype=torch.float64)
    return torch.arange(n_frames, dtype=torch.float64) * (T - 1) / (n_frames - 1)


def _resample(clip: torch.Tensor, n_frames: int, weights) -> torch.Tensor:
    check_tensor("clip", clip, "(T, ...)", FLOATS)
    if len(clip) < 1 or (whole(n_frames) or 0) < 1:
        raise BadInput(f"{len(clip)} to {n_frames} frames", "is out of range", "give at least 1")
    check_values("clip", clip)
    device = wide(clip.device)
    w = weights(len(clip), whole(n_frames)).to(device)  # float64 (n_frames, T)
    return torch.tensordot(w, clip.to(device, torch.float64), 1).to(clip)
