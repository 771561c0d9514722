"""Checkers for the exercises of the notebooks: they print one line and never raise.

An exercise leaves ``answer = None``; an unanswered one says so and Run All goes on. What is said to
the right answer, and the hints, stand in ``exercises.toml``, a table an exercise; a mistake that is
known stands here, beside the formula that it comes from.
"""

import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np

Answer = float | None  # what a reader gives; None while there is nothing yet
Scores = dict[str, float]  # by class, emotion, label or network
_WORDS = tomllib.loads(Path(__file__).with_name("exercises.toml").read_text(encoding="utf-8"))
# Prints have two digits: how far off is an answer that is one of them, or the difference of two?
_ONE_PRINT, _TWO_PRINTS = {"rtol": 0, "atol": 0.0051}, {"rtol": 0, "atol": 0.0101}


def _judge(
    exercise, answer, expected, mistakes, hint, unchanged=False, rtol=0.005, atol=1e-9, **fields
) -> None:
    """Print what was given and the verdict on it; with ``hint`` the first so many hints.

    Args:
        exercise: Name of its table of words.
        answer: What the reader gives; None if there is nothing yet.
        expected: The right answer, a number or numbers.
        mistakes: What a known mistake is → the answer that it leads to.
        hint: How many hints to print, 0 to 3.
        unchanged: True where the reader should have changed something and has not done so yet.
        rtol: How far an answer may be off, relative to what it is compared with.
        atol: The same, whatever it is compared with.
        fields: What the words leave open.
    """
    words = _WORDS[exercise]

    def same(one) -> bool:
        return values.shape == np.shape(one) and np.allclose(values, np.asarray(one), rtol, atol)

    try:
        values = None if answer is None or unchanged else np.asarray(answer, dtype=float)
        if answer is None:
            print("·  not answered yet; hint=1 gives a first hint")
        elif unchanged:
            print(f"·  {words['unchanged']}")
        elif same(expected):
            print(f"✓  got {_short(values)}: {words['right'].format(**fields)}")
        elif values.shape != np.shape(expected):
            print(f"✗  got {_short(values)}: give one number, not {_form(values)}")
        else:
            known = [f"it looks like {name}" for name, value in mistakes.items() if same(value)]
            known += ["not yet" if hint else "not yet; hint=1 gives a first hint"]
            print(f"✗  got {_short(values)}: {known[0]}")
    except Exception:  # a cat has no digits, and an exercise must never stop Run All
        print(f"✗  got something of type {type(answer).__name__}: give a number")
    _hints(exercise, hint, **fields)


def _judge_function(
    exercise: str, function, trial: Callable, expected, mistakes: dict[str, object], hint: int
) -> None:
    """Judge what the reader's function gives in a trial.

    Args:
        exercise: Name of its table of words.
        function: The reader's; None if there is none.
        trial: Calls a function and returns its numbers; None where it is still blank.
        expected: What a right function gives in the trial.
        mistakes: What a known mistake is → what a function that makes it gives in the trial.
        hint: How many hints to print, 0 to 3.
    """
    fault = None
    try:
        given = None if function is None else trial(function)
        shape = np.asarray(given, dtype=object).shape  # also of a list whose rows differ in length
        if given is not None and shape != np.shape(expected) and "misfit" in _WORDS[exercise]:
            fault = _WORDS[exercise]["misfit"].format(shape=shape)
    except Exception as error:  # an exercise must never stop Run All
        first = str(error).partition("\n")[0]
        fault = f"your function stops with {type(error).__name__}: {first}"
        if not callable(function):
            fault = "got no function: give the name of yours, without brackets behind it"
    if fault is None:
        _judge(exercise, given, expected, mistakes, hint, atol=1e-4)  # room for single precision
    else:
        print(f"✗  {fault}")
        _hints(exercise, hint)


def _hints(exercise: str, hint: int, **fields) -> None:
    """Print the first so many hints."""
    count = max(hint, 0) if isinstance(hint, int) else 0
    for number, text in enumerate(_WORDS[exercise]["hints"][:count], 1):
        print(f"   hint {number}: {text.format(**fields)}")


def _each(function: Callable, cases) -> list[float] | None:
    """What a function gives in each case, NaN for nothing; None if it never is anything."""
    values = [function(*case) for case in cases]
    if all(value is None for value in values):
        return None
    return [np.nan if value is None else float(value) for value in values]


