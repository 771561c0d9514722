"""Residual networks, and ResNet-50 as a frozen extractor of face features.

The blocks have the names of torchvision's tensors, so its files of weights fit; torchvision itself
is not imported, for it costs every process four seconds (it loads torch's compiler).

The features are the 2048 averages before the classifier (``pool5_7x7_s1`` of the Caffe model). The
weights for faces are Albanie's ports of MatConvNet models, and two things in them are not as in
torchvision's ResNet-50, so that the same tensors under other names would compute something else:
the stride of a stage is in its first 1x1 convolution, not in the 3x3 one; and the first pooling has
no padding but a last window that may hang over the edge.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from micromacro.errors import BadInput, check_choice
from micromacro.kernels.checks import check_tensor, check_values
from micromacro.ragged import as_float
from micromacro.weights import fetch_weights, file_sha256, fill, read_weights, unregistered_file

if TYPE_CHECKING:
    from micromacro.clip import FaceClip  # for its type alone

N_FEATURES = 2048
INPUT_PX = 224


class _Residual(nn.Module):
    """Convolutions with batch norm, and ReLU between them, beside a shortcut; ReLU behind the sum.

    Args:
        convolutions: Become ``conv1``, ``bn1``, ``conv2``, ... as torchvision names them.
        downsample: Brings the input to the output's shape; None adds it as it is.
    """

    def __init__(self, convolutions: Sequence[nn.Conv2d], downsample: nn.Module | None):
        super().__init__()
        self.n_convolutions = len(convolutions)
        for i, convolution in enumerate(convolutions, 1):
            self.add_module(f"conv{i}", convolution)
            self.add_module(f"bn{i}", nn.BatchNorm2d(convolution.out_channels))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, H, W) -> (B, width * expansion, H / stride, W / stride)."""
        out = x
        for i in range(1, self.n_convolutions + 1):
            out = self.relu(out) if i > 1 else out
            out = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class BasicBlock(_Residual):
    """Two 3 x 3 convolutions beside a shortcut (He et al. 2016, Figure 5, left).

    Args:
        n_in: Channels of the input.
        width: Channels of the output.
        stride: Of the first convolution.
        downsample: Brings the input to the output's shape; None adds it as it is.
    """

    expansion = 1  # channels of the output for one of `width`

    def __init__(self, n_in: int, width: int, stride: int = 1, downsample: nn.Module | None = None):
        layers = _convolution(n_in, width, 3, stride), _convolution(width, width, 3)
        super().__init__(layers, downsample)


class Bottleneck(_Residual):
    """Convolutions 1 x 1, 3 x 3 (with the stride), 1 x 1 beside a shortcut (the same, right).

    Args:
        n_in: Channels of the input.
        width: Channels inside; the output has four times as many.
        stride: Of the 3 x 3 convolution.
        downsample: As for `BasicBlock`.
    """

    expansion = 4

    def __init__(self, n_in: int, width: int, stride: int = 1, downsample: nn.Module | None = None):
        inner = _convolution(n_in, width, 1), _convolution(width, width, 3, stride)
        super().__init__((*inner, _convolution(width, 4 * width, 1)), downsample)


def make_stage(
    block: type[BasicBlock | Bottleneck], n_in: int, width: int, blocks: int, stride: int = 1
) -> nn.Sequential:
    """One stage of a residual network: some blocks, the first of them with the stride.

    Args:
        block: Kind of the blocks.
        n_in: Channels of the input.
        width: Of the blocks; ``width * block.expansion`` channels come out.
        blocks: How many.
        stride: Of the first one.
    """
    n_out, downsample = width * block.expansion, None
    if stride != 1 or n_in != n_out:
        shortcut = _convolution(n_in, n_out, 1, stride)
        downsample = nn.Sequential(shortcut, nn.BatchNorm2d(n_out))
    first = block(n_in, width, stride, downsample)
    return nn.Sequential(first, *(block(n_out, width) for _ in range(1, blocks)))


