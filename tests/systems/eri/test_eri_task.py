"""The reaction task: labels as printed, events as asked for, nothing that depends on what else is
drawn."""

import numpy as np
import pandas as pd
import pytest
import torch
from refusals import refused

from micromacro.faces.action_units import openface_columns
from micromacro.systems.eri import task
from micromacro.systems.eri.model import EMOTIONS

# Hume-Reaction, above the diagonal, row by row, in the order of EMOTIONS.
PRINTED = (
    *(0.251, -0.382, -0.312, -0.272, -0.457, -0.289, -0.514, -0.374, -0.430, -0.606, -0.081),
    *(0.143, 0.268, 0.732, 0.328, 0.316, 0.154, 0.150, 0.204, 0.092, 0.270),
)


@pytest.fixture(scope="module")
def benchmark():
    return task.clips(6, 4, 1990, frames=(12, 60))


@pytest.mark.parametrize("report_sd", [0.0, 0.6])
def test_labels_are_spread_as_is_printed(report_sd):
    rng = np.random.default_rng(0)
    said, shown = map(
        np.array, zip(*(task.ratings(rng, report_sd) for _ in range(6000)), strict=True)
    )
    assert (said.max(1) == 1).all()
    assert said.min() >= 0
    assert said.mean() == pytest.approx(0.365, abs=0.015)
    assert said.std() == pytest.approx(0.359, abs=0.03)
    above = np.triu_indices(7, 1)
    assert np.abs(np.corrcoef(shown.T)[above] - PRINTED).max() < 0.06
    weaker = np.abs(PRINTED) - np.abs(np.corrcoef(said.T)[above])  # an error joins no two emotions
    assert 0.25 < weaker.max() < 0.35 if report_sd else np.array_equal(said, shown)
    own = [np.corrcoef(a, b)[0, 1] for a, b in zip(said.T, shown.T, strict=True)]
    assert 0.7 < min(own) <= 1


@pytest.mark.parametrize("share", [0.02, 0.25, 0.5])
def test_events_fill_their_share_and_lie_apart(share):
    made = task.clips(12, 4, 1990, share=share, frames=(60, 160))
    table = made.events.merge(made.clips[["clip", "n_frames"]], on="clip")
    table["length"] = table["offset"] - table["onset"] + 1
    assert ((table["onset"] >= 0) & (table["offset"] < table["n_frames"])).all()
    assert table["apex"].between(table["onset"], table["offset"]).all()
    shares = table.groupby("clip")["length"].sum() / made.clips.set_index("clip")["n_frames"]
    assert shares.mean() == pytest.approx(max(share, 3 / 110), rel=0.15)
    for _, own in table.groupby("clip"):
        assert (own["onset"].to_numpy()[1:] > own["offset"].to_numpy()[:-1]).all()


def test_an_event_is_strongest_where_the_dial_says():
    usual, last = (task.clips(3, 4, 1990, **own).events for own in ({}, {"apex": (1.0, 1.0)}))
    assert (last["apex"] == last["offset"]).all()
    assert (usual["apex"] < usual["offset"]).all()
    assert usual[["clip", "onset", "offset"]].equals(last[["clip", "onset", "offset"]])


def test_a_clip_is_the_same_whatever_else_is_drawn(benchmark):
    fewer = task.clips(2, 4, 1990, frames=(12, 60))
    pd.testing.assert_frame_equal(fewer.clips, benchmark.clips[:8])
    one, same = (made.scene("train001_3") for made in (benchmark, fewer))
    assert torch.equal(one.local, same.local)
    assert np.array_equal(one.speech.sound, same.speech.sound)
    frames = torch.cat([*one.frames(chunk=7)])
    assert torch.equal(frames, torch.cat([*same.frames()]))
    n = benchmark.clips.set_index("clip").loc["train001_3", "n_frames"]
    assert frames.shape == (n, 1, 48, 48)
    assert one.local.shape == (n, 35)
    other = task.clips(2, 4, 1991, frames=(12, 60))
    assert not np.allclose(other.clips[[*EMOTIONS]], fewer.clips[[*EMOTIONS]])


def test_columns_are_in_the_order_of_openface():
    names = [f"AU{int(name):02}_r" for name in task.INTENSITIES]
    names += [f"AU{int(name):02}_c" for name in task.PRESENCES]
    assert tuple(names) == openface_columns()


def test_the_detector_errs_as_much_as_asked(benchmark):
    clean = task.clips(6, 4, 1990, frames=(12, 60), au_sd=0.0)
    rows = {
        name: made.scene("train002_1").local
        for name, made in (("noisy", benchmark), ("clean", clean))
    }
    assert ((rows["clean"] >= 0) & (rows["clean"] <= 5)).all()
    assert set(rows["noisy"][:, 17:].unique().tolist()) <= {0.0, 1.0}
    moved = [k for k in range(17) if rows["clean"][:, k].max() > 0.1]
    assert moved
    error = (rows["noisy"] - rows["clean"])[:, :17][:, moved]
    assert 0.2 < error.std() < 1.5
    assert (rows["clean"][:, task.PRESENCES.index("28") + 17] == 0).all()


def test_a_voice_follows_what_is_felt():
    made = task.clips(6, 5, 1990, frames=(100, 120), heard=2.5, report_sd=0.0)
    table, louder = made.clips.set_index("clip"), []
    for clip in made.clips["clip"]:
        inside = np.zeros(table.loc[clip, "n_frames"], bool)
        for event in made.events[made.events["clip"] == clip].itertuples():
            inside[event.onset : event.offset + 1] = True
        sound = made.scene(clip).speech.sound[: len(inside) * 1600].reshape(-1, 1600)
        louder.append(np.log(sound[inside].std() / sound[~inside].std()))
    due = sum(tones[1] * table[emotion] for emotion, tones in task.VOICES.items())
    assert np.corrcoef(louder, due)[0, 1] > 0.4


@pytest.mark.parametrize(
    ("dials", "words"),
    [
        ({"share": 0}, ["share=0", "0.01"]),
        ({"frames": (2, 40)}, ["frames", "8"]),
        ({"au_sd": float("nan")}, ["au_sd"]),
    ],
)
def test_dials_have_ends(dials, words):
    refused(lambda: task.clips(1, 1, 0, **dials), *words)


def test_an_unknown_clip_and_nobody_at_all(benchmark):
    refused(lambda: benchmark.scene("train099_0"), "train099_0")
    nobody = task.clips(0, 4, 1990)
    assert list(nobody.clips.columns) == list(benchmark.clips.columns)
    assert nobody.clips.empty
    assert nobody.events.empty
