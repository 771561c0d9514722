"""Emotional reaction intensity: a cascade over time for the face, one for the voice, and a head.

Fang, Wu, Jumelle and Shi, CVPR Workshops (ABAW5) 2023, arXiv 2305.05534. Every frame of the face is
a holistic vector (512, of a ResNet-18) and 35 action units; a GRU runs over the frames; a learned
"regression token" stands before them; a transformer lets it look at all of them; what has become of
it is the clip's vector. The sound has a cascade of its own. A linear head joins both vectors to
seven intensities.

We have seen the paper's abstract, its figure of the network and its table; sizes and the order of
layers are those of the released code, github.com/HKUST-NISL/ABAW5. Without the GRU the released
network cannot tell one order of the frames from another, for it has no positions.

The released code takes clip after clip through the cascades, each at its own length. `EriNet` takes
them together, padded at the end: no padded frame is a key of any attention, so the results are
equal.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from micromacro.errors import BadInput, check_choice, check_sizes, check_whole
from micromacro.kernels.checks import check_tensor, check_values
from micromacro.ragged import row_mask, trimmed

EMOTIONS = ("Adoration", "Amusement", "Anxiety", "Disgust", "Empathic-Pain", "Fear", "Surprise")
"""The seven targets, in the order of Hume-Reaction's files."""

READOUTS = ("token", "mean", "max", "last", "attention")
HEAD_DROPOUT = 0.3  # of the released head; the cascades have 0.2
PIECE = 2**20  # attention weights that fit a CPU's cache, 4 MB


