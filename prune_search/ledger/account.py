"""Counts what a search trained: every executed step appears exactly once. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from prune_search.ledger.progress import Progress
from prune_search.ledger.records import PAUSED, TrialRecords


@dataclass(frozen=True)
class Account:
    """Steps in iterations.

    Attributes:
        trained: every step executed, by whichever attempt, the following three included.
        saved: steps that a recipe asked for and that a stored state or result spared.
        replayed: trained to reach a step before a state that was known.
        repeated: trained twice: lost with a process that was killed, or trained by two at the same time.
        abandoned: trained by a trial that was stopped, failed or given up, after its last state that others can use.
    """

    trained: int = 0
    saved: int = 0
    replayed: int = 0
    repeated: int = 0
    abandoned: int = 0

    def __add__(self, other: Account) -> Account:
        return Account(*(mine + theirs for mine, theirs in zip(_figures(self), _figures(other), strict=True)))

    def as_data(self) -> dict[str, int]:
        """``steps_trained``, ``steps_saved`` … as ``--json`` has them."""
        return {f"steps_{name}": value for name, value in asdict(self).items()}


def _figures(account: Account) -> tuple[int, ...]:
    return account.trained, account.saved, account.replayed, account.repeated, account.abandoned


def account_of(trial: TrialRecords) -> Account:
    """The account of one trial, over all its attempts."""
    if trial.duplicate_of is not None:
        return Account(saved=int(trial.ended.data.get("steps_saved") or 0)) if trial.ended else Account()
    last = trial.ended.attempt if trial.ended is not None else max((a.attempt for a in trial.attempts), default=0)
    before = [progress for attempt, progress in trial.progress.items() if attempt != last]
    earlier = sum((_lost(progress) for progress in before), Account())
    now = trial.progress.get(last, Progress())
    if trial.ended is None:
        return earlier + Account(now.trained, 0, now.replayed, now.repeated)
    data = trial.ended.data
    # What an earlier attempt stored was trained by this very trial, and is not saved.
    own = sum(progress.stored - progress.replayed for progress in before)
    saved = max(0, int(data.get("steps_saved") or 0) - max(0, own))
    abandoned = 0 if data["status"] in ("completed", PAUSED) else max(0, now.trained - now.shared)
    trained = max(int(data.get("steps_trained") or 0), now.trained)
    return earlier + Account(trained, saved, now.replayed, now.repeated, abandoned)


def _lost(progress: Progress) -> Account:
    """An attempt whose process ended before its trial did: what it had not stored is trained again."""
    lost = max(0, progress.trained - progress.stored)
    return Account(progress.trained, 0, progress.replayed, progress.repeated + lost)


def total(trials: Iterable[TrialRecords]) -> Account:
    """The account of many trials."""
    return sum((account_of(trial) for trial in trials), Account())
