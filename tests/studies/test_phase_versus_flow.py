"""The experiment is fair and honest: what it shows, what it measures, and against which truth."""

import math

import pytest
import torch
from refusals import refused

from micromacro.motion.flow import tuned_flow
from micromacro.motion.prepare import prepare
from micromacro.studies import phase_versus_flow as trial
from micromacro.synthetic import Face, Identity

SMALL = {"amplitudes_px": (0.2, 0.8), "aus": ("1", "12")}


@pytest.fixture(scope="module")
def frames() -> dict[str, torch.Tensor]:
    """Pairs (A, U, 2, 48, 48) of actor 1003 by condition."""
    return dict(zip(trial.CONDITIONS, trial.pairs(1003, **SMALL), strict=True))


def test_only_the_second_frame_changes_and_only_where_it_says(frames):
    assert all(torch.equal(pair, (pair * 255).round() / 255) for pair in frames.values()), "8 bit"
    for name in ("clean", "gain", "offset", "light"):
        assert (frames[name][:, :, 0] == frames["clean"][0, 0, 0]).all(), "at rest, in one light"
    clean = frames["clean"][0, 0, 1].double()
    dark = clean < 0.6  # where a gain does not saturate
    # display = linear^(1/1.6): the generator's own curve
    linear = clean**1.6
    for name, expected in (("gain", 1.3 * linear), ("offset", linear + 0.06)):
        off = (frames[name][0, 0, 1] - expected ** (1 / 1.6)).abs()
        assert off[dark].max() < 2.5 / 255, "two roundings to 8 bit, one of them amplified"


def test_noise_is_in_both_frames_and_different(frames):
    noise = frames["noise"] - frames["clean"]
    inner = (frames["clean"] > 0.1) & (frames["clean"] < 0.9)  # not clipped
    # rounding to 8 bit, twice, adds little: 1/255/sqrt(12) = 0.0011 each
    sd = [noise[:, :, f][inner[:, :, f]].std().item() for f in (0, 1)]
    assert sd == pytest.approx([0.01, 0.01], rel=0.05)
    one, two = noise[0, 0].flatten(1)
    assert abs(torch.corrcoef(torch.stack([one, two]))[0, 1]) < 0.1
    assert not torch.equal(noise[0, 0], noise[0, 1])


def test_the_shadow_moves_two_pixels_on_a_face_of_48():
    for size in (48, 112):
        play = trial._play(1003, ["shadow"], (0.1,), ("1",))
        face = Face(Identity.draw(1003, split="test"), size=size, colour=False)
        before, after = face.shadow_map(play)[:, 0].double()
        angle = float(play.shadow[0, 1])
        slope = [g.double() for g in torch.gradient(before)]
        along = slope[1] * math.cos(angle) + slope[0] * math.sin(angle)
        edge = before.sub(0.8).abs() < 0.1  # around half of the depth, 0.4
        # after = before - motion * slope to first order; the edge is 13 px wide, the way 2 px
        way = -((after - before) * along)[edge].sum() / (along**2)[edge].sum() * 48 / size
        assert abs(float(way)) == pytest.approx(2, rel=0.05)


def test_a_pair_does_not_depend_on_the_others(frames):
    alone = trial.pairs(1003, conditions=("all",), amplitudes_px=(0.8,), aus=("12",))
    assert torch.equal(alone[0, 0, 0], frames["all"][1, 1])
    as_lists = trial.pairs(1003, conditions=["all"], amplitudes_px=[0.8], aus=["12"])
    assert torch.equal(alone, as_lists), "a unit's parameters come back from JSON as lists"


@pytest.mark.parametrize("size", [48, 112, 50])
def test_the_peak_is_in_pixels_of_a_48_px_face(size):
    flow, skin = trial.truth(1003, size=size, **SMALL)
    length = (flow * skin[:, :, None]).norm(dim=2).amax((-2, -1)) * 48 / size
    # mirrored bumps overlap a little, and pixels may miss the very peak
    assert length == pytest.approx(torch.tensor([[0.2, 0.2], [0.8, 0.8]]), rel=0.1)


def test_the_skin_is_the_person_without_the_room():
    flow, skin = trial.truth(1003, **SMALL)
    assert 0.25 < skin.float().mean() < 0.7
    assert skin[..., 24, 24].all(), "the nose"
    assert not skin[..., 0, 0].any(), "a corner of the room"
    _, wide = trial.truth(1003, size=96, **SMALL)
    share, share_wide = (s.float().mean().item() for s in (skin, wide))
    assert share == pytest.approx(share_wide, abs=0.08)  # the border that is left out is thin
    chest = (flow[:, 0] * skin[:, 0, None])[..., 40:, :]
    assert chest.abs().max() < 0.01, "AU 1 leaves it alone"


def test_pairs_refuses():
    refused(lambda: trial.pairs(1003, conditions=("fog",)), "fog")
    refused(lambda: trial.pairs(1003, aus=("3",)), "action unit '3'")
    for amplitude_px in (-0.1, math.nan, 9.0):
        refused(lambda px=amplitude_px: trial.pairs(1003, amplitudes_px=(px,)))


# ---- estimates ----------------------------------------------------------------------------------


def test_inputs_by_their_formulas(frames):
    raw = frames["all"]
    assert torch.equal(trial.prepare(raw, "raw", 48), raw)
    z = trial.prepare(raw, "zscore", 48)
    want = (raw[1, 0, 1] - raw[1, 0, 1].mean()) / raw[1, 0, 1].std() / 6 + 0.5
    assert torch.allclose(z[1, 0, 1], want.clamp(0, 1), atol=1e-5)
    assert ((z == 0) | (z == 1)).float().mean() < 0.002, "hardly anything is clipped"
    contrast = trial.prepare(raw, "local_contrast", 48)
    assert ((contrast == 0) | (contrast == 1)).float().mean() < 0.005
    refused(lambda: trial.prepare(raw, "lcn", 48), "lcn")


