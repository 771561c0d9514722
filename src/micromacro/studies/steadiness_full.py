"""The full run of notebook 01: its units, its rows, and where its numbers come from.

It stands beside `steadiness`, whose units depend on nothing that is written here.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from micromacro.files import project_root, reading
from micromacro.results import Row, read_rows, write_rows
from micromacro.studies import steadiness
from micromacro.units import run

NOTEBOOK = "01_face_preprocessing"


class Outcome(NamedTuple):
    """What the full run measured.

    Attributes:
        scores: Columns ``seed, mode, score, value``, one row a number: each actor in each mode of
            `steadiness.MODES`, by each score of `steadiness.judge`.
        source: Where the numbers come from, in words.
    """

    scores: pd.DataFrame
    source: str


def outcome(
    profile: str = "smoke",
    seeds: Sequence[int] | None = None,
    modes: Sequence[str] | None = None,
    out: str | None = None,
) -> Outcome:
    """The full run: in the profile full it is made, in some minutes; else the committed one.

    Args:
        profile: "full" computes the units and writes the rows.
        seeds: Numbers of the actors; None means 1 to 8.
        modes: Ways of cropping out of `steadiness.MODES`; None means all.
        out: Folder of the run, as for `results.write_rows`.

    Raises:
        BadInput: The committed rows are missing or torn.
    """
    if profile != "full":
        return _committed()
    modes = list(modes or steadiness.MODES)
    results = run(steadiness.unit, [{"seed": s, "modes": modes} for s in seeds or range(1, 9)])
    records = [
        (r, r.params["seed"], *name.split("/"), value)
        for r in results
        for name, value in r.metrics.items()
    ]
    rows = [
        Row(NOTEBOOK, "faces", mode, score, value, 1, seed=seed, seconds=r.seconds, **about)
        for r, seed, mode, score, value in records
        for about in [{"profile": profile, **r.provenance}]
    ]
    write_rows(rows, out)
    columns = ["seed", "mode", "score", "value"]
    return Outcome(pd.DataFrame([x[1:] for x in records], columns=columns), f"this {profile} run")


def _committed() -> Outcome:
    path = project_root() / "data" / "results" / f"{NOTEBOOK}__full__cpu.csv"
    with reading(path, "rows of a full run", "take it from git again"):
        rows = read_rows(path).rename(columns={"arm": "mode", "metric": "score"})
        day, commit = rows["utc"].max()[:10], rows["git_sha"].iloc[0][:8]
    scores = rows[["seed", "mode", "score", "value"]]
    return Outcome(scores, f"the committed full run of {day}, commit {commit}")
