"""Tasks: data sets, models, the user's own of both, and metrics."""

from __future__ import annotations
