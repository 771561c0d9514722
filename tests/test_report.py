"""Pages: formulas, links, thumbnails, a run's index, the site; nothing fetched from anywhere."""

import base64
import io
import json
import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from micromacro import pages, report
from micromacro.errors import BadInput
from micromacro.results import Row, write_rows

v4 = nbformat.v4


def png(colour: str, size=(320, 200)) -> str:
    buffer = io.BytesIO()
    Image.new("RGBA", size, colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def figure(colour: str, size=(320, 200)):
    data = {"image/png": png(colour, size), "text/plain": "<Figure>"}
    cell = v4.new_code_cell("plot()", execution_count=1)
    cell.outputs = [v4.new_output("display_data", data)]
    return cell


def notebook(title="00 · Start <here>", colours=("red",)) -> nbformat.NotebookNode:
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "inter"}
    slider = v4.new_code_cell("slide()", execution_count=2)
    slider.outputs = [v4.new_output("display_data", widget)]
    cells = [
        v4.new_markdown_cell(
            f"# {title}\n[contents](../README.md#x) · [next](01_faces.ipynb#data)"
        ),
        v4.new_markdown_cell("## Question\n\nCan *it* see `this`? It can, says [A](https://a.b)."),
        *map(figure, colours),
        v4.new_markdown_cell(r"The curve rises by $x_t \le \tfrac12$. So $$\frac{a}{b}$$ holds."),
        slider,
    ]
    return v4.new_notebook(cells=cells, metadata={"widgets": {"x": {"state": {}}}})


def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(), "html.parser")


def assert_offline(page: BeautifulSoup, folder: Path) -> None:
    """Opening the page fetches nothing, and its links to files lead somewhere."""
    assert not page.find_all(["script", "iframe", "object"])
    for tag in page.find_all(src=True) + page.find_all("link"):
        assert (tag.get("src") or tag.get("href")).startswith("data:")
    assert not re.search(r"@import|url\(", "".join(style.text for style in page.find_all("style")))
    for link in page.find_all("a", href=re.compile(r"^(?!#|https:)")):
        assert (folder / link["href"].partition("#")[0]).exists(), link


@pytest.fixture
def folder(tmp_path):
    """A finished run: one notebook passed with figures and rows, one failed, one never ran."""
    names = ["00_start_here", "01_faces", "02_never"]
    wish = {"profile": "smoke", "notebooks": names, "params": {"N": "<3>"}}
    about = {"wish": wish, "utc": "2026-01-02T03:04:05Z", "git_sha": "a" * 40 + "-dirty"}
    about |= {"python": "3.12.1", **report.machine()}
    (tmp_path / "run.json").write_text(json.dumps(about))
    (tmp_path / "status").mkdir()
    trace = "\n".join(f"line {i} <b>" for i in range(40))
    states = [(names[0], True, "", ""), (names[1], False, "cell 2: ValueError: <b>", trace)]
    colours = ("red", "green", "blue", "white", "black", "grey")
    for name, passed, reason, text in states:
        state = {"name": name, "passed": passed, "reason": reason, "traceback": text}
        state |= {"cells": 7, "seconds": 12.4}
        (tmp_path / "status" / f"{name}.json").write_text(json.dumps(state))
        nbformat.write(notebook(f"{name} & more", colours), tmp_path / f"{name}.ipynb")
        pages.notebook_page(tmp_path / f"{name}.ipynb", tmp_path / f"{name}.html", pages=(*names,))
        (tmp_path / f"{name}.log").touch()
    rows = [Row(names[0], "mimamo", "<arm>", "ccc", i / 7, 12, seed=i) for i in range(70)]
    write_rows(rows, tmp_path)
    report.run_page(tmp_path)
    return tmp_path


def test_a_run_page_says_how_each_notebook_went_in_words(folder):
    page = soup(folder / "index.html")
    cards = page.find_all("section")
    statuses = [card.find(class_="status").text for card in cards]
    assert statuses == ["✓ passed", "✗ failed", "✗ failed"]
    assert page.find(class_="verdict").text == "✗ 1 of 3 notebooks passed"
    assert cards[0].find("h2").text == "00_start_here & more"
    assert cards[0].find(class_="question").text == "Can it see this?"
    assert "7 cells" in cards[0].text
    assert "12 s" in cards[0].text
    assert cards[1].find(class_="reason").text == "cell 2: ValueError: <b>"
    trace = cards[1].find("pre").text.splitlines()
    assert trace == [f"line {i} <b>" for i in range(28, 40)]
    assert "it has not run" in cards[2].text


def test_a_run_page_says_what_ran_and_where(folder):
    page = soup(folder / "index.html")
    facts = dict(zip(*([tag.text for tag in page.find_all(t)] for t in ("dt", "dd")), strict=True))
    assert facts["Profile"] == "smoke"
    assert facts["Parameters"] == '{"N": "<3>"}'
    assert facts["Source"] == "aaaaaaaaaa-dirty"
    assert facts["Python"] == "3.12.1"
    assert "torch 2" in facts["Packages"]


def test_a_run_page_stands_alone(folder):
    assert_offline(soup(folder / "index.html"), folder)
    for name in ("00_start_here", "01_faces"):
        assert soup(folder / f"{name}.html").find("nav").a["href"] == "index.html"


