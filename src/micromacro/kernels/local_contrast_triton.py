"""Local contrast normalisation on CUDA, in Triton; see `micromacro.kernels.local_contrast`.

A program takes a tile of 64 x 64 pixels, blurs it by two products with a banded matrix, and so its
squares; both blurs need a margin of the window's radius r, so 64 - 4 r pixels per axis (48 for a
window of 9) are its own. The tile is centred on its own mean.

Bytes per pixel in memory, for float32 input (uint8: 3 less); the margins, read again by neighbours
(1.8 reads per pixel for a window of 9), come from the second-level cache:

    "mean_std"  one launch    read x 4, write y 4                                              8
    "jarrett"   two launches  read x 4, write v 4 and s 4; read v 4 and s 4, write y 4        24

At 4.3 TB/s that is at best 2 and 6 ps per pixel. The products, three TF32 passes for the accuracy
of float32 (window of 9: 2.7 kFLOP per pixel), take about 7 ps at 400 TFLOP/s, so they, not the
memory, should be the limit. Predicted, not measured.
"""

import torch

from micromacro.kernels.local_contrast import FLAT
from micromacro.kernels.triton_device import check_device, tl, triton

_TILE = 64
_BLOCK = 1024


def local_contrast_triton(
    images: torch.Tensor, method: str, taps: torch.Tensor, eps: float
) -> torch.Tensor:
    """Normalise images whose options were checked by the caller.

    Args:
        images: float32 in [0, 1] or uint8, (N, H, W), N >= 1, on CUDA.
        method: "jarrett" or "mean_std".
        taps: float64 (window,), sum 1; window at most 17.
        eps: "mean_std" only; white is 1.

    Returns:
        float32 (N, H, W).

    Raises:
        BadInput: Images on a device that Triton does not serve.
    """
    check_device(_contrast_kernel, images.device)
    with torch.cuda.device_of(images):
        return _launch(images.contiguous(), method, taps, eps)


def _launch(images: torch.Tensor, method: str, taps: torch.Tensor, eps: float) -> torch.Tensor:
    N, H, W = images.shape
    own = _TILE - 4 * (len(taps) // 2)
    tiles = triton.cdiv(H, own), triton.cdiv(W, own)
    out = torch.empty(images.shape, dtype=torch.float32, device=images.device)
    jarrett = method == "jarrett"
    s = torch.empty_like(out) if jarrett else out  # "mean_std" writes neither s nor sums
    sums = out.new_empty((N, tiles[0] * tiles[1])) if jarrett else out
    white = 255.0 if images.dtype == torch.uint8 else 1.0
    tensors = images, taps.to(out), out, s, sums
    constants = {"RADIUS": len(taps) // 2, "TILE": _TILE, "JARRETT": jarrett}
    options = {"num_warps": 4, "enable_fp_fusion": True}
    _contrast_kernel[(N, *tiles)](*tensors, H, W, white, eps, **constants, **options)
    if jarrett:
        n_sums = sums.shape[1]
        grid = N, triton.cdiv(H * W, _BLOCK)
        constants = {"BLOCK": _BLOCK, "SUMS": triton.next_power_of_2(n_sums)}
        _divide_kernel[grid](out, s, sums, H * W, n_sums, FLAT, **constants, enable_fp_fusion=True)
    return out


@triton.jit
def _contrast_kernel(
    x_ptr,
    taps_ptr,
    out_ptr,
    s_ptr,
    sums_ptr,
    H,
    W,
    white,
    eps,
    RADIUS: tl.constexpr,
    TILE: tl.constexpr,
    JARRETT: tl.constexpr,
):
    """One tile: v and s, divided ("mean_std"), or stored, with the sum of s."""
    OWN: tl.constexpr = TILE - 4 * RADIUS
    frame = tl.program_id(0).to(tl.int64) * H * W
    top = tl.program_id(1) * OWN
    left = tl.program_id(2) * OWN
    i = tl.arange(0, TILE)
    y = top + i - 2 * RADIUS
    x = left + i - 2 * RADIUS
    place = _mirrored(y, H)[:, None] * W + _mirrored(x, W)[None, :]
    first = tl.load(x_ptr + frame + top * W + left).to(tl.float32)
    d = (tl.load(x_ptr + frame + place).to(tl.float32) - first) / white  # 0 where flat
    own = (i >= 2 * RADIUS) & (i < TILE - 2 * RADIUS)
    own_y = own & (y < H)
    own_x = own & (x < W)
    n_own = tl.minimum(H - top, OWN) * tl.minimum(W - left, OWN)
    along = tl.sum(tl.where(own_x[None, :], d, 0.0), axis=1)
    d -= tl.sum(tl.where(own_y, along, 0.0), axis=0) / n_own

    lag = i[:, None] - i[None, :]
    near = (lag <= RADIUS) & (lag >= -RADIUS)
    band = tl.load(taps_ptr + lag + RADIUS, mask=near, other=0.0)  # symmetric
    v = d - _blurred(d, band)
    s = tl.sqrt(_blurred(v * v, band))

    mask = own_y[:, None] & own_x[None, :]
    target = frame + y[:, None] * W + x[None, :]
    if JARRETT:
        tl.store(out_ptr + target, v, mask=mask)
        tl.store(s_ptr + target, s, mask=mask)
        tiles = tl.num_programs(1) * tl.num_programs(2)
        mine = tl.program_id(1) * tl.num_programs(2) + tl.program_id(2)
        total = tl.sum(tl.sum(tl.where(mask, s, 0.0), axis=1), axis=0)
        tl.store(sums_ptr + tl.program_id(0).to(tl.int64) * tiles + mine, total)
    else:
        tl.store(out_ptr + target, v / (s + eps), mask=mask)


@triton.jit
def _divide_kernel(
    v_ptr, s_ptr, sums_ptr, n_px, n_sums, flat, BLOCK: tl.constexpr, SUMS: tl.constexpr
):
    """Divide v in place by max(c, s)."""
    image = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, SUMS)
    c = tl.sum(tl.load(sums_ptr + image * n_sums + j, mask=j < n_sums, other=0.0), axis=0) / n_px
    px = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = px < n_px
    v = tl.load(v_ptr + image * n_px + px, mask=mask)
    s = tl.load(s_ptr + image * n_px + px, mask=mask)
    tl.store(v_ptr + image * n_px + px, v / tl.maximum(tl.maximum(s, c), flat), mask=mask)


@triton.jit
def _blurred(tile, band):
    along = tl.dot(tile, band, input_precision="tf32x3")
    return tl.dot(band, along, input_precision="tf32x3")


@triton.jit
def _mirrored(position, n):
    """Reflect-101 once; beyond that (pixels that no output needs) anything inside."""
    position = tl.where(position < 0, -position, position)
    position = tl.where(position >= n, 2 * (n - 1) - position, position)
    return tl.where(position < 0, 0, position)
