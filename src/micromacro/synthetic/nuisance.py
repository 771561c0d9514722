"""What disturbs a recording besides the expressions: head, blinks, light, exposure, noise."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from micromacro.synthetic.identity import stream
from micromacro.synthetic.performance import Event, Performance, envelope, units


@dataclass(frozen=True)
class Nuisance:
    """What disturbs a recording besides the expressions; two numbers are a range to draw from.

    Attributes:
        sway: Standard deviation of the head's wandering, face units (1 px at 64 = 0.031).
        turn: Standard deviation of yaw, rad; pitch has half of it, roll a quarter.
        blink_rate: Mean number of blinks per second.
        talking: Share of the time, about, in which the jaw moves as in speech; `exaggerate`
            magnifies this jaw with the rest of the face.
        light: Standard deviations of the drift of the light's x and y weights.
        gain: Standard deviation of the logarithm of the exposure.
        offset: Standard deviation of an offset of the linear light, white is 1.
        flicker: Amplitude of mains flicker, an alias of 100 Hz at the camera's rate.
        shadow: Depth of a wandering shadow, 0 (none) to 1 (black).
        shadow_sharp: Steepness of the shadow's edge, per face unit.
        noise_sd: Standard deviation of the sensor noise, display units in [0, 1].
    """

    sway: tuple[float, float] = (0.0, 0.0)
    turn: tuple[float, float] = (0.0, 0.0)
    blink_rate: float = 0.0
    talking: float = 0.0
    light: tuple[float, float] = (0.0, 0.0)
    gain: tuple[float, float] = (0.0, 0.0)
    offset: tuple[float, float] = (0.0, 0.0)
    flicker: float = 0.0
    shadow: tuple[float, float] = (0.0, 0.0)
    shadow_sharp: tuple[float, float] = (5.0, 14.0)
    noise_sd: float = 0.0


NUISANCES = {
    "none": Nuisance(),
    "easy": Nuisance(
        sway=(0.003, 0.006),
        turn=(0.002, 0.006),
        blink_rate=0.15,
        light=(0.05, 0.03),
        gain=(0.02, 0.03),
        noise_sd=0.004,
    ),
    "hard": Nuisance(
        sway=(0.019, 0.031),
        turn=(0.03, 0.05),
        blink_rate=0.3,
        light=(0.16, 0.08),
        gain=(0.10, 0.15),
        flicker=0.05,
        shadow=(0.25, 0.5),
        noise_sd=0.012,
    ),
}
"""Ranges of the nuisances by level, measured to leave the tasks learnable."""


@dataclass(frozen=True)
class HeadDrift:
    """A slow, smooth drift of the head that reaches its range in both directions or nearly so.

    Attributes:
        shift: Largest displacement of x and of y, face units.
        roll_rad: Largest roll in either direction, rad.
        log_scale: Largest natural logarithm of the head's size.
        period_s: Duration of the slowest swing, seconds.
    """

    shift: float = 0.0
    roll_rad: float = 0.0
    log_scale: float = 0.0
    period_s: float = 4.0

    @classmethod
    def at(
        cls, shift_px: float, degrees: float, percent: float, *, size: int, period_s: float = 4.0
    ):
        """The drift given in pixels of a picture ``size`` pixels high, degrees and per cent."""
        shift, log_scale = units(shift_px, size), math.log1p(percent / 100)
        return cls(shift, math.radians(degrees), log_scale, period_s)


def disturb(play: Performance, noise: Nuisance, seed: int) -> Performance:
    """Sway, blinks, speech, light, exposure, shadow and sensor noise, each from its own stream."""
    T, fps = len(play), play.fps
    names = ("head", "blink", "speech", "light", "gain", "offset", "shadow")
    rng = {name: stream("performance", name, seed) for name in names}
    head = [_wander(rng["head"], T, fps) for _ in range(5)]  # x, y, yaw, pitch, roll
    sway, turn = rng["head"].uniform(*noise.sway), rng["head"].uniform(*noise.turn)
    blink, blinks = _blinks(rng["blink"], T, fps, noise.blink_rate)
    light = torch.stack([sd * _wander(rng["light"], T, fps, slow=1.5) for sd in noise.light], 1)
    exposure = rng["gain"].uniform(*noise.gain) * _wander(rng["gain"], T, fps, slow=1.5)
    offset = rng["offset"].uniform(*noise.offset) * _wander(rng["offset"], T, fps, slow=1.5)
    alias = (100 + fps / 2) % fps - fps / 2  # 100 Hz as the camera sees it, Hz
    mains = torch.sin(2 * math.pi * alias * play.t_s + rng["gain"].uniform(0, 2 * math.pi))
    return replace(
        play,
        shift=torch.stack([sway * head[0], sway * head[1]], 1),
        yaw=turn * head[2],
        pitch=0.5 * turn * head[3],
        roll=0.25 * turn * head[4],
        blink=blink,
        blinks=blinks,
        jaw=play.jaw + _speech(rng["speech"], play.t_s.numpy(), noise.talking),
        light=light,
        # Both multiply the linear light.
        gain=torch.exp(exposure) * (1 + noise.flicker * mains).float(),
        offset=offset,
        shadow=_shadow(rng["shadow"], T, fps, noise),
        noise_sd=torch.full((T,), noise.noise_sd),
    )


def _wander(rng: np.random.Generator, T: int, fps: float, slow: float = 1.0) -> torch.Tensor:
    """A smooth stationary random walk (T,), white noise filtered twice: variance 1, within 2.5."""
    tau = slow * rng.uniform(0.4, 0.8) * fps  # time constant, frames
    lag = np.arange(math.ceil(8 * tau))
    # Two equal low-passes in a row: no kinks, no jumps.
    kernel = (lag + 1) * np.exp(-(lag + 1) / tau)
    kernel /= np.linalg.norm(kernel)  # variance 1
    # A run-in as long as the kernel makes the path stationary.
    white = rng.standard_normal(T + len(kernel) - 1)
    n = len(white) + len(kernel)
    smooth = np.fft.irfft(np.fft.rfft(white, n) * np.fft.rfft(kernel, n), n)
    path = smooth[len(kernel) - 1 : len(kernel) - 1 + T]
    return torch.from_numpy(np.clip(path, -2.5, 2.5)).float()


def _blinks(rng: np.random.Generator, T: int, fps: float, rate: float):
    """Blinks at random times: closure (T,) in 0..1 and the events."""
    closure, events, frame = torch.zeros(T), [], 0.0
    while rate > 0:
        frame += (0.4 + rng.exponential(1 / rate)) * fps  # never two within 0.4 s
        length = max(3, round(rng.uniform(0.23, 0.30) * fps))
        onset = math.floor(frame)
        if onset + length > T:
            break
        # Lids fall faster than they rise.
        apex, offset = onset + round(0.35 * length), onset + length - 1
        event = Event(onset, apex, offset, (("blink", 1.0),), 1.0, "blink")
        closure = torch.maximum(closure, envelope(event, T))
        events.append(event)
        frame += length
    return closure, tuple(events)


def _speech(rng: np.random.Generator, t_s: np.ndarray, share: float) -> torch.Tensor:
    """Drop of a talking jaw, (T,), face units: now and then one to three seconds of syllables."""
    jaw, (first, last) = np.zeros(len(t_s)), t_s[[0, -1]]
    for _ in range(rng.poisson(share * (last - first) / 2)):  # 2 s is their mean
        length, rate, drop = rng.uniform((1, 3, 0.015), (3, 5, 0.045))  # s, Hz, face units
        t = t_s - rng.uniform(first - length, last)
        syllables = np.sin(np.pi * t / length) * np.sin(np.pi * rate * t) ** 2
        jaw = np.where((t > 0) & (t < length), np.maximum(jaw, drop * syllables), jaw)
    return torch.from_numpy(jaw).float()


def _shadow(rng: np.random.Generator, T: int, fps: float, noise: Nuisance) -> torch.Tensor:
    """Depth, direction, place and sharpness of the shadow, (T, 4)."""
    depth, sharp = rng.uniform(*noise.shadow), rng.uniform(*noise.shadow_sharp)
    angle, place = rng.uniform(0, 2 * math.pi), rng.uniform(-0.2, 0.4)
    path = place + 0.35 * _wander(rng, T, fps, slow=1.5)  # the edge wanders, its direction stays
    fixed = torch.tensor([depth, angle, sharp], dtype=torch.float32).repeat(T, 1)
    return torch.stack([fixed[:, 0], fixed[:, 1], path, fixed[:, 2]], 1)


def drift_head(play: Performance, drift: HeadDrift, seed: int) -> Performance:
    """Add a slow drift: three sines a channel, scaled to the range."""
    rng = stream("performance", "drift", seed)
    paths = []
    for limit in (drift.shift, drift.shift, drift.roll_rad, drift.log_scale):
        phase = rng.uniform(0, 2 * math.pi, 3)[:, None]
        rate = np.array([1, 1.7, 2.9])[:, None] * rng.uniform(0.8, 1.2)  # no common period
        angle = 2 * np.pi * rate * play.t_s.numpy() / drift.period_s + phase  # (3, T)
        wave = np.array([1, 0.5, 0.25]) @ np.sin(angle)
        # A clip shorter than a swing must not be stretched to the full range.
        paths.append(torch.from_numpy(limit * wave / max(np.abs(wave).max(), 0.5)).float())
    return replace(
        play,
        shift=play.shift + torch.stack(paths[:2], 1),
        roll=play.roll + paths[2],
        log_scale=play.log_scale + paths[3],
    )
