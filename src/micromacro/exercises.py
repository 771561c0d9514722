"""Checkers for the exercises of the notebooks: they print one line and never raise.

An exercise leaves ``answer = None``; an unanswered one says so and Run All goes on.
"""

from collections.abc import Callable

import numpy as np


def _judge(
    answer,
    expected,
    right: str,
    mistakes: dict[str, object],
    hints,
    hint: int,
    rtol: float = 0.005,
    atol: float = 1e-9,
) -> None:
    """Print what was given and the verdict on it; with ``hint`` the first so many hints.

    Args:
        answer: What the reader gives; None if there is nothing yet.
        expected: The right answer, a number or numbers.
        right: What to say to it.
        mistakes: What a known mistake is → the answer that it leads to.
        hints: Three, each says more than the one before.
        hint: How many of them to print.
        rtol: How far an answer may be off, relative to what it is compared with.
        atol: The same, whatever it is compared with.
    """

    def same(one) -> bool:
        return values.shape == np.shape(one) and np.allclose(values, one, rtol, atol)

    try:
        values = None if answer is None else np.asarray(answer, dtype=float)
        if values is None:
            print("·  not answered yet; hint=1 gives a first hint")
        elif same(expected):
            print(f"✓  got {_short(values)}: {right}")
        elif values.shape != np.shape(expected):
            print(f"✗  got {_short(values)}: give one number, not {_form(values)}")
        else:
            known = [f"it looks like {name}" for name, value in mistakes.items() if same(value)]
            known += ["not yet" if hint else "not yet; hint=1 gives a first hint"]
            print(f"✗  got {_short(values)}: {known[0]}")
    except Exception:  # a cat has no digits, and an exercise must never stop Run All
        print(f"✗  got something of type {type(answer).__name__}: give a number")
    _hints(hints, hint)


def _hints(hints, hint: int) -> None:
    """Print the first so many hints."""
    for number, text in enumerate(hints[: max(hint, 0) if isinstance(hint, int) else 0], 1):
        print(f"   hint {number}: {text}")


def _called(function, call: Callable, hints, hint: int):
    """What the reader's function gives in ``call``; None and one line if it cannot be called."""
    try:
        return call(function)
    except Exception as fault:  # an exercise must never stop Run All
        if callable(function):
            print(f"✗  your function stops with {type(fault).__name__}: {fault}")
        else:
            print("✗  got no function: give the name of yours, without brackets behind it")
        _hints(hints, hint)


def _short(values: np.ndarray) -> str:
    """What was given, in one short line."""
    look = {"float_kind": lambda value: np.format_float_positional(value, 4, trim="-")}
    return " ".join(np.array2string(values, separator=", ", formatter=look).split())[:60]


def _form(values: np.ndarray) -> str:
    return "an empty list" if not values.size else f"a list of {values.size}"


def _judge_loss(
    answer, known: float, yours: float, measure: str, change: str, right: str, hints, hint: int
) -> None:
    """Judge how much of a measure, a number up to 1, a reader's change has cost.

    Args:
        answer: The loss that the reader gives; None if there is none yet.
        known: The measure before the change.
        yours: The measure after it.
        measure: Its name.
        change: What to do where nothing was changed yet.
        right: Why the answer is right.
        hints: In three steps.
        hint: How many hints to print, 0 to 3.
    """
    if answer is not None and known == yours:
        print(f"·  nothing was changed yet: {change} and run the cell again")
        return
    lost = known - yours
    mistakes = {
        "the sign: a loss is before minus after": -lost,
        f"per cent: a {measure} is a number up to 1, so is its loss": round(100 * lost),
        "what is left: take it from what there was": yours,
        "what there was: take away what is left": known,
        "a ratio: take the difference": yours / known,
        "the share that is lost: take the difference": lost / known,
    }
    _judge(answer, lost, right, mistakes, hints, hint, rtol=0, atol=0.0101)


# ---- notebook 00 -------------------------------------------------------------------------------------


def check_frames_of_event(answer: float | None, measured: int, fps: float, hint: int = 0) -> None:
    """Notebook 00, exercise 1: frames of a micro-expression of 0.4 s before a faster camera.

    Args:
        answer: Number of frames that the reader gives; None if there is none yet.
        measured: Number of frames that the actor takes, onset and offset included.
        fps: Frames per second of the camera.
        hint: How many hints to print, 0 to 3.
    """
    mistakes = {
        "one too many: onset and offset are both among them": measured + 1,
        "one too few: onset and offset both count": measured - 1,
        "a second of film: the expression takes 0.4 s": fps,
        "0.4 s over the frames of a second: multiply": 0.4 / fps,
        "the frames of a second over 0.4 s: multiply": fps / 0.4,
        "the frames at 30 per second: this camera is faster": 0.4 * 30,
        "half a second: this one takes 0.4 s": 0.5 * fps,
    }
    hints = (
        "how many pictures does this camera take in one second?",
        "and in 0.4 of a second?",
        f"0.4 s times {fps:g} frames per second.",
    )
    right = "a fast camera sees the same motion in more, smaller steps."
    _judge(answer, measured, right, mistakes, hints, hint)


def check_macro_factor(
    answer: float | None, known_px: float, yours_px: float, hint: int = 0
) -> None:
    """Notebook 00, exercise 2: how many times as far does the skin move in another expression?

    Args:
        answer: The factor that the reader gives; None if there is none yet.
        known_px: Largest motion of the micro-expression of the lesson.
        yours_px: Largest motion with the reader's peak.
        hint: How many hints to print, 0 to 3.
    """
    if answer is not None and known_px == yours_px:
        print("·  nothing was changed yet: change PEAK_PX and run the cell again")
        return
    factor = yours_px / known_px
    mistakes = {
        "the inverse: yours comes first": 1 / factor,
        "the difference: divide the two": yours_px - known_px,
        "the motion itself: divide it by that of the micro-expression": yours_px,
        "what came on top: divide the two": factor - 1,
        "a square: lengths are compared, not areas": factor**2,
        "per cent: give a factor": 100 * factor,
    }
    hints = (
        "the line that is printed has both lengths.",
        "how often does the first go into the second?",
        "yours, divided by that of the micro-expression.",
    )
    right = "and it lasts longer. That is why anybody sees it."
    # Both prints are rounded to a tenth of a pixel.
    _judge(answer, factor, right, mistakes, hints, hint, rtol=0.05 / known_px + 0.05 / yours_px)


