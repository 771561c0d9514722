"""MIMAMO Net: appearance and micro-motion of each snippet, a GRU over the snippets; its losses.

Deng, Chen, Zhou and Shi, *MIMAMO Net: Integrating Micro- and Macro-Motion for Video Emotion
Recognition*, AAAI 2020, arXiv 1911.09784. A snippet is 13 frames at 30 fps: one face in colour (the
centre frame) and 12 phase differences, so 0.4 s of micro-motion. Macro-motion is what the GRU sees.

Layers that the architecture figure leaves open (normalisation, dropout, order) are those of the
released code, github.com/wtomin/MIMAMO-Net: `MimamoNet` is its Aff-Wild network, which is also the
figure's; `OmgNet` its OMG-Emotion network. Initial weights are PyTorch's defaults, as there. The
figure draws a fourth block in PhaseNet and max-pooling; the released code, and we, have three
strided blocks. Names such as "B1" number the faults of the released code; `experiment` lists them.

Inputs are B sequences of S snippets; a mask (B, S) says which snippets exist. Inside, the N
snippets that exist are rows of one matrix: sequence by sequence, in order. So nothing of the
others, padding included, can reach a result or the statistics of a batch normalisation. A network
takes features and phase differences, not pixels, for both come from frozen computations;
`inputs.video_inputs` makes them of a plain batch of videos (B, T, 3, H, W).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from micromacro.errors import BadInput, check_choice, check_sizes, check_whole, check_widths
from micromacro.kernels.checks import FLOATS, check_tensor, check_values

STREAMS = ("both", "spatial", "temporal")
LEVELS = ("level_1", "level_2")


# ---- the two streams -----------------------------------------------------------------------------


class PhaseNet(nn.Module):
    """The temporal stream: phase differences of two pyramid levels to one vector per snippet.

    Each block is {3x3 convolution, batch norm, ReLU} twice; the stride of 2 in the second
    convolution halves the side. Level 2 joins after the first block, where the sides are equal.
    Dropout2d 0.2 follows every block but the first. With the defaults: 1,186,944 parameters.

    The mean goes over whatever is left, so other sides need no option. For 96 and 112 px the
    released code has four blocks: widths (64, 128, 256, 512).

    Args:
        channels: Number of maps per level, orientations x differences: 2 x 12.
        widths: Channels of the blocks, two blocks or more. The last is the length of the result,
            `out_features`.

    Raises:
        BadInput: Fewer than two widths.
    """

    def __init__(self, channels: int = 24, widths: Sequence[int] = (64, 128, 256)):
        super().__init__()
        (channels,) = check_sizes(phase_channels=channels)
        widths = check_widths("phase_widths", widths)
        if len(widths) < 2:
            raise BadInput("phase_widths", f"are {tuple(widths)}", "give two blocks or more")
        inputs = (channels, widths[0] + channels, *widths[1:-1])  # level 2 joins block 2
        self.blocks = nn.ModuleList(
            nn.Sequential(*_conv(n_in, n_out), *_conv(n_out, n_out, stride=2))
            for n_in, n_out in zip(inputs, widths, strict=True)
        )
        self.dropout = nn.Dropout2d(0.2)
        self.in_channels, self.out_features = channels, widths[-1]

    def forward(self, level_1: Tensor, level_2: Tensor) -> Tensor:
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
        maps = self.blocks[0](level_1)  # (N, 24, 48, 48) -> (N, 64, 24, 24)
        maps = torch.cat([maps, level_2], 1)  # (N, 88, 24, 24)
        for block in self.blocks[1:]:
            maps = self.dropout(block(maps))  # -> (N, 128, 12, 12) -> (N, 256, 6, 6)
        return maps.mean((-2, -1))  # (N, 256)


class TwoStreams(nn.Module):
    """What both networks share: one vector per stream for each snippet that exists.

    Both streams are made even where one is dropped, so with one seed all arms of an ablation start
    from the same weights there.
    """

    def __init__(
        self, streams: str, n_features: int, spatial: nn.Module, phase: PhaseNet, mlp: nn.Module
    ):
        super().__init__()
        check_choice("streams", streams, STREAMS)
        self.spatial = None if streams == "temporal" else spatial
        self.phase, self.phase_mlp = (None, None) if streams == "spatial" else (phase, mlp)
        maps = f"(B, S, {phase.in_channels}, h, w)"
        self._shapes = {"features": f"(B, S, {n_features})", "level_1": maps, "level_2": maps}
        for name in {"spatial": LEVELS, "temporal": ("features",)}.get(streams, ()):
            del self._shapes[name]

    def forward(
        self,
        features: Tensor | None = None,
        level_1: Tensor | None = None,
        level_2: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Predict for every snippet (`MimamoNet`), or for every utterance (`OmgNet`).

        Args:
            features: float32 (B, S, F), appearance of each snippet's centre frame. Not needed for
                "temporal". Of videos (B, T, 3, H, W) `inputs.video_inputs` makes all three.
            level_1: float32 (B, S, channels, h, w), rad, phase differences of pyramid level 1 as
                `PhaseNet` takes them, 48 px in the paper. Not needed for "spatial".
            level_2: float32 (B, S, channels, h / 2, w / 2), those of level 2.
            mask: bool (B, S), True where a snippet exists; None for all. What lies elsewhere, NaN
                too, has no influence: padding at the end of short sequences, gaps within.

        Returns:
            float32 (B, S, n_outputs), unbounded; NaN where there is no snippet. Of `OmgNet` (B,
            n_outputs); NaN for an utterance without any snippet.

        Raises:
            BadInput: A missing input, shapes or dtypes that do not fit, values of a snippet that
                are not finite; fewer than two snippets, or utterances with a snippet, in training.
        """
        inputs, lead = {"features": features, "level_1": level_1, "level_2": level_2}, "B, S"
        for name, shape in self._shapes.items():
            if (tensor := inputs[name]) is None:
                raise BadInput(name, "is missing", "this network needs it; see streams")
            check_tensor(name, tensor, shape.replace("B, S", lead), (self.head[1].weight.dtype,))
            lead = f"{tensor.shape[0]}, {tensor.shape[1]}"  # the same for all
        mask = _checked(mask, tensor.shape[:2], tensor.device)
        if self.training and mask.sum() < 2:
            raise BadInput("mask", "leaves less than two snippets", "batch norm trains on two")
        seen = {name: check_values(name, inputs[name][mask]) for name in self._shapes}  # (N, ...)
        rows = []
        if self.spatial is not None:
            rows.append(self.spatial(seen["features"]))  # (N, 2048) -> (N, 256)
        if self.phase is not None:
            vectors = self.phase(seen["level_1"], seen["level_2"])  # 2 x (N, 24, h, w) -> (N, 256)
            rows.append(self.phase_mlp(vectors))  # (N, 256)
        return self.read(rows, mask)  # by each network in its own way


