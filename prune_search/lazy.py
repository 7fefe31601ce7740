"""Imports torch and numpy lazily, in one place.

Files that register values of an axis are imported by ``--help``, ``methods`` and ``validate``, which must not pay for
them. They write::

    if TYPE_CHECKING:
        import torch
    else:
        from prune_search.lazy import torch

and a module is imported when the first of its attributes is used.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class LazyModule(ModuleType):
    """A module that is imported at the first use of one of its attributes."""

    def __getattr__(self, attribute: str) -> Any:
        module = importlib.import_module(self.__name__)
        value = getattr(module, attribute)
        self.__dict__[attribute] = value
        return value


torch = LazyModule("torch")
numpy = LazyModule("numpy")
