"""A small encoder of still faces, pre-trained on eight expressions and used frozen.

On the embedded benchmark it stands in for the back-bones that the papers pre-train on FER+ (eight
expressions), which no licence lets us ship. ``tools/encoder_training.py`` made its weights from
synthetic people whom no experiment meets; their file lies beside this module.
"""

import itertools
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from micromacro.errors import BadInput
from micromacro.kernels import grey
from micromacro.kernels.checks import check_tensor, check_values
from micromacro.weights import load_own, own_file

EXPRESSIONS = (
    *("neutral", "happiness", "sadness", "surprise"),
    *("anger", "disgust", "fear", "contempt"),
)
"""The classes, in the order of the logits: FER+'s eight."""

N_FEATURES = 96
INPUT_PX = 48
SMALLEST_PX = 32
WEIGHTS_FILE = Path(__file__).with_name("expression_encoder.safetensors")

_CHANNELS = (1, 16, 32, 64, N_FEATURES)
_FLAT = 1e-4  # a picture whose standard deviation is below this has no face in it


class ExpressionEncoder(nn.Module):
    """Four convolutions, a mean over the map, a linear head: 79,672 parameters.

    A picture becomes grey, 48 x 48, and has its own mean taken off and its own standard deviation
    divided out, so that a gain and an offset of the whole picture change nothing. Each convolution
    is 3 x 3 with stride 2, batch norm and ReLU behind it; the last map is 3 x 3.

    Fresh, it has random weights and is trainable; `load_expression_encoder` gives the trained one.

    Attributes:
        about: What the file of weights says of itself (recipe, seed, n, score, torch's version);
            empty for a fresh one.
        frozen: If set, `train` does nothing.
    """

    N_FEATURES = N_FEATURES

    def __init__(self):
        super().__init__()
        self.about: dict = {}
        self.frozen = False
        widths = itertools.pairwise(_CHANNELS)
        self.body = nn.Sequential(*(_block(inside, outside) for inside, outside in widths))
        self.head = nn.Linear(N_FEATURES, len(EXPRESSIONS))

    def train(self, mode: bool = True) -> "ExpressionEncoder":
        """Choose the mode; a frozen encoder stays in evaluation mode, whatever its parent does."""
        return super().train(mode and not self.frozen)

    def features(self, images: Tensor) -> Tensor:
        """What a picture shows, before the classes.

        Args:
            images: float32 (B, C, S, S) in [0, 1], C = 3 RGB or 1 grey, S >= 32 pixels. A face
                fills the picture as in the synthetic clips or in the ArcFace crop.

        Returns:
            float32 (B, 96), not negative.

        Raises:
            BadInput: Another type or shape, or values outside [0, 1].
        """
        return self.body(standardised(small_grey("images", images))).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the expressions, float32 (B, 8); arguments and errors as `features`."""
        return self.head(self.features(images))


def load_expression_encoder(file: str | Path = WEIGHTS_FILE) -> ExpressionEncoder:
    """Return the trained encoder: no gradients, always in evaluation mode.

    Args:
        file: The weights; by default those of the package.

    Raises:
        BadInput: The file is missing, torn, or not of this encoder.
    """
    file, _ = own_file(file)
    encoder = load_own(ExpressionEncoder, file, "encoder")
    encoder.frozen = True
    return encoder


def _block(inside: int, outside: int) -> nn.Sequential:
    """Halve the map: (B, inside, S, S) -> (B, outside, S / 2, S / 2)."""
    convolution = nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU())


def small_grey(name: str, images: Tensor, least: int = 1) -> Tensor:
    """Square pictures as both small networks take them.

    Args:
        name: Name of the argument, for the message.
        images: float32 (N, C, S, S) in [0, 1], C = 3 RGB or 1 grey, S >= 32 pixels.
        least: The fewest pictures.

    Returns:
        float32 (N, 1, 48, 48) in [0, 1], grey.

    Raises:
        BadInput: Another type or shape, or values outside [0, 1].
    """
    check_tensor(name, images, "(N, 1|3, S, S)", (torch.float32,))
    n, _, height, width = images.shape
    if n < least or height != width or width < SMALLEST_PX:
        remedy = f"give {least} or more {name}, squares of {SMALLEST_PX} px or more"
        raise BadInput(name, f"have shape {tuple(images.shape)}", remedy)
    images = grey(check_values(name, images, 0, 1)).unsqueeze(1)  # (N, 1, S, S)
    if width == INPUT_PX:
        return images
    return functional.interpolate(images, 2 * (INPUT_PX,), mode="bilinear", antialias=True)


def standardised(images: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 of each picture (N, 1, H, W)."""
    images = images - images.mean((2, 3), keepdim=True)
    return images / images.std((2, 3), correction=0, keepdim=True).clamp_min(_FLAT)
