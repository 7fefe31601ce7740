"""The models, a registry entry each. Reading the list imports no torch."""

from __future__ import annotations
