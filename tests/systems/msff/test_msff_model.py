"""The four networks against torchvision's and PyTorch's own layers; clips against one at a time."""

import math

import pytest
import torch
import torchvision
from refusals import refused
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from micromacro.backbones import BasicBlock
from micromacro.systems.msff import EMOTIONS, STREAMS, MsffNet, model, stills
from micromacro.systems.msff.model import (
    READOUTS,
    Blstm,
    C3d,
    CnnBlstm,
    R3d18,
    ResNet50,
    SpectrogramVgg,
    VggFace,
    block_frames,
)
from micromacro.systems.msff.stills import load_published, start_from
from micromacro.training import isolated_rng
from micromacro.weights import file_sha256

LENGTHS = [9, 0, 14, 1, 5]


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(*shape, seed=1):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def made(kind, *args, **options):
    """A network in evaluation mode, its biases not 0 and its batch norms not the identity."""
    with isolated_rng(0):
        net = kind(*args, **options)
        for name, p in net.named_parameters():
            if name.endswith("bias"):
                nn.init.uniform_(p, -0.1, 0.1)
        for name, buffer in net.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer += 0.3 * torch.rand_like(buffer)
    return net.eval()


def count(module):
    return sum(p.numel() for p in module.parameters())


def shapes(module):
    return [tuple(p.shape) for p in module.parameters()]


def small_encoders(**options):
    return {
        "vgg": made(VggFace, 4, 16, 7, image_px=48, scale=60, **options),
        "resnet": made(ResNet50, 4, (1, 1, 1, 1), scale=60),
        "c3d": made(C3d, 4, 16, image_px=48, mean=(127, 127, 127), scale=60, **options),
        "audio": made(SpectrogramVgg, 4, 32, 24, **options),
    }


# ---- sizes ---------------------------------------------------------------------------------------


def test_parameters_of_the_published_sizes():
    with torch.device("meta"):
        net = MsffNet()
        vgg, resnet = (net.streams[name].encoder for name in ("vgg", "resnet"))
        c3d, vggish = net.streams["c3d"], net.streams["audio"].encoder
        sports = C3d(classes=487)
    assert tuple(net.streams) == STREAMS == ("vgg", "resnet", "c3d", "audio")
    assert (count(vgg), count(vgg.convs)) == (145_002_878, 14_714_688)
    assert (count(c3d), count(c3d.convs), count(sports)) == (78_024_455, 27_655_936, 79_991_015)
    assert c3d.fc6.in_features == 8192 == 512 * 1 * 4 * 4
    assert (count(vggish), count(vggish.convs), vggish.fc6.in_features) == (
        *(72_141_184, 4_499_712),
        12_288,
    )
    assert count(resnet.net) == 23_508_032
    blstms = [count(net.streams[name].blstm) for name in ("vgg", "resnet", "audio")]
    assert blstms == [4_329_223, 2_232_071, 265_991]
    assert count(net) == 325_518_177
    assert len(EMOTIONS) == 7
    assert sorted(EMOTIONS) == list(EMOTIONS)


def test_layouts_are_torchvisions():
    with torch.device("meta"):
        pairs = [
            (VggFace(classes=1000), torchvision.models.vgg16()),
            (VggFace(classes=1000, batch_norm=True), torchvision.models.vgg16_bn()),
            (ResNet50(classes=1000), torchvision.models.resnet50()),
        ]
    for own, theirs in pairs:
        assert shapes(own) == shapes(theirs)
    # VGGish: torchvision's VGG-11 without its last block, as its authors say of theirs.
    with torch.device("meta"):
        theirs = torchvision.models.vgg.make_layers([64, "M", 128, "M", 256, 256, "M", 512, 512])
        theirs[0] = nn.Conv2d(1, 64, 3)
        assert shapes(SpectrogramVgg().convs) == shapes(theirs)


