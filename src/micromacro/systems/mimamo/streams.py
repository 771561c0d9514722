"""The two streams of MIMAMO Net: appearance, and PhaseNet on phase differences; rows of snippets."""

from collections.abc import Sequence
from itertools import chain, pairwise

import torch
from torch import nn

from micromacro.errors import BadInput

STREAMS = ("both", "spatial", "temporal")
PHASE_WIDTHS = {"strided": (64, 128, 256), "figure": (64, 128, 256, 256)}


class PhaseNet(nn.Module):
    """The temporal stream: phase differences of two pyramid levels to one vector per snippet.

    Each block is {3x3 convolution, batch norm, ReLU} twice and halves the side. Level 2 joins after
    the first block, where the sides are equal. Dropout2d 0.2 follows every block but the first.

    ==========  ==========================  ======================================
    48 px       "strided", released code    "figure", the paper's drawing
    ==========  ==========================  ======================================
    block 1     24 -> 64, to 24 x 24        24 -> 64, to 24 x 24
    + level 2   88                          88
    block 2     128, to 12 x 12             128, to 12 x 12
    block 3     256, to 6 x 6               256, to 6 x 6
    block 4     none                        256, stays 6 x 6
    halved by   stride 2, 2nd convolution   max-pooling 2 x 2, none after the last
    pooling     mean over 6 x 6             mean over 6 x 6
    parameters  1,186,944                   2,368,128
    ==========  ==========================  ======================================

    The mean goes over whatever is left, so other sides need no option. For 96 and 112 px the
    released code has four strided blocks: widths (64, 128, 256, 512).

    Args:
        channels: Maps per level, orientations x differences: 2 x 12.
        widths: Of the blocks, two or more; None for those of the table. The last is the length of
            the result, `out_features`.
        blocks: "strided" or "figure".

    Raises:
        BadInput: Another form, or fewer than two widths.
    """

    def __init__(
        self, channels: int = 24, widths: Sequence[int] | None = None, *, blocks: str = "strided"
    ):
        super().__init__()
        if blocks not in PHASE_WIDTHS:
            raise BadInput(f"blocks={blocks!r}", "is unknown", f"one of {', '.join(PHASE_WIDTHS)}")
        widths = PHASE_WIDTHS[blocks] if widths is None else tuple(widths)
        if len(widths) < 2:
            raise BadInput("phase_widths", f"are {widths}", "give two blocks or more")
        self.blocks = nn.ModuleList()
        inputs = (channels, widths[0] + channels, *widths[1:-1])
        for i, (n_in, n_out) in enumerate(zip(inputs, widths, strict=True), 1):
            stride = 2 if blocks == "strided" else 1
            block = [*_conv(n_in, n_out), *_conv(n_out, n_out, stride)]
            if blocks == "figure" and i < len(widths):
                block.append(nn.MaxPool2d(2))
            self.blocks.append(nn.Sequential(*block))
        self.dropout = nn.Dropout2d(0.2)
        self.in_channels, self.out_features = channels, widths[-1]

    def forward(self, level_1: torch.Tensor, level_2: torch.Tensor) -> torch.Tensor:
        """Encode snippets.

        Args:
            level_1: float32 (N, channels, h, w), rad, orientation-major: band 0 d1 ... d12, band 1
                d1 ... d12. h and w are even, at least ``2 ** len(widths)``.
            level_2: float32 (N, channels, h / 2, w / 2), likewise.

        Returns:
            float32 (N, widths[-1]).

        Raises:
            BadInput: A side of level 2 is not half of that of level 1, or one is too small.
        """
        size, least = tuple(level_1.shape[-2:]), 2 ** len(self.blocks)
        if min(size) < least:
            raise BadInput("level_1", f"has maps of {size} px", f"give {least} px or more a side")
        if size != tuple(2 * side for side in level_2.shape[-2:]):
            fault = f"has maps of {tuple(level_2.shape[-2:])} px, level_1 of {size}"
            raise BadInput("level_2", fault, "give half of level_1")
        maps = torch.cat([self.blocks[0](level_1), level_2], 1)
        for block in self.blocks[1:]:
            maps = self.dropout(block(maps))
        return maps.mean((-2, -1))


