"""The moving part of a face: where things are, how each action unit moves them, how deep they lie.

The displacement of an action unit (AU) is a sum of Gaussian bumps at the person's own landmarks,
scaled to a peak of one face unit; an amplitude is thus a peak displacement. Left and right are
those of the image.
"""

import torch

from micromacro.synthetic.canvas import bump, smoothstep
from micromacro.synthetic.identity import Identity

AUS = (
    *("1", "2", "4", "6", "7", "9", "10", "12", "14", "15", "17", "20", "23"),
    *("12L", "12R", "14L", "14R"),
)
"""Smooth action units in the order of ``Performance.au``; ``L``, ``R``: one side of the image."""

MOTION_HALF = 1.3  # the motion fields live on [-1.3, 1.3]^2 and are zero outside
MOTION_GRID = 97  # nodes per side: 0.027 face units apart, a third of the narrowest sigma

_BROW_AUS = ("1", "2", "4")


def _bumps(p: Identity) -> dict[str, list[tuple[float, ...]]]:
    """The bumps of each AU on the right half of a face; their mirror images belong to them.

    Proportions follow FACS (Ekman and Friesen): what pulls where.

    Returns:
        AU -> bumps (x, y, sigma_x, sigma_y, direction x, direction y), face units; x > 0 outwards,
        y > 0 down.
    """
    cheek_y, corner_y = p.eye_y + 0.22, p.mouth_y + p.mouth_curve
    return {
        "1": [(0.50 * p.eye_x, p.brow_y, 0.130, 0.125, 0.0, -1.0)],
        "2": [(1.35 * p.eye_x, p.brow_y, 0.150, 0.125, 0.0, -1.0)],
        "4": [(0.50 * p.eye_x, p.brow_y, 0.150, 0.120, -0.50, 0.85)],
        "6": [
            (1.08 * p.eye_x, cheek_y, 0.190, 0.125, 0.0, -1.0),
            (p.eye_x + 1.6 * p.eye_w, p.eye_y, 0.11, 0.12, -0.45, 0.15),  # crow's feet
        ],
        "7": [(p.eye_x, p.eye_y + p.eye_low + 0.02, 0.130, 0.075, 0.0, -1.0)],
        "9": [
            (0.95 * p.nose_w, p.nose_y - 0.04, 0.095, 0.110, 0.0, -1.0),  # wing of the nose
            (0.0, p.nose_y - 0.20, 0.110, 0.130, 0.0, -0.7),  # its bridge
        ],
        "10": [(0.45 * p.mouth_w, p.mouth_y - 0.07, 0.110, 0.090, 0.0, -1.0)],
        "12": [
            (p.mouth_w, corner_y, 0.125, 0.115, 0.55, -0.84),
            (1.08 * p.eye_x, cheek_y, 0.150, 0.130, 0.10, -0.40),
        ],
        "14": [(p.mouth_w, corner_y, 0.110, 0.100, 0.95, -0.30)],
        "15": [(p.mouth_w, corner_y, 0.130, 0.110, 0.15, 1.0)],
        "17": [(0.0, p.mouth_y + 0.17, 0.190, 0.120, 0.0, -1.0)],
        "20": [(p.mouth_w, corner_y, 0.140, 0.120, 1.0, 0.15)],
        "23": [(p.mouth_w, corner_y, 0.140, 0.100, -1.0, 0.0)],
    }


def mouth_line(person: Identity, u: torch.Tensor) -> torch.Tensor:
    """Height (face units) of the line between the closed lips at x = ``u``."""
    t = (u / person.mouth_w).clamp(-1.3, 1.3)
    dip = 0.006 * torch.exp(-0.5 * (t / 0.16) ** 2)  # Cupid's bow, and its two shoulders
    dip = dip - 0.004 * torch.exp(-0.5 * ((t.abs() - 0.42) / 0.2) ** 2)
    return person.mouth_y + person.mouth_curve * t**2 + dip


def eye_frame(person: Identity, u: torch.Tensor, v: torch.Tensor):
    """Coordinates of the lids.

    Args:
        person: The person whose eyes these are.
        u: float32, x in face units.
        v: float32, y in face units; the two broadcast against each other.

    Returns:
        (below, gap, t): distance below the resting upper lid, height of the resting opening
        (negative beyond the corners), both in face units, and the place along the eye, -1 at the
        inner corner to 1 at the outer one.
    """
    t = (u.abs() - person.eye_x) / person.eye_w
    height = v - person.eye_y + person.eye_tilt * person.eye_w * t
    arch = 1 - t**2
    # The upper lid is highest a little towards the nose, the lower one lowest a little outwards.
    upper = person.eye_up * arch * (1 - 0.22 * t.clamp(-1, 1))
    lower = person.eye_low * arch * (1 + 0.25 * t.clamp(-1, 1))
    return height + upper, (upper + lower).clamp_min(-0.15), t


