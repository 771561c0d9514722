"""Pages: formulas, links, thumbnails, a run's index, the site; nothing fetched from anywhere."""

import base64
import io
import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from refusals import refused

from micromacro import report
from micromacro.results import Row, write_rows

v4 = nbformat.v4
NAMES = ("00_start_here", "01_faces")


def figure(colour: str, size=(320, 200)):
    buffer = io.BytesIO()
    Image.new("RGBA", size, colour).save(buffer, "PNG")
    png = base64.b64encode(buffer.getvalue()).decode()
    output = v4.new_output("display_data", {"image/png": png, "text/plain": "<Figure>"})
    return v4.new_code_cell("plot()", execution_count=1, outputs=[output])


def notebook(title="00 · Start <here>", colours=("red",)) -> nbformat.NotebookNode:
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "inter"}
    slider = v4.new_code_cell("slide()", outputs=[v4.new_output("display_data", view)])
    links = "[contents](../README.md#x) · [next](01_faces.ipynb#data) · [gone](99_gone.ipynb)"
    cells = [
        v4.new_markdown_cell(f"# {title}\n{links}"),
        v4.new_markdown_cell("## Question\n\nCan *it* see `this`? It can, says [A](https://a.b)."),
        *(figure(colour) for colour in colours),
        v4.new_markdown_cell(r"The curve rises by $x_t \le \tfrac12$. So $$\frac{a}{b}$$ holds."),
        slider,
    ]
    return v4.new_notebook(cells=cells, metadata={"widgets": {"x": {"state": {}}}})


def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(), "html.parser")


