"""The input of a criterion: the network with masked weights, the unmasked weights, and the data to score on."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.shards import is_shard

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from prune_search.tasks.workers import Workers
else:
    from prune_search.lazy import torch

Scores = dict[str, "Tensor"]
Batches = Sequence[tuple[Any, Any]]
ERROR = "error"


def single_weights(tensor: Tensor) -> Tensor:
    """A tensor shaped like a weight as [units, 1]: every weight is a unit."""
    return tensor.reshape(-1, 1)


@dataclass(frozen=True)
class Scoring:
    """The input of a criterion.

    Attributes:
        model: the network; its prunable weights are w ⊙ c for the mask c of the iteration before.
        weights: the prunable weight parameters by name, in module order.
        dense: the same weights unmasked, w(k1).
        batches: the (inputs, labels) that are scored on.
        loss: from (logits, labels) to a scalar.
        seed: of the trial.
        words: what tells this draw from others: the round, the iteration.
        example: an input of the network, [1, …]: for its shape, where no data are looked at; None: of the batches.
        memory: what a criterion keeps from one iteration of a search to the next.
        rough: cheaper scores will do; the bound of their relative error is then put in `memory` under ERROR.
        split: a tensor shaped like a weight as [units, weights of a unit].
        workers: that score together. All see the same batches: a criterion that knows nothing of them computes the same
            on each; one that sums over examples can take its share (see `shares`) and add up. None: there is only one.
    """

    model: nn.Module
    weights: Mapping[str, nn.Parameter]
    dense: Mapping[str, Tensor]
    batches: Callable[[], Batches]
    loss: Callable[[Any, Any], Tensor]
    seed: int
    words: tuple[str | int, ...]
    example: Callable[[], Any] | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    rough: bool = False
    split: Callable[[Tensor], Tensor] = field(default=single_weights)
    workers: Workers | None = None

    def shares(self, batches: Batches | None = None) -> Iterator[tuple[Any, Any, float]]:
        """This worker's share of every batch: inputs, labels and their part of the batch, 1 where there is one worker.

        Args:
            batches: in the place of those that are scored on.
        """
        for inputs, labels in self.batches() if batches is None else batches:
            yield (inputs, labels, 1.0) if self.workers is None else self.workers.share(inputs, labels)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Sum over all workers, in place, what was summed over this one's shares."""
        if self.workers is not None:
            self.workers.total(tensors)

    def together(self, twice: bool = False) -> contextlib.AbstractContextManager[None]:
        """Batch norms look at whole batches within, where each worker passes over its share.

        Args:
            twice: whether there will be second derivatives.
        """
        if self.workers is None or not self.workers.several:
            return contextlib.nullcontext()
        from prune_search.training.synced_norms import synced_norms

        return synced_norms(self.model, twice)

    def shown(self) -> Any:
        """Inputs of the network, on its device, whatever they are."""
        from prune_search.tasks.structures import mapped

        if self.example is None and not self.batches():
            raise UserError([Problem("batches", "the shape of an input is required: pass batches or example_input")])
        inputs = self.example() if self.example is not None else self.batches()[0][0]
        device = next(iter(self.weights.values())).device
        return mapped(inputs, lambda tensor: tensor.to(device))

    def ones(self, dtype: torch.dtype) -> Any:
        """An input of ones, [1, …], on the network's device."""
        from prune_search.tasks.structures import mapped, some_examples

        def filled(tensor: Tensor) -> Tensor:
            return torch.ones(tensor.shape, dtype=dtype, device=tensor.device)

        return mapped(some_examples(self.shown(), slice(1)), filled)


def scores_by(name: str, found: Any, scoring: Scoring) -> Scores:
    """What a criterion returned, checked: a plug-in's may be anything.

    Args:
        name: of the criterion.
        found: what it returned.
        scoring: what it was given.

    Raises:
        UserError: it is no mapping to tensors, or one of a wrong shape; or a weight has no scores.
    """
    if not isinstance(found, Mapping):
        raise _wrong(name, f"returned a {type(found).__name__}, not a mapping from each weight to its scores")
    for weight, parameter in scoring.weights.items():
        scores = found.get(weight)
        if not isinstance(scores, torch.Tensor):
            what = f"a {type(scores).__name__}, not a tensor," if weight in found else "no scores"
            raise _wrong(name, f"returned {what} for {weight}")
        # One for each filter has one dimension.
        if scores.shape != parameter.shape and not (scores.dim() == 1 and len(scores) in parameter.shape[:2]):
            text = f"returned scores of shape {list(scores.shape)} for {weight}, which has {list(parameter.shape)}"
            raise _wrong(name, text)
    return dict(found)


def _wrong(name: str, text: str) -> UserError:
    return UserError([Problem("mask.criterion", f"{name} {text}")])


