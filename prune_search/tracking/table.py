"""A view of MLflow's runs table for each search: its trials, the best one first, with the columns that matter.

MLflow's page opens with no metric, no param, and the trials folded away under their search. It keeps shared views as
tags of the experiment, and an address may name one; where another version of MLflow does not know it, the page opens
as it always does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from prune_search.recipe.holes import is_hole
from prune_search.tracking.names import allowed
from prune_search.tracking.standing import directions
from prune_search.trial.ranking import Goals

PREFIX = "mlflow.sharedViewState."
# Stands for the experiment's number in a text, until it is known.
EXPERIMENT = "{experiment}"
MOST_PARAMS = 8


def table_tag(definition: Mapping[str, Any]) -> dict[str, str]:
    """The tag of the experiment that holds the view of a search."""
    identity, space = definition["id"], definition["space"]
    goals = Goals.of(space["search"])
    metrics = [f"best/{name}" for name in directions(goals)]
    params = [allowed(path) for path in hole_paths(space["options"])][:MOST_PARAMS]
    columns = [
        *_columns("metrics", [*metrics, "steps_trained", "steps_saved"]),
        *_columns("params", params),
        *_columns("tags", ["status", "paradigm"]),
    ]
    view = {
        "searchFilter": f"tags.`search.id` = '{identity}' and tags.`trial.id` != ''",
        "orderByKey": _columns("metrics", metrics)[0],
        "orderByAsc": goals.directions[0] == "minimize",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
    }
    return {f"{PREFIX}{identity}": json.dumps(view)}


def _columns(kind: str, names: list[str]) -> list[str]:
    return [f"{kind}.`{name}`" for name in names]


def table_link(search: str, experiment: str = EXPERIMENT) -> str:
    """Where MLflow's page shows that view, from the root of its address."""
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={search}"


def hole_paths(options: list[Mapping[str, Any]]) -> list[str]:
    """Dotted paths of the holes of a space, as its params are called; ``any`` first where there are several options."""
    found = ["any"] if len(options) > 1 else []
    for option in options:
        blocks = {key: value for key, value in option.items() if key not in ("label", "own")}
        found += [path for path, _ in holes(blocks, "")]
    return list(dict.fromkeys(found))


def holes(node: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every hole at and below a node, with its path; those in the options of a choice too."""
    if path and is_hole(node):
        yield path, node
        for option in node.get("of", ()):
            yield from holes(option, path)
    elif isinstance(node, Mapping | list):
        for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
            yield from holes(value, f"{path}.{key}" if path else str(key))
