"""Units: what comes back, keys, failures, torn folders, killed processes, programs at once."""

import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import processes
import pytest
from processes import alive, called, calls, wait_for
from refusals import refused

import micromacro
from micromacro import cli, files
from micromacro import units as store
from micromacro.errors import BadInput
from micromacro.units import UnitFailure, bundles, cores, cut, run, shard, unit_key


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Folder of the stored units; the working directory has the log of `processes`."""
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs/units"


def start_program() -> subprocess.Popen:
    program = [sys.executable, processes.__file__, "2"]
    return subprocess.Popen(program, stdout=subprocess.PIPE, text=True)


def stored(folder: Path) -> list[Path]:
    """Folders of units; of attempts there must be none."""
    folders = [path for path in folder.iterdir() if not path.name.startswith(".lock-")]
    assert all(store.load(path) for path in folders)
    return folders


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


def test_a_unit_comes_back_as_it_was():
    grid = [{"a": 3, "device": "cuda"}]
    (result,) = run(measure, grid)
    assert math.isnan(result.metrics["nan"])
    assert result.metrics["inf"] == -math.inf
    assert result.metrics["np"] == 0.25
    assert result.metrics["list"] == [3, [0.5, None]]
    predictions = result.predictions()
    assert predictions["truth"].tolist() == [0, 1, 2]
    assert predictions["clip"].tolist() == ["s1/c1", "s2/c2"]
    assert result.provenance["device"] == "cuda"
    (again,) = run(measure, grid)
    assert (result.cached, again.cached) == (False, True)
    assert again.provenance == result.provenance
    assert run(plain, [{"a": 1}])[0].predictions() == {}


def test_a_unit_of_one_instruction_set_does_not_answer_for_another(monkeypatch):
    def computed(forced: str) -> store.UnitResult:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", forced)
        store._code_at_start.cache_clear()  # as in a process that starts now
        return run(plain, [{"a": 1}])[0]

    own, forced, again = (computed(name) for name in ("", "AVX2", "AVX2"))
    assert (own.cached, forced.cached, again.cached) == (False, False, True)
    assert computed("").folder == own.folder != forced.folder
    run(plain, [{"a": 2}])
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")  # the libraries have read it by now
    with pytest.raises(UnitFailure, match="restart the program"):
        run(plain, [{"a": 1}])


def test_the_key_follows_what_decides_the_numbers():
    key = unit_key(measure, {"a": 1, "b": 2.0})
    assert unit_key(measure, {"b": 2.0, "a": 1}) == key
    others = [(measure, {"a": 1, "b": 2.5}), (measure, {"a": 1}), (plain, {"a": 1, "b": 2.0})]
    assert len({key, *(unit_key(*other) for other in others)}) == 4
    assert unit_key(measure, {"a": 1, "b": 2.0}, code="other") != key


@pytest.mark.parametrize("name", ["root", "data_root", "file", "weights_file", "weights", "path"])
def test_the_key_follows_the_content_of_files_that_parameters_name(tmp_path, name):
    keys = set()
    for text in ("one", "two", "two"):
        (tmp_path / "file").write_text(text)
        keys.add(unit_key(plain, {"a": {name: "file"}, "profile": "file"}))
    assert len(keys) == 2
    assert unit_key(plain, {name: "imagenet"}) not in keys


def test_a_unit_s_module_may_list_its_files(monkeypatch):
    """Demonstration: a corrected label is another key; what is not listed is none."""
    sheet, keys = Path("sheet.csv"), []
    monkeypatch.setattr(processes, "input_files", lambda params: [sheet], raising=False)
    for label, root in (("happy", "a"), ("SADLY", "a"), ("SADLY", "b")):
        sheet.write_text(label)
        Path("note.txt").write_text(root)
        keys.append(unit_key(processes.slow, {"a": 1, "file": "note.txt"}))
    assert keys[0] != keys[1] == keys[2]


PROGRAM = """
import sys
from micromacro import own
from micromacro.units import run
if sys.argv[1] == "loaded":
    import micromacro.helper
