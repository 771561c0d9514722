"""A notebook's units without the notebook: ``micromacro units``, for job arrays and clusters."""

import importlib
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from micromacro import course, units
from micromacro.errors import BadInput


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
    paths = course.choose(notebook)
    if len(paths) != 1:
        raise BadInput(f"notebook {notebook}", f"{len(paths)} notebooks", "name one")
    experiment = _experiment(paths[0].stem)
    injected = course.injected(paths, profile, dict(params))[paths[0]]
    values = {name.lower(): value for name, value in (course.declared(paths[0]) | injected).items()}
    del values["out"]
    if values["device"] == "auto":
        import torch

        usable = profile != "smoke" and torch.cuda.is_available()
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
