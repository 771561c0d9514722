"""The score of spotting: published counts, brute force on small cases, properties, outcomes."""

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from refusals import refused

from micromacro.systems.spotting import megc_f1, scoring
from micromacro.systems.spotting.scoring import CLASSES, MATCHINGS, Rule, by_video, counts, f1

COLUMNS = ["video", "label", "onset", "offset"]
NOTHING = pd.DataFrame()


def table(*rows):
    return pd.DataFrame(rows, columns=COLUMNS)


def micro(*spans):
    return table(*(("v", "micro", *span) for span in spans))


# Published counts ---------------------------------------------------------------------------------

MDMD = {
    "CAS(ME)^2": ({"micro": (21, 5014, 36), "macro": (109, 1414, 191)}, (0.0082, 0.1196, 0.0376)),
    "SAMM-LV": ({"micro": (29, 1407, 130), "macro": (22, 334, 321)}, (0.0364, 0.0629, 0.0445)),
}
SHARES = {  # tp, fp, fn: F1, precision, recall
    (18, 327, 39): (0.0896, 0.0522, 0.3158),  # SOFTNet's released weights: CAS(ME)^2, micro
    (91, 348, 209): (0.2463, 0.2073, 0.3033),  # macro
    (41, 323, 118): (0.1568, 0.1126, 0.2579),  # SAMM-LV, micro
    (60, 231, 273): (0.1923, 0.2062, 0.1802),  # macro
    (10, 71, 57): (0.1351, 0.1235, 0.1493),  # the paper on the unseen test sets of 2022
    (0, 0, 0): (0, 0, 0),
}


@pytest.mark.parametrize("name", MDMD)
def test_published_counts_of_mdmd_give_its_printed_f1(name):
    """As many hits, false alarms and misses as counted, each in a place of its own."""
    parts, printed = MDMD[name]
    truth, found = [], []
    for label, (hits, alarms, misses) in parts.items():
        spans = [("v", label, 100 * x, 100 * x + 9) for x in range(hits + alarms + misses)]
        truth += spans[: hits + misses]
        found += spans[:hits] + spans[hits + misses :]
    result = counts(table(*truth), table(*found))
    assert {label: tuple(result.loc[label]) for label in CLASSES} == parts
    assert tuple(f1(result).round(4)) == printed
    assert megc_f1(table(*truth), table(*found)) == f1(result).to_dict()


@pytest.mark.parametrize("three", SHARES)
def test_shares_of_published_counts(three):
    row = pd.DataFrame([three], columns=["tp", "fp", "fn"])
    shares = tuple(share(row).item() for share in (f1, scoring.precision, scoring.recall))
    assert shares == pytest.approx(SHARES[three], abs=5e-5)


# Brute force and properties -----------------------------------------------------------------------

SPAN = st.tuples(st.integers(-2, 9), st.integers(0, 5)).map(lambda s: (s[0], sum(s)))
ROW = st.tuples(st.sampled_from("ab"), st.sampled_from(CLASSES), SPAN)
TABLE = st.lists(ROW, max_size=5).map(lambda rows: table(*((v, c, *s) for v, c, s in rows)))


def overlapping(truth, predictions):
    """All pairs of rows that share half of their frames or more, by sets of frames."""
    pairs = set()
    for p, t in product(predictions.itertuples(), truth.itertuples()):
        a, b = (set(range(row.onset, row.offset + 1)) for row in (p, t))
        if (p.video, p.label) == (t.video, t.label) and 2 * len(a & b) >= len(a | b):
            pairs.add((p.Index, t.Index))
    return pairs


@settings(max_examples=40, deadline=None)
@given(TABLE, TABLE)
def test_matchings_against_brute_force(truth, predictions):
    expected = overlapping(truth, predictions)
    hits, _, _ = scoring.compared(truth, predictions, Rule())
    assert {*zip(hits["prediction"], hits["truth"], strict=True)} == expected
    ways = permutations([*truth.index, *[None] * len(predictions)], len(predictions))
    most = max(sum(pair in expected for pair in enumerate(way)) for way in ways)
    n = {name: len(matching(hits)) for name, matching in MATCHINGS.items()}
    pairs = scoring.most_pairs(hits)
    assert pairs["prediction"].is_unique
    assert pairs["truth"].is_unique
    assert len(pairs) == most >= max(n["file order"], n["best truth"], n["best prediction"])
    assert n["all"] == len(expected)
    assert n["each prediction"] == len({p for p, _ in expected})
    assert n["each truth"] == len({t for _, t in expected})


