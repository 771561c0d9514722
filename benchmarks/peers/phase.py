"""Other ways to `micromacro.kernels.phase_difference`, for benchmarks/phase_vs_peers.py.

Each peer is made once per image size, with its masks, and then maps frames (T, N, N), uint8, to one
list per pyramid level, of maps (pairs, K, h, w) in rad, one entry per chunk. Written from the
formulas, with the fastest plain arrangement that was found, so that what is slow is the method; the
released rule keeps its dense 11 x 11 blur and its residuals.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from plenoptic.process import SteerablePyramidFreq
from pyrtools.pyramids import SteerablePyramidFreq as NumpyPyramid
from scipy.ndimage import gaussian_filter

from micromacro.kernels.phase_tables import blur_taps
from micromacro.kernels.steerable import band_pass, high_pass, lobe, low_pass

LEVELS, ORIENTATIONS, SIGMA, EPS = (1, 2), 2, 2.0, 1e-10
CHUNK = 32  # frames at once; 16 to 64 cost the same, 256 leave the cache
WINDOW = 13  # frames that the released program looks at for one output


def chunks(frames: torch.Tensor) -> Iterator[torch.Tensor]:
    """Frames as float32 in [0, 1], CHUNK at a time; neighbouring chunks share a frame."""
    for start in range(0, len(frames) - 1, CHUNK - 1):
        yield frames[start : start + CHUNK].float() / 255


def mirrored(frames: torch.Tensor) -> torch.Tensor:
    """Frames (..., N, N) with their mirror images to the right and below, (..., 2N, 2N)."""
    wide = torch.cat([frames, frames.flip(-1)], -1)
    return torch.cat([wide, wide.flip(-2)], -2)


def frequencies(size: int, level: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Frequencies along x and y and their radius on the spectrum of a level; 1 is Nyquist."""
    n = size >> (level - 1)
    f = torch.fft.fftfreq(2 * n, dtype=torch.float64) * 2 ** (2 - level)
    return f[None], f[:, None], torch.hypot(f[None], f[:, None])