# ---- notebook 01 -------------------------------------------------------------------------------------


def check_step_at_48_px(
    answer: float | None, measured_224: float, measured_48: float, hint: int = 0
) -> None:
    """Notebook 01, exercise 1: a false step of a 224-px crop, in a crop of 48 px.

    Args:
        answer: Pixels of the small crop that the reader gives; None if there is none yet.
        measured_224: The step in the large crop, px.
        measured_48: The same in the small one, px.
        hint: How many hints to print, 0 to 3.
    """
    mistakes = {
        "the step in the large crop: fewer pixels lie across the same face now": measured_224,
        "the inverse: the crop becomes smaller, and so does the step": measured_224 * 224 / 48,
        "a square: a step is a length, not an area": measured_224 * (48 / 224) ** 2,
        "the factor alone: multiply the step by it": 48 / 224,
        "what is lost of the step: say what is left": measured_224 - measured_48,
        "per cent: give pixels": 100 * measured_48,
        "nothing: it is small, but a fifth of it is there": 0.0,
    }
    hints = (
        "both crops show the same face. What differs?",
        "a length shrinks with the number of pixels across the face, from 224 to 48.",
        f"{measured_224:.2f} px times 48 / 224.",
    )
    right = "a smaller crop shrinks the step, and the micro-expression with it."
    _judge(answer, measured_48, right, mistakes, hints, hint, rtol=0, atol=0.0051)  # two digits


def check_one_map(function: Callable | None, hint: int = 0) -> None:
    """Notebook 01, exercise 2: picture to aligned crop, then to the steady crop, in one map.

    Args:
        function: The reader's, from S and W, each (2, 3), to one map (2, 3); None if there is none.
        hint: How many hints to print, 0 to 3.
    """
    S = np.array([[0.84, -0.02, -90.0], [0.02, 0.84, -40.0]])
    W = np.array([[1.01, -0.03, 2.0], [0.03, 1.01, -1.5]])

    def full(m) -> np.ndarray:
        return np.vstack([m, [0, 0, 1]])

    def results(own: Callable):
        value = own(S.copy(), W.copy())
        return None if value is None else np.asarray(value, dtype=float).tolist()

    back = np.linalg.inv(full(W))
    slips = {
        "the order: what is done first stands on the right": full(S) @ back,
        "W where its inverse should be: W leads away from the steady crop": full(W) @ full(S),
        "W without its inverse, and in the other order": full(S) @ full(W),
        "S alone: the crop would be aligned, not steady": full(S),
        "W alone, turned round: where is the way from the picture to the crop?": back,
        "the way back, from the steady crop to the picture": np.linalg.inv(back @ full(S)),
        "S turned round: S leads from the picture to the crop already": back
        @ np.linalg.inv(full(S)),
        "a product number by number: use @": back * full(S),
    }
    hints = (
        "follow one point: S takes it from the picture to the aligned crop. What then?",
        "W leads from the steady crop to the aligned one, so you need it backwards.",
        "what is done first stands on the right: np.linalg.inv(full(W)) @ full(S).",
    )
    given = [None] if function is None else _called(function, lambda f: [results(f)], hints, hint)
    if given and given[0] is not None and np.shape(given[0]) != (2, 3):
        print(f"✗  got shape {np.shape(given[0])}: a map has shape (2, 3)")
        _hints(hints, hint)
    elif given:
        wrong = {name: slip[:2].tolist() for name, slip in slips.items()}
        right = "one product, one warp, and the picture is blurred only once."
        _judge(given[0], (back @ full(S))[:2].tolist(), right, wrong, hints, hint, atol=1e-6)


def check_patch_error(answer: float | None, known: float, yours: float, hint: int = 0) -> None:
    """Notebook 01, exercise 3: error of the mouth corner that another patch of skin costs.

    Args:
        answer: Pixels that the reader gives; None if there is none yet.
        known: Error with the whole face, px.
        yours: Error with the reader's patch, px.
        hint: How many hints to print, 0 to 3.
    """
    if answer is not None and known == yours:
        print("·  nothing was changed yet: change PATCH and run the cell again")
        return
    gained = yours - known
    mistakes = {
        "the sign: what is gained is after minus before": -gained,
        "the error on your patch: take away that on the face": yours,
        "the error on the face: take it away from that on your patch": known,
        "a ratio: take the difference": yours / known,
        "the share of it: take the difference, in pixels": gained / known,
    }
    hints = (
        "both errors stand in the line that is printed.",
        "one is on the whole face, one on your patch.",
        "yours minus the other, two digits behind the point.",
    )
    right = "a small patch hardly knows its own turn, and far from its middle a turn is a motion."
    _judge(answer, gained, right, mistakes, hints, hint, rtol=0, atol=0.0101)


# ---- notebook 02 -------------------------------------------------------------------------------------


def check_phase_to_motion(
    answer: float | None, phase_rad: float, slopes_rad_per_px: tuple[float, float], hint: int = 0
) -> None:
    """Notebook 02, exercise 1: the motion of skin that a phase difference at level 2 means.

    Args:
        answer: Pixels that the reader gives; None if there is none yet.
        phase_rad: Phase difference from one frame to the next.
        slopes_rad_per_px: What a pixel of motion is worth at levels 1 and 2, as measured on skin.
        hint: How many hints to print, 0 to 3.
    """
    level_1, level_2 = slopes_rad_per_px
    expected, pure = phase_rad / level_2, phase_rad / (-2 * np.pi / 8)
    mistakes = {
        "the sign: the phase falls where the skin moves on": -expected,
        "a pure wave of 8 px: skin is a mixture of waves, use its own slope": pure,
        "a pure wave of 8 px, with the other sign": -pure,
        "a pure wave of 4 px: that is level 1, and skin has another slope": pure / 2,
        "level 1: you were asked for level 2": phase_rad / level_1,
        "level 1, with the other sign": -phase_rad / level_1,
        "a product: a phase over radians per pixel gives pixels": phase_rad * level_2,
        "upside down: divide the phase by the slope": level_2 / phase_rad,
        "degrees: phase and slope are both in radians": np.degrees(expected),
        "whole turns in place of radians": expected / (2 * np.pi),
    }
    hints = (
        "the line of level 2 says how many radians one pixel of motion is worth, on skin.",
        "take the slope of the course, and ask how many pixels make that phase.",
        f"{phase_rad} rad over {level_2:.2f} rad per px.",
    )
    right = f"a pure wave would have made it {pure:.2f} px, a third of that."
    # The slope is printed with two digits, and the reader divides by those.
    _judge(answer, expected, right, mistakes, hints, hint, rtol=0.02)


