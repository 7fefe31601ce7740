"""PPO-Lagrangian: the multiplier, the advantages, and a linear program whose optimum is known."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from prune_search.pruning.mask.constrained_policy import (
    ConstrainedPolicy,
    Multiplier,
    PolicyOptions,
    Rollout,
    advantages,
)
from prune_search.training.randomness import generator

# A linear program: three fractions in [0, 1], what removing each costs in reward, and what it frees of a budget.
LOST = torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64)
FREED = torch.tensor([20.0, 50.0, 30.0], dtype=torch.float64)
BUDGET = 40.0
# Freed per loss: 6.7, 50 and 15. So the second goes whole, and of the third as much as is left to free: 10 of 30.
OPTIMUM = (1.0 + 2.0 * 10.0 / 30.0) * -1.0


def test_the_multiplier_rises_if_and_only_if_the_mean_cost_is_above_the_budget() -> None:
    draw = torch.Generator().manual_seed(0)
    multiplier = Multiplier()
    assert multiplier.value == pytest.approx(1.0)
    for _ in range(200):
        excess = float(torch.randn((), generator=draw, dtype=torch.float64)) * 20
        before = multiplier.value
        multiplier.update(excess)
        assert (multiplier.value > before) is (excess > 0)
        assert multiplier.value >= 0


def test_the_multiplier_goes_to_0_where_the_constraint_is_slack() -> None:
    multiplier = Multiplier()
    values = []
    for _ in range(400):
        multiplier.update(-15.0)
        values.append(multiplier.value)
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.01


def test_a_multiplier_begins_where_it_is_told_to() -> None:
    for start in (0.01, 1.0, 30.0):
        assert Multiplier(start).value == pytest.approx(start)


def test_advantages_are_what_is_still_to_come_minus_the_estimate_and_with_lambda_0_one_step_ahead() -> None:
    gains = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    values = torch.tensor([[0.5, 1.5, 2.5]], dtype=torch.float64)
    assert advantages(gains, values, 1.0).tolist() == [[6.5, 4.5, 1.5]]
    # gain + next value - value
    assert advantages(gains, values, 0.0).tolist() == [[2.0, 3.0, 1.5]]
    # By hand with λ = ½: 1.5, then 3 + ½·1.5, then 2 + ½·3.75.
    assert advantages(gains, values, 0.5).tolist() == [[3.875, 3.75, 1.5]]


def linear_program(
    seed: int, budget: float, updates: int, options: PolicyOptions
) -> tuple[ConstrainedPolicy, Tensor, Tensor, Tensor]:
    """A policy that learns episodes of one step with three fractions.

    Returns:
        The policy; all fractions [updates, 64, 3], their rewards and their costs [updates, 64].
    """
    policy = ConstrainedPolicy(1, 3, options, generator(seed, "policy"))
    seen = torch.ones(64, 1, 1, dtype=torch.float64)
    played = []
    for update in range(updates):
        actions = policy.act(seen[:, 0], generator(seed, "draw", update))
        played.append(actions.clamp(0.0, 1.0))
        rewards, costs = valued(played[-1])
        rollout = Rollout(seen, actions[:, None], rewards[:, None], costs[:, None])
        policy.update(rollout, budget, partial(generator, seed, "order", update))
    fractions = torch.stack(played)
    return policy, fractions, *valued(fractions)


def valued(fractions: Tensor) -> tuple[Tensor, Tensor]:
    """Rewards and costs of fractions [..., 3]."""
    return -(fractions * LOST).sum(-1), 100.0 - (fractions * FREED).sum(-1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_reaches_the_optimum_of_a_linear_program(seed: int) -> None:
    """The best episode within the budget is the optimum, but for the noise; the mean policy circles around it.

    At the right price any fraction of the third is as good as another, so that policy and multiplier chase each other;
    their mean over time converges.
    """
    options = PolicyOptions(lr=2e-2, epochs=3, multiplier_lr=0.03)
    _, fractions, rewards, costs = linear_program(seed, BUDGET, 200, options)
    best = float(rewards[costs <= BUDGET].max())
    assert OPTIMUM - 0.1 < best <= OPTIMUM + 1e-9
    later = fractions[100:].mean((0, 1))
    assert later[1] > 0.9
    assert later[0] < 0.1
    assert 0.1 < later[2] < 0.8
    assert float(costs[100:].mean()) == pytest.approx(BUDGET, abs=10.0)
    # As many uniform draws come less near.
    drawn = torch.rand(fractions.shape, generator=generator(seed, "uniform"), dtype=torch.float64)
    blind, paid = valued(drawn)
    assert float(blind[paid <= BUDGET].max()) < best


def test_a_slack_constraint_costs_nothing() -> None:
    options = PolicyOptions(lr=1e-2, epochs=5, mean=0.3)
    policy, fractions, _, _ = linear_program(0, 100.0, 60, options)
    assert policy.multiplier.value < 0.05
    # Nothing is pruned where nothing has to be.
    assert float(fractions[-1].mean(0).max()) < 0.15


def test_a_policy_goes_on_from_its_state_bit_for_bit() -> None:
    def rollout(policy: ConstrainedPolicy, number: int) -> Rollout:
        draw = generator(3, "draw", number)
        seen = torch.rand(8, 4, 2, generator=draw, dtype=torch.float64)
        actions = policy.act(seen, draw)
        rewards, costs = torch.zeros(8, 4, dtype=torch.float64), torch.zeros(8, 4, dtype=torch.float64)
        rewards[:, -1], costs[:, -1] = -actions.square().sum((1, 2)), 50 + actions.sum((1, 2))
        return Rollout(seen, actions, rewards, costs)

    def learn(policy: ConstrainedPolicy, number: int) -> None:
        policy.update(rollout(policy, number), 40.0, partial(generator, 3, "order", number))

    whole = ConstrainedPolicy(2, 1, PolicyOptions(lr=1e-2), generator(3, "policy"))
    for number in range(3):
        learn(whole, number)
    stored = {key: value.clone() for key, value in whole.state().items()}
    learn(whole, 3)
    other = ConstrainedPolicy(2, 1, PolicyOptions(lr=1e-2), generator(99, "policy"))
    other.load(stored)
    learn(other, 3)
    assert stored.keys() == other.state().keys()
    assert all(torch.equal(value, whole.state()[key]) for key, value in other.state().items())
    assert other.multiplier.value != 1.0


def test_an_update_ends_where_the_policy_has_moved_too_far() -> None:
    """With a target of almost 0 one step is taken: the next minibatch finds another policy."""
    found = []
    for target in (1e-12, 1e9):
        policy = ConstrainedPolicy(1, 3, PolicyOptions(lr=1e-2, target_kl=target), generator(0, "policy"))
        draw = generator(0, "draw")
        seen = torch.ones(64, 1, 1, dtype=torch.float64)
        actions = policy.act(seen[:, 0], draw)
        costs = torch.full((64, 1), 30.0, dtype=torch.float64)
        rollout = Rollout(seen, actions[:, None], actions[:, :1], costs)
        policy.update(rollout, 40.0, partial(generator, 0, "order"))
        found.append(int(policy.state()["policy/0/step"]))
    assert found == [1, 10]
