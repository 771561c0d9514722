"""Pages: a notebook as one, a run's ``index.html``, and the committed notebooks as a static site.

Each page is one file that works offline: style, pictures and formulas (MathML) are inside it. The
templates are in ``templates/``. Widgets need a kernel; a page shows a line of text in their place.
Scripts in a notebook's text and outputs are left out, and a page's content security policy forbids
what was missed: to look at somebody's run is safe. The policy names one script by its hash,
``page.js``, which folds, enlarges and searches; a page is complete without it.
"""

import base64
import hashlib
import html
import io
import json
import posixpath
import re
from collections.abc import Mapping
from functools import partial
from itertools import zip_longest
from pathlib import Path

import jinja2
import latex2mathml.converter
import nbformat
import numpy as np
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter, TemplateExporter, filters
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from PIL import Image
from pygments.formatters import HtmlFormatter

from micromacro import course, results
from micromacro.errors import BadInput
from micromacro.files import make_writable, project_root, reading, write_atomically

WIDGET = "application/vnd.jupyter.widget-view+json"
DOCUMENTS = ("README.md", "GLOSSARY.md", "teaching/README.md", "data/README.md")
DOCUMENTS += ("benchmarks/README.md", "CONTRIBUTING.md")
"""Texts with a page on the site, beside notebooks and solutions; the first is the index."""
_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("micromacro"), autoescape=True, trim_blocks=True
)
_FOLDER = Path(__file__).with_name("templates")
_SCRIPT = (_FOLDER / "page.js").read_text(encoding="utf-8")
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_TEMPLATES.globals |= {"CodeStyle": HtmlFormatter, "script": _SCRIPT, "script_hash": _HASH}
_CELLS = {"template_name": "basic", "template_file": "cells.html.j2"}
_CELLS |= {"extra_template_paths": [str(_FOLDER)], "exclude_output_prompt": True}
# One for all pages: each new one compiles its templates anew.
_EXPORTER = HTMLExporter(**_CELLS, filters={"highlight_code": filters.Highlight2HTML()})
_THUMBNAILS = 4
_THUMBNAIL_PX = 480  # twice the width it is shown at, for sharp screens
_TABLE_ROWS = 60  # more are in the file that the table links to
_ALT = re.compile(r"<!-- *alt: *(.+?) *-->", re.DOTALL)
_SHOWN = ["system", "arm", "dataset", "split", "seed", "fold", "metric", "value", "n", "seconds"]


def run_page(folder: Path, run: dict, pages: Mapping[str, dict]) -> Path:
    """Write ``run.json`` and ``index.html`` of a run with notebooks and rows; the latter's path.

    Args:
        folder: The run's.
        run: ``profile, params``, provenance, ``machine, versions``, and ``notebooks``: by name a
            dict with ``reason`` (empty if it passed), ``traceback, cells, seconds``.
        pages: By name what `notebook_page` gave; one of which no page could be made is missing.
    """
    write_atomically(folder / "run.json", json.dumps(run, indent=1))
    cards = [{"name": name, "title": name} | pages.get(name, {}) for name in run["notebooks"]]
    for card in cards:
        files = sorted(folder.glob(f"rows/{card['name']}__*.csv"))
        card["tables"] = [_table(file) for file in files]
    return _write_page(folder / "index.html", "run.html.j2", run=run, cards=cards)


def site(notebooks: str | None = None) -> Path:
    """Write the committed notebooks as a static site in ``runs/site``; the path of its index.

    With them come their solutions, the `DOCUMENTS`, and the project's README as the index, whose
    section on the notebooks is made from the notebooks and from `course.PLAN`.

    Args:
        notebooks: Numbers or names, such as "00 04"; by default all.

    Raises:
        BadInput: An unknown notebook, a text that is missing, a folder that cannot be written, or a
            formula that cannot be drawn or is left as TeX.

    Examples:
      micromacro report        then open runs/site/index.html
    """
    root = project_root()
    lessons, folder = course.choose(notebooks), root / "runs" / "site"
    make_writable(folder)
    sources = [*lessons, *sorted((root / "notebooks" / "solutions").glob("*.ipynb"))]
    sources += [root / name for name in DOCUMENTS]
    names = {_page_name(str(path.relative_to(root))) for path in sources}
    pages = [_rendered(path, names, str(path.parent.relative_to(root))) for path in sources]
    for left in (page["source_left"] for page in pages if page["source_left"]):
        raise BadInput(left, "a formula is left as source", "write it in a text cell")
    values = {"pages": pages, "plan": course.PLAN, "site": results.provenance()}
    values["cards"] = {p["name"].partition("_")[0]: p for p in pages[: len(lessons)]}
    for page in pages:
        template = "index.html.j2" if page["name"] == "index" else "notebook.html.j2"
        _write_page(folder / f"{page['name']}.html", template, page=page, **values)
    return folder / "index.html"


