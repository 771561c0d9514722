"""The actor: renders a person through a performance, with the exact motion at hand.

A pixel is followed backwards: out of the head's pose, out of the action units, out of the opening
of the mouth, to the material point of the resting face that it shows. Picture, flow and landmarks
all use this one map, so the truth is exact by construction.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812

from micromacro.errors import BadInput, check_sides, whole
from micromacro.synthetic import anatomy
from micromacro.synthetic.anatomy import AUS, LANDMARKS
from micromacro.synthetic.identity import Identity
from micromacro.synthetic.motion import Motion, mix
from micromacro.synthetic.performance import Performance
from micromacro.synthetic.script import FULL
from micromacro.synthetic.sheets import paint
from micromacro.synthetic.skin import GAMMA

_CHUNK_PX = 131_072  # pixels rendered at once: 32 frames of 64 x 64 stay in the cache
_WRINKLES = (  # which AUs deepen which lines
    {"1": 0.8, "2": 0.6},
    {"4": 0.9},
    {"12": 0.75, "6": 0.6, "9": 0.5, "10": 0.8, "12L": 0.4, "12R": 0.4},
    {"9": 1.0, "4": 0.4},
    {"17": 1.2, "15": 0.5},
)


class Face:
    """One person, painted at one size, ready to perform.

    Args:
        identity: The person who is painted.
        size: Side of a square picture, or (H, W), in pixels, each >= 16. Half the short side is
            one face unit; a wide picture shows more of the room.
        colour: Three channels of RGB if true, one channel of grey otherwise.
        device: Device on which the painted sheets live and the frames are made.

    Raises:
        BadInput: The size is none, or a side of the picture is below 16 pixels.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        size: int | tuple[int, int] = 64,
        colour: bool = True,
        device: str | torch.device = "cpu",
    ):
        self.identity, self.device = identity, torch.device(device)
        self.size = check_sides("size", size)
        if min(self.size) < 16:
            raise BadInput(f"size={size}", "is too small for a face", "give at least 16 pixels")
        self.channels = 3 if colour else 1
        self.short = min(self.size)
        self.sheets = paint(identity, self.size, colour).to(self.device)
        self.motion = Motion(identity, self.device)
        deepen = [[line.get(au, 0.0) / FULL for line in _WRINKLES] for au in AUS]
        self._wrinkle_mix = torch.tensor(deepen, device=self.device)  # (AUs, 5)
        H, W = self.size
        self._x, self._y = (
            ((torch.arange(side) + 0.5) * 2 - side).to(self.device) / self.short for side in (W, H)
        )
        # Where every pixel is in face units, (1, 2, H, W).
        self._pixels = torch.stack(torch.meshgrid(self._x, self._y, indexing="xy"))[None]

    # ---- pictures -------------------------------------------------------------------------------

    def render(self, performance: Performance, start: int = 0, stop: int | None = None):
        """Render frames start..stop of a performance.

        Args:
            performance: The T frames that are played.
            start: Number of the first frame that is rendered.
            stop: One beyond the last frame; None stands for the end.

        Returns:
            float32 (frames, C, H, W) in [0, 1], multiples of 1/255, on the face's device. A frame
            does not depend on which others are rendered with it.
        """
        play = performance[start:stop]
        H, W = self.size
        out = torch.empty(len(play), self.channels, H, W, device=self.device)
        step = max(1, min(64, _CHUNK_PX // (H * W)))  # frames at once
        for i in range(0, len(play), step):
            self._render(play[i : i + step], out[i : i + step])
        return out

    def _render(self, play: Performance, out: torch.Tensor) -> None:
        """Render one chunk into ``out``."""
        posed = self.motion.unpose(self._pixels, play)  # (F, 2, H, W), the pose undone
        moved = self.motion.smooth(posed, self.motion.drift(play))  # and the action units
        inside = self._open_mouth_box(play, moved)  # and, in place, the opening of the mouth
        person = _look_up(self.sheets.person, moved, self.sheets.half)
        C = self.channels
        picture, cover = person[:, :C], person[:, C:]
        self._eyes(play, posed, moved, picture)
        if inside is not None:
            rows, columns, mask, colour = inside
            box = picture[:, :, rows, columns]
            box += mask * (colour - box)
        picture *= _look_up(self._shade(play), moved, self.sheets.half)  # light goes with the skin
        torch.addcmul(picture, 1 - cover, self.sheets.backdrop, out=out)  # albedo is premultiplied
        out *= self.shadow_map(play) * play.gain.to(self.device)[:, None, None, None]
        out += play.offset.to(self.device)[:, None, None, None]
        out.clamp_(1e-6, 1).pow_(1 / GAMMA)  # linear light becomes display values
        if play.noise_sd.any():
            out += self._noise(play)
        out.mul_(255).round_().clamp_(0, 255).div_(255)  # the camera has 8 bit

    def _shade(self, play: Performance) -> torch.Tensor:
        """Light on the resting face with its wrinkles, (F, 1, h2, w2)."""
        _, lx, ly, lz = self.identity.light
        lx, ly = lx + play.light[:, 0], ly + play.light[:, 1]
        # A head that turns sees the light turn the other way.
        turned = (lx - play.yaw * lz, ly - play.pitch * lz, lz + play.yaw * lx + play.pitch * ly)
        light = torch.stack([torch.ones_like(lx), *turned], 1).to(self.device)  # (F, 4)
        maps, lines = self.sheets.light, self.sheets.wrinkles
        shade = mix(light, maps.flatten(1)).view(len(play), 1, *maps.shape[1:])
        depth = mix(play.au.to(self.device), self._wrinkle_mix).clamp_(0, 1.3)
        if depth.any():
            shade *= mix(0.62 * depth, lines.flatten(1)).add_(1).view_as(shade)
        return shade.clamp_min_(0.06)

    def _box(self, play: Performance, low: tuple[float, float], high: tuple[float, float]):
        """Rows and columns of the picture that can show a rectangle of the resting face."""
        (u0, v0), (u1, v1) = low, high
        corners = torch.tensor([[u0, u0, u1, u1], [v0, v1, v0, v1]], device=self.device)
        x, y = self.motion.put_in_pose(corners[None, ..., None], play).unbind(1)  # each (F, 4, 1)
        spans = []
        for value, length in zip((y, x), self.size, strict=True):
            first = math.floor(value.min().item() * self.short / 2 + length / 2) - 1
            last = math.ceil(value.max().item() * self.short / 2 + length / 2) + 1
            spans.append(slice(min(max(first, 0), length), min(max(last, 0), length)))
        return spans

    def _open_mouth_box(self, play: Performance, moved: torch.Tensor):
        """Open the mouth in ``moved`` in place; returns the box, its mask and what is inside."""
        if not (play.part.any() or play.jaw.any()):
            return None
        p = self.identity
        reach = p.mouth_w + 0.15
        rows, columns = self._box(play, (-reach, p.mouth_y - 0.32), (reach, p.mouth_y + 0.75))
        box = moved[:, :, rows, columns]
        shut, depth, _ = self.motion.close_mouth(box, play)
        colour = _look_up(self.sheets.mouth, box, self.sheets.half)
        edge = 1.8 / self.short
        _, low, up = self.motion.lip_gap(box, play)
        mask = (0.5 + depth / edge).clamp_(0, 1) * ((low + up) / (2 * edge)).clamp_(0, 1)
        moved[:, :, rows, columns] = shut
        return rows, columns, mask[:, None], colour

    def _closure(self, play: Performance) -> torch.Tensor:
        """Closure of the lids by expression and blink together, (F,)."""
        lid, blink = play.lid.clamp(-0.6, 1), play.blink.clamp(0, 1)
        return (lid + (1 - lid) * blink).to(self.device)

    def _eyes(self, play: Performance, posed, moved, picture: torch.Tensor) -> None:
        """Put eyeballs, which follow the skull, and lashes between the lids, in place."""
        p, C = self.identity, self.channels
        reach = p.eye_x + 1.3 * p.eye_w + 0.15
        rows, columns = self._box(play, (-reach, p.eye_y - 0.25), (reach, p.eye_y + 0.22))
        ball = _look_up(self.sheets.eyes[:C], posed[:, :, rows, columns], self.sheets.half)
        lids = _look_up(self.sheets.eyes[C:], moved[:, :, rows, columns], self.sheets.half)
        gap = lids[:, 1]
        closure = self._closure(play)[:, None, None]
        depth = lids[:, 0] - closure * gap
        edge = 1.8 / self.short
        visible = (0.5 + torch.minimum(depth, gap - lids[:, 0]) / edge).clamp_(0, 1)
        visible *= (gap * (1 - closure) / (0.5 * edge)).clamp_(0, 1)  # none beyond the corners
        width = max(0.011, 0.6 / self.short)
        lash = torch.exp(-((depth / width) ** 2)) * (0.25 + gap / 0.02).clamp_(0, 1)
        shade = 0.55 + 0.45 * (depth / 0.035).clamp_(0, 1)  # the lid throws a shadow on the ball
        box = picture[:, :, rows, columns]
        box += visible[:, None] * (ball * shade[:, None] - box)
        box *= 1 - 0.85 * lash[:, None]

    def shadow_map(self, performance: Performance) -> torch.Tensor:
        """The moving shadow's factor, float32 in [0, 1], to be broadcast to (T, 1, H, W)."""
        depth, angle, place, sharp = performance.shadow.to(self.device).T
        if not depth.any():
            return torch.ones(len(depth), 1, 1, 1, device=self.device)
        row = (sharp * torch.cos(angle))[:, None] * self._x - (sharp * place)[:, None]
        column = (sharp * torch.sin(angle))[:, None] * self._y
        edge = torch.sigmoid(column[:, :, None] + row[:, None])
        return (1 - depth[:, None, None] * edge)[:, None]

    def _noise(self, play: Performance) -> torch.Tensor:
        """Sensor noise (F, C, H, W), a stream of its own for each (clip seed, frame)."""
        noise = torch.empty(len(play), self.channels, *self.size)
        for frame, key in zip(noise, play.noise_key.tolist(), strict=True):
            torch.randn(frame.shape, generator=_frame_generator(*key), out=frame)
        return (noise * play.noise_sd[:, None, None, None]).to(self.device)

    # ---- truth ----------------------------------------------------------------------------------

    def flow(
        self, performance: Performance, i: int | Sequence[int], j: int | Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Exact optical flow from frame i to frame j.

        Args:
            performance: The T frames that are played.
            i: Frame whose pixels are followed; or N of them, which is faster than N calls.
            j: Frame, or N of them, in which the same points of skin are looked for.

        Returns:
            flow_px: float32 (2, H, W), x and y displacement in pixels of every pixel of frame i;
                0 on the background.
            valid: bool (H, W), False inside the mouth, between the lids, along the border of the
                person, where the background is covered or uncovered, and where a point leaves the
                picture. There flow has no meaning.
            Both have a leading N where i and j are sequences.

        Raises:
            BadInput: The performance does not have one of the frames.
        """
        if whole(i) is not None:
            flow, valid = self.flow(performance, [i], [j])
            return flow[0], valid[0]
        one, two = performance.take(i), performance.take(j)
        H, W = self.size
        step = max(1, min(16, _CHUNK_PX // (4 * H * W)))
        parts = [self._flow(one[k : k + step], two[k : k + step]) for k in range(0, len(one), step)]
        flow, valid = (torch.cat(part) for part in zip(*parts, strict=True))
        return flow, valid

    def _flow(self, one: Performance, two: Performance) -> tuple[torch.Tensor, torch.Tensor]:
        """Flow of a chunk of pairs, (N, 2, H, W) and (N, H, W)."""
        start = self._pixels
        material, depth, lower = self.motion.material(start, one)
        end, residual = self.motion.locate(material, two, lower)
        cover = self._cover(material)
        person, room = cover > 0.99, cover < 0.01
        shut = (one.part + one.jaw == 0).to(self.device)[:, None, None]
        limit = torch.tensor(self.size[::-1], device=self.device)[:, None, None] / self.short
        exact = residual * self.short / 2 < 0.02  # Newton has met the point, to 0.02 px
        valid = person & exact & (end.abs() <= limit).all(1) & ((depth < 0) | shut)
        valid &= ~self._between_lids(material, one) & ~self._between_lids(material, two)
        # Room that stays uncovered.
        valid |= room & (self._cover(self.motion.material(start, two)[0]) < 0.01)
        return torch.where(room[:, None], 0.0, (end - start) * self.short / 2), valid

    def _cover(self, material: torch.Tensor) -> torch.Tensor:
        """Coverage of the person at material points, (F, h, w)."""
        return _look_up(self.sheets.person[self.channels :], material, self.sheets.half)[:, 0]

    def _between_lids(self, material: torch.Tensor, play: Performance) -> torch.Tensor:
        """Whether the eyeball shows at material points, with a pixel to spare; bool (F, h, w)."""
        depth, gap, t = anatomy.eye_frame(self.identity, material[:, 0], material[:, 1])
        below = depth - self._closure(play)[:, None, None] * gap
        return (torch.minimum(below, gap - depth) > -2 / self.short - 0.012) & (t.abs() < 1.15)

    def landmarks(self, performance: Performance) -> torch.Tensor:
        """Exact places of the landmarks.

        Args:
            performance: The T frames that are played.

        Returns:
            float32 (T, len(LANDMARKS), 2), pixels (x, y), where (0, 0) is the middle of the first
            pixel. ``FIVE_POINTS`` picks the five of face alignment.
        """
        p, T = self.identity, len(performance)
        rest = anatomy.rest_landmarks(p).to(self.device).repeat(T, 1, 1)
        lids = [LANDMARKS.index(f"lid_upper_{side}") for side in ("left", "right")]
        rest[:, lids, 1] += (self._closure(performance) * (p.eye_up + p.eye_low))[:, None]
        lower = torch.tensor([n in anatomy.LOWER for n in LANDMARKS], device=self.device)
        material = rest.permute(0, 2, 1)[..., None]
        places, _ = self.motion.locate(material, performance, lower[None, :, None])
        eyes = [LANDMARKS.index(f"pupil_{side}") for side in ("left", "right")]
        places[:, :, eyes] = self.motion.put_in_pose(material[:, :, eyes], performance)
        # From the middle of the picture to its corner.
        corner = torch.tensor(self.size[::-1], device=self.device) / self.short
        return (places[..., 0].permute(0, 2, 1) + corner) * self.short / 2 - 0.5


def _look_up(sheet: torch.Tensor, points: torch.Tensor, half: tuple[float, float]) -> torch.Tensor:
    """Bilinear samples of a sheet (C, h, w) or (F, C, h, w) at points (F, 2, h, w)."""
    scale = torch.tensor(half, device=points.device)[:, None, None]
    grid = (points / scale).permute(0, 2, 3, 1)
    if sheet.dim() == 3:
        sheet = sheet.expand(len(points), *sheet.shape)
    return F.grid_sample(sheet, grid, padding_mode="border", align_corners=True)


def _frame_generator(seed: int, frame: int) -> torch.Generator:
    """A generator for one frame of one clip; SplitMix64 spreads the pair over 64 bits."""
    z = (seed * 0x9E3779B97F4A7C15 + (frame + 1) * 0xD1B54A32D192ED03) & (2**64 - 1)
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return torch.Generator().manual_seed((z ^ (z >> 31)) & (2**63 - 1))
