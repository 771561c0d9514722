"""Phase-based motion magnification: small motions made (1 + alpha) times as large.

Wadhwa, Rubinstein, Durand and Freeman, *Phase-Based Video Motion Processing*, SIGGRAPH 2013. Each
frame becomes a complex steerable pyramid (`pyramid`). Where something moves, the phases of its
bands change; the change since the first frame, smoothed in space, is added alpha times more, and
the pyramid put together again (at all frequencies: without the paper's filter in time):

    band_t  ->  band_t exp(i alpha delta_t)

Limits. A band's window stays where it is and only its wave moves in it, so beyond about a quarter
of a wavelength (1 px at level 1, 2 px at level 2, ...) alpha times the motion shows as ghosts. What
the residuals carry is not magnified: very coarse structure and light, the finest detail. And what a
broad lobe mixes in one band, waves that the motion shifts by different amounts, gets their mean. So
one wave comes out at exactly (1 + alpha) d, a bar (deviation 2 px, 64 x 64 px, d = 0.1, alpha = 15)
at 0.96 of it, a round bump at 0.91 with 8 orientations, 0.85 with 4 and 0.77 with 2. White noise of
1 % grows 3 to 7 times, by `blur_px`; linear magnification makes it 1.4 (1 + alpha) = 23 times.

Levels. All of `max_levels` are magnified, and the next coarser one by a share that grows from 0,
where one and a half of its waves span the shorter side, to 1, where two do and it counts in full.
So the result changes smoothly with the size of the picture: from one and a half times a power of
two to the next power (48 to 64 px, 96 to 128 px); at all other sizes every level counts in full or
not.

A frame of 128 x 128 px takes 0.03 s on one CPU core with the defaults; time and memory grow with
the orientations, memory as for `analyse`.
"""

import math

import torch
from torch.nn import functional

from micromacro.errors import BadInput, check_whole
from micromacro.kernels.checks import check_tensor, check_values, wide
from micromacro.motion.pyramid import Pyramid, decompose, max_levels, synthesise


def magnify(
    clip: torch.Tensor, alpha: float = 15.0, *, orientations: int = 4, blur_px: float = 2.0
) -> torch.Tensor:
    """Magnify the motions of a clip: every departure from its first frame.

    Args:
        clip: float32 or float64 (T, ..., H, W), any range. Channels, if any, are magnified each by
            itself; the paper magnifies luminance only, so give that.
        alpha: A motion of d becomes (1 + alpha) d; AKMNet has 15. 0 changes nothing, -1 freezes.
        orientations: Number K of orientations of the pyramid.
        blur_px: Deviation of the Gaussian that smooths the phase changes, weighted by amplitude, in
            samples of each band; 0 does not smooth.

    Returns:
        Dtype and shape of the clip. It may go beyond the clip's range: clamp it before saving.

    Raises:
        BadInput: The shape, the dtype or an option is out of range, or values are not finite.
    """
    check_tensor("clip", clip, "(T, ..., H, W)", (torch.float32, torch.float64))
    if len(clip) < 1:
        raise BadInput("clip", "has no frame", "give one or more")
    check_values("clip", clip)
    if not (math.isfinite(alpha) and 0 <= blur_px < math.inf):
        raise BadInput(f"alpha={alpha}, blur_px={blur_px}", "is out of range", "see magnify")
    alpha, levels = float(alpha), max_levels(*clip.shape[-2:])
    if levels < 1:
        raise BadInput("clip", f"of shape {tuple(clip.shape)}", "give at least 8 x 8 pixels")
    spans = min(clip.shape[-2:]) / 2 ** (levels + 2)  # waves of the next level, 1 to 2
    shares = [1.0] * levels + [2 * spans - 3] * (spans > 1.5)
    frames, K = clip.to(wide(clip.device)), check_whole("orientations", orientations)
    pyramid = decompose(frames, len(shares), K)  # bands (T, ..., K, h, w)
    bands = []
    for band, share in zip(pyramid.bands, shares, strict=True):
        change = _phase_change(band)  # delta_t in rad, shaped as the band
        if blur_px > 0:
            change = _weighted_blur(change, band.abs(), blur_px)
        # Band_t exp(i alpha delta_t).
        bands.append(band * torch.polar(torch.ones_like(change), share * alpha * change))
    return synthesise(Pyramid(pyramid.high, bands, pyramid.low)).to(clip.device)


def _phase_change(band: torch.Tensor) -> torch.Tensor:
    """Change since frame 0, rad, unwrapped in time: below half a turn from frame to frame."""
    steps = torch.angle(band[1:] * band[:-1].conj())  # from frame to frame, within +-pi
    return torch.cat([torch.zeros_like(band[:1].real), steps.cumsum(0)])


def _weighted_blur(values: torch.Tensor, weights: torch.Tensor, sigma: float) -> torch.Tensor:
    total = _blur(weights, sigma)  # where the amplitude is 0 there is no phase, and no change
    return _blur(values * weights, sigma) / total.clamp_min(torch.finfo(total.dtype).tiny)


def _blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Sum over a Gaussian around each pixel of (..., h, w); the border's pixels are repeated."""
    reach = math.ceil(3 * sigma)
    x = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-x.square() / (2 * sigma**2))  # its sum cancels in the weighted mean
    rows = images.reshape(-1, 1, *images.shape[-2:])
    rows = functional.pad(rows, (reach, reach, reach, reach), mode="replicate")
    rows = functional.conv2d(rows, kernel.view(1, 1, -1, 1))
    return functional.conv2d(rows, kernel.view(1, 1, 1, -1)).view(images.shape)
