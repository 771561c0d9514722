"""Figures of the course: one style, legible in grey and to colour-blind readers.

Functions draw, and return the axes, the figure or the picture; only `shown` puts one on the page,
and none writes files. Notebooks and their widgets import this module.
"""

import io
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image as PilImage

from micromacro.faces.action_units import action_unit_names

# Okabe and Ito's colours, ordered so that neighbours also differ in lightness; each has its own
# line style and marker, so that a grey print keeps them apart.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#CC79A7", "#009E73", "#D55E00", "#56B4E9")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
METHODS = ("phase", "Lucas–Kanade", "Farnebäck", "DIS", "TV-L1", "as released", "unwrapped")
STYLE = {
    name: {"color": colour, "linestyle": line, "marker": marker}
    for name, colour, line, marker in zip(METHODS, COLOURS, LINES, MARKERS, strict=True)
}
"""Method -> its look, the same in every notebook; ready for ``Axes.plot``."""
SIGNED = "cividis"
"""Map of signed values: dark blue, grey for 0, light yellow. A grey print keeps the order."""


def use_style() -> None:
    """Sets the course's Matplotlib style for this session: fonts, sizes, colours, line styles."""
    cycle = plt.cycler(color=COLOURS) + plt.cycler(linestyle=LINES)
    plt.rc("figure", dpi=90, facecolor="white")
    plt.rc("savefig", dpi=90)
    plt.rc("font", size=10)
    plt.rc("axes", titlesize=10, labelsize=10, prop_cycle=cycle)
    plt.rc("axes.spines", top=False, right=False)
    plt.rc("legend", frameon=False)
    plt.rc("image", cmap="gray")


def to_picture(image) -> np.ndarray:
    """Turns any image of the package into what Matplotlib shows.

    Args:
        image: ``(H, W)``, ``(H, W, 3)``, ``(1, H, W)`` or ``(3, H, W)``; uint8, or float in [0, 1];
            NumPy or torch.

    Returns:
        ``(H, W)`` or ``(H, W, 3)``, uint8.
    """
    picture = np.asarray(image)
    if picture.ndim == 3 and picture.shape[0] in (1, 3) and picture.shape[-1] not in (1, 3):
        picture = np.moveaxis(picture, 0, -1)
    if picture.ndim == 3 and picture.shape[-1] == 1:
        picture = picture[..., 0]
    if picture.dtype != np.uint8:
        picture = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return picture


