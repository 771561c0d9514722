"""Pages: formulas, links, thumbnails, a run's index, the site; nothing fetched from anywhere."""

import base64
import hashlib
import io
import json
import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from pygments.styles import get_style_by_name
from pygments.token import Whitespace
from refusals import refused

from micromacro import course, report
from micromacro.results import Row, write_rows

v4 = nbformat.v4
ROOT = Path(__file__).parents[1]
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
    """Opening the page runs its own script alone and fetches nothing; its links lead somewhere."""
    assert not page.find_all(["iframe", "object"])
    data, (script,) = page.find_all("script", type=True), page.find_all("script", type=False)
    assert {tag["type"] for tag in data} <= {"application/json"}
    assert not [tag for tag in page.find_all("script") if tag.has_attr("src")]
    digest = base64.b64encode(hashlib.sha256(script.string.encode()).digest()).decode()
    policy = page.head.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]
    allowed = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
    assert allowed["default-src"] == allowed["base-uri"] == allowed["form-action"] == "'none'"
    assert {*allowed} == {"default-src", "script-src", "img-src", "media-src", "style-src"} | {
        "base-uri",
        "form-action",
    }
    assert allowed["script-src"] == f"'sha256-{digest}'"
    assert allowed["img-src"] == allowed["media-src"] == "data:"
    assert page.head.find("meta", content=policy) is page.head.find_all("meta")[1]  # before styles
    for tag in page.find_all(src=True) + page.find_all("link"):
        assert (tag.get("src") or tag.get("href")).startswith("data:")
    assert not re.search(r"@import|url\(", "".join(style.text for style in page.find_all("style")))
    ids = {tag["id"] for tag in page.find_all(id=True)}
    for link in page.find_all("a", href=re.compile(r"^(?!https:)")):
        file, _, anchor = link["href"].partition("#")
        assert not file or (folder / file).exists(), link
        assert file or anchor in ids, link


