"""A lesson without a browser: some of its cells run, its figure drawn with some controls moved."""

import io
from collections.abc import Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def code_cells(name: str) -> list[str]:
    """Sources of a notebook's code cells."""
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def defined(name: str, needed: Iterable[str], **parameters: object) -> dict:
    """What the cells of a lesson that hold these texts have defined, one after the other.

    The first holds the parameters, some of which may be set otherwise.
    """
    cells, names = code_cells(name), {}
    for text in needed:
        exec(next(source for source in cells if text in source), names)
        names |= parameters if text == needed[0] else {}
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
