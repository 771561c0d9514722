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
from functools import cache, partial
from pathlib import Path

import pandas as pd
import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import micromacro

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "micromacro"
MODELS = [f"micromacro.systems.{p.parent.name}" for p in PACKAGE.glob("systems/*/model.py")]
# Declared and not imported: started as a command, or by a user's own file; read for its
# weights, without its code; for lessons to come.
NOT_IMPORTED = {"jupyterlab", "dask-jobqueue", "facenet-pytorch", "seaborn"}


def pins(text: str) -> dict[tuple[str, str], str]:
    """Reads ``{(name, marker): version}`` out of a pinned requirements file."""
    lines = re.sub(r"\\\n|\s--hash=\S+|^\s*#.*", "", text, flags=re.MULTILINE).split("\n")
    pinned = {}
    for requirement in map(Requirement, filter(str.strip, lines)):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", f"not a pin: {requirement}"
        key = (canonicalize_name(requirement.name), str(requirement.marker or ""))
        pinned[key] = specifier.version
    return pinned


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


def test_the_lock_satisfies_pyproject_and_this_environment_is_locked(project, locked):
    """A stale environment makes every other result of this suite doubtful."""
    text = (ROOT / "requirements.lock").read_text()
    pinned = (ROOT / "constraints.txt").read_text()
    assert pins(pinned) == locked
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=\S)", text.strip()))
    assert not re.search(r"://|--index|--find-links", text + pinned)
    versions = {name: version for (name, _), version in locked.items()}
    assert len(versions) == len(locked), "pinned twice: two sets of numbers on two Pythons"
    for requirement in declared(project):
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is declared in pyproject.toml but not locked: make lock"
        assert requirement.specifier.contains(versions[name]), f"{name}: make lock"
    for (name, marker), version in locked.items():
        if not marker or Marker(marker).evaluate():
            installed = importlib.metadata.version(name).split("+")[0]
            assert installed == version, f"{name} {installed} is installed, {version} is locked"


def test_what_is_imported_is_declared_and_the_reverse(project):
    """Imports anywhere in the package, also inside functions, against pyproject.toml."""
    imported = {}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            imported |= {name.partition(".")[0]: file.name for name in names}
    for name in {"micromacro", *sys.stdlib_module_names}:
        imported.pop(name, None)
    needs = {canonicalize_name(r.name) for r in declared(project, "dev")}
    given = distribution_of() | {"triton": {"torch"}}  # torch brings it
    undeclared = {name: file for name, file in imported.items() if not given[name] & needs}
    assert not undeclared
    used = set().union(*(given[name] for name in imported))
    assert needs - used == NOT_IMPORTED


def test_the_wheel_works_outside_the_checkout_in_pieces_and_whole(project, tmp_path):
    """Built from a source tree without its history, unpacked, and asked for everything it carries.

    Its pieces need torch and numpy alone. The modules called heavy cost every process, workers too,
    one to six seconds. Nothing warns.
    """
    pytest.importorskip("hatchling")
    run = partial(subprocess.run, capture_output=True, text=True, timeout=120)
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    done = run([sys.executable, "-c", build, tmp_path], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "site")
    assert (tmp_path / "site/micromacro/py.typed").exists()
    others = {canonicalize_name(r.name) for r in declared(project)} - {"torch", "numpy"}
    others = [name for name, given in distribution_of().items() if given & others]
    pieces = ["micromacro.kernels", "micromacro.metrics", *MODELS, *(f"{m}.model" for m in MODELS)]
    code = f"""
import sys
absent = dict.fromkeys(sys.argv[1].split(","))
sys.modules.update(absent)
import {", ".join(pieces)}
[sys.modules.pop(name) for name in absent]
from micromacro import course, faces, synthetic, training, units
heavy = "torchvision torch._dynamo sympy facenet_pytorch pooch sklearn jsonschema"
print(micromacro.__file__, *({{*heavy.split()}} & sys.modules.keys()))
import torch, micromacro.cli
from micromacro.expression_encoder import load_expression_encoder
assert len(micromacro.kernels.phase_difference(torch.rand(3, 16, 16))) == 2
load_expression_encoder()
from micromacro.action_unit_net import load_action_unit_net
load_action_unit_net()
from micromacro.faces.mesh import POINTS, action_units_of
assert len(action_units_of("mesh")) and len(POINTS)
raise SystemExit(micromacro.cli.main(["--help"]))
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-W", "error", "-c", code, ",".join(others)]
    done = run(command, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, usage = done.stdout.split("\n", 1)
    assert first == f"{tmp_path}/site/micromacro/__init__.py"
    assert "usage: micromacro" in usage


def test_conda_file_extras_and_versions_add_nothing_of_their_own(project):
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, pip_section = conda["dependencies"]
    version = python.removeprefix("python=")
    assert Requirement(f"python{project['requires-python']}").specifier.contains(f"{version}.5")
    assert [pip, pip_section] == ["pip", {"pip": ["-c constraints.txt", "-e .[all]"]}]
    extras = project["optional-dependencies"]
    (every,) = extras["all"]
    assert Requirement(every).extras == extras.keys() - {"all"}
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert micromacro.__version__ == project["version"] == citation["version"]
    papers = citation["references"]
    assert len(papers) == 5
    assert all(r["authors"] and r["year"] and (r.get("doi") or r.get("url")) for r in papers)


def test_continuous_integration_runs_the_command_of_the_readme():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make test"]
    assert "\nmake test" in (ROOT / "README.md").read_text()


def test_make_installs_nothing_but_what_the_lock_pins(locked):
    """Each `pip install` checks hashes; that of uv those of the lock, before there is a uv to do
    it."""
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip (?:install|sync)\b[^;&|]*", makefile)
    assert len(installs) == 5
    for words in installs:
        assert "--require-hashes" in words or ("--no-deps" in words and "--editable ." in words)
    (extract,) = re.findall(r"<\((sed .*?) requirements\.lock\)", makefile)
    command = f"{extract.replace('$$', '$')} requirements.lock"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert pins(done.stdout) == {("uv", ""): locked["uv", ""]}
    assert done.stdout.count("--hash=sha256:") > 1


@pytest.mark.parametrize("table", sorted((ROOT / "data" / "published").glob("*.csv")))
def test_published_numbers_are_complete_rows(table):
    rows = pd.read_csv(table)
    columns = ["paper", "table", "method", "dataset", "metric", "value", "source", "note"]
    assert list(rows.columns) == columns
    assert rows[columns[:7]].notna().all().all()
    assert rows["value"].between(-1, 1).all()
