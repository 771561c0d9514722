"""The clip table: rules, and rows that break them; sheets are tested with the data sets."""

import json

import pandas as pd
import pytest
from refusals import refused

from micromacro.datasets.table import CLIP_TABLE_COLUMNS, check_clip_table


def make_table(**changes) -> pd.DataFrame:
    """Three rows; a change replaces one column."""
    columns = {"dataset": ["casme2", "casme2", "omg"], "subject": ["01", "02", "01"]}
    columns |= {"clip": ["EP02_01f"] * 3, "path": ["a", "b", "c"]}
    columns |= {"onset": [0, 5, None], "apex": [3, None, None], "offset": [9, 5, None]}
    columns |= {"n_frames": [10, 6, 300], "fps": [200, 200.0, 29.97]}
    columns |= {"label": ["happiness", "others", 0.25], "au": ["4+7", None, None]}
    columns |= {"split": [None, None, "train"]}
    return pd.DataFrame(columns | changes)


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


BAD = """
subject  [1, 2, 3]            subject 1,;dtype=str
clip     ["a", "", "c"]       subject 02;clip is not a text, or empty
path     ["a", "b", null]     subject 01;path
split    [null, 3, null]      subject 02;split
onset    [0, 6, null]         subject 02, clip EP02_01f;onset after offset
onset    [-1, 5, null]        subject 01;before frame 0
onset    [0.5, 5, null]       subject 01;onset is not a whole number
onset    [0, "/", null]       subject 02;onset is not a number
onset    [0, null, null]      subject 02;without
apex     [10, null, null]     subject 01;apex outside
apex     [3, 4, null]         subject 02;apex outside
apex     [3, null, 4]         apex without
offset   [10, 5, null]        subject 01;0-based
offset   [9, 5, 7]            without
n_frames [10, 0, 300]         subject 02;n_frames below 1
fps      [200, 0, 25]         subject 02;fps
subject  ["01", "01", "01"]   subject 01;twice
"""


@pytest.mark.parametrize("line", BAD.strip().splitlines())
def test_bad_rows_are_named_by_subject_and_clip(line):
    name, values = line[:9].strip(), json.loads(line[9:30])
    table = make_table(**{name: values})
    refused(lambda: check_clip_table(table), "clip table", *line[30:].strip().split(";"))


def test_missing_columns_are_named():
    lacking = make_table().drop(columns=["apex", "au"])
    refused(lambda: check_clip_table(lacking), "['apex', 'au']")
