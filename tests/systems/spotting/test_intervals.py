"""From scores to intervals: peers' recipes against their definitions, odd videos, thresholds, tiling."""

import time
from dataclasses import replace

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
    table = spotted(scores, GAPS, RECIPES["softnet"], "v")
    assert len(expected) > 3
    assert [
        *table[["label", "onset", "offset", "peak"]].itertuples(index=False, name=None)
    ] == expected
    assert table.columns.tolist() == intervals.COLUMNS
    assert table["score"].between(0.55, 1).all()


def test_shapes_by_hand():
    #                  0    1    2    3    4    5    6    7    8    9
    curve = np.array([0.0, 0.6, 0.7, 0.9, 0.8, 0.6, 0.1, 0.7, 0.7, 0.0])
    assert spans(curve, reach=(2, 3)) == [[1, 6], [5, 9]]
    assert spans(curve, distance=5) == [[0, 6]]
    assert spans(curve, shape="run") == [[1, 5], [7, 8]]
    assert spans(curve, shape="run", lengths=(3, 9)) == [[1, 5]]
    assert spans(curve, shape="run", lengths=(2, 4)) == [[7, 8]]
    # Frame 1 is the lowest before the peak at 3 that is above 0.5, frame 5 that behind it.
    assert spans(curve, shape="fall", reach=(3, 6), distance=9) == [[1, 5]]
    assert spans(curve, shape="fall", reach=(1, 1), distance=9) == [[2, 4]]
    lone = np.array([0.0, 0, 0, 0.9, 0, 0, 0, 0])  # none above: the reach's ends
    assert spans(lone, shape="fall", reach=(2, 3)) == [[1, 6]]


def test_thinning_by_hand():
    curve = np.zeros(60)
    curve[[10, 13, 30, 50]] = 0.8, 0.9, 0.6, 0.7
    wide = {"micro": 5, "macro": 8}
    assert len(spans(curve, wide, distance=1)) == 4
    assert spans(curve, wide, distance=1, suppress=0.5) == [[8, 18], [25, 35], [45, 55]]
    assert len(spans(curve, wide, distance=1, suppress=8 / 14)) == 4  # they share 8 of 14 frames
    assert spans(curve, wide, distance=1, suppress=0.5, most=2) == [[8, 18], [45, 55]]
    recipes = dict.fromkeys(scoring.CLASSES, replace(PLAIN, margin=0.2))
    macro = np.where(np.arange(60) > 40, 0.65, 0.0)  # flat: no peak
    table = spotted(np.stack([curve, macro], 1), wide, recipes)
    assert table["peak"].tolist() == [13, 30]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("T", [0, 1, 2, 7, 300])
@pytest.mark.parametrize("kind", ["constant", "missing", "noise"])
def test_odd_videos(name, T, kind):
    scores = {"constant": np.full((T, 2), 0.1), "missing": np.full((T, 2), np.nan)}.get(
        kind, curves(T)
    )
    table = spotted(scores, GAPS, RECIPES[name], "v")
    assert kind == "noise" or table.empty
    assert table["onset"].ge(0).all()
    assert table["offset"].lt(T).all()
    assert table["peak"].between(table["onset"], table["offset"]).all()
    assert scoring.counts(table, table).loc["overall", "tp"] == len(table)


def test_a_lost_face_is_bridged():
    assert spans(np.array([0, 0.6, np.nan, np.nan, 0.7, 0]), shape="run") == [[1, 4]]
    assert spans(np.array([np.nan, 0.6, np.nan, 0.9, np.nan, 0.7, 0]), GAPS) == [[0, 6]]


def test_bad_scores_and_shapes_are_refused():
    refused(lambda: spotted(np.zeros(9), GAPS), "(9,)", "(T, 2)")
    refused(lambda: spotted(np.zeros((9, 3)), GAPS), "(9, 3)")
    refused(lambda: spans(np.zeros(9), shape="star"), "shape 'star'", "window")


def test_ten_minutes_at_200_frames_a_second_take_well_under_a_second():
    scores, gaps = curves(120_000), {"micro": 37, "macro": 174}
    thin = {label: replace(recipe, suppress=0.5) for label, recipe in RECIPES["softnet"].items()}
    start = time.process_time()
    assert len(spotted(scores, gaps, thin)) > 100
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
    fitted = intervals.fit_threshold(scores, truth, GAPS, RECIPES["softnet"], steps=10_000)

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
    fitted = intervals.fit_threshold(some, truth, GAPS, RECIPES["softnet"])
    own = truth[truth["video"].isin([*some])]
    assert intervals.fit_threshold(some, own, GAPS, RECIPES["softnet"]) == fitted
    assert fitted != intervals.fit_threshold(scores, truth, GAPS, RECIPES["softnet"])
    silent = intervals.fit_threshold(some, truth[:0], GAPS, RECIPES["softnet"])
    assert spotted(scores["a"], GAPS, silent).empty
    refused(lambda: intervals.fit_threshold({}, truth, GAPS, RECIPES["softnet"]), "training videos")
    refused(lambda: intervals.fit_threshold(some, truth, GAPS, RECIPES["mdmd_samm_lv"]), '"window"')


@pytest.mark.parametrize(
    ("n_frames", "length", "phase"), [(10, 3, 0), (10, 3, 2), (9, 3, 0), (2, 5, 0)]
)
def test_tiling_covers_the_video_once(n_frames, length, phase):
    table = intervals.tiling(n_frames, length, phase=phase, video="v")
    frames = [t for _, row in table.iterrows() for t in range(row["onset"], row["offset"] + 1)]
    assert frames == [*range(phase, n_frames)]
    assert (table["offset"] - table["onset"] + 1)[:-1].eq(length).all()
    assert len(intervals.tiling(3, 5, phase=4)) == 0
