"""Spotting's experiment: arms, and one unit that trains a spotter and searches the videos of a fold.

All arms of a seed and a fold share people, videos, gaps, first weights where the network is the same,
and the order of the frames that they train on; they differ in what their name says. People are whole:
gaps, weights and thresholds come from the training people alone, and the fold's people are searched
once, after the last step. The scores are of all folds together, so that every video counts once.

The paper's code was not released, and its loss, recipe, labels and post-processing are unknown: all of
`Arm` and `RECIPE` is our choice, and there is no arm "as released". Its peers stand beside it by their
own inputs and networks, with our recipe and post-processing, so that only the spotter differs.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from micromacro.cache import kept
from micromacro.datasets import long
from micromacro.datasets.table import check_profile
from micromacro.errors import BadInput, check_choice
from micromacro.files import project_root
from micromacro.folds import grouped_folds, leave_one_out
from micromacro.systems.spotting import inputs, intervals, scoring, task
from micromacro.systems.spotting.model import SoftNet, SpottingNet
from micromacro.systems.spotting.scoring import CLASSES
from micromacro.training import Recipe, isolated_rng, train

DATASETS = ("samm-lv", "casme-squared")
RECIPE = Recipe(
    loss=binary_cross_entropy_with_logits,
    lr=3e-3,
    weight_decay=1e-2,
    schedule="one_cycle",
    epochs=10,
)
VIEWS = {  # of a video's chunks: what is streamed, and what of frame and references is seen
    "k-gap flow": (lambda chunks: chunks, partial(inputs.gap_flow, method="farneback")),
    "accumulated flow": (partial(inputs.summed_flow, method="farneback"), inputs.between),
    "mdmd": (lambda chunks: chunks, None),
}
METHODS = ("3d-cnn", *VIEWS, "tiling")
BATCH, CHUNK = 72, 256  # frames of a training step; frames that are read at once
INTERVAL = ["video", "label", "onset", "offset"]

CORE: dict[str, dict] = {
    "two references": {},
    "micro reference": {"references": ["micro"]},
    "macro reference": {"references": ["macro"]},
    "z-score": {"inputs": "zscore"},
    "raw": {"inputs": "raw"},
    "k-gap flow": {"method": "k-gap flow"},
    "MDMD": {"method": "mdmd"},
    "blind tiling": {"method": "tiling"},
}


def _turned(what: str, *arms: str, **options: object) -> dict[str, dict]:
    """Arms of the core table with something turned; by default the one of two references."""
    return {f"{arm}, {what}": CORE.get(arm, {}) | options for arm in arms or ("two references",)}


_LIGHTS = {"none": 0.0, "global": 0.15, "flicker": 0.05, "gradient": 0.3, "shadow": 0.4}
_INPUTS = ("two references", "z-score", "raw", "CLAHE")
SWEEP: dict[str, dict[str, dict]] = {
    "light": {
        f"{arm}, {light}": {**CORE.get(arm, {"inputs": "clahe"}), "light": light, "amount": amount}
        for light, amount in _LIGHTS.items()
        for arm in _INPUTS
    },
    "gaps": {
        **{f"gaps x {factor}": {"factor": factor} for factor in (0.25, 0.5, 2.0, 4.0)},
        "shuffled frames": {"shuffled": True},
    },
    "weights": {
        "separate weights": {"shared": False},
        **_turned("6 people", subjects=6),
        "separate weights, 6 people": {"shared": False, "subjects": 6},
    },
    "what the paper leaves open": {
        "future reference": {"reference": "future"},
        "symmetric reference": {"reference": "symmetric"},
        "random first kernel": {"first": "random"},
        "residual": {"residual": True},
        "overlap labels": {"labels": "overlap"},
        "soft labels": {"labels": "soft"},
    },
    "flow": {"accumulated flow": {"method": "accumulated flow"}},
    "drift of the head": _turned("drift 4 px", "two references", "k-gap flow", drift_px=4.0),
    "dense, 200 fps": _turned("dense", "two references", "k-gap flow", "blind tiling", kind="samm"),
}
"""Group -> arm -> options; what an arm does not name is as in the core table."""

ARMS = CORE | {name: options for group in SWEEP.values() for name, options in group.items()}
_SMALL = {"widths": [8, 8, 16], "grid": 6, "hidden": 24}
_SMOKE = {"arms": ("two references", "blind tiling"), "seeds": (1000,), "folds": 2, "steps": 40}
_SMOKE |= {"data": {"subjects": 4, "n_frames": 450}}
PROFILES = {
    "smoke": _SMOKE,
    "full": {"arms": tuple(CORE), "seeds": range(8), "folds": 2, "steps": 300},
    "paper": {"arms": ("two references", "blind tiling"), "seeds": (0,), "steps": 3000},
}


@dataclass(frozen=True)
class Arm:
    """What one arm does; what an arm does not name is our choice for the paper's network.

    Attributes:
        method: One of `METHODS`: the paper's network; SOFTNet over flow across each gap, or over flow
            added up from frame to frame; MDMD and blind tiling, which are not trained.
        references: Classes whose gap has a stream.
        reference: Where the references lie; see `inputs.references`.
        factor: What the gaps of the training events are multiplied by.
        shuffled: Put the frames of each video in random order first, so that references are any
            frames of the video and time says nothing. A control.
        labels: Rule of `inputs.labels`.
        inputs: Normalisation of frames; see `SpottingNet`, as for the next three.
        shared: Streams have one set of weights.
        first: Start of the first kernels.
        residual: Shortcuts.

    Raises:
        BadInput: An unknown option, or one that would do nothing: its row would have an untrue name.
    """

    method: str = "3d-cnn"
    references: tuple[str, ...] = CLASSES
    reference: str = "past"
    factor: float = 1.0
    shuffled: bool = False
    labels: str = "inside"
    inputs: str = "lcn"
    shared: bool = True
    first: str = "antisymmetric"
    residual: bool = False

    def __post_init__(self):
        check_choice("method", self.method, METHODS)
        for name in self.references:
            check_choice("references", name, CLASSES)
        idle = [name for name, value in vars(self).items() if value != getattr(Arm, name)]
        idle = [] if self.method == "3d-cnn" else [name for name in idle if name != "method"]
        if idle:
            fault = f"does nothing with method {self.method!r}"
            raise BadInput(f"{idle[0]}={getattr(self, idle[0])!r}", fault, "leave it out")

    def options(self) -> dict:
        """The options of `SpottingNet`."""
        own = ("reference", "inputs", "shared", "first", "residual")
        return {name: getattr(self, name) for name in own} | {"n_gaps": len(self.references)}


class Source(NamedTuple):
    """Videos to search, from the actor or from official files.

    Attributes:
        videos: Table of videos, events: table of events (`task`, `long`).
        events: Table of events.
        frames: Gives a video's frames uint8 (T, 1, H, W), in memory or mapped from disk.
        sizes: Options of `SpottingNet`.
        nose: Video -> box of the nose in px, where it is known: flow is taken relative to it.
        missing: Names of videos that are listed but not there.
    """

    videos: pd.DataFrame
    events: pd.DataFrame
    frames: Callable[[str], Tensor]
    sizes: dict
    nose: Mapping[str, Tensor] = MappingProxyType({})
    missing: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def benchmark(seed: int, kind: str = "cas", subjects: int = 20, **dials) -> Source:
    """The benchmark's videos, rendered once for all arms and folds of a seed."""
    made = task.videos(kind, subjects, seed, **dials)
    frames = {
        video: torch.cat([(255 * part).round().byte() for part in made.frames(video)])
        for video in made.videos["video"]
    }
    nose = {video: made.regions(video)[0, [*task.REGIONS].index("nose")] for video in frames}
    return Source(made.videos, made.events, frames.__getitem__, _SMALL, nose)


