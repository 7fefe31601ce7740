"""Library classes that maintain a mask or grow a penalty in your own training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.library import arguments
from prune_search.library.arguments import AnyBatches, Given, Loss
from prune_search.library.calls import mask_for, number, optimizer_of, told_in_one_line, whole
from prune_search.pruning.mask.counts import exact
from prune_search.pruning.mask.finder import find_mask, units_in
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.rule import MaskRule
from prune_search.pruning.retrain.mask_keeper import MaskKeeper
from prune_search.pruning.weights.transforms.penalties import GrowingHook, Penalty, Ramp
from prune_search.recipe import axes
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown
from prune_search.tasks.layers import check_network
from prune_search.tasks.network import prunable_weights
from prune_search.tasks.shards import gathered, resharded
from prune_search.training.optimizers import zero_masked


class MaskHook:
    """Keeps masked weights and their optimizer buffers at exactly zero, with any PyTorch optimizer.

    Before every step of the optimizer the gradients of masked weights are set to 0, and after it the weights and their
    buffers (momentum), whatever the optimizer does.

    Args:
        optimizer: an optimizer of the network's parameters.
        model: the network.
        mask: the mask to maintain.

    Example:
        >>> hook = MaskHook(optimizer, model, mask)  # then train as usual
        >>> hook.remove()
    """

    def __init__(self, optimizer: torch.optim.Optimizer, model: nn.Module, mask: MaskSet) -> None:
        check_network(model, sharded=True)
        optimizer_of(model, optimizer)
        self.optimizer = optimizer
        self.model = model
        self.mask = mask
        self.set(mask)
        self._handles = [
            optimizer.register_step_pre_hook(lambda *_: self._before()),
            optimizer.register_step_post_hook(lambda *_: self._after()),
        ]

    def set(self, mask: MaskSet) -> None:
        """Maintain another mask from now on.

        Raises:
            UserError: it is no mask, or that of another network.
        """
        resharded(self.model)
        mask_for(self.model, mask)
        named = dict(self.model.named_parameters())
        self.mask = mask
        self._pairs = [
            (named[name], one.to(named[name].device))
            for name, one in mask.everything.items()
            if not bool(gathered(one.all()))
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
        """Stop maintaining the mask."""
        for handle in self._handles:
            handle.remove()


def plain_rule(
    criterion: Given, scope: Given, granularity: Given, loss: Loss, mode: str | None, rounding: str
) -> MaskRule:
    """The rule of a criterion that is scored once."""
    named = arguments.value(axes.CRITERIA, criterion, "criterion")
    block = {"iterations": 1, "path": "one-shot", "nested": True, "loss": arguments.loss_of(loss), "mode": mode}
    return arguments.rule_of(named, scope, granularity, block, rounding)


class GrowingPenalty:
    """Growing regularization (GReg; Wang et al. 2021, 2012.09243): a growing L2 penalty on the weights to remove.

    Call `step` after ``loss.backward()``, in place of ``optimizer.step()``: it adds λ ⊙ w to the gradients, with λ of
    this step, and steps the optimizer. When `finished`, call `prune`.

    Args:
        model: the network.
        optimizer: an optimizer of its parameters; its own weight decay stays active.
        sparsity: share of the units to remove, 0 to 1.
        mask: the mask to reach, in place of a sparsity: the penalty grows on the weights that it removes. Name its
            granularity: `ratio` is for structured ones.
        granularity, scope, criterion: as in `find_mask`: which units go. GReg-1 removes the filters of the smallest L1
            norm of every layer.
        step: δλ, added to the penalty every so many steps.
        every: steps between two increments; the first comes at step 0.
        ceiling: τ, the largest penalty.
        kept: constant penalty on the kept weights; GReg-2: -1e-4.
        ratio: structured units stop growing at this smoothed ratio of mean kept to mean removed magnitude; None: never.
        stabilise: steps for which the final penalty is held.
        pick: GReg-2: ``{step, until}`` of a penalty that first rises on all weights. In the step in which it reaches
            ``until``, before that step's training, the units of the smallest score are picked, as in the released
            code; all weights keep that penalty until the next increment is due. None: GReg-1, units are picked now.
        rounding, batches, loss, mode, example_input, seed: as in `find_mask`. The released code rounds like
            ``floor-keep``.

    Raises:
        UserError: an argument is invalid.
    """

    @told_in_one_line
    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        sparsity: float | Decimal | None = None,
        mask: MaskSet | None = None,
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
        example_input: Any = None,
        seed: int = 0,
    ) -> None:
        check_network(model)
        self.model, self.optimizer = model, optimizer_of(model, optimizer)
        if mask is not None:
            mask_for(model, mask)
        self._rule = plain_rule(criterion, scope, granularity, loss, mode, rounding)
        self._evidence = arguments.evidence_of(model, batches, example_input, seed)
        arguments.needs_batches(self._rule.criterion, self._evidence)
        _one_goal(sparsity, mask, pick)
        self._share = None if mask is not None else arguments.share_of(model, self._rule, sparsity, self._evidence)
        structured = bool(self._rule.granularity.entry(axes.GRANULARITIES).facts.structured)
        self._stop = {"kept": kept, "ratio": ratio if structured else None, "together": pick is None}
        whole("every", every, 1)
        number("kept", kept, -math.inf)
        if ratio is not None:
            number("ratio", ratio, 0, above=True)
        self._growth = (_positive("step", step), every, _positive("ceiling", ceiling))
        self._stabilise = whole("stabilise", stabilise, 0)
        self._penalty = Penalty(dict(model.named_parameters()))
        self._rise = _rise(pick, every)
        self._growing: GrowingHook | None = None
        self.mask: MaskSet | None = mask
        self._picked_at = 0 if self._rise is None else self._rise.last
        if self._rise is None:
            self._choose(Decimal(0), 0)

    def _choose(self, start: Decimal, hold: int) -> None:
        """Choose the units that go; the penalty begins to grow on them after `hold` steps."""
        if self.mask is None:
            found = find_mask(self.model, self._rule, self._share, None, self._evidence)
            self.mask = arguments.told_of(found)
        increment, every, ceiling = self._growth
        names = self.mask if self._share is None else self._names()
        removed = {name: ~self.mask[name] for name in names}
        ramp = Ramp(start, increment, every, ceiling)
        self._penalty.values.clear()
        self._growing = GrowingHook(self._penalty, removed, ramp, self._stabilise, self._stop, hold)

    @property
    def penalty(self) -> Mapping[str, Tensor]:
        """λ of each weight, by parameter name; each tensor has the shape of its weight."""
        return dict(self._penalty.values)

    def step(self, i: int, closure: Callable[[], Any] | None = None) -> None:
        """Take one training step, in place of the optimizer's.

        Args:
            i: the step, from 0.
            closure: for optimizers that take one.
        """
        if self._growing is None and self._rise is not None and i >= self._picked_at:
            self._choose(self._rise.ceiling, self._rise.iterations - self._rise.last)
        if self._growing is not None:
            self._growing.before_step(i - self._picked_at)
        elif self._rise is not None and (i % self._rise.every == 0 or not self._penalty.values):
            self._penalty.set_all(self._names(), float(self._rise.at(i)))
        self._penalty.add_to_gradients()
        self.optimizer.step(closure)

    def _names(self) -> list[str]:
        """The weights of the layers that take part."""
        weights = prunable_weights(self.model)
        parts = [part for one in units_in(self.model, self._rule, self._evidence) for part in one.parts]
        return list(dict.fromkeys(part.parameter for part in parts if part.parameter in weights))

    def finished(self, i: int) -> bool:
        """Whether, before step i, the penalty has grown to its end and been held for the stabilising steps."""
        return self._growing is not None and self._growing.finished(i - self._picked_at)

    def prune(self) -> MaskSet:
        """Set the units to remove, and their momentum, to zero.

        Returns:
            The mask.

        Raises:
            UserError: nothing has been picked yet.
        """
        if self.mask is None:
            raise UserError([Problem("pick", "is not finished: the units to remove have not been chosen yet")])
        MaskKeeper(self.model, self.mask, self.optimizer)
        return self.mask


def _one_goal(sparsity: float | Decimal | None, mask: MaskSet | None, pick: Mapping[str, float] | None) -> None:
    """Refuse a mask together with what would choose one."""
    given = [key for key, item in (("sparsity", sparsity), ("pick", pick)) if item is not None]
    if mask is not None and given:
        raise UserError([Problem("mask", f"cannot be combined with {given[0]}: the mask says which weights go")])


def _positive(path: str, given: float) -> Decimal:
    return exact(number(path, given, 0, above=True))


def _rise(pick: Mapping[str, float] | None, every: int) -> Ramp | None:
    """The penalty that rises on all weights before anything is picked."""
    if pick is None:
        return None
    if not isinstance(pick, Mapping):
        raise UserError([Problem("pick", f"must be a mapping with the keys step, until (got {shown(pick)})")])
    known = {"step": 1.0e-5, "until": 1.0e-2}
    if unknown := [key for key in pick if key not in known]:
        raise UserError([Problem(f"pick.{unknown[0]}", not_one_of(unknown[0], known))])
    given = {**known, **pick}
    return Ramp(Decimal(0), _positive("pick.step", given["step"]), every, _positive("pick.until", given["until"]))
