"""Files that appear whole or not at all, whoever else writes, kills, plants links or fills the
disk."""

import contextlib
import os
import resource
import secrets
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from clips import face_clip
from refusals import refused

from micromacro import files, results
from micromacro.cache import kept
from micromacro.clip import save_clip
from micromacro.files import read_npz, reading, replacing, sweep_files, write_atomically, writing
from micromacro.training import Batches, Recipe, train
from micromacro.units import run
from micromacro.video import write_video


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


# Whole or not at all --------------------------------------------------------------------------


def test_a_file_is_replaced_whole_with_the_rights_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.txt") as part:
        part.write_text(f"half {1 / 0}")
    assert (tmp_path / "a.txt").read_text() == "old"
    write_atomically(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert names(tmp_path) == ["a.txt", "plain"]


def test_places_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for place in ("folder", "missing/x", "file/x", "x" * 300):
        refused(partial(write_atomically, tmp_path / place, ""), tmp_path / place, "choose a")


def test_threads_and_equal_process_ids_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in every container
    target = tmp_path / "a.txt"
    texts = [str(number) * 100_000 for number in range(8)]
    for _ in range(40):  # each sweeps what the others begin
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(partial(write_atomically, target), texts))
    assert target.read_text() in texts
    with replacing(target) as one, replacing(target) as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert target.read_text() == "one"
    assert names(tmp_path) == ["a.txt"]


def test_no_link_is_followed_to_what_it_leads_to(tmp_path, monkeypatch):
    """Even one who knows the name that comes next gets nothing of somebody else overwritten."""
    victim, target = tmp_path / "victim", tmp_path / "out" / "a.txt"
    target.parent.mkdir()
    victim.write_text("mine")
    monkeypatch.setattr(secrets, "token_hex", lambda n: "0" * 2 * n)
    for name in (files._PART.format("0" * 16), f".a.txt.{os.getpid()}.part"):
        (target.parent / name).symlink_to(victim)
        with contextlib.suppress(ValueError):
            write_atomically(target, "other")
        assert victim.read_text() == "mine"
    (tmp_path / "c").mkdir()
    folder = kept(tmp_path / "c", "a", {}, make_two)
    (tmp_path / "c" / f".lock-{folder.name}").symlink_to(tmp_path / "made")
    (folder / "b.txt").write_text("torn")
    refused(partial(kept, tmp_path / "c", "a", {}, make_two), ".lock-")
    assert not (tmp_path / "made").exists()


# Left behind ----------------------------------------------------------------------------------

DIE = """
import os, signal, sys
from pathlib import Path
from micromacro.cache import kept
from micromacro.files import replacing

def die(path):
    (path / "half" if path.is_dir() else path).write_text("half")
    print("ready", flush=True)
    if sys.argv[2] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    input()

if __name__ == "__main__":
    if sys.argv[1] == "file":
        with replacing(Path("out/a.txt")) as part:
            die(part)
    else:
        kept("out", sys.argv[2], {}, die)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_the_killed_leave_goes_with_the_next_start_and_the_living_keep_theirs(tmp_path, kind):
    """Here the next start writes or makes something else in the same place."""
    out, script = tmp_path / "out", tmp_path / "script.py"
    out.mkdir()
    script.write_text(DIE)
    options = {"cwd": tmp_path, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    start = partial(subprocess.Popen, env=environment, **options)
    with start([sys.executable, script, kind, "dies"]) as dead:
        assert dead.wait(60) == -signal.SIGKILL
    left = set(names(out))
    assert left
    for foreign in (".a.txt.part", ".film.mp4.part", "notes.part"):
        (out / foreign).write_text("mine")
    with start([sys.executable, script, kind, "lives"]) as living:
        assert living.stdout.readline() == "ready\n"
        held = set(names(out)) - left
        if kind == "file":
            write_atomically(out / "b.txt", "whole")
        else:
            kept(out, "b", {}, make_two)
        assert not left & set(names(out)) - {"half"}
        assert held <= set(names(out))
        living.communicate("\n", timeout=60)
        assert living.returncode == 0
    assert not [name for name in names(out) if "lock-" in name or "micromacro-" in name]
    assert {".a.txt.part", ".film.mp4.part", "notes.part"} <= set(names(out))


def test_what_is_left_in_folders_below_is_swept_by_their_pattern(tmp_path):
    part = files._PART.format("0" * 16)
    for folder in ("20260101T000000Z/rows", "20260101T000000Z", "units"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / part).touch()
    sweep_files(tmp_path, "*Z/**/")
    assert [path.parent.name for path in tmp_path.rglob(part)] == ["units"]
    sweep_files(tmp_path / "missing")


# Damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("deep"), zipfile.BadZipFile("a\nb"), OSError(5, "I/O")]
)
def test_whatever_reading_raises_names_the_file(error):
    def read():
        with reading(Path("a.npz"), "a table", "make it again"):
            raise error

    refused(read, "a.npz", "torn, or not a table", "make it again")
    with pytest.raises(KeyboardInterrupt), reading(Path("a"), "a table", "make it again"):
        raise KeyboardInterrupt


def test_arrays_are_read_without_pickle_and_files_are_closed(tmp_path):
    """An open file would be a warning, and so an error of this test."""
    path = tmp_path / "a.npz"
    read = partial(read_npz, path, "predictions", "run again")
    refused(read, path, "No such file")
    np.savez(path, x=np.arange(3))
    assert read()["x"].tolist() == [0, 1, 2]
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[:100], whole[:-30]):
        path.write_bytes(content)
        refused(read, path, "run again")
    np.savez(path, x=np.array([{}]))
    refused(read, path, "run again")
    with path.open("wb") as file:
        np.save(file, np.arange(3))  # one array, where there should be several by name
    refused(read, path, "run again")


# A full disk ----------------------------------------------------------------------------------


@contextlib.contextmanager
def little_room(n_bytes: int = 2000) -> Iterator[None]:
    """No file may grow beyond this, here and in processes that start: EFBIG, as ENOSPC a full
    disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def make_two(folder: Path) -> None:
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")


