"""One notebook, run from top to bottom by papermill, and the truth about how it went.

papermill's own metadata says "completed" for cells that never ran after a dead kernel, so a notebook
has passed here only if nothing was raised and every code cell has an execution count.

A thread watches over a notebook, for the work is done in its kernel: a process of its own, which
ends within a second of this one, however this one ends (ipykernel watches its parent).
"""

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import nbformat
import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpec
from nbclient.exceptions import DeadKernelError
from nbconvert.filters import strip_ansi
from papermill.exceptions import PapermillExecutionError


@dataclass(frozen=True)
class Outcome:
    """How one notebook went.

    Attributes:
        name: The notebook's.
        passed: Whether nothing was raised and every code cell has an execution count.
        reason: One line; empty if it passed.
        traceback: The rest of the story, without colour codes; empty if there is none.
        cells: Number of code cells run.
        seconds: Wall-clock time, start of the kernel included.
    """

    name: str
    passed: bool
    reason: str
    traceback: str
    cells: int
    seconds: float


@dataclass
class Session:
    """One notebook and its kernel; another thread may call :meth:`stop`.

    Attributes:
        source: The notebook; its folder is the kernel's working directory.
        target: Where the executed notebook goes; its log goes beside it, as ``.log``.
        parameters: Injected after the cell tagged ``parameters``; None injects nothing.
        unit_workers: Processes for its units; 0 computes them in the kernel.
    """

    source: Path
    target: Path
    parameters: dict | None
    unit_workers: int = 0
    _cell: str = "cell 0"
    _stopped: str = ""
    _group: int | None = None  # process group of the kernel and its children

    def run(self, limit_s: float, note: Callable[[str], None]) -> Outcome:
        """Run the notebook to its end, which may be a failure.

        Args:
            limit_s: Wall-clock limit in seconds; the kernel is killed beyond it.
            note: Called with a line of text when a cell starts.
        """
        began = time.monotonic()
        timer = threading.Timer(limit_s, self.stop, [f"time limit of {limit_s:g} s reached"])
        timer.daemon = True
        timer.start()
        with self.target.with_suffix(".log").open("a", buffering=1, encoding="utf-8") as log:
            fault, story = self._execute(log, note)
            timer.cancel()
            self._group = None
            cells = _code_cells(self.target) if self.target.exists() else []
            n_run = sum(cell.execution_count is not None for cell in cells)
            if not fault and n_run < len(cells):
                fault = f"{len(cells) - n_run} code cells never ran"
            seconds = round(time.monotonic() - began, 3)
            print(f"{fault or 'passed'}, {seconds} s\n{story}", file=log)
        return Outcome(self.source.stem, not fault, fault, story, n_run, seconds)

    def stop(self, reason: str) -> None:
        """Kill the kernel and its children; without effect on a session that is over."""
        self._stopped = reason
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)

    def _execute(self, log: TextIO, note: Callable) -> tuple[str, str]:
        """One line about what went wrong, and its traceback; both empty if nothing did."""
        total = len(_code_cells(self.source)) + bool(self.parameters)
        numbers = iter(range(1, total + 1))

        def cell_starts(**_) -> None:
            self._cell = f"cell {next(numbers)}/{total}"
            print(time.strftime("%H:%M:%S"), self._cell, file=log)
            note(f"[{self.source.stem}] {self._cell}")

        try:
            papermill.execute_notebook(
                self.source.absolute(),
                self.target,
                self.parameters,
                kernel_name=NATIVE_KERNEL_NAME,
                progress_bar=False,
                # The kernel's folder; papermill's own `cwd` would move all threads there.
                resources={"metadata": {"path": str(self.source.parent)}},
                kernel_manager_class=type("Kernel", (_Kernel,), {"notebook": self, "log_file": log}),
                on_cell_execute=cell_starts,
            )
            return "", ""
        except PapermillExecutionError as error:
            fault, story = f"{error.ename}: {error.evalue}", "\n".join(error.traceback)
        except Exception as error:  # of papermill, nbclient, zmq: this notebook failed, no other
            died = "the kernel died" if isinstance(error, DeadKernelError) else ""
            fault = self._stopped or died or f"{type(error).__name__}: {error}"
            story = traceback.format_exc()
        return f"{self._cell}: {fault.splitlines()[0]}", strip_ansi(story)


class _Kernel(AsyncKernelManager):
    """Starts this environment's Python, whatever kernels a user has registered.

    It talks over IPC because TCP ports race: of 48 kernels started eight at a time, one failed over
    TCP, none over IPC (measured). papermill takes a class, hence what it needs are attributes.
    """

    notebook: Session
    log_file: TextIO  # for what a kernel says outside its cells, such as a fault in C code
    kernel_spec = KernelSpec(**get_kernel_dict())

    def __init__(self, **kwargs):
        # Linux has sockets without files ("@"): nothing to remove, and a long TMPDIR does no harm.
        # Elsewhere the path must be short: a socket's has some 100 characters.
        place = "@" if sys.platform == "linux" else "/tmp/"
        super().__init__(transport="ipc", ip=f"{place}micromacro-{uuid.uuid4().hex}", **kwargs)

    async def _async_start_kernel(self, **kwargs) -> None:
        kwargs["env"] = environment(self.notebook.unit_workers)
        await super()._async_start_kernel(stdout=self.log_file, stderr=self.log_file, **kwargs)
        self.notebook._group = self.provisioner.pgid
        if self.notebook._stopped:  # while it was starting
            self.notebook.stop(self.notebook._stopped)

    start_kernel = _async_start_kernel


def environment(unit_workers: int) -> dict[str, str]:
    """Environment of a kernel: one thread a process, for parallelism comes from processes."""
    libraries = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
    variables = {**os.environ, **{f"{library}_NUM_THREADS": "1" for library in libraries}}
    variables |= {"VECLIB_MAXIMUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}
    variables.pop("MPLBACKEND", None)  # it would turn inline figures off
    return variables | {"MICROMACRO_WORKERS": str(unit_workers)}


def _code_cells(path: Path) -> list:
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
