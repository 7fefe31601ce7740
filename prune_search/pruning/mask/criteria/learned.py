"""Criteria that learn a mask while the weights stay fixed: edge-popup, supermasks, Gumbel masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import CRITERIA, OPTIMIZERS, SCHEDULES
from prune_search.recipe.facts import Criterion
from prune_search.recipe.fields import Flag, Length, Number, Optimizer, Value
from prune_search.recipe.registry import Option
from prune_search.recipe.step import Step

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_search.pruning.mask.learning_context import LearningContext
    from prune_search.pruning.mask.score_training import Factors, Scores
    from prune_search.training.phase import Phase
else:
    from prune_search.lazy import torch


def _options(steps: str, optimizer: dict[str, Any], schedule: str, **more: Option) -> dict[str, Option]:
    return {
        "steps": Option(Length(positive=True, absolute=True), steps, "steps of learning the mask"),
        "optimizer": Option(Optimizer(OPTIMIZERS), optimizer, "optimizer of the scores, merged over train's"),
        "schedule": Option(Value(SCHEDULES), schedule, "learning-rate schedule of the scores, over their own steps"),
        **more,
    }


def _length(epoch: int, *, steps: str, **others: Any) -> int:
    return Step.parse(steps).resolve(0, epoch)


def _phase(
    learning: LearningContext,
    options: Mapping[str, Any],
    scores: Scores,
    factors: Callable[[int], Factors],
    penalty: Callable[[], Tensor] | None = None,
) -> Phase:
    from prune_search.pruning.mask.score_training import MaskLearner
    from prune_search.recipe.clock import base_rate, rate_of
    from prune_search.recipe.recipe import Named
    from prune_search.training.phase import Phase

    optimizer = Named.of(OPTIMIZERS, options["optimizer"])
    schedule = Named.of(SCHEDULES, options["schedule"])
    total = _length(learning.epoch, steps=options["steps"])
    rate = rate_of(schedule, base_rate(optimizer), total, learning.epoch, "mask.criterion.schedule")
    learner = MaskLearner(learning.network.model, learning.sets, scores, factors, penalty)
    return Phase(total, optimizer, rate, lambda: [learner.hook()], scores)


def _uniform(learning: LearningContext) -> Scores:
    """U(-b, b) with b = 1/√fan-in: torch's kaiming_uniform_(a=√5), drawn from seed, place and name."""
    from prune_search.pruning.mask.score_training import score_parameters
    from prune_search.training.randomness import generator

    def draw(one: Any) -> Tensor:
        bound = 1.0 / math.sqrt(max(1, math.prod(one.shape[1:])))
        source = generator(learning.seed, "criterion", "edge-popup", *learning.words, one.name)
        return (2 * torch.rand(one.size, generator=source) - 1) * bound

    return score_parameters(learning.sets, learning.network.device, draw, learning.shards)


@CRITERIA.register(
    "edge-popup",
    summary="trains scores while the weights stay fixed; each step keeps the largest |s| (hidden networks)",
    source="Ramanujan et al. 2020, What's Hidden in a Randomly Weighted Neural Network?, 1911.13299, section 3",
    options=_options("10ep", {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1.0e-4}, "cosine"),
    facts=Criterion(
        kind="latent",
        trains=True,
        needs_data=True,
        length=_length,
        of_share=lambda **options: True,
        passes_over_shards=True,
    ),
)
def edge_popup(learning: LearningContext, **options: Any) -> Phase:
    """One score per unit; the forward pass has the weights of the largest |s|, at the asked share and in the scope.

    The gradient goes straight through the choice: ds = sign(s) · Σ w · dL/d(w ⊙ m) over the unit's weights, for units
    that are left out too. The final mask is that of the last scores.
    """
    from prune_search.tasks.shards import differentiable_part

    scores = _uniform(learning)

    def factors(step: int) -> Factors:
        sizes = {name: differentiable_part(score).abs().reshape(-1) for name, score in scores.items()}
        kept = learning.select({name: size.detach() for name, size in sizes.items()})
        return {name: kept[name].to(size) + (size - size.detach()) for name, size in sizes.items()}

    return _phase(learning, options, scores, factors)


def _constant(learning: LearningContext, value: float) -> Scores:
    from prune_search.pruning.mask.score_training import score_parameters

    return score_parameters(learning.sets, learning.network.device, lambda one: torch.full((one.size,), value))


def _allowed(learning: LearningContext) -> dict[str, Tensor]:
    """1 for units that may be kept, 0 elsewhere."""
    device = learning.network.device
    return {name: mask.to(device=device, dtype=torch.float32) for name, mask in learning.candidates.items()}


def _draws(learning: LearningContext, step: int, name: str, count: int) -> Tensor:
    """Uniform numbers in [0, 1) for the units of a set at a step."""
    from prune_search.training.randomness import generator

    source = generator(learning.seed, "criterion", "learned", *learning.words, name, step)
    return torch.rand(count, generator=source).to(learning.network.device)


