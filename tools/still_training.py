"""How the weights of MSFF's still networks were made: ``make stills`` makes them again.

MSFF starts from stills, as the paper does. Its first network is the package's expression encoder;
here are a ResNet, and the control: the encoder once more, from other first weights, other people
and another order. They see people whom no experiment meets, in one of eight expressions, under the
nuisances called hard; `encoder_training.stills` renders them.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from encoder_training import save_net, stills
from micromacro.expression_encoder import EXPRESSIONS
from micromacro.files import make_writable, project_root, write_atomically
from micromacro.metrics import accuracy, uar
from micromacro.results import Row, version, write_rows
from micromacro.systems.msff.stills import still_network, weights_file
from micromacro.training import Batches, Recipe, isolated_rng, predict, train


@dataclass(frozen=True)
class Plan:
    """Everything that decides the weights of a network.

    Attributes:
        name: Of the network, one of `NETWORKS`.
        seed: Of the pictures, the first weights and the order of the batches.
        first: Number of the first person that is trained on, of the split ``encoder``.
        identities: People trained on.
        test: People of the split ``encoder_test``; scored once, after training.
        frames: Pictures of each person, a multiple of eight: every expression equally often.
        epochs: Passes over the training pictures; the last one's weights are kept.
        batch: Pictures in a step.
        lr: Highest learning rate of the one cycle.
        weight_decay: Of AdamW.
    """

    name: str
    seed: int = 0
    first: int = 0
    identities: int = 1500
    test: int = 100
    frames: int = 32
    epochs: int = 10
    batch: int = 128
    lr: float = 4e-3
    weight_decay: float = 0.05


PLANS = {name: Plan(name) for name in ("resnet", "vgg_second")}
PLANS["vgg_second"] = replace(
    PLANS["vgg_second"], seed=1, first=1700
)  # the encoder's people end there


def make(plan: Plan, file: Path) -> list[Row]:
    """Train a network, score it, and write its weights; the rows of its scores.

    Raises:
        BadInput: The file cannot be written.
    """

    def pictures(people: Iterable[int], split: str, seed: int) -> tuple[Tensor, Tensor]:
        drawn = stills(people, split, plan.frames, seed)
        return drawn.images, drawn.label

    people = range(plan.first, plan.first + plan.identities)
    return make_classifier(
        plan,
        partial(still_network, plan.name),
        partial(pictures, people, "encoder", plan.seed),
        partial(pictures, range(plan.test), "encoder_test", 0),
        Recipe(loss=cross_entropy, clip_norm=1.0),
        EXPRESSIONS,
        file,
        notebook="still_networks",
        system="msff",
        split="encoder_test",
        arm=plan.name,
    )


def make_classifier(
    plan,
    build: Callable[[], nn.Module],
    seen: Callable[[], tuple[Tensor, Tensor]],
    test: Callable[[], tuple[Tensor, Tensor]],
    recipe: Recipe,
    classes: Sequence[str],
    file: Path,
    **row: str,
) -> list[Row]:
    """Train a classifier of stills, score it once, and write its weights.

    Args:
        plan: Its ``seed``, ``epochs``, ``batch``, ``lr`` and ``weight_decay`` are used; all of it
            is written into the file.
        build: Makes the network.
        seen: Makes the pictures to train on, float32 (N, 1, H, W), and their classes, int64 (N,).
        test: Makes those to test on.
        recipe: What the plan does not say.
        classes: Names of the classes.
        file: For the weights.
        row: Fields of the rows.

    Returns:
        A row for accuracy and one for unweighted average recall.

    Raises:
        BadInput: The file cannot be written.
    """
    make_writable(file.parent)
    began, pictures = time.process_time(), seen()
    with isolated_rng(plan.seed):
        net = build()
    own = {name: getattr(plan, name) for name in ("lr", "weight_decay", "epochs")}
    recipe = replace(recipe, schedule="one_cycle", **own)
    train(net, Batches(*pictures, plan.batch), recipe, seed=plan.seed)
    net = net.half().float().eval()  # as the file has it
    images, label = test()
    said = predict(net, Batches(images, label, 256)).argmax(1)
    score = {metric.__name__: metric(said, label) for metric in (accuracy, uar)}
    about = {"recipe": asdict(plan), "classes": classes, "seed": plan.seed, "score": score}
    save_net(net, about | {"n": len(said), "torch": version("torch")}, file)
    row |= {"profile": "full", "seed": plan.seed, "n": len(said)}
    row["seconds"] = round(time.process_time() - began, 1)
    return [Row(metric=metric, value=value, **row) for metric, value in score.items()]


def main(made: Callable[[], list[Row]]) -> None:
    """Make networks and ``data/results``' table of them, with one thread."""
    torch.set_num_threads(1)
    results = project_root() / "data" / "results"
    make_writable(results)
    rows = made()
    with tempfile.TemporaryDirectory() as folder:
        for path in write_rows(rows, folder):
            write_atomically(results / path.name, path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(lambda: [r for plan in PLANS.values() for r in make(plan, weights_file(plan.name))])
