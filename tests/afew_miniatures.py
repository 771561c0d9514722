"""Writers of AFEW in miniature, with the known traps planted."""

import shutil
from fractions import Fraction

import av
import numpy as np
from PIL import Image
from scipy.io import savemat

CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
WHOLE = {  # clips of each class
    "train": (133, 74, 81, 150, 144, 117, 74),
    "val": (64, 40, 46, 63, 63, 61, 46),
}
LBP_TOP, FACE_PX, SR_HZ, FPS = 2832, 128, 48000, 25
FOLDERS = {"train": "Train_AFEW", "val": "Val_AFEW"}
ALIGNED = {"train": "AlignedFaces_LBPTOP_Points", "val": "AlignedFaces_LBPTOP_Points_Val"}
SHARED = "000000001"  # Angry, in train and in val: two different clips
FACELESS = {"train": "000000002", "val": "000000003"}  # Disgust, Fear: sound, but no face
GAP = 3  # the number that no picture of a clip has


def write_film(path, n_frames=6, *, sound=True, tone_hz=440.0):
    """An AVI of noise, 32 x 24, 25 frames per second, with stereo sound of the same duration."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(n_frames)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=FPS)
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        speech = container.add_stream("pcm_s16le", rate=SR_HZ, layout="stereo") if sound else None
        for _ in range(n_frames):
            picture = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(video.encode(None))
        if sound:
            t_s = np.arange(n_frames * SR_HZ // FPS) / SR_HZ
            wave = np.int16(8000 * np.sin(2 * np.pi * tone_hz * t_s))
            block = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None], "s16", "stereo")
            block.sample_rate, block.time_base = SR_HZ, Fraction(1, SR_HZ)
            container.mux([*speech.encode(block), *speech.encode(None)])
    return path


def write_faces(folder, numbers, *, black=(), size=FACE_PX):
    """Grey faces numbered as given; those in `black` show nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        level = 0 if number in black else 60 + number
        Image.new("L", (size, size), level).save(folder / f"{folder.name}_{number:03d}.jpg")


def write_lbp_top(path, seed=0, **arrays):
    """A MATLAB file of the baseline's features; other arrays in their place if given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    row = np.random.default_rng(seed).random((1, LBP_TOP))
    savemat(path, arrays or {"LBPTOP_feature": row})
    return path


def write_split(root, split, *, twice=False):
    """Seven clips, one a class; with `twice` archives were unpacked into folders of their own
    name."""
    top = root / FOLDERS[split]
    aligned = top / ALIGNED[split]
    films = top / FOLDERS[split] if twice else top
    aligned = aligned / ALIGNED[split] if twice else aligned
    for k, emotion in enumerate(CLASSES, 1):
        number = f"{k:09d}"
        place = films / emotion / emotion if twice else films / emotion
        write_film(place / f"{number}.avi", 4 + k, sound=k != 7)  # Surprise is silent
        if number != FACELESS[split]:
            numbers = [n for n in range(1, 5 + k) if n != GAP]  # a frame without a face
            write_faces(aligned / "Faces" / number, numbers, black=(1,) if k == 4 else ())
            write_lbp_top(aligned / "LBPTOP" / f"{number}.mat", k)
    (aligned / "Faces" / FACELESS[split]).mkdir(parents=True)  # empty: nothing was found
    (aligned / "Points" / SHARED).mkdir(parents=True)
    write_lbp_top(aligned / "Points" / SHARED / f"{SHARED}.mat", points=np.zeros((2, 49)))
    (top / ("Train_6.xml" if split == "train" else "Val_6.xml")).write_text("<xml/>")
    (films / "Angry" / "Thumbs.db").write_bytes(b"stray")
    (films / "Angry" / f"._{SHARED}.avi").write_bytes(b"of a Mac")


def write_test(root):
    """Three clips without a class: one has all, one no face, one faces alone."""
    top = root / "Test"
    for number in ("000000011", "000000012"):
        write_film(top / "Test_vid_Distribute" / f"{number}.avi", 5)
    for number in ("000000011", "000000013"):
        write_faces(top / "Test_2017_Faces_Distribute" / number, range(1, 6))
    write_lbp_top(top / "LBPTOP" / "000000011.mat")
    (top / "Test_2017_points_distribute.zip").write_bytes(b"PK")


def write_afew(root, *, twice=False):
    for split in FOLDERS:
        write_split(root, split, twice=twice)
    write_test(root)
    return root


def write_split_of(root, split, counts):
    """So many films of each class, and nothing else."""
    film, number = write_film(root / "film.avi", 1, sound=False), 0
    for emotion, n in counts.items():
        folder = root / FOLDERS[split] / emotion
        folder.mkdir(parents=True)
        for _ in range(n):
            number += 1
            shutil.copy(film, folder / f"{number:09d}.avi")
    film.unlink()
