"""Segments against librosa's log-mel; faces, missing parts, batches of like length."""

import itertools
import math

import librosa
import numpy as np
import pytest
import torch
from refusals import refused
from torch.nn import functional

from micromacro.backbones import features
from micromacro.systems.msff import MsffNet, inputs
from micromacro.systems.msff.inputs import (
    Batches,
    Clip,
    frames,
    segments,
    spectrum,
    spectrum_pictures,
    together,
)
from micromacro.systems.msff.model import Blstm, C3d, ResNet50, SpectrogramVgg, VggFace
from micromacro.training import Recipe, isolated_rng, predict, train

SR = 16_000
SILENCE = math.log(0.01)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32) / 10


def faces(n, *, channels=1, px=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, channels, px, px), dtype=np.uint8)


def sine(hz, seconds, sr_hz=SR):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * sr_hz)) / sr_hz).astype(np.float32)


# ---- sound ---------------------------------------------------------------------------------------


def test_the_spectrum_is_librosas():
    sound = noise(31_333)
    rows = spectrum(sound)
    assert (rows.shape, rows.dtype) == ((96 + 3 * 48, 64), np.float32)
    # librosa puts a short window into the middle of a long FFT: 56 samples before it.
    before = np.concatenate([np.zeros(56, np.float32), sound, np.zeros(60_000, np.float32)])
    options = {"sr": SR, "n_fft": 512, "win_length": 400, "hop_length": 160, "center": False}
    bands = {"n_mels": 64, "fmin": 125, "fmax": 7500, "htk": True, "norm": None}
    mel = librosa.feature.melspectrogram(y=before, power=1, **options, **bands)
    np.testing.assert_allclose(rows, np.log(mel + 0.01).T[: len(rows)], atol=2e-5)


