"""What is expensive is computed once and kept under a key that names what decides it.

A key is a hash of the *content* of what went in and of the *code* that ran. Code is the import
closure of a module: the file itself and, in turn, every local file that it imports, each without
comments and docstrings; the data files beside them; and the versions of the libraries that compute.
So work on one system does not throw away another's results. Imports are read from the source by
:mod:`modulefinder` (those of functions and for type checkers too); a module that is only named in a
string, as for ``importlib.import_module``, is not seen.

The code hashed must be the code that is loaded. Python never reloads a module, so a file that was
edited after its module was loaded is refused: under a key of the new text the old code would run.
"""

import ast
import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import packages_distributions, version
from modulefinder import ModuleFinder
from pathlib import Path
from types import ModuleType

from micromacro import SOURCES
from micromacro.errors import BadInput
from micromacro.files import files_below, lock, make_writable, writing

_PACKAGE = Path(__file__).resolve().parent
# What names, stores or schedules a computation and so cannot change its numbers: the closure ends
# there.
_AROUND = {f"micromacro.{name}" for name in ("arms", "cache", "errors", "results", "units")}
# What computes, by the name of its import.
_LIBRARIES = {"av", "librosa", "numpy", "scipy", "torch", "triton"}
_LIBRARIES |= {"PIL", "cv2", "skimage", "sklearn"}
# What forces an instruction set on torch and its libraries: it decides the bits, so it is in the
# key.
_FORCING = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_FORCING += ("MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")
_NO_DATA = {".py", ".pyc", ".typed", ".css", ".html", ".j2", ".js", ".md", ".swp"}
_SEAL = ".sha256"  # in a folder, of each file that was written there, for sha256sum -c too

_Stamp = tuple[int, int, int]  # size, time and inode: another stamp, another content
# By import name, and of each; they read files, and each cached clip asks.
_distributions, _version = map(functools.cache, (packages_distributions, version))
_closures: dict[Path, tuple[dict[str, Path], set[str], list[_Stamp]]] = {}  # as last read
_loaded = {path: (s.st_size, s.st_mtime_ns, s.st_ino) for path, s in SOURCES.items()}


def code_key(code: ModuleType | Callable) -> str:
    """Hash of all that decides what some code computes: its import closure and its libraries.

    An instruction set that is forced counts, too. That of the processor does not: a shared store
    may be filled by several kinds, and rows name them.

    Args:
        code: A module, or a function of one.

    Returns:
        64 hexadecimal digits.

    Raises:
        BadInput: The code is not in a file; a file of the closure was edited after this process
            loaded it.
    """
    code = getattr(code, "func", code)  # of functools.partial
    module = code if isinstance(code, ModuleType) else sys.modules[code.__module__]
    if not getattr(module, "__file__", None):
        raise BadInput(f"the code of {module.__name__}", "is in no file", "move it to a module")
    files, libraries = _closure(module)
    what = {name: _source(path, name) for name, path in files.items()}
    what |= {name: _versions(name) for name in libraries}
    for folder in {p.parent for p in files.values() if p.with_name("__init__.py").exists()}:
        for path in filter(_is_data, folder.iterdir()):
            # A data file with a module's name is that module's: of another one it decides nothing.
            if path.with_suffix(".py") in files.values() or not path.with_suffix(".py").exists():
                what[f"{folder.name}/{path.name}"] = content_key(path)
    return digest(what | dict.fromkeys(forced_instructions()))


def forced_instructions() -> list[str]:
    """What is forced on torch and its libraries: "ATEN_CPU_CAPABILITY=avx2" and the like."""
    return [f"{name}={os.environ[name]}" for name in _FORCING if os.environ.get(name)]


def content_key(path: str | os.PathLike) -> str:
    """Hash of the content of a file, or of the names and contents of all files in a folder.

    Hidden files and folders, which systems leave there, and links that lead nowhere do not count.

    A file is read again only if its size, time or inode has changed since this process read it.

    Raises:
        BadInput: It is not there, or cannot be read.
    """
    path = Path(path).resolve()
    try:
        if path.is_dir():
            return digest([(str(p.relative_to(path)), content_key(p)) for p in files_below(path)])
        return _file_digest(path, _stamp(path))
    except OSError as error:
        raise BadInput(path, f"cannot be read ({error.strerror})", "check the path") from None


def kept(
    root: str | os.PathLike,
    name: str,
    inputs: object,
    make: Callable[[Path], None],
    *,
    files: Sequence[str | os.PathLike] = (),
    code: ModuleType | Callable | None = None,
) -> Path:
    """A folder of what was made of some inputs: made now if it is not there.

    Args:
        root: Folder of the cache; made if missing.
        name: What the folder is of, for people; its key follows.
        inputs: JSON values that decide the content: sizes, options, names.
        make: Writes the content into the empty folder that it is given. Several processes may ask
            for the same folder: one makes it, the others wait.
        files: Files or folders that decide the content by theirs.
        code: What decides the content by its import closure; by default, `make`.

    Returns:
        ``<root>/<name>-<key>``, whole: it appears when all is written, and what somebody has
        damaged since is made again.

    Raises:
        BadInput: As :func:`code_key` and :func:`content_key`; the cache cannot be written.
    """
    key = digest([inputs, [content_key(file) for file in files], code_key(code or make)])[:20]
    folder = Path(root) / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-{key}"
    if not is_whole(folder):
        make_writable(folder.parent)
        sweep_folders(folder.parent)
        make_whole(folder, make)
    return folder