def resnet(
    block: type[BasicBlock | Bottleneck], blocks: Sequence[int], width: int = 64
) -> nn.Sequential:
    """A ResNet without classifier: images (B, 3, H, W) to averages (B, 8 width block.expansion).

    ``resnet(BasicBlock, (2, 2, 2, 2))`` is ResNet-18, ``resnet(Bottleneck, (3, 4, 6, 3))``
    ResNet-50 (He et al. 2016, Table 1), with the names and strides of torchvision's.

    Args:
        block: Kind of the blocks.
        blocks: Blocks in each of the four stages.
        width: Channels of the stem and of the first stage's blocks; each further stage has twice as
            many.
    """
    parts = OrderedDict(
        conv1=nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),  # 224 px -> 112
        bn1=nn.BatchNorm2d(width),
        relu=nn.ReLU(inplace=True),
        maxpool=nn.MaxPool2d(3, stride=2, padding=1),  # -> 56
    )
    n_in = width
    for i, number in enumerate(blocks):  # 56, 28, 14, 7 px
        parts[f"layer{i + 1}"] = make_stage(block, n_in, width << i, number, stride=min(2, i + 1))
        n_in = (width << i) * block.expansion
    parts |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return nn.Sequential(parts)


def conv_blocks(
    conv: type[nn.Module], n_in: int, width: int, plan: Sequence[int], batch_norm: bool = False
) -> nn.Sequential:
    """The convolutions of a VGG or a C3D: blocks of side 3 with ReLU, a pooling by 2 behind each.

    Args:
        conv: ``nn.Conv2d`` or ``nn.Conv3d``.
        n_in: Channels of the input.
        width: Channels of the first block; the next have twice as many, up to eight times.
        plan: Convolutions of each block; (1, 1, 2, 2, 2) is VGG-11 (Simonyan and Zisserman 2015).
        batch_norm: Whether there is batch norm behind each convolution.

    Returns:
        Layers by the names that published files have, such as conv1_1 and conv3a.
    """
    solid, layers = conv is nn.Conv3d, nn.Sequential()
    norm, pool = (nn.BatchNorm3d, nn.MaxPool3d) if solid else (nn.BatchNorm2d, nn.MaxPool2d)
    for i, n_convs in enumerate(plan):
        for j in range(n_convs):
            name = f"{i + 1}{'ab'[j] if n_convs > 1 else ''}" if solid else f"{i + 1}_{j + 1}"
            n_in, n_before = width * min(8, 2**i), n_in
            layers.add_module(f"conv{name}", conv(n_before, n_in, 3, padding=1))
            if batch_norm:
                layers.add_module(f"bn{name}", norm(n_in))
            layers.add_module(f"relu{name}", nn.ReLU(inplace=True))
        layers.add_module(f"pool{i + 1}", pool(2))
    return layers


