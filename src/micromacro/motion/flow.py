"""Dense optical flow between pairs of grey images: one call, six methods.

    method         on                    sees            made for
    tvl1           any device, batched   float32         the default: sharp edges, few outliers;
                                                         Apple's GPUs have no float64: on the CPU
    dual_tvl1      CPU, pair by pair     float32         OpenCV's TV-L1, the peer of the first
    farneback      CPU, pair by pair     float32         smooth motion, a blurred flow
    dis_ultrafast  CPU, pair by pair     8 bit           speed; coarsest
    dis_fast       CPU, pair by pair     8 bit           speed
    dis_medium     CPU, pair by pair     8 bit           the most careful preset of DIS

`tvl1` takes the steps of `dual_tvl1`: with few iterations both agree to 0.0001 px. With the default
settings both differ by 0.002 to 0.045 px on average (at most 0.025 away from the border;
photographs of 48 to 112 px, motions of 0.1 to 3 px), which is as much as `dual_tvl1` changes when
the grey values of its input are rounded differently. Neither is nearer to the true flow.

Traps: DIS works on a coarser grid from a width of 80 to 100 px on; there ultrafast and fast err by
0.2 to 0.5 px on a shift of 1 px, where smaller images give 0.01. Farneback hardly sees textures of
a few grey levels: it divides by a determinant plus a constant.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from numbers import Real

import cv2
import numpy as np
import torch

from micromacro.errors import BadInput, check_choice, whole
from micromacro.kernels.checks import FLOATS, check_tensor, check_values, wide
from micromacro.motion.tvl1 import TVL1, tvl1_flow

METHODS = ("tvl1", "dual_tvl1", "farneback", "dis_ultrafast", "dis_fast", "dis_medium")

MIN_SIDE = 12  # px; below, a shift of 1 px is not found by every method, and DIS refuses
WIDE_DIS = 32  # px; in lower images OpenCV's DIS crashes, or returns nan, if they are wide


@dataclass(frozen=True)
class Farneback:
    """The settings of Farneback's flow; the defaults are those of OpenCV's examples.

    Args:
        scale_step: Side of a level of the pyramid relative to that of the level before.
        scales: Number of levels, at most.
        window: Side in px of the window over which the motion is averaged: larger is smoother.
        iterations: Number of iterations on each level.
        polynomial_px: Side in px of the neighbourhood that a polynomial is fitted to.
        polynomial_sigma: Standard deviation in px of the fit's weights.
        gaussian: 1 weights the window by a Gaussian, 0 all of it alike.
    """

    scale_step: float = 0.5
    scales: int = 3
    window: int = 15
    iterations: int = 3
    polynomial_px: int = 5
    polynomial_sigma: float = 1.2
    gaussian: int = 0


# Side of the face in px -> the method and the settings of `tuned_flow`.
TUNED = {48: ("dis_fast", {}), 112: ("farneback", {"window": 49, "gaussian": 1, "iterations": 3})}
_SETTINGS = {"tvl1": TVL1, "dual_tvl1": TVL1, "farneback": Farneback}
_PRESETS = {
    "dis_ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "dis_fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "dis_medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


@torch.no_grad()
def optical_flow(
    first: torch.Tensor, second: torch.Tensor, *, method: str = "tvl1", **settings: float
) -> torch.Tensor:
    """Where the content of each pixel of `first` is found in `second`.

    What is at position p in `first` is found at p + flow(p) in `second`. Deterministic; every pair
    is measured as if it were alone. No gradient flows back to the images.

    Args:
        first: float32 or float64 in [0, 1], or uint8 0-255, (..., H, W), grey; any leading
            dimensions, also none; of RGB each colour is an image, see `kernels.grey`. Worked on as
            float32 times 255, so that the weights of the methods, which are made for 8 bit, mean
            the same; only DIS rounds to 8 bit.
        second: Images of the same shape, on the same device.
        method: The way of measuring, one of `METHODS`.
        settings: Options of "tvl1" and "dual_tvl1", those of `TVL1`, or of "farneback", those of
            `Farneback`. The other methods have none.

    Returns:
        flow_px, float32 (..., 2, H, W): x (right) then y (down), in pixels; on the images' device.

    Raises:
        BadInput: An unknown method or setting; a setting out of range; images that are no tensors,
            of another dtype, of different shape or device, not finite, outside [0, 1] or smaller
            than 12 px; for DIS also images less than 32 px high and more than twice as wide.
    """
    options = _with_defaults(method, settings)
    pair = _checked_pair(first, second, method)
    *lead, height, width = first.shape
    pair = [image.reshape(-1, height, width) for image in pair]
    if first.numel() == 0:
        flow = pair[0].new_empty(0, 2, height, width)
    elif method == "tvl1":
        pair = [image.to(wide(first.device)) for image in pair]
        flow = tvl1_flow(*pair, TVL1(**options)).to(first.device)
    else:
        flow = _with_opencv(*pair, _opencv_method(method, options)).to(first.device)
    return flow.reshape(*lead, 2, height, width)


def tuned_flow(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The flow that finds most of a face's motion: the method and the settings that `TUNED` names.

    ``tools/flow_settings.py`` chose them among Farneback's settings and the presets of DIS, for
    faces of 48 and 112 px, on development actors who move by 0.1 to 0.8 px of 48. Other sizes take
    the nearest one's, and larger motions may be lost.

    Args:
        first: As for `optical_flow`.
        second: As for `optical_flow`.

    Returns:
        As `optical_flow`.

    Raises:
        BadInput: As `optical_flow`.
    """
    check_tensor("first", first, "(..., H, W)", (torch.float32, torch.float64, torch.uint8))
    method, settings = TUNED[min(TUNED, key=lambda side: abs(side - first.shape[-1]))]
    return optical_flow(first, second, method=method, **settings)