def test_local_contrast_spans_the_same_part_of_a_face():
    large = trial.pairs(1003, conditions=("clean",), size=96, amplitudes_px=(0.4,), aus=("12",))
    late = trial.prepare(trial.prepare(large, "local_contrast", 96), "raw", 48)
    early = trial.prepare(large, "local_contrast", 48)
    # not 1: detail beyond the small image counts as contrast in the large one
    assert torch.corrcoef(torch.stack([late.flatten(), early.flatten()]))[0, 1] > 0.97


def test_shrinking_keeps_position():
    y, x = torch.meshgrid(*[(torch.arange(112) + 0.5) / 112] * 2, indexing="ij")
    small = trial.prepare(torch.stack([x, y]), "raw", 48)
    centre = (torch.arange(48) + 0.5) / 48
    assert torch.allclose(small[0, 24, 3:-3], centre[3:-3], atol=1e-4)
    assert torch.allclose(small[1, 3:-3, 24], centre[3:-3], atol=1e-4)


def test_level_2_lies_where_its_samples_were_taken():
    ramp = torch.arange(24.0).mul(2).expand(2, 24, 24)  # each sample knows its pixel
    fine = trial._up(ramp, 2)
    assert fine.shape == (2, 48, 48)
    assert torch.allclose(fine[0, 7, :47], torch.arange(47.0), atol=1e-4)
    assert fine[0, 7, 47] == fine[0, 7, 46]


def test_phase_averages_its_levels(frames):
    pair = frames["clean"][1]
    one, two = (trial.estimate(pair, f"phase_l{j}") for j in (1, 2))
    assert torch.allclose(trial.estimate(pair, "phase"), (one + two) / 2, atol=1e-6)
    assert one.shape == two.shape == (2, 2, 48, 48)


@pytest.mark.parametrize(("method", "px"), [("phase", 48), ("farneback", 112), ("tuned_flow", 112)])
def test_each_method_works_at_its_own_size(method, px):
    large = trial.pairs(1003, conditions=("clean",), amplitudes_px=(0.4,), aus=("1",), size=112)
    assert trial.own_px(method, 112) == px
    assert trial.estimate(large, method).shape == (1, 1, 1, 2, px, px)
    refused(lambda: trial.estimate(large, "guess"))


def test_the_tuned_flow_sees_what_the_others_see(frames):
    ready = prepare(frames["gain"], "zscore", 48)
    due = tuned_flow(ready[..., 0, :, :], ready[..., 1, :, :])
    assert torch.equal(trial.estimate(frames["gain"], "tuned_flow", "zscore"), due)


# ---- scores -------------------------------------------------------------------------------------


def field(size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """The right half moves by (3, 4) px, the left half rests; rows from 40 on do not count."""
    flow, skin = torch.zeros(2, size, size), torch.ones(size, size, dtype=torch.bool)
    flow[0, :, size // 2 :], flow[1, :, size // 2 :] = 3, 4
    skin[40:] = False
    return flow, skin


def test_scores_by_hand():
    flow, skin = field()
    turned, everywhere = torch.stack([flow[1], -flow[0]]), torch.tensor([3.0, 4]).view(2, 1, 1)
    wild = flow.clone()
    wild[:, 40:] = 100  # beyond the skin
    for estimate, expected in (
        (flow, [1, 0, 0]),
        (wild, [1, 0, 0]),
        (turned, [0, 0, math.sqrt(2)]),
        (everywhere.expand(2, 48, 48), [math.sqrt(0.5), 5, 0]),
    ):
        scores = [float(v) for v in trial.score(estimate, flow, skin).values()]
        assert scores == pytest.approx(expected, rel=1e-6, abs=1e-9)
    many = torch.stack([flow, -2 * flow, 0 * flow])[:, None]  # broadcast over conditions
    assert trial.score(many, flow[None], skin[None])["cosine"].tolist() == [[1], [-1], [0]]
    flow, skin = field(96)  # false motion is in pixels of a 48-px face
    false = trial.score(flow + torch.tensor([1.0, 0])[:, None, None], flow, skin)
    assert float(false["false_motion_px"]) == pytest.approx(0.5)


# ---- the unit -----------------------------------------------------------------------------------


def test_a_unit_is_what_its_parts_say(frames):
    options = {"methods": ("phase", "farneback"), "inputs": ("raw",)}
    metrics = trial.unit(seed=1003, conditions=("clean", "gain"), **options, **SMALL)
    assert len(metrics) == 2 * 2 * 2 * 3
    assert all(isinstance(value, float) and math.isfinite(value) for value in metrics.values())
    flow, skin = trial.truth(1003, **SMALL)
    for method in ("phase", "farneback"):
        calibrated = trial.estimate(frames["gain"], method) / trial.gain(method, "raw", 48)
        for name, values in trial.score(calibrated, flow, skin).items():
            want = values[1].mean().item()  # 0.8 px, over the action units
            assert metrics[f"{method}/raw/gain/0.8/{name}"] == pytest.approx(want, rel=1e-4)
    # Phase is calibrated on the same actors already; the flows shrink what they see.
    assert trial.gain("phase", "raw", 48) == pytest.approx(1, abs=0.05)
    assert 0.2 < trial.gain("farneback", "raw", 48) < 0.7
    # The customary sizes, each against the truth of its own.
    large = trial.unit(seed=1003, size=112, conditions=("clean",), **options, **SMALL)
    for method in ("phase", "farneback"):
        assert large[f"{method}/raw/clean/0.8/cosine"] > 0.5
        assert large[f"{method}/raw/clean/0.8/endpoint_error"] < 1