def check_unwrapping(function: Callable | None, hint: int = 0) -> None:
    """Notebook 02, exercise 2: whole turns that bring jumps back between -pi and pi.

    Args:
        function: The reader's, from jumps (N,) in rad to turns (N,) in rad; None if there is none.
        hint: How many hints to print, 0 to 3.
    """
    jumps, turn = np.array([-9.0, -4.0, -3.0, 0.0, 3.0, 4.0, 9.0]), 2 * np.pi
    nearest = np.round(jumps / turn)

    def results(own: Callable):
        value = own(jumps.copy())
        return None if value is None else np.asarray(value, dtype=float)

    mistakes = {
        "the released rule: jumps below -pi need a turn, too": -turn * (jumps > np.pi),
        "the other half of the released rule: jumps above pi need a turn, too": (
            turn * (jumps < -np.pi)
        ),
        "the sign: a jump up needs a turn down": turn * nearest,
        "whole turns as a count: give them in radians": -nearest,
        "whole turns in degrees: give them in radians": -360 * nearest,
        "half turns: a whole turn is 2 pi": -np.pi * nearest,
        "multiples of pi: an angle repeats after 2 pi": -np.pi * np.round(jumps / np.pi),
        "a count that is rounded down: round to the nearest": -turn * np.floor(jumps / turn),
        "a count that is rounded towards 0: round to the nearest": -turn * np.trunc(jumps / turn),
        "what is left of the jumps: give the turns, without the jumps": jumps - turn * nearest,
    }
    hints = (
        "how many whole turns does a jump of 4 rad hold, to the nearest? And one of -4?",
        "np.round(jumps / (2 * np.pi)) counts them, in both directions.",
        "take them away: minus 2 pi times that count.",
    )
    given = [None] if function is None else _called(function, lambda f: [results(f)], hints, hint)
    if given and given[0] is not None and given[0].shape != jumps.shape:
        print(f"✗  got shape {given[0].shape} for {jumps.shape}: give a turn for each jump")
        _hints(hints, hint)
    elif given:
        right = "both directions are mended; the released rule mends only the jumps up."
        _judge(given[0], -turn * nearest, right, mistakes, hints, hint)


def check_noise_loss(answer: float | None, known: float, yours: float, hint: int = 0) -> None:
    """Notebook 02, exercise 3: how much correlation is lost by noise.

    Args:
        answer: The loss that the reader gives; None if there is none yet.
        known: Correlation with the true motion without noise.
        yours: Correlation with the reader's noise.
        hint: How many hints to print, 0 to 3.
    """
    hints = (
        "the two correlations stand in the line that is printed.",
        "one is without noise, one is yours.",
        "the first minus the second, two digits behind the point.",
    )
    right = "light turns no phase, but noise does, wherever the amplitude is small."
    change = "set NOISE to 0.001"
    _judge_loss(answer, known, yours, "correlation", change, right, hints, hint)


# ---- notebook 03 -------------------------------------------------------------------------------------


def check_invented_motion(
    answer: float | None, before: float, after: float, slope: float, hint: int = 0
) -> None:
    """Notebook 03, exercise 1: the motion that a flow must report where only the light has changed.

    Args:
        answer: Pixels to the right that the reader gives; None if there is none yet.
        before: Grey value of the pixel in the first frame.
        after: Its grey value in the second.
        slope: Grey value per pixel to the right, not 0.
        hint: How many hints to print, 0 to 3.
    """
    change = after - before
    expected = -change / slope
    mistakes = {
        "the sign: the terms of the equation add up to 0": -expected,
        "slope over change: divide the change by the slope": -slope / change,
        "slope over change, with the other sign": slope / change,
        "the new grey value over the slope: it is the change that counts": -after / slope,
        "the new grey value over the slope, with the other sign": after / slope,
        "the old grey value over the slope: it is the change that counts": -before / slope,
        "the growth in per cent, not in grey values": (1 - after / before) / slope,
        "a product: a steeper slope needs less motion for the same change": -change * slope,
        "the change itself: it is in grey values, you were asked for pixels": change,
        "nothing: so it is, but the flow does not know of lamps": 0.0,
    }
    hints = (
        "which of the three terms of the equation of grey values is 0 here?",
        "what is left: slope times motion plus change is 0. The change is after - before.",
        f"minus ({after:.3f} - {before:.3f}) over {slope:.3f}.",
    )
    right = "nothing moved. A flow that believes in grey values turns light into motion."
    # The three printed numbers are rounded, and the change is a small difference of two of them.
    _judge(answer, expected, right, mistakes, hints, hint, rtol=0.03)


def check_visible_motion(function: Callable | None, hint: int = 0) -> None:
    """Notebook 03, exercise 2: the part of a motion that one pixel shows.

    Args:
        function: The reader's, from two slopes and a change to (right, down); None if there is none.
        hint: How many hints to print, 0 to 3.
    """
    pixels = [(0.2, 0.1, -0.1), (0.3, -0.4, 0.1), (-0.1, 0.2, 0.05)]

    def results(own: Callable) -> list:
        motions = [own(*pixel) for pixel in pixels]
        return None if any(motion is None for motion in motions) else [[*m] for m in motions]

    def along(factor: Callable) -> list:
        return [[factor(*p) * p[0], factor(*p) * p[1]] for p in pixels]

    true = along(lambda x, y, t: -t / (x * x + y * y))
    mistakes = {
        "the sign: the terms of the equation add up to 0": along(lambda x, y, t: t / (x**2 + y**2)),
        "the length of the slope, not its square": along(lambda x, y, t: -t / np.hypot(x, y)),
        "the sum of both slopes below": along(lambda x, y, t: -t / (x + y)),
        "each axis by itself: both together then give twice the change": [
            [-t / x, -t / y] for x, y, t in pixels
        ],
        "the axes: right comes first, then down": [motion[::-1] for motion in true],
        "a motion along the edge: it must be along the slope": [[-b, a] for a, b in true],
        "the direction alone: the change says how far": along(lambda x, y, t: 1 / np.hypot(x, y)),
        "a product: a steeper slope needs less motion": along(lambda x, y, t: -t),
    }
    hints = (
        "it is some number times the slope: (s · dx, s · dy). Put that into the equation.",
        "s · (dx² + dy²) + dt = 0.",
        "s = -dt / (dx**2 + dy**2), and the motion is (s * dx, s * dy).",
    )
    given = [None] if function is None else _called(function, lambda f: [results(f)], hints, hint)
    if given is None:
        return
    if given[0] is not None and [len(motion) for motion in given[0]] != [2, 2, 2]:
        print("✗  give two numbers for a pixel: right and down")
        _hints(hints, hint)
    else:
        right = "it is the shortest of all motions on the line; the rest is hidden in the hole."
        _judge(given[0], true, right, mistakes, hints, hint)