def test_a_sine_is_where_its_pitch_and_its_time_are():
    sound = np.concatenate([np.zeros(SR // 2, np.float32), sine(1000, 1), np.zeros(SR // 2)])
    rows = spectrum(sound)
    mel = 2595 * np.log10(1 + np.array([125, 1000, 7500]) / 700)  # HTK's
    expected = (mel[1] - mel[0]) / (mel[2] - mel[0]) * 65 - 1
    assert abs(rows[100].argmax() - expected) < 1
    loud = rows.max(1) > 0
    assert (loud.argmax(), loud.sum()) == (48, 102)  # windows that reach from 0.48 s to 1.5 s
    np.testing.assert_allclose(rows[:47], SILENCE, rtol=1e-6)
    peaks = [spectrum(sine(hz, 0.5)).max() for hz in np.geomspace(200, 6000, 80)]
    assert inputs.LOUD - 1.1 < min(peaks) < max(peaks) <= inputs.LOUD


@pytest.mark.parametrize(
    ("samples", "n"),
    [(0, 1), (1, 1), (399, 1), (15_600, 1), (15_601, 2), (15_600 + 7680, 2), (15_600 + 7681, 3)],
)
def test_how_many_segments_there_are(samples, n):
    rows = segments(Clip(sound=noise(samples)))
    assert (rows.shape, rows.dtype) == ((n, 1, 96, 64), torch.float32)
    assert rows.isfinite().all()
    if n > 1:
        assert torch.equal(rows[0, 0, 48:], rows[1, 0, :48]), "they overlap by half"
        assert (rows[-1, 0, :49] > SILENCE + 0.1).any(1).all(), "half of the last one is heard"


def test_the_median_clip_of_afew_has_four_and_no_sound_is_lost():
    assert len(segments(Clip(sound=noise(round(2.4 * SR))))) == 4
    assert segments(Clip(sound=np.zeros(30 * 160))).unique().tolist() == pytest.approx([SILENCE])
    assert segments(Clip()) is None
    for n in (15_601, 20_000, 23_281, 50_000):
        click = np.zeros(n, np.float32)
        click[-1] = 1
        assert segments(Clip(sound=click))[-1].max() > SILENCE + 0.1


def test_another_rate_tells_the_same():
    low, high = (spectrum(sine(440, 1.2, sr_hz), sr_hz) for sr_hz in (SR, 44_100))
    assert low.shape == high.shape
    np.testing.assert_allclose(low[5:110].max(1), high[5:110].max(1), atol=0.02)
    assert (low[5:110].argmax(1) == high[5:110].argmax(1)).all()
    assert spectrum(np.zeros(0), 44_100).shape == (96, 64)


def test_refusals_of_a_sound():
    refused(lambda: spectrum(np.zeros((2, 9))), "sound", "one channel")
    refused(lambda: spectrum(np.full(9, np.nan)), "sound", "NaN")
    refused(lambda: segments(Clip(sound=noise(9), sr_hz=0)), "sr_hz", "is 0")


def test_pictures_show_time_to_the_right_and_pitch_upwards():
    high_then_low = np.concatenate([sine(4000, 0.5), sine(300, 0.475)])
    image = spectrum_pictures(segments(Clip(sound=high_then_low)))
    assert image.shape == (1, 1, 64, 96)
    assert 0 <= image.min() < 0.01
    assert 0.8 < image.max() <= 1
    rows = image[0, 0].argmax(0)
    assert rows[8] < 32 < rows[85], "the high tone is first, and above"
    assert not spectrum_pictures(segments(Clip(sound=np.zeros(9)))).any()
    with isolated_rng(0):
        net = VggFace(2, 4)
    assert net.prepared(image).shape == (1, 3, 224, 224)
    refused(lambda: spectrum_pictures(image), "segments", "(S, 1, 96, 64)")


# ---- faces ---------------------------------------------------------------------------------------


def test_frames_without_a_face_are_left_out():
    shown, mask = faces(5, channels=3), np.array([True, False, True, True, False])
    clip = Clip(faces=shown, face_mask=mask)
    assert np.array_equal(frames(clip).numpy(), shown[mask])
    assert np.array_equal(frames(Clip(faces=shown)).numpy(), shown)
    assert frames(Clip(face_mask=np.zeros(7, bool))) is None
    assert frames(Clip(faces=shown, face_mask=np.zeros(5, bool))).shape == (0, 3, 32, 32)


def test_refusals_of_faces():
    refused(lambda: Clip(faces=faces(3)[:, 0]), "faces", "(T, 1|3, H, W)")
    refused(lambda: Clip(faces=faces(3) / 255), "faces", "uint8")
    refused(lambda: Clip(faces=faces(3), face_mask=np.ones(2, bool)), "face_mask", "3 frames")


def test_frozen_features_are_the_encoders_a_piece_at_a_time():
    with isolated_rng(0):
        net = VggFace(2, 6, image_px=32, layer="fc7", scale=60).train()
    shown = torch.from_numpy(faces(7))
    made = features(shown, net, batch=3)
    assert net.training
    assert not made.requires_grad
    expected = net.eval().features(shown.float() / 255)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    assert features(shown[:0], net).shape == (0, 6)
    heard = segments(Clip(sound=noise(20_000)))
    with isolated_rng(0):
        assert features(heard, SpectrogramVgg(2, 6, 5)).shape == (2, 5)


# ---- batches -------------------------------------------------------------------------------------


def some_rows(n=20, missing=()):
    return [None if i in missing else torch.full((1 + i % 7, 2), float(i)) for i in range(n)]


def test_clips_of_like_length_come_together_and_each_comes_once():
    rows, target = some_rows(missing=(3, 7)), torch.arange(20)
    batches = Batches(rows, target, size=4)
    assert len(batches) == len(list(batches)) == 5
    lengths = [own.tolist() for (_, own), _ in batches]
    assert [*itertools.chain(*lengths)] == sorted(0 if x is None else len(x) for x in rows)
    for epoch in (batches, batches(torch.Generator().manual_seed(0))):
        seen = []
        for (x, n), own in epoch:
            assert len(x) == len(n) == len(own)
            for row, length, i in zip(x, n.tolist(), own.tolist(), strict=True):
                assert length == (0 if rows[i] is None else len(rows[i]))
                assert row[:length].eq(i).all()
                assert not row[length:].any()
            seen += own.tolist()
        assert sorted(seen) == list(range(20))
    draws = [
        torch.cat([own for _, own in batches(torch.Generator().manual_seed(s))]) for s in (1, 2)
    ]
    assert not torch.equal(*draws)


def test_a_clip_is_mirrored_as_a_whole_in_training_only():
    rows = [torch.from_numpy(faces(3, px=4, seed=i)) for i in range(40)]
    batches, turned = Batches(rows, torch.arange(40), 8, mirror=True), []
    for (x, _), own in batches(torch.Generator().manual_seed(0)):
        for shown, i in zip(x, own.tolist(), strict=True):
            plain = rows[i].float() / 255
            turned.append(torch.equal(shown, plain.flip(-1)))
            assert turned[-1] or torch.equal(shown, plain)
    assert 10 < sum(turned) < 30
    for (x, _), own in batches:
        assert all(torch.equal(a, rows[i].float() / 255) for a, i in zip(x, own, strict=True))


def test_refusals_of_batches():
    refused(lambda: Batches([None], torch.zeros(1)), "target", "rows of one")
    refused(lambda: Batches(some_rows(3), torch.zeros(2)), "2 targets for 3 clips")
    refused(lambda: Batches(some_rows(3), torch.zeros(3), 0), "size")


def test_training_on_batches_and_predictions_in_the_clips_order():
    target = torch.arange(20) % 2 * 6
    rows = [torch.randn(1 + i % 7, 2) * 0.3 + target[i] / 3 - 1 for i in range(20)]
    batches = Batches([*rows, None], torch.cat([target, torch.tensor([3])]), size=4)
    with isolated_rng(0):
        net = Blstm(2, 4, dropout=0.0)
    recipe = Recipe(loss=functional.cross_entropy, lr=0.02, epochs=12)
    train(net, batches, recipe, seed=0, progress=False)
    logits = predict(net, batches)
    assert logits[-1].tolist() == [0] * 7
    assert (logits[:-1].argmax(1) == target).all()
    torch.testing.assert_close(logits[4:5], net.eval()(rows[4][None]))


def test_clips_with_parts_missing_go_through_the_whole_network():
    with isolated_rng(0):
        encoders = {
            "vgg": VggFace(2, 4, image_px=32, scale=60),
            "resnet": ResNet50(2, (1, 1, 1, 1), scale=60),
            "c3d": C3d(2, 4, image_px=32, scale=60),
            "audio": SpectrogramVgg(2, 4, 3),
        }
        net = MsffNet(encoders=encoders, hidden=4).eval()
    lost = np.zeros(12, bool)
    clips = [
        Clip(faces(12), None, noise(SR)),
        Clip(faces(12), ~lost, None),
        Clip(None, lost, noise(200)),
        Clip(faces(12), lost, np.zeros(0)),
        Clip(),
    ]
    scores = net(**together(clips))
    for name, logits in scores.items():
        assert logits.isfinite().all()
        there = [True, False, True, True, False] if name == "audio" else [True, True] + [False] * 3
        assert logits.ne(0).any(1).tolist() == there
    alone = net(**together(clips[:1]))
    for name, logits in alone.items():
        torch.testing.assert_close(logits, scores[name][:1], rtol=1e-4, atol=1e-5)
    assert list(net(**together(clips[2:3]))) == ["audio"]
    refused(lambda: net(**together(clips[4:])), "faces, segments")
