"""Stops a training when a metric no longer improves, and takes the best state as its result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from prune_search.training.loop import Hook


@dataclass(frozen=True)
class StoppingRule:
    """When a training stops.

    Attributes:
        every: steps between evaluations, at least 1.
        patience: evaluations in a row that are no better than the best one, after which it stops, at least 1.
        restore: whether the result is the state at the best evaluation.
        best: which way is better.
        after: there is no evaluation up to this step, as long as the network is not yet what it will be.
        total: steps of the training, at most; its end is measured when it is reached.
    """

    every: int
    patience: int
    restore: bool = True
    best: Literal["minimize", "maximize"] = "minimize"
    after: int = 0
    total: int = 2**62


class BestState:
    """The best state of a training so far.

    The network is measured at multiples of `every`, and at the end. A value that is no number is worse than any other.

    Args:
        model: the network that is trained.
        rule: when it stops.
        measure: measures the network as it is.
        others: the hooks that train it, whose states (a mask) belong to a state of the network.
        as_ended: the network is within as it would be if the training ended there: has its average, say.
    """

    def __init__(
        self,
        model: nn.Module,
        rule: StoppingRule,
        measure: Callable[[], float],
        others: Sequence[Hook] = (),
        as_ended: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.model = model
        self.rule = rule
        self.measure = measure
        self.others = [hook for hook in others if hook.state is not None]
        self.as_ended = as_ended
        self._value: float | None = None
        self._worse = 0
        self._evaluated = 0
        self._best: dict[str, Tensor] = {}
        self._ended = False

    def hook(self) -> Hook:
        """The hook that stops. It comes last, so that the others have left the network as it is."""
        return Hook("early-stopping", finished=self._finished, at_end=self._end, state=self._state, load=self._load)

    @property
    def _stopped(self) -> bool:
        return self._worse >= self.rule.patience

    def _finished(self, step: int) -> bool:
        # It is asked more than once at a step, and again where a training that was killed goes on.
        due = step % self.rule.every == 0 and max(self._evaluated, self.rule.after) < step < self.rule.total
        if due and not self._stopped:
            self._evaluated = step
            with self.as_ended():
                self._look()
        return self._stopped

    def _look(self) -> None:
        value = self.measure()
        if self._value is None or self._is_better(value, self._value):
            self._value, self._worse = value, 0
            if self.rule.restore:
                self._best = self._network_state()
        else:
            self._worse += 1

    def _is_better(self, value: float, best: float) -> bool:
        if math.isnan(value) or math.isnan(best):
            return math.isnan(best) and not math.isnan(value)
        return value < best if self.rule.best == "minimize" else value > best

    def _network_state(self) -> dict[str, Tensor]:
        own = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        for hook in self.others:
            if hook.state is not None:
                own |= {f"{hook.name}/{key}": value for key, value in hook.state().items()}
        return {name: tensor.detach().clone() for name, tensor in own.items()}

    def _end(self) -> None:
        if self.rule.restore:
            if not self._stopped:
                self._look()
            self._restore()
        self._ended = True

    def _restore(self) -> None:
        with torch.no_grad():
            for name, tensor in self.model.state_dict(keep_vars=True).items():
                tensor.copy_(self._best[f"model/{name}"])
        for hook in self.others:
            own = _below(hook.name, self._best)
            if hook.load is not None and own:
                hook.load(own)

    def _state(self) -> dict[str, Tensor]:
        # Nothing goes on from an end.
        if self._ended or self._value is None:
            return {}
        figures = {
            "value": torch.tensor(self._value, dtype=torch.float64),
            "worse": torch.tensor(self._worse),
            "evaluated": torch.tensor(self._evaluated),
        }
        return {**figures, **{f"best/{name}": tensor for name, tensor in self._best.items()}}

    def _load(self, state: Mapping[str, Tensor]) -> None:
        self._value = float(state["value"])
        self._worse, self._evaluated = int(state["worse"]), int(state["evaluated"])
        self._best = _below("best", state)


def _below(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
