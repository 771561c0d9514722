"""Adaptive key-frame mining: how much each frame matters, and which frames are kept.

Section III-B of the paper, in three steps. With p_t the spatial mean of frame t's map P_t

    s1, local self-attention   alpha_t = sigmoid(w . p_t + b)
    s2, global correlation     beta_t  = cos(p_t, G),   G = sum over t of alpha_t p_t
    s3, sparse selection       B_t     = 1 if beta_t > mean of beta over the clip, else 0

The ablation drops one: s12 selects nothing, and keeps all frames times beta_t; s13 thresholds
alpha; s23 has G = sum of p_t. The paper gives no wiring for them; these are the obvious ones.

Two things to know. The threshold is the clip's own mean, so about half of the frames are kept,
whatever the count loss says. And the cosine is largest near the *mean* expression of the clip that
alpha weighs, not at its peak.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from micromacro.errors import BadInput
from micromacro.systems.akmnet.backbone import make_linear

STEPS = ("s123", "s12", "s13", "s23", "none")
_ROUNDING = {"alpha": 1e-6, "beta": 1e-9}  # of equal frames: one float32, the other float64


@dataclass(frozen=True, eq=False)
class Mining:
    """What was mined in a batch of B clips with N frames in all, clip by clip.

    Attributes:
        lengths: Frames of each clip.
        kept: bool (N,), True for the frames that reach the GRU; at least one in each clip.
        alpha: float32 (N,) in (0, 1), attention; None without s1.
        beta: float64 (N,) in [0, 1], cosine with the clip's sum; None without s2.
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
        """Frames kept of each clip."""
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
            raise BadInput(
                "max_key", "nothing was mined", 'use a network whose steps are not "none"'
            )
        return [int(clip.argmax()) for clip in self.split(self.score)]


class Miner(nn.Module):
    """The mining module; see the top of this file.

    Gradients of the binariser, which has none of its own. Ours, and the paper's (eqs 14-17): that of
    B_t goes to beta_t for kept frames, and is zero for the others. The mean counts as a constant.

    Args:
        channels: Of the maps.
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
        *,
        legacy_straight_through: bool = False,
        legacy_selection: bool = False,
    ):
        super().__init__()
        if steps not in STEPS:
            raise BadInput(f"steps={steps!r}", "are unknown", f"one of {', '.join(STEPS)}")
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
        kept = torch.ones(len(maps), dtype=torch.bool, device=maps.device)
        if self.steps == "none":
            return maps, Mining(lengths, kept)
        alpha, beta = self._scores(maps.mean((-2, -1)), lengths)
        if self.steps == "s12":
            weighted = maps * beta.to(maps.dtype)[:, None, None, None]
            return weighted, Mining(lengths, kept, alpha, beta)
        score, kind = (alpha, "alpha") if beta is None else (beta, "beta")
        kept = select(score, lengths, tie=_ROUNDING[kind], keep_ties=self.legacy_selection)
        passes = _between_0_and_1(score, lengths) if self.legacy_straight_through else kept
        binary = straight_through(score, kept, passes).to(maps.dtype)
        key = maps[kept] * binary[kept][:, None, None, None]
        return key, Mining(lengths, kept, alpha, beta, binary)

    def _scores(
        self, means: Tensor, lengths: tuple[int, ...]
    ) -> tuple[Tensor | None, Tensor | None]:
        alpha = None
        if self.attention is not None:
            alpha = torch.sigmoid(self.attention(means)).squeeze(1)
        if "2" not in self.steps:
            return alpha, None
        # In float64: cosines lie close together, by 1e-5 in a new network.
        vectors = means.double()
        weighted = vectors if alpha is None else vectors * alpha.double()[:, None]
        sums = [clip.sum(0).expand_as(clip) for clip in weighted.split(lengths)]
        return alpha, functional.cosine_similarity(vectors, torch.cat(sums), dim=1)


def select(
    score: Tensor, lengths: Sequence[int], *, tie: float = 0.0, keep_ties: bool = False
) -> Tensor:
    """Which frames are above the mean of their clip; if none is, the first of the best.

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
    return kept.to(score.dtype) + passes * (score - score.detach())


def _between_0_and_1(score: Tensor, lengths: Sequence[int]) -> Tensor:
    means = [clip.mean().expand_as(clip) for clip in score.detach().split(tuple(lengths))]
    means = torch.cat(means)
    return (means > 0) & (means < 1)
