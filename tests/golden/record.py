"""Record the golden arrays: `python tests/golden/record.py [PART OF A CASE'S NAME ...]`.

Without an argument all cases are recorded, else those whose names contain one of the arguments; the
others stay. Record on a clean checkout of a commit that is trusted, never to make a test pass. On
another kind of machine check out the commit that brought this folder, record there, and carry
`golden.npz` over to what is to be tested.
"""

import hashlib
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
    names = ("model name", "cpu family", "model")
    return ", ".join(fields[name] for name in names if name in fields)


def _commit() -> str:
    """The last commit of the package's source."""

    def git(*words: str) -> str:
        where = FILE.parents[2]
        said = subprocess.run(
            ["git", *words], cwd=where, check=True, capture_output=True, text=True
        )
        return said.stdout.strip()

    changed = git("status", "--porcelain", "--", "src")
    return git("log", "-1", "--format=%h", "--", "src") + ("-dirty" if changed else "")


def write(golden: Mapping[str, Mapping[str, np.ndarray]], about: Mapping[str, str]) -> None:
    """Write all arrays as one run of bytes: as members of an archive their names would outweigh them."""
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
    """Recorded case -> array's name -> array; and what the recording machine was, and the commit."""
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


def main(parts: list[str]) -> None:
    """Record the cases that are asked for."""
    from cases import CASES

    about = identity() | {"commit": _commit()}
    chosen = [case for case in CASES if not parts or any(part in case for part in parts)]
    golden: Golden = {}
    if parts:
        golden, before = read()
        if any(before[key] != value for key, value in identity().items()):
            raise SystemExit("The other cases are of another machine: record all of them.")
    for case in chosen:
        golden[case] = CASES[case]()
        print(case, flush=True)
    write({case: golden[case] for case in CASES if case in golden}, about)
    digest = hashlib.sha256(FILE.read_bytes()).hexdigest()[:12]
    print(f"{FILE}: {len(chosen)} cases, {FILE.stat().st_size / 1000:.0f} kB, {digest}")


if __name__ == "__main__":
    os.environ.setdefault("TRITON_INTERPRET", "1")
    torch.set_num_threads(1)
    main(sys.argv[1:])
