"""The task set under *Play*, performed in JupyterLab in a real browser; skipped where there is
none."""

import io
import itertools
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page, sync_playwright

from micromacro.plots import COLOURS

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]
LAB = [
    "--no-browser",
    "--LabApp.expose_app_in_browser=True",
    "--LabApp.extension_manager=readonly",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--ServerApp.ip=127.0.0.1",
]
PATIENCE_S = 420  # for a notebook, on a machine that does other things as well
READY = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    const session = panel?.sessionContext?.session;
    return panel?.context?.isReady && session?.kernel?.status === 'idle';
}"""
DONE = """() => {
    const panel = window.jupyterapp.shell.currentWidget;
    const cells = [...panel.content.model.sharedModel.cells].filter(c => c.cell_type === 'code');
    return panel.sessionContext.session.kernel.status === 'idle'
        && cells.every(c => c.execution_count !== null);
}"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Callable[[Path], str]]:
    """Starts JupyterLab in a folder of its own; gives the address of a notebook in it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place, token = tmp_path_factory.mktemp("lab"), secrets.token_hex(8)
    folder = place / "notebooks"
    folder.mkdir()
    own = {name: str(place / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    own |= {"PYTHONPATH": str(ROOT / "src"), "MICROMACRO_ROOT": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "jupyterlab", *LAB, f"--ServerApp.port={port}"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"]
    command += ["--allow-root", f"--LabApp.workspaces_dir={place}"]
    log = (place / "lab.log").open("w")
    server = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)

    def address(notebook: Path) -> str:
        (folder / notebook.name).write_text(notebook.read_text(encoding="utf-8"), encoding="utf-8")
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return f"http://127.0.0.1:{port}/lab/tree/{notebook.name}?token={token}&reset"
            assert server.poll() is None, (place / "lab.log").read_text()
            time.sleep(0.2)
        raise TimeoutError((place / "lab.log").read_text())

    try:
        yield address
    finally:
        server.terminate()
        server.wait(30)
        log.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[BrowserContext]:
    """A browser that keeps JupyterLab's scripts from one notebook to the next."""
    with sync_playwright() as play:
        options = {"executable_path": CHROMIUM, "headless": True, "args": FLAGS}
        options |= {"viewport": {"width": 1400, "height": 1000}}
        profile = str(tmp_path_factory.mktemp("profile"))
        browser = play.chromium.launch_persistent_context(profile, **options)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    """A page of its own, whose kernel ends with it; its errors fail the test."""
    errors = []
    page = browser.new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    page.on("pageerror", lambda error: errors.append(error))
    yield page
    page.evaluate("() => window.jupyterapp?.serviceManager.sessions.shutdownAll()")
    page.close()
    assert not errors


def opened(page: Page, lab: Callable[[Path], str], notebook: Path) -> None:
    """Open a notebook and run all of it."""
    page.goto(lab(notebook))
    page.wait_for_function(READY)
    page.evaluate(
        "() => { window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs'); }"
    )
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    page.wait_for_function(DONE, polling=500)


def shortened(name: str, steps: int, folder: Path) -> Path:
    """A copy of a lesson that trains for eight of its steps."""
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).replace(f"\nSTEPS = {steps}", "\nSTEPS = 8")
    copy = folder / f"{name}.ipynb"
    copy.write_text(json.dumps(notebook), encoding="utf-8")
    return copy


def before_play(name: str, needed: list[str], folder: Path) -> Path:
    """A copy of a notebook with the code cells alone that hold these texts: what its Play needs.

    If it trains, then for eight steps.
    """
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell in code:
        cell["source"] = re.sub(r"(?m)^STEPS = \d+", "STEPS = 8", "".join(cell["source"]))
    notebook["cells"] = [c for c in code if any(text in c["source"] for text in needed)]
    assert len(notebook["cells"]) == len(needed)
    copy = folder / f"{name}.ipynb"
    copy.write_text(json.dumps(notebook), encoding="utf-8")
    return copy


