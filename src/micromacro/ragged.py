"""Clips of different lengths in one batch: masks, padding, and batches in which little is padded.

A clip is rows (T, ...), T its own, a row a frame or a segment of sound. In a batch (B, T, ...) the
rows of a clip come first and padding follows; its length, 0 to T, says where. Whatever the padding
holds has no influence.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from micromacro.errors import BadInput
from micromacro.kernels.checks import check_tensor

POOL = 8  # batches that are drawn together and then sorted by length


def row_mask(name: str, x: Tensor, lengths: Tensor | None) -> Tensor:
    """Mark the rows that are a clip's; the door of networks that take batches of clips.

    Args:
        name: Name of the batch, for the message; its lengths are "<name>_lengths".
        x: (B, T, ...), any dtype.
        lengths: int64 (B,), rows of each clip, 0 to T; None: all have T.

    Returns:
        bool (B, T), on the device of x.

    Raises:
        BadInput: No clip, or lengths that do not fit.
    """
    B, T = x.shape[:2]
    if not B:
        raise BadInput(name, f"has shape {tuple(x.shape)}, no clip", "give one at least")
    lengths = torch.full((B,), T) if lengths is None else lengths
    check_tensor(f"{name}_lengths", lengths, "(B)", (torch.int64,))
    if len(lengths) != B or lengths.min() < 0 or lengths.max() > T:
        remedy = f"give {B} numbers from 0 to {T}"
        raise BadInput(f"{name}_lengths", f"are {lengths.tolist()}", remedy)
    return torch.arange(T, device=x.device) < lengths.to(x.device)[:, None]


def trimmed(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cut a batch to its longest clip, with padding of 0; one row stays, as an RNN needs.

    Args:
        x: (B, T, D); the padding may hold NaN.
        mask: bool (B, T), of `row_mask`.

    Returns:
        x (B, n, D) and mask (B, n); n is the greatest length, but at least 1.
    """
    longest = max(1, int(mask.sum(1).max()))
    mask = functional.pad(mask, (0, 1))[:, :longest]
    x = functional.pad(x, (0, 0, 0, 1))[:, :longest]
    return x.masked_fill(~mask[..., None], 0), mask


def as_float(x: Tensor) -> Tensor:
    """Make uint8 float32 in [0, 1]; other dtypes stay."""
    return x.float() / 255 if x.dtype == torch.uint8 else x


def padded(rows: Sequence[Tensor | None]) -> tuple[Tensor | None, Tensor | None]:
    """The rows of some clips as one batch, padded at the end with 0.

    Args:
        rows: Of each clip a tensor (T, ...), T its own, or None, which stands for no rows. uint8
            becomes float32 in [0, 1].

    Returns:
        (B, T, ...) and lengths int64 (B,), as networks take them; two Nones if all are None.

    Raises:
        BadInput: Rows of different shapes.
    """
    there = [x for x in rows if x is not None]
    if not there:
        return None, None
    if len(shapes := {x.shape[1:] for x in there}) > 1:
        fault = f"have shapes {sorted(map(tuple, shapes))}"
        raise BadInput("rows", fault, "give clips whose faces, or features, are of one size")
    whole = [there[0][:0] if x is None else x for x in rows]
    return as_float(pad_sequence(whole, batch_first=True)), torch.tensor([*map(len, whole)])


class LikeLengths(ABC):
    """Clips as batches for `training.train`, clips of like length together; a base class.

    Called with a generator, it draws an epoch: clips in random order, eight batches at a time,
    sorted by length among these and cut, in a random order again. So who meets whom still varies,
    and little is padded. Iterated, it yields all clips by length; `order` says which, and
    `training.predict` puts what comes of them back.

    A subclass has the attributes ``lengths``, int64 (N,), and ``size``, clips in a batch, and makes
    a batch of some clips by ``batch(rows, generator)``; without a generator nothing is drawn.
    """

    lengths: Tensor
    size: int

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.size)

    def __iter__(self) -> Iterator[tuple]:
        return (self.batch(rows) for rows in self.order.split(self.size))

    def __call__(self, generator: torch.Generator) -> Iterator[tuple]:
        """One epoch of training."""
        order = torch.randperm(len(self.lengths), generator=generator)
        pools = [pool[self.lengths[pool].argsort()] for pool in order.split(POOL * self.size)]
        batches = [rows for pool in pools for rows in pool.split(self.size)]
        for i in torch.randperm(len(batches), generator=generator).tolist():
            yield self.batch(batches[i], generator)

    @property
    def order(self) -> Tensor:
        """The clips in the order of iteration, int64 (N,)."""
        return self.lengths.argsort(stable=True)

    @abstractmethod
    def batch(self, rows: Tensor, generator: torch.Generator | None = None) -> tuple:
        """A batch of the clips of these numbers."""
