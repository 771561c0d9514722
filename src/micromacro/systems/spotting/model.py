"""Spotting with temporal reference frames: each frame against frames nearby, by a small 3D CNN.

Yap et al., *3D-CNN for Facial Micro- and Macro-expression Spotting on Long Video Sequences using
Temporal Oriented Reference Frame*, ACM MM 2022, arXiv 2105.06340. A frame is compared with a
reference half a micro-expression away and with one half a macro-expression away: two streams of
one network, `SpottingNet`, that scores both classes at once.

We have not seen the body of the paper. Its abstracts, and others who describe it, say: two streams
with shared weights; three 3D convolutions, depthwise separable; residual in the first version
("EL-FACE"); local contrast normalisation at the input; trained from scratch. All else is our
choice: sizes, kernels, pooling, the side of the references, how the streams join, how the first
kernel starts. What may matter is an option, for notebook 06b to vary. The loss is no part of this
module: ``binary_cross_entropy_with_logits``, as both classes may hold at once, our choice too.

A peer sees the optical flow to the references and not the pixels: `SoftNet`.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from micromacro.errors import BadInput, check_choice, check_sizes, check_widths
from micromacro.kernels.checks import check_tensor, check_values
from micromacro.motion.fields import optical_strain, steadied
from micromacro.motion.prepare import NORMALISATIONS, normalise

SIDES = {"past": (-1,), "future": (1,), "symmetric": (-1, 1)}
"""Where a frame's references lie -> their signs in time, in the order in which they are given."""
FIRST_KERNELS = ("antisymmetric", "random")


class SpottingNet(nn.Module):
    """Score a frame for both classes by what differs from its references.

    The defaults, all our choice, are for aligned grey faces of 112 to 128 px and have 102,082
    parameters. The benchmark's: ``widths=(8, 8, 16), grid=6, hidden=24`` for 48 px.

    Args:
        reference: Where the references lie: "past", "future", or "symmetric", one on each side.
            The paper does not say; "past" is our choice, as it needs no look-ahead.
        widths: Channels of the three convolutions.
        grid: Cells a side that the last maps are averaged to; 112 px leave 14, 48 px leave 6.
        hidden: Length of a stream's vector.
        n_gaps: Number of streams: 2, micro and macro; 1 for the ablation with a single gap.
        shared: All streams have the same weights, as in the paper. Else they start from the same.
        first: How the kernels of the first convolution start. "antisymmetric": they add up to 0
            over time (w0 = -w1 for two frames), so that what does not change gives 0. "random":
            as they are drawn.
        residual: Add its input to the second and to the third convolution, as the first version.
        inputs: Normalisation of each frame, a name of `normalise`. Window, sigma and form of the
            paper's local contrast are unknown.
        dropout: Share of the cells that training leaves out.

    Raises:
        BadInput: An unknown name; not three widths.
    """

    def __init__(
        self,
        *,
        reference: str = "past",
        widths: Sequence[int] = (8, 16, 32),
        grid: int = 7,
        hidden: int = 64,
        n_gaps: int = 2,
        shared: bool = True,
        first: str = "antisymmetric",
        residual: bool = False,
        inputs: str = "lcn",
        dropout: float = 0.0,
    ):
        super().__init__()
        check_choice("reference", reference, SIDES)
        check_choice("first", first, FIRST_KERNELS)
        check_choice("inputs", inputs, NORMALISATIONS)
        grid, hidden, n_gaps = check_sizes(grid=grid, hidden=hidden, n_gaps=n_gaps)
        widths = check_widths("widths", widths)
        if len(widths) != 3:
            raise BadInput("widths", f"are {widths}", "give three")
        # The frames of a stream in their order in time, by their places in (frame, its references).
        self.order = torch.tensor([0, *SIDES[reference]]).argsort().tolist()
        self.n_gaps, self.inputs = n_gaps, inputs
        one = Stream(len(self.order), (*widths, grid, hidden), first, residual, dropout)
        others = [] if shared else [copy.deepcopy(one) for _ in range(n_gaps - 1)]
        # So laid out, a CPU trains it about twice as fast; results agree to rounding.
        self.streams = nn.ModuleList([one, *others]).to(memory_format=torch.channels_last_3d)
        self.classifier = nn.Linear(n_gaps * hidden, 2)

    def forward(self, frames: Tensor) -> Tensor:
        """Compare frames with their references.

        Args:
            frames: float32 in [0, 1] or uint8 (B, T, 1, H, W), grey, 12 px or more a side. The
                frame comes first, then its references: those of the micro gap before those of the
                macro gap, the past one before the future one. T is 3, or 5 if they are symmetric.

        Returns:
            Logits float32 (B, 2): micro, macro.

        Raises:
            BadInput: Another shape or dtype; values that are not finite or far out of range.
        """
        n_frames = 1 + self.n_gaps * (len(self.order) - 1)
        check_tensor("frames", frames, f"(B, {n_frames}, 1, H, W)", (torch.float32, torch.uint8))
        if (side := min(frames.shape[-2:])) < 12:
            raise BadInput("frames", f"have a side of {side} px", "give 12 px or more")
        images = normalise(frames, self.inputs).to(self.classifier.weight)
        images = images.transpose(1, 2)  # (B, 1, T, H, W)
        now, others = images[:, :, :1], images[:, :, 1:].chunk(self.n_gaps, 2)
        pairs = [torch.cat([now, own], 2)[:, :, self.order] for own in others]  # (B, 1, 2, H, W)
        vectors = [self.streams[i % len(self.streams)](pair) for i, pair in enumerate(pairs)]
        return self.classifier(torch.cat(vectors, 1))  # 2 x (B, 64) -> (B, 128) -> (B, 2)