def assert_accessible(page: BeautifulSoup) -> None:
    """One title, landmarks with names, a way past the contents, no id twice, a text a picture."""
    assert len(page.find_all("h1")) == len(page.find_all("main")) == 1
    assert page.html["lang"] == "en"
    assert page.body.find("a")["href"] == f"#{page.main['id']}"
    assert all(tag.get("aria-label") for tag in page.find_all("nav"))
    ids = [tag["id"] for tag in page.find_all(id=True)]
    assert len({*ids}) == len(ids)
    assert all(image.get("alt") for image in page.find_all("img"))
    assert all(table.find_parent(class_="scroll") for table in page.find_all("table"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run: one notebook passed with figures and rows, one failed."""
    folder = tmp_path_factory.mktemp("run")
    trace = "\n".join(f"line {i} <b>" for i in range(40))
    colours = ("red", "green", "blue", "white", "black", "grey")
    outcomes, pages = {}, {}
    for name, reason, text in zip(NAMES, ("", "cell 2: <b>"), ("", trace), strict=True):
        outcomes[name] = {"reason": reason, "traceback": text, "cells": 7, "seconds": 12.4}
        nbformat.write(notebook(f"{name} & more", colours), folder / f"{name}.ipynb")
        files = (folder / f"{name}.{suffix}" for suffix in ("ipynb", "html"))
        pages[name] = report.notebook_page(*files, pages=NAMES)
        (folder / f"{name}.log").touch()
    write_rows([Row(NAMES[0], "x", "<arm>", "ccc", i / 7, 12, seed=i) for i in range(70)], folder)
    run = {"profile": "smoke", "params": {"N": "<3>"}, "utc": "2026-01-02T03:04:05Z"}
    run |= {"git_sha": "a" * 40 + "-dirty", "python": "3.12.1", "machine": "PDP-11"}
    report.run_page(folder, run | {"versions": {"torch": "2.15"}, "notebooks": outcomes}, pages)
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
    assert {image["alt"] for image in images} == {"", "The curve rises by $x_t \\le \\tfrac12$."}
    expected = ((255, 0, 0), (0, 0, 255), (255,) * 3, (128,) * 3)  # red, blue, white, grey
    for image, colour in zip(images, expected, strict=True):
        small = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2])))
        assert max(small.size) <= 480
        assert small.convert("RGB").getpixel((50, 50)) == pytest.approx(colour, abs=11)
    cells = [figure("red", size) for size in ((99, 500), (500, 99), (100, 100))]
    assert len(report.figures(v4.new_notebook(cells=cells))) == 1, "tiny images are no figures"


def test_a_picture_has_the_words_of_its_code_or_of_the_comment_below_or_a_sentence():
    own, commented, pair, bare = (figure("red") for _ in range(4))
    own.outputs[0].metadata["image/png"] = {"alt": "By the code."}
    pair.outputs *= 2
    comments = "Look.\n\n<!-- alt: One\nline. -->\n<!-- alt: Two. -->"
    below = [
        "Said <!-- alt: By hand. --> here.",
        "Said.\n<!-- alt: By hand. -->",
        comments,
        "A dot. It",
    ]
    cells = [own, commented, pair, bare]
    cells = [
        c
        for cell, text in zip(cells, below, strict=True)
        for c in (cell, v4.new_markdown_cell(text))
    ]
    pictures = report.figures(nbformat.from_dict(v4.new_notebook(cells=cells)))
    assert [alt for _, alt in pictures] == [
        "By the code.",
        "By hand.",
        "One line.",
        "Two.",
        "A dot.",
    ]
    alone = v4.new_notebook(cells=[figure("red")])
    assert [alt for _, alt in report.figures(alone)] == [""]


def test_a_page_has_formulas_figures_and_no_widgets(folder):
    page = soup(folder / "00_start_here.html")
    assert_offline(page, folder)
    assert page.find(class_="home")["href"] == "index.html"
    assert [a.text for a in page.nav.find_all("a")] == ["00_start_here & more", "Question"]
    assert page.title.text == "00_start_here & more"
    formulas = [(math["alttext"], math["display"]) for math in page.find_all("math")]
    assert formulas == [(r"x_t \le \tfrac12", "inline"), (r"\frac{a}{b}", "block")]
    assert page.find_all("img")[-1]["alt"] == r"The curve rises by $x_t \le \tfrac12$."
    assert "<!-- alt" not in report.plain_text("It <!-- alt: A line. --> *rises*.")
    assert "widget" not in page.main.decode()
    assert "Interactive: open the notebook in JupyterLab." in page.text
    hrefs = {a.text: a["href"] for a in page.find_all("a")}
    assert hrefs["next"] == "01_faces.html#data"
    assert hrefs["contents"] == "index.html#x"
    assert hrefs["A"] == "https://a.b"
    assert "gone" in page.text
    assert "gone" not in hrefs


HOSTILE = """<script>alert(1)</script><img src="x" onerror="alert(1)"><img src="y" alt="Mine."><svg onload="alert(1)"></svg>
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
    nbformat.write(v4.new_notebook(cells=sound), tmp_path / "y.ipynb")
    for name in "xy":
        report.notebook_page(tmp_path / f"{name}.ipynb", tmp_path / f"{name}.html")
    page, same = soup(tmp_path / "x.html"), soup(tmp_path / "y.html")
    assert str(page.find_all("math")) == str(same.find_all("math"))
    assert not page.main.find_all(["script", "iframe", "object", "embed", "base", "meta", "form"])
    attributes = [(name, value) for tag in page.main(True) for name, value in tag.attrs.items()]
    assert not [name for name, _ in attributes if name.startswith("on")]
    assert not [v for _, v in attributes if "javascript:" in "".join(str(v).split()).lower()]
    words = [image["alt"] for image in page.main.find_all("img") if image.get("src") in ("x", "y")]
    given = {"text/html": ["A picture without a description.", "Mine."]}.get(place)
    assert given is None or words == given
    as_text = ("application/javascript", "raw", "image/svg+xml")  # the last becomes a data URL
    assert place in as_text or page.main.find("b").text == "bold"


def test_a_page_alone_has_no_way_home_and_no_dead_links(tmp_path):
    source, target = tmp_path / "x.ipynb", tmp_path / "x.html"
    nbformat.write(notebook(), source)
    report.notebook_page(source, target)
    page = soup(target)
    assert page.find(class_="home") is None
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


README = """# The course
![A dot](dot.png)

See [the glossary](GLOSSARY.md#Light), [the licence](LICENSE) and [below](#three-ways).

## The notebooks
| typed | table |
| --- | --- |
| 00 | here |

## Three ways
1. `make lab`
"""


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """The folder of the site's notebooks."""
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    (tmp_path / "notebooks" / "solutions").mkdir(parents=True)
    for name in report.DOCUMENTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"# Page {name}\n\nText, see [words](../GLOSSARY.md#light).\n")
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "GLOSSARY.md").write_text("# Glossary\n\n### light\nWhat `shines`.\n")
    return tmp_path / "notebooks"


