"""Headless runs: what passes, what is refused, what is killed and resumed; baking."""

import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from micromacro import batch, course, headless, run_folder, statistics
from micromacro import units as experiments
from micromacro.batch import bake, clean, reproduce
from micromacro.errors import BadInput
from micromacro.run_folder import RunFolder
from micromacro.unit_store import process_alive

PARAMETERS = 'PROFILE = "smoke"\nDATASET = "synthetic"\nSEEDS = None\nN = 3\nRATE = 1.0\nOUT = None'
FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()"
ROWS = """from micromacro.results import Row, write_rows
write_rows([Row("00_good", "mimamo", "phase", "ccc", 0.5, 12, profile=PROFILE)], OUT);"""
PICTURE = "from IPython.display import Image\nImage(data=b'\\x89PNG', format='png')"
KILL_WORKER_ONCE = """import os, pathlib, signal, time
marker = pathlib.Path("../marker")
if not marker.exists():
    marker.touch()
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)"""
# Says that it runs, then waits for a file; the second time the file is there.
SLOW = """import os, pathlib, time
with open("../log", "a") as log:
    log.write(f"slow {os.getpid()} {os.getppid()}\\n")
while not pathlib.Path("../go").exists():
    time.sleep(0.05)"""


def write_notebook(root: Path, name: str, *sources: str, parameters: str = PARAMETERS) -> Path:
    v4 = nbformat.v4
    cells = [v4.new_markdown_cell(f"# {name}\n\n[next](00_good.ipynb) [gone](99_gone.ipynb)")]
    cells += [v4.new_markdown_cell("## Question\n\nDoes it run? It may.")]
    cells += [v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [v4.new_code_cell(source) for source in sources]
    notebook = v4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "x", "language": "python"}
    path = root / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def statuses(folder: Path) -> dict[str, dict]:
    return {p.stem: json.loads(p.read_text()) for p in (folder / "status").iterdir()}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run of five notebooks, looked at by many tests: (outcome, what it printed)."""
    root = tmp_path_factory.mktemp("run")
    write_notebook(root, "00_good", FIGURE, ROWS, "print('N', N, OUT)")
    write_notebook(root, "01_raises", "x = 1", "def f():\n    raise ValueError('not 42')\nf()", "2")
    write_notebook(root, "02_kernel_dies", "import os, signal\nos.kill(os.getpid(), 9)", "2")
    write_notebook(root, "03_worker_dies", KILL_WORKER_ONCE)
    write_notebook(root, "04_leaves_early", "import sys\nsys.exit(0)", "2")
    kernels = root / "jupyter" / "kernels" / "python3"  # somebody's broken kernel of that name
    kernels.mkdir(parents=True)
    kernel = {"argv": ["false"], "display_name": "broken", "language": "python"}
    (kernels / "kernel.json").write_text(json.dumps(kernel))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICROMACRO_ROOT", str(root))
        patch.setenv("JUPYTER_PATH", str(root / "jupyter"))
        patch.setenv("MPLBACKEND", "Agg")  # must not turn figures off
        stream = io.StringIO()
        outcome = reproduce(params={"N": 4}, stream=stream)
    return outcome, stream.getvalue()


def test_a_failing_notebook_stops_no_other(run):
    outcome, _ = run
    assert not outcome.passed
    reasons = {name: state["reason"] for name, state in statuses(outcome.index.parent).items()}
    assert reasons == {
        "00_good": "",
        "01_raises": "cell 4: ValueError: not 42",
        "02_kernel_dies": "the kernel died in cell 3/4",
        "03_worker_dies": "",
        "04_leaves_early": "1 code cells never ran",
    }


def test_a_run_leaves_notebooks_pages_logs_rows_and_an_index(run):
    folder = run[0].index.parent
    for name in ("00_good", "01_raises", "02_kernel_dies", "03_worker_dies"):
        assert all((folder / f"{name}{suffix}").exists() for suffix in (".ipynb", ".html", ".log"))
    assert "ValueError: not 42" in (folder / "01_raises.log").read_text()
    assert "\x1b[" not in (folder / "01_raises.log").read_text()
    assert (folder / "rows" / "00_good__smoke__cpu.csv").exists()
    assert (folder / "DONE").exists()
    assert not (folder / "attempts").exists()
    about = json.loads((folder / "run.json").read_text())
    assert about["wish"]["params"] == {"N": 4}


def test_parameters_and_figures_arrive(run):
    executed = nbformat.read(run[0].index.parent / "00_good.ipynb", as_version=4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert outputs[-1].text == f"N 4 {run[0].index.parent}\n"
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_links_lead_to_pages_that_exist(run):
    page = (run[0].index.parent / "01_raises.html").read_text()
    assert '<a href="00_good.html">next</a>' in page
    assert "99_gone" not in page
    assert "gone" in page


def test_progress_in_a_log_is_plain_lines(run):
    outcome, text = run
    assert "\r" not in text
    assert "\x1b" not in text
    lines = text.splitlines()
    assert any(line.startswith("[00_good] cell 3/5  ") for line in lines)
    assert any(line.startswith("[00_good] passed  (5 cells, ") for line in lines)
    assert any("FAILED: cell 4: ValueError: not 42" in line for line in lines)
    worker = "[03_worker_dies] its worker process was killed (SIGKILL); trying once more"
    assert lines.count(worker) == 1
    assert lines[-2:] == ["2 of 5 passed", str(outcome.index)]


def test_sockets_are_cleaned_up(run):
    headless.sweep_sockets()
    folders = Path(headless.tempfile.gettempdir()).glob("micromacro-ipc-*")
    assert not [f for f in folders if not process_alive(int(f.name.split("-")[2]))]


def test_a_killed_run_leaves_no_orphan_and_the_next_goes_on(root):
    write_notebook(root, "00_good", "open('../log', 'a').write('good\\n');")
    write_notebook(root, "01_slow", SLOW)
    command = [sys.executable, "-m", "micromacro.cli", "reproduce", "--workers", "1"]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    log = root / "log"
    try:
        wait_for(lambda: log.exists() and "slow" in log.read_text())
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
    pids = [int(word) for word in log.read_text().splitlines()[1].split()[1:]]
    wait_for(lambda: not any(map(process_alive, pids)), seconds=3)
    (folder,) = (root / "runs").glob("2*")
    assert list(statuses(folder)) == ["00_good"]
    assert not (folder / "DONE").exists()
    assert not (folder / "01_slow.ipynb").exists()

    (root / "go").touch()
    stream = io.StringIO()
    outcome = reproduce(stream=stream)
    assert outcome.passed
    assert outcome.index == folder / "index.html"
    assert f"continuing {folder.name}, which was not finished" in stream.getvalue()
    assert "[00_good] passed before" in stream.getvalue()
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["good", "slow", "slow"]
    assert not list(Path(headless.tempfile.gettempdir()).glob(f"micromacro-ipc-{pids[1]}-*"))


def test_a_notebook_over_the_time_limit_is_stopped(root):
    write_notebook(root, "01_slow", SLOW)
    outcome = reproduce(limit_s=3, stream=io.StringIO())
    assert not outcome.passed
    reason = statuses(outcome.index.parent)["01_slow"]["reason"]
    assert reason.startswith("time limit of 3 s reached")
    assert not any(process_alive(int(pid)) for pid in (root / "log").read_text().split()[1:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "smok"}, "profile smok: there is none; choose among smoke, full, paper"),
        ({"profile": "paper"}, "profile paper: needs a real data set"),
        ({"notebooks": ["07"]}, "notebook 07: there is none; choose among 00"),
        ({"notebooks": []}, "none chosen"),
        ({"workers": 0}, "workers: 0 given"),
        ({"params": {"SEDES": 3}}, "SEDES: no such parameter; there are DATASET, N, RATE, SEEDS"),
        ({"params": {"OUT": "x"}}, "parameter OUT: the batch sets it itself"),
        ({"params": {"N": "4"}}, "parameter N of 00_good: '4' given"),
        ({"params": {"N": 4.5}}, "parameter N"),
        ({"params": {"N": True}}, "parameter N"),
        ({"params": {"SEEDS": {1, 2}}}, "parameters: "),
        ({"write_results": True}, "only the profile full"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(root, arguments, message):
    write_notebook(root, "00_good")
    with pytest.raises(BadInput) as caught:
        reproduce(**arguments, stream=io.StringIO())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (root / "runs").exists()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ('PROFILE = "smoke"', "00_good.ipynb: no parameter OUT"),
        ("PROFILE = 'smoke'\nOUT = None\nN = len('x')", "not a literal: N = len('x')"),
        ("PROFILE = OUT = None", "not an assignment"),
        ("import os", "not an assignment: import os"),
        ("PROFILE =", "invalid syntax"),
    ],
)
def test_a_bad_parameters_cell_is_named(root, parameters, message):
    write_notebook(root, "00_good", parameters=parameters)
    with pytest.raises(BadInput, match="00_good") as caught:
        reproduce(stream=io.StringIO())
    assert message in str(caught.value)


def test_values_of_the_right_type_fit(root, monkeypatch):
    path = write_notebook(root, "00_good")
    for params in ({"N": 5}, {"RATE": 2}, {"RATE": 0.5}, {"SEEDS": [1]}, {"SEEDS": "all"}):
        values = course.injected([path], "full", params, root)
        assert values == {path: {"PROFILE": "full", **params, "OUT": str(root)}}
    real = {"DATASET": "casme2"}
    with pytest.raises(BadInput, match="no adapter"):
        course.injected([path], "paper", real, root)
    monkeypatch.setattr(course, "ADAPTERS", {"00_good": ("casme2",)})
    assert course.injected([path], "paper", real, root)[path]["DATASET"] == "casme2"
    with pytest.raises(BadInput, match="choose the profile paper"):
        course.injected([path], "full", real, root)
    other = write_notebook(root, "01_other")
    with pytest.raises(BadInput, match="no adapter"):
        course.injected([path, other], "paper", real, root)


def test_a_parameter_goes_where_it_is_declared(root):
    one = write_notebook(root, "00_good")
    two = write_notebook(root, "01_video", parameters=f"{PARAMETERS}\nVIDEO: str = 'x.mp4'")
    values = course.injected([one, two], "smoke", {"VIDEO": "y.mp4"}, root)
    assert "VIDEO" not in values[one]
    assert values[two]["VIDEO"] == "y.mp4"


def test_notebooks_are_chosen_by_number_or_name(root):
    paths = [write_notebook(root, name) for name in ("00_good", "04_next", "10_last")]
    write_notebook(root, "scratch")
    assert course.choose() == paths
    assert course.choose(["10", "4"]) == [paths[2], paths[1]][::-1]
    assert course.choose(["04_next.ipynb", "04"]) == [paths[1]]
    shutil.rmtree(root / "notebooks")
    with pytest.raises(BadInput, match="no numbered notebook there"):
        course.choose()


def test_runs_that_cannot_be_written_are_refused(root):
    write_notebook(root, "00_good")
    (root / "runs").write_text("in the way")
    with pytest.raises(BadInput, match=r"runs: cannot write there .*; make it writable"):
        reproduce(stream=io.StringIO())


def test_only_the_newest_unfinished_run_of_the_same_wish_is_continued(root):
    runs, wish = root / "runs", {"profile": "smoke", "notebooks": ["00_good"], "params": {}}

    def folder_of(wish):
        with RunFolder.open(runs, wish) as run:
            return run.folder

    first = folder_of(wish)
    assert folder_of(wish) == first
    other = folder_of({**wish, "params": {"N": 1}})
    assert other != first
    (first / "DONE").touch()
    second = folder_of(wish)
    assert second not in (first, other)
    with RunFolder.open(runs, wish) as held:  # two at once never share a folder
        assert held.folder == second
        assert folder_of(wish) not in (first, second, other)


def test_what_counts_as_passed_before(root, monkeypatch):
    path = write_notebook(root, "00_good", "1")
    wish = {"profile": "smoke", "notebooks": ["00_good"], "params": {}}

    def left(values=None):
        with RunFolder.open(root / "runs", wish) as run:
            return run, run.tasks([path], values or {}, lambda text: None)

    run, (task,) = left()
    (task.folder / "00_good.ipynb").write_text("{}")
    (run.folder / "rows").mkdir()
    (run.folder / "rows" / "00_good__smoke__cpu.csv").touch()
    run, (task,) = left()  # an attempt is nothing, and what it wrote goes
    assert not list(task.folder.iterdir())
    assert not (run.folder / "rows" / "00_good__smoke__cpu.csv").exists()
    run.record(task, headless.Verdict(False, "x", "", 0, 1.0))
    assert left()[1]  # failed before: again
    run, (task,) = left()
    (task.folder / "00_good.ipynb").write_text("{}")
    run.record(task, headless.Verdict(True, "", "", 0, 1.0))
    assert not left()[1]
    assert (run.folder / "00_good.ipynb").read_text() == "{}"
    assert left({"N": 9})[1]  # other parameters


def test_the_key_follows_all_that_decides_what_a_notebook_shows(root, monkeypatch):
    source = root / "model.py"
    source.write_text("1")
    monkeypatch.setattr(run_folder, "package_sources", lambda: [source])
    path = write_notebook(root, "00_good", "1")
    key = run_folder._key(path, {"N": 1, "OUT": "a"})
    assert run_folder._key(path, {"N": 1, "OUT": "b"}) == key
    assert run_folder._key(path, {"N": 2, "OUT": "a"}) != key
    source.write_text("2")
    assert run_folder._key(path, {"N": 1, "OUT": "a"}) != key
    source.write_text("1")
    (root / "requirements.lock").write_text("numpy==2")
    assert run_folder._key(path, {"N": 1, "OUT": "a"}) != key
    (root / "requirements.lock").unlink()
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", text="seen")]
    nbformat.write(notebook, path)
    assert run_folder._key(path, {"N": 1, "OUT": "a"}) == key
    notebook.cells[-1].source = "2"
    nbformat.write(notebook, path)
    assert run_folder._key(path, {"N": 1, "OUT": "a"}) != key


def test_results_are_copied_for_notebooks_that_passed(root):
    folder = root / "runs" / "x"
    (folder / "rows").mkdir(parents=True)
    profiles = ("full", "sweep", "smoke")
    for name in ("01_bad__full__cpu", *(f"00_good__{profile}__cpu" for profile in profiles)):
        (folder / "rows" / f"{name}.csv").write_text(name)
    (folder / "rows" / "00_good__full__cpu__predictions.npz").write_bytes(b"\xff\x00")
    claims = root / "data" / "claims.csv"
    claims.parent.mkdir(exist_ok=True)
    claims.write_text(
        "claim,source,contrast,margin,verdict,effect,low,high,n\nx,p. 1,a - b,0.1,,,,,\n"
    )
    for name, effect in (("00_good", 0.4), ("01_bad", -0.4)):
        interval = statistics.Interval(effect, effect - 0.1, effect + 0.1, 8)
        statistics.hand_over(name, {"x": interval}, folder)
    batch._keep_results(folder, ["00_good"], batch._Display(io.StringIO()))
    kept = sorted((root / "data" / "results").iterdir())
    assert [p.name for p in kept] == [
        "00_good__full__cpu.csv",
        "00_good__full__cpu__predictions.npz",
        "00_good__sweep__cpu.csv",
    ]
    assert kept[1].read_bytes() == b"\xff\x00"
    assert "a - b,0.1,holds,0.4,0.3,0.5,8" in claims.read_text()


def test_baking_keeps_outputs_and_drops_litter(root):
    good = write_notebook(
        root, "00_good", PICTURE, "import sys\nprint(1, file=sys.stderr)", "6 * 7"
    )
    bad = write_notebook(root, "01_raises", "1 / 0")
    untouched = bad.read_bytes()
    stream = io.StringIO()
    assert not bake(stream=stream).passed
    assert bad.read_bytes() == untouched
    assert "ZeroDivisionError" in stream.getvalue()
    text = good.read_text()
    assert text.endswith("}\n")
    baked = nbformat.reads(text, as_version=4)
    code = [cell for cell in baked.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4]  # nothing was injected
    assert [cell.metadata for cell in code] == [{"tags": ["parameters"]}, {}, {}, {}]
    assert set(baked.metadata) == {"kernelspec", "language_info"}
    assert set(code[1].outputs[0].data) == {"image/png", "text/plain"}
    assert code[2].outputs == []
    assert code[3].outputs[0].data["text/plain"] == "42"
    assert not list((root / "runs").glob(".bake-*"))


def test_cleaning_drops_what_varies():
    v4 = nbformat.v4
    view = "application/vnd.jupyter.widget-view+json"
    cell = v4.new_code_cell("x", metadata={"papermill": {}, "execution": {}, "tags": []})
    cell.outputs = [
        v4.new_output("stream", text="a"),
        v4.new_output("stream", text="b"),
        v4.new_output("stream", name="stderr", text="50 %"),
        v4.new_output("display_data", {view: {"model_id": "1f"}, "text/plain": "interactive"}),
    ]
    notebook = v4.new_notebook(cells=[cell], metadata={"widgets": {}, "papermill": {}})
    outputs = clean(notebook).cells[0].outputs
    assert outputs[0].text == "ab"
    assert outputs[1].data == {"text/plain": "interactive"}
    assert len(outputs) == 2
    assert notebook.cells[0].metadata == {}
    assert "version" not in notebook.metadata.language_info
    once = nbformat.writes(notebook)
    assert nbformat.writes(clean(notebook)) == once


def test_a_terminal_gets_one_updating_line():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    display = batch._Display(stream)
    display.event(batch.Event(0, "start"), "00_good")
    display.event(batch.Event(0, "note", (2, 9)), "00_good")
    display.event(batch.Event(-1, "tick"), "00_good")
    assert "\n" not in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K[00_good] cell 2/9  0 s")
    display.ended(0, "00_good", headless.Verdict(True, "", "", 9, 3.0))
    assert "[00_good] passed  (9 cells, 3 s)\n" in stream.getvalue()


def test_every_source_of_a_number_is_in_the_units_key():
    """A new module is hashed unless somebody has put it on the list."""
    every = {path.name for path in experiments.package_sources()}
    assert {"batch.py", "report.css", "headless.py"} <= every & experiments.NOT_HASHED
    package = Path(experiments.__file__).parent
    expected_later = {"plots.py", "widgets.py", "exercises.py"}
    missing = {name for name in experiments.NOT_HASHED if not (package / name).exists()}
    assert missing <= expected_later


def wait_for(condition, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_a_worker_that_cannot_start_is_reported(root, monkeypatch):
    """Its end comes before any news of it."""
    display = batch._Display(io.StringIO())
    event = batch.Event(0, "died", "its worker process ended with exit status 1")
    verdict = batch._no_verdict(event, display)
    display.ended(0, "00_good", verdict)
    assert verdict.reason == "its worker process ended with exit status 1"
    assert verdict.cells == 0
