"""Claims about phase differences that need no training: a person a unit, a dozen numbers.

The numbers in brackets are those of the claims in notebook 04b. Faces have 48 px, motions are known
exactly, level 1 is read unless another is named.
"""

from dataclasses import replace

import torch

from micromacro.kernels.phase_difference import phase_difference
from micromacro.kernels.phase_reference import EPS, bands_reference, blur
from micromacro.kernels.phase_reference import phase_difference_reference as reference
from micromacro.motion.flow import optical_flow
from micromacro.motion.prepare import prepare
from micromacro.studies.phase_versus_flow import FACE_PX, pairs, truth
from micromacro.synthetic import Face, Identity, Performance, micro_event, perform, units

FRAMES = 13
AU = (("1", 0.6), ("12", 0.8))  # inner brows and mouth corners
NOISE_PX = (0.4, 0.8)  # motions that are looked for in noise
GAP = 8  # frames without a face


def unit(*, seed: int) -> dict[str, float]:
    """Measure one actor; a unit for `units.run`.

    Returns:
        `exposure_phase_rad`: largest change of a phase difference when every frame gets a gain and
        an offset of its own, in float64 [1]; `exposure_flow_px`, `exposure_flow_zscore_px`: mean
        change of Farneback's flow by the same, on raw frames and on frames with their own mean and
        standard deviation taken out; `exposure_true_px`: mean length of the exact motion [1].
        `common_plain`, `common_centred`: mean |response| to a head that moves by 0.25 px a frame,
        without and with subtraction of the mean, rad; `local_plain`, `local_centred`: the same for
        a moving brow and mouth, where they move [11].
        `noise_cosine_*`: cosine with the exact motion under 1 % of noise, without blur, with the
        phase blurred before or after the difference [15].
        `gap_rad`, `usual_rad`: mean |response| across a gap of 8 frames and without one, rad [16].
        `linear_r2_1`, `linear_r2_2`: R^2 of response and displacement below a quarter of the
        wavelength, levels 1 and 2; `turned_1`, `turned_2`: response at three quarters of it over
        that at one quarter, with the sign that a straight line would give [18].
    """
    face = Face(Identity.draw(seed, split="mimamo-signals"), size=FACE_PX, colour=False)
    return _exposure(face, seed) | _centring(face) | _noise(seed) | _gap(face, seed) | _range(face)


def _frames(face: Face, play: Performance) -> torch.Tensor:
    return face.render(play)[:, 0]


def _moving(peak_px: float) -> Performance:
    event = micro_event(0, AU, duration_s=FRAMES / 30, peak=units(peak_px, FACE_PX))
    return perform(FRAMES, 30.0, [event], nuisance="none")


def _shifted(steps_px: torch.Tensor) -> Performance:
    """The resting head at the given places along x, pixels."""
    still = Performance.still(len(steps_px))
    return replace(still, shift=torch.stack([steps_px * 2 / FACE_PX, 0 * steps_px], 1))


def _exposure(face: Face, seed: int) -> dict[str, float]:
    play = _moving(0.4)
    frames = _frames(face, play).double()
    draws = torch.Generator().manual_seed(int(seed))
    gain = 0.6 + 0.3 * torch.rand(FRAMES, 1, 1, generator=draws)  # never saturates
    offset = 0.1 * torch.rand(FRAMES, 1, 1, generator=draws)
    changed = gain * frames + offset
    levels = zip(*map(reference, (frames, changed)), strict=True)
    rad = max(float((a - b).abs().max()) for a, b in levels)
    metrics = {"exposure_phase_rad": rad}
    for name, kind in (("flow", "raw"), ("flow_zscore", "zscore")):
        ready = [prepare(f.float(), kind, FACE_PX) for f in (frames, changed)]
        flows = [optical_flow(f[:-1], f[1:], method="farneback") for f in ready]
        metrics[f"exposure_{name}_px"] = float((flows[1] - flows[0]).norm(dim=-3).mean())
    first = range(FRAMES - 1)
    flow, _ = face.flow(play, first, [t + 1 for t in first])
    return metrics | {"exposure_true_px": float(flow.norm(dim=-3).mean())}


