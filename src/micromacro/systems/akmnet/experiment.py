"""The ablations of AKMNet on the benchmark: arms, and one unit that trains and scores one.

All arms of a seed share people, clips, folds, the pre-trained frame network, first weights, the
recipe and the order of the clips, and differ in what their name says. Folds keep people whole. The
window controls see as many frames of each clip as the "s123" of the same seed and fold kept, in
training and in test; their unit trains it first.

The last epoch counts. What the released program does, the best epoch on the test data, is scored
beside it under another name, from the same training.

For every arm alike, some things differ from the paper: all but the last stage of the frame network
is frozen after pre-training; batches of eight clips are real ones, not eight steps; AdamW with one
cycle replaces its SGD; no frame is cropped at random.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from micromacro.errors import BadInput
from micromacro.systems.akmnet.folds import Plan, Trained, trained
from micromacro.systems.akmnet.inputs import CHOICES, RESAMPLED
from micromacro.systems.akmnet.scores import (
    SELECTIONS,
    chance_scores,
    class_scores,
    mining_scores,
    selected,
)
from micromacro.systems.akmnet.task import TASKS, Clips, Dials

LEGACY = ("straight_through", "selection", "gru_init")
CORE = {
    "s123": {},
    "all": {"steps": "none"},
    "random window": {"steps": "none", "frames": "random window"},
    "midpoint window": {"steps": "none", "frames": "middle window"},
    "resampled": {"steps": "none", "frames": "tim"},
    "s12": {"steps": "s12"},
    "s13": {"steps": "s13"},
    "s23": {"steps": "s23"},
}
BESIDE = {
    "true apex": {"steps": "none", "frames": "true frames"},
    "as released": {"bn": "released", "legacy": [*LEGACY]},
}
"""What stands beside the core table: the ceiling, and every released oddity at once."""


def unit(
    *,
    seed: int,
    steps: str = "s123",
    frames: str = "all",
    length: int = 24,
    count_weight: float = 0.1,
    margin_weight: float = 1.0,
    bn: str = "packed",
    legacy: Sequence[str] = (),
    task: str = "headline",
    share: Sequence[float] | None = None,
    centrality: float | None = None,
    distractors: float | None = None,
    magnification: float | None = None,
    subjects: int = 16,
    clips: int = 9,
    folds: int | None = 4,
    epochs: int = 6,
    people: int = 140,
    device: str = "cpu",
) -> tuple[dict, dict]:
    """Train one arm in all folds and score it on people it did not see; for `experiments.run`.

    Args:
        seed: Of people, clips, folds, stills, weights and batches.
        steps: Of the mining: "s123", "s12", "s13", "s23" or "none".
        frames: Which frames the network gets, see `inputs.chosen`; "tim" and "linear" bring all clips
            to one length. Anything but "all" goes with steps "none".
        length: Of "tim" and "linear"; 24 is the mean length of the headline clips.
        count_weight: Of the count loss.
        margin_weight: Of the margin loss.
        bn: Mode of batch norm; see `FrameNet`.
        legacy: Released oddities, any of `LEGACY`.
        task: "headline" or "loose"; see `task.TASKS`.
        share: See `task.Dials`; None for the task's own, as for the next three.
        centrality: Likewise; of the headline task, None stands for the official clips'.
        distractors: Likewise.
        magnification: Likewise.
        subjects: People in the clips.
        clips: Of each.
        folds: Number of folds; None leaves one subject out (LOSO).
        epochs: Of training.
        people: In the stills that pre-train the frame network.
        device: Of the arithmetic.

    Returns:
        Metrics: `accuracy`, `uar`, `uf1` of the last epoch, the same with `_best_fold` and
        `_best_subject`, chosen on the test data; `majority`, share of the largest class; those of
        `scores.chance_scores` and, if something was mined, of `scores.mining_scores`.
        Predictions, a row for each clip: clip (its name), subject, fold, truth, prediction,
        best_fold, best_subject, T, onset, apex, offset, kept (how many frames the GRU got), max_key
        (-1 without mining), logits (C, classes); and `epochs` int64 (E, C), the class predicted
        after each epoch.

    Raises:
        BadInput: An unknown option; options of which one would not do anything.
    """
    dials = _dials(task, share, centrality, distractors, magnification)
    net = {"steps": steps, "frames": frames, "length": length, "bn": bn, "legacy": tuple(legacy)}
    weights = {"count_weight": count_weight, "margin_weight": margin_weight}
    sizes = {"subjects": subjects, "clips": clips, "folds": folds, "epochs": epochs}
    plan = Plan(seed, dials, **net, **weights, **sizes, people=people, device=device)
    _check(plan)
    return _scored(plan.record(), trained(plan), steps)


def _dials(task: str, share: Sequence[float] | None, *others: float | None) -> Dials:
    if task not in TASKS:
        raise BadInput(f"task {task!r}", "is unknown", f"use one of {', '.join(TASKS)}")
    given = {"share": None if share is None else tuple(share)}
    given |= dict(zip(("centrality", "distractors", "magnification"), others, strict=True))
    return replace(TASKS[task], **{k: value for k, value in given.items() if value is not None})


def _check(plan: Plan) -> None:
    """Refuse what is unknown, and what would give a row a name that is not true."""
    for name in plan.legacy:
        if name not in LEGACY:
            raise BadInput(f"legacy {name!r}", "is unknown", f"use any of {', '.join(LEGACY)}")
    if plan.frames not in CHOICES:
        raise BadInput(f"frames {plan.frames!r}", "are unknown", f"one of {', '.join(CHOICES)}")
    standard, selects = Plan(0, plan.dials), plan.steps in ("s123", "s13", "s23")
    idle = {
        f"frames={plan.frames!r}": plan.frames != "all" and plan.steps != "none",
        f"length={plan.length}": plan.length != standard.length and plan.frames not in RESAMPLED,
        f"count_weight={plan.count_weight}": plan.count_weight != standard.count_weight
        and not selects,
        f"margin_weight={plan.margin_weight}": plan.margin_weight != standard.margin_weight
        and not selects,
        "a legacy rule of the selection": not selects and {*plan.legacy} - {"gru_init"},
    }
    for what, is_idle in idle.items():
        if is_idle:
            raise BadInput(what, f"does nothing with steps {plan.steps!r}", "leave it out")


def _scored(clips: Clips, found: Trained, steps: str) -> tuple[dict, dict]:
    """Metrics and predictions of `unit`."""
    truth, subject = clips.label.numpy(), clips.subject.numpy()
    epochs, max_key = found.logits.argmax(-1), found.tested(found.max_key)
    said = selected(epochs, truth, (found.fold, subject))
    correct = said["last"] == truth
    metrics = class_scores(said, truth) | chance_scores(clips, correct)
    metrics["majority"] = float(np.bincount(truth).max() / len(truth))
    if steps != "none":
        metrics |= mining_scores(clips, found.kept, max_key, steps != "s12", correct)
    table = {"clip": np.array(clips.names), "subject": subject, "fold": found.fold, "truth": truth}
    table |= {"prediction": said["last"], **{k: said[k] for k in SELECTIONS[1:]}}
    table |= {"T": clips.lengths.numpy(), "kept": found.tested(found.takes), "max_key": max_key}
    table |= {name: getattr(clips, name).numpy() for name in ("onset", "apex", "offset")}
    return metrics, table | {"logits": found.logits[-1], "epochs": epochs}