def make_large(folder: Path) -> None:
    np.save(folder / "a.npy", np.random.default_rng(0).random(10_000))


def checkpointed(out: Path) -> None:
    data, net = Batches(torch.ones(4, 50), torch.ones(4, 50), 2), torch.nn.Linear(50, 50)
    train(net, data, Recipe(epochs=1), seed=0, checkpoint=out / "checkpoint")


def rows(out: Path) -> None:
    write = [results.Row("04_x", "mimamo", f"arm {n}", "ccc", 1.0, 12, seed=n) for n in range(99)]
    results.write_rows(write, out)


def predictions(out: Path) -> None:
    arrays = {"ours": np.random.default_rng(0).random(10_000)}
    results.write_predictions("04_x", arrays, out, profile="full")


def film(out: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)
    write_video(out / "a.mp4", noise)


WRITERS = {
    "text": lambda out: write_atomically(out / "a.txt", "a" * 10_000),
    "clip": lambda out: save_clip(face_clip(np.zeros((3, 1, 40, 40), np.uint8)), out / "clip.npz"),
    "film": film,
    "checkpoint": checkpointed,
    "rows": rows,
    "predictions": predictions,
    "cache": lambda out: kept(out, "large", {}, make_large),
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path, what):
    out, write = tmp_path / "out", partial(WRITERS[what], tmp_path / "out")
    out.mkdir()
    with little_room():
        refused(write, out, "cannot be written (", "has room")
    assert [path for path in out.rglob("*") if path.is_file()] == []
    write()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert before
    if what != "cache":  # which has it and makes nothing; a checkpoint is read, and not written
        with little_room(), contextlib.suppress(ValueError):
            write()
        assert {path: path.read_bytes() for path in before} == before
    assert not [name for name in names(out) if name.startswith((".part", ".micro", ".lock"))]


@pytest.mark.parametrize("workers", [0, 2])
def test_units_on_a_full_disk_end_with_one_line_and_what_fits_is_stored(tmp_path, capfd, workers):
    """One of a thousand fits; the first that does not ends the run, and the next call goes on."""
    run(processes.arrays, [{"n": 1}], root=tmp_path)
    grid = [{"n": n} for n in [1, 2, *range(30_000, 31_000)]]
    call = partial(run, processes.arrays, grid, workers=workers, root=tmp_path, progress=False)
    with little_room():
        refused(call, "runs/units", "cannot be written (File too large)", "has room")
    out, err = capfd.readouterr()
    assert (out + err).count("\n") < 3
    store = tmp_path / "runs/units"
    assert workers or not list(store.glob(".*"))  # a worker may be stopped with the run
    results = run(processes.arrays, grid[:3], root=tmp_path)
    assert [result.cached for result in results][::2] == [True, False]
    assert not list(store.glob(".*"))  # the next call sweeps


def test_other_faults_of_a_system_are_not_taken_for_a_full_disk(tmp_path):
    def make(folder):
        (folder / "missing" / "x").read_text()

    with pytest.raises(FileNotFoundError):
        kept(tmp_path, "clip", {}, make)
    with pytest.raises(FileNotFoundError), writing(tmp_path, full=True):
        (tmp_path / "missing").read_text()


def test_files_below_are_those_that_can_be_read_each_once(tmp_path):
    for name in ("b/x", "a/y", ".hidden/z", "a/.w"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    (tmp_path / "a" / "nowhere").symlink_to(tmp_path / "gone")
    found = [str(file.relative_to(tmp_path)) for file in files.files_below(tmp_path)]
    assert found == ["a/y", "b/x"]
    refused(lambda: files.files_below(tmp_path / "gone"), "gone", "check its rights")
