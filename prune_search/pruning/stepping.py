"""The library face for users with a training loop of their own: masks that hold, masks that move, growing penalties."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.pruning import asking
from prune_search.pruning.asking import AnyBatches, Given, Loss
from prune_search.pruning.counts import exact
from prune_search.pruning.finding import Evidence, MaskRule, find_mask, units_in
from prune_search.pruning.keeper import MaskKeeper
from prune_search.pruning.masks import MaskSet, keep_all
from prune_search.pruning.setting import Moving
from prune_search.pruning.transforms.penalties import GrowingHook, Penalty, Ramp
from prune_search.recipe import axes
from prune_search.recipe.fields import Length, Place
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown
from prune_search.recipe.recipe import Named
from prune_search.recipe.step import Step
from prune_search.tasks.network import prunable_weights
from prune_search.training.loop import Network
from prune_search.training.optimizers import zero_masked

# Python keeps `from` for itself.
SPOKEN = {"begin": "from", "end": "until"}


class MaskHook:
    """Keeps masked weights and their optimizer buffers at exactly zero, with any optimizer of torch.

    Before every step of the optimizer the gradients of masked weights are set to 0, and after it the weights and their
    buffers (momentum), whatever the optimizer does.

    Args:
        optimizer: over the network's parameters.
        model: the network.
        mask: what is kept.

    Example:
        >>> hook = MaskHook(optimizer, model, mask)  # then train as ever
        >>> hook.remove()
    """

    def __init__(self, optimizer: torch.optim.Optimizer, model: nn.Module, mask: MaskSet) -> None:
        self.optimizer = optimizer
        self.model = model
        self.mask = mask
        self.set(mask)
        self._handles = [
            optimizer.register_step_pre_hook(lambda *_: self._before()),
            optimizer.register_step_post_hook(lambda *_: self._after()),
        ]

    def set(self, mask: MaskSet) -> None:
        """Hold another mask from now on.

        Raises:
            KeyError: a parameter is missing in the network.
        """
        named = dict(self.model.named_parameters())
        self.mask = mask
        self._pairs = [
            (named[name], one.to(named[name].device)) for name, one in mask.everything.items() if not bool(one.all())
        ]
        self._after()

    def _before(self) -> None:
        with torch.no_grad():
            for weight, kept in self._pairs:
                if weight.grad is not None:
                    weight.grad.masked_fill_(~kept, 0.0)

    def _after(self) -> None:
        with torch.no_grad():
            for weight, kept in self._pairs:
                weight.masked_fill_(~kept, 0.0)
                zero_masked(self.optimizer, weight, kept)

    def remove(self) -> None:
        """Let go: the mask is held no more."""
        for handle in self._handles:
            handle.remove()


def _network(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor]) -> Network:
    return Network(model, next(model.parameters()).device, contextlib.nullcontext, loss)


def _rule(criterion: Given, scope: Given, granularity: Given, loss: Loss, mode: str | None, rounding: str) -> MaskRule:
    named = asking.value(axes.CRITERIA, criterion, "criterion")
    block = {"iterations": 1, "path": "one-shot", "nested": True, "loss": asking.loss_of(loss), "mode": mode}
    return asking.rule_of(named, scope, granularity, block, rounding)


class Dynamics:
    """A mask that moves while you train.

    Call `step` after ``loss.backward()``, in place of ``optimizer.step()``: it moves the mask where an event is due,
    holds the masked weights, their gradients and their momentum at zero, and steps the optimizer.

    Args:
        name: a registered dynamics, such as ``gradual``.
        model: the network.
        optimizer: over its parameters.
        sparsity: share of the units in scope that is removed at the end, 0 to 1.
        scope, granularity: as in `find_mask`.
        steps: length of the training, which options in percent count from; None: the option ``end``.
        epoch: steps of an epoch, for options such as ``3ep``.
        mask: where the mask begins; None: everything is kept, or for a dynamics that moves a mask of constant size a
            random one of the asked sparsity.
        batches, loss, mode: for criteria that need data, as in `find_mask`; batches may be a function from the step.
        rounding: of counts, as in `find_mask`.
        example_input: inputs, as in `find_mask`.
        seed: of what is drawn.
        options: of the dynamics. Steps are whole numbers or as in a recipe (``5%``, ``3ep``); ``begin`` and ``end``
            stand for ``from`` and ``until``.

    Raises:
        UserError: something that was asked is wrong.

    Example:
        >>> dynamics = Dynamics("gradual", model, optimizer, sparsity=0.9, begin=0, end=1000, every=100)
        >>> for i, (x, y) in enumerate(loader):
        ...     optimizer.zero_grad()
        ...     loss(model(x), y).backward()
        ...     dynamics.step(i)
    """

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
        example_input: Tensor | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if name not in axes.DYNAMICS:
            raise UserError([Problem("name", not_one_of(name, axes.DYNAMICS))])
        entry = axes.DYNAMICS[name]
        written = _spoken(entry.options, options)
        named = asking.value(axes.DYNAMICS, name, "dynamics", written)
        _fits(named, granularity, scope)
        rule = _rule("random", scope, granularity, loss, mode, rounding)
        evidence = asking.evidence_of(model, batches, example_input, seed)
        share = asking.share_of(model, rule, sparsity, evidence)
        if mask is None:
            whole = entry.facts["starts_from"] == "all"
            mask = keep_all(prunable_weights(model)) if whole else find_mask(model, rule, share, None, evidence)
        self.optimizer = optimizer
        self._keeper = MaskKeeper(model, mask, optimizer)
        total = _total(named, steps, epoch)
        wrong = entry.facts["misplaced"](total, epoch, **named.options)
        if problems := [Problem(f"dynamics.{key}", message) for key, message in wrong]:
            raise UserError(problems)
        shown_at = functools.partial(_evidence_at, evidence)
        moving = Moving(_network(model, rule.loss()), self._keeper, optimizer, rule, share, total, epoch, shown_at)
        self._hooks = [entry.make(moving, **named.options), self._keeper.hook()]
        self._next = 0
        self._handle = None
        if entry.facts["kind"] == "sampled":
            # The forward pass sees the mask of its step.
            self._handle = model.register_forward_pre_hook(lambda module, inputs: self._before(module.training))

    @property
    def mask(self) -> MaskSet:
        """The mask that holds now."""
        return self._keeper.masks

    def step(self, i: int, closure: Callable[[], Any] | None = None) -> None:
        """One step of training, in place of the optimizer's.

        Args:
            i: the step, from 0.
            closure: for optimizers that take one.

        Raises:
            ScoreError: a score is not a number.
        """
        self._next = i
        self._before(True)
        for hook in self._hooks:
            if hook.after_backward is not None:
                hook.after_backward(i)
        self.optimizer.step(closure)
        self._next = i + 1

    def _before(self, training: bool) -> None:
        for hook in self._hooks:
            if training and hook.before_step is not None:
                hook.before_step(self._next)

    def finish(self) -> MaskSet:
        """What is left to do after the last step: the final mask of a dynamics that reaches it there.

        Returns:
            The final mask.
        """
        if self._handle is not None:
            self._handle.remove()
        for hook in self._hooks:
            if hook.at_end is not None:
                hook.at_end()
        return self.mask


def _fits(named: Named, granularity: Given, scope: Given) -> None:
    """Refuse a granularity or scope that a dynamics does not go with.

    Raises:
        UserError: so it is.
    """
    facts, problems = named.entry(axes.DYNAMICS).facts, []
    unit = granularity if isinstance(granularity, str) else granularity.get("name", "")
    chosen = scope if isinstance(scope, str) else scope.get("name", "")
    if facts["granularities"] is not None and unit not in facts["granularities"]:
        allowed = ", ".join(facts["granularities"])
        problems.append(Problem("granularity", f"must be {allowed} with dynamics {named.name} (got {unit!r})"))
    elif facts["check"] is not None and (wrong := facts["check"](unit, **named.options)):
        problems.append(Problem("granularity", f"{named.name} {wrong}"))
    if facts["scopes"] is not None and chosen not in facts["scopes"]:
        allowed = ", ".join(facts["scopes"])
        problems.append(Problem("scope", f"must be {allowed} with dynamics {named.name} (got {chosen!r})"))
    if problems:
        raise UserError(problems)


def _evidence_at(evidence: Evidence, step: int) -> Evidence:
    return Evidence(
        lambda iteration: evidence.batches(step), evidence.output_layer, evidence.seed, step + 1, evidence.example
    )


def _spoken(known: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by the names and in the form that a recipe has."""
    written = {}
    for key, item in options.items():
        name = SPOKEN.get(key, key)
        steps = name in known and isinstance(known[name].field, Length | Place)
        whole = isinstance(item, int) and not isinstance(item, bool)
        written[name] = f"{item}it" if steps and whole else item
    return written


