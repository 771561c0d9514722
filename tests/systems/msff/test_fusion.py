"""Fusion of score matrices against loops, scikit-learn and arithmetic."""

from functools import partial
from math import comb, exp, log

import numpy as np
import pandas as pd
import pytest
from refusals import refused
from scipy.optimize import brute
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from micromacro.systems.msff.fusion import (
    MISSING,
    agreement,
    align,
    confusion,
    cross_fitted,
    equal,
    fuse,
    grid,
    mcnemar,
    nested,
    simplex,
    stacking,
    surface,
    temperature,
)

CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
PRIOR = (0.16, 0.1, 0.12, 0.17, 0.17, 0.16, 0.12)


def made_up(
    n=60, networks=("vgg", "c3d", "audio"), *, absent=0.2, seed=0, gain=2.0, classes=CLASSES
):
    """Tables of logits, labels; each network knows something, and has no score of some clips."""
    rng = np.random.default_rng(seed)
    ids, truth = [f"{k:09d}" for k in range(n)], rng.integers(len(classes), size=n)
    tables = {}
    for name in networks:
        logits = rng.normal(size=(n, len(classes)))
        logits[np.arange(n), truth] += gain
        logits[rng.random(n) < absent] = np.nan
        tables[name] = pd.DataFrame(logits, ids, classes)
    return tables, pd.Series(np.array(classes)[truth], ids)


@pytest.fixture
def tables():
    return made_up()[0]


@pytest.fixture
def labels():
    return made_up()[1]


@pytest.fixture
def scores(tables, labels):
    return align(tables, labels)


def by_hand(tables, weights, temperatures, missing, prior):
    """Equation 1 in loops."""
    first, rows = next(iter(tables.values())), []
    for clip in first.index:
        row, mass = [0.0] * len(first.columns), 0.0
        for (_, table), w, T in zip(tables.items(), weights, temperatures, strict=True):
            z = [table.loc[clip, name] / T for name in first.columns]
            if not any(map(np.isnan, z)):
                total = sum(map(exp, z))
                row = [s + w * exp(v) / total for s, v in zip(row, z, strict=True)]
                mass += w
            elif missing == "prior":
                row = [s + w * p for s, p in zip(row, prior, strict=True)]
        if missing == "renormalised":
            row = [s / mass for s in row] if mass else prior
        rows.append(row)
    return np.array(rows)


# ---- fuse ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", MISSING)
def test_fusion_is_the_sum_of_equation_1(tables, missing):
    weights, temperatures = (0.5, 0.0, 0.5), (0.5, 1.0, 3.0)
    fused = fuse(align(tables), (2, 0, 2), temperatures, missing=missing, prior=PRIOR)
    expected = by_hand(tables, weights, temperatures, missing, PRIOR)
    np.testing.assert_allclose(fused, expected, rtol=1e-12)
    alone = [t.isna().all(axis=1) for t in tables.values()]
    nothing = (alone[0] & alone[2]).to_numpy()
    assert nothing.any()  # of such clips no network with a weight has a score
    filled = {"zero": 0.0, "renormalised": PRIOR, "prior": PRIOR}[missing]
    np.testing.assert_allclose(fused[nothing], np.broadcast_to(filled, fused[nothing].shape))


def test_zero_rows_and_renormalised_weights_decide_the_same(tables):
    scores = align(tables)
    some = scores.present.any(0)
    assert not some.all()
    for weights in np.random.default_rng(1).dirichlet(np.ones(3), 20):
        zero, other, filled = (fuse(scores, weights, missing=m, prior=PRIOR) for m in MISSING)
        assert np.array_equal(zero.argmax(1)[some], other.argmax(1)[some])
        assert not np.array_equal(filled.argmax(1), other.argmax(1))
        assert np.ptp(zero.sum(1)) > 0.1
        np.testing.assert_allclose(other.sum(1), 1)


