"""Seeds of a notebook's full run with another instruction set: do its verdicts stay?

    python tools/other_instructions.py 04b
    python tools/other_instructions.py 08b --set default --seeds 0 1 2 --workers 2
    python tools/other_instructions.py 04b --param "VARIANTS=['ours', 'no GRU']"

Processors sum in another order, so the same code and seed train to other numbers. Here the order is
that of an older processor, "default" the oldest, or of a newer one than made the committed rows:
what torch, oneDNN and MKL may use is forced upon the notebook and upon all processes of its units.
Units that are trained so have keys of their own. The rows are written to
``data/results/<notebook>__<set>__cpu.csv``, beside those of the full run that they are compared
with (`results.moved_by_processor`). NumPy and OpenCV, which do not train, keep theirs.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from micromacro.errors import BadInput
from micromacro.files import project_root, write_atomically
from micromacro.results import INSTRUCTION_SETS, provenance, read_rows


def main() -> None:
    """Run the notebook on these seeds, and keep its rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notebook", help="number of one notebook with a full profile, such as 04b")
    parser.add_argument("--set", choices=INSTRUCTION_SETS, default="avx2", help="(avx2)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="(0 1)")
    parser.add_argument("--workers", type=int, default=1, help="processes that compute (1)")
    parser.add_argument("--param", action="append", default=[], help="NAME=VALUE, as of reproduce")
    options = parser.parse_args()
    sets, own = [*INSTRUCTION_SETS], provenance()["isa"].lower()
    if own not in sets or sets.index(options.set) > sets.index(own):
        fault = f"cannot be forced upon {own}, which this process computes with"
        raise SystemExit(f"{BadInput(f'--set {options.set}', fault, 'give an older one')}")
    command = [sys.executable, "-m", "micromacro.cli", "reproduce", "--profile", "full"]
    command += ["--notebooks", options.notebook, "--workers", str(options.workers)]
    for param in (f"SEEDS={options.seeds}", *options.param):
        command += ["--param", param]
    environment = os.environ | INSTRUCTION_SETS[options.set]
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    print(run.stdout, end="")
    if run.returncode:
        raise SystemExit(run.returncode)
    folder = Path(run.stdout.splitlines()[-1]).parent  # its last line is the page of the run
    files = sorted(folder.glob("rows/*__cpu.csv"))
    name = f"{files[0].name.partition('__')[0]}__{options.set}__cpu.csv"
    rows = pd.concat([read_rows(file, dtype=str) for file in files])
    path = project_root() / "data" / "results" / name
    write_atomically(path, rows.to_csv(index=False, lineterminator="\n"))
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
