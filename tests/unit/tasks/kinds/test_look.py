"""What images look like to a network, as a recipe says it."""

from __future__ import annotations

from prune_search.tasks.kinds.look import Look


def test_all_that_is_wrong_is_told_at_once() -> None:
    told = [str(problem) for problem in Look(32, 16, mean=(0.5, 0.5), std=(0.5,)).problems()]
    assert told == [
        "task.data.mean: mean and std need 3 figures each, or 1 for grey images (got 2 and 1)",
        "task.data.resize: must be at least size, 32 (got 16)",
    ]


def test_grey_images_have_one_channel() -> None:
    look = Look(8, 8, mean=(0.5,), std=(0.5,))
    assert (look.channels, look.problems(), Look(8, 8).channels) == (1, [], 3)
