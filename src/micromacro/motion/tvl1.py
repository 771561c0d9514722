"""TV-L1 optical flow in plain torch: many pairs of images at once, on any device.

For two images I0, I1 with grey levels 0 to 255 the flow u minimises

    E(u) = sum over pixels of |du1| + |du2| + lambda |I1(x + u(x)) - I0(x)|

by the duality of Zach, Pock, Bischof (2007), with the scheme and the names of Sánchez Perez,
Meinhardt-Llopis, Facciolo (IPOL 2013). Around a flow u0 the data term is made linear,
rho(u) = I1(x + u0) + (u - u0) . dI1(x + u0) - I0, and an auxiliary flow v close to u, by
|u - v|^2 / (2 theta), splits the problem in two, which are solved in turn:

    v = u + clamp(-rho(u) / |dI1|^2, -lambda theta, lambda theta) dI1     (thresholding)
    u = v + theta div p,   p = (p + tau/theta du) / (1 + tau/theta |du|)  (Chambolle's dual step)

Where the papers leave a choice (pyramid, interpolation, borders, stopping), it is the one that
OpenCV's DualTVL1OpticalFlow makes, so that the two can be compared.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch.nn.functional import grid_sample, pad

COARSEST_PX = 16  # no level of the pyramid has a side below this, but for the image itself
FLAT = torch.finfo(torch.float32).eps  # |dI1|^2 in (grey levels / px)^2 that counts as no gradient
# A lot of pairs fits a cache; elsewhere it fills a GPU, and is about 0.3 GB of memory.
PIXELS_AT_ONCE = {"cpu": 64 * 48 * 48}


@dataclass(frozen=True)
class TVL1:
    """The settings of TV-L1, by the names of the IPOL paper; the defaults are OpenCV's.

    Args:
        tau: Step size of the dual update, which converges up to 0.25.
        lambda_: Weight of the data term for grey levels 0 to 255: smaller is smoother.
        theta: How far the auxiliary flow v may be from u: larger is looser.
        scales: Number of levels of the pyramid, at most; none has a side below 16 px.
        scale_step: Side of a level relative to that of the level before.
        warps: How often each level warps the second image and its gradient.
        epsilon: Root mean square change of u in px per iteration at which a warp is finished.
        inner_iterations: Number of iterations between two median filters.
        outer_iterations: Number of median filters per warp, at most.
        median_filtering: Side of the median filter in px: 1 (none), 3 or 5.
    """

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    scales: int = 5
    scale_step: float = 0.8
    warps: int = 5
    epsilon: float = 0.01
    inner_iterations: int = 30
    outer_iterations: int = 10
    median_filtering: int = 5


def tvl1_flow(first: torch.Tensor, second: torch.Tensor, settings: TVL1) -> torch.Tensor:
    """Flow of each pair; a pair that has converged is frozen while the others go on.

    So each flow is what it would be alone, whatever else is in the batch.

    Args:
        first: float32 (N, H, W) in [0, 1], the images whose pixels are followed.
        second: float32 (N, H, W) in [0, 1], on the same device: where they are looked for.
        settings: The options of the method.

    Returns:
        flow_px, float32 (N, 2, H, W), x y.
    """
    lot = max(1, PIXELS_AT_ONCE.get(first.device.type, 2**20) // first[0].numel())
    pairs = zip(first.split(lot), second.split(lot), strict=True)
    return torch.cat([_coarse_to_fine(255 * one, 255 * two, settings) for one, two in pairs])


def _coarse_to_fine(first: torch.Tensor, second: torch.Tensor, s: TVL1) -> torch.Tensor:
    pyramid = [torch.stack((first, second), 1)]  # (N, 2, H, W), finest first
    for _ in range(s.scales - 1):
        size = [round(side * s.scale_step) for side in pyramid[-1].shape[-2:]]
        if min(size) < COARSEST_PX:
            break
        pyramid.append(_resize(pyramid[-1], size, (1 / s.scale_step, 1 / s.scale_step)))
    flow = torch.zeros_like(pyramid[-1])  # (N, 2, h, w), x then y
    for level in reversed(pyramid):  # from coarse to fine, each starting where the one before ended
        size = level.shape[-2:]
        if size != flow.shape[-2:]:
            steps = (flow.shape[-2] / size[0], flow.shape[-1] / size[1])
            flow = _resize(flow, size, steps) / s.scale_step  # pixels of this level are smaller
        flow = _one_scale(level[:, 0], level[:, 1], flow, s)
    return flow


def _one_scale(
    first: torch.Tensor, second: torch.Tensor, flow: torch.Tensor, s: TVL1
) -> torch.Tensor:
    """Warp the second image by the flow so far, find the flow around it, and again."""
    y, x = (torch.arange(n, dtype=torch.float64, device=flow.device) for n in flow.shape[-2:])
    planes = torch.stack((second, *_central_differences(second)), 1)  # I1 and dI1, (N, 3, H, W)
    px, py = torch.zeros_like(flow), torch.zeros_like(flow)
    for _ in range(s.warps):
        # I1(x + u0) and dI1(x + u0).
        warped = _sample(planes, x + flow[:, 0], y[:, None] + flow[:, 1], "bicubic", "zeros")
        gradient = warped[:, 1:]
        steepness = (gradient * gradient).sum(1, keepdim=True).clamp_min_(FLAT)  # |dI1|^2
        along = gradient / steepness
        # What of -rho(u) / |dI1|^2 = rest - along . u stays the same while u changes.
        rest = (first - warped[:, 0]).unsqueeze(1) / steepness + _dot(along, flow)
        flow, px, py = _minimise(flow, px, py, gradient, along, rest, s)
    return flow


def _minimise(flow, px, py, gradient, along, rest, s: TVL1) -> list[torch.Tensor]:
    """Iterate until each pair has converged; return the flow and its dual variable.

    The thresholding step of the module's text with -rho(u) / |dI1|^2 = rest - along . u.

    Args:
        flow: float32 (N, 2, H, W), the flow u so far, px.
        px: (N, 2, H, W), theta times the dual variable's part along x; its last column is 0.
        py: (N, 2, H, W), the part along y; its last row is 0.
        gradient: float32 (N, 2, H, W), gradient of the warped image, grey levels / px.
        along: float32 (N, 2, H, W), the gradient over its squared length, px / grey level.
        rest: float32 (N, 1, H, W), the data term at flow 0 over the squared length of the gradient.
        s: The options of the method.
    """
    state = [flow, px, py, gradient, along, rest]
    results = [torch.empty_like(flow) for _ in range(3)]
    working = torch.arange(len(flow), device=flow.device)
    enough = s.epsilon**2 * flow.shape[-2] * flow.shape[-1]  # of a squared change, summed
    for n in range(s.outer_iterations * s.inner_iterations):
        if n % s.inner_iterations == 0:
            state[0] = _median(state[0], s.median_filtering)  # removes what single pixels claim
        state[:3], moved = _iterate(*state, s)
        going = moved > enough  # pairs that have converged leave the batch
        if not going.all():
            for result, now in zip(results, state[:3], strict=True):
                result[working[~going]] = now[~going]
            working, state = working[going], [each[going] for each in state]
            if len(working) == 0:
                break
    for result, now in zip(results, state[:3], strict=True):
        result[working] = now
    return results


def _iterate(flow, px, py, gradient, along, rest, s: TVL1):
    """One thresholding step and one dual step; and the sum of the squared change of each flow.

    With q = theta p the dual step reads q = (q + tau du) / (1 + tau/theta |du|), and div q takes
    backward differences, du forward ones, zero across the edge.
    """
    reach = s.lambda_ * s.theta
    push = (rest - _dot(along, flow)).clamp_(-reach, reach)  # thresholding: (v - u) / dI1
    new = gradient * push  # v - u; then + div q, and at the end + u
    new += px
    new += py
    new[..., 1:] -= px[..., :-1]
    new[..., 1:, :] -= py[..., :-1, :]
    moved = (new * new).sum((1, 2, 3), dtype=torch.float64)
    new += flow

    dx, dy = new.diff(dim=-1), new.diff(dim=-2)  # du by forward differences
    px[..., :-1].add_(dx, alpha=s.tau)
    py[..., :-1, :].add_(dy, alpha=s.tau)
    length = pad(dx.square_(), (0, 1))
    length[..., :-1, :] += dy.square_()
    damping = length.sqrt_().mul_(s.tau / s.theta).add_(1)  # 1 + tau/theta |du|
    return [new, px.div_(damping), py.div_(damping)], moved


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Scalar product of two fields, (N, 2, H, W) each, as (N, 1, H, W)."""
    product = a * b
    return product[:, :1] + product[:, 1:]


