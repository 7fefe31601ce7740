"""The task itself: what is left out has a value that people mean."""

from __future__ import annotations

import prune_search
from prune_search.tasks.task import HELD_OUT, WHOLE, Task, Whole, shown_name


def test_a_tenth_is_held_out_and_nothing_else_is_chosen() -> None:
    task = Task()
    assert prune_search.Task is Task
    assert task.validation == HELD_OUT == 0.1
    assert (task.workers, task.test, task.loss, task.metrics, task.name) == (0, None, None, None, "")


def test_a_task_that_is_there_is_given_by_a_function_too() -> None:
    task = Task()
    assert Whole(task)() is task


def test_a_task_that_nobody_named_has_no_name_in_messages() -> None:
    assert shown_name(Task(), WHOLE) == ""
    assert shown_name(Task(), "houses:task") == "houses:task"
    assert shown_name(Task(name="prices"), WHOLE) == "prices"
