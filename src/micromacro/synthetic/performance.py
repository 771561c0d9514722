"""What a face does over time: one tensor a channel, and the truth that goes with it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch

from micromacro.errors import BadInput, check_whole
from micromacro.synthetic.anatomy import AUS

FOLD_OVER = 0.11
"""Largest summed displacement of one zone in face units; beyond it the skin could fold over."""

ZONES = {
    "brow": ("1", "2", "4"),
    "cheek": ("6", "7", "9"),
    "mouth left": ("10", "12", "14", "15", "17", "20", "23", "12L", "14L"),
    "mouth right": ("10", "12", "14", "15", "17", "20", "23", "12R", "14R"),
}
"""AUs whose displacements add up because they pull at the same skin."""


@dataclass(frozen=True)
class Event:
    """One expression: when, which muscles, how much. Frames are 0-based, the interval inclusive.

    The face rests before ``onset`` and after ``offset``; it is at the peak from ``apex`` to
    ``apex + hold``.
    """

    onset: int
    apex: int
    offset: int
    aus: tuple[tuple[str, float], ...]  # name, weight; see EXPRESSIONS
    peak: float  # face units
    kind: str  # "micro", "macro" or "blink"
    label: str = ""
    hold: int = 0

    def __post_init__(self):
        if not 0 <= self.onset <= self.apex <= self.apex + self.hold <= self.offset:
            event = f"event {self.onset}-{self.apex}+{self.hold}-{self.offset}"
            remedy = "keep 0 <= onset <= apex <= apex + hold <= offset"
            raise BadInput(event, "is out of order", remedy)


@dataclass(frozen=True)
class Performance:
    """Everything that changes from frame to frame, T frames; independent of face and resolution.

    Attributes:
        au: (T, len(AUS)) peak displacement of each smooth AU, face units.
        lid: (T,) closure of the eyes by expression: 0 resting, 1 closed, negative wide.
        blink: (T,) closure of the eyes by blinking, in [0, 1].
        jaw: (T,) drop of the chin in face units.
        part: (T,) gap between the lips beyond what the jaw gives, face units.
        shift: (T, 2) position of the head (x right, y down), face units.
        roll: (T,) turn of the head in the picture, rad, clockwise on the screen.
        log_scale: (T,) natural logarithm of the size of the head.
        yaw: (T,) rad, positive to the right of the image. Small angles only (about 0.1).
        pitch: (T,) nod of the head, rad, positive downwards. Small angles only.
        light: (T, 2) drift of the light's x and y weights; see ``Identity.light``.
        gain: (T,) factor on the linear light; the exposure.
        offset: (T,) offset that is added to the linear light.
        shadow: (T, 4) depth 0..1, direction of its edge in rad, place of the edge in face units,
            sharpness per face unit.
        noise_sd: (T,) standard deviation of the sensor noise, display units 0..1.
        noise_key: (T, 2) int64, seed of the clip and frame number within it.
        t_s: (T,) float64, time stamps in seconds.
        fps: Frames per second of the camera.
        events: The truth about micro- and macro-expressions, in order of the script.
        blinks: The truth about blinks (``kind == "blink"``).
        envelope: (T, len(events)) activation of each event, 0..1.
    """

    au: torch.Tensor
    lid: torch.Tensor
    blink: torch.Tensor
    jaw: torch.Tensor
    part: torch.Tensor
    shift: torch.Tensor
    roll: torch.Tensor
    log_scale: torch.Tensor
    yaw: torch.Tensor
    pitch: torch.Tensor
    light: torch.Tensor
    gain: torch.Tensor
    offset: torch.Tensor
    shadow: torch.Tensor
    noise_sd: torch.Tensor
    noise_key: torch.Tensor
    t_s: torch.Tensor
    fps: float
    envelope: torch.Tensor
    events: tuple[Event, ...] = ()
    blinks: tuple[Event, ...] = ()

    def __post_init__(self):
        for name in _CHANNELS:
            if (T := len(getattr(self, name))) != len(self):
                raise BadInput(name, f"has {T} frames, not {len(self)}", "give every frame once")
        if self.au.shape[1] != len(AUS):
            raise BadInput("au", f"has {self.au.shape[1]} columns", f"give {len(AUS)}, as in AUS")
        check_fold_over(self.au)

    @classmethod
    def still(cls, n_frames: int, fps: float = 30.0, *, seed: int = 0) -> "Performance":
        """A motionless, noise-free performance to build on with ``dataclasses.replace``.

        Args:
            n_frames: Number of frames T, at least 1.
            fps: Frames per second, above 0.
            seed: Seed of the clip's sensor noise, which acts once ``noise_sd`` is raised.

        Raises:
            BadInput: There are no frames, or the frame rate is not positive.
        """
        n_frames, seed = check_whole("n_frames", n_frames), check_whole("seed", seed, least=0)
        if not fps > 0:
            raise BadInput(f"fps={fps}", "not positive", "give frames per second above 0")
        frame = torch.arange(n_frames)
        still = {name: torch.zeros(n_frames) for name in _CHANNELS} | {
            "au": torch.zeros(n_frames, len(AUS)),
            **{name: torch.zeros(n_frames, 2) for name in ("shift", "light")},
            "gain": torch.ones(n_frames),
            "shadow": torch.tensor([0.0, 0.0, 0.0, 8.0]).repeat(n_frames, 1),
            "noise_key": torch.stack([torch.full_like(frame, seed), frame], 1),
            "t_s": frame.double() / fps,
            "envelope": torch.zeros(n_frames, 0),
        }
        return cls(**still, fps=float(fps))

    def __len__(self) -> int:
        return len(self.t_s)

    def __getitem__(self, frames: slice) -> "Performance":
        """A run of frames; events that reach into it are kept and cut at its ends."""
        if not isinstance(frames, slice) or frames.step not in (None, 1):
            raise BadInput(f"performance[{frames}]", "is not a run of frames", "use [start:stop]")
        start, stop, _ = frames.indices(len(self))

        def inside(events: tuple[Event, ...]) -> dict[int, Event]:
            reach = [max(e.onset, start) < min(e.offset + 1, stop) for e in events]
            return {i: _cut(e, start, stop) for i, e in enumerate(events) if reach[i]}

        events, blinks = inside(self.events), inside(self.blinks)
        cut = {name: getattr(self, name)[start:stop] for name in _CHANNELS}
        cut["envelope"] = cut["envelope"][:, list(events)]  # one column an event
        return replace(self, **cut, events=tuple(events.values()), blinks=tuple(blinks.values()))

    def take(self, frames: Sequence[int]) -> "Performance":
        """The given frames in the given order, without events: they need not follow each other."""
        # Negative numbers would count from the end.
        wrong = [k for k in frames if not 0 <= k < len(self)]
        if wrong:
            raise BadInput(f"frame {wrong[0]}", "is not there", f"give 0 to {len(self) - 1}")
        rows = torch.as_tensor(frames, dtype=torch.long)
        chosen = {name: getattr(self, name)[rows] for name in _CHANNELS}
        chosen["envelope"] = chosen["envelope"][:, :0]
        return replace(self, **chosen, events=(), blinks=())

    def __add__(self, other: "Performance") -> "Performance":
        """This performance followed by another of the same frame rate."""
        if other.fps != self.fps:
            raise BadInput(f"fps {self.fps} and {other.fps}", "differ", "join clips of one rate")
        n = len(self)

        def later(event: Event) -> Event:
            return replace(
                event, onset=event.onset + n, apex=event.apex + n, offset=event.offset + n
            )

        plain = [name for name in _CHANNELS if name != "envelope"]
        joined = {name: torch.cat([getattr(self, name), getattr(other, name)]) for name in plain}
        # A frame later than our last.
        joined["t_s"][n:] += self.t_s[-1] + 1 / self.fps - other.t_s[0]
        joined["envelope"] = torch.block_diag(self.envelope, other.envelope)
        joined["events"] = (*self.events, *map(later, other.events))
        return replace(self, **joined, blinks=(*self.blinks, *map(later, other.blinks)))


# (AUs, zones).
_IN_ZONE = torch.tensor([[float(au in names) for names in ZONES.values()] for au in AUS])
_CHANNELS = tuple(f.name for f in fields(Performance) if f.type is torch.Tensor)


def _cut(event: Event, start: int, stop: int) -> Event:
    """The part of an event inside [start, stop), in frames counted from ``start``."""
    frames = (event.onset, event.apex, event.apex + event.hold, event.offset)
    onset, apex, last, offset = (min(max(f, start), stop - 1) - start for f in frames)
    return replace(event, onset=onset, apex=apex, hold=last - apex, offset=offset)


def envelope(event: Event, n_frames: int) -> torch.Tensor:
    """Activation of an event, float32 (n_frames,): quintic rise, hold and quintic fall.

    It is 0 before the onset, above 0 on the onset, 1 from apex to apex + hold, above 0 on the
    offset and 0 after it.
    """
    t = torch.arange(n_frames, dtype=torch.float64)
    rise = (t - event.onset + 1) / (event.apex - event.onset + 1)
    fall = (event.offset + 1 - t) / (event.offset + 1 - event.apex - event.hold)
    s = torch.minimum(rise, fall).clamp(0, 1)  # in float64, so that 1 is reached exactly
    return (s**3 * (10 - 15 * s + 6 * s**2)).float()  # starts and stops without a jerk


def check_fold_over(au: torch.Tensor) -> None:
    """Refuse displacements that could fold the skin over.

    Args:
        au: float32 (T, len(AUS)), peak displacements in face units.

    Raises:
        BadInput: The displacements of one zone add up to more than ``FOLD_OVER``.
    """
    # (zones,): the worst frame of each.
    totals = (au.abs() @ _IN_ZONE.to(au.device)).amax(0).tolist() if len(au) else []
    for zone, total in zip(ZONES, totals, strict=False):
        if total > FOLD_OVER + 1e-6:
            fault = f"add up to {total:.3f} face units, beyond {FOLD_OVER} where skin folds over"
            raise BadInput(f"action units of the {zone}", fault, "lower the peak or the factor")


def exaggerate(performance: Performance, factor: float) -> Performance:
    """Multiply the motion of the expressions and nothing else: exact magnification.

    Args:
        performance: The performance that is magnified.
        factor: Factor on AUs, lids, jaw and lips; head, blinks, light and noise stay.

    Returns:
        The magnified performance; the events keep their times, their peaks are multiplied.

    Raises:
        BadInput: The magnified skin would fold over; see ``FOLD_OVER``.
    """
    larger = {name: getattr(performance, name) * factor for name in ("au", "lid", "jaw", "part")}
    events = tuple(replace(e, peak=e.peak * factor) for e in performance.events)
    return replace(performance, **larger, events=events)


def px(units: float, size: int) -> float:
    """Face units as pixels of an image whose short side is ``size``."""
    return units * size / 2


def units(length_px: float, size: int) -> float:
    """Pixels of an image whose short side is ``size`` as face units."""
    return 2 * length_px / size
