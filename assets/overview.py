"""Draws assets/overview.png, the picture at the top of the README: `python assets/overview.py`."""

import tempfile
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import torch

from micromacro import plots
from micromacro.studies import steadiness
from micromacro.synthetic import exaggerate
from micromacro.video import write_video

SEED = 4  # of the scene
LABELS = {
    "stabilised": "stabilised",
    "per_frame": "per_frame: detected anew",
    "first_frame": "first_frame: one transform",
    "aligned": "aligned: tracked",
}


def main() -> None:
    """Stages one scene, crops it in four ways, and draws pictures and curves."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    plots.use_style()
    scene = steadiness.stage(SEED)
    (event,) = scene.play.events
    moments = [event.onset - 4, event.onset + 8, event.apex, event.offset - 6, event.offset + 4]
    film = scene.film()
    big = exaggerate(scene.play, 6.0)
    rows = {"recorded": [film[i] for i in moments]}
    rows["motion × 6"] = [scene.actor.render(big, i, i + 1)[0] for i in moments]
    rows = {k: [plots.to_picture(v)[20:340, 160:480] for v in row] for k, row in rows.items()}
    figure = plt.figure(figsize=(9.2, 6.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(3.7, 2.6))
    axes = top.subplots(2, len(moments))
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            plots.show_image(ax, image)
        line[0].set_ylabel(label)
    for ax, i in zip(axes[0], moments, strict=True):
        ax.set_title(f"{scene.play.t_s[i]:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.mp4"
        write_video(path, film, fps=scene.play.fps, crf=steadiness.CRF)
        curves = {m: steadiness.judge(scene, steadiness.crop(scene, path, m))[1] for m in LABELS}
    ax = bottom.subplots()
    readings = {LABELS[mode]: curve["reading_px"] for mode, curve in curves.items()}
    plots.traces(ax, scene.play.t_s, readings, truth=curves["aligned"]["truth_px"])
    ax.set_ylabel("mouth corner (px of 224)")
    ax.set_title("what the crop makes of it: the motion read at the mouth corner")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)


if __name__ == "__main__":
    main()
