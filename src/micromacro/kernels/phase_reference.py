"""Phase differences by the Fourier transform, float64: slow, plain, trusted."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812

from micromacro.errors import check_sides, wholes
from micromacro.kernels.checks import check_tensor, refuse_rgb, wide
from micromacro.kernels.phase_tables import blur_taps, lanczos
from micromacro.kernels.steerable import band_pass, lobe

EPS = 1e-10
"""Keeps 0/0 away where a frame is flat. It acts on the product of two amplitudes of images in
[0, 1], so it gates what has an amplitude below about 1e-5."""

CLIP_RAD = 5 * math.pi  # the released code clips here; only its own unwrapping can get so far


def bands_reference(frames: torch.Tensor, level: int, orientations: int) -> torch.Tensor:
    """Complex bands of mirrored frames.

    Args:
        frames: float64 (..., H, W) in [0, 1].
        level: Pyramid level, 1 is the finest.
        orientations: Number K of orientations.

    Returns:
        complex128 (..., K, h, w). Level j has the gain 4^(j-1), which a transform back from the
        cropped spectrum brings along and which every phase difference cancels.
    """
    H, W = frames.shape[-2:]
    wide = torch.cat([frames, frames.flip(-1)], -1)  # the mirror leaves no edges
    spectrum = torch.fft.fft2(torch.cat([wide, wide.flip(-2)], -2))  # (..., 2H, 2W)
    fy = 2 * torch.fft.fftfreq(2 * H, dtype=torch.float64, device=frames.device)[:, None]
    fx = 2 * torch.fft.fftfreq(2 * W, dtype=torch.float64, device=frames.device)[None]
    radial, step = band_pass(torch.hypot(fx, fy), level), 2 ** (level - 1)
    bands = (spectrum * radial * lobe(fx, fy, b, orientations) for b in range(orientations))
    return torch.stack([torch.fft.ifft2(b)[..., :H:step, :W:step] for b in bands], -3) * step**2


def phase_difference_reference(
    frames: torch.Tensor,
    *,
    levels: Sequence[int] = (1, 2),
    orientations: int = 2,
    blur_sigma: float = 2.0,
    center: bool = True,
    size: int | tuple[int, int] | None = None,
    mode: str = "weighted",
    legacy_unwrap: bool = False,
    check: bool = True,
) -> list[torch.Tensor]:
    """What :func:`~micromacro.kernels.phase_difference` computes, in float64 and step by step.

    Differentiable. Arguments as there, but float64 frames too, and no values or options are looked
    at; the result is float64, on the CPU where the device of the frames has none.

    Raises:
        BadInput: Frames of another shape or dtype, or in colour; a size that is none.
    """
    check_tensor("frames", frames, "(..., T, H, W)", (torch.float32, torch.float64, torch.uint8))
    if check:
        refuse_rgb("frames", frames, "; if it is clips of three frames, check=False")
    images = frames.to(wide(frames.device), torch.float64)
    images = images / 255 if frames.dtype == torch.uint8 else images
    if size is not None:
        H, W = check_sides("size", size)
        by_y, by_x = (lanczos(*n).to(images) for n in zip(images.shape[-2:], (H, W), strict=True))
        images = by_y @ images @ by_x.T
    maps = []
    for level in wholes(levels):
        z = bands_reference(images, level, orientations).movedim(-3, -4)  # (..., K, T, h, w)
        if legacy_unwrap:
            d = _released(z, blur_sigma)
        else:
            product = z[..., 1:, :, :] * z[..., :-1, :, :].conj()  # its angle is the wrapped change
            d = _pairwise(product, blur_sigma, mode)
        d = d - d.mean((-2, -1), keepdim=True) if center else d
        maps.append(d.clamp(-CLIP_RAD, CLIP_RAD))
    return maps


def _pairwise(product: torch.Tensor, sigma: float, mode: str) -> torch.Tensor:
    """Blurred phase of conjugate products, (..., h, w) complex to real."""
    if mode == "arg_of_blur":
        return torch.atan2(blur(product.imag, sigma), blur(product.real, sigma))
    weight = product.abs()  # |z_t| |z_t-1|
    return blur(weight * product.angle(), sigma) / (blur(weight, sigma) + EPS)


def _released(z: torch.Tensor, sigma: float) -> torch.Tensor:
    """The released rule: unwrap over time, one-sidedly; blur each frame's phase; subtract."""
    amplitude, phase = z.abs() + EPS, z.angle()
    step = phase.diff(dim=-3)  # (..., T - 1, h, w), within +-2 pi
    turns = -2 * math.pi * (step > math.pi).to(step).cumsum(-3)  # never + 2 pi
    phase = torch.cat([phase[..., :1, :, :], phase[..., 1:, :, :] + turns], -3)
    return (blur(amplitude * phase, sigma) / blur(amplitude, sigma)).diff(dim=-3)


def blur(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur with zeros beyond the border, (..., h, w)."""
    taps = blur_taps(sigma).to(maps)
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    flat = F.conv2d(flat, taps.view(1, 1, -1, 1), padding=(len(taps) // 2, 0))
    flat = F.conv2d(flat, taps.view(1, 1, 1, -1), padding=(0, len(taps) // 2))
    return flat.view(maps.shape)
