"""Cascades against PyTorch's own layers, step by step; batches against one clip after another."""

import itertools

import pytest
import torch
from refusals import refused
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from micromacro.metrics import pcc
from micromacro.systems.eri import EMOTIONS, EriNet, model
from micromacro.systems.eri.model import LOSSES, READOUTS, sinusoids

ARMS = [dict(zip(("gru", "positions"), values, strict=True)) for values in ((1, 0), (0, 1), (0, 0))]
LENGTHS = [9, 1, 14, 5], [3, 14, 1, 8]  # of video and audio


def network(seed=0, video=6, audio=5, **options):
    torch.manual_seed(seed)
    sizes = {"width": 16, "depth": 3, "heads": 4, "mlp": 12}
    return EriNet(video, audio, **sizes | options).eval()


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clips(lengths=LENGTHS, video=6, audio=5):
    return [
        [noise(t, n, seed=t + n) for t in ts] for n, ts in zip((video, audio), lengths, strict=True)
    ]


def batch(parts, fill=torch.nan, extra=2):
    """Clips as one batch, padded by what must not be seen, and longer than any of them."""
    named = {}
    for name, rows in zip(("video", "audio"), parts, strict=True):
        padded = pad_sequence(rows, batch_first=True, padding_value=fill)
        named[name] = functional.pad(padded, (0, 0, 0, extra), value=fill)
        named[f"{name}_lengths"] = torch.tensor([len(x) for x in rows])
    return named


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameters_of_the_published_sizes():
    net = EriNet()
    assert count(net) == 5_685_760
    video, audio = net.cascades["video"], net.cascades["audio"]
    assert (count(video.rows), count(audio.rows)) == (1_012_992, 1_379_328)
    assert count(video.layers) == count(audio.layers) == 1_580_032 == 4 * 395_008
    assert (count(net.head), count(EriNet(audio=0).head)) == (132_864, 67_328)
    assert (count(EriNet(audio=0)), count(EriNet(0))) == (2_660_608, 3_026_944)
    assert [count(EriNet(n, 0).cascades["video"].rows) for n in (512, 35)] == [986_112, 619_776]
    assert len(EMOTIONS) == 7


# ---- one clip, by hand ---------------------------------------------------------------------------


def gru_by_hand(gru, x):
    """One clip (T, D), step by step."""
    for layer in range(gru.num_layers):
        cell, state, out = nn.GRUCell(x.shape[1], gru.hidden_size), torch.zeros(1, 16), []
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        cell.load_state_dict({name: getattr(gru, f"{name}_l{layer}") for name in names})
        for row in x:
            state = cell(row[None], state)
            out.append(state)
        x = torch.cat(out)
    return x


def torchs_layer(layer, heads):
    """The same weights in PyTorch's transformer."""
    width, mlp = layer.mlp[0].in_features, layer.mlp[0].out_features
    options = {"activation": "gelu", "batch_first": True, "norm_first": True}
    other = nn.TransformerEncoderLayer(width, heads, mlp, **options)
    attention = {
        "in_proj_weight": torch.cat(
            [layer.attention.query.weight, layer.attention.key_value.weight]
        ),
        "in_proj_bias": torch.zeros(3 * width),
        "out_proj.weight": layer.attention.out[0].weight,
        "out_proj.bias": layer.attention.out[0].bias,
    }
    parts = {"linear1": layer.mlp[0], "linear2": layer.mlp[3]}
    parts |= {"norm1": layer.attention_norm, "norm2": layer.mlp_norm}
    state = {f"self_attn.{name}": tensor for name, tensor in attention.items()}
    for part, own in parts.items():
        state |= {f"{part}.{name}": tensor for name, tensor in own.state_dict().items()}
    other.load_state_dict(state)
    return other.eval()


