"""Searches layers' pruned fractions with the policy of constrained reinforcement learning."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from prune_search.pruning.mask.constrained_policy import ConstrainedPolicy, PolicyOptions, Rollout
from prune_search.pruning.mask.fraction_search import FEATURES, Episodes, FractionProblem
from prune_search.training.randomness import generator


class PolicySearch:
    """Proposes what the policy draws, layer after layer, and lets it learn after every rollout of whole episodes.

    Args:
        problem: what is searched for.
        n_steps: layers in a rollout, rounded up to whole episodes.
        options: of `PolicyOptions`.
    """

    def __init__(self, problem: FractionProblem, n_steps: int, **options: float) -> None:
        self.problem = problem
        self.in_rollout = -(-n_steps // len(problem.layers))
        draw = generator(problem.seed, "policy", *problem.words)
        self.policy = ConstrainedPolicy(FEATURES, 1, PolicyOptions(**options), draw)  # type: ignore[arg-type]

    def observations(self, actions: Tensor, episode: int) -> Tensor:
        """What the policy sees at each layer of an episode: its features, and Σ of the fractions before it over L.

        Args:
            actions: [L].
            episode: its number.

        Returns:
            float64 [L, 10].
        """
        fractions = self.problem.clipped(actions, episode)
        before = (fractions.cumsum(0) - fractions) / len(fractions)
        return torch.cat([self.problem.features, before[:, None]], 1)

    def propose(self, episodes: Episodes) -> Tensor:
        """The actions of the next episode, float64 [L]."""
        episode, layers = len(episodes), len(self.problem.layers)
        draw = generator(self.problem.seed, "episode", *self.problem.words, episode)
        actions = torch.zeros(layers, dtype=torch.float64)
        for layer in range(layers):
            actions[layer] = self.policy.act(self.observations(actions, episode)[layer], draw)[0]
        return actions

    def told(self, episodes: Episodes) -> None:
        """Update after the last episode of a rollout."""
        done = len(episodes)
        if done % self.in_rollout == 0:
            words = ("update", *self.problem.words, self.policy.updates)
            self.policy.update(
                self._rollout(episodes, done - self.in_rollout),
                self.problem.budget,
                lambda epoch: generator(self.problem.seed, *words, epoch),
                (episodes.finite_rewards, episodes.costs),
            )

    def _rollout(self, episodes: Episodes, first: int) -> Rollout:
        """The episodes from one on; reward and cost come with the last layer."""
        actions = episodes.actions[first:]
        seen = torch.stack([self.observations(one, first + place) for place, one in enumerate(actions)])
        rewards = torch.zeros_like(actions)
        costs = torch.zeros_like(actions)
        rewards[:, -1], costs[:, -1] = episodes.finite_rewards[first:], episodes.costs[first:]
        return Rollout(seen, actions[..., None], rewards, costs)

    def state(self) -> dict[str, Tensor]:
        """That of the policy."""
        return self.policy.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a stored policy."""
        self.policy.load(state)

    def summary(self) -> dict[str, float]:
        """The multiplier at the end, and the updates."""
        return {"multiplier": self.policy.multiplier.value, "updates": float(self.policy.updates)}
