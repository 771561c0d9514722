"""Seven emotions from face and voice by four networks and their fusion (EmotiW 2018)."""

from micromacro.systems.msff.model import EMOTIONS, STREAMS, MsffNet

__all__ = ["EMOTIONS", "STREAMS", "MsffNet"]
