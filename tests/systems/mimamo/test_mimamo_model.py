"""Sizes of the published networks, who may influence whom, the released faults."""

import pytest
import torch
from refusals import refused
from torch import nn

from micromacro.systems.mimamo import MimamoNet, OmgNet, PhaseNet, ccc_loss

SMALL = {"n_features": 10, "phase_channels": 4, "phase_widths": (4, 6, 8), "hidden": 12}
ARMS = [{}, {"streams": "spatial"}, {"streams": "temporal"}, {"recurrent": False}]
# Tolerance of "does not change": another batch size may only round differently. Outputs are of
# order 1, float32 carries 1.2e-7, and each passes through some ten layers.
ROUNDING = {"atol": 1e-5, "rtol": 0}


def network(seed=0, omg=False, **options):
    """A small network in eval mode, its batch statistics those of a random batch."""
    torch.manual_seed(seed)
    make = MimamoNet.omg if omg else MimamoNet
    net = make(2, **(SMALL | {"gru_hidden": 7} | options))
    net(**inputs(seed=100, B=8))
    return net.eval()


def inputs(B=3, S=5, seed=1, size=16):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"features": (10,), "level_1": (4, size, size), "level_2": (4, size // 2, size // 2)}
    return {k: torch.randn(B, S, *v, generator=generator) for k, v in shapes.items()}


def count(*modules):
    return sum(p.numel() for m in modules for p in m.parameters())


def names(module):
    return [type(m).__name__ for m in module]


# ---- the published sizes ------------------------------------------------------------------------


def test_parameters_of_the_published_networks():
    net = MimamoNet()
    parts = count(net.spatial), count(net.phase, net.phase_mlp), count(net.fusion)
    assert parts == (591_360, 1_319_811 - 259, 131_840)
    assert (count(net.gru), count(net.head)) == (592_896, 518)
    assert count(net) == 2_636_425 - 259 == 2_636_166
    net = MimamoNet.omg()
    assert isinstance(net, OmgNet)
    assert count(net) == 2_241_031 - 259 - 257 == 2_240_515
    assert [count(gru) for gru in net.grus] == [198_144] * 2


def test_parameters_of_phasenet():
    def block(n_in, n_out):  # two 3x3 convolutions with bias, two batch norms
        return 9 * n_in * n_out + 9 * n_out * n_out + 6 * n_out

    assert count(PhaseNet()) == block(24, 64) + block(88, 128) + block(128, 256) == 1_186_944


def test_layers_of_the_released_code():
    net = MimamoNet()
    assert names(net.spatial) == ["Dropout", "Linear", "BatchNorm1d", "ReLU"] * 2
    assert names(net.phase_mlp) == ["Linear", "ReLU", "BatchNorm1d", "Dropout"] * 2
    assert names(net.fusion) == ["Linear", "ReLU", "BatchNorm1d", "Dropout"]
    assert names(net.head) == ["Dropout", "Linear", "BatchNorm1d"]
    conv = ["Conv2d", "BatchNorm2d", "ReLU"] * 2
    assert [names(block) for block in net.phase.blocks] == [conv] * 3
    assert [(b[0].stride, b[3].stride) for b in net.phase.blocks] == [((1, 1), (2, 2))] * 3
    rates = [m.p for m in net.modules() if "Dropout" in type(m).__name__]
    assert sorted(rates) == [0.2, 0.3, 0.3, 0.3, 0.3, 0.5, 0.5]
    assert net.gru.gru.dropout == 0.3

    net = MimamoNet.omg()
    assert names(net.spatial) == ["Linear", "ReLU", "BatchNorm1d", "Dropout"] * 2
    assert names(net.phase_mlp) == ["Linear", "ReLU", "Dropout"]
    rates = [m.p for m in net.modules() if "Dropout" in type(m).__name__]
    assert sorted(rates) == [0.2, 0.2, 0.5, 0.5, 0.5, 0.5]
    assert [gru.gru.dropout for gru in net.grus] == [0.5, 0.5]


def test_maps_of_phasenet():
    net, seen = PhaseNet().eval(), []
    for block in net.blocks:
        block.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape)))
    vector = net(torch.randn(1, 24, 48, 48), torch.randn(1, 24, 24, 24))
    assert seen == [(1, 64, 24, 24), (1, 128, 12, 12), (1, 256, 6, 6)]
    assert vector.shape == (1, 256)


