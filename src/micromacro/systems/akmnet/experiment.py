"""AKMNet's experiment: arms, protocols, and one unit that trains an arm and tests it on a fold.

On official data a fold's people are left out and tested. On the benchmark a fold has people of its
own to learn from, and all folds of a seed are tested on the same other people; a seed's score is
the mean of its networks' scores. That is what one network is worth; an average of their logits
would be the score of an ensemble, which nobody trains. All arms of a seed and fold share people,
clips, first weights (but for the GRU's released start and the plain VGG-11), the recipe and the
order of the clips, and differ in what their name says. Clips of rare classes are drawn again at
random, and random frames are drawn, once for a training. The window controls see as many frames of
each clip as the "s123" of the same seed and fold kept, in training and in test; their unit trains
it first. So their training clips were mined by a network that was trained on them, their test clips
were not.

The last epoch counts; on the benchmark, the mean of the last two epochs' logits. What the released
program does, the best epoch on the test data, is scored beside it under another name, from the same
training (`scores`).

==================  ==============================================  ============================
                    "ours"                                          "as_released"
==================  ==============================================  ============================
batch norm          over all frames of the 8 clips                  over one clip at a time
binariser           gradient to kept frames (the paper's            to all frames
                    equations)
frames at the mean  dropped                                         kept
start of the GRU    orthogonal, biases 0                            forward biases in (0, 1),
                                                                    reverse PyTorch's
learning rate       one cosine from 1e-3 down towards 1e-8          down in 8 epochs, up in 8,
                                                                    down ..., 3.8e-5 at last
training pictures   128 px cut at random out of 144                 so with probability 0.5,
                                                                    else resized to 128
classes             resampled up to the largest, as the paper says  as they are
==================  ==============================================  ============================

The last three rows are of official data; on the benchmark both protocols share the recipe of
`task.benchmark`. What neither has, since it was not released: the checkpoint pre-trained on
ImageNet and AffectNet (a random start, ImageNet or a file of yours), the paper's face crops (take
the data sets' own), its magnification (`inputs`), and its list files, which may have named clips of
rare classes more than once. So "as_released" is the released *network and loop*, not the released
numbers. Of the released faults, those that only crash are mended: a clip that keeps no frame, or
drops none.

What a step keeps for its gradient is 7 MB a frame: of "ours", which has 8 clips at once, 4 GB with
CASME II's mean clips and 8 GB with its longest; of "as_released", one clip at a time, an eighth.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from sklearn.svm import SVC
from torch import nn

from micromacro import arms
from micromacro.cache import hashable
from micromacro.datasets import micro
from micromacro.errors import BadInput
from micromacro.folds import held_out
from micromacro.motion.lbp_top import lbp_top
from micromacro.systems.akmnet import inputs
from micromacro.systems.akmnet.inputs import CHOICES, RESAMPLED, ClipBatches, Source
from micromacro.systems.akmnet.model import LEGACY, AkmNet, AkmOutput, OneFrame, Vgg11, akm_loss
from micromacro.systems.akmnet.task import benchmark
from micromacro.training import Recorded, isolated_rng, moved, train

PROTOCOLS = ("ours", "as_released")

CORE = {
    "s123": {},
    "all": {"steps": "none"},
    "random window": {"steps": "none", "frames": "random window"},
    "midpoint window": {"steps": "none", "frames": "middle window"},
    "resampled": {"steps": "none", "frames": "tim"},
    **{steps: {"steps": steps} for steps in ("s12", "s13", "s23")},
}
BESIDE = {
    "true apex": {"steps": "none", "frames": "true frames"},
    "as released": {"protocol": "as_released"},
}
"""What stands beside the core table: a positive control, and every released oddity at once."""


def _frames(*choices: str, name: str = "{}", **options: str) -> dict[str, dict]:
    """Arms without mining, named by the frames that they get."""
    return {name.format(c): {"steps": "none", "frames": c, **options} for c in choices}


def _turned(what: str, *names: str, **options: object) -> dict[str, dict]:
    """Arms of the core table with something turned; by default the two that are compared most."""
    return {f"{n}, {what}": {**CORE, **BESIDE}[n] | options for n in names or ("s123", "all")}


_LOOSE = {"task": "loose"}
_PLAIN = _frames("apex", "max-key", name="ResNet, {}", classifier="resnet")
_PLAIN |= _frames("apex", "max-key", name="VGG, {}", classifier="vgg")
SWEEP: dict[str, dict[str, dict]] = {
    # Of random frames the paper averages five draws: each of eight folds has one.
    "other frames, same N": _frames("random", "apex window"),
    "one frame": _frames("apex", "max-key") | _PLAIN,
    "annotators": {
        f"ResNet, apex ± {sd}": _PLAIN["ResNet, apex"] | {"apex_error": sd} for sd in (1, 2, 4, 8)
    },
    "fixed length": {
        **{f"resampled {n}": {**CORE["resampled"], "length": n} for n in (12, 48, 96)},
        **_frames("linear", name="linear 24"),
    },
    "loss": {
        **{f"count {weight:g}": {"count_weight": weight} for weight in (0.0, 10.0)},
        "margin 0": {"margin_weight": 0.0},
    },
    "released, each alone": {
        "released gradient": {"legacy": ["straight_through"]},
        "released GRU start": {"legacy": ["gru_init"]},
        "released batch norm": {"bn": "released"},
        "frozen batch norm": {"bn": "frozen"},
    },
    "loose task": _turned("loose", "s123", "s23", "all", "midpoint window", "true apex", **_LOOSE),
    "redundancy": {
        **_turned("share 0.35, anywhere", **_LOOSE, share=[0.35, 0.35], centrality=0.0),
        **_turned("share 0.35, central", **_LOOSE, share=[0.35, 0.35], centrality=1.0),
        **_turned("share 0.7, anywhere", **_LOOSE, share=[0.7, 0.7], centrality=0.0),
    },
    "no distractors": _turned("no distractors", distractors=0.0),
    "magnification": {
        "not magnified": {"magnification": 1.0},
        "exact 2": {"magnification": 2.0},
        "phase-based": {"magnification": 1.0, "alpha": 3.0},
    },
    # The dear ones, and another camera, have half as many networks.
    "more training": _turned("12 epochs", epochs=12, folds=4),
    "more people": _turned("54 people", subjects=54, folds=4),
    "another camera": _turned("another camera", gamma=3.0, folds=4),
    "long clips": _turned("24 to 141 frames", n_frames=[24, 141], folds=4),
    # What eight seeds leave undecided of the primary claims is asked once more, of 16 others.
    "new seeds": _turned("new seeds", "s123", "s23", "s12", seeds=[*range(8, 24)]),
}
"""Group -> arm -> options; what an arm does not name is as in the core table."""

OFFICIAL = {
    **{arm: CORE[arm] for arm in ("s123", "all", "s12", "s13", "s23")},
    **_frames("random"),
    **{f"norm{n}": {"steps": "none", "frames": "tim", "length": n} for n in (16, 32, 64, 128)},
    **_PLAIN,
}
"""The paper's arms (Tables IV, V and VII), for official data; each by either protocol. Of "random"
the paper says that it averages five draws: take five seeds. A VGG-11 has weights of its own."""

ARMS: dict[str, dict] = {**CORE, **BESIDE, "LBP-TOP": {"classifier": "lbp-top"}}
ARMS |= arms.joined(SWEEP)

TRIAL = {"widths": (4, 6), "blocks": 1, "image_px": 32, "gru_hidden": 4}
"""Sizes of a network that tries the official path: an epoch of CASME II in a minute."""
_TINY = {"folds": 2, "epochs": 2, "data": {"subjects": 6, "tested": 6, "clips": 5}}
_TRIAL = {"epochs": 2, "data": {"sizes": TRIAL, "magnification": 0.0}}
_FULL = {"arms": (*CORE, *BESIDE, "LBP-TOP"), "seeds": range(8), "folds": 8, "epochs": None}
_PAPER = {"arms": ("s123", "all"), "seeds": (0,), "folds": None, "epochs": None}
PROFILES = {
    "smoke": {"arms": ("s123", "all", "midpoint window", "LBP-TOP"), "seeds": (1000,), **_TINY},
    "full": {**_FULL, "trial": _TINY},
    "paper": {**_PAPER, "trial": _TRIAL},
}


@dataclass(frozen=True)
class Arm:
    """What one arm does; what an arm does not name is as published.

    Attributes:
        protocol: "ours" or "as_released"; the latter has every released switch on.
        steps: Steps of the mining: "s123", "s12", "s13", "s23" or "none".
        frames: Which frames the network gets, see `inputs.choose`; "tim" and "linear" bring all
            clips to one length. Anything but "all" goes with steps "none".
        length: Frames of "tim" and "linear"; 24 is the mean length of the headline clips.
        alpha: Of phase-based magnification of the benchmark's clips, on top of the exact one; 0 is
            none.
        count_weight: Weight of the count loss.
        margin_weight: Weight of the margin loss.
        bn: Mode of batch norm; see `FrameNet`.
        legacy: Released oddities, any of `LEGACY`.
        classifier: "akmnet"; "resnet" or "vgg", the plain ones of Table VII, on one frame; or
            "lbp-top", the classic baseline.
        apex_error: Standard deviation of the annotated apex about the true one, in frames.

    Raises:
        BadInput: An unknown option, or one that would do nothing: its row would have an untrue
            name.
    """

    protocol: Annotated[str, PROTOCOLS] = "ours"
    steps: str = "s123"
    frames: Annotated[str, ("all", *CHOICES)] = "all"
    length: int = 24
    alpha: float = 0.0
    count_weight: float = 0.1
    margin_weight: float = 1.0
    bn: str = "packed"
    legacy: Annotated[tuple[str, ...], LEGACY] = ()
    classifier: Annotated[str, ("akmnet", "resnet", "vgg", "lbp-top")] = "akmnet"
    apex_error: Annotated[float, 0, 100] = 0.0

    def __post_init__(self):
        selects = self.steps in ("s123", "s13", "s23")
        released, plain = self.protocol == "as_released", self.classifier != "akmnet"
        idle = {
            "frames": self.steps != "none",
            "length": self.frames not in RESAMPLED,
            "count_weight": not selects,
            "margin_weight": not selects,
            "bn": released or self.classifier == "vgg",
            "legacy": released or plain or (not selects and {*self.legacy} != {"gru_init"}),
            "classifier": plain and self.frames not in ("apex", "max-key"),
            "apex_error": self.frames not in inputs.BY_APEX,
        }
        if self.classifier == "lbp-top":
            idle = dict.fromkeys(vars(self), True) | {"classifier": False}
        arms.check_arm(self, **idle)

    def options(self) -> dict:
        """The options of `AkmNet`."""
        released = self.protocol == "as_released"
        switches = {f"legacy_{name}": True for name in (LEGACY if released else self.legacy)}
        return {"steps": self.steps, "bn": "released" if released else self.bn, **switches}


def grid(profile: str = "smoke", **asked) -> dict[str, list[dict]]:
    """Parameters of all units of a profile.

    Args:
        profile: "smoke", "full" or "paper".
        asked: The other parameters of a notebook, see `arms.plan`; in "paper" also those of
            `inputs.official`, such as ``weights``. There the arms are those of `OFFICIAL`, each by
            both protocols. Folds are groups of people; in "paper", without a number of them, one
            person each.

    Returns:
        Arm -> parameters of `unit`, seed by seed and fold by fold. On the benchmark units of one
        seed and fold share work over arms; on official data a control trains its "s123" for itself.

    Raises:
        BadInput: As `arms.plan`; an arm that is not in the table; as `micro.read_classes`.
    """
    asked = arms.plan(profile, PROFILES, SWEEP, micro.DATASETS, **asked)
    if profile != "paper":
        return arms.units_of(ARMS, vars(Arm()), **asked)
    about = ("dataset", "root", "pictures", "strict")
    reads = {k: asked["data"][k] for k in about if k in asked["data"]}
    listing, _ = micro.read_classes(**reads)
    asked["n_folds"] = listing.table["person"].nunique()
    vgg = {"vgg_weights": asked["data"].pop("vgg_weights", None)}  # decides its own arms alone
    asked["names"] = [f"{protocol}: {name}" for protocol in PROTOCOLS for name in asked["names"]]
    arms_of = {a: o | vgg if o.get("classifier") == "vgg" else o for a, o in OFFICIAL.items()}
    every = {f"{p}: {a}": {"protocol": p, **o} for p in PROTOCOLS for a, o in arms_of.items()}
    return arms.units_of(every, vars(Arm()), **asked)


# ---- one unit ------------------------------------------------------------------------------------


def unit(
    *,
    data: Mapping[str, object],
    arm: Mapping[str, object],
    seed: int,
    fold: int,
    folds: int | None = 8,
    epochs: int | None = None,
    device: str = "cpu",
) -> tuple[dict, dict[str, np.ndarray]]:
    """Train one arm and test it on people whom it has not seen; for `units.run`.

    On official data each epoch's end is written to disk, see `arms.checkpoint`.

    Args:
        data: Of the benchmark arguments of `task.benchmark`; with a ``dataset`` those of
            `inputs.official`.
        arm: Fields of `Arm`.
        seed: Random seed of people and clips of the benchmark, and of folds of official data. First
            weights, order, draws, crops and dropout come from it too; on the benchmark, from it and
            the fold.
        fold: Of the benchmark, whose people learn; of official data, whose are tested. From 0 on.
        folds: Number of folds; None, of official data alone, leaves one person out, in the order of
            their names.
        epochs: Epochs of training; None for the data set's own.
        device: Where to compute.

    Returns:
        Metrics: number of `clips` tested, and `correct`, how many of them are classified so in the
        end; `trained_on`, number of clips, each counted once; the last epoch's training `loss`;
        `people`, all of the data; `classes`. Of official data also the file that its
        network (not the one that mined its frames) has for a `start`, or "random", its `sha256`,
        number of `tensors_loaded` into the frame network, names of `tensors_left`, which start at
        random; `missing` and `faults` of the data.
        Predictions, a row for each clip tested: dataset, subject, clip, person, fold, truth; T, and
        onset, apex and offset in it, -1 for an apex that is not known; logits float32 (C, classes)
        in the end; epochs int64 (C, E), the class predicted after each; kept, how many frames the
        GRU got; apex_kept, whether the apex was among them, -1 where it is not known or frames are
        mixtures of all; max_key, the frame with the largest score, -1 without mining; most_changed,
        the frame that differs most from the first.

    Raises:
        BadInput: An unknown option; one that would not do anything; no such fold; as the source.
    """
    arm, run = arms.read_arm(Arm, arm), Run(seed, fold, folds, epochs, device)
    if "dataset" in data:
        source = inputs.official(**data)
    elif fold not in range(folds or 0):
        raise BadInput(f"fold {fold}", "there is no such fold", "count from 0, below their number")
    else:
        source = benchmark(seed, fold, **hashable(data))
        run = replace(run, seed=1000 * seed + fold, folds=None)  # of arms with more folds, too
    test = tested(source, run)
    with arms.checkpoint(unit, data, vars(arm), vars(run)) as file:
        by_hand = arm.classifier == "lbp-top"
        result = classic(source, test) if by_hand else trained(source, arm, run, file)
    rows = np.flatnonzero(test)
    table = source.table[test].rename(columns={"label": "truth"}).assign(fold=fold)
    table = table.assign(kept=result.takes[rows], max_key=result.max_key[rows])
    table["most_changed"] = [most_changed(source.pixels(row)) for row in rows]
    table["apex_kept"] = -1
    if result.kept is not None:
        hits = zip(rows, table["apex"], strict=True)
        table["apex_kept"] = [int(result.kept[row][a]) if a >= 0 else -1 for row, a in hits]
    predictions = arms.columns(table, table)
    predictions |= {"logits": result.logits, "epochs": result.epochs}
    correct = int((predictions["epochs"][:, -1] == predictions["truth"]).sum())
    metrics = {"clips": len(rows), "correct": correct, "trained_on": int((~test).sum())}
    metrics |= {"people": sorted(set(source.table["person"])), "classes": list(source.classes)}
    return metrics | result.metrics | source.about, predictions


def most_changed(pixels: np.ndarray) -> int:
    """The frame of uint8 (T, 1, H, W) that differs most from the first, by mean |difference|."""
    frames = torch.from_numpy(pixels).float()
    return int((frames - frames[0]).abs().mean((1, 2, 3)).argmax())


@dataclass(frozen=True)
class Run:
    """What a training shares with its controls; attributes as the arguments of `unit`.

    Of the benchmark the seed is that of a seed and a fold.
    """

    seed: int
    fold: int
    folds: int | None
    epochs: int | None
    device: str


def tested(source: Source, run: Run) -> np.ndarray:
    """Which clips are tested, bool (C,); all others are trained on."""
    if source.tested is not None:
        return source.tested
    return held_out(source.table["person"].tolist(), run.fold, run.folds, run.seed)


class Trained(NamedTuple):
    """What one fold's classifier gives; for all C clips, those of its training too.

    Attributes:
        logits: float32 (test clips, classes) in the end.
        epochs: int64 (test clips, E), the class after each epoch.
        takes: int64 (C,), how many frames of a clip reach the GRU.
        kept: Which, bool (T,) a clip, mined after the last epoch or chosen beforehand; None of
            resampled clips, whose frames are mixtures.
        max_key: int64 (C,), the frame with the largest score; -1 without mining.
        metrics: What else the unit reports.
    """

    logits: np.ndarray
    epochs: np.ndarray
    takes: np.ndarray
    kept: Sequence[np.ndarray] | None
    max_key: np.ndarray
    metrics: Mapping[str, object]


@lru_cache(maxsize=4)
def trained(source: Source, arm: Arm, run: Run, checkpoint: Path | None) -> Trained:
    """Train one fold of an arm; kept for the next units, which may be controls of this one.

    Args:
        source: The data.
        arm: What to train.
        run: Seed, fold and the like.
        checkpoint: Where the training is written to after each epoch; None for nowhere.
    """
    label, T = (torch.tensor(source.table[name].to_numpy()) for name in ("label", "T"))
    test = torch.tensor(tested(source, run))
    rows, protocol = torch.arange(len(label)), source.protocols[arm.protocol]
    method = arm.frames if arm.frames in RESAMPLED else ""
    frames = None
    if arm.frames != "all" and not method:
        mined = {"apex_error": arm.apex_error}
        if arm.frames in inputs.BY_MINING:
            first = checkpoint and checkpoint.with_name("s123.pt")
            own = replace(arm, steps="s123", frames="all", classifier="akmnet", apex_error=0.0)
            s123 = trained(source, own, run, first)
            mined |= {"takes": s123.takes.tolist(), "max_key": s123.max_key.tolist()}
        frames = inputs.choose(arm.frames, source, run.seed, **mined)
    epochs, net = run.epochs or protocol.recipe.epochs, network(source, arm, run.seed)
    start, period = source.start(net.frame_net), epochs / (protocol.turns or 1)
    shown = {"crop": protocol.crop, "method": method, "length": arm.length, "alpha": arm.alpha}
    clip = source.clips(network=net.frame_net.kind, **shown)
    # Test clips are neither cropped nor drawn: the same batches serve each epoch's record.
    whole = ClipBatches(clip, label, rows, source.test_size, net.frame_net.frozen, frames)
    unseen, seen = replace(whole, rows=rows[test]), rows[~test]
    seen = inputs.balanced(label, seen, run.seed) if protocol.balance else seen
    loss = partial(akm_loss, count_weight=arm.count_weight, margin_weight=arm.margin_weight)
    recipe = replace(protocol.recipe, loss=loss, epochs=epochs, period=period)
    # The order of clips and dropout come from the seed too, whatever the arm has drawn before.
    model = Recorded(net, recipe.epochs, len(unseen.rows), len(source.classes))
    how = {"seed": run.seed, "device": run.device, "checkpoint": checkpoint}

    def note(model: Recorded) -> float:
        return model.note(torch.cat([out.logits for out in outputs(model, unseen, run.device)]))

    how |= {"validate": note, "progress": bool(checkpoint)}
    history = train(model, replace(whole, rows=seen, size=protocol.size), recipe, **how)
    # Of the training's clips too: a control takes as many frames of them as were kept here.
    minings = [out.mining for out in outputs(model.eval(), whole, run.device)]
    kept = [mask.cpu().numpy() for mining in minings for mask in mining.split(mining.kept)]
    takes = np.array([mask.sum() for mask in kept])
    if frames is not None:
        kept = [np.isin(np.arange(t), some) for t, some in zip(T.tolist(), frames, strict=True)]
    scored = minings[0].score is not None
    max_key = np.concatenate([m.max_key() if scored else [-1] * len(m.lengths) for m in minings])
    each, kept = model.record.cpu(), None if method else kept  # (E, test clips, classes)
    logits = [each[max(0, e - protocol.last) : e].mean(0) for e in range(1, len(each) + 1)]
    logits = torch.stack(logits).numpy()
    metrics = {"loss": history.epochs[-1].loss, **start}
    return Trained(logits[-1], logits.argmax(-1).T, takes, kept, max_key, metrics)


def network(source: Source, arm: Arm, seed: int) -> nn.Module:
    """The network with first weights drawn from the seed, and nothing loaded."""
    with isolated_rng(seed):
        net = AkmNet(len(source.classes), **source.sizes, **arm.options())
        if arm.classifier == "akmnet":
            return net
        plain = net.frame_net  # as wide at its end
        plain = Vgg11(plain.widths[-1]) if arm.classifier == "vgg" else plain
        return OneFrame(plain, len(source.classes))


def outputs(model: nn.Module, batches: ClipBatches, device: str) -> Iterator[AkmOutput]:
    """What a model in evaluation mode gives for each batch, without gradients."""
    for clips, _ in batches:
        with torch.no_grad():
            yield model(**moved(clips, device))


def classic(
    source: Source, test: np.ndarray, *, grid: int = 4, radius: int = 3, penalty: float = 100.0
) -> Trained:
    """The classic baseline: LBP-TOP read by a linear support vector machine (Table III, first row).

    There is nothing random, and no frame is mined. It has not seen the stills that AKMNet's frame
    network is pre-trained on.

    Args:
        source: Of C clips.
        test: bool (C,), the clips to test on.
        grid: Blocks down and across.
        radius: Radius of the circles, in pixels and frames; 3 as in the paper.
        penalty: C of the support vector machine; features are shares, not scaled. On development
            seeds 1 costs 0.13 of accuracy, 1,000 changes nothing.

    Returns:
        One epoch. Logits are one class against the rest, -inf for a class that no training clip
        shows; the class is that of the votes of all pairs, which need not have the largest.

    Raises:
        BadInput: As `lbp_top` for clips too short for the radius.
    """
    label = torch.tensor(source.table["label"].to_numpy())
    clips = [torch.from_numpy(source.pixels(i)).float() for i in range(len(label))]
    features = torch.stack([lbp_top(x, grid=(grid, grid), radius=radius) for x in clips]).numpy()
    # Weights do what drawing clips of rare classes again does in the mean, and nothing is drawn.
    options = {"class_weight": "balanced", "decision_function_shape": "ovr"}
    machine = SVC(kernel="linear", C=penalty, **options).fit(features[~test], label[~test])
    margins = machine.decision_function(features[test])
    if margins.ndim == 1:  # two classes have one margin
        margins = np.stack([-margins, margins], 1)
    logits = np.full((int(test.sum()), len(source.classes)), -np.inf, np.float32)
    logits[:, machine.classes_] = margins
    epochs, T = machine.predict(features[test])[:, None], source.table["T"].to_numpy()
    return Trained(logits, epochs, T, [np.ones(t, bool) for t in T], np.full(len(T), -1), {})
