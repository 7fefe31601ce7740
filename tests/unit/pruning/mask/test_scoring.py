"""What criteria are given: gradients at the masked weights, of batches and of examples, and what passes layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prune_search.pruning.mask.scoring import (
    Batches,
    Scoring,
    gradients,
    sample_gradients,
    scores_by,
    single_weights,
    watch_layers,
)
from prune_search.recipe.problems import UserError
from prune_search.tasks.network import prunable_weights


def batches() -> Batches:
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(4, 3, generator=draw), torch.randint(2, (4,), generator=draw)) for _ in range(2)]


def scoring(model: nn.Module, given: Batches | None = None) -> Scoring:
    weights = prunable_weights(model)
    dense = {name: weight.detach().clone() for name, weight in weights.items()}
    found = batches() if given is None else given
    return Scoring(model, weights, dense, lambda: found, nn.functional.cross_entropy, 1, ())


def network(norm: bool = False) -> nn.Module:
    torch.manual_seed(0)
    middle: nn.Module = nn.BatchNorm1d(3) if norm else nn.Tanh()
    return nn.Sequential(nn.Linear(3, 3), middle, nn.Linear(3, 2)).double().float()


def mean_of(parts: list[list[Tensor]], place: int) -> Tensor:
    return torch.stack([part[place] for part in parts]).mean(0)


def test_gradients_are_the_mean_over_the_batches() -> None:
    given = scoring(network())
    found = gradients(given)
    losses = [given.loss(given.model(inputs), labels) for inputs, labels in batches()]
    wanted = torch.autograd.grad(torch.stack(losses).mean(), list(given.weights.values()))
    assert all(torch.allclose(found[name], grad, atol=1e-7) for name, grad in zip(found, wanted, strict=True))
    assert all(parameter.grad is None for parameter in given.model.parameters())


@pytest.mark.parametrize("norm", [False, True])
def test_the_gradients_of_examples_add_up_to_those_of_their_batch(norm: bool) -> None:
    given = scoring(network(norm))
    examples, whole = ([grads for grads, _ in sample_gradients(given, each)] for each in ("example", "batch"))
    assert (len(examples), len(whole)) == (8, 2)
    for place in range(2):
        assert torch.allclose(mean_of(examples, place), mean_of(whole, place), atol=1e-6)


def test_a_weight_that_is_not_used_has_a_gradient_of_zeros() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            found: Tensor = self.used(inputs)
            return found

    given = scoring(Half())
    assert not bool(gradients(given)["unused.weight"].any())
    assert not any(bool(grads[1].any()) for grads, _ in sample_gradients(given, "batch"))


def test_an_input_of_ones_has_the_shape_of_the_batches_and_needs_one() -> None:
    assert torch.equal(scoring(network()).ones(torch.float64), torch.ones(1, 3, dtype=torch.float64))
    with pytest.raises(UserError, match="pass batches or example_input"):
        scoring(network(), []).ones(torch.float32)


def test_what_passes_a_layer_is_seen_once_per_batch_and_the_hooks_are_gone_afterwards() -> None:
    given = scoring(network())
    seen: list[tuple[int, ...]] = []
    watch_layers(given, [id(given.weights["2.weight"])], lambda layer, inputs, output: seen.append(tuple(output.shape)))
    assert seen == [(4, 2), (4, 2)]
    given.model(batches()[0][0])
    assert len(seen) == 2
    assert single_weights(torch.zeros(2, 3)).shape == (6, 1)


def test_what_a_criterion_returns_is_checked() -> None:
    given = scoring(nn.Linear(3, 2))
    fine = torch.ones(2, 3)
    assert scores_by("mine", {"weight": fine}, given)["weight"] is fine
    assert list(scores_by("mine", {"weight": torch.ones(2)}, given)) == ["weight"]  # one for each filter
    for wrong, told in (
        (fine, "returned a Tensor, not a mapping"),
        ({"bias": fine}, "returned no scores for weight"),
        ({"weight": fine.numpy()}, "returned a ndarray, not a tensor, for weight"),
        ({"weight": fine.T}, r"shape \[3, 2\] for weight, which has \[2, 3\]"),
        ({"weight": torch.ones(6)}, r"shape \[6\] for weight"),
    ):
        with pytest.raises(UserError, match=rf"mask\.criterion: mine .*{told}"):
            scores_by("mine", wrong, given)
