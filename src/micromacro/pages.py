"""A notebook as one static page that needs no network.

Everything is inside the page: the style, the figures, and the formulas, which matplotlib draws as
vector paths. A formula beyond matplotlib's subset of TeX (matrices, cases) is shown as its source.
Widgets need a kernel; the page shows a line of text in their place.
"""

import html
import re
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup
from jinja2 import pass_context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

from micromacro.results import write_atomically

_WIDGET = "application/vnd.jupyter.widget-view+json"
_EM = 10.0  # size in points at which formulas are measured; only ratios to it matter
# TeX that authors write and matplotlib spells otherwise.
_SPELLING = (
    (r"\\[lr]Vert(?![A-Za-z])", r"\\|"),
    (r"\\[lr]vert(?![A-Za-z])", "|"),
    (r"\\([lgn]e)(?![A-Za-z])", r"\\\1q"),
    (r"\\[bB]igg?[lrm]?(?![A-Za-z])", ""),
    (r"\\tfrac(?![A-Za-z])", r"\\frac"),
    (r"\\(d?frac)\s*(\d)\s*(\d)", r"\\\1{\2}{\3}"),
    (r"\\(?:boldsymbol|bm)(?![A-Za-z])", r"\\mathbf"),
    (r"\\(?:begin|end)\{(?:aligned|align\*?|equation\*?|gathered)\}|&|\\tag\{.*?\}", ""),
)


def notebook_page(source: Path, target: Path, *, pages: tuple[str, ...] = ()) -> None:
    """Write a notebook, with the outputs it has, as a page.

    Args:
        source: The notebook.
        target: The HTML file; replaced in one step.
        pages: Names (without suffix) of the notebooks that have a page beside this one: links to
            them stay links, links to other notebooks become text.
    """
    notebook = nbformat.read(source, as_version=4)
    _prepare(notebook)
    body, _ = _Exporter(template_name="basic").from_notebook_node(notebook)
    body = _mend_links(body, {*pages, source.stem})
    title = notebook_title(notebook) or source.stem
    home = '<nav class="home"><a href="index.html">← all notebooks</a></nav>' if pages else ""
    write_atomically(target, page(title, f'{home}<article class="notebook">{body}</article>'))


def page(title: str, body: str) -> str:
    """A whole HTML document around ``body``, with the one style of all pages."""
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title>'
        f"<style>{style}{_code_style()}</style></head><body><main>{body}</main></body></html>\n"
    )


def notebook_title(notebook) -> str:
    """Text of the first heading of level one; empty if there is none."""
    for cell in notebook.cells:
        match = cell.cell_type == "markdown" and re.search(r"^# +(.+)$", cell.source, re.MULTILINE)
        if match:
            return plain_text(match[1])
    return ""


def first_sentence(markdown: str) -> str:
    """First sentence of a Markdown text as plain text; empty if there is none."""
    return next(iter(sentences(markdown)), "")


def sentences(markdown: str) -> list[str]:
    """Sentences of the first paragraph as plain text: headings, links, emphasis taken off."""
    lines = [line for line in markdown.splitlines() if not line.lstrip().startswith("#")]
    paragraph = re.split(r"\n\s*\n", "\n".join(lines).strip())[0]
    text = " ".join(plain_text(paragraph).split())
    return re.split(r"(?<=[.?!])\s+(?=[A-Z0-9])", text)