# ---- one picture ---------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", [False, True])
def test_vgg_face_is_torchvisions_vgg_16_with_copied_weights(batch_norm):
    plan = [[4] * 2, [8] * 2, [16] * 3, [32] * 3, [32] * 3]
    plan = [item for block in plan for item in (*block, "M")]
    theirs = torchvision.models.vgg.make_layers(plan, batch_norm=batch_norm).eval()
    own = made(VggFace, 4, 10, 5, image_px=64, batch_norm=batch_norm)
    state = zip(theirs.state_dict(), own.convs.state_dict().values(), strict=True)
    theirs.load_state_dict(dict(state))
    faces = pictures(2, 3, 64, 64)
    rgb = 255 * faces - torch.tensor([129.186, 104.762, 93.594])[:, None, None]
    flat = theirs(rgb).flatten(1)  # (2, 32 * 2 * 2)
    fc6 = functional.linear(flat, own.fc6.weight, own.fc6.bias).relu()
    fc7 = functional.linear(fc6, own.fc7.weight, own.fc7.bias).relu()
    torch.testing.assert_close(own.features(faces), fc6)
    own.layer = "fc7"
    torch.testing.assert_close(own.features(faces), fc7)
    torch.testing.assert_close(own(faces), functional.linear(fc7, own.fc8.weight, own.fc8.bias))
    own.train()
    assert not torch.equal(own(faces), own(faces)), "dropout"


def test_colours_come_in_the_order_of_their_means():
    """The trap of the ports: blue, green, red, less the means of red, green, blue."""
    net = made(VggFace, 4, 10, 5, image_px=32)
    red = torch.tensor([129.186, 104.762, 93.594])[:, None, None].expand(1, 3, 32, 32) / 255
    assert net.prepared(red).abs().max() < 1e-4, "the mean face is 0"
    swapped = net.prepared(red.flip(1))
    torch.testing.assert_close(swapped[0, :, 0, 0], torch.tensor([-35.592, 0, 35.592]))
    assert not torch.allclose(net.features(red), net.features(red.flip(1)))


def test_grey_is_three_equal_colours_and_sizes_are_brought_to_the_networks():
    grey = pictures(2, 1, 40, 56)
    for name, net in small_encoders().items():
        if name in ("vgg", "resnet"):
            assert torch.equal(net.features(grey), net.features(grey.expand(-1, 3, -1, -1)))
    net = small_encoders()["vgg"]
    resized = functional.interpolate(grey, (48, 48), mode="bilinear", antialias=True)
    assert torch.equal(net.features(grey), net.features(resized))


def test_resnet_50_is_torchvisions_with_copied_weights():
    theirs = torchvision.models.resnet50(num_classes=7).eval()
    own = ResNet50().eval()
    own.net.load_state_dict({k: v for k, v in theirs.state_dict().items() if k[:2] != "fc"})
    own.head.load_state_dict(theirs.fc.state_dict())
    faces = pictures(1, 3, 64, 64)
    rgb = 255 * faces - torch.tensor([131.0912, 103.8827, 91.4953])[:, None, None]
    torch.testing.assert_close(own(faces), theirs(rgb))
    assert own.features(faces).shape == (1, own.n_features) == (1, 2048)
    small = ResNet50(6, (1, 2, 1, 1))
    assert small.features(pictures(2, 3, 48, 48)).shape == (2, small.n_features) == (2, 192)
    assert BasicBlock.expansion == 1  # which the width of a small ResNet-18 would need


def test_vggish_by_hand():
    net, segments = made(SpectrogramVgg, 4, 10, 6), noise(2, 1, 96, 64)
    x = segments
    for name, layer in net.convs.named_children():
        if name.startswith("conv"):
            x = functional.conv2d(x, layer.weight, layer.bias, padding=1).relu()
        if name.startswith("pool"):
            x = functional.max_pool2d(x, 2)
    assert x.shape == (2, 32, 6, 4)
    for layer in (net.fc6, net.fc7, net.fc8):
        x = (x.flatten(1) @ layer.weight.T + layer.bias).relu()
    torch.testing.assert_close(net.features(segments), x)
    assert net.train().features(segments).equal(net.features(segments)), "no dropout, as published"


# ---- C3D -----------------------------------------------------------------------------------------


def c3d_by_hand(net, block, pool5):
    """One block (16, 3, H, W) of the network's own size, layer by layer."""
    x = 255 * block.transpose(0, 1)[None]  # (1, 3, 16, H, W)
    for number, group in enumerate(("1", "2", "3a 3b", "4a 4b", "5a 5b"), 1):
        for name in group.split():
            conv = net.convs.get_submodule(f"conv{name}")
            x = functional.conv3d(x, conv.weight, conv.bias, padding=1).relu()
        if number < 5:
            x = functional.max_pool3d(x, (1 if number == 1 else 2, 2, 2))
    x = pool5(x).flatten(1)
    for layer in (net.fc6, net.fc7):
        x = (x @ layer.weight.T + layer.bias).relu()
    return (x @ net.fc8.weight.T + net.fc8.bias)[0]


