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
    from prune_search.recipe.problems import Problem, UserError
    from prune_search.trial.errors import TrialError

_HOMES = {
    "Problem": "prune_search.recipe.problems",
    "TrialError": "prune_search.trial.errors",
    "UserError": "prune_search.recipe.problems",
    "Verified": "prune_search.api",
    "Where": "prune_search.api",
    "run": "prune_search.api",
    "verify": "prune_search.api",
}

__version__ = "0.1.0"
__all__ = ["Problem", "TrialError", "UserError", "Verified", "Where", "__version__", "run", "verify"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
