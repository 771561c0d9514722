"""The valence-arousal task: labels against their definition, people, light, what memory is
worth."""

import numpy as np
import pytest
import torch
from refusals import refused

from micromacro.synthetic import AUS, NUISANCES
from micromacro.systems.mimamo import task

T = task.n_frames(32)
CALM = task.Dials(illumination=0)


def scripts(n: int, dials=CALM):
    return [task.script(1500 + i, "train", i % 3, i % 2, T, dials) for i in range(n)]


def mouth(play) -> torch.Tensor:
    """What a picture shows: smile minus frown, face units, (T,)."""
    return (play.au[:, AUS.index("12")] - play.au[:, AUS.index("15")]) / 0.8


def test_labels_are_in_range_and_vary():
    labels = torch.stack([labels for _, labels in scripts(60)])
    assert labels.shape == (60, T, 2)
    assert torch.isfinite(labels).all()
    assert (labels.abs() <= 1 + 1e-6).all()
    assert (labels.flatten(0, 1).std(0) > 0.25).all()


def test_picture_minus_valence_is_the_slow_resting_face():
    scale = 2 * 1.8 / 64
    for play, labels in scripts(30):
        rest = mouth(play) - scale * labels[:, 0]
        assert rest.abs().max() <= 2 * 1.12 / 64 + 1e-6
        assert rest.diff().abs().max() < 0.5 * 2 / 64 / 30  # at most half a pixel a second
        assert (rest.diff().diff().abs() < 1e-6).float().mean() > 0.95  # a line, where not clamped


def test_nothing_special_happens_at_the_ends_of_a_clip():
    labels = torch.stack([labels for _, labels in scripts(600)])
    sd, mean = labels.std(0), labels.mean(0)
    for end in (6, T - 7):
        assert sd[end, 0] == pytest.approx(float(sd[:, 0].mean()), rel=0.15)
        assert mean[end, 1] == pytest.approx(float(mean[:, 1].mean()), abs=0.1)


def test_valence_needs_the_resting_face_and_arousal_is_not_in_the_mouth():
    plays = scripts(200)
    seen = torch.stack([mouth(play) for play, _ in plays])
    valence, arousal = torch.stack([labels for _, labels in plays]).flatten(0, 1).T
    against_rest = seen - seen.median(1, keepdim=True).values
    rows = torch.stack([valence, arousal, seen.flatten(), against_rest.flatten()])
    r = np.corrcoef(rows)
    assert 0.5 < r[0, 2] < 0.85
    assert r[0, 3] > r[0, 2] + 0.08
    assert abs(r[1, 2]) < 0.1
    assert abs(r[1, 0]) < 0.1


def test_arousal_is_the_mean_strength_of_the_movements_around():
    for play, labels in scripts(20):
        strength = np.zeros(T)
        for event in play.events:
            if event.kind == "micro":
                whole = event.onset > 0 and event.offset < T - 1  # not cut by the clip's end
                assert event.offset - event.onset + 1 >= (4 if whole else 1)
                assert event.offset - event.onset + 1 <= 10
                for t in range(event.onset, event.offset + 1):
                    strength[t] = event.peak / (2 * 0.8 / 64)
        for t in range(6, T - 6):
            due = 2 * strength[t - 6 : t + 7].sum() / 13 - 1
            assert labels[t, 1] == pytest.approx(due, abs=1e-5)


def test_a_recording_repeats_whoever_else_is_recorded_and_seeds_and_splits_are_other_people():
    few = task.record.__wrapped__(3, "test", people=1, clips=2, steps=2)
    more = task.record.__wrapped__(3, "test", people=2, clips=2, steps=2)
    assert few.frames.dtype == torch.uint8
    assert few.frames.shape == (2, task.n_frames(2), 64, 64)
    assert torch.equal(few.frames, more.frames[:2])
    assert torch.equal(few.labels, more.labels[:2])
    assert more.person.tolist() == [0, 0, 1, 1]
    names = [(s, split, p) for s in (1, 2) for split in ("train", "test") for p in (0, 1)]
    assert len({repr(task.who(*name)) for name in names}) == len(names)


