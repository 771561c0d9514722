"""Five landmarks to a tenth of a pixel: MTCNN's last network on shifted crops of a known box.

MTCNN frame by frame makes landmarks jump by a pixel, because it crops at whole pixels of boxes from
a coarse pyramid. O-Net alone, read on shifted sub-pixel crops of the previous box and averaged, is
steadier by a factor of four to ten, and cheaper by ten.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from micromacro.faces.align import apply, invert, warp
from micromacro.faces.detect import load_mtcnn, stretch

PATCH = 48  # O-Net's input, pixels
# Four crops, 3 of 48 pixels apart, slices of one patch. O-Net's first pooling makes its answer
# depend on odd and even positions; an odd step averages all four phases. Frame-to-frame error over
# five films of a portrait at 224 px: one crop 0.85 px, step 2 0.45, five crops in a cross 0.09 to
# 0.11, this square 0.09 at four fifths of the cost.
STEP = 3
CORNERS = np.array([(0, 0), (STEP, 0), (0, STEP), (STEP, STEP)])
WIDE = PATCH + STEP
UNIT_BOX = np.array([(0, 0), (1, 1)])  # O-Net corrects the corners of its own crop


@dataclass(frozen=True)
class Reading:
    """O-Net's answer for one frame, in image coordinates.

    Attributes:
        centre: (2,), x y: centre of the face box.
        side: Side of the square box, pixels.
        landmarks: float64 (5, 2).
        score: Mean probability of a face over the shifted crops.
        turn: Quarter turns anticlockwise that bring the face upright.
        stretched: Whether the contrast is stretched before reading.
    """

    centre: np.ndarray
    side: float
    landmarks: np.ndarray
    score: float
    turn: int = 0
    stretched: bool = False


class OnetReader:
    """O-Net alone, averaged over four shifted crops in one batch (test-time augmentation)."""

    def __init__(self):
        self.net = load_mtcnn().onet

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, last: Reading) -> Reading:
        """Read the face of `image`, uint8 (H, W, 3) or (H, W), in the box of `last`."""
        to_patch = _square_to_patch(last.centre, last.side, last.turn)
        patch = _rgb_patch(image, to_patch, last.stretched)
        crops = np.stack([patch[y : y + PATCH, x : x + PATCH] for x, y in CORNERS])
        batch = torch.from_numpy(crops).permute(0, 3, 1, 2)  # channels last in memory
        boxes, points, scores = (a.numpy() for a in self.net(batch))
        corner = CORNERS[:, None] - 0.5  # pixel centres are whole numbers
        points = np.stack([points[:, :5], points[:, 5:]], axis=-1) * PATCH + corner
        boxes = (boxes.reshape(-1, 2, 2) + UNIT_BOX) * PATCH + corner
        box, back = boxes.mean(axis=0), invert(to_patch)
        return replace(
            last,
            centre=apply(back, box.mean(axis=0)),
            side=float((box[1] - box[0]).max()) * last.side / PATCH,
            landmarks=apply(back, points.mean(axis=0)),
            score=float(scores[:, 1].mean()),
        )


def _square_to_patch(centre: np.ndarray, side: float, turn: int) -> np.ndarray:
    """Image to patch: the square of `side` fills 48 px in the middle of the patch, face upright."""
    cos, sin = ((1, 0), (0, -1), (-1, 0), (0, 1))[turn % 4]  # anticlockwise, y down
    linear = PATCH / side * np.array([[cos, -sin], [sin, cos]], dtype=np.float64)
    return np.column_stack([linear, (WIDE - 1) / 2 - linear @ centre])


def _rgb_patch(image: np.ndarray, to_patch: np.ndarray, stretched: bool) -> np.ndarray:
    """The patch as O-Net wants it: float32 (51, 51, 3) in about [-1, 1]."""
    patch = warp(image, to_patch, WIDE)
    flat = stretch(patch) if stretched else None
    patch = patch if flat is None else flat
    if patch.ndim == 2:
        patch = np.repeat(patch[..., None], 3, axis=2)
    return (patch.astype(np.float32) - 127.5) / 128