print("ready", flush=True)
input()
try:
    print(run(getattr(own, sys.argv[3]), [{}], workers=int(sys.argv[2]))[0].metrics)
except Exception as error:
    print(error)
"""


def test_a_source_edited_while_a_process_runs_stores_nothing_under_the_new_key(tmp_path, folder):
    """Demonstration: the process with the old code is told to restart; a new one computes."""
    source, copy = Path(micromacro.__file__).parent, tmp_path / "micromacro"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "systems"))
    (copy / "helper.py").write_text("VALUE = 1\n")
    lines = "def unit():", "from micromacro.helper import VALUE", "return {'value': VALUE}"
    edit = "def edit():", "from pathlib import Path", "helper = 'micromacro/helper.py'"
    edit += "Path(helper).write_text('VALUE = 4444')", "return unit()"
    (copy / "own.py").write_text("\n    ".join(lines) + "\n" + "\n    ".join(edit))

    def start(*arguments: str, unit: str = "unit") -> subprocess.Popen:
        command = [sys.executable, "-c", PROGRAM, *arguments, unit]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": "."}, **pipes)
        assert process.stdout.readline() == "ready\n"
        return process

    old, lazy = start("loaded", "0"), start("not loaded", "0")
    (copy / "helper.py").write_text("VALUE = 22\n")
    fault = "helper.py: was edited after this process loaded it; restart the kernel or the program"
    assert old.communicate("\n", timeout=180)[0].endswith(f"{fault}\n")
    assert stored(folder) == []
    assert lazy.communicate("\n", timeout=180)[0] == "{'value': 22}\n"
    assert start("loaded", "1").communicate("\n", timeout=180)[0] == "{'value': 22}\n"
    late = start("not loaded", "0", unit="edit")  # between the key and the unit's own import
    assert late.communicate("\n", timeout=180)[0].endswith(f"{fault}\n")
    assert len(stored(folder)) == 1


def test_the_key_is_checked_again_where_the_unit_runs(monkeypatch):
    monkeypatch.setattr(store.cache, "code_key", lambda code: "of the code that asks")
    with pytest.raises(UnitFailure, match=r"on .* has other code, .*restart") as caught:
        run(processes.slow, [{"a": 0}], workers=1)
    assert len(str(caught.value).splitlines()) == 2
    assert calls() == []


def test_units_keep_the_order_of_the_grid_and_are_computed_once():
    grid = [{"a": a} for a in (2, 0, 1, 2, 0)]
    results = run(processes.slow, grid, workers=2)
    assert [result.metrics["a"] for result in results] == [2, 0, 1, 2, 0]
    assert all(result.cached for result in run(processes.slow, grid, workers=0))
    assert called() == "0 1 2"


def test_bundles_share_data_and_seed_fold_by_fold():
    grid = [{"seed": s, "fold": f, "arm": a} for a in "xy" for s in (0, 1) for f in (0, 1)]
    assert bundles(grid) == [[0, 4, 1, 5], [2, 6, 3, 7]]
    assert bundles([{"data": {"n": 1}}, {"data": {"n": 2}}, {"data": {"n": 1}}]) == [[0, 2], [1]]
    assert bundles([{"a": 1}, {"a": 1}]) == [[0], [1]]
    assert cut([[0, 1, 2, 3], [4]], 2) == [[0, 1, 2, 3], [4]]
    assert cut([[0, 1, 2, 3], [4]], 4) == [[0], [1], [2, 3], [4]]
    assert cut([[0, 1]], 9) == [[0], [1]]
    assert cut([], 9) == []


def test_a_bundle_stays_on_one_worker():
    Path("go").touch()
    run(processes.slow, processes.GRID[:8], workers=2)
    workers = dict(calls())
    assert all(workers[str(a)] == workers[str(a + 1)] for a in range(0, 8, 2))
    assert len(set(workers.values())) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_unit_is_named_and_stops_no_other(folder, workers):
    grid = [{"a": a} for a in range(3)]
    with pytest.raises(UnitFailure, match=r'(?s)failing failed.*\{"a": 1\}.*one is bad') as caught:
        run(processes.failing, grid, workers=workers)
    assert [params for params, _ in caught.value.failures] == [{"a": 1}]
    assert len(stored(folder)) == 2
    with pytest.raises(UnitFailure):
        run(processes.failing, grid, workers=0)
    assert called() == "0 1 1 2"


def test_a_killed_worker_costs_its_own_unit_a_second_try_only(folder):
    grid = [{"a": a, "times": times} for a, times in enumerate((1, 2, 1))]
    with pytest.raises(UnitFailure, match=r"died twice \(SIGKILL\)") as caught:
        run(processes.killed, grid, workers=2)
    assert [params["a"] for params, _ in caught.value.failures] == [1]
    assert called() == "0 0 1 1 2 2"
    run(processes.killed, [grid[0], grid[2]])  # both are there; what the third left goes
    assert len(stored(folder)) == 2


def test_a_late_unit_is_killed_and_the_rest_goes_on(monkeypatch):
    """The limit counts from after imports, which may take longer."""
    monkeypatch.setenv("SLOW_IMPORT_S", "3.5")
    grid = [{"seconds": seconds} for seconds in (60, 0.3, 0.4)]
    with pytest.raises(UnitFailure, match=r"60\}: time limit of 3 s reached") as caught:
        run(processes.nap, grid, workers=2, limit_s=3)
    assert len(caught.value.failures) == 1
    assert len(calls()) == 3
    wait_for(lambda: not any(alive(pid) for _, pid in calls()), seconds=10)
    for wrong in ({"workers": 0}, {"workers": 2, "scheduler": "tcp://127.0.0.1:1"}):
        with pytest.raises(BadInput, match="limit_s"):
            run(processes.nap, grid, limit_s=1, **wrong)


def test_a_run_that_is_stopped_begins_nothing_more(tmp_path):
    grid = [{"seconds": seconds} for seconds in (0.01, 60, 61, 62)]
    nap = processes.nap
    tasks = [store.Task(nap, params, tmp_path / unit_key(nap, params)) for params in grid]
    ends = store._in_processes([tasks], workers=1, limit_s=None)
    assert next(ends) == (tasks[0], "")
    wait_for(lambda: len(calls()) == 2)
    ends.close()
    assert [seconds for seconds, _ in calls()] == ["0.01", "60"]
    assert not any(alive(pid) for _, pid in calls())


def test_workers_have_one_thread_and_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("MICROMACRO_WORKERS", "1")
    assert run(processes.threads, [{}])[0].metrics == {"threads": "1"}
    assert os.environ["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("MICROMACRO_WORKERS", "many")
    with pytest.raises(BadInput, match="MICROMACRO_WORKERS=many"):
        run(processes.threads, [{}])
    with pytest.raises(BadInput, match="workers=-1"):
        run(processes.threads, [{}], workers=-1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    for tasks, allowed in (("2", 2), ("8", 3)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", tasks)
        assert cores() == allowed


@pytest.mark.slow
def test_two_programs_on_one_grid_share_the_work(folder):
    Path("go").touch()
    programs = [start_program() for _ in range(2)]
    outputs = [program.communicate(timeout=180)[0].split() for program in programs]
    assert [program.returncode for program in programs] == [0, 0]
    assert outputs == [[str(a) for a in range(8)]] * 2
    assert called() == "0 1 2 3 4 5 6 7"
    assert len(stored(folder)) == 8


@pytest.mark.slow
def test_a_killed_program_leaves_no_orphan_no_torn_unit_and_is_resumed(folder):
    program = start_program()
    wait_for(lambda: len(calls()) == 6)  # four are stored, two workers wait for "go"
    program.kill()
    program.communicate(timeout=60)  # orphans would hold its pipe
    wait_for(lambda: not any(alive(pid) for _, pid in calls()), seconds=10)
    twice = [int(a) for a, _ in calls() if int(a) >= 4]
    Path("go").touch()
    results = run(processes.slow, processes.GRID[:8], workers=2)
    assert [result.metrics["a"] for result in results] == list(range(8))
    assert [result.cached for result in results] == [True] * 4 + [False] * 4
    assert called().split() == [str(a) for a in sorted([*range(8), *twice])]
    assert len(stored(folder)) == 8


@pytest.mark.parametrize("name", ["metrics.json", "predictions.npz"])
@pytest.mark.parametrize("fault", ["gone", "empty", "cut", "other", "a bit", "a folder"])
def test_a_torn_folder_is_computed_again(folder, name, fault):
    (first,) = run(measure, [{"a": 2}])
    path = first.folder / name
    whole = path.read_bytes()
    contents = {"empty": b"", "cut": whole[:-9], "other": b"[1]"}
    contents["a bit"] = whole[:99] + bytes([whole[99] ^ 1]) + whole[100:]
    path.unlink()
    if fault == "a folder":
        path.mkdir()
    elif fault != "gone":
        path.write_bytes(contents[fault])
    (again,) = run(measure, [{"a": 2}])
    assert not again.cached
    assert again.predictions()["truth"].tolist() == [0, 1]
    assert stored(folder) == [first.folder]


@pytest.mark.parametrize("kind", ["file", "link", "dead link"])
def test_what_stands_in_the_place_of_a_unit_makes_way_for_it(folder, tmp_path, kind):
    (first,) = run(measure, [{"a": 2}])
    first.folder.rename(tmp_path / "moved")
    if kind == "file":
        first.folder.write_text("x")
    else:
        first.folder.symlink_to(tmp_path / ("moved" if kind == "link" else "nowhere"))
    (again,) = run(measure, [{"a": 2}])
    assert again.cached == (kind == "link")  # a link to a whole unit is one
    assert again.predictions()["truth"].tolist() == [0, 1]
    (tmp_path / "moved" / "predictions.npz").write_bytes(b"torn")
    assert kind != "link" or not run(measure, [{"a": 2}])[0].cached
    assert stored(folder) == [first.folder]


def test_predictions_that_are_torn_after_they_were_read_are_one_line():
    (result,) = run(measure, [{"a": 2}])
    (result.folder / "predictions.npz").write_bytes(b"torn")
    refused(result.predictions, "predictions.npz", f"remove the folder {result.folder}")


SCRIPT = """
import processes
from micromacro.units import run
print([len(r.predictions()["noise"]) for r in run(processes.arrays, [{"n": n} for n in range(1, 5)], workers=2)])
"""


@pytest.mark.parametrize("how", ["a script without a guard", "standard input", "-c"])
def test_workers_start_from_any_script(tmp_path, how):
    """They do not run it again, which a script without a guard, or without a file, cannot bear."""
    (tmp_path / "script.py").write_text(SCRIPT)
    last = {
        "a script without a guard": ["script.py"],
        "standard input": ["-"],
        "-c": ["-c", SCRIPT],
    }
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    options = {"capture_output": True, "text": True, "timeout": 180, "check": False}
    command = [sys.executable, "-W", "error", *last[how]]
    done = subprocess.run(command, input=SCRIPT, env=environment, **options)
    assert (done.stdout, done.stderr) == ("[1, 2, 3, 4]\n", "")


def test_workers_that_cannot_start_end_the_run_with_one_line(tmp_path, monkeypatch, folder, capfd):
    """A module that only the first process can import: of a thousand units none is tried."""
    lines = "import os", f"if os.getpid() != {os.getpid()}:", "    os._exit(3)"
    (tmp_path / "only_here.py").write_text(
        "\n".join([*lines, "def unit(a):", "    return {'a': a}"])
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here

    grid = [{"a": a} for a in range(1000)]
    message = "only_here", "cannot start (exit status 3)", "import only_here", "workers=0"
    refused(lambda: run(only_here.unit, grid, workers=2, progress=False), *message)
    assert "".join(capfd.readouterr()) == ""
    assert stored(folder) == []
    assert len(run(only_here.unit, grid[:3], workers=0)) == 3


def test_what_is_not_ours_is_left_alone_and_what_the_dead_left_goes(folder):
    for name in ("2025", "cafe", "0123456789abcdef0123", ".part-0123456789abcdef0123-x"):
        (folder / name).mkdir(parents=True)
        (folder / name / "notes.txt").write_text("mine")
    run(plain, [{"a": 1}])
    left = {path.parent.name for path in folder.glob("*/notes.txt")}
    assert left == {"2025", "cafe", "0123456789abcdef0123"}


def test_bad_units_parameters_and_places_are_refused(tmp_path):
    with pytest.raises(BadInput, match="import it by name"):
        run(lambda: {"a": 1}, [{}])
    with pytest.raises(BadInput, match=r"parameters .*1, 2.* is not a JSON value"):
        run(plain, [{"a": {1, 2}}])
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(BadInput, match="cannot write there"):
        run(plain, [{"a": 1}])


@pytest.mark.parametrize("unit", [returns_an_object, returns_objects])
def test_a_unit_must_return_what_can_be_stored(folder, unit):
    with pytest.raises(UnitFailure, match=r"not a JSON value|arrays of numbers"):
        run(unit, [{}])
    assert stored(folder) == []


def test_shards_fill_a_grid_together_with_bundles_whole():
    grid = [{"a": a, "seed": a // 2} for a in range(10)]
    parts = [shard(plain, grid, f"{i}/3") for i in (1, 2, 3)]
    seeds = [{result.params["seed"] for result in part} for part in parts]
    assert sorted(map(len, seeds)) == [1, 2, 2]
    assert set.union(*seeds) == set(range(5))
    assert all(result.cached for result in run(plain, grid))
    assert shard(plain, grid[:1], "2/2") == []
    for part in ("0/3", "4/3", "3", "a/b", "1/0", "-1/3"):
        with pytest.raises(BadInput, match=f"--shard {part}: is no part"):
            shard(plain, grid, part)


def test_a_thousand_stored_units_are_read_in_two_seconds(folder):
    grid = [{"a": a} for a in range(1000)]
    run(plain, grid[:1])
    (first,) = stored(folder)
    code = store.cache.code_key(plain)
    for params in grid[1:]:
        shutil.copytree(first, folder / unit_key(plain, params, code))
    began = time.process_time()  # what others compute meanwhile does not count
    assert all(result.cached for result in run(plain, grid))
    assert time.process_time() - began < 2


def test_the_command_line_computes_a_part_of_a_notebook_s_units(monkeypatch, capsys):
    def grid(*, profile, seeds, device, **others):
        assert (profile, device) == ("smoke", "cpu")
        return {"one": [{"a": a, "seed": a} for a in seeds], "two": [{"a": 1, "seed": 0}]}

    monkeypatch.delenv("MICROMACRO_ROOT")
    monkeypatch.setattr(files, "checkout", lambda: Path(__file__).parents[1])
    monkeypatch.setattr(store, "project_root", Path.cwd)
    for arguments, fault in ((["02"], "has no grid of units"), (["00 01"], "2 notebooks")):
        assert cli.main(["units", *arguments]) == 2
        assert fault in capsys.readouterr().err
    experiment = SimpleNamespace(grid=grid, unit=processes.failing)
    monkeypatch.setitem(sys.modules, "micromacro.systems.akmnet.experiment", experiment)
    command = ["units", "08b", "--param", "SEEDS=[0, 2, 3]", "--shard"]
    assert cli.main([*command, "2/3"]) == 0
    assert capsys.readouterr().out == "1 units, 0 were there already\n"
    assert cli.main([*command, "1/1"]) == 1
    assert "one is bad" in capsys.readouterr().err
    assert called() == "0 1 2 3"
