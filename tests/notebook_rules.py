"""What every committed notebook must be; each rule yields what may be broken, and the complaint."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat

from micromacro.course import RIGHT, declared
from micromacro.errors import BadInput
from micromacro.statistics import VERDICTS, read_claims

NAME = re.compile(r"\d\db?_[a-z0-9]+(_[a-z0-9]+)*")
PARAMETERS = "PROFILE DATASET DATA_ROOT SEEDS VARIANTS FOLDS DEVICE OUT".split()  # noqa: SIM905
DEFAULTS = {"PROFILE": "smoke", "DATASET": "synthetic", "DEVICE": "auto"}  # the rest: None
BEFORE = ["Question", "You will", "Setup"]
AFTER = ["Takeaways", "References"]


class Kind(NamedTuple):
    """What a notebook of one kind holds between the sections that all begin and end with."""

    sections: list[str]
    most_cells: int
    most_lines: int  # of code, blank ones left out
    words: tuple[int, int]
    parameters: list[str]
    new: bool = True  # whether the rules for style hold that came with lesson and ablation


TRAINED = ["Data", "The idea", "By hand", "Same thing, packaged", "Train it", "Look"]
TRAINED += ["Play", "Try it"]
PLAIN = [heading for heading in TRAINED if heading != "Train it"]
TABLES = ["Core table", "Sweep", "What differed", "Verdicts", "The official data"]
ABLATION = Kind(TABLES, 16, 160, (300, 1500), PARAMETERS)
START = ["One minute", "Play", "Affect", "The five papers", "What you can run", "Try it"]
BARE = Kind([], 40, 400, (0, 3000), PARAMETERS, new=False)
MAX_BYTES = 1_500_000
ALT = re.compile(r"<!-- alt: (.+?) -->", re.DOTALL)  # of the figure above; report.figures reads it
MAX_LINES, MAX_COLUMNS, MAX_SENTENCE = 25, 100, 30


def kind(name: str) -> Kind:
    """The kind of a notebook by the number that its name begins with."""
    number = name.partition("_")[0]
    if number.endswith("b"):
        return ABLATION
    if number == "00":
        return Kind(START, 32, 320, (600, 2600), ["PROFILE"])
    if not "01" <= number <= "08":
        return BARE
    return Kind(TRAINED if number >= "04" else PLAIN, 32, 320, (600, 2000), ["PROFILE"])


BANNED = {
    "an installation": r"\b(pip|conda|uv|apt|apt-get) +install\b",
    "sys.path": r"\bsys\.path\b",
    "a registry's host": r"pypi\.|pythonhosted|conda\.anaconda|registry\.npmjs|(?<![\w.])anaconda\.org",
    "a shell line": r"^\s*[!%](?!%?matplotlib)|get_ipython\(\)",
    "another notebook": r"\b(nbformat|papermill|nbconvert|nbclient|import_ipynb)\b",
    "an absolute path": r"""(?<![\w./:<])(/(work|tmp|home|root|Users|mnt|opt|usr|var)/|[A-Z]:\\)""",
}
IN_PROSE = ("a registry's host", "an absolute path")  # banned in prose as well
ESCAPES = {"raises-exception", "nbval-skip", "skip-execution"}
CELL_METADATA, NOTEBOOK_METADATA = {"tags"}, {"kernelspec", "language_info"}
LANGUAGE_INFO = {"name", "file_extension"}
Faults = Iterator[tuple[object, str]]


def complaints(path: Path) -> list[str]:
    """All complaints about a notebook, each beginning with its name."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    notebook = nbformat.from_dict(raw)
    for cell in notebook.cells:
        source = "".join(cell.source)
        cell.alt, cell.source = ALT.findall(source), ALT.sub("", source)
    found = [fault for rule in RULES for fault in rule(notebook, path)]
    return [f"{path.stem}: {text}" for broken, text in found if broken]


def _name(notebook, path: Path) -> Faults:
    size, version = path.stat().st_size, (notebook.get("nbformat"), notebook.get("nbformat_minor"))
    yield not NAME.fullmatch(path.stem), "name is not NN_lower_case"
    yield size > MAX_BYTES, f"{size} bytes, more than {MAX_BYTES}"
    yield version[0] != 4 or (version[1] or 0) < 5, "not of format 4.5"


def _anatomy(notebook, path: Path) -> Faults:
    found, wanted = headings(notebook), [*BEFORE, *kind(path.stem).sections, *AFTER]
    there = [heading for heading in found if heading in wanted]
    for heading in wanted:
        count = there.count(heading)
        yield count != 1, f"{count} headings '{heading}' instead of one"
    yield sorted(there, key=wanted.index) != there, f"headings out of order: {', '.join(there)}"
    framed = found[: len(BEFORE)] == BEFORE and found[-len(AFTER) :] == AFTER
    yield not framed, f"the sections do not begin with {', '.join(BEFORE)}, or end with References"


