"""How steady are the face tracks, and how fast? Writes data/results/faces__<hardware>.csv.

Accuracy: the scenes of `micromacro.studies.steadiness`, one actor each; median, quartiles and the
worst actor of every score. "oracle" crops with the true motion of the head.

Speed: frames/s of `extract_faces` on files of 640x360 and 1920x1080, modes interleaved, wall and
CPU time.

Run: python benchmarks/faces.py [--actors 12] [--rounds 7]
"""

import argparse
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from benchmark_rows import write_benchmark
from tqdm import tqdm

from micromacro.faces import extract_faces
from micromacro.studies import steadiness
from micromacro.synthetic import Face, HeadDrift, Identity, perform
from micromacro.video import write_video


def accuracy(n_actors: int) -> list[dict]:
    """Median, quartiles and the worst actor of each score and mode."""
    metrics = [steadiness.unit(seed=seed)[0] for seed in tqdm(range(n_actors), "accuracy")]
    rows = []
    for name, values in pd.DataFrame(metrics).items():
        mode, metric = name.split("/")
        unit = "px at 224" if metric.endswith("px") else ""
        common = {"method": mode, "setting": "drift 4 px 2 deg 1.5 %, crf 23", "unit": unit}
        common |= {"n": n_actors}
        low, middle, high = values.quantile([0.25, 0.5, 0.75])
        rows.append(common | {"metric": metric, "value": middle, "q25": low, "q75": high})
        rows.append(common | {"metric": f"{metric}, mean", "value": values.mean()})
        worst = values.min() if metric == "correlation" else values.max()
        rows.append(common | {"metric": f"{metric}, worst", "value": worst})
    return rows


def speed(films: dict[str, Path], rounds: int) -> list[dict]:
    """Frames/s from file to crops, one core; the first round warms up and does not count."""
    modes = {"aligned": 112, "stabilised": 224, "per_frame": 112}
    arms = [(film, mode) for film in films for mode in modes]
    arms.remove(("1920x1080", "per_frame"))  # slow, and no surprise
    times: dict[tuple, list[tuple[float, float]]] = {arm: [] for arm in arms}
    for _ in tqdm(range(rounds + 1), "speed"):
        for film, mode in arms:
            wall, cpu = time.perf_counter(), time.process_time()
            n_frames = len(extract_faces(films[film], mode=mode, size=modes[mode]))
            spent = time.perf_counter() - wall, time.process_time() - cpu
            times[film, mode].append(tuple(n_frames / s for s in spent))
    rows = []
    for (film, mode), rates in times.items():
        for clock, values in zip(("wall", "cpu"), np.array(rates[1:]).T, strict=True):
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            common = {"method": mode, "setting": f"{film} to {modes[mode]} px, 1 thread"}
            common |= {"metric": f"frames_per_{clock}_s", "unit": "frames/s", "value": middle}
            rows.append(common | {"q25": low, "q75": high, "rounds": rounds, "n": n_frames})
    return rows


def rate(path: Path) -> float:
    """Frames/s of one stabilised pass over a film, in this process, after one to warm up."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    extract_faces(path, mode="stabilised", size=224)
    began = time.perf_counter()
    return len(extract_faces(path, mode="stabilised", size=224)) / (time.perf_counter() - began)


def side_by_side(path: Path, processes: int = 2) -> list[dict]:
    """Do films in several processes keep the speed of each?"""
    rows = []
    for n in (1, processes):
        with get_context("spawn").Pool(n) as pool:
            rates = pool.map(rate, [path] * n, chunksize=1)
        rows.append(
            {
                "method": "stabilised",
                "setting": f"640x360 to 224 px, {n} process(es) at once",
                "metric": "frames_per_wall_s, each",
                "value": float(np.mean(rates)),
                "unit": "frames/s",
                "rounds": 1,
            }
        )
    return rows


def long_film(folder: Path, height: int) -> Path:
    """150 frames of one actor, 16:9, for the speed."""
    face = Face(Identity.draw(0, split="test"), size=(height, height * 16 // 9))
    drift = HeadDrift.at(8 * height / 360, 3, 2, size=height)
    play = perform(150, 30.0, nuisance="easy", seed=0, head_drift=drift)
    path = folder / f"long{height}.mp4"
    blocks = ((face.render(play, i, i + 10) * 255).round().byte() for i in range(0, 150, 10))
    write_video(path, (f for b in blocks for f in b.permute(0, 2, 3, 1).numpy()), crf=23)
    return path


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--actors", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        films = {f"{h * 16 // 9}x{h}": long_film(Path(name), h) for h in (360, 1080)}
        rows = speed(films, arguments.rounds) + side_by_side(films["640x360"])
    rows += accuracy(arguments.actors)
    path = write_benchmark("faces", rows)
    print(pd.read_csv(path).iloc[:, :9].to_string(index=False, float_format="%.3f", na_rep=""))
    print(path)
    means = {row["metric"]: row["value"] for row in rows if row["method"] == "stabilised"}
    if means["correlation, mean"] < 0.93 or means["false_motion_px, mean"] > 0.1:
        raise SystemExit("stabilised crops miss the figure that this project asks for")


if __name__ == "__main__":
    main()
