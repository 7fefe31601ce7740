"""Low-rank retraining of a frozen pruned network (LoRA): only an update B·A of its linear layers is trained.

The network keeps its modules and the names of its weights: at every step a weight itself is mask ⊙ (W + α/r · B·A), and
the gradients of A and B follow from its gradient by the chain rule. What is stored, measured and exported is so a plain
state of the network, its masked weights exactly 0. The library peft puts modules of its own around the layers instead:
that renames the weights, so that masks and stored states no longer find them, and the update that it merges fills the
masked places. The price of doing without: a gradient of every weight exists for a moment, as in any training; what is
saved is the optimizer's memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.recipe.problems import Problem, UserError, suggestion
from prune_search.tasks.layers import is_turned, listed
from prune_search.training.loop import Hook
from prune_search.training.randomness import generator

NAME = "low-rank"
ALL = "all"


def linear_weights(model: nn.Module, targets: Sequence[str], output: str | None) -> dict[str, bool]:
    """The weights of linear layers that are updated, and whether each is stored as [inputs, outputs].

    Args:
        model: the network.
        targets: ``all``: of every linear layer besides the output; or the last parts of layers' names, ``q_proj``.
        output: the name of the output layer's weight, or None where there is no such one.

    Raises:
        UserError: a target names no linear layer, or there is none.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    layers = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear) or is_turned(module)
    }
    plain = {name: one for name, one in layers.items() if isinstance(one._parameters.get("weight"), nn.Parameter)}
    path = "retrain.lora.targets"
    if list(targets) == [ALL]:
        chosen = [name for name, one in plain.items() if names[id(one.weight)] != output]
    else:
        known = sorted({name.rpartition(".")[2] for name in plain})
        problems = [
            Problem(path, f"no linear layer is called {one}{suggestion(one, known)}; there are {listed(known)}")
            for one in targets
            if not any(_is_called(name, one) for name in plain)
        ]
        if problems:
            raise UserError(problems)
        chosen = [name for name in plain if any(_is_called(name, one) for one in targets)]
    if not chosen:
        raise UserError([Problem(path, "the network has no linear layer besides its output", form=False)])
    return {names[id(plain[name].weight)]: is_turned(plain[name]) for name in chosen}


def _is_called(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


@dataclass(frozen=True, eq=False)
class Factors:
    """The update of one weight, as [outputs, inputs]: B·A.

    Attributes:
        weight: the network's own; a view of it as [outputs, inputs] is `matrix`.
        turned: whether it is stored as [inputs, outputs].
        a: [rank, inputs], drawn from N(0, 1 / inputs).
        b: [outputs, rank], 0 at first.
    """

    weight: nn.Parameter
    turned: bool
    a: nn.Parameter
    b: nn.Parameter

    @classmethod
    def of(cls, weight: nn.Parameter, turned: bool, rank: int, draw: torch.Generator) -> Factors:
        """Factors of a weight, drawn on the CPU, so that every device begins with the same."""
        outputs, inputs = weight.shape[::-1] if turned else weight.shape
        a = torch.randn(rank, inputs, generator=draw) / math.sqrt(inputs)
        b = torch.zeros(outputs, rank)
        return cls(weight, turned, nn.Parameter(a.to(weight)), nn.Parameter(b.to(weight)))

    def matrix(self, tensor: Tensor) -> Tensor:
        """A tensor of the weight's shape as [outputs, inputs]."""
        return tensor.t() if self.turned else tensor


class LowRank:
    """Trains W_eff = mask ⊙ (W + scale · B·A) in place of a network's weights.

    Args:
        model: the network; all its other parameters stay as they are.
        weights: of `linear_weights`.
        rank: r, at least 1.
        alpha: the scale is alpha / rank.
        masks: gives the mask that holds now.
        seed: what A is drawn from, with the words of its place.

    Source:
        Hu et al. 2021, LoRA, arXiv 2106.09685, section 4.1. That the merged update keeps the mask is as MaskLoRA of
        Zimmer et al. 2023, PERP, arXiv 2312.15230, section 3.2, has it.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Mapping[str, bool],
        rank: int,
        alpha: float,
        masks: Callable[[], MaskSet],
        seed: tuple[int, *tuple[str | int, ...]],
    ) -> None:
        own = dict(model.named_parameters())
        first, *words = seed
        self.model, self.masks, self.scale = model, masks, alpha / rank
        self.factors = {
            name: Factors.of(own[name], turned, rank, generator(first, NAME, *words, name))
            for name, turned in weights.items()
        }
        self._frozen: dict[str, Tensor] = {}
        self._ended = False

    @property
    def further(self) -> dict[str, nn.Parameter]:
        """What is trained in place of the network's parameters, by name."""
        return {
            f"{NAME}/{name}/{which}": getattr(factors, which)
            for name, factors in self.factors.items()
            for which in ("a", "b")
        }

    def owners(self) -> dict[nn.Parameter, nn.Parameter]:
        """From what is trained to the weight that it updates."""
        return {one: factors.weight for factors in self.factors.values() for one in (factors.a, factors.b)}

    def hook(self) -> Hook:
        """The hook that trains the factors. It comes after the mask's, which sets gradients of masked weights to 0."""
        return Hook(
            NAME,
            at_start=self._begin,
            before_step=self._forget,
            after_backward=self._pull_back,
            after_step=self._merge,
            at_end=self._end,
            state=self._state,
            load=self._load,
        )

    def _begin(self) -> None:
        if not self._frozen:
            self._frozen = {name: one.weight.detach().clone() for name, one in self.factors.items()}

    def _forget(self, step: int) -> None:
        """The optimizer forgets the gradients of the factors alone."""
        self.model.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _pull_back(self, step: int) -> None:
        """dL/dB = scale · G·Aᵀ and dL/dA = scale · Bᵀ·G, with G = mask ⊙ dL/dW_eff."""
        for factors in self.factors.values():
            if factors.weight.grad is None:
                # The layer took no part in this step.
                factors.a.grad = factors.b.grad = None
                continue
            gradient = factors.matrix(factors.weight.grad)
            factors.b.grad = self.scale * (gradient @ factors.a.t())
            factors.a.grad = self.scale * (factors.b.t() @ gradient)

    @torch.no_grad()
    def _merge(self, step: int) -> None:
        held = self.masks().present
        for name, factors in self.factors.items():
            update = torch.addmm(factors.matrix(self._frozen[name]), factors.b, factors.a, alpha=self.scale)
            factors.weight.copy_(factors.matrix(update))
            if name in held:
                factors.weight.mul_(held[name].to(factors.weight.device))

    def _end(self) -> None:
        self._ended = True

    def _state(self) -> dict[str, Tensor]:
        """What it takes to go on in mid-training. At the end the update is merged, and nothing of it is kept."""
        if self._ended:
            return {}
        frozen = {f"w/{name}": tensor for name, tensor in self._frozen.items()}
        return {
            **frozen,
            **{f"{which}/{name}": getattr(one, which) for name, one in self.factors.items() for which in "ab"},
        }

    @torch.no_grad()
    def _load(self, state: Mapping[str, Tensor]) -> None:
        for name, factors in self.factors.items():
            factors.a.copy_(state[f"a/{name}"])
            factors.b.copy_(state[f"b/{name}"])
            self._frozen[name] = torch.empty_like(factors.weight, requires_grad=False).copy_(state[f"w/{name}"])
