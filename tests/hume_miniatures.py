"""Writers of Hume-Reaction in the layouts of ABAW5 and MuSe 2022, with the known traps planted."""

import wave

import numpy as np

EMOTIONS = ("Adoration", "Amusement", "Anxiety", "Disgust", "Empathic-Pain", "Fear", "Surprise")
INTENSITIES = ("01", "02", "04", "05", "06", "07", "09", "10", "12", "14", "15", "17", "20", "23")
INTENSITIES = tuple(f"AU{n}_r" for n in (*INTENSITIES, "25", "26", "45"))
PRESENCES = (*(n.replace("_r", "_c") for n in INTENSITIES[:16]), "AU28_c", "AU45_c")
LABELS = "1.0,0.5,0.25,0,0,0.125,0.75"
ABAW5_ROWS = (  # id, split, labels
    ("00001", "Train", LABELS),
    ("00002", "Train", "0,1,0,0,0,0,0"),  # has sound, but no features of the face
    ("00003", "Val", "0.2,0.1,1.0,0,0,0,0.4"),
    ("00004", "Test", ",,,-1,-1,-1,"),  # labels are not public, whatever stands there
)
FRAMES = {"00001": 6, "00003": 4, "00004": 5}
FAILED = {"00001": (2,), "00003": (), "00004": (0, 4)}
PYFEAT = [
    f"AU{n:02}" for n in (1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 17, 20, 23, 24, 25, 26, 28, 43)
]


def openface_header() -> list[str]:
    """The 714 columns of OpenFace's whole output, in its order."""
    names = ["frame", "face_id", "timestamp", "confidence", "success"]
    names += [f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"]
    names += ["gaze_angle_x", "gaze_angle_y"]
    names += [f"eye_lmk_{axis}_{k}" for axis in "xyXYZ" for k in range(56)]
    names += [f"pose_{kind}{axis}" for kind in "TR" for axis in "xyz"]
    names += [f"{axis}_{k}" for axis in "xyXYZ" for k in range(68)]
    names += ["p_scale", "p_rx", "p_ry", "p_rz", "p_tx", "p_ty", *(f"p_{k}" for k in range(34))]
    return [*names, *INTENSITIES, *PRESENCES]


def openface_values(n_frames: int, failed=(), seed=0) -> np.ndarray:
    """float64 (n_frames, 714): intensities to 5, presences 0 or 1, all zero in failed frames."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-9, 9, (n_frames, 714)).round(3)
    values[:, 679:696] = rng.uniform(0, 5, (n_frames, 17)).round(2)
    values[:, 696:] = rng.integers(0, 2, (n_frames, 18))
    values[:, :5] = [(t + 1, 0, t / 30, 0.98, 1) for t in range(n_frames)]
    for t in failed:
        values[t, 3:] = 0
    return values


def write_openface(path, values, header=None, separator=", "):
    """OpenFace up to 2.0 writes a blank behind each comma, later ones none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [separator.join(header or openface_header())]
    lines += [separator.join(f"{value:g}" for value in row) for row in values]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_array(path, *shape, seed=0, dtype=np.float32):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.random.default_rng(seed).normal(size=shape).astype(dtype))


def write_wav(path, n_samples=1600, sr_hz=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, sr_hz, 0, "NONE", ""))
        file.writeframes(np.zeros(n_samples, "<i2").tobytes())


def write_sheet(root, rows=ABAW5_ROWS):
    root.mkdir(parents=True, exist_ok=True)
    lines = [",".join(("File_ID", "Split", *EMOTIONS, "Age", "Country"))]
    lines += [f"[{clip}],{split},{labels},31.5,South Africa" for clip, split, labels in rows]
    (root / "data_info.csv").write_text("\n".join(lines) + "\n")


def write_abaw5(root, width=512):
    """Four clips: 3 films of 6, 4 and 5 frames, one with sound alone; 2 have their wav."""
    write_sheet(root)
    for clip, split, _ in ABAW5_ROWS:
        split, seed = split.lower(), int(clip)
        write_array(root / f"features/mfcc_2/{split}/{clip}.npy", 32, 1024, seed=seed)
        if clip in FRAMES:
            write_array(
                root / f"features/res18_aff/{split}/{clip}.npy", FRAMES[clip], width, seed=seed
            )
            values = openface_values(FRAMES[clip], FAILED[clip], seed)
            write_openface(root / f"openface_align/{split}/aligned/{clip}/{clip}.csv", values)
    write_wav(root / "raw/train/wav/00001.wav")
    write_wav(root / "wav/00002.wav")
    return root


def write_feature(path, t_s, names, seed=0, values=None):
    """A feature file of MuSe: id, time stamp, columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = rng.uniform(size=(len(t_s), len(names))).round(4) if values is None else values
    lines = [",".join(("segment_id", "timestamp", *names))]
    lines += [
        f"[{path.stem}],{t:g}," + ",".join(map(str, row)) for t, row in zip(t_s, rows, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")


def write_muse(root):
    """Three clips; of 00002 the action units of the second frame are not there."""
    parts = {"00001": "train", "00002": "devel", "00003": "test"}
    for clip in parts:
        t_s = 0.25 * np.arange(4)
        write_feature(root / f"feats/VGGFace2/{clip}.csv", t_s, [f"v{k}" for k in range(8)])
        rows = t_s[[0, 2, 3]] if clip == "00002" else t_s
        write_feature(root / f"feats/FAUs/{clip}.csv", rows, PYFEAT, seed=int(clip))
        write_feature(root / f"feats/DeepSpectrum/{clip}.csv", t_s[:2], [f"d{k}" for k in range(5)])
    lines = [",".join(("File_ID", *EMOTIONS)), f"[00002],{LABELS}", "[00001],0,0,0,0,0,0,1"]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    lines = ["id,partition", *(f"[{clip}],{part}" for clip, part in parts.items())]
    (root / "partition.csv").write_text("\n".join(lines) + "\n")
    return root