def assert_offline(page: BeautifulSoup, folder: Path) -> None:
    """Opening the page runs and fetches nothing, and its links to files lead somewhere."""
    assert not page.find_all(["script", "iframe", "object"])
    policy = page.head.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]
    allowed = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
    assert allowed["default-src"] == allowed["base-uri"] == allowed["form-action"] == "'none'"
    assert {*allowed} == {"default-src", "img-src", "media-src", "style-src"} | {
        "base-uri",
        "form-action",
    }
    assert allowed["img-src"] == allowed["media-src"] == "data:"
    assert page.head.find("meta", content=policy) is page.head.find_all("meta")[1]  # before styles
    for tag in page.find_all(src=True) + page.find_all("link"):
        assert (tag.get("src") or tag.get("href")).startswith("data:")
    assert not re.search(r"@import|url\(", "".join(style.text for style in page.find_all("style")))
    for link in page.find_all("a", href=re.compile(r"^(?!#|https:)")):
        assert (folder / link["href"].partition("#")[0]).exists(), link


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run: one notebook passed with figures and rows, one failed."""
    folder = tmp_path_factory.mktemp("run")
    trace = "\n".join(f"line {i} <b>" for i in range(40))
    colours = ("red", "green", "blue", "white", "black", "grey")
    outcomes = {}
    for name, reason, text in zip(NAMES, ("", "cell 2: <b>"), ("", trace), strict=True):
        outcomes[name] = {"reason": reason, "traceback": text, "cells": 7, "seconds": 12.4}
        nbformat.write(notebook(f"{name} & more", colours), folder / f"{name}.ipynb")
        report.notebook_page(folder / f"{name}.ipynb", folder / f"{name}.html", pages=NAMES)
        (folder / f"{name}.log").touch()
    write_rows([Row(NAMES[0], "x", "<arm>", "ccc", i / 7, 12, seed=i) for i in range(70)], folder)
    run = {"profile": "smoke", "params": {"N": "<3>"}, "utc": "2026-01-02T03:04:05Z"}
    run |= {"git_sha": "a" * 40 + "-dirty", "python": "3.12.1", "machine": "PDP-11"}
    report.run_page(folder, run | {"versions": {"torch": "2.15"}, "notebooks": outcomes})
    return folder


def test_a_run_page_says_how_each_notebook_went_what_ran_and_where(folder):
    page = soup(folder / "index.html")
    assert_offline(page, folder)
    good, bad = page.find_all("section")
    assert [card.find(class_="status").text for card in (good, bad)] == ["✓ passed", "✗ failed"]
    assert page.find(class_="verdict").text == "✗ 1 of 2 notebooks passed"
    assert good.find("h2").text == "00_start_here & more"
    assert good.find(class_="question").text == "Can it see this?"
    assert "7 cells" in good.text
    assert "12 s" in good.text
    assert bad.find(class_="reason").text == "cell 2: <b>"
    assert bad.find("pre").text.splitlines() == [f"line {i} <b>" for i in range(28, 40)]
    names, values = ([tag.text for tag in page.find_all(t)] for t in ("dt", "dd"))
    assert dict(zip(names, values, strict=True)) == {
        "Profile": "smoke",
        "Parameters": "N=<3>",
        "Finished": "2026-01-02 03:04:05 UTC",
        "Machine": "PDP-11",
        "Python": "3.12.1",
        "Packages": "torch 2.15",
        "Source": "aaaaaaaaaa-dirty",
    }
    details = page.find("details")  # rows become a table that says what it leaves out
    assert details.summary.text == "the first 60 of 70 rows"
    assert len(details.find_all("tr")) == 61
    assert "<arm>" in details.table.text
    assert "fold" not in details.table.thead.text  # no row has one


def test_thumbnails_are_four_small_figures_from_first_to_last(folder):
    images = soup(folder / "index.html").find("section").find_all("img")
    assert images[-1]["alt"] == "Figure 6 of 00_start_here & more"
    expected = ((255, 0, 0), (0, 0, 255), (255,) * 3, (128,) * 3)  # red, blue, white, grey
    for image, colour in zip(images, expected, strict=True):
        small = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2])))
        assert max(small.size) <= 480
        assert small.convert("RGB").getpixel((50, 50)) == pytest.approx(colour, abs=11)
    cells = [figure("red", size) for size in ((99, 500), (500, 99), (100, 100))]
    assert len(report.figures(v4.new_notebook(cells=cells))) == 1, "tiny images are no figures"


def test_a_page_has_formulas_figures_and_no_widgets(folder):
    page = soup(folder / "00_start_here.html")
    assert_offline(page, folder)
    assert page.find("nav").a["href"] == "index.html"
    assert page.title.text == "00_start_here & more"
    formulas = [(math["alttext"], math["display"]) for math in page.find_all("math")]
    assert formulas == [(r"x_t \le \tfrac12", "inline"), (r"\frac{a}{b}", "block")]
    assert page.find_all("img")[-1]["alt"] == r"The curve rises by $x_t \le \tfrac12$."
    assert "widget" not in page.main.decode()
    assert "Interactive: open the notebook in JupyterLab." in page.text
    hrefs = {a.text: a["href"] for a in page.find_all("a")}
    assert hrefs["next"] == "01_faces.html#data"
    assert hrefs["contents"] == "index.html#x"
    assert hrefs["A"] == "https://a.b"
    assert "gone" in page.text
    assert "gone" not in hrefs


HOSTILE = """<script>alert(1)</script><img src="x" onerror="alert(1)"><svg onload="alert(1)"></svg>
<a href="javascript:alert(1)">a</a><a href=" java&#10;script:alert(1)">b</a><base href="http://x/">
<meta http-equiv="refresh" content="0;url=http://x/"><iframe srcdoc="<script>alert(1)</script>"></iframe>
<form action="http://x/"><button formaction="javascript:alert(1)">c</button></form><object data="x">
</object><embed src="x"><link rel="stylesheet" href="http://x/">"""


@pytest.mark.parametrize(
    "place",
    ["text/html", "image/svg+xml", "application/javascript", "text/markdown", "prose", "raw"],
)
def test_scripts_of_a_hostile_notebook_stay_out_of_its_page(tmp_path, place):
    """Wherever a notebook may hold them; what is harmless beside them stays."""
    text = "alert(1)" if place == "application/javascript" else f"<b>bold</b> {HOSTILE}"
    if place == "image/svg+xml":
        text = f"<svg xmlns='http://www.w3.org/2000/svg'><b>bold</b>{HOSTILE}</svg>"
    cell = v4.new_code_cell("show()", outputs=[v4.new_output("display_data", {place: text})])
    if place in ("prose", "raw"):
        make = v4.new_markdown_cell if place == "prose" else v4.new_raw_cell
        cell = make(text, metadata={"format": "text/html", "raw_mimetype": "text/html"})
    sound = notebook().cells
    nbformat.write(v4.new_notebook(cells=[*sound, cell]), tmp_path / "x.ipynb")
    page = soup(report.notebook_page(tmp_path / "x.ipynb", tmp_path / "x.html"))
    nbformat.write(v4.new_notebook(cells=sound), tmp_path / "y.ipynb")
    same = soup(report.notebook_page(tmp_path / "y.ipynb", tmp_path / "y.html"))
    assert str(page.find_all("math")) == str(same.find_all("math"))
    assert not page.main.find_all(["script", "iframe", "object", "embed", "base", "meta", "form"])
    attributes = [(name, value) for tag in page.main(True) for name, value in tag.attrs.items()]
    assert not [name for name, _ in attributes if name.startswith("on")]
    assert not [v for _, v in attributes if "javascript:" in "".join(str(v).split()).lower()]
    as_text = ("application/javascript", "raw", "image/svg+xml")  # the last becomes a data URL
    assert place in as_text or page.main.find("b").text == "bold"


def test_a_page_alone_has_no_way_home_and_no_dead_links(tmp_path):
    source, target = tmp_path / "x.ipynb", tmp_path / "x.html"
    nbformat.write(notebook(), source)
    page = soup(report.notebook_page(source, target))
    assert page.find("nav") is None
    assert page.title.text == "00 · Start"  # an HTML tag in the title is a tag
    assert "next" in page.text
    assert_offline(page, tmp_path)


def test_common_formulas_are_drawn():
    for tex in (
        r"\lVert x \rVert_2 \le \boldsymbol{x} + \bigl(x\bigr)",
        r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}",
        r"\begin{cases} a & x < 1 \\ b & \text{else} \end{cases}",
        r"\underbrace{a + b}_{\rho}",
    ):
        drawn = BeautifulSoup(report.formula(tex, "block"), "html.parser").math
        assert (drawn["alttext"], drawn["display"]) == (tex, "block")
        assert "\\" not in drawn.text


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """The folder of the site's notebooks."""
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    (tmp_path / "notebooks").mkdir()
    return tmp_path / "notebooks"


