"""Moving textures for the kernels' tests."""

import math

import pytest
import torch


def texture(T: int, H: int, W: int, velocity=(0.3, 0.2), seed: int = 0) -> torch.Tensor:
    """Sum of gratings that drift by ``velocity`` (x, y) px per frame: float64 (T, H, W) in [0, 1].

    Closed form, so that a sub-pixel motion is exact.
    """
    generator = torch.Generator().manual_seed(seed)
    n = 40
    wavelength = 3 + 13 * torch.rand(n, generator=generator, dtype=torch.float64)
    angle = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
    phase = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
    t = torch.arange(T, dtype=torch.float64)[:, None, None, None]
    y = torch.arange(H, dtype=torch.float64)[:, None, None] - velocity[1] * t
    x = torch.arange(W, dtype=torch.float64)[:, None] - velocity[0] * t
    place = x * angle.cos() + y * angle.sin()
    waves = torch.cos(2 * math.pi * place / wavelength + phase)
    return 0.5 + 0.4 * waves.sum(-1) / n**0.5 / 3


@pytest.fixture
def drifting():
    return texture
