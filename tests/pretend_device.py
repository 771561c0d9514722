"""A stand-in for Apple's GPU, which has no float64, on any machine: real numbers, its rules.

Tensors that are `moved` say that they are on the device "mps" and are computed on the CPU. Inside
`PretendGpu` an operation that would make a float64 tensor there, or that mixes devices, raises as
on the device itself.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

GPU = torch.device("meta")
WIDE = (torch.float64, torch.complex128)
MAY_MIX = ("aten::copy_", "aten::_to_copy", "aten::index", "aten::index_put", "aten::index_put_")


class OnGpu(torch.Tensor):
    """A tensor of the stand-in."""

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        about = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        about |= {"dtype": held.dtype, "device": GPU}
        return torch.Tensor._make_wrapper_subclass(cls, held.shape, **about)

    def __init__(self, held: torch.Tensor):
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        with PretendGpu():
            return func(*args, **(kwargs or {}))


class PretendGpu(TorchDispatchMode):
    """Where the stand-in's rules hold."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [a for a in tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
        here = [t for t in tensors if isinstance(t, OnGpu)]
        beside = [t for t in tensors if not isinstance(t, OnGpu) and t.ndim]
        name = func._schema.name
        if here and beside and name not in MAY_MIX:
            raise RuntimeError(f"{name} of tensors on mps and on the CPU")
        device = kwargs.get("device")
        on_gpu = torch.device(device) == GPU if device is not None else bool(here)
        if name == "aten::copy_":
            on_gpu = isinstance(args[0], OnGpu)
        plain_args, plain = tree_map_only(OnGpu, lambda t: t.held, (args, kwargs))
        if device is not None:
            plain["device"] = "cpu"
        result = func(*plain_args, **plain)
        made = [t.dtype for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        if on_gpu and any(dtype in WIDE for dtype in made):
            raise TypeError(f"{name} makes {made} on mps, which has no float64")
        if not on_gpu:
            return result
        result = tree_map_only(torch.Tensor, OnGpu, result)
        return return_and_correct_aliasing(func, args, kwargs, result) if here else result


def moved(x):
    """Tensors, or a module, as they are on the stand-in."""
    with PretendGpu():
        return x.to(GPU)
