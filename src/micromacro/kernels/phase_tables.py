"""Constant matrices of the phase kernels: phase differences as cosine transforms and masks.

A frame x (N x M) is mirrored to 2N x 2M before its Fourier transform, so that it has no edges. The
mirror makes the spectrum a cosine transform times known phases: with signed k, l

    X[k, l] = exp(i pi k / 2N) exp(i pi l / 2M) C[k, l],    C = D x D^T,
    D[k, n] = 2 cos(pi k (n + 1/2) / N),    k = 0 .. N-1  (C[N, l] = 0: no Nyquist term).

The phases merge with the inverse transform. Level j keeps |k| < n = N / 2^(j-1) and samples every
2^(j-1)-th pixel, s_m = 2^(j-1) m:

    z[m, p] = 1 / (4 n n') sum_{k, l signed} M(k, l) C[k, l] exp(i (a + b)),
    a = pi k (s_m + 1/2) / N,    b = pi l (s_p + 1/2) / M.

Folding the four sign quadrants, and with c, s for the matrices cos a, sin a (cos b, sin b):

    Re z = c (Wcc . C) c^T + s (Wss . C) s^T,    Im z = s (Wsc . C) c^T + c (Wcs . C) s^T,

so a band is four products of real matrices; along an axis two of the W vanish, and three products
with shared factors are enough. ``tests/kernels`` checks all of it against the Fourier form.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from micromacro.kernels.steerable import band_pass, lobe

REACH = 2.5  # the blur's taps reach this many sigmas: 11 taps at sigma 2, as released


@dataclass(frozen=True)
class LevelTables:
    """Matrices of one level; h, w are its height and width.

    Attributes:
        masks: (K, 4, h, w) weights Wcc, Wss, Wsc, Wcs of every band.
        cos_y: (h, h), cos a: place along y times frequency.
        sin_y: (h, h), sin a, likewise.
        cos_x: (w, w), cos b: frequency times place along x, so already transposed.
        sin_x: (w, w), sin b, likewise.
        blur_y: (h, h), symmetric banded matrix of the blur along y.
        blur_x: (w, w), the same along x.
    """

    masks: torch.Tensor
    cos_y: torch.Tensor
    sin_y: torch.Tensor
    cos_x: torch.Tensor
    sin_x: torch.Tensor
    blur_y: torch.Tensor
    blur_x: torch.Tensor


@dataclass(frozen=True)
class PhaseTables:
    """Matrices of one transform.

    Attributes:
        into_y: (H, H0) cosine transform along y, the resize from H0 to H included.
        into_x: (W0, W) the same along x, transposed.
        levels: Matrices of each level, in the order in which levels were asked for.
    """

    into_y: torch.Tensor
    into_x: torch.Tensor
    levels: tuple[LevelTables, ...]


@lru_cache(maxsize=32)
def phase_tables(
    source: tuple[int, int],
    size: tuple[int, int],
    levels: tuple[int, ...],
    orientations: int,
    blur_sigma: float,
    gain: float = 1.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> PhaseTables:
    """Matrices for frames of size ``source``, transformed at ``size``; kept for the next call.

    Args:
        source: Height and width (H0, W0) of the frames in pixels.
        size: Height and width (H, W) of the transform; other than ``source``, a Lanczos resize is
            folded in.
        levels: Pyramid levels, 1 is the finest.
        orientations: Number K of orientations.
        blur_sigma: Standard deviation of the amplitude-weighted blur in pixels of each level; 0
            blurs nothing.
        gain: Factor on the values of the frames: 1/255 for uint8.
        dtype: Floating-point type of the matrices; they are computed in float64 and rounded.
        device: Device on which they live.
    """

    def put(matrix: torch.Tensor) -> torch.Tensor:
        return matrix.to(device, dtype).contiguous()

    # First the resize.
    into = [_cosine(n) @ lanczos(n0, n) for n0, n in zip(source, size, strict=True)]
    parts = tuple(_level(size, level, orientations, blur_sigma, put) for level in levels)
    return PhaseTables(put(into[0] * gain), put(into[1].T), parts)


def _level(size, level, orientations, blur_sigma, put) -> LevelTables:
    (cos_y, sin_y), (cos_x, sin_x) = (_places(n, level) for n in size)
    blur = [blur_matrix(n >> (level - 1), blur_sigma) for n in size]
    masks = torch.stack([_fold(size, level, band, orientations) for band in range(orientations)])
    matrices = (masks, cos_y, sin_y, cos_x.T, sin_x.T, *blur)
    return LevelTables(*map(put, matrices))


def _cosine(n: int) -> torch.Tensor:
    """D, float64 (n, n)."""
    k = torch.arange(n, dtype=torch.float64)
    return 2 * torch.cos(math.pi / n * k[:, None] * (k + 0.5))


def _places(n: int, level: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cos a and sin a, float64 (place, frequency)."""
    k = torch.arange(n >> (level - 1), dtype=torch.float64)
    angle = math.pi / n * (k[:, None] * 2 ** (level - 1) + 0.5) * k  # pi k (s_m + 1/2) / N
    return angle.cos(), angle.sin()


