"""Labels by hand; streams against whole arrays, in any chunks; flow added up; a net that learns."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from torch.nn import functional

from micromacro.motion.fields import main_direction, steadied
from micromacro.motion.flow import summed_flow
from micromacro.systems.spotting import SpottingNet, inputs
from micromacro.systems.spotting.inputs import Pairs, labels, references, scores, stream
from micromacro.training import Batches, Recipe, isolated_rng, predict, train

K = {"micro": 2, "macro": 5}


def events(*rows):
    return pd.DataFrame(rows, columns=["label", "onset", "offset"])


# ---- references and labels -----------------------------------------------------------------------


def test_gaps_are_half_the_mean_length_rounded_down():
    # Mean lengths of the official sheets: 74.3 and 349, 13.6 and 36.4 frames.
    for tenths, half in (((743, 3490), [37, 174]), ((136, 364), [6, 18])):
        whole = zip(("micro", "macro"), tenths, strict=True)
        rows = [(name, 0, n // 10 - (i >= n % 10)) for name, n in whole for i in range(10)]
        assert [*inputs.gaps(events(*rows)).values()] == half
    assert inputs.gaps(events(("macro", 3, 3), ("micro", 4, 4))) == {"micro": 1, "macro": 1}
    refused(lambda: inputs.gaps(events(("macro", 3, 9))), "events", "micro")


def test_references_by_hand():
    assert references(4, K).tolist() == [[0, 0], [0, 0], [0, 0], [1, 0]]
    assert references(7, K, "future").tolist()[:3] == [[2, 5], [3, 6], [4, 6]]
    assert references(7, K, "symmetric").tolist()[3] == [1, 5, 0, 6]
    refused(lambda: references(3, K, "both"), "'both'", "past")
    refused(lambda: references(3, {"micro": 0}), "gaps", "1 frame")


def test_labels_by_hand():
    truth = events(("micro", 4, 5), ("macro", 9, 99))
    inside = labels(truth, 11, K)
    assert inside.T.tolist() == [[0] * 4 + [1, 1] + [0] * 5, [0] * 9 + [1, 1]]
    third, nan = 1 / 3, np.nan
    for side, rule, expected in (  # windows of 2 frames, or of 3
        ("future", "overlap", [0, 0, 0, 1, 1, 1, nan, nan]),
        ("future", "soft", [0, 0, 0, third, 1, third, nan, nan]),
        ("past", "overlap", [nan, nan, 0, 0, 1, 1, 1, 0]),
        ("symmetric", "overlap", [nan, nan, 0, 1, 1, 1, nan, nan]),
        ("symmetric", "soft", [nan, nan, 0, 0.25, 2 * third, 2 * third, nan, nan]),
    ):
        made = labels(truth[:1], 8, K, side, rule)
        np.testing.assert_allclose(made[:, 0], expected, rtol=1e-6, err_msg=f"{side} {rule}")
        assert not (made[:, 1] > 0).any()
    two = labels(events(("micro", 0, 3), ("micro", 2, 3)), 5, K, "future", "soft")[:, 0]
    np.testing.assert_allclose(two, [0.5, 0.5, 1, nan, nan])  # overlapping truth: the best
    assert labels(events(), 3, K).tolist() == [[0, 0]] * 3
    refused(lambda: labels(truth, 8, K, "past", "iou"), "rule 'iou'", *inputs.LABELS)


# ---- batches -------------------------------------------------------------------------------------


def numbered(n, start=0):
    return torch.arange(start, start + n, dtype=torch.float32).view(n, 1, 1, 1)


def test_pairs_are_balanced_and_stay_within_their_video():
    truth = events(("micro", 4, 5), ("macro", 10, 19), ("macro", 5, 5))
    videos = [(numbered(60), labels(truth, 60, K)), (numbered(9, 1000), labels(events(), 9, K))]
    made = Pairs(videos, K, "symmetric", size=100, steps=60)
    epochs = [list(made(torch.Generator().manual_seed(1))) for _ in range(2)]
    drawn, again = (torch.cat([frames for frames, _ in epoch]).flatten(1) for epoch in epochs)
    assert torch.equal(drawn, again)
    assert len(made) == 60
    for n, start in ((60, 0), (9, 1000)):
        own = drawn[(drawn[:, 0] > 999) == (start > 0)] - start
        assert torch.equal(own[:, 1:], references(n, K, "symmetric")[own[:, 0].long()].float())
    # Frame 5 shows both: it is one of 2 micro and one of 11 macro frames.
    share = [float((drawn[:, 0] == t).double().mean()) for t in (4, 5, 12, 40)]
    assert share == pytest.approx([1 / 6, 1 / 6 + 1 / 33, 1 / 33, 1 / 168], abs=0.015)


def test_frames_without_a_label_are_never_drawn():
    video = numbered(12), labels(events(("micro", 4, 5)), 12, K, "past", "overlap")
    epoch = Pairs([video], K, size=50, steps=9)(torch.Generator().manual_seed(0))
    drawn = torch.cat([frames for frames, _ in epoch])[:, 0]
    assert drawn.unique().tolist() == list(range(5, 12))
    refused(lambda: Pairs([[part[:3] for part in video]], K), "target", "label")


# ---- the stream ----------------------------------------------------------------------------------


HALVES = st.sampled_from([K, {"micro": 1, "macro": 12}, {"one": 3}])
CUTS = st.lists(st.integers(0, 9), max_size=8)


@given(CUTS, st.sampled_from([*inputs.SIDES]), HALVES, st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_a_stream_gives_what_the_whole_video_gives(cuts, side, halves, batch):
    """Chunks of any size, none too; videos shorter than a gap, of one frame, without any."""
    n = sum(cuts)
    parts = list(stream(torch.clone, numbered(n).split(cuts), halves, side, batch))
    expected = torch.cat([torch.arange(n)[:, None], references(n, halves, side)], 1)
    made = torch.cat([torch.zeros(0, expected.shape[1], 1, 1, 1), *parts])
    assert torch.equal(made.flatten(1), expected.float())
    assert all(len(part) == batch for part in parts[:-1])


@pytest.mark.parametrize("side", inputs.SIDES)
def test_a_stream_waits_for_no_more_than_it_needs(side):
    taken, behind, done = 0, [], 0

    def chunks():
        nonlocal taken
        for _ in range(500):
            taken += 3
            yield numbered(3)

    for part in stream(torch.clone, chunks(), K, side, batch=4):
        behind.append(taken - done)
        done += len(part)
    assert done == taken == 1500
    assert max(behind[:-9]) < 4 + (0 if side == "past" else 5) + 3


def test_scores_do_not_hang_on_the_chunks():
    torch.manual_seed(0)
    net = SpottingNet(widths=(3, 3, 5), grid=2, hidden=6, reference="symmetric")
    score, video = partial(scores, net, gaps=K, reference="symmetric"), torch.rand(75, 1, 14, 13)
    whole = score([video])
    assert torch.equal(whole, score(video.split(7)))
    places = torch.cat([torch.arange(75)[:, None], references(75, K, "symmetric")], 1)
    torch.testing.assert_close(whole, net(video[places]).sigmoid().detach())
    assert [score(v).shape[0] for v in ([], [video[:0]], [video[:1]])] == [0, 0, 1]
    lost = torch.arange(75) == 20
    made = score([torch.where(lost[:, None, None, None], 0.0, video)], lost=lost)
    gone = made.isnan().all(1)
    assert gone.nonzero().flatten().tolist() == [15, 18, 20, 22, 25]
    torch.testing.assert_close(made[~gone], whole[~gone])
    refused(lambda: score([video[0]]), "chunk", "(n, C, H, W)")


PEAKS = """
import re, torch
from micromacro.systems.spotting.inputs import scores
def peak_mb(n_chunks, take=iter):
    chunks = take(torch.full((50, 1, 48, 48), 0.5) for _ in range(n_chunks))
    score = scores(lambda x: x.mean((2, 3))[:, 1:3, 0], chunks, {"micro": 37, "macro": 174}, "past")
    assert score.shape == (50 * n_chunks, 2)
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(peak_mb(20), peak_mb(400), peak_mb(400, list))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the peak")
def test_a_long_stream_needs_no_more_memory_than_a_short_one():
    """176 MB in all, in a process of its own; the peak of getrusage would begin at this one's."""
    made = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    short, long, kept = map(float, made.stdout.split())
    assert long - short < 10
    assert kept - short > 150  # were the video kept, it would show


