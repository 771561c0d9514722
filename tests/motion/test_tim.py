"""TIM against graph embedding done the long way."""

import math

import numpy as np
import pytest
import torch

from micromacro.motion.tim import linear_interpolation, tim

BOTH = [tim, linear_interpolation]


def clip(T, D=40, seed=0, dtype=torch.float64):
    return torch.rand(T, D, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def graph_embedding(frames, n_frames):
    """TIM as written: SVD of the frames less their mean, the path graph's eigenproblem, sines."""
    X = frames.numpy().T
    T, mean = X.shape[1], X.mean(1, keepdims=True)
    U, S, Vt = np.linalg.svd(X - mean, full_matrices=False)
    U, Q = U[:, : T - 1], (S[:, None] * Vt)[: T - 1]
    assert S[T - 2] > 1e-6  # linearly independent, but for the mean
    path = np.eye(T, k=1) + np.eye(T, k=-1)
    laplacian = np.diag(path.sum(1)) - path
    values, W = np.linalg.eig(np.linalg.solve(Q @ Q.T, Q @ laplacian @ Q.T))
    order = np.argsort(values.real)
    W, values = W.real[:, order], values.real[order]
    k = np.arange(1, T)[:, None]
    np.testing.assert_allclose(values, 2 - 2 * np.cos(math.pi * k[:, 0] / T), atol=1e-8)

    def curve(t):  # t from 1/T to 1
        return np.sin(math.pi * k * t + math.pi * (T - k) / (2 * T))

    scale = (W.T @ Q)[:, :1] / curve(np.array([1 / T]))  # eigenvectors have any length and sign
    times = np.linspace(1 / T, 1, n_frames)
    return torch.from_numpy((U @ np.linalg.solve(W.T, scale * curve(times)) + mean).T)


@pytest.mark.parametrize(("T", "n_frames"), [(2, 5), (3, 3), (9, 16), (19, 2), (24, 64), (31, 7)])
def test_it_is_graph_embedding(T, n_frames):
    expected = graph_embedding(clip(T), n_frames)
    torch.testing.assert_close(tim(clip(T), n_frames), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("T", "n_frames"), [(2, 2), (9, 22), (8, 22), (19, 19), (24, 5)])
def test_linear_is_numpys(T, n_frames):
    expected = np.interp(np.linspace(0, T - 1, n_frames), np.arange(T), clip(T)[:, 0].numpy())
    found = linear_interpolation(clip(T), n_frames)[:, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-14)


@pytest.mark.parametrize("method", BOTH)
def test_constants_single_frames_and_single_results(method):
    flat = torch.full((7, 3), 0.3, dtype=torch.float64)
    torch.testing.assert_close(method(flat, 11), flat[:1].expand(11, 3), rtol=0, atol=1e-13)
    assert torch.equal(method(clip(1), 4), clip(1).expand(4, 40))
    torch.testing.assert_close(method(clip(5), 1), clip(5)[2:3], rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", BOTH)
def test_shape_dtype_and_gradient(method):
    frames = torch.rand(6, 1, 4, 5, requires_grad=True)
    found = method(frames, 10)
    assert (found.shape, found.dtype) == ((10, 1, 4, 5), torch.float32)
    found.sum().backward()
    assert frames.grad.sum().item() == pytest.approx(10 * 20, rel=1e-5)