def _with(*arguments) -> Callable:
    """A trial that calls a function with these arguments."""
    return lambda function: function(*arguments)


def _near(answer, within: float, *values: float):
    """The answer, where it lies near one of the values and so is taken for it; else the first."""
    number = isinstance(answer, int | float)
    return answer if number and any(abs(answer - v) <= within for v in values) else values[0]


def _judge_loss(exercise, answer, before, after, hint, unchanged, more=None, **said) -> None:
    """Judge how much of a measure, a number up to 1, was lost; ``more`` are mistakes of its own."""
    lost, whole = before - after, before or np.nan  # nothing can be a share of 0
    mistakes = {
        "the sign: a loss is before minus after": -lost,
        f"per cent: {_WORDS[exercise]['bounds']}": _near(answer, 1.01, 100 * lost),
        "what is left: take it from what there was": after,
        "a ratio: take the difference": after / whole,
        "the share that is lost: take the difference": lost / whole,
        "what there was: take away what is left": before,
    } | (more or {})
    _judge(exercise, answer, lost, mistakes, hint, unchanged, **_TWO_PRINTS, **said)


def _short(values: np.ndarray) -> str:
    """What was given, in one short line."""
    look = {"float_kind": lambda value: np.format_float_positional(value, 4, trim="-")}
    return " ".join(np.array2string(values, separator=", ", formatter=look).split())[:60]


def _form(values: np.ndarray) -> str:
    return "an empty list" if not values.size else f"a list of {values.size}"


# ---- notebook 00 ---------------------------------------------------------------------------------


def check_frames_of_event(answer: Answer, measured: int, fps: float, hint: int = 0) -> None:
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
    _judge("frames_of_event", answer, measured, mistakes, hint, fps=fps)


def check_difference(function: Callable | None, hint: int = 0) -> None:
    """Notebook 00, exercise 2: a picture of what differs between two frames, grey for no change.

    Args:
        function: The reader's, from a frame and the frame at rest, each (H, W) in [0, 1], and a
            factor to a picture (H, W) in [0, 1]; None if there is none.
        hint: How many hints to print, 0 to 3.
    """
    rest = np.array([[0.5, 0.4, 0.6], [0.1, 0.9, 0.3]])
    change, factor = np.array([[0.0, 0.02, -0.03], [0.5, -0.4, 0.01]]), 4.0
    mistakes = {
        "the sign: what has become brighter is bright": np.clip(0.5 - factor * change, 0, 1),
        "no grey for no change: add it": np.clip(factor * change, 0, 1),
        "without limits: a picture has numbers from 0 to 1": 0.5 + factor * change,
        "neither grey for no change nor limits": factor * change,
        "without the factor: so small a change cannot be seen": np.clip(0.5 + change, 0, 1),
        "lengths alone: darker is not brighter": np.clip(0.5 + factor * abs(change), 0, 1),
        "lengths alone, and no grey for no change": np.clip(factor * abs(change), 0, 1),
        "the frame itself, enlarged: take away the frame at rest first": np.clip(
            0.5 + factor * (rest + change), 0, 1
        ),
        "grey multiplied as well: add it last": np.clip(factor * (0.5 + change), 0, 1),
        "limits set before grey is added": 0.5 + np.clip(factor * change, 0, 1),
        "grey of 0 to 255: these pictures go from 0 to 1": np.clip(128 + factor * change, 0, 255),
    }
    trial, right = _with(rest + change, rest.copy(), factor), np.clip(0.5 + factor * change, 0, 1)
    _judge_function("difference", function, trial, right, mistakes, hint)


def check_macro_factor(answer: Answer, known_px: float, yours_px: float, hint: int = 0) -> None:
    """Notebook 00, exercise 3: how many times as far does the skin move in another expression?

    Args:
        answer: The factor that the reader gives; None if there is none yet.
        known_px: Largest motion of the micro-expression of the lesson.
        yours_px: Largest motion with the reader's peak.
        hint: How many hints to print, 0 to 3.
    """
    factor = yours_px / known_px
    mistakes = {
        "the inverse: yours comes first": known_px / (yours_px or np.nan),
        "the difference: divide the two": yours_px - known_px,
        "the motion itself: divide it by that of the micro-expression": yours_px,
        "what came on top: divide the two": factor - 1,
        "a square: lengths are compared, not areas": factor**2,
        "per cent: give a factor": 100 * factor,
    }
    # Both prints are rounded to a tenth of a pixel.
    digits = 0.05 / known_px + 0.05 / max(yours_px, 0.05)
    same = known_px == yours_px
    _judge("macro_factor", answer, factor, mistakes, hint, unchanged=same, rtol=digits)


