"""What searches believe is told of those that learn, and of long ones not while somebody waits."""

from __future__ import annotations

from pathlib import Path

import pytest
from told_search import Told

from prune_search.api import believed as module
from prune_search.api.believed import Believed, believed


def test_only_searches_that_learn_believe_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    class Tells:
        def tell(self, search: object, effects: bool) -> dict[str, str]:
            asked.append((search.name, effects))  # type: ignore[attr-defined]
            return {"search": search.name}  # type: ignore[attr-defined]

    monkeypatch.setattr(module, "_outlook", lambda search: Tells())
    told = Told.begin(tmp_path)
    assert believed([told.records]) == []
    told.trial("snip", 0.9, 0.95)
    assert believed([told.records]) == [{"search": "told"}]
    one = Believed()
    assert one.watched(told.records) == {"search": "told"}
    assert asked == [("told", True), ("told", False)]
    monkeypatch.setattr(module, "MOST_WATCHED", 0)
    assert one.watched(told.records) == {
        "left_out": "not computed here for more than 0 trials; compare --html shows it"
    }
    records = told.records
    records.definition["space"]["search"]["sampler"] = "tpe"
    assert one.of(records) is None
