"""The command: exit statuses, one-line errors, options that are those of the functions."""

import functools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import micromacro
from micromacro import batch, cli, report
from micromacro.faces import export

# The command with another function behind `report`, whose own module takes seconds to load.
PROGRAM = """
import sys
from types import ModuleType
sys.path[:] = {path}
from micromacro import cli
def site():
    "Say it."
    return {text}
sys.modules["micromacro.report"] = ModuleType("micromacro.report")
sys.modules["micromacro.report"].site = site
sys.exit(cli.main())
"""


@pytest.fixture
def calls(monkeypatch):
    """What the function behind a command was called with, by name; nothing is run."""
    calls = {}

    def replace(module, name, outcome):
        function = getattr(module, name)

        @functools.wraps(function)  # its signature and docstring make the command
        def call(**options):
            calls[name] = options
            return outcome

        monkeypatch.setattr(module, name, call)

    replace(batch, "reproduce", True)
    replace(batch, "bake", False)
    replace(report, "site", Path("runs/site/index.html"))
    replace(export, "export_faces", "90 frames, one face")
    return calls


@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help_is_everywhere(command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([*command.split(), "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {f'micromacro {command}'.strip()} ")
    for part in [f"micromacro {command} "] if command else cli.COMMANDS:
        assert part in text.partition("examples:" if command else "commands:")[2]


def test_help_and_version_import_nothing_heavy():
    program = (
        "import sys; from micromacro.cli import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'papermill', 'pandas', 'cv2'} & set(sys.modules)))"
    )
    began = time.monotonic()
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.stdout == f"micromacro {micromacro.__version__}\n[]\n"
    assert time.monotonic() - began < 5  # 0.1 s; loose for a busy machine


def test_a_notebook_is_read_without_grammars_of_addresses():
    """Packages of Jupyter's bring them along; they would take most of the command's start."""
    program = (
        "import sys; from micromacro.cli import main; sys.argv[1:] = ['bake', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'nbformat', 'rfc3987_syntax.syntax_helpers'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.stdout.splitlines()[-1] == "['nbformat']"


def test_commands_call_their_function_with_its_own_defaults(calls, capsys):
    words = ["--profile", "full", "--workers", "3", "--write-results", "--limit-s", "60"]
    words += ["--notebooks", "00 01", "--param", "N=3", "--param", "DATA_ROOT=/data/x"]
    assert cli.main(["reproduce", *words, "--param", "FOLD=01"]) == 0
    options = {"profile": "full", "notebooks": "00 01", "workers": 3, "limit_s": 60.0}
    options |= {"params": {"N": 3, "DATA_ROOT": "/data/x", "FOLD": "01"}, "write_results": True}
    assert calls["reproduce"] | {"params": dict(calls["reproduce"]["params"])} == options
    assert cli.main(["reproduce"]) == 0
    options = {"profile": "smoke", "notebooks": None, "workers": 2, "params": ()}
    defaults = batch.reproduce.__wrapped__.__kwdefaults__ | options
    assert calls["reproduce"] | {"params": ()} == defaults
    assert cli.main(["bake", "--notebooks", "00,01"]) == 1  # a failure
    assert calls["bake"] == {"notebooks": "00,01", "workers": 2}
    assert cli.main(["faces", "a.mp4", "out", "--size", "112", "--fps", "200"]) == 0
    options = {"source": ["a.mp4"], "out": "out", "size": 112, "fps": 200.0}
    assert calls["export_faces"] == export.export_faces.__wrapped__.__kwdefaults__ | options
    assert cli.main(["report"]) == 0
    assert capsys.readouterr().out == "90 frames, one face\nruns/site/index.html\n"


def test_bad_input_is_one_line_and_status_2(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    assert cli.main(["report"]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"micromacro: {tmp_path}/notebooks: no numbered notebook there; run ")
    assert message.count("\n") == 1
    assert cli.main(["faces", str(tmp_path / "a\nb.mp4"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1  # whatever is in a name


def test_a_reader_that_goes_away_and_a_full_disk_are_no_tracebacks(monkeypatch, capsys):
    def fill():
        """Write."""
        raise OSError(28, "No space left on device", "runs/x")

    monkeypatch.setattr(report, "site", fill)
    assert cli.main(["report"]) == 1
    message = capsys.readouterr().err
    assert "No space left on device: 'runs/x'" in message
    assert message.count("\n") == 1
    program = PROGRAM.format(path=sys.path, text=r"'x\n' * 100_000")
    for words, status in (["report"], 141), (["--help"], 0), (["report", "--help"], 0):
        command = [sys.executable, "-c", program, *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.readline()  # as `head -1` does
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode in (status, 141)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_a_name_that_the_terminal_cannot_print_is_no_traceback(encoding):
    program = PROGRAM.format(path=sys.path, text=r"'ü \udcff 人'")
    command = [sys.executable, "-c", program, "report"]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    answer = subprocess.run(command, capture_output=True, env=environment)
    assert (answer.returncode, answer.stderr) == (0, b"")
    assert rb" \udcff " in answer.stdout


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "no such command"),
        (["nothing"], "no such command: nothing"),
        (["data"], "no such command: data"),
        (["reproduce", "--workers", "two"], "--workers"),
        (["reproduce", "--param", "N"], 'N is not NAME=VALUE, such as "SEEDS=[1, 2]"'),
        (["reproduce", "00"], "unrecognized"),
        (["faces"], "required: SOURCE, OUT"),
        (["faces", "a.mp4", "out", "--size", "abc"], "--size"),
    ],
)
def test_a_wrong_call_is_one_line_and_status_2(words, part, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert part in message


def test_a_missing_extra_and_an_interrupt_are_one_line(monkeypatch, capsys):
    def interrupt():
        """Stop."""
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "papermill", None)
    for module in ("batch", "headless"):
        monkeypatch.delitem(sys.modules, f"micromacro.{module}")
    monkeypatch.setattr(report, "site", interrupt)
    for command, status, word in (
        ("bake", 2, "micromacro[faces,data,course]"),
        ("report", 130, ""),
    ):
        assert cli.main([command]) == status
        message = capsys.readouterr().err
        assert word in message
        assert message.count("\n") == 1
