"""Intervals against scipy and closed forms; every case of a verdict; the file of claims."""

import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
from refusals import refused
from scipy import optimize, stats

from micromacro import statistics
from micromacro.statistics import (
    Interval,
    cluster_bootstrap,
    paired_interval,
    read_claims,
    verdict,
)
from micromacro.systems.akmnet import experiment as akmnet
from micromacro.systems.mimamo import experiment as mimamo

CLAIMS = """claim,source,contrast,margin,half_width,family,kind,verdict,effect,low,high,n
better,"abstract, p. 1",a - b,0.05,0.03,primary,finding,,,,,
cheaper,abstract,ratio b / a,1.0,,,finding,,,,,
far,table 2,c - d,0.1,,,finding,,,,,
still,table 3,c - e,0.1,,,identity,,,,,
"""


@pytest.fixture
def claims_csv(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    path = tmp_path / "data" / "claims.csv"
    path.parent.mkdir()
    path.write_text(CLAIMS, encoding="utf-8")
    return path


@pytest.mark.parametrize("n", [2, 8, 31])
@pytest.mark.parametrize("ratio", [False, True])
def test_paired_interval_is_that_of_scipy_and_swapping_mirrors_it(n, ratio):
    """Of numbers, or of their logarithms: a ratio of geometric means."""
    a, b = np.random.default_rng(n).normal([[0.3], [0]], [[1], [2]], (2, n))
    seen = np.exp if ratio else np.asarray
    ours = paired_interval(seen(a), seen(b), ratio=ratio)
    ends = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert ours.effect == pytest.approx(seen((a - b).mean()), rel=1e-12)
    assert (ours.low, ours.high) == pytest.approx(seen(ends), rel=1e-9)
    assert ours.n == n
    swapped = paired_interval(seen(b), seen(a), ratio=ratio)
    mirrored = (swapped.effect, swapped.high, swapped.low)
    assert ours[:3] == pytest.approx([1 / v if ratio else -v for v in mirrored])


def test_the_interval_of_equal_differences_is_a_point():
    assert paired_interval([1.5, 2.5, 3.5], [1, 2, 3]) == (0.5, 0.5, 0.5, 3)


CASES = [
    (0.12, 0.06, 0.18, "holds"),
    (0.02, 0.01, 0.03, "equal within δ"),
    (0.00, -0.05, 0.05, "equal within δ"),
    (0.06, 0.02, 0.10, "undecided"),
    (0.08, 0.05, 0.11, "undecided"),
    (0.00, -0.20, 0.20, "undecided"),
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
    assert {word for *_, word in CASES} | {"reversed", "untestable here"} == {*statistics.VERDICTS}


bootstrap = partial(cluster_bootstrap, statistic=np.mean)
NAN, INF, SURE = float("nan"), float("inf"), Interval(1, 0.9, 1.1, 8)


@pytest.mark.parametrize(
    ("word", "function", "calls"),
    [
        ("a and b", paired_interval, [([1], [1]), ([1, 2], [1, 2, 3]), ([[1, 2]], [[1, 2]])]),
        ("a and b", paired_interval, [([1, NAN], [1, 2]), ([1, 2], [1, INF])]),
        ("not above 0", partial(paired_interval, ratio=True), [([1, 2], [1, 0])]),
        ("margin", verdict, [(SURE, -0.1), (SURE, NAN)]),
        ("margin", partial(verdict, ratio=True), [(SURE, 0.5)]),
        ("interval", verdict, [(Interval(0, 1, -1, 8), 0.1), (Interval(0, NAN, 1, 8), 0.1)]),
        ("clusters", bootstrap, [([0.0, 1, 2], ["a", "b"]), ([0.0, 1, 2], ["a"] * 3)]),
    ],
)
def test_what_is_refused(word, function, calls):
    for call in calls:
        refused(partial(function, *call), word)


def test_bootstrap_draws_persons_and_not_clips():
    rng = np.random.default_rng(3)
    person = np.repeat(np.arange(30), 20)
    values = rng.normal(size=30)[person] + 0.1 * rng.normal(size=600)
    interval = bootstrap(values, person)
    by_person = np.array([values[person == k].mean() for k in range(30)])
    half = 1.96 * by_person.std() / np.sqrt(30)  # of a mean of 30; of 600 clips it were 4.5 x less
    assert (interval.effect, interval.n) == (pytest.approx(values.mean()), 30)
    # 2000 draws know each end to about 4 % of the half width, three standard errors 12 %
    halves = (interval.high - interval.effect, interval.effect - interval.low)
    assert halves == pytest.approx((half, half), rel=0.12)
    assert interval == bootstrap(values, person)

    values, seen = np.array([[1.0, 1], [2, 2], [5, 5]]), []
    keep = lambda rows: seen.append(rows[:, 0].sum()) or 0.0  # noqa: E731
    cluster_bootstrap(values, ["a", "a", "b"], statistic=keep, n=200)
    assert set(seen[1:]) == {6.0, 8.0, 10.0}  # aa, ab, bb: rows of a person stay together


def test_write_verdicts_changes_the_named_claims_only(claims_csv, tmp_path):
    def judge(**intervals) -> None:
        statistics.hand_over("03", intervals, tmp_path)
        statistics.write_verdicts(tmp_path / "claims" / "03.json")

    before = sorted(tmp_path.rglob("*"))
    statistics.hand_over("03", {"better": None}, None)  # a notebook that is run by hand
    assert sorted(tmp_path.rglob("*")) == before
    refused(lambda: judge(new=Interval(1, 0.5, 2, 8)), "new")  # not committed first
    assert claims_csv.read_text(encoding="utf-8") == CLAIMS
    judge(better=Interval(0.123456, 0.06, 0.18, 8), cheaper=Interval(0.3, 0.2, 0.4, 20))
    judge(far=None)
    assert claims_csv.read_text(encoding="utf-8").splitlines() == [
        CLAIMS.splitlines()[0],
        'better,"abstract, p. 1",a - b,0.05,0.03,primary,finding,holds,0.1235,0.06,0.18,8',
        "cheaper,abstract,ratio b / a,1.0,,,finding,reversed,0.3,0.2,0.4,20",
        "far,table 2,c - d,0.1,,,finding,untestable here,,,,",
        "still,table 3,c - e,0.1,,,identity,,,,,",
    ]


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
        assert claim["family"] in ("", "primary")
        assert not claim["half_width"] or float(claim["half_width"]) > 0


def test_holm_by_the_book():
    """Against t-tests of SciPy on the seeds themselves, and Holm's procedure step by step."""
    rng, margin, rows, p = np.random.default_rng(5), 0.05, [], {}
    for k in range(12):
        a = rng.normal((-1) ** k * rng.uniform(0, 0.25), 0.08, 8)
        ratio = k % 4 == 3  # of logarithms
        interval = paired_interval(np.exp(a) if ratio else a, np.ones(8) * ratio, ratio=ratio)
        limit = np.exp(margin) if ratio else margin
        word = verdict(interval, limit, ratio=ratio)
        edge = np.sign(a.mean()) * margin
        p[f"c{k}"] = stats.ttest_1samp(a, edge).pvalue
        contrast = "ratio a / b" if ratio else "a - b"
        rows.append([f"c{k}", contrast, str(limit), "primary", word, *map(str, interval)])
    names = ["claim", "contrast", "margin", "family", "verdict", *Interval._fields]
    claims = pd.DataFrame(rows, columns=names).set_index("claim")
    claims.loc["other"] = claims.loc["c0"]
    claims.loc["other", "family"] = ""
    claims.loc["open"] = ["a - b", "0.05", "primary", "untestable here", "", "", "", ""]
    expected, stands = {"other": "—", "open": "—"}, True
    for done, name in enumerate(sorted(p, key=p.get)):
        stands &= p[name] < 0.05 / (len(p) - done)
        expected[name] = claims["verdict"][name] if stands else "undecided"
    seen = statistics.holm(claims)
    assert seen.to_dict() == expected
    lost = (seen == "undecided") & (claims["verdict"] != "undecided")
    assert lost.any()  # it matters here
    assert (seen[:12] != "undecided").any()
    assert statistics.holm(claims[:0]).empty


def test_contrasts_are_read_as_they_are_written():
    a, b, c = [0.5, 0.7, 0.6], [0.1, 0.4, 0.2], [1.0, 2.0, 4.0]
    table = {"ccc(a, light 1)": a, "ccc(b)": b, "c": [*c, 9.0], "0.25": [0.25] * 3}
    table |= {"pcc(face + voice)": a, "pcc(loss 1 - PCC)": b}
    table = {name: pd.Series(values, range(len(values))) for name, values in table.items()}

    def read(text):
        return statistics.contrast_interval(
            text, statistics.contrast_pairs(text, table.__getitem__)
        )

    for text, expected in {
        "ccc(a, light 1) - ccc(b); a note - with signs": paired_interval(a, b),
        "c - 0.25": paired_interval(c, [0.25] * 3),
        "pcc(face + voice) - pcc(loss 1 - PCC)": paired_interval(a, b),
        "c - pcc(loss 1 - PCC) + pcc(face + voice)": paired_interval(np.add(c, a), b),
        "c - ccc(b) + ccc(a, light 1)": paired_interval(np.add(c, a), b),
        "ratio c / ccc(a, light 1)": paired_interval(c, a, ratio=True),
    }.items():
        assert read(text) == pytest.approx(expected)
    assert read("needs data that nobody has") is None
    with pytest.raises(KeyError):
        read("ccc(b) - unknown")


def judged(**lines) -> pd.DataFrame:
    """Claims of the values of two sides, by seed, and these sides."""
    claims, pairs = {}, {}
    for name, (contrast, margin, family, kind, a, b) in lines.items():
        pairs[name] = pd.DataFrame({"a": a, "b": b})
        interval = statistics.contrast_interval(contrast, pairs[name])
        word = verdict(interval, margin, ratio=contrast.startswith("ratio "))
        about = {"contrast": contrast, "margin": str(margin), "family": family, "kind": kind}
        numbers = dict(zip(Interval._fields, map(str, interval), strict=True))
        claims[name] = {"source": "s", "half_width": ""} | about | {"verdict": word} | numbers
    return pd.DataFrame(claims).T, pairs


def test_a_verdict_that_hangs_on_one_seed_is_named():
    strong = np.array([0.30, 0.31, 0.29, 0.30, 0.32, 0.28, 0.30, 0.31])
    lone = np.array([0.06, 0.07, 0.06, 0.07, 0.06, 0.07, 0.06, 0.00])  # the last one spoils it
    other = [0.5, 0.4, 0.5, 0.6, 0.5, 0.4, 0.6, 0.5]
    claims, pairs = judged(
        strong=("a - b", 0.02, "primary", "finding", strong + other, other),
        lone=("a - b", 0.05, "primary", "finding", lone, 0.0),
        times=("ratio a / b", 1.2, "", "positive control", 2 + strong, np.ones(8)),
    )
    assert claims["verdict"].tolist() == ["holds", "undecided", "holds"]
    claims.loc["later"] = claims.loc["strong"]
    claims.loc["later", ["verdict", "effect", "low", "high", "n"]] = ""
    table = statistics.claims_table(claims, pairs | {"later": None})
    assert table["without one seed"].tolist() == ["stays", "holds (7)", "stays", "—"]
    assert table["verdict"]["later"] == "not judged yet"
    assert table["effect"]["later"] == "—"
    assert table["after Holm"].tolist() == ["holds", "undecided", "—", "—"]
    assert table["Holm over all"].tolist() == ["holds", "undecided", "holds", "—"]
    assert statistics.tally(table).to_numpy().tolist() == [[2, 1, 1, 0], [3, 2, 2, 0]]
    few = {"strong": pairs["strong"][:2]}
    assert set(statistics.claims_table(claims, few)["without one seed"]) == {"—"}


def test_words_say_what_the_table_says():
    claims, pairs = judged(
        first=("a - b", 0.2, "primary", "identity", [0.26, 0.24, 0.20, 0.30, 0.28], np.zeros(5)),
        second=("a - b", 0.0, "", "finding", [1.0, 1.1, 1.05], np.zeros(3)),
    )
    table = statistics.claims_table(claims, pairs)
    first, second = statistics.in_words(table, {"first": "A beats B", "second": "C"}).splitlines()
    effect, low, high, _ = paired_interval([0.26, 0.24, 0.20, 0.30, 0.28], [0] * 5)
    assert first.startswith(f"A beats B: holds, {effect} [{low}, {high}], δ = 0.2; kind: identity")
    assert "without one seed: undecided (" in first  # without the largest
    assert second.startswith("C: holds, 1.05")
    assert second.endswith("δ = 0.0")
    table.loc["second", "after Holm"] = "undecided"
    assert statistics.in_words(table, {"second": "C"}).endswith("; after Holm: undecided")


def test_quartiles_of_rounds_have_no_p():
    claims, _ = judged(x=("ratio a / b", 1.0, "primary", "finding", [2.0, 2.1, 2.2], np.ones(3)))
    assert statistics.holm(claims)["x"] == "holds"
    claims["contrast"] = "ratio a / b; median and quartiles over rounds"
    assert statistics.holm(claims)["x"] == "—"


FAMILIES = {
    "03": "more robust",  # the abstract of MIMAMO Net; "cheaper" has quartiles and no p
    "04": r"\(abstract\)",  # the same abstract
    "08": r"^AKMNet, (Table III|Table IV|Table V|Table VI|Figure 5):",  # as printed, nothing added
}


@pytest.mark.parametrize("number", FAMILIES)
def test_families_named_late_follow_from_the_sources_alone(number, monkeypatch):
    """Findings whose source is a headline of the paper, whatever came out; but what is undecided may
    be asked again, of other seeds, and counts then."""
    monkeypatch.delenv("MICROMACRO_ROOT", raising=False)
    claims = read_claims()
    claims = claims[claims.index.str.startswith(f"{number}-")]
    headline = claims["source"].str.contains(FAMILIES[number].replace("(T", "(?:T"))
    expected = headline & (claims["kind"] == "finding")
    assert claims.index[claims["family"] == "primary"].tolist() == [*claims.index[expected]]
    planned = claims.loc[claims["half_width"] != "", ["half_width", "margin"]].astype(float)
    if number == "08":  # of the primary ones all, none wider than its margin
        own = planned.loc[claims.index[expected]]
        assert (own["half_width"] <= own["margin"]).all()
    else:  # nothing that was planned late, but what was asked again
        late = {name for name in claims.index[expected] if not name.endswith("-again")}
        assert not {*planned.index} & late


SYSTEMS = {"04": mimamo, "08": akmnet}


def test_what_is_asked_again_was_undecided_and_has_seeds_of_its_own(monkeypatch):
    monkeypatch.delenv("MICROMACRO_ROOT", raising=False)
    claims = read_claims()
    again = claims[claims.index.str.endswith("-again")]
    assert len(again) >= 7
    for name, claim in again.iterrows():
        first, experiment = claims.loc[name.removesuffix("-again")], SYSTEMS[name[:2]]
        assert (first["verdict"], first["family"], claim["family"]) == ("undecided", "", "primary")
        assert first["margin"] == claim["margin"]
        arms = re.findall(r"\w\(([^()]+)\)", claim["contrast"].partition(";")[0])
        (seeds,) = {tuple(experiment.ARMS[arm]["seeds"]) for arm in arms}
        assert not {*seeds} & {*experiment.PROFILES["full"]["seeds"]}
        assert claim["n"] in ("", str(len(seeds)))
        for arm in arms:  # otherwise it is the arm that was asked first
            plain = arm.removesuffix("new seeds").removesuffix(", ") or "ours"
            assert experiment.ARMS[arm] == experiment.ARMS[plain] | {"seeds": [*seeds]}


def test_kinds_say_what_sources_say(monkeypatch):
    monkeypatch.delenv("MICROMACRO_ROOT", raising=False)
    claims = read_claims()
    words = claims["source"].str.extract(r"\b(positive control|identity)\b")[0].fillna("finding")
    assert (words == claims["kind"]).all()
    by_construction = ["04-1-phase-unmoved", "04-1-normalised-flow-moved"]
    by_construction += ["04-4-larger-for-arousal", "08-2-midpoint", "08-6-near-midpoint"]
    assert (claims.loc[by_construction, "kind"] != "finding").all()


# Where spread comes from --------------------------------------------------------------------------


def drawn(sd, shape, rng):
    """Sum of an effect of each seed, fold, person, clip, (seeds, clips); and who lies in what."""
    parts = [s * rng.normal(size=(*shape[: k + 1], *[1] * (3 - k))) for k, s in enumerate(sd)]
    values = sum(parts).reshape(shape[0], -1)
    fold, person, _ = np.indices(shape[1:])
    person = 100 + person + shape[2] * fold
    groups = [np.tile(g.ravel(), (shape[0], 1)) for g in (fold, person)]
    order = rng.permuted(np.tile(np.arange(values.shape[1]), (shape[0], 1)), axis=1)
    return [np.take_along_axis(x, order, 1) for x in (values, *groups)]


def test_components_are_those_of_restricted_likelihood():
    """Against the mixed model itself: its likelihood is maximised, its mean has that variance."""
    rng = np.random.default_rng(2)
    values, _, person = drawn((0.8, 0, 0.7, 0.5), (8, 1, 4, 3), rng)
    found = statistics.components(values, person)
    assert found.min() > 0  # where the two methods agree
    n, y = values.size, values.ravel()
    seed = np.repeat(np.arange(8), 12)
    same = [seed[:, None] == seed, None, np.eye(n)]
    same[1] = same[0] & (person.ravel()[:, None] == person.ravel())

    def minus_log_likelihood(logs):
        v = sum(np.exp(log) * part for log, part in zip(logs, same, strict=True))
        inverse = np.linalg.inv(v)
        weight = inverse.sum()
        rest = y - (inverse @ y).sum() / weight
        return np.linalg.slogdet(v)[1] + np.log(weight) + rest @ inverse @ rest

    fitted = optimize.minimize(minus_log_likelihood, np.zeros(3), method="Nelder-Mead", tol=1e-9)
    parts = np.exp(fitted.x) / [1, 4, 12]  # each part's share of the variance of a seed's mean
    assert found == pytest.approx(parts, rel=1e-3)
    v = sum(np.exp(log) * part for log, part in zip(fitted.x, same, strict=True))
    low, high = paired_interval(values.mean(1), np.zeros(8))[1:3]
    sd = np.sqrt(1 / np.linalg.inv(v).sum())
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 7) * sd, rel=1e-3)


