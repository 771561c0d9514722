"""Benchmark rows: where they go and what they carry. Rows of notebooks: test_experiments.py."""

import numpy as np
import pandas as pd

from micromacro.results import hardware, write_benchmark, write_predictions


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


def test_predictions_are_halves_beside_the_rows(tmp_path):
    values = np.linspace(-1, 1, 7, dtype=np.float32)
    arrays = {"ours": values, "person": np.arange(7)}
    path = write_predictions("04_demo", arrays, tmp_path, profile="full")
    assert path == tmp_path / "rows" / "04_demo__full__cpu__predictions.npz"
    with np.load(path, allow_pickle=False) as found:
        assert found["ours"].dtype == np.float16
        assert np.allclose(found["ours"], values, atol=1e-3)
        assert found["person"].dtype == np.int64
    assert write_predictions("04_demo", arrays, None, profile="full") is None
