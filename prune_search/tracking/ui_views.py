"""Links to MLflow's runs page for each search: its trials, best first, with the relevant columns and charts.

MLflow's page opens with no metric, no param, and the trials folded away under their search. It keeps shared views as
tags of the experiment, and an address may name one; where another version of MLflow does not know it, the page opens
as it always does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prune_search.ledger.ranking import Goals
from prune_search.recipe.holes import is_hole
from prune_search.tracking.leaderboard import directions
from prune_search.tracking.names import allowed

PREFIX = "mlflow.sharedViewState."
# Stands for the experiment's number in a text, until it is known.
EXPERIMENT = "{experiment}"
# And this for the number of the search's run.
RUN = "{run}"
SEARCH = "search"
# The view of all searches of a task, beside one for each search.
SEARCHES = "searches"
# Ends the name of the view that charts a search.
CHARTS = "-charts"
# A draw between the options of `any` decides the paradigm, and is called so where people read.
ANY, PARADIGM = "any", "paradigm"
MAX_PARAMS = 8
# With more curves than that the page is slow.
MAX_CURVES = 50
# In points; a name such as 012-learning-rate-rewinding-s0.90 is to be read whole.
NAME_COLUMN, NAME_WIDTH, WIDTH = "attributes.`Run Name`", 290, 120
TAG_WIDTHS = {"tags.`status`": 100, "tags.`front`": 100, "tags.`paradigm`": 180}

Options = Sequence[Mapping[str, Any]]


def search_tags(definition: Mapping[str, Any], weights: Mapping[str, float] | None = None) -> dict[str, str]:
    """The tags of the experiment that hold the views of a search: its table, and its charts without controls.

    Args:
        definition: of the search.
        weights: how much each hole mattered, by its dotted path, as far as that is known; the charts show those first
            that mattered most.
    """
    identity, space = definition["id"], definition["space"]
    goals = Goals.of(space["search"])
    metrics = [f"best/{name}" for name in directions(goals)]
    params = [allowed(called(path)) for path in hole_paths(space["options"])][:MAX_PARAMS]
    figures = _columns("metrics", [*metrics, "steps_trained", "steps_saved"])
    # The option of `any` that was drawn stands there as a param, under the same name.
    tags = ["status", "front", *([] if called(ANY) in params else ["paradigm"])]
    drawn, told = _columns("params", params), _columns("tags", tags)
    mine = f"tags.`search.id` = '{identity}' and tags.`trial.id` != ''"
    looks = {
        "runsHiddenMode": "SHOW_ALL" if space["search"]["trials"] <= MAX_CURVES else "FIRST_20_RUNS",
        "compareRunSections": [{"uuid": "search", "name": "Search", "display": True, "isReordered": True}],
        "compareRunCharts": [
            _scatter(goals),
            _parallel(goals, space["options"], weights or {}),
            _curves(goals.objectives[0][1]),
        ],
    }
    # Among the points of a chart, a dense network stretches the axis of sparsity from nothing to all.
    trials = f"{mine} and tags.`kind` = 'trial'"
    return {
        f"{PREFIX}{identity}": json.dumps({**_view(mine, goals, figures, told, drawn), **looks}),
        f"{PREFIX}{identity}{CHARTS}": json.dumps({**_view(trials, goals, figures, told, drawn), **looks}),
    }


def searches_tag(definition: Mapping[str, Any]) -> dict[str, str]:
    """The tag of the experiment that holds the view of all its searches, by what the latest of them looks for."""
    goals = Goals.of(definition["space"]["search"])
    best = [f"best/{name}" for _, name in goals.objectives]
    figures = _columns("metrics", [*best, "completed", "steps_trained", "steps_saved"])
    asked = [f"search.{key}" for key in ("sampler", "scheduler", "objectives", "constraints", "trials", "seed")]
    drawn, told = _columns("params", asked), _columns("tags", ["status"])
    view = {
        **_view(f"tags.`kind` = '{SEARCH}'", goals, figures, told, drawn),
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": [{"uuid": "search", "name": "Searches", "display": True, "isReordered": True}],
        "compareRunCharts": [_curves(name, place) for place, name in enumerate([*best, "steps_trained"])],
    }
    return {f"{PREFIX}{SEARCHES}": json.dumps(view)}


def _view(wanted: str, goals: Goals, figures: list[str], told: list[str], drawn: list[str]) -> dict[str, Any]:
    """What the views of trials and of searches share: which runs, in which order, with which columns."""
    return {
        "searchFilter": wanted,
        "orderByKey": figures[0],
        "orderByAsc": goals.directions[0] == "minimize",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": [*figures, *drawn, *told],
        # MLflow puts the columns in the order of their names, and gives them all the width of a number.
        "columnOrder": [NAME_COLUMN, *figures, *told, *drawn],
        "columnWidths": {NAME_COLUMN: NAME_WIDTH, **dict.fromkeys((*figures, *drawn), WIDTH), **TAG_WIDTHS},
        "isAccordionReordered": True,
    }


def _columns(kind: str, names: list[str]) -> list[str]:
    return [f"{kind}.`{name}`" for name in names]


def _chart(kind: str, number: int = 0, **options: Any) -> dict[str, Any]:
    place = {
        "uuid": f"{kind.lower()}{number or ''}",
        "metricSectionId": "search",
        "deleted": False,
        "isGenerated": False,
    }
    return {"type": kind, **place, "runsCountToCompare": 100, **options}


def _scatter(goals: Goals) -> dict[str, Any]:
    """The trials by their first two objectives; by steps and objective where there is one."""
    names = [f"best/{name}" for _, name in goals.objectives]
    across = names[1] if len(names) > 1 else "steps_trained"

    def axis(name: str) -> dict[str, str]:
        return {"key": name, "type": "METRIC", "dataAccessKey": name}

    return _chart("SCATTER", xaxis=axis(across), yaxis=axis(names[0]))


def _parallel(goals: Goals, options: Options, weights: Mapping[str, float]) -> dict[str, Any]:
    """Parallel coordinates over two params that every trial has, and two objectives: more axes cannot be read."""
    common = [path for path in hole_paths(options) if path == ANY or all(path in _paths(one) for one in options)]
    common.sort(key=lambda path: -weights.get(path, 0.0))
    logarithmic = {path for one in options for path, hole in holes(one, "") if is_logarithmic(hole)}
    params = [allowed(f"log10 {path}" if path in logarithmic else called(path)) for path in common[:2]]
    metrics = [f"best/{name}" for _, name in goals.objectives[:2]]
    return _chart("PARALLEL", selectedParams=params, selectedMetrics=metrics[::-1], showAllRuns=False)


def _curves(name: str, number: int = 0) -> dict[str, Any]:
    """The course of a metric, a curve per run."""
    look = {"xAxisKey": "step", "yAxisKey": "metric", "scaleType": "linear", "xAxisScaleType": "linear"}
    return _chart(
        "LINE", number, metricKey=name, selectedMetricKeys=[name], yAxisExpressions=[], lineSmoothness=0, **look
    )


def table_link(search: str, charts: bool = False, experiment: str = EXPERIMENT) -> str:
    """Where MLflow's page shows that view, from the root of its address.

    Args:
        search: id of the search.
        charts: as charts instead of a table.
        experiment: MLflow's id of the experiment.
    """
    view = f"{search}{CHARTS}" if charts and search != SEARCHES else search
    link = f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={view}"
    return f"{link}&compareRunsMode=CHART" if charts else link


def searches_link(charts: bool = False, experiment: str = EXPERIMENT) -> str:
    """Where MLflow's page shows all searches of a task, from the root of its address.

    Args:
        charts: as charts instead of a table.
        experiment: MLflow's id of the experiment.
    """
    return table_link(SEARCHES, charts, experiment)


def called(path: str) -> str:
    """What MLflow's page calls a drawn value: the option of ``any`` the paradigm, a hole by its path."""
    return PARADIGM if path == ANY else path


def hole_paths(options: Options) -> list[str]:
    """Dotted paths of the holes of a space, as its params are called; ``any`` first where there are several options."""
    found = [ANY] if len(options) > 1 else []
    for option in options:
        found += _paths(option)
    return list(dict.fromkeys(found))


def _paths(option: Mapping[str, Any]) -> list[str]:
    return [path for path, _ in holes(option, "")]


def is_logarithmic(hole: Mapping[str, Any]) -> bool:
    """Whether a hole is drawn on a log scale."""
    return hole["hole"] == "loguniform" or hole.get("log") is True


def holes(node: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every hole at and below a node, with its path; those in the options of a choice too."""
    if path and is_hole(node):
        yield path, node
        for option in node.get("of", ()):
            yield from holes(option, path)
    elif isinstance(node, Mapping | list):
        for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
            yield from holes(value, f"{path}.{key}" if path else str(key))
