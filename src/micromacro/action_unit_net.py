"""Action units of the actor, seen in its pictures: a small network, trained on the actor's truth.

Programs for real faces do not see the small movements of `micromacro.synthetic`. This network does.
It compares each frame with the clip's own face at rest, as OpenFace does with its features: a face
alone does not tell whether its brows are low or lowered. On real people nobody has tried what it
says; for them there is `micromacro.faces.mesh`. ``tools/encoder_training.py`` made its weights,
from synthetic people whom no experiment meets; their file lies beside this module.
"""

import itertools
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from micromacro.expression_encoder import INPUT_PX, small_grey, standardised
from micromacro.faces.action_units import action_units_of
from micromacro.synthetic import AUS, Performance
from micromacro.synthetic.script import FULL
from micromacro.weights import load_own, own_file

COLUMNS = {n: c[0] for n, c in action_units_of("openface").items() if c[0].endswith("_r")}
"""Number of each of the 17 action units -> its column, as OpenFace calls its intensities."""

FEWEST_FRAMES = 5
LARGEST = 5.0  # of OpenFace's scale
FULLY = {"-lid": 0.34, "part": 0.05, "jaw": 0.11, "blink": 1.0}
"""Channel of the actor -> what counts as all of its movement; of a muscle it is ``script.FULL``."""
WEIGHTS_FILE = Path(__file__).with_name("action_unit_net.safetensors")
SHA256 = "1c28cecc71319c6a5982ae2b57f43fdbffbe07eb31faeba868c43ac4dc457506"

_CHANNELS = (2, 16, 32, 48, 64)
_HIDDEN = 64
_GAIN = 4  # about what brings differences of two frames to the spread of one


class ActionUnitNet(nn.Module):
    """Four convolutions, two linear layers, over a face and that face at rest: 84,721 weights.

    Each convolution is 3 x 3 with stride 2, batch norm and ReLU behind it. The last map, 3 x 3, is
    not averaged: a movement means what it means because of its place.

    Attributes:
        about: What the file of weights says of itself (recipe, seed, n, score, torch's version);
            empty for a fresh one.
    """

    def __init__(self):
        super().__init__()
        self.about: dict = {}
        layers = []
        for inside, outside in itertools.pairwise(_CHANNELS):
            convolution = nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outside), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Flatten())
        hidden = nn.Linear(_CHANNELS[-1] * (INPUT_PX // 16) ** 2, _HIDDEN)
        self.head = nn.Sequential(hidden, nn.ReLU(), nn.Linear(_HIDDEN, len(COLUMNS)))

    def forward(self, faces: Tensor, rest: Tensor) -> Tensor:
        """Intensities, not yet cut to their scale.

        Args:
            faces: float32 (B, 1, 48, 48), each of mean 0 and standard deviation 1, see `shown`.
            rest: float32 (B, 1, 48, 48), the face of the same person at rest, alike.

        Returns:
            float32 (B, 17), in the order of `COLUMNS`.
        """
        x = torch.cat([faces, _GAIN * (faces - rest)], 1)  # (B, 2, 48, 48)
        return self.head(self.body(x))  # (B, 576) -> (B, 17)


def shown(frames: Tensor) -> tuple[Tensor, Tensor]:
    """What the network sees of a clip: its faces, and among them the one at rest.

    Args:
        frames: float32 (T, C, S, S) in [0, 1], C = 3 RGB or 1 grey, S >= 32 pixels, T >= 5: the
            face of one person. It fills the picture as in the synthetic clips.

    Returns:
        Two of float32 (T, 1, 48, 48), each picture of mean 0 and standard deviation 1. The second
        is the median of the clip in each pixel, T times.

    Raises:
        BadInput: Another type or shape, or values outside [0, 1].
    """
    images = small_grey("frames", frames, FEWEST_FRAMES)  # (T, 1, 48, 48)
    faces, rest = (standardised(x) for x in (images, images.median(0, keepdim=True).values))
    return faces, rest.expand_as(faces)


@torch.no_grad()
def action_units(
    frames: Tensor, net: ActionUnitNet | None = None, *, batch: int = 256
) -> pd.DataFrame:
    """Measure the action units of an actor's clip.

    What it says is relative to the clip's median face. So a movement that lasts for more than half
    of the clip is taken for the face at rest, and what comes before it for a movement.

    Args:
        frames: As `shown` takes them.
        net: The network; None loads that of the package.
        batch: Frames that are looked at together.

    Returns:
        float32 (T, 17), columns "AU01_r" to "AU45_r", from 0 to 5. The index is the frame.

    Raises:
        BadInput: As `shown`, and as `load_action_unit_net`.
    """
    net = net or load_action_unit_net()
    pairs = zip(*(x.split(batch) for x in shown(frames)), strict=True)
    values = torch.cat([net(*pair) for pair in pairs]).clamp(0, LARGEST)  # (T, 17)
    return pd.DataFrame(values.cpu().numpy(), columns=[*COLUMNS.values()])


def actor_intensities(play: Performance) -> pd.DataFrame:
    """The truth: what the actor's action units do in a performance, on OpenFace's scale.

    A muscle of `synthetic.script.FULL` face units has an intensity of 5, one of half the face half
    of it.

    Args:
        play: A performance of T frames.

    Returns:
        float32 (T, 17), columns as of `action_units`, from 0 to 5.
    """
    channels = dict(zip(AUS, play.au.T / FULL, strict=True))  # each (T,)
    for name, full in FULLY.items():
        channels[name] = getattr(play, name.lstrip("-")) / (-full if name[0] == "-" else full)
    truth = {}
    for number, column in COLUMNS.items():
        parts = action_units_of("actor")[number]
        share = sum(channels[c] * (0.5 if c[-1] in "LR" else 1) for c in parts)
        truth[column] = (LARGEST * share.clamp(0, 1)).numpy()
    return pd.DataFrame(truth)


def load_action_unit_net(
    file: str | Path = WEIGHTS_FILE, sha256: str | None = SHA256
) -> ActionUnitNet:
    """Return the trained network: no gradients, in evaluation mode.

    Args:
        file: The weights; by default those of the package.
        sha256: What their digest must be; None takes any file of this network.

    Raises:
        BadInput: The file is missing, torn, not of this network, or has another digest.
    """
    file, _ = own_file(file, sha256)
    return load_own(ActionUnitNet, file, "encoder")
