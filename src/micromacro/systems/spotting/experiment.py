"""Spotting's experiment: arms, and one unit that trains a spotter and searches the videos of a fold.

All arms of a seed and a fold share people, videos, gaps, first weights where the network is the same,
and the order of the frames that they train on; they differ in what their name says. People are whole:
gaps, weights and thresholds come from the training people alone, and the fold's people are searched
once, after the last step. The scores are of all folds together, so that every video counts once.

The paper's code was not released, and its loss, recipe, labels and post-processing are unknown: all of
`Arm` and `RECIPE` is our choice, and there is no arm "as released". Its peers stand beside it by their
own inputs and networks, with our recipe and post-processing, so that only the spotter differs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from micromacro.arms import check_arm, read_arm, units_of
from micromacro.cache import code_key, digest, hashable, kept
from micromacro.datasets import long
from micromacro.datasets.table import check_profile, find_root
from micromacro.errors import BadInput, check_choice
from micromacro.files import project_root
from micromacro.folds import held_out
from micromacro.systems.spotting import inputs, intervals, scoring, task
from micromacro.systems.spotting.model import FIRST_KERNELS, INPUTS, SoftNet, SpottingNet
from micromacro.systems.spotting.scoring import CLASSES
from micromacro.training import Recipe, isolated_rng, train

DATASETS = {"samm-lv": long.samm_lv, "casme-squared": long.casme_squared}
METHODS = ("3d-cnn", "k-gap flow", "accumulated flow", "mdmd", "tiling")
RECIPE = Recipe(
    loss=binary_cross_entropy_with_logits,
    lr=3e-3,
    weight_decay=1e-2,
    schedule="one_cycle",
    epochs=10,  # each a tenth of a unit's steps
)
EASIER = {"shares": (0.08, 0.1), "uneven": 0.4, "micro_px": (1.0, 1.5), "talking": 0.0}
BATCH, CHUNK = 72, 256  # frames of a training step; frames that are read at once
INTERVAL = ["video", "label", "onset", "offset"]

CORE: dict[str, dict] = {
    "two references": {},
    "micro reference": {"references": ["micro"]},
    "macro reference": {"references": ["macro"]},
    "z-score": {"inputs": "zscore"},
    "raw": {"inputs": "raw"},
    "k-gap flow": {"method": "k-gap flow"},
    "blind tiling": {"method": "tiling"},
}
_BESIDE = CORE | {"CLAHE": {"inputs": "clahe"}, "separate weights": {"shared": False}}


def _turned(what: str, *arms: str, **options: object) -> dict[str, dict]:
    """Arms with something turned; by default the one of two references."""
    return {f"{arm}, {what}": _BESIDE[arm] | options for arm in arms or ("two references",)}


_SPARSE = {"shares": [0.03, 0.04], "uneven": 0.8, "micro_px": [0.8, 1.5], "talking": 0.03}
_INPUTS = ("two references", "z-score", "raw", "CLAHE")
SWEEP: dict[str, dict[str, dict]] = {
    "light": {
        "CLAHE": _BESIDE["CLAHE"],
        **_turned("gradient", *_INPUTS, light="gradient"),
        **_turned("shadow", *_INPUTS, light="shadow"),
    },
    "gaps": {f"gaps x {factor}": {"factor": factor} for factor in (0.25, 0.5, 2.0, 4.0)}
    | {"swapped gaps": {"swapped": True}, "shuffled frames": {"shuffled": True}},
    "weights": {
        "separate weights": {"shared": False},
        **_turned("8 people", "two references", "separate weights", subjects=8),
    },
    "peers": {"accumulated flow": {"method": "accumulated flow"}, "MDMD": {"method": "mdmd"}},
    "drift of the head": _turned("drift 4 px", "two references", "k-gap flow", drift_px=4.0),
    "few events": _turned("sparse", "two references", "blind tiling", **_SPARSE),
    "frame rate": _turned("24 people", "two references", "k-gap flow", subjects=24)
    | _turned("200 fps", "two references", "k-gap flow", subjects=24, fps=200.0, n_frames=4000),
    "what the paper leaves open": {
        "future reference": {"reference": "future"},
        "symmetric reference": {"reference": "symmetric"},
        "random first kernel": {"first": "random"},
        "residual": {"residual": True},
        "overlap labels": {"labels": "overlap"},
        "soft labels": {"labels": "soft"},
    },
}
"""Group -> arm -> options; what an arm does not name is as in the core table."""

ARMS = CORE | {name: options for group in SWEEP.values() for name, options in group.items()}
_SMALL = {"widths": [8, 8, 16], "grid": 6, "hidden": 24, "dropout": 0.3}
_TINY = {"steps": 40, "data": {"subjects": 16, "n_frames": 450}}
_SMOKE = {"arms": ("two references", "blind tiling"), "seeds": (1000,), "folds": 2, **_TINY}
_FULL = {"arms": tuple(CORE), "seeds": range(8), "folds": 2, "steps": 250}
_PAPER = {"arms": ("two references", "blind tiling"), "seeds": (0,), "steps": 3000}
PROFILES = {"smoke": _SMOKE, "full": _FULL, "paper": _PAPER}


@dataclass(frozen=True)
class Arm:
    """What one arm does; what an arm does not name is our choice for the paper's network.

    Attributes:
        method: The paper's "3d-cnn"; SOFTNet over "k-gap flow", across each gap, or "accumulated
            flow", added up from frame to frame; "mdmd" and "tiling", which are not trained.
        references: Classes whose gap has a stream.
        factor: What the gaps of the training events are multiplied by.
        shuffled: Put the frames of each video in random order first, so that references are any
            frames of the video and time says nothing. A control.
        swapped: Exchange the gaps once the network is trained, before thresholds are fitted: each
            stream gets the other's reference. A control.
        labels: Rule of `inputs.labels`.
        reference: Where the references lie; see `SpottingNet`, as for the rest.
        inputs: Normalisation of frames.
        shared: All streams have the same weights.
        first: How the first kernels start.
        residual: Shortcuts.

    Raises:
        BadInput: An unknown option, or one that would do nothing: its row would have an untrue name.
    """

    method: str = "3d-cnn"
    references: tuple[str, ...] = CLASSES
    factor: float = 1.0
    shuffled: bool = False
    swapped: bool = False
    labels: str = "inside"
    reference: str = "past"
    inputs: str = "lcn"
    shared: bool = True
    first: str = "antisymmetric"
    residual: bool = False

    def __post_init__(self):
        choices = {"method": METHODS, "references": CLASSES, "labels": inputs.LABELS}
        choices |= {"reference": inputs.SIDES, "inputs": INPUTS, "first": FIRST_KERNELS}
        idle = dict.fromkeys(vars(self), self.method != "3d-cnn") | {"method": False}
        if len(self.references) < 2:
            idle |= {"shared": True, "swapped": True}
        check_arm(self, choices, idle)
        if not 0 < self.factor < np.inf:
            raise BadInput(f"factor={self.factor}", "makes no gap", "leave it out, or give e.g. 2")


class Source(NamedTuple):
    """Videos to search, from the actor or from official files.

    Attributes:
        videos: Table of videos; see `task` and `long`, as for the events.
        events: Table of events.
        frames: Gives a video's frames uint8 (T, 1, H, W), in memory or mapped from disk.
        sizes: Options of `SpottingNet`.
        missing: Names of videos that are listed but not there.
        checkpoints: Folder for trainings under way; None where none is written.
    """

    videos: pd.DataFrame
    events: pd.DataFrame
    frames: Callable[[str], Tensor]
    sizes: Mapping[str, object]
    missing: tuple[str, ...] = ()
    checkpoints: Path | None = None


@lru_cache(maxsize=1)
def benchmark(seed: int, kind: str = "cas", subjects: int = 48, **dials) -> Source:
    """The benchmark's videos, rendered once for all arms and folds of a seed.

    With 4 % of macro frames, as in CAS(ME)^2, and 3 % of micro ones, 48 people had too few events for
    the network to learn from (development seeds). So "cas" has 10 % and 8 % here, and nobody talks; the
    sparse case is in `SWEEP`.
    """
    own = EASIER if kind == "cas" else {}
    made = task.videos(kind, subjects, seed, **own | dials)  # of 600 frames, or 2,000 at 200 fps
    parts = {name: list(made.frames(name)) for name in made.videos["video"]}
    frames = {name: (255 * torch.cat(own)).round().byte() for name, own in parts.items()}
    return Source(made.videos, made.events, frames.__getitem__, _SMALL)


def official(
    dataset: str, root: str, *, cache: str, image_px: int = 112, sizes=None, **options
) -> Source:
    """An official data set; its frames are resized once, not cropped, and kept on disk, 12.5 kB each.

    Args:
        dataset: A key of `DATASETS`.
        root: Its folder, as data/README.md shows.
        cache: Folder for the frames, made if missing: 6 GB for SAMM-LV, 3 GB for CAS(ME)^2. A unit
            has those of its training videos in memory, twice while it gathers them.
        image_px: Side of the frames.
        sizes: Options of `SpottingNet` in place of its own.
        options: Of the reader: `long.samm_lv`, `long.casme_squared`.

    Raises:
        BadInput: As the reader; raw pictures that `pictures` does not ask for, as they show more than
            the face; a cache that cannot be written.
    """
    check_choice("dataset", dataset, DATASETS)
    listing = DATASETS[dataset](root, **options)
    if "crop" not in listing.pictures.lower() and "pictures" not in options:
        remedy = f'get the official crops, or ask for pictures="{listing.pictures}"'
        raise BadInput(Path(root, listing.pictures), "shows more than the face", remedy)
    table = listing.videos.set_index("video")

    @lru_cache(maxsize=None)  # noqa: UP033 (cache is the folder); pictures are hashed once
    def frames(video: str) -> Tensor:
        make = partial(_write_frames, listing.frames, video, table["n_frames"][video], image_px)
        place, files = Path(cache) / "spotting" / dataset, [table["path"][video]]
        folder = kept(place, video, image_px, make, files=files, code=long)
        return torch.from_numpy(np.load(folder / "frames.npy", mmap_mode="c"))

    about = {"missing": listing.missing, "checkpoints": Path(cache) / "spotting" / "checkpoints"}
    return Source(listing.videos, listing.events, frames, sizes or {}, **about)


def _write_frames(read: Callable, video: str, n_frames: int, size: int, folder: Path) -> None:
    """Write a video chunk by chunk, so that its length does not matter."""
    shape, done = (int(n_frames), 1, size, size), 0
    stored = np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint8, shape)
    for part in read(video, size=size):
        stored[done : done + len(part)] = (255 * part).round().byte().numpy()
        done += len(part)
    stored.flush()


def input_files(params: Mapping) -> list[Path]:
    """What a unit reads of an official data set: sheet and pictures, not all else below its root."""
    data = params["data"]
    if "root" not in data:
        return []
    _, folders, *_ = long.RELEASES[data["dataset"]]
    sheets = {"samm-lv": long.SAMM_SHEETS, "casme-squared": long.CASME_SHEETS}[data["dataset"]]
    folders = [data["pictures"]] if "pictures" in data else folders
    return [find_root(data["root"], names)[1] for names in (sheets, folders)]


def _arms(profile: str) -> dict[str, dict]:
    """The arms of a profile: official videos have no dials, and their summed flow fills no memory."""
    fits = [name for name, options in ARMS.items() if {*options} <= {*vars(Arm())}]
    own = [name for name in fits if name != "accumulated flow"] if profile == "paper" else ARMS
    return {name: ARMS[name] for name in own}


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
    pictures: str | None = None,
    trial: bool | int = False,
) -> dict[str, list[dict]]:
    """Parameters of all units of a profile; arguments are a notebook's parameters.

    Args:
        profile: "smoke" and "full" on the benchmark; "paper" on official data.
        dataset: "synthetic", or in "paper" a key of `DATASETS`.
        data_root: Folder of the official data.
        seeds: None for 1000 in smoke, 0 to 7 in full, 0 in paper.
        variants: Names of arms; None for two in smoke and paper, `CORE` in full.
        folds: Number of groups of people; None for 2, and for one person each in paper.
        sweep: 1 adds `SWEEP` in full.
        device: Where to compute.
        pictures: Folder of official pictures in place of the data set's own crops.
        trial: Try the path: in full with the sizes of smoke, in paper with a tiny network, in two folds
            and few steps.

    Returns:
        Arm -> parameters of `unit`, seed by seed and fold by fold.

    Raises:
        BadInput: An unknown name; profile and data set that do not go together; as the reader.
    """
    check_profile(profile, dataset, DATASETS)
    default = PROFILES[profile] | (_TINY if trial and profile == "full" else {})
    names, data = [*(variants or default["arms"])], {**default.get("data", {})}
    common = {"folds": folds or default.get("folds"), "steps": default["steps"], "device": device}
    n_folds = common["folds"]
    if profile == "paper":
        data = {"dataset": dataset, "root": str(data_root)}
        data["cache"] = str(project_root() / "runs" / "official")
        if pictures is not None:
            data["pictures"] = pictures
        if trial:
            common |= {"steps": 10, "folds": folds or 2}
            data |= {"image_px": 24, "sizes": {**_SMALL, "grid": 3}}
        n_folds = common["folds"] or official(**data).videos["subject"].nunique()
    elif sweep and profile == "full":
        names += [name for group in SWEEP.values() for name in group]
    common |= {"data": data, "seeds": seeds or default["seeds"], "n_folds": n_folds}
    return units_of(_arms(profile), names, vars(Arm()), **common)


# ---- one unit ------------------------------------------------------------------------------------


def unit(
    *,
    data: Mapping[str, object],
    arm: Mapping[str, object],
    seed: int,
    fold: int,
    folds: int | None = 2,
    steps: int = 250,
    device: str = "cpu",
) -> tuple[dict, dict[str, np.ndarray]]:
    """Train one arm on all folds but one, and search the videos of that; for `units.run`.

    On official data the training is written to ``<cache>/spotting/checkpoints`` after each tenth of
    its steps; killed and called again the unit goes on from there, with the same result. The
    checkpoint goes when the thresholds are fitted.

    Args:
        data: Of the benchmark arguments of `benchmark`; with a ``root`` those of `official`.
        arm: Fields of `Arm`.
        seed: Random seed of the benchmark's people and scripts and of folds; with the fold that of
            first weights and order.
        fold: The one that is searched, from 0 on.
        folds: Number of folds; None leaves one subject out, in the order of their names.
        steps: Steps of training, of 72 frames each, a multiple of 10.
        device: Where to compute.

    Returns:
        Metrics: `gaps`, half a mean training event of each class, in frames; `thresholds` fitted to the
        training videos; `loss` of the last tenth of the steps; `parameters`, number of weights;
        `frames` searched, `fps`; `missing` videos. Of blind tiling `tile`, the length of its windows.
        Predictions: of the V videos searched `video`, `subject`, `n_frames`; of their frames in turn
        `curve` float16 (N, 2), the scores, nan for blind tiling, and `inside` bool (N, 2), whether an
        event is running; of E events `event_video, event_label, event_onset, event_offset`; of P
        intervals laid `spotted_video, spotted_label, spotted_onset, spotted_offset`.

    Raises:
        BadInput: An unknown option; one that would not do anything; no such fold; as the source.
    """
    arm = read_arm(Arm, arm)
    if steps < RECIPE.epochs or steps % RECIPE.epochs:
        raise BadInput(f"steps={steps}", "cannot be trained", f"give a multiple of {RECIPE.epochs}")
    source = official(**data) if "root" in data else benchmark(seed, **hashable(data))
    tested = held_out(source.videos["subject"].tolist(), fold, folds, seed)
    searched, seen = source.videos[tested], source.videos[~tested]
    events = source.events[source.events["video"].isin(seen["video"])]
    half = inputs.gaps(events)
    checkpoint = None
    if source.checkpoints:
        name = digest([data, vars(arm), seed, fold, folds, steps, code_key(unit)])
        checkpoint = source.checkpoints / f"{name[:20]}.pt"
    run = Run(source, arm, seen, events, half, 1000 * seed + fold, steps, device, checkpoint)
    search = tiled(run) if arm.method == "tiling" else trained(run)
    curves, laid, inside = [], [], []
    for video, n in zip(searched["video"], searched["n_frames"], strict=True):
        curves.append(search.curve(video, n))
        laid.append(search.lay(video, curves[-1]))
        own = source.events[source.events["video"] == video]
        inside.append(inputs.labels(own, n, half).numpy() > 0)
    predictions = {"curve": np.concatenate(curves).astype(np.float16)}
    predictions["inside"] = np.concatenate(inside)
    events = source.events[source.events["video"].isin(searched["video"])]
    tables = {"": searched[["video", "subject", "n_frames"]], "event_": events[INTERVAL]}
    for start, table in (tables | {"spotted_": pd.concat(laid)[INTERVAL]}).items():
        # npz without pickle holds no arrays of objects, which pandas' texts are.
        predictions |= {start + name: np.array(table[name].tolist()) for name in table}
    about = {"gaps": half, "frames": int(searched["n_frames"].sum()), "missing": source.missing}
    about["fps"] = float(source.videos["fps"].iloc[0])
    return about | search.about, predictions


class Run(NamedTuple):
    """What all methods start from: the training videos, their events, half a mean event of each class.

    The seed is that of first weights, order and shuffling: another in each fold, the same in all arms.
    A training under way is written to `checkpoint`, where there is one.
    """

    source: Source
    arm: Arm
    seen: pd.DataFrame
    events: pd.DataFrame
    half: dict[str, int]
    seed: int
    steps: int
    device: str
    checkpoint: Path | None


class Search(NamedTuple):
    """A spotter, ready: scores (T, 2) of a video of T frames, intervals from them, and metrics."""

    curve: Callable[[str, int], np.ndarray]
    lay: Callable[[str, np.ndarray], pd.DataFrame]
    about: dict


def tiled(run: Run) -> Search:
    """Blind tiling: macro windows back to back, of the length that does best in training."""
    n_frames = dict(zip(run.seen["video"], run.seen["n_frames"], strict=True))

    def score(length: int) -> float:
        tiles = [intervals.tiling(n, length, video=video) for video, n in n_frames.items()]
        return scoring.megc_f1(run.events, pd.concat(tiles))["overall"]

    length = max((max(1, round(x * run.half["macro"])) for x in (1.4, 1.7, 2.0, 2.4)), key=score)
    lay = lambda video, curve: intervals.tiling(len(curve), length, video=video)  # noqa: E731
    return Search(lambda video, n: np.full((n, 2), np.nan), lay, {"tile": length})


class FlowNet(nn.Module):
    """`SoftNet` behind what makes its flow of frames with their references (B, 1 + R, ...)."""

    def __init__(self, flow: Callable[[Tensor], Tensor]):
        super().__init__()
        self.flow, self.net = flow, SoftNet()

    def forward(self, frames: Tensor) -> Tensor:
        """Frames with references to logits (B, 2); the head's own movement is taken out first."""
        return self.net(inputs.steadied(self.flow(frames)))  # (B, 2, 2, H, W) -> (B, 2)


