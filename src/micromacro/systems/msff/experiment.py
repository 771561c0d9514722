"""The experiment on film clips: a unit trains one stream; all fusions are made of its logits afterwards.

All arms of a seed share people, clips, pre-trained still networks, and the order of clips. A unit's
predictions are its logits for the clips of validation, on which fusions choose temperatures and weights,
and for the clips that are tested, which nothing chooses on. So every fusion is one of the same networks.

Tested clips are as many of each class. Accuracy at a prior is the mean of the classes' recalls, weighted
with its shares; `accuracy` is at that of AFEW's validation clips. A clip without a face has no score of
networks that see faces. The benchmark leaves it out of their training; their logits of tested
ones are kept, so that "no blanks" can say what blanks cost.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax
from torch import Tensor, nn
from torch.nn import functional

from micromacro import training
from micromacro.arms import check_arm, read_arm, units_of
from micromacro.cache import hashable
from micromacro.datasets import afew
from micromacro.datasets.table import check_profile
from micromacro.errors import BadInput, check_choice
from micromacro.systems.msff import fusion, inputs, task
from micromacro.systems.msff.inputs import Batches, Clip
from micromacro.systems.msff.model import (
    EMOTIONS,
    READOUTS,
    STREAMS,
    Blstm,
    C3d,
    CnnBlstm,
    SpectrogramVgg,
    load_published,
)
from micromacro.systems.msff.stills import load_still_network, still_network
from micromacro.training import Recipe, isolated_rng, train

DATASETS = {"afew": afew.read_afew}
VISUAL = STREAMS[:-1]
LAST = 2  # epochs at the end whose logits are averaged, in every arm alike
STILLS = 4  # frames of each clip that the arm without stills trains its still network on
HELD_OUT = 5  # of official data, every fifth person of training chooses the fusion

_OURS = Recipe(functional.cross_entropy, schedule="one_cycle", clip_norm=1.0)
OURS = {
    "blstm": replace(_OURS, lr=5e-3, weight_decay=0.01, epochs=14),
    "c3d": replace(_OURS, lr=3e-3, weight_decay=0.05, epochs=6),
    "audio": replace(_OURS, lr=3e-3, weight_decay=0.05, epochs=8),
    "frames": replace(_OURS, lr=4e-3, weight_decay=0.05, epochs=4),
}
# Neighbours' (Xu et al. 2017): the paper's own recipe is not known.
_SGD = {"optimiser": "sgd", "lr": 1e-3, "weight_decay": 2e-4}
_PAPER = Recipe(functional.cross_entropy, optimiser="adam", lr=1e-4, weight_decay=1e-4, epochs=60)
PAPER = {"blstm": _PAPER, "audio": _PAPER, "c3d": replace(_PAPER, **_SGD, epochs=30)}
_GREY = {"batch_norm": True, "mean": (128.0, 128.0, 128.0), "scale": 60.0}
SMALL = {
    "blstm": {"hidden": 32},
    "c3d": {"width": 4, "hidden": 32, "image_px": 48, "dropout": 0.0} | _GREY,
    "audio": {"width": 4, "hidden": 32, "classes": 32, "batch_norm": True},
}

CORE: dict[str, dict] = {
    **{stream: {"stream": stream} for stream in STREAMS},
    "vgg, second": {"stream": "vgg", "second": True},
    "vgg, mean": {"stream": "vgg", "layers": 0},
    "vgg, shuffled": {"stream": "vgg", "shuffled": True},
    "vgg, no stills": {"stream": "vgg", "stills": False},
    "audio, redundant": {"stream": "audio", "redundancy": 1.0},
}


def _each(what: str, arms: Sequence[str], **options: object) -> dict[str, dict]:
    """Some of the core arms with something turned."""
    return {f"{arm}, {what}": CORE[arm] | options for arm in arms}


SWEEP: dict[str, dict[str, dict]] = {
    "voice": {"audio, not redundant": {"stream": "audio", "redundancy": 0.0}},
    "read-outs": {f"vgg, {r}": {"stream": "vgg", "readout": r} for r in READOUTS[1:]}
    | {
        "vgg, two layers": {"stream": "vgg", "layers": 2},
        "resnet, mean": CORE["resnet"] | {"layers": 0},
    },
    "clips to learn from": {
        name: options
        for share in (0.25, 0.5)
        for name, options in _each(
            f"{share:.0%} of the clips", ("vgg", "vgg, no stills"), share=share
        ).items()
    },
    "order tells less": _each("order tells half", ("vgg", "vgg, mean", "c3d"), order=0.5),
    "speed tells less": _each("speed tells half", ("vgg", "c3d"), speed=0.5),
    "looks tell": _each("own looks", ("vgg", "vgg, mean", "c3d"), appearance=1.0),
}
"""Group -> arm -> options; what an arm does not name is as in the core table."""

ARMS = CORE | {name: options for group in SWEEP.values() for name, options in group.items()}
FUSIONS: dict[str, tuple[tuple[str, ...], Callable, bool]] = {
    "all four": (STREAMS, fusion.grid, True),
    "all four, equal": (STREAMS, fusion.equal, True),
    "all four, stacking": (STREAMS, fusion.stacking, True),
    "all four, uncalibrated": (STREAMS, partial(fusion.grid, calibrated=False), True),
    "all four, blanks filled": (STREAMS, partial(fusion.grid, missing="prior"), True),
    "all four, no blanks": (STREAMS, fusion.grid, False),
    "all four, redundant": ((*VISUAL, "audio, redundant"), fusion.grid, True),
    "visual three": (VISUAL, fusion.grid, True),
    "visual three and second": ((*VISUAL, "vgg, second"), fusion.grid, True),
    **{
        f"all but {left}": (tuple(s for s in STREAMS if s != left), fusion.grid, True)
        for left in VISUAL
    },
    **{
        " and ".join(pair): (pair, fusion.grid, True)
        for pair in (*itertools.combinations(STREAMS, 2), ("vgg", "vgg, second"))
    },
}
"""Fusion -> arms, rule, and whether clips without a face are blank to networks that see faces."""

_TINY = {"epochs": 3, "data": {"train": [8] * 7, "val": [4] * 7, "test": [5] * 7}}
PROFILES = {
    "smoke": {"arms": ("vgg", "audio"), "seeds": (1000,), **_TINY},
    "full": {"arms": tuple(CORE), "seeds": range(8)},
    "paper": {"arms": STREAMS, "seeds": (0,)},
}
TESTED = (150,) * len(EMOTIONS)  # clips of each class


@dataclass(frozen=True)
class Arm:
    """What one arm does; the defaults are VGG-Face and its BLSTM.

    Attributes:
        stream: Which network, a name of `STREAMS`.
        layers: Of the BLSTM; 0 reads the features out as they are.
        readout: Of the BLSTM.
        shuffled: Put the frames of each clip in random order, in training and test. A control.
        second: Another still network of the same kind, trained on other people, and other first weights.
        stills: Pre-train the still network on stills; else it learns from frames of the training clips.
        redundancy: Of the voice, in place of the dial's; see `task.Benchmark.dubbed`.
        share: Of the training clips that are used.

    Raises:
        BadInput: An unknown option, or one that would do nothing: its row would have an untrue name.
    """

    stream: str = "vgg"
    layers: int = 1
    readout: str = "mean"
    shuffled: bool = False
    second: bool = False
    stills: bool = True
    redundancy: float | None = None
    share: float = 1.0

    def __post_init__(self):
        vgg, c3d = self.stream == "vgg", self.stream == "c3d"
        idle = {
            "layers": c3d,
            "readout": c3d,
            "second": not vgg,
            "stills": not vgg or self.second,
            "redundancy": self.stream != "audio",
        }
        check_arm(self, {"stream": STREAMS, "readout": READOUTS}, idle)
        for name, holds in {"layers": self.layers >= 0, "share": 0 < self.share <= 1}.items():
            if not holds:
                fault = f"{name}={getattr(self, name)!r}"
                raise BadInput(fault, "is out of range", "leave it out")


class Source(NamedTuple):
    """Clips with faces and sound, from the actor or from official files.

    Attributes:
        clips: Table: clip, subject, split (train, val, test), label, n_frames, blank.
        rows: What a stream sees of every clip, in the order of the table: given the stream, or the name
            of a still network, or a still network itself; and the redundancy of the voice or None.
        sizes: Part of a network -> options.
        recipes: Part of a network -> how to train it.
        missing: Names of clips that are listed but not there.
    """

    clips: pd.DataFrame
    rows: Callable[..., list[Tensor | None]]
    sizes: Mapping[str, Mapping]
    recipes: Mapping[str, Recipe]
    missing: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def benchmark(
    seed: int,
    train: Sequence[int] = task.PRIORS["train"],
    val: Sequence[int] = task.PRIORS["val"],
    test: Sequence[int] = TESTED,
    **dials,
) -> Source:
    """The benchmark's clips, rendered once for all arms of a seed, and what each network sees of them.

    Args:
        seed: Random seed; another seed draws other people and clips.
        train: Clips of each emotion to train on; AFEW's.
        val: Clips of each emotion to choose fusions on; AFEW's.
        test: Clips of each emotion to test.
        dials: Fields of `task.Dials`.
    """
    counts = {"train": train, "val": val, "test": test}
    sides = {split: task.clips(n, seed, split=split, **dials) for split, n in counts.items()}
    table = pd.concat([side.clips for side in sides.values()], ignore_index=True)
    scripts = [(side, clip) for side in sides.values() for clip in side.clips["clip"]]

    @lru_cache(maxsize=1)
    def shown() -> list[Tensor]:
        """Frames uint8 (T, 1, 48, 48) of every clip, also of blank ones."""
        made = (torch.cat([*side.scene(clip).frames()]) for side, clip in scripts)
        return [frames.mul(255).round_().to(torch.uint8) for frames in made]

    @lru_cache(maxsize=8)
    def rows(what: str | nn.Module, redundancy: float | None = None) -> list[Tensor]:
        if what == "audio":
            again = (
                dials.get("redundancy", task.Dials.redundancy) if redundancy is None else redundancy
            )
            sounds = (side.dubbed(clip, again) for side, clip in scripts)
            return [inputs.segments(Clip(sound=sound)) for sound in sounds]
        if what == "c3d":
            return list(map(_changes, shown()))
        if what == "frames":
            return shown()
        encoder = load_still_network(what) if isinstance(what, str) else what
        return [inputs.features(frames, encoder, 512) for frames in shown()]

    return Source(table, rows, SMALL, OURS)


def _changes(frames: Tensor) -> Tensor:
    """Frames uint8 less the mean picture of their clip, twice as strong, around 128.

    It stands for the mean block of Sports-1M. Without it the small network, which starts from nothing,
    learns nothing: what differs most is who it is (development seed 1000: accuracy .16, with it .57).
    """
    changes = frames.float() - frames.float().mean(0)
    return (2 * changes + 128).clamp_(0, 255).round_().to(torch.uint8)


@lru_cache(maxsize=1)
def official(
    dataset: str,
    root: str,
    *,
    vgg_weights: str | None = None,
    resnet_weights: str | None = None,
    faces: str = "official",
    small: bool = False,
) -> Source:
    """An official data set: validation is tested, and a fifth of the training people chooses the fusion.

    The public labels end with validation. So what papers choose on it, weights of a fusion above all, is
    chosen here on training clips that no network saw. All clips of a person stay on one side. AFEW says
    neither who is in a clip nor which film it is from, so there each clip counts as a person.

    Args:
        dataset: A key of `DATASETS`.
        root: Its folder, as data/README.md shows.
        vgg_weights: Your file of "vgg_face", see `load_published`; the benchmark's network without one.
        resnet_weights: Likewise of "ferplus".
        faces: Of `afew.load`.
        small: Sizes of the benchmark in place of the published ones.

    Raises:
        BadInput: As the reader, and as `load_published`.
    """
    check_choice("dataset", dataset, DATASETS)
    listing = DATASETS[dataset](root)
    table = listing.table[listing.table["split"] != "test"].reset_index(drop=True)
    number = table.groupby("split")["subject"].transform(lambda own: pd.factorize(own)[0])
    chooses = (table["split"] == "train") & (number % HELD_OUT == 0)
    split = table["split"].replace("val", "test").mask(chooses, "val")
    labels = table["label"].map(EMOTIONS.index)
    clips = table.assign(split=split, label=labels, emotion=table["label"], blank=False)
    files = {"vgg": ("vgg_face", vgg_weights), "resnet": ("ferplus", resnet_weights)}
    load = lambda row: Clip(**afew.load(row, faces=faces))  # noqa: E731

    @lru_cache(maxsize=8)
    def rows(what: str, redundancy: float | None = None) -> list[Tensor | None]:
        records = clips.to_dict("records")
        if what == "audio":
            return [inputs.segments(load(row)) for row in records]
        seen = (inputs.frames(load(row)) for row in records)
        if what == "c3d":
            return [*seen]
        encoder = load_published(*files[what]) if files[what][1] else load_still_network(what)
        return [None if frames is None else inputs.features(frames, encoder) for frames in seen]

    return Source(clips, rows, SMALL if small else {}, PAPER, listing.missing)


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
    vgg_weights: str | None = None,
    resnet_weights: str | None = None,
    trial: bool | int = False,
) -> dict[str, list[dict]]:
    """Parameters of all units of a profile; arguments are a notebook's parameters.

    Args:
        profile: "smoke" and "full" on the benchmark; "paper" on official data.
        dataset: "synthetic", or in "paper" a key of `DATASETS`.
        data_root: Folder of the official data.
        seeds: None for 1000 in smoke, 0 to 7 in full, 0 in paper.
        variants: Names of arms; None for two in smoke, `CORE` in full, the four streams in paper.
        folds: Must be None: who is tested is fixed by a split.
        sweep: 1 adds `SWEEP` in full.
        device: Where to compute.
        vgg_weights: In paper, of `official`.
        resnet_weights: Likewise.
        trial: Try the path: in full with the sizes of smoke, in paper with tiny networks and two epochs.

    Returns:
        Arm -> parameters of `unit`, seed by seed.

    Raises:
        BadInput: An unknown name; profile and data set that do not go together; folds.
    """
    check_profile(profile, dataset, DATASETS)
    if folds is not None:
        raise BadInput(f"folds={folds}", "the split is fixed", "leave it out")
    default, arms = PROFILES[profile] | (_TINY if trial and profile == "full" else {}), ARMS
    data = dict(default.get("data", {}))
    common = {"epochs": default.get("epochs"), "device": device}
    if profile == "paper":
        data = {"dataset": dataset, "root": str(data_root)}
        files = {"vgg_weights": vgg_weights, "resnet_weights": resnet_weights}
        data |= {name: str(file) for name, file in files.items() if file}
        arms = {stream: CORE[stream] for stream in STREAMS}
        if trial:
            data, common["epochs"] = data | {"small": True}, 2
    names = [*(variants or default["arms"])]
    if sweep and profile == "full":
        names += [name for group in SWEEP.values() for name in group]
    common |= {"data": data, "seeds": seeds or default["seeds"]}
    return units_of(arms, names, vars(Arm()), **common)


# ---- one unit ------------------------------------------------------------------------------------


def unit(
    *,
    data: Mapping[str, object],
    arm: Mapping[str, object],
    seed: int,
    fold: int = 0,
    epochs: int | None = None,
    device: str = "cpu",
) -> tuple[dict, dict[str, np.ndarray]]:
    """Train one stream on the training clips, and score the others with it; for `units.run`.

    Args:
        data: Of the benchmark arguments of `benchmark`; with a ``dataset`` those of `official`.
        arm: Fields of `Arm`.
        seed: Random seed of the benchmark's people and clips, of first weights and order.
        fold: 0; the split is fixed.
        epochs: Epochs of training; None for the recipe's.
        device: Where to compute.

    Returns:
        Metrics: `parameters`, number of weights that are trained; the last epoch's training `loss`;
        `trained_on`, number of clips; `missing` clips. Predictions, a row for each of N clips of
        validation and test: clip, subject, split; label int64; logits float32 (N, 7), mean of the last
        epochs; blank, whether no face is found; present, whether there are logits; n_frames.

    Raises:
        BadInput: An unknown option; one that would not do anything; as the source.
    """
    if fold:
        raise BadInput(f"fold {fold}", "there is no such fold", "the split is fixed: give 0")
    arm = read_arm(Arm, arm)
    source = official(**hashable(data)) if "dataset" in data else benchmark(seed, **hashable(data))
    table, draws = source.clips, torch.Generator().manual_seed(seed)
    learns = (table["split"] == "train").to_numpy()
    if arm.stream != "audio":
        learns = learns & ~table["blank"].to_numpy(bool)
    own = torch.from_numpy(np.flatnonzero(learns))
    own = (
        own[torch.randperm(len(own), generator=draws)[: round(arm.share * len(own))]].sort().values
    )
    rows = _seen(source, arm, own, seed)
    if arm.shuffled:
        rows = [x if x is None else x[torch.randperm(len(x), generator=draws)] for x in rows]
    rest = np.flatnonzero(table["split"] != "train")
    target, kept = torch.tensor([*table["label"]]), []
    with isolated_rng(seed + 5000 * arm.second):
        net = _network(source, arm, rows)
    part = "blstm" if arm.stream in ("vgg", "resnet") else arm.stream
    recipe = source.recipes[part]
    recipe = replace(recipe, epochs=epochs or recipe.epochs)
    learnt, unseen = (
        Batches([rows[i] for i in chosen], target[chosen], mirror=mirror)
        for chosen, mirror in ((own.tolist(), arm.stream == "c3d"), (rest.tolist(), False))
    )
    passed = itertools.count(1)

    def note(model: nn.Module) -> float:
        done = next(passed)
        if done > recipe.epochs - LAST:
            kept.append(inputs.predictions(model, unseen, device))
        return float(done)  # the last epoch is the best

    options = {"seed": seed, "device": device, "progress": "dataset" in data}
    history = train(net, learnt, recipe, validate=note, **options)
    metrics = {"parameters": sum(p.numel() for p in net.parameters())}
    metrics |= {"loss": history.epochs[-1].loss, "trained_on": len(own), "missing": source.missing}
    left = table.iloc[rest]
    # npz without pickle holds no arrays of objects, which pandas' texts are.
    predictions = {name: np.array(left[name].tolist()) for name in ("clip", "subject", "split")}
    predictions |= {name: left[name].to_numpy() for name in ("label", "blank", "n_frames")}
    predictions["logits"] = torch.stack(kept).mean(0).numpy()
    predictions["present"] = np.array([rows[i] is not None and len(rows[i]) > 0 for i in rest])
    return metrics, predictions


def _seen(source: Source, arm: Arm, own: Tensor, seed: int) -> list[Tensor | None]:
    """What the arm's network sees of every clip."""
    if arm.stream in ("audio", "c3d"):
        return source.rows(arm.stream, arm.redundancy)
    if arm.stills:
        return source.rows("vgg_second" if arm.second else arm.stream)
    clips, labels, draws = source.rows("frames"), [], torch.Generator().manual_seed(seed)
    pictures = []
    for i in own.tolist():
        pictures.append(clips[i][torch.randint(len(clips[i]), (STILLS,), generator=draws)])
        labels += [int(source.clips["label"][i])] * STILLS
    with isolated_rng(seed):
        net = still_network(arm.stream)
    images, target = torch.cat(pictures).float() / 255, torch.tensor(labels)
    batches = training.Batches(images, target, 64)
    train(net, batches, source.recipes["frames"], seed=seed, progress=False)
    return source.rows(net.eval().requires_grad_(False))


