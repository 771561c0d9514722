"""What AKMNet and its controls get: a data set as the unit takes it, which frames of a clip.

The benchmark's `Source` is `task.benchmark`; that of CASME, CASME II, SMIC-HS, SAMM and the
composite of MEGC 2019 is `official`, by the paper's protocol:

* grey clips from onset to offset, motions magnified with alpha 15, 128 px in [0, 1]
* `AkmNet` of the published sizes; classes of `akm4`, of the composite `megc3`
* SGD, rate 1e-3, momentum 0.9, weight decay 5e-4; 8 clips a step; 40 epochs; in the test the plain
  resize to 128 px

The paper magnifies the pictures, and the program resizes what it finds. So it is done here: motions
are magnified at the pictures' own size and both sizes, 144 px to cut from and 128 px, are made of
the result. Only pictures with a side above 288 px are reduced to that before: of the four data
sets' cropped faces, SAMM's, by a quarter. Magnified at 144 px instead, CASME II would take 10
minutes on one core and not 40, but the 128 px would be a resize of a resize, and the noise that is
magnified another one. Of the magnification the paper says phase-based and alpha 15, no more: here
the reference is the first frame, all frequencies count (no band), and `magnify` has its defaults
otherwise.

Magnified clips are made once (`cache.kept`): a frame takes 37 kB, CASME II's 17,000 together 0.6
GB. Memory is bounded by one clip: 3 GB for the longest while it is magnified.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from micromacro.cache import kept
from micromacro.datasets import micro
from micromacro.datasets.frames import clip_files, write_magnified
from micromacro.errors import BadInput
from micromacro.files import reading
from micromacro.motion.tim import linear_interpolation, tim
from micromacro.systems.akmnet.model import Parts
from micromacro.training import Recipe
from micromacro.weights import fetch_weights, file_sha256, own_file, read_weights

RESAMPLED = {"tim": tim, "linear": linear_interpolation}
BY_MINING = ("random", "random window", "middle window", "apex window", "max-key")
BY_APEX = ("apex", "apex window")
CHOICES = (*BY_MINING, "true frames", "apex", *RESAMPLED)

WORKING_PX = 288  # longest side of the pictures that are magnified
NAMES = {"resnet": "FrameNet, a StillNet or a ResNet-18", "vgg": "Vgg11 or torchvision's vgg11"}
LARGE_PX, SMALL_PX = 144, 128  # what training crops are cut from, and the plain resize of the test
COUNTER = "num_batches_tracked"  # of batch norm; of no use here, and old files lack it


class Protocol(NamedTuple):
    """How a data set is trained on by "ours" or "as_released".

    Attributes:
        recipe: Optimiser, rates and epochs; the loss is the arm's.
        size: Clips in a batch.
        balance: Resample the clips of each class up to the largest class, as the paper says.
        crop: Probability of a random crop in training, drawn for each clip; else it is plainly
            resized.
        turns: Times that the rate goes down or up; 0 for once down.
        last: Epochs whose logits are averaged: the class after an epoch is that of the mean over it
            and the ones before.
    """

    recipe: Recipe
    size: int = 8
    balance: bool = True
    crop: float = 0.0
    turns: int = 0
    last: int = 1


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as the unit takes it: C clips, how to load one, and how to train on them.

    Attributes:
        table: A row a clip: dataset, subject, clip; person, whom folds keep whole; label, its class
            number; T; onset, apex, offset, 0-based in the clip; -1 where one is not known.
        classes: Names of the classes.
        pixels: Of clip i uint8 (T, 1, H, W), grey.
        clips: Makes, of a protocol's `crop`, the `network`, "resnet" or "vgg", and the `method`,
            `length` and `alpha` of an arm, the function of (i, generator) that gives the network's
            input, float32 (T, ...), which frozen parts have passed already; without a generator
            that of the test.
        sizes: Options of `AkmNet`, the same for all arms.
        start: Gives a frame network its first weights, and freezes what stays; returns what to
            report of them.
        protocols: "ours" and "as_released".
        test_size: Clips in a batch of the test.
        tested: bool (C,), clips of people who are in no fold's training, and whom all folds are
            tested on; None where folds say who is left out.
        envelope: Strength of the expression in each frame, float32 (T,) a clip; where it is known.
        about: What else the unit reports of the data.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    pixels: Callable[[int], np.ndarray]
    clips: Callable[..., Callable[[int, torch.Generator | None], Tensor]]
    sizes: Mapping[str, object]
    start: Callable[[Parts], dict]
    protocols: Mapping[str, Protocol]
    test_size: int
    tested: np.ndarray | None = None
    envelope: Sequence[Tensor] = ()
    about: Mapping[str, object] = field(default_factory=dict)


# ---- official clips ------------------------------------------------------------------------------

_SGD = {"optimiser": "sgd", "lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4}
SGD = Recipe(schedule="cosine", lowest=1e-8, epochs=40, **_SGD)
OFFICIAL = {
    "ours": Protocol(SGD, crop=1.0),
    # One clip at a time, eight to a step; the rate goes down and up, a fifth of the epochs each
    # way.
    "as_released": Protocol(replace(SGD, accumulate=8), 1, balance=False, crop=0.5, turns=5),
}


def official(
    dataset: str,
    root: str | None,
    *,
    cache: str,
    magnification: float = 15.0,
    weights: str | None = None,
    sha256: str | None = None,
    vgg_weights: str | None = None,
    pictures: str | None = "cropped",
    strict: bool = True,
    sizes: Mapping[str, object] | None = None,
) -> Source:
    """CASME, CASME II, SMIC-HS, SAMM or the composite of MEGC 2019; makes the clips if need be.

    Args:
        dataset: "casme", "casme2", "smic", "samm" or "megc2019".
        root: Its folder, as data/README.md shows; of "megc2019" one with casme2, smic and samm in
            it.
        cache: Folder for clips, made if missing.
        magnification: Alpha; 15 is the paper's, 0 magnifies nothing.
        weights: What the frame network starts from: None, at random; "imagenet", torchvision's
            ResNet-18, fetched once (47 MB); or your file: a state dict of a `FrameNet`, a
            `StillNet` or a ResNet-18 with torchvision's names, saved by torch.
        sha256: What the digest of the file `weights` must be.
        vgg_weights: What the plain VGG-11 of Table VII starts from: None, at random; or your file,
            a state dict of a `Vgg11` or of torchvision's ``vgg11``.
        pictures: "cropped"; "raw", whose faces nobody has cut out; None for the first there is.
        strict: Raise the first clip that does not fit its sheet; else leave such clips out.
        sizes: Options of `AkmNet` in place of the published sizes, such as a smaller ``image_px``:
            to try the whole path in a minute. Crops are cut from 9/8 of the side.

    Raises:
        BadInput: As `micro.read_classes`; a class that fewer than two people show; a magnification
            that is none; pictures or weights that cannot be read; a cache that cannot be written.
    """
    if not (math.isfinite(magnification) and magnification >= 0):
        raise BadInput(f"magnification={magnification}", "is out of range", "give 0 or more")
    starts = {"resnet": (weights, *read_start(weights, sha256))}
    # A path, even if it reads "imagenet": of a VGG-11 nothing is fetched.
    starts["vgg"] = (vgg_weights, *read_start(vgg_weights and Path(vgg_weights)))
    listing, classes = micro.read_classes(dataset, root, pictures=pictures, strict=strict)
    table = listing.table
    shown = [table.loc[table["label"] == k, "person"].nunique() for k in range(len(classes))]
    if min(shown) < 2:
        fault = f"{min(shown)} of the subjects show {classes[np.argmin(shown)]}"
        raise BadInput(root, fault, "get more of the data: one is left out, the others train")
    sizes = {"image_px": SMALL_PX, **(sizes or {})}
    small = sizes["image_px"]
    large = small * LARGE_PX // SMALL_PX
    # Workers that start together wait for one another here: make the clips by one unit first.
    rows = tqdm(list(table.iterrows()), desc="clips", unit="clip", disable=None)
    folders = [_magnified(row, Path(cache), magnification, (large, small)) for _, row in rows]

    def pixels(i: int, px: int = small) -> np.ndarray:
        with reading(folders[i], "a clip", "remove this folder and run again"):
            return np.load(folders[i] / f"{px}.npy")

    def clips(*, network: str, crop: float, method: str, length: int, alpha: float) -> Callable:
        if alpha:
            raise BadInput(f"alpha={alpha}", "is for the benchmark", "set the data's magnification")

        def clip(i: int, generator: torch.Generator | None) -> Tensor:
            # Three numbers a clip whatever comes of them, so that both protocols draw alike.
            draws = torch.rand(3, generator=generator).tolist() if generator else [1.0]
            if draws[0] >= crop:
                frames = pixels(i)
            else:  # one place for the whole clip
                top, left = (int(draw * (large - small + 1)) for draw in draws[1:])
                frames = pixels(i, large)[..., top : top + small, left : left + small]
            frames = torch.from_numpy(frames).float() / 255  # (T, 1, 128, 128)
            return RESAMPLED[method](frames, length) if method else frames

        return clip

    def start(frame_net: Parts) -> dict:
        named, file, tensors = starts[frame_net.kind]
        loaded, left = fitting(tensors, frame_net)
        if named is not None and len(loaded) <= len(left):
            fault = f"{len(loaded)} tensors fit, of {len(loaded) + len(left)} that there should be"
            raise BadInput(named, fault, f"give those of a {NAMES[frame_net.kind]}")
        frame_net.load_state_dict(loaded, strict=False)
        return file | {"tensors_loaded": len(loaded), "tensors_left": left if loaded else []}

    table = table[["dataset", "subject", "clip", "person", "label", *micro.FRAMES]].copy()
    table["T"] = table["offset"] - table["onset"] + 1
    for name in ("apex", "offset", "onset"):  # counted from the onset
        table[name] -= table["onset"]
    table[["T", *micro.FRAMES]] = table[["T", *micro.FRAMES]].fillna(-1).astype(np.int64)
    about = {"missing": listing.missing, "faults": tuple(map(str, listing.faults))}
    return Source(table, classes, pixels, clips, sizes, start, OFFICIAL, test_size=1, about=about)


def _magnified(row: pd.Series, cache: Path, alpha: float, sides: tuple[int, int]) -> Path:
    """The folder with a clip's frames uint8 (T, 1, px, px) in ``<px>.npy`` for each of `sides`."""
    name, place = f"{row['subject']}__{row['clip']}", cache / "akmnet" / row["dataset"]
    inputs = {"alpha": alpha, "working_px": WORKING_PX, "sides": list(sides)}
    make = partial(write_magnified, row, **inputs)
    return kept(place, name, inputs, make, files=clip_files(row))


