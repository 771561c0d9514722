"""The experiment of notebook 03: phase differences against optical flow, with the motion known.

Two frames of one actor: at rest, and with one action unit at its peak, under a change of light or
noise. Every method turns them into a field of motion in pixels, from the same input, and is judged
by the exact flow, after division by the part of a motion that it reports (`gain`). All amplitudes
and all false motion are pixels of a 48-px face, whatever the size of the frames.

Sizes: with 48-px frames every method works at 48 px. With 112-px frames, an aligned crop, the flows
work at 112 px and the phase methods on the same crop shrunk to 48, as MIMAMO Net does (Deng et al.,
AAAI 2020). Shrinking averages the sensor noise: that belongs to the comparison.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import torch
import torch.nn.functional as F  # noqa: N812

from micromacro.errors import BadInput, check_choice
from micromacro.kernels.phase_difference import phase_difference
from micromacro.motion.flow import optical_flow, tuned_flow
from micromacro.motion.prepare import INPUTS, prepare
from micromacro.synthetic import AUS as ALL_AUS
from micromacro.synthetic import NUISANCES, Face, Identity, Performance, units
from micromacro.synthetic.identity import stream

FACE_PX = 48  # the unit of every length
AMPLITUDES_PX = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5)
AUS = ("1", "2", "4", "6", "9", "12", "15", "17")
PHASE = {"phase": (1, 2), "phase_l1": (1,), "phase_l2": (2,)}  # levels whose estimates are averaged
METHODS = (*PHASE, "farneback", "tuned_flow", "dis_medium", "tvl1")
STILL, MOVING = 0.02, 0.25  # parts of the peak: skin below the one rests, above the other moves


# ---- pairs of frames, and their truth -----------------------------------------------------------


@dataclass(frozen=True)
class Condition:
    """What else changes between the two frames.

    Attributes:
        gain: Factor on the linear light of the second frame.
        offset: Offset that is added to the linear light of the second frame.
        light: What is added to the light's x and y weights in the second frame.
        shadow: Depth of a shadow in both frames; its soft edge (10 to 90 % over 13 px) moves 2 px.
        noise_sd: Standard deviation of the sensor noise of both frames, display units.
    """

    gain: float = 1.0
    offset: float = 0.0
    light: tuple[float, float] = (0.0, 0.0)
    shadow: float = 0.0
    noise_sd: float = 0.0


_LIGHT = NUISANCES["hard"].light  # (0.16, 0.08): one standard deviation of the hard recordings
CONDITIONS = {
    "clean": Condition(),
    "noise": Condition(noise_sd=0.01),
    "gain": Condition(gain=1.3),
    "offset": Condition(offset=0.06),
    "light": Condition(light=_LIGHT),
    "shadow": Condition(shadow=0.4),
    "all": Condition(1.3, 0.06, _LIGHT, 0.4, 0.008),
}
_SHADOW_PX, _SHADOW_SHARP = 2.0, 8.0  # way of the edge; steepness per face unit


def pairs(
    seed: int,
    *,
    conditions: Sequence[str] = tuple(CONDITIONS),
    amplitudes_px: Sequence[float] = AMPLITUDES_PX,
    aus: Sequence[str] = AUS,
    size: int = FACE_PX,
    split: str = "test",
    device: str = "cpu",
) -> torch.Tensor:
    """Pairs of frames, one for each condition, amplitude and action unit.

    A pair does not depend on which others are asked for.

    Args:
        seed: Number of the actor; also decides the noise and where the shadow falls.
        conditions: C names of `CONDITIONS`.
        amplitudes_px: Peak displacements >= 0 in pixels of a 48-px face, whatever the size; A.
        aus: U names of `synthetic.AUS`.
        size: Side of the square frames in pixels.
        split: Split from which the person is drawn; another split has other people.
        device: Device on which the frames are rendered.

    Returns:
        float32 (C, A, U, 2, size, size), grey, multiples of 1/255 in [0, 1].

    Raises:
        BadInput: An unknown condition or action unit; an amplitude that is negative or beyond
            2.6 px, where skin folds over.
    """
    play = _play(seed, conditions, amplitudes_px, aus)
    frames = _actor(seed, size, split, device).render(play)
    return frames.view(len(conditions), len(amplitudes_px), len(aus), 2, size, size)


def truth(
    seed: int,
    *,
    amplitudes_px: Sequence[float] = AMPLITUDES_PX,
    aus: Sequence[str] = AUS,
    size: int = FACE_PX,
    split: str = "test",
    device: str = "cpu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """The exact motion in `pairs`; light and noise do not change it.

    Args:
        seed: Number of the actor, as for `pairs`.
        amplitudes_px: A peak displacements in pixels of a 48-px face.
        aus: U names of `synthetic.AUS`.
        size: Side of the square frames in pixels.
        split: Split from which the person is drawn; another split has other people.
        device: Device on which the motion is computed.

    Returns:
        flow_px: float32 (A, U, 2, size, size), x y, pixels of these frames, from the resting frame.
        skin: bool (A, U, size, size), where the person is and flow has a meaning: no background,
            no eyeballs, no border.

    Raises:
        BadInput: An action unit is unknown, or an amplitude is negative or folds the skin.
    """
    play = _play(seed, ["clean"], amplitudes_px, aus)
    first = range(0, len(play), 2)
    flow, valid = _actor(seed, size, split, device).flow(play, first, range(1, len(play), 2))
    skin = valid & _person(seed, size, split, device)
    shape = len(amplitudes_px), len(aus)
    return flow.view(*shape, 2, size, size), skin.view(*shape, size, size)


@lru_cache(maxsize=8)
def _actor(seed: int, size: int, split: str, device: str) -> Face:
    return Face(Identity.draw(seed, split=split), size=size, colour=False, device=device)


@lru_cache(maxsize=8)
def _person(seed: int, size: int, split: str, device: str) -> torch.Tensor:
    """Where the person is, bool (H, W): flow is 0 on the background and nowhere else in a nod."""
    rest = Performance.still(2)
    nod = replace(rest, shift=torch.tensor([[0.0, 0.0], [0.0, 0.02]]))
    flow, valid = _actor(seed, size, split, device).flow(nod, 0, 1)
    return valid & (flow[1] != 0)


def _play(seed: int, conditions: Sequence[str], amplitudes_px, aus) -> Performance:
    """Two frames for each (condition, amplitude, action unit), one after the other."""
    for amplitude in amplitudes_px:
        if not amplitude >= 0:
            raise BadInput(f"amplitude_px={amplitude}", "is not a length", "give 0 or more")
    for condition in conditions:
        check_choice("condition", condition, CONDITIONS)
    shape = (len(conditions), len(amplitudes_px), len(aus), 2)
    au = torch.zeros(*shape, len(ALL_AUS))
    peaks = torch.tensor([units(a, FACE_PX) for a in amplitudes_px])
    for u, name in enumerate(aus):
        check_choice("action unit", name, ALL_AUS)
        au[:, :, u, 1, ALL_AUS.index(name)] = peaks
    light = torch.stack([_light(name, seed) for name in conditions])[:, None, None]
    light = light.expand(*shape, 9).reshape(-1, 9)  # (frames, 9)
    # A noise of its own for each frame, by name and not by place: a pair keeps it in any company.
    frames = product(conditions, map(float, amplitudes_px), aus, (0, 1))
    keys = [[seed, zlib.crc32("/".join(map(str, frame)).encode())] for frame in frames]
    play = replace(Performance.still(len(keys)), au=au.flatten(0, -2), noise_key=torch.tensor(keys))
    play = replace(play, gain=light[:, 0], offset=light[:, 1], light=light[:, 2:4])
    return replace(play, shadow=light[:, 4:8], noise_sd=light[:, 8])


def _light(name: str, seed: int) -> torch.Tensor:
    """Gain, offset, light (2), shadow (4) and noise of both frames of a condition, (2, 9)."""
    c, rng = CONDITIONS[name], stream("phase versus flow", seed)
    angle, place = rng.uniform(0, 2 * torch.pi), rng.uniform(-0.2, 0.4)
    half = units(_SHADOW_PX, FACE_PX) / 2
    first = [1.0, 0.0, 0.0, 0.0, c.shadow, angle, place - half, _SHADOW_SHARP, c.noise_sd]
    second = [c.gain, c.offset, *c.light, c.shadow, angle, place + half, _SHADOW_SHARP, c.noise_sd]
    return torch.tensor([first, second])


# ---- estimates ----------------------------------------------------------------------------------


def own_px(method: str, size: int) -> int:
    """The size at which a method works on frames of a size: 48 at most for the phase methods."""
    return min(size, FACE_PX) if method in PHASE else size


def estimate(frames: torch.Tensor, method: str, inputs: str = "raw") -> torch.Tensor:
    """The motion from the first frame of each pair to the second.

    Args:
        frames: float32 (..., 2, H, H) in [0, 1].
        method: One of `PHASE`, "tuned_flow" (`tuned_flow`), or a method of `optical_flow`.
        inputs: Normalisation of the frames before the method sees them; see `prepare`.

    Returns:
        flow_px: float32 (..., 2, h, h), x y, pixels of the h-px image on which the method works
        (`own_px`).

    Raises:
        BadInput: The method or the normalisation is unknown.
    """
    ready = prepare(frames, inputs, own_px(method, frames.shape[-1]))
    if method in PHASE:
        return _phase_flow(ready, PHASE[method])
    first, second = ready.unbind(-3)
    if method == "tuned_flow":
        return tuned_flow(first, second)
    return optical_flow(first, second, method=method)


def _phase_flow(frames: torch.Tensor, levels: tuple[int, ...]) -> torch.Tensor:
    """Mean of the levels' estimates, each its phase difference over its slope."""
    slopes, fields = slopes_rad_per_px(), []
    maps = phase_difference(frames, levels=levels, center=False)  # each (..., 2, 1, h, w)
    for level, phase_rad in zip(levels, maps, strict=True):
        fields.append(_up(phase_rad[..., 0, :, :] / slopes[level - 1], level))
    return sum(fields) / len(levels)  # (..., 2, H, W)


