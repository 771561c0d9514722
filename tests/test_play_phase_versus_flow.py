"""Notebook 03's Play: every control changes the picture it opens with, and its task can be done."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest

LESSON = Path(__file__).parents[1] / "notebooks" / "03_phase_versus_flow.ipynb"
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
    cells = [c.source for c in nbformat.read(LESSON, as_version=4).cells if c.cell_type == "code"]
    names: dict = {}
    for text in NEEDED:
        exec(next(source for source in cells if text in source), names)
    plt.close("all")
    return names


def drawn(lesson: dict, **moved) -> tuple[dict[str, float], bytes]:
    """Each method's cosine as the figure prints it, and the picture, with some controls moved."""
    opening = {n: c[0] if isinstance(c, list) else c[3] for n, c in lesson["controls"].items()}
    figure = lesson["live"](**opening | moved)
    labels = {ax.get_title(): ax.get_xlabel() for ax in figure.axes}
    png = io.BytesIO()
    figure.savefig(png, format="png")
    plt.close(figure)
    return {n: float(t.split()[1]) for n, t in labels.items() if t}, png.getvalue()


@pytest.mark.slow
def test_the_task_can_be_done_and_every_control_does_something(lesson):
    cosines, opening = drawn(lesson)
    assert cosines["TV-L1"] < 0
    assert cosines["phase"] > 0.7
    cosines, steady = drawn(lesson, gain=1.0)  # the first question, and its answer: none
    assert cosines["TV-L1"] >= 0.7 > drawn(lesson, gain=1.01)[0]["TV-L1"]
    assert min(drawn(lesson, gain=1.3)[0].values()) < 0
    for input_ in ("zscore", "local_contrast"):  # the second
        assert min(drawn(lesson, gain=1.3, input=input_)[0].values()) > 0.7
    others = [drawn(lesson, **{n: v})[1] for n, v in (("amplitude_px", 0.9), ("muscle", "1"))]
    others += [steady, drawn(lesson, input="local_contrast")[1]]
    assert opening not in others
