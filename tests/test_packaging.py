"""One source for dependencies: pyproject.toml; the lock, the constraints and conda's file follow.

And what is imported: nothing that is not declared, nothing that a piece does not need.
"""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "micromacro"
MODELS = [f"micromacro.systems.{p.parent.name}" for p in PACKAGE.glob("systems/*/model.py")]
# Declared and not imported, and why.
NOT_IMPORTED = {
    *("jupyterlab", "dask-jobqueue"),  # started as a command, or by a user's own file
    *("openpyxl", "xlrd"),  # by pandas
    "facenet-pytorch",  # its weights are read, its code is not run
    *("librosa", "seaborn"),  # for lessons to come
}


def pins(text: str) -> dict[tuple[str, str], str]:
    """Reads ``{(name, marker): version}`` out of a pinned requirements file."""
    joined = text.replace("\\\n", " ")
    found = {}
    for line in joined.splitlines():
        requirement = re.split(r"\s--hash=", line)[0].strip()
        if not requirement or requirement.startswith("#"):
            continue
        parsed = Requirement(requirement)
        (specifier,) = parsed.specifier
        assert specifier.operator == "==", f"not a pin: {line}"
        key = (canonicalize_name(parsed.name), str(parsed.marker or ""))
        found[key] = specifier.version
    return found


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def locked() -> dict[tuple[str, str], str]:
    return pins((ROOT / "requirements.lock").read_text())


def declared(project: dict, *without: str) -> list[Requirement]:
    """What the core and the extras need; of extras all but those named, and but "all"."""
    extras = project["optional-dependencies"].items()
    lists = [needs for extra, needs in extras if extra not in {"all", *without}]
    return [Requirement(need) for need in sum(lists, project["dependencies"])]


@cache
def distribution_of() -> dict[str, set[str]]:
    """Distributions by the name that is imported."""
    names = importlib.metadata.packages_distributions()
    return {name: {canonicalize_name(d) for d in given} for name, given in names.items()}


def needed_by(*distributions: str) -> set[str]:
    """Distributions and all that they need in turn."""
    waiting, needed = list(distributions), set()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in needed:
            continue
        needed.add(name)
        try:
            requirements = map(Requirement, importlib.metadata.requires(name) or [])
        except importlib.metadata.PackageNotFoundError:  # of another system
            continue
        waiting += [
            r.name for r in requirements if not r.marker or r.marker.evaluate({"extra": ""})
        ]
    return needed


def run_python(code: str, *arguments: str, **environment: str) -> str:
    """Output of a fresh process that can import the package, and must not warn."""
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    variables = os.environ | {"PYTHONPATH": str(ROOT / "src")} | environment
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_constraints_hold_the_pins_of_the_lock(locked):
    assert pins((ROOT / "constraints.txt").read_text()) == locked


def test_lock_satisfies_pyproject(project, locked):
    versions = {name: version for (name, _), version in locked.items()}
    for requirement in declared(project):
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is declared in pyproject.toml but not locked: make lock"
        assert requirement.specifier.contains(versions[name]), f"{name}: make lock"


def test_all_is_every_extra(project):
    extras = project["optional-dependencies"]
    (every,) = extras["all"]
    assert Requirement(every).extras == extras.keys() - {"all"}


def test_what_is_imported_is_declared_and_the_reverse(project):
    """Imports anywhere in the package, also inside functions, against pyproject.toml."""
    imported = {}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in {name.partition(".")[0] for name in names} - {"micromacro"}:
                if name not in sys.stdlib_module_names:
                    imported.setdefault(name, file.name)
    needs = {canonicalize_name(r.name) for r in declared(project, "dev")}
    given = distribution_of() | {"triton": {"torch"}}  # torch brings it
    undeclared = {name: file for name, file in imported.items() if not given[name] & needs}
    assert not undeclared
    used = set().union(*(given[name] for name in imported))
    assert needs - used == NOT_IMPORTED


