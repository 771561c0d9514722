"""What do phase differences cost beside optical flow and other ways to the same maps?

Writes data/results/phase_vs_peers__<hardware>.csv. One thread; the same 8-bit grey frames of one
actor and the same pairs of them for all. Before the timing it is checked that the kernel is right
and that the peers of benchmarks/peers/phase.py compute what they are meant to.

Every round runs each method for at least 20 ms; the order is rotated. The number that counts is the
ratio to `phase_difference` (backend gemm) of the same round: median and quartiles, and best time
over best time. It is CPU time of this process, so that a shared machine distorts it less, per
output: a map of both levels, or a flow. Flow and phase answer different questions: read these
numbers beside what each of them recovers, never alone.

Run: python benchmarks/phase_vs_peers.py [--rounds 11]
"""

import os

# Before the libraries are loaded: they read it once.
os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
)

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from benchmark_rows import measure, spread, write_benchmark
from peers import checks
from peers.phase import WINDOW, Fourier, Plenoptic, Released, pyrtools_once
from PIL import Image

from micromacro.kernels import phase_difference
from micromacro.motion.flow import optical_flow
from micromacro.results import hardware, version
from micromacro.synthetic import Face, Identity, micro_event, perform

FRAMES = {48: 257, 112: 257, 224: 33}  # of the films, by size in px
CUSTOMARY_FLOW_PX = 112  # aligned crops of faces; phase differences are taken at 48 px
ANCHOR = "phase_difference, gemm"
REQUIRED = {
    "released program, 13-frame windows": 120,
    "released algorithm, each frame once": 7,
    "pyrtools, SciPy blur": 15,
    "plenoptic, torch blur": 3.5,
    "Farneback": 1.5,
    "DIS medium": 1.0,
}


@dataclass(frozen=True)
class Arm:
    """One method at one size; ``work`` makes ``n`` maps or flows."""

    method: str
    px: int
    n: int
    work: Callable[[], object]
    customary: bool = False


# ---- what is compared ---------------------------------------------------------------------------


def film(size: int) -> torch.Tensor:
    """Decoded grey frames of one actor with noise, uint8 (T, size, size)."""
    events = [micro_event(8, "happiness"), micro_event(60, "anger"), micro_event(150, "surprise")]
    play = perform(max(FRAMES.values()), 30.0, events, nuisance="easy", seed=0)
    face = Face(Identity.draw(0, split="benchmark"), size=size, colour=False)
    return (face.render(play, 0, FRAMES[size])[:, 0] * 255).round().byte()


def phase_arms(frames: torch.Tensor, large: torch.Tensor) -> list[Arm]:
    """The kernel and all other ways to its maps at 48 px; ``large`` is the film at 112 px."""
    few, n = frames[:33], len(frames) - 1
    released, mended = Released(48), Released(48, torch.remainder)
    windows = cycle(np.random.default_rng(0).permutation(n + 2 - WINDOW))

    def window() -> None:
        start = next(windows)
        released.window(frames[start : start + WINDOW].float() / 255)

    def pillow() -> None:
        size = (48, 48)
        small = [Image.fromarray(f).resize(size, Image.Resampling.LANCZOS) for f in large.numpy()]
        phase_difference(torch.from_numpy(np.stack(small)))

    folded = f"{ANCHOR}, Lanczos from 112 px folded in"
    return [
        Arm(ANCHOR, 48, n, partial(phase_difference, frames), True),
        Arm(f"{ANCHOR}, arg_of_blur", 48, n, partial(phase_difference, frames, mode="arg_of_blur")),
        Arm(folded, 48, n, partial(phase_difference, large, size=48), True),
        Arm(f"{ANCHOR}, after Pillow's Lanczos from 112 px", 48, n, pillow, True),
        Arm("released program, 13-frame windows", 48, 1, window, True),
        Arm("released algorithm, each frame once", 48, n, partial(released.once, frames)),
        Arm("released algorithm, correct unwrap", 48, n, partial(mended.once, frames)),
        Arm("pyrtools, SciPy blur", 48, len(few) - 1, partial(pyrtools_once, few)),
        Arm("plenoptic, torch blur", 48, n, partial(Plenoptic(48).once, frames)),
        Arm("torch FFT, streaming", 48, n, partial(Fourier(48).once, frames)),
    ]


def larger_phase_arms(frames: torch.Tensor) -> list[Arm]:
    """The kernel, and its rule by Fourier transforms, at a larger size."""
    px, n = frames.shape[-1], len(frames) - 1
    return [
        Arm(ANCHOR, px, n, partial(phase_difference, frames)),
        Arm("torch FFT, streaming", px, n, partial(Fourier(px).once, frames)),
    ]


