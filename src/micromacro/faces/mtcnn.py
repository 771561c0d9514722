"""MTCNN: three small networks in a cascade find faces and their five points (Zhang et al. 2016).

The weights are those that the package facenet-pytorch 2.5.3 carries (MIT). Networks and cascade are
written here, and give what that package gives, bit for bit (a test): importing its code would load
torchvision, torch's compiler and requests, four seconds in every process.

Boxes are float32 (N, 4), x0 y0 x1 y1 in pixels; numbers as (24, 24) are rows and columns.
"""

import hashlib
import importlib.util
import io
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from micromacro.errors import BadInput

SHA256 = {
    "pnet": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "rnet": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "onet": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
}
NETS = {  # Zhang et al., Figure 2; with PReLU behind every layer but the outputs
    "pnet": (((10, 3, 2), (16, 3, 0), (32, 3, 0)), 0, (2, 4)),
    "rnet": (((28, 3, 3), (48, 3, 3), (64, 2, 0)), 128, (2, 4)),
    "onet": (((32, 3, 3), (64, 3, 3), (64, 3, 2), (128, 2, 0)), 256, (2, 4, 10)),
}
# Side of the square that a network sees, pixels; probability of a face that it passes on.
STAGES = {"pnet": (12, 0.6), "rnet": (24, 0.7), "onet": (48, 0.7)}
STRIDE = 2  # P-Net's squares are so many pixels apart
PYRAMID = 0.709  # from one size of the image to the next: half the area
OVERLAP = 0.7  # of two boxes beyond which one is dropped; 0.5 within one size of the image
BATCH = 512  # crops at a time


class _Net(nn.Module):
    """Convolutions, for R- and O-Net a dense layer, and several outputs; named as in the files.

    Args:
        convolutions: Channels, side and, behind it, side of the max-pooling (0: none) of each.
        dense: Width of the dense layer; 0 for none, then maps come out.
        outputs: Their lengths: two logits of "no face, face"; moves of the box; ten of the points.
    """

    def __init__(self, convolutions: tuple, dense: int, outputs: tuple[int, ...]):
        super().__init__()
        layers, channels, last = {}, 3, len(convolutions) + 1
        for i, (width, side, pool) in enumerate(convolutions, 1):
            layers |= {f"conv{i}": nn.Conv2d(channels, width, side), f"prelu{i}": nn.PReLU(width)}
            if pool:
                layers[f"pool{i}"] = nn.MaxPool2d(pool, 2, ceil_mode=True)
            channels = width
        if dense:  # maps of 3 x 3 are left
            layers |= {"flat": _Flat(), f"dense{last}": nn.Linear(9 * channels, dense)}
            layers[f"prelu{last}"] = nn.PReLU(dense)
        for i, n in enumerate(outputs, 1):
            name = f"dense{last + 1}_{i}" if dense else f"conv{last}_{i}"
            layers[name] = nn.Linear(dense, n) if dense else nn.Conv2d(channels, n, 1)
        for name, layer in layers.items():
            self.add_module(name, layer)
        names = list(layers)
        self.trunk, self.heads = names[: -len(outputs)], names[-len(outputs) :]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (N, 3, H, W) in about [-1, 1] to probability of a face (N,), moves (N, 4), points.

        P-Net gives maps of half the size less 5: (N, h, w) and (N, 4, h, w).
        """
        for name in self.trunk:
            x = self.get_submodule(name)(x)
        logits, *others = (self.get_submodule(name)(x) for name in self.heads)
        return [logits.softmax(1)[:, 1], *others]


class _Flat(nn.Module):
    """Maps (N, C, H, W) as rows (N, W H C): the weights come from a framework with width first."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 2, 1).flatten(1)


@cache
def load_net(name: str) -> _Net:
    """One network, read once for the whole process; it holds no state.

    Args:
        name: "pnet", "rnet" or "onet".

    Raises:
        BadInput: facenet-pytorch is not installed, or it is another release.
    """
    with torch.device("meta"):  # no memory, no random numbers: the file fills it
        net = _Net(*NETS[name])
    # Dense weights lie transposed in the file; so multiplied the sums have another rounding.
    state = {key: tensor.contiguous() for key, tensor in _weights(name).items()}
    net.load_state_dict(state, assign=True)
    # O-Net: 2.1 ms for five crops, not 8.5.
    return net.to(memory_format=torch.channels_last).requires_grad_(False).eval()


def _weights(name: str) -> dict[str, Tensor]:
    """The tensors of a network, from the installed package, whose code is not run."""
    package = importlib.util.find_spec("facenet_pytorch")
    remedy = "pip install facenet-pytorch==2.5.3, without its dependencies"
    if package is None:
        raise BadInput("weights of MTCNN", "facenet-pytorch is not installed", remedy)
    file = Path(package.origin).with_name("data") / f"{name}.pt"
    content = file.read_bytes() if file.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise BadInput(file, "is not the known file of weights", remedy)
    return torch.load(io.BytesIO(content), weights_only=True)


