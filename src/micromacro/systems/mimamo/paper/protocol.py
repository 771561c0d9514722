"""The protocols of `paper`, as released and ours: which snippets make a sequence, and a batch."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from micromacro.errors import BadInput
from micromacro.systems.mimamo import data
from micromacro.systems.mimamo.data.protocol import LONGEST_OMG, WINDOW
from micromacro.systems.mimamo.losses import ccc_loss
from micromacro.systems.mimamo.model import MimamoNet, OmgNet
from micromacro.systems.mimamo.paper.sequences import Cut, Sequences
from micromacro.systems.mimamo.paper.store import StoredClip
from micromacro.training import Recipe, isolated_rng, predict

PROTOCOLS = ("ours", "as_released")
LABELS = {"valence": (0,), "arousal": (1,), "both": (0, 1)}  # columns of a clip's labels
OFFSETS = range(0, 29, 3)  # frames; where OMG's training sequences start
RELEASED_STEP = 30  # frames; a second, whatever the film's own rate
TRAINING_STRIDE = 32
SGD = Recipe(optimiser="sgd", lr=1e-3, momentum=0.9, weight_decay=5e-4, schedule="steps")


@dataclass(frozen=True)
class Dataset:
    """What differs between data sets.

    Attributes:
        read: The reader.
        training: Splits that the folds are made of.
        test: Split that all folds predict.
        per_frame: One label a frame; else one a clip.
        batch: Sequences in a training batch.
        evaluation_batch: In one of validation and test.
        recipe: The published one; its loss is the protocol's.
    """

    read: Callable
    training: tuple[str, ...]
    test: str
    per_frame: bool
    batch: int
    evaluation_batch: int
    recipe: Recipe


_FRAMES = {
    "per_frame": True,
    "batch": 16,
    "evaluation_batch": 8,
    "recipe": replace(SGD, milestones=(10, 20), epochs=25, patience=5),
}
_UTTERANCES = {
    "per_frame": False,
    "batch": 4,
    "evaluation_batch": 4,
    "recipe": replace(SGD, milestones=(3, 5), epochs=5, patience=3),
}
DATASETS = {
    "omg": Dataset(data.read_omg, ("Train", "Validation"), "Test", **_UTTERANCES),
    "affwild": Dataset(data.read_affwild, ("train",), "test", **_FRAMES),
    "affwild2": Dataset(data.read_affwild2, ("train",), "validation", **_FRAMES),
}


@dataclass(frozen=True)
class Protocol:
    """One data set by one protocol, for some labels; `paper` tells what the protocols do.

    Attributes:
        dataset: Of `DATASETS`.
        legacy: As released.
        columns: Of the labels: 0 valence, 1 arousal.
        device: For phase differences and predictions.
    """

    dataset: Dataset
    legacy: bool
    columns: tuple[int, ...]
    device: str

    @classmethod
    def named(cls, dataset: str, protocol: str, label: str, device: str) -> "Protocol":
        """By names, each checked.

        Raises:
            BadInput: An unknown one.
        """
        known(f"dataset {dataset!r}", dataset, DATASETS)
        known(f"protocol {protocol!r}", protocol, PROTOCOLS)
        known(f"label {label!r}", label, LABELS)
        return cls(DATASETS[dataset], protocol == "as_released", LABELS[label], device)

    def cut(self, clip: StoredClip) -> Cut:
        """The clip's snippets."""
        return Cut.of(clip, centred=self.dataset.per_frame, over_gaps=self.legacy)

    def model(self, seed: int) -> MimamoNet | OmgNet:
        """The network, with first weights of this seed."""
        make = MimamoNet if self.dataset.per_frame else OmgNet
        with isolated_rng(seed):
            return make(len(self.columns), legacy_gru_axis=self.legacy)

    def recipe(self, epochs: int | None) -> Recipe:
        """The published recipe; None for its number of epochs."""
        recipe = self.dataset.recipe
        loss = functools.partial(ccc_loss, legacy_loss=self.legacy)
        return replace(recipe, loss=loss, epochs=recipe.epochs if epochs is None else epochs)

    def evaluated(self, cut: Cut) -> range:
        """Numbers of the snippets that a clip's predictions are made of."""
        return range(len(cut.valid)) if self.dataset.per_frame else self._seconds(cut)

    def training(self, cuts: Sequence[Cut]) -> Sequences:
        """Training batches: of windows with two snippets that count, or utterances with one.

        As released, frames without a label are dropped as those without a face are.

        Raises:
            BadInput: Fewer than two sequences.
        """
        if self.legacy and self.dataset.per_frame:
            labelled = [np.isfinite(cut.clip.labels).all(1) for cut in cuts]
            clips = [
                replace(cut.clip, seen=cut.clip.seen & has_label)
                for cut, has_label in zip(cuts, labelled, strict=True)
            ]
            cuts = [self.cut(clip) for clip in clips]
        found = []
        for index, cut in enumerate(cuts):
            n = len(cut.valid)
            if self.dataset.per_frame:
                some, least = self._windows(cut, TRAINING_STRIDE), 2
            else:
                some, least = [self._seconds(cut, first) for first in OFFSETS if first < n], 1
            found += [(index, numbers) for numbers in some if cut.counts(numbers).sum() >= least]
        if len(found) < 2:
            fault = f"have {len(found)} of the two training sequences that are needed at least"
            raise BadInput("the other folds", fault, "get more of the films or faces")
        return self._batches(cuts, found, self.dataset.batch, train=True)

    def evaluation(self, cuts: Sequence[Cut]) -> Sequences:
        """Batches that hold each of the snippets `evaluated` once or more."""
        stride = WINDOW if self.legacy else TRAINING_STRIDE
        found = []
        for index, cut in enumerate(cuts):
            if self.dataset.per_frame:
                found += [(index, numbers) for numbers in self._windows(cut, stride)]
            elif numbers := self.evaluated(cut):
                found.append((index, numbers))
        return self._batches(cuts, found, self.dataset.evaluation_batch, train=False)

    def predict(self, cuts: Sequence[Cut], model: torch.nn.Module) -> dict[str, np.ndarray]:
        """Predict clips.

        Returns:
            ``clips``, ``videos``: names (C,). ``lengths``: int64 (C,), rows of each: its frames, or
            1. ``prediction`` and ``truth``: float32 (rows, labels), nan for none.
        """
        batches = self.evaluation(cuts)
        outputs = predict(model, batches, self.device).numpy() if batches.sequences else []
        parts: list[list[tuple[range, np.ndarray]]] = [[] for _ in cuts]
        for (index, numbers), output in zip(batches.sequences, outputs, strict=True):
            parts[index].append((numbers, output))
        columns = list(self.columns)
        truth = [np.atleast_2d(cut.clip.labels)[:, columns] for cut in cuts]
        rows = [np.full(labels.shape, np.nan, np.float32) for labels in truth]
        for cut, some, row in zip(cuts, parts, rows, strict=True):
            if some and self.dataset.per_frame:
                row[cut.frames] = self._merged(some)
            elif some:
                row[:] = some[0][1]
        none = [np.empty((0, len(columns)), np.float32)]
        return {
            "clips": np.array([cut.clip.clip for cut in cuts], np.str_),
            "videos": np.array([cut.clip.video for cut in cuts], np.str_),
            "lengths": np.array([len(row) for row in rows], np.int64),
            "prediction": np.concatenate(rows + none),
            "truth": np.concatenate(truth + none),
        }

    def _batches(
        self, cuts: Sequence[Cut], found: list[tuple[int, range]], size: int, *, train: bool
    ) -> Sequences:
        fixed = self.legacy and not self.dataset.per_frame
        if fixed:  # batches of equal length; where one runs out, of like length
            found = sorted(found, key=lambda sequence: len(sequence[1]))
        return Sequences(
            cuts,
            found,
            size,
            columns=self.columns,
            fixed=fixed,
            legacy_unwrap=self.legacy,
            legacy_crop=train and self.legacy and self.dataset.per_frame,
            device=self.device,
        )

    def _windows(self, cut: Cut, stride: int) -> list[range]:
        n = len(cut.valid)
        return [range(*span) for span in data.windows(n, stride=stride).tolist()] if n else []

    def _seconds(self, cut: Cut, first: int = 0) -> range:
        step = RELEASED_STEP if self.legacy else max(1, round(cut.clip.fps))
        return range(first, len(cut.valid), step)[:LONGEST_OMG]

    def _merged(self, windows: list[tuple[range, np.ndarray]]) -> np.ndarray:
        spans = np.array([(numbers.start, numbers.stop) for numbers, _ in windows])
        parts = [output[: len(numbers)] for numbers, output in windows]
        return data.merge_windows(parts, spans, merge="overwrite" if self.legacy else "average")


def known(what: str, value: object, among: Sequence) -> None:
    """Refuse a name that is not among those.

    Raises:
        BadInput: That.
    """
    if value not in among:
        raise BadInput(what, "unknown", f"use one of {', '.join(among)}")
