"""Counts the operations of training, forward and backward, dense and without masked weights.

Multiplications and additions of convolutions and linear layers, 2 per weight and place of the output. A backward pass
is a gradient of the layer's inputs and one of its weights, each as much as the forward pass (Evci et al. 2020,
1911.11134, appendix H). The sparse figures are theoretical: they say what a mask would spare where zeros cost nothing.
Passes that only score, and train nothing, are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.recipe import axes
from prune_search.recipe.recipe import Named

if TYPE_CHECKING:
    from prune_search.trial.rounds import Round
    from prune_search.trial.setup import TrialSetup


@dataclass(frozen=True)
class Operations:
    """Operations of all training steps.

    Attributes:
        forward_dense: of the forward passes of the dense network.
        backward_dense: of its backward passes.
        forward_sparse: of the forward passes, but for what a mask removes.
        backward_sparse: of the backward passes, likewise; gradients of removed weights count where a method needs them.
    """

    forward_dense: float = 0.0
    backward_dense: float = 0.0
    forward_sparse: float = 0.0
    backward_sparse: float = 0.0

    def __add__(self, other: Operations) -> Operations:
        return Operations(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def as_data(self) -> dict[str, float]:
        """The figures by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True)
class Costs:
    """What a step of a network costs.

    Attributes:
        layers: by weight, operations of the dense layer's forward pass for a batch.
        sizes: by weight, how many values it has; empty: as many as its mask. A layer that others were fused into has
            more, and as many outputs as before.
    """

    layers: Mapping[str, float]
    sizes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, setup: TrialSetup) -> Costs:
        """Of a recipe's network and batch."""
        layers = {name: cost * setup.recipe.train.step_examples for name, cost in setup.flops.items()}
        return cls(layers, {name: weight.numel() for name, weight in setup.weights.items()})

    @property
    def dense(self) -> float:
        """A forward pass of the dense network."""
        return sum(self.layers.values())

    def sparse(self, masks: MaskSet | None) -> float:
        """A forward pass under a mask; None: nothing is removed."""
        if masks is None:
            return self.dense
        return sum(
            cost * masks.kept[name] / self.sizes.get(name, masks[name].numel()) for name, cost in self.layers.items()
        )

    def steps(self, count: int, forward: float | None = None, full_gradients: int = 0) -> Operations:
        """Some training steps.

        Args:
            count: how many.
            forward: of one sparse forward pass; None: the network is dense.
            full_gradients: in how many of them the gradients of removed weights are computed too.

        Example:
            Ten steps at a tenth of 100 operations, in one of which all gradients are needed: forward 10 * 10, backward
            10 * 10 for the inputs, 9 * 10 + 100 for the weights.
        """
        sparse = self.dense if forward is None else forward
        weights = (count - full_gradients) * sparse + full_gradients * self.dense
        return Operations(count * self.dense, 2 * count * self.dense, count * sparse, count * sparse + weights)


def spent_in(item: Round, costs: Costs) -> Operations:
    """The operations of a round, up to its end; its segments are known."""
    return spent_until(item, costs, item.masks, item.end.known_length())


def spent_until(item: Round, costs: Costs, masks: MaskSet, step: int) -> Operations:
    """The operations of a round, up to a step of the segment that it ends with.

    What scores in steps of its own, prepares or adjusts trains under the mask of the round before. Where the mask
    moves, layers are taken to be thinned alike: the mean kept share places the cost between the dense network's and the
    final one's. Nothing is looked at but the masks, so that no state is trained again for these figures.

    Args:
        item: the round; its segments before the last are known.
        costs: of a step.
        masks: those that hold at the step.
        step: of `item.end`, from 1.
    """
    retrained = item.retraining.known_length()
    controlled = item.controlled.known_length() if item.controlled else 0
    apart = item.needed(done=True) - item.untrained_steps() - retrained - controlled
    found = costs.steps(apart, costs.sparse(item.before.masks if item.before else None))
    done = retrained if item.controlled else step
    retrain = item.setup.recipe.retrain
    if retrain is not None and retrain.dynamics is not None:
        found += _moving(item, costs, masks, (done, retrained), retrain.dynamics)
    else:
        found += costs.steps(done, costs.sparse(masks))
    return found + costs.steps(step if item.controlled else 0, costs.sparse(masks))


def _moving(item: Round, costs: Costs, masks: MaskSet, part: tuple[int, int], dynamics: Named) -> Operations:
    """Of a retraining that moves its mask, the first steps of all (`part`), which led to these masks."""
    done, total = part
    facts, epoch = dynamics.entry(axes.DYNAMICS).facts, item.setup.timeline.epoch
    # The mask is known or stored: what it was found on may be gone. A control keeps as many of every layer.
    share = sum(masks.kept.values()) / sum(mask.numel() for mask in masks.values())
    mean = float(facts.mean_kept(share, total, epoch, **dynamics.options))
    full = min(int(facts.full_gradients(total, epoch, **dynamics.options)), total)
    if done < total:
        settled = int(facts.settles(total, epoch, **dynamics.options)) <= done
        # From there on the asked share holds for the rest; before, it is taken to have fallen evenly from all.
        mean = (mean * total - share * (total - done)) / done if settled else (1.0 + share) / 2.0
        full = full * done // total
    now = costs.sparse(masks)
    thinned = (1.0 - mean) / (1.0 - share) if share < 1.0 else 0.0
    return costs.steps(done, costs.dense - (costs.dense - now) * thinned, full)
