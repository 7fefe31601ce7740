"""Wanda: weights times the norm of their inputs."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Criterion
from prune_search.recipe.fields import Word
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from prune_search.pruning.mask.layerwise import Layerwise
    from prune_search.pruning.mask.scoring import Scores, Scoring
    from prune_search.tasks.dataflow import Use
else:
    from prune_search.lazy import torch


LOOK_UP = "aten.embedding"


def each_input(scoring: Scoring, group: str) -> dict[str, list[float]]:
    """The slow definition for linear and plain 2-d convolution layers: for each weight, what it is multiplied with."""
    found: dict[str, list[float]] = {}
    seen: dict[str, list[Tensor]] = {name: [] for name in scoring.weights}
    names = {id(weight): name for name, weight in scoring.weights.items()}
    for inputs, _ in scoring.batches():
        value = inputs
        for layer in scoring.model.children():
            name = names.get(id(getattr(layer, "weight", None)))
            if name is not None:
                edge = int(layer.padding[0]) if isinstance(layer, torch.nn.Conv2d) else 0
                padded = torch.nn.functional.pad(value, (edge,) * 4) if edge else value
                seen[name].append(padded.detach())
            value = layer(value)
    for name, weight in scoring.weights.items():
        scores = []
        for index in range(weight.numel()):
            place = [int(i) for i in torch.unravel_index(torch.tensor(index), weight.shape)]
            met: list[float] = []
            for value in seen[name]:
                if weight.dim() == 2:
                    met += value[:, place[1]].tolist()
                else:
                    height, width = (value.shape[2 + i] - weight.shape[2 + i] + 1 for i in (0, 1))
                    window = value[:, place[1], place[2] : place[2] + height, place[3] : place[3] + width]
                    met += window.flatten().tolist()
            scores.append(abs(float(scoring.dense[name].flatten()[index])) * math.sqrt(math.fsum(x * x for x in met)))
        found[name] = scores
    return found


def input_squares(scoring: Scoring) -> Scores:
    """For every weight, Σ x² over the numbers x that it is multiplied with; float64, shaped like the weights.

    It is the derivative by the weight of the layer's summed output on the squared inputs, whatever the kind of layer:
    a convolution's padding, stride, dilation and groups need no case of their own.
    """
    from prune_search.tasks.dataflow import flow

    uncalled = {name for inputs, _ in scoring.batches()[:1] for name in flow(scoring.model, inputs).uncalled}
    squares = _seen(scoring)
    silent = {name for name, met in squares.items() if not met}
    found = _of_uses(scoring, silent | (uncalled & set(scoring.weights)))
    for name, weight in scoring.weights.items():
        if name in found:
            continue
        total = torch.zeros_like(weight, dtype=torch.float64)
        for layer, square in squares[name]:
            leaf = torch.zeros_like(weight, dtype=torch.float64, requires_grad=True)
            tensors = {"weight": leaf}
            if layer.bias is not None:
                tensors["bias"] = torch.zeros_like(layer.get_parameter("bias"), dtype=torch.float64)
            with torch.enable_grad():
                output = torch.func.functional_call(layer, tensors, (square,)).sum()
            total += torch.autograd.grad(output, leaf)[0]
        found[name] = total
    return found


def _seen(scoring: Scoring) -> dict[str, list[tuple[nn.Module, Tensor]]]:
    """Per weight, the layers that used it and their squared inputs, summed over the examples."""
    names = {id(weight): name for name, weight in scoring.weights.items()}
    found: dict[str, list[tuple[nn.Module, Tensor]]] = {name: [] for name in scoring.weights}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], _output: object) -> None:
        if not is_plain(layer, inputs[0]):
            return
        square = inputs[0].detach().double().square()
        weight = layer._parameters["weight"]
        if isinstance(layer, torch.nn.Linear):
            square = square.reshape(-1, square.shape[-1]).sum(0, keepdim=True)
        elif weight is not None and square.dim() == weight.dim():
            square = square.sum(0, keepdim=True)
        found[names[id(weight)]].append((layer, square))

    from prune_search.pruning.mask.scoring import watch_layers
    from prune_search.tasks.passes import is_plain

    watch_layers(scoring, names, note)
    return found


def _of_uses(scoring: Scoring, names: set[str]) -> Scores:
    """Σ x² of weights that are used without their layer being called: as torch's operations meet them, one by one.

    They are those of attention and of recurrent layers, and of layers whose weight a function takes.
    """
    from prune_search.tasks.dataflow import flow

    found = {name: torch.zeros_like(scoring.weights[name], dtype=torch.float64) for name in sorted(names)}
    used = set()

    def watch(use: Use) -> None:
        # An embedding that a layer shares is looked up there, and multiplied with nothing.
        if use.name in found and use.operation != LOOK_UP:
            used.add(use.name)
            _add(found[use.name], scoring.weights[use.name], use, use.squares())

    for inputs, _ in scoring.batches() if found else ():
        flow(scoring.model, inputs, watch)
    check_used(scoring, found.keys() - used)
    return found


def check_used(scoring: Scoring, unused: Collection[str]) -> None:
    """Refuse weights of whose inputs nothing is known.

    Raises:
        ScoreError: there are such.
    """
    from prune_search.pruning.mask.mask_set import ScoreError
    from prune_search.tasks.layers import listed

    if names := [name for name in scoring.weights if name in unused]:
        text = f"no batch uses {listed(names)}, so its inputs are not known: leave it out, or pass other batches"
        raise ScoreError(text)


def _add(total: Tensor, weight: Tensor, use: Use, squares: Tensor | None) -> None:
    """Add the squares that an operand met to those of the weight that it is a part of, or made of."""
    from prune_search.pruning.mask.mask_set import ScoreError

    operand = use.operand
    for place in [at for at, step in enumerate(operand.stride()) if step == 0 and operand.shape[at] > 1][::-1]:
        # The same weights for every example of a batch.
        operand = operand.select(place, 0)
        squares = None if squares is None else squares.sum(place)
    if squares is not None and operand.untyped_storage()._cdata == weight.untyped_storage()._cdata:
        offset = int(operand.storage_offset() - weight.storage_offset())
        total.as_strided(operand.shape, operand.stride(), offset).add_(squares)
    elif squares is not None and operand.shape == weight.shape:
        total.add_(squares)
    elif squares is not None and operand.shape == weight.T.shape:
        total.add_(squares.T)
    else:
        raise ScoreError(f"{use.name} is used by {use.operation} in a way that hides its inputs")


def _layerwise(group: str) -> Layerwise:
    """The same of one layer: its scores decide, and what is kept stays as it is."""
    from prune_search.pruning.mask.layerwise import Keeping, Layerwise

    def prune(weight: Tensor, squares: Tensor, keeping: Keeping) -> tuple[Tensor, Tensor]:
        return keeping.of(weight.abs() * squares.sqrt().to(weight.dtype)), weight

    return Layerwise("squares", prune)


@CRITERIA.register(
    "wanda",
    summary="|w| · ‖x‖₂ of the layer's input; single weights compete within their output row, or their layer, only",
    source="Sun, Liu, Bair & Kolter 2024, A Simple and Effective Pruning Approach for LLMs, 2306.11695, eq. 1",
    options={
        "group": Option(
            Word(("row", "layer")),
            "row",
            "single weights compete within their output row, as in the paper's language models, or within the layer",
            later=True,
        )
    },
    facts=Criterion(
        reduce="sum",
        compared=lambda group: group,
        scales="left",
        needs_data=True,
        oracle=each_input,
        layerwise=_layerwise,
    ),
)
def wanda(scoring: Scoring, group: str = "row") -> Scores:
    """|w| ⊙ ‖x‖₂, at least 0, float64, shaped like the weights; the inputs are those of the masked network.

    Of a convolution x are the numbers that the weight meets as it slides over the pictures. All inputs come from one
    pass. The released code prunes block after block and lets the pruned one feed the next: that is the scope option
    ``order: blocks``. `group` plays no part in the scores: it says who competes.
    """
    del group
    squares = input_squares(scoring)
    return {name: scoring.dense[name].double().abs() * squares[name].sqrt() for name in scoring.weights}
