"""MIMAMO Net's experiment: one unit for the benchmark and for the official data; grids of units.

On the benchmark all arms of a seed share people, clips, crops, the recipe and the order of batches, and
differ in what their name says. First weights are equal too up to the first layer whose shape differs;
after it they are other draws. Nothing is selected: the last epoch counts. For every arm alike, two
things differ from the paper: crop and flip are drawn once a clip and not once an epoch, and one dropout
of 0.1 replaces its rates.

On OMG-Emotion, Aff-Wild and Aff-Wild2 a unit is one fold of the paper's protocol, at its sizes, from
films or aligned faces (data/README.md): folds go by video over the training videos (OMG: of train and
validation); the best epoch is that of the highest CCC on the fold held out, mean of the labels, after
std rescale; the test set (Aff-Wild2: its validation set, whose labels are public) is predicted by each
fold, and `combine` takes the mean. Both protocols share faces, features, folds, seeds and recipe;
`arms` says where they differ. OMG trains also on sequences that start 3, 6, ... 27 frames later. The
released code takes OpenFace's faces: give its folders if you have them. Films are cut by this package.
"""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from micromacro.cache import code_key, digest
from micromacro.errors import BadInput, check_choice
from micromacro.files import project_root
from micromacro.folds import grouped_folds
from micromacro.metrics import ccc
from micromacro.motion.maps import channels
from micromacro.systems.mimamo.arms import CORE, DATASETS, LIGHT, SWEEP, Arm
from micromacro.systems.mimamo.inputs import Clip, Sequences, Snippets, load_clips
from micromacro.systems.mimamo.model import MimamoNet, OmgNet, ccc_loss, mse_loss
from micromacro.systems.mimamo.scores import combine, rescale, rows, scores
from micromacro.systems.mimamo.task import LABELS
from micromacro.training import Recipe, isolated_rng, predict, train

__all__ = ["ARMS", "CORE", "DATASETS", "SWEEP", "Arm", "combine", "grid", "rows", "unit"]

ARMS = CORE | {name: options for group in SWEEP.values() for name, options in group.items()}
PROFILES = {  # default arms, default seeds
    "smoke": (["ours", "spatial", "temporal, phase"], [1000]),
    "full": (CORE, range(8)),
    "paper": (["ours", "as released"], [0]),
}
OFFSETS = range(0, 29, 3)  # frames; where OMG's training sequences start
RELEASED_SECOND = 30  # frames, whatever the film's own rate


def grid(
    profile: str = "smoke",
    *,
    dataset: str = "synthetic",
    data_root: str | None = None,
    seeds: Sequence[int] | None = None,
    variants: Sequence[str] | None = None,
    folds: int | None = None,
    sweep: int = 0,
    device: str = "cpu",
    weights: str = "ferplus",
    weights_file: str | None = None,
    trial: bool = False,
) -> dict[str, list[dict]]:
    """The units of notebook 04: arm -> parameters of its units, seed by seed.

    Args:
        profile: "smoke", "full" or "paper".
        dataset: "synthetic", or for "paper" "omg", "affwild", "affwild2".
        data_root: Folder of the official data.
        seeds: None means 1000 in smoke, 0 to 7 in full, 0 in paper.
        variants: Names of arms; None means three in smoke, all of `CORE` in full, "ours" and "as
            released" in paper.
        folds: Number of folds; None means the data set's.
        sweep: 1 adds `SWEEP` in full.
        device: Where to compute.
        weights: Those of the frozen ResNet-50, see `inputs.official_clips`.
        weights_file: Your file of them.
        trial: Try the official path in minutes: tiny networks, one epoch, two folds, and thumbnails
            in place of features. Its numbers mean nothing.

    Raises:
        BadInput: An unknown arm or data set.
    """
    check_choice("dataset", dataset, DATASETS)
    check_choice("profile", profile, PROFILES)
    names, default_seeds = PROFILES[profile]
    names = [*(variants or names)]
    names += [name for name in ARMS if name not in CORE] if sweep and profile == "full" else []
    data, common, labels = {"dataset": dataset}, {"device": device}, [{}]
    if profile == "smoke":
        data["people"], common["epochs"] = 8, 2
    folds = folds or DATASETS[dataset].folds
    if dataset != "synthetic":
        data |= {"root": data_root, "cache": str(project_root() / "runs" / "official")}
        data |= {"weights": weights, "weights_file": weights_file}
        labels = [{"label": name} for name in LABELS]  # a network for each, as in the paper
    if trial:
        sizes = {"phase_widths": [4, 4, 4], "hidden": 8, "gru_hidden": 4}
        data |= {"weights": "thumbnail", "weights_file": None, "sizes": sizes}
        common["epochs"], folds = 1, 2
    arms: dict[str, list[dict]] = {}
    for name in names:
        check_choice("arm", name, ARMS)
        light = {k: v for k, v in ARMS[name].items() if k in LIGHT}
        options = {k: v for k, v in ARMS[name].items() if k not in LIGHT}
        arms[name] = [
            {"data": data | light, "arm": options | label, "seed": seed, "fold": fold}
            | {"folds": folds, **common}
            for seed in seeds or default_seeds
            for label in labels
            for fold in range(folds or 1)
        ]
    return arms


