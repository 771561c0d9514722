"""Small still networks, pre-trained on eight expressions of other actors, used frozen on the benchmark.

They stand in for VGG-Face and ResNet-50, which the paper pre-trains on pictures that no licence lets us
ship. ``tools/still_training.py`` made their weights; the files lie beside this module.
"""

import json
from functools import lru_cache
from pathlib import Path

from safetensors import safe_open
from torch import nn

from micromacro.errors import check_choice
from micromacro.files import reading
from micromacro.systems.msff.model import ResNet50, VggFace
from micromacro.weights import fill

_GREY = {"mean": (128.0, 128.0, 128.0), "scale": 60.0, "classes": 8}
_VGG = {"width": 4, "hidden": 64, "image_px": 48, "batch_norm": True, "layer": "fc6"}
_RESNET = {"width": 6, "blocks": (1, 1, 1, 1)}
NETWORKS = {"vgg": (VggFace, _VGG), "resnet": (ResNet50, _RESNET), "vgg_second": (VggFace, _VGG)}
"""Name -> class and options; the second VGG differs in seed and in the people whom it was trained on."""


def still_network(name: str) -> nn.Module:
    """A network with its first weights, to be trained on stills.

    Raises:
        BadInput: Unknown name.
    """
    check_choice("still network", name, NETWORKS)
    kind, options = NETWORKS[name]
    return kind(**_GREY | options)


def weights_file(name: str) -> Path:
    """Where the weights of a network lie."""
    return Path(__file__).with_name(f"still_{name}.safetensors")


@lru_cache(maxsize=len(NETWORKS))
def load_still_network(name: str) -> nn.Module:
    """A pre-trained network in evaluation mode, its weights frozen.

    Args:
        name: A key of `NETWORKS`.

    Raises:
        BadInput: Unknown name; a file that is missing, torn, or not of this network.
    """
    net, file = still_network(name), weights_file(name)
    remedy = "make it anew with make stills, or take the file of the repository"
    with reading(file, "weights of a still network", remedy), safe_open(file, "pt") as opened:
        state = {key: opened.get_tensor(key).float() for key in opened.keys()}  # noqa: SIM118
        about = json.loads(opened.metadata()["about"])
    fill(net, state, file, remedy)
    net.about = about
    return net.requires_grad_(False).eval()
