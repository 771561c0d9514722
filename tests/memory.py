"""How much memory a call takes."""

import contextlib
import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace


@contextlib.contextmanager
def traced() -> Iterator[SimpleNamespace]:
    """Trace what Python allocates inside; afterwards ``peak`` holds the most at any time, in bytes.

    Nothing is traced after an error either: it makes Python many times slower.
    """
    memory = SimpleNamespace(peak=None)
    tracemalloc.start()
    try:
        yield memory
    finally:
        memory.peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
