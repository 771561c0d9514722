"""MIMAMO Net: appearance and micro-motion of each snippet, a GRU over the snippets.

Deng, Chen, Zhou and Shi, *MIMAMO Net: Integrating Micro- and Macro-Motion for Video Emotion
Recognition*, AAAI 2020, arXiv 1911.09784. A snippet is 13 frames at 30 fps: one face in colour (the
centre frame) and 12 phase differences, so 0.4 s of micro-motion. Macro-motion is what the GRU sees.

Layers that the architecture figure leaves open (normalisation, dropout, order) are those of the
released code, github.com/wtomin/MIMAMO-Net: `MimamoNet` is its Aff-Wild network, which is also the
figure's; `OmgNet` its OMG-Emotion network. Initial weights are PyTorch's defaults, as there.

Inputs are B sequences of S snippets; a mask (B, S) says which snippets exist. Inside, the snippets
that exist are rows of one matrix: sequence by sequence, in order. So nothing of the others, padding
included, can reach a result or the statistics of a batch normalisation.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from micromacro.errors import BadInput
from micromacro.systems.mimamo.streams import (
    PhaseNet,
    TwoStreams,
    affwild_dense,
    dense,
    image_cnn,
)


class TimeGru(nn.Module):
    """Two bidirectional GRU layers along the snippets of each sequence.

    Snippets that do not exist are passed over: the state is carried across a gap, however long, to
    the next one. That is what the released program does too, where frames without a face are dropped
    together with their labels. (Phase differences never reach across a gap; see the snippets.)

    `legacy_axis` is released fault B1: tensors (batch, time, feature) go into a GRU that expects
    (time, batch, feature), in all three released networks. The GRU then runs along the batch, from
    one sequence to the next at the same step, and no macro-motion is modelled.
    """

    def __init__(self, inputs: int, hidden: int, *, dropout: float, legacy_axis: bool):
        super().__init__()
        self.gru = nn.GRU(inputs, hidden, num_layers=2, bidirectional=True, dropout=dropout)
        self.legacy_axis = legacy_axis

    def forward(self, rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Run over rows (N, inputs) of the N snippets in mask (B, S); (N, 2 hidden) comes back."""
        if not self.legacy_axis:
            return self._along_sequences(rows, mask)
        across = _on_grid(rows, mask).transpose(0, 1)[mask.T]  # step by step, sequence in sequence
        across = self._along_sequences(across, mask.T)
        return _on_grid(across, mask.T).transpose(0, 1)[mask]

    def _along_sequences(self, rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        lengths = [length for length in mask.sum(1).tolist() if length]
        if not lengths:
            return rows.new_zeros(0, 2 * self.gru.hidden_size)
        packed = pack_sequence(rows.split(lengths), enforce_sorted=False)
        return torch.cat(unpack_sequence(self.gru(packed)[0]))


class MimamoNet(TwoStreams):
    """Valence and arousal for every snippet: the paper's figure, the released Aff-Wild network.

    ==================  ========================================================  ==========
    part                layers                                                    parameters
    ==================  ========================================================  ==========
    spatial             2 x {Dropout 0.3, Linear 256, BatchNorm, ReLU} on 2048       591,360
    temporal            `PhaseNet`, then 2 x {Linear 256, ReLU, BatchNorm,         1,319,552
                        Dropout 0.3}
    fusion              concatenate, Linear 512 -> 256, ReLU, BatchNorm,             131,840
                        Dropout 0.5
    GRU                 2 layers of 128, bidirectional, Dropout 0.3 between          592,896
    head, each step     Dropout 0.5, Linear 256 -> 2, BatchNorm                          518
    ==================  ========================================================  ==========

    Together 2,636,166. The released network has 2,636,425: its PhaseNet carries a head of 259
    (Linear 256 -> 1, BatchNorm) for training it alone, which the whole network never calls.

    No tanh or sigmoid bounds the output: in training each output has mean 0 and deviation 1 over
    the valid snippets of the batch, times and plus what the last BatchNorm learns. In eval mode a
    prediction depends on its own sequence only (but see `legacy_gru_axis`), to rounding.

    Args:
        n_outputs: Labels. The released two-output checkpoint reads 0 valence, 1 arousal; the figure
            draws one network for each label.
        n_features: F, length of the appearance feature: 2048 of ResNet-50 before its classifier.
        image_widths: Instead of features, images: a small CNN of these widths, trained with the
            rest, stands in for the frozen ResNet-50. Stride-2 3x3 convolutions with BatchNorm and
            ReLU, mean over the map, Linear, BatchNorm, ReLU. `n_features` is then unused.
        image_channels: Of those images.
        phase_channels: Maps per pyramid level, orientations x differences.
        phase_widths: Of PhaseNet's blocks; None for those of the paper.
        hidden: D, width of both streams' ends and of the fusion.
        gru_hidden: Width of the GRU, each direction.
        blocks: PhaseNet's form, "strided" (released code) or "figure".
        streams: "both", or the ablations "spatial" and "temporal". The fusion layer stays.
        recurrent: False leaves out the GRU: the head reads the fusion of each snippet by itself.
        dropout: One rate in place of all those of the table; None keeps them. Narrow networks, as
            on the benchmark, lose too much at 0.5.
        legacy_gru_axis: Released fault B1: the GRU runs along the batch (`TimeGru`), predictions
            depend on batch mates and not on the sequence's other snippets.

    Raises:
        BadInput: An option that is unknown, or `legacy_gru_axis` without a GRU.
    """

    def __init__(
        self,
        n_outputs: int = 2,
        *,
        n_features: int = 2048,
        image_widths: Sequence[int] | None = None,
        image_channels: int = 3,
        phase_channels: int = 24,
        phase_widths: Sequence[int] | None = None,
        hidden: int = 256,
        gru_hidden: int = 128,
        blocks: str = "strided",
        streams: str = "both",
        recurrent: bool = True,
        dropout: float | None = None,
        legacy_gru_axis: bool = False,
    ):
        if legacy_gru_axis and not recurrent:
            raise BadInput("legacy_gru_axis", "asks for a GRU", "set recurrent=True")
        if image_widths is None:
            spatial = [*affwild_dense(n_features, hidden), *affwild_dense(hidden, hidden)]
            shape = (n_features,)
        else:
            spatial = image_cnn(image_channels, image_widths, hidden)
            shape = (image_channels, None, None)
        phase = PhaseNet(phase_channels, phase_widths, blocks=blocks)
        mlp = [*dense(phase.out_features, hidden, 0.3), *dense(hidden, hidden, 0.3)]
        super().__init__(streams, nn.Sequential(*spatial), shape, phase, nn.Sequential(*mlp))
        ends = 2 * hidden if streams == "both" else hidden
        self.fusion = nn.Sequential(*dense(ends, hidden, 0.5))
        self.gru = None
        if recurrent:
            self.gru = TimeGru(hidden, gru_hidden, dropout=0.3, legacy_axis=legacy_gru_axis)
        self.head = _head(2 * gru_hidden if recurrent else hidden, n_outputs)
        if dropout is not None:
            self._set_dropout(dropout)

    def _set_dropout(self, rate: float) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Dropout | nn.Dropout2d):
                layer.p = rate
            elif isinstance(layer, nn.GRU):
                layer.dropout = rate

    @staticmethod
    def omg(n_outputs: int = 1, **options) -> "OmgNet":
        """The form for OMG-Emotion, one prediction per utterance: `OmgNet` with these options."""
        return OmgNet(n_outputs, **options)

    def forward(
        self,
        features: torch.Tensor | None = None,
        level_1: torch.Tensor | None = None,
        level_2: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict for every snippet.

        Args:
            features: float32 (B, S, F), appearance of each snippet's centre frame; or images (B, S,
                C, H, W) in [0, 1] if made with `image_widths`. Not needed for "temporal".
            level_1: float32 (B, S, channels, h, w), rad, phase differences of pyramid level 1 as
                `PhaseNet` takes them, 48 px in the paper. Not needed for "spatial".
            level_2: float32 (B, S, channels, h / 2, w / 2), those of level 2.
            mask: bool (B, S), True where a snippet exists; None for all. What lies elsewhere, NaN
                too, has no influence: padding at the end of short sequences, gaps within.

        Returns:
            float32 (B, S, n_outputs), unbounded; NaN where there is no snippet.

        Raises:
            BadInput: A missing input, shapes that do not fit, fewer than two snippets in training.
        """
        mask = self.valid(mask, features=features, level_1=level_1, level_2=level_2)
        rows = self.fusion(torch.cat(self.encode(features, level_1, level_2, mask), 1))
        if self.gru is not None:
            rows = self.gru(rows, mask)
        return _on_grid(self.head(rows), mask)


class OmgNet(TwoStreams):
    """One prediction for each utterance: the released OMG-Emotion network, with its default flags.

    ==================  ========================================================  ==========
    part                layers                                                    parameters
    ==================  ========================================================  ==========
    spatial             2 x {Linear 256, ReLU, BatchNorm, Dropout 0.5} on 2048       591,360
    temporal            `PhaseNet`, then Linear 256, ReLU, Dropout 0.2             1,252,736
    GRU of each stream  Dropout 0.5; 2 layers of 64, bidirectional, Dropout 0.5    2x198,144
                        between; ReLU; both directions summed; last snippet
    head                concatenate, Dropout 0.5, Linear 128 -> 1, BatchNorm             131
    ==================  ========================================================  ==========

    Together 2,240,515. The released network has 2,241,031: 516 belong to heads for training each
    stream alone, which the whole network never calls (PhaseNet's Linear 256 -> 1 and BatchNorm, 259;
    the MLP's Linear 256 -> 1, 257).

    Of these, 2 x 12,288 have no effect when the GRU runs over time: only the last snippet is read,
    and there the upper layer's backward direction takes its first step, from a state of zero, so its
    recurrent weights never act. They are kept, as the released form has them. With the released
    axis (`legacy_gru_axis`) the output depends on the last snippet only.

    One snippet per second, up to 16, in the released program. "Last" is the last valid snippet.

    Args:
        n_outputs: Labels; the released program trains one network for each.
        n_features: F, as for `MimamoNet`; so are the following.
        phase_channels: Maps per pyramid level.
        phase_widths: Of PhaseNet's strided blocks; None for the paper's.
        hidden: Width of both streams' ends.
        gru_hidden: Width of the GRUs, each direction.
        streams: "both", "spatial" or "temporal".
        legacy_gru_axis: Released fault B1, as for `MimamoNet`.

    Raises:
        BadInput: An option that is unknown.
    """

    def __init__(
        self,
        n_outputs: int = 1,
        *,
        n_features: int = 2048,
        phase_channels: int = 24,
        phase_widths: Sequence[int] | None = None,
        hidden: int = 256,
        gru_hidden: int = 64,
        streams: str = "both",
        legacy_gru_axis: bool = False,
    ):
        spatial = [*dense(n_features, hidden, 0.5), *dense(hidden, hidden, 0.5)]
        phase = PhaseNet(phase_channels, phase_widths)
        mlp = [nn.Linear(phase.out_features, hidden), nn.ReLU(), nn.Dropout(0.2)]
        super().__init__(
            streams, nn.Sequential(*spatial), (n_features,), phase, nn.Sequential(*mlp)
        )
        self.dropout = nn.Dropout(0.5)
        self.grus = nn.ModuleList(
            TimeGru(hidden, gru_hidden, dropout=0.5, legacy_axis=legacy_gru_axis)
            for _ in range(2 if streams == "both" else 1)
        )
        self.head = _head(len(self.grus) * gru_hidden, n_outputs)

    def forward(
        self,
        features: torch.Tensor | None = None,
        level_1: torch.Tensor | None = None,
        level_2: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict for every utterance.

        Args:
            features: float32 (B, S, F), as for `MimamoNet.forward`; so are the following.
            level_1: float32 (B, S, channels, h, w), rad.
            level_2: float32 (B, S, channels, h / 2, w / 2), rad.
            mask: bool (B, S), True where a snippet exists; None for all.

        Returns:
            float32 (B, n_outputs), unbounded; NaN for an utterance without any snippet.

        Raises:
            BadInput: As `MimamoNet.forward`; fewer than two utterances with a snippet in training.
        """
        mask = self.valid(mask, features=features, level_1=level_1, level_2=level_2)
        streams = self.encode(features, level_1, level_2, mask)
        lengths = mask.sum(1)
        seen = lengths > 0
        if self.training and seen.sum() < 2:
            raise BadInput("mask", "leaves less than two utterances", "batch norm trains on two")
        last = lengths.cumsum(0)[seen] - 1  # row of each utterance's last snippet
        ends = []
        for rows, gru in zip(streams, self.grus, strict=True):
            forward, backward = gru(self.dropout(rows), mask)[last].relu().chunk(2, 1)
            ends.append(forward + backward)
        return _on_grid(self.head(torch.cat(ends, 1)), seen)


def _head(n_in: int, n_outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Dropout(0.5), nn.Linear(n_in, n_outputs), nn.BatchNorm1d(n_outputs))


def _on_grid(rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Rows (N, D) back to their places in the mask, (*mask.shape, D); NaN elsewhere."""
    grid = rows.new_full((*mask.shape, rows.shape[1]), torch.nan)
    grid[mask] = rows
    return grid
