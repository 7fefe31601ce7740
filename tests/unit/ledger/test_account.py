"""The account: every executed step once, over all attempts of a trial."""

from __future__ import annotations

from typing import Any

from prune_search.ledger.account import Account, account_of, total
from prune_search.ledger.progress import Progress
from prune_search.ledger.records import Record, TrialRecords


def trial(*attempts: Progress, twin: str | None = None, **ended: Any) -> TrialRecords:
    """A trial with the progress of its attempts; it ended in the last where `ended` says how."""

    def record(kind: Any, attempt: int, data: dict[str, Any]) -> Record:
        return Record("000001", kind, attempt, 0, 0.0, data)

    return TrialRecords(
        "000001",
        record("proposed", 1, {"duplicate_of": twin}),
        [record("started", attempt, {}) for attempt in range(1, len(attempts) + 1)],
        ended=record("ended", len(attempts), ended) if ended else None,
        progress=dict(enumerate(attempts, 1)),
    )


def test_a_trial_in_one_attempt_tells_what_its_last_record_says() -> None:
    one = trial(Progress(50, replayed=5), status="completed", steps_trained=60, steps_saved=40)
    assert account_of(one) == Account(trained=60, saved=40, replayed=5)


def test_what_a_killed_worker_had_not_stored_is_trained_twice_and_its_own_states_are_not_saved() -> None:
    one = trial(Progress(30, stored=20), Progress(80, stored=80), status="completed", steps_trained=80, steps_saved=25)
    assert account_of(one) == Account(trained=110, saved=5, repeated=10)


def test_a_trial_that_came_to_nothing_abandons_what_nobody_else_can_use() -> None:
    for status in ("stopped", "failed"):
        one = trial(Progress(50, shared=20), status=status, steps_trained=50, steps_saved=0)
        assert account_of(one) == Account(trained=50, abandoned=30)


def test_a_running_trial_counts_so_far_and_one_that_has_not_begun_nothing() -> None:
    assert account_of(trial(Progress(7, replayed=2, repeated=1))) == Account(7, 0, 2, 1)
    assert account_of(trial()) == Account()


def test_a_repeated_recipe_trains_nothing_and_the_total_is_the_sum() -> None:
    twin = trial(Progress(), twin="000002", status="completed", steps_trained=0, steps_saved=100)
    assert account_of(twin) == Account(saved=100)
    both = total([twin, trial(Progress(7))])
    assert both.as_data() == {
        **{"steps_trained": 7, "steps_saved": 100, "steps_replayed": 0, "steps_repeated": 0, "steps_abandoned": 0}
    }
