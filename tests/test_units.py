"""Units: what comes back, keys, failures, torn folders, killed processes, programs at once."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import micromacro
from micromacro import units as store
from micromacro.errors import BadInput
from micromacro.units import UnitFailure, bundles, decode, encode, run, shard, unit_key
from micromacro.workers import cores, cut

# A module that worker processes, and whole other programs, can import.
UNITS = """
import os, signal, sys, time
from pathlib import Path

def log(line):
    with Path(os.environ["UNIT_LOG"]).open("a") as file:
        file.write(f"{line} {os.getpid()}\\n")

def slow(a, seed=None):
    log(a)
    time.sleep(0.1)
    while a >= 4 and not Path(os.environ["UNIT_LOG"] + ".go").exists():
        time.sleep(0.02)
    return {"a": a}

def failing(a):
    log(a)
    if a == 1:
        raise ValueError("one is bad")
    return {"a": a}

def killed(a, always):
    log(a)
    marker = Path(os.environ["UNIT_LOG"] + f".{a}")
    if always or not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"a": a}

def threads():
    return {"threads": os.environ["OMP_NUM_THREADS"]}

def nap(seconds):
    log(seconds)
    time.sleep(seconds)
    return {"slept": seconds}

def labels(data, seed):
    return {"label": (Path(data["root"]) / "sheet.csv").read_text()}

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


def calls(tmp_path) -> list[tuple[str, int]]:
    """(first parameter, process) of each call, sorted."""
    log = tmp_path / "log"
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return sorted((a, int(pid)) for a, pid in map(str.split, lines))


def called(tmp_path) -> str:
    return "".join(a for a, _ in calls(tmp_path))


def start_program(tmp_path) -> subprocess.Popen:
    program = [sys.executable, str(tmp_path / "units_of_test.py")]
    return subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=tmp_path)


def stored(tmp_path) -> list[Path]:
    """Folders of units; of attempts there must be none."""
    folders = [p for p in (tmp_path / "runs/units").iterdir() if not p.name.startswith(".lock-")]
    assert all((folder / "DONE").exists() for folder in folders)
    return folders


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def measure(a, b=0.5, device="cpu"):
    metrics = {"nan": math.nan, "inf": -math.inf, "np": np.float32(0.25), "list": [a, (b, None)]}
    arrays = {"truth": np.arange(a), "clip": np.array(["s1/c1", "s2/c2"])}
    return metrics, arrays


def plain(a, seed=0):
    return {"a": a}


def returns_an_object():
    return {"model": object()}


def returns_objects():
    return {}, {"models": np.array([object()])}


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
    assert run(plain, [{"a": 1}], root=tmp_path)[0].predictions() == {}


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


def test_the_key_follows_what_decides_the_numbers(tmp_path):
    key = unit_key(measure, {"a": 1, "b": 2.0})
    assert unit_key(measure, {"b": 2.0, "a": 1}) == key
    others = [(measure, {"a": 1, "b": 2.5}), (measure, {"a": 1}), (plain, {"a": 1, "b": 2.0})]
    assert len({key, *(unit_key(*other) for other in others)}) == 4
    assert unit_key(measure, {"a": 1, "b": 2.0}, code="other") != key


@pytest.mark.parametrize("name", ["root", "data_root", "file", "weights_file", "weights", "path"])
def test_the_key_follows_the_content_of_files_that_parameters_name(tmp_path, name):
    file = tmp_path / "file"
    keys = set()
    for text in ("one", "two", "two"):
        file.write_text(text)
        keys.add(unit_key(plain, {"a": {name: str(file)}, "profile": str(file)}))
    assert len(keys) == 2
    assert unit_key(plain, {name: "imagenet"}) == unit_key(plain, {name: "imagenet"})


def test_a_corrected_label_is_computed_anew(units, tmp_path, monkeypatch):
    """Demonstration: the sheet's content is part of the key, by default and by the unit's list."""
    sheet, note = tmp_path / "data/sheet.csv", tmp_path / "data/note.txt"
    sheet.parent.mkdir()
    grid = [{"data": {"root": str(tmp_path / "data")}, "seed": 0}]
    for label in ("happy", "SADLY", "SADLY"):
        sheet.write_text(label)
        assert run(units.labels, grid)[0].metrics == {"label": label}
    assert len(stored(tmp_path)) == 2
    monkeypatch.setattr(units, "input_files", lambda params: [sheet], raising=False)
    for label in ("happy", "angry"):
        sheet.write_text(label)
        assert run(units.labels, grid, workers=0)[0].metrics == {"label": label}
    note.write_text("not listed")
    assert run(units.labels, grid)[0].cached


