"""The experiment of notebook 03: phase differences against optical flow, with the motion known.

Two frames of one actor: at rest, and with one action unit at its peak, under a change of light or
noise. Every method turns them into a field of motion in pixels, from the same input, and is judged
by the exact flow, after division by the part of a motion that it reports (`gain`). All amplitudes
and all false motion are pixels of a 48-px face.

Sizes: with 48-px frames every method works at 48 px. With 112-px frames, an aligned crop, the flows
work at 112 px and the phase methods on the same crop shrunk to 48, as MIMAMO Net does (Deng et al.,
AAAI 2020). Shrinking averages the sensor noise: that belongs to the comparison.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F  # noqa: N812

from micromacro.kernels.phase_difference import phase_difference
from micromacro.motion.flow import optical_flow
from micromacro.motion.prepare import INPUTS, prepare
from micromacro.studies.motion_pairs import AMPLITUDES_PX, AUS, CONDITIONS, FACE_PX, pairs, truth

__all__ = [
    "AMPLITUDES_PX",
    "AUS",
    "CONDITIONS",
    "FACE_PX",
    "INPUTS",
    "METHODS",
    "PHASE",
    "estimate",
    "gain",
    "own_px",
    "pairs",
    "prepare",
    "score",
    "slopes_rad_per_px",
    "truth",
    "unit",
]

PHASE = {"phase": (1, 2), "phase_l1": (1,), "phase_l2": (2,)}  # levels whose estimates are averaged
METHODS = (*PHASE, "farneback", "dis_medium", "tvl1")
STILL, MOVING = 0.02, 0.25  # parts of the peak: skin below the one rests, above the other moves


# ---- estimates ----------------------------------------------------------------------------------


def own_px(method: str, size: int) -> int:
    """The size at which a method works on frames of a size: 48 at most for the phase methods."""
    return min(size, FACE_PX) if method in PHASE else size


def estimate(frames: torch.Tensor, method: str, inputs: str = "raw") -> torch.Tensor:
    """The motion from the first frame of each pair to the second.

    Args:
        frames: float32 (..., 2, H, H) in [0, 1].
        method: One of `PHASE`, or a method of `optical_flow`.
        inputs: See `prepare`.

    Returns:
        flow_px: float32 (..., 2, h, h), x y, pixels of the h-px image on which the method works
        (`own_px`).

    Raises:
        BadInput: Unknown method or input.
    """
    ready = prepare(frames, inputs, own_px(method, frames.shape[-1]))
    if method in PHASE:
        return _phase_flow(ready, PHASE[method])
    return optical_flow(ready[..., 0, :, :], ready[..., 1, :, :], method=method)


def _phase_flow(frames: torch.Tensor, levels: tuple[int, ...]) -> torch.Tensor:
    """Mean of the levels' estimates, each its phase difference over its slope."""
    slope = dict(zip((1, 2), slopes_rad_per_px(), strict=True))
    maps = phase_difference(frames, levels=levels, center=False)
    fields = [m[..., 0, :, :] / slope[level] for level, m in zip(levels, maps, strict=True)]
    return sum(_up(f, level) for level, f in zip(levels, fields, strict=True)) / len(levels)


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
        flow_px: The same for the truth; broadcasts.
        skin: bool (..., h, h), where to look; broadcasts.

    Returns:
        Each (...): `cosine` of the two fields as vectors, 0 where either is 0 everywhere;
        `false_motion_px`, mean length of the estimate where the truth is below 2 % of its peak, in
        pixels of a 48-px face; `endpoint_error`, mean length of the difference where the truth is
        above 25 % of its peak, over the mean length of the truth there.
    """
    estimate_px, flow_px = torch.broadcast_tensors(estimate_px, flow_px)
    estimate_px, flow_px = (f * skin.unsqueeze(-3) for f in (estimate_px, flow_px))
    dot, norm, true_norm = (
        (a * b).sum((-3, -2, -1), dtype=torch.float64)
        for a, b in ((estimate_px, flow_px), (estimate_px, estimate_px), (flow_px, flow_px))
    )
    length, true_length, error = (
        torch.hypot(*f.unbind(-3)) for f in (estimate_px, flow_px, estimate_px - flow_px)
    )
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
    """One actor, as a unit for `experiments.run`.

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
            found = score(calibrated, flow, skin)
            for name, values in found.items():
                for condition, row in zip(conditions, values.mean(-1).tolist(), strict=True):
                    for amplitude, value in zip(amplitudes_px, row, strict=True):
                        scores[f"{method}/{kind}/{condition}/{amplitude}/{name}"] = value
    return scores
