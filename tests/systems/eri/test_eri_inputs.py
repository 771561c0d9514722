"""Clips with failed frames and missing parts; batches of like length; what arms do to clips."""

import numpy as np
import pytest
import torch
from refusals import refused
from torch import nn

from micromacro.backbones import BasicBlock, resnet
from micromacro.expression_encoder import load_expression_encoder
from micromacro.systems.eri import EriNet, inputs
from micromacro.systems.eri.inputs import Batches, Clip, Standardised, shuffled, swapped
from micromacro.training import Recipe, predict, train

PARTS = inputs.PARTS


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_clips(n=20, without=()):
    """Of 5 to n + 4 frames; `without` names a part to be missing in every third clip."""
    made = []
    for i in range(n):
        parts = {p: noise(5 + i, d, seed=i) for p, d in zip(PARTS, (6, 4, 3), strict=True)}
        made.append(
            Clip(**{p: None if p in without and i % 3 == 0 else x for p, x in parts.items()})
        )
    return made


def small_net(video=10, audio=3):
    torch.manual_seed(0)
    return EriNet(video, audio, width=16, depth=1, heads=2, mlp=8)


# ---- clips ---------------------------------------------------------------------------------------


def test_failed_frames_show_the_mean_of_the_others():
    local = np.array([[1, 2], [np.nan, np.nan], [3, 6], [5, np.nan]])  # float64, as read from a CSV
    clip = Clip(noise(4, 3), local)
    assert clip.local.tolist() == [[1, 2], [2, 4], [3, 6], [2, 4]]
    assert np.isnan(local).sum() == 3
    assert clip.local.dtype == torch.float32
    lost = Clip(local=np.full((3, 2), np.nan))
    assert lost.local.tolist() == [[0, 0]] * 3
    assert Clip(local=np.zeros((0, 2))).local.shape == (0, 2)


def test_refusals_of_a_clip():
    refused(lambda: Clip(noise(144, 4), noise(143, 2)), "local", "143 rows for 144 frames")
    refused(lambda: Clip(noise(4)), "holistic", "(4,)", "(rows, columns)")


# ---- batches -------------------------------------------------------------------------------------


def test_batches_join_parts_and_pad_at_the_end():
    clips, target = some_clips(3), noise(3, 7)
    ((shown, own),) = Batches(clips, target, 3)
    assert torch.equal(own, target)
    assert shown["video_lengths"].tolist() == shown["audio_lengths"].tolist() == [5, 6, 7]
    assert torch.equal(shown["video"][1, :6], torch.cat([clips[1].holistic, clips[1].local], 1))
    assert not shown["video"][1, 6:].any()
    ((shown, _),) = Batches(clips, target, 3, parts=("local",))
    assert shown.keys() == {"video", "video_lengths"}
    assert torch.equal(shown["video"][2], clips[2].local)
    ((shown, _),) = Batches(clips, target, 3, parts=("audio",))
    assert shown.keys() == {"audio", "audio_lengths"}


def test_a_missing_part_is_zeros_and_a_missing_modality_has_no_rows():
    clips = [Clip(noise(4, 6), noise(4, 2)), Clip(noise(3, 6)), Clip(None, noise(5, 2)), Clip()]
    ((shown, _),) = Batches(
        clips, torch.zeros(4, 7), 4, widths=dict(zip(PARTS, (6, 2, 3), strict=True))
    )
    rows = dict(zip(shown["video_lengths"].tolist(), shown["video"], strict=True))
    assert list(rows) == [0, 3, 4, 5]
    assert torch.equal(rows[3][:3], torch.cat([clips[1].holistic, torch.zeros(3, 2)], 1))
    assert torch.equal(rows[5], torch.cat([torch.zeros(5, 6), clips[2].local], 1))
    assert shown["audio"].shape == (4, 0, 3)
    assert small_net(8)(**shown).isfinite().all()


