"""Phase differences on a GPU: two Triton kernels, the matrix products of the ``phase_tables``.

``_bands_kernel`` takes a frame to its two complex bands, ``_differences_kernel`` two frames' bands
to one map; each is launched once per level. Between the two the bands lie in memory, for as many
frames at a time as a large GPU's L2 cache holds. Matrices are padded with zeros to powers of two;
zeros stay zeros through every product, so what lies beyond the frame never counts.

A float32 product is made of three tf32 products (``tf32x3``), as exact as float32 arithmetic, or of
one (``fast``). True float32 products of 64 x 64 would be unrolled into more values than a GPU has
registers for. Every product loads its matrix anew, so that one matrix at a time is in shared
memory: 64 KB per block at most, and at 48 and 64 px nothing spilled (four warps, compiled for a
Hopper GPU; Triton 3.6 spills 128 bytes a thread of the first kernel).
Importing this module without Triton raises ``BadInput``.
"""

from functools import lru_cache, partial

import torch
import torch.nn.functional as F  # noqa: N812

from micromacro.kernels.phase_reference import EPS
from micromacro.kernels.phase_tables import lanczos, phase_tables
from micromacro.kernels.triton_device import check_device, tl, triton

BANDS_BYTES = 20 << 20  # at a time: 568 frames of 48 px; an H200's cache has 50 MB
RESIZED_AT_ONCE = 4096  # frames


def phase_difference_triton(
    clips: torch.Tensor, size: tuple[int, int], blur_sigma: float, center: bool, fast: bool
) -> list[torch.Tensor]:
    """Phase differences of levels 1 and 2, two orientations, mode "weighted".

    A frame's result depends on its own clip only, bit for bit, whatever is in the batch.

    Args:
        clips: (B, T, H0, W0) float32 in [0, 1] or uint8, T >= 2, any strides; on a CUDA device, or
            on any device under Triton's interpreter. B may be 0.
        size: (N, N), 8 <= N <= 64, even. Frames of another size are resized beforehand by
            ``torch.matmul``, in parts of 4096 frames: they may be larger than a block.
        blur_sigma: See :func:`~micromacro.kernels.phase_difference`; also ``center``.
        center: See ``blur_sigma``.
        fast: Round the factors of all products to tf32 (10 bits). Simulated errors: 2e-4 rad rms on
            strong textures; 8e-3 on the synthetic actor, whose smooth skin has weak fine detail
            (1 value in 150 of level 1 is off by more than 1e-2).

    Returns:
        float32 (B, 2, T-1, N, N) and (B, 2, T-1, N/2, N/2), rad, on the device of the clips. They
        need no clamp at 5 pi: a mean of wrapped phases less its spatial mean is within 2 pi.

    Raises:
        BadInput: Frames that are not on a GPU, or on one without tf32.
    """
    check_device(_bands_kernel, clips.device)
    with torch.cuda.device_of(clips), torch.inference_mode(False), torch.no_grad():
        frames = clips if clips.shape[-2:] == size else _resized(clips, size[0])
        gain = 1 / 255 if frames.dtype == torch.uint8 else 1.0
        return [_level(frames, j, float(blur_sigma), gain, center, fast) for j in (1, 2)]


def _resized(clips: torch.Tensor, n: int) -> torch.Tensor:
    """Frames at n x n, float32 in [0, 1] less their mean, (B, T, n, n)."""
    (B, T), source = clips.shape[:2], clips.shape[-2:]
    gain = 1 / 255 if clips.dtype == torch.uint8 else 1.0
    by_y, by_x = (lanczos(n0, n).to(clips.device, torch.float32) for n0 in source)
    out = torch.empty(B * T, n, n, dtype=torch.float32, device=clips.device)
    parts = clips.reshape(B * T, *source).split(RESIZED_AT_ONCE)
    for frames, part in zip(parts, out.split(RESIZED_AT_ONCE), strict=True):
        frames = frames.float()
        frames = frames - frames.mean((-2, -1), keepdim=True)  # no band sees the mean
        torch.matmul(gain * by_y @ frames, by_x.T, out=part)
    return out.view(B, T, n, n)


