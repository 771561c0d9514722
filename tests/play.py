"""A lesson's Play without a browser: its cells run, its figure drawn with some controls moved."""

import io
from collections.abc import Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def defined(name: str, needed: Iterable[str]) -> dict:
    """What the cells of a lesson that hold these texts have defined, one after the other."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    cells, names = [c.source for c in notebook.cells if c.cell_type == "code"], {}
    for text in needed:
        exec(next(source for source in cells if text in source), names)
    plt.close("all")
    return names


def drawn(lesson: dict, **moved: object) -> tuple[list[plt.Axes], bytes]:
    """Axes and PNG of the lesson's `live` figure, its controls as they open but for those moved."""
    opening = {n: c[0] if isinstance(c, list) else c[3] for n, c in lesson["controls"].items()}
    figure = lesson["live"](**opening | moved)
    axes, png = figure.axes, io.BytesIO()
    figure.savefig(png, format="png")
    plt.close(figure)
    return axes, png.getvalue()
