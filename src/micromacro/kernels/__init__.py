"""Kernels: phase differences and local contrast normalisation, on CPU and GPU; RGB to grey."""

from micromacro.kernels.grey import grey
from micromacro.kernels.local_contrast import local_contrast, local_contrast_reference
from micromacro.kernels.phase_difference import phase_difference, snippets
from micromacro.kernels.phase_reference import phase_difference_reference

__all__ = ["grey", "local_contrast", "local_contrast_reference"]
__all__ += ["phase_difference", "phase_difference_reference", "snippets"]
