"""Backbones: files of weights that the tests make, and the port's network written a second time."""

import functools
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import face_clip
from PIL import Image
from refusals import refused
from torch import nn
from torch.nn import functional
from torchvision.models import ResNet50_Weights, resnet18, resnet50

from micromacro.backbones import (
    PRETRAINED,
    BasicBlock,
    Bottleneck,
    FrozenFeatures,
    FrozenResNet50,
    Thumbnail,
    features,
    resnet,
)
from micromacro.errors import BadInput
from micromacro.training import isolated_rng
from micromacro.weights import CACHE_VARIABLE, WEIGHTS, file_sha256

BLOCKS = {2: (3, 64), 3: (4, 128), 4: (6, 256), 5: (3, 512)}  # stage: blocks, inner channels


def port(x: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The port's network, from its published definition, with random weights.

    x is (B, 3, 224, 224), mean taken off; gives the tensors under the names of an old file, and the
    features.
    """
    draw = functools.partial(torch.randn, generator=torch.Generator().manual_seed(0))
    state = {"classifier.weight": torch.zeros(8, 2048, 1, 1), "classifier.bias": torch.zeros(8)}

    def layer(x, name, outside, side=1, stride=1):
        weight = draw(outside, x.shape[1], side, side) * (2 / (x.shape[1] * side**2)) ** 0.5
        norm = {"weight": 0.5 + draw(outside).abs(), "bias": draw(outside) / 10}
        norm |= {"running_mean": draw(outside) / 10, "running_var": 0.5 + draw(outside).abs()}
        state.update({f"{name}_bn.{key}": value for key, value in norm.items()})
        state[f"{name}.weight"] = weight
        scale = norm["weight"] / (norm["running_var"] + 1e-5).sqrt()
        shift = norm["bias"] - norm["running_mean"] * scale
        x = functional.conv2d(x, weight, stride=stride, padding=side // 2)
        return x * scale[:, None, None] + shift[:, None, None]

    x = functional.relu(layer(x, "conv1_7x7_s2", 64, 7, stride=2))
    x = functional.pad(x, (0, 1, 0, 1), value=-torch.inf)  # 112 -> 56 windows of 3, step 2
    x = functional.max_pool2d(x, 3, 2)
    for stage, (blocks, inner) in BLOCKS.items():
        for block in range(1, blocks + 1):
            name = f"conv{stage}_{block}_"
            stride = 2 if block == 1 and stage > 2 else 1
            y = functional.relu(layer(x, name + "1x1_reduce", inner, stride=stride))
            y = functional.relu(layer(y, name + "3x3", inner, 3))
            y = layer(y, name + "1x1_increase", 4 * inner)
            x = layer(x, name + "1x1_proj", 4 * inner, stride=stride) if block == 1 else x
            x = functional.relu(y + x)
    assert x.shape[2:] == (7, 7)
    return state, x.mean((2, 3))


@functools.cache
def photo() -> torch.Tensor:
    """(1, 3, 224, 224), eighths and so exact in every step before the network."""
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 9, (1, 3, 224, 224), generator=generator) / 8


@pytest.fixture(scope="module")
def known() -> tuple[dict, torch.Tensor]:
    """What `port` gives for the photo."""
    return port(255 * photo() - torch.tensor([131.0912, 103.8827, 91.4953])[:, None, None])


@pytest.fixture(scope="module")
def ferplus(known, tmp_path_factory) -> Path:
    file, state = tmp_path_factory.mktemp("weights") / "resnet50_ferplus_dag.pth", {**known[0]}
    state["conv2_1_3x3_bn.num_batches_tracked"] = torch.tensor(7)  # in newer files
    torch.save(state, file, _use_new_zipfile_serialization=False)  # as of 2018
    return file


@pytest.fixture(scope="module")
def backbones(ferplus, tmp_path_factory) -> dict[str, FrozenResNet50]:
    """By name; of "imagenet" the file is the test's own."""
    file = tmp_path_factory.mktemp("imagenet") / "mine.pth"
    with isolated_rng(0):
        torch.save(resnet50().state_dict(), file)
    refused(lambda: FrozenResNet50("imagenet", file), "mine.pth", file_sha256(file))
    ours = FrozenResNet50("imagenet", file, sha256=file_sha256(file))
    return {"ferplus": FrozenResNet50("ferplus", ferplus), "imagenet": ours}


# The network ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "block", "blocks"),
    [(resnet18, BasicBlock, (2, 2, 2, 2)), (resnet50, Bottleneck, (3, 4, 6, 3))],
)
def test_residual_networks_are_torchvisions(theirs, block, blocks):
    """Its names in its order, and its output bit for bit, in training and in evaluation."""
    with isolated_rng(0):
        expected = theirs()
    expected.fc = torch.nn.Identity()
    ours = resnet(block, blocks)
    assert list(ours.state_dict()) == list(expected.state_dict())
    ours.load_state_dict(expected.state_dict())
    images = photo()[:, :, :70, :64].reshape(2, 3, 35, 64)
    for mode in (True, False):
        assert torch.equal(ours.train(mode)(images), expected.train(mode)(images))