def trained(run: Run) -> Search:
    """Train the arm's spotter, unless it is MDMD, and fit thresholds, on the training videos."""
    arm, source = run.arm, run.source
    k = {name: max(1, round(arm.factor * run.half[name])) for name in arm.references}
    own = ("reference", "inputs", "shared", "first", "residual")
    options = {name: getattr(arm, name) for name in own} | {"n_gaps": len(k)}
    with isolated_rng(run.seed):
        if arm.method == "k-gap flow":
            net = FlowNet(lambda frames: inputs.gap_flow(frames / 255, method="farneback"))
        elif arm.method == "accumulated flow":
            net = FlowNet(inputs.between)
        else:
            net = SpottingNet(**source.sizes, **options)

    def order(video: str) -> Tensor:
        rows = torch.arange(len(source.frames(video)))
        draws = torch.Generator().manual_seed(int(run.seed))
        return torch.randperm(len(rows), generator=draws) if arm.shuffled else rows

    def chunks(video: str) -> Iterator[Tensor]:
        parts = (source.frames(video)[rows] for rows in order(video).split(CHUNK))
        if arm.method == "accumulated flow":
            return inputs.summed_flow((part / 255 for part in parts), method="farneback")
        return parts

    def curve(video: str, _: int = 0) -> np.ndarray:
        if arm.method == "mdmd":
            return inputs.mdmd_scores((part / 255 for part in chunks(video)), run.half).numpy()
        look = lambda frames: net(frames.to(run.device))  # noqa: E731
        reach = dict(zip(k, [*k.values()][:: -1 if arm.swapped else 1], strict=True))
        scored = inputs.scores(look, chunks(video), reach, arm.reference)
        return scored[order(video).argsort()].numpy()

    about = {"parameters": 0}
    if arm.method != "mdmd":
        videos = []
        for video in run.seen["video"]:
            mine, rows = run.events[run.events["video"] == video], order(video)
            labels = inputs.labels(mine, len(rows), run.half, arm.reference, arm.labels)
            videos.append((torch.cat([*chunks(video)]), labels[rows]))
        options = {
            "size": BATCH,
            "steps": run.steps // RECIPE.epochs,
            "mirror": arm.method != "accumulated flow",
        }
        batches = inputs.pairs(videos, k, arm.reference, **options)
        options = {"seed": run.seed, "device": run.device, "checkpoint": run.checkpoint}
        history = train(net, batches, RECIPE, progress=run.checkpoint is not None, **options)
        net.eval()
        about = {"parameters": sum(p.numel() for p in net.parameters())}
        about["loss"] = history.epochs[-1].loss
    scores, recipes = {v: curve(v) for v in run.seen["video"]}, intervals.RECIPES
    fitted = intervals.fit_threshold(scores, run.events, run.half, recipes)
    about["thresholds"] = {label: recipe.threshold for label, recipe in fitted.items()}
    if run.checkpoint is not None:  # kept until the thresholds are there: fitting takes long, too
        run.checkpoint.unlink(missing_ok=True)
    return Search(curve, lambda video, x: intervals.spotted(x, run.half, fitted, video), about)


