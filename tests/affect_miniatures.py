"""Miniatures of the official data sets with aligned faces, and a ResNet-50 that knows nothing."""

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.models import resnet50

from micromacro.synthetic import Face, Identity, perform

# Frames and frames without a face. "long": two windows, two seconds; "short": no snippet for OMG.
CLIPS = {
    "one": (16, []),
    "two": (15, []),
    "gap": (27, [8, 9]),
    "long": (70, [40]),
    "short": (12, []),
    "wall": (13, range(13)),
}
FACE_NAME = "frame_det_00_{:06d}.bmp"
OMG_HEADER = "link,start,end,video,utterance,arousal,valence,EmotionMaxVote"


def omg_row(video, number, arousal="0.25", valence="-0.5", vote="4", link=None):
    """A line of a sheet; each video is a film of its own, unless a link says otherwise."""
    link = link or f"https://www.youtube.com/watch?v={video}"
    return f"{link},0,3.5,{video},utterance_{number}.mp4,{arousal},{valence},{vote}"


def write_sheet(root, name, rows, header=OMG_HEADER, end="\n", bom=b""):
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(bom + end.join([header, *rows, ""]).encode())


def write_face_folders(root: Path) -> dict[str, Path]:
    """Aligned faces of 112 px, named as OpenFace does; without a face there is no picture."""
    for number, (name, (n_frames, lost)) in enumerate(CLIPS.items()):
        (root / name).mkdir()
        if name == "wall":  # black pictures: no face
            pictures = np.zeros((n_frames, 112, 112, 3), np.uint8)
        else:
            play = perform(n_frames, 30.0, nuisance="easy", seed=number)
            pictures = Face(Identity.draw(number), size=112).render(play)
            pictures = (pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()
        for frame in set(range(n_frames)) - (set(lost) if name != "wall" else set()):
            Image.fromarray(pictures[frame]).save(root / name / FACE_NAME.format(frame + 1))
    return {name: root / name for name in CLIPS}


def write_resnet(folder: Path) -> dict[str, str]:
    """`weights`, `weights_file` and `sha256` of a ResNet-50 with random weights."""
    file = folder / "resnet50.pth"
    with torch.random.fork_rng([]):
        torch.random.default_generator.manual_seed(0)
        net = resnet50(zero_init_residual=True)  # or its features grow beyond float16
    torch.save(net.state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"weights": "imagenet", "weights_file": str(file), "sha256": digest}


def link(faces: Path, folder: Path, name: str = FACE_NAME) -> None:
    """The pictures of one folder in another, without a copy."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in faces.iterdir():
        os.link(file, folder / name.format(int(file.stem[-6:])))


def some_labels(n: int, seed: int) -> np.ndarray:
    """Smooth valence and arousal, (n, 2)."""
    t, rng = np.arange(n), np.random.default_rng(seed)
    waves = np.sin(t[:, None] / rng.uniform(4, 9, 2) + rng.uniform(0, 6, 2))
    return 0.4 * waves + rng.uniform(-0.3, 0.3, 2)


def write_omg(root: Path, face_folders: dict[str, Path], one_film: str = "") -> Path:
    """Train a (one), b (two, short), e (lost); Validation c (gap), d (long, wall); Test f, g.

    Test, in the sheet's order: g/2 (lost), f/1 (long), g/1 (gap), f/2 (short). Each video is a
    film, but those of `one_film`, such as "bc", are parts of one.
    """
    sheets = {
        "Train": [("a", 1, "one"), ("b", 1, "two"), ("b", 4, "short"), ("e", 1, None)],
        "Validation": [("c", 3, "gap"), ("d", 1, "long"), ("d", 2, "wall")],
        "Test": [("g", 2, None), ("f", 1, "long"), ("g", 1, "gap"), ("f", 2, "short")],
    }
    names = {"Test": "omg_TestVideos_WithLabels.csv"}
    values = iter(some_labels(20, 7).round(3))
    for split, rows in sheets.items():
        lines = []
        for video, number, faces in rows:
            valence, arousal = next(values)
            about = {"arousal": f"{arousal}", "valence": f"{valence}"}
            about |= {"link": "https://youtu.be/b-and-c-are"} if video in one_film else {}
            lines.append(omg_row(video, number, **about))
            stem = f"utterance_{number}"
            if faces:
                link(face_folders[faces], root / split / video / stem / f"{stem}_aligned")
        write_sheet(root, names.get(split, f"omg_{split}Videos.csv"), lines)
    return root


def write_affwild(root: Path, face_folders: dict[str, Path]) -> Path:
    """Train one, two, gap, short and its twin, wall, lost (no faces); test long."""
    videos = {name: name for name in CLIPS if name != "long"} | {"twin": "short", "lost": None}
    for seed, (name, faces) in enumerate(videos.items()):
        labels = some_labels(CLIPS[faces][0] if faces else 5, seed)
        for column, axis in enumerate(("valence", "arousal")):
            folder = root / "annotations" / "train" / axis
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.txt").write_text("".join(f"{v:.4f}\n" for v in labels[:, column]))
        if faces:
            link(face_folders[faces], root / "faces" / name / f"{name}_aligned")
    (root / "videos" / "test").mkdir(parents=True)
    (root / "videos" / "test" / "long.mp4").write_text("the faces are used")
    link(face_folders["long"], root / "faces" / "long" / "long_aligned")
    return root


def write_affwild2(root: Path, face_folders: dict[str, Path]) -> Path:
    """Training one, two, short and its twin; validation gap. All lack labels of frames 3, 4."""
    videos = {"one": "one", "two": "two", "twin": "short", "short": "short", "gap": "gap"}
    for seed, (name, faces) in enumerate(videos.items()):
        labels = [f"{v:.4f},{a:.4f}" for v, a in some_labels(CLIPS[faces][0], seed)]
        labels[3:5] = ["-5,-5", "-5,0.1"]
        folder = "Validation_Set" if name == "gap" else "Train_Set"
        target = root / "annotations" / "VA_Estimation_Challenge" / folder / f"{name}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("\n".join(["valence,arousal", *labels, ""]))
        link(face_folders[faces], root / "cropped_aligned" / name, "{:05d}.bmp")
    return root
