"""MIMAMO Net on official data, end to end on miniatures, and each piece against an oracle."""

import dataclasses
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import affect_miniatures
import numpy as np
import pandas as pd
import pytest
import torch
from memory import traced
from PIL import Image
from refusals import refused

from micromacro import metrics, units
from micromacro.backbones import FrozenResNet50
from micromacro.datasets.affect import read_affwild
from micromacro.datasets.frames import Film
from micromacro.folds import grouped_folds
from micromacro.images import load_image
from micromacro.kernels.phase_difference import phase_difference
from micromacro.systems.mimamo import ccc_loss, experiment
from micromacro.systems.mimamo.experiment import PROTOCOLS, Arm
from micromacro.systems.mimamo.inputs import Sequences, _official_inputs, cut, official_clips
from micromacro.systems.mimamo.scores import combine, of_split
from micromacro.training import predict

BOTH = pytest.mark.parametrize("protocol", PROTOCOLS)


@pytest.fixture(scope="module", autouse=True)
def quick_features():
    """A thumbnail, repeated, for what ResNet-50 would make of a face in a quarter of a second."""

    def forward(self, images):
        thumbnail = torch.nn.functional.adaptive_avg_pool2d(images, 8).flatten(1)
        return (thumbnail - 0.4).relu().repeat(1, 11)[:, :2048] * torch.linspace(0.5, 2, 2048)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrozenResNet50, "forward", forward)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("official")


@pytest.fixture(scope="module")
def where(folder) -> dict[str, dict]:
    """`data` of a unit for each data set."""
    faces = folder / "faces"
    faces.mkdir()
    faces = affect_miniatures.write_face_folders(faces)
    shared = {"cache": str(folder / "cache"), **affect_miniatures.write_resnet(folder)}
    shared["sizes"] = {"phase_widths": [4, 4, 4], "hidden": 8, "gru_hidden": 4}
    data = {}
    for name in ("omg", "affwild", "affwild2"):
        (folder / name).mkdir()
        how = {"one_film": "bc"} if name == "omg" else {}  # of two splits
        root = getattr(affect_miniatures, f"write_{name}")(folder / name, faces, **how)
        data[name] = {"dataset": name, "root": str(root), **shared}
    return data


def arm(dataset, protocol="ours", **options):
    return Arm.on(dataset, {"protocol": protocol, **options})


@pytest.fixture(scope="module")
def clips(where):
    """Clips of a data set as an arm cuts them, by what of their names is needed to be unique."""

    def loaded(chosen):
        options = {k: v for k, v in where[chosen.dataset].items() if k not in ("dataset", "sizes")}
        found, _ = official_clips(chosen, **options)
        short = chosen.dataset != "omg"
        return {clip.name.split("/")[-1] if short else clip.name: clip for clip in found}

    return loaded


# ---- end to end ----------------------------------------------------------------------------------

OMG_SKIPPED = ["Test/f/utterance_2", "Train/b/utterance_4", "Validation/d/utterance_2"]
OMG_GAPS = ["Test/g/utterance_1", "Validation/c/utterance_3"]  # in the only second of "gap"
# What is skipped; rows of the folds held out and of the test, all of them and those with a
# prediction.
ENDS = {
    "affwild, ours, both": (["train/wall"], {"validation": (95, 82 - 2 - 12)}),
    "affwild, as_released, both": (["train/wall"], {"validation": (95, 82 - 2)}),
    "omg, ours, arousal": (OMG_SKIPPED + OMG_GAPS, {"validation": (6, 3), "test": (3, 1)}),
    "omg, as_released, both": (OMG_SKIPPED, {"validation": (6, 4), "test": (3, 2)}),
    "affwild2, ours, both": ([], {"validation": (47, 47), "test": (25, 27 - 14)}),
}


