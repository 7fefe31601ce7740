"""The search for the layers' pruned fractions within a budget: the problem, its episodes, and the answer.

An episode walks the layers in their order. An action is the fraction of a layer that is pruned; at the end the network
is masked, trained for some steps where the recipe says so, and measured. The reward is that measurement, and the cost
is what is kept, in percent of the dense network. Who proposes the fractions is a `FractionSearcher`; whoever it is, its
episodes are run, counted and judged alike.

Malik, Haider, Iqbal & Taj 2021, Pruning through Constrained Reinforcement Learning, 2110.08558 (the layer-wise
environment).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import localcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.budgets import spent_up
from prune_search.pruning.mask.counts import PRECISION, exact, keep_count
from prune_search.pruning.mask.units import LayerUnits
from prune_search.tasks.layers import holders

# What an observation says of a layer: its place, inputs, outputs, kernel, stride and padding in two dimensions, and the
# fractions pruned so far.
FEATURES = 10
# By so much the largest fraction that a layer may lose rises from the first episode to the last (the released code).
RISE = 0.05


@dataclass(frozen=True)
class FractionProblem:
    """What is searched for.

    Attributes:
        layers: that take part, in module order, L of them.
        features: float64 [L, 9], each column scaled to at most 1.
        budget: of the cost, in percent of the dense network's.
        spent: from kept units per layer to their cost, in the unit of `dense`.
        dense: the cost of the dense network.
        episodes: how many are run.
        most: the largest fraction of a layer that is pruned at the end, above 0 to 1.
        least: units that each layer keeps at least.
        rounding: of counts, see `counts.keep_count`.
        seed: of the trial.
        words: what tells its draws from others.
    """

    layers: Sequence[LayerUnits]
    features: Tensor
    budget: float
    spent: Callable[[Mapping[str, int]], float]
    dense: float
    episodes: int
    most: float
    least: int = 0
    rounding: str = "half-up"
    seed: int = 0
    words: tuple[str | int, ...] = ()

    def cap(self, episode: int) -> float:
        """The largest fraction of a layer that an episode prunes: it rises by 0.05 to `most`."""
        part = episode / max(1, self.episodes - 1)
        return max(0.0, min(self.most, self.most - RISE * (1.0 - part)))

    def clipped(self, actions: Tensor, episode: int) -> Tensor:
        """Actions of an episode, [L] or one of them, as fractions: 0 to `cap`."""
        return actions.clamp(0.0, self.cap(episode))

    def counts(self, fractions: Sequence[float]) -> list[int]:
        """Kept units per layer: ⌊(1 - a) n + ½⌋ of n, and at least `least`.

        Example:
            Of layers of 10 and 4 units with fractions 0.25 and 0.5: ⌊7.5 + ½⌋ = 8 and ⌊2 + ½⌋ = 2.
        """
        found = []
        with localcontext() as context:
            context.prec = PRECISION
            for layer, fraction in zip(self.layers, fractions, strict=True):
                kept = keep_count(layer.units, 1 - exact(fraction), self.rounding)
                found.append(min(max(kept, min(self.least, layer.units)), layer.units))
        return found

    def cost(self, counts: Sequence[int]) -> float:
        """What kept units cost: 100 · kept / total."""
        kept = {layer.name: count for layer, count in zip(self.layers, counts, strict=True)}
        return 100.0 * self.spent(kept) / self.dense if self.dense else 0.0

    def fits(self, counts: Sequence[int]) -> bool:
        """Whether kept units are within the budget."""
        return self.cost(counts) <= self.budget

    @property
    def deepest(self) -> list[int]:
        """Kept units with as much pruned of every layer as the last episode may."""
        return self.counts([self.cap(self.episodes - 1)] * len(self.layers))


class Episodes:
    """What was tried so far.

    Attributes:
        actions: float64 [episodes, L]: as they were proposed; `FractionProblem.clipped` makes fractions of them.
        kept: int64 [episodes, L]: units kept per layer.
        costs: float64 [episodes]: percent of the dense network.
        rewards: float64 [episodes]; -inf of a network that was ruined: its loss or accuracy was no finite number.
    """

    def __init__(self, layers: int) -> None:
        self.actions = torch.empty(0, layers, dtype=torch.float64)
        self.kept = torch.empty(0, layers, dtype=torch.int64)
        self.costs = torch.empty(0, dtype=torch.float64)
        self.rewards = torch.empty(0, dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.costs)

    def add(self, actions: Tensor, kept: Sequence[int], cost: float, reward: float) -> None:
        """One more: actions [L], kept units [L], its cost and its reward."""
        self.actions = torch.cat([self.actions, actions.reshape(1, -1)])
        self.kept = torch.cat([self.kept, torch.tensor([list(kept)], dtype=torch.int64)])
        self.costs = torch.cat([self.costs, torch.tensor([cost], dtype=torch.float64)])
        self.rewards = torch.cat([self.rewards, torch.tensor([reward], dtype=torch.float64)])

    @property
    def ruined(self) -> int:
        """Episodes whose network had no finite loss or accuracy."""
        return int(self.rewards.isinf().sum())

    @property
    def finite_rewards(self) -> Tensor:
        """The rewards, those of ruined networks as low as the lowest other one: nothing is learned from -inf."""
        finite = self.rewards[self.rewards.isfinite()]
        return self.rewards.clamp(min=float(finite.min()) if len(finite) else 0.0)

    def state(self) -> dict[str, Tensor]:
        """As named tensors."""
        return {"actions": self.actions, "kept": self.kept, "costs": self.costs, "rewards": self.rewards}

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Episodes:
        """From the named tensors of `state`."""
        found = cls(state["actions"].shape[1])
        found.actions, found.kept = state["actions"].cpu(), state["kept"].cpu()
        found.costs, found.rewards = state["costs"].cpu(), state["rewards"].cpu()
        return found


class FractionSearcher(Protocol):
    """Who proposes fractions."""

    def propose(self, episodes: Episodes) -> Tensor:
        """The actions of the next episode, float64 [L]; clipped to 0 … `FractionProblem.cap` they are fractions."""

    def told(self, episodes: Episodes) -> None:
        """The last of these episodes is over: learn from it."""

    def state(self) -> dict[str, Tensor]:
        """What it must remember to go on, besides the episodes."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from there."""

    def summary(self) -> dict[str, float]:
        """Figures of its own for the receipt."""


