"""What a table of measured networks lets one expect of others, as experience that a search begins with."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from prune_search.search.guided.candidates import Candidate
from prune_search.search.guided.experience import Earlier, Experience
from prune_search.search.guided.features import Network, network
from prune_search.search.guided.targets import Target
from prune_search.simulation.chain import epoch_of
from prune_search.simulation.surfaces.measured_table import MeasuredTable, kind_of, nearest
from quality.problems import NETWORKS, table

# Rounds of the chains, and lengths of retrainings in epochs, that are looked at.
LOOKED_AT, LENGTHS = (2, 6, 10), (10, 30, 50, 90, 130, 182)
NAME = "the reference table"


@cache
def defaults(file: str, left_out: str) -> Experience:
    """The mean over the table's networks but one of -log(error), less each network's own mean.

    Args:
        file: the table.
        left_out: the network that is searched; empty: none.
    """
    by_place: dict[tuple[Any, ...], list[float]] = {}
    places: dict[tuple[Any, ...], Network] = {}
    for name in NETWORKS:
        if name != left_out:
            found = list(_measured(file, name))
            level = statistics.fmean(z for _, _, z in found)
            for place, one, z in found:
                by_place.setdefault(place, []).append(z - level)
                places.setdefault(place, one)
    kept = [place for place, values in by_place.items() if len(values) >= 2]
    figures = tuple(1 - 0.1 / math.exp(statistics.fmean(by_place[place])) for place in kept)
    return Experience((Earlier(NAME, tuple(places[place] for place in kept), {"val/accuracy": figures}),))


def _measured(file: str, name: str) -> Iterator[tuple[tuple[Any, ...], Network, float]]:
    target = Target.of("val/accuracy", "maximize", [])
    for which in ("chains", "one-shot"):
        problem = table(file, name, which)
        surface: MeasuredTable = problem.simulation(0).surface.table  # type: ignore[attr-defined]
        for number, recipe in enumerate(problem.recipes):
            one = Candidate.of(recipe, epoch_of(recipe), "", {}, {})
            time = round(one.timeline.retrain_steps / one.timeline.epoch)
            if time not in LENGTHS:
                continue
            for round_ in LOOKED_AT if which == "chains" else (1,):
                node = network(one, round_)
                kind = replace(kind_of(recipe), network=name)
                densities = [node.density or 1.0] if which == "chains" else [0.8**rounds for rounds in LOOKED_AT]
                for density in densities:
                    cell = nearest(surface.cells[kind], density, time)
                    accuracy = statistics.fmean(validation for validation, _ in cell.seeds.values())
                    # One-shot recipes of several densities are recipes of their own; a chain's rounds are one.
                    alone = which == "one-shot"
                    numbers = {**node.numbers, "removed": 1 - density} if alone else node.numbers
                    owner = f"{which} {number} {density:.4f}" if alone else f"{which} {number}"
                    placed = Network(owner, numbers, {}, density, 0.0, 0.0)
                    yield (kind.method, which, time, round(density, 4)), placed, target.scaled(accuracy)


def of_problem(file: str | None, name: str, networks: Sequence[str] = NETWORKS) -> Experience:
    """What a search of a problem begins with: never what its own network showed."""
    if file is None:
        return Experience()
    return defaults(file, next((network for network in networks if name.startswith(f"{network},")), ""))
