"""Headless runs: what passes, what is refused, what is killed and started again; baking."""

import contextlib
import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import nbformat
import psutil
import pytest
import torch
from processes import alive, wait_for
from refusals import refused

from micromacro import batch, course, headless, report, statistics
from micromacro.batch import bake, clean, reproduce
from micromacro.errors import BadInput

V4 = nbformat.v4
PARAMETERS = 'PROFILE = "smoke"\nDATASET = "synthetic"\nSEEDS = None\nSEED = 3\nOUT = None'
FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()"
ROWS = """from micromacro.results import Row, write_rows
write_rows([Row("00_good", "mimamo", "phase", "ccc", 0.5, 12, profile=PROFILE)], OUT);"""
ENVIRONMENT = """import os
[os.environ.get(name) for name in ("MICROMACRO_WORKERS", "OMP_NUM_THREADS")]"""
REPRODUCE = [sys.executable, "-m", "micromacro.cli", "reproduce"]
PICTURE = "from IPython.display import Image\nImage(data=b'\\x89PNG', format='png')"
# Says that it and a child of its own run, then waits for a file.
SLOW = """import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with open("../log", "a") as log:
    log.write(f"{os.getpid()} {child.pid}\\n")
while not pathlib.Path("../go").exists():
    time.sleep(0.05)
child.kill();"""


def write_notebook(root: Path, name: str, *sources: str, parameters: str = PARAMETERS) -> Path:
    cells = [V4.new_markdown_cell(f"# {name}\n\n[next](00_good.ipynb) [gone](99_gone.ipynb)")]
    cells += [V4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += map(V4.new_code_cell, sources)
    notebook = V4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "x", "language": "python"}
    path = root / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def only_run(root: Path) -> Path:
    (folder,) = (root / "runs").glob("2*Z")
    return folder


def reasons(folder: Path) -> dict[str, str]:
    run = json.loads((folder / "run.json").read_text())
    return {name: outcome["reason"] for name, outcome in run["notebooks"].items()}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run of four notebooks, looked at by many tests: (folder, what it printed)."""
    root = tmp_path_factory.mktemp("run")
    write_notebook(
        root, "00_good", FIGURE, ROWS, ENVIRONMENT, "print('SEED', SEED, OUT, os.getcwd())"
    )
    write_notebook(root, "01_raises", "x = 1", "def f():\n    raise ValueError('not 42')\nf()", "2")
    write_notebook(root, "02_dies", "import os, signal\nos.kill(os.getpid(), 9)", "2")
    write_notebook(root, "03_leaves_early", "import sys\nsys.exit(0)", "2")
    kernels = root / "jupyter" / "kernels" / "python3"  # somebody's broken kernel of that name
    kernels.mkdir(parents=True)
    kernel = {"argv": ["false"], "display_name": "broken", "language": "python"}
    (kernels / "kernel.json").write_text(json.dumps(kernel))
    long = root / ("t" * 90)  # a socket's path may have about 100 characters
    (long / "micromacro-ipc-evil").mkdir(parents=True)  # and names of others are left alone
    # A backend of the environment must not turn figures off.
    variables = {"MICROMACRO_ROOT": root, "JUPYTER_PATH": root / "jupyter", "TMPDIR": long}
    variables = os.environ | {"MPLBACKEND": "Agg"} | {k: str(v) for k, v in variables.items()}
    command = [*REPRODUCE, "--param", "SEED=4", "--workers", "9"]
    answer = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    assert (answer.returncode, answer.stderr) == (1, "")
    # No socket and no temporary file is left, neither there nor beside the run.
    assert [path.name for path in long.iterdir()] == ["micromacro-ipc-evil"]
    assert list((root / "runs").iterdir()) == [only_run(root)]
    return only_run(root), answer.stdout


def test_a_failing_notebook_stops_no_other(run):
    folder, text = run
    assert reasons(folder) == {
        "00_good": "",
        "01_raises": "cell 4/5: ValueError: not 42",
        "02_dies": "cell 3/4: the kernel died",
        "03_leaves_early": "1 code cells never ran",
    }
    assert not {"\r", "\x1b"} & set(text)  # progress in a log is plain lines
    lines = text.splitlines()
    assert "[00_good] cell 3/6" in lines
    assert any(line.startswith("[00_good] passed  (6 cells, ") for line in lines)
    assert any("FAILED: cell 4/5: ValueError: not 42" in line for line in lines)
    assert lines[-2:] == ["1 of 4 passed", str(folder / "index.html")]


def test_a_run_leaves_notebooks_pages_logs_rows_and_an_index(run):
    folder, _ = run
    for name in reasons(folder):
        assert all((folder / f"{name}{suffix}").exists() for suffix in (".ipynb", ".html", ".log"))
    log = (folder / "01_raises.log").read_text()
    assert "ValueError: not 42" in log
    assert "\x1b[" not in log
    assert (folder / "rows" / "00_good__smoke__cpu.csv").exists()
    assert json.loads((folder / "run.json").read_text())["params"] == {"SEED": 4}
    executed = nbformat.read(folder / "00_good.ipynb", as_version=4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert outputs[-1].text == f"SEED 4 {folder} {folder.parents[1] / 'notebooks'}\n"
    assert outputs[-2].data["text/plain"] == "['2', '1']"  # nine workers, four notebooks
    assert any("image/png" in output.get("data", {}) for output in outputs)


@contextlib.contextmanager
def slow_run(root: Path, command: list):
    """A program that runs SLOW: the program, its kernel and the kernel's child, ended at last."""
    write_notebook(root, "01_slow", SLOW)
    log = root / "log"
    # In the background, or under nohup, these tests ignore both signals, and would hand that down.
    both = (signal.SIGHUP, signal.SIGINT)
    before = [signal.signal(number, signal.default_int_handler) for number in both]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        for number, handler in zip(both, before, strict=True):
            signal.signal(number, handler)
        try:
            wait_for(lambda: log.exists() and log.read_text().endswith("\n"))
            yield program, *map(int, log.read_text().split())
        finally:
            program.kill()
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(log.read_text().split()[1]), signal.SIGKILL)


SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
KILLS = [("bake", signal.SIGKILL), *(("reproduce", number) for number in SIGNALS)]


@pytest.mark.parametrize(("command", "number"), KILLS)
def test_a_killed_batch_leaves_no_process_and_no_litter(root, monkeypatch, command, number):
    litter = root / "tmp"
    litter.mkdir()
    monkeypatch.setenv("TMPDIR", str(litter))
    with slow_run(root, [*REPRODUCE[:-1], command]) as (program, kernel, child):
        (folder,) = (root / "runs").glob(".part-batch-*")
        assert (folder / "01_slow.json").stat().st_mode & 0o077 == 0  # it holds the kernel's key
        with batch._workshop():  # of another batch, which takes nothing away
            assert (folder / "01_slow.json").exists()
        program.send_signal(number)
        assert program.wait(40) == {15: 143, 1: 129, 2: 130}.get(number, -9)
        wait_for(lambda: not alive(kernel), seconds=4)
        # The kernel's group is killed; after SIGKILL nobody is left to do so.
        assert number == signal.SIGKILL or not alive(child)
    assert not list(root.glob("runs/*/index.html"))
    if number == signal.SIGKILL:
        assert folder.exists()
        with batch._workshop():  # the next start
            pass
    assert not list((root / "runs").glob(".*"))
    assert not list(litter.iterdir())


def test_a_batch_under_nohup_ignores_the_end_of_its_terminal(root):
    with slow_run(root, ["nohup", *REPRODUCE]) as (program, *_):
        program.send_signal(signal.SIGHUP)
        (root / "go").touch()
        assert program.wait(40) == 0


@pytest.mark.parametrize("profile", batch.LIMIT_S)
def test_a_kernel_that_does_not_start_is_given_up(root, monkeypatch, profile):
    """It answers never, dies at once, or finds no place for its sockets; in any profile."""
    path = write_notebook(root, "00_good")
    monkeypatch.setattr(headless, "START_S", 2)
    usual = headless._Kernel._connect_control_socket
    for start, connect, fault in (
        ("import time; time.sleep(60)", usual, "didn't respond in 2 seconds"),
        ("1 / 0", usual, "died before replying"),
        ("import time; time.sleep(60)", Mock(side_effect=OSError(24, "no socket")), "no socket"),
    ):
        spec = headless.KernelSpec(argv=[sys.executable, "-c", start], language="python")
        monkeypatch.setattr(headless._Kernel, "kernel_spec", spec)
        monkeypatch.setattr(headless._Kernel, "_connect_control_socket", connect)
        session = headless.Session(path, root / "x.ipynb", root, None, batch.LIMIT_S[profile])
        assert fault in session.run(print).reason
        assert session.seconds < 20
        assert not [p for p in psutil.Process().children() if alive(p.pid)]
        assert not (root / "00_good.json").exists()


