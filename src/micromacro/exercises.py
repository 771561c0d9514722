"""Checkers for the exercises of the notebooks: they print one line and never raise.

An exercise leaves ``answer = None``; an unanswered one says so and Run All goes on.
"""

import contextlib
from collections.abc import Callable

import numpy as np


def _mark(answer, test: Callable[[object], bool], right: str, hint: str) -> None:
    """Prints the verdict on one answer."""
    if answer is None:
        print("·  not answered yet")
        return
    try:
        correct = bool(test(answer))
    except Exception as fault:  # an exercise must never stop Run All
        print(f"✗  could not be checked ({type(fault).__name__}: {fault}). Hint: {hint}")
        return
    print(f"✓  {right}" if correct else f"✗  not yet. Hint: {hint}")


def _close(expected, rtol: float = 0.02, atol: float = 1e-6) -> Callable[[object], bool]:
    """A test for numbers: same shape, equal to within ``rtol`` or ``atol``."""

    def test(answer) -> bool:
        values = np.asarray(answer, dtype=float)
        return values.shape == np.shape(expected) and np.allclose(values, expected, rtol, atol)

    return test


def check_jitter_at_48_px(answer_px: float | None, jitter_224_px: float) -> None:
    """Notebook 01, exercise 1: how large is a jitter of a 224-px crop in a 48-px crop?

    Args:
        answer_px: The length that the reader gives, in pixels of the 48-px crop.
        jitter_224_px: The jitter that was measured, in pixels of the 224-px crop.
    """
    right = "a crop of 48 px shrinks every motion by 48/224, the jitter like the expression."
    hint = "both crops show the same face; only the number of pixels across it changes."
    _mark(answer_px, _close(jitter_224_px * 48 / 224), right, hint)


def check_two_eye_similarity(transform, points: np.ndarray, template: np.ndarray) -> None:
    """Notebook 01, exercise 2: the similarity that puts both eyes exactly on the template.

    Args:
        transform: The ``(2, 3)`` matrix that the reader gives.
        points: ``(5, 2)``, landmarks in the source frame, px.
        template: ``(5, 2)``, where the landmarks are to lie in the crop, px.
    """

    def test(answer) -> bool:
        matrix = np.asarray(answer, dtype=float)
        (a, minus_b), (b, a_again) = matrix[:, :2]
        similar = np.isclose(a, a_again) and np.isclose(b, -minus_b)
        eyes = np.asarray(points[:2]) @ matrix[:, :2].T + matrix[:, 2]
        return similar and np.allclose(eyes, template[:2], atol=1e-2)

    right = "two points fix a similarity exactly, so their noise goes straight into the crop."
    hint = "call similarity() with the first two points of each set."
    _mark(transform, test, right, hint)


def check_smoothing_delay(answer_frames: float | None, window: int) -> None:
    """Notebook 01, exercise 3: how late is a running mean over the last frames?

    Args:
        answer_frames: The delay that the reader gives, in frames.
        window: Length of the mean in frames, the present one included.
    """
    right = "smoothed landmarks trail the head by that many frames, and the crop with them."
    hint = "the mean of frames t, t-1, ..., t-(n-1) describes the middle of that stretch."
    _mark(answer_frames, _close((window - 1) / 2), right, hint)


def check_phase_to_motion(answer_px: float | None, phase_rad: float, wavelength_px: float) -> None:
    """Notebook 02, exercise 1: what motion does a phase difference mean?

    Args:
        answer_px: The motion that the reader gives, in pixels.
        phase_rad: The phase difference from one frame to the next, rad.
        wavelength_px: Wavelength to which the band answers, px.
    """
    right = "a whole wavelength is a turn of 2 pi, and the phase falls where content moves on."
    hint = "solve phase = -2 pi d / wavelength for d; mind the sign."
    _mark(answer_px, _close(-phase_rad * wavelength_px / (2 * np.pi)), right, hint)


def check_cost_of_size(answer: float | None, small: int, large: int) -> None:
    """Notebook 02, exercise 2: how does the cost of matrix products grow with the side?

    Args:
        answer: The factor that the reader gives; None if there is none yet.
        small: Side of the small frame in pixels.
        large: Side of the large frame in pixels.
    """
    right = "every product costs N^3 multiply-adds; a Fourier transform would grow less."
    hint = "count the multiply-adds of one product of two N x N matrices."
    _mark(answer, _close((large / small) ** 3), right, hint)


