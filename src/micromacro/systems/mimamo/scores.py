"""Scores of predictions, the folds' predictions merged, and the files that organisers score.

A unit's predictions are one table: ``clips``, ``subjects``, ``splits`` and ``lengths`` have a row
for each clip; ``prediction`` and ``truth``, float32 (rows, labels), `lengths` rows for each of them
in order: frames (Aff-Wild), snippets (benchmark) or the clip itself (OMG); nan for none. ``splits``
are roles: "train", "validation" (the fold held out) and "test".
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from micromacro.datasets.affect import filled, rescale, write_predictions
from micromacro.errors import BadInput
from micromacro.metrics import ccc, mse, pcc
from micromacro.systems.mimamo.task import LABELS

if TYPE_CHECKING:
    from micromacro.units import UnitResult

Table = dict[str, np.ndarray]


def of_split(predictions: Mapping[str, np.ndarray], split: str) -> Table:
    """The clips of one split, and their rows."""
    chosen = predictions["splits"] == split
    rows = np.repeat(chosen, predictions["lengths"])
    table = {name: predictions[name][chosen] for name in ("clips", "subjects", "lengths")}
    return table | {name: predictions[name][rows] for name in ("prediction", "truth")}


def scores(
    predictions: Mapping[str, np.ndarray], split: str, sd: np.ndarray, labels: Sequence[str]
) -> dict[str, float]:
    """Scores of a split, over the rows that have a prediction and a truth.

    Args:
        predictions: Table of predictions.
        split: Split of it.
        sd: Standard deviation of the training labels, (labels,).
        labels: Names of the columns.

    Returns:
        ``<score>_<label>``: ccc, pcc, mse, and rescaled, the CCC after `rescale`. Nothing, if no
        row has both.
    """
    table = of_split(predictions, split)
    ok = np.isfinite(table["prediction"] + table["truth"]).all(1)
    if not ok.any():
        return {}
    p, t = table["prediction"][ok], table["truth"][ok]
    kinds = {"ccc": (ccc, p), "pcc": (pcc, p), "mse": (mse, p), "rescaled": (ccc, rescale(p, sd))}
    return {
        f"{name}_{label}": score(values[:, k], t[:, k])
        for name, (score, values) in kinds.items()
        for k, label in enumerate(labels)
    }


def rows(units: Sequence["UnitResult"]) -> list[dict]:
    """The scores of one arm and seed as fields of rows, for `results.unit_rows`."""
    if units[0].params["folds"] is None:
        arrays, values = units[0].predictions(), units[0].metrics
        n = {split: int(of_split(arrays, split)["lengths"].sum()) for split in ("train", "test")}
        splits = {k: "train" if k.startswith("train_") else "test" for k in values}
        return [{"metric": k, "value": values[k], "n": n[s], "split": s} for k, s in splits.items()]
    fields = [
        {"metric": f"{row['metric']}_{row['label']}", "value": row["value"], "n": row["n"]}
        | {"split": row["split"], "params": {k: row[k] for k in ("rescaled", "rows")}}
        for row in combine(units).to_dict("records")
    ]
    return [row | {"dataset": units[0].params["data"]["dataset"]} for row in fields]


def test_arrays(units: Sequence["UnitResult"]) -> Table:
    """Prediction and truth of the benchmark's test, (clips, snippets, labels), and its persons."""
    table = of_split(units[0].predictions(), "test")
    person = [int(subject.removeprefix("test-")) for subject in table["subjects"]]
    shape = (len(person), -1, table["truth"].shape[1])
    arrays = {name: table[name].reshape(shape) for name in ("prediction", "truth")}
    return arrays | {"person": np.array(person)}


