"""Faces: from a video to crops steady enough for micro-motion.

`extract_faces` does it all; `detect`, `track`, `align` and `stabilise` hold its parts, and
`stability` measures how steady a clip is. `mesh` lays landmarks and blendshapes over a clip's face,
`action_units` says which of them, of OpenFace's and of py-feat's columns mean the same movement,
and `expression` names seven expressions by a network of photographs.
"""

from micromacro.faces.extract import extract_faces
from micromacro.faces.stability import jitter_px

__all__ = ["extract_faces", "jitter_px"]