def _title(notebook, path: Path) -> Faults:
    first = notebook.cells[0] if notebook.cells else None
    source = first.source if first is not None and first.cell_type == "markdown" else ""
    title = f"# {path.stem.partition('_')[0]} · "
    yield not re.match(title + r"\S", source), f"the first cell is not a title '{title}…'"
    yield not re.search(r"(?i)\bcost\b", source), "no line about the cost in the title's cell"
    theirs = kind(path.stem).new and not re.search(r"(?i)\bcost\b.*\bof yours\b", source)
    yield theirs, "the cost does not say how many minutes of yours it takes"
    names = sorted(p.stem for p in path.parent.glob("[0-9][0-9]*_*.ipynb"))
    at = names.index(path.stem) if path.stem in names else 0
    neighbours = names[max(at - 1, 0) : at] + names[at + 1 : at + 2]
    linked = [Path(link).stem for link in links(source) if link.endswith(".ipynb")]
    yield linked != neighbours, f"the title links to {linked}, its neighbours are {neighbours}"


def _links(notebook, path: Path) -> Faults:
    for cell in _cells(notebook, "markdown"):
        for link in links(cell.source):
            there = re.match(r"[a-z]+:", link) or (path.parent / link).exists()
            yield not there, f"a link to {link}, which is not there"
        for link, anchor in re.findall(r"\]\(([^)\s#]*GLOSSARY\.md)#([^)\s]*)\)", cell.source):
            file = path.parent / link
            terms = anchors(file.read_text(encoding="utf-8")) if file.exists() else []
            yield anchor not in terms, f"a link to the term {anchor}, which the glossary has not"


def _parameters(notebook, path: Path) -> Faults:
    tags = _cells(notebook, "code")[0].metadata.get("tags", [])
    yield "parameters" not in tags, "the parameters are not the first code cell"
    try:
        values = declared(path)
    except BadInput as error:
        yield True, str(error)
        return
    for name in kind(path.stem).parameters:
        value, default = values.get(name, ...), DEFAULTS.get(name)
        yield value is ..., f"no parameter {name}"
        yield value not in (..., default), f"parameter {name} is {value!r}, not {default!r}"
    unknown = sorted(values.keys() - {"PROFILE", *RIGHT})
    yield unknown, f"parameters {unknown} are not in course.RIGHT, so nothing checks them"
    call = rf"""^(device = )?course\.check\((NAME|"{path.stem}"), globals\(\)"""
    first = [cell.source for cell in _cells(notebook, "code")[1:3]]
    checked = any(re.search(call, source, re.MULTILINE) for source in first)
    yield not checked, f'the first cells do not call course.check("{path.stem}", globals())'


def _size(notebook, path: Path) -> Faults:
    code, allowed = _cells(notebook, "code"), kind(path.stem)
    yield len(code) > allowed.most_cells, f"{len(code)} code cells, not {allowed.most_cells}"
    for number, cell in enumerate(code, 1):
        lines = len(cell.source.splitlines())
        yield not cell.source.strip(), f"code cell {number} is blank"
        yield lines > MAX_LINES, f"code cell {number} has {lines} lines, more than {MAX_LINES}"
    lines = sum(bool(line.strip()) for cell in code for line in cell.source.splitlines())
    yield lines > allowed.most_lines, f"{lines} lines of code, not {allowed.most_lines}"
    prose = "\n".join(cell.source for cell in _cells(notebook, "markdown"))
    prose = re.sub(r"\]\([^)]*\)", "]", prose)  # the address of a link is no word
    words = len(re.findall(r"\w[\w'’-]*", prose))
    least, most = allowed.words
    yield not least <= words <= most, f"{words} words, not {least} to {most}"


def _style(notebook, path: Path) -> Faults:
    if not kind(path.stem).new:
        return
    for number, cell in enumerate(_cells(notebook, "code"), 1):
        longest = max(map(len, cell.source.splitlines()), default=0)
        yield longest > MAX_COLUMNS, f"code cell {number} has a line of {longest} columns"
        yield "fmt: " in cell.source, f"code cell {number} hides from the formatter"
    for cell in _cells(notebook, "markdown"):
        for sentence in sentences(cell.source):
            words = len(sentence.split())
            yield words > MAX_SENTENCE, f"a sentence of {words} words: {sentence[:60]}…"
    references = "\n".join(c.source for c in _cells(notebook, "markdown")).partition(
        "## References"
    )
    for line in re.findall(r"^- .+", references[2], re.MULTILINE):
        linked = re.search(r"\]\(https://(doi\.org|arxiv\.org)/", line)
        yield not linked, f"a reference without a DOI or arXiv link: {line[:60]}"


def _outputs(notebook, path: Path) -> Faults:
    code = _cells(notebook, "code")
    counts = [cell.get("execution_count") for cell in code]
    expected = list(range(1, len(code) + 1))
    yield counts != expected, f"execution counts are {counts}, not 1 to {len(code)}: make bake"
    for number, cell in enumerate(code, 1):
        name, tags = f"code cell {number}", cell.metadata.get("tags", [])
        kinds = {output.output_type for output in cell.outputs}
        checked = "nbval-check-output" in tags
        yield "error" in kinds, f"{name} has an error output"
        yield checked and not kinds, f"{name} is checked but has no stored output"
        yield not ESCAPES.isdisjoint(tags), f"{name} escapes the test: {', '.join(tags)}"


