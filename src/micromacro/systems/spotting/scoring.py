"""Scores of spotting: the rule of MEGC, the challenge, and how public code departs from it.

A table of intervals has a row for each interval: video, label ("micro" or "macro"), onset and
offset, frame numbers that both belong to it. Other columns are ignored; an empty table will do. All
scores are shares of three counts, pooled over videos, of each class and of both together:

    tp      what the rule counts as found
    fp      number of predictions less tp
    fn      number of true intervals less tp

So tp + fn and tp + fp are the numbers of true and of predicted intervals, under every rule. A rule
that pairs one to one has 0 <= tp <= both. Another may count an interval twice: a negative fp or fn,
or a share above 1, is then what the program itself would report.

Frames outside a video count like any others: neither the challenge nor a public program cuts
intervals.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from micromacro.datasets.megc_log import COLUMNS, FRAMES
from micromacro.errors import BadInput, check_choice

CLASSES = ("micro", "macro")
KEYS = ["video", "label"]

# What is added to offset - onset of an intersection before negative lengths become 0, and after it.
OVERLAPS = {"frames": (1, 0), "lengths": (0, 0), "slipped": (0, 1)}

# Which hits count. A hit is a row: a prediction and a truth that overlap enough, by their numbers.
# Hits come in the order of predictions in their file, those of one prediction in that of truths.
MATCHINGS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "one to one": lambda hits: most_pairs(hits),
    "file order": lambda hits: _first_free(hits),
    "all": lambda hits: hits,
    "each prediction": lambda hits: hits.drop_duplicates("prediction"),
    "each truth": lambda hits: hits.drop_duplicates("truth"),
    "best truth": lambda hits: _best(hits, "prediction").drop_duplicates("truth"),
    "best prediction": lambda hits: _best(hits, "truth").drop_duplicates("prediction"),
}


@dataclass(frozen=True)
class Rule:
    """How true positives are counted.

    Attributes:
        matching: Which hits count, a key of `MATCHINGS`: as many as can be paired "one to one"; the
            first free truth of each prediction, in "file order"; "all"; one of "each prediction"
            that has any; one of "each truth"; each prediction's "best truth", but no truth twice;
            each truth's "best prediction", but no prediction twice.
        overlap: How intervals are measured, a key of `OVERLAPS`: in "frames", both ends inclusive;
            in "lengths", offset - onset; "slipped", in frames with the intersection's + 1 outside
            of the maximum with 0, and no overlap for intervals of one frame.
        iou: How much a hit must overlap, intersection over union.
        strict: It must overlap by more than that.
        by_duration: An interval is macro if offset - onset is half a second or more, whatever its
            label.
        fps: Frames a second; of SAMM-LV.
        class_videos: A class is scored only in videos that truly have it.
        dummy: There, a video without predictions gets one false alarm.
    """

    matching: str = "one to one"
    overlap: str = "frames"
    iou: float = 0.5
    strict: bool = False
    by_duration: bool = False
    fps: float = 200.0
    class_videos: bool = False
    dummy: bool = False


# The challenge's rule; single departures from it; then whole programs, as released: MDMD, the
# organisers' of 2020; SOFTNet (2021); Concat-CNN (2021); AUW-GCN before and after its repair. The
# last two besides choose for each test subject what suits it best: `oracle`.
RULES = {
    "megc": Rule(),
    "class_videos_only": Rule(class_videos=True),
    "many_to_one": Rule("each prediction"),
    "greedy_file_order": Rule("file order"),
    "without_plus_one": Rule(overlap="lengths"),
    "offset_slip": Rule(overlap="slipped"),
    "strict": Rule(strict=True),
    "by_duration": Rule(by_duration=True),
    "mdmd": Rule("each truth", "slipped"),
    "softnet": Rule("best truth", class_videos=True, dummy=True),
    "concat_cnn": Rule("all", "slipped", by_duration=True),
    "auw_gcn_2023": Rule("each prediction", "lengths", strict=True),
    "auw_gcn_2025": Rule("best prediction", "lengths", strict=True),
}


def by_video(
    truth: pd.DataFrame, predictions: pd.DataFrame, rule: str = "megc", *, videos=None, **changes
) -> pd.DataFrame:
    """The counts of each video and class: what `counts` adds up, and what a bootstrap draws.

    Args:
        truth: True intervals, a table as above.
        predictions: Predicted intervals, likewise; their order matters to "file order" alone.
        rule: A key of `RULES`.
        videos: Names of the videos that were searched. Truth elsewhere is left out. None takes all
            that occur in either table; a video with neither adds nothing.
        **changes: Options of the rule to replace, such as iou=0.3.

    Returns:
        int64 columns tp, fp, fn, with index (video, label): both classes of every video.

    Raises:
        BadInput: An unknown rule; a row that is no interval of a class; a prediction in a video
            that was not searched.
    """
    check_choice("rule", rule, RULES)
    rule = replace(RULES[rule], **changes)
    hits, truth, predictions = compared(truth, predictions, rule)
    videos = pd.concat([truth, predictions])["video"] if videos is None else videos
    names = dict.fromkeys(map(str, videos))
    if stray := {*predictions["video"]} - {*names}:
        raise BadInput(f"predictions of {min(stray)}", "are of none searched", "list it in videos")
    tables = (MATCHINGS[rule.matching](hits), predictions, truth)
    index = pd.MultiIndex.from_product([names, CLASSES], names=KEYS)
    tp, n, m = (table.groupby(KEYS).size().reindex(index, fill_value=0) for table in tables)
    if rule.class_videos:
        n = n.clip(lower=int(rule.dummy)).where(m > 0, 0)
    return pd.DataFrame({"tp": tp, "fp": n - tp, "fn": m - tp})


def compared(truth: pd.DataFrame, predictions: pd.DataFrame, rule: Rule) -> list[pd.DataFrame]:
    """The hits, and both tables as they count: frames int64, rows numbered, the rule's labels.

    Returns:
        Hits, columns prediction and truth (numbers of rows), iou, and those of both tables; truth:
        video, label, onset, offset; predictions: video, label, predicted_onset, predicted_offset.

    Raises:
        BadInput: A row that is no interval of a class.
    """
    truth, predictions = _checked("truth", truth, rule), _checked("predictions", predictions, rule)
    sides = predictions.reset_index(names="prediction"), truth.reset_index(names="truth")
    hits = pd.merge(*sides, on=KEYS)
    a, b = hits[FRAMES[:2]].to_numpy(), hits[FRAMES[2:]].to_numpy()
    iou = hits["iou"] = overlap(a, b, rule.overlap)
    return [hits[iou > rule.iou if rule.strict else iou >= rule.iou], truth, predictions]


def _checked(name: str, table: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    """A table's video, label and frames, int64, rows numbered; frames of predictions named so."""
    table = table.reindex(columns=[*KEYS, *FRAMES[:2]]).reset_index(drop=True)
    frames = table[FRAMES[:2]].apply(pd.to_numeric, errors="coerce").astype(float)
    good = table.notna().all(axis=1) & table["label"].isin(CLASSES) & (frames % 1 == 0).all(axis=1)
    good &= frames["onset"] <= frames["offset"]
    if not good.all():
        row, remedy = table[~good].iloc[0], "give a video, micro or macro, whole onset <= offset"
        raise BadInput(f"{name}, row {row.name} {[*row]}", "is no interval", remedy)
    if rule.by_duration:
        short = frames["offset"] - frames["onset"] < round(rule.fps / 2)
        table["label"] = np.where(short, *CLASSES)
    names = FRAMES[2:] if name == "predictions" else FRAMES[:2]
    return table[KEYS].astype(str).join(frames.astype(np.int64).set_axis(names, axis=1))


