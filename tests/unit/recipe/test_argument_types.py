"""Arguments of a wrong type are told with their name and value, by every public function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import prune_search
from prune_search import UserError
from prune_search.recipe.argument_types import of_type

WRONG = (object(), -1.5, b"zz", [3], {3: object()}, {1}, torch.ones(2))
# Names of what is not there: an argument that is checked after it would not be reached by a wrong type.
CALLS: dict[str, tuple[Any, ...]] = {
    "run": ("snip",),
    "verify": ("snip",),
    "plan": ("quickstart",),
    "launch": ("quickstart",),
    "resume": ("no-search",),
    "compare": ("no-search",),
    "export": ("no-search", "to"),
    "export_pareto": ("no-search", "to"),
    "load": ("no-folder",),
}
CHECKED = ("set", "where", "options", "out", "to", "name", "folder", "target", "only", "diff", "sort", "by", "listener")


def told(call: Callable[[], object], name: str) -> None:
    with pytest.raises(UserError) as caught:
        call()
    assert len(str(caught.value)) < 2000
    assert name in str(caught.value), caught.value


@pytest.mark.parametrize("function", CALLS)
def test_each_argument_of_a_wrong_type_is_told(function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    called = getattr(prune_search, function)
    parameters = list(inspect.signature(called).parameters)
    looked_at = [name for name in parameters if name in CHECKED]
    assert "where" in looked_at
    for name in looked_at:
        for wrong in WRONG:
            given = dict(zip(parameters, CALLS[function], strict=False)) if function != "compare" else {}
            if name == "target" and isinstance(wrong, dict):
                continue
            positional = CALLS[function] if function == "compare" else ()
            told(lambda: called(*positional, **{**given, name: wrong}), name)  # noqa: B023 - called at once


def test_a_task_in_the_place_of_where_is_told_where_it_goes() -> None:
    task = prune_search.Task(model=lambda: nn.Linear(4, 2), train=(torch.zeros(8, 4), torch.zeros(8).long()))
    told(lambda: prune_search.run("snip", where=task), "Where(task=")  # type: ignore[arg-type]


def test_a_text_is_no_list_of_conditions(tmp_path: Path) -> None:
    where = prune_search.Where(storage=tmp_path)
    told(lambda: prune_search.compare("a", where=where, only="sparsity >= 0.9"), "only: must be a list")


def test_settings_are_checked_where_they_are_made() -> None:
    told(lambda: prune_search.Where(storage=3), "where.storage")  # type: ignore[arg-type]
    told(lambda: prune_search.Where(data_root=3), "where.data_root")  # type: ignore[arg-type]
    told(lambda: prune_search.Where(model=3), "where.model")  # type: ignore[arg-type]
    told(lambda: prune_search.Where(device=3), "where.device")  # type: ignore[arg-type]
    told(lambda: prune_search.Where(storage_budget=2.5), "where.storage_budget")  # type: ignore[arg-type]
    told(lambda: prune_search.Options(name=3), "options.name")  # type: ignore[arg-type]
    told(lambda: prune_search.Options(heartbeat_s="3"), "options.heartbeat_s")  # type: ignore[arg-type]
    told(lambda: prune_search.Options(sharing="no"), "options.sharing")  # type: ignore[arg-type]
    told(lambda: prune_search.ExportOptions(seeds="3"), "options.seeds")  # type: ignore[arg-type]
    told(lambda: prune_search.ExportOptions(onnx=1), "options.onnx")  # type: ignore[arg-type]


def test_true_is_no_number() -> None:
    of_type("steps", 3, (int,), "a whole number")
    of_type("fresh", True, (bool,), "True or False")
    told(lambda: of_type("steps", True, (int,), "a whole number"), "steps: must be a whole number (got True)")