# ---- scores --------------------------------------------------------------------------------------


def tables(units: Sequence) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Videos, events, and intervals laid, of all folds of an arm and a seed.

    Videos have a column `curve`, their scores float64 (T, 2), and one `gaps`.

    Raises:
        BadInput: A video in two folds.
    """
    parts = ([], [], [])
    for one in units:
        arrays = one.predictions()
        for made, start in zip(parts, ("", "event_", "spotted_"), strict=True):
            columns = INTERVAL if start else ["video", "subject", "n_frames"]
            table = pd.DataFrame({name: arrays[start + name] for name in columns})
            made.append(table.astype(dict.fromkeys(columns[2:], np.int64)))
        curves = np.split(arrays["curve"].astype(np.float64), arrays["n_frames"].cumsum()[:-1])
        parts[0][-1] = parts[0][-1].assign(curve=curves, gaps=[one.metrics["gaps"]] * len(curves))
    videos, events, spotted = (pd.concat(made, ignore_index=True) for made in parts)
    if videos["video"].duplicated().any():
        fault = "hold a video twice"
        raise BadInput("units", fault, "give each fold of one arm and seed once")
    return videos, events, spotted


def rows(units: Sequence) -> list[dict]:
    """The scores of one arm and seed as fields of rows, for `results.unit_rows`.

    Metrics: `f1_<class>`, `precision_<class>`, `recall_<class>` of micro, macro and overall, by the
    challenge's rule; `f1_overall_<rule>` by every other one of `scoring.RULES`, and
    `f1_overall_oracle`, each person with the threshold that suits it best, the fitted one among them;
    `confusion_micro` and `confusion_macro`, share of the intervals of that class whose middle lies in
    an event of the other class and in none of its own; `auc_micro` and `auc_macro` of frames, by
    whether an event is running.
    """
    videos, events, spotted = tables(units)
    about = {"videos": videos["video"].tolist()}
    counts, values = scoring.counts(events, spotted, **about), {}
    for metric in (scoring.f1, scoring.precision, scoring.recall):
        values |= {f"{metric.__name__}_{name}": value for name, value in metric(counts).items()}
    for rule in list(scoring.RULES)[1:]:  # the first is the challenge's
        # Half a second, the bound by duration, is as many frames as the rate says.
        timed = scoring.RULES[rule].macro_from is not None
        own = {"macro_from": round(units[0].metrics["fps"] / 2)} if timed else {}
        table = scoring.counts(events, spotted, rule, **about, **own)
        values[f"f1_overall_{rule}"] = scoring.f1(table)["overall"]
    arrays = [one.predictions() for one in units]
    curve, inside = (np.concatenate([a[name] for a in arrays]) for name in ("curve", "inside"))
    starts = videos["n_frames"].cumsum() - videos["n_frames"]
    middle = spotted["video"].map(dict(zip(videos["video"], starts, strict=True)))
    middle += (spotted["onset"] + spotted["offset"]) // 2
    for i, name in enumerate(CLASSES):
        shows = inside[middle[spotted["label"] == name].to_numpy(int)]  # (P, 2)
        values[f"confusion_{name}"] = (shows[:, 1 - i] & ~shows[:, i]).sum() / max(len(shows), 1)
    if not np.isnan(curve).all():
        values |= {f"auc_{c}": _auc(inside[:, i], curve[:, i]) for i, c in enumerate(CLASSES)}
        values["f1_overall_oracle"] = scoring.f1(_oracle(videos, events, spotted))["overall"]
    shared = {"dataset": units[0].params["data"].get("dataset", "synthetic")}
    shared["split"] = "people left out" if units[0].params["folds"] else "one person left out"
    n = (counts["tp"] + counts["fn"]).to_dict()
    return [
        {**shared, "metric": metric, "value": float(value)}
        | {"n": int(n.get(metric.rpartition("_")[2], n["overall"]))}
        for metric, value in values.items()
    ]


def _auc(inside: np.ndarray, curve: np.ndarray) -> float:
    known = ~np.isnan(curve)
    varies = len(np.unique(inside[known])) == 2
    return roc_auc_score(inside[known], curve[known]) if varies else float("nan")


def _oracle(videos: pd.DataFrame, events: pd.DataFrame, spotted: pd.DataFrame) -> pd.DataFrame:
    """Counts with the threshold, of eight and the fitted one, that suits each person best."""
    candidates = [spotted]
    for share in np.linspace(0.2, 0.9, 8):
        fixed = {c: replace(r, threshold=share) for c, r in intervals.RECIPES.items()}
        each = videos[["curve", "gaps", "video"]].itertuples(index=False)
        laid = (intervals.spotted(x, gaps, fixed, name) for x, gaps, name in each)
        candidates.append(pd.concat(laid))
    people = dict(zip(videos["video"], videos["subject"], strict=True))
    return scoring.oracle(events, candidates, people)
