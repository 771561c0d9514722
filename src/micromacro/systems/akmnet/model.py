"""AKMNet: find the key frames of a clip, and classify its micro-expression by them.

Peng, Wang, Gao, Bi, Chen, Shi and Zhou, *Recognizing Micro-Expression in Video Clip with Adaptive
Key-Frame Mining*, arXiv 2009.09179. Each frame goes through a ResNet-18 (`FrameNet`); the mining
module (`Miner`) keeps some frames; a GRU (`PixelGru`) runs over those, at each position of the map
by itself; `akm_loss` trains it all.

A batch is clips of any length, without padding: their frames lie one after the other in one tensor.
So in evaluation mode a clip's result hangs on its own frames only, to rounding; in training batch
norm mixes the clips or not, as `bn` says. B clips have N frames together, of which M are kept.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

from micromacro.backbones import BasicBlock, conv_blocks, make_stage
from micromacro.errors import BadInput, check_choice, check_sides, check_whole, check_widths
from micromacro.kernels.checks import check_tensor, check_values, wide

WIDTHS = (64, 128, 256, 512)  # of the published stages
BN_MODES = ("packed", "released", "frozen")
STEPS = ("s123", "s12", "s13", "s23", "none")
LEGACY = ("straight_through", "selection", "gru_init")  # the switches of `AkmNet`, after "legacy_"
_ROUNDING = {"alpha": 1e-6, "beta": 1e-9}  # of equal frames: one float32, the other float64


# ---- every frame by itself: a modified ResNet-18 (Table II) or a VGG-11 --------------------------


class Parts(nn.Sequential):
    """Layers that single frames go through, its *parts*; the first of them can be frozen.

    Args:
        parts: What a frame goes through, in order; or one dictionary of it.
        widths: Channels of its stages; the last number is that of the maps that come out.
        fan: Weights of convolutions start by He et al. (2015). "fan_out" counts what comes out, as
            the released program does; "fan_in" what goes in, for a network without batch norm:
            there the variance of a signal would halve wherever channels double.
        bn: Whose statistics batch norm uses in training, one of `BN_MODES`; see `FrameNet`.

    Attributes:
        kind: "resnet" or "vgg".
        least_px: Shortest side of a frame.

    Raises:
        BadInput: An unknown mode.
    """

    kind, least_px = "resnet", 1

    def __init__(self, *parts: nn.Module | dict, widths: Sequence[int], fan: str, bn: str):
        check_choice("bn", bn, BN_MODES)
        super().__init__(*parts)
        self.widths, self.bn, self.frozen = widths, bn, 0
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu")

    def train(self, mode: bool = True) -> "Parts":
        """Switch the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for part in list(self)[: self.frozen]:
            part.eval()
        if self.bn == "frozen":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def freeze(self, parts: int) -> "Parts":
        """Train no longer the first `parts` parts, weights and statistics; 0 thaws all.

        Args:
            parts: 0 to all; of a `FrameNet` 1 is the stem alone.

        Raises:
            BadInput: Out of that range.
        """
        if (parts := check_whole("parts", parts, least=0)) > len(self):
            raise BadInput(f"parts={parts}", "is out of range", f"give 0 to {len(self)}")
        for i, part in enumerate(self):
            part.requires_grad_(i >= parts)
        self.frozen = parts
        return self.train(self.training)

    @torch.no_grad()
    def frozen_maps(self, frames: Tensor) -> Tensor:
        """What the frozen parts make of frames float32 (N, 1, H, W) in [0, 1], always the same.

        Computed once, they spare every epoch that part: ``forward(maps, after=frozen)``.

        Raises:
            BadInput: Another shape or dtype; values that are not finite or far out of range.
        """
        _check_frames(frames, self)
        return _chain(list(self)[: self.frozen], frames)

    def forward(
        self, frames: Tensor, lengths: Sequence[int] | None = None, *, after: int = 0
    ) -> Tensor:
        """Pass frames through.

        Args:
            frames: float32 (N, 1, H, W), all frames of all clips, clip by clip. With `after`,
                what the first parts made of them.
            lengths: Frames in each clip, for the statistics of "released"; None for one clip.
            after: Parts that have been passed already.

        Returns:
            float32 (N, widths[-1], h, w), 0 or more.
        """
        whole = max(after, self.frozen)  # frozen parts have no statistics to keep apart
        maps = _chain(list(self)[after:whole], frames)
        rest = list(self)[whole:]
        alone = self.bn == "released" and self.training and lengths is not None
        clips = maps.split(lengths) if alone else [maps]
        return torch.cat([_chain(rest, clip) for clip in clips])  # (N, 512, 4, 4)