def check_unwrapping(turns: Callable | None) -> None:
    """Notebook 02, exercise 3: whole turns that bring jumps back between -pi and pi.

    Args:
        turns: The function that the reader gives, from jumps (N,) in rad to turns (N,) in rad.
    """
    jumps = np.array([-9.0, -4.0, -3.0, 0.0, 3.0, 4.0, 9.0])

    def test(answer) -> bool:
        added = np.asarray(answer(jumps.copy()), dtype=float)
        whole = np.allclose(added / (2 * np.pi), np.round(added / (2 * np.pi)))
        return added.shape == jumps.shape and whole and bool(np.all(np.abs(jumps + added) <= np.pi))

    right = "both directions are mended; the released rule mends only the jumps up."
    hint = "np.round(jumps / (2 pi)) counts the turns; take them away."
    _mark(turns, test, right, hint)


def check_display_gain(answer: float | None, gain: float, gamma: float = 2.2) -> None:
    """Notebook 03, exercise 1: what a gain of the linear light does to stored grey values.

    Args:
        answer: The factor that the reader gives; None if there is none yet.
        gain: Factor on the linear light.
        gamma: Exponent of the display; the camera stores the inverse.
    """
    right = "a power law turns a gain into a gain; an offset it turns into something else."
    hint = "put gain * L into the camera's formula and divide by what L alone gives."
    _mark(answer, _close(gain ** (1 / gamma), rtol=0.01), right, hint)


def check_cosine_with_false_motion(answer: float | None) -> None:
    """Notebook 03, exercise 2: cosine of truth plus an orthogonal field of the same norm.

    Args:
        answer: The number that the reader gives; None if there is none yet.
    """
    right = "as much false motion as true motion still leaves a cosine of 0.71."
    hint = "draw the two fields as two sides of a square; the estimate is its diagonal."
    _mark(answer, _close(np.sqrt(0.5), rtol=0.01), right, hint)


def check_averaging(answer: float | None, reduction: float) -> None:
    """Notebook 03, exercise 3: how many frames reduce independent noise by a factor?

    Args:
        answer: The number of frames that the reader gives; None if there is none yet.
        reduction: Factor by which the noise shall fall.
    """
    right = "noise falls with the root of the number; a micro-expression has no frames to spare."
    hint = "the standard deviation of a mean of n is 1 / sqrt(n) of that of one."
    _mark(answer, _close(reduction**2), right, hint)


def check_snippet_length(answer: float | None, fps: float) -> None:
    """Notebook 04, exercise 1: differences that span as long as 12 at 30 frames per second.

    Args:
        answer: The number that the reader gives; None if there is none yet.
        fps: Frames per second of the other camera.
    """
    right = (
        "each difference is then a motion of a few hundredths of a pixel: noise counts for more."
    )
    hint = "12 differences at 30 per second last 12 / 30 s; each of yours lasts 1 / fps."
    _mark(answer, _close(12 * fps / 30), right, hint)


def check_shrunken_ccc(answer: float | None, factor: float) -> None:
    """Notebook 04, exercise 2: CCC of a perfectly correlated prediction of another spread.

    Args:
        answer: The number that the reader gives; None if there is none yet.
        factor: Spread of the prediction over that of the truth.
    """
    right = "a cautious predictor loses CCC; rescaling its spread gets it back."
    hint = "c = a s², s_p² = a² s², equal means; put them into the formula."
    _mark(answer, _close(2 * factor / (1 + factor**2)), right, hint)


def check_gru_parameters(answer: float | None, inputs: int, hidden: int) -> None:
    """Notebook 04, exercise 3: parameters of a two-layer GRU in both directions.

    Args:
        answer: The number that the reader gives; None if there is none yet.
        inputs: Number of features at each time.
        hidden: Number of hidden features in each direction.
    """
    layers = [3 * hidden * (n + hidden + 2) * 2 for n in (inputs, 2 * hidden)]
    right = "more than a fifth of the published network."
    hint = "each direction has 3 h (n + h + 2) of them: W, U and two biases for r, z and n."
    _mark(answer, _close(sum(layers), rtol=0, atol=0.5), right, hint)


def check_kept_frames(answer: float | None, beta: list[float]) -> None:
    """Notebook 08, exercise 1: how many frames a threshold at the clip's mean keeps.

    Args:
        answer: The number that the reader gives; None if there is none yet.
        beta: Cosine beta_t of each frame of the clip, from which AKMNet selects.
    """
    right = "half here: a mean is a poor judge of how many."
    hint = f"the threshold is the mean, {np.mean(beta):.3f}; what is above it stays."
    _mark(
        answer, _close(int(np.sum(np.array(beta) > np.mean(beta))), rtol=0, atol=0.01), right, hint
    )