def test_clips_and_classes_are_matched_by_name(tables, labels):
    expected = fuse(align(tables, labels), (1, 2, 3))
    shuffled = {
        name: table.sample(frac=1, random_state=k).sample(frac=1, axis=1, random_state=k)
        for k, (name, table) in enumerate(tables.items())
    }
    scores = align(shuffled, labels.sample(frac=1, random_state=9))
    fused = pd.DataFrame(fuse(scores, (1, 2, 3)), scores.ids, scores.classes)
    first = align(tables, labels)
    np.testing.assert_allclose(fused.loc[first.ids, [*first.classes]], expected)
    named = np.array(scores.classes)[scores.truth]
    assert (named == labels[scores.ids]).all()


def test_score_matrices_come_from_csv_files_with_their_zeros(tables, labels, tmp_path):
    """As the documentation reads them; probabilities too, where a row of zeros is no score."""
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index_label="id")
    read = {n: pd.read_csv(tmp_path / f"{n}.csv", index_col=0, dtype={0: str}) for n in tables}
    assert align(read).ids[3] == "000000003"
    np.testing.assert_allclose(fuse(align(read)), fuse(align(tables)))
    soft = {n: np.exp(t).div(np.exp(t).sum(axis=1), axis=0).fillna(0) for n, t in tables.items()}
    logs = {n: np.log(p[p.any(axis=1)].clip(lower=1e-12)).reindex(p.index) for n, p in soft.items()}
    np.testing.assert_allclose(fuse(align(logs)), fuse(align(tables)), rtol=1e-9)


def test_softer_scores_are_a_temperature(tables):
    """What one says by a weight alone depends on how soft the scores are: half as large, T is
    half."""
    soft = tables | {"audio": tables["audio"] / 4}
    kept = fuse(align(soft), (1, 1, 2), (1, 1, 0.25))
    np.testing.assert_allclose(kept, fuse(align(tables), (1, 1, 2)))
    assert not np.allclose(fuse(align(soft), (1, 1, 2)), kept, atol=0.05)


@pytest.mark.parametrize("shape", [(1, 1, 2), (4, 2, 3), (2, 9, 7)])
def test_odd_shapes(shape):
    M, N, C = shape
    rng = np.random.default_rng(0)
    ids, classes = [*range(N)], [f"c{k}" for k in range(C)]
    tables = {f"m{m}": pd.DataFrame(rng.normal(size=(N, C)), ids, classes) for m in range(M)}
    scores = align(tables, dict.fromkeys(ids, "c0"))
    assert fuse(scores).shape == (N, C)
    assert len(surface(scores, equal(scores), steps=3)) == comb(3 + M - 1, M - 1)
    assert scores.take([0]).logits.shape == (M, 1, C)
    assert scores.take(networks=["m0"]).networks == ("m0",)


# ---- doors ---------------------------------------------------------------------------------------


def spoilt(table, **values):
    table = table.copy()
    for clip, value in values.items():
        table.loc[clip[1:], "Fear"] = value
    return table


def test_what_does_not_fit_is_refused_by_name(tables, labels):
    vgg = tables["vgg"]
    partial_row = vgg.index[vgg.notna().all(axis=1)][0]
    cases = (
        ({"audio": vgg.iloc[1:]}, ("'audio'", "000000000")),
        ({"audio": pd.concat([vgg, vgg.iloc[:1]])}, ("'audio'", "twice")),
        ({"audio": vgg.rename(columns={"Fear": "fear"})}, ("'audio'", "Fear")),
        ({"audio": vgg.astype(str)}, ("'audio'", "no table of numbers")),
        ({"audio": vgg.to_numpy()}, ("'audio'", "no table of numbers")),
        ({"audio": vgg.iloc[:0]}, ("'audio'", "no table of numbers")),
        ({"audio": spoilt(vgg, **{f"_{partial_row}": np.nan})}, ("'audio'", partial_row, "nan")),
        (
            {"audio": spoilt(vgg, **{f"_{partial_row}": np.inf})},
            ("'audio'", partial_row, "infinite"),
        ),
    )
    for wrong, words in cases:
        refused(lambda wrong=wrong: align(tables | wrong), *words)
    refused(lambda: align({}), "score matrix")
    refused(lambda: align(tables, labels.iloc[2:]), "labels", "in 2", "000000000")
    refused(lambda: align(tables, labels.replace("Sad", "sad")), "labels", "Angry, Disgust")
    refused(lambda: align(tables, labels, labels.iloc[1:]), "groups", "000000000")