@pytest.mark.parametrize("without", [(), ("local",), ("audio",), ("holistic", "local"), PARTS])
def test_predictions_are_in_the_order_of_the_clips(without):
    clips, net = some_clips(8, without=without)[::-1], small_net()
    target = torch.zeros(len(clips), 7)
    together = predict(net, Batches(clips, target, 3))
    widths = dict(zip(PARTS, (6, 4, 3), strict=True))
    single = [predict(net, Batches([c], target[:1], widths=widths)) for c in clips]
    torch.testing.assert_close(together, torch.cat(single), rtol=0, atol=1e-5)
    assert together.std(0).min() > 1e-4


def test_an_epoch_has_every_clip_once_in_batches_of_like_length():
    n, size = 250, 8
    lengths = torch.randint(40, 501, (n,), generator=torch.Generator().manual_seed(0)).tolist()
    clips = [Clip(torch.full((length, 1), float(i))) for i, length in enumerate(lengths)]
    made = Batches(clips, torch.arange(n)[:, None].float(), size, parts=("holistic",))
    epochs = []
    for seed in (1, 1, 2):
        epoch = list(made(torch.Generator().manual_seed(seed)))
        epochs.append([target.flatten().tolist() for _, target in epoch])
        assert len(epoch) == len(made) == 32
        assert sorted(i for rows in epochs[-1] for i in rows) == list(range(n))
        for shown, target in epoch:
            assert torch.equal(shown["video"][:, 0], target)
        rows = [shown["video"].shape[:2] for shown, _ in epoch]
        padded = sum(b * t for b, t in rows) / sum(lengths) - 1
        assert padded < 0.15  # in random order 0.5
    assert epochs[0] == epochs[1]
    assert epochs[0] != epochs[2]
    assert {len({*a} & {*b}) for a in epochs[0] for b in epochs[2]} != {0, size}


def test_clips_may_be_made_when_they_are_asked_for():
    class Lazy(list):
        made = 0

        def __getitem__(self, i):
            Lazy.made += 1
            return super().__getitem__(i)

    clips = Lazy(some_clips(6))
    batches = Batches(clips, torch.zeros(6, 7), 2, widths={"audio": 3}, parts=["audio"])
    before = Lazy.made
    next(iter(batches))
    assert Lazy.made == before + 2


def test_training_runs_and_repeats():
    clips, histories = some_clips(7, without=("audio",)), []
    target = torch.stack([clip.local[:, 0].mean().sigmoid().expand(7) for clip in clips])
    for _ in range(2):
        net, recipe = small_net(), Recipe(lr=0.01, epochs=4)
        losses = [e.loss for e in train(net, Batches(clips, target, 4), recipe, seed=3).epochs]
        histories.append(losses)
    assert histories[0] == histories[1]
    assert histories[0][-1] < histories[0][0]


def test_refusals_of_batches():
    clips, target = some_clips(4), torch.zeros(4, 7)
    refused(lambda: Batches(clips, target[:3]), "3 targets for 4 clips")
    refused(lambda: Batches([], target[:0]), "one clip at least")
    refused(lambda: Batches(clips, target, parts=("mel",)), "'mel'", *PARTS)
    refused(lambda: Batches([Clip(noise(3, 2))], target[:1]), "local", "in no clip")
    mixed = [*clips[:3], Clip(noise(3, 6), noise(3, 4), noise(3, 5))]
    refused(lambda: Batches(mixed, target), "audio", "[3, 5] columns")


# ---- features of frames --------------------------------------------------------------------------


def faces(n, size=48, bias=0.0):
    return (
        0.4 + bias + 0.3 * torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(n))
    ).clamp(0, 1)


def test_features_of_frames_in_both_modes_of_batch_norm():
    encoder, frames = load_expression_encoder(), faces(7)
    state = {name: t.clone() for name, t in encoder.state_dict().items()}
    alone = inputs.holistic(frames, encoder, batch=3)
    torch.testing.assert_close(alone, encoder.features(frames), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        inputs.holistic(frames[2:3], encoder), alone[2:3], rtol=1e-4, atol=1e-5
    )
    together = inputs.holistic(frames, encoder, "train", batch=4)
    torch.testing.assert_close(together[4:], inputs.holistic(frames[4:], encoder, "train"))
    assert (together[:2] - inputs.holistic(frames[:2], encoder, "train")).abs().max() > 0.01
    assert all(torch.equal(t, state[name]) for name, t in encoder.state_dict().items())
    refused(lambda: inputs.holistic(frames, encoder, "none"), "'none'", "eval, train")


