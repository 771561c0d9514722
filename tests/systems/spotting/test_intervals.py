"""From scores to intervals: SOFTNet's recipe against its definition, odd videos, thresholds, tiling."""

import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from micromacro.systems.spotting import intervals, scoring
from micromacro.systems.spotting.intervals import RECIPES, Recipe, peaks, smoothed, spotted

GAPS = {"micro": 3, "macro": 8}
PLAIN = Recipe(0.5, relative=False, smooth=0)


def curves(T, seed=0):
    return np.random.default_rng(seed).normal(size=(T, 2)).cumsum(0)


def spans(micro, gaps=GAPS, **options):
    """Intervals of the micro class alone, of a curve with nothing macro."""
    recipes = dict.fromkeys(scoring.CLASSES, replace(PLAIN, **options))
    scores = np.stack([micro, np.zeros(len(micro))], 1)
    table = spotted(scores, gaps, recipes, "v")
    assert (table["label"] == "micro").all()
    return table[["onset", "offset"]].to_numpy().tolist()


@pytest.mark.parametrize("window", [0, 1, 2, 5, 6, 30, 31, 40])
def test_smoothing_is_the_mean_of_the_window(window):
    scores = curves(30)[:, 0].copy()
    scores[[0, 7, 8, 20]] = np.nan
    expected = scores.copy()
    for t in range(30) if window > 1 else ():
        first, last = t - window // 2, t - window // 2 + window  # [t - k, t + k) if window = 2 k
        known = scores[max(first, 0) : last]
        known = known[~np.isnan(known)]
        whole = window // 2 <= t < 30 - window // 2
        expected[t] = known.mean() if whole and len(known) else np.nan
    np.testing.assert_allclose(smoothed(scores, window), expected, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=3, max_size=40, unique=True), st.integers(1, 9))
def test_peaks_are_local_maxima_of_which_near_ones_yield(curve, distance):
    curve = np.array(curve, float)
    local = [t for t in range(1, len(curve) - 1) if curve[t] > max(curve[t - 1], curve[t + 1])]
    kept = []
    for t in sorted(local, key=lambda t: -curve[t]):
        kept += [t] if all(abs(t - other) >= distance for other in kept) else []
    assert peaks(curve, -np.inf, distance).tolist() == sorted(kept)
    high = [t for t in sorted(kept) if curve[t] >= 15]  # a threshold before or after: the same
    assert peaks(curve, 15, distance).tolist() == high


def test_softnets_recipe_step_by_step():
    """Mean over [t - k, t + k); k frames at both ends out; mean + 0.55 (max - mean); peak - k to + k."""
    scores = curves(200, seed=1)
    expected = []
    for x, (label, k) in zip(scores.T, GAPS.items(), strict=True):
        inner = np.array([x[t - k : t + k].mean() for t in range(k, 200 - k)])
        limit = inner.mean() + 0.55 * (inner.max() - inner.mean())
        for peak in k + peaks(inner, limit, k):
            expected.append((label, max(peak - k, 0), min(peak + k, 199), peak))
    table = spotted(scores, GAPS, video="v")
    assert len(expected) > 3
    assert [
        *table[["label", "onset", "offset", "peak"]].itertuples(index=False, name=None)
    ] == expected
    assert table.columns.tolist() == intervals.COLUMNS
    assert table["score"].between(0.55, 1).all()


def test_intervals_by_hand():
    curve = np.zeros(60)
    curve[[1, 13, 30, 33, 58]] = 0.8, 0.9, 0.6, 0.7, 0.75
    three = {"micro": 3, "macro": 8}  # 30 and 33 are far enough apart; the video ends at 59
    assert spans(curve, three) == [[0, 4], [10, 16], [27, 33], [30, 36], [55, 59]]
    assert spans(curve, three, threshold=0.65) == [[0, 4], [10, 16], [30, 36], [55, 59]]
    assert spans(curve, {"micro": 4, "macro": 8}) == [[0, 5], [9, 17], [29, 37], [54, 59]]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=3, max_size=60, unique=True), st.integers(1, 9))
def test_intervals_of_a_class_share_a_third_at_most(curve, k):
    """Nothing has to be thinned out: peaks are k frames apart, and intervals reach k to both sides."""
    made = spans(np.array(curve, float), {"micro": k, "macro": 8}, threshold=0.0)
    made = np.array(made).reshape(-1, 2)
    whole = made[np.diff(made).ravel() == 2 * k]  # not cut at an end of the video
    for a, b in pairwise(whole):
        assert scoring.overlap(a, b) <= (k + 1) / (3 * k + 1) + 1e-9


