"""What the built-in kinds of data and models are made of; nothing here is imported before a recipe names one."""

from __future__ import annotations
