"""Who is on the screen: the traits of one synthetic person, drawn from a seed and from nothing else.

Lengths are face units: half the short side of the image is 1, x points right and y down, the origin
is the middle of the image. Proportions follow the usual adult means (pupil distance 63 mm, face
width 140 mm, pupil to chin 108 mm), scaled to a pupil distance of about 0.53.
"""

import zlib
from dataclasses import dataclass

import numpy as np

from micromacro.errors import BadInput

RGB = tuple[float, float, float]

# Display colours (0-1). Six skin bases from light to dark; a person lies between two of them.
SKIN = np.array(
    [
        (0.94, 0.79, 0.71),
        (0.90, 0.71, 0.60),
        (0.82, 0.61, 0.47),
        (0.70, 0.49, 0.35),
        (0.58, 0.40, 0.29),
        (0.46, 0.31, 0.23),
    ]
)
HAIR = np.array(
    [
        (0.68, 0.53, 0.34),  # blond
        (0.42, 0.23, 0.14),  # auburn
        (0.42, 0.28, 0.18),  # light brown
        (0.27, 0.18, 0.12),  # brown
        (0.15, 0.11, 0.09),  # dark brown
        (0.09, 0.08, 0.08),  # black
    ]
)
IRIS = np.array(
    [
        (0.42, 0.56, 0.68),  # blue
        (0.45, 0.52, 0.50),  # grey
        (0.42, 0.48, 0.28),  # green
        (0.47, 0.34, 0.16),  # hazel
        (0.33, 0.20, 0.10),  # brown
        (0.20, 0.12, 0.07),  # dark brown
    ]
)
CLOTH = np.array(
    [
        (0.20, 0.24, 0.34),
        (0.72, 0.71, 0.69),
        (0.17, 0.18, 0.19),
        (0.45, 0.20, 0.20),
        (0.28, 0.38, 0.33),
        (0.44, 0.52, 0.62),
        (0.60, 0.52, 0.42),
        (0.37, 0.30, 0.40),
    ]
)
BACKDROPS = ("wall", "studio", "window", "shelves", "foliage")
HAIR_STYLES = ("buzz", "crop", "side_part", "quiff", "curly", "receded", "bob", "long", "tied")
BEARDS = ("none", "stubble", "moustache", "short", "full")