def check_window_loss(answer: float | None, known: float, yours: float, hint: int = 0) -> None:
    """Notebook 03, exercise 3: how much cosine is lost with another window.

    Args:
        answer: The loss that the reader gives; None if there is none yet.
        known: Cosine with the window of the lesson.
        yours: Cosine with the reader's.
        hint: How many hints to print, 0 to 3.
    """
    hints = (
        "the two cosines stand in the line that is printed.",
        "one is with the window of the lesson, one with yours.",
        "the first minus the second, two digits behind the point.",
    )
    right = (
        "too small a window sees one edge only; too large a one mixes what moves with what rests."
    )
    _judge_loss(answer, known, yours, "cosine", "change SIGMA", right, hints, hint)


# ---- notebook 05 -------------------------------------------------------------------------------------


def check_constant_uar(answer: float | None, share: float, classes: int, hint: int = 0) -> None:
    """Notebook 05, exercise 1: UAR of an answer that is always the same.

    Args:
        answer: The UAR that the reader gives; None if there is none yet.
        share: Accuracy of this answer, the share of its class.
        classes: Number of classes.
        hint: How many hints to print, 0 to 3.
    """
    mistakes = {
        "the accuracy: in UAR each class counts as much as any other": share,
        "the share of its class among the seven, again divided: the recall of Happy is 1": (
            share / classes
        ),
        "per cent: give a number from 0 to 1": 100 / classes,
        "the recall of the one class: take the mean over all of them": 1.0,
        "the other classes: all of theirs are wrong": (classes - 1) / classes,
        "one class left out: its own belongs to the mean": 1 / (classes - 1),
        "nothing at all: all clips of one class are right": 0.0,
    }
    hints = (
        "what is the recall of Happy, if Happy is always the answer? And that of Sad?",
        "one recall is 1, all others are 0; how common the classes are does not enter.",
        f"take the mean of a 1 and {classes - 1} zeros.",
    )
    right = "how common the class is helps the accuracy alone."
    _judge(answer, 1 / classes, right, mistakes, hints, hint, rtol=0, atol=0.0031)


def check_fused_scores(function: Callable | None, hint: int = 0) -> None:
    """Notebook 05, exercise 2: the weighted sum of the softmax of several networks.

    Args:
        function: The reader's, from logits (M, N, C) and weights (M,) to fused scores (N, C); None if
            there is none.
        hint: How many hints to print, 0 to 3.
    """
    import torch  # late: other checkers do without

    z = torch.tensor(
        [
            [[2.0, 0.5, -1.0, 0.3], [0.1, 1.4, 0.0, -0.6]],
            [[-0.5, 3.0, 1.0, 0.2], [1.1, -2.0, 0.7, 0.4]],
            [[0.3, 0.2, 0.9, -1.5], [-0.8, 0.6, 2.2, 1.9]],
        ]
    )
    weights = torch.tensor([0.5, 0.2, 0.3])
    each = weights[:, None, None]

    def results(own: Callable):
        value = own(z.clone(), weights.clone())
        return None if value is None else torch.as_tensor(value).tolist()

    expected = (each * z.softmax(-1)).sum(0)
    mistakes = {
        "a softmax after the sum: a bold network then drowns the others": (
            (each * z).sum(0).softmax(-1)
        ),
        "the sum of logits: the softmax is missing": (each * z).sum(0),
        "a softmax over the clips: each clip's shares must sum to 1": (
            (each * z.softmax(1)).sum(0)
        ),
        "a softmax over the networks: each network's shares must sum to 1": (
            (each * z.softmax(0)).sum(0)
        ),
        "equal weights: the weights are not used": z.softmax(-1).mean(0),
        "a sum without weights": z.softmax(-1).sum(0),
        "a mean of weighted shares: the weights sum to 1 already": (each * z.softmax(-1)).mean(0),
        "weights inside the softmax: they are no temperatures": (each * z).softmax(-1).sum(0),
    }
    hints = (
        "a share is a softmax over the classes; which axis of (M, N, C) is that?",
        "the softmax comes first, for each network by itself; the weights come after it.",
        "weights[:, None, None] has the shape (M, 1, 1); multiply, then sum over axis 0.",
    )
    given = [None] if function is None else _called(function, lambda f: [results(f)], hints, hint)
    if given and given[0] is not None and np.shape(given[0]) != (2, 4):
        shape = np.shape(given[0])
        print(f"✗  got shape {shape} for (3, 2, 4): sum over networks, the first axis")
        _hints(hints, hint)
    elif given:
        wrong = {name: value.tolist() for name, value in mistakes.items()}
        right = "softmax first, then weights: each network is heard by its own shares."
        _judge(given[0], expected.tolist(), right, wrong, hints, hint, atol=1e-4)


def check_weight_rise(
    answer: float | None, before: dict[str, float], after: dict[str, float], hint: int = 0
) -> None:
    """Notebook 05, exercise 3: how much the chosen weight of sound rises when it is softer.

    Args:
        answer: The rise that the reader gives; None if there is none yet.
        before: Weight of each network, with the logits of sound as they are.
        after: The same when they are divided.
        hint: How many hints to print, 0 to 3.
    """
    if answer is not None and before == after:
        print("·  the weights are the same: set DIVIDED_BY to 8 and run the cell again")
        return
    rise = after["sound"] - before["sound"]
    mistakes = {
        "the sign: a rise is after minus before": -rise,
        "the new weight: take the old one from it": after["sound"],
        "the old weight: take it from the new one": before["sound"],
        "per cent: weights go from 0 to 1": round(100 * rise),
        "a ratio: take the difference": after["sound"] / max(before["sound"], 1e-9),
        "the face: you were asked for sound": after["face"] - before["face"],
    }
    hints = (
        "the two numbers to compare stand in the two lines that are printed.",
        "one is of the logits as they were, one of the divided ones; both of sound.",
        "after - before, two digits behind the point.",
    )
    right = "the answers of sound are the same; only its shyness changed."
    _judge(answer, rise, right, mistakes, hints, hint, rtol=0, atol=0.0051)


