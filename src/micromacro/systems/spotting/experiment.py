"""Spotting's experiment: arms, and a unit that trains a spotter and searches a fold's videos.

All arms of a seed and a fold share people, videos, gaps, first weights where the network is the
same, and the order of the frames that they train on; they differ in what their name says. People
are whole: gaps, weights and thresholds come from the training people alone, and the fold's people
are searched once, after the last step. The scores are of all folds together, so that every video
counts once.

The paper's code was not released, and its loss, recipe, labels and post-processing are unknown: all
of `Arm` and `RECIPE` is our choice, and there is no arm "as released". Its peers stand beside it by
their own inputs and networks, with our recipe and post-processing, so that only the spotter
differs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from micromacro import arms
from micromacro.cache import hashable
from micromacro.datasets import long
from micromacro.datasets.frames import video_on_disk
from micromacro.datasets.table import find_root
from micromacro.errors import BadInput, check_choice
from micromacro.folds import held_out
from micromacro.motion.flow import summed_flow
from micromacro.motion.prepare import NORMALISATIONS
from micromacro.systems.spotting import inputs, intervals, scoring, task
from micromacro.systems.spotting.model import FIRST_KERNELS, SoftNet, SpottingNet
from micromacro.systems.spotting.scoring import CLASSES
from micromacro.training import Recipe, isolated_rng, train

DATASETS = {"samm-lv": long.samm_lv, "casme-squared": long.casme_squared}
FLOWS = {"k-gap flow": inputs.gap_flow, "accumulated flow": inputs.between}
METHODS = ("3d-cnn", *FLOWS, "mdmd", "tiling")
RECIPE = Recipe(
    loss=binary_cross_entropy_with_logits,
    lr=3e-3,
    weight_decay=1e-2,
    schedule="one_cycle",
    epochs=10,  # each a tenth of a unit's steps
)
EASIER = {"shares": (0.08, 0.1), "uneven": 0.4, "micro_px": (1.0, 1.5), "talking": 0.0}
CHUNK = 256  # frames that are read at once
VIDEO, INTERVAL = ["video", "subject", "n_frames"], ["video", "label", "onset", "offset"]

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


def _turned(what: str, *names: str, **options: object) -> dict[str, dict]:
    """Arms with something turned; by default the one of two references."""
    return {f"{name}, {what}": _BESIDE[name] | options for name in names or ("two references",)}


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

ARMS = CORE | arms.joined(SWEEP)
_SMALL = {"widths": [8, 8, 16], "grid": 6, "hidden": 24, "dropout": 0.3}
_TINY = {"steps": 20, "data": {"subjects": 8, "n_frames": 450}}
_TRIAL = {"steps": 10, "folds": 2, "data": {"image_px": 24, "sizes": {**_SMALL, "grid": 3}}}
_TWO = ("two references", "blind tiling")
PROFILES = {
    "smoke": {"arms": _TWO, "seeds": (1000,), "folds": 2, **_TINY},
    "full": {"arms": CORE, "seeds": range(8), "folds": 2, "steps": 250, "trial": _TINY},
    "paper": {"arms": _TWO, "seeds": (0,), "folds": None, "steps": 3000, "trial": _TRIAL},
}


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
        BadInput: An unknown option, or one that would do nothing: its row would have an untrue
            name.
    """

    method: Annotated[str, METHODS] = "3d-cnn"
    references: Annotated[tuple[str, ...], CLASSES] = CLASSES
    factor: Annotated[float, 0.01, 100] = 1.0
    shuffled: bool = False
    swapped: bool = False
    labels: Annotated[str, inputs.LABELS] = "inside"
    reference: Annotated[str, inputs.SIDES] = "past"
    inputs: Annotated[str, NORMALISATIONS] = "lcn"
    shared: bool = True
    first: Annotated[str, FIRST_KERNELS] = "antisymmetric"
    residual: bool = False

    def __post_init__(self):
        idle = dict.fromkeys(vars(self), self.method != "3d-cnn") | {"method": False}
        if len(self.references) < 2:
            idle |= {"shared": True, "swapped": True}
        arms.check_arm(self, **idle)


