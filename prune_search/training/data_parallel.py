"""Trains one network on several workers with torch's DistributedDataParallel: each passes over its share of a batch.

Every worker runs the same trial, and steps its own optimizer on gradients that are equal bit for bit: they are averaged
in buckets, while the backward pass goes on. A share counts by its part of the batch, so that unequal shares give the
gradient of the mean over the batch. A sharded network (`fully_shard`) reduces its gradients itself. Of all that a
method does with gradients, this is the only place that knows of several workers.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from prune_search.tasks.shards import is_sharded
from prune_search.tasks.workers import Workers, connected
from prune_search.training.loop import Feed, Network, seed_layers
from prune_search.training.randomness import derive
from prune_search.training.synced_norms import synced_norms


class _Pass(nn.Module):
    """A network and its loss as one module: DDP looks at what its forward pass returns for what took part in it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Any, labels: Any, loss: Callable[[Any, Any], Tensor]) -> Tensor:
        return loss(self.model(inputs), labels)


# Of a small network too, most gradients are on their way before the backward pass is over.
MOST_BUCKET, LEAST_BUCKET, BUCKETS = 25.0, 1.0, 8


def _bucket(parameters: Sequence[nn.Parameter]) -> float:
    """Megabytes of gradients that are reduced at a time."""
    size = sum(int(parameter.nbytes) for parameter in parameters if parameter.requires_grad) / 2**20
    return max(LEAST_BUCKET, min(MOST_BUCKET, size / BUCKETS))


@dataclass
class _Wrapped:
    """A network in DDP, and what it was wrapped for: a change of either asks for another one."""

    model: nn.Module
    parameters: list[nn.Parameter]
    asked: list[bool]
    passing: nn.Module
    begun: bool = False

    @classmethod
    def of(cls, model: nn.Module) -> _Wrapped:
        parameters = list(model.parameters())
        asked = [parameter.requires_grad for parameter in parameters]
        passing: nn.Module = _Pass(model)
        if any(asked) and not is_sharded(model):
            # Which parameters take part can change with every batch, and differ between the workers: who takes no part
            # and does not say so would leave the others waiting. Buffers are equal already.
            with _quiet("`broadcast_buffers` is deprecated"):  # a name that the oldest torch lacks takes its place
                passing = DistributedDataParallel(
                    passing, broadcast_buffers=False, find_unused_parameters=True, bucket_cap_mb=_bucket(parameters)
                )
        return cls(model, parameters, asked, passing)

    def fits(self, model: nn.Module) -> bool:
        parameters = list(model.parameters())
        return (
            model is self.model
            and len(parameters) == len(self.parameters)
            and all(one is other for one, other in zip(parameters, self.parameters, strict=True))
            and self.asked == [parameter.requires_grad for parameter in parameters]
        )

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Gradients stay this worker's within, until a pass outside."""
        if isinstance(self.passing, DistributedDataParallel):
            found: contextlib.AbstractContextManager[None] = self.passing.no_sync()
            return found
        return _unreduced(self.model) if is_sharded(self.model) else contextlib.nullcontext()

    def close(self) -> None:
        """The parameters no longer tell it of their gradients."""
        if isinstance(self.passing, DistributedDataParallel):
            self.passing.reducer._remove_autograd_hooks()


@dataclass
class DataParallel:
    """Gradients by all workers; see `loop.Network.gradients`.

    Attributes:
        workers: that train together.
        accumulate: batches per optimizer step (see `accumulation.accumulated`); only the last one moves gradients.
    """

    workers: Workers
    accumulate: int = 1
    _wrapped: _Wrapped | None = field(default=None, repr=False)

    def gradients(self, network: Network, feed: Feed, number: int) -> Tensor:
        """Add the gradients of a step's batches to the parameters', the same on every worker.

        Args:
            network: the same on every worker, and so are the gradients that its parameters have.
            feed: the batches, whole.
            number: of the step.

        Returns:
            The mean loss of the batches, the same on every worker.

        Raises:
            WorkerLostError: the connection to a worker broke.
        """
        with connected(), synced_norms(network.model):
            wrapped = self._of(network.model)
            losses = []
            for part in range(self.accumulate):
                with contextlib.nullcontext() if part == self.accumulate - 1 else wrapped.alone():
                    losses.append(self._pass_over(wrapped, network, feed, number * self.accumulate + part))
        loss = torch.stack(losses).sum()
        self.workers.total([loss])
        return loss

    def _of(self, model: nn.Module) -> _Wrapped:
        """The network in DDP as it is now: layers can have been fused, and weights frozen."""
        if self._wrapped is None or not self._wrapped.fits(model):
            if self._wrapped is not None:
                self._wrapped.close()
            self._wrapped = _Wrapped.of(model)
        return self._wrapped

    def _pass_over(self, wrapped: _Wrapped, network: Network, feed: Feed, number: int) -> Tensor:
        """One pass over this worker's share of a batch; its part of the batches' mean loss."""
        own = () if self.workers.first else (self.workers.rank,)
        # The first worker's layers draw what they draw without the others.
        seed_layers(network.device, derive(feed.seed, "layers", *feed.words, number, *own))
        inputs, labels, part = self.workers.share(*feed(number))
        part /= self.accumulate
        with network.autocast():
            loss = wrapped.passing(inputs, labels, network.loss)
        # In the first pass torch advises not to look for parameters that take no part.
        with contextlib.nullcontext() if wrapped.begun else _quiet("find_unused_parameters=True was specified"):
            # DDP takes the mean over the workers, and so does a sharded network by itself.
            (loss * (part * self.workers.size)).backward()
        wrapped.begun = True
        found: Tensor = loss.detach() * part
        return found


@contextlib.contextmanager
def _unreduced(model: nn.Module) -> Iterator[None]:
    """The gradients of a sharded network stay whole on each worker meanwhile."""
    reduces: Any = model
    reduces.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        reduces.set_requires_gradient_sync(True)


@contextlib.contextmanager
def _quiet(words: str) -> Iterator[None]:
    """Without the warning that has these words in it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=f".*{words}")
        yield