def test_the_face_network_is_the_ports(backbones, known):
    features, expected = backbones["ferplus"](photo()), known[1]
    # float32 through 53 layers, batch norm in another order; features of about 1 to 100
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-3 * expected.max().item())
    assert expected.max() > 1


RED_FIRST = {  # mean and standard deviation, of 255
    "ferplus": [(131.0912, 1), (103.8827, 1), (91.4953, 1)],
    "imagenet": [(123.675, 58.395), (116.28, 57.12), (103.53, 57.375)],
}


@pytest.mark.parametrize("name", RED_FIRST)
@pytest.mark.parametrize("size", [(300, 260), (40, 40), (224, 224)])
def test_images_are_resized_whole_and_normalised(backbones, monkeypatch, name, size):
    """What reaches the network, against Pillow's antialiased bilinear resize."""
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    monkeypatch.setitem(backbones[name]._modules, "net", torch.nn.Identity())
    seen = backbones[name](image)[0]
    for channel, (mean, std) in zip(range(3), RED_FIRST[name], strict=True):
        pillow = Image.fromarray(image[0, channel].numpy()).resize((224, 224), Image.BILINEAR)
        expected = (torch.from_numpy(np.array(pillow)) * 255 - mean) / std
        # A hundredth of a grey level: positions are float32 here, float64 in Pillow.
        torch.testing.assert_close(seen[channel], expected, rtol=0, atol=0.01 / std)
    grey = image[:, :1]
    assert torch.equal(backbones[name](grey), backbones[name](grey.expand(1, 3, *size)))


def test_what_is_no_image(backbones):
    for wrong, word in ((photo()[0], "(3, 224, 224)"), (photo()[:, :2], "(1, 2, 224, 224)")):
        refused(lambda wrong=wrong: backbones["ferplus"](wrong), word)
    for wrong in (photo() * 255, photo() - 0.1):
        refused(lambda wrong=wrong: backbones["ferplus"](wrong), "images", "[0, 1]")
    refused(lambda: backbones["ferplus"](photo() * torch.nan), "images", "NaN")


def test_it_stays_frozen(ferplus, capsys):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    net = FrozenResNet50("vggface2", ferplus)
    assert torch.equal(torch.get_rng_state(), state)
    parent = torch.nn.Sequential(net, torch.nn.Dropout()).train()
    assert parent.training
    assert not any(module.training for module in net.net.modules())
    assert not any(p.requires_grad for p in net.parameters())
    assert sum(p.numel() for p in net.parameters()) == 23_508_032  # 25,557,032 less the classifier
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert net.settings["sha256"] in err
    assert net.settings["sha256"] == hashlib.sha256(ferplus.read_bytes()).hexdigest()


# Files ----------------------------------------------------------------------------------------


def test_what_is_known_of_the_files():
    """Of three files one digest is known; its head is in torchvision's own address."""
    known = WEIGHTS["resnet50_imagenet"]
    assert known.url == ResNet50_Weights.IMAGENET1K_V1.url
    assert known.sha256.startswith(known.url.rsplit("-", 1)[1].removesuffix(".pth"))
    unknown = [name for name, about in PRETRAINED.items() if about.file not in WEIGHTS]
    assert unknown == ["vggface2", "ferplus"]


