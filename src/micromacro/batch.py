"""All notebooks, headless: ``make reproduce`` and ``make bake``."""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import nbformat

from micromacro import course, headless, statistics
from micromacro.errors import BadInput
from micromacro.files import replacing
from micromacro.results import make_writable, project_root, write_atomically
from micromacro.run_folder import RunFolder
from micromacro.workers import Event, run_tasks

# Seconds for one notebook. Smoke takes at most 60 on two cores, the full profile 2 hours with its
# sweeps: several times that, for slow machines. The paper profile has no limit.
LIMIT_S = {"smoke": 600, "full": 6 * 3600, "paper": None}


@dataclass(frozen=True)
class Outcome:
    """What a batch left.

    Attributes:
        passed: Whether every notebook passed.
        index: The page to open; None for :func:`bake`.
    """

    passed: bool
    index: Path | None = None


def reproduce(
    profile: str = "smoke",
    notebooks: Sequence[str] | None = None,
    workers: int = 2,
    params: Mapping | None = None,
    *,
    limit_s: float | None = None,
    write_results: bool = False,
    stream: TextIO | None = None,
) -> Outcome:
    """Run notebooks into ``runs/<utc>/`` and make its page; a failure does not stop the others.

    Args:
        profile: ``"smoke"``, ``"full"`` or ``"paper"``.
        notebooks: Numbers or names; None means all.
        workers: Notebooks at once.
        params: Further parameters, by name.
        limit_s: Time limit of one notebook in seconds; None means that of the profile.
        write_results: Copy the rows of the notebooks that passed to ``data/results``; for the
            profile ``full`` only.
        stream: Where progress goes; stdout by default.

    Raises:
        BadInput: Before anything has run.
    """
    paths = course.choose(notebooks)
    params = dict(params or {})
    course.injected(paths, profile, params, Path())  # refuse first, then make folders
    if write_results and profile != "full":
        raise BadInput("--write-results", f"profile {profile}", "only the profile full is recorded")
    _positive("workers", workers)
    wish = _plain({"profile": profile, "notebooks": [p.stem for p in paths], "params": params})
    with RunFolder.open(project_root() / "runs", wish) as run:
        display = _Display(stream or sys.stdout)
        tasks = run.tasks(paths, params, display.say)
        limit_s = LIMIT_S[profile] if limit_s is None else limit_s
        for task, verdict in _execute(tasks, workers, limit_s, display):
            run.record(task, verdict)
        index = run.finish()
        passed = [path.stem for path in paths if run.status(path.stem)["passed"]]
        if write_results:
            _keep_results(run.folder, passed, display)
    display.say(f"{len(passed)} of {len(paths)} passed")
    display.say(str(index))
    return Outcome(len(passed) == len(paths), index)


