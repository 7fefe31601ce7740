"""The budget of a mask as a recipe writes it: a share of what the dense network costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prune_search.recipe.fields import Number, child
from prune_search.recipe.problems import not_one_of, shown
from prune_search.recipe.reading import BAD, Reading

KINDS = ("parameters", "flops", "memory", "latency")
# Other words for them.
ALSO = {"params": "parameters"}
COSTS = "costs"


@dataclass(frozen=True)
class NetworkBudget:
    """``{parameters: k}``, or flops, memory or latency: the share of the dense network's cost to keep at most.

    A latency comes with ``costs``, milliseconds per layer that were measured once: measured anew on every machine,
    they would give another mask on each.
    """

    def describe(self) -> str:
        return "{parameters: k}, {flops: k}, {memory: k} or {latency: k, costs: {layer: ms}} with k above 0 and up to 1"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        if not isinstance(raw, Mapping):
            return reading.wrong(path, f"must be {self.describe()} (got {shown(raw)})")
        given = {ALSO.get(str(key), key): value for key, value in raw.items()}
        unknown = [key for key in given if key not in (*KINDS, COSTS)]
        for key in unknown:
            reading.wrong(child(path, key), not_one_of(key, KINDS))
        kinds = [key for key in given if key in KINDS]
        if unknown:
            return BAD
        if len(kinds) != 1 or (COSTS in given) != (kinds[0] == "latency"):
            return reading.wrong(path, f"must be {self.describe()} (got {shown(raw)})")
        share = Number(0.0, 1.0, above=True)
        found: dict[str, Any] = {kinds[0]: share.read(given[kinds[0]], child(path, kinds[0]), reading)}
        if COSTS in given:
            found[COSTS] = _costs(given[COSTS], child(path, COSTS), reading)
        return BAD if any(value is BAD for value in found.values()) else found


def kind_and_share(budget: Mapping[str, Any]) -> tuple[str, float]:
    """Which cost a budget is of, and the share of the dense network's to keep at most.

    Args:
        budget: in canonical form.
    """
    ((kind, share),) = ((key, value) for key, value in budget.items() if key != COSTS)
    return kind, float(share)


def _costs(raw: Any, path: str, reading: Reading) -> Any:
    if not isinstance(raw, Mapping) or not raw:
        return reading.wrong(path, f"must be milliseconds per layer, as layer_costs measures them (got {shown(raw)})")
    found = {str(name): Number(0.0).read(value, child(path, str(name)), reading) for name, value in raw.items()}
    return BAD if any(value is BAD for value in found.values()) else found
