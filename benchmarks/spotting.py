"""How fast is spotting, what does it cost beside optical flow, and in how much memory?

Writes data/results/spotting__<hardware>.csv. One thread; the same 8-bit grey frames of one actor,
30 fps with the gaps of CAS(ME)^2, at 48 px (the small `SpottingNet`) and at 112 px (the default).
Weights are as drawn: the time does not depend on them. Before the timing it is checked that a
stream scores as the network does, and that the two programs for TV-L1 agree.

Speed: CPU time of this process a frame, from frames and references to the scores of both classes.
Every round runs each method for at least 20 ms, in an order that rotates, after a call to warm up.
The number that counts is the ratio to `SpottingNet` at the same size in the same round: median and
quartiles. Flow is measured across both gaps, 2 a frame, then scored by `SoftNet`; MDMD measures 4.
TV-L1 takes so long that each round takes the next few frames of the film; "1 warp, 1 median" are
reduced settings, all else has its defaults. Speed is not quality: notebook 06b has what each of
them finds.

Post-processing: `spotted` on 12,000 frames of smooth noise with the gaps of SAMM-LV; its share is
of itself and the network.

Memory: the largest memory of a process of its own that makes the default network and lets `scores`
run it, 32 frames at a time, over a whole video of 1 or of 10 minutes, 200 fps, 112 px. The video is
uint8 noise, drawn chunk by chunk, never stored. On Linux it is VmHWM, as the peak of `getrusage`
begins at that of the process that started it.

Run: python benchmarks/spotting.py [--rounds 7] [--minutes 10]
"""

import os

# Before the libraries are loaded: they read it once.
os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
)

import argparse
import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from benchmark_rows import cpu_s, measure, spread, write_benchmark
from scipy.ndimage import gaussian_filter1d

from micromacro.motion.flow import optical_flow
from micromacro.results import hardware, version
from micromacro.systems.spotting import SpottingNet, inputs, intervals, task
from micromacro.systems.spotting.model import SoftNet

SMALL = {"widths": (8, 8, 16), "grid": 6, "hidden": 24}
NETWORKS = {48: ("small", SMALL), 112: ("default", {})}  # size in px -> name and sizes
GAPS = {"micro": 6, "macro": 18}  # of CAS(ME)^2
LONG_GAPS = {"micro": 37, "macro": 174}  # of SAMM-LV
THRESHOLDS = dict.fromkeys(GAPS, 0.55)  # SOFTNet's
N_FRAMES, LONG = 64, 12_000
FPS, CHUNK = 200, 256  # of the videos whose memory is measured
PART = 32  # frames that the network sees at once; `scores` gives it 64
ANCHOR = "SpottingNet"
BY_PARTS = f"{ANCHOR}, {PART} frames at a time"
REDUCED = {"warps": 1, "outer_iterations": 1}
MB = 1e6


@dataclass(frozen=True)
class Arm:
    """One method at one size; ``work`` goes through ``n`` frames."""

    method: str
    px: int
    n: int
    work: Callable[[], object]


# ---- what is compared ----------------------------------------------------------------------------


def film(px: int) -> torch.Tensor:
    """Decoded grey frames of one actor, uint8 (T, 1, px, px)."""
    made = task.videos("cas", 1, 0, split="benchmark", size=px, n_frames=N_FRAMES)
    return (torch.cat([*made.frames("benchmark00")]) * 255).round().byte()


def network(px: int) -> SpottingNet:
    """As drawn from seed 0."""
    torch.manual_seed(0)
    return SpottingNet(**NETWORKS[px][1]).eval()


def by_parts(net: SpottingNet, frames: torch.Tensor) -> torch.Tensor:
    """Logits of a batch by `PART` frames: what they need stays in the cache."""
    return torch.cat([net(part) for part in frames.split(PART)])


def flow_scores(frames: torch.Tensor, soft_net: SoftNet, **settings: object) -> torch.Tensor:
    """SOFTNet's way: frames and references (B, 3, 1, H, W) to logits (B, 2)."""
    now, others = frames[:, :1, 0], frames[:, 1:, 0]
    return soft_net(optical_flow(now.expand_as(others), others, **settings))


def all_arms(frames: torch.Tensor) -> list[Arm]:
    """All methods at one size, the anchor first."""
    px, soft_net = frames.shape[-1], SoftNet().eval()
    rows = torch.cat([torch.arange(N_FRAMES)[:, None], inputs.references(N_FRAMES, GAPS)], 1)
    order = torch.randperm(N_FRAMES, generator=torch.Generator().manual_seed(0))

    def few(n: int, some: cycle, settings: dict) -> None:
        flow_scores(frames[rows[next(some)]], soft_net, **settings)

    farneback = partial(flow_scores, soft_net=soft_net, method="farneback")
    net, n = network(px), N_FRAMES
    parts = partial(by_parts, net)
    arms = [
        Arm(ANCHOR, px, n, partial(inputs.scores, net, [frames], GAPS)),
        Arm(BY_PARTS, px, n, partial(inputs.scores, parts, [frames], GAPS)),
        Arm("SoftNet, Farneback", px, n, partial(inputs.scores, farneback, [frames], GAPS)),
        Arm("MDMD, Farneback", px, n, partial(inputs.mdmd_scores, [frames], GAPS)),
    ]
    for name, method in (("OpenCV's TV-L1", "dual_tvl1"), ("our TV-L1", "tvl1")):
        for what, n, settings in (("", 4, {}), (", 1 warp, 1 median", 16, REDUCED)):
            work = partial(few, n, cycle(order.split(n)), {"method": method, **settings})
            arms.append(Arm(f"SoftNet, {name}{what}", px, n, work))
    noise = np.random.default_rng(0).standard_normal((LONG, 2))
    smooth = gaussian_filter1d(noise, 20, axis=0)
    post = partial(intervals.spotted, smooth, LONG_GAPS, THRESHOLDS, "noise")
    return [*arms, Arm("post-processing", px, LONG, post)]


