"""Calls in a user's forward become operations with every option written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from prune_search.compact.tracing import UndescribedError, describe, described


class Calls(nn.Module):
    """Does what it is given."""

    def __init__(self, call: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Any:
        return self.call(x)


def only(call: Callable[[Tensor], Any]) -> tuple[str, dict[str, Any]]:
    """The operation that a call is."""
    (node,) = describe(Calls(call), (3, 8, 8)).nodes
    return node.op, dict(node.options)


def test_a_function_a_method_an_operator_and_a_layer_are_one_operation() -> None:
    ways: list[Callable[[Tensor], Any]] = [functional.relu, torch.relu, lambda x: x.relu(), lambda x: x.relu_()]
    assert {only(way)[0] for way in ways} == {describe(nn.Sequential(nn.ReLU()), (4,)).nodes[0].op} == {"relu"}
    assert only(lambda x: 2 * x) == only(lambda x: x.mul(2)) == ("mul", {"other": 2})


def test_defaults_are_written_out() -> None:
    op, options = only(lambda x: functional.max_pool2d(x, 2))
    assert op == "max_pool2d"
    assert options == {"kernel_size": 2, "stride": 2, "padding": 0, "dilation": 1, "ceil_mode": False}
    assert only(lambda x: x.mean(1)) == ("mean", {"dim": [1], "keepdim": False})


def test_the_batch_is_never_written_as_a_number() -> None:
    for call in (lambda x: x.view(x.size(0), -1), lambda x: x.reshape(x.shape[0], -1)):
        assert only(call) == ("reshape", {"shape": [0, -1]})


def test_dropout_and_what_the_output_does_not_need_are_left_out() -> None:
    def call(x: Tensor) -> Tensor:
        functional.silu(x)
        return functional.dropout(x.contiguous(), 0.5).tanh()

    assert only(call)[0] == "tanh"


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda x: 1 - x, "cannot be described"),
        (lambda x: x.size(1) * x, "asks for the size"),
        (lambda x: x.device, "reads the attribute 'device'"),
        (lambda x: functional.max_pool2d(x, 2, return_indices=True), "max_pool2d_with_indices, which is not supported"),
        (lambda x: functional.softmax(x), "softmax with dim None is not supported"),
        (lambda x: torch.add(x, x, alpha=2), "more than two operands"),
        (lambda x: (x.tanh(), x)[1], "does not come from an operation"),
    ],
)
def test_what_has_no_operation_is_named(call: Callable[[Tensor], Any], reason: str) -> None:
    with pytest.raises(UndescribedError, match=reason):
        describe(Calls(call), (3, 8, 8))


def test_a_network_without_operations_is_refused_in_one_sentence() -> None:
    models: list[nn.Module] = [nn.Identity(), nn.Sequential(), nn.Sequential(nn.Dropout(0.5)), Calls(lambda x: x)]
    for model in models:
        with pytest.raises(UndescribedError, match=r"^it has no operation: its output is its input$"):
            describe(model, (3, 8, 8))


def test_upsampling_by_a_factor_is_an_operation_and_to_a_size_is_none() -> None:
    for mode, corners in (("bilinear", False), ("bilinear", True), ("nearest", None)):
        model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Upsample(scale_factor=2, mode=mode, align_corners=corners))
        made = described(model, (3, 8, 8))
        given = torch.randn(2, 3, 8, 8)
        assert torch.equal(made(given), model(given).detach())
    op, options = only(lambda x: functional.interpolate(x, scale_factor=2, mode="nearest"))
    assert (op, options) == ("upsample", {"scale_factor": 2, "mode": "nearest", "align_corners": None})
    with pytest.raises(UndescribedError, match="antialias"):
        only(lambda x: functional.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True))
    with pytest.raises(UndescribedError, match="scale_factor"):
        describe(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Upsample(size=16)), (3, 8, 8))
