"""Learned masks: what a step's forward pass sees, and what gradient the scores get, against plain computations."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search.pruning.mask.criteria.learned import bernoulli_divergence
from prune_search.pruning.mask.learning_context import LearningContext
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.mask.variants import selection
from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.blocks import Score
from prune_search.recipe.fields import Value
from prune_search.recipe.reading import Reading
from prune_search.recipe.recipe import Named
from prune_search.tasks.network import prunable_weights
from prune_search.training.environment import autocast
from prune_search.training.loop import Hook, Network
from prune_search.training.phase import Phase

DEVICE = torch.device("cpu")
SCORE = Score.of(
    {"iterations": 1, "path": "exponential", "nested": True, "batches": 1, "loss": "cross-entropy", "mode": "train"}
)
X = torch.randn(12, 1, 6, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 3


def network() -> Network:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)
    )
    return Network(model, DEVICE, autocast(DEVICE, "fp32"), nn.functional.cross_entropy)


def made(
    written: Any, share: str | None = "0.5", scope: str = "global", granularity: str = "weight"
) -> tuple[Network, LearningContext, Phase, Hook]:
    """A criterion that learns, ready to train a small network's scores."""
    told = Reading(outer_optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0})
    named = Named.of(CRITERIA, Value(CRITERIA).read(written, "mask.criterion", told))
    assert told.problems == []
    net = network()
    rule = MaskRule(named, Named(scope, {}, scope), Named(granularity, {}, granularity), SCORE)
    kept = None if share is None else Decimal(share)
    scoring_data = ScoringData(lambda _: [(X, Y)], "6.weight", 3, 1)
    sets, candidates, select = selection(net.model, rule, kept, None, scoring_data)
    learning = LearningContext(net, sets, candidates, select, kept, 3, ("mask.criterion", 1), 9)
    phase = named.entry(CRITERIA).build(Phase, learning, **named.options)
    (hook,) = phase.hooks()
    assert hook.at_start is not None
    hook.at_start()
    return net, learning, phase, hook


def step(net: Network, hook: Hook, number: int = 0) -> dict[str, Tensor]:
    """One forward and backward pass; the weights that it saw."""
    assert hook.before_step is not None
    assert hook.after_backward is not None
    hook.before_step(number)
    seen = {name: parameter.detach().clone() for name, parameter in net.model.named_parameters()}
    net.loss(net.model(X), Y).backward()  # type: ignore[no-untyped-call]
    hook.after_backward(number)
    return seen


