"""MIMAMO Net on official data, end to end on miniatures, and each piece against an oracle."""

import csv
import dataclasses
import tracemalloc
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import affect_miniatures
import numpy as np
import pandas as pd
import pytest
import torch
from affect_miniatures import CLIPS
from PIL import Image
from refusals import refused
from torchvision.models import resnet50

from micromacro import cli, metrics, units
from micromacro.backbones import FrozenResNet50
from micromacro.datasets.affect import read_affwild, read_affwild2
from micromacro.datasets.frames import Film, aligned_faces
from micromacro.folds import grouped_folds
from micromacro.images import load_image
from micromacro.kernels.phase_difference import phase_difference
from micromacro.results import read_rows
from micromacro.systems.mimamo import experiment
from micromacro.systems.mimamo.experiment import DATASETS, PROTOCOLS, Arm
from micromacro.systems.mimamo.inputs import Sequences, _official_inputs, cut, official_clips
from micromacro.systems.mimamo.scores import combine, of_split
from micromacro.training import predict

RESNET = FrozenResNet50.forward
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
        root = getattr(affect_miniatures, f"write_{name}")(folder / name, faces)
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


def run_folds(data, tmp_path, protocol, labels=("both",)):
    about = {"data": data, "folds": 2, "epochs": 1, "seed": 3}
    arms = [{"protocol": protocol, "label": label} for label in labels]
    grid = [{"arm": arm, "fold": fold, **about} for arm in arms for fold in range(2)]
    return units.run(experiment.unit, grid, root=tmp_path, progress=False)


def names(table) -> list[str]:
    return [name.rsplit("/", 1)[-1] for name in table["clips"].tolist()]


# ---- end to end ----------------------------------------------------------------------------------


@BOTH
def test_affwild(where, tmp_path, protocol):
    results = run_folds(where["affwild"], tmp_path, protocol)
    table = combine(results, tmp_path / "out")
    predictions = [result.predictions() for result in results]
    tests = [of_split(each, "test") for each in predictions]
    assert names(tests[0]) == ["long"]
    assert tests[0]["lengths"].tolist() == [70]
    assert tests[0]["prediction"].shape == (70, 2)
    assert np.isnan(tests[0]["truth"]).all()
    lost = np.isnan(tests[0]["prediction"])
    gap = range(40, 41) if protocol == "as_released" else range(34, 47)  # 6 snippets either side
    assert np.flatnonzero(lost.all(1)).tolist() == list(gap)
    assert (lost.all(1) == lost.any(1)).all()
    held_out = [set(names(of_split(each, "validation"))) for each in predictions]
    assert held_out[0] | held_out[1] == {"one", "two", "twin", "gap", "short", "wall"}
    assert not held_out[0] & held_out[1]
    for each in predictions:
        assert each["skipped"].tolist() == ["train/wall"]
        assert each["missing"].tolist() == ["train/lost"]
        assert len(each["epoch_loss"]) == len(each["epoch_score"]) == 1
    assert not any((Path(where["affwild"]["cache"]) / "checkpoints").iterdir())
    assert set(results[0].metrics) == {  # nobody has the labels of the test set
        f"validation_{score}_{label}"
        for score in ("ccc", "pcc", "mse", "rescaled")
        for label in ("valence", "arousal")
    }

    assert set(table["split"]) == {"validation"}
    n = table.set_index("rows")["n"]
    assert set(n["all"]) == {16 + 15 + 27 + 2 * 12 + 13}
    masked = 2 if protocol == "as_released" else 2 + 6 + 6
    assert set(n["seen"]) == {16 + 15 + 27 + 2 * 12 - masked}

    mean = np.mean([each["prediction"] for each in tests], 0)
    written = np.loadtxt(tmp_path / "out/plain/long.txt", delimiter=",")
    seen = np.setdiff1d(np.arange(70), list(gap))
    np.testing.assert_allclose(written[seen], mean[seen], atol=1e-6)  # valence first
    held = np.repeat(written[gap[0] - 1][None], len(gap), 0)
    np.testing.assert_allclose(written[list(gap)], held)
    scaled = np.loadtxt(tmp_path / "out/rescaled/long.txt", delimiter=",")
    np.testing.assert_allclose(scaled[seen].std(0), predictions[0]["label_sd"], rtol=1e-4)
    assert not list((tmp_path / "out").rglob(".*"))


