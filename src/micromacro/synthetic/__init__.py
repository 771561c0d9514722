"""The synthetic actor: faces with exact motion, events and light, made from seeds alone."""

from micromacro.synthetic.anatomy import AUS, FIVE_POINTS, LANDMARKS
from micromacro.synthetic.face import Face
from micromacro.synthetic.identity import Identity
from micromacro.synthetic.nuisance import NUISANCES, HeadDrift, Nuisance
from micromacro.synthetic.performance import FOLD_OVER, Event, Performance, exaggerate, px, units
from micromacro.synthetic.script import EXPRESSIONS, macro_event, micro_event, perform, pose

__all__ = ["AUS", "EXPRESSIONS", "FIVE_POINTS", "FOLD_OVER", "LANDMARKS", "NUISANCES"]
__all__ += ["Event", "Face", "HeadDrift", "Identity", "Nuisance", "Performance"]
__all__ += ["exaggerate", "macro_event", "micro_event", "perform", "pose", "px", "units"]