def test_components_of_what_was_drawn():
    sd, shape = (0.3, 0.2, 0.4, 0.9), (400, 3, 4, 5)
    values, fold, person = drawn(sd, shape, np.random.default_rng(0))
    found = statistics.components(values, fold, person)
    expected = np.square(sd) / [1, 3, 12, 60]
    assert found.sum() == pytest.approx(values.mean(1).var(ddof=1))
    assert found == pytest.approx(expected, abs=0.1 * expected.sum())
    clip = np.tile(np.arange(60), (400, 1))
    across = clip // 20  # a group that lies in two folds
    fold_by_clip = clip // 30
    refused(partial(statistics.components, values, fold_by_clip, across), "groups")
    for broken in (fold[:, ::-1], np.where(person == 100, 101, person), 0 * person, fold, clip):
        refused(partial(statistics.components, values, fold, broken), "groups")


def test_spread_is_said_with_its_sources():
    """People alone as by a bootstrap of people within seeds and folds; n as by intervals."""
    values, fold, person = drawn((0.6, 0, 1, 1), (8, 2, 12, 4), np.random.default_rng(4))
    table = statistics.sources_of_spread({"a": values}, {"fold": fold, "person": person}, 0.25)
    line, rng, margin = table.loc["a"], np.random.default_rng(1), 0.25
    of_people = np.array(
        [[values[s][person[s] == p].mean() for p in range(100, 124)] for s in range(8)]
    ).reshape(8, 2, 12)
    draws = rng.integers(12, size=(4000, 8, 2, 12))
    means = np.take_along_axis(of_people[None], draws, 3).mean((1, 2, 3))
    low, high = map(float, line["people alone"].strip("[]").split(", "))
    assert (high - low) / 2 == pytest.approx(1.96 * means.std() * (12 / 11) ** 0.5, rel=0.06)
    interval = paired_interval(values.mean(1), np.zeros(8))
    assert line["interval"] == f"[{interval.low:+.3f}, {interval.high:+.3f}]"
    sd = values.mean(1).std(ddof=1)
    half = {n: stats.t.ppf(0.975, n - 1) * sd / n**0.5 for n in (line["n"] - 1, line["n"])}
    assert half[line["n"]] <= margin < half[line["n"] - 1]
    assert line["n alone"] < line["n"]
    parts = [int(line[name].rstrip("%")) for name in ("seed", "fold", "person", "clip")]
    assert sum(parts) == pytest.approx(100, abs=2)
    same = statistics.sources_of_spread({"a": 0 * values}, {"person": person}, 0.1).loc["a"]
    assert (same["n"], same["sd"], same["seed"]) == (2, "0.000", "0%")


