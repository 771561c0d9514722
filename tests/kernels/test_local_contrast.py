import importlib
from functools import partial

import numpy as np
import pytest
import skimage.data
import torch
from refusals import refused
from scipy.ndimage import correlate1d
from torch.autograd import gradcheck

from micromacro.kernels.local_contrast import local_contrast, local_contrast_reference

module = importlib.import_module("micromacro.kernels.local_contrast")  # not the function

METHODS = ("jarrett", "mean_std")
BACKENDS = ("opencv", "torch", "triton")
PHOTO = torch.from_numpy(skimage.data.camera()[40:250, 140:350].copy())


def scipy_blur(x, window, sigma):
    """Along the last two axes; scipy's "mirror" is reflect-101."""
    taps = np.exp(-((np.arange(window) - window // 2) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    return correlate1d(correlate1d(x, taps, -1, mode="mirror"), taps, -2, mode="mirror")


def oracle(x, method, sigma=2.0, window=9, eps=0.02):
    x = np.asarray(x, np.float64)
    v = x - scipy_blur(x, window, sigma)
    s = np.sqrt(scipy_blur(v**2, window, sigma))
    return v / (np.maximum(s, s.mean((-2, -1), keepdims=True)) if method == "jarrett" else s + eps)


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def error(ours, truth):
    assert ours.dtype == torch.float32
    return (ours.cpu().double() - truth).abs().max().item()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("window", "sigma"), [(9, 2.0), (3, 0.7), (13, 5.0)])
def test_reference_is_what_scipy_computes(method, window, sigma):
    x = noise(2, 13, 31).double()
    options = {"method": method, "window": window, "sigma": sigma, "eps": 0.005}
    expected = oracle(x, **options)
    # 1e-12: some thousand roundings of float64.
    np.testing.assert_allclose(local_contrast_reference(x, **options), expected, atol=1e-12)


def test_a_face_looks_nearly_the_same_by_the_deviation_about_one_mean():
    face = skimage.data.astronaut()[20:180, 150:310].mean(-1) / 255
    mean = scipy_blur(face, 9, 2.0)
    deviation = np.sqrt(np.maximum(scipy_blur(face**2, 9, 2.0) - mean**2, 0))
    other = (face - mean) / (deviation + 0.02)
    ours = local_contrast(torch.from_numpy(face).float(), method="mean_std").numpy()
    assert np.corrcoef(ours.ravel(), other.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("faint", [1, 1024])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        *(((9, 9), {}), ((3, 10, 57), {}), ((2, 1, 49, 13), {}), ((7, 21, 22), {})),
        ((2, 17, 40), {"window": 3, "sigma": 1.0, "eps": 0.3}),
        ((2, 17, 40), {"window": 17, "sigma": 4.0, "eps": 0.3}),
    ],
)
def test_backends_agree_with_the_reference(method, backend, shape, options, faint):
    x, options = noise(*shape), {"method": method, **options}
    x[..., 4:, 5:] *= 0.2  # an edge that is not symmetric
    x[:1] /= faint
    ours = local_contrast(x, backend=backend, **options)
    assert ours.shape == shape
    assert error(ours, local_contrast_reference(x, **options)) < 2e-6  # |y| < 5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", METHODS)
def test_flat_images_give_zero_and_disturb_no_other(backend, method):
    x = noise(5, 20, 23)
    for i, level in ((0, 0.1), (2, 0.0), (4, 0.7)):
        x[i] = level
    ours = local_contrast(x, method=method, backend=backend)
    assert torch.all(ours[::2] == 0)
    assert error(ours[1::2], local_contrast_reference(x[1::2], method=method)) < 2e-6
    rounded = torch.full((20, 23), 0.5) + 6e-8 * (noise(20, 23) > 0.5)  # a unit in the last place
    assert 0 < local_contrast(rounded, backend=backend).abs().max() < 0.1
    grey = torch.full((20, 23), 201, dtype=torch.uint8)
    assert torch.all(local_contrast(grey, method=method, backend=backend) == 0)
    assert local_contrast_reference(grey, method=method).abs().max() < 1e-20  # float64's rounding


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", METHODS)
def test_bytes_of_a_photograph(backend, method):
    image = PHOTO[:90, :100]
    ours = local_contrast(image, method=method, backend=backend)
    assert error(ours, local_contrast_reference(image, method=method)) < 1e-5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("together", [1, 3, 64])
def test_frames_that_share_a_call_of_opencv_stay_apart(monkeypatch, method, together):
    monkeypatch.setattr(module, "_CHUNK_PX", together * 12 * 15)
    x = noise(7, 12, 15) * torch.tensor([1, 0.01, 1, 0, 1, 0.1, 1])[:, None, None]
    ours = local_contrast(x, method=method)
    assert error(ours, local_contrast_reference(x, method=method)) < 2e-6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_low_contrast_far_from_zero_keeps_its_digits(backend, method):
    """The trap is the textbook's difference of squares, which cancel in float32."""
    x = 0.9 + 0.02 * noise(48, 48)
    truth = local_contrast_reference(x, method=method, eps=1e-4)
    # Not centred, float32 rounds w * x at 3e-8, which is 5e-6 of this contrast.
    assert error(local_contrast(x, method=method, eps=1e-4, backend=backend), truth) < 1.5e-6


def test_check_can_be_left_out():
    x = 255 * noise(2, 12, 20)
    x[1, 0, 0] = torch.nan
    assert error(local_contrast(x, check=False)[0], local_contrast_reference(x[0])) < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_plain_operations_can_be_differentiated(method):
    x = noise(9, 10).double().requires_grad_()
    assert gradcheck(partial(local_contrast_reference, method=method), x, fast_mode=True)
    x = x.detach().float().requires_grad_()
    local_contrast(x, method=method, backend="torch").square().sum().backward()
    assert x.grad.isfinite().all()
    refused(lambda: local_contrast(x, method=method), "no gradient")
    with torch.no_grad():
        assert not local_contrast(x, method=method).requires_grad


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(5, 9, 9), (64, 48, 48), (3, 2, 112, 113), (2, 224, 224)])
def test_on_cuda(method, shape):
    images = noise(*shape)
    for x in (images, (images * 255).byte()):
        truth = local_contrast_reference(x, method=method)
        errors = {
            backend: error(local_contrast(x.cuda(), method=method, backend=backend), truth)
            for backend in ("torch", "triton", "auto")
        }
        assert errors["auto"] == errors["triton"]
        assert max(errors.values()) < 2e-6


@pytest.mark.gpu
def test_on_cuda_auto_takes_torch_where_triton_cannot():
    images = noise(2, 40, 40).cuda()
    wide = local_contrast(images, window=19)
    assert torch.equal(wide, local_contrast(images, window=19, backend="torch"))
    local_contrast(images.requires_grad_()).sum().backward()
    assert images.grad.isfinite().all()


@pytest.mark.gpu
def test_on_cuda_flat_is_zero_and_opencv_is_refused():
    flat = torch.full((3, 50, 60), 0.1, device="cuda")
    for method in METHODS:
        for backend in ("torch", "triton"):
            assert torch.all(local_contrast(flat, method=method, backend=backend) == 0)
    refused(lambda: local_contrast(flat, backend="opencv"), "OpenCV cannot read cuda")


def test_without_opencv(monkeypatch):
    images = noise(2, 20, 24)
    expected = local_contrast(images, backend="torch")
    monkeypatch.setattr(module, "cv2", None)
    assert torch.equal(local_contrast(images), expected)
    words = "OpenCV is not installed; choose torch"
    refused(lambda: local_contrast(images, backend="opencv"), words)
