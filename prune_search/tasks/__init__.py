"""What is trained: data sets, models, the user's own of both, and what is measured."""

from __future__ import annotations
