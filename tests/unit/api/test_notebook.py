"""A search as a notebook shows it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_search import make_search

from prune_search.api.notebook import SearchView, frame_of, in_notebook, notebook_view, table
from prune_search.api.search import Outcome
from prune_search.ledger.records import read_search


def test_nothing_is_drawn_outside_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    assert notebook_view() is None
    terminal = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=None))
    monkeypatch.setitem(sys.modules, "IPython", terminal)
    assert not in_notebook()


def test_in_a_notebook_one_display_is_drawn_again_and_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[str] = []
    handle = SimpleNamespace(update=drawn.append)
    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    shown = SimpleNamespace(HTML=str, display=lambda text, display_id: handle)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    view = notebook_view()
    assert view is not None
    records = read_search(make_search(tmp_path, "monday"))
    view(records, None)
    view(records, None)
    (text,) = set(drawn)
    assert "monday" in text
    assert "<progress" in text


def test_the_best_trial_is_the_first_row(tmp_path: Path) -> None:
    records = read_search(make_search(tmp_path, "monday"))
    goals = [trial for trial in records.numbered() if trial.status == "completed"]
    text = table(records)
    accuracy = {str(t.proposed.data["name"]): t.metrics["val/accuracy"] for t in goals if t.proposed is not None}
    shown = sorted((name for name in accuracy if name in text), key=text.index)
    assert shown == sorted(accuracy, key=lambda name: -accuracy[name])[: len(shown)]
    assert len(shown) == 10
    first = shown[0]
    assert f"{accuracy[first]:.4f}" in text


def test_a_frame_has_a_row_for_each_trial(tmp_path: Path) -> None:
    records = read_search(make_search(tmp_path, "monday"))
    outcome = Outcome(records, None, 0, None, 1.0)
    frame = outcome.frame()
    assert len(frame) == len(records.trials)
    assert {"trial", "status", "val/accuracy", "sparsity"} <= set(frame.columns)
    assert "<table" in outcome._repr_html_()
    assert list(frame_of([{"a": 1}]).columns) == ["a"]


def test_a_view_draws_what_changed(tmp_path: Path) -> None:
    drawn: list[str] = []
    view = SearchView(drawn.append)
    view(read_search(make_search(tmp_path, "monday")), None)
    assert len(drawn) == 1