def _network(source: Source, arm: Arm, rows: Sequence[Tensor | None]) -> nn.Module:
    sizes = source.sizes
    if arm.stream == "c3d":
        return C3d(**sizes.get("c3d", {}))
    options = dict(sizes.get("blstm", {})) | {"layers": arm.layers, "readout": arm.readout}
    if arm.stream == "audio":
        encoder = SpectrogramVgg(**sizes.get("audio", {}))
        return CnnBlstm(encoder, Blstm(encoder.n_features, **options))
    width = next(x.shape[1] for x in rows if x is not None)
    return Blstm(width, **options)


# ---- scores --------------------------------------------------------------------------------------


def by_seed(groups: Mapping[tuple[str, int], list]) -> dict[tuple[str, int], list]:
    """All arms of a seed together, as `rows` wants them, of what `results.by_arm_and_seed` gives."""
    seeds: dict[tuple[str, int], list] = {}
    for (_, seed), units in groups.items():
        seeds.setdefault(("all arms", seed), []).extend(units)
    return seeds


def rows(units: Sequence) -> list[dict]:
    """The scores of all arms and fusions of one seed as fields of rows, for `results.unit_rows`.

    Of every arm and fusion: `accuracy`, at the prior of AFEW's validation clips, `accuracy_train_prior`
    and `accuracy_test_prior` at those of the other splits; `uar`; `recall_<emotion>`; `accuracy_order`,
    `accuracy_speed` and `accuracy_static`, among the classes of `task.ORDER`, `task.SPEED` and
    `task.STATIC` alone, of their clips; `accuracy_val`, share of the clips of validation.

    Of arms also `temperature` and `confidence`, mean of the largest probability. Of fusions
    `weight_<arm>`. Of "all four" `optimism`, by how much accuracy on validation exceeds that in
    cross-validation; `weighted_...`, scores of probabilities times the root of the test prior;
    `agreement_visual` and `agreement_audio`, how often two networks say the same; `errors_visual` and
    `errors_audio`, correlation of their errors; `mcnemar_p` against "best single", the stream that
    validation finds best.
    """
    arms = {_name(one): one for one in units}
    arrays = {name: one.predictions() for name, one in arms.items()}
    scored: dict[str, dict] = {}
    for name, (seen, tested) in {n: _sides(arrays, (n,)) for n in arms}.items():
        z, heat = tested.logits[0], fusion.temperature(*_there(seen))
        scored[name] = _scores(_filled(z), tested.truth) | {"temperature": heat}
        scored[name]["accuracy_val"] = _hits(_filled(seen.logits[0]), seen)
        scored[name]["confidence"] = softmax(z[tested.present[0]], axis=-1).max(-1).mean()
    if {*STREAMS} <= {*arms}:
        best = max(STREAMS, key=lambda name: scored[name]["accuracy_val"])
        scored["best single"] = scored[best]
    for name, (parts, rule, blanks) in FUSIONS.items():
        if {*parts} <= {*arms}:
            seen, tested = _sides(arrays, parts, blanks)
            made = rule(seen)
            fused = made(tested)
            scored[name] = _scores(fused, tested.truth) | {"accuracy_val": _hits(made(seen), seen)}
            each = zip(parts, made.weights, strict=True)
            scored[name] |= {f"weight_{part}": weight for part, weight in each}
            if name == "all four":
                scored[name] |= _about(seen, tested, fused, best)
    sample, n = units[0], int((arrays[next(iter(arms))]["split"] == "test").sum())
    shared = {"dataset": sample.params["data"].get("dataset", "synthetic")}
    shared |= {"split": "people left out", "n": n}
    return [
        {**shared, "arm": arm, "metric": metric, "value": float(value)}
        | ({"seconds": arms[arm].seconds} if arm in arms else {})
        for arm, values in scored.items()
        for metric, value in values.items()
    ]


