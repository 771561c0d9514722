"""The complex steerable pyramid: images to bands of local amplitude and phase, and back.

Portilla and Simoncelli, *A Parametric Texture Model Based on Joint Statistics of Complex Wavelet
Coefficients*, IJCV 2000, appendix. Everything happens in the frequency domain, so the borders are
periodic; mirror the image first if that matters. The masks are in `micromacro.kernels.steerable`.

With F the Fourier transform, r the radius (1 is the Nyquist frequency), A_b the lobe of band b and
S_j the subsampling by ``2 ** (j - 1)``, levels j = 1 ... L and bands b = 0 ... K - 1 are

    band[j, b] = S_j F^-1 [ low_pass(r, j - 1) high_pass(r, j) A_b F image ]

and the residuals ``high = F^-1 [high_pass(r, 0) F image]``, ``low = S_(L+1) F^-1 [low_pass(r, L) F
image]``. The image comes back through the same masks: the squares of the radial masks sum to 1, and
those of the lobes, over all bands and both signs of the frequency, to 4:

    image = F^-1 [ high_pass F high + low_pass F low ] + Re F^-1 [ sum band_pass A_b F band ] / 2

Sizes. Level j has ``ceil(H / 2 ** (j - 1))`` rows, columns alike. Subsampling keeps the waves
-floor(n / 2) ... ceil(n / 2) - 1 of the finest grid; all that are dropped have a mask of exactly 0,
so any size comes back, odd or even. Sample (y, x) of a band of size (h, w) lies at the image's
(y H / h, x W / w), between pixels where H is not a multiple of h.

Against pyrtools' ``SteerablePyramidFreq(image, height=L, order=K - 1, is_complex=True)``: levels,
bands and sizes come in the same order; its bands are ours times ``(-i) ** (K - 1) H W / (h w)`` and
its low-pass residual is ours times ``H W / (h w)``. Ours is one gain for all levels. Its frequency
grid is off by half a wave along odd sides, ours is not.
"""

from dataclasses import dataclass

import torch

from micromacro.errors import BadInput, whole
from micromacro.kernels.checks import check_tensor, wide
from micromacro.kernels.steerable import band_pass, high_pass, lobe, low_pass


@dataclass(frozen=True, eq=False)
class Pyramid:
    """What `analyse` makes of images ``(..., H, W)``.

    The wave ``cos(2 pi f x)`` at the peak of a mask, so at a wavelength of ``2 ** (j + 1)`` pixels
    along the direction of band b, gives that band the value ``sqrt(c) exp(2 pi i f x)``: amplitude
    ``sqrt(c)`` with c as in `lobe` (1, 1, 0.943, 0.894, 0.855, 0.823 for K = 1 ... 6) at every
    level. Away from the peak it is ``band_pass * lobe / 2``. The phase of band b rises along its
    direction, to the right for b = 0. So a motion to the right by d pixels makes the phase of band
    0 *fall* by ``2 pi d / wavelength``, and adding to the phases moves the image to the left.

    Attributes:
        high: Real (..., H, W): what lies above level 1, the corners of the spectrum among it.
        bands: One complex (..., K, h, w) for each level, finest first, (h, w) as above.
        low: Real (..., h, w), one halving below the last level; its mean is the image's.
    """

    high: torch.Tensor
    bands: list[torch.Tensor]
    low: torch.Tensor


def max_levels(height: int, width: int) -> int:
    """The most levels an image carries: at the last one's peak, two waves span the shorter side.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        ``floor(log2(min(height, width))) - 2``, never below 0: an image under 8 px has none.
    """
    return max(0, min(height, width).bit_length() - 3)


def analyse(images: torch.Tensor, *, levels: int, orientations: int) -> Pyramid:
    """Split images into a pyramid.

    Differentiable. Computed in float64 whatever the dtype, on the CPU where the device has none: a
    float32 pyramid is rounded once. Time
    grows as K H W log(H W) for each image. The masks, K H W, are made anew in each call, so pass
    many images at a time. A float32 pixel becomes about 11 K + 4 bytes and needs 40 K more on the
    way, twice that if it is of one image only. A nan or inf spreads over its own image, no other.

    Args:
        images: float32 or float64 (..., H, W), any range and unit, any leading dimensions.
        levels: Number L of levels, 1 to `max_levels`.
        orientations: Number K of orientations, at least 1.

    Returns:
        The pyramid, in the dtype and on the device of the images.

    Raises:
        BadInput: The images have another dtype, fewer than two dimensions or too few pixels, or
            levels or orientations are out of range.
    """
    check_tensor("images", images, "(..., H, W)", (torch.float32, torch.float64))
    most = max_levels(*images.shape[-2:])
    if most < 1:
        raise BadInput("images", f"of shape {tuple(images.shape)}", "give at least 8 x 8 pixels")
    if not 1 <= (whole(levels) or 0) <= most or (whole(orientations) or 0) < 1:
        options = f"levels={levels}, orientations={orientations}"
        raise BadInput(options, "is out of range", f"these images carry 1 to {most} levels")
    return decompose(images, whole(levels), whole(orientations))


