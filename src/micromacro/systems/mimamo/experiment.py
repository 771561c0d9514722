"""MIMAMO Net's experiment: one unit for the benchmark and for the official data; grids of units.

On the benchmark all arms of a seed share people, clips, crops, the recipe and the order of batches,
and differ in what their name says. First weights are equal too up to the first layer whose shape
differs; after it they are other draws. Nothing is selected: the last epoch counts. For every arm
alike, two things differ from the paper: crop and flip are drawn once a clip and not once an epoch,
and one dropout of 0.1 replaces its rates.

On OMG-Emotion, Aff-Wild and Aff-Wild2 a unit is one fold of the paper's protocol, at its sizes,
from films or aligned faces (data/README.md): folds go by film over the training videos (OMG: of
train and validation); the best epoch is that of the highest CCC on the fold held out, mean of the
labels, after std rescale; the test set (Aff-Wild2: its validation set, whose labels are public) is
predicted by each fold, and `combine` takes the mean. Both protocols share faces, features, seeds
and recipe; they differ in released faults: OMG trains also on sequences that start 3, 6, ... 27
frames later. The released code takes OpenFace's faces: give its folders if you have them. Films are
cut by this package.

Released faults (`LEGACY`), each a switch of its own; protocol "as_released" turns on all of the
data set's:

===========  =============================================  ========================================
switch       ours                                           as released
===========  =============================================  ========================================
gru_axis     GRU along the sequence                         along the batch (B1)
loss         all snippets                                   first ones of a window, labels mixed
                                                            (B2; OMG: only variances by n - 1)
unwrap       phase by conjugate products                    one-sided unwrapping (Q1)
crop         0.85 of the face                               40 px of it (Q5, Aff-Wild)
gaps         snippets that touch a gap or cut are masked    frames without a face (or label, in
                                                            training) dropped, snippets reach across
                                                            (Q4)
second       a second of the clip's own frame rate (OMG)    30 frames
batches      drawn anew each epoch (OMG)                    fixed, of like length
windows      test windows overlap by half, averaged         none, but the last one overwrites
folds        by film (OMG, Aff-Wild2)                       by video, so that most films of several
                                                            videos are on both sides
===========  =============================================  ========================================

OMG's official split cuts films, too, whatever the protocol: of 2,229 test utterances 555 are of
films that training or validation has parts of, of 617 for validation 392 of films of the training
set.

Released faults that no arm has, since they would spoil what is compared:

* B3, OMG trains on its validation videos: the choice of the epoch and the CCC would mean nothing.
* B4, OMG's shifted copies are one object repeated: its intent is followed, shifts of 3 frames.
* B5, two-label rescale scrambles the predictions: pure noise. Each label is rescaled by itself.
* B6, Aff-Wild validates with random crops: noise in the choice of the epoch.
* B7 and swapped pretraining, valence and arousal networks start from each other's streams: there is
  nothing to swap. The stages before (each stream alone; OMG: weights averaged over folds that have
  seen the validation videos) were not released and are left out; all weights start from PyTorch's
  defaults. So "as_released" is the released *network and loop*, not the released numbers.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated

import numpy as np
from torch import nn

from micromacro import arms
from micromacro.cache import hashable
from micromacro.clip import merge_windows, windows
from micromacro.datasets import affect
from micromacro.errors import BadInput, check_choice
from micromacro.folds import grouped_folds
from micromacro.metrics import ccc
from micromacro.motion.maps import channels
from micromacro.systems.mimamo.inputs import Clip, Sequences, official_clips, synthetic_clips
from micromacro.systems.mimamo.model import MimamoNet, OmgNet, ccc_loss, mse_loss
from micromacro.systems.mimamo.scores import combine, rows, scores
from micromacro.systems.mimamo.task import CLIP_STEPS, HALF, LABELS, STRIDE
from micromacro.training import Recipe, isolated_rng, predict, train

__all__ = ["ARMS", "CORE", "DATASETS", "SWEEP", "Arm", "combine", "grid", "rows", "unit"]

PROTOCOLS = ("ours", "as_released")
LEGACY = ("gru_axis", "loss", "unwrap", "crop")  # those that act on the benchmark
CORE: dict[str, dict] = {
    "ours": {},
    "spatial": {"streams": "spatial"},
    "temporal, phase": {"streams": "temporal"},
    "temporal, flow": {"streams": "temporal", "kind": "farneback"},
    "no GRU": {"recurrent": False},
    "released GRU axis": {"legacy": ["gru_axis"]},
    "as released": {"protocol": "as_released"},
    "MSE loss": {"loss": "mse"},
}
_SMALL = {"n_features": 96, "phase_widths": (16, 24, 32), "hidden": 32, "gru_hidden": 24}
_SMALL["dropout"] = 0.1  # the paper's rates are made for a network forty times as large
_STREAM = {k: {"streams": "temporal", "kind": k} for k in ("phase", "farneback")}
_TUNED = {"streams": "temporal", "kind": "tuned_flow"}
_NEW_LIGHT = {"illumination": 0.0, "test_illumination": 1.0}


def _turned(what: str, *names: str, **options: object) -> dict[str, dict]:
    """Ours and arms of the core table with something turned."""
    return {what: options} | {f"{name}, {what}": CORE[name] | options for name in names}


SWEEP: dict[str, dict[str, dict]] = {
    "snippet length": {f"L {length}": {"length": length} for length in (4, 8, 16, 24)},
    "sequence length": {f"S {steps}": {"steps": steps} for steps in (1, 4, 32)},
    "levels": {
        **{f"level {k} alone": {"levels": [k]} for k in (1, 2)},
        "scaled": {"scale": True},
        "level 1 scaled": {"levels": [1], "scale": True},
    },
    "input": {kind: {"kind": kind} for kind in ("raw", "difference")},
    "temporal stream, light": {
        f"{kind}, light {dial:g}": {**options, "illumination": dial}
        for kind, options in _STREAM.items()
        for dial in (0.0, 1.0)
    },
    "new light": {f"{kind}, light 0 to 1": {**o, **_NEW_LIGHT} for kind, o in _STREAM.items()},
    "tuned flow": {"temporal, tuned flow": _TUNED, "tuned flow, light 0 to 1": _TUNED | _NEW_LIGHT},
    "TV-L1": {"temporal, TV-L1": {"streams": "temporal", "kind": "tvl1"}},
    "blocks": {"four blocks": {"sizes": {**_SMALL, "phase_widths": [16, 24, 32, 32]}}},
    "camera": _turned("another camera", "spatial", gamma=3.0),
    "raters": _turned("lag 0.5 s", "no GRU", lag_s=0.5)
    | _turned("error 0.3", "MSE loss", error_sd=0.3),
    # What eight seeds leave undecided of the primary claims is asked once more, of 24 others.
    "new seeds": _turned("new seeds", "spatial", "no GRU", seeds=[*range(8, 32)]),
    "released fault alone": {f"released {x}": {"legacy": [x]} for x in LEGACY[1:]},
}
ARMS = CORE | arms.joined(SWEEP)
_THREE, _SYNTHETIC = ("ours", "spatial", "temporal, phase"), {"dataset": "synthetic"}
_TINY = {"epochs": 2, "data": {**_SYNTHETIC, "people": 8}}
_SIZES = {"phase_widths": [4, 4, 4], "hidden": 8, "gru_hidden": 4}
_THUMBNAILS = {"weights": "thumbnail", "weights_file": None, "sizes": _SIZES}
_TRIAL = {"epochs": 1, "folds": 2, "data": _THUMBNAILS}
PROFILES = {  # without a number of folds, the data set's own
    "smoke": {"arms": _THREE, "seeds": (1000,), "folds": None, **_TINY},
    "full": {"arms": CORE, "seeds": range(8), "folds": None, "data": _SYNTHETIC, "trial": _TINY},
    "paper": {"arms": ("ours", "as released"), "seeds": (0,), "folds": None, "trial": _TRIAL},
}
OFFSETS = range(0, 29, 3)  # frames; where OMG's training sequences start
RELEASED_SECOND = 30  # frames, whatever the film's own rate


@dataclass(frozen=True)
class DataSet:
    """What differs between data sets.

    Attributes:
        recipe: How to train; the loss is the arm's.
        legacy: Released faults that act here.
        window: Number of snippets in a sequence.
        batch: Number of such sequences in a training batch.
        evaluation_batch: The same in validation and test.
        margin: Frames at either end of a clip without a snippet around them.
        step: Frames from one snippet to the next; None means a second.
        overlap: Whether windows overlap by half.
        per_frame: One label a frame; else one a clip.
        training: Splits that are trained on, and that the folds are made of.
        test: Split that every unit predicts.
        folds: Number of folds; None means the official split alone, and the last epoch.
        read: Reader of the official files; None for the benchmark.
        sizes: Those of the network that are not the published ones.
    """

    recipe: Recipe
    legacy: tuple[str, ...]
    window: int
    batch: int
    evaluation_batch: int
    margin: int = 0
    step: int | None = 1
    overlap: bool = False
    per_frame: bool = True
    training: tuple[str, ...] = ("train",)
    test: str = "test"
    folds: int | None = 5
    read: Callable | None = None
    sizes: Mapping[str, object] | None = None


_ADAMW = Recipe(optimiser="adamw", lr=1e-2, weight_decay=1e-2, schedule="one_cycle", epochs=10)
_SGD = Recipe(optimiser="sgd", lr=1e-3, momentum=0.9, weight_decay=5e-4, schedule="steps")
_OMG = replace(_SGD, milestones=(3, 5), epochs=5, patience=3)
_AFFWILD = replace(_SGD, milestones=(10, 20), epochs=25, patience=5)
_OMG_FAULTS = (*LEGACY[:3], "gaps", "second", "batches", "folds")
_OMG_SPLITS = {"training": ("Train", "Validation"), "test": "Test", "per_frame": False}
_FRAME_FAULTS = (*LEGACY, "gaps", "windows")
DATASETS = {
    "synthetic": DataSet(_ADAMW, LEGACY, 16, 8, 8, HALF, STRIDE, folds=None, sizes=_SMALL),
    "omg": DataSet(_OMG, _OMG_FAULTS, 16, 4, 4, HALF, None, read=affect.read_omg, **_OMG_SPLITS),
    "affwild": DataSet(_AFFWILD, _FRAME_FAULTS, 64, 16, 8, overlap=True, read=affect.read_affwild),
}
_PARTS = {"legacy": (*_FRAME_FAULTS, "folds"), "test": "validation", "read": affect.read_affwild2}
DATASETS["affwild2"] = replace(DATASETS["affwild"], **_PARTS)


@dataclass(frozen=True)
class Arm:
    """What one arm does on one data set; "ours" where nothing is said.

    Attributes:
        dataset: A key of `DATASETS`.
        streams: "both", "spatial" or "temporal".
        kind: Kind of the motion, see `inputs.motion`; on the benchmark only.
        length: Differences in a snippet; at 30 frames per second 12 are 0.4 s.
        levels: Pyramid levels that the temporal stream sees; the maps of another one are 0, so that
            the network stays the same.
        steps: Snippets in a sequence; None means the data set's own. On the benchmark 16 span 2.1
            s, and a clip of 32 is cut accordingly; at test the sequences of a clip, and the clips
            of a person, are neighbours in a batch, which matters to the released GRU axis alone.
        recurrent: Whether there is a GRU.
        loss: "ccc" or "mse".
        scale: Divide the maps of each level by their standard deviation over the training set. As
            published they stay in rad, where level 2 joins features a hundred times its size.
        legacy: Released faults, any that act on the data set.
        label: "valence", "arousal", or "both" with one network.

    Raises:
        BadInput: An option that is unknown, or that does not do anything here.
    """

    dataset: str = "synthetic"
    streams: str = "both"
    kind: str = "phase"
    length: int = 2 * HALF
    levels: Annotated[tuple[int, ...], (1, 2)] = (1, 2)
    steps: Annotated[int | None, (None, *(n for n in range(1, 33) if CLIP_STEPS % n == 0))] = None
    recurrent: bool = True
    loss: Annotated[str, ("ccc", "mse")] = "ccc"
    scale: bool = False
    legacy: tuple[str, ...] = ()
    label: Annotated[str, (*LABELS, "both")] = "both"

    def __post_init__(self):
        for fault in self.legacy:
            check_choice("legacy", fault, self.about.legacy)
        moves, official = self.streams != "spatial", self.about.read is not None
        acts = {"loss": self.loss == "ccc", "crop": moves, "unwrap": moves and self.kind == "phase"}
        idle = {
            "kind": official or not moves,
            "length": not moves,
            "levels": not moves,
            "scale": official or not moves,
            "recurrent": not self.about.per_frame,
            "legacy": not all(acts.get(fault, True) for fault in self.legacy),
        }
        arms.check_arm(self, **idle)

    @classmethod
    def on(cls, dataset: str, options: Mapping[str, object]) -> "Arm":
        """An arm of `CORE` or `SWEEP` on a data set; "protocol" is "ours" or "as_released".

        Raises:
            BadInput: As the arm itself.
        """
        check_choice("dataset", dataset, DATASETS)
        options = hashable(options)
        protocol, faults = options.pop("protocol", "ours"), options.pop("legacy", ())
        check_choice("protocol", protocol, PROTOCOLS)
        for name in options:
            check_choice("option of an arm", name, [field.name for field in fields(cls)[1:]])
        faults = (DATASETS[dataset].legacy if protocol == "as_released" else ()) + faults
        return cls(dataset, **options, legacy=faults)

    @property
    def about(self) -> DataSet:
        """The data set."""
        return DATASETS[self.dataset]

    @property
    def columns(self) -> slice:
        """Columns of the labels that the network predicts: 0 valence, 1 arousal."""
        first = 0 if self.label == "both" else LABELS.index(self.label)
        return slice(first, 2 if self.label == "both" else first + 1)

    @property
    def crop(self) -> str:
        """Crop of the faces in training, a key of `inputs.CROPS`."""
        return "released" if "crop" in self.legacy else "ours"


_ACTS = {*vars(Arm()), "protocol"} - {"kind", "scale"}  # on official data
OFFICIAL = {name: own for name, own in ARMS.items() if {*own} <= _ACTS}


# ---- the grid ------------------------------------------------------------------------------------


def grid(profile: str = "smoke", **asked) -> dict[str, list[dict]]:
    """Parameters of all units of a profile.

    Args:
        profile: "smoke", "full" or "paper".
        asked: The other parameters of a notebook, see `arms.plan`; in "paper" also ``weights`` and
            ``weights_file`` of `inputs.official_clips`, where a trial has thumbnails in place of
            features, and each label a network of its own. Folds are of the training videos; the
            benchmark has none by default.

    Returns:
        Arm -> parameters of `unit`, seed by seed and fold by fold, in "paper" label by label.

    Raises:
        BadInput: As `arms.plan`; an arm that is not in the table.
    """
    official = [name for name in DATASETS if name != "synthetic"]
    asked = arms.plan(profile, PROFILES, SWEEP, official, **asked)
    asked["folds"] = asked["folds"] or DATASETS[asked["data"]["dataset"]].folds
    table = OFFICIAL if profile == "paper" else ARMS
    units = arms.units_of(table, {*vars(Arm()), "protocol"}, **asked)
    labels = [{"label": name} for name in LABELS] if profile == "paper" else [{}]
    return {
        name: [p | {"arm": p["arm"] | label} for label in labels for p in params]
        for name, params in units.items()
    }


# ---- one unit ------------------------------------------------------------------------------------


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

    On official data the training is written to disk after each epoch, see `arms.checkpoint`.

    Args:
        seed: Decides first weights, order, dropout and augmentation; on the benchmark people and
            clips too. The folds do not depend on it.
        data: "dataset", a key of `DATASETS`, and what `inputs.synthetic_clips` or
            `inputs.official_clips` take besides. None is the benchmark.
        arm: Options of `Arm.on`.
        fold: The one held out, from 0 on.
        folds: Number of folds; None means the data set's.
        epochs: At most; None for the recipe's number.
        device: Where to compute.

    Returns:
        Metrics ``<score>_<label>`` on the test set, where it has labels, as `scores.scores` takes
        them; the same of the fold held out with "validation_" before the name;
        ``train_ccc_<label>`` where there are no folds.
        Predictions, as `scores` says; for each epoch ``epoch_loss`` and ``epoch_score`` (the best
        is the first of the highest score); ``fold_sd`` and ``label_sd``, the spread of the labels
        that were trained on, and of those with the fold held out; ``sequences``, how many were
        trained on; names of clips that are ``missing``, or ``skipped``: without a whole snippet.

    Raises:
        BadInput: An unknown option, or one that does nothing; what these raise; too little to
            train or to validate on.
    """
    options = dict(data or {})
    arm, sizes = Arm.on(options.pop("dataset", "synthetic"), arm or {}), options.pop("sizes", None)
    load = synthetic_clips if arm.about.read is None else official_clips
    clips, missing = load(arm, seed=seed, device=device, **options)
    clips = [replace(clip, labels=clip.labels[:, arm.columns]) for clip in clips]
    training, held_out, test = _split(arm, clips, fold, folds or arm.about.folds)
    batches = _training_batches(arm, training, device)
    fold_sd, label_sd = _spread(arm, training), _spread(arm, training + held_out)

    def validate(model: nn.Module) -> float:
        table = _predicted(arm, held_out, model, device)
        ok = np.isfinite(table["prediction"] + table["truth"]).all(1)
        return ccc(affect.rescale(table["prediction"][ok], fold_sd), table["truth"][ok])

    with isolated_rng(seed):
        model = _network(arm, sizes or arm.about.sizes or {})
    roles = {"validation": held_out} if held_out else {"train": training}
    how = {"validate": validate if held_out else None, "progress": bool(held_out)}
    run = (vars(arm), seed, fold, folds, epochs, device)
    with arms.checkpoint(unit, data or {}, *run) as file:
        how |= {"seed": seed, "device": device, "checkpoint": file}
        history = train(model, batches, _recipe(arm, epochs), **how)
        tables = {k: _predicted(arm, v, model, device) for k, v in {**roles, "test": test}.items()}
    table = {name: np.concatenate([t[name] for t in tables.values()]) for name in tables["test"]}
    table["splits"] = np.repeat(list(tables), [len(t["clips"]) for t in tables.values()])
    metrics = {}
    for role in tables:
        sd = fold_sd if role == "validation" else label_sd
        values = scores(table, role, sd, LABELS[arm.columns])
        if role == "train":  # how well it was learnt by heart
            values = {k: v for k, v in values.items() if k.startswith("ccc_")}
        metrics |= {k if role == "test" else f"{role}_{k}": v for k, v in values.items()}
    skipped = [c.name for c in clips if not any(c.valid[span].any() for span in _spans(arm, c))]
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
    loss, recipe = mse_loss if arm.loss == "mse" else loss, arm.about.recipe
    return replace(recipe, loss=loss, epochs=recipe.epochs if epochs is None else epochs)


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
    films = [("folds" not in arm.legacy and clip.film) or clip.subject for clip in labelled]
    fold_of = grouped_folds(films, folds)
    held_out = [clip for clip, own in zip(labelled, fold_of, strict=True) if own == fold]
    if not any(clip.count(span) for clip in held_out for span in _spans(arm, clip)):
        videos = ", ".join(sorted({clip.subject for clip in held_out})[:5])
        fault = f"no clip of its videos ({videos}) has a whole snippet with a label"
        raise BadInput(f"fold {fold}", fault, "get more of the films, or use fewer folds")
    return [clip for clip in labelled if clip not in held_out], held_out, test


