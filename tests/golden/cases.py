"""How today's package makes the golden arrays, by the name of a case.

Names of cases and of arrays are in the data's words and stay. Whoever changes the package's API
changes the adapter below and nothing else. Arrays are compared by value, so a dtype may change
where the values do not (a bool that becomes 0 and 1, a float32 that becomes float64); an array that
gets another name in the package keeps its old one here, by a line in the adapter. Arrays that the
package adds are ignored.
"""

import hashlib
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

Arrays = dict[str, np.ndarray]

# ---- the adapter: all that knows the API ---------------------------------------------------------
# From here to "end of the adapter" is what a refactoring rewrites. Each function takes names in the
# data's words and returns metrics and arrays, as dicts.
SEED = 1007  # of AKMNet: its few test clips get several classes, and other ones in other arms
MIMAMO_OFFICIAL = ("omg", "affwild", "affwild2")

sys.path.insert(0, str(Path(__file__).parents[1]))

import affect_miniatures  # noqa: E402
import micro_miniatures  # noqa: E402

from micromacro.backbones import FrozenResNet50  # noqa: E402
from micromacro.systems.akmnet import experiment as akmnet  # noqa: E402
from micromacro.systems.akmnet import task as akmnet_task  # noqa: E402
from micromacro.systems.mimamo import experiment as mimamo  # noqa: E402
from micromacro.systems.mimamo import scores as mimamo_scores  # noqa: E402
from micromacro.systems.mimamo import task as mimamo_task  # noqa: E402


def mimamo_clips(seed: int, split: str, light: float) -> Arrays:
    """Clips of MIMAMO's task: frames uint8 (N, T, 64, 64), labels, person, centres."""
    clips = mimamo_task.record(seed, split, people=2, clips=1, steps=8, illumination=light)
    return {
        name: getattr(clips, name).numpy() for name in ("frames", "labels", "person", "centres")
    }


def akmnet_clips(seed: int, task: str, distractors: float) -> Arrays:
    """Clips of AKMNet's task: frames uint8 (N, 48, 48) clip behind clip, and their columns."""
    dials = replace(akmnet_task.TASKS[task], distractors=distractors)
    clips = akmnet_task.record(seed, dials, range(2), 3)
    names = ("frames", "lengths", "label", "subject", "onset", "apex", "offset", "envelope")
    return {name: getattr(clips, name).numpy() for name in names} | {"clip": np.array(clips.names)}


def mimamo_unit(arm: str) -> tuple[Mapping, Arrays]:
    """One arm of MIMAMO on the benchmark."""
    lights = ("illumination", "test_illumination")
    options = mimamo.ARMS[arm]
    data = {"people": 3} | {k: v for k, v in options.items() if k in lights}
    options = {k: v for k, v in options.items() if k not in lights}
    metrics, predictions = mimamo.unit(seed=1000, data=data, arm=options, epochs=2)
    test = mimamo_scores.of_split(predictions, "test")
    person = [int(name.removeprefix("test-")) for name in test["subjects"]]
    clips = len(person)
    arrays = {name: test[name].reshape(clips, -1, 2) for name in ("prediction", "truth")}
    return metrics, arrays | {"person": np.array(person)}


def akmnet_unit(arm: str) -> tuple[Mapping, Arrays]:
    """One arm of AKMNet on the benchmark."""
    params = akmnet.grid("full", variants=[arm], seeds=[SEED], folds=2)[arm][0]
    params["data"] |= {"subjects": 4, "tested": 4, "clips": 4}
    params["epochs"] = params["epochs"] or 2
    metrics, arrays = akmnet.unit(**params)
    if params["arm"].get("frames") in ("tim", "linear"):  # -1 now: frames are mixtures of all
        arrays["apex_kept"] = np.ones(len(arrays["clip"]), bool)
    return metrics, arrays


def lbp_top_unit(task: str) -> tuple[Mapping, Arrays]:
    """The classic baseline on the benchmark."""
    data = {"subjects": 4, "tested": 4, "clips": 4, "task": task}
    return akmnet.unit(data=data, arm=akmnet.ARMS["LBP-TOP"], seed=SEED, fold=0, folds=2)


def akmnet_official(dataset: str, protocol: str, arm: str) -> tuple[Mapping, Arrays]:
    """One person of an official data set's miniature left out."""
    data = {"dataset": dataset, "root": str(akmnet_roots()[dataset]), "sizes": akmnet.TRIAL}
    data |= {"cache": str(folder() / "akmnet")}
    options = {"protocol": protocol, **akmnet.OFFICIAL[arm]}
    metrics, arrays = akmnet.unit(data=data, arm=options, seed=3, fold=1, folds=None, epochs=2)
    metrics |= {"clips": metrics["trained_on"], "subjects": metrics["people"]}
    return metrics, arrays


