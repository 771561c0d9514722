"""Kernels: phase differences and local contrast normalisation, on CPU and GPU."""

from micromacro.kernels.phase_difference import phase_difference, snippets

__all__ = ["phase_difference", "snippets"]