def over_the_edge(x):
    """Caffe's: windows from the first row on, the last one may be cut short."""
    right, below = (-n % 2 for n in (x.shape[-1], x.shape[-2]))
    return functional.max_pool3d(functional.pad(x, (0, right, 0, below), value=-torch.inf), 2)


def padded_all_round(x):
    """The ports': windows shifted by one."""
    return functional.max_pool3d(functional.pad(x, (1, 1, 1, 1), value=-torch.inf), 2)


@pytest.mark.parametrize("px", [112, 48, 64])
def test_c3d_by_hand(px):
    block = pictures(1, 16, 3, px, px)
    net = made(C3d, 2, 10, image_px=px)
    torch.testing.assert_close(net(block)[0], c3d_by_hand(net, block[0], over_the_edge))
    if px == 112:
        assert net.fc6.in_features == 16 * 4 * 4
        ports = c3d_by_hand(net, block[0], padded_all_round)
        assert not torch.allclose(net(block)[0], ports), "one file, two networks"


def test_blocks_of_a_clip():
    assert [len(block_frames(n)) for n in (0, 1, 15, 16, 17, 31, 32, 170)] == [
        *(0, 1, 1, 1, 2, 2),
        *(2, 11),
    ]
    assert block_frames(12)[0].tolist() == [*range(12), 0, 1, 2, 3]
    assert block_frames(20)[-1].tolist() == [*range(4, 20)]
    for n in (1, 7, 16, 40, 151):
        assert block_frames(n).unique().tolist() == [*range(n)], "no frame is lost"


def test_c3d_averages_the_blocks_of_each_clip():
    lengths = [40, 0, 12, 16]
    faces = pictures(4, 44, 3, 32, 32)
    net = made(C3d, 2, 10, image_px=32)
    shown = torch.arange(44) < torch.tensor(lengths)[:, None]
    logits = net(faces.where(shown[..., None, None, None], torch.nan), torch.tensor(lengths))
    for own, clip, n in zip(logits, faces, lengths, strict=True):
        numbers = block_frames(n)
        blocks = [c3d_by_hand(net, clip[block], over_the_edge) for block in numbers]
        expected = sum(blocks) / len(blocks) if blocks else torch.zeros(7)
        torch.testing.assert_close(own, expected)
    only = net(faces[:1, :0])
    assert only.tolist() == [[0] * 7]


def test_r3d_18_is_torchvisions_on_blocks(tmp_path, capsys):
    lengths, faces = torch.tensor([20, 5, 0]), pictures(3, 20, 3, 24, 24)
    with isolated_rng(0):
        theirs = torchvision.models.video.r3d_18(num_classes=400).eval()
    torch.save(theirs.state_dict(), file := tmp_path / "r3d_18-b3b3357e.pth")
    net = load_published("r3d_18_kinetics", file, image_px=24)
    assert "unchecked" in capsys.readouterr().err
    mean, deviation = torch.tensor([[0.43216, 0.394666, 0.37645], [0.22803, 0.22145, 0.216989]])
    shown = ((faces.movedim(2, -1) - mean) / deviation).movedim(-1, 1)  # (B, 3, T, H, W)
    with torch.no_grad():
        each = [theirs(shown[:1, :, own])[0] for own in (slice(0, 16), slice(4, 20))]
        short = theirs(shown[1:2, :, [*range(5)] * 3 + [0]])[0]
    made_of = torch.stack([sum(each) / 2, short, torch.zeros(400)])
    torch.testing.assert_close(net(faces, lengths), made_of, rtol=1e-3, atol=1e-4)
    refused(lambda: load_published("c3d_sports1m", file), file, "another network")
    seven = made(R3d18)
    assert count(seven) == 33_169_863
    assert seven(faces[:1, :16]).shape == (1, 7)
    refused(lambda: seven(255 * faces), "faces", "[0, 1]")
    refused(lambda: R3d18(image_px=8), "image_px", "16")
    refused(lambda: R3d18(0), "classes", "at least 1")
    refused(lambda: SpectrogramVgg(2, 4, image_px=48), "image_px", "96 x 64")


# ---- through time --------------------------------------------------------------------------------