def _total(named: Named, steps: int | None, epoch: int) -> int:
    """The length of the training."""
    if steps is not None:
        return steps
    until = named.options.get("until")
    places = [Step.parse(item) for item in named.options.values() if isinstance(item, str) and _is_step(item)]
    if until is None or any(place.relative or place.back for place in places):
        told = shown({key: str(item) for key, item in named.options.items()})
        raise UserError([Problem("steps", f"is needed: some options are parts of the whole training (got {told})")])
    return Step.parse(until).resolve(0, epoch)


def _is_step(text: str) -> bool:
    try:
        Step.parse(text)
    except ValueError:
        return False
    return True


class GrowingPenalty:
    """Growing regularization (GReg; Wang et al. 2021, 2012.09243): an L2 penalty grows on the weights that go.

    Call `step` after ``loss.backward()``, in place of ``optimizer.step()``: it adds λ ⊙ w to the gradients, with λ of
    this step, and steps the optimizer. When `finished`, call `prune`.

    Args:
        model: the network.
        optimizer: over its parameters; its own weight decay stays on.
        sparsity: share of the units that goes, 0 to 1.
        granularity, scope, criterion: as in `find_mask`: which units go. GReg-1 removes the filters of the smallest L1
            norm of every layer.
        step: δλ, added to the penalty every so many steps.
        every: steps between two increments; the first comes at step 0.
        ceiling: τ, where the penalty ends.
        kept: constant penalty on the weights that stay; GReg-2: -1e-4.
        ratio: structured units stop growing at this smoothed ratio of mean kept to mean removed magnitude; None: never.
        stabilise: steps with the penalty held, after which it is finished.
        pick: GReg-2: ``{step, until}`` of a penalty that first rises on all weights; the units that go are those
            of the smallest score after it. None: GReg-1, they are chosen now.
        rounding, batches, loss, mode, example_input, seed: as in `find_mask`. The released code rounds like
            ``floor-keep``.

    Raises:
        UserError: something that was asked is wrong.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        sparsity: float | Decimal | None = None,
        granularity: Given = "filter",
        scope: Given = "uniform",
        criterion: Given = "l1",
        step: float = 1.0e-4,
        every: int = 10,
        ceiling: float = 1.0,
        kept: float = 0.0,
        ratio: float | None = 1000.0,
        stabilise: int = 0,
        pick: Mapping[str, float] | None = None,
        rounding: str = "half-up",
        batches: AnyBatches | None = None,
        loss: Loss = "cross-entropy",
        mode: str | None = None,
        example_input: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self._rule = _rule(criterion, scope, granularity, loss, mode, rounding)
        self._evidence = asking.evidence_of(model, batches, example_input, seed)
        asking.needs_batches(self._rule.criterion, self._evidence)
        self._share = asking.share_of(model, self._rule, sparsity, self._evidence)
        structured = bool(self._rule.granularity.entry(axes.GRANULARITIES).facts["structured"])
        self._stop = {"kept": kept, "ratio": ratio if structured else None, "together": pick is None}
        self._growth, self._stabilise = (_positive("step", step), every, exact(ceiling)), stabilise
        self._penalty = Penalty(dict(model.named_parameters()))
        self._rise = _rise(pick, every)
        self._growing: GrowingHook | None = None
        self.mask: MaskSet | None = None
        if self._rise is None:
            self._choose(Decimal(0))

    def _choose(self, start: Decimal) -> None:
        """The units that go are chosen, and the penalty begins to grow on them."""
        self.mask = find_mask(self.model, self._rule, self._share, None, self._evidence)
        increment, every, ceiling = self._growth
        removed = {name: ~mask for name, mask in self.mask.items() if not bool(mask.all())}
        self._penalty.values.clear()
        ramp = Ramp(start, increment, every, ceiling)
        self._growing = GrowingHook(self._penalty, removed, ramp, self._stabilise, self._stop)

    @property
    def penalty(self) -> Mapping[str, Tensor]:
        """λ of each weight, by parameter name."""
        return dict(self._penalty.values)

    def step(self, i: int, closure: Callable[[], Any] | None = None) -> None:
        """One step of training, in place of the optimizer's.

        Args:
            i: the step, from 0.
            closure: for optimizers that take one.
        """
        picking = 0 if self._rise is None else self._rise.iterations
        if self._growing is None and self._rise is not None and i >= picking:
            self._choose(self._rise.ceiling)
        if self._growing is not None:
            self._growing.before_step(i - picking)
        elif self._rise is not None and (i % self._rise.every == 0 or not self._penalty.values):
            self._raise_all(float(self._rise.at(i)))
        self._penalty.add_to_gradients()
        self.optimizer.step(closure)

    def _raise_all(self, value: float) -> None:
        parameters = dict(self.model.named_parameters())
        weights = prunable_weights(self.model)
        parts = [part for one in units_in(self.model, self._rule, self._evidence) for part in one.parts]
        for name in dict.fromkeys(part.parameter for part in parts if part.parameter in weights):
            everything = torch.ones(parameters[name].shape, dtype=torch.bool)
            self._penalty.set(name, everything, value, 0.0)

    def finished(self, i: int) -> bool:
        """Whether, before step i, the penalty has grown to its end and been held for the stabilising steps."""
        picking = 0 if self._rise is None else self._rise.iterations
        return self._growing is not None and self._growing.finished(i - picking)

    def prune(self) -> MaskSet:
        """Set the units that go, and their momentum, to zero.

        Returns:
            The mask.

        Raises:
            UserError: nothing has been picked yet.
        """
        if self.mask is None:
            raise UserError([Problem("pick", "is not over: the units that go are not chosen yet")])
        MaskKeeper(self.model, self.mask, self.optimizer)
        return self.mask


def _positive(path: str, number: float) -> Decimal:
    if not number > 0:
        raise UserError([Problem(path, f"must be a number above 0 (got {number})")])
    return exact(number)


def _rise(pick: Mapping[str, float] | None, every: int) -> Ramp | None:
    """The penalty that rises on all weights before anything is picked."""
    if isinstance(every, bool) or every < 1:
        raise UserError([Problem("every", f"must be a whole number from 1 (got {every})")])
    if pick is None:
        return None
    known = {"step": 1.0e-5, "until": 1.0e-2}
    if unknown := [key for key in pick if key not in known]:
        raise UserError([Problem(f"pick.{unknown[0]}", not_one_of(unknown[0], known))])
    given = {**known, **pick}
    return Ramp(Decimal(0), _positive("pick.step", given["step"]), every, exact(given["until"]))
