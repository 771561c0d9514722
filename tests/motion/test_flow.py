import json

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from refusals import refused

from micromacro.files import project_root
from micromacro.motion import flow, tvl1
from micromacro.motion.flow import optical_flow
from micromacro.results import read_rows

CONTRIB = pytest.mark.contrib  # OpenCV's own TV-L1
METHODS = [pytest.param(m, marks=CONTRIB) if m == "dual_tvl1" else m for m in flow.METHODS]

DIS = ("dis_ultrafast", "dis_fast", "dis_medium")
# Mean endpoint error in px on the texture below at 48 x 51, for a shift of 1 px and for less:
# measured, and a third on top; the others 0.015 and 0.03.
ERROR_PX = {"tvl1": (0.04, 0.10), "dual_tvl1": (0.04, 0.10), "dis_medium": (0.04, 0.11)}
SHIFTS = [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0), (0.1, 0.0), (0.3, -0.2)]


def texture(height, width, dx=0.0, dy=0.0, contrast=1.0):
    """Twelve waves, none shorter than 5 px, moved exactly by (dx, dy)."""
    low, high = (-0.9, -0.9, 0), (0.9, 0.9, 6.3)
    kx, ky, phase = np.random.default_rng(3).uniform(low, high, (12, 3)).T[..., None, None]
    y, x = np.mgrid[:height, :width].astype(float)
    waves = np.cos(kx * (x - dx) + ky * (y - dy) + phase)
    return torch.from_numpy(0.5 + contrast * waves.sum(0) / 24).float()


def error_px(flow, dx, dy):
    return (flow - torch.tensor((dx, dy)).view(2, 1, 1)).norm(dim=-3).mean().item()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_is_found_with_its_axis_and_its_sign(method, shift):
    flow = optical_flow(texture(48, 51), texture(48, 51, *shift), method=method)
    assert (flow.shape, flow.dtype) == ((2, 48, 51), torch.float32)
    assert error_px(flow, *shift) < ERROR_PX.get(method, (0.015, 0.03))[max(shift) in (0.1, 0.3)]


@pytest.mark.parametrize("method", METHODS)
def test_the_flow_belongs_to_the_pixels_of_the_first_image(method):
    """From 0 on the left to 4 px on the right: where the step lies tells whose pixels are meant."""

    def step_px(x):
        return 4 / (1 + np.exp(-(x - 39) / 8))

    came_from = x = np.mgrid[:48, :78][1].astype(float)
    for _ in range(200):
        came_from = x - step_px(came_from)
    second = texture(48, 78, x - came_from)
    flow = optical_flow(texture(48, 78), second, method=method)[0].numpy()
    of_first, of_second = (
        np.abs(flow - truth)[8:-8, 8:-8].mean() for truth in (step_px(x), x - came_from)
    )
    assert of_first < 0.8 * of_second  # measured 0.03 to 0.10 and 0.12 to 0.18


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_its_pairs_one_by_one_and_what_rests_or_is_flat_gives_zero(method):
    flat = [torch.full((1, 2, 23, 31), grey) for grey in (0.5, 0.2, 0.9)]
    shifts = [(0.0, 0.0), (0.2, 0.1), (-1.5, 0.5), (0.0, 0.3)]
    images = torch.stack([texture(23, 31, *shift) for shift in shifts]).view(2, 2, 23, 31)
    first = torch.cat([images[:1, :1].expand(2, 2, -1, -1), flat[0], flat[1]])
    second = torch.cat([images, flat[0], flat[2]])
    flow = optical_flow(first, second, method=method)
    assert flow.shape == (4, 2, 2, 23, 31)
    for i, j in np.ndindex(4, 2):
        alone = optical_flow(first[i, j], second[i, j], method=method)
        torch.testing.assert_close(flow[i, j], alone, atol=1e-5, rtol=0)
    at_border = 8 if method == "farneback" else 0  # it is off there by up to 0.17 px
    inside = slice(at_border, -at_border or None)
    assert flow[0, 0, :, inside, inside].abs().max() < 1e-3
    assert flow[2:].abs().max() < 1e-3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(12, 12), (12, 24), (64, 12), (33, 71)])