def plain_text(markdown: str) -> str:
    """Markdown without its marks: emphasis, code ticks, links, images, tags."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    return re.sub(r"<[^>]+>|[*`]|(?<!\w)_|_(?!\w)", "", text).strip()


def formula(tex: str, *, display: bool = False) -> str:
    r"""A formula as inline vector paths in the colour of the text; its TeX is the alternative text.

    Args:
        tex: TeX without dollar signs. Lines (``\\``) of a displayed formula are set one below
            the other, without alignment.
        display: Set on its own line.
    """
    lines = [line for line in re.split(r"\\\\(?:\[[^\]]*\])?", tex) if line.strip()]
    try:
        drawn = "<br>".join(_draw(line, display) for line in lines)
    except ValueError:  # beyond the subset: matplotlib's parser says so with this
        drawn = f'<code class="tex">{html.escape(tex.strip())}</code>'
    return f'<div class="formula">{drawn}</div>' if display else drawn


def _draw(tex: str, display: bool) -> str:
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import MathTextParser
    from matplotlib.textpath import TextPath

    spelled = " ".join(tex.split())
    for pattern, replacement in _SPELLING:
        spelled = re.sub(pattern, replacement, spelled)
    if display:
        spelled = re.sub(r"\\frac(?![A-Za-z])", r"\\dfrac", spelled)
    font = FontProperties(size=_EM, math_fontfamily="cm")
    width, height, depth, *_ = MathTextParser("path").parse(f"${spelled}$", dpi=72, prop=font)
    path = TextPath((0, 0), f"${spelled}$", prop=font)
    commands = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}  # matplotlib.path.Path's codes
    data = "".join(
        commands[code]
        + ("" if code == 79 else " ".join(f"{x:.2f} {-y:.2f}" for x, y in points.reshape(-1, 2)))
        for points, code in path.iter_segments(simplify=False)
    )
    # `height` counts from the top to the baseline; ascend a little more so that nothing is cut.
    top, bottom = max(height - depth, 0) + 1, depth + 1
    return (
        f'<svg class="math" role="img" aria-label="{html.escape(tex.strip())}" '
        f'style="width:{width / _EM:.3f}em;height:{(top + bottom) / _EM:.3f}em;'
        f'vertical-align:{-bottom / _EM:.3f}em" '
        f'viewBox="0 {-top:.2f} {width:.2f} {top + bottom:.2f}"><path d="{data}"/></svg>'
    )


class _Renderer(IPythonRenderer):
    """nbconvert's Markdown, with formulas drawn."""

    def inline_math(self, body: str) -> str:
        return formula(body)

    def block_math(self, body: str) -> str:
        return formula(body, display=True)

    def latex_environment(self, name: str, body: str) -> str:
        return formula(rf"\begin{{{name}}}{body}\end{{{name}}}", display=True)


class _Exporter(HTMLExporter):
    @pass_context
    def markdown2html(self, context, source: str) -> str:
        attachments = context.get("cell", {}).get("attachments", {})
        renderer = _Renderer(escape=False, attachments=attachments, anchor_link_text="#")
        return MarkdownWithMath(renderer=renderer).render(source)


def _prepare(notebook) -> None:
    """Widgets become a line of text; each figure's alternative text is the sentence below it."""
    notebook.metadata.pop("widgets", None)
    after = {id(a): b for a, b in zip(notebook.cells, notebook.cells[1:], strict=False)}
    for cell in notebook.cells:
        follower = after.get(id(cell))
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if data.pop(_WIDGET, None):
                data.clear()
                data["text/markdown"] = "*Interactive: open the notebook in JupyterLab.*"
            if "image/png" in data and follower is not None and follower.cell_type == "markdown":
                sentence = first_sentence(follower.source)
                output.metadata.setdefault("image/png", {}).setdefault("alt", sentence)


def _mend_links(body: str, pages: set[str]) -> str:
    """Notebooks' links between files become links between pages, or text where there is none."""
    soup = BeautifulSoup(body, "html.parser")
    for link in soup.find_all("a", href=re.compile(r"^(?![a-z]+:|#)")):
        path, _, anchor = link["href"].partition("#")
        name = Path(path).name
        if name == "README.md" and len(pages) > 1:
            link["href"] = "index.html"
        elif name.endswith(".ipynb") and Path(path).stem in pages:
            link["href"] = f"{Path(path).stem}.html" + (f"#{anchor}" if anchor else "")
        elif path != "index.html":
            link.unwrap()
    return str(soup)


def _code_style() -> str:
    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"
