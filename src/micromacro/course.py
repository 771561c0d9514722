"""The course's notebooks: which there are, the parameters each declares, the units each reads."""

import ast
import importlib
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat

from micromacro import units
from micromacro.errors import BadInput, check_choice
from micromacro.files import project_root

PROFILES = ("smoke", "full", "paper")
ADAPTERS = {  # data sets of each notebook beside "synthetic"; grows with the systems
    "04_mimamo_net": ("omg", "affwild", "affwild2"),
    "06b_spotting_ablation": ("samm-lv", "casme-squared"),
    "08_akmnet": ("casme", "casme2", "smic", "samm", "megc2019"),
}


def choose(notebooks: str | None = None) -> list[Path]:
    """Paths of the numbered notebooks, in order.

    Args:
        notebooks: Numbers or names (``"4 05 08_akmnet"``); None means all.

    Raises:
        BadInput: A number or name that is not there, or no notebook at all.
    """
    folder = project_root() / "notebooks"
    paths = sorted(folder.glob("[0-9][0-9]*_*.ipynb"))  # 04_mimamo_net, 04b_mimamo_ablation
    if not paths:
        remedy = "run from the checkout, or set MICROMACRO_ROOT to it"
        raise BadInput(folder, "no numbered notebook there", remedy)
    if notebooks is None:
        return paths
    remedy = f"choose among {', '.join(path.stem.partition('_')[0] for path in paths)}"
    chosen = set()
    for word in notebooks.replace(",", " ").split():
        start = word.zfill(2) if word.isdigit() else word.removesuffix(".ipynb")
        matching = [path for path in paths if f"{path.stem}_".startswith(f"{start}_")]
        if not matching:
            raise BadInput(f"notebook {word}", "there is none", remedy)
        chosen.update(matching)
    if not chosen:
        raise BadInput("notebooks", "none chosen", remedy)
    return sorted(chosen)


def declared(path: Path) -> dict[str, object]:
    """Parameters of a notebook with their defaults: the literals of its cell ``parameters``.

    Raises:
        BadInput: No such cell, or it holds anything but ``NAME = literal``.
    """
    cells = nbformat.read(path, as_version=4).cells
    tagged = [c.source for c in cells if "parameters" in c.metadata.get("tags", ())]
    values, fault = {}, f"{len(tagged)} cells tagged parameters"
    try:
        (source,) = tagged
        for line in ast.parse(source).body:
            fault = f"not NAME = literal: {ast.unparse(line)}"
            (target,) = line.targets if isinstance(line, ast.Assign) else [line.target]
            values[target.id] = ast.literal_eval(line.value)
    except (SyntaxError, ValueError, AttributeError):
        remedy = "tag exactly one cell, and write only NAME = literal there"
        raise BadInput(f"{path.name}, cell parameters", fault, remedy) from None
    return values


def injected(paths: Sequence[Path], profile: str, params: Mapping) -> dict[Path, dict]:
    """What each notebook gets injected beside its ``OUT``, checked before anything runs.

    A parameter goes to the notebooks that declare it; one that none declares is refused, where
    papermill would run with the defaults and say nothing.

    Raises:
        BadInput: Unknown profile or parameter, a value of another type than the default, or a
            profile and a data set that do not belong together.
    """
    check_choice("profile", profile, PROFILES)
    defaults = {path: declared(path) for path in paths}
    names = sorted(set().union(*defaults.values()) - {"PROFILE", "OUT"})  # the batch's own
    for name, value in params.items():
        check_choice("parameter", name, names)
        try:
            json.dumps(value)
        except TypeError as error:
            remedy = "give numbers, strings, True, False, None, or lists of them"
            raise BadInput(f"parameter {name}", str(error), remedy) from None
    values = {}
    for path in paths:
        mine = {name: value for name, value in params.items() if name in defaults[path]}
        for name, value in mine.items():
            _check_type(f"parameter {name} of {path.stem}", value, defaults[path][name])
        _check_data(path.stem, profile, {**defaults[path], **mine})
        for name in ("DATA_ROOT", "WEIGHTS", "WEIGHTS_FILE"):
            # As the user means a path, not from the notebook's folder.
            if isinstance(value := mine.get(name), str) and Path(value).exists():
                mine[name] = str(Path(value).resolve())
        values[path] = {"PROFILE": profile, **mine}
    return values


