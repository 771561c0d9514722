"""Emotional reaction intensity from face and voice (ABAW5 2023, arXiv 2305.05534)."""

from micromacro.systems.eri.model import EMOTIONS, EriNet

__all__ = ["EMOTIONS", "EriNet"]
