"""One source for dependencies: pyproject.toml; the lock, the constraints and conda's file follow."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


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


def declared(project: dict) -> list[Requirement]:
    extras = project["optional-dependencies"].values()
    return [Requirement(r) for r in [*project["dependencies"], *(r for e in extras for r in e)]]


def test_constraints_hold_the_pins_of_the_lock(locked):
    assert pins((ROOT / "constraints.txt").read_text()) == locked


def test_lock_satisfies_pyproject(project, locked):
    versions = {name: version for (name, _), version in locked.items()}
    for requirement in declared(project):
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is declared in pyproject.toml but not locked: make lock"
        assert requirement.specifier.contains(versions[name]), f"{name}: make lock"


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
    assert pip_section == {"pip": ["-c constraints.txt", "-e .[dev]"]}


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