def check_random_distance(answer: float | None, T: int, apex: int) -> None:
    """Notebook 08, exercise 2: expected distance of a random frame from the apex.

    Args:
        answer: The number of frames that the reader gives; None if there is none yet.
        T: Number of frames of the clip.
        apex: Number of the apex frame, 0-based.
    """
    right = "about T/4 with the apex in the middle. Any claim of nearness starts from here."
    hint = "take the mean of |frame - apex| over all frames; the apex counts too, at 0."
    _mark(answer, _close(float(np.abs(np.arange(T) - apex).mean()), rtol=0.01), right, hint)


def check_nearest_share(answer: float | None, printed: float, n: int) -> None:
    """Notebook 08, exercise 3: the accuracy nearest a printed one that n clips can give.

    Args:
        answer: The accuracy that the reader gives; None if there is none yet.
        printed: The accuracy that the paper prints.
        n: Number of clips that were classified.
    """
    right = f"no whole number of {n} clips prints as {printed}."
    hint = f"multiply {printed} by {n}, round to whole clips, divide by {n}."
    _mark(answer, _close(round(printed * n) / n, rtol=0, atol=6e-5), right, hint)


# ---- notebook 11 -------------------------------------------------------------------------------------


def _judge(answer, expected, mistakes, right, hints, hint, value=lambda answer: answer) -> None:
    """Says what a number is, a mistake that it comes from, and the hint that was asked for."""
    said = ""
    with contextlib.suppress(Exception):  # what is no number is no known mistake
        number = value(answer)
        known = (f", {name}" for name, wrong in mistakes.items() if _close(wrong)(number))
        said = f"you have {number}{next(known, '')}. "
    said += ("Ask with hint=1, 2, 3.", *hints)[min(max(int(hint), 0), len(hints))]
    _mark(answer, lambda answer: _close(expected)(value(answer)), right, said)


def check_found_by_tiles(answer: float | None, measured: float, hint: int = 0) -> None:
    """Notebook 11, exercise 1: how many events are found by tiles of their own length?

    Args:
        answer: The share that the reader gives, from 0 to 1; None if there is none yet.
        measured: The share that the notebook measured.
        hint: 1, 2 or 3 for a hint.
    """
    mistakes = {
        "the least overlap that counts, not how often it is reached": 0.5,
        "shifts to one side alone": measured / 2,
        "what touching alone would give": 1.0,
    }
    right = "two events of three, without a look at the video."
    hints = (
        "Slide one bar along another of the same length: when is half of the union shared?",
        "Shifted by d, two bars of length L share L - d frames and cover L + d together.",
        "(L - d) / (L + d) >= 1/2 means d <= L/3; shifts go from -L/2 to L/2.",
    )
    _judge(answer, measured, mistakes, right, hints, hint)


def check_pooled_f1(answer: Callable | None, hint: int = 0) -> None:
    """Notebook 11, exercise 2: the overall F1 of two classes.

    Args:
        answer: The reader's function of two triples (tp, predictions, true intervals), for micro and
            macro; returns F1. None if there is none yet.
        hint: 1, 2 or 3 for a hint.
    """
    micro, macro = (7, 139, 57), (43, 101, 300)
    ones, right = [2 * 7 / (139 + 57), 2 * 43 / (101 + 300)], 2 * 50 / (240 + 357)
    mistakes = {
        "the mean of the two F1s": sum(ones) / 2,
        "the mean weighted by true intervals": (57 * ones[0] + 300 * ones[1]) / 357,
        "half of it: the hits count twice": right / 2,
    }
    hints = (
        "Add the triples first, then make one F1 of the sums.",
        "F1 is the share of hits in the mean of predictions and true intervals.",
        "2 tp / (predictions + true intervals), all three summed over both classes.",
    )
    praise = "counts are added, never F1s: 50 of 240 and of 357 give 0.1675."
    _judge(answer, right, mistakes, praise, hints, hint, lambda function: function(micro, macro))


def check_fewer_digits(
    answer: float | None, measured: int, with_all_digits: int, hint: int = 0
) -> None:
    """Notebook 11, exercise 3: how many times more counts fit when one digit fewer is printed?

    Args:
        answer: The factor that the reader gives; None if there is none yet.
        measured: Number of solutions with a digit fewer.
        with_all_digits: Number of solutions with all digits.
        hint: 1, 2 or 3 for a hint.
    """
    factor = measured / with_all_digits
    mistakes = {
        "the number of solutions, not the factor": measured,
        "what one lost digit would give, and three are lost": 10.0,
        "what counts that need not be whole would give": 1000.0,
    }
    right = "a digit is a witness; with three gone, that many more stories fit."
    hints = (
        "Run the cell with the shorter texts, and divide the two numbers of rows.",
        "Each of three numbers now allows an interval ten times as wide.",
        f"Up to 10 x 10 x 10; counts are whole, so it is less: {measured} / {with_all_digits}.",
    )
    _judge(answer, factor, mistakes, right, hints, hint)