# ---- what the peers see --------------------------------------------------------------------------


def moving(shifts, side=36):
    """A smooth texture that moves right by some px, float32 (n, 1, side, side)."""
    y, x = torch.meshgrid(torch.arange(side) * 1.0, torch.arange(side) * 1.0, indexing="ij")
    frames = [0.5 + 0.2 * torch.sin((x - s) / 2.5 + y / 5) + 0.2 * torch.cos(y / 3) for s in shifts]
    return torch.stack(frames)[:, None]


def test_flow_across_a_gap_at_once_and_added_up():
    video = moving([0.4 * t for t in range(8)])
    at_once = torch.cat([*stream(inputs.gap_flow, [video], K)])
    middle = at_once[..., 12:24, 12:24].mean((-2, -1))
    expected = -0.4 * (torch.arange(8)[:, None] - references(8, K))  # back, to the left
    torch.testing.assert_close(middle[:, :, 0], expected, atol=0.12, rtol=0)
    assert middle[:, :, 1].abs().max() < 0.12
    added = []
    for cuts in ([8], [1, 0, 5, 2]):
        sums = summed_flow(video.split(cuts), method="farneback")
        added.append(torch.cat([*stream(inputs.between, sums, K)]))
    torch.testing.assert_close(*added, atol=1e-6, rtol=0)
    assert (added[0] - at_once)[..., 12:24, 12:24].abs().max() < 0.3
    steady = steadied(at_once + torch.tensor([3.0, -1.0])[:, None, None])
    torch.testing.assert_close(steady, steadied(at_once), atol=1e-5, rtol=0)
    assert steady.flatten(-2).median(-1).values.abs().max() < 1e-6


