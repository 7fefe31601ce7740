"""The table of faults names tests that there are, and all of them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from table import ROOT, ROWS

TESTS = ROOT / "tests"


def functions(file: Path) -> set[str]:
    """The tests in a file."""
    body = ast.parse(file.read_text()).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("row", ROWS)
def test_every_test_of_a_row_is_there(row: str) -> None:
    for test in ROWS[row].tests:
        file, _, name = test.partition("::")
        assert (TESTS / file).exists()
        assert not name or name in functions(TESTS / file)


def test_every_file_of_faults_and_attacks_stands_in_the_table() -> None:
    named = {test.partition("::")[0] for row in ROWS.values() for test in row.tests}
    files = [*TESTS.glob("faults/test_*.py"), *TESTS.glob("security/test_*.py")]
    assert {str(file.relative_to(TESTS)) for file in files if file.name != Path(__file__).name} <= named
