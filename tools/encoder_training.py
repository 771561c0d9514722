"""How the weights of two small networks were made: ``make encoder`` makes them again.

The expression encoder: people of their own (splits ``encoder`` and ``encoder_test``) show one of
eight expressions, from faint to full, under the nuisances called hard: head, light, shadow,
exposure, noise. A resting face is not the same face twice: small displacements of its own lie over
every expression, so that a faint expression and a resting face overlap. Each picture is rendered by
itself; there is no motion for the encoder to see.

The action unit net: other people (splits ``action_units`` and ``action_units_test``), each in one
clip. In two of five frames the face is at rest, so that the clip's median shows it; in the others a
few muscles pull by chance, each for itself, from nothing to fully. Head, light and noise are
between easy and hard. It is scored on such clips, and on reactions as notebook 07 has them.

Run: python tools/encoder_training.py [expressions] [action_units]
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from tqdm import tqdm

from micromacro import action_unit_net, expression_encoder
from micromacro.action_unit_net import ActionUnitNet, action_units, actor_intensities, shown
from micromacro.expression_encoder import EXPRESSIONS, INPUT_PX, ExpressionEncoder
from micromacro.files import make_writable, project_root, replacing, write_atomically
from micromacro.metrics import accuracy, pcc, uar
from micromacro.results import Row, version, write_rows
from micromacro.synthetic import (
    AUS,
    FOLD_OVER,
    NUISANCES,
    Face,
    Identity,
    Nuisance,
    Performance,
    perform,
    pose,
)
from micromacro.synthetic.identity import stream
from micromacro.synthetic.performance import ZONES
from micromacro.synthetic.script import FULL
from micromacro.systems.eri import task
from micromacro.training import Batches, History, Recipe, isolated_rng, predict, train
from micromacro.weights import file_sha256

PEAKS = (0.015, FULL)  # faint to full, face units
BANDS = {"faint": (0.015, 0.04), "middle": (0.04, 0.065), "full": (0.065, FULL)}
RESTING = ("1", "4", "12", "15")  # AUs that move a resting face: two of the brows, two of the mouth
RESTING_SD = (0.008, 0.006)  # face units: of the person, of the picture
LOG_SCALE = (-0.05, 0.3)  # how near the face is; 0 as in a synthetic clip, ArcFace's crop 0.25
PLACE = 0.09  # largest displacement of the cut, face units; that of ArcFace's crop
TALKING, MOUTH_OPEN = 0.25, 0.04  # share of the pictures; largest drop of the jaw, face units
BLINKING = 0.1  # share of the pictures

AT_REST, PULLS = 0.4, 0.2  # share of the frames at rest; of the others in which a muscle pulls
FULLY = action_unit_net.FULLY  # what lids, jaw and lips do when they do all
BETWEEN = Nuisance(
    sway=(0.002, 0.02),
    turn=(0.002, 0.02),
    light=(0.10, 0.05),
    gain=(0.02, 0.08),
    shadow=(0.0, 0.2),
    noise_sd=0.006,
)


@dataclass(frozen=True)
class Plan:
    """Everything that decides the weights.

    Attributes:
        seed: Of the pictures, the first weights and the order of the batches.
        identities: People trained on.
        validation: Further people of the same split; the epoch is chosen on them.
        test: People of the split for the test; scored once, after training.
        frames: Pictures of each person; for the expressions a multiple of eight: each equally
            often.
        epochs: Passes over the training pictures.
        batch: Pictures in a step.
        lr: Highest learning rate of the one cycle.
        weight_decay: Of AdamW.
    """

    seed: int = 0
    identities: int = 1500
    validation: int = 200
    test: int = 100
    frames: int = 32
    epochs: int = 10
    batch: int = 128
    lr: float = 4e-3
    weight_decay: float = 0.05


ACTION_UNITS = Plan(identities=1000, validation=100, frames=24, epochs=12)


@dataclass(frozen=True)
class Stills:
    """Pictures and what they show.

    Attributes:
        images: float32 (N, 1, 48, 48) in [0, 1].
        label: int64 (N,), index into ``EXPRESSIONS``.
        peak: float32 (N,), peak displacement in face units; 0 for neutral.
        smile: float32 (N,), displacement of AU12 (mean of both corners) minus that of AU15, face
            units, the resting face's part included.
    """

    images: Tensor
    label: Tensor
    peak: Tensor
    smile: Tensor


def stills(subjects: Iterable[int], split: str, frames: int, seed: int) -> Stills:
    """Render pictures of the people of a split.

    Args:
        subjects: Their numbers.
        split: Name of the split, as `Identity.draw` takes it.
        frames: Pictures of each, a multiple of eight.
        seed: Of the pictures, not of the people.
    """
    parts = []
    for subject in tqdm(list(subjects), unit="face", desc=split, disable=None):
        person = Identity.draw(subject, split=split)
        rng = stream("expression encoder", split, subject, seed)
        play, label, peak = _act(rng, frames)
        images = Face(person, size=INPUT_PX, colour=False).render(play)
        parts.append((images, label, peak, _smile(play, person)))
    return Stills(*(torch.cat(part) for part in zip(*parts, strict=True)))


def train_encoder(plan: Plan) -> tuple[ExpressionEncoder, History]:
    """Train from the plan alone; the encoder's weights are rounded to what float16 holds."""
    last = plan.identities + plan.validation
    seen = stills(range(plan.identities), "encoder", plan.frames, plan.seed)
    held_out = stills(range(plan.identities, last), "encoder", plan.frames, plan.seed)
    return _trained(
        ExpressionEncoder,
        Batches(seen.images, seen.label, plan.batch),
        cross_entropy,
        plan,
        lambda model: uar(_classes(model, held_out), held_out.label),
    )