def test_numbers_that_do_not_fit_are_refused(scores, tables):
    for name, fault in (
        ("weights", (1, 2)),
        ("weights", (1, -1, 1)),
        ("weights", (0, 0, 0)),
        ("weights", (np.inf, 1, 1)),
        ("temperatures", (1, 0, 1)),
        ("temperatures", (1, np.nan, 1)),
        ("prior", (0.5, 0.5)),
    ):
        refused(lambda name=name, fault=fault: fuse(scores, **{name: fault}), name)
    for rule in (fuse, equal, grid, stacking):
        refused(lambda rule=rule: rule(scores, missing="mean"), "zero, renormalised, prior")
    refused(lambda: scores.take(networks=["vgg", "face"]), "face")
    refused(lambda: equal(align(tables)), "labels")
    refused(lambda: equal(scores)(scores.take(networks=["audio", "vgg"])), "network 'c3d'")
    mirrored = align({name: table.iloc[:, ::-1] for name, table in tables.items()})
    refused(lambda: equal(scores)(mirrored), "in the order Angry, Disgust")
    refused(lambda: grid(scores, steps=0), "steps")
    refused(lambda: grid(scores, metric="f1"), "accuracy, uar")


# ---- temperatures --------------------------------------------------------------------------------


def test_the_temperature_has_the_least_negative_log_likelihood():
    rng = np.random.default_rng(3)
    for scale in (0.3, 1.0, 6.0):
        p = rng.dirichlet(np.ones(5), 400)
        truth = (rng.random((400, 1)) > p.cumsum(1)).sum(1)
        logits = scale * np.log(p)
        T = temperature(logits, truth)
        assert pytest.approx(scale, rel=0.2) == T  # the labels were drawn from p
        q = np.exp(logits / T)
        q /= q.sum(1, keepdims=True)  # there the mean logit is that of the true class
        slope = ((q * logits).sum(1) - logits[np.arange(400), truth]).mean()
        assert abs(slope) < 1e-5 * scale
        assert temperature(7 * logits, truth) == pytest.approx(min(7 * T, 20), rel=1e-4)

    def surprise(log_t):
        z = logits / np.exp(log_t)
        return np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(400), truth])

    coarse = brute(surprise, [slice(log(0.05), log(20), 0.002)], finish=None)
    assert log(T) == pytest.approx(coarse, abs=0.002)


def test_temperatures_at_their_ends():
    right = np.array([[1.0, 0], [0, 1], [2, 0]])  # T has no least value that is best
    assert temperature(right, np.array([0, 1, 0])) == pytest.approx(0.05, rel=1e-3)
    assert temperature(right, np.array([1, 0, 1])) == pytest.approx(20, rel=1e-3)
    assert temperature(right[:0], np.zeros(0, int)) == 1


# ---- rules ---------------------------------------------------------------------------------------


def test_the_grid_holds_every_weight_once():
    points = simplex(4)
    assert points.shape == (1771, 4)
    np.testing.assert_allclose(points.sum(1), 1)
    assert len({*map(tuple, points.round(9))}) == 1771
    np.testing.assert_allclose(points * 20, (points * 20).round(), atol=1e-9)
    assert np.array_equal(points[0], [0.25] * 4)
    distance = np.square(points - 0.25).sum(1)
    assert (np.diff(distance) > -1e-9).all()
    assert np.array_equal(simplex(1, 5), [[1.0]])
    assert {*map(tuple, simplex(2, 2))} == {(0.5, 0.5), (0.0, 1.0), (1.0, 0.0)}


