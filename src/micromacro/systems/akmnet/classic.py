"""The classic baseline: LBP-TOP read by a linear support vector machine (first row of Table III).

People, clips and folds are those of `experiment.unit`; so are the table's columns, for
`scores.pooled`. There is nothing random, and no frame is mined. It has not seen the stills that
AKMNet's frame network is pre-trained on.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from sklearn.svm import SVC

from micromacro.motion.lbp_top import lbp_top
from micromacro.systems.akmnet.experiment import clip_columns, make_dials
from micromacro.systems.akmnet.folds import fold_of
from micromacro.systems.akmnet.inputs import balanced
from micromacro.systems.akmnet.task import CLASSES, Clips, record


def unit(
    *,
    seed: int,
    fold: int,
    grid: int = 4,
    radius: int = 3,
    penalty: float = 100.0,
    task: str = "headline",
    share: Sequence[float] | None = None,
    centrality: float | None = None,
    distractors: float | None = None,
    magnification: float | None = None,
    subjects: int = 16,
    clips: int = 9,
    folds: int | None = 4,
) -> tuple[dict, dict]:
    """Fit on all folds but one, and test on the people of that; for `experiments.run`.

    Args:
        seed: Of people, clips and folds.
        fold: The one that is tested, from 0 on.
        grid: Blocks down and across.
        radius: Of the circles, in pixels and frames; 3 as in the paper.
        penalty: C of the support vector machine; features are shares, not scaled. On development
            seeds 1 costs 0.13 of accuracy, 1,000 changes nothing.
        task: As in `experiment.unit`, like all that follow.
        share: Likewise.
        centrality: Likewise.
        distractors: Likewise.
        magnification: Likewise.
        subjects: Likewise.
        clips: Likewise.
        folds: Likewise.

    Returns:
        As `experiment.unit`: `epochs` has one column, all frames count as kept, `max_key` is -1.

    Raises:
        BadInput: As `experiment.unit`, and as `lbp_top` for clips too short for the radius.
    """
    dials = make_dials(task, share, centrality, distractors, magnification)
    people = record(seed, dials, subjects=subjects, clips=clips)
    test = fold_of(people, folds, seed) == fold
    features = _features(people, grid, radius)
    rows = balanced(people.label, torch.from_numpy(np.flatnonzero(~test)))
    machine = SVC(kernel="linear", C=penalty, decision_function_shape="ovr")
    machine.fit(features[rows], people.label[rows])
    table = clip_columns(people, test, fold)
    T = table["T"]
    said = machine.predict(features[test])
    table |= {"logits": _margins(machine, features[test]), "epochs": said[:, None]}
    table |= {"kept": T, "apex_kept": np.ones(len(T), bool), "max_key": np.full(len(T), -1)}
    return {"clips": len(T), "correct": int((said == table["truth"]).sum())}, table


@lru_cache(maxsize=2)
def _features(clips: Clips, grid: int, radius: int) -> np.ndarray:
    each = clips.split(clips.frames.float())
    return torch.stack([lbp_top(clip, grid=(grid, grid), radius=radius) for clip in each]).numpy()


def _margins(machine: SVC, features: np.ndarray) -> np.ndarray:
    """float32 (n, classes), one against the rest; -inf for a class that no training clip shows."""
    margins = np.full((len(features), len(CLASSES)), -np.inf, np.float32)
    scores = machine.decision_function(features)
    if scores.ndim == 1:  # two classes have one score
        scores = np.stack([-scores, scores], 1)
    margins[:, machine.classes_] = scores
    return margins