# ---- notebook 01 ---------------------------------------------------------------------------------


def check_step_at_48_px(
    answer: Answer, measured_224: float, measured_48: float, hint: int = 0
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
        "what is lost of the step: say what is left": measured_224 - measured_48,
        "the micro-expression: you were asked for the false step": 1.4 * 48 / 224,
        "per cent: give pixels": 100 * measured_48,
        "nothing: it is small, but a fifth of it is there": 0.0,
        "the right step, rounded to one digit: give two": round(measured_48, 1),
    }
    said = {"measured_224": measured_224}
    _judge("step_at_48_px", answer, measured_48, mistakes, hint, **_ONE_PRINT, **said)


def check_one_map(function: Callable | None, hint: int = 0) -> None:
    """Notebook 01, exercise 2: picture to aligned crop, then to the steady crop, in one map.

    Args:
        function: The reader's, from S and W, each (2, 3), to one map (2, 3); None if there is none.
        hint: How many hints to print, 0 to 3.
    """
    S = np.array([[0.84, -0.02, -90.0], [0.02, 0.84, -40.0], [0, 0, 1]])
    W = np.array([[1.01, -0.03, 2.0], [0.03, 1.01, -1.5], [0, 0, 1]])
    back = np.linalg.inv(W)
    slips = {
        "the order: what is done first stands on the right": S @ back,
        "W where its inverse should be: W leads away from the steady crop": W @ S,
        "W without its inverse, and in the other order": S @ W,
        "S alone: the crop would be aligned, not steady": S,
        "W alone, turned round: where is the way from the picture to the crop?": back,
        "the way back, from the steady crop to the picture": np.linalg.inv(back @ S),
        "S turned round: S leads from the picture to the crop already": back @ np.linalg.inv(S),
        "a product number by number: use @": back * S,
    }
    mistakes = {name: slip[:2] for name, slip in slips.items()}
    trial = _with(S[:2].copy(), W[:2].copy())
    _judge_function("one_map", function, trial, (back @ S)[:2], mistakes, hint)


def check_patch_error(answer: Answer, known: float, yours: float, hint: int = 0) -> None:
    """Notebook 01, exercise 3: error of the mouth corner that another patch of skin costs.

    Args:
        answer: Pixels that the reader gives; None if there is none yet.
        known: Error with the whole face, px.
        yours: Error with the reader's patch, px.
        hint: How many hints to print, 0 to 3.
    """
    gained = yours - known
    mistakes = {
        "the sign: what is gained is after minus before": -gained,
        "the error on your patch: take away that on the face": yours,
        "the error on the face: take it away from that on your patch": known,
        "a ratio: take the difference": yours / known,
        "the share of it: take the difference, in pixels": gained / known,
    }
    same = known == yours
    _judge("patch_error", answer, gained, mistakes, hint, unchanged=same, **_TWO_PRINTS)


# ---- notebook 02 ---------------------------------------------------------------------------------


def check_phase_to_motion(
    answer: Answer, phase_rad: float, slopes_rad_per_px: tuple[float, float], hint: int = 0
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
        "the right motion, rounded to one digit: give two": round(expected, 1),
    }
    said = {"phase_rad": phase_rad, "level_2": level_2, "pure": pure}
    # The slope is printed with two digits, and the reader divides by those.
    _judge("phase_to_motion", answer, expected, mistakes, hint, rtol=0.02, **said)


def check_unwrapping(function: Callable | None, hint: int = 0) -> None:
    """Notebook 02, exercise 2: whole turns that bring jumps back between -pi and pi.

    Args:
        function: The reader's, from jumps (N,) in rad to turns (N,) in rad; None if there is none.
        hint: How many hints to print, 0 to 3.
    """
    jumps, turn = np.array([-9.0, -4.0, -3.0, 0.0, 3.0, 4.0, 9.0]), 2 * np.pi
    nearest, up, down = np.round(jumps / turn), jumps > np.pi, jumps < -np.pi
    mistakes = {
        "the released rule: jumps below -pi need a turn, too": -turn * up,
        "the other half of the released rule: jumps above pi need a turn, too": turn * down,
        "the sign: a jump up needs a turn down": turn * nearest,
        "whole turns as a count: give them in radians": -nearest,
        "whole turns in degrees: give them in radians": -360 * nearest,
        "half turns: a whole turn is 2 pi": -np.pi * nearest,
        "multiples of pi: an angle repeats after 2 pi": -np.pi * np.round(jumps / np.pi),
        "a count that is rounded down: round to the nearest": -turn * np.floor(jumps / turn),
        "a count that is rounded towards 0: round to the nearest": -turn * np.trunc(jumps / turn),
        "what is left of the jumps: give the turns, without the jumps": jumps - turn * nearest,
    }
    _judge_function("unwrapping", function, _with(jumps.copy()), -turn * nearest, mistakes, hint)


