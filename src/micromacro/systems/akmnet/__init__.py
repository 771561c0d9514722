"""AKMNet (Peng et al., 2020): micro-expressions from the key frames of a clip."""

from micromacro.systems.akmnet.model import AkmNet, AkmOutput, FrameNet, Mining, StillNet, akm_loss

__all__ = ["AkmNet", "AkmOutput", "FrameNet", "Mining", "StillNet", "akm_loss"]
