"""Pages: a run's ``index.html``, and the committed notebooks as a static site.

Each page is one file that works offline: style and pictures are inside it. A status is a word and a
mark, never a colour alone.
"""

import base64
import html
import io
import json
import os
import platform
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image

from micromacro import course
from micromacro.pages import notebook_page, notebook_title, page, sentences
from micromacro.results import make_writable, project_root, provenance, read_rows, version
from micromacro.results import write_atomically as write

_THUMBNAILS = 4
_THUMBNAIL_PX = 480  # twice the width it is shown at, for sharp screens
_TABLE_ROWS = 60  # more are in the file that the table links to
_TRACEBACK_LINES = 12
_SHOWN = ["system", "arm", "dataset", "split", "seed", "fold", "metric", "value", "n", "seconds"]


def machine() -> dict[str, str]:
    """What ran it, for the head of a page: ``machine``, ``versions``."""
    packages = ("micromacro", "torch", "numpy", "opencv-contrib-python-headless", "papermill")
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "versions": ", ".join(f"{name.split('-')[0]} {version(name)}" for name in packages),
    }


def run_page(folder: Path) -> Path:
    """Write ``index.html`` of a run from its status files, notebooks and rows; its path."""
    about = json.loads((folder / "run.json").read_text())
    wish = about["wish"]
    states = [_status(folder, name) for name in wish["notebooks"]]
    good = sum(state["passed"] for state in states)
    passed = good == len(states)
    verdict = f"{good} of {len(states)} notebooks passed"
    facts = {
        "Profile": wish["profile"],
        "Parameters": json.dumps(wish["params"]) if wish["params"] else "defaults",
        "Started": about["utc"].replace("T", " ").replace("Z", " UTC"),
        "Machine": about["machine"],
        "Python": about["python"],
        "Packages": about["versions"],
        "Source": _short(about["git_sha"]),
    }
    body = (
        "<h1>Micro &amp; Macro: a run of the course</h1>"
        f'<p class="verdict status {"passed" if passed else "failed"}">{_mark(passed)} {verdict}</p>'
        f"{_facts(facts)}{''.join(_card(folder, state) for state in states)}"
    )
    index = folder / "index.html"
    write(index, page(f"{verdict} · {folder.name}", body))
    return index


def site(notebooks: Sequence[str] | None = None) -> Path:
    """Write the committed notebooks as a static site in ``runs/site``; the path of its index.

    Raises:
        BadInput: An unknown notebook, or a folder that cannot be written.
    """
    paths = course.choose(notebooks)
    folder = project_root() / "runs" / "site"
    make_writable(folder)
    names = tuple(path.stem for path in paths)
    for path in paths:
        notebook_page(path, folder / f"{path.stem}.html", pages=names)
    cards = "".join(_notebook_card(path, f"{path.stem}.html") for path in paths)
    lead = "Five papers on motion and emotion in faces, rebuilt as a course you can run."
    here = provenance()
    facts = {
        "Notebooks": str(len(paths)),
        "Source": _short(here["git_sha"]),
        "Made": here["utc"][:10],
    }
    body = f'<h1>Micro &amp; Macro</h1><p class="lead">{lead}</p>{cards}{_facts(facts)}'
    index = folder / "index.html"
    write(index, page("Micro & Macro", body))
    return index


def figures(notebook) -> list[bytes]:
    """The PNG images among a notebook's outputs, in order, the tiny ones left out."""
    pngs = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {}).get("image/png")
            if data:
                pngs.append(base64.b64decode(data))
    return [png for png in pngs if min(Image.open(io.BytesIO(png)).size) >= 100]  # pixels


def _status(folder: Path, name: str) -> dict:
    path = folder / "status" / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text())
    reason = "it has not run"
    return {
        "name": name,
        "passed": False,
        "reason": reason,
        "traceback": "",
        "cells": 0,
        "seconds": 0,
    }


