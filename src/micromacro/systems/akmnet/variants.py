"""Other choices of frames than the mined ones, each of as many frames: controls for AKMNet.

They are given to a network whose steps are "none" (Table IV of the paper, *va*). How many frames to
take of each clip comes from a trained AKMNet: ``mining.takes``. The windows are controls of ours.
"""

from collections.abc import Sequence

import torch

from micromacro.errors import BadInput


def random_frames(
    lengths: Sequence[int], takes: Sequence[int], generator: torch.Generator
) -> list[torch.Tensor]:
    """*va-random*: frames drawn without replacement, put in order.

    Args:
        lengths: Frames of each clip.
        takes: Frames to take of each clip, 1 to its length.
        generator: Of the draws; clip after clip.

    Returns:
        int64 (N,) for each clip, 0-based, rising: ``clip[frames]``.

    Raises:
        BadInput: Not one for each clip, or out of range.
    """
    pairs = _checked(lengths, takes)
    return [torch.randperm(T, generator=generator)[:N].sort().values for T, N in pairs]


def window_frames(
    lengths: Sequence[int], takes: Sequence[int], generator: torch.Generator | None = None
) -> list[torch.Tensor]:
    """*va-window*: frames in a row, around the middle of the clip or from a random start.

    Args:
        lengths: Frames of each clip.
        takes: Frames to take of each clip, 1 to its length.
        generator: Of the starts, all equally likely; None for the middle. Where the middle lies
            between two windows it is the earlier.

    Returns:
        int64 (N,) for each clip, 0-based: ``clip[frames]``.

    Raises:
        BadInput: Not one for each clip, or out of range.
    """
    windows = []
    for T, N in _checked(lengths, takes):
        start = (T - N) // 2
        if generator is not None:
            start = int(torch.randint(T - N + 1, (), generator=generator))
        windows.append(torch.arange(start, start + N))
    return windows


def _checked(lengths: Sequence[int], takes: Sequence[int]) -> list[tuple[int, int]]:
    lengths, takes = ([int(n) for n in numbers] for numbers in (lengths, takes))
    if len(takes) != len(lengths):
        raise BadInput("takes", f"are {len(takes)} for {len(lengths)} clips", "give one for each")
    for T, N in zip(lengths, takes, strict=True):
        if not 1 <= N <= T:
            raise BadInput("takes", f"asks {N} frames of {T}", "give 1 to the clip's length")
    return list(zip(lengths, takes, strict=True))
