"""Search over neural network pruning paradigms.

    >>> import prune_search
    >>> result = prune_search.run("lottery-ticket", set={"rounds": 3})

Everything here is imported when it is first used, so that ``import prune_search`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prune_search.api import Verified, Where, run, verify
    from prune_search.exports import Loaded, export, load
    from prune_search.plans import PlannedSearch, plan
    from prune_search.recipe.problems import Problem, UserError
    from prune_search.searches import Options, Outcome, compare, launch, resume
    from prune_search.trial.errors import TrialError

_NAMES = {
    "prune_search.api": ("Verified", "Where", "run", "verify"),
    "prune_search.exports": ("Loaded", "export", "load"),
    "prune_search.plans": ("PlannedSearch", "plan"),
    "prune_search.recipe.problems": ("Problem", "UserError"),
    "prune_search.searches": ("Options", "Outcome", "compare", "launch", "resume"),
    "prune_search.trial.errors": ("TrialError",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__version__ = "0.1.0"
__all__ = [
    "Loaded",
    "Options",
    "Outcome",
    "PlannedSearch",
    "Problem",
    "TrialError",
    "UserError",
    "Verified",
    "Where",
    "__version__",
    "compare",
    "export",
    "launch",
    "load",
    "plan",
    "resume",
    "run",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