def notebook_page(source: Path, target: Path, *, pages: tuple[str, ...] = ()) -> dict:
    """Write a notebook, with the outputs it has, as a page; what an index shows of it.

    Args:
        source: The notebook.
        target: The HTML file; replaced in one step.
        pages: Names (without suffix) of the notebooks that have a page beside this one: links to
            them stay links, links to other notebooks become text.

    Raises:
        BadInput: A formula that cannot be drawn; no notebook that can be read.
    """
    page = _rendered(source, {*pages, "index"} if pages else {source.stem})
    _write_page(target, "notebook.html.j2", page=page, has_index=bool(pages))
    return page


def _rendered(source: Path, pages: set[str], home: str = "notebooks") -> dict:
    """A notebook or a Markdown text as HTML; ``home`` is the folder that its links start from."""
    if source.suffix == ".md":
        with reading(source, "a text of the project", "take it from git again"):
            cell = nbformat.v4.new_markdown_cell(source.read_text(encoding="utf-8"))
        notebook = nbformat.v4.new_notebook(cells=[cell])
    else:
        notebook = course.read_notebook(source)
    notebook.metadata.pop("widgets", None)
    for output in (o for cell in notebook.cells for o in cell.get("outputs", ())):
        if output.get("data", {}).pop(WIDGET, None):
            output.data = {"text/markdown": "*Interactive: open the notebook in JupyterLab.*"}
    images = figures(notebook)  # puts their alternative texts into it
    markdown = MarkdownWithMath(renderer=_Renderer(source, pages, home))
    _EXPORTER.register_filter("markdown2html", markdown.render)
    # HTMLExporter's own method parses the whole page once more, to add what is added here.
    soup = _without_scripts(TemplateExporter.from_notebook_node(_EXPORTER, notebook)[0])
    for image in soup.find_all("img", alt=False):
        image["alt"] = "A picture without a description."
    texts = soup.find_all(string=re.compile(r"\$[^$]+\$|\\[A-Za-z(\[]"))
    left = [f"{source.name}, {t.strip()[:80]}" for t in texts if not t.find_parent(["pre", "code"])]
    body = str(soup)
    no_prose = {"code", "output", "anchor"}
    for tag in soup.find_all(lambda t: t.name == "math" or no_prose & {*t.get("class", ())}):
        tag.decompose()
    parts = re.split(r'<h([1-4]) id="([^"]*)">(.*?)</h\1>', str(soup), flags=re.DOTALL)[1:]
    columns = (map(make, parts[i::4]) for i, make in enumerate((int, str, _text, _text)))
    sections = list(zip(*columns, strict=True))
    paragraph = (question := soup.find(id="question")) and question.find_next("p")
    asked = sentences(paragraph.get_text() if paragraph else "")
    minutes = re.search(r"(\d+) min of yours", soup.get_text())
    picks = np.linspace(1, len(images), min(_THUMBNAILS, len(images))).round().astype(int)
    return {
        "name": _page_name(posixpath.join(home, source.name)),
        "home": home,
        "body": body,
        "source_left": next(iter(left), ""),
        "title": next((title for level, _, title, _ in sections if level == 1), source.stem),
        "sections": sections,
        "question": next((s for s in asked if s.endswith("?")), asked[0]),
        "minutes": int(minutes[1]) if minutes else 0,
        "thumbnails": [(images[n - 1][1], _shrunk(images[n - 1][0])) for n in picks],
    }