def bake(
    notebooks: Sequence[str] | None = None, workers: int = 2, *, stream: TextIO | None = None
) -> Outcome:
    """Execute the committed notebooks in place with their defaults; keep outputs, drop litter.

    A notebook that fails stays as it was.

    Raises:
        BadInput: Before anything has run.
    """
    paths = course.choose(notebooks)
    _positive("workers", workers)
    runs = project_root() / "runs"
    make_writable(runs)
    display = _Display(stream or sys.stdout)
    passed = 0
    with tempfile.TemporaryDirectory(dir=runs, prefix=".bake-") as folder:
        tasks = [headless.Task(path, Path(folder), None) for path in paths]
        for task, verdict in _execute(tasks, workers, LIMIT_S["smoke"], display):
            if verdict.passed:
                baked = nbformat.read(task.folder / task.source.name, as_version=4)
                write_atomically(task.source, nbformat.writes(clean(baked)) + "\n")
                passed += 1
            else:
                display.say(verdict.traceback)
    display.say(f"{passed} of {len(paths)} baked")
    return Outcome(passed == len(paths))


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what changes from run to run or from machine to machine; keep outputs and counts.

    Dropped: every metadata field but tags, versions, times, widget state and widget views (their
    ids are random), and stderr. Neighbouring pieces of stdout become one.
    """
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3 (ipykernel)",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"file_extension": ".py", "name": "python"},
        }
    )
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = _clean_outputs(cell.outputs)
    return notebook


def _clean_outputs(outputs: Iterable) -> list:
    kept = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                continue
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
                continue
        elif "data" in output:
            output.data.pop("application/vnd.jupyter.widget-view+json", None)
            output.metadata = nbformat.NotebookNode()
        kept.append(output)
    return kept


def _execute(
    tasks: Sequence[headless.Task], workers: int, limit_s: float | None, display: "_Display"
) -> Iterator[tuple[headless.Task, headless.Verdict]]:
    headless.sweep_sockets()
    for event in run_tasks(headless.execute, tasks, workers=workers, limit_s=limit_s, tick_s=1):
        task = tasks[event.index]
        if event.kind in ("done", "error", "died"):
            if event.kind == "done":
                verdict = event.value
            else:
                verdict = _no_verdict(event, display)
                headless.salvage(task)
            display.ended(event.index, task.source.stem, verdict)
            yield task, verdict
        else:
            display.event(event, task.source.stem)


def _no_verdict(event: Event, display: "_Display") -> headless.Verdict:
    number, total = display.cell(event.index)
    story = str(event.value).strip()
    reason = story.splitlines()[-1] + (f" in cell {number}/{total}" if total else "")
    return headless.Verdict(False, reason, story, max(number - 1, 0), display.seconds(event.index))


def _keep_results(folder: Path, passed: Sequence[str], display: "_Display") -> None:
    """Rows and predictions to data/results, verdicts to data/claims.csv."""
    results = project_root() / "data" / "results"
    make_writable(results)
    for name in passed:
        for profile in ("full", "sweep"):
            for path in sorted(folder.glob(f"rows/{name}__{profile}__*")):
                with replacing(results / path.name) as part:
                    shutil.copyfile(path, part)
                display.say(f"wrote data/results/{path.name}")
        for path in folder.glob(f"claims/{name}.json"):
            statistics.write_verdicts(path)
            display.say(f"judged the claims of {name}: data/claims.csv")


def _plain(wish: dict) -> dict:
    try:
        return json.loads(json.dumps(wish, allow_nan=False))
    except (TypeError, ValueError) as error:
        remedy = "give numbers, strings, true, false, null, or lists of them"
        raise BadInput("parameters", str(error), remedy) from None


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise BadInput(name, f"{value} given", "give a whole number from 1 on")


class _Display:
    """Progress: one updating line on a terminal, plain lines anywhere else."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._live = stream.isatty()
        self._active: dict[int, tuple[str, float, tuple[int, int]]] = {}

    def say(self, text: str) -> None:
        self._print(f"\r\x1b[K{text}" if self._live else text)
        self._update()

    def event(self, event: Event, name: str) -> None:
        if event.kind == "start":
            self._active[event.index] = (name, time.monotonic(), (0, 0))
        elif event.kind == "note":
            self._active[event.index] = (*self._active[event.index][:2], event.value)
            if not self._live:
                self._print(self._line(event.index))
        elif event.kind == "retry":
            self.say(f"[{name}] {event.value}; trying once more")
        self._update()

    def ended(self, index: int, name: str, verdict: headless.Verdict) -> None:
        self._active.pop(index, None)
        how = "passed" if verdict.passed else f"FAILED: {verdict.reason}"
        self.say(f"[{name}] {how}  ({verdict.cells} cells, {verdict.seconds:.0f} s)")

    def cell(self, index: int) -> tuple[int, int]:
        return self._active[index][2] if index in self._active else (0, 0)

    def seconds(self, index: int) -> float:
        return time.monotonic() - self._active[index][1] if index in self._active else 0.0

    def _line(self, index: int) -> str:
        name, _, (number, total) = self._active[index]
        where = f"cell {number}/{total}" if total else "starting"
        return f"[{name}] {where}  {self.seconds(index):.0f} s"

    def _update(self) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            line = "   ".join(map(self._line, self._active))
            self._print(f"\r\x1b[K{line[:width]}", end="")

    def _print(self, text: str, end: str = "\n") -> None:
        self._stream.write(text + end)
        self._stream.flush()
