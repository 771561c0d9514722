"""Leave-one-subject-out units become one set of predictions, and that a table of scores."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from micromacro.errors import BadInput
from micromacro.files import replacing
from micromacro.metrics import accuracy, uar, uf1
from micromacro.statistics import cluster_bootstrap
from micromacro.systems.akmnet.paper.store import COMPOSITE
from micromacro.systems.akmnet.scores import random_distance

if TYPE_CHECKING:
    from micromacro.units import UnitResult

COLUMNS = ("dataset", "subject", "clip", "truth", "prediction", "best_subject")
COLUMNS += ("T", "kept", "max_key", "apex", "apex_kept")
SELECTIONS = {"last": "prediction", "best_subject": "best_subject"}


class Combined(NamedTuple):
    """What `combine` makes of units.

    Attributes:
        table: dataset ("megc2019" and the like, or a part of the composite), metric, value, low, high
            (nan for fewer than two subjects), n (clips), subjects.
        confusion: int, a row for each true class, a column for each predicted one; last epoch.
        predictions: A row for each clip.
    """

    table: pd.DataFrame
    confusion: pd.DataFrame
    predictions: pd.DataFrame


def combine(
    units: Sequence["UnitResult"], out: str | Path | None = None, *, draws: int = 2000
) -> Combined:
    """Pool the predictions of all people and score the pool.

    Metrics: `accuracy`, `uar`, `uf1` of the last epoch; with `_best_subject` those of each person's
    best test epoch, as the released program selects; `majority`, share of the largest class. Where
    something was mined and an apex is known also, over all clips and with `_correct` over those that
    the last epoch has right, as the paper's Table VI silently does:

    * `kept_share`: mean N / T (of all clips, with an apex or without)
    * `apex_kept`: share of clips whose apex is kept; `apex_excess`: mean of that less N / T
    * `is_apex`: share whose max-key frame is the apex; `is_apex_random`: mean 1 / T
    * `distance`: mean |max-key - apex| / T; `distance_midpoint`, of (T - 1) / 2; `distance_random`,
      the exact expectation for a frame drawn at random

    Intervals of 95 % are by `cluster_bootstrap` over people.

    Args:
        units: Of one setting, one for each person, in any order.
        out: Folder for predictions.csv, made if missing; None writes nothing.
        draws: Of the bootstrap.

    Raises:
        BadInput: No units, of different settings or data, a person twice or not at all; `out`
            cannot be written.
    """
    units = _checked(units)
    dataset, classes = units[0].params["dataset"], list(units[0].metrics["classes"])
    found = pd.concat([_table(unit) for unit in units], ignore_index=True)
    parts = {dataset: found}
    if dataset in COMPOSITE:
        parts |= {name: found[found["dataset"] == name] for name in COMPOSITE[dataset]}
    selects = units[0].params.get("arm", "s123") in ("s123", "s13", "s23")
    rows = [
        {"dataset": name, "metric": metric} | scored
        for name, part in parts.items()
        if len(part)
        for metric, scored in _scores(part, selects, draws)
    ]
    pairs = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(pairs, (found["truth"], found["prediction"]), 1)
    named = found.assign(**{k: [classes[c] for c in found[k]] for k in COLUMNS[3:6]})
    if out is not None:
        _write(Path(out), named[list(COLUMNS)].rename(columns={"best_subject": "best_epoch"}))
    return Combined(pd.DataFrame(rows), pd.DataFrame(pairs, classes, classes), found)


def _checked(units: Sequence["UnitResult"]) -> list["UnitResult"]:
    """Units of one setting, each person once, by person."""
    if not units:
        raise BadInput("units", "there are none", "give those of experiments.run")
    rest = [{k: v for k, v in unit.params.items() if k != "subject"} for unit in units]
    other = sorted({k for one in rest for k in {*one, *rest[0]} if one.get(k) != rest[0].get(k)})
    first = units[0].metrics
    other += [k for k in ("subjects", "classes") if any(u.metrics[k] != first[k] for u in units)]
    if other:
        raise BadInput("units", f"differ in {', '.join(other)}", "combine one setting at a time")
    given, due = [unit.params["subject"] for unit in units], first["subjects"]
    twice = sorted({name for name in given if given.count(name) > 1})
    lacking = [name for name in due if name not in given]
    for fault, names in (("are given twice", twice), ("are missing", lacking)):
        if names:
            raise BadInput(f"subjects {', '.join(names)}", fault, "give one unit for each subject")
    return sorted(units, key=lambda unit: due.index(unit.params["subject"]))


def _table(unit: "UnitResult") -> pd.DataFrame:
    arrays = unit.predictions() | {"person": unit.params["subject"]}
    return pd.DataFrame({name: arrays[name] for name in (*COLUMNS, "person")})


def _scores(part: pd.DataFrame, selects: bool, draws: int) -> Iterator[tuple[str, dict]]:
    """Each metric's name, value, interval, n and number of subjects."""
    for selection, column in SELECTIONS.items():
        for metric in (accuracy, uar, uf1):
            name = metric.__name__ + ("" if selection == "last" else f"_{selection}")
            score = partial(_of_pairs, metric)
            yield name, _interval(part[[column, "truth"]], part["person"], score, draws)
    largest = part["truth"] == part["truth"].mode()[0]
    yield "majority", _interval(largest.astype(float), part["person"], np.mean, draws)
    each = _mining(part, selects)
    correct = part["prediction"] == part["truth"]
    for suffix, rows in (("", correct | True), ("_correct", correct)):
        for name, values in each.items():
            chosen = values[rows].dropna()
            if len(chosen):
                yield name + suffix, _interval(chosen, part["person"][chosen.index], np.mean, draws)


def _of_pairs(metric: Callable, pairs: np.ndarray) -> float:
    return metric(pairs[:, 0], pairs[:, 1])


def _mining(part: pd.DataFrame, selects: bool) -> dict[str, pd.Series]:
    """What is averaged over clips, nan where a clip has no answer."""
    T, apex = part["T"], part["apex"].where(part["apex"] >= 0)
    if (part["max_key"] < 0).any():
        return {}
    each = {
        "distance": (part["max_key"] - apex).abs() / T,
        "distance_midpoint": ((T - 1) / 2 - apex).abs() / T,
        "distance_random": random_distance(T, apex) / T,
        "is_apex": (part["max_key"] == apex).astype(float).where(apex.notna()),
        "is_apex_random": (1 / T).where(apex.notna()),
    }
    if selects:
        each["kept_share"] = part["kept"] / T
        each["apex_kept"] = part["apex_kept"].astype(float).where(apex.notna())
        each["apex_excess"] = each["apex_kept"] - each["kept_share"]
    return each


def _interval(values: pd.Series, people: pd.Series, statistic: Callable, draws: int) -> dict:
    values, about = values.to_numpy(), {"n": len(values), "subjects": people.nunique()}
    if about["subjects"] < 2:
        return {"value": float(statistic(values)), "low": np.nan, "high": np.nan} | about
    found = cluster_bootstrap(values, people.to_numpy(), statistic=statistic, n=draws)
    return {"value": found.effect, "low": found.low, "high": found.high} | about


def _write(folder: Path, table: pd.DataFrame) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fault = f"cannot be made a folder ({error.strerror})"
        raise BadInput(folder, fault, "choose another folder") from error
    with replacing(folder / "predictions.csv") as part:
        table.to_csv(part, index=False, lineterminator="\n")
