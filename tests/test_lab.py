"""`make lab`: students work in copies of their own, and nothing that they wrote is lost."""

import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the Makefile and two notebooks."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("00_start_here.ipynb", "06b_two.ipynb", "06_one.ipynb", "solutions/06.ipynb"):
        path = tmp_path / "notebooks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"course's {name}")
    return tmp_path


def lab(project: Path, *options: str) -> str:
    """What `make lab` would open, in place of JupyterLab."""
    command = ["make", "-o", "env", "lab", "LAB=@echo", *options]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout


def copies(project: Path) -> dict[str, str]:
    """Name -> text of everything in my/."""
    files = [path for path in (project / "my").rglob("*") if path.is_file()]
    return {path.relative_to(project / "my").as_posix(): path.read_text() for path in files}


def test_a_student_gets_copies_and_keeps_them(project):
    assert "my/00_start_here.ipynb" in lab(project)
    assert set(copies(project)) == {
        *("00_start_here.ipynb", "06_one.ipynb", "06b_two.ipynb", "solutions/06.ipynb")
    }
    (project / "my" / "06_one.ipynb").write_text("mine")
    (project / "notebooks" / "06_one.ipynb").write_text("newer")
    lab(project)
    assert copies(project)["06_one.ipynb"] == "mine"


def test_a_fresh_copy_keeps_the_students_beside_it(project):
    lab(project)
    (project / "my" / "06_one.ipynb").write_text("mine")
    for _ in range(2):  # and what lies beside it is not moved again
        assert "my/06_one.ipynb" in lab(project, "RESET=06")
    kept = copies(project)
    assert kept["06_one.ipynb"] == "course's 06_one.ipynb"
    mine = [name for name, text in kept.items() if text == "mine"]
    assert mine == ["06_one.1.ipynb"]
    assert kept["06b_two.ipynb"] == "course's 06b_two.ipynb"
    assert sum(name.startswith("06b_two") for name in kept) == 1


def test_the_other_ways_in_name_what_is_there():
    """What cannot be tried here, a container and a host's pages, at least names real things."""
    about = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert wanted == ">=3.11,<3.14"
    assert about["image"].startswith("python:3.12")
    assert about["postCreateCommand"] == "make env"
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "pages.yml").read_text())
    steps = steps["jobs"]["site"]["steps"]
    assert {"run": "make report"} in steps
    assert [step["with"]["path"] for step in steps if "path" in step.get("with", {})] == [
        "runs/site"
    ]
    subprocess.run(["make", "-n", "report", "env"], cwd=ROOT, check=True, capture_output=True)
