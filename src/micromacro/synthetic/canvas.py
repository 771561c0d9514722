"""The sheet on which a face is painted: coordinates, soft edges, and noise that nests.

Everything here is a function of face units, sampled wherever a sheet has a texel. A sheet with
twice the texels therefore carries the same picture, only finer.
"""

import math

import torch

from micromacro.synthetic.identity import stream

NOISE_HALF = 3.0  # noise is defined on [-3, 3]^2: enough for a canvas of 21 : 9


class Canvas:
    """A grid of texels over [-half_w, half_w] x [-half_h, half_h] in face units.

    Args:
        half_w: Half width of the sheet in face units.
        half_h: Half height of the sheet in face units.
        size: (h, w), number of texels; texel centres include the border (align_corners).
        seed: Identity seed; the noise of this sheet depends on it and on the name of the layer.

    Attributes:
        u: (1, w) float32, x in face units.
        v: (h, 1) float32, y in face units.
        texel: Distance of two texels in face units.
    """

    def __init__(self, half_w: float, half_h: float, size: tuple[int, int], seed: tuple[int, ...]):
        self.u = torch.linspace(-half_w, half_w, size[1])[None]
        self.v = torch.linspace(-half_h, half_h, size[0])[:, None]
        self.texel = 2 * half_h / (size[0] - 1)
        self.size, self.seed = size, seed

    def soft(self, inside: torch.Tensor, width: float = 0.0) -> torch.Tensor:
        """Coverage of a shape from its signed distance (face units, positive inside).

        Args:
            inside: float32 (h, w), signed distance to the outline in face units, positive inside.
            width: Width of the edge in face units; never less than 1.5 texels.

        Returns:
            (h, w) in [0, 1], a cubic ramp across the edge.
        """
        t = (0.5 + inside / max(width, 1.5 * self.texel)).clamp(0, 1)
        return t * t * (3 - 2 * t)

    def distance(self, implicit: torch.Tensor) -> torch.Tensor:
        """First-order signed distance of an implicit shape: f / |grad f|, in face units."""
        fy, fx = torch.gradient(implicit.expand(self.size), spacing=self.texel)
        return implicit / torch.hypot(fx, fy).clamp_min(0.25)

    def fade(self, wavelength: float) -> float:
        """How much of a detail of this wavelength the sheet can carry: 0 below 3 texels, 1 above 6.

        Three texels are a little more than one pixel of the finished picture.
        """
        return min(1.0, max(0.0, (wavelength / self.texel - 3) / 3))

    def noise(self, name: str, coarse: float, octaves: int, gain: float = 0.6) -> torch.Tensor:
        """Smooth noise in octaves, each from its own stream, so that finer sheets only add detail.

        Args:
            name: Name of the layer; another name gives independent noise.
            coarse: Spacing of the coarsest lattice in face units.
            octaves: Number of lattices, each twice as fine as the one before.
            gain: Amplitude of each octave against the one before.

        Returns:
            (h, w) float32, mean about 0, variance about 1.
        """
        total, power = torch.zeros(self.size), 0.0
        for octave in range(octaves):
            spacing = coarse / 2**octave
            # Octaves that the sheet cannot carry count too: the rest keeps its strength.
            power += gain ** (2 * octave)
            weight = gain**octave * self.fade(2 * spacing)
            if weight > 0:
                rows = _spline(self.v[:, 0], spacing)
                columns = _spline(self.u[0], spacing)
                lattice = self.lattice(name, octave, (rows.shape[1], columns.shape[1]))
                total += weight * (rows @ lattice @ columns.T)
        # A cubic B-spline lattice of unit variance has a mean variance of 0.23.
        return total / math.sqrt(0.23 * power)

    def strands(self, name: str, across: torch.Tensor, along: torch.Tensor, width: float):
        """Hair: noise that is long in one direction and fine in the other.

        Args:
            name: Name of the layer.
            across: float32, broadcasts to (h, w), coordinate across the hairs in face units.
            along: float32, broadcasts to (h, w), coordinate along the hairs in face units.
            width: Width of the widest lock in face units; two finer octaves follow.

        Returns:
            (h, w) float32, mean about 0, standard deviation about 1.
        """
        across, along = torch.broadcast_tensors(across, along)
        total = torch.zeros(self.size)
        for octave in range(3):
            spacing = width / 2**octave
            weight = 0.7**octave * self.fade(2.5 * spacing)
            if weight > 0:
                # Cells 7 times as long as wide.
                sheet = self.lattice(name, octave, (64, 512))[None, None]
                grid = torch.stack([across / (256 * spacing), along / (32 * 7 * spacing)], -1)
                sample = torch.nn.functional.grid_sample(
                    sheet, grid[None], padding_mode="reflection", align_corners=True
                )
                total += weight * sample[0, 0]
        return total / 0.95  # bilinear samples of three octaves: measured

    def lattice(self, name: str, octave: int, shape: tuple[int, int]) -> torch.Tensor:
        """White noise of one octave, float32 of a shape that must not depend on the sheet."""
        rng = stream(*self.seed, name, octave)
        return torch.from_numpy(rng.standard_normal(shape, dtype="float32"))


def _spline(x: torch.Tensor, spacing: float) -> torch.Tensor:
    """Cubic B-spline weights (len(x), nodes) of the nodes spaced over the whole noise domain."""
    # The same for every sheet: noise nests.
    nodes = torch.arange(round(2 * NOISE_HALF / spacing) + 1)
    t = (((x + NOISE_HALF) / spacing)[:, None] - nodes).abs()
    inner = 2 / 3 - t**2 + t**3 / 2
    outer = (2 - t).clamp_min(0) ** 3 / 6
    return torch.where(t < 1, inner, outer)


def bump(u: torch.Tensor, v: torch.Tensor, at: tuple[float, float], sigma: tuple[float, float]):
    """An anisotropic Gaussian of height 1 at a point; all lengths in face units."""
    return torch.exp(-0.5 * ((u - at[0]) / sigma[0]) ** 2 - 0.5 * ((v - at[1]) / sigma[1]) ** 2)


def smoothstep(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Cubic ramp from 0 at ``low`` to 1 at ``high``."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)
