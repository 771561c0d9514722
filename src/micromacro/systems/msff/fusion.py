"""Late fusion of score matrices: weights, temperatures, and clips that a network says nothing of.

A **score matrix** is what a network says of many clips: a table with a row a clip, its id in the
index, and a column a class, its name on top. It holds logits. A row of nan says that the network
has no score of this clip, such as one without a face. Networks of any origin will do, for nothing
else is needed:

    names = ("vgg", "resnet", "c3d", "audio")
    tables = {name: pd.read_csv(f"{name}.csv", index_col=0, dtype={0: str}) for name in names}
    scores = align(tables, labels)         # labels: id -> name of the class
    fusion = grid(scores)                  # or equal, or stacking: then nothing is left to choose
    fused = fusion(align(test_tables))     # probabilities (N, C); fused.argmax(1) are the classes
    worth = nested(scores)                 # worth.seen - worth.unseen: the optimism of the choice

Rows and columns may stand in any order: they are matched by their names. A clip that one table
lacks is refused by its id, since a score over 371 clips of 383 is another score. Where a file holds
probabilities p, give ``np.log(p[p.any(axis=1)].clip(lower=1e-12)).reindex(p.index)``: a row of
zeros becomes one of nan.

The paper fuses score matrices and does not say how. Here the fused row of clip n is

    S[n] = sum over networks m of w[m] softmax(z[m, n] / T[m]),    w >= 0, sum of w = 1          (1)

as its neighbours do, of whom two published enough to recover w, by least squares of the fused
scores on the parts. They had no temperatures T and gave half the weight to sound, whose scores are
the softest. A weight means nothing without the temperature that goes with it, so T is fitted first,
to each network by itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest

from micromacro.errors import BadInput, check_choice, check_whole
from micromacro.folds import grouped_folds
from micromacro.metrics import accuracy

MISSING = ("zero", "renormalised", "prior")
TEMPERATURES = (0.05, 20.0)  # the least and the greatest that are fitted
LEAST = 1e-12  # of a probability whose logarithm is taken
AT_ONCE = 2**22  # numbers of a surface in memory


@dataclass(frozen=True, eq=False)
class Scores:
    """Score matrices of M networks, N clips and C classes, all in one order; made by `align`.

    Attributes:
        networks: Their names.
        classes: Their names.
        ids: (N,), of the clips.
        logits: float64 (M, N, C), z of equation 1; nan where a network has no score of a clip.
        truth: int64 (N,), number of the true class; None if nobody said.
        groups: (N,), whose clip it is; no fold splits a group.
    """

    networks: tuple[str, ...]
    classes: tuple[str, ...]
    ids: np.ndarray
    logits: np.ndarray
    truth: np.ndarray | None
    groups: np.ndarray

    @property
    def present(self) -> np.ndarray:
        """Where a network has a score of a clip, bool (M, N)."""
        return ~np.isnan(self.logits[..., 0])

    def take(self, rows: object = slice(None), networks: Sequence[str] | None = None) -> "Scores":
        """Some of the clips, as an index of NumPy picks them, and of the networks, by name."""
        names = self.networks if networks is None else tuple(networks)
        for name in names:
            check_choice("network", name, self.networks)
        logits = self.logits[[self.networks.index(name) for name in names]][:, rows]
        truth = None if self.truth is None else self.truth[rows]
        return Scores(names, self.classes, self.ids[rows], logits, truth, self.groups[rows])


def align(
    tables: Mapping[str, pd.DataFrame],
    labels: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
) -> Scores:
    """Match the score matrices of several networks by the names of their clips and classes.

    Args:
        tables: Network -> score matrix. Clips and classes are put in the order of the first one.
        labels: Name of the true class of each clip, by id.
        groups: Person or film of each clip, by id; None if all differ.

    Raises:
        BadInput: A table that is none, clips or classes that are not in all tables or twice in one,
            a logit that is infinite or no number, a row that is nan in part, an unknown class.
    """
    if not tables:
        raise BadInput("tables", "are none", "give network -> score matrix")
    for name, table in tables.items():
        right = isinstance(table, pd.DataFrame) and table.size > 0
        if not right or any(dtype.kind not in "iuf" for dtype in table.dtypes):
            raise BadInput(f"scores of {name!r}", "are no table of numbers", "give a score matrix")
    tables = {name: t.set_axis(t.index.map(str)).rename(columns=str) for name, t in tables.items()}
    ids, classes = next(iter(tables.values())).axes
    logits = np.empty((len(tables), len(ids), len(classes)))
    for matrix, (name, table) in zip(logits, tables.items(), strict=True):
        _same(f"clips of {name!r}", table.index, ids)
        _same(f"classes of {name!r}", table.columns, classes)
        matrix[:] = table.loc[ids, classes]
        wrong = ~(np.isfinite(matrix).all(1) | np.isnan(matrix).all(1))
        if wrong.any():
            fault = f"are infinite, or nan for some classes alone, in clip {ids[wrong.argmax()]}"
            raise BadInput(f"scores of {name!r}", fault, "give logits, or nan in the whole row")
    truth = None if labels is None else classes.get_indexer(_column("labels", labels, ids))
    if truth is not None and truth.min() < 0:
        fault = f"name no class of the scores for clip {ids[truth.argmin()]}"
        raise BadInput("labels", fault, f"use {', '.join(classes)}")
    groups = ids if groups is None else _column("groups", groups, ids)
    return Scores(tuple(tables), tuple(classes), np.array(ids), logits, truth, np.array(groups))


def temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """The T with which softmax(z / T) makes the true classes most likely (Guo et al. 2017).

    Above 1 the network was too sure of itself, below 1 not sure enough. Its own decisions do not
    change.

    Args:
        logits: (N, C), finite.
        truth: int (N,), number of the true class.

    Returns:
        A number between the ends of `TEMPERATURES`; 1 for no clips.
    """

    def surprise(log_t: float) -> float:  # mean of -log p of the true class; it has one minimum
        return -log_softmax(logits / np.exp(log_t), axis=1)[np.arange(len(truth)), truth].mean()

    if not len(truth):
        return 1.0
    found = minimize_scalar(surprise, bounds=np.log(TEMPERATURES), options={"xatol": 1e-8})
    return float(np.exp(found.x))


@dataclass(frozen=True, eq=False)
class Fusion:
    """A fusion with nothing left to choose: call it with the scores of other clips.

    Attributes:
        networks: Whose scores it fuses.
        classes: Of the scores, in this order.
        temperatures: (M,).
        prior: (C,), shares of the classes, whose sum is 1; those that it has seen, one clip added
            to each.
        missing: As of `fuse`.
        weights: (M,), divided by their sum; equal ones in stacking, where they mean nothing.
        stacker: The classifier of stacking; else None.

    Raises:
        BadInput: An unknown way with missing scores.
    """

    networks: tuple[str, ...]
    classes: tuple[str, ...]
    temperatures: np.ndarray
    prior: np.ndarray
    missing: str
    weights: np.ndarray
    stacker: object = None

    def __post_init__(self):
        check_choice("missing", self.missing, MISSING)

    def __call__(self, scores: Scores) -> np.ndarray:
        """Fused probabilities, float64 (N, C); BadInput for lacking networks or other classes."""
        if scores.classes != self.classes:
            fault = f"have the classes {', '.join(scores.classes)}"
            raise BadInput("scores", fault, f"give columns in the order {', '.join(self.classes)}")
        scores = scores.take(networks=self.networks)
        if self.stacker is None:
            return self.mixed(self.weights[None] / self.weights.sum(), scores)[0]
        fused = np.zeros((len(scores.ids), len(self.classes)))  # a class that it never saw stays 0
        fused[:, self.stacker.classes_] = self.stacker.predict_proba(self.evidence(scores))
        return fused

    def mixed(self, points: np.ndarray, scores: Scores) -> np.ndarray:
        """Equation 1 with other weights, points (G, M) that sum to 1: fused (G, N, C)."""
        mixed = np.tensordot(points, self._shares(scores, self.missing), 1)
        if self.missing == "renormalised":
            mass = (points @ scores.present)[..., None]  # (G, N, 1), weights of those with a score
            mixed = np.where(mass > 0, mixed / np.where(mass > 0, mass, 1), self.prior)
        return mixed

    def evidence(self, scores: Scores) -> np.ndarray:
        """What stacking sees: log-probabilities of each network, (N, M C); the prior's for none."""
        shares = self._shares(scores, "prior")
        return np.log(shares.clip(LEAST)).transpose(1, 0, 2).reshape(len(scores.ids), -1)

    def _shares(self, scores: Scores, missing: str) -> np.ndarray:
        """Probabilities (M, N, C); where a network has no score 0, or the prior."""
        shares = softmax(scores.logits / self.temperatures[:, None, None], axis=-1)
        nothing = self.prior if missing == "prior" else 0.0
        return np.where(scores.present[..., None], shares, nothing)


