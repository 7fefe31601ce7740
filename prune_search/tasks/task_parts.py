"""The loss and the metrics of a `Task`, by name or as functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Set
from typing import Any

from prune_search.recipe import axes
from prune_search.recipe.fields import Value, canonical
from prune_search.recipe.named import Named
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.tasks.shapes import squeezed
from prune_search.tasks.tallies import FromLibrary, Tally, users_function
from prune_search.tasks.task import Task


def loss_named(given: object) -> Named | None:
    """The registered loss of ``Task.loss``; None where it is a function or not given.

    Raises:
        UserError: there is none of that name, or its options are wrong.
    """
    if given is None or callable(given):
        return None
    return Named.of(axes.LOSSES, canonical(Value(axes.LOSSES), given, "loss"))


def named_metrics(task: Task) -> dict[str, Any]:
    """The metrics of a task as they were given, by name."""
    given: Any = task.metrics
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    if _is_collection(given):
        return dict(given.items())
    if isinstance(given, str):
        return {given: given}
    # A set has no first one, and the first one is the main metric.
    if not isinstance(given, Collection) or isinstance(given, bytes | Set):
        text = f"must be a mapping from names to metrics, or a list of names (got {shown(given)})"
        raise UserError([Problem("metrics", text)])
    return {name: name for name in given}


def _is_collection(given: Any) -> bool:
    """Whether it is a collection of torchmetrics: metrics by name, and a module itself."""
    return _is_library_metric(given) and hasattr(given, "items")


def metrics_of(task: Task, target: str, classes: int) -> dict[str, tuple[Callable[[], Tally], str]]:
    """Per metric of a task what makes its tally, and which way is better.

    Raises:
        UserError: a name is not registered, or a value can be no metric.
    """
    found: dict[str, tuple[Callable[[], Tally], str]] = {}
    problems: list[Problem] = []
    for name, given in named_metrics(task).items():
        path = f"metrics.{name}"
        if (
            not isinstance(name, str)
            or not name
            or any(char.isspace() or char in "/<>=" for char in name)
            or name == "loss"
        ):
            problems.append(
                Problem(
                    "metrics",
                    f"{shown(name)} cannot be the name of a metric: use a word without / < > = (loss is taken)",
                )
            )
        elif isinstance(given, str | Mapping):
            try:
                named = Named.of(axes.TASK_METRICS, canonical(Value(axes.TASK_METRICS), given, path))
            except UserError as error:
                problems += error.problems
                continue
            entry = named.entry(axes.TASK_METRICS)
            make: Callable[[], Any] = functools.partial(entry.make, target, classes, **named.options)
            found[name] = make, entry.facts.best
        elif _is_library_metric(given):
            found[name] = (
                functools.partial(_copied, given),
                _best_of(given),
            )
        elif callable(given) and _takes_nothing(given):
            found[name] = functools.partial(_made_by, given), _best_of_made(given)
        elif callable(given):
            found[name] = functools.partial(users_function, given), _best_of(given)
        else:
            problems.append(
                Problem(
                    path,
                    f"must be a name, a factory of a torchmetrics.Metric or f(outputs, batch) (got {shown(given)})",
                )
            )
    if problems:
        raise UserError(problems)
    return found


def _copied(metric: Any) -> FromLibrary:
    return FromLibrary(lambda scores, targets: metric.clone(), squeezed)


def _is_library_metric(given: Any) -> bool:
    return (
        hasattr(given, "update")
        and hasattr(given, "compute")
        and hasattr(given, "clone")
        and not isinstance(given, type)
    )


def _takes_nothing(given: Callable[..., Any]) -> bool:
    if isinstance(given, type):
        return True
    try:
        parameters = inspect.signature(given).parameters.values()
    except (TypeError, ValueError):
        return False
    return not any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)


def _made_by(factory: Callable[[], Any]) -> FromLibrary:
    return FromLibrary(lambda scores, targets: factory(), squeezed)


def _best_of_made(factory: Callable[[], Any]) -> str:
    """Which way what a factory makes is better; one that fails is told when it is tried on a batch."""
    try:
        return _best_of(factory())
    except Exception:  # noqa: BLE001 - whatever a factory raises
        return _best_of(factory)


def _best_of(given: Any) -> str:
    """Which way is better, as the metric says it; a function that does not say it is better the larger it is."""
    higher = getattr(given, "higher_is_better", None)
    return "minimize" if higher is False else "maximize"
