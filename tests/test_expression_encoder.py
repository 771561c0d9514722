"""The expression encoder: its weights, what it ignores and refuses, and how it is made."""

import json
from functools import partial

import pandas as pd
import pytest
import torch
from refusals import refused
from safetensors.torch import load_file, save
from torch import nn
from torch.nn import functional

import encoder_training
from encoder_training import NETS, Plan, make_net, save_net, scores, stills
from micromacro import synthetic
from micromacro.expression_encoder import EXPRESSIONS, N_FEATURES, WEIGHTS_FILE, ExpressionEncoder
from micromacro.expression_encoder import load_expression_encoder as load
from micromacro.files import project_root
from micromacro.metrics import accuracy
from micromacro.synthetic import AUS, FOLD_OVER, Identity
from micromacro.synthetic.identity import stream
from micromacro.synthetic.script import FULL

TINY = Plan(seed=3, identities=1, validation=2, test=2, frames=8, epochs=1, batch=8)
EXPRESSIONS_NET = NETS["expressions"]._replace(plan=TINY)
RESULTS = project_root() / "data" / "results" / "expression_encoder__full__cpu.csv"


@pytest.fixture(scope="module")
def encoder() -> ExpressionEncoder:
    return load()


@pytest.fixture(scope="module")
def fresh() -> encoder_training.Stills:
    """Pictures of people whom neither training nor scoring has met."""
    return stills(range(1000, 1008), "encoder_test", 64, 7)


@pytest.fixture
def images(fresh) -> torch.Tensor:
    return fresh.images[:16]


# ---- the file ------------------------------------------------------------------------------------


def test_the_file_says_where_it_comes_from_and_its_score_is_the_row_in_the_results(encoder):
    assert WEIGHTS_FILE.stat().st_size <= 200_000
    assert {"recipe", "seed", "n", "score", "torch"} <= encoder.about.keys()
    assert all(tensor.dtype == torch.float16 for tensor in load_file(WEIGHTS_FILE).values())
    assert sum(p.numel() for p in encoder.parameters()) == 79_672
    assert tuple(synthetic.EXPRESSIONS) == EXPRESSIONS
    table = pd.read_csv(RESULTS)
    pictures = table.params.map(lambda text: json.loads(text)["pictures"])
    for metric, value in encoder.about["score"].items():
        rows = table.loc[(table.metric == metric) & (pictures == "all"), ["value", "n", "seed"]]
        assert rows.to_numpy().tolist() == [[value, encoder.about["n"], encoder.about["seed"]]]


def test_it_does_as_well_on_new_people_as_it_says(encoder, fresh):
    found = encoder(fresh.images).argmax(1)
    score = accuracy(found, fresh.label)
    assert score > 2 * 0.125
    # 512 pictures of 8 people: the standard error is 0.022 were all pictures independent.
    assert score == pytest.approx(encoder.about["score"]["accuracy"], abs=0.10)
    strong = (fresh.peak > 0.065) & (fresh.label > 0)
    assert accuracy(found[strong], fresh.label[strong]) > score


def test_a_noise_free_full_expression_is_recognised(encoder):
    """Oracle: the actor's own poses, of which training has seen none without nuisances."""
    hits = 0
    for subject in range(2000, 2002):
        face = synthetic.Face(Identity.draw(subject, split="encoder_test"), size=64, colour=True)
        for label, name in enumerate(EXPRESSIONS):
            hits += int(encoder(face.render(synthetic.pose(name))).argmax()) == label
    assert hits >= 12  # of 16


# ---- the network ---------------------------------------------------------------------------------


def test_features_and_logits_by_hand(encoder, images):
    """The network a second time, from the tensors of the file."""
    state = {name: tensor.double() for name, tensor in load_file(WEIGHTS_FILE).items()}
    x = images.double()
    x = (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), correction=0, keepdim=True)
    for k in range(4):
        x = functional.conv2d(x, state[f"body.{k}.0.weight"], stride=2, padding=1)
        norm = {n: state[f"body.{k}.1.{n}"] for n in ("running_mean", "running_var")}
        x = functional.batch_norm(
            x, **norm, weight=state[f"body.{k}.1.weight"], bias=state[f"body.{k}.1.bias"]
        ).clamp_min(0)
    by_hand = x.mean((2, 3))
    features = encoder.features(images)
    assert features.shape == (16, N_FEATURES) == (16, ExpressionEncoder.N_FEATURES)
    assert features.min() >= 0
    torch.testing.assert_close(features.double(), by_hand, rtol=1e-4, atol=1e-5)
    logits = by_hand @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(encoder(images).double(), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [32, 48, 61, 112])
def test_gain_and_offset_change_nothing(encoder, images, side):
    images = functional.interpolate(images, (side, side), mode="bilinear").clamp(0, 1)
    features, changed = encoder.features(images), encoder.features(0.45 * images + 0.3)
    torch.testing.assert_close(changed, features, rtol=1e-3, atol=1e-4)


def test_a_picture_does_not_depend_on_its_batch(encoder, images):
    flat = torch.cat([torch.zeros(3, 1, 48, 48), torch.ones(2, 1, 48, 48)])
    together = encoder.features(images)[0]
    for batch in (images[:1], torch.cat([images[:1], flat])):
        torch.testing.assert_close(encoder.features(batch)[0], together, rtol=1e-4, atol=1e-5)


