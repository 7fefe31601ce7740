"""`prune-search export`: the options reach the export, and its end is told as text or as one object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Typed

import prune_search
from prune_search import Where
from prune_search.api.export import Export, ExportOptions

SIZES = {"compact parameters": 10.0, "dense parameters": 1000.0, "compact flops": 20.0, "dense flops": 2000.0}


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path, ExportOptions]]:
    """What was asked for; the export itself has tests of its own."""
    asked: list[tuple[str, Path, ExportOptions]] = []
    short = {"train.steps": "2it", "train.batch": 32}
    result = prune_search.run("snip", set=short, where=Where(storage=tmp_path / "store"))

    def export(name: str, to: Path, *, options: ExportOptions, **_: Any) -> Export:
        asked.append((name, to, options))
        registered = None if options.register is None else "3"
        return Export(to, result, {"sizes": SIZES}, 1e-6 if options.onnx else None, registered, "http://mlflow")

    def export_pareto(name: str, to: Path, *, options: ExportOptions, **given: Any) -> list[Export]:
        return [export(name, to / one, options=options, **given) for one in ("a", "b")]

    monkeypatch.setattr("prune_search.api.export.export", export)
    monkeypatch.setattr("prune_search.api.export.export_pareto", export_pareto)
    return asked


def test_the_folder_its_costs_and_where_it_is_registered_are_told(
    typed: Typed, exported: list[tuple[str, Path, ExportOptions]]
) -> None:
    said = typed("export", "monday", "--to", "best", "--seeds", "3", "--onnx", "--register", "digits")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert "compact   10 of 1,000 parameters  20 of 2,000 flops" in lines
    assert "onnx      best/model.onnx  within 1e-06 of torch" in lines
    assert "mlflow    models:/digits@champion  version 3  at http://mlflow" in lines
    assert exported == [("monday", Path("best"), ExportOptions(None, 3, True, "digits", 1))]


def test_one_object_whether_one_is_exported_or_the_front(
    typed: Typed, exported: list[tuple[str, Path, ExportOptions]]
) -> None:
    data = json.loads(typed("export", "monday", "--to", "best", "--json").out)
    assert (Path(data["folder"]).name, data["costs"]["sizes"], data["registered_version"]) == ("best", SIZES, None)
    data = json.loads(typed("export", "monday", "--to", "front", "--pareto", "--json").out)
    assert [Path(item["folder"]).name for item in data["folders"]] == ["a", "b"]


def test_a_search_that_is_not_there_is_one_line(typed: Typed, tmp_path: Path) -> None:
    said = typed("export", "nothing", "--to", str(tmp_path / "best"))
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert not (tmp_path / "best").exists()
