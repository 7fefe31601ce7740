"""SynFlow: the flow through the network of absolute weights, without data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Criterion
from prune_search.recipe.fields import Word
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    import torch

    from prune_search.pruning.mask.scoring import Scores, Scoring
else:
    from prune_search.lazy import torch

# The fast pass, in float32, decides between scores that differ by more than its error: MARGIN times the largest
# relative error of the first iteration, over all weights (some ten times its standard deviation), at most WORST.
MARGIN = 1.5
WORST = 1e-3


def _each_flow(scoring: Scoring, dtype: str) -> dict[str, list[float]]:
    """The slow definition: R is linear in each weight, so its derivative is a difference of two values of R."""
    from prune_search.pruning.mask.finite_differences import each_derivative

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
            Word(("float64", "float32")),
            "float64",
            "precision of the scores; float32 falls back to float64 if its range is exceeded",
        )
    },
    facts=Criterion(reduce="sum", rough=True, oracle=_each_flow, passes_over_shards=True),
)
def synflow(scoring: Scoring, dtype: str) -> Scores:
    """|w| ⊙ dR/d|w| at the masked weights, shaped like the weights, at least 0, float64 where the pass is.

    As in the released code every parameter and buffer is made absolute for the pass: weights, biases, scales, shifts
    and running statistics. The network is in evaluation mode whatever ``score.mode`` says: batch statistics of one
    input of ones would say nothing.

    In a search for a mask float64 is worked out in full only where float32 cannot tell which weight goes.

    Raises:
        ScoreError: the flow is outside the range of float64, or nothing is masked and no weight has any.
    """
    from prune_search.pruning.mask.scoring import ERROR
    from prune_search.tasks.shards import is_sharded

    if is_sharded(scoring.model):
        return _flow_of_shards(scoring, dtype)
    error = scoring.memory.get("synflow: error of the fast pass")
    wide = dtype == "float64" or any(weight.dtype == torch.float64 for weight in scoring.weights.values())
    if scoring.rough and error is not None and error < WORST:
        scores = _flow(scoring, "fast")
        if _in_range(scores):
            scoring.memory[ERROR] = error if wide else 0.0
            return scores
    scores = {} if wide else _flow(scoring, "float32")
    if wide or not _in_range(scores):
        scores = _flow(scoring, "float64")
    scoring.memory[ERROR] = 0.0
    unmasked = all(bool((weight == scoring.dense[n]).all()) for n, weight in scoring.weights.items())
    _check_flow(_total(scores), unmasked)
    if scoring.rough and error is None:
        found = _largest_error(_flow(scoring, "fast"), scores)
        scoring.memory["synflow: error of the fast pass"] = MARGIN * found
    return scores


def _check_flow(total: float, unmasked: bool) -> None:
    """Refuse a flow that says nothing of any weight."""
    from prune_search.pruning.mask.mask_set import ScoreError

    if not math.isfinite(total):
        raise ScoreError("the synaptic flow through this network is outside the range of float64")
    if total == 0.0 and unmasked:
        raise ScoreError(
            "the synaptic flow of every weight is 0: the outputs of the network of absolute weights are saturated "
            "(by a sigmoid or softmax at its end?), or no path leads to them; let the network end before it"
        )


def _flow_of_shards(scoring: Scoring, dtype: str) -> Scores:
    """The scores of a network that is sharded over workers, which all call this."""
    from prune_search.pruning.mask.sharded_finder import workers_of
    from prune_search.pruning.mask.synflow_pass import ShardedFlowPass
    from prune_search.tasks.shards import part_of

    workers = workers_of(scoring.weights)

    def flow(way: str) -> tuple[Scores, float]:
        key = f"synflow: {way} of shards"
        if key not in scoring.memory:
            scoring.memory[key] = ShardedFlowPass.of(scoring, getattr(torch, way))
        scores: Scores = scoring.memory[key].scores(scoring)
        # Numbers that are not finite stay so in the sum.
        total = torch.stack([part_of(one).double().sum() for one in scores.values()]).sum()
        workers.total([total])
        return scores, float(total)

    wide = dtype == "float64" or any(weight.dtype == torch.float64 for weight in scoring.weights.values())
    scores, total = flow("float64" if wide else "float32")
    if not wide and not 0.0 < total < math.inf:
        scores, total = flow("float64")
    masked = torch.stack(
        [(part_of(weight) != part_of(scoring.dense[name])).sum() for name, weight in scoring.weights.items()]
    ).sum()
    workers.total([masked])
    _check_flow(total, not bool(masked))
    return scores


def _flow(scoring: Scoring, way: str) -> Scores:
    """The scores by a pass, which is made once a search."""
    from prune_search.pruning.mask.synflow_pass import fast_pass, plain_pass

    key = f"synflow: {way}"
    if key not in scoring.memory:
        scoring.memory[key] = fast_pass(scoring) if way == "fast" else plain_pass(scoring, getattr(torch, way))
    found: Scores = scoring.memory[key].scores(scoring)
    return found


def _in_range(scores: Scores) -> bool:
    """Neither overflow, nor a flow so small that it became zero."""
    return 0.0 < _total(scores) < math.inf


def _largest_error(rough: Scores, exact: Scores) -> float:
    """The largest relative error but for a common factor, which decides nothing; infinite where a score is lost."""
    ratios = [torch.where(exact[name] > 0, score.double() / exact[name], 1.0) for name, score in rough.items()]
    ends = torch.stack([torch.stack((ratio.min(), ratio.max())) for ratio in ratios])
    least, most = float(ends[:, 0].min()), float(ends[:, 1].max())
    return (most - least) / (most + least) if 0 < least <= most < math.inf else math.inf


def _total(scores: Scores) -> float:
    from prune_search.pruning.mask.mask_set import joined

    return float(joined([score.reshape(-1) for score in scores.values()]).sum())
