"""All notebooks, headless: ``make reproduce`` and ``make bake``.

A run is a folder ``runs/<utc>/``::

    index.html              the page to open
    00_start_here.ipynb     executed; with .html (the same as a page) and .log beside it
    rows/*.csv, *.npz       what the notebooks measured (results.write_rows, parameter OUT)
    run.json                what was asked, where and when, and how each notebook went

There is nothing to continue in a run that was killed: its finished units are in ``runs/units``
(:mod:`micromacro.units`), so the same command goes on from there in a new folder.
"""

import contextlib
import functools
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import TIMEOUT_MAX
from typing import TextIO

import nbformat
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from tqdm import tqdm

from micromacro import course, report, statistics
from micromacro.errors import BadInput
from micromacro.files import replacing
from micromacro.headless import Outcome, Session
from micromacro.results import make_writable, project_root, provenance, write_atomically

# Seconds for one notebook. Smoke takes at most 60 on two cores, the full profile 2 hours with its
# sweeps: several times that, for slow machines. The paper profile has no limit.
LIMIT_S = {"smoke": 600.0, "full": 6 * 3600.0, "paper": TIMEOUT_MAX}


def reproduce(
    profile: str = "smoke",
    notebooks: str | None = None,
    workers: int = 2,
    params: Mapping | None = None,
    *,
    limit_s: float | None = None,
    write_results: bool = False,
    stream: TextIO | None = None,
) -> bool:
    """Run notebooks into ``runs/<utc>/`` and make its page; a failure does not stop the others.

    Args:
        profile: ``"smoke"``, ``"full"`` or ``"paper"``.
        notebooks: Numbers or names; None means all.
        workers: Processes that compute at once: notebooks first; where there are fewer of them,
            each has several for its units.
        params: Further parameters, by name.
        limit_s: Time limit of one notebook in seconds; None means that of the profile.
        write_results: Copy the rows of the notebooks that passed to ``data/results`` and judge
            their claims; for the profile ``full`` only.
        stream: Where progress goes; stdout by default.

    Returns:
        Whether every notebook passed.

    Raises:
        BadInput: Before anything has run.
    """
    paths = course.choose(notebooks)
    values = course.injected(paths, profile, params or {})
    if write_results and profile != "full":
        raise BadInput("--write-results", f"profile {profile}", "only the profile full is recorded")
    at_once, unit_workers = _shared(workers, len(paths))
    folder = _new_folder(project_root() / "runs")
    sessions = [
        Session(path, folder / path.name, values[path] | {"OUT": str(folder)}, unit_workers)
        for path in paths
    ]
    names = tuple(path.stem for path in paths)

    def with_page(outcome: Outcome) -> Outcome:
        source = folder / f"{outcome.name}.ipynb"
        try:
            report.notebook_page(source, source.with_suffix(".html"), pages=names)
        except (BadInput, OSError) as error:  # a formula, a full disk: this notebook failed
            return replace(outcome, passed=False, reason=outcome.reason or str(error))
        return outcome

    limit_s = LIMIT_S[profile] if limit_s is None else limit_s
    outcomes = _execute(sessions, at_once, limit_s, stream, with_page)
    run = {"profile": profile, "params": dict(params or {}), **provenance(), **report.machine()}
    run["notebooks"] = [asdict(outcome) for outcome in outcomes]
    write_atomically(folder / "run.json", json.dumps(run, indent=1))
    index = report.run_page(folder)
    passed = [outcome.name for outcome in outcomes if outcome.passed]
    if write_results:
        _keep_results(folder, passed, stream)
    print(f"{len(passed)} of {len(paths)} passed\n{index}", file=stream, flush=True)
    return len(passed) == len(paths)


