"""The folds' predictions merged: scores, and the files that the organisers of a challenge score."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from micromacro.errors import BadInput
from micromacro.files import replacing
from micromacro.metrics import ccc, mse, pcc
from micromacro.systems.mimamo.data import hold_last, rescale
from micromacro.systems.mimamo.data.affwild import HEADER
from micromacro.systems.mimamo.data.omg import SHEETS
from micromacro.systems.mimamo.data.sheets import read_lines

if TYPE_CHECKING:
    from micromacro.units import UnitResult

NAMES = {"valence": ("valence",), "arousal": ("arousal",), "both": ("valence", "arousal")}
OMG_HEADER = ("video", "utterance", "arousal", "valence")


def combine(results: Sequence["UnitResult"], folder: str | Path | None = None) -> pd.DataFrame:
    """Merge the folds of one protocol and seed: mean over folds, std rescale, scores, files.

    Args:
        results: Of all folds' units, for label "both", or "valence", "arousal", or these two.
        folder: Where to write the test set's predictions, made if missing; needs both labels. In
            ``plain`` and ``rescaled``: for Aff-Wild VIDEO.txt, a line ``valence,arousal`` a frame,
            for Aff-Wild2 after a line with these words; for OMG-Emotion ``predictions.csv`` with
            columns video, utterance, arousal, valence and the rows of the test sheet. Frames
            without a prediction take the one before (0 before the first), utterances without one
            (no film, too short) the mean of the others.

    Returns:
        One row for each score: split ("validation": every training video by the network that has
        not seen it; "test" where its labels are known), rescaled, rows ("seen": with a prediction;
        "all": filled as above), label, metric ("ccc" and "pcc" pooled over all rows, "mse",
        "ccc_per_video", its mean over videos), value, n.

    Raises:
        BadInput: Folds missing or twice, units of different settings, one label for `folder`.
    """
    groups = _groups(results)
    params = results[0].params
    names = [name for label in groups for name in NAMES[label]]
    table = []
    for split in ("validation", "test"):
        parts = [_merged(group, split) for group in groups.values()]
        about = parts[0]
        truth = np.concatenate([part["truth"] for part in parts], 1)
        videos = np.repeat(about["videos"], about["lengths"])
        for kind in ("plain", "rescaled"):
            values = np.concatenate([part[kind] for part in parts], 1)
            complete = _filled(values, about["lengths"], params["dataset"])
            for rows, numbers in (("seen", values), ("all", complete)):
                ok = np.isfinite(numbers + truth).all(1)
                which = {"split": split, "rescaled": kind == "rescaled", "rows": rows}
                found = scores(numbers[ok], truth[ok], videos[ok], names) if ok.any() else []
                table += [which | row for row in found]
            if folder is not None and split == "test":
                _write(Path(folder) / kind, params, about, complete, names)
    return pd.DataFrame(table)


def scores(
    prediction: np.ndarray, truth: np.ndarray, videos: np.ndarray, label: str | Sequence[str]
) -> list[dict]:
    """Scores of each label: label, metric, value, n.

    Args:
        prediction: float (N, labels), finite.
        truth: The same shape.
        videos: (N,) names.
        label: "valence", "arousal", "both", or the columns' names.
    """
    found = []
    for k, name in enumerate(NAMES[label] if isinstance(label, str) else label):
        p, t = prediction[:, k], truth[:, k]
        each = {"ccc": ccc(p, t), "pcc": pcc(p, t), "mse": mse(p, t)}
        each["ccc_per_video"] = ccc(p, t, groups=videos)
        found += [{"label": name, "metric": m, "value": v, "n": len(t)} for m, v in each.items()]
    return found


def _groups(results: Sequence["UnitResult"]) -> dict[str, list["UnitResult"]]:
    """Units by label, valence first, each with all its folds."""
    if not results:
        raise BadInput("results", "there are none", "give those of experiments.run")
    rest = [{k: v for k, v in r.params.items() if k not in ("fold", "label")} for r in results]
    other = sorted({k for one in rest for k in {*one, *rest[0]} if one.get(k) != rest[0].get(k)})
    if other:
        raise BadInput("results", f"differ in {', '.join(other)}", "combine one setting at a time")
    groups = {label: [] for label in NAMES}
    for result in results:
        groups[result.params.get("label", "both")].append(result)
    groups = {label: group for label, group in groups.items() if group}
    if "both" in groups and len(groups) > 1:
        raise BadInput("results", 'are of "both" and of one label', "combine them separately")
    due = list(range(rest[0].get("n_folds", 5)))
    for label, group in groups.items():
        group.sort(key=lambda result: result.params["fold"])
        if (folds := [result.params["fold"] for result in group]) != due:
            fault = f"are of folds {folds}"
            raise BadInput(f"results for {label}", fault, f"give each of {due} once")
    return groups


def _merged(group: Sequence["UnitResult"], split: str) -> dict[str, np.ndarray]:
    """Predictions of a split by the networks of one label, plain and rescaled, and their truth."""
    found = [
        {k.removeprefix(f"{split}_"): v for k, v in result.predictions().items() if split in k}
        for result in group
    ]
    for part in found:
        part["plain"] = part.pop("prediction").astype(np.float64)
    if split == "validation":
        for part, result in zip(found, group, strict=True):
            part["rescaled"] = _rescaled(part["plain"], result.metrics["fold_sd"])
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    merged = dict(found[0])
    if any(not np.array_equal(part["lengths"], merged["lengths"]) for part in found):
        raise BadInput("results", "have different test clips", "run all folds on the same data")
    merged["plain"] = np.mean([part["plain"] for part in found], 0)
    merged["rescaled"] = _rescaled(merged["plain"], group[0].metrics["label_sd"])
    return merged


def _rescaled(values: np.ndarray, sd: Sequence[float]) -> np.ndarray:
    ok, scaled = np.isfinite(values).all(1), values.copy()
    if ok.any():
        scaled[ok] = rescale(values[ok], sd)
    return scaled


def _filled(values: np.ndarray, lengths: np.ndarray, dataset: str) -> np.ndarray:
    """A number for every row: see `combine`."""
    ok = np.isfinite(values).all(1)
    if dataset == "omg":
        mean = values[ok].mean(0) if ok.any() else 0.0
        return np.where(ok[:, None], values, mean)
    stops = np.cumsum(lengths)
    spans = [slice(stop - n, stop) for stop, n in zip(stops, lengths, strict=True)]
    return np.concatenate([*(hold_last(values[s], ok[s]) for s in spans), values[:0]])


def _write(
    folder: Path, params: dict, about: dict, values: np.ndarray, names: Sequence[str]
) -> None:
    if len(names) < 2:
        fault = f"holds {names[0]} only"
        raise BadInput("results", fault, "give the units of both labels, or no folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fault = f"cannot be made a folder ({error.strerror})"
        raise BadInput(folder, fault, "choose another folder") from error
    if params["dataset"] == "omg":
        _write_text(folder / "predictions.csv", _omg_table(params["root"], about, values))
        return
    head = [HEADER] if params["dataset"] == "affwild2" else []
    stops = np.cumsum(about["lengths"])
    for name, n, stop in zip(about["clips"], about["lengths"], stops, strict=True):
        lines = [f"{v:.6f},{a:.6f}" for v, a in values[stop - n : stop]]
        _write_text(folder / f"{name}.txt", "\n".join([*head, *lines, ""]))


def _omg_table(root: str, about: dict, values: np.ndarray) -> str:
    """The official form: every row of the test sheet, in its order."""
    sheet = next(p for name in SHEETS["Test"] if (p := Path(root) / name).exists())
    known = dict(zip(zip(about["videos"], about["clips"], strict=True), values, strict=True))
    mean = values.mean(0) if len(values) else np.zeros(2)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(OMG_HEADER)
    for row in csv.DictReader(read_lines(sheet)):
        video, utterance = row["video"], row["utterance"]
        valence, arousal = known.get((video, Path(utterance).stem), mean)
        writer.writerow([video, utterance, f"{arousal:.6f}", f"{valence:.6f}"])
    return text.getvalue()


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
