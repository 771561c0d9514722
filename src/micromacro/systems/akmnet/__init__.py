"""AKMNet (Peng et al., 2020): micro-expressions from the key frames of a clip."""

from micromacro.systems.akmnet.backbone import FrameNet, StillNet
from micromacro.systems.akmnet.losses import akm_loss, count_loss, margin_loss
from micromacro.systems.akmnet.mining import Mining
from micromacro.systems.akmnet.model import AkmNet, AkmOutput

__all__ = [
    "AkmNet",
    "AkmOutput",
    "FrameNet",
    "Mining",
    "StillNet",
    "akm_loss",
    "count_loss",
    "margin_loss",
]
