"""Says at which points paused trials wait. No torch."""

from __future__ import annotations

from collections import Counter

from prune_search.ledger.records import SearchRecords, TrialRecords


def where_paused(trial: TrialRecords) -> str:
    """Where a trial rests: ``at 20%`` or ``at step 40`` of its last retraining, or ``after round 3``.

    Steps count from where the asked sparsity is reached.

    Returns:
        Empty where the trial is not paused.
    """
    paused = trial.paused
    if paused is None:
        return ""
    if paused["step"] is None:
        return f"after round {paused['round']}"
    share = paused.get("share")
    return f"at {share}" if share is not None else f"at step {paused['step']}"


def paused_counts(search: SearchRecords) -> dict[str, int]:
    """How many trials that count rest where (`where_paused`); repeated recipes are left out, as in all counts."""
    paused = (where_paused(trial) for trial in search.numbered() if trial.status == "paused")
    return dict(sorted(Counter(paused).items()))