def test_phasenet_drops_whole_maps_after_every_block_but_the_first():
    torch.manual_seed(0)
    net, dropped = PhaseNet(4, (8, 8, 8, 8)).train(), []
    net.dropout.register_forward_hook(lambda _m, _i, out: dropped.append(out.shape[-1]))
    net(torch.randn(3, 4, 32, 32), torch.randn(3, 4, 16, 16))
    assert dropped == [8, 4, 2]
    assert isinstance(net.dropout, nn.Dropout2d)


def test_published_forward():
    net = MimamoNet().eval()
    x = torch.randn(1, 2, 2048), torch.randn(1, 2, 24, 48, 48), torch.randn(1, 2, 24, 24, 24)
    assert net(*x).shape == (1, 2, 2)
    assert MimamoNet.omg().eval()(*x).shape == (1, 1)


# ---- the figure, with PyTorch's own modules one after the other ---------------------------------


def by_hand_phase(net, level_1, level_2):
    """Snippets (B, S, ...) to (B, S, D), one snippet at a time, no dropout."""
    vectors = []
    for one, two in zip(level_1.flatten(0, 1), level_2.flatten(0, 1), strict=True):
        maps = torch.cat([net.phase.blocks[0](one[None]), two[None]], 1)
        for block in net.phase.blocks[1:]:
            maps = block(maps)
        vectors.append(nn.functional.avg_pool2d(maps, maps.shape[-1]).flatten())
    return net.phase_mlp(torch.stack(vectors)).view(*level_1.shape[:2], -1)


def by_hand_gru(gru, steps):
    return gru.gru(steps.transpose(0, 1))[0].transpose(0, 1)  # it wants (time, batch, feature)


def test_mimamo_net_by_hand():
    net = network()
    x = inputs()
    spatial = net.spatial(x["features"].flatten(0, 1)).view(3, 5, 12)
    both = torch.cat([spatial, by_hand_phase(net, x["level_1"], x["level_2"])], 2)
    steps = by_hand_gru(net.gru, net.fusion(both.flatten(0, 1)).view(3, 5, 12))
    expected = net.head(steps.flatten(0, 1)).view(3, 5, 2)
    torch.testing.assert_close(net(**x), expected, **ROUNDING)


def test_omg_net_by_hand():
    net = network(omg=True)
    x = inputs()
    spatial = net.spatial(x["features"].flatten(0, 1)).view(3, 5, 12)
    ends = []
    streams = (spatial, by_hand_phase(net, x["level_1"], x["level_2"]))
    for gru, steps in zip(net.grus, streams, strict=True):
        last = by_hand_gru(gru, steps)[:, -1].clamp(min=0)
        ends.append(last[:, :7] + last[:, 7:])
    expected = net.head(torch.cat(ends, 1))
    torch.testing.assert_close(net(**x), expected, **ROUNDING)


# ---- who may influence whom ---------------------------------------------------------------------


@pytest.mark.parametrize("options", ARMS, ids=str)
def test_batch_size_and_batch_mates_do_not_matter(options):
    net = network(**options)
    x = inputs(B=4)
    together = net(**x)
    assert together.std() > 0.01
    for b in range(4):
        alone = net(**{k: v[b : b + 1] for k, v in x.items()})
        torch.testing.assert_close(alone, together[b : b + 1], **ROUNDING)


@pytest.mark.parametrize("omg", [False, True])
@pytest.mark.parametrize("streams", ["both", "spatial", "temporal"])
def test_only_the_named_stream_matters(omg, streams):
    net = network(omg=omg, streams=streams)
    x = inputs()
    expected = net(**x)
    for name in x:
        uses = streams == "both" or (streams == "spatial") == (name == "features")
        changed = net(**(x | {name: x[name] + 1}))
        assert torch.equal(changed, expected) != uses
        if not uses:
            assert torch.equal(net(**(x | {name: None})), expected)