def unit(
    *,
    seed: int,
    data: Mapping | None = None,
    arm: Mapping | None = None,
    fold: int = 0,
    folds: int | None = None,
    epochs: int | None = None,
    device: str = "cpu",
) -> tuple[dict, dict[str, np.ndarray]]:
    """Train one arm and score it on other people; a unit for `units.run`.

    On official data the training is written to ``<cache>/checkpoints`` after each epoch; killed and
    called again it goes on from there, with the same result. The checkpoint goes when the unit is done.

    Args:
        seed: Decides first weights, order, dropout and augmentation; on the benchmark people and
            clips too. The folds do not depend on it.
        data: "dataset", a key of `arms.DATASETS`, and what `prepare` takes besides. None is the
            benchmark.
        arm: Options of `Arm.on`.
        fold: The one held out, from 0 on.
        folds: Number of folds; None means the data set's.
        epochs: At most; None for the recipe's number.
        device: Where to compute.

    Returns:
        Metrics ``<score>_<label>`` on the test set, where it has labels, as `scores.scores` takes
        them; the same of the fold held out with "validation_" before the name; ``train_ccc_<label>``
        where there are no folds.
        Predictions, as `scores` says; for each epoch ``epoch_loss`` and ``epoch_score`` (the best is
        the first of the highest score); ``fold_sd`` and ``label_sd``, the spread of the labels that
        were trained on, and of those with the fold held out; ``sequences``, how many were trained on;
        names of clips that are ``missing``, or ``skipped``: without a whole snippet.

    Raises:
        BadInput: An unknown option, or one that does nothing; what `prepare` raises; too little to
            train or to validate on.
    """
    options = dict(data or {})
    arm = Arm.on(options.pop("dataset", "synthetic"), arm or {})
    clips, missing = load_clips(arm, seed, device=device, **options)
    clips = [replace(clip, labels=clip.labels[:, arm.columns]) for clip in clips]
    training, held_out, test = _split(arm, clips, fold, folds or arm.about.folds)
    batches = _training_batches(arm, training, device)
    fold_sd, label_sd = _spread(arm, training), _spread(arm, training + held_out)

    def validate(model: nn.Module) -> float:
        table = _predicted(arm, held_out, model, device)
        ok = np.isfinite(table["prediction"] + table["truth"]).all(1)
        return ccc(rescale(table["prediction"][ok], fold_sd), table["truth"][ok])

    with isolated_rng(seed):
        model = _network(arm, options.get("sizes") or arm.about.sizes or {})
    how = {"seed": seed, "device": device, "progress": bool(held_out)}
    if "cache" in options:
        identity = [options, vars(arm), seed, fold, folds, epochs, device]
        how["checkpoint"] = Path(options["cache"]) / "checkpoints" / _fingerprint(identity, clips)
    if held_out:
        how["validate"] = validate
    history = train(model, batches, _recipe(arm, epochs), **how)
    roles = {"validation": held_out} if held_out else {"train": training}
    tables = {k: _predicted(arm, v, model, device) for k, v in {**roles, "test": test}.items()}
    if "checkpoint" in how:
        how["checkpoint"].unlink()
    table = {name: np.concatenate([t[name] for t in tables.values()]) for name in tables["test"]}
    table["splits"] = np.repeat(list(tables), [len(t["clips"]) for t in tables.values()])
    metrics = {}
    for role in tables:
        sd = fold_sd if role == "validation" else label_sd
        values = scores(table, role, sd, LABELS[arm.columns])
        if role == "train":  # how well it was learnt by heart
            values = {k: v for k, v in values.items() if k.startswith("ccc_")}
        metrics |= {k if role == "test" else f"{role}_{k}": v for k, v in values.items()}
    parts = [Snippets.of(clip, arm) for clip in clips]
    skipped = [p.clip.name for p in parts if not any(p.valid[s].any() for s in _spans(arm, p))]
    facts = {"missing": np.array(missing, str), "skipped": np.array(skipped, str)}
    facts |= {f"epoch_{k}": [getattr(e, k) for e in history.epochs] for k in ("loss", "score")}
    facts |= {"fold_sd": fold_sd, "label_sd": label_sd, "sequences": len(batches.spans)}
    return metrics, table | {name: np.asarray(values) for name, values in facts.items()}


