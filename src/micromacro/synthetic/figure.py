"""Painting everything around the face: hair, beard, ears, neck, clothes, background."""

import torch

from micromacro.synthetic.anatomy import head_shape, mouth_line
from micromacro.synthetic.canvas import Canvas, bump, smoothstep
from micromacro.synthetic.identity import Identity
from micromacro.synthetic.skin import linear, over

_SIDES = {"bob": 0.62, "long": 1.6, "tied": 0.06, "curly": 0.30}
_SIDEBURN = 0.05  # short hair ends at this height beside the ear


def hair_cover(person: Identity, sheet: Canvas) -> torch.Tensor:
    """Where hair lies over the head, (h, w) in [0, 1]."""
    p, u, v = person, sheet.u, sheet.v
    outer = sheet.distance(_hair_outline(p, sheet))
    opening = sheet.distance(_face_opening(p, sheet))
    across, along = _flow(p, sheet)  # hair is combed along, and ragged across
    ragged = sheet.strands("hairline", across, along, 0.030)
    style = p.hair_style
    if style == "curly":  # no strands: the rim is as round as the curls
        ragged = 1.1 * sheet.noise("curls", 0.07, 3, 0.7)
    cover = sheet.soft(outer + 0.010 * ragged, 0.03) * sheet.soft(-opening + 0.010 * ragged, 0.045)
    cropped = style == "curly" and p.femininity < 0.5
    end = _SIDEBURN if cropped else _SIDES.get(style, _SIDEBURN)
    soft_end = 0.22 if style == "curly" else 0.10 if end < 0.3 else 0.05  # curls end softly
    cover = cover * sheet.soft(end + 0.02 * ragged - v, soft_end)
    if style == "buzz":
        cover = 0.62 * cover
    if style == "receded":
        bare = bump(u, v, (0.0, p.hairline_y - 0.10), (0.30, 0.18))
        cover = cover * (1 - 0.92 * smoothstep(bare, 0.35, 0.75))
    return cover.clamp(0, 1)


def back_hair(person: Identity, sheet: Canvas) -> tuple[torch.Tensor, torch.Tensor]:
    """Hair that hangs behind the neck: (colour (3, h, w), coverage (h, w))."""
    end = _SIDES.get(person.hair_style, 0.0)
    end = end if end >= 0.3 else -0.2  # short hair does not reach below the ears
    cover = sheet.soft(sheet.distance(_hair_outline(person, sheet)) - 0.01, 0.03)
    cover = cover * sheet.soft(end - sheet.v, 0.06)
    return 0.45 * hair(person, sheet), cover


def _hair_outline(p: Identity, sheet: Canvas) -> torch.Tensor:
    """Implicit outline of the hair: the head, wider and higher by the volume of the style."""
    extra = {"buzz": 0.012, "crop": 0.035, "receded": 0.02, "tied": 0.025, "quiff": 0.05}
    wide = p.hair_volume * {**extra, "curly": 0.11}.get(p.hair_style, 0.06)
    u, v = sheet.u, sheet.v
    top, middle = -0.90 - 1.1 * wide, p.eye_y
    half = p.head_w * 0.985 + wide  # the outline at the height of the eyes
    r = ((middle - v) / (middle - top)).clamp_min(0)
    if p.hair_style == "quiff":
        r = r * (1 - 0.05 * torch.sin(3 * (u - p.part_x)).clamp_min(0))
    down = (v - middle).clamp_min(0)
    fall = {"bob": 0.10, "long": 0.16, "curly": -0.05}.get(p.hair_style, -0.15)
    return 1 - r**2.2 - (u.abs() / (half + fall * down.clamp_max(0.6))) ** 2.5


