"""Keys name what decides a result: code as loaded, libraries, content; what is kept is whole."""

import errno
import fcntl
import functools
import hashlib
import importlib
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from micromacro import cache
from micromacro.cache import claimed, code_key, content_key, kept, make_whole
from micromacro.errors import BadInput

FILES = {
    "pkg_a/__init__.py": "",
    "pkg_a/top.py": """from typing import TYPE_CHECKING
import numpy as np
from pkg_a.deep import f
if TYPE_CHECKING:
    import pkg_a.typed

def unit():
    'Old words.'
    from . import lazy  # not yet
    return f(), lazy
""",
    "pkg_a/deep/__init__.py": "from .inner import f\n",
    "pkg_a/deep/inner.py": "def f():\n    return 1\n",
    "pkg_a/deep/weights.csv": "1,2\n",
    "pkg_a/deep/page.css": "p {}\n",
    "pkg_a/lazy.py": "x = 1\n",
    "pkg_a/typed.py": "x = 1\n",
    "pkg_a/lazy.csv": "1,2\n",
    "pkg_a/other.py": "x = 1\n",
    "pkg_a/other.csv": "1,2\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder with a small package."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    forget()


def forget() -> None:
    """As if nothing of the package had been imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "pkg_a"]:
        del sys.modules[name]


def fresh_key(folder: Path) -> str:
    """The key of `top` as a process that starts now has it."""
    forget()
    importlib.invalidate_caches()
    for path in [path for path in cache._loaded if path.is_relative_to(folder)]:
        del cache._loaded[path]
    return code_key(importlib.import_module("pkg_a.top").unit)


@pytest.mark.parametrize(
    ("file", "old", "new", "moves"),
    [
        ("top.py", "f(), lazy", "lazy, f()", True),
        ("top.py", "Old words", "New words", False),
        ("top.py", "  # not yet", "", False),
        ("deep/inner.py", "return 1", "return 2", True),
        ("deep/__init__.py", "from .inner", "\n\nfrom .inner", False),
        ("deep/weights.csv", "1,2", "1,3", True),
        ("deep/page.css", "p {}", "a {}", False),
        ("lazy.csv", "1,2", "1,3", True),
        ("other.csv", "1,2", "1,3", False),
        ("lazy.py", "1", "2", True),
        ("other.py", "1", "2", False),
        ("typed.py", "1", "2", True),
    ],
)
def test_the_key_follows_the_import_closure_without_words(package, file, old, new, moves):
    before = fresh_key(package)
    path = package / "pkg_a" / file
    path.write_text(path.read_text().replace(old, new))
    assert (fresh_key(package) != before) == moves
    assert len(before) == 64


def test_the_key_follows_the_libraries_that_the_closure_imports(package, monkeypatch):
    before = fresh_key(package)
    versions = {"numpy": "0", "torch": "0"}
    monkeypatch.setattr(cache, "_version", versions.__getitem__)
    moved = fresh_key(package)
    versions["torch"] = "1"
    assert before != moved == fresh_key(package)
    versions["numpy"] = "1"
    assert fresh_key(package) != moved
    monkeypatch.undo()
    assert cache._versions("cv2")[0].startswith("opencv-")


def test_the_key_follows_the_instructions_that_are_forced(package, monkeypatch):
    for name in cache._FORCING:
        monkeypatch.delenv(name, raising=False)
    keys = {fresh_key(package)}
    for name in cache._FORCING:
        monkeypatch.setenv(name, "")
        assert fresh_key(package) in keys, "an empty variable forces nothing"
        for value in ("AVX2", "SSE41"):
            monkeypatch.setenv(name, value)
            assert cache.forced_instructions()[-1] == f"{name}={value}"
            keys.add(fresh_key(package))
        monkeypatch.delenv(name)
    assert len(keys) == 1 + 2 * len(cache._FORCING)


def test_a_unit_s_closure_is_its_own_system_s():
    experiment = importlib.import_module("micromacro.systems.akmnet.experiment")
    names, libraries = cache._closure(experiment)
    assert {"micromacro", "micromacro.systems.akmnet.model", "micromacro.metrics"} & names.keys()
    assert not any("mimamo" in name for name in names)
    assert not names.keys() & cache._AROUND
    assert {"numpy", "torch", "cv2"} <= libraries
    assert all(importlib.util.find_spec(name) for name in cache._AROUND)


def test_a_source_edited_after_it_was_loaded_is_refused(package):
    key = fresh_key(package)
    path = package / "pkg_a/deep/inner.py"
    path.write_text(path.read_text() + "\n# a comment\n")
    with pytest.raises(BadInput, match=r"inner\.py: was edited after .*; restart the kernel"):
        code_key(sys.modules["pkg_a.top"])
    assert fresh_key(package) == key
    keys = {key}
    for name, text in (("lazy", "from . import other"), ("other", "x = 22"), ("other", "x = 333")):
        (package / f"pkg_a/{name}.py").write_text(text)  # not loaded: the edit is what will run
        keys.add(code_key(sys.modules["pkg_a.top"]))
    assert len(keys) == 4, "what an edit imports counts from then on"
    (package / "pkg_a/other.py").unlink()  # never loaded
    assert code_key(sys.modules["pkg_a.top"]) not in keys
    path.unlink()
    with pytest.raises(BadInput, match=r"inner\.py: is gone, .*; restore it"):
        code_key(sys.modules["pkg_a.top"])


def test_code_outside_files_is_refused():
    module = type(sys)("typed_in_a_notebook")
    with pytest.raises(BadInput, match="typed_in_a_notebook: is in no file"):
        code_key(module)


def test_content_is_what_counts_not_time_or_place(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "sheet.csv").write_text("happy")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "sub").symlink_to(tmp_path / "one" / "sub")
    key = content_key(tmp_path / "one")
    assert key == content_key(tmp_path / "two") == content_key(tmp_path / "linked")
    (tmp_path / "two/sub/.DS_Store").write_text("left by a file manager")
    (tmp_path / "two/sub/lost").symlink_to(tmp_path / "nowhere")
    assert content_key(tmp_path / "two") == key
    (tmp_path / "two/sub/sheet.csv").write_text("HAPPY")
    assert content_key(tmp_path / "two") != key
    (tmp_path / "one/sub/sheet.csv").rename(tmp_path / "one/sub/labels.csv")
    assert content_key(tmp_path / "one") != key
    with pytest.raises(BadInput, match=r"nowhere\.csv: cannot be read"):
        content_key(tmp_path / "nowhere.csv")


def test_what_is_kept_is_made_once_for_equal_inputs_files_and_code(tmp_path, package):
    made = []

    def make(folder):
        made.append(folder)
        (folder / "clip.npy").write_text("x")

    sheet = tmp_path / "sheet.csv"
    sheet.write_text("a")
    fresh_key(package)
    top, keep = sys.modules["pkg_a.top"], functools.partial(kept, tmp_path / "c", "sub 1/clip")
    first = keep({"size": 3}, make, files=[sheet], code=top)
    assert first.parent == tmp_path / "c"
    assert first.name.startswith("sub_1_clip-")
    assert sorted(path.name for path in first.iterdir()) == [".sha256", "clip.npy"]
    assert keep({"size": 3}, make, files=[sheet], code=top) == first
    others = {keep({"size": 4}, make, files=[sheet], code=top), keep({"size": 3}, make, code=top)}
    sheet.write_text("b")
    others |= {keep({"size": 3}, make, files=[sheet], code=top), keep({"size": 3}, make)}
    assert len({first, *others}) == len(made) == 5


@pytest.mark.parametrize("fault", ["gone", "cut", "a bit", "more", "no seal", "all", "a file"])
def test_what_somebody_has_damaged_is_made_again(tmp_path, fault):
    made = []

    def make(folder):
        made.append(folder)
        (folder / "deep").mkdir()
        (folder / "deep" / "clip.npy").write_bytes(bytes(1000))

    folder = kept(tmp_path, "clip", {}, make)
    file = folder / "deep" / "clip.npy"
    if fault in ("gone", "no seal"):
        (file if fault == "gone" else folder / ".sha256").unlink()
    elif fault in ("all", "a file"):
        shutil.rmtree(folder)
        if fault == "a file":
            folder.write_text("x")
    else:
        content = {"cut": bytes(999), "a bit": bytes(999) + b"1", "more": bytes(1001)}[fault]
        file.write_bytes(content)
    assert kept(tmp_path, "clip", {}, make) == folder
    assert file.read_bytes() == bytes(1000)
    (folder / "notes.txt").write_text("what somebody adds is no damage")
    kept(tmp_path, "clip", {}, make)
    assert len(made) == 2
    line = f"{hashlib.sha256(bytes(1000)).hexdigest()}  deep/clip.npy\n"
    assert (folder / ".sha256").read_text() == f"# files: 1\n{line}"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_seal_that_has_lost_a_line_is_broken(tmp_path):
    """What it does not name could be anything."""

    def make(folder):
        for name in ("one", "two"):
            (folder / name).write_text(name)

    folder = kept(tmp_path, "pair", {}, make)
    seal = folder / ".sha256"
    lines = seal.read_text().splitlines(keepends=True)
    for lost in range(3):
        (folder / "one").write_text("another")
        seal.write_text("".join(lines[:lost] + lines[lost + 1 :]))
        kept(tmp_path, "pair", {}, make)
        assert (folder / "one").read_text() == "one"
        assert seal.read_text() == "".join(lines)


def test_who_waits_for_a_lock_that_is_removed_meanwhile_takes_the_new_one(tmp_path):
    """Eight threads count in turn; with two at once in the lock a step would be lost."""
    counter = tmp_path / "counter"
    counter.write_text("0")

    def count(_):
        with claimed(tmp_path / "x"):
            number = int(counter.read_text())
            time.sleep(0.001)
            counter.write_text(str(number + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(100)))
    assert counter.read_text() == "100"
    assert list(tmp_path.iterdir()) == [counter]


def test_what_fails_leaves_nothing_and_the_dead_are_swept(tmp_path):
    def fail(folder):
        (folder / "half").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        kept(tmp_path, "clip", {}, fail)
    assert list(tmp_path.iterdir()) == []
    target, left = tmp_path / "x", tmp_path / ".part-x"
    left.mkdir()
    (left / "half").write_text("left by the dead")
    with claimed(target) as ours, claimed(target, wait=False) as theirs:
        assert (ours, theirs) == (left, None)
        assert not list(ours.iterdir())
        assert not make_whole(target, fail, wait=False)
    assert list(tmp_path.iterdir()) == []
    assert make_whole(target, lambda folder: (folder / "a").write_text("1"))
    assert make_whole(target, fail), "it is there"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("fault", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch, fault):
    def flock(*_):
        raise OSError(fault, "no")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(BadInput, match=r"no locks .*another"):
        kept(tmp_path, "clip", {}, lambda folder: None)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot write there"):
        kept(tmp_path / "file", "clip", {}, lambda folder: None)


def test_the_key_of_a_folder_passes_over_hidden_folders_and_loops(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    before = content_key(tmp_path)
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "y").write_text("2")
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    assert content_key(tmp_path) == before
    (tmp_path / "a" / "z").write_text("3")
    assert content_key(tmp_path) != before