def test_a_formula_that_cannot_be_drawn_fails_the_build(notebooks):
    aligned = r"\begin{aligned} a &= b \end{aligned}"
    for tex in (r"\foo{x}", r"\left( x", "x_", "x^2^3", "a}", aligned):
        cells = [v4.new_markdown_cell(f"Here ${tex}$.")]
        nbformat.write(v4.new_notebook(cells=cells), notebooks / "00_x.ipynb")
        refused(report.site, f"formula {tex}: ")


def test_sentences_and_the_question_which_may_stand_in_the_next_cell():
    for markdown, sentence in {
        "# A\nOne. Two.": "One.",
        "How small is 0.5 px, e.g. here? Very.": "How small is 0.5 px, e.g. here?",
        "*No* end\nhere\n\nNext.": "No end here",
        "See [the book](a_b.html) of `x_y`!": "See the book of x_y!",
        "": "",
    }.items():
        assert report.sentences(markdown)[0] == sentence
    for question, *sources in (
        ("Why?", "## Question", "Why? So."),
        ("How far?", "# T", "## Question\nFaces move. How far? Guess.", "## Next\nAnd?"),
        ("None.", "## Question\nNone. Really."),
        ("",),
    ):
        cells = [v4.new_markdown_cell(source) for source in sources]
        assert report.question(v4.new_notebook(cells=cells)) == question


def test_the_site_has_every_committed_notebook(notebooks):
    refused(report.site)
    for name in NAMES:
        nbformat.write(notebook(name), notebooks / f"{name}.ipynb")
    index = report.site()
    assert index == notebooks.parent / "runs" / "site" / "index.html"
    page = soup(index)
    links = [card.h2.a["href"] for card in page.find_all("section")]
    assert links == [f"{name}.html" for name in NAMES]
    assert page.find(class_="status") is None
    for made in index.parent.glob("*.html"):
        assert_offline(soup(made), index.parent)
