"""Film clips: a unit trains one stream; all fusions are made of logits afterwards.

All arms of a seed share people, clips, the order of clips and, but for "second" and "no stills",
pre-trained still networks. A unit's predictions are its logits for the clips of validation, on
which fusions choose temperatures and weights, and for the clips that are tested, which nothing
chooses on. So every fusion is one of the same networks.

Tested clips are as many of each class. Accuracy at a prior is the mean of the classes' recalls,
weighted with its shares; `accuracy` is at that of AFEW's validation clips. A clip without a face
has no score of networks that see faces. The benchmark leaves it out of their training; their logits
of tested ones are kept, so that "no blanks" can say what blanks cost.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from micromacro import arms, training
from micromacro.cache import hashable
from micromacro.datasets import afew
from micromacro.errors import BadInput, check_choice
from micromacro.metrics import accuracy
from micromacro.systems.msff import fusion, inputs, model, stills, task
from micromacro.systems.msff.inputs import Batches, Clip
from micromacro.systems.msff.model import EMOTIONS, READOUTS, STREAMS
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
    "r3d_18": {"image_px": 32},
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


def _each(what: str, names: Sequence[str], **options: object) -> dict[str, dict]:
    """Some of the core arms with something turned."""
    return {f"{name}, {what}": CORE[name] | options for name in names}


SWEEP: dict[str, dict[str, dict]] = {
    "voice": {"audio, not redundant": {"stream": "audio", "redundancy": 0.0}},
    "read-outs": {f"vgg, {r}": {"stream": "vgg", "readout": r} for r in READOUTS[1:]}
    | {"vgg, two layers": {"stream": "vgg", "layers": 2}},
    "clips to learn from": _each("25% of the clips", ("vgg", "vgg, no stills"), share=0.25),
    "order tells less": _each("order tells half", ("vgg", "vgg, mean", "c3d"), order=0.5),
    "speed tells less": _each("speed tells half", ("vgg", "c3d"), speed=0.5),
    "looks tell": _each("own looks", ("vgg", "vgg, mean", "c3d"), appearance=1.0),
}
"""Group -> arm -> options; what an arm does not name is as in the core table."""

ARMS = CORE | arms.joined(SWEEP)
OFFICIAL = {s: CORE[s] for s in STREAMS} | {"r3d_18": {"stream": "c3d", "solid": "r3d_18"}}
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

_TRIAL = {"epochs": 2, "data": {"small": True}}
_TINY = {"epochs": 2, "data": {"train": [4] * 7, "val": [3] * 7, "test": [3] * 7}}
PROFILES = {
    "smoke": {"arms": ("vgg", "audio"), "seeds": (1000,), **_TINY},
    "full": {"arms": CORE, "seeds": range(8), "epochs": None, "trial": _TINY},
    "paper": {"arms": STREAMS, "seeds": (0,), "epochs": None, "trial": _TRIAL},
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
        second: Another still network of the same kind, trained on other people, and other first
            weights.
        stills: Pre-train the still network on stills; else it learns from frames of the training
            clips.
        redundancy: Of the voice, in place of the dial's; see `task.Benchmark.dubbed`.
        share: Of the training clips that are used.
        solid: The 3D network of stream "c3d".

    Raises:
        BadInput: An unknown option, or one that would do nothing: its row would have an untrue
            name.
    """

    stream: Annotated[str, STREAMS] = "vgg"
    layers: Annotated[int, 0, 8] = 1
    readout: Annotated[str, READOUTS] = "mean"
    shuffled: bool = False
    second: bool = False
    stills: bool = True
    redundancy: Annotated[float | None, 0, 1] = None
    share: Annotated[float, 0.01, 1] = 1.0
    solid: Annotated[str, ("c3d", "r3d_18")] = "c3d"

    def __post_init__(self):
        vgg, c3d = self.stream == "vgg", self.stream == "c3d"
        idle = {"layers": c3d, "readout": c3d, "second": not vgg, "stills": not vgg or self.second}
        arms.check_arm(self, **idle, redundancy=self.stream != "audio", solid=not c3d)


