"""Figures are tested on what they draw, not on pixels."""

import io
from types import SimpleNamespace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from micromacro import plots


@pytest.fixture(autouse=True)
def ax():
    with mpl.rc_context():
        plt.switch_backend("agg")
        plots.use_style()
        yield plt.subplots()[1]
        plt.close("all")


def test_to_picture_finds_the_channels_rounds_and_clips():
    flat, colours = np.zeros((5, 7), np.uint8), np.zeros((5, 7, 3), np.uint8)
    sources = [flat, colours, torch.zeros(1, 5, 7), torch.zeros(3, 5, 7), np.zeros((3, 5, 3))]
    pictures = [plots.to_picture(image) for image in sources]
    assert [p.shape for p in pictures] == [(5, 7), (5, 7, 3), (5, 7), (5, 7, 3), (3, 5, 3)]
    assert {p.dtype for p in pictures} == {np.dtype(np.uint8)}
    picture = plots.to_picture(np.array([[-0.5, 0.0, 0.5, 1.0, 2.0]]))
    assert picture.tolist() == [[0, 0, 128, 255, 255]]


def test_difference_image_is_mid_grey_where_nothing_changed():
    change = np.uint8([[5, 0], [0, 0]])
    picture = plots.difference_image(np.uint8(100) + change, np.full((2, 2), 100, np.uint8), gain=8)
    assert picture.tolist() == [[128 + 40, 128], [128, 128]]


def test_arrows_follow_the_flow(ax):
    flow = np.zeros((2, 16, 16))
    flow[0, 8:, 8:] = 2.0
    plots.arrows(ax, flow, step=8)
    (quiver,) = ax.collections
    assert (quiver.U.tolist(), quiver.X.tolist()) == ([2.0], [12])


def test_timeline_has_a_bar_per_run_and_a_line_per_cut(ax):
    status = np.array(["detect", "track", "track", "interp", "track", "none"])
    plots.status_timeline(ax, SimpleNamespace(status=status, shot=np.array([0, 0, 0, 0, 1, 1])))
    assert [bar.get_width() for bar in ax.patches] == [1, 2, 1, 1, 1]
    assert [line.get_xdata()[0] for line in ax.lines] == [4]


def test_curves_differ_in_line_style_as_well_as_colour(ax):
    t = np.arange(3)
    plots.traces(ax, t, {str(i): t for i in range(4)}, truth=t)
    assert len({line.get_linestyle() for line in ax.lines[1:]}) == 4
    assert ax.get_xlabel() == "time (s)"


def test_moving_picture_is_an_animated_png():
    frames = [np.full((4, 6), level, np.uint8) for level in (0, 100, 200)]
    film = Image.open(io.BytesIO(plots.moving_picture(frames, fps=10, scale=2).data))
    assert (film.n_frames, film.size) == (3, (12, 8))


def test_what_is_shown_has_words_for_those_who_cannot_see_it(monkeypatch):
    told = {}
    monkeypatch.setattr("IPython.display.display", lambda figure, metadata: told.update(metadata))
    figure = plt.figure()
    plots.shown(figure, "A face.")
    assert told == {"image/png": {"alt": "A face."}}
    assert figure.number not in plt.get_fignums()
    film = plots.moving_picture([np.zeros((4, 6), np.uint8)] * 2, alt="Nothing moves.", width=9)
    assert (film.alt, film.width) == ("Nothing moves.", 9)


def test_film_strip_refuses_ragged_rows():
    a = np.zeros((3, 3))
    with pytest.raises(ValueError, match=r"zip\(\)"):
        plots.film_strip({"two": [a, a], "one": [a]})


def test_a_diagram_has_a_box_each_and_arrows_between_their_edges():
    boxes = {"a": (0, 0, "frames\n(B, 3)"), "b": (1, 0, "stream"), "c": (1, 1.0, "stream")}
    (ax,) = plots.diagram(boxes, [("a", "b"), ("a", "c")]).axes
    assert len(ax.patches) == 3
    words = [text.get_text() for text in ax.texts if text.get_text()]
    assert words == ["frames", "(B, 3)", "stream", "stream"]
    assert min(text.get_fontsize() for text in ax.texts) >= 9
    arrows = [text for text in ax.texts if hasattr(text, "arrowprops")]
    (x, y), (to_x, to_y) = arrows[1].xyann, arrows[1].xy
    assert 0 < x < to_x < 1
    assert (y, to_y) == (0, -1)


def test_curves_are_named_and_told_apart_without_colour():
    series = {name: [0.0, k] for k, name in enumerate(("one", "two", "three"))}
    figure = plots.curves([0, 1], series, ("chance", 0.5), xlabel="step", ylabel="score (0 to 1)")
    (ax,), (legend,) = figure.axes, figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*series, "chance"]
    drawn = ax.lines[:3]
    for look in ("color", "linestyle", "marker"):
        assert len({getattr(line, f"get_{look}")() for line in drawn}) == 3
    assert ax.get_ylabel() == "score (0 to 1)"


def test_map_marks_what_exists():
    boxes = [p for p in plots.course_map(("01",)).axes[0].patches if p.get_linewidth() > 2]
    assert len(boxes) == 1


def test_a_film_of_action_units_draws_those_that_move_most():
    t = np.arange(12) / 10
    units = pd.DataFrame({f"AU{n:02}_r": n / 10 * np.sin(t) for n in (1, 4, 6, 9, 12, 15, 45)})
    units.loc[3, "AU45_r"] = np.nan
    truth = units[::-1].reset_index(drop=True) * 2
    frames = np.linspace(0, 255, 12, dtype=np.uint8)[:, None, None] * np.ones((4, 5), np.uint8)
    figure = plots.action_unit_film(frames, t, units, truth.fillna(0), t > 0.5)
    top, *rows = figure.axes
    named = ["cheek raiser (6)", "nose wrinkler (9)", "lip corner puller (12)"]
    assert [ax.get_ylabel() for ax in rows] == [*named, "lip corner depressor (15)", "blink (45)"]
    (line,) = rows[2].lines
    np.testing.assert_array_equal(line.get_ydata(), truth["AU12_r"])
    shown = top.images[0].get_array()
    assert shown.shape == (4, 50)
    assert list(shown[0, ::5]) == sorted(shown[0, ::5])
    for none in (None, units * np.nan):  # no network, no face
        assert len(plots.action_unit_film(frames, t, none).axes) == 1
    plt.close("all")
