"""AKMNet on official data, end to end on miniatures, and each piece against an oracle."""

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from micro_miniatures import BEFORE, SUBJECTS, clips_of, write_dataset
from PIL import Image
from refusals import refused
from torchvision.models import resnet18
from torchvision.models.vgg import cfgs, make_layers

from micromacro import arms, training, units
from micromacro.datasets import frames, micro
from micromacro.datasets.frames import load_frames
from micromacro.motion.magnify import magnify
from micromacro.systems.akmnet import FrameNet, StillNet, experiment, inputs, scores
from micromacro.systems.akmnet.experiment import OFFICIAL, PROTOCOLS, TRIAL, Arm, Run
from micromacro.systems.akmnet.model import Vgg11
from micromacro.training import learning_rate
from micromacro.weights import WEIGHTS

CLASS_OF = {"happiness": "positive", "disgust": "negative", "anger": "negative"}
CLASS_OF |= {"tense": "others", "other": "others"}


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, str]:
    """Root of each data set; that of the composite holds them all."""
    folder = tmp_path_factory.mktemp("official")
    written = {name: write_dataset(name, folder / name) for name in SUBJECTS}
    return written | {"megc2019": str(folder)}


@pytest.fixture(scope="module")
def where(roots, tmp_path_factory):
    """The unit's `data` of a data set: a network of 32 px in two narrow stages."""
    cache = str(tmp_path_factory.mktemp("cache"))

    def data(dataset, **more):
        return {"dataset": dataset, "root": roots[dataset], "cache": cache, "sizes": TRIAL} | more

    return data


def unit(data, arm="s123", protocol="ours", *, fold=1, seed=3, epochs=1):
    options = arm if isinstance(arm, dict) else {"protocol": protocol, **OFFICIAL[arm]}
    return experiment.unit(data=data, arm=options, seed=seed, fold=fold, folds=None, epochs=epochs)


# ---- end to end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", [*SUBJECTS, "megc2019"])
def test_tables_are_those_of_the_sheets(where, dataset):
    source, composite = inputs.official(**where(dataset)), dataset == "megc2019"
    names = micro.COMPOSITE if composite else [dataset]
    sheets = {(name, *clip[:2]): clip[2:] for name in names for clip in clips_of(name)}
    left_out = ("others", "other") if composite else ()
    sheets = {key: clip for key, clip in sheets.items() if clip[0].lower() not in left_out}
    assert len(source.table) == len(sheets)
    for row in source.table.itertuples():
        emotion, T, apex = sheets[row.dataset, row.subject, row.clip]
        assert row.person == (f"{row.dataset}/{row.subject}" if composite else row.subject)
        assert (row.T, row.onset, row.offset) == (T, 0, T - 1)
        assert row.apex == (-1 if apex is None or row.dataset == "smic" else apex)
        assert source.classes[row.label] == CLASS_OF.get(emotion.lower(), emotion.lower())


def test_all_folds_of_a_data_set(roots, tmp_path, monkeypatch):
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    how = {"dataset": "casme2", "data_root": roots["casme2"], "variants": ["s13"], "trial": True}
    grid = experiment.grid("paper", **how)
    assert list(grid) == [f"{p}: s13" for p in PROTOCOLS]
    results = units.run(experiment.unit, grid["as_released: s13"], progress=False)
    assert not any((tmp_path / "runs/official/checkpoints").iterdir())
    table = scores.of_units(results[::-1])
    assert [*zip(table["subject"], table["clip"], strict=True)] == [
        c[:2] for c in clips_of("casme2")
    ]
    assert [results[k].metrics["people"][k] for k in table["fold"]] == table["person"].tolist()
    for result in results:
        arrays, metrics = result.predictions(), result.metrics
        assert (metrics["trained_on"], metrics["start"], len(arrays["truth"])) == (8, "random", 4)
        assert arrays["epochs"].shape[1] == 2
        np.testing.assert_array_equal(arrays["logits"].argmax(1), arrays["epochs"][:, -1])
    other = replace(results[0], params=results[0].params | {"seed": 1})
    refused(lambda: scores.of_units([other, *results[1:]]), "one setting at a time")


