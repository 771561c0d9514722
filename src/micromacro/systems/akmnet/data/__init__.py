"""AKMNet's official data sets: CASME, CASME II, SMIC-HS and SAMM.

`read_casme`, `read_casme2`, `read_smic` and `read_samm` read sheets and folders as released and give
`MicroClips`; `relabel` turns emotions into class numbers by a named map; `load_frames` loads a clip;
`megc2019` makes the composite of three data sets; `people` names the groups that folds keep whole
(`micromacro.folds`); `read_list` and `write_list` take the released code's list files.
data/README.md shows the folders. Frame numbers are those of the official files on disk and 0-based
from here on; onset and offset are both part of the clip.
"""

from micromacro.systems.akmnet.data.clips import PATCHES, UNLABELLED, MicroClips
from micromacro.systems.akmnet.data.disk import check_sizes, load_frames
from micromacro.systems.akmnet.data.labels import CLASSES, LABEL_MAPS, OFFICIAL_COUNTS, relabel
from micromacro.systems.akmnet.data.lists import read_list, write_list
from micromacro.systems.akmnet.data.protocol import megc2019, people
from micromacro.systems.akmnet.data.readers import read_casme, read_casme2, read_samm, read_smic

__all__ = [
    "CLASSES",
    "LABEL_MAPS",
    "OFFICIAL_COUNTS",
    "PATCHES",
    "UNLABELLED",
    "MicroClips",
    "check_sizes",
    "load_frames",
    "megc2019",
    "people",
    "read_casme",
    "read_casme2",
    "read_list",
    "read_samm",
    "read_smic",
    "relabel",
    "write_list",
]
