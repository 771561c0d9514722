"""Spotting with temporal reference frames (Yap et al., 2022): expressions in long video."""

from micromacro.systems.spotting.model import SpottingNet

__all__ = ["SpottingNet"]