class Stream(nn.Module):
    """A frame and its reference(s) to one vector.

    A depthwise-separable 3D convolution is {kernels for each channel, ReLU, 2 x 2 max-pooling,
    1 x 1 x 1 convolution, ReLU}. The first kernels, 2 x 5 x 5 at full resolution (3 x 5 x 5 if
    references are symmetric), span all frames, so the others, 1 x 3 x 3, find no time left. What is
    added in the residual form is the input, pooled and brought to as many channels.

    Weights start as He et al. (2015) draw them, biases at 0: by PyTorch's own start a difference of
    frames would shrink by two orders of magnitude on its way, and training would not begin.

    Args:
        depth: Frames in a stream.
        sizes: Three widths, the side of the grid, the length of the vector.
        first: As of `SpottingNet`.
        residual: Likewise.
        dropout: Likewise.
    """

    def __init__(self, depth: int, sizes: Sequence, first: str, residual: bool, dropout: float):
        super().__init__()
        one, two, three, grid, hidden = sizes
        later = ((one, two), (two, three))
        # The single channel of a grey image has as many kernels as channels come out.
        convs = [_separable(1, one, one, (depth, 5, 5))]
        convs += [_separable(n, n, n_out, (1, 3, 3)) for n, n_out in later]
        # Made in any case, so that all arms draw the same numbers.
        skips = [nn.Conv3d(n, n_out, 1) for n, n_out in later]
        self.convs = nn.ModuleList(convs)
        self.skips = nn.ModuleList(skips) if residual else None
        self.grid, self.dropout = grid, dropout
        self.dense = nn.Linear(three * grid**2, hidden)
        for weight in nn.ModuleList([*convs, *skips, self.dense]).parameters():
            start = nn.init.zeros_ if weight.ndim == 1 else nn.init.kaiming_normal_
            start(weight)
        if first == "antisymmetric":
            drawn = convs[0][0].weight.detach()  # (8, 1, 2, 5, 5), shares its memory
            drawn.sub_(drawn.mean(2, keepdim=True)).mul_((depth / (depth - 1)) ** 0.5)  # as large

    def forward(self, maps: Tensor) -> Tensor:
        """Normalised frames in order of time, float32 (B, 1, depth, H, W), to (B, hidden)."""
        for i, conv in enumerate(self.convs):
            skipped = self.skips[i - 1](conv[2](maps)) if i and self.skips else 0  # pooled
            # (B, 8, 1, H / 2, W / 2), then (B, 16, 1, H / 4, W / 4), then (B, 32, 1, H / 8, W / 8)
            maps = (conv(maps) + skipped).relu()
        cells = functional.adaptive_avg_pool2d(maps.squeeze(2), self.grid)  # (B, 32, 7, 7)
        cells = functional.dropout(cells, self.dropout, self.training)
        return self.dense(cells.flatten(1)).relu()  # (B, 1568) -> (B, 64)


