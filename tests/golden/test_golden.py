"""The package says what it said when the golden arrays were recorded: bit for bit on one kind of machine.

Trained numbers differ between instruction sets, so where processor, instruction set or libraries are
others than the recorded ones, floats may be off by `ELSEWHERE`, and what an argmax or a threshold
made of them is not compared.
"""

import numpy as np
import pytest
from cases import CASES, DROPPED
from record import Golden, identity, read

ELSEWHERE = (
    (" frames,", 1e-5),
    ("LBP-TOP", 1e-2),
    ("mimamo,", 1.0),
    ("akmnet,", 6.0),
    *((f"{name},", 1e-3) for name in ("casme", "casme2", "smic", "samm", "megc2019")),
    *((f"{name},", 1e-2) for name in ("omg", "affwild", "affwild2")),
)
"""Part of a case's name -> largest absolute difference of floats on another kind of machine; the
first that fits counts. Each is four times or more what was seen on an AMD EPYC that was told to do
without AVX512, or without AVX: ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA and MKL_ENABLE_INSTRUCTIONS
were avx2, AVX2 and AVX2, or default, SSE41 and SSE4_2.

================  ==========  ==========  ==========================================================
cases             seen, AVX2  seen, SSE
================  ==========  ==========  ==========================================================
frames            0           0           all grey levels: 0; 1, in 6 of 335,872 pixels at most
LBP-TOP           0           3e-4        margins
MIMAMO's arms     0.02        0.24        largest: a correlation; predictions 0.015, 0.04
AKMNet's arms     0.2         1.4         logits after 12 epochs; after 2: 0.12, 0.5
AKMNet, official  2e-7        3e-5
MIMAMO, official  5e-6        3e-3        largest: a correlation; predictions 2e-6, 5e-4
================  ==========  ==========  ==========================================================

So the arms say little on another machine: their optimiser divides a gradient by its own size, which
makes whole steps of rounding errors. Who has no machine of the recorded kind records there first, on
the commit that is trusted; see `record`.
"""
CHOSEN = ("epochs", "prediction", "best_subject", "correct", "kept", "apex_kept", "max_key")
CHOSEN += ("accuracy", "accuracy_best_subject", "best_epoch", "sha256")
"""Arrays that small differences of floats can change wholly; not compared on another machine."""


@pytest.fixture(scope="module")
def recorded() -> Golden:
    return read()[0]


@pytest.fixture(scope="module")
def same_machine() -> bool:
    return {**read()[1], **identity()} == read()[1]


def difference(before: np.ndarray, now: np.ndarray, slack: float | None) -> str | None:
    """How two arrays differ by value, dtypes aside; None where they do not.

    Args:
        before: As recorded.
        now: From the package.
        slack: Largest difference of floats, and 1 for grey levels; None for no difference at all.
    """
    if before.shape != now.shape:
        return f"has shape {now.shape}, was {before.shape}"
    if "U" in (before.dtype.kind, now.dtype.kind):
        other = before.astype(str) != now.astype(str)
        largest = ""
    else:
        a, b = before.astype(np.float64), now.astype(np.float64)
        both = np.isnan(a) & np.isnan(b)
        with np.errstate(invalid="ignore"):  # inf - inf
            off = np.where((a == b) | both, 0.0, np.abs(a - b))
        allowed = 0.0
        if slack is not None:
            allowed = {"f": slack, "u": 1.0}.get(before.dtype.kind, 0.0)
        other = ~(off <= allowed)
        largest = f", by {np.max(off, initial=0):.3g} at most"
    if not other.any():
        return None
    place = tuple(int(k) for k in np.argwhere(other)[0])
    first = f"first at {place}: {now[place]}, was {before[place]}"
    return f"differs in {other.sum()} of {other.size} elements{largest}; {first}"


def chosen(name: str, before: np.ndarray) -> bool:
    """Whether an array is of `CHOSEN`; MIMAMO's predictions are floats, AKMNet's are classes."""
    return name in CHOSEN and not (name == "prediction" and before.dtype.kind == "f")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_arrays_are_as_recorded(case, recorded, same_machine):
    slack = None if same_machine else next(slack for part, slack in ELSEWHERE if part in case)
    now = CASES[case]()
    faults = []
    for name, before in recorded[case].items():
        if name not in now:
            faults.append(f"{name} is missing")
        elif same_machine or not chosen(name, before):
            fault = difference(before, np.asarray(now[name]), slack)
            faults += [f"{name} {fault}"] if fault else []
    assert not faults, "\n".join([f"{case}:", *faults])


def test_each_recorded_case_is_replayed(recorded):
    assert set(recorded) == CASES.keys() | DROPPED.keys()
    assert not CASES.keys() & DROPPED.keys()


def test_a_difference_is_seen():
    a = np.array([1.0, np.nan, -np.inf])
    assert difference(a, a.copy(), None) is None
    assert difference(a.astype(np.float32), a, None) is None
    assert difference(np.array([True, False]), np.array([1, 0]), None) is None
    assert difference(np.array(["a"]), np.array(["a"], object), None) is None
    for other in ([np.nextafter(1.0, 2), np.nan, -np.inf], [1, 0, -np.inf], [1, np.nan, np.inf]):
        assert "1 of 3" in difference(a, np.array(other), None)
    assert difference(a, a + 1e-3, 1e-2) is None
    assert "by 0.1" in difference(a, a + 0.1, 1e-2)
    grey = np.array([3, 4], np.uint8)
    assert difference(grey, grey + np.uint8(1), 1e-5) is None
    assert "by 2" in difference(grey, grey + np.uint8(2), 1e-5)
    assert "by 1" in difference(grey, grey + np.uint8(1), None)
    assert "shape" in difference(grey, grey[:1], None)
    assert "1 of 2" in difference(np.array(["a", "b"]), np.array(["a", "c"]), None)