@torch.inference_mode()
def find_faces(image: np.ndarray, min_face_px: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All faces in an image, the largest first.

    Args:
        image: uint8 (H, W, 3) RGB.
        min_face_px: Side of the smallest face looked for.

    Returns:
        float32: boxes (N, 4), probabilities (N,), points (N, 5, 2) x y: eyes, nose, mouth corners.
    """
    pixels = torch.from_numpy(image.copy())[None].permute(0, 3, 1, 2).float()
    boxes, scores, moves = _judged("rnet", pixels, _proposals(pixels, min_face_px))
    kept = non_maximum_suppression(boxes, scores, OVERLAP)
    boxes = _moved(boxes[kept], moves[kept], 1)
    boxes, scores, moves, points = _judged("onet", pixels, boxes)
    points = points.reshape(-1, 2, 5).transpose(0, 2, 1)  # all x, then all y
    points = (boxes[:, None, 2:] - boxes[:, None, :2] + 1) * points + boxes[:, None, :2] - 1
    boxes = _moved(boxes, moves, 1)
    kept = non_maximum_suppression(boxes, scores, OVERLAP, of_smaller=True)
    boxes, scores, points = boxes[kept], scores[kept], points[kept]
    largest = np.argsort(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))[::-1]
    return boxes[largest], scores[largest], points[largest]


def _proposals(pixels: Tensor, min_face_px: int) -> np.ndarray:
    """Boxes where P-Net sees a face at some size of the image, moved as it says."""
    cell, least = STAGES["pnet"]
    scale, found = cell / min_face_px, []
    left = min(pixels.shape[2:]) * scale
    while left >= cell:
        size = [int(n * scale + 1) for n in pixels.shape[2:]]
        maps = load_net("pnet")(_unit(interpolate(pixels, size, mode="area")))
        scores, moves = (m[0] for m in maps)
        seen = scores >= least
        place = seen.nonzero().flip(1).float()  # x y
        corners = [((STRIDE * place + edge) / scale).floor() for edge in (1, cell)]
        boxes, scores, moves = torch.cat(corners, 1), scores[seen], moves[:, seen].T
        part = [v.numpy() for v in (boxes, scores, moves)]
        kept = non_maximum_suppression(*part[:2], 0.5)
        found.append([v[kept] for v in part])
        scale, left = scale * PYRAMID, left * PYRAMID
    if not found:
        return np.zeros((0, 4), np.float32)
    boxes, scores, moves = (np.concatenate(v) for v in zip(*found, strict=True))
    kept = non_maximum_suppression(boxes, scores, OVERLAP)
    return _moved(boxes[kept], moves[kept], 0)


def _judged(name: str, pixels: Tensor, boxes: np.ndarray) -> tuple[np.ndarray, ...]:
    """The squares around boxes in which a network is sure of a face, and its outputs for them."""
    boxes, (side, least) = _squared(boxes), STAGES[name]
    edges = np.trunc(boxes).astype(int)
    low = np.maximum(edges[:, :2], 1) - 1
    high = np.minimum(edges[:, 2:], pixels.shape[:1:-1])
    inside = (high > low).all(axis=1)
    crops = [
        interpolate(pixels[:, :, y0:y1, x0:x1], (side, side), mode="area")
        for (x0, y0), (x1, y1) in zip(low[inside], high[inside], strict=True)
    ]
    batch = torch.cat(crops) if crops else pixels.new_zeros(0, 3, side, side)
    parts = [load_net(name)(_unit(part)) for part in batch.split(BATCH)]
    outputs = [torch.cat(v).numpy() for v in zip(*parts, strict=True)]
    sure = outputs[0] > least
    return boxes[inside][sure], *(values[sure] for values in outputs)


def _unit(pixels: Tensor) -> Tensor:
    """0-255 to about [-1, 1]."""
    return (pixels - 127.5) / 128


def _moved(boxes: np.ndarray, moves: np.ndarray, edge: int) -> np.ndarray:
    """Boxes with corners moved by shares of their sides, to which `edge` pixels are added."""
    return boxes + moves * np.tile(boxes[:, 2:] - boxes[:, :2] + edge, 2)


def _squared(boxes: np.ndarray) -> np.ndarray:
    """The squares with the same centres and the longer side."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longest = sides.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + sides * 0.5 - longest * 0.5
    return np.concatenate([corner, corner + longest], axis=1)


def non_maximum_suppression(
    boxes: np.ndarray, scores: np.ndarray, most: float, *, of_smaller: bool = False
) -> np.ndarray:
    """Of boxes that overlap keep the surest.

    Args:
        boxes: float32 (N, 4), x0 y0 x1 y1.
        scores: float32 (N,).
        most: Share of their union that two kept boxes may have in common.
        of_smaller: The share is of the smaller box instead, and pixels count with both edges.

    Returns:
        Indices of the kept ones, the surest first.
    """
    # Of equal scores (1.0 is common) the first comes first, but of smaller boxes the last.
    order = np.argsort(scores)[::-1] if of_smaller else np.argsort(-scores, kind="stable")
    edge = int(of_smaller)
    area = np.prod(boxes[:, 2:] - boxes[:, :2] + edge, axis=1)
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:], boxes[order, 2:])
        common = np.prod(np.maximum(high - low + edge, 0), axis=1)
        smaller = np.minimum(area[best], area[order])
        whole = smaller if of_smaller else area[best] + area[order] - common
        order = order[common / whole <= most]
    return np.array(kept, dtype=int)
