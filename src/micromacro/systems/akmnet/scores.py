"""How predictions of folds become scores: which epoch counts, and where the mined frames lie.

Folds are pooled first: a score is of all clips, each said by networks that did not see its person.
Of official data that is one network, on the benchmark all folds' networks: each counts alike, so
accuracy is the mean of theirs. The benchmark and the official data sets are scored alike.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from micromacro.arms import score_rows
from micromacro.errors import BadInput
from micromacro.metrics import accuracy, pcc, uar, uf1
from micromacro.statistics import cluster_bootstrap

if TYPE_CHECKING:
    from micromacro.units import UnitResult

SELECTIONS = {"prediction": "", "best_fold": "_best_fold", "best_subject": "_best_subject"}

Table = Mapping[str, np.ndarray]


def pooled(folds: Sequence[Table]) -> dict[str, np.ndarray]:
    """The tables of all folds as one, its clips in order, with what each selection predicts.

    The released program keeps, of every held-out subject, the epoch with the most correct test
    clips. That is choosing on the test data; it stands beside the last epoch.

    Args:
        folds: Of each fold the predictions of `experiment.unit`, a row for each clip.

    Returns:
        The same columns, and classes (C,): `prediction` in the end; `best_fold` and `best_subject`
        of the best *test* epoch of each fold, and of each person in it.

    Raises:
        BadInput: No fold; a clip twice in one; clips in some of the folds, and others in more.
    """
    if not folds:
        raise BadInput("folds", "are none", "give the predictions of one or more")
    table = {name: np.concatenate([fold[name] for fold in folds]) for name in folds[0]}
    keys = [*zip(*(table[name] for name in ("dataset", "person", "clip", "fold")), strict=True)]
    each = {*Counter(key[:3] for key in keys).values()}
    if len({*keys}) < len(keys) or len(each) > 1:
        fault = f"hold {len(keys)} rows, of which {len({*keys})} differ; clips are in {each} folds"
        raise BadInput("folds", fault, "give each fold once, all of one run")
    # By clip, not by fold: tables of different seeds then stack row by row.
    order = sorted(range(len(keys)), key=keys.__getitem__)
    table = {name: values[order] for name, values in table.items()}
    classes, truth = table["epochs"], table["truth"]
    table["prediction"] = classes[:, -1]
    people = [f"{fold} {who}" for fold, who in zip(table["fold"], table["person"], strict=True)]
    for name, groups in (("best_fold", table["fold"]), ("best_subject", np.array(people))):
        table[name] = classes[:, -1].copy()
        for group in np.unique(groups):
            rows = groups == group
            table[name][rows] = classes[rows, best_epoch(classes[rows] == truth[rows, None])]
    return table


def best_epoch(correct: np.ndarray) -> int:
    """The epoch with the most correct clips, of bool (C, E); the later of equals.

    As released, only from 10 of 40 epochs on, so from a quarter on.
    """
    hits = correct.sum(0)
    first = len(hits) // 4
    return len(hits) - 1 - int(hits[first:][::-1].argmax())


def pooled_scores(table: Table) -> dict[str, float]:
    """All scores of a pooled table: those of the classes, of what was mined, and of guesses.

    Returns:
        `accuracy`, `uar`, `uf1` of the last epoch, the same with `_best_fold` and `_best_subject`,
        chosen on the test data; `majority`, share of the largest class; and the means over clips of
        `frame_columns`. With `_correct` over those classified correctly, as in the paper's Table
        VI, which does not say so; NaN if there is none. If frames were dropped also
        `kept_with_duration`: correlation of N / T with the expression's share of the clip; NaN
        where one does not vary.
    """
    scores = {name: float(score(values)) for name, values, _, score in _statistics(table)}
    if "kept_share" in scores:
        kept = table["kept"] / table["T"]
        duration = (table["offset"] - table["onset"] + 1) / table["T"]
        varies = min(np.ptp(kept), np.ptp(duration)) >= 1e-9
        scores["kept_with_duration"] = pcc(kept, duration) if varies else float("nan")
    return scores


def of_units(units: Sequence["UnitResult"]) -> dict[str, np.ndarray]:
    """The pooled table of the units of one arm and seed: all its folds.

    Raises:
        BadInput: Units of more than one setting; a fold that is missing; as `pooled`.
    """
    settings = [{k: v for k, v in unit.params.items() if k != "fold"} for unit in units]
    if any(setting != settings[0] for setting in settings):
        raise BadInput("units", "are of several arms, seeds or data", "pool one setting at a time")
    n = units[0].params["folds"] or len(units[0].metrics["people"])
    if missing := sorted({*range(n)} - {unit.params["fold"] for unit in units}):
        raise BadInput(f"folds {missing}", "are missing", "give all folds of a run")
    return pooled([unit.predictions() for unit in units])


def rows(units: Sequence["UnitResult"]) -> list[dict]:
    """The scores of one arm and seed as fields of rows, for `results.unit_rows`."""
    table = of_units(units)
    dataset, rows = units[0].params["data"].get("dataset", "synthetic"), []
    for name, part in parts(table, dataset):
        n = len({*zip(part["dataset"], part["person"], part["clip"], strict=True)})
        rows += score_rows(units, pooled_scores(part), dataset=name, n=n)
    return rows


def parts(table: Table, dataset: str) -> list[tuple[str, Table]]:
    """A pooled table by its data set's name, and of a composite each data set's part of it."""
    names = table["dataset"]
    each = np.unique(names) if len({*names}) > 1 else ()
    return [(dataset, table)] + [
        (name, {column: values[names == name] for column, values in table.items()}) for name in each
    ]


def intervals(table: Table, dataset: str, only: Collection = (), draws: int = 2000) -> pd.DataFrame:
    """The scores of a pooled table, and of each data set in it, with 95 % intervals over people.

    Args:
        table: Of `pooled`.
        dataset: Its name.
        only: Names of the scores that are wanted, of those that there are; none for all.
        draws: Number of draws of the bootstrap.

    Returns:
        dataset, metric, value, low, high (nan for fewer than two people), n (clips), subjects.
    """
    lines = []
    for name, part in parts(table, dataset):
        wanted = (one for one in _statistics(part) if not only or one[0] in only)
        for metric, values, people, score in wanted:
            ends = (score(values), np.nan, np.nan)
            if len({*people}) > 1:
                ends = cluster_bootstrap(values, people, statistic=score, n=draws)[:3]
            lines.append((name, metric, *ends, len(values), len({*people})))
    columns = ["dataset", "metric", "value", "low", "high", "n", "subjects"]
    return pd.DataFrame(lines, columns=columns)


def confusion(table: Table, classes: Sequence[str]) -> pd.DataFrame:
    """Clips of a pooled table by true class (rows) and by class that the last epoch predicts."""
    pairs = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(pairs, (table["truth"], table["prediction"]), 1)
    return pd.DataFrame(pairs, classes, classes)


def _statistics(table: Table) -> list[tuple[str, np.ndarray, np.ndarray, Callable]]:
    """Name, values and people (n,) of the clips that have an answer, and their statistic."""
    truth, people, terms = table["truth"], table["person"], []
    for column, end in SELECTIONS.items():
        pairs = np.stack([table[column], truth], 1)
        for metric in (accuracy, uar, uf1):
            terms.append((metric.__name__ + end, pairs, people, partial(_of_pairs, metric)))
    terms.append(("majority", (truth == np.bincount(truth).argmax()).astype(float), people, _mean))
    correct = table["prediction"] == truth
    for name, values in frame_columns(table).items():
        known = ~np.isnan(values)
        for end, rows in (("", known), ("_correct", known & correct)) if known.any() else ():
            terms.append((name + end, values[rows], people[rows], _mean))
    return terms


def _of_pairs(metric: Callable, pairs: np.ndarray) -> float:
    return metric(pairs[:, 0], pairs[:, 1])


def _mean(values: np.ndarray) -> float:
    return values.mean() if len(values) else np.nan


def frame_columns(table: Table) -> dict[str, np.ndarray]:
    """Where the mined frames of each clip lie, and guesses that need no network.

    Args:
        table: With T, apex, max_key, kept, apex_kept and most_changed; of all clips or of some.

    Returns:
        (C,) each, nan where the apex is not known but in `kept_share`. Of guesses
        `distance_<guess>` and `distance_frames_<guess>`, the distance to the apex as a share of T
        and in frames, of "midpoint", "random" (the exact expectation over all frames) and
        "difference" (the frame that differs most from the first); `is_apex_random`: 1 / T. With
        mining `distance` and `distance_frames` of the max-key frame, and `is_apex`, whether it is
        the apex. If frames were dropped also `kept_share`: N / T; `apex_kept`; `apex_excess`: the
        latter less N / T, 0 in the mean by chance; `apex_kept_midpoint`: whether as many frames
        around the middle would have had the apex.
    """
    T, kept = table["T"], table["kept"]
    apex = np.where(table["apex"] >= 0, table["apex"], np.nan)
    unknown = np.where(np.isnan(apex), np.nan, 0.0)  # added to what does not hang on the apex
    off = {
        "_midpoint": np.abs((T - 1) / 2 - apex),
        "_random": random_distance(T, apex),
        "_difference": np.abs(table["most_changed"] - apex),
    }
    columns = {"is_apex_random": 1 / T + unknown}
    if (table["max_key"] >= 0).all():
        off[""] = np.abs(table["max_key"] - apex)
        columns["is_apex"] = (off[""] == 0) + unknown
        if (kept < T).any():
            start = (T - kept) // 2
            middle = (start <= apex) & (apex < start + kept)
            columns |= {"kept_share": kept / T, "apex_kept": table["apex_kept"] + unknown}
            columns["apex_excess"] = columns["apex_kept"] - kept / T
            columns["apex_kept_midpoint"] = middle + unknown
    for guess, frames in off.items():
        columns |= {f"distance{guess}": frames / T, f"distance_frames{guess}": frames}
    return columns


def random_distance(T: np.ndarray, apex: np.ndarray) -> np.ndarray:
    """Mean |frame - apex| over all frames of a clip, exactly: (a (a + 1) + b (b + 1)) / 2 T.

    Args:
        T: int (C,), frames of each clip.
        apex: (C,), 0-based; a = apex frames lie before it, b = T - 1 - apex behind it.
    """
    before, behind = apex, T - 1 - apex
    return (before * (before + 1) + behind * (behind + 1)) / (2 * T)
