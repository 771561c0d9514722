"""Spotting with temporal reference frames (arXiv 2105.06340): micro- and macro-expressions in long video."""

from micromacro.systems.spotting.scoring import megc_f1

__all__ = ["megc_f1"]
