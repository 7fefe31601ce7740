"""When a dynamics acts and what share it drops: events counted from the start of the retraining."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from typing import Any

from prune_search.pruning.mask.counts import PRECISION, exact
from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.fields import ClockStep, Length, Number, Value, Word, scores_weights
from prune_search.recipe.recipe import Named
from prune_search.recipe.registry import Option
from prune_search.recipe.step import Step

# How the dropped share falls, from 1 to 0, between the first place and the last: from (steps gone, steps in all).
ANNEALS: dict[str, Callable[[int, int], float]] = {
    "constant": lambda gone, span: 1.0,
    "cosine": lambda gone, span: (1.0 + math.cos(math.pi * gone / span)) / 2.0,
    "linear": lambda gone, span: 1.0 - gone / span,
}
# What the weights that grow start with, see `drop_and_grow.GROWN`.
INITS = ("zeros", "normal", "uniform")


def drop_options(drop: float, anneal: str, to: float, every: str, until: str) -> dict[str, Option]:
    """The options of a dynamics that drops and grows weights, with the defaults of its paper."""
    return {
        "drop": Option(Number(0.0, 1.0), drop, "share of a layer's kept weights dropped at the first event"),
        "anneal": Option(Word(tuple(ANNEALS)), anneal, "path of that share from `drop` to `to`"),
        "to": Option(Number(0.0, 1.0), to, "the share at `until`"),
        "criterion": Option(Value(CRITERIA, scores_weights), "magnitude", "criterion whose lowest scores are dropped"),
        "from": Option(ClockStep(), "0it", "step from which events are counted, from the start of the retraining"),
        "until": Option(ClockStep(), until, "step after which there are no more events"),
        "every": Option(Length(positive=True), every, "between two events"),
        "init": Option(Word(INITS), "zeros", "initial value of grown weights"),
    }


def events_in(total: int, epoch: int, **options: Any) -> int:
    """How many events a retraining of `total` steps has, from the options that `drop_options` describes."""
    events = Events.of(options, total, epoch)
    return len(range(events.begin, min(events.end, total), events.every))


def misplaced(total: int, epoch: int, **options: Any) -> Iterator[tuple[str, str]]:
    """What is wrong with ``from`` and ``until`` on a retraining of `total` steps: (option, message) each."""
    places = {key: Step.parse(options[key]).resolve(total, epoch) for key in ("from", "until") if key in options}
    for key, step in places.items():
        if not 0 <= step <= total:
            where = "past the end" if step > total else "before the beginning"
            yield key, f"{options[key]} is {where} of the retraining ({total}it)"
    if "from" in places and places["until"] < places["from"]:
        yield "until", f"{options['until']} comes before from ({options['from']})"


def unfit(total: int, epoch: int, **options: Any) -> Iterator[tuple[str, str]]:
    """`misplaced`, and a criterion that cannot say which weight is dropped."""
    yield from misplaced(total, epoch, **options)
    criterion = Named.of(CRITERIA, options["criterion"])
    facts = criterion.entry(CRITERIA).facts
    allowed = facts.granularities
    if allowed is not None and "weight" not in allowed:
        yield (
            "criterion",
            f"{criterion.name} works only with granularity {', '.join(allowed)}; here single weights move",
        )
    if facts.trains:
        yield "criterion", f"{criterion.name} trains its scores, which is not possible during a retraining"


@dataclass(frozen=True)
class Events:
    """The steps at which weights are dropped and grown, and the share that is dropped.

    Attributes:
        begin: where they are counted from.
        end: the first step without any.
        every: steps between two, at least 1.
        drop: share at `begin`.
        to: share at `end`.
        anneal: name of the fall between them.
    """

    begin: int
    end: int
    every: int
    drop: Decimal
    to: Decimal
    anneal: str

    @classmethod
    def of(cls, options: Mapping[str, Any], total: int, epoch: int) -> Events:
        """From the options that `drop_options` describes, on a retraining of `total` steps."""
        begin, end, every = (Step.parse(options[key]).resolve(total, epoch) for key in ("from", "until", "every"))
        return cls(begin, end, max(1, every), exact(options["drop"]), exact(options["to"]), options["anneal"])

    def due(self, step: int) -> bool:
        """Whether a step is an event."""
        return self.begin <= step < self.end and (step - self.begin) % self.every == 0

    def share(self, step: int) -> Decimal:
        """ζ(t), the share that is dropped at a step.

        Example:
            With drop 0.3 falling to 0 by a cosine over 100 steps: 0.3 at 0, 0.15 at 50 (Evci et al. 2020, 1911.11134,
            section 3: ζ/2 (1 + cos(π t / T_end))).
        """
        with localcontext() as context:
            context.prec = PRECISION
            left = Decimal(ANNEALS[self.anneal](step - self.begin, max(1, self.end - self.begin)))
            return self.to + (self.drop - self.to) * left

    def dropped(self, kept: int, step: int, up: bool = False) -> int:
        """Weights that are dropped of `kept`: ⌊ζ·kept⌋, or ⌈ζ·kept⌉."""
        with localcontext() as context:
            context.prec = PRECISION
            return int((self.share(step) * kept).to_integral_value(ROUND_CEILING if up else ROUND_FLOOR))
