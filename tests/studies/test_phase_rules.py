"""Three rules on a texture that moves: the motion is exact, the rules differ where they should."""

import numpy as np
import pytest
import torch

from micromacro.files import project_root
from micromacro.kernels import phase_difference_reference
from micromacro.results import read_rows
from micromacro.studies import phase_rules

SWING = np.sin(2 * np.pi * np.arange(13) / 12)


def test_the_middle_of_a_patch_moves_by_what_is_asked_and_its_surroundings_rest():
    still, moved = phase_rules.textures(3, np.array([0.0, 2.0]))
    assert (still.shape, still.dtype) == ((48, 48), torch.float32)
    assert 0 <= still.min() < still.max() <= 1
    patch = np.s_[24:27, 23:26]  # its content came from two pixels above, less a little of the bump
    apart = (moved[patch] - still[22:25, 23:26]).abs().max()
    assert apart < 0.25 * (moved[patch] - still[patch]).abs().max()
    assert (moved - still)[:, 46:].abs().max() < 0.02
    coarse = 3 * phase_rules.textures(3, np.zeros(1), bits=2)
    torch.testing.assert_close(coarse, coarse.round(), atol=1e-6, rtol=0)


def test_phase_and_released_are_those_of_the_trusted_form():
    clip = phase_rules.textures(0, 0.05 * SWING)
    maps = phase_rules.by_rule(clip)
    assert list(maps) == list(phase_rules.RULES)
    for rule, legacy in (("phase", False), ("as released", True)):
        (trusted,) = phase_difference_reference(clip, levels=(1,), legacy_unwrap=legacy)
        torch.testing.assert_close(maps[rule].double(), trusted[1], atol=1e-4, rtol=0)


def test_a_mended_unwrapping_agrees_with_the_product_and_the_released_one_is_off_by_turns():
    """At hundredths of a radian the blurred phase and the blurred difference are nearly the
    same."""
    maps = phase_rules.by_rule(phase_rules.textures(0, 0.05 * SWING))
    apart = {rule: (maps[rule] - maps["phase"]).abs().max() for rule in phase_rules.RULES[1:]}
    signal = maps["phase"].abs().max()
    assert apart["unwrapped"] < signal < 0.1 < 0.25 < apart["as released"]


def test_rows_are_written_and_the_committed_ones_are_all_there(tmp_path, monkeypatch):
    monkeypatch.setattr(phase_rules, "AMPLITUDES_PX", (0.05,))
    found = phase_rules.outcome("smoke", out=tmp_path)
    (table,) = (tmp_path / "rows").glob("02_phase_differences__smoke__cpu.csv")
    rows = read_rows(table)
    assert len(rows) == 6 * 2 * 3
    for bits in phase_rules.BITS:
        for rule in phase_rules.RULES:
            own = rows[(rows["arm"] == rule) & rows["params"].str.contains(f'"bits": {bits}}}')]
            mean, count = found.here.loc[bits, rule].loc[0.05]
            assert (mean, count) == (pytest.approx(own["value"].mean()), 6)
    committed = project_root() / "data" / "results" / "02_phase_differences__full__cpu.csv"
    assert len(read_rows(committed)) == 40 * 5 * 2 * 3
    assert set(found.full["count"]) == {40}