@settings(max_examples=25, deadline=None)
@given(TABLE, TABLE, st.integers(0, 99))
def test_properties_of_the_challenge_score(truth, predictions, seed):
    result = counts(truth, predictions)
    assert result.dtypes.eq(np.int64).all()
    assert (result >= 0).all(axis=None)
    tp, fp, fn = result.loc["overall"]
    assert (tp + fn, tp + fp) == (len(truth), len(predictions))
    parts = f1(result[result.sum(axis=1) > 0].drop(index="overall", errors="ignore"))
    if len(parts):
        assert parts.min() <= f1(result)["overall"] <= parts.max()
    mixed = (rows.sample(frac=1, random_state=seed) for rows in (truth, predictions))
    assert_frame_equal(counts(*mixed), result)


# The rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "expected"),  # in frames, in lengths, slipped
    [
        ((0, 9), (5, 14), (5 / 15, 4 / 14, 5 / 15)),
        ((0, 9), (10, 19), (0, 0, 1 / 19)),  # disjoint, yet the slip sees one frame
        ((0, 4), (0, 9), (5 / 10, 4 / 9, 5 / 10)),
        ((3, 3), (3, 3), (1, 0, 0)),  # one frame
        ((3, 3), (3, 4), (1 / 2, 0, 0)),
    ],
)
def test_overlap_by_hand(a, b, expected):
    for pair in ((a, b), (b, a)):
        values = [scoring.overlap(*map(np.array, pair), name) for name in scoring.OVERLAPS]
        assert values == pytest.approx(expected)


# Truth and predictions that a rule counts otherwise than the challenge: tp of both, then fp.
DEPARTURES = {
    "class_videos_only": (table(), table(("w", "micro", 0, 9)), 0, 0, 0),
    "many_to_one": (micro((0, 9)), micro((0, 9), (0, 8)), 1, 2, 0),
    "greedy_file_order": (micro((0, 9), (6, 15)), micro((3, 12), (0, 7)), 2, 1, 1),
    "without_plus_one": (micro((0, 9)), micro((0, 4)), 1, 0, 1),
    "offset_slip": (micro((3, 3)), micro((3, 3)), 1, 0, 1),
    "strict": (micro((0, 9)), micro((0, 4)), 1, 0, 1),
    "by_duration": (micro((0, 100)), table(("v", "macro", 0, 101)), 0, 1, 0),
    "mdmd": (micro((0, 9), (0, 8)), micro((0, 9)), 1, 2, -1),
    "softnet": (micro((0, 9), (1, 9)), micro((0, 9), (0, 9)), 2, 1, 1),
    "concat_cnn": (micro((0, 9), (0, 8)), micro((0, 9), (1, 9)), 2, 4, -2),
    "auw_gcn_2023": (micro((0, 9)), micro((0, 9), (0, 8)), 1, 2, 0),
    "auw_gcn_2025": (micro((0, 9), (0, 8)), micro((0, 9), (0, 6)), 2, 1, 1),
}


@pytest.mark.parametrize("rule", DEPARTURES)
def test_each_rule_departs_as_its_name_says(rule):
    truth, predictions, megc, tp, fp = DEPARTURES[rule]
    assert counts(truth, predictions).loc["overall", "tp"] == megc
    assert counts(truth, predictions, rule).loc["overall", ["tp", "fp"]].tolist() == [tp, fp]
    assert {*DEPARTURES} == {*scoring.RULES} - {"megc"}


def test_half_a_second_is_counted_in_the_frames_of_the_film():
    truth, longer = micro((0, 14), (50, 65)), table(("v", "macro", 50, 65))
    assert counts(truth, longer, "by_duration", fps=30.0)["tp"].tolist() == [0, 1, 1]
    assert counts(truth, longer, "by_duration")["tp"].tolist() == [1, 0, 1], (
        "of 200 frames a second"
    )


