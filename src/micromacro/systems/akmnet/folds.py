"""Training AKMNet, or a control of it, for one fold of people.

All plans of a seed share people, clips, folds, the pre-trained frame network, first weights, the
recipe and the order of the clips. What they share is kept between calls, so go through a seed's folds
and arms before the next seed's.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from micromacro.errors import BadInput
from micromacro.folds import grouped_folds, leave_one_out
from micromacro.systems.akmnet.inputs import (
    BY_MINING,
    RESAMPLED,
    ClipBatches,
    balanced,
    chosen,
    frozen_maps,
)
from micromacro.systems.akmnet.losses import akm_loss
from micromacro.systems.akmnet.mining import Mining
from micromacro.systems.akmnet.model import AkmNet, AkmOutput
from micromacro.systems.akmnet.stills import FROZEN, WIDTHS, pretrained
from micromacro.systems.akmnet.task import CLASSES, IMAGE_PX, Clips, Dials, record
from micromacro.training import Recipe, isolated_rng, moved, train

BATCH = 8
NET = {"widths": WIDTHS, "blocks": 1, "image_px": IMAGE_PX, "gru_hidden": 16}
RECIPE = {"optimiser": "adamw", "lr": 3e-3, "weight_decay": 1e-2, "schedule": "one_cycle"}
# Settled on development seeds: 1e-3 leaves hard ones under-trained, 1e-2 is worse.


@dataclass(frozen=True)
class Plan:
    """Everything that decides the trainings of one unit; fields as the arguments of `unit`."""

    seed: int
    dials: Dials
    steps: str = "s123"
    frames: str = "all"
    length: int = 24
    alpha: float = 0.0
    count_weight: float = 0.1
    margin_weight: float = 1.0
    bn: str = "packed"
    legacy: tuple[str, ...] = ()
    subjects: int = 16
    clips: int = 9
    folds: int | None = 4
    epochs: int = 4
    people: int = 140
    device: str = "cpu"

    def record(self) -> Clips:
        """The clips of all folds."""
        return record(self.seed, self.dials, subjects=self.subjects, clips=self.clips)

    def loss(self, output: AkmOutput, target: torch.Tensor) -> torch.Tensor:
        """The loss with this plan's weights; see `akm_loss`."""
        weights = {"count_weight": self.count_weight, "margin_weight": self.margin_weight}
        return akm_loss(output, target, **weights)


@dataclass(frozen=True, eq=False)
class Trained:
    """What one fold's network gives, for all C clips of N frames, those of its training too.

    Attributes:
        test: bool (C,), the clips of this fold, which it was not trained on.
        logits: float32 (E, test clips, classes) after each epoch.
        kept: bool (N,), frames that reach the GRU, mined after the last epoch or chosen beforehand;
            all True of resampled clips, whose frames are mixtures.
        takes: int64 (C,), how many frames of a clip reach the GRU.
        max_key: int64 (C,), the frame with the largest score; -1 without mining.
    """

    test: np.ndarray
    logits: np.ndarray
    kept: np.ndarray
    takes: np.ndarray
    max_key: np.ndarray


@lru_cache(maxsize=2)
def trained(plan: Plan, fold: int) -> Trained:
    """Train one fold of a plan; kept for the next unit, which may be a control of this one.

    Args:
        plan: What to train.
        fold: Whose clips are left out, from 0 on.

    Raises:
        BadInput: Fewer people than folds, no such fold, and as `AkmNet`.
    """
    clips, mined = plan.record(), None
    if plan.frames in BY_MINING:
        mined = trained(replace(plan, steps="s123", frames="all"), fold)
    test = fold_of(clips, plan.folds, plan.seed) == fold
    if not test.any():
        raise BadInput(f"fold {fold}", "there is no such fold", "count from 0, below their number")
    maps, given = _seen(plan, clips, mined)
    logits, mining = _train(plan, clips, maps, test)
    kept = given if plan.frames != "all" else mining.kept.cpu().numpy()
    max_key = np.full(len(clips), -1) if mining.score is None else np.array(mining.max_key())
    return Trained(test, logits, kept, np.array(mining.takes), max_key)


