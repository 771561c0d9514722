"""What the four networks see of a clip: faces, sound as segments of its spectrum, batches of clips.

A part of a clip may be missing: a clip without a face has its sound, a clip without sound its faces.
Then the rows of that part are None, and in a batch the clip has length 0; the networks give it the
logits 0. A frame without a face inside a clip is left out.

The sound is cut as VGGish (Hershey et al. 2017) cuts it: 16 kHz mono, Hann windows of 25 ms every 10 ms,
64 bands from 125 to 7500 Hz, log(magnitude + 0.01), 96 rows a segment. The segments overlap by half,
our choice, for a clip of AFEW lasts 2.4 s. The bands are librosa's triangles on the Hz axis; VGGish
draws them on the mel axis.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from micromacro.audio import checked_sound
from micromacro.errors import BadInput, check_sizes
from micromacro.kernels.checks import check_tensor, check_values
from micromacro.training import predict

SR_HZ = 16_000
WINDOW, HOP, N_FFT = 400, 160, 512  # samples: 25 ms, 10 ms, and zeros behind the window
N_MELS, LOW_HZ, HIGH_HZ = 64, 125, 7_500
OFFSET = 0.01  # of the magnitude: silence is log(0.01) = -4.6
SEGMENT, STEP = 96, 48  # rows: 0.96 s and 0.48 s
LOUD = 5.5  # a sine of amplitude 1 reaches 4.5 to 5.5, by where it lies between two bands
POOL = 8  # batches that are drawn together and then sorted by length


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
    mask = torch.ones(len(faces)) if clip.face_mask is None else torch.as_tensor(clip.face_mask)
    return faces[mask.bool()]


@torch.no_grad()
def features(rows: Tensor, encoder: nn.Module, batch: int = 64) -> Tensor:
    """What a frozen encoder makes of the rows of a clip; it is left in its mode.

    Args:
        rows: uint8 or float32 (T, C, H, W), frames or segments as the encoder takes them; uint8
            becomes float32 in [0, 1]. T may be 0.
        encoder: Makes features (B, D), by its method `features` if it has one.
        batch: Rows that are computed at a time.

    Returns:
        float32 (T, D), on the CPU.

    Raises:
        BadInput: What the encoder refuses.
    """
    look, was_training = getattr(encoder, "features", encoder), encoder.training
    device = next(encoder.parameters()).device
    some = rows if len(rows) else rows.new_zeros(1, *rows.shape[1:])  # how many columns?
    encoder.eval()
    made = torch.cat([look(_unit(piece.to(device))).cpu() for piece in some.split(batch)])
    encoder.train(was_training)
    return made[: len(rows)]


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


def spectrum_pictures(segments: Tensor, image_px: int = 224) -> Tensor:
    """Segments as pictures for a network of photographs, which is nearer to the abstract's words.

    Args:
        segments: float32 (S, 1, 96, 64), as `segments` gives them.
        image_px: Side of the pictures.

    Returns:
        float32 (S, 3, image_px, image_px) in [0, 1], three equal colours: time from left to right,
        pitch upwards, silence black, the loudest sine white.

    Raises:
        BadInput: Another shape or type, values that are not finite, or a side that is none.
    """
    check_tensor("segments", segments, "(S, 1, 96, 64)", (torch.float32,))
    check_values("segments", segments)
    (side,) = check_sizes(image_px=image_px)
    silence = math.log(OFFSET)
    grey = ((segments - silence) / (LOUD - silence)).clamp(0, 1).mT.flip(-2)  # (S, 1, 64, 96)
    grey = functional.interpolate(grey, (side, side), mode="bilinear")  # (S, 1, 224, 224)
    return grey.repeat(1, 3, 1, 1)


# ---- batches -------------------------------------------------------------------------------------


def padded(rows: Sequence[Tensor | None]) -> tuple[Tensor | None, Tensor | None]:
    """The rows of some clips as one batch, padded at the end with 0.

    Args:
        rows: Of each clip a tensor (T, ...), T its own, or None, which stands for no rows. uint8
            becomes float32 in [0, 1].

    Returns:
        (B, T, ...) and lengths int64 (B,), as the streams take them; two Nones if all are None.

    Raises:
        BadInput: Rows of different shapes.
    """
    there = [x for x in rows if x is not None]
    if not there:
        return None, None
    if len(shapes := {x.shape[1:] for x in there}) > 1:
        fault = f"have shapes {sorted(map(tuple, shapes))}"
        raise BadInput("rows", fault, "give clips whose faces, or features, are of one size")
    whole = [there[0][:0] if x is None else x for x in rows]
    return _unit(pad_sequence(whole, batch_first=True)), torch.tensor([len(x) for x in whole])


def together(clips: Sequence[Clip]) -> dict[str, Tensor | None]:
    """Clips as `MsffNet` takes them: ``net(**together(clips))``.

    Returns:
        ``faces``, ``face_lengths``, ``segments``, ``segment_lengths``; None for a part that no clip
        has.

    Raises:
        BadInput: As `spectrum` and `padded`.
    """
    faces, face_lengths = padded([frames(clip) for clip in clips])
    heard, segment_lengths = padded([segments(clip) for clip in clips])
    parts = {"faces": faces, "face_lengths": face_lengths}
    return parts | {"segments": heard, "segment_lengths": segment_lengths}


@dataclass(frozen=True, eq=False)
class Batches:
    """One part of clips as padded batches for `training.train`, clips of like length together.

    A batch is ``((rows, lengths), target)``, as `C3d`, `CnnBlstm` and `Blstm` take it. Called with a
    generator, it draws an epoch: clips in random order, eight batches at a time, sorted by length
    among these and cut, in a random order again. Iterated, it yields all clips by length;
    `predictions` puts them back.

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

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.size)

    def __iter__(self) -> Iterator[tuple]:
        return (self._batch(chosen) for chosen in self.order.split(self.size))

    def __call__(self, generator: torch.Generator) -> Iterator[tuple]:
        """One epoch of training."""
        order, lengths = torch.randperm(len(self.rows), generator=generator), self._lengths()
        pools = [pool[lengths[pool].argsort()] for pool in order.split(POOL * self.size)]
        batches = [chosen for pool in pools for chosen in pool.split(self.size)]
        for i in torch.randperm(len(batches), generator=generator).tolist():
            turned = torch.rand(len(batches[i]), generator=generator) < 0.5 * self.mirror
            yield self._batch(batches[i], turned.tolist())

    @property
    def order(self) -> Tensor:
        """The clips in the order of iteration, int64 (N,)."""
        return self._lengths().argsort(stable=True)

    def _lengths(self) -> Tensor:
        return torch.tensor([len(x) for x in self.rows])

    def _batch(self, chosen: Tensor, turned: Sequence[bool] = ()) -> tuple:
        rows = [self.rows[i] for i in chosen.tolist()]
        for k, turn in enumerate(turned):
            rows[k] = rows[k].flip(-1) if turn else rows[k]
        return padded(rows), self.target[chosen]


def predictions(model: nn.Module, batches: Batches, device: str | torch.device = "cpu") -> Tensor:
    """Logits of a stream for each clip, in the order of the clips: float32 (N, 7), on the CPU."""
    return predict(model, batches, device)[batches.order.argsort()]


def _unit(x: Tensor) -> Tensor:
    return x.float() / 255 if x.dtype == torch.uint8 else x
