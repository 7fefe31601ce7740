"""Gibbs pruning: each forward pass uses a random mask, and the randomness is annealed away."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from prune_search.pruning.mask.counts import exact
from prune_search.pruning.retrain.dynamics.gradual import share_at
from prune_search.recipe.axes import CRITERIA, DYNAMICS, PATHS
from prune_search.recipe.facts import DynamicsFacts
from prune_search.recipe.fields import ClockStep, Integer, Length, Number, Value, Word, read_block
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.reading import Reading
from prune_search.recipe.recipe import Named
from prune_search.recipe.registry import Option
from prune_search.recipe.step import Step

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_search.pruning.retrain.context import DynamicsContext
    from prune_search.training.loop import Hook
else:
    from prune_search.lazy import torch

KINDS = ("weight", "kernel", "filter")
BETA: dict[str, Option] = {
    "path": Option(Value(PATHS), "exponential", "path of β from its first to its last value"),
    "from": Option(Number(0.0, above=True), 1.0, "first value of β, in units of 1 / w²"),
    "to": Option(Number(0.0, above=True), 1.0e4, "last value of β"),
    "until": Option(ClockStep(), "64%", "step that reaches the last value, counted from the start of the retraining"),
    "every": Option(Length(positive=True), "1ep", "length for which each β is held"),
    "last": Option(
        Word(("at", "before")),
        "at",
        "the last value comes at `until`, or with the last interval before it, as in the released code",
        later=True,
        released="before",
    ),
}


@dataclass(frozen=True)
class Annealing:
    """How β grows."""

    @property
    def options(self) -> Mapping[str, Option]:
        """Its keys."""
        return BETA

    def describe(self) -> str:
        return f"a mapping with the keys {', '.join(BETA)}"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        return read_block(BETA, raw, path, reading)


def _misplaced(total: int, epoch: int, **options: Any) -> Iterator[tuple[str, str]]:
    step = Step.parse(options["beta"]["until"]).resolve(total, epoch)
    if not 0 <= step <= total:
        where = "past the end" if step > total else "before the beginning"
        yield "beta.until", f"{options['beta']['until']} is {where} of the retraining ({total}it)"


def _check(granularity: str, **options: Any) -> str:
    kind = options["hamiltonian"]
    return "" if kind == granularity else f"couples the weights of a {kind}, so mask.granularity must be {kind}"


@DYNAMICS.register(
    "gibbs",
    summary="each step uses a random mask from a Gibbs distribution, which is annealed to the final mask",
    source="Labach & Valaee 2020, A Framework for Neural Network Pruning Using Gibbs Distributions, 2006.04981",
    options={
        "hamiltonian": Option(Word(KINDS), "weight", "weights that are sampled together; must match the granularity"),
        "beta": Option(Annealing(), {}, "the inverse temperature: {path, from, to, until, every, last}"),
        "coupling": Option(
            Number(0.0), 1.0, "c: how strongly the weights of a kernel or filter are coupled (kernel: 0.01)"
        ),
        "sweeps": Option(Integer(1, 10_000), 50, "sweeps of Gibbs sampling, for hamiltonian filter"),
        "finish": Option(
            Word(("deterministic",)),
            "deterministic",
            "final mask: remove exactly the requested number of units, those of smallest Σw²",
        ),
    },
    # Another mask in every step, of weights that all stay.
    facts=DynamicsFacts(
        kind="sampled",
        starts_from="all",
        granularities=KINDS,
        scopes=("uniform",),
        settles=lambda total, epoch, **options: total,
        mean_kept=lambda share, total, epoch, **options: 1.0,
        misplaced=_misplaced,
        check=_check,
    ),
)
def gibbs(moving: DynamicsContext, **options: Any) -> Hook:
    """The forward pass of each step sees w ⊙ m with m drawn anew; the gradient of w is that of w ⊙ m times m.

    No weight is lost before the end: all go on being trained, and what optimizers do besides the gradient (momentum,
    weight decay) acts on all. At the end the lowest units by Σw² are removed, exactly as many as asked.

    Raises:
        UserError: the Hamiltonian is not the granularity's.
    """
    from prune_search.pruning.mask.finder import find_mask
    from prune_search.pruning.mask.rule import MaskRule
    from prune_search.training.loop import Hook

    if wrong := _check(moving.rule.granularity.name, **options):
        raise UserError([Problem("retrain.dynamics.hamiltonian", wrong)])
    sampler = _Sampler(moving, options)

    def at_end() -> None:
        sampler.restore()
        given = moving.rule
        rule = MaskRule(Named.of(CRITERIA, "l2"), given.scope, given.granularity, given.score, None, given.rounding)
        found = find_mask(moving.network.model, rule, moving.share, None, moving.scoring_data(moving.total))
        moving.keeper.set(found)

    return Hook("gibbs", before_step=sampler.mask, after_backward=sampler.after_backward, at_end=at_end)


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer that takes part.

    Attributes:
        name: of its weight.
        split: from the weight to [units, weights of a unit].
        places: where those lie in the weight, int [units, n].
        half: how many of a unit's weights belong to the first half of its input channels.
    """

    name: str
    split: Callable[[Tensor], Tensor]
    places: Tensor
    half: int