def test_a_killed_unit_goes_on(where, tmp_path, monkeypatch):
    data = where("smic", cache=str(tmp_path))
    params = {"arm": "random", "protocol": "as_released", "epochs": 3}
    whole, real, calls = unit(data, **params), training._one_epoch, []

    def dies(*args):
        calls.append(1)
        if len(calls) == 5:  # in its second training; s123's goes first
            raise KeyboardInterrupt
        return real(*args)

    experiment.trained.cache_clear()
    monkeypatch.setattr(training, "_one_epoch", dies)
    with pytest.raises(KeyboardInterrupt):
        unit(data, **params)
    (checkpoint,) = (tmp_path / "checkpoints").iterdir()
    assert {f.name for f in checkpoint.iterdir()} == {"training.pt", "s123.pt"}
    again = unit(data, **params)
    assert len(calls) == 7  # two of three epochs
    assert again[0] == whole[0]
    assert again[1]["epochs"].shape[1] == 3
    for name, array in whole[1].items():
        np.testing.assert_array_equal(again[1][name], array)
    assert not checkpoint.exists()


def test_checkpoints_are_for_one_training_only(where, tmp_path):
    root = Path(write_dataset("casme2", tmp_path / "casme2"))
    weights = saved(tmp_path / "own.pt", FrameNet((4, 6), blocks=1).state_dict())

    def name(**change):
        data = where("casme2", root=str(root), cache=str(tmp_path / "cache")) | change
        with arms.checkpoint(experiment.unit, data, {}, 3) as file:
            return file.parent.name

    changes = [{}, {"magnification": 1.0}, {"weights": weights}, {"vgg_weights": weights}]
    changes += [{"sizes": TRIAL | {"gru_hidden": 3}}]
    names = [name(**change) for change in changes]
    picture = sorted((root / "Cropped/sub02").rglob("*.bmp"))[3]
    Image.fromarray(255 - np.asarray(Image.open(picture))).save(picture)
    names.append(name())
    (root / "Cropped/sub02").rename(root / "Cropped/sub11/away")
    names.append(name())
    assert len(set(names)) == len(names)


# ---- folds and arms ------------------------------------------------------------------------------


def test_who_is_left_out_is_not_trained_on(where):
    def trained(**labels):
        source = inputs.official(**where("smic"))
        for person, label in labels.items():
            source.table.loc[source.table["person"] == person, "label"] = label
        run = Run(3, 1, None, 2, "cpu")
        return experiment.trained(source, Arm(protocol="as_released"), run, None).logits

    logits = trained()
    assert logits.shape == (3, 3)  # clips of s02, classes
    np.testing.assert_array_equal(trained(s02=0), logits)
    assert not np.array_equal(trained(s01=0), logits)


def test_what_the_max_key_frame_is_and_whether_the_apex_is_kept(where, monkeypatch):
    models, train = [], experiment.train
    monkeypatch.setattr(
        experiment, "train", lambda model, *a, **o: models.append(model) or train(model, *a, **o)
    )
    _, found = unit(where("samm"))
    source = inputs.official(**where("samm"))
    for i, row in enumerate(np.flatnonzero(source.table["person"] == "013")):
        frames = torch.from_numpy(source.pixels(row)).float() / 255
        with torch.no_grad():
            output = models[0].net.eval()([frames])
        score = output.mining.score.numpy()
        assert found["max_key"][i] == score.argmax()
        assert found["kept"][i] == (score > score.mean()).sum()
        assert found["apex_kept"][i] == (score[found["apex"][i]] > score.mean())
        torch.testing.assert_close(output.logits[0], torch.from_numpy(found["logits"][i]))


@pytest.mark.parametrize(
    ("arm", "kept"), [("all", None), ("norm16", 16), ("norm128", 128), ("random", "s123")]
)
def test_controls(where, arm, kept):
    _, found = unit(where("samm"), arm)
    mined = unit(where("samm"))[1]
    expected = {None: found["T"], "s123": mined["kept"]}.get(kept, [kept] * 4)
    assert found["kept"].tolist() == list(expected)
    assert (found["max_key"] == -1).all()
    assert {*found["apex_kept"]} <= {None: {1}, "s123": {0, 1}}.get(kept, {-1})
    assert (found["logits"] != mined["logits"]).any()