@pytest.mark.parametrize(("characters", "transport"), [(4, "ipc"), (90, "tcp")])
def test_where_sockets_are_files_they_lie_with_the_batch(root, monkeypatch, characters, transport):
    """And where their path would be too long for a socket, another transport does it."""
    monkeypatch.setattr(headless.sys, "platform", "darwin")
    place, seen = Path(tempfile.mkdtemp(dir="/tmp")) / ("s" * characters), []
    place.mkdir()
    path = write_notebook(root, "00_good")
    session = headless.Session(path, root / "x.ipynb", place, None, 60)

    def look(_):
        seen.append(json.loads((place / "00_good.json").read_text())["transport"])
        seen.append(len(list(place.iterdir())))

    assert session.run(look).reason == ""
    assert seen[0] == transport
    assert seen[1] == (6 if transport == "ipc" else 1)
    assert not list(place.iterdir())
    shutil.rmtree(place.parent)


DAMAGES = {
    "torn": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe\x00"),
    "list": lambda path: path.write_text("[1, 2]"),
    "number": lambda path: path.write_text("3"),
    "without cells": lambda path: path.write_text('{"nbformat": 4, "nbformat_minor": 5}'),
    "odd cells": lambda path: path.write_text(path.read_text().replace('"metadata"', '"data"')),
    "conflict": lambda path: path.write_text(f"<<<<<<< HEAD\n{path.read_text()}=======\n>>>>>>> x"),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_only_what_is_asked_for_is_read_and_a_damaged_notebook_is_one_line(root, damage):
    """Runs of before, and notebooks that are not asked for, may be torn by whatever there is."""
    good, bad = write_notebook(root, "00_good"), write_notebook(root, "01_bad")
    old = root / "runs" / "20200101T000000.000000Z"
    for path in (old / "run.json", old / "rows" / "00_good.csv", old / "00_good.ipynb"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(good.read_bytes())
        DAMAGES[damage](path)
    DAMAGES[damage](bad)
    assert list(course.injected(course.choose("00"), "smoke", {})) == [good]
    assert course.choose("00") == [good]
    for call in (reproduce, bake, lambda: reproduce(notebooks="01"), report.site):
        refused(call, "01_bad", "restore it")
    assert [*(root / "runs").glob("[0-9]*Z")] == [old]


@pytest.mark.slow
def test_a_run_beside_what_is_torn_passes(root):
    write_notebook(root, "00_good")
    for name, damage in DAMAGES.items():
        path = write_notebook(root, "01_bad")
        old = root / "runs" / f"2020-{name}" / "run.json"
        old.parent.mkdir(parents=True)
        shutil.copy(path, old)
        damage(old)
        path.unlink()
    DAMAGES["conflict"](write_notebook(root, "01_bad"))
    assert reproduce(notebooks="00")
    assert bake(notebooks="00")
    for name in report.DOCUMENTS:
        refused(lambda: report.site("00"), name, "take it from git again")
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("# A text\n\n## The notebooks\n")
    assert report.site("00").exists()


@pytest.mark.parametrize("n_bytes", [60_000, 8_000])
def test_a_full_disk_is_one_line(root, n_bytes):
    """Files of a limited size stand for it: of the notebook, then of the page as well."""
    write_notebook(root, "00_good", "print('x' * 100_000)")
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
    answer = subprocess.run(REPRODUCE, capture_output=True, text=True, preexec_fn=limit, timeout=90)
    assert "[00_good] FAILED: cell 3/3: OSError: [Errno 27] File too large" in answer.stdout
    if n_bytes < 20_000:
        assert answer.returncode == 2
        assert "index.html: cannot be written (File too large); choose a place" in answer.stderr
        assert answer.stderr.count("\n") == 1
    else:
        assert answer.returncode == 1
        assert answer.stderr == ""
        assert answer.stdout.splitlines()[-2] == "0 of 1 passed"
        assert (only_run(root) / "index.html").exists()
    assert "Traceback" not in answer.stdout


def test_a_run_ends_with_the_make_that_started_it(root):
    (root / "Makefile").write_text(f"run:\n\t@{' '.join(REPRODUCE)}\n")
    with slow_run(root, ["make", "-s", "-C", str(root)]) as (make, kernel, child):
        make.kill()
        wait_for(lambda: not alive(kernel) and not alive(child), seconds=6)


def test_a_notebook_over_the_time_limit_is_stopped(root):
    write_notebook(root, "01_slow", SLOW)
    assert not reproduce(limit_s=10)
    assert reasons(only_run(root)) == {"01_slow": "cell 3/3: limit of 10 s reached"}
    assert not any(alive(int(pid)) for pid in (root / "log").read_text().split())


def test_a_page_that_cannot_be_made_is_a_failure(root, monkeypatch):
    write_notebook(root, "00_good")

    fault = BadInput("formula x", "it is unknown", "write another")
    monkeypatch.setattr(batch.report, "notebook_page", Mock(side_effect=fault))
    assert not reproduce()
    assert reasons(only_run(root)) == {"00_good": "formula x: it is unknown; write another"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "smok"}, "profile 'smok': is unknown; choose smoke, full, paper"),
        ({"profile": "paper"}, "profile 'paper' of 00_good: does not go with data set 'synthetic'"),
        ({"notebooks": "07"}, "notebook 07: there is none; choose among 00"),
        ({"notebooks": " "}, "none chosen"),
        ({"workers": 0}, "workers: is 0"),
        ({"params": {"SEDES": 3}}, "'SEDES': is unknown; choose DATASET, SEED, SEEDS"),
        ({"params": {"OUT": "x"}}, "parameter 'OUT': is unknown"),
        *(
            ({"params": {"SEED": n}}, f"parameter SEED of 00_good: {n!r} given")
            for n in ("4", 4.5, True)
        ),
        ({"params": {"SEEDS": {1, 2}}}, "parameter SEEDS: "),
        ({"write_results": True}, "only the profile full"),
        ({"params": {"SEEDS": "\udcff"}}, "parameter SEEDS: "),
    ],
)
def test_bad_input_is_refused_before_anything_runs(root, arguments, message):
    write_notebook(root, "00_good")
    refused(lambda: reproduce(**arguments), message)
    assert not (root / "runs").exists()