def test_the_dial_turns_the_light_and_nothing_else():
    calm, play = scripts(1)[0][0], scripts(1, task.Dials(illumination=1))[0][0]
    assert not calm.light.any()
    assert (calm.gain == 1).all()
    assert not calm.shadow[:, 0].any()
    assert play.light.any()
    assert play.shadow[0, 0] > 0.2
    for name in ("au", "shift", "blink", "noise_sd", "jaw"):
        assert torch.equal(getattr(calm, name), getattr(play, name))
    full, hard = task.Dials(illumination=1).nuisance, NUISANCES["hard"]
    assert (full.light, full.gain, full.shadow) == (hard.light, hard.gain, hard.shadow)


def test_another_camera_darkens_the_pictures_and_nothing_else():
    """By one curve, rounded to 8 bits; labels stay."""
    plain, other = (task.record(4, "test", people=1, steps=2, gamma=g) for g in (1.0, 3.0))
    assert torch.equal(plain.labels, other.labels)
    curve = 255 * (plain.frames / 255.0) ** 3
    assert ((other.frames - curve).abs() <= 0.501).all()
    assert other.frames.float().mean() < 0.8 * plain.frames.float().mean()


@pytest.mark.parametrize("wrong", [{"people": 0}, {"clips": 0}, {"steps": 0}], ids=str)
def test_bad_requests(wrong):
    refused(lambda: task.record(1, "train", **{"people": 1} | wrong), "at least 1")
    refused(lambda: task.record(1, "validation", people=1), "split")
    refused(lambda: task.record(1, "train", people=1, gamma=6.0), "off the dial")


# Raters -----------------------------------------------------------------------------------------


def rated(**dials) -> list:
    dials = task.Dials(illumination=0, **dials)
    return [task.script(1500, "train", k, 0, 300, dials) for k in range(4)]


def test_late_raters_say_the_same_later_and_the_face_stays():
    frames = 15  # 0.5 s
    for (play, labels), (other, late) in zip(rated(), rated(lag_s=0.5), strict=True):
        assert torch.equal(late[frames:], labels[:-frames])
        assert not torch.equal(late[:frames], labels[:frames])
        assert torch.equal(play.au, other.au)
    (_, longest), (_, labels) = rated(lag_s=2)[0], rated()[0]
    assert torch.equal(longest[60:], labels[:-60])


def test_raters_err_by_so_much_slowly_and_each_clip_anew():
    pairs = zip(rated(), rated(error_sd=0.2), strict=True)
    errors = torch.stack([ours[1] - true[1] for true, ours in pairs])  # (4, 300, 2)
    inside = torch.stack([labels.abs().amax(1) < 0.2 for _, labels in rated()])
    assert errors[inside].std() == pytest.approx(0.2, rel=0.5)  # few independent seconds
    assert errors.diff(dim=1).std() < 0.4 * errors.std()
    assert len({float(error[100, k]) for error in errors for k in (0, 1)}) == 8
    noisy = torch.cat([labels for _, labels in rated(error_sd=1)])
    assert noisy.dtype == torch.float32
    assert noisy.abs().max() == 1
    assert all(map(torch.equal, [x[1] for x in rated(error_sd=1)], noisy.split(300)))


def test_the_error_has_the_deviation_that_is_asked_for_and_is_gone_after_a_second():
    rng = np.random.default_rng(0)
    error = task.Dials(error_sd=0.1).rate(torch.zeros(60_000, 2), rng)
    assert error.std(0).tolist() == pytest.approx([0.1, 0.1], rel=0.05)
    moved = [(error[lag:] * error[: len(error) - lag]).mean() / 0.01 for lag in (1, 15, 30)]
    assert moved == pytest.approx([29 / 30, 0.5, 0], abs=0.06)  # of a running mean of 30


OFF = [{"lag_s": 2.1}, {"lag_s": -1}, {"error_sd": 1.5}, {"error_sd": float("nan")}]
OFF += [{"illumination": -0.1}, {"illumination": 1.1}, {"illumination": float("nan")}]


@pytest.mark.parametrize("dial", [*OFF, {"gamma": 0.0}, {"gamma": 5.1}], ids=str)
def test_off_the_dial(dial):
    refused(lambda: task.Dials(**dial), "off the dial")
