"""AKMNet: find the key frames of a clip, and classify its micro-expression by them.

Peng, Wang, Gao, Bi, Chen, Shi and Zhou, *Recognizing Micro-Expression in Video Clip with Adaptive
Key-Frame Mining*, arXiv 2009.09179. Each frame goes through a ResNet-18 (`backbone`); the mining
module (`mining`) keeps some frames; a GRU runs over those, at each position of the map by itself.

A batch is clips of any length, without padding: their frames lie one after the other in one tensor.
So in evaluation mode a clip's result hangs on its own frames only, to rounding; in training batch
norm mixes the clips or not, as `bn` says.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

from micromacro.errors import BadInput
from micromacro.systems.akmnet.backbone import FrameNet, make_linear
from micromacro.systems.akmnet.mining import Miner, Mining

LEGACY = ("straight_through", "selection", "gru_init")  # the switches of `AkmNet`, after "legacy_"


class AkmOutput(NamedTuple):
    """What AKMNet says of B clips: logits float32 (B, n_classes), and what was mined."""

    logits: Tensor
    mining: Mining


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
        for name, parameter in self.gru.named_parameters():
            if legacy_init and name.endswith("_reverse"):
                continue
            if name.startswith("weight"):
                nn.init.orthogonal_(parameter)
            elif legacy_init:
                nn.init.uniform_(parameter)
            else:
                nn.init.zeros_(parameter)

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
        states = self.gru(steps)[0].data.unflatten(0, (-1, places))
        states = PackedSequence(
            states, clips.batch_sizes, clips.sorted_indices, clips.unsorted_indices
        )
        means = torch.stack([clip.mean(0) for clip in unpack_sequence(states)])
        return means.transpose(1, 2).unflatten(2, maps.shape[-2:])


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

    Together 11,296,965, as released; all as released with ``bn="released"`` and every ``legacy_*`` on.
    Arms of one seed start from the same weights. For a small benchmark take ``widths=(16, 24, 40),
    image_px=48, gru_hidden=16``.

    Args:
        n_classes: Classes.
        steps: Of the mining: "s123", the ablations "s12", "s13", "s23", or "none" for all frames
            (*va-all*; *va-random* and the like get other frames, see `variants` and `tim`).
        widths: Of the frame network's stages.
        blocks: Basic blocks in each stage.
        channels: Of a frame.
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
        widths: Sequence[int] = (64, 128, 256, 512),
        blocks: int = 2,
        channels: int = 1,
        image_px: int | tuple[int, int] = 128,
        gru_hidden: int = 32,
        bn: str = "packed",
        legacy_straight_through: bool = False,
        legacy_selection: bool = False,
        legacy_gru_init: bool = False,
    ):
        super().__init__()
        self.image_px = (image_px, image_px) if isinstance(image_px, int) else tuple(image_px)
        self.frame_net = FrameNet(widths, blocks=blocks, channels=channels, bn=bn)
        _, rows, columns = self.frame_net.shape(self.image_px)
        if min(rows, columns) < 2:  # batch norm needs two values, were it one frame of one clip
            least = 2 ** (len(widths) + 1) + 1
            raise BadInput("image_px", f"is {self.image_px}", f"give at least {least} a side")
        self.miner = Miner(
            widths[-1],
            steps,
            legacy_straight_through=legacy_straight_through,
            legacy_selection=legacy_selection,
        )
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
            frames: B clips, each float32 (T, channels, H, W) in [0, 1], T its own; or the frames of
                all of them in one tensor (N, channels, H, W), clip by clip.
            lengths: int (B,), frames of each clip, 1 or more; with one tensor of frames only.
            after: Parts of the frame network that the frames have passed already, so that frozen
                ones need not be computed in every epoch; see `FrameNet.frozen_maps`.

        Returns:
            Logits and mining.

        Raises:
            BadInput: No clip or frame, shapes or lengths that do not fit, NaN or infinite values.
        """
        frames, lengths = _packed(frames, lengths)
        due = self.frame_net.shape(self.image_px, after)
        if frames.ndim != 4 or frames.shape[1:] != due or not frames.is_floating_point():
            fault = f"are {frames.dtype} {tuple(frames.shape)}"
            raise BadInput("frames", fault, f"give float (N, {', '.join(map(str, due))})")
        if not frames.isfinite().all():
            raise BadInput("frames", "hold NaN or infinite values", "leave such frames out")
        maps = self.frame_net(frames, lengths, after=after)
        key, mining = self.miner(maps, lengths)
        fused = self.gru(key, mining.takes)
        return AkmOutput(self.classifier(self.dropout(fused.flatten(1))), mining)


def _packed(
    frames: Tensor | Sequence[Tensor], lengths: Tensor | Sequence[int] | None
) -> tuple[Tensor, list[int]]:
    """All frames in one tensor, and the length of each clip."""
    if not isinstance(frames, Tensor):
        if lengths is not None:
            raise BadInput("lengths", "are given with a list of clips", "give one tensor of frames")
        lengths = [len(clip) for clip in frames]
        if not lengths or {clip.shape[1:] for clip in frames} != {frames[0].shape[1:]}:
            fault = f"have shapes {[tuple(clip.shape) for clip in frames]}"
            raise BadInput("clips", fault, "give one or more, with frames of one size")
        frames = torch.cat(tuple(frames))
    elif lengths is None:
        raise BadInput("lengths", "are missing", "say how many of the frames each clip has")
    lengths = [int(length) for length in lengths]
    if not lengths or min(lengths) < 1 or sum(lengths) != len(frames):
        fault = f"are {lengths} for {len(frames)} frames"
        raise BadInput("lengths", fault, "give 1 or more for each clip, all frames together")
    return frames, lengths