def official(
    dataset: str, root: str, *, cache: str, image_px: int = 112, sizes: Mapping = {}, **options
) -> Source:
    """An official data set; its frames are cut to squares once and kept on disk, 12.5 kB a frame.

    Args:
        dataset: "samm-lv" or "casme-squared".
        root: Its folder, as data/README.md shows.
        cache: Folder for the frames, made if missing; 6 GB for SAMM-LV, 3 GB for CAS(ME)^2.
        image_px: Side of the frames.
        sizes: Options of `SpottingNet` in place of its own.
        options: Of the reader: `long.samm_lv`, `long.casme_squared`.

    Raises:
        BadInput: As the reader; a cache that cannot be written.
    """
    check_choice("dataset", dataset, DATASETS)
    listing = {"samm-lv": long.samm_lv, "casme-squared": long.casme_squared}[dataset](
        root, **options
    )
    paths = listing.videos.set_index("video")["path"]

    def frames(video: str) -> Tensor:
        make = partial(_write_frames, listing, video, image_px)
        place = Path(cache) / "spotting" / dataset
        folder = kept(place, video, {"size": image_px}, make, files=[paths[video]], code=long)
        return torch.from_numpy(np.load(folder / "frames.npy", mmap_mode="c"))

    return Source(listing.videos, listing.events, frames, dict(sizes), missing=listing.missing)


