"""The doors of the kernels: what a tensor must be, asked in one line and refused in one."""

import importlib.util
import math
import os
from collections.abc import Sequence
from functools import lru_cache

import torch

from micromacro.errors import BadInput

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_tensor(name: str, x: object, shape: str, dtypes: Sequence[torch.dtype]) -> None:
    """Refuse what is no tensor of such a shape and dtype.

    Args:
        name: Name of the argument, for the message.
        x: The argument itself.
        shape: The axes as a docstring writes them: "(..., H, W)" allows more axes in front,
            "(T, H, W)" does not.
        dtypes: Types that the elements may have.

    Raises:
        BadInput: It is not such a tensor; the message says what it is and what to give.
    """
    kinds = " or ".join(str(dtype)[6:] for dtype in dtypes)  # without "torch."
    if not isinstance(x, torch.Tensor):
        raise BadInput(name, f"a {type(x).__name__}, not a tensor", f"give a tensor {shape}")
    more = "..." in shape
    n_axes = shape.count(",") + 1 - more
    if x.ndim < n_axes or (x.ndim > n_axes and not more):
        raise BadInput(name, f"has shape {tuple(x.shape)}", f"give {shape}")
    if x.dtype not in dtypes:
        raise BadInput(name, f"has dtype {str(x.dtype)[6:]}", f"give {kinds}")


def check_values(name: str, x: torch.Tensor, low: float = -math.inf, high: float = math.inf):
    """Refuse floating-point values that are not finite or not in [low, high]; reads every value.

    Args:
        name: Name of the argument, for the message.
        x: Any shape; whole numbers and empty tensors pass. On CUDA this waits for the device.
        low: The least value that passes.
        high: The largest value that passes.

    Raises:
        BadInput: Values are NaN, infinite or out of range.
    """
    if not x.is_floating_point() or x.numel() == 0:
        return
    least, most = (float(end) for end in torch.aminmax(x.detach()))  # a NaN anywhere makes both NaN
    if not (math.isfinite(least) and math.isfinite(most)):
        raise BadInput(name, "holds NaN or infinite values", "leave those frames out, or mend them")
    if least < low or most > high:
        fault = f"values from {least:.4g} to {most:.4g}, not [0, 1]"
        raise BadInput(name, fault, "divide 8-bit values by 255, give uint8, or rescale")


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
