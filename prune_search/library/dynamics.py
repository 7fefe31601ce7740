"""Library functions for masks that move in your own training loop."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.library import arguments, calls
from prune_search.library.arguments import AnyBatches, Given, Loss
from prune_search.library.calls import told_in_one_line
from prune_search.library.penalties import plain_rule
from prune_search.pruning.mask.finder import find_mask, units_and_others
from prune_search.pruning.mask.mask_set import MaskSet, keep_all
from prune_search.pruning.mask.rule import ScoringData
from prune_search.pruning.retrain.context import DynamicsContext
from prune_search.pruning.retrain.mask_keeper import MaskKeeper
from prune_search.recipe import axes
from prune_search.recipe.fields import ClockStep, Length, Value
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown
from prune_search.recipe.reading import BAD
from prune_search.recipe.recipe import Named
from prune_search.recipe.registry import Option
from prune_search.recipe.step import Step
from prune_search.tasks.layers import check_network
from prune_search.tasks.network import prunable_weights
from prune_search.tasks.shards import is_sharded
from prune_search.training.loop import Hook, Network

# Python keeps `from` for itself.
SPOKEN = {"begin": "from", "end": "until"}


def _network(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor]) -> Network:
    return Network(model, next(model.parameters()).device, contextlib.nullcontext, loss)


class Dynamics:
    """A mask that moves while you train.

    Call `step` after ``loss.backward()``, instead of ``optimizer.step()``: it holds the masked weights, their
    gradients and their momentum at zero, and steps the optimizer. When the mask is due to move (an event), it moves
    before the forward pass of that step, as in a recipe, so that the gradients are those of the network with the new
    mask. A hook on the network does this at the first forward pass after the previous step (in training mode, or with
    gradients). Events of ``rigl`` need the gradients, so they happen in `step`, instead of the update.

    Args:
        name: a registered dynamics, such as ``gradual``.
        model: the network.
        optimizer: an optimizer of its parameters.
        sparsity: share of the units in scope removed at the end, 0 to 1.
        scope, granularity: as in `find_mask`.
        steps: length of the training in steps, for options in percent; None: the option ``end``.
        epoch: steps per epoch, for options such as ``3ep``.
        mask: the initial mask; None: everything is kept, or for a dynamics that moves a mask of constant size, a
            random mask of the requested sparsity.
        batches, loss, mode: for criteria that need data, as in `find_mask`; batches may be a function from the step.
        rounding: of counts, as in `find_mask`.
        example_input: inputs, as in `find_mask`.
        start: the first step, if a training continues at a later one.
        seed: seed of random draws.
        options: of the dynamics. Steps are whole numbers or as in a recipe (``5%``, ``3ep``); ``begin`` and ``end``
            stand for ``from`` and ``until``, also within an option that is a mapping (``beta`` of gibbs).

    Raises:
        UserError: an argument is invalid.

    Example:
        >>> dynamics = Dynamics("gradual", model, optimizer, sparsity=0.9, begin=0, end=1000, every=100)
        >>> for i, (x, y) in enumerate(loader):
        ...     optimizer.zero_grad()
        ...     loss(model(x), y).backward()
        ...     dynamics.step(i)
    """

    @told_in_one_line
    def __init__(
        self,
        name: str,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        sparsity: float | Decimal | None = None,
        scope: Given = "global",
        granularity: Given = "weight",
        steps: int | None = None,
        epoch: int = 1,
        mask: MaskSet | None = None,
        batches: AnyBatches | None = None,
        loss: Loss = "cross-entropy",
        mode: str | None = None,
        rounding: str = "half-up",
        example_input: Any = None,
        start: int = 0,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if not isinstance(name, str) or name not in axes.DYNAMICS:
            raise UserError([Problem("name", not_one_of(name, axes.DYNAMICS))])
        entry = axes.DYNAMICS[name]
        check_network(model, sharded=entry.facts.sharded)
        if steps is not None:
            calls.whole("steps", steps, 1)
        if mask is not None:
            calls.mask_for(model, mask)
        calls.whole("epoch", epoch, 1)
        calls.whole("start", start, 0)
        written = _spoken(entry.options, options)
        named = arguments.value(axes.DYNAMICS, name, "dynamics", written)
        rule = plain_rule("random", scope, granularity, loss, mode, rounding)
        arguments.together(rule, BAD, named)
        scoring_data = arguments.evidence_of(model, batches, example_input, seed)
        for key, option in entry.options.items():
            if isinstance(option.field, Value) and option.field.axis is axes.CRITERIA:
                arguments.needs_batches(Named.of(axes.CRITERIA, named.options[key]), scoring_data)
        share = arguments.share_of(model, rule, sparsity, scoring_data)
        if mask is None:
            whole = entry.facts.starts_from == "all"
            mask = keep_all(prunable_weights(model)) if whole else find_mask(model, rule, share, None, scoring_data)
            _, others = units_and_others(model, rule, scoring_data)
            mask = arguments.told_of(mask.of_network(model, others))
        self.optimizer = calls.optimizer_of(model, optimizer)
        self._keeper = MaskKeeper(model, mask, optimizer)
        total = _total(named, steps, epoch)
        wrong = entry.facts.misplaced(total, epoch, **named.options)
        if problems := [Problem(f"dynamics.{key}", message) for key, message in wrong]:
            raise UserError(problems)
        shown_at = functools.partial(_evidence_at, scoring_data)
        moving = DynamicsContext(
            _network(model, rule.loss()), self._keeper, optimizer, rule, share, total, epoch, shown_at
        )
        self._hooks = [entry.build(Hook, moving, **named.options), self._keeper.hook()]
        self._next = start
        # The step whose mask is there.
        self._moved: int | None = None
        # A random mask of one step is for the forward passes that train; any other stays.
        self._sampled = entry.facts.kind == "sampled"
        # Before a sharded network gathers its weights, which no mask can be put on then.
        first = is_sharded(model)
        self._handle = model.register_forward_pre_hook(lambda module, inputs: self._forward(module), prepend=first)

    @property
    def mask(self) -> MaskSet:
        """The current mask."""
        return self._keeper.masks

    def step(self, i: int, closure: Callable[[], Any] | None = None) -> None:
        """Take one training step, in place of the optimizer's.

        Args:
            i: the step, from 0.
            closure: for optimizers that take one.

        Warns:
            UserWarning: the mask moves here, after the gradients were computed, because no forward pass was seen.

        Raises:
            ScoreError: a score is not a number.
        """
        self._next = i
        before = self.mask
        self._before()
        if self.mask is not before and closure is None:
            warnings.warn(
                f"the mask of step {i} moved after its gradients were computed, because no forward pass was seen: call "
                "the network that you passed here, and pass start= if the training continues at a later step",
                stacklevel=2,
            )
        for hook in self._hooks:
            if hook.after_backward is not None:
                hook.after_backward(i)
        self.optimizer.step(closure)
        self._next = i + 1

    def _forward(self, module: nn.Module) -> None:
        trains = module.training or (torch.is_grad_enabled() and not self._sampled)
        if trains and not torch.compiler.is_compiling():
            self._before()

    def _before(self) -> None:
        if self._moved == self._next:
            return
        # Set at once: what is scored at an event runs the network too.
        self._moved = self._next
        for hook in self._hooks:
            if hook.before_step is not None:
                hook.before_step(self._next)

    def finish(self) -> MaskSet:
        """Finish after the last step, where some dynamics reach their final mask.

        Returns:
            The final mask.
        """
        self._handle.remove()
        for hook in self._hooks:
            if hook.at_end is not None:
                hook.at_end()
        return self.mask


def _evidence_at(scoring_data: ScoringData, step: int) -> ScoringData:
    return ScoringData(
        lambda iteration: scoring_data.batches(step),
        scoring_data.output_layer,
        scoring_data.seed,
        step + 1,
        scoring_data.example,
    )


def _spoken(known: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by the names and in the form that a recipe has."""
    written = {}
    for key, item in options.items():
        name = key if key in known else SPOKEN.get(key, key)
        if name in written:
            other = next(other for other in options if SPOKEN.get(other, other) == name and other != key)
            raise UserError([Problem(f"dynamics.{name}", f"is given twice, as {other} and as {key}")])
        steps = name in known and isinstance(known[name].field, Length | ClockStep)
        whole = isinstance(item, int) and not isinstance(item, bool)
        below = _options_below(known[name].field, item) if name in known and isinstance(item, Mapping) else None
        if below is not None:
            item = _spoken(below, item)
        written[name] = f"{item}it" if steps and whole else item
    return written


def _options_below(field: object, item: Mapping[str, Any]) -> Mapping[str, Option] | None:
    """The options of a mapping that is an option itself; None where they are not known."""
    if isinstance(field, Value):
        entry = field.axis.get(str(item.get("name")))
        return {} if entry is None else entry.options
    return getattr(field, "options", None)


def _total(named: Named, steps: int | None, epoch: int) -> int:
    """The length of the training."""
    if steps is not None:
        return steps
    until = named.options.get("until")
    places = [Step.parse(item) for item in named.options.values() if isinstance(item, str) and _is_step(item)]
    if until is None or any(place.relative or place.back for place in places):
        told = shown({key: str(item) for key, item in named.options.items()})
        raise UserError(
            [Problem("steps", f"is required: some options are fractions of the whole training (got {told})")]
        )
    return Step.parse(until).resolve(0, epoch)


def _is_step(text: str) -> bool:
    try:
        Step.parse(text)
    except ValueError:
        return False
    return True