def _level(frames, level: int, blur_sigma: float, gain: float, center: bool, fast: bool):
    """One level of frames (B, T, N, N), a cacheful of pairs at a time.

    Pairs are counted through all clips, T-1 in each: pair p is of frame p + p // (T-1) and the
    next.
    """
    B, T, N, _ = frames.shape
    n = N >> (level - 1)
    into, squares = _constants(N, level, blur_sigma, gain, frames.device)
    into_block, block = into.shape[-1], squares.shape[-1]
    options = {"PRECISION": "tf32" if fast else "tf32x3", "num_warps": 4, "enable_fp_fusion": True}
    new = partial(torch.empty, dtype=torch.float32, device=frames.device)
    out = new(B, 2, T - 1, n, n)
    pairs = B * (T - 1)
    at_once = max(1, min(pairs, BANDS_BYTES // (16 * n * n) * (T - 1) // T))
    bands = new(at_once + at_once // (T - 1) + 2, 2, 2, n, n)
    for first in range(0, pairs, at_once):
        last = min(first + at_once, pairs) - 1
        frame, end = first + first // (T - 1), last + last // (T - 1) + 2
        strides = frames.stride()
        _bands_kernel[end - frame,](
            frames, into, squares, bands, frame, T, *strides, N, n, into_block, block, **options
        )
        _differences_kernel[last + 1 - first, 2](
            bands, squares, out, first, frame, T, n, block, center, EPS, **options
        )
    return out


@lru_cache(maxsize=32)
def _constants(N: int, level: int, blur_sigma: float, gain: float, device: torch.device):
    """Matrices of one level, padded with zeros and stacked.

    Returns:
        The transform, (2, n, N) along y and (., N, n) along x, as one tensor (2, n', N'); and
        (7, n', n'): masks of both bands, cos and sin along y, cos and sin along x, blur.
    """
    tables = phase_tables((N, N), (N, N), (level,), 2, blur_sigma, gain, device=device)
    t = tables.levels[0]
    n = len(t.cos_y)
    wide, block = (max(16, triton.next_power_of_2(m)) for m in (N, n))

    def padded(matrix: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        return F.pad(matrix, (0, columns - matrix.shape[1], 0, rows - matrix.shape[0]))

    into = [padded(tables.into_y[:n], block, wide), padded(tables.into_x[:, :n], wide, block)]
    squares = [t.masks[0, 0], t.masks[1, 0], t.cos_y, t.sin_y, t.cos_x, t.sin_x, t.blur_y]
    return (
        torch.stack([into[0], into[1].view(block, wide)]),
        torch.stack([padded(m, block, block) for m in squares]),
    )


@triton.jit(do_not_specialize=("first", "T"))  # or every part's number would be compiled anew
def _bands_kernel(
    frames,
    into,
    squares,
    bands,
    first,
    T,
    stride_b,
    stride_t,
    stride_y,
    stride_x,
    N: tl.constexpr,
    n: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Both complex bands of one frame: grid (frames of this part,)."""
    number = first + tl.program_id(0).to(tl.int64)
    y = tl.arange(0, WIDE).to(tl.int64)[:, None]
    x = tl.arange(0, WIDE).to(tl.int64)[None, :]
    at = frames + (number // T) * stride_b + (number % T) * stride_t
    inside = (y < N) & (x < N)
    image = tl.load(at + y * stride_y + x * stride_x, mask=inside, other=0).to(tl.float32)
    image = tl.where(inside, image - tl.sum(image) / (N * N), 0.0)  # no band sees the mean

    half = _product(image, _matrix(into, 1, WIDE, BLOCK), PRECISION)
    spectrum = _product(_matrix(into, 0, BLOCK, WIDE), half, PRECISION)

    out = bands + tl.program_id(0).to(tl.int64) * (4 * n * n)
    half = spectrum * _matrix(squares, 0, BLOCK, BLOCK)  # variation along x
    half = _product(_matrix(squares, 2, BLOCK, BLOCK), half, PRECISION)
    _store(out, _product(half, _matrix(squares, 4, BLOCK, BLOCK), PRECISION), n, BLOCK)
    _store(out + n * n, _product(half, _matrix(squares, 5, BLOCK, BLOCK), PRECISION), n, BLOCK)
    half = spectrum * _matrix(squares, 1, BLOCK, BLOCK)  # variation along y
    half = _product(half, _matrix(squares, 4, BLOCK, BLOCK), PRECISION)
    _store(out + 2 * n * n, _product(_matrix(squares, 2, BLOCK, BLOCK), half, PRECISION), n, BLOCK)
    _store(out + 3 * n * n, _product(_matrix(squares, 3, BLOCK, BLOCK), half, PRECISION), n, BLOCK)


@triton.jit(do_not_specialize=("first", "first_frame", "T"))
def _differences_kernel(
    bands,
    squares,
    out,
    first,
    first_frame,
    T,
    n: tl.constexpr,
    BLOCK: tl.constexpr,
    CENTER: tl.constexpr,
    EPS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One map of one band: grid (pairs of this part, 2)."""
    pair, band = first + tl.program_id(0).to(tl.int64), tl.program_id(1)
    clip, t = pair // (T - 1), pair % (T - 1)
    before = bands + ((pair + clip - first_frame) * 2 + band) * (2 * n * n)
    now = before + 4 * n * n
    real_0, real_1 = _load(before, n, BLOCK), _load(now, n, BLOCK)
    imag_0, imag_1 = _load(before + n * n, n, BLOCK), _load(now + n * n, n, BLOCK)
    real = real_1 * real_0 + imag_1 * imag_0
    imag = imag_1 * real_0 - real_1 * imag_0
    weight = tl.sqrt(real * real + imag * imag)

    change = _product(weight * _angle(imag, real), _matrix(squares, 6, BLOCK, BLOCK), PRECISION)
    change = _product(_matrix(squares, 6, BLOCK, BLOCK), change, PRECISION)
    weight = _product(weight, _matrix(squares, 6, BLOCK, BLOCK), PRECISION)
    weight = _product(_matrix(squares, 6, BLOCK, BLOCK), weight, PRECISION)
    change = change / (weight + EPS)
    if CENTER:
        change -= tl.sum(change) / (n * n)
    _store(out + ((clip * 2 + band) * (T - 1) + t) * (n * n), change, n, BLOCK)


@triton.jit
def _product(a, b, PRECISION: tl.constexpr):
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def _matrix(stack, number: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """One matrix of a stack."""
    at = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    return tl.load(stack + number * (ROWS * COLUMNS) + at)


@triton.jit
def _load(at, n: tl.constexpr, BLOCK: tl.constexpr):
    """Square of n x n values, zeros around it."""
    y, x = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    return tl.load(at + y * n + x, mask=(y < n) & (x < n), other=0.0)


@triton.jit
def _store(at, values, n: tl.constexpr, BLOCK: tl.constexpr):
    y, x = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    tl.store(at + y * n + x, values, mask=(y < n) & (x < n))


@triton.jit
def _angle(y, x):
    """atan2 to 5e-7 rad; 0 for x = y = 0. Plain operations: the interpreter has no atan2.

    Odd polynomial of degree 13 for the first octant (minimax fit, 2.5e-7), then reflections.
    """
    low, high = tl.minimum(tl.abs(x), tl.abs(y)), tl.maximum(tl.abs(x), tl.abs(y))
    t = low / (high + 1e-37)
    s = t * t
    p = 0.0068117910996079445
    p = p * s - 0.0336042121052742
    p = p * s + 0.07962366193532944
    p = p * s - 0.1323334127664566
    p = p * s + 0.19807815155751812
    p = p * s - 0.3331736922264099
    p = p * s + 0.9999961256980896
    angle = t * p
    angle = tl.where(tl.abs(y) > tl.abs(x), 1.5707963267948966 - angle, angle)
    angle = tl.where(x < 0, 3.141592653589793 - angle, angle)
    return tl.where(y < 0, -angle, angle)
