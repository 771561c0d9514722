"""The actor's action units: what the network says, its truth, its doors, its file and how it is
made."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from refusals import refused
from safetensors.torch import load_file, save
from torch.nn import functional

from encoder_training import NETS, Plan, chance_clips, make_net
from micromacro.action_unit_net import (
    COLUMNS,
    SHA256,
    WEIGHTS_FILE,
    ActionUnitNet,
    action_units,
    actor_intensities,
    load_action_unit_net,
    shown,
)
from micromacro.faces.action_units import action_units_of, openface_columns
from micromacro.files import project_root
from micromacro.metrics import pcc
from micromacro.synthetic import AUS, Face, Identity, Performance, pose
from micromacro.systems.eri import task
from micromacro.weights import file_sha256

RESULTS = project_root() / "data" / "results" / "action_unit_net__full__cpu.csv"
TINY = Plan(seed=3, identities=2, validation=2, test=2, frames=8, epochs=1, batch=8)


@pytest.fixture(scope="module")
def net() -> ActionUnitNet:
    return load_action_unit_net()


@pytest.fixture(scope="module")
def fresh() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Clips of people whom neither training nor scoring has met."""
    return list(chance_clips(range(1000, 1006), "action_units_test", 32, 7))


def measured(clips, net):
    said = np.concatenate([action_units(frames, net).to_numpy() for frames, _ in clips])
    return said, torch.cat([truth for _, truth in clips]).numpy()


# ---- what it says --------------------------------------------------------------------------------


def test_it_does_as_well_on_new_people_as_its_row_says(net, fresh):
    said, truth = measured(fresh, net)
    assert said.shape == truth.shape == (6 * 32, 17)
    table = pd.read_csv(RESULTS)
    params = pd.DataFrame([*table["params"].map(json.loads)])
    rows = (
        (params["clips"] == "chance") & params["action unit"].notna() & (table["metric"] == "pcc")
    )
    assert [*params.loc[rows, "action unit"]] == [*COLUMNS]
    expected = table.loc[rows, "value"].to_numpy()
    own = [pcc(said[:, k], truth[:, k]) for k in range(17)]
    assert np.mean(own) == pytest.approx(expected.mean(), abs=0.08)
    assert np.corrcoef(own, expected)[0, 1] > 0.5  # the same ones are hard
    assert net.about["score"]["pcc"] == pytest.approx(expected.mean())


def test_a_smile_that_nobody_trained_is_a_smile(net):
    """Oracle: a rise and fall of one muscle, drawn by hand, in a still and noise-free clip."""
    rise = 0.05 * torch.sin(torch.linspace(0, torch.pi, 40)).clamp_min(0) * (torch.arange(40) > 24)
    au = torch.zeros(40, len(AUS))
    au[:, AUS.index("12")] = rise
    play = replace(Performance.still(40), au=au)
    face = Face(Identity.draw(3000, split="action_units_test"), size=64, colour=True)
    units = action_units(face.render(play), net)
    assert [*units] == [*COLUMNS.values()]
    assert units["AU12_r"].corr(actor_intensities(play)["AU12_r"]) > 0.9
    assert units.std().idxmax() == "AU12_r"
    assert units[:20].to_numpy().max() < 1  # at rest


def test_the_truth_is_that_of_the_reaction_task_before_the_mouth_talks():
    """Oracle: the task's own detector without errors."""
    made = task.clips(2, 1, 1000, au_sd=0.0)
    for clip in made.clips["clip"]:
        scene = made.scene(clip)
        truth = actor_intensities(scene.performance)
        talks = truth.columns.isin(["AU25_r", "AU26_r"])
        expected = scene.local[:, :17].numpy()
        np.testing.assert_allclose(truth.loc[:, ~talks], expected[:, ~talks], atol=1e-5)
        assert (truth.loc[:, talks].to_numpy() >= expected[:, talks] - 1e-5).all()


def test_the_truth_of_poses_by_hand():
    smile = actor_intensities(pose("happiness")).iloc[0]
    assert smile["AU12_r"] == pytest.approx(5 * 0.88)
    assert smile["AU05_r"] == 0  # the lids close a little
    one_sided = actor_intensities(pose("contempt")).iloc[0]
    assert one_sided["AU12_r"] == pytest.approx(5 * 0.55 / 2)
    assert actor_intensities(pose("surprise")).iloc[0]["AU05_r"] == pytest.approx(5)
    units = {*action_units_of("actor")} & {*COLUMNS}
    assert units == {*COLUMNS}
    assert [*COLUMNS.values()] == [name for name in openface_columns() if name.endswith("_r")]


# ---- the network ---------------------------------------------------------------------------------