def show_image(ax: Axes, image, title: str = "") -> Axes:
    """Shows one image without ticks, with a title above it."""
    ax.imshow(to_picture(image), vmin=0, vmax=255)
    ax.set(title=title, xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax


def shown(figure: Figure, alt: str) -> None:
    """Shows a figure in the notebook and closes it.

    Args:
        figure: What is shown.
        alt: What it shows, in one sentence, for readers who cannot see it.
    """
    from IPython.display import display

    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def film_strip(rows: dict[str, list], titles: list[str] | None = None, size: float = 1.5) -> Figure:
    """Rows of images with a label at the left of each row.

    Args:
        rows: Label of a row → its images; all rows have the same number.
        titles: One title for each column; None writes none.
        size: Width of one image on the figure in inches.
    """
    shape = len(rows), max(len(images) for images in rows.values())
    inches = (size * shape[1] + 0.4, size * shape[0] + 0.3)
    figure, axes = plt.subplots(*shape, figsize=inches, squeeze=False, layout="constrained")
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            show_image(ax, image)
        line[0].set_ylabel(label)
    for ax, title in zip(axes[0], titles or [], strict=bool(titles)):
        ax.set_title(title)
    return figure


def difference_image(image, reference, gain: float = 8.0) -> np.ndarray:
    """Grey picture of ``gain * (image - reference)``: mid-grey where nothing changed.

    Args:
        image: ``(..., H, W)`` float in [0, 1] or uint8; a colour image is averaged over channels.
        reference: An image of the same shape and type.
        gain: Factor that makes small differences visible.

    Returns:
        ``(H, W)`` uint8, 128 where both agree.
    """
    both = [to_picture(x).astype(float) for x in (image, reference)]
    change = both[0] - both[1]
    if change.ndim == 3:
        change = change.mean(-1)
    return np.clip(128 + gain * change, 0, 255).astype(np.uint8)


def show_map(ax: Axes, values, limit: float, title: str = "", colourbar: bool = False):
    """Shows a map of signed values in `SIGNED`, grey for 0; returns what a colour bar needs.

    Args:
        ax: The axes on which it is drawn.
        values: ``(H, W)``, numbers of any unit.
        limit: Largest value that the colours tell apart, in the unit of the values.
        title: Say what it is, and the unit unless a colour bar does.
        colourbar: Whether a colour bar of its own stands beside the map.
    """
    shown = ax.imshow(np.asarray(values, float), cmap=SIGNED, vmin=-limit, vmax=limit)
    ax.set(title=title, xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if colourbar:
        ax.figure.colorbar(shown, ax=ax)
    return shown


def arrows(ax: Axes, flow_px, step: int = 8, magnify: float = 1.0, **kwargs) -> Axes:
    """Draws a motion field as arrows over the image that ``ax`` already shows.

    Args:
        ax: The axes that show the image, in pixel coordinates.
        flow_px: ``(2, H, W)``, pixels, x then y (down).
        step: Distance of two arrows in pixels.
        magnify: Length of an arrow in pixels per pixel of motion. Say it in the title.
        **kwargs: Options that are passed on to ``quiver``.
    """
    flow = np.asarray(flow_px)
    y, x = np.mgrid[step // 2 : flow.shape[1] : step, step // 2 : flow.shape[2] : step]
    u, v = flow[0, y, x], flow[1, y, x]
    keep = np.hypot(u, v) > 0.05 * max(float(np.hypot(*flow).max()), 1e-9)
    look = {"angles": "xy", "scale_units": "xy", "width": 0.006, "color": COLOURS[5]} | kwargs
    ax.quiver(x[keep], y[keep], u[keep], v[keep], scale=1 / magnify, **look)
    return ax


def traces(ax: Axes, t_s, series: dict[str, np.ndarray], truth=None, unit: str = "px") -> Axes:
    """Curves over time, the truth as a thick light band below them.

    Args:
        ax: The axes on which it is drawn.
        t_s: ``(T,)``, time in seconds.
        series: ``(T,)`` values of each curve, by its name in the legend.
        truth: ``(T,)``, values of the band below the curves; None draws none.
        unit: Unit of the values, for the axis label.
    """
    if truth is not None:
        ax.plot(t_s, truth, color="0.75", linewidth=7, linestyle="-", label="truth")
    for (name, values), colour, line in zip(series.items(), COLOURS, LINES, strict=False):
        ax.plot(t_s, values, color=colour, linestyle=line, label=name)
    ax.set(xlabel="time (s)", ylabel=f"motion ({unit})")
    ax.legend(loc="upper left", ncols=2)
    return ax


def curves(
    x, series: dict[str, np.ndarray], level: tuple[str, float] | None = None, **labels: str
) -> Figure:
    """Curves in one picture, with their names beside it.

    Args:
        x: (N,), what they share.
        series: Name of a curve -> its N values.
        level: Name and value of a dotted line across; None draws none.
        **labels: Options of ``Axes.set``, such as ``xlabel``.
    """
    figure, ax = plt.subplots(figsize=(7.4, 2.6), layout="constrained")
    for k, (name, values) in enumerate(series.items()):
        look = {"color": COLOURS[2 * k % 7], "linestyle": LINES[k], "marker": MARKERS[k]}
        ax.plot(x, values, label=name, **look)
    if level:
        ax.axhline(level[1], color=COLOURS[5], linestyle=":", label=level[0])
    ax.set(**labels)
    figure.legend(loc="outside right upper")
    return figure


def action_unit_film(
    frames, t_s, units: pd.DataFrame | None, truth: pd.DataFrame | None = None, marks=None
) -> Figure:
    """A film as a strip of ten moments; below, on one axis, the action units that move most.

    Args:
        frames: T images, as :func:`to_picture` takes each.
        t_s: (T,), times of the frames in seconds.
        units: T rows; columns begin with the number, such as "AU12_r" or "AU12_like". The five of
            largest deviation are drawn; nan leaves a gap. None draws the strip alone.
        truth: True values in the same columns, drawn as a line and used to choose; or None.
        marks: bool (T,), frames that are shaded in grey; or None.

    Returns:
        The figure; its rows share a scale, so that they can be compared.
    """
    units = pd.DataFrame(index=range(len(t_s))) if units is None else units
    moved = (units if truth is None else truth).std().dropna().astype(float)
    columns = sorted(moved.nlargest(5).index)
    every = units[columns] if truth is None else pd.concat([units[columns], truth[columns]])
    highest = max(0.1, np.nan_to_num(every.to_numpy(float)).max(initial=0))
    names = [f"{action_unit_names()[int(c[2:4])]} ({int(c[2:4])})" for c in columns]
    figure, rows = film_above(frames, t_s, names, highest)
    for k, (ax, column) in enumerate(zip(rows, columns, strict=True)):
        ax.fill_between(t_s, units[column], color=COLOURS[1 + k % 6], linewidth=0)
        if marks is not None:
            ax.fill_between(t_s, 2 * highest, where=marks, step="mid", color="0.9", zorder=0)
        if truth is not None:
            ax.plot(t_s, truth[column], color="k", linestyle="-", linewidth=1)
    return figure


def emotion_film(frames, t_s, shares: dict[str, pd.DataFrame]) -> Figure:
    """A film as a strip of ten moments; below it, on the same axis, a row for each emotion.

    Args:
        frames: T images, as :func:`to_picture` takes each.
        t_s: (T,), times of the frames in seconds.
        shares: Name of a network -> T rows, 0 to 1, the same columns in all; nan leaves a gap. The
            first network is filled, the others are lines.

    Returns:
        The figure; its rows share a scale, so that they can be compared.
    """
    columns = [*next(iter(shares.values()))]
    figure, rows = film_above(frames, t_s, columns, 1.0)
    for ax, column, colour in zip(rows, columns, COLOURS, strict=False):
        for k, (name, table) in enumerate(shares.items()):
            if k == 0:
                ax.fill_between(t_s, table[column], color=colour, linewidth=0, alpha=0.8)
                ax.fill_between([], [], color="0.5", label=name)  # in the legend: no row's colour
            else:
                ax.plot(t_s, table[column], color="k", linestyle=LINES[k - 1], label=name)
    figure.legend(*rows[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def film_above(
    frames, t_s, names: list[str], highest: float, inches: float = 0.62
) -> tuple[Figure, list[Axes]]:
    """A film as a strip of ten moments, above empty rows on the same axis of time.

    Args:
        frames: T images, as :func:`to_picture` takes each.
        t_s: (T,), times of the frames in seconds.
        names: One for each row.
        highest: Value at the top of the rows; 0 is at their bottom.
        inches: Height of a row.

    Returns:
        The figure, and the axes of the rows.
    """
    t_s, n = np.asarray(t_s), len(names)
    step = np.median(np.diff(t_s)) / 2
    left, right = t_s[0] - step, t_s[-1] + step
    options = {"sharex": True, "height_ratios": (0.8, *[inches] * n), "layout": "constrained"}
    figure, axes = plt.subplots(1 + n, figsize=(9.4, 1.15 + inches * n), squeeze=False, **options)
    top, *rows = axes[:, 0]
    moments = [np.abs(t_s - t).argmin() for t in np.linspace(left, right, 21)[1::2]]
    strip = np.concatenate([to_picture(frames[k]) for k in moments], axis=1)
    top.imshow(strip, vmin=0, vmax=255, aspect="auto", extent=(left, right, 0, 1))
    top.set(yticks=[], xlim=(left, right))
    for ax, name in zip(rows, names, strict=True):
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
        ax.set(ylim=(0, 1.05 * highest), yticks=[highest], yticklabels=[f"{highest:.2g}"])
    for ax in (top, *rows):
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.tick_params(length=0)
    (rows or [top])[-1].set_xlabel("time (s)")
    return figure, rows


def confusion_map(ax: Axes, counts: pd.DataFrame, title: str = "") -> Axes:
    """Shows what a classifier answers to each class, in per cent of the class's clips.

    Args:
        ax: The axes on which it is drawn.
        counts: Numbers of clips; a row a true class, a column an answer.
        title: Stands above.
    """
    shares = 100 * counts.div(counts.sum(axis=1).clip(lower=1), axis=0).to_numpy()
    ax.imshow(shares, cmap="Greys", vmin=0, vmax=100)
    for (i, j), share in np.ndenumerate(shares):
        ink = "white" if share > 50 else "black"
        ax.text(j, i, f"{share:.0f}" if share else "", ha="center", va="center", color=ink, size=9)
    ax.set(title=title, xlabel="answer")
    ax.set_xticks(range(len(counts.columns)), [name[:3] for name in counts.columns])
    ax.set_yticks(range(len(counts)), counts.index)
    return ax


def weight_triangles(
    points: pd.DataFrame, scores: dict[str, float], marks: dict[str, Sequence], limits: pd.DataFrame
) -> Figure:
    """Scores over all weights of three networks, a triangle a score; a corner is one network alone.

    Args:
        points: A row a choice of weights: those of the three networks in the first three columns,
            named by the network, and a column a score, 0 to 1.
        scores: Name of a score -> what the first mark reaches, for the title.
        marks: Name of a choice -> its three weights, in the order of the networks.
        limits: Rows among which the darkest and the brightest value of each score are.

    Returns:
        The figure, triangles side by side.
    """
    corners, names = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.866]]), [*points][:3]
    figure, axes = plt.subplots(1, len(scores), figsize=(9.4, 3.6), layout="constrained")
    for ax, (score, reached) in zip(np.atleast_1d(axes), scores.items(), strict=True):
        low, high = 100 * limits[score].min(), 100 * limits[score].max()
        look = {"cmap": "cividis", "vmin": low, "vmax": high, "s": 42, "marker": "h"}
        x, y = (points[names].to_numpy() @ corners).T
        dots = ax.scatter(x, y, c=100 * points[score], **look)
        for (name, weights), mark in zip(marks.items(), "Xs^", strict=False):
            place = np.asarray(weights) @ corners
            ax.plot(*place, mark, color="white", mec="k", ms=11, label=name)
        for (x, y), name in zip(corners, names, strict=True):
            ax.text(x, y + (0.06 if y else -0.06), name, ha="center", va="bottom" if y else "top")
        title = f"{next(iter(marks))}: {score} {100 * reached:.1f} %"
        ax.set(xlim=(-0.2, 1.2), ylim=(-0.16, 1.0), aspect="equal", title=title)
        ax.axis("off")
        figure.colorbar(dots, ax=ax, label=f"{score} (%)", shrink=0.8)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def diagram(
    boxes: dict[str, tuple[float, float, str]], links: Sequence[tuple[str, str]], width: float = 9.0
) -> Figure:
    """A network as boxes with what they are and the shapes they give, joined by arrows.

    Args:
        boxes: Name of a box → column from the left, row from the top, and what stands in it; a
            second line, such as a shape, is smaller.
        links: Pairs of names; an arrow leads from the first to the second.
        width: Width of the figure in inches.
    """
    columns, rows = (max(box[axis] for box in boxes.values()) + 1 for axis in (0, 1))
    inches = width / columns  # of one column
    figure, ax = plt.subplots(figsize=(width, 0.95 * rows), layout="constrained")
    half, joined = 0.5 - min(0.2, 0.16 / inches), {"arrowstyle": "-|>", "color": "0.35"}
    for column, row, text in boxes.values():
        corner, look = (column - half, -row - 0.34), {"fc": "#E8F1F8", "ec": COLOURS[2]}
        ax.add_patch(
            FancyBboxPatch(corner, 2 * half, 0.68, "round,pad=0,rounding_size=0.05", **look)
        )
        first, _, rest = text.partition("\n")
        lift = 0.14 if rest else 0
        ax.text(column, lift - row, first, ha="center", va="center", weight="bold")
        ax.text(column, -row - 0.15, rest, ha="center", va="center", fontsize=9)
    for one, other in links:
        (x, y, _), (to_x, to_y, _) = boxes[one], boxes[other]
        ax.annotate("", (to_x - half, -to_y), (x + half, -y), arrowprops=joined)
    ax.set(xlim=(-0.5, columns - 0.5), ylim=(0.5 - rows, 0.5))
    ax.axis("off")
    return figure


# Status of a frame -> grey and hatch of its bar.
STATUS_LOOK = {
    "track": ("0.85", ""),
    "detect": ("0.45", ""),
    "interp": ("0.95", "////"),
    "none": ("1.0", "xxxx"),
}


def status_timeline(ax: Axes, clip) -> Axes:
    """One bar per run of equal status, hatched by kind, with a line at every shot cut.

    Args:
        ax: The axes on which it is drawn.
        clip: The :class:`~micromacro.clip.FaceClip` whose frames are shown.
    """
    status, shot = np.asarray(clip.status), np.asarray(clip.shot)
    edges = np.flatnonzero((status[1:] != status[:-1]) | (shot[1:] != shot[:-1])) + 1
    named = set()
    for start, stop in zip([0, *edges], [*edges, len(status)], strict=True):
        kind = str(status[start])
        grey, hatch = STATUS_LOOK[kind]
        (bar,) = ax.barh(0, stop - start, left=start, color=grey, hatch=hatch, edgecolor="0.2")
        if kind not in named:
            bar.set_label(kind)
            named.add(kind)
    for cut in np.flatnonzero(np.diff(shot)) + 1:
        ax.axvline(cut, ymax=0.72, color=COLOURS[5], linewidth=2.5)
        ax.annotate("cut", (cut, 0.5), ha="center", va="bottom", color=COLOURS[5])
    ax.set(yticks=[], ylim=(-0.5, 0.8), xlim=(0, len(status)), xlabel="frame")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), ncols=4)
    return ax