# ---- sources -------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def benchmark(
    seed: int,
    train: Sequence[int] = task.PRIORS["train"],
    val: Sequence[int] = task.PRIORS["val"],
    test: Sequence[int] = TESTED,
    **dials,
) -> arms.Source:
    """The benchmark's clips, rendered once for all arms of a seed, as each network sees them.

    Args:
        seed: Random seed; another seed draws other people and clips.
        train: Clips of each emotion to train on; AFEW's.
        val: Clips of each emotion to choose fusions on; AFEW's.
        test: Clips of each emotion to test.
        dials: Fields of `task.Dials`.

    Returns:
        Table: clip, subject, split (train, val, test), label, n_frames, blank. What a stream sees
        of every clip is loaded, in the order of the table, by the stream, or the name of a still
        network, or a still network itself; and by the redundancy of the voice, None for the dial's.
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
            sounds = (side.dubbed(clip, redundancy) for side, clip in scripts)
            return [inputs.segments(Clip(sound=sound)) for sound in sounds]
        if what == "c3d":
            return list(map(_changes, shown()))
        if what == "frames":
            return shown()
        encoder = stills.load_still_network(what) if isinstance(what, str) else what
        return [inputs.features(frames, encoder, 512) for frames in shown()]

    return arms.Source(table, rows, SMALL, OURS)


def _changes(frames: Tensor) -> Tensor:
    """Frames uint8 less the mean picture of their clip, twice as strong, around 128.

    It stands for the mean block of Sports-1M. Without it the small network, which starts from
    nothing, learns nothing: what differs most is who it is (development seed 1000: accuracy .16,
    with it .57).
    """
    changes = frames.float() - frames.float().mean(0)
    return (2 * changes + 128).clamp_(0, 255).round_().to(torch.uint8)


@lru_cache(maxsize=1)
def official(
    dataset: str,
    root: str,
    *,
    cache: str,
    faces: str = "official",
    small: bool = False,
    device: str = "cpu",
    **weights: str,
) -> arms.Source:
    """An official data set: validation is tested; a fifth of the training people chooses fusions.

    The public labels end with validation. So what papers choose on it, weights of a fusion above
    all, is chosen here on training clips that no network saw. All clips of a person stay on one
    side. AFEW says neither who is in a clip nor which film it is from, so there each clip counts as
    a person.

    Args:
        dataset: A key of `DATASETS`.
        root: Its folder, as data/README.md shows.
        cache: Folder, made if missing, for features, 1.8 GB of both networks of published sizes
            (24.6 kB for each of the 72,941 faces of training and validation); for faces that are
            looked for in films; and for checkpoints of units that are under way, each up to four
            times its weights. With many workers compute one unit of "vgg" and one of "resnet"
            before.
        faces: Of `afew.load`.
        small: Sizes of the benchmark in place of the published ones.
        device: Where features are computed.
        weights: Your files of published weights, see `stills.WEIGHTS`: "vgg_weights" and the like.
            Without one of its own, "vgg" and "resnet" are the benchmark's networks, and a 3D
            network learns from nothing.

    Raises:
        BadInput: As the reader, and as `stills.load_published`; a file for a network that we have
            not.
    """
    check_choice("dataset", dataset, DATASETS)
    for name in weights:
        check_choice("weights", name, [f"{network}_weights" for network in stills.WEIGHTS])
    listing = DATASETS[dataset](root)
    table = listing.table[listing.table["split"] != "test"].reset_index(drop=True)
    number = table.groupby("split")["subject"].transform(lambda own: pd.factorize(own)[0])
    chooses = (table["split"] == "train") & (number % HELD_OUT == 0)
    split = table["split"].replace("val", "test").mask(chooses, "val")
    labels = table["label"].map(EMOTIONS.index)
    clips = table.assign(split=split, label=labels, emotion=table["label"], blank=False)
    place = Path(cache, "msff")

    @lru_cache(maxsize=8)
    def rows(what: str, redundancy: float | None = None) -> list[Tensor | None]:
        records = tqdm(clips.to_dict("records"), desc=what, unit="clip", disable=None)
        if what in ("vgg", "resnet"):
            own = weights.get(f"{what}_weights")
            return inputs.features_on_disk(records, what, place, faces, own, device)
        see = {"audio": inputs.segments, "c3d": inputs.frames}[what]
        return [see(Clip(**afew.load(row, faces=faces, cache=place))) for row in records]

    return arms.Source(clips, rows, SMALL if small else {}, PAPER, missing=listing.missing)


# ---- the grid ------------------------------------------------------------------------------------


def grid(profile: str = "smoke", **asked) -> dict[str, list[dict]]:
    """Parameters of all units of a profile.

    Args:
        profile: "smoke", "full" or "paper".
        asked: The other parameters of a notebook, see `arms.plan`; in "paper" also ``weights`` of
            `official`. There are no folds: a split says who is tested.

    Returns:
        Arm -> parameters of `unit`, seed by seed.

    Raises:
        BadInput: As `arms.plan`; an arm that is not in the table.
    """
    asked = arms.plan(profile, PROFILES, SWEEP, DATASETS, **asked)
    return arms.units_of(OFFICIAL if profile == "paper" else ARMS, vars(Arm()), **asked)


# ---- one unit ------------------------------------------------------------------------------------


def unit(
    *, data: dict, arm: dict, seed: int, fold: int, epochs: int | None = None, device: str = "cpu"
) -> tuple[dict, dict[str, np.ndarray]]:
    """Train one stream on the training clips, and score the others with it; for `units.run`.

    On official data each epoch's end is written to disk, see `arms.checkpoint`.

    Args:
        data: Of the benchmark arguments of `benchmark`; with a ``dataset`` those of `official`.
        arm: Fields of `Arm`; on official data those of an arm in `OFFICIAL`.
        seed: Random seed of the benchmark's people and clips, of first weights and order.
        fold: 0; the split is fixed.
        epochs: Epochs of training; None for the recipe's.
        device: Where to compute.

    Returns:
        Metrics: `parameters`, number of weights that are trained; the last epoch's training `loss`;
        `trained_on`, number of clips; `missing` clips. Predictions, a row for each of N clips of
        validation and test: clip, subject, split; label int64; logits float32 (N, 7), mean of the
        last epochs; blank, whether no face is found; present, whether there are logits; n_frames,
        NaN where the data do not say it.

    Raises:
        BadInput: An unknown option; one that would not do anything; as the source.
    """
    check_choice("fold", fold, [0])
    arm = arms.read_arm(Arm, arm)
    options, draws = hashable(data), torch.Generator().manual_seed(seed)
    source = official(**options, device=device) if "dataset" in data else benchmark(seed, **options)
    table = source.clips
    learns = table["split"] == "train"
    if arm.stream != "audio":
        learns &= ~table["blank"].astype(bool)
    own, rest = (torch.from_numpy(np.flatnonzero(x)) for x in (learns, table["split"] != "train"))
    some = torch.randperm(len(own), generator=draws)[: round(arm.share * len(own))]
    own = own[some].sort().values
    rows = _seen(source, arm, own, seed)
    if arm.shuffled:
        rows = [x if x is None else x[torch.randperm(len(x), generator=draws)] for x in rows]
    with isolated_rng(seed + 5000 * arm.second):
        net = _network(source, arm, rows, data.get(f"{arm.solid}_weights"))
    recipe = source.recipe["blstm" if arm.stream in ("vgg", "resnet") else arm.stream]
    recipe = replace(recipe, epochs=epochs or recipe.epochs)
    target = torch.tensor([*table["label"]])
    learnt = Batches([rows[i] for i in own], target[own], mirror=arm.stream == "c3d")
    unseen = Batches([rows[i] for i in rest], target[rest])

    recorded = training.Recorded(net, recipe.epochs, len(rest), len(EMOTIONS))

    def note(trained: training.Recorded) -> float:
        if trained.done < recipe.epochs - LAST:  # nobody asks for these epochs
            return trained.note(torch.tensor(torch.nan))
        return trained.note(training.predict(trained, unseen, device))

    with arms.checkpoint(unit, data, vars(arm), seed, recipe.epochs, device) as file:
        how = {"seed": seed, "device": device, "checkpoint": file, "progress": bool(file)}
        history = train(recorded, learnt, recipe, validate=note, **how)
    metrics = {"parameters": sum(p.numel() for p in net.parameters())}
    metrics |= {"loss": history.epochs[-1].loss, "trained_on": len(own), "missing": source.missing}
    names = ("clip", "subject", "split", "label", "blank", "n_frames")
    predictions = arms.columns(table.iloc[rest], names)
    predictions["logits"] = recorded.record[-LAST:].mean(0).cpu().numpy()
    predictions["present"] = np.array([rows[i] is not None and len(rows[i]) > 0 for i in rest])
    return metrics, predictions


def _seen(source: arms.Source, arm: Arm, own: Tensor, seed: int) -> list[Tensor | None]:
    """What the arm's network sees of every clip."""
    if arm.stream in ("audio", "c3d"):
        return source.load(arm.stream, arm.redundancy)
    if arm.stills:
        return source.load("vgg_second" if arm.second else arm.stream)
    clips, draws = source.load("frames"), torch.Generator().manual_seed(seed)
    pictures = [clips[i][torch.randint(len(clips[i]), (STILLS,), generator=draws)] for i in own]
    with isolated_rng(seed):
        net = stills.still_network(arm.stream)
    target = torch.tensor([*source.clips["label"]])[own].repeat_interleave(STILLS)
    batches = training.Batches(torch.cat(pictures).float() / 255, target, 64)
    train(net, batches, source.recipe["frames"], seed=seed, progress=False)
    return source.load(net.eval().requires_grad_(False))


