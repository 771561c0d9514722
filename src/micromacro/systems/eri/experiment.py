"""Reaction intensity: arms, and a unit that trains on some people and tests on others.

All arms of a seed share people, clips, features, first weights where the network is the same, and
the order of clips; they differ in what their name says. The people who are tested are in no
training. The score is that of the challenge: Pearson's correlation over all clips that are tested,
mean of the seven.

"As released" has three things of the published program: sound in a layout without time, features
with batch norm in training mode, nothing scaled. On the benchmark its recipe is that of all arms.
Numbers are of the last epoch; what the best one, chosen on the test clips, would have given is a
row beside them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from micromacro import arms
from micromacro.audio import legacy_mfcc_layout, log_mel, read_audio
from micromacro.cache import hashable
from micromacro.datasets import hume
from micromacro.datasets.table import find_root
from micromacro.errors import BadInput, check_choice
from micromacro.expression_encoder import load_expression_encoder
from micromacro.metrics import pcc
from micromacro.systems.eri import inputs, task
from micromacro.systems.eri.inputs import PARTS, Batches, Clip
from micromacro.systems.eri.model import EMOTIONS, LOSSES, READOUTS, EriNet
from micromacro.training import Recipe, Recorded, isolated_rng, predict, train

DATASETS = {"hume": hume.read_hume}
LAYOUTS, CONTROLS = ("time", "released"), ("", "untrained", "labels")
SR_HZ, FPS = 16000, 30  # rows a second of a sound without a face
REMEDY = 'add it, or take arms that do not: VARIANTS=["as released", "holistic + AU"]'
SHORTEST = 0.01  # of a clip: an event then has the 3 frames that it needs, 2 to 8 % of these clips
EVENTS = {0.5: "events 50%", 0.1: "events 10%", 0.05: "events 5%", SHORTEST: "events 3 frames"}
BACKWARDS = ", backwards"  # ends the name of a clip
FIFTHS = ("shortest", "short", "middle", "long", "longest")
OURS = Recipe(lr=2e-3, weight_decay=0.05, schedule="one_cycle", epochs=16, clip_norm=1.0)
# As released: the rate is halved every ten epochs; the best was found about the tenth.
PAPER = Recipe(lr=1e-4, weight_decay=0.5, schedule="steps", epochs=100, clip_norm=1.0)
PAPER = replace(PAPER, milestones=tuple(range(10, 100, 10)), factor=0.5)
SMALL = {"width": 32, "depth": 2, "heads": 4, "mlp": 32}
# Reactions that rise and end at once, forwards and backwards: the order of frames alone tells.
TURNED = {"turned": True, "apex": [1.0, 1.0], "share": 0.5, "frames": [40, 80]}

CORE: dict[str, dict] = {
    "all": {},
    "audio": {"parts": ["audio"]},
    "AU": {"parts": ["local"]},
    "holistic": {"parts": ["holistic"]},
    "holistic + AU": {"parts": ["holistic", "local"]},
    "holistic + audio": {"parts": ["holistic", "audio"]},
    "all, mean": {"readout": "mean"},
    "as released": {"layout": "released", "batch_norm": "train", "scaled": False},
}


def _each(what: str, readouts: Sequence[str] = READOUTS, **options: object) -> dict[str, dict]:
    """The read-outs side by side, with something turned."""
    names = {readout: "all" if readout == "token" else f"all, {readout}" for readout in readouts}
    return {f"{names[r]}, {what}": {"readout": r} | options for r in readouts}


SWEEP: dict[str, dict[str, dict]] = {
    "read-outs": {f"all, {r}": {"readout": r} for r in ("max", "last", "attention")},
    "share of events": arms.joined({name: _each(name, share=k) for k, name in EVENTS.items()}),
    "order": {
        "no GRU": {"gru": False},
        "no GRU, positions": {"gru": False, "positions": True},
        "shuffled frames": {"shuffled": True},
        "turned": TURNED,
        "no GRU, turned": {"gru": False} | TURNED,
        "no GRU, positions, turned": {"gru": False, "positions": True} | TURNED,
        "audio, turned": {"parts": ["audio"]} | TURNED,
        "released sound alone, turned": {"layout": "released", "parts": ["audio"]} | TURNED,
    },
    "controls": {
        "other sound": {"swapped": "audio"},
        "other AU": {"swapped": "local"},
        "untrained": {"control": "untrained"},
        "shuffled labels": {"control": "labels"},
    },
    "length": _each("long clips", ("token", "mean", "last"), test_frames=[320, 640]),
    "layout": {
        "released sound": {"layout": "released"},
        "released sound alone": {"layout": "released", "parts": ["audio"]},
        "batch norm in training mode": {"batch_norm": "train"},
        "nothing scaled": {"scaled": False},
    },
    "recipe": {
        "weight decay 0.5": {"weight_decay": 0.5},
        "no weight decay": {"weight_decay": 0.0},
        "loss 1 - PCC": {"loss": "pcc"},
    },
}
"""Group -> arm -> options; what an arm does not name is as in the core table."""

ARMS = CORE | arms.joined(SWEEP)
_TINY = {"epochs": 3, "data": {"subjects": 8, "test_subjects": 6, "per_subject": 3}}
_TRIAL = {"epochs": 2, "data": {"sizes": SMALL}}
PROFILES = {
    "smoke": {"arms": ("all", "audio"), "seeds": (1000,), **_TINY},
    "full": {"arms": CORE, "seeds": range(8), "epochs": None, "trial": _TINY},
    "paper": {"arms": ("as released", "all"), "seeds": (0,), "epochs": None, "trial": _TRIAL},
}


@dataclass(frozen=True)
class Arm:
    """What one arm does; the defaults are the paper's network with our features.

    Attributes:
        parts: What of a clip is shown: names of `inputs.PARTS`.
        readout: What becomes a clip's vector, a name of `model.READOUTS`.
        gru: Run a GRU over the frames first.
        positions: Tell the transformer the frames' numbers.
        shuffled: Put the frames of each clip in random order, in training and test. A control.
        swapped: Part that each clip gets from another one, in training and test; "" for none. A
            control.
        control: "untrained" tests the first weights; "labels" trains on labels dealt out at random.
        layout: Of the sound: "time", log-mel at each frame; "released", 32 rows that are no times.
        batch_norm: Mode in which the holistic features were made, "eval" or "train".
        scaled: Standardise each feature by the training clips.
        loss: "mse", or "pcc" for 1 - PCC over the batch.
        weight_decay: In place of the recipe's; None keeps that.

    Raises:
        BadInput: An unknown option, or one that would do nothing: its row would have an untrue
            name.
    """

    parts: Annotated[tuple[str, ...], PARTS] = PARTS
    readout: Annotated[str, READOUTS] = "token"
    gru: bool = True
    positions: bool = False
    shuffled: bool = False
    swapped: Annotated[str, ("", *PARTS)] = ""
    control: Annotated[str, CONTROLS] = ""
    layout: Annotated[str, LAYOUTS] = "time"
    batch_norm: Annotated[str, inputs.BATCH_NORMS] = "eval"
    scaled: bool = True
    loss: Annotated[str, LOSSES] = "mse"
    weight_decay: Annotated[float | None, 0, 10] = None

    def __post_init__(self):
        arms.check_arm(
            self,
            swapped=self.swapped not in self.parts,
            layout="audio" not in self.parts,
            loss=self.control == "untrained",
            weight_decay=self.control == "untrained",
            batch_norm="holistic" not in self.parts,
        )


OFFICIAL = {name: own for name, own in ARMS.items() if {*own} <= {*vars(Arm())}}
# There the features are as their folder has them, and the recipe's decay is 0.5.
del OFFICIAL["batch norm in training mode"], OFFICIAL["weight decay 0.5"]


# ---- sources -------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def benchmark(
    seed: int,
    subjects: int = 60,
    test_subjects: int = 60,
    per_subject: int = 6,
    test_frames: tuple[int, int] | None = None,
    turned: bool = False,
    **dials,
) -> arms.Source:
    """The benchmark's clips and their features, made once for all arms of a seed.

    Args:
        seed: Random seed; another seed draws other people and reactions.
        subjects: People to train on.
        test_subjects: People to test.
        per_subject: Clips of each.
        test_frames: Fewest and most frames of a clip that is tested, in place of the dial's.
        turned: Make half as many clips, and show each once more, backwards, with 1 less each of its
            intensities. What does not know the order of frames sees the same clip twice, and can
            guess nothing; but the released layout of a sound has no times, so there the sound
            itself is turned. Events are listed of the clips that run forwards alone, so attention
            is scored on these.
        dials: Fields of `task.Dials`.

    Returns:
        Tables of clips and events, see `task`. A clip is loaded by its name, the layout of its
        sound and the mode of batch norm.
    """
    longer = {"frames": test_frames} if test_frames else {}
    n = -(-per_subject // 2) if turned else per_subject
    sides = [
        task.clips(subjects, n, seed, split="train", **dials),
        task.clips(test_subjects, n, seed, split="test", **dials | longer),
    ]
    encoder, made = load_expression_encoder(), {}
    for side in sides:
        for clip in side.clips["clip"]:
            scene = side.scene(clip)
            frames, sound = torch.cat([*scene.frames()]), scene.speech.sound  # (T, 1, 48, 48)
            heard = log_mel(sound, SR_HZ, len(frames)), legacy_mfcc_layout(sound, SR_HZ)
            # Rows of the released layout are no times: there the sound itself is turned.
            turning = None, legacy_mfcc_layout(sound[::-1], SR_HZ) if turned else None
            looks = {mode: inputs.holistic(frames, encoder, mode) for mode in inputs.BATCH_NORMS}
            ears = zip(LAYOUTS, heard, turning, strict=True)
            for (layout, rows, back), mode in product(ears, looks):
                made[clip, layout, mode] = own = Clip(looks[mode], scene.local, rows)
                if turned:
                    made[clip + BACKWARDS, layout, mode] = inputs.backwards(own, back)
    tables = zip(*[side[:2] for side in sides], strict=True)
    clips, events = (pd.concat(parts, ignore_index=True) for parts in tables)
    if turned:
        said = {emotion: 1 - clips[emotion] for emotion in EMOTIONS}
        again = clips.assign(clip=clips["clip"] + BACKWARDS, **said)
        clips = pd.concat([clips, again], ignore_index=True)
    return arms.Source(clips, lambda *key: made[key], SMALL, OURS, events)


def official(dataset: str, root: str, *, cache: str, sizes=None, **folders) -> arms.Source:
    """An official data set, by the released recipe; tested on validation: the test is unlabelled.

    In which mode of batch norm the features were made is a matter of their folder, not of an arm.

    A unit reads all features of two splits into memory: 0.7 MB a clip of ten seconds at 30
    frames/s, so some 15 GB of Hume-Reaction, and an eighth more while it takes means and
    deviations.

    Args:
        dataset: A key of `DATASETS`.
        root: Its folder, as data/README.md shows.
        cache: Folder for checkpoints, made if missing.
        sizes: Options of `EriNet` in place of the published ones.
        folders: Of the reader: names of folders of features.

    Raises:
        BadInput: As the reader.
    """
    check_choice("dataset", dataset, DATASETS)
    listing = DATASETS[dataset](root, **folders)
    table = listing.table[listing.table["split"].isin(["train", "val"])]
    rows = {row["clip"]: row for row in table.to_dict("records")}

    def load(clip: str, layout: str, _: str) -> Clip:
        shown, sound = Clip(**hume.load(rows[clip])), rows[clip]["sound"]
        if layout == "released":
            return shown
        if not isinstance(sound, str):
            return replace(shown, audio=None)
        heard = read_audio(sound)
        n = shown.rows("video") or max(1, round(FPS * len(heard) / SR_HZ))
        return replace(shown, audio=log_mel(heard, SR_HZ, n))

    clips = table.assign(split=table["split"].replace("val", "test"))
    return arms.Source(clips, load, sizes or {}, PAPER, missing=listing.missing)


def input_files(params: Mapping) -> list[Path]:
    """What a unit reads of an official data set: sheets, features and sounds, no films."""
    data = params["data"]
    if "root" not in data:
        return []
    files = official(**data).clips[[*PARTS, "sound"]].to_numpy().ravel()
    folder, _ = find_root(data["root"], [*hume.SHEETS])
    return [*sorted(folder.glob("*.csv")), *(Path(f) for f in files if isinstance(f, str))]


# ---- the grid ------------------------------------------------------------------------------------


def grid(profile: str = "smoke", **asked) -> dict[str, list[dict]]:
    """Parameters of all units of a profile.

    Args:
        profile: "smoke", "full" or "paper".
        asked: The other parameters of a notebook, see `arms.plan`. There are no folds: a split says
            who is tested.

    Returns:
        Arm -> parameters of `unit`, seed by seed.

    Raises:
        BadInput: As `arms.plan`; an arm that is not in the table, or that hears at each frame what
            official data have no sound of.
    """
    asked = arms.plan(profile, PROFILES, SWEEP, DATASETS, **asked)
    units = arms.units_of(OFFICIAL if profile == "paper" else ARMS, vars(Arm()), **asked)
    if profile == "paper" and official(**asked["data"]).clips["sound"].isna().all():
        for name, (one, *_) in units.items():
            arm = arms.read_arm(Arm, one["arm"])
            if arm.layout == "time" and "audio" in arm.parts:
                fault = f"has the sound of no clip, which arm {name!r} hears at each frame"
                raise BadInput(Path(asked["data"]["root"], "wav"), fault, REMEDY)
    return units


# ---- one unit ------------------------------------------------------------------------------------


def unit(
    *, data: dict, arm: dict, seed: int, fold: int, epochs: int | None = None, device: str = "cpu"
) -> tuple[dict, dict[str, np.ndarray]]:
    """Train one arm on the training split and test it on the other; for `units.run`.

    On official data each epoch's end is written to disk, see `arms.checkpoint`.

    Args:
        data: Of the benchmark arguments of `benchmark`; with a ``dataset`` those of `official`.
        arm: Fields of `Arm`; on official data those of an arm in `OFFICIAL`.
        seed: Random seed of the benchmark's people and clips, of first weights and order.
        fold: 0; the split is fixed.
        epochs: Epochs of training; None for the recipe's.
        device: Where to compute.

    Returns:
        Metrics: `parameters`, number of weights; the last epoch's training `loss`; `trained_on`,
        number of clips; `missing` clips. Predictions, a row for each of N clips tested: clip,
        subject, n_frames, the rows of the face or, without one, of the sound; truth float32 (N, 7);
        predicted float16 (N, 7), after the last epoch; epochs float16 (E, N, 7). Where it is known
        what shows when, and a network has read-out weights over the face's frames in their order:
        attention float16 and inside bool, of the clips' frames in turn.

    Raises:
        BadInput: An unknown option; one that would not do anything; as the source.
    """
    check_choice("fold", fold, [0])
    arm = arms.read_arm(Arm, arm)
    source = official(**data) if "dataset" in data else benchmark(seed, **hashable(data))
    learnt, tested = (source.clips[source.clips["split"] == split] for split in ("train", "test"))
    shown, unseen = (_clips(source, arm, table, seed) for table in (learnt, tested))
    if arm.scaled:
        shown, unseen = (inputs.Standardised(clips, shown) for clips in (shown, unseen))
    target, truth = (torch.tensor(t[[*EMOTIONS]].to_numpy(np.float32)) for t in (learnt, tested))
    if arm.control == "labels":
        draws = torch.Generator().manual_seed(seed)
        target = target[torch.randperm(len(target), generator=draws)]
    decay = source.recipe.weight_decay if arm.weight_decay is None else arm.weight_decay
    recipe = replace(source.recipe, loss=LOSSES[arm.loss], weight_decay=decay)
    recipe = replace(recipe, epochs=epochs or recipe.epochs)
    widths = inputs.widths(shown, arm.parts)
    batches, unseen_batches = (
        Batches(clips, labels, parts=arm.parts, widths=widths)
        for clips, labels in ((shown, target), (unseen, truth))
    )
    video = sum(n for part, n in widths.items() if part != "audio")
    with isolated_rng(seed):
        options = {name: getattr(arm, name) for name in ("readout", "gru", "positions")}
        net = EriNet(video, widths.get("audio", 0), **source.sizes, **options)
    model = Recorded(net, recipe.epochs, len(unseen), len(EMOTIONS))
    metrics = {"parameters": sum(p.numel() for p in net.parameters())}
    metrics |= {"trained_on": len(shown), "missing": source.missing}

    def note(model: Recorded) -> float:
        return model.note(predict(model, unseen_batches, device))

    if arm.control == "untrained":
        note(model.to(device).eval())
        model.record = model.record[:1]
    else:
        with arms.checkpoint(unit, data, vars(arm), seed, recipe.epochs, device) as file:
            how = {"seed": seed, "device": device, "checkpoint": file, "progress": bool(file)}
            history = train(model, batches, recipe, validate=note, **how)
        metrics["loss"] = history.epochs[-1].loss
    predictions = arms.columns(tested, ["clip", "subject"])
    # No sheet says it.
    predictions["n_frames"] = np.array([c.rows("video") or c.rows("audio") for c in unseen])
    record = model.record.cpu().numpy().astype(np.float16)
    predictions |= {"truth": truth.numpy(), "predicted": record[-1], "epochs": record}
    seen_in_order = video and not arm.shuffled
    if source.events is not None and seen_in_order and arm.readout in ("token", "attention"):
        predictions |= _looks(model.cpu().eval(), unseen_batches, source.events, predictions)
    return metrics, predictions


def _clips(source: arms.Source, arm: Arm, table: pd.DataFrame, seed: int) -> list[Clip]:
    """The clips of a table, with what the arm does to them."""
    draws = torch.Generator().manual_seed(seed)
    clips = [source.load(name, arm.layout, arm.batch_norm) for name in table["clip"]]
    if arm.swapped:
        clips = inputs.swapped(clips, arm.swapped, draws)
    return [inputs.shuffled(clip, draws) for clip in clips] if arm.shuffled else clips


def _looks(model: Recorded, batches: Batches, events: pd.DataFrame, tested: Mapping) -> dict:
    """Attention to the frames of the face, and whether a reaction shows in them, clip by clip."""
    looks, order = [Tensor()] * len(batches.order), iter(batches.order.tolist())
    for batch, _ in batches:
        shares = model.net.attention(**batch)["video"].cpu()
        for share, n in zip(shares, batch["video_lengths"].tolist(), strict=True):
            looks[next(order)] = share[:n]
    inside = {clip: np.zeros(len(x), bool) for clip, x in zip(tested["clip"], looks, strict=True)}
    for clip, onset, offset in events[["clip", "onset", "offset"]].itertuples(index=False):
        if clip in inside:
            inside[clip][onset : offset + 1] = True
    attention = torch.cat(looks).numpy().astype(np.float16)
    return {"attention": attention, "inside": np.concatenate([*inside.values()])}


# ---- scores --------------------------------------------------------------------------------------


def rows(units: Sequence) -> list[dict]:
    """The scores of one arm and seed as fields of rows, for `results.unit_rows`.

    Metrics: `pcc`, mean of the seven, over all clips tested; `pcc_<emotion>`; `pcc_best_epoch`, of
    the epoch that suits the tested clips best, and `best_epoch`, its number from 1 on;
    `pcc_shortest` to `pcc_longest`, by fifths of length; `attention_auc`, whether frames in which
    the reaction shows get more attention than others of their clip, mean over clips, and
    `attention_share`, how much of it they get, over their share of the frames; `events_share`, that
    share.
    """
    (one,) = units
    arrays = one.predictions()
    truth, predicted, frames = (arrays[k] for k in ("truth", "predicted", "n_frames"))
    predicted = predicted.astype(np.float64)
    values = {"pcc": pcc(predicted, truth)}
    values |= {f"pcc_{e}": pcc(predicted[:, k], truth[:, k]) for k, e in enumerate(EMOTIONS)}
    by_epoch = [pcc(record.astype(np.float64), truth) for record in arrays["epochs"]]
    values |= {"pcc_best_epoch": max(by_epoch), "best_epoch": 1 + int(np.argmax(by_epoch))}
    fifth = np.argsort(np.argsort(frames, kind="stable")) * min(5, len(frames)) // len(frames)
    for k, name in enumerate(FIFTHS[: len(frames)]):
        values[f"pcc_{name}"] = pcc(predicted[fifth == k], truth[fifth == k])
    if "attention" in arrays:
        ends = frames.cumsum()[:-1]
        clips = zip(*(np.split(arrays[k], ends) for k in ("attention", "inside")), strict=True)
        clips = [(look.astype(np.float64), shown) for look, shown in clips if 0 < shown.mean() < 1]
        shares = [look[shown].sum() / shown.mean() for look, shown in clips]
        values["attention_auc"] = np.mean([roc_auc_score(shown, look) for look, shown in clips])
        values["attention_share"] = np.mean(shares)
        values["events_share"] = np.mean([shown.mean() for _, shown in clips])
    return arms.score_rows(units, values, n=len(truth))
