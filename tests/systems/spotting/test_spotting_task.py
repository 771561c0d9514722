"""The spotting benchmark: its figures against the official ones, what must not leak, and its
frames."""

from functools import lru_cache, partial

import numpy as np
import pandas as pd
import pytest
import torch
from refusals import refused
from scipy.stats import chi2_contingency, mannwhitneyu
from torch.nn.functional import avg_pool2d

from micromacro.kernels import local_contrast
from micromacro.synthetic import LANDMARKS, Face
from micromacro.systems.spotting import task
from micromacro.systems.spotting.task import LIGHTS, UPPER, videos

TIMES = ["onset", "apex", "offset"]
FEW = {"n_frames": 90, "size": 32}


@lru_cache(maxsize=4)
def many(kind: str):
    return videos(kind, 400, 1000, n_frames={"cas": 1200, "samm": 4000}[kind])


def busy(source, label: str) -> np.ndarray:
    """bool (videos, n_frames), frames inside an event of the class."""
    inside = np.zeros((len(source.videos), source.videos["n_frames"][0]), bool)
    for event in source.events.query("label == @label").itertuples():
        inside[list(source.scenes).index(event.video), event.onset : event.offset + 1] = True
    return inside


def shown(source) -> pd.DataFrame:
    """The table of events with more columns: muscle, peak_px, length."""
    events = [event for key in source.scenes.values() for event in task.script(*key)]
    muscles, peaks = [e.aus[0][0] for e in events], [e.peak / task.PX for e in events]
    length = source.events["offset"] - source.events["onset"] + 1
    return source.events.assign(muscle=muscles, peak_px=peaks, length=length)


def test_the_tables_are_as_agreed():
    source = videos("samm", 3, 1000, fps=200)
    assert list(source.videos) == ["dataset", "video", "subject", "n_frames", "fps", "path"]
    assert list(source.events) == ["video", "subject", "label", *TIMES]
    assert (source.videos["fps"].dtype, source.videos["n_frames"].dtype) == ("float64", "int64")
    assert source.events.equals(source.events.sort_values(["video", "onset"]))
    for empty in (videos("cas", 0, 1000), videos("cas", 2, 1000, shares=(0.0, 0.0))):
        assert empty.events.empty
        assert (empty.events[TIMES].dtypes == "int64").all()


SHEETS = {  # share of the frames, gap, median of the length in frames; definition, seconds
    ("cas", "micro"): (0.03, 6, 14, (0.04, 0.5)),  # the share is ours
    ("cas", "macro"): (0.04, 18, 31, (0.5, 4.0)),
    ("samm", "micro"): (0.025, 37, 78, (0.04, 0.5)),
    # The sheet's gap of 174 counts events beyond 4 s.
    ("samm", "macro"): (0.25, 150, 216, (0.5, 4.0)),
}


@pytest.mark.parametrize(("kind", "label"), SHEETS)
def test_shares_and_durations_follow_the_sheets(kind, label):
    (share, gap, median, limits_s), source = SHEETS[kind, label], many(kind)
    length = shown(source).query("label == @label")["length"]
    assert busy(source, label).mean() == pytest.approx(share, rel=0.12)
    assert length.mean() // 2 == pytest.approx(gap, rel=0.08)
    assert length.median() == pytest.approx(median, rel=0.1)
    assert (length / source.videos["fps"][0]).between(*limits_s).all()


def test_duration_and_strength_alone_tell_the_classes_apart():
    events = shown(many("cas"))
    ends = events.groupby("label")["peak_px"].agg(["min", "max"])
    assert ends.loc["micro"].between(0.4, 1.5).all()
    assert ends.loc["macro"].between(2.0, 3.5).all()
    assert chi2_contingency(pd.crosstab(events["muscle"], events["label"])).pvalue > 1e-3
    place = (events["onset"] + events["length"] / 2) / 1200
    rise = (events["apex"] - events["onset"]) / (events["length"] - 1)
    for values in (place, rise):
        means = values.groupby(events["label"]).mean()
        assert abs(means["micro"] - means["macro"]) < 4 * values.std() / np.sqrt(len(events) / 4)


def test_events_overlap_across_the_halves_of_the_face_alone():
    pairs = 0
    for _, events in shown(many("samm")).groupby("video"):
        one, two = events["onset"].to_numpy(), events["offset"].to_numpy()
        overlap = (one[:, None] <= two) & (two[:, None] >= one)
        upper = events["muscle"].isin(UPPER).to_numpy()
        assert (overlap & (upper[:, None] == upper)).sum() == len(events)  # each with itself
        pairs += (overlap.sum() - len(events)) // 2
    assert pairs > 100


def test_the_busiest_people_can_be_played():
    crowd = videos("samm", 6, 1001, n_frames=300, shares=(0.4, 0.4), uneven=0.0)
    assert [len(crowd.scene(video)[1]) for video in crowd.scenes] == [300] * 6


def test_people_differ_in_how_much_they_show():
    for uneven, alike in ((0.0, True), (0.8, False)):
        source = videos("cas", 200, 1000, n_frames=3000, uneven=uneven)
        counts = source.events["video"].value_counts().reindex(list(source.scenes), fill_value=0)
        assert (counts.max() < 2 * counts.mean()) == (counts.min() > 1) == alike


def test_another_rate_films_the_same_events():
    slow, fast = videos("cas", 20, 1000), videos("cas", 20, 1000, fps=240, n_frames=4800)
    assert slow.events["label"].tolist() == fast.events["label"].tolist()
    assert np.abs(slow.events[TIMES] - fast.events[TIMES] / 8).max().max() < 4


