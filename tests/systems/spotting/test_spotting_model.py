"""The network against 2D convolutions; light, order in time, first weights; the peers."""

import pytest
import torch
from refusals import refused
from torch import nn
from torch.nn import functional

from micromacro.motion.fields import optical_strain, steadied
from micromacro.motion.prepare import NORMALISATIONS, normalise
from micromacro.systems.spotting import SpottingNet
from micromacro.systems.spotting.model import SIDES, SoftNet

ORDERS = {"past": ([1, 0], [2, 0]), "future": ([0, 1], [0, 2])}  # in time, of the two streams
ORDERS["symmetric"] = ([1, 0, 2], [3, 0, 4])


def network(seed=0, **options):
    torch.manual_seed(seed)
    return SpottingNet(**{"widths": (3, 3, 5), "grid": 2, "hidden": 6} | options).eval()


def faces(*shape, seed=1):
    """Smooth textures with a little noise, in [0.2, 0.8]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:2], 5, 6, generator=generator)
    images = functional.interpolate(coarse, shape[-2:], mode="bicubic").view(shape)
    return 0.2 + 0.6 * (images + 0.02 * torch.rand(shape, generator=generator)).clamp(0, 1)


def count(module):
    return sum(p.numel() for p in module.parameters())


# ---- the network ---------------------------------------------------------------------------------


def test_parameters_of_the_defaults_and_of_the_benchmark():
    convs = (8 * 50 + 8, 8 * 8 + 8), (8 * 9 + 8, 8 * 16 + 16), (16 * 9 + 16, 16 * 32 + 32)
    one, classifier = sum(map(sum, convs)) + 32 * 49 * 64 + 64, 2 * 64 * 2 + 2
    assert count(SpottingNet()) == one + classifier == 102_082
    assert count(SpottingNet(shared=False)) == 2 * one + classifier
    assert count(SpottingNet(residual=True)) == 102_082 + (8 * 16 + 16) + (16 * 32 + 32)
    assert count(SpottingNet(widths=(8, 8, 16), grid=6, hidden=24)) == 14_802
    assert count(SoftNet()) == 2 * (75 + 3 + 125 + 5 + 200 + 8 + 784 * 400 + 400 + 401)


def by_hand(stream, maps):
    """Frames as channels of 2D convolutions, float32 (B, depth, H, W) to (B, hidden)."""
    for i, (deep, _, _, point) in enumerate(stream.convs):
        old, kernel = functional.max_pool2d(maps, 2), deep.weight.squeeze(1 if i == 0 else 2)
        options = {"padding": "same", "groups": maps.shape[1] if i else 1}
        maps = functional.max_pool2d(
            functional.conv2d(maps, kernel, deep.bias, **options), 2
        ).relu()
        maps = functional.conv2d(maps, point.weight.squeeze(2), point.bias)
        if i and stream.skips is not None:
            skip = stream.skips[i - 1]
            maps = maps + functional.conv2d(old, skip.weight.squeeze(2), skip.bias)
        maps = maps.relu()
    return stream.dense(functional.adaptive_avg_pool2d(maps, stream.grid).flatten(1)).relu()


@pytest.mark.parametrize("options", [{}, {"residual": True}, {"shared": False}])
@pytest.mark.parametrize(("reference", "orders"), ORDERS.items())
def test_the_network_by_hand(reference, orders, options):
    net = network(reference=reference, inputs="raw", **options)
    for p in net.parameters():  # so that biases count, and separate streams differ
        nn.init.normal_(p, std=0.3)
    frames = faces(4, 1 + 2 * (len(orders[0]) - 1), 1, 21, 26)
    raw = (frames.squeeze(2) - 0.5) / 0.25
    vectors = [by_hand(net.streams[i % len(net.streams)], raw[:, o]) for i, o in enumerate(orders)]
    torch.testing.assert_close(net(frames), net.classifier(torch.cat(vectors, 1)))


@pytest.mark.parametrize("options", [{"widths": (8, 8, 16), "grid": 6}, {"residual": True}])
def test_the_layout_of_the_weights_changes_no_result(options):
    frames, results = faces(9, 3, 1, 48, 48), []
    for layout in (torch.channels_last_3d, torch.contiguous_format):
        net = network(**options)
        kernels = [p for p in net.parameters() if p.ndim == 5]
        assert all(p.is_contiguous(memory_format=torch.channels_last_3d) for p in kernels)
        logits = net.to(memory_format=layout)(frames)
        functional.binary_cross_entropy_with_logits(logits, torch.eye(2)[[0, 1, 1] * 3]).backward()
        results.append([logits, *(p.grad / p.grad.abs().max() for p in net.parameters())])
    torch.testing.assert_close(*results, rtol=0, atol=2e-5)


@pytest.mark.parametrize("inputs", NORMALISATIONS)
def test_gain_and_offset_of_each_frame_change_nothing(inputs):
    net, frames = network(inputs=inputs, first="random"), faces(6, 3, 1, 48, 48)
    gain, offset = torch.rand(2, 6, 3, 1, 1, 1, generator=torch.Generator().manual_seed(5))
    change = net((0.5 + 0.7 * gain) * frames + 0.3 * offset - 0.1) - net(frames)
    assert change.abs().max() < 1e-5 if inputs in ("lcn", "zscore") else change.abs().max() > 0.01
    assert normalise(torch.full((1, 20, 20), 0.3), inputs).isfinite().all()


@pytest.mark.parametrize("reference", SIDES)
def test_first_weights(reference):
    arms = [{}, {"residual": True}, {"shared": False}, {"inputs": "raw"}, {"first": "random"}]
    plain, *others = (network(reference=reference, **arm).state_dict() for arm in arms)
    name, depth = "streams.0.convs.0.0.weight", 1 + len(SIDES[reference])
    drawn = others[-1].pop(name)
    centred = (drawn - drawn.mean(2, keepdim=True)) * (depth / (depth - 1)) ** 0.5
    torch.testing.assert_close(plain[name], centred)
    assert drawn.sum(2).abs().max() > 0.1 > 1e-6 > plain[name].sum(2).abs().max()
    for other in others:  # all arms draw the same numbers
        assert all(torch.equal(other[key], plain[key]) for key in other.keys() & plain.keys())
    assert all(torch.equal(t, others[1][k.replace("ams.1", "ams.0")]) for k, t in others[1].items())
    net, still = network(reference=reference), faces(2, 1, 1, 24, 24)
    logits = net(still.expand(2, 2 * depth - 1, 1, 24, 24))
    torch.testing.assert_close(logits, net.classifier.bias.expand(2, 2), atol=1e-6, rtol=0)


def test_streams_see_their_own_references_and_odd_batches_are_defined():
    net, frames = network(), faces(3, 3, 1, 13, 17)
    net.classifier.weight.data[:, 6:] = 0  # of the macro stream
    for place, same in ((2, True), (1, False), (0, False)):
        other = frames.clone()
        other[:, place] = faces(3, 1, 1, 13, 17, seed=9)[:, 0]
        assert torch.equal(net(frames), net(other)) == same
    raw, byte = network(inputs="raw"), (255 * frames).round().byte()
    torch.testing.assert_close(raw(byte), raw(byte / 255))
    assert network(n_gaps=1)(frames[:1, :2]).shape == (1, 2)
    frames.requires_grad_()  # saliency maps
    network()(frames).sum().backward()
    assert frames.grad.abs().amax((0, 2, 3, 4)).min() > 0


def test_bad_input_of_the_network():
    for name in ("reference", "first", "inputs"):
        refused(lambda name=name: SpottingNet(**{name: "x"}), name, "'x'", "choose")
    refused(lambda: SpottingNet(widths=(8, 8)), "widths", "three")
    net, frames = network(), faces(2, 3, 1, 20, 20)
    refused(lambda: net(frames[0]), "(3, 1, 20, 20)", "(B, 3, 1, H, W)")
    refused(lambda: net(frames[:, :2]), "(2, 2, 1, 20, 20)", "(B, 3, 1, H, W)")
    refused(lambda: net(frames.double()), "float64", "float32 or uint8")
    for inputs in NORMALISATIONS:
        refused(lambda inputs=inputs: network(inputs=inputs)(frames * torch.nan), "NaN")
        refused(lambda inputs=inputs: network(inputs=inputs)(frames * 255), "divide")


# ---- peers ---------------------------------------------------------------------------------------


def test_softnet_sees_each_gap_by_a_network_of_its_own():
    torch.manual_seed(0)
    net, flow = SoftNet(24, hidden=7), torch.randn(5, 2, 2, 24, 24)
    for gap, dense in enumerate(net.dense):
        maps = torch.cat([flow[:, gap], optical_strain(flow[:, gap])], 1).split(1, 1)
        convs = net.convs[3 * gap : 3 * gap + 3]
        three = [conv(one).relu() for conv, one in zip(convs, maps, strict=True)]
        cells = functional.max_pool2d(functional.max_pool2d(torch.cat(three, 1), 3), 2)
        torch.testing.assert_close(net(flow)[:, gap], dense(cells.flatten(1))[:, 0])
    refused(lambda: net(flow[:, :1]), "flow_px", "(B, 2, 2, H, W)")


def test_softnet_with_a_flow_of_its_own_steadies_it():
    torch.manual_seed(0)
    net, shift = SoftNet(24, hidden=7), torch.tensor([3.0, -1.0])[:, None, None]
    net.flow = lambda frames: frames[:, 1:] - frames[:, :1] + shift
    frames = torch.randn(5, 3, 2, 24, 24)
    seen = net(frames)
    net.flow = None
    torch.testing.assert_close(
        seen, net(steadied(frames[:, 1:] - frames[:, :1])), atol=1e-5, rtol=0
    )
