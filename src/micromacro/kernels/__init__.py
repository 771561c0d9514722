"""Kernels: phase differences and local contrast normalisation, on CPU and GPU."""

from micromacro.kernels.local_contrast import local_contrast, local_contrast_reference
from micromacro.kernels.phase_difference import (
    phase_difference,
    phase_difference_reference,
    snippets,
)

__all__ = [
    "local_contrast",
    "local_contrast_reference",
    "phase_difference",
    "phase_difference_reference",
    "snippets",
]