def picture(page: Page, colours: str = "L") -> np.ndarray:
    """What the widget shows, as grey levels; or with ``RGB``, as colours."""
    shot = page.locator("img.widget-image").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert(colours), dtype=int)


def painted(page: Page, colour: str) -> np.ndarray:
    """Where the widget's picture has a colour, within what antialiasing changes: bool (H, W)."""
    wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
    return (np.abs(picture(page, "RGB") - wanted) < 24).all(-1)


def redrawn(page: Page, act: Callable[[], object]) -> np.ndarray:
    """Do something; what the widget shows when it has drawn anew."""
    image = page.locator("img.widget-image")
    before = image.get_attribute("src")
    act()
    page.wait_for_function(
        "([node, src]) => node.src !== src && node.complete", arg=[image.element_handle(), before]
    )
    return picture(page)


def chosen(page: Page, name: str, choice: str) -> np.ndarray:
    """Take a menu to a choice; what the widget shows then."""
    menu = page.locator(".widget-dropdown").filter(has_text=name).locator("select")
    choices = [text.replace("\xa0", " ") for text in menu.locator("option").all_text_contents()]
    return redrawn(page, lambda: menu.select_option(index=choices.index(choice)))


def dragged(page: Page, name: str, share: float) -> np.ndarray:
    """Drag a slider's handle with the mouse, 0 to its left end, 1 to its right; what is shown
    then."""
    slider = page.locator(".widget-slider").filter(has=page.get_by_text(name, exact=True))
    slider.scroll_into_view_if_needed()
    bar = slider.locator(".noUi-base").bounding_box()
    handle = slider.locator(".noUi-handle").bounding_box()

    def drag() -> None:
        y = handle["y"] + handle["height"] / 2
        page.mouse.move(handle["x"] + handle["width"] / 2, y)
        page.mouse.down()
        page.mouse.move(bar["x"] + bar["width"] / 2, y, steps=3)
        page.mouse.move(bar["x"] + share * bar["width"], y, steps=3)
        page.mouse.up()

    return redrawn(page, drag)


def moved(page: Page, name: str, key: str) -> np.ndarray:
    """Press a key, such as Home or ArrowLeft, on a slider; what the widget shows then."""
    slider = page.locator(".widget-slider").filter(has=page.get_by_text(name, exact=True))
    slider.locator(".noUi-handle").focus()
    return redrawn(page, lambda: page.keyboard.press(key))


def test_start_here_at_which_factor_it_is_seen(page, lab, tmp_path):
    """The apex hides at a factor of 1 and shows at the opening's; its difference shows it at
    once."""
    needed = ["PROFILE =", "course.check(", "actor = Face(", "widgets.film_player("]
    opened(page, lab, before_play("00_start_here", needed, tmp_path))
    page.locator("img.widget-image").scroll_into_view_if_needed()
    opening = picture(page)
    apex = moved(page, "motion ×", "Home")
    difference = chosen(page, "view", "difference × 8")
    inside = np.s_[4:-4, 4:-4]  # the page may show through at the rim
    assert np.abs(difference - 128)[inside].max() > 60
    assert np.abs(moved(page, "frame", "Home") - 128)[inside].max() <= 2  # nothing has moved yet
    rest = chosen(page, "view", "face")
    faint, large = (np.abs(one - rest).mean() for one in (apex, opening))
    assert 0 < 2.5 * faint < large

    playing = redrawn(page, page.locator(".widget-play button").first.click)
    assert playing.shape == rest.shape