def test_files_that_are_absent_or_wrong(tmp_path, ferplus, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    refused(lambda: FrozenResNet50("affectnet"), "affectnet", "imagenet, vggface2, ferplus")
    for name in ("vggface2", "ferplus"):
        refused(lambda name=name: FrozenResNet50(name), name, PRETRAINED[name].file, "SHA-256")
    refused(lambda: FrozenResNet50("ferplus", ferplus, sha256="0" * 64), "SHA-256", "0" * 64)
    text = tmp_path / "text.pth"
    for content, words in (
        (b"<html>404</html>", "download it again"),
        (ferplus.read_bytes()[:5_000_000], "download it again"),
        ({}, "has shape none"),
        ({"state_dict": {}}, "no state dict"),
        ({"model": torch.nn.Linear(2, 2)}, "torn, or not"),  # code in the file is not run
    ):
        text.write_bytes(content) if isinstance(content, bytes) else torch.save(content, text)
        refused(lambda: FrozenResNet50("ferplus", text), "text.pth", words)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("conv1_7x7_s2.weight", None, "conv1.weight has shape none, expected (64, 3, 7, 7)"),
        ("conv2_1_3x3.weight", (64, 64, 1, 1), "(64, 64, 1, 1), expected (64, 64, 3, 3)"),
        ("conv5_4_3x3.weight", (1,), "layer4.3.conv2.weight"),
        ("layer1.0.conv1.weight", (1,), "not a name"),
    ],
)
def test_a_file_of_another_network(known, tmp_path, name, shape, words):
    state = {name: torch.zeros(1).expand(tensor.shape) for name, tensor in known[0].items()}
    state.pop(name, None)
    if shape:
        state[name] = torch.zeros(shape)
    torch.save(state, tmp_path / "other.pth")
    refused(lambda: FrozenResNet50("ferplus", tmp_path / "other.pth"), "other.pth", words)


# Features of clips ----------------------------------------------------------------------------


class Counted(torch.nn.Module):
    """Features that can be told by eye, from a network that counts its calls."""

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale, self.calls = scale, []

    def forward(self, images):
        self.calls.append(len(images))
        return images.mean((1, 2, 3))[:, None] * self.scale * torch.linspace(1, 2, 2048)


def a_clip(n: int = 11):
    frames = np.random.default_rng(0).integers(0, 256, (n, 3, 40, 40), dtype=np.uint8)
    return face_clip(frames, none=[2])


def test_a_refusal_leaves_the_encoder_in_its_mode():
    class Picky(nn.Linear):
        def forward(self, rows):
            raise BadInput("rows", "are too many", "give fewer")

    encoder = Picky(2, 2)
    refused(lambda: features(torch.rand(3, 2), encoder), "rows")
    assert encoder.training


def test_features_of_a_clip():
    clip, net = a_clip(), Counted(10)
    features = FrozenFeatures(net, batch=4)(clip)
    assert net.calls == [4, 4, 2]  # ten of eleven frames show a face
    assert (features.shape, features.dtype) == ((11, 2048), np.float16)
    assert not features[2].any()
    np.testing.assert_allclose(features[:, 0], clip.images().mean((1, 2, 3)) * 10, rtol=2**-11)
    refused(lambda: FrozenFeatures(Counted(1e6))(clip), clip.source, "beyond float16")


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(ferplus):
    images = a_clip(5).images()  # random weights give more than float16 holds: none is made
    cpu, cuda = (
        FrozenResNet50("ferplus", ferplus).to(device)(images.to(device)).cpu().numpy()
        for device in ("cpu", "cuda")
    )
    # TF32 convolutions keep 10 bits
    np.testing.assert_allclose(cuda, cpu, rtol=0.05, atol=0.01 * cpu.max())


def test_a_thumbnail_has_as_many_numbers_of_grey_as_of_colours():
    assert [Thumbnail()(torch.rand(2, n, 40, 40)).shape[1] for n in (1, 3)] == [2048, 2048]
