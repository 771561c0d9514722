"""MIMAMO Net (Deng et al., AAAI 2020): valence and arousal from micro- and macro-motion."""

from micromacro.systems.mimamo.losses import ccc_loss, mse_loss
from micromacro.systems.mimamo.model import MimamoNet, OmgNet
from micromacro.systems.mimamo.streams import PhaseNet

__all__ = ["MimamoNet", "OmgNet", "PhaseNet", "ccc_loss", "mse_loss"]
