"""The clip table: rules, and rows that break them; sheets are tested with the data sets."""

import pandas as pd
import pytest

from micromacro.datasets.table import CLIP_TABLE_COLUMNS, check_clip_table
from micromacro.errors import BadInput


def refused(call, *words: str) -> None:
    with pytest.raises(BadInput) as caught:
        call()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def make_table(**changes) -> pd.DataFrame:
    """Three rows; a change replaces one column."""
    columns = {
        "dataset": ["casme2", "casme2", "omg"],
        "subject": ["01", "02", "01"],
        "clip": ["EP02_01f", "EP02_01f", "EP02_01f"],
        "path": ["a", "b", "c"],
        "onset": [0, 5, None],
        "apex": [3, None, None],
        "offset": [9, 5, None],
        "n_frames": [10, 6, 300],
        "fps": [200, 200.0, 29.97],
        "label": ["happiness", "others", 0.25],
        "au": ["4+7", None, None],
        "split": [None, None, "train"],
    }
    return pd.DataFrame({**columns, **changes})


def test_a_good_table_comes_back_typed():
    table = make_table(extra=[1, 2, 3])
    table.index = [7, 7, 1]
    before = table.copy()
    checked = check_clip_table(table)
    pd.testing.assert_frame_equal(table, before)
    assert list(checked.columns) == [*CLIP_TABLE_COLUMNS, "extra"]
    assert [str(checked[name].dtype) for name in ("onset", "apex", "offset")] == ["Int64"] * 3
    assert str(checked["fps"].dtype) == "float64"
    assert checked["onset"].tolist() == [0, 5, pd.NA]
    assert checked["subject"].tolist() == ["01", "02", "01"]
    pd.testing.assert_frame_equal(check_clip_table(checked), checked)
    assert len(check_clip_table(table.iloc[:0])) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subject": [1, 2, 3]}, ["subject 1,", "dtype=str"]),
        ({"clip": ["a", "", "c"]}, ["subject 02", "clip is not a text, or empty"]),
        ({"path": ["a", "b", None]}, ["subject 01", "path"]),
        ({"split": [None, 3, None]}, ["subject 02", "split"]),
        ({"onset": [0, 6, None]}, ["subject 02, clip EP02_01f", "onset after offset"]),
        ({"onset": [-1, 5, None]}, ["subject 01", "before frame 0"]),
        ({"onset": [0.5, 5, None]}, ["subject 01", "onset is not a whole number"]),
        ({"onset": [0, "/", None]}, ["subject 02", "onset is not a number"]),
        ({"onset": [0, None, None]}, ["subject 02", "without"]),
        ({"apex": [10, None, None]}, ["subject 01", "apex outside"]),
        ({"apex": [3, 4, None]}, ["subject 02", "apex outside"]),
        ({"apex": [3, None, 4]}, ["apex without"]),
        ({"offset": [10, 5, None]}, ["subject 01", "0-based"]),
        ({"offset": [9, 5, 7]}, ["without"]),
        ({"n_frames": [10, 0, 300]}, ["subject 02", "n_frames below 1"]),
        ({"fps": [200, 0, 25]}, ["subject 02", "fps"]),
        ({"subject": ["01", "01", "01"]}, ["subject 01", "twice"]),
    ],
)
def test_bad_rows_are_named_by_subject_and_clip(changes, words):
    refused(lambda: check_clip_table(make_table(**changes)), "clip table", *words)


def test_missing_columns_are_named():
    table = make_table().drop(columns=["apex", "au"])
    refused(lambda: check_clip_table(table), "['apex', 'au']")
