"""The log file of MEGC 2020, the challenge: every interval, found, missed or invented.

A line with the number of a data set (1 SAMM-LV, 2 CAS(ME)^2) comes before its rows: video, onset,
offset, predicted onset, predicted offset, outcome ("TP", "FP" or "FN"); a dash where there is none.
Both classes stand in one list: the file does not tell them apart.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from micromacro.errors import BadInput
from micromacro.files import existing, reading, write_atomically

FRAMES = ["onset", "offset", "predicted_onset", "predicted_offset"]
COLUMNS = ["video", *FRAMES, "outcome"]


def write_megc_log(path: str | Path, parts: Mapping[int, pd.DataFrame], *, first: int = 1) -> None:
    """Write outcomes as a log file.

    Args:
        path: The file.
        parts: Number of a data set -> a table with `COLUMNS`, such as `outcomes` of spotting's
            scores.
        first: The file's number of a video's first frame.

    Raises:
        BadInput: A video's name holds a blank, or the file cannot be written.
    """
    text = ""
    for number, table in parts.items():
        if table["video"].str.contains(r"\s").any():
            raise BadInput(f"videos of data set {number}", "have blanks in names", "rename them")
        rows = table[COLUMNS].assign(**(table[FRAMES] + first))
        text += f"{number}\n" + rows.to_csv(sep=" ", na_rep="-", header=False, index=False)
    write_atomically(Path(path), text)


def read_megc_log(path: str | Path, *, first: int = 1) -> dict[int, pd.DataFrame]:
    """Read a log file of the challenge: number of a data set -> outcomes, without their classes.

    Args:
        path: The file; columns are parted by blanks.
        first: The file's number of a video's first frame.

    Returns:
        Tables with `COLUMNS`, frames Int64, in the order of the file.

    Raises:
        BadInput: The file is missing or empty, or a line is neither a number nor such a row.
    """
    path = existing(path)
    with reading(path, "a log file of the challenge", "restore the file"):
        table = pd.read_csv(path, sep=r"\s+", names=COLUMNS, dtype=str, na_values="-")
        heading = table[COLUMNS[1:]].isna().all(axis=1)
        dataset = table["video"].where(heading).ffill()[~heading].astype(int)
        table = table[~heading].astype(dict.fromkeys(FRAMES, "Int64"))
        table[FRAMES] -= first
        if not table["outcome"].isin(["TP", "FP", "FN"]).all():
            raise ValueError("an outcome is not TP, FP or FN")
    return {int(n): part.reset_index(drop=True) for n, part in table.groupby(dataset)}
