"""Explicit densities per layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

from prune_search.pruning.mask.counts import PRECISION, exact, keep_count
from prune_search.pruning.mask.scopes.shared import SHARED
from prune_search.recipe.axes import SCOPES
from prune_search.recipe.facts import Scope
from prune_search.recipe.fields import Number, child
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown
from prune_search.recipe.reading import BAD, Reading
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from prune_search.pruning.mask.mask_set import Pool
    from prune_search.pruning.mask.units import LayerUnits

MAX_LAYERS = 10_000


@dataclass(frozen=True)
class PerLayer:
    """A mapping from layers to numbers.

    Attributes:
        value: how a number is read.
    """

    value: Number

    def describe(self) -> str:
        return f"a mapping from a layer's name to {self.value.describe()}"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        if not isinstance(raw, Mapping) or len(raw) > MAX_LAYERS or not all(isinstance(key, str) for key in raw):
            return reading.wrong(path, f"must be {self.describe()} (got {shown(raw)})")
        read = {key: self.value.read(number, child(path, key), reading) for key, number in raw.items()}
        return BAD if any(number is BAD for number in read.values()) else dict(sorted(read.items()))


def named_layer(name: str, layers: list[LayerUnits], path: str) -> str:
    """The layer that a layer's or weight's name means; of coupled channels the one that counts them.

    Raises:
        UserError: none that takes part has that name.
    """
    for layer in layers:
        for owner in layer.owners or (layer.name,):
            if name in (owner, owner.removesuffix(".weight")):
                return layer.name
    known = [owner.removesuffix(".weight") for layer in layers for owner in (layer.owners or (layer.name,))]
    raise UserError([Problem(path, not_one_of(name, known))])


def toward(layers: list[LayerUnits], wanted: list[Decimal], share: Decimal, rounding: str) -> list[int]:
    """Counts on the way to `wanted`: where they are the share of all units, exactly; before, k^t with one t for all.

    Args:
        layers: that take part.
        wanted: kept share per layer at the end.
        share: of all units, from 1 (nothing removed) to that of `wanted`.
        rounding: of counts.
    """
    counts = [keep_count(layer.units, keep, rounding) for layer, keep in zip(layers, wanted, strict=True)]
    final = overall(layers, counts)
    if share <= final or final in (0, 1):
        return counts
    with localcontext() as context:
        context.prec = PRECISION
        t = share.ln() / final.ln()
        shares = [keep**t if keep else Decimal(0) for keep in wanted]
    return [keep_count(layer.units, keep, rounding) for layer, keep in zip(layers, shares, strict=True)]


def overall(layers: list[LayerUnits], counts: list[int]) -> Decimal:
    """The kept share of all units."""
    with localcontext() as context:
        context.prec = PRECISION
        return Decimal(sum(counts)) / Decimal(max(1, sum(layer.units for layer in layers)))


def _wanted(layers: list[LayerUnits], sparsities: Mapping[str, float], default: float) -> list[Decimal]:
    given = {named_layer(name, layers, "mask.scope.layers"): sparsity for name, sparsity in sparsities.items()}
    return [1 - exact(given.get(layer.name, default)) for layer in layers]


def _densities(layers: list[LayerUnits], share: Decimal, /, **options: Any) -> list[float]:
    return [float(keep) for keep in _wanted(layers, options["layers"], options["default"])]


@SCOPES.register(
    "explicit",
    summary="an explicit sparsity per layer; ⌊kn+½⌋ of a layer's n units are kept",
    options={
        "layers": Option(PerLayer(Number(0.0, 1.0)), {}, "sparsity per layer, by the layer's or its weight's name"),
        "default": Option(Number(0.0, 1.0), 0.0, "sparsity of all other layers"),
        **SHARED,
    },
    facts=Scope(sparsity=("by",), decides=True, densities=_densities),
)
def explicit(
    layers: list[LayerUnits], share: Decimal | None, rounding: str = "half-up", /, *, least: int = 0, **options: Any
) -> list[Pool]:
    """One pool per layer.

    Args:
        layers: that take part.
        share: kept share of all units, on the way to that of the written sparsities; None: at the end of it.
        rounding: of counts.
        least: units that each layer keeps at least.
        options: ``layers`` and ``default``, as registered.

    Raises:
        UserError: a named layer takes no part.
    """
    from prune_search.pruning.mask.mask_set import Pool

    wanted = _wanted(layers, options["layers"], options["default"])
    counts = toward(layers, wanted, Decimal(0) if share is None else share, rounding)
    return [Pool((layer.name,), max(kept, min(least, layer.units))) for layer, kept in zip(layers, counts, strict=True)]
