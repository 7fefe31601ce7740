"""Modules that the models are built of, where torch's own do not do. Imported only when a model is built."""

from __future__ import annotations
