"""Figures are tested on what they draw, not on pixels."""

import io
from types import SimpleNamespace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from micromacro import plots


@pytest.fixture(autouse=True)
def canvas():
    with mpl.rc_context():
        plt.switch_backend("agg")
        plots.use_style()
        yield
        plt.close("all")


@pytest.mark.parametrize(
    ("image", "shape"),
    [
        (np.zeros((5, 7), np.uint8), (5, 7)),
        (np.zeros((5, 7, 3), np.uint8), (5, 7, 3)),
        (torch.zeros(1, 5, 7), (5, 7)),
        (torch.zeros(3, 5, 7), (5, 7, 3)),
        (np.zeros((3, 5, 3), np.uint8), (3, 5, 3)),
    ],
)
def test_to_picture_finds_the_channels(image, shape):
    picture = plots.to_picture(image)
    assert picture.shape == shape
    assert picture.dtype == np.uint8


def test_to_picture_rounds_and_clips():
    picture = plots.to_picture(np.array([[-0.5, 0.0, 0.5, 1.0, 2.0]]))
    assert picture.tolist() == [[0, 0, 128, 255, 255]]


def test_difference_image_is_mid_grey_where_nothing_changed():
    a = np.full((4, 4), 100, np.uint8)
    b = a.copy()
    b[0, 0] += 5
    picture = plots.difference_image(b, a, gain=8)
    assert picture[0, 0] == 128 + 40
    assert (picture.ravel()[1:] == 128).all()


def test_arrows_follow_the_flow():
    _, ax = plt.subplots()
    flow = np.zeros((2, 16, 16))
    flow[0, 8:, 8:] = 2.0
    plots.arrows(ax, flow, step=8)
    (quiver,) = ax.collections
    assert quiver.U.tolist() == [2.0]
    assert quiver.X.tolist() == [12]


def test_timeline_has_a_bar_per_run_and_a_line_per_cut():
    clip = SimpleNamespace(
        status=np.array(["detect", "track", "track", "interp", "track", "none"]),
        shot=np.array([0, 0, 0, 0, 1, 1]),
    )
    _, ax = plt.subplots()
    plots.status_timeline(ax, clip)
    assert [bar.get_width() for bar in ax.patches] == [1, 2, 1, 1, 1]
    assert [line.get_xdata()[0] for line in ax.lines] == [4]


def test_curves_differ_in_line_style_as_well_as_colour():
    _, ax = plt.subplots()
    t = np.arange(3)
    plots.traces(ax, t, {str(i): t for i in range(4)}, truth=t)
    styles = [line.get_linestyle() for line in ax.lines[1:]]
    assert len(set(styles)) == 4
    assert ax.get_xlabel() == "time (s)"


def test_moving_picture_is_an_animated_png():
    frames = [np.full((4, 6), level, np.uint8) for level in (0, 100, 200)]
    image = plots.moving_picture(frames, fps=10, scale=2)
    film = Image.open(io.BytesIO(image.data))
    assert film.n_frames == 3
    assert film.size == (12, 8)


def test_film_strip_refuses_ragged_rows():
    a = np.zeros((3, 3))
    with pytest.raises(ValueError, match=r"zip\(\)"):
        plots.film_strip({"two": [a, a], "one": [a]})


def test_map_marks_what_exists():
    boxes = [p for p in plots.course_map(("01",)).axes[0].patches if p.get_linewidth() > 2]
    assert len(boxes) == 1