def test_a_formula_that_cannot_be_drawn_fails_the_build(notebooks):
    aligned = r"\begin{aligned} a &= b \end{aligned}"
    for tex in (r"\foo{x}", r"\left( x", "x_", "x^2^3", "a}", aligned):
        cells = [v4.new_markdown_cell(f"Here ${tex}$.")]
        nbformat.write(v4.new_notebook(cells=cells), notebooks / "00_x.ipynb")
        refused(report.site, f"00_x.ipynb, formula {tex}: ")


@pytest.mark.parametrize("left", [r"Here $\alpha_t$ stays.", r"Or \(a\) so.", r"\begin{pmatrix}"])
def test_a_formula_left_as_source_fails_the_build(notebooks, left):
    """As in the HTML of a table, which nobody draws; in code and in printed text it is what it
    is."""
    output = v4.new_output(
        "display_data", {"text/html": f"<table><tr><td>{left}</td></tr></table>"}
    )
    printed = v4.new_output("stream", text=left)
    cells = [v4.new_markdown_cell(f"# T\n`{left}`"), v4.new_code_cell("show()", outputs=[printed])]
    nbformat.write(v4.new_notebook(cells=cells), notebooks / "00_x.ipynb")
    report.site()
    cells.append(v4.new_code_cell("show()", outputs=[output]))
    nbformat.write(v4.new_notebook(cells=cells), notebooks / "00_x.ipynb")
    refused(report.site, f"00_x.ipynb, {left}: a formula is left as source")


def test_sentences_and_the_question_which_may_stand_in_the_next_cell(tmp_path):
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
        nbformat.write(v4.new_notebook(cells=cells), tmp_path / "x.ipynb")
        page = report.notebook_page(tmp_path / "x.ipynb", tmp_path / "x.html")
        assert page["question"] == question


def test_the_site_has_every_committed_notebook(notebooks):
    refused(lambda: report.site("77"))
    Image.new("RGB", (8, 8), "red").save(notebooks.parent / "dot.png")
    for name in NAMES:
        nbformat.write(notebook(name), notebooks / f"{name}.ipynb")
    worked = v4.new_markdown_cell("# Solutions of 00\nEnd with `</script><h1>`.")
    nbformat.write(v4.new_notebook(cells=[worked]), notebooks / "solutions" / "00.ipynb")
    index = report.site()
    assert index == notebooks.parent / "runs" / "site" / "index.html"
    page = soup(index)
    links = [card.h3.a["href"] for card in page.find_all("section")]
    assert links == [f"{name}.html" for name in NAMES]
    assert page.find("img")["src"].startswith("data:image/png;base64,")
    assert "typed" not in page.main.text, "the README's own table gives way to what is there"
    hrefs = {a.text: a["href"] for a in page.main.find_all("a")}
    assert hrefs["the glossary"] == "GLOSSARY.html#light"
    assert "the licence" not in hrefs
    assert "1 of" not in page.find(class_="facts").text
    made = sorted(path.stem for path in index.parent.glob("*.html"))
    others = ["CONTRIBUTING", "GLOSSARY", "benchmarks", "data", "index", "solutions_00", "teaching"]
    assert made == sorted([*NAMES, *others])
    for name in made:
        assert_offline(soup(index.with_name(f"{name}.html")), index.parent)
    rows = json.loads(page.find(id="search-index").string)
    assert ["solutions_00", "Solutions of 00"] in [row[:2] for row in rows]
    assert "End with </script><h1>." in [text for *_, parts in rows for *_, text in parts]
    first, last = (soup(index.with_name(f"{name}.html")).footer for name in NAMES)
    assert [a["href"] for a in first.find_all("a")] == [f"{NAMES[1]}.html"]
    assert [a["href"] for a in last.find_all("a")] == [f"{NAMES[0]}.html"]


