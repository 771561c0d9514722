"""What the frame network learns before it sees a clip: full expressions of other people.

The paper pre-trains on ImageNet and on 1,000 pictures of each merged class of AffectNet. Here people
whom no clip shows make the same four classes in full strength, in pictures that do not follow each
other.
"""

from dataclasses import replace
from functools import lru_cache

import torch
from torch.nn.functional import cross_entropy

from micromacro.errors import BadInput
from micromacro.synthetic import AUS, NUISANCES, Face, Identity, Performance, perform, units
from micromacro.synthetic.identity import stream
from micromacro.synthetic.script import FULL
from micromacro.systems.akmnet.backbone import FrameNet, StillNet
from micromacro.systems.akmnet.task import CLASSES, FACE, FACE_PX, muscles
from micromacro.training import Batches, Recipe, isolated_rng, train

WIDTHS = (16, 24, 40)  # of the frame network's stages
FROZEN = len(WIDTHS)  # parts that no clip trains: stem and all stages but the last
PEAK_PX = (0.8, 2.8)  # of FACE_PX
EACH = 12  # pictures of each person
BLINKS = 0.03  # a picture


@lru_cache(maxsize=1)
def pretrained(seed: int, people: int = 140, epochs: int = 8) -> StillNet:
    """A classifier of stills in evaluation mode; its `frame_net` is what AKMNet starts from.

    Args:
        seed: Of people, pictures, weights and batches.
        people: Persons with 12 pictures each.
        epochs: Of training.

    Raises:
        BadInput: As `stills`.
    """
    images, labels = stills(seed, people)
    with isolated_rng(seed):
        net = StillNet(FrameNet(WIDTHS, blocks=1), len(CLASSES))
    recipe = Recipe(
        loss=cross_entropy, lr=1e-2, weight_decay=1e-2, schedule="one_cycle", epochs=epochs
    )
    train(net, Batches(images, labels, 64), recipe, seed=seed, progress=False)
    return net.eval()


def stills(
    seed: int, people: int, split: str = "akmnet-stills"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of full expressions, all classes equally often.

    Args:
        seed: Of the run: other people, other pictures.
        people: Persons with 12 pictures each.
        split: Whose identities.

    Returns:
        float32 (12 people, 1, 48, 48) in [0, 1], and int64 (12 people,), places in `CLASSES`.

    Raises:
        BadInput: Nobody to show.
    """
    if people < 1:
        raise BadInput(f"people={people}", "leaves nobody to show", "give 1 or more")
    images, labels = [], []
    for person in range(people):
        face = Face(Identity.draw(person, split=split, run_seed=seed), size=FACE_PX, colour=False)
        play, label = _poses(seed, person, split)
        images.append(face.render(play)[:, :, FACE, FACE])
        labels.append(label)
    return torch.cat(images), torch.cat(labels)


def _poses(seed: int, person: int, split: str) -> tuple[Performance, torch.Tensor]:
    """One person's pictures and their classes; a frame a second, so that light and head differ."""
    rng = stream(split, seed, person)
    label = rng.permutation([k % len(CLASSES) for k in range(EACH)])
    noise = replace(NUISANCES["easy"], blink_rate=BLINKS)
    play = perform(EACH, 1.0, nuisance=noise, seed=int(rng.integers(2**31)))
    au, lid = torch.zeros(EACH, len(AUS)), torch.zeros(EACH)
    for k in range(EACH):
        peak = units(rng.uniform(*PEAK_PX), FACE_PX)
        for name, weight in muscles(rng, label[k]):
            if name == "lid":
                lid[k] = weight * peak / FULL
            else:
                au[k, AUS.index(name)] = weight * peak
    return replace(play, au=au, lid=lid), torch.from_numpy(label)