def test_by_hand(net, fresh):
    """The network a second time, from the tensors of the file, in float64."""
    state = {name: tensor.double() for name, tensor in load_file(WEIGHTS_FILE).items()}
    frames = fresh[0][0].double()

    def standard(x):
        return (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), correction=0, keepdim=True)

    faces = standard(frames)
    rest = standard(frames.quantile(0.5, dim=0, keepdim=True, interpolation="lower"))
    x = torch.cat([faces, 4 * (faces - rest)], 1)
    for k in (0, 3, 6, 9):
        x = functional.conv2d(x, state[f"body.{k}.weight"], stride=2, padding=1)
        mean, var, weight, bias = (
            state[f"body.{k + 1}.{name}"]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        x = functional.batch_norm(x, mean, var, weight, bias).clamp_min(0)
    x = (x.flatten(1) @ state["head.0.weight"].T + state["head.0.bias"]).clamp_min(0)
    expected = (x @ state["head.2.weight"].T + state["head.2.bias"]).clamp(0, 5)
    said = action_units(fresh[0][0], net).to_numpy()
    np.testing.assert_allclose(said, expected.numpy(), atol=1e-4)
    assert said.max() > 1


def test_gain_offset_and_the_batch_change_nothing(net, fresh):
    frames = fresh[0][0]
    expected = action_units(frames, net).to_numpy()
    for said in (action_units(0.45 * frames + 0.3, net), action_units(frames, net, batch=5)):
        np.testing.assert_allclose(said, expected, atol=2e-3)


def test_colours_and_other_sizes(net, fresh):
    frames = fresh[0][0]
    colour = frames.expand(-1, 3, -1, -1)
    np.testing.assert_allclose(action_units(colour, net), action_units(frames, net), atol=2e-3)
    larger = functional.interpolate(frames, (61, 61), mode="bilinear")
    assert action_units(larger, net).shape == (32, 17)
    flat = action_units(torch.full((5, 1, 40, 40), 0.4), net)
    assert np.isfinite(flat.to_numpy()).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (torch.rand(9, 48, 48), "(N, 1|3, S, S)"),
        (torch.rand(9, 2, 48, 48), "shape"),
        (torch.rand(9, 1, 33, 47), "squares"),
        (torch.rand(4, 1, 48, 48), "5 or more frames"),
        (torch.rand(9, 1, 31, 31), "32 px or more"),
        (torch.zeros(9, 1, 48, 48, dtype=torch.uint8), "float32"),
        (torch.rand(9, 1, 48, 48) + 0.5, "not [0, 1]"),
        (torch.rand(9, 1, 48, 48) - 0.5, "not [0, 1]"),
        (torch.full((9, 1, 48, 48), torch.nan), "NaN"),
        (np.zeros((9, 1, 48, 48), np.float32), "not a tensor"),
    ],
)
def test_bad_frames_are_refused(net, wrong, words):
    refused(lambda: action_units(wrong, net), "frames", words)
    refused(lambda: shown(wrong), words)


# ---- the file and the recipe ---------------------------------------------------------------------


def test_the_file_is_the_known_one_and_says_where_it_comes_from(net):
    assert WEIGHTS_FILE.stat().st_size <= 200_000
    assert file_sha256(WEIGHTS_FILE) == SHA256
    assert {"recipe", "seed", "n", "score", "torch"} <= net.about.keys()
    assert sum(p.numel() for p in net.parameters()) == 84_721
    assert not any(p.requires_grad for p in net.parameters())
    assert not net.training
    assert all(tensor.dtype == torch.float16 for tensor in load_file(WEIGHTS_FILE).values())


def test_a_file_that_is_not_the_network_is_refused(tmp_path):
    file, state = tmp_path / "net.safetensors", load_file(WEIGHTS_FILE)
    wrong = save(state | {"head.2.bias": torch.zeros(7)}, {"about": "{}"})
    for content, *words in (
        (WEIGHTS_FILE.read_bytes()[:-1000], "torn, or not", "make encoder"),
        (save(state), "torn, or not"),  # no metadata
        (wrong, "head.2.bias has shape (7,)"),
    ):
        file.write_bytes(content)
        refused(partial(load_action_unit_net, file), file, "SHA-256")
        refused(partial(load_action_unit_net, file, None), file, *words)


def test_clips_by_chance_are_at_rest_in_their_median(fresh):
    for frames, truth in fresh:
        assert frames.shape == (32, 1, 48, 48)
        assert truth.median(0).values.max() == 0
        assert truth.max() > 2
    every = torch.cat([truth for _, truth in fresh])
    assert ((every > 0).sum(0) >= 3).all()  # each unit moves somewhere


def test_the_recipe_gives_the_same_bytes_twice(tmp_path):
    tables = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        made = NETS["action_units"]._replace(plan=TINY, file=folder / "weights")
        about = make_net(made, folder)
        assert {path.name for path in folder.iterdir()} == {RESULTS.name, "weights"}
        tables.append(pd.read_csv(folder / RESULTS.name).drop(columns=["seconds", "utc"]))
        assert load_action_unit_net(folder / "weights", None).about == about
    assert (tmp_path / "one/weights").read_bytes() == (tmp_path / "two/weights").read_bytes()
    pd.testing.assert_frame_equal(*tables)
    committed = pd.read_csv(RESULTS)
    keys = ["arm", "params", "metric", "split", "system"]
    assert tables[0][keys].equals(committed[keys])