# ---- notebook 06 -------------------------------------------------------------------------------------


def check_longest_hit(answer: float | None, k: int, fps: float, hint: int = 0) -> None:
    """Notebook 06, exercise 1: the longest event that a window of 2 k + 1 frames can still hit.

    Args:
        answer: Number of frames that the reader gives; None if there is none yet.
        k: Half the mean length of the class, frames.
        fps: Frames per second.
        hint: How many hints to print, 0 to 3.
    """
    window = 2 * k + 1
    mistakes = {
        "the window itself: an event may be longer than what is laid over it": window,
        "the shortest event that the window hits: you were asked for the longest": window / 2,
        "the shortest event that the window hits, in whole frames": k + 1,
        "seconds: give frames": 2 * window / fps,
        "seconds, rounded: give frames": round(2 * window / fps, 1),
        "one frame left out: the peak's own frame belongs to the window": 4 * k,
        "the window without the peak's own frame, and an event may be longer": 2 * k,
        "off by one: a half is enough": 2 * window - 1,
        "off by one: a longer event has less than half of itself covered": 2 * window + 1,
    }
    hints = (
        "put the window inside the event: which of the two is then the intersection?",
        "the union is then the event; the hit needs intersection / union of a half or more.",
        f"window / length >= 1/2, and the window has 2 · {k} + 1 frames.",
    )
    right = "a fixed window misses whatever is more than twice as long, however well it is placed."
    _judge(answer, 2 * window, right, mistakes, hints, hint)


def check_interval_iou(function: Callable | None, hint: int = 0) -> None:
    """Notebook 06, exercise 2: intersection over union of two inclusive intervals of frames.

    Args:
        function: The reader's, from two pairs (onset, offset) to a number; None if there is none.
        hint: How many hints to print, 0 to 3.
    """
    pairs = [((10, 19), (15, 24)), ((0, 9), (20, 29)), ((5, 5), (5, 5)), ((0, 19), (5, 14))]
    pairs += [((3, 4), (1, 8))]  # here the first is the shorter one

    def results(own: Callable) -> list[float]:
        def one(a, b) -> float:
            try:
                value = own(a, b)
                return np.nan if value is None else float(value)
            except ZeroDivisionError:  # an interval of one frame has no length without the + 1
                return np.inf

        return [one(a, b) for a, b in pairs]

    def rule(plus: int = 1, clip: bool = True, below: Callable = lambda n, m, both: n + m - both):
        def iou(a, b) -> float:
            both = min(a[1], b[1]) - max(a[0], b[0]) + plus
            both = max(both, 0) if clip else both
            whole = below(a[1] - a[0] + plus, b[1] - b[0] + plus, both)
            return both / whole if whole else np.inf

        return iou

    mistakes = {
        "off by one: both ends belong to the interval": rule(plus=0),
        "a negative intersection: intervals that do not meet share 0 frames": rule(clip=False),
        "the sum of both lengths below: it counts the shared frames twice": rule(
            below=lambda n, m, both: n + m
        ),
        "the share of the first interval: divide by the union": rule(below=lambda n, m, both: n),
        "the share of the second interval: divide by the union": rule(below=lambda n, m, both: m),
        "the share of the longer one: divide by the union": rule(
            below=lambda n, m, both: max(n, m)
        ),
        "the share of the shorter one: divide by the union": rule(
            below=lambda n, m, both: min(n, m)
        ),
        "the mean length below: divide by the union": rule(below=lambda n, m, both: (n + m) / 2),
        "off by one: the shared frames lack their + 1": lambda a, b: (
            (both := max(min(a[1], b[1]) - max(a[0], b[0]), 0))
            / (a[1] - a[0] + b[1] - b[0] + 2 - both)
        ),
        "the intersection alone: divide it by the union": rule(below=lambda n, m, both: 1),
    }
    hints = (
        "how many frames has the interval (5, 5)? And (10, 19)?",
        "the intersection begins at the later onset and ends at the earlier offset.",
        "union = length of a + length of b - intersection; and no intersection is below 0.",
    )
    right = "inclusive ends, no negative overlap, shared frames counted once."
    given = [np.nan] if function is None else _called(function, results, hints, hint)
    if given is None:
        return
    given = None if np.isnan(given).all() else given  # still blank
    wrong = {name: results(slip) for name, slip in mistakes.items()}
    _judge(given, results(rule()), right, wrong, hints, hint)


def check_auc_loss(
    answer: float | None, before: dict[str, float], after: dict[str, float], hint: int = 0
) -> None:
    """Notebook 06, exercise 3: how much frame AUC of macro is lost with other gaps.

    Args:
        answer: The loss that the reader gives; None if there is none yet.
        before: AUC of each class with the gaps that the network was trained with.
        after: AUC of each class with other gaps.
        hint: How many hints to print, 0 to 3.
    """
    lost = before["macro"] - after["macro"]
    if answer is not None and before == after:
        print("·  nothing was changed yet: change FACTOR and run the cell again")
        return
    digits = 0.0101  # two numbers read off the print, each rounded to two digits
    per_cent = 100 * lost
    if isinstance(answer, int | float) and abs(answer - per_cent) < 100 * digits:
        per_cent = answer
    mistakes = {
        "the sign: a loss is before minus after": -lost,
        "per cent: AUC is a number from 0 to 1, so is its loss": per_cent,
        "a ratio: take the difference": after["macro"] / before["macro"],
        "the share that is lost: take the difference": lost / before["macro"],
        "micro: you were asked for macro": before["micro"] - after["micro"],
        "what is left: take it from what there was": after["macro"],
    }
    hints = (
        "the two numbers to compare stand in the two lines that are printed.",
        "one is of the gaps that the network knows, one of yours; both of macro.",
        "before - after, about two digits behind the point.",
    )
    right = "the network is the same; only what it is compared with is another frame."
    _judge(answer, lost, right, mistakes, hints, hint, rtol=0, atol=digits)


# ---- notebook 04 -------------------------------------------------------------------------------------


