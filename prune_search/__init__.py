"""Search over neural network pruning paradigms.

    >>> import prune_search
    >>> result = prune_search.run("lottery-ticket", set={"rounds": 3})

To find and apply masks in your own training loop:

    >>> mask = prune_search.find_mask(model, criterion="snip", sparsity=0.9, batches=[(x, y)])

Everything here is imported on first use, so ``import prune_search`` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from prune_search.version import __version__

if TYPE_CHECKING:
    from prune_search.api.compare import compare
    from prune_search.api.export import Export, ExportOptions, export, export_pareto
    from prune_search.api.load import Loaded, load
    from prune_search.api.outcome import Outcome
    from prune_search.api.plan import PlannedSearch, plan
    from prune_search.api.run import Verified, run, verify
    from prune_search.api.search import Options, launch, resume
    from prune_search.api.where import Where
    from prune_search.library.blocks import prune_blocks
    from prune_search.library.dynamics import Dynamics
    from prune_search.library.figures import layer_costs, layer_densities, sparsity_at
    from prune_search.library.groups import group_scores
    from prune_search.library.masks import find_mask, mask_from_scores, next_level, score
    from prune_search.library.penalties import GrowingPenalty, MaskHook
    from prune_search.pruning.mask.mask_set import MaskSet, ScoreError
    from prune_search.recipe.problems import Problem, UserError
    from prune_search.tasks.task import Task
    from prune_search.trial.errors import TrialError

_NAMES = {
    "prune_search.api.run": ("Verified", "Where", "run", "verify"),
    "prune_search.api.compare": ("compare",),
    "prune_search.api.export": ("Export", "ExportOptions", "export", "export_pareto"),
    "prune_search.api.load": ("Loaded", "load"),
    "prune_search.api.plan": ("PlannedSearch", "plan"),
    "prune_search.library.masks": ("find_mask", "mask_from_scores", "next_level", "score"),
    "prune_search.library.figures": ("layer_costs", "layer_densities", "sparsity_at"),
    "prune_search.library.groups": ("group_scores",),
    "prune_search.pruning.mask.mask_set": ("MaskSet", "ScoreError"),
    "prune_search.library.blocks": ("prune_blocks",),
    "prune_search.library.dynamics": ("Dynamics",),
    "prune_search.library.penalties": ("GrowingPenalty", "MaskHook"),
    "prune_search.recipe.problems": ("Problem", "UserError"),
    "prune_search.api.search": ("Options", "Outcome", "launch", "resume"),
    "prune_search.tasks.task": ("Task",),
    "prune_search.trial.errors": ("TrialError",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = [
    "Dynamics",
    "Export",
    "ExportOptions",
    "GrowingPenalty",
    "Loaded",
    "MaskHook",
    "MaskSet",
    "Options",
    "Outcome",
    "PlannedSearch",
    "Problem",
    "ScoreError",
    "Task",
    "TrialError",
    "UserError",
    "Verified",
    "Where",
    "__version__",
    "compare",
    "export",
    "export_pareto",
    "find_mask",
    "group_scores",
    "launch",
    "layer_costs",
    "layer_densities",
    "load",
    "mask_from_scores",
    "next_level",
    "plan",
    "prune_blocks",
    "resume",
    "run",
    "score",
    "sparsity_at",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