def make_whole(folder: Path, make: Callable[[Path], None], *, wait: bool = True) -> bool:
    """Make a folder that is not whole, such that it appears at once and stays after a power cut.

    Args:
        folder: The folder; what stands in its place, torn, makes way.
        make: As :func:`kept` takes it.
        wait: Wait for another process or thread that makes it.

    Returns:
        Whether it is whole now: False if another makes it, and `wait` is false.

    Raises:
        BadInput: There is no room for it; the file system has no locks.
    """
    with claimed(folder, wait=wait) as part:
        if part and not is_whole(folder):
            with writing(folder.parent, full=True):
                make(part)
                files = [path for path in part.rglob("*") if path.is_file()]
                seal = _seal(part, sorted(str(path.relative_to(part)) for path in files))
                (part / _SEAL).write_text(seal, encoding="utf-8")
                for path in (*part.rglob("*"), part):
                    _to_disk(path)
                if folder.is_dir() and not folder.is_symlink():  # torn
                    shutil.rmtree(folder)
                folder.unlink(missing_ok=True)  # or no folder at all
                part.replace(folder)
                _to_disk(folder.parent)
    return part is not None


def is_whole(folder: Path) -> bool:
    """Whether the files are there that :func:`make_whole` left in a folder, in every bit."""
    try:
        seal = (folder / _SEAL).read_text(encoding="utf-8")
        return seal == _seal(folder, [line[66:] for line in seal.splitlines()[1:]])
    except (OSError, ValueError):  # BadInput too; the seal is damaged, or a file is gone
        return False


def _seal(folder: Path, names: Sequence[str]) -> str:
    """Check sums of files as sha256sum reads them; by their number no line is lost unseen."""
    lines = [f"{content_key(folder / name)}  {name}\n" for name in names]
    return f"# files: {len(lines)}\n{''.join(lines)}"


def sweep_folders(root: Path) -> None:
    """Remove what programs that were killed have left in a folder of folders."""
    for path in (*root.glob(".part-*"), *root.glob(".lock-*")):
        with claimed(root / path.name[6:], wait=False):
            pass  # who lets go of a claim leaves nothing


@contextlib.contextmanager
def claimed(folder: Path, *, wait: bool = True) -> Iterator[Path | None]:
    """Hold the lock of a folder that is to appear; it is freed when the process ends, however.

    Yields:
        An empty folder beside it, to be renamed into its place, or removed with all that is in it;
        None if another process or thread holds the lock, and `wait` is false.

    Raises:
        BadInput: The file system has no locks, or no room for one.
    """
    path, part = (folder.with_name(f".{kind}-{folder.name}") for kind in ("lock", "part"))
    ours, current = True, False
    with contextlib.ExitStack() as files:
        while ours and not current:
            with writing(path):
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            files.callback(os.close, handle)
            try:
                ours = lock(handle, wait=wait)
            except OSError as error:
                fault = f"its file system has no locks ({error.strerror})"
                remedy = "use a folder on another one; for units, set MICROMACRO_ROOT"
                raise BadInput(folder.parent, fault, remedy) from None
            with contextlib.suppress(FileNotFoundError):  # who had it before has removed it
                current = os.path.samestat(os.fstat(handle), path.stat())
        if not ours:
            yield None
            return
        try:
            shutil.rmtree(part, ignore_errors=True)  # left by the dead: the lock is ours
            with writing(part):
                part.mkdir()
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)
            path.unlink(missing_ok=True)


def digest(what: object) -> str:
    """SHA-256 of a JSON value, 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def hashable(options: Mapping) -> dict:
    """The options with tuples for lists: JSON has no tuples, and a list is no key of a cache."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}


def _closure(module: ModuleType) -> tuple[dict[str, Path], set[str]]:
    """(name -> file of a module and of all local ones that it imports, names of libraries)."""
    file, spec, own = Path(module.__file__).resolve(), module.__spec__, module.__name__
    name = spec.name if spec else file.stem  # of a script
    root = file.parents[name.count(".") + (file.name == "__init__.py")]
    files, libraries, stamps = _closures.get(file, ({}, set(), None))
    if gone := [path for n, path in files.items() if n in sys.modules and not path.exists()]:
        raise BadInput(gone[0], "is gone, and this process has loaded it", "restore it, or restart")
    if stamps != [path.exists() and _stamp(path) for path in files.values()]:
        installed = _distributions().keys() - {name.partition(".")[0], _PACKAGE.name}
        finder = ModuleFinder([str(root), str(_PACKAGE.parent)], excludes=_AROUND | installed)
        finder.import_hook(name)
        local = {n: m.__file__ for n, m in finder.modules.items() if m.__file__}
        files = {own if n == name else n: Path(path).resolve() for n, path in local.items()}
        libraries = {n.partition(".")[0] for n in finder.badmodules} & _LIBRARIES
        _closures[file] = files, libraries, [_stamp(path) for path in files.values()]
    return files, libraries


def _source(path: Path, module: str) -> str:
    """Hash of a source without comments and docstrings."""
    stamp = _stamp(path)
    if stamp != _loaded.setdefault(path, stamp) and module in sys.modules:
        fault = "was edited after this process loaded it"
        raise BadInput(path, fault, "restart the kernel or the program")
    _loaded[path] = stamp
    return _source_digest(path, stamp)


@functools.cache
def _source_digest(path: Path, _: _Stamp) -> str:
    tree = ast.parse(path.read_bytes(), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = node.body[ast.get_docstring(node, clean=False) is not None :]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _versions(library: str) -> list[str]:
    """Version of a library, by the distributions that bring it; without importing it."""
    return [f"{name} {_version(name)}" for name in sorted(set(_distributions().get(library, ())))]


def _is_data(path: Path) -> bool:
    return path.is_file() and path.suffix not in _NO_DATA and path.name[0] != "."


@functools.cache
def _file_digest(path: Path, _: _Stamp) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> _Stamp:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