def _card(folder: Path, state: dict) -> str:
    name, passed = state["name"], state["passed"]
    source = folder / f"{name}.ipynb"
    notebook = nbformat.read(source, as_version=4) if source.exists() else None
    title, question, thumbs = _summary(notebook, name, f"{name}.html")
    parts = [_header(title, f"{_mark(passed)} {'passed' if passed else 'failed'}"), question]
    if not passed:
        parts.append(f'<p class="reason">{html.escape(state["reason"])}</p>')
    parts.append(thumbs)
    if state["traceback"]:
        tail = "\n".join(state["traceback"].splitlines()[-_TRACEBACK_LINES:])
        parts.append(f'<pre class="trace">{html.escape(tail)}</pre>')
    parts += [_rows_table(path) for path in sorted(folder.glob(f"rows/{name}__*.csv"))]
    files = {"page": ".html", "notebook": ".ipynb", "log": ".log"}
    links = [
        f'<a href="{name}{suffix}">{word}</a>'
        for word, suffix in files.items()
        if (folder / f"{name}{suffix}").exists()
    ]
    facts = [f"{state['cells']} cells", f"{state['seconds']:.0f} s", *links]
    parts.append(f'<p class="meta">{"".join(f"<span>{fact}</span>" for fact in facts)}</p>')
    return f'<section class="card {"passed" if passed else "failed"}">{"".join(parts)}</section>'


def _notebook_card(path: Path, link: str) -> str:
    notebook = nbformat.read(path, as_version=4)
    title, question, thumbs = _summary(notebook, path.stem, link)
    return f'<section class="card">{_header(title, "")}{question}{thumbs}</section>'


def _summary(notebook, name: str, link: str) -> tuple[str, str, str]:
    """HTML of title, question and thumbnails."""
    if notebook is None:
        return html.escape(name), "", ""
    title = html.escape(notebook_title(notebook) or name)
    question = html.escape(_question(notebook))
    return (
        f'<a href="{link}">{title}</a>',
        f'<p class="question">{question}</p>' if question else "",
        _thumbnails(figures(notebook), title, link),
    )


def _question(notebook) -> str:
    """What the section "Question" asks first, its text in the heading's cell or in the next one."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    for source, after in zip_longest(sources, sources[1:], fillvalue=""):
        head, _, text = source.partition("\n")
        if head.lstrip("# ").strip() == "Question":
            said = sentences(text if text.strip() else after)
            return next((sentence for sentence in said if sentence.endswith("?")), said[0])
    return ""


def _header(title: str, status: str) -> str:
    mark = f'<span class="status">{status}</span>' if status else ""
    return f"<header><h2>{title}</h2>{mark}</header>"


def _mark(passed: bool) -> str:
    return "✓" if passed else "✗"


def _thumbnails(pngs: list[bytes], title: str, link: str) -> str:
    """Up to four figures, evenly chosen from first to last."""
    if not pngs:
        return ""
    picks = np.linspace(0, len(pngs) - 1, min(_THUMBNAILS, len(pngs))).round().astype(int)
    images = "".join(
        f'<a href="{link}"><img alt="Figure {i + 1} of {title}" src="{_shrink(pngs[i])}"></a>'
        for i in picks
    )
    return f'<div class="thumbs">{images}</div>'


def _shrink(png: bytes) -> str:
    """A small copy as a data URL; WebP, half the size of PNG on a line plot (measured)."""
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    small = Image.alpha_composite(white, image).convert("RGB")
    small.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _short(git_sha: str) -> str:
    sha, dash, dirty = git_sha.partition("-")
    return sha[:10] + dash + dirty


def _facts(facts: dict[str, str]) -> str:
    items = (f"<div><dt>{k}</dt><dd>{html.escape(str(v))}</dd></div>" for k, v in facts.items())
    return f'<dl class="facts">{"".join(items)}</dl>'


def _rows_table(path: Path) -> str:
    rows = read_rows(path)
    shown = [c for c in _SHOWN if rows[c].notna().any()]
    table = (
        rows[shown]
        .head(_TABLE_ROWS)
        .to_html(
            index=False,
            border=0,
            na_rep="—",
            float_format=lambda value: f"{value:.4g}",
            escape=True,
        )
    )
    more = f"the first {_TABLE_ROWS} of " if len(rows) > _TABLE_ROWS else ""
    link = f'<a href="rows/{path.name}">rows/{path.name}</a>'
    summary = f"<summary>{more}{len(rows)} rows</summary>"
    return f'<details>{summary}<p>{link}</p><div class="scroll">{table}</div></details>'
