"""What the four networks see of a clip: faces, sound as segments of its spectrum, batches of clips.

A part of a clip may be missing: a clip without a face has its sound, a clip without sound its
faces. Then the rows of that part are None, and in a batch the clip has length 0; the networks give
it the logits 0. A frame without a face inside a clip is left out.

The sound is cut as VGGish (Hershey et al. 2017) cuts it: 16 kHz mono, Hann windows of 25 ms every
10 ms, 64 bands from 125 to 7500 Hz, log(magnitude + 0.01), 96 rows a segment. The segments overlap
by half, our choice, for a clip of AFEW lasts 2.4 s. The bands are librosa's triangles on the Hz
axis; VGGish draws them on the mel axis.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from micromacro.audio import checked_sound
from micromacro.backbones import features as features
from micromacro.cache import kept
from micromacro.datasets import afew
from micromacro.errors import BadInput, check_sizes
from micromacro.kernels.checks import check_tensor, check_values
from micromacro.ragged import LikeLengths, padded
from micromacro.systems.msff.stills import WEIGHTS, load_published, load_still_network

SR_HZ = 16_000
WINDOW, HOP, N_FFT = 400, 160, 512  # samples: 25 ms, 10 ms, and zeros behind the window
N_MELS, LOW_HZ, HIGH_HZ = 64, 125, 7_500
OFFSET = 0.01  # of the magnitude: silence is log(0.01) = -4.6
SEGMENT, STEP = 96, 48  # rows: 0.96 s and 0.48 s
LOUD = 5.5  # a sine of amplitude 1 reaches 4.5 to 5.5, by where it lies between two bands


@dataclass(frozen=True, eq=False)
class Clip:
    """Faces and sound of a clip; what ``datasets.afew.load`` gives fits: ``Clip(**load(row))``.

    Attributes:
        faces: uint8 (T, C, H, W), C = 3 RGB or 1 grey, a face a frame; None: no face at all.
        face_mask: bool (T,), frames with a face; None: all have one.
        sound: float32 (samples,), mono; None: no sound. 0 samples are silence.
        sr_hz: Its sampling rate.

    Raises:
        BadInput: Faces of another shape or type; a mask that is not one for each frame.
    """

    faces: np.ndarray | None = None
    face_mask: np.ndarray | None = None
    sound: np.ndarray | None = None
    sr_hz: int = SR_HZ

    def __post_init__(self):
        if self.faces is None:
            return
        check_tensor("faces", torch.as_tensor(self.faces), "(T, 1|3, H, W)", (torch.uint8,))
        if self.face_mask is not None and np.shape(self.face_mask) != (len(self.faces),):
            fault = f"has shape {np.shape(self.face_mask)} for {len(self.faces)} frames"
            raise BadInput("face_mask", fault, "give True or False for each frame")


# ---- faces ---------------------------------------------------------------------------------------


def frames(clip: Clip) -> Tensor | None:
    """The faces of a clip as rows of a batch; frames without a face are left out, our choice.

    Returns:
        uint8 (n, C, H, W); None for a clip without a face.
    """
    if clip.faces is None:
        return None
    faces = torch.as_tensor(clip.faces)
    return faces if clip.face_mask is None else faces[torch.as_tensor(clip.face_mask).bool()]


def features_on_disk(
    clips: Iterable[dict], network: str, cache: Path, faces: str, weights: str | None, device: str
) -> list[Tensor | None]:
    """What a frozen network gives of the faces of clips of AFEW: of each made once, and kept.

    Other files, weights or code, or another form of the faces, make it anew.

    Args:
        clips: Rows of the table that `afew.read_afew` gave.
        network: "vgg" or "resnet".
        cache: Folder, made if missing: 16 kB a frame of VGG-Face, 8 kB of ResNet-50.
        faces: Of `afew.load`.
        weights: Your file of published weights, see `load_published`; None for the benchmark's
            small network.
        device: Where they are computed.

    Returns:
        Of each clip float32 (n, D), of its frames with a face; None for a clip without one.

    Raises:
        BadInput: As `afew.load` and `load_published`; a cache that cannot be written.
    """
    own = WEIGHTS[network], weights
    # Loaded if a clip needs it, and gone when all have been seen: VGG-Face takes 0.6 GB.
    load = lru_cache(lambda: load_published(*own) if weights else load_still_network(network))

    def make(clip: Mapping, folder: Path) -> None:
        seen = frames(Clip(**afew.load(clip, faces=faces, cache=cache)))
        if seen is not None:
            np.save(folder / "features.npy", features(seen, load().to(device)).numpy())

    rows, kind = [], "faces" if faces == "official" else "film"
    made = {"network": network, "faces": faces, "device": torch.device(device).type}
    for clip in clips:
        files = [file for file in (clip[kind], weights) if isinstance(file, str)]
        about = f"{clip['clip']}-{network}", made
        file = kept(cache / "features", *about, partial(make, clip), files=files) / "features.npy"
        rows.append(torch.from_numpy(np.load(file)) if file.exists() else None)
    return rows


# ---- sound ---------------------------------------------------------------------------------------


def spectrum(sound: np.ndarray, sr_hz: int = SR_HZ) -> np.ndarray:
    """Log-mel of a whole sound, padded with silence to whole segments.

    Args:
        sound: float (samples,), mono; 0 samples are silence.
        sr_hz: Its sampling rate; other rates than 16 kHz are resampled.

    Returns:
        float32 (96 + 48 k, 64), a row every 10 ms from the first sample on; all of the sound is in.

    Raises:
        BadInput: The sound is not one channel of finite numbers, or the rate is none.
    """
    import librosa  # late: it loads a compiler, which takes seconds

    sound = checked_sound(sound, sr_hz)
    if sr_hz != SR_HZ and len(sound):
        sound = librosa.resample(sound, orig_sr=sr_hz, target_sr=SR_HZ)
    heard = 1 + math.ceil((len(sound) - WINDOW) / HOP)  # rows that end with the sound or behind it
    n = SEGMENT + STEP * max(0, math.ceil((heard - SEGMENT) / STEP))
    sound = np.pad(sound, (0, WINDOW + HOP * (n - 1) - len(sound)))
    windows = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]  # (n, 400)
    windows = windows * librosa.filters.get_window("hann", WINDOW)
    options = {"fmin": LOW_HZ, "fmax": HIGH_HZ, "htk": True, "norm": None}
    bands = librosa.filters.mel(sr=SR_HZ, n_fft=N_FFT, n_mels=N_MELS, **options)  # (64, 257)
    magnitude = np.abs(np.fft.rfft(windows, N_FFT)) @ bands.T  # (n, 64)
    return np.log(magnitude + OFFSET).astype(np.float32)


def segments(clip: Clip) -> Tensor | None:
    """Segments of 0.96 s of a clip's sound, every 0.48 s, as rows of a batch.

    A sound that is shorter, even of 0 samples, gives one segment with silence at its end.

    Returns:
        float32 (S, 1, 96, 64), time by pitch; None for a clip without sound.

    Raises:
        BadInput: As `spectrum`.
    """
    if clip.sound is None:
        return None
    rows = torch.from_numpy(spectrum(clip.sound, clip.sr_hz))  # (96 + 48 k, 64)
    return rows.unfold(0, SEGMENT, STEP).mT[:, None]  # (S, 64, 96) -> (S, 1, 96, 64)


def spectrum_pictures(segments: Tensor) -> Tensor:
    """Segments as pictures for a network of photographs, which is nearer to the abstract's words.

    Args:
        segments: float32 (S, 1, 96, 64), as `segments` gives them.

    Returns:
        float32 (S, 1, 64, 96) in [0, 1]: time from left to right, pitch upwards, silence black, the
        loudest sine white. `VggFace` brings them to its 224 px and makes three equal colours of
        them.

    Raises:
        BadInput: Another shape or type, or values that are not finite.
    """
    check_tensor("segments", segments, "(S, 1, 96, 64)", (torch.float32,))
    check_values("segments", segments)
    silence = math.log(OFFSET)
    return ((segments - silence) / (LOUD - silence)).clamp(0, 1).mT.flip(-2)


# ---- batches -------------------------------------------------------------------------------------


def together(clips: Sequence[Clip]) -> dict[str, Tensor | None]:
    """Clips as `MsffNet` takes them: ``net(**together(clips))``.

    Returns:
        ``faces``, ``face_lengths``, ``segments``, ``segment_lengths``; None for a part that no clip
        has.

    Raises:
        BadInput: As `spectrum` and `padded`.
    """
    seen, heard = padded([*map(frames, clips)]), padded([*map(segments, clips)])
    names = "faces", "face_lengths", "segments", "segment_lengths"
    return dict(zip(names, (*seen, *heard), strict=True))


@dataclass(frozen=True, eq=False)
class Batches(LikeLengths):
    """One part of clips as padded batches for `training.train`, clips of like length together.

    A batch is ``((rows, lengths), target)``, as `C3d`, `CnnBlstm` and `Blstm` take it.
    `LikeLengths` says how they are drawn.

    Attributes:
        rows: Of each clip its frames, segments or features (T, ...), or None; see `padded`.
        target: int64 (N,), classes.
        size: Clips in a batch.
        mirror: In training turn about half of the clips left to right, all frames of a clip alike;
            for faces only.

    Raises:
        BadInput: No rows at all, not a target for each clip, or a size that is none.
    """

    rows: Sequence[Tensor | None]
    target: Tensor
    size: int = 16
    mirror: bool = False

    def __post_init__(self):
        check_sizes(size=self.size)
        if len(self.rows) != len(self.target) or all(x is None for x in self.rows):
            fault = f"{len(self.target)} targets for {len(self.rows)} clips"
            raise BadInput("target", fault, "give a target for each clip, and rows of one at least")
        like = next(x for x in self.rows if x is not None)
        whole = [like[:0] if x is None else x for x in self.rows]
        object.__setattr__(self, "rows", whole)
        object.__setattr__(self, "lengths", torch.tensor([*map(len, whole)]))

    def batch(self, rows: Tensor, generator: torch.Generator | None = None) -> tuple:
        """Rows and lengths, and targets, of the clips of these numbers."""
        own = [self.rows[i] for i in rows.tolist()]
        if generator is not None:  # drawn in any case, so that all arms draw the same numbers
            turned = torch.rand(len(own), generator=generator) < 0.5 * self.mirror
            own = [x.flip(-1) if turn else x for x, turn in zip(own, turned, strict=True)]
        return padded(own), self.target[rows]
