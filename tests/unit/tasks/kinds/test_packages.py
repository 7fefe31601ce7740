"""A package that is missing is told with what installs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from prune_search.recipe.problems import UserError
from prune_search.tasks.kinds.packages import package


def message(module: str) -> str:
    with pytest.raises(UserError) as caught:
        package(module, "timm", "task.model")
    (problem,) = caught.value.problems
    assert problem.path == "task.model"
    return problem.message


def test_what_is_installed_is_imported() -> None:
    assert package("json.decoder", "timm", "task.model").JSONDecoder


def test_what_is_missing_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert message("timm.models") == (
        "timm needs the package timm, which is not installed: pip install 'prune_search[vision]'"
    )
    assert message("no_such_package_of_mine") == (
        "timm needs the package no_such_package_of_mine, which is not installed: pip install no_such_package_of_mine"
    )


def test_an_old_package_is_told_by_the_module_that_it_lacks() -> None:
    assert message("json.v2") == (
        "timm needs json.v2, which this version of json does not have or cannot import: "
        "ModuleNotFoundError: No module named 'json.v2'"
    )


def test_a_broken_package_is_told_by_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_build.py").write_text("raise RuntimeError('operator nms\\ndoes not exist')")
    (tmp_path / "lacking_one.py").write_text("import no_such_package_of_mine")
    monkeypatch.syspath_prepend(tmp_path)
    assert message("broken_build") == (
        "timm needs the package broken_build, which cannot be imported here: RuntimeError: operator nms does not exist"
    )
    assert "(lacking_one lacks no_such_package_of_mine)" in message("lacking_one")
