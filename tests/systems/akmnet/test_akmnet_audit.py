"""The audit of the published tables: the counts by brute force, and what it finds in them."""

import csv
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from refusals import refused

from micromacro.datasets.micro import CLASSES
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
            printed, half = f"{k / n:.{digits}f}", 0.5 * 10**-digits + 1e-12
            expected = [j for j in range(n + 1) if abs(j / n - float(printed)) < half]
            assert k in expected
            assert audit.counts(printed, n) == expected


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
    report = {f"{r['table']} {r['dataset']}": r for r in audit.unexplained(published)}
    assert list(report) == ["III CASME", "III SMIC", "III SAMM", "IV SMIC", "VII SAMM"]
    assert report["III SAMM"]["fits"] == [188]
    assert report["III SAMM"]["values"]["ATNet"] == "0.6543"
    assert report["III CASME"]["fits"] == report["VII SAMM"]["fits"] == []
    smic = {"table": "IV", "dataset": "SMIC", "clips": 164, "fits": ""}
    assert report["IV SMIC"] == smic | {"values": {"va-norm32": "0.6434"}}
    # what is not of the paper, not of its clips, or not printed, is not judged
    line = {"table": "IV x", "dataset": "SMIC", "method": "m", "value": "0.6434", "source": "paper"}
    assert len(audit.unexplained([line])) == 1
    for other in ({"source": "README"}, {"dataset": "CK+"}, {"value": ""}, {"table": "VI x"}):
        assert audit.unexplained([line | other]) == []


@pytest.mark.parametrize("name", ["CASME", "CASME II", "SAMM"])
def test_the_apex_table_counts_correct_clips_only(published, name):
    printed, n = column(published, "VI", name).values(), audit.CORRECT[name]
    assert len(printed) == 2
    assert audit.denominators(printed, (n, audit.CLIPS[name])) == [n]


@pytest.mark.parametrize(
    ("name", "recall", "f1"),
    [
        *(("CASME", 0.569, 0.618), ("CASME II", 0.525, 0.574)),
        *(("SMIC", 0.712, 0.713), ("SAMM", 0.482, 0.521)),
    ],
)
def test_confusion_matrices_give_the_printed_accuracy(published, name, recall, f1):
    confusion = audit.CONFUSION[name]
    assert len(confusion) == (3 if name == "SMIC" else len(CLASSES["akm4"]))
    assert (confusion.sum(), np.trace(confusion)) == (audit.CLIPS[name], audit.CORRECT[name])
    labels = audit.labels(confusion)
    assert f"{accuracy(*labels):.4f}" == column(published, "III", name)["AKMNet"]
    assert (uar(*labels), uf1(*labels)) == pytest.approx((recall, f1), abs=0.0006)


def test_bad_shares_and_no_clips():
    for printed in ("66.18", "-0.5", "0,66", "nan", "", "0.5e0"):
        refused(partial(audit.counts, printed, 10), "is not from 0 to 1")
    refused(lambda: audit.counts("0.5", 0), "no number of clips")
