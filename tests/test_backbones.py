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
from torch.nn import functional
from torchvision.models import ResNet50_Weights, resnet18, resnet50

from micromacro.backbones import (
    PRETRAINED,
    BasicBlock,
    Bottleneck,
    FrozenFeatures,
    FrozenResNet50,
    resnet,
    torchvision_names,
)
from micromacro.training import isolated_rng
from micromacro.weights import CACHE_VARIABLE, WEIGHTS

BLOCKS = {2: (3, 64), 3: (4, 128), 4: (6, 256), 5: (3, 512)}  # stage: blocks, inner channels


def port_state(classes: int = 8) -> dict[str, torch.Tensor]:
    """Random tensors under the names of the port, as an old file has them."""
    generator = torch.Generator().manual_seed(0)
    state = {}

    def convolution(name, inside, outside, side):
        weight = torch.randn(outside, inside, side, side, generator=generator)
        state[f"{name}.weight"] = weight * (2 / (inside * side**2)) ** 0.5
        state[f"{name}_bn.weight"] = 0.5 + torch.rand(outside, generator=generator)
        state[f"{name}_bn.bias"] = torch.randn(outside, generator=generator) / 10
        state[f"{name}_bn.running_mean"] = torch.randn(outside, generator=generator) / 10
        state[f"{name}_bn.running_var"] = 0.5 + torch.rand(outside, generator=generator)

    convolution("conv1_7x7_s2", 3, 64, 7)
    channels = 64
    for stage, (blocks, inner) in BLOCKS.items():
        for block in range(1, blocks + 1):
            name = f"conv{stage}_{block}_"
            convolution(name + "1x1_reduce", channels, inner, 1)
            convolution(name + "3x3", inner, inner, 3)
            convolution(name + "1x1_increase", inner, 4 * inner, 1)
            if block == 1:
                convolution(name + "1x1_proj", channels, 4 * inner, 1)
            channels = 4 * inner
    state["classifier.weight"] = torch.zeros(classes, 2048, 1, 1)
    state["classifier.bias"] = torch.zeros(classes)
    return state


def port_features(state: dict, x: torch.Tensor) -> torch.Tensor:
    """The port's network, from its published definition; x is (B, 3, 224, 224), mean taken off."""

    def layer(x, name, stride=1, padding=0):
        x = functional.conv2d(x, state[f"{name}.weight"], stride=stride, padding=padding)
        mean, scale = state[f"{name}_bn.running_mean"], state[f"{name}_bn.weight"]
        scale = scale / (state[f"{name}_bn.running_var"] + 1e-5).sqrt()
        shift = state[f"{name}_bn.bias"] - mean * scale
        return x * scale[:, None, None] + shift[:, None, None]

    x = functional.relu(layer(x, "conv1_7x7_s2", 2, 3))
    x = functional.pad(x, (0, 1, 0, 1), value=-torch.inf)  # 112 -> 56 windows of 3, step 2
    x = functional.max_pool2d(x, 3, 2)
    for stage, (blocks, _) in BLOCKS.items():
        for block in range(1, blocks + 1):
            name = f"conv{stage}_{block}_"
            stride = 2 if block == 1 and stage > 2 else 1
            y = functional.relu(layer(x, name + "1x1_reduce", stride))
            y = functional.relu(layer(y, name + "3x3", 1, 1))
            y = layer(y, name + "1x1_increase")
            x = functional.relu(y + (layer(x, name + "1x1_proj", stride) if block == 1 else x))
    assert x.shape[2:] == (7, 7)
    return x.mean((2, 3))


@functools.cache
def photos() -> torch.Tensor:
    """(2, 3, 224, 224), eighths and so exact in every step before the network."""
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 9, (2, 3, 224, 224), generator=generator) / 8