def moving_picture(frames, fps: float = 15.0, scale: int = 1, **shown):
    """A short film as one animated PNG, which browsers play and other viewers show as a still.

    Args:
        frames: ``(T, H, W)``, ``(T, C, H, W)`` or a list of images, as :func:`to_picture` takes.
        fps: Number of pictures per second.
        scale: How many pixels become one of the image, a whole number.
        **shown: Options of ``IPython.display.Image``: ``alt``, what it shows for readers who cannot
            see it; ``width`` on the page in CSS pixels.

    Returns:
        ``IPython.display.Image`` of type image/png.
    """
    from IPython.display import Image

    arrays = (p.repeat(scale, axis=0).repeat(scale, axis=1) for p in map(to_picture, frames))
    first, *rest = map(PilImage.fromarray, arrays)
    film = {"save_all": True, "append_images": rest, "duration": round(1000 / fps), "loop": 0}
    buffer = io.BytesIO()
    first.save(buffer, "PNG", **film)
    return Image(data=buffer.getvalue(), format="png", **shown)


_SYSTEMS = ("mimamo", "msff", "spotting", "eri", "akmnet")
# The map: column, row, title, subtitle, what leads here. Columns are stages, left to right.
_MAP = {
    "video": (0, 2, "a raw video", "notebook 00", ""),
    "faces": (1, 2, "steady faces", "notebook 01", "video"),
    "phase": (2, 4, "phase differences", "notebook 02", "faces"),
    "flow": (2, 3.2, "optical flow", "notebook 03", "faces"),
    "mimamo": (3, 4, "MIMAMO Net", "04  valence, arousal", "phase flow"),
    "msff": (3, 3, "MSFF", "05  seven emotions", "faces"),
    "spotting": (3, 2, "3D-CNN spotting", "06  when it happens", "faces"),
    "eri": (3, 1, "holistic + local", "07  reaction intensity", "faces"),
    "akmnet": (3, 0, "AKMNet", "08  micro-expression", "faces"),
    "all": (4, 2, "every system on\nevery question", "09, 10  results", " ".join(_SYSTEMS)),
}


