"""Reads tables from CSV and Parquet files into columns of numbers or texts."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy
from numpy.typing import NDArray

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.tasks.kinds.packages import package, said
from prune_search.tasks.kinds.paths import few, unreadable, wrong

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))
MAX_ROWS_NAMED = 10
Numbers: TypeAlias = NDArray[numpy.float64]


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a table: numbers, or texts.

    Attributes:
        name: in the header.
        numbers: float64 [N], NaN where nothing stands; None: it holds texts.
        codes: int64 [N], the index into `texts` of each row, -1 where nothing stands; None: it holds numbers.
        texts: the different texts, in order.
    """

    name: str
    numbers: Numbers | None = None
    codes: NDArray[numpy.int64] | None = None
    texts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers if self.numbers is not None else self.codes if self.codes is not None else ())

    @property
    def missing(self) -> NDArray[numpy.bool_]:
        """Where nothing stands, bool [N]."""
        if self.numbers is not None:
            return numpy.isnan(self.numbers)
        return numpy.less(self.codes if self.codes is not None else numpy.zeros(0), 0)


def read_table(path: Path, key: str, separator: str = "comma") -> dict[str, Column]:
    """The columns of a file, by name.

    Args:
        path: a ``.parquet`` file, or CSV in UTF-8 with a header.
        key: where it is named, for messages.
        separator: of CSV: ``comma``, ``semicolon`` or ``tab``.

    Raises:
        UserError: everything that is wrong with it.
    """
    if not path.is_file():
        raise wrong(key, f"{path} is a folder, not a CSV or Parquet file")
    reader = _from_parquet if path.suffix.lower() in (".parquet", ".pq") else _from_csv
    columns = reader(path, key, SEPARATORS[separator])
    if not columns or not len(next(iter(columns.values()))):
        raise wrong(key, f"{path} has no rows")
    return columns


def _from_csv(path: Path, key: str, separator: str) -> dict[str, Column]:
    try:
        return _columns_of_csv(path, key, separator)
    except OSError as error:
        raise unreadable(path, error, key) from error
    except UnicodeDecodeError as error:
        raise wrong(
            key, f"{path} is not UTF-8: byte {error.start} of a part of it is {error.object[error.start]:#04x}"
        ) from error
    except csv.Error as error:
        raise wrong(key, f"{path} is not CSV: {error}") from error


def _columns_of_csv(path: Path, key: str, separator: str) -> dict[str, Column]:
    """Two passes: the first finds which columns are numbers, the second keeps 8 bytes of each cell."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = [name.strip() for name in next(csv.reader(file, delimiter=separator), [])]
    _check_header(header, path, key, separator)
    numeric = [True] * len(header)
    ragged, rows = [], 0
    for line, row in _rows(path, separator):
        rows += 1
        if len(row) != len(header):
            ragged.append(line)
            continue
        for place, cell in enumerate(row):
            numeric[place] = numeric[place] and _is_number(cell)
    if ragged:
        text = f"{path} has {len(header)} columns, but another number of cells in line {few(ragged)}"
        raise wrong(key, text)
    numbers = {place: numpy.empty(rows) for place, is_number in enumerate(numeric) if is_number}
    codes = {place: numpy.empty(rows, numpy.int64) for place, is_number in enumerate(numeric) if not is_number}
    seen: dict[int, dict[str, int]] = {place: {} for place in codes}
    for at, (_, row) in enumerate(_rows(path, separator)):
        for place, cell in enumerate(row):
            text = cell.strip()
            gone = text.lower() in MISSING
            if place in numbers:
                numbers[place][at] = numpy.nan if gone else float(text)
            else:
                codes[place][at] = -1 if gone else seen[place].setdefault(text, len(seen[place]))
    found = {
        name: Column(name, numbers[place]) if place in numbers else _in_order(name, codes[place], list(seen[place]))
        for place, name in enumerate(header)
    }
    _check_finite(found, path, key)
    return found


def _rows(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows below the header with the number of their last line; empty lines are left out."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator)
        next(reader, None)
        for row in reader:
            if row:
                yield reader.line_num, row


def _is_number(cell: str) -> bool:
    text = cell.strip()
    if text.lower() in MISSING:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _check_header(header: Sequence[str], path: Path, key: str, separator: str) -> None:
    if not header:
        raise wrong(key, f"{path} has no header")
    twice = sorted({name for name in header if header.count(name) > 1})
    problems = [f"{path}: the header names {shown(name)} twice" for name in twice if name]
    problems += [
        f"{path}: column {place} of the header has no name" for place, name in enumerate(header, 1) if not name
    ]
    if len(header) == 1 and any(other in header[0] for other in SEPARATORS.values() if other != separator):
        problems.append(f"{path} has one column, {shown(header[0])}: is the separator another one?")
    if problems:
        raise wrong(key, *problems)


def _in_order(name: str, codes: NDArray[numpy.int64], texts: Sequence[str]) -> Column:
    """A column of texts whose codes follow the order of the texts, and not that of the rows."""
    order = sorted(range(len(texts)), key=lambda code: texts[code])
    renamed = numpy.empty(len(texts) + 1, numpy.int64)
    renamed[order] = numpy.arange(len(texts))
    renamed[-1] = -1
    return Column(name, codes=renamed[codes], texts=tuple(texts[code] for code in order))


def _from_parquet(path: Path, key: str, separator: str) -> dict[str, Column]:
    parquet = package("pyarrow.parquet", "a Parquet file", key)
    try:
        table = parquet.read_table(path)
    except Exception as error:  # whatever Arrow raises of a damaged file
        raise wrong(key, f"{path} cannot be read as Parquet: {said(error)}") from error
    names = [str(name) for name in table.column_names]
    _check_header(names, path, key, ",")
    found: dict[str, Column] = {}
    problems: list[Problem] = []
    for name, values in zip(names, table.columns, strict=True):
        try:
            found[name] = _arrow_column(name, values)
        except ValueError as error:
            problems += wrong(key, f"{path}: column {shown(name)} {error}").problems
    if problems:
        raise UserError(problems)
    _check_finite(found, path, key)
    return found


def _arrow_column(name: str, values: Any) -> Column:
    types = package("pyarrow.types", "a Parquet file", "task.data")
    kind = values.type.value_type if types.is_dictionary(values.type) else values.type
    if types.is_string(kind) or types.is_large_string(kind):
        seen: dict[str, int] = {}
        codes = [-1 if text is None else seen.setdefault(text, len(seen)) for text in values.to_pylist()]
        return _in_order(name, numpy.array(codes, numpy.int64), list(seen))
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        cells = (numpy.nan if cell is None else float(cell) for cell in values.to_pylist())
        return Column(name, numpy.fromiter(cells, numpy.float64, len(values)))
    raise ValueError(f"is of the type {kind}, and neither numbers nor texts: leave it out with drop")


def _check_finite(columns: dict[str, Column], path: Path, key: str) -> None:
    problems = []
    for column in columns.values():
        if column.numbers is not None and (bad := numpy.flatnonzero(numpy.isinf(column.numbers))).size:
            rows = few((row + 1 for row in islice(bad.tolist(), MAX_ROWS_NAMED)), 3)
            problems.append(f"{path}: column {shown(column.name)} is infinite in row {rows}")
    if problems:
        raise wrong(key, *problems)
