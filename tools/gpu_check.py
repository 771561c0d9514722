"""Everything that needs a GPU, in one call of at most eight minutes: ``make gpu``.

The tests marked ``gpu``, the renderer, ``benchmarks/kernels_gpu.py``, and one training unit of each
system on the GPU and on the CPU, these side by side, a core each. Each check is a process of its
own with a time limit: what hangs or crashes a device takes nothing else along. It needs torch,
triton, numpy, scipy, pandas, OpenCV, scikit-learn, scikit-image, safetensors, tqdm, pytest and
hypothesis; no network, no installation. Without librosa and PyAV the two systems with sound are
left out.

Results: a folder with ``gpu_check__<gpu>.txt`` (the summary, also printed),
``gpu_check__<gpu>.csv`` (its rows), the benchmark's ``kernels_gpu__<gpu>.csv``, and a log of each
check.

Run: python tools/gpu_check.py [--out FOLDER]. Try it where there is no GPU: --device cpu --tiny.
Exit code 0 if every check passed, else 1.
"""

import argparse
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 470  # of the whole check: a lent machine's command ends after ten minutes
SYSTEMS = ("mimamo", "spotting", "akmnet")
SOUND = ("msff", "eri")  # systems that need librosa and PyAV
RENDERED = {64: 512, 112: 256, 224: 128}  # side of a frame in pixels: frames in a batch
COUNTS = r"^=*\s*(\d+ .* in [\d.]+s.*?)=*$"  # pytest's last line
COLUMNS = ("gpu", "check", "device", "setting", "metric", "value", "unit")


# ---- the checks that run in a process of their own: they print one row of JSON a line ----------


def check_machine(device: str, tiny: bool) -> Iterator[dict]:
    """Versions of what computes, and the name of the GPU."""
    import cv2
    import numpy as np
    import torch

    versions = {"python": sys.version.split()[0], "torch": torch.__version__}
    versions |= {"cuda": torch.version.cuda, "numpy": np.__version__, "opencv": cv2.__version__}
    if importlib.util.find_spec("triton"):
        versions["triton"] = importlib.import_module("triton").__version__
    name = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    yield {"setting": "name", "metric": "gpu", "value": name}
    for package, version in versions.items():
        yield {"setting": package, "metric": "version", "value": version}