def _name(one: object) -> str:
    """The arm of a unit, by its parameters; of several that of which most is turned."""
    fits, data = {}, one.params["data"]
    for name, (made,) in units_of(ARMS, ARMS, vars(Arm()), data={}, seeds=[0]).items():
        own, dials = made["arm"], made["data"]
        if own == one.params["arm"] and all(data.get(k) == v for k, v in dials.items()):
            fits[name] = len(dials)
    if not fits:
        raise BadInput(
            f"arm {one.params['arm']}", "is none of this experiment", "give those of grid"
        )
    return max(fits, key=fits.get)


def _sides(arrays: Mapping, parts: Sequence[str], blanks: bool = True) -> list[fusion.Scores]:
    """Score matrices of some arms for the clips of validation and for those tested."""
    sides = []
    for split in ("val", "test"):
        tables = {}
        for name in parts:
            own = arrays[name]
            rows = own["split"] == split
            there = own["present"] & ~(own["blank"] & blanks & ("audio" not in name))
            logits = np.where(there[:, None], own["logits"], np.nan)[rows]
            tables[name] = pd.DataFrame(logits, own["clip"][rows], EMOTIONS)
        labels = dict(zip(own["clip"][rows], np.array(EMOTIONS)[own["label"][rows]], strict=True))
        people = dict(zip(own["clip"][rows], own["subject"][rows], strict=True))
        sides.append(fusion.align(tables, labels, people))
    return sides


