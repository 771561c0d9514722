import cv2
import numpy as np
import pytest
import skimage.data
import torch

from micromacro.motion import tvl1
from micromacro.motion.flow import optical_flow

PHOTO = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY).astype(np.float32) / 255


def moved_photo(height, width, length_px, top=80, left=180):
    """A crop, and the one whose flow to it is smooth and known up to interpolation."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    dx = length_px * np.sin(2 * np.pi * y / height + 0.5) * np.cos(np.pi * x / width)
    dy = length_px * np.cos(2 * np.pi * x / width) * np.sin(np.pi * y / height)
    first = cv2.remap(PHOTO, left + x + dx, top + y + dy, cv2.INTER_LANCZOS4).clip(0, 1)
    second = PHOTO[top : top + height, left : left + width].copy()
    return torch.from_numpy(first), torch.from_numpy(second)


def distance_px(one, two):
    return (one - two).norm(dim=-3)


# The scheme amplifies rounding (one ulp of the input moves OpenCV's own flow by 0.01 px at the
# defaults), so it is compared step for step where few iterations leave no room for that: 1e-4 px
# is about ten times what was measured, and a hundredth of what any change of the scheme makes.
SHORT = {"epsilon": 0.0, "inner_iterations": 15, "outer_iterations": 1}
FEW_ITERATIONS = {
    "one step": {"scales": 1, "warps": 1, "inner_iterations": 1},
    "no median": {"scales": 1, "warps": 1, "median_filtering": 1},
    "two medians": {"scales": 1, "warps": 1, "outer_iterations": 2},
    "median 3": {"scales": 1, "warps": 2, "median_filtering": 3},
    "two warps": {"scales": 1, "warps": 2},
    "four scales": {"scales": 4, "warps": 1},
    "other step": {"scales": 3, "warps": 1, "scale_step": 0.63},
    "weights": {"scales": 2, "warps": 1, "lambda_": 0.05, "theta": 0.2, "tau": 0.1},
}


@pytest.mark.contrib
@pytest.mark.parametrize("size", [(48, 48), (57, 81)])
@pytest.mark.parametrize("length_px", [0.5, 3.0])
@pytest.mark.parametrize("settings", FEW_ITERATIONS.values(), ids=FEW_ITERATIONS)
def test_few_iterations_are_those_of_opencv(settings, length_px, size):
    pair = moved_photo(*size, length_px)
    ours, theirs = (
        optical_flow(*pair, method=method, **(SHORT | settings)) for method in ("tvl1", "dual_tvl1")
    )
    assert distance_px(ours, theirs).mean() < 1e-4
    assert theirs.abs().mean() > 0.01


@pytest.mark.contrib
@pytest.mark.parametrize(
    ("size", "length_px"), [((48, 48), 1.0), ((64, 51), 0.5), ((97, 112), 1.0)]
)
def test_the_whole_flow_is_that_of_opencv_up_to_its_sensitivity(size, length_px):
    """OpenCV against itself after one ulp differs by 0.01 to 0.02 px: bound twice that."""
    pair = moved_photo(*size, length_px)
    apart = distance_px(optical_flow(*pair), optical_flow(*pair, method="dual_tvl1"))
    assert apart.mean() < 0.04
    assert apart[4:-4, 4:-4].mean() < 0.025
    assert apart.median() < 0.02


def test_a_larger_epsilon_stops_earlier_and_each_pair_by_itself(monkeypatch):
    counted = []
    iterate = tvl1._iterate
    monkeypatch.setattr(tvl1, "_iterate", lambda *a: counted.append(len(a[0])) or iterate(*a))

    def work(*pair, **options):
        counted[:] = []
        return optical_flow(*pair, warps=1, scales=1, **options), sum(counted)

    pairs = [moved_photo(40, 40, length) for length in (0.0, 0.2, 1.0)]
    stacks = [torch.stack(images) for images in zip(*pairs, strict=True)]
    flow, together = work(*stacks)
    flows, alone = zip(*(work(*pair) for pair in pairs), strict=True)
    torch.testing.assert_close(flow, torch.stack(flows), atol=1e-5, rtol=0)
    assert together == sum(alone)  # a frozen pair costs nothing
    assert 0 < work(*stacks, epsilon=0.1)[1] < together


def test_lots_do_not_show(monkeypatch):
    pairs = [moved_photo(24, 30, 0.2 * i) for i in range(5)]
    stacks = [torch.stack(images) for images in zip(*pairs, strict=True)]
    whole = optical_flow(*stacks)
    monkeypatch.setattr(tvl1, "PIXELS_AT_ONCE", 2 * 24 * 30)
    torch.testing.assert_close(optical_flow(*stacks), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [1, 3, 5])
def test_the_median_is_the_median(side):
    field = torch.randn(2, 2, 9, 7, generator=torch.Generator().manual_seed(0))
    wide = np.pad(field.numpy(), ((0, 0), (0, 0), (side // 2,) * 2, (side // 2,) * 2), mode="edge")
    near = np.lib.stride_tricks.sliding_window_view(wide, (side, side), axis=(2, 3))
    kept = field.clone()
    assert torch.equal(tvl1._median(field, side), torch.from_numpy(np.median(near, axis=(4, 5))))
    assert torch.equal(field, kept)


@pytest.mark.gpu
def test_the_gpu_gives_the_flow_of_the_cpu():
    pair = moved_photo(57, 81, 1.0)
    on_gpu = [image.cuda() for image in pair]
    short = {**SHORT, "warps": 1}
    apart = distance_px(optical_flow(*on_gpu, **short).cpu(), optical_flow(*pair, **short))
    assert apart.mean() < 1e-3
    apart = distance_px(optical_flow(*on_gpu).cpu(), optical_flow(*pair))
    assert apart.mean() < 0.04  # see the sensitivity above
