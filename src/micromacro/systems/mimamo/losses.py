"""Losses over the snippets that exist: 1 - CCC, mean squared error."""

import torch

from micromacro.errors import BadInput


def ccc_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    legacy_loss: bool = False,
) -> torch.Tensor:
    """Sum over labels of 1 - CCC, each CCC pooled over all snippets of the batch.

    With means m, population variances s^2 and covariance c of a label over those snippets

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
    mask = _check(prediction, target, mask)
    if legacy_loss:
        pairs = _released_pairs(prediction, target, mask)
    else:
        pairs = zip(prediction[mask].unbind(-1), target[mask].unbind(-1), strict=True)
    return sum(1 - _ccc(p, t, correction=int(legacy_loss)) for p, t in pairs)


def mse_loss(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
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
    mask = _check(prediction, target, mask)
    if not mask.any():
        raise BadInput("mask", "leaves nothing", "drop this batch")
    return (prediction[mask] - target[mask]).square().mean()


def _ccc(prediction: torch.Tensor, target: torch.Tensor, *, correction: int) -> torch.Tensor:
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


def _released_pairs(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What the released loss correlates: index i of axis 1, for i below the number of labels."""
    n_outputs = prediction.shape[-1]
    if prediction.shape[1] < n_outputs:
        fault = f"has {prediction.shape[1]} snippets for {n_outputs} labels"
        raise BadInput("prediction", fault, "legacy_loss needs as many snippets as labels")
    pairs = []
    for i in range(n_outputs):
        valid = mask[:, i] if mask.ndim == 2 else mask
        pairs.append((prediction[:, i][valid].flatten(), target[:, i][valid].flatten()))
    return pairs


def _check(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    shape = prediction.shape
    if prediction.ndim not in (2, 3) or target.shape != shape:
        fault = f"have shapes {tuple(shape)} and {tuple(target.shape)}"
        raise BadInput("prediction and target", fault, "give (B, S, n) or (B, n) for both")
    if mask is None:
        return torch.ones(shape[:-1], dtype=torch.bool, device=prediction.device)
    if mask.dtype != torch.bool or mask.shape != shape[:-1]:
        fault = f"is {mask.dtype} {tuple(mask.shape)}"
        raise BadInput("mask", fault, f"give bool {tuple(shape[:-1])}")
    return mask