def test_places_and_parameters_cells_that_are_refused(root):
    for cell, message in {
        "OUT = None\nN = len('x')": "not NAME = literal: N = len('x')",
        "PROFILE = OUT = None": "not NAME = literal: PROFILE = OUT = None",
        "import os": "not NAME = literal: import os",
        "OUT = 1\nOUT += 2": "not NAME = literal: OUT += 2",
        "OUT = {[]: 1}": "not NAME = literal: OUT = {[]: 1}",
        "PROFILE =": "write only NAME = literal",
    }.items():
        write_notebook(root, "00_good", parameters=cell)
        refused(reproduce, "00_good.ipynb", message)
    write_notebook(root, "00_good")
    (root / "runs").write_text("in the way")
    refused(reproduce, "runs/", ": cannot write there ", "; make it writable")


def test_parameters_go_where_they_are_declared_if_their_type_fits(root):
    one = write_notebook(root, "00_good")
    for params in ({"SEED": 5}, {"SEEDS": [1]}, {"SEEDS": None}):
        assert course.injected([one], "full", params) == {one: {"PROFILE": "full", **params}}
    two = write_notebook(root, "01_video", parameters=f"{PARAMETERS}\nWEIGHTS: str = 'x'")
    values = course.injected([one, two], "smoke", {"WEIGHTS": "imagenet"})
    assert "WEIGHTS" not in values[one]
    assert values[two]["WEIGHTS"] == "imagenet"


def by_reproduce(root: Path, values: dict) -> dict:
    """What a notebook gets of `reproduce`."""
    known = dict.fromkeys(values) | {"DATASET": "synthetic", "DEVICE": "auto"}
    cell = "\n".join(f"{name} = {value!r}" for name, value in known.items())
    path = write_notebook(root, "04b_mimamo_ablation", parameters=cell)
    params = {name: value for name, value in values.items() if name != "PROFILE"}
    return course.injected([path], values.get("PROFILE", "smoke"), params)[path]


