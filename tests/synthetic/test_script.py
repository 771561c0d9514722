import math
from dataclasses import replace

import pytest
import torch
from refusals import refused

from micromacro.synthetic import AUS, Face, HeadDrift, Identity, Nuisance
from micromacro.synthetic.nuisance import NUISANCES
from micromacro.synthetic.performance import Event, Performance, envelope, exaggerate
from micromacro.synthetic.performance import units as to_units
from micromacro.synthetic.script import macro_event, micro_event, perform


def test_envelope_moves_from_onset_to_offset_and_nowhere_else():
    shape = envelope(Event(5, 9, 16, (("12", 1.0),), 0.03, "micro", hold=2), 25)
    assert shape.nonzero().flatten().tolist() == [*range(5, 17)]
    assert (shape == 1).nonzero().flatten().tolist() == [9, 10, 11]
    assert (shape[4:9].diff() > 0).all()
    assert (shape[11:18].diff() < 0).all()
    t = 2 / 5  # second of the frames 5..9 whose last is the apex
    assert shape[6] == pytest.approx(10 * t**3 - 15 * t**4 + 6 * t**5)


@pytest.mark.parametrize(("make", "duration_s"), [(micro_event, 0.3), (macro_event, 1.5)])
@pytest.mark.parametrize("fps", [25.0, 200.0])
def test_events_have_the_duration_asked_for(make, duration_s, fps):
    event = make(7, "sadness", fps=fps, duration_s=duration_s)
    assert (event.kind, event.label, event.onset) == (make.__name__[:5], "sadness", 7)
    assert event.offset - event.onset + 1 == round(duration_s * fps)
    assert event.onset <= event.apex <= event.offset


@pytest.mark.parametrize(
    "make",
    [
        lambda: micro_event(0, "happiness", duration_s=0.8),
        lambda: macro_event(0, "happiness", duration_s=0.2),
        lambda: micro_event(0, "joy"),
        lambda: Event(5, 4, 6, (), 0.1, "micro"),
        lambda: perform(10, 30.0, [micro_event(5, "anger")]),
        lambda: perform(30, 30.0, [micro_event(5, [("99", 1.0)])]),
        lambda: perform(0, 30.0),
        lambda: perform(5, 0.0),
        lambda: perform(5, nuisance="brutal"),
        lambda: perform(5, seed=-1),
        lambda: perform(30, 30.0, [micro_event(5, [("1", 1.0), ("2", 0.5)], peak=0.08)]),
        lambda: replace(Performance.still(3), jaw=torch.zeros(2)),
        lambda: replace(Performance.still(3), au=torch.zeros(3, 4)),
        lambda: Performance.still(5)[::2],
        lambda: Performance.still(5) + Performance.still(5, 25.0),
        lambda: Identity.draw(-1),
        lambda: Identity.draw(0, run_seed=-2),
        lambda: Identity.draw(0, split=""),
        lambda: Face(Identity.draw(0), size=(64, 8)),
        lambda: Face(Identity.draw(0), size=32).flow(Performance.still(2), 0, 2),
    ],
)
def test_bad_scripts_and_people_are_refused_in_one_line(make):
    refused(make)


def test_displacements_are_peak_times_weight_times_envelope():
    event = micro_event(3, "contempt", duration_s=0.4, peak=0.04)
    play = perform(30, 30.0, [event], nuisance="none")
    expected = 0.55 * 0.04 * envelope(event, 30)
    assert torch.allclose(play.au[:, AUS.index("12L")], expected)
    assert torch.equal(play.envelope[:, 0], envelope(event, 30))
    assert play.au[:, AUS.index("12R")].abs().max() == 0
    assert play.events == (event,)


def test_bound_counts_one_side_of_the_mouth_with_both_sides():
    too_much = [micro_event(2, [("12", 0.6), ("12L", 0.6)], peak=0.1)]
    refused(lambda: perform(20, 30.0, too_much), "mouth left")
    perform(20, 30.0, [micro_event(2, [("12R", 1.0), ("12L", 1.0), ("4", 1.0)], peak=0.1)])


def test_exaggerate_multiplies_expressions_only():
    play = perform(60, 30.0, [micro_event(10, "fear", peak=0.02)], nuisance="hard", seed=4)
    more = exaggerate(play, 3)
    for name in ("au", "lid", "jaw", "part"):
        assert torch.allclose(getattr(more, name), 3 * getattr(play, name))
    same = ("shift", "yaw", "roll", "light", "gain", "blink", "shadow", "noise_key", "envelope")
    assert all(torch.equal(getattr(more, name), getattr(play, name)) for name in same)
    assert more.events[0].peak == pytest.approx(0.06)
    refused(lambda: exaggerate(play, 9), "folds over")


def test_same_seed_same_clip_other_seed_other_clip():
    """And events do not change what disturbs a recording."""
    a, c = (perform(90, 30.0, nuisance="hard", seed=s) for s in (1, 2))
    b = perform(90, 30.0, [macro_event(10, "anger")], nuisance="hard", seed=1)
    assert all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("shift", "gain", "light"))
    assert a.blinks == b.blinks
    assert not torch.equal(a.shift, c.shift)
    assert (a.noise_key[:, 0] != c.noise_key[:, 0]).all()