def _network(source: arms.Source, arm: Arm, rows: Sequence, weights: str | None) -> nn.Module:
    sizes = source.sizes
    if arm.stream == "c3d":
        net = {"c3d": model.C3d, "r3d_18": model.R3d18}[arm.solid](**sizes.get(arm.solid, {}))
        return stills.start_from(net, arm.solid, weights) if weights else net
    options = {**sizes.get("blstm", {}), "layers": arm.layers, "readout": arm.readout}
    if arm.stream == "audio":
        encoder = model.SpectrogramVgg(**sizes.get("audio", {}))
        return model.CnnBlstm(encoder, model.Blstm(encoder.n_features, **options))
    width = next(x.shape[1] for x in rows if x is not None)
    return model.Blstm(width, **options)


# ---- scores --------------------------------------------------------------------------------------


def by_seed(groups: Mapping[tuple[str, int], list]) -> dict[tuple[str, int], list]:
    """What `results.by_arm_and_seed` gives, for `rows`: a seed's core arms together, all named."""
    seeds: dict[tuple[str, int], list] = {}
    for (arm, seed), (one,) in groups.items():
        own = seeds.setdefault(("all arms" if arm in CORE else arm, seed), [])
        own.append(replace(one, params=one.params | {"name": arm}))
    return seeds