@pytest.mark.parametrize("missing", MISSING)
def test_the_surface_is_each_fusion_scored(tables, labels, missing):
    labels = labels.replace("Disgust", "Sad")  # a class without a clip
    scores = align(tables, labels)
    fusion = equal(scores, missing=missing)
    points = surface(scores, fusion, steps=3)
    named = labels[scores.ids]
    for row in points.to_dict("records"):
        weights = [row[name] for name in tables]
        fused = by_hand(tables, weights, fusion.temperatures, missing, [*fusion.prior])
        said = np.array(scores.classes)[fused.argmax(1)]
        assert row["accuracy"] == pytest.approx(accuracy_score(named, said))
        recalls = recall_score(named, said, labels=sorted({*named}), average="macro")
        assert row["uar"] == pytest.approx(recalls)


def test_the_surface_does_not_depend_on_the_memory_it_takes(scores, monkeypatch):
    whole = surface(scores, equal(scores))
    monkeypatch.setattr("micromacro.systems.msff.fusion.AT_ONCE", 2**10)
    pd.testing.assert_frame_equal(surface(scores, equal(scores)), whole)


def test_the_surface_goes_by_the_names_of_the_networks(scores, tables):
    fusion, turned = equal(scores), scores.take(networks=[*tables][::-1])
    assert len({*fusion.temperatures}) == len(tables)
    pd.testing.assert_frame_equal(surface(turned, fusion), surface(scores, fusion))
    refused(lambda: surface(scores.take(networks=["vgg"]), fusion), "network", "'c3d'")
    refused(lambda: surface(align(tables), fusion), "have no labels")


def test_the_grid_takes_the_best_and_of_equals_the_most_equal(scores, tables, labels):
    counts = (60 * surface(scores, equal(scores))["accuracy"]).round()
    assert surface(scores, equal(scores))["accuracy"].nunique() == counts.nunique()
    for metric in ("accuracy", "uar"):
        fusion = grid(scores, metric=metric)
        points = surface(scores, fusion)
        best = points[metric].max()
        own = points[np.isclose(points[[*tables]], fusion.weights).all(axis=1)]
        assert own[metric].item() == best > points[metric].iloc[0]
        near = points[points[metric] == best][[*tables]].sub(1 / 3).pow(2).sum(axis=1).min()
        assert np.square(fusion.weights - 1 / 3).sum() == pytest.approx(near)
    same = align(dict.fromkeys(("a", "b", "c", "d"), tables["vgg"]), labels)
    assert np.array_equal(grid(same).weights, [0.25] * 4)


def test_a_fusion_is_what_fuse_makes_of_its_numbers(scores):
    other = align(made_up(20, seed=5)[0])
    turned = other.take(networks=["audio", "vgg", "c3d"])
    for fusion in (equal(scores, calibrated=False, missing="zero"), grid(scores, missing="prior")):
        options = {"missing": fusion.missing, "prior": fusion.prior}
        expected = fuse(other, fusion.weights, fusion.temperatures, **options)
        assert np.array_equal(fusion(other), expected)
        assert np.array_equal(fusion(turned), expected)
    assert np.array_equal(equal(scores, calibrated=False).temperatures, [1, 1, 1])
    counts = np.bincount(scores.truth, minlength=7)
    np.testing.assert_allclose(equal(scores).prior, (counts + 1) / (60 + 7))


def test_stacking_is_a_logistic_regression_on_log_probabilities(tables, labels):
    scores = align(tables, labels)
    fusion, names = stacking(scores, penalty=0.5), labels[scores.ids]
    columns = []
    for name, T in zip(tables, fusion.temperatures, strict=True):
        alone = by_hand({name: tables[name]}, [1], [T], "prior", [*fusion.prior])
        columns.append(np.log(alone))
    model = LogisticRegression(C=2.0, max_iter=5000, tol=1e-8).fit(np.hstack(columns), names)
    expected = model.predict_proba(np.hstack(columns))  # classes in the order of the alphabet, too
    np.testing.assert_allclose(fusion(scores), expected, atol=1e-5)


def test_stacking_gives_no_share_to_a_class_that_it_never_saw(tables, labels):
    scores = align(tables, labels)
    fusion = stacking(scores.take(scores.truth != 2))
    fused = fusion(scores)
    assert (fused[:, 2] == 0).all()
    np.testing.assert_allclose(fused.sum(1), 1)
    refused(lambda: stacking(scores.take(scores.truth == 2)), "labels", "of one class")


