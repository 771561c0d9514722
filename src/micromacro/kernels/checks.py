"""The doors of the kernels: what a tensor must be, asked in one line and refused in one."""

import importlib.util
import math
import os
from collections.abc import Sequence
from functools import lru_cache

import torch

from micromacro.errors import BadInput

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
NO_FLOAT64 = ("mps",)  # kinds of devices


def wide(device: torch.device) -> torch.device:
    """Where float64 can be computed for a tensor on a device: there, or else on the CPU."""
    return torch.device("cpu") if device.type in NO_FLOAT64 else device


def check_tensor(name: str, x: object, shape: str, dtypes: Sequence[torch.dtype]) -> None:
    """Refuse what is no tensor of such a shape and dtype.

    Args:
        name: Name of the argument, for the message.
        x: The argument itself.
        shape: The axes as a docstring writes them: "(..., H, W)" allows more axes where the dots
            are, "(T, H, W)" does not; an axis that is a number, or "1|3", has that size.
        dtypes: Types that the elements may have.

    Raises:
        BadInput: It is not such a tensor; the message says what it is and what to give, and where
            axes were taken for one another how to put them right.
    """
    if not isinstance(x, torch.Tensor):
        fault = f"a {type(x).__name__}, not a tensor"
        raise BadInput(name, fault, f"give {shape}; torch.as_tensor makes one")
    axes = shape.strip("(),").split(", ")
    if not _fits(x, axes):
        raise BadInput(name, f"has shape {tuple(x.shape)}", f"give {shape}{_right_way(x, axes)}")
    if x.dtype not in dtypes:
        kinds = " or ".join(str(dtype)[6:] for dtype in dtypes)  # without "torch."
        raise BadInput(name, f"has dtype {str(x.dtype)[6:]}", f"give {kinds}")


def _fits(x: torch.Tensor, axes: list[str]) -> bool:
    if "..." in axes:
        dots, more = axes.index("..."), x.ndim + 1 - len(axes)
        axes = axes[:dots] + ["..."] * more + axes[dots + 1 :]
    pairs = zip(axes, x.shape, strict=False)
    sizes = (str(n) in axis.split("|") for axis, n in pairs if axis[0].isdigit())
    return len(axes) == x.ndim and all(sizes)


def _right_way(x: torch.Tensor, axes: list[str]) -> str:
    """What would make it fit, if an axis of a certain size was taken for another."""
    fixed = [k - len(axes) for k, axis in enumerate(axes) if axis[0].isdigit()]
    pairs = [(a, a + 1) for k in fixed for a in (k - 1, k) if -x.ndim <= a < -1]
    ways = {f"x.movedim(-1, {k})": x.movedim(-1, k) for k in fixed if -x.ndim <= k}
    ways |= {f"x.transpose({a}, {b})": x.transpose(a, b) for a, b in pairs}
    if x.ndim > 2 and x.shape[-3] == 3:
        ways["kernels.grey(x).unsqueeze(-3)"] = x[..., :1, :, :]
    fitting = [way for way, view in ways.items() if _fits(view, axes)]
    return f", such as {fitting[0]}" if fitting else ""


def refuse_rgb(name: str, frames: torch.Tensor, otherwise: str = "") -> None:
    """Refuse frames (..., T, H, W) that look like RGB: three in place of time, or last.

    Args:
        name: Name of the argument, for the message.
        frames: Three axes or more.
        otherwise: What to do if it is frames, as the end of the remedy.

    Raises:
        BadInput: They do. A single (3, H, W) passes, for nobody can tell it from three frames.
    """
    fault = f"has shape {tuple(frames.shape)}"
    if frames.shape[-1] in (1, 3):
        remedy = "give kernels.grey(x.movedim(-1, -3))"
        raise BadInput(name, f"{fault}, colours where columns are", remedy)
    if frames.ndim > 3 and frames.shape[-3] == 3:
        remedy = f"give grey, by kernels.grey(x) or clip.grey(){otherwise}"
        raise BadInput(name, f"{fault}, three colours where frames are", remedy)


def check_values(
    name: str, x: torch.Tensor, low: float = -math.inf, high: float = math.inf
) -> torch.Tensor:
    """Refuse floating-point values that are not finite or not in [low, high]; reads every value.

    Args:
        name: Name of the argument, for the message.
        x: Any shape; whole numbers and empty tensors pass. On CUDA this waits for the device.
        low: The least value that passes.
        high: The largest value that passes.

    Returns:
        The tensor as it is.

    Raises:
        BadInput: Values are NaN, infinite or out of range.
    """
    if not x.is_floating_point() or x.numel() == 0:
        return x
    least, most = (float(end) for end in torch.aminmax(x.detach()))  # a NaN anywhere makes both NaN
    if not (math.isfinite(least) and math.isfinite(most)):
        raise BadInput(name, "holds NaN or infinite values", "leave those frames out, or mend them")
    if least < low or most > high:
        fault = f"values from {least:.4g} to {most:.4g}, not [0, 1]"
        raise BadInput(name, fault, "divide 8-bit values by 255, give uint8, or rescale")
    return x


@lru_cache  # a search of the disk takes as long as a small kernel
def _triton_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def triton_serves(device: torch.device) -> bool:
    """Whether compiled Triton kernels run on a device, so that ``"auto"`` may choose them.

    Args:
        device: Device of the tensors.

    Returns:
        True on a CUDA device with tf32 (Ampere or newer), where Triton is installed and not
        interpreted.
    """
    if device.type != "cuda" or os.environ.get("TRITON_INTERPRET", "0") != "0":
        return False
    return _triton_installed() and torch.cuda.get_device_capability(device) >= (8, 0)
