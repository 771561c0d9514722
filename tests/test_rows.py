"""Benchmark rows: where they go and what they carry. Rows of notebooks: test_experiments.py."""

import pandas as pd

from micromacro.rows import hardware, write_benchmark


def test_a_benchmark_is_one_table_with_provenance(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROMACRO_ROOT", str(tmp_path))
    row = {
        "method": "ours",
        "setting": "48 px",
        "metric": "speed",
        "value": 2.5,
        "unit": "frames/s",
    }
    write_benchmark("demo", [row])
    path = write_benchmark("demo", [row | {"q25": 2.0, "q75": 3.0, "rounds": 7}, row])
    assert path.parent == tmp_path / "data" / "results"
    assert path.name.startswith("demo__")
    table = pd.read_csv(path)
    assert table["value"].tolist() == [2.5, 2.5], "a second run replaces the first"
    assert table["q25"].isna().tolist() == [False, True]
    assert set(table["hardware"]) == {hardware()}
    assert table[["python", "torch", "git_sha", "utc"]].notna().all().all()
