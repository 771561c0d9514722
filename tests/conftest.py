"""Every test runs as the package does: one thread per process, Triton interpreted without a GPU."""

import gc
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch

DEAR = {"test_official_notebooks", "test_batch", "test_units", "test_cluster", "test_gpu_check"}
HAS_GPU = torch.cuda.is_available()
gc.disable()  # until all tests are collected: next to nothing made on the way is litter

# Read by libraries when they load, in every process that a test starts too.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
if not HAS_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # conftest comes before any @triton.jit of the package
torch.set_num_threads(1)
cv2.setNumThreads(1)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m gpu`` import only files that carry the mark: the machine may lack what others
    need."""
    if config.option.markexpr == "gpu" and collection_path.suffix == ".py":
        return "mark.gpu" not in collection_path.read_text(encoding="utf-8") or None
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, and so count, what this machine lacks; begin with what takes long, or one worker would
    wait for it at the end."""
    items.sort(key=lambda item: item.path.stem not in DEAR)
    lacking = {
        "gpu": not HAS_GPU and "needs a CUDA device",
        "contrib": not hasattr(cv2, "optflow") and "needs OpenCV's contrib modules",
    }
    for item in items:
        for mark in filter(lacking.get, lacking.keys() & item.keywords.keys()):
            item.add_marker(pytest.mark.skip(reason=lacking[mark]))


def pytest_collection_finish() -> None:
    """The collector skips from now on what stays to the end: hundreds of thousands of objects."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Let the collector free it, or libraries that look for leaks at the end complain."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _process_as_it_was() -> Iterator[None]:
    """A test leaves nothing on that slows all those after it."""
    yield
    left_on = tracemalloc.is_tracing()
    tracemalloc.stop()
    assert not left_on, "this test has left the tracing of memory on"
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)
