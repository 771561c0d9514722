"""MIMAMO Net (Deng et al., AAAI 2020): valence and arousal from micro- and macro-motion."""

from micromacro.systems.mimamo.model import MimamoNet, OmgNet, PhaseNet, ccc_loss, mse_loss

__all__ = ["MimamoNet", "OmgNet", "PhaseNet", "ccc_loss", "mse_loss"]