def test_videos_and_classes_do_not_mix_and_are_pooled():
    truth = table(("a", "micro", 0, 9), ("a", "macro", 20, 59), ("b", "micro", 0, 9))
    found = table(("a", "macro", 0, 9), ("b", "micro", 0, 9), ("c", "micro", 0, 9))
    parts = by_video(truth, found)
    assert parts.loc[("a", "macro")].tolist() == [0, 1, 1]
    assert parts.loc[("b", "macro")].tolist() == [0, 0, 0]
    assert counts(truth, found).to_numpy().tolist() == [[1, 1, 1], [0, 1, 1], [1, 2, 2]]
    searched = counts(truth, found[:2], videos=["b", "a", "empty"])
    assert searched.loc["overall"].tolist() == [1, 1, 2]
    assert counts(truth, found[1:2], videos=["b"]).loc["overall"].tolist() == [1, 0, 0]
    refused(lambda: counts(truth, found, videos=["a", "b"]), "predictions of c", "videos")


@pytest.mark.parametrize("rule", scoring.RULES)
def test_nothing_is_counted_as_nothing(rule):
    assert not counts(NOTHING, NOTHING, rule).to_numpy().any()
    assert not counts(NOTHING, table(), rule, videos=["a"]).to_numpy().any()
    alarm = int(rule == "softnet")  # which a video without predictions costs there
    assert counts(micro((0, 9)), NOTHING, rule).loc["overall"].tolist() == [0, alarm, 1]
    assert counts(NOTHING, micro((0, 9)), rule).loc["overall", "tp"] == 0


def test_frames_outside_a_video_count_like_others():
    assert counts(micro((-5, 4)), micro((-5, 4))).loc["micro", "tp"] == 1
    assert counts(micro((0, 4)), micro((-5, 4))).loc["micro", "tp"] == 1
    assert counts(micro((0, 4)), micro((-6, 4))).loc["micro", "tp"] == 0


BAD = [("label", x) for x in ("Micro", None)] + [("video", None)]
BAD += [("onset", x) for x in (10, 0.5, np.nan, -np.inf, "first")]


@pytest.mark.parametrize(("column", "value"), BAD)
def test_a_row_that_is_no_interval_is_refused(column, value):
    bad = micro((0, 9), (0, 9)).astype(object)
    bad.loc[1, column] = value
    refused(lambda: counts(bad, NOTHING), "truth, row 1", "onset <= offset")
    refused(lambda: counts(NOTHING, bad), "predictions, row 1", "onset <= offset")


def test_other_bad_input_is_refused():
    lacking = micro((0, 9)).drop(columns="offset")
    refused(lambda: megc_f1(NOTHING, lacking), "predictions, row 0", "give a video")
    refused(lambda: counts(NOTHING, NOTHING, "fair"), "rule 'fair'", "greedy_file_order")


def test_the_oracle_chooses_for_each_subject():
    truth = table(("a1", "micro", 0, 9), ("a2", "macro", 0, 99), ("b1", "micro", 0, 9))
    low = table(("a1", "micro", 0, 9), ("a1", "micro", 20, 29), ("a2", "macro", 0, 99))
    high = table(("a1", "micro", 0, 9), ("b1", "micro", 0, 9))
    subjects = {"a1": "a", "a2": "a", "b1": "b", "c1": "c"}
    chosen = scoring.oracle(truth, [low, high], subjects)
    assert chosen.to_numpy().tolist() == [[2, 1, 0], [1, 0, 0], [3, 1, 0]]
    equal = [truth[1:2], truth[:1]]  # of subject a the macro one, or the micro one
    assert scoring.oracle(truth, equal, subjects)["tp"].tolist() == [0, 1, 1]
    alarms = table(*[("c1", "micro", start, start + 5) for start in (0, 50, 100)])
    for order in ([alarms, alarms[:1]], [alarms[:1], alarms]):  # of equals the fewest false alarms
        assert scoring.oracle(truth, order, subjects)["fp"].tolist() == [1, 0, 1]


# Each interval's outcome --------------------------------------------------------------------------


def test_outcomes_are_in_the_order_of_time():
    truth = table(("019_7", "macro", 397, 531), ("019_7", "micro", 10, 59), ("8", "micro", -1, 9))
    found = table(("8", "micro", 0, 9), ("019_7", "macro", 276, 346), ("019_7", "micro", 10, 60))
    rows = scoring.outcomes(truth, found)[["label", "outcome", "onset", "predicted_onset"]]
    assert rows.astype(object).fillna("-").to_numpy().tolist() == [
        ["micro", "TP", 10, 10],
        ["macro", "FP", "-", 276],
        ["macro", "FN", 397, "-"],
        ["micro", "TP", -1, 0],  # of another video
    ]