def check_noise_loss(answer: Answer, known: float, yours: float, hint: int = 0) -> None:
    """Notebook 02, exercise 3: how much correlation is lost by noise.

    Args:
        answer: The loss that the reader gives; None if there is none yet.
        known: Correlation with the true motion without noise.
        yours: Correlation with the reader's noise.
        hint: How many hints to print, 0 to 3.
    """
    _judge_loss("noise_loss", answer, known, yours, hint, known == yours)


# ---- notebook 03 ---------------------------------------------------------------------------------


def check_invented_motion(
    answer: Answer, before: float, after: float, slope: float, hint: int = 0
) -> None:
    """Notebook 03, exercise 1: the motion that a flow must report where only the light has changed.

    Args:
        answer: Pixels to the right that the reader gives; None if there is none yet.
        before: Grey value of the pixel in the first frame.
        after: Its grey value in the second.
        slope: Grey value per pixel to the right, not 0.
        hint: How many hints to print, 0 to 3.
    """
    change, expected = after - before, (before - after) / slope
    mistakes = {
        "the sign: the terms of the equation add up to 0": -expected,
        "slope over change: divide the change by the slope": -slope / (change or np.nan),
        "slope over change, with the other sign": slope / (change or np.nan),
        "the new grey value over the slope: it is the change that counts": -after / slope,
        "the new grey value over the slope, with the other sign": after / slope,
        "the old grey value over the slope: it is the change that counts": -before / slope,
        "the growth in per cent, not in grey values": (1 - after / (before or np.nan)) / slope,
        "a product: a steeper slope needs less motion for the same change": -change * slope,
        "the change itself: it is in grey values, you were asked for pixels": change,
        "nothing: so it is, but the flow does not know of lamps": 0.0,
    }
    said = {"before": before, "after": after, "slope": slope}
    # The three printed numbers are rounded, and the change is a small difference of two of them.
    _judge("invented_motion", answer, expected, mistakes, hint, rtol=0.03, **said)


def check_visible_motion(function: Callable | None, hint: int = 0) -> None:
    """Notebook 03, exercise 2: the part of a motion that one pixel shows.

    Args:
        function: The reader's, from two slopes and a change to (right, down); None if there is
            none.
        hint: How many hints to print, 0 to 3.
    """
    pixels = np.array([[0.2, 0.1, -0.1], [0.3, -0.4, 0.1], [-0.1, 0.2, 0.05]])
    slope, change = pixels[:, :2], pixels[:, 2:]
    steepness = np.linalg.norm(slope, axis=1, keepdims=True)
    true = -change * slope / steepness**2

    def trial(own: Callable) -> list | None:
        motions = [own(*pixel) for pixel in pixels.tolist()]
        return None if any(motion is None for motion in motions) else [[*m] for m in motions]

    mistakes = {
        "the sign: the terms of the equation add up to 0": -true,
        "the length of the slope, not its square": true * steepness,
        "the sum of both slopes below": -change * slope / slope.sum(1, keepdims=True),
        "each axis by itself: both together then give twice the change": -change / slope,
        "the axes: right comes first, then down": true[:, ::-1],
        "a motion along the edge: it must be along the slope": true[:, ::-1] * [-1, 1],
        "the direction alone: the change says how far": slope / steepness,
        "a product: a steeper slope needs less motion": -change * slope,
    }
    _judge_function("visible_motion", function, trial, true, mistakes, hint)


def check_window_loss(answer: Answer, known: float, yours: float, hint: int = 0) -> None:
    """Notebook 03, exercise 3: how much cosine is lost with another window.

    Args:
        answer: The loss that the reader gives; None if there is none yet.
        known: Cosine with the window of the lesson.
        yours: Cosine with the reader's.
        hint: How many hints to print, 0 to 3.
    """
    _judge_loss("window_loss", answer, known, yours, hint, known == yours)