def fuse(
    scores: Scores,
    weights: Sequence[float] | None = None,
    temperatures: Sequence[float] | None = None,
    *,
    missing: str = "renormalised",
    prior: Sequence[float] | None = None,
) -> np.ndarray:
    """Fuse score matrices by equation 1.

    Args:
        scores: Of `align`.
        weights: (M,), 0 or more, in the order of the networks; divided by their sum, so 1, 1, 1, 4,
            7 will do. None for equal ones.
        temperatures: (M,), above 0; None for 1.
        missing: What a network adds where it has no score. "zero": nothing, as the winner of 2016
            did. "renormalised": nothing, and the other weights are divided by their sum; where none
            is left, the row is the prior. "prior": the prior, by its own weight. Where a network of
            positive weight has a score, the first two **decide the same**, since a factor on a row
            changes no order; only the probabilities differ.
        prior: (C,), shares of the classes, divided by their sum; None for equal ones.

    Returns:
        float64 (N, C). Rows sum to 1; with "zero" to the weights of the networks that have a score.

    Raises:
        BadInput: Numbers that are too few, too many, negative or infinite; an unknown rule.
    """
    M, C = len(scores.networks), len(scores.classes)
    temperatures, prior = _numbers("temperatures", temperatures, M), _numbers("prior", prior, C)
    numbers = temperatures, prior / prior.sum(), missing, _numbers("weights", weights, M)
    return Fusion(scores.networks, scores.classes, *numbers)(scores)