@pytest.mark.parametrize("case", ENDS)
def test_all_folds_of_a_data_set(where, tmp_path, case):
    dataset, protocol, label = case.split(", ")
    (skipped, rows), data = ENDS[case], where[dataset]
    about = {"arm": {"protocol": protocol, "label": label}, "folds": 2, "epochs": 1, "seed": 3}
    grid = [{"data": data, "fold": fold, **about} for fold in range(2)]
    results = units.run(experiment.unit, grid, root=tmp_path, progress=False)
    table = combine(results, tmp_path / "out" if label == "both" else None)
    n = table.groupby(["split", "rows"])["n"].agg(["min", "max"])
    for split, (every, seen) in rows.items():
        assert n.loc[(split, "all")].tolist() == [every] * 2
        assert n.loc[(split, "seen")].tolist() == [seen] * 2
    assert {*table["split"]} == {*rows}  # nobody has the labels of Aff-Wild's test set
    for result in results:
        assert any(name.startswith("ccc") for name in result.metrics) == ("test" in rows)
        predictions = result.predictions()
        assert sorted(predictions["skipped"]) == sorted(skipped)
        assert len(predictions["missing"]) == {"affwild": 1, "omg": 2}.get(dataset, 0)
        assert len(predictions["epoch_loss"]) == len(predictions["epoch_score"]) == 1
    assert not any((Path(data["cache"]) / "checkpoints").iterdir())


@pytest.mark.parametrize(
    "options", [{"streams": "spatial", "loss": "mse"}, {"recurrent": False, "length": 6}], ids=str
)
def test_arms_of_the_benchmark_run_on_official_data_too(where, options):
    params = {"data": where["affwild"], "seed": 3, "fold": 0, "folds": 2, "epochs": 1}
    table = of_split(experiment.unit(arm=options, **params)[1], "validation")
    assert np.isfinite(table["prediction"]).any()


def test_a_killed_fold_goes_on(where, monkeypatch):
    params = {"data": where["omg"], "fold": 1, "folds": 2, "seed": 5, "epochs": 2}
    params["arm"] = {"protocol": "as_released", "label": "valence"}
    whole, real, scored = experiment.unit(**params), experiment.ccc, []

    def dies(*args):
        scored.append(args)
        if len(scored) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(experiment, "ccc", dies)  # once after each epoch
    with pytest.raises(KeyboardInterrupt):
        experiment.unit(**params)
    assert any((Path(where["omg"]["cache"]) / "checkpoints").iterdir())
    again = experiment.unit(**params)
    assert len(scored) == 3  # the first epoch is not trained again
    assert again[0] == whole[0]
    for name, array in whole[1].items():
        np.testing.assert_array_equal(again[1][name], array)


@BOTH
def test_folds_share_no_film_but_as_released_they_do(clips, protocol):
    chosen, whole = arm("omg", protocol), []
    key = "subject" if protocol == "as_released" else "film"
    every = list(clips(chosen).values())
    names = {getattr(clip, key) for clip in every if clip.split != "Test"}
    assert len(names) == (4 if protocol == "as_released" else 3)  # b and c are of one film
    for fold in range(3):
        parts = experiment._split(chosen, every, fold, 3)
        others, held_out, _ = ({getattr(clip, key) for clip in part} for part in parts)
        assert others | held_out == names
        assert not others & held_out
        assert {clip.subject for clip in parts[2]} == {"f", "g"}
        whole += sorted(held_out)
    assert sorted(whole) == sorted(names)


@BOTH
def test_parts_of_a_film_of_affwild2_are_in_one_fold(clips, protocol):
    chosen = arm("affwild2", protocol)
    one, *rest = clips(chosen).values()
    parts = [dataclasses.replace(one, subject=f"video86_{k}", film="video86") for k in range(6)]
    folds = [experiment._split(chosen, [*parts, *rest], fold, 2)[1] for fold in range(2)]
    shared = [any(clip.film == "video86" for clip in held_out) for held_out in folds]
    assert sum(shared) == (2 if protocol == "as_released" else 1)