@pytest.mark.parametrize(
    ("protocol", "labels"), [("ours", ("arousal", "valence")), ("as_released", ("both",))]
)
def test_omg(where, tmp_path, protocol, labels):
    results = run_folds(where["omg"], tmp_path, protocol, labels)
    table = combine(results, tmp_path / "out")
    released = protocol == "as_released"  # the gap lies in the only second of "gap"
    short = ["Train/b/utterance_4", "Validation/d/utterance_2", "Test/f/utterance_2"]
    gaps = [] if released else ["Validation/c/utterance_3", "Test/g/utterance_1"]
    for result in results:
        predictions = result.predictions()
        assert sorted(predictions["skipped"]) == sorted(short + gaps)
        test = of_split(predictions, "test")
        assert names(test) == ["utterance_1", "utterance_1", "utterance_2"]
        assert test["prediction"].shape == (3, 2 if released else 1)
        lost = np.isnan(test["prediction"])
        assert lost[:, 0].tolist() == [False, not released, True]
    assert set(table["label"]) == {"valence", "arousal"}
    n = table.groupby(["split", "rows"])["n"].agg(["min", "max"])
    assert n.loc[("test", "seen")].tolist() == [2 if released else 1] * 2
    assert n.loc[("test", "all")].tolist() == [3, 3]
    assert n.loc[("validation", "seen")].tolist() == [4 if released else 3] * 2

    with (tmp_path / "out/plain/predictions.csv").open() as file:
        assert file.readline() == "video,utterance,arousal,valence\n"
        rows = list(csv.reader(file))
    order = [("g", 2), ("f", 1), ("g", 1), ("f", 2)]  # of the sheet
    expected = [(video, f"utterance_{number}.mp4") for video, number in order]
    assert [(video, utterance) for video, utterance, *_ in rows] == expected
    numbers = np.array([row[2:] for row in rows], float)
    for column, label in enumerate(("arousal", "valence")):
        k = int(released and label == "arousal")  # column of the network with two
        chosen = [r for r in results if r.params["arm"]["label"] in (label, "both")]
        assert len(chosen) == 2
        tests = [of_split(r.predictions(), "test")["prediction"][:, k] for r in chosen]
        known, mean = [1, 2] if released else [1], np.mean(tests, 0)
        np.testing.assert_allclose(numbers[known, column], mean[: len(known)], atol=1e-6)
        others = np.setdiff1d(range(4), known)
        np.testing.assert_allclose(numbers[others, column], np.nanmean(mean), atol=1e-6)


def test_affwild2(where, tmp_path):
    results = run_folds(where["affwild2"], tmp_path, "ours")
    table = combine(results, tmp_path / "out").set_index(["split", "rows"])
    assert set(table.loc[("test", "all"), "n"]) == {25}  # two of 27 have no label
    assert set(table.loc[("test", "seen"), "n"]) == {27 - 14}  # 3 and 4 lie in what the gap masks
    assert "ccc_valence" in results[0].metrics  # of the test set
    target = tmp_path / "annotations/VA_Estimation_Challenge/Train_Set"
    target.mkdir(parents=True)
    text = (tmp_path / "out/rescaled/gap.txt").read_text().splitlines()
    values = [np.clip([float(v) for v in line.split(",")], -1, 1) for line in text[1:]]
    lines = [f"{v:.6f},{a:.6f}" for v, a in values]
    (target / "gap.txt").write_text("\n".join([text[0], *lines]))
    (tmp_path / "cropped_aligned").symlink_to(Path(where["affwild2"]["root"]) / "cropped_aligned")
    again = read_affwild2(tmp_path).labels[0]  # the form of the annotations
    np.testing.assert_allclose(again, values, atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"streams": "spatial"}, {"recurrent": False}, {"loss": "mse", "length": 6}], ids=str
)
def test_arms_of_the_benchmark_run_on_official_data_too(where, options):
    params = {"data": where["affwild"], "seed": 3, "fold": 0, "folds": 2, "epochs": 1}
    one, other = (experiment.unit(arm=each, **params)[1] for each in (options, {}))
    assert np.isfinite(of_split(one, "validation")["prediction"]).any()
    assert not np.array_equal(one["prediction"], other["prediction"], equal_nan=True)


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
    monkeypatch.undo()
    other = experiment.unit(**params | {"seed": 6, "epochs": 1})[1]["prediction"]
    assert (other != whole[1]["prediction"])[np.isfinite(other)].all()