def test_the_classic_baseline_on_official_clips(where, tmp_path):
    root = write_dataset("smic", tmp_path / "smic", more=4)  # LBP-TOP needs seven frames
    metrics, found = unit(where("smic", root=root), {"classifier": "lbp-top"}, fold=0)
    assert found["epochs"].shape == (3, 1)
    assert metrics["clips"] == 3


# ---- the protocols -------------------------------------------------------------------------------


def test_learning_rates_are_the_published_ones():
    ours, released = (inputs.OFFICIAL[protocol].recipe for protocol in PROTOCOLS)
    turning = replace(released, period=40 / inputs.OFFICIAL["as_released"].turns)
    rates = np.array([learning_rate(turning, epoch, 1) for epoch in range(40)])
    landmarks = [1e-3, 1e-8, 1e-3, 1e-8, 1e-3, 3.8e-5]  # of epochs from 1 on
    assert rates[np.subtract([1, 9, 17, 25, 33, 40], 1)] == pytest.approx(landmarks, rel=0.01)
    cosine = 1e-8 + (1e-3 - 1e-8) * (1 + np.cos(np.pi * np.arange(40) / 40)) / 2
    assert [learning_rate(ours, k, 1) for k in range(40)] == pytest.approx(cosine, rel=1e-6)
    for recipe, accumulate in ((released, 8), (ours, 1)):
        assert (recipe.optimiser, recipe.lr, recipe.momentum) == ("sgd", 1e-3, 0.9)
        assert (recipe.weight_decay, recipe.epochs, recipe.accumulate) == (5e-4, 40, accumulate)
        assert recipe.patience is recipe.clip_norm is None


def test_what_the_training_is_given(where, monkeypatch):
    """The arm's loss, and of a shorter training the same share of it for each turn of the rate."""
    seen = []

    def note(model, batches, recipe, **options):
        seen.append((batches, recipe))
        raise LookupError

    monkeypatch.setattr(experiment, "train", note)
    for protocol in PROTOCOLS:
        with pytest.raises(LookupError):
            unit(where("smic"), protocol=protocol, epochs=10)
    (ours, plain), (released, turning) = seen
    assert (plain.period, turning.period) == (10.0, 2.0)
    assert (ours.size, released.size) == (8, 1)
    assert plain.loss.keywords == {"count_weight": 0.1, "margin_weight": 1.0}


@pytest.mark.parametrize("arm", ["s123", "s12", "random", "norm16"])
def test_switches_and_first_weights(where, arm):
    source = inputs.official(**where("smic"))
    both = [Arm(protocol=protocol, **OFFICIAL[arm]) for protocol in PROTOCOLS]
    nets = [experiment.network(source, one, 7) for one in both]
    for net, legacy in zip(nets, (False, True), strict=True):
        assert net.miner.legacy_straight_through == net.miner.legacy_selection == legacy
        assert net.frame_net.bn == ("released" if legacy else "packed")
        assert net.miner.steps == (arm if arm.startswith("s") else "none")
        assert net.gru.gru.bias_ih_l0.any() == legacy
    theirs = nets[1].state_dict()
    for name, tensor in nets[0].state_dict().items():
        assert name.startswith("gru.") or torch.equal(theirs[name], tensor), name
    again = experiment.network(source, both[1], 8)
    assert not torch.equal(again.classifier.weight, nets[1].classifier.weight)


def test_published_sizes(where):
    source = inputs.official(**where("smic", sizes=None, magnification=0.0))
    net = experiment.network(source, Arm(protocol="as_released"), 0)
    count = sum(p.numel() for p in net.parameters())
    assert count == 11_296_965 - 64 * 16 - 1  # of SMIC, one class less
    assert net.image_px == source.pixels(0).shape[2:] == (128, 128)
    clip = source.clips(network="resnet", crop=1.0, method="", length=24, alpha=0.0)
    assert clip(0, torch.Generator().manual_seed(0)).shape[1:] == (1, 128, 128)


def kept_pixels(source, i, px):
    return source.pixels(i, px)[:, 0].astype(np.float32) / np.float32(255)