def summed_flow(chunks: Iterable[torch.Tensor], *, method: str = "tvl1") -> Iterator[torch.Tensor]:
    """Flow from the first frame to each, added up pixel by pixel from neighbour to neighbour.

    The skin is not followed, so the flow across any gap is a difference of two of these.

    Args:
        chunks: The video, (n, 1, H, W) each, in [0, 1] or uint8.
        method: Of `optical_flow`.

    Yields:
        float64 (n, 2, H, W) for each chunk, px; float32 would not last for ten minutes. On the CPU
        where the device of the chunk has no float64.

    Raises:
        BadInput: A chunk of another shape, such as that of RGB; as `optical_flow`.
    """
    before, total = None, 0
    for chunk in chunks:
        check_tensor("a chunk of the video", chunk, "(n, 1, H, W)", (*FLOATS, torch.uint8))
        if len(now := chunk[:, 0]):
            earlier = torch.cat([now[:1] if before is None else before, now[:-1]])
            flow_px = optical_flow(earlier, now, method=method)
            sums = total + flow_px.to(wide(chunk.device), torch.float64).cumsum(0)
            before, total = now[-1:], sums[-1]
            yield sums


# ---- OpenCV -------------------------------------------------------------------------------------


def _with_opencv(first: torch.Tensor, second: torch.Tensor, measure: Callable) -> torch.Tensor:
    """Pair by pair on the CPU; images as float32 (H, W), 0-255."""
    pairs = zip((255 * first).cpu().numpy(), (255 * second).cpu().numpy(), strict=True)
    flows = np.stack([measure(one, two) for one, two in pairs])
    return torch.from_numpy(flows).permute(0, 3, 1, 2).contiguous()