def check_gru_size(
    answer: float | None, measured: int, inputs: int, hidden: int, hint: int = 0
) -> None:
    """Notebook 04, exercise 1: weights of a two-layer GRU in both directions.

    Args:
        answer: The number that the reader gives; None if there is none yet.
        measured: How many the layer has.
        inputs: Number of features of each snippet.
        hidden: Number of hidden features in each direction.
        hint: How many hints to print, 0 to 3.
    """

    def size(first: int, second: int, biases: int = 2, ways: int = 2) -> int:
        return ways * 3 * hidden * (first + second + 2 * hidden + 2 * biases)

    mistakes = {
        "one direction: the layer runs both ways": size(inputs, hidden, ways=1),
        "one direction of each layer, and the second reads both": size(inputs, 2 * hidden, ways=1),
        "a second layer that reads one direction: it reads both": size(inputs, hidden),
        "the first layer alone": 6 * hidden * (inputs + hidden + 2),
        "one bias: W x and U h have one each": size(inputs, 2 * hidden, biases=1),
        "no bias: W x and U h have one each": size(inputs, 2 * hidden, biases=0),
        "one matrix in place of three: r, z and n have their own": measured / 3,
        "four gates, as an LSTM has: a GRU has r, z and n": measured * 4 / 3,
    }
    hints = (
        "count one direction of one layer first: W, U and two biases, each for r, z and n.",
        "W is hidden x inputs, U is hidden x hidden; what are the inputs of the second layer?",
        f"3 h (n + h + 2) a direction, h = {hidden}; n = {inputs} below and {2 * hidden} above.",
    )
    right = "the memory is a large part of this small network."
    _judge(answer, measured, right, mistakes, hints, hint, rtol=0, atol=0.5)


def check_ccc(function: Callable | None, hint: int = 0) -> None:
    """Notebook 04, exercise 2: the concordance correlation coefficient of two series.

    Args:
        function: The reader's, from predictions (N,) and labels (N,) to a number; None if there is
            none.
        hint: How many hints to print, 0 to 3.
    """
    import torch  # late: other checkers do without

    p = torch.tensor([0.1, 0.5, -0.3, 0.8, 0.2], dtype=torch.float64)
    t = torch.tensor([0.3, 0.9, -0.2, 0.6, -0.4], dtype=torch.float64)
    pairs = [(p, t), (p / 2, t), (p + 1, t), (-p, t)]

    def results(own: Callable):
        values = [own(one.clone(), other.clone()) for one, other in pairs]
        return [np.nan if value is None else float(value) for value in values]

    def rule(top=1.0, shift=lambda d: d**2, power=1.0, unbiased=False, product=False):
        def value(p, t) -> float:
            covariance = ((p - p.mean()) * (t - t.mean())).mean()
            spread = [x.var(unbiased=unbiased) ** power for x in (p, t)]
            below = 2 * (spread[0] * spread[1]).sqrt() if product else sum(spread)
            return float(2 * top * covariance / (below + shift(p.mean() - t.mean())))

        return value

    mistakes = {
        "Pearson's correlation: it forgives a wrong spread and a wrong mean": rule(
            shift=lambda d: 0 * d, product=True
        ),
        "no distance of the means below": rule(shift=lambda d: 0 * d),
        "a distance of the means that is not squared": rule(shift=lambda d: d),
        "an absolute distance of the means: square it": rule(shift=abs),
        "the sign of the distance: it is added": rule(shift=lambda d: -(d**2)),
        "half of it: the covariance counts twice": rule(top=0.5),
        "deviations below: take variances": rule(power=0.5),
        "variances over n - 1 beside a covariance over n": rule(unbiased=True),
        "the loss: CCC itself is 1 minus that": lambda p, t: 1 - rule()(p, t),
        "the covariance as a sum: take the mean": rule(top=float(len(p))),
    }
    hints = (
        "covariance: take from each series its mean, multiply, then take the mean.",
        "below stand both variances and the squared distance of the means.",
        "x.var(unbiased=False) divides by n, as .mean() does.",
    )
    right = "a shrunken or a shifted prediction loses, though its correlation stays."
    given = [np.nan] if function is None else _called(function, results, hints, hint)
    if given is None:
        return
    given = None if np.isnan(given).all() else given  # still blank
    wrong = {name: results(slip) for name, slip in mistakes.items()}
    _judge(given, results(rule()), right, wrong, hints, hint, atol=1e-4)


def check_lost_memory(
    answer: float | None, before: dict[str, float], after: dict[str, float], hint: int = 0
) -> None:
    """Notebook 04, exercise 3: how much CCC of the label with memory is lost.

    Args:
        answer: The loss that the reader gives; None if there is none yet.
        before: CCC of each label in the first training, the one with memory last.
        after: The same of the second training.
        hint: How many hints to print, 0 to 3.
    """
    if answer is not None and before == after:
        print("·  nothing was changed yet: change TRY and run the cell again")
        return
    *others, memory = before
    lost = before[memory] - after[memory]
    mistakes = {
        "the sign: a loss is before minus after": -lost,
        "per cent: CCC is a number up to 1, so is its loss": round(100 * lost),
        "what is left: take it from what there was": after[memory],
    }
    mistakes |= {
        f"{name}: you were asked for {memory}": before[name] - after[name] for name in others
    }
    hints = (
        "the two numbers to compare stand in the two lines that are printed.",
        f"one is of the first training, one of the second; both of {memory}.",
        "before - after, two digits behind the point.",
    )
    right = "look at the other labels, too: what needs less memory loses less."
    _judge(answer, lost, right, mistakes, hints, hint, rtol=0, atol=0.0101)


# ---- notebook 07 -------------------------------------------------------------------------------------


def check_flipped_pcc(answer: float | None, measured: float, hint: int = 0) -> None:
    """Notebook 07, exercise 1: PCC of 1 - p / 2, where p are the predictions.

    Args:
        answer: The PCC that the reader gives; None if there is none yet.
        measured: PCC of p.
        hint: How many hints to print, 0 to 3.
    """
    mistakes = {
        "the PCC of p: where p rises, 1 - p / 2 falls": measured,
        "the formula on the PCC itself: it is the predictions that change": 1 - measured / 2,
        "1 minus the PCC: a shift of all predictions changes no correlation": 1 - measured,
        "half of it: the scale of the predictions does not count": -measured / 2,
        "half of it, and where p rises, 1 - p / 2 falls": measured / 2,
        "no relation at all: who knows 1 - p / 2 knows p": 0.0,
    }
    hints = (
        "draw p and the truth as a cloud of dots; what does a shift of all p do to its shape?",
        "PCC takes away the mean and divides by the deviation: shift and scale are gone.",
        "one thing is left of 1 - p / 2, its sign: a clip above the mean is now below it.",
    )
    right = "shift and scale are ignored, the direction is not."
    _judge(answer, -measured, right, mistakes, hints, hint, rtol=0, atol=0.0051)