def flow_arms(frames: torch.Tensor) -> list[Arm]:
    """Optical flow, pair by pair in one shuffled order.

    A DIS object changes itself: at 48 px "ultrafast" and "fast" move to a finer scale and stay
    there. So every size has objects of its own, made here and not in the time.
    """
    px, images = frames.shape[-1], frames.numpy()
    order = np.random.default_rng(0).permutation(len(images) - 1)
    presets = {
        "DIS ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
        "DIS fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
        "DIS medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    }
    usual = (0.5, 3, 15, 3, 5, 1.2, 0)
    methods = {"Farneback": lambda *images: cv2.calcOpticalFlowFarneback(*images, *usual)}
    methods |= {name: cv2.DISOpticalFlow_create(preset).calc for name, preset in presets.items()}
    methods["DualTVL1"] = cv2.optflow.DualTVL1OpticalFlow_create().calc

    def one(flow: Callable, pairs: cycle) -> None:
        t = next(pairs)
        flow(images[t], images[t + 1], None)

    def batch(n: int, pairs: cycle) -> None:
        t = torch.as_tensor([next(pairs) for _ in range(n)])
        optical_flow(frames[t], frames[t + 1], method="tvl1")

    customary, n = px == CUSTOMARY_FLOW_PX, 1 if px > 112 else 4
    arms = [
        Arm(name, px, 1, partial(one, flow, cycle(order)), customary)
        for name, flow in methods.items()
    ]
    return [*arms, Arm("TV-L1 in torch", px, n, partial(batch, n, cycle(order)), customary)]


# ---- how fast? ----------------------------------------------------------------------------------


def rows_of(arms: list[Arm], ms: np.ndarray, n: list[int]) -> list[dict]:
    """Costs, ratios at the same size, and ratios of customary sizes to the kernel at 48 px."""
    anchor = {arm.px: ms[:, i] for i, arm in enumerate(arms) if arm.method == ANCHOR}
    rows = []
    for i, arm in enumerate(arms):
        common = {"method": arm.method, "rounds": len(ms), "n": n[i]}
        settings = [(f"{arm.px} px", anchor[arm.px])]
        if arm.customary:
            settings.append((f"customary size: {arm.px} px", anchor[48]))
        for setting, base in settings:
            common |= {"setting": setting}
            ratio = ms[:, i] / base
            for metric, unit, values in (
                ("cost_ratio_to_gemm", "", ratio),
                ("ms_per_frame", "ms", ms[:, i]),
            ):
                rows.append(common | {"metric": metric, "unit": unit} | spread(values))
            best = {"metric": "cost_ratio_to_gemm, best", "value": ms[:, i].min() / base.min()}
            rows.append(common | best | {"unit": ""})
    return rows


# ---- report -------------------------------------------------------------------------------------


def circumstances() -> str:
    """Machine, load, threads and versions."""
    info = Path("/proc/cpuinfo")
    words = set(info.read_text().split()) if info.exists() else set()
    flags = sorted(w for w in words if re.match(r"avx|fma|f16c|amx|sse4|asimd|sve", w))
    names = ("torch", "numpy", "scipy", "opencv-contrib-python-headless", "pyrtools", "plenoptic")
    versions = ", ".join(f"{name} {version(name)}" for name in (*names, "pillow"))
    threads = f"threads: torch {torch.get_num_threads()}, OpenCV {cv2.getNumThreads()}"
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    return f"{hardware()}; load {load}; {threads}\n{' '.join(flags)}\n{versions}"


def show(rows: list[dict]) -> None:
    """One line per method and setting."""
    table = pd.DataFrame(rows)
    ratios = table[table.metric == "cost_ratio_to_gemm"].set_index(["setting", "method"])
    wide = table.pivot_table("value", ["setting", "method"], "metric", sort=False)
    wide = wide.join(ratios[["q25", "q75", "n"]])
    wide.columns = ["ratio", "ms", "best/best", "q25", "q75", "n"]
    for setting, part in wide[["ms", "ratio", "q25", "q75", "best/best", "n"]].groupby(level=0):
        print(f"\n{setting}")
        print(part.droplevel(0).to_string(float_format="%.3g"))


def main() -> None:
    """Check, measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    cv2.setNumThreads(1)
    print(circumstances())
    films = {size: film(size) for size in FRAMES}
    checks.kernel(films)
    checks.peers(films[48])
    arms = phase_arms(films[48], films[112])
    arms += [arm for size in (112, 224) for arm in larger_phase_arms(films[size])]
    arms += [arm for frames in films.values() for arm in flow_arms(frames)]
    s, n = measure(arms, rounds)
    rows = rows_of(arms, 1000 * s, n)
    path = write_benchmark("phase_vs_peers", rows)
    show(rows)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end\n{path}\n")
    missed = []
    for row in rows:
        required = REQUIRED.get(row["method"])
        if required and (row["setting"], row["metric"]) == ("48 px", "cost_ratio_to_gemm"):
            print(f"{row['method']}: {row['value']:.1f} times the cost, {required} required")
            missed += [row["method"]] if row["value"] < required else []
    if missed:
        raise SystemExit(f"phase_vs_peers: below the ratio required: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
