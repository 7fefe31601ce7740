"""The transform fuse: exact for linear networks, the best affine map for others, and a network that is shallower."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search.pruning.mask.mask_set import MaskSet, keep_all
from prune_search.pruning.mask.rule import MaskRule
from prune_search.pruning.weights.context import TransformContext
from prune_search.pruning.weights.transforms.fuse import fuse
from prune_search.recipe import axes
from prune_search.recipe.blocks import Score
from prune_search.recipe.named import Named
from prune_search.recipe.problems import UserError
from prune_search.tasks.layers import prunable_weights
from prune_search.training.loop import Network, TrainingError

EXACT = 1e-6  # of float32 weights and outputs, relative to the largest


class Batches:
    """What a transform asks of a feed."""

    def __init__(self, inputs: Tensor, batch: int = 50) -> None:
        self.parts = torch.split(inputs, batch)
        self.epoch = len(self.parts)

    def __call__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.parts[number], torch.zeros(len(self.parts[number]))


def net(*modules: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict((f"m{place}", module) for place, module in enumerate(modules)))
    for module in model:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 2.0)
    return model


def fused(model: nn.Module, inputs: Tensor, *removed: str, ridge: float = 0.0, samples: int = 10_000) -> nn.Module:
    """The network after the transform, in evaluation mode."""
    masks = keep_all(prunable_weights(model))
    masks = MaskSet({name: mask & (name not in removed) for name, mask in masks.items()})
    feed: Any = Batches(inputs)
    rule = MaskRule(
        Named.of(axes.CRITERIA, "last"),
        Named.of(axes.SCOPES, "global"),
        Named.of(axes.GRANULARITIES, "layer"),
        Score.of({}),
    )
    network = Network(model, torch.device("cpu"), None, None)  # type: ignore[arg-type]
    init = Named.of(axes.INITS, "kaiming")
    context = TransformContext(network, masks, rule, removed, init, 0, ("a", 1), lambda: feed)
    fuse(context, ridge=ridge, samples=samples)
    return model.eval()


VECTORS = torch.randn(400, 8, generator=torch.Generator().manual_seed(1))
PICTURES = torch.randn(60, 2, 9, 9, generator=torch.Generator().manual_seed(2))


def apart(one: Tensor, other: Tensor) -> float:
    return float(((one - other).abs().max() / other.abs().max()).detach())


def test_linear_layers_become_their_product() -> None:
    model = net(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)).eval()
    before = model(VECTORS)
    after = fused(model, VECTORS, "m0.weight")
    assert apart(after(VECTORS), before) < EXACT
    assert {name: tuple(weight.shape) for name, weight in after.named_parameters()} == {
        "m3.weight": (5, 8),
        "m3.bias": (5,),
        "m5.weight": (2, 5),
        "m5.bias": (2,),
    }


def test_a_ridge_of_one_millionth_costs_a_millionth() -> None:
    model = net(nn.Linear(8, 6), nn.Linear(6, 5)).double().eval()
    inputs = VECTORS.double()
    before = model(inputs).detach()
    assert apart(fused(model, inputs, "m0.weight", ridge=1e-6)(inputs), before) < 5e-6


@pytest.mark.parametrize("between", [(), (nn.AvgPool2d(2),), (nn.BatchNorm2d(4),)], ids=["none", "average", "norm"])
@pytest.mark.parametrize("stride", [1, 2])
def test_linear_convolutions_become_one_convolution(between: tuple[nn.Module, ...], stride: int) -> None:
    model = net(nn.Conv2d(2, 4, 3, stride=stride), *between, nn.Conv2d(4, 3, 2), nn.Flatten())
    model.append(nn.Linear(model(PICTURES).shape[1], 2)).eval()
    before = model(PICTURES)
    after = fused(model, PICTURES, "m0.weight")
    assert apart(after(PICTURES), before) < EXACT
    assert [name for name, _ in after.named_parameters()][:1] == [f"m{len(between) + 1}.weight"]


def test_with_padding_the_inside_of_a_linear_convolution_is_nearly_exact_and_the_border_is_not() -> None:
    """At the border the padding of zeros in between is no affine map of what a shared kernel sees."""
    layers = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
    model = net(*layers).double().eval()
    inputs = torch.randn(4, 2, 40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    before = model(inputs).detach()
    after = fused(model, inputs, "m0.weight")(inputs).detach()
    error = (after - before).abs() / before.abs().max()
    assert after.shape == before.shape
    inside = error[:, :, 1:-1, 1:-1]
    assert float(inside.mean()) < 0.2 * float(error[:, :, 0].mean())
    assert float(inside.mean()) < 0.05


def unrolled(layer: nn.Conv2d, side: int) -> nn.Linear:
    """A convolution as the linear layer of flat pictures that it is."""
    basis = torch.eye(layer.in_channels * side * side, dtype=torch.float64).reshape(-1, layer.in_channels, side, side)
    shift = layer(torch.zeros_like(basis[:1])).flatten()
    linear = nn.Linear(len(basis), len(shift)).double()
    with torch.no_grad():
        linear.weight.copy_((layer(basis).flatten(1) - shift).T)
        linear.bias.copy_(shift)
    return linear


@pytest.mark.parametrize("padding", [0, 1])
def test_where_each_output_sees_all_of_the_input_fusing_convolutions_is_fusing_the_unrolled_layers(
    padding: int,
) -> None:
    """Pictures of 3x3 and two kernels of 2x2, without padding: one output place, so that nothing is shared.

    With padding the places share a kernel: the middle one sees all nine values, as the unrolled layer does.
    """
    torch.manual_seed(0)
    first, second = nn.Conv2d(2, 4, 2, padding=padding).double(), nn.Conv2d(4, 3, 2).double()
    inputs = torch.randn(400, 2, 3, 3, dtype=torch.float64)
    flat = inputs.flatten(1)
    side = 3 + 2 * padding - 1
    dense = net(unrolled(first, 3), nn.ReLU(), unrolled(second, side)).double()
    rolled = net(first, nn.ReLU(), second).double().eval()
    wanted = dense(flat).detach()
    as_dense = fused(dense, flat, "m0.weight")
    as_convolution = fused(rolled, inputs, "m0.weight")
    error, other = as_convolution(inputs).flatten(1).detach() - wanted, as_dense(flat).detach() - wanted
    if padding == 0:
        torch.testing.assert_close(as_convolution(inputs).flatten(1), as_dense(flat), rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(
            as_convolution.get_parameter("m2.weight").flatten(1),
            as_dense.get_parameter("m2.weight"),
            rtol=1e-7,
            atol=1e-7,
        )
    # A kernel that is shared by all places is one of the linear layers, of which the fit is the best.
    assert float(other.square().mean()) <= float(error.square().mean()) * (1 + 1e-9)
    assert as_convolution.get_parameter("m2.weight").shape == (3, 2, 3, 3)
    assert error.shape[1] == 3 * (1 + 2 * padding) ** 2


@pytest.mark.parametrize("kind", ["dense", "convolution", "into dense"])
def test_what_a_fused_network_misses_is_not_correlated_with_its_input(kind: str) -> None:
    layers: dict[str, tuple[tuple[nn.Module, ...], Tensor, str]] = {
        "dense": ((nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 5)), VECTORS, "m2"),
        "convolution": ((nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2)), PICTURES, "m3"),
        "into dense": (
            (nn.Conv2d(2, 3, 3), nn.ReLU(), nn.BatchNorm2d(3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4)),
            torch.randn(500, 2, 9, 9, generator=torch.Generator().manual_seed(4)),
            "m5",
        ),
    }
    modules, inputs, into = layers[kind]
    inputs = inputs.double()
    model = net(*modules).double().eval()
    before = model(inputs).detach()
    after = fused(model, inputs, "m0.weight")
    missed = (before - after(inputs).detach()).reshape(len(before), before.shape[1], -1)
    size = float(before.abs().max())
    assert float(missed.abs().max()) > 1e-3 * size
    assert float(missed.mean((0, 2)).abs().max()) < 1e-9 * size
    # The gradient of ‖missed‖² by the weights is the sum of what it is correlated with.
    ((before - after(inputs)) ** 2).mean().backward()
    gradient = after.get_parameter(f"{into}.weight").grad
    assert gradient is not None
    assert float(gradient.abs().max()) < 1e-9 * size


def test_layers_removed_together_are_fitted_to_the_network_as_it_was() -> None:
    model = net(nn.Linear(8, 7), nn.Identity(), nn.Linear(7, 6), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)).eval()
    before = model(VECTORS)
    after = fused(model, VECTORS, "m0.weight", "m2.weight")
    assert apart(after(VECTORS), before) < EXACT
    assert [name for name, _ in after.named_parameters()] == ["m3.weight", "m3.bias", "m5.weight", "m5.bias"]


def test_a_fused_layer_can_be_fused_again_and_into_another() -> None:
    model = net(*(nn.Linear(width, width - 1) for width in (8, 7, 6, 5))).eval()
    before = model(VECTORS)
    for removed, left in (("m1.weight", "m0 m2 m3"), ("m2.weight", "m0 m3"), ("m0.weight", "m3")):
        after = fused(model, VECTORS, removed)
        assert apart(after(VECTORS), before) < EXACT
        assert sorted({name.split(".")[0] for name, _ in after.named_parameters()}) == left.split()
    assert after.get_parameter("m3.weight").shape == (4, 8)


def test_only_as_many_examples_are_looked_at_as_asked_for_and_at_most_an_epoch() -> None:
    inputs = VECTORS.clone()
    inputs[120:] = torch.nan
    model = net(nn.Linear(8, 6), nn.Linear(6, 5)).eval()
    before = model(VECTORS[:120])
    assert apart(fused(model, inputs, "m0.weight", samples=120)(VECTORS[:120]), before) < EXACT
    with pytest.raises(TrainingError, match="m0 are not finite"):
        fused(net(nn.Linear(8, 6), nn.Linear(6, 5)), inputs, "m0.weight", samples=121)


def test_fewer_examples_than_inputs_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "prune_search"):
        fused(net(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 5)), VECTORS, "m0.weight", ridge=1e-6, samples=7)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told == "fuse: m2 was fitted to 7 values of each of its 8 inputs: more samples would fit better"


def test_where_nothing_is_removed_nothing_is_changed() -> None:
    model = net(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 5))
    before = dict(model.named_modules())
    fused(model, VECTORS)
    assert all(module is before[name] for name, module in model.named_modules())


class Reshaped(nn.Module):
    """A network that says itself how its values lie."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 3, 3), nn.Linear(147, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).view(-1, 147))  # type: ignore[no-any-return]


def test_a_network_that_does_not_run_without_the_layer_is_refused() -> None:
    with pytest.raises(UserError, match="the network does not run without it"):
        fused(Reshaped(), PICTURES, "conv.weight")


def test_the_network_keeps_its_mode_and_its_other_tensors() -> None:
    layers = nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.Linear(4, 3)
    model = net(*layers).train()
    mode = {name: module.training for name, module in model.named_modules()}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    after = fused(model, VECTORS, "m4.weight").train()
    assert {name: module.training for name, module in after.named_modules()} == mode
    kept = [name for name in before if name[:2] in ("m0", "m1", "m2")]
    assert all(torch.equal(after.state_dict()[name], before[name]) for name in kept)
