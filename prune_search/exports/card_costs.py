"""The size and speed section of the model card. It claims "faster" only for measured speed-ups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prune_search.exports.card_units import scaled

NETWORKS = ("dense", "masked", "compact")
SPEEDS = "Median milliseconds of a forward pass with the quartiles; the three networks took turns."


def size_and_speed(costs: Mapping[str, Any]) -> str:
    """Two tables, and a sentence on what they mean.

    Args:
        costs: of `networks.costs_of`, as in metrics.json.
    """
    sizes = costs["sizes"]
    rows = [
        ["parameters", *(f"{sizes[key]:,.0f}" for key in ("dense parameters", "nonzero", "compact parameters"))],
        [
            "operations for one input",
            *(scaled(sizes[key], "FLOPs") for key in ("dense flops", "sparse flops", "compact flops")),
        ],
        ["on disk", *(scaled(sizes[key], "B") for key in ("dense bytes", "packed bytes", "compact bytes"))],
    ]
    head = "| | dense | sparse (in theory) | compact |\n| --- | ---: | ---: | ---: |"
    lines = [head, *(f"| {name} | " + " | ".join(values) + " |" for name, *values in rows)]
    notes = (
        "Sparse counts what is not masked: parameters that are not 0, operations that only sparse code could leave "
        "out, and a file with masks as bits."
    )
    parts = ["\n".join(lines), notes]
    if costs["described"] is True or costs.get("program"):
        apart, outputs = costs["outputs_apart"], "the outputs of the compact network are"
        told = f"within {apart:.0e} of the masked network's, relative to the largest output" if apart else ""
        parts.append(f"On examples of the validation data {outputs} {told or 'those of the masked network'}.")
    elif costs.get("experts"):
        text = "The compact network is the masked one without the experts that were removed; nothing else was cut out"
        parts.append(f"{text}: {costs['described']}.")
    else:
        parts.append(f"There is no compact network: {costs['described']}.")
    for taken in costs["latency_ms"]:
        parts.append(_speed(taken))
    for batch, seconds in costs.get("not_timed_s", {}).items():
        parts.append(f"Batch {batch} was not timed: one forward pass would take about {seconds:.0f} s.")
    return "\n\n".join([*parts, SPEEDS])


def _speed(taken: Mapping[str, Any]) -> str:
    bars = ", ".join(f"{name} {_bar(taken[name])}" for name in NETWORKS)
    where = f"Batch {taken['batch']} on {taken['device']}, {taken['threads']} thread(s): {bars}."
    return f"{where} {verdict(taken)}"


def _bar(figures: Mapping[str, float]) -> str:
    return f"{figures['median']:.3g} [{figures['low']:.3g}, {figures['high']:.3g}] ms"


def verdict(taken: Mapping[str, Any]) -> str:
    """Which networks were measured faster than the dense one, beyond the noise."""
    dense = taken["dense"]
    said = []
    for name in NETWORKS[1:]:
        one = taken[name]
        if one["high"] < dense["low"]:
            said.append(f"The {name} network is {dense['median'] / one['median']:.2f} times as fast as the dense one.")
        else:
            said.append(f"The {name} network was not measured faster.")
    return " ".join(said)
