"""Local contrast normalisation against OpenCV. Writes data/results/local_contrast__<hardware>.csv.

64 grey frames of the synthetic actor (everything on: shadow, noise), 48, 112 and 224 px, as uint8
and as float32, one thread. The peer, and the anchor of the ratios, is the same arithmetic as a
careful user writes it with OpenCV: one frame at a time, every buffer used again, each frame centred
on its mean. "opencv, not centred" saves that pass and errs twice as much (on dim, faint images far
more). The package too calls OpenCV for the blurs, so from about 112 px on the best to hope for is a
draw; below, several frames share a call. It also looks for NaN in float32 input, unless
check=False. "torch" is its path on CUDA, matrix products, here on the CPU.

First every method's largest error against the float64 reference; above 1e-5 nothing is timed. Then
rounds of all methods in turn, each repeated for 20 ms or more; per round the anchor's CPU time over
the method's. Median and quartiles over the rounds; the first round warms up.

Run: python benchmarks/local_contrast.py [--rounds 15]
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import pandas as pd
import torch
from benchmark_rows import write_benchmark
from tqdm import tqdm

from micromacro.kernels.local_contrast import local_contrast, local_contrast_reference
from micromacro.synthetic import Face, Identity, macro_event, perform

WINDOW, SIGMA, EPS = 9, 2.0, 0.02
LIMIT = 1e-5
KERNEL = cv2.getGaussianKernel(WINDOW, SIGMA).astype(np.float32)


def opencv(frames: np.ndarray, method: str, centred: bool) -> np.ndarray:
    """The peer: (N, H, W) to float32 (N, H, W)."""
    out = np.empty(frames.shape, np.float32)
    white = 255 if frames.dtype == np.uint8 else 1
    x, v, s = (np.empty(frames.shape[1:], np.float32) for _ in range(3))
    for frame, y in zip(frames, out, strict=True):
        if centred:
            frame = cv2.subtract(frame, cv2.mean(frame)[0], dst=x, dtype=cv2.CV_32F)
        elif white == 255:
            x[:] = frame
            frame = x
        cv2.subtract(frame, blur(frame, s), dst=v)
        cv2.sqrt(blur(cv2.multiply(v, v, dst=s), s), dst=s)
        if method == "jarrett":
            cv2.max(s, cv2.mean(s)[0], dst=s)
        else:
            cv2.add(s, EPS * white, dst=s)
        cv2.divide(v, s, dst=y)
    return out


def blur(image: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The faster of OpenCV's two ways; its default border."""
    return cv2.sepFilter2D(image, -1, KERNEL, KERNEL, dst=out)


def arms(frames: torch.Tensor, method: str) -> dict[str, Callable]:
    """All methods on the same frames; the anchor first."""
    ours = partial(local_contrast, frames, method=method, sigma=SIGMA, window=WINDOW, eps=EPS)
    return {
        "opencv": partial(opencv, frames.numpy(), method, centred=True),
        "opencv, not centred": partial(opencv, frames.numpy(), method, centred=False),
        "local_contrast": ours,
        "local_contrast, check=False": partial(ours, check=False),
        "local_contrast, torch": partial(ours, backend="torch"),
    }


def film(size: int, n_frames: int = 64) -> torch.Tensor:
    """uint8 (T, S, S): a smile in bad light."""
    face = Face(Identity.draw(0, split="benchmark"), size=size, colour=False)
    events = [macro_event(0, "happiness", fps=30, duration_s=1.5, peak=0.08)]
    play = perform(n_frames, 30.0, events, nuisance="hard", seed=1)
    return (face.render(play) * 255).round().byte()[:, 0].contiguous()


def largest_error(found: torch.Tensor | np.ndarray, truth: torch.Tensor) -> float:
    """Of the whole film."""
    return (torch.as_tensor(found) - truth).abs().max().item()


def seconds(work: Callable[[], object], repeats: int) -> float:
    """CPU time of this process per call, which a busy machine distorts less than the clock."""
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def measure(frames: torch.Tensor, method: str, rounds: int) -> list[dict]:
    """Errors, then ratios, of all methods in one cell."""
    size, dtype = frames.shape[-1], str(frames.dtype).removeprefix("torch.")
    common = {"setting": f"{method}, {size} px, {dtype}", "n": len(frames)}
    methods = arms(frames, method)
    truth = local_contrast_reference(frames, method=method, sigma=SIGMA, window=WINDOW, eps=EPS)
    errors = {name: largest_error(work(), truth) for name, work in methods.items()}
    if max(errors.values()) > LIMIT:
        raise SystemExit(f"{common['setting']}: an error is above {LIMIT}: {errors}")
    repeats = {name: 1 + int(0.02 / seconds(work, 2)) for name, work in methods.items()}
    times = np.array(
        [
            [seconds(work, repeats[name]) for name, work in methods.items()]
            for _ in range(rounds + 1)
        ]
    )[1:]
    rows = []
    for name, spent in zip(methods, times.T, strict=True):
        found = {"method": name, **common}
        rows.append(found | {"metric": "max_error", "value": errors[name]})
        low, middle, high = np.quantile(times[:, 0] / spent, [0.25, 0.5, 0.75])
        found["rounds"] = rounds
        ratio = {"value": middle, "unit": "x opencv", "q25": low, "q75": high}
        rows.append(found | {"metric": "times as fast"} | ratio)
        best = {"value": times[:, 0].min() / spent.min(), "unit": "x opencv"}
        rows.append(found | {"metric": "times as fast, best of each"} | best)
        low, middle, high = np.quantile(spent, [0.25, 0.5, 0.75]) * 1e6 / len(frames)
        cost = {"value": middle, "unit": "us", "q25": low, "q75": high}
        rows.append(found | {"metric": "time per frame"} | cost)
    return rows


def main() -> None:
    """Check, time, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = []
    for size in tqdm((48, 112, 224)):
        frames = film(size)
        for images in (frames, frames.float() / 255):
            for method in ("jarrett", "mean_std"):
                rows += measure(images, method, rounds)
    path = write_benchmark("local_contrast", rows)
    print(pd.read_csv(path).iloc[:, :9].to_string(index=False, float_format="%.3g", na_rep=""))
    print(path, f"(load average {os.getloadavg()[0]:.1f}, OpenCV {cv2.__version__})")


if __name__ == "__main__":
    main()
