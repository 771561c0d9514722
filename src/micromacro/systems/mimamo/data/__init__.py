"""MIMAMO Net's official data sets: OMG-Emotion, Aff-Wild and Aff-Wild2.

`read_omg`, `read_affwild` and `read_affwild2` read the sheets and find films and faces;
`labelled_faces` gives one clip's faces with its labels; `centred_snippets` (Aff-Wild) and
`stepped_snippets` (OMG) say which frames make a snippet and which snippets count; the rest is the
protocol: windows, their merge, the rescaling. data/README.md shows the folders. Frame
numbers are 1-based in the official files and 0-based from here on.
"""

from micromacro.systems.mimamo.data.affwild import read_affwild, read_affwild2
from micromacro.systems.mimamo.data.faces import (
    LabelledClips,
    aligned_faces,
    face_clip,
    grey_faces,
    labelled_faces,
)
from micromacro.systems.mimamo.data.omg import read_omg
from micromacro.systems.mimamo.data.protocol import (
    Snippets,
    centred_snippets,
    hold_last,
    merge_windows,
    rescale,
    stepped_snippets,
    windows,
)

__all__ = [
    "LabelledClips",
    "Snippets",
    "aligned_faces",
    "centred_snippets",
    "face_clip",
    "grey_faces",
    "hold_last",
    "labelled_faces",
    "merge_windows",
    "read_affwild",
    "read_affwild2",
    "read_omg",
    "rescale",
    "stepped_snippets",
    "windows",
]
