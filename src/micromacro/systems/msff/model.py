"""Multiple spatio-temporal features, fused: four networks that each score seven emotions.

Lu et al., *Multiple Spatio-temporal Feature Learning for Video-based Emotion Recognition in the
Wild*, ICMI 2018, DOI 10.1145/3242969.3264992. Of the paper we have seen the abstract alone. It
states:

==========  ========================================================================================
stream      the abstract's words, in ours
==========  ========================================================================================
``vgg``     VGG-Face, pre-trained, makes a feature of each frame; a BLSTM goes through all frames.
``resnet``  ResNet-50, pre-trained, likewise.
``c3d``     A deep 3D CNN looks at several frames in a row.
``audio``   Sound becomes pictures of its spectrum, which a VGG and a BLSTM go through.
==========  ========================================================================================

The scores of the four are fused afterwards (``fusion.py``), so each stream is trained by itself.
All else is our choice, near what neighbours did: C3D (Tran et al. 2015) as the 3D CNN, VGGish
(Hershey et al. 2017) as the VGG of sound, feature layers, size and read-out of the BLSTM, dropout.

Every still or spectrum goes through its CNN alone, and padding goes through no layer at all. A clip
without rows, such as one without a face, gets the logits 0: each class is as likely, and nothing is
learned from it.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from micromacro.backbones import PRETRAINED, Bottleneck, conv_blocks, resnet
from micromacro.errors import BadInput, check_choice, check_sizes, check_whole, check_widths
from micromacro.kernels.checks import check_tensor, check_values
from micromacro.ragged import row_mask, trimmed

EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
"""The classes in the order of all logits: AFEW's folders by the alphabet."""

READOUTS = ("mean", "last", "max")
BLOCK = 16  # frames that C3D sees at a time
PIECE = 64  # pictures that a network in evaluation mode computes at a time: memory
VGG_FACE_MEAN = (129.186, 104.762, 93.594)  # red, green, blue
KINETICS_MEAN = (110.201, 100.640, 95.995)  # torchvision's, of 0 to 255
KINETICS_DEVIATION = (58.148, 56.470, 55.332)

# Convolutions of each block; see `Encoder`.
_VGG_16, _VGG_11, _C3D = (2, 2, 3, 3, 3), (1, 1, 2, 2), (1, 1, 2, 2, 2)


# ---- one picture, or one block of frames, to a vector --------------------------------------------


class Encoder(nn.Module):
    """Convolutions of side 3 in blocks, with ReLU, then fc6, fc7, fc8: all three of our VGGs.

    Args:
        conv: ``nn.Conv2d`` or ``nn.Conv3d``.
        n_in: Channels of the input.
        plan: Convolutions of each block. A block has twice as many channels as the one before, up
            to eight times the first one's; a pooling that halves the map follows it.
        cells: Cells of the last map.
        sizes: Channels of the first convolution, width of fc6 and fc7, classes: the width of fc8.
        layer: "fc6", "fc7" or "fc8": what `features` gives, after its ReLU. The paper does not say;
            two neighbours take fc6 for the BLSTM.
        dropout: Share of fc6 and of fc7 left out in training.
        batch_norm: Batch norm behind each convolution, for training from scratch. The published
            networks have none.
        mean: Red, green and blue of the mean picture, where white is 255; taken off.
        scale: What the rest is divided by. 1 suits published weights; about 60, the deviation of
            pictures, a training from scratch.
        image_px: Side of the pictures, to which others are resized (bilinear, antialiased); None
            for what is no picture.

    Attributes:
        n_features: Numbers that `features` gives.

    Raises:
        BadInput: An unknown layer, or a size that is none.
    """

    def __init__(
        self,
        conv: type[nn.Module],
        n_in: int,
        plan: Sequence[int],
        cells: int,
        sizes: Sequence[int],
        *,
        layer: str = "fc6",
        dropout: float = 0.5,
        batch_norm: bool = False,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        scale: float = 1.0,
        image_px: int | None = None,
    ):
        super().__init__()
        width, hidden, classes = check_widths("width, hidden, classes", sizes)
        check_choice("layer", layer, ("fc6", "fc7", "fc8"))
        self.convs = conv_blocks(conv, n_in, width, plan, batch_norm)
        self.fc6, self.fc7 = nn.Linear(cells * 8 * width, hidden), nn.Linear(hidden, hidden)
        self.fc8, self.dropout = nn.Linear(hidden, classes), nn.Dropout(dropout)
        self.layer, self.n_features = layer, getattr(self, layer).out_features
        self.mean, self.scale, self.image_px = tuple(mean), scale, image_px
        _he(self)
        if layer != "fc8":
            nn.init.normal_(self.fc8.weight, std=0.01)  # the first logits are near 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of what `features` takes."""
        return self.fc8(self.dropout(self._until("fc7", x)))  # (B, 4096) -> (B, classes)

    def features(self, x: Tensor) -> Tensor:
        """Features (B, n_features), not negative, of what the network's `prepared` takes."""
        return self(x).relu() if self.layer == "fc8" else self._until(self.layer, x)

    def _until(self, layer: str, x: Tensor) -> Tensor:
        x = self.convs(self.prepared(x)).flatten(1)  # (B, 512, 7, 7) -> (B, 25088)
        x = self.fc6(x).relu()  # (B, 4096)
        return x if layer == "fc6" else self.fc7(self.dropout(x)).relu()  # (B, 4096)

    def prepared(self, images: Tensor) -> Tensor:
        """What the first convolution sees: pictures of its size, less the mean.

        Args:
            images: float32 (B, C, H, W) in [0, 1]; C = 3: red, green, blue, or 1: grey, used
                thrice.

        Returns:
            float32 (B, 3, image_px, image_px).

        Raises:
            BadInput: Another shape or dtype; values that are not finite or outside [0, 1].
        """
        return _pixels("images", images, self)


