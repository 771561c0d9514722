"""How far flow goes astray during an expression: added up from frame to frame, or across the gap.

Flow that is added up adds up its errors, too: those of noise grow with the root of the number of
frames, a bias with the number itself. One comparison across the whole gap has one error. At the
apex both also fall short, as flow blurs: it spreads a motion over its surroundings. So both are
asked a second time when the expression is over and the truth is 0 everywhere: what is left is
drift.

Faces have 48 px; the truth is exact. Notebook 06b and its claims 06-1 use it.
"""

import torch
from torch.nn.functional import grid_sample

from micromacro.motion.flow import optical_flow
from micromacro.synthetic import Event, Face, Identity, Nuisance, perform, units

FACE_PX, FPS, PEAK_PX, NOISE_SD = 48, 200.0, 2.5, 0.004
LENGTHS = (14, 37, 146)  # onset to apex, frames; 37 is half a mean micro-expression of SAMM-LV


def unit(*, seed: int, method: str = "farneback") -> dict[str, float]:
    """Measure one actor's smile at several speeds; a unit for `units.run`.

    Every smile moves as far, 2.5 px, in more or fewer frames, and takes as many to go back.

    Args:
        seed: Random seed; another seed draws another person and other noise.
        method: Of `optical_flow`.

    Returns:
        For n frames from onset to apex, mean length of the error in px over the pixels that move
        more than half as far as the farthest: `summed_apex_px_<n>`, of the small steps up to the
        apex, each taken where the skin then is; `summed_back_px_<n>`, of those up to the offset;
        and `direct_apex_px_<n>`, `direct_back_px_<n>`, of one comparison. `true_px`: how far these
        pixels move.
    """
    face = Face(Identity.draw(seed, split="drift"), size=FACE_PX, colour=False)
    metrics = {}
    for n in LENGTHS:
        smile = Event(0, n, 2 * n, (("12", 1.0),), units(PEAK_PX, FACE_PX), "macro")
        play = perform(2 * n + 1, FPS, [smile], nuisance=Nuisance(noise_sd=NOISE_SD), seed=seed)
        film = face.render(play)[:, 0]  # (2 n + 1, 48, 48)
        true_px, valid = face.flow(play, 0, n)  # (2, 48, 48), (48, 48)
        length = true_px.norm(dim=0) * valid
        moves = length > length.max() / 2
        steps = optical_flow(film[:-1], film[1:], method=method)  # (2 n, 2, 48, 48)
        for when, frame, truth in (("apex", n, true_px), ("back", 2 * n, 0 * true_px)):
            direct = optical_flow(film[0], film[frame], method=method)  # (2, 48, 48)
            for name, flow_px in (("summed", followed(steps[:frame])), ("direct", direct)):
                error = (flow_px - truth).norm(dim=0)[moves].mean()
                metrics[f"{name}_{when}_px_{n}"] = float(error)
    return metrics | {"true_px": float(length[moves].mean())}


def followed(steps_px: torch.Tensor) -> torch.Tensor:
    """Add up flow from frame to frame along the skin that it carries.

    Args:
        steps_px: float32 (n, 2, H, W), x then y, from each frame to the next.

    Returns:
        float32 (2, H, W): from the first frame to the last, px.
    """
    _, _, height, width = steps_px.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    start, middle = torch.stack([x, y], -1).float(), torch.tensor([width - 1, height - 1]) / 2
    total = torch.zeros(2, height, width)
    for step in steps_px:
        place = ((start + total.permute(1, 2, 0)) / middle - 1)[None]  # (1, H, W, 2) in [-1, 1]
        options = {"align_corners": True, "padding_mode": "border"}
        total = total + grid_sample(step[None], place, **options)[0]
    return total
