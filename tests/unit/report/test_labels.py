"""How figures and groups of trials are called."""

from __future__ import annotations

import pytest

from prune_search.report.labels import exported, fidelity_text, figure, group_label, shown_metrics, trusted_text


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


@pytest.mark.parametrize(
    ("where", "followed", "key", "said"),
    [
        ([], True, "b", "told --trial 002-snip"),
        ([], True, "a", "told"),
        ([], False, "b", "told"),
        (["sparsity >= 0.9"], True, "b", "told --trial 001-random"),
    ],
    ids=["expected", "the same", "only measured", "hidden rows"],
)
def test_what_is_exported_is_the_best_that_is_shown_or_expected(
    where: list[str], followed: bool, key: str, said: str
) -> None:
    entry = {"search": "told", "key": key, "name": "002-snip", "followed": followed}
    best = {"search": "told", "key": "a", "name": "001-random"}
    assert exported({"where": where, "recommended": [entry]}, best) == said


def test_what_was_trusted_is_told_with_the_most_trusted_first() -> None:
    entry = {"trusted": {"published findings": 0.25, "first (mlp on digits)": 0.7, "nothing known before": 0.05}}
    assert trusted_text(entry) == "first (mlp on digits) 70%, published findings 25%, nothing known before 5%"
    assert trusted_text({}) == ""


def test_a_low_fidelity_is_told_with_its_price_and_rank_correlation() -> None:
    told = {"fidelity": "steps 0.25", "trials": 5, "completed": 5, "price": 0.254, "pairs": 4, "kendall": 0.6667}
    text = fidelity_text({**told, "used": True, "steps_trained": 12_340})
    assert text == (
        "steps 0.25: 5 low-fidelity trials, 12,340 steps, 25% of the full price; "
        "rank correlation with the full recipes 0.67 (Kendall's τ, 4 measured at both); used"
    )
    assert fidelity_text({**told, "used": False, "steps_trained": 1}).endswith("dropped: not worth its price")
    few = fidelity_text({**told, "trials": 1, "pairs": 1, "kendall": None, "used": True, "steps_trained": 1})
    assert "1 low-fidelity trial," in few
    assert "not known yet (Kendall's τ, 1 measured at both); not judged yet: that takes 3" in few
    assert fidelity_text({**told, "trials": 0}) == "steps 0.25: no low-fidelity trial yet"