def overlap(a: np.ndarray, b: np.ndarray, measure: str = "frames") -> np.ndarray:
    """Intersection over union of intervals with intervals.

    Args:
        a: int (..., 2), inclusive [onset, offset].
        b: int (..., 2) that broadcasts with a: `overlap(a[:, None], b)` is of all pairs.
        measure: A key of `OVERLAPS`.

    Returns:
        float64 (...), from 0 to 1; 0 where the union has no length.
    """
    before, after = OVERLAPS[measure]
    lengths = a[..., 1] - a[..., 0], b[..., 1] - b[..., 0]
    shared = np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])
    shared = np.maximum(shared + before, 0) + after * (np.minimum(*lengths) > 0)
    return shared / np.maximum(lengths[0] + lengths[1] + 2 * (before + after) - shared, 1)


def most_pairs(hits: pd.DataFrame) -> pd.DataFrame:
    """As many hits as pair one to one: a maximum matching, all videos and classes at once."""
    if hits.empty:
        return hits
    graph = csr_array((np.ones(len(hits)), (hits["prediction"], hits["truth"])))
    partner = maximum_bipartite_matching(graph, perm_type="column")
    return hits[partner[hits["prediction"]] == hits["truth"]]


def _first_free(hits: pd.DataFrame) -> pd.DataFrame:
    """Each prediction, in turn, with the first truth it hits that is still free."""
    used, kept = set(), []
    for pair in zip(hits["prediction"], ~hits["truth"], strict=True):  # truths as negative numbers
        kept.append(used.isdisjoint(pair))
        used.update(pair if kept[-1] else ())
    return hits[np.array(kept, bool)]


def _best(hits: pd.DataFrame, side: str) -> pd.DataFrame:
    """Of each prediction, or of each truth, the hit that overlaps best."""
    return hits.sort_values("iou", ascending=False, kind="stable").drop_duplicates(side)