def _up(field: torch.Tensor, level: int) -> torch.Tensor:
    """Bring maps sampled at pixels 0, 2, 4 ... of the frame to every pixel; level 1 is there."""
    if level == 1:
        return field
    h, w = field.shape[-2:]
    flat = field.reshape(-1, 1, h, w)
    fine = F.interpolate(flat, (2 * h - 1, 2 * w - 1), mode="bilinear", align_corners=True)
    fine = F.pad(fine, (0, 1, 0, 1), mode="replicate")  # beyond the last sample
    return fine.view(*field.shape[:-2], 2 * h, 2 * w)


@lru_cache(maxsize=1)
def slopes_rad_per_px() -> tuple[float, float]:
    """Phase change per pixel of motion at levels 1 and 2, from three other identities.

    Least squares of the phase difference on the true flow, both axes together, over the skin, at
    0.5 px and clean. The ideal -2 pi / wavelength (-1.57, -0.79 rad/px) is that of a pure wave;
    on skin the blur mixes what moves with what rests.
    """
    products = torch.zeros(2, 2, dtype=torch.float64)
    for seed in range(3):
        which = {"amplitudes_px": (0.5,), "split": "dev"}
        frames = pairs(seed, conditions=("clean",), **which)[0]
        flow, skin = truth(seed, **which)
        for j, change in enumerate(phase_difference(frames, center=False)):
            step = 2**j
            where = skin[..., None, ::step, ::step]
            true = (flow[..., ::step, ::step] * where).double()
            products[j, 0] += (true * change[..., 0, :, :]).sum()
            products[j, 1] += (true * true).sum()
    level_1, level_2 = (products[:, 0] / products[:, 1]).tolist()
    return level_1, level_2


