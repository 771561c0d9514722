"""The log file of the challenge: what spotting's scores give, written and read again; what is
none."""

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from refusals import refused

from micromacro.datasets import megc_log
from micromacro.systems.spotting.scoring import outcomes

COLUMNS = ["video", "label", "onset", "offset"]


def table(*rows):
    return pd.DataFrame(rows, columns=COLUMNS)


def test_the_log_file_round_trip(tmp_path):
    truth = table(("019_7", "macro", 397, 531), ("019_7", "micro", 10, 59), ("8", "micro", -1, 9))
    found = table(("8", "micro", 0, 9), ("019_7", "macro", 276, 346), ("019_7", "micro", 10, 60))
    alone = table(("v", "micro", 0, 9))
    two_sets = {1: outcomes(truth, found), 2: outcomes(alone, table())}
    path = tmp_path / "log.txt"
    megc_log.write_megc_log(path, two_sets)
    assert path.read_text().split("\n")[:3] == ["1", "019_7 11 60 11 61 TP", "019_7 - - 277 347 FP"]
    again = megc_log.read_megc_log(path)
    assert [*again] == [1, 2]
    for number, part in two_sets.items():
        assert_frame_equal(again[number], part.drop(columns="label"))
    path.write_text("2\n23_0507   -       -       3089    3110    FP\n")  # aligned, as released
    part = megc_log.read_megc_log(path, first=0)[2].astype(object).fillna("-")
    assert part.iloc[0].tolist() == ["23_0507", "-", "-", 3089, 3110, "FP"]


WRONG = "|x 1 2 3 4 TP|one;x 1 2 3 4 TP|1;x 1 2 3 4 TP 5|1;x 1 2 3 y TP|1;x 1 2 3 4 tp|1;x 1.5 2 3 4 TP|1;006_2 4 8"


@pytest.mark.parametrize("text", WRONG.split("|"))
def test_what_is_no_log_file_is_refused(text, tmp_path):
    path = tmp_path / "log.txt"
    path.write_text(text.replace(";", "\n"))
    refused(lambda: megc_log.read_megc_log(path), "log.txt")
    path.unlink()
    refused(lambda: megc_log.read_megc_log(path), "log.txt")
    spaced = {1: outcomes(table(("a b", "micro", 0, 9)), table())}
    refused(lambda: megc_log.write_megc_log(path, spaced), "blanks")
    assert not path.exists()
