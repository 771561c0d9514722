"""The film task: AFEW's numbers, pairs that single frames cannot tell apart, dials that do what
they say."""

import numpy as np
import pandas as pd
import pytest
import torch
from refusals import refused

from micromacro.synthetic import Performance
from micromacro.systems.msff import task
from micromacro.systems.msff.model import EMOTIONS

TWO = (2,) * 7
SHORT = {"median": 16, "frames": (12, 24)}


@pytest.fixture(scope="module")
def benchmark():
    return task.clips(TWO, 1990, **SHORT)


def scripts(emotion, n=60, **dials):
    made = task.clips([n * (name == emotion) for name in EMOTIONS], 1990, **dials)
    return made.scripts.values()


def brow(script):
    """How the brow of a clip swings, (T,)."""
    events = task._expression(script.stream("play"), script)
    still = Performance.still(script.n_frames, script.dials.fps)
    return task._swing(script.stream("brow"), script, still, events).numpy()


def test_numbers_and_lengths_are_those_of_afew():
    assert [sum(counts) for counts in task.PRIORS.values()] == [773, 383, 653]
    table = task.clips(task.PRIORS["train"], 1990).clips
    assert table["label"].value_counts().sort_index().tolist() == [*task.PRIORS["train"]]
    assert (table["emotion"] == np.array(EMOTIONS)[table["label"]]).all()
    assert table["n_frames"].between(12, 170).all()
    assert table["n_frames"].median() == pytest.approx(40, abs=2)
    ratio = table["n_frames"].quantile([0.05, 0.95]) / table["n_frames"].median()
    assert ratio.tolist() == pytest.approx([31 / 61, 115 / 61], abs=0.15)
    assert table.groupby("subject").size().max() == 6
    # Nothing but the clip itself tells its class.
    for name in ("n_frames", "face", "voice"):
        spread = table.groupby("emotion")[name].mean().std() / table[name].std()
        assert spread < 0.3, name
    assert (table["face"] == 0).mean() == pytest.approx(0.15, abs=0.04)
    assert table["blank"].mean() == pytest.approx(0.05, abs=0.025)


def test_splits_and_seeds_draw_other_people(benchmark):
    one, same = (task.clips(TWO, 1990, **SHORT) for _ in range(2))
    pd.testing.assert_frame_equal(one.clips, same.clips)
    frames = torch.cat([*one.scene("train001_0").frames(chunk=5)])
    assert torch.equal(frames, torch.cat([*benchmark.scene("train001_0").frames()]))
    who = {task._who((split, seed, 1, 0)) for split in ("train", "test") for seed in (0, 1)}
    assert len({person.seed for person in who}) == 4
    n = one.clips.set_index("clip").loc["train001_0", "n_frames"]
    assert frames.shape == (n, 1, 48, 48)
    assert len(one.scene("train001_0").speech.sound) == round(n / 16 * 16000)


def test_fear_is_surprise_backwards():
    for script in scripts("Fear", 20):
        twin = script._replace(emotion="Surprise")
        there, back = (task._expression(s.stream("play"), s) for s in (script, twin))
        plays = [
            torch.stack([task.envelope(e, script.n_frames) for e in events], 1)
            for events in (there, back)
        ]
        assert torch.equal(plays[0], plays[1].flip(0))
        looks = [[[part for part in e.aus if part[1]] for e in events] for events in (there, back)]
        assert looks[0] == looks[1]
        assert back[0].apex < back[1].apex  # surprise: eyes, then mouth
        assert there[0].apex > there[1].apex


def test_a_brow_moves_fast_or_slowly_and_equally_far():
    swings = {e: [brow(s) for s in scripts(e, 24, hidden=0.0)] for e in task.SPEED}
    turns = {
        e: np.mean([np.abs(np.diff(x)).sum() / x.max() for x in xs]) for e, xs in swings.items()
    }
    assert turns["Angry"] > 4 * turns["Disgust"]
    for script in scripts("Angry", 12):
        angry, disgust = brow(script), brow(script._replace(emotion="Disgust"))
        assert np.array_equal(np.sort(angry), np.sort(disgust))


