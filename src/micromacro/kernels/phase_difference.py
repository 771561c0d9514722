"""Phase differences between neighbouring frames: motion far below a pixel, without matching.

The representation is that of MIMAMO Net (Deng et al., AAAI 2020): complex steerable pyramid of the
mirrored frame, phase change of each band from one frame to the next, amplitude-weighted blur. Here
it is computed as matrix products (:mod:`~micromacro.kernels.phase_tables`), each frame once.

Cost per frame of N x N and K = 2: about 16 N^3 multiply-adds at level 1 with the blur, an eighth of
that at level 2. It grows with N^3 where a Fourier transform grows with N^2 log N; matrix products
still win at every size up to 224 (benchmarks/phase_vs_peers.py).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from numbers import Real

import torch

from micromacro.errors import BadInput, check_choice, check_sides, check_sizes, check_whole, wholes
from micromacro.kernels.checks import FLOATS, check_tensor, check_values, refuse_rgb, triton_serves
from micromacro.kernels.phase_reference import CLIP_RAD, EPS
from micromacro.kernels.phase_tables import LevelTables, PhaseTables, phase_tables

MODES = ("weighted", "arg_of_blur")
BACKENDS = ("auto", "gemm", "triton", "triton_tf32")
PIXELS_AT_ONCE = {"cpu": 64 * 48 * 48, "cuda": 4096 * 48 * 48}  # fits a cache; fills a GPU


def phase_difference(
    frames: torch.Tensor,
    *,
    levels: Sequence[int] = (1, 2),
    orientations: int = 2,
    blur_sigma: float = 2.0,
    center: bool = True,
    size: int | tuple[int, int] | None = None,
    mode: str = "weighted",
    legacy_unwrap: bool = False,
    backend: str = "auto",
    check: bool = True,
) -> list[torch.Tensor]:
    """Phase differences of neighbouring frames, per pyramid level and orientation.

    Args:
        frames: (..., T, H, W) grey, T >= 2; float32 in [0, 1] or uint8; on any device, contiguous
            or not. Gain and offset of a whole frame do not matter, a little overshoot neither.
            Of RGB (..., T, 3, H, W) give ``kernels.grey(frames)``, of a FaceClip ``clip.grey()``.
            H and W, or ``size``, are even, divisible by 2^(highest level - 1) and at least 4 times
            that.
        levels: Pyramid levels. Level j answers to wavelengths around 2^(j+1) px and is sampled at
            every 2^(j-1)-th pixel, from the first on; h = H / 2^(j-1).
        orientations: K >= 1. Band 0 answers to motion along x, band b to motion along the direction
            turned by pi b / K towards y (down).
        blur_sigma: Gaussian blur, weighted with amplitude, in pixels of each level; taps reach
            2.5 sigma. 0 for none.
        center: Subtract the spatial mean of each map, which removes most of a common translation.
        size: Resize (Lanczos, as Pillow on float images) to this side, or (H, W), folded into the
            transform.
        mode: "weighted": mean of the wrapped phase changes, weights |z_t| |z_t-1|. "arg_of_blur":
            phase of the blurred products; cheaper, the same to third order in the phase.
        legacy_unwrap: The released rule instead: phases unwrapped over all T frames, jumps
            below -pi left as they are, the phase of each frame blurred, then subtracted. Its result
            depends on where the window begins; the released program gives it 13 frames. Clipped to
            5 pi, as there.
        backend: "gemm": matrix products in PyTorch. "triton", "triton_tf32": GPU kernels, for
            square frames of up to 64 px, levels (1, 2), two orientations, mode "weighted"; the
            second rounds products to tf32 (by simulation 2e-4 to 8e-3 rad rms, more where a band is
            weak). "auto": "triton" on a CUDA device where it serves and fits, else "gemm".
        check: False skips the pass over the frames that looks for NaN and for a wrong range, and
            with it a synchronisation of the GPU; and it lets a batch of clips of three frames pass,
            (..., 3, H, W), which else is taken for colours.

    Returns:
        One float32 tensor (..., K, T-1, h, w) per level, rad, on the device of the frames. Entry t
        is frame t+1 against frame t: content that moves right (down) by d px gives about
        -2 pi d / wavelength in band 0 (in the band along y). Unambiguous below half a wavelength
        per frame: 2 px at level 1, 4 px at level 2. An entirely flat frame gives 0; a
        flat part takes the value of what lies around it.
        Within 1e-5 rad of float64 where the amplitude of both frames is above 1/100 of the grey
        range (48 px); below that, and where a change is near pi, a phase is noise and so is its
        error. On CUDA the products obey PyTorch's switch for TF32, which is off by default.
        No gradient flows; ``phase_difference_reference`` is differentiable.

    Raises:
        BadInput: The frames cannot be used, or an option is unknown or out of range.
    """
    check_tensor("frames", frames, "(..., T, H, W)", (torch.float32, torch.uint8))
    size = tuple(frames.shape[-2:]) if size is None else check_sides("size", size)
    orientations = check_whole("orientations", orientations)
    options = levels, orientations, blur_sigma, size, mode, legacy_unwrap, backend
    levels, suits_triton = _check_options(*options)
    if check:
        refuse_rgb("frames", frames, "; if it is clips of three frames, check=False")
    _check_frames(frames, size, max(levels))
    if check:
        check_values("frames", frames, -1, 2)
    clips = frames.detach().reshape(-1, *frames.shape[-3:])  # (B, T, H, W)
    if backend == "auto" and suits_triton and triton_serves(frames.device):
        backend = "triton"  # 1.9 to 11 times as fast on an H100: data/results/kernels_gpu__*.csv
    if backend.startswith("triton"):
        from micromacro.kernels import phase_triton

        fast = backend == "triton_tf32"
        maps = phase_triton.phase_difference_triton(clips, size, blur_sigma, center, fast)
    else:
        # Grey levels are scaled by the matrices.
        key = levels, orientations, float(blur_sigma), 1 / 255 if clips.dtype == torch.uint8 else 1
        tables = phase_tables(tuple(clips.shape[-2:]), size, *key, device=clips.device)
        maps = _by_products(clips, tables, center, "legacy" if legacy_unwrap else mode)
    return [m.view(*frames.shape[:-3], *m.shape[1:]) for m in maps]


def snippets(maps: torch.Tensor, length: int = 12, stride: int = 1) -> torch.Tensor:
    """Windows of consecutive phase differences, as a view: nothing is computed or copied again.

    Args:
        maps: (..., K, T-1, h, w), one level of :func:`phase_difference`.
        length: Maps per window; L maps span L + 1 frames, 12 span the 13 of MIMAMO Net.
        stride: Number of frames from one window's start to the next.

    Returns:
        (..., S, K, length, h, w), a view of ``maps``. Reshape (K, length) to K * length for
        channels that are orientation-major.

    Raises:
        BadInput: There are fewer than ``length`` maps, or ``length`` or ``stride`` is below 1.
    """
    check_tensor("maps", maps, "(..., K, T-1, h, w)", FLOATS)
    length, stride = check_sizes(length=length, stride=stride)
    if length > maps.shape[-3]:
        fault = f"has {maps.shape[-3]} maps, no window of {length} at stride {stride}"
        raise BadInput("maps", fault, f"give at least {length + 1} frames")
    windows = maps.unfold(-3, length, stride)  # (..., K, S, h, w, length)
    return windows.movedim(-1, -3).movedim(-5, -4)


# ---- matrix products ----------------------------------------------------------------------------


class _Scratch:
    """Memory that is used again for every block: fresh pages cost more than the arithmetic."""

    def __init__(self, device: torch.device):
        self.device, self.pool = device, {}

    def __call__(self, name: str, *shape: int) -> torch.Tensor:
        n = torch.Size(shape).numel()
        if name not in self.pool or self.pool[name].numel() < n:
            self.pool[name] = torch.empty(n, dtype=torch.float32, device=self.device)
        return self.pool[name][:n].view(shape)


@torch.inference_mode(False)
@torch.no_grad()
def _by_products(clips: torch.Tensor, tables: PhaseTables, center: bool, mode: str) -> list:
    """Phase differences of clips (B, T, H0, W0), a cacheful at a time."""
    B, T = clips.shape[:2]
    shapes = [level.masks.shape for level in tables.levels]
    new = partial(torch.empty, dtype=torch.float32, device=clips.device)
    maps = [new(B, K, T - 1, h, w) for K, _, h, w in shapes]
    scratch = _Scratch(clips.device)
    H, W = len(tables.into_y), tables.into_x.shape[1]
    at_once = max(4, PIXELS_AT_ONCE.get(clips.device.type, PIXELS_AT_ONCE["cpu"]) // (H * W))
    for b, t in _blocks(B, T, at_once, whole=mode == "legacy"):
        block = clips[b, t]
        coefficients = _transform(block, tables, scratch)  # (frames, H, W)
        for level, out in zip(tables.levels, maps, strict=True):
            z = _bands(coefficients, level, scratch)  # (2, K, frames, h, w)
            z = z.view(*z.shape[:2], *block.shape[:2], *z.shape[-2:])  # (2, K, g, t, h, w)
            _differences(z, level, center, mode, out[b, :, t.start : t.stop - 1], scratch)
    return maps


def _blocks(B: int, T: int, at_once: int, whole: bool) -> Iterator[tuple[slice, slice]]:
    """Clips and frames of each block; blocks of one clip share a frame."""
    if whole or at_once >= T:
        clips = max(1, at_once // T)  # short clips share a block
        for b in range(0, B, clips):
            yield slice(b, min(b + clips, B)), slice(0, T)
        return
    n = -(-(T - 1) // (at_once - 1))
    edges = [i * (T - 1) // n for i in range(n + 1)]  # equal parts: a short rest would be dear
    for b in range(B):
        for start, stop in pairwise(edges):
            yield slice(b, b + 1), slice(start, stop + 1)


def _transform(block: torch.Tensor, tables: PhaseTables, scratch: _Scratch) -> torch.Tensor:
    """Cosine transform of every frame, (F, H, W)."""
    (g, t, H0, W0), (H, W) = block.shape, (len(tables.into_y), tables.into_x.shape[1])
    frames = scratch("frames", g, t, H0, W0).copy_(block)
    frames -= frames.mean((-2, -1), keepdim=True)  # no band sees the mean; its rounding errors do
    rows = torch.mm(frames.view(-1, W0), tables.into_x, out=scratch("rows", g * t * H0, W))
    into_y = tables.into_y.expand(g * t, H, H0)
    return torch.bmm(into_y, rows.view(g * t, H0, W), out=scratch("coefficients", g * t, H, W))


def _bands(coefficients: torch.Tensor, level: LevelTables, scratch: _Scratch) -> torch.Tensor:
    """Real and imaginary parts of every band, (2, K, F, h, w)."""
    K, _, h, w = level.masks.shape
    part = coefficients[:, :h, :w]  # a level keeps |k| < h, |l| < w
    F = len(part)
    z = scratch("bands", 2, K, F, h, w)
    weighted, half = scratch("weighted", F, h, w), scratch("half", F, h, w)

    def right(a: torch.Tensor, matrix: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        torch.mm(a.view(-1, w), matrix, out=out.view(-1, w))
        return out

    def left(matrix: torch.Tensor, a: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return torch.bmm(matrix.expand(F, h, h), a, out=out)

    cc, ss, sc, cs = range(4)
    for b in range(K // 2 + 1):
        re, im = z[:, b]
        mirror = K - b
        if b == 0:  # variation along x: Wss = Wsc = 0, Wcs = Wcc where sin is not 0
            left(level.cos_y, torch.mul(part, level.masks[b, cc], out=weighted), half)
            right(half, level.cos_x, re)
            right(half, level.sin_x, im)
        elif b == mirror:  # along y: Wss = Wcs = 0, Wsc = Wcc where sin is not 0
            right(torch.mul(part, level.masks[b, cc], out=weighted), level.cos_x, half)
            left(level.cos_y, half, re)
            left(level.sin_y, half, im)
        elif b < mirror:  # oblique: band K - b is the mirror image, Wss and Wcs change sign
            for out, image, (one, by_one), (two, by_two) in (
                (re, z[0, mirror], (cc, level.cos_y), (ss, level.sin_y)),
                (im, z[1, mirror], (sc, level.sin_y), (cs, level.cos_y)),
            ):
                left(by_one, torch.mul(part, level.masks[b, one], out=weighted), half)
                right(half, level.cos_x, out)
                left(by_two, torch.mul(part, level.masks[b, two], out=weighted), half)
                right(half, level.sin_x, weighted)
                torch.sub(out, weighted, out=image)
                out += weighted
    return z


def _differences(z, level: LevelTables, center: bool, mode: str, out, scratch: _Scratch) -> None:
    """Phase differences (g, K, t-1, h, w) of bands (2, K, g, t, h, w), into ``out``."""
    _, K, g, t, h, w = z.shape
    if mode == "legacy":
        result = _released(z, level, scratch)
    else:
        # The product with the conjugate of the frame before.
        pair = scratch("pair", 2, K, g, t - 1, h, w)
        now, before = z[..., 1:, :, :], z[..., :-1, :, :]
        real, imaginary = pair  # z_t conj(z_t-1): angle the change, modulus the weight
        torch.mul(now[0], before[0], out=real).addcmul_(now[1], before[1])
        torch.mul(now[1], before[0], out=imaginary).addcmul_(now[0], before[1], value=-1)
        if mode == "arg_of_blur":
            real, imaginary = _blurred(pair, level, scratch)
            result = torch.atan2(imaginary, real, out=real)
        else:
            both = scratch("both", 2, K, g, t - 1, h, w)
            torch.atan2(imaginary, real, out=both[0])
            torch.mul(real, real, out=both[1]).addcmul_(imaginary, imaginary).sqrt_()
            both[0].mul_(both[1])
            change, weight = _blurred(both, level, scratch)  # w * (|z z'| phase) and w * |z z'|
            result = change.div_(weight.add_(EPS))
    result = result.transpose(0, 1)
    if center:
        torch.sub(result, result.mean((-2, -1), keepdim=True), out=out)
    else:
        out.copy_(result)
    if mode == "legacy":  # nothing else can get so far
        out.clamp_(-CLIP_RAD, CLIP_RAD)


def _blurred(maps: torch.Tensor, level: LevelTables, scratch: _Scratch) -> torch.Tensor:
    """The blur of maps (..., h, w), as two products; the result is valid until the next call."""
    h, w = maps.shape[-2:]
    rows = torch.mm(maps.view(-1, w), level.blur_x, out=scratch("blur rows", maps.numel() // w, w))
    rows = rows.view(-1, h, w)
    out = scratch("blurred", *rows.shape)
    return torch.bmm(level.blur_y.expand(len(rows), h, h), rows, out=out).view(maps.shape)


def _released(z: torch.Tensor, level: LevelTables, scratch: _Scratch) -> torch.Tensor:
    """The released rule on windows (2, K, g, T, h, w), (K, g, T-1, h, w)."""
    pi = torch.pi
    weight, phase = torch.hypot(z[0], z[1]).add_(EPS), torch.atan2(z[1], z[0])  # (K, g, T, h, w)
    step = phase.diff(dim=-3)
    phase[..., 1:, :, :] -= 2 * pi * (step > pi).float().cumsum(-3)  # never + 2 pi: see the docs
    blurred, weight = _blurred(torch.stack([weight * phase, weight]), level, scratch)
    return (blurred / weight).diff(dim=-3)


# ---- what can be asked for ----------------------------------------------------------------------


def _check_options(levels, orientations, blur_sigma, size, mode, legacy_unwrap, backend) -> tuple:
    """Levels as a tuple of whole numbers, and whether the GPU kernels are made for all of these."""
    numbers = wholes(levels)
    if not numbers or None in numbers or min(numbers) < 1 or len({*numbers}) != len(numbers):
        raise BadInput(f"levels={levels!r}", "not levels of the pyramid", "give e.g. (1, 2)")
    levels = tuple(numbers)
    if not isinstance(blur_sigma, Real) or not 0 <= blur_sigma < float("inf"):
        raise BadInput(f"blur_sigma={blur_sigma}", "not a width", "give 0 (no blur) or more")
    check_choice("mode", mode, MODES)
    check_choice("backend", backend, BACKENDS)
    if legacy_unwrap and mode != MODES[0]:
        raise BadInput("legacy_unwrap", f"has its own rule, not {mode!r}", "choose one of both")
    suits = size[0] == size[1] <= 64 and levels == (1, 2) and orientations == 2
    suits = suits and mode == "weighted" and not legacy_unwrap
    if backend.startswith("triton") and not suits:
        fault = "made for square frames up to 64 px, levels (1, 2), 2 orientations, mode 'weighted'"
        raise BadInput("backend triton", fault, "choose backend='gemm'")
    return levels, suits


def _check_frames(frames: torch.Tensor, size: tuple[int, int], level: int) -> None:
    if frames.shape[-3] < 2:
        fault = f"{frames.shape[-3]} frame(s) have no difference"
        raise BadInput("frames", fault, "give two or more, grey, without an axis of channels")
    step = 2 ** (level - 1)
    multiple = max(2, step)
    if 0 in frames.shape[-2:] or any(n < 4 * step or n % multiple for n in size):
        fault = f"{size[0]} x {size[1]} px do not suit level {level}"
        remedy = f"crop, or give size=, to multiples of {multiple} of at least {4 * step}"
        raise BadInput("frames", fault, remedy)
