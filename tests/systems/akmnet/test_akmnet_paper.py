"""AKMNet's official protocol, end to end on miniatures, and each piece against an oracle."""

import dataclasses
import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from akmnet_miniatures import BEFORE, SUBJECTS, clips_of, shrink, tiny_unit, write_dataset
from PIL import Image
from torchvision.models import resnet18

from micromacro import metrics, training
from micromacro import units as experiments
from micromacro.errors import BadInput
from micromacro.motion.magnify import magnify
from micromacro.statistics import cluster_bootstrap
from micromacro.systems.akmnet import FrameNet, StillNet, akm_loss, data, paper
from micromacro.systems.akmnet.paper import loso, pretrained, scores, store
from micromacro.systems.akmnet.paper.fold import Fold
from micromacro.systems.akmnet.paper.pretrained import Start
from micromacro.systems.akmnet.paper.protocol import Protocol
from micromacro.training import learning_rate
from micromacro.weights import WEIGHTS

NOTHING = Start.named(None)
CLASS_OF = {"happiness": "positive", "disgust": "negative", "anger": "negative"}
CLASS_OF |= {"tense": "others", "other": "others"}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    shrink(monkeypatch)


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, str]:
    """Root of each data set; that of the composite holds them all."""
    folder = tmp_path_factory.mktemp("official")
    return {name: write_dataset(name, folder / name) for name in SUBJECTS} | {
        "megc2019": str(folder)
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def smic(roots, cache):
    """Nine clips of three people, in three classes, magnified, and who they are."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        return paper.prepare("smic", roots["smic"], cache=cache)


@pytest.fixture(scope="module")
def samm(roots, cache):
    """Twelve clips of three people, in four classes."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        return paper.prepare("samm", roots["samm"], cache=cache)[0]


def refused(*fragments, call):
    with pytest.raises(BadInput) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said
    for fragment in fragments:
        assert fragment in said


# ---- end to end ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "protocol", "arm"),
    [
        ("casme", "as_released", "s123"),
        ("casme2", "ours", "s13"),
        ("smic", "as_released", "s23"),
        ("samm", "ours", "s12"),
        ("megc2019", "ours", "s123"),
    ],
)
def test_end_to_end(roots, cache, tmp_path, dataset, protocol, arm):
    where = {"dataset": dataset, "root": roots[dataset], "protocol": protocol, "arm": arm}
    grid = paper.grid(**where, seed=1, cache=cache, epochs=2)
    results = experiments.run(tiny_unit, grid, root=tmp_path, progress=False)
    found = paper.combine(results[::-1], tmp_path / "out", draws=50)

    sources = ("casme2", "smic", "samm") if dataset == "megc2019" else (dataset,)
    due = {(s, *clip) for s in sources for clip in clips_of(s)}
    if dataset == "megc2019":
        due = {clip for clip in due if clip[3] not in ("others", "Other")}
    due = {(s, who, name): (emotion, T, apex) for s, who, name, emotion, T, apex in due}
    text = {"dataset": str, "subject": str, "clip": str}
    written = pd.read_csv(tmp_path / "out/predictions.csv", dtype=text)
    assert list(written.columns) == [
        *("dataset", "subject", "clip", "truth", "prediction", "best_epoch"),
        *("T", "kept", "max_key", "apex", "apex_kept"),
    ]
    rows = written.set_index(["dataset", "subject", "clip"])
    assert set(rows.index) == set(due)
    assert len(rows) == len(due)
    for key, (emotion, T, apex) in due.items():
        row = rows.loc[key]
        assert row["truth"] == CLASS_OF.get(emotion.lower(), emotion.lower())
        assert row["T"] == T
        assert row["apex"] == (-1 if apex is None or key[0] == "smic" else apex)
        assert (row["kept"] == T) if arm == "s12" else (1 <= row["kept"] <= T)
        assert 0 <= row["max_key"] < T
        assert (row["apex_kept"] == -1) == (row["apex"] == -1)

    table = found.table.set_index(["dataset", "metric"])
    assert table.loc[(dataset, "accuracy"), "value"] == (rows["prediction"] == rows["truth"]).mean()
    best = (rows["best_epoch"] == rows["truth"]).mean()
    assert table.loc[(dataset, "accuracy_best_subject"), "value"] == best
    assert table.loc[(dataset, "accuracy"), ["n", "subjects"]].tolist() == [
        *(len(due), 3 * len(sources))
    ]
    assert set(found.table["dataset"]) == {dataset, *sources}
    assert ("apex_excess" in set(found.table["metric"])) == (arm != "s12" and dataset != "smic")
    assert ("distance" in set(found.table["metric"])) == (dataset != "smic")
    assert found.confusion.to_numpy().sum() == len(due)
    assert np.diag(found.confusion).sum() == (rows["prediction"] == rows["truth"]).sum()
    for result in results:
        assert result.metrics["start"] == "random"
        assert result.metrics["tensors_loaded"] == 0
        assert result.metrics["clips"] + len(result.predictions()["truth"]) == len(due)
        arrays, best = result.predictions(), result.metrics["best_epoch"]
        assert arrays["epochs"].shape[1] == 2
        for name, epoch in (("prediction", -1), ("best_subject", best)):
            np.testing.assert_array_equal(arrays[name], arrays["epochs"][:, epoch])
        np.testing.assert_array_equal(arrays["logits"].argmax(1), arrays["prediction"])
        hits = (arrays["epochs"] == arrays["truth"][:, None]).sum(0)
        assert best == max(range(2), key=lambda epoch: (hits[epoch], epoch))
    checkpoints = Path(cache) / "checkpoints"
    assert not any(checkpoints.iterdir())
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.slow
def test_two_workers_say_the_same(roots, cache, tmp_path):
    where = {"dataset": "smic", "root": roots["smic"], "protocol": "ours"}
    grid = paper.grid(**where, seed=4, cache=cache, epochs=1)[:2]
    here = experiments.run(tiny_unit, grid, root=tmp_path / "a", progress=False)
    there = experiments.run(tiny_unit, grid, root=tmp_path / "b", progress=False, workers=2)
    for a, b in zip(here, there, strict=True):
        assert a.metrics == b.metrics
        for name, array in a.predictions().items():
            np.testing.assert_array_equal(array, b.predictions()[name])


