"""Who is on the screen: the traits of one synthetic person, drawn from a seed and nothing else.

Lengths are face units: half the short side of the image is 1, x points right and y down, the origin
is the middle of the image. Proportions follow the usual adult means (pupil distance 63 mm, face
width 140 mm, pupil to chin 108 mm), scaled to a pupil distance of about 0.53.
"""

import zlib
from dataclasses import dataclass, field, fields

import numpy as np

from micromacro.errors import BadInput, check_whole

RGB = tuple[float, float, float]


def _percent(colours: list[tuple[int, int, int]]) -> np.ndarray:
    """Display colours as float64 (n, 3) in [0, 1], written in per cent."""
    return np.array(colours) / 100


# From light to dark; a person lies between two of them.
SKIN = _percent(
    [(94, 79, 71), (90, 71, 60), (82, 61, 47), (70, 49, 35), (58, 40, 29), (46, 31, 23)]
)
# Blond, auburn, light brown, brown, dark brown, black.
HAIR = _percent([(68, 53, 34), (42, 23, 14), (42, 28, 18), (27, 18, 12), (15, 11, 9), (9, 8, 8)])
# Blue, grey, green, hazel, brown, dark brown.
IRIS = _percent([(42, 56, 68), (45, 52, 50), (42, 48, 28), (47, 34, 16), (33, 20, 10), (20, 12, 7)])
CLOTH = _percent(
    [
        *((20, 24, 34), (72, 71, 69), (17, 18, 19), (45, 20, 20)),
        *((28, 38, 33), (44, 52, 62), (60, 52, 42), (37, 30, 40)),
    ]
)
BACKDROPS = ("wall", "studio", "window", "shelves", "foliage")
HAIR_STYLES = ("buzz", "crop", "side_part", "quiff", "curly", "receded", "bob", "long", "tied")
BEARDS = ("none", "stubble", "moustache", "short", "full")


