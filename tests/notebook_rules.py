"""What every committed notebook must be; each rule returns its complaints, one line each."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat

from micromacro.course import declared
from micromacro.errors import BadInput

NAME = re.compile(r"\d\d_[a-z0-9]+(_[a-z0-9]+)*")
PARAMETERS = "PROFILE DATASET DATA_ROOT SEEDS VARIANTS FOLDS DEVICE OUT".split()  # noqa: SIM905
DEFAULTS = {"PROFILE": "smoke", "DATASET": "synthetic", "DEVICE": "auto"}  # the rest: None
BEFORE = ["Question", "You will", "Setup"]
TEACHING = ["Data", "By hand", "Same thing, packaged", "Look", "Play", "Try it"]
SYSTEM = ["Ablation", "What differed"]
AFTER = ["Takeaways", "References"]
MAX_BYTES = 1_500_000
MAX_CELLS, MAX_LINES = 40, 25
MIN_WORDS, MAX_WORDS = 1000, 3000
SHORT = ("00", "09", "10")  # may have fewer words
BANNED = {
    "an installation": r"\b(pip|conda|uv|apt|apt-get) +install\b",
    "sys.path": r"\bsys\.path\b",
    "a registry's host": r"pypi\.|pythonhosted|conda\.anaconda|registry\.npmjs|(?<![\w.])anaconda\.org",
    "a shell line": r"^\s*[!%](?!%?matplotlib)|get_ipython\(\)",
    "another notebook": r"\b(nbformat|papermill|nbconvert|nbclient|import_ipynb)\b",
    "an absolute path": r"""(?<![\w./:<])(/(work|tmp|home|root|Users|mnt|opt|usr|var)/|[A-Z]:\\)""",
}
CELL_METADATA, NOTEBOOK_METADATA = {"tags"}, {"kernelspec", "language_info"}
LANGUAGE_INFO = {"name", "file_extension"}


def complaints(path: Path) -> list[str]:
    """All complaints about a notebook, each beginning with its name."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    notebook = nbformat.from_dict(raw)
    for cell in notebook.cells:
        cell.source = "".join(cell.source)
    return [f"{path.stem}: {text}" for rule in RULES for text in rule(notebook, path)]


def _name(notebook, path: Path) -> Iterator[str]:
    if not NAME.fullmatch(path.stem):
        yield "name is not NN_lower_case"
    if path.stat().st_size > MAX_BYTES:
        yield f"{path.stat().st_size} bytes, more than {MAX_BYTES}"
    if notebook.get("nbformat") != 4 or notebook.get("nbformat_minor", 0) < 5:
        yield "not of format 4.5"


def _anatomy(notebook, path: Path) -> Iterator[str]:
    number = path.stem[:2]
    found = headings(notebook)
    wanted = [*BEFORE, *AFTER]
    if "01" <= number <= "08":
        wanted[len(BEFORE) : len(BEFORE)] = TEACHING
    there = [heading for heading in found if heading in wanted]
    for heading in wanted:
        if there.count(heading) != 1:
            yield f"{there.count(heading)} headings '{heading}' instead of one"
    if sorted(there, key=wanted.index) != there:
        yield f"headings out of order: {', '.join(there)}"
    if found[-len(AFTER) :] != AFTER or found[: len(BEFORE)] != BEFORE:
        yield "the sections do not begin with Question, You will, Setup, or end with References"
    if "04" <= number <= "08" and [text for text in found if text in SYSTEM] != SYSTEM:
        yield "no headings 'Ablation', then 'What differed'"


def _title(notebook, path: Path) -> Iterator[str]:
    first = notebook.cells[0] if notebook.cells else None
    source = first.source if first is not None and first.cell_type == "markdown" else ""
    if not re.match(rf"# {path.stem[:2]} · \S", source):
        yield f"the first cell is not a title '# {path.stem[:2]} · …'"
    if not re.search(r"\bcost\b", source, re.IGNORECASE):
        yield "no line about the cost in the title's cell"
    names = sorted(p.stem for p in path.parent.glob("[0-9][0-9]_*.ipynb"))
    at = names.index(path.stem) if path.stem in names else 0
    neighbours = names[max(at - 1, 0) : at] + names[at + 1 : at + 2]
    linked = [Path(link).stem for link in links(source) if link.endswith(".ipynb")]
    if linked != neighbours:
        yield f"the title links to {linked}, its neighbours are {neighbours}"


def _links(notebook, path: Path) -> Iterator[str]:
    for cell in _cells(notebook, "markdown"):
        for link in links(cell.source):
            if re.match(r"[a-z]+:", link):
                continue
            if not (path.parent / link).exists():
                yield f"a link to {link}, which is not there"


