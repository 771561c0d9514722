"""The loss of AKMNet: cross-entropy, and the two terms of the paper's GS-MMM on the mining."""

import torch
from torch import Tensor
from torch.nn import functional

from micromacro.errors import BadInput
from micromacro.systems.akmnet.mining import Mining
from micromacro.systems.akmnet.model import AkmOutput


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
    if target.dtype != torch.int64 or target.shape != logits.shape[:1]:
        fault = f"is {target.dtype} {tuple(target.shape)}"
        raise BadInput("target", fault, f"give int64 ({len(logits)},), one for each clip")
    loss = functional.cross_entropy(logits, target)
    if mining.binary is None:
        return loss
    terms = count_weight * count_loss(mining) + margin_weight * margin_loss(mining)
    return loss + terms.to(loss.dtype)


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
    clips = mining.split(_needed(mining.binary))
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
    _needed(mining.binary)
    margins = []
    for score, kept in zip(mining.split(mining.score), mining.split(mining.kept), strict=True):
        margin = score[kept].mean() - score[~kept].mean() if not kept.all() else score.new_zeros(())
        margins.append(2 - margin)
    return torch.stack(margins).mean()


def _needed(binary: Tensor | None) -> Tensor:
    if binary is None:
        raise BadInput("mining", "has no selection", "its loss is of s123, s13 and s23 only")
    return binary
