"""The operations that a described network may contain. Nothing outside this allow-list is ever run.

An operation is a layer with tensors of its own (a class of torch.nn with the options of its constructor), or a function
of tensors. Dropout and Identity are none: a described network is in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from prune_search.compact.options import (
    Kinds,
    flag,
    flag_or_none,
    number,
    number_or_none,
    number_or_numbers,
    padding,
    places,
    sides,
    size,
    whole,
    whole_or_none,
    whole_or_wholes,
    wholes,
    word,
)

_CONVOLUTION: Kinds = {
    "in_channels": size,
    "out_channels": size,
    "kernel_size": whole_or_wholes,
    "stride": whole_or_wholes,
    "padding": padding,
    "dilation": whole_or_wholes,
    "groups": size,
    "bias": flag,
    "padding_mode": word("zeros", "reflect", "replicate", "circular"),
}
_TRANSPOSED: Kinds = {**_CONVOLUTION, "output_padding": whole_or_wholes, "padding": whole_or_wholes}
_NORM: Kinds = {
    "num_features": size,
    "eps": number,
    "momentum": number_or_none,
    "affine": flag,
    "track_running_stats": flag,
}


@dataclass(frozen=True)
class Layer:
    """An operation with tensors of its own.

    Attributes:
        make: the class.
        options: of its constructor.
    """

    make: Callable[..., nn.Module]
    options: Kinds


LAYERS: Mapping[str, Layer] = {
    "Linear": Layer(nn.Linear, {"in_features": size, "out_features": size, "bias": flag}),
    "Conv1d": Layer(nn.Conv1d, _CONVOLUTION),
    "Conv2d": Layer(nn.Conv2d, _CONVOLUTION),
    "Conv3d": Layer(nn.Conv3d, _CONVOLUTION),
    "ConvTranspose1d": Layer(nn.ConvTranspose1d, _TRANSPOSED),
    "ConvTranspose2d": Layer(nn.ConvTranspose2d, _TRANSPOSED),
    "ConvTranspose3d": Layer(nn.ConvTranspose3d, _TRANSPOSED),
    "BatchNorm1d": Layer(nn.BatchNorm1d, _NORM),
    "BatchNorm2d": Layer(nn.BatchNorm2d, _NORM),
    "BatchNorm3d": Layer(nn.BatchNorm3d, _NORM),
    "LayerNorm": Layer(
        nn.LayerNorm, {"normalized_shape": wholes, "eps": number, "elementwise_affine": flag, "bias": flag}
    ),
    "GroupNorm": Layer(nn.GroupNorm, {"num_groups": size, "num_channels": size, "eps": number, "affine": flag}),
    "PReLU": Layer(nn.PReLU, {"num_parameters": size}),
}


@dataclass(frozen=True)
class Function:
    """An operation without tensors of its own.

    Attributes:
        run: from the inputs and the options to the output.
        options: all of them must be given.
        inputs: how many tensors it takes, at least and at most.
        targets: the functions, and the names of methods, of which a traced network has this operation.
        arguments: what they are called with after the tensors, in order; REQUIRED where there is no default.
    """

    run: Callable[..., Tensor]
    options: Kinds = field(default_factory=dict)
    inputs: tuple[int, int] = (1, 1)
    targets: tuple[Any, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)


REQUIRED = object()


def _plain(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(inputs: Sequence[Tensor], **options: Any) -> Tensor:
        return function(*inputs, **options)

    return run


def _simple(function: Callable[..., Tensor], *targets: Any) -> Function:
    """A function of single values, without options."""
    return Function(_plain(function), targets=(function, *targets), arguments={"inplace": False})


def _with_number(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(inputs: Sequence[Tensor], other: float | None) -> Tensor:
        first = inputs[0]
        return function(first, inputs[1] if other is None else other)

    return run


def _cat(inputs: Sequence[Tensor], dim: int) -> Tensor:
    return torch.cat(list(inputs), dim)


def _reshape(inputs: Sequence[Tensor], shape: list[int]) -> Tensor:
    """A first side of 0 stands for the batch's."""
    (x,) = inputs
    return x.reshape([x.shape[0] if not place and not side else side for place, side in enumerate(shape)])


def _take(inputs: Sequence[Tensor], places: list[Any]) -> Tensor:
    return inputs[0][tuple(slice(*item) if isinstance(item, list) else item for item in places)]


def _permute(inputs: Sequence[Tensor], dims: list[int]) -> Tensor:
    return inputs[0].permute(dims)


def _mean(inputs: Sequence[Tensor], dim: list[int], keepdim: bool) -> Tensor:
    return inputs[0].mean(dim, keepdim)


def _sum(inputs: Sequence[Tensor], dim: list[int], keepdim: bool) -> Tensor:
    return inputs[0].sum(dim, keepdim)


def _upsample(inputs: Sequence[Tensor], scale_factor: Any, mode: str, align_corners: bool | None) -> Tensor:
    """By a factor; with a size the size of the output would be fixed."""
    return functional.interpolate(inputs[0], scale_factor=scale_factor, mode=mode, align_corners=align_corners)


_POOL: Kinds = {"kernel_size": whole_or_wholes, "padding": whole_or_wholes, "ceil_mode": flag}
_MAX: Kinds = {**_POOL, "stride": whole_or_wholes, "dilation": whole_or_wholes}
_AVERAGE: Kinds = {**_POOL, "stride": whole_or_wholes, "count_include_pad": flag, "divisor_override": whole_or_none}
_MAX_ARGUMENTS = {
    "kernel_size": REQUIRED,
    "stride": None,
    "padding": 0,
    "dilation": 1,
    "ceil_mode": False,
    "return_indices": False,
}
_AVERAGE_ARGUMENTS = {
    "kernel_size": REQUIRED,
    "stride": None,
    "padding": 0,
    "ceil_mode": False,
    "count_include_pad": True,
    "divisor_override": None,
}


