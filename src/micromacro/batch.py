"""All notebooks, headless: ``make reproduce`` and ``make bake``.

A run is a folder ``runs/<utc>/``::

    index.html              the page to open
    00_start_here.ipynb     executed; with .html (the same as a page) and .log beside it
    rows/*.csv, *.npz       what the notebooks measured (results.write_rows, parameter OUT)
    run.json                what was asked, where and when, and how each notebook went

There is nothing to continue in a run that was killed: its finished units are in ``runs/units``
(:mod:`micromacro.units`), so the same command goes on from there in a new folder. What it left in
``runs/.part-batch-*``, such as the keys of its kernels, goes when the next one starts.
"""

import contextlib
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path

import nbformat
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from tqdm import tqdm

from micromacro import course, report, results, statistics
from micromacro.cache import claimed, sweep_folders
from micromacro.errors import BadInput, check_whole
from micromacro.files import make_writable, project_root, replacing, sweep_files, write_atomically
from micromacro.headless import Session

# Seconds for one notebook. Smoke takes at most 60 on two cores, the full profile up to 5 hours
# with its sweep: several times that, for slow machines. The paper profile has none.
LIMIT_S = {"smoke": 600.0, "full": 24 * 3600.0, "paper": 1e9}


def reproduce(
    profile: str = "smoke",
    notebooks: str | None = None,
    workers: int = 2,
    params: Mapping | Sequence = (),
    *,
    limit_s: float | None = None,
    write_results: bool = False,
) -> bool:
    r"""Run notebooks into ``runs/<utc>/`` and make its page; a failure does not stop the others.

    Args:
        profile: Size of the run: smoke (the default), full or paper.
        notebooks: Numbers or names, such as "00 04"; by default all.
        workers: Processes that compute at once (2): notebooks first; where there are fewer of
            them, each has several for its units.
        params: Further parameters of the notebooks. On the command line one at a time; VALUE is a
            Python literal, or else text.
        limit_s: Seconds that one notebook may take; by default as the profile needs.
        write_results: Copy the rows of the notebooks that passed to data/results and judge their
            claims; for the profile full only.

    Returns:
        Whether every notebook passed.

    Raises:
        BadInput: Before anything has run.

    Examples:
      micromacro reproduce                                   all notebooks, profile smoke
      micromacro reproduce --notebooks "00 01" --workers 1
      micromacro reproduce --profile paper --notebooks 08b \
          --param DATASET=casme2 --param DATA_ROOT=/data/casme2
    """
    paths = course.choose(notebooks)
    params = dict(params)
    values = course.injected(paths, profile, params)
    if write_results and (profile != "full" or params.keys() - {"SWEEP", "DEVICE"}):
        fault = f"profile {profile}, {params}: rows of a part would take the place of the whole"
        raise BadInput("--write-results", fault, "only the profile full, whole: no part, no trial")
    check_whole("workers", workers)
    limit_s = LIMIT_S[profile] if limit_s is None else limit_s
    sweep_files(project_root() / "runs", "*Z/**/")  # of runs that were killed
    folder = project_root() / "runs" / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    make_writable(folder)

    names, pages = tuple(path.stem for path in paths), {}

    def make_page(session: Session) -> None:
        notebook, page = session.target, session.target.with_suffix(".html")
        try:
            pages[notebook.stem] = report.notebook_page(notebook, page, pages=names)
        except (BadInput, OSError) as error:  # a formula, a full disk: this notebook failed
            session.reason = session.reason or str(error)

    for given in values.values():
        given["OUT"] = str(folder)
    sessions = _execute(values, folder, limit_s, workers, make_page)
    index = report.run_page(folder, _record(profile, params, sessions), pages)
    passed = [session.source.stem for session in sessions if not session.reason]
    if write_results:
        _keep_results(folder, passed)
    print(f"{len(passed)} of {len(paths)} passed\n{index}", flush=True)
    return len(passed) == len(paths)


