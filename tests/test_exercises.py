"""Right, wrong, missing and absurd answers: what is printed, and never an exception."""

import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

from micromacro import exercises
from micromacro.kernels import phase_difference
from micromacro.metrics import accuracy
from micromacro.studies import phase_versus_flow
from micromacro.synthetic import micro_event, units
from micromacro.systems.msff import EMOTIONS


def f1(part):
    return 2 * part[0] / sum(part[1:])


def pooled_f1(micro, macro):
    return f1(np.add(micro, macro))


CASES = [
    (exercises.check_found_by_tiles, (0.675,), 2 / 3, 0.5),
    (exercises.check_pooled_f1, (), pooled_f1, lambda *parts: sum(map(f1, parts)) / 2),
    (exercises.check_fewer_digits, (820, 41), 20, 820),
]


@pytest.mark.parametrize(("check", "given", "right", "wrong"), CASES)
def test_checkers(check, given, right, wrong, capsys):
    for answer, sign in ((right, "✓"), (wrong, "✗"), (None, "·"), ("a cat", "✗"), ([], "✗")):
        check(answer, *given)
        said = capsys.readouterr().out
        assert said.startswith(sign), answer
        assert said.count("\n") == 1


def test_a_reader_who_has_changed_nothing_yet_gets_a_hint_all_the_same(capsys):
    exercises.check_window_loss(0.1, 0.5, 0.5, hint=1)
    said = capsys.readouterr().out
    assert said.startswith("·  nothing was changed")
    assert "hint 1" in said


@pytest.mark.parametrize(
    ("check", "given"),
    [
        (exercises.check_macro_factor, (0.0, 3.2, 0.0)),
        (exercises.check_macro_factor, (0.0, np.float64(3.2), np.float64(0))),
        (exercises.check_invented_motion, (1.0, 0.0, 0.1, 0.05)),
        (exercises.check_invented_motion, (1.0, 0.3, 0.3, 0.05)),
    ],
)
def test_a_measured_zero_stops_nothing(check, given, capsys):
    check(*given)
    assert capsys.readouterr().out[0] in "✓✗"


def test_known_mistakes_are_named_and_hints_come_in_steps(capsys):
    def said(check, *given, **options) -> str:
        check(*given, **options)
        return capsys.readouterr().out

    assert "least overlap" in said(exercises.check_found_by_tiles, 0.5, 0.675)
    assert "mean of the two F1s" in said(
        exercises.check_pooled_f1, lambda a, b: (f1(a) + f1(b)) / 2
    )
    assert "ZeroDivisionError" in said(exercises.check_pooled_f1, lambda a, b: 1 / 0)
    assert "not the factor" in said(exercises.check_fewer_digits, 820, 820, 41)
    steps = [said(exercises.check_fewer_digits, 3, 820, 41, hint=step) for step in range(5)]
    assert len({*steps}) == 4
    assert "10 x 10 x 10" in steps[3]
    assert "10 x 10 x 10" not in "".join(steps[:3])


# ---- lessons: known mistakes, hints in steps, starters and solutions ---------------------------


def shared(a, b, plus=1):
    return max(min(a[1], b[1]) - max(a[0], b[0]) + plus, 0)


def union(a, b, plus=1):
    return a[1] - a[0] + b[1] - b[0] + 2 * plus - shared(a, b, plus)


def unclipped(a, b):
    both = min(a[1], b[1]) - max(a[0], b[0]) + 1
    return both / (a[1] - a[0] + b[1] - b[0] + 2 - both)


def kept(beta):
    return (beta > beta.mean()).double()


AUCS = {"micro": 0.7, "macro": 0.87}, {"micro": 0.6, "macro": 0.62}
PCCS = {"Anxiety": 0.6, "Fear": 0.4}, {"Anxiety": 0.55, "Fear": 0.05}
CCCS = (
    {"valence": 0.71, "arousal": 0.32, "before": 0.59},
    {
        "valence": 0.74,
        "arousal": 0.43,
        "before": 0.03,
    },
)


def ccc(p, t, shift=lambda d: d**2, unbiased=False, top=2.0):
    covariance = ((p - p.mean()) * (t - t.mean())).mean()
    below = p.var(unbiased=unbiased) + t.var(unbiased=unbiased) + shift(p.mean() - t.mean())
    return top * covariance / below


