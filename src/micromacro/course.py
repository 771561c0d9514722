"""The course's notebooks: which there are, and the parameters each declares."""

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat

from micromacro.errors import BadInput
from micromacro.results import project_root

PROFILES = ("smoke", "full", "paper")
ADAPTERS = {  # data sets of each notebook beside "synthetic"; grows with the systems
    "04_mimamo_net": ("omg", "affwild", "affwild2"),
    "08_akmnet": ("casme", "casme2", "smic", "samm", "megc2019"),
}
NAME = re.compile(r"\d\d_[a-z0-9_]+")
_RESERVED = ("PROFILE", "OUT")  # what the batch itself sets


def choose(wanted: Sequence[str] | None = None) -> list[Path]:
    """Paths of the numbered notebooks, in order.

    Args:
        wanted: Numbers (``"4"``, ``"04"``) or names (``"04_mimamo_net"``); None means all.

    Raises:
        BadInput: A number or name that is not there, or no notebook at all.
    """
    folder = project_root() / "notebooks"
    there = {
        path.stem: path for path in sorted(folder.glob("*.ipynb")) if NAME.fullmatch(path.stem)
    }
    if not there:
        remedy = "run from the checkout, or set MICROMACRO_ROOT to it"
        raise BadInput(folder, "no numbered notebook there", remedy)
    chosen = set()
    for word in there if wanted is None else wanted:
        stem = str(word).removesuffix(".ipynb")
        found = [
            n for n in there if stem in (n, n[:2]) or (stem.isdigit() and f"{stem:0>2}" == n[:2])
        ]
        if not found:
            have = ", ".join(name[:2] for name in there)
            raise BadInput(f"notebook {word}", "there is none", f"choose among {have}")
        chosen.update(found)
    if not chosen:
        raise BadInput("notebooks", "none chosen", "name at least one, or leave it out for all")
    return [there[name] for name in sorted(chosen)]


def declared(path: Path) -> dict[str, object]:
    """Parameters of a notebook with their defaults: the literals of its cell ``parameters``.

    Raises:
        BadInput: No such cell, or it holds anything but ``NAME = literal``.
    """
    cells = nbformat.read(path, as_version=4).cells
    tagged = [c.source for c in cells if "parameters" in c.metadata.get("tags", ())]
    if len(tagged) != 1:
        raise BadInput(path.name, f"{len(tagged)} cells tagged parameters", "tag exactly one cell")
    try:
        return dict(_assignment(line) for line in ast.parse(tagged[0]).body)
    except (SyntaxError, ValueError) as error:
        remedy = "write only NAME = literal there"
        raise BadInput(f"{path.name}, cell parameters", str(error), remedy) from None


def injected(paths: Sequence[Path], profile: str, params: Mapping, out: Path) -> dict[Path, dict]:
    """What each notebook gets injected, checked before anything runs.

    A parameter goes to the notebooks that declare it; one that none declares is refused, where
    papermill would run with the defaults and say nothing.

    Raises:
        BadInput: Unknown profile or parameter, a value of another type than the default, or the
            profile ``paper`` with the synthetic data set.
    """
    if profile not in PROFILES:
        raise BadInput(f"profile {profile}", "there is none", f"choose among {', '.join(PROFILES)}")
    known = {path: declared(path) for path in paths}
    for name in params:
        if name in _RESERVED:
            raise BadInput(f"parameter {name}", "the batch sets it itself", "leave it out")
        if not any(name in defaults for defaults in known.values()):
            names = sorted({n for defaults in known.values() for n in defaults} - {*_RESERVED})
            raise BadInput(
                f"parameter {name}", "no such parameter", f"there are {', '.join(names)}"
            )
    return {path: _fit(path, profile, params, known[path], out) for path in paths}


def _fit(path: Path, profile: str, params: Mapping, defaults: Mapping, out: Path) -> dict:
    if missing := [name for name in _RESERVED if name not in defaults]:
        remedy = "declare it in the cell tagged parameters"
        raise BadInput(path.name, f"no parameter {missing[0]}", remedy)
    mine = {name: value for name, value in params.items() if name in defaults}
    for name, value in mine.items():
        if not _accepts(defaults[name], value):
            fault = f"{value!r} given, but the default {defaults[name]!r} is of another type"
            raise BadInput(f"parameter {name} of {path.stem}", fault, "give a value of that type")
    if profile == "paper" and {**defaults, **mine}.get("DATASET") == "synthetic":
        remedy = "give DATASET and DATA_ROOT of the licensed data, or choose the profile full"
        raise BadInput("profile paper", "needs a real data set", remedy)
    dataset = {**defaults, **mine}.get("DATASET", "synthetic")
    known = ("synthetic", *ADAPTERS.get(path.stem, ()))
    if dataset not in known:
        remedy = f"choose among {', '.join(known)}, or leave this notebook out"
        raise BadInput(f"DATASET {dataset} of {path.stem}", "there is no adapter for it", remedy)
    if dataset != "synthetic" and profile != "paper":
        remedy = "choose the profile paper"
        raise BadInput(f"profile {profile} of {path.stem}", f"does not use {dataset}", remedy)
    return {"PROFILE": profile, **mine, "OUT": str(out)}


def _accepts(default: object, value: object) -> bool:
    if default is None:  # no type to go by
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    if isinstance(default, list | tuple):
        return isinstance(value, list | tuple)
    return isinstance(value, type(default))


def _assignment(line: ast.stmt) -> tuple[str, object]:
    targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
    if len(targets) != 1 or not isinstance(targets[0], ast.Name) or isinstance(line, ast.AugAssign):
        raise ValueError(f"not an assignment: {ast.unparse(line)}")
    try:
        return targets[0].id, ast.literal_eval(line.value)
    except ValueError:
        raise ValueError(f"not a literal: {ast.unparse(line)}") from None