class VggFace(Encoder):
    """VGG-16 as Parkhi et al. (2015) trained it on 2622 people: 145,002,878 parameters.

    The published weights want red, green, blue, in this order, from 0 to 255, and their means in
    the same order taken off. Several ports feed blue, green, red and take the means off as red,
    green, blue; nothing stops, and the features are those of faces in wrong colours. Here a caller
    gives RGB in [0, 1], and the network does the rest.

    Args:
        width: Channels of the first block; the last one has eight times as many.
        hidden: Width of fc6 and fc7.
        classes: People, or whatever else fc8 tells apart.
        options: ``layer``, ``batch_norm``, ``mean``, ``scale`` and ``image_px`` of `Encoder`. 48 px
            and a width of 8 suit the benchmark.

    Raises:
        BadInput: As `Encoder`; pictures of fewer than 32 px.
    """

    def __init__(self, width: int = 64, hidden: int = 4096, classes: int = 2622, **options):
        options = {"mean": VGG_FACE_MEAN, "image_px": 224} | options
        cells = (check_whole("image_px", options["image_px"], 32) // 32) ** 2
        super().__init__(nn.Conv2d, 3, _VGG_16, cells, (width, hidden, classes), **options)


class SpectrogramVgg(Encoder):
    """VGGish, a VGG-11 without its last block, on 0.96 s of sound: 72,141,184 parameters.

    fc8 gives the 128 numbers that stand for the segment; there is no dropout, as published.

    Args:
        width: Channels of the first block; the last one has eight times as many.
        hidden: Width of fc6 and fc7.
        classes: Numbers a segment.
        options: ``batch_norm`` of `Encoder`.

    Raises:
        BadInput: As `Encoder`.
    """

    def __init__(self, width: int = 64, hidden: int = 4096, classes: int = 128, **options):
        options = {"layer": "fc8", "dropout": 0.0, "image_px": None} | options
        if options["image_px"] is not None:
            raise BadInput("image_px", "spectra have one size, 96 x 64", "leave it out")
        super().__init__(nn.Conv2d, 1, _VGG_11, 6 * 4, (width, hidden, classes), **options)

    def prepared(self, segments: Tensor) -> Tensor:
        """The segments as they are: log-mel of ``inputs.py``, (B, 1, 96, 64), time by pitch.

        Raises:
            BadInput: Another shape or dtype; values that are not finite.
        """
        check_tensor("segments", segments, "(B, 1, 96, 64)", (self.fc6.weight.dtype,))
        return check_values("segments", segments)


class C3d(Encoder):
    """C3D (Tran et al. 2015) on the frames of a clip, 16 at a time: 78,024,455 parameters.

    The original's pooling lets a last window hang over the edge (Caffe rounds up), so the last map
    of 112 px is 4 x 4 and fc6 has 8192 inputs. Ports to PyTorch get as many by padding the map on
    all sides instead, which shifts every window by one: the published weights then see other maps.

    A clip's logits are the mean over its blocks, our choice: fusion wants logits to calibrate. Fan
    et al. (2016) average softmax scores.

    Args:
        width: Channels of the first layer; the last one has eight times as many.
        hidden: Width of fc6 and fc7.
        classes: Number of classes.
        options: Of `Encoder`; 48 px and a width of 8 suit the benchmark. The mean of the Sports-1M
            weights is a file of its own, a mean block; the port feeds 0 to 255 as it is. So the
            mean is 0 unless given.

    Raises:
        BadInput: As `Encoder`; frames of fewer than 16 px.
    """

    def __init__(
        self, width: int = 64, hidden: int = 4096, classes: int = len(EMOTIONS), **options
    ):
        options = {"image_px": 112} | options
        cells = ((check_whole("image_px", options["image_px"], 16) // 16 + 1) // 2) ** 2
        super().__init__(nn.Conv3d, 3, _C3D, cells, (width, hidden, classes), **options)
        self.convs.pool1 = nn.MaxPool3d((1, 2, 2))  # fast motion is not pooled away at once
        self.convs.pool5 = nn.MaxPool3d(2, ceil_mode=True)

    def forward(self, faces: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Score clips.

        Args:
            faces: float32 (B, T, C, H, W) in [0, 1], RGB or grey, padded at the end. What the
                padding holds has no influence.
            lengths: int64 (B,), frames of each clip, 0 to T; None: all have T.

        Returns:
            Logits float32 (B, classes); 0 for a clip without frames.

        Raises:
            BadInput: Shapes, dtypes or lengths that do not fit; values that are not finite or
                outside [0, 1].
        """
        return _by_blocks(super().forward, faces, lengths, self, self.fc8.out_features)

    def prepared(self, blocks: Tensor) -> Tensor:
        """Resize the frames of blocks (N, 16, C, H, W); float32 (N, 3, 16, image_px, image_px)."""
        return _solid(blocks, self)


class R3d18(nn.Module):
    """R3D-18 (Tran et al. 2018) as torchvision builds it: 33,169,863 parameters.

    The practical stand-in for `C3d`, whose weights are hard to come by: torchvision has some for
    this network, of Kinetics-400; see `stills.load_published`. Blocks, and the mean over them, are
    as there.

    Args:
        classes: Number of classes.
        image_px: Side of the frames; others are resized.

    Raises:
        BadInput: No class; frames of fewer than 16 px.
    """

    def __init__(self, classes: int = len(EMOTIONS), *, image_px: int = 112):
        from torchvision.models.video import r3d_18  # takes seconds, and no other network needs it

        super().__init__()
        (classes,) = check_sizes(classes=classes)
        self.net, self.image_px = r3d_18(num_classes=classes), check_whole("image_px", image_px, 16)
        self.mean, self.scale = KINETICS_MEAN, KINETICS_DEVIATION

    def forward(self, faces: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Score clips; as `C3d.forward`."""
        look = lambda blocks: self.net(_solid(blocks, self))  # noqa: E731
        return _by_blocks(look, faces, lengths, self, self.net.fc.out_features)


class ResNet50(nn.Module):
    """ResNet-50 (He et al. 2016) that can be trained, its blocks those of `micromacro.backbones`.

    With the defaults its features have 23,508,032 parameters. Published weights go into
    `FrozenResNet50`, whose port for faces has its strides elsewhere; see `stills.load_published`.

    Args:
        width: Channels of the stem; the features are 32 times as many.
        blocks: Blocks in each of the four stages. (1, 1, 1, 1) and a width of 8 suit 48 px.
        classes: Number of classes.
        mean: See `Encoder`; that of VGGFace2.
        scale: See `Encoder`.

    Attributes:
        n_features: Numbers that `features` gives, 2048.
    """

    def __init__(
        self,
        width: int = 64,
        blocks: Sequence[int] = (3, 4, 6, 3),
        classes: int = len(EMOTIONS),
        *,
        mean: Sequence[float] = PRETRAINED["vggface2"].mean,
        scale: float = 1.0,
    ):
        super().__init__()
        check_sizes(width=width, classes=classes)
        self.net, self.n_features = resnet(Bottleneck, blocks, width), 32 * width
        self.head = nn.Linear(self.n_features, classes)
        self.mean, self.scale, self.image_px = tuple(mean), scale, None  # of any size
        _he(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of pictures as `features` takes them."""
        return self.head(self.features(images))  # (B, 2048) -> (B, classes)

    def features(self, images: Tensor) -> Tensor:
        """Averages before the classifier.

        Args:
            images: float32 (B, C, H, W) in [0, 1], RGB or grey, of any size.

        Returns:
            float32 (B, 2048), not negative.

        Raises:
            BadInput: Another shape or dtype; values that are not finite or outside [0, 1].
        """
        return self.net(_pixels("images", images, self))


# ---- what goes through time ----------------------------------------------------------------------


class Blstm(nn.Module):
    """A bidirectional LSTM over the features of a clip, a read-out, a linear layer.

    For 4096 features 4,329,223 parameters, for 2048 it is 2,232,071. Layers, width and read-out are
    our choice: 773 clips of training cannot feed more.

    Args:
        features: Numbers a row.
        hidden: Width of each direction.
        layers: Number of layers; 0 reads the features out as they are, for the ablation.
        dropout: Share left out of what goes in, and of what is read out.
        readout: "mean" or "max" over a clip's rows; "last": the state in which each direction ends.
        classes: Number of classes.

    Raises:
        BadInput: An unknown read-out, or a size that is none.
    """

    def __init__(
        self,
        features: int,
        hidden: int = 128,
        layers: int = 1,
        dropout: float = 0.5,
        readout: str = "mean",
        classes: int = len(EMOTIONS),
    ):
        super().__init__()
        check_choice("readout", readout, READOUTS)
        check_sizes(features=features, hidden=hidden, classes=classes)
        sizes = [features, *[2 * hidden] * check_whole("layers", layers, 0)]
        self.ahead = nn.ModuleList(nn.LSTM(n, hidden, batch_first=True) for n in sizes[:-1])
        self.back = nn.ModuleList(nn.LSTM(n, hidden, batch_first=True) for n in sizes[:-1])
        self.dropout, self.readout, self.n_features = nn.Dropout(dropout), readout, features
        self.head = nn.Linear(sizes[-1], classes)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Score clips.

        Args:
            features: float32 (B, T, D), a row a frame or a segment, padded at the end. What the
                padding holds, NaN too, has no influence.
            lengths: int64 (B,), rows of each clip, 0 to T; None: all have T.

        Returns:
            Logits float32 (B, classes); 0 for a clip without rows.

        Raises:
            BadInput: Shapes, dtypes or lengths that do not fit; rows that are not finite.
        """
        shape = f"(B, T, {self.n_features})"
        check_tensor("features", features, shape, (self.head.weight.dtype,))
        mask = row_mask("features", features, lengths)  # (B, T)
        check_values("features", features[mask])
        x, mask = trimmed(features, mask)
        x = self.dropout(x)
        n, place = mask.sum(1, keepdim=True), torch.arange(mask.shape[1], device=x.device)
        # Each clip turned round within its own length. So padding comes last in both directions and
        # touches nothing. Packed sequences give the same; they take a CPU twice as long for 96
        # features, and two thirds as long for 4096.
        turned = torch.where(mask, n - 1 - place, place)[..., None]  # (B, T, 1), its own inverse
        for ahead, back in zip(self.ahead, self.back, strict=True):
            states = back(x.gather(1, turned.expand_as(x)))[0]  # (B, T, 128)
            states = states.gather(1, turned.expand_as(states))
            x = torch.cat([ahead(x)[0], states], -1)  # (B, T, 256)
        logits = self.head(self.dropout(self._read(x, mask, n)))  # (B, 256) -> (B, 7)
        return logits.masked_fill(n == 0, 0)

    def _read(self, x: Tensor, mask: Tensor, n: Tensor) -> Tensor:
        """Rows (B, T, D) to (B, D)."""
        if self.readout == "mean":
            return (x * mask[..., None]).sum(1) / n.clamp_min(1)
        if self.readout == "max":
            return x.masked_fill(~mask[..., None], torch.finfo(x.dtype).min).amax(1) * (n > 0)
        last = x[torch.arange(len(x)), n[:, 0].sub(1).clamp_min(0)]  # (B, D)
        half = x.shape[-1] // 2 if len(self.back) else x.shape[-1]
        return torch.cat([last[:, :half], x[:, 0, half:]], 1)  # backwards ends at the first row


class CnnBlstm(nn.Module):
    """One stream: a CNN makes a feature of each frame or segment, a BLSTM goes through them.

    Args:
        encoder: Makes features (N, D) of rows (N, C, H, W), by its method `features` if it has one.
            A frozen one is best run once and its features kept; `Blstm` takes them as they are.
        blstm: Goes through the features.
    """

    def __init__(self, encoder: nn.Module, blstm: Blstm):
        super().__init__()
        self.encoder, self.blstm = encoder, blstm

    def forward(self, rows: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Score clips.

        Args:
            rows: float32 (B, T, C, H, W), frames or segments as the encoder takes them, padded at
                the end. What the padding holds has no influence.
            lengths: int64 (B,), rows of each clip, 0 to T; None: all have T.

        Returns:
            Logits float32 (B, classes); 0 for a clip without rows.

        Raises:
            BadInput: Shapes or lengths that do not fit, or what the encoder refuses.
        """
        check_tensor("rows", rows, "(B, T, C, H, W)", (self.blstm.head.weight.dtype,))
        mask = row_mask("rows", rows, lengths)  # (B, T)
        features = rows.new_zeros(*mask.shape, self.blstm.n_features)  # (B, T, D)
        look = getattr(self.encoder, "features", self.encoder)
        features[mask] = _pieces(look, rows[mask], self.encoder, self.blstm.n_features)  # (N, D)
        return self.blstm(features, mask.sum(1))  # (B, T, D) -> (B, 7)


def block_frames(length: int) -> Tensor:
    """Numbers of the frames that C3D sees of a clip, 16 at a time.

    A clip of fewer than 16 frames is repeated until there are 16. In a longer one a last block ends
    at the clip's end and overlaps the one before, so that no frame is lost: our choice. Fan et al.
    (2016) drop the frames behind the last whole block.

    Args:
        length: Frames of the clip; 0 gives no block.

    Returns:
        int64 (N, 16).
    """
    if length < BLOCK:
        return (torch.arange(BLOCK) % max(1, length)).expand(min(1, length), -1)
    starts = torch.arange(0, length - BLOCK + 1, BLOCK)
    if length % BLOCK:
        starts = torch.cat([starts, torch.tensor([length - BLOCK])])
    return starts[:, None] + torch.arange(BLOCK)


# ---- the whole -----------------------------------------------------------------------------------

ENCODERS = {"vgg": VggFace, "resnet": ResNet50, "c3d": C3d, "audio": SpectrogramVgg}
STREAMS = tuple(ENCODERS)


class MsffNet(nn.Module):
    """All streams on the same clips: faces and sound in, the scores of each network out.

    With the defaults 325,518,177 parameters, 1.3 GB. Each stream is a network of its own, in
    ``streams``: train it alone, and fuse the scores with ``fusion.py``.

    Args:
        streams: Some of `STREAMS`.
        encoders: Stream -> network in place of the published size: a `C3d`, or what `CnnBlstm`
            takes, with an attribute `n_features`.
        options: Of `Blstm`, for all streams that have one.

    Raises:
        BadInput: No stream, or an unknown one.
    """

    def __init__(
        self, streams: Sequence[str] = STREAMS, *, encoders: Mapping | None = None, **options
    ):
        super().__init__()
        encoders = dict(encoders or {})
        for name in (*streams, *encoders):
            check_choice("stream", name, STREAMS)
        if not streams:
            raise BadInput("streams", "are none", f"choose from {', '.join(STREAMS)}")
        self.streams = nn.ModuleDict()
        for name in streams:
            net = encoders[name] if name in encoders else ENCODERS[name]()
            if name != "c3d":
                net = CnnBlstm(net, Blstm(net.n_features, **options))
            self.streams[name] = net

    def forward(
        self,
        faces: Tensor | None = None,
        segments: Tensor | None = None,
        face_lengths: Tensor | None = None,
        segment_lengths: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Score B clips by each stream that sees something of them.

        Args:
            faces: float32 (B, T, C, H, W) in [0, 1], C = 3 RGB or 1 grey, a face a frame, padded at
                the end. Each network resizes them to its own size. None: streams of faces are left
                out.
            segments: float32 (B, S, 1, 96, 64), log-mel of 0.96 s of sound each; None likewise.
            face_lengths: int64 (B,), frames of each clip, 0 to T; None: all have T.
            segment_lengths: int64 (B,), likewise.

        Returns:
            Stream -> logits float32 (B, 7) in the order of `EMOTIONS`; 0 for a clip without rows.

        Raises:
            BadInput: Nothing that a stream of this network sees; else as `CnnBlstm` and `C3d`.
        """
        parts = dict.fromkeys(STREAMS, (faces, face_lengths))
        parts["audio"] = segments, segment_lengths
        seeing = {name: net for name, net in self.streams.items() if parts[name][0] is not None}
        if not seeing:
            fault = f"nothing for {', '.join(self.streams)}"
            raise BadInput("faces, segments", fault, "give faces, or segments for audio")
        return {name: net(*parts[name]) for name, net in seeing.items()}


# ---- small parts ---------------------------------------------------------------------------------


def _he(net: nn.Module) -> None:
    """He et al.'s weights (2015), biases 0: by PyTorch's own, 13 layers let nothing through."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _pixels(name: str, images: Tensor, net: nn.Module) -> Tensor:
    """Pictures (N, C, H, W) in [0, 1] to (N, 3, px, px), less the mean, white 255 / scale."""
    check_tensor(name, images, "(B, 1|3, H, W)", (next(net.parameters()).dtype,))
    check_values(name, images, 0, 1)
    px = (net.image_px,) * 2
    if net.image_px is not None and images.shape[-2:] != px:
        images = functional.interpolate(images, px, mode="bilinear", antialias=True)
    mean, scale = (torch.tensor(x).to(images).view(-1, 1, 1) for x in (net.mean, net.scale))
    return (255 * images - mean) / scale  # grey becomes three equal colours here


def _solid(blocks: Tensor, net: nn.Module) -> Tensor:
    """Blocks (N, 16, C, H, W) as `_pixels`, time behind the colours: (N, 3, 16, px, px)."""
    return _pixels("faces", blocks.flatten(0, 1), net).unflatten(0, (-1, BLOCK)).transpose(1, 2)


def _by_blocks(
    look: Callable, faces: Tensor, lengths: Tensor | None, net: nn.Module, width: int
) -> Tensor:
    """Logits (B, width) of clips: a network's mean over their blocks (N, 16, C, H, W)."""
    check_tensor("faces", faces, "(B, T, 1|3, H, W)", (next(net.parameters()).dtype,))
    frames = [block_frames(n) for n in row_mask("faces", faces, lengths).sum(1).tolist()]
    clips = zip(faces, frames, strict=True)
    blocks = torch.cat([clip[own.to(clip.device)] for clip, own in clips])  # (N, 16, 3, H, W)
    logits = _pieces(look, blocks, net, width).split([len(own) for own in frames])  # (N, 7)
    return torch.stack([own.sum(0) / max(1, len(own)) for own in logits])  # (B, 7)


def _pieces(look: Callable, x: Tensor, net: nn.Module, width: int) -> Tensor:
    """What a network makes of rows (N, ...), (N, width); a piece at a time unless it is trained."""
    size = max(1, len(x)) if net.training else PIECE  # batch norm must see all rows together
    made = [look(piece) for piece in x.split(size) if len(piece)]
    # Of nothing at all a gradient of 0, so that a batch without a face can be trained on.
    return torch.cat(made) if made else x.new_zeros(0, width) + 0 * next(net.parameters()).sum()