def test_lesson_01_only_a_steady_crop_rests_at_rest(page, lab, tmp_path):
    """All three controls move the picture; at rest the map of changes is grey in one mode alone."""
    needed = ["PROFILE =", "course.check(", "scene = steadiness.stage(", "NAMES = ["]
    needed += ["corner_x, corner_y =", "grey = {name:", "widgets.live_figure(live"]
    opened(page, lab, before_play("01_face_preprocessing", needed, tmp_path))
    page.locator("img.widget-image").scroll_into_view_if_needed()
    opening = picture(page)
    height, width = opening.shape
    face = np.s_[height // 4 : -height // 8, width // 8 : 3 * width // 8]  # within each picture
    change = np.s_[height // 4 : -height // 8, 5 * width // 8 : 7 * width // 8]

    plain = moved(page, "motion", "Home")
    assert np.abs(plain - opening)[face].max() > 40
    assert opening[change].std() > 2.5 * plain[change].std()  # what 1 hides, 6 shows
    moved(page, "motion", "End")
    at_rest = {"stabilised": moved(page, "frame", "Home")}
    at_rest |= {
        mode: chosen(page, "mode", mode) for mode in ("aligned", "per_frame", "first_frame")
    }
    moves = {mode: one[change].std() for mode, one in at_rest.items()}
    assert min(moves, key=moves.get) == "stabilised"
    assert moves["per_frame"] > 2 * moves["stabilised"]


def test_lesson_07_what_is_missing(page, lab, tmp_path):
    """Without sound the curve stays; without action units or whole face it does not. Both menus
    move."""
    needed = ["PROFILE =", "course.check(", "EASY = ", "one = raw[0]", "SHOWN = ", "inside = {"]
    needed += ["target, truth = (", "def attend(", "class Cascade(", "class Reaction("]
    needed += ["seen, unseen = (", "def trained(", "def asked(", "def without("]
    needed += ["widgets.live_figure(reaction"]
    opened(page, lab, before_play("07_reaction_intensity", needed, tmp_path))
    page.locator("img.widget-image").scroll_into_view_if_needed()
    opening = picture(page)
    height, width = opening.shape
    curve = np.s_[height // 7 :, : width // 2 - 20]  # below the title, beside the bars

    shown = {name: chosen(page, "missing", name) for name in ("audio", "local", "holistic")}
    changed = {name: np.abs(after - opening)[curve].max() for name, after in shown.items()}
    assert changed["audio"] <= 2
    assert min(changed["local"], changed["holistic"]) > 50
    assert np.abs(shown["audio"] - opening).max() > 50  # its title tells what is missing

    np.testing.assert_array_equal(chosen(page, "missing", "nothing"), opening)
    other = page.locator(".widget-dropdown").filter(has_text="clip").locator("option").nth(3)
    assert np.abs(chosen(page, "clip", other.text_content()) - opening)[curve].max() > 50


def test_lesson_05_weights_and_what_they_mean(page, lab, tmp_path):
    """Dragged weights move accuracy and UAR; softer sound moves both maps, and back all is as
    before."""
    opened(page, lab, shortened("05_msff", 150, tmp_path))
    page.locator("img.widget-image").scroll_into_view_if_needed()
    opening = picture(page)
    height, width = opening.shape
    # Above each triangle its score stands, below the titles the triangle and the cross.
    scores = {
        "accuracy": np.s_[: height // 9, : width // 2],
        "UAR": np.s_[: height // 9, width // 2 :],
    }

    softer = chosen(page, "sound divided by", "8")
    assert (np.abs(softer - opening)[height // 9 :] > 20).mean() > 0.01  # hundreds of points
    np.testing.assert_array_equal(chosen(page, "sound divided by", "1"), opening)

    without = dragged(page, "sound", 0)
    dragged(page, "face", 0)
    dragged(page, "second face", 0)  # all three at 0 are equal weights
    alone = dragged(page, "sound", 1)
    for before, after in ((opening, without), (without, alone), (opening, alone)):
        change = np.abs(after - before)
        assert {name: change[place].max() > 50 for name, place in scores.items()} == {
            "accuracy": True,
            "UAR": True,
        }
        assert (change[height // 9 :] > 20).mean() > 0.001  # the cross


def test_lesson_02_how_far_a_phase_sees(page, lab):
    """The opening state reads too little; less motion or the other level mends it, light changes
    nothing."""
    opened(page, lab, ROOT / "notebooks" / "02_phase_differences.ipynb")
    page.locator("img.widget-image").scroll_into_view_if_needed()
    opening = picture(page)
    height, width = opening.shape
    frames, readings = np.s_[:, width // 4 : width // 2], np.s_[height // 8 :, width // 2 :]

    shown = {"light": moved(page, "light", "Home"), "back": moved(page, "light", "End")}
    np.testing.assert_array_equal(shown["back"], opening)
    assert np.abs(shown["light"] - opening)[frames].max() > 50
    assert np.abs(shown["light"] - opening)[readings].max() <= 2  # the third question

    shown = {"level": chosen(page, "level", "2"), "back": chosen(page, "level", "1")}
    np.testing.assert_array_equal(shown["back"], opening)
    assert np.abs(shown["level"] - opening)[readings].max() > 50
    np.testing.assert_array_equal(shown["level"][frames], opening[frames])

    for _ in range(4):  # to 2 px, where level 1 is right
        less = moved(page, "motion px", "ArrowLeft")
    assert np.abs(less - opening)[readings].max() > 50
    assert np.abs(less - opening)[frames].max() > 20


def test_lesson_03_light_that_is_taken_for_motion(page, lab, tmp_path):
    """One step of gain takes the mouth from TV-L1; a prepared input gives it back to all five."""
    needed = ["PROFILE =", "course.check(", "MUSCLE, AMPLITUDE_PX =", "def gradient("]
    needed += ["def lucas_kanade(", "def phase_by_hand(", "def cosine(", "def fields(", "def live("]
    opened(page, lab, before_play("03_phase_versus_flow", needed, tmp_path))
    page.locator("img.widget-image").scroll_into_view_if_needed()

    def seen(shown: np.ndarray) -> np.ndarray:
        """How much the maps of the five methods look like the truth's, from -1 to 1."""
        filled = shown[len(shown) // 2] < 250  # from side to side through all seven pictures
        edges = np.flatnonzero(np.diff(filled.astype(int), prepend=0, append=0))
        pictures = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > 50]
        assert len(pictures) == 7  # the second frame, the truth, five methods
        rows = np.s_[len(shown) // 2 - 40 : len(shown) // 2 + 40]
        middles = [(a + b) // 2 for a, b in pictures[1:]]
        maps = [shown[rows, at - 40 : at + 40].ravel() for at in middles]
        truth, *others = (one - np.median(maps[0]) for one in maps)  # grey is rest
        lengths = np.array([np.linalg.norm(one) for one in others]) * np.linalg.norm(truth)
        return np.array([truth @ one for one in others]) / lengths

    opening = picture(page)
    phase, *_, tvl1 = seen(opening)
    assert tvl1 < 0 < 0.8 < phase
    steady = moved(page, "gain", "Home")
    assert seen(steady).min() > 0.85  # the first question, and its answer: hardly any
    brighter = moved(page, "gain", "ArrowRight")
    assert seen(brighter)[-1] < seen(steady)[-1] - 0.05

    bright = dragged(page, "gain", 0.6)
    assert seen(bright).min() < -0.5
    large = moved(page, "amplitude px", "End")
    muscles = [chosen(page, "muscle", number) for number in ("1", "4", "15")]
    chosen(page, "muscle", "12")
    assert max(seen(shown).min() for shown in (large, *muscles)) < 0.7
    prepared = [chosen(page, "input", name) for name in ("zscore", "local_contrast")]
    assert min(seen(shown).min() for shown in prepared) > 0.8  # the second
    states = [opening, steady, brighter, bright, large, *muscles, *prepared]
    for before, after in itertools.pairwise(states):
        assert np.abs(after - before).max() > 20


def test_lesson_04_how_far_a_change_reaches(page, lab, tmp_path):
    """Time and clips are swapped as it opens: one snippet of all clips changes; then one clip's."""
    needed = ["PROFILE =", "course.check(", "train_clips = task.record(", "encoder = load_"]
    needed += ["def block(", "class Mimamo(", "packaged = MimamoNet(", "def influence("]
    needed += ["widgets.live_figure(disturbed"]
    opened(page, lab, before_play("04_mimamo_net", needed, tmp_path))
    page.locator("img.widget-image").scroll_into_view_if_needed()

    def reach(shown: np.ndarray) -> tuple[int, int]:
        """How many rows and columns of the map have something dark; its frame is left out."""
        height, width = shown.shape
        dark = shown[height // 5 : 2 * height // 3, width // 8 : 3 * width // 4] < 200
        return dark.any(1).sum(), dark.any(0).sum()

    opening = picture(page)
    swapped = reach(opening)
    right = chosen(page, "batch first", "True")
    within = reach(right)
    assert swapped[0] > 2 * within[0]  # all clips, or one
    assert within[1] > 2 * swapped[1]  # to the left and to the right, or one snippet
    assert np.abs(moved(page, "clip", "Home") - right).max() > 100
    assert reach(moved(page, "snippet", "Home"))[1] < within[1]  # nothing lies to its left
    assert np.abs(chosen(page, "batch first", "False") - opening).max() > 100


def test_lesson_06_until_one_interval_is_left(page, lab, tmp_path):
    """A higher threshold takes intervals away, to one at its end; label and person move as well."""
    opened(page, lab, shortened("06_expression_spotting", 150, tmp_path))
    page.locator("img.widget-image").scroll_into_view_if_needed()

    def intervals() -> int:
        """How many separate places of the timeline have a peak and its bar; the legend left out."""
        blue = painted(page, COLOURS[2])
        blue = blue[: 2 * len(blue) // 3].any(0)
        return int((np.diff(blue.astype(int), prepend=0) == 1).sum())

    opening, many = picture(page), intervals()
    last = moved(page, "threshold", "End")
    assert 1 <= intervals() < many
    curve = np.s_[len(opening) // 5 : 2 * len(opening) // 3]
    micro = chosen(page, "label", "micro")
    assert np.abs(micro - last)[curve].max() > 100
    other = page.locator(".widget-dropdown").filter(has_text="person").locator("option").nth(1)
    assert np.abs(chosen(page, "person", other.text_content()) - micro)[curve].max() > 100


def test_lesson_08_how_sharp_attention_must_be(page, lab, tmp_path):
    """A blunt attention puts the star on a flank and leaves the apex out; a sharp one mends both.

    It is not enough for an expression that takes the whole clip.
    """
    needed = ["PROFILE =", "course.check(", "def scores(", "def bump("]
    opened(page, lab, before_play("08_akmnet", [*needed, "widgets.live_figure(played"], tmp_path))
    page.locator("img.widget-image").scroll_into_view_if_needed()

    def star() -> tuple[float, float]:
        """Its place, right and up, in shares of the picture; the legend's is left out."""
        orange = painted(page, COLOURS[1])
        height, width = orange.shape
        y, x = np.nonzero(orange[:, : 3 * width // 4])
        return x.mean() / width, 1 - y.mean() / height

    def kept_up() -> float:
        """How high the highest frame lies that is kept."""
        blue = painted(page, COLOURS[2])
        return 1 - np.nonzero(blue[:, : 3 * blue.shape[1] // 4])[0].min() / len(blue)

    opening = star()
    moved(page, "sharpness", "End")
    whole = star()
    assert whole[0] > opening[0] + 0.05  # nearer to the apex
    moved(page, "share", "Home")
    short = star()
    assert short[0] > whole[0] + 0.015  # two frames: the last question

    moved(page, "share", "ArrowRight")  # 0.3
    for _ in range(10):
        moved(page, "apex", "ArrowLeft")  # 15
    sharp, apex_kept = star(), kept_up()
    assert sharp[0] < short[0] - 0.05
    moved(page, "sharpness", "Home")
    assert star()[1] < sharp[1] - 0.1  # on a flank
    assert kept_up() < apex_kept - 0.1  # the first question: all but those near the apex
