"""Tests whether channels can really be cut out, by exchanging them with each other and by cutting some.

Both are tried on a copy of the network with other weights, in which no branch is zero, so that the answer depends on
what the network computes and not on the weights that it has.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from prune_search.tasks.passes import eager, evaluating, same_draws, twin_of, without_dropout
from prune_search.tasks.structures import mapped, tensors_in

if TYPE_CHECKING:
    from prune_search.pruning.mask.dependency_groups import Channels, Claim

# Of the largest output: sums are taken in another order. In float64, and where a network does not run in it.
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4}
# Copies with other weights: in the first a branch may be dead, so that what is done to it does not show.
DRAWS = 2
NOT_ALIKE = "its channels are not interchangeable: they are split, paired or reshaped on the way to what reads them"
CHANGES = "cutting its channels out changes outputs: something on the way counts them"


class CutChecks:
    """A copy of a network on which channels are exchanged and cut."""

    def __init__(self, model: nn.Module, example: Any, draw: int = 0) -> None:
        """The copy runs in float64 where the network can.

        Args:
            model: left as it was.
            example: inputs [N, …].
            draw: of the copy's weights, below `DRAWS`.
        """
        self.draw = draw
        self.other = functools.cache(lambda: CutChecks(model, example, draw + 1))
        self.model = _redrawn(model, torch.float64, draw)
        self.example = mapped(example, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
        self.whole = self._outputs({})
        if self.whole is None or not all(bool(out.isfinite().all()) for out in self.whole):
            self.model, self.example = _redrawn(model, None, draw), example
            self.whole = self._outputs({})
        self.tensors = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}

    def objection(self, sets: Sequence[Channels], proven: bool = False) -> str:
        """Why some sets of channels cannot be cut out; empty where they can.

        Args:
            sets: that are cut at once, each at places of its own.
            proven: the cut network must run as its code is. Else shapes that are written down there are no fault of
                the channels.
        """
        if self.whole is None:
            return ""
        if not self._same(self.whole, self._outputs(self._exchanged(sets))):
            return NOT_ALIKE
        kept = [_drawn(one, place) for place, one in enumerate(sets)]
        masked = self._outputs(self._zeroed(sets, kept))
        with _narrowed(self.model, sets, kept):
            cut = self._outputs(self._cut(sets, kept))
        if cut is None or masked is None:
            return CHANGES if proven else ""
        if not self._same(masked, cut):
            return CHANGES
        unseen = [] if self.draw + 1 == DRAWS else self._unseen(sets, kept, masked)
        return self.other().objection(unseen, proven) if unseen else ""

    def _unseen(self, sets: Sequence[Channels], kept: Sequence[Tensor], masked: list[Tensor]) -> list[Channels]:
        """The sets of which nothing shows in the masked network: it has the same outputs without them."""
        found = []
        for place, one in enumerate(sets):
            without = [torch.zeros_like(units) if at == place else units for at, units in enumerate(kept)]
            if self._same(masked, self._outputs(self._zeroed(sets, without))):
                found.append(one)
        return found

    def _exchanged(self, sets: Sequence[Channels]) -> dict[str, Tensor]:
        """The tensors in which the channels of each set stand in another order."""
        changed: dict[str, Tensor] = {}
        for place, one in enumerate(sets):
            order = _order(one, place)
            for claim in (*one.claims, *one.beside):
                changed[claim.parameter] = _exchange(self._now(changed, claim), claim, order)
        return changed

    def _zeroed(self, sets: Sequence[Channels], kept: Sequence[Tensor]) -> dict[str, Tensor]:
        """The tensors in which the channels that do not stay are 0."""
        changed: dict[str, Tensor] = {}
        for one, units in zip(sets, kept, strict=True):
            for claim in one.claims:
                changed[claim.parameter] = _zero(self._now(changed, claim), claim, units)
        return changed

    def _cut(self, sets: Sequence[Channels], kept: Sequence[Tensor]) -> dict[str, Tensor]:
        """The tensors without the channels that do not stay: all that go along a dimension at once."""
        stays: dict[tuple[str, int], Tensor] = {}
        for one, units in zip(sets, kept, strict=True):
            for claim in (*one.claims, *one.beside):
                place, length = (claim.parameter, claim.dimension), self._now({}, claim).shape[claim.dimension]
                before = stays.get(place, torch.ones(length, dtype=torch.bool))
                stays[place] = before & ~_places(claim, ~units, length)
        changed: dict[str, Tensor] = {}
        for (name, dimension), places in stays.items():
            tensor = changed.get(name, self.tensors[name].detach())
            changed[name] = tensor.index_select(dimension, torch.nonzero(places).squeeze(1).to(tensor.device))
        return changed

    def _now(self, changed: Mapping[str, Tensor], claim: Claim) -> Tensor:
        """A claim's tensor as it has become."""
        return changed.get(claim.parameter, self.tensors[claim.parameter].detach())

    def _outputs(self, changed: dict[str, Tensor]) -> list[Tensor] | None:
        """The outputs with other tensors; None where the network does not run with them."""
        try:
            with eager(), evaluating(self.model), same_draws(self.example), without_dropout():
                found = torch.func.functional_call(self.model, changed, (self.example,))
        except Exception:  # noqa: BLE001 - whatever a network raises that is cut in a way its code does not foresee
            return None
        return tensors_in(found)

    def _same(self, first: list[Tensor], second: list[Tensor] | None) -> bool:
        if second is None or len(first) != len(second):
            return False
        for one, other in zip(first, second, strict=True):
            if one.shape != other.shape:
                return False
            bound = TOLERANCE.get(one.dtype, 1e-2) * float(one.detach().abs().max()) if one.numel() else 0.0
            if one.is_floating_point() and not bool(((one - other).abs() <= bound).all()):
                return False
        return True


