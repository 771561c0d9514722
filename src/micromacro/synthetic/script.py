"""Scripts for the actor: expressions, events, and everything that disturbs a recording."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from micromacro.errors import BadInput, check_choice, check_whole
from micromacro.synthetic.anatomy import AUS
from micromacro.synthetic.nuisance import NUISANCES, HeadDrift, Nuisance, disturb, drift_head
from micromacro.synthetic.performance import Event, Performance, check_fold_over, envelope

FULL = 0.09
"""Peak (face units) of a fully developed expression; lids, jaw and lips scale with peak / FULL."""

_WEIGHTS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happiness": {"12": 0.88, "10": 0.12, "6": 0.50, "lid": 0.12, "part": 0.52, "jaw": 0.16},
    "sadness": {"1": 0.60, "4": 0.25, "15": 0.60, "17": 0.35, "lid": 0.18},
    "surprise": {"1": 0.50, "2": 0.50, "lid": -0.34, "jaw": 1.25, "part": 0.15},
    "anger": {"4": 0.90, "7": 0.35, "23": 0.45, "17": 0.30, "lid": 0.12},
    "disgust": {"9": 0.65, "10": 0.55, "4": 0.40, "15": 0.15, "lid": 0.22, "part": 0.12},
    "fear": {"1": 0.5, "2": 0.22, "4": 0.28, "20": 0.65, "lid": -0.34, "jaw": 0.3, "part": 0.22},
    "contempt": {"12L": 0.55, "14L": 0.45, "4": 0.10},
}
EXPRESSIONS = {name: tuple(weights.items()) for name, weights in _WEIGHTS.items()}
"""Expression -> (channel, weight). AUs: share of the event's peak displacement. ``jaw`` and
``part``: the same, in face units. ``lid``: closure at a peak of FULL, negative opens wide."""


def micro_event(
    onset: int,
    expression: str | Sequence[tuple[str, float]],
    *,
    fps: float = 30.0,
    duration_s: float = 0.3,
    peak: float = 0.03,
    apex: float = 0.5,
) -> Event:
    """A micro-expression: brief and faint.

    Args:
        onset: Number of the first frame that moves, 0-based.
        expression: A key of ``EXPRESSIONS``, or pairs (channel, weight).
        fps: Frames per second, which turn seconds into frames.
        duration_s: Duration from onset to offset in seconds, 0.04 to 0.5.
        peak: Peak displacement in face units; 0.2 to 1.5 px at 64 is 0.006 to 0.047.
        apex: Where the peak is reached, as a share of the duration.

    Raises:
        BadInput: The duration is out of range, or the expression unknown.
    """
    if not 0.04 <= duration_s <= 0.5:
        raise BadInput(f"duration_s={duration_s}", "is not a micro-expression", "give 0.04 to 0.5")
    return _event("micro", onset, expression, fps, duration_s, peak, apex, hold=0.0)


def macro_event(
    onset: int,
    expression: str | Sequence[tuple[str, float]],
    *,
    fps: float = 30.0,
    duration_s: float = 1.5,
    peak: float = FULL,
    apex: float = 0.35,
    hold: float = 0.25,
) -> Event:
    """A macro-expression: 0.5 to 4 s, plain to see.

    Args:
        onset: Number of the first frame that moves, 0-based.
        expression: A key of ``EXPRESSIONS``, or pairs (channel, weight).
        fps: Frames per second of the camera.
        duration_s: Duration from onset to offset in seconds, 0.5 to 4.
        peak: Peak displacement in face units; 2 to 3.5 px at 64 is 0.06 to 0.11.
        apex: Where the peak is reached, as a share of the duration.
        hold: How long the peak lasts, as a share of the duration.

    Raises:
        BadInput: The duration is out of range, or the expression unknown.
    """
    if not 0.5 <= duration_s <= 4:
        raise BadInput(f"duration_s={duration_s}", "is not a macro-expression", "give 0.5 to 4")
    return _event("macro", onset, expression, fps, duration_s, peak, apex, hold)


def _event(kind, onset, expression, fps, duration_s, peak, apex, hold) -> Event:
    """Turn shares and seconds into frames."""
    label, aus, onset = "", expression, check_whole("onset", onset, least=0)
    if isinstance(expression, str):
        check_choice("expression", expression, EXPRESSIONS)
        label, aus = expression, EXPRESSIONS[expression]
    length = max(1, round(duration_s * fps))
    top = min(length - 1, round(apex * (length - 1)))  # frames from onset to apex
    stay = min(length - 1 - top, round(hold * length))  # frames at the peak
    return Event(onset, onset + top, onset + length - 1, tuple(aus), peak, kind, label, stay)


def perform(
    n_frames: int,
    fps: float = 30.0,
    events: Sequence[Event] = (),
    *,
    nuisance: str | Nuisance = "easy",
    seed: int = 0,
    head_drift: HeadDrift | None = None,
) -> Performance:
    """Turn a script into a performance.

    Args:
        n_frames: Number of frames T, at least 1.
        fps: Frames per second of the camera.
        events: The expressions that are played; they may overlap in time.
        nuisance: ``"none"``, ``"easy"``, ``"hard"``, or ranges of your own.
        seed: Random seed of the clip, at least 0; another seed draws other nuisances and other
            noise.
        head_drift: A slow drift of the head that is added to its sway; None adds nothing.

    Returns:
        The performance with its events, blinks and envelopes: the truth.

    Raises:
        BadInput: An event beyond the clip, an unknown nuisance or channel, a negative seed, or
            displacements beyond ``FOLD_OVER``.
    """
    if isinstance(nuisance, str):
        check_choice("nuisance", nuisance, NUISANCES)
        nuisance = NUISANCES[nuisance]
    seed = check_whole("seed", seed, least=0)
    play = disturb(_act(Performance.still(n_frames, fps, seed=seed), events), nuisance, seed)
    return drift_head(play, head_drift, seed) if head_drift else play


def pose(expression: str, peak: float = FULL, fps: float = 30.0) -> Performance:
    """One noise-free frame of an expression at its peak."""
    event = _event("macro", 0, expression, fps, 1 / fps, peak, 0, 0)
    return _act(Performance.still(1, fps), [event])


def _act(play: Performance, events: Sequence[Event]) -> Performance:
    """Add the events to a still performance."""
    T = len(play)
    au, other = play.au.clone(), {name: torch.zeros(T) for name in ("lid", "jaw", "part")}
    columns = []
    for event in events:
        if event.offset >= T:
            times = f"event {event.onset}-{event.offset}"
            raise BadInput(times, f"ends after frame {T - 1}", "shorten it")
        active = envelope(event, T)  # (T,)
        columns.append(active)
        for name, weight in event.aus:
            check_choice("channel", name, (*AUS, *other))
            channel = other[name] if name in other else au[:, AUS.index(name)]
            share = weight * event.peak  # of this channel, face units
            channel += (share / FULL if name == "lid" else share) * active
    check_fold_over(au)
    shape = torch.stack(columns, 1) if columns else play.envelope
    return replace(play, au=au, **other, events=tuple(events), envelope=shape)