def test_mdmd_peaks_at_the_apex():
    video = moving([2 * np.exp(-(((t - 20) / 3) ** 2)) for t in range(40)])
    score = inputs.mdmd_scores(video.split(9), {"micro": 6, "macro": 7})
    assert score.argmax(0).tolist() == [20, 20]
    pairs = (torch.stack([video[:-12], to], 1) for to in (video[6:-6], video[12:]))
    near, far = (inputs.gap_flow(pair)[:, 0] for pair in pairs)
    raw = main_direction(near, far)  # of frames 6 to 33
    torch.testing.assert_close(score[11:29, 0], raw[5:-5] - (raw[:-10] + raw[10:]) / 2)
    assert inputs.mdmd_scores([], K).shape == (0, 2)
    assert inputs.mdmd_scores([video[:1]], K).tolist() == [[0, 0]]


# ---- it learns -----------------------------------------------------------------------------------


def person(seed, n=220, side=24):
    """A face of noise with a spot that moves now and then, in a light that drifts; its events."""
    generator, t, rows, strength = torch.Generator().manual_seed(seed), 10, [], torch.zeros(n)
    coarse = torch.rand(1, 1, side // 2, side // 2, generator=generator)
    skin = functional.interpolate(coarse, (side, side), mode="bicubic") * 0.4 + 0.25
    for name, length, px in 3 * (("micro", 10, 1.2), ("macro", 34, 2.4)):
        t += int(torch.randint(2, 12, (1,), generator=generator))
        strength[t : t + length] = px * torch.sin(torch.linspace(0, torch.pi, length)) ** 2
        rows.append((name, t, t + length - 1))
        t += length
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, side)] * 2, indexing="ij")
    spot = torch.exp(-4 * ((x - 0.2) ** 2 + (y - 0.3) ** 2)) * 2 / side
    grid = torch.stack([x.expand(n, -1, -1), y + strength[:, None, None] * spot], -1)
    frames = functional.grid_sample(skin.expand(n, -1, -1, -1), grid, align_corners=True)
    light = torch.sin(torch.arange(n) / 40 + seed)[:, None, None, None]
    return (frames * (1 + 0.3 * light) + 0.05 * light.abs()).clamp(0, 1), events(*rows)


def auc(score, shown):
    return float((score[shown][:, None] > score[~shown]).double().mean())


def test_a_small_net_learns_to_see_movement_in_changing_light():
    seen, others = ([person(i) for i in range(*ends)] for ends in ((12,), (100, 104)))
    half = inputs.gaps(pd.concat([truth for _, truth in seen]))
    batches = Pairs([(f, labels(e, len(f), half)) for f, e in seen], half, size=48, steps=80)
    with isolated_rng(0):
        net = SpottingNet(widths=(8, 8, 16), grid=3, hidden=24)
    loss = functional.binary_cross_entropy_with_logits
    train(net, batches, Recipe(loss, lr=1e-2, epochs=1), seed=0, progress=False)
    made = torch.cat([scores(net, [frames], half) for frames, _ in others])
    target = torch.cat([labels(truth, len(frames), half) for frames, truth in others])
    above_chance = [auc(made[:, k], target[:, k] > 0) for k in range(2)]
    assert min(above_chance) > 0.65, above_chance  # about 0.76; chance is 0.5
    alone = Pairs([(others[0][0], target[:220])], half)
    logits = predict(net, Batches(alone.frames[alone.places], alone.target, 48))
    torch.testing.assert_close(logits.sigmoid(), made[:220])