def _write_frames(listing: long.LongVideos, video: str, size: int, folder: Path) -> None:
    n_frames = int(listing.videos.set_index("video").loc[video, "n_frames"])
    shape, done = (n_frames, 1, size, size), 0
    stored = np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint8, shape)
    for part in listing.frames(video, size=size):
        stored[done : done + len(part)] = (255 * part).round().byte().numpy()
        done += len(part)
    stored.flush()


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
    trial: bool | int = False,
) -> dict[str, list[dict]]:
    """Parameters of all units of a profile; arguments are a notebook's parameters.

    Args:
        profile: "smoke" and "full" on the benchmark; "paper" on official data.
        dataset: "synthetic", or in "paper" one of `DATASETS`.
        data_root: Folder of the official data.
        seeds: None for 1000 in smoke, 0 to 7 in full, 0 in paper.
        variants: Names of arms; None for two in smoke and paper, `CORE` in full.
        folds: Number of groups of people; None for 2, and for one person each in paper.
        sweep: 1 adds `SWEEP`.
        device: Where to compute.
        trial: Try the official path with a tiny network and few steps.

    Returns:
        Arm -> parameters of `unit`, seed by seed and fold by fold.

    Raises:
        BadInput: An unknown name; profile and data set that do not go together; as the reader.
    """
    check_profile(profile, dataset, DATASETS)
    default = PROFILES[profile]
    names, data = list(variants or default["arms"]), dict(default.get("data", {}))
    common = {"folds": folds or default.get("folds"), "steps": default["steps"], "device": device}
    if profile == "paper":
        data = {"dataset": dataset, "root": str(data_root)}
        data["cache"] = str(project_root() / "runs" / "official")
        if trial:
            common["steps"], data = 2, data | {"image_px": 24, "sizes": _SMALL}
        n_people = official(**data).videos["subject"].nunique()
    elif sweep and profile == "full":
        names += [name for group in SWEEP.values() for name in group]
    units = {}
    for name in names:
        check_choice("arm", name, ARMS)
        own = {"data": dict(data), "arm": {}}
        for option, value in ARMS[name].items():
            own["arm" if option in Arm.__dataclass_fields__ else "data"][option] = value
        pairs = itertools.product(seeds or default["seeds"], range(common["folds"] or n_people))
        units[name] = [{"seed": seed, "fold": fold, **own, **common} for seed, fold in pairs]
    return units


# ---- one unit ------------------------------------------------------------------------------------