GAPS = torch.tensor([[1, 1, 0, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 0, 1]], dtype=torch.bool)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("options", ARMS, ids=str)
def test_what_the_mask_leaves_out_does_not_matter(options, legacy):
    net = network(**options, legacy_gru_axis=legacy and options.get("recurrent", True))
    x = inputs()
    expected = net(**x, mask=GAPS)
    assert expected[~GAPS].isnan().all()
    assert expected[GAPS].isfinite().all()
    for value in (1e6, torch.nan):
        spoiled = {k: v.clone() for k, v in x.items()}
        for v in spoiled.values():
            v[~GAPS] = value
        assert torch.equal(net(**spoiled, mask=GAPS)[GAPS], expected[GAPS])


@pytest.mark.parametrize("omg", [False, True])
def test_a_masked_sequence_is_the_shorter_sequence(omg):
    """Padding at the end, and a gap: the state is carried over, as if it had never been there."""
    net = network(omg=omg)
    x = inputs()
    together = net(**x, mask=GAPS)
    for b in range(3):
        alone = net(**{k: v[b, GAPS[b]][None] for k, v in x.items()})[0]
        torch.testing.assert_close(alone, together[b] if omg else together[b, GAPS[b]], **ROUNDING)


@pytest.mark.parametrize("recurrent", [True, False])
def test_time_reaches_both_ways_with_a_gru_and_no_way_without(recurrent):
    net = network(recurrent=recurrent)
    x = inputs()
    changed = x["features"].clone()
    changed[1, 2] += 1
    moved = (net(**(x | {"features": changed})) - net(**x)).abs().amax(-1) > 1e-6
    expected = torch.zeros(3, 5, dtype=torch.bool)
    expected[1, slice(None) if recurrent else 2] = True
    assert torch.equal(moved, expected)


def test_no_snippet_at_all():
    net, none = network(), torch.zeros(3, 5, dtype=torch.bool)
    assert net(**inputs(), mask=none).isnan().all()
    net = network(omg=True)
    none[1] = True
    found = net(**inputs(), mask=none)
    assert found.isnan().all(1).tolist() == [True, False, True]


# ---- the released axis --------------------------------------------------------------------------


def test_legacy_axis_mixes_the_batch_and_not_the_time():
    """As measured on the released network: a changed step changes that step of all sequences."""
    net = network(legacy_gru_axis=True)
    x = inputs()
    changed = x["features"].clone()
    changed[1, 2] += 1
    before = net(**x)
    moved = (net(**(x | {"features": changed})) - before).abs().amax(-1) > 1e-6
    assert moved.all(0).tolist() == moved.any(0).tolist() == [False, False, True, False, False]
    alone = net(**{k: v[:1] for k, v in x.items()})
    assert (alone - before[:1]).abs().max() > 1e-3


def test_legacy_axis_is_the_gru_over_the_first_axis():
    net = network(legacy_gru_axis=True)
    rows = torch.randn(3 * 5, 12)
    expected, _ = net.gru.gru(rows.view(3, 5, 12))  # (batch, time, .) read as (time, batch, .)
    found = net.gru(rows, torch.ones(3, 5, dtype=torch.bool)).view(3, 5, 14)
    torch.testing.assert_close(found, expected, **ROUNDING)


@pytest.mark.parametrize("legacy", [False, True])
def test_omg_with_the_released_axis_sees_the_last_snippet_only(legacy):
    net = network(omg=True, legacy_gru_axis=legacy)
    x = inputs()
    other = {k: torch.cat([v[:, :-1] + 1, v[:, -1:]], 1) for k, v in x.items()}
    assert ((net(**x) - net(**other)).abs().max() < 1e-6) == legacy


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_of_the_omg_network_that_never_act(legacy):
    net = network(omg=True, legacy_gru_axis=legacy)
    net(**inputs()).square().sum().backward()
    still = {k for k, p in net.named_parameters() if (p.grad == 0).all()}
    dead = {f"grus.{i}.gru.weight_hh_l1_reverse" for i in (0, 1)}
    assert still == (set() if legacy else dead)
    published = dict(MimamoNet.omg().named_parameters())
    assert [published[name].numel() for name in sorted(dead)] == [12_288] * 2


# ---- training -----------------------------------------------------------------------------------


def without_dropout(net):
    for module in net.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
        if isinstance(module, nn.GRU):
            module.dropout = 0.0
    return net.train()


