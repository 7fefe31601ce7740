"""Batches as loaders make them, in the functions that look at a network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prune_search import find_mask, score
from prune_search.library.task_batches import pair, takes_task_batches
from prune_search.tasks.batches import Inputs

A = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
B = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(8) % 3


class Two(nn.Module):
    """A network of two inputs, named a and b, that returns a mapping."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.of_a, self.of_b, self.head = nn.Linear(3, 8), nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(torch.relu(self.of_a(a) + self.of_b(b)))}


def gradients(model: Two) -> dict[str, Tensor]:
    nn.functional.cross_entropy(model(A, B)["logits"], LABELS).backward()  # type: ignore[no-untyped-call]
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None and p.dim() > 1}
    model.zero_grad()
    return found


def test_a_mapping_and_a_tuple_of_three_give_the_scores_of_a_call_by_hand() -> None:
    model = Two()
    wanted = {name: (g * model.get_parameter(name)).abs() for name, g in gradients(model).items()}
    for batch in ({"a": A, "b": B, "labels": LABELS, "unknown": A}, (A, B, LABELS), [A, B, LABELS]):
        found = score("snip", model, [batch])
        assert set(found) == set(wanted)
        for name, values in found.items():
            torch.testing.assert_close(values.abs(), wanted[name], rtol=1e-5, atol=1e-7)
    assert type(model) is Two


def test_a_function_of_the_iteration_may_give_such_batches_too() -> None:
    model = Two()
    asked: list[int] = []

    def batches(iteration: int) -> list[dict[str, Tensor]]:
        asked.append(iteration)
        return [{"a": A, "b": B, "labels": LABELS}]

    mask = find_mask(model, "snip", 0.5, batches=batches)
    assert asked
    assert sum(int(one.sum()) for one in mask.values()) == round(0.5 * sum(one.numel() for one in mask.values()))
    assert type(model) is Two


def test_a_pair_stays_a_pair_whatever_its_inputs_are() -> None:
    inputs = {"a": A, "b": B}
    assert pair((inputs, LABELS)) == (inputs, LABELS)
    alone = pair(A)
    assert alone[0] is A
    assert alone[1] is None
    assert isinstance(pair({"a": A})[0], Inputs)


def test_what_fails_leaves_the_network_as_it_was() -> None:
    @takes_task_batches
    def failing(model: nn.Module, batches: object) -> None:
        assert type(model) is not Two
        raise RuntimeError("stop")

    model = Two()
    with pytest.raises(RuntimeError, match="stop"):
        failing(model, [{"a": A}])
    assert type(model) is Two
