"""A network's weights and buffers as named tensors, and back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prune_search.training.segment import load_model, model_tensors


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5))


def test_a_model_is_loaded_into_the_memory_that_it_has() -> None:
    model = network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    places = {name: (tensor.data_ptr(), tensor.stride()) for name, tensor in model.state_dict().items()}
    other = {key: (value + 1).contiguous() for key, value in model_tensors(model).items()}
    load_model(model, other)
    assert all(torch.equal(other[key], value) for key, value in model_tensors(model).items())
    assert {name: (tensor.data_ptr(), tensor.stride()) for name, tensor in model.state_dict().items()} == places


def test_the_tensors_are_copies_and_the_buffers_are_among_them() -> None:
    model = network()
    tensors = model_tensors(model)
    assert {"model/0.weight", "model/1.running_mean", "model/1.num_batches_tracked"} <= set(tensors)
    with torch.no_grad():
        model.get_parameter("0.weight").zero_()
    assert bool((tensors["model/0.weight"] != 0).all())
    assert not any(tensor.requires_grad for tensor in tensors.values())


def test_a_tensor_that_is_missing_is_named() -> None:
    tensors = model_tensors(network())
    del tensors["model/3.bias"]
    with pytest.raises(KeyError, match=r"3\.bias"):
        load_model(network(), tensors)
