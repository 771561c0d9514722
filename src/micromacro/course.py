"""The course's notebooks: which there are, the parameters each declares, the units each reads."""

import ast
import contextlib
import importlib
import itertools
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from micromacro import units
from micromacro.datasets.table import check_profile
from micromacro.errors import BadInput, check_choice
from micromacro.files import make_writable, project_root
from micromacro.statistics import read_claims

if TYPE_CHECKING:
    import nbformat

_PATHS = ("DATA_ROOT", "VIDEO", "WEIGHTS_FILE", "WEIGHTS", "OUT")
_PATHS += tuple(f"{network}_WEIGHTS" for network in ("VGG", "RESNET", "C3D", "R3D_18"))
RIGHT = {"SEEDS": [0], "VARIANTS": ["a name"], "FOLDS": 2, "SEED": 0, "STEPS": 1, "SWEEP": 0}
RIGHT |= {"TRIAL": 0, "BATCH_FIRST": False, **dict.fromkeys(_PATHS, "a path")}
RIGHT |= dict.fromkeys(("DATASET", "DEVICE", "INPUTS"), "a name")
"""Parameter -> a value that is right, the least if it is a number; None, for a default, is too."""


class Planned(NamedTuple):
    """A notebook of the course, whether it is there yet or to come, as ``course.toml`` has it."""

    title: str
    about: str
    builds_on: Sequence[str] = ()  # numbers of the notebooks that lead to it
    datasets: Sequence[str] = ()  # official ones that it takes beside "synthetic"
    system: str = ""  # whose grid of units it reads


_TABLE = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
PLAN = {number: Planned(**values) for number, values in tomllib.loads(_TABLE).items()}
"""Number -> notebook, in order."""


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


def read_notebook(path: Path) -> "nbformat.NotebookNode":
    """A notebook as it lies on disk.

    Raises:
        BadInput: It cannot be read, or is no notebook: torn, or with the marks of a merge conflict.
    """
    import nbformat  # late: its checks of formats cost each notebook's kernel a second

    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook, relax_add_props=True)
        return notebook
    except Exception as error:  # of nbformat, json, codecs, or what it finds in place of a notebook
        fault = f"is no notebook that can be read ({type(error).__name__})"
        raise BadInput(path, fault, "restore it, or resolve the merge conflict in it") from None


def declared(path: Path) -> dict[str, object]:
    """Parameters of a notebook with their defaults: the literals of its cell ``parameters``.

    Raises:
        BadInput: No such cell, or it holds anything but ``NAME = literal``; as `read_notebook`.
    """
    cells = read_notebook(path).cells
    tagged = [c.source for c in cells if "parameters" in c.metadata.get("tags", ())]
    values, fault = {}, f"{len(tagged)} cells tagged parameters"
    try:
        (source,) = tagged
        for line in ast.parse(source).body:
            fault = f"not NAME = literal: {ast.unparse(line)}"
            (target,) = getattr(line, "targets", None) or [line.target] * line.simple
            values[target.id] = ast.literal_eval(line.value)
    except (SyntaxError, ValueError, AttributeError, TypeError):
        remedy = "tag exactly one cell, and write only NAME = literal there"
        raise BadInput(f"{path.name}, cell parameters", fault, remedy) from None
    return values


def contents() -> pd.DataFrame:
    """What the course contains now, read off its notebooks and its table of claims, never typed.

    Returns:
        A row for each topic, by its two digits. ``title``; ``notebooks``, such as "04 04b";
        ``minutes`` of the reader's; ``claims`` that were written down before they were tested,
        without controls and identities; ``judged``, how many of them have each verdict, in words,
        empty where none has.
    """
    claims, rows = read_claims().query("kind == 'finding'"), {}
    for path in choose():
        first = read_notebook(path).cells[0].source
        title, minutes = first.partition("\n")[0], re.search(r"(\d+) min of yours", first)
        row = rows.setdefault(path.stem[:2], {"title": title.partition(" · ")[2], "notebooks": []})
        row["notebooks"].append(path.stem.partition("_")[0])
        row["minutes"] = row.get("minutes", 0) + int(minutes[1] if minutes else 0)
    table = pd.DataFrame.from_dict(rows, orient="index")
    verdicts = {name: claims["verdict"][claims.index.str.startswith(f"{name}-")] for name in rows}
    counts = {name: own[own != ""].value_counts() for name, own in verdicts.items()}
    said = {k: ", ".join(f"{n} {word}" for word, n in own.items()) for k, own in counts.items()}
    new = {"claims": pd.Series({name: len(own) for name, own in verdicts.items()})}
    return table.assign(notebooks=table["notebooks"].str.join(" "), **new, judged=pd.Series(said))


def injected(paths: Sequence[Path], profile: str, params: Mapping) -> dict[Path, dict]:
    """What each notebook gets injected beside its ``OUT``, checked before anything runs.

    A parameter goes to the notebooks that declare it; one that none declares is refused, where
    papermill would run with the defaults and say nothing.

    Raises:
        BadInput: Unknown profile or parameter, a value that is not like that of `RIGHT`, a path or
            device that is not there, or a profile and a data set that do not belong together.
    """
    defaults = {path: declared(path) for path in paths}
    names = sorted(set().union(*defaults.values()) - {"PROFILE", "OUT"})  # the batch's own
    for name, value in params.items():
        check_choice("parameter", name, names)
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:
            remedy = "give numbers, strings, True, False, None, or lists of them"
            raise BadInput(f"parameter {name}", str(error), remedy) from None
    values = {}
    for path in paths:
        mine = {name: value for name, value in params.items() if name in defaults[path]}
        every = _checked(path.stem, defaults[path] | mine | {"PROFILE": profile}, [Path.cwd()])
        values[path] = {name: every[name] for name in ("PROFILE", *mine)}
    return values