def cropped(spectrum: torch.Tensor, n: int) -> torch.Tensor:
    """The lowest n x n frequencies of a spectrum."""
    rows = torch.cat([spectrum[..., : n // 2, :], spectrum[..., -n // 2 :, :]], -2)
    return torch.cat([rows[..., : n // 2], rows[..., -n // 2 :]], -1)


# ---- 1 to 3: the released rule ------------------------------------------------------------------


class Released:
    """The rule of the released program on one window: whole pyramid, unwrap, blur, subtract.

    Args:
        size: N.
        remainder: torch.fmod, which rounds to zero, so that the unwrapping misses jumps below -pi,
            as released; torch.remainder for a correct one.
    """

    def __init__(self, size: int, remainder: Callable = torch.fmod):
        self.remainder, self.levels = remainder, []
        radius = frequencies(size, 1)[2]
        self.high, self.low = high_pass(radius, 0).float(), low_pass(radius, 0).float()
        for level in LEVELS:
            fx, fy, radius = frequencies(size, level)
            bands = [high_pass(radius, level) * lobe(fx, fy, b, ORIENTATIONS) for b in (0, 1)]
            below = low_pass(frequencies(size, level + 1)[2], level)
            self.levels.append((torch.stack(bands).float(), below.float()))
        taps = blur_taps(SIGMA).float()
        self.kernel = (taps[:, None] * taps)[None, None]

    def window(self, frames: torch.Tensor) -> list[torch.Tensor]:
        """Maps (T-1, K, h, w) of each level from float frames (T, N, N), seen as one window."""
        return [self._change(z) for z in self._bands(frames)]

    def once(self, frames: torch.Tensor) -> list[list[torch.Tensor]]:
        """Maps of long windows that hardly overlap: each frame is worked on once."""
        return list(zip(*map(self.window, chunks(frames)), strict=True))

    def _bands(self, frames: torch.Tensor) -> list[torch.Tensor]:
        spectrum, bands = torch.fft.fft2(mirrored(frames)), []
        torch.fft.ifft2(spectrum * self.high).real  # noqa: B018 — residuals: made, never used
        spectrum = spectrum * self.low
        for masks, below in self.levels:
            n = masks.shape[-1] // 2
            bands.append(torch.fft.ifft2(spectrum[:, None] * masks)[..., :n, :n])
            spectrum = cropped(spectrum, n) * below
        torch.fft.ifft2(spectrum).real  # noqa: B018
        return bands

    def _change(self, z: torch.Tensor) -> torch.Tensor:
        amplitude, phase = z.abs() + EPS, z.angle()
        step = phase.diff(dim=0)
        phase[1:] += (self.remainder(step + math.pi, 2 * math.pi) - math.pi - step).cumsum(0)
        change = (self._blur(amplitude * phase) / self._blur(amplitude)).diff(dim=0)
        change -= change.mean((-2, -1), keepdim=True)
        return change.clamp(-5 * math.pi, 5 * math.pi)

    def _blur(self, maps: torch.Tensor) -> torch.Tensor:
        flat = maps.reshape(-1, 1, *maps.shape[-2:])
        return F.conv2d(flat, self.kernel, padding=self.kernel.shape[-1] // 2).view(maps.shape)


# ---- 4: pyrtools --------------------------------------------------------------------------------


def pyrtools_once(frames: torch.Tensor) -> list[list[torch.Tensor]]:
    """Pyramid by pyrtools, blur by SciPy, float64, each frame once."""
    out, before = [[] for _ in LEVELS], None
    for frame in frames.numpy():
        n = len(frame)
        wide = np.pad(frame / 255.0, ((0, n), (0, n)), "symmetric")
        pyramid = NumpyPyramid(wide, height=2, order=ORIENTATIONS - 1, is_complex=True).pyr_coeffs
        now = [
            np.stack([pyramid[i, b][: n >> i, : n >> i] for b in range(ORIENTATIONS)])
            for i in range(len(LEVELS))
        ]
        for i in range(len(LEVELS) if before else 0):
            product = now[i] * before[i].conj()
            weight = np.abs(product)
            change, total = _gaussian(weight * np.angle(product)), _gaussian(weight)
            change /= total + EPS
            change -= change.mean((-2, -1), keepdims=True)
            out[i].append(torch.from_numpy(change[None]))
        before = now
    return out


def _gaussian(maps: np.ndarray) -> np.ndarray:
    return gaussian_filter(maps, SIGMA, mode="constant", truncate=2.5, axes=(-2, -1))


# ---- 5 and 6: pyramids in torch -----------------------------------------------------------------


class Plenoptic:
    """Pyramid by plenoptic, without residuals; the rest as in `Fourier`."""

    def __init__(self, size: int):
        order = ORIENTATIONS - 1
        self.pyramid = SteerablePyramidFreq((2 * size, 2 * size), 2, order, is_complex=True)

    def once(self, frames: torch.Tensor) -> list[list[torch.Tensor]]:
        """Maps, each frame once."""
        out = [[] for _ in LEVELS]
        for x in chunks(frames):
            n = x.shape[-1]
            bands = self.pyramid(mirrored(x)[:, None], scales=[0, 1])
            for i, maps in enumerate(out):
                maps.append(pairwise(bands[i][:, 0, :, : n >> i, : n >> i]))
        return out


class Fourier:
    """Our own rule by Fourier transforms: masks made before, spectra cropped, no residuals."""

    def __init__(self, size: int):
        self.masks = []
        for level in LEVELS:
            fx, fy, radius = frequencies(size, level)
            bands = [band_pass(radius, level) * lobe(fx, fy, b, ORIENTATIONS) for b in (0, 1)]
            self.masks.append(torch.stack(bands).float())

    def once(self, frames: torch.Tensor) -> list[list[torch.Tensor]]:
        """Maps, each frame once."""
        out = [[] for _ in LEVELS]
        for x in chunks(frames):
            spectrum = torch.fft.fft2(mirrored(x))
            for maps, masks in zip(out, self.masks, strict=True):
                n = masks.shape[-1]
                spectrum = cropped(spectrum, n) if n < spectrum.shape[-1] else spectrum
                half = torch.fft.ifft(spectrum[:, None] * masks, dim=-1)[..., : n // 2]
                maps.append(pairwise(torch.fft.ifft(half, dim=-2)[..., : n // 2, :]))
        return out


def pairwise(z: torch.Tensor) -> torch.Tensor:
    """Blurred phase differences (F-1, K, h, w) of complex bands (F, K, h, w)."""
    re, im = z.real.contiguous(), z.imag.contiguous()  # strided parts cost atan2 its speed
    real = re[1:] * re[:-1] + im[1:] * im[:-1]
    imaginary = im[1:] * re[:-1] - re[1:] * im[:-1]
    weight = torch.sqrt(real * real + imaginary * imaginary)
    change, total = _separable(torch.stack([weight * torch.atan2(imaginary, real), weight]))
    change = change / (total + EPS)
    return change - change.mean((-2, -1), keepdim=True)


def _separable(maps: torch.Tensor) -> torch.Tensor:
    """Two passes of 11 taps; maps as channels in groups go twice as fast as maps as a batch."""
    flat = maps.reshape(1, -1, *maps.shape[-2:])
    n, taps = flat.shape[1], blur_taps(SIGMA).float()
    reach = len(taps) // 2
    down, across = (taps.view(1, 1, *s).expand(n, -1, -1, -1) for s in ((-1, 1), (1, -1)))
    flat = F.conv2d(flat, down, padding=(reach, 0), groups=n)
    return F.conv2d(flat, across, padding=(0, reach), groups=n).view(maps.shape)
