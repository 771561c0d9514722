"""How much faster are reaction clips as a padded batch than one by one, as released?

Writes data/results/eri__<hardware>.csv. One thread; `EriNet` with both cascades, at the published
size on clips of 144 to 356 frames (the two counts that the released code mentions), and at the size
of notebook 07 on its 40 to 80 frames. Features are random: the time does not depend on them. A
batch has 16 clips.

The anchor pads the clips of a batch, which are sorted by length, and masks the padding. The other
way runs each clip alone, at its own length, and stacks the results. Before the timing it is checked
that both give the same predictions. "forward" is prediction alone; "training step" adds the loss
and its gradients.

Every round runs each way for at least 20 ms, in an order that rotates. The number that counts is
the ratio of clips per second of CPU time to the anchor's in the same round: median and quartiles.

Run: python benchmarks/eri.py [--rounds 7]
"""

import os

# Before the libraries are loaded: they read it once.
os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
)

import argparse
from functools import partial

import pandas as pd
import torch
from benchmark_rows import Arm, measure, spread, write_benchmark
from torch.nn.functional import mse_loss

from micromacro.results import hardware, version
from micromacro.systems.eri import EMOTIONS, EriNet, inputs

BATCH = 16
ANCHOR, LOOP = "padded batch, masked", "clip by clip"
SIZES = {  # setting -> columns of video and sound, options, clips, fewest and most frames
    "published size, 144 to 356 frames": (547, 1024, {}, 16, (144, 356)),
    "notebook 07, 40 to 80 frames": (
        *(131, 40),
        {"width": 32, "depth": 1, "heads": 1, "mlp": 32},
        *(32, (40, 80)),
    ),
}


def made(setting: str) -> tuple[EriNet, dict[str, list[list]]]:
    """A network, and both ways to the same clips: lists of batches, of which each is one step."""
    video, audio, options, n, (fewest, most) = SIZES[setting]
    torch.manual_seed(0)
    net, released = EriNet(video, audio, **options), audio == 1024
    lengths = torch.randint(fewest, most + 1, (n,)).sort().values.tolist()
    clips = [
        inputs.Clip(torch.randn(T, video), None, torch.randn(32 if released else T, audio))
        for T in lengths
    ]
    parts, target = ("holistic", "audio"), torch.rand(n, len(EMOTIONS))
    together, alone = ([*inputs.Batches(clips, target, size, parts)] for size in (BATCH, 1))
    steps = [alone[i : i + BATCH] for i in range(0, n, BATCH)]
    return net, {ANCHOR: [[batch] for batch in together], LOOP: steps}


def run(net: EriNet, steps: list[list], train: bool) -> torch.Tensor:
    """All clips once: predictions (N, 7); in training with the gradients of each step."""
    net.train(train).zero_grad()
    predicted = []
    with torch.set_grad_enabled(train):
        for batches in steps:
            predicted.append(torch.cat([net(**x) for x, _ in batches]))  # (16, 7)
            if train:
                mse_loss(predicted[-1], torch.cat([y for _, y in batches])).backward()
    return torch.cat(predicted).detach()


def rows_of(arms: list[Arm], s, n: list[int]) -> list[dict]:
    """Clips per second and ratios to the anchor, which stands before its rival."""
    rows = []
    for i, arm in enumerate(arms):
        base = s[:, i - i % 2]
        common = {"method": arm.method, "setting": arm.setting, "rounds": len(s), "n": n[i]}
        for metric, unit, values in (
            ("clips_per_cpu_s", "clips/s", 1 / s[:, i]),
            ("speed_ratio_to_padded_batch", f"x {ANCHOR}", base / s[:, i]),
        ):
            rows.append(common | {"metric": metric, "unit": unit} | spread(values))
    return rows


def main() -> None:
    """Check, measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"{hardware()}; load {load}; 1 thread; torch {version('torch')}")
    arms = []
    for setting in SIZES:
        net, ways = made(setting)
        batch, loop = (run(net, steps, train=False) for steps in ways.values())
        if (error := (batch - loop).abs().max().item()) > 1e-5:
            raise SystemExit(f"eri: predictions differ by {error:.1e}")
        for mode, train in (("forward", False), ("training step", True)):
            arms += [
                Arm(way, f"{setting}, {mode}", SIZES[setting][3], partial(run, net, steps, train))
                for way, steps in ways.items()
            ]
    path = write_benchmark("eri", rows_of(arms, *measure(arms, rounds)))
    print(pd.read_csv(path).iloc[:, :9].to_string(index=False, float_format="%.4g"))
    print(path, f"(load average {os.getloadavg()[0]:.1f} at the end)")


if __name__ == "__main__":
    main()
