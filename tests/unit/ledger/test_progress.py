"""The progress of an attempt, as its file has it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from prune_search.ledger.progress import Progress, progress_of


@pytest.mark.parametrize(
    "progress", [Progress(), Progress(9, 1, 2, 8, 7, {"train": 5}), Progress(lacking=("ab", 4)), Progress(oom=True)]
)
def test_it_is_read_as_it_was_written(progress: Progress) -> None:
    assert progress_of(json.loads(json.dumps(vars(progress)))) == progress


def test_a_file_of_before_memory_was_written_down_is_read_too() -> None:
    data = {key: value for key, value in vars(Progress(3)).items() if key != "oom"}
    assert progress_of(data) == Progress(3)


@pytest.mark.parametrize(
    "wrong", [{"trained": "x"}, {"reached": [1]}, {"reached": None}, {"lacking": []}, {"lacking": 3}]
)
def test_what_is_no_progress_raises_what_its_readers_expect(wrong: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError, IndexError)):
        progress_of({**vars(Progress()), **wrong})
    with pytest.raises(KeyError):
        progress_of({})


def test_an_attempt_that_waits_for_others_or_for_memory_gave_its_place_up() -> None:
    assert [one.put_off for one in (Progress(5), Progress(lacking=("ab", 0)), Progress(oom=True))] == [
        False,
        True,
        True,
    ]