# ---- what the frame network starts from ----------------------------------------------------------


def read_start(
    weights: str | Path | None, sha256: str | None = None
) -> tuple[dict, dict[str, Tensor]]:
    """A file of weights to start from; the paper's own checkpoint was not released.

    The paper trains a ResNet-18 on ImageNet, then on 1,000 pictures of each merged class of
    AffectNet.

    Args:
        weights: As for `official`; a path is a file, whatever its name.
        sha256: Likewise.

    Returns:
        ``start``, the file's name or "random", and its ``sha256``; the tensors by our names, but
        those of a classifier.

    Raises:
        BadInput: No such file, another digest, no state dict; a digest without a file.
    """
    if weights is None:
        if sha256 is not None:
            raise BadInput("sha256", "given without weights", "give their file as well")
        return {"start": "random", "sha256": None}, {}
    if weights == "imagenet":
        file = fetch_weights("resnet18_imagenet", sha256=sha256)
        digest = file_sha256(file)
    else:
        file, digest = own_file(weights, sha256)
    tensors = {}
    for name, tensor in read_weights(file, wrapped=True).items():
        name = re.sub(r"^(module\.)?(frame_net\.|features\.)?", "", name)
        if not name.startswith(("classifier.", "fc.")):  # nine tenths of a VGG-11
            tensors[re.sub(r"^bn1\.", "stem.1.", re.sub(r"^conv1\.", "stem.0.", name))] = tensor
    return {"start": file.name, "sha256": digest}, tensors