class EriNet(nn.Module):
    """Seven intensities of a reaction from a face over time and a voice over time.

    ==============  ==============================================================  ==========
    part            layers                                                          parameters
    ==============  ==============================================================  ==========
    video           `Cascade` of 547: GRU 1,012,992, token 256, layers 1,580,032     2,593,280
    audio           `Cascade` of 1024: GRU 1,379,328, token 256, layers 1,580,032    2,959,616
    head            Linear 512 -> 256, Dropout 0.3, Linear 256 -> 7, no biases         132,864
    ==============  ==============================================================  ==========

    With one cascade the head has 67,328, and the network 2,660,608 (video) or 3,026,944 (audio).
    The head has no non-linearity but the sigmoid at its end, as released.

    Args:
        video: Numbers a frame of the face: 512 holistic, 17 intensities and 18 presences of action
            units. 0 leaves the cascade out.
        audio: Numbers a row of the sound; 1024 in the released layout. 0 leaves the cascade out.
        width: Numbers a frame inside both cascades, and of their vectors.
        depth: Layers of each transformer; 0 leaves it out: a read-out of the GRU alone.
        heads: Heads of each attention; `width` is divided among them.
        mlp: Width of the hidden layer behind each attention.
        readout: What becomes the clip's vector; see `Cascade`. The paper's is "token".
        gru: Run a GRU over the frames. Else each frame goes through the same linear layer, our
            choice, as nothing else could bring it to `width`.
        positions: Tell the transformer the frames' numbers by sinusoids, which the released code
            has, switched off.
        dropout: Share of the numbers left out in the transformers.

    Raises:
        BadInput: No cascade; an unknown read-out; heads that do not divide the width; a token that
            no layer lets look at the frames.
    """

    def __init__(
        self,
        video: int = 547,
        audio: int = 1024,
        *,
        width: int = 256,
        depth: int = 4,
        heads: int = 4,
        mlp: int = 256,
        readout: str = "token",
        gru: bool = True,
        positions: bool = False,
        dropout: float = 0.2,
    ):
        super().__init__()
        check_choice("readout", readout, READOUTS)
        self.features = {name: n for name, n in (("video", video), ("audio", audio)) if n}
        if not self.features:
            raise BadInput("video=0, audio=0", "leave no cascade", "give the features of one")
        check_sizes(width=width, heads=heads, mlp=mlp)
        for name, n in {"video": video, "audio": audio, "depth": depth}.items():
            check_whole(name, n, 0)
        if width % heads:
            raise BadInput(f"heads={heads}", f"do not divide width {width}", "give a divisor of it")
        if not depth and readout == "token":
            raise BadInput("depth=0", "leaves a token that sees no frame", "give another readout")
        self.cascades = nn.ModuleDict()
        for name, n in self.features.items():
            layers = [Layer(width, heads, mlp, dropout) for _ in range(depth)]
            self.cascades[name] = Cascade(n, width, layers, readout, gru, positions)
        joined = nn.Linear(len(self.features) * width, width, bias=False)
        last = nn.Linear(width, len(EMOTIONS), bias=False)
        self.head = nn.Sequential(joined, nn.Dropout(HEAD_DROPOUT), last)

    def forward(
        self,
        video: Tensor | None = None,
        audio: Tensor | None = None,
        video_lengths: Tensor | None = None,
        audio_lengths: Tensor | None = None,
    ) -> Tensor:
        """Predict the intensities of B clips.

        A clip may lack a modality: its length is 0, or, where no clip has it, the tensor is None.
        Then the token has nothing but itself to look at; the other read-outs give zeros.

        Args:
            video: float32 (B, T, video), a row a frame, padded at the end. What the padding holds,
                NaN too, has no influence.
            audio: float32 (B, S, audio), likewise. S may differ from T.
            video_lengths: int64 (B,), the rows of each clip, 0 to T; None: all have T.
            audio_lengths: int64 (B,), likewise.

        Returns:
            float32 (B, 7) in [0, 1], in the order of `EMOTIONS`.

        Raises:
            BadInput: No modality, one that the network leaves out, shapes or lengths that do not
                fit, or rows that are not finite.
        """
        parts = self._parts(video, audio, video_lengths, audio_lengths)
        vectors = [cascade(*parts[name]) for name, cascade in self.cascades.items()]
        return self.head(torch.cat(vectors, 1)).sigmoid()  # 2 x (B, 256) -> (B, 512) -> (B, 7)

    @torch.no_grad()
    def attention(self, **inputs: Tensor | None) -> dict[str, Tensor]:
        """Show which rows the read-outs look at: attention rolled out over the layers.

        Args:
            inputs: As for `forward`, by their names. Call this in evaluation mode: it runs forward.

        Returns:
            "video" float32 (B, T), "audio" float32 (B, S), of the cascades there are: the share of
            each row. They add up to 1 over a clip's rows, and are 0 at padding and for a clip
            without rows. See `Cascade.rollout`.

        Raises:
            BadInput: As `forward`.
        """
        parts = self._parts(**inputs)
        return {name: cascade.rollout(*parts[name]) for name, cascade in self.cascades.items()}

    def _parts(self, video=None, audio=None, video_lengths=None, audio_lengths=None) -> dict:
        """Features (B, T, D) and mask (B, T) of each cascade; the door."""
        inputs = {"video": (video, video_lengths), "audio": (audio, audio_lengths)}
        shown, parts = {name: x for name, (x, _) in inputs.items() if x is not None}, {}
        if not shown:
            raise BadInput("video and audio", "are both missing", "give one at least")
        for name, x in shown.items():
            if name not in self.features:
                raise BadInput(name, "this network has no cascade for it", "leave it out")
            check_tensor(name, x, "(B, T, D)", (torch.float32,))
        like = next(iter(shown.values()))
        for name, n in self.features.items():
            x, lengths = shown.get(name, like.new_zeros(len(like), 0, n)), inputs[name][1]
            if x.shape[::2] != (len(like), n):
                raise BadInput(name, f"has shape {tuple(x.shape)}", f"give ({len(like)}, T, {n})")
            mask = row_mask(name, x, lengths)
            check_values(name, x[mask])
            parts[name] = (x, mask)
        return parts


