"""What experiments share: arms that keep their names, grids, checkpoints that go, rows."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated

import numpy as np
import pandas as pd
import pytest
from refusals import refused

from micromacro.arms import check_arm, checkpoint, columns, plan, read_arm, score_rows, units_of


@dataclass(frozen=True)
class Arm:
    parts: Annotated[tuple[str, ...], ("eyes", "mouth")] = ("eyes", "mouth")
    extra: Annotated[tuple[str, ...], ("sound",)] = ()
    depth: Annotated[int, (1, 2, 3)] = 2
    trained: bool = True
    share: Annotated[float, 0.1, 1] = 1.0

    def __post_init__(self):
        check_arm(self, depth=not self.trained)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 4}, ["depth 4", "choose 1, 2, 3"]),
        ({"parts": ["eyes", "nose"]}, ["parts 'nose'"]),
        ({"parts": []}, ["parts=()", "leave it out"]),
        ({"parts": ["eyes", "eyes"]}, ["parts", "twice"]),
        ({"trained": False, "depth": 3}, ["depth=3", "does nothing", "trained=False"]),
        ({"width": 1}, ["option of an arm 'width'", "depth"]),
        ({"share": 0}, ["share=0", "give 0.1 to 1"]),
        ({"share": float("nan")}, ["share=nan"]),
    ],
)
def test_an_arm_with_an_untrue_name_is_refused(options, words):
    refused(lambda: read_arm(Arm, options), *words)


def test_an_arm_is_read_from_json():
    assert read_arm(Arm, {}) == Arm()
    assert read_arm(Arm, {"parts": ["mouth"], "extra": ["sound"]}) == Arm(("mouth",), ("sound",))
    assert read_arm(Arm, {"trained": False, "depth": 2}) == Arm(trained=False)  # the default


def test_options_go_to_the_run_the_arm_or_the_data():
    arms = {"a": {}, "b": {"depth": 1, "light": 0.5, "steps": 9}, "one out": {"folds": None}}
    common = {"data": {"people": 8}, "seeds": [3, 4], "steps": 5, "folds": 2}
    units = units_of(arms, vars(Arm()), names=["b", "a", "one out"], n_folds=3, **common)
    assert list(units) == ["b", "a", "one out"]
    first = {"data": {"people": 8, "light": 0.5}, "arm": {"depth": 1}, "seed": 3, "fold": 0}
    assert units["b"][0] == first | {"steps": 9, "folds": 2}
    assert [(p["seed"], p["fold"]) for p in units["a"]] == [(3, 0), (3, 1), (4, 0), (4, 1)]
    assert units["a"][0]["data"] == {"people": 8}
    assert len(units["one out"]) == 2 * 3
    assert units["one out"][0]["folds"] is None
    refused(lambda: units_of(arms, (), names=["c"], seeds=[0]), "arm 'c'", "one out")


def test_an_arm_has_its_own_seeds_unless_others_are_asked_for():
    profiles = {"full": PROFILES["full"] | {"folds": 1, "arms": {"a": {}}}}
    arms, sweeps = {"a": {}, "later": {"seeds": [8, 9]}}, {"new": {"later": {}}}

    def seeds(**settings):
        units = units_of(arms, (), **plan("full", profiles, sweeps, [], sweep=1, **settings))
        assert all(params.keys() >= {"data", "arm", "steps"} for params in units["later"])
        assert not any("seeds" in params for params in units["later"])
        return {name: [params["seed"] for params in of_arm] for name, of_arm in units.items()}

    assert seeds() == {"a": [*range(8)], "later": [8, 9]}
    assert seeds(seeds=[5]) == {"a": [5], "later": [5]}
    assert seeds(trial=1)["later"] == [*range(8)]  # nobody looks at reporting seeds meanwhile


TINY = {"steps": 2, "data": {"people": 2}}
PROFILES = {
    "smoke": {"arms": ("a",), "seeds": (1000,), "folds": 2, **TINY},
    "full": {"arms": {"a": {}, "b": {}}, "seeds": range(8), "folds": 2, "steps": 9, "trial": TINY},
    "paper": {"arms": ("a",), "seeds": (0,), "trial": {"data": {"sizes": [1]}}},
}
SWEEP = {"light": {"c": {}}, "gaps": {"d": {}}}


def asked(profile, **settings):
    return plan(profile, PROFILES, SWEEP, ["casme"], **settings)


def test_a_profile_is_what_a_notebook_does_not_ask_for():
    smoke = {"names": ["a"], "seeds": (1000,), "folds": 2, "device": "cpu", **TINY}
    assert asked("smoke", sweep=1, trial=True) == smoke | {"own_seeds": False}
    full = asked("full", sweep=1, device="cuda")
    assert full["names"] == ["a", "b", "c", "d"]
    assert (full["steps"], full["device"]) == (9, "cuda")
    assert "data" not in full
    tried = asked("full", trial=1, variants=["d"], seeds=[5], folds=3)
    assert tried == smoke | {"names": ["d"], "seeds": [5], "own_seeds": False, "folds": 3}
    assert PROFILES["full"]["steps"] == 9  # profiles stay as they are


def test_official_data_come_with_their_place_and_the_systems_own_arguments(monkeypatch, tmp_path):
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    data = {"dataset": "casme", "root": "x", "cache": str(tmp_path / "runs/official"), "crop": None}
    how = {"dataset": "casme", "data_root": "x", "crop": None}
    assert asked("paper", **how)["data"] == data
    assert asked("paper", **how, trial=1, sizes=[9])["data"] == data | {"sizes": [1]}
    refused(lambda: asked("paper", **how, folds=3), "folds=3", "leave it out")
    refused(lambda: asked("paper"), "synthetic")
    refused(lambda: asked("full", dataset="casme"), "casme")
    refused(lambda: asked("quick"), "quick", "smoke")


def unit(**_):
    """Stands for a unit of this module."""


def test_a_checkpoint_goes_when_its_block_ends_well(tmp_path):
    data = {"cache": str(tmp_path / "cache")}

    def train(*run, data=data, dies=False):
        with checkpoint(unit, data, *run) as file:
            file.parent.mkdir(parents=True, exist_ok=True)
            begun = file.exists()
            file.touch()
            if dies:
                raise KeyboardInterrupt
        return begun, file

    with pytest.raises(KeyboardInterrupt):
        train({"depth": 1}, 3, dies=True)
    assert not train({"depth": 1}, 4)[0]
    assert not train({"depth": 2}, 3)[0]
    begun, file = train({"depth": 1}, 3)
    assert begun
    assert not file.parent.exists()
    assert list(file.parents[1].iterdir()) == []
    with checkpoint(unit, {}, 3) as file:
        assert file is None


def test_other_data_are_another_checkpoint(tmp_path):
    labels = tmp_path / "labels.csv"
    data = {"cache": str(tmp_path), "root": str(labels)}
    places = set()
    for text in ("1", "2", "1"):
        labels.write_text(text)
        with checkpoint(unit, data, 0) as file:
            places.add(file)
    assert len(places) == 2


def test_columns_are_arrays_without_objects():
    table = pd.DataFrame({"clip": ["a", "bc"], "n": [1, 2], "blank": [True, False]})
    arrays = columns(table, table)
    assert [array.dtype.kind for array in arrays.values()] == ["U", "i", "b"]
    assert arrays["clip"].tolist() == ["a", "bc"]
    unknown = pd.DataFrame({"n_frames": pd.array([3, None], "Int64")})
    assert columns(unknown, ["n_frames"])["n_frames"].dtype.kind == "f"
    assert [*columns(unknown, ["n_frames"], "event_")] == ["event_n_frames"]


def test_rows_say_what_was_left_out():
    def rows(**params):
        units = [SimpleNamespace(params={"data": {}} | params)]
        return score_rows(units, {"pcc": np.float32(0.5)}, n=3)

    row = {"metric": "pcc", "value": 0.5, "n": 3, "dataset": "synthetic"}
    assert rows() == rows(folds=2) == [row | {"split": "people left out"}]
    (alone,) = rows(folds=None, data={"dataset": "casme"})
    assert alone == row | {"dataset": "casme", "split": "one person left out"}
