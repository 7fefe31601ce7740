"""Tasks: data sets, models and metrics, registered ones and the user's own."""

from __future__ import annotations
