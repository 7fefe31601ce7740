"""PPO-Lagrangian: a policy that maximises a reward while the mean cost of its episodes stays within a budget.

The policy is Gaussian with a mean from an MLP 32-32 (tanh) and a standard deviation of its own per action. The mean
goes through a sigmoid: one far outside of 0 … 1 would be clipped whatever is drawn, and nothing would lead it back. Two
critics of the same size estimate what is still to come of reward and of cost. The policy's loss is

    [ -E min(r A_R, clip(r, 1 ± c) A_R) + ν E[r A_C] ] / (1 + ν) + ½ MSE(V_R) + ½ MSE(V_C),

with r the ratio of new to old probabilities. A_R is normalised; A_C is centred, in units of the rollout's deviation of
cost, and its ratio is not clipped. The multiplier ν = softplus(z) rises while the mean cost is above the budget: Adam
on -ν (mean cost - budget).

Malik, Haider, Iqbal & Taj 2021, 2110.08558; Schulman et al. 2017, Proximal Policy Optimization, 1707.06347; Ray, Achiam
& Amodei 2019, Benchmarking Safe Exploration in Deep Reinforcement Learning (PPO-Lagrangian).

Why it is written here: stable-baselines3 has neither a constraint nor a second critic, torchrl would leave both losses
to us, omnisafe pins pandas 2.0.3 and brings wandb and moviepy, and none of them goes on bit for bit after a kill.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

HIDDEN = 32
# Episodes are short and end: nothing is discounted. λ of generalized advantage estimation, for reward and for cost.
DISCOUNT, REWARD_LAMBDA, COST_LAMBDA = 1.0, 0.95, 1.0
MAX_GRADIENT_NORM = 0.5
MINIBATCH = 64
# A rollout's epochs end where the mean KL divergence from the policy that made it is above so many times the target.
KL_SLACK = 1.5
# Costs of a rollout that hardly differ are scaled as if they differed by this part of what all costs do.
LEAST_SPREAD = 0.1


@dataclass(frozen=True)
class PolicyOptions:
    """How a policy learns.

    Attributes:
        lr: of Adam, for policy and critics.
        clip: c of the clipped surrogate.
        target_kl: mean KL divergence from the policy of the rollout at which an update ends.
        epochs: passes over a rollout, at most.
        multiplier_lr: of Adam, for z.
        multiplier: ν at the start.
        std: the standard deviation of an action at the start.
        mean: of an action at the start, above 0 and below 1.
    """

    lr: float = 3e-4
    clip: float = 0.2
    target_kl: float = 0.1
    epochs: int = 10
    multiplier_lr: float = 1.0
    multiplier: float = 1.0
    std: float = 0.3
    mean: float = 0.5


@dataclass(frozen=True)
class Rollout:
    """Whole episodes of equal length: N of T steps.

    Attributes:
        observations: float64 [N, T, observation].
        actions: float64 [N, T, action].
        rewards: float64 [N, T].
        costs: float64 [N, T].
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    costs: Tensor


class Multiplier:
    """ν = softplus(z) of a constraint: mean cost ≤ budget.

    Adam without momentum, so that ν rises if and only if the mean cost is above the budget; with momentum it would go
    on rising for some updates after the budget is met.
    """

    def __init__(self, start: float = 1.0, lr: float = 1.0) -> None:
        self.z = nn.Parameter(torch.tensor(_unsoftplus(start), dtype=torch.float64))
        self.optimizer = torch.optim.Adam([self.z], lr=lr, betas=(0.0, 0.999))

    @property
    def value(self) -> float:
        """ν, at least 0."""
        return float(nn.functional.softplus(self.z.detach()))

    def update(self, excess: float) -> None:
        """One step of dual ascent; `excess` is the mean cost minus the budget."""
        self.optimizer.zero_grad(set_to_none=True)
        (-nn.functional.softplus(self.z) * excess).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def _unsoftplus(value: float) -> float:
    return value + math.log(-math.expm1(-value)) if value > 0 else -math.inf


