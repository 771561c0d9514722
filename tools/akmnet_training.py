"""How the weights of AKMNet's still networks were made: ``make stills`` makes them again.

The paper's network has seen many still faces before it sees a clip: ImageNet's pictures, and 1,000
of each class of AffectNet. Ours sees people whom no experiment meets, each with full expressions of
the four classes of `micromacro.systems.akmnet.task`, equally often. There is no motion in a still.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from micromacro.results import Row
from micromacro.synthetic import AUS, NUISANCES, Face, Identity, Performance, perform, units
from micromacro.synthetic.identity import stream
from micromacro.synthetic.script import FULL
from micromacro.systems.akmnet import task
from micromacro.training import Recipe
from still_training import main, make_classifier

PEAK_PX = (0.8, 2.8)  # of a 64-px face; a micro-expression of the clips has 1.2 to 2.3, magnified
BLINKS = 0.03  # a still


@dataclass(frozen=True)
class Plan:
    """Everything but the network that decides its weights.

    Attributes:
        seed: Of the first weights and the order of the batches.
        identities: People trained on, of the split ``akmnet_stills``.
        test: People of a split of each network's own; scored once, after training.
        frames: Pictures of each person, a multiple of four: every class equally often.
        epochs: Passes over the training pictures; the last one's weights are kept.
        batch: Pictures in a step.
        lr: Highest learning rate of the one cycle.
        weight_decay: Of AdamW.
    """

    seed: int = 0
    identities: int = 1000
    test: int = 100
    frames: int = 12
    epochs: int = 10
    batch: int = 64
    lr: float = 1e-2
    weight_decay: float = 1e-2


# The VGG's was chosen among five by accuracy on the ResNet's test people, 0.25 (at a rate of 1e-2)
# to 0.90; so it is scored on others.
PLANS = {"resnet": Plan(), "vgg": Plan(lr=5e-3, epochs=15)}


def stills(people: Iterable[int], split: str, frames: int) -> tuple[Tensor, Tensor]:
    """Pictures of full expressions, all classes equally often.

    Args:
        people: Their numbers.
        split: Name of the split, as `Identity.draw` takes it.
        frames: Pictures of each, a multiple of four.

    Returns:
        float32 (N, 1, 48, 48) in [0, 1], and int64 (N,), places in `task.CLASSES`.
    """
    images, labels = [], []
    for person in tqdm(list(people), unit="face", desc=split, disable=None):
        face = Face(Identity.draw(person, split=split), size=task.FACE_PX, colour=False)
        play, label = poses(person, split, frames)
        images.append(face.render(play)[:, :, task.FACE, task.FACE])
        labels.append(label)
    return torch.cat(images), torch.cat(labels)


def poses(person: int, split: str, frames: int) -> tuple[Performance, Tensor]:
    """One person's pictures and their classes; a frame a second, so that light and head differ."""
    rng = stream("akmnet stills", split, person)
    label = rng.permutation([k % len(task.CLASSES) for k in range(frames)])
    noise = replace(NUISANCES["easy"], blink_rate=BLINKS)
    play = perform(frames, 1.0, nuisance=noise, seed=int(rng.integers(2**31)))
    au, lid = torch.zeros(frames, len(AUS)), torch.zeros(frames)
    for k in range(frames):
        peak = units(rng.uniform(*PEAK_PX), task.FACE_PX)
        for name, weight in task.muscles(rng, label[k]):
            if name == "lid":
                lid[k] = weight * peak / FULL
            else:
                au[k, AUS.index(name)] = weight * peak
    return replace(play, au=au, lid=lid), torch.from_numpy(label)


def make(plan: Plan, file: Path, name: str = "resnet") -> list[Row]:
    """Train a network, score it, and write its weights; the rows of its scores.

    Args:
        plan: How.
        file: For the weights.
        name: Of the network, a key of `task.FROZEN`.

    Raises:
        BadInput: The file cannot be written.
    """
    unseen = "akmnet_stills_test" if name == "resnet" else "akmnet_stills_vgg_test"
    return make_classifier(
        plan,
        partial(task.still_network, name),
        partial(stills, range(plan.identities), "akmnet_stills", plan.frames),
        partial(stills, range(plan.test), unseen, plan.frames),
        Recipe(loss=cross_entropy),
        task.CLASSES,
        file,
        notebook="akmnet_still_network",
        system="akmnet",
        split=unseen,
        arm="still network" if name == "resnet" else name,
    )


if __name__ == "__main__":
    main(lambda: [r for name, p in PLANS.items() for r in make(p, task.weights_file(name), name)])
