"""Counts behind printed shares, against counting all of them; and the papers' own numbers."""

from itertools import product

import numpy as np
import pytest
from refusals import refused

from micromacro.printed import counts_behind, pooled_behind


@pytest.mark.parametrize("name", ["f1", "precision", "recall"])
@pytest.mark.parametrize("printed", ["0.00", "0.12", "0.5", "1.00"])
def test_counts_behind_are_all_that_print_so(name, printed):
    pairs = [(tp, n) for tp, n in product(range(8), range(13)) if tp <= n]
    tp, n = np.array(pairs).T
    part, whole = {"f1": (2 * tp, n + 7), "precision": (tp, n), "recall": (tp, 7)}[name]
    far = abs(part / np.maximum(whole, 1) - float(printed)) * 10 ** (len(printed) - 2)
    expected = np.array(pairs)[far <= 0.5 + 1e-9].tolist()
    assert counts_behind(7, most=12, **{name: printed}).to_numpy().tolist() == expected


def test_what_the_papers_printed_numbers_come_from():
    a, b = counts_behind(57, f1="0.0714"), counts_behind(300, f1="0.2145")
    pooled = pooled_behind(a, b, 357, f1="0.1675")
    assert pooled.iloc[0].tolist() == [7, 139, 43, 101]
    assert len(pooled) == 41
    a = counts_behind(31, f1="0.1176", precision="0.0845", recall="0.1935")
    b = counts_behind(36, f1="0.1739", precision="0.4000", recall="0.1111")
    pooled = pooled_behind(a, b, 67, f1="0.1351", precision="0.1235", recall="0.1493")
    assert pooled.to_numpy().tolist() == [[6, 71, 4, 10]]
    assert pooled_behind(a, b, 67, f1="0.1531").empty  # as the abstract has it
    refused(lambda: counts_behind(31, f1="11.76"), "share '11.76'", "is not from 0 to 1")


def test_what_is_no_score_is_refused():
    refused(lambda: counts_behind(5, accuracy="0.5"), "accuracy", "f1, precision, recall")
