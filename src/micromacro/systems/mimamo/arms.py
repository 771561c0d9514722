"""The arms of MIMAMO Net's ablations, the data sets that they run on, and the released faults.

An arm says what the network is, what it sees and what it learns by; a data set says how its clips are
cut, batched and trained on, which is the paper's recipe for the official ones. Every arm runs on every
data set, unless it asks for something that does nothing there.

Released faults (`LEGACY`), each a switch of its own; protocol "as_released" turns on all that act:

===========  =============================================  ========================================
switch       ours                                           as released
===========  =============================================  ========================================
gru_axis     GRU along the sequence                         along the batch (B1)
loss         all snippets                                   first ones of a window, labels mixed (B2;
                                                            OMG: only variances by n - 1)
unwrap       phase by conjugate products                    one-sided unwrapping (Q1)
crop         0.85 of the face                               40 px of it (Q5, Aff-Wild)
gaps         snippets that touch a gap or cut are masked    frames without a face (or label, in
                                                            training) dropped, snippets reach across
                                                            (Q4)
second       a second of the clip's own frame rate (OMG)    30 frames
batches      drawn anew each epoch (OMG)                    fixed, of like length
windows      test windows overlap by half, averaged         none, but the last one overwrites
===========  =============================================  ========================================

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

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

from micromacro.datasets import affect
from micromacro.errors import BadInput, check_choice
from micromacro.systems.mimamo.inputs import CLIP_STEPS, HALF
from micromacro.systems.mimamo.task import LABELS, STRIDE
from micromacro.training import Recipe

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
LIGHT = ("illumination", "test_illumination")  # options of the benchmark's data, not of an arm
_STREAM = {k: {"streams": "temporal", "kind": k} for k in ("phase", "farneback")}
_NEW_LIGHT = {"illumination": 0.0, "test_illumination": 1.0}
SWEEP: dict[str, dict[str, dict]] = {
    "snippet length": {f"L {length}": {"length": length} for length in (4, 24)},
    "sequence length": {f"S {steps}": {"steps": steps} for steps in (1, 4, 32)},
    "levels": {
        "level 1 alone": {"levels": [1]},
        "level 2 alone": {"levels": [2]},
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
    "released fault alone": {f"released {x}": {"legacy": [x]} for x in LEGACY[1:]},
}


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
_SMALL = {"n_features": 96, "phase_widths": (16, 24, 32), "hidden": 32, "gru_hidden": 24}
_SMALL["dropout"] = 0.1  # the paper's rates are made for a network forty times as large
_FRAME_FAULTS, _FILM_FAULTS = (*LEGACY, "gaps", "windows"), ("gaps", "second", "batches")
_SPLITS = {"training": ("Train", "Validation"), "test": "Test"}  # of OMG-Emotion
DATASETS = {
    "synthetic": DataSet(_ADAMW, LEGACY, 16, 8, 8, HALF, STRIDE, folds=None, sizes=_SMALL),
    "omg": DataSet(
        *(_OMG, (*LEGACY[:3], *_FILM_FAULTS), 16, 4, 4, HALF, None),
        per_frame=False,
        read=affect.read_omg,
        **_SPLITS,
    ),
    "affwild": DataSet(_AFFWILD, _FRAME_FAULTS, 64, 16, 8, overlap=True, read=affect.read_affwild),
}
DATASETS["affwild2"] = replace(DATASETS["affwild"], test="validation", read=affect.read_affwild2)


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
        steps: Snippets in a sequence; None means the data set's own. On the benchmark 16 span 2.1 s,
            and a clip of 32 is cut accordingly; at test the sequences of a clip, and the clips of a
            person, are neighbours in a batch, which matters to the released GRU axis alone.
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
    levels: tuple[int, ...] = (1, 2)
    steps: int | None = None
    recurrent: bool = True
    loss: str = "ccc"
    scale: bool = False
    legacy: tuple[str, ...] = ()
    label: str = "both"

    def __post_init__(self):
        check_choice("loss", self.loss, ("ccc", "mse"))
        check_choice("label", self.label, (*LABELS, "both"))
        for fault in self.legacy:
            check_choice("legacy", fault, self.about.legacy)
        benchmark, blind = self.dataset == "synthetic", self.streams == "spatial"
        if not self.levels or set(self.levels) - {1, 2}:
            remedy = "give [1], [2] or [1, 2]"
            raise BadInput(f"levels {list(self.levels)}", "are none of 1 and 2", remedy)
        steps = self.about.window if self.steps is None else self.steps
        if steps < 1 or (benchmark and CLIP_STEPS % steps):
            raise BadInput(f"steps={steps}", "does not divide 32", "give 1, 2, 4, 8, 16 or 32")
        idle = {  # what would give a row a name that is not true
            'legacy "loss"': "loss" in self.legacy and self.loss != "ccc",
            'legacy "unwrap"': "unwrap" in self.legacy and (self.kind != "phase" or blind),
            'legacy "crop"': "crop" in self.legacy and blind,
            "legacy twice": len(set(self.legacy)) < len(self.legacy),
            f"kind={self.kind!r}": self.kind != "phase" and (blind or not benchmark),
            f"length={self.length}": self.length != 2 * HALF and blind,
            f"levels={self.levels}": self.levels != (1, 2) and blind,
            "scale": self.scale and (blind or not benchmark),
            "recurrent=False": not self.recurrent and self.dataset == "omg",
        }
        for option, does_nothing in idle.items():
            if does_nothing:
                raise BadInput(option, f"does nothing here, on {self.dataset}", "leave it out")

    @classmethod
    def on(cls, dataset: str, options: Mapping[str, object]) -> "Arm":
        """An arm of `CORE` or `SWEEP` on a data set; "protocol" is "ours" or "as_released".

        Raises:
            BadInput: As the arm itself.
        """
        check_choice("dataset", dataset, DATASETS)
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
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
