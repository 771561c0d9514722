"""The folder of one run, and what makes a killed run go on where it was.

A run is a folder ``runs/<utc>/``::

    index.html              the page to open
    00_start_here.ipynb     executed; with .html (the same as a page) and .log beside it
    rows/*.csv              what the notebooks measured (rows.write_rows, parameter OUT)
    rows/*.npz              predictions of their core units (rows.write_predictions)
    status/00_start_here.json   how it went; written last, by the parent only
    run.json                what was asked, where and when
    DONE                    the run is finished

A call whose run was killed leaves a folder without DONE. The next call with the same profile,
notebooks and parameters goes on there: a notebook whose status says that it passed, with the same
key (its source, the package, the parameters, the lock file), is not run again. A finished run is
never reused; its units are (:mod:`micromacro.units`).
"""

import contextlib
import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import nbformat

from micromacro import course, headless, report
from micromacro.errors import BadInput
from micromacro.results import make_writable, project_root, provenance, write_atomically
from micromacro.units import package_sources


class RunFolder:
    """The folder of one run, locked while it is being filled."""

    def __init__(self, folder: Path, wish: dict):
        self.folder, self._wish = folder, wish
        about = {"wish": wish, **provenance(), **report.machine()}
        write_atomically(folder / "run.json", json.dumps(about, indent=1))

    @classmethod
    @contextlib.contextmanager
    def open(cls, runs: Path, wish: dict) -> Iterator["RunFolder"]:
        """The newest unfinished run of the same wish that nobody is working on, or a new one."""
        make_writable(runs)
        for found in sorted(runs.glob("*/run.json"), reverse=True):
            folder = found.parent
            if json.loads(found.read_text()).get("wish") != wish:
                continue
            with _lock(folder) as mine:
                if mine and not (folder / "DONE").exists():
                    yield cls(folder, wish)
                    return
        folder = _new_folder(runs)
        with _lock(folder):
            yield cls(folder, wish)

    def tasks(self, paths: Sequence[Path], params: Mapping, say: Callable[[str], None]) -> list:
        """What is left to run; says so if this run was begun before."""
        values = course.injected(paths, self._wish["profile"], params, self.folder)
        self._keys = {path.stem: _key(path, values[path]) for path in paths}
        if (self.folder / "status").exists() or (self.folder / "attempts").exists():
            say(f"continuing {self.folder.name}, which was not finished")
        shutil.rmtree(self.folder / "attempts", ignore_errors=True)
        tasks = []
        for path in paths:
            status = self.status(path.stem)
            if status and status["passed"] and status["key"] == self._keys[path.stem]:
                say(f"[{path.stem}] passed before, {status['seconds']:.0f} s")
                continue
            self._forget(path.stem)
            attempt = self.folder / "attempts" / path.stem
            attempt.mkdir(parents=True)
            names = tuple(p.stem for p in paths)
            tasks.append(headless.Task(path, attempt, values[path], names))
        return tasks

    def status(self, name: str) -> dict | None:
        """How a notebook went: the fields of headless.Verdict, name and key; None if unknown."""
        path = self.folder / "status" / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def record(self, task: headless.Task, verdict: headless.Verdict) -> None:
        """Move what an attempt made into place; its status last, for that makes it count."""
        for made in task.folder.iterdir():
            made.replace(self.folder / made.name)
        name = task.source.stem
        status = {"name": name, "key": self._keys[name], **asdict(verdict)}
        (self.folder / "status").mkdir(exist_ok=True)
        write_atomically(self.folder / "status" / f"{name}.json", json.dumps(status, indent=1))

    def finish(self) -> Path:
        """Make the page, then mark the run as finished."""
        shutil.rmtree(self.folder / "attempts", ignore_errors=True)
        index = report.run_page(self.folder)
        (self.folder / "DONE").touch()
        return index

    def _forget(self, name: str) -> None:
        (self.folder / "status" / f"{name}.json").unlink(missing_ok=True)
        for path in (*self.folder.glob(f"{name}.*"), *self.folder.glob(f"rows/{name}__*")):
            path.unlink()


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Hold a run's folder; the lock ends with the process, however it ends."""
    with (folder / ".lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _new_folder(runs: Path) -> Path:
    stem = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for number in range(1, 100):  # calls within one second
        folder = runs / (stem if number == 1 else f"{stem}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise BadInput(runs, "a hundred runs in one second", "wait a second")


def _key(path: Path, values: Mapping) -> str:
    """Hash of all that decides what a notebook shows, but for its output folder."""
    lock = project_root() / "requirements.lock"
    cells = nbformat.read(path, as_version=4).cells
    digest = hashlib.sha256()
    for cell in cells:  # sources only: the stored outputs decide nothing
        digest.update(f"{cell.cell_type}\0{cell.source}\0".encode())
    for file in [*package_sources(), *([lock] if lock.exists() else [])]:
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    values = {name: value for name, value in values.items() if name != "OUT"}
    digest.update(json.dumps(values, sort_keys=True, default=repr).encode())
    return digest.hexdigest()[:20]