def _convolution(n_in: int, n_out: int, side: int, stride: int = 1) -> nn.Conv2d:
    """Without bias, for batch norm comes behind; a 3 x 3 one keeps the size of the map."""
    return nn.Conv2d(n_in, n_out, side, stride=stride, padding=side // 2, bias=False)


@dataclass(frozen=True)
class Pretrained:
    """One set of weights.

    Attributes:
        file: A key of `micromacro.weights.WEIGHTS`; or an address, where no SHA-256 is known.
        caffe: Whether the file has the port's names and needs its form of the network.
        top: Value of white in the network's input: 1 or 255.
        mean: Red, green, blue; in units of `top`.
        std: Red, green, blue.
    """

    file: str
    caffe: bool = True
    top: float = 255.0
    mean: tuple[float, float, float] = (131.0912, 103.8827, 91.4953)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


_PORTS = "http://www.robots.ox.ac.uk/~albanie/models/pytorch-mcn/"
_IMAGENET = {"top": 1.0, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PRETRAINED = {
    "imagenet": Pretrained("resnet50_imagenet", caffe=False, **_IMAGENET),
    # MS-Celeb-1M, then VGGFace2 (8631 people).
    "vggface2": Pretrained(_PORTS + "resnet50_ft_dag.pth"),
    # VGGFace2, then FER+ (8 expressions); MIMAMO Net's.
    "ferplus": Pretrained(_PORTS + "resnet50_ferplus_dag.pth"),
}


class FrozenResNet50(nn.Module):
    """ResNet-50 up to its last pooling; never trained, always in evaluation mode.

    Images are resized to 224 x 224 without a crop (bilinear, antialiased), as when MIMAMO Net's
    features for training were made. Its released demo cuts the middle 224 of 256 out instead.

    Args:
        name: A key of `PRETRAINED`.
        weights: Your own file; needed for "vggface2" and "ferplus", of which no SHA-256 is known,
            so that they are not downloaded. None fetches "imagenet" (102 MB, once).
        sha256: What the digest of your file must be. For "imagenet" it may replace the known one.

    Attributes:
        n_features: 2048.
        settings: What decides the features: name, file, SHA-256 of the file, preprocessing.

    Raises:
        BadInput: Unknown name; no file, or not the right one; not a ResNet-50 of that kind.
    """

    n_features = N_FEATURES

    def __init__(self, name: str, weights: str | Path | None = None, *, sha256: str | None = None):
        super().__init__()
        check_choice("weights", name, PRETRAINED)
        self.about = PRETRAINED[name]
        file, digest = _file(name, weights, sha256)
        state = read_weights(file)
        with torch.device("meta"):  # no memory, no random numbers: the file fills it
            net = resnet(Bottleneck, (3, 4, 6, 3))
        if self.about.caffe:
            state = torchvision_names(state, file)
            _as_caffe(net)
        state = {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}
        fill(net, state, file, "give the right file of a ResNet-50").float()
        self.net = net.requires_grad_(False)
        super().train(False)  # its own `train` does nothing
        for key in ("mean", "std"):
            values = torch.tensor(getattr(self.about, key))[:, None, None]
            self.register_buffer(key, values, persistent=False)
        self.settings = {
            "backbone": "resnet50",
            "weights": name,
            "file": file.name,
            "sha256": digest,
            **{key: asdict(self.about)[key] for key in ("caffe", "top", "mean", "std")},
            "resize": f"{INPUT_PX} px, bilinear, antialiased, no crop",
        }

    def train(self, mode: bool = True) -> "FrozenResNet50":
        """Do nothing: batch norm keeps the statistics of the file, whatever the parent trains."""
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features of images.

        Args:
            images: float32 (B, C, H, W) in [0, 1], C = 3 RGB or 1 grey (used three times).

        Returns:
            float32 (B, 2048), not negative.

        Raises:
            BadInput: Another shape or dtype, or values that are not finite or outside [0, 1].
        """
        check_images(images, self.mean.dtype)
        size = (INPUT_PX, INPUT_PX)
        images = functional.interpolate(images, size, mode="bilinear", antialias=True)
        return self.net((self.about.top * images - self.mean) / self.std)


class Thumbnail(nn.Module):
    """Stands in for `FrozenResNet50` where a long program is only tried.

    Its features are the pixels of a thumbnail of 27 x 27, cut to as many.
    """

    def __init__(self):
        super().__init__()
        self.settings = {"weights": "thumbnail"}

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1|3, H, W) in [0, 1] -> (N, 2048); refuses what `FrozenResNet50` does."""
        check_images(images, torch.float32)
        images = images.expand(-1, 3, -1, -1)
        return functional.adaptive_avg_pool2d(images, 27).flatten(1)[:, :N_FEATURES]


def check_images(images: Tensor, dtype: torch.dtype) -> None:
    """Refuse what is no batch of images (B, C, H, W), RGB or grey, in [0, 1].

    Raises:
        BadInput: It is not.
    """
    check_tensor("images", images, "(B, 1|3, H, W)", (dtype,))
    check_values("images", images, 0, 1)


@torch.no_grad()
def features(rows: Tensor, encoder: nn.Module, batch: int = 64) -> Tensor:
    """What a frozen network makes of the rows of a clip; it is left in its mode.

    Args:
        rows: uint8 or float32 (T, C, H, W), frames or segments as the network takes them; uint8
            becomes float32 in [0, 1]. T may be 0.
        encoder: Makes features (B, D, ...) by its method `features`, if it has one. It computes in
            evaluation mode, where it is.
        batch: Rows that are computed at a time.

    Returns:
        float32 (T, D), on the CPU.

    Raises:
        BadInput: What the network refuses.
    """
    look, was_training = getattr(encoder, "features", encoder), encoder.training
    device = next(encoder.parameters()).device
    some = rows if len(rows) else rows.new_zeros(1, *rows.shape[1:])  # how many columns?
    encoder.eval()
    try:
        made = [look(as_float(piece.to(device))).flatten(1).cpu() for piece in some.split(batch)]
    finally:
        encoder.train(was_training)
    return torch.cat(made)[: len(rows)]


class FrozenFeatures:
    """Features of clips by a frozen network, a batch of faces at a time.

    Args:
        backbone: Takes images (B, 3, H, W), returns features (B, 2048); it is moved to `device`.
        device: Device of the arithmetic.
        batch: Frames computed at a time.
    """

    def __init__(self, backbone: nn.Module, *, device: str | torch.device = "cpu", batch: int = 32):
        self.backbone, self.device, self.batch = backbone.to(device), device, batch

    def __call__(self, clip: "FaceClip") -> np.ndarray:
        """Features of a clip.

        Returns:
            float16 (T, 2048), 4 kB a frame, relative error 2^-11; zero where there is no face.

        Raises:
            BadInput: A feature is too large for float16.
        """
        features = np.zeros((len(clip), N_FEATURES), np.float16)
        seen = np.flatnonzero(clip.status != "none")
        for start in range(0, len(seen), self.batch):
            rows = seen[start : start + self.batch]
            images = torch.from_numpy(clip.frames[rows]).to(self.device).float() / 255
            features[rows] = self.backbone(images).half().cpu().numpy()
        if not np.isfinite(features).all():
            raise BadInput(clip.source, "features beyond float16", "give weights made for faces")
        return features


def torchvision_names(port: Mapping[str, Tensor], file: object = "weights") -> dict[str, Tensor]:
    """Rename the tensors of a port to torchvision's names; the classifier is left out.

    ``conv1_7x7_s2`` is ``conv1``; block b of stage s, ``conv<s>_<b>_...``, is ``layer<s-1>.<b-1>``:
    ``1x1_reduce``, ``3x3``, ``1x1_increase`` are its ``conv1``, ``conv2``, ``conv3``, and
    ``1x1_proj`` is ``downsample.0``. With ``_bn`` behind them they are ``bn1``, ``bn2``, ``bn3``
    and ``downsample.1``.

    Args:
        port: State dict of ``resnet50_ft_dag``, ``resnet50_ferplus_dag`` or one of their kind.
        file: Named in the error.

    Raises:
        BadInput: A name is not one of these.
    """
    parts = {
        "1x1_reduce": ("conv1", "bn1"),
        "3x3": ("conv2", "bn2"),
        "1x1_increase": ("conv3", "bn3"),
        "1x1_proj": ("downsample.0", "downsample.1"),
    }
    block = re.compile(rf"conv([2-5])_([1-9])_({'|'.join(parts)})(_bn)?\.(\w+)")
    stem = re.compile(r"conv1_7x7_s2(_bn)?\.(\w+)")
    renamed = {}
    for name, tensor in port.items():
        if match := block.fullmatch(name):
            stage, number, part, norm, field = match.groups()
            part = parts[part][norm is not None]
            renamed[f"layer{int(stage) - 1}.{int(number) - 1}.{part}.{field}"] = tensor
        elif match := stem.fullmatch(name):
            renamed[f"{'bn1' if match[1] else 'conv1'}.{match[2]}"] = tensor
        elif not name.startswith("classifier."):
            fault = f"{name} is not a name of the port"
            raise BadInput(file, fault, "give the .pth of resnet50_ft_dag or resnet50_ferplus_dag")
    return renamed


def _as_caffe(net: nn.Module) -> None:
    """Change torchvision's ResNet-50 to the form that Caffe's has; see the top of this module."""
    net.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    for layer in (net.layer2, net.layer3, net.layer4):
        layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)


def _file(name: str, weights: str | Path | None, sha256: str | None) -> tuple[Path, str]:
    """The file of weights, and its SHA-256."""
    origin = PRETRAINED[name].file
    if not origin.startswith(_PORTS):
        file = fetch_weights(origin, path=weights, sha256=sha256)
        return file, file_sha256(file)
    return unregistered_file(name, origin, weights, sha256)
