"""The progress of a trial's current attempt: the only record that is overwritten. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Progress:
    """How far an attempt is. Steps are iterations.

    Attributes:
        trained: every step executed.
        replayed: those of them that lead to a state before one that was known.
        repeated: those of them that somebody else trained at the same time.
        stored: how many were trained when the last state was stored.
        shared: how many were trained when the last state that others can ask for was stored.
        reached: by place on the branch (see `trial.addresses.Vertex`): the furthest step whose state is there.
        lacking: what it waits for: (address, step) of a segment that somebody else trains; None otherwise.
        oom: whether it ended because its share of a device had too little memory; the next one has a device alone.
    """

    trained: int = 0
    replayed: int = 0
    repeated: int = 0
    stored: int = 0
    shared: int = 0
    reached: Mapping[str, int] = field(default_factory=dict)
    lacking: tuple[str, int] | None = None
    oom: bool = False

    @property
    def put_off(self) -> bool:
        """Whether the attempt gave its place up, and the trial waits for another one."""
        return self.oom or self.lacking is not None


def progress_of(data: Mapping[str, Any]) -> Progress:
    """A progress from plain data.

    Raises:
        KeyError, TypeError, ValueError, AttributeError or IndexError: it is none.
    """
    reached = {str(place): int(step) for place, step in data["reached"].items()}
    lacking = None if data["lacking"] is None else (str(data["lacking"][0]), int(data["lacking"][1]))
    counts = {key: int(data[key]) for key in ("trained", "replayed", "repeated", "stored", "shared")}
    # A file of before this was written down has no such word.
    return Progress(**counts, reached=reached, lacking=lacking, oom=data.get("oom") is True)
