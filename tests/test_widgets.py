"""The widgets' callbacks; their wiring in a page is checked in a browser."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from micromacro.widgets import film_player, live_figure


def shown(box) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(box.children[0].value)))


RAMP = np.linspace(100, 110, 6).astype(np.uint8)
FRAMES = np.broadcast_to(RAMP[:, None, None, None], (6, 1, 5, 7)).copy()


def exaggerated(frame: int, factor: float) -> np.ndarray:
    return np.uint8(FRAMES[0] + factor * (FRAMES[frame] - FRAMES[0]))


def test_sliders_change_the_picture():
    calls = []
    views = {"plain": lambda i, _: FRAMES[i], "big": exaggerated}
    box = film_player(views | {"lazy": lambda i, f: calls.append(i)}, len(FRAMES))
    _, frame, view, factor = box.children[1].children
    assert shown(box).shape == (5, 7)
    levels = [shown(box)]
    for slider, value in ((frame, 5), (factor, 4.0), (view, "big")):
        slider.value = value
        levels.append(shown(box))
    # The plain view ignores the factor; the other one makes 100 + 4 * (110 - 100) of it.
    assert [set(picture.flat) for picture in levels] == [{100}, {110}, {110}, {140}]
    assert not calls


def test_a_film_opens_where_it_is_told():
    box = film_player({"big": exaggerated}, len(FRAMES), start=(5, 4.0))
    play, frame, _, factor = box.children[1].children
    assert (play.value, frame.value, factor.value) == (5, 5, 4.0)
    assert set(shown(box).flat) == {140}
    assert "JupyterLab" in box._repr_mimebundle_()["text/plain"]  # and not a picture's bytes


@pytest.mark.parametrize(("views", "n"), [({}, 3), ({"a": lambda i, f: FRAMES[0]}, 0)])
def test_nothing_to_show_is_refused(views, n):
    with pytest.raises(ValueError, match="at least one"):
        film_player(views, n)


def test_a_live_figure_is_drawn_anew_and_closed():
    seen = []

    def draw(**values):
        seen.append(values)
        figure, ax = plt.subplots(figsize=(1, 1))
        ax.axhspan(0, 1, color="black" if values["light"] == "off" else "white")
        ax.axis("off")
        return figure

    box = live_figure(draw, how_far=(0.0, 2.0, 0.5, 1.0), light=["on", "off"])
    bright = shown(box).mean()
    far, light = box.children[1].children
    assert (far.description, far.value, light.value) == ("how far", 1.0, "on")
    light.value, far.value = "off", 1.5
    assert seen[-1] == {"how_far": 1.5, "light": "off"}
    assert shown(box).mean() < bright - 50  # a margin stays white
    assert not plt.get_fignums()
    with pytest.raises(ValueError, match="control"):
        live_figure(draw)