def advantages(gains: Tensor, values: Tensor, decay: float, discount: float = DISCOUNT) -> Tensor:
    """Generalized advantage estimation over whole episodes (Schulman et al. 2016, 1506.02438, equation 16).

    Args:
        gains: reward or cost of each step, [N, T]; an episode ends after its last step.
        values: the critic's estimates at the same steps, [N, T].
        decay: λ.
        discount: γ.

    Returns:
        [N, T]. With λ = γ = 1: what is still to come minus the estimate.
    """
    found = torch.zeros_like(gains)
    later = torch.zeros_like(gains[:, 0])
    after = torch.zeros_like(later)
    for step in range(gains.shape[1] - 1, -1, -1):
        later = gains[:, step] + discount * after - values[:, step] + discount * decay * later
        after = values[:, step]
        found[:, step] = later
    return found


def _network(inputs: int, outputs: int, draw: torch.Generator, last: float) -> nn.Sequential:
    """An MLP 32-32 with orthogonal weights; those of the last layer are multiplied by `last`."""
    layers: list[nn.Module] = []
    sizes = [inputs, HIDDEN, HIDDEN, outputs]
    for place, (before, after) in enumerate(itertools.pairwise(sizes)):
        # Drawn below from a generator of its own: torch's default one stays where it is.
        linear: nn.Linear = nn.utils.skip_init(nn.Linear, before, after, dtype=torch.float64)  # type: ignore[no-untyped-call]
        gain = last if place == len(sizes) - 2 else math.sqrt(2.0)
        nn.init.orthogonal_(linear.weight, gain, generator=draw)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class ConstrainedPolicy:
    """The policy, its critics and the multiplier.

    Everything is float64 and on the CPU, wherever the pruned network is: these networks are so small that an
    accelerator would only wait for them.

    Args:
        observation: numbers in an observation.
        action: numbers in an action.
        options: how it learns.
        draw: for the first weights.
    """

    def __init__(self, observation: int, action: int, options: PolicyOptions, draw: torch.Generator) -> None:
        self.options = options
        self.mean = nn.Sequential(*_network(observation, action, draw, 0.01), nn.Sigmoid())
        self.reward_critic = _network(observation, 1, draw, 1.0)
        self.cost_critic = _network(observation, 1, draw, 1.0)
        nn.init.constant_(self.mean[-2].bias, math.log(options.mean / (1 - options.mean)))  # type: ignore[arg-type]
        self.log_std = nn.Parameter(torch.full((action,), math.log(options.std), dtype=torch.float64))
        self.multiplier = Multiplier(options.multiplier, options.multiplier_lr)
        networks = (self.mean, self.reward_critic, self.cost_critic)
        self.parameters = [self.log_std, *(one for network in networks for one in network.parameters())]
        self.optimizer = torch.optim.Adam(self.parameters, lr=options.lr, eps=1e-5, foreach=True)
        self.updates = 0

    def act(self, observation: Tensor, draw: torch.Generator) -> Tensor:
        """Actions [..., action] for observations [..., observation]; they are not clipped."""
        with torch.no_grad():
            mean: Tensor = self.mean(observation)
            noise = torch.randn(mean.shape, generator=draw, dtype=torch.float64)
            return mean + self.log_std.exp() * noise

    def log_probability(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Of actions [..., action] at observations [..., observation]: [...]."""
        scaled = (actions - self.mean(observations)) / self.log_std.exp()
        found: Tensor = -(0.5 * scaled.square() + self.log_std + 0.5 * math.log(2 * math.pi)).sum(-1)
        return found

    def update(
        self,
        rollout: Rollout,
        budget: float,
        shuffle: Callable[[int], torch.Generator],
        seen: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """Learn from a rollout, then move the multiplier.

        Args:
            rollout: made by the policy as it is now.
            budget: of an episode's cost, Σ over its steps.
            shuffle: from the number of the epoch to a generator.
            seen: rewards and costs of all episodes so far, [n] each, in whose units the critics estimate; None: those
                of the rollout.
        """
        sums = (rollout.rewards.sum(1), rollout.costs.sum(1)) if seen is None else seen
        rewards, costs = (_Scale.of(one) for one in sums)
        observations, actions = rollout.observations.flatten(0, 1), rollout.actions.flatten(0, 1)
        # As the policy settles, rewards and costs spread less alike: scaled alike, ν weighs them against each other.
        spread = _Scale.of(rollout.costs.sum(1)).deviation
        with torch.no_grad():
            before = self.log_probability(observations, actions)
            reward_values = rewards.undone(self.reward_critic(rollout.observations)[..., 0])
            cost_values = costs.undone(self.cost_critic(rollout.observations)[..., 0])
            better = advantages(rollout.rewards, reward_values, REWARD_LAMBDA)
            dearer = advantages(rollout.costs, cost_values, COST_LAMBDA)
        batch = _Batch(
            observations,
            actions,
            before,
            better.flatten(),
            (dearer / max(spread, LEAST_SPREAD * costs.deviation)).flatten(),
            rewards.done(better + reward_values).flatten(),
            costs.done(dearer + cost_values).flatten(),
        )
        orders = (torch.randperm(len(before), generator=shuffle(epoch)) for epoch in range(self.options.epochs))
        for part in (part for order in orders for part in torch.split(order, MINIBATCH)):
            if not self._step(batch.at(part)):
                break
        self.multiplier.update(float(rollout.costs.sum(1).mean()) - budget)
        self.updates += 1

    def _step(self, batch: _Batch) -> bool:
        """One step on a minibatch; False, and no step, where the policy has moved too far from the rollout's."""
        difference = self.log_probability(batch.observations, batch.actions) - batch.before
        ratio = difference.exp()
        with torch.no_grad():
            # An estimate of the KL divergence that is never negative (Schulman 2020, Approximating KL Divergence).
            if float((ratio - 1 - difference).mean()) > KL_SLACK * self.options.target_kl:
                return False
        better = batch.better - batch.better.mean()
        better = better / (better.square().mean().sqrt() + 1e-8)
        clipped = ratio.clamp(1 - self.options.clip, 1 + self.options.clip)
        gain = torch.minimum(ratio * better, clipped * better).mean()
        price = (ratio * (batch.dearer - batch.dearer.mean())).mean()
        weight = self.multiplier.value
        loss = (-gain + weight * price) / (1 + weight)
        loss = loss + 0.5 * (self.reward_critic(batch.observations)[:, 0] - batch.reward_to_come).square().mean()
        loss = loss + 0.5 * (self.cost_critic(batch.observations)[:, 0] - batch.cost_to_come).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, MAX_GRADIENT_NORM)
        self.optimizer.step()
        return True

    def state(self) -> dict[str, Tensor]:
        """Everything that it must remember, as named tensors."""
        found = {"updates": torch.tensor(self.updates)}
        for name, optimizer, parameters in self._parts():
            for place, parameter in enumerate(parameters):
                found[f"{name}/{place}"] = parameter.detach()
                for key, value in optimizer.state.get(parameter, {}).items():
                    found[f"{name}/{place}/{key}"] = value
        return found

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the named tensors of `state`."""
        self.updates = int(state["updates"])
        for name, optimizer, parameters in self._parts():
            for place, parameter in enumerate(parameters):
                with torch.no_grad():
                    parameter.copy_(state[f"{name}/{place}"])
                prefix = f"{name}/{place}/"
                own = {
                    key.removeprefix(prefix): value.cpu().clone()
                    for key, value in state.items()
                    if key.startswith(prefix)
                }
                optimizer.state.pop(parameter, None)
                if own:
                    optimizer.state[parameter] = own

    def _parts(self) -> list[tuple[str, torch.optim.Optimizer, list[nn.Parameter]]]:
        return [
            ("policy", self.optimizer, self.parameters),
            ("multiplier", self.multiplier.optimizer, [self.multiplier.z]),
        ]


@dataclass(frozen=True)
class _Scale:
    """Mean and deviation of the sums of episodes: critics estimate in these units."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, sums: Tensor) -> _Scale:
        return cls(float(sums.mean()), max(float(sums.std(correction=0)), 1e-8))

    def done(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.deviation

    def undone(self, values: Tensor) -> Tensor:
        return values * self.deviation + self.mean


@dataclass(frozen=True)
class _Batch:
    """Steps of a rollout, flat: [steps, …]."""

    observations: Tensor
    actions: Tensor
    before: Tensor
    better: Tensor
    dearer: Tensor
    reward_to_come: Tensor
    cost_to_come: Tensor

    def at(self, places: Tensor) -> _Batch:
        return _Batch(*(getattr(self, name)[places] for name in self.__dataclass_fields__))