@pytest.mark.parametrize("T", [0, 1, 2, 7, 300])
@pytest.mark.parametrize("kind", ["constant", "missing", "noise"])
def test_odd_videos(T, kind):
    scores = {"constant": np.full((T, 2), 0.1), "missing": np.full((T, 2), np.nan)}.get(
        kind, curves(T)
    )
    table = spotted(scores, GAPS, video="v")
    assert kind == "noise" or table.empty
    assert table["onset"].ge(0).all()
    assert table["offset"].lt(T).all()
    assert table["peak"].between(table["onset"], table["offset"]).all()
    assert scoring.counts(table, table).loc["overall", "tp"] == len(table)


def test_a_lost_face_is_bridged():
    assert spans(np.array([np.nan, 0.6, np.nan, 0.9, np.nan, 0.7, 0])) == [[0, 6]]
    rising = np.array([0, 0.6, 0.9, np.nan, np.nan, 0.9, 0])  # the middle of the bridge is no peak
    assert spans(rising) == []


def test_scores_of_another_shape_are_refused():
    refused(lambda: spotted(np.zeros(9), GAPS), "(9,)", "(T, 2)")
    refused(lambda: spotted(np.zeros((9, 3)), GAPS), "(9, 3)")


def test_ten_minutes_at_200_frames_a_second_take_well_under_a_second():
    scores, gaps = curves(120_000), {"micro": 37, "macro": 174}
    start = time.process_time()
    assert len(spotted(scores, gaps)) > 100
    assert time.process_time() - start < 1


# Thresholds ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def training():
    """Four videos of noise with three bumps a class, and the table of the bumps."""
    generator, rows, scores = np.random.default_rng(3), [], {}
    for video in "abcd":
        scores[video] = generator.normal(size=(600, 2))
        for c, (label, k) in enumerate(GAPS.items()):
            for onset in generator.choice(500 // (4 * k), 3, replace=False) * 4 * k + 20:
                scores[video][onset : onset + 2 * k + 1, c] += 1.5
                rows.append((video, label, onset, onset + 2 * k))
    return scores, pd.DataFrame(rows, columns=["video", "label", "onset", "offset"])


def test_the_fitted_threshold_is_the_best_of_all(training):
    scores, truth = training
    fitted = intervals.fit_threshold(scores, truth, GAPS, RECIPES, steps=10_000)

    def f1_of(threshold):
        recipes = {label: replace(recipe, threshold=threshold) for label, recipe in fitted.items()}
        tables = [spotted(x, GAPS, recipes, video) for video, x in scores.items()]
        return scoring.megc_f1(truth, pd.concat(tables))

    others = [f1_of(threshold) for threshold in np.linspace(0, 1, 12)]
    for label, recipe in fitted.items():
        best = f1_of(recipe.threshold)[label]
        assert best >= max(other[label] for other in others)
        assert f1_of(recipe.threshold + 1e-9)[label] < best  # the height of a peak that it needs


def test_only_training_videos_and_true_intervals_of_theirs_count(training):
    scores, truth = training
    some = {video: scores[video] for video in "ab"}
    fitted = intervals.fit_threshold(some, truth, GAPS, RECIPES)
    own = truth[truth["video"].isin([*some])]
    assert intervals.fit_threshold(some, own, GAPS, RECIPES) == fitted
    assert fitted != intervals.fit_threshold(scores, truth, GAPS, RECIPES)
    silent = intervals.fit_threshold(some, truth[:0], GAPS, RECIPES)
    assert spotted(scores["a"], GAPS, silent).empty
    refused(lambda: intervals.fit_threshold({}, truth, GAPS, RECIPES), "training videos")


@pytest.mark.parametrize(
    ("n_frames", "length", "phase"), [(10, 3, 0), (10, 3, 2), (9, 3, 0), (2, 5, 0)]
)
def test_tiling_covers_the_video_once(n_frames, length, phase):
    table = intervals.tiling(n_frames, length, phase=phase, video="v")
    frames = [t for _, row in table.iterrows() for t in range(row["onset"], row["offset"] + 1)]
    assert frames == [*range(phase, n_frames)]
    assert (table["offset"] - table["onset"] + 1)[:-1].eq(length).all()
    assert len(intervals.tiling(3, 5, phase=4)) == 0
