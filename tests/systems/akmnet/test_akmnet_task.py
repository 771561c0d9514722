"""The micro-expression task: its figures against the official ones, and what must not leak."""

import json
from dataclasses import asdict, replace
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
import torch
from refusals import refused
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import nn

import akmnet_training
from akmnet_training import PLANS, Plan
from micromacro.files import project_root
from micromacro.folds import grouped_folds
from micromacro.synthetic import AUS, FOLD_OVER, Face, units
from micromacro.synthetic.performance import ZONES
from micromacro.systems.akmnet import task
from micromacro.systems.akmnet.task import TASKS, Dials


@lru_cache(maxsize=4)
def scripts(n: int, dials: Dials, seed: int = 1500):
    return [task.script(seed + i // 100, i // 10 % 10, i % 10, dials) for i in range(n)]


@pytest.fixture(scope="module", params=TASKS)
def plays(request):
    return request.param, scripts(1200, TASKS[request.param])


def facts(plays) -> dict[str, np.ndarray]:
    def each(fact):
        return np.array([fact(play.events[0], len(play)) for play, _ in plays])

    return {
        "T": each(lambda _, T: T),
        "apex": each(lambda e, T: e.apex / (T - 1)),
        "share": each(lambda e, T: (e.offset - e.onset + 1) / T),
        "rise": each(lambda e, _: (e.apex - e.onset + 1) / (e.offset - e.onset + 1)),
        "peak": each(lambda e, _: e.peak),
    }


def test_headline_clips_run_from_onset_to_offset_with_apexes_as_in_the_data_sets():
    plays = scripts(1200, TASKS["headline"])
    assert all(p.events[0].onset == 0 for p, _ in plays)
    assert all(p.events[0].offset == len(p) - 1 for p, _ in plays)
    apex = facts(plays)["apex"]
    assert apex.mean() == pytest.approx((0.51 + 0.46) / 2, abs=0.02)
    assert apex.std() == pytest.approx(0.165, abs=0.02)


def test_loose_clips_have_neutral_frames_and_a_uniform_apex():
    plays = scripts(1200, TASKS["loose"])
    found = facts(plays)
    sides = np.histogram(found["apex"], bins=np.linspace(0.1, 0.9, 5))[0]
    assert (abs(sides / len(plays) - 0.25) < 0.06).all()
    half = 0.5 / 19  # a frame, of the shortest clip
    assert 0.1 - half <= found["apex"].min() < found["apex"].max() <= 0.9 + half
    assert found["share"].min() > 0.25
    assert found["share"].max() < 0.65
    assert found["rise"].std() > 0.12  # asymmetric, either way
    assert np.mean([p.events[0].onset > 0 for p, _ in plays]) > 0.75
    assert np.mean([p.events[0].offset < len(p) - 1 for p, _ in plays]) > 0.75


def test_the_envelope_is_that_of_the_event(plays):
    for play, _ in plays[1][:100]:
        event, active = play.events[0], play.envelope[:, 0]
        assert active.argmax() == event.apex
        assert active[event.apex] == 1
        inside = torch.arange(len(play))
        inside = (inside >= event.onset) & (inside <= event.offset)
        assert torch.equal(active > 0, inside)


def test_neither_length_nor_time_nor_strength_tells_the_class(plays):
    label = np.array([label for _, label in plays[1]])
    half = len(label) // 2
    majority = np.bincount(label[half:]).max() / half
    for name, values in facts(plays[1]).items():
        # a classifier that knows this number alone: the commonest class of each of eight bins
        edges = np.unique(np.quantile(values[:half], np.linspace(0, 1, 9)))[1:-1]
        bins, counts = np.digitize(values, edges), np.zeros((9, 4))
        np.add.at(counts, (bins[:half], label[:half]), 1)
        accuracy = (counts.argmax(1)[bins[half:]] == label[half:]).mean()
        assert accuracy < majority + 0.08, name
        means = [values[label == k].mean() for k in range(4)]
        assert np.ptp(means) < 0.3 * values.std() + 1e-9, name


def test_the_first_clip_of_a_person_does_not_know_their_classes():
    """Streams whose key is filled up with zeros would be one stream: see `stream`."""
    people = [(seed, subject) for seed in range(2000, 2025) for subject in range(16)]
    plays = [task.script(*person, 0, TASKS["headline"]) for person in people]
    place = [play.events[0].apex / len(play) for play, _ in plays]
    negative = [label == 1 for _, label in plays]
    # 3 standard errors; 0.27 when they were one
    assert abs(np.corrcoef(place, negative)[0, 1]) < 0.15


def test_distractors_do_not_know_the_class():
    plays = scripts(1200, TASKS["headline"])
    label = np.array([label for _, label in plays])
    count = np.zeros((4, len(AUS)))
    for (play, _), k in zip(plays, label, strict=True):
        for event in play.events[1:]:
            ((name, weight),) = event.aus
            assert weight == 1 or name == "lid"
            if name != "lid":
                count[k, AUS.index(name)] += 1
    used = count.sum(0) > 0
    expected = count.sum(1, keepdims=True) * count.sum(0) / count.sum()
    excess = ((count - expected) ** 2)[:, used] / expected[:, used]
    freedom = 3 * (used.sum() - 1)
    assert excess.sum() < freedom + 4 * np.sqrt(2 * freedom)  # chi-square


@pytest.mark.parametrize("density", [0.0, 0.5, 1.5])
def test_the_density_of_distractors_follows_its_dial(density):
    plays, clear = scripts(200, Dials(distractors=density)), scripts(20, Dials(distractors=0.0))
    begun = sum(e.onset > 0 for play, _ in plays for e in play.events[1:])
    # they follow each other: of mean length 7.5, with exponential gaps
    due = sum(len(play) for play, _ in plays) / (24 / density + 7.5) if density else 0
    assert begun == pytest.approx(due, rel=0.2)
    for (with_them, _), (without, _) in zip(plays[:20], clear, strict=True):
        assert with_them.events[0] == without.events[0]


def test_nothing_special_happens_at_the_ends_of_a_clip():
    plays = [play for play, _ in scripts(600, Dials(n_frames=(24, 24), distractors=2.0))]
    busy = torch.stack([play.envelope[:, 1:].sum(1) for play in plays]).mean(0)
    assert (busy - busy.mean()).abs().max() < 0.25 * busy.mean()
    sway = torch.stack([play.shift for play in plays]).std(0)
    assert (sway / sway.mean() - 1).abs().max() < 0.12


def test_people_have_their_classes_in_uneven_shares():
    labels = np.array([[task.script(1600, s, c, Dials())[1] for c in range(10)] for s in range(40)])
    shares = np.stack([(labels == k).mean(1) for k in range(4)])
    assert shares.mean(1) == pytest.approx(task.SHARES, abs=0.08)
    by_chance = np.sqrt(np.array(task.SHARES) * (1 - np.array(task.SHARES)) / 10)
    assert (shares.std(1) > 1.2 * by_chance).all()


def test_magnification_is_exact_and_touches_the_face_alone():
    for i in range(5):
        one, _ = task.script(1700, 0, i, Dials(magnification=1.0))
        four, _ = task.script(1700, 0, i, Dials(magnification=4.0))
        assert torch.equal(four.au, 4 * one.au)
        assert four.events[0].peak == 4 * one.events[0].peak
        for name in ("shift", "yaw", "blink", "light", "gain", "noise_key", "envelope"):
            assert torch.equal(getattr(one, name), getattr(four, name))


@pytest.mark.parametrize("gamma", [0.5, 3.0])
def test_another_camera_darkens_or_brightens_and_nothing_else(gamma):
    """By one curve, rounded to 8 bits; the still network knows the pictures less well."""
    plain, other = (task.record(1750, Dials(gamma=g), range(2), 3) for g in (1.0, gamma))
    for name in ("lengths", "label", "onset", "apex", "offset", "envelope"):
        assert torch.equal(getattr(plain, name), getattr(other, name))
    curve = 255 * (plain.frames / 255.0) ** gamma
    assert ((other.frames - curve).abs() <= 0.501).all()
    images, label = akmnet_training.stills(range(5000, 5010), "akmnet_stills_test", 12)
    with torch.no_grad():
        known, strange = (
            (task.pretrained()(images**g).argmax(1) == label).float().mean() for g in (1.0, gamma)
        )
    assert strange < known - 0.05


def test_skin_never_folds_at_full_magnification():
    largest = units(task.PEAK_PX[1] + task.DISTRACTOR_PX[1], task.FACE_PX)
    assert task.MAX_MAGNIFICATION * largest <= FOLD_OVER
    for ways in task.PROTOTYPES.values():
        for way in ways:
            for names in ZONES.values():
                assert sum(abs(weight) for name, weight in way.items() if name in names) <= 1


@pytest.mark.parametrize(("centrality", "width"), [(0.0, 0.8), (0.5, 0.4), (1.0, 0.0)])
def test_centrality_moves_the_apex_to_the_middle(centrality, width):
    apex = facts(scripts(300, Dials(share=(0.4, 0.4), centrality=centrality)))["apex"]
    assert apex.std() == pytest.approx(width / np.sqrt(12), abs=0.025)
    assert apex.mean() == pytest.approx(0.5, abs=0.04)


def test_recordings_repeat_and_do_not_depend_on_how_many_there_are():
    dials = TASKS["loose"]
    few = task.record.__wrapped__(1800, dials, [0], 2)
    more = task.record.__wrapped__(1800, dials, [0, 1], 3)
    n = int(few.lengths.sum())
    assert few.frames.dtype == torch.uint8
    assert few.frames.shape == (n, 48, 48)
    assert torch.equal(few.frames, more.frames[:n])
    assert torch.equal(few.lengths, more.lengths[:2])
    assert more.names == ["s00_c00", "s00_c01", "s00_c02", "s01_c00", "s01_c01", "s01_c02"]
    assert [int(part.argmax()) for part in more.split(more.envelope)] == more.apex.tolist()
    assert repr(task.who(1800, 0)) != repr(task.who(1801, 0))


def test_a_clip_shows_its_own_person():
    for seed in (1800, 1801):  # painted faces are kept between recordings
        clips = task.record.__wrapped__(seed, TASKS["headline"], range(2), 1)
        for subject, frames in enumerate(clips.split(clips.frames)):
            face = Face(task.who(seed, subject), size=task.FACE_PX, colour=False)
            play, _ = task.script(seed, subject, 0, TASKS["headline"])
            due = (face.render(play)[:, 0, task.FACE, task.FACE] * 255).round()
            assert torch.equal(frames, due.to(torch.uint8))


def ridge(x: np.ndarray, label: np.ndarray, fold: np.ndarray) -> float:
    """Accuracy of ridge regression on class columns, other people in the test."""
    hits, wanted = 0, np.eye(4)[label]
    for k in range(fold.max() + 1):
        test = fold == k
        mean, sd = x[~test].mean(0), x[~test].std(0) + 1e-3
        a, b = ((x[rows] - mean) / sd for rows in (~test, test))
        kernel = a @ a.T + 0.3 * x.shape[1] * np.eye(len(a))
        said = b @ a.T @ np.linalg.solve(kernel, wanted[~test] - wanted[~test].mean(0))
        hits += ((said + wanted[~test].mean(0)).argmax(1) == label[test]).sum()
    return hits / len(label)


def test_the_class_can_be_seen_at_the_apex_and_less_elsewhere():
    clips = task.record(1900, TASKS["headline"])
    label = clips.label.numpy()
    fold = grouped_folds([str(s) for s in clips.subject.tolist()], 4)
    frames = [part.double().flatten(1).numpy() for part in clips.split(clips.frames)]
    apex = np.stack([f[k] - f[0] for f, k in zip(frames, clips.apex.tolist(), strict=True)])
    mean = np.stack([f.mean(0) - f[0] for f in frames])
    late = np.stack([f[-2] - f[0] for f in frames])
    majority = np.bincount(label).max() / len(label)
    scores = [ridge(x, label, fold) for x in (apex, mean, late)]
    assert scores[0] > majority + 0.3
    assert scores[0] > scores[2] + 0.2


# ---- the benchmark: who learns, who is tested ----------------------------------------------------


SMALL = {"subjects": 3, "tested": 4, "clips": 2}


def test_a_fold_has_people_of_its_own_and_all_folds_are_tested_on_the_same():
    sources = [task.benchmark(1990, fold, **SMALL) for fold in range(3)]
    tables = [source.table for source in sources]
    learns = [
        {*table["person"][~source.tested]} for table, source in zip(tables, sources, strict=True)
    ]
    tested = [table[source.tested] for table, source in zip(tables, sources, strict=True)]
    assert [len(people) for people in learns] == [3, 3, 3]
    assert len(set.union(*learns, {*tested[0]["person"]})) == 3 * 3 + 4
    for other, source in zip(tested[1:], sources[1:], strict=True):
        assert other.reset_index(drop=True).equals(tested[0].reset_index(drop=True))
        for row in np.flatnonzero(source.tested):
            assert np.array_equal(source.pixels(row), sources[0].pixels(row))
    for source in sources:
        lengths = [len(source.pixels(row)) for row in range(len(source.table))]
        assert lengths == source.table["T"].tolist() == [len(e) for e in source.envelope]
        assert [int(e.argmax()) for e in source.envelope] == source.table["apex"].tolist()


@pytest.mark.parametrize("name", ["resnet", "vgg"])
def test_what_a_network_sees_of_a_clip_is_its_own(name):
    source = task.benchmark(1990, 1, **SMALL)
    clip = source.clips(network=name, crop=0.0, method="", length=1, alpha=0.0)
    net = task.pretrained(name).frame_net
    for row in (0, 7, 13):  # of learners and of those tested
        frames = torch.from_numpy(source.pixels(row)).float() / 255
        expected = nn.Sequential(*list(net)[: {"resnet": 3, "vgg": 16}[name]])(frames)
        torch.testing.assert_close(clip(row, None), expected, atol=1e-5, rtol=1e-5)


# ---- the still network ---------------------------------------------------------------------------


RESULTS = project_root() / "data" / "results" / "akmnet_still_network__full__cpu.csv"


def about_of(file) -> dict:
    with safe_open(file, "pt") as opened:
        return json.loads(opened.metadata()["about"])


@pytest.mark.parametrize(
    ("name", "arm", "limit"), [("resnet", "still network", 100_000), ("vgg", "vgg", 130_000)]
)
def test_a_still_network_tells_its_origin_and_its_score_is_the_row_in_the_results(name, arm, limit):
    file = task.weights_file(name)
    about = about_of(file)
    assert file.stat().st_size <= limit
    assert about["recipe"] == asdict(PLANS[name])
    table = pd.read_csv(RESULTS).loc[lambda t: t["arm"] == arm]
    for metric, value in about["score"].items():
        rows = table.loc[table["metric"] == metric, ["value", "n", "seed"]]
        assert rows.to_numpy().tolist() == [[value, about["n"], about["seed"]]]


@pytest.mark.parametrize("name", ["resnet", "vgg"])
def test_a_still_network_knows_people_whom_it_has_not_met(name):
    images, label = akmnet_training.stills(range(5000, 5010), "akmnet_stills_test", 12)
    with torch.no_grad():
        hits = (task.pretrained(name)(images).argmax(1) == label).float().mean().item()
    score = about_of(task.weights_file(name))["score"]["accuracy"]
    assert hits == pytest.approx(score, abs=0.12)


@pytest.mark.parametrize("name", ["resnet", "vgg"])
def test_the_recipe_makes_a_network_and_writes_it_whole(tmp_path, name):
    plan = Plan(seed=3, identities=2, test=2, frames=8, epochs=1, batch=8)
    files = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    rows = [akmnet_training.make(plan, file, name) for file in files]
    assert {row.split for row in rows[0]} == {f"akmnet_stills{'_vgg' * (name == 'vgg')}_test"}
    assert files[0].read_bytes() == files[1].read_bytes()
    assert [row.value for row in rows[0]] == [
        about_of(files[0])["score"][m] for m in ("accuracy", "uar")
    ]
    other = akmnet_training.make(replace(plan, seed=4), files[1], name)
    assert len(other) == 2
    assert files[0].read_bytes() != files[1].read_bytes()


def test_a_file_of_another_network_is_refused(tmp_path, monkeypatch):
    own, file = task.weights_file("resnet"), tmp_path / "still_resnet.safetensors"
    whole, vgg = own.read_bytes(), task.weights_file("vgg").read_bytes()
    other = save({name: t[:1] for name, t in load_file(own).items()})
    monkeypatch.setattr(task, "weights_file", lambda name: file)
    for content in (None, b"torn", whole[:-8], other, vgg):
        if content is not None:
            file.write_bytes(content)
        refused(task.pretrained.__wrapped__, "still_resnet.safetensors", "make stills")
    file.write_bytes(whole)
    assert not task.pretrained.__wrapped__().training
    refused(lambda: task.still_network("vgg16"), "still network", "vgg16")


def test_stills_are_of_other_people_and_all_classes():
    images, labels = akmnet_training.stills(range(2), "akmnet_stills", 12)
    assert images.shape == (24, 1, 48, 48)
    assert 0 <= images.min() < images.max() <= 1
    assert torch.bincount(labels).tolist() == [6] * 4
    elsewhere, _ = akmnet_training.stills([0], "akmnet_stills_test", 12)
    assert not torch.equal(elsewhere, images[:12])


OFF = [{"n_frames": (4, 16)}, {"n_frames": (20, 16)}, {"share": (0.1, 0.5)}, {"share": (0.5, 1.1)}]
OFF += [{"centrality": 1.5}, {"distractors": -1.0}, {"distractors": np.nan}, {"magnification": 5.0}]
OFF += [{"gamma": 0.0}, {"gamma": 6.0}]


@pytest.mark.parametrize("dial", OFF, ids=str)
def test_off_the_dial(dial):
    refused(lambda: Dials(**dial), "off the dial")


def test_phase_based_magnification_moves_pictures_and_leaves_the_first():
    clips = task.record(1990, replace(TASKS["headline"], magnification=1.0), range(4), 4)
    plain, magnified = task.pictures(clips), task.pictures(clips, 3.0)
    starts = (clips.lengths.cumsum(0) - clips.lengths).tolist()
    torch.testing.assert_close(magnified[starts], plain[starts], atol=1e-5, rtol=0)
    assert 0 <= magnified.min() < magnified.max() <= 1
    moved = [float((p - p[0]).abs().mean()) for p in clips.split(plain)]
    further = [float((m - m[0]).abs().mean()) for m in clips.split(magnified)]
    assert min(np.divide(further, moved)) > 1.1  # noise and light are in both
    assert np.mean(np.divide(further, moved)) > 1.6


@pytest.mark.parametrize("sizes", [{"subjects": 0}, {"tested": 0}, {"clips": 0}], ids=str)
def test_bad_requests(sizes):
    refused(lambda: task.benchmark(1800, **SMALL | sizes), "at least 1")