def _conv(n_in: int, n_out: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1)
    return [conv, nn.BatchNorm2d(n_out), nn.ReLU()]


def _dense(n_in: int, n_out: int, dropout: float) -> list[nn.Module]:
    """A fully connected layer of the OMG network's MLP, of Aff-Wild's PhaseNet and its fusion."""
    return [nn.Linear(n_in, n_out), nn.ReLU(), nn.BatchNorm1d(n_out), nn.Dropout(dropout)]


def _affwild_dense(n_in: int, n_out: int) -> list[nn.Module]:
    """A fully connected layer of the Aff-Wild network's MLP: another order."""
    return [nn.Dropout(0.3), nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU()]


# ---- macro-motion, and the two networks ----------------------------------------------------------


class TimeGru(nn.Module):
    """Two bidirectional GRU layers along the snippets of each sequence.

    Snippets that do not exist are passed over: the state is carried across a gap, however long, to
    the next one. That is what the released program does too, where frames without a face are
    dropped together with their labels. (Phase differences never reach across a gap; see the
    snippets.)

    `legacy_axis` is released fault B1: tensors (batch, time, feature) go into a GRU that expects
    (time, batch, feature), in all three released networks. The GRU then runs along the batch, from
    one sequence to the next at the same step, and no macro-motion is modelled.
    """

    def __init__(self, inputs: int, hidden: int, *, dropout: float, legacy_axis: bool):
        super().__init__()
        self.hidden = check_whole("gru_hidden", hidden)
        self.gru = nn.GRU(inputs, self.hidden, num_layers=2, bidirectional=True, dropout=dropout)
        self.legacy_axis = legacy_axis

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Run over rows (N, inputs) of the N snippets in mask (B, S); (N, 2 hidden) comes back."""
        sequence, step = mask.nonzero(as_tuple=True)  # (N,) each
        order = (step if self.legacy_axis else sequence).argsort(stable=True)
        lengths = [n for n in mask.sum(0 if self.legacy_axis else 1).tolist() if n]
        if not lengths:
            return rows.new_zeros(0, 2 * self.hidden)
        packed = pack_sequence(rows[order].split(lengths), enforce_sorted=False)
        return torch.cat(unpack_sequence(self.gru(packed)[0]))[order.argsort()]


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
        n_outputs: Number of labels. The released two-output checkpoint reads 0 valence, 1 arousal;
            the figure draws one network for each label.
        n_features: F, length of the appearance feature: 2048 of ResNet-50 before its classifier.
        phase_channels: Number of maps per pyramid level, orientations x differences.
        phase_widths: Channels of PhaseNet's blocks.
        hidden: D, width of both streams' ends and of the fusion.
        gru_hidden: Width of the GRU, each direction.
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
        phase_channels: int = 24,
        phase_widths: Sequence[int] = (64, 128, 256),
        hidden: int = 256,
        gru_hidden: int = 128,
        streams: str = "both",
        recurrent: bool = True,
        dropout: float | None = None,
        legacy_gru_axis: bool = False,
    ):
        if legacy_gru_axis and not recurrent:
            raise BadInput("legacy_gru_axis", "asks for a GRU", "set recurrent=True")
        n_features, hidden = check_sizes(n_features=n_features, hidden=hidden)
        # The order in which parts are made decides their first weights: spatial, temporal, the
        # rest.
        spatial = [*_affwild_dense(n_features, hidden), *_affwild_dense(hidden, hidden)]
        phase = PhaseNet(phase_channels, phase_widths)
        mlp = [*_dense(phase.out_features, hidden, 0.3), *_dense(hidden, hidden, 0.3)]
        super().__init__(streams, n_features, nn.Sequential(*spatial), phase, nn.Sequential(*mlp))
        ends = 2 * hidden if streams == "both" else hidden
        self.fusion = nn.Sequential(*_dense(ends, hidden, 0.5))
        self.gru = None
        if recurrent:
            self.gru = TimeGru(hidden, gru_hidden, dropout=0.3, legacy_axis=legacy_gru_axis)
        self.head = _head(2 * self.gru.hidden if recurrent else hidden, n_outputs)
        if dropout is not None:
            for layer in self.modules():
                if isinstance(layer, nn.Dropout | nn.Dropout2d):
                    layer.p = dropout
                elif isinstance(layer, nn.GRU):
                    layer.dropout = dropout

    def read(self, streams: list[Tensor], mask: Tensor) -> Tensor:
        """Fusion, GRU and head."""
        rows = self.fusion(torch.cat(streams, 1))  # 2 x (N, 256) -> (N, 512) -> (N, 256)
        if self.gru is not None:
            rows = self.gru(rows, mask)  # (N, 256): 128 forwards, 128 backwards
        return _on_grid(self.head(rows), mask)  # (N, 2) -> (B, S, 2)


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
    stream alone, which the whole network never calls (PhaseNet's Linear 256 -> 1 and BatchNorm,
    259; the MLP's Linear 256 -> 1, 257).

    Of these, 2 x 12,288 have no effect when the GRU runs over time: only the last snippet is read,
    and there the upper layer's backward direction takes its first step, from a state of zero, so
    its recurrent weights never act. They are kept, as the released form has them. With the released
    axis (`legacy_gru_axis`) the output depends on the last snippet only.

    One snippet per second, up to 16, in the released program. "Last" is the last valid snippet.

    Args:
        n_outputs: Number of labels; the released program trains one network for each.
        n_features: F, as for `MimamoNet`; so are the following.
        phase_channels: Number of maps per pyramid level.
        phase_widths: Channels of PhaseNet's blocks.
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
        phase_widths: Sequence[int] = (64, 128, 256),
        hidden: int = 256,
        gru_hidden: int = 64,
        streams: str = "both",
        legacy_gru_axis: bool = False,
    ):
        n_features, hidden = check_sizes(n_features=n_features, hidden=hidden)
        spatial = [*_dense(n_features, hidden, 0.5), *_dense(hidden, hidden, 0.5)]
        phase = PhaseNet(phase_channels, phase_widths)
        mlp = [nn.Linear(phase.out_features, hidden), nn.ReLU(), nn.Dropout(0.2)]
        super().__init__(streams, n_features, nn.Sequential(*spatial), phase, nn.Sequential(*mlp))
        self.dropout = nn.Dropout(0.5)
        self.grus = nn.ModuleList(
            TimeGru(hidden, gru_hidden, dropout=0.5, legacy_axis=legacy_gru_axis)
            for _ in range(2 if streams == "both" else 1)
        )
        self.head = _head(len(self.grus) * self.grus[0].hidden, n_outputs)

    def read(self, streams: list[Tensor], mask: Tensor) -> Tensor:
        """A GRU for each stream; the head reads their last states."""
        lengths = mask.sum(1)  # (B,)
        seen = lengths > 0
        if self.training and seen.sum() < 2:
            raise BadInput("mask", "leaves less than two utterances", "batch norm trains on two")
        last = lengths.cumsum(0)[seen] - 1  # row of each utterance's last snippet
        ends = []
        for rows, gru in zip(streams, self.grus, strict=True):
            states = gru(self.dropout(rows), mask)  # (N, 256) -> (N, 128)
            forward, backward = states[last].relu().chunk(2, 1)  # 2 x (utterances seen, 64)
            ends.append(forward + backward)
        return _on_grid(self.head(torch.cat(ends, 1)), seen)  # (seen, 128) -> (B, 1)


def _head(n_in: int, n_outputs: int) -> nn.Sequential:
    n_outputs = check_whole("n_outputs", n_outputs)
    return nn.Sequential(nn.Dropout(0.5), nn.Linear(n_in, n_outputs), nn.BatchNorm1d(n_outputs))


def _on_grid(rows: Tensor, mask: Tensor) -> Tensor:
    """Rows (N, D) back to their places in the mask, (*mask.shape, D); NaN elsewhere."""
    grid = rows.new_full((*mask.shape, rows.shape[1]), torch.nan)
    grid[mask] = rows
    return grid


# ---- the losses ----------------------------------------------------------------------------------


def ccc_loss(
    prediction: Tensor, target: Tensor, mask: Tensor | None = None, *, legacy_loss: bool = False
) -> Tensor:
    """Sum over labels of 1 - CCC, each CCC pooled over all snippets of the batch.

    With means m, population variances s^2 and covariance c of a label over them (Lin 1989)

        CCC = 2 c / (s_p^2 + s_t^2 + (m_p - m_t)^2)

    The released loss is -CCC summed over labels: the same gradient, but for the variances. Those of
    the released loss are unbiased (n - 1), while its evaluation and ours, `metrics.ccc`, use the
    population's; here the loss does so too, so that it is 1 - the score. A prediction that is
    constant has a CCC of 0 and still a gradient; where the target is the same constant, none.

    Args:
        prediction: float (B, S, n_outputs), or (B, n_outputs) for one label per sequence.
        target: float, same shape. Valence and arousal lie in [-1, 1]; nothing here needs that.
        mask: bool, the same shape without the last axis, True where a snippet is valid; None for
            all. Elsewhere both may hold anything, NaN too.
        legacy_loss: Released fault B2: the time axis is taken for that of the labels. Only the
            snippets 0 ... n_outputs - 1 of each sequence enter; CCC number i pools snippet i of all
            sequences with all its labels mixed. Unbiased variances, as released. For (B, n_outputs)
            the labels are where the released loss looks for them, and only the variances differ.

    Returns:
        A scalar in [0, 2 n_outputs], float32 (float64 if both are).

    Raises:
        BadInput: Shapes that do not fit, or fewer than two values for a CCC.
    """
    mask = _valid(prediction, target, mask)
    n_outputs = prediction.shape[-1]
    if not legacy_loss:
        pairs = zip(prediction[mask].unbind(-1), target[mask].unbind(-1), strict=True)
    elif prediction.shape[1] < n_outputs:
        fault = f"has {prediction.shape[1]} snippets for {n_outputs} labels"
        raise BadInput("prediction", fault, "legacy_loss needs as many snippets as labels")
    else:  # index i of axis 1, which is the time's where it should be the labels'
        seen = [mask[:, i] if mask.ndim == 2 else mask for i in range(n_outputs)]
        pairs = [(prediction[rows, i], target[rows, i]) for i, rows in enumerate(seen)]
    return sum(1 - _ccc(p.flatten(), t.flatten(), correction=int(legacy_loss)) for p, t in pairs)


def mse_loss(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error over all labels of all valid snippets; the released alternative.

    Args:
        prediction: float (B, S, n_outputs) or (B, n_outputs).
        target: float, same shape.
        mask: bool, the same shape without the last axis; None for all.

    Returns:
        A scalar.

    Raises:
        BadInput: Shapes that do not fit, or no valid snippet.
    """
    mask = _valid(prediction, target, mask)
    if not mask.any():
        raise BadInput("mask", "leaves nothing", "drop this batch")
    return (prediction[mask] - target[mask]).square().mean()