class Cascade(nn.Module):
    """One modality: the rows of a clip, in their order, to one vector.

    ==========  ====================================================================================
    readout     the vector
    ==========  ====================================================================================
    token       What becomes of the learned token that stands before the rows: the paper's.
    mean        Mean of the rows that come out of the transformer.
    max         Largest value of each feature among them.
    last        The last of them; without a transformer the last state of the GRU.
    attention   Their mean, weighted by one softmax of their products with a learned vector.
    ==========  ====================================================================================

    All read-outs draw the same random numbers, so that arms of one seed start from the same
    weights, and so do a cascade with a GRU and one without.

    Args:
        n_features: Numbers in a row.
        width: Numbers in a row inside, and in the vector.
        layers: The transformer, of `Layer`.
        readout: A read-out of the table.
        gru: Two layers, one direction, states from 0; else one linear layer.
        positions: Add `sinusoids` to the rows; the token gets none.
    """

    def __init__(
        self, n_features: int, width: int, layers: list, readout: str, gru: bool, positions: bool
    ):
        super().__init__()
        recurrent = nn.GRU(n_features, width, num_layers=2, batch_first=True)
        frame_by_frame, learned = nn.Linear(n_features, width), nn.Parameter(torch.randn(width))
        self.rows = recurrent if gru else frame_by_frame
        self.learned = learned if readout in ("token", "attention") else None  # token, or query
        self.layers = nn.ModuleList(layers)
        self.width, self.readout, self.positions = width, readout, positions

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Make the vectors of B clips.

        Args:
            features: float32 (B, T, n_features).
            mask: bool (B, T), True for the rows of a clip, which come first, False for padding.

        Returns:
            float32 (B, width).
        """
        x, mask, keys = self._embedded(features, mask)  # (B, N, 256), N = 1 + T with the token
        for i, layer in enumerate(self.layers):
            # Of the last layer's rows the token alone is read, so no other is computed.
            only_token = self.readout == "token" and i == len(self.layers) - 1
            x = layer(x, keys, 1 if only_token else None)  # (B, N, 256), at last (B, 1, 256)
        if self.readout == "max":
            return _padded(x, mask).amax(1) * mask.any(1, keepdim=True)  # (B, N, 256) -> (B, 256)
        shares = self._shares(x, mask[:, : x.shape[1]])  # (B, N)
        return (shares[:, None] @ x).squeeze(1)  # (B, 1, N) (B, N, 256) -> (B, 256)

    def rollout(self, features: Tensor, mask: Tensor) -> Tensor:
        """Show how much each row contributes to the vector through the attentions.

        Abnar and Zuidema (2020): the shares that the read-out takes of the last rows go back
        through the layers, half of each along the residual path, half to where the row's attention
        looks, mean over the heads. What arrives at the token is left out; the rest adds up to 1.
        For "max" a row's share is that of the features that are largest there.

        The GRU is no part of it. It carries an event on to later rows, which may then be looked at
        in place of the event's own.

        Args:
            features: As for `forward`.
            mask: As for `forward`.

        Returns:
            float32 (B, T), 0 at padding. Each layer needs B T^2 numbers for a moment.
        """
        x, mask, keys = self._embedded(features, mask)
        inputs = []
        for layer in self.layers:
            inputs.append(x)
            x = layer(x, keys)
        shares = self._shares(x, mask)  # (B, N)
        for layer, x in zip(reversed(self.layers), reversed(inputs), strict=True):
            shares = (shares + layer.attention.carry(shares, layer.attention_norm(x), keys)) / 2
        shares = shares[:, int(self.readout == "token") :] * mask[:, int(self.readout == "token") :]
        shares = shares / shares.sum(1, keepdim=True).clamp_min(torch.finfo(shares.dtype).tiny)
        T = features.shape[1]
        return functional.pad(shares[:, :T], (0, max(0, T - shares.shape[1])))  # (B, T)

    def _embedded(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The transformer's rows (B, N, width), mask (B, N), keys (B, 1, 1, N) or None for all."""
        x, mask = trimmed(features, mask)
        # A GRU that runs forward carries nothing of the padding back to a clip's rows. Packed
        # sequences would save a tenth of the steps and make training four times slower on a CPU.
        x = self.rows(x)[0] if isinstance(self.rows, nn.GRU) else self.rows(x)  # (B, T, 256)
        if self.positions:
            x = x + sinusoids(x.shape[1], self.width).to(x)
        if self.readout == "token":
            x = torch.cat([self.learned.expand(len(x), 1, -1), x], 1)  # (B, 1 + T, 256)
            mask = functional.pad(mask, (1, 0), value=True)
        keys = mask.clone()
        keys[:, 0] = True  # else a clip without rows would have none to look at
        # Without a mask the fastest kernels serve on CUDA.
        return x, mask, None if keys.all() else keys[:, None, None]

    def _shares(self, x: Tensor, mask: Tensor) -> Tensor:
        """Weight of each row (B, N, width) in the vector, (B, N); 0 for a clip without rows."""
        n, place = mask.sum(1, keepdim=True), torch.arange(mask.shape[1], device=x.device)
        if self.readout == "token":
            return (place == 0).to(x.dtype).expand_as(mask)
        if self.readout == "last":
            return (place == n - 1).to(x.dtype)
        if self.readout == "mean":
            return mask / n.clamp_min(1)
        if self.readout == "max":
            return functional.one_hot(_padded(x, mask).argmax(1), len(place)).to(x).mean(1)
        scores = (x @ self.learned)[..., None] / self.width**0.5  # (B, N, 1)
        return _padded(scores, mask).softmax(1).squeeze(2) * mask


