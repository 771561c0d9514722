"""Leave one subject out: the folds, and one unit that trains and predicts one of them."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import micromacro
from micromacro.errors import BadInput
from micromacro.metrics import accuracy
from micromacro.systems.akmnet.paper.fold import Fold, Recorded, outputs
from micromacro.systems.akmnet.paper.pretrained import Start
from micromacro.systems.akmnet.paper.protocol import ARMS, EPOCHS, LENGTHS, PROTOCOLS, Protocol
from micromacro.systems.akmnet.paper.store import (
    Official,
    StoredClip,
    known,
    official,
    stored_clips,
)
from micromacro.systems.akmnet.scores import best_epoch


def grid(*, dataset: str, root: str | None, **params) -> list[dict]:
    """Parameters of all folds' units for `experiments.run`, one for each person.

    Args:
        dataset: As for `unit`.
        root: Its folder.
        params: The rest of `unit`'s, but for the subject.

    Raises:
        BadInput: As `official`.
    """
    reading = {key: params[key] for key in ("pictures", "strict") if key in params}
    people = official(dataset, root, **reading).people
    return [{"dataset": dataset, "root": root, **params, "subject": person} for person in people]


def prepare(
    dataset: str, root: str | None, *, cache: str, magnification: float = 15.0, **reading
) -> tuple[list[StoredClip], Official]:
    """Make the clips of a data set; call it before `experiments.run` with many workers.

    Args:
        dataset: As for `unit`, like all others.
        root: Its folder.
        cache: Folder of what is made.
        magnification: Alpha.
        reading: pictures and strict.

    Returns:
        The clips in the sheets' order, and what was read.

    Raises:
        BadInput: As `official` and `stored_clips`.
    """
    found = official(dataset, root, **reading)
    return stored_clips(found, cache=cache, magnification=magnification), found


def unit(
    *,
    dataset: str,
    root: str | None,
    protocol: str,
    subject: str,
    seed: int,
    cache: str,
    arm: str = "s123",
    weights: str | None = None,
    sha256: str | None = None,
    magnification: float = 15.0,
    epochs: int = EPOCHS,
    device: str = "cpu",
    pictures: str | None = "cropped",
    strict: bool = True,
) -> tuple[dict, dict[str, np.ndarray]]:
    """Train one arm on all people but one, and predict that one's clips after each epoch.

    The last epoch counts. After each the training is written to ``<cache>/checkpoints``; killed and
    called again it goes on from there, with the same result. The checkpoint goes when all is done.

    Args:
        dataset: "casme", "casme2", "smic", "samm" or "megc2019".
        root: Its folder, as data/README.md shows; of "megc2019" one with casme2, smic and samm in it.
        protocol: "ours" or "as_released".
        subject: Who is left out: "01", "006", "s01"; of "megc2019" "casme2/01".
        seed: Of first weights, order, crops and dropout.
        cache: Folder for clips and checkpoints, made if missing.
        arm: "s123"; "s12", "s13", "s23"; "all" frames; "norm16", "norm32", "norm64", "norm128"
            frames by TIM; "random", as many frames of each clip as the s123 of this fold kept,
            drawn once (the paper says that it averages five draws: take five seeds).
        weights: See `Start.named`.
        sha256: Likewise.
        magnification: Alpha; 15 is the paper's, 0 magnifies nothing.
        epochs: Of training.
        device: Of the arithmetic.
        pictures: "cropped", "raw", or None for the first there is.
        strict: Raise the first clip that does not fit its sheet; else leave such clips out.

    Returns:
        Metrics: `accuracy` of the last epoch and `accuracy_best_subject` of the best test epoch,
        `best_epoch`, 0-based; the last epoch's training `loss`; `clips` trained on, each once;
        `start`, the file of weights or "random", its `sha256`, number of `tensors_loaded` into the
        frame network, names of `tensors_left`, which start at random; `subjects`, all of the data
        set; `classes`; `missing` and `faults` of the data.
        Predictions, a row for each clip left out: dataset, subject, clip; truth; prediction;
        best_subject; T; kept, frames that the GRU got; max_key, -1 without mining; apex, counted
        from the onset, -1 for none; apex_kept, 1 or 0, -1 where there is no answer; logits
        (C, classes); and `epochs` int64 (C, E), the class after each epoch.

    Raises:
        BadInput: An unknown name; as `prepare`; a class that none of the others shows.
    """
    params = dict(locals())
    known("protocol", protocol, PROTOCOLS)
    known("arm", arm, ARMS)
    start = Start.named(weights, sha256)
    found = official(dataset, root, pictures=pictures, strict=strict)
    known("subject", subject, found.people)
    _check_classes(found, subject)
    clips = stored_clips(found, cache=cache, magnification=magnification)
    fingerprint = _fingerprint(params | {"sha256": start.sha256}, clips)
    checkpoint = Path(cache) / "checkpoints" / fingerprint
    fold = Fold(clips, subject, seed, start, epochs, device, checkpoint)
    how = {"legacy": protocol == "as_released", "n_classes": len(found.classes)}
    frames = fold.drawn(Protocol(arm="s123", **how)) if arm == "random" else None
    plan = Protocol(arm=arm, **how)
    trained, loss = fold.train(plan, frames)
    arrays = _predicted(fold, plan, trained, frames)
    shutil.rmtree(checkpoint)
    said = {"accuracy": arrays["prediction"], "accuracy_best_subject": arrays["best_subject"]}
    loaded, left = start.fitting(trained.net.frame_net)
    metrics = {name: accuracy(values, arrays["truth"]) for name, values in said.items()} | {
        "best_epoch": best_epoch(arrays["epochs"] == arrays["truth"][:, None]),
        "loss": loss,
        "clips": len(fold.seen),
        "start": start.name,
        "sha256": start.sha256,
        "tensors_loaded": len(loaded),
        "tensors_left": left if loaded else [],
        "subjects": found.people,
        "classes": found.classes,
        "missing": found.missing,
        "faults": found.faults,
    }
    return metrics, arrays


def _predicted(
    fold: Fold, plan: Protocol, trained: Recorded, frames: Sequence | None
) -> dict[str, np.ndarray]:
    """The predictions of `unit`."""
    clips = [fold.clips[row] for row in fold.held.tolist()]
    test = plan.evaluation(fold.clips, fold.held, frames)
    minings = [said.mining for said in outputs(trained, test, fold.device)]
    names = ("dataset", "subject", "clip", "T", "apex")
    table = {name: [getattr(clip, name) for clip in clips] for name in names}
    table["kept"] = [int(mining.kept.sum()) for mining in minings]
    table["max_key"] = [-1 if m.score is None else m.max_key()[0] for m in minings]
    table["apex_kept"] = [-1] * len(clips)
    for i, (row, mining) in enumerate(zip(fold.held.tolist(), minings, strict=True)):
        if clips[i].apex >= 0 and plan.arm not in LENGTHS:
            shown = torch.arange(clips[i].T) if frames is None else frames[row]
            table["apex_kept"][i] = int(clips[i].apex in shown[mining.kept.cpu()].tolist())
    logits, truth = trained.logits.cpu().numpy(), np.array([clip.label for clip in clips])
    said = logits.argmax(-1).T
    table |= {"truth": truth, "logits": logits[-1], "epochs": said, "prediction": said[:, -1]}
    table["best_subject"] = said[:, best_epoch(said == truth[:, None])]
    return {name: np.asarray(column) for name, column in table.items()}


def _check_classes(found: Official, subject: str) -> None:
    """Refuse a fold whose training lacks a class."""
    others = found.table.loc[found.table["person"] != subject, "label"]
    for number, name in enumerate(found.classes):
        if number not in set(others):
            fault = f"no clip of the other subjects shows {name}"
            raise BadInput(f"subject {subject!r}", fault, "get more of the data")


def _fingerprint(params: dict, clips: Sequence[StoredClip]) -> str:
    """Of all that decides a training: parameters, clips, labels, this package's code."""
    digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode())
    for clip in clips:
        digest.update(f"{clip.person} {clip.clip} {clip.label} {clip.folder.name}\n".encode())
    for file in sorted(Path(micromacro.__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:20]