def _separable(n_in: int, n: int, n_out: int, size: tuple[int, int, int]) -> nn.Sequential:
    padding = (0, size[1] // 2, size[2] // 2)
    depthwise = nn.Conv3d(n_in, n, size, padding=padding, groups=n_in)
    return nn.Sequential(depthwise, nn.ReLU(), nn.MaxPool3d((1, 2, 2)), nn.Conv3d(n, n_out, 1))


# ---- a peer --------------------------------------------------------------------------------------


class SoftNet(nn.Module):
    """The shallow network of Liong et al. (SOFTNet, 2021) over optical flow, one for each class.

    Horizontal flow, vertical flow and optical strain get a 5 x 5 convolution each, of 3, 5 and 8
    channels; {ReLU, 3 x 3 max-pooling}; together {2 x 2 max-pooling, dense, ReLU, dense 1}. The
    original trains a network for each class, on squared errors; here they stand side by side
    without a common weight, each on the flow across its own gap, and give logits. Its maps are
    brows and mouth put together; here they are the whole face.

    Args:
        map_px: Side to which the maps are reduced; 42 in the original.
        hidden: Length of the first dense layer; 400 in the original.
        flow: Makes the flow of what comes in, which then is `steadied`; None: flow comes in.
    """

    def __init__(self, map_px: int = 42, *, hidden: int = 400, flow: Callable | None = None):
        super().__init__()
        map_px, hidden = check_sizes(map_px=map_px, hidden=hidden)
        self.flow, self.map_px, cells = flow, map_px, (-(-map_px // 3) // 2) ** 2
        self.convs, self.dense = nn.ModuleList(), nn.ModuleList()
        for _ in range(2):  # micro, macro
            self.convs.extend(nn.Conv2d(1, width, 5, padding=2) for width in (3, 5, 8))
            layers = (nn.Linear(16 * cells, hidden), nn.ReLU(), nn.Linear(hidden, 1))
            self.dense.append(nn.Sequential(*layers))

    def forward(self, flow_px: Tensor) -> Tensor:
        """Score flow.

        Args:
            flow_px: float32 (B, 2, 2, H, W), x then y, from the frame to its two references; or
                what `flow` makes that of.

        Returns:
            Logits float32 (B, 2): micro, macro.

        Raises:
            BadInput: Another shape or dtype, such as frames; values that are not finite.
        """
        flow_px = steadied(self.flow(flow_px)) if self.flow else flow_px
        check_tensor("flow_px", flow_px, "(B, 2, 2, H, W)", (torch.float32,))
        check_values("flow_px", flow_px)
        maps = torch.cat([flow_px, optical_strain(flow_px)], 2).flatten(1, 2)  # (B, 6, H, W)
        maps = functional.interpolate(maps, (self.map_px,) * 2, mode="bilinear", antialias=True)
        maps = [conv(maps[:, i : i + 1]) for i, conv in enumerate(self.convs)]  # 3 5 8 3 5 8
        maps = functional.max_pool2d(torch.cat(maps, 1).relu(), 3, ceil_mode=True)  # 32, 14 x 14
        cells = functional.max_pool2d(maps, 2).chunk(2, 1)  # 2 x (B, 16, 7, 7)
        logits = [dense(own.flatten(1)) for dense, own in zip(self.dense, cells, strict=True)]
        return torch.cat(logits, 1)  # 2 x (B, 784) -> 2 x (B, 1) -> (B, 2)
