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


def test_signed_maps_keep_their_order_in_a_grey_print_and_are_grey_at_zero(ax):
    shown = plots.show_map(ax, [[-2.0, -1.0, 0.0, 1.0, 2.0]], 1.0)
    red, green, blue = shown.to_rgba(shown.get_array())[0, :, :3].T
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    assert (np.diff(grey) >= 0).all()
    assert grey[[0, 3]] == pytest.approx(grey[[1, 4]])  # beyond the limit: as at the limit
    assert max(red[2], green[2], blue[2]) - min(red[2], green[2], blue[2]) < 0.03
    assert blue[0] > red[0]
    assert red[4] > blue[4]


def test_each_method_has_a_look_of_its_own(ax):
    for look in ("color", "marker", "linestyle"):
        assert len({str(style[look]) for style in plots.STYLE.values()}) == len(plots.METHODS)
    for style in plots.STYLE.values():
        ax.plot([0, 1], [0, 1], **style)


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


def test_a_film_of_emotions_draws_each_network_in_each_row():
    t = 0.5 + np.arange(20) / 16
    names = ["Angry", "Happy", "Sad"]
    rng = np.random.default_rng(0)
    first, second = (pd.DataFrame(rng.dirichlet((1, 1, 1), 20), columns=names) for _ in range(2))
    first.loc[4] = np.nan  # no face there
    frames = np.zeros((20, 3, 8, 8), np.uint8)
    figure = plots.emotion_film(frames, t, {"one": first, "other": second})
    top, *rows = figure.axes
    assert top.images[0].get_array().shape[:2] == (8, 80)
    assert [ax.get_ylabel() for ax in rows] == names
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["one", "other"]
    for ax, name in zip(rows, names, strict=True):
        (line,) = ax.lines
        np.testing.assert_array_equal(line.get_ydata(), second[name])
        filled = np.concatenate([path.vertices for path in ax.collections[0].get_paths()])
        assert np.isclose(filled[:, 1].max(), first[name].max())
        assert not np.isclose(filled[:, 0], t[4]).any()
    alone = plots.emotion_film(frames, t, {"one": first})
    assert not any(ax.lines for ax in alone.axes)


def test_rows_below_a_film_share_its_time():
    t = np.array([0.0, 0.1, 0.2, 0.6])
    figure, rows = plots.film_above(np.zeros((4, 5, 5)), t, ["a", "b"], 3.0, inches=2)
    assert len(rows) == 2
    assert {ax.get_xlim() for ax in figure.axes} == {(-0.05, 0.65)}
    np.testing.assert_allclose([ax.get_ylim() for ax in rows], [(0, 3.15)] * 2)
    assert figure.get_size_inches()[1] == pytest.approx(1.15 + 4)


def test_a_confusion_map_shows_shares_of_the_true_class(ax):
    counts = pd.DataFrame([[3, 1, 0], [0, 0, 0], [0, 5, 5]], *[["Angry", "Fear", "Happy"]] * 2)
    plots.confusion_map(ax, counts, "face")
    shown = ax.images[0].get_array()
    np.testing.assert_allclose(shown, [[75, 25, 0], [0, 0, 0], [0, 50, 50]])
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["75", "25", "", "", "", "", "", "50", "50"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["Ang", "Fea", "Hap"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Angry", "Fear", "Happy"]


def test_weight_triangles_put_each_network_in_its_corner():
    points = pd.DataFrame(np.eye(3), columns=["face", "second", "sound"])
    points = points.assign(accuracy=[0.2, 0.4, 0.6], uar=[0.1, 0.2, 0.3])
    every = pd.concat([points, points.assign(accuracy=0.9)])
    marks = {"yours": [0, 0, 1], "chosen": [0.5, 0.5, 0]}
    figure = plots.weight_triangles(points, {"accuracy": 0.6, "uar": 0.3}, marks, every)
    left, right = figure.axes[:2]
    assert left.get_title() == "yours: accuracy 60.0 %"
    assert right.get_title() == "yours: uar 30.0 %"
    (dots,) = left.collections
    places = dict(zip(points.columns[:3], dots.get_offsets().tolist(), strict=True))
    assert places["face"][0] < places["sound"][0] < places["second"][0]
    assert places["sound"][1] > places["face"][1] == places["second"][1]
    np.testing.assert_allclose(dots.get_array(), [20, 40, 60])
    assert dots.get_clim() == (20, 90)  # all maps share the colours
    yours, chosen = (line.get_xydata()[0] for line in left.lines)
    np.testing.assert_allclose(yours, places["sound"])
    np.testing.assert_allclose(chosen, np.mean([places["face"], places["second"]], 0))
    for text in left.texts:  # a name stands at its corner
        assert np.hypot(*(np.array(text.get_position()) - places[text.get_text()])) < 0.1
