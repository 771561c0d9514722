"""Micro & Macro: motion and emotion in faces, from a raw video to five published systems.

Importing this package touches no device, downloads nothing, seeds nothing and prints nothing.
"""

from pathlib import Path

__version__ = "0.1.0"

# Taken before any module is loaded, so that `cache` can tell which sources were edited since.
SOURCES = {p: p.stat() for p in Path(__file__).resolve().parent.rglob("*.py") if p.is_file()}
