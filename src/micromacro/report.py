"""Pages: a notebook as one, a run's ``index.html``, and the committed notebooks as a static site.

Each page is one file that works offline: style, pictures and formulas (MathML) are inside it. The
templates are in ``templates/``. Widgets need a kernel; a page shows a line of text in their place.
Scripts in a notebook's text and outputs are left out, and a page's content security policy forbids
what was missed: to look at somebody's run is safe.
"""

import base64
import html
import io
import json
import re
from functools import partial
from pathlib import Path

import jinja2
import latex2mathml.converter
import nbformat
import numpy as np
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from PIL import Image
from pygments.formatters import HtmlFormatter

from micromacro import course, results
from micromacro.errors import BadInput
from micromacro.files import make_writable, project_root, write_atomically

WIDGET = "application/vnd.jupyter.widget-view+json"
_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("micromacro"), autoescape=True, trim_blocks=True
)
_TEMPLATES.globals["CodeStyle"] = HtmlFormatter
_THUMBNAILS = 4
_THUMBNAIL_PX = 480  # twice the width it is shown at, for sharp screens
_TABLE_ROWS = 60  # more are in the file that the table links to
_SHOWN = ["system", "arm", "dataset", "split", "seed", "fold", "metric", "value", "n", "seconds"]


def run_page(folder: Path, run: dict) -> Path:
    """Write ``run.json`` and ``index.html`` of a run with notebooks and rows; the latter's path.

    Args:
        folder: The run's.
        run: ``profile, params``, provenance, ``machine, versions``, and ``notebooks``: by name a
            dict with ``reason`` (empty if it passed), ``traceback, cells, seconds``.
    """
    write_atomically(folder / "run.json", json.dumps(run, indent=1))
    cards = [_card(folder / f"{name}.ipynb") for name in run["notebooks"]]
    return _write_page(folder / "index.html", "index.html.j2", run=run, cards=cards)


def site(notebooks: str | None = None) -> Path:
    """Write the committed notebooks as a static site in ``runs/site``; the path of its index.

    Args:
        notebooks: Numbers or names, such as "00 04"; by default all.

    Raises:
        BadInput: An unknown notebook, a folder that cannot be written, or a formula that cannot be
            drawn.

    Examples:
      micromacro report        then open runs/site/index.html
    """
    paths = course.choose(notebooks)
    folder = project_root() / "runs" / "site"
    make_writable(folder)
    pages = tuple(path.stem for path in paths)
    for path in paths:
        notebook_page(path, folder / f"{path.stem}.html", pages=pages)
    values = {"site": results.provenance(), "cards": [_card(path) for path in paths]}
    return _write_page(folder / "index.html", "index.html.j2", **values)


def notebook_page(source: Path, target: Path, *, pages: tuple[str, ...] = ()) -> Path:
    """Write a notebook, with the outputs it has, as a page; its path.

    Args:
        source: The notebook.
        target: The HTML file; replaced in one step.
        pages: Names (without suffix) of the notebooks that have a page beside this one: links to
            them stay links, links to other notebooks become text.

    Raises:
        BadInput: A formula that cannot be drawn; no notebook that can be read.
    """
    notebook = course.read_notebook(source)
    notebook.metadata.pop("widgets", None)
    for cell, follower in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if data.pop(WIDGET, None):
                data.clear()
                data["text/markdown"] = "*Interactive: open the notebook in JupyterLab.*"
            if "image/png" in data and follower is not None and follower.cell_type == "markdown":
                sentence = next(iter(sentences(follower.source)), "")
                output.metadata.setdefault("image/png", {}).setdefault("alt", sentence)
    links = {*pages, "index"} if pages else {source.stem}
    markdown = MarkdownWithMath(renderer=_Renderer(links))
    exporter = HTMLExporter(template_name="basic", filters={"markdown2html": markdown.render})
    body, _ = exporter.from_notebook_node(notebook)
    title = notebook_title(notebook) or source.stem
    values = {"title": title, "has_index": bool(pages), "body": _without_scripts(body)}
    return _write_page(target, "notebook.html.j2", **values)


def formula(tex: str, display: str = "inline") -> str:
    """A formula as MathML, with its TeX as alternative text.

    Args:
        tex: TeX without dollar signs.
        display: ``"inline"``, or ``"block"`` for a line of its own.

    Raises:
        BadInput: It cannot be drawn.
    """
    try:
        drawn = latex2mathml.converter.convert(tex, display=display)
        # What the converter does not know it passes on as it is.
        if unknown := re.search(r"\\[A-Za-z]*|(?<=<mi>)[&{}](?=</mi>)", drawn):
            raise ValueError(f"{unknown[0]} is unknown")
    except Exception as error:  # the converter's errors have no common class, and often no text
        fault, remedy = f"{type(error).__name__} {error}", "write it as latex2mathml knows TeX"
        raise BadInput(f"formula {tex.strip()}", fault, remedy) from None
    return drawn.replace("<math ", f'<math alttext="{html.escape(tex.strip())}" ', 1)