# ---- rules that choose a fusion ------------------------------------------------------------------


def equal(scores: Scores, *, calibrated: bool = True, missing: str = "renormalised") -> Fusion:
    """Equal weights; only the temperatures are fitted.

    Args:
        scores: Of the clips to fit on, with labels.
        calibrated: Fit the `temperature` of each network; else all are 1, as the winners had them.
        missing: As of `fuse`.

    Raises:
        BadInput: Scores without labels.
    """
    if scores.truth is None:
        raise BadInput("scores", "have no labels", "give labels to align")
    each = zip(scores.logits, scores.present, strict=True)
    fitted = [temperature(z[p], scores.truth[p]) if calibrated else 1.0 for z, p in each]
    counts = 1 + np.bincount(scores.truth, minlength=len(scores.classes))
    weights = np.full(len(fitted), 1 / len(fitted))
    names, prior = (scores.networks, scores.classes), counts / counts.sum()
    return Fusion(*names, np.array(fitted), prior, missing, weights)


def grid(scores: Scores, *, steps: int = 20, metric: str = "accuracy", **options) -> Fusion:
    """The weights with the best score on the `surface`; of equals those nearest to equal weights.

    Args:
        scores: Of the clips to fit on, with labels.
        steps: As of `surface`.
        metric: "accuracy" or "uar".
        options: Those of `equal`.

    Raises:
        BadInput: As `equal` and `surface`.
    """
    check_choice("metric", metric, ("accuracy", "uar"))
    fusion = equal(scores, **options)
    points = surface(scores, fusion, steps=steps)
    best = points.iloc[points[metric].argmax()]  # the first of equals
    return replace(fusion, weights=best[[*scores.networks]].to_numpy())