def unit(
    *,
    data: Mapping[str, object],
    arm: Mapping[str, object],
    seed: int,
    fold: int,
    folds: int | None = 2,
    steps: int = 300,
    device: str = "cpu",
) -> tuple[dict, dict[str, np.ndarray]]:
    """Train one arm on all folds but one, and search the videos of that; for `units.run`.

    Args:
        data: Of the benchmark arguments of `benchmark`; with a ``root`` those of `official`.
        arm: Fields of `Arm`.
        seed: Random seed of the benchmark's people and scripts, of folds, first weights and order.
        fold: The one that is searched, from 0 on.
        folds: Number of folds; None leaves one subject out, in the order of their names.
        steps: Steps of training, of 72 frames each.
        device: Where to compute.

    Returns:
        Metrics: `gaps`, half a mean training event of each class, in frames; `thresholds` fitted to the
        training videos; `loss` of the last tenth of the steps; `parameters`, number of weights;
        `frames` searched; `missing` videos.
        Predictions: of the V videos searched `video`, `subject`, `n_frames`; `curve` float16 (sum of
        n_frames, 2), the scores of their frames in turn, nan for arms without; of E events
        `event_video, event_label, event_onset, event_offset`; of P intervals laid `spotted_video,
        spotted_label, spotted_onset, spotted_offset, spotted_score`.

    Raises:
        BadInput: An unknown option; one that would not do anything; no such fold; as the source.
    """
    for name in arm:
        check_choice("option of an arm", name, [field.name for field in fields(Arm)])
    arm = Arm(**_hashable(arm))
    source = official(**data) if "root" in data else benchmark(seed, **_hashable(data))
    people = source.videos["subject"].tolist()
    fold_of = leave_one_out(people) if folds is None else grouped_folds(people, folds, seed)
    searched, seen = source.videos[fold_of == fold], source.videos[fold_of != fold]
    if searched.empty:
        raise BadInput(f"fold {fold}", "there is no such fold", "count from 0, below their number")
    run = Run(source, arm, seen["video"].tolist(), seed, steps, device)
    search = tiled(run) if arm.method == "tiling" else trained(run)
    names, lengths = searched["video"].tolist(), searched["n_frames"].tolist()
    curves = [search.curve(video, n) for video, n in zip(names, lengths, strict=True)]
    laid = [search.lay(video, curve) for video, curve in zip(names, curves, strict=True)]
    events = source.events[source.events["video"].isin(names)]
    predictions = {"curve": np.concatenate(curves).astype(np.float16)}
    tables = {"": (searched, ["video", "subject", "n_frames"])}
    tables |= {"event_": (events, INTERVAL), "spotted_": (pd.concat(laid), INTERVAL)}
    # npz without pickle holds no arrays of objects, which pandas' texts are.
    for start, (table, columns) in tables.items():
        predictions |= {start + name: np.array(table[name].tolist()) for name in columns}
    about = {"gaps": run.half, "frames": sum(lengths), "missing": source.missing}
    return about | search.about, predictions


def _hashable(options: Mapping) -> dict:
    """The options with tuples for lists, since JSON has no tuples and a list is no key."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}


class Run(NamedTuple):
    """What all methods start from: `seen`, the names of the training videos, and the unit's own."""

    source: Source
    arm: Arm
    seen: list[str]
    seed: int
    steps: int
    device: str

    @property
    def events(self) -> pd.DataFrame:
        """Events of the training videos."""
        return self.source.events[self.source.events["video"].isin(self.seen)]

    @property
    def half(self) -> dict[str, int]:
        """Half a mean event of each class, in frames."""
        return inputs.gaps(self.events)


class Search(NamedTuple):
    """A spotter, ready: scores (T, 2) of a video of T frames, intervals from them, and metrics."""

    curve: Callable[[str, int], np.ndarray]
    lay: Callable[[str, np.ndarray], pd.DataFrame]
    about: dict


def tiled(run: Run) -> Search:
    """Blind tiling: macro windows back to back, of the length that does best in training."""
    n_frames = run.source.videos.set_index("video")["n_frames"][run.seen].items()

    def tiles(length: int) -> pd.DataFrame:
        return pd.concat(intervals.tiling(n, length, video=video) for video, n in n_frames)

    lengths = {max(1, round(factor * run.half["macro"])) for factor in (1.4, 1.7, 2.0, 2.4)}
    length = max(lengths, key=lambda n: scoring.megc_f1(run.events, tiles(n))["overall"])
    lay = lambda video, curve: intervals.tiling(len(curve), length, video=video)  # noqa: E731
    return Search(lambda video, n: np.full((n, 2), np.nan), lay, {"tile": length})


