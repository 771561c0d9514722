"""From predictions to scores: the chosen epoch, pooling, mined frames and guesses, intervals."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from refusals import refused

from micromacro import metrics
from micromacro.statistics import cluster_bootstrap
from micromacro.systems.akmnet import scores


def rows_of(clips, person="a", **columns):
    """A table of clips, all of fold 0 and class 0, predicted as 0 but for what is given."""
    C = len(clips)
    table = {"clip": np.array(list(clips)), "epochs": np.zeros((C, 1), int), "T": np.full(C, 5)}
    for name in ("fold", "truth", "onset", "apex", "most_changed", "max_key"):
        table[name] = np.zeros(C, int)
    table |= {"dataset": np.full(C, "casme"), "person": np.full(C, person)}
    columns = {name: np.asarray(values) for name, values in columns.items()}
    table |= {"kept": table["T"], "apex_kept": np.ones(C, int)} | columns
    return {"offset": table["T"] - 1} | table


def scored(*parts):
    return scores.pooled_scores(scores.pooled(parts))


def test_the_best_epoch_is_the_latest_of_the_best_after_a_quarter():
    hits = np.array([[1, 1, 0, 0, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 1]])
    hits = hits.astype(bool)
    assert scores.best_epoch(hits[:, :4]) == 1
    assert scores.best_epoch(hits) == 4  # epochs 0 and 1 are before a quarter of 8
    assert scores.best_epoch(np.zeros((3, 1), bool)) == 0


def test_selection_on_the_test_data_is_by_group():
    epochs = np.array([[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 1], [1, 0, 1, 1]]).T
    table = scores.pooled([rows_of("wxyz", person=["a", "a", "b", "b"], epochs=epochs)])
    assert table["prediction"].tolist() == [1, 0, 1, 1]
    assert table["best_fold"].tolist() == [0, 0, 1, 1]
    assert table["best_subject"].tolist() == [0, 0, 0, 1]


def test_folds_are_pooled_by_clip():
    parts = [rows_of("bd", T=[2, 4]), rows_of("ca", T=[3, 1], fold=[1, 1])]
    table = scores.pooled(parts)
    assert table["clip"].tolist() == list("abcd")
    assert table["T"].tolist() == [1, 2, 3, 4]
    assert table["fold"].tolist() == [1, 0, 1, 0]
    others = [rows_of("ab"), rows_of("b", person="c"), rows_of("b", dataset=["samm"])]
    assert len(scores.pooled(others)["clip"]) == 4  # one name, three clips
    twice = [rows_of("ab"), rows_of("b")]
    refused(lambda: scores.pooled(twice), "hold 3 rows, of which 2 differ")
    refused(lambda: scores.pooled([]), "are none")
    again = [*parts, rows_of("a", fold=[2])]
    refused(lambda: scores.pooled(again), "clips are in {1, 2} folds")


def test_a_clip_that_several_networks_are_tested_on_counts_once_for_each():
    said = {0: [[0, 0], [0, 1], [1, 1]], 1: [[1, 1], [1, 0], [0, 0]]}  # of three clips, class 0
    parts = [
        rows_of("abc", ["p", "p", "q"], epochs=epochs, fold=[fold] * 3)
        for fold, epochs in said.items()
    ]
    table = scores.pooled(parts)
    assert table["clip"].tolist() == list("aabbcc")
    assert table["prediction"].tolist() == [0, 1, 1, 0, 1, 0]
    assert scores.pooled_scores(table)["accuracy"] == np.mean([1 / 3, 2 / 3])
    assert table["best_subject"].tolist() == [0, 1, 0, 0, 1, 0]  # by person and network


def test_all_folds_of_one_setting_or_none():
    def unit(fold, folds=2, people=("p", "q"), **params):
        params = {"fold": fold, "folds": folds, "seed": 1, "data": {}} | params
        table = rows_of("ab", ["p", "q"], fold=[fold] * 2) if folds else rows_of("a", people[fold])
        return SimpleNamespace(
            params=params, metrics={"people": list(people)}, predictions=lambda: table
        )

    assert len(scores.of_units([unit(0), unit(1)])["clip"]) == 4
    assert {row["n"] for row in scores.rows([unit(0), unit(1)])} == {2}  # clips, not answers
    refused(lambda: scores.of_units([unit(1)]), "folds [0]: are missing")
    refused(lambda: scores.of_units([unit(0), unit(1, seed=2)]), "one setting at a time")
    assert len(scores.of_units([unit(0, None), unit(1, None)])["clip"]) == 2
    refused(lambda: scores.of_units([unit(0, None)]), "folds [1]: are missing")


def test_mining_scores_by_hand():
    clips = {"T": [4, 5], "apex": [1, 4], "kept": [2, 1], "max_key": [1, 0]}
    table = rows_of("ab", **clips, apex_kept=[1, 0], truth=[0, 1])
    each = scores.frame_columns(table)
    assert each["apex_kept_midpoint"].tolist() == [1, 0]  # frames 1 and 2 of four; frame 2 of five
    assert scored(table)["distance_frames"] == 2
    nobody = scored(rows_of("ab", T=[4, 5], max_key=[1, 0], truth=[1, 1]))
    assert np.isnan(nobody["distance_correct"])
    assert "kept_share" not in nobody
    assert "distance" not in scores.frame_columns(rows_of("a", max_key=[-1]))


def test_whether_more_is_kept_of_longer_expressions():
    clips = {"T": [10, 10, 20], "onset": [0, 2, 0], "offset": [4, 9, 3]}  # 0.5, 0.8, 0.2 of it
    kept = [[5, 8, 4], [8, 5, 19], [5, 5, 10]]  # the last is the same share of each
    more, less, same = (scored(rows_of("abc", **clips, kept=k))["kept_with_duration"] for k in kept)
    assert more == pytest.approx(1)
    assert less < 0
    assert np.isnan(same)


@pytest.mark.parametrize("T", [1, 2, 7, 30])
def test_the_expectation_of_a_random_frame_is_exact(T):
    for apex in range(T):
        mean = np.abs(np.arange(T) - apex).mean()
        assert scores.random_distance(np.array(T), np.array(apex)) == pytest.approx(mean, abs=1e-12)


@pytest.fixture
def official():
    """Six clips of three people; of one the apex is not known."""
    b = {"truth": [0, 0, 1], "epochs": [[0, 0], [0, 1], [1, 1]], "T": [10, 5, 4]}
    b |= {"kept": [4, 1, 2], "max_key": [7, 2, 0], "apex": [3, 2, -1], "apex_kept": [1, 1, -1]}
    b |= {"most_changed": [1, 4, 0]}
    a = {"truth": [1, 2], "epochs": [[1, 1], [2, 1]], "T": [8, 10], "kept": [2, 5]}
    a |= {"max_key": [0, 9], "apex": [6, 1], "apex_kept": [0, 0], "fold": [1, 1]}
    c = {"truth": [1], "epochs": [[0, 0]], "T": [6], "kept": [3], "max_key": [1], "apex": [1]}
    parts = [rows_of(["1", "2", "3"], "b", **b), rows_of(["1", "2"], "a", **a)]
    return scores.pooled([*parts, rows_of(["1"], "c", **c, fold=[2])])


def test_official_scores_by_hand(official):
    table = scores.intervals(official, "casme", draws=200).set_index("metric")
    some = scores.intervals(official, "casme", ["uf1", "majority"], 200).set_index("metric")
    pd.testing.assert_frame_equal(some, table.loc[["uf1", "majority"]])
    truth, predicted = [1, 2, 0, 0, 1, 1], [1, 1, 0, 1, 1, 0]
    assert official["truth"].tolist() == truth  # by person
    confusion = scores.confusion(official, ["positive", "negative", "surprise"])
    assert confusion.to_numpy().tolist() == [[1, 1, 0], [1, 2, 0], [0, 1, 0]]
    assert confusion.index.tolist() == ["positive", "negative", "surprise"]
    share = np.array([2 / 8, 5 / 10, 4 / 10, 1 / 5, 3 / 6])  # those with an apex
    pairs = [(8, 6), (10, 1), (10, 3), (5, 2), (6, 1)]
    random = [sum(abs(t - apex) for t in range(T)) / T / T for T, apex in pairs]
    expected = {
        "accuracy": 3 / 6,
        "majority": 3 / 6,
        "uar": (1 / 2 + 2 / 3 + 0) / 3,
        "uf1": (2 / 4 + 4 / 7 + 0) / 3,
        "accuracy_best_subject": 5 / 6,
        "kept_share": (share.sum() + 2 / 4) / 6,
        "apex_kept": 3 / 5,
        "apex_excess": 3 / 5 - share.mean(),
        "distance": np.mean([6 / 8, 8 / 10, 4 / 10, 0, 0]),
        "distance_midpoint": np.mean([2.5 / 8, 3.5 / 10, 0.15, 0, 1.5 / 6]),
        "distance_difference": np.mean([6 / 8, 1 / 10, 2 / 10, 2 / 5, 1 / 6]),
        "distance_random": np.mean(random),
        "is_apex": 2 / 5,
        "is_apex_random": np.mean([1 / T for T, _ in pairs]),
        "distance_correct": np.mean([6 / 8, 4 / 10]),  # a 1, b 1
        "apex_kept_correct": 1 / 2,
        "kept_share_correct": np.mean([2 / 8, 4 / 10, 2 / 4]),
    }
    assert table["value"][list(expected)].to_dict() == pytest.approx(expected)
    n = table["n"][["accuracy", "distance", "distance_correct", "kept_share"]]
    assert n.tolist() == [6, 5, 2, 6]
    hits = np.equal(truth, predicted).astype(float)
    interval = cluster_bootstrap(hits, list("aabbbc"), statistic=np.mean, n=200)
    row = table.loc["accuracy", ["low", "high", "subjects"]].tolist()
    assert row == [interval.low, interval.high, 3]


def test_the_composite_is_scored_by_data_set_too():
    parts = {
        "casme2/01": ([0, 1], [0, 0]),
        "samm/006": ([1, 1], [1, 1]),
        "samm/007": ([2], [0]),
        "smic/s01": ([2, 0], [2, 1]),
    }
    folds = []
    for name, (truth, predicted) in parts.items():
        columns = {"truth": truth, "epochs": np.array(predicted)[:, None]}
        columns |= {"fold": [len(folds)] * len(truth), "dataset": [name.split("/")[0]] * len(truth)}
        folds.append(rows_of("12"[: len(truth)], name, **columns))
    table = scores.intervals(scores.pooled(folds), "megc2019", draws=20)
    table = table.set_index(["dataset", "metric"])
    assert table.loc[("megc2019", "accuracy"), "value"] == pytest.approx(4 / 7)
    assert table.loc[("samm", "accuracy"), ["value", "n", "subjects"]].tolist() == [2 / 3, 3, 2]
    assert table.loc[("casme2", "uar"), "value"] == pytest.approx(0.5)
    assert np.isnan(table.loc[("smic", "accuracy"), "low"])  # of one person no interval
    pooled = metrics.uf1([0, 0, 1, 1, 0, 2, 1], [0, 1, 1, 1, 2, 2, 0])
    assert table.loc[("megc2019", "uf1"), "value"] == pytest.approx(pooled)


def test_what_is_not_known_is_not_scored(official):
    def named(*unknown):
        scored = scores.pooled_scores(official | {k: np.full(6, -1) for k in unknown})
        return {name for name in scored if not name.endswith("_correct")}

    ends = scores.SELECTIONS.values()
    classes = {name + end for name in ("accuracy", "uar", "uf1") for end in ends} | {"majority"}
    guesses = {f"distance_{guess}" for guess in ("midpoint", "random", "difference")}
    guesses |= {guess.replace("distance", "distance_frames") for guess in guesses}
    assert named("max_key") == classes | guesses | {"is_apex_random"}
    assert named("apex", "apex_kept") == classes | {"kept_share", "kept_with_duration"}
