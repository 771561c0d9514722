"""What the experiments of all systems share: sources, arms, grids of units, checkpoints, rows.

An experiment has a source for the benchmark and one for each official data set: a `Source`, or
one of its own. An arm is a dataclass whose defaults are the reference variant. A table of arms,
name -> options, names what each does otherwise; an option that is neither a field of the arm nor an
argument of its run belongs to the data. Profiles say what is computed unless a notebook asks for
something else. One unit trains and tests one arm.
"""

import contextlib
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd

from micromacro.cache import hashable
from micromacro.datasets.table import check_profile
from micromacro.errors import BadInput, check_choice, check_dials, check_whole
from micromacro.files import project_root
from micromacro.units import unit_key

A = TypeVar("A")
Table = Mapping[str, Mapping]


class Source(NamedTuple):
    """Clips of a data set, from the actor or from official files, and how to load one.

    Attributes:
        clips: A row a clip or video; the columns are the system's.
        load: Gives what a network sees, as the system says.
        sizes: Options of the networks.
        recipe: How to train; of several networks, name -> recipe.
        events: Table of what shows when; None where nobody knows.
        missing: Names of clips that are listed but not there.
    """

    clips: pd.DataFrame
    load: Callable
    sizes: Mapping[str, object]
    recipe: object
    events: pd.DataFrame | None = None
    missing: tuple[str, ...] = ()


# ---- arms ----------------------------------------------------------------------------------------


def check_arm(arm: object, **idle: bool) -> None:
    """Refuse an arm whose row would have an untrue name; for its ``__post_init__``.

    Args:
        arm: The arm. A field that is annotated ``Annotated[type, choices]`` has one of these
            values; a tuple holds each of its choices at most once, and is empty only by default.
            One that is annotated as a dial is a number in its range (`check_dials`).
        idle: Of a field, whether it does nothing, whatever its value, beside the other fields.

    Raises:
        BadInput: A value that is no choice, or off its dial; one that is there twice; one that does
            nothing, since it is not the default of an idle field.
    """
    check_dials(arm)
    for field in fields(arm):
        name, default, fault = field.name, field.default, ""
        value, choices = getattr(arm, name), getattr(field.type, "__metadata__", ())
        for part in value if isinstance(value, tuple) else [value]:
            if len(choices) == 1:
                check_choice(name, part, *choices)
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


# ---- grids of units ------------------------------------------------------------------------------


def joined(groups: Mapping[str, Table]) -> dict[str, Mapping]:
    """The tables of all groups of a sweep as one."""
    return {name: options for table in groups.values() for name, options in table.items()}


def plan(
    profile: str,
    profiles: Mapping[str, Mapping],
    sweeps: Mapping[str, Table],
    datasets: Iterable[str],
    *,
    dataset: str = "synthetic",
    data_root: str | None = None,
    seeds: Sequence[int] | None = None,
    variants: Sequence[str] | None = None,
    folds: int | None = None,
    sweep: int = 0,
    device: str = "cpu",
    trial: bool | int = False,
    **official: object,
) -> dict:
    """What a notebook asks of an experiment: the arguments of `units_of`, but the tables of arms.

    Args:
        profile: "smoke" and "full" on the benchmark; "paper" on official data.
        profiles: Profile -> ``arms`` and ``seeds``, what is computed unless the notebook asks for
            others; ``folds``, their number, unless a split says who is tested; ``trial``, what a
            trial has in place of all that; the other arguments of the unit, ``data`` among them.
        sweeps: Group -> table of arms.
        datasets: Names of the official data sets.
        dataset: "synthetic", or in "paper" one of these.
        data_root: Folder of the official data, as data/README.md shows.
        seeds: Random seeds; None for the profile's.
        variants: Names of arms; None for the profile's.
        folds: Number of folds; None for the profile's.
        sweep: 1 adds the arms of `sweeps` in "full".
        device: Where to compute.
        trial: Try the path in minutes: in "full" with the sizes of "smoke", in "paper" with tiny
            networks. The numbers mean nothing.
        official: Further arguments of the official source, JSON values.

    Raises:
        BadInput: An unknown profile or data set; two that do not go together; folds where there are
            none.
    """
    check_profile(profile, dataset, datasets)
    run = dict(profiles[profile])
    run |= run.get("trial", {}) if trial else {}
    if folds is not None and "folds" not in run:
        raise BadInput(f"folds={folds}", "the split is fixed", "leave it out")
    run |= {} if folds is None else {"folds": check_whole("folds", folds)}
    run |= {"seeds": seeds or run["seeds"], "device": device}
    run["own_seeds"] = profile == "full" and not (seeds or trial)
    if profile == "paper":
        run["data"] = {"dataset": dataset, "root": str(data_root), **official} | run.get("data", {})
        run["data"]["cache"] = str(project_root() / "runs" / "official")
    swept = joined(sweeps) if sweep and profile == "full" else ()
    run["names"] = [*(variants or run["arms"]), *swept]
    return {name: value for name, value in run.items() if name not in ("arms", "trial")}