@pytest.mark.parametrize("arm", ["s123", "random"])
def test_a_killed_unit_goes_on(roots, cache, monkeypatch, arm):
    where = {"dataset": "smic", "root": roots["smic"], "protocol": "as_released", "arm": arm}
    params = where | {"subject": "s02", "seed": 5, "epochs": 3, "cache": cache}
    whole = paper.unit(**params)
    real, files = training.replacing, []  # the checkpoint of each epoch is written by it
    last = 5 if arm == "random" else 2  # of "random": in its second training

    def dies(file):
        files.append(file)
        if len(files) == last:
            raise KeyboardInterrupt
        return real(file)

    monkeypatch.setattr(training, "replacing", dies)
    with pytest.raises(KeyboardInterrupt):
        paper.unit(**params)
    (checkpoint,) = (Path(cache) / "checkpoints").iterdir()
    assert {f.name for f in checkpoint.iterdir()} == {"s123", arm}
    again = paper.unit(**params)
    assert len(files) == last + 2  # two of three epochs
    assert again[0] == whole[0]
    assert again[1]["epochs"].shape[1] == 3
    for name, array in whole[1].items():
        np.testing.assert_array_equal(again[1][name], array)
    assert not checkpoint.exists()


def test_checkpoints_are_for_one_training_only(smic, tmp_path, monkeypatch):
    clips, _ = smic
    relabelled = [dataclasses.replace(clips[0], label=2), *clips[1:]]
    moved = [dataclasses.replace(clips[0], folder=tmp_path), *clips[1:]]
    asked = [({"a": 1}, clips), ({"a": 2}, clips), ({"a": 1}, clips[1:])]
    asked += [({"a": 1}, relabelled), ({"a": 1}, moved)]
    prints = [loso._fingerprint(*args) for args in asked]
    monkeypatch.setattr(loso.micromacro, "__file__", paper.__file__)  # other code
    prints.append(loso._fingerprint({"a": 1}, clips))
    assert len(set(prints)) == 6


# ---- folds and arms ------------------------------------------------------------------------------


def fold_of(clips, tmp_path, subject, **changed):
    how = {"seed": 3, "start": NOTHING, "epochs": 2, "device": "cpu"} | changed
    return Fold(clips, subject, checkpoint=tmp_path, **how)


def test_who_is_left_out_is_not_trained_on(smic, tmp_path):
    clips, _ = smic
    fold = fold_of(clips, tmp_path / "a", "s02")
    assert [clips[row].person for row in fold.held.tolist()] == ["s02"] * 3
    assert sorted(fold.held.tolist() + fold.seen.tolist()) == list(range(9))
    plan = Protocol(True, "s123", 3)
    model, _ = fold.train(plan)
    other = [dataclasses.replace(c, label=0) if c.person == "s02" else c for c in clips]
    same, _ = fold_of(other, tmp_path / "b", "s02").train(plan)
    torch.testing.assert_close(same.logits, model.logits, rtol=0, atol=0)
    other = [dataclasses.replace(c, label=0) if c.person == "s01" else c for c in clips]
    changed, _ = fold_of(other, tmp_path / "c", "s02").train(plan)
    assert not torch.equal(changed.logits, model.logits)
    # the record's last row is what the trained network says, which is in evaluation mode
    inputs, _ = next(iter(plan.evaluation(clips, fold.held)))
    assert not model.training
    torch.testing.assert_close(model(**inputs).logits[0], model.logits[-1, 0])
    assert not torch.equal(model.logits[0], model.logits[-1])