def combine(results: Sequence["UnitResult"], folder: str | Path | None = None) -> pd.DataFrame:
    """Merge the folds of one arm and seed on official data: mean over folds, std rescale, scores.

    Args:
        results: Of all folds' units, for label "both", or "valence", "arousal", or these two.
        folder: Where to write the test set's predictions, made if missing; needs both labels. In
            ``plain`` and ``rescaled``: for Aff-Wild VIDEO.txt, a line ``valence,arousal`` a frame,
            for Aff-Wild2 after a line with these words; for OMG-Emotion ``predictions.csv`` with
            columns video, utterance, arousal, valence and the rows of the test sheet. Frames
            without a prediction take the one before (0 before the first), utterances without one
            (no film, too short) the mean of the others. Nothing is clipped to [-1, 1].

    Returns:
        One row for each score: split ("validation": every training video by the network that has
        not seen it; "test" where its labels are known), rescaled, rows ("seen": with a prediction;
        "all": filled as above), label, metric ("ccc" and "pcc" pooled over all rows, "mse",
        "ccc_per_video", its mean over videos), value, n.

    Raises:
        BadInput: Folds missing or twice, units of different settings, one label for `folder`.
    """
    groups = _by_label(results)
    data = results[0].params["data"]
    labels = [name for label in groups for name in (LABELS if label == "both" else [label])]
    table = []
    for split in ("validation", "test"):
        merged = [_merged(group, split) for group in groups.values()]
        lengths, truth = merged[0]["lengths"], np.hstack([each["truth"] for each in merged])
        videos = np.repeat(merged[0]["subjects"], lengths)
        for kind in ("plain", "rescaled"):
            values = np.hstack([each[kind] for each in merged])
            complete = filled(values, lengths, data["dataset"])
            for rows, numbers in (("seen", values), ("all", complete)):
                ok = np.isfinite(numbers + truth).all(1)
                for k, label in enumerate(labels if ok.any() else ()):
                    p, t = numbers[ok, k], truth[ok, k]
                    each = {"ccc": ccc(p, t), "pcc": pcc(p, t), "mse": mse(p, t)}
                    each["ccc_per_video"] = ccc(p, t, groups=videos[ok])
                    where = {"split": split, "rescaled": kind == "rescaled", "rows": rows}
                    where |= {"label": label, "n": len(t)}
                    table += [where | {"metric": m, "value": v} for m, v in each.items()]
            if folder is not None and split == "test":
                if len(labels) < 2:
                    remedy = "give the units of both labels, or no folder"
                    raise BadInput("results", f"hold {labels[0]} only", remedy)
                clips = [name.rsplit("/", 1)[-1] for name in merged[0]["clips"]]
                names = zip(merged[0]["subjects"], clips, strict=True)
                by_clip = dict(zip(names, np.split(complete, np.cumsum(lengths)[:-1]), strict=True))
                write_predictions(data["dataset"], data["root"], by_clip, Path(folder) / kind)
    return pd.DataFrame(table)


def _by_label(results: Sequence["UnitResult"]) -> dict[str, list["UnitResult"]]:
    """Units by label, valence first, each with all its folds in order."""
    if not results:
        raise BadInput("results", "there are none", "give those of units.run")
    groups, settings = {label: [] for label in (*LABELS, "both")}, []
    for result in sorted(results, key=lambda result: result.params["fold"]):
        options = {**result.params, **result.params["data"], **result.params["arm"]}
        groups[options.pop("label", "both")].append(result)
        settings.append({k: v for k, v in options.items() if k not in ("arm", "fold")})
    names = set().union(*settings)
    other = {k for k in names if any(one.get(k) != settings[0].get(k) for one in settings)}
    groups = {label: group for label, group in groups.items() if group}
    if other or ("both" in groups and len(groups) > 1):
        fault = f"differ in {', '.join(sorted(other)) or 'what a network predicts'}"
        raise BadInput("results", fault, "combine one setting at a time")
    expected = list(range(settings[0].get("folds") or 5))
    for label, group in groups.items():
        if (folds := [result.params["fold"] for result in group]) != expected:
            fault = f"are of folds {folds}"
            raise BadInput(f"results for {label}", fault, f"give each of {expected} once")
    return groups


def _merged(group: Sequence["UnitResult"], split: str) -> Table:
    """Predictions of a split by the networks of one label, plain and rescaled, and their truth."""
    tables = [result.predictions() for result in group]
    parts = [of_split(table, split) for table in tables]
    for each, table in zip(parts, tables, strict=True):
        each["plain"] = each["prediction"].astype(np.float64)
        each["rescaled"] = _rescaled(each["plain"], table["fold_sd"])
    if split == "validation":
        return {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}
    if any(not np.array_equal(each["lengths"], parts[0]["lengths"]) for each in parts):
        raise BadInput("results", "have different test clips", "run all folds on the same data")
    mean = np.mean([each["plain"] for each in parts], 0)
    return parts[0] | {"plain": mean, "rescaled": _rescaled(mean, tables[0]["label_sd"])}


def _rescaled(values: np.ndarray, sd: np.ndarray) -> np.ndarray:
    ok, scaled = np.isfinite(values).all(1), values.copy()
    if ok.any():
        scaled[ok] = rescale(values[ok], sd)
    return scaled
