"""The ablations of MIMAMO Net on the benchmark: arms, and one unit that trains and scores one.

All arms of a seed share people, clips, crops, the recipe and the order of batches, and differ in what
their name says. First weights are equal too up to the first layer whose shape differs; after it they
are other draws. Nothing is selected: the last epoch counts.

For every arm alike, two things differ from the paper: crop and flip are drawn once a clip and not once
an epoch, and one dropout of 0.1 replaces its rates, which are made for a network forty times as large.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch

from micromacro.errors import BadInput
from micromacro.expression_encoder import ExpressionEncoder, load_expression_encoder
from micromacro.metrics import ccc, mse, pcc
from micromacro.systems.mimamo.data.protocol import merge_windows, rescale, windows
from micromacro.systems.mimamo.inputs import appearance, channels, faces, motion
from micromacro.systems.mimamo.losses import ccc_loss, mse_loss
from micromacro.systems.mimamo.model import MimamoNet
from micromacro.systems.mimamo.task import LABELS, Clips, record
from micromacro.training import Batches, Recipe, isolated_rng, predict, train

LEGACY = ("gru_axis", "loss", "unwrap", "crop")
CORE = {
    "ours": {},
    "spatial": {"streams": "spatial"},
    "temporal, phase": {"streams": "temporal"},
    "temporal, flow": {"streams": "temporal", "kind": "farneback"},
    "no GRU": {"recurrent": False},
    "released GRU axis": {"legacy": ["gru_axis"]},
    "as released": {"legacy": [*LEGACY]},
    "MSE loss": {"loss": "mse"},
}
CLIP_STEPS = 32  # snippets in a clip
BATCH_STEPS = 128  # snippets in a batch, whatever the length of the sequences


def unit(
    *,
    seed: int,
    streams: str = "both",
    kind: str = "phase",
    length: int = 12,
    levels: Sequence[int] = (1, 2),
    steps: int = 16,
    recurrent: bool = True,
    loss: str = "ccc",
    blocks: str = "strided",
    scale: bool = False,
    legacy: Sequence[str] = (),
    crop: str = "ours",
    illumination: float = 0.5,
    test_illumination: float | None = None,
    people: int = 48,
    epochs: int = 10,
    device: str = "cpu",
) -> tuple[dict, dict]:
    """Train one arm and score it on other people; a unit for `experiments.run`.

    Args:
        seed: Of people, clips, augmentation, weights and batches.
        streams: "both", "spatial" or "temporal".
        kind: Of the motion; see `inputs.motion`.
        length: Differences in a snippet; at 30 frames per second 12 are 0.4 s.
        levels: Pyramid levels that the temporal stream sees; the maps of another one are 0, so that
            the network stays the same.
        steps: Snippets in a sequence; 16 span 2.1 s. A clip of 32 is cut accordingly; at test the
            sequences of a clip, and the clips of a person, are neighbours in a batch, which matters
            to the released GRU axis alone.
        recurrent: Whether there is a GRU.
        loss: "ccc" or "mse".
        blocks: Form of PhaseNet, "strided" or "figure".
        scale: Divide the maps of each level by their standard deviation over the training set. As
            published they stay in rad, where level 2 joins features a hundred times its size.
        legacy: Released faults, any of `LEGACY`.
        crop: Of the augmentation, "ours" or "none"; a legacy "crop" replaces it.
        illumination: Dial of the task, 0 to 1.
        test_illumination: The same for the test; None for that of the training.
        people: In training; half as many in the test.
        epochs: Of training.
        device: Of the arithmetic.

    Returns:
        Metrics `<score>_<label>`: ccc, pcc, mse, and `rescaled` (CCC after the predictions got the
        spread of the training labels), over all snippets of all test clips; `train_ccc_<label>`.
        Predictions: prediction, truth float32 (N, S, 2), person int64 (N,).

    Raises:
        BadInput: An unknown option; options of which one would not do anything.
    """
    _check(streams, kind, levels, steps, loss, legacy)
    light = {"train": illumination, "test": illumination}
    if test_illumination is not None:
        light["test"] = test_illumination
    sets = {split: _record(seed, split, people, light[split]) for split in light}
    crops = {"train": "released" if "crop" in legacy else crop, "test": "none"}
    given = {
        split: _inputs(
            clips, streams, kind, length, tuple(levels), "unwrap" in legacy, crops[split], seed
        )
        for split, clips in sets.items()
    }
    if scale:
        given = _scaled(given)
    with isolated_rng(seed):
        net = MimamoNet(
            len(LABELS),
            n_features=96,
            phase_channels=channels(kind, length),
            phase_widths=(16, 24, 32, 32) if blocks == "figure" else (16, 24, 32),
            hidden=32,
            gru_hidden=24,
            blocks=blocks,
            streams=streams,
            recurrent=recurrent,
            dropout=0.1,
            legacy_gru_axis="gru_axis" in legacy,
        )
    truth = {split: clips.labels[:, clips.centres] for split, clips in sets.items()}
    batches = _batches(given["train"], truth["train"], steps)
    train(net, batches, _recipe(loss, epochs, legacy), seed=seed, device=device, progress=False)
    predicted = {
        split: _predict(net, given[split], truth[split], steps, device)
        for split in ("train", "test")
    }
    metrics = _scores(predicted["test"], truth["test"], truth["train"])
    for label, score in zip(
        LABELS, _per_label(ccc, predicted["train"], truth["train"]), strict=True
    ):
        metrics[f"train_ccc_{label}"] = score
    test = {"prediction": predicted["test"], "truth": truth["test"].numpy()}
    return metrics, test | {"person": sets["test"].person.numpy()}


def _check(
    streams: str,
    kind: str,
    levels: Sequence[int],
    steps: int,
    loss: str,
    legacy: Sequence[str],
) -> None:
    """Refuse what is unknown, and what would give a row a name that is not true."""
    for name in legacy:
        if name not in LEGACY:
            raise BadInput(f"legacy {name!r}", "is unknown", f"use any of {', '.join(LEGACY)}")
    if loss not in ("ccc", "mse"):
        raise BadInput(f"loss {loss!r}", "is unknown", "use ccc or mse")
    if not levels or set(levels) - {1, 2}:
        raise BadInput(f"levels {list(levels)}", "are none of 1 and 2", "give [1], [2] or [1, 2]")
    if steps < 1 or CLIP_STEPS % steps:
        raise BadInput(f"steps={steps}", "does not divide 32", "give 1, 2, 4, 8, 16 or 32")
    idle = {
        'legacy "loss"': "loss" in legacy and loss != "ccc",
        'legacy "unwrap"': "unwrap" in legacy and (kind != "phase" or streams == "spatial"),
        f"kind={kind!r}": kind != "phase" and streams == "spatial",
    }
    for what, is_idle in idle.items():
        if is_idle:
            raise BadInput(what, "does nothing here", "leave it out")


def _record(seed: int, split: str, people: int, illumination: float) -> Clips:
    count = people if split == "train" else people // 2
    return record(seed, split, people=count, steps=CLIP_STEPS, illumination=illumination)


def _recipe(loss: str, epochs: int, legacy: Sequence[str]) -> Recipe:
    function = mse_loss
    if loss == "ccc":
        function = released_ccc_loss if "loss" in legacy else ccc_loss
    one_cycle = {"optimiser": "adamw", "lr": 1e-2, "weight_decay": 1e-2, "schedule": "one_cycle"}
    return Recipe(loss=function, epochs=epochs, **one_cycle)


def released_ccc_loss(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """`ccc_loss` with its released fault."""
    return ccc_loss(prediction, target, legacy_loss=True)


def _inputs(
    clips: Clips,
    streams: str,
    kind: str,
    length: int,
    levels: tuple,
    unwrap: bool,
    crop: str,
    seed: int,
) -> dict[str, torch.Tensor]:
    """Inputs of the network for whole clips, (N, S, ...) each."""
    given = {}
    if streams != "temporal":
        given["features"] = appearance(clips.frames, clips.centres, _encoder())
    if streams != "spatial":
        draws = torch.Generator().manual_seed(seed)
        seen = faces(clips.frames, crop, draws)
        maps = motion(seen, clips.centres, kind=kind, length=length, legacy_unwrap=unwrap)
        for level, values in zip((1, 2), maps, strict=True):
            given[f"level_{level}"] = values if level in levels else torch.zeros_like(values)
    return given


def _scaled(given: dict[str, dict[str, torch.Tensor]]) -> dict[str, dict[str, torch.Tensor]]:
    """Divide the maps of each level by their standard deviation over the training set."""
    sd = {name: v.std() for name, v in given["train"].items() if name != "features"}
    return {
        split: {k: v / sd[k].clamp_min(1e-12) if k in sd else v for k, v in inputs.items()}
        for split, inputs in given.items()
    }


@lru_cache(maxsize=1)
def _encoder() -> ExpressionEncoder:
    return load_expression_encoder()


def _cut(values: torch.Tensor, steps: int) -> torch.Tensor:
    """Cut clips (N, S, ...) into sequences (N W, steps, ...), as `windows` does."""
    spans = windows(values.shape[1], steps)
    return torch.stack([values[:, a:b] for a, b in spans], 1).flatten(0, 1)


def _batches(given: dict[str, torch.Tensor], truth: torch.Tensor, steps: int) -> Batches:
    inputs = {name: _cut(values, steps) for name, values in given.items()}
    return Batches(inputs, _cut(truth, steps), max(2, BATCH_STEPS // steps))


def _predict(
    net: MimamoNet, given: dict, truth: torch.Tensor, steps: int, device: str
) -> np.ndarray:
    """Predictions for whole clips, float32 (N, S, 2); sequences merged by their mean."""
    spans = windows(truth.shape[1], steps)
    parts = predict(net, _batches(given, truth, steps), device).unflatten(0, (-1, len(spans)))
    return np.stack([merge_windows(list(clip.numpy()), spans) for clip in parts]).astype(np.float32)


def _per_label(score: Callable, prediction: np.ndarray, truth: torch.Tensor) -> list[float]:
    truth = truth.numpy()
    return [
        float(score(prediction[..., k].ravel(), truth[..., k].ravel())) for k in range(len(LABELS))
    ]


def _scores(prediction: np.ndarray, truth: torch.Tensor, train: torch.Tensor) -> dict[str, float]:
    flat = prediction.reshape(-1, len(LABELS))
    scaled = rescale(flat, train.flatten(0, 1).numpy().std(0)).reshape(prediction.shape)
    rows = {
        name: _per_label(score, prediction, truth)
        for name, score in (("ccc", ccc), ("pcc", pcc), ("mse", mse))
    }
    rows["rescaled"] = _per_label(ccc, scaled, truth)
    return {
        f"{name}_{label}": value
        for name, values in rows.items()
        for label, value in zip(LABELS, values, strict=True)
    }
