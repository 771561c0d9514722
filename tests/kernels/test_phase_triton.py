"""The Triton kernels: against the Fourier form, interpreted here, compiled on a GPU."""

import importlib
import importlib.util
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused

import micromacro
from micromacro.kernels import phase_difference
from micromacro.kernels.phase_reference import phase_difference_reference as reference

triton = pytest.importorskip("triton")
tl = triton.language
module = importlib.import_module("micromacro.kernels.phase_triton")
angle = module._angle

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
POLYNOMIAL = 5e-7  # rad, error of the kernels' atan2


def clips_of(drifting, B, T, H, W):
    moves = [drifting(T, H, W, velocity=(0.3 - 0.5 * (b % 2), 0.2), seed=b) for b in range(B)]
    return torch.stack(moves).float()


def worst(maps, expected) -> float:
    return max((a - b).abs().max().item() for a, b in zip(maps, expected, strict=True))


def assert_as_exact(frames, **options):
    """The sums run in another order, so the errors differ from the products', but not in kind."""
    frames = frames.to(DEVICE)
    expected = reference(frames, **options)
    ours, products = (
        phase_difference(frames, backend=backend, **options) for backend in ("triton", "gemm")
    )
    assert {(m.dtype, m.device) for m in ours} == {(torch.float32, frames.device)}
    assert [m.shape for m in ours] == [e.shape for e in expected]
    assert worst(ours, expected) <= 2 * worst(products, expected) + POLYNOMIAL


# ---- against the reference ----------------------------------------------------------------------


SIZES = [(1, 2, 64), (1, 2, 48), (1, 4, 30), (2, 2, 16), (1, 2, 8)]  # B, T, N
BLURS = [(0, True), (1, False), (2, False)]
CASES = [(*size, 2, True) for size in SIZES] + [(1, 2, 20, *blur) for blur in BLURS]


@pytest.mark.parametrize(("B", "T", "N", "blur_sigma", "center"), CASES)
def test_equals_the_fourier_form(drifting, B, T, N, blur_sigma, center):
    assert_as_exact(clips_of(drifting, B, T, N, N), blur_sigma=blur_sigma, center=center)


def test_bytes_and_low_contrast(drifting):
    frames = clips_of(drifting, 1, 2, 30, 30)
    assert_as_exact((frames * 255).round().byte())
    assert_as_exact(0.9 + 0.02 * (frames - 0.5))


@pytest.mark.parametrize(("source", "N"), [((40, 56), 24), ((12, 12), 16), ((17, 70), 16)])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_resize(drifting, source, N, as_bytes, monkeypatch):
    monkeypatch.setattr(module, "RESIZED_AT_ONCE", 3)  # four frames: a part and a rest
    frames = clips_of(drifting, 2, 2, *source)
    assert_as_exact((frames * 255).round().byte().mT if as_bytes else frames, size=N)


def test_flat_frames_give_zero():
    frames = torch.tensor([0, 0, 77], dtype=torch.uint8, device=DEVICE)
    frames = frames[:, None, None].expand(-1, 12, 12)
    for one in (frames, 0.3 + frames / 255):
        assert all(m.abs().max() < 1e-4 for m in phase_difference(one, backend="triton"))


# ---- batches ------------------------------------------------------------------------------------


def test_clips_and_parts_leave_no_trace(drifting, monkeypatch):
    frames = clips_of(drifting, 2, 3, 8, 8).to(DEVICE)
    three = {"backend": "triton", "check": False}  # frames, not colours
    together = phase_difference(frames, **three)
    alone = phase_difference(frames[1:], **three)
    assert all(torch.equal(m[1:], a) for m, a in zip(together, alone, strict=True))
    for frames_at_once in (2, 5):  # of level 2: one pair, and three of two clips
        monkeypatch.setattr(module, "BANDS_BYTES", 16 * 4 * 4 * frames_at_once)
        parts = phase_difference(frames, **three)
        assert all(map(torch.equal, together, parts))


def test_a_leaf_and_an_empty_batch_of_frames_to_resize(drifting):
    frames = clips_of(drifting, 1, 2, 10, 10).to(DEVICE).requires_grad_()
    maps = phase_difference(frames, backend="triton", size=8)
    assert not any(m.requires_grad for m in maps)
    none = phase_difference(frames[:0], backend="triton", size=8)
    assert [m.shape for m in none] == [(0, *m.shape[1:]) for m in maps]


