"""One notebook, run from top to bottom by papermill, and the truth about how it went.

papermill's own metadata says "completed" for cells that never ran after a dead kernel, so a
notebook has passed here only if nothing was raised and every code cell has an execution count.

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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import DeadKernelError
from nbconvert.filters import strip_ansi

from micromacro.units import ONE_THREAD

START_S = 120  # within which a kernel must answer: many at once on a slow file system need a minute


@dataclass
class Session:
    """One notebook: what is to be run and, after :meth:`run`, how it went.

    Attributes:
        source: The notebook; its folder is the kernel's working directory.
        target: Where the executed notebook goes; its log goes beside it, as ``.log``.
        workshop: Folder for the file that tells the kernel its key, and for its sockets.
        parameters: Injected after the cell tagged ``parameters``; None injects nothing.
        limit_s: Wall-clock limit in seconds; the kernel is killed beyond it.
        unit_workers: Processes for its units; 0 computes them in the kernel.
        reason: One line about what went wrong; empty if it passed: nothing was raised, and every
            code cell has an execution count.
        traceback: Of an exception, without colour codes; else empty.
        cells: Number of code cells begun.
        seconds: Wall-clock time, start of the kernel included.
    """

    source: Path
    target: Path
    workshop: Path
    parameters: dict | None
    limit_s: float
    unit_workers: int = 0
    reason: str = ""
    traceback: str = ""
    cells: int = 0
    seconds: float = 0.0
    _stopped: str = ""
    _group: int | None = None  # process group of the kernel and its children

    def run(self, note: Callable[[str], None]) -> "Session":
        """Run the notebook to its end or its failure; ``note`` gets a line for each cell."""
        began = time.monotonic()
        timer = threading.Timer(self.limit_s, self.stop, [f"limit of {self.limit_s:g} s reached"])
        timer.daemon = True
        timer.start()
        with self.target.with_suffix(".log").open("a", buffering=1, encoding="utf-8") as self._log:
            with contextlib.closing(ensure_event_loop()):  # jupyter_client's, one a thread
                self._execute(note)
            print(self.reason or "passed", self.traceback, file=self._log)
        timer.cancel()
        self._group = None
        self.seconds = round(time.monotonic() - began, 3)
        return self

    def stop(self, reason: str) -> None:
        """Kill the kernel and its children, from any thread; without effect on an ended session."""
        self._stopped = reason
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)

    def _execute(self, note: Callable[[str], None]) -> None:
        total = len(_code_cells(nbformat.read(self.source, as_version=4))) + bool(self.parameters)

        def cell_starts(**_) -> None:
            self.cells += 1
            note(f"[{self.source.stem}] cell {self.cells}/{total}")
            print(f"{time.strftime('%H:%M:%S')} cell {self.cells}/{total}", file=self._log)

        try:
            notebook = papermill.execute_notebook(
                self.source.absolute(),
                self.target,
                self.parameters,
                kernel_name="python3",
                progress_bar=False,
                start_timeout=START_S,
                # The kernel's folder; papermill's own `cwd` would move all threads there.
                resources={"metadata": {"path": str(self.source.parent)}},
                kernel_manager_class=type("Kernel", (_Kernel,), {"notebook": self}),
                on_cell_execute=cell_starts,
            )
            never = sum(cell.execution_count is None for cell in _code_cells(notebook))
            self.reason = f"{never} code cells never ran" if never else ""
            return
        except papermill.PapermillExecutionError as error:
            fault, self.traceback = f"{error.ename}: {error.evalue}", "\n".join(error.traceback)
        except DeadKernelError:
            fault = "the kernel died"
        except Exception as error:  # of papermill, nbclient, zmq: this notebook failed, no other
            fault, self.traceback = f"{type(error).__name__}: {error}", traceback.format_exc()
        self.reason = f"cell {self.cells}/{total}: {self._stopped or fault.splitlines()[0]}"
        self.traceback = strip_ansi(self.traceback)


class _Kernel(AsyncKernelManager):
    """Starts this environment's Python, whatever kernels a user has registered.

    It talks over IPC because TCP ports race: of 48 kernels started eight at a time, one failed over
    TCP, none over IPC (measured). papermill takes a class, hence the attribute.
    """

    notebook: Session
    kernel_spec = KernelSpec(**get_kernel_dict())

    def __init__(self, **kwargs):
        place = self.notebook.workshop / self.notebook.source.stem
        # Linux has sockets without files ("@"). Elsewhere the path of one has some 100 bytes.
        sockets = f"@micromacro-{os.urandom(8).hex()}" if sys.platform == "linux" else str(place)
        if len(os.fsencode(sockets)) < 100:
            kwargs |= {"transport": "ipc", "ip": sockets}
        super().__init__(connection_file=f"{place}.json", **kwargs)

    async def _async_start_kernel(self, **kwargs) -> None:
        # A backend in the environment would turn inline figures off; an empty one is none.
        own = {"MPLBACKEND": "", "MICROMACRO_WORKERS": str(self.notebook.unit_workers)}
        kwargs["env"] = os.environ | ONE_THREAD | own
        log = self.notebook._log  # for what it says outside its cells, such as a fault in C code
        try:
            await super()._async_start_kernel(stdout=log, stderr=log, **kwargs)
        except Exception:  # such as no socket left: leave no kernel, and no socket open
            await self._async_shutdown_kernel(now=True)
            raise
        self.notebook._group = self.provisioner.pgid
        if self.notebook._stopped:  # while it was starting
            self.notebook.stop(self.notebook._stopped)

    start_kernel = _async_start_kernel


def _code_cells(notebook: nbformat.NotebookNode) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