def test_colours_weigh_as_luma(encoder):
    tint = torch.rand(16, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    grey = 0.299 * tint[:, :1] + 0.587 * tint[:, 1:2] + 0.114 * tint[:, 2:]
    expected = encoder.features(grey)
    torch.testing.assert_close(encoder.features(tint), expected, rtol=1e-3, atol=1e-4)


def test_a_flat_picture_gives_finite_features(encoder):
    flat = torch.full((2, 1, 64, 64), 0.4)
    assert torch.isfinite(encoder(flat)).all()
    torch.testing.assert_close(encoder(flat), encoder(flat * 0), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (torch.rand(2, 2, 48, 48), "shape"),
        (torch.rand(2, 1, 33, 47), "squares"),
        (torch.rand(0, 1, 48, 48), "(0, 1, 48, 48)"),
        (torch.rand(2, 1, 31, 31), "32 px or more"),
        (torch.zeros(2, 1, 48, 48, dtype=torch.uint8), "float32"),
        (torch.rand(2, 1, 48, 48) + 0.5, "not [0, 1]"),
        (torch.rand(2, 1, 48, 48) - 0.5, "not [0, 1]"),
    ],
)
def test_bad_images_are_refused(encoder, wrong, words):
    refused(lambda: encoder(wrong), words)


# ---- loading -------------------------------------------------------------------------------------


def test_it_stays_frozen(encoder, images):
    parent = nn.ModuleList([encoder, nn.BatchNorm1d(N_FEATURES)])
    before = encoder(images)
    parent.train()
    assert parent[1].training
    assert not any(module.training for module in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())
    assert torch.equal(encoder(images), before)


def test_a_fresh_one_trains_and_comes_back_rounded_to_float16(tmp_path):
    network = ExpressionEncoder()
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert not network.eval().training
    save_net(network, {"seed": 5}, tmp_path / "a")
    again = load(tmp_path / "a")
    assert again.about == {"seed": 5}
    assert torch.equal(again.head.weight, network.head.weight.half().float())
    save_net(again, {"seed": 5}, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_that_is_not_the_encoder_is_refused(tmp_path):
    file, state = tmp_path / "encoder.safetensors", load_file(WEIGHTS_FILE)
    for content, *words in (
        (WEIGHTS_FILE.read_bytes()[:-1000], "torn, or not", "make encoder"),
        (b"x" * 1000, "torn, or not"),
        (save(state), "torn, or not"),  # no metadata
        (save(state | {"head.bias": torch.zeros(7)}, {"about": "{}"}), "head.bias has shape (7,)"),
    ):
        file.write_bytes(content)
        refused(partial(load, file), file, *words)


# ---- the recipe ----------------------------------------------------------------------------------


def test_stills_are_varied_balanced_and_depend_on_the_seed(fresh):
    assert fresh.images.shape == (512, 1, 48, 48)
    assert fresh.images.min() >= 0
    assert fresh.images.max() <= 1
    assert fresh.label.bincount().tolist() == [64] * 8
    assert (fresh.peak[fresh.label == 0] == 0).all()
    shown = fresh.peak[fresh.label > 0]
    assert 0.015 <= shown.min() < 0.02 < 0.085 < shown.max() < FULL
    one, two, other = (stills([4], "encoder", 8, seed) for seed in (1, 1, 2))
    assert torch.equal(one.images, two.images)
    assert not torch.equal(one.images, other.images)


def test_the_truth_of_the_linear_probe():
    """Smile minus frown from the performance itself; the resting face alone for neutral."""
    person = Identity.draw(4, split="encoder")
    play, label, peak = encoder_training._act(stream("test"), 800)
    smile, neutral = encoder_training._smile(play, person), label == 0
    au = play.au[:, AUS.index("12")] - play.au[:, AUS.index("15")]
    own = person.rest[2] - person.rest[3]
    assert torch.equal(smile[neutral], au[neutral] + own)
    moved = smile - smile[neutral].mean()  # the person's own resting face lies under all of them
    for name, share in (("happiness", 0.88), ("contempt", 0.55 / 2), ("sadness", -0.60)):
        rows = label == EXPRESSIONS.index(name)
        assert moved[rows].mean() == pytest.approx(share * float(peak[rows].mean()), abs=0.004)
    assert play.au.abs().max() < FOLD_OVER


def test_ridge_finds_a_linear_truth():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 5, generator=generator).double()
    y = x @ torch.tensor([1.0, -2, 0, 0, 3]).double() + 0.7
    estimate = encoder_training._ridge(x[:300].numpy(), y[:300], x[300:].numpy())
    assert encoder_training._r2(estimate, y[300:]) > 0.999
    assert encoder_training._r2(estimate * 0 + float(y[300:].mean()), y[300:]) == pytest.approx(0)


def test_the_recipe_gives_the_same_bytes_twice(tmp_path):
    tables = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        make_net(EXPRESSIONS_NET._replace(file=folder / "weights"), folder)
        assert {path.name for path in folder.iterdir()} == {RESULTS.name, "weights"}
        tables.append(pd.read_csv(folder / RESULTS.name).drop(columns=["seconds", "utc"]))
    assert (tmp_path / "one/weights").read_bytes() == (tmp_path / "two/weights").read_bytes()
    pd.testing.assert_frame_equal(*tables)
    encoder, first = load(tmp_path / "one/weights"), tables[0].iloc[0]
    about = {name: encoder.about[name] for name in ("seed", "n")}
    assert about == {"seed": TINY.seed, "n": 16} == first[["seed", "n"]].to_dict()
    assert encoder.about["score"]["accuracy"] == first["value"]
    again = [row["value"] for row in scores(encoder, TINY)]
    assert again == pytest.approx(tables[0].value.tolist(), nan_ok=True)  # of the weights on disk


def test_a_place_that_cannot_be_written_is_told_before_training(tmp_path):
    never = EXPRESSIONS_NET._replace(train=lambda plan: pytest.fail("trained"))
    file = tmp_path / "file"
    file.touch()
    for weights, results in ((tmp_path / "weights", file), (file / "weights", tmp_path)):
        net = never._replace(file=weights)
        refused(partial(make_net, net, results), "cannot write there")
