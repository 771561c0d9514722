"""What every kernel promises, whatever computes it; on a GPU Triton's run compiled."""

import contextlib
from functools import partial

import pytest
import torch

from micromacro.kernels import local_contrast, phase_difference
from micromacro.kernels.phase_tables import phase_tables

METHODS = {
    **{f"phases by {name}": partial(phase_difference, backend=name) for name in ("gemm", "triton")},
    **{
        f"{method} by {name}": partial(local_contrast, method=method, backend=name)
        for method in ("jarrett", "mean_std")
        for name in ("opencv", "torch", "triton")
    },
}


@pytest.fixture(params=METHODS)
def call(request):
    """Images to a list of arrays; Triton's inputs and results lie where it computes."""
    cuda = torch.cuda.is_available() and request.param.endswith("triton")

    def call(images):
        maps = METHODS[request.param](images.to("cuda" if cuda else "cpu"))
        return maps if isinstance(maps, list) else [maps]

    return call


@contextlib.contextmanager
def double_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_strides_do_not_matter_and_bytes_are_floats_times_255(call, drifting):
    frames = (255 * drifting(7, 18, 52)).round().byte()
    views = [frames[:2, :, :18].mT, frames[:1, :, 20:38].expand(2, -1, -1), frames[1::3, :, 3:39:2]]
    for view in views:
        maps = call(view)
        assert all(map(torch.equal, maps, call(view.contiguous())))
        assert all(m.is_contiguous() and m.dtype == torch.float32 for m in maps)
    kept = view.clone()
    assert all((a - b).abs().max() < 1e-5 for a, b in zip(maps, call(view / 255), strict=True))
    assert torch.equal(view, kept)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_an_empty_batch_is_empty(call, dtype):
    images = torch.zeros(1, 2, 16, 16, dtype=dtype)
    for m, none in zip(call(images), call(images[:0]), strict=True):
        assert (none.shape, none.dtype) == ((0, *m.shape[1:]), torch.float32)


AROUND = {
    "inference": torch.inference_mode,
    "autocast": partial(torch.autocast, "cpu", dtype=torch.bfloat16),
    "double": double_by_default,
}


@pytest.mark.parametrize("around", AROUND)
def test_nothing_around_a_call_matters(call, drifting, around):
    frames = drifting(2, 16, 16).float()
    phase_tables.cache_clear()
    with AROUND[around]():
        inside = call(frames * 1)
    assert all(map(torch.equal, inside, call(frames)))
