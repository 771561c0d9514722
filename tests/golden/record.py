"""Record the golden arrays: `python tests/golden/record.py [CASE ...]`.

Without an argument all recorded cases are recorded anew, else those that are named, known ones or
new ones; the others stay. Record on a clean checkout of a commit that is trusted, never to make a
test pass. On another kind of machine check out that commit, record there, and carry `golden.npz`
over to what is to be tested.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

FILE = Path(__file__).with_name("golden.npz")
LIBRARIES = ("torch", "numpy", "opencv-contrib-python-headless", "scikit-learn")
SWITCHES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")

Golden = dict[str, dict[str, np.ndarray]]


def identity() -> dict[str, str]:
    """What decides the bits of trained numbers: processor, instruction set, libraries."""
    return {
        "cpu": _processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        **{name: version(name) for name in LIBRARIES},
        **{name: os.environ.get(name, "") for name in SWITCHES},
    }


def _processor() -> str:
    """The first processor's name, family and model: some names stand for several generations."""
    cpus = Path("/proc/cpuinfo")
    if not cpus.exists():
        return platform.processor()
    lines = cpus.read_text().split("\n\n")[0].splitlines()
    fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    return ", ".join(fields[k] for k in ("model name", "cpu family", "model") if k in fields)


def _git(*words: str) -> str:
    return subprocess.check_output(["git", *words], cwd=FILE.parents[2], text=True).strip()


def write(golden: Mapping[str, Mapping[str, np.ndarray]], about: Mapping[str, str]) -> None:
    """Write all arrays as one run of bytes: as members of an archive their names would outweigh
    them."""
    index: dict[str, dict[str, list]] = {}
    parts: list[bytes] = []
    for case, arrays in golden.items():
        index[case] = {}
        for name, array in arrays.items():
            parts.append(np.ascontiguousarray(array).tobytes())
            index[case][name] = [array.dtype.str, array.shape]
    data = np.frombuffer(b"".join(parts), np.uint8)
    texts = {"index": np.array(json.dumps(index)), "about": np.array(json.dumps(about))}
    np.savez_compressed(FILE, data=data, **texts)


def read() -> tuple[Golden, dict[str, str]]:
    """Recorded case -> array's name -> array; and what the recording machine was, and the
    commit."""
    with np.load(FILE) as file:
        data, index, about = file["data"], *(json.loads(str(file[k])) for k in ("index", "about"))
    golden, start = {}, 0
    for case, arrays in index.items():
        golden[case] = {}
        for name, (dtype, shape) in arrays.items():
            stop = start + np.dtype(dtype).itemsize * int(np.prod(shape))
            golden[case][name] = data[start:stop].view(dtype).reshape(shape)
            start = stop
    return golden, about


def main(cases: list[str]) -> None:
    """Record the cases that are asked for."""
    from cases import arrays_of

    golden, about = read()
    if cases and any(about[key] != value for key, value in identity().items()):
        raise SystemExit("The other cases are of another machine: record all of them.")
    for case in cases or list(golden):
        golden[case] = arrays_of(case)
        print(case, flush=True)
    changed = _git("status", "--porcelain", "--", "src")
    commit = _git("log", "-1", "--format=%h", "--", "src") + ("-dirty" if changed else "")
    write(golden, identity() | {"commit": commit})
    print(f"{FILE}: {FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    os.environ.setdefault("TRITON_INTERPRET", "1")
    torch.set_num_threads(1)
    main(sys.argv[1:])