def test_the_index_says_what_is_there_how_long_it_takes_and_what_is_to_come(notebooks, monkeypatch):
    plan = {"00": course.Planned("Start here", "how it begins")}
    plan["01"] = course.Planned("Faces", "what moves", ("00",))
    plan["09"] = course.Planned("Everything", "all of it", ("00",))
    monkeypatch.setattr(course, "PLAN", plan)
    (notebooks.parent / "README.md").write_text(README.replace("![A dot](dot.png)\n", ""))
    for name, minutes in zip(NAMES, (80, 100), strict=True):
        text = f"# {name}\n*Cost: 20 s of one CPU core, {minutes} min of yours.*"
        nbformat.write(
            v4.new_notebook(cells=[v4.new_markdown_cell(text)]), notebooks / f"{name}.ipynb"
        )
    page = soup(report.site())
    facts = [dd.text for dd in page.find(class_="facts").find_all("dd")]
    assert facts[:2] == ["2 of 3, the rest to come", "about 3 hours"]
    stops = {stop.find(["a", "strong"]).text: stop for stop in page.find_all(class_="stop")}
    assert [*stops] == ["00 · Start here", "01 · Faces", "09 · Everything"]
    assert [stop.a is not None for stop in stops.values()] == [True, True, False]
    follows = ["follows" in stop["class"] for stop in stops.values()]
    assert follows == [False, True, False], "an arrow only where the next builds on the one before"
    assert page.find(id="to-come").find_next("ul").text.split("\n")[1:-1] == [
        "09 · Everything: all of it"
    ]
    (notebooks / f"{NAMES[1]}.ipynb").unlink()
    nbformat.write(notebook("01"), notebooks / f"{NAMES[1]}.ipynb")  # does not say how long
    assert "more than 1 hours" in soup(report.site()).find(class_="facts").text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_every_colour_can_be_read(scheme):
    """At least 4.5 to 1, as WCAG 2 asks at level AA, code included."""
    css = (ROOT / "src/micromacro/templates/report.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w{6})", blocks[scheme == "dark"]))
    inks = [colours[name] for name in ("ink", "soft", "accent", "pass", "fail")]
    pairs = [(ink, colours[paper]) for ink in inks for paper in ("paper", "card", "code")]
    style = get_style_by_name({"light": "default", "dark": "github-dark"}[scheme])
    code = {look["color"] for token, look in style if token is not Whitespace}  # which has no ink
    pairs += [(f"#{ink}", colours["code"]) for ink in code - {None}]
    assert [pair for pair in pairs if contrast(*pair) < 4.5] == []


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, ``#rrggbb``, by WCAG 2."""
    lights = []
    for colour in (one, other):
        rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_the_plan_is_that_of_the_notebooks():
    """Names and titles agree, and what a notebook says it needs is what the map shows."""
    assert [*course.PLAN] == sorted(course.PLAN)
    for path in course.choose():
        notebook = course.read_notebook(path)
        number = path.stem.partition("_")[0]
        title = notebook.cells[0].source.partition("\n")[0]
        assert title == f"# {number} · {course.PLAN[number].title}"
        needs = next(c.source for c in notebook.cells if c.source.startswith("## You will"))
        assert {*re.findall(r"\]\((\d\db?)_", needs)} <= {*course.PLAN[number].builds_on}, number
    for number, planned in course.PLAN.items():
        assert {*planned.builds_on} <= {n for n in course.PLAN if n < number}


@pytest.mark.slow
def test_the_course_as_a_site_is_whole(tmp_path, monkeypatch):
    """Every page opens offline, is accessible, and all its links land, also in other pages."""
    for name in ("notebooks", "data", "benchmarks", "teaching", "assets", *ROOT.glob("*.md")):
        (tmp_path / Path(name).name).symlink_to(ROOT / name)
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    folder = report.site().parent
    pages = {path.name: soup(path) for path in folder.glob("*.html")}
    assert len(pages) == len(course.choose()) + len([*ROOT.glob("notebooks/solutions/*.ipynb")]) + 6
    anchors = {name: {t["id"] for t in page.find_all(id=True)} for name, page in pages.items()}
    for page in pages.values():
        assert_offline(page, folder)
        assert_accessible(page)
        for link in page.find_all("a", href=re.compile(r"^[^#:]+#")):
            file, _, anchor = link["href"].partition("#")
            assert anchor in anchors[file], link
    rows = json.loads(pages["index.html"].find(id="search-index").string)
    assert {f"{row[0]}.html" for row in rows} == {*pages}
    assert [text for *_, text in {r[0]: r[2] for r in rows}["GLOSSARY"] if "muscle" in text]