def test_thumbnails_are_four_small_figures_from_first_to_last(folder):
    images = soup(folder / "index.html").find("section").find_all("img")
    seen = []
    for image in images:
        data = base64.b64decode(image["src"].partition(",")[2])
        small = Image.open(io.BytesIO(data))
        assert max(small.size) <= 480
        seen.append(small.convert("RGB").getpixel((50, 50)))
    nearest = {"red": (255, 0, 0), "blue": (0, 0, 255), "white": (255,) * 3, "grey": (128,) * 3}
    for got, wanted in zip(seen, nearest.values(), strict=True):
        assert max(abs(a - b) for a, b in zip(got, wanted, strict=True)) < 12


def test_rows_become_a_table_that_says_what_it_leaves_out(folder):
    details = soup(folder / "index.html").find("details")
    assert details.summary.text == "the first 60 of 70 rows"
    assert len(details.find_all("tr")) == 61
    assert "<arm>" in details.table.text
    assert "fold" not in details.table.thead.text  # no row has one


def test_tiny_images_are_no_figures():
    cells = [figure("red", size) for size in ((99, 500), (500, 99), (100, 100))]
    assert len(report.figures(v4.new_notebook(cells=cells))) == 1


def test_a_page_has_formulas_figures_and_no_widgets(tmp_path):
    source, target = tmp_path / "00_start_here.ipynb", tmp_path / "00_start_here.html"
    (tmp_path / "01_faces.html").touch()
    (tmp_path / "index.html").touch()
    nbformat.write(notebook(), source)
    pages.notebook_page(source, target, pages=("00_start_here", "01_faces"))
    page = soup(target)
    assert_offline(page, tmp_path)
    assert page.title.text == "00 · Start"  # an HTML tag in the title is a tag
    assert [svg["aria-label"] for svg in page.find_all("svg")] == [
        r"x_t \le \tfrac12",
        r"\frac{a}{b}",
    ]
    assert page.find("img")["alt"] == r"The curve rises by $x_t \le \tfrac12$."
    assert "widget" not in page.main.decode()
    assert "Interactive: open the notebook in JupyterLab." in page.text
    hrefs = {a.text: a["href"] for a in page.find_all("a")}
    assert hrefs["next"] == "01_faces.html#data"
    assert hrefs["contents"] == "index.html"


def test_a_page_alone_has_no_way_home_and_no_dead_links(tmp_path):
    source, target = tmp_path / "x.ipynb", tmp_path / "x.html"
    nbformat.write(notebook(), source)
    pages.notebook_page(source, target)
    page = soup(target)
    assert page.find("nav") is None
    assert "next" in page.text
    assert_offline(page, tmp_path)


@pytest.mark.parametrize(
    "tex",
    [r"\lVert x \rVert_2", r"a \le b", r"\tfrac12", r"\boldsymbol{x}", r"\bigl(x\bigr)", r"\neq"],
)
def test_common_spellings_are_drawn(tex):
    assert pages.formula(tex).startswith("<svg")


def test_lines_of_a_formula_are_drawn_one_by_one():
    drawn = pages.formula(r"\begin{aligned} a &= b \\ c &= d \end{aligned}", display=True)
    assert drawn.startswith('<div class="formula"><svg')
    assert drawn.count("<svg") == 2


def test_a_formula_beyond_reach_is_shown_as_its_source():
    drawn = pages.formula(r"\begin{bmatrix} 1 < 2 \end{bmatrix}")
    assert drawn == r'<code class="tex">\begin{bmatrix} 1 &lt; 2 \end{bmatrix}</code>'


def test_a_formula_sits_on_the_line():
    def depth_em(tex):
        return float(re.search(r"vertical-align:-([\d.]+)em", pages.formula(tex))[1])

    assert depth_em("y") > depth_em("x") + 0.1  # y hangs below the line


@pytest.mark.parametrize(
    ("markdown", "sentence"),
    [
        ("# A\nOne. Two.", "One."),
        ("How small is 0.5 px, e.g. here? Very.", "How small is 0.5 px, e.g. here?"),
        ("*No* end\nhere\n\nNext.", "No end here"),
        ("See [the book](a_b.html) of `x_y`!", "See the book of x_y!"),
        ("", ""),
    ],
)
def test_first_sentence(markdown, sentence):
    assert pages.first_sentence(markdown) == sentence


def test_the_question_may_stand_in_the_next_cell():
    cells = [v4.new_markdown_cell("## Question"), v4.new_markdown_cell("Why? So.")]
    assert report._question(v4.new_notebook(cells=cells)) == "Why?"
    cells = [v4.new_markdown_cell("## Question\nFaces move. How far? Guess.")]
    assert report._question(v4.new_notebook(cells=cells)) == "How far?"
    cells = [v4.new_markdown_cell("## Question\nNone. Really.")]
    assert report._question(v4.new_notebook(cells=cells)) == "None."
    assert report._question(v4.new_notebook(cells=[])) == ""


def test_the_site_has_every_committed_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    with pytest.raises(BadInput):
        report.site()
    (tmp_path / "notebooks").mkdir()
    for name in ("00_start_here", "01_faces"):
        nbformat.write(notebook(name), tmp_path / "notebooks" / f"{name}.ipynb")
    index = report.site()
    assert index == tmp_path / "runs" / "site" / "index.html"
    page = soup(index)
    assert [card.h2.a["href"] for card in page.find_all("section")] == [
        "00_start_here.html",
        "01_faces.html",
    ]
    assert page.find(class_="status") is None
    for made in index.parent.glob("*.html"):
        assert_offline(soup(made), index.parent)