def by_the_first_cell(root: Path, values: dict) -> dict:
    """What a notebook has after its first cell, with plain papermill or in JupyterLab."""
    own = {"PROFILE": "smoke", "SEEDS": None, "VARIANTS": None, "a": [1]} | values
    course.check("04b_mimamo_ablation", own, ("ours", "as released"))
    assert own.pop("a") == [1]  # only parameters are looked at
    return own


DOORS = pytest.mark.parametrize("door", [by_reproduce, by_the_first_cell])


@DOORS
@pytest.mark.parametrize(
    ("values", "words"),
    [
        *(({"SEEDS": v}, "SEEDS") for v in (3, "3", "all", "[0, 1", [], [0, 0], [-1], [2**32])),
        *(({"SEEDS": v}, "SEEDS") for v in ([True], [1.0], [[0]], {"0": 1}, 1.5, "[0, 'x']")),
        *(({"VARIANTS": v}, "VARIANTS") for v in (0, [], ["ours", "ours"], [1], "", "['ours', 1]")),
        *(({"FOLDS": v}, "FOLDS") for v in (1, 0, -2, 2.0, True, "5", [5])),
        *(({"TRIAL": v}, "TRIAL") for v in (True, "1", -1, 0.5)),
        *(({name: 1}, f"{name}=1") for name in ("SWEEP", "TRIAL")),  # of no use in smoke
        *(({"DEVICE": v}, "DEVICE") for v in ("banana", "cuda:99", "meta", "CPU", "", 0, "cpu:7")),
        *(({"PROFILE": v}, "profile") for v in ("Smoke", "FULL", " full", "papers", "", 1, None)),
        *(({"DATASET": v}, "DATASET") for v in ("omg", "banana", 3)),
        *(({"DATASET": v, "PROFILE": "paper"}, "DATASET") for v in ("casme2", "OMG", "Omg ", "")),
        *(({"DATA_ROOT": v}, "DATA_ROOT") for v in ("nowhere", "", 3, "~nobody/x", "x" * 5000)),
        ({"DATASET": "omg", "PROFILE": "paper", "DATA_ROOT": None}, "DATA_ROOT"),
        ({"DATASET": "omg", "PROFILE": "paper", "DATA_ROOT": "file"}, "DATA_ROOT"),
        *(({name: "absent.mp4"}, name) for name in ("VIDEO", "WEIGHTS_FILE")),
    ],
)
def test_odd_values_are_refused_at_every_door(root, monkeypatch, door, values, words):
    monkeypatch.chdir(root)
    (root / "file").touch()
    refused(lambda: door(root, values), words)
    assert not (root / "runs").exists()


@DOORS
def test_lists_come_as_text_and_paths_as_the_user_writes_them(root, monkeypatch, door):
    caller, kernel, home = root / "caller", root / "kernel", root / "home"
    for folder in (caller / "data", home / "data", kernel / "data", kernel / "beside"):
        folder.mkdir(parents=True)
    (caller / "w.pth").touch()
    monkeypatch.setenv("PWD", str(caller))  # as a shell sets it
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(caller if door is by_reproduce else kernel)
    for given, meant in {
        ("SEEDS", "[0, 1]"): [0, 1],
        ("SEEDS", "(3,)"): [3],
        ("SEEDS", (4, 5)): [4, 5],
        ("VARIANTS", "ours"): ["ours"],
        ("VARIANTS", "['ours', 'as released']"): ["ours", "as released"],
        ("FOLDS", 2): 2,
        ("DEVICE", "cpu:0"): "cpu:0",
        ("DATA_ROOT", "data"): str(caller / "data"),
        ("DATA_ROOT", "~/data"): str(home / "data"),
        ("DATA_ROOT", "../home"): str(home),
        ("DATA_ROOT", str(home)): str(home),
        ("WEIGHTS", "ferplus"): "ferplus",
        ("WEIGHTS", "w.pth"): str(caller / "w.pth"),
        ("WEIGHTS_FILE", "w.pth"): str(caller / "w.pth"),
    }.items():
        name, value = given
        assert door(root, {name: value})[name] == meant, given
    if door is by_the_first_cell:  # the batch's OUT is its own
        assert door(root, {"DATA_ROOT": home})["DATA_ROOT"] == str(home)
        assert door(root, {"DATA_ROOT": "beside"})["DATA_ROOT"] == str(kernel / "beside")
        assert door(root, {"OUT": "new/out"})["OUT"] == str(caller / "new" / "out")
        refused(lambda: door(root, {"OUT": "w.pth"}), "w.pth", "cannot write there")
        refused(lambda: door(root, {"VARIANTS": "hours"}), "VARIANTS 'hours'", "ours, as released")