@pytest.mark.slow
def test_notebook_04_runs_the_official_path_from_start_to_end(where, tmp_path, monkeypatch):
    for name in ("notebooks", "data"):
        (tmp_path / name).symlink_to(Path(__file__).parents[3] / name)
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    params = {"DATASET": "omg", "DATA_ROOT": where["omg"]["root"], "TRIAL": 1}
    words = [word for name, value in params.items() for word in ("--param", f"{name}={value}")]
    assert cli.main(["reproduce", "--profile", "paper", "--notebooks", "04", *words]) == 0
    (run,) = tmp_path.glob("runs/*/rows")
    rows = read_rows(run / "04_mimamo_net__trial__cpu.csv")
    assert set(rows["arm"]) == {"ours", "as released"}
    assert set(rows["dataset"]) == {"omg"}
    ccc = rows[(rows["metric"] == "ccc_valence") & (rows["split"] == "test")]
    assert sorted(ccc["n"].astype(int)) == [1, 1, 2, 2, 3, 3, 3, 3]  # seen and all, plain, rescaled
    written = run.parent.glob("submissions/*/*/predictions.csv")
    assert [len(file.read_text().splitlines()) for file in written] == [5] * 4


def test_folds_share_no_video(clips):
    videos = []
    for fold in range(3):
        chosen = arm("omg", "as_released")
        parts = experiment._split(chosen, list(clips(chosen).values()), fold, 3)
        others, held_out, test = ({clip.subject for clip in part} for part in parts)
        assert others | held_out == {"a", "b", "c", "d"}
        assert not others & held_out
        assert test == {"f", "g"}
        videos += sorted(held_out)
    assert sorted(videos) == ["a", "b", "c", "d"]


def test_a_checkpoint_is_for_one_training_only(clips):
    one, *rest = clips(arm("omg")).values()
    relabelled = dataclasses.replace(one, labels=one.labels + 0.1)
    remade = dataclasses.replace(one, version="another folder")
    prints = [experiment._fingerprint({"label": "arousal"}, [one, *rest])]
    for some in ([one, *rest], rest, [relabelled, *rest], [remade, *rest]):
        prints.append(experiment._fingerprint({"label": "valence"}, some))
    assert len(set(prints)) == 5


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


def test_omg_sequences_start_every_second(clips):
    name = "Validation/d/utterance_1"  # 70 frames, 40 lost: 30 ... 42 is not whole
    chosen, released = arm("omg"), arm("omg", "as_released")
    part, joined = clips(chosen)[name], clips(released)[name]
    (span,) = experiment._spans(chosen, part)
    assert list(span) == [6, 36]
    assert part.around(span)[1].tolist() == list(range(30, 43))
    assert part.valid[span].tolist() == [True, False]
    spans = experiment._training_batches(chosen, [part], "cpu").spans
    assert [span.start - 6 for _, span in spans] == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]
    assert joined.around(range(36, 37))[0, [9, 10]].tolist() == [39, 41]
    slow, also_slow = (dataclasses.replace(each, fps=10.0) for each in (part, joined))
    assert [c - 6 for c in experiment._spans(chosen, slow)[0]][:3] == [0, 10, 20]
    assert list(experiment._spans(released, also_slow)[0]) == [6, 36]
    spans = experiment._training_batches(released, [joined, also_slow], "cpu").spans
    assert [len(s) for _, s in spans] == sorted(len(s) for _, s in spans)


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


