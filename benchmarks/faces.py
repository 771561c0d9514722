"""How steady are the face tracks, and how fast? Writes data/results/faces__<hardware>.csv.

Accuracy: the scenes of `micromacro.studies.steadiness`, one actor each; median, quartiles and the worst
actor of every score. "oracle" crops with the true motion of the head.

Speed: frames/s of `extract_faces` on a 640x360 file, modes interleaved, wall and CPU time; and of
1920x1080 files with a face that fills the picture and one of half that size, round by round beside the
code of an earlier commit.

Run: python benchmarks/faces.py [--actors 12] [--rounds 7] [--before c7b299f]
     python benchmarks/faces.py --large-only prints the rows of the large films and writes none
"""

import argparse
import os
import subprocess
import sys
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


def speed(path: Path, rounds: int) -> list[dict]:
    """Frames/s from file to crops, one core; the first round warms up and does not count."""
    arms = [("aligned", 112), ("stabilised", 224), ("per_frame", 112)]
    times: dict[tuple, list[tuple[float, float]]] = {arm: [] for arm in arms}
    for _ in tqdm(range(rounds + 1), "speed"):
        for mode, size in arms:
            wall, cpu = time.perf_counter(), time.process_time()
            n_frames = len(extract_faces(path, mode=mode, size=size))
            spent = time.perf_counter() - wall, time.process_time() - cpu
            times[mode, size].append(tuple(n_frames / s for s in spent))
    rows = []
    for (mode, size), rates in times.items():
        for clock, values in zip(("wall", "cpu"), np.array(rates[1:]).T, strict=True):
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            common = {"method": mode, "setting": f"640x360 to {size} px, 1 thread"}
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


# Reads paths of films, writes CPU seconds a frame of one stabilised pass after one to warm up.
WORKER = """
import sys, time, cv2, torch
from micromacro.faces import extract_faces
torch.set_num_threads(1); cv2.setNumThreads(1)
for line in sys.stdin:
    began = time.process_time()
    n_frames = len(extract_faces(line.strip(), mode="stabilised", size=224))
    print((time.process_time() - began) / n_frames, flush=True)
"""


def beside_before(folder: Path, before: str, rounds: int) -> list[dict]:
    """Frames per CPU second from 1920x1080, and the ratio to an earlier commit's, interleaved."""
    archive = subprocess.run(["git", "archive", before, "src"], check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    trees = {"before": folder / "src", "now": Path(__file__).parents[1] / "src"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = {
        name: subprocess.Popen(
            [sys.executable, "-c", WORKER], env={**os.environ, "PYTHONPATH": str(tree)}, **pipes
        )
        for name, tree in trees.items()
    }
    rows = []
    for eyes_px, height in ((260, 1080), (130, 540)):
        film, times = large_film(folder, height), {name: [] for name in workers}
        for _ in tqdm(range(rounds + 1), f"1920x1080, eyes {eyes_px} px apart"):
            for name, worker in workers.items():
                print(film, file=worker.stdin, flush=True)
                times[name].append(float(worker.stdout.readline()))
        then, now = (np.array(times[name][1:]) for name in ("before", "now"))
        setting = f"1920x1080, eyes {eyes_px} px apart, to 224 px, 1 thread"
        common = {"method": "stabilised", "setting": setting, "rounds": rounds, "n": 120}
        for metric, unit, values in (
            ("frames_per_cpu_s", "frames/s", 1 / now),
            (f"frames_per_cpu_s, ratio to {before}", "", then / now),
        ):
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            figures = {"value": middle, "q25": low, "q75": high}
            rows.append(common | {"metric": metric, "unit": unit, **figures})
    for worker in workers.values():
        worker.communicate()
    return rows


def large_film(folder: Path, height: int) -> Path:
    """A head of `height` pixels in 120 frames of 1920x1080; there and back four times."""
    size = (height, height * 16 // 9)
    face, drift = Face(Identity.draw(0, split="test"), size=size), HeadDrift.at(8, 3, 2, size=360)
    play = perform(30, 30.0, nuisance="easy", seed=0, head_drift=drift)
    blocks = (face.render(play, i, i + 10) for i in range(0, 30, 10))
    frames = np.concatenate([(b * 255).round().byte().permute(0, 2, 3, 1).numpy() for b in blocks])
    rows, columns = (1080 - size[0]) // 2, (1920 - size[1]) // 2
    frames = np.pad(frames, ((0, 0), (rows, rows), (columns, columns), (0, 0)), mode="edge")
    path = folder / f"large_{height}.mp4"
    write_video(path, (f for _ in range(2) for order in (1, -1) for f in frames[::order]), crf=23)
    return path


def long_film(folder: Path) -> Path:
    """300 frames of one actor, for the speed."""
    face = Face(Identity.draw(0, split="test"), size=(360, 640))
    drift = HeadDrift.at(8, 3, 2, size=360)
    play = perform(300, 30.0, nuisance="easy", seed=0, head_drift=drift)
    path = folder / "long.mp4"
    blocks = ((face.render(play, i, i + 50) * 255).round().byte() for i in range(0, 300, 50))
    write_video(path, (f for b in blocks for f in b.permute(0, 2, 3, 1).numpy()), crf=23)
    return path


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--actors", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--before", default="c7b299f", help="commit that large films are timed beside"
    )
    parser.add_argument("--large-only", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        rows = beside_before(Path(name), arguments.before, arguments.rounds)
        if arguments.large_only:
            print(pd.DataFrame(rows).to_string(index=False))
            return
        film = long_film(Path(name))
        rows += speed(film, arguments.rounds) + side_by_side(film)
    rows += accuracy(arguments.actors)
    path = write_benchmark("faces", rows)
    print(pd.read_csv(path).iloc[:, :9].to_string(index=False, float_format="%.3f", na_rep=""))
    print(path)
    means = {row["metric"]: row["value"] for row in rows if row["method"] == "stabilised"}
    if means["correlation, mean"] < 0.93 or means["false_motion_px, mean"] > 0.1:
        raise SystemExit("stabilised crops miss the figure that this project asks for")


if __name__ == "__main__":
    main()
