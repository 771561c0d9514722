"""One fold of an official protocol: parameters, training, choice of the epoch, predictions."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import micromacro
from micromacro.errors import BadInput
from micromacro.folds import grouped_folds
from micromacro.metrics import ccc
from micromacro.systems.mimamo import data
from micromacro.systems.mimamo.paper.protocol import DATASETS, Cut, Protocol, known
from micromacro.systems.mimamo.paper.scores import scores
from micromacro.systems.mimamo.paper.store import StoredClip
from micromacro.systems.mimamo.paper.store import prepare as prepare_clips
from micromacro.training import train


def grid(
    *, labels: Sequence[str] = ("valence", "arousal"), n_folds: int = 5, **params
) -> list[dict]:
    """Parameters of all folds' units for `experiments.run`.

    Args:
        labels: One network for each, as in the paper; or ("both",), one network with two outputs.
        n_folds: Folds.
        params: The rest of `unit`'s.
    """
    each = [{"label": label, "fold": fold} for label in labels for fold in range(n_folds)]
    return [params | {"n_folds": n_folds} | entry for entry in each]


def prepare(dataset: str, root: str, **how) -> tuple[list[StoredClip], tuple[str, ...]]:
    """Make faces and features of a data set; call it before `experiments.run` with many workers.

    Args:
        dataset: "omg", "affwild" or "affwild2".
        root: Its folder.
        how: cache, weights, weights_file, sha256, faces, device: as in `unit`.

    Returns:
        The clips in the sheets' order, and the names of those that are listed but not there.

    Raises:
        BadInput: Unknown data set; official files that contradict their format; no clips.
    """
    known(f"dataset {dataset!r}", dataset, DATASETS)
    clips = DATASETS[dataset].read(root)
    return prepare_clips(clips, **how), clips.missing


def unit(
    *,
    dataset: str,
    root: str,
    protocol: str,
    fold: int,
    seed: int,
    weights: str,
    cache: str,
    weights_file: str | None = None,
    sha256: str | None = None,
    label: str = "both",
    device: str = "cpu",
    n_folds: int = 5,
    epochs: int | None = None,
    faces: str = "stabilised",
) -> tuple[dict, dict[str, np.ndarray]]:
    """Train on all folds but one, choose the epoch on that one, predict it and the test set.

    After each epoch the training is written to ``<cache>/checkpoints``; killed and called again it
    goes on from there, with the same result. The checkpoint goes when the unit is done.

    Args:
        dataset: "omg", "affwild" or "affwild2".
        root: Its folder, as data/README.md shows.
        protocol: "ours" or "as_released".
        fold: The one held out, from 0 on.
        seed: Of first weights, order, dropout, flips and crops. The folds do not depend on it.
        weights: Of the frozen ResNet-50: "ferplus" is the paper's; "vggface2", "imagenet".
        cache: Folder for faces, features and checkpoints, made if missing.
        weights_file: Your file of the weights; None fetches "imagenet".
        sha256: Its digest.
        label: "valence", "arousal", or "both" with one network.
        device: Of training, phases and features.
        n_folds: Folds.
        epochs: At most; None for the published number.
        faces: How faces are cut from films, a mode of `extract_faces`.

    Returns:
        Metrics: scores of the fold held out, where a prediction and a label are
        (validation_<score>_<label>; after std rescale validation_rescaled_<score>_<label>); epochs,
        best_epoch, best_score; number of sequences trained on; fold_sd and label_sd, spreads of the
        labels of the other folds and of all; how many clips are missing, which are skipped: have
        no whole snippet among those that count.
        Predictions: for "validation" and "test" what `Protocol.predict` says, with the split before
        the name: validation_prediction and so on.

    Raises:
        BadInput: An unknown name, what `prepare` raises, or too little to train or to validate on.
    """
    params = dict(locals())
    how = Protocol.named(dataset, protocol, label, device)
    files = {"weights": weights, "weights_file": weights_file, "sha256": sha256, "faces": faces}
    stored, missing = prepare(dataset, root, cache=cache, device=device, **files)
    cuts = [how.cut(clip) for clip in stored]
    training, held_out, test = _split(how, cuts, fold, n_folds)
    batches = how.training(training)
    fold_sd, label_sd = _spread(how, training), _spread(how, training + held_out)

    def validate(model) -> float:
        values, truth, _ = _scored(how.predict(held_out, model))
        return ccc(data.rescale(values, fold_sd), truth)

    model, recipe = how.model(seed), how.recipe(epochs)
    checkpoint = Path(cache) / "checkpoints" / _fingerprint(params, stored)
    where = {"device": device, "checkpoint": checkpoint}
    history = train(model, batches, recipe, seed=seed, validate=validate, **where)
    found = {"validation": how.predict(held_out, model), "test": how.predict(test, model)}
    checkpoint.unlink()
    metrics = {
        "epochs": len(history.epochs),
        "best_epoch": history.best,
        "best_score": history.epochs[history.best].score,
        "sequences": len(batches.sequences),
        "fold_sd": fold_sd.tolist(),
        "label_sd": label_sd.tolist(),
        "missing": len(missing),
        "skipped": [c.clip.name for c in cuts if not c.valid[list(how.evaluated(c))].any()],
    } | _validation_scores(found["validation"], fold_sd, label)
    arrays = {f"{split}_{k}": v for split, some in found.items() for k, v in some.items()}
    return metrics, arrays


def _split(
    how: Protocol, cuts: Sequence[Cut], fold: int, n_folds: int
) -> tuple[list[Cut], list[Cut], list[Cut]]:
    """Clips of the other folds, of this one, of the test set."""
    if not 0 <= fold < n_folds:
        raise BadInput(f"fold {fold}", "there is no such fold", f"use 0 to {n_folds - 1}")
    labelled = [cut for cut in cuts if cut.clip.split in how.dataset.training]
    test = [cut for cut in cuts if cut.clip.split == how.dataset.test]
    folds = grouped_folds([cut.clip.video for cut in labelled], n_folds)
    others = [cut for cut, own in zip(labelled, folds, strict=True) if own != fold]
    held_out = [cut for cut, own in zip(labelled, folds, strict=True) if own == fold]
    if not any(cut.counts(how.evaluated(cut)).any() for cut in held_out):
        videos = sorted({cut.clip.video for cut in held_out})
        fault = f"no clip of its videos ({', '.join(videos[:5])}) has a whole snippet with a label"
        raise BadInput(f"fold {fold}", fault, "get more of the films, or use fewer folds")
    return others, held_out, test


def _spread(how: Protocol, cuts: Sequence[Cut]) -> np.ndarray:
    """Standard deviation of the labels, float64 (labels,)."""
    labels = [np.atleast_2d(cut.clip.labels)[:, list(how.columns)] for cut in cuts]
    sd = np.nanstd(np.concatenate(labels).astype(np.float64), axis=0)
    if not (sd > 0).all():
        raise BadInput("the training labels", "do not vary", "get more of the films or faces")
    return sd


def _scored(found: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, labels and videos of the rows that have both."""
    ok = np.isfinite(found["truth"] + found["prediction"]).all(1)
    videos = np.repeat(found["videos"], found["lengths"])
    return found["prediction"][ok], found["truth"][ok], videos[ok]


def _validation_scores(found: dict, fold_sd: np.ndarray, label: str) -> dict[str, float]:
    values, truth, videos = _scored(found)
    table = {}
    for kind, numbers in (("", values), ("rescaled_", data.rescale(values, fold_sd))):
        for row in scores(numbers, truth, videos, label):
            table[f"validation_{kind}{row['metric']}_{row['label']}"] = row["value"]
    return table


def _fingerprint(params: dict, stored: Sequence[StoredClip]) -> str:
    """Of all that decides a training: parameters, clips, labels, this package's code."""
    digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode())
    for clip in stored:
        digest.update(f"{clip.name} {clip.folder.name} {clip.features.name}".encode())
        digest.update(clip.labels.tobytes())
    for file in sorted(Path(micromacro.__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:20]