def test_a_source_edited_while_a_process_runs_stores_nothing_under_the_new_key(tmp_path):
    """Demonstration: the process with the old code is told to restart; a new one computes."""
    source = Path(micromacro.__file__).parent
    shutil.copytree(source, tmp_path / "micromacro", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "micromacro/helper.py").write_text("VALUE = 1\n")
    (tmp_path / "micromacro/own.py").write_text(
        "def unit():\n    from micromacro.helper import VALUE\n    return {'value': VALUE}\n"
    )
    program = """
import sys
from micromacro import own
from micromacro.units import run
if sys.argv[1] == "loaded":
    import micromacro.helper
print("ready", flush=True)
input()
try:
    print(run(own.unit, [{}], workers=int(sys.argv[2]), root=".")[0].metrics)
except Exception as error:
    print(error)
"""

    def start(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-c", program, *arguments]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes)
        assert process.stdout.readline() == "ready\n"
        return process

    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    old, lazy = start("loaded", "0"), start("not loaded", "0")
    (tmp_path / "micromacro/helper.py").write_text("VALUE = 22\n")
    message = old.communicate("\n", timeout=60)[0]
    assert message.endswith(
        "helper.py: was edited after this process loaded it; restart the kernel or the program\n"
    )
    assert not list(tmp_path.glob("runs/units/*"))
    assert lazy.communicate("\n", timeout=60)[0] == "{'value': 22}\n"
    assert start("loaded", "1").communicate("\n", timeout=60)[0] == "{'value': 22}\n"
    assert len(stored(tmp_path)) == 1


def test_the_key_is_checked_again_where_the_unit_runs(units, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "code_key", lambda code: "of the code that asks")
    with pytest.raises(UnitFailure, match=r"on .* has other code, .*restart") as caught:
        run(units.slow, [{"a": 0}], workers=1)
    assert len(str(caught.value).splitlines()) == 2
    assert called(tmp_path) == ""


def test_units_keep_the_order_of_the_grid_and_are_computed_once(units, tmp_path):
    grid = [{"a": a} for a in (2, 0, 1, 2, 0)]
    results = run(units.slow, grid, workers=2)
    assert [result.metrics["a"] for result in results] == [2, 0, 1, 2, 0]
    assert called(tmp_path) == "012"
    assert all(result.cached for result in run(units.slow, grid, workers=0))
    assert called(tmp_path) == "012"


def test_bundles_share_data_and_seed_fold_by_fold():
    grid = [{"seed": s, "fold": f, "arm": a} for a in "xy" for s in (0, 1) for f in (0, 1)]
    assert bundles(grid) == [[0, 4, 1, 5], [2, 6, 3, 7]]
    assert bundles([{"data": {"n": 1}}, {"data": {"n": 2}}, {"data": {"n": 1}}]) == [[0, 2], [1]]
    assert bundles([{"a": 1}, {"a": 1}]) == [[0], [1]]
    assert cut([[0, 1, 2, 3], [4]], 2) == [[0, 1, 2, 3], [4]]
    assert cut([[0, 1, 2, 3], [4]], 4) == [[0], [1], [2, 3], [4]]
    assert cut([[0, 1]], 9) == [[0], [1]]
    assert cut([], 9) == []


def test_a_bundle_stays_on_one_worker(units, tmp_path):
    (tmp_path / "log.go").touch()
    run(units.slow, [{"a": a, "seed": a // 2} for a in range(4, 12)], workers=2)
    workers = dict(calls(tmp_path))
    assert all(workers[str(a)] == workers[str(a + 1)] for a in range(4, 12, 2))
    assert len(set(workers.values())) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_unit_is_named_and_stops_no_other(units, tmp_path, workers):
    with pytest.raises(UnitFailure, match=r'(?s)failing failed.*\{"a": 1\}.*one is bad') as caught:
        run(units.failing, [{"a": a} for a in range(3)], workers=workers)
    assert [params for params, _ in caught.value.failures] == [{"a": 1}]
    assert len(stored(tmp_path)) == 2
    with pytest.raises(UnitFailure):
        run(units.failing, [{"a": a} for a in range(3)], workers=0)
    assert called(tmp_path) == "0112"


def test_a_killed_worker_costs_its_own_unit_a_second_try_only(units, tmp_path):
    grid = [{"a": 0, "always": False}, {"a": 1, "always": True}, {"a": 2, "always": False}]
    with pytest.raises(UnitFailure, match=r"died twice \(SIGKILL\)") as caught:
        run(units.killed, grid, workers=2)
    assert [params["a"] for params, _ in caught.value.failures] == [1]
    assert called(tmp_path) == "001122"
    run(units.killed, [grid[0], grid[2]], workers=0)  # there; else this process would be killed
    assert len(stored(tmp_path)) == 2


def test_a_late_unit_is_killed_and_the_rest_goes_on(units, tmp_path):
    grid = [{"seconds": seconds} for seconds in (60, 0.01, 0.02)]
    with pytest.raises(UnitFailure, match=r"60\}: time limit of 0.7 s reached") as caught:
        run(units.nap, grid, workers=2, limit_s=0.7)
    assert len(caught.value.failures) == 1
    assert len(calls(tmp_path)) == 3
    wait_for(lambda: not any(alive(pid) for _, pid in calls(tmp_path)), seconds=3)
    for wrong in ({"workers": 0}, {"workers": 2, "scheduler": "tcp://127.0.0.1:1"}):
        with pytest.raises(BadInput, match="limit_s"):
            run(units.nap, grid, limit_s=1, **wrong)


def test_workers_have_one_thread_and_come_from_the_environment(units, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("MICROMACRO_WORKERS", "1")
    assert run(units.threads, [{}])[0].metrics == {"threads": "1"}
    assert os.environ["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("MICROMACRO_WORKERS", "many")
    with pytest.raises(BadInput, match="MICROMACRO_WORKERS=many"):
        run(units.threads, [{}])


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert cores() == 3
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert cores() == 2


def test_two_programs_on_one_grid_share_the_work(units, tmp_path):
    (tmp_path / "log.go").touch()
    programs = [start_program(tmp_path) for _ in range(2)]
    outputs = [program.communicate(timeout=60)[0] for program in programs]
    assert [program.returncode for program in programs] == [0, 0]
    assert outputs[0].split() == outputs[1].split() == [str(a) for a in range(8)]
    assert called(tmp_path) == "01234567"
    assert len(stored(tmp_path)) == 8


def test_a_killed_program_leaves_no_orphan_no_torn_unit_and_is_resumed(units, tmp_path):
    program = start_program(tmp_path)
    wait_for(lambda: len(calls(tmp_path)) == 6)  # four are stored, two workers wait for "go"
    program.kill()
    program.communicate()
    wait_for(lambda: not any(alive(pid) for _, pid in calls(tmp_path)), seconds=3)
    (tmp_path / "log.go").touch()
    results = run(units.slow, [{"a": a} for a in range(8)], workers=2)
    assert [result.metrics["a"] for result in results] == list(range(8))
    assert [result.cached for result in results] == [True] * 4 + [False] * 4
    assert called(tmp_path) == "0123" + "4455" + "67"
    assert len(stored(tmp_path)) == 8


@pytest.mark.parametrize("name", ["metrics.json", "predictions.npz", "DONE"])
@pytest.mark.parametrize("fault", ["gone", "empty", "cut", "other"])
def test_a_torn_folder_is_computed_again(tmp_path, name, fault):
    (first,) = run(measure, [{"a": 2}], root=tmp_path)
    path = first.folder / name
    content = path.read_bytes()
    path.unlink()
    if fault != "gone":
        path.write_bytes({"empty": b"", "cut": content[:-9], "other": b"[1]"}[fault])
    (again,) = run(measure, [{"a": 2}], root=tmp_path)
    assert not again.cached
    assert again.predictions()["truth"].tolist() == [0, 1]
    assert len(stored(tmp_path)) == 1


def test_what_is_not_ours_is_left_alone_and_what_the_dead_left_goes(tmp_path):
    folder = tmp_path / "runs/units"
    for name in ("2025", "cafe", "0123456789abcdef0123", ".part-0123456789abcdef0123-x"):
        (folder / name).mkdir(parents=True)
        (folder / name / "notes.txt").write_text("mine")
    run(plain, [{"a": 1}], root=tmp_path)
    left = {path.name for path in folder.glob("*/notes.txt") for path in [path.parent]}
    assert left == {"2025", "cafe", "0123456789abcdef0123"}


def test_bad_units_parameters_and_places_are_refused(tmp_path):
    with pytest.raises(BadInput, match="import it by name"):
        run(lambda: {"a": 1}, [{}], root=tmp_path)
    with pytest.raises(BadInput, match="parameter a"):
        run(plain, [{"a": {1, 2}}], root=tmp_path)
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(BadInput, match="cannot write there"):
        run(plain, [{"a": 1}], root=tmp_path)


@pytest.mark.parametrize("unit", [returns_an_object, returns_objects])
def test_a_unit_must_return_what_can_be_stored(tmp_path, unit):
    with pytest.raises(UnitFailure, match=r"not a JSON value|arrays of numbers"):
        run(unit, [{}], root=tmp_path)
    assert stored(tmp_path) == []


def test_shards_fill_a_grid_together_with_bundles_whole(tmp_path):
    grid = [{"a": a, "seed": a // 2} for a in range(10)]
    parts = [shard(plain, grid, f"{i}/3", root=tmp_path) for i in (1, 2, 3)]
    seeds = [{result.params["seed"] for result in part} for part in parts]
    assert sorted(map(len, seeds)) == [1, 2, 2]
    assert set.union(*seeds) == set(range(5))
    assert all(result.cached for result in run(plain, grid, root=tmp_path))
    assert shard(plain, grid[:1], "2/2", root=tmp_path) == []
    for part in ("0/3", "4/3", "3", "a/b", "1/0", "-1/3"):
        with pytest.raises(BadInput, match=f"--shard {part}"):
            shard(plain, grid, part, root=tmp_path)


def test_a_thousand_stored_units_are_read_in_a_second(tmp_path):
    grid = [{"a": a} for a in range(1000)]
    run(plain, grid[:1], root=tmp_path)
    (folder,) = stored(tmp_path)
    code = store.code_key(plain)
    for params in grid[1:]:
        shutil.copytree(folder, folder.with_name(unit_key(plain, params, code=code)))
    began = time.monotonic()
    assert all(result.cached for result in run(plain, grid, root=tmp_path))
    assert time.monotonic() - began < 2
