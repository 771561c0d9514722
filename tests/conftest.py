"""Every test runs as the package does: one thread per process, Triton interpreted without a GPU."""

import os

import cv2
import pytest
import torch

HAS_GPU = torch.cuda.is_available()

# Read by libraries when they load, in every process that a test starts too.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
if not HAS_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # conftest comes before any @triton.jit of the package
torch.set_num_threads(1)
cv2.setNumThreads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, and so count, what needs a GPU."""
    for item in items:
        if "gpu" in item.keywords and not HAS_GPU:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
