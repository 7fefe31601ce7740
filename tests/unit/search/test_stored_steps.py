"""What a storage already has of a planned search."""

from __future__ import annotations

from pathlib import Path

import prune_search
from prune_search import Where

SPACE = {
    "task": {"model": {"name": "mlp", "hidden": [4]}},
    "train": {"steps": "2ep"},
    "preset": "late-rewinding",
    "weights": {"at": "2it"},
    "rounds": 1,
    "mask": {"sparsity": {"per_round": {"hole": "choice", "of": [0.2, 0.5]}}},
    "search": {"trials": 2, "sampler": "grid", "controls": False},
}


def test_what_was_trained_is_counted_once_and_only_where_it_can_be_used(tmp_path: Path) -> None:
    where = Where(storage=tmp_path)

    def stored() -> int:
        return prune_search.plan(SPACE, where=where, calibrated=False).plan.steps_stored or 0

    assert stored() == 0
    single = {key: value for key, value in SPACE.items() if key != "search"}
    made = {**single, "mask": {"sparsity": {"per_round": 0.2}}}
    result = prune_search.run(made, where=where)
    trained = result.steps[0]
    # The trial that was run is stored whole; of the other one, what it shares with it.
    assert stored() == trained
    # Another learning rate is another training.
    prune_search.run(made, set={"train.optimizer": {"name": "sgd", "lr": 0.05}}, where=where)
    assert stored() == trained
