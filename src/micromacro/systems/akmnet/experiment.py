"""The ablations of AKMNet on the benchmark: arms, and one unit that trains one and tests it on a fold.

All arms of a seed share people, clips, folds, the pre-trained frame network, first weights, the
recipe and the order of the clips, and differ in what their name says. Folds keep people whole. The
window controls see as many frames of each clip as the "s123" of the same seed and fold kept, in
training and in test; their unit trains it first.

Folds are units of their own, so that they fill many workers; `scores.pooled` makes one table of
them. The last epoch counts. What the released program does, the best epoch on the test data, is
scored beside it under another name, from the same training.

As controls take what the "s123" of their fold kept, their training clips were mined by a network that
was trained on them, their test clips were not. Random frames are drawn once, not anew each epoch.

For every arm alike, some things differ from the paper: all but the last stage of the frame network
is frozen after pre-training; batches of eight clips are real ones, not eight steps; AdamW with one
cycle replaces its SGD; no frame is cropped at random.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from micromacro.errors import BadInput
from micromacro.systems.akmnet.folds import Plan, trained
from micromacro.systems.akmnet.inputs import CHOICES, RESAMPLED
from micromacro.systems.akmnet.model import LEGACY
from micromacro.systems.akmnet.task import TASKS, Clips, Dials

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
"""What stands beside the core table: a positive control, and every released oddity at once."""

_REDUNDANCY = {
    f"{arm}, share {share:g}, {place}": {
        **CORE[arm],
        "task": "loose",
        "share": [share, share],
        "centrality": centrality,
    }
    for share, place, centrality in (
        (0.35, "anywhere", 0.0),
        (0.35, "central", 1.0),
        (0.7, "anywhere", 0.0),
    )
    for arm in ("s123", "all")
}
SWEEP: dict[str, dict[str, dict]] = {
    "other frames, same N": {
        "random": {"steps": "none", "frames": "random"},
        "apex window": {"steps": "none", "frames": "apex window"},
    },
    "one frame": {
        "apex": {"steps": "none", "frames": "apex"},
        "max-key": {"steps": "none", "frames": "max-key"},
    },
    "fixed length": {
        "resampled 12": {"steps": "none", "frames": "tim", "length": 12},
        "resampled 48": {"steps": "none", "frames": "tim", "length": 48},
        "linear 24": {"steps": "none", "frames": "linear"},
    },
    "loss": {
        "count 0": {"count_weight": 0.0},
        "count 10": {"count_weight": 10.0},
        "margin 0": {"margin_weight": 0.0},
    },
    "released, each alone": {
        "released gradient": {"legacy": ["straight_through"]},
        "released GRU start": {"legacy": ["gru_init"]},
        "released batch norm": {"bn": "released"},
        "frozen batch norm": {"bn": "frozen"},
    },
    "loose task": {
        f"{arm}, loose": {**{**CORE, **BESIDE}[arm], "task": "loose"}
        for arm in ("s123", "s23", "all", "midpoint window", "true apex")
    },
    "redundancy": _REDUNDANCY,
    "no distractors": {
        f"{arm}, no distractors": {**CORE[arm], "distractors": 0.0} for arm in ("s123", "all")
    },
    "magnification": {
        "not magnified": {"magnification": 1.0},
        "exact 2": {"magnification": 2.0},
        "phase-based": {"magnification": 1.0, "alpha": 3.0},
    },
    "more training": {
        "12 epochs": {"epochs": 12},
        "all, 12 epochs": {**CORE["all"], "epochs": 12},
    },
    "leave one subject out": {
        f"{arm}, LOSO": {**CORE[arm], "folds": None} for arm in ("s123", "all")
    },
}
"""Group -> arm -> options; what an arm does not name is as in the core table."""


def grid(
    arms: Mapping[str, Mapping], seeds: Sequence[int], *, subjects: int = 16, **params
) -> list[dict]:
    """Parameters of all units of some arms, in the order that shares most work.

    Args:
        arms: Name -> options of `unit`, which go before `params`.
        seeds: Of the runs.
        subjects: People of each.
        params: The rest of `unit`'s, `folds` among them; None leaves one subject out.

    Returns:
        Seed by seed, fold by fold, arm by arm, arms in the order given.
    """
    each = [{"subjects": subjects, **params, **options} for options in arms.values()]
    n_folds = [one.get("folds", 4) or subjects for one in each]
    return [
        {"seed": seed, "fold": fold, **one}
        for seed in seeds
        for fold in range(max(n_folds))
        for one, n in zip(each, n_folds, strict=True)
        if fold < n
    ]


def unit(
    *,
    seed: int,
    fold: int,
    steps: str = "s123",
    frames: str = "all",
    length: int = 24,
    alpha: float = 0.0,
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
    epochs: int = 4,
    people: int = 140,
    device: str = "cpu",
) -> tuple[dict, dict]:
    """Train one arm on all folds but one, and test it on the people of that; for `experiments.run`.

    Args:
        seed: Of people, clips, folds, stills, weights and batches.
        fold: The one that is tested, from 0 on.
        steps: Of the mining: "s123", "s12", "s13", "s23" or "none".
        frames: Which frames the network gets, see `inputs.chosen`; "tim" and "linear" bring all clips
            to one length. Anything but "all" goes with steps "none".
        length: Of "tim" and "linear"; 24 is the mean length of the headline clips.
        alpha: Of phase-based magnification of the frames, on top of the task's exact one; 0 is none.
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
        Metrics: `clips` tested, and `correct`, how many of them the last epoch classifies so.
        Predictions: the columns of `clip_columns`, and logits float32 (C, classes) of the last epoch;
        epochs int64 (C, E), the class predicted after each; kept, how many frames the GRU got;
        apex_kept, whether the apex was among them (True of resampled clips, whose frames are
        mixtures of all); max_key (-1 without mining).

    Raises:
        BadInput: An unknown option; options of which one would not do anything.
    """
    dials = make_dials(task, share, centrality, distractors, magnification)
    net = {"steps": steps, "frames": frames, "length": length, "bn": bn, "legacy": tuple(legacy)}
    weights = {"count_weight": count_weight, "margin_weight": margin_weight, "alpha": alpha}
    sizes = {"subjects": subjects, "clips": clips, "folds": folds, "epochs": epochs}
    plan = Plan(seed, dials, **net, **weights, **sizes, people=people, device=device)
    _check(plan)
    clips, found = plan.record(), trained(plan, fold)
    starts = clips.lengths.cumsum(0) - clips.lengths
    table = clip_columns(clips, found.test, fold)
    table["logits"] = found.logits[-1]
    table["epochs"] = found.logits.argmax(-1).T
    table["kept"] = found.takes[found.test]
    table["apex_kept"] = found.kept[(starts + clips.apex).numpy()][found.test]
    table["max_key"] = found.max_key[found.test]
    correct = table["epochs"][:, -1] == table["truth"]
    return {"clips": len(correct), "correct": int(correct.sum())}, table


def clip_columns(clips: Clips, test: np.ndarray, fold: int) -> dict[str, np.ndarray]:
    """What is known of the clips tested, whoever classifies them.

    Args:
        clips: All clips.
        test: bool, which of them are tested.
        fold: In which fold.

    Returns:
        clip (its name), subject, fold, truth, T, onset, apex, offset, and most_changed, the frame
        that differs most from the first; of each clip tested.
    """
    columns = {"clip": np.array(clips.names), "subject": clips.subject, "truth": clips.label}
    columns |= {"T": clips.lengths, "onset": clips.onset, "apex": clips.apex}
    columns |= {"offset": clips.offset, "most_changed": most_changed(clips)}
    table = {name: np.asarray(values)[test] for name, values in columns.items()}
    return table | {"fold": np.full(int(test.sum()), fold)}


def most_changed(clips: Clips) -> np.ndarray:
    """The frame of each clip that differs most from its first, mean |difference|; int64 (C,)."""
    moved = (
        (clip.float() - clip[0].float()).abs().mean((1, 2)) for clip in clips.split(clips.frames)
    )
    return np.array([int(clip.argmax()) for clip in moved])


def make_dials(task: str, share: Sequence[float] | None, *others: float | None) -> Dials:
    """The dials of a task, with those turned that are given; see `unit`.

    Args:
        task: "headline" or "loose".
        share: None for the task's own, as of the others.
        others: centrality, distractors, magnification.

    Raises:
        BadInput: Unknown task, or a dial out of range.
    """
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