def _sign_constants(learning: LearningContext, *, sign_constant: bool, **others: Any) -> None:
    """The weights of every layer that takes part become sign(w) times their root mean square, in place."""
    if not sign_constant:
        return
    parameters = dict(learning.network.model.named_parameters())
    for name in dict.fromkeys(owner for one in learning.sets for owner in one.owners):
        weight = parameters[name]
        there = weight.detach()[weight.detach() != 0].double()
        with torch.no_grad():
            weight.copy_(weight.sign() * there.square().mean().sqrt().to(weight.dtype) if there.numel() else weight)


@CRITERIA.register(
    "supermask",
    summary="trains the probabilities of keeping weights, which stay fixed; each step samples a mask",
    source="Zhou, Lan, Liu & Yosinski 2019, Deconstructing Lottery Tickets, 1905.01067, section 5",
    options=_options(
        "10ep",
        {"name": "sgd", "lr": 100.0},
        "constant",
        initial=Option(Number(-100.0, 100.0), 0.0, "initial score s of every unit", later=True),
        sign_constant=Option(Flag(), False, "first set the weights to sign(w) times their layer's root mean square"),
    ),
    facts=Criterion(
        reduce="sum",
        kind="sampled",
        sparsity=("final", "per_round", "learned"),
        trains=True,
        needs_data=True,
        length=_length,
        begin=_sign_constants,
    ),
)
def supermask(learning: LearningContext, *, initial: float, sign_constant: bool, **options: Any) -> Phase:
    """Bernoulli(σ(s)) masks, drawn per unit and step; the gradient goes through the draw as if the mask were σ(s).

    The largest s are kept in the end; with ``sparsity: learned`` those above 0, which are more likely kept than not.
    """
    scores, allowed = _constant(learning, initial), _allowed(learning)

    def factors(step: int) -> Factors:
        found = {}
        for name, score in scores.items():
            p = torch.sigmoid(score)
            drawn = (_draws(learning, step, name, len(score)) < p.detach()).to(p)
            found[name] = (drawn + (p - p.detach())) * allowed[name]
        return found

    return _phase(learning, options, scores, factors)


def _prior_is_the_share(*, prior: float | None = None, **others: Any) -> bool:
    return prior is None


@CRITERIA.register(
    "gumbel",
    summary=(
        "trains the probabilities of keeping weights with soft Gumbel samples; weights stay fixed (Optimal Eye Surgeon)"
    ),
    source="Ghosh et al. 2024, Optimal Eye Surgeon, 2406.05288; Jang et al. 2017, 1611.01144; Maddison et al. 2017",
    options=_options(
        "2000it",
        {"name": "adam", "lr": 0.01},
        "constant",
        temperature=Option(
            Number(0.0, 1e3, above=True), 0.2, "temperature of the relaxation: near 0, samples are 0 or 1"
        ),
        kl=Option(Number(0.0, 1e6), 1.0e-9, "weight of the summed Kullback-Leibler divergence from the prior"),
        prior=Option(
            Number(0.0, 1.0, above=True, below=True),
            None,
            "prior probability of keeping; default: the requested kept share",
        ),
        initial=Option(Number(-100.0, 100.0), 0.0, "initial logit of every unit", later=True),
    ),
    facts=Criterion(
        reduce="sum",
        kind="sampled",
        sparsity=("final", "per_round", "learned"),
        trains=True,
        needs_data=True,
        length=_length,
        of_share=_prior_is_the_share,
    ),
)
def gumbel(
    learning: LearningContext,
    *,
    temperature: float,
    kl: float,
    initial: float,
    prior: float | None = None,
    **options: Any,
) -> Phase:
    """Factors σ((s + log u - log(1 - u)) / T), u uniform: binary Gumbel-softmax draws, per unit and step.

    ``kl`` times Σ KL(Bernoulli(σ(s)) ‖ Bernoulli(prior)) is added to the loss. The largest s are kept in the end; with
    ``sparsity: learned``, where the prior is 1/2 unless it is given, those above 0.
    """
    scores, allowed = _constant(learning, initial), _allowed(learning)
    asked = prior if prior is not None else 0.5 if learning.share is None else float(learning.share)
    base = min(max(asked, 1e-6), 1 - 1e-6)

    def factors(step: int) -> Factors:
        found = {}
        for name, score in scores.items():
            u = _draws(learning, step, name, len(score)).clamp(2**-24, 1 - 2**-24)
            found[name] = torch.sigmoid((score + torch.logit(u)) / temperature) * allowed[name]
        return found

    def divergence() -> Tensor:
        return kl * torch.stack([bernoulli_divergence(score, base) for score in scores.values()]).sum()

    return _phase(learning, options, scores, factors, divergence if kl else None)


def bernoulli_divergence(logits: Tensor, prior: float) -> Tensor:
    """Σ KL(Bernoulli(σ(s)) ‖ Bernoulli(prior)) in nats, a scalar at least 0.

    Args:
        logits: s, of any shape [...].
        prior: above 0 and below 1.
    """
    p = torch.sigmoid(logits)
    kept = torch.nn.functional.logsigmoid(logits) - math.log(prior)
    removed = torch.nn.functional.logsigmoid(-logits) - math.log1p(-prior)
    return (p * kept + (1 - p) * removed).sum()