def check(notebook: str, values: MutableMapping, variants: Iterable[str] = ()) -> str:
    """Check a notebook's parameters in its first cell, by the rules of ``reproduce``.

    So plain papermill and JupyterLab refuse at once, in one line, what the batch refuses. Lists
    that papermill's command line hands over as text become lists, paths absolute: a relative one
    begins where the program was started, or else in the notebook's folder.

    Args:
        notebook: Its name, such as "08b_akmnet_ablation".
        values: Its ``globals()``; the parameters in it are replaced by what they mean.
        variants: What there is to choose from for VARIANTS, if it is used.

    Returns:
        The device that DEVICE means, such as "cpu"; in the profile smoke and in trials "auto" is
        the CPU.

    Raises:
        BadInput: As `injected`; OUT cannot be written.
    """
    # The kernel's own folder is not the caller's, whose shell says it in PWD.
    folders = [Path(os.environ.get("PWD", "")), Path.cwd()]
    mine = {name: values[name] for name in ("PROFILE", *RIGHT) if name in values}
    values.update(_checked(notebook, mine, folders))
    for name in (variants and values["VARIANTS"]) or ():
        check_choice("VARIANTS", name, variants)
    if values.get("OUT"):
        make_writable(Path(values["OUT"]))
    return _device(values)


def _checked(notebook: str, values: Mapping, folders: Sequence[Path]) -> dict:
    """A notebook's parameters as meant; relative paths are of the first folder they fit."""
    values = {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}
    for name in (name for name in RIGHT if values.get(name) is not None):
        value, example = values[name], RIGHT[name]
        if isinstance(example, list):
            if isinstance(value, str):  # papermill's command line has no lists
                with contextlib.suppress(ValueError, SyntaxError, TypeError):  # a single name
                    value = ast.literal_eval(value)
            value = list(value) if isinstance(value, tuple | range) else value
            value = [value] if isinstance(value, str) else value
        if not _is_like(value, example):
            fault = f"{value!r} given, where {example!r} is right"
            raise BadInput(f"parameter {name} of {notebook}", fault, "give a value of that kind")
        values[name] = _located(name, value, folders) if name in _PATHS else value
    dataset, root = values.get("DATASET", "synthetic"), values.get("DATA_ROOT")
    check_profile(values["PROFILE"], dataset, _planned(notebook).datasets, f" of {notebook}")
    if dataset != "synthetic" and not (root and Path(root).is_dir()):
        raise BadInput(f"DATA_ROOT {root}", "no such folder", f"give the folder of {dataset}")
    for name, others in (("SWEEP", ("full",)), ("TRIAL", ("full", "paper"))):
        if values.get(name) and values["PROFILE"] not in others:
            fault = f"does nothing in profile {values['PROFILE']}"
            raise BadInput(f"{name}={values[name]}", fault, f"use it in {' or '.join(others)}")
    _device(values)
    return values


def _is_like(value: object, example: object) -> bool:
    if isinstance(example, list):  # each once
        alike = isinstance(value, list) and value and all(_is_like(v, example[0]) for v in value)
        return bool(alike) and len({*value}) == len(value)
    alike = type(value) is type(example) and value != ""
    return alike and (isinstance(value, str) or example <= value < 2**32)


def _located(name: str, path: str, folders: Sequence[Path]) -> str:
    """A path in full, as the user means it, who may write ~ for a home."""
    for folder in folders:
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # not there; no such user
            return str((folder / Path(path).expanduser()).resolve(strict=name != "OUT"))
    if name == "WEIGHTS":  # the name of published ones
        return path
    raise BadInput(f"{name} {path}", "no such file or folder", "give a path that exists")


def _device(values: Mapping) -> str:
    """The device that DEVICE means on this machine."""
    name, small = values.get("DEVICE", "auto"), values["PROFILE"] == "smoke" or values.get("TRIAL")
    if name == "cpu" or (name == "auto" and small):
        return "cpu"
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    with contextlib.suppress(RuntimeError, AttributeError):  # no such device; none that computes
        device = torch.device(name)
        kind = getattr(torch, device.type)
        if kind.is_available() and (device.index or 0) < kind.device_count():
            return name
    raise BadInput(f"DEVICE {name}", "is not on this machine", "choose auto, cpu or cuda")


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
        notebook: Number or name of a notebook, such as 08b.
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
      micromacro units 08b --profile full --workers 16
      micromacro units 08b --profile full --shard $SLURM_ARRAY_TASK_ID/32
    """
    paths = choose(notebook)
    if len(paths) != 1:
        raise BadInput(f"notebook {notebook}", f"{len(paths)} notebooks", "name one")
    if not (system := _planned(paths[0].stem).system):  # a lesson
        raise BadInput(f"notebook {paths[0].stem}", "has no grid of units", "choose an ablation")
    experiment = importlib.import_module(f"micromacro.systems.{system}.experiment")
    known = declared(paths[0]) | injected(paths, profile, dict(params))[paths[0]]
    known["DEVICE"] = _device(known)
    values = {name.lower(): value for name, value in known.items() if name != "OUT"}
    grid = itertools.chain(*experiment.grid(**values).values())
    try:
        results = units.shard(experiment.unit, grid, shard, workers=workers, scheduler=scheduler)
    except units.UnitFailure as failure:
        print(failure, file=sys.stderr)
        return False
    print(f"{len(results)} units, {sum(result.cached for result in results)} were there already")
    return True


def _planned(notebook: str) -> Planned:
    return PLAN.get(notebook.partition("_")[0], Planned(notebook, ""))
