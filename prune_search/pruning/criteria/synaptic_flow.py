"""SynFlow: the flow through a network of absolute weights, without data."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.fields import Word
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from prune_search.pruning.scoring import Scores, Scoring
else:
    from prune_search.lazy import torch

# float32 decides between float64 scores that differ by more than its error: MARGIN times the largest relative error of
# the first iteration, over all weights, and never more than WORST.
MARGIN = 2.0
WORST = 1e-3


def _each_flow(scoring: Scoring, dtype: str) -> dict[str, list[float]]:
    """The slow definition: R is linear in each weight, so its derivative is a difference of two values of R."""
    from prune_search.pruning.slow import each_derivative

    model = scoring.model.double().eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(tensor.abs())
    slopes = each_derivative(scoring, lambda: model(scoring.ones(torch.float64)).sum(), 1e-4)
    return {
        name: [w * float(slope) for w, slope in zip(scoring.weights[name].flatten().tolist(), found, strict=True)]
        for name, found in slopes.items()
    }


@CRITERIA.register(
    "synflow",
    summary="synaptic flow |w| · dR/d|w|, R the sum of outputs of the network of absolute weights on an input of ones",
    source="Tanaka, Kunin, Yamins & Ganguli 2020, Pruning Neural Networks Without Any Data, 2006.05467, eq. 3",
    options={
        "dtype": Option(
            Word(("float64", "float32")), "float64", "of the scores; float32 turns to it where it has no range left"
        )
    },
    reduce="sum",
    rough=True,
    oracle=_each_flow,
)
def synflow(scoring: Scoring, dtype: str) -> Scores:
    """|w| ⊙ dR/d|w| at the masked weights, shaped like the weights, at least 0, float64 where the pass is.

    As in the released code every parameter and buffer is made absolute for the pass: weights, biases, scales, shifts
    and running statistics. The network is in evaluation mode whatever ``score.mode`` says: batch statistics of one
    input of ones would say nothing.

    In a search for a mask float64 is worked out in full only where float32 cannot tell which weight goes.

    Raises:
        ScoreError: the flow is outside the range of float64.
    """
    from prune_search.pruning.masks import ScoreError
    from prune_search.pruning.scoring import ERROR

    bound = scoring.memory.get("synflow: error of float32")
    wide = dtype == "float64" or any(weight.dtype == torch.float64 for weight in scoring.weights.values())
    if not wide or (scoring.rough and bound is not None and bound < WORST):
        scores = _flow(scoring, torch.float32)
        # Neither overflow, nor a flow so small that it became zero.
        if 0.0 < _total(scores) < math.inf:
            scoring.memory[ERROR] = bound if wide else 0.0
            return scores
    scores = _flow(scoring, torch.float64)
    scoring.memory[ERROR] = 0.0
    if not math.isfinite(_total(scores)):
        raise ScoreError("the synaptic flow through this network is outside the range of float64")
    if scoring.rough and bound is None:
        found = _largest_error(_flow(scoring, torch.float32), scores)
        scoring.memory["synflow: error of float32"] = MARGIN * found
    return scores


def _largest_error(rough: Scores, exact: Scores) -> float:
    """The largest relative error; infinite where a score overflows or vanishes."""
    errors = [
        torch.where(exact[name] > 0, (score.double() / exact[name] - 1).abs(), 0.0).max()
        for name, score in rough.items()
    ]
    found = float(torch.stack(errors).max())
    return found if math.isfinite(found) else math.inf


def _total(scores: Scores) -> float:
    return float(torch.stack(torch._foreach_norm(list(scores.values()), 1)).sum())


@dataclass(frozen=True)
class _Pass:
    """The network of absolute values, made once for all iterations of a search.

    Attributes:
        model: a copy in evaluation mode, everything absolute.
        leaves: its prunable weights, the only parameters that are differentiated.
        ones: the input.
    """

    model: nn.Module
    leaves: list[Tensor]
    ones: Tensor


def _absolute(scoring: Scoring, dtype: torch.dtype) -> _Pass:
    names = {id(parameter): name for name, parameter in scoring.model.named_parameters()}
    model = copy.deepcopy(scoring.model).to(dtype).eval().requires_grad_(False)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.abs_()
    leaves = [model.get_parameter(names[id(weight)]).requires_grad_() for weight in scoring.weights.values()]
    return _Pass(model, leaves, scoring.ones(dtype))


def _flow(scoring: Scoring, dtype: torch.dtype) -> Scores:
    key = f"synflow {dtype}"
    if key not in scoring.memory:
        scoring.memory[key] = _absolute(scoring, dtype)
    flow: _Pass = scoring.memory[key]
    with torch.no_grad():
        torch._foreach_copy_(flow.leaves, list(scoring.weights.values()))
        torch._foreach_abs_(flow.leaves)
    slopes = torch.autograd.grad(flow.model(flow.ones).sum(), flow.leaves, allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if slope is None else leaf.detach() * slope
        for name, leaf, slope in zip(scoring.weights, flow.leaves, slopes, strict=True)
    }
