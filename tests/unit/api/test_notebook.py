"""A search as a notebook shows it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from made_search import make_search

from prune_search.api.notebook import SearchView, frame_of, in_notebook, notebook_view, table
from prune_search.ledger.records import SearchRecords, read_search


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> SearchRecords:
    """A search that has ended."""
    return read_search(make_search(tmp_path_factory.mktemp("notebook"), "monday"))


def test_nothing_is_drawn_outside_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    assert notebook_view() is None
    terminal = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=None))
    monkeypatch.setitem(sys.modules, "IPython", terminal)
    assert not in_notebook()


@pytest.mark.slow
def test_in_a_notebook_one_display_is_drawn_again_and_again(
    monkeypatch: pytest.MonkeyPatch, records: SearchRecords
) -> None:
    drawn: list[str] = []
    handle = SimpleNamespace(update=drawn.append)
    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    shown = SimpleNamespace(HTML=str, display=lambda text, display_id: handle)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    view = notebook_view()
    assert view is not None
    view(records, None)
    view(records, None)
    (text,) = set(drawn)
    assert "monday" in text
    assert "<progress" in text


def test_the_best_trial_is_the_first_row(records: SearchRecords) -> None:
    goals = [trial for trial in records.numbered() if trial.status == "completed"]
    text = table(records)
    accuracy = {str(t.proposed.data["name"]): t.metrics["val/accuracy"] for t in goals if t.proposed is not None}
    shown = sorted((name for name in accuracy if name in text), key=text.index)
    assert shown == sorted(accuracy, key=lambda name: -accuracy[name])[: len(shown)]
    assert len(shown) == 10
    first = shown[0]
    assert f"{accuracy[first]:.4f}" in text


def test_rows_become_a_frame() -> None:
    assert list(frame_of([{"a": 1}]).columns) == ["a"]


def test_a_view_draws_what_changed(records: SearchRecords) -> None:
    drawn: list[str] = []
    view = SearchView(drawn.append)
    view(records, None)
    assert len(drawn) == 1