def test_pieces_need_torch_and_numpy_alone():
    kept = needed_by("torch", "numpy")
    absent = [
        name
        for name, given in distribution_of().items()
        if not given & kept and name != "micromacro" and not name.startswith("_")
    ]
    pieces = ["micromacro.kernels", "micromacro.metrics", *MODELS, *(f"{m}.model" for m in MODELS)]
    code = "import sys; sys.modules.update(dict.fromkeys(sys.argv[1].split(','))); import "
    assert run_python(code + ", ".join(pieces), ",".join(absent)) == ""


def test_start_up_loads_no_compiler():
    """These cost every process, workers too, three to six seconds."""
    heavy = {"torchvision", "torch._dynamo", "sympy", "facenet_pytorch", "pooch", "sklearn"}
    names = ["kernels", "faces", "synthetic", "training", "units"]
    modules = [f"micromacro.{name}" for name in names] + MODELS
    code = f"import sys, {', '.join(modules)}; print(*({heavy} & sys.modules.keys()))"
    assert run_python(code) == "\n"


def test_the_wheel_works_outside_the_checkout(tmp_path):
    """Built from a source tree without its history, unpacked, and asked for everything it carries."""
    pytest.importorskip("hatchling")
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", build, tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "site")
        held = {name.removeprefix("micromacro/") for name in opened.namelist()}
    assert {"py.typed", "expression_encoder.safetensors"} <= held
    code = """
import torch, micromacro, micromacro.cli
from micromacro.kernels import phase_difference
from micromacro.expression_encoder import load_expression_encoder
assert len(phase_difference(torch.rand(3, 16, 16))) == 2
load_expression_encoder()
print(micromacro.__file__)
raise SystemExit(micromacro.cli.main(["--help"]))
"""
    said = run_python(code, PYTHONPATH=str(tmp_path / "site"))
    assert str(tmp_path) in said
    assert "micromacro" in said


def test_one_version_of_each_package_on_every_python(locked):
    """A package pinned twice would mean two sets of numbers on two Pythons."""
    names = [name for name, _ in locked]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice


def test_every_pin_has_hashes_and_no_address():
    text = (ROOT / "requirements.lock").read_text()
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in block for block in blocks)
    for name in ("requirements.lock", "constraints.txt"):
        assert not re.search(r"://|--index|--find-links", (ROOT / name).read_text())


def test_conda_file_adds_nothing_of_its_own(project):
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, pip_section = conda["dependencies"]
    version = python.removeprefix("python=")
    assert Requirement(f"python{project['requires-python']}").specifier.contains(f"{version}.5")
    assert pip == "pip"
    assert pip_section == {"pip": ["-c constraints.txt", "-e .[all]"]}


def test_this_environment_is_the_locked_one(locked):
    """A stale environment makes every other result of this suite doubtful."""
    for (name, marker), version in locked.items():
        if marker and not Marker(marker).evaluate():
            continue
        installed = importlib.metadata.version(name).split("+")[0]
        assert installed == version, f"{name} {installed} is installed, {version} is locked"


def test_version_is_stated_once(project):
    import micromacro

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert micromacro.__version__ == project["version"] == citation["version"]


def test_continuous_integration_runs_the_command_of_the_readme():
    commands = [
        line
        for line in (ROOT / ".ci" / "run").read_text().splitlines()
        if line and not line.startswith(("#", "set ", "cd "))
    ]
    assert commands == ["make test"]
    assert "\nmake test" in (ROOT / "README.md").read_text()


def test_citation_names_the_five_papers():
    references = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    assert len(references) == 5
    assert all(r["authors"] and r["year"] and (r.get("doi") or r.get("url")) for r in references)


@pytest.mark.parametrize("table", sorted((ROOT / "data" / "published").glob("*.csv")))
def test_published_numbers_are_complete_rows(table):
    import pandas as pd

    rows = pd.read_csv(table)
    columns = ["paper", "table", "method", "dataset", "metric", "value", "source", "note"]
    assert list(rows.columns) == columns
    assert rows[columns[:7]].notna().all().all()
    assert rows["value"].between(-1, 1).all()