OFFICIAL = {name: own for name, own in ARMS.items() if {*own} <= {*vars(Arm())}}
del OFFICIAL["accumulated flow"]  # summed flow of official videos fills no memory


# ---- sources -------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def benchmark(seed: int, kind: str = "cas", subjects: int = 48, **dials) -> arms.Source:
    """The benchmark's videos, rendered once for all arms and folds of a seed.

    With 4 % of macro frames, as in CAS(ME)^2, and 3 % of micro ones, 48 people had too few events
    for the network to learn from (development seeds). So "cas" has 10 % and 8 % here, and nobody
    talks; the sparse case is in `SWEEP`.

    Returns:
        Tables of videos and events, see `task`; a video is loaded as frames uint8 (T, 1, H, W).
    """
    own = EASIER if kind == "cas" else {}
    made = task.videos(kind, subjects, seed, **own | dials)  # of 600 frames, or 2,000 at 200 fps
    frames = {v: (255 * torch.cat([*made.frames(v)])).round().byte() for v in made.scenes}
    return arms.Source(made.videos, frames.__getitem__, _SMALL, RECIPE, made.events)


def official(
    dataset: str, root: str, *, cache: str, image_px: int = 112, sizes=None, **options
) -> arms.Source:
    """An official data set; frames are resized once, not cropped, kept on disk, 12.5 kB each.

    Args:
        dataset: A key of `DATASETS`.
        root: Its folder, as data/README.md shows.
        cache: Folder for the frames, made if missing: 6 GB for SAMM-LV, 3 GB for CAS(ME)^2. A unit
            has those of its training videos in memory, twice while it gathers them.
        image_px: Side of the frames.
        sizes: Options of `SpottingNet` in place of its own.
        options: Of the reader: `long.samm_lv`, `long.casme_squared`.

    Raises:
        BadInput: As the reader; raw pictures that `pictures` does not ask for, as they show more
            than the face; a cache that cannot be written.
    """
    check_choice("dataset", dataset, DATASETS)
    listing = DATASETS[dataset](root, **options)
    if "crop" not in listing.pictures.lower() and not options.get("pictures"):
        remedy = f'get the official crops, or ask for pictures="{listing.pictures}"'
        raise BadInput(Path(root, listing.pictures), "shows more than the face", remedy)

    @lru_cache(maxsize=None)  # noqa: UP033 (cache is the folder); pictures are hashed once
    def frames(video: str) -> Tensor:
        return torch.from_numpy(video_on_disk(listing, video, Path(cache, "spotting"), image_px))

    return arms.Source(listing.videos, frames, sizes or {}, RECIPE, listing.events, listing.missing)


def input_files(params: Mapping) -> list[Path]:
    """What a unit reads of an official data set: sheet and pictures, nothing else."""
    data = params["data"]
    if "root" not in data:
        return []
    _, folders, *_ = long.RELEASES[data["dataset"]]
    folders = [data["pictures"]] if data.get("pictures") else folders
    sheets = (*long.SAMM_SHEETS, *long.CASME_SHEETS)
    return [find_root(data["root"], names)[1] for names in (sheets, folders)]


# ---- the grid ------------------------------------------------------------------------------------