def check_masked_shares(function: Callable | None, hint: int = 0) -> None:
    """Notebook 07, exercise 2: a softmax over the rows that may be looked at.

    Args:
        function: The reader's, from products (N,) and mask (N,) to shares (N,); None if there is none.
        hint: How many hints to print, 0 to 3.
    """
    import torch  # late: other checkers do without

    products = torch.tensor([0.5, 2.0, -1.0, 3.0, -0.7])
    mask = torch.tensor([True, True, True, False, False])

    def results(own: Callable):
        value = own(products.clone(), mask.clone())
        return None if value is None else value.tolist()

    exp, open_, sums = products.exp(), products.masked_fill(~mask, -torch.inf), mask.sum()
    mistakes = {
        "a softmax without the mask: padding gets shares": products.softmax(0),
        "zeros before the softmax: exp(0) is 1, so padding still gets shares": (
            (products * mask).softmax(0)
        ),
        "the mask added as 0 and 1: it moves the products and hides nothing": (
            (products + mask).softmax(0)
        ),
        "zeros after the softmax: what is left does not add up to 1": products.softmax(0) * mask,
        "the mask upside down: True may be looked at": (
            products.masked_fill(mask, -torch.inf).softmax(0)
        ),
        "exponentials that nobody divided by their sum": exp * mask,
        "shares without the exponential": products * mask / (products * mask).sum(),
        "an even look: the products decide who gets more": mask / sums,
        "the hidden products: the softmax is missing": open_,
    }
    hints = (
        "what must a product be, so that its exponential is 0?",
        "Tensor.masked_fill(where, value) changes what is True in where; ~mask turns a mask round.",
        "put -torch.inf where the mask is False, then take softmax(0).",
    )
    given = [None] if function is None else _called(function, lambda f: [results(f)], hints, hint)
    if given and given[0] is not None and np.shape(given[0]) != (5,):
        print(f"✗  got shape {np.shape(given[0])} for products (5,): hide padding, do not cut it")
        _hints(hints, hint)
    elif given:
        wrong = {name: value.tolist() for name, value in mistakes.items()}
        right = "padding has exactly nothing, and the rest adds up to 1."
        _judge(given[0], open_.softmax(0).tolist(), right, wrong, hints, hint, atol=1e-4)


def check_pcc_loss(
    answer: float | None, before: dict[str, float], after: dict[str, float], hint: int = 0
) -> None:
    """Notebook 07, exercise 3: how much PCC is lost without a part of the input.

    Args:
        answer: The loss that the reader gives, mean of the seven; None if there is none yet.
        before: PCC of each emotion with all parts.
        after: PCC of each emotion without one.
        hint: How many hints to print, 0 to 3.
    """
    if answer is not None and before == after:
        print("·  nothing is missing yet: change MISSING and run the cell again")
        return
    full, left = (float(np.mean([*values.values()])) for values in (before, after))
    lost, most = full - left, max(before, key=lambda name: before[name] - after[name])
    mistakes = {
        "the sign: a loss is before minus after": -lost,
        "per cent: PCC is a number up to 1, so is its loss": round(100 * lost),
        "what is left: take it from what there was": left,
        "a ratio: take the difference": left / full,
        "the share that is lost: take the difference": lost / full,
        "the sum of the seven: take their mean": len(before) * lost,
        f"the loss of {most} alone: take the mean of the seven": before[most] - after[most],
    }
    hints = (
        "the last line that is printed has both means.",
        "one is with all parts, one is without yours.",
        "before - after, two digits behind the point.",
    )
    right = "it says what this network uses, not what the part could tell."
    _judge(answer, lost, right, mistakes, hints, hint, rtol=0, atol=0.0101)


# ---- notebook 08 -------------------------------------------------------------------------------------


def check_max_key_offset(answer: float | None, measured: int, T: int, hint: int = 0) -> None:
    """Notebook 08, exercise 1: frames between the max-key frame and the apex, equal attention.

    Args:
        answer: Number of frames that the reader gives; None if there is none yet.
        measured: What the notebook measured.
        T: Frames of the clip, with the apex in the middle.
        hint: How many hints to print, 0 to 3.
    """
    near, end, share = 3, (T - 1) // 2, measured / T  # the reader has not computed anything
    expected = measured
    if isinstance(answer, int | float):
        expected = answer if abs(abs(answer) - measured) <= near else measured  # either flank
        share = answer if abs(answer - share) <= near / T else share
    mistakes = {
        "the apex: the sum points to the average frame, not to the strongest": 0,
        "the first frame or the last: a resting face is as far from the average": end,
        "the number of the frame: count from the apex": T - 1 - measured,
        "a share of the clip: give frames": share,
    }
    hints = (
        "the cosine asks which frame points where the sum of all frames points.",
        "the sum points where the average points: what strength has the average frame?",
        f"about 1/2 on average; when, between frame 0 and frame {end}, is the strength 1/2?",
    )
    right = "the frame most like the average has middle strength, so it lies on a flank."
    _judge(answer, expected, right, mistakes, hints, hint)