def check_renderer(device: str, tiny: bool) -> Iterator[dict]:
    """Frames a second, and how far a device's picture is from the CPU's."""
    import torch

    from micromacro.synthetic import Face, Identity, perform

    for size, n in RENDERED.items():
        pictures = {}
        for where in dict.fromkeys(("cpu", device)):
            frames = max(4, n // 32) if tiny or where == "cpu" else n
            play = perform(frames, 30.0, nuisance="hard", seed=1)
            person = Identity.draw(0, split="benchmark")
            face = Face(person, size=size, device=where, colour=False)
            row = {"device": where, "setting": f"{size} px, {frames} frames"}
            seconds, rendered = _timed(lambda face=face, play=play: face.render(play))
            yield row | {"metric": "throughput", "value": frames / seconds, "unit": "frames/s"}
            short = perform(4, 30.0, nuisance="hard", seed=1)
            pictures[where] = 255 * face.render(short).cpu()
            assert torch.isfinite(rendered).all(), f"{where}, {size} px: not finite"
        apart = (pictures["cpu"] - pictures[device]).abs()
        row = {"device": device, "setting": f"{size} px", "unit": "grey levels"}
        yield row | {"metric": "mean difference to the CPU", "value": apart.mean().item()}
        assert apart.mean() < 0.05, f"{size} px: {apart.mean()} grey levels from the CPU's picture"


def check_unit(system: str, device: str, tiny: bool) -> Iterator[dict]:
    """Train and score one unit of a system."""
    began = time.perf_counter()
    metrics, predictions = _unit(system, device, tiny)
    seconds = time.perf_counter() - began
    row = {"device": device, "setting": "tiny" if tiny else "full"}
    yield row | {"metric": "time", "value": seconds, "unit": "s"}
    assert predictions, "no predictions"
    for name, value in metrics.items():
        if isinstance(value, int | float):
            yield row | {"metric": name, "value": value}


def _unit(system: str, device: str, tiny: bool) -> tuple[dict, dict]:
    """Call a system's unit: the only place that knows its arguments."""
    experiment = importlib.import_module(f"micromacro.systems.{system}.experiment")
    arms = experiment.grid("smoke" if tiny else "full", device=device)
    options = dict(next(iter(arms.values()))[0])  # the first arm's first unit
    if tiny and "epochs" in options:  # spotting's smoke is tiny
        small = {"people": 4, "subjects": 4, "test_subjects": 4, "per_subject": 2, "clips": 3}
        data = {name: small.get(name, value) for name, value in options["data"].items()}
        options |= {"data": data, "epochs": 1}
    return experiment.unit(**options)


def _timed(work: Callable) -> tuple[float, object]:
    """Seconds of the second call, and its result; the first one compiles and allocates."""
    import torch

    def wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    work()
    wait()
    began = time.perf_counter()
    result = work()
    wait()
    return time.perf_counter() - began, result


# ---- the whole ----------------------------------------------------------------------------------


def stages(device: str, tiny: bool) -> Iterator[list[tuple[str, int, list[str]]]]:
    """Name, time limit in s and command of checks that run side by side, by stages."""
    python, itself = sys.executable, str(Path(__file__).resolve())
    options = ["--device", device, *(["--tiny"] if tiny else [])]
    tests = ["-m", "pytest", "-q", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider"]
    if importlib.util.find_spec("xdist") and (cores := os.cpu_count() or 1) >= 4:
        tests += ["-n", str(min(8, cores // 2))]  # most of the time goes into compiling
    yield [("machine", 60, [python, itself, "--check", "machine", *options])]
    yield [("tests", 180, [python, *tests, str(ROOT / "tests")])]
    rounds = ["--rounds", "1" if tiny else "5"]
    yield [("kernels", 150, [python, str(ROOT / "benchmarks" / "kernels_gpu.py"), *rounds])]
    yield [("renderer", 60, [python, itself, "--check", "renderer", *options])]
    sounds = all(map(importlib.util.find_spec, ("librosa", "av")))
    systems = SYSTEMS + (SOUND if sounds else ())
    units = []
    for where in dict.fromkeys((device, "cpu")):
        ending, own = "" if where == device else " on the CPU", ["--device", where, *options[2:]]
        for system in systems:
            command = [python, itself, "--check", f"unit {system}", *own]
            units.append((f"unit {system}{ending}", 240, command))
    yield units


def run_all(out: Path, device: str, tiny: bool) -> bool:
    """Run every check; whether all passed."""
    began, rows, lines, passed = time.perf_counter(), [], [], True
    out.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MICROMACRO_ROOT": str(out / "work"),  # or the benchmark would write into data/results
    }
    for stage in stages(device, tiny):
        left = LIMIT_S - (time.perf_counter() - began)
        names, limits, programs = zip(*stage, strict=True)
        limits = [min(limit, left) for limit in limits]
        logs = [out / f"{re.sub('[^a-z]+', '_', name.lower())}.log" for name in names]
        with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1)) as threads:
            run = partial(_run, environment=environment)
            ends = threads.map(run, programs, limits, logs)
            for name, log, (note, seconds) in zip(names, logs, ends, strict=True):
                passed &= note == "passed"
                text = log.read_text(errors="replace") if log.exists() else ""
                found = (json.loads(line) for line in text.splitlines() if line.startswith('{"'))
                rows += [{"check": name, **row} for row in found]
                if name == "tests" and (counts := re.findall(COUNTS, text, re.M)):
                    note += f": {counts[-1].strip()}"
                lines.append(f"{name:24} {seconds:6.1f} s   {note}")
                print(lines[-1], flush=True)
                if not note.startswith("passed"):
                    print("\n".join(f"    {line}" for line in text.splitlines()[-15:]), flush=True)
    _write(out, rows, [*lines, f"{'all':24} {time.perf_counter() - began:6.1f} s"])
    return passed


def _run(command: list[str], limit: float, log: Path, environment: dict) -> tuple[str, float]:
    """Run a command for `limit` seconds at most; what became of it, and the seconds."""
    if limit < 5:
        return "not run: no time left", 0.0
    began = time.perf_counter()
    with log.open("w") as output:
        streams = {"stdout": output, "stderr": subprocess.STDOUT}
        own = {"cwd": ROOT, "env": environment, "start_new_session": True}
        process = subprocess.Popen(command, **streams, **own)
        try:
            code = process.wait(limit)
            note = "passed" if code == 0 else f"FAILED with exit code {code}, see {log.name}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # pytest's workers too
            process.wait()
            note = f"FAILED: stopped after {limit:.0f} s, see {log.name}"
    return note, time.perf_counter() - began


def _write(out: Path, rows: list[dict], lines: list[str]) -> None:
    """The summary and the table, named by the GPU; the benchmark's table is moved beside them."""
    import pandas as pd

    sys.path.insert(0, str(ROOT / "src"))
    from micromacro.results import provenance

    gpu = next((row["value"] for row in rows if row["metric"] == "gpu"), "unknown GPU")
    slug = re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")
    stamp = {k: v for k, v in provenance().items() if k not in ("device", "torch")}
    table = pd.DataFrame(rows).assign(gpu=gpu).reindex(columns=COLUMNS).assign(**stamp)
    table.to_csv(out / f"gpu_check__{slug}.csv", index=False, float_format="%.6g")
    shown = table[list(COLUMNS[1:])].fillna("").to_string(index=False, float_format="{:.4g}".format)
    summary = "\n".join([f"GPU check on {gpu}, {stamp['utc']}", *lines, "", shown, ""])
    (out / f"gpu_check__{slug}.txt").write_text(summary)
    for path in (out / "work").glob("data/results/*.csv"):
        path.replace(out / path.name)
    print(f"\n{shown}\n\nwrote {out}/gpu_check__{slug}.txt, .csv and logs")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="default: $OUT, else runs/gpu")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes for a dry run")
    parser.add_argument("--check", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.check is None:
        out = options.out or Path(os.environ.get("OUT") or ROOT / "runs" / "gpu")
        return 0 if run_all(out.resolve(), options.device, options.tiny) else 1
    name, _, system = options.check.partition(" ")
    check = {"machine": check_machine, "renderer": check_renderer}.get(name)
    arguments = (options.device, options.tiny)
    for row in check(*arguments) if check else check_unit(system, *arguments):
        print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
