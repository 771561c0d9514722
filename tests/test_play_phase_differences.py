"""Notebook 02's Play: every control changes the picture it opens with, and its task can be done."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest

LESSON = Path(__file__).parents[1] / "notebooks" / "02_phase_differences.ipynb"
NEEDED = ["PROFILE =", "course.check(", "def middle_rad(", "response =", "def live("]


@pytest.fixture(scope="module")
def lesson() -> dict:
    """What the lesson's cells have defined when Play begins."""
    cells = [c.source for c in nbformat.read(LESSON, as_version=4).cells if c.cell_type == "code"]
    names: dict = {}
    for text in NEEDED:
        exec(next(source for source in cells if text in source), names)
    plt.close("all")
    return names


def drawn(lesson: dict, **moved) -> tuple[float, bytes]:
    """The motion that the map's title says, px, and the picture, with some controls moved."""
    opening = {n: c[0] if isinstance(c, list) else c[3] for n, c in lesson["controls"].items()}
    figure = lesson["live"](**opening | moved)
    (title,) = (ax.get_title() for ax in figure.axes if ax.get_title().startswith("level"))
    png = io.BytesIO()
    figure.savefig(png, format="png")
    plt.close(figure)
    return float(title.split()[2]), png.getvalue()


@pytest.mark.slow
def test_the_task_can_be_done_and_every_control_does_something(lesson):
    read_px, opening = drawn(lesson)
    assert read_px < 1  # of 3
    steps = np.arange(3.0, 0, -0.25)
    right = [px for px in steps if abs(drawn(lesson, motion_px=px)[0] - px) <= 0.25]
    assert right[0] == 2.0  # the first question: half of the wavelength
    assert right == [*np.arange(2.0, 0, -0.25)]
    assert abs(drawn(lesson, level="2")[0] - 3) <= 0.25  # the second
    darker, dark = drawn(lesson, light=0.3)  # the third
    assert darker == read_px
    others = [drawn(lesson, **{n: v})[1] for n, v in (("motion_px", 2.75), ("level", "2"))]
    assert opening not in [*others, dark]
