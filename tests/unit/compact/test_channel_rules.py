"""What is known of channels after an operation is what the operation does to constants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.compact.channel_rules import RULES, Known, NodeShapes, foldable, pads
from prune_search.compact.graph import Node

AVERAGE = {"kernel_size": 2, "stride": 2, "padding": 0, "ceil_mode": False, "count_include_pad": True}


def known(*values: float | None) -> Known:
    """Channels with constants; None for one that is not constant."""
    flags = torch.tensor([value is not None for value in values])
    return Known.of(flags, torch.tensor([0.0 if value is None else value for value in values]))


def told(found: Known) -> list[float | None]:
    pairs = zip(found.is_known.tolist(), found.values.tolist(), strict=True)
    return [value if fine else None for fine, value in pairs]


def place(
    op: str,
    options: Mapping[str, Any],
    inputs: tuple[tuple[int, ...], ...],
    output: tuple[int, ...],
    layer: nn.Module | None = None,
) -> NodeShapes:
    return NodeShapes(Node("n", op, (), options, "layer" if layer is not None else ""), layer, inputs, output)


def after(where: NodeShapes, *given: Known) -> list[float | None]:
    return told(RULES[where.node.op].known(where, given))


def convolution(padding: int) -> NodeShapes:
    layer = nn.Conv2d(3, 3, 1 + 2 * padding, padding=padding)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0], layer.weight[1, 2] = 1.0, 1.0
        assert layer.bias is not None
        layer.bias.copy_(torch.tensor([0.5, 0.25, 7.0]))
    options = {"kernel_size": layer.kernel_size[0], "padding": padding, "padding_mode": "zeros", "groups": 1}
    return place("Conv2d", options, ((2, 3, 4, 4),), (2, 3, 4, 4), layer)


def test_a_constant_that_is_no_number_counts_as_unknown() -> None:
    found = Known.of(torch.tensor([True, True, False]), torch.tensor([float("nan"), 0.0, 3.0]))
    assert told(found) == [None, 0.0, None]
    assert found.zeros().tolist() == [False, True, False]


def test_a_product_with_zero_is_zero_whatever_the_other_factor() -> None:
    shape = (2, 3, 4, 4)
    where = place("mul", {"other": None}, (shape, shape), shape)
    assert after(where, known(0.0, 2.0, 2.0), known(None, 3.0, None)) == [0.0, 6.0, None]
    sums = place("add", {"other": None}, (shape, shape), shape)
    assert after(sums, known(0.0, 2.0, 2.0), known(None, 3.0, None)) == [None, 5.0, None]


def test_a_convolution_that_pads_keeps_only_zeros_constant() -> None:
    """A constant picture with zeros at its borders is none after the kernel has passed them."""
    given = known(2.0, None, 0.0)
    inside, padded = convolution(0), convolution(1)
    assert (pads(inside.node), pads(padded.node)) == (False, True)
    assert after(inside, given) == [2.5, 0.25, 7.0]
    assert after(padded, given) == [None, 0.25, 7.0]
    assert foldable(padded, given).tolist() == [False, False, True]


def test_channels_keep_their_places_in_joins_pads_and_flattened_features() -> None:
    joined = place("cat", {"dim": 1}, ((2, 1, 4, 4), (2, 2, 4, 4)), (2, 3, 4, 4))
    links = RULES["cat"].links(joined)
    assert links is not None
    assert [link.tolist() for link in links] == [[0, -1, -1], [-1, 0, 1]]
    assert after(joined, known(1.0), known(None, 2.0)) == [1.0, None, 2.0]
    flat = place("flatten", {"start_dim": 1, "end_dim": -1}, ((2, 2, 1, 2),), (2, 4))
    assert after(flat, known(3.0, None)) == [3.0, 3.0, None, None]
    pad = place("pad", {"pad": [0, 0, 0, 0, 1, 0], "mode": "constant", "value": None}, ((2, 1, 4, 4),), (2, 2, 4, 4))
    assert after(pad, known(5.0)) == [0.0, 5.0]


def test_borders_of_an_average_leave_constants_only_where_they_are_not_counted() -> None:
    def average(**changes: Any) -> list[float | None]:
        options = {**AVERAGE, "divisor_override": None, **changes}
        return after(place("avg_pool2d", options, ((2, 2, 4, 4),), (2, 2, 2, 2)), known(0.0, 2.0))

    assert average() == [0.0, 2.0]
    assert average(padding=1) == [0.0, None]
    assert average(padding=1, count_include_pad=False) == [0.0, 2.0]


def test_statistics_of_the_batch_leave_nothing_known() -> None:
    layer = nn.BatchNorm2d(2).eval()
    shape = (2, 2, 4, 4)
    stored: Tensor = layer(torch.full((1, 2, 1, 1), 3.0)).detach().flatten()
    assert after(place("BatchNorm2d", {"track_running_stats": True}, (shape,), shape, layer), known(3.0, None)) == [
        float(stored[0]),
        None,
    ]
    of_batch = place("BatchNorm2d", {"track_running_stats": False}, (shape,), shape, layer)
    assert after(of_batch, known(3.0, 3.0)) == [None, None]
    assert RULES["BatchNorm2d"].links(of_batch) is None
