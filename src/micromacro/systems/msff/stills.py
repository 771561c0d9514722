"""Pre-trained networks, frozen: small ones for the benchmark, published ones for official data.

The small ones know eight expressions of other actors. They stand in for VGG-Face and ResNet-50,
which the paper pre-trains on pictures that no licence lets us ship. Ours of "vgg" is the package's
own encoder, a plain stack of convolutions as a VGG is, and of about as many parameters as "resnet".
"vgg_second" is the control: the same network from other first weights, other people and another
order. ``tools/still_training.py`` makes the last two; their files lie beside this module.
"""

import re
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import nn

from micromacro.backbones import PRETRAINED, FrozenResNet50
from micromacro.errors import check_choice
from micromacro.expression_encoder import ExpressionEncoder, load_expression_encoder
from micromacro.systems.msff.model import C3d, R3d18, ResNet50, VggFace
from micromacro.weights import fill, load_own, read_weights, unregistered_file

NETWORKS = ("vgg", "resnet", "vgg_second")
_RESNET = {"width": 6, "blocks": (1, 1, 1, 1), "classes": 8, "mean": (128.0,) * 3, "scale": 60.0}

# Of no file a SHA-256 is known to us: nothing is downloaded, and a user's file is checked against
# the digest that the user gives, or else told on stderr.
PUBLISHED = {
    "vgg_face": "http://www.robots.ox.ac.uk/~albanie/models/pytorch-mcn/vgg_face_dag.pth",
    "c3d_sports1m": "http://imagelab.ing.unimore.it/files/c3d_pytorch/c3d.pickle",
    "r3d_18_kinetics": "https://download.pytorch.org/models/r3d_18-b3b3357e.pth",
}
WEIGHTS = {"vgg": "vgg_face", "resnet": "ferplus", "c3d": "c3d_sports1m"}
WEIGHTS |= {"r3d_18": "r3d_18_kinetics"}
"""Network of the experiment -> the published weights it has, or that its training starts from."""


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
    return load_own(partial(still_network, name), weights_file(name), "stills")


def load_published(
    name: str, weights: str | Path | None = None, *, sha256: str | None = None, **options
) -> nn.Module:
    """A network with published weights, in evaluation mode and frozen.

    Args:
        name: "vgg_face"; "c3d_sports1m", of 487 kinds of sport; "r3d_18_kinetics", of 400 things
            that people do; or a ResNet-50 by its key of
            `micromacro.backbones.PRETRAINED`, of which "ferplus" is our choice for the paper's.
        weights: Your own file; for "imagenet" alone it may be None.
        sha256: What the digest of your file must be; none is published for most of these files.
        options: Of `VggFace`, `C3d` or `R3d18`, such as ``layer="fc7"``.

    Returns:
        `VggFace`, `C3d`, `R3d18` or `FrozenResNet50`; all take RGB in [0, 1].

    Raises:
        BadInput: Unknown name; no file, or not the right one.
    """
    check_choice("weights", name, (*PUBLISHED, *PRETRAINED))
    if name in PRETRAINED:
        return FrozenResNet50(name, weights, sha256=sha256)
    file, _ = unregistered_file(name, PUBLISHED[name], weights, sha256)
    kinds = {"vgg_face": VggFace, "c3d_sports1m": partial(C3d, classes=487)}
    with torch.device("meta"):  # no memory, no random numbers: the file fills it
        net = kinds.get(name, partial(R3d18, 400))(**options)
    # Our names are theirs, but that convolutions, or all of torchvision's network, are a module of
    # ours.
    own, after = ("net.", "^") if name == "r3d_18_kinetics" else ("convs.", "^(?=conv)")
    state = {re.sub(after, own, key): t for key, t in read_weights(file).items()}
    fill(net, state, file, f"give the file {PUBLISHED[name]}")
    return net.float().requires_grad_(False).eval()


def start_from(net: nn.Module, name: str, weights: str) -> nn.Module:
    """A 3D network with published weights but in the last layer, which tells our classes apart.

    Args:
        net: `C3d` or `R3d18` of the published sizes.
        name: "c3d" or "r3d_18".
        weights: Your file.

    Returns:
        `net`; all of it can be trained.

    Raises:
        BadInput: As `load_published`; a network of other sizes.
    """
    own, state = net.state_dict(), load_published(WEIGHTS[name], weights).state_dict()
    last = {key: own[key] for key in [*own][-2:]}  # weight and bias
    return fill(net, state | last, weights, "leave it out of a trial, whose C3D is small")
