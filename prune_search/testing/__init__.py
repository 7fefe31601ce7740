"""Checks for the authors of plug-ins: the same that this project's own tests run over its entries.

Each ``check_…`` takes an entry's name and the options to check it with, and raises an AssertionError with a plain
sentence where something does not hold. `check_every_entry` finds what a module registers. They need no pytest.
"""

from prune_search.testing.criteria import check_criterion
from prune_search.testing.entries import check_entry
from prune_search.testing.every import CHECKS, check_every_entry
from prune_search.testing.masks import (
    check_control,
    check_granularity,
    check_normalization,
    check_path,
    check_scope,
    check_stability,
)
from prune_search.testing.searching import (
    check_picture,
    check_preset,
    check_sampler,
    check_scheduler,
    check_surface,
)
from prune_search.testing.training import (
    check_augmentation,
    check_data_set,
    check_initializer,
    check_loss,
    check_metric,
    check_model,
    check_optimizer,
    check_schedule,
    check_task_metric,
)
from prune_search.testing.trials import check_dynamics, check_transform

__all__ = [
    "CHECKS",
    "check_augmentation",
    "check_control",
    "check_criterion",
    "check_data_set",
    "check_dynamics",
    "check_entry",
    "check_every_entry",
    "check_granularity",
    "check_initializer",
    "check_loss",
    "check_metric",
    "check_model",
    "check_normalization",
    "check_optimizer",
    "check_path",
    "check_picture",
    "check_preset",
    "check_sampler",
    "check_schedule",
    "check_scheduler",
    "check_scope",
    "check_stability",
    "check_surface",
    "check_task_metric",
    "check_transform",
]