def stream(*key: int | str) -> np.random.Generator:
    """A random stream of its own for each key; text enters as its CRC-32.

    Keys of up to four parts are filled up with zeros: (a, b) is the stream of (a, b, 0) too. Do not use
    both.

    Args:
        *key: Integers (>= 0) and strings that name the stream.

    Returns:
        A NumPy generator (Philox); the same key gives the same numbers everywhere.
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in key]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


@dataclass(frozen=True)
class Identity:
    """Every trait of one person; lengths in face units, colours display RGB in [0, 1].

    Make one with :meth:`draw`; change a trait with ``dataclasses.replace``. The texture noise is
    not kept here: it comes from ``seed`` by streams of its own, one for each octave, so that the
    same identity is the same person at every resolution.
    """

    seed: tuple[int, ...]
    age: float  # years
    femininity: float  # 0 masculine .. 1 feminine features
    # skeleton
    head_w: float  # half width at the cheekbones
    chin_y: float
    jaw_taper: float  # how much the face narrows towards the chin, 0..1
    jaw_power: float  # 2 oval, 3 square
    neck_w: float
    asymmetry: float  # shift of the left half against the right one
    eye_x: float
    eye_y: float
    eye_w: float  # half width of the opening
    eye_up: float  # height above and below the corner line
    eye_low: float
    eye_tilt: float
    lid_fold: float  # strength of the crease, 0..1
    brow_y: float
    brow_arch: float
    brow_thick: float
    brow_tilt: float
    nose_y: float  # lower edge of the nose
    nose_w: float  # half width over the wings
    nose_depth: float
    mouth_y: float
    mouth_w: float
    lip_up: float
    lip_low: float
    mouth_curve: float  # corners below (+) or above (-) the middle
    cheek: float
    # surface
    skin: RGB
    lip: RGB
    iris: RGB
    blush: float
    freckles: float
    moles: tuple[tuple[float, float, float, float], ...]  # x, y, radius, darkness
    # hair
    hair_style: str
    hair: RGB
    hairline_y: float
    hair_volume: float
    part_x: float
    beard: str
    # the scene
    cloth: RGB
    collar: str  # crew, vee or shirt
    backdrop: str
    backdrop_rgb: RGB
    light: tuple[float, float, float, float]  # ambient, and the weights of Nx, Ny, Nz
    rest: tuple[float, ...]  # resting displacement of fields 1, 4, 12, 15, 23

    @classmethod
    def draw(cls, subject: int, *, split: str = "train", run_seed: int = 0) -> "Identity":
        """Draw the person with this number.

        Args:
            subject: Number of the person within the split, >= 0.
            split: Name of the split (``"train"``, ``"dev"``, ``"test"``, ``"pretrain"`` or any
                other word). Different words give disjoint people.
            run_seed: Enters the seed, so that two runs do not share their faces; >= 0.

        Returns:
            The identity; the same arguments give the same one on every machine.

        Raises:
            BadInput: A negative number, or an empty split.
        """
        if subject < 0 or run_seed < 0:
            raise BadInput(
                f"subject={subject}, run_seed={run_seed}", "negative", "give numbers from 0 on"
            )
        if not split:
            raise BadInput("split", "is empty", "name it, for example 'train'")
        seed = (zlib.crc32(b"micromacro identity"), zlib.crc32(split.encode()), subject, run_seed)
        rng = stream(*seed, "traits")
        age = float(rng.triangular(18, 30, 76))
        femininity = float(rng.beta(0.5, 0.5))
        tone = float(rng.uniform(0, 5))
        return cls(
            seed=seed,
            age=age,
            femininity=femininity,
            **_skeleton(rng, femininity),
            **_surface(rng, age, femininity, tone),
            **_hair(rng, age, femininity, tone),
            **_scene(rng),
        )


def _skeleton(rng: np.random.Generator, fem: float) -> dict[str, float]:
    """Proportions: the adult mean, moved by sex and scattered by a few per cent."""

    def around(mean: float, spread: float) -> float:
        return float(mean + spread * np.clip(rng.standard_normal(), -2, 2))

    eye_y, mouth_y = around(-0.10, 0.01), around(0.44, 0.012)
    return {
        "head_w": around(0.575 - 0.020 * fem, 0.014),
        "chin_y": around(0.82 - 0.025 * fem, 0.014),
        "jaw_taper": float(np.clip(around(0.25 + 0.08 * fem, 0.035), 0.15, 0.40)),
        "jaw_power": around(2.95 - 0.45 * fem, 0.18),
        "neck_w": around(0.395 - 0.085 * fem, 0.016),
        "asymmetry": around(0.0, 0.004),
        "eye_x": around(0.264, 0.008),
        "eye_y": eye_y,
        "eye_w": around(0.126, 0.005),
        "eye_up": around(0.044 + 0.006 * fem, 0.004),
        "eye_low": around(0.030, 0.003),
        "eye_tilt": around(0.04 + 0.04 * fem, 0.04),
        "lid_fold": float(rng.uniform(0.2, 1)),
        "brow_y": eye_y - around(0.150 + 0.022 * fem, 0.010),
        "brow_arch": around(0.026 + 0.016 * fem, 0.010),
        "brow_thick": float(np.clip(around(0.034 - 0.012 * fem, 0.004), 0.014, 0.046)),
        "brow_tilt": around(0.00, 0.03),
        "nose_y": around(0.255, 0.014),
        "nose_w": around(0.137 - 0.012 * fem, 0.010),
        "nose_depth": around(0.215 - 0.02 * fem, 0.02),
        "mouth_y": mouth_y,
        "mouth_w": around(0.212 - 0.006 * fem, 0.010),
        "lip_up": around(0.038 + 0.012 * fem, 0.006),
        "lip_low": around(0.053 + 0.014 * fem, 0.007),
        "mouth_curve": around(-0.006, 0.007),
        "cheek": float(rng.uniform(0.4, 1)),
    }


def _surface(rng: np.random.Generator, age: float, fem: float, tone: float) -> dict:
    """Colour of skin, lips and eyes; freckles and moles."""
    low = int(tone)
    skin = SKIN[low] + (tone - low) * (SKIN[min(low + 1, 5)] - SKIN[low])
    skin = skin * rng.uniform(0.96, 1.03) * (1 + rng.uniform(-0.02, 0.02, 3))
    make_up = rng.uniform(0, 0.35) if fem > 0.6 and age > 18 else 0.0
    lip = skin * np.array([0.86, 0.62, 0.62]) * (1 - make_up) + make_up * np.array(
        [0.66, 0.2, 0.24]
    )
    iris = IRIS[min(5, int(rng.integers(0, 4) + tone * 1.1))]
    moles = tuple(
        (
            float(rng.uniform(-0.45, 0.45)),
            float(rng.uniform(-0.45, 0.68)),
            float(rng.uniform(0.005, 0.010)),
            float(rng.uniform(0.25, 0.6)),
        )
        for _ in range(int(rng.integers(0, 7)))
    )
    return {
        "skin": _rgb(skin),
        "lip": _rgb(lip),
        "iris": _rgb(iris * rng.uniform(0.85, 1.15)),
        "blush": float(rng.uniform(0.2, 1)),
        "freckles": float(max(0.0, rng.normal(0.2, 0.4)) * (tone < 2.2)),
        "moles": moles,
    }


def _hair(rng: np.random.Generator, age: float, fem: float, tone: float) -> dict:
    """Style, colour and greyness of the hair, and the beard."""
    styles = ("bob", "long", "tied", "curly") if fem > 0.5 else HAIR_STYLES[:6]
    style = str(rng.choice(styles))
    if age < 35 and style == "receded":
        style = "crop"
    shade = HAIR[int(np.clip(rng.normal(1.5 + 1.3 * tone, 1.2), 0, 5))]
    grey = float(np.clip((age - rng.normal(54, 7)) / 16, 0, 0.95))
    colour = shade * (1 - grey) + grey * np.array([0.66, 0.65, 0.64])
    beard = "none"
    if fem < 0.45:
        beard = str(rng.choice(BEARDS, p=[0.34, 0.28, 0.08, 0.18, 0.12]))
    return {
        "hair_style": style,
        "hair": _rgb(colour * rng.uniform(0.9, 1.1)),
        "hairline_y": float(rng.normal(-0.61, 0.022)),
        "hair_volume": float(rng.uniform(0.7, 1.2)),
        "part_x": float(rng.choice([-1, 1]) * rng.uniform(0.10, 0.26)),
        "beard": beard,
    }


def _scene(rng: np.random.Generator) -> dict:
    """Clothes, background, light and the resting face."""
    grey = rng.uniform(0.42, 0.78)
    tint = grey * (1 + rng.uniform(-0.12, 0.12) * np.array([1, 0.1, -1.0]))
    return {
        "cloth": _rgb(CLOTH[rng.integers(len(CLOTH))] * rng.uniform(0.9, 1.1)),
        "collar": str(rng.choice(["crew", "vee", "shirt"])),
        "backdrop": str(rng.choice(BACKDROPS)),
        "backdrop_rgb": _rgb(tint),
        "light": (0.40, float(rng.uniform(-0.30, 0.30)), -0.24, 0.46),
        "rest": tuple(float(v) for v in 0.004 * np.clip(rng.standard_normal(5), -2, 2)),
    }


def _rgb(colour: np.ndarray) -> RGB:
    """Three floats inside [0.02, 0.98]."""
    red, green, blue = (float(v) for v in np.clip(colour, 0.02, 0.98))
    return red, green, blue