def rows(units: Sequence) -> list[dict]:
    """Scores of one seed's arms and of their fusions: fields of rows, for `results.unit_rows`.

    Args:
        units: Those of one entry of `by_seed`, which names them.

    Of every arm and fusion: `accuracy`, at the prior of AFEW's validation clips,
    `accuracy_train_prior` and `accuracy_test_prior` at those of the other splits; `uar`;
    `recall_<emotion>`; `accuracy_order`, `accuracy_speed` and `accuracy_static`, among the classes
    of `task.ORDER`, `task.SPEED` and `task.STATIC` alone, of their clips; `accuracy_val`, share of
    the clips of validation.

    Of arms also `temperature` and `confidence`, mean of the largest probability. Of fusions
    `weight_<arm>`. Of "all four" `optimism`, by how much accuracy on validation exceeds that in
    cross-validation; `weighted_...`, scores of probabilities times the root of the test prior;
    `agreement_visual` and `agreement_audio`, how often two networks say the same; `errors_visual`
    and `errors_audio`, correlation of their errors; `mcnemar_p` against "best single", the stream
    that validation finds best.
    """
    named = {one.params["name"]: one for one in units}
    arrays, scored = {name: one.predictions() for name, one in named.items()}, {}
    if len({tuple(table["clip"]) for table in arrays.values()}) > 1:
        raise BadInput("units", "hold different clips", "give those of one seed and data")
    for name in named:
        seen, tested = _sides(arrays, (name,))
        known, z = seen.present[0], tested.logits[0]
        scored[name] = _scores(_filled(z), tested.truth)
        scored[name]["temperature"] = fusion.temperature(seen.logits[0][known], seen.truth[known])
        scored[name]["accuracy_val"] = accuracy(_filled(seen.logits[0]).argmax(1), seen.truth)
        scored[name]["confidence"] = softmax(z[tested.present[0]], axis=-1).max(-1).mean()
    if {*STREAMS} <= {*named}:
        best = max(STREAMS, key=lambda name: scored[name]["accuracy_val"])
        scored["best single"] = scored[best]
    blank = any(table["blank"].any() for table in arrays.values())
    for name, (parts, rule, blanks) in FUSIONS.items():
        if {*parts} <= {*named} and (blanks or blank):
            seen, tested = _sides(arrays, parts, blanks)
            made = rule(seen)
            fused = made(tested)
            scored[name] = _scores(fused, tested.truth)
            scored[name]["accuracy_val"] = accuracy(made(seen).argmax(1), seen.truth)
            scored[name] |= {f"weight_{p}": w for p, w in zip(parts, made.weights, strict=True)}
            if name == "all four":
                scored[name] |= _about(seen, tested, fused, best)
    rows, n = [], len(tested.truth)
    for name, values in scored.items():
        more = {"seconds": named[name].seconds} if name in named else {}
        rows += arms.score_rows(units, values, arm=name, n=n, **more)
    return rows