class Layer(nn.Module):
    """Of the transformer: x + attention(norm(x)), then x + MLP(norm(x)), as released.

    The MLP is {Linear, GELU, Dropout, Linear, Dropout}. With the defaults: 395,008 parameters.

    Args:
        width: Numbers in a row.
        heads: Of the attention.
        mlp: Width of the hidden layer.
        dropout: Share of the numbers left out, here and in the attention.
    """

    def __init__(self, width: int, heads: int, mlp: int, dropout: float):
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        hidden = nn.Linear(width, mlp), nn.GELU(), nn.Dropout(dropout)
        self.mlp = nn.Sequential(*hidden, nn.Linear(mlp, width), nn.Dropout(dropout))

    def forward(self, x: Tensor, keys: Tensor | None, n: int | None = None) -> Tensor:
        """Rows (B, N, width) to the first n of them, all if None; keys as for `Attention`."""
        x = x[:, :n] + self.attention(self.attention_norm(x), keys, n)
        return x + self.mlp(self.mlp_norm(x))


class Attention(nn.Module):
    """Scaled dot products of queries and keys, a softmax over the keys, their mean of the values.

    Queries, keys and values have no bias, the projection of the result has one. Dropout follows the
    softmax and the projection. On a CPU, training with dropout keeps all N^2 weights of a head;
    without it, and in evaluation, memory grows with N only, and long clips cost a third to a fifth.

    Args:
        width: Numbers in a row.
        heads: Number of heads, each on width / heads numbers.
        dropout: Share of the numbers left out.
    """

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))
        self.heads, self.dropout = heads, dropout

    def forward(self, x: Tensor, keys: Tensor | None, n: int | None = None) -> Tensor:
        """Let the first n rows look at all.

        Args:
            x: (B, N, width).
            keys: bool (B, 1, 1, N), True for rows to look at; None: all. No float mask, which would
                be added to the products and so leave the padding visible.
            n: Number of the rows that look; None: all.

        Returns:
            (B, n, width).
        """
        query = self._split(self.query(x[:, :n]))  # (B, 4, n, 64)
        key, value = map(self._split, self.key_value(x).chunk(2, -1))  # 2 x (B, 4, N, 64)
        dropout = self.dropout if self.training else 0.0
        size = len(x)
        if dropout and not x.is_cuda:  # all weights are computed: in pieces that fit the cache
            size = max(1, PIECE // (self.heads * query.shape[2] * key.shape[2]))
        masks = [None] * len(x) if keys is None else keys.split(size)
        pieces = zip(query.split(size), key.split(size), value.split(size), masks, strict=False)
        seen = [functional.scaled_dot_product_attention(*piece, dropout) for piece in pieces]
        seen = torch.cat(seen)  # (B, 4, n, 64)
        return self.out(seen.transpose(1, 2).flatten(2))  # (B, 4, n, 64) -> (B, n, 256)

    def carry(self, shares: Tensor, x: Tensor, keys: Tensor | None) -> Tensor:
        """Move shares (B, N) of rows to the rows that these look at, mean over the heads."""
        query, key = self._split(self.query(x)), self._split(self.key_value(x).chunk(2, -1)[0])
        carried = torch.zeros_like(shares)
        for own, other in zip(query.unbind(1), key.unbind(1), strict=True):  # one by one: memory
            products = own @ other.mT / own.shape[-1] ** 0.5  # (B, N, N)
            if keys is not None:
                products.masked_fill_(~keys[:, 0], -torch.inf)
            carried += (shares[:, None] @ products.softmax(-1)).squeeze(1)
        return carried / self.heads

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, N, 256) -> (B, 4, N, 64)


def sinusoids(n: int, width: int) -> Tensor:
    """Positions of n rows, float32 (n, width): sines and cosines in turn (Vaswani et al. 2017)."""
    rate = 10_000 ** (-torch.arange(0, width, 2) / width)  # rad a row, from 1 to 1e-4
    angle_rad = torch.arange(n)[:, None] * rate  # (n, width / 2)
    return torch.stack([angle_rad.sin(), angle_rad.cos()], -1).flatten(1)[:, :width]


def _padded(x: Tensor, mask: Tensor) -> Tensor:
    """Rows (B, N, D), those of padding the least number there is."""
    return x.masked_fill(~mask[..., None], torch.finfo(x.dtype).min)


# ---- losses --------------------------------------------------------------------------------------


def pcc_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - Pearson's correlation over the clips of a batch, mean over the emotions.

    A constant correlates with nothing: it gives 1 and finite gradients. So does a single clip.

    Args:
        prediction: float32 (B, 7).
        target: float32 (B, 7).

    Returns:
        A scalar from 0 to 2.
    """
    p, t = (x - x.mean(0) for x in (prediction, target))
    # Added within the root: at 0 its slope would be infinite.
    spread = ((p**2).sum(0) * (t**2).sum(0) + 1e-12).sqrt()
    return 1 - ((p * t).sum(0) / spread).mean()


LOSSES = {"mse": functional.mse_loss, "pcc": pcc_loss}
"""The paper's loss, and the one of the released code's that is 1 less what the challenge scores."""
