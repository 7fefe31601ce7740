"""Units: what a granularity keeps or removes as a whole, in one layer or across coupled layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.channels import UNKNOWN, coupled_channels, following_norms, uncut_channels
from prune_search.pruning.mask.dependency_groups import Channels, Claim
from prune_search.pruning.mask.mask_set import MaskSet, UnitMasks
from prune_search.recipe import axes
from prune_search.recipe.facts import Granularity
from prune_search.recipe.recipe import Named
from prune_search.tasks.layers import has_computed_bias, holders, kind_of, prunable_weights

# What a parameter is to a unit: its own weights, the weights that read its output, those of a depthwise convolution on
# the way, or what must be zero with it: the scale of a normalization, a shift or a bias. As in Torch-Pruning coupled
# channels are scored by the first two and the scales.
WEIGHT, READER, DEPTHWISE, SCALE, HELD = "weight", "reader", "depthwise", "scale", "held"

WRONG_SHAPE = "its shape does not go with"
OF_EXPERTS = "it is of experts in one tensor, or routes to such: they go as a whole only (granularity expert)"


@dataclass(frozen=True, eq=False)
class Part:
    """What the units of a set own of one parameter.

    Attributes:
        parameter: its name.
        role: one of the words above.
        split: from a tensor shaped like the parameter to [units here, values of a unit].
        at: which units of the set those are, [units here]; None for all, in order.
    """

    parameter: str
    role: str
    split: Callable[[Tensor], Tensor]
    at: Tensor | None = None

    def kept(self, units: Tensor) -> Tensor:
        """The entries of `units`, [units of the set], for the units here."""
        return units if self.at is None else units[self.at]

    def join(self, kept: Tensor, shape: torch.Size) -> Tensor:
        """A bool mask shaped like the parameter, False where a removed unit owns it.

        Args:
            kept: bool [units of the set].
            shape: of the parameter.
        """
        places = self.split(torch.arange(shape.numel()).reshape(shape))
        mask = torch.ones(shape.numel(), dtype=torch.bool)
        mask[places[~self.kept(kept).cpu()].reshape(-1)] = False
        return mask.reshape(shape)


@dataclass(frozen=True, eq=False)
class UnitSet:
    """Units of one kind: those of a layer, or the channels that several layers share.

    Attributes:
        name: of the first weight that they own, in module order.
        size: how many units.
        shape: of that weight.
        parts: what they own.
        run: units in a run where a fixed number of every run is kept (n of m); 0 elsewhere.
        least: how many of them stay at least.
    """

    name: str
    size: int
    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    run: int = 0
    least: int = 0

    @property
    def owners(self) -> tuple[str, ...]:
        """The weights whose own units these are."""
        return tuple(dict.fromkeys(part.parameter for part in self.parts if part.role == WEIGHT))


@dataclass(frozen=True)
class LayerUnits:
    """A layer that takes part, or layers that share their channels.

    Attributes:
        name: of its weight (the first one's).
        shape: of that weight.
        units: how many units the granularity makes of it.
        available: how many of them may still be kept.
        owners: the weights whose units these are; empty: `name` alone.
        block: the number of the repeated block that it is in, from 0; None: it is in none.
    """

    name: str
    shape: tuple[int, ...]
    units: int
    available: int
    owners: tuple[str, ...] = ()
    block: int | None = None


@dataclass(frozen=True)
class Grouping:
    """The units that a granularity makes of one weight."""

    granularity: Named

    def split(self, tensor: Tensor) -> Tensor:
        """A tensor shaped like a weight as [units, weights of a unit]."""
        units: Tensor = self.granularity.entry(axes.GRANULARITIES).make(tensor, **self.granularity.options)
        return units

    def join(self, kept: Tensor, shape: torch.Size) -> Tensor:
        """A bool mask of units, [units], as one of weights, shaped like the weight."""
        return Part("", WEIGHT, self.split).join(kept, shape)

    @property
    def multiple(self) -> int:
        """What is kept of every layer is rounded to a multiple of it."""
        return int(self.granularity.options.get("multiple", 1))

    @property
    def prunes_output_layer(self) -> bool:
        """Whether the output layer takes part."""
        return bool(self.granularity.entry(axes.GRANULARITIES).facts.output_layer)

    @property
    def coupled(self) -> bool:
        """Whether a unit spans the layers that share a channel."""
        return bool(self.granularity.entry(axes.GRANULARITIES).facts.coupled)

    @property
    def looks_at_inputs(self) -> bool:
        """Whether a forward pass tells which parameters go together."""
        return self.coupled or bool(self.granularity.entry(axes.GRANULARITIES).facts.removes_outputs)

    def sets(self, model: nn.Module, left_out: Iterable[str], example: Any) -> list[UnitSet]:
        """The units of a network, in module order.

        Args:
            model: the network.
            left_out: weights of which nothing is removed (as someone's own; coupled channels may still take what
                reads them there).
            example: a batch of inputs [B, …] to find coupled channels and normalizations with.

        Raises:
            UserError: channels are coupled through the network's forward pass, and there is no example.
        """
        weights = prunable_weights(model)
        out = frozenset(left_out)
        if self.coupled:
            return coupled_sets(model, self._coupled(model, out, example)[0])
        facts = self.granularity.entry(axes.GRANULARITIES).facts
        layers = holders(model)
        norms = following_norms(model, example) if facts.removes_outputs and example is not None else {}
        found = []
        for name, weight in weights.items():
            module = layers[name][0][1]
            if name in out or self.misfit(module, weight):
                continue
            view = _view(facts, module)
            part = Part(name, WEIGHT, _Composed(view, self.split))
            places = [prefix for prefix, _ in layers[name]]
            held = _held(model, places, norms.get(name, ())) if facts.removes_outputs else ()
            size = int(part.split(_outline(weight)).shape[0])
            run = facts.run(**self.granularity.options) if facts.run is not None else 0
            found.append(UnitSet(name, size, tuple(weight.shape), (part, *held), run))
        return found

    def misfit(self, module: nn.Module, weight: Tensor) -> str:
        """Why a layer's weight does not go with the granularity, whatever is around it; empty where it does."""
        facts = self.granularity.entry(axes.GRANULARITIES).facts
        kind = kind_of(module)
        if kind is not None and kind.of_experts:
            return OF_EXPERTS
        if facts.removes_outputs and kind is not None and not kind.output_rows:
            return f"no {self.granularity.name}s can be removed from a layer of type {type(module).__name__}"
        if facts.removes_outputs and has_computed_bias(module):
            return "its bias is computed from other parameters, so no mask can hold it"
        view = _view(facts, module)
        shape = tuple(view(_outline(weight)).shape)
        if not facts.fits(shape, **self.granularity.options):
            return f"{WRONG_SHAPE} {self.granularity.name}: {shape}"
        return ""

    def others(
        self, model: nn.Module, sets: Iterable[UnitSet], left_out: Mapping[str, str], example: Any
    ) -> dict[str, str]:
        """The prunable weights that are in no set of units, and why.

        Args:
            model: the network.
            sets: of its units.
            left_out: weights that were left out, and why.
            example: a batch of inputs.
        """
        owned = {part.parameter for one in sets for part in one.parts if part.role in (WEIGHT, DEPTHWISE)}
        layers, weights = holders(model), prunable_weights(model)
        uncut = self._coupled(model, frozenset(left_out), example)[1] if self.coupled else {}
        return {
            name: left_out.get(name) or self._reason(name, layers[name][0][1], weight, uncut)
            for name, weight in weights.items()
            if name not in owned
        }

    def _coupled(
        self, model: nn.Module, left_out: frozenset[str], example: Any
    ) -> tuple[list[Channels], dict[str, str]]:
        """The sets of coupled units, and why other weights are in none."""
        find: Any = self.granularity.entry(axes.GRANULARITIES).facts.find
        if find is not None:
            found: tuple[list[Channels], dict[str, str]] = find(model, left_out, example)
            return found
        return coupled_channels(model, left_out, example), uncut_channels(model, left_out, example)

    def _reason(self, name: str, module: nn.Module, weight: Tensor, uncut: Mapping[str, str]) -> str:
        of_a_kind = self.granularity.entry(axes.GRANULARITIES).facts.find is not None
        known = uncut.get(name, UNKNOWN)
        return known if of_a_kind else self.misfit(module, weight) or known


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _outline(weight: Tensor) -> Tensor:
    """A tensor without values that has the shape of a weight, wherever that lies."""
    return torch.empty(weight.shape, device="meta")


def _view(facts: Granularity, module: nn.Module) -> Callable[[Tensor], Tensor]:
    """How a granularity looks at a layer's weight."""
    seen = by_channels if facts.by_channels else by_inputs if facts.by_inputs else None
    return _as_it_is if seen is None else seen(module)


@dataclass(frozen=True)
class _Composed:
    view: Callable[[Tensor], Tensor]
    split: Callable[[Tensor], Tensor]

    def __call__(self, tensor: Tensor) -> Tensor:
        return self.split(self.view(tensor))


def by_channels(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """From a weight of `module` to [outputs, inputs of an output, *kernel], however the layer stores it."""
    kind = kind_of(module)
    if kind is not None and kind.turned:
        return _turned
    if not getattr(module, "transposed", False):
        return _as_it_is
    groups = int(module.groups)  # type: ignore[arg-type]

    def view(tensor: Tensor) -> Tensor:
        inputs, outputs = tensor.shape[0] // groups, tensor.shape[1]
        parts = tensor.reshape(groups, inputs, outputs, *tensor.shape[2:]).transpose(1, 2)
        return parts.reshape(groups * outputs, inputs, *tensor.shape[2:])

    return view


def _turned(tensor: Tensor) -> Tensor:
    return tensor.T


def by_inputs(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """From a weight of `module` to [outputs of a group, inputs of all groups, *kernel], however the layer stores it."""
    kind, groups = kind_of(module), int(getattr(module, "groups", 1))
    inputs_first = bool(getattr(module, "transposed", False)) or (kind is not None and kind.turned)

    def view(tensor: Tensor) -> Tensor:
        if inputs_first:
            return tensor.transpose(0, 1)
        outputs, inputs = tensor.shape[0] // groups, tensor.shape[1]
        parts = tensor.reshape(groups, outputs, inputs, *tensor.shape[2:]).transpose(0, 1)
        return parts.reshape(outputs, groups * inputs, *tensor.shape[2:])

    return view


def _rows(tensor: Tensor) -> Tensor:
    return tensor.reshape(tensor.shape[0], -1)


def _held(model: nn.Module, layers: Iterable[str], norms: Iterable[str]) -> tuple[Part, ...]:
    """The bias of a layer (of each that has a tied weight) and the affine parameters of the normalization after it."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    modules = dict(model.named_modules())
    own = [modules[layer]._parameters.get("bias") for layer in layers]
    own += [modules[norm]._parameters.get(key) for norm in norms for key in ("weight", "bias")]
    wanted = dict.fromkeys(names[id(parameter)] for parameter in own if parameter is not None)
    return tuple(Part(name, HELD, _rows) for name in wanted)


@dataclass(frozen=True, eq=False)
class _Along:
    """Indices along a dimension: from a tensor to [units here, values of a unit]."""

    dimension: int
    index: Tensor

    def __call__(self, tensor: Tensor) -> Tensor:
        rows = tensor.movedim(self.dimension, 0) if tensor.dim() > 1 else tensor
        chosen = rows[self.index.to(tensor.device).reshape(-1)]
        return chosen.reshape(self.index.shape[0], -1)


def _whole(tensor: Tensor) -> Tensor:
    """All of a tensor as what one unit owns, [1, values]."""
    return tensor.reshape(1, -1)


def along(split: Callable[[Tensor], Tensor]) -> tuple[int, Tensor | None]:
    """The dimension that a part's units lie along and their places there, [units, places]; -1 where it is all of it."""
    return (split.dimension, split.index) if isinstance(split, _Along) else (-1, None)


def _split_of(claim: Claim) -> Callable[[Tensor], Tensor]:
    return _whole if claim.dimension < 0 else _Along(claim.dimension, claim.index)


def coupled_sets(model: nn.Module, sets: Iterable[Channels]) -> list[UnitSet]:
    """Units that span layers, in module order.

    Args:
        model: the network.
        sets: what they own of its parameters.
    """
    weights = prunable_weights(model)
    order = {name: place for place, name in enumerate(weights)}
    found = []
    for channels in sets:
        parts = tuple(Part(c.parameter, c.role, _split_of(c), c.at) for c in channels.claims)
        owners = sorted({part.parameter for part in parts if part.role == WEIGHT}, key=order.__getitem__)
        found.append(UnitSet(owners[0], channels.size, tuple(weights[owners[0]].shape), parts, least=channels.least))
    return sorted(found, key=lambda one: order[one.name])


def in_order(one: UnitSet) -> bool:
    """Whether the units of a set are the single weights of one layer, in row-major order, and nothing else."""
    if len(one.parts) != 1 or one.size != math.prod(one.shape) or one.parts[0].at is not None:
        return False
    places = torch.arange(one.size)
    return torch.equal(one.parts[0].split(places.reshape(one.shape)).reshape(-1), places)


def masks_of_units(
    sets: Iterable[UnitSet], kept: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]
) -> dict[str, Tensor]:
    """Masks of the parameters that units own: True but where a removed unit owns the place.

    Args:
        sets: the units.
        kept: bool [units] per set.
        shapes: of the network's parameters.
    """
    masks: dict[str, Tensor] = {}
    for one in sets:
        for part in one.parts:
            mask = part.join(kept[one.name], shapes[part.parameter])
            masks[part.parameter] = masks[part.parameter] & mask if part.parameter in masks else mask
    return masks


def units_of_masks(sets: Iterable[UnitSet], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Which units a mask keeps [units]: those of which it keeps any weight.

    Args:
        sets: the units.
        masks: bool masks of parameters, shaped like them; other parameters are ignored.
    """
    kept = {}
    for one in sets:
        found = torch.zeros(one.size, dtype=torch.bool)
        for part in one.parts:
            if part.parameter in masks:
                any_kept = part.split(masks[part.parameter].cpu()).any(1)
                if part.at is None:
                    found |= any_kept
                else:
                    found[part.at] |= any_kept
        kept[one.name] = found
    return kept


def as_mask_set(
    sets: Iterable[UnitSet], kept: UnitMasks, weights: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]
) -> MaskSet:
    """Convert a mask of units [units] to masks shaped like the weights, including coupled biases and scales."""
    found = masks_of_units(sets, kept, shapes)
    masks = {
        name: found[name] if name in found else torch.ones(weight.shape, dtype=torch.bool)
        for name, weight in weights.items()
    }
    held = {name: mask for name, mask in found.items() if name not in weights}
    units = {name: (mask.numel(), int(mask.sum())) for name, mask in kept.items()}
    return MaskSet(masks, units, held=held, sizes={name: shape.numel() for name, shape in shapes.items()})