def units_of(
    arms: Table,
    own: Container[str],
    *,
    names: Iterable[str],
    seeds: Sequence[int],
    own_seeds: bool = True,
    data: Mapping[str, object] = MappingProxyType({}),
    n_folds: int = 1,
    **run: object,
) -> dict[str, list[dict]]:
    """The units of some arms, seed by seed and fold by fold.

    Args:
        arms: Table of arms: name -> options. An option replaces the argument of the same name,
            `seeds` or one in `run`, or goes to the arm, or else to the data.
        own: Names of the options that go to the arm.
        names: The arms to compute.
        seeds: Random seeds.
        own_seeds: Whether an arm's option "seeds" counts; not where seeds are asked for.
        data: Options of the data that all arms share.
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
        params = {"data": dict(data), "arm": {}, "seeds": seeds, **run}
        for option, value in arms[name].items():
            place = params if option in params else params["arm" if option in own else "data"]
            place[option] = value
        its_own = params.pop("seeds")
        pairs = product(its_own if own_seeds else seeds, range(params.get("folds") or n_folds))
        units[name] = [params | {"seed": seed, "fold": fold} for seed, fold in pairs]
    return units


# ---- one unit ------------------------------------------------------------------------------------


@contextlib.contextmanager
def checkpoint(unit: Callable, data: Mapping, *run: object) -> Iterator[Path | None]:
    """Where a unit on official data writes its training while that is under way.

    Killed and called again, the training goes on from there, with the same result. The file has the
    unit's key in its path, so that another training, or one on other data, begins anew.

    Args:
        unit: The unit's function.
        data: Its parameter of that name; ``data["cache"]`` is the folder of checkpoints.
        run: Its other parameters, JSON values.

    Yields:
        A file in a folder of its own, which goes when the block ends without an error; None where
        the data have no ``cache``.
    """
    if "cache" not in data:
        yield None
        return
    folder = Path(data["cache"], "checkpoints", unit_key(unit, {"data": data, "run": run}))
    yield folder / "training.pt"
    shutil.rmtree(folder, ignore_errors=True)


def columns(table: pd.DataFrame, names: Iterable[str], start: str = "") -> dict[str, np.ndarray]:
    """Columns as arrays for npz, which without pickle holds no objects, as pandas' texts are.

    Args:
        table: The table.
        names: Of its columns.
        start: What the arrays' names have before these.
    """
    arrays = {start + name: table[name].to_numpy() for name in names}
    return {name: np.array(a.tolist()) if a.dtype == object else a for name, a in arrays.items()}


def score_rows(units: Sequence, scores: Mapping[str, float], **more: object) -> list[dict]:
    """Scores of one arm and seed as fields of rows, for `results.unit_rows`.

    Args:
        units: The units, all folds of them.
        scores: Metric -> value.
        more: Fields that all of them have: ``n``, the number of clips, and the like.
    """
    alone = units[0].params.get("folds", 1) is None
    shared = {"dataset": units[0].params["data"].get("dataset", "synthetic"), **more}
    shared["split"] = "one person left out" if alone else "people left out"
    return [{**shared, "metric": k, "value": float(v)} for k, v in scores.items()]