def _trained(
    make: type, batches: Batches, loss: Callable, plan: Plan, validate: Callable
) -> tuple[nn.Module, History]:
    with isolated_rng(plan.seed):
        net = make()
    recipe = Recipe(
        loss=loss,
        lr=plan.lr,
        weight_decay=plan.weight_decay,
        schedule="one_cycle",
        epochs=plan.epochs,
    )
    history = train(net, batches, recipe, seed=plan.seed, validate=validate)
    return net.half().float(), history


def scores(encoder: ExpressionEncoder, plan: Plan) -> Iterator[dict]:
    """Score on the test people: fields of a `Row`, one at a time.

    The linear probe is a ridge regression of ``Stills.smile`` on the features, fitted to the
    validation people: once with all pictures, once with the neutral ones, where all there is to
    see is the resting face.
    """
    test = stills(range(plan.test), "encoder_test", plan.frames, plan.seed)
    last = plan.identities + plan.validation
    fit = stills(range(plan.identities, last), "encoder", plan.frames, plan.seed)
    found = _classes(encoder, test)
    for name, rows in _subsets(test).items():
        for metric in (accuracy, uar):
            value = metric(found[rows], test.label[rows])
            yield _score("classes", name, metric.__name__, value, rows)
    x, wanted = _features(encoder, fit), _features(encoder, test)
    for name in ("all", "neutral"):
        known, rows = _subsets(fit)[name], _subsets(test)[name]
        estimate = _ridge(x[known], fit.smile[known], wanted[rows])
        value = _r2(estimate, test.smile[rows])
        yield _score("linear probe", name, "R^2, smile minus frown", value, rows)


# ---- action units --------------------------------------------------------------------------------


