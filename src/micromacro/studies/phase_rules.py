"""What a rule for comparing phases is worth: three rules, a moving texture (notebook 02)."""

import itertools
import json
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from micromacro.files import project_root, reading
from micromacro.kernels import phase_difference
from micromacro.kernels.phase_reference import bands_reference, blur
from micromacro.results import Row, read_rows, write_rows

NOTEBOOK = "02_phase_differences"
RULES = ("phase", "unwrapped", "as released")
AMPLITUDES_PX, BITS = (0.02, 0.05, 0.25, 1.0, 3.0), (24, 8)
_MIDDLE = np.s_[21:28, 21:28]  # of the patch


class Outcome(NamedTuple):
    """Mean correlation of each rule with the true velocity.

    Attributes:
        here: This run; index ``bits, rule, amplitude_px``; columns "mean" and "count", over
            textures.
        full: The committed full run, in the same form.
        day: When the full run was made, such as "2026-11-21".
    """

    here: pd.DataFrame
    full: pd.DataFrame
    day: str


def textures(seed: int, motion_px: np.ndarray, size: int = 48, bits: int = 24) -> torch.Tensor:
    """A round patch of a texture moves down, and what is around it rests.

    The texture is a sum of 60 waves of 3 to 32 px, so any motion below a pixel is exact.

    Args:
        seed: Random seed of the texture.
        motion_px: (T,), how far the middle of the patch has moved down, px; the patch is a Gaussian
            of 6 px, in the middle of the picture.
        size: Side of the picture in pixels.
        bits: Grey values are rounded to this many bits.

    Returns:
        float32 (T, size, size) in [0, 1].
    """
    rng = np.random.default_rng(seed)
    wavelength = np.exp(rng.uniform(np.log(3), np.log(32), 60))
    angle, phase = rng.uniform(0, 2 * np.pi, (2, 60))
    y, x = np.mgrid[:size, :size].astype(float)
    bump = np.exp(-((y - size / 2) ** 2 + (x - size / 2) ** 2) / (2 * 6.0**2))
    y = y - motion_px[:, None, None] * bump  # (T, size, size)
    picture = np.zeros_like(y)
    for length, a, p in zip(wavelength, angle, phase, strict=True):
        picture += length * np.cos(2 * np.pi * (x * np.cos(a) + y * np.sin(a)) / length + p)
    picture = np.clip(0.5 + picture / picture.std() * 0.15, 0, 1)
    return torch.from_numpy(np.round(picture * (2**bits - 1)) / (2**bits - 1)).float()


def by_rule(clip: torch.Tensor) -> dict[str, torch.Tensor]:
    """Phase differences of level 1, down, by each of `RULES`.

    "phase" is the conjugate product, "as released" the released rule, which unwraps one kind of
    jump only, and "unwrapped" the released rule with NumPy's unwrapping in its place.

    Args:
        clip: float32 (T, H, W) in [0, 1].

    Returns:
        Rule -> (T - 1, H, W), rad.
    """
    z = bands_reference(clip.double(), 1, 2)[:, 1]  # (T, H, W)
    angle = torch.from_numpy(np.unwrap(z.angle().numpy(), axis=0))
    mended = (blur(z.abs() * angle, 2.0) / blur(z.abs(), 2.0)).diff(dim=0)
    phase, released = (
        phase_difference(clip, levels=(1,), legacy_unwrap=legacy)[0][1] for legacy in (False, True)
    )
    maps = (phase, mended - mended.mean((-2, -1), keepdim=True), released)
    return dict(zip(RULES, maps, strict=True))


def outcome(profile: str = "smoke", out: str | None = None) -> Outcome:
    """Lets each texture swing slowly, and correlates the middle of its maps with the true velocity.

    Args:
        profile: "full" takes 40 textures, another one 6.
        out: Folder of the run, as for `results.write_rows`.

    Raises:
        BadInput: The committed rows are missing or torn.
    """
    records = []
    for seed in range(40 if profile == "full" else 6):
        long, late = np.random.default_rng(seed).uniform(0.5, 1, 2)
        swing = np.sin(2 * np.pi * (np.arange(13) / 12 * long + late))
        for bits, amplitude_px in itertools.product(BITS, AMPLITUDES_PX):
            clip = textures(seed, amplitude_px * swing, bits=bits)
            for rule, maps in by_rule(clip).items():
                read = maps[:, *_MIDDLE].mean((-2, -1)).numpy()
                value = float(abs(np.corrcoef(read, np.diff(swing))[0, 1]))
                about = {"params": {"amplitude_px": amplitude_px, "bits": bits}, "seed": seed}
                about["profile"] = profile
                records.append(Row(NOTEBOOK, "phase", rule, "correlation", value, 1, **about))
    write_rows(records, out)
    path = project_root() / "data" / "results" / f"{NOTEBOOK}__full__cpu.csv"
    with reading(path, "rows of a full run", "take it from git again"):
        committed = read_rows(path)
        committed["params"] = committed["params"].map(json.loads)
        full = _means(committed)
    own = pd.DataFrame([(row.arm, row.params, row.value) for row in records])
    here = _means(own.set_axis(["arm", "params", "value"], axis=1))
    return Outcome(here, full, committed["utc"].max()[:10])


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, of rows with columns ``arm, params, value``."""
    table = pd.DataFrame(rows["params"].tolist())
    table = table.assign(rule=rows["arm"].to_numpy(), value=rows["value"].to_numpy())
    return table.groupby(["bits", "rule", "amplitude_px"])["value"].agg(["mean", "count"])
