"""Local contrast normalisation: each pixel relative to the light and the contrast around it.

Both forms take the local mean away and divide by the local contrast. ``w *`` is the Gaussian
window, normalised; the border is mirrored without repeating its pixel (reflect-101)::

    v = x - w * x        s = sqrt(w * v**2)
    "jarrett"    y = v / max(c, s),  c = mean of s over the image
    "mean_std"   y = v / (s + eps)

The first is of Jarrett et al., *What is the Best Multi-Stage Architecture for Object Recognition?*,
ICCV 2009. In the second, s is the deviation of the pixels from their own local means, as in the
first, not the standard deviation sqrt(w * x**2 - (w * x)**2) about one mean. On faces the two give
nearly the same picture (a test holds them to a correlation of 0.95); but in this one a slope in the
light does not count as contrast, and float32 suffices, where a difference of squares cancels.
"""

import math

import numpy as np
import torch
from torch.nn.functional import conv1d, pad

try:
    import cv2
except ModuleNotFoundError:  # "torch" does the same without it
    cv2 = None

from micromacro.errors import BadInput, check_choice, whole
from micromacro.kernels.checks import check_tensor, check_values, triton_serves, wide

FLAT = 1e-6  # the least divisor of "jarrett": 1/4000 grey level, so no light is ever amplified
TRITON_WIDEST = 17  # px; wider windows leave less than a quarter of a tile of 64 px
_CHUNK_PX = 2**16  # frames of this many pixels together stay in the second-level cache


def local_contrast(
    images: torch.Tensor,
    *,
    method: str = "jarrett",
    sigma: float = 2.0,
    window: int = 9,
    eps: float = 0.02,
    backend: str = "auto",
    check: bool = True,
) -> torch.Tensor:
    """Normalise the local contrast of each image.

    An image without contrast gives 0. "jarrett" is unchanged by a gain a > 0 and an offset of the
    whole image, to rounding and as long as c stays above 1e-6; under a gain that varies in space
    only where s > c. "mean_std" is unchanged by an offset, and by a gain where s is far above eps.

    Backends: "auto" is "opencv" on the CPU, if it is installed; on CUDA it is "triton" where that
    serves (windows of up to 17 px, no gradient), 1.8 to 11 times as fast on an H100 as "torch",
    which it is elsewhere. "torch" multiplies by banded matrices, on any device, and is the one that
    can be differentiated (not where an image is flat: the root has no slope at 0); it wants full
    float32 products, torch's default, not TF32.
    Each differs from :func:`local_contrast_reference` by up to 1e-5 on faces.

    Args:
        images: float32 in [0, 1] or uint8, (..., H, W), H and W >= window; any strides.
        method: Which of the two formulas above: "jarrett" or "mean_std".
        sigma: Standard deviation of the Gaussian window in pixels, above 0.
        window: Side of the window in pixels, odd and at least 3.
        eps: "mean_std" only: added to s, in units where white is 1. The default, five grey levels,
            keeps the noise of smooth skin small.
        backend: What computes it: "auto", "opencv", "torch" or "triton"; see above.
        check: Look at every value first (float32 only; on CUDA this waits for the device).

    Returns:
        float32, same shape and device, contiguous.

    Raises:
        BadInput: Unknown method or backend; a window that is even or larger than the image; sigma
            or eps not above 0; another dtype; values not finite or not in [-1, 2]; a gradient asked
            of a backend that has none; a backend that this device lacks.
    """
    window = _check_options(images, method, sigma, window, eps)
    backend = _backend(images, backend, window)
    if check:
        check_values("images", images, -1, 2)
    if images.numel() == 0:
        return torch.empty(images.shape, dtype=torch.float32, device=images.device)
    if backend == "torch":
        with torch.autocast(images.device.type, enabled=False):
            return _by_matrices(_to_unit(images, torch.float32), method, sigma, window, eps)
    frames = images.detach().reshape(-1, *images.shape[-2:])
    taps = gaussian(window, sigma)
    if backend == "opencv":
        return _by_opencv(frames, method, taps, eps).view(images.shape)
    from micromacro.kernels.local_contrast_triton import local_contrast_triton

    return local_contrast_triton(frames, method, taps, eps).view(images.shape)


def local_contrast_reference(
    images: torch.Tensor,
    *,
    method: str = "jarrett",
    sigma: float = 2.0,
    window: int = 9,
    eps: float = 0.02,
) -> torch.Tensor:
    """The same in float64, with plain tensor operations: slow, trusted, differentiable.

    Args:
        images: float32, float64 in [0, 1] or uint8, (..., H, W).
        method: Which formula: "jarrett" or "mean_std".
        sigma: Standard deviation of the Gaussian window in pixels, above 0.
        window: Side of the window in pixels, odd and at least 3.
        eps: "mean_std" only: what is added to s, in units where white is 1.

    Returns:
        float64, same shape; on the CPU where the device of the images has no float64.

    Raises:
        BadInput: As :func:`local_contrast`, which also looks at the values; this does not.
    """
    window = _check_options(images, method, sigma, window, eps, also=torch.float64)
    images = images.to(wide(images.device))
    return _by_matrices(_to_unit(images, torch.float64), method, sigma, window, eps)


def gaussian(window: int, sigma: float) -> torch.Tensor:
    """Weights of the window along one axis: float64 (window,), sum 1."""
    offset = torch.arange(window, dtype=torch.float64) - window // 2
    taps = torch.exp(-(offset**2) / (2 * sigma**2))
    return taps / taps.sum()