@pytest.fixture(scope="module")
def ferplus(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "resnet50_ferplus_dag.pth"
    torch.save(port_state(), file, _use_new_zipfile_serialization=False)  # as of 2018
    return file


@pytest.fixture(scope="module")
def backbone(ferplus) -> FrozenResNet50:
    return FrozenResNet50("ferplus", ferplus)


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
    images = photos()[:, :, :70, :64]
    for mode in (True, False):
        assert torch.equal(ours.train(mode)(images), expected.train(mode)(images))


def test_names_of_the_port():
    state = {name: torch.full((1,), float(i)) for i, name in enumerate(port_state())}
    renamed = torchvision_names(state)
    wanted = {n for n in resnet50().state_dict() if not n.startswith("fc.")}
    assert set(renamed) == {n for n in wanted if not n.endswith("num_batches_tracked")}
    for theirs, ours in {
        "conv1_7x7_s2.weight": "conv1.weight",
        "conv1_7x7_s2_bn.running_var": "bn1.running_var",
        "conv2_1_1x1_proj.weight": "layer1.0.downsample.0.weight",
        "conv3_1_1x1_proj_bn.bias": "layer2.0.downsample.1.bias",
        "conv4_6_1x1_reduce_bn.running_mean": "layer3.5.bn1.running_mean",
        "conv5_3_3x3.weight": "layer4.2.conv2.weight",
        "conv5_2_1x1_increase_bn.weight": "layer4.1.bn3.weight",
    }.items():
        assert torch.equal(renamed[ours], state[theirs])
    newer = torchvision_names({"conv2_1_3x3_bn.num_batches_tracked": torch.tensor(7)})
    assert list(newer) == ["layer1.0.bn2.num_batches_tracked"]
    strange = {"conv6_1_3x3.weight": state["conv2_1_3x3.weight"]}
    refused(lambda: torchvision_names(strange, "f.pth"), "f.pth", "conv6_1_3x3.weight")


def test_the_face_network_is_the_ports(backbone, ferplus):
    mean = torch.tensor([131.0912, 103.8827, 91.4953])[:, None, None]
    state = torch.load(ferplus, weights_only=True)
    expected = port_features(state, 255 * photos() - mean)
    features = backbone(photos())
    assert features.shape == (2, 2048)
    # float32 through 53 layers, batch norm in another order; features of about 1 to 100
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-3 * expected.max().item())
    assert expected.max() > 1

    plain = resnet50()  # the same tensors without the change of strides and pooling
    plain.fc = torch.nn.Identity()
    plain.load_state_dict(torchvision_names(state), strict=False)
    with torch.no_grad():
        other = plain.eval()(255 * photos() - mean)
    assert (other - expected).abs().mean() > 0.05 * expected.abs().mean()


def test_the_imagenet_network_is_torchvisions(tmp_path):
    with isolated_rng(0):
        net = resnet50().eval()
    file = tmp_path / "mine.pth"
    torch.save(net.state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    ours = FrozenResNet50("imagenet", file, sha256=digest)
    net.fc = torch.nn.Identity()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = net((photos() - mean[:, None, None]) / std[:, None, None])
    torch.testing.assert_close(ours(photos()), expected)
    assert ours.settings["sha256"] == digest
    refused(lambda: FrozenResNet50("imagenet", file), "mine.pth", digest)


@pytest.mark.parametrize("size", [(300, 260), (40, 40), (224, 224)])
def test_images_are_resized_whole(backbone, size):
    """What reaches the network, against Pillow's antialiased bilinear resize."""
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    seen = []
    hook = backbone.net.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0]))
    backbone(image)
    hook.remove()
    for channel, mean in enumerate((131.0912, 103.8827, 91.4953)):  # red first
        pillow = Image.fromarray(image[0, channel].numpy()).resize((224, 224), Image.BILINEAR)
        expected = torch.from_numpy(np.array(pillow)) * 255 - mean
        # A hundredth of a grey level: positions are float32 here, float64 in Pillow.
        torch.testing.assert_close(seen[0][0, channel], expected, rtol=0, atol=0.01)


def test_what_is_no_image(backbone):
    grey = photos()[:, :1]
    torch.testing.assert_close(backbone(grey), backbone(grey.expand(2, 3, 224, 224)))
    refused(lambda: backbone(photos()[0]), "(3, 224, 224)")
    refused(lambda: backbone(photos() * 255), "[0, 1]", "255")
    refused(lambda: backbone(photos() * torch.nan), "[0, 1]")


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
    preset = ResNet50_Weights.IMAGENET1K_V1.transforms()
    about = PRETRAINED["imagenet"]
    assert (list(about.mean), list(about.std)) == (preset.mean, preset.std)


def test_files_that_are_absent_or_wrong(tmp_path, ferplus, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    refused(lambda: FrozenResNet50("affectnet"), "affectnet", "imagenet, vggface2, ferplus")
    for name in ("vggface2", "ferplus"):
        refused(lambda name=name: FrozenResNet50(name), name, PRETRAINED[name].file, "SHA-256")
    refused(lambda: FrozenResNet50("ferplus", tmp_path / "no.pth"), "no.pth", "No such file")
    refused(lambda: FrozenResNet50("ferplus", tmp_path), "folder")
    refused(lambda: FrozenResNet50("ferplus", ferplus, sha256="0" * 64), "SHA-256", "0" * 64)
    text = tmp_path / "text.pth"
    for content, words in (
        (b"<html>404</html>", "download it again"),
        (ferplus.read_bytes()[:5_000_000], "download it again"),
        ({}, "has shape none"),
        ({"state_dict": {}}, "no state dict"),
        ({"model": torch.nn.Linear(2, 2)}, "cannot be read"),  # code in the file is not run
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
def test_a_file_of_another_network(tmp_path, name, shape, words):
    state = {known: torch.zeros(1).expand(t.shape) for known, t in port_state().items()}
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