def vector_by_hand(cascade, x, heads=4):
    """One clip (T, D) to (width,)."""
    gru = isinstance(cascade.rows, nn.GRU)
    x = gru_by_hand(cascade.rows, x) if gru else cascade.rows(x)
    if cascade.positions:
        angle = torch.tensor(
            [[t / 10_000 ** (k // 2 * 2 / 16) for k in range(16)] for t in range(len(x))]
        )
        even = torch.arange(16) % 2 == 0
        x = x + torch.where(even, angle.sin(), angle.cos())
    if cascade.readout == "token":
        x = torch.cat([cascade.learned[None], x])
    for layer in cascade.layers:
        x = torchs_layer(layer, heads)(x[None])[0]
    if cascade.readout == "attention":
        weights = [torch.exp(row @ cascade.learned / 4) for row in x]
        return sum(w * row for w, row in zip(weights, x, strict=True)) / sum(weights)
    pooled = {"token": x[0], "last": x[-1], "mean": x.mean(0), "max": x.max(0).values}
    return pooled[cascade.readout]


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("readout", READOUTS)
def test_the_network_by_hand_and_a_batch_of_clips(readout, arm):
    net = network(readout=readout, **arm)
    for name, p in net.named_parameters():  # so that norms and biases count
        nn.init.normal_(p, std=0.3) if "norm" not in name else nn.init.uniform_(p, 0.5, 1.5)
    video, audio = clips()
    with torch.no_grad():
        expected = []
        for pair in zip(video, audio, strict=True):
            named = zip(net.cascades.values(), pair, strict=True)
            joined = torch.cat([vector_by_hand(cascade, x) for cascade, x in named])
            expected.append((net.head[2].weight @ (net.head[0].weight @ joined)).sigmoid())
        torch.testing.assert_close(net(**batch((video, audio))), torch.stack(expected))


def test_sinusoids_of_an_odd_width():
    assert sinusoids(5, 7).shape == (5, 7)
    torch.testing.assert_close(
        sinusoids(400, 8)[[0, 7], :2], torch.tensor([[0, 1], [0.656987, 0.753902]])
    )


# ---- batches -------------------------------------------------------------------------------------


def gradients(net, outputs):
    net.zero_grad()
    functional.mse_loss(torch.cat(outputs), torch.zeros(4, 7), reduction="sum").backward()
    return [p.grad for p in net.parameters()]


@pytest.mark.parametrize("readout", READOUTS)
def test_a_batch_gives_what_the_clips_give_one_by_one(readout):
    """At the published width, in values and in gradients, whatever the padding holds."""
    torch.manual_seed(0)
    net = EriNet(20, 30, readout=readout, depth=2).eval()
    parts = clips(video=20, audio=30)
    one_by_one = [net(v[None], a[None]) for v, a in zip(*parts, strict=True)]
    expected = gradients(net, one_by_one)
    for fill in (torch.nan, 1e30):
        together = net(**batch(parts, fill))
        torch.testing.assert_close(together, torch.cat(one_by_one), rtol=0, atol=1e-5)
        torch.testing.assert_close(gradients(net, [together]), expected, rtol=1e-3, atol=1e-5)
    seen = batch(parts, 0.0, extra=20)
    unmasked = net(seen["video"], seen["audio"])
    assert (unmasked - torch.cat(one_by_one)).abs().max() > 0.01


def test_training_draws_dropout_and_evaluation_does_not():
    net, parts = network(), batch(clips())
    assert torch.equal(net(**parts), net(**parts))
    net.train()
    assert not torch.equal(net(**parts), net(**parts))
    net.apply(lambda m: setattr(m, "p", 0.0) if isinstance(m, nn.Dropout) else None)
    assert not torch.equal(net(**parts), net(**parts))  # of the attention's weights
    still = network(dropout=0.0).train()
    still.head[1].p = 0.0
    torch.testing.assert_close(still(**parts), network(dropout=0.0)(**parts))


@pytest.mark.parametrize("piece", [1, 1_000, 10**9])
def test_training_with_dropout_computes_the_same_in_pieces(piece, monkeypatch):
    monkeypatch.setattr(model, "PIECE", piece)
    net, parts = network(dropout=1e-12), batch(clips())
    expected = net(**parts)
    net.train().head[1].p = 0.0
    torch.testing.assert_close(net(**parts), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("readout", ["token", "mean", "max", "attention"])
def test_without_gru_and_positions_order_is_lost(readout):
    video, order = noise(2, 11, 6), torch.randperm(11, generator=torch.Generator().manual_seed(3))
    for arm, lost in (
        ({"gru": False}, True),
        ({"gru": False, "positions": True}, False),
        ({}, False),
    ):
        net = network(audio=0, readout=readout, **arm)
        change = (net(video) - net(video[:, order])).abs().max()
        assert change < 1e-6 if lost else change > 1e-4


# ---- missing and odd -----------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("readout", READOUTS)
def test_a_missing_modality_is_a_clip_of_length_0(readout, arm):
    net, video, none = network(readout=readout, **arm), noise(3, 7, 6), torch.zeros(3).long()
    alone = net(video)
    assert alone.isfinite().all()
    same = {"audio": noise(3, 4, 5) * torch.nan, "audio_lengths": none}
    torch.testing.assert_close(net(video, **same), alone)
    torch.testing.assert_close(net(video, torch.zeros(3, 0, 5)), alone)
    some = net(video, noise(3, 4, 5), audio_lengths=torch.tensor([0, 4, 0]))
    assert ((some - alone).abs().amax(1) > 1e-6).tolist() == [False, True, False]
    some.sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)
    nothing = network(audio=0, readout=readout, **arm)(torch.zeros(2, 0, 6))
    if readout == "token":  # the token looks at itself
        assert (nothing[0] - nothing[1]).abs().max() == 0
        assert (nothing - 0.5).abs().max() > 1e-3
    else:
        assert torch.equal(nothing, torch.full((2, 7), 0.5))


def test_no_transformer_leaves_the_gru():
    net, video = network(audio=0, depth=0, readout="last"), noise(2, 9, 6)
    states = net.cascades["video"].rows(video)[0]
    expected = net.head(torch.stack([states[0, 8], states[1, 3]])).sigmoid()
    torch.testing.assert_close(net(video, video_lengths=torch.tensor([9, 4])), expected)


def test_arms_of_a_seed_start_from_the_same_weights():
    plain = network().state_dict()
    arms = [{"readout": r, "positions": p} for r, p in itertools.product(READOUTS, (False, True))]
    for arm in [*arms, {"dropout": 0.0}, {"gru": False}]:
        own = network(**arm).state_dict()
        shared = own.keys() & plain.keys()
        assert len(shared) >= len(plain) - (2 if arm.get("gru", True) else 16)
        assert all(torch.equal(own[name], plain[name]) for name in shared)


def test_bad_input():
    refused(lambda: network(readout="sum"), "'sum'", *READOUTS)
    refused(lambda: network(video=0, audio=0), "no cascade")
    refused(lambda: network(heads=3), "heads=3", "divisor")
    refused(lambda: network(depth=0), "depth=0", "readout")
    net, video, audio = network(), noise(2, 7, 6), noise(2, 4, 5)
    refused(lambda: net(), "video and audio", "missing")
    refused(lambda: network(audio=0)(video, audio), "audio", "leave it out")
    refused(lambda: net(video[0], audio), "video", "(7, 6)", "(B, T, D)")
    refused(lambda: net(video[..., :5], audio), "(2, 7, 5)", "(2, T, 6)")
    refused(lambda: net(video, audio[:1]), "(1, 4, 5)", "(2, T, 5)")
    refused(lambda: net(video[:0], audio[:0]), "(0, 7, 6)", "no clip")
    refused(lambda: net(video.double(), audio), "float64", "float32")
    refused(lambda: net(video, audio.log()), "audio", "NaN")
    for lengths in ([7], [8, 1], [-1, 3]):
        refused(
            lambda lengths=lengths: net(video, audio, torch.tensor(lengths)),
            "video_lengths",
            "0 to 7",
        )
    refused(lambda: net(video, audio, torch.ones(2)), "video_lengths", "int64")


# ---- attention, losses ---------------------------------------------------------------------------


def rollout_by_hand(cascade, x):
    """One clip (T, D) to shares (T,), by whole matrices."""
    x, token = cascade.rows(x[None])[0], int(cascade.readout == "token")
    x = torch.cat([cascade.learned.expand(1, 1, -1), x], 1) if token else x
    product = torch.eye(x.shape[1])
    for layer in cascade.layers:
        other = torchs_layer(layer, 4)
        y = other.norm1(x)
        product = (torch.eye(len(product)) + other.self_attn(y, y, y)[1][0]) / 2 @ product
        x = other(x)
    last = {"token": torch.eye(len(product))[0], "last": torch.eye(len(product))[-1]}
    last |= {"mean": torch.full((len(product),), 1 / len(product))}
    scores = {"attention": lambda: (x[0] @ cascade.learned / 4).softmax(0)}
    scores["max"] = lambda: torch.bincount(x[0].argmax(0), minlength=len(product)) / 16
    start = last[cascade.readout] if cascade.readout in last else scores[cascade.readout]()
    shares = (start @ product)[token:]
    return shares / shares.sum()


@pytest.mark.parametrize("readout", READOUTS)
@torch.no_grad()
def test_attention_is_rolled_out(readout):
    net, parts = network(readout=readout), clips()
    rolled = net.attention(**batch(parts))
    for (name, cascade), rows in zip(net.cascades.items(), parts, strict=True):
        assert rolled[name].shape == (4, max(map(len, rows)) + 2)
        for shares, x in zip(rolled[name], rows, strict=True):
            torch.testing.assert_close(shares[: len(x)], rollout_by_hand(cascade, x))
            assert not shares[len(x) :].any()
    alone = network(readout=readout).attention(video=parts[0][0][None])
    torch.testing.assert_close(alone["video"][0], rolled["video"][0, :9])
    assert alone["audio"].shape == (1, 0)
    empty = net.attention(video=noise(2, 4, 6), video_lengths=torch.tensor([0, 4]))["video"]
    torch.testing.assert_close(empty.sum(1), torch.tensor([0.0, 1.0]))


def test_losses():
    prediction, target = noise(9, 7), noise(9, 7, seed=2)
    assert float(LOSSES["pcc"](prediction, target)) == pytest.approx(
        1 - pcc(prediction, target), abs=1e-5
    )
    assert float(LOSSES["pcc"](3 * target - 2, target)) == pytest.approx(0, abs=1e-5)
    assert LOSSES["mse"](prediction, target) == ((prediction - target) ** 2).mean()
    for p, t in (
        (torch.full((9, 7), 0.3), target),
        (prediction, target[:1].expand(9, 7)),
        (prediction[:1], target[:1]),
    ):
        p = p.clone().requires_grad_()
        loss = LOSSES["pcc"](p, t)
        loss.backward()
        assert loss == 1
        assert p.grad.isfinite().all()


@pytest.mark.parametrize("sizes", [{"depth": -1}, {"heads": 0}, {"mlp": 0}, {"video": -3}])
def test_sizes_that_are_none_are_refused(sizes):
    (name,) = sizes
    refused(lambda: EriNet(**({"video": 6, "audio": 5} | sizes)), name, "whole number")