def trained(run: Run) -> Search:
    """Train the arm's spotter, unless it is MDMD, and fit thresholds, on the training videos."""
    arm, source = run.arm, run.source
    k = {name: max(1, round(arm.factor * run.half[name])) for name in arm.references}
    with isolated_rng(run.seed):
        pixels = arm.method == "3d-cnn"
        net = SpottingNet(**source.sizes, **arm.options()) if pixels else SoftNet()

    def order(video: str) -> Tensor:
        rows = torch.arange(len(source.frames(video)))
        generator = torch.Generator().manual_seed(run.seed)
        return rows[torch.randperm(len(rows), generator=generator)] if arm.shuffled else rows

    def chunks(video: str) -> Iterator[Tensor]:
        parts = (source.frames(video)[rows] for rows in order(video).split(CHUNK))
        return parts if pixels else VIEWS[arm.method][0](part / 255 for part in parts)

    def view(video: str) -> Callable[[Tensor], Tensor]:
        flow, nose = VIEWS[arm.method][1], source.nose.get(video)
        return lambda frames: inputs.steadied(flow(frames), nose)

    def curve(video: str, _: int = 0) -> np.ndarray:
        if arm.method == "mdmd":
            return inputs.mdmd_scores(chunks(video), run.half).numpy()
        see = (lambda frames: frames) if pixels else view(video)
        look = lambda frames: net(see(frames.to(run.device)))  # noqa: E731
        scores = inputs.scores(look, chunks(video), k, arm.reference)
        return scores[order(video).argsort()].numpy()

    about = {"parameters": 0}
    if arm.method != "mdmd":
        targets = []
        for video in run.seen:
            own, rows = run.events[run.events["video"] == video], order(video)
            made = inputs.labels(own, len(rows), run.half, arm.reference, arm.labels)
            targets.append(made[rows])
        size = {"size": BATCH, "steps": max(1, run.steps // RECIPE.epochs)}
        if pixels:
            frames = [torch.cat([*chunks(video)]) for video in run.seen]
            batches = inputs.pairs(zip(frames, targets, strict=True), k, arm.reference, **size)
        else:
            maps = [part for v in run.seen for part in inputs.stream(view(v), chunks(v), k)]
            places = torch.arange(sum(map(len, maps)))
            batches = inputs.Pairs(torch.cat(maps), places, torch.cat(targets), **size)
        history = train(net, batches, RECIPE, seed=run.seed, device=run.device, progress=False)
        net.eval()
        about = {"parameters": sum(p.numel() for p in net.parameters())}
        about["loss"] = history.epochs[-1].loss
    seen, recipes = {video: curve(video) for video in run.seen}, intervals.RECIPES["softnet"]
    fitted = intervals.fit_threshold(seen, run.events, run.half, recipes)
    about["thresholds"] = {label: recipe.threshold for label, recipe in fitted.items()}
    return Search(curve, lambda video, x: intervals.spotted(x, run.half, fitted, video), about)


# ---- scores --------------------------------------------------------------------------------------


class Pooled(NamedTuple):
    """All folds of an arm and a seed: tables of truth and of intervals laid, and curves by video."""

    subjects: dict[str, str]
    truth: pd.DataFrame
    spotted: pd.DataFrame
    curves: dict[str, np.ndarray]
    gaps: dict[str, dict[str, int]]


def pooled(units: Sequence) -> Pooled:
    """The predictions of all folds together; every video was searched once.

    Raises:
        BadInput: A video in two folds.
    """
    subjects, curves, gaps, tables = {}, {}, {}, {"event_": [], "spotted_": []}
    for one in units:
        arrays = one.predictions()
        if again := subjects.keys() & {*arrays["video"].tolist()}:
            fault = "was searched in two folds"
            raise BadInput(f"video {min(again)}", fault, "pool the folds of one arm and seed")
        names = arrays["video"].tolist()
        subjects |= dict(zip(names, arrays["subject"].tolist(), strict=True))
        parts = np.split(arrays["curve"].astype(np.float64), arrays["n_frames"].cumsum()[:-1])
        curves |= dict(zip(names, parts, strict=True))
        gaps |= dict.fromkeys(names, one.metrics["gaps"])
        for start, made in tables.items():
            made.append(pd.DataFrame({name: arrays[start + name] for name in INTERVAL}))
    truth, spotted = (pd.concat(made, ignore_index=True) for made in tables.values())
    return Pooled(subjects, truth, spotted, curves, gaps)


def rows(units: Sequence) -> list[dict]:
    """The scores of one arm and seed as fields of rows, for `results.unit_rows`.

    Metrics: `f1_<class>`, `precision_<class>`, `recall_<class>` of micro, macro and overall, by the
    challenge's rule; `f1_overall_<rule>` by every other one of `scoring.RULES` for any frame rate;
    `f1_overall_oracle`, each subject with the share of the threshold that suits it best; `confusion`,
    share of the intervals laid that overlap an event of the other class by half or more;
    `auc_micro` and `auc_macro` of frames, by whether they are inside an event.
    """
    everything = pooled(units)
    _, truth, spotted, curves, gaps = everything
    about = {"videos": [*everything.subjects]}
    table = scoring.counts(truth, spotted, **about)
    values = {}
    for metric in (scoring.f1, scoring.precision, scoring.recall):
        values |= {f"{metric.__name__}_{name}": value for name, value in metric(table).items()}
    for rule in scoring.RULES:
        if rule != "megc" and "fps" not in rule:
            counts = scoring.counts(truth, spotted, rule, **about)
            values[f"f1_overall_{rule}"] = scoring.f1(counts)["overall"]
    other = spotted.assign(
        label=spotted["label"].map(dict(zip(CLASSES, CLASSES[::-1], strict=True)))
    )
    hits = scoring.counts(truth, other, "many_to_one", **about).loc["overall", "tp"]
    values["confusion"] = hits / max(len(spotted), 1)
    if not np.isnan(next(iter(curves.values()))).all():
        candidates = []
        for share in np.linspace(0.2, 0.9, 8):
            recipes = {
                c: replace(intervals.RECIPES["softnet"][c], threshold=share) for c in CLASSES
            }
            laid = [intervals.spotted(x, gaps[v], recipes, v) for v, x in curves.items()]
            candidates.append(pd.concat(laid))
        best = scoring.oracle(truth, candidates, everything.subjects)
        values["f1_overall_oracle"] = scoring.f1(best)["overall"]
        values |= frame_auc(everything)
    dataset = units[0].params["data"].get("dataset", "synthetic")
    split = "people left out" if units[0].params["folds"] else "one person left out"
    n = {name: int(table.loc[name, ["tp", "fn"]].sum()) for name in table.index}
    return [
        {"dataset": dataset, "split": split, "metric": metric, "value": float(value)}
        | {"n": n.get(metric.rpartition("_")[2], n["overall"])}
        for metric, value in values.items()
    ]


def frame_auc(pooled: Pooled) -> dict[str, float]:
    """`auc_micro` and `auc_macro`: how well a frame's score tells whether an event is running.

    Of all frames with a score; 0.5 is chance, nan where a class never or always shows.
    """
    scores, inside = [], []
    for video, curve in pooled.curves.items():
        own = pooled.truth[pooled.truth["video"] == video]
        inside.append(inputs.labels(own, len(curve), pooled.gaps[video]).numpy())
        scores.append(curve)
    scores, inside = np.concatenate(scores), np.concatenate(inside)
    values = {}
    for k, name in enumerate(CLASSES):
        known = ~np.isnan(scores[:, k])
        two = len(np.unique(inside[known, k])) == 2
        pair = inside[known, k], scores[known, k]
        values[f"auc_{name}"] = roc_auc_score(*pair) if two else float("nan")
    return values
