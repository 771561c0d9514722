"""The full run of notebook 01: what is written is read back, and the committed one is whole."""

from pathlib import Path

import pandas as pd

from micromacro.results import read_rows
from micromacro.studies import steadiness, steadiness_full
from micromacro.units import UnitResult


def pretended(unit, grid):
    """Scores by a formula: an actor's number, and a tenth of it."""
    assert unit is steadiness.unit
    for params in grid:
        values = {"correlation": params["seed"], "false_motion_px": params["seed"] / 10}
        metrics = {f"{m}/{score}": v for m in params["modes"] for score, v in values.items()}
        about = {"utc": "2026-01-02T00:00:00Z", "git_sha": "abc"}
        yield UnitResult(params, metrics, 1.5, about, Path("nowhere"), cached=False)


def test_what_a_full_run_writes_is_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(steadiness_full, "run", lambda unit, grid: list(pretended(unit, grid)))
    made = steadiness_full.outcome("full", seeds=[3, 5], modes=["aligned"], out=tmp_path)
    assert made.source == "this full run"
    (table,) = (tmp_path / "rows").glob("01_face_preprocessing__full__cpu.csv")
    rows = read_rows(table).rename(columns={"arm": "mode", "metric": "score"})
    pd.testing.assert_frame_equal(rows[made.scores.columns], made.scores)
    assert made.scores.values.tolist() == [
        [3, "aligned", "correlation", 3.0],
        [3, "aligned", "false_motion_px", 0.3],
        [5, "aligned", "correlation", 5.0],
        [5, "aligned", "false_motion_px", 0.5],
    ]
    assert set(rows["seconds"]) == {1.5}


def test_the_committed_run_has_every_actor_in_every_mode():
    committed = steadiness_full.outcome()
    number = committed.scores.groupby(["mode", "score"])["seed"].nunique()
    assert len(number) == len(steadiness.MODES) * 3
    assert set(number) == {8}
    assert list(committed.scores["mode"].unique()) == list(steadiness.MODES)
    assert committed.source.startswith("the committed full run of 20")