def chance_clips(
    subjects: Iterable[int], split: str, frames: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """A clip of each person of a split: frames (T, 1, 48, 48), `actor_intensities` (T, 17)."""
    for subject in tqdm(list(subjects), unit="face", desc=split, disable=None):
        play = _moved(stream("action units", split, subject, seed), frames)
        face = Face(Identity.draw(subject, split=split), size=INPUT_PX, colour=False)
        yield face.render(play), _truth(play)


def train_action_unit_net(plan: Plan) -> tuple[ActionUnitNet, History]:
    """Train from the plan alone; the weights are rounded to what float16 holds."""
    last = plan.identities + plan.validation
    seen, held_out = (
        _pairs(chance_clips(people, "action_units", plan.frames, plan.seed), plan.batch)
        for people in (range(plan.identities), range(plan.identities, last))
    )
    validate = lambda net: pcc(predict(net, held_out), held_out.target)  # noqa: E731
    return _trained(ActionUnitNet, seen, mse_loss, plan, validate)


def action_unit_scores(net: ActionUnitNet, plan: Plan) -> Iterator[dict]:
    """Score on people of the test, as `action_units` sees them: fields of a `Row`, one at a time.

    ``chance``: clips as those of the training. ``reactions``: two clips a person of notebook 07's
    task, in which nobody tuned what is seen. Of each action unit: Pearson's correlation and mean
    absolute error over all frames, n of them; and the standard deviation over people of a person's
    own correlation, n people in whom the unit moves.
    """
    split = "action_units_test"
    chance = list(chance_clips(range(plan.test), split, plan.frames, plan.seed))
    for name, people in (("chance", [[c] for c in chance]), ("reactions", _reactions(plan, split))):
        every = [_measured(net, clips) for clips in people]  # of each person (T, 17), twice
        said, truth = (np.concatenate(parts) for parts in zip(*every, strict=True))
        means = {}
        for k, number in enumerate(action_unit_net.COLUMNS):
            own = [pcc(x[:, k], y[:, k]) for x, y in every if np.ptp(y[:, k]) > 0]
            spread = np.std(own, ddof=1) if len(own) > 1 else np.nan
            for metric, value, n in (
                ("pcc", pcc(said[:, k], truth[:, k]), len(truth)),
                ("mean_absolute_error", np.abs(said - truth)[:, k].mean(), len(truth)),
                ("pcc, standard deviation over people", spread, len(own)),
            ):
                means.setdefault(metric, []).append(value)
                params = {"clips": name, "action unit": number}
                yield _row("each unit", params, metric, value, n)
        for metric in ("pcc", "mean_absolute_error"):
            params, n = {"clips": name}, len(truth)
            yield _row("mean of the units", params, metric, np.mean(means[metric]), n)


def _moved(rng: np.random.Generator, frames: int) -> Performance:
    """A clip in which each muscle does what it likes, in frames that do not follow each other."""
    draw = _Draw(rng, frames)
    moves = 1 - draw.sometimes(AT_REST)

    def pull() -> Tensor:
        return moves * draw.sometimes(PULLS) * draw.uniform(0, 1)

    au = FULL * torch.stack([pull() for _ in AUS], 1)
    zones = torch.stack([au[:, [AUS.index(n) for n in zone]].sum(1) for zone in ZONES.values()])
    au *= (0.999 * FOLD_OVER / zones.amax(0).clamp_min(1e-9)).clamp_max(1)[:, None]
    play = perform(frames, 1.0, nuisance=BETWEEN, seed=int(rng.integers(2**31)))
    return replace(
        play,
        au=au,
        lid=FULLY["-lid"] * (pull() - pull()),
        jaw=FULLY["jaw"] * pull(),
        part=FULLY["part"] * pull(),
        blink=draw.uniform(0, 1) * draw.sometimes(BLINKING),
        shift=play.shift + torch.from_numpy(rng.uniform(-PLACE, PLACE, 2)).float(),
        log_scale=torch.full((frames,), rng.uniform(*LOG_SCALE)),
    )


def _reactions(plan: Plan, split: str) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Frames and truth of the two clips of each person."""
    made = task.clips(plan.test, 2, plan.seed, split=split)
    for _, names in made.clips.groupby("subject")["clip"]:
        scenes = [made.scene(name) for name in names]
        yield [
            (
                torch.cat([*s.frames()]),
                _truth(s.performance),
            )
            for s in scenes
        ]


def _truth(play: Performance) -> Tensor:
    return torch.tensor(actor_intensities(play).to_numpy())


def _measured(
    net: ActionUnitNet, clips: list[tuple[Tensor, Tensor]]
) -> tuple[np.ndarray, np.ndarray]:
    """What is measured in some clips, and the truth; float64 (T, 17) each."""
    said = [action_units(frames, net).to_numpy() for frames, _ in clips]
    return np.concatenate(said, dtype=float), torch.cat([y for _, y in clips]).double().numpy()


def _pairs(clips: Iterable[tuple[Tensor, Tensor]], size: int) -> Batches:
    parts = [(*shown(frames), truth) for frames, truth in clips]
    faces, rest, truth = (torch.cat(part) for part in zip(*parts, strict=True))
    return Batches((faces, rest), truth, size)


# ---- both ----------------------------------------------------------------------------------------


class Net(NamedTuple):
    """One of the two networks: how it is made, and where it goes."""

    name: str
    train: Callable
    scores: Callable
    plan: Plan
    file: Path


NETS = {
    "expressions": Net(
        "expression_encoder",
        train_encoder,
        scores,
        Plan(),
        expression_encoder.WEIGHTS_FILE,
    ),
    "action_units": Net(
        "action_unit_net",
        train_action_unit_net,
        action_unit_scores,
        ACTION_UNITS,
        action_unit_net.WEIGHTS_FILE,
    ),
}


def save_net(net: nn.Module, about: Mapping, file: str | Path) -> None:
    """Write a network's weights as float16, whole or not at all; equal weights, equal bytes.

    Args:
        net: Whose weights.
        about: JSON values: recipe, seed, n, score.
        file: Replaced if it exists.

    Raises:
        BadInput: The file cannot be written.
    """
    state = {
        name: tensor.half().contiguous()
        for name, tensor in net.state_dict().items()
        if not name.endswith("num_batches_tracked")  # of no use in evaluation
    }
    with replacing(Path(file)) as part:
        # One entry: safetensors does not keep the order of several. Its save_file would keep the
        # file from everybody but its owner.
        about = {"about": json.dumps(about, sort_keys=True)}
        part.write_bytes(save(state, metadata=about))


def make_net(which: Net, results: Path) -> dict:
    """Train, score, and write the weights and the table of scores.

    Args:
        which: The network; one of `NETS`, or one with another plan or file.
        results: Folder of the table, ``<name>__full__cpu.csv``.

    Returns:
        What the file of weights says of itself.

    Raises:
        BadInput: A file cannot be written.
    """
    make_writable(results)
    make_writable(which.file.parent)
    began = time.process_time()
    net, history = which.train(which.plan)
    table = list(which.scores(net, which.plan))
    whole = [row for row in table if row["arm"] in ("classes", "mean of the units")]
    about = {
        "recipe": {**asdict(which.plan), "best_epoch": history.best},
        "seed": which.plan.seed,
        "n": whole[0]["n"],
        "score": {row["metric"]: row["value"] for row in whole[:2]},
        "torch": version("torch"),
    }
    save_net(net, about, which.file)
    _write_table(which, table, time.process_time() - began, results)
    return about


def main() -> None:
    """Make the package's weights and ``data/results``' tables, with one thread."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nets", nargs="*", choices=[*NETS, []], help="which; both if left out")
    torch.set_num_threads(1)
    for name in parser.parse_args().nets or NETS:
        about = make_net(NETS[name], project_root() / "data" / "results")
        digest = file_sha256(NETS[name].file)
        print(f"wrote {NETS[name].file}: {about['score']}, SHA-256 {digest}", file=sys.stderr)