def bake(notebooks: str | None = None, workers: int = 2) -> bool:
    """Execute the committed notebooks in place with their defaults; keep outputs, drop litter.

    A notebook that fails stays as it was.

    Args:
        notebooks: Numbers or names, such as "00 04"; by default all.
        workers: Notebooks at once (2).

    Returns:
        Whether every notebook passed.

    Raises:
        BadInput: Before anything has run.

    Examples:
      micromacro bake
      micromacro bake --notebooks 01
    """
    paths = course.choose(notebooks)
    check_whole("workers", workers)
    for path in paths:
        course.declared(path)  # refuses what is no notebook of the course

    def put_back(session: Session) -> None:
        if not session.reason:
            notebook = clean(nbformat.read(session.target, as_version=4))
            write_atomically(session.source, nbformat.writes(notebook) + "\n")
        tqdm.write(session.traceback, end="")

    sessions = _execute(dict.fromkeys(paths), None, LIMIT_S["smoke"], workers, put_back)
    return not any(session.reason for session in sessions)


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what changes from run to run or from machine to machine; keep outputs and counts.

    Dropped: every metadata field but tags and how a figure is shown, versions, times, widget
    state and widget views (their ids are random), and stderr. Neighbouring pieces of stdout become
    one.
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
                shown = {"image/png": output.metadata.get("image/png", {})}
                output.metadata = nbformat.from_dict(shown if shown["image/png"] else {})
    return notebook


@contextlib.contextmanager
def _workshop() -> Iterator[Path]:
    """A folder for what nobody needs after this batch; those of killed batches are removed.

    Whether a batch lives is said by its lock, which holds across containers; process ids do not.
    """
    runs = project_root() / "runs"
    make_writable(runs)
    sweep_folders(runs)
    with claimed(runs / f"batch-{uuid.uuid4().hex[:8]}") as folder:
        folder.chmod(0o700)
        yield folder


def _execute(values: Mapping, folder, limit_s, workers, finish: Callable) -> list[Session]:
    """Run notebooks, some at once, and ``finish`` each; one that fails does not stop the others.

    Args:
        values: Notebook -> what is injected into it; None injects nothing.
        folder: Where the executed notebooks go; None for one that is removed at the end.
        limit_s: Seconds that one notebook may take.
        workers: Processes at once: notebooks, or several for the units of each of a few.
        finish: Called in this thread when a notebook is over.
    """
    logging.getLogger("papermill").addHandler(logging.NullHandler())  # the session says it
    at_once = min(workers, len(values))
    of_units = workers // at_once if workers >= 2 * at_once else 0  # 0 computes in the kernel
    with _workshop() as shop, tqdm(total=len(values), unit="notebook", disable=None) as bar:
        places = [(path, (folder or shop) / path.name, shop) for path in values]
        sessions = [Session(*p, values[p[0]], limit_s, of_units) for p in places]
        # A terminal gets one line that is updated, a log a line for each cell.
        note, pool = bar.write if bar.disable else bar.set_postfix_str, ThreadPoolExecutor(at_once)
        try:
            for future in as_completed([pool.submit(session.run, note) for session in sessions]):
                session = future.result()
                finish(session)
                end = f"FAILED: {session.reason}" if session.reason else "passed"
                size = f"({session.cells} cells, {session.seconds:.0f} s)"
                bar.write(f"[{session.source.stem}] {end}  {size}")
                bar.update()
        finally:  # by Ctrl-C too: leave no kernel
            pool.shutdown(wait=False, cancel_futures=True)
            for session in sessions:
                session.stop("the batch was stopped")
            pool.shutdown()
    return sessions


def _record(profile: str, params: Mapping, sessions: Sequence[Session]) -> dict:
    """What was asked, where and when, and how each notebook went."""
    packages = ("micromacro", "torch", "numpy", "opencv-contrib-python-headless", "papermill")
    fields = ("reason", "traceback", "cells", "seconds")
    return {
        "profile": profile,
        "params": params,
        **results.provenance(),
        "machine": results.hardware(),
        "versions": {package: results.version(package) for package in packages},
        "notebooks": {s.source.stem: {f: getattr(s, f) for f in fields} for s in sessions},
    }


def _keep_results(folder: Path, passed: Sequence[str]) -> None:
    """Rows and predictions to data/results, verdicts to data/claims.csv."""
    kept = project_root() / "data" / "results"
    for name in passed:
        for path in sorted(folder.glob(f"rows/{name}__*")):
            with replacing(kept / path.name) as part:
                part.write_bytes(path.read_bytes())
            print(f"wrote data/results/{path.name}")
        for path in folder.glob(f"claims/{name}.json"):
            statistics.write_verdicts(path)
            print(f"judged the claims of {name}: data/claims.csv")
