"""Fields of flow: strain of linear fields, the main direction against loops."""

import numpy as np
import pytest
import torch

from micromacro.motion import fields


def test_strain_of_linear_flow():
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(7.0), indexing="ij")
    shift, stretch, both = (3 + 0 * x, 0 * y - 2), (0.5 * x, 0 * y), (0.3 * x, 0.4 * y)
    shear, turn = (0.2 * y, 0 * x), (0.2 * y, -0.2 * x)
    strain = fields.optical_strain(
        torch.stack([torch.stack(f) for f in (shift, stretch, both, shear, turn)])
    )
    expected = torch.tensor([0, 0.5, 0.5, 0.2 / 2**0.5, 0])
    torch.testing.assert_close(strain, expected.view(5, 1, 1, 1).expand(5, 1, 9, 7))


def naive_mdmd(near, far, blocks):
    h, w, means = near.shape[1] // blocks, near.shape[2] // blocks, []
    for row, column in np.ndindex(blocks, blocks):
        part = np.s_[:, row * h : (row + 1) * h, column * w : (column + 1) * w]
        quadrants = {}
        for (a, b), (c, d) in zip(*(f[part].reshape(2, -1).T for f in (near, far)), strict=True):
            quadrants.setdefault((a >= 0, b >= 0), []).append(np.hypot(a, b) - np.hypot(c, d))
        main = max((quadrants[q] for q in sorted(quadrants)), key=len)  # of equals the first
        means.append(np.mean(sorted(main, reverse=True)[: max(1, round(len(main) / 3))]))
    return np.mean(sorted(means, reverse=True)[: round(blocks**2 / 3)])


@pytest.mark.parametrize(("size", "blocks"), [((30, 41), 6), ((35, 35), 6), ((9, 9), 9)])
def test_main_direction_against_loops(size, blocks):
    flow = torch.randn(2, 4, 2, *size, generator=torch.Generator().manual_seed(3)) + 0.4
    expected = [naive_mdmd(*pair, blocks) for pair in zip(*flow.double().numpy(), strict=True)]
    np.testing.assert_allclose(fields.main_direction(*flow, blocks=blocks), expected, rtol=1e-5)


def test_one_block_has_a_main_direction():
    near = torch.ones(2, 6, 6)
    assert fields.main_direction(near, 0 * near, blocks=1) == pytest.approx(2**0.5)
