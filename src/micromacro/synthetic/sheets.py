"""The painted sheets of one person, ready for rendering: made once, then only looked up."""

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F  # noqa: N812

from micromacro.synthetic import figure, skin
from micromacro.synthetic.anatomy import eye_frame, head_shape
from micromacro.synthetic.canvas import Canvas
from micromacro.synthetic.identity import Identity

MARGIN = 0.30  # face units painted beyond the picture, for a head that moves
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Sheets:
    """Static pictures of one person at one size; C is 3 or 1.

    Attributes:
        half: Half width and half height of the painted area in face units.
        person: (C + 1, h, w) linear albedo times coverage, and coverage.
        eyes: (C + 2, h, w) eyeballs, distance below the upper lid, height of the opening.
        mouth: (C, h, w) what shows between open lips, linear.
        light: (4, h2, w2) ambient with gloss, and the normals' x, y, z.
        wrinkles: (5, h2, w2) relative brightness of the lines that come with expressions.
        backdrop: (C, H, W) the room behind, linear, at the pixels of the picture.
    """

    half: tuple[float, float]
    person: torch.Tensor
    eyes: torch.Tensor
    mouth: torch.Tensor
    light: torch.Tensor
    wrinkles: torch.Tensor
    backdrop: torch.Tensor

    def to(self, device: torch.device) -> "Sheets":
        """The same sheets on a device."""
        maps = {f.name: getattr(self, f.name) for f in fields(self)[1:]}
        return replace(self, **{name: sheet.to(device) for name, sheet in maps.items()})


def paint(person: Identity, size: tuple[int, int], colour: bool) -> Sheets:
    """Paint everything for a picture of H x W pixels.

    Args:
        person: The person who is painted.
        size: Height and width of the finished picture in pixels.
        colour: Three channels of RGB if true, otherwise one channel of luma (of linear light).

    Returns:
        The sheets, on the CPU.
    """
    H, W = size
    short = min(size)
    half = (W / short + MARGIN, H / short + MARGIN)
    density = 2.5 if short <= 128 else 2.0  # texels a pixel; bilinear look-up is then accurate

    def sheet(texels_per_px: float) -> Canvas:
        h, w = (round(short * texels_per_px * extent) + 1 for extent in (half[1], half[0]))
        return Canvas(half[0], half[1], (h, w), person.seed)

    fine, coarse = sheet(density), sheet(1.25)
    albedo, cover = _figure(person, fine)
    depth, gap, _ = eye_frame(person, fine.u, fine.v)
    room = Canvas((W - 1) / short, (H - 1) / short, size, person.seed)

    def tone(picture: torch.Tensor) -> torch.Tensor:  # (3, h, w) -> (C, h, w)
        return picture if colour else _luma(picture)

    def finish(picture: torch.Tensor) -> torch.Tensor:
        return _low_pass(tone(picture), 0.5 * density)

    ball = finish(skin.eyeballs(person, fine))
    return Sheets(
        half=half,
        person=torch.cat([finish(albedo), _low_pass(cover[None], 0.5 * density)]),
        eyes=torch.cat([ball, depth[None], gap.expand_as(depth)[None]]),
        mouth=finish(skin.mouth_inside(person, fine)),
        light=_light(person, coarse, albedo),
        wrinkles=skin.wrinkles(person, coarse),
        backdrop=tone(figure.backdrop(person, room)),
    )


def _figure(person: Identity, sheet: Canvas) -> tuple[torch.Tensor, torch.Tensor]:
    """Albedo and coverage of the whole person, back to front."""
    behind = (figure.back_hair, figure.neck, figure.clothes, figure.ears)
    layers = [part(person, sheet) for part in behind]
    face = skin.skin(person, sheet)
    for feature in (skin.nostrils, skin.lids, figure.beard, skin.lips, skin.brows):
        face = feature(person, sheet, face)
    layers.append((face, sheet.soft(sheet.distance(head_shape(person, sheet.u, sheet.v)), 0.012)))
    hair_cover = figure.hair_cover(person, sheet)
    roots = 1 - 0.45 * _low_pass(hair_cover[None], 0.022 / sheet.texel)[0]
    layers = [(picture * roots, cover) for picture, cover in layers]
    layers.append((figure.hair(person, sheet), hair_cover))
    albedo, clear = torch.zeros(3, *sheet.size), torch.ones(sheet.size)
    for picture, cover in layers:
        albedo = skin.over(albedo, picture, cover)  # starts from 0: premultiplied by the coverage
        clear = clear * (1 - cover)
    return albedo, 1 - clear


def _light(person: Identity, sheet: Canvas, albedo: torch.Tensor) -> torch.Tensor:
    """Normals of face, neck and hair, with gloss folded into the ambient term."""
    u, v = sheet.u, sheet.v
    # A little beyond the outline, so that the rim of the face keeps its own, darker light.
    head = sheet.soft(sheet.distance(head_shape(person, u, v)) + 0.025, 0.02)
    hair = figure.hair_cover(person, sheet)
    body = _dome(u / 0.75, 2 * (0.95 - v).clamp(-0.5, 0.5), 0.5)
    crown = _dome(u / 0.66, (v + 0.05) / 0.95, 0.9)
    normal = skin.over(body, skin.normals(person, sheet), head)
    normal = F.normalize(skin.over(normal, crown, hair), dim=0)  # (3, h2, w2)
    ambient, *direction = person.light
    # Blinn's half-way vector: between the light and the camera, which is at (0, 0, 1).
    half_way = F.normalize(torch.tensor(direction), dim=0) + torch.tensor([0.0, 0, 1])
    half_way = F.normalize(half_way, dim=0)
    gloss = (normal * half_way[:, None, None]).sum(0).clamp_min(0) ** 26 * head * (1 - hair)
    # Gloss adds white light: divide by the albedo it will be multiplied by.
    luma = F.interpolate(_luma(albedo)[None], sheet.size, mode="bilinear", antialias=True)[0, 0]
    shine = 0.055 * gloss * (1 + 0.5 * skin.linear(person.skin).mean()) / (luma + 0.06)
    return torch.cat([(ambient + shine)[None], normal])


def _dome(x: torch.Tensor, y: torch.Tensor, bend: float) -> torch.Tensor:
    """Normals of a rounded body, (3, h, w)."""
    x, y = torch.broadcast_tensors(x, y)
    return F.normalize(torch.stack([bend * x, bend * y, torch.ones_like(x)]), dim=0)


def _low_pass(picture: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of (C, h, w) with a standard deviation in texels, edges repeated."""
    radius = max(1, round(3 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    taps = taps / taps.sum()
    C = picture.shape[0]
    padded = F.pad(picture[None], (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, taps.view(1, 1, -1, 1).expand(C, 1, -1, 1), groups=C)
    return F.conv2d(rows, taps.view(1, 1, 1, -1).expand(C, 1, 1, -1), groups=C)[0]


def _luma(picture: torch.Tensor) -> torch.Tensor:
    """(3, h, w) to (1, h, w)."""
    return (picture * torch.tensor(LUMA)[:, None, None]).sum(0, keepdim=True)