def _spans(arm: Arm, clip: Clip, *, train: bool = False) -> list[range]:
    """Centres of the snippets of each sequence: windows of a film, or seconds of an utterance."""
    about, steps = arm.about, arm.steps or arm.about.window
    step = RELEASED_SECOND if "second" in arm.legacy else about.step or max(1, round(clip.fps))
    stop = len(clip.frames) - about.margin
    centres = [range(about.margin + first, stop, step) for first in (OFFSETS if train else [0])]
    if not about.per_frame:
        return [every[:steps] for every in centres if every]
    overlap = about.overlap and (train or "windows" not in arm.legacy)
    spans = windows(len(centres[0]), steps, max(1, steps // 2) if overlap else steps)
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
        frames = [c.frames[np.isfinite(c.labels[c.frames]).all(1)] for c in clips]
        pairs = zip(clips, frames, strict=True)
        clips = [replace(clip, frames=some, valid=np.ones(len(some), bool)) for clip, some in pairs]
    least = min(2, arm.steps or 2) if arm.about.per_frame else 1
    spans = [(i, span) for i, c in enumerate(clips) for span in _spans(arm, c, train=True)]
    spans = [(i, span) for i, span in spans if clips[i].count(span) >= least]
    if len(spans) < 2:
        fault = f"have {len(spans)} of the two training sequences that are needed at least"
        raise BadInput("the other folds", fault, "get more of the films or faces")
    return _sequences(arm, clips, spans, arm.about.batch, device)


def _predicted(
    arm: Arm, clips: Sequence[Clip], model: nn.Module, device: str
) -> dict[str, np.ndarray]:
    """The table of predictions of some clips, as `scores` says."""
    columns = len(LABELS[arm.columns])
    spans = [(i, span) for i, clip in enumerate(clips) for span in _spans(arm, clip)]
    batches = _sequences(arm, clips, spans, arm.about.evaluation_batch, device)
    outputs = predict(model, batches, device).numpy() if spans else []
    by_clip: list[list] = [[] for _ in clips]
    for (index, span), output in zip(batches.spans, outputs, strict=True):
        by_clip[index].append((span, output))
    rows, none = [], np.empty((0, columns))
    for clip, some in zip(clips, by_clip, strict=True):
        values = np.full((len(clip.labels), columns), np.nan)
        if some and arm.about.per_frame:
            overwrite = "windows" in arm.legacy
            values[clip.frames] = merge_windows(some, len(clip.frames), overwrite=overwrite)
        elif some:
            values[0] = some[0][1]
        rows.append(_scored(arm, replace(clip, labels=values)))
    truth = [_scored(arm, clip) for clip in clips]
    return {
        "clips": np.array([clip.name for clip in clips], str),
        "subjects": np.array([clip.subject for clip in clips], str),
        "lengths": np.array([len(values) for values in truth], int),
        "prediction": np.concatenate([*rows, none]).astype(np.float32),
        "truth": np.concatenate([*truth, none]).astype(np.float32),
    }


def _sequences(arm: Arm, clips: Sequence, spans: list, batch: int, device: str) -> Sequences:
    if "batches" in arm.legacy:  # of equal length; where one runs out, of like length
        spans = sorted(spans, key=lambda span: len(span[1]))
    # As many snippets in a batch, whatever the length of the sequences.
    size = max(2, batch * arm.about.window // (arm.steps or arm.about.window))
    return Sequences(clips, spans, size, arm, device)
