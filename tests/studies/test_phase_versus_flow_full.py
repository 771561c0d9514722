"""The full run's rows and verdicts: what is written is read back, and the committed ones agree."""

import json
from pathlib import Path

import pandas as pd
import pytest

from micromacro.files import project_root
from micromacro.results import read_rows
from micromacro.statistics import paired_interval, read_claims
from micromacro.studies import phase_versus_flow_full as full_run
from micromacro.units import UnitResult


def test_the_committed_rows_give_the_committed_verdicts():
    rows = read_rows(project_root() / "data/results/03_phase_versus_flow__full__cpu.csv")
    rows = rows[rows["seed"].notna()]
    params = pd.DataFrame(rows["params"].map(json.loads).tolist(), index=rows.index)
    rows = pd.concat([rows[["seed", "arm", "metric", "value"]], params], axis=1)
    rows["score"] = rows["metric"].str.partition(",")[0]
    of_actor = rows.set_index(["seed", "size", "arm", "input", "condition", "score"])["value"]
    of_actor.index = of_actor.index.set_names("method", level="arm")
    shown, claims = full_run.outcome().claims, read_claims()
    assert len(shown) == 30
    for name, words in shown["verdict"].items():
        interval = full_run._interval(name, full_run._pairs(name, of_actor))
        committed = claims.loc[name, ["effect", "low", "high", "n"]]
        assert [f"{value:.4g}" for value in interval] == [*committed]
        assert words == claims.loc[name, "verdict"]
    # Leaving an actor out, as the rows have it: by hand for one contrast.
    cosine = rows.query("size == 112 and input == 'local_contrast' and condition == 'all'")
    cosine = cosine.query("score == 'cosine'").pivot_table("value", "seed", "arm")
    left = (cosine["phase"] - cosine["farneback"]).drop(1)
    assert paired_interval(left, 0 * left).high < -0.05
    name = "03-robust-farneback-local_contrast-all-112"
    assert shown.loc[name, "without one seed"] == "reversed (1)"
    assert (shown["after Holm"] == "—").eq(claims.loc[shown.index, "family"] != "primary").all()


def pretended(unit, grid):
    """Scores by a formula: phase is 0.9, a flow 0.5 and a thousandth of its actor's number."""
    assert unit is full_run.contest.unit
    for params in grid:
        metrics = {}
        for method in params["methods"]:
            for kind in params["inputs"]:
                for condition in params["conditions"]:
                    for px in params["amplitudes_px"]:
                        cosine = 0.9 if method == "phase" else 0.5 + params["seed"] / 1000
                        if method == "phase" and not 0.1 <= px <= 0.8:
                            cosine = 5.0  # it is in no claim
                        for score, value in (("cosine", cosine), ("endpoint_error", 7.0)):
                            metrics[f"{method}/{kind}/{condition}/{px}/{score}"] = value
        about = {"utc": "2026-01-02T00:00:00Z", "git_sha": "abc"}
        yield UnitResult(params, metrics, 1.0, about, Path("nowhere"), cached=False)


def test_what_a_full_run_writes_is_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(full_run, "run", lambda unit, grid: list(pretended(unit, grid)))
    costs = full_run.costs()
    made = full_run.outcome("full", out=tmp_path)
    assert made.source == "this full run"
    assert set(made.table["score"]) == {"cosine"}
    assert set(made.table["count"]) == {8}
    effects = made.claims["effect"].str.partition(" [")[0].astype(float)
    robust = effects.index.str.startswith("03-robust")
    assert effects[robust].to_numpy() == pytest.approx(0.3965, abs=1e-4)  # 0.9 - 0.5 - 0.0035
    ratio = costs.loc["farneback", (112, "ratio")]
    assert made.claims.loc["03-cheaper-farneback-112", "effect"].startswith(f"{ratio:.4g} [")
    handed = json.loads((tmp_path / "claims" / "03_phase_versus_flow.json").read_text())
    assert [*handed] == [*made.claims.index]
    (tmp_path / "data").mkdir()
    (tmp_path / "rows").rename(tmp_path / "data" / "results")
    monkeypatch.setattr(full_run, "project_root", lambda: tmp_path)
    read = full_run.outcome()
    assert read.source == "the committed full run of 2026-01-02, commit abc"
    order = made.table.columns[:6].tolist()
    both = (
        t.sort_values(order).reset_index(drop=True)[[*order, "mean", "std"]]
        for t in (made.table, read.table)
    )
    pd.testing.assert_frame_equal(*both, check_names=False)
    assert full_run.costs() is None


def test_few_actors_or_methods_are_not_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(full_run, "run", lambda unit, grid: list(pretended(unit, grid)))
    for seeds, methods in ((range(7), None), (range(8), ["phase", "tvl1"])):
        made = full_run.outcome("full", seeds, methods, tmp_path)
        committed = full_run.outcome().claims.drop(columns="without one seed")
        pd.testing.assert_frame_equal(made.claims.drop(columns="without one seed"), committed)
        assert set(made.claims["without one seed"]) == {"—"}
    assert not (tmp_path / "claims").exists()


def test_the_verdicts_at_a_glance_are_those_of_the_table():
    words = {"03-robust-tvl1-raw-gain": "holds", "03-robust-dis_medium-raw-gain": "reversed"}
    words |= {"03-robust-tvl1-local_contrast-all-112": "undecided"}
    words |= {"03-robust-tvl1-raw-light": "holds", "03-cheaper-dual_tvl1-48": "not judged yet"}
    claims = pd.DataFrame({"verdict": words, "after Holm": "—", "kind": "finding"})
    claims.loc["03-robust-tvl1-raw-light", ["after Holm", "kind"]] = "holds", "identity"
    claims.loc["03-robust-dis_medium-raw-gain", "after Holm"] = "undecided"
    made = full_run.verdicts(claims)
    assert made.to_dict() == {
        "TV-L1": {
            ("more robust", "raw", "gain", "48 px"): "holds",
            ("more robust", "local contrast", "all", "112 px"): "undecided",
            ("more robust", "raw", "light", "48 px"): "holds (identity)",
            ("cheaper", "—", "—", "48 px"): "not judged yet",
        },
        "DIS": dict.fromkeys(made.index, "—")
        | {("more robust", "raw", "gain", "48 px"): "reversed; undecided after Holm"},
    }
    assert made.index.names == ["phase is", "input", "condition", "flow at"]
    sizes = [line[-1] for line in made.index]
    assert sizes == ["48 px", "112 px", "48 px", "48 px"], "in the order of the claims"
    assert (full_run.verdicts(full_run.outcome().claims) != "—").to_numpy().sum() == 30
