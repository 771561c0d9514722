"""Units on a Dask cluster of real processes, of which some die."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from micromacro.errors import BadInput
from micromacro.units import UnitFailure, run

pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of tornado and of sockets whose other end was killed
]
UNITS = """
import os, signal, time
from pathlib import Path

def nap(a, seed, device="cpu", kills=False):
    with Path(__file__).with_name("log").open("a") as file:
        file.write(f"{a} {os.getpid()}\\n")
    if kills:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    while a >= 4 and not Path(__file__).with_name("go").exists():
        time.sleep(0.02)
    return {"a": a}

if __name__ == "__main__":
    import units_of_cluster
    from micromacro.units import run
    run(units_of_cluster.nap, units_of_cluster.GRID)

GRID = [{"a": a, "seed": a // 2} for a in range(12)]
"""


class Cluster:
    """A scheduler and its workers, each a process of its own."""

    def __init__(self, folder: Path, **options):
        self.folder, self.processes = folder, []
        self.options = {f"DASK_DISTRIBUTED__{name}": str(value) for name, value in options.items()}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.scheduler = self.start("scheduler", "--no-show", "--host", self.address)

    def start(self, what: str, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--no-dashboard", *options]
        environment = {**os.environ, **self.options, "PYTHONPATH": os.pathsep.join(sys.path)}
        with (self.folder / f"{what}.txt").open("ab") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def worker(self, *options: str, threads: int = 1) -> subprocess.Popen:
        return self.start(
            "worker", self.address, "--no-nanny", "--nthreads", str(threads), *options
        )

    def calls(self) -> list[tuple[str, int]]:
        log = self.folder / "log"
        lines = log.read_text().split("\n")[:-1] if log.exists() else []
        return [(a, int(pid)) for a, pid in map(str.split, lines)]

    def wait_for_calls(self, number: int) -> None:
        deadline = time.monotonic() + 40
        while len(self.calls()) < number:
            assert time.monotonic() < deadline, (self.folder / "worker.txt").read_text()
            time.sleep(0.02)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts a cluster; all of its processes are killed in the end."""
    (tmp_path / "units_of_cluster.py").write_text(UNITS)
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    clusters = []

    def start(**options) -> Cluster:
        clusters.append(Cluster(tmp_path, **options))
        monkeypatch.setenv("MICROMACRO_SCHEDULER", clusters[-1].address)
        return clusters[-1]

    yield start
    for process in [process for cluster in clusters for process in cluster.processes]:
        process.kill()
        process.wait()
    del sys.modules["units_of_cluster"]


class Running(threading.Thread):
    """`run` in the background; `end` gives its results or raises."""

    def __init__(self, *arguments):
        super().__init__(daemon=True)
        self.arguments = arguments
        self.start()

    def run(self) -> None:
        try:
            self.results, self.error = run(*self.arguments, progress=False), None
        except Exception as error:
            self.results, self.error = None, error

    def end(self) -> list:
        self.join(timeout=60)
        if self.error:
            raise self.error
        return self.results


def test_a_killed_worker_s_units_are_done_again_and_slots_are_kept(start, tmp_path):
    import units_of_cluster as module

    cluster = start()
    workers = [cluster.worker(), cluster.worker("--resources", "GPU=1")]
    running = Running(module.nap, module.GRID)
    cluster.wait_for_calls(6)  # four are stored, two wait for "go"
    workers[0].kill()
    (tmp_path / "go").touch()
    assert [result.metrics["a"] for result in running.end()] == list(range(12))
    twice = [a for a, n in Counter(a for a, _ in cluster.calls()).items() if n > 1]
    assert len(twice) <= 1
    assert len(cluster.calls()) == 12 + len(twice)
    cluster.worker()
    gpu = [{"a": 0, "seed": seed, "device": "cuda"} for seed in range(4)]
    run(module.nap, gpu)
    assert {pid for _, pid in cluster.calls()[-4:]} == {workers[1].pid}


def test_the_scheduler_s_death_is_one_line_and_the_command_goes_on(start, tmp_path, capfd):
    import units_of_cluster as module

    cluster = start()
    cluster.worker()
    running = Running(module.nap, module.GRID)
    cluster.wait_for_calls(5)
    cluster.scheduler.kill()
    killed = time.monotonic()
    with pytest.raises(BadInput, match=f"{cluster.address}: has died; .*repeat"):
        running.end()
    assert time.monotonic() - killed < 10
    assert capfd.readouterr().err == ""
    with pytest.raises(BadInput, match="does not answer"):
        run(module.nap, module.GRID)
    (tmp_path / "go").touch()
    cached = [result.cached for result in run(module.nap, module.GRID, scheduler="", workers=1)]
    assert cached[:4] == [True] * 4
    assert {a for a, _ in cluster.calls()} == {str(a) for a in range(12)}


def test_a_killed_client_s_waiting_units_are_dropped_and_nothing_is_lost(start, tmp_path):
    import units_of_cluster as module

    cluster = start()
    cluster.worker()
    client = subprocess.Popen([sys.executable, str(tmp_path / "units_of_cluster.py")])
    cluster.wait_for_calls(5)
    client.kill()
    client.wait()
    (tmp_path / "go").touch()
    results = run(module.nap, module.GRID)
    assert [result.metrics["a"] for result in results] == list(range(12))
    assert sorted(int(a) for a, _ in cluster.calls()) == list(range(12))


def test_a_unit_that_kills_its_workers_fails_alone(start):
    import units_of_cluster as module

    cluster = start(SCHEDULER__ALLOWED_FAILURES=0)
    for _ in range(3):
        cluster.worker()
    grid = [{"a": a, "seed": 0, "kills": a == 1} for a in range(4)]
    with pytest.raises(UnitFailure, match=r'"a": 1.* worker') as caught:
        run(module.nap, grid)
    assert len(caught.value.failures) == 1


def test_a_worker_of_several_threads_is_refused(start):
    import units_of_cluster as module

    start().worker(threads=2)
    with pytest.raises(UnitFailure, match="start it with --nthreads 1"):
        run(module.nap, module.GRID[:1])
