"""`prune-search resume`: what was typed reaches the search, and what cannot go on is refused."""

from __future__ import annotations

from typing import Any

import pytest
from command_line import Typed
from told_search import Told

from prune_search.recipe.problems import UserError


def test_every_option_that_was_typed_reaches_the_search(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    resumed: list[tuple[str, dict[str, Any]]] = []

    def resume(name: str, **given: Any) -> None:
        resumed.append((name, given))
        raise UserError("that far")

    monkeypatch.setattr("prune_search.api.search.resume", resume)
    words = ("--fork", "--name", "tuesday", "--device", "cpu", "--heartbeat", "9", "--model", "mine:net")
    said = typed("resume", "monday", *words, "--address", "head:6379", "--tracking-uri", "http://mlflow:5000")
    assert said.code == 2
    ((name, given),) = resumed
    assert (name, given["fork"]) == ("monday", True)
    assert (given["where"].device, given["where"].model) == ("cpu", "mine:net")
    options = given["options"]
    assert (options.name, options.address, options.heartbeat_s) == ("tuesday", "head:6379", 9.0)
    assert options.tracking_uri == "http://mlflow:5000"


def test_a_search_that_is_not_there_or_was_edited_is_refused_in_one_line(typed: Typed, tmp_path: Any) -> None:
    said = typed("resume", "monday")
    assert (said.code, said.err.count("\n")) == (2, 1)
    told = Told.begin(tmp_path, "monday")
    (told.folder / "search.json").write_text("{}")
    said = typed("resume", "monday")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
