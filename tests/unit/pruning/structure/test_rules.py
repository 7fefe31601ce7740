"""Rules of operations, on graphs that are written down: what can go, what goes together, and why the rest stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from prune_search.pruning.structure.analysis import Analysis
from prune_search.pruning.structure.capture import Captured
from prune_search.pruning.structure.checks import GraphChecks
from prune_search.pruning.structure.choices import analyze
from prune_search.pruning.structure.place import Place
from prune_search.pruning.structure.rules import RULES
from prune_search.pruning.structure.sets import units_of
from prune_search.pruning.structure.values import shapes_of

aten = torch.ops.aten


class Between(nn.Module):
    """Twelve units, an operation, and what reads them: a product with a matrix of as many rows as it leaves."""

    def __init__(self, run: Callable[[Any], Any], rows: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.run = run
        self.first = nn.Parameter(torch.randn(12, 3, generator=draw))
        self.last = nn.Parameter(torch.randn(rows, 2, generator=draw))

    def forward(self, x: Tensor) -> Any:
        return aten.matmul.default(self.run(aten.linear.default(x, self.first)), self.last)


def analysis_of(run: Callable[[Any], Any], rows: int = 12) -> Analysis:
    """Of x [2, 3] through twelve units, `run` and a matrix [rows, 2]."""
    graph = fx.symbolic_trace(Between(run, rows))
    inputs = {"x": torch.randn(2, 3, generator=torch.Generator().manual_seed(1))}
    names = {str(node.target): str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    return analyze(Captured(graph, inputs, shapes_of(graph, list(inputs.values())), names, ({},)))


def heads(x: Any) -> Any:
    split = aten.transpose.int(aten.view.default(x, [2, 3, 4]), 1, 2)
    return aten.reshape.default(aten.transpose.int(split, 1, 2), [2, 12])


def gated(x: Any) -> Any:
    parts = aten.split_with_sizes.default(x, [6, 6], 1)
    return aten.mul.Tensor(aten.sigmoid.default(parts[0]), parts[1])


def shuffled(x: Any) -> Any:
    return aten.reshape.default(aten.transpose.int(aten.view.default(x, [2, 2, 6]), 1, 2), [2, 12])


def padded(x: Any) -> Any:
    return aten.constant_pad_nd.default(x, [2, 2], 0.5)


def two_ways(x: Any) -> Any:
    return aten.cat.default([aten.slice.Tensor(x, 1, 4, 12), aten.slice.Tensor(x, 1, 0, 4)], 1)


def put(x: Any) -> Any:
    """Twelve units at places of a dimension before theirs that are picked by number."""
    wide = aten.new_zeros.default(x, [2, 3, 12])
    return aten.select.int(
        aten.index_put.default(wide, [None, torch.tensor([1, 1])], aten.unsqueeze.default(x, 1)), 1, 1
    )


def gathered(x: Any) -> Any:
    picks = aten.repeat.default(torch.tensor([[1], [0]]), [1, 12])
    return aten.gather.default(x, 0, picks)


def patches(x: Any) -> Any:
    found = aten.im2col.default(aten.view.default(x, [2, 12, 1, 1]), [2, 2], [1, 1], [1, 1], [1, 1])
    return aten.reshape.default(aten.transpose.int(found, 1, 2), [8, 48])


def from_patches(x: Any) -> Any:
    made = aten.col2im.default(aten.view.default(x, [2, 12, 1]), [2, 2], [2, 2], [1, 1], [0, 0], [1, 1])
    return aten.mean.dim(made, [2, 3])


def complex_pairs(x: Any) -> Any:
    turned = aten.view_as_complex.default(aten.view.default(x, [2, 6, 2]))
    return aten.reshape.default(aten.view_as_real.default(aten.mul.Tensor(turned, 1j)), [2, 12])


def spectrum(x: Any) -> Any:
    found = aten.fft_rfft.default(aten.expand.default(aten.unsqueeze.default(x, -1), [2, 12, 4]))
    return aten.select.int(aten.fft_irfft.default(found), -1, 0)


# Units that go at once, and how many of them there are.
CUTTABLE: dict[str, tuple[Callable[[Any], Any], int, list[int]]] = {
    "nothing": (aten.relu.default, 12, [12]),
    "heads": (heads, 12, [3]),
    "gated": (gated, 6, [6]),
    "glu": (lambda x: aten.glu.default(x, 1), 6, [6]),
    "shuffled": (shuffled, 12, [2]),
    "padded": (padded, 16, [12, 4]),
    "parts in another order": (two_ways, 12, [12]),
    "repeated": (lambda x: aten.repeat.default(x, [1, 2]), 24, [12]),
    "repeated in a row": (lambda x: aten.repeat_interleave.self_int(x, 2, 1), 24, [12]),
    "what torch does not call pointwise": (lambda x: aten.hardswish.default(aten.multiply.Tensor(x, x)), 12, [12]),
    "a sum": (lambda x: aten.sum.dim_IntList(x, [1], True), 1, [12]),
    "a norm": (lambda x: aten.linalg_vector_norm.default(x, 2, [1], True), 1, [12]),
    "a mean": (lambda x: aten.mean.dim(x, [1], True), 1, [12]),
    "layer norm": (lambda x: aten.mul.Tensor(aten.layer_norm.default(x, [12]), x), 12, [12]),
    "rms norm": (lambda x: aten.rms_norm.default(x, [12]), 12, [12]),
    "an ellipsis": (lambda x: aten.einsum.default("...i,...i->...", [x, x]).unsqueeze(-1), 1, [12]),
    "a dot product": (lambda x: aten.tensordot.default(x, x, [1], [1]), 2, [12]),
    "distances": (lambda x: aten.cdist.default(x, x), 2, [12]),
    "cosines": (lambda x: aten.unsqueeze.default(aten.cosine_similarity.default(x, aten.relu.default(x)), -1), 1, [12]),
    "side by side": (lambda x: aten.hstack.default([x, aten.neg.default(x)]), 24, [12]),
    "on top": (lambda x: aten.vstack.default([x, x]), 12, [12]),
    "put": (put, 12, [12]),
    "gathered": (gathered, 12, [12]),
    "added by number": (lambda x: aten.index_add.default(x, 0, torch.tensor([0, 0]), aten.relu.default(x)), 12, [12]),
    "sorted along the batch": (lambda x: aten.sort.default(x, 0)[0], 12, [12]),
    "every third": (lambda x: aten.slice.Tensor(x, 1, 1, 9223372036854775807, 3), 4, [4]),
    "patches": (patches, 48, [12]),
    "from patches": (from_patches, 3, [3]),
    "complex": (complex_pairs, 12, [6]),
    "a Fourier transform": (spectrum, 12, [12]),
}


@pytest.mark.parametrize("name", CUTTABLE)
def test_units_go_together_and_their_cut_is_exact(name: str) -> None:
    run, rows, sizes = CUTTABLE[name]
    analysis = analysis_of(run, rows)
    sets = units_of(analysis)
    assert sorted((len(units.classes) for units in sets), reverse=True) == sizes
    assert GraphChecks(analysis, redrawn=True).is_exact(sets)


def stream(normed: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A branch that normalizes what it is given, and is added to it."""
    square = torch.randn(12, 12, generator=torch.Generator().manual_seed(2))
    return lambda x: aten.add.Tensor(x, aten.linear.default(aten.add.Tensor(x, normed(x)), square))


