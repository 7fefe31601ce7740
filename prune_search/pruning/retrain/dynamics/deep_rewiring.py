"""DeepR: drops connections whose weight changes sign and grows random ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from prune_search.pruning.retrain.events import misplaced
from prune_search.recipe.axes import DYNAMICS
from prune_search.recipe.facts import DynamicsFacts
from prune_search.recipe.fields import ClockStep, Number, Word
from prune_search.recipe.registry import Option
from prune_search.recipe.step import Step

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_search.pruning.retrain.context import DynamicsContext
    from prune_search.pruning.retrain.drop_and_grow import Rewiring
    from prune_search.training.loop import Hook
else:
    from prune_search.lazy import torch

# Which layers share a number of connections: from the layers to groups of them.
WITHIN: dict[str, Callable[[tuple[str, ...]], list[tuple[str, ...]]]] = {
    "layer": lambda names: [(name,) for name in names],
    "network": lambda names: [names],
}


@DYNAMICS.register(
    "deepr",
    summary="drops weights that cross zero and grows random ones; the number of connections is constant",
    source="Bellec, Kappel, Maass & Legenstein 2018, Deep Rewiring, 1711.05136, algorithm 1",
    options={
        "alpha": Option(
            Number(0.0), 1.0e-5, "L1 coefficient: each step reduces the magnitude of kept weights by η·α", in_0_1=1.0e-4
        ),
        # The released noise, η times a draw of standard deviation 1e-5, at the released rate of 0.5.
        "temperature": Option(
            Number(0.0),
            2.5e-11,
            "T: each step adds noise of √(2·η·T) times a normal draw to kept weights",
            in_0_1=1.0e-5,
        ),
        "until": Option(
            ClockStep(), "end", "end of noise, decay and rewiring, counted from the start of the retraining"
        ),
        "within": Option(Word(tuple(WITHIN)), "layer", "keep the number of connections constant per layer, or overall"),
    },
    facts=DynamicsFacts(granularities=("weight",), misplaced=misplaced),
)
def deepr(moving: DynamicsContext, **options: Any) -> Hook:
    """Every step: w = s·θ with θ ← θ - η ∂E/∂θ - η α + √(2 η T) ν for kept weights, η the learning rate of the step.

    The sign s of a place is that of the weight that begins there, and drawn where none does. After the step's update a
    kept weight with θ < 0 goes, and as many of the masked places, drawn uniformly, come at θ = 0. The optimizer's
    momentum and weight decay, if any, act as ever.
    """
    from prune_search.training.loop import Hook

    until = Step.parse(options["until"]).resolve(moving.total, moving.epoch)
    network = _Signed(moving, WITHIN[options["within"]])

    def before_step(step: int) -> None:
        if 0 < step <= until:
            network.rewire(step)

    def after_backward(step: int) -> None:
        if step < until:
            network.disturb(step, float(options["alpha"]), float(options["temperature"]))

    def at_end() -> None:
        if until >= moving.total:
            network.rewire(moving.total)

    return Hook(
        "deepr",
        at_start=network.fix_signs,
        before_step=before_step,
        after_backward=after_backward,
        at_end=at_end,
        state=lambda: network.signs,
        load=network.load,
    )


class _Signed:
    """A network whose connections have a sign each."""

    def __init__(self, moving: DynamicsContext, groups: Callable[[tuple[str, ...]], list[tuple[str, ...]]]) -> None:
        from prune_search.pruning.retrain.drop_and_grow import Rewiring

        self.rewiring: Rewiring = Rewiring(moving)
        self.optimizer = moving.optimizer
        self.groups = groups
        # Per layer, bool [n]: True where the sign is positive.
        self.signs: dict[str, Tensor] = {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.signs.update({name: value.cpu() for name, value in state.items()})

    def fix_signs(self) -> None:
        """Give every place a sign that has none yet."""
        for name in self.rewiring.layers:
            if name not in self.signs:
                weight = self.rewiring.flat(self.rewiring.weight(name))
                drawn = self.rewiring.uniform("signs", 0, name) < 0.5
                self.signs[name] = torch.where(weight == 0, drawn, weight > 0)

    def disturb(self, step: int, alpha: float, temperature: float) -> None:
        """Decay and noise on the kept weights."""
        self.fix_signs()
        rates = {id(p): float(group["lr"]) for group in self.optimizer.param_groups for p in group["params"]}
        with torch.no_grad():
            for name in self.rewiring.layers:
                weight = self.rewiring.keeper.parameters[name]
                rate = rates.get(id(weight), 0.0)
                sign = self.signs[name].float() * 2 - 1
                noise = self.rewiring.normal("noise", step, name)
                change = math.sqrt(2 * rate * temperature) * noise - rate * alpha
                change = torch.where(self.rewiring.kept(name), sign * change, 0.0)
                weight.add_(change.reshape(weight.shape).to(weight))

    def rewire(self, step: int) -> None:
        """What has crossed zero goes, and as many come."""
        from prune_search.pruning.mask.mask_set import Pool, select

        self.fix_signs()
        kept = {name: self.rewiring.kept(name) for name in self.rewiring.layers}
        left = {}
        for name, mask in kept.items():
            weight = self.rewiring.flat(self.rewiring.weight(name))
            left[name] = mask & ~torch.where(self.signs[name], weight < 0, weight > 0)
        pools = []
        for names in self.groups(self.rewiring.layers):
            gone = sum(int((kept[name] & ~left[name]).sum()) for name in names)
            if gone:
                pools.append(Pool(names, gone))
        if not pools:
            return
        moved = [name for pool in pools for name in pool.names]
        scores = {name: self.rewiring.uniform("growth", step, name) for name in moved}
        come = select(scores, {name: ~left[name] for name in moved}, pools)
        # Set twice, so that one that goes and comes again at once starts at 0 too.
        self.rewiring.set({name: left[name] for name in moved})
        self.rewiring.set({name: left[name] | come[name] for name in moved})