def slopes(net: Network, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """dL/dw at the weights that were seen, without anything of the learner."""
    leaves = {name: value.clone().requires_grad_(True) for name, value in seen.items()}
    loss = net.loss(torch.func.functional_call(net.model, leaves, (X,)), Y)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def values(phase: Phase) -> dict[str, Tensor]:
    return {name: score.detach().clone() for name, score in phase.learned.items()}


WRITTEN: dict[str, Any] = {"edge-popup": "edge-popup", "supermask": "supermask", "gumbel": "gumbel"}


def test_these_are_all_criteria_that_train() -> None:
    assert set(WRITTEN) == {name for name, entry in CRITERIA.items() if entry.facts.trains}


@pytest.mark.parametrize("granularity", ["weight", "filter", "channel"])
@pytest.mark.parametrize("name", WRITTEN)
def test_a_step_leaves_weights_bit_for_bit_and_no_gradient_behind(name: str, granularity: str) -> None:
    net, _, phase, hook = made(WRITTEN[name], granularity=granularity)
    frozen = net.model.get_parameter("3.weight").requires_grad_(False)
    assert hook.at_start is not None
    hook.at_start()
    before = {key: value.detach().clone() for key, value in net.model.named_parameters()}
    seen = step(net, hook)
    assert any(not torch.equal(seen[key], before[key]) for key in before)
    assert all(torch.equal(value, before[key]) for key, value in net.model.named_parameters())
    assert all(parameter.grad is None for parameter in net.model.parameters())
    assert not frozen.requires_grad
    assert all(score.grad is not None and bool(score.grad.any()) for score in phase.learned.values())


@pytest.mark.parametrize("scope", ["global", "uniform"])
def test_edge_popup_s_gradient_goes_straight_through_the_choice(scope: str) -> None:
    """Ramanujan et al. 2020, eq. 4: ds = w · dL/d(w ⊙ m), for weights that are left out too; times sign(s) for |s|."""
    net, _, phase, hook = made("edge-popup", "0.4", scope)
    dense = {name: weight.detach().clone() for name, weight in prunable_weights(net.model).items()}
    scores = values(phase)
    seen = step(net, hook)
    found = slopes(net, seen)
    sizes = torch.cat([score.abs() for score in scores.values()])
    border = sizes.sort(descending=True).values[int(0.4 * len(sizes) + 0.5) - 1]
    for name, weight in dense.items():
        size = scores[name].abs().reshape(weight.shape)
        if scope == "uniform":
            border = size.flatten().sort(descending=True).values[int(0.4 * size.numel() + 0.5) - 1]
        assert torch.equal(seen[name], torch.where(size >= border, weight, torch.zeros(())))
        straight = (weight * found[name]).flatten() * scores[name].sign()
        gradient = phase.learned[name].grad
        assert gradient is not None
        assert torch.equal(gradient, straight)


def test_a_filter_s_score_gets_the_sum_over_its_weights() -> None:
    net, learning, phase, hook = made("edge-popup", "0.5", "uniform", "filter")
    dense = {name: value.detach().clone() for name, value in net.model.named_parameters()}
    scores = values(phase)
    found = slopes(net, step(net, hook))
    assert list(scores) == ["0.weight", "3.weight"]
    owned = {"0.weight": ("0.weight", "0.bias", "1.weight", "1.bias"), "3.weight": ("3.weight", "3.bias")}
    for one in learning.sets:
        assert {part.parameter for part in one.parts} == set(owned[one.name])
        total = torch.stack([(dense[name] * found[name]).reshape(one.size, -1).sum(1) for name in owned[one.name]]).sum(
            0
        )
        gradient = phase.learned[one.name].grad
        assert gradient is not None
        assert torch.allclose(gradient, total * scores[one.name].sign(), atol=1e-7)


def test_a_swap_of_two_edges_lowers_the_loss() -> None:
    """Ramanujan et al. 2020, theorem 1: where one step brings edge j in for edge i, the loss has fallen (small rate).

    On a linear loss Σ a_i w_i m_i the claim is exact for any rate.
    """
    swaps = 0
    for seed in range(200):
        source = torch.Generator().manual_seed(seed)
        a, w, s = (torch.randn(6, dtype=torch.float64, generator=source) for _ in range(3))
        s = s.abs() + 5.0
        after = s - 0.5 * a * w

        def loss(score: Tensor, a: Tensor = a, w: Tensor = w) -> float:
            mask = torch.zeros(6, dtype=torch.float64)
            mask[score.sort(descending=True).indices[:3]] = 1.0
            return float((a * w * mask).sum())

        if set(s.topk(3).indices.tolist()) != set(after.topk(3).indices.tolist()):
            swaps += 1
            assert loss(after) < loss(s)
    assert swaps > 50


def test_edge_popup_s_scores_begin_uniform_within_one_over_the_root_of_the_fan_in() -> None:
    _, _, phase, _ = made("edge-popup")
    for name, fan in (("0.weight", 9), ("3.weight", 36), ("6.weight", 20)):
        score = phase.learned[name].detach()
        assert float(score.abs().max()) <= fan**-0.5
        assert float(score.abs().max()) > 0.9 * fan**-0.5
        assert float(score.min()) < 0 < float(score.max())


def test_a_supermask_is_a_bernoulli_draw_with_the_expected_mask_sigma_of_s() -> None:
    """Zhou et al. 2019, section 5: E[m] = σ(s), and the gradient is that of the expectation, w·g·σ(s)(1-σ(s))."""
    net, _, phase, hook = made("supermask")
    dense = {name: weight.detach().clone() for name, weight in prunable_weights(net.model).items()}
    source = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for score in phase.learned.values():
            score.copy_(torch.randn(score.shape, generator=source) * 1.5)
    assert hook.before_step is not None
    draws = 400
    total = {name: torch.zeros(weight.numel()) for name, weight in dense.items()}
    for number in range(draws):
        hook.before_step(number)
        for name, now in prunable_weights(net.model).items():
            kept = (now.detach() != 0).flatten()
            assert torch.equal(now.detach().flatten()[kept], dense[name].flatten()[kept])
            total[name] += kept
    for name, count in total.items():
        p = torch.sigmoid(phase.learned[name].detach())
        away = (count / draws - p) / (p * (1 - p) / draws).sqrt()
        assert float(away.abs().max()) < 4.5
        assert float(away.square().mean()) == pytest.approx(1.0, abs=0.4)
    found = slopes(net, step(net, hook, 7))
    for name, weight in dense.items():
        p, gradient = torch.sigmoid(phase.learned[name].detach()), phase.learned[name].grad
        assert gradient is not None
        assert torch.allclose(gradient, (weight * found[name]).flatten() * p * (1 - p), rtol=1e-5, atol=1e-9)


def factors(net: Network, hook: Hook, number: int) -> Tensor:
    """What the weights of all layers are multiplied by at a step."""
    dense = [weight.detach().clone() for weight in prunable_weights(net.model).values()]
    assert hook.before_step is not None
    assert hook.after_backward is not None
    hook.before_step(number)
    now = [weight.detach().clone() for weight in prunable_weights(net.model).values()]
    hook.after_backward(number)
    return torch.cat([(new / old).flatten() for new, old in zip(now, dense, strict=True)])


def test_cold_gumbel_draws_are_bernoulli_masks_and_hot_ones_are_one_half() -> None:
    hot_net, _, hot, hot_hook = made({"name": "gumbel", "temperature": 900.0, "kl": 0.0})
    assert float((factors(hot_net, hot_hook, 0) - 0.5).abs().max()) < 0.01
    assert all(not bool(score.grad is not None and score.grad.any()) for score in hot.learned.values())
    net, _, phase, hook = made({"name": "gumbel", "temperature": 1e-6, "kl": 0.0})
    with torch.no_grad():
        for score in phase.learned.values():
            score.fill_(1.0)
    drawn = torch.stack([factors(net, hook, number) for number in range(60)])
    assert float(torch.minimum(drawn.abs(), (1 - drawn).abs()).max()) < 1e-5
    count, p = drawn.numel(), float(torch.sigmoid(torch.tensor(1.0)))
    assert abs(float(drawn.mean()) - p) < 4.5 * (p * (1 - p) / count) ** 0.5


def test_gumbel_s_gradient_is_that_of_the_soft_mask_and_of_the_divergence() -> None:
    written = {"name": "gumbel", "temperature": 0.7, "kl": 0.01, "prior": 0.2, "initial": 0.3}
    net, _, phase, hook = made(written)
    dense = {name: weight.detach().clone() for name, weight in prunable_weights(net.model).items()}
    seen = step(net, hook)
    found = slopes(net, seen)
    p = torch.sigmoid(torch.tensor(0.3, dtype=torch.float64))
    # d/ds KL = σ'(s) (s - logit(prior)).
    pull = 0.01 * p * (1 - p) * (0.3 - torch.logit(torch.tensor(0.2, dtype=torch.float64)))
    for name, weight in dense.items():
        soft = (seen[name] / weight).flatten().double()
        wanted = (weight * found[name]).flatten().double() * soft * (1 - soft) / 0.7 + pull
        gradient = phase.learned[name].grad
        assert gradient is not None
        assert torch.allclose(gradient.double(), wanted, rtol=1e-3, atol=1e-6)


def test_the_divergence_is_the_one_of_bernoulli_variables() -> None:
    logits = torch.tensor([-30.0, -2.0, 0.0, 0.7, 30.0], dtype=torch.float64)
    for prior in (0.05, 0.5, 0.9):
        known = torch.distributions.kl_divergence(
            torch.distributions.Bernoulli(logits=logits),
            torch.distributions.Bernoulli(probs=torch.tensor(prior, dtype=torch.float64)),
        ).sum()
        assert float(bernoulli_divergence(logits, prior)) == pytest.approx(float(known), rel=1e-9)
        at_prior = torch.logit(torch.tensor([prior], dtype=torch.float64))
        assert float(bernoulli_divergence(at_prior, prior)) == pytest.approx(0.0, abs=1e-12)


def test_draws_are_a_function_of_the_step_alone() -> None:
    for written in ("supermask", "gumbel"):
        net, _, _, hook = made(written)
        first = factors(net, hook, 5)
        other = factors(net, hook, 6)
        assert torch.equal(factors(net, hook, 5), first)
        assert not torch.equal(first, other)