def fitting(tensors: Mapping[str, Tensor], frame_net: nn.Module) -> tuple[dict, list[str]]:
    """The tensors that fit a network by name and shape, and the names of its own that none fits.

    The released program too takes what fits of a file and skips the rest. ImageNet's first
    convolution, 7 x 7 on three channels, does not fit; its batch norm does, though it was trained
    behind another convolution.
    """
    own = {k: t for k, t in frame_net.state_dict().items() if not k.endswith(COUNTER)}
    fit = {k: tensors[k] for k, t in own.items() if k in tensors and tensors[k].shape == t.shape}
    return fit, [name for name in own if name not in fit]


# ---- which frames, and batches of clips ----------------------------------------------------------


def choose(
    choice: str,
    source: Source,
    seed: int,
    takes: Sequence[int] = (),
    max_key: Sequence[int] = (),
    apex_error: float = 0.0,
) -> list[Tensor]:
    """Frames of each clip that an arm may see.

    =============  ===============================================================================
    choice         frames
    =============  ===============================================================================
    random         as many as AKMNet kept of this clip, drawn once (*va-random*)
    random window  as many in a row, from a start drawn once
    middle window  as many in a row around the middle of the clip; of two middles the earlier
    apex window    as many in a row around the annotated apex, moved into the clip
    true frames    those where the expression has at least half of its strength
    apex           the annotated apex alone
    max-key        the frame with the largest score of AKMNet alone
    =============  ===============================================================================

    Args:
        choice: One of the table.
        source: Of C clips.
        seed: Random seed of the draws.
        takes: Number of frames that AKMNet kept, (C,); for "random" and the windows.
        max_key: Frame of the largest score, (C,).
        apex_error: Of annotators: standard deviation, in frames, of the apex that they say about
            the one in the table; they stay within onset and offset.

    Returns:
        int64 (n,) for each clip, rising.

    Raises:
        BadInput: A choice by a truth that is not known of every clip.
    """
    T, apex = source.table["T"].tolist(), source.table["apex"].to_numpy()
    unknown = choice in BY_APEX and apex.min() < 0
    if unknown or (choice == "true frames" and not len(source.envelope)):
        raise BadInput(f"frames {choice!r}", "need a truth that some clips lack", "choose others")
    if choice == "true frames":
        return [torch.nonzero(strength >= 0.5).flatten() for strength in source.envelope]
    draws, frames = torch.Generator().manual_seed(int(seed)), []
    if apex_error:
        off = (apex_error * torch.randn(len(T), generator=draws)).round().long().numpy()
        ends = (source.table[name].to_numpy() for name in ("onset", "offset"))
        apex = np.clip(apex + off, *ends)
    if choice in ("apex", "max-key"):
        return [torch.tensor([int(k)]) for k in (apex if choice == "apex" else max_key)]
    for i, (t, n) in enumerate(zip(T, takes, strict=True)):
        if choice == "random":
            frames.append(torch.randperm(t, generator=draws)[:n].sort().values)
            continue
        start = (t - n) // 2
        if choice == "random window":
            start = int(torch.randint(t - n + 1, (), generator=draws))
        elif choice == "apex window":
            start = min(max(int(apex[i]) - n // 2, 0), t - n)
        frames.append(torch.arange(start, start + n))
    return frames


def balanced(label: Tensor, rows: Tensor, seed: int) -> Tensor:
    """Draw rows of the rarer classes again until all classes have as many; the paper's resampling.

    Args:
        label: int64 (C,), classes.
        rows: int64 (n,), places in label.
        seed: Random seed of the draws.

    Returns:
        int64: every row once, then those drawn, each as likely as any other of its class.
    """
    draws, parts = torch.Generator().manual_seed(int(seed)), [rows]
    groups = [rows[label[rows] == k] for k in label[rows].unique().tolist()]
    most = max(map(len, groups))
    for group in groups:
        parts.append(group[torch.randint(len(group), (most - len(group),), generator=draws)])
    return torch.cat(parts)


@dataclass(frozen=True)
class ClipBatches:
    """Batches of clips of any length, as `AkmNet` and `training.train` take them.

    Iterated, they are in order and as in the test; called with a generator, in an order drawn from
    it and as in training.

    Attributes:
        clip: Makes clip i, float32 (T, ...), with a generator that of the training.
        target: int64 (C,), classes.
        rows: int64 (n,), clips of an epoch; a clip that stands here twice is seen twice.
        size: Clips in a batch.
        after: Parts of the frame network that the clips have passed.
        frames: int64 (n,) for each clip, which of its frames are shown; None for all.
    """

    clip: Callable[[int, torch.Generator | None], Tensor]
    target: Tensor
    rows: Tensor
    size: int
    after: int = 0
    frames: Sequence[Tensor] | None = None

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __iter__(self) -> Iterator[tuple[dict, Tensor]]:
        return self._take(self.rows, None)

    def __call__(self, generator: torch.Generator) -> Iterator[tuple[dict, Tensor]]:
        """One epoch of training."""
        order = torch.randperm(len(self.rows), generator=generator)
        return self._take(self.rows[order], generator)

    def _take(self, rows: Tensor, generator: torch.Generator | None) -> Iterator[tuple]:
        for some in rows.split(self.size):
            clips = [self.clip(row, generator) for row in some.tolist()]
            if self.frames is not None:
                clips = [c[self.frames[i]] for c, i in zip(clips, some.tolist(), strict=True)]
            lengths = torch.tensor([len(clip) for clip in clips])
            inputs = {"frames": torch.cat(clips), "lengths": lengths, "after": self.after}
            yield inputs, self.target[some]