@pytest.mark.parametrize("tells", [0.0, 1.0])
def test_order_and_speed_tell_as_often_as_asked(tells):
    fear = [task._expression(s.stream("play"), s) for s in scripts("Fear", order=tells)]
    backwards = np.mean([first.apex > second.apex for first, second in fear])
    assert backwards == pytest.approx(0.5 + tells / 2, abs=0.17)
    angry = [brow(s) for s in scripts("Angry", 12, hidden=0.0, speed=tells, **SHORT)]
    fast = np.mean([np.abs(np.diff(x)).sum() / x.max() > 2.5 for x in angry])
    assert fast > 0.9 if tells else 0.1 < fast < 0.9


def test_looks_differ_as_far_as_asked():
    apart = {}
    for dial in (0.0, 1.0):
        (script,) = scripts("Disgust", 1, hidden=0.0, appearance=dial)
        (event,) = task._expression(script.stream("play"), script)
        apart[dial] = dict(event.aus)["15"]
    assert apart[0.0] == 0
    assert apart[1.0] > 0.1


def test_a_redundant_voice_shows_what_the_face_does():
    made = task.clips(task.PRIORS["val"], 1990, redundancy=0.5)
    copied = (made.clips["face"] == made.clips["voice"]).mean()
    assert copied == pytest.approx(0.5 + 0.5 * 0.15**2, abs=0.06)
    every = task.clips(TWO, 1990, redundancy=1.0).clips
    assert (every["face"] == every["voice"]).all()


def test_a_dubbed_film_has_the_same_face_and_another_voice(benchmark):
    for clip, script in [*benchmark.scripts.items()][:4]:
        sound = benchmark.scene(clip).speech.sound
        assert np.array_equal(benchmark.dubbed(clip, 0.5), sound)
        strength = script.strength(1.0) != script.strength(0.0) and script.emotion != "Neutral"
        other = benchmark.dubbed(clip, 0.0), benchmark.dubbed(clip, 1.0)
        assert np.array_equal(*other) != strength


def test_voices_differ_by_emotion():
    options = {"hidden": 0.0, "redundancy": 1.0, "voice_sd": 0.0}
    loud = {
        emotion: np.mean(
            [
                task._voice(s, task._who(s.key), 1.0).sound.std()
                for s in scripts(emotion, 8, **options)
            ]
        )
        for emotion in ("Angry", "Neutral", "Sad")
    }
    assert loud["Angry"] > 1.3 * loud["Neutral"] > 1.3 * 1.2 * loud["Sad"]


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_no_skin_folds_at_the_end_of_the_dials(emotion):
    for script in scripts(emotion, 12, seen=1.0, appearance=1.0, fidgets=5.0, **SHORT):
        task._scene(script)  # refuses what folds over


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: task.clips(TWO, 0, order=1.5), ["order=1.5", "give 0"]),
        (lambda: task.clips(TWO, 0, frames=(4, 20)), ["frames", "12"]),
        (lambda: task.clips(TWO, 0, redundancy=float("nan")), ["redundancy"]),
        (lambda: task.clips((1, 2), 0), ["counts", "7 numbers"]),
        (lambda: task.clips(TWO, 0, per_subject=0), ["per_subject=0"]),
        (lambda: task.clips(TWO, 0).scene("train099_0"), ["train099_0"]),
        (lambda: task.clips(TWO, 0).dubbed("nobody", 1.0), ["nobody"]),
    ],
)
def test_what_cannot_be_is_refused(call, words):
    refused(call, *words)


def test_nobody_at_all():
    assert task.clips((0,) * 7, 1990).clips.empty


def test_a_dial_of_two_has_the_smaller_one_first():
    refused(lambda: task.clips(TWO, 1990, frames=(60, 40)), "frames", "smaller one first")
