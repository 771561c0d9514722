"""What must hold before benchmarks/phase_vs_peers.py times anything: right results, equal work."""

import math

import numpy as np
import torch
from peers.phase import WINDOW, Fourier, Plenoptic, Released, pyrtools_once

from micromacro.kernels import phase_difference, phase_difference_reference
from micromacro.kernels.phase_reference import bands_reference, blur


def texture(size: int) -> torch.Tensor:
    """A 1/f texture that moves by 0.1 px a frame, to the right and up; uint8 (13, size, size)."""
    n = size + 16
    f = torch.fft.fftfreq(n)
    noise = torch.rand(n, n, generator=torch.Generator().manual_seed(0))
    spectrum = torch.fft.fft2(noise - 0.5) / (torch.hypot(f[:, None], f) + 1 / n)
    path = torch.arange(WINDOW)[:, None, None] * (f - f[:, None])
    frames = torch.fft.ifft2(spectrum * torch.exp(-0.2j * math.pi * path)).real
    frames = 0.5 + 0.15 * frames / frames.std()
    return (frames[:, 8:-8, 8:-8].clamp(0, 1) * 255).round().byte()


def require(holds: bool, what: str) -> None:
    """Print what was checked; end the benchmark if it does not hold."""
    if not holds:
        raise SystemExit(f"phase_vs_peers: wrong, so not timed: {what}")
    print("checked:", what)


def kernel(films: dict[int, torch.Tensor]) -> None:
    """Errors of the kernel against float64.

    On texture at every size, and on the face at 48 px where there is something to see: amplitude
    (of both frames, blurred as in the weights) of 1/100 of the grey range. Elsewhere the phase is
    that of noise; its error grows as the amplitude falls, and a change by half a turn may come out
    with either sign. Float32 transforms err there alike, and the worst of both is printed.
    """
    for size, frames in films.items():
        moving = texture(size)
        pairs = zip(phase_difference(moving), phase_difference_reference(moving), strict=True)
        error = max((a - b).abs().max().item() for a, b in pairs)
        require(error <= 1e-5, f"{size} px texture: error {error:.1e} rad, at most 1e-5")
        frames = frames[:33]
        by_fourier = [torch.cat(maps).transpose(0, 1) for maps in Fourier(size).once(frames)]
        for i, truth in enumerate(phase_difference_reference(frames)):
            z = bands_reference(frames.double() / 255, i + 1, 2).movedim(-3, -4) / 4**i
            seen = blur((z[:, 1:] * z[:, :-1].conj()).abs(), 2.0) > 1e-4
            errors = [(maps - truth).abs() for maps in (phase_difference(frames)[i], by_fourier[i])]
            clear, worst, fourier = (e.max().item() for e in (errors[0][seen], *errors))
            text = f"{size} px face, level {i + 1}: error {clear:.1e} rad on the "
            text += f"{seen.double().mean():.0%} that show something, {worst:.1e} anywhere "
            text += f"(FFT in float32: {fourier:.1e})"
            require(size > 48 or clear <= 1e-5, text)


def peers(frames: torch.Tensor) -> None:
    """That peers do equal work: the same maps, or the released ones."""
    window = texture(48)
    pairs = zip(
        Released(48).window(window.float() / 255),
        phase_difference(window, legacy_unwrap=True),
        strict=True,
    )
    error = max((a.transpose(0, 1) - b).abs().max().item() for a, b in pairs)
    require(error <= 1e-4, f"released rule: {error:.1e} rad from legacy_unwrap, at most 1e-4")
    frames = frames[:33]
    truth = phase_difference_reference(frames)
    peers = {
        "pyrtools": pyrtools_once,
        "plenoptic": Plenoptic(48).once,
        "torch FFT": Fourier(48).once,
    }
    for name, peer in peers.items():
        maps = [torch.cat(list(m)).transpose(0, 1) for m in peer(frames)]
        pairs = [(a.flatten().double(), b.flatten()) for a, b in zip(maps, truth, strict=True)]
        alike = min(np.corrcoef(a, b)[0, 1] for a, b in pairs)
        far = max((a - b).abs().max().item() for a, b in pairs)
        require(alike > 0.999, f"{name}: correlation {alike:.6f}, at most {far:.1e} rad away")
