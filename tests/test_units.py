"""Units: keys, cache, failures, killed processes, two processes at once."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from micromacro import units as experiments
from micromacro.errors import BadInput
from micromacro.unit_store import decode, done, encode, process_alive
from micromacro.units import UnitFailure, run, unit_key
from micromacro.workers import run_tasks

# A module that worker processes, and whole other programs, can import.
UNITS = """
import os, signal, sys, time
from pathlib import Path

def log(line):
    with Path(os.environ["UNIT_LOG"]).open("a") as file:
        file.write(f"{line}\\n")

def slow(a):
    log(f"{a} {os.getpid()}")
    time.sleep(0.1)
    while a >= 4 and not Path("go").exists():
        time.sleep(0.02)
    return {"a": a}

def failing(a):
    log(a)
    if a == 1:
        raise ValueError("one is bad")
    return {"a": a}

def killed(a, always):
    marker = Path(os.environ["UNIT_LOG"] + f".{a}")
    if always or not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"a": a}

def threads():
    return {"threads": os.environ["OMP_NUM_THREADS"]}

def nap(seconds, note):
    note("here")
    time.sleep(seconds)
    return seconds

if __name__ == "__main__":
    from micromacro.units import run
    import units_of_test
    for result in run(units_of_test.slow, [{"a": a} for a in range(8)], workers=2):
        print(result.metrics["a"])