# ---- notebook 04 ---------------------------------------------------------------------------------


def check_gru_size(answer: Answer, measured: int, inputs: int, hidden: int, hint: int = 0) -> None:
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
        "one direction of the first layer": 3 * hidden * (inputs + hidden + 2),
        "a second layer with the inputs of the first: it reads states": size(inputs, inputs),
        "one bias: W x and U h have one each": size(inputs, 2 * hidden, biases=1),
        "no bias: W x and U h have one each": size(inputs, 2 * hidden, biases=0),
        "one matrix in place of three: r, z and n have their own": measured / 3,
        "four gates, as an LSTM has: a GRU has r, z and n": measured * 4 / 3,
    }
    said = {"inputs": inputs, "hidden": hidden, "both_ways": 2 * hidden}
    _judge("gru_size", answer, measured, mistakes, hint, rtol=0, atol=0.5, **said)


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
    p = torch.stack([p, p / 2, p + 1, -p])  # four series, each against the same labels
    n, mean = len(t), p.mean(1)
    top = 2 * ((p - mean[:, None]) * (t - t.mean())).mean(1)
    var_p, var_t, apart = p.var(1, unbiased=False), t.var(unbiased=False), mean - t.mean()
    expected = top / (var_p + var_t + apart**2)
    mistakes = {
        "Pearson's correlation: it forgives a wrong spread and a wrong mean": (
            top / 2 / (var_p * var_t).sqrt()
        ),
        "no distance of the means below": top / (var_p + var_t),
        "a distance of the means that is not squared": top / (var_p + var_t + apart),
        "an absolute distance of the means: square it": top / (var_p + var_t + apart.abs()),
        "the sign of the distance: it is added": top / (var_p + var_t - apart**2),
        "half of it: the covariance counts twice": expected / 2,
        "deviations below: take variances": top / (var_p.sqrt() + var_t.sqrt() + apart**2),
        "variances over n - 1 beside a covariance over n": (
            top / ((var_p + var_t) * n / (n - 1) + apart**2)
        ),
        "the loss: CCC itself is 1 minus that": 1 - expected,
        "the covariance as a sum: take the mean": n * expected,
    }
    cases = [(one.clone(), t.clone()) for one in p]
    _judge_function("ccc", function, lambda own: _each(own, cases), expected, mistakes, hint)


def check_lost_memory(answer: Answer, before: Scores, after: Scores, hint: int = 0) -> None:
    """Notebook 04, exercise 3: how much CCC of the label with memory is lost.

    Args:
        answer: The loss that the reader gives; None if there is none yet.
        before: CCC of each label in the first training, the one with memory last.
        after: The same of the second training.
        hint: How many hints to print, 0 to 3.
    """
    *others, memory = before
    more = {f"{o}: you were asked for {memory}": before[o] - after[o] for o in others}
    asked = before[memory], after[memory], hint, before == after
    _judge_loss("lost_memory", answer, *asked, more, memory=memory)


# ---- notebook 05 ---------------------------------------------------------------------------------


def check_constant_uar(answer: Answer, share: float, classes: int, hint: int = 0) -> None:
    """Notebook 05, exercise 1: UAR of an answer that is always the same.

    Args:
        answer: The UAR that the reader gives; None if there is none yet.
        share: Accuracy of this answer, the share of its class.
        classes: Number of classes.
        hint: How many hints to print, 0 to 3.
    """
    others = classes - 1
    mistakes = {
        "the accuracy: in UAR each class counts as much as any other": share,
        "the share of its class among the seven, again divided: the recall of Happy is 1": (
            share / classes
        ),
        "per cent: give a number from 0 to 1": 100 / classes,
        "the recall of the one class: take the mean over all of them": 1.0,
        "the other classes: all of theirs are wrong": others / classes,
        "one class left out: its own belongs to the mean": 1 / others,
        "nothing at all: all clips of one class are right": 0.0,
    }
    said = {"others": others}
    _judge("constant_uar", answer, 1 / classes, mistakes, hint, rtol=0, atol=0.0031, **said)