def _sides(arrays: Mapping, parts: Sequence[str], blanks: bool = True) -> list[fusion.Scores]:
    """Score matrices of some arms for the clips of validation and for those tested."""
    tables, first = [], arrays[parts[0]]
    for name in parts:
        own = arrays[name]
        present = own["present"] & ~(own["blank"] & blanks & ("audio" not in name))
        tables.append(np.where(present[:, None], own["logits"].astype(float), np.nan))
    clips, label, people = (first[name] for name in ("clip", "label", "subject"))
    scores = fusion.Scores(parts, EMOTIONS, clips, np.stack(tables), label, people)
    return [scores.take(first["split"] == split) for split in ("val", "test")]


def _filled(logits: np.ndarray) -> np.ndarray:
    """Probabilities; a network that has no score of a clip says training's most frequent class."""
    prior = np.array(task.PRIORS["train"]) / sum(task.PRIORS["train"])
    return np.where(np.isnan(logits), prior, softmax(logits, axis=-1))


def _scores(fused: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Scores of probabilities (N, 7); classes without a clip are left out of all of them."""
    hit, known = fused.argmax(1) == truth, np.unique(truth)
    recall = pd.Series({k: hit[truth == k].mean() for k in known})
    values = {"uar": recall.mean()} | {f"recall_{EMOTIONS[k]}": v for k, v in recall.items()}
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
