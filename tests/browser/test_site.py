"""What only a browser shows of the site's pages: search, folds, enlarged figures, the width of a
phone."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from micromacro import report

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
WIDTH = "document.documentElement.scrollWidth"
LESSON = "06_expression_spotting"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site of four committed notebooks."""
    root = tmp_path_factory.mktemp("root")
    for name in ("notebooks", "data", "benchmarks", "teaching", "assets", *ROOT.glob("*.md")):
        (root / Path(name).name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICROMACRO_ROOT", str(root))
        return report.site("00 06 06b 07b").parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


def opened(browser: Browser, file: Path, size: dict, **options) -> Page:
    """A page opened from the disk; what it logs, throws or asks for from elsewhere is in
    ``faults``."""
    page = browser.new_context(viewport=size, **options).new_page()
    page.faults = []
    page.on("console", lambda message: page.faults.append(message.text))
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("request", lambda request: page.faults.append(request.url) if far(request.url) else 0)
    page.goto(file.as_uri())
    return page


def far(url: str) -> bool:
    return not url.startswith(("file:", "data:"))


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_page_fits_its_window_and_asks_for_nothing(browser, site, size):
    for file in sorted(site.glob("*.html")):
        page = opened(browser, file, size)
        assert page.evaluate(WIDTH) <= size["width"], file.name
        assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth)")
        assert page.faults == [], file.name
        page.context.close()


def test_search_finds_terms_and_sections_and_leads_to_them(browser, site):
    page = opened(browser, site / "index.html", DESKTOP)
    page.get_by_label("Search the course").fill("apex")
    hits = page.locator("#hits a")
    assert hits.first.get_attribute("href") == "GLOSSARY.html#apex"
    assert re.fullmatch(r"\d+ sections", page.locator("#count").text_content())
    page.get_by_label("Search the course").fill("LOCAL contr")  # parts of words, in any case
    assert f"{LESSON}.html#local-contrast" in hits.evaluate_all(
        "links => links.map(link => link.getAttribute('href'))"
    )
    page.get_by_label("Search the course").press("Enter")
    page.wait_for_url(re.compile(r"#\S*contrast"))
    assert page.evaluate("document.querySelector(location.hash).getBoundingClientRect().top") < 900
    page.get_by_label("Search the course").fill("qwertz")
    assert page.locator("#count").text_content() == "Nothing found"
    assert hits.count() == 0
    assert page.faults == []


def test_code_unfolds_one_cell_at_a_time_or_all_and_the_choice_is_kept(browser, site):
    page = opened(browser, site / f"{LESSON}.html", DESKTOP)
    folds, code = page.locator("details.code"), page.locator("details.code .highlight")
    assert folds.count() > 20
    assert not any(one.is_visible() for one in code.all())
    folds.nth(2).locator("summary").press("Enter")  # from the keyboard
    assert [one.is_visible() for one in code.all()] == [i == 2 for i in range(folds.count())]
    page.get_by_role("button", name="Show all code").click()
    assert all(one.is_visible() for one in code.all())
    page.goto((site / "06b_spotting_ablation.html").as_uri())
    assert page.locator("details.code .highlight").first.is_visible()
    page.get_by_role("button", name="Fold all code").click()
    assert not page.locator("details.code .highlight").first.is_visible()
    assert page.faults == []


def test_a_figure_is_enlarged_with_its_text_and_put_back(browser, site):
    page = opened(browser, site / f"{LESSON}.html", PHONE)
    figure = page.locator("button.enlarge").first
    words = figure.locator("img").get_attribute("alt")
    figure.click()
    large = page.get_by_role("dialog").get_by_role("img", name=words)
    assert large.bounding_box()["width"] > 2 * figure.bounding_box()["width"]
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()
    assert page.evaluate(WIDTH) <= PHONE["width"]
    assert page.faults == []


@pytest.mark.parametrize("scripted", [True, False], ids=["script", "no script"])
def test_contents_stand_beside_a_page_and_fold_above_it_on_a_phone(browser, site, scripted):
    file = site / f"{LESSON}.html"
    page = opened(browser, file, DESKTOP, java_script_enabled=scripted)
    contents = page.get_by_role("navigation", name="Contents")
    assert contents.bounding_box()["width"] < page.locator("main").bounding_box()["x"] + 1
    assert contents.locator("[aria-current=page]").text_content().startswith("06 · ")
    page = opened(browser, file, PHONE, java_script_enabled=scripted)
    contents = page.locator("#contents")
    assert not contents.is_visible()
    page.get_by_role("button", name="Contents").click()
    assert contents.is_visible()
    assert page.get_by_label("Search the course").is_visible() == scripted
    contents.get_by_role("link", name="Takeaways").click()
    assert page.url.endswith("#takeaways")
    assert contents.is_visible() != scripted  # without a script a tap beside it closes it
    if not scripted:
        folds = page.locator("details.code")
        page.keyboard.press("Escape")
        folds.first.locator("summary").click()
        assert folds.first.locator(".highlight").is_visible()
        assert not page.get_by_role("button", name="Show all code").is_visible()


def test_the_first_tab_skips_the_contents_and_the_focus_can_be_seen(browser, site):
    page = opened(browser, site / f"{LESSON}.html", DESKTOP)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the text")
    assert skip.bounding_box()["x"] > 0
    assert skip.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
