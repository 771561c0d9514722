"""Rows and where they come from; from units to rows and predictions; how arms compare."""

import json
import math
import os
import platform
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from benchmark_rows import write_benchmark
from refusals import refused
from scipy import stats

from micromacro import cache, files, results, statistics
from micromacro.results import COLUMNS, Comparison, Row, provenance, read_rows, write_rows

# Where numbers come from ----------------------------------------------------------------------


@pytest.fixture
def sha_anew(monkeypatch):
    """What a new process would say of the code: forgets what was read once, and at last once
    more."""

    def sha_anew() -> str:
        results._process.cache_clear()
        return provenance()["git_sha"]

    monkeypatch.delenv("MICROMACRO_GIT_SHA", raising=False)
    yield sha_anew
    results._process.cache_clear()


def test_provenance_names_code_versions_and_processor():
    here = provenance("cuda")
    assert set(here) == {"device", *COLUMNS[-6:]}
    assert here["device"] == "cuda"
    assert here["cpu"] in results.hardware()
    assert here["isa"]
    assert here["python"] == ".".join(map(str, sys.version_info[:3]))


def test_the_state_of_the_code_is_read_once_a_process(tmp_path, monkeypatch, sha_anew):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    (tmp_path / "a").write_text("1")
    for command in (["init"], ["add", "a"], ["commit", "-m", "one"]):
        git = ["git", "-C", tmp_path, *identity, *command]
        subprocess.run(git, check=True, capture_output=True)
    monkeypatch.setattr(results, "checkout", lambda: tmp_path)
    clean = sha_anew()
    assert len(clean) == 40
    (tmp_path / "data" / "results").mkdir(parents=True)
    (tmp_path / "data" / "results" / "x.csv").write_text("a number is no change of the code")
    claims = tmp_path / "data" / "claims.csv"
    claims.write_text("claim,margin,verdict,effect\n1,0.05,,\n")
    subprocess.run(["git", "-C", tmp_path, "add", claims], check=True)
    assert sha_anew() == f"{clean}-dirty", "claims are committed before the run"
    git = ["git", "-C", tmp_path, *identity, "commit", "-m", "two"]
    subprocess.run(git, check=True, capture_output=True)
    clean = sha_anew()
    assert len(clean) == 40
    claims.write_text("claim,margin,verdict,effect\n1,0.05,holds,0.1\n")
    assert sha_anew() == clean, "a run's own verdict"
    claims.write_text("claim,margin,verdict,effect\n1,0.02,holds,0.1\n")
    assert sha_anew() == f"{clean}-dirty", "another margin"
    claims.write_text("claim,margin,verdict,effect\n1,0.05,,\n")
    assert sha_anew() == clean
    (tmp_path / "b").write_text("2")
    assert provenance()["git_sha"] == clean, "the code that is loaded is that of before"
    assert sha_anew() == f"{clean}-dirty"
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / ".git").rename(tmp_path / "no git")
    assert sha_anew() == "unknown"
    monkeypatch.setattr(results, "checkout", lambda: None)
    assert sha_anew() == "unknown"
    monkeypatch.setenv("MICROMACRO_GIT_SHA", "named")
    assert sha_anew() == "named"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="sets of x86")
def test_a_set_that_is_forced_computes_with_other_bits_and_rows_name_it():
    code = "import hashlib, torch; from micromacro.results import provenance\n"
    code += "torch.manual_seed(0); x = torch.randn(64, 96); y = (x.exp() @ x.T).sum()\n"
    code += "print(provenance()['isa'], hashlib.sha256(y.numpy().tobytes()).hexdigest(), sep='|')"

    def computed(name: str | None) -> list[str]:
        environment = os.environ | (results.INSTRUCTION_SETS[name] if name else {})
        ran = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
        return ran.stdout.decode().strip().split("|")

    own, bits = computed(None)
    isa, others = computed("default")
    assert isa.split() == ["DEFAULT", *(f"{k}={v}" for k, v in forced("default"))]
    assert own == results._process()["isa"]
    assert others != bits or own == "DEFAULT"


def forced(name: str) -> list[tuple[str, str]]:
    values = results.INSTRUCTION_SETS[name]
    return [(variable, values[variable]) for variable in cache._FORCING if variable in values]


def test_the_project_root_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.delenv("MICROMACRO_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    assert (results.project_root() / "pyproject.toml").exists()
    monkeypatch.setattr(files, "checkout", lambda: None)
    assert results.project_root() == tmp_path
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path / "x"))
    assert results.project_root() == tmp_path / "x"