def _pooled(function: Callable[..., Tensor], options: Kinds, arguments: Mapping[str, Any], *targets: Any) -> Function:
    return Function(_plain(function), options, targets=(function, *targets), arguments=arguments)


def _of_two(name: str, *targets: Any) -> Function:
    function = getattr(torch, name)
    options: Kinds = {"other": number_or_none}
    return Function(_with_number(function), options, (1, 2), (function, name, f"{name}_", *targets), {})


FUNCTIONS: Mapping[str, Function] = {
    "relu": _simple(functional.relu, torch.relu, "relu", "relu_"),
    "relu6": _simple(functional.relu6),
    "silu": _simple(functional.silu),
    "sigmoid": _simple(torch.sigmoid, functional.sigmoid, "sigmoid"),
    "tanh": _simple(torch.tanh, functional.tanh, "tanh"),
    "hardswish": _simple(functional.hardswish),
    "hardsigmoid": _simple(functional.hardsigmoid),
    "leaky_relu": Function(
        _plain(functional.leaky_relu),
        {"negative_slope": number},
        targets=(functional.leaky_relu,),
        arguments={"negative_slope": 0.01, "inplace": False},
    ),
    "elu": Function(
        _plain(functional.elu),
        {"alpha": number},
        targets=(functional.elu,),
        arguments={"alpha": 1.0, "inplace": False},
    ),
    "gelu": Function(
        _plain(functional.gelu),
        {"approximate": word("none", "tanh")},
        targets=(functional.gelu,),
        arguments={"approximate": "none"},
    ),
    "softmax": Function(
        _plain(torch.softmax),
        {"dim": whole},
        targets=(functional.softmax, torch.softmax, "softmax"),
        arguments={"dim": REQUIRED},
    ),
    "log_softmax": Function(
        _plain(torch.log_softmax),
        {"dim": whole},
        targets=(functional.log_softmax, torch.log_softmax, "log_softmax"),
        arguments={"dim": REQUIRED},
    ),
    "add": _of_two("add"),
    "sub": _of_two("sub"),
    "mul": _of_two("mul"),
    "div": _of_two("div"),
    "matmul": Function(_plain(torch.matmul), inputs=(2, 2), targets=(torch.matmul, torch.bmm, "matmul", "bmm")),
    "cat": Function(_cat, {"dim": whole}, (1, 1000), (torch.cat, torch.concat), {"dim": 0}),
    "flatten": Function(
        _plain(torch.flatten),
        {"start_dim": whole, "end_dim": whole},
        targets=(torch.flatten, "flatten"),
        arguments={"start_dim": 0, "end_dim": -1},
    ),
    "reshape": Function(_reshape, {"shape": wholes}),
    "permute": Function(_permute, {"dims": wholes}),
    "transpose": Function(
        _plain(torch.transpose),
        {"dim0": whole, "dim1": whole},
        targets=(torch.transpose, "transpose"),
        arguments={"dim0": REQUIRED, "dim1": REQUIRED},
    ),
    "unsqueeze": Function(
        _plain(torch.unsqueeze), {"dim": whole}, targets=(torch.unsqueeze, "unsqueeze"), arguments={"dim": REQUIRED}
    ),
    "squeeze": Function(
        _plain(torch.squeeze), {"dim": whole}, targets=(torch.squeeze, "squeeze"), arguments={"dim": REQUIRED}
    ),
    "take": Function(_take, {"places": places}),
    "mean": Function(
        _mean,
        {"dim": wholes, "keepdim": flag},
        targets=(torch.mean, "mean"),
        arguments={"dim": REQUIRED, "keepdim": False},
    ),
    "sum": Function(
        _sum,
        {"dim": wholes, "keepdim": flag},
        targets=(torch.sum, "sum"),
        arguments={"dim": REQUIRED, "keepdim": False},
    ),
    "pad": Function(
        _plain(functional.pad),
        {"pad": wholes, "mode": word("constant", "reflect", "replicate", "circular"), "value": number_or_none},
        targets=(functional.pad,),
        arguments={"pad": REQUIRED, "mode": "constant", "value": None},
    ),
    "upsample": Function(
        _upsample,
        {"scale_factor": number_or_numbers, "mode": word("nearest", "bilinear"), "align_corners": flag_or_none},
        targets=(functional.interpolate,),
        arguments={
            "size": None,
            "scale_factor": None,
            "mode": "nearest",
            "align_corners": None,
            "recompute_scale_factor": None,
            "antialias": False,
        },
    ),
    "max_pool1d": _pooled(torch.max_pool1d, _MAX, _MAX_ARGUMENTS, functional.max_pool1d),
    "max_pool2d": _pooled(torch.max_pool2d, _MAX, _MAX_ARGUMENTS, functional.max_pool2d),
    "avg_pool2d": _pooled(functional.avg_pool2d, _AVERAGE, _AVERAGE_ARGUMENTS),
    "adaptive_avg_pool1d": Function(
        _plain(functional.adaptive_avg_pool1d),
        {"output_size": sides},
        targets=(functional.adaptive_avg_pool1d,),
        arguments={"output_size": REQUIRED},
    ),
    "adaptive_avg_pool2d": Function(
        _plain(functional.adaptive_avg_pool2d),
        {"output_size": sides},
        targets=(functional.adaptive_avg_pool2d,),
        arguments={"output_size": REQUIRED},
    ),
}