def check_fused_scores(function: Callable | None, hint: int = 0) -> None:
    """Notebook 05, exercise 2: the weighted sum of the softmax of several networks.

    Args:
        function: The reader's, from logits (M, N, C) and weights (M,) to fused scores (N, C); None
            if there is none.
        hint: How many hints to print, 0 to 3.
    """
    import torch  # late: other checkers do without

    face = [[2.0, 0.5, -1.0, 0.3], [0.1, 1.4, 0.0, -0.6]]
    sound = [[-0.5, 3.0, 1.0, 0.2], [1.1, -2.0, 0.7, 0.4]]
    scene = [[0.3, 0.2, 0.9, -1.5], [-0.8, 0.6, 2.2, 1.9]]
    z = torch.tensor([face, sound, scene])
    weights = torch.tensor([0.5, 0.2, 0.3])
    w, shares = weights[:, None, None], z.softmax(-1)
    mistakes = {
        "a softmax after the sum: a bold network then drowns the others": (w * z)
        .sum(0)
        .softmax(-1),
        "the sum of logits: the softmax is missing": (w * z).sum(0),
        "a softmax over the clips: each clip's shares must sum to 1": (w * z.softmax(1)).sum(0),
        "a softmax over the networks: each network's shares must sum to 1": (
            (w * z.softmax(0)).sum(0)
        ),
        "equal weights: the weights are not used": shares.mean(0),
        "a sum without weights": shares.sum(0),
        "a mean of weighted shares: the weights sum to 1 already": (w * shares).mean(0),
        "weights inside the softmax: they are no temperatures": (w * z).softmax(-1).sum(0),
    }
    fused, trial = (w * shares).sum(0), _with(z.clone(), weights.clone())
    _judge_function("fused_scores", function, trial, fused, mistakes, hint)


def check_weight_rise(answer: Answer, before: Scores, after: Scores, hint: int = 0) -> None:
    """Notebook 05, exercise 3: how much the chosen weight of sound rises when it is softer.

    Args:
        answer: The rise that the reader gives; None if there is none yet.
        before: Weight of each network, with the logits of sound as they are.
        after: The same when they are divided.
        hint: How many hints to print, 0 to 3.
    """
    rise, same = after["sound"] - before["sound"], before == after
    mistakes = {
        "the sign: a rise is after minus before": -rise,
        "the new weight: take the old one from it": after["sound"],
        "the old weight: take it from the new one": before["sound"],
        "per cent: weights go from 0 to 1": round(100 * rise),
        "a ratio: take the difference": after["sound"] / max(before["sound"], 1e-9),
        "the face: you were asked for sound": after["face"] - before["face"],
    }
    _judge("weight_rise", answer, rise, mistakes, hint, unchanged=same, **_ONE_PRINT)


# ---- notebook 06 ---------------------------------------------------------------------------------


def check_longest_hit(answer: Answer, k: int, fps: float, hint: int = 0) -> None:
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
    _judge("longest_hit", answer, 2 * window, mistakes, hint, k=k)


def check_interval_iou(function: Callable | None, hint: int = 0) -> None:
    """Notebook 06, exercise 2: intersection over union of two inclusive intervals of frames.

    Args:
        function: The reader's, from two pairs (onset, offset) to a number; None if there is none.
        hint: How many hints to print, 0 to 3.
    """
    pairs = [((10, 19), (15, 24)), ((0, 9), (20, 29)), ((5, 5), (5, 5)), ((0, 19), (5, 14))]
    pairs += [((3, 4), (1, 8))]  # here the first is the shorter one

    def trial(own: Callable) -> list[float] | None:
        def one(a, b):
            try:
                return own(a, b)
            except ZeroDivisionError:  # an interval of one frame has no length without the + 1
                return np.inf

        return _each(one, pairs)

    onsets, offsets = np.moveaxis(np.array(pairs), -1, 0)
    n, m = (offsets - onsets + 1).T
    reach = offsets.min(1) - onsets.max(1)
    both, less = np.maximum(reach + 1, 0), np.maximum(reach, 0)
    without = np.divide(less, n + m - 2 - less, out=np.full(5, np.inf), where=n + m - 2 > less)
    mistakes = {
        "off by one: both ends belong to the interval": without,
        "a negative intersection: intervals that do not meet share 0 frames": (
            (reach + 1) / (n + m - reach - 1)
        ),
        "the sum of both lengths below: it counts the shared frames twice": both / (n + m),
        "the share of the first interval: divide by the union": both / n,
        "the share of the second interval: divide by the union": both / m,
        "the share of the longer one: divide by the union": both / np.maximum(n, m),
        "the share of the shorter one: divide by the union": both / np.minimum(n, m),
        "the mean length below: divide by the union": both / ((n + m) / 2),
        "off by one: the shared frames lack their + 1": less / (n + m - less),
        "the intersection alone: divide it by the union": both,
    }
    _judge_function("interval_iou", function, trial, both / (n + m - both), mistakes, hint)


