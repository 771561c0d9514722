"""The GPU check on a machine that has neither a GPU nor most of what the lock installs."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ABSENT = (
    *("av", "facenet_pytorch", "pooch", "librosa", "papermill", "nbformat", "nbclient"),
    *("nbconvert", "jupyter_client", "ipykernel", "IPython", "ipywidgets", "pyrtools"),
    *("plenoptic", "openpyxl", "xlrd", "bs4", "distributed", "pebble", "latex2mathml"),
)


@pytest.mark.slow
def test_a_dry_run_without_what_a_lent_machine_lacks(tmp_path):
    """Python imports sitecustomize by itself, in every process that the check starts."""
    block = f"import sys\nsys.modules.update(dict.fromkeys({ABSENT}))\n"
    block += "import cv2\ndel cv2.optflow  # OpenCV without contrib\n"
    (tmp_path / "sitecustomize.py").write_text(block)
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # nbval, which imports nbformat
        "MICROMACRO_GIT_SHA": "feed",
    }
    out = tmp_path / "out"
    command = [sys.executable, ROOT / "tools" / "gpu_check.py", "--device", "cpu", "--tiny"]
    done = subprocess.run(
        [*command, "--out", out], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with (out / "gpu_check__no-gpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    checks = {row["check"] for row in rows}
    assert checks >= {"machine", "renderer", "unit mimamo", "unit spotting", "unit akmnet"}
    assert {(row["gpu"], row["git_sha"]) for row in rows} == {("no GPU", "feed")}
    summary = (out / "gpu_check__no-gpu.txt").read_text()
    assert "skipped" in summary  # every test that needs a GPU was collected
    assert summary.count(" passed") >= 6
