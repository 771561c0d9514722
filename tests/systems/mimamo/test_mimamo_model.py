"""Sizes of the published networks, who may influence whom, the released faults."""

import pytest
import torch
from refusals import refused
from torch import nn

from micromacro.systems.mimamo import MimamoNet, OmgNet, PhaseNet, ccc_loss

SMALL = {"n_features": 10, "phase_channels": 4, "phase_widths": (4, 6, 8), "hidden": 12}
ARMS = [{}, {"streams": "spatial"}, {"streams": "temporal"}, {"recurrent": False}]
LEGACY = {"legacy_gru_axis": True}
# Tolerance of "does not change": another batch size may only round differently. Outputs are of
# order 1, float32 carries 1.2e-7, and each passes through some ten layers.
ROUNDING = {"atol": 1e-5, "rtol": 0}


def network(seed=0, omg=False, **options):
    """A small network in eval mode, its batch statistics those of a random batch."""
    torch.manual_seed(seed)
    make = OmgNet if omg else MimamoNet
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


def rates(net):
    """Rates of all dropouts, those inside a GRU too."""
    layers = [m for m in net.modules() if isinstance(m, nn.Dropout | nn.Dropout2d | nn.GRU)]
    return sorted(m.dropout if isinstance(m, nn.GRU) else m.p for m in layers)


# ---- the published sizes ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    return MimamoNet().eval(), OmgNet().eval()


def test_parameters_of_the_published_networks(published):
    net, omg = published
    parts = count(net.spatial), count(net.phase), count(net.phase_mlp), count(net.fusion)
    assert parts == (591_360, 1_186_944, 1_319_811 - 259 - 1_186_944, 131_840)
    assert (count(net.gru), count(net.head)) == (592_896, 518)
    assert count(net) == 2_636_425 - 259 == 2_636_166
    assert isinstance(omg, OmgNet)
    assert count(omg) == 2_241_031 - 259 - 257 == 2_240_515
    assert [count(gru) for gru in omg.grus] == [198_144] * 2
    assert [gru.gru.weight_hh_l1_reverse.numel() for gru in omg.grus] == [12_288] * 2  # never act


def test_layers_of_the_released_code(published):
    net, omg = published
    assert names(net.spatial) == ["Dropout", "Linear", "BatchNorm1d", "ReLU"] * 2
    assert names(net.phase_mlp) == ["Linear", "ReLU", "BatchNorm1d", "Dropout"] * 2
    assert names(net.fusion) == ["Linear", "ReLU", "BatchNorm1d", "Dropout"]
    assert names(net.head) == ["Dropout", "Linear", "BatchNorm1d"]
    conv = ["Conv2d", "BatchNorm2d", "ReLU"] * 2
    assert [names(block) for block in net.phase.blocks] == [conv] * 3
    assert [(b[0].stride, b[3].stride) for b in net.phase.blocks] == [((1, 1), (2, 2))] * 3
    assert rates(net) == [0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.5, 0.5]  # with that of the GRU
    assert names(omg.spatial) == ["Linear", "ReLU", "BatchNorm1d", "Dropout"] * 2
    assert names(omg.phase_mlp) == ["Linear", "ReLU", "Dropout"]
    assert rates(omg) == [0.2, 0.2, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert {*rates(MimamoNet(**SMALL, dropout=0.1))} == {0.1}  # one for all


def test_maps_of_the_published_forward(published):
    net, omg = published
    x, seen = (torch.randn(1, 2, 2048), *(torch.randn(1, 2, 24, n, n) for n in (48, 24))), []
    for block in net.phase.blocks:
        block.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape)))
    assert net(*x).shape == (1, 2, 2)
    assert omg(*x).shape == (1, 1)
    assert seen == [(2, 64, 24, 24), (2, 128, 12, 12), (2, 256, 6, 6)]


def test_phasenet_drops_whole_maps_after_every_block_but_the_first():
    torch.manual_seed(0)
    net, dropped = PhaseNet(4, (8, 8, 8, 8)).train(), []
    net.dropout.register_forward_hook(lambda _m, _i, out: dropped.append(out.shape[-1]))
    net(torch.randn(3, 4, 32, 32), torch.randn(3, 4, 16, 16))
    assert dropped == [8, 4, 2]
    assert isinstance(net.dropout, nn.Dropout2d)


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
    if gru.legacy_axis:
        return gru.gru(steps)[0]  # (batch, time, feature) read as (time, batch, feature)
    return gru.gru(steps.transpose(0, 1))[0].transpose(0, 1)


def needed(options, x):
    """The inputs without those of the stream that is dropped."""
    dropped = {"spatial": "level", "temporal": "feat"}.get(options.get("streams"), "nothing")
    return {name: value for name, value in x.items() if not name.startswith(dropped)}


