"""Painting the face itself: skin, lips, brows, nostrils, eyes and the inside of the mouth.

Sheets are in material coordinates of the resting face; colours are linear (display ** 1.6), so that
shading multiplies. Every function returns float32 tensors of shape (3, h, w) or (h, w).
"""

import torch

from micromacro.synthetic.anatomy import eye_frame, mouth_line, relief
from micromacro.synthetic.canvas import Canvas, bump, smoothstep
from micromacro.synthetic.identity import RGB, Identity

GAMMA = 1.6  # display = linear ** (1 / GAMMA)


def linear(colour: RGB) -> torch.Tensor:
    """A display colour as a linear (3, 1, 1) tensor."""
    return (torch.tensor(colour) ** GAMMA)[:, None, None]


def over(below: torch.Tensor, colour: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
    """Paint a colour over a picture with a coverage in [0, 1]."""
    return below + cover * (colour - below)


def skin(person: Identity, sheet: Canvas) -> torch.Tensor:
    """Bare skin of the face with its blotches, blush, freckles, moles and folds, linear RGB."""
    p, u, v = person, sheet.u, sheet.v
    side = u.abs()
    tone = 0.05 * sheet.noise("blotch", 0.40, 4) + 0.04 * sheet.noise("pores", 0.05, 3, 0.8)
    base = linear(p.skin) * (1 + tone)
    redness = bump(side, v, (1.25 * p.eye_x, p.eye_y + 0.26), (0.13, 0.10))
    redness = redness + 0.7 * bump(u, v, (0.0, p.nose_y - 0.06), (0.10, 0.07))
    redness = redness + 0.4 * bump(u, v, (0.0, p.chin_y - 0.10), (0.14, 0.06))
    base = base * (1 - p.blush * redness * torch.tensor([0.02, 0.17, 0.17])[:, None, None])
    shade = _occlusion(p, sheet) * _folds(p, sheet)  # what little light reaches
    spots = smoothstep(sheet.noise("freckles", 0.022, 2), 1.1, 2.0)  # the peaks of a fine noise
    middle = bump(u, v, (0.0, p.eye_y + 0.20), (0.36, 0.17))
    base = base * (1 - p.freckles * spots * middle * torch.tensor([0.30, 0.42, 0.5])[:, None, None])
    for x, y, radius, dark in p.moles:
        shade = shade * (1 - dark * bump(u, v, (x, y), (radius, radius)))
    return base * shade


def _occlusion(p: Identity, sheet: Canvas) -> torch.Tensor:
    """Soft dark places: sockets, beside and under the nose, under the lower lip."""
    u, v, side = sheet.u, sheet.v, sheet.u.abs()
    socket = 0.26 * bump(side, v, (0.62 * p.eye_x, p.eye_y - 0.035), (0.062, 0.062))
    lid = 0.22 * bump(side, v, (p.eye_x, p.eye_y - p.eye_up - 0.025), (0.13, 0.026))
    under_eye = bump(side, v, (0.92 * p.eye_x, p.eye_y + 0.085), (0.10, 0.032))
    under_eye = (0.06 + 0.0022 * p.age) * under_eye
    beside = 0.10 * bump(side, v, (1.12 * p.nose_w, p.nose_y - 0.05), (0.030, 0.065))
    under_nose = 0.30 * bump(u, v, (0.0, p.nose_y + 0.018), (0.62 * p.nose_w, 0.022))
    under_lip = 0.24 * bump(u, v, (0.0, p.mouth_y + p.lip_low + 0.028), (0.11, 0.022))
    corner = 0.22 * bump(side, v, (p.mouth_w + 0.012, p.mouth_y + p.mouth_curve), (0.026, 0.028))
    dark = 1.0
    for part in (socket, lid, under_eye, beside, under_nose, under_lip, corner):
        dark = dark * (1 - part)
    return dark


def _folds(p: Identity, sheet: Canvas) -> torch.Tensor:
    """Static lines of age: nasolabial, forehead, crow's feet, bags; multiplies the skin."""
    v, side = sheet.v, sheet.u.abs()
    old = min(1.0, max(0.0, (p.age - 24) / 42))  # no lines at 24, all of them at 66
    maps = wrinkles(p, sheet)
    dark = 0.05 + 0.30 * old
    lines = dark * maps[2].clamp_max(0) + 0.24 * old * (maps[0] + maps[1]).clamp_max(0)
    bag = smoothstep((v - p.eye_y - 0.075).abs(), 0.014, 0.0)
    bag = bag * torch.exp(-(((side - p.eye_x) / 0.1) ** 4))
    return (1 + lines).clamp_min(0.4) * (1 - 0.16 * old * bag)


def wrinkles(person: Identity, sheet: Canvas) -> torch.Tensor:
    """Lines that come with expressions, as relative brightness.

    Returns:
        (5, h, w), values in about [-1, 0.5]: forehead (AU1, 2), glabella (4), nasolabial and
        crow's feet (6, 9, 10, 12), nose root (9), chin (17). Negative is a groove.
    """
    p, u, v, side = person, sheet.u, sheet.v, sheet.u.abs()
    wave = 0.008 * torch.cos(9 * u + p.asymmetry * 300)  # no two foreheads fold alike
    rows = [v - (p.brow_y - 0.115 - 0.062 * k) - wave - 0.05 * u**2 for k in range(3)]
    forehead = sum((1 - 0.22 * k) * _groove(row, 0.011) for k, row in enumerate(rows))
    forehead = forehead * torch.exp(-((u / 0.34) ** 4))
    tilt = side - 0.045 - 0.12 * (p.brow_y + 0.02 - v)
    glabella = _groove(tilt, 0.009) * bump(u, v, (0.0, p.brow_y - 0.01), (0.09, 0.055))
    t = ((v - p.nose_y + 0.07) / (p.mouth_y + 0.05 - p.nose_y)).clamp(-0.2, 1.3)
    line = side - (p.nose_w + 0.010 + 0.125 * torch.sin(1.45 * t.clamp(0, 1.3)))
    along = smoothstep(t, -0.15, 0.25) * smoothstep(t, 1.15, 0.45)
    naso = 0.62 * _groove(0.80 * line, 0.018) * along
    apple = 0.22 * bump(side, v, (1.12 * p.eye_x, p.eye_y + 0.225), (0.085, 0.065))
    crow = torch.zeros(sheet.size)
    x0 = p.eye_x + p.eye_w + 0.02
    for slope in (-0.5, -0.05, 0.42):
        ray = v - p.eye_y + 0.01 - slope * (side - x0)
        line = _groove(ray, 0.009) * smoothstep(side, x0, x0 + 0.03)
        crow = crow + line * smoothstep(side, x0 + 0.13, x0 + 0.06)
    rows = [v - (p.eye_y - 0.01 + 0.045 * k) - 2.5 * side**2 for k in range(2)]
    root = sum(0.6 * _groove(row, 0.010) * smoothstep(side, 0.10, 0.06) for row in rows)
    dimple = sheet.noise("chin", 0.05, 2)
    chin = -0.35 * smoothstep(dimple, 0.2, 1.4) * bump(u, v, (0.0, p.chin_y - 0.13), (0.11, 0.06))
    return torch.stack([forehead, glabella, naso + 0.40 * crow + apple, root, chin])


def _groove(distance: torch.Tensor, width: float) -> torch.Tensor:
    """A dark line with a light rim: -1 in the middle, a little above 0 beside it."""
    q = (distance / width) ** 2
    return (0.35 * q - 1) * torch.exp(-0.5 * q)


def lips(person: Identity, sheet: Canvas, below: torch.Tensor) -> torch.Tensor:
    """The lips, their edge, and the line between them, over the skin."""
    p, u, v = person, sheet.u, sheet.v
    t = (u / p.mouth_w).clamp(-1, 1)
    line = mouth_line(p, u)
    arch = (1 - t**2).clamp_min(0)
    bow = 1 - 0.22 * torch.exp(-0.5 * (t / 0.10) ** 2) - 0.30 * t.abs() ** 1.2  # Cupid's bow
    top = line - 1.18 * p.lip_up * arch**0.75 * bow
    bottom = line + p.lip_low * arch**0.85
    cover = sheet.soft(torch.minimum(v - top, bottom - v), 0.016)
    cover = cover * sheet.soft(p.mouth_w - u.abs(), 0.02)
    grain = 1 + 0.05 * sheet.strands("lips", u, v, 0.02)
    pink = linear(p.lip) * grain * torch.where(v < line, 0.86, 1.05)
    picture = over(below, pink, 0.80 * cover)
    seam = torch.exp(-0.5 * ((v - line) / 0.0085) ** 2)
    seam = seam * sheet.soft(p.mouth_w + 0.012 - u.abs(), 0.03)
    return picture * (1 - 0.62 * seam)


def brows(person: Identity, sheet: Canvas, below: torch.Tensor) -> torch.Tensor:
    """Eyebrows: a tapering arch with hairs that lie outwards."""
    p, u, v = person, sheet.u, sheet.v
    inner, outer = 0.36 * p.eye_x, p.eye_x + p.eye_w + 0.035
    s = (u.abs() - inner) / (outer - inner)
    k = s.clamp(0, 1)
    rise = p.brow_arch * torch.sin(torch.pi * k**1.25).clamp_min(0) ** 1.2 - 0.016 * k**3
    centre = p.brow_y - rise - p.brow_tilt * (k - 0.5) * 0.3 + torch.where(u < 0, p.asymmetry, 0.0)
    half = p.brow_thick * (0.66 + 0.34 * torch.sin(torch.pi * k**0.7)) * (1 - 0.80 * k**2.6)
    ragged = 0.13 * sheet.strands("brows", 0.85 * u.abs() + 0.7 * v, v - 0.5 * u.abs(), 0.016)
    inside = half * (1 + ragged) - (v - centre).abs()
    ends = smoothstep(s, -0.05, 0.13) * smoothstep(s, 1.04, 0.93)  # fade in and out along the brow
    cover = sheet.soft(inside, 0.020) * ends * (0.80 + 0.12 * ragged).clamp(0, 1)
    dark = linear(p.hair) * 0.55 + 0.10 * linear(p.skin)  # brows are darker than the hair
    return over(below, dark, cover * (0.60 + 6 * p.brow_thick))


def nostrils(person: Identity, sheet: Canvas, below: torch.Tensor) -> torch.Tensor:
    """Two dark openings and the crease around the wings."""
    p, v, side = person, sheet.v, sheet.u.abs()
    lift = 0.10 * (side - 0.45 * p.nose_w)  # the openings slant upwards to the sides
    hole = bump(side, v + lift, (0.46 * p.nose_w, p.nose_y - 0.006), (0.20 * p.nose_w, 0.0085))
    wing = torch.hypot((side - 0.74 * p.nose_w) / 0.050, (v - p.nose_y + 0.036) / 0.044) - 1
    crease = torch.exp(-0.5 * (wing / 0.16) ** 2)
    crease = crease * smoothstep(side, 0.80 * p.nose_w, 1.02 * p.nose_w)
    return below * (1 - 0.72 * hole.clamp_max(1)) * (1 - 0.28 * crease)


def lids(person: Identity, sheet: Canvas, below: torch.Tensor) -> torch.Tensor:
    """The crease above the eye and the rim of the lower lid."""
    p = person
    depth, gap, t = eye_frame(p, sheet.u, sheet.v)
    along = smoothstep(t.abs(), 1.12, 0.80)
    crease = torch.exp(-0.5 * ((depth + 0.026 + 0.006 * p.lid_fold) / 0.0085) ** 2) * along
    rim = torch.exp(-0.5 * ((depth - gap - 0.006) / 0.007) ** 2) * smoothstep(t.abs(), 1.02, 0.75)
    picture = below * (1 - (0.18 + 0.34 * p.lid_fold) * crease)
    return picture * (1 + 0.10 * rim)


def eyeballs(person: Identity, sheet: Canvas) -> torch.Tensor:
    """What shows between the lids: white, iris, pupil, catch-light, linear RGB (3, h, w)."""
    p, u, v, side = person, sheet.u, sheet.v, sheet.u.abs()
    t = eye_frame(p, u, v)[2]
    ball = linear((0.85, 0.83, 0.81)) * (1 - 0.42 * t.abs().clamp_max(1.2) ** 3)
    ball = over(ball, linear((0.80, 0.48, 0.44)), smoothstep(t, -0.72, -0.95))
    radius = 0.0475
    # The eyes look at the camera: each iris sits a trifle towards the nose.
    du, dv = side - p.eye_x + 0.003, v - (p.eye_y - 0.008)
    r = torch.hypot(du, dv) / radius
    angle = torch.atan2(dv, du)
    fibre = 1 + 0.16 * torch.cos(11 * angle + 3 * r) * torch.cos(7 * angle) + 0.30 * (0.6 - r)
    lit = 1 + 0.5 * smoothstep(dv / radius, -0.2, 0.9)  # light through the cornea pools below
    iris = linear(p.iris) * (fibre * lit).clamp_min(0.3)
    iris = iris * (1 - 0.70 * smoothstep(r, 0.72, 1.0))
    ball = over(ball, iris, sheet.soft((1 - r) * radius, 0.010))
    ball = over(ball, linear((0.03, 0.03, 0.03)), sheet.soft((0.42 - r) * radius, 0.006))
    lean = 0.012 if p.light[1] > 0 else -0.012
    # The lamp, mirrored by the cornea on the side from which it shines.
    spark = bump(u - torch.sign(u) * p.eye_x, v, (lean, p.eye_y - 0.024), (0.0075, 0.0075))
    glow = 0.25 * bump(u - torch.sign(u) * p.eye_x, v, (-lean, p.eye_y + 0.012), (0.012, 0.008))
    return over(ball, torch.ones(3, 1, 1), (1.25 * spark + glow).clamp(0, 1))


def mouth_inside(person: Identity, sheet: Canvas) -> torch.Tensor:
    """What shows between open lips: teeth that hang from the skull, tongue, dark, linear RGB."""
    p, u, v = person, sheet.u, sheet.v
    depth = v - mouth_line(p, u)
    t = u / p.mouth_w
    dark = linear((0.16, 0.07, 0.07)) * (1 - 0.3 * t.abs().clamp_max(1))
    tongue = bump(u, depth, (0.0, 0.135), (0.13, 0.045))
    picture = over(dark, linear((0.62, 0.30, 0.29)), 0.85 * tongue)
    widths = 0.044 - 0.010 * t.abs().clamp_max(1)  # the incisors are the widest
    gap = torch.cos(torch.pi * u / widths).abs()  # 0 between two teeth
    edge = 0.034 - 0.010 * t**2 - 0.004 * (1 - gap)
    ivory = linear((0.93, 0.90, 0.84)) * (1 - 0.45 * t.abs().clamp_max(1) ** 2)
    ivory = ivory * (1 - 0.22 * smoothstep(gap, 0.25, 0.0))
    teeth = sheet.soft(edge - depth, 0.012) * smoothstep(t.abs(), 0.92, 0.70)
    return over(picture, ivory, teeth)


def normals(person: Identity, sheet: Canvas) -> torch.Tensor:
    """Surface normals of the face, (3, h, w), unit length, z towards the camera."""
    z = relief(person, sheet.u, sheet.v)
    zy, zx = torch.gradient(z, spacing=sheet.texel)  # slope of the relief, per face unit
    return torch.nn.functional.normalize(torch.stack([-zx, -zy, torch.ones_like(z)]), dim=0)
