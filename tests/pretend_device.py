"""A device without float64, such as Apple's GPU, on any machine: real numbers, that device's rules.

Tensors that are moved there say that they are on the device "meta" and are computed on the CPU.
Inside `PretendDevice` an operation that would make a float64 tensor there, or that mixes devices,
raises as on the device itself. ("meta" is the one device of which PyTorch asks for no driver.)
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("meta")
WIDE = (torch.float64, torch.complex128)
MAY_MIX = {"copy_", "_to_copy", "index", "index_put", "index_put_", "_pack_padded_sequence"}


class Elsewhere(torch.Tensor):
    """A tensor on the device."""

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        about = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        about |= {"dtype": held.dtype, "device": DEVICE}
        return torch.Tensor._make_wrapper_subclass(cls, held.shape, **about)

    def __init__(self, held: torch.Tensor):
        self.held = held

    def tolist(self):
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        with PretendDevice():
            return func(*args, **(kwargs or {}))


class PretendDevice(TorchDispatchMode):
    """Where the device's rules hold."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func._schema.name.removeprefix("aten::")
        tensors = [a for a in tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
        there = [t for t in tensors if isinstance(t, Elsewhere)]
        here = [t for t in tensors if not isinstance(t, Elsewhere) and t.ndim]
        if any(t.device == DEVICE for t in here):
            raise RuntimeError(f"{name} of a tensor without values: PyTorch made it past this mode")
        if there and here and name not in MAY_MIX:
            raise RuntimeError(f"{name} of tensors on two devices")
        device = kwargs.get("device")
        plain_args, plain = tree_map_only(Elsewhere, lambda t: t.held, (args, kwargs))
        if device is not None:
            plain["device"] = "cpu"
        result = func(*plain_args, **plain)
        is_there = torch.device(device) == DEVICE if device is not None else bool(there)
        if name == "copy_":
            is_there = isinstance(args[0], Elsewhere)
        if not is_there:
            return result
        if any(t.dtype in WIDE for t in tree_leaves(result) if isinstance(t, torch.Tensor)):
            raise TypeError(f"{name} makes float64 on a device that has none")
        if name == "_pack_padded_sequence":  # whose second result is for the CPU
            return Elsewhere(result[0]), result[1]
        result = tree_map_only(torch.Tensor, Elsewhere, result)
        return return_and_correct_aliasing(func, args, kwargs, result) if there else result


def held(it):
    """What a tensor there holds, on the CPU; a tensor of the CPU as it is."""
    return it.held if isinstance(it, Elsewhere) else it