class _Draw:
    """Random numbers for one person's pictures, independent from picture to picture."""

    def __init__(self, rng: np.random.Generator, frames: int):
        self.rng, self.frames = rng, frames

    def uniform(self, low: float, high: float) -> Tensor:
        """Float32 (frames,) in [low, high)."""
        return torch.from_numpy(self.rng.uniform(low, high, self.frames)).float()

    def normal(self, *shape: int) -> Tensor:
        """Unit normal, cut at 2.5; (frames,) unless a shape is given."""
        values = self.rng.standard_normal(shape or self.frames)
        return torch.from_numpy(values).float().clamp(-2.5, 2.5)

    def sometimes(self, share: float) -> Tensor:
        """Float32 (frames,), 1 in this share of the pictures, else 0."""
        return (self.uniform(0, 1) < share).float()


def _act(rng: np.random.Generator, frames: int) -> tuple[Performance, Tensor, Tensor]:
    """Independent pictures of one person: what happens in them, their labels and peaks."""
    draw = _Draw(rng, frames)
    label = torch.from_numpy(rng.permutation(np.arange(frames) % len(EXPRESSIONS)))
    peak = draw.uniform(*PEAKS) * (label > 0)
    share = peak / FULL  # every channel of an expression is proportional to its peak
    poses = [pose(name) for name in EXPRESSIONS]
    au, lid, jaw, part = (
        torch.cat([getattr(one, channel) for one in poses])[label]
        for channel in ("au", "lid", "jaw", "part")
    )
    talk = draw.sometimes(TALKING)
    play = replace(
        Performance.still(frames, seed=int(rng.integers(2**31))),
        au=au * share[:, None] + _resting(draw),
        lid=lid * share,
        jaw=jaw * share + talk * draw.uniform(0, MOUTH_OPEN),
        part=part * share + talk * draw.uniform(0, MOUTH_OPEN / 2),
        blink=draw.uniform(0, 1) * draw.sometimes(BLINKING),
    )
    return _disturbed(play, draw), label, peak


def _resting(draw: _Draw) -> Tensor:
    """Displacements of the resting face, (frames, len(AUS)): of the person and of each picture.

    Brows and mouth each stay within what an expression at its peak leaves below ``FOLD_OVER``.
    """
    person, picture = RESTING_SD
    moved = person * draw.normal(1, 4) + picture * draw.normal(draw.frames, 4)
    room = 0.999 * (FOLD_OVER - FULL)
    for zone in (moved[:, :2], moved[:, 2:]):
        zone *= (room / zone.abs().sum(1, keepdim=True)).clamp_max(1)
    au = torch.zeros(draw.frames, len(AUS))
    au[:, [AUS.index(name) for name in RESTING]] = moved
    return au


