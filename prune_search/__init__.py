"""Search over neural network pruning paradigms.

    >>> import prune_search
    >>> result = prune_search.run("lottery-ticket", set={"rounds": 3})

or, with a training loop of your own, find masks and hold them:

    >>> mask = prune_search.find_mask(model, criterion="snip", sparsity=0.9, batches=[(x, y)])

Everything here is imported when it is first used, so that ``import prune_search`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prune_search.api import Verified, Where, run, verify
    from prune_search.comparing import compare
    from prune_search.exports import Export, ExportOptions, Loaded, export, export_pareto, load
    from prune_search.plans import PlannedSearch, plan
    from prune_search.pruning.library import find_mask, next_level, score
    from prune_search.pruning.library_figures import layer_costs, layer_densities, sparsity_at
    from prune_search.pruning.library_groups import group_scores
    from prune_search.pruning.masks import MaskSet, ScoreError
    from prune_search.pruning.moving import Dynamics
    from prune_search.pruning.stepping import GrowingPenalty, MaskHook
    from prune_search.recipe.problems import Problem, UserError
    from prune_search.searches import Options, Outcome, launch, resume
    from prune_search.trial.errors import TrialError

_NAMES = {
    "prune_search.api": ("Verified", "Where", "run", "verify"),
    "prune_search.comparing": ("compare",),
    "prune_search.exports": ("Export", "ExportOptions", "Loaded", "export", "export_pareto", "load"),
    "prune_search.plans": ("PlannedSearch", "plan"),
    "prune_search.pruning.library": ("find_mask", "next_level", "score"),
    "prune_search.pruning.library_figures": ("layer_costs", "layer_densities", "sparsity_at"),
    "prune_search.pruning.library_groups": ("group_scores",),
    "prune_search.pruning.masks": ("MaskSet", "ScoreError"),
    "prune_search.pruning.moving": ("Dynamics",),
    "prune_search.pruning.stepping": ("GrowingPenalty", "MaskHook"),
    "prune_search.recipe.problems": ("Problem", "UserError"),
    "prune_search.searches": ("Options", "Outcome", "launch", "resume"),
    "prune_search.trial.errors": ("TrialError",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__version__ = "0.1.0"
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
    "next_level",
    "plan",
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
