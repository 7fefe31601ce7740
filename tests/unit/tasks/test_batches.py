"""What of a batch the network gets, and what its target is."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.tasks.batches import Inputs, Rules, adapted, target_of

A, B, LABELS = torch.ones(2, 3), torch.zeros(2, 3), torch.tensor([0, 1])


class Sums(nn.Module):
    """Takes two inputs, by place or by name."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, a: Tensor, b: Tensor | None = None) -> Tensor:
        return self.weight * (a if b is None else a + b)


def test_the_last_part_is_the_target_and_the_others_are_inputs() -> None:
    rules = Rules()
    for kind in (tuple, list):
        assert rules.inputs(kind((A, LABELS))) is A
        assert target_of(kind((A, LABELS))) is LABELS
        two = rules.inputs(kind((A, B, LABELS)))
        assert isinstance(two, Inputs)
        assert two.content == (A, B)
        assert rules.inputs(kind((A,))) is A
        assert target_of(kind((A,))) is None
    assert (rules.inputs(A) is A, target_of(A)) == (True, None)


def test_the_target_of_a_mapping_is_found_under_its_usual_names() -> None:
    for name in ("labels", "label", "target", "targets"):
        assert target_of({"a": A, name: LABELS}) is LABELS
    assert target_of({"labels": LABELS, "target": B}) is LABELS
    assert target_of({"a": A}) is None


def test_a_network_gets_the_keys_that_its_forward_names_and_no_others() -> None:
    model = adapted(Sums())
    found = model(Rules().inputs({"a": A, "b": B, "labels": LABELS, "identity": ["x", "y"]}))
    assert torch.equal(found, 2 * (A + B))
    assert torch.equal(model(Rules().inputs((A, B, LABELS))), 2 * (A + B))


def test_a_network_that_takes_any_keyword_gets_all() -> None:
    class Anything(nn.Module):
        def forward(self, **named: Any) -> list[str]:
            return sorted(named)

    assert adapted(Anything())(Inputs({"a": A, "labels": LABELS})) == ["a", "labels"]


def test_a_forward_of_ones_own_gets_the_whole_batch_even_of_one_tensor() -> None:
    rules = Rules(lambda model, batch: model(batch["deep"]["a"]))
    model = rules.adapted(Sums())
    assert torch.equal(model(rules.inputs({"deep": {"a": A}})), 2 * A)
    halved = Rules(lambda model, batch: model(batch) / 2)
    assert torch.equal(halved.adapted(Sums())(halved.inputs(A)), A)


def test_an_adapted_network_is_the_same_but_for_that() -> None:
    model = Sums()
    assert type(model) is Sums
    assert adapted(model) is model
    assert adapted(adapted(model)) is model
    assert type(model) is not Sums
    assert isinstance(model, Sums)
    assert (type(model).__name__, list(model.state_dict())) == ("Sums", ["weight"])
    assert torch.equal(model(A), 2 * A)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.weight.fill_(3.0)
    assert torch.equal(twin(Inputs((A, B))), 3 * (A + B))
    assert type(Sums()) is Sums
