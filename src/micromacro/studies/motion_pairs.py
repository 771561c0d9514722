"""Pairs of frames whose motion is known exactly, while light or noise changes between them.

One actor: at rest, and with one action unit at its peak. All amplitudes are pixels of a 48-px face,
whatever the size of the frames.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from micromacro.errors import BadInput
from micromacro.synthetic import AUS as ALL_AUS
from micromacro.synthetic import NUISANCES, Face, Identity, Performance, units
from micromacro.synthetic.identity import stream

FACE_PX = 48  # the unit of every length
AMPLITUDES_PX = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5)
AUS = ("1", "2", "4", "6", "9", "12", "15", "17")


@dataclass(frozen=True)
class Condition:
    """What else changes between the two frames.

    Attributes:
        gain: Factor on the linear light of the second frame.
        offset: Added to the linear light of the second frame.
        light: Added to the light's x and y weights in the second frame.
        shadow: Depth of a shadow in both frames; its soft edge (10 to 90 % over 13 px) moves 2 px.
        noise_sd: Sensor noise of both frames, display units.
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
        conditions: Names in `CONDITIONS`, C of them.
        amplitudes_px: Peak displacements >= 0 in pixels of a 48-px face, whatever the size; A.
        aus: Names in `synthetic.AUS`, U of them.
        size: Side of the frames in pixels.
        split: Of the identity.
        device: Where they are rendered.

    Returns:
        float32 (C, A, U, 2, size, size), grey, multiples of 1/255 in [0, 1].

    Raises:
        BadInput: An unknown condition or action unit; an amplitude that is negative or beyond
            2.6 px, where skin folds over.
    """
    play = _play(seed, known("condition", conditions, CONDITIONS), amplitudes_px, aus)
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
        seed: As for `pairs`, like the others.
        amplitudes_px: Pixels of a 48-px face.
        aus: Names.
        size: Side in pixels.
        split: Of the identity.
        device: Where it is computed.

    Returns:
        flow_px: float32 (A, U, 2, size, size), x y, pixels of these frames, from the resting frame.
        skin: bool (A, U, size, size), where the person is and flow has a meaning: no background,
            no eyeballs, no border.

    Raises:
        BadInput: As `pairs`.
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
    shape = (len(conditions), len(amplitudes_px), len(aus), 2)
    au = torch.zeros(*shape, len(ALL_AUS))
    peaks = torch.tensor([units(a, FACE_PX) for a in amplitudes_px])
    for u, name in enumerate(known("action unit", aus, ALL_AUS)):
        au[:, :, u, 1, ALL_AUS.index(name)] = peaks
    light = torch.stack([_light(name, seed) for name in conditions])[:, None, None]
    gain, offset, direction, shadow, noise_sd = (
        light.expand(*shape, 9).reshape(-1, 9).split((1, 1, 2, 4, 1), dim=1)
    )
    return replace(
        Performance.still(len(gain)),
        au=au.flatten(0, -2),
        gain=gain[:, 0],
        offset=offset[:, 0],
        light=direction,
        shadow=shadow,
        noise_sd=noise_sd[:, 0],
        noise_key=_noise_keys(seed, conditions, amplitudes_px, aus),
    )


def _light(name: str, seed: int) -> torch.Tensor:
    """Gain, offset, light (2), shadow (4) and noise of both frames of a condition, (2, 9)."""
    c, rng = CONDITIONS[name], stream("phase versus flow", seed)
    angle, place = rng.uniform(0, 2 * torch.pi), rng.uniform(-0.2, 0.4)
    half = units(_SHADOW_PX, FACE_PX) / 2
    first = [1.0, 0.0, 0.0, 0.0, c.shadow, angle, place - half, _SHADOW_SHARP, c.noise_sd]
    second = [c.gain, c.offset, *c.light, c.shadow, angle, place + half, _SHADOW_SHARP, c.noise_sd]
    return torch.tensor([first, second])


def _noise_keys(seed: int, conditions, amplitudes_px, aus) -> torch.Tensor:
    """A noise of its own for each frame, by name and not by place, (n, 2)."""
    names = (
        f"{condition}/{float(amplitude)}/{au}/{frame}"
        for condition in conditions
        for amplitude in amplitudes_px
        for au in aus
        for frame in (0, 1)
    )
    return torch.tensor([[seed, zlib.crc32(name.encode())] for name in names])


def known(what: str, names: Sequence[str], among) -> Sequence[str]:
    """The names, if all are among those that exist; else BadInput."""
    for name in names:
        if name not in among:
            raise BadInput(f"{what} {name!r}", "is unknown", f"choose from {', '.join(among)}")
    return names