def _there(scores: fusion.Scores) -> tuple[np.ndarray, np.ndarray]:
    return scores.logits[0][scores.present[0]], scores.truth[scores.present[0]]


def _filled(logits: np.ndarray) -> np.ndarray:
    """Probabilities; a network without a score of a clip says the most frequent class of training."""
    prior = np.array(task.PRIORS["train"]) / sum(task.PRIORS["train"])
    return np.where(np.isnan(logits), prior, softmax(logits, axis=-1))


def _hits(fused: np.ndarray, scores: fusion.Scores) -> float:
    return float((fused.argmax(1) == scores.truth).mean())


def _scores(fused: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Scores of probabilities (N, 7); classes without a clip are left out of all of them."""
    hit, known = fused.argmax(1) == truth, np.unique(truth)
    recall = pd.Series({k: hit[truth == k].mean() for k in known})
    values = {"uar": recall.mean()}
    values |= {f"recall_{EMOTIONS[k]}": value for k, value in recall.items()}
    for name, counts in task.PRIORS.items():
        shares = pd.Series(counts)[known] / pd.Series(counts)[known].sum()
        values["accuracy" if name == "val" else f"accuracy_{name}_prior"] = (shares * recall).sum()
    for name, among in (("order", task.ORDER), ("speed", task.SPEED), ("static", task.STATIC)):
        places = np.array([EMOTIONS.index(emotion) for emotion in among])
        own = np.isin(truth, places)
        if own.any():
            right = places[fused[own][:, places].argmax(1)] == truth[own]
            values[f"accuracy_{name}"] = right.mean()
    return values


def _about(seen: fusion.Scores, tested: fusion.Scores, fused: np.ndarray, best: str) -> dict:
    """What only the fusion of all four streams is asked."""
    folds = min(5, len(np.unique(seen.groups)))
    worth = fusion.nested(seen, rule=fusion.grid, n_folds=folds)
    values = {"optimism": worth.seen - worth.unseen}
    weighted = _scores(fused * np.sqrt(task.PRIORS["test"]), tested.truth)
    values |= {f"weighted_{name}": value for name, value in weighted.items()}
    said = np.stack([_filled(z).argmax(1) for z in tested.logits])  # (4, N)
    wrong = pd.DataFrame((said != tested.truth).T.astype(float), columns=tested.networks).corr()
    for what, table in (("agreement", fusion.agreement(tested)), ("errors", wrong)):
        values[f"{what}_audio"] = table.loc["audio", [*VISUAL]].mean()
        pairs = itertools.combinations(VISUAL, 2)
        values[f"{what}_visual"] = np.mean([table.loc[pair] for pair in pairs])
    single = said[tested.networks.index(best)] == tested.truth
    values["mcnemar_p"] = fusion.mcnemar(fused.argmax(1) == tested.truth, single)[2]
    return values