def stream(*key: int | str) -> np.random.Generator:
    """A random stream of its own for each key; text enters as its CRC-32.

    Keys of up to four parts are filled up with zeros: (a, b) is the stream of (a, b, 0) too. Do not
    use both.

    Args:
        *key: Integers (>= 0) and strings that name the stream.

    Returns:
        A NumPy generator (Philox); the same key gives the same stream of bits everywhere.
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in key]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def _around(mean: float, sd: float, *, fem: float = 0.0, low=-np.inf, high=np.inf):
    """Declare a trait that scatters normally about a mean, which moves by ``fem`` with femininity.

    Deviations beyond two ``sd`` are cut; the result is kept within [``low``, ``high``].
    """

    def draw(rng: np.random.Generator, femininity: float) -> float:
        value = mean + fem * femininity + sd * np.clip(rng.standard_normal(), -2, 2)
        return float(np.clip(value, low, high))

    return field(metadata={"draw": draw})


def _between(low: float, high: float):
    """Declare a trait that is uniform on [``low``, ``high``)."""
    return field(metadata={"draw": lambda rng, _femininity: float(rng.uniform(low, high))})


@dataclass(frozen=True)
class Identity:
    """Every trait of one person; lengths in face units, colours display RGB in [0, 1].

    Make one with :meth:`draw`; change a trait with ``dataclasses.replace``. The texture noise is
    not kept here: it comes from ``seed`` by streams of its own, one for each octave, so that the
    same identity is the same person at every resolution.

    The proportions stand beside their distribution. They are drawn from one stream in the order
    in which they are declared, so a new one belongs at the end of its block.
    """

    seed: tuple[int, ...]
    age: float  # years
    femininity: float  # 0 masculine .. 1 feminine features
    # proportions
    eye_y: float = _around(-0.10, 0.01)
    mouth_y: float = _around(0.44, 0.012)
    head_w: float = _around(0.575, 0.014, fem=-0.020)  # half width at the cheekbones
    chin_y: float = _around(0.82, 0.014, fem=-0.025)
    jaw_taper: float = _around(0.25, 0.035, fem=0.08, low=0.15, high=0.40)  # narrows the chin
    jaw_power: float = _around(2.95, 0.18, fem=-0.45)  # 2 oval, 3 square
    neck_w: float = _around(0.395, 0.016, fem=-0.085)
    asymmetry: float = _around(0.0, 0.004)  # shift of the left half against the right one
    eye_x: float = _around(0.264, 0.008)
    eye_w: float = _around(0.126, 0.005)  # half width of the opening
    eye_up: float = _around(0.044, 0.004, fem=0.006)  # height above the line of the corners
    eye_low: float = _around(0.030, 0.003)  # height below it
    eye_tilt: float = _around(0.04, 0.04, fem=0.04)
    lid_fold: float = _between(0.2, 1)  # strength of the crease
    brow_y: float = _around(0.150, 0.010, fem=0.022)  # drawn as the height above the eye
    brow_arch: float = _around(0.026, 0.010, fem=0.016)
    brow_thick: float = _around(0.034, 0.004, fem=-0.012, low=0.014, high=0.046)
    brow_tilt: float = _around(0.0, 0.03)
    nose_y: float = _around(0.255, 0.014)  # lower edge of the nose
    nose_w: float = _around(0.137, 0.010, fem=-0.012)  # half width over the wings
    nose_depth: float = _around(0.215, 0.02, fem=-0.02)
    mouth_w: float = _around(0.212, 0.010, fem=-0.006)
    lip_up: float = _around(0.038, 0.006, fem=0.012)
    lip_low: float = _around(0.053, 0.007, fem=0.014)
    mouth_curve: float = _around(-0.006, 0.007)  # corners below (+) or above (-) the middle
    cheek: float = _between(0.4, 1)
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
            BadInput: A number is negative or not whole, or the name of the split is empty.
        """
        subject = check_whole("subject", subject, least=0)
        run_seed = check_whole("run_seed", run_seed, least=0)
        if not split:
            raise BadInput("split", "is empty", "name it, for example 'train'")
        seed = (zlib.crc32(b"micromacro identity"), zlib.crc32(split.encode()), subject, run_seed)
        rng = stream(*seed, "traits")
        age, fem = float(rng.triangular(18, 30, 76)), float(rng.beta(0.5, 0.5))
        tone = float(rng.uniform(0, 5))  # of the skin, 0 light to 5 dark; hair and eyes follow it
        laws = {f.name: f.metadata["draw"] for f in fields(cls) if f.metadata}
        traits = {name: draw(rng, fem) for name, draw in laws.items()}
        traits["brow_y"] = traits["eye_y"] - traits["brow_y"]
        traits |= _surface(rng, age, fem, tone) | _hair(rng, age, fem, tone) | _scene(rng)
        return cls(seed=seed, age=age, femininity=fem, **traits)


def _surface(rng: np.random.Generator, age: float, fem: float, tone: float) -> dict:
    """Colour of skin, lips and eyes; freckles and moles."""
    low = int(tone)
    skin = SKIN[low] + (tone - low) * (SKIN[min(low + 1, 5)] - SKIN[low])
    skin = skin * rng.uniform(0.96, 1.03) * (1 + rng.uniform(-0.02, 0.02, 3))
    make_up = rng.uniform(0, 0.35) if fem > 0.6 and age > 18 else 0.0
    lip = skin * np.array([0.86, 0.62, 0.62]) * (1 - make_up)
    lip = lip + make_up * np.array([0.66, 0.2, 0.24])
    iris = IRIS[min(5, int(rng.integers(0, 4) + tone * 1.1))]
    ranges = ((-0.45, 0.45), (-0.45, 0.68), (0.005, 0.010), (0.25, 0.6))  # x, y, radius, darkness
    number = int(rng.integers(0, 7))
    moles = tuple(tuple(float(rng.uniform(*ends)) for ends in ranges) for _ in range(number))
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
    return tuple(np.clip(colour, 0.02, 0.98).tolist())
