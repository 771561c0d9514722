"""How fast the synthetic actor renders: frames, identities and flow pairs per CPU-second.

One thread; everything on ("hard" nuisances, open mouth, shadow, noise). CPU time of this process,
so that a shared machine does not distort it. The exactness of the flow is checked before timing.
Run with ``python benchmarks/renderer.py``; writes data/results/renderer__<hardware>.csv.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from benchmark_rows import write_benchmark

from micromacro.synthetic import (
    EXPRESSIONS,
    Face,
    Identity,
    Performance,
    macro_event,
    micro_event,
    perform,
    pose,
)

ROUNDS = 9
FRAMES = {48: 192, 64: 128, 112: 48, 224: 12}


def script(n_frames: int) -> Performance:
    """A talkative clip: a smile, a micro-expression, a surprise; every nuisance on."""
    fps = n_frames / 4
    events = [
        macro_event(0, "happiness", fps=fps, duration_s=1.5, peak=0.08),
        micro_event(n_frames // 2, "anger", fps=fps, duration_s=0.4),
        macro_event(5 * n_frames // 8, "surprise", fps=fps, duration_s=1.4, peak=0.08),
    ]
    return perform(n_frames, fps, events, nuisance="hard", seed=1)


def flow_error_px(size: int) -> float:
    """Largest error of the flow against a rigid head, and of landmarks against it; pixels."""
    still = Performance.still(2)
    turn, grow, shift = 0.05, 0.03, torch.tensor([0.04, -0.03])
    play = Performance.still(1) + Performance(
        **{
            **vars(still[1:]),
            "roll": torch.tensor([turn]),
            "log_scale": torch.tensor([grow]),
            "shift": shift[None],
        }
    )
    face = Face(Identity.draw(0, split="benchmark"), size=size, colour=False)
    flow, valid = face.flow(play, 0, 1)
    y, x = torch.meshgrid(
        torch.arange(size) - (size - 1) / 2, torch.arange(size) - (size - 1) / 2, indexing="ij"
    )
    c, s = np.exp(grow) * np.cos(turn), np.exp(grow) * np.sin(turn)
    expected = torch.stack([c * x - s * y - x, s * x + c * y - y]) + shift[:, None, None] * size / 2
    person = valid & (flow.abs().sum(0) > 0)
    return (flow - expected).norm(dim=0)[person].max().item()


def flow_residual_px(size: int) -> float:
    """Largest distance between the material points of both ends of the flow, in pixels."""
    face = Face(Identity.draw(0, split="benchmark"), size=size, colour=False)
    worst = 0.0
    for expression in EXPRESSIONS:
        play = pose("neutral") + pose(expression)
        flow, valid = face.flow(play, 0, 1)
        start = face._pixels()
        end = start + flow[None] * 2 / size
        before, after = (
            face.motion.material(p, play[k : k + 1])[0] for k, p in ((0, start), (1, end))
        )
        moving = valid & (flow.abs().sum(0) > 0)
        error = (after - before)[0].norm(dim=0)[moving] * size / 2
        worst = max(worst, error.max().item())
    return worst


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(rows: list[dict]) -> None:
    """All timings; the cells of one round are interleaved so that slow minutes hit all alike."""
    cells, person = [], Identity.draw(0, split="benchmark")
    for size, n in FRAMES.items():
        play = script(n)
        for colour in (False, True):
            face = Face(person, size=size, colour=colour)
            cells.append(("render", size, colour, "frames", n, lambda f=face, p=play: f.render(p)))
            build = lambda s=size, c=colour: Face(person, size=s, colour=c)  # noqa: E731
            cells.append(("build", size, colour, "identities", 1, build))
        face = Face(person, size=size, colour=False)
        pairs = max(4, n // 4)
        flow = lambda f=face, p=play, k=pairs: f.flow(p, range(k), range(1, k + 1))  # noqa: E731
        cells.append(("flow", size, False, "pairs", pairs, flow))
    for *_, work in cells:
        work()
    rates = [[n / cpu_seconds(work) for *_, n, work in cells] for _ in range(ROUNDS)]
    for cell, rate in zip(cells, np.array(rates).T, strict=True):
        method, size, colour, what, *_ = cell
        q25, value, q75 = np.percentile(rate, [25, 50, 75])
        rows.append(
            row(method, size, colour, f"{what}_per_cpu_second", value, "1/s", ROUNDS, q25, q75)
        )


def row(method, size, colour, metric, value, unit, rounds=1, q25=None, q75=None) -> dict:
    """One line of the table."""
    setting = f"{size} px, {'rgb' if colour else 'grey'}"
    spread = {"q25": q25, "q75": q75, "rounds": rounds}
    return {
        "method": method,
        "setting": setting,
        "metric": metric,
        "value": value,
        "unit": unit,
        **spread,
    }


def main() -> int:
    """Check, time, write."""
    torch.set_num_threads(1)
    rows = []
    for size in (64, 224):
        for name, error in (("rigid_error", flow_error_px), ("residual", flow_residual_px)):
            value = error(size)
            if value > 0.02:
                print(
                    f"renderer: flow {name} is {value:.4f} px at {size}, above 0.02",
                    file=sys.stderr,
                )
                return 1
            rows.append(row("flow", size, False, name, value, "px"))
    measure(rows)
    path = write_benchmark("renderer", rows)
    print(pd.read_csv(path).iloc[:, :8].to_string(index=False, float_format="%.4g", na_rep=""))
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