def _redrawn(model: nn.Module, dtype: torch.dtype | None, draw: int) -> nn.Module:
    """A copy with weights near those of `model`, none of them 0."""
    twin = twin_of(model)
    twin = twin if dtype is None else twin.to(dtype)
    source = torch.Generator().manual_seed(draw)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.is_floating_point():
                drawn = torch.randn(2, *parameter.shape, generator=source).to(parameter)
                fan = max(1, parameter[0].numel() if parameter.dim() > 1 else 4)
                parameter.mul_(1 + 0.3 * drawn[0]).add_(drawn[1] * fan**-0.5)
        for name, buffer in twin.named_buffers():
            if buffer.is_floating_point() and name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand(buffer.shape, generator=source).to(buffer))
    return twin


def _order(one: Channels, draw: int) -> Tensor:
    """An order of a set's channels: those that the same layers have are exchanged with each other."""
    classes: dict[tuple[bool, ...], list[int]] = {}
    members = [None if claim.at is None else set(claim.at.tolist()) for claim in one.claims]
    for unit in range(one.size):
        classes.setdefault(tuple(own is None or unit in own for own in members), []).append(unit)
    order = torch.arange(one.size)
    source = torch.Generator().manual_seed(1 + draw)
    for units in classes.values():
        own = torch.tensor(units)
        drawn = own[torch.randperm(len(units), generator=source)]
        # A draw of two may leave them where they are.
        order[own] = own.roll(1) if torch.equal(drawn, own) else drawn
    return order


def _drawn(one: Channels, draw: int) -> Tensor:
    """Which channels stay: about half of them, but 2 places at least, which nothing takes for one that is repeated."""
    least = 1 if one.claims[0].index.shape[1] > 1 else 2
    if one.size <= least:
        return torch.ones(one.size, dtype=torch.bool)
    order = torch.randperm(one.size, generator=torch.Generator().manual_seed(2 + draw))
    kept = torch.zeros(one.size, dtype=torch.bool)
    kept[order[: max(least, one.size // 2)]] = True
    return kept


def _units(claim: Claim) -> Tensor:
    return torch.arange(len(claim.index)) if claim.at is None else claim.at


def _exchange(tensor: Tensor, claim: Claim, order: Tensor) -> Tensor:
    """Each channel in the place of another."""
    own = _units(claim)
    row = {unit: at for at, unit in enumerate(own.tolist())}
    sources = torch.tensor([row[unit] for unit in order[own].tolist()])
    made = tensor.clone()
    rows, before = made.movedim(claim.dimension, 0), tensor.movedim(claim.dimension, 0)
    to, of = claim.index.reshape(-1).to(tensor.device), claim.index[sources].reshape(-1).to(tensor.device)
    rows[to] = before[of]
    return made


def _zero(tensor: Tensor, claim: Claim, kept: Tensor) -> Tensor:
    made = tensor.clone()
    gone = _places(claim, ~kept, tensor.shape[claim.dimension]).to(tensor.device)
    made.movedim(claim.dimension, 0)[gone] = 0
    return made


def _places(claim: Claim, units: Tensor, length: int) -> Tensor:
    """The places along a dimension of some channels, bool [length]."""
    found = torch.zeros(length, dtype=torch.bool)
    found[claim.index[units[_units(claim)]].reshape(-1)] = True
    return found


@contextlib.contextmanager
def _narrowed(model: nn.Module, sets: Sequence[Channels], kept: Sequence[Tensor]) -> Iterator[None]:
    """Depthwise convolutions with as many groups, and normalizations of as many features, as channels stay."""
    modules = dict(model.named_modules())
    before: list[tuple[nn.Module, str, int]] = []
    for one, units in zip(sets, kept, strict=True):
        for claim in (*one.claims, *one.beside):
            module = modules[claim.parameter.rpartition(".")[0]]
            stays = int(_places(claim, units, int(claim.index.max()) + 1).sum())
            counted = {"groups": claim.role == "depthwise", "num_features": hasattr(module, "num_features")}
            for name in (name for name, has in counted.items() if has):
                before.append((module, name, getattr(module, name)))
                setattr(module, name, stays)
    try:
        yield
    finally:
        for module, name, value in reversed(before):
            setattr(module, name, value)