def _centring(face: Face) -> dict[str, float]:
    common = _frames(face, _shifted(0.25 * torch.arange(FRAMES)))
    play = _moving(0.8)
    local, first = _frames(face, play), range(FRAMES - 1)
    flow, valid = face.flow(play, first, [t + 1 for t in first])
    length = flow.norm(dim=1)
    where = valid & (length > 0.5 * length.amax((1, 2), keepdim=True)) & (length > 0.02)
    metrics = {}
    for name, center in (("plain", False), ("centred", True)):
        metrics[f"common_{name}"] = float(_level_1(common, center=center).abs().mean())
        response = _level_1(local, center=center).norm(dim=0)
        metrics[f"local_{name}"] = float(response[where].mean())
    return metrics


def _level_1(frames: torch.Tensor, **options) -> torch.Tensor:
    return phase_difference(frames, levels=(1,), **options)[0]


def _noise(seed: int) -> dict[str, float]:
    which = {"amplitudes_px": NOISE_PX}
    frames = pairs(seed, conditions=["noise"], **which)[0].flatten(0, 1)
    flow, skin = (t.flatten(0, 1) for t in truth(seed, **which))
    estimates = {
        "unblurred": _level_1(frames, center=False, blur_sigma=0.0)[:, :, 0],
        "blurred_after": _level_1(frames, center=False)[:, :, 0],
        "blurred_before": torch.stack([_absolute_then_difference(pair) for pair in frames]),
    }
    return {f"noise_cosine_{k}": _cosine(-v, flow, skin) for k, v in estimates.items()}


def _absolute_then_difference(pair: torch.Tensor) -> torch.Tensor:
    """Blur each frame's phase with its own amplitude, then subtract; (2, H, W) to (2, h, w)."""
    first, second = bands_reference(pair.double(), 1, 2)
    phase = first.angle()
    phases = torch.stack([phase, phase + (second * first.conj()).angle()])
    amplitude = torch.stack([first, second]).abs() + EPS
    smooth = blur(amplitude * phases, 2.0) / blur(amplitude, 2.0)
    return (smooth[1] - smooth[0]).float()


def _cosine(estimate: torch.Tensor, flow: torch.Tensor, skin: torch.Tensor) -> float:
    """Mean over pairs of the cosine of two fields (N, 2, H, W) on the skin."""
    a, b = ((field * skin[:, None]).flatten(1) for field in (estimate, flow))
    return float(((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).mean())


def _gap(face: Face, seed: int) -> dict[str, float]:
    frames = _frames(face, perform(2 * FRAMES + GAP, 30.0, nuisance="easy", seed=seed))
    seen = torch.cat([frames[:FRAMES], frames[FRAMES + GAP :]])  # as if nothing were missing
    response = _level_1(seen).abs().mean((0, 2, 3))
    across = torch.arange(len(response)) == FRAMES - 1
    return {"gap_rad": float(response[across]), "usual_rad": float(response[~across].median())}


def _range(face: Face) -> dict[str, float]:
    metrics = {}
    for level, wavelength in ((1, 4.0), (2, 8.0)):
        places = torch.linspace(0, 0.25, 11) * wavelength
        response = torch.stack([_response(face, d, level) for d in places])
        squared = torch.corrcoef(torch.stack([places, response]))[0, 1] ** 2
        far = _response(face, torch.tensor(0.75 * wavelength), level)
        metrics[f"linear_r2_{level}"] = float(squared)
        metrics[f"turned_{level}"] = float(far / response[-1])
    return metrics


def _response(face: Face, shift_px: torch.Tensor, level: int) -> torch.Tensor:
    """Median response along x to a shift of the whole head, over the middle of the face."""
    frames = _frames(face, _shifted(torch.stack([torch.zeros(()), shift_px])))
    maps = phase_difference(frames, levels=(level,), center=False)[0][0, 0]
    rim = len(maps) // 3  # the middle third: away from the mirrored border
    return maps[rim:-rim, rim:-rim].median()
