"""What of a run is still to be sent."""

from __future__ import annotations

from prune_search.tracking.run_content import (
    Content,
    DataSet,
    MetricValue,
    RunView,
    Sent,
    Times,
    batches,
    digest,
    digests,
    remaining,
)

CONTENT = Content(
    params={"mask.at": "0", "seed": "1"},
    tags={"state": "running", "note": "hello"},
    points=(MetricValue("loss", 1, 0.5, 10), MetricValue("loss", 2, 0.4, 20), MetricValue("accuracy", 1, 0.9, 10)),
    artifacts={"recipe.yaml": "mask: x"},
    data=(DataSet("digits", "d1"),),
)
VIEW = RunView("000001", "snip", "FINISHED", Times(0, 30), CONTENT)
ALL = Sent(
    run_id="r",
    status="FINISHED",
    params={"mask.at", "seed"},
    tags=digests(CONTENT.tags),
    steps={"loss": {1, 2}, "accuracy": {1}},
    artifacts=digests(CONTENT.artifacts),
    data={"d1"},
)


def test_of_a_new_run_everything_waits_and_of_a_whole_one_nothing() -> None:
    rest = remaining(VIEW, Sent())
    assert (rest.create, rest.status, rest.content) == (True, True, CONTENT)
    assert rest.operations == 2 + 2 + 2 + 3 + 1 + 1
    assert remaining(VIEW, ALL).operations == 0


def test_a_run_is_born_running() -> None:
    running = RunView("000001", "snip", "RUNNING", Times(0, None), Content())
    assert remaining(running, Sent()).status is False
    assert remaining(running, Sent(run_id="r", status="FINISHED")).status is True


def test_only_what_is_missing_or_has_changed_waits() -> None:
    sent = Sent(**{**vars(ALL), "tags": {**ALL.tags, "note": digest("other")}, "steps": {"loss": {1}, "accuracy": {1}}})
    rest = remaining(VIEW, sent)
    assert rest.content == Content(tags={"note": "hello"}, points=(CONTENT.points[1],))
    assert (rest.create, rest.status, rest.operations) == (False, False, 2)


def test_a_run_that_a_user_deleted_is_left_alone() -> None:
    assert remaining(VIEW, Sent(gone=True)).operations == 0


def test_parts_are_no_larger_than_one_call_takes_and_lose_nothing() -> None:
    points = tuple(MetricValue("loss", step, 0.1, step) for step in range(1201))
    content = Content({f"p{number}": "1" for number in range(100)}, {"t": "1"}, points, {"a": "b"})
    parts = list(batches(content))
    assert [len(part.points) for part in parts] == [500, 500, 201]
    assert [len(part.params) for part in parts] == [90, 10, 0]
    assert sum((part.points for part in parts), ()) == points
    assert all(not part.artifacts for part in parts)
    assert list(batches(Content(artifacts={"a": "b"}))) == []
