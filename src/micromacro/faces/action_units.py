"""Action units by number, whatever measures them: OpenFace, py-feat, face mesh, the actor.

``action_units.csv`` has a row for each unit of the Facial Action Coding System (Ekman and Friesen)
that one of them gives, and the columns or channels in which it does:

========  ==========================================================  =============================
source    what it gives                                               range
========  ==========================================================  =============================
openface  OpenFace 2: intensities ``AU01_r`` and presences ``AU01_c``  0 to 5; 0 or 1
pyfeat    py-feat: probabilities ``AU01``                             0 to 1
mesh      blendshapes of `micromacro.faces.mesh`, some for each side  0 to 1
actor     channels of `micromacro.synthetic`; "-lid" is lid negated   peak displacement, face units
========  ==========================================================  =============================

A number says which movement is meant, and nothing more: values of two sources differ in scale, and
in what they take for the movement. OpenFace and py-feat were trained on codes of human experts.
Blendshapes steer avatars, and nobody coded them: what is made of them is AU-like, never an AU.
Their assignment is our choice. They have no shape of their own for lips that part (25) and tighten
(23): the lower lip that goes down and lips that are pressed stand for these.

The actor's channels are known. `micromacro.action_unit_net` measures them in its pictures, and
gives truth and estimate the names of OpenFace's 17 intensities.

The readers give a row a frame: row t is frame t of the film, counted from 0. Where the program
found no face, or wrote no row or not all of one, the row is nan. Zeros, which OpenFace writes
there, would be a still face.
"""

import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from micromacro.errors import BadInput, check_choice
from micromacro.files import existing, reading

MOST_FRAMES = 10**7  # four days at 30 frames a second
WRITE_AGAIN = "restore the official file, or write it again with the same program"


def action_unit_names() -> dict[int, str]:
    """Number of each action unit -> its name in the Facial Action Coding System."""
    return dict(_table()["name"])


def action_units_of(source: str) -> dict[int, tuple[str, ...]]:
    """Number of each action unit that a source gives -> its columns or channels there.

    Args:
        source: openface, pyfeat, mesh or actor.

    Raises:
        BadInput: There is no such source.
    """
    check_choice("source", source, _table().columns[1:])
    return {number: tuple(names.split()) for number, names in _table()[source].items() if names}


@cache
def _table() -> pd.DataFrame:
    return pd.read_csv(Path(__file__).with_suffix(".csv"), index_col=0, keep_default_na=False)


def openface_columns() -> tuple[str, ...]:
    """The 35 columns in OpenFace's own order: 17 intensities, then 18 presences."""
    names = sum(action_units_of("openface").values(), ())
    return tuple(sorted(names, key=lambda name: not name.endswith("_r")))  # the sort is stable


def read_openface(path: str | Path) -> pd.DataFrame:
    """Read the action units of a CSV file of OpenFace 2, found by the names of their columns.

    Args:
        path: The file, of one person; of all its columns only those needed are read. Its frames
            count from 1.

    Returns:
        float32 (T, 35), `openface_columns`: intensities from 0 to 5, then presences, 0 or 1. The
        index is the frame. nan where ``success`` is 0, or frames are left out.

    Raises:
        BadInput: The file is missing or damaged, lacks a column, or has a frame twice.
    """
    values = as_numbers(path, read_cells(path, ("frame", "success", *openface_columns())))
    seen = values.pop("success") == 1
    return _by_frame(path, values.pop("frame"), values.where(seen), first=1)[[*openface_columns()]]


def read_pyfeat(path: str | Path) -> pd.DataFrame:
    """Read the action units of a CSV file of py-feat, found by the names of their columns.

    Args:
        path: The file, of one person. Its frames count from 0, and some may be left out
            (``skip_frames``).

    Returns:
        float32 (T, 20), columns "AU01" to "AU43", probabilities. The index is the frame. nan where
        there was no face, or frames are left out.

    Raises:
        BadInput: As `read_openface`.
    """
    columns = sum(action_units_of("pyfeat").values(), ())
    values = as_numbers(path, read_cells(path, ("frame", *columns)))
    return _by_frame(path, values.pop("frame"), values)[[*columns]]


def as_numbers(path: str | Path, text: pd.DataFrame) -> pd.DataFrame:
    """Cells of a file as float64; "" and "nan", as programs like to write it, are nan.

    Raises:
        BadInput: A cell is no number; the first is named.
    """
    values = text.apply(pd.to_numeric, errors="coerce").astype("float64")
    none = r"(?i)|[-+]?nan(\(\w+\))?|-?1\.#\w+"  # as Linux and Windows write it
    wrong = values.isna() & ~text.apply(lambda cells: cells.str.fullmatch(none))
    if wrong.any(axis=None):
        row, column = np.argwhere(wrong.to_numpy())[0]
        fault = f"{text.columns[column]} {text.iat[row, column]!r} is not a number"
        raise BadInput(f"{path}, line {row + 2}", fault, WRITE_AGAIN)
    return values


def read_cells(path: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read columns of a CSV file as texts.

    Args:
        path: The file. White space around the names of its columns, as of OpenFace, is dropped.
        columns: Names of the columns that are wanted, in any order; None for all.

    Returns:
        At least one row; what a row lacks is "".

    Raises:
        BadInput: The file is missing or damaged, has no row, or lacks a column; or, if all are
            read, a row is longer than its header.
    """
    wanted = None if columns is None else lambda name: name.strip() in columns
    how = {"dtype": str, "na_filter": False, "skipinitialspace": True, "encoding": "utf-8-sig"}
    file = existing(path)
    with reading(file, "a CSV file", WRITE_AGAIN), warnings.catch_warnings(action="error"):
        # It warns of rows longer than the header.
        text = pd.read_csv(file, usecols=wanted, index_col=False, **how)
    text = text.rename(columns=str.strip).fillna("")  # a row cut short ends in nan all the same
    if lacking := [name for name in columns or () if name not in text]:
        raise BadInput(path, f"lacks the columns {', '.join(lacking[:3])}", WRITE_AGAIN)
    if text.empty:
        raise BadInput(path, "has no row", WRITE_AGAIN)
    return text


def _by_frame(path, frame: pd.Series, values: pd.DataFrame, first: int = 0) -> pd.DataFrame:
    """Rows from frame `first`, now 0, to the last; float32, all nan where any value is."""
    right = (frame >= first) & (frame % 1 == 0) & ~frame.duplicated()
    if not right.all():
        row = int(np.argmin(right))
        fault = f"frame {frame[row]:g} is no frame number, or stands there twice"
        remedy = "of several people in one film keep the rows of one"
        raise BadInput(f"{path}, line {row + 2}", fault, remedy)
    if (n := int(frame.max()) - first + 1) > MOST_FRAMES:
        raise BadInput(path, f"frame {n - 1 + first} in a file of {len(frame)} rows", WRITE_AGAIN)
    values = values.where(values.notna().all(axis=1)).set_index(frame.astype(int) - first)
    return values.reindex(range(n)).astype("float32")
