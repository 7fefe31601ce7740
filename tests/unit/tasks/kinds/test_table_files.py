"""Tables in CSV and Parquet: columns of numbers or texts, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest

from prune_search.recipe.problems import UserError
from prune_search.tasks.kinds.table_files import Column, read_table

CSV = "age,town,note\n3,Rome,x\n4.5,,1\n,Bonn,x\n\n-2e3,Rome,NA\n"


def written(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def content(column: Column) -> list[float | str | None]:
    if column.numbers is not None:
        return [None if numpy.isnan(value) else value for value in column.numbers]
    assert column.codes is not None
    return [None if code < 0 else column.texts[code] for code in column.codes]


def test_columns_are_numbers_where_every_cell_is_one_and_texts_elsewhere(tmp_path: Path) -> None:
    columns = read_table(written(tmp_path, CSV), "k")
    assert {name: content(column) for name, column in columns.items()} == {
        "age": [3.0, 4.5, None, -2000.0],
        "town": ["Rome", None, "Bonn", "Rome"],
        "note": ["x", "1", "x", None],
    }
    assert columns["town"].texts == ("Bonn", "Rome")
    assert columns["town"].missing.tolist() == [False, True, False, False]
    semicolons = written(tmp_path, "\ufeffa;b\n1;2,5\n")
    assert list(map(content, read_table(semicolons, "k", "semicolon").values())) == [[1.0], ["2,5"]]


def test_parquet_has_the_same_columns(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="Parquet is read with pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    names = arrow.array(["Rome", None, "Bonn"])
    kinds = names.dictionary_encode()
    parquet.write_table(
        arrow.table({"age": [3, None, 5], "town": names, "kind": kinds, "on": [True, False, None]}), path
    )
    assert {name: content(column) for name, column in read_table(path, "k").items()} == {
        "age": [3.0, None, 5.0],
        "town": ["Rome", None, "Bonn"],
        "kind": ["Rome", None, "Bonn"],
        "on": [1.0, 0.0, None],
    }
    parquet.write_table(arrow.table({"a": [[1]], "b": [1.0]}), path)
    with pytest.raises(UserError, match=r"k: .*column 'a' is of the type list.*: leave it out with drop"):
        read_table(path, "k")
    with pytest.raises(UserError, match=r"t.parquet cannot be read as Parquet: Arrow"):
        read_table(written(tmp_path, "nothing", "t.parquet"), "k")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no header"),
        ("a,b\n", "has no rows"),
        ("a,b,a\n1,2,3\n", "the header names 'a' twice"),
        ("a,,c\n1,2,3\n", "column 2 of the header has no name"),
        ("a,b\n1,2\n1\n1,2,3\n", "has 2 columns, but another number of cells in line 3, 4"),
        ("a;b\n1;2\n", "has one column, 'a;b': is the separator another one?"),
        ("a,b\n1,inf\n2,3\n", "column 'b' is infinite in row 1"),
        (b"a,b\n1,\xff\n", "is not UTF-8"),
        ('a,b\n1,"2\n' + "x" * 200_000 + "\n", "is not CSV"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_table(written(tmp_path, text), "task.data.file")
    (problem,) = caught.value.problems
    assert problem.path == "task.data.file"
    assert message in problem.message
    assert "t.csv" in problem.message


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a folder, not a CSV or Parquet file"):
        read_table(tmp_path, "k")