def _by_matrices(x, method, sigma, window, eps):
    """The formulas as they stand, in the dtype of ``x``."""
    taps = gaussian(window, sigma)
    rows, columns = (_banded(n, taps).to(x) for n in x.shape[-2:])
    x = x - x[..., :1, :1]  # so that flat is 0, and its mean too, without float64
    x = x - x.mean((-2, -1), keepdim=True)
    v = x - rows @ x @ columns.mT  # v = x - w * x
    s = (rows @ v.square() @ columns.mT).sqrt()  # s = sqrt(w * v**2)
    if method == "mean_std":
        return v / (s + eps)
    return v / torch.maximum(s, s.mean((-2, -1), keepdim=True)).clamp_min(FLAT)


def _banded(n: int, taps: torch.Tensor) -> torch.Tensor:
    """The filter along an axis of n pixels, its mirrored border folded in: float64 (n, n)."""
    r = len(taps) // 2
    # The filter's answer to each single pixel is its column.
    impulses = pad(torch.eye(n, dtype=torch.float64)[:, None], (r, r), mode="reflect")
    return conv1d(impulses, taps[None, None])[:, 0].T


def _by_opencv(images, method, taps, eps):
    """Small frames share a call: they stand on each other, with mirrored rows between."""
    frames, kernel, border = images.numpy(), taps.float().numpy(), cv2.BORDER_REFLECT_101
    N, H, W = frames.shape
    white = 255 if frames.dtype == np.uint8 else 1
    n = min(N, max(1, _CHUNK_PX // (H * W)))
    r = len(taps) // 2 if n > 1 else 0  # the border of a single frame is OpenCV's work
    out = np.empty(frames.shape, np.float32)
    # Used again for every call: fresh pages cost more than the arithmetic.
    buffers = np.empty((2, n, H + 2 * r, W), np.float32)
    # Any constant near the pixels serves to centre them; in float64, so that flat stays flat.
    middle = frames[:, H // 2 : H // 2 + 1]
    centre = middle.mean(axis=2, keepdims=True, dtype=np.float64).astype(np.float32)
    for start in range(0, N, n):
        part = slice(start, start + n)
        v, s = buffers[:, : len(frames[part])]
        v_all, s_all = v.reshape(-1, W), s.reshape(-1, W)
        v_in, s_in = v[:, r : r + H], s[:, r : r + H]
        np.subtract(frames[part], centre[part], out=v_in)
        _mirror_rows(v, r)
        cv2.sepFilter2D(v_all, -1, kernel, kernel, dst=s_all, borderType=border)
        # V = x - w * x, wrong in the rows between, which are mirrored again.
        np.subtract(v_all, s_all, out=v_all)
        _mirror_rows(v, r)
        np.multiply(v_all, v_all, out=s_all)  # v**2, to be blurred in place
        cv2.sepFilter2D(s_all, -1, kernel, kernel, dst=s_all, borderType=border)
        cv2.sqrt(s_all, dst=s_all)
        if method == "mean_std":
            np.add(s_all, np.float32(eps * white), out=s_all)
        else:
            for frame in s_in:
                cv2.max(frame, max(cv2.mean(frame)[0], FLAT * white), dst=frame)
        np.divide(v_in, s_in, out=out[part])
    return torch.from_numpy(out)


def _mirror_rows(frames: np.ndarray, r: int) -> None:
    """Fill r rows above and below each frame."""
    if r:
        frames[:, :r] = frames[:, 2 * r : r : -1]
        frames[:, -r:] = frames[:, -r - 2 : -2 * r - 2 : -1]


def _to_unit(images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    x = images.to(dtype).contiguous()
    return x / 255 if images.dtype == torch.uint8 else x


def _backend(images: torch.Tensor, backend: str, window: int) -> str:
    """The backend that will run, once it is known to be able to."""
    check_choice("backend", backend, ("auto", "opencv", "torch", "triton"))
    wants_slope = images.requires_grad and torch.is_grad_enabled()
    if backend == "auto":
        fits = window <= TRITON_WIDEST and not wants_slope and triton_serves(images.device)
        on_cpu = images.device.type == "cpu" and cv2 is not None
        backend = "opencv" if on_cpu else "triton" if fits else "torch"
    if backend == "opencv" and cv2 is None:
        raise BadInput("backend", "OpenCV is not installed", "choose torch or auto")
    if backend == "opencv" and images.device.type != "cpu":
        raise BadInput("backend", f"OpenCV cannot read {images.device}", "choose torch or auto")
    if backend == "triton" and window > TRITON_WIDEST:
        remedy = f'choose at most {TRITON_WIDEST}, or backend="torch"'
        raise BadInput("window", f"{window} px is too wide for Triton's tiles", remedy)
    if backend != "torch" and wants_slope:
        raise BadInput("images", f"{backend} has no gradient", 'choose backend="torch", or detach')
    return backend


def _check_options(images, method, sigma, window, eps, also=torch.float32) -> int:
    """The window as an int."""
    check_tensor("images", images, "(..., H, W)", (torch.float32, torch.uint8, also))
    check_choice("method", method, ("jarrett", "mean_std"))
    side = whole(window)
    if side is None or side < 3 or side % 2 == 0:
        raise BadInput("window", f"{window} is not an odd number of pixels", "choose 3, 5, 7, ...")
    H, W = images.shape[-2:]
    if side > min(H, W):
        raise BadInput("window", f"{window} px on images of {H}x{W}", "choose a smaller window")
    for name, value in (("sigma", sigma), ("eps", eps)):
        if not 0 < value < math.inf:
            raise BadInput(name, f"{value} is not above 0", "choose a positive number")
    return side