# ---- the parts ----------------------------------------------------------------------------------


@triton.jit
def angles(y, x, out, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, angle(tl.load(y + at), tl.load(x + at)))


def test_angle_is_atan2():
    turn = torch.linspace(-torch.pi, torch.pi, 4096, dtype=torch.float64)
    radius = 10 ** torch.linspace(-15, 15, 31, dtype=torch.float64)[:, None]
    axes = torch.tensor([(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1)])
    y = torch.cat([(radius * turn.sin()).flatten(), axes[:, 0]]).float()
    x = torch.cat([(radius * turn.cos()).flatten(), axes[:, 1]]).float()
    y, x = (torch.nn.functional.pad(v, (0, -len(v) % 1024)).to(DEVICE) for v in (y, x))
    found = torch.full_like(y, torch.nan)
    angles[len(y) // 1024,](y, x, found, BLOCK=1024)
    assert (found - torch.atan2(y.double(), x.double())).abs().max() < 6e-7  # fit and rounding


SOURCE = """
import subprocess, sys
from pathlib import Path
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from micromacro.kernels import phase_triton

for kernel, n in ((phase_triton._bands_kernel, 64), (phase_triton._differences_kernel, 32)):
    values = {"N": 64, "WIDE": 64, "n": n, "BLOCK": n, "PRECISION": "tf32x3", "CENTER": True}
    values = {k: v for k, v in (values | {"EPS": 1e-10}).items() if k in kernel.arg_names}
    kinds = dict.fromkeys(kernel.arg_names, "i32") | dict.fromkeys(values, "constexpr")
    pointers = {"frames", "into", "squares", "bands", "out"} & kinds.keys()
    places = {(kernel.arg_names.index(k),): v for k, v in values.items()}
    source = ASTSource(kernel, kinds | dict.fromkeys(pointers, "*fp32"), places)
    options = {"num_warps": 4, "enable_fp_fusion": True}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    cubin = Path(sys.argv[1], "kernel.cubin")
    cubin.write_bytes(made.asm["cubin"])
    tool = triton.knobs.nvidia.cuobjdump.path
    usage = subprocess.check_output([tool, "--dump-resource-usage", cubin], text=True)
    print(made.metadata.shared, usage.split("STACK:")[1].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="no compiler for NVIDIA GPUs")
def test_compiled_for_hopper_it_fits_a_block(tmp_path):
    """Without a GPU: shared memory for two blocks of one multiprocessor, and nothing spilled.

    One kernel at each size: it takes seconds.
    """
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", SOURCE, str(tmp_path)]
    numbers = subprocess.check_output(command, env=environment, text=True).split()
    release = tuple(map(int, module.triton.__version__.split(".")[:2]))
    spilled = 0 if release >= (3, 9) else 128  # bytes a thread; 3.6 keeps more values at once
    assert max(map(int, numbers[::2])) <= 113 * 1024
    assert max(map(int, numbers[1::2])) <= spilled


# ---- what is refused ----------------------------------------------------------------------------


def test_without_triton(monkeypatch):
    monkeypatch.setattr(micromacro, "kernels", micromacro.kernels)  # put back at the end
    for name in [name for name in sys.modules if name.startswith("micromacro.kernels")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "triton", None)
    kernels = importlib.import_module("micromacro.kernels")
    frames = torch.rand(2, 16, 16)
    assert len(kernels.phase_difference(frames)) == 2
    words = "backend triton: Triton is not installed; ", "another backend"
    refused(lambda: kernels.phase_difference(frames, backend="triton"), *words)


@pytest.mark.parametrize("major", [7, 8])
def test_frames_must_be_on_a_gpu_that_can(monkeypatch, major):
    monkeypatch.setattr(module.triton, "JITFunction", type(module._bands_kernel))  # as if compiled
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (major, 0))
    words = "backend triton: the images are on the cpu; move"
    refused(lambda: phase_difference(torch.rand(2, 16, 16), backend="triton"), words)
    check = partial(module.check_device, module._bands_kernel, torch.device("cuda"))
    refused(check, "no tf32") if major == 7 else check()


# ---- the benchmark ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "kernels_gpu.py"
    spec = importlib.util.spec_from_file_location("kernels_gpu", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_benchmark_checks_before_it_times(benchmark, drifting):
    frames = drifting(4, 20, 20).float()
    methods = {name: benchmark.PHASE[name] for name in ("gemm", "fourier")}
    rows = benchmark.check(("phase", "20 px", methods, reference, frames), "a GPU")
    assert [row["metric"] for row in rows[:2]] == ["largest error", "rms error"]
    assert {(row["setting"], row["n"]) for row in rows} == {("a GPU; 20 px", 8)}
    assert max(row["value"] for row in rows) < 1e-5
    for wrong in (2e-5, float("nan")):
        off = partial(lambda wrong, clips: [m + wrong for m in benchmark.fourier(clips)], wrong)
        with pytest.raises(SystemExit, match=r"phase, 20 px, off: 100.00% of the errors are above"):
            benchmark.check(("phase", "20 px", {"off": (off, 1e-5, 0)}, reference, frames), "")


def test_the_benchmark_counts_rounds_in_turn(benchmark):
    order, works = [], {name: partial(str, name) for name in "ab"}

    def clock(work):  # a takes 1, 2, 3 s in its rounds, b half of that; the first does not count
        order.append(work())
        return len(order) // 2 / (1 if order[-1] == "a" else 2) + (order[-1] == "b") * -0.5

    seconds = benchmark.measure(works, clock, 3)
    assert order == list("abababab")
    np.testing.assert_array_equal(seconds, [[1, 0.5], [2, 1], [3, 1.5]])
    rows = benchmark.rows_of("s", list(works), seconds, 60, {"1 GB": 1e9})
    found = {(row["method"], row["metric"]): row for row in rows}
    asked = [("a", "throughput"), ("b", "time"), ("b", "bandwidth at 1 GB")]
    assert [found[key]["value"] for key in asked] == [30, 1000, 60]
    ratio = found["b", "speed relative to a"]
    assert (ratio["q25"], ratio["value"], ratio["q75"], ratio["rounds"]) == (2, 2, 2, 3)


# ---- on a GPU -----------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("backend", "bound_rad", "share"), [("triton", 1e-5, 0), ("triton_tf32", 1e-2, 1e-4)]
)
@pytest.mark.parametrize(("B", "T", "N"), [(40, 33, 48), (700, 2, 64), (1, 300, 34), (9, 64, 16)])
def test_compiled(drifting, backend, bound_rad, share, B, T, N):
    """Batches of several parts. Where a band nearly vanishes its phase can turn by a whole turn
    from factors of 10 bits: a share of the pixels may be off by more.
    """
    frames = clips_of(drifting, min(B, 8), T, N, N).repeat(-(-B // 8), 1, 1, 1)[:B].cuda()
    for one in (frames, (frames * 255).round().byte()):
        for center in (True, False):
            maps = phase_difference(one, backend=backend, center=center)
            expected = reference(one, center=center)
            for m, e in zip(maps, expected, strict=True):
                assert ((m - e).abs() > bound_rad).double().mean() <= share


@pytest.mark.gpu
def test_auto_takes_what_serves(drifting):
    """On CUDA Triton where its kernels fit; matrix products for all else."""
    frames = clips_of(drifting, 2, 5, 48, 48).cuda()
    for options, backend in (({}, "triton"), ({"levels": (1,)}, "gemm"), ({"size": 96}, "gemm")):
        maps = phase_difference(frames, **options)
        same = phase_difference(frames, **options, backend=backend)
        assert all(torch.equal(a, b) for a, b in zip(maps, same, strict=True))


@pytest.mark.gpu
def test_compiled_resize(drifting):
    frames = clips_of(drifting, 2, 5, 112, 90).cuda()
    maps = phase_difference(frames, size=48, backend="triton")
    assert worst(maps, reference(frames, size=48)) < 1e-5


@pytest.mark.gpu
def test_compiled_beyond_31_bits():
    far = torch.randint(256, (48 * 46_000_000,), dtype=torch.uint8, device="cuda")
    view = far.as_strided((1, 2, 48, 48), (0, 50, 46_000_000, 1))
    strided = phase_difference(view, backend="triton")
    plain = phase_difference(view.contiguous(), backend="triton")
    assert all(torch.equal(a, b) for a, b in zip(strided, plain, strict=True))