def test_batches_cover_each_sequence_once_and_none_is_alone(clips):
    part = clips(arm("affwild"))["short"]
    for n, size, sizes in [(7, 3, [3, 4]), (6, 3, [3, 3]), (1, 3, [1]), (5, 3, [3, 2]), (0, 3, [])]:
        spans = [(0, range(k, k + 1)) for k in range(n)]
        sequences = Sequences([part], spans, size, arm("affwild"))
        assert len(sequences) == len(sizes)
        assert [len(target) for _, target, _ in sequences] == sizes
        for legacy in ((), ("batches",)):
            chosen = SimpleNamespace(**vars(sequences.arm) | {"legacy": legacy})
            chosen.crop, chosen.about = "ours", sequences.arm.about
            drawn = dataclasses.replace(sequences, arm=chosen)
            batches = [t[:, 0, 0].tolist() for _, t, _ in drawn(torch.Generator().manual_seed(1))]
            labels = part.labels[:n, 0].astype(np.float32).tolist()
            assert sorted(label for batch in batches for label in batch) == sorted(labels)
            if legacy:
                fixed = [sorted(t[:, 0, 0].tolist()) for _, t, _ in sequences]
                assert [sorted(batch) for batch in batches] == fixed


def test_a_long_film_is_never_read_whole(clips, tmp_path):
    T = 20_000  # 251 MB of faces, on disk not even that
    np.lib.format.open_memmap(tmp_path / "grey.npy", "w+", np.uint8, (T, 1, 112, 112))
    np.lib.format.open_memmap(tmp_path / "features.npy", "w+", np.float16, (T, 2048))
    files = {name: tmp_path / f"{name}.npy" for name in ("grey", "features")}
    film = Film({}, np.zeros((T, 2)), np.ones(T, bool), np.zeros(T, int), 30.0, files)
    about = {"labels": film.labels, "load": partial(_official_inputs, film)}
    about |= cut(film.seen, film.shot, arm("affwild"))
    clip = dataclasses.replace(clips(arm("affwild"))["one"], **about)
    half = [*range(0, T - 64, 32), T - 64]
    for protocol, tested in (("ours", half), ("as_released", [*range(0, T - 64, 64), T - 64])):
        chosen = arm("affwild", protocol)
        assert [span.start for span in experiment._spans(chosen, clip)] == tested
        trained = experiment._training_batches(chosen, [clip], "cpu").spans
        assert [span for _, span in trained] == [range(k, k + 64) for k in half]
    sequences = Sequences([clip], [(0, range(9600, 9664))], 1, arm("affwild"))
    tracemalloc.start()
    next(iter(sequences))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


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


def test_what_lies_in_a_gap_has_no_influence(clips, tmp_path):
    chosen = arm("affwild")
    clip = clips(chosen)["gap"]
    (film,), files = clip.load.args, {}
    for name, file in film.files.items():
        array = np.load(file)
        array[[8, 9]] = 77
        files[name] = tmp_path / file.name
        np.save(files[name], array)
    spoilt = partial(_official_inputs, dataclasses.replace(film, files=files))
    torch.manual_seed(0)
    model = experiment._network(chosen, {})
    before, after = (
        experiment._predicted(chosen, [each], model, "cpu")["prediction"]
        for each in (clip, dataclasses.replace(clip, load=spoilt))
    )
    assert np.flatnonzero(np.isnan(before[:, 0])).tolist() == list(range(2, 16))
    np.testing.assert_array_equal(after, before)


@BOTH
@pytest.mark.parametrize("dataset", ["affwild", "omg"])
def test_clips_without_anything(clips, dataset, protocol):
    chosen = arm(dataset, protocol, label="valence")
    wall = clips(chosen)["Validation/d/utterance_2" if dataset == "omg" else "wall"]
    wall = dataclasses.replace(wall, labels=wall.labels[:, :1])
    model = experiment._network(chosen, {})
    found = experiment._predicted(chosen, [wall], model, "cpu")["prediction"]
    assert found.shape == ((1, 1) if dataset == "omg" else (13, 1))
    assert np.isnan(found).all()
    assert experiment._predicted(chosen, [], model, "cpu")["prediction"].shape == (0, 1)
    refused(
        lambda: experiment._training_batches(chosen, [wall], "cpu"),
        "have 0 of the two training sequences",
    )


