"""Checks everything that a module registers, each entry by the checks of its axis."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from prune_search.recipe import axes
from prune_search.recipe.registry import AnyEntry
from prune_search.testing import criteria, masks, searching, training, trials

# By axis: the check that is called with an entry's name.
CHECKS: Mapping[str, Callable[..., None]] = {
    axes.DATASETS.name: training.check_data_set,
    axes.MODELS.name: training.check_model,
    axes.METRICS.name: training.check_metric,
    axes.TASK_METRICS.name: training.check_task_metric,
    axes.INITS.name: training.check_initializer,
    axes.OPTIMIZERS.name: training.check_optimizer,
    axes.SCHEDULES.name: training.check_schedule,
    axes.AUGMENTATIONS.name: training.check_augmentation,
    axes.LOSSES.name: training.check_loss,
    axes.CRITERIA.name: criteria.check_criterion,
    axes.NORMALIZATIONS.name: masks.check_normalization,
    axes.PATHS.name: masks.check_path,
    axes.GRANULARITIES.name: masks.check_granularity,
    axes.SCOPES.name: masks.check_scope,
    axes.CONTROLS.name: masks.check_control,
    axes.STABILITIES.name: masks.check_stability,
    axes.TRANSFORMS.name: trials.check_transform,
    axes.DYNAMICS.name: trials.check_dynamics,
    axes.SAMPLERS.name: searching.check_sampler,
    axes.SCHEDULERS.name: searching.check_scheduler,
    axes.SURFACES.name: searching.check_surface,
    axes.PICTURES.name: searching.check_picture,
    axes.PRESETS.name: searching.check_preset,
}


def entries_of(module: str | ModuleType) -> list[AnyEntry]:
    """What a module, or a package with its modules, has registered.

    Args:
        module: the name of one that can be imported, or the module.
    """
    found = importlib.import_module(module) if isinstance(module, str) else module
    home = found.__name__
    return [entry for axis in axes.AXES for entry in axis.values() if f"{_home(entry.make)}.".startswith(f"{home}.")]


def _home(make: Any) -> str:
    return str(getattr(getattr(make, "func", make), "__module__", ""))


def check_every_entry(
    module: str | ModuleType,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    told: Callable[[str], object] = str,
) -> list[str]:
    """Check all that a module registers, each with the check of its axis.

    Args:
        module: the name of one that can be imported, or the module; of a package also its modules.
        options: by an entry's name, what its check is called with besides.
        told: called with a line for each entry that passes.

    Returns:
        What was checked, such as ``criterion 'distance'``.

    Raises:
        AssertionError: it registers nothing, or with a line for each entry of which something does not hold.

    Example:
        >>> from prune_search.testing import check_every_entry
        >>> check_every_entry("my_criterion")
        ["criterion 'distance'"]
    """
    checked, wrong = [], []
    for entry in entries_of(module):
        label = f"{entry.axis} {entry.name!r}"
        try:
            CHECKS[entry.axis](entry.name, **(options or {}).get(entry.name, {}))
        except AssertionError as error:
            wrong.append(str(error))
        else:
            told(label)
        checked.append(label)
    if not checked:
        raise AssertionError(f"{module if isinstance(module, str) else module.__name__} registers nothing")
    if wrong:
        raise AssertionError("\n".join(wrong))
    return checked