def _figures(notebook, path: Path) -> Faults:
    for cell, follower in itertools.pairwise([*notebook.cells, None]):
        pictured = any(kind.startswith("image/") for kind in _kinds(cell))
        text = follower.source if follower is not None and follower.cell_type == "markdown" else ""
        words = list(follower.alt) if follower is not None else []
        prose = " ".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        said = re.search(r"\w.*[.?!:]", prose)
        yield pictured and not said, f"no sentence after the figure of cell {cell.get('id')}"
        outputs = [o for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
        words += [own for o in outputs if (own := o.metadata.get("image/png", {}).get("alt"))]
        due = len(outputs) if kind(path.stem).new or path.stem > "03" else 0  # 00 to 02: once new
        number = f"{len(words)} alternative texts for {len(outputs)} pictures"
        yield len(words) < due, f"{number} of cell {cell.get('id')}: <!-- alt: ... --> below it"
        yield (
            outputs and any(word in prose for word in words),
            "an alternative text repeats the text",
        )


def _litter(notebook, path: Path) -> Faults:
    kernel = notebook.metadata.get("kernelspec", {}).get("name")
    yield kernel != "python3", "the kernel is not python3"
    extra = set(notebook.metadata) - NOTEBOOK_METADATA
    yield extra, f"metadata {sorted(extra)}: make bake"
    extra = set(notebook.metadata.get("language_info", {})) - LANGUAGE_INFO
    yield extra, f"language_info {sorted(extra)}: make bake"
    ids = [cell.get("id") for cell in notebook.cells]
    yield None in ids or len(set(ids)) != len(ids), "cells without an id, or with the same"
    for cell in notebook.cells:
        extra, views = (
            set(cell.metadata) - CELL_METADATA,
            [k for k in _kinds(cell) if "widget" in k],
        )
        yield extra, f"cell {cell.get('id')} has metadata {sorted(extra)}: make bake"
        yield views, f"cell {cell.get('id')} stores a widget view: make bake"


def _banned(notebook, path: Path) -> Faults:
    for cell in notebook.cells:
        patterns = BANNED if cell.cell_type == "code" else {name: BANNED[name] for name in IN_PROSE}
        texts = [cell.source, *map(_text, cell.get("outputs", []))]
        for what, pattern in patterns.items():
            found = any(re.search(pattern, text, re.MULTILINE) for text in texts)
            yield found, f"cell {cell.get('id')} has {what}"


def _verdicts(notebook, path: Path) -> Faults:
    """Prose that names a claim and a verdict agrees with `data/claims.csv`."""
    committed = read_claims()["verdict"]
    prose = "\n\n".join(cell.source for cell in _cells(notebook, "markdown"))
    for sentence in re.split(r"(?<=[.?!])[*_)\"]*\s+|\n\s*\n|\n[-|] ?", prose):
        names = re.findall(r"(?<!\w)0\d-(?:\d+-)?[a-z][\w-]*\w", sentence)
        for name in {*names} - {*committed.index}:
            yield True, f"it names a claim {name}, which is not in data/claims.csv"
        held = {*committed.reindex(names).dropna()}
        said = {word for word in VERDICTS if re.search(rf"(?<!\w){word}(?!\w)", sentence)}
        wrong = held and said and held != said
        yield wrong, f"it says {sorted(said)} of {', '.join(names)}, the table {sorted(held)}"


def headings(notebook) -> list[str]:
    """Texts of all headings of level two, in order."""
    prose = "\n".join(cell.source for cell in _cells(notebook, "markdown"))
    return re.findall(r"^## +(.*?)\s*$", prose, re.MULTILINE)


def sentences(markdown: str) -> Iterator[str]:
    """Sentences of a Markdown text; headings, tables and formulas on their own lines left out."""
    text = re.sub(r"(?s)\$\$.*?\$\$|```.*?```|^[#|].*?$", "", markdown, flags=re.MULTILINE)
    for block in re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.) ", text, flags=re.MULTILINE):
        yield from re.split(r"(?<=[.?!:])[*_)\"]*\s+", block.strip())


def links(markdown: str) -> list[str]:
    """Targets of the links and images of a Markdown text, without anchors and in-page links."""
    targets = re.findall(r"\]\(([^)\s]+)\)", markdown)
    return [target.partition("#")[0] for target in targets if not target.startswith("#")]


def anchors(markdown: str) -> list[str]:
    """Anchors of the headings of a Markdown text, as code hosts make them."""
    titles = re.findall(r"^#+ +(.*?)\s*$", markdown, re.MULTILINE)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


def _cells(notebook, kind: str) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def _kinds(cell) -> set[str]:
    return {kind for output in cell.get("outputs", []) for kind in output.get("data", {})}


def _text(output) -> str:
    pieces = [output.get("text", "")]
    pieces += [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
    return "\n".join("".join(piece) for piece in pieces)


RULES = [_name, _anatomy, _title, _links, _parameters, _size, _style]
RULES += [_outputs, _figures, _litter, _banned, _verdicts]