# Rows -----------------------------------------------------------------------------------------


def row(value=1.0, seed=0, arm="phase", metric="ccc", **more) -> Row:
    return Row("04_x", "mimamo", arm, metric, value, 12, seed=seed, **more)


def test_rows_have_the_agreed_columns_and_say_where_they_come_from(tmp_path):
    elsewhere = {"utc": "2026-01-01T00:00:00Z", "cpu": "another", "isa": "AVX2"}
    rows = [row(math.nan, params={"k": 1}), row(0.1, arm="flow", seconds=1.5, **elsewhere)]
    (path,) = write_rows(rows, tmp_path)
    assert path == tmp_path / "rows" / "04_x__smoke__cpu.csv"
    frame, here = read_rows(path), provenance()
    columns = "notebook,system,arm,params,dataset,split,profile,seed,fold,metric,value,n,seconds"
    assert ",".join(frame) == f"{columns},device,python,torch,git_sha,utc,cpu,isa"
    np.testing.assert_equal(frame.value.tolist(), [math.nan, 0.1])
    assert json.loads(frame.params[0]) == {"k": 1}
    assert dict(frame.loc[1, list(elsewhere)]) == elsewhere
    names = ["python", "torch", "git_sha", "cpu", "isa"]
    assert frame.loc[0, names].tolist() == [here[name] for name in names]


def test_rows_without_a_date_are_refused(tmp_path):
    (path,) = write_rows([row()], tmp_path)
    for text in ("", "2026-13-01T00:00:00Z"):
        pd.read_csv(path).assign(utc=text).to_csv(path, index=False)
        refused(lambda: read_rows(path), path.name, "a table of rows")


def test_a_second_call_adds_rows_and_replaces_the_same_number(tmp_path):
    assert write_rows([row()], None) == []
    write_rows([row(1.0, 0), row(7.0, None)], tmp_path)
    (path,) = write_rows([row(7.0, None)], tmp_path)
    old = pd.read_csv(path, dtype=str, keep_default_na=False)
    old.drop(columns=["cpu", "isa"]).to_csv(path, index=False)  # as files were before
    write_rows([row(2.0, 0), row(3.0, 1)], tmp_path)
    assert sorted(read_rows(path).value) == [2.0, 3.0, 7.0]
    assert read_rows(path, dtype=str).cpu.tolist()[0] == ""
    written = write_rows([row(device="NVIDIA H200", profile="full")], tmp_path)
    assert [path.name for path in written] == ["04_x__full__nvidia-h200.csv"]


def test_committed_rows_stay_readable():
    paths = sorted((results.project_root() / "data" / "results").glob("[0-9]*.csv"))
    assert paths
    for path in paths:
        assert set(COLUMNS) <= set(read_rows(path)), path
    arrays = results.committed_predictions("04b_mimamo_ablation")
    assert arrays["ours"].dtype == np.float32
    assert len(arrays["truth"]) == 8
    assert results.committed_predictions("04_x") == {}


