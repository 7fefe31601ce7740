"""Labels for the parts of a comparison, in the terminal, in figures and on the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prune_search.ledger.fidelities import LEAST_PAIRS
from prune_search.recipe.metric_names import quality
from prune_search.recipe.search_block import parse_objective

# What stands beside the sparsity, where it is known: searches of version 0.1 did not measure it.
SPARSITIES = ("sparsity", "sparsity/all_parameters")
HEADS = {"sparsity/all_parameters": "of all params"}


def head_of(metric: str) -> str:
    """What the column of a metric is called."""
    return HEADS.get(metric, metric)


def known_sparsities(metrics: Iterable[Mapping[str, Any]]) -> list[str]:
    """The sparsity, and the share of all parameters that is removed where some trial tells it."""
    told = set().union(*metrics)
    return [name for name in SPARSITIES if name == "sparsity" or name in told]


def shown_metrics(data: Mapping[str, Any]) -> list[str]:
    """The metrics that a leaderboard has a column for: accuracy, sparsity, the objectives, and what it is sorted by."""
    asked = [written.split()[1] for written in (*data["objectives"], data["sort"])]
    sparsities = known_sparsities(row["metrics"] for row in data["rows"])
    measured = quality(parse_objective(written) for written in data["objectives"])[1]
    return list(dict.fromkeys((measured, *sparsities, *asked)))


def figure(value: float) -> str:
    """A metric as people read it: four decimals; steps in thousands, and operations as powers of ten.

    Example:
        >>> figure(0.98765), figure(1200.0), figure(7274496000.0)
        ('0.9877', '1,200', '7.27e+09')
    """
    if abs(value) < 1000:
        return f"{value:.4f}"
    return f"{value:,.0f}" if abs(value) < 1e6 else f"{value:.3g}"


def hole_label(path: str) -> str:
    """What a hole is called: which option of a space was taken is the paradigm.

    Example:
        >>> hole_label("any"), hole_label("mask.sparsity")
        ('paradigm', 'mask.sparsity')
    """
    return "paradigm" if path == "any" else path


def hole_shares(weights: Mapping[str, float]) -> list[str]:
    """Holes, each with its share of what is explained.

    Example:
        >>> hole_shares({"any": 0.75, "rounds": 0.25})
        ['paradigm 0.75', 'rounds 0.25']
    """
    return [f"{hole_label(path)} {share:.2f}" for path, share in weights.items()]


def group_label(entry: Mapping[str, Any], several: bool = False) -> str:
    """Which trials an entry of ``importance`` is about."""
    if entry["option"] is not None:
        text = f"{entry['option']} only"
    elif entry["sparsity"] is None:
        text = "all"
    else:
        low, high = entry["sparsity"]
        text = f"sparsity {low:g} … {high:g}"
    prefix = f"{' + '.join(entry['searches'])}: " if several else ""
    return f"{prefix}{text} ({entry['trials']} trials)"


def exported(data: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    """What ``prune-search export`` is to be given after a comparison, without its options for places.

    The best row's search alone; with a trial where the best of the search is another one, or where the search
    recommends another by its expected figures.
    """
    chosen = best["name"] if data["where"] else ""
    for entry in data.get("recommended", ()) if not chosen else ():
        if entry["followed"] and entry["search"] == best["search"] and entry["key"] != best["key"]:
            chosen = entry["name"]
    return str(best["search"]) + (f" --trial {chosen}" if chosen else "")


def trusted_text(entry: Mapping[str, Any]) -> str:
    """How much of what is expected rests on what was known before the search, the most trusted source first."""
    shares = sorted(entry.get("trusted", {}).items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {share:.0%}" for name, share in shares)


def fidelity_text(told: Mapping[str, Any]) -> str:
    """What a search found out about one of its low fidelities, and whether it used it.

    Args:
        told: as `ledger.fidelities.fidelity_data` has it.
    """
    count, pairs = told["trials"], told["pairs"]
    if not count:
        return f"{told['fidelity']}: no low-fidelity trial yet"
    cost = f"{count} low-fidelity trial{'s' * (count != 1)}, {told['steps_trained']:,} steps"
    price = f"{told['price']:.0%} of the full price"
    tau = "not known yet" if told["kendall"] is None else f"{told['kendall']:.2f}"
    known = f"rank correlation with the full recipes {tau} (Kendall's τ, {pairs} measured at both)"
    how = "used" if told["used"] else "dropped: not worth its price"
    if pairs < LEAST_PAIRS:
        how = f"not judged yet: that takes {LEAST_PAIRS} such recipes"
    return f"{told['fidelity']}: {cost}, {price}; {known}; {how}"


def recommended_text(entry: Mapping[str, Any]) -> str:
    """What a search recommends: the expected figures with their intervals, and what was measured."""
    parts = []
    for metric, figure in entry["figures"].items():
        expected = f"{metric} {figure['value']:.4g} expected ({figure['low']:.4g} … {figure['high']:.4g})"
        parts.append(expected + ("" if figure["measured"] is None else f", {figure['measured']:.4g} measured"))
    return "; ".join(parts)