def test_frames_do_not_depend_on_chunks_nor_on_company():
    source = videos("cas", 2, 1002, light="shadow", **FEW)
    frames = torch.cat(list(source.frames("train01")))
    assert 0 <= frames.min() < frames.max() <= 1
    face, play = videos("cas", 7, 1002, light="shadow", **FEW).scene("train01")
    assert torch.equal(frames, face.render(play))
    assert torch.equal(frames[13:50], face.render(play[13:50]))


def test_splits_and_seeds_have_other_people_and_scripts():
    sources = [videos("samm", 2, n, split=split, size=16) for n in (1, 2) for split in "ab"]
    scenes = [source.scene(video) for source in sources for video in source.scenes]
    assert len({face.identity for face, _ in scenes}) == 8
    assert len({play.events for _, play in scenes}) == 8
    assert len({play.shift.sum().item() for _, play in scenes}) == 8


def test_nothing_is_rendered_before_it_is_asked_for(monkeypatch):
    rendered, render = [], Face.render
    monkeypatch.setattr(Face, "render", lambda *a: rendered.append(a[3] - a[2]) or render(*a))
    chunks = videos("samm", 1, 1000, n_frames=120_000, size=16).frames("train00")
    assert rendered == []
    assert next(chunks).shape == (32, 1, 16, 16)
    assert rendered == [32]


def test_landmarks_go_with_the_head():
    face, play = videos("cas", 1, 1003, drift_px=8.0, **FEW).scene("train00")
    nose = regions(face, play.take([0, 89]))[:, 2]  # (2, 4)
    moved = (play.shift[89] - play.shift[0]) * 32 / 2
    assert (nose[1] - nose[0] - moved.repeat(2)).abs().max() < 0.3 < moved.abs().max()


def test_nuisances_change_the_picture_and_not_the_script():
    plain = videos("cas", 1, 1004, **FEW)
    still = torch.cat(list(plain.frames("train00")))
    for light in LIGHTS:
        lit, dark = (videos("cas", 1, 1004, light=light, strength=s, **FEW) for s in (1, 0))
        change = (torch.cat(list(lit.frames("train00"))) - still).abs().mean()
        assert change == 0 if light == "none" else 0.01 < change < 0.2
        assert torch.equal(torch.cat(list(dark.frames("train00"))), still)
        assert lit.events.equals(plain.events)
    play = videos("cas", 1, 1004, noise_sd=0.0, blink_rate=2.0, talking=1.0).scene("train00")[1]
    assert (play.noise_sd.any(), len(play.blinks) > 9, play.jaw.any()) == (False, True, True)


def test_flicker_is_sampled_at_the_frame_rate():
    for kind, period in (("cas", 3), ("samm", 2)):
        gain = videos(kind, 1, 1005, light="flicker", n_frames=60).scene("train00")[1].gain
        assert (gain[period:] - gain[:-period]).abs().max() < 1e-4 < 1e-2 < gain.std()


def regions(face, play):
    """Boxes of brows, mouth and nose, float32 (T, 3, 4): left, top, right, bottom in px."""
    points, margin, boxes = face.landmarks(play), 0.03 * face.short, []  # (T, n, 2)
    for starts in ("brow", ("mouth", "lip"), "nos"):
        own = points[:, [name.startswith(starts) for name in LANDMARKS]]
        boxes.append(torch.cat([own.amin(1) - margin, own.amax(1) + margin], 1))
    return torch.stack(boxes, 1)


def test_the_plainest_statistic_is_above_chance_and_below_the_ceiling():
    """The largest change of local contrast, in brows and mouth, since the reference; a probe."""
    source = videos("cas", 4, 1000, n_frames=900, shares=(0.04, 0.06))
    changes, rest = {6: [], 18: []}, ~(busy(source, "micro") | busy(source, "macro"))
    for video in source.scenes:
        contrast = local_contrast(torch.cat(list(source.frames(video))))
        face, play = source.scene(video)
        boxes = regions(face, play.take([0]))[0, :2].round().int().tolist()
        for gap, found in changes.items():
            change = (contrast - contrast[(torch.arange(900) - gap).clamp(min=0)]).abs()
            cut = [change[..., top:bottom, left:right] for left, top, right, bottom in boxes]
            largest = [avg_pool2d(part, 4, 1).amax((1, 2, 3)) for part in cut]
            found.append(torch.maximum(*largest).numpy())
    for label, found in zip(("micro", "macro"), changes.values(), strict=True):
        yes, no = np.array(found)[busy(source, label)], np.array(found)[rest]
        assert 0.65 < mannwhitneyu(yes, no).statistic / (len(yes) * len(no)) < 0.95  # AUC


def test_bad_requests():
    off = {"fps": 0.0, "n_frames": 0, "shares": (0.5, 0.0), "micro_s": (0.1, 0.6)}
    off |= {"macro_s": (0.3, 1.0), "macro_px": (2.0, 4.0), "strength": float("nan")}
    for dial, value in off.items():
        refused(partial(videos, "cas", 1, 0, **{dial: value}), dial, "off the dial")
    refused(partial(videos, "casme", 1, 0), "cas, samm")
    refused(partial(videos, "cas", 1, 0, light="sun"), "flicker")
    refused(partial(videos("cas", 1, 0).frames, "test00"), "train00")
