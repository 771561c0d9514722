"""Play of notebooks 00 and 01: every control changes the opening picture, and the tasks can be
done."""

import io
import re
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from PIL import Image

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def defined(name: str, needed: list[str]) -> dict:
    """What the cells of a notebook that hold these texts define; a widget is called `widget`."""
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    names: dict = {}
    for text in needed:
        source = next(source for source in sources if text in source)
        exec(re.sub(r"^widgets\.", "widget = widgets.", source, flags=re.MULTILINE), names)
    plt.close("all")
    return names


def shown(box) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(box.children[0].value)).convert("L"), dtype=int)


@pytest.fixture(scope="module")
def start() -> dict:
    needed = ["PROFILE =", "course.check(", "actor = Face(", "widgets.film_player("]
    return defined("00_start_here", needed)


def test_start_here_opens_at_the_apex_and_each_control_moves(start):
    play, frame, view, factor = start["widget"].children[1].children
    opening = shown(start["widget"])
    assert frame.value == start["event"].apex
    for control, value in ((frame, 0), (factor, 1.0), (view, "difference × 8")):
        before = control.value
        control.value = value
        assert np.abs(shown(start["widget"]) - opening).max() > 20, control.description
        control.value = before
    np.testing.assert_array_equal(shown(start["widget"]), opening)
    assert play.value == frame.value


def test_start_here_the_task_can_be_done(start):
    """The face hides at a factor of 1 what the difference shows; a larger factor shows it, too."""
    play, event, seen = (start[name] for name in ("play", "event", "seen"))
    rest, small, large = (seen(*at) for at in ((0, 1.0), (event.apex, 1.0), (event.apex, 4.0)))
    change = [np.abs(image - rest).mean(0) for image in (small, large)]
    assert change[1].mean() > 2.5 * change[0].mean()
    begun = [
        np.abs(start["changed"](i, 1.0).astype(int) - 128).max() > 24 for i in range(len(play))
    ]
    assert begun.index(True) in range(event.onset + 1, event.apex)


NEEDED = ["PROFILE =", "course.check(", "scene = steadiness.stage(", "NAMES = ["]
NEEDED += ["corner_x, corner_y =", "def live(", "widgets.live_figure(live"]


@pytest.fixture(scope="module")
def lesson() -> dict:
    return defined("01_face_preprocessing", NEEDED)


def read_px(lesson: dict, mode: str, frame: int, motion: float = 6) -> tuple[float, float]:
    """What the title says of corner and nose."""
    figure = lesson["live"](mode, motion, frame)
    corner, nose = re.findall(r"([\d.]+) px", figure._suptitle.get_text())
    plt.close(figure)
    return float(corner), float(nose)


@pytest.mark.slow
def test_lesson_01_opens_at_the_apex_and_each_control_moves(lesson):
    mode, motion, frame = lesson["widget"].children[1].children
    opening = shown(lesson["widget"])
    assert (mode.value, frame.value) == ("stabilised", lesson["event"].apex)
    half = np.s_[opening.shape[0] // 5 :, : opening.shape[1] // 2]  # the face, below its title
    for control, value in ((motion, 1.0), (frame, 6.0), *((mode, m) for m in lesson["NAMES"][:3])):
        before = control.value
        control.value = value
        assert np.abs(shown(lesson["widget"]) - opening)[half].max() > 40, (control, value)
        control.value = before


@pytest.mark.slow
def test_lesson_01_the_task_can_be_done(lesson):
    """Only a stabilised crop keeps the nose still at the apex, and the whole face at rest."""
    apex = lesson["event"].apex
    for mode in lesson["NAMES"]:
        steady = mode == "stabilised"
        corner, nose = read_px(lesson, mode, apex)
        assert corner > 0.5
        assert (nose < 0.2) == steady, mode
        assert (read_px(lesson, mode, 6)[0] < 0.2) == steady, mode

    def changed(motion: float) -> np.ndarray:
        """Mean change at the two corners of the mouth, left and right in the picture."""
        figure = lesson["live"]("stabilised", motion, apex)
        change = np.abs(np.asarray(figure.axes[1].images[0].get_array()))[80:110]
        plt.close(figure)
        x = lesson["corner_x"] - 48  # the picture begins at column 48
        return np.array(
            [change[:, 127 - x - 12 : 127 - x + 12].mean(), change[:, x - 12 : x + 12].mean()]
        )

    small, large = changed(1.0), changed(6.0)
    assert large[1] > 2.5 * small[1]
    assert large[1] > 2 * large[0]