def _face_opening(p: Identity, sheet: Canvas) -> torch.Tensor:
    """Implicit outline of the skin that the hair leaves free."""
    u, v = sheet.u, sheet.v
    style = p.hair_style
    line = p.hairline_y + (0.05 if style in ("curly", "crop") else 0.0)
    if style in ("side_part", "bob", "long"):  # the parting lets the forehead run up on one side
        line = line + 0.16 * (smoothstep((u - p.part_x).abs(), 0.0, 0.5) - 0.35)
    if style in ("crop", "quiff", "buzz"):  # a masculine hairline runs up at the temples
        line = line - 0.06 * smoothstep(u.abs(), 0.10, 0.36) + 0.05 * (u * p.part_x * 4)
    line = line + 0.014 * sheet.noise("fringe", 0.16, 2)
    if style == "tied":  # combed back from a high forehead
        line = line - 0.05
    if style == "receded":
        line = line - 0.10 * smoothstep(u.abs(), 0.10, 0.35)
    middle = 0.10
    r = ((middle - v) / (middle - line)).clamp_min(0)
    loose = style in ("bob", "long", "curly")
    half = p.head_w * (0.90 if loose else 0.935)
    narrow = 0.04 * smoothstep(v, 0.0, 0.7) if style in ("bob", "long") else 0.0
    corner = 2.6 if loose else 3.6  # short hair leaves square temples
    return 1 - r**corner - (u.abs() / (half - narrow)) ** 3.4


