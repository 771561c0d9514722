"""Sliders for the notebooks. Without a live kernel the figures beside them tell the same story."""

import io
from collections.abc import Callable

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image as PilImage

from micromacro.plots import to_picture

View = Callable[[int, float], np.ndarray]


def film_player(
    views: dict[str, View],
    n_frames: int,
    *,
    fps: float = 15.0,
    factors: tuple[float, float] = (1.0, 20.0),
    factor_label: str = "exaggerate",
    start: tuple[int, float] | None = None,
    height: int = 320,
) -> ipywidgets.VBox:
    """A film with a time slider, a choice of views and a factor that a view may use.

    Args:
        views: Name → function of (frame number, factor) that returns an image, as
            :func:`~micromacro.plots.to_picture` takes it. A view is called only when it is shown.
        n_frames: Number of frames in every view.
        fps: Number of pictures per second while playing.
        factors: Smallest and largest factor of the slider.
        factor_label: What the factor does, in one word.
        start: Number of the frame and factor that are shown first, such as those of the apex; None
            begins at frame 0 with the smallest factor.
        height: Height of the picture on the page in CSS pixels.

    Returns:
        A box whose ``children`` are the picture and the row of controls.

    Raises:
        ValueError: There is no view or no frame.
    """
    if not views or n_frames < 1:
        raise ValueError("film_player needs at least one view and one frame")
    low, high = factors
    first, at = start or (0, low)
    play = ipywidgets.Play(first, max=n_frames - 1, interval=round(1000 / fps), repeat=True)
    frame = ipywidgets.IntSlider(first, max=n_frames - 1, description="frame")
    view = ipywidgets.Dropdown(options=list(views), description="view")
    factor = ipywidgets.FloatSlider(at, min=low, max=high, step=0.5, description=factor_label)
    ipywidgets.jslink((play, "value"), (frame, "value"))

    def draw(png: io.BytesIO) -> None:
        image = to_picture(views[view.value](frame.value, factor.value))
        PilImage.fromarray(image).save(png, "PNG", compress_level=1)  # speed before size

    return _picture_and_controls(draw, [play, frame, view, factor], height)


def live_figure(
    draw: Callable[..., Figure], *, height: int = 320, **controls: tuple | list
) -> ipywidgets.VBox:
    """A figure that is drawn anew whenever a control moves.

    Args:
        draw: Called with one keyword argument per control; returns a figure, which is closed here.
        height: Height of the picture on the page in CSS pixels.
        **controls: A list of choices, or (low, high, step, start) of a slider. An underscore in
            the name is shown as a space.

    Returns:
        A box whose ``children`` are the picture and the row of controls.

    Raises:
        ValueError: There is no control.
    """
    if not controls:
        raise ValueError("live_figure needs at least one control")
    made = {name: _control(name.replace("_", " "), what) for name, what in controls.items()}

    def save(png: io.BytesIO) -> None:
        figure = draw(**{name: control.value for name, control in made.items()})
        figure.savefig(png, format="png")
        plt.close(figure)

    return _picture_and_controls(save, list(made.values()), height)


def _picture_and_controls(
    draw: Callable[[io.BytesIO], None], controls: list, height: int
) -> ipywidgets.VBox:
    """A picture, drawn as PNG whenever one of the controls below it changes its value."""
    # A box stretches its children to its own width; a picture must keep its shape.
    shape = {"height": f"{height}px", "width": "auto", "align_self": "flex-start"}
    picture = ipywidgets.Image(format="png", height=height, layout=shape)

    def redraw(_change=None) -> None:
        png = io.BytesIO()
        draw(png)
        picture.value = png.getvalue()

    for control in controls:
        if not isinstance(control, ipywidgets.Play):  # it moves the slider, which is watched
            control.observe(redraw, "value")
    redraw()
    row = ipywidgets.HBox(controls, layout={"flex_flow": "row wrap"})
    return _Live([picture, row])


class _Live(ipywidgets.VBox):
    """A picture above its controls; without a kernel a page shows these words in their place."""

    def __repr__(self) -> str:
        return "A picture with controls stands here while the notebook runs, in JupyterLab."


def _control(name: str, what: tuple | list) -> ipywidgets.Widget:
    look = {"description": name, "style": {"description_width": "initial"}}  # never cut short
    if isinstance(what, list):
        return ipywidgets.Dropdown(options=what, **look)
    low, high, step, start = what
    look["continuous_update"] = False  # a figure takes long: draw it where the slider stops
    return ipywidgets.FloatSlider(start, min=low, max=high, step=step, **look)