def grid(profile: str = "smoke", **asked) -> dict[str, list[dict]]:
    """Parameters of all units of a profile.

    Args:
        profile: "smoke", "full" or "paper".
        asked: The other parameters of a notebook, see `arms.plan`. Folds are groups of people; in
            "paper", without a number of them, one person each. There ``pictures`` is a folder of
            pictures in place of the data set's own crops, see `official`.

    Returns:
        Arm -> parameters of `unit`, seed by seed and fold by fold.

    Raises:
        BadInput: As `arms.plan`; an arm that is not in the table; as the reader.
    """
    asked = arms.plan(profile, PROFILES, SWEEP, DATASETS, **asked)
    if profile == "paper" and not asked["folds"]:
        asked["n_folds"] = official(**asked["data"]).clips["subject"].nunique()
    return arms.units_of(OFFICIAL if profile == "paper" else ARMS, vars(Arm()), **asked)


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

    On official data the training is written to disk after each tenth of its steps, and the file
    goes when the thresholds are fitted; see `arms.checkpoint`.

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
        Metrics: `gaps`, half a mean training event of each class, in frames; `thresholds` fitted to
        the training videos; `loss` of the last tenth of the steps; `parameters`, number of weights;
        `frames` searched, `fps`; `missing` videos. Of blind tiling `tile`, the length of its
        windows.
        Predictions: of the V videos searched `video`, `subject`, `n_frames`; of their frames in
        turn `curve` float16 (N, 2), the scores, nan for blind tiling; of E events `event_video,
        event_label, event_onset, event_offset`; of P intervals laid `spotted_video, spotted_label,
        spotted_onset, spotted_offset`.

    Raises:
        BadInput: An unknown option; one that would not do anything; no such fold; as the source.
    """
    arm = arms.read_arm(Arm, arm)
    if steps < RECIPE.epochs or steps % RECIPE.epochs:
        raise BadInput(f"steps={steps}", "cannot be trained", f"give a multiple of {RECIPE.epochs}")
    source = official(**data) if "root" in data else benchmark(seed, **hashable(data))
    tested = held_out(source.clips["subject"].tolist(), fold, folds, seed)
    searched, seen = source.clips[tested], source.clips[~tested]
    unseen = source.events["video"].isin(searched["video"])
    events, known = source.events[unseen], source.events[~unseen]
    half = inputs.gaps(known)
    kind = Tiling if arm.method == "tiling" else Spotter
    spotter = kind(source, arm, half, 1000 * seed + fold, device)
    with arms.checkpoint(unit, data, vars(arm), seed, fold, folds, steps, device) as file:
        about = spotter.learn(seen, known, steps, file)
    about |= {"gaps": half, "frames": int(searched["n_frames"].sum()), "missing": source.missing}
    about["fps"] = float(source.clips["fps"].iloc[0])
    curves = {video: spotter.curve(video) for video in searched["video"]}
    laid = pd.concat([spotter.lay(video, curve) for video, curve in curves.items()])
    predictions = {"curve": np.concatenate([*curves.values()]).astype(np.float16)}
    predictions |= arms.columns(searched, VIDEO) | arms.columns(events, INTERVAL, "event_")
    return about, predictions | arms.columns(laid, INTERVAL, "spotted_")


class Spotter:
    """The network of an arm, how it looks at a video, and the intervals that come of it.

    MDMD is one whose network is not used.

    Args:
        source: Where the frames come from.
        arm: What it does.
        half: Class -> half a mean training event, in frames.
        seed: Random seed of first weights, order and shuffling: another in each fold, the same in
            all arms.
        device: Where to compute.
    """

    def __init__(self, source: arms.Source, arm: Arm, half: Mapping, seed: int, device: str):
        self.source, self.arm, self.half, self.seed, self.device = source, arm, half, seed, device
        self.gaps = {name: max(1, round(arm.factor * half[name])) for name in arm.references}
        own = ("reference", "inputs", "shared", "first", "residual")
        options = {name: getattr(arm, name) for name in own} | {"n_gaps": len(self.gaps)}
        flow = FLOWS.get(arm.method)
        with isolated_rng(seed):
            self.net = SoftNet(flow=flow) if flow else SpottingNet(**source.sizes, **options)

    def order(self, video: str) -> Tensor:
        """Numbers of the video's frames as they follow one another, int64 (T,)."""
        n, draws = len(self.source.load(video)), torch.Generator().manual_seed(self.seed)
        return torch.randperm(n, generator=draws) if self.arm.shuffled else torch.arange(n)

    def chunks(self, video: str) -> Iterator[Tensor]:
        """What the network is shown of the frames, some at a time."""
        parts = (self.source.load(video)[rows] for rows in self.order(video).split(CHUNK))
        if self.arm.method == "accumulated flow":
            return summed_flow(parts, method="farneback")
        return parts

    def curve(self, video: str) -> np.ndarray:
        """Scores (T, 2) of micro and macro for each frame of a video."""
        if self.arm.method == "mdmd":
            return inputs.mdmd_scores(self.chunks(video), self.half).numpy()
        look = lambda frames: self.net(frames.to(self.device))  # noqa: E731
        lengths = [*self.gaps.values()][:: -1 if self.arm.swapped else 1]
        reach = dict(zip(self.gaps, lengths, strict=True))
        scored = inputs.scores(look, self.chunks(video), reach, self.arm.reference)
        return scored[self.order(video).argsort()].numpy()

    def learn(self, seen: pd.DataFrame, known: pd.DataFrame, steps: int, file: Path | None) -> dict:
        """Train, unless it is MDMD, and fit thresholds, on the training videos.

        Args:
            seen: Table of these videos.
            known: Table of their events.
            steps: Steps of training.
            file: Where the training is written to while it is under way; None for nowhere.

        Returns:
            What the unit reports of it.
        """
        arm, about = self.arm, {"parameters": 0}
        if arm.method != "mdmd":
            shown = []
            for video in seen["video"]:
                own, rows = known[known["video"] == video], self.order(video)
                labels = inputs.labels(own, len(rows), self.half, arm.reference, arm.labels)
                shown.append((torch.cat([*self.chunks(video)]), labels[rows]))
            options = {"steps": steps // RECIPE.epochs, "mirror": arm.method != "accumulated flow"}
            batches = inputs.Pairs(shown, self.gaps, arm.reference, **options)
            options = {"seed": self.seed, "device": self.device, "checkpoint": file}
            history = train(self.net, batches, RECIPE, progress=file is not None, **options)
            self.net.eval()
            about["parameters"] = sum(p.numel() for p in self.net.parameters())
            about["loss"] = history.epochs[-1].loss
        scores = {video: self.curve(video) for video in seen["video"]}
        self.thresholds = intervals.fit_threshold(scores, known, self.half)
        return about | {"thresholds": self.thresholds}

    def lay(self, video: str, curve: np.ndarray) -> pd.DataFrame:
        """Intervals of a video from its scores."""
        return intervals.spotted(curve, self.half, self.thresholds, video)


class Tiling(Spotter):
    """Blind tiling: macro windows back to back, of the length that does best in training."""

    def learn(self, seen: pd.DataFrame, known: pd.DataFrame, *_: object) -> dict:
        """Choose the length."""
        worth, videos = {}, dict(zip(seen["video"], seen["n_frames"], strict=True))
        for length in (max(1, round(x * self.half["macro"])) for x in (1.4, 1.7, 2.0, 2.4)):
            worth[length] = scoring.megc_f1(known, intervals.tiling(videos, length))["overall"]
        self.length = max(worth, key=worth.get)
        return {"tile": self.length}

    def curve(self, video: str) -> np.ndarray:
        """No scores, nan (T, 2)."""
        return np.full((self.source.clips.set_index("video")["n_frames"][video], 2), np.nan)

    def lay(self, video: str, curve: np.ndarray) -> pd.DataFrame:
        """The windows."""
        return intervals.tiling({video: len(curve)}, self.length)


# ---- scores --------------------------------------------------------------------------------------


def tables(units: Sequence) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Videos, events, and intervals laid, of all folds of an arm and a seed.

    Videos have a column `curve`, their scores float64 (T, 2), and one `gaps`.

    Raises:
        BadInput: A video in two folds.
    """
    parts = {"": [], "event_": [], "spotted_": []}
    for one in units:
        arrays = one.predictions()
        for start, made in parts.items():
            names = INTERVAL if start else VIDEO
            table = pd.DataFrame({name: arrays[start + name] for name in names})
            made.append(table.astype(dict.fromkeys(names[2:], np.int64)))
        curves = np.split(arrays["curve"].astype(np.float64), arrays["n_frames"].cumsum()[:-1])
        parts[""][-1] = parts[""][-1].assign(curve=curves, gaps=[one.metrics["gaps"]] * len(curves))
    videos, events, spotted = (pd.concat(made, ignore_index=True) for made in parts.values())
    if videos["video"].duplicated().any():
        raise BadInput("units", "hold a video twice", "give each fold of one arm and seed once")
    return videos, events, spotted


def rows(units: Sequence) -> list[dict]:
    """The scores of one arm and seed as fields of rows, for `results.unit_rows`.

    Metrics: `f1_<class>`, `precision_<class>`, `recall_<class>` of micro, macro and overall, by the
    challenge's rule; `f1_overall_<rule>` by every other one of `scoring.RULES`, and
    `f1_overall_oracle`, each person with the threshold that suits it best, the fitted one among
    them; `confusion_micro` and `confusion_macro`, share of the intervals of that class whose middle
    lies in an event of the other class and in none of its own; `auc_micro` and `auc_macro` of
    frames, by whether an event is running.
    """
    videos, events, spotted = tables(units)
    about = {"videos": videos["video"].tolist(), "fps": units[0].metrics["fps"]}
    counts, values = scoring.counts(events, spotted, **about), {}
    for metric in (scoring.f1, scoring.precision, scoring.recall):
        values |= {f"{metric.__name__}_{name}": value for name, value in metric(counts).items()}
    for rule in list(scoring.RULES)[1:]:  # the first is the challenge's
        table = scoring.counts(events, spotted, rule, **about)
        values[f"f1_overall_{rule}"] = scoring.f1(table)["overall"]
    T = videos.set_index("video")["n_frames"]  # of each
    middle = spotted["video"].map(T.cumsum() - T) + (spotted["onset"] + spotted["offset"]) // 2
    own = [events[events["video"] == video] for video in videos["video"]]
    shown = map(inputs.labels, own, videos["n_frames"], videos["gaps"])
    inside, curve = torch.cat([*shown]).numpy() > 0, np.concatenate([*videos["curve"]])  # (N, 2)
    for i, name in enumerate(CLASSES):
        shows = inside[middle[spotted["label"] == name].to_numpy(int)]  # (P, 2)
        values[f"confusion_{name}"] = (shows[:, 1 - i] & ~shows[:, i]).sum() / max(len(shows), 1)
    if not np.isnan(curve).all():  # blind tiling has no scores
        for name, truth, score in zip(CLASSES, inside.T, curve.T, strict=True):
            varies = len(np.unique(truth)) == 2
            values[f"auc_{name}"] = roc_auc_score(truth, score) if varies else np.nan
        values["f1_overall_oracle"] = scoring.f1(_oracle(videos, events, spotted))["overall"]
    n = (counts["tp"] + counts["fn"]).to_dict()
    return [
        row | {"n": int(n.get(row["metric"].rpartition("_")[2], n["overall"]))}
        for row in arms.score_rows(units, values)
    ]


def _oracle(videos: pd.DataFrame, events: pd.DataFrame, spotted: pd.DataFrame) -> pd.DataFrame:
    """Counts with the threshold, of eight and the fitted one, that suits each person best."""
    films = [*videos.itertuples()]
    shares = [dict.fromkeys(CLASSES, share) for share in np.linspace(0.2, 0.9, 8)]
    laid = ([intervals.spotted(v.curve, v.gaps, t, v.video) for v in films] for t in shares)
    people = {film.video: film.subject for film in films}
    return scoring.oracle(events, [spotted, *map(pd.concat, laid)], people)
