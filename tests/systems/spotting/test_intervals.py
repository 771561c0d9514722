"""From scores to intervals: SOFTNet's steps against its definition, odd videos, thresholds,
tiling."""

import time
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from micromacro.systems.spotting import intervals, scoring
from micromacro.systems.spotting.intervals import peaks, smoothed, spotted

GAPS = {"micro": 3, "macro": 8}
SOFTNETS = dict.fromkeys(GAPS, 0.55)


def curves(T, seed=0):
    return np.random.default_rng(seed).normal(size=(T, 2)).cumsum(0)


def spans(micro, k=3, threshold=0.55):
    """Intervals of the micro class alone, of scores with nothing macro."""
    scores = np.stack([micro, np.zeros(len(micro))], 1)
    table = spotted(scores, {"micro": k, "macro": 8}, dict.fromkeys(GAPS, threshold), "v")
    assert (table["label"] == "micro").all()
    return table[["onset", "offset"]].to_numpy().tolist()


@pytest.mark.parametrize("window", [1, 2, 5, 6, 30, 31, 40])
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


def test_softnets_steps_one_by_one():
    """Mean over [t - k, t + k); k frames at both ends out; mean + 0.55 (max - mean); peak ± k."""
    scores = curves(200, seed=1)
    expected = []
    for x, (label, k) in zip(scores.T, GAPS.items(), strict=True):
        inner = np.array([x[t - k : t + k].mean() for t in range(k, 200 - k)])
        limit = inner.mean() + 0.55 * (inner.max() - inner.mean())
        for peak in k + peaks(inner, limit, k):
            expected.append((label, peak - k, peak + k, peak))
    table = spotted(scores, GAPS, SOFTNETS, "v")
    assert len(expected) > 3
    assert [
        *table[["label", "onset", "offset", "peak"]].itertuples(index=False, name=None)
    ] == expected
    assert [*table] == ["video", "label", "onset", "offset", "peak", "score"]
    assert table["score"].between(0.55, 1).all()


def test_intervals_by_hand():
    """A single high score at t gives 2 k equal means, whose middle is t; their mean is 0.055."""
    scores = np.zeros(60)
    scores[[13, 30, 40, 52]] = 0.9, 0.6, 0.7, 0.75  # 1, 0.48, 0.65 and 0.74 of the way
    assert spans(scores, threshold=0.45) == [[10, 16], [27, 33], [37, 43], [49, 55]]
    assert spans(scores, threshold=0.6) == [[10, 16], [37, 43], [49, 55]]
    assert spans(scores, threshold=0.7) == [[10, 16], [49, 55]]
    assert spans(scores, 4, threshold=0.5) == [[9, 17], [36, 44]]  # 52 is too near to the end


def test_a_peak_needs_means_on_both_sides():
    for k, first in ((3, 6), (4, 8)):
        for frame in range(40):
            found = spans(np.eye(40)[frame], k)
            inside = first <= frame < 40 - first - 1
            assert found == ([[frame - k, frame + k]] if inside else [])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 500), min_size=3, max_size=120), st.integers(1, 9))
def test_intervals_of_a_class_are_whole_and_share_a_third_at_most(scores, k):
    """Nothing has to be cut or thinned out: peaks are k frames apart and k from both ends."""
    made = np.array(spans(np.array(scores, float), k, -np.inf)).reshape(-1, 2)
    assert (np.diff(made) == 2 * k).all()
    assert ((made >= 0) & (made < len(scores))).all()
    for a, b in pairwise(made):
        assert scoring.overlap(a, b) <= (k + 1) / (3 * k + 1) + 1e-9


@pytest.mark.parametrize("T", [0, 1, 2, 7, 300])
@pytest.mark.parametrize("kind", ["constant", "missing", "noise"])
def test_odd_videos(T, kind):
    scores = {"constant": np.full((T, 2), 0.1), "missing": np.full((T, 2), np.nan)}.get(
        kind, curves(T)
    )
    table = spotted(scores, GAPS, SOFTNETS, "v")
    assert kind == "noise" or table.empty
    assert table["onset"].ge(0).all()
    assert table["offset"].lt(T).all()
    assert table["peak"].between(table["onset"], table["offset"]).all()
    assert scoring.counts(table, table).loc["overall", "tp"] == len(table)