def test_batch_norm_by_the_batch_is_torchs_own_in_training():
    torch.manual_seed(0)
    net = resnet(BasicBlock, (1, 1, 1, 1))
    images = noise(5, 3, 64, 64)
    made = inputs.holistic(images, net, "train")
    with torch.no_grad():
        torch.testing.assert_close(made, net.train()(images), rtol=1e-4, atol=1e-5)
    assert made.shape == (5, 512)


def test_batch_norm_by_the_batch_takes_away_what_all_frames_share():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(46))
    frames, offset = 0.5 * faces(6), 0.3
    for mode, same in (("train", True), ("eval", False)):
        change = inputs.holistic(frames + offset, net, mode) - inputs.holistic(frames, net, mode)
        assert (change.abs().max() < 1e-4) == same


# ---- what arms do to clips -----------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 3, 4, 64])
def test_standardised_columns(columns, monkeypatch):
    monkeypatch.setattr(inputs, "COLUMNS", columns)
    clips = [Clip(3 + 5 * noise(n, 4, seed=n), torch.zeros(n, 2)) for n in (50, 90)]
    clips += [Clip(audio=noise(6, 2))]
    made = Standardised(clips, clips[:2])
    rows = torch.cat([clip.holistic for clip in made[:2]])
    assert torch.equal(made[1:][0].holistic, made[1].holistic)
    torch.testing.assert_close(rows.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows.std(0, correction=0), torch.ones(4))
    assert not made[0].local.any()
    assert torch.equal(made[2].audio, clips[2].audio)  # nothing to go by
    other = Standardised(clips[1:2], clips[:1])[0].holistic
    torch.testing.assert_close(
        other,
        (clips[1].holistic - clips[0].holistic.mean(0)) / clips[0].holistic.std(0, correction=0),
    )


def test_frames_are_shuffled_alike():
    rows = torch.arange(30.0)[:, None]
    clip = Clip(rows, 2 * rows, torch.arange(32.0)[:, None])
    new = shuffled(clip, torch.Generator().manual_seed(0))
    assert new.holistic.flatten().tolist() != rows.flatten().tolist()
    assert torch.equal(new.holistic.sort(0).values, rows)
    assert torch.equal(new.local, 2 * new.holistic)
    assert new.audio.sort(0).values.flatten().tolist() == list(range(32))
    assert shuffled(Clip(), torch.Generator()).rows("video") == 0


def test_backwards_the_last_frame_comes_first_and_a_missing_part_stays_missing():
    clip = Clip(holistic=torch.rand(5, 3), audio=torch.rand(4, 2))
    turned = inputs.backwards(clip)
    assert torch.equal(turned.holistic[0], clip.holistic[-1])
    assert torch.equal(turned.audio[-1], clip.audio[0])
    assert turned.local is None
    assert torch.equal(inputs.backwards(turned).holistic, clip.holistic)


@pytest.mark.parametrize("part", PARTS)
def test_each_clip_gets_a_part_of_another_and_keeps_its_length(part):
    clips = some_clips(9)
    clips += [Clip(), Clip(torch.zeros(0, 6), torch.zeros(0, 4), torch.zeros(0, 3))]
    new = swapped(clips, part, torch.Generator().manual_seed(0))
    givers = set()
    for i, (before, after) in enumerate(zip(clips, new, strict=True)):
        assert after.rows("video") == before.rows("video")
        assert all(getattr(after, p) is getattr(before, p) for p in PARTS if p != part)
        if i > 8:
            assert after is before
            continue
        mine = getattr(after, part)
        (giver,) = (k for k in range(9) if torch.equal(getattr(clips[k], part)[0], mine[0]))
        theirs = getattr(clips[giver], part)
        rows = [k * len(theirs) // len(mine) for k in range(len(mine))]
        assert torch.equal(mine, theirs[rows])
        assert giver != i
        givers.add(giver)
    assert len(givers) == 9
    refused(lambda: swapped(clips, "mel", torch.Generator()), "'mel'")
    refused(lambda: swapped(clips[8:], part, torch.Generator()), "clips", "two or more")
