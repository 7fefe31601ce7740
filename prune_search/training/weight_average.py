"""An exponential moving average of the weights, which becomes the result of a training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from prune_search.tasks.shards import part_of
from prune_search.training.loop import Hook

NAME = "ema"


class WeightAverage:
    """a = decay * a + (1 - decay) * w after every step, from a = w at the beginning.

    After n steps it is decay^n * w(0) + (1 - decay) * Σ decay^(n-t) * w(t). Floating-point buffers, such as the running
    means of batch norms, are averaged likewise; counts are those of the network.

    Args:
        model: the network that is trained; its own weights are never averaged in while it trains.
        decay: 0 to below 1.
        settle: called when the average was put into the network, to hold what must hold there (a mask).

    Source:
        Polyak, Juditsky 1992, Acceleration of Stochastic Approximation by Averaging; Tarvainen, Valpola 2017,
        1703.01780, section 2.
    """

    def __init__(self, model: nn.Module, decay: float, settle: Callable[[], None] | None = None) -> None:
        self.model = model
        self.decay = decay
        self.settle = settle
        self._average: dict[str, Tensor] = {}
        self._ended = False

    def hook(self) -> Hook:
        """The hook that averages. It comes after every hook that changes weights."""
        return Hook(
            NAME,
            at_start=self._begin,
            after_step=self._update,
            at_end=self._end,
            state=lambda: {} if self._ended else self._average,
            load=self._load,
        )

    def _own(self) -> dict[str, Tensor]:
        """The network's weights and floating-point buffers, by name; a tied one has one name."""
        found: dict[str, Tensor] = {}
        seen: set[int] = set()
        for name, tensor in self.model.state_dict(keep_vars=True).items():
            if tensor.is_floating_point() and id(tensor) not in seen:
                seen.add(id(tensor))
                found[name] = tensor.detach()
        return found

    def _load(self, state: Mapping[str, Tensor]) -> None:
        own = self._own()
        self._average = {name: torch.empty_like(own[name]).copy_(state[name]) for name in own}

    def _begin(self) -> None:
        if not self._average:
            self._average = {name: tensor.clone() for name, tensor in self._own().items()}

    def _update(self, step: int) -> None:
        own = self._own()
        # Of a sharded network, each worker averages the rows that it holds.
        averages, values = ([part_of(one[name]) for name in self._average] for one in (self._average, own))
        torch._foreach_lerp_(averages, values, 1.0 - self.decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the average within, and its own weights again after."""
        own = self._own()
        kept = {name: tensor.clone() for name, tensor in own.items()}
        self._put(own)
        try:
            yield
        finally:
            for name, tensor in own.items():
                tensor.copy_(kept[name])

    def _put(self, own: Mapping[str, Tensor]) -> None:
        for name, tensor in own.items():
            tensor.copy_(self._average[name])
        if self.settle is not None:
            self.settle()

    def _end(self) -> None:
        self._put(self._own())
        self._ended = True


def averaged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The average in the tensors of a training's hooks, by the names of the network's; empty where there is none."""
    prefix = f"hook/{NAME}/"
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
