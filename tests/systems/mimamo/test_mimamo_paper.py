"""MIMAMO Net's official protocols, end to end on miniatures, and each piece against an oracle."""

import csv
import dataclasses
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from mimamo_miniatures import (
    CLIPS,
    write_affwild,
    write_affwild2,
    write_face_folders,
    write_omg,
    write_resnet,
)
from PIL import Image
from torchvision.models import resnet50

from micromacro import metrics, training
from micromacro import units as experiments
from micromacro.backbones import FrozenFeatures, FrozenResNet50
from micromacro.errors import BadInput
from micromacro.folds import grouped_folds
from micromacro.kernels.phase_difference import phase_difference
from micromacro.systems.mimamo import data, paper
from micromacro.systems.mimamo.paper import fold as fold_module
from micromacro.systems.mimamo.paper.protocol import Protocol
from micromacro.systems.mimamo.paper.sequences import Cut, Sequences
from micromacro.systems.mimamo.paper.store import prepare as prepare_clips
from micromacro.training import predict

RESNET = FrozenResNet50.forward


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
def face_folders(tmp_path_factory):
    return write_face_folders(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def resnet_weights(tmp_path_factory):
    return write_resnet(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def omg_root(tmp_path_factory, face_folders):
    return write_omg(tmp_path_factory.mktemp("omg"), face_folders)


@pytest.fixture(scope="module")
def affwild_root(tmp_path_factory, face_folders):
    return write_affwild(tmp_path_factory.mktemp("affwild"), face_folders)


@pytest.fixture(scope="module")
def affwild2_root(tmp_path_factory, face_folders):
    return write_affwild2(tmp_path_factory.mktemp("affwild2"), face_folders)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def how(cache, resnet_weights) -> dict:
    return {"cache": cache, **resnet_weights}


@pytest.fixture(scope="module")
def affwild_clips(affwild_root, how):
    clips, _ = paper.prepare("affwild", str(affwild_root), **how)
    return {clip.clip: clip for clip in clips}


@pytest.fixture(scope="module")
def omg_clips(omg_root, how):
    clips, _ = paper.prepare("omg", str(omg_root), **how)
    return {clip.name: clip for clip in clips}


def folds(dataset, root, how, tmp_path, protocol, labels=("both",), **more):
    where = {"dataset": dataset, "root": str(root), "protocol": protocol, "seed": 3}
    grid = paper.grid(labels=labels, n_folds=2, epochs=1, **where, **how, **more)
    return experiments.run(paper.unit, grid, root=tmp_path, progress=False)


# ---- end to end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", paper.PROTOCOLS)
def test_affwild(affwild_root, how, tmp_path, protocol):
    results = folds("affwild", affwild_root, how, tmp_path, protocol)
    table = paper.combine(results, tmp_path / "out")

    first = results[0].predictions()
    assert first["test_clips"].tolist() == ["long"]
    assert first["test_lengths"].tolist() == [70]
    assert first["test_prediction"].shape == (70, 2)
    assert np.isnan(first["test_truth"]).all()
    lost = np.isnan(first["test_prediction"])
    gap = range(40, 41) if protocol == "as_released" else range(34, 47)  # 6 snippets either side
    assert np.flatnonzero(lost.all(1)).tolist() == list(gap)
    assert (lost.all(1) == lost.any(1)).all()
    held_out = [set(result.predictions()["validation_clips"]) for result in results]
    assert held_out[0] | held_out[1] == {"one", "two", "twin", "gap", "short", "wall"}
    assert not held_out[0] & held_out[1]
    for result in results:
        assert result.metrics["skipped"] == ["train/wall"]
        assert result.metrics["missing"] == 1
        assert result.metrics["epochs"] == 1
    assert not any((Path(how["cache"]) / "checkpoints").iterdir())

    assert set(table["split"]) == {"validation"}  # nobody has the labels of the test set
    n = table.set_index("rows")["n"]
    assert set(n["all"]) == {16 + 15 + 27 + 2 * 12 + 13}
    masked = 2 if protocol == "as_released" else 2 + 6 + 6
    assert set(n["seen"]) == {16 + 15 + 27 + 2 * 12 - masked}

    mean = np.mean([result.predictions()["test_prediction"] for result in results], 0)
    written = np.loadtxt(tmp_path / "out/plain/long.txt", delimiter=",")
    seen = np.setdiff1d(np.arange(70), list(gap))
    np.testing.assert_allclose(written[seen], mean[seen], atol=1e-6)  # valence first
    np.testing.assert_allclose(
        written[list(gap)], np.repeat(written[gap[0] - 1][None], len(gap), 0)
    )
    scaled = np.loadtxt(tmp_path / "out/rescaled/long.txt", delimiter=",")
    np.testing.assert_allclose(scaled[seen].std(0), results[0].metrics["label_sd"], rtol=1e-4)
    assert not list((tmp_path / "out").rglob(".*"))


@pytest.mark.parametrize(
    ("protocol", "labels"), [("ours", ("arousal", "valence")), ("as_released", ("both",))]
)
def test_omg(omg_root, how, tmp_path, protocol, labels):
    results = folds("omg", omg_root, how, tmp_path, protocol, labels=labels)
    table = paper.combine(results, tmp_path / "out")

    released = protocol == "as_released"  # the gap lies in the only second of "gap"
    short = ["Train/b/utterance_4", "Validation/d/utterance_2", "Test/f/utterance_2"]
    gaps = [] if released else ["Validation/c/utterance_3", "Test/g/utterance_1"]
    for result in results:
        assert sorted(result.metrics["skipped"]) == sorted(short + gaps)
        found = result.predictions()
        assert found["test_clips"].tolist() == ["utterance_1", "utterance_1", "utterance_2"]
        assert found["test_prediction"].shape == (3, 2 if released else 1)
        lost = np.isnan(found["test_prediction"])
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
    assert [(video, utterance) for video, utterance, *_ in rows] == [
        (video, f"utterance_{number}.mp4") for video, number in order
    ]
    numbers = np.array([row[2:] for row in rows], float)
    for column, label in enumerate(("arousal", "valence")):
        k = int(released and label == "arousal")  # column of the network with two
        chosen = [r for r in results if r.params["label"] in (label, "both")]
        assert len(chosen) == 2
        mean = np.mean([r.predictions()["test_prediction"][:, k] for r in chosen], 0)
        known = [1, 2] if released else [1]
        np.testing.assert_allclose(numbers[known, column], mean[: len(known)], atol=1e-6)
        others = np.setdiff1d(range(4), known)
        np.testing.assert_allclose(numbers[others, column], np.nanmean(mean), atol=1e-6)


def test_affwild2(affwild2_root, how, tmp_path):
    results = folds("affwild2", affwild2_root, how, tmp_path, "ours")
    table = paper.combine(results, tmp_path / "out").set_index(["split", "rows"])
    assert set(table.loc[("test", "all"), "n"]) == {25}  # two of 27 have no label
    assert set(table.loc[("test", "seen"), "n"]) == {27 - 14}  # 3 and 4 lie in what the gap masks
    target = tmp_path / "annotations/VA_Estimation_Challenge/Train_Set"
    target.mkdir(parents=True)
    text = (tmp_path / "out/rescaled/gap.txt").read_text().splitlines()
    values = [np.clip([float(v) for v in line.split(",")], -1, 1) for line in text[1:]]
    lines = [f"{v:.6f},{a:.6f}" for v, a in values]
    (target / "gap.txt").write_text("\n".join([text[0], *lines]))
    (tmp_path / "cropped_aligned").symlink_to(affwild2_root / "cropped_aligned")
    again = data.read_affwild2(tmp_path).labels[0]  # the form of the annotations
    np.testing.assert_allclose(again, values, atol=1e-6)


def test_a_killed_fold_goes_on(omg_root, how, tmp_path, monkeypatch):
    one = {"dataset": "omg", "root": str(omg_root), "protocol": "as_released", "fold": 1}
    params = one | {"seed": 5, "n_folds": 2, "epochs": 2, "label": "valence"} | how
    whole = paper.unit(**params)
    real, files = training.replacing, []  # the checkpoint of each epoch is written by it

    def dies(file):
        files.append(file)
        if len(files) == 2:
            raise KeyboardInterrupt
        return real(file)

    monkeypatch.setattr(training, "replacing", dies)
    with pytest.raises(KeyboardInterrupt):
        paper.unit(**params)
    (checkpoint,) = (Path(how["cache"]) / "checkpoints").iterdir()
    assert checkpoint.is_file()
    again = paper.unit(**params)
    assert len(files) == 3  # the second of two epochs
    assert not checkpoint.exists()
    assert again[0] == whole[0]
    for name, array in whole[1].items():
        np.testing.assert_array_equal(again[1][name], array)
    other = paper.unit(**params | {"seed": 6, "epochs": 1})
    assert (other[1]["test_prediction"][:2] != whole[1]["test_prediction"][:2]).all()


def test_folds_share_no_video(omg_clips):
    how = Protocol.named("omg", "as_released", "both", "cpu")
    cuts = [how.cut(clip) for clip in omg_clips.values()]
    videos = []
    for fold in range(3):
        parts = fold_module._split(how, cuts, fold, 3)
        others, held_out, test = ({cut.clip.video for cut in part} for part in parts)
        assert others | held_out == {"a", "b", "c", "d"}
        assert not others & held_out
        assert test == {"f", "g"}
        videos += sorted(held_out)
    assert sorted(videos) == ["a", "b", "c", "d"]


def test_a_checkpoint_is_for_one_training_only(omg_clips, monkeypatch):
    clips = list(omg_clips.values())
    relabelled = dataclasses.replace(clips[0], labels=clips[0].labels + np.float32(0.1))
    moved = dataclasses.replace(clips[0], folder=clips[0].folder.with_name("other"))
    reweighted = dataclasses.replace(clips[0], features=clips[0].features.with_name("other.npy"))
    prints = [
        fold_module._fingerprint({"label": "valence"}, clips),
        fold_module._fingerprint({"label": "arousal"}, clips),
        fold_module._fingerprint({"label": "valence"}, clips[1:]),
        *(
            fold_module._fingerprint({"label": "valence"}, [clip, *clips[1:]])
            for clip in (relabelled, moved, reweighted)
        ),
    ]
    monkeypatch.setattr(fold_module.micromacro, "__file__", fold_module.data.__file__)  # other code
    prints.append(fold_module._fingerprint({"label": "valence"}, clips))
    assert len(set(prints)) == 7


# ---- what a network is shown ---------------------------------------------------------------------


def by_hand(root, name, how, frames, *, legacy):
    """Features and phase differences of one snippet, straight from the pictures."""
    clips = data.read_affwild(root)
    index = clips.table["clip"].tolist().index(name)
    clip, labels = data.labelled_faces(clips, index, how["cache"])
    backbone = FrozenResNet50(how["weights"], how["weights_file"], sha256=how["sha256"])
    features = FrozenFeatures(backbone, Path(how["cache"]) / "features")(clip)
    grey = data.grey_faces(clip.frames[frames])[:, 0]
    levels = phase_difference(grey, legacy_unwrap=legacy)
    return features[frames[6]], [level.flatten(0, 1) for level in levels], labels


@pytest.mark.parametrize("legacy", [False, True])
def test_sequences_against_each_snippet_by_hand(affwild_clips, affwild_root, how, legacy):
    cut = Cut.of(affwild_clips["gap"], centred=True, over_gaps=legacy)
    kept = np.arange(27) if not legacy else np.setdiff1d(np.arange(27), [8, 9])
    assert len(cut.valid) == len(kept)
    sequences = Sequences([cut], [(0, range(2, len(kept)))], 1, legacy_unwrap=legacy)
    (inputs, target, mask), *rest = sequences
    assert not rest
    assert mask.sum() == (len(kept) - 2 if legacy else 27 - 16)
    assert torch.equal(inputs["mask"], mask)
    for k in np.flatnonzero(mask[0])[[0, 1, -1]]:
        number = k + 2
        frames = kept[np.clip(np.arange(number - 6, number + 7), 0, len(kept) - 1)]
        features, levels, labels = by_hand(affwild_root, "gap", how, frames, legacy=legacy)
        np.testing.assert_array_equal(inputs["features"][0, k], features)
        for name, level in zip(("level_1", "level_2"), levels, strict=True):
            torch.testing.assert_close(inputs[name][0, k], level, rtol=0, atol=2e-4)
        np.testing.assert_array_equal(target[0, k], labels[frames[6]])


def test_omg_sequences_start_every_second(omg_clips):
    clip = omg_clips["Validation/d/utterance_1"]  # 70 frames, 40 lost: 30 ... 42 is not whole
    how = Protocol.named("omg", "ours", "both", "cpu")
    cut = how.cut(clip)
    assert np.flatnonzero(~cut.valid).tolist() == list(range(28, 41))
    (_, numbers), *rest = how.evaluation([cut]).sequences
    assert list(numbers) == [0, 30]
    assert not rest
    assert cut.snippet_frames(numbers)[1].tolist() == list(range(30, 43))
    assert cut.valid[numbers].tolist() == [True, False]
    starts = [numbers.start for _, numbers in how.training([cut]).sequences]
    assert starts == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]
    released = Protocol.named("omg", "as_released", "both", "cpu")
    cut = released.cut(clip)
    assert len(cut.valid) == 69 - 12
    assert cut.snippet_frames(range(30, 31))[0, [9, 10]].tolist() == [39, 41]
    slow = dataclasses.replace(clip, fps=10.0)
    assert list(how._seconds(how.cut(slow)))[:3] == [0, 10, 20]
    assert list(released._seconds(released.cut(slow))) == [0, 30]
    lengths = [len(s) for _, s in released.training([cut, released.cut(slow)]).sequences]
    assert lengths == sorted(lengths)


def test_augmentation_is_one_draw_a_sequence(affwild_clips):
    cut = Cut.of(affwild_clips["one"], centred=True, over_gaps=False)
    plain = Sequences([cut], [(0, range(8))], 2)
    seen = []
    for crop in (False, False, True):
        sequences = dataclasses.replace(plain, legacy_crop=crop)
        (inputs, *_), = sequences(torch.Generator().manual_seed(len(seen) // 2))  # fmt: skip
        seen.append(inputs["level_1"])
        torch.testing.assert_close(inputs["features"], next(iter(plain))[0]["features"])
    (still, *_), = plain  # fmt: skip
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(seen[0], still["level_1"])
    assert not torch.allclose(seen[0], seen[2])
    # Neighbouring snippets share 11 differences only if they share flip and crop.
    maps = seen[0][0].unflatten(1, (2, 12))
    torch.testing.assert_close(maps[2, :, 1:], maps[3, :, :-1])


def test_batches_cover_each_sequence_once_and_none_is_alone(affwild_clips):
    cut = Cut.of(affwild_clips["short"], centred=True, over_gaps=False)
    for n, size, sizes in [(7, 3, [3, 4]), (6, 3, [3, 3]), (1, 3, [1]), (5, 3, [3, 2]), (0, 3, [])]:
        sequences = Sequences([cut], [(0, range(k, k + 1)) for k in range(n)], size)
        assert len(sequences) == len(sizes)
        assert [len(target) for _, target, _ in sequences] == sizes
        for fixed in (False, True):
            drawn = dataclasses.replace(sequences, fixed=fixed)
            batches = [t[:, 0, 0].tolist() for _, t, _ in drawn(torch.Generator().manual_seed(1))]
            labels = cut.clip.labels[:n, 0].tolist()
            assert sorted(label for batch in batches for label in batch) == sorted(labels)
            if fixed:
                assert [sorted(b) for b in batches] == [
                    sorted(t[:, 0, 0].tolist()) for _, t, _ in sequences
                ]


def test_a_long_film_is_never_read_whole(affwild_clips, tmp_path):
    T = 20_000  # 251 MB of faces, on disk not even that
    np.lib.format.open_memmap(tmp_path / "faces.npy", "w+", np.uint8, (T, 1, 112, 112))
    np.lib.format.open_memmap(tmp_path / "features.npy", "w+", np.float16, (T, 2048))
    clip = dataclasses.replace(
        affwild_clips["one"],
        labels=np.zeros((T, 2), np.float32),
        folder=tmp_path,
        features=tmp_path / "features.npy",
        seen=np.ones(T, bool),
        centred=np.ones(T, bool),
    )
    how = Protocol.named("affwild", "ours", "both", "cpu")
    sequences = how.evaluation([how.cut(clip)])
    starts = [numbers.start for _, numbers in sequences.sequences]
    assert starts == [*range(0, T - 64, 32), T - 64]
    assert [s for _, s in how.training([how.cut(clip)]).sequences] == [
        range(k, k + 64) for k in starts
    ]
    released = Protocol.named("affwild", "as_released", "both", "cpu")
    found = released.evaluation([released.cut(clip)]).sequences
    assert [s.start for _, s in found] == [*range(0, T - 64, 64), T - 64]
    found = released.training([released.cut(clip)]).sequences
    assert [s.start for _, s in found] == starts
    tracemalloc.start()
    sequences.sequence(sequences.cuts[0], sequences.sequences[300][1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


# ---- what decides a prediction -------------------------------------------------------------------


def windows(protocol, clips, size):
    how = Protocol.named("affwild", protocol, "both", "cpu")
    cuts = [how.cut(clip) for clip in clips]
    parts = [(i, range(k, k + 5)) for i, cut in enumerate(cuts) for k in (0, 5, 10)]
    return Sequences(cuts, parts, size, legacy_unwrap=how.legacy), how.model(0)


@pytest.mark.parametrize("protocol", paper.PROTOCOLS)
def test_batch_mates_matter_as_released_only(affwild_clips, protocol):
    clips = [affwild_clips["one"], affwild_clips["two"]]
    together, model = windows(protocol, clips, 6)
    alone, _ = windows(protocol, clips, 2)
    change = (predict(model, together) - predict(model, alone)).abs().amax((1, 2))
    if protocol == "ours":
        assert change.max() < 1e-5
    else:
        assert (change > 1e-4).all()


def test_what_lies_in_a_gap_has_no_influence(affwild_clips, tmp_path):
    clip = affwild_clips["gap"]
    how = Protocol.named("affwild", "ours", "both", "cpu")
    model = how.model(0)
    before = how.predict([how.cut(clip)], model)["prediction"]
    assert np.flatnonzero(np.isnan(before[:, 0])).tolist() == list(range(2, 16))
    spoilt = dataclasses.replace(clip, folder=tmp_path, features=tmp_path / "features.npy")
    for old, new in ((clip.folder / "faces.npy", "faces.npy"), (clip.features, "features.npy")):
        array = np.load(old)
        array[[8, 9]] = 77
        np.save(tmp_path / new, array)
    np.testing.assert_array_equal(how.predict([how.cut(spoilt)], model)["prediction"], before)


@pytest.mark.parametrize("dataset", ["affwild", "omg"])
@pytest.mark.parametrize("protocol", paper.PROTOCOLS)
def test_clips_without_anything(affwild_clips, omg_clips, dataset, protocol):
    wall = omg_clips["Validation/d/utterance_2"] if dataset == "omg" else affwild_clips["wall"]
    how = Protocol.named(dataset, protocol, "valence", "cpu")
    found = how.predict([how.cut(wall)], how.model(0))
    assert found["prediction"].shape == ((1, 1) if dataset == "omg" else (13, 1))
    assert np.isnan(found["prediction"]).all()
    assert how.predict([], how.model(0))["prediction"].shape == (0, 1)
    with pytest.raises(BadInput, match="have 0 of the two training sequences"):
        how.training([how.cut(wall)])


def test_short_clips_are_skipped_on_omg_only(affwild_clips, omg_clips):
    frames = Protocol.named("affwild", "ours", "both", "cpu")
    found = frames.predict([frames.cut(affwild_clips["short"])], frames.model(0))
    assert np.isfinite(found["prediction"]).all()
    assert found["prediction"].shape == (12, 2)
    utterances = Protocol.named("omg", "as_released", "both", "cpu")
    assert len(utterances.cut(omg_clips["Train/b/utterance_4"]).valid) == 0


def test_overlapping_windows_are_averaged_or_overwritten(affwild_clips):
    clip = affwild_clips["long"]

    class Place(torch.nn.Module):
        """The number of a snippet in its window."""

        def forward(self, features, level_1, level_2, mask):
            return torch.arange(mask.shape[1]).float().expand_as(mask)[..., None]

    for protocol, expected in (("ours", 6.0), ("as_released", 0.0)):
        how = Protocol.named("affwild", protocol, "valence", "cpu")
        found = how.predict([how.cut(clip)], Place())["prediction"][:, 0]
        # 70 frames or 69 with a face: windows start at 0 and at the last 64
        second = 70 - 64 if protocol == "ours" else 69 - 64
        overwritten = found[second if protocol == "as_released" else 6]
        assert overwritten == (expected if protocol == "as_released" else 3.0)
        assert found[0] == 0
        assert found[-1] == 63


def test_unlabelled_frames(affwild2_root, how):
    clips, _ = paper.prepare("affwild2", str(affwild2_root), **how)
    (clip,) = [clip for clip in clips if clip.clip == "one"]
    assert np.flatnonzero(np.isnan(clip.labels).any(1)).tolist() == [3, 4]
    ours = Protocol.named("affwild2", "ours", "both", "cpu")
    ((inputs, target, mask),) = ours.training([ours.cut(clip)] * 2)
    assert inputs["mask"].all()  # seen, and shown to the network
    assert np.flatnonzero(~mask[0]).tolist() == [3, 4]
    assert target[mask].isfinite().all()
    released = Protocol.named("affwild2", "as_released", "both", "cpu")
    sequences = released.training([released.cut(clip)] * 2)
    assert sequences.cuts[0].snippet_frames(range(3, 4))[0, 6:9].tolist() == [5, 6, 7]
    ((inputs, target, mask),) = sequences
    assert mask.shape == (2, 14)
    assert mask.all()
    assert len(released.evaluation([released.cut(clip)]).cuts[0].valid) == 16


@pytest.mark.parametrize("dataset", paper.DATASETS)
def test_recipes_and_switches_are_the_published_ones(dataset):
    omg = dataset == "omg"
    prediction, target = torch.rand(2, 5, 4, 1, generator=torch.Generator().manual_seed(0))
    for protocol in paper.PROTOCOLS:
        how = Protocol.named(dataset, protocol, "arousal", "cpu")
        released = protocol == "as_released"
        recipe = how.recipe(None)
        assert (recipe.optimiser, recipe.lr, recipe.momentum) == ("sgd", 1e-3, 0.9)
        assert (recipe.weight_decay, recipe.schedule, recipe.gamma) == (5e-4, "steps", 0.1)
        assert recipe.epochs == (5 if omg else 25)
        assert recipe.milestones == ((3, 5) if omg else (10, 20))
        assert recipe.patience == (3 if omg else 5)
        assert how.recipe(2).epochs == 2
        assert how.dataset.batch == (4 if omg else 16)
        x, y = (t[:, 0] if released else t for t in (prediction, target))
        ccc = 2 * ((x - x.mean()) * (y - y.mean())).sum() / (x.numel() - released)
        ccc /= (
            x.var(correction=int(released))
            + y.var(correction=int(released))
            + (x.mean() - y.mean()) ** 2
        )
        assert float(recipe.loss(prediction, target)) == pytest.approx(1 - float(ccc), rel=1e-4)
        batches = how._batches([], [], 4, train=True)
        assert batches.columns == (1,)
        assert batches.legacy_unwrap == released
        assert batches.legacy_crop == (released and not omg)
        assert batches.fixed == (released and omg)
        assert not how._batches([], [], 4, train=False).legacy_crop
        grus = [m for m in how.model(0).modules() if hasattr(m, "legacy_axis")]
        assert {gru.legacy_axis for gru in grus} == {released}
        assert len(grus) == (2 if omg else 1)


# ---- combine -------------------------------------------------------------------------------------


def result(fold, label, prediction, truth, sd=0.5, **params):
    rows = np.asarray(prediction, np.float32)
    arrays = {}
    for split in ("validation", "test"):
        arrays |= {
            f"{split}_clips": np.array([f"{split[0]}{fold if split[0] == 'v' else ''}", "x"]),
            f"{split}_videos": np.array(["p", "q"]),
            f"{split}_lengths": np.array([len(rows) - 2, 2]),
            f"{split}_prediction": rows,
            f"{split}_truth": np.asarray(truth, np.float32),
        }
    every = {"fold": fold, "label": label, "n_folds": 2, "dataset": "affwild2", "root": "r"}
    n = rows.shape[1]
    spread = {"fold_sd": [sd] * n, "label_sd": [2 * sd] * n}
    return SimpleNamespace(params=every | params, metrics=spread, predictions=lambda: arrays)


def test_combine_is_the_formula(tmp_path):
    rng, nan = np.random.default_rng(0), np.nan
    truth, other = rng.normal(size=(2, 8, 1))
    parts = {
        (k, label): rng.normal(size=(8, 1)) for k in (0, 1) for label in ("valence", "arousal")
    }
    for values in parts.values():
        values[[0, 3]] = nan
    truths = {0: truth, 1: other}  # that of the first fold is the test set's
    results = [result(k, label, values, truths[k]) for (k, label), values in parts.items()]
    assert [r.params["fold"] for r in results] == [0, 0, 1, 1]
    table = paper.combine([results[k] for k in (2, 3, 0, 1)], tmp_path)
    one = paper.combine([results[k] for k in (1, 2, 3, 0)])
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
        ([a], r"are of folds \[0\]; give each of \[0, 1\] once"),
        ([a, a, b], r"are of folds \[0, 0, 1\]"),
        ([a, result(1, "both", x, x, seed=1)], "differ in seed"),
        ([a, b, one], 'are of "both" and of one label'),
        ([a, result(1, "both", x[1:], x[1:])], "different test clips"),
    ]:
        with pytest.raises(BadInput, match=told):
            paper.combine(results)
    valence = [result(k, "valence", x[:, :1], x[:, :1]) for k in (0, 1)]
    assert set(paper.combine(valence)["label"]) == {"valence"}
    with pytest.raises(BadInput, match="holds valence only; give the units of both labels"):
        paper.combine(valence, tmp_path)
    with pytest.raises(BadInput, match="cannot be made a folder"):
        paper.combine([a, b], tmp_path / "file")


# ---- bad input -----------------------------------------------------------------------------------


def test_unknown_names_and_folds(affwild_root, how):
    good = {"dataset": "affwild", "root": str(affwild_root), "protocol": "ours", "fold": 0}
    good |= {"seed": 0, "n_folds": 2} | how
    for wrong, told in [
        ({"dataset": "afew"}, "dataset 'afew': unknown; use one of omg, affwild, affwild2"),
        ({"protocol": "theirs"}, "protocol 'theirs': unknown; use one of ours, as_released"),
        ({"label": "joy"}, "label 'joy': unknown; use one of valence, arousal, both"),
        ({"fold": 2}, "fold 2: there is no such fold; use 0 to 1"),
        ({"n_folds": 7}, "groups: 6 groups cannot make 7 folds"),
        ({"sha256": "0" * 64}, "SHA-256"),
        ({"root": "/nowhere"}, "/nowhere: cannot be opened"),
        ({"epochs": 0}, "epochs 0: out of range"),
    ]:
        with pytest.raises(BadInput, match=told.replace("'", ".")) as caught:
            paper.unit(**good | wrong)
        assert "\n" not in str(caught.value)


def test_nothing_on_disk_or_a_fold_without_snippets(affwild_root, how, tmp_path, face_folders):
    (tmp_path / "annotations").symlink_to(affwild_root / "annotations")
    with pytest.raises(BadInput, match="none of the 7 listed clips is on this disk; get the films"):
        paper.prepare("affwild", str(tmp_path), **how)
    for name in ("one", "wall"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        (tmp_path / f"faces/{name}/{name}_aligned").symlink_to(face_folders[name])
    empty = int(grouped_folds(["one", "wall"], 2)[1])
    params = {"dataset": "affwild", "root": str(tmp_path), "protocol": "ours", "seed": 0}
    params |= {"n_folds": 2, **how}
    with pytest.raises(BadInput, match=r"fold .: no clip of its videos \(wall\) has a whole"):
        paper.unit(fold=empty, **params)
    with pytest.raises(BadInput, match="the other folds: have 0 of the two training sequences"):
        paper.unit(fold=1 - empty, **params)


def test_labels_that_do_not_vary(tmp_path, affwild_root, how):
    (tmp_path / "faces").symlink_to(affwild_root / "faces")
    for axis in ("valence", "arousal"):
        (tmp_path / "annotations/train" / axis).mkdir(parents=True)
        for name in ("one", "two", "gap", "short"):
            (tmp_path / f"annotations/train/{axis}/{name}.txt").write_text("0.5\n" * 12)
    params = {"dataset": "affwild", "root": str(tmp_path), "protocol": "ours", "seed": 0}
    with pytest.raises(BadInput, match="the training labels: do not vary"):
        paper.unit(fold=0, n_folds=2, **params, **how)


def test_prepare_makes_things_once_and_notices_change(face_folders, how, tmp_path, monkeypatch):
    root, cache = tmp_path / "root", tmp_path / "cache"
    for axis in ("valence", "arousal"):
        (root / "annotations/train" / axis).mkdir(parents=True)
        (root / f"annotations/train/{axis}/short.txt").write_text("0.5\n" * 10)
    folder = root / "faces/short/short_aligned"
    folder.mkdir(parents=True)
    for file in face_folders["short"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    calls = []
    monkeypatch.setattr(FrozenResNet50, "forward", lambda self, x: calls.append(len(x)) or torch.ones(len(x), 2048))  # fmt: skip
    where = how | {"cache": str(cache)}
    (clip,), missing = paper.prepare("affwild", str(root), **where)
    assert missing == ()
    assert calls == [12]
    assert np.isnan(clip.labels[10:]).all()  # fewer labels than frames
    stamps = {f: f.stat().st_mtime_ns for f in (cache / "paper").rglob("*") if f.is_file()}
    (again,), _ = paper.prepare("affwild", str(root), **where)
    assert {f: f.stat().st_mtime_ns for f in (cache / "paper").rglob("*") if f.is_file()} == stamps
    assert calls == [12]
    assert again.folder == clip.folder
    clip.features.unlink()  # a run killed before them
    with pytest.raises(BadInput, match="prepare again"):
        clip.read(clip.features, np.arange(2))
    paper.prepare("affwild", str(root), **where)
    assert clip.features.exists()
    (folder / "frame_det_00_000012.bmp").unlink()
    (other,), _ = paper.prepare("affwild", str(root), **where)
    assert other.folder != clip.folder
    assert len(other.seen) == 11
    assert calls == [12, 11]
    for axis in ("valence", "arousal"):
        (root / f"annotations/train/{axis}/short.txt").write_text("0.5\n" * 12)
    (longer,), _ = paper.prepare("affwild", str(root), **where)
    assert longer.seen.tolist() == [True] * 11 + [False]  # as many frames as labels
    assert np.isfinite(longer.labels).all()


def test_features_are_those_of_the_network(
    affwild2_root, how, resnet_weights, monkeypatch, tmp_path
):
    monkeypatch.setattr(FrozenResNet50, "forward", RESNET)
    clips = data.read_affwild2(affwild2_root)
    alone = dataclasses.replace(clips, table=clips.table[clips.table["clip"] == "short"])
    alone = dataclasses.replace(alone, labels=(np.zeros((12, 2), np.float32),))
    (clip,) = prepare_clips(alone, **how | {"cache": str(tmp_path)})
    stored = clip.read(clip.features, np.array([3]))
    net = resnet50()
    net.load_state_dict(torch.load(resnet_weights["weights_file"], weights_only=True))
    net.fc = torch.nn.Identity()
    picture = np.asarray(Image.open(affwild2_root / "cropped_aligned/short/00004.bmp"))
    image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255
    image = torch.nn.functional.interpolate(image, (224, 224), mode="bilinear", antialias=True)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.no_grad():
        direct = net.eval()((image - mean) / std).numpy()
    np.testing.assert_allclose(stored, direct, rtol=2e-3, atol=2e-3)


def test_the_miniatures_are_what_they_say(affwild_clips):
    for name, (n_frames, lost) in CLIPS.items():
        clip = affwild_clips[name]
        assert np.flatnonzero(~clip.seen).tolist() == list(lost)
        assert len(clip.seen) == len(clip.labels) == n_frames
