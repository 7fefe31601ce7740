"""Scores are trained by the loop of weights, and the weights stay what they are, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.score_training import MaskLearner, learned_scores, score_parameters
from prune_search.pruning.mask.units import WEIGHT, Part, UnitSet

X, Y = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2, bias=False))
    model[0].weight.requires_grad_(False)
    return model


def rows(tensor: Tensor) -> Tensor:
    return tensor


def learner(model: nn.Module, one: UnitSet, penalty: Callable[[], Tensor] | None = None) -> MaskLearner:
    scores = score_parameters([one], torch.device("cpu"), lambda one: torch.linspace(-1, 1, one.size))
    return MaskLearner(model, [one], scores, lambda step: {n: torch.sigmoid(s) for n, s in scores.items()}, penalty)


SINGLE = UnitSet("0.weight", 6, (2, 3), (Part("0.weight", WEIGHT, lambda tensor: tensor.reshape(-1, 1)),))
FILTERS = UnitSet("0.weight", 2, (2, 3), (Part("0.weight", WEIGHT, rows),))


def step(model: nn.Module, learner: MaskLearner) -> float:
    learner.before_step(0)
    loss = nn.functional.cross_entropy(model(X), Y)
    loss.backward()  # type: ignore[no-untyped-call]
    learner.after_backward(0)
    return float(loss.detach())


def test_the_forward_pass_sees_the_factors_and_the_gradient_reaches_the_scores() -> None:
    for one in (SINGLE, FILTERS):
        model = network()
        weight = model[0].get_parameter("weight").detach().clone()
        learning = learner(model, one)
        learning.at_start()
        score = learning.scores["0.weight"].detach().clone().requires_grad_()
        factor = torch.sigmoid(score).reshape(-1, 1).expand(-1, 6 // one.size).reshape(2, 3)
        wanted = nn.functional.cross_entropy(X @ (weight * factor).T, Y)
        wanted.backward()  # type: ignore[no-untyped-call]
        assert step(model, learning) == float(wanted.detach())
        found = learning.scores["0.weight"].grad
        assert found is not None
        assert score.grad is not None
        assert torch.allclose(found, score.grad, atol=1e-7)
        # The weight itself is untouched, takes no gradient, and has none.
        assert torch.equal(model[0].get_parameter("weight"), weight)
        assert model[0].weight.grad is None
        assert not model[0].weight.requires_grad


def test_a_penalty_is_added_to_the_scores_alone() -> None:
    plain, punished = (learner(network(), SINGLE) for _ in range(2))
    punished.penalty = lambda: punished.scores["0.weight"].sum()
    for learning in (plain, punished):
        learning.at_start()
        model = nn.Sequential(nn.Linear(3, 2, bias=False))
        model[0].weight = learning.parameters["0.weight"]
        step(model, learning)
    first, second = (learning.scores["0.weight"].grad for learning in (plain, punished))
    assert first is not None
    assert second is not None
    assert torch.allclose(second - first, torch.ones(6), atol=1e-6)


def test_what_is_stored_is_found_again_in_a_state() -> None:
    learning = learner(network(), FILTERS)
    stored = {f"hook/learned/{name}": value.clone() for name, value in learning.state().items()}
    found = learned_scores({**stored, "model/0.weight": torch.zeros(2, 3)})
    assert list(found) == ["0.weight"]
    other = learner(network(), FILTERS)
    other.load({"0.weight": torch.tensor([5.0, 6.0])})
    assert other.scores["0.weight"].tolist() == [5.0, 6.0]
    other.load(found)
    assert torch.equal(other.scores["0.weight"], learning.scores["0.weight"])
    assert other.hook().name == "learned"
