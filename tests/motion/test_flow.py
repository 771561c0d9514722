import cv2
import numpy as np
import pytest
import torch

from micromacro.motion import flow
from micromacro.motion.flow import optical_flow

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
def test_a_batch_is_its_pairs_one_by_one(method):
    shifts = [(0.0, 0.0), (0.2, 0.1), (-1.5, 0.5), (0.0, 0.0)]
    first = torch.stack([texture(23, 18)] * 4).view(2, 2, 23, 18)
    second = torch.stack([texture(23, 18, *s) for s in shifts]).view(2, 2, 23, 18)
    first[1, 1] = second[1, 1] = 0.5  # a flat pair, finished at once
    flow = optical_flow(first, second, method=method)
    assert flow.shape == (2, 2, 2, 23, 18)
    for i, j in np.ndindex(2, 2):
        alone = optical_flow(first[i, j], second[i, j], method=method)
        torch.testing.assert_close(flow[i, j], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_image_does_not_move_and_a_flat_one_gives_zero(method):
    still = optical_flow(texture(40, 33), texture(40, 33), method=method)
    if method == "farneback":  # is off by up to 0.17 px at the border
        still = still[:, 8:-8, 8:-8]
    assert still.abs().max() < 1e-3
    for one, two in [(0.5, 0.5), (0.0, 0.0), (0.2, 0.9)]:
        flow = optical_flow(torch.full((24, 24), one), torch.full((24, 24), two), method=method)
        assert flow.abs().max() < 1e-3


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


def test_images_are_left_alone_and_give_no_gradient():
    pair = texture(24, 24).requires_grad_(), texture(24, 24, 0.5, 0.0)
    kept = [image.detach().clone() for image in pair]
    assert not optical_flow(*pair).requires_grad
    assert all(map(torch.equal, pair, kept))


SETTINGS = [
    *[("tvl1", {"lambda_": 0.02}), ("tvl1", {"warps": 1, "scales": 2})],
    *[
        pytest.param("dual_tvl1", settings, marks=CONTRIB)
        for settings in (
            {"median_filtering": 1},
            {"epsilon": 0.001, "outer_iterations": 3, "inner_iterations": 5},
        )
    ],
]


@pytest.mark.parametrize(("method", "settings"), SETTINGS)
def test_settings_reach_the_method(method, settings):
    pair = texture(32, 32), texture(32, 32, 1.0, 0.5)
    plain = optical_flow(*pair, method=method)
    assert not torch.equal(optical_flow(*pair, method=method, **settings), plain)


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_flow_comes_back_on_the_device_of_the_images(method):
    pair = [image[None].cuda() for image in (texture(48, 51), texture(48, 51, 1.0, 0.0))]
    flow = optical_flow(*pair, method=method)
    assert flow.device == pair[0].device
    assert error_px(flow.cpu(), 1.0, 0.0) < ERROR_PX.get(method, (0.015, 0.03))[0]
