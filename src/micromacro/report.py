"""Pages: a notebook as one, a run's ``index.html``, and the committed notebooks as a static site.

Each page is one file that works offline: style, pictures and formulas (MathML) are inside it. The
templates are in ``templates/``. Widgets need a kernel; a page shows a line of text in their place.
"""

import base64
import html
import io
import json
import os
import platform
import re
from functools import cache
from pathlib import Path

import jinja2
import latex2mathml.converter
import nbformat
import numpy as np
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from PIL import Image
from pygments.formatters import HtmlFormatter

from micromacro import course
from micromacro.errors import BadInput
from micromacro.results import make_writable, project_root, provenance, read_rows, version
from micromacro.results import write_atomically as write

WIDGET = "application/vnd.jupyter.widget-view+json"
_THUMBNAILS = 4
_THUMBNAIL_PX = 480  # twice the width it is shown at, for sharp screens
_TABLE_ROWS = 60  # more are in the file that the table links to
_SHOWN = ["system", "arm", "dataset", "split", "seed", "fold", "metric", "value", "n", "seconds"]


def machine() -> dict[str, str]:
    """What ran it, for the head of a page: ``machine``, ``versions``."""
    packages = ("micromacro", "torch", "numpy", "opencv-contrib-python-headless", "papermill")
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "versions": ", ".join(f"{name.split('-')[0]} {version(name)}" for name in packages),
    }


def run_page(folder: Path) -> Path:
    """Write ``index.html`` of a run from its ``run.json``, notebooks and rows; its path."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    cards = []
    for outcome in run["notebooks"]:
        tables = [_table(path) for path in sorted(folder.glob(f"rows/{outcome['name']}__*.csv"))]
        card = _card(folder / f"{outcome['name']}.ipynb")
        cards.append({"outcome": outcome, "tables": tables, **card})
    return _write_page(folder / "index.html", "index.html.j2", run=run, cards=cards)


def site(notebooks: str | None = None) -> Path:
    """Write the committed notebooks as a static site in ``runs/site``; the path of its index.

    Raises:
        BadInput: An unknown notebook, a folder that cannot be written, or a formula that cannot be
            drawn.
    """
    paths = course.choose(notebooks)
    folder = project_root() / "runs" / "site"
    make_writable(folder)
    pages = tuple(path.stem for path in paths)
    for path in paths:
        notebook_page(path, folder / f"{path.stem}.html", pages=pages)
    cards = [_card(path) for path in paths]
    return _write_page(folder / "index.html", "index.html.j2", site=provenance(), cards=cards)


def notebook_page(source: Path, target: Path, *, pages: tuple[str, ...] = ()) -> Path:
    """Write a notebook, with the outputs it has, as a page; its path.

    Args:
        source: The notebook.
        target: The HTML file; replaced in one step.
        pages: Names (without suffix) of the notebooks that have a page beside this one: links to
            them stay links, links to other notebooks become text.

    Raises:
        BadInput: A formula that cannot be drawn.
    """
    notebook = nbformat.read(source, as_version=4)
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
    exporter = _Exporter(template_name="basic")
    exporter.pages = (*pages, source.stem)
    body, _ = exporter.from_notebook_node(notebook)
    title = notebook_title(notebook) or source.stem
    return _write_page(target, "notebook.html.j2", title=title, has_index=bool(pages), body=body)


def formula(tex: str, display: str = "inline") -> str:
    """A formula as MathML, with its TeX as alternative text.

    Args:
        tex: TeX without dollar signs.
        display: ``"inline"``, or ``"block"`` for a line of its own.

    Raises:
        BadInput: It cannot be drawn.
    """
    spelled = re.sub(r"\\arg(?![A-Za-z])", r"\\operatorname{arg}", tex)
    spelled = re.sub(r"(\\(?:begin|end)){aligned}", r"\1{align*}", spelled)
    try:
        drawn = latex2mathml.converter.convert(spelled, display=display)
        # What the converter does not know it passes on as it is.
        unknown = re.search(r"\\[A-Za-z]*|<mi>[&{}]</mi>", drawn)
        fault = unknown and f"unknown command {unknown[0]}"
    except Exception as error:  # its errors have no common class, and often no text
        fault = f"cannot be drawn ({type(error).__name__} {error}".strip() + ")"
    if fault:
        raise BadInput(
            f"formula {tex.strip()}", fault, "write it in the TeX that latex2mathml knows"
        )
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
    return next((text for text in texts if text.endswith("?")), *texts[:1] or [""])


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

    def __init__(self, pages: tuple[str, ...], **options):
        super().__init__(escape=False, anchor_link_text="#", **options)
        self._pages = pages

    def inline_math(self, body: str) -> str:
        return formula(body)

    def block_math(self, body: str) -> str:
        return formula(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return formula(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        file, _, anchor = url.partition("#")
        name = Path(file).name
        if name == "README.md" and len(self._pages) > 1:
            url = "index.html"
        elif name.endswith(".ipynb") and Path(name).stem in self._pages:
            url = f"{Path(name).stem}.html" + (f"#{anchor}" if anchor else "")
        elif file and not re.match("[a-z]+:", file):  # a file that lies beside no page
            return text
        return super().link(text, url, title)


class _Exporter(HTMLExporter):
    @jinja2.pass_context
    def markdown2html(self, context, source: str) -> str:
        attachments = context.get("cell", {}).get("attachments", {})
        renderer = _Renderer(self.pages, attachments=attachments)
        return MarkdownWithMath(renderer=renderer).render(source)


def _write_page(target: Path, template: str, **values) -> Path:
    write(target, _templates().get_template(template).render(**values))
    return target


@cache
def _templates() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    environment.globals["CodeStyle"] = HtmlFormatter
    return environment


def _card(path: Path) -> dict:
    """What an index shows of a notebook."""
    notebook = nbformat.read(path, as_version=4)
    images = figures(notebook)
    picks = np.linspace(1, len(images), min(_THUMBNAILS, len(images))).round().astype(int)
    return {
        "name": path.stem,
        "title": notebook_title(notebook) or path.stem,
        "question": question(notebook),
        "thumbnails": [(number, _shrunk(images[number - 1])) for number in picks],
    }


def _shrunk(image: Image.Image) -> str:
    """A small copy as a data URL; WebP, half the size of PNG on a line plot (measured)."""
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _table(path: Path) -> dict:
    rows = read_rows(path)
    columns = [name for name in _SHOWN if rows[name].notna().any()]
    shown = rows[columns].head(_TABLE_ROWS)
    text = shown.to_html(index=False, border=0, na_rep="—", float_format=lambda x: f"{x:.4g}")
    return {"file": path.name, "shown": len(shown), "total": len(rows), "html": text}


def _prose(notebook: nbformat.NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
