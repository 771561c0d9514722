"""Masks of the complex steerable pyramid, as functions of frequency.

Portilla and Simoncelli, *A Parametric Texture Model Based on Joint Statistics of Complex Wavelet
Coefficients*, IJCV 2000, appendix: raised-cosine steps in log2 of the radius, one octave wide;
angular lobes ``cos(angle) ** (K - 1)`` on one half plane. A radius of 1 is the Nyquist frequency of
the finest level. The closed forms are used, not sampled tables.
"""

import math

import torch


def low_pass(radius: torch.Tensor, level: int = 0) -> torch.Tensor:
    """Low-pass of one octave's step, real, in [0, 1].

    Args:
        radius: Frequency radius, >= 0; 1 is the Nyquist frequency of the finest level.
        level: 0 for the split of the high-pass residual, j for what lies below level j.

    Returns:
        Same shape: 1 below ``2**-(level + 1)``, 0 from ``2**-level`` on, cosine of log2 between.
    """
    return torch.sin(math.pi / 2 * (1 - _step(radius, level)))  # a cosine would miss its zero


def high_pass(radius: torch.Tensor, level: int = 0) -> torch.Tensor:
    """The complement of :func:`low_pass`: the squares of both sum to 1."""
    return torch.sin(math.pi / 2 * _step(radius, level))


def band_pass(radius: torch.Tensor, level: int) -> torch.Tensor:
    """Radial mask of band-pass level ``level`` >= 1; its peak, 1, is at radius ``2**-level``."""
    return low_pass(radius, level - 1) * high_pass(radius, level)


def lobe(fx: torch.Tensor, fy: torch.Tensor, band: int, orientations: int) -> torch.Tensor:
    """Angular mask of one orientation on its half plane, real, >= 0.

    Args:
        fx: Frequency along x (columns), any unit.
        fy: Frequency along y (rows), downwards, the same unit; broadcasts with ``fx``.
        band: 0 to K - 1. Band 0 answers to variation along x, so to horizontal motion; band b is
            turned by ``pi * b / K`` from x towards y (clockwise on the screen).
        orientations: Number K of orientations, at least 1.

    Returns:
        ``2 sqrt(c) cos(angle) ** (K - 1)`` where cos(angle) > 0, else 0, with
        ``c = 4 ** (K - 1) (K - 1)! ** 2 / (K (2 (K - 1))!)``. Over all bands and both signs of the
        frequency the squares sum to 4, but at zero, which has no angle. On the border of the half
        plane, where only K = 1 is not 0, each sign gets half of the power. The paper's factor
        (-i) ** (K - 1), a constant rotation of the phase, is left out.
    """
    order = orientations - 1
    c = 4**order * math.factorial(order) ** 2 / (orientations * math.factorial(2 * order))
    turn = math.pi * band / orientations
    along = fx * math.cos(turn) + fy * math.sin(turn)
    length = torch.hypot(fx, fy).clamp_min(torch.finfo(fx.dtype).tiny)
    cosine = along / length
    cosine = torch.where(cosine.abs() < 1e-12, torch.zeros_like(cosine), cosine)
    half_plane = ((torch.sign(cosine) + 1) / 2).sqrt()
    return 2 * math.sqrt(c) * half_plane * cosine.abs() ** order


def _step(radius: torch.Tensor, level: int) -> torch.Tensor:
    """0 below ``2**-(level + 1)``, 1 from ``2**-level`` on, linear in log2 between."""
    tiny = torch.finfo(radius.dtype).tiny
    return (torch.log2(radius.clamp_min(tiny)) + level + 1).clamp(0, 1)
