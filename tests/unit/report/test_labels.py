"""How figures and groups of trials are called."""

from __future__ import annotations

import pytest

from prune_search.report.labels import figure, group_label, shown_metrics


def test_a_leaderboard_has_a_column_for_each_metric_once() -> None:
    data = {"objectives": ["maximize val/accuracy", "minimize flops"], "sort": "minimize flops", "rows": []}
    assert shown_metrics(data) == ["val/accuracy", "sparsity", "flops"]
    assert shown_metrics({**data, "sort": "minimize val/loss"})[-1] == "val/loss"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.98765, "0.9877"), (-0.5, "-0.5000"), (999.0, "999.0000"), (1200.0, "1,200"), (7274496000.0, "7.27e+09")],
)
def test_a_figure_is_as_exact_as_people_read_it(value: float, text: str) -> None:
    assert figure(value) == text


def test_a_group_says_which_trials_it_is_of() -> None:
    entry = {"option": None, "sparsity": None, "searches": ["a", "b"], "trials": 7}
    assert group_label(entry) == "all (7 trials)"
    assert group_label(entry, several=True) == "a + b: all (7 trials)"
    assert group_label({**entry, "sparsity": (0.5, 0.95)}) == "sparsity 0.5 … 0.95 (7 trials)"
    assert group_label({**entry, "option": "snip"}) == "snip only (7 trials)"