def _central_differences(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Half the difference of the two neighbours; outside, the image repeats its edge."""
    padded = pad(image[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    dx = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    dy = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    return dx / 2, dy / 2


def _resize(images: torch.Tensor, size, steps: tuple[float, float]) -> torch.Tensor:
    """Bilinear samples of (N, C, H, W), `steps` (y, x) source pixels apart; no smoothing."""
    y, x = (
        (torch.arange(n, dtype=torch.float64, device=images.device) + 0.5) * step - 0.5
        for n, step in zip(size, steps, strict=True)
    )
    y, x = torch.meshgrid(y, x, indexing="ij")
    where = y.expand(len(images), -1, -1), x.expand(len(images), -1, -1)
    return _sample(images, where[1], where[0], "bilinear", "border")


def _sample(images: torch.Tensor, x: torch.Tensor, y: torch.Tensor, mode: str, outside: str):
    """Values of (N, C, H, W) at positions x, y, float64 (N, H', W') in pixels.

    The cubic kernel is the one with a = -0.75, in torch as in OpenCV. In double, for grid_sample's
    own coordinates round whole pixels, and where the scheme is unstable (at the border) a rounding
    error grows to 0.5 px even between two equal images.
    """
    height, width = images.shape[-2:]
    # Pixel centres of the corners are -1 and 1.
    grid = torch.stack((2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1), -1)
    options = {"mode": mode, "padding_mode": outside, "align_corners": True}
    return grid_sample(images.double(), grid, **options).to(images.dtype)


def _median(flow: torch.Tensor, side: int) -> torch.Tensor:
    """Median of side x side pixels of (N, 2, H, W), by min and max alone; the edge is repeated."""
    height, width = flow.shape[-2:]
    padded = pad(flow, (side // 2,) * 4, mode="replicate")
    near = [padded[..., i : i + height, j : j + width] for i in range(side) for j in range(side)]
    *values, spare = torch.stack([*near, flow])  # one spare plane: exchanges need no copy
    for i, j in _median_network(side * side):
        low = torch.minimum(values[i], values[j], out=spare)
        torch.maximum(values[i], values[j], out=values[j])
        values[i], spare = low, values[i]
    return values[side * side // 2]


@cache
def _median_network(n: int) -> tuple[tuple[int, int], ...]:
    """Compare-exchanges (i < j) that bring the median of n values to n // 2.

    Batcher's merge exchange (Knuth, The Art of Computer Programming 3, 5.2.2 M), less what the
    middle does not depend on.
    """
    exchanges, top = [], 1 << max(0, (n - 1).bit_length() - 1)
    p = top if n > 1 else 0
    while p:
        q, r, d = top, 0, p
        while True:
            exchanges += [(i, i + d) for i in range(n - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    needed, kept = {n // 2}, []  # from the last exchange backwards, what the middle depends on
    for i, j in reversed(exchanges):
        if i in needed or j in needed:
            needed |= {i, j}
            kept.append((i, j))
    return tuple(reversed(kept))
