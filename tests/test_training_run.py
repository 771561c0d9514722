"""A training under way: checkpoints, processes killed and resumed; the same on CUDA."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_training import digest, network, plain, refused, some_data
from torch import nn

from micromacro.training import Recipe, predict, train

RECIPE = {"optimiser": "adamw", "lr": 0.01, "schedule": "one_cycle", "epochs": 3, "accumulate": 2}


def score(model: nn.Module) -> float:
    """Highest after epoch 1, by the count that batch norm keeps: the best lies before the last."""
    return -abs(model[1].num_batches_tracked.item() - 12.0)


def test_a_checkpoint_changes_nothing_and_a_second_call_trains_nothing(tmp_path):
    data, models = some_data(), []
    for checkpoint in (None, tmp_path / "a" / "b", tmp_path / "a" / "b"):
        model = network(seed=len(models))  # the second call starts from other weights
        recipe = Recipe(**RECIPE)
        if len(models) < 2:
            model = network()
        history = train(model, data, recipe, seed=4, validate=score, checkpoint=checkpoint)
        models.append((digest(model), [(e.epoch, e.loss, e.score, e.lr) for e in history.epochs]))
    assert models[0] == models[1] == models[2]
    files = {file.name for file in (tmp_path / "a" / "b").iterdir()}
    assert files == {"state.pt", "weights-2.safetensors", f"weights-{history.best}.safetensors"}


@pytest.mark.parametrize(
    "change", [{"lr": 0.02}, {"epochs": 9}, {"seed": 1}, {"size": 5}, {"model": plain()}]
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, change):
    train(network(), some_data(), Recipe(**RECIPE), seed=0, checkpoint=tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    recipe = Recipe(**(RECIPE | {k: v for k, v in change.items() if k in ("lr", "epochs")}))
    data, model = some_data(size=change.get("size", 4)), change.get("model", network())
    word = {"size": "batches", "model": "weights"}.get(next(iter(change)), next(iter(change)))
    refused(
        lambda: train(model, data, recipe, seed=change.get("seed", 0), checkpoint=tmp_path),
        f"(other {word})",
    )
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}


def test_a_checkpoint_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    refused(
        lambda: train(plain(), some_data(), Recipe(), seed=0, checkpoint=tmp_path / "file"),
        "file",
        "folder",
    )


KILLED = f"""
import os, pathlib, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
torch.set_num_threads(1)
from test_training import digest, network, some_data
from test_training_run import RECIPE, score
from micromacro.training import Recipe, train

real, folder = pathlib.Path.replace, pathlib.Path(sys.argv[1])
die = lambda: os.kill(os.getpid(), signal.SIGKILL)

def training(checkpoint, kill=None, at=0):
    seen = {{"batch": 0, "validate": 0, "before": 0, "after": 0}}
    def now(place):
        seen[place] += 1
        if (place, seen[place]) == (kill, at):
            die()
    def replace(self, target):
        now("before"); real(self, target); now("after")
    def validate(model):
        now("validate")
        return score(model)
    pathlib.Path.replace, model = replace, network()
    model.register_forward_hook(lambda module, *rest: now("batch") if module.training else None)
    history = train(model, some_data(), Recipe(**RECIPE), seed=4, validate=validate,
                    checkpoint=checkpoint)
    pathlib.Path.replace = real
    model._forward_hooks.clear()
    return digest(model), history.best, [e.loss for e in history.epochs], seen

whole = training(folder / "whole")
assert whole[3] == {{"batch": 18, "validate": 3, "before": 6, "after": 6}}, whole[3]
moments = {{"batch": [1, 9, 18], "validate": [2], "before": range(1, 7), "after": range(1, 7)}}
for kill, at in [(kill, at) for kill in moments for at in moments[kill]]:
    place = folder / f"{{kill}}-{{at}}"
    pid = os.fork()
    if pid == 0:
        training(place, kill, at)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    again = training(place)
    assert again[:3] == whole[:3], (kill, at, again, whole)
    epochs_kept = {{"batch": (at - 1) // 6, "validate": at - 1, "before": (at - 1) // 2,
                   "after": at // 2}}[kill]
    assert again[3]["validate"] == 3 - epochs_kept, (kill, at, again)
    left = {{f.name for f in place.iterdir()}}
    assert left == {{f.name for f in (folder / "whole").iterdir()}}, (kill, at, left)
print(whole[0], whole[1])
"""


def test_killed_at_any_moment_and_resumed_gives_the_same_weights(tmp_path):
    """SIGKILL in batches, in validation, and before and after every file that is put in place."""
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    model = network()
    history = train(model, some_data(), Recipe(**RECIPE), seed=4, validate=score)
    assert done.stdout.split() == [digest(model), str(history.best)]
    assert history.best == 1


# CUDA -----------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("amp", [False, True])
def test_cuda(tmp_path, amp):
    data, recipe = some_data(64, 16), Recipe(**RECIPE, amp=amp, clip_norm=1.0)
    torch.cuda.manual_seed(3)
    state = torch.cuda.get_rng_state()
    history = train(model := network(), data, recipe, seed=4, device="cuda", checkpoint=tmp_path)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert next(model.parameters()).is_cuda
    assert history.epochs[-1].loss < history.epochs[0].loss
    on_cpu = network()
    cpu = train(on_cpu, data, recipe, seed=4)  # dropout draws other numbers there
    assert history.epochs[-1].loss == pytest.approx(cpu.epochs[-1].loss, rel=0.3)
    again = train(network(), data, recipe, seed=4, device="cuda", checkpoint=tmp_path)
    assert again == history
    assert predict(model, data, "cuda").shape == (64, 2)
