"""The error with which a trial fails."""

from __future__ import annotations


class TrialError(Exception):
    """A trial failed and a retry would not help (exit code 3).

    Attributes:
        kind: ``nan``, ``oom`` or ``score``.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[TrialError], tuple[str, str]]:
        return (TrialError, (self.kind, str(self)))