def test_a_lost_face_is_bridged():
    scores = np.zeros(50)
    scores[18:22] = 1  # the means around 20 hold all of it
    for lost, expected in (([], [[17, 23]]), ([19, 21], [[17, 23]]), ([20], [])):
        gone = np.isin(np.arange(50), lost)
        assert spans(np.where(gone, np.nan, scores)) == expected
    scores = np.repeat([0, 1, np.nan, 1, 0], [10, 5, 15, 5, 15])  # longer than a mean reaches
    assert spans(scores) == []  # the middle of the bridge is no peak
    assert spans(np.nan_to_num(scores)) == [[9, 15], [29, 35]]


def test_scores_of_another_shape_are_refused():
    refused(lambda: spotted(np.zeros(9), GAPS, SOFTNETS, "v"), "(9,)", "(T, 2)")
    refused(lambda: spotted(np.zeros((9, 3)), GAPS, SOFTNETS, "v"), "(9, 3)")


def test_ten_minutes_at_200_frames_a_second_take_well_under_a_second():
    scores, gaps = curves(120_000), {"micro": 37, "macro": 174}
    start = time.process_time()
    assert len(spotted(scores, gaps, SOFTNETS, "v")) > 100
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
    fitted = intervals.fit_threshold(scores, truth, GAPS, steps=10_000)

    def f1_of(threshold):
        same = dict.fromkeys(GAPS, threshold)
        tables = [spotted(x, GAPS, same, video) for video, x in scores.items()]
        return scoring.megc_f1(truth, pd.concat(tables))

    others = [f1_of(threshold) for threshold in np.linspace(0, 1, 12)]
    for label, threshold in fitted.items():
        best = f1_of(threshold)[label]
        assert best >= max(other[label] for other in others)
        assert f1_of(threshold + 1e-9)[label] < best  # the height of a peak that it needs


def test_only_training_videos_and_true_intervals_of_theirs_count(training):
    scores, truth = training
    some = {video: scores[video] for video in "ab"}
    fitted = intervals.fit_threshold(some, truth, GAPS)
    own = truth[truth["video"].isin([*some])]
    assert intervals.fit_threshold(some, own, GAPS) == fitted
    assert fitted != intervals.fit_threshold(scores, truth, GAPS)
    silent = intervals.fit_threshold(some, truth[:0], GAPS)
    assert spotted(scores["a"], GAPS, silent, "a").empty
    refused(lambda: intervals.fit_threshold({}, truth, GAPS), "training videos")


@pytest.mark.parametrize(
    ("n_frames", "length", "phase"), [(10, 3, 0), (10, 3, 2), (9, 3, 0), (2, 5, 0), (3, 5, 4)]
)
def test_tiling_covers_the_video_once(n_frames, length, phase):
    table = intervals.tiling({"v": n_frames}, length, phase=phase)
    frames = [t for _, row in table.iterrows() for t in range(row["onset"], row["offset"] + 1)]
    assert frames == [*range(phase, n_frames)]
    assert (table["offset"] - table["onset"] + 1)[:-1].eq(length).all()


def test_videos_tiled_together_are_tiled_as_each_alone():
    videos, phases = {"a": 10, "none": 3, "b": 7, "one": 1}, [2, 4, 0, 0]
    alone = [intervals.tiling({v: videos[v]}, 3, p) for v, p in zip(videos, phases, strict=True)]
    together = intervals.tiling(videos, 3, phases)
    pd.testing.assert_frame_equal(together, pd.concat(alone, ignore_index=True))
    assert list(together["video"]) == 3 * ["a"] + 3 * ["b"] + ["one"]
    assert intervals.tiling({}, 3).empty


def test_a_window_or_a_phase_that_is_none_is_refused():
    refused(lambda: intervals.tiling({"v": 9}, 0), "length")
    refused(lambda: intervals.tiling({"v": 9}, 2.5), "length")
    refused(lambda: intervals.tiling({"v": 9, "w": 9}, 2, [0, -1]), "phase")