class _Sampler:
    """Puts random masks on the weights for a forward and a backward pass, and takes them off."""

    def __init__(self, moving: DynamicsContext, options: Mapping[str, Any]) -> None:
        beta = options["beta"]
        self.moving = moving
        self.options = options
        self.path = Named.of(PATHS, beta["path"]).name
        self.until, every = (Step.parse(beta[key]).resolve(moving.total, moving.epoch) for key in ("until", "every"))
        self.every = max(1, every)
        # The step from which β has its last value.
        before = beta.get("last", "at") == "before"
        self.reached = (self.until - 1) // self.every * self.every if before else self.until
        self.parameters = moving.keeper.parameters
        # Per layer, the unmasked weight and the mask while it is on.
        self.held: dict[str, tuple[Tensor, Tensor]] = {}

    @cached_property
    def layers(self) -> list[_Layer]:
        from prune_search.pruning.mask.finder import units_in

        found = []
        for one in units_in(self.moving.network.model, self.moving.rule, self.moving.scoring_data(0)):
            split = one.parts[0].split
            shape = self.parameters[one.name].shape
            places = split(torch.arange(shape.numel()).reshape(shape))
            kernel = math.prod(shape[2:])
            found.append(_Layer(one.name, split, places, places.shape[1] // kernel // 2 * kernel))
        return found

    @cached_property
    def seed(self) -> int:
        return self.moving.scoring_data(0).seed

    def beta(self, step: int) -> float:
        """β at a step: held for `every` steps, and at its end from `until`, or the interval before it, on."""
        at = self.until if step >= self.until else step // self.every * self.every
        begin, end = (exact(self.options["beta"][key]) for key in ("from", "to"))
        return float(begin * share_at(self.path, end / begin, at, 0, self.reached))

    def drawn(self, layer: _Layer, step: int) -> Tensor:
        """The mask of a layer at a step, shaped like its weight: a function of (seed, step, layer, weights)."""
        from prune_search.pruning.retrain.gibbs_masks import HAMILTONIANS, Field, quantile
        from prune_search.training.randomness import generator

        weight = self.parameters[layer.name].detach()
        squares = layer.split(weight).double().square()
        level = quantile(squares.mean(1), float(1 - self.moving.share))
        options = self.options
        field = Field(squares - level, self.beta(step), float(options["coupling"]), options["sweeps"], layer.half)
        random = generator(self.seed, "gibbs", step, layer.name)
        kept = HAMILTONIANS[options["hamiltonian"]](
            field, lambda shape: torch.rand(shape, generator=random, dtype=torch.float64)
        )
        mask = torch.empty(weight.numel(), dtype=torch.bool, device=weight.device)
        mask[layer.places.reshape(-1).to(weight.device)] = kept.to(weight.device).reshape(-1)
        return mask.reshape(weight.shape)

    def mask(self, step: int) -> None:
        """Put the masks of a step on, unless some are on already."""
        if self.held:
            return
        with torch.no_grad():
            for layer in self.layers:
                weight = self.parameters[layer.name]
                mask = self.drawn(layer, step)
                self.held[layer.name] = (weight.detach().clone(), mask)
                weight.masked_fill_(~mask, 0.0)

    def restore(self) -> None:
        """Take the masks off."""
        with torch.no_grad():
            for name, (whole, _) in self.held.items():
                self.parameters[name].copy_(whole)
        self.held.clear()

    def after_backward(self, step: int) -> None:
        """Mask the gradients, and take the masks off the weights."""
        for name, (_, mask) in self.held.items():
            gradient = self.parameters[name].grad
            if gradient is not None:
                gradient.masked_fill_(~mask, 0.0)
        self.restore()
