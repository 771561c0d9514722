"""The audit of the published tables: the counts by brute force, and what it finds in them."""

import csv
from pathlib import Path

import numpy as np
import pytest

from micromacro.datasets.micro import CLASSES
from micromacro.errors import BadInput
from micromacro.metrics import accuracy, uar, uf1
from micromacro.systems.akmnet import audit

PUBLISHED = Path(__file__).parents[3] / "data" / "published" / "akmnet.csv"


@pytest.fixture(scope="module")
def published() -> list[dict]:
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def column(rows: list[dict], table: str, dataset: str) -> dict[str, str]:
    numeral = f"{table} "
    chosen = [r for r in rows if r["table"].startswith(numeral) and r["source"] == "paper"]
    return {r["method"]: r["value"] for r in chosen if r["dataset"] == dataset}


@pytest.mark.parametrize("n", [1, 7, 114, 159, 189, 255])
def test_counts_are_those_that_print_so(n):
    for k in range(n + 1):
        for digits in (2, 3, 4):
            printed = f"{k / n:.{digits}f}"
            due = [j for j in range(n + 1) if abs(j / n - float(printed)) < 0.5 * 10**-digits + 1e-12]  # fmt: skip
            assert k in due
            assert audit.counts(printed, n) == due


def test_shares_that_the_clips_cannot_give(published):
    odd = {
        name: audit.misfits(column(published, "III", name), n) for name, n in audit.CLIPS.items()
    }
    assert set(odd["CASME"]) == {"LBP-TOP", "LBP-SIP", "HIGO"}
    assert not odd["CASME II"]
    assert set(odd["SMIC"]) == {"LBP-SIP"}
    assert set(odd["SAMM"]) == {"Macro2Micro", "MicroAttention", "ATNet"}
    assert audit.denominators(odd["SAMM"].values(), [159, 188]) == [188]
    assert set(audit.misfits(column(published, "IV", "SMIC"), 164)) == {"va-norm32"}


def test_the_report_is_of_all_tables_and_only_of_the_paper(published):
    found = {(r["table"], r["dataset"]): r for r in audit.unexplained(published)}
    assert set(found) == {("III", "CASME"), ("III", "SMIC"), ("III", "SAMM"), ("IV", "SMIC"), ("VII", "SAMM")}  # fmt: skip
    assert found["III", "SAMM"]["fits"] == [188]
    assert found["III", "SAMM"]["values"]["ATNet"] == "0.6543"
    assert found["III", "CASME"]["fits"] == found["VII", "SAMM"]["fits"] == []
    assert found["IV", "SMIC"] == {"table": "IV", "dataset": "SMIC", "clips": 164, "values": {"va-norm32": "0.6434"}, "fits": ""}  # fmt: skip
    # what is not of the paper, not of its clips, or not printed, is not judged
    line = {"table": "IV x", "dataset": "SMIC", "method": "m", "value": "0.6434", "source": "paper"}
    assert len(audit.unexplained([line])) == 1
    for other in ({"source": "README"}, {"dataset": "CK+"}, {"value": ""}, {"table": "VI x"}):
        assert audit.unexplained([line | other]) == []


def test_the_apex_table_counts_correct_clips_only(published):
    for name in ("CASME", "CASME II", "SAMM"):
        printed = column(published, "VI", name).values()
        assert len(printed) == 2
        n = audit.CORRECT[name]
        assert audit.denominators(printed, (n, audit.CLIPS[name])) == [n]


def test_confusion_matrices_give_the_printed_accuracy(published):
    due = {"CASME": (0.569, 0.618), "CASME II": (0.525, 0.574), "SMIC": (0.712, 0.713), "SAMM": (0.482, 0.521)}  # fmt: skip
    for name, confusion in audit.CONFUSION.items():
        assert len(confusion) == (3 if name == "SMIC" else len(CLASSES["akm4"]))
        assert confusion.sum() == audit.CLIPS[name]
        assert np.trace(confusion) == audit.CORRECT[name]
        said = audit.labels(confusion)
        printed = column(published, "III", name)["AKMNet"]
        assert f"{accuracy(*said):.4f}" == printed
        assert (uar(*said), uf1(*said)) == pytest.approx(due[name], abs=0.0006)


def test_labels_have_the_confusion_matrix():
    confusion = np.array([[1, 2], [0, 4]])
    prediction, truth = audit.labels(confusion)
    found = [[((truth == t) & (prediction == p)).sum() for p in (0, 1)] for t in (0, 1)]
    assert np.array_equal(found, confusion)


@pytest.mark.parametrize("printed", ["66.18", "-0.5", "0,66", "nan", "", "0.5e0"])
def test_bad_shares(printed):
    with pytest.raises(BadInput, match="is not from 0 to 1"):
        audit.counts(printed, 10)


def test_no_clips():
    with pytest.raises(BadInput, match="no number of clips"):
        audit.counts("0.5", 0)
