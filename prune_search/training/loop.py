"""The training loop. It knows only hooks, not which method they belong to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from prune_search.tasks.request import Request
from prune_search.training.optimizers import set_rate
from prune_search.training.randomness import derive, generator

if TYPE_CHECKING:
    from prune_search.recipe.recipe import Named
    from prune_search.tasks.examples import Examples, Reader
    from prune_search.training.teaching import Teaching

CHECK_EVERY_ON_ACCELERATOR = 50
SEEDS_AT_ONCE = 64


class TrainingError(Exception):
    """Training cannot go on, and trying again would not help.

    Attributes:
        kind: ``nan`` or ``oom``.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Hook:
    """What a method does during training. Every part is optional.

    Attributes:
        name: tells its state from that of others.
        at_start: called once when network, optimizer and hooks hold the state that the segment begins or goes on from.
        before_step: called with the step before its forward pass.
        after_backward: called with the step when the gradients are there, before the optimizer uses them.
        after_step: called with the step when the optimizer has used them.
        finished: asked before each step; True ends the segment there.
        at_end: called once when the segment has reached its end.
        state, load: what it must remember to go on, as named tensors.
    """

    name: str
    at_start: Callable[[], None] | None = None
    before_step: Callable[[int], None] | None = None
    after_backward: Callable[[int], None] | None = None
    after_step: Callable[[int], None] | None = None
    finished: Callable[[int], bool] | None = None
    at_end: Callable[[], None] | None = None
    state: Callable[[], Mapping[str, Tensor]] | None = None
    load: Callable[[Mapping[str, Tensor]], None] | None = None


@dataclass
class Feed:
    """Batches by number: batch n is a pure function of (seed, words, n).

    Attributes:
        split: the training examples.
        batch: examples in a batch.
        seed: of the trial.
        words: the stream; () is the training clock's.
        augment: the registered augmentation, or None.
        ahead: whether examples that are read by worker processes are read before they are asked for.
    """

    split: Examples
    batch: int
    seed: int
    words: tuple[str | int, ...] = ()
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    ahead: bool = False
    _reader: Reader | None = None
    _layer_seeds: tuple[int, list[int]] = (-1, [])

    @property
    def epoch(self) -> int:
        """Batches in an epoch: ⌊examples / batch⌋."""
        return len(self.split) // self.batch

    def __call__(self, step: int) -> tuple[Any, Any]:
        """(inputs [B, …], labels [B, …]) of the batch at a step of the stream."""
        inputs, labels = self._read()(step)
        if self.augment is not None:
            inputs = self.augment(inputs, generator(self.seed, "augment", *self.words, step))
        return inputs, labels

    def layer_seed(self, number: int) -> int:
        """What the layers of a step are seeded with, by the number of its batch.

        Found for a run of steps at once: one at a time, between two passes, each takes ten times as long.
        """
        run, place = divmod(number, SEEDS_AT_ONCE)
        if self._layer_seeds[0] != run:
            numbers = range(run * SEEDS_AT_ONCE, (run + 1) * SEEDS_AT_ONCE)
            self._layer_seeds = run, [derive(self.seed, "layers", *self.words, one) for one in numbers]
        return self._layer_seeds[1][place]

    @property
    def waited_s(self) -> float:
        """Seconds for which steps have waited for data."""
        return 0.0 if self._reader is None else float(getattr(self._reader, "waited_s", 0.0))

    def close(self) -> None:
        """End the processes that read ahead; the next batch that is asked for starts them anew."""
        end = getattr(self._reader, "close", None)
        if end is not None:
            end()

    def state_hook(self) -> Hook | None:
        """What stores where a stream is, with every state of the training; None where batches are found by number."""
        reader = self._read()
        state, load = getattr(reader, "state", None), getattr(reader, "load", None)
        return None if state is None else Hook("stream", state=state, load=load)

    def _read(self) -> Reader:
        if self._reader is None:
            # It must not hold the feed, which holds it: the garbage collector would end the queue to its workers
            # before it tells them to end, and wait for each of them for seconds.
            order = _Order(self.split, self.batch, self.seed, self.words)
            self._reader = self.split.reader(order, self.batch, self.ahead)
        return self._reader