def bake(notebooks: str | None = None, workers: int = 2, *, stream: TextIO | None = None) -> bool:
    """Execute the committed notebooks in place with their defaults; keep outputs, drop litter.

    A notebook that fails stays as it was.

    Returns:
        Whether every notebook passed.

    Raises:
        BadInput: Before anything has run.
    """
    paths = course.choose(notebooks)
    at_once, _ = _shared(workers, len(paths))
    runs = project_root() / "runs"
    make_writable(runs)
    with tempfile.TemporaryDirectory(dir=runs, prefix=".bake-") as folder:

        def put_back(outcome: Outcome) -> Outcome:
            if outcome.passed:
                notebook = nbformat.read(Path(folder) / f"{outcome.name}.ipynb", as_version=4)
                target = paths[0].with_name(f"{outcome.name}.ipynb")
                write_atomically(target, nbformat.writes(clean(notebook)) + "\n")
            else:
                tqdm.write(outcome.traceback, file=stream)
            return outcome

        sessions = [Session(path, Path(folder) / path.name, None) for path in paths]
        outcomes = _execute(sessions, at_once, LIMIT_S["smoke"], stream, put_back)
    return all(outcome.passed for outcome in outcomes)


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what changes from run to run or from machine to machine; keep outputs and counts.

    Dropped: every metadata field but tags, versions, times, widget state and widget views (their
    ids are random), and stderr. Neighbouring pieces of stdout become one.
    """
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    language = {"file_extension": ".py", "name": "python"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": language})
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, 0)
        for output in cell.get("outputs", ()):
            if "data" in output:
                output.data.pop(report.WIDGET, None)
                output.metadata = nbformat.NotebookNode()
    return notebook


def _execute(
    sessions: Sequence[Session],
    at_once: int,
    limit_s: float,
    stream: TextIO | None,
    finish: Callable[[Outcome], Outcome],
) -> list[Outcome]:
    """Run sessions, some at once; how each went, by name, after ``finish`` has looked at it."""
    logging.getLogger("papermill").addHandler(logging.NullHandler())  # the outcome says it
    outcomes = []
    pool = ThreadPoolExecutor(at_once)
    with tqdm(total=len(sessions), unit="notebook", disable=None, file=stream) as bar:
        say = functools.partial(bar.write, file=stream)
        # A terminal gets one line that is updated, a log a line for each cell.
        note = say if bar.disable else bar.set_postfix_str
        try:
            futures = [pool.submit(session.run, limit_s, note) for session in sessions]
            for future in as_completed(futures):
                outcome = finish(future.result())
                outcomes.append(outcome)
                end = "passed" if outcome.passed else f"FAILED: {outcome.reason}"
                say(f"[{outcome.name}] {end}  ({outcome.cells} cells, {outcome.seconds:.0f} s)")
                bar.update()
        finally:  # by Ctrl-C too: leave no kernel
            pool.shutdown(wait=False, cancel_futures=True)
            for session in sessions:
                session.stop("the batch was stopped")
            pool.shutdown()
    return sorted(outcomes, key=lambda outcome: outcome.name)


def _keep_results(folder: Path, passed: Sequence[str], stream: TextIO | None) -> None:
    """Rows and predictions to data/results, verdicts to data/claims.csv."""
    results = project_root() / "data" / "results"
    make_writable(results)
    for name in passed:
        for path in sorted(folder.glob(f"rows/{name}__*")):
            with replacing(results / path.name) as part:
                shutil.copyfile(path, part)
            print(f"wrote data/results/{path.name}", file=stream)
        for path in folder.glob(f"claims/{name}.json"):
            statistics.write_verdicts(path)
            print(f"judged the claims of {name}: data/claims.csv", file=stream)


def _shared(workers: int, n_notebooks: int) -> tuple[int, int]:
    """Notebooks at once, and processes for the units of each; 0 computes them in its kernel."""
    if workers < 1:
        raise BadInput("workers", f"{workers} given", "give a whole number from 1 on")
    at_once = min(workers, n_notebooks)
    return at_once, workers // at_once if workers >= 2 * at_once else 0


def _new_folder(runs: Path) -> Path:
    make_writable(runs)
    while True:  # a second later if another call has taken this one's name
        folder = runs / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
        time.sleep(0.1)
