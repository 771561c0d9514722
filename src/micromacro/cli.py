"""The command ``micromacro``. Everything heavy is imported by the subcommand that needs it."""

import argparse
import ast
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from micromacro import __version__
from micromacro.errors import BadInput
from micromacro.workers import kill_with_parent

_EXAMPLES = {
    "reproduce": """examples:
  micromacro reproduce                                   all notebooks, profile smoke
  micromacro reproduce --notebooks "00 01" --workers 1
  micromacro reproduce --profile paper --notebooks 08 \\
      --param DATASET=casme2 --param DATA_ROOT=/data/casme2""",
    "bake": """examples:
  micromacro bake
  micromacro bake --notebooks 01""",
    "faces": """examples:
  micromacro faces interview.mp4 faces/
  micromacro faces frames/ smile.npz --fps 200 --mode aligned --size 112""",
    "data": """example:
  micromacro data check omg /data/omg""",
    "check": """examples:
  micromacro data check omg /data/omg
  micromacro data check affwild2 /data/affwild2 || echo "not complete"
exit status: 0 all there and sound, 1 something missing, wrong or unlisted, 2 bad input""",
    "report": """example:
  micromacro report        then open runs/site/index.html""",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit status: 0 done, 1 something failed, 2 bad input, 130 Ctrl-C."""
    arguments = _parser().parse_args(argv)
    if argv is None:  # a process of its own, not a call
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clean up on the way out
        if "MAKELEVEL" in os.environ:  # started by make: end with it, even by SIGKILL
            kill_with_parent(os.getppid())
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything heavy is imported
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    try:
        return arguments.run(arguments)
    except BadInput as error:
        print(f"micromacro: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("micromacro: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="micromacro",
        description="Micro & Macro: five papers on motion and emotion in faces.",
        epilog="exit status: 0 done, 1 something failed, 2 bad input",
    )
    parser.add_argument("--version", action="version", version=f"micromacro {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_reproduce(_command(commands, "reproduce", _reproduce, "run the notebooks headlessly"))
    _add_bake(_command(commands, "bake", _bake, "execute the committed notebooks in place"))
    _add_faces(_command(commands, "faces", _faces, "a video to a track of one face"))
    data = _command(commands, "data", _check_data, "look after official data sets")
    actions = data.add_subparsers(metavar="ACTION", required=True)
    _add_check(_command(actions, "check", _check_data, "what is there, missing or wrong"))
    _command(commands, "report", _report, "the committed notebooks as a static site")
    return parser


def _command(commands, name: str, function, description: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=description,
        description=f"{description[0].upper()}{description[1:]}.",
        epilog=_EXAMPLES[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=function)
    return parser


def _add_reproduce(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default="smoke", help="smoke (default), full or paper")
    _add_choice(parser)
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a further parameter; VALUE is a Python literal, or else text; may be repeated",
    )
    parser.add_argument(
        "--limit-s", type=float, help="time limit of one notebook in seconds (by the profile)"
    )
    parser.add_argument(
        "--write-results",
        action="store_true",
        help="copy the rows to data/results (profile full only)",
    )


def _add_bake(parser: argparse.ArgumentParser) -> None:
    _add_choice(parser)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--notebooks", metavar='"00 04"', help="numbers or names (all)")
    parser.add_argument("--workers", type=int, default=2, help="notebooks at once (2)")


def _add_faces(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", metavar="VIDEO", help="a video file or a folder of images")
    parser.add_argument("out", metavar="OUT", help="a folder, or a name in .npz")
    parser.add_argument(
        "--mode",
        default="stabilised",
        help="stabilised (default), aligned, first_frame or per_frame",
    )
    parser.add_argument("--size", type=int, default=224, help="side of the crop in pixels (224)")
    parser.add_argument("--backend", default="mtcnn", help="mtcnn (default) or yunet")
    parser.add_argument("--weights", help="file of the detector's weights, where it needs one")
    parser.add_argument("--sha256", help="expected checksum of that file")
    parser.add_argument("--select", default="auto", help="which face, if there are several (auto)")
    parser.add_argument("--fps", type=float, help="frames per second of a folder of images")


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="NAME", help="omg, affwild, affwild2, casme, casme2, smic or samm"
    )
    parser.add_argument("path", metavar="PATH", help="its root folder, see data/README.md")


def _reproduce(arguments: argparse.Namespace) -> int:
    from micromacro.batch import reproduce

    outcome = reproduce(
        arguments.profile,
        _words(arguments.notebooks),
        arguments.workers,
        dict(_parameter(text) for text in arguments.param),
        limit_s=arguments.limit_s,
        write_results=arguments.write_results,
    )
    return 0 if outcome.passed else 1


def _bake(arguments: argparse.Namespace) -> int:
    from micromacro.batch import bake

    return 0 if bake(_words(arguments.notebooks), arguments.workers).passed else 1


def _report(_: argparse.Namespace) -> int:
    from micromacro.report import site

    print(site())
    return 0


def _check_data(arguments: argparse.Namespace) -> int:
    from micromacro.datasets.check import show

    return 0 if show(arguments.name, arguments.path) else 1


def _faces(arguments: argparse.Namespace) -> int:
    import cv2
    import torch

    from micromacro.faces.export import export_faces

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    options = ("mode", "size", "backend", "weights", "sha256", "select", "fps")
    chosen = {name: getattr(arguments, name) for name in options}
    print(export_faces(arguments.video, arguments.out, **chosen, progress=sys.stderr.isatty()))
    return 0


def _words(text: str | None) -> list[str] | None:
    return None if text is None else text.replace(",", " ").split()


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