def stacking(scores: Scores, *, penalty: float = 1.0, **options) -> Fusion:
    """A multinomial logistic regression on the log-probabilities of all networks.

    It has a weight for each pair of a network's class and a class, so it learns the labels' prior
    too, and which network to trust for what. A network without a score of a clip shows the prior.

    Args:
        scores: Of the clips to fit on, with labels.
        penalty: On squared weights; the greater, the smaller they stay.
        options: Those of `equal`; `missing` does nothing here.

    Raises:
        BadInput: As `equal`; labels of one class alone.
    """
    from sklearn.linear_model import LogisticRegression  # late: it costs every process a second

    fusion = equal(scores, **options)
    if len(np.unique(scores.truth)) < 2:
        raise BadInput("labels", "are all of one class", "give clips of two classes or more")
    # Newton's method: the default one stops early, and rounding then decides the third digit.
    stacker = LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-6)
    stacker.fit(fusion.evidence(scores), scores.truth)
    return replace(fusion, stacker=stacker)


def surface(scores: Scores, fusion: Fusion, *, steps: int = 20) -> pd.DataFrame:
    """Accuracy and UAR at every point of a grid of weights.

    Args:
        scores: With labels.
        fusion: Whose networks, temperatures, prior and `missing` to take.
        steps: From weight 0 to 1; 20 of them, 0.05 each, make 231 points of three networks, 1,771
            of four and 10,626 of five.

    Returns:
        A row a point, those nearest to equal weights first: the weight of each network by its name,
        accuracy, uar.

    Raises:
        BadInput: A number of steps that is none; no labels; a network of the fusion without scores.
    """
    if scores.truth is None:
        raise BadInput("scores", "have no labels", "give labels to align")
    scores = scores.take(networks=fusion.networks)  # temperatures are in that order
    points, truth = simplex(len(scores.networks), steps), scores.truth
    counts, reached = np.bincount(truth), np.zeros((len(points), 2))
    each = np.stack([np.full(len(truth), 1 / len(truth)), 1 / counts[truth] / sum(counts > 0)], 1)
    # Some clips at a time, so that memory stays small.
    numbers = len(points) * len(truth) * len(scores.classes)
    for rows in np.array_split(np.arange(len(truth)), 1 + numbers // AT_ONCE):
        fused = fusion.mixed(points, scores.take(rows))  # (G, n, C)
        reached += (fused.argmax(-1) == truth[rows]) @ each[rows]
    table = np.hstack([points, reached.round(12)])  # so that equal scores are equal numbers
    return pd.DataFrame(table, columns=[*scores.networks, "accuracy", "uar"])


def simplex(n: int, steps: int = 20) -> np.ndarray:
    """All weights of n networks that are whole numbers of steps and sum to 1, (points, n).

    The points nearest to equal weights come first.
    """
    # n - 1 bars among steps + n - 1 places; the places between two bars are a weight.
    places = check_whole("steps", steps) + n - 1
    bars = np.array([(-1, *between, places) for between in combinations(range(places), n - 1)])
    points = (np.diff(bars, axis=1) - 1) / steps
    return points[np.square(points - 1 / n).sum(1).round(12).argsort(kind="stable")]


# ---- what a choice is worth on clips that did not make it ----------------------------------------


def cross_fitted(
    rule: Callable[[Scores], Fusion], scores: Scores, *, n_folds: int = 5, seed: int = 0
) -> np.ndarray:
    """Fused probabilities (N, C) of each clip, by a fusion that was fitted to the other folds.

    Args:
        rule: `equal`, `grid`, `stacking`, or one of these with options (`functools.partial`).
        scores: With labels; its groups stay whole.
        n_folds: Number of folds.
        seed: Random seed of the folds.

    Raises:
        BadInput: As the rule; fewer groups than folds.
    """
    fold = grouped_folds(scores.groups, n_folds, seed)
    fused = np.zeros(scores.logits.shape[1:])
    for k in range(n_folds):
        fused[fold == k] = rule(scores.take(fold != k))(scores.take(fold == k))
    return fused


class Nested(NamedTuple):
    """A fusion, and what its choice is worth; ``seen - unseen`` is the optimism gap.

    Attributes:
        fusion: Chosen on all clips.
        fused: (N, C), of each clip by a fusion that was chosen without its fold.
        seen: Accuracy of `fusion` on the clips that chose it.
        unseen: Accuracy of `fused`.
    """

    fusion: Fusion
    fused: np.ndarray
    seen: float
    unseen: float


def nested(scores: Scores, *, rule: Callable[[Scores], Fusion] = grid, **folds) -> Nested:
    """Choose a fusion, and score the choosing itself by cross-validation.

    In each fold the rule chooses temperatures and weights anew, and the clips left out score it.

    Args:
        scores: With labels.
        rule: What makes a fusion.
        folds: Options of `cross_fitted`.

    Raises:
        BadInput: As `cross_fitted`.
    """
    fusion, fused = rule(scores), cross_fitted(rule, scores, **folds)
    reached = (accuracy(f.argmax(1), scores.truth) for f in (fusion(scores), fused))
    return Nested(fusion, fused, *reached)


# ---- comparisons ---------------------------------------------------------------------------------


def confusion(fused: np.ndarray, scores: Scores) -> pd.DataFrame:
    """Number of clips by true class (rows) and by class of the greatest fused score (columns)."""
    C = len(scores.classes)
    pairs = np.bincount(C * scores.truth + fused.argmax(1), minlength=C * C).reshape(C, C)
    return pd.DataFrame(pairs, scores.classes, scores.classes)


def mcnemar(first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """McNemar's exact test, two-sided, of two fusions on the same clips.

    Of the clips that one alone has right, each would have half if they were equally good.

    Args:
        first: bool (N,), whether it has each clip right.
        second: Likewise.

    Returns:
        Clips that the first alone has right; that the second alone has; p of the binomial
        distribution, for many clips as for few, 1 for none.
    """
    one, other = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    return one, other, binomtest(one, one + other).pvalue if one + other else 1.0


def agreement(scores: Scores) -> pd.DataFrame:
    """Share of clips on which two networks say the same, of those that both have a score of."""
    said = np.where(scores.present, np.nan_to_num(scores.logits).argmax(-1), -1)  # (M, N)
    both = scores.present[:, None] & scores.present  # (M, M, N)
    same = (both & (said[:, None] == said)).sum(-1) / both.sum(-1)
    return pd.DataFrame(same, scores.networks, scores.networks)


# ---- arrays and names ----------------------------------------------------------------------------


def _same(what: str, names, expected) -> None:
    """Refuse names that are not the expected ones, each once, in any order."""
    other = sorted({*names} ^ {*expected})
    if other or len(names) != len({*names}):
        fault = f"differ from the first's in {len(other)}, such as {other[0]}" if other else ""
        raise BadInput(what, fault or "stand there twice", "give the same everywhere, each once")


def _column(what: str, values: Mapping, ids: pd.Index) -> np.ndarray:
    """What is said of each clip, as texts in the clips' order."""
    texts = pd.Series(values).astype(str)
    texts.index = texts.index.map(str)
    _same(f"clips of the {what}", texts.index, ids)
    return texts[ids].to_numpy(str)


def _numbers(what: str, values: Sequence[float] | None, n: int) -> np.ndarray:
    """float64 (n,), 0 or more but not all 0; temperatures above 0. Ones for None."""
    numbers = np.ones(n) if values is None else np.asarray(values, np.float64)
    least = LEAST if what == "temperatures" else 0
    if numbers.shape != (n,) or not (numbers >= least).all() or not 0 < numbers.sum() < np.inf:
        raise BadInput(what, f"are {values}", f"give {n} numbers, none negative, not all 0")
    return numbers