WEIGHTS = {"face": 0.5, "sound": 0.3}, {"face": 0.2, "sound": 0.7}


def full(m):
    return np.vstack([m, [0, 0, 1]])


def difference(frame, rest, factor):
    return np.clip(0.5 + factor * (frame - rest), 0, 1)


def one_map(S, W):
    return (np.linalg.inv(full(W)) @ full(S))[:2]


TURN = 2 * np.pi
LESSONS = [  # checker, arguments, right answer, wrong answer -> what is said of it
    (
        exercises.check_frames_of_event,
        (80, 200),
        80,
        {81: "one too many", 79: "one too few", 200: "a second", 500: "multiply", 12: "faster"},
    ),
    (
        exercises.check_difference,
        (),
        difference,
        {
            (lambda f, r, k: difference(r, f, k)): "sign",
            (lambda f, r, k: np.clip(k * (f - r), 0, 1)): "add it",
            (lambda f, r, k: 0.5 + k * (f - r)): "without limits",
            (lambda f, r, k: k * (f - r)): "neither",
            (lambda f, r, k: difference(f, r, 1)): "without the factor",
            (lambda f, r, k: np.clip(0.5 + k * np.abs(f - r), 0, 1)): "lengths alone",
            (lambda f, r, k: np.clip(k * np.abs(f - r), 0, 1)): "and no grey",
            (lambda f, r, k: np.clip(0.5 + k * f, 0, 1)): "at rest first",
            (lambda f, r, k: np.clip(k * (0.5 + f - r), 0, 1)): "add it last",
            (lambda f, r, k: 0.5 + np.clip(k * (f - r), 0, 1)): "limits set before",
            (lambda f, r, k: np.clip(128 + k * (f - r), 0, 255)): "0 to 255",
            (lambda f, r, k: difference(f, r, k).mean()): "shape ()",
            (lambda f, r: f - r): "TypeError",
            (lambda f, r, k: torch.clip(f - r, 0, 1)): "TypeError",  # its message has four lines
        },
    ),
    (
        exercises.check_macro_factor,
        (1.41, 10.0),
        7.1,
        {0.141: "inverse", 8.59: "difference", 10: "motion itself", 6.09: "on top", 50.3: "square"},
    ),
    (
        exercises.check_step_at_48_px,
        (0.68, 0.68 * 48 / 224),
        0.15,  # rounded as anybody would: 0.1457
        {
            0.68: "large crop",
            3.17: "inverse",
            0.031: "square",
            0: "nothing",
            0.1: "rounded",
            0.3: "micro-expression",
        },
    ),
    (
        exercises.check_one_map,
        (),
        one_map,
        {
            (lambda S, W: (full(S) @ np.linalg.inv(full(W)))[:2]): "order",
            (lambda S, W: (full(W) @ full(S))[:2]): "its inverse",
            (lambda S, W: (full(S) @ full(W))[:2]): "other order",
            (lambda S, W: S): "S alone",
            (lambda S, W: np.linalg.inv(full(W))[:2]): "W alone",
            (lambda S, W: np.linalg.inv(full(one_map(S, W)))[:2]): "way back",
            (lambda S, W: (np.linalg.inv(full(W)) * full(S))[:2]): "use @",
            (lambda S, W: np.linalg.inv(full(W)) @ full(S)): "shape (3, 3)",
            (lambda S, W: S @ W): "ValueError",
            (lambda S, W: 0 * S): "not yet",
        },
    ),
    (
        exercises.check_patch_error,
        (0.08, 0.36),
        0.28,
        {-0.28: "sign", 0.36: "take away", 0.08: "from that", 4.5: "ratio", 3.5: "share"},
    ),
    (
        exercises.check_phase_to_motion,
        (-0.3, (-0.671, -0.266)),
        1.11,  # by the slope as it is printed
        {
            -1.13: "sign",
            0.382: "wave of 8 px",
            -0.382: "wave of 8 px",
            0.191: "wave of 4 px",
            0.447: "level 1",
            -0.447: "level 1",
            0.08: "product",
            0.887: "upside down",
            64.6: "degrees",
            0.18: "whole turns",
            1.1: "rounded",
            1.2: "not yet",
        },
    ),
    (
        exercises.check_unwrapping,
        (),
        lambda jumps: -TURN * np.round(jumps / TURN),
        {
            (lambda jumps: -TURN * (jumps > np.pi)): "jumps below -pi",
            (lambda jumps: TURN * (jumps < -np.pi)): "jumps above pi",
            (lambda jumps: TURN * np.round(jumps / TURN)): "sign",
            (lambda jumps: -np.round(jumps / TURN)): "count",
            (lambda jumps: -360 * np.round(jumps / TURN)): "degrees",
            (lambda jumps: -np.pi * np.round(jumps / TURN)): "half turns",
            (lambda jumps: -np.pi * np.round(jumps / np.pi)): "multiples of pi",
            (lambda jumps: -TURN * (jumps // TURN)): "rounded down",
            (lambda jumps: -TURN * np.fix(jumps / TURN)): "towards 0",
            (lambda jumps: np.mod(jumps + np.pi, TURN) - np.pi): "left of the jumps",
            (lambda jumps: np.unwrap(jumps) - jumps): "not yet",
            (lambda jumps: 0.0): "each jump",
        },
    ),
    (
        exercises.check_noise_loss,
        (0.86, 0.22),
        0.64,
        {-0.64: "sign", 64: "per cent", 0.22: "left", 0.86: "was", 0.256: "ratio", 0.744: "share"},
    ),
    (
        exercises.check_constant_uar,
        (0.167, 7),
        1 / 7,
        {0.167: "accuracy", 1.0: "recall of the one", 100 / 7: "per cent", 0: "nothing"},
    ),
    (
        exercises.check_fused_scores,
        (),
        lambda z, w: (w[:, None, None] * z.softmax(-1)).sum(0),
        {
            (lambda z, w: (w[:, None, None] * z).sum(0).softmax(-1)): "after the sum",
            (lambda z, w: (w[:, None, None] * z).sum(0)): "is missing",
            (lambda z, w: (w[:, None, None] * z.softmax(1)).sum(0)): "over the clips",
            (lambda z, w: (w[:, None, None] * z.softmax(0)).sum(0)): "over the networks",
            (lambda z, w: z.softmax(-1).mean(0)): "equal weights",
            (lambda z, w: z.softmax(-1).sum(0)): "without weights",
            (lambda z, w: (w[:, None, None] * z.softmax(-1)).mean(0)): "sum to 1 already",
            (lambda z, w: (w[:, None, None] * z).softmax(-1).sum(0)): "inside",
            (lambda z, w: (w[:, None, None] * z.softmax(-1)).sum(1)): "first axis",
        },
    ),
    (
        exercises.check_weight_rise,
        WEIGHTS,
        0.4,
        {-0.4: "sign", 0.7: "new", 0.3: "old", 40: "per cent", 7 / 3: "ratio", -0.3: "face"},
    ),
    (
        exercises.check_invented_motion,
        (0.4, 0.46, 0.03),
        -2,
        {
            2: "sign",
            -0.5: "slope over change",
            -0.46 / 0.03: "new grey value",
            -0.4 / 0.03: "old grey value",
            -5: "per cent",
            0.06: "itself",
            0: "lamps",
            -1.5: "not yet",
        },
    ),
    (
        exercises.check_visible_motion,
        (),
        lambda x, y, t: (-t * x / (x * x + y * y), -t * y / (x * x + y * y)),
        {
            (lambda x, y, t: (t * x / (x * x + y * y), t * y / (x * x + y * y))): "sign",
            (lambda x, y, t: (-t * x / np.hypot(x, y), -t * y / np.hypot(x, y))): "its square",
            (lambda x, y, t: (-t * x / (x + y), -t * y / (x + y))): "sum of both",
            (lambda x, y, t: [-t / x, -t / y]): "each axis",
            (lambda x, y, t: (-t * y / (x * x + y * y), -t * x / (x * x + y * y))): "the axes",
            (lambda x, y, t: torch.tensor([-t * x, -t * y])): "product",
            (lambda x, y, t: (1, 2, 3)): "two numbers",
            (lambda x, y, t: (1, t)): "not yet",
        },
    ),
    (
        exercises.check_window_loss,
        (0.94, 0.66),
        0.28,
        {-0.28: "sign", 28: "per cent", 0.66: "left", 0.94: "was", 0.7: "ratio", 0.3: "share"},
    ),
    (
        exercises.check_longest_hit,
        (17, 30),
        70,
        {35: "itself", 17.5: "shortest", 70 / 30: "seconds", 68: "own frame", 71: "off by one"},
    ),
    (
        exercises.check_interval_iou,
        (),
        lambda a, b: shared(a, b) / union(a, b),
        {
            (lambda a, b: shared(a, b, 0) / union(a, b, 0)): "off by one",
            unclipped: "negative",
            (lambda a, b: shared(a, b) / (a[1] - a[0] + b[1] - b[0] + 2)): "twice",
            (lambda a, b: shared(a, b) / (b[1] - b[0] + 1)): "second interval",
            (lambda a, b: shared(a, b) / (1 + min(a[1] - a[0], b[1] - b[0]))): "shorter",
            (lambda a, b: shared(a, b)): "alone",
            (lambda a, b: union(a, b) / max(shared(a, b), 1)): "not yet",
        },
    ),
    (
        exercises.check_auc_loss,
        AUCS,
        0.25,
        {-0.25: "sign", 25: "per cent", 0.62: "left", 0.62 / 0.87: "ratio", 0.1: "micro"},
    ),
    (
        exercises.check_gru_size,
        (19_008, 32, 24),
        19_008,
        {9_504: "one direction", 15_552: "reads both", 8_352: "alone", 18_720: "one bias"}
        | {18_432: "no bias", 6_336: "one matrix", 25_344: "LSTM", 19_007: "not yet"}
        | {4_176: "direction of the first", 16_704: "inputs of the first"},
    ),
    (
        exercises.check_ccc,
        (),
        ccc,
        {
            (lambda p, t: torch.corrcoef(torch.stack([p, t]))[0, 1]): "Pearson",
            (lambda p, t: ccc(p, t, shift=lambda d: 0)): "no distance",
            (lambda p, t: ccc(p, t, shift=abs)): "absolute",
            (lambda p, t: ccc(p, t, shift=lambda d: d)): "not squared",
            (lambda p, t: ccc(p, t, shift=lambda d: -(d**2))): "sign",
            (lambda p, t: ccc(p, t, top=1)): "half",
            (lambda p, t: ccc(p, t, unbiased=True)): "n - 1",
            (lambda p, t: ccc(p, t, top=10)): "sum",
            (lambda p, t: 1 - ccc(p, t)): "loss",
            (lambda p, t: p.mean()): "not yet",
        },
    ),
    (
        exercises.check_lost_memory,
        CCCS,
        0.56,
        {-0.56: "sign", 56: "per cent", 0.03: "left", -0.11: "arousal", 0.3: "not yet"},
    ),
    (
        exercises.check_flipped_pcc,
        (0.4,),
        -0.4,
        {0.4: "falls", 0.8: "formula", 0.6: "shift", -0.2: "half", 0.2: "half", 0: "relation"},
    ),
    (
        exercises.check_masked_shares,
        (),
        lambda x, mask: x.masked_fill(~mask, -torch.inf).softmax(0),
        {
            (lambda x, mask: x.softmax(0)): "without the mask",
            (lambda x, mask: (x * mask).softmax(0)): "before the softmax",
            (lambda x, mask: (x + mask).softmax(0)): "added",
            (lambda x, mask: x.softmax(0) * mask): "after the softmax",
            (lambda x, mask: x.masked_fill(mask, -torch.inf).softmax(0)): "upside down",
            (lambda x, mask: x.exp() * mask): "by their sum",
            (lambda x, mask: x * mask / (x * mask).sum()): "without the exponential",
            (lambda x, mask: mask / mask.sum()): "even",
            (lambda x, mask: x.masked_fill(~mask, -torch.inf)): "is missing",
            (lambda x, mask: x.softmax(0)[mask]): "do not cut",
        },
    ),
    (
        exercises.check_pcc_loss,
        PCCS,
        0.2,
        {-0.2: "sign", 20: "per cent", 0.3: "left", 0.6: "ratio", 0.4: "share", 0.35: "Fear"},
    ),
    (
        exercises.check_max_key_offset,
        (13, 51),
        12.5,
        {0: "apex", 25: "resting", 37: "number of the frame", 0.25: "share", 5: "not yet"},
    ),
    (
        exercises.check_straight_through,
        (),
        lambda b: kept(b) + b - b.detach(),
        {
            (lambda b: kept(b) + kept(b) * (b - b.detach())): "paper's rule",
            kept: "without any gradient",
            (lambda b: kept(b) + b): "without detach",
            (lambda b: b): "cosines themselves",
            (lambda b: kept(b) * b): "cosines of kept",
            (lambda b: kept(b) + (1 - kept(b)) * (b - b.detach())): "dropped frames only",
            (lambda b: kept(b) - b + b.detach()): "sign",
            (lambda b: 1 - kept(b) + b - b.detach()): "upside down",
            (lambda b: torch.sigmoid(b - b.mean())): "soft",
            (lambda b: b[b > b.mean()]): "one for each",
            (lambda b: 2 * kept(b)): "not yet",
        },
    ),
    (
        exercises.check_apex_loss,
        (0.73, 0.45),
        0.28,
        {-0.28: "sign", 28: "per cent", 0.45: "left", 0.62: "ratio", 0.38: "share"},
    ),
]


@pytest.mark.parametrize(("check", "given", "right", "wrong"), LESSONS)
def test_checkers_of_lessons_know_mistakes(check, given, right, wrong, capsys):
    def said(answer, hint=0) -> str:
        check(answer, *given, hint=hint)
        return capsys.readouterr().out

    assert said(right).startswith("✓")
    for answer, mistake in wrong.items():
        assert said(answer).startswith("✗")
        assert mistake in said(answer)
        assert said(answer).count("\n") == 1
    assert said(None).startswith("·")
    for absurd in ("a cat", [], [1, 2], {}, 7 + 1j, lambda: 0, object()):
        assert said(absurd).startswith("✗")
    assert [said(None, hint).count("hint ") for hint in (1, 2, 3, 9)] == [1, 2, 3, 3]


def test_a_change_that_was_not_made_is_no_answer(capsys):
    exercises.check_auc_loss(0.0, AUCS[0], AUCS[0])
    assert "FACTOR" in capsys.readouterr().out
    exercises.check_macro_factor(1.0, 1.4, 1.4)
    assert "PEAK_PX" in capsys.readouterr().out
    exercises.check_patch_error(0.0, 0.08, 0.08)
    assert "PATCH" in capsys.readouterr().out
    exercises.check_noise_loss(0.0, 0.9, 0.9)
    assert "NOISE" in capsys.readouterr().out
    exercises.check_window_loss(0.0, 0.9, 0.9)
    assert "SIGMA" in capsys.readouterr().out
    exercises.check_lost_memory(0.0, CCCS[0], CCCS[0])
    assert "TRY" in capsys.readouterr().out
    exercises.check_pcc_loss(0.0, PCCS[0], PCCS[0])
    assert "MISSING" in capsys.readouterr().out
    exercises.check_weight_rise(0.0, WEIGHTS[0], WEIGHTS[0])
    assert "DIVIDED_BY" in capsys.readouterr().out
    exercises.check_apex_loss(0.0, 0.7, 0.7)
    assert "PAD" in capsys.readouterr().out


def test_either_flank_is_right_and_what_was_given_is_printed(capsys):
    for answer in (-12, 12, 12.5, 15):
        exercises.check_max_key_offset(answer, 13, 51)
        assert capsys.readouterr().out.startswith(f"✓  got {answer}:")


NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def exercise_cells(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [c.source for c in cells if c.cell_type == "code" and "exercises.check" in c.source]


MEMORY = [pd.DataFrame([values]) for values in CCCS]
MEMORY = [table.rename(columns={"before": "valence 1 s ago"}) for table in MEMORY]
CLIP = torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(0))
FROM_LESSON = {  # what the cells take from the lesson
    "00": {
        "np": np,
        "micro_event": micro_event,
        "units": units,
        "SIZE": 224,
        "motion_px": lambda px: (None, np.array([px])),
    },
    "01": {
        "np": np,
        "detected": 0.98,
        "maps": lambda px, size=224: px * size / 224,
        "false_step_px": lambda px: px,
        "corner_px": lambda patch: np.array([[{"face": 0.08, "nose": 0.36}[patch], 0.0]]),
    },
    "02": {
        "np": np,
        "torch": torch,
        "course_slopes": (-0.671, -0.266),
        "frames": CLIP,
        "by_hand": lambda clip, level: phase_difference(clip, levels=(level,))[0],
        "flow_px": -phase_difference(CLIP, levels=(1,))[0].transpose(0, 1),
        "seen": torch.ones(2, 48, 48, dtype=torch.bool),
    },
    "03": {
        "SEED": 1000,
        "contest": phase_versus_flow,
        "gradient": lambda image: torch.stack(torch.gradient(image)[::-1]),
        "skin": torch.ones(48, 48, dtype=torch.bool),
        "frames": {"clean": ()},
        "flow_px": 0,
        "lucas_kanade": lambda sigma=2.0: {2.0: 0.94, 0.5: 0.66}[sigma],
        "cosine": lambda estimate, truth, where: estimate,
    },
    "04": {
        "nn": torch.nn,
        "Tensor": torch.Tensor,
        "BATCH_FIRST": True,
        "curve": MEMORY[0],
        "train": lambda batch_first: (None, MEMORY[1]),
        "drawn": lambda curves: None,
    },
    "05": {
        "Tensor": torch.Tensor,
        "np": np,
        "test": SimpleNamespace(truth=np.array([3, 3, 0, 1, 2, 4, 5, 6])),
        "EMOTIONS": EMOTIONS,
        "CLASSES": 7,
        "accuracy": accuracy,
        "always": 0.25,
        "weighed": lambda factor, calibrated: (WEIGHTS[factor > 1], 0.5),
    },
    "06": {
        "gaps": {"micro": 6, "macro": 17},
        "auc": AUCS[0],
        "scored": lambda gaps: gaps,
        "frame_auc": lambda scores: AUCS[1],
    },
    "07": {
        "np": np,
        "torch": torch,
        "Tensor": torch.Tensor,
        "score": {"trained": 0.5},
        "complete": PCCS[0],
        "by_emotion": lambda missing: PCCS[missing != "nothing"],
    },
    "08": {
        "np": np,
        "torch": torch,
        "Tensor": torch.Tensor,
        "scores": lambda p, alpha: torch.cosine_similarity(p, (alpha[:, None] * p).sum(0)[None]),
        "measured": 13,
        "apex_kept": lambda pad: 0.73 - 0.014 * pad,
        "maps": [torch.zeros(9, 1, 1, 1)],
        "unseen": [0],
        "apex": [5],
        "net": None,
        "kept_of": lambda net, clips: [torch.arange(len(clip)) < 9 for clip in clips],
    },
}


@pytest.mark.parametrize("number", FROM_LESSON)
def test_starters_fail_and_solutions_pass(number):
    (lesson,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    given = FROM_LESSON[number] | {"exercises": exercises}
    for path, mark in ((lesson, "·"), (NOTEBOOKS / "solutions" / f"{number}.ipynb", "✓")):
        cells = exercise_cells(path)
        assert len(cells) == 3
        for source in cells:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(source, dict(given))
            assert printed.getvalue().splitlines()[-1].startswith(mark), source


@pytest.mark.parametrize("number", FROM_LESSON)
def test_solutions_are_stored_as_they_were_run(number):
    """The bake of the course passes them over, so nobody else would see an old or empty output."""
    notebook = json.loads((NOTEBOOKS / "solutions" / f"{number}.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    assert cells[0]["metadata"] == {"tags": ["parameters"]}
    said = [["".join(o.get("text", o["output_type"])) for o in c["outputs"]] for c in cells]
    assert [text[:1] for texts in said for text in texts] == ["✓"] * 3


def test_what_is_read_off_two_rounded_prints_is_right(capsys):
    before, after = {"micro": 0.6, "macro": 0.8749}, {"micro": 0.6, "macro": 0.6951}
    for answer in (0.17, 0.18):
        exercises.check_auc_loss(answer, before, after)
        assert capsys.readouterr().out.startswith("✓")
    exercises.check_auc_loss(0.2, before, after)
    assert capsys.readouterr().out.startswith("✗")


def test_hints_come_though_the_reader_s_function_stops(capsys):
    exercises.check_interval_iou(lambda a, b: 1 / "x", hint=2)
    said = capsys.readouterr().out
    assert "TypeError" in said
    assert said.count("hint") == 2
