"""Files that disks, other programs and people have damaged: one line that names them, or what was
there.

Each kind is damaged in a hundred ways, drawn from a fixed seed.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from afew_miniatures import write_lbp_top
from clips import face_clip

from micromacro import action_unit_net, results, statistics
from micromacro.cache import kept
from micromacro.clip import load_clip, save_clip
from micromacro.datasets.afew import load_lbp_top
from micromacro.errors import BadInput
from micromacro.expression_encoder import WEIGHTS_FILE, load_expression_encoder
from micromacro.training import Batches, Recipe, isolated_rng, train
from micromacro.units import run
from micromacro.video import read_frames
from micromacro.weights import read_weights

pytestmark = pytest.mark.slow
TIMES, LIMIT_S = 100, 20
FOREIGN = [
    *(b"", b"\n", b"hello", b"[1]", b"{}", b"null", b"\x80\x04N.", b"PK\x05\x06" + bytes(18)),
    b"<<<<<<< HEAD\na,b\n=======\n1,2\n>>>>>>> theirs\n",
    *(b"\x93NUMPY\x01\x00v\x00", b"[" * 5000, bytes(4096), "Tränen".encode("utf-16")),
]


def damages(whole: bytes, seed: int = 0, times: int = TIMES) -> Iterator[bytes]:
    """The content after bits that flip, blocks that are lost, doubled or overwritten, and the
    like."""
    rng = np.random.default_rng(seed)
    yield from FOREIGN
    for _ in range(times - len(FOREIGN)):
        at, n = int(rng.integers(len(whole))), int(rng.integers(1, 200))
        match rng.integers(7):
            case 0:
                yield whole[:at]
            case 1:
                yield whole[:at] + whole[at + n :]
            case 2:
                yield whole[:at] + rng.bytes(n) + whole[at + n :]
            case 3:
                yield whole[:at] + bytes(n) + whole[at:]
            case 4:
                yield whole[at:] + whole[:at]
            case 5:
                yield whole[: at + n] + whole[at:]
            case _:
                yield whole[:at] + bytes([whole[at] ^ 1 << int(rng.integers(8))]) + whole[at + 1 :]


def survives(file: Path, read: Callable, same: Callable[[object], bool]) -> int:
    """Read a file after each damage: refused in one line that names it, or as `same` says.

    Returns:
        How often it was refused.
    """
    whole, refused = file.read_bytes(), 0
    steps = [partial(file.write_bytes, content) for content in damages(whole) if content != whole]
    for number, step in enumerate([*steps, file.unlink, file.mkdir]):
        if step == file.mkdir:
            file.unlink(missing_ok=True)  # whoever keeps it has made it again
        step()
        began, line = time.monotonic(), file.name
        try:
            assert same(read()), number
        except BadInput as error:
            line, refused = str(error), refused + 1
        assert file.name in line, number
        assert "\n" not in line, number
        assert time.monotonic() - began < LIMIT_S, number
    return refused


def anything(_: object) -> bool:
    return True


def test_clips(tmp_path):
    """No bit of a crop changes unseen: the format has check sums."""
    noise = np.random.default_rng(0).integers(0, 256, (5, 3, 24, 24), np.uint8)
    file = save_clip(face_clip(noise, none=[2], cuts=[3]), tmp_path / "clip.npz")
    before = load_clip(file)

    def same(clip) -> bool:
        arrays = ("frames", "t_s", "transform", "shot", "status", "landmarks")
        return all(
            np.array_equal(getattr(clip, n), getattr(before, n), equal_nan=n != "status")
            for n in arrays
        )

    assert survives(file, partial(load_clip, file), same) > 80


def test_checkpoints(tmp_path):
    """What is continued is what would have come without the damage."""
    file = tmp_path / "checkpoint"
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))

    def trained() -> dict:
        with isolated_rng(0):
            layers = torch.nn.Linear(5, 300), torch.nn.Dropout(), torch.nn.Linear(300, 1)
            net = torch.nn.Sequential(*layers)  # large: most of the file is numbers
        train(net, Batches(x, x[:, :1], 4), Recipe(epochs=2), seed=0, checkpoint=file)
        return net.state_dict()

    before = trained()

    def same(state: dict) -> bool:
        return all(torch.equal(state[name], before[name]) for name in before)

    assert survives(file, trained, same) > 80


def large_unit(n):
    rng = np.random.default_rng(n)
    return {"n": n, "mean": 0.5}, {"noise": rng.random(n), "clip": np.array(["s1/a", "s2/b"])}


@pytest.mark.parametrize("name", ["metrics.json", "predictions.npz", ".sha256"])
def test_units_are_computed_again(tmp_path, name):
    (before,) = run(large_unit, [{"n": 300}], root=tmp_path)
    arrays = before.predictions()

    def read():
        (result,) = run(large_unit, [{"n": 300}], root=tmp_path)
        assert (result.params, result.metrics) == (before.params, before.metrics)
        return not result.cached and result.predictions()

    def same(found) -> bool:
        return found and all(np.array_equal(found[name], arrays[name]) for name in arrays)

    file = before.folder / name
    whole = file.read_bytes()
    for content in damages(whole, times=40):  # each is computed and stored anew
        if content != whole:
            file.write_bytes(content)
            assert same(read())
    file.unlink()
    file.mkdir()
    assert same(read())


def test_predictions_that_are_damaged_while_they_are_read(tmp_path):
    (result,) = run(large_unit, [{"n": 300}], root=tmp_path)
    before = result.predictions()

    def same(arrays) -> bool:
        return all(np.array_equal(arrays[name], before[name]) for name in before)

    assert survives(result.folder / "predictions.npz", result.predictions, same) > 90


def write_two(folder: Path) -> None:
    np.save(folder / "frames.npy", np.random.default_rng(0).random(500))
    (folder / "about.json").write_text(json.dumps({"fps": 30}))


@pytest.mark.parametrize("name", ["frames.npy", "about.json"])
def test_caches_are_made_again(tmp_path, name):
    folder = kept(tmp_path, "film", {}, write_two)
    whole = (folder / name).read_bytes()
    for content in damages(whole, times=40):
        (folder / name).write_bytes(content)
        assert kept(tmp_path, "film", {}, write_two) == folder
        assert (folder / name).read_bytes() == whole
    shutil.rmtree(folder)
    assert (kept(tmp_path, "film", {}, write_two) / name).read_bytes() == whole


@pytest.mark.parametrize("dtype", [None, str])
def test_rows(tmp_path, dtype):
    """Text has no check sums: a digit may change. What comes is a table of numbers."""
    rows = [results.Row("04_x", "mimamo", "ours", "ccc", 1.5, 12, seed=n) for n in range(5)]
    (file,) = results.write_rows(rows, tmp_path)

    def numbers(frame) -> bool:
        return bool(len(frame)) and frame["value"].astype(float).notna().all()

    survives(file, partial(results.read_rows, file, dtype), numbers)


def test_committed_rows_and_predictions(tmp_path, monkeypatch):
    """As after a bad merge, or an edit by hand: notebooks say which file, and what to do."""
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    row = partial(results.Row, "04_x", "mimamo", metric="ccc", n=12, profile="full")
    rows = [row(arm=arm, value=1.5, seed=n) for arm in ("a", "b") for n in range(3)]
    arrays = {"ours": np.random.default_rng(0).random(50), "truth": np.arange(9)}
    results.write_rows(rows, tmp_path)
    results.write_predictions("04_x", arrays, tmp_path, profile="full")
    place = tmp_path / "data" / "results"
    place.parent.mkdir()
    (tmp_path / "rows").rename(place)

    def shown():
        comparison = results.Comparison.shown("04_x", [], "smoke")
        return [comparison.spread(arm, "ccc") for arm in comparison.arms]

    survives(place / "04_x__full__cpu.csv", shown, anything)
    file = place / "04_x__full__cpu__predictions.npz"
    assert survives(file, partial(results.committed_predictions, "04_x"), anything) > 60


def test_claims(tmp_path, monkeypatch):
    claims = (results.project_root() / "data" / "claims.csv").read_text().splitlines(keepends=True)
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    file = tmp_path / "data" / "claims.csv"
    file.parent.mkdir()
    file.write_text("".join(claims[:6]))
    interval = statistics.Interval(0.5, 0.4, 0.6, 8)
    first = claims[1].partition(",")[0]

    def judged():
        try:
            return statistics.judge_claims({first: interval})
        except BadInput as error:  # a claim whose name is damaged is none
            raise BadInput(file, str(error), "") from None

    survives(file, judged, anything)
    handed = tmp_path / "claims" / "03_x.json"
    file.rmdir()
    file.write_text("".join(claims[:6]))
    statistics.hand_over("03_x", {first: interval}, tmp_path)

    def written():
        try:
            return statistics.write_verdicts(handed)
        except BadInput as error:
            raise BadInput(handed, str(error), "") from None

    survives(handed, written, anything)


def test_baseline_features_of_afew(tmp_path):
    """Without check sums a number may change; what comes is as many finite numbers."""
    file = write_lbp_top(tmp_path / "000000001.mat")

    def same(numbers) -> bool:
        return numbers.shape == (2832,) and bool(np.isfinite(numbers).all())

    assert survives(file, partial(load_lbp_top, {"lbp_top": str(file)}), same) > 30


def test_weights(tmp_path):
    file = tmp_path / "net.pt"
    torch.save(torch.nn.Linear(20, 20).state_dict(), file)
    survives(file, partial(read_weights, file), anything)
    shutil.copy(WEIGHTS_FILE, tmp_path / "encoder.safetensors")
    file = tmp_path / "encoder.safetensors"
    survives(file, partial(load_expression_encoder, file), anything)
    shutil.copy(action_unit_net.WEIGHTS_FILE, tmp_path / "action_units.safetensors")
    file = tmp_path / "action_units.safetensors"
    survives(file, partial(action_unit_net.load_action_unit_net, file, None), anything)


@pytest.mark.parametrize("keep_damaged", [False, True])
@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("mkv", "mjpeg")])
def test_films(tmp_path, suffix, codec, keep_damaged):
    """Frames that come are whole pictures in the order of time; else one line says why none do."""
    file = tmp_path / f"film.{suffix}"
    rng, shown = np.random.default_rng(0), np.linspace(0, 200, 48 * 64).reshape(48, 64)
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuv420p" if codec == "libx264" else "yuvj420p"
        for _ in range(12):
            picture = np.uint8(shown[..., None] + rng.integers(0, 40, (48, 64, 3)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))

    def read() -> list:
        return [*read_frames(file, keep_damaged=keep_damaged, notes=[])]

    def pictures(frames: list) -> bool:
        times = [frame.t_s for frame in frames]
        return times == sorted(times) and {frame.image.dtype for frame in frames} <= {
            np.dtype(np.uint8)
        }

    assert survives(file, read, pictures) > 20
