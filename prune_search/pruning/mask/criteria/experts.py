"""What a router and an expert add to the outputs of their block: how experts are ranked by what they do."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Criterion
from prune_search.recipe.fields import Word
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from prune_search.pruning.mask.scoring import Scores, Scoring
    from prune_search.tasks.experts import ExpertBlock
else:
    from prune_search.lazy import torch

ROUTED, ALL = "routed", "all"


@dataclass(eq=False)
class _Tally:
    """What the experts of a block added so far.

    Attributes:
        block: whose experts they are.
        sums: of gate · norm over the tokens, float64 [experts].
        routed: tokens that each expert was chosen for, [experts].
        tokens: that the router was given.
        ran: experts that made something.
        weighed: experts of which a product with a gate was seen.
    """

    block: ExpertBlock
    sums: Tensor = field(init=False)
    routed: Tensor = field(init=False)
    tokens: int = 0
    ran: set[int] = field(default_factory=set)
    weighed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.sums = torch.zeros(self.block.count, dtype=torch.float64)
        self.routed = torch.zeros(self.block.count, dtype=torch.float64)

    def add(self, expert: int, product: Tensor) -> None:
        """Add gate · output of an expert, [tokens, width]."""
        norms = product.detach().double().reshape(-1, product.shape[-1]).norm(dim=1)
        self.sums[expert] += float(norms.sum())
        self.routed[expert] += float((norms > 0).sum())
        self.weighed.add(expert)

    def scores(self, tokens: str) -> Tensor:
        """Per expert the mean of gate · norm: over those routed to it, or all of the block's tokens."""
        counts = self.routed if tokens == ROUTED else torch.full_like(self.routed, self.tokens)
        return self.sums / counts.clamp(min=1)


def _watching_stacked(tally: _Tally, experts: nn.Module) -> list[Any]:
    """Watch experts in one tensor, which are given the tokens, their choices and the gates."""
    from prune_search.pruning.mask.mask_set import ScoreError
    from prune_search.tasks.structures import listed_tensors

    def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        given = [*listed_tensors(args), *listed_tensors(kwargs)]
        chosen = [one for one in given if one.dim() == 2 and not one.is_floating_point()]
        gates = [one for one in given if chosen and one.shape == chosen[0].shape and one.is_floating_point()]
        if len(given) != 3 or len(chosen) != 1 or len(gates) != 1:
            text = f"{tally.block.name} is not called with tokens, chosen experts and gates: pass a norm as criterion"
            raise ScoreError(text)
        (hidden,) = [one for one in given if one is not chosen[0] and one is not gates[0]]
        tally.tokens += len(chosen[0])
        for slot in range(chosen[0].shape[1]):
            places = chosen[0][:, slot : slot + 1]
            # Without hooks: each choice by itself, unweighed.
            made = type(module).forward(module, hidden, places, torch.ones_like(gates[0][:, :1]))
            sizes = (made.detach().double().norm(dim=-1) * gates[0][:, slot].double()).cpu()
            tally.sums.index_add_(0, places[:, 0].cpu(), sizes)
            tally.routed.index_add_(0, places[:, 0].cpu(), torch.ones_like(sizes))

    return [experts.register_forward_hook(note, with_kwargs=True)]


@dataclass(eq=False)
class _Products:
    """Follows what experts of a list make until it is multiplied with a gate.

    Attributes:
        made: by the id of a tensor that an expert made: the tensor, whose it is, and which expert's.
        pending: the last product of an expert's with something else.
    """

    made: dict[int, tuple[Tensor, _Tally, int]] = field(default_factory=dict)
    pending: dict[tuple[int, int], tuple[_Tally, Tensor]] = field(default_factory=dict)

    def watching(self, tally: _Tally, model: nn.Module) -> list[Any]:
        """Watch the experts of a list, what is around them and their router."""
        router = model.get_submodule(tally.block.router)

        def count(module: nn.Module, args: tuple[Any, ...], _output: object) -> None:
            tally.tokens += args[0].numel() // args[0].shape[-1]

        def end(module: nn.Module, args: object, output: object) -> None:
            for at in range(tally.block.count):
                self.settle(tally, at)
            self.made.clear()

        handles = [
            router.register_forward_hook(count),
            model.get_submodule(tally.block.inside).register_forward_hook(end),
        ]
        for at, expert in enumerate(model.get_submodule(tally.block.name).children()):
            handles.append(expert.register_forward_pre_hook(self._before(tally, at)))
            handles += [part.register_forward_hook(self._after(tally, at, part is expert)) for part in expert.modules()]
        return handles

    def _before(self, tally: _Tally, at: int) -> Callable[..., None]:
        def before(_module: nn.Module, args: object) -> None:
            self.settle(tally, at)

        return before

    def _after(self, tally: _Tally, at: int, whole: bool) -> Callable[..., None]:
        def after(_module: nn.Module, args: object, output: object) -> None:
            if whole:
                # What was multiplied within it is its own affair.
                self.pending.pop((id(tally), at), None)
            if isinstance(output, torch.Tensor):
                tally.ran.add(at)
                self.made[id(output)] = (output, tally, at)

        return after

    def settle(self, tally: _Tally, at: int) -> None:
        """Count the last product of an expert."""
        found = self.pending.pop((id(tally), at), None)
        if found is not None:
            tally.add(at, found[1])

    def saw(self, name: str, operands: list[Tensor], result: object) -> None:
        """An operation of torch: a product counts, and a conversion is followed."""
        if not isinstance(result, torch.Tensor):
            return
        for one in operands:
            if id(one) not in self.made:
                continue
            _, tally, at = self.made[id(one)]
            if name in _PRODUCTS:
                self.pending[id(tally), at] = (tally, result)
            elif name in _CONVERSIONS:
                self.made[id(result)] = (result, tally, at)


