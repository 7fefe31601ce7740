"""How the structure of a batch or an example is written in messages: its parts, their shapes and unusual types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LONGEST = 160
# Types of numbers that go without saying.
USUAL = ("float32", "int64")


def batch_form(batch: Any) -> str:
    """The form of a batch with the types of its numbers, for a message."""
    return shortened(form(batch, types=True))


def shortened(text: str) -> str:
    """A form in at most 160 characters."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def form(example: Any, types: bool = False) -> str:
    """The structure of an example with the shapes in it, as text; also with unusual types of numbers where asked."""
    if isinstance(example, Mapping):
        return "{" + ", ".join(f"{key}: {form(part, types)}" for key, part in example.items()) + "}"
    if isinstance(example, tuple | list):
        return "(" + ", ".join(form(part, types) for part in example) + ")"
    shape = getattr(example, "shape", None)
    if shape is None:
        return type(example).__name__
    dtype = str(getattr(example, "dtype", "")).removeprefix("torch.") if types else ""
    return f"{list(shape)}" if dtype in USUAL else f"{list(shape)} {dtype}".rstrip()
