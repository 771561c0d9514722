"""The network that AKMNet applies to every frame: a modified ResNet-18 (Table II of the paper).

Blocks are torchvision's, and so are the names ``layer1`` ..., so weights of its ``resnet18`` fit
all of it but the first convolution, which is 5 x 5 on one grey channel instead of 7 x 7 on three.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from micromacro.backbones import BasicBlock
from micromacro.errors import BadInput

BN_MODES = ("packed", "released", "frozen")


class FrameNet(nn.Sequential):
    """Frames to maps: a stem and one stage for each width, its *parts*; no pooling at the end.

    The stem is {5 x 5 convolution of stride 2, batch norm, ReLU, 3 x 3 max-pooling of stride 2}. A
    stage is some basic blocks; every one but the first halves the side. Halves are rounded up. At
    the defaults 128 px become 512 x 4 x 4.

    Args:
        widths: Channels of the stages; the stem has those of the first.
        blocks: Basic blocks in each stage.
        channels: Of a frame.
        bn: Whose statistics batch norm uses in training. "packed": those of all frames of all clips
            in the batch. "released": those of each clip by itself, as in the released program,
            which passes one clip at a time. "frozen": the running averages, as in testing. The
            first two update the running averages; all three test with them.

    Raises:
        BadInput: No width, or an unknown mode.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512),
        *,
        blocks: int = 2,
        channels: int = 1,
        bn: str = "packed",
    ):
        if not widths:
            raise BadInput("widths", "are empty", "give one or more stages")
        if bn not in BN_MODES:
            raise BadInput(f"bn={bn!r}", "is unknown", f"one of {', '.join(BN_MODES)}")
        parts = OrderedDict(stem=_stem(channels, widths[0]))
        for i, (n_in, n_out) in enumerate(pairwise((widths[0], *widths)), 1):
            parts[f"layer{i}"] = _stage(n_in, n_out, blocks, stride=1 if i == 1 else 2)
        super().__init__(parts)
        self.widths, self.channels, self.bn, self.frozen = tuple(widths), channels, bn, 0
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def train(self, mode: bool = True) -> "FrameNet":
        """Switch the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for i, part in enumerate(self):
            if i < self.frozen:
                part.eval()
        if self.bn == "frozen":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def freeze(self, parts: int) -> "FrameNet":
        """Train no longer the first `parts` parts, weights and statistics; 0 thaws all.

        Args:
            parts: 0 to stages + 1; 1 is the stem alone.

        Raises:
            BadInput: Out of that range.
        """
        if not 0 <= parts <= len(self):
            raise BadInput(f"parts={parts}", "is out of range", f"give 0 to {len(self)}")
        for i, part in enumerate(self):
            part.requires_grad_(i >= parts)
        self.frozen = parts
        return self.train(self.training)

    @torch.no_grad()
    def frozen_maps(self, frames: torch.Tensor) -> torch.Tensor:
        """What the frozen parts make of frames (N, channels, H, W), always the same.

        Computed once, they spare every epoch that part: ``forward(maps, after=frozen)``.
        """
        return _chain(list(self)[: self.frozen], frames)

    def shape(self, image_px: tuple[int, int], parts: int | None = None) -> tuple[int, int, int]:
        """Channels, rows and columns that come out of the first `parts` parts; None for all."""
        parts = len(self) if parts is None else parts
        if parts == 0:
            return self.channels, *image_px
        halved = 2 ** max(2, parts)
        return self.widths[max(0, parts - 2)], *(-(-side // halved) for side in image_px)

    def forward(
        self, frames: torch.Tensor, lengths: Sequence[int] | None = None, *, after: int = 0
    ) -> torch.Tensor:
        """Pass frames through.

        Args:
            frames: float32 (N, channels, H, W), all frames of all clips, clip by clip; N is theirs.
                With `after`, what the first parts made of them.
            lengths: Frames in each clip, for the statistics of "released"; None for one clip.
            after: Parts that have been passed already.

        Returns:
            float32 (N, widths[-1], h, w), 0 or more.
        """
        whole, maps = max(after, self.frozen), frames
        for part in list(self)[after:whole]:
            maps = part(maps)
        rest = list(self)[whole:]
        alone = self.bn == "released" and self.training and lengths is not None
        return torch.cat(
            [_chain(rest, clip) for clip in (maps.split(lengths) if alone else [maps])]
        )


class StillNet(nn.Module):
    """A classifier of single frames: the network above, the mean over the map, one linear layer.

    It pre-trains the `FrameNet` of an AKMNet on stills, and is the plain ResNet-18 that Table VII
    trains on one frame of each clip, the apex or the max-key frame.

    Args:
        frame_net: Used as it is, not copied, so what is trained here is trained there.
        n_classes: Classes.
    """

    def __init__(self, frame_net: FrameNet, n_classes: int = 4):
        super().__init__()
        self.frame_net = frame_net
        self.classifier = make_linear(frame_net.widths[-1], n_classes)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames float32 (N, channels, H, W) in [0, 1] to logits (N, n_classes)."""
        return self.classifier(self.frame_net(frames).mean((-2, -1)))


def make_linear(n_in: int, n_out: int) -> nn.Linear:
    """A linear layer that starts as in the released code: Xavier normal, no bias."""
    layer = nn.Linear(n_in, n_out)
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _chain(parts: Sequence[nn.Module], maps: torch.Tensor) -> torch.Tensor:
    for part in parts:
        maps = part(maps)
    return maps


def _stem(channels: int, width: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, width, 5, stride=2, padding=2, bias=False)
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True), pool)


def _stage(n_in: int, n_out: int, blocks: int, *, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or n_in != n_out:
        conv = nn.Conv2d(n_in, n_out, 1, stride=stride, bias=False)
        shortcut = nn.Sequential(conv, nn.BatchNorm2d(n_out))
    first = BasicBlock(n_in, n_out, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(n_out, n_out) for _ in range(1, blocks)))
