"""Intervals against scipy and closed forms; every case of a verdict; the file of claims."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from micromacro import statistics
from micromacro.errors import BadInput
from micromacro.statistics import (
    Interval,
    cluster_bootstrap,
    hand_over,
    judge_claims,
    paired_interval,
    read_claims,
    verdict,
    write_verdicts,
)

CLAIMS = """claim,source,contrast,margin,verdict,effect,low,high,n
better,"abstract, p. 1",a - b,0.05,,,,,
cheaper,abstract,ratio b / a,1.0,,,,,
far,table 2,c - d,0.1,,,,,
"""


@pytest.fixture
def claims_csv(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    path = tmp_path / "data" / "claims.csv"
    path.parent.mkdir()
    path.write_text(CLAIMS, encoding="utf-8")
    return path


@pytest.mark.parametrize(("n", "level"), [(2, 0.95), (8, 0.95), (8, 0.5), (31, 0.99)])
def test_paired_interval_is_that_of_scipy(n, level):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.3, 1, n), rng.normal(0, 2, n)
    ours, theirs = paired_interval(a, b, level=level), stats.ttest_rel(a, b)
    low, high = theirs.confidence_interval(level)
    assert ours.effect == pytest.approx((a - b).mean(), rel=1e-12)
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-9)
    assert ours.n == n


def test_paired_intervals_by_hand():
    # d = 1, 3: m = 2, s = sqrt(2), s / sqrt(2) = 1, t(1, 0.975) = 12.7062
    assert paired_interval([2, 5], [1, 2])[:3] == pytest.approx((2, -10.7062, 14.7062), abs=1e-4)
    assert paired_interval([1.5, 2.5, 3.5], [1, 2, 3]) == (0.5, 0.5, 0.5, 3)  # a point


def test_paired_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 5, (2000, 8))  # seeds differ far more than the methods: pairing matters
    a, b = shared + rng.normal(0.4, 1, (2000, 8)), shared
    found = [paired_interval(one, two) for one, two in zip(a, b, strict=True)]
    inside = np.mean([i.low <= 0.4 <= i.high for i in found])
    assert inside == pytest.approx(0.95, abs=0.015)  # three standard errors of 2000 trials
    assert np.mean([i.high - i.low for i in found]) < 2  # 1.6 paired; about 10 unpaired


@pytest.mark.parametrize("ratio", [False, True])
def test_swapping_mirrors_the_interval_and_a_ratio_is_that_of_logarithms(ratio):
    a, b = np.random.default_rng(1).lognormal(size=(2, 8))
    one, two = paired_interval(a, b, ratio=ratio), paired_interval(b, a, ratio=ratio)
    mirrored = (two.effect, two.high, two.low)
    assert one[:3] == pytest.approx([1 / v if ratio else -v for v in mirrored])
    if ratio:
        ends = stats.ttest_rel(np.log(a), np.log(b)).confidence_interval()
        assert one[:3] == pytest.approx((stats.gmean(a) / stats.gmean(b), *np.exp(ends)))


def test_paired_interval_refuses():
    nan, inf = float("nan"), float("inf")
    pairs = [([1], [1]), ([], []), ([1, 2], [1, 2, 3]), ([[1, 2]], [[1, 2]])]
    for a, b in [*pairs, ([1, nan], [1, 2]), ([1, 2], [1, inf])]:
        with pytest.raises(BadInput, match="a and b"):
            paired_interval(a, b)
    with pytest.raises(BadInput, match="not above 0"):
        paired_interval([1, 2], [1, 0], ratio=True)
    with pytest.raises(BadInput, match="level"):
        paired_interval([1, 2], [1, 3], level=1.0)


CASES = [
    (0.12, 0.06, 0.18, "holds"),
    (-0.12, -0.18, -0.06, "reversed"),
    (0.02, 0.01, 0.03, "equal within δ"),
    (0.00, -0.05, 0.05, "equal within δ"),
    (0.06, 0.02, 0.10, "undecided"),
    (0.08, 0.05, 0.11, "undecided"),
    (0.00, -0.20, 0.20, "undecided"),
    (-0.06, -0.10, -0.02, "undecided"),
]


@pytest.mark.parametrize(("effect", "low", "high", "word"), CASES)
def test_every_case_of_a_verdict(effect, low, high, word):
    assert verdict(Interval(effect, low, high, 8), 0.05) == word
    swapped = {"holds": "reversed", "reversed": "holds"}.get(word, word)
    assert verdict(Interval(-effect, -high, -low, 8), 0.05) == swapped
    assert f'"{word}"' in verdict.__doc__
    ends = (np.exp(v) for v in (effect, low * (1 - 1e-12), high * (1 - 1e-12)))
    assert verdict(Interval(*ends, 8), np.exp(0.05), ratio=True) == word


def test_a_verdict_on_the_sign_alone():
    for low, high, word in ((1.1, 9, "holds"), (0.2, 0.9, "reversed"), (0.9, 1.5, "undecided")):
        assert verdict(Interval(1, low, high, 8), 1.0, ratio=True) == word
    assert verdict(Interval(0.1, 0.01, 0.2, 8), 0.0) == "holds"
    assert verdict(None, 0.05) == "untestable here"
    assert {word for *_, word in CASES} | {"untestable here"} == set(statistics.VERDICTS)


def test_verdict_refuses():
    nan, interval = float("nan"), Interval(1, 0.9, 1.1, 8)
    for margin, ratio in ((-0.1, False), (nan, False), (0.5, True)):
        with pytest.raises(BadInput, match="margin"):
            verdict(interval, margin, ratio=ratio)
    for low, high in ((1, -1), (nan, 1)):
        with pytest.raises(BadInput, match="interval"):
            verdict(Interval(0, low, high, 8), 0.1)


def test_bootstrap_draws_persons_and_not_clips():
    rng = np.random.default_rng(3)
    person = np.repeat(np.arange(30), 20)
    values = rng.normal(size=30)[person] + 0.1 * rng.normal(size=600)
    found = cluster_bootstrap(values, person, statistic=np.mean, seed=1)
    by_person = np.array([values[person == k].mean() for k in range(30)])
    half = 1.96 * by_person.std() / np.sqrt(30)  # of a mean of 30; of 600 clips it were 4.5 x less
    assert (found.effect, found.n) == (pytest.approx(values.mean()), 30)
    # 2000 draws know each end to about 4 % of the half width, three standard errors 12 %
    assert found.high - found.effect == pytest.approx(half, rel=0.12)
    assert found.effect - found.low == pytest.approx(half, rel=0.12)
    assert found == cluster_bootstrap(values, person, statistic=np.mean, seed=1)


def test_bootstrap_keeps_rows_of_a_person_together():
    values = np.array([[1.0, 1], [2, 2], [5, 5]])
    seen = []
    cluster_bootstrap(
        values, ["a", "a", "b"], statistic=lambda rows: seen.append(rows) or 0.0, n=200
    )
    sums = {rows[:, 0].sum() for rows in seen[1:]}
    assert sums == {6.0, 8.0, 10.0}  # aa, ab, bb


def test_bootstrap_refuses():
    for clusters in (["a", "b"], ["a", "a", "a"]):
        with pytest.raises(BadInput, match="clusters"):
            cluster_bootstrap(np.arange(3.0), clusters, statistic=np.mean)


def test_claims_are_judged_by_their_own_margins(claims_csv):
    table = judge_claims(
        {"far": Interval(0.08, 0.06, 0.1, 8), "cheaper": Interval(3, 2, 4, 20), "better": None}
    )
    assert list(table["verdict"]) == ["equal within δ", "holds", "untestable here"]
    assert list(table.loc["cheaper", ["effect", "low", "high", "n"]]) == ["3", "2", "4", "20"]
    assert claims_csv.read_text(encoding="utf-8") == CLAIMS, "judging writes nothing"


def judge(folder, intervals: dict) -> None:
    """From a notebook to the table."""
    hand_over("03", intervals, folder)
    write_verdicts(folder / "claims" / "03.json")


def test_write_verdicts_changes_the_named_claims_only(claims_csv, tmp_path):
    judge(tmp_path, {"better": Interval(0.123456, 0.06, 0.18, 8)})
    judge(tmp_path, {"far": None})
    lines = claims_csv.read_text(encoding="utf-8").splitlines()
    assert lines[0] == CLAIMS.splitlines()[0]
    assert lines[1] == 'better,"abstract, p. 1",a - b,0.05,holds,0.1235,0.06,0.18,8'
    assert lines[2] == CLAIMS.splitlines()[2]
    assert lines[3] == "far,table 2,c - d,0.1,untestable here,,,,"
    assert read_claims().loc["better", "verdict"] == "holds"


def test_what_writes_nothing(claims_csv, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    hand_over("03", {"better": None}, None)  # a notebook that is run by hand
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(BadInput, match="better still"):  # not committed first
        judge(tmp_path, {"better still": Interval(1, 0.5, 2, 8)})
    assert claims_csv.read_text(encoding="utf-8") == CLAIMS


def test_the_committed_claims_can_be_judged(monkeypatch):
    monkeypatch.delenv("MICROMACRO_ROOT", raising=False)
    claims = read_claims()
    assert list(claims.columns) == CLAIMS.splitlines()[0].split(",")[1:]
    assert claims.index.is_unique
    for _, claim in claims.iterrows():
        assert claim["source"]
        ratio = claim["contrast"].startswith("ratio ")
        assert verdict(Interval(1, 1, 1, 8), float(claim["margin"]), ratio=ratio)
        assert claim["verdict"] in ("", *statistics.VERDICTS)


def test_contrasts_are_read_as_they_are_written():
    seeds = pd.Index([3, 4, 5], name="seed")
    table = {
        "ccc(a, light 1)": pd.Series([0.5, 0.7, 0.6], seeds),
        "ccc(b)": pd.Series([0.1, 0.4, 0.2], seeds),
        "c": pd.Series([1.0, 2.0, 4.0, 9.0], [3, 4, 5, 6]),
        "0.25": pd.Series(0.25, seeds),
    }
    a, b, c = (table[k].loc[seeds].to_numpy() for k in ("ccc(a, light 1)", "ccc(b)", "c"))
    read = partial(statistics.contrast_interval, term=table.__getitem__)
    for text, expected in {
        "ccc(a, light 1) - ccc(b); a note - with signs": paired_interval(a, b),
        "c - 0.25": paired_interval(c, [0.25] * 3),
        "c - ccc(b) + ccc(a, light 1)": paired_interval(c + a, b),
        "ratio c / ccc(a, light 1)": paired_interval(c, a, ratio=True),
    }.items():
        assert read(text) == pytest.approx(expected)
    assert read("needs data that nobody has") is None
    with pytest.raises(KeyError):
        read("ccc(b) - unknown")
