"""A teacher: another network that sees the batches of the one that is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from prune_search.recipe.problems import Problem, UserError

if TYPE_CHECKING:
    from prune_search.training.loop import Feed, Network


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a teacher says of a batch.

    Attributes:
        outputs: the teacher's, as its forward pass returns them; no gradient flows into them.
        task: the loss of the task, from (outputs, labels) to a scalar.
        features: the inputs of the output layer, of the network that is trained and of the teacher; None where they are
            not asked for.
    """

    outputs: object
    task: Callable[[Any, Any], Tensor]
    features: tuple[Tensor, Tensor] | None = None


@dataclass(eq=False)
class Teaching:
    """A teacher and the network that it teaches.

    The teacher is run in evaluation mode and without gradients, on the very inputs of the network, and in the same
    precision. It costs one forward pass per batch.

    Attributes:
        made: gives the teacher, on the device of the network, when it is first needed; its weights stay.
        task: the loss of the task, from (outputs, labels) to a scalar.
        make: the loss, from (outputs, labels, lesson=…) to a scalar.
        layers: names of the modules whose inputs are compared, of the network and of the teacher; None: none are.
    """

    made: Callable[[], nn.Module]
    task: Callable[[Any, Any], Tensor]
    make: Callable[..., Tensor]
    layers: tuple[str, str] | None = None
    _inputs: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    _features: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def teacher(self) -> nn.Module:
        """The teacher. Look at it before the network is trained: it can come out of the same network."""
        return self.made().eval().requires_grad_(False)

    @contextlib.contextmanager
    def listening(self, student: nn.Module) -> Iterator[None]:
        """Within, the forward passes of a network are the ones that the teacher is asked about."""
        handles = [student.register_forward_pre_hook(self._listen, with_kwargs=True)]
        if self.layers is not None:
            for who, model, name in zip(("student", "teacher"), (student, self.teacher), self.layers, strict=True):
                handles.append(model.get_submodule(name).register_forward_pre_hook(self._keeper(who)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._inputs = None
            self._features.clear()

    def _listen(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._inputs = (args, kwargs)

    def _keeper(self, who: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
            self._features[who] = args[0]

        return keep

    def loss(self, outputs: Any, labels: Any) -> Tensor:
        """The loss of the last forward pass.

        Raises:
            RuntimeError: nobody was listening.
        """
        if self._inputs is None:
            raise RuntimeError("the teacher has not seen the inputs of this batch")
        args, kwargs = self._inputs
        with torch.no_grad():
            said = self.teacher(*args, **kwargs)
        return self.make(outputs, labels, lesson=Lesson(said, self.task, self._pair()))

    def _pair(self) -> tuple[Tensor, Tensor] | None:
        if self.layers is None:
            return None
        for who in ("student", "teacher"):
            if not isinstance(self._features.get(who), Tensor):
                text = f"the output layer of the {who} is not called with a tensor, so its inputs cannot be compared"
                raise UserError([Problem("retrain.loss.features", text, form=False)])
        return self._features["student"], self._features["teacher"]

    def gradients(self, plain: Callable[[Network, Feed, int], Tensor]) -> Callable[[Network, Feed, int], Tensor]:
        """The gradients of a batch, the teacher listening; see `loop.Network.gradients`."""

        def taught(network: Network, feed: Feed, number: int) -> Tensor:
            with self.listening(network.model):
                return plain(network, feed, number)

        return taught
