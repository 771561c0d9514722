"""Triton, where it is installed, and whether it can serve a tensor; otherwise one clear line."""

import torch

from micromacro.errors import BadInput

try:
    import triton
    import triton.language as tl
except ImportError:  # there is none for macOS
    fault, remedy = "Triton is not installed", "choose another backend"
    raise BadInput("backend triton", fault, remedy) from None

__all__ = ["check_device", "tl", "triton"]


def check_device(kernel, device: torch.device) -> None:
    """Refuse what the kernel cannot run on.

    Args:
        kernel: A compiled kernel, or an interpreted one, which runs anywhere.
        device: Of its tensors.

    Raises:
        BadInput: Not a CUDA device, or one without tf32.
    """
    if not isinstance(kernel, triton.JITFunction):
        return
    fault = None
    if device.type != "cuda":
        fault = f"the images are on the {device}"
    elif torch.cuda.get_device_capability(device) < (8, 0):
        fault = "this GPU has no tf32 (older than Ampere)"
    if fault:
        remedy = "move them to an NVIDIA GPU with tf32, or choose another backend"
        raise BadInput("backend triton", fault, remedy)