def check_auc_loss(answer: Answer, before: Scores, after: Scores, hint: int = 0) -> None:
    """Notebook 06, exercise 3: how much frame AUC of macro is lost with other gaps.

    Args:
        answer: The loss that the reader gives; None if there is none yet.
        before: AUC of each class with the gaps that the network was trained with.
        after: AUC of each class with other gaps.
        hint: How many hints to print, 0 to 3.
    """
    more = {"micro: you were asked for macro": before["micro"] - after["micro"]}
    _judge_loss("auc_loss", answer, before["macro"], after["macro"], hint, before == after, more)


# ---- notebook 07 ---------------------------------------------------------------------------------


def check_flipped_pcc(answer: Answer, measured: float, hint: int = 0) -> None:
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
    _judge("flipped_pcc", answer, -measured, mistakes, hint, **_ONE_PRINT)


def check_masked_shares(function: Callable | None, hint: int = 0) -> None:
    """Notebook 07, exercise 2: a softmax over the rows that may be looked at.

    Args:
        function: The reader's, from products (N,) and mask (N,) to shares (N,); None if there is
            none.
        hint: How many hints to print, 0 to 3.
    """
    import torch  # late: other checkers do without

    products = torch.tensor([0.5, 2.0, -1.0, 3.0, -0.7])
    mask = torch.tensor([True, True, True, False, False])
    seen, padding = (products.masked_fill(~one, -torch.inf) for one in (mask, ~mask))
    mistakes = {
        "a softmax without the mask: padding gets shares": products.softmax(0),
        "zeros before the softmax: exp(0) is 1, so padding still gets shares": (
            (products * mask).softmax(0)
        ),
        "the mask added as 0 and 1: it moves the products and hides nothing": (
            (products + mask).softmax(0)
        ),
        "zeros after the softmax: what is left does not add up to 1": products.softmax(0) * mask,
        "the mask upside down: True may be looked at": padding.softmax(0),
        "exponentials that nobody divided by their sum": products.exp() * mask,
        "shares without the exponential": products * mask / (products * mask).sum(),
        "an even look: the products decide who gets more": mask / mask.sum(),
        "the hidden products: the softmax is missing": seen,
    }

    def trial(own: Callable):
        return own(products.clone(), mask.clone())

    _judge_function("masked_shares", function, trial, seen.softmax(0), mistakes, hint)


def check_pcc_loss(answer: Answer, before: Scores, after: Scores, hint: int = 0) -> None:
    """Notebook 07, exercise 3: how much PCC is lost without a part of the input.

    Args:
        answer: The loss that the reader gives, mean of the seven; None if there is none yet.
        before: PCC of each emotion with all parts.
        after: PCC of each emotion without one.
        hint: How many hints to print, 0 to 3.
    """
    full, left = (float(np.mean([*values.values()])) for values in (before, after))
    lost = {name: before[name] - after[name] for name in before}
    most = max(lost, key=lost.get)
    more = {"the sum of the seven: take their mean": len(lost) * (full - left)}
    more[f"the loss of {most} alone: take the mean of the seven"] = lost[most]
    _judge_loss("pcc_loss", answer, full, left, hint, before == after, more)


# ---- notebook 08 ---------------------------------------------------------------------------------


def check_max_key_offset(answer: Answer, measured: int, T: int, hint: int = 0) -> None:
    """Notebook 08, exercise 1: frames between the max-key frame and the apex, equal attention.

    Args:
        answer: Number of frames that the reader gives; None if there is none yet.
        measured: What the notebook measured.
        T: Frames of the clip, with the apex in the middle.
        hint: How many hints to print, 0 to 3.
    """
    near, end = 3, (T - 1) // 2  # near: the reader has not computed anything
    expected = _near(answer, near, measured, -measured)  # either flank
    mistakes = {
        "the apex: the sum points to the average frame, not to the strongest": 0,
        "the first frame or the last: a resting face is as far from the average": end,
        "the number of the frame: count from the apex": _near(answer, near, end + measured),
        "a share of the clip: give frames": _near(answer, near / T, measured / T),
    }
    _judge("max_key_offset", answer, expected, mistakes, hint, end=end)


