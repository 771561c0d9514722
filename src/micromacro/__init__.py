"""Micro & Macro: motion and emotion in faces, from a raw video to five published systems.

Importing this package touches no device, downloads nothing, seeds nothing and prints nothing.
"""

__version__ = "0.1.0"
