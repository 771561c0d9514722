"""The committed notebooks keep the rules; and the rules see what breaks them."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nbformat
import notebook_rules as rules
import pytest

from micromacro.results import read_rows

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
assert NOTEBOOKS
PNG = {"image/png": "iVBORw0KGgo="}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_keeps_the_rules(path):
    assert rules.complaints(path) == []


def good(name: str = "04_mimamo_net") -> nbformat.NotebookNode:
    """A notebook of that name without a fault."""
    v4, kind = nbformat.v4, rules.kind(name)
    number = name.partition("_")[0]

    def section(name: str) -> nbformat.NotebookNode:
        return v4.new_markdown_cell(f"## {name}\n" + ("word " * 20 + "ends. ") * 5)

    def code(source: str, count: int, *outputs, tags=()) -> nbformat.NotebookNode:
        cell = v4.new_code_cell(source, execution_count=count, outputs=list(outputs))
        cell.metadata = nbformat.from_dict({"tags": list(tags)} if tags else {})
        return cell

    title = f"# {number} · MIMAMO\n[back](03_before.ipynb) · [next](09_after.ipynb)\n\n"
    title += "*Cost: 20 s of one core, 50 min of yours*"
    values = {name: rules.DEFAULTS.get(name) for name in [*kind.parameters, "OUT"]}
    parameters = "\n".join(f"{k} = {value!r}" for k, value in values.items())
    cells = [v4.new_markdown_cell(title), section("Question"), section("You will")]
    cells += [code(parameters, 1, tags=["parameters"])]
    cells += [section("Setup"), *map(section, kind.sections[:4])]
    cells += [code("plot()", 2, v4.new_output("display_data", PNG))]
    text = (
        "It rises. So *04-2-new-light* holds. More in [09](09_after.ipynb#data) and [a](https://b)."
    )
    text += "\n\n<!-- alt: A line that climbs to the right. -->"
    cells += [v4.new_markdown_cell(text)]
    checked = v4.new_output("stream", text="42\n")
    setup = f'course.check("{name}", globals())\nprint(42)'
    cells += [code(setup, 3, checked, tags=["nbval-check-output"])]
    cells += map(section, [*kind.sections[4:], *rules.AFTER])
    cells[
        -1
    ].source += "\n\n- A. Author. *Title.* [arXiv 1234.5678](https://arxiv.org/abs/1234.5678)."
    notebook = v4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "x", "language": "python"}
    notebook.metadata.language_info = {"name": "python", "file_extension": ".py"}
    return notebook


def complaints(folder: Path, notebook, name: str = "04_mimamo_net") -> list[str]:
    for neighbour in ("03_before", "09_after"):
        (folder / f"{neighbour}.ipynb").touch()
    (folder / "GLOSSARY.md").write_text("### local contrast (LCN)\nOf light.\n")
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return rules.complaints(path)


def cell(notebook, pattern: str):
    """The first cell whose source matches."""
    return next(c for c in notebook.cells if re.search(pattern, c.source))


def edit(pattern: str, change: Callable) -> Callable:
    def fault(notebook):
        change(cell(notebook, pattern))

    return fault


def replace(old: str, new: str) -> Callable:
    """Break the first cell that holds the text."""

    def change(broken):
        broken.source = broken.source.replace(old, new)

    return edit(re.escape(old), change)


def drop(pattern: str) -> Callable:
    return lambda notebook: notebook.cells.remove(cell(notebook, pattern))


def swap(one: str, two: str) -> Callable:
    def fault(notebook):
        a, b = cell(notebook, one), cell(notebook, two)
        a.source, b.source = b.source, a.source

    return fault


def on_code(**values) -> Callable:
    return edit(r"print\(42\)", lambda broken: broken.update(values))


ERROR = [nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])]
VIEW = nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}})
HOME = [nbformat.v4.new_output("stream", text="saved to /home/me/x.png\n")]
FAULTS = {
    "no Look": (drop("^## Look"), "0 headings 'Look'"),
    "no References": (drop("^## References"), "0 headings 'References'"),
    "two Plays": (replace("## Look", "## Play"), "2 headings 'Play'"),
    "order": (swap("^## Data", "^## Look"), "headings out of order"),
    "early Takeaways": (swap("^## Takeaways", "^## References"), "headings out of order"),
    "section first": (replace("*Cost", "## Before\n*Cost"), "do not begin with Question"),
    "title": (replace("# 04 ·", "# 4 ·"), "not a title"),
    "cost": (replace("*Cost:", "*Time:"), "no line about the cost"),
    "next": (replace(" · [next](09_after.ipynb)", ""), "its neighbours are"),
    "wrong next": (replace("(09_after.ipynb)", "(03_before.ipynb)"), "its neighbours are"),
    "dead link": (replace("09_after.ipynb#data", "06_gone.ipynb"), "06_gone.ipynb, which is not"),
    "no term": (replace("(09_after.ipynb#data", "(GLOSSARY.md#banana"), "the term banana"),
    "no parameter": (replace("PROFILE = 'smoke'", ""), "no parameter PROFILE"),
    "default": (replace("'smoke'", "'full'"), "parameter PROFILE is 'full'"),
    "not checked": (replace("course.check(", "print("), "do not call course.check"),
    "of another": (replace("globals()", "{}"), "do not call course.check"),
    "unknown": (
        replace("OUT = None", "OUT = None\nWIDTH = 3"),
        "['WIDTH'] are not in course.RIGHT",
    ),
    "not literal": (replace("OUT = None", "OUT = f()"), "not NAME = literal: OUT = f()"),
    "call": (replace("OUT = None", "OUT = None\nf()"), "not NAME = literal: f()"),
    "no tag": (edit("^PROFILE", lambda c: c.update(metadata={})), "0 cells tagged parameters"),
    "late": (lambda n: n.cells.insert(3, n.cells.pop(9)), "not the first code cell"),
    "long cell": (replace("plot()", "plot()\n" * 26), "26 lines"),
    "cells": (lambda n: n.cells.extend(map(nbformat.v4.new_code_cell, "x" * 40)), "43 code cells"),
    "blank cell": (replace("plot()", " "), "is blank"),
    "few words": (lambda n: [c.update(source=c.source[:200]) for c in n.cells], "words, not 600"),
    "words": (replace("rises", "rises " * 3000), "words, not 600"),
    "lines": (
        lambda n: n.cells.extend(nbformat.v4.new_code_cell("x\n" * 25) for _ in range(17)),
        "lines of code",
    ),
    "never run": (on_code(execution_count=None), "[1, 2, None], not 1 to 3"),
    "run twice": (on_code(execution_count=7), "[1, 2, 7], not 1 to 3"),
    "error": (on_code(outputs=ERROR), "has an error output"),
    "unchecked": (on_code(outputs=[]), "is checked but has no stored output"),
    "escape": (on_code(metadata={"tags": ["raises-exception"]}), "escapes the test"),
    "no sentence": (edit("^It rises", lambda c: c.update(source="## X.")), "no sentence after"),
    "bare figure": (drop("^It rises"), "no sentence after the figure"),
    "no alt": (replace("<!-- alt: A line", "<!-- A line"), "0 alternative texts for 1 pictures"),
    "same alt": (replace("A line that climbs to the right.", "It rises."), "repeats the text"),
    "verdict": (replace("* holds", ": undecided*"), "it says ['undecided'] of 04-2-new-light"),
    "more words": (replace("* holds", "*, once undecided, holds"), "the table ['holds']"),
    "no claim": (replace("04-2-new-light", "04-2-old-light"), "claim 04-2-old-light, which is not"),
    "kernel": (lambda n: n.metadata.kernelspec.update(name="mine"), "kernel is not python3"),
    "litter": (lambda n: n.metadata.update(papermill={}), "metadata ['papermill']"),
    "version": (
        lambda n: n.metadata.language_info.update(version="3"),
        "language_info ['version']",
    ),
    "times": (on_code(metadata={"execution": {}}), "metadata ['execution']"),
    "view": (on_code(outputs=[VIEW]), "stores a widget view"),
    "big": (replace("rises", "x" * 1_600_000), "bytes, more than 1500000"),
    "pip": (replace("plot()", "%pip install torch"), "has an installation"),
    "shell": (replace("plot()", "!ls"), "has a shell line"),
    "run": (replace("plot()", "%run other.ipynb"), "has a shell line"),
    "sys.path": (replace("plot()", "sys.path.append('x')"), "has sys.path"),
    "other": (replace("plot()", "import nbformat"), "has another notebook"),
    "path": (replace("plot()", "open('/home/me/x')"), "has an absolute path"),
    "path shown": (on_code(outputs=HOME), "has an absolute path"),
}


LESSON, ABLATION = "06_expression_spotting", "06b_spotting_ablation"
SENTENCE = "It " + "very " * 30 + "rises."
NEW_FAULTS = {
    "no training": (LESSON, drop("^## Train it"), "0 headings 'Train it'"),
    "no idea": (LESSON, drop("^## The idea"), "0 headings 'The idea'"),
    "no verdicts": (ABLATION, drop("^## Verdicts"), "0 headings 'Verdicts'"),
    "your time": (LESSON, replace(", 50 min of yours", ""), "minutes of yours"),
    "wide": (LESSON, replace("plot()", "plot(" + "x" * 95 + ")"), "a line of 101 columns"),
    "skip": (LESSON, replace("plot()", "plot()  # fmt: " + "skip"), "hides from the formatter"),
    "sentence": (ABLATION, replace("It rises.", SENTENCE), "a sentence of 32 words: It very"),
    "reference": (LESSON, replace("https://arxiv", "https://x"), "without a DOI or arXiv link"),
    "too many": (ABLATION, replace("rises.", "rises. " * 1500), "words, not 300"),
    "no data": (ABLATION, replace("DATA_ROOT = None", ""), "no parameter DATA_ROOT"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_seen(tmp_path, fault):
    change, message = FAULTS[fault]
    notebook = good()
    change(notebook)
    found = complaints(tmp_path, notebook)
    assert any(message in text for text in found), found
    assert all(text.startswith("04_mimamo_net: ") for text in found)


@pytest.mark.parametrize("fault", NEW_FAULTS)
def test_lessons_and_ablations_have_rules_of_their_own(tmp_path, fault):
    name, change, message = NEW_FAULTS[fault]
    notebook = good(name)
    assert complaints(tmp_path, notebook, name) == []
    change(notebook)
    found = complaints(tmp_path, notebook, name)
    assert [text for text in found if message in text], found


def test_ids_must_be_there_and_differ(tmp_path):
    notebook = good()
    path = tmp_path / "04_mimamo_net.ipynb"
    nbformat.write(notebook, path)
    one, two = (c["id"] for c in notebook.cells[:2])
    path.write_text(path.read_text().replace(two, one))
    with pytest.warns(nbformat.warnings.DuplicateCellId):
        assert any("or with the same" in text for text in rules.complaints(path))


def test_names_follow_the_pattern_and_a_faultless_notebook_has_no_complaints(tmp_path):
    assert complaints(tmp_path, good()) == []
    for name in ("4_x", "04_Mimamo", "04-mimamo", "04_mimamo_net copy"):
        assert any("NN_lower_case" in t for t in complaints(tmp_path, good(), name))


def test_a_term_of_the_glossary_may_be_linked(tmp_path):
    notebook = good()
    replace("(09_after.ipynb#data", "(GLOSSARY.md#local-contrast-lcn")(notebook)
    assert complaints(tmp_path, notebook) == []


def test_the_address_of_a_link_is_no_word(tmp_path):
    notebook = good()
    replace("https://b", "https://b/" + "c/" * 3000)(notebook)
    assert complaints(tmp_path, notebook) == []


def test_the_glossary_says_each_word_once_and_plainly():
    text = (NOTEBOOKS[0].parents[1] / "GLOSSARY.md").read_text(encoding="utf-8")
    terms = re.findall(r"^### (.+)\n(.+(?:\n.+)*)", text, re.MULTILINE)
    assert len(terms) == text.count("### ")  # none without a meaning
    assert len(set(rules.anchors(text))) == len(rules.anchors(text))
    for term, meaning in terms:
        long = [s for s in rules.sentences(meaning) if len(s.split()) > rules.MAX_SENTENCE]
        assert not long, term
    rows = re.findall(r"^\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)
    assert len(rows) == 5
    for row in rows:  # one length at four sizes
        lengths = [float(px) / side for px, side in zip(row, (224, 112, 64, 48), strict=True)]
        assert lengths == pytest.approx([lengths[1]] * 4, rel=0.03)
    own = re.findall(r"\]\(#([^)]+)\)", text)
    assert own
    assert set(own) <= set(rules.anchors(text))


def test_start_and_end_need_neither_the_teaching_sections_nor_many_words(tmp_path):
    notebook = good("10_results")
    for text in notebook.cells:
        text.source = text.source.replace("word ", "")
    notebook.cells[0].source = "# 10 · Results\n[back](09_after.ipynb)\nCost: none"
    assert complaints(tmp_path, notebook, "10_results") == []


@pytest.mark.slow
def test_plain_papermill_takes_lists_and_paths_and_refuses_at_once(tmp_path):
    """From any folder; a relative path is of the shell's folder, not of the notebook's.

    It is the test of notebook 03 in the profile full, too, with the cells that this needs.
    """
    whole = NOTEBOOKS[0].with_name("03_phase_versus_flow.ipynb")
    notebook, source = nbformat.read(whole, as_version=4), tmp_path / whole.name
    needed = ("PROFILE =", "course.check(", "AMPLITUDE_PX =", "full_run.outcome(", "full.claims)")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    notebook.cells = [cell for cell in code if any(text in cell.source for text in needed)]
    nbformat.write(notebook, source)
    command = [sys.executable, "-m", "papermill", "--cwd", whole.parent, source, "out.ipynb"]
    environment = os.environ | {"PWD": str(tmp_path)}  # as a shell sets it
    papermill = partial(
        subprocess.run, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    wrong = papermill([*command, "-p", "VARIANTS", "banana"])
    assert wrong.returncode != 0
    assert "VARIANTS 'banana': is unknown; choose phase, " in wrong.stderr
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    assert sum(bool(c.get("execution_count")) for c in executed) == 3  # parameters, injected, setup
    right = ["-p", "PROFILE", "full", "-p", "SEEDS", "[3]", "-p", "VARIANTS", "phase"]
    assert papermill([*command, *right, "-p", "OUT", "kept"]).returncode == 0
    (table,) = (tmp_path / "kept" / "rows").glob("*.csv")
    rows = read_rows(table)
    assert (set(rows["seed"].dropna()), set(rows["arm"])) == ({3}, {"phase"})
    assert set(rows["profile"]) == {"full"}