def _opencv_method(method: str, options: dict) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The measurement as a function of two images float32 (H, W), 0-255, to flow (H, W, 2)."""
    if method == "farneback":
        *values, gaussian = options.values()  # in the order of OpenCV's arguments
        values.append(cv2.OPTFLOW_FARNEBACK_GAUSSIAN * gaussian)
        return lambda one, two: cv2.calcOpticalFlowFarneback(one, two, None, *values)
    if method == "dual_tvl1":
        return partial(_dual_tvl1, TVL1(**options))
    return partial(_dis, _PRESETS[method])


def _dual_tvl1(s: TVL1, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    if not hasattr(cv2, "optflow"):
        remedy = 'use method="tvl1", or install opencv-contrib-python-headless'
        raise BadInput('method "dual_tvl1"', "this OpenCV has no contrib modules", remedy)
    # A new object each time: after a small image it would keep the smaller number of scales.
    # In the order of their declaration: tau, lambda, theta, scales, warps, epsilon, inner and outer
    # iterations, step of the scales, gamma (0: no illumination term), side of the median.
    meter = cv2.optflow.DualTVL1OpticalFlow_create(
        *(s.tau, s.lambda_, s.theta, s.scales, s.warps, s.epsilon),
        *(s.inner_iterations, s.outer_iterations, s.scale_step, 0.0, s.median_filtering),
    )
    return meter.calc(one / 255, two / 255, None)  # which multiplies float images by 255


def _dis(preset: int, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    # A new object each time: small images switch its preset, for good.
    meter = cv2.DISOpticalFlow_create(preset)
    return meter.calc(np.rint(one).astype(np.uint8), np.rint(two).astype(np.uint8), None)


# ---- what may come in ---------------------------------------------------------------------------

_POSITIVE = ("a number above 0", lambda v: 0 < v < float("inf"))
_COUNT = ("a whole number above 0", lambda v: (whole(v) or 0) > 0)
_RULES = {  # of the settings that are more than a positive number or a count
    "scale_step": ("a number between 0 and 1", lambda v: 0 < v < 1),
    "epsilon": ("a number of 0 or more", lambda v: 0 <= v < float("inf")),
    "median_filtering": ("1, 3 or 5", lambda v: whole(v) in (1, 3, 5)),
    "gaussian": ("0 or 1", lambda v: whole(v) in (0, 1)),
}


def _with_defaults(method: str, settings: dict) -> dict:
    """All settings of a method: those of the call, checked, over the defaults."""
    check_choice("method", method, METHODS)
    options = defaults = asdict(_SETTINGS[method]()) if method in _SETTINGS else {}
    for name, value in settings.items():
        if name not in defaults:
            remedy = f"take {', '.join(defaults)}" if defaults else "give none"
            raise BadInput(name, f"not a setting of {method}", remedy)
        rule = _COUNT if isinstance(defaults[name], int) else _POSITIVE
        wanted, holds = _RULES.get(name, rule)
        number = value if isinstance(value, Real) and not isinstance(value, bool) else whole(value)
        if number is None or not holds(number):
            raise BadInput(name, f"is {value!r}", f"give {wanted}")
        options = options | {name: type(defaults[name])(number)}
    return options


def _checked_pair(first: torch.Tensor, second: torch.Tensor, method: str) -> list[torch.Tensor]:
    """Both images as float32 (..., H, W) in [0, 1]."""
    pair = {"first": first, "second": second}
    for name, images in pair.items():
        check_tensor(name, images, "(..., H, W)", (torch.float32, torch.float64, torch.uint8))
    if first.shape != second.shape or first.device != second.device:
        shapes = " and ".join(f"{tuple(i.shape)} on {i.device}" for i in pair.values())
        raise BadInput("first and second", shapes, "give the same shape and device")
    height, width = first.shape[-2:]
    if min(height, width) < MIN_SIDE:
        remedy = f"give at least {MIN_SIDE} px a side"
        raise BadInput("first and second", f"{height} x {width} px", remedy)
    if method in _PRESETS and height < WIDE_DIS and width > 2 * height:
        remedy = f"give at least {WIDE_DIS} rows, fewer columns, or take another method"
        raise BadInput("first and second", f"{height} x {width} px is too wide for DIS", remedy)
    for name, images in pair.items():
        check_values(name, images, 0, 1)
    return [i.float() / 255 if i.dtype == torch.uint8 else i.float() for i in pair.values()]