class Vgg11(Parts):
    """The convolutions of a VGG-11 (Simonyan and Zisserman 2015), on grey frames.

    Eight of side 3, each with ReLU, and five poolings that halve the side, rounded down: 128 px
    become 512 x 4 x 4. Every layer is a part. There is no batch norm. Layers have torchvision's
    numbers, so weights of its ``vgg11`` fit all but the first convolution, which has three channels
    there. Biases start as PyTorch's.

    Args:
        width: Channels of the last two stages, rounded up to a multiple of 8; the others have an
            eighth, a quarter and half of them.

    Raises:
        BadInput: No width.
    """

    kind, least_px = "vgg", 32

    def __init__(self, width: int = WIDTHS[-1]):
        first = -(-check_whole("width", width) // 8)
        widths = tuple(first * times for times in (1, 2, 4, 8, 8))
        layers = conv_blocks(nn.Conv2d, 1, first, (1, 1, 2, 2, 2))
        super().__init__(*layers, widths=widths, fan="fan_in", bn="packed")


class FrameNet(Parts):
    """Frames to maps: a stem and one stage for each width, its parts; no pooling at the end.

    The stem is {5 x 5 convolution of stride 2, batch norm, ReLU, 3 x 3 max-pooling of stride 2}. A
    stage is some basic blocks; every stage but the first halves the side. Halves are rounded up. At
    the defaults 128 px become 512 x 4 x 4. Stages have torchvision's names, so weights of its
    ``resnet18`` fit all but the first convolution, which is 7 x 7 on three channels there.

    Args:
        widths: Channels of the stages; the stem has those of the first.
        blocks: Basic blocks in each stage.
        bn: Whose statistics batch norm uses in training. "packed": those of all frames of all clips
            in the batch. "released": those of each clip by itself, as in the released program,
            which passes one clip at a time. "frozen": the running averages, as in testing. The
            first two update the running averages; all three test with them.

    Raises:
        BadInput: No width, or an unknown mode.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS, *, blocks: int = 2, bn: str = "packed"):
        widths, blocks = check_widths("widths", widths), check_whole("blocks", blocks)
        if not widths:
            raise BadInput("widths", "are empty", "give one or more stages")
        conv = nn.Conv2d(1, widths[0], 5, stride=2, padding=2, bias=False)
        pool = nn.MaxPool2d(3, stride=2, padding=1)
        stem = nn.Sequential(conv, nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True), pool)
        parts = OrderedDict(stem=stem)
        for i, (n_in, n_out) in enumerate(pairwise((widths[0], *widths)), 1):
            parts[f"layer{i}"] = make_stage(BasicBlock, n_in, n_out, blocks, 1 if i == 1 else 2)
        super().__init__(parts, widths=widths, fan="fan_out", bn=bn)

    def shape(self, image_px: tuple[int, int], parts: int | None = None) -> tuple[int, int, int]:
        """Channels, rows and columns that come out of the first `parts` parts; None for all."""
        parts = len(self) if parts is None else parts
        if parts == 0:
            return 1, *image_px
        halved = 2 ** max(2, parts)  # the stem halves twice, the first stage not at all
        return self.widths[max(0, parts - 2)], *(-(-side // halved) for side in image_px)


class StillNet(nn.Module):
    """A classifier of single frames: one of these networks, the mean over its map, a linear layer.

    It pre-trains a `FrameNet` or a `Vgg11` on stills, and is the plain ResNet-18 or VGG-11 that
    Table VII trains on one frame of each clip, the apex or the max-key frame. A VGG-11 ends in
    three linear layers as published; the paper does not say what its own ends in.

    Args:
        frame_net: A `FrameNet` or a `Vgg11`. It is used as it is, not copied, so what is trained
            here is trained there.
        n_classes: Number of classes.
    """

    def __init__(self, frame_net: Parts, n_classes: int = 4):
        super().__init__()
        self.frame_net = frame_net
        self.classifier = make_linear(frame_net.widths[-1], n_classes)

    def forward(self, frames: Tensor, *, after: int = 0) -> Tensor:
        """Frames float32 (N, 1, H, W) in [0, 1] to logits (N, n_classes).

        With `after`, frames are what the first parts of the frame network made of them.

        Raises:
            BadInput: Another shape or dtype; values that are not finite or far out of range;
                frames too small for so many poolings.
        """
        if not after:
            _check_frames(frames, self.frame_net)
        return self.classifier(self.frame_net(frames, after=after).mean((-2, -1)))


def make_linear(n_in: int, n_out: int) -> nn.Linear:
    """A linear layer that starts as in the released code: Xavier normal, no bias."""
    layer = nn.Linear(n_in, n_out)
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _check_frames(frames: Tensor, net: Parts) -> None:
    """Refuse what is not (N, 1, H, W), large enough, of the weights' dtype, and in [-1, 2]."""
    check_tensor("frames", frames, "(N, 1, H, W)", (next(net.parameters()).dtype,))
    check_values("frames", frames, -1, 2)
    if min(frames.shape[-2:]) < net.least_px:
        remedy = f"give at least {net.least_px} px a side"
        raise BadInput("frames", f"are {tuple(frames.shape[-2:])} px", remedy)


def _chain(parts: Sequence[nn.Module], maps: Tensor) -> Tensor:
    for part in parts:
        maps = part(maps)
    return maps


# ---- adaptive key-frame mining (section III-B, eqs 5 to 12) --------------------------------------


@dataclass(frozen=True, eq=False)
class Mining:
    """What was mined in a batch of B clips with N frames in all, clip by clip.

    Attributes:
        lengths: Frames of each clip.
        kept: bool (N,), True for the frames that reach the GRU; at least one in each clip.
        alpha: float32 (N,) in (0, 1), attention; None without s1.
        beta: float64 (N,) in [0, 1], cosine with the clip's sum; None without s2. Where the device
            has no float64, beta is on the CPU, and with it kept.
        binary: float32 (N,), 1 where kept and 0 elsewhere, with the gradient of the binariser;
            None if nothing is selected.
    """

    lengths: tuple[int, ...]
    kept: Tensor
    alpha: Tensor | None = None
    beta: Tensor | None = None
    binary: Tensor | None = None

    @property
    def score(self) -> Tensor | None:
        """(N,), what the selection looks at: beta, or alpha without s2."""
        return self.alpha if self.beta is None else self.beta

    @property
    def takes(self) -> list[int]:
        """Number of frames kept of each clip."""
        return [int(clip.sum()) for clip in self.split(self.kept)]

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        """Values (N, ...) of all frames, clip by clip."""
        return values.split(self.lengths)

    def max_key(self) -> list[int]:
        """The max-key frame of each clip, 0-based: the first with the largest score.

        Raises:
            BadInput: Without mining there is none.
        """
        if self.score is None:
            raise BadInput("max_key", "nothing was mined", "use a network that mines")
        return [int(clip.argmax()) for clip in self.split(self.score)]


class Miner(nn.Module):
    """How much each frame matters, and which frames are kept.

    With p_t the spatial mean of frame t's map P_t

        s1, local self-attention   alpha_t = sigmoid(w . p_t + b)
        s2, global correlation     beta_t  = cos(p_t, G),   G = sum over t of alpha_t p_t
        s3, sparse selection       B_t     = 1 if beta_t > mean of beta over the clip, else 0

    The ablation drops one: s12 selects nothing, and keeps all frames times beta_t; s13 thresholds
    alpha; s23 has G = sum of p_t. The paper gives no wiring for them; these are the obvious ones.

    Two things to know. The threshold is the clip's own mean, so about half of the frames are kept,
    whatever the count loss says. And the cosine is largest near the *mean* expression of the clip
    that alpha weighs, not at its peak.

    Gradients of the binariser, which has none of its own. Ours, and the paper's (eqs 14 to 17):
    that of B_t goes to beta_t for kept frames, and is zero for the others. The mean counts as a
    constant.

    Args:
        channels: Channels of the maps.
        steps: "s123", "s12", "s13", "s23"; or "none": all frames pass, the paper's *va*.
        legacy_straight_through: The released rule: the gradient goes to all frames of a clip whose
            mean lies between 0 and 1, which it practically always does.
        legacy_selection: The released rule: a frame *at* the mean is kept as well. That matters
            only where frames are equal: of a clip of equal frames all are kept, and not one. (What
            the released program then does hangs on the rounding of the mean, and of a single frame
            it keeps none and fails; we keep one. Its choice of the checkpoint by test accuracy,
            also a selection, is no business of the model.)

    Raises:
        BadInput: Unknown steps.
    """

    def __init__(
        self,
        channels: int,
        steps: str = "s123",
        legacy_straight_through: bool = False,
        legacy_selection: bool = False,
    ):
        super().__init__()
        check_choice("steps", steps, STEPS)
        attention = make_linear(channels, 1)  # made in any case: all arms draw the same numbers
        self.attention = attention if "1" in steps else None
        self.steps = steps
        self.legacy_straight_through = legacy_straight_through
        self.legacy_selection = legacy_selection

    def forward(self, maps: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Mining]:
        """Mine the key frames of clips.

        Args:
            maps: float32 (N, channels, h, w), 0 or more: all frames, clip by clip.
            lengths: Frames in each clip, 1 or more; their sum is N.

        Returns:
            The maps of the kept frames, float32 (M, channels, h, w), in order; and the record.
        """
        lengths = tuple(lengths)
        kept = torch.ones(len(maps), dtype=torch.bool, device=maps.device)  # (N,)
        if self.steps == "none":
            return maps, Mining(lengths, kept)
        alpha, beta = self._scores(maps.mean((-2, -1)), lengths)  # (N,) each, of p (N, C)
        if self.steps == "s12":
            weighted = maps * beta.to(maps)[:, None, None, None]  # (N, C, h, w)
            return weighted, Mining(lengths, kept, alpha, beta)
        score, kind = (alpha, "alpha") if beta is None else (beta, "beta")
        kept = select(score, lengths, tie=_ROUNDING[kind], keep_ties=self.legacy_selection)
        passes = kept
        if self.legacy_straight_through:
            means = [clip.mean().expand_as(clip) for clip in score.detach().split(lengths)]
            passes = torch.cat([(mean > 0) & (mean < 1) for mean in means])
        binary = straight_through(score, kept, passes).to(maps)  # (N,)
        key = maps[kept] * binary[kept][:, None, None, None]  # (M, C, h, w), eq. 9
        return key, Mining(lengths, kept, alpha, beta, binary)

    def _scores(self, means: Tensor, lengths: Sequence[int]) -> tuple[Tensor | None, ...]:
        """Alpha float32 (N,) and beta float64 (N,) of p (N, C); None for a step that is dropped.

        Where the device has no float64, beta is on the CPU.
        """
        alpha = None
        if self.attention is not None:
            alpha = torch.sigmoid(self.attention(means)).squeeze(1)  # (N,), s1, eq. 5
        if "2" not in self.steps:
            return alpha, None
        # Cosines lie close together, by 1e-5 in a new network.
        vectors = means.to(wide(means.device), torch.float64)
        weighted = vectors if alpha is None else vectors * alpha.to(vectors)[:, None]  # (N, C)
        sums = [clip.sum(0).expand_as(clip) for clip in weighted.split(lengths)]  # G, eq. 6
        return alpha, functional.cosine_similarity(vectors, torch.cat(sums), dim=1)  # s2, eq. 7


def select(
    score: Tensor, lengths: Sequence[int], *, tie: float = 0.0, keep_ties: bool = False
) -> Tensor:
    """Which frames are above the mean of their clip (eq. 8); if none is, the first of the best.

    Args:
        score: float (N,), of all frames, clip by clip.
        lengths: Frames in each clip.
        tie: What differs by no more counts as equal.
        keep_ties: Keep what equals the mean.

    Returns:
        bool (N,), at least one in each clip.
    """
    kept = []
    for clip in score.detach().split(tuple(lengths)):
        above = clip - clip.mean()
        mask = above >= -tie if keep_ties else above > tie
        if not mask.any():
            mask = torch.zeros_like(mask)
            mask[(clip >= clip.max() - tie).int().argmax()] = True
        kept.append(mask)
    return torch.cat(kept)


def straight_through(score: Tensor, kept: Tensor, passes: Tensor) -> Tensor:
    """1 where kept, 0 elsewhere; its gradient goes to the score, unchanged, where `passes`.

    Args:
        score: float (N,), finite.
        kept: bool (N,).
        passes: bool (N,).

    Returns:
        The dtype of score (N,), exactly 0 and 1.
    """
    return kept.to(score.dtype) + passes * (score - score.detach())  # eqs 14 to 17


# ---- over time, and the whole network ------------------------------------------------------------


class PixelGru(nn.Module):
    """Two bidirectional GRU layers over time, shared by all positions of the map; then the mean.

    Weights start orthogonal, biases at 0.

    Args:
        inputs: Channels of the maps.
        hidden: Width of each direction.
        legacy_init: The released start: in the forward direction the biases are uniform in (0, 1);
            the reverse direction keeps PyTorch's defaults, which looks like an oversight.
    """

    def __init__(self, inputs: int, hidden: int, *, legacy_init: bool = False):
        super().__init__()
        self.gru = nn.GRU(inputs, hidden, num_layers=2, bidirectional=True)
        bias = nn.init.uniform_ if legacy_init else nn.init.zeros_
        for name, parameter in self.gru.named_parameters():
            if not (legacy_init and name.endswith("_reverse")):
                (nn.init.orthogonal_ if name.startswith("weight") else bias)(parameter)

    def forward(self, maps: Tensor, takes: Sequence[int]) -> Tensor:
        """Run over clips.

        Args:
            maps: float32 (M, inputs, h, w), the frames of all clips.
            takes: Frames of each clip, 1 or more; their sum is M.

        Returns:
            float32 (B, 2 hidden, h, w), the mean over the frames of each clip.
        """
        rows = maps.flatten(2).transpose(1, 2)  # (M, h w, inputs)
        places = rows.shape[1]
        clips = pack_sequence(rows.split(takes), enforce_sorted=False)
        # Each place of each clip is a sequence of its own, as long as the clip.
        steps = PackedSequence(clips.data.flatten(0, 1), clips.batch_sizes * places)
        states = self.gru(steps)[0].data.unflatten(0, (-1, places))  # (M, h w, 2 hidden)
        order = (clips.sorted_indices, clips.unsorted_indices)
        clips = unpack_sequence(PackedSequence(states, clips.batch_sizes, *order))
        means = torch.stack([clip.mean(0) for clip in clips])  # (B, h w, 2 hidden)
        return means.transpose(1, 2).unflatten(2, maps.shape[-2:])


class AkmOutput(NamedTuple):
    """What AKMNet gives for B clips: logits float32 (B, n_classes), and what was mined."""

    logits: Tensor
    mining: Mining


class AkmNet(nn.Module):
    """The class of a micro-expression from the key frames of its clip.

    ==============  ==============================================================  ==========
    part            layers                                                          parameters
    ==============  ==============================================================  ==========
    frame network   `FrameNet`: a ResNet-18 without pooling, 512 x 4 x 4            11,168,704
    miner           `Miner`: Linear 512 -> 1; cosine; threshold at the mean                513
    GRU             `PixelGru`: 2 layers of 32, bidirectional, shared by 16 places;    123,648
                    mean over the kept frames
    classifier      Dropout 0.5, Linear 64 x 4 x 4 -> 4                                  4,100
    ==============  ==============================================================  ==========

    Together 11,296,965, as released; all as released with ``bn="released"`` and every ``legacy_*``
    on. Arms of one seed start from the same weights. For a small benchmark take ``widths=(16, 24,
    40), image_px=48, gru_hidden=16``.

    Args:
        n_classes: Number of classes.
        steps: Steps of the mining: "s123", the ablations "s12", "s13", "s23", or "none" for all
            frames (*va-all*; *va-random* and the like get other frames, see `inputs.choose`).
        widths: Channels of the frame network's stages.
        blocks: Basic blocks in each stage.
        image_px: Side of a frame, or (rows, columns): the classifier has weights for every place.
        gru_hidden: Width of the GRU, each direction.
        bn: "packed", "released" or "frozen"; see `FrameNet`.
        legacy_straight_through: See `Miner`.
        legacy_selection: See `Miner`.
        legacy_gru_init: See `PixelGru`.

    Raises:
        BadInput: Unknown steps or mode, no width, frames too small for so many stages.
    """

    def __init__(
        self,
        n_classes: int = 4,
        *,
        steps: str = "s123",
        widths: Sequence[int] = WIDTHS,
        blocks: int = 2,
        image_px: int | tuple[int, int] = 128,
        gru_hidden: int = 32,
        bn: str = "packed",
        legacy_straight_through: bool = False,
        legacy_selection: bool = False,
        legacy_gru_init: bool = False,
    ):
        super().__init__()
        n_classes, gru_hidden = check_widths("n_classes, gru_hidden", (n_classes, gru_hidden))
        self.image_px = check_sides("image_px", image_px)
        self.frame_net = FrameNet(widths, blocks=blocks, bn=bn)
        widths = self.frame_net.widths
        _, rows, columns = self.frame_net.shape(self.image_px)
        if min(rows, columns) < 2:  # batch norm needs two values, were it one frame of one clip
            least = 2 ** (len(widths) + 1) + 1
            raise BadInput("image_px", f"is {self.image_px}", f"give at least {least} a side")
        self.miner = Miner(widths[-1], steps, legacy_straight_through, legacy_selection)
        classifier = make_linear(2 * gru_hidden * rows * columns, n_classes)
        self.gru = PixelGru(widths[-1], gru_hidden, legacy_init=legacy_gru_init)  # the last to draw
        self.dropout = nn.Dropout(0.5)
        self.classifier = classifier

    def forward(
        self,
        frames: Tensor | Sequence[Tensor],
        lengths: Tensor | Sequence[int] | None = None,
        *,
        after: int = 0,
    ) -> AkmOutput:
        """Classify clips.

        Args:
            frames: A batch float32 (B, T, 1, H, W) in [0, 1], grey, of clips of one length; or B
                clips (T, 1, H, W), T each its own; or the frames of all of them in one
                tensor (N, 1, H, W), clip by clip. The dtype is that of the weights.
            lengths: int (B,), frames of each clip, 1 or more; with the last form only.
            after: Parts of the frame network that the frames have passed already, so that frozen
                ones need not be computed in every epoch; see `FrameNet.frozen_maps`.

        Returns:
            Logits and mining.

        Raises:
            BadInput: No clip or frame, shapes, dtypes or lengths that do not fit; values that are
                not finite or, of frames, not in [-1, 2].
        """
        after = check_whole("after", after, least=0)
        axes = ", ".join(map(str, self.frame_net.shape(self.image_px, after)))
        frames, lengths = _packed(frames, lengths, axes, self.classifier.weight.dtype)
        check_values("frames", frames, *(() if after else (-1, 2)))  # (N, 1, H, W)
        maps = self.frame_net(frames, lengths, after=after)  # (N, 512, 4, 4)
        key, mining = self.miner(maps, lengths)  # (M, 512, 4, 4)
        fused = self.gru(key, mining.takes)  # (B, 64, 4, 4)
        logits = self.classifier(self.dropout(fused.flatten(1)))  # (B, 1024) -> (B, n_classes)
        return AkmOutput(logits, mining)


class OneFrame(StillNet):
    """A `StillNet` that takes clips of one frame each as an `AkmNet` does, and mines nothing."""

    def forward(self, frames: Tensor, lengths: Tensor, *, after: int = 0) -> AkmOutput:
        """Frames of N clips, as `StillNet` takes them, to logits (N, n_classes).

        Args:
            frames: One of each clip; with `after`, maps of the first parts of `frame_net`.
            lengths: int (N,), each 1.
            after: Parts that the frames have passed.
        """
        kept = torch.ones(len(frames), dtype=torch.bool, device=frames.device)
        mining = Mining(tuple(lengths.tolist()), kept)
        return AkmOutput(super().forward(frames, after=after), mining)


def _packed(frames, lengths, axes: str, dtype: torch.dtype) -> tuple[Tensor, list[int]]:
    """All frames in one tensor, and the length of each clip; a frame has these axes."""
    if getattr(frames, "ndim", 0) == 5:
        check_tensor("frames", frames, f"(B, T, {axes})", (dtype,))
        frames = tuple(frames)
    if isinstance(frames, Sequence):
        if lengths is not None:
            raise BadInput("lengths", "are given with a list of clips", "give one tensor of frames")
        for clip in frames:  # one of bytes would join the floats of others unscaled
            check_tensor("clips", clip, f"(T, {axes})", (dtype,))
        if not (lengths := [len(clip) for clip in frames]):
            raise BadInput("clips", "are none", "give one or more")
        frames = torch.cat(tuple(frames))
    else:
        check_tensor("frames", frames, f"(N, {axes})", (dtype,))
        lengths = list(check_widths("lengths", lengths))
    if not lengths or min(lengths) < 1 or sum(lengths) != len(frames):
        fault = f"are {lengths} for {len(frames)} frames"
        raise BadInput("lengths", fault, "give 1 or more for each clip, all frames together")
    return frames, lengths


# ---- the loss: cross-entropy, and the paper's GS-MMM on the mining -------------------------------


def akm_loss(
    output: AkmOutput, target: Tensor, *, count_weight: float = 0.1, margin_weight: float = 1.0
) -> Tensor:
    """Cross-entropy + 0.1 count + 1 margin, each the mean over the clips of the batch.

    A batch of 8 clips gives the gradient of the paper's mini-batch: 8 steps of one clip each, their
    losses divided by 8.

    Args:
        output: Of `AkmNet`, for B clips.
        target: int64 (B,), classes from 0.
        count_weight: Weight of `count_loss`; 0.1 in the paper.
        margin_weight: Weight of `margin_loss`; 1 in the paper.

    Returns:
        A scalar. Of an arm that selects nothing ("none", "s12") the cross-entropy alone.

    Raises:
        BadInput: Not one class for each clip.
    """
    logits, mining = output
    check_tensor("target", target, f"({len(logits)})", (torch.int64,))
    loss = functional.cross_entropy(logits, target)  # eq. 4
    if mining.binary is None:
        return loss
    margin = margin_loss(mining)  # in float64, where that is
    terms = count_weight * count_loss(mining).to(margin.device) + margin_weight * margin
    return loss + terms.to(loss)


def count_loss(mining: Mining) -> Tensor:
    """Mean over clips of max(0, kept frames - 1); its gradient is the binariser's.

    The released gradient cannot directly lower the number of kept frames: it pushes all scores of a
    clip down alike, and their mean with them. The paper's pushes only kept ones, towards the mean;
    some frame is always above it.

    Args:
        mining: With a selection.

    Returns:
        A scalar; 0 if no clip keeps more than one frame.

    Raises:
        BadInput: Nothing was selected.
    """
    clips = mining.split(_selected(mining).binary)
    return torch.stack([functional.relu(clip.sum() - 1) for clip in clips]).mean()


def margin_loss(mining: Mining) -> Tensor:
    """Mean over clips of 2 - (mean score of kept frames - mean score of dropped frames).

    The 2 is the range of a cosine. As scores are 0 or more, the value lies between 1 and 2. A clip
    of which no frame is dropped has no margin: it counts 2, without a gradient (NaN as released).

    Args:
        mining: With a selection.

    Returns:
        A scalar.

    Raises:
        BadInput: Nothing was selected.
    """
    margins = []
    scores = mining.split(_selected(mining).score)
    for score, kept in zip(scores, mining.split(mining.kept), strict=True):
        margin = score[kept].mean() - score[~kept].mean() if not kept.all() else score.new_zeros(())
        margins.append(2 - margin)
    return torch.stack(margins).mean()


def _selected(mining: Mining) -> Mining:
    if mining.binary is None:
        raise BadInput("mining", "has no selection", "its loss is of s123, s13 and s23 only")
    return mining
