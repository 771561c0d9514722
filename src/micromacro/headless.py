"""One notebook, run from top to bottom by papermill, and the truth about how it went.

papermill's own metadata says "completed" for cells that never ran after a dead kernel, so a notebook
has passed here only if nothing was raised and every code cell has an execution count.

The kernel is this environment's Python, whatever kernels are registered. It talks over IPC because
TCP ports race: of 48 kernels started eight at a time, one failed over TCP, none over IPC (measured).
It dies with its parent.
"""

import contextlib
import functools
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import ipykernel.kernelspec
import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpec, KernelSpecManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from micromacro.pages import notebook_page
from micromacro.unit_store import process_alive
from micromacro.workers import kill_with_parent

_SOCKETS = "micromacro-ipc-"
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Task:
    """What a worker needs to run one notebook.

    Attributes:
        source: The notebook; its folder is the kernel's working directory.
        folder: Where ``<name>.ipynb``, ``<name>.html`` and ``<name>.log`` go.
        parameters: Injected after the cell tagged ``parameters``; None injects nothing.
        pages: Names of the notebooks whose pages will lie beside this one's.
    """

    source: Path
    folder: Path
    parameters: dict | None
    pages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """How a notebook went.

    Attributes:
        passed: No exception, and every code cell has an execution count.
        reason: One line; empty if it passed.
        traceback: The rest of the story, without colour codes; empty if it passed.
        cells: Number of code cells run.
        seconds: Wall-clock time, kernel start included.
    """

    passed: bool
    reason: str
    traceback: str
    cells: int
    seconds: float


def execute(task: Task, note: Callable[[tuple[int, int]], None]) -> Verdict:
    """Run one notebook; ``note`` gets (number of the code cell that starts, number of all)."""
    began = time.monotonic()
    name = task.source.stem
    output = task.folder / task.source.name
    os.environ.pop("MPLBACKEND", None)  # it would turn inline figures off
    with _output_to(task.folder / f"{name}.log"):
        reason, story = _papermill(task, output, note)
        notebook = nbformat.read(output, as_version=4) if output.exists() else None
        ran, never = _count(notebook)
        if not reason and never:
            reason = f"{never} code cells never ran"
        if notebook is not None:
            notebook_page(output, output.with_suffix(".html"), pages=task.pages)
        seconds = time.monotonic() - began
        print(f"{name}: {reason or 'passed'}, {seconds:.1f} s\n{story}", flush=True)
    return Verdict(not reason, reason, story, ran, seconds)


def salvage(task: Task) -> None:
    """After a worker was killed: a page of the notebook as far as it was written, if it is whole."""
    output = task.folder / task.source.name
    try:
        notebook_page(output, output.with_suffix(".html"), pages=task.pages)
    except (ValueError, OSError):  # torn, or never begun
        output.unlink(missing_ok=True)


def _papermill(task: Task, output: Path, note: Callable) -> tuple[str, str]:
    """(reason, traceback) of what went wrong; both empty if nothing did."""
    progress = _Progress(task, note)
    try:
        papermill.execute_notebook(
            task.source,
            output,
            parameters=task.parameters,
            kernel_name=NATIVE_KERNEL_NAME,
            cwd=task.source.parent,
            progress_bar=False,
            kernel_manager_class=IpcKernelManager,
            on_cell_execute=progress.cell_starts,
            on_cell_executed=progress.cell_ends,
        )
    except PapermillExecutionError as error:
        first = str(error.evalue).strip().splitlines()[:1]
        reason = ": ".join([f"cell {error.exec_count}", error.ename, *first])
        return reason, _ANSI.sub("", "\n".join(error.traceback))
    except DeadKernelError:
        return f"the kernel died in cell {progress.number}/{progress.total}", traceback.format_exc()
    except Exception as error:
        first = str(error).strip().splitlines()[:1]
        reason = ": ".join([f"cell {progress.number}", type(error).__name__, *first])
        return reason, _ANSI.sub("", traceback.format_exc())
    return "", ""


def _count(notebook) -> tuple[int, int]:
    """(code cells with an execution count, code cells without)."""
    cells = [] if notebook is None else [c for c in notebook.cells if is_code(c)]
    ran = sum(cell.execution_count is not None for cell in cells)
    return ran, len(cells) - ran


def is_code(cell) -> bool:
    """Whether a cell runs: a code cell that is not blank."""
    return cell.cell_type == "code" and bool(cell.source.strip())


class _Progress:
    """Tells the parent which cell starts, and writes it to the log with its time."""

    def __init__(self, task: Task, note: Callable):
        cells = nbformat.read(task.source, as_version=4).cells
        self.total = sum(map(is_code, cells)) + bool(task.parameters)
        self.number = 0
        self._note = note

    def cell_starts(self, **_) -> None:
        self.number += 1
        self._began = time.monotonic()
        self._note((self.number, self.total))

    def cell_ends(self, **_) -> None:
        seconds = time.monotonic() - self._began
        print(f"cell {self.number}/{self.total}: {seconds:.1f} s", flush=True)


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Everything that this process and its kernel write to stdout or stderr goes to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for handle, target in zip(before, (1, 2), strict=True):
            os.dup2(handle, target)
            os.close(handle)


class EnvironmentKernels(KernelSpecManager):
    """``python3`` is the Python that runs this, whatever a user's registered kernels say."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The kernel spec of that name; without a file for ``python3``."""
        if kernel_name == NATIVE_KERNEL_NAME:
            return KernelSpec(
                resource_dir=ipykernel.kernelspec.RESOURCES,
                **ipykernel.kernelspec.get_kernel_dict(),
            )
        return super().get_kernel_spec(kernel_name)


class IpcKernelManager(AsyncKernelManager):
    """For ``papermill.execute_notebook(..., kernel_manager_class=IpcKernelManager)``."""

    def __init__(self, **kwargs):
        super().__init__(kernel_spec_manager=EnvironmentKernels(), **kwargs)
        # Short: a socket's path may have about 100 characters.
        self._folder = tempfile.mkdtemp(prefix=f"{_SOCKETS}{os.getpid()}-")
        self.transport, self.ip = "ipc", str(Path(self._folder) / "k")

    async def _async_start_kernel(self, **kwargs) -> None:
        kwargs.setdefault("preexec_fn", functools.partial(kill_with_parent, os.getpid()))
        await super()._async_start_kernel(**kwargs)

    start_kernel = _async_start_kernel

    async def _async_cleanup_resources(self, restart: bool = False) -> None:
        await super()._async_cleanup_resources(restart)
        if not restart:
            shutil.rmtree(self._folder, ignore_errors=True)

    cleanup_resources = _async_cleanup_resources


def sweep_sockets() -> None:
    """Remove the socket folders of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SOCKETS}*"):
        if not process_alive(int(folder.name.split("-")[2])):
            shutil.rmtree(folder, ignore_errors=True)
