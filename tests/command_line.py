"""The command line, as tests type it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Said:
    """What a command came to.

    Attributes:
        code: exit code.
        out: standard output.
        err: standard error.
    """

    code: int
    out: str
    err: str


Typed = Callable[..., Said]


def the_object(out: str) -> dict[str, Any]:
    """Exactly one JSON object, on one line, and nothing else."""
    assert out.count("\n") == 1
    data = json.loads(out)
    assert isinstance(data, dict)
    return data