def torchs_lstm(net):
    """The same weights in PyTorch's bidirectional LSTM."""
    theirs = nn.LSTM(net.n_features, 6, len(net.ahead), bidirectional=True, batch_first=True)
    state = {}
    for k, pair in enumerate(zip(net.ahead, net.back, strict=True)):
        for own, end in zip(pair, ("", "_reverse"), strict=True):
            state |= {f"{name[:-3]}_l{k}{end}": p for name, p in own.named_parameters()}
    theirs.load_state_dict(state)
    return theirs


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("readout", READOUTS)
def test_a_batch_is_pytorchs_own_lstm_clip_by_clip(readout, layers):
    net = made(Blstm, 5, 6, layers, readout=readout)
    clips = [noise(n, 5, seed=n) for n in LENGTHS]
    batch = pad_sequence(clips, batch_first=True, padding_value=torch.nan)
    batch = functional.pad(batch, (0, 0, 0, 3), value=torch.inf)
    logits = net(batch, torch.tensor(LENGTHS))
    for own, x in zip(logits, clips, strict=True):
        if not len(x):
            assert own.tolist() == [0] * 7
            continue
        last = torch.cat([x[-1]]) if not layers else None
        if layers:
            x, (ends, _) = torchs_lstm(net)(x[None])
            x, last = x[0], torch.cat([ends[-2, 0], ends[-1, 0]])  # the last layer's two directions
        pooled = {"mean": x.mean(0), "max": x.amax(0), "last": last}[readout]
        torch.testing.assert_close(own, net.head(pooled), rtol=0, atol=1e-5)
    torch.testing.assert_close(net(clips[2][None]), logits[2:3], rtol=0, atol=1e-5)


def test_gradients_of_a_batch_are_those_of_its_clips():
    net = made(Blstm, 5, 6, 2)
    clips = [noise(n, 5, seed=n) for n in LENGTHS]
    batch = pad_sequence(clips, batch_first=True, padding_value=torch.nan)
    net(batch, torch.tensor(LENGTHS)).square().sum().backward()
    together = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    for clip in clips:
        net(clip[None]).square().sum().backward()
    for one, other in zip(together, net.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad)
    for readout in READOUTS:
        net = made(Blstm, 5, 6, readout=readout).train()
        net(batch, torch.tensor(LENGTHS)).sum().backward()
        assert all(p.grad.isfinite().all() for p in net.parameters()), readout


def test_the_mean_of_features_forgets_the_order_and_the_lstm_does_not():
    clip = noise(1, 8, 5)
    for layers, forgets in ((0, True), (1, False)):
        net = made(Blstm, 5, 6, layers)
        assert torch.allclose(net(clip), net(clip.flip(1)), atol=1e-6) is forgets


def test_true_frames_alone_meet_the_cnn():
    """Padding changes nothing, in training neither: it would move the statistics of batch norm."""
    with isolated_rng(0):
        encoder = VggFace(4, 8, image_px=32, batch_norm=True, scale=60)
        net = CnnBlstm(encoder, Blstm(8, 6, dropout=0)).train()
    faces = pictures(2, 3, 1, 32, 32)
    short, lengths = (
        functional.pad(faces, (0, 0) * 3 + (0, 4), value=torch.nan),
        torch.tensor([3, 3]),
    )
    torch.testing.assert_close(net(short, lengths), net(faces))
    net.eval()
    torch.testing.assert_close(net(short, lengths), net(faces))
    with torch.no_grad():
        long = pictures(1, 2 * model.PIECE + 3, 1, 32, 32)
        by_frame = torch.cat([net.encoder.features(face[None]) for face in long[0]])
        torch.testing.assert_close(net(long), net.blstm(by_frame[None]), rtol=1e-4, atol=1e-5)
    assert net(short, torch.tensor([0, 0])).tolist() == [[0] * 7] * 2


# ---- the whole -----------------------------------------------------------------------------------


def test_streams_of_the_whole_are_the_networks_one_by_one():
    net = made(MsffNet, encoders=small_encoders(), hidden=6)
    faces, segments = pictures(3, 20, 3, 48, 48), noise(3, 4, 1, 96, 64)
    n, m = torch.tensor([20, 0, 12]), torch.tensor([0, 4, 1])
    scores = net(faces, segments, n, m)
    assert tuple(scores) == STREAMS
    assert all(logits.shape == (3, 7) for logits in scores.values())
    for name, stream in net.streams.items():
        alone = stream(segments, m) if name == "audio" else stream(faces, n)
        assert torch.equal(scores[name], alone)
        assert (scores[name] == 0).all(1).tolist() == [name == "audio", name != "audio", False]
    assert list(net(faces)) == ["vgg", "resnet", "c3d"]
    assert list(net(segments=segments)) == ["audio"]
    two = MsffNet(("c3d", "vgg"), encoders={k: small_encoders()[k] for k in ("c3d", "vgg")})
    assert list(two(faces[:, :3])) == ["c3d", "vgg"]