def test_overlapping_windows_are_averaged_or_overwritten(clips):
    class Place(torch.nn.Module):
        """The number of a snippet in its window."""

        def forward(self, features, level_1, level_2, mask):
            return torch.arange(mask.shape[1]).float().expand_as(mask)[..., None]

    for protocol in PROTOCOLS:
        chosen = arm("affwild", protocol, label="valence")
        clip = clips(chosen)["long"]
        clip = dataclasses.replace(clip, labels=clip.labels[:, :1])
        table = experiment._predicted(chosen, [clip], Place(), "cpu")
        found = table["prediction"][:, 0]
        # 70 frames or 69 with a face: windows start at 0 and at the last 64
        assert found[0] == 0
        assert found[6 if protocol == "ours" else 5] == (3.0 if protocol == "ours" else 0.0)
        assert found[-1] == 63


def test_unlabelled_frames(clips):
    clip = clips(arm("affwild2"))["one"]
    assert np.flatnonzero(np.isnan(clip.labels).any(1)).tolist() == [3, 4]
    ((inputs, target, mask),) = experiment._training_batches(arm("affwild2"), [clip] * 2, "cpu")
    assert inputs["mask"].all()  # seen, and shown to the network
    assert np.flatnonzero(~mask[0]).tolist() == [3, 4]
    assert target[mask].isfinite().all()
    released = arm("affwild2", "as_released")
    clip = clips(released)["one"]
    sequences = experiment._training_batches(released, [clip] * 2, "cpu")
    assert sequences.clips[0].around(range(3, 4))[0, 6:9].tolist() == [5, 6, 7]
    ((inputs, target, mask),) = sequences
    assert mask.shape == (2, 14)
    assert mask.all()
    assert len(clip.valid) == 16  # predicted all the same


@BOTH
@pytest.mark.parametrize("dataset", ["omg", "affwild", "affwild2"])
def test_recipes_and_switches_are_the_published_ones(dataset, protocol):
    omg, released = dataset == "omg", protocol == "as_released"
    chosen = arm(dataset, protocol, label="arousal")
    prediction, target = torch.rand(2, 5, 4, 1, generator=torch.Generator().manual_seed(0))
    recipe = experiment._recipe(chosen, None)
    assert (recipe.optimiser, recipe.lr, recipe.momentum) == ("sgd", 1e-3, 0.9)
    assert (recipe.weight_decay, recipe.schedule) == (5e-4, "steps")
    assert recipe.epochs == (5 if omg else 25)
    assert recipe.milestones == ((3, 5) if omg else (10, 20))
    assert recipe.patience == (3 if omg else 5)
    assert experiment._recipe(chosen, 2).epochs == 2
    assert (chosen.about.batch, chosen.about.window) == ((4, 16) if omg else (16, 64))
    x, y = (t[:, 0] if released else t for t in (prediction, target))
    ccc = 2 * ((x - x.mean()) * (y - y.mean())).sum() / (x.numel() - released)
    below = x.var(correction=int(released)) + y.var(correction=int(released))
    ccc /= below + (x.mean() - y.mean()) ** 2
    assert float(recipe.loss(prediction, target)) == pytest.approx(1 - float(ccc), rel=1e-4)
    assert chosen.columns == slice(1, 2)
    assert ("unwrap" in chosen.legacy) == released
    assert (chosen.crop == "released") == (released and not omg)
    assert ("batches" in chosen.legacy) == (released and omg)
    grus = [m for m in experiment._network(chosen, {}).modules() if hasattr(m, "legacy_axis")]
    assert {gru.legacy_axis for gru in grus} == {released}
    assert len(grus) == (2 if omg else 1)
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


