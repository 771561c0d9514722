"""Published sizes, mining against naive loops, who may influence whom, gradients, odd clips."""

import math
from functools import partial

import pytest
import torch
from refusals import refused
from torch import nn
from torch.nn import functional
from torchvision.models.vgg import cfgs, make_layers

from micromacro.errors import BadInput
from micromacro.systems.akmnet.model import (
    BN_MODES,
    AkmNet,
    AkmOutput,
    FrameNet,
    Miner,
    Mining,
    PixelGru,
    StillNet,
    Vgg11,
    akm_loss,
    count_loss,
    margin_loss,
    select,
    straight_through,
)

SMALL = {"widths": (4, 6), "image_px": (17, 22), "gru_hidden": 3}  # maps 6 x 3 x 3
STEPS = ["s123", "s12", "s13", "s23", "none"]
SELECTING = ["s123", "s13", "s23"]
LENGTHS = [5, 1, 8, 2]
# Another batch only rounds differently: outputs are of order 1, float32 carries 1.2e-7.
ROUNDING = {"atol": 1e-5, "rtol": 0}


def network(seed=0, **options):
    """A small network in eval mode, its batch statistics those of a random batch."""
    torch.manual_seed(seed)
    net = AkmNet(3, **(SMALL | options))
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = 1.0
    net.frame_net(clips([16], seed=100)[0])
    for norm in norms:
        norm.momentum = 0.1
    nn.init.normal_(net.gru.gru.bias_ih_l0)  # so that places and clips differ
    return net.eval()


def clips(lengths=LENGTHS, seed=1, size=(17, 22), dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(T, 1, *size, generator=generator, dtype=dtype) for T in lengths]


def feature_maps(lengths=LENGTHS, C=6, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(sum(lengths), C, 3, 2, generator=generator, dtype=torch.float64)


def count(module):
    return sum(p.numel() for p in module.parameters())


# ---- the published sizes ------------------------------------------------------------------------


def test_a_vgg_is_torchvisions_on_grey_frames():
    torch.manual_seed(0)
    theirs, ours = make_layers(cfgs["A"]).eval(), Vgg11().eval()
    wider = ours[3].weight  # twice as many channels come out as go in
    assert wider.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)  # fan-in
    state = theirs.state_dict()
    state["0.weight"] = state["0.weight"].sum(1, keepdim=True)  # three equal colours
    ours.load_state_dict(state)
    assert count(ours) == 9_219_328
    frames = torch.rand(2, 1, 128, 97)
    with torch.no_grad():
        expected = theirs(frames.expand(-1, 3, -1, -1))  # (2, 512, 4, 3)
        torch.testing.assert_close(ours(frames), expected, **ROUNDING)
        maps = ours.freeze(16).frozen_maps(frames)
        torch.testing.assert_close(ours(maps, after=16), expected, **ROUNDING)
    assert [p.requires_grad for p in ours.parameters()] == [False] * 12 + [True] * 4
    refused(lambda: Vgg11(0), "width")
    refused(lambda: StillNet(Vgg11(8), 3)(torch.rand(2, 1, 31, 40)), "(31, 40) px", "at least 32")
    assert StillNet(Vgg11(9), 3)(torch.rand(2, 1, 32, 40)).shape == (2, 3)