def _check_type(name: str, value: object, default: object) -> None:
    alike = type(value) is type(default) or (type(value), type(default)) == (int, float)
    if default is not None and not alike:  # None says nothing about the type
        fault = f"{value!r} given, but the default {default!r} is of another type"
        raise BadInput(name, fault, "give a value of that type")


def _check_data(notebook: str, profile: str, values: Mapping) -> None:
    dataset, root = values.get("DATASET", "synthetic"), values.get("DATA_ROOT")
    datasets = ("synthetic", *ADAPTERS.get(notebook, ()))
    if (profile == "paper") == (dataset == "synthetic"):
        remedy = "choose the profile paper, with DATASET and DATA_ROOT of the licensed data"
        raise BadInput(f"profile {profile} of {notebook}", f"does not use {dataset} data", remedy)
    if dataset not in datasets:
        remedy = f"choose among {', '.join(datasets)}, or leave this notebook out"
        raise BadInput(f"DATASET {dataset} of {notebook}", "there is no adapter for it", remedy)
    if dataset != "synthetic" and not (root and Path(root).is_dir()):
        raise BadInput(f"DATA_ROOT {root}", "no such folder", f"give the folder of {dataset}")


def compute(
    notebook: str,
    shard: str = "1/1",
    profile: str = "smoke",
    params: Mapping | Sequence = (),
    *,
    workers: int | None = None,
    scheduler: str | None = None,
) -> bool:
    """Compute the units that a notebook reads, or a part of them; what is stored stays.

    Args:
        notebook: Number or name of a notebook, such as 08.
        shard: Which part of how many: 1/8 to 8/8 together are all (1/1).
        profile: Size of the run: smoke (the default), full or paper.
        params: Further parameters of the notebook. On the command line one at a time; VALUE is a
            Python literal, or else text.
        workers: Processes that compute at once; by default as MICROMACRO_WORKERS says, else none
            beside this one.
        scheduler: Address of a Dask scheduler that computes instead, such as tcp://node1:8786.

    Returns:
        Whether every unit is stored now.

    Raises:
        BadInput: No such notebook, shard, profile or parameter; a notebook without units.

    Examples:
      micromacro units 08 --profile full --workers 16
      micromacro units 08 --profile full --shard $SLURM_ARRAY_TASK_ID/32
    """
    paths = choose(notebook)
    if len(paths) != 1:
        raise BadInput(f"notebook {notebook}", f"{len(paths)} notebooks", "name one")
    experiment = _experiment(paths[0].stem)
    chosen = injected(paths, profile, dict(params))[paths[0]]
    values = {name.lower(): value for name, value in (declared(paths[0]) | chosen).items()}
    del values["out"]
    if values["device"] == "auto":
        import torch

        small = profile == "smoke" or values.get("trial")  # as the notebooks choose
        usable = not small and torch.cuda.is_available()
        values["device"] = "cuda" if usable else "cpu"
    grid = itertools.chain(*experiment.grid(**values).values())
    try:
        results = units.shard(experiment.unit, grid, shard, workers=workers, scheduler=scheduler)
    except units.UnitFailure as failure:
        print(failure, file=sys.stderr)
        return False
    print(f"{len(results)} units, {sum(result.cached for result in results)} were there already")
    return True


def _experiment(notebook: str):
    """The module with `grid` and `unit` of the system whose name is a word of the notebook's."""
    systems = Path(__file__).parent / "systems"
    for word in notebook.split("_"):
        if (systems / word / "experiment.py").exists():
            return importlib.import_module(f"micromacro.systems.{word}.experiment")
    raise BadInput(f"notebook {notebook}", "has no grid of units", "choose one of a system")
