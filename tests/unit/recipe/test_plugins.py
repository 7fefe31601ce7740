"""Plug-ins: they are imported once, and one that is wrong is named with the line; see tests/conformance too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from prune_search.recipe import plugins
from prune_search.recipe.plugins import VARIABLE, find_own_modules, import_plugins
from prune_search.recipe.problems import UserError


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process that was started in the test's folder."""
    monkeypatch.setattr(plugins, "_imported", False)
    monkeypatch.setattr(plugins, "_failure", None)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)


def test_modules_that_are_named_are_imported_once_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_plugin_of_a_test.py").write_text("")
    monkeypatch.setenv(VARIABLE, " a_plugin_of_a_test , ")
    import_plugins()
    assert "a_plugin_of_a_test" in sys.modules
    del sys.modules["a_plugin_of_a_test"]
    import_plugins()
    assert "a_plugin_of_a_test" not in sys.modules


def test_one_that_is_wrong_is_named_with_its_line_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_wrong_plugin.py").write_text("x = 1\n\nraise ValueError('not\\ntoday')\n")
    monkeypatch.setenv(VARIABLE, "a_wrong_plugin")
    for _ in range(2):
        with pytest.raises(UserError) as refused:
            import_plugins()
        assert str(refused.value) == (
            f"{VARIABLE} names 'a_wrong_plugin', which cannot be loaded: ValueError: not today "
            f"(line 3 of {tmp_path}/a_wrong_plugin.py)"
        )


def test_what_does_not_parse_or_is_not_there_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_broken_plugin.py").write_text("x = (\n")
    for name, said in (("a_broken_plugin", "line 1 of"), ("no_such_plugin_of_a_test", "ModuleNotFoundError")):
        monkeypatch.setattr(plugins, "_imported", False)
        monkeypatch.setattr(plugins, "_failure", None)
        monkeypatch.setenv(VARIABLE, name)
        with pytest.raises(UserError, match=said):
            import_plugins()


def test_the_working_directory_is_looked_in_first_and_once(tmp_path: Path) -> None:
    find_own_modules()
    find_own_modules()
    assert sys.path[0] == str(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1
