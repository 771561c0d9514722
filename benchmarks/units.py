"""What a unit costs beside its own work: 1,000 trivial units stored, and read again.

python benchmarks/units.py            two workers
python benchmarks/units.py 8          eight
MICROMACRO_SCHEDULER=tcp://... python benchmarks/units.py
"""

import sys
import tempfile
import time

from micromacro.units import run

GRID = [{"number": number, "seed": number // 10} for number in range(1000)]


def trivial(number: int, seed: int) -> dict:
    """No work at all."""
    return {"number": number}


def main() -> None:
    """Print seconds; nothing is kept."""
    from units import trivial  # by the name that worker processes import

    workers = int(sys.argv[1]) if sys.argv[1:] else 2
    with tempfile.TemporaryDirectory() as root:
        for what in ("computed and stored", "read"):
            began = time.perf_counter()
            run(trivial, GRID, workers=workers, root=root)
            print(f"1,000 units {what}: {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
