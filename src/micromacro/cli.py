"""The command ``micromacro``. Everything heavy is imported by the subcommand that needs it.

A subcommand is a function in :data:`COMMANDS`: its signature is its arguments, its docstring its
help. It returns whether all went well.
"""

import argparse
import ast
import inspect
import os
import re
import signal
import sys
import threading
import time
import typing
import warnings
from collections.abc import Callable, Sequence

from micromacro import __version__
from micromacro.errors import BadInput


def reproduce(
    *,
    profile: str = "smoke",
    notebooks: str | None = None,
    workers: int = 2,
    param: list = (),
    limit_s: float | None = None,
    write_results: bool = False,
) -> bool:
    r"""Run the notebooks headlessly.

    Args:
        profile: smoke, full or paper
        notebooks: numbers or names, such as "00 04"; all if left out
        workers: processes that compute at once
        param: a further parameter, NAME=VALUE; VALUE is a Python literal, or else text; may be
            repeated
        limit_s: seconds that one notebook may take; by the profile if left out
        write_results: copy the rows to data/results and judge the claims; profile full only

    Examples:
      micromacro reproduce                                   all notebooks, profile smoke
      micromacro reproduce --notebooks "00 01" --workers 1
      micromacro reproduce --profile paper --notebooks 08 \
          --param DATASET=casme2 --param DATA_ROOT=/data/casme2
    """
    from micromacro import batch

    params = dict(map(_parameter, param))
    return batch.reproduce(
        profile, notebooks, workers, params, limit_s=limit_s, write_results=write_results
    )


def bake(*, notebooks: str | None = None, workers: int = 2) -> bool:
    """Execute the committed notebooks in place.

    Args:
        notebooks: numbers or names, such as "00 04"; all if left out
        workers: notebooks at once

    Examples:
      micromacro bake
      micromacro bake --notebooks 01
    """
    from micromacro import batch

    return batch.bake(notebooks, workers)


def faces(
    video: str,
    out: str,
    *,
    mode: str = "stabilised",
    size: int = 224,
    backend: str = "mtcnn",
    weights: str | None = None,
    sha256: str | None = None,
    select: str = "auto",
    fps: float | None = None,
) -> bool:
    """Turn a video into a track of one face.

    Args:
        video: a video file or a folder of images
        out: a folder, or a name in .npz
        mode: stabilised, aligned, first_frame or per_frame
        size: side of the crop in pixels
        backend: mtcnn or yunet
        weights: file of the detector's weights, where it needs one
        sha256: expected checksum of that file
        select: which face, if there are several
        fps: frames per second of a folder of images

    Examples:
      micromacro faces interview.mp4 faces/
      micromacro faces frames/ smile.npz --fps 200 --mode aligned --size 112
    """
    options = dict(locals())  # they are export_faces's own; a test compares the defaults
    import cv2
    import torch

    from micromacro.faces.export import export_faces

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(export_faces(options.pop("video"), **options, progress=sys.stderr.isatty()))
    return True


def data_check(name: str, path: str) -> bool:
    """Say what of an official data set is there, missing or wrong.

    Args:
        name: omg, affwild, affwild2, casme, casme2, smic or samm
        path: its root folder, see data/README.md

    Examples:
      micromacro data check omg /data/omg
      micromacro data check affwild2 /data/affwild2 || echo "not complete"
    exit status: 0 all there and sound, 1 something missing, wrong or unlisted, 2 bad input
    """
    from micromacro.data_check import show

    return show(name, path)


def report() -> bool:
    """Write the committed notebooks as a static site.

    Example:
      micromacro report        then open runs/site/index.html
    """
    from micromacro.report import site

    print(site())
    return True


COMMANDS = {  # by the words that call them
    "reproduce": reproduce,
    "bake": bake,
    "faces": faces,
    "data check": data_check,
    "report": report,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit status: 0 done, 1 something failed, 2 bad input, 130 Ctrl-C."""
    options = vars(_parser().parse_args(argv))
    if argv is None:  # a process of its own, not a call
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clean up on the way out
        if "MAKELEVEL" in os.environ:  # started by make, which may be killed
            threading.Thread(target=_end_with_parent, args=[os.getppid()], daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything heavy is imported
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    try:
        return 0 if options.pop("command")(**options) else 1
    except BadInput as error:
        print(f"micromacro: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("micromacro: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> typing.NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="micromacro",
        description="Micro & Macro: five papers on motion and emotion in faces.",
        epilog="exit status: 0 done, 1 something failed, 2 bad input",
    )
    parser.add_argument("--version", action="version", version=f"micromacro {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    data = commands.add_parser("data", help="Look after official data sets.")
    groups = {"": commands, "data": data.add_subparsers(metavar="ACTION", required=True)}
    for words, command in COMMANDS.items():
        group, _, name = words.rpartition(" ")
        _add_command(groups[group], name, command)
    return parser


def _add_command(commands, name: str, command: Callable[..., bool]) -> None:
    text = inspect.cleandoc(command.__doc__)
    about, *_, examples = text.split("\n\n")
    helps = dict(re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", text, re.MULTILINE))
    style = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(name, help=about, epilog=examples, formatter_class=style)
    parser.description = about
    parser.set_defaults(command=command)
    kinds = {bool: {"action": "store_true"}, list: {"action": "append"}}
    for name, argument in inspect.signature(command).parameters.items():
        if argument.default is argument.empty:
            parser.add_argument(name, metavar=name.upper(), help=helps[name])
            continue
        kind = (typing.get_args(argument.annotation) or [argument.annotation])[0]
        settings = {"default": argument.default, **kinds.get(kind, {"type": kind})}
        shown = f" ({argument.default})" if argument.default else ""
        parser.add_argument(f"--{name.replace('_', '-')}", help=helps[name] + shown, **settings)


def _end_with_parent(parent: int) -> None:
    """End as by SIGTERM within a second of the parent's end, even if that was by SIGKILL."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _parameter(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        remedy = 'write for instance --param "SEEDS=[1, 2]"'
        raise BadInput(f"--param {text}", "not NAME=VALUE", remedy)
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


if __name__ == "__main__":
    sys.exit(main())
