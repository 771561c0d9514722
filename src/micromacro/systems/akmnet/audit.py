"""Arithmetic on the paper's tables: which printed shares can come from how many clips.

An accuracy is a whole number of clips over another. So a printed value that no count gives was made
with other clips than the table says. Tables III to VII have four digits, or three.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from micromacro.printed import counts, denominators

CLIPS = {"CASME": 189, "CASME II": 255, "SMIC": 164, "SAMM": 159}  # Table I
CORRECT = {"CASME": 143, "CASME II": 171, "SMIC": 119, "SAMM": 114}  # AKMNet's, Table III

CONFUSION: dict[str, np.ndarray] = {
    "CASME": np.array([[2, 0, 1, 6], [1, 26, 1, 25], [0, 2, 12, 6], [0, 3, 1, 103]]),
    "CASME II": np.array([[15, 2, 0, 15], [1, 34, 0, 37], [1, 4, 6, 14], [2, 8, 0, 116]]),
    "SMIC": np.array([[43, 6, 2], [11, 53, 6], [6, 14, 23]]),
    "SAMM": np.array([[8, 15, 0, 3], [0, 91, 1, 0], [2, 9, 2, 2], [0, 13, 0, 13]]),
}
"""AKMNet's clips by true class (rows) and predicted class, both in the order of Figure 4: positive,
negative, surprise, others (not in SMIC). Figure 4 prints per cent; these are the whole numbers that
give them and the accuracy. CASME II's last row may as well be 3, 7, 0, 116."""


def misfits(table: Mapping[str, str], n: int) -> dict[str, str]:
    """Entries (method -> printed share) that n clips cannot give.

    Raises:
        BadInput: As `counts`.
    """
    return {name: share for name, share in table.items() if not counts(share, n)}


def unexplained(published: Iterable[Mapping[str, str]]) -> list[dict]:
    """Accuracies of Tables III, IV, V and VII that the clips of Table I cannot give.

    Args:
        published: Lines of `data/published/akmnet.csv`, values as text: their digits matter.

    Returns:
        Of each table and data set with such values: table, dataset, clips, values (method ->
        share), and fits: the numbers of clips from 100 to 255 that could give all of them. It is ""
        for a single value, since some three numbers fit one by chance.

    Raises:
        BadInput: As `counts`.
    """
    columns: dict[tuple[str, str], dict[str, str]] = {}
    for line in published:
        table = line["table"].partition(" ")[0]
        if line["source"] == "paper" and table in ("III", "IV", "V", "VII") and line["value"]:
            columns.setdefault((table, line["dataset"]), {})[line["method"]] = line["value"]
    found = []
    for (table, dataset), shares in columns.items():
        odd = misfits(shares, CLIPS[dataset]) if dataset in CLIPS else {}
        if odd:
            fits = denominators(odd.values(), range(100, 256)) if len(odd) > 1 else ""
            row = {"table": table, "dataset": dataset, "clips": CLIPS[dataset]}
            found.append(row | {"values": odd, "fits": fits})
    return found


def labels(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and truth, int64 (n,) each, that have this confusion matrix (rows are truth).

    So that `metrics.uar` and `metrics.uf1` can say what the paper does not.
    """
    truth, prediction = np.indices(confusion.shape).reshape(2, -1)
    return tuple(label.repeat(confusion.ravel()) for label in (prediction, truth))