def check_straight_through(function: Callable | None, hint: int = 0) -> None:
    """Notebook 08, exercise 2: the released binariser, whose gradient goes to all frames.

    Args:
        function: The reader's, from cosines (T,) to B (T,); None if there is none.
        hint: How many hints to print, 0 to 3.
    """
    import torch  # late: other checkers do without

    def trial(own: Callable) -> list | None:
        beta = torch.tensor([0.90, 0.97, 0.99, 0.95, 0.91], dtype=torch.float64, requires_grad=True)
        if (value := own(beta)) is None:
            return None
        value, slope = torch.as_tensor(value), torch.zeros(5)
        if value.shape != beta.shape:
            return torch.atleast_1d(value.detach())[:, None]  # a column is no B beside its slope
        if value.requires_grad:
            (slope,) = torch.autograd.grad(value.sum(), beta)
        return [*value.tolist(), *slope.tolist()]

    def kept(b):
        return (b > b.mean()).double()

    def only_slope(b):
        return b - b.detach()

    slips = {
        "the paper's rule: dropped frames get no gradient": lambda b: kept(b) * (1 + only_slope(b)),
        "a step without any gradient: nothing could change the choice": kept,
        "kept + beta: without detach() B is not 0 or 1": lambda b: kept(b) + b,
        "the cosines themselves: forwards, B is a step": lambda b: b,
        "the cosines of kept frames: forwards, B is 0 or 1": lambda b: kept(b) * b,
        "the gradient for dropped frames only": lambda b: kept(b) + (1 - kept(b)) * only_slope(b),
        "the sign: the gradient points the other way": lambda b: kept(b) - only_slope(b),
        "B upside down: kept frames are 1": lambda b: 1 - kept(b) + only_slope(b),
        "a soft step: forwards, B is exactly 0 or 1": lambda b: torch.sigmoid(b - b.mean()),
    }
    mistakes = {name: trial(slip) for name, slip in slips.items()}
    expected = trial(lambda b: kept(b) + only_slope(b))
    _judge_function("straight_through", function, trial, expected, mistakes, hint)


def check_apex_loss(answer: Answer, before: float, after: float, hint: int = 0) -> None:
    """Notebook 08, exercise 3: how much rarer the apex is kept with resting frames before a clip.

    Args:
        answer: The loss that the reader gives; None if there is none yet.
        before: Share of clips whose apex is kept, as they are cut.
        after: The same with resting frames before them.
        hint: How many hints to print, 0 to 3.
    """
    _judge_loss("apex_loss", answer, before, after, hint, before == after)


# ---- notebook 11 ---------------------------------------------------------------------------------


def check_found_by_tiles(answer: Answer, measured: float, hint: int = 0) -> None:
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
    _judge("found_by_tiles", answer, measured, mistakes, hint, rtol=0.025)


def check_pooled_f1(answer: Callable | None, hint: int = 0) -> None:
    """Notebook 11, exercise 2: the overall F1 of two classes.

    Args:
        answer: The reader's function of two triples (tp, predictions, true intervals), for micro
            and macro; returns F1. None if there is none yet.
        hint: How many hints to print, 0 to 3.
    """
    micro, macro = (7, 139, 57), (43, 101, 300)
    ones, pooled = [2 * 7 / (139 + 57), 2 * 43 / (101 + 300)], 2 * 50 / (240 + 357)
    mistakes = {
        "the mean of the two F1s": sum(ones) / 2,
        "the mean weighted by true intervals": (57 * ones[0] + 300 * ones[1]) / 357,
        "half of it: the hits count twice": pooled / 2,
        "the sum of the two F1s": sum(ones),
        "the precision: divide by the mean of predictions and true intervals": 50 / 240,
        "the recall: divide by the mean of predictions and true intervals": 50 / 357,
        "per cent: F1 is a number from 0 to 1": 100 * pooled,
    }
    _judge_function("pooled_f1", answer, _with(micro, macro), pooled, mistakes, hint)


def check_fewer_digits(answer: Answer, measured: int, with_all_digits: int, hint: int = 0) -> None:
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
    }
    said = {"measured": measured, "with_all_digits": with_all_digits}
    _judge("fewer_digits", answer, factor, mistakes, hint, rtol=0.02, **said)