def test_a_benchmark_is_one_table_with_provenance(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    line = {"method": "ours", "setting": "48 px", "metric": "speed", "value": 2.5, "unit": "1/s"}
    write_benchmark("demo", [line])
    path = write_benchmark("demo", [line | {"q25": 2.0, "q75": 3.0, "rounds": 7}, line])
    assert path.parent == tmp_path / "data" / "results"
    table = pd.read_csv(path)
    assert table["value"].tolist() == [2.5, 2.5], "a second run replaces the first"
    assert table["q25"].isna().tolist() == [False, True]
    assert set(table["hardware"]) == {results.hardware()}
    where = ["python", "torch", "git_sha", "utc", "cpu", "isa"]
    assert table[where].notna().all().all()
    path = write_benchmark("demo", [line], on="NVIDIA H100")
    assert path.name == "demo__nvidia-h100.csv"
    assert pd.read_csv(path)["cpu"].tolist() == [provenance()["cpu"]], "a GPU has one beside it"


def test_predictions_are_halves_beside_the_rows(tmp_path, monkeypatch):
    values = np.linspace(-1, 1, 7, dtype=np.float32)
    arrays = {"ours": values, "person": np.arange(7)}
    path = results.write_predictions("04_demo", arrays, tmp_path, profile="full")
    assert path == tmp_path / "rows" / "04_demo__full__cpu__predictions.npz"
    with np.load(path, allow_pickle=False) as stored:
        assert stored["ours"].dtype == np.float16
        assert np.allclose(stored["ours"], values, atol=1e-3)
        assert stored["person"].dtype == np.int64
    assert results.write_predictions("04_demo", arrays, None, profile="full") is None
    monkeypatch.setattr(results, "provenance", lambda device: {"device": "NVIDIA H200"})
    path = results.write_predictions("04_demo", arrays, tmp_path, profile="full", device="cuda")
    assert path.name == "04_demo__full__nvidia-h200__predictions.npz"  # as its rows


# From units -----------------------------------------------------------------------------------


OPTIONS = {"a": {}, "same as a": {}, "b": {"k": 1}}
GRID = {
    arm: [{"seed": s, "fold": f, "arm": options} for s in (5, 3) for f in (0, 1)]
    for arm, options in OPTIONS.items()
}


def groups_of(grid: dict, first: int = 0) -> dict:
    """Of what `units.run` would give: one unit for equal parameters, here in backward order."""
    where = {**provenance(), "utc": "2026-01-01T00:00:00Z"}
    known = [*grid["b"][::-1], *grid["a"][::-1]][first:]
    unit = lambda p: SimpleNamespace(params=p, seconds=2.0 + p["fold"], provenance=where)  # noqa: E731
    return results.by_arm_and_seed(grid, map(unit, known))


def pooled(folds) -> dict:
    clip = np.array([10 * fold.params["seed"] + fold.params["fold"] for fold in folds])
    return {"answer": clip + 100 * len(folds[0].params["arm"]), "clip": clip}


def test_units_become_rows_of_an_arm_and_a_seed():
    def rows(**common) -> list[Row]:
        def scores(folds):
            return [{"metric": "m", "value": pooled(folds)["answer"].mean(), "n": 2}]

        common |= {"notebook": "08_x", "system": "akmnet", "split": "people left out"}
        return results.unit_rows(groups_of(GRID), scores, sweep={"b": {"k": 1}}, **common)

    core = [(arm, s, 10 * s + 0.5, "full", {}) for arm in ("a", "same as a") for s in (5, 3)]
    sweep = [("b", s, 100 + 10 * s + 0.5, "sweep", {"k": 1}) for s in (5, 3)]
    full = rows(profile="full")
    assert [(r.arm, r.seed, r.value, r.profile, r.params) for r in full] == core + sweep
    others = {(r.seconds, r.utc, r.n, r.split) for r in full}
    assert others == {(5.0, "2026-01-01T00:00:00Z", 2, "people left out")}
    assert {r.profile for r in rows(profile="paper")} == {"paper"}
    with pytest.raises(KeyError):
        groups_of(GRID, first=1)


@pytest.mark.parametrize(
    ("own", "names"), [(["answer"], ["a", "b"]), (["answer", "clip"], ["a: answer", "b: answer"])]
)
def test_units_become_stacked_predictions(own, names):
    groups = groups_of({"a": GRID["a"], "b": GRID["b"]})
    arrays = results.unit_arrays(groups, pooled, own=own, shared=["clip"])
    assert arrays["clip"].tolist() == [[50, 51], [30, 31]]
    assert arrays[names[1]].tolist() == [[150, 151], [130, 131]]
    assert (arrays[names[0]].dtype, arrays["clip"].dtype) == (np.int16, np.int64)
    assert results.unit_arrays({}, pooled, own=own, shared=["clip"]) == {}


# How arms compare -----------------------------------------------------------------------------


@pytest.fixture
def comparison():
    """Arm b lacks seed 2; the metrics x_1 and x_2 are parts of x; c alone has y, for one seed."""
    rng = np.random.default_rng(0)
    rows = [
        row(rng.normal(), seed, arm, metric)
        for arm, seeds in (("a", (4, 2, 3)), ("b", (3, 4)), ("released", (2, 3, 4)))
        for seed in seeds
        for metric in ("x_1", "x_2")
    ]
    return Comparison([*rows, row(7.0, 4, "c", "y"), row(math.nan, 3, "c", "y")])


def test_arms_are_compared_over_the_seeds_that_they_share(comparison):
    a, b = comparison.values("a", "x_1"), comparison.values("b", "x_1")
    assert comparison.arms == ["a", "b", "released", "c"]
    interval = comparison.interval("a", "b", "x_1")
    expected = stats.ttest_rel(a[[3, 4]], b[[3, 4]]).confidence_interval()
    assert (interval.low, interval.high, interval.n) == pytest.approx((*expected, 2))
    text = f"{interval.effect:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
    assert comparison.difference("a", "b", "x_1") == text
    assert comparison.spread("a", "x_1") == f"{a.mean():.3f} ± {a.std(ddof=1):.3f}"
    assert comparison.spread("c", "y") == "7.000"
    for arm, reference in (("a", "a"), ("a", "c"), ("a", "nobody")):
        assert comparison.difference(arm, reference, "x_1") == "—"
    assert comparison.spread("nobody", "x_1") == comparison.spread("a", "nothing") == "—"


def test_the_tables_of_an_ablation(comparison):
    spread, difference = comparison.spread, comparison.difference
    table = comparison.differences({"a": "b", "b": "b"}, {"X": "x_1"})
    assert table.columns.tolist() == ["minus", "X", "X, difference"]
    assert table.loc["a"].tolist() == ["b", spread("a", "x_1"), difference("a", "b", "x_1")]
    printed = pd.DataFrame({"SAMM": {"a": -0.0501}})
    table = comparison.differences({"a": "b", "b": "b"}, {"X": "x_1"}, printed)
    assert table["published", "SAMM"].tolist() == ["-0.050", "—"]
    assert table["ours", "minus"].tolist() == ["b", "b"]
    arms, metrics = {"released": "released", "ours": "a"}, {"X": "x_1", "Z": "z"}
    three = comparison.three_columns(metrics, {"X": 0.5}, **arms)
    assert three.columns.tolist() == ["published", "as released", "ours", "as released − ours", "n"]
    both = [spread(arm, "x_1") for arm in arms.values()]
    assert three.loc["X"].tolist() == ["0.500", *both, difference("released", "a", "x_1"), 3]
    assert three.loc["Z"].tolist() == ["—", "—", "—", "—", 0]
    nothing = Comparison([])  # nothing measured is no fault
    assert nothing.arms == []
    assert nothing.differences({"a": "b"}, {"X": "x"}).loc["a", "X"] == "—"


def test_terms_of_a_contrast(comparison):
    term = lambda text: comparison.term(text).xs("cpu", level="device")  # noqa: E731
    pd.testing.assert_series_equal(term("x_1(b)"), comparison.values("b", "x_1"))
    mean = (comparison.values("a", "x_1") + comparison.values("a", "x_2")) / 2
    assert term("x(a)").tolist() == mean.tolist()
    assert term("y").to_dict() == {4: 7.0}
    assert term("0.25").to_dict() == {4: 0.25, 2: 0.25, 3: 0.25}
    for text in ("x_1", "x_1(nobody)", "z(a)", "z", "y(a)"):
        refused(lambda text=text: comparison.term(text), text, "metric")


def test_rows_of_two_devices_are_never_compared_with_one_another():
    """Arm c was measured on the GPU alone, a on both, b on the CPU: a - c is of the GPU's a."""
    values = {("a", "cpu"): 1, ("b", "cpu"): 3, ("a", "gpu"): 10, ("c", "gpu"): 15}
    rows = [
        row(value + wide * seed, seed, arm, "x", device=device)
        for (arm, device), value in values.items()
        for seed in (0, 1, 2)
        for wide in [0.5 if arm == "a" else 0.25]
    ]
    comparison = Comparison(rows)
    assert comparison.values("a", "x").to_dict() == {0: 1, 1: 1.5, 2: 2}
    assert comparison.interval("a", "c", "x").effect == pytest.approx(-4.75)
    assert comparison.interval("a", "b", "x").effect == pytest.approx(-1.75)
    assert comparison.interval("b", "c", "x") is None
    for contrast, expected in (("x(a) - x(b)", -1.75), ("x(c) - x(a)", 4.75), ("x(c) - 15", 0.25)):
        pairs = statistics.contrast_pairs(contrast, comparison.term)
        assert pairs.index.tolist() == [0, 1, 2]
        assert pairs["a"].mean() == pytest.approx(expected)
    assert len(statistics.contrast_pairs("ratio x(b) / x(c)", comparison.term)) == 0


def test_smoke_draws_the_committed_rows_and_full_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    shown = lambda profile: Comparison.shown("04_x", [row(5.0)], profile)  # noqa: E731
    assert shown("smoke").values("phase", "ccc").tolist() == [5.0]
    sweep = [row(2.0, arm="x", profile="sweep"), row(9.0, profile="sweep")]
    two = {"git_sha": f"{'a' * 40} + {'b' * 40}-dirty", "utc": "2026-01-01T00:00:00Z"}
    sweep.append(row(3.0, arm="y", profile="sweep", **two))
    write_rows([row(1.0, profile="full"), *sweep], tmp_path)  # of an arm in both the core's counts
    (tmp_path / "data").mkdir()
    (tmp_path / "rows").rename(tmp_path / "data" / "results")
    assert shown("smoke").arms == ["phase", "x", "y"]
    assert shown("smoke").values("phase", "ccc").tolist() == [1.0]
    source = shown("smoke").source
    assert "committed full run of 2026-01-01 to " in source
    assert source.endswith(", aaaaaaaa, bbbbbbbb-dirty"), "all that rows name"
    assert shown("full").values("phase", "ccc").tolist() == [5.0]


@pytest.mark.parametrize(
    ("name", "elsewhere"),
    [("avx2", {"profile": "avx2"}), ("nvidia-h200", {"profile": "full", "device": "NVIDIA H200"})],
)
def test_claims_move_with_the_seeds_of_another_processor(name, elsewhere, tmp_path, monkeypatch):
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    claims = pd.DataFrame(
        {
            "claim": ["04-a", "04-b", "04-gone", "04-needs", "05-x"],
            "contrast": [
                "ccc(ours) - ccc(b)",
                "ratio ccc(ours) / ccc(c)",
                "ccc(ours) - ccc(z)",
                "needs data",
                "ccc(ours) - ccc(b)",
            ],
            "margin": ["0.05", "1.1", "0", "0", "0"],
        }
    )
    full = {"ours": [0.5, 0.6, 0.7], "b": [0.3, 0.4, 0.52], "c": [0.1, 0.2, 0.3]}
    # Of seeds 0 and 1; the second stays, and the third of one arm is no contrast.
    other = {"ours": [0.4, 0.6, 9.0], "b": [0.45, 0.4], "c": [0.1, 0.2]}
    for options, arms in (({"profile": "full"}, full), (elsewhere, other)):
        values = [(v, s, arm) for arm, own in arms.items() for s, v in enumerate(own)]
        write_rows([row(*value, **options) for value in values], tmp_path)
    (tmp_path / "data").mkdir()
    claims.to_csv(tmp_path / "data" / "claims.csv", index=False)
    (tmp_path / "rows").rename(tmp_path / "data" / "results")
    moved = results.moved_by_processor("04_x")
    assert results.moved_by_processor("04_y").empty
    assert moved.index.tolist() == [(name, "04-a"), (name, "04-b")]
    line = moved.loc[(name, "04-a")]
    assert (line["seeds"], line["largest move"]) == (1, pytest.approx(0.25))
    before, after = np.array([0.2, 0.2, 0.18]), np.array([-0.05, 0.2, 0.18])
    assert line["sd over seeds"] == pytest.approx(before.std(ddof=1))
    ends = stats.ttest_1samp(after, 0).confidence_interval()
    text = f"{after.mean():+.3f} [{ends.low:+.3f}, {ends.high:+.3f}]"
    assert line[["verdict", "verdict, moved"]].tolist() == ["holds", "undecided"]
    assert line["effect, moved"] == text
    assert moved.loc[(name, "04-b"), "largest move"] == pytest.approx(1.0)  # 5 times, then 4


def test_printed_differences():
    methods = {"resampled": ("IV justification", "va-norm.*"), "s12": ("V ablation", "s12")}
    table = results.published_differences("akmnet", methods, ("III comparison", "AKMNet"))
    best = 0.7090  # of four lengths
    assert table["CASME"].tolist() == pytest.approx([best - 0.7566, 0.6984 - 0.7566])
    assert table.columns.tolist() == ["CASME", "CASME II", "SMIC", "SAMM"]


@pytest.mark.parametrize(
    ("notebook", "least"),
    [
        ("04b_mimamo_ablation", 30),
        ("05b_msff_ablation", 27),
        ("06b_spotting_ablation", 26),
        ("07b_reaction_ablation", 46),
        ("08b_akmnet_ablation", 30),
    ],
)
def test_committed_verdicts_follow_from_committed_rows(notebook, least, monkeypatch):
    monkeypatch.delenv("MICROMACRO_ROOT", raising=False)
    shown, handed = Comparison.shown(notebook, [], "smoke"), {}
    take = lambda name, intervals, out: handed.update(intervals)  # noqa: E731
    monkeypatch.setattr(statistics, "hand_over", take)
    claims = partial(statistics.notebook_claims, notebook, shown.term, None)
    before = claims(judge=False)
    assert not handed
    after = claims(judge=True)
    pd.testing.assert_frame_equal(before, after)
    assert set(handed) == set(after.index[after["verdict"] != "not judged yet"])
    assert len(handed) >= least
    monkeypatch.setattr(statistics, "FEWEST_SEEDS", 99)
    pd.testing.assert_frame_equal(claims(judge=True), before)