# ---- what a network is shown ---------------------------------------------------------------------


@BOTH
def test_sequences_against_each_snippet_by_hand(clips, where, protocol):
    released, chosen = protocol == "as_released", arm("affwild", protocol)
    part = clips(chosen)["gap"]
    kept = np.setdiff1d(np.arange(27), [8, 9]) if released else np.arange(27)
    assert len(part.valid) == len(kept)
    (inputs, target, mask), *rest = Sequences([part], [(0, range(2, len(kept)))], 1, chosen)
    assert not rest
    assert mask.sum() == (len(kept) - 2 if released else 27 - 16)
    assert torch.equal(inputs["mask"], mask)
    folder = Path(where["affwild"]["root"]) / "faces/gap/gap_aligned"
    images = {int(f.stem[-6:]) - 1: load_image(f, "rgb") for f in folder.iterdir()}
    pictures = {number: Image.fromarray(image) for number, image in images.items()}
    labels = read_affwild(where["affwild"]["root"])
    labels = labels.labels[labels.table["clip"].tolist().index("gap")]
    for k in np.flatnonzero(mask[0])[[0, 1, -1]]:
        frames = kept[np.clip(np.arange(k - 4, k + 9), 0, len(kept) - 1)]
        greys = [pictures[f].convert("L") for f in frames]
        small = [picture.resize((48, 48), Image.Resampling.LANCZOS) for picture in greys]
        grey = torch.from_numpy(np.stack([np.asarray(p, np.float32) / 255 for p in small]))
        for i, level in enumerate(phase_difference(grey, legacy_unwrap=released), 1):
            name = f"level_{i}"
            torch.testing.assert_close(inputs[name][0, k], level.flatten(0, 1), rtol=0, atol=2e-4)
        rgb = torch.from_numpy(np.array(pictures[frames[6]])).permute(2, 0, 1)[None] / 255
        features = FrozenResNet50.forward(None, rgb)[0]  # the thumbnail above
        torch.testing.assert_close(inputs["features"][0, k], features, rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(target[0, k], labels[frames[6]])


def test_released_batches_are_of_sequences_of_like_length(clips):
    chosen = arm("omg", "as_released")
    parts = [clips(chosen)[name] for name in ("Validation/d/utterance_1", "Train/a/utterance_1")]
    spans = experiment._training_batches(chosen, parts, "cpu").spans
    assert [len(span) for _, span in spans] == [1] * 3 + [2] * 9


def test_augmentation_is_one_draw_a_sequence(clips):
    ours = arm("affwild")
    plain = Sequences([clips(ours)["one"]], [(0, range(8))], 2, ours)
    ((still, *_),) = plain
    seen = []
    for legacy in ([], [], ["crop"]):
        sequences = dataclasses.replace(plain, arm=arm("affwild", legacy=legacy))
        ((inputs, *_),) = sequences(torch.Generator().manual_seed(len(seen) // 2))
        seen.append(inputs["level_1"])
        torch.testing.assert_close(inputs["features"], still["features"])
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(seen[0], still["level_1"])
    assert not torch.allclose(seen[0], seen[2])
    # Neighbouring snippets share 11 differences only if they share flip and crop.
    maps = seen[0][0].unflatten(1, (2, 12))
    torch.testing.assert_close(maps[2, :, 1:], maps[3, :, :-1])


@pytest.mark.parametrize("legacy", [(), ("batches",)], ids=str)
@pytest.mark.parametrize("sizes", [(3, 4), (3, 3), (1,), (3, 2), ()], ids=str)
def test_batches_cover_each_sequence_once_and_none_is_alone(clips, sizes, legacy):
    ours, n = arm("affwild"), sum(sizes)
    part, spans = clips(ours)["short"], [(0, range(k, k + 1)) for k in range(n)]
    about = {"about": ours.about, "crop": "ours", "legacy": legacy}
    sequences = Sequences([part], spans, 3, SimpleNamespace(**vars(ours) | about))
    fixed = [target[:, 0, 0].tolist() for _, target, _ in sequences]
    assert len(sequences) == len(sizes)
    assert [len(labels) for labels in fixed] == list(sizes)
    drawn = [t[:, 0, 0].tolist() for _, t, _ in sequences(torch.Generator().manual_seed(1))]
    every = [label for labels in drawn for label in labels]
    assert sorted(every) == sorted(part.labels[:n, 0].astype(np.float32).tolist())
    if legacy:
        assert [sorted(labels) for labels in drawn] == [sorted(labels) for labels in fixed]


def test_a_long_film_is_never_read_whole(clips, tmp_path):
    T, chosen = 20_000, arm("affwild")  # 251 MB of faces, on disk not even that
    np.lib.format.open_memmap(tmp_path / "grey.npy", "w+", np.uint8, (T, 1, 112, 112))
    np.lib.format.open_memmap(tmp_path / "features.npy", "w+", np.float16, (T, 2048))
    files = {name: tmp_path / f"{name}.npy" for name in ("grey", "features")}
    film = Film({}, np.zeros((T, 2)), np.ones(T, bool), np.zeros(T, int), 30.0, files)
    about = {"labels": film.labels, "load": partial(_official_inputs, film)}
    clip = dataclasses.replace(clips(chosen)["one"], **about, **cut(film.seen, film.shot, chosen))
    for protocol in PROTOCOLS:  # in training windows overlap by either
        spans = experiment._training_batches(arm("affwild", protocol), [clip], "cpu").spans
        assert [span.start for _, span in spans] == [*range(0, T - 64, 32), T - 64]
    next(iter(Sequences([clip], [(0, range(64))], 1, chosen)))  # what is imported and kept once
    peaks = []
    for _ in range(3):  # what other threads of the tests' process allocate comes once
        with traced() as memory:
            next(iter(Sequences([clip], [(0, range(9600, 9664))], 1, chosen)))
        peaks.append(memory.peak)
    assert min(peaks) < 10e6


# ---- what decides a prediction -------------------------------------------------------------------


@BOTH
def test_batch_mates_matter_as_released_only(clips, protocol):
    chosen = arm("affwild", protocol)
    parts = [clips(chosen)[name] for name in ("one", "two")]
    spans = [(i, range(k, k + 5)) for i in (0, 1) for k in (0, 5, 10)]
    torch.manual_seed(0)
    model = experiment._network(chosen, {})
    together, alone = (predict(model, Sequences(parts, spans, size, chosen)) for size in (6, 2))
    change = (together - alone).abs().amax((1, 2))
    if protocol == "ours":
        assert change.max() < 1e-5
    else:
        assert (change > 1e-4).all()


@pytest.mark.parametrize(
    ("dataset", "protocol", "rows"), [("affwild", "ours", 13), ("omg", "as_released", 1)]
)
def test_clips_without_anything(clips, dataset, protocol, rows):
    chosen = arm(dataset, protocol, label="valence")
    wall = clips(chosen)["Validation/d/utterance_2" if dataset == "omg" else "wall"]
    wall = dataclasses.replace(wall, labels=wall.labels[:, :1])
    for some, shape in (([wall], (rows, 1)), ([], (0, 1))):
        found = experiment._predicted(chosen, some, experiment._network(chosen, {}), "cpu")
        assert found["prediction"].shape == shape
        assert np.isnan(found["prediction"]).all()
    call = partial(experiment._training_batches, chosen, [wall], "cpu")
    refused(call, "have 0 of the two training sequences")


class Place(torch.nn.Module):
    """The number of a snippet in its window."""

    def forward(self, features, level_1, level_2, mask):
        return torch.arange(mask.shape[1]).float().expand_as(mask)[..., None]


@pytest.mark.parametrize(
    ("protocol", "second", "value"), [("ours", 6, 3.0), ("as_released", 5, 0.0)]
)
def test_overlapping_windows_are_averaged_or_overwritten(clips, protocol, second, value):
    chosen = arm("affwild", protocol, label="valence")
    clip = clips(chosen)["long"]
    clip = dataclasses.replace(clip, labels=clip.labels[:, :1])
    found = experiment._predicted(chosen, [clip], Place(), "cpu")["prediction"][:, 0]
    # 70 frames or 69 with a face: windows start at 0 and at the last 64
    assert found[[0, second, -1]].tolist() == [0, value, 63]


def test_unlabelled_frames(clips):
    ours, released = arm("affwild2"), arm("affwild2", "as_released")
    clip, joined = (clips(chosen)["one"] for chosen in (ours, released))
    assert np.flatnonzero(np.isnan(clip.labels).any(1)).tolist() == [3, 4]
    ((inputs, target, mask),) = experiment._training_batches(ours, [clip] * 2, "cpu")
    assert inputs["mask"].all()  # seen, and shown to the network
    assert np.flatnonzero(~mask[0]).tolist() == [3, 4]
    assert target[mask].isfinite().all()
    sequences = experiment._training_batches(released, [joined] * 2, "cpu")
    assert sequences.clips[0].around(range(3, 4))[0, 6:9].tolist() == [5, 6, 7]
    assert [mask.shape for *_, mask in sequences if mask.all()] == [(2, 14)]
    assert len(joined.valid) == 16  # predicted all the same


@BOTH
@pytest.mark.parametrize("dataset", ["omg", "affwild", "affwild2"])
def test_recipes_and_switches_are_the_published_ones(dataset, protocol):
    omg, released = dataset == "omg", protocol == "as_released"
    chosen = arm(dataset, protocol, label="arousal")
    recipe = experiment._recipe(chosen, None)
    assert (recipe.optimiser, recipe.lr, recipe.momentum) == ("sgd", 1e-3, 0.9)
    assert (recipe.weight_decay, recipe.schedule) == (5e-4, "steps")
    due = (5, (3, 5), 3, 4, 16) if omg else (25, (10, 20), 5, 16, 64)
    found = (recipe.epochs, recipe.milestones, recipe.patience)
    assert (*found, chosen.about.batch, chosen.about.window) == due
    assert experiment._recipe(chosen, 2).epochs == 2
    prediction, target = torch.rand(2, 5, 4, 1, generator=torch.Generator().manual_seed(0))
    expected = ccc_loss(prediction, target, legacy_loss=released)
    assert recipe.loss(prediction, target) == expected
    assert chosen.columns == slice(1, 2)
    assert ("unwrap" in chosen.legacy) == released
    assert (chosen.crop == "released") == (released and not omg)
    assert ("batches" in chosen.legacy) == (released and omg)
    grus = [m for m in experiment._network(chosen, {}).modules() if hasattr(m, "legacy_axis")]
    assert [gru.legacy_axis for gru in grus] == [released] * (2 if omg else 1)
    assert sum(p.numel() for p in grus[0].parameters()) == (198_144 if omg else 592_896)


# ---- combine -------------------------------------------------------------------------------------


def result(fold, label, prediction, truth, sd=0.5, **params):
    rows = np.asarray(prediction, np.float32)
    n, columns = rows.shape
    arrays = {
        "clips": np.array([f"v{fold}", "x", "t", "x"]),
        "subjects": np.array(["p", "q"] * 2),
        "splits": np.array(["validation"] * 2 + ["test"] * 2),
        "lengths": np.array([n - 2, 2] * 2),
        "prediction": np.concatenate([rows] * 2),
        "truth": np.concatenate([np.asarray(truth, np.float32)] * 2),
        "fold_sd": np.full(columns, sd),
        "label_sd": np.full(columns, 2 * sd),
    }
    every = {"fold": fold, "arm": {"label": label}, "folds": 2}
    data = {"data": {"dataset": "affwild2", "root": "r"}}
    return SimpleNamespace(params=every | data | params, predictions=lambda: arrays)


def test_combine_is_the_formula(tmp_path):
    rng, nan = np.random.default_rng(0), np.nan
    truth, other = rng.normal(size=(2, 8, 1))
    keys = [(k, label) for k in (0, 1) for label in ("valence", "arousal")]
    parts = {key: rng.normal(size=(8, 1)) for key in keys}
    for values in parts.values():
        values[[0, 3]] = nan
    truths = {0: truth, 1: other}  # that of the first fold is the test set's
    results = [result(k, label, values, truths[k]) for (k, label), values in parts.items()]
    assert [r.params["fold"] for r in results] == [0, 0, 1, 1]
    table = combine([results[k] for k in (2, 3, 0, 1)], tmp_path)
    one = combine([results[k] for k in (1, 2, 3, 0)])
    pd.testing.assert_frame_equal(table, one)
    assert len(table) == 2 * 2 * 2 * 2 * 4
    seen = [1, 2, 4, 5, 6, 7]
    index = ["split", "rescaled", "rows", "label", "metric"]
    value = table.set_index(index)["value"]
    mean = {label: (parts[0, label] + parts[1, label]) / 2 for label in ("valence", "arousal")}
    target, videos = truth[seen, 0], np.array(["p"] * 4 + ["q"] * 2)
    for label, both in mean.items():
        x = both[seen, 0]
        place = ("test", False, "seen", label)
        assert value[(*place, "ccc")] == pytest.approx(metrics.ccc(x, target), abs=1e-6)
        assert value[(*place, "mse")] == pytest.approx(np.mean((x - target) ** 2), rel=1e-5)
        per_video = metrics.ccc(x, target, groups=videos)
        assert value[(*place, "ccc_per_video")] == pytest.approx(per_video, abs=1e-6)
        scaled = x.mean() + (x - x.mean()) * 1.0 / x.std()
        place = ("test", True, "seen", label)
        assert value[(*place, "ccc")] == pytest.approx(metrics.ccc(scaled, target), abs=1e-6)
        held = both[[0, 1, 2, 2, 4, 5, 6, 7], 0]
        held[0] = 0
        place = ("test", False, "all", label)
        assert value[(*place, "ccc")] == pytest.approx(metrics.ccc(held, truth[:, 0]), abs=1e-6)
    each = [parts[k, "valence"][seen, 0] for k in (0, 1)]
    each = [x.mean() + (x - x.mean()) * 0.5 / x.std() for x in each]  # each fold by itself
    pooled = metrics.pcc(np.concatenate(each), np.concatenate([target, other[seen, 0]]))
    place = ("validation", True, "seen", "valence", "pcc")
    assert value[place] == pytest.approx(pooled, abs=1e-6)
    assert set(table.loc[table["split"] == "validation", "n"]) == {12, 16}
    written = pd.read_csv(tmp_path / "plain/t.txt")
    assert written.columns.tolist() == ["valence", "arousal"]
    np.testing.assert_allclose(written["valence"][1:3], mean["valence"][1:3, 0], atol=1e-6)
    assert written["arousal"][0] == 0
    assert len(pd.read_csv(tmp_path / "plain/x.txt")) == 2


def test_combine_refuses(tmp_path):
    x = np.random.default_rng(1).normal(size=(6, 2))
    a, b = (result(k, "both", x, x) for k in (0, 1))
    one = result(1, "valence", x[:, :1], x[:, :1])
    (tmp_path / "file").write_text("")
    for results, told in [
        ([], "there are none"),
        ([a], "are of folds [0]; give each of [0, 1] once"),
        ([a, a, b], "are of folds [0, 0, 1]"),
        ([a, result(1, "both", x, x, seed=1)], "differ in seed"),
        ([result(1, "both", x, x, seed=1), a], "differ in seed"),
        # An option that only the first of them names.
        ([result(0, "both", x, x, protocol="as_released"), b], "differ in protocol"),
        ([a, b, one], "differ in what a network predicts"),
        ([a, result(1, "both", x[1:], x[1:])], "different test clips"),
    ]:
        refused(partial(combine, results), told)
    valence = [result(k, "valence", x[:, :1], x[:, :1]) for k in (0, 1)]
    assert set(combine(valence)["label"]) == {"valence"}
    refused(lambda: combine(valence, tmp_path), "hold valence only; give the units of both labels")
    refused(lambda: combine([a, b], tmp_path / "file"), "file")


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (
            {"dataset": "afew"},
            "dataset 'afew': is unknown; choose synthetic, omg, affwild, affwild2",
        ),
        (
            {"arm": {"protocol": "theirs"}},
            "protocol 'theirs': is unknown; choose ours, as_released",
        ),
        ({"arm": {"label": "joy"}}, "label 'joy': is unknown; choose valence, arousal, both"),
        ({"arm": {"kind": "farneback"}}, "kind='farneback': does nothing"),
        ({"arm": {"legacy": ["second"]}}, "legacy 'second': is unknown"),
        ({"fold": 2}, "fold 2: there is no such fold; use 0 to 1"),
        ({"folds": 7}, "groups: 6 groups cannot make 7 folds"),
        ({"sha256": "0" * 64}, "SHA-256"),
        ({"root": "/nowhere"}, "/nowhere: cannot be opened"),
        ({"epochs": 0}, "epochs 0: out of range"),
    ],
    ids=str,
)
def test_unknown_names_and_folds(where, change, word):
    params = {"data": where["affwild"], "arm": {}, "seed": 0, "fold": 0, "folds": 2}
    if change.keys() <= params["data"].keys():
        change = {"data": params["data"] | change}
    refused(lambda: experiment.unit(**params | change), word)


def test_nothing_on_disk_or_a_fold_without_snippets(where, tmp_path, folder):
    (tmp_path / "annotations").symlink_to(Path(where["affwild"]["root"]) / "annotations")
    data = where["affwild"] | {"root": str(tmp_path)}
    unit = partial(experiment.unit, data=data, seed=0, folds=2)
    refused(unit, "none of the 7 listed clips is on this disk; get the films")
    for name in ("one", "wall"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        (tmp_path / f"faces/{name}/{name}_aligned").symlink_to(folder / "faces" / name)
    empty = int(grouped_folds(["one", "wall"], 2)[1])
    refused(partial(unit, fold=empty), f"fold {empty}: no clip of its videos (wall) has a whole")
    refused(partial(unit, fold=1 - empty), "the other folds: have 0 of the two training sequences")


def test_labels_that_do_not_vary(tmp_path, where):
    (tmp_path / "faces").symlink_to(Path(where["affwild"]["root"]) / "faces")
    for axis in ("valence", "arousal"):
        (tmp_path / "annotations/train" / axis).mkdir(parents=True)
        for name in ("one", "two", "gap", "short"):
            (tmp_path / f"annotations/train/{axis}/{name}.txt").write_text("0.5\n" * 12)
    data = where["affwild"] | {"root": str(tmp_path)}
    refused(lambda: experiment.unit(data=data, seed=0, folds=2), "labels: do not vary")


def test_arms_of_the_benchmark_alone_are_none_of_official_data():
    asked = {"dataset": "affwild", "data_root": "/x"}
    assert [*experiment.grid("paper", variants=["S 1"], **asked)] == ["S 1"]
    for name in ("lag 0.5 s", "temporal, flow", "scaled", "four blocks"):
        refused(lambda name=name: experiment.grid("paper", variants=[name], **asked), name)
