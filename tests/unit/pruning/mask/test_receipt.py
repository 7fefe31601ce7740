"""The receipt of a mask as plain data."""

from __future__ import annotations

import json

from prune_search.pruning.mask.receipt import LayerReceipt, Receipt


def test_layers_with_nothing_left_are_counted_and_all_of_it_is_plain_data() -> None:
    layers = (LayerReceipt("a", 10, 4, 10, 4), LayerReceipt("b", 5, 0, 5, 0), LayerReceipt("c", 3, 3, 0, 0))
    receipt = Receipt(0.7, 11 / 18, 4, 4, layers)
    assert receipt.collapsed == 1
    data = receipt.as_data()
    assert json.loads(json.dumps(data)) == data
    assert (data["asked"], data["collapsed"], data["units_kept"]) == (0.7, 1, 4)
    assert data["layers"][1] == {"name": "b", "total": 5, "kept": 0, "units": 5, "units_kept": 0}
