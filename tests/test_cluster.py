"""Units on a Dask cluster of real processes, of which some die."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import processes
import pytest
from processes import GRID, called, calls, wait_for
from refusals import refused

from micromacro.errors import BadInput
from micromacro.units import UnitFailure, run

dask = pytest.importorskip("dask")
pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of sockets whose other end was killed
]


class Cluster:
    """A scheduler and workers, each a process of its own."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.processes = []
        self.scheduler = self._start("scheduler", "--no-show", "--host", self.address)

    def worker(self, *options: str, threads: int = 1) -> subprocess.Popen:
        options = ("--no-nanny", "--nthreads", str(threads), *options)
        return self._start("worker", self.address, *options)

    def answers(self) -> bool:
        host, port = self.address.removeprefix("tcp://").split(":")
        with socket.socket() as client:
            return client.connect_ex((host, int(port))) == 0

    def _start(self, what: str, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--no-dashboard", *options]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.processes.append(subprocess.Popen(command, env=environment, **pipes))
        return self.processes[-1]


@pytest.fixture
def cluster(request, tmp_path, monkeypatch) -> Iterator[Cluster]:
    """A scheduler that units go to; it and its workers are killed in the end."""
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    monkeypatch.setenv(
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", getattr(request, "param", "3")
    )
    monkeypatch.chdir(tmp_path)
    cluster = Cluster()
    wait_for(cluster.answers)
    monkeypatch.setenv("MICROMACRO_SCHEDULER", cluster.address)
    yield cluster
    for process in cluster.processes:
        process.kill()
        process.wait()


def test_a_killed_worker_s_units_are_done_again_and_slots_are_kept(cluster):
    workers = [cluster.worker(), cluster.worker("--resources", "GPU=1")]
    with ThreadPoolExecutor(1) as background:
        running = background.submit(run, processes.slow, GRID, progress=False)
        wait_for(lambda: len(calls()) >= 6)  # four are stored, two wait for "go"
        workers[0].kill()
        Path("go").touch()
        assert [result.metrics["a"] for result in running.result(60)] == list(range(12))
    assert len(calls()) <= 13
    cluster.worker()
    run(processes.slow, [{"a": 0, "seed": seed, "device": "cuda"} for seed in range(4)])
    assert {pid for _, pid in calls()[-4:]} == {workers[1].pid}


def test_the_scheduler_s_death_is_one_line_and_the_command_goes_on(cluster, capfd):
    cluster.worker()
    with ThreadPoolExecutor(1) as background:
        running = background.submit(run, processes.slow, GRID, progress=False)
        wait_for(lambda: len(calls()) >= 5)
        cluster.scheduler.kill()
        killed = time.monotonic()
        with pytest.raises(BadInput, match=f"{cluster.address}: has died; .*repeat"):
            running.result(60)
    assert time.monotonic() - killed < 10
    assert capfd.readouterr().err == ""
    patience = dask.config.set({"distributed.comm.timeouts.connect": "1s"})
    with patience, pytest.raises(BadInput, match="does not answer"):
        run(processes.slow, GRID)
    Path("go").touch()
    results = run(processes.slow, GRID, scheduler="", workers=1)
    assert [result.cached for result in results[:4]] == [True] * 4
    assert set(called().split()) == {str(a) for a in range(12)}


def test_a_killed_client_s_waiting_units_are_dropped_and_nothing_is_lost(cluster):
    cluster.worker()
    client = subprocess.Popen([sys.executable, processes.__file__, "0"])
    wait_for(lambda: len(calls()) == 5)
    client.kill()
    client.wait()
    Path("go").touch()
    results = run(processes.slow, GRID)
    assert [result.metrics["a"] for result in results] == list(range(12))
    assert called().split() == [str(a) for a in range(12)]


@pytest.mark.parametrize("cluster", ["0"], indirect=True)  # one worker dies, not four
def test_a_unit_that_kills_its_workers_fails_alone(cluster):
    for _ in range(3):
        cluster.worker()
    grid = [{"a": a, "times": 9 * (a == 1), "seed": 0} for a in range(4)]
    with pytest.raises(UnitFailure, match=r'"a": 1.*KilledWorker') as caught:
        run(processes.killed, grid)
    assert len(caught.value.failures) == 1


def test_workers_that_lack_the_unit_s_module_end_the_run_with_one_line(
    cluster, tmp_path, monkeypatch
):
    worker, grid = cluster.worker(), [{"a": a} for a in range(20)]
    (tmp_path / "here").mkdir()
    (tmp_path / "here/only_here.py").write_text("def unit(a):\n    return {'a': a}\n")
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    import only_here

    call = partial(run, only_here.unit, grid, progress=False)
    refused(call, cluster.address, "cannot start units of only_here", "this code")
    assert worker.poll() is None
    assert len(run(only_here.unit, grid[:2], scheduler="")) == 2


def test_a_worker_of_several_threads_is_refused(cluster):
    cluster.worker(threads=2)
    with pytest.raises(UnitFailure, match="start it with --nthreads 1"):
        run(processes.slow, GRID[:1])
