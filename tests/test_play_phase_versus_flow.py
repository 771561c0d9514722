"""Notebook 03's Play: every control changes the picture it opens with, and its task can be done."""

import pytest
from play import defined, drawn

NEEDED = [
    "PROFILE =",
    "course.check(",
    "MUSCLE, AMPLITUDE_PX =",
    "def gradient(",
    "def lucas_kanade(",
]
NEEDED += ["def phase_by_hand(", "def cosine(", "def fields(", "def live("]


@pytest.fixture(scope="module")
def lesson() -> dict:
    """What the lesson's cells have defined when Play begins."""
    return defined("03_phase_versus_flow", NEEDED)


def read(lesson: dict, **moved) -> tuple[dict[str, float], bytes]:
    """Each method's cosine as the figure prints it, and the picture, with some controls moved."""
    axes, png = drawn(lesson, **moved)
    labels = {ax.get_title(): ax.get_xlabel() for ax in axes}
    return {n: float(t.split()[1]) for n, t in labels.items() if t}, png


@pytest.mark.slow
def test_the_task_can_be_done_and_every_control_does_something(lesson):
    cosines, opening = read(lesson)
    assert cosines["TV-L1"] < 0
    assert cosines["phase"] > 0.7
    cosines, steady = read(lesson, gain=1.0)  # the first question, and its answer: none
    assert cosines["TV-L1"] >= 0.7 > read(lesson, gain=1.01)[0]["TV-L1"]
    assert min(read(lesson, gain=1.3)[0].values()) < 0
    for input_ in ("zscore", "local_contrast"):  # the second
        assert min(read(lesson, gain=1.3, input=input_)[0].values()) > 0.7
    others = [read(lesson, **{n: v})[1] for n, v in (("amplitude_px", 0.9), ("muscle", "1"))]
    others += [steady, read(lesson, input="local_contrast")[1]]
    assert opening not in others
