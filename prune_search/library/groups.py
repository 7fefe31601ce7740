"""Library function for the scores of channels shared between layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.library import arguments
from prune_search.library.arguments import AnyBatches, Given, Loss
from prune_search.library.calls import told_in_one_line
from prune_search.library.task_batches import takes_task_batches
from prune_search.pruning.mask.finder import units_in
from prune_search.pruning.mask.group_scores import (
    CONVENTIONS,
    OVER,
    SCALES,
    joined,
    joining,
    mean_rows,
    scored_by_batch,
)
from prune_search.pruning.mask.reductions import reduction_name
from prune_search.pruning.mask.restoring import layers_seeded, left_as_it_was
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.mask.scoring import Scoring, apart, scores_by
from prune_search.pruning.mask.units import SCALE, UnitSet
from prune_search.recipe import axes
from prune_search.recipe.problems import Problem, UserError, not_one_of
from prune_search.tasks.layers import check_network
from prune_search.tasks.network import prunable_weights
from prune_search.training.randomness import derive


class _Stored(nn.Module):
    """Stands for a network whose gradients are known: its loss is Σ g ⊙ w."""

    def __init__(self, weights: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self.pairs = [(weight, weight.grad) for weight in weights.values()]

    def forward(self, inputs: Tensor) -> Tensor:
        products = [(weight * gradient).sum() for weight, gradient in self.pairs if gradient is not None]
        return torch.stack(products).sum()


@told_in_one_line
@takes_task_batches
def group_scores(
    model: nn.Module,
    criterion: Given,
    example_input: Any,
    *,
    batches: AnyBatches | None = None,
    loss: Loss = "cross-entropy",
    over: str = "mean",
    scale: str = "mean",
    convention: str = "torch-pruning",
    mode: str | None = None,
    seed: int = 0,
    **options: Any,
) -> dict[str, Tensor]:
    """Score channels that are coupled across layers, as in a residual network; larger scores are kept.

    Torch-Pruning's dependency graph says which layers share channels. In each of them the rows that make a channel, the
    columns that read it and the scale of a normalization on the way are scored; the scores are joined over these parts
    and divided by their mean over the channels, which are Torch-Pruning's defaults (``MagnitudeImportance`` and its
    kin). Of l2 the squares are joined.

    Args:
        model: the network.
        criterion: a registered criterion.
        example_input: a batch of inputs [B, …].
        batches: (inputs, labels) for criteria that need data. None: the gradients that the parameters hold (`.grad`)
            are taken for those of the loss, which is right for criteria of the first order (snip, taylor).
        loss: a registered loss, or a function from (outputs [B, C], labels [B]) to a scalar.
        over: ``mean``, ``sum``, ``max`` or ``first`` over the coupled parts.
        scale: divisor of a set's scores: their ``mean``, ``sum`` or ``max``, or ``none``.
        convention: ``torch-pruning`` (its version 1.6): of sensitivities Σ|…| within a part and none of normalizations,
            and fpgm's distances between squared weights; ``papers``: |Σ …|, and distances between weights, as
            granularity channel has them.
        mode: ``train`` or ``eval`` during scoring; None: the modules' current mode.
        seed: seed for criteria that draw random numbers, and for dropout.
        options: options of the criterion.

    Returns:
        The scores [output channels] of every layer whose outputs can be removed, by the name of its weight.
        Layers that share channels have the same scores; a layer of fewer channels than it shares has as many scores.

    Raises:
        UserError: an argument is invalid, or Torch-Pruning cannot trace the network.
    """
    check_network(model)
    for path, word, known in (("over", over, OVER), ("scale", scale, SCALES), ("convention", convention, CONVENTIONS)):
        if not isinstance(word, str) or word not in known:
            raise UserError([Problem(path, not_one_of(word, known))])
    named = arguments.value(axes.CRITERIA, criterion, "criterion", options)
    facts = named.entry(axes.CRITERIA).facts
    block = {"loss": arguments.loss_of(loss), "mode": mode}
    rule = arguments.rule_of(named, "global", {"name": "channel", "convention": convention}, block)
    scoring_data = arguments.evidence_of(model, batches, example_input, seed)
    sets = units_in(model, rule, scoring_data)
    how = joining(facts.scales, reduction_name(facts, named.options), CONVENTIONS[convention])
    with left_as_it_was(model, mode):
        rows = list(mean_rows(sets, _scored(model, rule, sets, scoring_data, batches is None), how))
    scores = {}
    for one, own in rows:
        found = joined(one, own, over, how.scale or scale)
        for part in one.parts:
            if part.parameter in one.owners and part.role == "weight":
                scores[part.parameter] = part.kept(found)
    return {name: scores[name] for name in prunable_weights(model) if name in scores}


def _scored(
    model: nn.Module, rule: MaskRule, sets: list[UnitSet], scoring_data: ScoringData, stored: bool
) -> Iterator[dict[str, Tensor]]:
    """A criterion's scores of every parameter that coupled channels own a part of, of everything or batch by batch."""
    entry = rule.criterion.entry(axes.CRITERIA)
    named = dict(model.named_parameters())
    weights = prunable_weights(model)
    owned = dict.fromkeys(part.parameter for one in sets for part in one.parts if part.parameter in weights)
    scales = dict.fromkeys(part.parameter for one in sets for part in one.parts if part.role == SCALE)
    if entry.facts.scales == "only":
        yield {name: named[name].detach() for name in scales}
        return
    chosen = [*(name for name in weights if name in owned), *(scales if entry.facts.scales == "scored" else ())]
    parameters = {name: named[name] for name in chosen}
    network, batches, loss = model, scoring_data.batches(1), rule.loss()
    if stored and entry.facts.needs_data:
        if all(parameter.grad is None for parameter in parameters.values()):
            text = f"criterion {rule.criterion.name} needs batches, or gradients in .grad"
            raise UserError([Problem("batches", text)])
        network, batches, loss = _Stored(parameters), [(torch.zeros(1), torch.zeros(1))], _as_it_is
    scoring = Scoring(
        model=network,
        weights=parameters,
        dense={name: parameter.detach().clone() for name, parameter in parameters.items()},
        batches=lambda: batches,
        loss=loss,
        seed=scoring_data.seed,
        words=(1, 1),
        example=scoring_data.example,
    )
    options = rule.criterion.options
    with layers_seeded(model, derive(scoring_data.seed, "score layers", *scoring.words)):
        for part in apart(scoring, scored_by_batch(rule.criterion, rule.granularity)):
            found = scores_by(rule.criterion.name, entry.make(part, **options), part)
            yield {name: tensor.detach() for name, tensor in found.items()}


def _as_it_is(outputs: Tensor, labels: Tensor) -> Tensor:
    return outputs