def apart(scoring: Scoring, each_batch: bool) -> Iterator[Scoring]:
    """What is scored at a time: all batches, or one after the other."""
    batches = scoring.batches() if each_batch else []
    if len(batches) < 2:
        yield scoring
    for batch in batches if len(batches) > 1 else ():
        yield replace(scoring, batches=functools.partial(list, (batch,)))


def gradients(scoring: Scoring) -> Scores:
    """The loss gradient of every prunable weight, the mean over the batches, at the masked weights.

    The gradient is that of w ⊙ c itself, so that removed weights have one too.
    """
    batches = scoring.batches()
    names, parameters = list(scoring.weights), list(scoring.weights.values())
    if is_shard(parameters[0]):
        return _gradients_of_shards(scoring, batches)
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    with scoring.together():
        for inputs, labels, part in scoring.shares(batches):
            loss = scoring.loss(scoring.model(inputs), labels) * part
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            for total, gradient in zip(sums, found, strict=True):
                if gradient is not None:
                    total += gradient.detach()
    scoring.add_up(sums)
    return {name: total / len(batches) for name, total in zip(names, sums, strict=True)}


def _gradients_of_shards(scoring: Scoring, batches: Batches) -> Scores:
    """`gradients` of weights that are sharded over workers, as DTensors like them.

    torch reduces the gradients of shards in a backward pass only, which takes the mean over the workers. Those that
    the parameters have already are put back.
    """
    parameters = list(scoring.model.parameters())
    before = [parameter.grad for parameter in parameters]
    size = 1 if scoring.workers is None else scoring.workers.size
    try:
        for parameter in parameters:
            parameter.grad = None
        with scoring.together():
            for inputs, labels, part in scoring.shares(batches):
                loss = scoring.loss(scoring.model(inputs), labels) * (part * size)
                loss.backward()  # type: ignore[no-untyped-call]
        return {
            name: torch.zeros_like(weight) if weight.grad is None else weight.grad.detach() / len(batches)
            for name, weight in scoring.weights.items()
        }
    finally:
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient


def sample_gradients(scoring: Scoring, each: str) -> Iterator[tuple[list[Tensor], float]]:
    """The gradients of the prunable weights, one list after the other.

    Of several workers each takes some of the examples, where they do not look at each other; then the sums over all of
    them are to be added up (see `Scoring.add_up`).

    Args:
        scoring: at the masked weights.
        each: ``example``: of the loss of every example, in the forward pass of its batch; ``batch``: of every batch.

    Yields:
        One gradient per weight, in their order; and how much it counts for on this worker, 1 where there is no other.
    """
    from prune_search.tasks.structures import examples_in, some_examples
    from prune_search.tasks.workers import ALONE

    weights = list(scoring.weights.values())

    def gradient(loss: Tensor, keep: bool = False) -> list[Tensor]:
        found = torch.autograd.grad(loss, weights, retain_graph=keep, allow_unused=True)
        return [torch.zeros_like(w) if g is None else g.detach() for w, g in zip(weights, found, strict=True)]

    workers = scoring.workers or ALONE
    for inputs, labels in scoring.batches():
        if each == "batch":
            yield gradient(scoring.loss(scoring.model(inputs), labels)), 1.0 / workers.size
        elif _couples_examples(scoring.model):
            outputs = scoring.model(inputs)
            for one in _singly(inputs):
                loss = scoring.loss(some_examples(outputs, one), some_examples(labels, one))
                yield gradient(loss, keep=True), 1.0 / workers.size
        else:
            own, own_labels, _ = workers.share(inputs, labels)
            part = 1.0 if examples_in(inputs) >= workers.size else 1.0 / workers.size
            for one in _singly(own):
                loss = scoring.loss(scoring.model(some_examples(own, one)), some_examples(own_labels, one))
                yield gradient(loss), part


def _singly(inputs: Any) -> list[slice]:
    """Each example of a batch by itself."""
    from prune_search.tasks.structures import examples_in

    return [slice(index, index + 1) for index in range(examples_in(inputs))]


def _couples_examples(model: nn.Module) -> bool:
    """Whether an example's output depends on the others of its batch: batch norms with batch statistics do that."""
    norms = torch.nn.modules.batchnorm._BatchNorm
    return any(
        isinstance(module, norms) and (module.training or module.running_mean is None) for module in model.modules()
    )


def watch_layers(scoring: Scoring, weights: Collection[int], note: Callable[..., None]) -> None:
    """Run the batches through the network without gradients, and show what passes some of its layers.

    Args:
        scoring: the network and its batches.
        weights: ids of the weights whose layers are watched.
        note: a forward hook: told the layer, its inputs and its output.
    """
    from prune_search.tasks.layers import PRUNABLE
    from prune_search.tasks.passes import eager

    layers = [m for m in scoring.model.modules() if isinstance(m, PRUNABLE) and id(m._parameters["weight"]) in weights]
    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        with eager(), torch.no_grad():
            for inputs, _ in scoring.batches():
                scoring.model(inputs)
    finally:
        for handle in handles:
            handle.remove()