# ---- what a choice is worth ----------------------------------------------------------------------


def test_no_clip_and_no_group_is_fused_by_what_it_fitted(tables, labels):
    people = {clip: f"p{int(clip) % 13}" for clip in labels.index}
    scores, fits = align(tables, labels, people), []

    def rule(seen):
        def fusion(left):
            assert not {*seen.groups} & {*left.groups}
            fits.append((len(seen.ids), len(left.ids)))
            return np.broadcast_to(left.truth[:, None], (len(left.ids), 7))

        return fusion

    fused = cross_fitted(rule, scores, n_folds=4)
    assert np.array_equal(fused[:, 0], scores.truth)  # each row is its own clip's
    assert [sum(pair) for pair in fits] == [60] * 4
    assert sum(left for _, left in fits) == 60
    assert np.array_equal(cross_fitted(rule, scores, n_folds=4, seed=3), fused)


def test_tuned_weights_are_optimistic_and_untuned_ones_are_not():
    """Where no network knows anything, weights win on the clips that chose them, and nowhere
    else."""
    gaps, held = [], []
    for seed in range(12):
        tables, labels = made_up(100, gain=0.0, absent=0.05, seed=seed, classes=CLASSES[:3])
        scores = align(tables, labels)
        untuned = partial(equal, calibrated=False)
        worth = nested(scores, rule=untuned)
        assert worth.seen == worth.unseen
        tuned = nested(scores, rule=partial(grid, calibrated=False), seed=seed)
        assert tuned.seen >= worth.seen
        gaps.append(tuned.seen - tuned.unseen)
        held.append(tuned.unseen)
    assert np.mean(gaps) > 0.05
    assert np.mean(held) == pytest.approx(1 / 3, abs=0.05)


def test_the_rule_is_chosen_anew_in_each_fold(scores):
    worth = nested(scores, n_folds=3)
    assert np.array_equal(worth.fused, cross_fitted(grid, scores, n_folds=3))
    assert worth.unseen == np.mean(worth.fused.argmax(1) == scores.truth)
    assert worth.seen == np.mean(grid(scores)(scores).argmax(1) == scores.truth)
    assert np.array_equal(worth.fusion.weights, grid(scores).weights)


# ---- comparisons ---------------------------------------------------------------------------------


def test_confusion_is_that_of_scikit_learn(scores):
    fused = fuse(scores)
    table = confusion(fused, scores)
    expected = confusion_matrix(scores.truth, fused.argmax(1), labels=range(7))
    assert np.array_equal(table, expected)
    assert [*table.index] == [*table.columns] == [*CLASSES]


def test_mcnemar_is_the_binomial_tail():
    for one, other in ((0, 0), (5, 1), (2, 9), (4, 4), (30, 12)):
        first = np.repeat([True, False, True, False], (one, other, 11, 7))
        second = np.repeat([False, True, True, False], (one, other, 11, 7))
        n = one + other
        tail = sum(comb(n, k) for k in range(min(one, other) + 1))
        expected = min(1, 2 * tail / 2**n)
        assert mcnemar(first, second) == (one, other, pytest.approx(expected))
        assert mcnemar(second, first) == (other, one, pytest.approx(expected))


def test_agreement_counts_clips_that_both_have_a_score_of(scores, tables):
    table = agreement(scores)
    for one in tables:
        for other in tables:
            both = tables[one].notna().all(axis=1) & tables[other].notna().all(axis=1)
            said = [tables[name][both].idxmax(axis=1) for name in (one, other)]
            assert table.loc[one, other] == pytest.approx(np.mean(said[0] == said[1]))


@pytest.mark.parametrize("axis", [0, 1])
def test_names_twice_in_the_first_table_are_refused(axis):
    table = pd.DataFrame(np.zeros((2, 2)), ["a", "b"], ["x", "y"])
    twice = table.set_axis([table.axes[axis][0]] * 2, axis=axis)
    refused(lambda: align({"vgg": twice}), "vgg", "twice")