def check(frames: torch.Tensor) -> None:
    """Refuse to time what is wrong."""
    net = network(frames.shape[-1])
    places = inputs.references(N_FRAMES, GAPS)
    whole = net(torch.cat([frames[:, None], frames[places]], 1)).sigmoid()
    error = (inputs.scores(net, frames.split(7), GAPS) - whole).abs().max().item()
    pair = frames[18:22, 0], frames[:4, 0]
    flows = [optical_flow(*pair, method=method) for method in ("tvl1", "dual_tvl1")]
    apart = (flows[0] - flows[1]).abs().mean().item()
    if error > 1e-5 or apart > 0.05:
        raise SystemExit(f"spotting: scores differ by {error:.1e}, TV-L1 by {apart:.3f} px")


# ---- how fast? -----------------------------------------------------------------------------------


def rows_of(arms: list[Arm], s: np.ndarray, n: list[int]) -> list[dict]:
    """Speeds, costs relative to the anchor's, and the share of post-processing."""
    rows = []
    for i, arm in enumerate(arms):
        base = s[:, next(k for k, a in enumerate(arms) if (a.method, a.px) == (ANCHOR, arm.px))]
        metrics = [
            ("frames_per_cpu_s", "frames/s", 1 / s[:, i]),
            (f"cost_ratio_to_{ANCHOR}", f"x {ANCHOR}", s[:, i] / base),
        ]
        if arm.method == "post-processing":
            metrics.append(("share_of_time", "", s[:, i] / (s[:, i] + base)))
        setting = f"{arm.px} px, {NETWORKS[arm.px][0]} network"
        for metric, unit, values in metrics:
            common = {"method": arm.method, "setting": setting, "rounds": len(s), "n": n[i]}
            rows.append(common | {"metric": metric, "unit": unit} | spread(values))
    return rows


# ---- how much memory? ----------------------------------------------------------------------------


def peak_mb() -> float:
    """Largest memory of this process until now."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text()).group(1)) * 1024 / MB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / MB


def noise_video(n_frames: int, px: int = 112) -> Iterator[torch.Tensor]:
    """Chunks uint8 (n, 1, px, px) that nobody keeps."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, n_frames, CHUNK):
        shape = min(CHUNK, n_frames - start), 1, px, px
        yield torch.randint(256, shape, dtype=torch.uint8, generator=generator)


def score_noise(n_frames: int) -> None:
    """Score a video in this process; print its peak before and after, and the CPU time."""
    parts, before = partial(by_parts, network(112)), peak_mb()
    seconds = cpu_s(partial(inputs.scores, parts, noise_video(n_frames), LONG_GAPS))
    print(json.dumps({"before": before, "after": peak_mb(), "seconds": seconds}))


def memory(minutes: int) -> list[dict]:
    """Peaks of a video of one minute and of one of some minutes, in processes of their own."""
    rows, peaks = [], []
    for length in (1, minutes):
        n = 60 * FPS * length
        command = [sys.executable, __file__, "--stream", str(n)]
        made = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        peaks.append(made["after"])
        setting = f"112 px, default network, uint8, {length} min at {FPS} fps"
        common = {"method": BY_PARTS, "setting": setting, "rounds": 1, "n": n}
        for metric, value, unit in (
            ("peak_memory", made["after"], "MB"),
            ("peak_memory, libraries and network alone", made["before"], "MB"),
            ("the video, were it stored", n * 112**2 / MB, "MB"),
            ("frames_per_cpu_s, drawing the video included", n / made["seconds"], "frames/s"),
        ):
            rows.append(common | {"metric": metric, "value": value, "unit": unit})
    growth = {"metric": "peak_memory, growth from 1 min", "value": peaks[1] - peaks[0]}
    return [*rows, common | growth | {"unit": "MB"}]


# ---- report --------------------------------------------------------------------------------------


def main() -> None:
    """Check, measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--stream", type=int, metavar="FRAMES", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    cv2.setNumThreads(1)
    if arguments.stream:
        score_noise(arguments.stream)
        return
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    versions = ", ".join(f"{p} {version(p)}" for p in ("torch", "opencv-contrib-python-headless"))
    print(f"{hardware()}; load {load}; 1 thread; {versions}")
    films = [film(px) for px in NETWORKS]
    for frames in films:
        check(frames)
    arms = [arm for frames in films for arm in all_arms(frames)]
    rows = rows_of(arms, *measure(arms, arguments.rounds)) + memory(arguments.minutes)
    path = write_benchmark("spotting", rows)
    print(pd.read_csv(path).iloc[:, :9].to_string(index=False, float_format="%.4g", na_rep=""))
    print(path, f"(load average {os.getloadavg()[0]:.1f} at the end)")
    # Not 0: scores that are kept lie between large blocks that come and go, and hold pages.
    growth, stored = rows[-1]["value"], 60 * FPS * (arguments.minutes - 1) * 112**2 / MB
    if growth > stored / 10:
        raise SystemExit(f"spotting: {growth:.0f} MB more for {stored:.0f} MB more of video")


if __name__ == "__main__":
    main()