@pytest.mark.parametrize("protocol", paper.PROTOCOLS)
def test_random_frames_are_as_many_as_s123_kept(roots, cache, protocol):
    where = {"dataset": "casme", "root": roots["casme"], "protocol": protocol, "subject": "02"}
    params = where | {"seed": 2, "epochs": 1, "cache": cache}
    mined, drawn = (paper.unit(**params, arm=arm)[1] for arm in ("s123", "random"))
    assert drawn["kept"].tolist() == mined["kept"].tolist()
    assert (drawn["max_key"] == -1).all()
    assert set(drawn["apex_kept"]) <= {0, 1}
    assert (drawn["logits"] != mined["logits"]).any()


def test_what_the_frame_is_and_whether_it_is_kept(samm, tmp_path):
    clips = samm
    fold, plan = fold_of(clips, tmp_path, "013", epochs=1), Protocol(False, "s123", 4)
    model, _ = fold.train(plan)
    found = loso._predicted(fold, plan, model, None)
    for i, row in enumerate(fold.held.tolist()):
        clip = clips[row]
        frames = torch.from_numpy(clip.frames(store.SMALL_PX)).float() / 255
        with torch.no_grad():
            mining = model.net([frames]).mining
        score = mining.score.numpy()
        assert found["max_key"][i] == score.argmax()
        assert found["kept"][i] == (score > score.mean()).sum()
        assert found["apex_kept"][i] == (score[clip.apex] > score.mean())
        assert (found["T"][i], found["apex"][i]) == (len(score), clip.apex)
    # one frame of each clip: of every other one its apex
    chosen = [torch.tensor([c.apex if k % 2 else c.T - 1]) for k, c in enumerate(clips)]
    assert all(clips[row].apex < clips[row].T - 1 for row in fold.held.tolist())
    every = Protocol(False, "all", 4)
    few = loso._predicted(fold, every, fold.train(every, chosen)[0], chosen)
    assert few["apex_kept"].tolist() == [row % 2 for row in fold.held.tolist()]
    assert few["kept"].tolist() == [1] * 4


@pytest.mark.parametrize(("arm", "kept"), [("all", None), ("norm16", 16), ("norm128", 128)])
def test_controls(roots, cache, arm, kept):
    where = {"dataset": "samm", "root": roots["samm"], "protocol": "ours", "subject": "013"}
    numbers, found = paper.unit(**where, seed=2, epochs=1, cache=cache, arm=arm)
    assert found["kept"].tolist() == [kept or T for T in found["T"]]
    assert (found["max_key"] == -1).all()
    assert set(found["apex_kept"]) == ({1} if kept is None else {-1})
    assert numbers["classes"] == ("positive", "negative", "surprise", "others")


# ---- the protocols -------------------------------------------------------------------------------


def test_learning_rates_are_the_published_ones():
    released, ours = (Protocol(legacy, "s123", 4).recipe(40) for legacy in (True, False))
    rates = [learning_rate(released, epoch, 1) for epoch in range(40)]
    landmarks = {1: 1e-3, 9: 1e-8, 17: 1e-3, 25: 1e-8, 33: 1e-3, 40: 3.8e-5}  # epochs from 1 on
    for epoch, rate in landmarks.items():
        assert rates[epoch - 1] == pytest.approx(rate, rel=0.01)
    assert (np.diff(rates)[:8] < 0).all()
    assert (np.diff(rates)[8:16] > 0).all()
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 40, eta_min=1e-8)
    for epoch in range(40):
        assert learning_rate(ours, epoch, 1) == pytest.approx(schedule.get_last_lr()[0], rel=1e-6)
        optimiser.step()
        schedule.step()
    for recipe, accumulate in ((released, 8), (ours, 1)):
        assert (recipe.optimiser, recipe.lr, recipe.momentum) == ("sgd", 1e-3, 0.9)
        assert (recipe.weight_decay, recipe.epochs) == (5e-4, 40)
        assert (recipe.accumulate, recipe.loss) == (accumulate, akm_loss)
        assert recipe.patience is recipe.clip_norm is None