def test_the_device_of_a_notebook(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for values, device in (
        ({"PROFILE": "full"}, "cuda"),
        ({"PROFILE": "full", "TRIAL": 1}, "cpu"),
        ({"PROFILE": "smoke"}, "cpu"),
        ({"PROFILE": "smoke", "DEVICE": "cuda:1"}, "cuda:1"),
        ({"PROFILE": "full", "DEVICE": "cpu"}, "cpu"),
    ):
        assert course.check("00_start_here", values) == device
    refused(
        lambda: course.check("00_start_here", {"PROFILE": "full", "DEVICE": "cuda:2"}), "cuda:2"
    )


def test_a_data_set_goes_with_its_adapter_its_folder_and_the_profile_paper(root, monkeypatch):
    path = write_notebook(root, "00_good", parameters=f"{PARAMETERS}\nDATA_ROOT = None")
    real = {"DATASET": "casme2", "DATA_ROOT": str(root)}
    refused(lambda: course.injected([path], "paper", real), "DATASET of 00_good", "synthetic")
    monkeypatch.setitem(course.PLAN, "00", course.Planned("Good", "", datasets=["casme2"]))
    monkeypatch.chdir(root.parent)
    near = {**real, "DATA_ROOT": root.name}  # a relative path is the caller's
    assert course.injected([path], "paper", near) == {path: {"PROFILE": "paper", **real}}
    refused(lambda: course.injected([path], "full", real), "profile 'full' of", "DATA_ROOT")
    for missing in (None, "", str(root / "nowhere")):
        values = {**real, "DATA_ROOT": missing}
        words = "DATA_ROOT", "; give "
        refused(lambda values=values: course.injected([path], "paper", values), *words)
    both = [path, write_notebook(root, "01_other")]
    refused(lambda: course.injected(both, "paper", real), "DATASET of 01_other", "synthetic")


def test_a_lesson_has_no_units_though_its_system_has(root):
    write_notebook(root, "06_expression_spotting")
    refused(lambda: course.compute("06"), "06_expression_spotting", "has no grid of units")


def test_a_trial_is_not_recorded(root):
    write_notebook(root, "00_good", parameters=f"{PARAMETERS}\nTRIAL = 0")
    call = partial(reproduce, "full", params={"TRIAL": 1}, write_results=True)
    refused(call, "--write-results", "no trial")
    call = partial(reproduce, "full", params={"SEEDS": [0]}, write_results=True)
    refused(call, "--write-results", "SEEDS", "rows of a part")


def test_notebooks_are_chosen_by_number_or_name(root):
    names = ("00_good", "04_next", "04b_ablation", "10_last")
    paths = [write_notebook(root, name) for name in names]
    write_notebook(root, "scratch")
    assert course.choose() == paths
    assert course.choose("10, 4") == [paths[1], paths[3]]
    assert course.choose("04b 04_next.ipynb 04") == paths[1:3]
    refused(lambda: course.choose("1"), "notebook 1: there is none; choose among 00, 04, 04b, 10")
    shutil.rmtree(root / "notebooks")
    refused(course.choose, "no numbered notebook there")


def test_results_are_copied_for_notebooks_that_passed(root):
    folder, kept, claims = root / "x", root / "data" / "results", root / "data" / "claims.csv"
    (folder / "rows").mkdir(parents=True)
    kept.mkdir(parents=True)
    good = ["full__cpu.csv", "sweep__cpu.csv", "full__cpu__predictions.npz"]
    good = {f"00_good__{name}": b"\xff\x00" + name.encode() for name in good}
    for name, content in (good | {"01_bad__full__cpu.csv": b""}).items():
        (folder / "rows" / name).write_bytes(content)
    claims.write_text("claim,source,contrast,margin,verdict,effect,low,high,n\nx,,a - b,0.1,,,,,\n")
    for name, effect in (("00_good", 0.4), ("01_bad", -0.4)):
        interval = statistics.Interval(effect, effect - 0.1, effect + 0.1, 8)
        statistics.hand_over(name, {"x": interval}, folder)
    batch._keep_results(folder, ["00_good"])
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == good
    assert "a - b,0.1,holds,0.4,0.3,0.5,8" in claims.read_text()


def test_baking_keeps_outputs_and_drops_litter(root, capsys):
    good = write_notebook(root, "00_good", PICTURE, "6 * 7")
    bad = write_notebook(root, "01_raises", "1 / 0")
    untouched = bad.read_bytes()
    assert not bake()
    assert bad.read_bytes() == untouched
    assert "ZeroDivisionError" in capsys.readouterr().out
    text = good.read_text()
    assert text.endswith("}\n")
    baked = nbformat.reads(text, as_version=4)
    code = [cell for cell in baked.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3]  # nothing was injected
    assert [cell.metadata for cell in code] == [{"tags": ["parameters"]}, {}, {}]
    assert set(code[1].outputs[0].data) == {"image/png", "text/plain"}
    assert code[2].outputs[0].data["text/plain"] == "42"


def test_what_killed_runs_have_left_half_written_goes_with_the_next_run(root, monkeypatch):
    write_notebook(root, "00_good", "1")
    rows = root / "runs" / "20260101T000000.000000Z" / "rows"
    rows.mkdir(parents=True)
    (rows / ".micromacro-0123456789abcdef.part").touch()
    (rows / "mine.part").touch()
    monkeypatch.setattr(batch, "_execute", lambda *_: [])
    monkeypatch.setattr(batch.report, "run_page", lambda folder, run, pages: folder)
    reproduce()
    assert [path.name for path in rows.iterdir()] == ["mine.part"]


def test_cleaning_drops_what_varies():
    view = "application/vnd.jupyter.widget-view+json"
    view = V4.new_output("display_data", {view: {"model_id": "1f"}, "text/plain": "interactive"})
    texts = [V4.new_output("stream", text=text) for text in "ab"]
    noise = V4.new_output("stream", name="stderr", text="50 %")
    metadata = {"papermill": {}, "execution": {}, "tags": []}
    cell = V4.new_code_cell("x", metadata=metadata, outputs=[texts[0], noise, texts[1], view])
    notebook = V4.new_notebook(cells=[cell], metadata={"widgets": {}, "papermill": {}})
    shown = {"image/png": {"alt": "A face.", "width": 448}}
    figure = {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"}
    figure = V4.new_output("display_data", figure, metadata=shown | {"papermill": {}})
    cell.outputs.append(figure)
    joined, plain, drawn = clean(notebook).cells[0].outputs
    assert [joined.text, plain.data] == ["ab", {"text/plain": "interactive"}]
    assert drawn.metadata == shown
    assert plain.metadata == {}
    assert notebook.cells[0].metadata == {}
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert "version" not in notebook.metadata.language_info
    once = nbformat.writes(notebook)
    assert nbformat.writes(clean(notebook)) == once


@pytest.mark.slow
def test_kernels_that_start_together_do_not_race_for_ports(root):
    for number in range(12):
        write_notebook(root, f"{number:02}_good", "1")
    assert reproduce(workers=6)


def test_the_contents_are_read_off_notebooks_and_claims():
    """Against a plain count of the lines of the table, and the names of the files."""
    table = course.contents()
    files = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9][0-9]*.ipynb"))
    names = [file.stem.partition("_")[0] for file in files]
    assert " ".join(table["notebooks"]).split() == names
    assert list(table.index) == sorted({name[:2] for name in names})
    with (Path(__file__).parents[1] / "data" / "claims.csv").open() as lines:
        claims = [line for line in csv.DictReader(lines) if line["kind"] == "finding"]
    assert table["claims"].sum() == len(claims)
    for number, said in table["judged"].items():
        own = [c["verdict"] for c in claims if c["claim"].startswith(number) and c["verdict"]]
        counted = {f"{own.count(word)} {word}" for word in own}
        assert set(said.split(", ")) == (counted or {""})
    assert table.loc["03", ["title", "notebooks"]].tolist() == ["Phase versus flow", "03"]
    assert table.loc["04", "minutes"] > table.loc["03", "minutes"]
