"""How fast are the kernels on a GPU? Writes data/results/kernels_gpu__<gpu>.csv.

Phase differences of 48 px frames: matrix products in PyTorch, the Triton kernels in both
precisions, and a Fourier transform of each frame once, in PyTorch. Local contrast of 112 px frames:
PyTorch and Triton. The error against float64 is checked before anything is timed.

Throughput: frames on the GPU already, L2 cache flushed before each of 25 launches, CUDA events.
Latency: one clip, wall clock, with and without copies from and to the host. Every round runs every
method; ratios are taken within a round.

Run: python benchmarks/kernels_gpu.py [--rounds 9]. Without a CUDA device it measures nothing.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial

import numpy as np
import pandas as pd
import torch
from benchmark_rows import write_benchmark

from micromacro.kernels import phase_difference
from micromacro.kernels.local_contrast import local_contrast, local_contrast_reference
from micromacro.kernels.phase_reference import EPS, phase_difference_reference
from micromacro.kernels.phase_tables import blur_matrix
from micromacro.kernels.steerable import band_pass, lobe
from micromacro.synthetic import Face, Identity, perform

LAUNCHES = 25
T = 64  # frames per clip
BATCHES = [64, 256, 1024, 4096, 16384]  # frames; 16384 of 48 px with their maps are 530 MB
LATENCY = [13, 300]  # frames
BYTES = {  # per frame: every input once, every output once; and with the bands between two kernels
    "phase": {"32 KB": 4 * 48**2 * (1 + 2.5), "124 KB": 4 * 48**2 * (1 + 2.5 + 10)},
    "jarrett": {"24 B/px": 24 * 112**2},
    "mean_std": {"8 B/px": 8 * 112**2},
}


def fourier(clips: torch.Tensor) -> list[torch.Tensor]:
    """The same phase differences by a Fourier transform of each frame, at most 2048 at a time."""
    N, maps = clips.shape[-1], []
    for part in clips.split(max(1, 2048 // clips.shape[1])):
        part = part - part.mean((-2, -1), keepdim=True)  # for precision; no band sees it
        wide = torch.cat([part, part.flip(-1)], -1)
        spectrum = torch.fft.fft2(torch.cat([wide, wide.flip(-2)], -2))[:, None]
        maps.append([_level(spectrum, N, level) for level in (1, 2)])
    return [torch.cat(level) for level in zip(*maps, strict=True)]


def _level(spectrum: torch.Tensor, N: int, level: int) -> torch.Tensor:
    n = N >> (level - 1)
    keep, masks, blur = _constants(N, level, spectrum.device)
    part = spectrum if level == 1 else spectrum[..., keep[:, None], keep]
    z = torch.fft.ifft2(part * masks)[..., :n, :n]
    product = z[:, :, 1:] * z[:, :, :-1].conj()
    weight = product.abs()
    change = blur @ (weight * product.angle()) @ blur / (blur @ weight @ blur + EPS)
    return change - change.mean((-2, -1), keepdim=True)


@lru_cache
def _constants(N: int, level: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    n = N >> (level - 1)
    keep = torch.cat([torch.arange(n), torch.arange(2 * N - n, 2 * N)])
    f = 2 * torch.fft.fftfreq(2 * N, dtype=torch.float64)[keep]
    radial = band_pass(torch.hypot(f[:, None], f), level)
    masks = torch.stack([radial * lobe(f, f[:, None], band, 2) for band in (0, 1)])[:, None]
    return keep.to(device), masks.to(device).float(), blur_matrix(n, 2.0).to(device).float()


# ---- methods: what is called, a bound on its errors, the share of errors that may be above it ----

# Rounded to 10 bits, the phase of a weak band can be off by anything. Frames of 8 bits do worse.
PHASE = {
    "gemm": (partial(phase_difference, backend="gemm", check=False), 1e-5, 0),
    "triton": (partial(phase_difference, backend="triton", check=False), 1e-5, 0),
    "triton_tf32": (partial(phase_difference, backend="triton_tf32", check=False), 1e-2, 1e-2),
    "fourier": (fourier, 1e-5, 0),
}


def contrast(method: str) -> dict[str, tuple]:
    """Backends of local contrast normalisation."""
    call = partial(local_contrast, method=method, check=False)
    return {b: (partial(call, backend=b), 1e-5, 0) for b in ("torch", "triton")}


def tasks(device: str) -> list[tuple]:
    """Name, setting, methods, float64 form, frames (T, side, side) of every task."""
    options = {"fps": 30.0, "nuisance": "hard", "seed": 1}
    face = partial(Face, Identity.draw(0, split="benchmark"), colour=False)
    frames = {n: face(size=n).render(perform(T, **options))[:, 0].to(device) for n in (48, 112)}
    listed = [("phase", "48 px", PHASE, phase_difference_reference, frames[48])]
    for method in ("jarrett", "mean_std"):
        form = partial(local_contrast_reference, method=method)
        listed.append((method, f"{method}, 112 px", contrast(method), form, frames[112]))
    return listed


# ---- measuring ----------------------------------------------------------------------------------


def errors(found, expected) -> torch.Tensor:
    """Absolute differences, all levels together."""
    pairs = [(found, expected)] if torch.is_tensor(found) else zip(found, expected, strict=True)
    return torch.cat([(a.double() - b).abs().flatten() for a, b in pairs])


def measure(works: Mapping[str, Callable], clock: Callable, rounds: int) -> np.ndarray:
    """Seconds per call, (rounds, methods); each round runs every method, after one to warm up."""
    return np.array([[clock(work) for work in works.values()] for _ in range(rounds + 1)])[1:]


def rows_of(setting: str, names, seconds: np.ndarray, n: int, models: Mapping[str, float]) -> list:
    """Frames/s, seconds, GB/s by each byte model, and the ratio to the first method."""
    rows = []
    for name, spent in zip(names, seconds.T, strict=True):
        scores = {
            ("throughput", "frames/s"): n / spent,
            ("time", "ms"): 1e3 * spent,
            (f"speed relative to {names[0]}", "x"): seconds[:, 0] / spent,
        }
        scores |= {(f"bandwidth at {m}", "GB/s"): n * b / spent / 1e9 for m, b in models.items()}
        for (metric, unit), values in scores.items():
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            row = {"method": name, "setting": setting, "metric": metric, "value": middle}
            rows.append(row | {"unit": unit, "q25": low, "q75": high, "rounds": len(spent), "n": n})
    return rows


def on_device(work: Callable, flush: torch.Tensor) -> float:
    """Median seconds of a call by CUDA events, nothing of its input in the cache."""
    events = [[torch.cuda.Event(enable_timing=True) for _ in "ab"] for _ in range(LAUNCHES)]
    for begin, end in events:
        flush.zero_()
        begin.record()
        work()
        end.record()
    torch.cuda.synchronize()
    return float(np.median([begin.elapsed_time(end) for begin, end in events])) / 1e3


def on_host(work: Callable) -> float:
    """Median seconds of a call by the wall clock, the GPU idle before and after."""
    spent = []
    for _ in range(LAUNCHES):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        spent.append(time.perf_counter() - began)
    return float(np.median(spent))


def there_and_back(call: Callable, device: torch.device, frames: torch.Tensor) -> list:
    """From frames on the host to results on the host."""
    found = call(frames.to(device))
    return [m.cpu() for m in ([found] if torch.is_tensor(found) else found)]


def check(task, device_name: str) -> list[dict]:
    """Errors against float64; ends the program where too many are too large."""
    name, setting, methods, form, frames = task
    rows, clips = [], frames.expand(2, -1, -1, -1)
    expected = form(clips)
    for method, (call, bound, share) in methods.items():
        found = errors(call(clips), expected)
        above = (~(found <= bound)).double().mean()  # NaN counts
        if above > share:
            fault = f"{above:.2%} of the errors are above {bound:g}, at most {share:.0%} may be"
            raise SystemExit(f"{name}, {setting}, {method}: {fault}")
        for metric, value in (
            ("largest error", found.max()),
            ("rms error", found.square().mean().sqrt()),
            (f"share of errors above {bound:g}", above),
        ):
            row = {"method": f"{name} {method}", "setting": f"{device_name}; {setting}"}
            rows.append(
                row | {"metric": metric, "value": value.item(), "n": clips[..., 0, 0].numel()}
            )
    return rows


def time_task(task, device_name: str, rounds: int, events: Callable, wall: Callable) -> list[dict]:
    """Throughput of every batch by the clock ``events``, latency of every clip by ``wall``."""
    name, setting, methods, _, frames = task
    names = [f"{name} {method}" for method in methods]
    calls, rows = {method: call for method, (call, *_) in methods.items()}, []
    for n in BATCHES:
        clips = frames.repeat(n // T, 1, 1, 1)
        works = {method: partial(call, clips) for method, call in calls.items()}
        label = f"{device_name}; {setting}, {n} frames on the GPU"
        rows += rows_of(label, names, measure(works, events, rounds), n, BYTES[name])
    for n in LATENCY:
        clip = frames.repeat(-(-n // T), 1, 1)[None, :n]
        resident = {method: partial(call, clip) for method, call in calls.items()}
        wrapped = {
            method: partial(there_and_back, call, clip.device) for method, call in calls.items()
        }
        copied = {method: partial(call, clip.cpu()) for method, call in wrapped.items()}
        for place, works in (("on the GPU", resident), ("from host to host", copied)):
            label = f"{device_name}; {setting}, one clip of {n} frames {place}, wall clock"
            rows += rows_of(label, names, measure(works, wall, rounds), n, {})
    return rows


def main() -> int:
    """Check all, then time all, then write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    if not torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET", "0") != "0":
        has = torch.cuda.is_available()
        print("TRITON_INTERPRET is set" if has else "no CUDA device", "nothing measured", sep=": ")
        return 0
    device_name, listed = torch.cuda.get_device_name(), tasks("cuda")
    rows = [row for task in listed for row in check(task, device_name)]
    flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    events = partial(on_device, flush=flush)
    for task in listed:
        rows += time_task(task, device_name, rounds, events, on_host)
    path = write_benchmark("kernels_gpu", rows, on=device_name)
    print(pd.read_csv(path).iloc[:, :9].to_string(index=False, float_format="%.4g", na_rep=""))
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