@pytest.mark.parametrize("arm", paper.ARMS)
def test_switches_and_first_weights(arm):
    ours, released = (Protocol(legacy, arm, 3).network(7, NOTHING) for legacy in (False, True))
    for net, legacy in ((ours, False), (released, True)):
        assert net.miner.legacy_straight_through == net.miner.legacy_selection == legacy
        assert net.frame_net.bn == ("released" if legacy else "packed")
        assert net.miner.steps == (arm if arm.startswith("s") else "none")
        bias = net.gru.gru.bias_ih_l0
        assert (bias.min() > 0 and bias.max() < 1) if legacy else (bias == 0).all()
        assert net.classifier.out_features == 3
    theirs = released.state_dict()
    for name, tensor in ours.state_dict().items():
        if not name.startswith("gru."):
            torch.testing.assert_close(theirs[name], tensor, rtol=0, atol=0)
    again = Protocol(True, "s123", 3).network(8, NOTHING)
    assert not torch.equal(again.classifier.weight, released.classifier.weight)


def test_published_sizes(monkeypatch):
    monkeypatch.undo()
    assert (store.LARGE_PX, store.SMALL_PX) == (144, 128)
    net = Protocol(True, "s123", 4).network(0, NOTHING)
    assert sum(p.numel() for p in net.parameters()) == 11_296_965
    assert net.image_px == (128, 128)


def places(frames, clip):
    """Where frames were cut from the larger ones; None if they are the plainly resized ones."""
    large, small = clip.frames(36) / np.float32(255), clip.frames(32) / np.float32(255)
    if np.allclose(frames, small):
        return None
    spots = [(y, x) for y in range(5) for x in range(5)]
    fits = [s for s in spots if np.allclose(frames, large[..., s[0] : s[0] + 32, s[1] : s[1] + 32])]
    (place,) = fits
    return place


@pytest.mark.parametrize("legacy", [False, True])
def test_training_pictures(smic, legacy):
    clips, _ = smic
    rows = torch.tensor([0, 1, 2, 3, 6])
    batches = Protocol(legacy, "s123", 3).training(clips, rows)
    generator = torch.Generator().manual_seed(0)
    seen, orders = [], []
    for _ in range(20):
        epoch = list(batches(generator))
        assert len(epoch) == len(batches) == (5 if legacy else 2)
        order = torch.cat([target for _, target in epoch]).tolist()
        orders.append(order)
        for inputs, target in epoch:
            parts = inputs["frames"].split(inputs["lengths"].tolist())
            for frames, label in zip(parts, target.tolist(), strict=True):
                fits = [c for c in clips if c.label == label and len(frames) == c.T]
                found = []
                for clip in fits:
                    try:
                        found.append(places(frames.numpy(), clip))
                    except ValueError:
                        continue
                seen += found[:1]
    labels = torch.tensor([c.label for c in clips])[rows].tolist()
    counts = {k: labels.count(k) for k in range(3)}
    for order in orders:
        due = counts if legacy else dict.fromkeys(counts, max(counts.values()))
        assert {k: order.count(k) for k in range(3)} == due
    assert len({tuple(order) for order in orders}) > 5
    plain = np.mean([place is None for place in seen])
    assert len(seen) == 20 * (5 if legacy else 9)
    assert 0.35 < plain < 0.65 if legacy else plain == 0
    cut = [place for place in seen if place is not None]
    assert {y for y, _ in cut} == {x for _, x in cut} == set(range(5))
    assert len(set(cut)) > 15  # rows and columns are drawn apart


def test_test_pictures_are_the_plain_ones_in_order(smic):
    clips, _ = smic
    for legacy in (False, True):
        batches = Protocol(legacy, "s123", 3).evaluation(clips, torch.tensor([4, 1]))
        (first, label), (second, _) = batches
        np.testing.assert_array_equal(first["frames"], clips[4].frames(32) / np.float32(255))
        np.testing.assert_array_equal(second["frames"], clips[1].frames(32) / np.float32(255))
        assert label.tolist() == [clips[4].label]
        assert first["lengths"].tolist() == [clips[4].T]


def test_tim_and_chosen_frames(smic):
    clips, _ = smic
    (inputs, _), *_ = Protocol(False, "norm16", 3).evaluation(clips, torch.tensor([2]))
    assert inputs["frames"].shape == (16, 1, 32, 32)
    whole = clips[2].frames(32) / np.float32(255)
    np.testing.assert_allclose(inputs["frames"][[0, -1]], whole[[0, -1]], atol=1e-6)
    frames = [torch.tensor([0, c.T - 1]) for c in clips]
    (inputs, _), *_ = Protocol(False, "random", 3).evaluation(clips, torch.tensor([2]), frames)
    np.testing.assert_array_equal(inputs["frames"], whole[[0, -1]])