def check_straight_through(function: Callable | None, hint: int = 0) -> None:
    """Notebook 08, exercise 2: the released binariser, whose gradient goes to all frames.

    Args:
        function: The reader's, from cosines (T,) to B (T,); None if there is none.
        hint: How many hints to print, 0 to 3.
    """
    import torch  # late: other checkers do without

    def results(own: Callable):
        beta = torch.tensor([0.90, 0.97, 0.99, 0.95, 0.91], dtype=torch.float64, requires_grad=True)
        if (value := own(beta)) is None:
            return None
        value = torch.as_tensor(value)
        slope = torch.zeros(5)
        if value.requires_grad:
            (slope,) = torch.autograd.grad(value.sum(), beta)
        return [*value.detach().tolist(), *slope.tolist()]

    def kept(beta):
        return (beta > beta.mean()).double()

    slips = {
        "the paper's rule: dropped frames get no gradient": (
            lambda b: kept(b) + kept(b) * (b - b.detach())
        ),
        "a step without any gradient: nothing would be learnt": kept,
        "kept + beta: without detach() B is not 0 or 1": lambda b: kept(b) + b,
        "the cosines themselves: forwards, B is a step": lambda b: b,
        "the cosines of kept frames: forwards, B is 0 or 1": lambda b: kept(b) * b,
        "the gradient for dropped frames only": (
            lambda b: kept(b) + (1 - kept(b)) * (b - b.detach())
        ),
        "the sign: the gradient points the other way": lambda b: kept(b) - (b - b.detach()),
        "B upside down: kept frames are 1": lambda b: 1 - kept(b) + b - b.detach(),
        "a soft step: forwards, B is exactly 0 or 1": lambda b: torch.sigmoid(b - b.mean()),
    }
    hints = (
        "start from the paper's rule above: what in it stops the gradient of dropped frames?",
        "beta - beta.detach() is 0 forwards and has the slope 1 backwards.",
        "kept plus that bracket, without a factor before it.",
    )
    given = [None] if function is None else _called(function, lambda f: [results(f)], hints, hint)
    if given and given[0] is not None and len(given[0]) != 10:
        print(f"✗  got {len(given[0]) - 5} numbers for 5 frames: B has one for each")
        _hints(hints, hint)
    elif given:
        right = "the same B forwards, and the slope 1 for every frame backwards."
        expected = results(lambda b: kept(b) + b - b.detach())
        wrong = {name: results(slip) for name, slip in slips.items()}
        _judge(given[0], expected, right, wrong, hints, hint)


def check_apex_loss(answer: float | None, before: float, after: float, hint: int = 0) -> None:
    """Notebook 08, exercise 3: how much rarer the apex is kept with resting frames before a clip.

    Args:
        answer: The loss that the reader gives; None if there is none yet.
        before: Share of clips whose apex is kept, as they are cut.
        after: The same with resting frames before them.
        hint: How many hints to print, 0 to 3.
    """
    if answer is not None and before == after:
        print("·  nothing was changed yet: change PAD and run the cell again")
        return
    lost, digits = before - after, 0.0101  # two numbers read off the print
    per_cent = 100 * lost
    if isinstance(answer, int | float) and abs(answer - per_cent) < 100 * digits:
        per_cent = answer
    mistakes = {
        "the sign: a loss is before minus after": -lost,
        "per cent: give a number from 0 to 1": per_cent,
        "what is left: take it from what there was": after,
        "a ratio: take the difference": after / before,
        "the share that is lost: take the difference": lost / before,
    }
    hints = (
        "both numbers stand in the line that is printed.",
        "one is of the clips as they are cut, one with your resting frames.",
        "before - after, two digits behind the point.",
    )
    right = "the average face is now a resting one, and the miner keeps what is like the average."
    _judge(answer, lost, right, mistakes, hints, hint, rtol=0, atol=digits)


# ---- notebook 11 -------------------------------------------------------------------------------------


def check_found_by_tiles(answer: float | None, measured: float, hint: int = 0) -> None:
    """Notebook 11, exercise 1: how many events are found by tiles of their own length?

    Args:
        answer: The share that the reader gives, from 0 to 1; None if there is none yet.
        measured: The share that the notebook measured.
        hint: How many hints to print, 0 to 3.
    """
    mistakes = {
        "the least overlap that counts, not how often it is reached": 0.5,
        "shifts to one side alone": measured / 2,
        "what half of the event would give: half of the union must be shared": 1.0,
        "per cent: give a number from 0 to 1": 100 * measured,
    }
    right = "two events of three, without a look at the video."
    hints = (
        "Slide one bar along another of the same length: when is half of the union shared?",
        "Shifted by d, two bars of length L share L - d frames and cover L + d together.",
        "(L - d) / (L + d) >= 1/2 means d <= L/3; shifts go from -L/2 to L/2.",
    )
    _judge(answer, measured, right, mistakes, hints, hint, rtol=0.025)


def check_pooled_f1(answer: Callable | None, hint: int = 0) -> None:
    """Notebook 11, exercise 2: the overall F1 of two classes.

    Args:
        answer: The reader's function of two triples (tp, predictions, true intervals), for micro and
            macro; returns F1. None if there is none yet.
        hint: How many hints to print, 0 to 3.
    """
    micro, macro = (7, 139, 57), (43, 101, 300)
    ones, right = [2 * 7 / (139 + 57), 2 * 43 / (101 + 300)], 2 * 50 / (240 + 357)
    mistakes = {
        "the mean of the two F1s": sum(ones) / 2,
        "the mean weighted by true intervals": (57 * ones[0] + 300 * ones[1]) / 357,
        "half of it: the hits count twice": right / 2,
        "the sum of the two F1s": sum(ones),
        "the precision: divide by the mean of predictions and true intervals": 50 / 240,
        "the recall: divide by the mean of predictions and true intervals": 50 / 357,
        "per cent: F1 is a number from 0 to 1": 100 * right,
    }
    hints = (
        "Add the triples first, then make one F1 of the sums.",
        "F1 is the share of hits in the mean of predictions and true intervals.",
        "2 tp / (predictions + true intervals), all three summed over both classes.",
    )
    praise = "counts are added, never F1s: 50 of 240 and of 357 give 0.1675."
    given = (
        [answer] if answer is None else _called(answer, lambda f: [f(micro, macro)], hints, hint)
    )
    if given is not None:
        _judge(given[0], right, praise, mistakes, hints, hint)


def check_fewer_digits(
    answer: float | None, measured: int, with_all_digits: int, hint: int = 0
) -> None:
    """Notebook 11, exercise 3: how many times more counts fit when one digit fewer is printed?

    Args:
        answer: The factor that the reader gives; None if there is none yet.
        measured: Number of solutions with a digit fewer.
        with_all_digits: Number of solutions with all digits.
        hint: How many hints to print, 0 to 3.
    """
    factor = measured / with_all_digits
    mistakes = {
        "the number of solutions, not the factor": measured,
        "what one lost digit would give, and three are lost": 10.0,
        "what chance alone would give: the true counts are there with any digits": 1000.0,
        "what came on top: divide the two numbers": factor - 1,
    }
    right = "a digit is a witness; with three gone, that many more stories fit."
    hints = (
        "Run the cell with the shorter texts, and divide the two numbers that it prints.",
        "Each of three numbers now allows an interval ten times as wide; but what fits for certain?",
        "By chance 10 x 10 x 10 times as many would fit. The true counts fit with any digits, and with "
        f"few solutions that counts: {measured} / {with_all_digits}.",
    )
    _judge(answer, factor, right, mistakes, hints, hint, rtol=0.02)