# ---- what an arm makes of clips ------------------------------------------------------------------


def _network(arm: Arm, sizes: Mapping) -> MimamoNet | OmgNet:
    options = {"streams": arm.streams, "legacy_gru_axis": "gru_axis" in arm.legacy, **sizes}
    options["phase_channels"] = channels(arm.kind, arm.length)
    if not arm.about.per_frame:
        return OmgNet(len(LABELS[arm.columns]), **options)
    return MimamoNet(len(LABELS[arm.columns]), recurrent=arm.recurrent, **options)


def _recipe(arm: Arm, epochs: int | None) -> Recipe:
    loss = functools.partial(ccc_loss, legacy_loss="loss" in arm.legacy)
    recipe = replace(arm.about.recipe, loss=mse_loss if arm.loss == "mse" else loss)
    return recipe if epochs is None else replace(recipe, epochs=epochs)


def _split(
    arm: Arm, clips: Sequence[Clip], fold: int, folds: int | None
) -> tuple[list[Clip], list[Clip], list[Clip]]:
    """Clips to train on, of the fold held out, of the test set."""
    if not 0 <= fold < (folds or 1):
        raise BadInput(f"fold {fold}", "there is no such fold", f"use 0 to {(folds or 1) - 1}")
    labelled = [clip for clip in clips if clip.split in arm.about.training]
    test = [clip for clip in clips if clip.split == arm.about.test]
    if folds is None:
        return labelled, [], test
    fold_of = grouped_folds([clip.subject for clip in labelled], folds)
    held_out = [clip for clip, own in zip(labelled, fold_of, strict=True) if own == fold]
    parts = [Snippets.of(clip, arm) for clip in held_out]
    if not any(part.count(span) for part in parts for span in _spans(arm, part)):
        videos = ", ".join(sorted({clip.subject for clip in held_out})[:5])
        fault = f"no clip of its videos ({videos}) has a whole snippet with a label"
        raise BadInput(f"fold {fold}", fault, "get more of the films, or use fewer folds")
    return [clip for clip in labelled if clip not in held_out], held_out, test