def _fold(size: tuple[int, int], level: int, band: int, orientations: int) -> torch.Tensor:
    """Wcc, Wss, Wsc, Wcs of one band, float64 (4, h, w)."""
    h, w = (n >> (level - 1) for n in size)
    k = torch.arange(h, dtype=torch.float64)[:, None] / size[0]  # 1 is the Nyquist frequency
    el = torch.arange(w, dtype=torch.float64)[None] / size[1]
    radial = band_pass(torch.hypot(k, el), level) / (4 * h * w)
    radial[0] /= 2  # zero has no mirror image: it must not count twice
    radial[:, 0] /= 2
    # The four quadrants of signs (l, k); their sums and differences are Wcc, Wss, Wsc, Wcs.
    a, b, c, d = (radial * lobe(x, y, band, orientations) for x in (el, -el) for y in (k, -k))
    return torch.stack([a + b + c + d, -a + b + c - d, a - b + c - d, a + b - c - d])


def lanczos(n_from: int, n_to: int) -> torch.Tensor:
    """Resize of one axis as a matrix, float64 (n_to, n_from), as Pillow does it on float images.

    Lanczos of three lobes, widened when shrinking, weights normalised at the borders.
    """
    if n_from == n_to:
        return torch.eye(n_from, dtype=torch.float64)
    scale = n_from / n_to  # source pixels per pixel of the result
    centre = (torch.arange(n_to, dtype=torch.float64) + 0.5) * scale
    x = (torch.arange(n_from, dtype=torch.float64) + 0.5 - centre[:, None]) / max(scale, 1.0)
    weight = torch.sinc(x) * torch.sinc(x / 3) * (x.abs() < 3)
    return weight / weight.sum(1, keepdim=True)


def blur_taps(sigma: float) -> torch.Tensor:
    """Sampled Gaussian, sum 1, float64, ``2 round(2.5 sigma) + 1`` taps; below sigma 0.2 only one.

    Python's round: 2.5 becomes 2, so sigma 1 has 5 taps and sigma 2 the released 11.
    """
    reach = round(REACH * sigma)
    place = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weight = torch.exp(-0.5 * (place / sigma) ** 2) if reach else torch.ones(1, dtype=torch.float64)
    return weight / weight.sum()


def blur_matrix(n: int, sigma: float) -> torch.Tensor:
    """The blur of one axis as a banded matrix, float64 (n, n); zeros beyond the border."""
    taps = blur_taps(sigma)
    reach = len(taps) // 2
    place = torch.arange(n)
    offset = place[:, None] - place  # (n, n), output pixel less input pixel
    return taps[(offset + reach).clamp(0, 2 * reach)] * (offset.abs() <= reach)
