"""The synthetic actor: faces with exact motion, events and light, made from seeds alone."""

from micromacro.synthetic.anatomy import AUS, FIVE_POINTS, LANDMARKS
from micromacro.synthetic.face import Face
from micromacro.synthetic.identity import Identity
from micromacro.synthetic.script import (
    EXPRESSIONS,
    FOLD_OVER,
    NUISANCES,
    Event,
    HeadDrift,
    Nuisance,
    Performance,
    exaggerate,
    macro_event,
    micro_event,
    perform,
    pose,
    px,
    units,
)

__all__ = [
    "AUS",
    "EXPRESSIONS",
    "FIVE_POINTS",
    "FOLD_OVER",
    "LANDMARKS",
    "NUISANCES",
    "Event",
    "Face",
    "HeadDrift",
    "Identity",
    "Nuisance",
    "Performance",
    "exaggerate",
    "macro_event",
    "micro_event",
    "perform",
    "pose",
    "px",
    "units",
]
