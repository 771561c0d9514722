"""Spotting with temporal reference frames (arXiv 2105.06340): micro- and macro-expressions."""

from micromacro.systems.spotting.model import SpottingNet

__all__ = ["SpottingNet", "megc_f1"]


def __getattr__(name: str) -> object:
    if name == "megc_f1":  # late: a network alone needs neither pandas nor SciPy
        from micromacro.systems.spotting.scoring import megc_f1

        return megc_f1
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