def mimamo_official(dataset: str, protocol: str, label: str) -> tuple[Mapping, Arrays]:
    """One fold of an official data set's miniature."""
    data = {"dataset": dataset, "root": str(mimamo_roots()[dataset])}
    data |= {"cache": str(folder() / "mimamo"), **mimamo_weights()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrozenResNet50, "forward", thumbnail)
        arm = {"protocol": protocol, "label": label}
        epochs = 2 if dataset == "omg" else 1
        run = {"data": data, "arm": arm, "seed": 3, "fold": 0, "folds": 2, "epochs": epochs}
        metrics, predictions = mimamo.unit(**run)
    arrays = {name: predictions[name] for name in ("fold_sd", "label_sd", "sequences", "skipped")}
    arrays |= {"missing": np.array(len(predictions["missing"]))}
    arrays |= {"best_score": predictions["epoch_score"].max()}
    for split in ("validation", "test"):
        table = mimamo_scores.of_split(predictions, split)
        arrays |= {f"{split}_{name}": table[name] for name in ("lengths", "prediction", "truth")}
        arrays[f"{split}_videos"] = table["subjects"]
        arrays[f"{split}_clips"] = np.array([c.rsplit("/", 1)[-1] for c in table["clips"]])
    return metrics, arrays


def thumbnail(self: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """In place of the ResNet-50's features, which would take a quarter of a second a face."""
    values = torch.nn.functional.adaptive_avg_pool2d(images, 8).flatten(1)
    return (values - 0.4).relu().repeat(1, 11)[:, :2048] * torch.linspace(0.5, 2, 2048)


@lru_cache(maxsize=1)
def akmnet_roots() -> dict[str, Path]:
    """Root of each miniature; that of the composite holds them all."""
    official = folder() / "official"  # the faces' noise depends on this name
    for name in micro_miniatures.SUBJECTS:
        micro_miniatures.write_dataset(name, official / name)
    return {name: official / name for name in micro_miniatures.SUBJECTS} | {"megc2019": official}


@lru_cache(maxsize=1)
def mimamo_roots() -> dict[str, Path]:
    """Root of each miniature."""
    faces = folder() / "faces"
    faces.mkdir()
    folders = affect_miniatures.write_face_folders(faces)
    writers = {name: getattr(affect_miniatures, f"write_{name}") for name in MIMAMO_OFFICIAL}
    roots = {name: folder() / name for name in writers}
    for name, root in roots.items():
        root.mkdir()
        writers[name](root, folders)
    return roots


@lru_cache(maxsize=1)
def mimamo_weights() -> dict[str, str]:
    """A file of random weights, whose features `thumbnail` replaces."""
    return affect_miniatures.write_resnet(folder())


# ---- end of the adapter --------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _temporary() -> tempfile.TemporaryDirectory:
    """For miniatures and caches; gone when the process ends."""
    return tempfile.TemporaryDirectory()


def folder() -> Path:
    """Path of the temporary folder."""
    return Path(_temporary().name)


def sampled(columns: Arrays, first: int, step: int) -> Arrays:
    """Frames as a digest and every few pixels of every fifth frame; other columns as they are."""
    whole = np.ascontiguousarray(columns.pop("frames"))
    digest, few = hashlib.sha256(whole.tobytes()).hexdigest(), slice(first, None, step)
    return columns | {
        "sha256": np.array(digest),
        "shape": np.array(whole.shape),
        "grey": whole[..., ::5, few, few],
    }


def arrays_of(case: str) -> Arrays:
    """All arrays and metrics of a case; a metric that is None has no array."""
    kind, *words = case.split(", ")
    if kind.endswith("frames"):
        seed, split, dial = (word.split()[-1] for word in words)
        clips, *pixels = {"mimamo": (mimamo_clips, 2, 4), "akmnet": (akmnet_clips, 1, 3)}[kind[:6]]
        return sampled(clips(int(seed), split, float(dial)), *pixels)
    if kind in ("mimamo", "akmnet"):
        arm = case.partition(", ")[2]  # some have a comma
        unit = {"mimamo": mimamo_unit, "akmnet": akmnet_unit}[kind]
        metrics, arrays = lbp_top_unit(words[1]) if words[0] == "LBP-TOP" else unit(arm)
    else:
        official = mimamo_official if kind in MIMAMO_OFFICIAL else akmnet_official
        metrics, arrays = official(kind, *words)
    if both := metrics.keys() & arrays.keys():
        raise ValueError(f"{sorted(both)} are metrics and arrays")
    # An empty list is one of no texts.
    scores = {k: np.array(v, str if v == [] else None) for k, v in metrics.items() if v is not None}
    return scores | dict(arrays)
