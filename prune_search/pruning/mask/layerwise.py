"""Prunes single layers by statistics of their inputs, and decides how much each of them keeps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.mask_set import Pool, ScoreError, select
from prune_search.tasks.layers import kind_of, listed
from prune_search.tasks.patches import patches

Statistic = Literal["squares", "products"]


def _as_it_is(statistic: Tensor) -> Tensor:
    return statistic


@dataclass(frozen=True, eq=False)
class Keeping:
    """How many weights of a layer are kept, its weight seen as a matrix [outputs, inputs].

    Attributes:
        count: weights to keep, of the layer, of each row, or of each run.
        parts: rows, or runs, that compete within themselves only; 1: the layer.
        run: weights of a run along the inputs; 0: there are no runs.
        allowed: bool [outputs, inputs], what may be kept; None: everything.
        ties: see `mask_set.Pool`.
    """

    count: int
    parts: int = 1
    run: int = 0
    allowed: Tensor | None = None
    ties: str = "index"

    def of(self, scores: Tensor) -> Tensor:
        """The mask of highest scores, [outputs, inputs], on their device."""
        allowed = torch.ones(scores.shape, dtype=torch.bool) if self.allowed is None else self.allowed
        pool = Pool(("layer",), self.count, self.parts, ties=self.ties)
        found = select({"layer": scores}, {"layer": allowed}, [pool])["layer"]
        return found.reshape(scores.shape).to(scores.device)


@dataclass(frozen=True)
class Layerwise:
    """How a criterion prunes a layer from its own weights and inputs alone.

    Attributes:
        statistic: what it looks at: Σ x² of every input, or the products Σ x xᵀ of all pairs.
        prune: from the weight [outputs, inputs] in float32 or wider, what `prepare` made and what is kept, to the mask
            and the weight, which is another one where the criterion moves what it keeps.
        prepare: what is made of a statistic, [inputs] or [inputs, inputs], once for all layers that share it; it may
            change it.
        moves: the settings by which it moves the weights that it keeps; None: they stay.
    """

    statistic: Statistic
    prune: Callable[[Tensor, Tensor, Keeping], tuple[Tensor, Tensor]]
    prepare: Callable[[Tensor], Tensor] = _as_it_is
    moves: object = None


def as_matrix(layer: nn.Module, weight: Tensor) -> Tensor:
    """A layer's weight, or a tensor shaped like it, as [outputs, inputs of one output].

    Raises:
        ScoreError: the layer is none that multiplies its inputs with one matrix.
    """
    kind = kind_of(layer)
    if kind is not None and kind.turned:
        return weight.T
    plain = isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and layer.groups == 1)
    if not plain:
        text = f"a layer of type {type(layer).__name__} is not a product of one matrix with its inputs"
        raise ScoreError(f"{text}: leave it out (exclude), or score all layers together")
    return weight.flatten(1)


def from_matrix(layer: nn.Module, matrix: Tensor, shape: torch.Size) -> Tensor:
    """A matrix of `as_matrix` shaped like the weight again."""
    kind = kind_of(layer)
    return matrix.T.contiguous() if kind is not None and kind.turned else matrix.reshape(shape)


def rows_seen(layer: nn.Module, inputs: Tensor) -> Tensor:
    """What the weight of a layer is multiplied with, [places, inputs of one output]."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        seen = patches(layer, inputs)
        assert seen is not None  # as_matrix has refused the others
        return seen.reshape(-1, seen.shape[-1])
    return inputs.reshape(-1, inputs.shape[-1])


def _windows(layer: nn.Module) -> tuple[object, ...]:
    """How a layer cuts its inputs into rows: convolutions of other kernels or steps see other rows of one picture."""
    if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return ()
    return layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.padding_mode


@contextlib.contextmanager
def shown(layers: Iterable[nn.Module], note: Callable[[nn.Module, Tensor], None]) -> Iterator[None]:
    """Meanwhile every call of some layers is shown: the layer, and its input [..., inputs]."""

    def hook(layer: nn.Module, args: tuple[Tensor, ...], _output: object) -> None:
        note(layer, args[0])

    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class InputStatistics:
    """Sums over what comes into layers; layers that see the same tensor in the same way share one.

    Attributes:
        kind: Σ x² [inputs] in float64, or Σ x xᵀ [inputs, inputs] in float32 or wider.
        layers: name -> layer.
    """

    kind: Statistic
    layers: Mapping[str, nn.Module]
    _sums: dict[str, Tensor] = field(default_factory=dict)
    _leaders: dict[str, str] = field(default_factory=dict)
    _given: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._names = {id(layer): name for name, layer in self.layers.items()}

    def add(self, layer: nn.Module, inputs: Tensor) -> None:
        """More inputs [..., inputs] of a layer, in the order of a pass."""
        name = self._names[id(layer)]
        same = [
            other
            for other, given in self._given.items()
            if given is inputs and _windows(self.layers[other]) == _windows(layer)
        ]
        leader = self._leaders.setdefault(name, self._leaders[same[0]] if same else name)
        self._given[name] = inputs
        if leader != name:
            if self._given[leader] is not inputs:
                raise ScoreError(f"{leader} and {name} have the same inputs in one batch, and others in another")
            return
        found = self._of(rows_seen(layer, inputs.detach()))
        self._sums[name] = self._sums[name].add_(found) if name in self._sums else found

    def _of(self, rows: Tensor) -> Tensor:
        if self.kind == "squares":
            return rows.square().sum(0, dtype=torch.float64)
        wide = rows if rows.dtype == torch.float64 else rows.float()
        return wide.T @ wide

    def taken(self) -> Iterator[tuple[Tensor, Sequence[str]]]:
        """Each sum, which is forgotten then, with the layers that share it.

        Raises:
            ScoreError: nothing came into some layers.
        """
        if missing := [name for name in self.layers if name not in self._leaders]:
            text = f"no batch reaches {listed(missing)} by a call of the layer, so the inputs are not known"
            raise ScoreError(f"{text}: leave it out (exclude), or pass other batches")
        self._given.clear()
        groups: dict[str, list[str]] = {}
        for name, leader in self._leaders.items():
            groups.setdefault(leader, []).append(name)
        for leader, names in groups.items():
            yield self._sums.pop(leader), names
