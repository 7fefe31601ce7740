"""Stochastic-gradient Hamiltonian Monte Carlo as an optimizer: its steps are samples of a posterior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prune_search.training.randomness import generator


@dataclass(frozen=True)
class Posterior:
    """What a sampler is told of the posterior that it draws from.

    Attributes:
        examples: N of the training set; the loss is the mean over them, and N times it the negative log-likelihood.
        seed: of the trial.
        words: the place of the training: what tells its noise from that of others.
    """

    examples: int = 1
    seed: int = 0
    words: tuple[str | int, ...] = ()


class SGHMC(torch.optim.Optimizer):
    """Scale-adapted SGHMC.

    With the gradient ĝ = N (∂ loss / ∂w + weight_decay · w) of the negative log-posterior, a step is::

        v = (1 - friction) v - lr² V^(-1/2) ĝ + noise,    noise ~ N(0, 2 lr² friction V^(-1/2) - lr⁴)
        w = w + v

    V is a running mean of ĝ² whose window τ adapts: in each of the first `burn_in` steps τ = τ + 1 - τ m² / V,
    m = m + (ĝ - m) / τ', V = V + (ĝ² - V) / τ', with τ' = 1 + τ of before; then V stays. The term lr⁴ stands for the
    noise of the gradients themselves; where it is the larger one there is no further noise. For small lr, w is
    distributed as exp(-N loss - N weight_decay ‖w‖² / 2).

    A weight whose gradient has always been exactly 0, as that of a masked one is, does not move: V, which begins with
    the square of its first gradient that is not 0, is 0. The noise of a step is a function of the seed, the place, the
    parameter's number and the step.

    Source:
        Chen, Fox, Guestrin 2014, 1402.4102, eq. 15; Springenberg, Klein, Falkner, Hutter 2016, Bayesian Optimization
        with Robust Bayesian Neural Networks, NeurIPS, eqs. 8-10.

    Args:
        parameters: or groups of them.
        lr: above 0.
        friction: 0 to 1.
        burn_in: steps in which V adapts, at least 1.
        weight_decay: precision of a Gaussian prior over N.
        posterior: N, and what the noise is drawn from.
    """

    def __init__(
        self, parameters: Any, lr: float, friction: float, burn_in: int, weight_decay: float, posterior: Posterior
    ) -> None:
        super().__init__(parameters, {"lr": lr, "friction": friction, "weight_decay": weight_decay})
        self.burn_in = burn_in
        self.posterior = posterior

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        number = 0
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group, number)
                number += 1
        return loss

    def _move(self, parameter: Tensor, group: dict[str, Any], number: int) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.int64)
            state["window"] = torch.ones_like(parameter)
            state |= {name: torch.zeros_like(parameter) for name in ("mean", "square", "velocity")}
        count = int(state["step"])
        gradient = self.posterior.examples * parameter.grad.add(parameter, alpha=group["weight_decay"])  # type: ignore[union-attr]
        adapt(state, gradient, count < self.burn_in)
        square, lr, friction = state["square"], group["lr"], group["friction"]
        moves = square > 0
        scale = torch.where(moves, square, 1.0).rsqrt().mul_(moves)
        variance = (2 * lr**2 * friction * scale - lr**4).clamp_(min=0.0).mul_(moves)
        seed, words = self.posterior.seed, self.posterior.words
        source = generator(seed, "sghmc", *words, number, count)
        # Drawn on the CPU, so that every device sees the same numbers.
        noise = torch.randn(parameter.shape, generator=source).to(parameter.device, parameter.dtype)
        state["velocity"].mul_(1 - friction).addcmul_(scale, gradient, value=-(lr**2)).addcmul_(variance.sqrt_(), noise)
        parameter.add_(state["velocity"])
        state["step"] += 1


def adapt(state: dict[str, Tensor], gradient: Tensor, burning_in: bool) -> None:
    """Update ``window`` (τ), ``mean`` (m) and ``square`` (V) with a gradient, each of its shape, in place.

    Args:
        state: of the parameter.
        gradient: of the negative log-posterior.
        burning_in: False: only elements that have had no gradient before begin.
    """
    window, mean, square = state["window"], state["mean"], state["square"]
    begin = (square == 0) & (gradient != 0)
    mean.copy_(torch.where(begin, gradient, mean))
    square.copy_(torch.where(begin, gradient.square(), square))
    if not burning_in:
        return
    share = 1 / (window + 1)
    known = torch.where(square > 0, square, 1.0)
    window.add_(1 - window * mean.square() / known)
    mean.lerp_(gradient, share)
    square.lerp_(gradient.square(), share)