def test_unknown_names_and_folds(where):
    data = where["affwild"]
    afew, run = {"data": data | {"dataset": "afew"}}, {"seed": 0, "fold": 0, "folds": 2}
    for wrong, *words in [
        (afew, "dataset 'afew': is unknown; choose synthetic, omg, affwild, affwild2"),
        ({"arm": {"protocol": "theirs"}}, "protocol 'theirs': is unknown", "ours, as_released"),
        ({"arm": {"label": "joy"}}, "label 'joy': is unknown", "valence, arousal, both"),
        ({"arm": {"kind": "farneback"}}, "kind: does nothing here, on affwild"),
        ({"arm": {"scale": True}}, "scale: does nothing here, on affwild"),
        ({"arm": {"legacy": ["second"]}}, "legacy 'second': is unknown"),
        ({"fold": 2}, "fold 2: there is no such fold; use 0 to 1"),
        ({"folds": 7}, "groups: 6 groups cannot make 7 folds"),
        ({"data": data | {"sha256": "0" * 64}}, "SHA-256"),
        ({"data": data | {"root": "/nowhere"}}, "/nowhere: cannot be opened"),
        ({"epochs": 0}, "epochs 0: out of range"),
    ]:
        refused(partial(experiment.unit, **{"data": data, "arm": {}} | run | wrong), *words)


def test_nothing_on_disk_or_a_fold_without_snippets(where, tmp_path, folder):
    (tmp_path / "annotations").symlink_to(Path(where["affwild"]["root"]) / "annotations")
    params = {"data": where["affwild"] | {"root": str(tmp_path)}, "seed": 0, "folds": 2}
    refused(
        lambda: experiment.unit(**params),
        "none of the 7 listed clips is on this disk; get the films",
    )
    for name in ("one", "wall"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        (tmp_path / f"faces/{name}/{name}_aligned").symlink_to(folder / "faces" / name)
    empty = int(grouped_folds(["one", "wall"], 2)[1])
    refused(
        lambda: experiment.unit(fold=empty, **params),
        f"fold {empty}: no clip of its videos (wall) has a whole",
    )
    refused(
        lambda: experiment.unit(fold=1 - empty, **params),
        "the other folds: have 0 of the two training sequences",
    )


def test_labels_that_do_not_vary(tmp_path, where):
    (tmp_path / "faces").symlink_to(Path(where["affwild"]["root"]) / "faces")
    for axis in ("valence", "arousal"):
        (tmp_path / "annotations/train" / axis).mkdir(parents=True)
        for name in ("one", "two", "gap", "short"):
            (tmp_path / f"annotations/train/{axis}/{name}.txt").write_text("0.5\n" * 12)
    refused(
        lambda: experiment.unit(data=where["affwild"] | {"root": str(tmp_path)}, seed=0, folds=2),
        "the training labels: do not vary",
    )


def test_features_are_those_of_the_network(where, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(FrozenResNet50, "forward", RESNET)
    annotations = tmp_path / "root/annotations/VA_Set/Train_Set"
    annotations.mkdir(parents=True)
    (annotations / "few.txt").write_text("valence,arousal\n0.1,0.2\n")
    (tmp_path / "root/cropped_aligned/few").mkdir(parents=True)
    source = folder / "faces/short/frame_det_00_000004.bmp"
    (tmp_path / "root/cropped_aligned/few/00001.bmp").symlink_to(source)
    data = {k: v for k, v in where["affwild2"].items() if k not in ("dataset", "sizes")}
    data |= {"cache": str(tmp_path / "cache"), "root": str(tmp_path / "root")}
    found, _ = official_clips(arm("affwild2"), **data)
    ((inputs, *_),) = Sequences(found, [(0, range(1))], 1, arm("affwild2"))
    net = resnet50()
    net.load_state_dict(torch.load(data["weights_file"], weights_only=True))
    net.fc = torch.nn.Identity()
    image = torch.from_numpy(load_image(source, "rgb")).permute(2, 0, 1)[None] / 255
    image = torch.nn.functional.interpolate(image, (224, 224), mode="bilinear", antialias=True)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.no_grad():
        direct = net.eval()((image - mean) / std)[0]
    torch.testing.assert_close(inputs["features"][0, 0], direct, rtol=2e-3, atol=2e-3)


def test_the_miniatures_are_what_they_say(clips, where, folder):
    for name, (n_frames, lost) in CLIPS.items():
        ours, released = (clips(arm("affwild", protocol))[name] for protocol in PROTOCOLS)
        assert released.frames.tolist() == np.setdiff1d(range(n_frames), list(lost)).tolist()
        assert len(ours.frames) == len(ours.labels) == n_frames
    assert aligned_faces(folder / "faces/gap").segments() == [(0, 8), (10, 27)]
    assert set(DATASETS) == {"synthetic", *where}