def counts(
    truth: pd.DataFrame, predictions: pd.DataFrame, rule: str = "megc", *, videos=None, **changes
) -> pd.DataFrame:
    """Counts of each class and of both together, pooled over all videos.

    Args:
        truth: True intervals, a table as above.
        predictions: Predicted intervals, likewise.
        rule: A key of `RULES`.
        videos: As `by_video`.
        **changes: Likewise.

    Returns:
        int64 columns tp, fp, fn; index micro, macro, overall. No video at all gives zeros.

    Raises:
        BadInput: As `by_video`.
    """
    return _pooled(by_video(truth, predictions, rule, videos=videos, **changes))


def _pooled(parts: pd.DataFrame) -> pd.DataFrame:
    table = parts.groupby(level="label").sum().reindex(CLASSES, fill_value=0)
    return pd.concat([table, table.sum().to_frame("overall").T])


def f1(counts: pd.DataFrame) -> pd.Series:
    """F1 = 2 tp / (2 tp + fp + fn), float64, of each row; 0 where nothing is true or predicted."""
    return (2 * counts["tp"] / (2 * counts["tp"] + counts["fp"] + counts["fn"])).fillna(0.0)


def precision(counts: pd.DataFrame) -> pd.Series:
    """Precision = tp / (tp + fp), float64, of each row; 0 where nothing is predicted."""
    return (counts["tp"] / (counts["tp"] + counts["fp"])).fillna(0.0)


def recall(counts: pd.DataFrame) -> pd.Series:
    """Recall = tp / (tp + fn), float64, of each row; 0 where nothing is true."""
    return (counts["tp"] / (counts["tp"] + counts["fn"])).fillna(0.0)


def megc_f1(truth: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, float]:
    """F1 of the Micro-Expression Grand Challenge: of micro, macro, and both overall.

    In each video and class as many predictions as possible are paired one to one with true
    intervals that they overlap by half or more (intersection over union of frames). The pairs are
    summed over all videos, for overall over both classes too:
    F1 = 2 pairs / (true intervals + predictions).

    Args:
        truth: Columns video, label ("micro" or "macro"), onset, offset; frame numbers, inclusive.
        predictions: Likewise.

    Raises:
        BadInput: A row that is no interval of a class.
    """
    return f1(counts(truth, predictions)).to_dict()


def oracle(
    truth: pd.DataFrame, candidates: Sequence[pd.DataFrame], subjects: Mapping[str, str], **options
) -> pd.DataFrame:
    """Counts when each test subject gets the threshold or epoch that is best for it, by overall F1.

    AUW-GCN chooses the epoch so, and Concat-CNN how gaps are filled. It is choosing on the test
    data: a departure to be measured, not to be used.

    Args:
        truth: True intervals.
        candidates: Predictions, a table for each threshold or epoch; of equals the one with the
            fewest false alarms counts.
        subjects: Video -> subject, of all videos that were searched.
        **options: The rule and its changes, as `counts`.

    Returns:
        As `counts`.

    Raises:
        BadInput: As `by_video`.
    """
    parts = [by_video(truth, table, videos=subjects, **options) for table in candidates]
    of_video = parts[0].index.get_level_values("video").map(subjects).rename("subject")
    own = pd.concat({k: part.groupby([of_video, "label"]).sum() for k, part in enumerate(parts)})
    both = own.groupby(level=[0, "subject"]).sum().assign(lost=lambda counts: -f1(counts))
    best = both.sort_values(["lost", "fp"], kind="stable").groupby("subject").head(1).index
    return _pooled(own[own.index.droplevel("label").isin(best)])


def outcomes(truth: pd.DataFrame, predictions: pd.DataFrame, **changes) -> pd.DataFrame:
    """Each true and each predicted interval with what the challenge's rule makes of it.

    Args:
        truth: True intervals.
        predictions: Predicted intervals.
        **changes: As `by_video`.

    Returns:
        Columns video, label, onset, offset (Int64; missing for a false alarm), predicted_onset,
        predicted_offset (Int64; missing for a miss), outcome: "TP", "FP" or "FN"; by video, in each
        in the order of time.

    Raises:
        BadInput: As `by_video`.
    """
    hits, truth, predictions = compared(truth, predictions, replace(Rule(), **changes))
    pairs = most_pairs(hits)
    parts = {"TP": pairs, "FN": truth.drop(pairs.truth), "FP": predictions.drop(pairs.prediction)}
    table = pd.concat(parts, names=["outcome", None]).reset_index("outcome")
    table["start"] = table["predicted_onset"].fillna(table["onset"])
    table = table.sort_values(["video", "start"], kind="stable", ignore_index=True)
    return table[["label", *COLUMNS]].astype(dict.fromkeys(FRAMES, "Int64"))
