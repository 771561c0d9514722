from dataclasses import dataclass

import pytest
from refusals import refused

from micromacro.arms import check_arm, read_arm, units_of


@dataclass(frozen=True)
class Arm:
    parts: tuple[str, ...] = ("eyes", "mouth")
    extra: tuple[str, ...] = ()
    depth: int = 2
    trained: bool = True

    def __post_init__(self):
        choices = {"parts": ("eyes", "mouth"), "extra": ("sound",), "depth": (1, 2, 3)}
        check_arm(self, choices, {"depth": not self.trained})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 4}, ["depth 4", "choose 1, 2, 3"]),
        ({"parts": ["eyes", "nose"]}, ["parts 'nose'"]),
        ({"parts": []}, ["parts=()", "leave it out"]),
        ({"parts": ["eyes", "eyes"]}, ["parts", "twice"]),
        ({"trained": False, "depth": 3}, ["depth=3", "does nothing", "trained=False"]),
        ({"width": 1}, ["option of an arm 'width'", "depth"]),
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
    units = units_of(arms, ["b", "a", "one out"], vars(Arm()), n_folds=3, **common)
    assert list(units) == ["b", "a", "one out"]
    first = {"data": {"people": 8, "light": 0.5}, "arm": {"depth": 1}, "seed": 3, "fold": 0}
    assert units["b"][0] == first | {"steps": 9, "folds": 2}
    assert [(p["seed"], p["fold"]) for p in units["a"]] == [(3, 0), (3, 1), (4, 0), (4, 1)]
    assert units["a"][0]["data"] == {"people": 8}
    assert len(units["one out"]) == 2 * 3
    assert units["one out"][0]["folds"] is None
    refused(lambda: units_of(arms, ["c"], (), data={}, seeds=[0]), "arm 'c'", "one out")
