"""The command ``micromacro``.

A subcommand is a function of the package: its signature is its options, its docstring their help,
so that neither is written twice. It is imported, with all that it needs, when it is asked for.
"""

import argparse
import ast
import contextlib
import ctypes
import importlib
import inspect
import os
import re
import signal
import sys
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence

from micromacro import __version__
from micromacro.errors import BadInput

COMMANDS = {  # the words that call it: what it does, where its function is
    "reproduce": ("run the notebooks headlessly", "micromacro.batch", "reproduce"),
    "faces": ("turn videos into tracks of one face", "micromacro.faces.export", "export_faces"),
    "data check": ("say what of a data set is there or wrong", "micromacro.datasets.check", "show"),
    "units": ("compute the units that a notebook reads", "micromacro.course", "compute"),
    "report": ("write the notebooks as a static site", "micromacro.report", "site"),
    "bake": ("execute the committed notebooks in place", "micromacro.batch", "bake"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit status: 0 done, 1 something failed, 2 bad input, 130 Ctrl-C.

    128 + a signal: 141 where nobody reads on (``| head``), 143 and 129 after SIGTERM and SIGHUP.
    """
    if argv is None:  # a process of its own, not a call
        for number in (signal.SIGTERM, signal.SIGHUP):  # clean up on the way out
            if signal.getsignal(number) is not signal.SIG_IGN:  # of nohup
                signal.signal(number, lambda number, _: sys.exit(128 + number))
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may have what it cannot print
        if "MAKELEVEL" in os.environ and sys.platform == "linux":  # make may be killed: so are we
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        # With it Jupyter's libraries spend 1.5 s on grammars of addresses that no notebook has.
        sys.modules.setdefault("rfc3987_syntax", None)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for variable in ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ.setdefault(variable, "1")  # before anything heavy is imported
    try:
        try:
            function, options = _parsed(sys.argv[1:] if argv is None else list(argv))
            outcome = function(**options)
            if not isinstance(outcome, bool):
                print(outcome)
        finally:
            sys.stdout.flush()  # here: at the interpreter's end a closed pipe is a traceback
    except BadInput as error:
        print(f"micromacro: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("micromacro: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left to say
        return 141
    except OSError as error:  # no bad input: a full disk, a file system that is gone
        print(f"micromacro: {error}; make room, and the same command goes on", file=sys.stderr)
        return 1
    return 0 if outcome else 1


class _Parser(argparse.ArgumentParser):
    """Keeps the lines of its epilog, and says what is wrong in one line."""

    def __init__(self, prog: str, description: str, epilog: str):
        style = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, None, f"{description}.", epilog, formatter_class=style)

    def error(self, message: str) -> typing.NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parsed(words: list[str]) -> tuple[Callable, dict]:
    """The function that a command line asks for, and its arguments."""
    name = next((n for n in COMMANDS if words[: len(n.split())] == n.split()), None)
    if name is None:
        about = "Micro & Macro: five papers on motion and emotion in faces"
        lines = [f"  {words:12}{about}" for words, (about, *_) in COMMANDS.items()]
        lines += ["exit status: 0 done, 1 something failed, 2 bad input"]
        parser = _Parser("micromacro", about, "\n".join(["commands:", *lines]))
        parser.add_argument("--version", action="version", version=f"micromacro {__version__}")
        parser.add_argument("command", nargs="*", metavar="COMMAND ...", help="has its own --help")
        parser.parse_args(words)
        parser.error(f"no such command: {' '.join(words)}")
    about, module, function = COMMANDS[name]
    try:
        function = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:  # the package alone comes without the course's needs
        remedy = "pip install 'micromacro[faces,data,course]'"
        raise BadInput(f"micromacro {name}", f"{error.name} is not installed", remedy) from None
    text, _, examples = inspect.cleandoc(function.__doc__).partition("Examples:\n")
    parser = _Parser(f"micromacro {name}", about.capitalize(), f"examples:\n{examples}")
    helps = dict(re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", text, re.MULTILINE))
    for key, parameter in inspect.signature(function).parameters.items():
        _add(parser, key, parameter, helps[key].replace("``", "").replace("%", "%%"))
    return function, vars(parser.parse_intermixed_args(words[len(name.split()) :]))


def _add(parser: _Parser, name: str, parameter: inspect.Parameter, help: str) -> None:
    """Add the argument of a parameter."""
    kinds = typing.get_args(parameter.annotation) or [parameter.annotation]
    kind, several = kinds[0], any(typing.get_origin(k) is Sequence for k in kinds)
    flag = f"--{name.replace('_', '-')}"
    if parameter.default is parameter.empty:
        parser.add_argument(name, metavar=name.upper(), help=help, nargs="+" if several else None)
    elif kind is Mapping:
        pairs = {"metavar": "NAME=VALUE", "type": _pair, "action": "append", "default": []}
        parser.add_argument("--param", dest=name, help=help, **pairs)
    elif kind is bool:
        parser.add_argument(flag, action="store_true", help=help)
    else:
        parser.add_argument(flag, type=kind, default=parameter.default, help=help)


def _pair(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f'{text} is not NAME=VALUE, such as "SEEDS=[1, 2]"')
    with contextlib.suppress(ValueError, SyntaxError):  # text that is no literal stays text
        value = ast.literal_eval(value)
    return name, value


if __name__ == "__main__":
    sys.exit(main())