def in_training(x: Any) -> Any:
    """A batch norm over the units of every example."""
    normed = aten.batch_norm.default(aten.unsqueeze.default(x, 0), *[None] * 4, True, 0.1, 1e-5, False)
    return aten.squeeze.dim(normed, 0)


STAYS: dict[str, tuple[Callable[[Any], Any], int, str]] = {
    "softmax": (lambda x: aten.softmax.int(x, 1), 12, "softmax runs over its units"),
    "a mean of a stream": (stream(lambda x: aten.mean.dim(x, [1], True)), 12, "mean runs over its units"),
    "a norm of a stream": (stream(lambda x: aten.layer_norm.default(x, [12])), 12, "its width is what a normalization"),
    "a largest value": (lambda x: aten.amax.default(x, [1], True), 1, "amax runs over its units"),
    "standardized weights": (in_training, 12, "a normalization takes its statistics over its units"),
    "the order": (lambda x: aten.cumsum.default(x, 1), 12, "cumsum depends on the order of its units"),
    "picked": (lambda x: aten.select.int(aten.view.default(x, [2, 1, 12]), 2, 3), 1, "picked by number"),
    "every fifth": (lambda x: aten.slice.Tensor(x, 1, 0, 12, 5), 3, "every second place of it, or fewer, is taken"),
    "unknown": (lambda x: aten.renorm.default(x, 2, 0, 1.0), 12, "renorm has no rule here"),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_cannot_go_says_why(name: str) -> None:
    run, rows, why = STAYS[name]
    analysis = analysis_of(run, rows)
    assert why in analysis.reason(analysis.tensors["first"][0])


def test_a_rule_that_does_not_foresee_a_call_keeps_what_it_touches(monkeypatch: pytest.MonkeyPatch) -> None:
    def unforeseen(place: Place) -> object:
        raise LookupError(place.name)

    monkeypatch.setitem(RULES, "renorm", unforeseen)
    analysis = analysis_of(lambda x: aten.renorm.default(x, 2, 0, 1.0))
    assert "renorm is called in a way that has no rule here" in analysis.reason(analysis.tensors["first"][0])


def test_a_size_that_is_written_down_becomes_the_number_of_units_that_stay() -> None:
    analysis = analysis_of(heads)
    (units,) = units_of(analysis)
    assert units.having("weight")[0].index.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    places = sorted((edit.argument, edit.at, len(edit.ids)) for edit in analysis.notes.edits)
    assert places == [("shape", 1, 12), ("size", 1, 3)]
    assert np.array_equal(analysis.classes[analysis.tensors["last"][0]][::4], units.classes)