_PRODUCTS = frozenset(("mul", "mul_", "multiply", "multiply_", "__mul__", "__rmul__", "__imul__"))
_CONVERSIONS = frozenset(("to", "type", "type_as", "float", "contiguous", "clone", "dropout", "view", "reshape"))


@contextlib.contextmanager
def _operations(products: _Products) -> Iterator[None]:
    from torch.overrides import TorchFunctionMode

    class Watching(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            operands = [one for one in args if isinstance(one, torch.Tensor)]
            products.saw(getattr(func, "__name__", ""), operands, found)
            return found

    with Watching():
        yield


def _tallies(scoring: Scoring) -> list[_Tally]:
    """What the experts of each block add that is scored, over all batches.

    Raises:
        ScoreError: it cannot be seen how an expert is weighed.
    """
    from prune_search.pruning.mask.mask_set import ScoreError
    from prune_search.tasks.experts import expert_blocks
    from prune_search.tasks.passes import eager

    blocks = expert_blocks(scoring.model)[0]
    tallies = [_Tally(block) for block in blocks if not scoring.weights.keys().isdisjoint(block.parameters)]
    products, handles = _Products(), []
    for tally in tallies:
        if tally.block.stacked:
            handles += _watching_stacked(tally, scoring.model.get_submodule(tally.block.name))
        else:
            handles += products.watching(tally, scoring.model)
    try:
        with eager(), torch.no_grad(), _operations(products):
            for inputs, _ in scoring.batches():
                scoring.model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    for tally in tallies:
        if unweighed := sorted(tally.ran - tally.weighed):
            text = f"{tally.block.name}.{unweighed[0]}: no product of its output with a gate was seen"
            raise ScoreError(f"{text}, so that its part is not known: pass a norm as criterion")
    return tallies


def _one_token_at_a_time(scoring: Scoring, tokens: str) -> dict[str, list[float]]:
    """The slow definition: mixtures (`models.networks.mixture`) are children of a Sequential, one after the other."""
    from prune_search.tasks.models.networks.mixture import Mixture

    found = {name: [0.0] for name in scoring.weights}
    parts: dict[str, list[list[float]]] = {}
    for inputs, _ in scoring.batches():
        value = inputs
        for name, step in scoring.model.named_children():
            if isinstance(step, Mixture):
                experts = list(step.experts)
                sums = parts.setdefault(name, [[] for _ in experts])
                for token in step.norm(value):
                    logits = step.router(token).tolist()
                    best = sorted(range(len(experts)), key=lambda at: -logits[at])[: step.chosen]
                    total = math.fsum(math.exp(logits[at]) for at in best)
                    for at, expert in enumerate(experts):
                        size = math.sqrt(math.fsum(x * x for x in expert(token).tolist()))
                        gate = math.exp(logits[at]) / total if at in best else 0.0
                        sums[at].append(gate * size)
            value = step(value)
    for name in found:
        for block, experts_of in parts.items():
            for at, some in enumerate(experts_of):
                if name.startswith(f"{block}.experts.{at}."):
                    count = len(some) if tokens == ALL else sum(one > 0 for one in some)
                    found[name] = [math.fsum(some) / max(1, count)]
    return found


@CRITERIA.register(
    "router",
    summary="gate x norm of an expert's output, the mean over the tokens routed to it, or over all: then frequency too",
    source="Lasby et al. 2025, REAP the Experts, 2510.13999, eq. 9",
    options={
        "tokens": Option(
            Word((ROUTED, ALL)),
            ROUTED,
            "the mean is over the tokens that an expert is chosen for, as in REAP, or all: it counts how often, too",
        )
    },
    facts=Criterion(
        reduce="mean", scales="left", needs_data=True, granularities=("expert",), oracle=_one_token_at_a_time
    ),
)
def router(scoring: Scoring, tokens: str) -> Scores:
    """S = 1/|X| Σ over x of X of g(x) · ‖f(x)‖₂, the same for all weights of an expert; at least 0, float64.

    f(x) is what the expert makes of a token, g(x) the gate that it is multiplied with in the network (normalized over
    the chosen ones or not, as the network does), X the tokens that it is chosen for. With ``tokens: all`` X are all
    tokens of the block: S is then how often the expert is chosen times the mean above. An expert that is never chosen
    has 0, and weights outside of experts, which take no part.

    Raises:
        ScoreError: it cannot be seen how an expert's output is weighed.
    """
    scores = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in scoring.weights.items()}
    for tally in _tallies(scoring):
        found = tally.scores(tokens)
        for name in tally.block.stacked:
            if name in scores:
                each = found.to(scores[name].device).reshape(-1, *[1] * (scores[name].dim() - 1))
                scores[name] += each
        for at, own in enumerate(tally.block.owned):
            for name in own:
                if name in scores:
                    scores[name].fill_(float(found[at]))
    return scores