def test_no_nuisance_is_none():
    quiet = perform(200, 30.0, nuisance="none", seed=3)
    parts = (quiet.shift, quiet.blink, quiet.noise_sd, quiet.gain - 1, quiet.shadow[:, 0])
    assert all((part == 0).all() for part in parts)


@pytest.mark.parametrize("level", ["easy", "hard"])
def test_nuisances_have_the_stated_size(level):
    own, clips = NUISANCES[level], [perform(900, 30, nuisance=level, seed=s) for s in range(12)]
    sway = torch.stack([c.shift.std(0) for c in clips]).mean()
    assert 0.75 * own.sway[0] < sway < 1.15 * own.sway[1]
    blinks = sum(len(c.blinks) for c in clips) / (12 * 30)
    assert blinks == pytest.approx(own.blink_rate, rel=0.4)
    light = torch.stack([c.light[:, 0] for c in clips]).std()
    assert light == pytest.approx(own.light[0], rel=0.25)
    step = max(c.shift.diff(dim=0).abs().max().item() for c in clips)
    assert step < 0.35 * own.sway[1]  # smooth: no jumps


def test_blinks_are_told():
    play = perform(1200, 30.0, nuisance=Nuisance(blink_rate=0.5), seed=2)
    assert play.blinks
    assert {blink.kind for blink in play.blinks} == {"blink"}
    assert all(6 <= blink.offset - blink.onset < 10 for blink in play.blinks)
    assert (play.blink[[blink.apex for blink in play.blinks]] == 1).all()
    told = [t for blink in play.blinks for t in range(blink.onset, blink.offset + 1)]
    assert play.blink.nonzero().flatten().tolist() == sorted(set(told))


def test_flicker_is_the_alias_of_100_hz():
    play = perform(300, 30.0, nuisance=Nuisance(flicker=0.05), seed=0)
    spectrum = torch.fft.rfft(play.gain.double() - play.gain.mean()).abs()
    assert spectrum.argmax() / 10 == pytest.approx(10, abs=0.15)  # 100 - 3 x 30 Hz
    assert play.gain.std() == pytest.approx(0.05 / math.sqrt(2), rel=0.02)


def test_black_level_drifts_on_a_stream_of_its_own():
    plays = [perform(900, 30.0, nuisance=Nuisance(offset=(o, o)), seed=3) for o in (0.02, 0.04)]
    assert plays[0].offset.std() == pytest.approx(0.02, rel=0.5)
    torch.testing.assert_close(2 * plays[0].offset, plays[1].offset)
    drifting, hard = (replace(NUISANCES["hard"], offset=(o, o)) for o in (0.02, 0.0))
    one, two = (perform(900, 30.0, nuisance=n, seed=3) for n in (drifting, hard))
    assert all(torch.equal(getattr(one, n), getattr(two, n)) for n in ("gain", "light", "shadow"))


def test_talking_moves_the_jaw_for_its_share_of_the_time():
    for share in (0.1, 0.3):
        plays = [perform(3000, 30.0, nuisance=Nuisance(talking=share), seed=s) for s in range(8)]
        jaw = torch.cat([play.jaw for play in plays])
        assert jaw.min() == 0
        assert 0.04 < jaw.max() < 0.045  # face units: 1.4 px at 64
        assert (jaw > 0).float().mean() == pytest.approx(share, rel=0.35)  # bouts may overlap
    spectrum = torch.fft.rfft(jaw.double() - jaw.mean()).abs()
    hertz = torch.linspace(0, 15, len(spectrum))
    assert spectrum[(hertz > 3) & (hertz < 5)].mean() > 3 * spectrum[hertz > 6].mean()


def test_head_drift_reaches_its_range_slowly():
    drift = HeadDrift.at(4, 2, 1.5, size=224, period_s=4)
    clips = [perform(240, 30.0, nuisance="none", seed=s, head_drift=drift) for s in range(8)]
    limits = torch.tensor([to_units(4, 224), math.radians(2), math.log(1.015)])
    paths = torch.stack([torch.stack([c.shift[:, 0], c.roll, c.log_scale], 1) for c in clips])
    paths = paths / limits
    reach = paths.abs().amax(1)
    assert 0.95 < reach.min() <= reach.max() <= 1.0001
    assert paths.diff(dim=1).abs().max() < 0.15
    assert not torch.equal(clips[0].roll, clips[1].roll)


def test_slices_and_sums_carry_the_truth():
    events = [micro_event(10, "anger"), macro_event(40, "happiness")]
    play = perform(100, 30.0, events, nuisance="easy", seed=9)
    part, long = play[15:45], play[15:45] + play
    assert (len(part), len(long), len(play[19:39].events)) == (30, 130, 0)
    assert part.t_s[0] == pytest.approx(0.5)
    assert [(e.onset, e.offset) for e in part.events] == [(0, 3), (25, 29)]
    assert part.events[1].apex == 29
    assert torch.equal(part.envelope, play.envelope[15:45])
    assert torch.equal(part.noise_key[:, 1], torch.arange(15, 45))
    assert play[19:39].envelope.shape == (20, 0)
    assert long.envelope.shape == (130, 4)
    assert [e.onset for e in long.events] == [0, 25, 40, 70]
    assert torch.allclose(long.t_s.diff(), torch.tensor(1 / 30, dtype=torch.float64))
    assert torch.equal(play.t_s, torch.arange(100).double() / 30)  # the parts are untouched