@pytest.mark.parametrize("omg", [False, True])
def test_batch_statistics_are_of_valid_snippets_only(omg):
    full, masked = (without_dropout(network(omg=omg)) for _ in range(2))
    x = inputs(S=3)
    padded = {k: torch.cat([v, torch.full_like(v, 1e3)], 1) for k, v in x.items()}
    mask = torch.arange(6).expand(3, 6) < 3
    expected, found = full(**x), masked(**padded, mask=mask)
    torch.testing.assert_close(found if omg else found[:, :3], expected, **ROUNDING)
    for (name, a), b in zip(full.state_dict().items(), masked.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name, **ROUNDING)


def test_the_head_standardises_over_the_valid_snippets():
    net = without_dropout(network())
    found = net(**inputs(), mask=GAPS)[GAPS]
    torch.testing.assert_close(found.mean(0), torch.zeros(2), **ROUNDING)
    torch.testing.assert_close(found.std(0, correction=0), torch.ones(2), atol=1e-2, rtol=0)  # eps


@pytest.mark.parametrize("options", [*ARMS, {"legacy_gru_axis": True}], ids=str)
def test_gradients_reach_every_parameter_and_are_finite(options):
    net = network(**options).train()
    ccc_loss(net(**inputs(), mask=GAPS), torch.randn(3, 5, 2), GAPS).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_plain_gradient_descent_lowers_the_loss():
    net = without_dropout(network())
    x = inputs(B=6)
    target, losses = x["features"][..., :2].cumsum(1), []
    for _ in range(40):
        loss = ccc_loss(net(**x), target)
        losses.append(loss.item())
        parameters = list(net.parameters())
        with torch.no_grad():
            for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                p -= 0.2 * g
    assert losses[-1] < 0.4 * losses[0]


def test_arms_of_one_seed_start_from_the_same_streams():
    def weights(part, **options):
        torch.manual_seed(5)
        return getattr(MimamoNet(**SMALL, **options), part).state_dict()

    for part, arm in (("spatial", "spatial"), ("phase", "temporal"), ("phase_mlp", "temporal")):
        both = weights(part)
        alone = weights(part, streams=arm)
        assert all(torch.equal(both[key], alone[key]) for key in both)


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"streams": "flow"}, {"phase_widths": (8,)}, {"recurrent": False, "legacy_gru_axis": True}],
)
def test_bad_options(options):
    refused(lambda: MimamoNet(**(SMALL | options)))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"features": None}, "features"),
        ({"level_2": None}, "level_2"),
        ({"features": torch.zeros(3, 5, 11)}, "features"),
        ({"features": torch.zeros(15, 10)}, "features"),
        ({"level_1": torch.zeros(3, 4, 4, 16, 16)}, "level_1"),
        ({"level_1": torch.zeros(3, 5, 5, 16, 16)}, "level_1"),
        ({"level_2": torch.zeros(3, 5, 4, 16, 16)}, "level_2"),
        ({"level_1": torch.zeros(3, 5, 4, 15, 16)}, "level_2"),
        ({"level_1": torch.zeros(3, 5, 4, 6, 16)}, "level_1"),
        ({"mask": torch.ones(3, 5)}, "mask"),
        ({"mask": torch.ones(5, 3, dtype=torch.bool)}, "mask"),
    ],
    ids=str,
)
@pytest.mark.parametrize("omg", [False, True])
def test_bad_input(change, what, omg):
    net = network(omg=omg)
    refused(lambda: net(**(inputs() | change)), f"{what}:")


def test_batch_norm_needs_two():
    net = network().train()
    refused(lambda: net(**inputs(B=1, S=1)), "two snippets")
    net = network(omg=True).train()
    refused(lambda: net(**inputs(B=1)), "two utterances")


@pytest.mark.gpu
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("omg", [False, True])
def test_gpu_agrees(omg, legacy):
    net = network(omg=omg, legacy_gru_axis=legacy)
    x = inputs()
    expected = net(**x, mask=GAPS)
    found = net.cuda()(**{k: v.cuda() for k, v in x.items()}, mask=GAPS).cpu()
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0, equal_nan=True)  # tf32 products