def decompose(images: torch.Tensor, levels: int, orientations: int) -> Pyramid:
    """What `analyse` does, unchecked, and for any number of levels."""
    size, real = images.shape[-2:], images.dtype
    spectrum = _spectrum(images)  # (..., H, W)
    waves = [_waves(size, halvings, spectrum.device) for halvings in range(levels + 1)]
    high = _space(spectrum * high_pass(_radius(size, waves[0]))).real.to(images)
    bands = []
    for level in range(1, levels + 1):
        part = spectrum[..., *waves[level - 1]].unsqueeze(-3)  # (..., 1, h, w)
        band = _space(part * _band_masks(size, waves[level - 1], level, orientations))
        bands.append(band.to(images.device, real.to_complex()))  # (..., K, h, w)
    low = spectrum[..., *waves[-1]] * low_pass(_radius(size, waves[-1]), levels)
    return Pyramid(high, bands, _space(low).real.to(images))


def synthesise(pyramid: Pyramid) -> torch.Tensor:
    """Put images together again: the inverse of `analyse`.

    Differentiable; cost as for `analyse`. Of a changed band only what its own mask passes counts,
    so analysing the result does not give that band again.

    Args:
        pyramid: A pyramid from `analyse`; the values of its bands may be changed, their shapes may
            not.

    Returns:
        Real (..., H, W), dtype and unit of the analysed images. From an unchanged pyramid images
        in [0, 1] come back to 1e-6 in float32 (1e-7 is usual), 1e-14 in float64.

    Raises:
        BadInput: A band is not complex, or its shape does not belong to the size of ``high``.
    """
    _check_shapes(pyramid)
    high, levels = pyramid.high, len(pyramid.bands)
    size, device = high.shape[-2:], wide(high.device)
    waves = [_waves(size, halvings, device) for halvings in range(levels + 1)]
    spectrum = _spectrum(high) * high_pass(_radius(size, waves[0]))  # (..., H, W)
    for level, band in enumerate(pyramid.bands, 1):
        masks = _band_masks(size, waves[level - 1], level, band.shape[-3])
        spectrum[..., *waves[level - 1]] += (_spectrum(band) * masks).sum(-3) / 2
    spectrum[..., *waves[-1]] += _spectrum(pyramid.low) * low_pass(_radius(size, waves[-1]), levels)
    return _space(spectrum).real.to(high)


def _spectrum(image: torch.Tensor) -> torch.Tensor:
    """Amplitudes of the waves, complex128; an inverse of any size keeps them as they are."""
    double = torch.complex128 if image.is_complex() else torch.float64  # FFTs in float32 cost 1e-6
    image = image.to(wide(image.device), double)
    if image.numel() == 0:  # torch 2.11 refuses to transform an empty batch
        return image.to(torch.complex128)
    return torch.fft.fft2(image, norm="forward")


def _space(spectrum: torch.Tensor) -> torch.Tensor:
    return torch.fft.ifft2(spectrum, norm="forward") if spectrum.numel() else spectrum


def _halved(size: tuple[int, int], halvings: int) -> tuple[int, int]:
    return tuple(-(-n // 2**halvings) for n in size)


def _waves(size: tuple[int, int], halvings: int, device: torch.device) -> list[torch.Tensor]:
    """The waves that fit the halved image, in the order of the FFT: 0, 1, ..., -2, -1.

    Returns:
        int64 (h, 1) and (w,), cycles per image downwards and to the right. As indices, negative
        ones from the end, they pick their own places in the spectrum of the full size.
    """
    h, w = ((torch.arange(n, device=device) + n // 2) % n - n // 2 for n in _halved(size, halvings))
    return [h[:, None], w]


def _frequency(size: tuple[int, int], waves: list[torch.Tensor]) -> list[torch.Tensor]:
    """Frequency along x and y, float64, 1 at the Nyquist frequency of the full size."""
    rows, cols = waves
    return [cols.double() / (size[1] / 2), rows.double() / (size[0] / 2)]


def _radius(size: tuple[int, int], waves: list[torch.Tensor]) -> torch.Tensor:
    """Radius of the frequency, float64 (h, w)."""
    return torch.hypot(*_frequency(size, waves))


def _band_masks(size, waves: list[torch.Tensor], level: int, orientations: int) -> torch.Tensor:
    """The masks of one level, float64 (K, h, w)."""
    frequency = _frequency(size, waves)
    lobes = torch.stack([lobe(*frequency, band, orientations) for band in range(orientations)])
    return lobes * band_pass(torch.hypot(*frequency), level)  # (K, h, w) times (h, w)


def _check_shapes(pyramid: Pyramid) -> None:
    """Refuse bands that are not complex, or parts that do not belong to the size of ``high``."""
    *lead, H, W = pyramid.high.shape
    parts = {f"bands[{i}]": (b, i, [*lead, b.shape[-3]]) for i, b in enumerate(pyramid.bands)}
    parts["low"] = (pyramid.low, len(pyramid.bands), lead)
    for name, (part, halvings, leading) in parts.items():
        expected = (*leading, *_halved((H, W), halvings))
        if part.shape != expected:
            fault = f"has shape {tuple(part.shape)}"
            raise BadInput(name, fault, f"give the shape {expected} that the size of high asks for")
        if name != "low" and not part.is_complex():
            raise BadInput(name, f"is {part.dtype}", "give it as complex numbers")