def figures(notebook: nbformat.NotebookNode) -> list[Image.Image]:
    """The PNG images among a notebook's outputs, in order, those below 100 pixels left out."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pngs = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", ())]
    images = [Image.open(io.BytesIO(base64.b64decode(png))) for png in pngs]
    return [image for image in images if min(image.size) >= 100]


def notebook_title(notebook: nbformat.NotebookNode) -> str:
    """Text of the first heading of level one; empty if there is none."""
    heading = re.search(r"^# +(.+)$", _prose(notebook), re.MULTILINE)
    return plain_text(heading[1]) if heading else ""


def question(notebook: nbformat.NotebookNode) -> str:
    """What the section "Question" asks first; its first sentence if it asks nothing."""
    section = re.search(r"^## +Question *$(.*?)(?=^## |\Z)", _prose(notebook), re.M | re.S)
    texts = sentences(section[1]) if section else []
    return next(iter([text for text in texts if text.endswith("?")] + texts), "")


def sentences(markdown: str) -> list[str]:
    """Sentences of the first paragraph as plain text: headings, links, emphasis taken off."""
    text = re.sub(r"^\s*#.*$", "", markdown, flags=re.MULTILINE).strip()
    paragraph = " ".join(plain_text(re.split(r"\n\s*\n", text)[0]).split())
    return re.split(r"(?<=[.?!])\s+(?=[A-Z0-9])", paragraph)


def plain_text(markdown: str) -> str:
    """Markdown without its marks: emphasis, code ticks, links, images, tags."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    return re.sub(r"<[^>]+>|[*`]|(?<!\w)_|_(?!\w)", "", text).strip()


class _Renderer(IPythonRenderer):
    """nbconvert's Markdown, with formulas drawn and links between notebooks as links of pages."""

    def __init__(self, pages: set[str]):
        super().__init__(escape=False, anchor_link_text="#")
        self._pages = pages

    inline_math = staticmethod(formula)
    block_math = staticmethod(partial(formula, display="block"))

    def latex_environment(self, name: str, body: str) -> str:
        return formula(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        file = url.partition("#")[0]
        if file and not re.match("[a-z]+:", file):  # of the repository, such as ../README.md
            name = "index" if file.endswith("README.md") else Path(file).stem
            if name not in self._pages:
                return text
            url = f"{name}.html{url.removeprefix(file)}"
        return super().link(text, url, title)


def _without_scripts(body: str) -> str:
    soup = BeautifulSoup(body, "html.parser")
    for tag in soup(["script", "iframe", "object", "embed", "link", "meta", "base", "form"]):
        tag.decompose()
    for tag in soup(True):
        for name, value in list(tag.attrs.items()):
            if name.startswith("on") or "javascript:" in "".join(str(value).split()).lower():
                del tag[name]
    return str(soup)


def _write_page(target: Path, template: str, **values) -> Path:
    write_atomically(target, _TEMPLATES.get_template(template).render(**values))
    return target


def _card(path: Path) -> dict:
    """What an index shows of a notebook."""
    try:
        notebook = course.read_notebook(path)
    except BadInput:  # of a run that had no space to write it
        notebook = nbformat.v4.new_notebook()
    images = figures(notebook)
    picks = np.linspace(1, len(images), min(_THUMBNAILS, len(images))).round().astype(int)
    return {
        "name": path.stem,
        "title": notebook_title(notebook) or path.stem,
        "question": question(notebook),
        "thumbnails": [(number, _shrunk(images[number - 1])) for number in picks],
        "tables": [_table(rows) for rows in sorted(path.parent.glob(f"rows/{path.stem}__*.csv"))],
    }


def _shrunk(image: Image.Image) -> str:
    """A small copy as a data URL; WebP, half the size of PNG on a line plot (measured)."""
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _table(path: Path) -> dict:
    rows = results.read_rows(path)
    shown = rows[_SHOWN].dropna(axis="columns", how="all").head(_TABLE_ROWS)
    text = shown.to_html(index=False, border=0, na_rep="—", float_format=lambda x: f"{x:.4g}")
    return {"file": path.name, "shown": len(shown), "total": len(rows), "html": text}


def _prose(notebook: nbformat.NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