"""


@pytest.fixture
def units(tmp_path, monkeypatch):
    """The module above; its log and its runs lie in tmp_path."""
    (tmp_path / "units_of_test.py").write_text(UNITS)
    monkeypatch.setenv("UNIT_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    import units_of_test

    yield units_of_test
    del sys.modules["units_of_test"]


def calls(tmp_path) -> list[str]:
    log = tmp_path / "log"
    return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []


def start_program(tmp_path) -> subprocess.Popen:
    program = [sys.executable, str(tmp_path / "units_of_test.py")]
    return subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=tmp_path)


def stored(tmp_path) -> list[Path]:
    return sorted(p for p in (tmp_path / "runs" / "units").iterdir() if p.name != ".locks")


def measure(a, b=0.5, device="cpu"):
    metrics = {"nan": math.nan, "inf": -math.inf, "np": np.float32(0.25), "list": [a, (b, None)]}
    arrays = {"truth": np.arange(a), "clip": np.array(["s1/c1", "s2/c2"])}
    return metrics, arrays


def plain(a):
    return {"a": a}


def test_a_unit_comes_back_as_it_was(tmp_path):
    (result,) = run(measure, [{"a": 3, "device": "cuda"}], root=tmp_path)
    assert math.isnan(result.metrics["nan"])
    assert result.metrics["inf"] == -math.inf
    assert result.metrics["np"] == 0.25
    assert result.metrics["list"] == [3, [0.5, None]]
    predictions = result.predictions()
    assert predictions["truth"].tolist() == [0, 1, 2]
    assert predictions["clip"].tolist() == ["s1/c1", "s2/c2"]
    assert result.provenance["device"] == "cuda"
    assert not result.cached
    again = run(measure, [{"a": 3, "device": "cuda"}], root=tmp_path)[0]
    assert again.cached
    assert again.provenance == result.provenance


def test_metrics_are_strict_json(tmp_path):
    (result,) = run(measure, [{"a": 1}], root=tmp_path)

    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    text = (result.folder / "metrics.json").read_text()
    assert json.loads(text, parse_constant=refuse)["metrics"]["nan"] == {"float": "nan"}


@pytest.mark.parametrize("value", [1, 1.5, True, None, "nan", [1, [2]], {"float": 2.0}, {"a": {}}])
def test_encode_and_decode_are_inverse(value):
    back = decode(json.dumps(encode(value), allow_nan=False))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("value", [{1: 2}, {1, 2}, 1j, object()])
def test_encode_refuses_what_json_would_change(value):
    with pytest.raises(TypeError):
        encode(value)


def test_the_key_follows_what_decides_the_numbers(tmp_path, monkeypatch):
    source = tmp_path / "model.py"
    source.write_text("x = 1\n")
    monkeypatch.setattr(experiments, "package_sources", lambda without: [source])
    key = unit_key(measure, {"a": 1, "b": 2.0})
    assert unit_key(measure, {"b": 2.0, "a": 1}) == key
    assert unit_key(measure, {"a": 1, "b": 2.5}) != key
    assert unit_key(plain, {"a": 1, "b": 2.0}) != key
    source.write_text("x = 2\n")
    assert unit_key(measure, {"a": 1, "b": 2.0}) != key


def test_the_hashed_sources_are_the_package_but_the_machinery():
    hashed = {path.name for path in experiments.package_sources(experiments.NOT_HASHED)}
    assert {"errors.py", "video.py", "experiments.py", "unit_store.py"} <= hashed
    assert not hashed & experiments.NOT_HASHED
    assert not any(name.endswith(".pyc") for name in hashed)


def test_units_keep_the_order_of_the_grid_and_are_computed_once(units, tmp_path):
    grid = [{"a": a} for a in (2, 0, 1, 2, 0)]
    results = run(units.slow, grid, workers=2)
    assert [result.metrics["a"] for result in results] == [2, 0, 1, 2, 0]
    assert sorted(calls(tmp_path)) == ["0", "1", "2"]
    assert all(result.cached for result in run(units.slow, grid, workers=0))
    assert len(calls(tmp_path)) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_unit_is_named_and_stops_no_other(units, tmp_path, workers):
    with pytest.raises(UnitFailure, match=r'(?s)failing failed.*\{"a": 1\}.*one is bad') as caught:
        run(units.failing, [{"a": a} for a in range(3)], workers=workers)
    assert [params for params, _ in caught.value.failures] == [{"a": 1}]
    assert len(stored(tmp_path)) == 2
    with pytest.raises(UnitFailure):
        run(units.failing, [{"a": a} for a in range(3)], workers=0)
    assert sorted(calls(tmp_path)) == ["0", "1", "1", "2"]


def test_a_killed_worker_costs_its_own_unit_a_second_try_only(units, tmp_path, capsys):
    grid = [{"a": 0, "always": False}, {"a": 1, "always": True}, {"a": 2, "always": False}]
    with pytest.raises(UnitFailure) as caught:
        run(units.killed, grid, workers=2)
    assert [params["a"] for params, _ in caught.value.failures] == [1]
    assert "killed (SIGKILL)" in str(caught.value)
    assert capsys.readouterr().err.count("trying once more") == 3
    run(units.killed, [grid[0], grid[2]], workers=0)  # there; else this process would be killed
    assert len([p for p in stored(tmp_path) if p.name[0] != "."]) == 2


def test_workers_have_one_thread(units, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert run(units.threads, [{}], workers=1)[0].metrics == {"threads": "1"}
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_two_programs_on_one_grid_share_the_work(units, tmp_path):
    (tmp_path / "go").touch()
    programs = [start_program(tmp_path) for _ in range(2)]
    outputs = [program.communicate(timeout=60)[0] for program in programs]
    assert [program.returncode for program in programs] == [0, 0]
    assert outputs[0].split() == outputs[1].split() == [str(a) for a in range(8)]
    assert sorted(calls(tmp_path)) == [str(a) for a in range(8)]
    assert all((folder / "DONE").exists() for folder in stored(tmp_path))


def test_a_killed_program_leaves_no_orphan_no_torn_unit_and_is_resumed(
    units, tmp_path, monkeypatch
):
    program = start_program(tmp_path)
    wait_for(lambda: len(calls(tmp_path)) == 6)  # four are stored, two workers wait for "go"
    program.kill()
    program.wait()
    program.stdout.close()
    pids = {int(line.split()[1]) for line in (tmp_path / "log").read_text().splitlines()}
    wait_for(lambda: not any(map(process_alive, pids)), seconds=3)
    assert sum((folder / "DONE").exists() for folder in stored(tmp_path)) == 4
    (tmp_path / "go").touch()
    monkeypatch.chdir(tmp_path)
    results = run(units.slow, [{"a": a} for a in range(8)], workers=2)
    assert [result.metrics["a"] for result in results] == list(range(8))
    assert [result.cached for result in results] == [True] * 4 + [False] * 4
    assert sorted(calls(tmp_path)) == sorted("0123" + "4455" + "67")
    assert all((folder / "DONE").exists() for folder in stored(tmp_path))


def test_a_torn_folder_is_never_taken_for_a_unit(tmp_path):
    (first,) = run(plain, [{"a": 1}], root=tmp_path)
    assert done(first.folder.parent, first.folder.name)
    (first.folder / "DONE").unlink()
    assert not done(first.folder.parent, first.folder.name)
    (first.folder / "metrics.json").write_text('{"metrics": {"a"')
    torn = first.folder.with_name("0123456789abcdef0123")  # of a unit that nobody asks for again
    torn.mkdir()
    (again,) = run(plain, [{"a": 1}], root=tmp_path)
    assert not again.cached
    assert again.metrics == {"a": 1}
    assert not torn.exists()


def test_attempts_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = tmp_path / "runs" / "units"
    host = os.uname().nodename
    dead, living = (folder / f".attempt-{host}-{pid}-x_1" for pid in (gone.pid, os.getppid()))
    elsewhere = folder / f".attempt-other-{gone.pid}-x"
    for attempt in (dead, living, elsewhere):
        attempt.mkdir(parents=True)
    run(plain, [{"a": 1}], root=tmp_path)
    assert not dead.exists()
    assert living.exists()
    assert elsewhere.exists()


def test_bad_units_and_parameters_are_refused(tmp_path):
    with pytest.raises(BadInput, match="import it by name"):
        run(lambda: {"a": 1}, [{}], root=tmp_path)
    with pytest.raises(BadInput, match="parameter a"):
        run(plain, [{"a": {1, 2}}], root=tmp_path)
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(BadInput, match="cannot write there"):
        run(plain, [{"a": 1}], root=tmp_path)


def test_a_unit_must_return_what_can_be_stored(tmp_path):
    with pytest.raises(UnitFailure, match="not a JSON value"):
        run(returns_an_object, [{}], root=tmp_path)
    assert stored(tmp_path) == []


def returns_an_object():
    return {"model": object()}


def test_a_late_task_is_killed_and_the_rest_goes_on(units):
    events = list(run_tasks(units.nap, [60, 0.01], workers=2, limit_s=1, tick_s=0.1))
    ends = {e.index: (e.kind, e.value) for e in events if e.kind in ("done", "error", "died")}
    assert ends == {0: ("died", "time limit of 1 s reached"), 1: ("done", 0.01)}
    assert {e.index for e in events if e.kind == "note"} <= {0, 1}
    assert not any(e.kind == "retry" for e in events)
    assert any(e.kind == "tick" for e in events)


def wait_for(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_zombie_is_not_alive():
    assert process_alive(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert process_alive(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    wait_for(lambda: not process_alive(child.pid))  # a zombie until waited for
    child.wait()