def formula(tex: str, display: str = "inline", where: str = "") -> str:
    """A formula as MathML, with its TeX as alternative text.

    Args:
        tex: TeX without dollar signs.
        display: ``"inline"``, or ``"block"`` for a line of its own.
        where: What the refusal begins with, such as the file's name.

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
        raise BadInput(f"{where}formula {tex.strip()}", fault, remedy) from None
    return drawn.replace("<math ", f'<math alttext="{html.escape(tex.strip())}" ', 1)


def figures(notebook: nbformat.NotebookNode) -> list[tuple[Image.Image, str]]:
    """The PNG images among a notebook's outputs, in order, those below 100 pixels left out.

    Each comes with its alternative text, which the output gets as well: the text that the code gave
    it, or that of a comment ``<!-- alt: ... -->`` in the text cell below (one a picture, in order),
    or else the first sentence of that cell.
    """
    shown = []
    for cell, follower in zip_longest(notebook.cells, notebook.cells[1:]):
        pictures = [o for o in cell.get("outputs", ()) if "image/png" in o.get("data", {})]
        below = follower.source if follower and follower.cell_type == "markdown" else ""
        words = [" ".join(text.split()) for text in _ALT.findall(below)] or sentences(below)
        for number, output in enumerate(pictures):
            own = output.metadata.setdefault("image/png", {})
            alt = own.setdefault("alt", words[min(number, len(words) - 1)])
            image = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
            shown += [(image, alt)] if min(image.size) >= 100 else []
    return shown


def sentences(markdown: str) -> list[str]:
    """Sentences of the first paragraph as plain text: headings, links, emphasis taken off."""
    text = re.sub(r"^\s*#.*$", "", markdown, flags=re.MULTILINE).strip()
    paragraph = " ".join(plain_text(re.split(r"\n\s*\n", text)[0]).split())
    return re.split(r"(?<=[.?!])\s+(?=[A-Z0-9])", paragraph)


def plain_text(markdown: str) -> str:
    """Markdown without its marks: emphasis, code ticks, links, images, tags."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", _ALT.sub("", markdown))
    return re.sub(r"<[^>]+>|[*`]|(?<!\w)_|_(?!\w)", "", text).strip()


class _Renderer(IPythonRenderer):
    """nbconvert's Markdown, with formulas drawn and links between files as links between pages.

    Headings have the anchors that code hosts give them; links to another spelling find them too.
    """

    def __init__(self, source: Path, pages: set[str], home: str):
        # Files are embedded into the project's own texts, never into somebody's notebook.
        super().__init__(escape=False, embed_images=source.suffix == ".md", path=str(source.parent))
        self._pages, self._home = pages, home
        self.inline_math = partial(formula, where=f"{source.name}, ")
        self.block_math = partial(self.inline_math, display="block")

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")

    def heading(self, text: str, level: int, **attributes) -> str:
        anchor = _anchor(_text(text))
        link = f'<a class="anchor" href="#{anchor}" aria-label="Link to this section">#</a>'
        return f'<h{level} id="{anchor}">{text} {link}</h{level}>\n'

    def table(self, text: str) -> str:  # scrolls by itself, also from the keyboard
        region = 'class="scroll" role="region" aria-label="Table" tabindex="0"'
        return f"<div {region}><table>{text}</table></div>"

    def link(self, text: str, url: str, title: str | None = None) -> str:
        file, _, anchor = url.partition("#")
        if not re.match("[a-z]+:", url):  # of the repository, such as ../README.md
            name = _page_name(posixpath.join(self._home, file))
            if file and name not in self._pages:
                return text
            url = (file and f"{name}.html") + (anchor and f"#{_anchor(anchor)}")
        return super().link(text, url, title)


def _page_name(path: str) -> str:
    """Name of the page of a file of the project, such as ``notebooks/solutions/04.ipynb``."""
    name = posixpath.splitext(posixpath.normpath(path))[0].removeprefix("notebooks/")
    return "index" if name == "README" else name.removesuffix("/README").replace("/", "_")


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _text(markup: str) -> str:
    return " ".join(BeautifulSoup(markup, "html.parser").get_text().split())


def _without_scripts(body: str) -> BeautifulSoup:
    soup = BeautifulSoup(body, "html.parser")
    for tag in soup(["script", "iframe", "object", "embed", "link", "meta", "base", "form"]):
        tag.decompose()
    for tag in soup(True):
        for name, value in list(tag.attrs.items()):
            if name.startswith("on") or "javascript:" in "".join(str(value).split()).lower():
                del tag[name]
    return soup


def _write_page(target: Path, template: str, **values) -> Path:
    write_atomically(target, _TEMPLATES.get_template(template).render(**values))
    return target


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