def _disturbed(play: Performance, draw: _Draw) -> Performance:
    """The hard nuisances, drawn anew for each picture, and another cut around the face."""
    hard = NUISANCES["hard"]
    place = torch.stack([draw.uniform(-PLACE, PLACE), draw.uniform(-PLACE, PLACE)], 1)
    turn = draw.uniform(*hard.turn)
    flicker = hard.flicker * torch.sin(draw.uniform(0, 2 * np.pi))
    shadow = (
        draw.uniform(*hard.shadow),
        draw.uniform(0, 2 * np.pi),
        draw.uniform(-0.2, 0.4) + 0.35 * draw.normal(),
        draw.uniform(*hard.shadow_sharp),
    )
    return replace(
        play,
        shift=place + draw.uniform(*hard.sway)[:, None] * draw.normal(draw.frames, 2),
        log_scale=draw.uniform(*LOG_SCALE),
        yaw=turn * draw.normal(),
        pitch=0.5 * turn * draw.normal(),
        roll=0.25 * turn * draw.normal(),
        light=torch.tensor(hard.light) * draw.normal(draw.frames, 2),
        gain=torch.exp(draw.uniform(*hard.gain) * draw.normal()) * (1 + flicker),
        shadow=torch.stack(shadow, 1),
        noise_sd=torch.full((draw.frames,), hard.noise_sd),
    )


def _smile(play: Performance, person: Identity) -> Tensor:
    """AU12, mean of both corners, minus AU15, the identity's resting face included; (frames,)."""
    both, left, right, down = (play.au[:, AUS.index(name)] for name in ("12", "12L", "12R", "15"))
    rest = person.rest[2] - person.rest[3]
    return both + 0.5 * (left + right) - down + rest


def _subsets(data: Stills) -> dict[str, Tensor]:
    """Rows, bool (N,): all, the neutral ones, and each band of ``BANDS`` without them."""
    neutral = data.label == 0
    bands = {
        name: (data.peak >= low) & (data.peak < high) & ~neutral
        for name, (low, high) in BANDS.items()
    }
    return {"all": torch.ones_like(neutral), "neutral": neutral, **bands}


def _batches(data: Stills) -> Batches:
    return Batches(data.images, data.label, 256)


def _classes(encoder: ExpressionEncoder, data: Stills) -> Tensor:
    return predict(encoder, _batches(data)).argmax(1)


def _features(encoder: ExpressionEncoder, data: Stills) -> np.ndarray:
    with torch.no_grad():
        parts = [encoder.eval().features(images) for images, _ in _batches(data)]
    return torch.cat(parts).double().numpy()


def _ridge(features: np.ndarray, target: Tensor, wanted: np.ndarray) -> np.ndarray:
    """Estimates for ``wanted`` by ridge regression on standardised features, penalty N / 1000."""
    y = target.double().numpy()
    mean, sd = features.mean(0), features.std(0) + 1e-6
    x = (features - mean) / sd
    inner = x.T @ x + len(x) / 1000 * np.eye(x.shape[1])
    weights = np.linalg.solve(inner, x.T @ (y - y.mean()))
    return (wanted - mean) / sd @ weights + y.mean()


def _r2(estimate: np.ndarray, truth: Tensor) -> float:
    y = truth.double().numpy()
    return float(1 - np.mean((y - estimate) ** 2) / y.var())


def _score(arm: str, subset: str, metric: str, value: float, rows: Tensor) -> dict:
    limits = {"peak": BANDS[subset]} if subset in BANDS else {}
    return _row(arm, {"pictures": subset, **limits}, metric, value, int(rows.sum()))


def _row(arm: str, params: dict, metric: str, value: float, n: int) -> dict:
    split = "encoder_test" if "pictures" in params else "action_units_test"
    common = {"arm": arm, "params": params, "split": split}
    return {**common, "metric": metric, "value": float(value), "n": n}


def _write_table(net: Net, table: list[dict], seconds: float, results: Path) -> None:
    rows = [
        Row(
            notebook=net.name,
            system=net.name,
            profile="full",
            seed=net.plan.seed,
            seconds=round(seconds, 1),
            **score,
        )
        for score in table
    ]
    with tempfile.TemporaryDirectory() as folder:
        for path in write_rows(rows, folder):
            write_atomically(results / path.name, path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