def place(frames, source, i):
    """Where frames were cut from the larger ones; None if they are the plainly resized ones."""
    large, small = kept_pixels(source, i, 36), kept_pixels(source, i, 32)
    if np.allclose(frames, small):
        return None
    spots = [(y, x) for y in range(5) for x in range(5)]
    fits = [(y, x) for y, x in spots if np.allclose(frames, large[:, y : y + 32, x : x + 32])]
    (spot,) = fits
    return spot


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_training_pictures(where, protocol):
    source, legacy = inputs.official(**where("smic")), protocol == "as_released"
    crop = source.protocols[protocol].crop
    clip = source.clips(network="resnet", crop=crop, method="", length=24, alpha=0.0)
    generator = torch.Generator().manual_seed(0)
    seen = [place(clip(i, generator)[:, 0].numpy(), source, i) for _ in range(25) for i in range(9)]
    plain = np.mean([spot is None for spot in seen])
    assert 0.35 < plain < 0.65 if legacy else plain == 0
    cut = [spot for spot in seen if spot is not None]
    assert {y for y, _ in cut} == {x for _, x in cut} == set(range(5))
    assert len(set(cut)) > 15  # rows and columns are drawn apart
    assert source.protocols[protocol].balance != legacy
    for i in range(9):
        assert place(clip(i, None)[:, 0].numpy(), source, i) is None  # the test's


def test_tim_brings_clips_to_one_length(where):
    source = inputs.official(**where("smic"))
    frames = source.clips(network="resnet", crop=1.0, method="tim", length=16, alpha=0.0)(2, None)
    assert frames.shape == (16, 1, 32, 32)
    np.testing.assert_allclose(frames[[0, -1], 0], kept_pixels(source, 2, 32)[[0, -1]], atol=1e-6)
    magnified = partial(source.clips, network="resnet", crop=1.0, method="", length=1, alpha=1.0)
    refused(magnified, "alpha", "magnification")


# ---- clips on disk -------------------------------------------------------------------------------


def test_clips_are_the_pictures_resized(where):
    source = inputs.official(**where("casme2", magnification=0.0))
    for i, row in enumerate(micro.read("casme2", where("casme2")["root"]).table.itertuples()):
        files = sorted(Path(row.path).iterdir(), key=lambda f: int(f.stem[7:]))[BEFORE:]
        for px in (36, 32):
            resized = [Image.open(f).resize((px, px), Image.Resampling.BILINEAR) for f in files]
            np.testing.assert_array_equal(source.pixels(i, px)[:, 0], np.stack(resized))
            assert source.pixels(i, px).dtype == np.uint8


def test_pictures_are_magnified_before_they_are_resized(where, monkeypatch, tmp_path):
    source = inputs.official(**where("samm"))
    whole = load_frames(micro.read("samm", where("samm")["root"]).table.iloc[5])
    moved = magnify(torch.from_numpy(whole).double(), 15.0)
    assert (moved[1:] - torch.from_numpy(whole)[1:]).abs().max() > 20
    moved = moved.round().clamp(0, 255).byte().numpy()[:, 0]
    for px in (36, 32):
        resized = [Image.fromarray(f).resize((px, px), Image.Resampling.BILINEAR) for f in moved]
        np.testing.assert_allclose(source.pixels(5, px)[:, 0], np.stack(resized), atol=1)
    monkeypatch.setattr(inputs, "WORKING_PX", 22)  # pictures of 44 x 40 become 22 x 20
    asked = []
    monkeypatch.setattr(frames, "magnify", lambda x, alpha: asked.append((x.shape, alpha)) or x)
    inputs.official(**where("samm", cache=str(tmp_path), magnification=3.0))
    assert asked[5] == ((len(whole), 1, 20, 22), 3.0)


