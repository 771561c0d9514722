"""What nbval needs to test notebooks as JupyterLab runs them; see also tests/conftest.py."""

import contextlib
import os
import time
from queue import Empty

import pytest

os.environ.pop("MPLBACKEND", None)  # set to Agg it would turn inline figures off
# The kernels inherit these: one thread per process, as in every other run.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

_CELL_TIMEOUT_S = 120  # nbval's own default, 2000 s, would let a dead kernel hang half an hour


def pytest_configure(config: pytest.Config) -> None:
    """Mend nbval where it runs."""
    if not (config.getoption("nbval", False) or config.getoption("nbval_lax", False)):
        return
    if config.option.nbval_cell_timeout == 2000:
        config.option.nbval_cell_timeout = _CELL_TIMEOUT_S
    from nbval.kernel import RunningKernel

    RunningKernel.execute_cell_input = _execute_as_jupyterlab_does
    RunningKernel.await_reply = _await_reply_of_a_living_kernel


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """Leave stderr out of the comparison: progress bars and warnings vary."""
    collected = yield
    for file in collected if isinstance(collected, list) else [collected]:
        if hasattr(file, "skip_compare"):  # an nbval file
            file.skip_compare = (*file.skip_compare, "stderr")
    return collected


def _execute_as_jupyterlab_does(self, cell_input, allow_stdin=None):
    """With history: without it IPython ignores a trailing semicolon (nbval issue 194)."""
    return self.kc.execute(
        cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False
    )


def _await_reply_of_a_living_kernel(self, msg_id, timeout=None):
    """Like nbval's, but a kernel that died is noticed within two seconds."""
    deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(Empty):
            message = self.get_message(stream="shell", timeout=min(left, 2))
            if message["parent_header"].get("msg_id") == msg_id:
                return
        if not self.is_alive():
            raise RuntimeError("the kernel died in this cell")
    raise Empty
