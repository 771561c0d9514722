"""Arms of an experiment: their options checked, and the units that a profile makes of them.

An arm is a dataclass whose defaults are the reference variant. A table of arms, name -> options, names
what each does otherwise; an option that is no field of the arm belongs to its data.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import product
from typing import TypeVar

from micromacro.cache import hashable
from micromacro.errors import BadInput, check_choice

A = TypeVar("A")


def check_arm(arm: object, choices: Mapping[str, Iterable], idle: Mapping[str, bool]) -> None:
    """Refuse an arm whose row would have an untrue name; for its ``__post_init__``.

    Args:
        arm: The arm. A field that is a tuple holds each of its choices at most once, and is empty
            only by default.
        choices: Field -> the values that it may have; of a tuple, its parts.
        idle: Field -> whether it does nothing, whatever its value, beside the other fields.

    Raises:
        BadInput: A value that is no choice; one that is there twice; one that does nothing, since it
            is not the default of an idle field.
    """
    for name, among in choices.items():
        value = getattr(arm, name)
        for part in value if isinstance(value, tuple) else [value]:
            check_choice(name, part, among)
    for name, value in vars(arm).items():
        default, fault = getattr(type(arm), name), ""
        if isinstance(value, tuple) and (len({*value}) < len(value) or (default and not value)):
            fault = "holds nothing, or something twice"
        elif idle.get(name) and value != default:
            fault = f"does nothing beside the other options of {arm}"
        if fault:
            raise BadInput(f"{name}={value!r}", fault, "leave it out")


def read_arm(kind: type[A], options: Mapping[str, object]) -> A:
    """An arm from the options of a unit, where a tuple has become a list.

    Raises:
        BadInput: An option that is no field of the arm; as the arm itself.
    """
    for name in options:
        check_choice("option of an arm", name, [field.name for field in fields(kind)])
    return kind(**hashable(options))


def units_of(
    arms: Mapping[str, Mapping],
    names: Iterable[str],
    own: Container[str],
    *,
    data: Mapping[str, object],
    seeds: Sequence[int],
    n_folds: int = 1,
    **run: object,
) -> dict[str, list[dict]]:
    """The units of some arms, seed by seed and fold by fold.

    Args:
        arms: Table of arms: name -> options. An option replaces the argument of the same name in
            `run`, or goes to the arm, or else to the data.
        names: The arms to compute.
        own: Names of the options that go to the arm.
        data: Options of the data that all arms share.
        seeds: Random seeds.
        n_folds: Number of folds where `run` has no "folds", or None for one person each.
        run: All other arguments of the unit.

    Returns:
        Arm -> parameters of its units: data, arm, seed, fold, and those of `run`.

    Raises:
        BadInput: An arm that is not in the table.
    """
    units = {}
    for name in names:
        check_choice("arm", name, arms)
        params = {"data": dict(data), "arm": {}, **run}
        for option, value in arms[name].items():
            place = params if option in run else params["arm" if option in own else "data"]
            place[option] = value
        pairs = product(seeds, range(params.get("folds") or n_folds))
        units[name] = [params | {"seed": seed, "fold": fold} for seed, fold in pairs]
    return units
