"""The list of what a described network may do is consistent with torch and with itself."""

from __future__ import annotations

import inspect

import pytest
import torch

from prune_search.compact.operations import FUNCTIONS, LAYERS


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_the_options_of_a_layer_are_arguments_of_its_class(name: str) -> None:
    assert set(LAYERS[name].options) <= set(inspect.signature(LAYERS[name].make).parameters)


def test_no_call_in_a_traced_network_means_two_operations() -> None:
    targets = [target for entry in FUNCTIONS.values() for target in entry.targets]
    assert len(targets) == len(set(targets))
    assert not set(LAYERS) & set(FUNCTIONS)


@pytest.mark.parametrize("name", sorted(name for name, entry in FUNCTIONS.items() if entry.arguments))
def test_every_option_of_a_function_is_an_argument_of_its_call(name: str) -> None:
    """Else a traced call could not say it."""
    assert set(FUNCTIONS[name].options) <= set(FUNCTIONS[name].arguments)


def test_a_first_side_of_zero_is_the_batch_and_any_other_zero_is_a_zero() -> None:
    reshape = FUNCTIONS["reshape"].run
    assert reshape([torch.zeros(3, 2, 4)], shape=[0, 8]).shape == (3, 8)
    assert reshape([torch.zeros(3, 0)], shape=[0, 0, 5]).shape == (3, 0, 5)


def test_an_operation_of_two_takes_a_tensor_or_a_number() -> None:
    x = torch.tensor([1.0, 2.0])
    assert FUNCTIONS["sub"].run([x, x], other=None).tolist() == [0.0, 0.0]
    assert FUNCTIONS["sub"].run([x], other=1.0).tolist() == [0.0, 1.0]
    assert FUNCTIONS["take"].run([x[None]], places=[[None, None, None], 1]).tolist() == [2.0]


@pytest.mark.parametrize(
    ("op", "option", "bad"),
    [("gelu", "approximate", "exec"), ("pad", "mode", "other"), ("softmax", "dim", 1.5), ("pad", "pad", "11")],
)
def test_an_option_that_is_not_of_its_kind_is_not_allowed(op: str, option: str, bad: object) -> None:
    assert not FUNCTIONS[op].options[option](bad)