def fields(person: Identity) -> torch.Tensor:
    """Displacement fields of the smooth AUs, the jaw and the depth on the motion grid.

    Args:
        person: The person whose skin moves.

    Returns:
        float32 (len(AUS) + 3, 2, MOTION_GRID, MOTION_GRID), unit peak: rows in the order of
        ``AUS``, then the jaw, then the two turns of the head (yaw moves x by the depth, pitch y).
    """
    axis = torch.linspace(-MOTION_HALF, MOTION_HALF, MOTION_GRID)
    u, v = axis[None], axis[:, None]  # (1, G), (G, 1)
    # Without this gate the brows pull the eyelids into triangles.
    gate = torch.sigmoid((person.eye_y - 2.5 * person.eye_up - v) / 0.045)
    bumps, rows = _bumps(person), []
    for name in AUS:
        total = torch.zeros(2, MOTION_GRID, MOTION_GRID)
        for side in (-1, 1):
            if name.endswith("LR"[(1 - side) // 2]):  # 12L has no bump on the right
                continue
            for x, y, sigma_x, sigma_y, dx, dy in bumps[name.rstrip("LR")]:
                gauss = bump(u, v, (side * x, y), (sigma_x, sigma_y))  # (G, G)
                total += torch.stack([side * dx * gauss, dy * gauss])
        if name in _BROW_AUS:
            total *= gate
        rows.append(total / torch.hypot(*total).max())
    # The chin goes down, the lower lip with it; the upper lip and the neck stay.
    drop = bump(u, v, (0.0, person.chin_y - 0.10), (0.34, 0.20))
    drop = drop * torch.sigmoid((v - person.mouth_y - 0.07) / 0.045)
    # Depth for small turns: a smooth boss that is zero on neck, hair and background, and the nose.
    deep = 0.45 * torch.exp(-((u / 0.46) ** 4) - ((v - 0.05) / 0.66) ** 4)
    deep = deep + 0.16 * bump(u, v, (0.0, person.nose_y - 0.06), (0.075, 0.11))
    none = torch.zeros_like(deep)
    rows += [torch.stack(pair) for pair in ((none, drop / drop.max()), (deep, none), (none, deep))]
    return torch.stack(rows)  # (AUs + 3, 2, G, G)


def head_shape(person: Identity, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Implicit outline of the head without hair: 1 in the middle, 0 on it, negative outside."""
    p = person
    middle, top = p.eye_y + 0.06, -0.90
    s = ((v - middle) / (p.chin_y - middle)).clamp_min(0)
    width = p.head_w * (1 - p.jaw_taper * s.clamp_max(1.2) ** 2.2)
    low = 1 - s**p.jaw_power - (u.abs() / width) ** 2.3
    r = ((middle - v) / (middle - top)).clamp_min(0)
    high = 1 - r**2.3 - (u.abs() / (p.head_w * (1 - 0.05 * r))) ** 2.3
    return torch.where(v > middle, low, high)


def relief(person: Identity, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Depth of the face for shading, face units towards the camera."""
    p = person
    # Softplus keeps the slope beyond the outline, so that no bright rim appears there.
    shape = torch.nn.functional.softplus(head_shape(p, u, v), beta=25)
    z = 0.62 * (shape + 0.004).sqrt()
    t = ((v - p.eye_y + 0.03) / (p.nose_y - 0.05 - p.eye_y + 0.03)).clamp(0, 1)
    # The lower edge of the nose: deepest at the septum, rising to the wings.
    rim = p.nose_y - 0.010 - 0.022 * smoothstep(u.abs(), 0.1 * p.nose_w, 0.6 * p.nose_w)
    under = 0.7 * torch.sigmoid((rim - v) / 0.018) + 0.3 * torch.sigmoid((rim - v) / 0.05)
    ridge = torch.exp(-0.5 * (u / (p.nose_w * (0.24 + 0.26 * t**1.5))) ** 2)
    root = torch.sigmoid((v - p.eye_y + 0.05) / 0.03)
    z = z + p.nose_depth * (0.20 + 0.80 * t**1.2) * ridge * under * root
    z = z + 0.040 * bump(u, v, (0.0, p.nose_y - 0.055), (0.048, 0.042))  # tip of the nose
    for side in (-1, 1):
        z = z + 0.060 * bump(u, v, (side * 0.72 * p.nose_w, p.nose_y - 0.040), (0.034, 0.034))
        z = z - 0.060 * bump(u, v, (side * 0.90 * p.eye_x, p.eye_y - 0.015), (0.125, 0.062))
        z = z + 0.022 * bump(u, v, (side * p.eye_x, p.eye_y + 0.002), (0.085, 0.040))
        brow = bump(u, v, (side * 1.05 * p.eye_x, p.brow_y + 0.01), (0.15, 0.05))
        z = z + 0.030 * brow * (1.2 - p.femininity)
        z = z + 0.055 * p.cheek * bump(u, v, (side * 1.28 * p.eye_x, p.eye_y + 0.20), (0.13, 0.09))
    lips = torch.exp(-((u / (0.80 * p.mouth_w)) ** 4))
    z = z + 0.030 * lips * torch.exp(-0.5 * ((v - p.mouth_y + 0.55 * p.lip_up) / 0.024) ** 2)
    z = z + 0.042 * lips * torch.exp(-0.5 * ((v - p.mouth_y - 0.55 * p.lip_low) / 0.030) ** 2)
    z = z - 0.012 * lips * torch.exp(-0.5 * ((v - p.mouth_y) / 0.010) ** 2)
    z = z - 0.020 * bump(u, v, (0.0, p.mouth_y + p.lip_low + 0.055), (0.13, 0.032))
    z = z + 0.050 * bump(u, v, (0.0, p.chin_y - 0.12), (0.12, 0.065))
    return z - 0.008 * bump(u, v, (0.0, p.mouth_y - p.lip_up - 0.05), (0.016, 0.05))


LANDMARKS = (
    *("brow_outer_left", "brow_mid_left", "brow_inner_left"),
    *("brow_inner_right", "brow_mid_right", "brow_outer_right"),
    *("eye_outer_left", "eye_inner_left", "eye_inner_right", "eye_outer_right"),
    *("lid_upper_left", "lid_lower_left", "lid_upper_right", "lid_lower_right"),
    *("pupil_left", "pupil_right", "nose_bridge", "nose_tip", "nostril_left", "nostril_right"),
    *("mouth_left", "mouth_right", "lip_upper", "lip_lower", "lip_top", "lip_bottom"),
    *("chin", "jaw_left", "jaw_right", "cheek_left", "cheek_right"),
)
"""Names of the landmarks, left and right as seen in the image."""

_FIVE = ("pupil_left", "pupil_right", "nose_tip", "mouth_left", "mouth_right")
FIVE_POINTS = tuple(LANDMARKS.index(name) for name in _FIVE)
"""Where the five points of face alignment are in ``LANDMARKS``."""

LOWER = ("lip_lower", "lip_bottom", "chin", "jaw_left", "jaw_right")
"""Landmarks that go with the lower lip when the mouth opens."""


def rest_landmarks(person: Identity) -> torch.Tensor:
    """The landmarks of the resting face, float32 (len(LANDMARKS), 2) in face units (x, y)."""
    p = person
    half = {
        "brow_outer": (p.eye_x + p.eye_w + 0.02, p.brow_y + 0.01),
        "brow_mid": (1.05 * p.eye_x, p.brow_y - p.brow_arch),
        "brow_inner": (0.42 * p.eye_x, p.brow_y),
        "eye_outer": (p.eye_x + p.eye_w, p.eye_y - p.eye_tilt * p.eye_w),
        "eye_inner": (p.eye_x - p.eye_w, p.eye_y + p.eye_tilt * p.eye_w),
        "lid_upper": (p.eye_x, p.eye_y - p.eye_up),
        "lid_lower": (p.eye_x, p.eye_y + p.eye_low),
        "pupil": (p.eye_x, p.eye_y - 0.006),
        "nostril": (p.nose_w, p.nose_y - 0.04),
        "mouth": (p.mouth_w, p.mouth_y + p.mouth_curve),
        "jaw": (p.head_w * (1 - p.jaw_taper * 0.36) * 0.80, p.mouth_y + 0.10),
        "cheek": (1.2 * p.eye_x, p.eye_y + 0.22),
    }
    line = float(mouth_line(p, torch.zeros(1)))
    middle = {
        "nose_bridge": p.eye_y,
        "nose_tip": p.nose_y - 0.055,
        **dict.fromkeys(("lip_upper", "lip_lower"), line),
        "lip_top": p.mouth_y - 0.8 * p.lip_up,
        "lip_bottom": p.mouth_y + p.lip_low,
        "chin": p.chin_y - 0.03,
    }
    points = {name: (0.0, y) for name, y in middle.items()}
    for name, (x, y) in half.items():
        points |= {f"{name}_left": (-x, y), f"{name}_right": (x, y)}
    return torch.tensor([points[name] for name in LANDMARKS])
