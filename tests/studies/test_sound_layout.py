"""What a layout of sound knows of a clip's length: the released one much, the mean over time
little."""

from types import SimpleNamespace

import numpy as np
import pytest

from micromacro.studies import sound_layout


def test_the_released_layout_tells_the_length_and_repeats():
    metrics = sound_layout.unit(seed=1990, voices=80)
    assert metrics["voices"] == 40
    assert metrics["duration_released"] > metrics["duration_time"] + 0.1
    few = {"seed": 1990, "voices": 20, "frames": (40, 60)}
    assert sound_layout.unit(**few) == sound_layout.unit(**few)


def test_of_one_length_there_is_nothing_to_tell():
    metrics = sound_layout.unit(seed=1990, voices=20, frames=(50, 50))
    assert metrics["duration_released"] == metrics["duration_time"] == 0


def test_a_layout_that_knows_the_length_is_seen(monkeypatch):
    """The same code, with features that hold the length itself, or nothing at all."""
    monkeypatch.setattr(
        sound_layout, "legacy_mfcc_layout", lambda sound, _: np.full((32, 4), len(sound))
    )
    monkeypatch.setattr(sound_layout, "mfcc", lambda sound, _, n: np.zeros((n, 4)))
    metrics = sound_layout.unit(seed=1990, voices=80, frames=(10, 40))
    assert metrics["duration_released"] > 0.99
    assert metrics["duration_time"] == 0


def test_rows_are_those_correlations():
    metrics = {"voices": 7, "duration_released": 0.5, "duration_time": 0.25}
    one = SimpleNamespace(metrics=metrics)
    assert sound_layout.rows([one]) == [
        {"metric": "duration_released", "value": 0.5, "n": 7},
        {"metric": "duration_time", "value": 0.25, "n": 7},
    ]
    with pytest.raises(ValueError, match="unpack"):
        sound_layout.rows([one, one])
