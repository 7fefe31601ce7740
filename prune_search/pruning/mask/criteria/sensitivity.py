"""Connection sensitivity (SNIP): the change in loss if a connection were scaled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Criterion

if TYPE_CHECKING:
    import torch

    from prune_search.pruning.mask.scoring import Scores, Scoring
else:
    from prune_search.lazy import torch


def _scaled_connections(scoring: Scoring) -> dict[str, list[float]]:
    """The slow definition: dL/dc by central differences, each connection scaled by c = 1 ± ε in turn, in float64."""
    epsilon = 1e-5
    model, found = scoring.model.double(), {}
    batches = [(inputs.double(), labels) for inputs, labels in scoring.batches()]

    def loss() -> float:
        values = [float(scoring.loss(model(inputs), labels)) for inputs, labels in batches]
        return sum(values) / len(values)

    with torch.no_grad():
        for name, weight in scoring.weights.items():
            flat, scores = weight.view(-1), []
            for index in range(flat.numel()):
                before = flat[index].clone()
                dense = scoring.dense[name].view(-1)[index].double()
                flat[index] = before + epsilon * dense
                above = loss()
                flat[index] = before - epsilon * dense
                below = loss()
                flat[index] = before
                scores.append((above - below) / (2 * epsilon))
            found[name] = scores
    return found


@CRITERIA.register(
    "snip",
    summary="connection sensitivity |w · dL/dw|; if iterated, FORCE (not nested) or Iterative SNIP (nested)",
    source="Lee, Ajanthan & Torr 2019, 1810.02340, eq. 4-6; de Jorge et al. 2021, 2006.09081",
    facts=Criterion(reduce="abs-sum", needs_data=True, oracle=_scaled_connections, sharded=True),
)
def snip(scoring: Scoring) -> Scores:
    """dL/dc = w ⊙ dL/dw of the unmasked weights at the masked ones, signed, shaped like the weights.

    The score is its absolute value; of a group it is |Σ w · dL/dw|, the sensitivity to one scale of the whole group.
    """
    from prune_search.pruning.mask.scoring import gradients

    return {name: scoring.dense[name] * gradient for name, gradient in gradients(scoring).items()}