@dataclass
class _Order:
    """Which examples the batch of a step is made of, and what they draw from; of a stream, the latter alone."""

    split: Examples
    batch: int
    seed: int
    words: tuple[str | int, ...]
    orders: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, step: int) -> Request:
        seed, words = self.seed, self.words
        if len(self.split) < self.batch:
            return Request(torch.empty(0, dtype=torch.int64), lambda: derive(seed, "read", *words, step))
        epoch, place = divmod(step, len(self.split) // self.batch)
        order = self.orders.get(epoch)
        if order is None:
            draw = generator(seed, "order", *words, epoch)
            order = torch.randperm(len(self.split), generator=draw).to(self.split.device)
            # Reading ahead comes to the next epoch before this one is over.
            self.orders = {number: self.orders[number] for number in self.orders if number == epoch - 1}
            self.orders[epoch] = order
        chosen = order[place * self.batch : (place + 1) * self.batch]
        return Request(chosen, lambda: derive(seed, "read", *words, epoch))


def augmentation(augment: Named) -> Callable[[Tensor, torch.Generator], Tensor] | None:
    """A registered augmentation as a function, or None for ``none``."""
    from prune_search.recipe.axes import AUGMENTATIONS

    if augment.name == "none":
        return None
    make, options = augment.entry(AUGMENTATIONS).make, dict(augment.options)
    return lambda inputs, draw: make(inputs, draw, **options)


@dataclass(frozen=True)
class Network:
    """A model on its device.

    Attributes:
        model: in the memory format that is fastest there.
        device: where it lies.
        autocast: makes the context of a forward pass.
        loss: from (outputs, labels) to a scalar.
        gradients: adds those of a batch to the parameters' and gives its loss: `pass_over`, or several workers.
        teaching: with a teacher, what the loss asks it; None without one.
    """

    model: nn.Module
    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]
    loss: Callable[[Any, Any], Tensor]
    gradients: Callable[[Network, Feed, int], Tensor] = lambda network, feed, number: pass_over(network, feed, number)
    teaching: Teaching | None = None


@dataclass(frozen=True)
class Course:
    """How a segment is trained.

    Attributes:
        optimizer: over the network's parameters.
        feed: batches by number.
        first: the feed's number of the segment's step 0.
        rate: learning rate by step of the segment.
        hooks: called in this order; what stores the place in a stream comes last by itself.
        further: parameters of the optimizer that are not the network's, by name; a hook stores their values.
    """

    optimizer: torch.optim.Optimizer
    feed: Feed
    first: int
    rate: Callable[[int], float]
    hooks: Sequence[Hook] = ()
    further: Mapping[str, nn.Parameter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        place = self.feed.state_hook()
        if place is not None:
            # A stream has no order but its own: where it is belongs to every state.
            object.__setattr__(self, "hooks", (*self.hooks, place))

    def finished(self, step: int) -> bool:
        """Whether a hook ends the segment at a step that is reached."""
        return any(hook.finished(step) for hook in self.hooks if hook.finished is not None)


def train(
    network: Network, course: Course, start: int, stop: int, on_step: Callable[[int, Tensor], None] | None = None
) -> int:
    """Train from step `start` to step `stop` of a segment.

    Every random number that step t uses is a function of the seed and the number of its batch, so that training from
    t to u in one go or with stops gives the same bits.

    Args:
        network: trained in place.
        course: optimizer, data, rate and hooks.
        start: step of the segment to begin at.
        stop: step to end at.
        on_step: told each finished step and its loss.

    Returns:
        The step that was reached: `stop`, or where a hook was finished.

    Raises:
        TrainingError: the loss is no number, or the device is out of memory.
    """
    model, feed, optimizer = network.model, course.feed, course.optimizer
    before = [hook.before_step for hook in course.hooks if hook.before_step]
    after = [hook.after_backward for hook in course.hooks if hook.after_backward]
    can_finish = any(hook.finished for hook in course.hooks)
    check_every = 1 if network.device.type == "cpu" else CHECK_EVERY_ON_ACCELERATOR
    stepped = [hook.after_step for hook in course.hooks if hook.after_step]
    rate = math.nan
    model.train()
    for step in range(start, stop):
        if can_finish and course.finished(step):
            return step
        number = course.first + step
        if (wanted := course.rate(step)) != rate:
            rate = wanted
            set_rate(optimizer, rate)
        for call in before:
            call(step)
        optimizer.zero_grad(set_to_none=True)
        loss = network.gradients(network, feed, number)
        for call in after:
            call(step)
        optimizer.step()
        for call in stepped:
            call(step)
        if (step % check_every == 0 or step == stop - 1) and not math.isfinite(loss.item()):
            raise TrainingError("nan", f"the loss is {loss.item()} at step {step} (learning rate {rate:g})")
        if on_step is not None:
            on_step(step + 1, loss)
    return stop


def pass_over(network: Network, feed: Feed, number: int) -> Tensor:
    """One pass over a batch, forward and backward.

    Args:
        network: the gradients are added to those of its parameters.
        feed: the batches.
        number: of the batch.

    Returns:
        The loss.
    """
    seed_layers(network.device, feed.layer_seed(number))
    inputs, labels = feed(number)
    with network.autocast():
        loss = network.loss(network.model(inputs), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss


def seed_layers(device: torch.device, seed: int) -> None:
    """Seed what layers like dropout draw from, so that a step does not depend on those before it."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
