"""Modules for the models, where torch has none. Imported only when a model is built."""

from __future__ import annotations
