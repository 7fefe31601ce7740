"""Trains the scores of a learned mask while the weights stay bit-identical.

Of a network that is sharded over workers, each trains the scores of the weights that it holds: scores are DTensors
shaped like the weights then, and factors those of this worker's part.

Before a step's forward pass the weights of the network are those under the step's factors, w ⊙ f(s); when the gradients
are there, the weights are put back and the gradient goes on to the scores s. So the training loop trains scores as it
trains weights, and every state that is stored has the weights that the segment began with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.units import Part, UnitSet, in_order
from prune_search.tasks.shards import divided_like, part_of, resharded
from prune_search.training.loop import Hook

NAME = "learned"
Scores = Mapping[str, nn.Parameter]
Factors = dict[str, Tensor]


def learned_scores(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The scores in a stored state: per set, [units]."""
    prefix = f"hook/{NAME}/"
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


@dataclass(frozen=True)
class _Place:
    """Which unit of a set every place of a parameter belongs to.

    Attributes:
        set_name: of the set.
        owner: index of the unit for each place, flat, or the number of units where no unit owns it; None where the
            places are the units in their order.
    """

    set_name: str
    owner: Tensor | None

    @classmethod
    def of(cls, one: UnitSet, part: Part, shape: torch.Size, device: torch.device) -> _Place:
        if in_order(one):
            return cls(one.name, None)
        places = part.split(torch.arange(shape.numel()).reshape(shape))
        units = part.kept(torch.arange(one.size))
        owner = torch.full((shape.numel(),), one.size)
        owner[places.reshape(-1)] = units.repeat_interleave(places.shape[1])
        return cls(one.name, owner.to(device))

    def spread(self, factors: Factors, shape: torch.Size) -> Tensor:
        """The factors of the units as one of every place."""
        units = factors[self.set_name]
        if self.owner is None:
            return units.reshape(shape)
        return torch.cat([units, units.new_ones(1)])[self.owner].reshape(shape)


class MaskLearner:
    """Trains one score per unit.

    Attributes:
        scores: per set, [units], or DTensors shaped like sharded weights; what the optimizer trains.
        factors: from the step to what each unit's weights are multiplied by, [units] per set, as a function of the
            scores that can be differentiated.
        penalty: added to the loss, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        sets: Sequence[UnitSet],
        scores: Scores,
        factors: Callable[[int], Factors],
        penalty: Callable[[], Tensor] | None = None,
    ) -> None:
        resharded(model)
        self.model = model
        self.scores = scores
        self.factors = factors
        self.penalty = penalty
        self.parameters = dict(model.named_parameters())
        self.places: dict[str, list[_Place]] = {}
        for one in sets:
            for part in one.parts:
                weight = part_of(self.parameters[part.parameter])
                place = _Place.of(one, part, weight.shape, weight.device)
                self.places.setdefault(part.parameter, []).append(place)
        self.frozen: list[str] = []
        self.dense: dict[str, Tensor] = {}
        self.masked: dict[str, Tensor] = {}

    def at_start(self) -> None:
        """Remember the weights, and which of them ask for no gradients."""
        self.frozen = [name for name in self.places if not self.parameters[name].requires_grad]
        resharded(self.model)
        self.dense = {name: part_of(self.parameters[name]).clone() for name in self.places}

    def before_step(self, step: int) -> None:
        """Put the weights under this step's factors into the network."""
        factors = self.factors(step)
        for name, places in self.places.items():
            shape = self.dense[name].shape
            factor = places[0].spread(factors, shape)
            for place in places[1:]:
                factor = factor * place.spread(factors, shape)
            self.masked[name] = self.dense[name] * factor
            with torch.no_grad():
                part_of(self.parameters[name]).copy_(self.masked[name])
            self.parameters[name].requires_grad_(True)

    def after_backward(self, step: int) -> None:
        """Hand the gradients on to the scores, and put the weights back."""
        reached = [(self.masked[name], self.parameters[name].grad) for name in self.places]
        reached = [
            (masked, part_of(gradient)) for masked, gradient in reached if gradient is not None and masked.requires_grad
        ]
        if reached:
            torch.autograd.backward([masked for masked, _ in reached], [gradient for _, gradient in reached])
        if self.penalty is not None:
            self.penalty().backward()  # type: ignore[no-untyped-call]
        self.masked = {}
        for parameter in self.parameters.values():
            parameter.grad = None
        with torch.no_grad():
            for name, weight in self.dense.items():
                part_of(self.parameters[name]).copy_(weight)
        for name in self.frozen:
            self.parameters[name].requires_grad_(False)

    def state(self) -> dict[str, Tensor]:
        """The scores."""
        return {name: score.detach() for name, score in self.scores.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from stored scores, one tensor [units] per unit set."""
        with torch.no_grad():
            for name, score in self.scores.items():
                score.copy_(state[name])

    def hook(self) -> Hook:
        """As a hook of the training loop."""
        return Hook(
            NAME,
            at_start=self.at_start,
            before_step=self.before_step,
            after_backward=self.after_backward,
            state=self.state,
            load=self.load,
        )


def score_parameters(
    sets: Sequence[UnitSet],
    device: torch.device,
    draw: Callable[[UnitSet], Tensor],
    like: Mapping[str, Tensor] | None = None,
) -> Scores:
    """One score per unit, as parameters [units] on a device.

    Args:
        sets: of units.
        device: where they lie.
        draw: gives those of a set, [units].
        like: the sharded weights by the sets' names, each of whose weights is a unit: scores lie where they do.
    """
    if like is not None:
        return {
            one.name: nn.Parameter(divided_like(draw(one).float().reshape(one.shape), like[one.name])) for one in sets
        }
    return {one.name: nn.Parameter(draw(one).to(device=device, dtype=torch.float32)) for one in sets}