def _parameters(notebook, path: Path) -> Iterator[str]:
    if "parameters" not in _cells(notebook, "code")[0].metadata.get("tags", []):
        yield "the parameters are not the first code cell"
    try:
        values = declared(path)
    except BadInput as error:
        yield str(error)
        return
    for name in PARAMETERS:
        if name not in values:
            yield f"no parameter {name}"
        elif values[name] != DEFAULTS.get(name):
            yield f"parameter {name} is {values[name]!r}, not {DEFAULTS.get(name)!r}"


def _size(notebook, path: Path) -> Iterator[str]:
    code = _cells(notebook, "code")
    if len(code) > MAX_CELLS:
        yield f"{len(code)} code cells, more than {MAX_CELLS}"
    for number, cell in enumerate(code, 1):
        if not cell.source.strip():
            yield f"code cell {number} is blank"
        if (lines := len(cell.source.splitlines())) > MAX_LINES:
            yield f"code cell {number} has {lines} lines, more than {MAX_LINES}"
    words = sum(len(re.findall(r"\w[\w'’-]*", c.source)) for c in _cells(notebook, "markdown"))
    if words > MAX_WORDS or (words < MIN_WORDS and path.stem[:2] not in SHORT):
        yield f"{words} words, not {MIN_WORDS} to {MAX_WORDS}"


def _outputs(notebook, path: Path) -> Iterator[str]:
    code = _cells(notebook, "code")
    counts = [cell.get("execution_count") for cell in code]
    if counts != list(range(1, len(code) + 1)):
        yield f"execution counts are {counts}, not 1 to {len(code)}: make bake"
    for number, cell in enumerate(code, 1):
        kinds = {output.output_type for output in cell.outputs}
        if "error" in kinds:
            yield f"code cell {number} has an error output"
        tags = cell.metadata.get("tags", [])
        if "nbval-check-output" in tags and not kinds:
            yield f"code cell {number} is checked but has no stored output"
        if any(tag in tags for tag in ("raises-exception", "nbval-skip", "skip-execution")):
            yield f"code cell {number} escapes the test: {', '.join(tags)}"


def _figures(notebook, path: Path) -> Iterator[str]:
    after = [*notebook.cells[1:], None]
    for cell, follower in zip(notebook.cells, after, strict=True):
        if not any(kind.startswith("image/") for kind in _kinds(cell)):
            continue
        text = follower.source if follower is not None and follower.cell_type == "markdown" else ""
        prose = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        if not re.search(r"\w.*[.?!:]", " ".join(prose)):
            yield f"no sentence after the figure of cell {cell.get('id')}"


def _litter(notebook, path: Path) -> Iterator[str]:
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernel is not python3"
    if extra := set(notebook.metadata) - NOTEBOOK_METADATA:
        yield f"metadata {sorted(extra)}: make bake"
    if extra := set(notebook.metadata.get("language_info", {})) - LANGUAGE_INFO:
        yield f"language_info {sorted(extra)}: make bake"
    ids = [cell.get("id") for cell in notebook.cells]
    if None in ids or len(set(ids)) != len(ids):
        yield "cells without an id, or with the same"
    for cell in notebook.cells:
        if extra := set(cell.metadata) - CELL_METADATA:
            yield f"cell {cell.get('id')} has metadata {sorted(extra)}: make bake"
        if any("widget" in kind for kind in _kinds(cell)):
            yield f"cell {cell.get('id')} stores a widget view: make bake"


def _banned(notebook, path: Path) -> Iterator[str]:
    for cell in notebook.cells:
        prose = cell.cell_type == "markdown"
        texts = [cell.source, *map(_text, cell.get("outputs", []))]
        for what, pattern in BANNED.items():
            if prose and what not in ("a registry's host", "an absolute path"):
                continue
            if any(re.search(pattern, text, re.MULTILINE) for text in texts):
                yield f"cell {cell.get('id')} has {what}"


def headings(notebook) -> list[str]:
    """Texts of all headings of level two, in order."""
    found = []
    for cell in _cells(notebook, "markdown"):
        found += re.findall(r"^## +(.*?)\s*$", cell.source, re.MULTILINE)
    return found


def links(markdown: str) -> list[str]:
    """Targets of the links and images of a Markdown text, without anchors and in-page links."""
    targets = re.findall(r"\]\(([^)\s]+)\)", markdown)
    return [target.partition("#")[0] for target in targets if not target.startswith("#")]


def _cells(notebook, kind: str) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def _kinds(cell) -> set[str]:
    return {kind for output in cell.get("outputs", []) for kind in output.get("data", {})}


def _text(output) -> str:
    pieces = [output.get("text", "")]
    pieces += [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
    return "\n".join("".join(piece) for piece in pieces)


RULES: list[Callable[..., Iterator[str]]] = [
    _name,
    _anatomy,
    _title,
    _links,
    _parameters,
    _size,
    _outputs,
    _figures,
    _litter,
    _banned,
]
