"""Each hook is given what it said itself, and is told then."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prune_search.tasks.data import Split
from prune_search.training.course_tensors import hook_tensors, load_course
from prune_search.training.loop import Course, Feed, Hook


def test_hooks_get_back_what_they_said_and_start_when_all_have_it() -> None:
    told: list[tuple[str, object]] = []

    def hook(name: str, number: int) -> Hook:
        def load(state: Mapping[str, Tensor]) -> None:
            told.append((name, int(state["number"])))

        said = torch.tensor(number)
        return Hook(name, at_start=lambda: told.append((name, "starts")), state=lambda: {"number": said}, load=load)

    hooks = [hook("one", 1), hook("two", 2), Hook("silent")]
    tensors = hook_tensors(hooks)
    assert {name: int(tensor) for name, tensor in tensors.items()} == {"hook/one/number": 1, "hook/two/number": 2}
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    feed = Feed(Split(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)), 2, 0)
    load_course(Course(optimizer, feed, 0, lambda step: 0.1, hooks), {}, tensors)
    assert told == [("one", 1), ("two", 2), ("one", "starts"), ("two", "starts")]
