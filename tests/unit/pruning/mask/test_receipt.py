"""The receipt of a mask as plain data."""

from __future__ import annotations

import json
from dataclasses import replace

from prune_search.pruning.mask.receipt import LayerReceipt, Receipt, budget_told, search_told


def test_layers_with_nothing_left_are_counted_and_all_of_it_is_plain_data() -> None:
    layers = (LayerReceipt("a", 10, 4, 10, 4), LayerReceipt("b", 5, 0, 5, 0), LayerReceipt("c", 3, 3, 0, 0))
    receipt = Receipt(0.7, 11 / 18, 4, 4, layers)
    assert receipt.collapsed == 1
    data = receipt.as_data()
    assert json.loads(json.dumps(data)) == data
    assert (data["asked"], data["collapsed"], data["units_kept"]) == (0.7, 1, 4)
    assert data["layers"][1] == {"name": "b", "total": 5, "kept": 0, "units": 5, "units_kept": 0}


def test_a_search_in_episodes_is_told_in_a_sentence() -> None:
    figures = {"episodes": 200.0, "budget": 10.0, "feasible": 31.0, "episode": 88.0, "reward": 91.25, "cost": 9.632}
    told = search_told(figures)
    assert told.startswith("31 of 200 episodes met the budget of 10%; episode 88 ")
    assert told.endswith("91.25, and keeps 9.632%")
    missed = search_told({**figures, "feasible": 0.0, "episode_cost": 18.4})
    assert missed.startswith(
        "none of 200 episodes met the budget of 10%: the cheapest kept 18.4%. Its layers were thinned"
    )
    assert "never tried" in missed
    ruined = search_told({**figures, "ruined": 3.0})
    assert ruined == f"{told}; 3 networks had no finite loss or accuracy"


def test_a_budget_is_told_with_what_was_asked_and_what_is_reached() -> None:
    receipt = Receipt(0.5, 0.5, 2, 2, (), budget=("flops", 0.5, 0.497))
    assert receipt.as_data()["budget"] == {"kind": "flops", "asked": 0.5, "reached": 0.497}
    assert "budget" not in replace(receipt, budget=None).as_data()
    assert budget_told(("flops", 0.5, 0.497)).endswith("flops are left; 0.5 were requested")
    assert budget_told(("memory", 0.5, 0.4)).endswith("; whole units allow no more")


def test_a_receipt_has_a_search_in_its_data_only_where_there_was_one() -> None:
    plain = Receipt(0.5, 0.5, 2, 2, ())
    assert "search" not in plain.as_data()
    assert replace(plain, search={"budget": 10.0}).as_data()["search"] == {"budget": 10.0}
