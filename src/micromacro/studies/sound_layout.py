"""What the released layout of sound tells of a clip's length, though nobody meant it to.

The released code of arXiv 2305.05534 makes of any sound 32 rows of 1024 numbers
(`audio.legacy_mfcc_layout`). Their number says nothing of how long the sound is, but what stands in
them does: how many coefficients fit, and where they begin again. Here voices speak for random
times, and a random forest guesses the length from the mean row of either layout: the released one,
and the same coefficients in true time, whose mean over time should not know.

Where clips of one film are of one length, a network can so tell the films apart. Notebook 07b and
its claims 07-7 use it.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from micromacro.audio import legacy_mfcc_layout, mfcc
from micromacro.metrics import pcc
from micromacro.synthetic import Identity
from micromacro.synthetic.voice import speak

SR_HZ, FPS = 16000, 10.0


def unit(*, seed: int, voices: int = 240, frames: tuple[int, int] = (40, 160)) -> dict[str, float]:
    """Guess lengths of half of the voices from what the other half taught; for `units.run`.

    Args:
        seed: Random seed; another seed draws other voices and lengths.
        voices: Their number; each is another person.
        frames: Shortest and longest, uniform between, at 10 a second.

    Returns:
        Of the n voices that were not learnt from, Pearson's correlation of length and guess:
        `duration_released` and `duration_time`; and `voices`, n.
    """
    rng = np.random.default_rng(seed)
    length = rng.integers(frames[0], frames[1] + 1, voices)
    rows: dict[str, list[np.ndarray]] = {"released": [], "time": []}
    for k, n in enumerate(length.tolist()):
        person = Identity.draw(k, split="layout", run_seed=seed)
        talks = np.repeat(rng.random(n // 15 + 1) < 0.5, 15)[:n].astype(float)
        own = {"pitch": rng.normal(0, 0.3), "loudness": rng.normal(0, 0.3)}
        sound = speak(person, n, FPS, speaking=talks, seed=int(rng.integers(2**31)), **own).sound
        rows["released"].append(legacy_mfcc_layout(sound, SR_HZ).mean(0))  # (1024,)
        rows["time"].append(mfcc(sound, SR_HZ, n).mean(0))  # (40,)
    half, metrics = voices // 2, {"voices": voices - voices // 2}
    for layout, mean in rows.items():
        forest = RandomForestRegressor(200, max_features=0.1, random_state=seed)
        guess = forest.fit(mean[:half], length[:half]).predict(mean[half:])
        metrics[f"duration_{layout}"] = pcc(guess, length[half:])
    return metrics


def rows(units: Sequence) -> list[dict]:
    """The correlations of one unit as fields of rows, for `results.unit_rows`."""
    (one,) = units
    scores, n = dict(one.metrics), int(one.metrics["voices"])
    del scores["voices"]
    return [{"metric": name, "value": value, "n": n} for name, value in scores.items()]