def _ccc(prediction: Tensor, target: Tensor, *, correction: int) -> Tensor:
    if len(target) < 2:
        raise BadInput("mask", f"leaves {len(target)} for a CCC", "give batches of two or more")
    dtype = torch.promote_types(prediction.dtype, torch.float32)  # half precision is too coarse
    p, t = prediction.to(dtype), target.to(dtype)
    shift = p.mean() - t.mean()
    p, t = p - p.mean(), t - t.mean()
    covariance, spread = (p * t).sum(), p.square().sum() + t.square().sum()
    scale = len(t) - correction
    below = spread / scale + shift.square()
    return 2 * covariance / scale / below.clamp(min=torch.finfo(dtype).tiny)


def _valid(prediction: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    """The mask, of everything if none is given, after a look at the shapes."""
    for name, values in (("prediction", prediction), ("target", target)):
        check_tensor(name, values, "(B, ...)", FLOATS)
    shape = prediction.shape
    if prediction.ndim not in (2, 3) or target.shape != shape:
        fault = f"have shapes {tuple(shape)} and {tuple(target.shape)}"
        raise BadInput("prediction and target", fault, "give (B, S, n) or (B, n) for both")
    return _checked(mask, shape[:-1], prediction.device)


def _checked(mask: Tensor | None, shape: Sequence[int], device: torch.device) -> Tensor:
    """A mask of that shape, of everything if none is given."""
    if mask is None:
        return torch.ones(tuple(shape), dtype=torch.bool, device=device)
    check_tensor("mask", mask, str(tuple(shape)), (torch.bool,))
    return mask.to(device)
