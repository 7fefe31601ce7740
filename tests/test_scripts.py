"""Benchmarks and tables are started as scripts, as their opening lines say: what they import is found from there."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SCRIPTS = sorted(path for path in TESTS.rglob("*.py") if "__main__" in path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    """The modules that a file imports, by the first part of their names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def lacking(script: Path) -> list[str]:
    """What a script imports that is neither beside it, nor installed, nor in a folder that it names."""
    text = script.read_text()
    places = [script.parent, *([TESTS] if "sys.path" in text or "PYTHONPATH=tests" in text else [])]
    return [
        name
        for name in sorted(set(imported(ast.parse(text))))
        if not any((place / f"{name}.py").is_file() or (place / name).is_dir() for place in places)
        and ((TESTS / f"{name}.py").is_file() or (name not in sys.modules and importlib.util.find_spec(name) is None))
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(TESTS)))
def test_what_a_script_imports_is_found_where_it_is_started(script: Path) -> None:
    assert lacking(script) == []


def test_what_only_the_tests_see_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import json\nimport real_search\nfrom beside import it\nimport nowhere_at_all\n")
    (tmp_path / "beside.py").write_text("it = 1\n")
    assert lacking(script) == ["nowhere_at_all", "real_search"]
