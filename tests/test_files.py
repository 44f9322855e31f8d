"""Tables that other programs read as they were written."""

import csv
from pathlib import Path

import pandas as pd
import pytest

from pipeline.files import read_table, write_table


@pytest.mark.parametrize("name", ["a\rb", "=a\rb", "\r", "a\r\nb", 'a"\r,b', "a\nb", "plain"])
def test_names_with_line_ends_stay_one_cell_for_every_reader(tmp_path: Path, name: str) -> None:
    path = tmp_path / "t.csv"
    write_table(path, pd.DataFrame({"path": [name, "x"], "p": [0.5, None], "note": ["", "y"]}), float_format="%.6f")
    assert read_table(path).to_dict("list") == {"path": [name, "x"], "p": ["0.500000", ""], "note": ["", "y"]}
    with path.open(newline="", encoding="utf-8") as file:
        assert [len(row) for row in csv.reader(file)] == [3, 3, 3]
    assert pd.read_csv(path)["p"].tolist()[0] == 0.5