# ---- clips on disk -------------------------------------------------------------------------------


def test_stored_clips_are_the_pictures_resized(roots, tmp_path):
    clips, found = paper.prepare("casme2", roots["casme2"], cache=str(tmp_path), magnification=0)
    assert found.people == ["01", "02", "11"]
    assert len(clips) == 12
    for clip, row in zip(clips, found.table.itertuples(), strict=True):
        files = sorted(Path(row.path).iterdir(), key=lambda f: int(f.stem[7:]))[BEFORE:]
        assert clip.T == len(files) == row.offset - row.onset + 1
        for px in (36, 32):
            due = [Image.open(f).resize((px, px), Image.Resampling.BILINEAR) for f in files]
            np.testing.assert_array_equal(clip.frames(px)[:, 0], np.stack(due))
            assert clip.frames(px).dtype == np.uint8
    expected = [-1 if apex is None else apex for *_, apex in clips_of("casme2")]
    assert [clip.apex for clip in clips] == expected
    assert [clip.label for clip in clips] == [0, 1, 2, 3] * 3


def test_pictures_are_magnified_before_they_are_resized(roots, samm, monkeypatch, tmp_path):
    clip = samm[5]
    row = data.read_samm(roots["samm"]).table.iloc[5]
    whole = data.load_frames(row)
    moved = magnify(torch.from_numpy(whole).double(), 15.0)
    assert (moved[1:] - torch.from_numpy(whole)[1:]).abs().max() > 20
    moved = moved.round().clamp(0, 255).byte().numpy()[:, 0]
    for px in (36, 32):
        due = [Image.fromarray(f).resize((px, px), Image.Resampling.BILINEAR) for f in moved]
        np.testing.assert_allclose(clip.frames(px)[:, 0], np.stack(due), atol=1)
    monkeypatch.setattr(store, "WORKING_PX", 22)  # pictures of 44 x 40 become 22 x 20
    sizes = []
    monkeypatch.setattr(store, "magnify", lambda x, alpha: sizes.append((x.shape, alpha)) or x)
    paper.prepare("samm", roots["samm"], cache=str(tmp_path), magnification=3.0)
    assert sizes[5] == ((clip.T, 1, 20, 22), 3.0)


def test_clips_are_made_once_and_again_if_they_change(tmp_path, monkeypatch):
    root, cache = write_dataset("smic", tmp_path / "smic"), str(tmp_path / "cache")
    made, real = [], data.load_frames
    monkeypatch.setattr(data, "load_frames", lambda row: made.append(row["clip"]) or real(row))
    first, _ = paper.prepare("smic", root, cache=cache, magnification=0)
    assert len(made) == 9
    same, _ = paper.prepare("smic", root, cache=cache, magnification=0)
    assert same == first
    assert len(made) == 9
    file = next((Path(root) / "SMIC_all_cropped/HS/s02/micro/positive/s2_po_01").iterdir())
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    again, _ = paper.prepare("smic", root, cache=cache, magnification=0)
    assert made[9:] == ["s2_po_01"]
    assert sum(a != b for a, b in zip(first, again, strict=True)) == 1
    paper.prepare("smic", root, cache=cache, magnification=1)
    assert len(made) == 19
    (again[0].folder / "32.npy").unlink()
    paper.prepare("smic", root, cache=cache, magnification=0)
    assert len(made) == 20


def test_a_kill_leaves_no_half_file(roots, tmp_path, monkeypatch):
    def dies(file, array):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.np, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            paper.prepare("smic", roots["smic"], cache=str(tmp_path), magnification=0)
    assert not list(tmp_path.rglob("*.npy"))
    clips, _ = paper.prepare("smic", roots["smic"], cache=str(tmp_path), magnification=0)
    assert clips[0].frames(32).shape == (clips[0].T, 1, 32, 32)
    (clips[0].folder / "32.npy").write_bytes(b"half")
    refused("32.npy", "cannot be read", call=lambda: clips[0].frames(32))


def test_the_composite_shares_clips_and_names_people(roots, cache):
    clips, found = paper.prepare("megc2019", roots["megc2019"], cache=cache)
    assert found.classes == ("negative", "positive", "surprise")
    assert len(clips) == 27
    assert len(found.people) == 9
    assert clips[0].person == "casme2/01"
    assert [c.dataset for c in clips] == ["casme2"] * 9 + ["smic"] * 9 + ["samm"] * 9
    alone, _ = paper.prepare("smic", roots["smic"], cache=cache)
    folders = {c.folder for c in alone}
    assert folders == {c.folder for c in clips if c.dataset == "smic"}