@dataclass(frozen=True)
class Answer:
    """What a search found.

    Attributes:
        kept: units per layer, [L].
        cost: of them, percent of the dense network.
        episode: the episode they come from, from 0; None where there was none.
        feasible: how many episodes were within the budget.
    """

    kept: tuple[int, ...]
    cost: float
    episode: int | None
    feasible: int


def answer(problem: FractionProblem, episodes: Episodes) -> Answer:
    """The best episode within the budget; of equal rewards the first.

    Where none was within it, the cheapest one's layers are thinned by a common factor until they are, and one after the
    other gets a unit more as long as there is room.
    """
    fits = episodes.costs <= problem.budget
    if bool(fits.any()):
        rewards = episodes.rewards.masked_fill(~fits, -torch.inf)
        best = int(torch.argmax((fits & (rewards == rewards.max())).int()))
        kept = tuple(episodes.kept[best].tolist())
        return Answer(kept, float(episodes.costs[best]), best, int(fits.sum()))
    nearest = int(torch.argmin(episodes.costs)) if len(episodes) else None
    counts = problem.deepest if nearest is None else episodes.kept[nearest].tolist()
    least = [min(problem.least, layer.units) for layer in problem.layers]
    most = [layer.units for layer in problem.layers]
    thinned = spent_up(counts, least, most, problem.fits)
    return Answer(tuple(thinned), problem.cost(thinned), nearest, 0)


def layer_features(model: nn.Module, layers: Sequence[LayerUnits]) -> Tensor:
    """What a policy sees of layers besides what it did: float64 [L, 9], each column divided by its largest value.

    Place, inputs, outputs, kernel (2), stride (2) and padding (2), as in the released environment; a linear layer is a
    convolution with a kernel of 1. Scaled, since widths of hundreds would saturate a small network of tanh.

    Args:
        model: the network.
        layers: that take part; of coupled channels the first weight is looked at.
    """
    owners = holders(model)
    rows = []
    for place, layer in enumerate(layers):
        ((_, module), *_), shape = owners[layer.name], layer.shape
        inputs = _whole(module, ("in_channels", "in_features"), shape[1] if len(shape) > 1 else 1)
        outputs = _whole(module, ("out_channels", "out_features"), shape[0])
        kernel = _pair(shape[2:], 1)
        stride, padding = _pair(getattr(module, "stride", 1), 1), _pair(getattr(module, "padding", 0), 0)
        rows.append([float(place), float(inputs), float(outputs), *kernel, *stride, *padding])
    table = torch.tensor(rows, dtype=torch.float64)
    return table / table.abs().amax(0).clamp(min=1.0)


def _whole(module: nn.Module, names: Sequence[str], default: int) -> int:
    return next((int(getattr(module, name)) for name in names if isinstance(getattr(module, name, None), int)), default)


def _pair(value: Any, default: int) -> list[float]:
    """The first two of some numbers; one number counts twice, and a word such as ``same`` is the default."""
    numbers = [value] * 2 if isinstance(value, int) else [one for one in value if isinstance(one, int)][:2]
    numbers = numbers * 2 if len(numbers) == 1 else numbers or [default, default]
    return [float(number) for number in numbers]
