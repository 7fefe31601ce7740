"""ThiNet: ranks input channels by how little the layer's output changes without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Criterion
from prune_search.recipe.fields import Integer
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from prune_search.pruning.mask.scoring import Scores, Scoring
else:
    from prune_search.lazy import torch

PER_EXAMPLE = 10


def _places(scoring: Scoring, name: str, example: int, outputs: int) -> list[int]:
    """Which of an example's outputs are looked at: a function of seed, layer and example."""
    from prune_search.training.randomness import generator

    source = generator(scoring.seed, "criterion", "output-reconstruction", *scoring.words, name, example)
    found: list[int] = torch.randint(outputs, (PER_EXAMPLE,), generator=source).tolist()
    return found


def _inputs(scoring: Scoring, most: int) -> dict[str, tuple[nn.Module, list[Tensor]]]:
    """Per weight, its layer and up to `most` single examples of what comes into it."""
    names = {id(weight): name for name, weight in scoring.weights.items()}
    found: dict[str, tuple[nn.Module, list[Tensor]]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], _output: object) -> None:
        value = inputs[0].detach()
        if isinstance(layer, torch.nn.Linear):
            value = value.reshape(-1, value.shape[-1])
        seen = found.setdefault(names[id(layer._parameters["weight"])], (layer, []))[1]
        seen += [value[index : index + 1] for index in range(min(len(value), most - len(seen)))]

    from prune_search.pruning.mask.scoring import watch_layers

    watch_layers(scoring, names, note)
    return found


def _shares(scoring: Scoring, name: str, layer: nn.Module, inputs: list[Tensor]) -> Tensor:
    """What each input channel adds to each sampled output, the bias left out: [samples, channels]."""
    rows = []
    for number, value in enumerate(inputs):
        channels = value.shape[1]
        shape = (channels, channels, *([1] * (value.dim() - 2)))
        # Row c holds channel c alone.
        alone = value * torch.eye(channels, dtype=value.dtype, device=value.device).reshape(shape)
        outputs = (layer(alone) - layer(torch.zeros_like(value))).reshape(channels, -1)
        rows.append(outputs[:, _places(scoring, name, number, outputs.shape[1])].T)
    return torch.cat(rows)


def _order(shares: Tensor) -> list[int]:
    """Channels in the order of their removal: always the one that leaves the least Σ (sum of removed shares)²."""
    products = shares.double().T @ shares.double()
    cost = products.diagonal().clone()
    left = torch.ones_like(cost, dtype=torch.bool)
    order: list[int] = []
    for _ in range(len(cost)):
        least = cost.masked_fill(~left, torch.inf)
        # Of equals the last one goes, as the first is kept.
        chosen = int(torch.nonzero(least == least.min())[-1])
        order.append(chosen)
        left[chosen] = False
        cost += 2 * products[chosen]
    return order


def _greedily(scoring: Scoring, samples: int) -> dict[str, list[float]]:
    """The slow definition: every set that could be removed is summed up anew, sample by sample."""
    found = {}
    for name, (layer, inputs) in _inputs(scoring, -(-samples // PER_EXAMPLE)).items():
        weight = scoring.weights[name].detach()
        shares: list[list[float]] = []
        for number, value in enumerate(inputs):
            per_channel = []
            for channel in range(value.shape[1]):
                kept = torch.zeros_like(weight)
                kept[:, channel] = weight[:, channel]
                with torch.no_grad():
                    if isinstance(layer, torch.nn.Conv2d):
                        part = torch.nn.functional.conv2d(value, kept, None, layer.stride, layer.padding)
                    else:
                        part = value @ kept.T
                per_channel.append(part.flatten().tolist())
            for place in _places(scoring, name, number, len(per_channel[0])):
                shares.append([numbers[place] for numbers in per_channel])
        removed: list[int] = []
        rank = {}
        while len(removed) < weight.shape[1]:
            errors = {
                channel: sum(sum(row[c] for c in (*removed, channel)) ** 2 for row in shares)
                for channel in range(weight.shape[1])
                if channel not in removed
            }
            chosen = max(channel for channel, error in errors.items() if error == min(errors.values()))
            rank[chosen] = (len(removed) + 1) / weight.shape[1]
            removed.append(chosen)
        scores = torch.empty_like(weight)
        for channel, value_of in rank.items():
            scores[:, channel] = value_of
        found[name] = scores.flatten().tolist()
    return found


@CRITERIA.register(
    "output-reconstruction",
    summary="ThiNet: removes input channels greedily by the least error of the next layer's output",
    source="Luo, Wu & Lin 2017, ThiNet, 1707.06342, eq. 6 and algorithm 1",
    options={"samples": Option(Integer(1, 10_000_000), 1000, "number of outputs sampled, ten per example")},
    facts=Criterion(
        reduce="readers", scales="left", granularities=("weight", "channel"), needs_data=True, oracle=_greedily
    ),
)
def output_reconstruction(scoring: Scoring, samples: int) -> Scores:
    """The place of an input channel in the order of removal, over their number: in (0, 1], shaped like the weights.

    All weights that read a channel have its score; of coupled channels only the layers that read them are asked, and
    where one channel is many columns of a linear layer, their mean counts. Layers of grouped or transposed
    convolutions, whose weights are not [outputs, inputs, …], have the score 1 throughout.
    """
    from prune_search.pruning.mask.criteria.activations import check_used
    from prune_search.pruning.mask.mask_set import ScoreError
    from prune_search.tasks.dataflow import flow
    from prune_search.tasks.layers import listed

    found = _inputs(scoring, -(-samples // PER_EXAMPLE))
    used = {name for inputs, _ in scoring.batches()[:1] for name in flow(scoring.model, inputs).uncalled}
    if hidden := [name for name in scoring.weights if name in used]:
        text = (
            f"output-reconstruction needs the inputs of layers that are called as modules, and {listed(hidden)} is not"
        )
        raise ScoreError(text)
    check_used(scoring, scoring.weights.keys() - found.keys())
    scores = {}
    for name, weight in scoring.weights.items():
        scores[name] = torch.ones_like(weight)
        layer, inputs = found.get(name, (None, []))
        if layer is None or not inputs or inputs[0].shape[1:2] != weight.shape[1:2]:
            continue
        with torch.no_grad():
            order = _order(_shares(scoring, name, layer, inputs))
        ranks = torch.empty(len(order), dtype=weight.dtype, device=weight.device)
        ranks[order] = torch.arange(1, len(order) + 1, dtype=weight.dtype, device=weight.device) / len(order)
        scores[name] = ranks.reshape(1, -1, *([1] * (weight.dim() - 2))).expand_as(weight).clone()
    return scores