def test_clips_are_made_once_and_again_if_their_content_changes(tmp_path, monkeypatch):
    root = write_dataset("smic", tmp_path / "smic")
    made, real = [], frames.load_frames
    monkeypatch.setattr(frames, "load_frames", lambda row: made.append(row["clip"]) or real(row))
    prepare = partial(inputs.official, "smic", root, cache=str(tmp_path / "cache"), sizes=TRIAL)
    first = prepare(magnification=0.0)
    assert len(made) == 9
    file = next((Path(root) / "SMIC_all_cropped/HS/s02/micro/positive/s2_po_01").iterdir())
    Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    again = prepare(magnification=0.0)
    assert made[9:] == ["s2_po_01"]
    assert sum((first.pixels(i) != again.pixels(i)).any() for i in range(9)) == 1
    prepare(magnification=1.0)
    assert len(made) == 19


def test_lenient_reading_counts_what_lacks(where, tmp_path):
    root = Path(write_dataset("casme2", tmp_path / "casme2"))
    (root / "Cropped/sub01/EP01_01").rename(tmp_path / "away")
    next((root / "Cropped/sub11/EP08_01").glob("*103*")).unlink()
    data = where("casme2", root=str(root))
    refused(lambda: unit(data), "EP08_01", "103")
    metrics, _ = unit(data | {"strict": False})
    assert metrics["missing"] == ("sub01/EP01_01",)
    assert len(metrics["faults"]) == 1
    assert metrics["trained_on"] == 6


# ---- weights to start from -----------------------------------------------------------------------


def saved(path, state):
    torch.save(state, path)
    return str(path)


def test_imagenet_fits_all_but_the_first_convolution(where, tmp_path, monkeypatch):
    known = WEIGHTS["resnet18_imagenet"]
    assert known.url.endswith(f"-{known.sha256[:8]}.pth")
    theirs = resnet18().state_dict()
    file = Path(saved(tmp_path / "resnet18.pth", theirs))
    monkeypatch.setattr(inputs, "fetch_weights", lambda name, sha256: file)
    source = inputs.official(**where("smic", sizes=None, magnification=0.0, weights="imagenet"))
    net = experiment.network(source, Arm(), 0).frame_net
    first = net.stem[0].weight.clone()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    left = {"tensors_loaded": 99, "tensors_left": ["stem.0.weight"]}
    assert source.start(net) == {"start": "resnet18.pth", "sha256": digest, **left}
    loaded = net.state_dict()
    for name in (name for name in theirs if name.startswith("layer")):
        torch.testing.assert_close(loaded[name], theirs[name], rtol=0, atol=0)
    torch.testing.assert_close(loaded["stem.1.weight"], theirs["bn1.weight"])
    torch.testing.assert_close(loaded["stem.0.weight"], first, rtol=0, atol=0)


def test_torchvisions_vgg_fits_all_but_the_first_convolution(where, tmp_path):
    arm, features = Arm(**experiment.OFFICIAL["VGG, apex"]), make_layers(cfgs["A"]).state_dict()
    theirs = {f"features.{name}": tensor for name, tensor in features.items()}
    file = saved(tmp_path / "vgg11.pth", theirs | {"classifier.0.weight": torch.ones(2, 2)})
    source = inputs.official(**where("casme2", sizes=None, magnification=0.0, vgg_weights=file))
    net = experiment.network(source, arm, 0).frame_net
    report = source.start(net)
    assert (report["tensors_loaded"], report["tensors_left"]) == (15, ["0.weight"])
    assert torch.equal(net[18].weight, theirs["features.18.weight"])
    assert source.start(experiment.network(source, Arm(), 0).frame_net)["start"] == "random"
    source = inputs.official(**where("casme2", weights=file))
    net = experiment.network(source, Arm(), 0).frame_net
    refused(lambda: source.start(net), "vgg11.pth", "0 tensors fit, of 30", "ResNet-18")
    refused(lambda: inputs.official(**where("casme2", vgg_weights="imagenet")), "imagenet")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_vgg_on_the_frame_that_the_resnet_mined(where, tmp_path, monkeypatch, protocol):
    files = {"weights": FrameNet((4, 6), blocks=1), "vgg_weights": Vgg11(1)}
    files = {k: saved(tmp_path / f"{k}.pt", net.state_dict()) for k, net in files.items()}
    real, chosen = inputs.choose, []

    def choose(*args, **options):
        chosen.extend(real(*args, **options))
        return chosen

    monkeypatch.setattr(inputs, "choose", choose)
    metrics, plain = unit(where("casme2", **files), "VGG, max-key", protocol)
    assert (metrics["start"], metrics["tensors_left"]) == ("vgg_weights.pt", [])
    assert (plain["kept"] == 1).all()
    _, mined = unit(where("casme2", **files), protocol=protocol)
    tested = inputs.official(**where("casme2")).table["person"] == mined["person"][0]
    of_tested = [int(frames[0]) for frames, here in zip(chosen, tested, strict=True) if here]
    assert of_tested == mined["max_key"].tolist()