def course_map(ready: tuple[str, ...] = ()) -> Figure:
    """The map of the course: stages as boxes, what feeds what as arrows.

    Args:
        ready: Two-digit numbers of the notebooks that exist; their boxes have a thick outline.
    """
    figure, ax = plt.subplots(figsize=(10.6, 4.8), layout="constrained")
    exists = {"facecolor": "#E8F1F8", "edgecolor": COLOURS[2], "linewidth": 2.2}
    planned = {"facecolor": "white", "edgecolor": "0.6", "linestyle": "--"}
    arrow = {"arrowstyle": "-|>", "color": "0.55", "linewidth": 0.9}
    at = {name: (2.0 * column, 0.92 * row) for name, (column, row, *_) in _MAP.items()}
    for name, (_, _, title, note, sources) in _MAP.items():
        x, y = at[name]
        look = exists if any(number in note for number in ready) else planned
        ax.add_patch(FancyBboxPatch((x - 0.72, y - 0.3), 1.44, 0.6, "round,pad=0.03", **look))
        ax.text(x, y + 0.08, title, ha="center", va="center", fontsize=9.5, weight="bold")
        ax.text(x, y - 0.19, note, ha="center", va="center", fontsize=9, color="0.25")
        for source in sources.split():
            start = (at[source][0] + 0.76, at[source][1])
            ax.annotate("", (x - 0.76, y), start, arrowprops=arrow)
    ax.set(xlim=(-0.9, 8.9), ylim=(-0.5, 4.2))
    ax.axis("off")
    return figure
