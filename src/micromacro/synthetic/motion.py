"""The one map behind picture, flow and landmarks: which material point a picture point shows.

A picture point is followed backwards: out of the head's pose, out of the smooth action units, out
of the opening of the mouth, to a point of the resting face. All points are in face units.
"""

import torch
import torch.nn.functional as F  # noqa: N812

from micromacro.synthetic import anatomy
from micromacro.synthetic.anatomy import AUS, MOTION_HALF
from micromacro.synthetic.identity import Identity
from micromacro.synthetic.performance import Performance

_LIP_FALL, _LIP_RISE = 0.20, 0.075  # how far below and above the lips the opening is felt
_LOWER_SHARE, _UPPER_SHARE, _JAW_SHARE = 0.62, 0.38, 0.72  # of part, of part, of jaw
_REST = ("1", "4", "12", "15", "23")  # AUs of Identity.rest
_EXACT = 1.5e-5  # face units: below 0.001 px at 128 px


class Motion:
    """How the skin of one person moves.

    Args:
        identity: The person whose skin moves.
        device: Device on which points and displacement fields live.
    """

    def __init__(self, identity: Identity, device: torch.device):
        self.identity, self.device = identity, device
        self._fields = anatomy.fields(identity).flatten(1).to(device)
        rest = torch.zeros(len(AUS))
        rest[[AUS.index(n) for n in _REST]] = torch.tensor(identity.rest)
        self._rest = rest.to(device)

    def unpose(self, points: torch.Tensor, play: Performance) -> torch.Tensor:
        """Take points (F or 1, 2, h, w) out of the head's pose: (F, 2, h, w)."""
        a, b, shift = self._pose(play)
        dx, dy = (points - shift).unbind(1)
        return torch.stack([a * dx + b * dy, a * dy - b * dx], 1)

    def put_in_pose(self, points: torch.Tensor, play: Performance) -> torch.Tensor:
        """Move points (F or 1, 2, h, w) with the head: the inverse of ``unpose``, (F, 2, h, w)."""
        a, b, shift = self._pose(play)
        scale = torch.exp(2 * play.log_scale).to(self.device)[:, None, None]
        a, b = a * scale, b * scale
        x, y = points.unbind(1)
        return torch.stack([a * x - b * y, b * x + a * y], 1) + shift

    def _pose(self, play: Performance) -> tuple[torch.Tensor, ...]:
        """Cosine and sine of the roll over the scale, (F, 1, 1); the shift, (F, 2, 1, 1)."""
        shrink = torch.exp(-play.log_scale)
        a, b = shrink * torch.cos(play.roll), shrink * torch.sin(play.roll)
        parts = a[:, None, None], b[:, None, None], play.shift[:, :, None, None]
        return tuple(part.to(self.device) for part in parts)

    def drift(self, play: Performance) -> torch.Tensor:
        """The smooth displacement of each frame on the motion grid, (F, 2, G, G), backwards."""
        turn = torch.stack([play.jaw, play.yaw, play.pitch], 1).to(self.device)
        weights = torch.cat([play.au.to(self.device) + self._rest, turn], 1)
        grid = anatomy.MOTION_GRID
        return mix(-weights, self._fields).view(-1, 2, grid, grid)

    def smooth(self, posed: torch.Tensor, drift: torch.Tensor) -> torch.Tensor:
        """Undo the smooth action units at points (F, 2, h, w) out of the head's pose."""
        return posed + _sample(drift, posed / MOTION_HALF)

    def lip_gap(self, points: torch.Tensor, play: Performance):
        """Height above or below the lip line and how far both lips have gone there.

        Returns:
            (d, low, up), each (F, h, w): d positive below the line, openings >= 0.
        """
        x = points[:, 0]
        d = points[:, 1] - anatomy.mouth_line(self.identity, x)
        arch = (1 - (x / self.identity.mouth_w) ** 2).clamp_min_(0)
        arch = arch * (1.6 - 0.6 * arch)  # an opening is rounder than a parabola
        part, jaw = play.part.to(self.device), play.jaw.to(self.device)
        low = (_LOWER_SHARE * part + _JAW_SHARE * jaw)[:, None, None] * arch
        return d, low, (_UPPER_SHARE * part)[:, None, None] * arch

    def close_mouth(self, points: torch.Tensor, play: Performance):
        """Undo the opening of the mouth.

        Args:
            points: float32 (F, 2, h, w), x and y in face units, with pose and smooth action units
                undone.
            play: The F frames to which the points belong.

        Returns:
            Material points (F, 2, h, w); depth inside the opening (F, h, w), positive there; and
            bool (F, h, w), which points go with the lower lip.
        """
        d, low, up = self.lip_gap(points, play)
        lower = d > 0.5 * (low - up)
        below, above = d - low, d + up
        down, rise = low * _lip_pull(below, _LIP_FALL), up * _lip_pull(above, _LIP_RISE)
        y = points[:, 1] + torch.where(lower, -down, rise)  # exact where nothing opens
        return torch.stack([points[:, 0], y], 1), torch.minimum(-below, above), lower

    def material(self, points: torch.Tensor, play: Performance):
        """What each picture point shows: see ``close_mouth``."""
        smooth = self.smooth(self.unpose(points, play), self.drift(play))
        return self.close_mouth(smooth, play)

    def locate(self, material: torch.Tensor, play: Performance, lower: torch.Tensor):
        """Find material points in the picture: the inverse of ``material``.

        Args:
            material: float32 (F or 1, 2, h, w), points of the resting face in face units.
            play: The F frames in which they are looked for.
            lower: bool, broadcasts to (F, h, w): which points go with the lower lip.

        Returns:
            Picture points (F, 2, h, w) and the error left, (F, h, w), in face units.
        """
        target = self.part_lips(material.expand(len(play), -1, -1, -1), play, lower)
        drift = self.drift(play)
        node = 2 * MOTION_HALF / (anatomy.MOTION_GRID - 1)
        slope = torch.cat(torch.gradient(drift, spacing=node, dim=(3, 2)), 1)
        posed = target
        for step in range(12):  # Newton; three steps do for small motion
            miss = self.smooth(posed, drift) - target
            residual = miss.abs().amax(1)
            if step == 11 or residual.max() < _EXACT:
                break
            xx, yx, xy, yy = _sample(slope, posed / MOTION_HALF).unbind(1)
            xx, yy = xx + 1, yy + 1
            dx, dy = miss.unbind(1)
            det = (xx * yy - xy * yx).clamp_min(0.1)  # kept away from 0: there skin folds over
            posed = posed - torch.stack([yy * dx - xy * dy, xx * dy - yx * dx], 1) / det[:, None]
        return self.put_in_pose(posed, play), residual

    def part_lips(self, material: torch.Tensor, play: Performance, lower: torch.Tensor):
        """Open the mouth at material points: the inverse of ``close_mouth``."""
        if not (play.part.any() or play.jaw.any()):
            return material
        d, low, up = self.lip_gap(material, play)
        opening = torch.where(lower, low, -up)  # how far the lip has gone, downwards
        near = opening != 0  # elsewhere nothing moves, and Newton would divide by 0
        reach = torch.where(lower, _LIP_FALL, _LIP_RISE).expand_as(d)[near]
        opening, d = opening[near], d[near]
        e = d
        for _ in range(8):  # Newton on e + opening (1 - pull(e)) = d
            pull = _lip_pull(e, reach)
            e = e - (e + opening * (1 - pull) - d) / (1 + 2 * opening * pull * e / reach**2)
        y = material[:, 1].clone()
        y[near] += opening + e - d
        return torch.stack([material[:, 0], y], 1)


def mix(weights: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """``weights @ maps``, (F, K) times (K, N), with bits that do not depend on F.

    Matrix products of fewer than four rows go through other code in the BLAS and round otherwise,
    so at least eight rows are computed.
    """
    rows = len(weights)
    return (F.pad(weights, (0, 0, 0, max(0, 8 - rows))) @ maps)[:rows]


def _lip_pull(away: torch.Tensor, reach: float | torch.Tensor) -> torch.Tensor:
    """How much of a lip's movement is felt at a distance from it: 1 at the lip."""
    return torch.exp(-((away / reach) ** 2))


def _sample(maps: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Bilinear samples of (F, C, G, G) at points (F, 2, h, w) in [-1, 1]; 0 outside."""
    return F.grid_sample(maps, points.permute(0, 2, 3, 1), padding_mode="zeros", align_corners=True)
