"""Small still networks, pre-trained on eight expressions of other actors, used frozen on the benchmark.

They stand in for VGG-Face and ResNet-50, which the paper pre-trains on pictures that no licence lets us
ship. Ours of "vgg" is the package's own encoder, a plain stack of convolutions as a VGG is, and of about as
many parameters as "resnet". "vgg_second" is the control: the same network from other first weights, other
people and another order. ``tools/still_training.py`` makes the last two; their files lie beside this module.
"""

from functools import lru_cache, partial
from pathlib import Path

from torch import nn

from micromacro.errors import check_choice
from micromacro.expression_encoder import ExpressionEncoder, load_expression_encoder
from micromacro.systems.msff.model import ResNet50
from micromacro.weights import load_own

NETWORKS = ("vgg", "resnet", "vgg_second")
_RESNET = {"width": 6, "blocks": (1, 1, 1, 1), "classes": 8, "mean": (128.0,) * 3, "scale": 60.0}
_REMEDY = "make it anew with make stills, or take the file of the repository"


def still_network(name: str) -> nn.Module:
    """A network with its first weights, to be trained on grey stills of 48 px; eight classes.

    Raises:
        BadInput: Unknown name.
    """
    check_choice("still network", name, NETWORKS)
    return ResNet50(**_RESNET) if name == "resnet" else ExpressionEncoder()


def weights_file(name: str) -> Path:
    """Where `still_training` puts the weights of a network."""
    return Path(__file__).with_name(f"still_{name}.safetensors")


@lru_cache(maxsize=len(NETWORKS))
def load_still_network(name: str) -> nn.Module:
    """A pre-trained network in evaluation mode, its weights frozen.

    Args:
        name: One of `NETWORKS`.

    Raises:
        BadInput: Unknown name; a file that is missing, torn, or not of this network.
    """
    check_choice("still network", name, NETWORKS)
    if name == "vgg":
        return load_expression_encoder()
    return load_own(partial(still_network, name), weights_file(name), _REMEDY)
