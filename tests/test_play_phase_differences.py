"""Notebook 02's Play: every control changes the picture it opens with, and its task can be done."""

import numpy as np
import pytest
from play import defined, drawn

NEEDED = ["PROFILE =", "course.check(", "def middle_rad(", "response =", "def live("]


@pytest.fixture(scope="module")
def lesson() -> dict:
    """What the lesson's cells have defined when Play begins."""
    return defined("02_phase_differences", NEEDED)


def read(lesson: dict, **moved) -> tuple[float, bytes]:
    """The motion that the map's title says, px, and the picture, with some controls moved."""
    axes, png = drawn(lesson, **moved)
    (title,) = (ax.get_title() for ax in axes if ax.get_title().startswith("level"))
    return float(title.split()[2]), png


@pytest.mark.slow
def test_the_task_can_be_done_and_every_control_does_something(lesson):
    read_px, opening = read(lesson)
    assert read_px < 1  # of 3
    steps = np.arange(3.0, 0, -0.25)
    right = [px for px in steps if abs(read(lesson, motion_px=px)[0] - px) <= 0.25]
    assert right[0] == 2.0  # the first question: half of the wavelength
    assert right == [*np.arange(2.0, 0, -0.25)]
    assert abs(read(lesson, level="2")[0] - 3) <= 0.25  # the second
    darker, dark = read(lesson, light=0.3)  # the third
    assert darker == read_px
    others = [read(lesson, **{n: v})[1] for n, v in (("motion_px", 2.75), ("level", "2"))]
    assert opening not in [*others, dark]