class TwoStreams(nn.Module):
    """What both networks share: one vector per stream for each snippet that exists.

    Both streams are made even where one is dropped, so with one seed all arms of an ablation start
    from the same weights there.
    """

    def __init__(
        self,
        streams: str,
        spatial: nn.Module,
        features_shape: tuple[int | None, ...],
        phase: PhaseNet,
        phase_mlp: nn.Module,
    ):
        super().__init__()
        if streams not in STREAMS:
            raise BadInput(f"streams={streams!r}", "is unknown", f"one of {', '.join(STREAMS)}")
        self.spatial = None if streams == "temporal" else spatial
        self.phase = None if streams == "spatial" else phase
        self.phase_mlp = None if streams == "spatial" else phase_mlp
        self._shapes = {}  # after (B, S), of the inputs that this arm needs; None is any size
        if self.spatial is not None:
            self._shapes["features"] = features_shape
        if self.phase is not None:
            maps = (phase.in_channels, None, None)
            self._shapes |= {"level_1": maps, "level_2": maps}

    def valid(self, mask: torch.Tensor | None, **inputs: torch.Tensor | None) -> torch.Tensor:
        """The mask, of all snippets if none is given, after a look at the shapes."""
        lead = None
        for name, shape in self._shapes.items():
            lead = _check_input(name, inputs[name], shape, lead)
            device = inputs[name].device
        if mask is None:
            return torch.ones(lead, dtype=torch.bool, device=device)
        if mask.dtype != torch.bool or mask.shape != lead:
            fault = f"is {mask.dtype} {tuple(mask.shape)}"
            raise BadInput("mask", fault, f"give bool {tuple(lead)}, one for each snippet")
        return mask.to(device)

    def encode(
        self,
        features: torch.Tensor | None,
        level_1: torch.Tensor | None,
        level_2: torch.Tensor | None,
        mask: torch.Tensor,
    ) -> list[torch.Tensor]:
        """Rows of each stream, float32 (N, hidden) for the N snippets of the mask."""
        if self.training and mask.sum() < 2:
            raise BadInput("mask", "leaves less than two snippets", "batch norm trains on two")
        rows = []
        if self.spatial is not None:
            rows.append(self.spatial(features[mask]))
        if self.phase is not None:
            rows.append(self.phase_mlp(self.phase(level_1[mask], level_2[mask])))
        return rows


def _conv(n_in: int, n_out: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1)
    return [conv, nn.BatchNorm2d(n_out), nn.ReLU()]


def dense(n_in: int, n_out: int, dropout: float) -> list[nn.Module]:
    """A fully connected layer of the OMG network's MLP, of Aff-Wild's PhaseNet and its fusion."""
    return [nn.Linear(n_in, n_out), nn.ReLU(), nn.BatchNorm1d(n_out), nn.Dropout(dropout)]


def affwild_dense(n_in: int, n_out: int) -> list[nn.Module]:
    """A fully connected layer of the Aff-Wild network's MLP: another order."""
    return [nn.Dropout(0.3), nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU()]


def image_cnn(channels: int, widths: Sequence[int], hidden: int) -> list[nn.Module]:
    """Images (N, channels, H, W) to (N, hidden): the benchmark's stand-in for ResNet-50 and MLP."""
    convs = [_conv(a, b, 2) for a, b in pairwise([channels, *widths])]
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return [*chain(*convs), *pool, *affwild_dense(widths[-1], hidden)[1:]]


def _check_input(
    name: str,
    tensor: torch.Tensor | None,
    shape: tuple[int | None, ...],
    lead: torch.Size | None,
) -> torch.Size:
    """The (B, S) of one input that this network needs, equal to that of the input before."""
    if tensor is None:
        raise BadInput(name, "is missing", "this network needs it; see streams")
    given, due = tensor.shape, (*(lead or ("B", "S")), *("any" if n is None else n for n in shape))
    fits = len(given) == len(due) and all(
        isinstance(n, str) or m == n for m, n in zip(given, due, strict=True)
    )
    if not fits:
        raise BadInput(name, f"has shape {tuple(given)}", f"give ({', '.join(map(str, due))})")
    return given[:2]