def fold_of(clips: Clips, folds: int | None, seed: int) -> np.ndarray:
    """In which fold each clip is tested, int64 (C,); people stay whole.

    Args:
        clips: C clips.
        folds: Their number; None leaves one subject out.
        seed: Of who goes where.

    Raises:
        BadInput: Fewer people than folds, or than two.
    """
    names = [f"{subject:03d}" for subject in clips.subject.tolist()]
    return leave_one_out(names) if folds is None else grouped_folds(names, folds, seed)


@lru_cache(maxsize=16)  # 12 MB each
def _maps(
    seed: int, people: int, frames: str, length: int, alpha: float, clips: Clips
) -> tuple[torch.Tensor, ...]:
    """What the frozen parts make of each clip."""
    frame_net = pretrained(seed, people).frame_net.freeze(FROZEN)
    if frames in RESAMPLED:
        return frozen_maps(clips, frame_net, frames, length, alpha=alpha).split(length)
    return clips.split(frozen_maps(clips, frame_net, alpha=alpha))


def _seen(plan: Plan, clips: Clips, mined: Trained | None) -> tuple[list[torch.Tensor], np.ndarray]:
    """The maps of the frames that the network gets, clip by clip; and which frames, bool (N,)."""
    resampled = plan.frames in RESAMPLED
    how = (plan.frames, plan.length) if resampled else ("all", 0)
    maps = _maps(plan.seed, plan.people, *how, plan.alpha, clips)
    seen = np.ones(len(clips.frames), bool)
    if resampled or plan.frames == "all":
        return list(maps), seen
    given = {}
    if mined is not None:
        given = {"takes": mined.takes.tolist(), "max_key": mined.max_key.tolist()}
    frames = chosen(clips, plan.frames, plan.seed, **given)
    starts = (clips.lengths.cumsum(0) - clips.lengths).tolist()
    seen[:] = False
    for start, rows in zip(starts, frames, strict=True):
        seen[start + rows.numpy()] = True
    return [clip[rows] for clip, rows in zip(maps, frames, strict=True)], seen


def _net(plan: Plan) -> AkmNet:
    """The network before training: pre-trained frames, everything else from the seed."""
    with isolated_rng(plan.seed):
        options = {f"legacy_{name}": True for name in plan.legacy}
        net = AkmNet(len(CLASSES), steps=plan.steps, bn=plan.bn, **NET, **options)
    net.frame_net.load_state_dict(pretrained(plan.seed, plan.people).frame_net.state_dict())
    net.frame_net.freeze(FROZEN)
    return net


def _train(
    plan: Plan, clips: Clips, maps: list[torch.Tensor], test: np.ndarray
) -> tuple[np.ndarray, Mining]:
    """Train one fold; `test`, bool (C,), says which clips it must not see.

    Returns:
        float32 (E, test clips, classes) after each epoch; what the last one mines in all clips.
    """
    rows, held_out = torch.arange(len(clips)), torch.from_numpy(test)
    whole = ClipBatches(maps, clips.label, rows, 4 * BATCH, FROZEN)
    unseen = replace(whole, rows=rows[held_out])
    seen = replace(whole, rows=balanced(clips.label, rows[~held_out]), size=BATCH)
    epochs = []

    def note(net: AkmNet) -> float:
        """Keep the logits of the test clips. The score only counts, so the last epoch is kept."""
        outputs = [_run(net, inputs, plan.device) for inputs, _ in unseen]
        epochs.append(torch.cat([output.logits.cpu() for output in outputs]))
        return float(len(epochs))

    net, recipe = _net(plan), Recipe(loss=plan.loss, epochs=plan.epochs, **RECIPE)
    options = {"seed": plan.seed, "device": plan.device, "progress": False}
    train(net, seen, recipe, validate=note, **options)
    net.eval()
    with torch.no_grad():
        minings = [_run(net, inputs, plan.device).mining for inputs, _ in whole]
    return torch.stack(epochs).numpy(), _joined(minings)


def _run(net: AkmNet, inputs: dict, device: str) -> AkmOutput:
    return net(**moved(inputs, device))


def _joined(minings: Iterable[Mining]) -> Mining:
    """The minings of some batches as one."""
    minings = list(minings)

    def column(name: str) -> torch.Tensor | None:
        values = [getattr(mining, name) for mining in minings]
        return None if values[0] is None else torch.cat(values)

    lengths = tuple(T for mining in minings for T in mining.lengths)
    return Mining(lengths, *map(column, ("kept", "alpha", "beta", "binary")))