def test_small_and_long_images_work(method, shape):
    """All but DIS take wide and low ones too: see the doors."""
    flow = optical_flow(texture(*shape), texture(*shape, 1.0, 0.0), method=method)
    assert error_px(flow, 1.0, 0.0) < 0.12


@pytest.mark.parametrize("method", METHODS)
def test_eight_bit_float_and_double_are_one_image(method):
    one, two = ((255 * i).round().to(torch.uint8) for i in (texture(24, 24), texture(24, 24, 0.5)))
    flow = optical_flow(one, two, method=method)
    torch.testing.assert_close(flow, optical_flow(one / 255, two / 255, method=method))
    double = optical_flow(one.double() / 255, two.double() / 255, method=method)
    torch.testing.assert_close(flow, double, atol=0.02, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_only_dis_rounds_to_eight_bit(method):
    fine = texture(32, 32, contrast=0.2), texture(32, 32, 1.0, contrast=0.2)
    coarse = [(255 * image).round() / 255 for image in fine]
    flow, rounded = (optical_flow(*pair, method=method) for pair in (fine, coarse))
    assert torch.equal(flow, rounded) == (method in DIS)


@pytest.mark.parametrize("method", METHODS)
def test_no_call_leaves_a_trace_and_opencv_is_called_as_its_documentation_says(method):
    """Farneback is told 255; DIS objects adapt to a small image and stay so, up to 0.2 px."""
    pair = texture(112, 112), texture(112, 112, 1.0, 0.0)
    before = optical_flow(*pair, method=method)
    optical_flow(texture(16, 16), texture(16, 16, 1.0, 0.0), method=method)
    flow = optical_flow(*pair, method=method)
    assert torch.equal(flow, before)
    images = [(255 * image).numpy() for image in pair]
    if method == "farneback":
        expected = cv2.calcOpticalFlowFarneback(*images, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    elif method in DIS:
        preset = getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{method[4:].upper()}")
        images = [image.round().astype(np.uint8) for image in images]
        expected = cv2.DISOpticalFlow_create(preset).calc(*images, None)
    else:
        return
    np.testing.assert_allclose(flow.permute(1, 2, 0).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_an_empty_batch_gives_an_empty_flow(method, dtype):
    empty = torch.zeros(3, 0, 24, 20, dtype=dtype)
    flow = optical_flow(empty, empty, method=method)
    assert (flow.shape, flow.dtype) == ((3, 0, 2, 24, 20), torch.float32)


def test_farneback_takes_settings_as_opencv_does():
    pair = texture(48, 48), texture(48, 48, 0.5, 0.3)
    images = [(255 * image).numpy() for image in pair]
    options = {"scale_step": 0.6, "scales": 2, "window": 21, "iterations": 4}
    options |= {"polynomial_px": 7, "polynomial_sigma": 1.5, "gaussian": 1}
    flow = optical_flow(*pair, method="farneback", **options).permute(1, 2, 0).numpy()
    flag = cv2.OPTFLOW_FARNEBACK_GAUSSIAN
    expected = cv2.calcOpticalFlowFarneback(*images, None, 0.6, 2, 21, 4, 7, 1.5, flag)
    np.testing.assert_array_equal(flow, expected)
    plain = cv2.calcOpticalFlowFarneback(*images, None, 0.6, 2, 21, 4, 7, 1.5, 0)
    assert np.abs(flow - plain).max() > 0.01


@pytest.mark.parametrize("side", [40, 48, 79, 81, 112, 300])
def test_the_tuned_flow_is_that_of_the_nearest_size(side):
    pair = texture(side, side), texture(side, side, 0.4, 0.2)
    method, settings = flow.TUNED[48 if side < 80 else 112]
    assert torch.equal(flow.tuned_flow(*pair), optical_flow(*pair, method=method, **settings))


@pytest.mark.parametrize("image", [[], torch.tensor(0.5)])
def test_the_tuned_flow_refuses_what_is_no_image(image):
    refused(lambda: flow.tuned_flow(image, image), "first")


def test_the_tuned_flow_is_the_best_of_the_committed_table():
    """Over all inputs, conditions and development actors of a size."""
    rows = read_rows(project_root() / "data/results/flow_settings__full__cpu.csv")
    rows = rows[rows["metric"] == "cosine"]
    assert (rows["seed"] >= 1000).all()
    scores = {}
    for method, params, value in rows[["arm", "params", "value"]].itertuples(index=False):
        options = json.loads(params)
        size, _ = options.pop("size"), options.pop("input")
        name = json.dumps([method, options], sort_keys=True)
        scores.setdefault(size, {}).setdefault(name, []).append(value)
    best = {size: max(own, key=lambda name: np.mean(own[name])) for size, own in scores.items()}
    assert {size: json.dumps(tuned, sort_keys=True) for size, tuned in flow.TUNED.items()} == best


def test_images_are_left_alone_and_give_no_gradient():
    pair = texture(24, 24).requires_grad_(), texture(24, 24, 0.5, 0.0)
    kept = [image.detach().clone() for image in pair]
    assert not optical_flow(*pair).requires_grad
    assert all(map(torch.equal, pair, kept))


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_flow_comes_back_on_the_device_of_the_images(method):
    pair = [image[None].cuda() for image in (texture(48, 51), texture(48, 51, 1.0, 0.0))]
    flow = optical_flow(*pair, method=method)
    assert flow.device == pair[0].device
    assert error_px(flow.cpu(), 1.0, 0.0) < ERROR_PX.get(method, (0.015, 0.03))[0]


# ---- TV-L1 against OpenCV's own ------------------------------------------------------------------

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


@CONTRIB
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


@CONTRIB
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


def test_a_larger_epsilon_stops_earlier_and_a_frozen_pair_costs_nothing(monkeypatch):
    counted = []
    iterate = tvl1._iterate
    monkeypatch.setattr(tvl1, "_iterate", lambda *a: counted.append(len(a[0])) or iterate(*a))

    def work(*pair, **options):
        counted[:] = []
        optical_flow(*pair, warps=1, scales=1, **options)
        return sum(counted)

    pairs = [moved_photo(40, 40, length) for length in (0.0, 0.2, 1.0)]
    stacks = [torch.stack(images) for images in zip(*pairs, strict=True)]
    together = work(*stacks)
    assert together == sum(work(*pair) for pair in pairs)
    assert 0 < work(*stacks, epsilon=0.1) < together


def test_lots_do_not_show(monkeypatch):
    pairs = [moved_photo(24, 30, 0.2 * i) for i in range(5)]
    stacks = [torch.stack(images) for images in zip(*pairs, strict=True)]
    whole = optical_flow(*stacks)
    monkeypatch.setitem(tvl1.PIXELS_AT_ONCE, "cpu", 2 * 24 * 30)
    torch.testing.assert_close(optical_flow(*stacks), whole, atol=0, rtol=0)


@pytest.mark.gpu
def test_the_gpu_gives_the_flow_of_the_cpu():
    pair = moved_photo(57, 81, 1.0)
    on_gpu = [image.cuda() for image in pair]
    short = {**SHORT, "warps": 1}
    apart = distance_px(optical_flow(*on_gpu, **short).cpu(), optical_flow(*pair, **short))
    assert apart.mean() < 1e-3
    apart = distance_px(optical_flow(*on_gpu).cpu(), optical_flow(*pair))
    assert apart.mean() < 0.04  # see the sensitivity above