def test_the_published_network():
    torch.manual_seed(0)
    net, seen = AkmNet(), []
    parts = [count(part) for part in (net.frame_net, net.miner, net.gru, net.classifier)]
    assert parts == [11_168_704, 513, 123_648, 4_100]
    assert count(net) == 11_296_965
    inner, last = net.frame_net.layer2[0].conv1, net.classifier
    assert inner.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)  # fan-out
    assert last.weight.std().item() == pytest.approx(math.sqrt(2 / (4 + 64 * 16)), rel=0.05)
    assert not last.bias.any() | net.miner.attention.bias.any()
    for part in net.frame_net:
        part.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape[1:])))
    assert net.eval()([torch.rand(2, 1, 128, 128)]).logits.shape == (1, 4)
    assert seen == [(64, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_the_stem_by_hand():
    net, frames = FrameNet((4,)).eval(), clips()[0]
    maps = functional.conv2d(frames, net.stem[0].weight, stride=2, padding=2)
    maps = functional.max_pool2d((maps / math.sqrt(1 + 1e-5)).relu(), 3, stride=2, padding=1)
    torch.testing.assert_close(net.stem(frames), maps)


@pytest.mark.parametrize("size", [(17, 22), (48, 48), (35, 41)])
@pytest.mark.parametrize("widths", [(4,), (3, 4, 5)])
def test_shape_says_what_comes_out(widths, size):
    net = FrameNet(widths, blocks=1).eval()
    for parts in range(len(net) + 1):
        maps = net.freeze(parts).frozen_maps(torch.rand(1, 1, *size))
        assert maps.shape[1:] == net.shape(size, parts)


@pytest.mark.parametrize("legacy", [False, True])
def test_start_of_the_gru(legacy):
    torch.manual_seed(0)
    for name, p in PixelGru(20, 16, legacy_init=legacy).gru.named_parameters():
        plain = legacy and name.endswith("_reverse")  # PyTorch's start, up to 1 / sqrt(hidden)
        if name.startswith("weight"):
            square = p.T @ p if p.shape[0] > p.shape[1] else p @ p.T
            gap = (square - torch.eye(len(square))).abs().max()
            assert (gap < 1e-5) != plain, name
        else:
            low, high = (-0.25, 0.25) if plain else (0, legacy)
            assert low <= p.min() <= p.max() <= high, name
            assert p.mean().item() == pytest.approx((low + high) / 2, abs=0.15), name


# ---- mining, in naive loops ---------------------------------------------------------------------


def naive_mining(P, steps, w, b):
    """One clip of maps (T, C, h, w), float64, number by number: alpha, beta, kept, key maps."""
    T, C = P.shape[:2]
    p = [[P[t, c].sum().item() / P[t, c].numel() for c in range(C)] for t in range(T)]
    alpha = beta = None
    if "1" in steps:
        alpha = [1 / (1 + math.exp(-b - sum(w[c] * p[t][c] for c in range(C)))) for t in range(T)]
    if "2" in steps:
        weights = alpha or [1.0] * T
        G = [sum(weights[t] * p[t][c] for t in range(T)) for c in range(C)]
        beta = [
            sum(x * g for x, g in zip(p[t], G, strict=True)) / math.hypot(*p[t]) / math.hypot(*G)
            for t in range(T)
        ]
    if steps == "s12":
        return alpha, beta, [True] * T, [P[t] * beta[t] for t in range(T)]
    score = beta or alpha
    kept = [s > sum(score) / T for s in score]
    if not any(kept):
        kept[score.index(max(score))] = True
    return alpha, beta, kept, [P[t] for t in range(T) if kept[t]]


@pytest.mark.parametrize("steps", STEPS[:-1])
def test_mining_is_the_naive_one(steps):
    torch.manual_seed(3)
    miner, P = Miner(6, steps).double(), feature_maps()
    w, b = None, None
    if miner.attention is not None:
        nn.init.constant_(miner.attention.bias, -0.3)
        w, b = miner.attention.weight[0].tolist(), -0.3
    key, mining = miner(P, LENGTHS)
    alpha, beta, kept, maps = zip(
        *(naive_mining(clip, steps, w, b) for clip in P.split(LENGTHS)), strict=True
    )
    for values, naive in ((mining.alpha, alpha), (mining.beta, beta)):
        if naive[0] is None:
            assert values is None
        else:
            flat = torch.tensor([x for clip in naive for x in clip], dtype=torch.float64)
            torch.testing.assert_close(values, flat, rtol=0, atol=1e-14)
    flat = [k for clip in kept for k in clip]
    assert mining.kept.tolist() == flat
    assert mining.takes == [sum(clip) for clip in kept]
    torch.testing.assert_close(key, torch.stack([m for clip in maps for m in clip]))
    if steps == "s12":
        assert mining.binary is None
        return
    assert mining.binary.tolist() == [float(k) for k in flat]
    assert 0 < sum(flat) < len(flat)
    margins, counts = [], []
    for s, k, key_frame in zip(beta if beta[0] else alpha, kept, mining.max_key(), strict=True):
        assert key_frame == s.index(max(s))
        sides = [[x for x, up in zip(s, k, strict=True) if up == side] for side in (True, False)]
        up, down = (sum(side) / max(1, len(side)) for side in sides)
        margins.append(2 - (up - down if down else 0))
        counts.append(max(0, sum(k) - 1))
    assert margin_loss(mining).item() == pytest.approx(sum(margins) / 4, abs=1e-13)
    assert count_loss(mining).item() == pytest.approx(sum(counts) / 4, abs=1e-13)


def test_the_cosine_can_tell_frames_that_hardly_differ():
    """A new network's cosines differ by 1e-5 and less; float32 would round half of that away."""
    miner = Miner(6, "s23")
    base, way = feature_maps([2])[:, :, :1, :1].float()
    maps = base + 1e-4 * way * torch.tensor([0.0, 1, 2, 3, 4])[:, None, None, None]
    _, mining = miner(maps, [5])
    assert mining.beta.dtype == torch.float64
    assert mining.beta.max() - mining.beta.min() < 1e-7
    assert mining.max_key() == [2]  # nearest the mean
    assert mining.kept.tolist() == [False, True, True, True, False]


# ---- the whole network, one clip and one place at a time ----------------------------------------


@pytest.mark.parametrize("bn", BN_MODES)
@pytest.mark.parametrize("steps", STEPS)
def test_the_network_by_hand(steps, bn):
    net, batch = network(steps=steps, bn=bn), clips()
    together = net(batch).logits
    assert together.std() > 0.01
    assert torch.equal(net(torch.cat(batch), torch.tensor(LENGTHS)).logits, together)
    for clip, logits in zip(batch, together, strict=True):
        maps = torch.cat([net.frame_net(frame[None]) for frame in clip])
        places = net.miner(maps, [len(clip)])[0].flatten(2).unbind(2)
        sequences = torch.stack([net.gru.gru(place)[0].mean(0) for place in places], 1)
        torch.testing.assert_close(logits, net.classifier(sequences.flatten()), **ROUNDING)


def test_a_plain_batch_is_its_clips():
    net, batch = network(), torch.stack(clips([5, 5, 5]))
    plain, ragged = net(batch), net(list(batch))
    assert torch.equal(plain.logits, ragged.logits)
    assert plain.mining.lengths == (5, 5, 5)
    net.frame_net.freeze(1)
    maps = net.frame_net.frozen_maps(batch.flatten(0, 1)).unflatten(0, (3, 5))
    torch.testing.assert_close(net(maps, after=1).logits, plain.logits, **ROUNDING)


# ---- batch norm ---------------------------------------------------------------------------------


def without_dropout(net):
    net.dropout.p = 0.0
    return net.train()


def state_of(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("bn", BN_MODES)
def test_whose_statistics_train(bn):
    batch, net, seen = clips(), without_dropout(network(bn=bn, steps="none")), []
    before = state_of(net)
    hook = net.frame_net.stem[1].register_forward_hook(lambda _m, _i, out: seen.append(out.clone()))
    together, after = net(batch).logits, state_of(net)
    hook.remove()
    for maps in seen:
        assert (maps.mean((0, 2, 3)).abs().max() < 1e-5) == (bn != "frozen")
    assert [len(maps) for maps in seen] == (LENGTHS if bn == "released" else [sum(LENGTHS)])
    net.load_state_dict(before)
    alone = torch.cat([net([clip]).logits for clip in batch])
    assert ((together - alone).abs().max() < 1e-5) == (bn != "packed")
    for name in (name for name in before if "running" in name):
        assert torch.equal(after[name], net.state_dict()[name]) == (bn != "packed")
        assert torch.equal(after[name], before[name]) == (bn == "frozen")


def test_frozen_parts():
    net = without_dropout(network())
    net.frame_net.freeze(2)
    before, batch = state_of(net), clips()
    maps = [net.frame_net.frozen_maps(clip) for clip in batch]
    torch.testing.assert_close(net(maps, after=2).logits, net(batch).logits, **ROUNDING)
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    akm_loss(net(batch), torch.tensor([0, 1, 2, 0])).backward()
    optimiser.step()
    for name, value in net.state_dict().items():
        fixed = name.startswith(("frame_net.stem", "frame_net.layer1"))
        assert torch.equal(value, before[name]) == fixed, name
    net.frame_net.freeze(0)
    assert all(p.requires_grad for p in net.parameters())
    assert net.frame_net.stem[1].training


def test_dropout_before_the_classifier_only():
    net, seen = network(bn="frozen", steps="none").train(), []
    net.classifier.register_forward_hook(lambda _m, inputs, _out: seen.append(inputs[0]))
    net(clips())
    net.eval()(clips())
    dropped = seen[0] == 0
    assert 0.3 < dropped.float().mean() < 0.7
    torch.testing.assert_close(seen[0], torch.where(dropped, 0, 2 * seen[1]), **ROUNDING)


# ---- gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
def test_both_straight_through_rules_by_hand(legacy):
    """s13, where d alpha_t / d w = alpha_t (1 - alpha_t) p_t: gradients written out."""
    torch.manual_seed(1)
    miner = Miner(6, "s13", legacy_straight_through=legacy).double()
    P, w = feature_maps([5, 4]).requires_grad_(), miner.attention.weight
    key, mining = miner(P, [5, 4])
    p = P.mean((-2, -1))
    slope = (mining.alpha * (1 - mining.alpha))[:, None] * p
    upstream = torch.rand(P.shape, generator=torch.Generator().manual_seed(5)).double()
    kept = mining.kept

    grad, to_maps = torch.autograd.grad((key * upstream[kept]).sum(), (w, P), retain_graph=True)
    along = (P * upstream).sum((1, 2, 3))  # classification: the kept frames only, by either rule
    torch.testing.assert_close(grad[0], (along[:, None] * slope)[kept].sum(0))
    through_alpha = (along * mining.alpha * (1 - mining.alpha))[:, None] * w / 6  # 3 x 2 places
    due = kept[:, None, None, None] * (upstream + through_alpha[:, :, None, None])
    torch.testing.assert_close(to_maps, due)

    (grad,) = torch.autograd.grad(count_loss(mining), w, retain_graph=True)
    reached = slope if legacy else slope[kept]
    torch.testing.assert_close(grad[0], reached.sum(0) / 2)

    (grad,) = torch.autograd.grad(margin_loss(mining), w)  # nothing to do with the binariser
    margin = 0
    for s, k in zip(slope.split([5, 4]), kept.split([5, 4]), strict=True):
        margin = margin - (s[k].mean(0) - s[~k].mean(0)) / 2
    torch.testing.assert_close(grad[0], margin)


@pytest.mark.parametrize(("level", "reaches"), [(-0.5, False), (0.5, True), (1.5, False)])
def test_the_released_rule_asks_for_a_mean_between_0_and_1(level, reaches, monkeypatch):
    score = torch.tensor([level - 0.1, level + 0.1], dtype=torch.float64, requires_grad=True)
    miner = Miner(6, "s23", legacy_straight_through=True)
    monkeypatch.setattr(miner, "_scores", lambda *_: (None, score))
    _, mining = miner(feature_maps([2]), [2])
    (grad,) = torch.autograd.grad(mining.binary.sum(), score)
    assert grad.tolist() == [float(reaches)] * 2


@pytest.mark.parametrize(("scores", "due"), [([0.1, 0.2], [0, 0]), ([0.1, 0.5, 0.6], [0, 1, 1])])
def test_the_count_loss_has_no_gradient_below_two_frames(scores, due):
    score = torch.tensor(scores, requires_grad=True)
    kept = select(score, [len(scores)])
    binary = straight_through(score, kept, kept)
    loss = count_loss(Mining((len(scores),), kept, beta=score, binary=binary))
    assert torch.autograd.grad(loss, score)[0].tolist() == due


@pytest.mark.parametrize("steps", STEPS)
def test_arms_of_one_seed_start_from_the_same_weights(steps):
    torch.manual_seed(5)
    full = AkmNet(**SMALL).state_dict()
    torch.manual_seed(5)
    arm = AkmNet(**SMALL, steps=steps).state_dict()
    assert all(torch.equal(full[name], value) for name, value in arm.items())
    assert ("miner.attention.weight" in arm) == ("1" in steps)


# ---- loss and training --------------------------------------------------------------------------


@pytest.mark.parametrize("steps", STEPS)
def test_the_loss_is_the_sum_of_its_terms(steps):
    out, target = network(steps=steps)(clips()), torch.tensor([2, 0, 1, 1])
    expected = functional.cross_entropy(out.logits, target)
    if steps in SELECTING:
        assert 1 <= margin_loss(out.mining).item() <= 2
        expected = expected + 0.1 * count_loss(out.mining) + margin_loss(out.mining)
    loss = akm_loss(out, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


# ---- odd clips ----------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("bn", BN_MODES)
@pytest.mark.parametrize("steps", STEPS)
def test_single_short_constant_and_black_clips(steps, bn, legacy):
    net = network(steps=steps, bn=bn, legacy_selection=legacy, legacy_straight_through=legacy)
    odd = [*clips([1, 2]), clips([1], seed=7)[0].expand(7, 1, 17, 22), torch.zeros(5, 1, 17, 22)]
    for batch in (*([clip] for clip in odd), odd, [*clips(), *odd]):
        net.train().zero_grad()
        out = net(batch)
        loss = akm_loss(out, torch.zeros(len(batch), dtype=torch.int64))
        loss.backward()
        assert out.logits.isfinite().all()
        assert loss.isfinite()
        assert all(p.grad.isfinite().all() for p in net.parameters())
    assert all(p.grad.any() for p in net.parameters())  # no parameter is idle
    selected = [1, 1, 7, 5] if legacy else [1, 1, 1, 1]
    assert out.mining.takes[4:] == (selected if steps in SELECTING else [1, 2, 7, 5])
    masks = out.mining.split(out.mining.kept)[4:]
    assert all(masks[i][0] for i in (0, 2, 3))  # the first of equal frames


def test_a_constant_clip_of_any_length_keeps_its_first_frame():
    net = network()
    (frame,) = clips([1], seed=8)
    batch = [frame.expand(T, 1, 17, 22) for T in range(1, 60)]
    mining = net(batch).mining
    assert mining.takes == [1] * 59
    assert all(kept[0] for kept in mining.split(mining.kept))
    assert margin_loss(mining).item() == pytest.approx(2, abs=1e-6)


def test_equal_scores_whose_mean_rounds_above_or_below_them():
    equal = [torch.full((T,), 0.1 + 0.2) for T in range(1, 200)]
    assert any(score.mean() != score[0] for score in equal)  # so it happens
    for score in equal:
        assert select(score, [len(score)], tie=1e-6).nonzero().flatten().tolist() == [0]
        assert select(score, [len(score)], tie=1e-6, keep_ties=True).all()


def test_of_frames_that_only_rounding_tells_apart_the_first_is_kept():
    score = torch.tensor([0.5, 0.5 + 1e-8, 0.5 - 1e-8, 0.5 + 2e-8, 0.1, 0.5], dtype=torch.float64)
    assert select(score, [4, 2], tie=1e-6).tolist() == [True, False, False, False, False, True]


def test_ties_with_the_mean():
    score = torch.tensor([0.25, 0.5, 0.75])
    for keep_ties in (False, True):
        assert select(score, [3], keep_ties=keep_ties).tolist() == [False, keep_ties, True]


def test_dead_features_do_not_spoil_the_gradient():
    maps = feature_maps([4])
    maps[1] = 0
    maps.requires_grad_()
    key, mining = Miner(6).double()(maps, [4])
    (key.sum() + margin_loss(mining) + count_loss(mining)).backward()
    assert maps.grad.isfinite().all()
    assert mining.beta[1] == 0


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["steps=s1", "bn=batch", "widths=", "image_px=8", "image_px=64,8"])
def test_bad_options(case):
    option, _, text = case.partition("=")
    value = {"8": 8, "64,8": (64, 8)}.get(text, text)
    refused(lambda: AkmNet(**(SMALL | {option: value})), option)


def test_the_smallest_image_that_is_taken():
    net = AkmNet(3, **(SMALL | {"image_px": 9})).train()
    assert net([torch.rand(1, 1, 9, 9)]).logits.isfinite().all()


BAD = {  # shapes of frames, those of a list after one another, : lengths
    "clips": "none 3x1x17x22+3x1x17x21 0x3x1x17x22",
    "lengths": "3x1x17x22+0x1x17x22 3x1x17x22+:3 2x3x1x17x22:3,3 2x0x1x17x22 3x1x17x22"
    " 3x1x17x22:2 3x1x17x22:3,0 3x1x17x22:-",
    "frames": "2x3x2x17x22 3x3x17x22:3 3x1x22x17:3 3x17x22:3",
}


@pytest.mark.parametrize(
    ("what", "case"), [(what, case) for what, cases in BAD.items() for case in cases.split()]
)
def test_bad_shapes(what, case):
    shapes, _, lengths = case.partition(":")
    parts = [s for s in shapes.removeprefix("none").split("+") if s]
    frames = [torch.rand(*map(int, part.split("x"))) for part in parts]
    frames = frames if "+" in case or not frames else frames[0]
    lengths = [int(n) for n in lengths.split(",") if n.isdigit()] if lengths else None
    refused(lambda: network()(frames, lengths), f"{what}:")


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_bad_pixels(value):
    frames = torch.rand(3, 1, 17, 22)
    frames[1, 0, 5, 5] = value or 0
    if value is None:
        frames = frames.byte()  # bytes in a list of floats would join them unscaled
    for batch in ((frames, [3]), ([*clips(), frames],)):
        with pytest.raises(BadInput, match=r"^(frames|clips):"):
            network()(*batch)


def test_bad_freeze_and_target():
    net = network()
    for parts in (-1, 4):
        refused(partial(net.frame_net.freeze, parts), "parts", parts)
    out = net(clips())
    for target in (torch.zeros(3, dtype=torch.int64), torch.zeros(4), torch.zeros(4, 3)):
        refused(partial(akm_loss, out, target), "target")
    mining = network(steps="none")(clips()).mining
    assert mining.takes == LENGTHS
    assert mining.alpha is mining.beta is mining.binary is mining.score is None
    refused(mining.max_key, "nothing was mined")
    for loss in (count_loss, margin_loss):
        refused(partial(loss, mining), "mining")


@pytest.mark.gpu
def test_gpu_agrees():
    net, batch = network(), clips()
    here = net(batch)
    there = net.cuda()([clip.cuda() for clip in batch])
    assert isinstance(there, AkmOutput)
    torch.testing.assert_close(there.logits.cpu(), here.logits, atol=5e-3, rtol=0)  # tf32 products