def by_hand_streams(net, x):
    streams = []
    if net.spatial is not None:
        streams.append(net.spatial(x["features"].flatten(0, 1)).view(3, 5, 12))
    if net.phase is not None:
        streams.append(by_hand_phase(net, x["level_1"], x["level_2"]))
    return streams


@pytest.mark.parametrize("options", [*ARMS, LEGACY], ids=str)
def test_mimamo_net_by_hand(options):
    net, x = network(**options), inputs()
    steps = net.fusion(torch.cat(by_hand_streams(net, x), 2).flatten(0, 1)).view(3, 5, 12)
    steps = steps if net.gru is None else by_hand_gru(net.gru, steps)
    expected = net.head(steps.flatten(0, 1)).view(3, 5, 2)
    assert expected.std() > 0.01
    torch.testing.assert_close(net(**needed(options, x)), expected, **ROUNDING)


@pytest.mark.parametrize("options", [*ARMS[:3], LEGACY], ids=str)
def test_omg_net_by_hand(options):
    net, x, ends = network(omg=True, **options), inputs(), []
    for gru, steps in zip(net.grus, by_hand_streams(net, x), strict=True):
        last = by_hand_gru(gru, steps)[:, -1].clamp(min=0)
        ends.append(last[:, :7] + last[:, 7:])
    expected = net.head(torch.cat(ends, 1))
    torch.testing.assert_close(net(**needed(options, x)), expected, **ROUNDING)


# ---- who may influence whom ---------------------------------------------------------------------


GAPS = torch.tensor([[1, 1, 0, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 0, 1]], dtype=torch.bool)


@pytest.mark.parametrize("options", [*ARMS, LEGACY, {"omg": True}, LEGACY | {"omg": True}], ids=str)
def test_a_masked_sequence_is_the_shorter_sequence(options):
    """Padding at the end, and gaps: the state is carried over, whatever lies there."""
    net, x, omg = network(**options), inputs(), "omg" in options
    together = net(**x, mask=GAPS)
    spoiled = {k: v.clone() for k, v in x.items()}
    for v in spoiled.values():
        v[~GAPS] = torch.nan
    torch.testing.assert_close(net(**spoiled, mask=GAPS), together, rtol=0, atol=0, equal_nan=True)
    assert omg or torch.equal(together.isfinite().all(-1), GAPS)
    for b in range(0 if "legacy_gru_axis" in options else 3):
        alone = net(**{k: v[b, GAPS[b]][None] for k, v in x.items()})[0]
        torch.testing.assert_close(alone, together[b] if omg else together[b, GAPS[b]], **ROUNDING)


def test_no_snippet_at_all():
    net, none = network(), torch.zeros(3, 5, dtype=torch.bool)
    assert net(**inputs(), mask=none).isnan().all()
    net = network(omg=True)
    none[1] = True
    found = net(**inputs(), mask=none)
    assert found.isnan().all(1).tolist() == [True, False, True]


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_of_the_omg_network_that_never_act(legacy):
    net = network(omg=True, legacy_gru_axis=legacy)
    net(**inputs()).square().sum().backward()
    still = {k for k, p in net.named_parameters() if (p.grad == 0).all()}
    dead = {f"grus.{i}.gru.weight_hh_l1_reverse" for i in (0, 1)}
    assert still == (set() if legacy else dead)


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


@pytest.mark.parametrize("options", [*ARMS, LEGACY], ids=str)
def test_gradients_reach_every_parameter_and_are_finite(options):
    net = network(**options).train()
    ccc_loss(net(**inputs(), mask=GAPS), torch.randn(3, 5, 2), GAPS).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_arms_of_one_seed_start_from_the_same_streams():
    def weights(part, **options):
        torch.manual_seed(5)
        return getattr(MimamoNet(**SMALL, **options), part).state_dict()

    for part, arm in (("spatial", "spatial"), ("phase", "temporal"), ("phase_mlp", "temporal")):
        torch.testing.assert_close(weights(part), weights(part, streams=arm), rtol=0, atol=0)


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"streams": "flow"}, {"phase_widths": (8,)}, LEGACY | {"recurrent": False}]
)
def test_bad_options(options):
    refused(lambda: MimamoNet(**(SMALL | options)))


BAD = "features level_2 features:3x5x11 features:15x10 level_1:3x4x4x16x16 level_1:3x5x5x16x16"
BAD += " level_2:3x5x4x16x16 level_2:3x5x4x8x7 level_1:3x5x4x6x16 mask:5x3"


@pytest.mark.parametrize("case", BAD.split())
def test_bad_input(case):
    name, _, shape = case.partition(":")
    wrong = torch.zeros(*map(int, shape.split("x")), dtype=torch.bool) if shape else None
    refused(lambda: network()(**(inputs() | {name: wrong})), f"{name}:")


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