@pytest.mark.parametrize("name", STREAMS)
def test_each_stream_trains(name):
    """It tells two clips apart: below log 2, the loss of who knows which two classes there are."""
    encoder = small_encoders(batch_norm=True)[name]
    with isolated_rng(3):
        net = MsffNet((name,), encoders={name: encoder}, hidden=32, dropout=0.0)
    stream = net.streams[name].train()
    for layer in stream.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    x = pictures(*((2, 2, 1, 96, 64) if name == "audio" else (2, 3, 1, 48, 48)))
    x[1, ..., : x.shape[-1] // 2] *= 0.3  # dark on the left
    lengths, target = torch.tensor([x.shape[1], x.shape[1] - 1]), torch.tensor([0, 6])
    optimiser, losses = torch.optim.Adam(stream.parameters(), lr=3e-3), []
    while len(losses) < 30:
        optimiser.zero_grad()
        losses.append(functional.cross_entropy(stream(x, lengths), target))
        losses[-1].backward()
        optimiser.step()
    assert losses[0] > 0.8 * math.log(7)
    assert losses[-1] < 0.5 * math.log(2)


@pytest.mark.parametrize("net", [C3d(2, 8, image_px=32), R3d18(image_px=16)], ids=["c3d", "r3d_18"])
def test_a_batch_without_a_face_teaches_nothing(net):
    scores = net.train()(torch.rand(2, 3, 1, 32, 32), torch.tensor([0, 0]))
    assert not scores.any()
    functional.cross_entropy(scores, torch.tensor([0, 6])).backward()
    assert not any(p.grad.any() for p in net.parameters() if p.grad is not None)


# ---- published weights ---------------------------------------------------------------------------


@pytest.fixture
def narrow(monkeypatch):
    """Networks with the published layouts and few channels, so that files are small."""
    monkeypatch.setattr(
        stills, "VggFace", lambda **options: VggFace(4, 8, 6, image_px=32, **options)
    )
    monkeypatch.setattr(
        stills, "C3d", lambda classes, **options: C3d(4, 8, classes, image_px=32, **options)
    )


def test_vgg_face_from_a_file_with_the_ports_names(narrow, tmp_path, capsys):
    names = [f"conv{i}_{j}" for i, n in enumerate((2, 2, 3, 3, 3), 1) for j in range(1, n + 1)]
    source = made(VggFace, 4, 8, 6, image_px=32)
    own = [m for m in source.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    layers = zip([*names, "fc6", "fc7", "fc8"], own, strict=True)
    state = {f"{name}.{key}": p for name, m in layers for key, p in m.state_dict().items()}
    torch.save(state, file := tmp_path / "vgg_face_dag.pth")
    net, faces = load_published("vgg_face", file), pictures(2, 3, 40, 40)
    assert file_sha256(file) in capsys.readouterr().err
    torch.testing.assert_close(net(faces), source(faces))
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    load_published("vgg_face", file, sha256=file_sha256(file), layer="fc7")
    assert capsys.readouterr().err == ""
    refused(lambda: load_published("vgg_face", file, sha256="0" * 64), file, "SHA-256")
    refused(lambda: load_published("vgg_face"), "vgg_face_dag.pth", "path")
    refused(lambda: load_published("c3d_sports1m", file), file, "another network", "c3d.pickle")
    refused(lambda: load_published("vgg"), "vgg_face", "c3d_sports1m", "ferplus")


def test_c3d_from_a_file_with_the_ports_names(narrow, tmp_path, capsys):
    names = ["conv1", "conv2", *(f"conv{i}{j}" for i in (3, 4, 5) for j in "ab")]
    source = made(C3d, 4, 8, 487, image_px=32)
    own = [m for m in source.modules() if isinstance(m, nn.Conv3d | nn.Linear)]
    layers = zip([*names, "fc6", "fc7", "fc8"], own, strict=True)
    state = {f"{name}.{key}": p for name, m in layers for key, p in m.state_dict().items()}
    old = {"_use_new_zipfile_serialization": False}  # the published file is of 2017
    torch.save(state, file := tmp_path / "c3d.pickle", **old)
    net, faces = load_published("c3d_sports1m", file), pictures(2, 20, 3, 32, 32)
    torch.testing.assert_close(net(faces), source(faces))
    assert net(faces).shape == (2, 487)
    assert "unchecked" in capsys.readouterr().err


def test_a_3d_network_starts_from_published_weights_in_all_layers_but_the_last(tmp_path):
    with isolated_rng(0):
        theirs = torchvision.models.video.r3d_18(num_classes=400)
    torch.save(theirs.state_dict(), file := tmp_path / "r3d_18-b3b3357e.pth")
    net = made(R3d18, image_px=32)
    first = {name: weight.clone() for name, weight in net.named_parameters()}
    assert start_from(net, "r3d_18", str(file)) is net
    for name, weight in net.named_parameters():
        head = name.startswith("net.fc.")
        expected = first[name] if head else theirs.get_parameter(name.removeprefix("net."))
        assert torch.equal(weight, expected), name
        assert weight.requires_grad, name
    small = made(C3d, 4, 8, batch_norm=True)
    refused(lambda: start_from(small, "r3d_18", str(file)), file, "trial")


def test_c3d_starts_from_published_weights(narrow, tmp_path):
    theirs, net = made(C3d, 4, 8, 487, image_px=32), made(C3d, 4, 8, image_px=32)
    published = {name.replace("convs.", ""): weight for name, weight in theirs.state_dict().items()}
    torch.save(published, file := tmp_path / "c3d.pickle")
    start_from(net, "c3d", str(file))
    assert torch.equal(net.convs.conv5b.weight, theirs.convs.conv5b.weight)
    assert net.fc8.out_features == 7
    block = pictures(1, 16, 3, 32, 32)
    torch.testing.assert_close(net.features(block), theirs.features(block))


def test_a_published_resnet_50_is_the_frozen_one(tmp_path):
    torch.save(torchvision.models.resnet50().state_dict(), file := tmp_path / "resnet50.pth")
    net = load_published("imagenet", file, sha256=file_sha256(file))
    assert (net.n_features, net.settings["weights"]) == (2048, "imagenet")
    with isolated_rng(0):
        stream = CnnBlstm(net, Blstm(net.n_features, 4)).train()
    assert not net.training
    assert stream(pictures(1, 2, 3, 32, 32)).shape == (1, 7)


# ---- refusals ------------------------------------------------------------------------------------


def test_refusals():
    faces, segments = pictures(2, 3, 3, 32, 32), noise(2, 3, 1, 96, 64)
    net = made(MsffNet, ("vgg", "audio"), encoders=small_encoders(), hidden=4)
    n = torch.tensor
    refused(lambda: MsffNet(("face",)), "stream 'face'", "vgg")
    refused(lambda: MsffNet((), encoders={}), "streams", "choose")
    refused(lambda: MsffNet(("vgg",), encoders={"VGG": nn.Identity()}), "stream 'VGG'")
    refused(lambda: net(), "faces", "segments")
    refused(lambda: net(faces[0]), "rows", "(B, T, C, H, W)")
    refused(lambda: net(faces.movedim(2, -1)), "images", "movedim")
    refused(lambda: net(255 * faces), "images", "[0, 1]")
    refused(lambda: net(segments=segments[..., :60]), "segments", "(B, 1, 96, 64)")
    refused(lambda: net(segments=segments / 0), "segments", "infinite")
    refused(lambda: net(faces, face_lengths=n([3, 4])), "lengths", "[3, 4]", "0 to 3")
    refused(lambda: net(faces, face_lengths=n([3])), "lengths", "2 numbers")
    refused(lambda: net(faces, face_lengths=n([3.0, 2.0])), "lengths", "int64")
    refused(lambda: net(faces[:0]), "no clip")
    refused(lambda: VggFace(4, 8, image_px=31), "image_px", "32")
    refused(lambda: VggFace(4, 8, layer="pool5"), "layer", "fc6")
    refused(lambda: VggFace(0, 8), "width, hidden, classes", "1 or more")
    refused(lambda: C3d(2, 4, image_px=8), "image_px", "16")
    refused(lambda: ResNet50(0), "width")
    refused(lambda: Blstm(4, readout="first"), "readout", "mean")
    refused(lambda: Blstm(4, layers=-1), "layers")
    refused(lambda: Blstm(4)(noise(2, 3, 5)), "features", "(B, T, 4)")
    refused(lambda: Blstm(4)(noise(2, 3, 4) / 0), "features", "infinite")
