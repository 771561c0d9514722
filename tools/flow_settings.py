"""Which settings a flow needs on faces: Farneback's, and DIS's presets, on development actors.

    python tools/flow_settings.py

Every setting measures the pairs of notebook 03, at each size and from each input that it compares.
The score is its cosine with the true motion, the mean over conditions, muscles and amplitudes. The
best setting of a size, over all inputs, is what `motion.flow.TUNED` holds. Seeds from 1000 on are
for tuning, so the actors that notebook 03 reports are not seen. The table is
``data/results/flow_settings__full__cpu.csv``.
"""

import itertools
import tempfile

import cv2
import pandas as pd
import torch

from micromacro.files import make_writable, project_root, write_atomically
from micromacro.motion.flow import optical_flow
from micromacro.motion.prepare import prepare
from micromacro.results import Row, write_rows
from micromacro.studies import phase_versus_flow as contest

ACTORS = range(1000, 1004)
AMPLITUDES_PX = (0.1, 0.2, 0.4, 0.8)
WINDOWS = {48: (7, 9, 11, 15, 21, 27), 112: (9, 15, 21, 33, 49, 65)}
INPUTS = {48: ("raw", "zscore", "local_contrast"), 112: ("raw", "local_contrast")}
PRESETS = ("dis_ultrafast", "dis_fast", "dis_medium")


def settings(size: int) -> list[tuple[str, dict]]:
    """Methods with the settings to try at a size; the first is that of OpenCV's examples."""
    tried = itertools.product(WINDOWS[size], (0, 1), (3, 10))
    names = ("window", "gaussian", "iterations")
    grid = [dict(zip(names, values, strict=True)) for values in tried]
    grid.sort(key=lambda s: s != {"window": 15, "gaussian": 0, "iterations": 3})
    return [*(("farneback", each) for each in grid), *((preset, {}) for preset in PRESETS)]


def score(seed: int, size: int, kind: str) -> list[Row]:
    """The cosine of every setting on one actor: over all conditions, and on the clean pairs."""
    play = {"amplitudes_px": AMPLITUDES_PX, "size": size}
    frames, (flow, skin) = contest.pairs(seed, **play), contest.truth(seed, **play)
    first, second = prepare(frames, kind, size).unbind(-3)  # each (C, A, U, size, size)
    clean, rows = [*contest.CONDITIONS].index("clean"), []
    for method, options in settings(size):
        estimate = optical_flow(first, second, method=method, **options)
        cosine = contest.score(estimate, flow, skin)["cosine"].mean((1, 2))  # (C,)
        about = {"notebook": "flow_settings", "system": "motion", "profile": "full", "arm": method}
        about |= {"seed": seed, "params": {"size": size, "input": kind, **options}}
        for metric, part in (("cosine", cosine), ("cosine, clean", cosine[clean])):
            n = part.numel() * flow.shape[0] * flow.shape[1]  # pairs
            rows.append(Row(metric=metric, value=float(part.mean()), n=n, **about))
    return rows


def main() -> None:
    """Measure, write the table, and print the best of each size."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = []
    for size, kinds in INPUTS.items():
        of_size = [row for seed in ACTORS for kind in kinds for row in score(seed, size, kind)]
        table = pd.DataFrame([{"method": r.arm, **r.params, r.metric: r.value} for r in of_size])
        names = ["method", "window", "gaussian", "iterations"]
        table = table.groupby(names, dropna=False)[["cosine", "cosine, clean"]].mean()
        print(f"{size} px", table.sort_values("cosine", ascending=False).round(3), sep="\n")
        rows += of_size
    results = project_root() / "data" / "results"
    make_writable(results)
    with tempfile.TemporaryDirectory() as folder:
        for path in write_rows(rows, folder):
            write_atomically(results / path.name, path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