# ---- scores -------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def gain(method: str, inputs: str, size: int) -> float:
    """How much of a motion of 0.5 px a method reports on clean skin: its slope on the truth.

    Every method shrinks motion, each by its own factor, and what shrinks most would report the
    least false motion. So lengths are divided by this, from the three identities of
    `slopes_rad_per_px`, before they are compared. A cosine does not change.
    """
    product = square = 0.0
    for seed in range(3):
        which = {"amplitudes_px": (0.5,), "split": "dev"}
        frames = pairs(seed, conditions=("clean",), size=size, **which)[0]
        flow, skin = truth(seed, size=own_px(method, size), **which)
        true = (flow * skin.unsqueeze(-3)).double()
        product += float((true * estimate(frames, method, inputs)).sum())
        square += float((true * true).sum())
    return product / square


def score(
    estimate_px: torch.Tensor, flow_px: torch.Tensor, skin: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Compare fields of motion with the truth, over the skin of the person.

    Args:
        estimate_px: float32 (..., 2, h, h), pixels of the h-px image.
        flow_px: float32, broadcasts to the same shape: the true motion.
        skin: bool, broadcasts to (..., h, h): the pixels that count.

    Returns:
        Each (...): `cosine` of the two fields as vectors, 0 where either is 0 everywhere;
        `false_motion_px`, mean length of the estimate where the truth is below 2 % of its peak, in
        pixels of a 48-px face; `endpoint_error`, mean length of the difference where the truth is
        above 25 % of its peak, over the mean length of the truth there.
    """
    estimate_px, flow_px = torch.broadcast_tensors(estimate_px, flow_px)
    estimate_px, flow_px = (f * skin.unsqueeze(-3) for f in (estimate_px, flow_px))
    products = (estimate_px * flow_px, estimate_px * estimate_px, flow_px * flow_px)
    dot, norm, true_norm = (p.sum((-3, -2, -1), dtype=torch.float64) for p in products)
    fields = (estimate_px, flow_px, estimate_px - flow_px)
    length, true_length, error = (torch.hypot(*f.unbind(-3)) for f in fields)  # (..., h, h)
    peak = true_length.amax((-2, -1), keepdim=True)
    rests = skin & (true_length <= STILL * peak)
    moves = skin & (true_length > MOVING * peak)
    false = _mean(length, rests) * FACE_PX / estimate_px.shape[-1]
    return {
        "cosine": dot / (norm * true_norm).sqrt().clamp_min(1e-12),
        "false_motion_px": false,
        "endpoint_error": _mean(error, moves) / _mean(true_length, moves),
    }


def _mean(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    total = (values * where).sum((-2, -1), dtype=torch.float64)
    return total / where.sum((-2, -1))


def unit(
    *,
    seed: int,
    size: int = FACE_PX,
    methods: Sequence[str] = METHODS,
    inputs: Sequence[str] = INPUTS,
    conditions: Sequence[str] = tuple(CONDITIONS),
    amplitudes_px: Sequence[float] = AMPLITUDES_PX,
    aus: Sequence[str] = AUS,
    device: str = "cpu",
) -> dict[str, float]:
    """Measure one actor; a unit for `units.run`.

    Returns:
        Metrics named "<method>/<input>/<condition>/<amplitude>/<score>" of the estimates divided by
        `gain`, means over the action units; see `score`.
    """
    play = {"amplitudes_px": amplitudes_px, "aus": aus, "device": device}
    frames = pairs(seed, conditions=conditions, size=size, **play)
    truths = {px: truth(seed, size=px, **play) for px in {own_px(m, size) for m in methods}}
    scores = {}
    for method in methods:
        flow, skin = truths[own_px(method, size)]
        for kind in inputs:
            calibrated = estimate(frames, method, kind) / gain(method, kind, size)
            for name, values in score(calibrated, flow, skin).items():
                for condition, row in zip(conditions, values.mean(-1).tolist(), strict=True):
                    for amplitude, value in zip(amplitudes_px, row, strict=True):
                        scores[f"{method}/{kind}/{condition}/{amplitude}/{name}"] = value
    return scores