def test_pseudo_values_of_a_mean_and_of_a_variance():
    x = np.random.default_rng(0).normal(size=12)
    assert statistics.pseudo_values(lambda rows: x[rows].mean(), 12) == pytest.approx(x)
    of_variance = statistics.pseudo_values(lambda rows: x[rows].var(), 12)
    assert of_variance.mean() == pytest.approx(x.var(ddof=1))  # the bias of 1 / n is gone


def test_a_verdict_hangs_on_no_seed_of_another_run():
    pairs = pd.DataFrame({"a": [1.0, 1.1, 0.9, 1.0], "b": 0.0})
    claim = {"contrast": "x(a) - x(b)", "margin": "0.1", "verdict": "holds", "n": "4"}
    assert statistics.without_one(pd.Series(claim), pairs) == "stays"
    assert statistics.without_one(pd.Series(claim | {"n": "8"}), pairs) == "—"


@pytest.mark.parametrize("contrast", ["x(a) - x (b)", "x(a) - "])
def test_a_contrast_that_is_read_in_part_is_refused(contrast):
    term = {"x(a)": pd.Series([1.0, 2.0]), "x(b)": pd.Series([0.5, 0.0])}.__getitem__
    assert statistics.contrast_pairs("x(a) - x(b); words", term)["a"].tolist() == [0.5, 2.0]
    refused(lambda: statistics.contrast_pairs(contrast, term), contrast.strip(), "one blank")


def test_numbers_of_rows_keep_all_their_digits(claims_csv):
    judged = statistics.judge_claims({"better": Interval(0.5, 0.4, 0.6, 12345)})
    assert judged.loc["better", "n"] == "12345"