def test_a_file_for_the_vgg_changes_its_own_units_alone(roots):
    how = {"dataset": "casme2", "data_root": roots["casme2"], "vgg_weights": "a.pth"}
    grid = experiment.grid("paper", variants=["s123", "VGG, apex", "ResNet, apex"], **how)
    for name, params in grid.items():
        for unit_of in params:
            assert unit_of["data"].get("vgg_weights", "") == ("a.pth" if "VGG" in name else "")


def test_a_file_of_ones_own(where, tmp_path):
    torch.manual_seed(1)
    net = StillNet(FrameNet((4, 6), blocks=1), 7)
    kinds = {"still": net.state_dict(), "frame": net.frame_net.state_dict()}
    kinds["wrapped"] = {"state_dict": {f"module.{k}": t for k, t in kinds["still"].items()}}
    fresh = experiment.network(inputs.official(**where("smic")), Arm(), 0).frame_net
    for name, tensors in kinds.items():
        source = inputs.official(**where("smic", weights=saved(tmp_path / f"{name}.pt", tensors)))
        frame_net = experiment.network(source, Arm(), 0).frame_net
        report = source.start(frame_net)
        assert report["start"] == f"{name}.pt"
        assert (report["tensors_loaded"], report["tensors_left"]) == (30, [])
        torch.testing.assert_close(frame_net.state_dict(), kinds["frame"], rtol=0, atol=0)
    assert not torch.equal(fresh.stem[0].weight, frame_net.stem[0].weight)


def test_weights_that_are_refused(where, tmp_path):
    odd = saved(tmp_path / "odd.pt", {"a": torch.ones(2), "stem.0.weight": torch.ones(3)})
    listed = saved(tmp_path / "list.pt", [torch.ones(2)])
    refused(lambda: unit(where("smic", weights=odd)), "odd.pt", "0 tensors fit, of 30")
    for start, *words in (
        *(((listed,), "list.pt", "no state dict"), ((odd, "AA"), "expected aa")),
        *(((None, "aa"), "without weights"), (("imagenet", "aa"), "sha256", "of your own")),
    ):
        refused(partial(inputs.read_start, *start), *words)
    digest = hashlib.sha256(Path(odd).read_bytes()).hexdigest()
    assert inputs.read_start(odd, digest.upper())[0]["sha256"] == digest


# ---- bad input -----------------------------------------------------------------------------------


BAD = {
    "dataset 'smic2': is unknown; choose casme, casme2, samm, smic, megc2019": {"dataset": "smic2"},
    "nowhere: cannot be opened": {"root": "/nowhere"},
    "is missing": {"root": None},
    "no folder HS": {"pictures": "raw"},
    "magnification=-1": {"magnification": -1.0},
    "magnification=nan": {"magnification": float("nan")},
    "casme2: cannot be opened": {"dataset": "megc2019"},
    "/dev/null": {"cache": "/dev/null"},
}


@pytest.mark.parametrize("word", BAD)
def test_bad_input(where, word):
    refused(lambda: unit(where("smic") | BAD[word]), word)
    refused(lambda: unit(where("smic"), fold=3), "fold 3")


def test_too_little_data(where, tmp_path):
    root = Path(write_dataset("smic", tmp_path / "smic"))
    hs = root / "SMIC_all_cropped/HS"
    for subject in ("s02", "s14"):
        (hs / subject / "micro/surprise").rename(tmp_path / f"{subject}-surprise")
    data = where("smic", root=str(root))
    refused(lambda: unit(data), "1 of the subjects show surprise")
    for subject in ("s02", "s14"):
        (hs / subject).rename(tmp_path / subject)
    refused(lambda: unit(data), "clips of 1 subjects")