def _spans(arm: Arm, part: Snippets, *, train: bool = False) -> list[range]:
    """Centres of the snippets of each sequence: windows of a film, or seconds of an utterance."""
    about, steps = arm.about, arm.steps or arm.about.window
    step = RELEASED_SECOND if "second" in arm.legacy else about.step or max(1, round(part.clip.fps))
    stop = len(part.frames) - about.margin
    centres = [range(about.margin + first, stop, step) for first in (OFFSETS if train else [0])]
    if not about.per_frame:
        return [every[:steps] for every in centres if every]
    overlap = about.overlap and (train or "windows" not in arm.legacy)
    spans = windows(len(centres[0]), steps, steps // 2 if overlap else steps)
    return [centres[0][start:stop] for start, stop in spans]


def _scored(arm: Arm, clip: Clip) -> np.ndarray:
    """Labels of a clip where there is to be a prediction, (rows, labels)."""
    margin = arm.about.margin if arm.about.per_frame else 0
    return clip.labels[margin : len(clip.labels) - margin : arm.about.step]


def _spread(arm: Arm, clips: Sequence[Clip]) -> np.ndarray:
    """Standard deviation of the labels, (labels,)."""
    sd = np.nanstd(np.concatenate([_scored(arm, clip) for clip in clips]), axis=0)
    if not (sd > 0).all():
        raise BadInput("the training labels", "do not vary", "get more of the films or faces")
    return sd


def _training_batches(arm: Arm, clips: Sequence[Clip], device: str) -> Sequences:
    """Batches of windows with two snippets that count, or of utterances with one."""
    if arm.about.per_frame and "gaps" in arm.legacy:  # frames without a label are dropped as well
        clips = [replace(c, seen=c.seen & np.isfinite(c.labels).all(1)) for c in clips]
    parts = [Snippets.of(clip, arm) for clip in clips]
    least = min(2, arm.steps or 2) if arm.about.per_frame else 1
    spans = [(i, s) for i, part in enumerate(parts) for s in _spans(arm, part, train=True)]
    spans = [(i, span) for i, span in spans if parts[i].count(span) >= least]
    if len(spans) < 2:
        fault = f"have {len(spans)} of the two training sequences that are needed at least"
        raise BadInput("the other folds", fault, "get more of the films or faces")
    return _sequences(arm, parts, spans, arm.about.batch, device)


def _predicted(
    arm: Arm, clips: Sequence[Clip], model: nn.Module, device: str
) -> dict[str, np.ndarray]:
    """The table of predictions of some clips, as `scores` says."""
    parts, columns = [Snippets.of(clip, arm) for clip in clips], len(LABELS[arm.columns])
    spans = [(i, span) for i, part in enumerate(parts) for span in _spans(arm, part)]
    batches = _sequences(arm, parts, spans, arm.about.evaluation_batch, device)
    outputs = predict(model, batches, device).numpy() if spans else []
    by_clip: list[list] = [[] for _ in parts]
    for (index, span), output in zip(batches.spans, outputs, strict=True):
        by_clip[index].append((span, output))
    rows, none = [], np.empty((0, columns))
    for part, some in zip(parts, by_clip, strict=True):
        values = np.full((len(part.clip.labels), columns), np.nan)
        if some and arm.about.per_frame:
            overwrite = "windows" in arm.legacy
            values[part.frames] = merge_windows(some, len(part.frames), overwrite=overwrite)
        elif some:
            values[0] = some[0][1]
        rows.append(_scored(arm, replace(part.clip, labels=values)))
    truth = [_scored(arm, clip) for clip in clips]
    return {
        "clips": np.array([clip.name for clip in clips], str),
        "subjects": np.array([clip.subject for clip in clips], str),
        "lengths": np.array([len(values) for values in truth], int),
        "prediction": np.concatenate([*rows, none]).astype(np.float32),
        "truth": np.concatenate([*truth, none]).astype(np.float32),
    }


def _sequences(arm: Arm, parts: list, spans: list, batch: int, device: str) -> Sequences:
    if "batches" in arm.legacy:  # of equal length; where one runs out, of like length
        spans = sorted(spans, key=lambda span: len(span[1]))
    # As many snippets in a batch, whatever the length of the sequences.
    size = max(2, batch * arm.about.window // (arm.steps or arm.about.window))
    return Sequences(parts, spans, size, arm, device)


def windows(n: int, length: int, stride: int) -> list[tuple[int, int]]:
    """Cut n snippets into windows; the last one is aligned right, so that each is in one.

    Args:
        n: Number of snippets.
        length: Snippets of a window; a shorter film is one shorter window.
        stride: Snippets from one window to the next.

    Returns:
        Starts and stops, half-open.
    """
    last = max(0, n - length)
    return [(start, min(start + length, n)) for start in (*range(0, last, stride), last) if n]


def merge_windows(
    windows: Sequence[tuple[range, np.ndarray]], n: int, *, overwrite: bool = False
) -> np.ndarray:
    """Put the predictions of windows together, float64 (n, n_outputs); nan in no window.

    Args:
        windows: For each the numbers of its snippets, and its predictions, (snippets or more,
            n_outputs): what lies behind the snippets is padding.
        n: Number of snippets in all.
        overwrite: Where windows overlap, the later one counts, as in the released code; else their
            mean.
    """
    total, count = np.zeros((n, windows[0][1].shape[1])), np.zeros((n, 1))
    for span, prediction in windows:
        rows = slice(span.start, span.stop, span.step)
        if overwrite:
            total[rows] = count[rows] = 0
        total[rows] += prediction[: len(span)]
        count[rows] += 1
    return total / np.where(count, count, np.nan)


def _fingerprint(identity: object, clips: Sequence[Clip]) -> str:
    """Hash of all that decides a training: parameters, code, clips, labels."""
    labels = [hashlib.sha256(clip.labels.tobytes()).hexdigest() for clip in clips]
    return digest([identity, code_key(unit), [(c.name, c.version) for c in clips], labels])