def test_lenient_reading_counts_what_lacks(tmp_path, cache):
    root = Path(write_dataset("casme2", tmp_path / "casme2"))
    for file in (root / "Cropped/sub01/EP01_01").iterdir():
        file.unlink()
    (root / "Cropped/sub01/EP01_01").rmdir()
    next((root / "Cropped/sub11/EP08_01").glob("*103*")).unlink()
    where = {"dataset": "casme2", "root": str(root)}
    refused("EP08_01", "103", call=lambda: paper.grid(**where))
    params = {"protocol": "ours", "subject": "02", "seed": 0, "cache": cache, "epochs": 1}
    numbers, _ = paper.unit(**where, **params, strict=False)
    assert numbers["missing"] == ("sub01/EP01_01",)
    assert len(numbers["faults"]) == 1
    assert numbers["clips"] == 6


# ---- weights to start from -----------------------------------------------------------------------


def saved(path, state):
    torch.save(state, path)
    return str(path)


def test_imagenet_fits_all_but_the_first_convolution(tmp_path, monkeypatch):
    known = WEIGHTS["resnet18_imagenet"]
    assert len(known.sha256) == 64
    assert known.url.endswith(f"-{known.sha256[:8]}.pth")
    torch.manual_seed(0)
    theirs = resnet18().state_dict()
    file = Path(saved(tmp_path / "resnet18.pth", theirs))
    monkeypatch.setattr(pretrained, "fetch_weights", lambda name, sha256: file)
    start = Start.named("imagenet")
    assert start.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    fit, left = start.fitting(FrameNet())
    assert (len(fit), left) == (99, ["stem.0.weight"])
    monkeypatch.undo()
    loaded = Protocol(False, "s123", 4).network(0, start).frame_net.state_dict()
    plain = Protocol(False, "s123", 4).network(0, NOTHING).frame_net.state_dict()
    for name, tensor in theirs.items():
        if name.startswith("layer"):
            torch.testing.assert_close(loaded[name], tensor, rtol=0, atol=0)
    torch.testing.assert_close(loaded["stem.1.weight"], theirs["bn1.weight"])
    torch.testing.assert_close(loaded["stem.0.weight"], plain["stem.0.weight"], rtol=0, atol=0)
    assert not torch.equal(loaded["layer1.0.conv1.weight"], plain["layer1.0.conv1.weight"])


def test_a_file_of_ones_own(roots, cache, tmp_path):
    torch.manual_seed(1)
    net = StillNet(FrameNet((4, 6), blocks=1), 7)
    state = net.state_dict()
    kinds = {
        "still": state,
        "frame": net.frame_net.state_dict(),
        "wrapped": {"state_dict": {f"module.{k}": t for k, t in state.items()}, "epoch": 3},
    }
    where = {"dataset": "smic", "root": roots["smic"], "protocol": "ours", "subject": "s01"}
    params = where | {"seed": 0, "epochs": 1, "cache": cache}
    found = []
    for name, tensors in kinds.items():
        file = saved(tmp_path / f"{name}.pt", tensors)
        numbers, arrays = paper.unit(**params, weights=file)
        assert numbers["start"] == f"{name}.pt"
        assert (numbers["tensors_loaded"], numbers["tensors_left"]) == (30, [])
        found.append(arrays["logits"])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert (paper.unit(**params)[1]["logits"] != found[0]).any()


def test_weights_that_are_refused(tmp_path):
    odd = saved(tmp_path / "odd.pt", {"a": torch.ones(2), "stem.0.weight": torch.ones(3)})
    refused("odd.pt", "none of its 2", call=lambda: Start.named(odd).fitting(FrameNet((4,))))
    no_state = saved(tmp_path / "list.pt", [torch.ones(2)])
    refused("list.pt", "no state dict", call=lambda: Start.named(no_state))
    (tmp_path / "text.pt").write_text("text")
    refused("text.pt", "as weights", call=lambda: Start.named(str(tmp_path / "text.pt")))
    refused("nowhere.pt", "opened", call=lambda: Start.named(str(tmp_path / "nowhere.pt")))
    refused("a folder", call=lambda: Start.named(str(tmp_path)))
    refused("expected aa", call=lambda: Start.named(odd, "AA"))
    refused("without weights", call=lambda: Start.named(None, "aa"))
    refused("sha256", "file of your own", call=lambda: Start.named("imagenet", "aa"))
    digest = hashlib.sha256(Path(odd).read_bytes()).hexdigest()
    assert Start.named(odd, digest.upper()).sha256 == digest


# ---- pooled scores -------------------------------------------------------------------------------


