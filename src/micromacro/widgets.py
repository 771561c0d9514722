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
    height: int = 320,
) -> ipywidgets.VBox:
    """A film with a time slider, a choice of views and a factor that a view may use.

    Args:
        views: Name → function of (frame number, factor) that returns an image, as
            :func:`~micromacro.plots.to_picture` takes it. A view is called only when it is shown.
        n_frames: Frames in every view.
        fps: Pictures per second while playing.
        factors: Smallest and largest factor.
        factor_label: What the factor does, in one word.
        height: Height of the picture on the page, CSS pixels.

    Returns:
        A box whose ``children`` are the picture and the row of controls.

    Raises:
        ValueError: There is no view or no frame.
    """
    if not views or n_frames < 1:
        raise ValueError("film_player needs at least one view and one frame")
    play = ipywidgets.Play(max=n_frames - 1, interval=round(1000 / fps), repeat=True)
    frame = ipywidgets.IntSlider(max=n_frames - 1, description="frame", continuous_update=True)
    view = ipywidgets.Dropdown(options=list(views), description="view")
    factor = ipywidgets.FloatSlider(
        value=factors[0], min=factors[0], max=factors[1], step=0.5, description=factor_label
    )
    picture = ipywidgets.Image(format="png", height=height, layout=_unstretched(height))
    ipywidgets.jslink((play, "value"), (frame, "value"))

    def draw(_change=None) -> None:
        image = to_picture(views[view.value](frame.value, factor.value))
        buffer = io.BytesIO()
        PilImage.fromarray(image).save(buffer, "PNG", compress_level=1)
        picture.value = buffer.getvalue()

    for control in (frame, view, factor):
        control.observe(draw, "value")
    draw()
    controls = ipywidgets.HBox([play, frame, view, factor], layout={"flex_flow": "row wrap"})
    return ipywidgets.VBox([picture, controls])


def live_figure(
    draw: Callable[..., Figure], *, height: int = 320, **controls: tuple | list
) -> ipywidgets.VBox:
    """A figure that is drawn anew whenever a control moves.

    Args:
        draw: Called with one keyword argument per control; returns a figure, which is closed here.
        height: Height of the picture on the page, CSS pixels.
        **controls: A list of choices, or (low, high, step, start) of a slider. An underscore in
            the name is shown as a space.

    Returns:
        A box whose ``children`` are the picture and the row of controls.

    Raises:
        ValueError: No control.
    """
    if not controls:
        raise ValueError("live_figure needs at least one control")
    made = {name: _control(name.replace("_", " "), what) for name, what in controls.items()}
    picture = ipywidgets.Image(format="png", height=height, layout=_unstretched(height))

    def redraw(_change=None) -> None:
        figure = draw(**{name: control.value for name, control in made.items()})
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        plt.close(figure)
        picture.value = buffer.getvalue()

    for control in made.values():
        control.observe(redraw, "value")
    redraw()
    row = ipywidgets.HBox(list(made.values()), layout={"flex_flow": "row wrap"})
    return ipywidgets.VBox([picture, row])


def _control(name: str, what: tuple | list) -> ipywidgets.Widget:
    look = {"description": name, "style": {"description_width": "initial"}}  # never cut short
    if isinstance(what, list):
        return ipywidgets.Dropdown(options=what, **look)
    low, high, step, start = what
    return ipywidgets.FloatSlider(
        value=start, min=low, max=high, step=step, continuous_update=False, **look
    )


def _unstretched(height: int) -> dict[str, str]:
    """A box stretches its children to its own width; a picture must keep its shape."""
    return {"height": f"{height}px", "width": "auto", "align_self": "flex-start"}


def exaggerated(frames: np.ndarray, reference: int = 0) -> View:
    """A view that multiplies each frame's difference from a reference frame (linear Eulerian).

    It needs steady frames: whatever moves is exaggerated, shaking included. Large factors clip.

    Args:
        frames: ``(T, C, H, W)`` or ``(T, H, W)`` uint8.
        reference: Number of the frame to compare with.
    """
    base = np.asarray(frames[reference], dtype=np.float32)

    def view(frame: int, factor: float) -> np.ndarray:
        now = np.asarray(frames[frame], dtype=np.float32)
        return np.clip(np.round(base + factor * (now - base)), 0, 255).astype(np.uint8)

    return view