def _flow(p: Identity, sheet: Canvas) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates across and along the hair, which radiates from the parting and then hangs."""
    x, y = sheet.u - p.part_x * (p.hair_style != "tied"), sheet.v + 0.95
    radius = torch.hypot(x, 1.3 * y) + 0.05
    angle = torch.atan2(x, y + 0.12)
    hang = smoothstep(sheet.v, -0.35, 0.15)  # from the temples on it hangs straight
    return angle * 0.55 * (1 - hang) + sheet.u * hang, radius


def hair(person: Identity, sheet: Canvas) -> torch.Tensor:
    """Colour of the hair with its locks and sheen, linear RGB (3, h, w)."""
    p, u, v = person, sheet.u, sheet.v
    across, along = _flow(p, sheet)
    if p.hair_style == "curly":
        curl = sheet.noise("curls", 0.07, 3, 0.7)
        locks = 1.4 * (0.7 - curl.abs()) + 0.4 * sheet.noise("frizz", 0.03, 2)  # rings of light
    else:
        locks = sheet.strands("hair", across, along, 0.045 if p.hair_style != "buzz" else 0.014)
    ring = torch.hypot(u - 0.25 * p.light[1], 1.15 * (v + 0.30))
    sheen = torch.exp(-0.5 * ((ring - 0.52) / 0.07) ** 2) * smoothstep(v, -0.2, -0.5)
    if p.hair_style in ("bob", "long"):
        sheen = sheen + 0.5 * torch.exp(-0.5 * ((v - 0.20) / 0.12) ** 2)
    base = linear(p.hair) * (1 + 0.34 * locks.clamp(-2, 2)).clamp_min(0.15)
    return base * (0.82 + 0.55 * sheen * (0.7 + 0.4 * locks).clamp_min(0.1))


def beard(person: Identity, sheet: Canvas, below: torch.Tensor) -> torch.Tensor:
    """Beard over the skin: a shadow of stubble up to full hair; leaves the lips free."""
    p, u, v, side = person, sheet.u, sheet.v, sheet.u.abs()
    if p.beard == "none":
        return below
    line = mouth_line(p, u)
    wide = 1 - (u / (p.mouth_w + 0.01)) ** 2
    lip = wide.clamp_min(0)
    free = torch.maximum(line - 1.05 * p.lip_up * lip - v, v - line - 1.05 * p.lip_low * lip)
    free = sheet.soft(torch.maximum(free, -0.1 * wide), 0.02)
    cheek_line = p.mouth_y - 0.06 - 0.55 * (side / p.head_w) ** 2.2  # rises to the ears
    jaw = smoothstep(v - cheek_line, -0.03, 0.12) * smoothstep(side, 0.05, 0.16 + p.mouth_w * 0.2)
    chin = smoothstep(v, p.mouth_y + p.lip_low + 0.01, p.mouth_y + p.lip_low + 0.07)
    soul = 1 - 0.6 * bump(side, v, (0.10, p.mouth_y + p.lip_low + 0.03), (0.035, 0.03))
    moustache = smoothstep(v, p.nose_y + 0.02, p.nose_y + 0.055)
    moustache = moustache * smoothstep(side, p.mouth_w + 0.05, p.mouth_w - 0.02)
    area = moustache = moustache * smoothstep(v, p.mouth_y + 0.05, p.mouth_y)
    if p.beard != "moustache":
        philtrum = 1 - 0.35 * bump(u, v, (0, p.nose_y + 0.05), (0.014, 0.05))
        area = torch.maximum(torch.maximum(jaw, chin) * soul, moustache * philtrum)
    grow = {"stubble": 0.30, "moustache": 0.85, "short": 0.66, "full": 0.90}[p.beard]
    if p.beard == "stubble":
        hairs = 0.6 * sheet.noise("stubble", 0.02, 2)
    else:
        hairs = sheet.strands("beard", u + 0.25 * v * torch.sign(u), v, 0.011)
    hairs = hairs.clamp(-1.6, 1.6)
    cover = grow * area * free * (1 + (0.42 - 0.34 * grow) * hairs).clamp(0, 1.1)
    head = sheet.distance(head_shape(p, u, v))
    cover = (cover * sheet.soft(head + 0.06, 0.05)).clamp(0, 0.95)  # none beyond the outline
    dark = torch.minimum(linear(p.hair), 0.6 * linear(p.skin))  # stubble is never paler than skin
    return over(below, dark * (0.60 + 0.18 * hairs), cover)


def ears(person: Identity, sheet: Canvas) -> tuple[torch.Tensor, torch.Tensor]:
    """Ears: (colour (3, h, w), coverage (h, w))."""
    p, v = person, sheet.v
    x = sheet.u.abs() - (p.head_w + 0.012)
    y = v - (p.eye_y + 0.10)
    r = torch.hypot((x + 0.10 * y) / 0.062, y / (0.150 - 0.02 * p.femininity))
    cover = sheet.soft((1 - r) * 0.06, 0.015)
    rim = torch.exp(-0.5 * ((r - 0.62) / 0.16) ** 2)
    hollow = bump(x, y, (-0.012, 0.0), (0.020, 0.06))  # the ear's inside
    colour = linear(p.skin) * torch.tensor([0.86, 0.72, 0.68])[:, None, None]
    return colour * (1 - 0.30 * rim) * (1 - 0.45 * hollow), cover


def neck(person: Identity, sheet: Canvas) -> tuple[torch.Tensor, torch.Tensor]:
    """Neck with the shadow of the jaw: (colour (3, h, w), coverage (h, w))."""
    p, u, v = person, sheet.u, sheet.v
    half = p.neck_w + 0.5 * (v - 0.82).clamp_min(0) ** 1.5
    half = half - 0.02 * bump(0 * v, v, (0.0, 0.72), (1, 0.1))
    cover = sheet.soft(half - u.abs(), 0.02) * sheet.soft(v - 0.25, 0.05)
    away = -sheet.distance(head_shape(p, u, v))  # from the jaw, which throws a shadow
    shadow = 0.30 + 0.70 * smoothstep(away, -0.01, 0.26)
    round_off = 0.55 + 0.45 * (1 - (u / half).clamp(-1, 1) ** 2).clamp_min(0).sqrt()
    sinew = 1 - 0.12 * torch.exp(-0.5 * ((u.abs() - 0.13 - 0.25 * (1 - v)) / 0.03) ** 2)
    tone = 1 + 0.04 * sheet.noise("neck", 0.2, 3)
    colour = linear(p.skin) * torch.tensor([0.95, 0.90, 0.88])[:, None, None]
    return colour * shadow * round_off * sinew * tone, cover


def clothes(person: Identity, sheet: Canvas) -> tuple[torch.Tensor, torch.Tensor]:
    """Shoulders and collar: (colour (3, h, w), coverage (h, w))."""
    p, u, v = person, sheet.u, sheet.v
    x = u.abs()
    slope = 0.80 + 0.20 * (x - p.neck_w).clamp_min(0) ** 0.85
    slope = slope + 1.6 * (x - 1.25).clamp_min(0) ** 1.4 + 0.06 * p.femininity
    depth, wide = {"crew": (0.17, 0.46), "vee": (0.42, 0.40), "shirt": (0.34, 0.38)}[p.collar]
    crew = p.collar == "crew"  # round; the others run to a point
    notch = (1 - (x / wide) ** 2).clamp_min(0).sqrt() if crew else (1 - x / wide).clamp_min(0)
    neckline = 0.80 + depth * notch
    cover = sheet.soft(torch.minimum(v - slope, v - neckline), 0.02)
    weave = 1 + 0.05 * sheet.noise("weave", 0.03, 2) + 0.08 * sheet.noise("drape", 0.35, 3)
    hem = torch.exp(-0.5 * ((v - neckline - 0.03) / 0.012) ** 2)
    hem = hem * smoothstep(x, wide + 0.05, wide - 0.03)
    colour = linear(p.cloth) * weave * (1 - 0.35 * hem)
    if p.collar == "shirt":  # the fold of the collar lies brighter on the shirt
        fold = sheet.soft(0.085 - (v - neckline).abs(), 0.01)
        fold = fold * smoothstep(x, 0.02, 0.05) * smoothstep(x, 0.48, 0.44)
        colour = over(colour, linear(p.cloth) * 1.25 + 0.03, 0.8 * fold)
    gather = 0.72 + 0.28 * smoothstep(v - torch.maximum(slope, neckline), 0.0, 0.10)
    return colour * gather, cover


def backdrop(person: Identity, sheet: Canvas) -> torch.Tensor:
    """The room behind, out of focus, linear RGB (3, h, w)."""
    p, u, v = person, sheet.u, sheet.v
    wall = linear(p.backdrop_rgb) * (1.0 - 0.22 * v - 0.16 * u * (1 if p.light[1] < 0 else -1))
    wall = wall * (1 + 0.05 * sheet.noise("wall", 1.2, 3)) * (1 - 0.10 * (u**2 + v**2).clamp_max(4))
    if p.backdrop == "wall":
        return wall.clamp(0.02, 0.9)
    if p.backdrop == "studio":
        return (wall * (0.75 + 0.35 * torch.exp(-(u**2) - (v + 0.1) ** 2))).clamp(0.02, 0.9)
    scene = {"window": _window, "shelves": _shelves, "foliage": _foliage}[p.backdrop]
    return scene(sheet, wall).clamp(0.01, 0.95)


def _window(sheet: Canvas, wall: torch.Tensor) -> torch.Tensor:
    """A bright window at one side with a frame."""
    u, v = sheet.u, sheet.v
    side = 1 if float(sheet.lattice("window", 0, (1, 1))) > 0 else -1
    x, y = side * u - 0.95, v + 0.35
    pane = smoothstep(x.abs(), 0.42, 0.34) * smoothstep(y.abs(), 0.66, 0.58)
    bars = 1 - 0.75 * torch.exp(-0.5 * (x / 0.03) ** 2) * torch.ones_like(y)
    bars = bars * (1 - 0.75 * torch.exp(-0.5 * ((y - 0.1) / 0.03) ** 2))
    sky = linear((0.86, 0.91, 0.95)) * (1 - 0.18 * y)
    return over(0.80 * wall, sky, 0.9 * pane * bars)


def _shelves(sheet: Canvas, wall: torch.Tensor) -> torch.Tensor:
    """Two or three boards of books, blurred."""
    picture = 0.55 * wall
    books = sheet.lattice("books", 0, (3, 40, 4))
    for row in range(3):
        y = sheet.v + 0.92 - 0.62 * row
        tall = smoothstep(y, -0.02, 0.06) * smoothstep(y, 0.56, 0.50)
        for k in range(40):
            size, *tint = books[row, k].tolist()
            x = sheet.u + 2.0 - 0.1 * k
            top = smoothstep(y, 0.10 + 0.04 * size, 0.18 + 0.04 * size)
            spine = smoothstep(x.abs(), 0.075, 0.025) * top
            colour = torch.sigmoid(torch.tensor([0.5 * t + 0.3 * size - 1.4 for t in tint]))
            picture = over(picture, colour[:, None, None] ** 1.3, 0.75 * spine * tall)
    return picture


def _foliage(sheet: Canvas, wall: torch.Tensor) -> torch.Tensor:
    """Greenery far out of focus with discs of light."""
    leaf = sheet.noise("leaves", 0.55, 3)
    green = over(linear((0.20, 0.29, 0.17)), linear((0.52, 0.60, 0.36)), torch.sigmoid(1.6 * leaf))
    picture = over(green, wall, torch.full_like(leaf, 0.15))
    discs = sheet.lattice("discs", 0, (24, 4))
    for k in range(24):
        x, y, r, power = discs[k].tolist()
        away = torch.hypot(sheet.u - 1.1 * x, sheet.v + 0.3 - 0.7 * y)
        disc = smoothstep(away, 0.14 + 0.03 * r, 0.09 + 0.03 * r)
        cover = (0.16 + 0.08 * power) * disc * (power > -1.5)
        picture = over(picture, linear((0.85, 0.88, 0.66)), cover)
    return picture