def result(subject, truth, prediction, best, subjects=("a", "b", "c"), dataset="casme", **more):
    n = len(truth)
    columns = {"T": [10] * n, "kept": [4] * n, "max_key": [0] * n} | more
    columns |= {"apex": more.get("apex", [3] * n), "apex_kept": more.get("apex_kept", [1] * n)}
    arrays = {k: np.array(v) for k, v in columns.items()} | {
        "dataset": np.array([dataset] * n),
        "subject": np.array([subject.split("/")[-1]] * n),
        "clip": np.array([f"EP{i}" for i in range(n)]),
        "truth": np.array(truth),
        "prediction": np.array(prediction),
        "best_subject": np.array(best),
    }
    about = {"subjects": list(subjects), "classes": ["positive", "negative", "surprise"]}
    params = {"dataset": dataset, "seed": 0, "arm": "s123", "subject": subject}
    return SimpleNamespace(params=params, metrics=about, predictions=lambda: arrays)


def test_scores_by_hand(tmp_path):
    units = [
        result("b", [0, 0, 1], [0, 1, 1], [0, 0, 1], T=[10, 5, 4], kept=[4, 1, 2],
               max_key=[7, 2, 0], apex=[3, 2, -1], apex_kept=[1, 1, -1]),
        result("a", [1, 2], [1, 1], [1, 2], T=[8, 10], kept=[2, 5], max_key=[0, 9],
               apex=[6, 1], apex_kept=[0, 0]),
        result("c", [1], [0], [0], T=[6], kept=[3], max_key=[1], apex=[1], apex_kept=[1]),
    ]  # fmt: skip
    found = paper.combine(units, tmp_path, draws=200)
    value = found.table.set_index("metric")["value"]
    truth, said = [1, 2, 0, 0, 1, 1], [1, 1, 0, 1, 1, 0]
    assert found.predictions["truth"].tolist() == truth  # by subject: a, b, c
    assert found.confusion.to_numpy().tolist() == [[1, 1, 0], [1, 2, 0], [0, 1, 0]]
    assert found.confusion.index.tolist() == ["positive", "negative", "surprise"]
    assert value["accuracy"] == pytest.approx(3 / 6)
    assert value["uar"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert value["uf1"] == pytest.approx((2 / 4 + 4 / 7 + 0) / 3)
    assert value["accuracy_best_subject"] == pytest.approx(5 / 6)
    assert value["majority"] == pytest.approx(3 / 6)
    share = np.array([2 / 8, 5 / 10, 4 / 10, 1 / 5, 3 / 6])  # those with an apex
    assert value["kept_share"] == pytest.approx((share.sum() + 2 / 4) / 6)
    assert value["apex_kept"] == pytest.approx(3 / 5)
    assert value["apex_excess"] == pytest.approx(3 / 5 - share.mean())
    assert value["distance"] == pytest.approx(np.mean([6 / 8, 8 / 10, 4 / 10, 0, 0]))
    midpoints = [2.5 / 8, 3.5 / 10, 1.5 / 10, 0, 1.5 / 6]
    assert value["distance_midpoint"] == pytest.approx(np.mean(midpoints))
    pairs = [(8, 6), (10, 1), (10, 3), (5, 2), (6, 1)]
    random = [sum(abs(t - apex) for t in range(T)) / T / T for T, apex in pairs]
    assert value["distance_random"] == pytest.approx(np.mean(random))
    assert value["is_apex"] == pytest.approx(2 / 5)
    assert value["is_apex_random"] == pytest.approx(np.mean([1 / T for T, _ in pairs]))
    assert value["distance_correct"] == pytest.approx(np.mean([6 / 8, 4 / 10]))  # a 1, b 1
    assert value["apex_kept_correct"] == pytest.approx(1 / 2)
    assert value["kept_share_correct"] == pytest.approx(np.mean([2 / 8, 4 / 10, 2 / 4]))
    n = found.table.set_index("metric")["n"]
    assert (n["accuracy"], n["distance"], n["distance_correct"]) == (6, 5, 2)
    row = found.table.set_index("metric").loc["accuracy"]
    hits = (np.array(truth) == said).astype(float)
    due = cluster_bootstrap(hits, list("aabbbc"), statistic=np.mean, n=200)
    assert row[["low", "high", "subjects"]].tolist() == [due.low, due.high, 3]
    written = pd.read_csv(tmp_path / "predictions.csv").set_index(["subject", "clip"])
    assert written.loc[("b", "EP1"), ["truth", "prediction", "best_epoch"]].tolist() == [
        *("positive", "negative", "positive")
    ]
    assert written.loc[("a", "EP1"), ["T", "kept", "max_key", "apex"]].tolist() == [10, 5, 9, 1]


def test_the_composite_is_scored_by_data_set_too():
    names = ("casme2/01", "samm/006", "samm/007", "smic/s01")
    parts = [([0, 1], [0, 0]), ([1, 1], [1, 1]), ([2], [0]), ([2, 0], [2, 1])]
    units = [
        result(name, truth, said, said, names, name.split("/")[0])
        for name, (truth, said) in zip(names, parts, strict=True)
    ]
    for unit in units:
        unit.params["dataset"] = "megc2019"
    table = paper.combine(units, draws=20).table.set_index(["dataset", "metric"])
    assert table.loc[("megc2019", "accuracy"), "value"] == pytest.approx(4 / 7)
    assert table.loc[("samm", "accuracy"), ["value", "n", "subjects"]].tolist() == [2 / 3, 3, 2]
    assert table.loc[("casme2", "uar"), "value"] == pytest.approx(0.5)
    assert np.isnan(table.loc[("smic", "accuracy"), "low"])  # of one person no interval
    pooled = metrics.uf1([0, 0, 1, 1, 0, 2, 1], [0, 1, 1, 1, 2, 2, 0])
    assert table.loc[("megc2019", "uf1"), "value"] == pytest.approx(pooled)


def test_combine_refuses(tmp_path):
    a, b, c = (result(name, [0, 1], [0, 0], [0, 1]) for name in "abc")
    other = result("c", [0, 1], [0, 0], [0, 1])
    other.params["seed"] = 1
    grown = result("c", [0, 1], [0, 0], [0, 1], subjects="abcd")
    (tmp_path / "file").write_text("")
    refused("there are none", call=lambda: paper.combine([]))
    refused("subjects a, c", "twice", call=lambda: paper.combine([a, b, c, a, c]))
    refused("subjects b", "missing", call=lambda: paper.combine([a, c]))
    refused("differ in seed", call=lambda: paper.combine([a, b, other]))
    refused("differ in subjects", call=lambda: paper.combine([a, b, grown]))
    refused("cannot be made", call=lambda: paper.combine([a, b, c], tmp_path / "file", draws=2))


def test_arms_without_mining_have_no_mining_scores():
    units = [result(s, [0, 1], [0, 1], [0, 1], max_key=[-1, -1]) for s in "abc"]
    names = set(paper.combine(units, draws=5).table["metric"])
    assert names == {"accuracy", "uar", "uf1", "majority"} | {
        f"{name}_best_subject" for name in ("accuracy", "uar", "uf1")
    }
    assert scores.SELECTIONS == {"last": "prediction", "best_subject": "best_subject"}


# ---- bad input -----------------------------------------------------------------------------------


def test_bad_input(roots, cache, tmp_path):
    one = {"dataset": "smic", "root": roots["smic"], "protocol": "ours", "subject": "s01"}
    one |= {"seed": 0, "cache": cache, "epochs": 1}

    def asked(*fragments, **changed):
        refused(*fragments, call=lambda: paper.unit(**one | changed))

    asked("dataset 'smic2'", "casme, casme2, smic, samm, megc2019", dataset="smic2")
    asked("protocol 'mine'", "ours, as_released", protocol="mine")
    asked("arm 's321'", "s123, s12, s13, s23, all, random, norm16", arm="s321")
    asked("subject 's05'", "s01, s02, s14", subject="s05")
    asked("nowhere", "cannot be opened", root=str(tmp_path / "nowhere"))
    asked("root", "is missing", root=None)
    asked("no folder HS", pictures="raw")
    asked("magnification=-1", magnification=-1.0)
    asked("magnification=nan", magnification=float("nan"))
    asked("epochs 0", epochs=0)
    (tmp_path / "file").write_text("")
    asked("cannot be made a folder", cache=str(tmp_path / "file"))
    asked("casme2", "cannot be opened", root=str(tmp_path), dataset="megc2019")


def test_too_little_data(tmp_path, cache):
    root = Path(write_dataset("smic", tmp_path / "smic"))
    hs = root / "SMIC_all_cropped/HS"
    for subject in ("s02", "s14"):
        (hs / subject / "micro/surprise").rename(tmp_path / f"{subject}-surprise")
    one = {"dataset": "smic", "root": str(root), "protocol": "ours", "seed": 0, "epochs": 1}
    one |= {"cache": cache}
    refused("'s01'", "shows surprise", call=lambda: paper.unit(**one, subject="s01"))
    assert paper.unit(**one, subject="s02")[0]["clips"] == 5
    for subject in ("s02", "s14"):
        (hs / subject).rename(tmp_path / subject)
    refused("clips of 1 subjects", call=lambda: paper.unit(**one, subject="s01"))
