"""Whom a trial tells how it goes: a record keeper, a progress bar, or nobody. It never waits for an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from prune_search.trial.result import RoundResult


class Sink(Protocol):
    """What a trial reports."""

    def started(self, key: str, total: int) -> None:
        """The trial begins; `total` steps are asked for, at most."""

    def stage(self, name: str, total: int) -> None:
        """A stretch of at most `total` steps begins to be trained."""

    def step(self, step: int, total: int, loss: Tensor) -> None:
        """A step of the stretch is done; `loss` is still on the device."""

    def round_done(self, result: RoundResult) -> None:
        """A round is done, retrained and measured."""


class Silent:
    """Tells nobody."""

    def started(self, key: str, total: int) -> None:
        """Nothing."""

    def stage(self, name: str, total: int) -> None:
        """Nothing."""

    def step(self, step: int, total: int, loss: Tensor) -> None:
        """Nothing."""

    def round_done(self, result: RoundResult) -> None:
        """Nothing."""
